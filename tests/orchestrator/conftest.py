# SPDX-License-Identifier: GPL-3.0-or-later
"""A project folder with playbooks of a few tasks on localhost, run by the real ansible-runner and ansible-playbook."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

Write = Callable[[str], Path]
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
        path = project / "playbooks" / "tune-gpu-nodes.yml"
        indented = "".join(f"    {line}\n" for line in tasks.strip("\n").splitlines())
        path.write_text(f"- name: Tune\n  hosts: gpu_nodes\n  gather_facts: false\n  tasks:\n{indented}")
        return path

    return write
