# SPDX-License-Identifier: GPL-3.0-or-later
"""Runs one playbook with ansible-runner; no other module imports it."""

from __future__ import annotations

import json
import os
import shlex
import signal
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from threading import Thread
from typing import Any

from ansible_runner.interface import init_runner

from orchestrator.model import Event, KubepinError, PlayResult
from orchestrator.ownership import Owner
from orchestrator.processes import MARK, end_marked
from orchestrator.reading import Reader
from orchestrator.scratch import places, scratch_folder

KEEP_ALIVE = "-o ServerAliveInterval=10 -o ServerAliveCountMax=3"
"""Options of ssh, as in ansible.cfg, which ANSIBLE_CONFIG may replace: a host that loses its power is noticed in 40 s."""

_POLL_SECONDS = 1  # between calls of `watch` while Ansible prints nothing; ansible-runner's default is 5


class PlayError(KubepinError):
    """Ansible ended before any host ran, or a listener failed."""


@dataclass(frozen=True)
class Play:
    """The arguments of ansible-playbook. `project` is its working directory; paths are absolute. `owner` starts it."""

    project: Path
    playbook: Path
    inventory: tuple[str, ...] = ()
    limit: str | None = None
    variables: Mapping[str, Any] = field(default_factory=dict)
    variable_files: tuple[str, ...] = ()
    check: bool = False
    become_password: str | None = None
    owner: Owner = field(default_factory=Owner)


class _Events:
    """Handles ansible-runner's events: emits kubepin's, and keeps the first error of a listener."""

    def __init__(self, emit: Callable[[Event], None]) -> None:
        self.reader = Reader()
        self.error: Exception | None = None
        self._emit = emit

    def __call__(self, raw: Mapping[str, Any]) -> bool:
        """Always False, so that ansible-runner keeps no file of it. Never raises, or ansible-runner would hang."""
        try:
            for event in self.reader.read(raw):
                self._emit(event)
        except Exception as error:
            self.error = self.error or error
        return False


def run_play(play: Play, emit: Callable[[Event], None], watch: Callable[[], bool] = lambda: False) -> PlayResult:
    """Runs a playbook to its end.

    :param emit: called with each event, in order, in this thread
    :param watch: called about once a second; True cancels. ansible-playbook is then killed, and so are its workers and
        their children on this machine. Work on the nodes ends by itself.
    :raises PlayError: if Ansible ended before any host ran, or if `emit` or `watch` raised
    """
    events = _Events(emit)

    def cancelled() -> bool:
        try:
            return events.error is not None or watch()
        except Exception as error:
            events.error = events.error or error
            return True

    try:
        with scratch_folder(play.owner) as private:  # a new one, as ansible-runner prefers existing files
            status, remaining = _run(play, private, events, cancelled)
    except OSError as error:
        raise PlayError(
            f"Ansible was not started, as its files cannot be written: {error}. Free space in {places()[0]}."
        ) from error
    if events.error is not None:
        raise PlayError(f"the run was ended because a listener failed: {events.error!r}.") from events.error
    if status == "failed" and not (events.reader.any_host or events.reader.complete):
        output = " ".join(events.reader.output_tail) or "ansible-playbook printed nothing"
        raise PlayError(f"Ansible ended before any host ran: {output}")
    return events.reader.result(status, remaining)


def _run(play: Play, private: Path, events: _Events, cancelled: Callable[[], bool]) -> tuple[str, tuple[str, ...]]:
    """ansible-runner's status, and a description of each process that outlived a cancelled run.

    :raises OSError: if the files that Ansible needs cannot be written
    :raises PlayError: if ansible-runner fails
    """
    password = private / "become"
    runner = init_runner(
        private_data_dir=str(private),
        project_dir=str(play.project),
        playbook=str(play.playbook),
        inventory=list(play.inventory) or None,
        limit=play.limit,
        cmdline=_write_inputs(play, private, password),
        envvars=_environment(play.owner.mark),
        suppress_env_files=True,
        fact_cache_type="",
        quiet=True,
        event_handler=events,
        cancel_callback=cancelled,
    )
    with _offered(play.become_password, password):
        try:
            runner.run()
        except Exception as error:  # such as an OSError of its own files, with ansible-playbook still running
            if runner.status not in ("successful", "failed", "canceled"):
                end_marked(play.owner.mark)
                raise PlayError(f"ansible-runner failed, so Ansible was ended: {error!r}.") from error
    if runner.status in ("successful", "failed"):
        return runner.status, ()
    return runner.status, end_marked(play.owner.mark)


def _write_inputs(play: Play, private: Path, password: Path) -> str:
    """Writes values to files, as all users can read command lines; returns the arguments that name these files."""
    (private / "env").mkdir()
    settings = {"pexpect_timeout": _POLL_SECONDS, "suppress_output_file": True}
    (private / "env" / "settings").write_text(json.dumps(settings), encoding="utf-8")
    variables = private / "variables.json"
    variables.write_text(json.dumps(dict(play.variables)), encoding="utf-8")
    arguments = [argument for file in play.variable_files for argument in ("-e", f"@{file}")]
    arguments += ["-e", f"@{variables}"]
    if play.check:
        arguments += ["--check", "--diff"]
    if play.become_password is not None:
        arguments += ["--become-password-file", str(password)]
    return shlex.join(arguments)


@contextmanager
def _offered(secret: str | None, path: Path) -> Iterator[None]:
    """A context in which a process can read the secret once, from a named pipe, so that it is on no disk."""
    if secret is None:
        yield
        return
    os.mkfifo(path, 0o600)

    def write() -> None:
        signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGPIPE])  # a reader that is killed must not end kubepin
        with suppress(OSError):
            path.write_text(secret, encoding="utf-8")

    writer = Thread(target=write, daemon=True)
    writer.start()
    try:
        yield
    finally:
        reader = os.open(path, os.O_RDONLY | os.O_NONBLOCK)  # ends the wait of a writer that nobody has read from
        writer.join()
        os.close(reader)


def _environment(mark: str) -> dict[str, str]:
    return {
        MARK: mark,
        # otherwise ansible-runner sets it to False and overrides ansible.cfg
        "ANSIBLE_HOST_KEY_CHECKING": os.environ.get("ANSIBLE_HOST_KEY_CHECKING", "True"),
        # ssh takes the first value of an option, so the user's own come first
        "ANSIBLE_SSH_EXTRA_ARGS": f"{os.environ.get('ANSIBLE_SSH_EXTRA_ARGS', '')} {KEEP_ALIVE}".strip(),
        "PATH": f"{Path(sys.executable).parent}:{os.environ.get('PATH', os.defpath)}",
    }
