# SPDX-License-Identifier: GPL-3.0-or-later
"""Starts the program as the pod does: another Python, the folder's parent on PYTHONPATH."""

from __future__ import annotations

import os
import resource
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

PARENT = Path(__file__).parents[3] / "benchmark"
PYTHON = "/usr/bin/python3"
FIND_TORCH = (
    "import sys; from importlib.util import find_spec; sys.exit(not (find_spec('torch') and find_spec('torchvision')))"
)
# A kubelet lets its host promise any amount of memory: a test that runs out of it must meet a limit before the host does.
ADDRESS_SPACE = 4 << 30
Start = Callable[..., subprocess.Popen[str]]
Run = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture(scope="session")
def torch_python() -> str:
    """A Python that has torch and torchvision; tests that need it are skipped where there is none."""
    if subprocess.run([PYTHON, "-c", FIND_TORCH], capture_output=True, check=False).returncode:
        pytest.skip(f"{PYTHON} has no torch and torchvision (packages python3-torch, python3-torchvision)")
    return PYTHON


@pytest.fixture
def start(tmp_path: Path) -> Start:
    """`start("round", ..., path=folder)`: the program in a folder of its own; `path` goes before all other modules."""

    def start_it(*arguments: str, path: Path | None = None) -> subprocess.Popen[str]:
        folders = [str(folder) for folder in (path, PARENT) if folder]
        return subprocess.Popen(
            [PYTHON, "-m", "pod", *arguments],
            cwd=tmp_path,
            # threads that spin while they wait would take the CPUs of other tests
            env={**os.environ, "PYTHONPATH": os.pathsep.join(folders), "OMP_WAIT_POLICY": "passive"},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_AS, (ADDRESS_SPACE, ADDRESS_SPACE)),
        )

    return start_it


@pytest.fixture
def run(start: Start) -> Run:
    """As `start`, to the end."""

    def run_it(*arguments: str, path: Path | None = None) -> subprocess.CompletedProcess[str]:
        process = start(*arguments, path=path)
        out, err = process.communicate(timeout=900)
        return subprocess.CompletedProcess(arguments, process.returncode, out, err)

    return run_it
