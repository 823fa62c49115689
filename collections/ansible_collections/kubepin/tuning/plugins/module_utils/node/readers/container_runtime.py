# SPDX-License-Identifier: GPL-3.0-or-later
"""What a node knows of its container runtime, as texts. Read-only.

The control node decodes them (`control/gpu_access/container_runtime.py`).
"""

from __future__ import annotations

import glob
import os
import re
import shutil
import stat
import typing as t

from ansible_collections.kubepin.tuning.plugins.module_utils.node.commands import Run

Report = t.Dict[str, t.Any]

SERVICE_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
"""Where systemd's services look for programs (systemd.exec(5))."""

_CONFIGURATION = {
    "containerd": ("containerd", "config", "dump"),
    "cri-o": ("crio", "status", "config"),
    "docker": ("docker", "info", "--format", "{{json .}}"),
}
_SECRET = re.compile(
    r"""^(\s*["']?(?:auth|authorization|identitytoken|password|username)["']?\s*=).*$""", re.IGNORECASE | re.MULTILINE
)
"""The credentials of registries (containerd, docs/cri/registry.md), which `containerd config dump` writes in one line
each."""


class Machine:
    """The programs, files and folders of one machine."""

    def __init__(self, run: Run, root: str = "/") -> None:
        """:param root: where the machine's files are"""
        self._run = run
        self._root = root

    def path(self, path: str) -> str:
        """Where a file of the machine is."""
        return os.path.join(self._root, path.lstrip("/"))

    def answer(self, program: str, *arguments: str) -> Report:
        """What a program answers: `command`, `code`, `output` and `errors`; the code is null if it is not there.

        A bare name is searched for where systemd's services search.
        """
        command = [program, *arguments]
        path = self._where(program)
        if path is None:
            return {"command": command, "code": None, "output": "", "errors": ""}
        code, output, errors = self._run([path, *arguments])
        return {"command": command, "code": code, "output": _sendable(output), "errors": _sendable(errors)}

    def file(self, path: str) -> Report:
        """A file's `text`, null if it does not exist, or the `error` that keeps it from being read."""
        try:
            with open(self.path(path), encoding="utf-8") as stream:
                return {"text": stream.read(), "error": None}
        except FileNotFoundError:
            return {"text": None, "error": None}
        except (OSError, ValueError) as exc:
            return {"text": None, "error": _sendable(str(exc))}

    def folder(self, path: str) -> Report:
        """The `names` in a folder, without hidden ones, or the `error` that keeps it from being read."""
        try:
            names = [_sendable(name) for name in os.listdir(self.path(path)) if not name.startswith(".")]
        except (FileNotFoundError, NotADirectoryError):
            names = []
        except (OSError, ValueError) as exc:
            return {"names": [], "error": _sendable(str(exc))}
        return {"names": sorted(names), "error": None}

    def _where(self, program: str) -> t.Optional[str]:
        if os.path.isabs(program):
            return shutil.which(self.path(program))
        if os.path.basename(program) != program:
            return None
        return shutil.which(program, path=":".join(self.path(folder) for folder in SERVICE_PATH.split(":")))


def read_runtime(machine: Machine, runtime: str, patterns: t.Sequence[str]) -> Report:
    """The `configuration` that the `runtime` reports, null if it is none of those known, and the GPUs' `devices`.

    :param runtime: the container runtime that the kubelet uses, as kubelet_info names it
    :param patterns: of the GPUs' device files
    """
    command = _CONFIGURATION.get(runtime)
    configuration = machine.answer(*command) if command else None
    if configuration:
        configuration["output"] = _SECRET.sub(r'\1 ""', configuration["output"])
    return {"runtime": runtime, "configuration": configuration, "devices": _devices(machine, patterns)}


def read_programs(
    machine: Machine, programs: t.Sequence[str], files: t.Sequence[str], folders: t.Sequence[str]
) -> Report:
    """What the `programs` report as their version, the `files` and the `folders`, each in the order of its arguments."""
    return {
        "programs": [machine.answer(program, "--version") for program in programs],
        "files": [machine.file(path) for path in files],
        "folders": [machine.folder(path) for path in folders],
    }


def _devices(machine: Machine, patterns: t.Sequence[str]) -> t.List[Report]:
    """The character devices with their numbers and whether each has its link in /dev/char, or what prevents it."""
    devices: t.List[Report] = []
    for path in sorted({path for pattern in patterns for path in glob.glob(machine.path(pattern))}):
        device = {"path": _sendable(path), "link": None, "error": None}
        try:
            status = os.stat(path)
        except OSError as exc:
            devices.append({**device, "error": exc.strerror})
            continue
        if stat.S_ISCHR(status.st_mode):
            major, minor = os.major(status.st_rdev), os.minor(status.st_rdev)
            devices.append({**device, "link": os.path.exists(machine.path(f"/dev/char/{major}:{minor}"))})
    return devices


def _sendable(text: str) -> str:
    """Bytes that are no UTF-8 are replaced, because JSON cannot carry them."""
    return text.encode("utf-8", "replace").decode("utf-8")
