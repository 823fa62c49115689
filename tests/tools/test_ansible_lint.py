# SPDX-License-Identifier: GPL-3.0-or-later
"""ansible-lint still tells of a fault that only Ansible finds, though Ansible is asked about all files at once."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

PROJECT = Path(__file__).parents[2]
PLAYBOOK = "---\n- name: Import\n  ansible.builtin.import_playbook: playbooks/inner.yml\n"
INNER = "---\n- name: Play\n  hosts: localhost\n  roles: [one]\n"
TASKS = "---\n- name: Say it\n  ansible.builtin.debug:\n    msg: it\n"


def lint(folder: Path) -> tuple[int, str]:
    environment = {
        **os.environ,
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        "PYTHONPATH": str(PROJECT),
        "ANSIBLE_ROLES_PATH": str(folder / "roles"),
    }
    command = [sys.executable, "-m", "tools.ansible_lint", "--offline", "-q", "--nocolor"]
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    return done.returncode, done.stdout + done.stderr


@pytest.fixture
def project(tmp_path: Path) -> Path:
    (tmp_path / ".ansible-lint").write_text("profile: min\noffline: true\n")
    for name, text in {"outer.yml": PLAYBOOK, "playbooks/inner.yml": INNER, "roles/one/tasks/main.yml": TASKS}.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    return tmp_path


@pytest.mark.component
def test_nothing_is_said_of_a_project_without_faults(project: Path) -> None:
    assert lint(project) == (0, "")


@pytest.mark.component
@pytest.mark.parametrize(
    "names",
    [
        pytest.param(("outer.yml", "playbooks/inner.yml"), id="playbooks"),
        pytest.param(("roles/one/tasks/main.yml",), id="role", marks=pytest.mark.thorough),
    ],
)
def test_faults_that_ansible_finds_are_reported_with_their_files(project: Path, names: tuple[str, ...]) -> None:
    for name in names:
        with (project / name).open("a") as file:
            file.write("  nonsense: 1\n")
    code, output = lint(project)
    assert code != 0
    assert "syntax-check" in output
    for name in names:
        assert name in output
