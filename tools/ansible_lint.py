# SPDX-License-Identifier: GPL-3.0-or-later
"""ansible-lint with the same checks, but one ansible-playbook for the syntax of all playbooks and roles.

ansible-lint starts `ansible-playbook --syntax-check` for each playbook, each role, and each import of a playbook: some 90
processes, most of whose time goes into importing Ansible. It takes many playbooks at once. Only if that one run finds a
fault does ansible-lint check file by file, and say which.

Each of some 40 rules would also parse every task again, which is half of the time of all rules. Here they share the tasks.
"""

from __future__ import annotations

import copy
import json
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from unittest.mock import patch

import ansiblelint.utils
from ansible_compat.runtime import Runtime
from ansiblelint.__main__ import main
from ansiblelint.errors import MatchError
from ansiblelint.file_utils import Lintable
from ansiblelint.runner import Runner
from ansiblelint.utils import Task

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


class Tasks:
    """Stands in for the function that parses the tasks of a file: each file is parsed once."""

    def __init__(self) -> None:
        self._parse = ansiblelint.utils.task_in_list
        self._parsed: dict[tuple[int, str, str], tuple[Lintable, list[Task]]] = {}
        """With the file, so that no other one gets its id."""

    def __call__(self, data: Any, file: Lintable, kind: str, position: str = ".") -> Iterator[Task]:
        key = (id(file), kind, position)
        if key not in self._parsed:
            self._parsed[key] = file, list(self._parse(data, file, kind, position))
        for task in self._parsed[key][1]:
            twin = copy.copy(task)  # rules add keys of their own
            twin._normalized_task = copy.copy(task.normalized_task)
            yield twin


if __name__ == "__main__":
    with (
        patch.object(ansiblelint.utils, "task_in_list", Tasks()),
        patch.object(Runner, "_map_syntax_check_workers", check_syntax),
        patch.object(Runtime, "has_playbook", has_playbook),
    ):
        sys.exit(main())
