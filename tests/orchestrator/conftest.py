# SPDX-License-Identifier: GPL-3.0-or-later
"""A project folder with playbooks of a few tasks on localhost, run by the real ansible-runner and ansible-playbook."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

Write = Callable[[str], Path]
Start = Callable[..., subprocess.Popen[str]]
Wait = Callable[..., None]
ROOT = Path(__file__).parents[2]
HOST = "ansible_connection=local ansible_python_interpreter=/usr/bin/python3"


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A folder that looks like kubepin's, with two hosts that are this machine."""
    (tmp_path / "playbooks").mkdir()
    (tmp_path / "ansible.cfg").write_text(
        "[defaults]\ninventory = hosts\ngathering = explicit\n[connection]\npipelining = True\n"
    )
    (tmp_path / "hosts").write_text(f"[gpu_nodes]\ngpu-01 {HOST}\ngpu-02 {HOST}\n")
    return tmp_path


@pytest.fixture
def tune(project: Path) -> Write:
    """Makes tasks the playbook of `kubepin tune`, on all hosts."""

    def write(tasks: str) -> Path:
        path = project / "playbooks" / "tune_gpu_nodes.yml"
        indented = "".join(f"    {line}\n" for line in tasks.strip("\n").splitlines())
        path.write_text(f"- name: Tune\n  hosts: gpu_nodes\n  gather_facts: false\n  tasks:\n{indented}")
        return path

    return write


@pytest.fixture
def wait_for_event(project: Path) -> Wait:
    """Waits until an event with this text is recorded; fails if the process ends before."""

    def wait(text: str, kubepin: subprocess.Popen[str] | None = None) -> None:
        deadline = time.monotonic() + 300
        while not any(text in path.read_text() for path in project.glob("runs/*/events.jsonl")):
            assert kubepin is None or kubepin.poll() is None, "it ended before"
            assert time.monotonic() < deadline
            time.sleep(0.1)

    return wait


@pytest.fixture
def start(project: Path, wait_for_event: Wait) -> Iterator[Start]:
    """Starts a process that runs `kubepin`; returns once it is at the task "Switch"."""
    started: list[subprocess.Popen[str]] = []

    def run(*arguments: str, **options: Any) -> subprocess.Popen[str]:
        call = f"main({list(arguments)!r}, pathlib.Path({str(project)!r}))"
        hang_up = "signal.signal(signal.SIGHUP, signal.SIG_DFL)"  # these tests may run under nohup
        program = f"import sys, pathlib, signal; {hang_up}; from orchestrator.__main__ import main; sys.exit({call})"
        environment = {**os.environ, "PYTHONPATH": f"{ROOT}:{ROOT / 'collections'}"}
        kubepin = subprocess.Popen([sys.executable, "-c", program], text=True, env=environment, **options)
        started.append(kubepin)
        wait_for_event('"name": "Switch"', kubepin)
        return kubepin

    yield run
    for kubepin in started:
        kubepin.kill()
        kubepin.wait()
