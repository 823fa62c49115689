# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml
from ansible_collections.kubepin.tuning.plugins.modules.gpu_pod_patches import run

PATCH = {
    "name": "ml-deployment-serve",
    "command": "kubectl -n ml patch deployment serve",
    "patch": {"spec": {"größe": [1]}},
    "undo_command": "kubectl -n ml patch deployment serve --type json",
    "undo": [{"op": "remove", "path": "/spec"}],
}


class _Ended(Exception):
    pass


class _Module:
    """Keeps the result, as AnsibleModule ends the process."""

    def __init__(self, folder: Path, check_mode: bool = False) -> None:
        self.params: dict[str, Any] = {"folder": str(folder), "patches": [PATCH]}
        self.check_mode = check_mode
        self.result: dict[str, Any] = {}

    def exit_json(self, **result: Any) -> Any:
        self.result = result
        raise _Ended

    def fail_json(self, msg: str, **result: Any) -> Any:
        self.result = {"msg": msg, **result}
        raise _Ended


def ended(module: _Module) -> dict[str, Any]:
    with pytest.raises(_Ended):
        run(module)
    return module.result


def test_each_patch_has_a_file_and_one_that_undoes_it(tmp_path: Path) -> None:
    folder = tmp_path / "gpu-pods/patches"
    files = [folder / "ml-deployment-serve.yaml", folder / "ml-deployment-serve.undo.yaml"]
    assert ended(_Module(folder)) == {"changed": False, "files": [str(path) for path in files]}
    assert [path.read_text().splitlines()[0] for path in files] == [
        f"# {PATCH['command']}",
        f"# {PATCH['undo_command']}",
    ]
    assert [yaml.safe_load(path.read_text()) for path in files] == [PATCH["patch"], PATCH["undo"]]


def test_check_mode_writes_nothing(tmp_path: Path) -> None:
    assert len(ended(_Module(tmp_path / "patches", check_mode=True))["files"]) == 2
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    result = ended(_Module(tmp_path / "file/patches"))
    assert [problem["code"] for problem in result["problems"]] == ["report_not_writable"]
    assert f"{tmp_path}/file/patches cannot be written" in result["msg"]
