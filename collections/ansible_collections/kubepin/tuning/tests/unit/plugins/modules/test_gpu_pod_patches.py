# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

Answer = Callable[..., dict[str, Any]]
PATCH = {
    "name": "ml-deployment-serve",
    "command": "kubectl -n ml patch deployment serve",
    "patch": {"spec": {"größe": [1]}},
    "undo_command": "kubectl -n ml patch deployment serve --type json",
    "undo": [{"op": "remove", "path": "/spec"}],
}


@pytest.fixture
def write(answer: Answer) -> Answer:
    """Writes PATCH into a folder."""

    def run(folder: Path, check_mode: bool = False) -> dict[str, Any]:
        return answer("gpu_pod_patches", folder=str(folder), patches=[PATCH], _ansible_check_mode=check_mode)

    return run


def test_each_patch_has_a_file_and_one_that_undoes_it(write: Answer, tmp_path: Path) -> None:
    folder = tmp_path / "gpu-pods/patches"
    files = [folder / "ml-deployment-serve.yaml", folder / "ml-deployment-serve.undo.yaml"]
    written = {name: value for name, value in write(folder).items() if name != "invocation"}
    assert written == {"changed": False, "files": [str(path) for path in files]}
    assert [path.read_text().splitlines()[0] for path in files] == [
        f"# {PATCH['command']}",
        f"# {PATCH['undo_command']}",
    ]
    assert [yaml.safe_load(path.read_text()) for path in files] == [PATCH["patch"], PATCH["undo"]]


def test_check_mode_writes_nothing(write: Answer, tmp_path: Path) -> None:
    assert len(write(tmp_path / "patches", check_mode=True)["files"]) == 2
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_cannot_be_made_is_named(write: Answer, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    result = write(tmp_path / "file/patches")
    assert [problem["code"] for problem in result["problems"]] == ["report_not_writable"]
    assert f"{tmp_path}/file/patches cannot be written" in result["msg"]
