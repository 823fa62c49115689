# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

from typing import Any

import pytest
from ansible_collections.kubepin.tuning.plugins.action.kubelet_cpu_manager import ActionModule
from ansible_collections.kubepin.tuning.plugins.module_utils.control.node_call import (
    TEMPORARY_FOLDERS,
    ModuleFailed,
    full_file_systems,
)

DIED = {
    "failed": True,
    "rc": 1,
    "module_stdout": "",
    "module_stderr": "FileNotFoundError: [Errno 2] No usable temporary directory found in ['/tmp', '/var/tmp', '/root']",
    "msg": "Module result deserialization failed: No start of json char found",
}
HEADING = "Filesystem     1024-blocks    Used Available Capacity Mounted on\n"
FULL = "/dev/vda          5925648 5925648         0     100% /\n"
ROOMY = "/dev/vdb          5925648 1925648   4000000      33% /var\n"


def action(result: dict[str, Any], report: str, monkeypatch: pytest.MonkeyPatch) -> ActionModule:
    """An action on a node where a module ends like this, and `df` prints this."""
    unused: Any = None
    made = ActionModule(unused, unused, unused, unused, unused, unused)
    made._task_vars = {}

    def execute(command: str, **_: Any) -> dict[str, Any]:
        assert command == f"df -Pk {' '.join(TEMPORARY_FOLDERS)}"
        return {"rc": 0, "stdout": report, "stderr": ""}

    monkeypatch.setattr(made, "_execute_module", lambda **_: result)
    monkeypatch.setattr(made, "_low_level_execute_command", execute)
    return made


def failure(made: ActionModule) -> dict[str, Any]:
    with pytest.raises(ModuleFailed) as caught:
        made.call("kubelet_info", {})
    return caught.value.result


def test_a_module_that_cannot_unpack_itself_names_the_full_file_system(monkeypatch: pytest.MonkeyPatch) -> None:
    made = action(DIED, f"{HEADING}{FULL}{FULL}", monkeypatch)
    result = failure(made)
    [problem] = result["problems"]
    assert problem["code"] == "file_system_full"
    assert result["msg"] == problem["text"]
    assert "file system / is too full: 0 KiB are free, and 1,024 KiB are needed in /tmp, /var/tmp" in result["msg"]


def test_a_file_system_with_room_is_not_named() -> None:
    assert [problem.subject for problem in full_file_systems(f"{HEADING}{FULL}{ROOMY}")] == ["file system /"]


@pytest.mark.parametrize(
    ("result", "report"),
    [
        ({**DIED, "module_stderr": "Killed"}, f"{HEADING}{FULL}"),  # ended by something else
        (DIED, f"{HEADING}{ROOMY}"),  # no inode, perhaps
        (DIED, "sh: 1: df: not found"),
    ],
)
def test_any_other_end_is_reported_as_it_is(
    monkeypatch: pytest.MonkeyPatch, result: dict[str, Any], report: str
) -> None:
    assert failure(action(result, report, monkeypatch)) == result
