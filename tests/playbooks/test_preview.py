# SPDX-License-Identifier: GPL-3.0-or-later
"""preview-gpu-nodes.yml of a dump, without any cluster."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest

from tests.topologies import MACHINES, tree

pytestmark = pytest.mark.component

PROJECT = Path(__file__).parents[2]


def play(folder: Path, *arguments: str, **variables: object) -> subprocess.CompletedProcess[str]:
    extra_vars = json.dumps(
        {
            "kubepin_runs": str(folder / "runs"),
            "kubepin_run": "here",
            "ansible_python_interpreter": sys.executable,
            **variables,
        }
    )
    command = ["ansible-playbook", "-i", "localhost,", "preview-gpu-nodes.yml", "-e", extra_vars, *arguments]
    environment = {**os.environ, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
    return subprocess.run(command, cwd=PROJECT, env=environment, capture_output=True, text=True, check=False)


def dump(path: Path) -> str:
    with tarfile.open(path, "w:gz") as archive:
        for name, text in tree(MACHINES["one-socket"]).items():
            if not text.startswith("-> "):
                member = tarfile.TarInfo(f"gpu-01/{name}")
                member.size = len(text)
                archive.addfile(member, io.BytesIO(text.encode()))
    return str(path)


def test_a_dump_is_previewed_and_kept(tmp_path: Path) -> None:
    done = play(
        tmp_path,
        node_preview_dump=dump(tmp_path / "gpu-01.tar.gz"),
        cpu_manager_reserved_cpus="0,16",
        node_preview_pods=["12", "40"],
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "changed=0" in done.stdout
    folder = tmp_path / "runs" / "here" / "preview"
    (node,) = json.loads((folder / "preview.json").read_text())["nodes"]
    assert (node["node"], node["problems"]) == ("gpu-01.tar.gz", [])
    assert node["reservation"]["cpus"] == "0,16"
    assert node["pods"][0]["cpus"] == "1-6,17-22"
    assert node["pods"][1]["refused"]
    assert "#aaaaaa: #aaaaaa:" in (folder / "preview.txt").read_text()


def test_check_mode_writes_nothing_and_a_dump_that_is_none_is_named(tmp_path: Path) -> None:
    done = play(tmp_path, "--check", node_preview_dump=str(tmp_path / "absent"))
    assert done.returncode == 0, done.stdout + done.stderr
    assert "absent is neither a folder nor a tar archive" in done.stdout
    assert not (tmp_path / "runs").exists()
