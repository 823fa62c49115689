# SPDX-License-Identifier: GPL-3.0-or-later
"""Files, guard and lock of a node. systemd is a list of commands here; `make campaign WHAT=faults` kills real modules."""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from ansible_collections.kubepin.tuning.plugins.module_utils.common.errors import TuningError
from ansible_collections.kubepin.tuning.plugins.module_utils.node.transaction import system
from ansible_collections.kubepin.tuning.plugins.module_utils.node.transaction.system import LOCK, Node, NodeLock
from ansible_collections.kubepin.tuning.tests.unit.samples.problems import refused


def test_the_guard_waits_for_the_lock_and_is_gone_after_an_error_too() -> None:
    commands: list[list[str]] = []
    node = Node(lambda argv: (commands.append(argv), (0, "", ""))[1])  # type: ignore[func-returns-value]
    with pytest.raises(ZeroDivisionError), node.guarded():
        1 / 0  # noqa: B018
    started, stopped = commands
    assert started[0] == "systemd-run"
    assert started[-5:] == ["flock", LOCK, "systemctl", "start", "kubelet"]
    assert stopped == ["systemctl", "stop", started[started.index("--unit") + 1]]


def test_without_a_guard_nothing_begins() -> None:
    node = Node(lambda argv: (1, "", "Failed to connect to bus"))
    with refused("guard_refused"), node.guarded():
        pytest.fail("the switch began without its guard")


def test_a_guard_that_cannot_start_its_commands_tries_again_where_systemd_can_do_that() -> None:
    commands: list[list[str]] = []

    def old_systemd(argv: list[str]) -> tuple[int, str, str]:
        commands.append(argv)
        return (1, "", "Unknown assignment: Restart=on-failure") if "--property" in argv else (0, "", "")

    with Node(old_systemd).guarded():
        pass
    patient, plain, _stop = commands
    assert "Restart=on-failure" in patient
    assert [word for word in patient if word in plain] == plain


