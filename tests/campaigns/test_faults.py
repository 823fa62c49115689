# SPDX-License-Identifier: GPL-3.0-or-later
"""Which steps the hook sees, which rows they make, and how a row is shown."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from ansible_collections.kubepin.tuning.plugins.module_utils.control.cluster.mark import Mark, parse_mark, why_not_ours
from ansible_collections.kubepin.tuning.plugins.module_utils.control.cluster.process import is_running

from tests.campaigns import fault_hook
from tests.campaigns.__main__ import main
from tests.campaigns.fault_checks import FaultResult
from tests.campaigns.fault_surroundings import young_mark
from tests.campaigns.faults import GROUPS, SAMPLE, faults_of, read_rows, show

ROOT = Path(__file__).resolve().parents[2]
STEPS = [
    "write /var/lib/kubepin/switches",
    "rename /var/lib/kubepin/switches/1.json (begun)",
    "systemctl stop kubelet",
    "remove /var/lib/kubelet/cpu_manager_state",
    "write /etc/default",
    "rename /etc/default/kubelet",
]
COMMANDS = {
    True: ["systemctl show kubelet", "systemctl start kubelet", "systemctl show kubelet"],
    False: ["systemctl start kubelet", "systemctl show kubelet", "journalctl --unit kubelet"],
}


def test_the_hook_sees_writes_renames_removals_and_the_kubelets_service(tmp_path: Path) -> None:
    draft = tmp_path / "draft"
    draft.write_text(json.dumps({"status": "begun", "held_until": 5.0}))
    upgrade = tmp_path / "upgrade"
    upgrade.write_text(json.dumps({"status": "committed"}))
    for event, arguments, name in (
        ("open", ("/etc/default/.kubelet.x", None, os.O_CREAT | os.O_RDWR), "write /etc/default"),
        ("open", ("/etc/default/kubelet", "r", os.O_RDONLY), None),
        ("open", ("/tmp/x", "w", os.O_CREAT), None),
        ("os.rename", (str(draft), "/etc/default/kubelet", -1, -1), "rename /etc/default/kubelet"),
        (
            "os.rename",
            (str(draft), "/var/lib/kubepin/switches/1.json", -1, -1),
            "rename /var/lib/kubepin/switches/1.json (begun, held)",
        ),
        (
            "os.rename",
            (str(upgrade), "/var/lib/kubepin/upgrades/1.36.4/record.json", -1, -1),
            "rename /var/lib/kubepin/upgrades/1.36.4/record.json (committed)",
        ),
        ("os.link", ("/usr/bin/kubelet", "/usr/bin/.kubelet.before.kubepin", -1, -1), "link /usr/bin/kubelet"),
        ("os.link", ("/usr/bin/kubelet", "/tmp/x", -1, -1), None),
        (
            "os.remove",
            ("/var/lib/kubelet/cpu_manager_state", -1),
            "remove /var/lib/kubelet/cpu_manager_state",
        ),
        ("os.mkdir", ("/etc/kubernetes/kubelet.conf.d", 0o755, -1), "mkdir /etc/kubernetes/kubelet.conf.d"),
        ("os.rmdir", ("/etc/kubernetes/kubelet.conf.d", -1), "rmdir /etc/kubernetes/kubelet.conf.d"),
        ("os.rmdir", ("/tmp/x", -1), None),
        ("subprocess.Popen", ("systemctl", [b"systemctl", b"stop", b"kubelet"], None, None), "systemctl stop kubelet"),
        ("subprocess.Popen", ("systemctl", ["/bin/systemctl", "show", "kubelet"], None, None), None),
        ("subprocess.Popen", ("systemctl", ["systemctl", "stop", "kubepin-guard-1"], None, None), None),
    ):
        assert fault_hook.name_of(event, arguments) == name


def test_a_shortage_refuses_the_commands_of_a_transaction_from_one_of_them_on(tmp_path: Path) -> None:
    (tmp_path / "plan.json").write_text(json.dumps({"step": 3, "act": "refuse", "seconds": 0.5}))
    program = f"""
import subprocess, time
from tests.campaigns import fault_hook as hook
hook.PLAN, hook.TRACE = "{tmp_path}/plan.json", "{tmp_path}/trace"
hook.install()
def run(*words):
    try:
        subprocess.run(["{tmp_path}/" + words[0], *words[1:]])
    except BlockingIOError:
        print("refused", *words)
run("systemctl", "show", "kubelet")  # before the transaction
run("systemd-run", "--quiet", "--unit", "kubepin-guard-7")
for verb in ("show", "show", "stop", "start"):
    run("systemctl", verb, "kubelet")
time.sleep(0.5)
run("systemctl", "stop", "kubepin-guard-7")
"""
    for name in ("systemctl", "systemd-run"):
        (tmp_path / name).symlink_to("/bin/true")
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.splitlines() == ["refused systemctl stop kubelet", "refused systemctl start kubelet"]
    assert (tmp_path / "trace").read_text().splitlines() == [
        "systemd-run --quiet --unit",
        "systemctl show kubelet",
        "systemctl stop kubelet",
        "systemctl start kubelet",
        "systemctl stop kubepin-guard",
    ]
    assert not (tmp_path / "plan.json").exists()


def test_steps_are_counted_over_all_programs_since_the_fault_was_planned(tmp_path: Path) -> None:
    (tmp_path / "plan.json").write_text(json.dumps({"step": 3, "act": "kill"}))
    program = f"""
