# SPDX-License-Identifier: GPL-3.0-or-later
"""What ansible.cfg and the documentation make ssh do about a node that loses its power, as ssh itself reads it."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

PROJECT = Path(__file__).parents[2]
NOTICED_SECONDS = 60

pytestmark = pytest.mark.component


def silence(options: list[str]) -> int:
    """Seconds after which ssh with these options ends a connection whose peer is silent (ssh_config(5))."""
    printed = subprocess.run(["ssh", "-G", *options, "gpu-01"], check=True, capture_output=True, text=True).stdout
    found = dict(line.split(" ", 1) for line in printed.splitlines() if " " in line)
    return int(found["serveraliveinterval"]) * (int(found["serveralivecountmax"]) + 1)


def test_runs_from_the_projects_folder_notice_it(tmp_path: Path) -> None:
    ssh = tmp_path / "ssh"
    ssh.write_text(f'#!/bin/sh\nprintf "%s\\n" "$@" >{tmp_path}/asked\nexit 255\n')
    ssh.chmod(0o755)
    environment = {name: value for name, value in os.environ.items() if not name.startswith("ANSIBLE_")}
    asked = subprocess.run(
        [
            Path(sys.executable).parent / "ansible",
            "-i",
            "gpu-01,",
            "-m",
            "ping",
            "-e",
            f"ansible_ssh_executable={ssh}",
            "all",
        ],
        cwd=PROJECT,
        env=environment,
        check=False,
        capture_output=True,
        text=True,
    )
    assert "UNREACHABLE" in asked.stdout
    words = (tmp_path / "asked").read_text().splitlines()
    options = [word for option in words if re.fullmatch(r"[A-Za-z]+=[^ ]+", option) for word in ("-o", option)]
    assert 0 < silence(options) <= NOTICED_SECONDS


PLAY = """
- hosts: all
  gather_facts: false
  tasks:
    - block:
        - ansible.builtin.fail: {msg: "gpu-01 cannot be reached any more, says ssh:"}
      rescue:
        - ansible.builtin.include_role: {name: cpu_manager, tasks_from: undo}
"""
PLAN = {
    **{"problems": [], "changed": True, "settings": [], "changes": [], "notes": [], "remaining": []},
    **{"gpu_probe": "none", "gpu_resource": "nvidia.com/gpu", "gpus_before": 0, "policy_before": "none"},
    **{"cordoned_before": False},
}


def test_a_node_that_is_lost_during_the_verification_is_not_waited_for(tmp_path: Path) -> None:
    (tmp_path / "ssh").write_text("#!/bin/sh\nexit 255\n")
    (tmp_path / "ssh").chmod(0o755)
    known = {
        "ansible_ssh_executable": str(tmp_path / "ssh"),
        "kubepin_plan": PLAN,
        "__cpu_manager_kubelet": {"switch_id": "20261128T143100.000Z"},
        "__cpu_manager_confirmed": {"unreachable": True},
    }
    (tmp_path / "hosts.json").write_text(json.dumps({"all": {"hosts": {"gpu-01": known}}}))
    (tmp_path / "undo.yml").write_text(PLAY)
    ended = subprocess.run(
        [Path(sys.executable).parent / "ansible-playbook", "-i", tmp_path / "hosts.json", tmp_path / "undo.yml"],
        cwd=PROJECT,
        env={**os.environ, "ANSIBLE_ROLES_PATH": str(PROJECT / "roles")},
        check=False,
        capture_output=True,
        text=True,
    )
    output = " ".join((ended.stdout + ended.stderr).split())
    assert "any more, says ssh. Node gpu-01 could not be put back and verified, and stays cordoned:" in output
    assert "stays cordoned: it cannot be reached. If its switch" in output
    assert "If its switch was not confirmed, the next run undoes it." in output
    assert "Wait until the API shows the old settings" not in output


def test_what_the_documentation_says_to_set_notices_it_too() -> None:
    places = [PROJECT / "docs/operations.md", PROJECT / "examples/ansible-navigator.yml"]
    found = [
        options
        for place in places
        for options in re.findall(
            r"ansible_ssh_extra_args[:=] ?\"?((?:-o \w+=\d+ ?)+)", place.read_text(), re.IGNORECASE
        )
    ]
    assert len(found) == 3
    assert all(0 < silence(options.split()) <= NOTICED_SECONDS for options in found)
