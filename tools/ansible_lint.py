# SPDX-License-Identifier: GPL-3.0-or-later
"""ansible-lint with the same checks, but one ansible-playbook for the syntax of all playbooks and roles.

ansible-lint starts `ansible-playbook --syntax-check` for each playbook, each role, and each import of a playbook: some 90
processes, most of whose time goes into importing Ansible. It takes many playbooks at once. Only if that one run finds a
fault does ansible-lint check file by file, and say which.
"""

from __future__ import annotations

import json
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from unittest.mock import patch

from ansible_compat.runtime import Runtime
from ansiblelint.__main__ import main
from ansiblelint.errors import MatchError
from ansiblelint.file_utils import Lintable
from ansiblelint.runner import Runner

one_by_one = Runner._map_syntax_check_workers


def check_syntax(
    runner: Runner, worker: Callable[[Lintable], list[MatchError]], files: list[Lintable]
) -> list[list[MatchError]]:
    """Stands in for the method that has `worker` check each file."""
    return [] if passes(runner.app.runtime, files) else one_by_one(runner, worker, files)


def passes(runtime: Runtime, files: list[Lintable]) -> bool:
    """Whether Ansible loads all of them."""
    playbooks = [str(file.path) for file in files if file.kind == "playbook"]
    plays = [
        {"hosts": "localhost", "tasks": [{"ansible.builtin.import_role": {"name": str(file.path)}}]}
        for file in files
        if file.kind == "role"
    ]
    with tempfile.NamedTemporaryFile("w", suffix=".yml") as roles:
        json.dump(plays, roles)
        roles.flush()
        return runtime.run(["ansible-playbook", "--syntax-check", *playbooks, roles.name]).returncode == 0


def has_playbook(_runtime: Runtime, _playbook: str, *, basedir: Path | None = None) -> bool:
    """Stands in for the method that checks an imported playbook again: the file that imports it was checked with it."""
    return True


if __name__ == "__main__":
    with (
        patch.object(Runner, "_map_syntax_check_workers", check_syntax),
        patch.object(Runtime, "has_playbook", has_playbook),
    ):
        sys.exit(main())
