# SPDX-License-Identifier: GPL-3.0-or-later
"""Runs commands, keeps their complete output in a log and says clearly what failed."""

from __future__ import annotations

import os
import shlex
import subprocess
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import IO

from sandbox.settings import SandboxError

TAIL_LINES = 20
STOP_SECONDS = 3.0


class CommandFailed(SandboxError):
    """A command exited non-zero or ran out of time."""

    def __init__(self, command: Sequence[str], outcome: str, output: str) -> None:
        self.output = output
        tail = "\n".join("  | " + line for line in output.splitlines()[-TAIL_LINES:])
        super().__init__(f"command {outcome}: {shlex.join(command)}\n{tail or '  | (no output)'}")


class Stopped(SandboxError):
    """A command was ended, or not started, because another part of the same plan failed."""

    def __init__(self, command: Sequence[str]) -> None:
        super().__init__(f"stopped: {shlex.join(command)}")


class Log:
    """A file that several threads append lines to."""

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self.path = path
        self._file = path.open("a", encoding="utf-8", errors="replace")
        self._lock = threading.Lock()

    def write(self, line: str) -> None:
        """Append one line with the time of day."""
        with self._lock:
            self._file.write(f"{time.strftime('%H:%M:%S')} {line.rstrip()}\n")
            self._file.flush()


class Shell:
    """Runs commands and logs them."""

    def __init__(self, log: Log) -> None:
        self.log = log
        self._number = 0
        self._lock = threading.Lock()
        self._running: set[subprocess.Popen[bytes]] = set()
        self._stopped = False

    @property
    def stopped(self) -> bool:
        """Whether `stop` was called."""
        return self._stopped

    def stop(self) -> None:
        """End what runs and start nothing more; each call of `run` raises Stopped."""
        with self._lock:
            self._stopped = True
            running = list(self._running)
        for process in running:
            process.terminate()
        deadline = time.monotonic() + STOP_SECONDS
        while any(process.poll() is None for process in running) and time.monotonic() < deadline:
            time.sleep(0.1)
        for process in running:
            process.kill()

    def run(
        self,
        command: Sequence[str],
        *,
        stdin: str | bytes | None = None,
        env: Mapping[str, str] | None = None,
        cwd: Path | None = None,
        timeout: float | None = None,
        check: bool = True,
    ) -> str:
        """Run a command and return its standard output; raise CommandFailed unless check is off.

        `env` is added to this process's environment. Raises Stopped after `stop`.
        """
        with self._lock:
            if self._stopped:
                raise Stopped(command)
            self._number += 1
            tag = f"[{self._number}]"
            self.log.write(f"{tag} $ {shlex.join(command)}")
            try:
                process = subprocess.Popen(
                    command,
                    stdin=subprocess.DEVNULL if stdin is None else subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    stderr=subprocess.PIPE,
                    env={**os.environ, **(env or {})},
                    cwd=cwd,
                )
            except OSError as error:
                raise CommandFailed(command, "could not be started", str(error)) from error
            self._running.add(process)
        stdout: list[str] = []
        stderr: list[str] = []

        def pump(stream: IO[bytes], sink: list[str]) -> None:
            for raw in stream:
                line = raw.decode("utf-8", errors="replace")
                self.log.write(f"{tag} {line}")
                sink.append(line)

        assert process.stdout
        assert process.stderr
        pumps = [
            threading.Thread(target=pump, args=(process.stdout, stdout), daemon=True),
            threading.Thread(target=pump, args=(process.stderr, stderr), daemon=True),
        ]
        for thread in pumps:
            thread.start()
        outcome = ""
        try:
            if process.stdin:
                try:
                    process.stdin.write(stdin.encode() if isinstance(stdin, str) else stdin or b"")
                    process.stdin.close()
                except BrokenPipeError:
                    pass  # the exit status tells more than the pipe
            process.wait(timeout)
        except subprocess.TimeoutExpired:
            outcome = f"did not end within {timeout:.0f} s"
        finally:
            if process.poll() is None:
                process.kill()
                process.wait()
            with self._lock:
                self._running.discard(process)
        for thread in pumps:
            thread.join(timeout=5)
        if not outcome and process.returncode:
            outcome = f"failed with exit status {process.returncode}"
        if outcome:
            self.log.write(f"{tag} {outcome}")
            if self._stopped:
                raise Stopped(command)
            if check:
                # Errors last: the end is what the message shows.
                raise CommandFailed(command, outcome, "".join(stdout + stderr))
        return "".join(stdout)


def wait_for(what: str, ready: Callable[[], bool], timeout: float, interval: float = 0.5) -> None:
    """Poll until ready() holds. A command that fails meanwhile counts as "not yet"."""
    deadline = time.monotonic() + timeout
    last_error = ""
    while True:
        try:
            if ready():
                return
        except CommandFailed as error:
            last_error = f"\nlast answer: {error}"
        if time.monotonic() > deadline:
            raise SandboxError(f"{what}: not so after {timeout:.0f} s{last_error}")
        time.sleep(interval)