@pytest.fixture
def kubelet(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[subprocess.Popen[bytes]]:
    """A process of that name, whose parent is taken for init."""
    monkeypatch.setattr(system, "_INIT", os.getpid())
    program = Path(shutil.copy(str(shutil.which("sleep")), tmp_path / "kubelet"))
    process = subprocess.Popen([program, "60"])
    yield process
    process.kill()
    process.wait()


def test_a_kubelet_is_found_and_ended_without_a_command(kubelet: subprocess.Popen[bytes]) -> None:
    another = subprocess.Popen(["sleep", "60"])
    try:
        Node(lambda argv: pytest.fail(f"ran {argv}")).end_kubelet()
        assert (kubelet.wait(), another.poll()) == (-signal.SIGTERM, None)
    finally:
        another.kill()
        another.wait()


def test_a_kubelet_that_ignores_sigterm_is_killed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(system, "_INIT", os.getpid())
    monkeypatch.setattr(system, "_END_SECONDS", 0.3)
    script = tmp_path / "kubelet"  # the name of a script's process is that of its file
    script.write_text("#!/bin/sh\ntrap '' TERM\necho\nwhile :; do sleep 0.1; done\n")
    script.chmod(0o755)
    process = subprocess.Popen([script], stdout=subprocess.PIPE)
    assert process.stdout
    process.stdout.readline()
    Node(lambda argv: pytest.fail(f"ran {argv}")).end_kubelet()
    assert process.wait() == -signal.SIGKILL
    process.stdout.close()


@pytest.mark.parametrize(
    ("stat", "cgroup", "found"),
    [
        ("7 (kubelet) S 1 7 7", "0::/user.slice", True),
        ("7 (kubelet.real) S 1 7 7", "0::/system.slice/kubelet.service", True),
        ("7 (kubelet.real) S 1 7 7", "4:cpu:/\n1:name=systemd:/docker/a/system.slice/kubelet.service", True),
        ("7 (kubelet) S 99 7 7", "0::/kubelet.slice/docker-a.scope/system.slice/kubelet.service", False),
        ("7 (kubelet) Z 1 7 7", "0::/system.slice/kubelet.service", False),
        ("7 (a) kubelet) S 1 7 7", "0::/system.slice/containerd.service", False),
        ("", "", False),
    ],
    ids=["its name", "its group", "version 1", "in a container", "has ended", "odd name", "has gone"],
)
def test_a_process_of_the_service(stat: str, cgroup: str, found: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    texts = {"/proc/7/stat": stat, "/proc/7/cgroup": cgroup}
    monkeypatch.setattr(Node, "read", lambda _node, path: texts.get(path))
    monkeypatch.setattr(os, "listdir", lambda _path: ["7", "meminfo"])
    assert Node(lambda argv: (0, "", ""))._processes() == ({7} if found else set())


@pytest.fixture
def lock(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A lock of this test's own, for which nobody waits for longer than 0.5 s."""
    monkeypatch.setattr(system, "HOME", str(tmp_path))
    monkeypatch.setattr(system, "LOCK", str(tmp_path / "lock"))
    monkeypatch.setattr(system, "LOCK_SECONDS", 0.5)
    return tmp_path / "lock"


@pytest.fixture
def patient_lock(lock: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The same lock, which is waited for until its holder has ended, on a busy machine too."""
    monkeypatch.setattr(system, "LOCK_SECONDS", 60)
    return lock


ANOTHER_RUN = "import fcntl, sys, time; file = open(sys.argv[1], 'w'); fcntl.flock(file, fcntl.LOCK_EX); print(flush=True); time.sleep(60)"


@contextlib.contextmanager
def locked_by(*command: str) -> Iterator[subprocess.Popen[bytes]]:
    """The command while it has the lock; it prints a line once it has."""
    process = subprocess.Popen(command, stdout=subprocess.PIPE)
    assert process.stdout
    process.stdout.readline()
    try:
        yield process
    finally:
        process.kill()
        process.wait()
        process.stdout.close()


def test_the_second_run_on_a_node_waits_and_is_refused_with_who_has_the_node(lock: Path) -> None:
    with locked_by(sys.executable, "-c", ANOTHER_RUN, str(lock)) as run, pytest.raises(TuningError) as caught:
        NodeLock().__enter__()
    assert [problem["code"] for problem in caught.value.details["problems"]] == ["node_locked"]
    assert f"is held by PID {run.pid}, `{sys.executable} -c" in str(caught.value)
    assert "another run is changing this node right now" in str(caught.value)


def test_a_run_waits_for_one_that_is_about_to_end(patient_lock: Path) -> None:
    command = ("flock", str(patient_lock), "sh", "-c", "echo; exec sleep 0.2")
    with locked_by(*command), NodeLock(), patient_lock.open("w") as file, pytest.raises(BlockingIOError):
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)


def test_a_run_that_waited_for_a_lock_that_was_removed_meanwhile_has_the_new_one(patient_lock: Path) -> None:
    """A lock on a removed file would let a third run in."""
    command = ("sh", "-c", 'exec 9>"$0"; flock 9; echo; sleep 0.2; rm "$0"', str(patient_lock))
    with locked_by(*command), NodeLock(), patient_lock.open("w") as file, pytest.raises(BlockingIOError):
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)


@pytest.mark.parametrize("active", [True, False])
def test_guards_that_killed_runs_left_are_removed_if_the_kubelet_runs(active: bool) -> None:
    commands: list[list[str]] = []

    def run(argv: list[str]) -> tuple[int, str, str]:
        commands.append(argv)
        return 0, f"ActiveState={'active' if active else 'failed'}\nSubState=x\nMainPID=1\nNRestarts=0\n", ""

    Node(run).remove_guards()
    removed = [["systemctl", "stop", "kubepin-guard-*"], ["systemctl", "reset-failed", "kubepin-guard-*"]]
    assert [command for command in commands if command[1] != "show"] == (removed if active else [])


def test_a_guard_that_cannot_start_the_kubelet_is_told_apart_from_a_run(lock: Path) -> None:
    guard = ("flock", "--close", str(lock), "sh", "-c", "echo; exec sleep 3")
    with locked_by(*guard) as process, pytest.raises(TuningError) as caught:
        NodeLock().__enter__()
    assert [problem["code"] for problem in caught.value.details["problems"]] == ["guard_starts_kubelet"]
    assert f"PID {process.pid}" in str(caught.value)
    assert "journalctl --unit kubelet" in str(caught.value)


def test_a_lock_that_cannot_be_made_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setattr(system, "HOME", str(tmp_path / "file"))
    monkeypatch.setattr(system, "LOCK", str(tmp_path / "file" / "lock"))
    with refused("lock_not_writable"):
        NodeLock().__enter__()


def answering(commands: list[list[str]], pid: int, fails: tuple[str, ...] = ()) -> Node:
    """A node whose systemctl shows a service with that process, and fails once for each of these verbs."""
    left = list(fails)

    def run(argv: list[str]) -> tuple[int, str, str]:
        commands.append(argv)
        if argv[1] in left:
            left.remove(argv[1])
            return 1, "", "start-limit-hit"
        return 0, f"ActiveState=deactivating\nSubState=stop-sigkill\nMainPID={pid}\nNRestarts=0\n", ""

    return Node(run)


def test_a_kubelet_that_outlives_its_stop_is_named() -> None:
    with pytest.raises(TuningError, match=rf"kubelet is deactivating \(PID {os.getpid()} is still there\)"):
        answering([], os.getpid()).stop_kubelet()


def test_a_service_that_systemd_gave_up_on_is_started_all_the_same() -> None:
    commands: list[list[str]] = []
    answering(commands, 0, ("start",)).start_kubelet()
    assert [argv[1] for argv in commands] == ["start", "reset-failed", "start"]


def klog(seconds: float, text: str) -> str:
    """A line of a kubelet's log (k8s.io/klog/v2, formatHeader)."""
    moment = time.localtime(seconds)
    return f"E{time.strftime('%m%d %H:%M:%S', moment)}.000000    4242 run.go:72] {text}\n"


def test_of_a_log_file_the_lines_since_the_start_count(tmp_path: Path) -> None:
    started = 1_790_000_000.0
    log = tmp_path / "kubelet.log"
    lines = [
        "Error: no time\n",
        klog(started - 60, "of before"),
        klog(started + 1, '"command failed"'),
        "  its second line\n",
    ]
    log.write_text("".join(lines))
    node = Node(lambda argv: pytest.fail(f"{argv} was run"), "rke2-agent", str(log))
    assert node.log_since(started) == [lines[2].strip("\n"), "  its second line"]
    assert node.log_since(started + 600) == []


def test_a_log_file_that_is_missing_has_no_lines(tmp_path: Path) -> None:
    assert Node(lambda argv: (0, "", ""), "rke2-agent", f"{tmp_path}/absent").log_since(0) == []


def test_the_service_of_another_distribution_is_stopped_and_guarded() -> None:
    commands: list[list[str]] = []

    def run(argv: list[str]) -> tuple[int, str, str]:
        commands.append(argv)
        return 0, "ActiveState=active\nMainPID=0\n", ""

    Node(run, "rke2-agent").stop_kubelet()
    assert ["systemctl", "stop", "rke2-agent"] in commands
