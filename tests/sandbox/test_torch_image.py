# SPDX-License-Identifier: GPL-3.0-or-later
"""The benchmark's image: what is left out, what it is called, and when there is nothing to do."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from sandbox import cli, host, torch_image
from sandbox.cluster import Sandbox
from sandbox.node_image import trim
from sandbox.settings import TORCH_IMAGE, Paths, SandboxError, validate
from sandbox.shell import Log, Shell
from sandbox.state import State


class Recorder(Shell):
    """Answers `ctr images list` with what each worker has, and keeps every command."""

    def __init__(self, log: Log, present: dict[str, list[str]]) -> None:
        super().__init__(log)
        self.present = present
        self.commands: list[list[str]] = []

    def run(self, command: Sequence[str], **options: Any) -> str:
        self.commands.append(list(command))
        if "list" in command:
            (worker,) = (name for name in self.present if name in command)
            return "\n".join(self.present[worker])
        return ""


@pytest.fixture
def paths(tmp_path: Path) -> Paths:
    return Paths(tmp_path)


def sandbox(paths: Paths, present: dict[str, list[str]]) -> Sandbox:
    shell = Recorder(Log(paths.cache / "log"), present)
    return Sandbox(paths, shell, State.new(validate("lab", "1.22.17", 2)))


def lacking(lab: Sandbox, count: int = 2) -> list[str]:
    return [node.name for node in torch_image.lacking(lab.workers[:count], lab.paths)]


def test_only_the_workers_that_lack_it_get_the_image(paths: Paths) -> None:
    lab = sandbox(paths, {"lab-worker-1": torch_image.image_names(paths), "lab-worker-2": []})
    (step,) = torch_image.giving(torch_image.lacking(lab.workers, paths), paths)
    assert "lab-worker-2" in step.title
    assert "lab-worker-1" not in step.title
    step.action()
    assert isinstance(lab.shell, Recorder)
    assert lab.shell.commands[-1] == [
        *["docker", "exec", "lab-worker-2", "ctr", "-n", "k8s.io", "images", "import"],
        f"/opt/sandbox/builds/{torch_image.torch_folder(paths).name}/torch.tar",
    ]


def test_an_earlier_build_under_the_same_name_does_not_count(paths: Paths) -> None:
    earlier = [TORCH_IMAGE, f"{TORCH_IMAGE}-000000000000"]
    lab = sandbox(paths, {"lab-worker-1": earlier, "lab-worker-2": torch_image.image_names(paths)})
    assert lacking(lab) == ["lab-worker-1"]


def test_workers_that_were_not_asked_for_get_none(paths: Paths) -> None:
    assert lacking(sandbox(paths, {"lab-worker-1": [], "lab-worker-2": []}), count=1) == ["lab-worker-1"]


def test_nothing_to_do(paths: Paths) -> None:
    torch_image.torch_folder(paths).mkdir(parents=True)
    torch_image.archive(paths).touch()
    names = torch_image.image_names(paths)
    lab = sandbox(paths, {"lab-worker-1": names, "lab-worker-2": names})
    assert torch_image.missing(paths, lab.shell) == []
    assert torch_image.giving(torch_image.lacking(lab.workers, paths), paths) == []


def test_the_archive_is_built_before_it_is_imported(paths: Paths) -> None:
    lab = sandbox(paths, {"lab-worker-1": [], "lab-worker-2": []})
    (build,) = torch_image.missing(paths, lab.shell)
    (give,) = torch_image.giving(lab.workers, paths)
    assert build.name in give.after


@pytest.mark.parametrize("count", ["-1", "3"])
def test_no_more_workers_than_there_are(paths: Paths, monkeypatch: pytest.MonkeyPatch, count: str) -> None:
    monkeypatch.setattr(host, "require_engine", lambda shell: None)
    state = State.new(validate("lab", "1.22.17", 2))
    state.phase = "ready"
    state.save(paths.sandbox("lab"))
    options = cli.parser().parse_args(["torch", "--name", "lab", "--workers", count])
    with pytest.raises(SandboxError, match=f"{count} workers cannot get .*expected 0 to 2"):
        cli.torch(paths, options)


def test_a_sandbox_must_be_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(host, "require_engine", lambda shell: None)
    options = cli.parser().parse_args(["torch", "--name", "lab"])
    with pytest.raises(SandboxError, match=r'"lab" is not ready.*sandbox up --name lab'):
        cli.torch(Paths(tmp_path), options)


def test_trimming_keeps_the_rest(tmp_path: Path) -> None:
    packages = tmp_path / "usr" / "lib" / "python3" / "dist-packages"
    for name in ("numpy/core/tests/more/tests", "torch/include/ATen", "torch/testing"):
        (packages / name).mkdir(parents=True)
    (packages / "torch" / "testing" / "__init__.py").touch()
    library = tmp_path / "usr" / "lib" / "x86_64-linux-gnu"
    library.mkdir()
    (library / "libLLVM-15.so.1").touch()
    (library / "libtorch.so").touch()
    trim(tmp_path, torch_image.TRIMMED)
    left = {str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*") if path.is_file()}
    assert left == {
        "usr/lib/python3/dist-packages/torch/testing/__init__.py",
        "usr/lib/x86_64-linux-gnu/libtorch.so",
    }
    assert not (packages / "numpy" / "core" / "tests").exists()
