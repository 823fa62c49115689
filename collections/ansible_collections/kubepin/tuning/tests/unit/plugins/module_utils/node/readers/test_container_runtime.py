# SPDX-License-Identifier: GPL-3.0-or-later
"""What a node sends of its container runtime; what it amounts to is tested where it is decoded."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import pytest
from ansible_collections.kubepin.tuning.plugins.module_utils.node.readers.container_runtime import (
    Machine,
    read_programs,
    read_runtime,
)

DUMP = """\
[plugins.'io.containerd.grpc.v1.cri'.registry.configs.'a:5000'.auth]
  username = 'bob'
  password = "s3cret # \\" one"
  auth = 's3cret'
  identitytoken = ''
[plugins.'io.containerd.grpc.v1.cri'.registry.headers]
  "Authorization" = ['Basic s3cret']
[plugins.'io.containerd.grpc.v1.cri'.containerd]
  default_runtime_name = 'runc'
"""


def program(root: Path, path: str) -> None:
    (root / path).parent.mkdir(parents=True, exist_ok=True)
    (root / path).write_text("")
    (root / path).chmod(0o755)


def test_credentials_of_registries_stay_on_the_node(tmp_path: Path) -> None:
    tomllib = pytest.importorskip("tomllib")
    program(tmp_path, "usr/bin/containerd")
    sent = read_runtime(Machine(lambda command: (0, DUMP, ""), str(tmp_path)), "containerd", [])
    text = sent["configuration"]["output"]
    assert "bob" not in text
    assert "s3cret" not in text
    cri = tomllib.loads(text)["plugins"]["io.containerd.grpc.v1.cri"]
    assert cri["registry"]["configs"]["a:5000"]["auth"]["password"] == ""
    assert cri["containerd"] == {"default_runtime_name": "runc"}


@pytest.mark.parametrize(
    ("name", "found"),
    [
        pytest.param("runc", "/usr/sbin/runc", id="in the services' path"),
        pytest.param("/opt/runc", "/opt/runc", id="by path"),
        pytest.param("crun", None, id="not there"),
        pytest.param("", None, id="empty"),
        pytest.param("../opt/runc", None, id="relative"),
        pytest.param("ru\0nc", None, id="no name"),
    ],
)
def test_programs_are_found_as_a_service_finds_them(tmp_path: Path, name: str, found: str | None) -> None:
    program(tmp_path, "usr/sbin/runc")
    program(tmp_path, "opt/runc")
    ran: list[Sequence[str]] = []

    def run(command: Sequence[str]) -> tuple[int, str, str]:
        ran.append(command)
        return 3, "out", "err"

    machine = Machine(run, str(tmp_path))
    (answer,) = read_programs(machine, [name], [], [])["programs"]
    assert answer["command"] == [name, "--version"]
    if found is None:
        assert (answer["code"], ran) == (None, [])
    else:
        assert (answer["code"], answer["output"], answer["errors"]) == (3, "out", "err")
        assert ran == [[f"{tmp_path}{found}", "--version"]]


def test_files_and_folders_are_sent_with_what_keeps_them_from_being_read(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("text")
    (tmp_path / "binary").write_bytes(b"\xff")
    (tmp_path / "folder").mkdir()
    for name in ("b", "a", ".hidden"):
        (tmp_path / "folder" / name).write_text("")
    machine = Machine(lambda command: (0, "", ""), str(tmp_path))
    sent = read_programs(machine, [], ["/file", "/absent", "/binary", "/fi\0le"], ["/folder", "/absent", "/file"])
    assert [file["text"] for file in sent["files"]] == ["text", None, None, None]
    assert [bool(file["error"]) for file in sent["files"]] == [False, False, True, True]
    assert [folder["names"] for folder in sent["folders"]] == [["a", "b"], [], []]
    assert [folder["error"] for folder in sent["folders"]] == [None, None, None]


def test_an_output_that_is_no_text_can_be_sent(tmp_path: Path) -> None:
    program(tmp_path, "usr/bin/runc")
    machine = Machine(lambda command: (0, "a\udcff", ""), str(tmp_path))
    (answer,) = read_programs(machine, ["runc"], [], [])["programs"]
    assert json.dumps(answer["output"], ensure_ascii=False).encode() == b'"a?"'
