# SPDX-License-Identifier: GPL-3.0-or-later
"""The programs, files and folders of a node that the configuration of a container runtime names."""

from __future__ import annotations

import typing as t
from dataclasses import dataclass

from ansible_collections.kubepin.tuning.plugins.module_utils.control.gpu_access.document import Unknown
from ansible_collections.kubepin.tuning.plugins.module_utils.control.node_call import Call

_SHOWN = 200
"""Characters of an error output that a message shows."""


@dataclass(frozen=True)
class Answer:
    """What a program on the node answered."""

    command: tuple[str, ...]
    code: int | None
    """Its exit code; None if the node does not have it."""
    output: str
    errors: str

    @classmethod
    def of(cls, data: t.Mapping[str, t.Any]) -> Answer:
        """:param data: as `Machine.answer` returns it"""
        return cls(tuple(data["command"]), data["code"], data["output"], data["errors"])

    def text(self) -> str:
        """Its output.

        :raises Unknown: if it is missing or failed
        """
        if self.code is None:
            raise Unknown(f"there is no {self.command[0]} on this node")
        if self.code:
            raise Unknown(f"`{' '.join(self.command)}` failed: {(self.errors or self.output).strip()[:_SHOWN]}")
        return self.output


class Programs:
    """Asks the node for each program, file and folder once.

    `fetch` asks for many in one call; without it, each answer takes a call of its own.
    """

    def __init__(self, call: Call) -> None:
        self._call = call
        self._programs: dict[str, Answer] = {}
        self._files: dict[str, t.Mapping[str, t.Any]] = {}
        self._folders: dict[str, t.Mapping[str, t.Any]] = {}

    def fetch(self, programs: t.Iterable[str] = (), files: t.Iterable[str] = (), folders: t.Iterable[str] = ()) -> None:
        """Ask the node for all of these of which it was not asked yet."""
        wanted = {
            "programs": sorted({*programs} - {*self._programs}),
            "files": sorted({*files} - {*self._files}),
            "folders": sorted({*folders} - {*self._folders}),
        }
        if not any(wanted.values()):
            return
        read = self._call("container_programs_info", wanted)
        self._programs.update(zip(wanted["programs"], map(Answer.of, read["programs"]), strict=True))
        self._files.update(zip(wanted["files"], read["files"], strict=True))
        self._folders.update(zip(wanted["folders"], read["folders"], strict=True))

    def is_there(self, program: str) -> bool:
        """Whether the node has this program."""
        self.fetch(programs=[program])
        return self._programs[program].code is not None

    def version(self, program: str) -> str:
        """What the program says to ``--version``.

        :raises Unknown: if it is missing or failed
        """
        self.fetch(programs=[program])
        return self._programs[program].text()

    def file(self, path: str) -> str | None:
        """A file's text; None if it does not exist.

        :raises Unknown: if it cannot be read
        """
        self.fetch(files=[path])
        file = self._files[path]
        if file["error"]:
            raise Unknown(f"{path} cannot be read: {file['error']}")
        text: str | None = file["text"]
        return text

    def names(self, folder: str) -> list[str]:
        """The names in a folder; none if it does not exist.

        :raises Unknown: if it cannot be read
        """
        self.fetch(folders=[folder])
        found = self._folders[folder]
        if found["error"]:
            raise Unknown(f"{folder} cannot be read: {found['error']}")
        names: list[str] = found["names"]
        return names
