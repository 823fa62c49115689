# SPDX-License-Identifier: GPL-3.0-or-later
"""What ansible.cfg and the documentation make ssh do about a node that loses its power, as ssh itself reads it."""

from __future__ import annotations

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
