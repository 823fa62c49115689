# SPDX-License-Identifier: GPL-3.0-or-later
"""Runs programs on this machine, also while it is short of processes or memory."""

from __future__ import annotations

import errno
import time
import typing as t

from ansible_collections.kubepin.tuning.plugins.module_utils.common.errors import InvalidText

Run = t.Callable[[t.List[str]], t.Tuple[int, str, str]]
"""Runs a command without a shell; returns its exit code, output and error output."""

RETRY_SECONDS = 10
"""How long a command that the machine has no process or memory for is tried again."""

_PAUSE_SECONDS = 0.2
_SHORT_OF = (errno.EAGAIN, errno.ENOMEM, errno.EMFILE, errno.ENFILE)
_NOT_FOUND, _NOT_EXECUTABLE = 127, 126
"""The exit codes of sh for a program that does not exist or cannot be executed (POSIX XCU 2.8.2)."""


class CannotRun(InvalidText):
    """The machine has no process or memory for a command."""

    code = "command_not_started"


def runner(
    run_command: t.Callable[..., t.Any],
    sleep: t.Callable[[float], None] = time.sleep,
    monotonic: t.Callable[[], float] = time.monotonic,
) -> Run:
    """How a module runs commands.

    A program that is missing or cannot be executed counts as a failed command, as in a shell. A command that cannot be
    started for want of processes or memory is tried again for `RETRY_SECONDS`, and raises `CannotRun` after that.

    :param run_command: `AnsibleModule.run_command`, which on its own ends the process on these errors
    """

    def run(argv: t.List[str]) -> t.Tuple[int, str, str]:
        deadline = monotonic() + RETRY_SECONDS
        while True:
            try:
                code, output, errors = run_command(argv, handle_exceptions=False, expand_user_and_vars=False)
            except OSError as exc:
                if exc.errno not in _SHORT_OF:
                    code = _NOT_FOUND if exc.errno == errno.ENOENT else _NOT_EXECUTABLE
                    return code, "", f"{argv[0]}: {exc.strerror}"
                if monotonic() >= deadline:
                    raise CannotRun(
                        f"`{' '.join(argv[:3])}` could not be started for {RETRY_SECONDS} s: {exc.strerror}. The machine is short "
                        "of processes, memory or open files."
                    ) from exc
                sleep(_PAUSE_SECONDS)
            else:
                return int(code), str(output), str(errors)

    return run
