# SPDX-License-Identifier: GPL-3.0-or-later
"""One playbook through ansible-runner: the only place that imports it."""

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

from orchestrator.model import Event, KubepinError, Outcome
from orchestrator.processes import MARK, end_marked
from orchestrator.reading import Reader

_POLL_SECONDS = 1  # how often `watch` is called while Ansible is silent; ansible-runner's default is 5


class PlayError(KubepinError):
    """The play did not come to run any host, or a listener failed."""


@dataclass(frozen=True)
class Play:
    """What to hand to ansible-playbook; `project` becomes its working directory, paths are absolute."""

    project: Path
    playbook: Path
    inventory: tuple[str, ...] = ()
    limit: str | None = None
    variables: Mapping[str, Any] = field(default_factory=dict)
    variable_files: tuple[str, ...] = ()
    check: bool = False
    become_password: str | None = None


class _Events:
    """Reads events of ansible-runner and tells ours; keeps the first error of a listener."""

    def __init__(self, tell: Callable[[Event], None]) -> None:
        self.reader = Reader()
        self.error: Exception | None = None
        self._tell = tell

    def __call__(self, raw: Mapping[str, Any]) -> bool:
        """Always True: without it ansible-runner keeps nothing. Never raises: that would leave it without an end."""
        try:
            for event in self.reader.read(raw):
                self._tell(event)
        except Exception as error:
            self.error = self.error or error
        return True


def run_play(play: Play, tell: Callable[[Event], None], watch: Callable[[], bool] = lambda: False) -> Outcome:
    """Runs a playbook to its end.

    :param tell: called with each event, in order, in this thread
    :param watch: called at least about once a second; True cancels: ansible-playbook is killed, its workers and what they
        started on this machine are ended. Work on the nodes ends by itself.
    :raises PlayError: if it ended before any host ran, or if `tell` or `watch` raised
    """
    events = _Events(tell)
    mark = str(uuid4())

    def cancelled() -> bool:
        try:
            return events.error is not None or watch()
        except Exception as error:
            events.error = events.error or error
            return True

    with TemporaryDirectory(prefix="kubepin-") as private:  # a fresh one: what an earlier one holds would win
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
        left: tuple[str, ...] = ()
        if runner.status != "successful" and runner.status != "failed":
            left = end_marked(mark)
    if events.error is not None:
        raise PlayError(f"the run was ended, as a listener to its events failed: {events.error!r}.") from events.error
    if runner.status == "failed" and not (events.reader.any_host or events.reader.complete):
        said = " ".join(events.reader.last_words) or "ansible-playbook said nothing"
        raise PlayError(f"Ansible ended before any host ran: {said}")
    return events.reader.outcome(runner.status, left)


def _write_inputs(play: Play, private: Path) -> str:
    """Files for what must not stand on a command line, which everybody can read; returns further arguments."""
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
        # ansible-runner would set it to False, over ansible.cfg
        "ANSIBLE_HOST_KEY_CHECKING": os.environ.get("ANSIBLE_HOST_KEY_CHECKING", "True"),
        "PATH": f"{Path(sys.executable).parent}:{os.environ.get('PATH', os.defpath)}",
    }
