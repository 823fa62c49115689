# SPDX-License-Identifier: GPL-3.0-or-later
"""`python3 -m pod round ...` or `python3 -m pod original ...`.

Exit codes: 0 done; 2 bad arguments, nothing was run; 3 a process failed (no cell timed, ended early) and printed the
reason; 5 there is no GPU; 6 there was one, and it does not work any more; 128 plus the signal's number if a signal ended
it.
"""

import os
import signal
import sys
from typing import List, NoReturn, Sequence

from .options import BadArguments, RoundOptions, parse_original, parse_round
from .original import run_original
from .rounds import run_rounds
from .words import count

BAD_ARGUMENTS = 2
COMMANDS = ("round", "original")


class _Ended(BaseException):
    """A signal asks the program to end. Raised, so that child processes are ended on the way out."""

    def __init__(self, number: int) -> None:
        super().__init__()
        self.number = number


def _end(number: int, _frame: object) -> NoReturn:
    signal.signal(number, signal.SIG_IGN)  # a second signal must not interrupt the cleanup
    raise _Ended(number)


def _refuse(problems: Sequence[str]) -> int:
    print(f"# pod: nothing was run. {count(len(problems), 'problem')}:", file=sys.stderr)
    for problem in problems:
        print(f"#   {problem}", file=sys.stderr)
    return BAD_ARGUMENTS


def _round(options: RoundOptions) -> int:
    if options.output is None:
        return run_rounds(options, [1])
    try:
        file = open(options.output, "ab", buffering=0)  # noqa: SIM115 - closed below
    except OSError as error:
        return _refuse([f"--output {options.output}: {error.strerror}. Name a writable file"])
    with file:
        return run_rounds(options, [1, file.fileno()])


def main(arguments: List[str]) -> int:
    """Runs the command that `arguments` name and returns its exit code."""
    program = f"python3 -m {__package__}"
    command = arguments[0] if arguments else ""
    if command in ("-h", "--help"):
        print(f"usage: {program} {{{','.join(COMMANDS)}}} ...\n\n{program} COMMAND --help lists the options.")
        return 0
    if command not in COMMANDS:
        return _refuse([f"command {command!r}: expected {' or '.join(COMMANDS)}, such as {program} round --help"])
    signal.signal(signal.SIGTERM, _end)
    signal.signal(signal.SIGINT, _end)
    try:
        if command == "round":
            return _round(parse_round(f"{program} round", arguments[1:]))
        return run_original(parse_original(f"{program} original", arguments[1:]))
    except BadArguments as error:
        return _refuse(error.problems)
    except _Ended as end:
        print(f"# pod: ended by {signal.Signals(end.number).name}", file=sys.stderr)
        return 128 + end.number
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # the interpreter flushes it once more
        return 128 + signal.SIGPIPE


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
