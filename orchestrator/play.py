# SPDX-License-Identifier: GPL-3.0-or-later
"""Runs one playbook with ansible-runner; no other module imports it."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from uuid import uuid4

import ansible_runner

from orchestrator.model import Event, KubepinError, PlayResult
from orchestrator.processes import MARK, end_marked
from orchestrator.reading import Reader

_POLL_SECONDS = 1  # between calls of `watch` while Ansible prints nothing; ansible-runner's default is 5


class PlayError(KubepinError):
    """Ansible ended before any host ran, or a listener failed."""


@dataclass(frozen=True)
class Play:
    """The arguments of ansible-playbook. `project` is its working directory; paths are absolute."""

    project: Path
    playbook: Path
    inventory: tuple[str, ...] = ()
    limit: str | None = None
    variables: Mapping[str, Any] = field(default_factory=dict)
    variable_files: tuple[str, ...] = ()
    check: bool = False
    become_password: str | None = None


class _Events:
    """Handles ansible-runner's events: emits kubepin's, and keeps the first error of a listener."""

    def __init__(self, emit: Callable[[Event], None]) -> None:
        self.reader = Reader()
        self.error: Exception | None = None
        self._emit = emit

    def __call__(self, raw: Mapping[str, Any]) -> bool:
        """Always True, or ansible-runner would drop the event. Never raises, or ansible-runner would hang."""
        try:
            for event in self.reader.read(raw):
                self._emit(event)
        except Exception as error:
            self.error = self.error or error
        return True


def run_play(play: Play, emit: Callable[[Event], None], watch: Callable[[], bool] = lambda: False) -> PlayResult:
    """Runs a playbook to its end.

    :param emit: called with each event, in order, in this thread
    :param watch: called about once a second; True cancels. ansible-playbook is then killed, and so are its workers and
        their children on this machine. Work on the nodes ends by itself.
    :raises PlayError: if Ansible ended before any host ran, or if `emit` or `watch` raised
    """
    events = _Events(emit)
    mark = str(uuid4())

    def cancelled() -> bool:
        try:
            return events.error is not None or watch()
        except Exception as error:
            events.error = events.error or error
            return True

    with TemporaryDirectory(prefix="kubepin-") as private:  # a new one, as ansible-runner prefers existing files
        arguments = _write_inputs(play, Path(private))
        runner = ansible_runner.run(
            private_data_dir=private,
            project_dir=str(play.project),
            playbook=str(play.playbook),
            inventory=list(play.inventory) or None,
            limit=play.limit,
            cmdline=arguments,
            envvars=_environment(mark),
            suppress_env_files=True,
            fact_cache_type="",
            quiet=True,
            event_handler=events,
            cancel_callback=cancelled,
        )
        remaining: tuple[str, ...] = ()
        if runner.status not in ("successful", "failed"):
            remaining = end_marked(mark)
    if events.error is not None:
        raise PlayError(f"the run was ended because a listener failed: {events.error!r}.") from events.error
    if runner.status == "failed" and not (events.reader.any_host or events.reader.complete):
        output = " ".join(events.reader.output_tail) or "ansible-playbook printed nothing"
        raise PlayError(f"Ansible ended before any host ran: {output}")
    return events.reader.result(runner.status, remaining)


def _write_inputs(play: Play, private: Path) -> str:
    """Writes values to files, as all users can read command lines; returns the arguments that name these files."""
    (private / "env").mkdir()
    (private / "env" / "settings").write_text(json.dumps({"pexpect_timeout": _POLL_SECONDS}))
    variables = private / "variables.json"
    variables.write_text(json.dumps(dict(play.variables)))
    arguments = [argument for file in play.variable_files for argument in ("-e", f"@{file}")]
    arguments += ["-e", f"@{variables}"]
    if play.check:
        arguments += ["--check", "--diff"]
    if play.become_password is not None:
        password = private / "become"
        password.write_text(play.become_password)
        password.chmod(0o600)
        arguments += ["--become-password-file", str(password)]
    return " ".join(f"'{argument}'" for argument in arguments)


def _environment(mark: str) -> dict[str, str]:
    return {
        MARK: mark,
        # otherwise ansible-runner sets it to False and overrides ansible.cfg
        "ANSIBLE_HOST_KEY_CHECKING": os.environ.get("ANSIBLE_HOST_KEY_CHECKING", "True"),
        "PATH": f"{Path(sys.executable).parent}:{os.environ.get('PATH', os.defpath)}",
    }