from tests.campaigns import fault_hook as hook
hook.PLAN, hook.TRACE, hook.TREES = "{tmp_path}/plan.json", "{tmp_path}/trace", ("{tmp_path}/node/",)
hook.install()
for number in range(2):
    open(f"{tmp_path}/node/file", "w").close()
"""
    (tmp_path / "node").mkdir()
    ends = [subprocess.run([sys.executable, "-c", program], cwd=ROOT).returncode for _ in range(3)]
    assert ends == [0, -signal.SIGKILL, 0]
    assert len((tmp_path / "trace").read_text().splitlines()) == 3


def test_a_program_tells_which_step_comes_and_is_held_before_it(tmp_path: Path) -> None:
    plan = {"step": 0, "named": "second", "act": "hold", "to": f"{tmp_path}/told"}
    (tmp_path / "plan.json").write_text(json.dumps(plan))
    program = f"""
from tests.campaigns import fault_hook as hook
hook.PLAN, hook.TRACE, hook.TREES = "{tmp_path}/plan.json", "{tmp_path}/trace", ("{tmp_path}/node/",)
hook.GO, hook.HOLD_SECONDS = "{tmp_path}/go", 0.2
hook.install()
for name in ("first", "second", "third"):
    open(f"{tmp_path}/node/{{name}}/file", "w").close()
"""
    for name in ("first", "second", "third"):
        (tmp_path / "node" / name).mkdir(parents=True)
    subprocess.run([sys.executable, "-c", program], cwd=ROOT, check=True)
    assert (tmp_path / "told").read_text() == f"write {tmp_path}/node/second\n"
    assert (tmp_path / "node/third/file").exists()


def test_every_step_is_a_row_and_every_write_meets_a_full_disk() -> None:
    found = [(fault.group, fault.title) for fault in faults_of(STEPS, COMMANDS, GROUPS)]
    assert [title for group, title in found if group == "kill"] == [
        "before: rename journal (begun)",
        "before: systemctl stop kubelet",
        "before: remove /var/lib/kubelet/cpu_manager_state",
        "before: rename /etc/default/kubelet",
    ]
    assert len([title for group, title in found if group == "restart"]) == 4
    assert [title for group, title in found if group == "disk"] == [
        "full from: write journal, 1.",
        "full from: write /etc/default, 1.",
        "full while an interrupted switch is undone",
        "/var full from the kubelet's start, with settings that do not run",
        "all full from the kubelet's start, with settings that do not run",
    ]
    assert len(found) == len(set(found))
    assert {group for group, _title in found} == set(GROUPS)


def test_every_command_meets_a_node_without_processes() -> None:
    assert [fault.title for fault in faults_of(STEPS, COMMANDS, ["forks"])] == [
        "sound settings, none for 15 s from: systemctl show kubelet, 1.",
        "sound settings, none for 15 s from: systemctl start kubelet, 1.",
        "sound settings, none for 15 s from: systemctl show kubelet, 2.",
        "sound settings, none to the end of the module from: systemctl start kubelet",
        "unsound settings, none for 15 s from: systemctl start kubelet, 1.",
        "unsound settings, none for 15 s from: systemctl show kubelet, 1.",
        "unsound settings, none for 15 s from: journalctl --unit kubelet, 1.",
        "unsound settings, none to the end of the module from: systemctl show kubelet",
    ]


def test_only_the_rows_asked_for() -> None:
    assert {fault.group for fault in faults_of(STEPS, COMMANDS, ["kubelet"])} == {"kubelet"}


@pytest.mark.parametrize(("purpose", "code"), [("present", "node_in_use"), ("upgrade", "node_in_other_work")])
def test_the_mark_of_another_run_is_one_that_kubepin_heeds(purpose: str, code: str) -> None:
    mark = parse_mark(young_mark(purpose))
    problem = why_not_ours("gpu-01", mark, Mark("present", "mine"), time.time(), is_running)
    assert problem is not None
    assert problem.code == code
    assert mark.expires is not None
    assert why_not_ours("gpu-01", mark, Mark(purpose, "mine"), mark.expires + 1, is_running) is None


def test_a_failed_row_is_counted_and_written(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = [
        FaultResult("kill", "a", "up", "as before", "converges", "killed"),
        FaultResult("kill", "b", failed="the kubelet is down"),
    ]
    (tmp_path / "kill.json").write_text(json.dumps([vars(row) for row in rows]))
    assert read_rows(tmp_path) == rows
    assert show(tmp_path) == 1
    assert "FAILED: the kubelet is down" in (tmp_path / "table.md").read_text()
    assert "2 rows, 1 failed" in capsys.readouterr().out


def test_the_sample_has_rows_of_its_own(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["faults", "--output", str(tmp_path), "kill", "--sample"]) == 1
    assert "--sample takes no GROUP" in capsys.readouterr().err
    assert {group for group, _title in SAMPLE} <= set(GROUPS)


def test_a_sandbox_that_is_not_there_is_named_with_the_way_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("KUBEPIN_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("KUBEPIN_SANDBOX", "kubepin")
    assert main(["faults", "--sandbox", "lab", "--output", str(tmp_path)]) == 1
    assert 'sandbox "lab" is not ready. Run `python3 -m sandbox up --name lab` first.' in capsys.readouterr().err
