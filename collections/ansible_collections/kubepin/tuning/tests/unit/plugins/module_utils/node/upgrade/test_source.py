# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import hashlib
from pathlib import Path

import pytest
from ansible_collections.kubepin.tuning.plugins.module_utils.common.errors import TuningError
from ansible_collections.kubepin.tuning.plugins.module_utils.node.upgrade.source import (
    Source,
    checksum_of,
    source_problems,
    stage,
)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    where = tmp_path / "1.22.17"
    where.mkdir()
    for program in ("kubeadm", "kubelet", "kubectl"):
        (where / program).write_text(program)
        (where / f"{program}.sha256").write_text(hashlib.sha256(program.encode()).hexdigest() + "\n")
    return tmp_path


def test_programs_are_staged_once_and_verified(folder: Path, tmp_path: Path) -> None:
    source = Source(f"{folder}/{{version}}")
    assert source_problems(source, "1.22.17", False) == []
    path = Path(stage(source, "1.22.17", "kubelet", str(tmp_path)))
    assert path.read_text() == "kubelet"
    assert path.stat().st_mode & 0o111
    (folder / "1.22.17" / "kubelet").unlink()
    assert stage(source, "1.22.17", "kubelet", str(tmp_path)) == str(path)


def test_every_problem_of_a_source_is_named(folder: Path) -> None:
    (folder / "1.22.17" / "kubeadm").write_text("something else")
    (folder / "1.22.17" / "kubelet.sha256").unlink()
    (folder / "1.22.17" / "kubectl").unlink()
    source = Source(f"{folder}/{{version}}", image_archives=[f"{folder}/{{version}}/*.tar"])
    found = source_problems(source, "1.22.17", False)
    assert len(found) == 1, "one line for a version"
    for part in ("is not what its checksum says", "has no checksum", "is not on this node", "No image archive"):
        assert part in found[0]


def test_what_all_programs_lack_is_named_once(folder: Path) -> None:
    [found] = source_problems(Source(f"{folder}/{{version}}"), "1.21.14", False)
    assert found == (
        f"{folder}/1.21.14/{{kubeadm,kubelet,kubectl}} is not on this node. Put it there with its .sha256, or correct the folder."
    )


def test_given_checksums_count_before_those_beside_the_program(folder: Path, tmp_path: Path) -> None:
    source = Source(f"{folder}/{{version}}", {"1.22.17": {"kubelet": "0" * 64}})
    assert checksum_of(source, "1.22.17", "kubelet") == "0" * 64
    with pytest.raises(TuningError, match="Fetch it again"):
        stage(source, "1.22.17", "kubelet", str(tmp_path))
