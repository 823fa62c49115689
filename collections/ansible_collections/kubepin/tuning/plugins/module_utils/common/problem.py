# SPDX-License-Identifier: GPL-3.0-or-later
"""A problem that prevents an action: a code for programs, a sentence for people."""

from __future__ import annotations

import errno
import typing as t
from dataclasses import asdict, dataclass

_MOST_IN_A_MESSAGE = 20
"""A file of pods can have thousands. Programs get them all."""


@dataclass(frozen=True)
class Problem:
    """One reason why something cannot be done, and the remedy.

    Programs depend on `code` alone; the texts are for people and may change at any time.
    """

    code: str
    """Names the rule, in snake_case; stable from release to release."""
    subject: str
    """What the problem is about, with its value: ``reserved_cpus "0"``."""
    finding: str
    """What is wrong with the subject, so that both together are a clause: ``splits core 0 (CPUs 0 and 128)``."""
    remedy: str = ""
    """What to do, in one or more whole sentences; empty if the finding makes it clear."""
    waivable: bool = False
    """Whether the operator can accept the problem and continue."""

    @property
    def text(self) -> str:
        """Subject, finding and remedy as sentences."""
        clause = f"{self.subject} {self.finding}".strip().rstrip(".")
        return f"{clause}. {self.remedy}".rstrip()

    def to_dict(self) -> t.Dict[str, t.Any]:
        """The problem as it appears in facts and results: its fields and `text`."""
        return {**asdict(self), "text": self.text}

    @classmethod
    def from_dict(cls, data: t.Mapping[str, t.Any]) -> Problem:
        """The problem that `to_dict` wrote."""
        return cls(**{name: data[name] for name in ("code", "subject", "finding", "remedy", "waivable")})


def to_dicts(problems: t.Iterable[Problem]) -> t.List[t.Dict[str, t.Any]]:
    """Problems as they appear in facts and results."""
    return [problem.to_dict() for problem in problems]


def problems_of(result: t.Mapping[str, t.Any]) -> t.List[Problem]:
    """Why a module failed: its problems, or one with its message.

    :param result: what it returned
    """
    listed = result.get("problems")
    return list(map(Problem.from_dict, listed)) if listed else [module_failed(str(result.get("msg")))]


def module_failed(message: str) -> Problem:
    """The problem of a module that failed without one of its own."""
    return Problem("module_failed", "", message)


_REMEDIES = {
    errno.ENOSPC: "Make room on its file system (`df -h`, and `df -i` for inodes).",
    errno.EDQUOT: "Make room within the disk quota of its user, or raise the quota.",
    errno.EROFS: "Its file system is mounted read-only: look for disk errors (`dmesg`), and mount it writable again.",
    errno.EACCES: "Give the user of the run access to the file and the folders above it (`namei -l`).",
    errno.EPERM: "Check what protects it: its owner, the immutable attribute (`lsattr`), SELinux or AppArmor.",
    errno.ENOENT: "Create it, or correct the path.",
    errno.ENOTDIR: "A part of the path is not a folder: correct the path, or move that file away.",
    errno.EISDIR: "The path is a folder, not a file: correct the path, or move the folder away.",
    errno.EIO: "The disk or its controller fails: look for disk errors (`dmesg`).",
    errno.ETXTBSY: "A program runs from it: end that program.",
    errno.EMFILE: "Raise the limit of open files (`ulimit -n`).",
    errno.ENFILE: "Raise the machine's limit of open files (`sysctl fs.file-max`).",
    errno.ENOMEM: "Free memory, or end other programs.",
    errno.EAGAIN: "The limit of processes may be reached: end programs, or raise it (`ulimit -u`, `sysctl kernel.pid_max`).",
    errno.EBUSY: "Something uses it: find out what (`fuser -v`), and end that first.",
    errno.ELOOP: "Symbolic links on its path lead back to themselves: correct them (`namei -l`).",
    errno.ESTALE: "Its network file system was replaced on the server: mount it again.",
}
"""Error number of the kernel -> what to do (errno(3))."""


def system_error(error: OSError) -> Problem:
    """What the kernel refused, in its own words, with the file if it names one."""
    subject = f"{error.filename}:" if error.filename else ""
    finding = error.strerror or str(error) or type(error).__name__
    return Problem("system_error", subject, str(finding), _REMEDIES.get(error.errno or 0, ""))


def joined(problems: t.Iterable[Problem]) -> str:
    """All problems in one message, or the first of them and how many more there are."""
    texts = [problem.text for problem in problems]
    more = len(texts) - _MOST_IN_A_MESSAGE
    return " ".join([*texts[:_MOST_IN_A_MESSAGE], *([f"And {more} more."] if more > 0 else [])])
