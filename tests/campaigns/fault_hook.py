# SPDX-License-Identifier: GPL-3.0-or-later
"""Breaks a program on a node exactly before one of its steps: kills or holds it, fills the disk, or refuses commands.

For the campaigns `faults` and `power-cuts` only. A .pth file makes every Python of the node import this; without a plan it does nothing.
Python's audit events come before each write, rename, removal and command, so that no step can be missed, and the
program needs no code for it. Before step N+1 is after step N.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import re
import signal
import sys
import time
from typing import Any

FOLDER = "/run/kubepin-fault"
PLAN, TRACE, HELD, GO = (f"{FOLDER}/{name}" for name in ("plan.json", "trace", "held", "go"))
# What the step is done to; other files and commands of Python are none.
TREES = (
    *("/var/lib/kubepin/switches/", "/var/lib/kubepin/upgrades/", "/etc/default/", "/etc/kubernetes/"),
    *("/var/lib/kubelet/", "/usr/bin/kube", "/usr/bin/.kube"),
)
VERBS = ("stop", "start", "reset-failed")
SERVICE = "kubelet"
HOLD_SECONDS = 240
EVENTS = ("open", "os.link", "os.rename", "os.remove", "os.mkdir", "os.rmdir", "subprocess.Popen")


def name_of(event: str, arguments: tuple[Any, ...]) -> str | None:
    """What the step is called, None if it is none."""
    if event == "open":
        path, _mode, flags = arguments
        if isinstance(path, str) and path.startswith(TREES) and flags & os.O_CREAT:
            return f"write {os.path.dirname(path)}"
    if event == "os.link" and str(arguments[1]).startswith(TREES):
        return f"link {arguments[0]}"
    if event == "os.rename" and str(arguments[1]).startswith(TREES):
        return f"rename {arguments[1]}{progress(arguments[0], arguments[1])}"
    if (
        event == "os.remove"
        and str(arguments[0]).startswith(TREES)
        and not os.path.basename(arguments[0]).startswith(".")
    ):
        return f"remove {arguments[0]}"
    if event in ("os.mkdir", "os.rmdir") and str(arguments[0]).startswith(TREES):
        return f"{event[3:]} {arguments[0]}"
    if event == "subprocess.Popen":
        command = [os.fsdecode(word) for word in arguments[1]]
        if os.path.basename(command[0]) == "systemctl" and command[1] in VERBS and command[-1] == SERVICE:
            return " ".join(command[-3:])
    return None


def command_of(event: str, arguments: tuple[Any, ...]) -> str | None:
    """What a command is called, without what differs from run to run; None if the event is none."""
    if event != "subprocess.Popen":
        return None
    program, *words = [os.fsdecode(word) for word in arguments[1]][:3]
    return re.sub(r"(-guard)-\d+", r"\1", " ".join([os.path.basename(program), *words]))


def progress(draft: str, path: str) -> str:
    """How far a switch or an upgrade has come, from the draft that is about to take its record's place."""
    if "/switches/" not in path and not path.endswith("/record.json"):
        return ""
    with open(draft, encoding="utf-8") as file:
        record = json.load(file)
    return f" ({record['status']}{', held' if record.get('held_until') else ''})"


def fill(paths: list[str]) -> None:
    """Leave no free byte on the file systems of these paths."""
    for path in paths:
        handle = os.open(f"{path}/.full", os.O_CREAT | os.O_WRONLY)
        for size in (65536, 4096, 1):
            with contextlib.suppress(OSError):
                while True:
                    os.write(handle, b"\0" * size)
        os.close(handle)


class Hook:
    """Counts the steps that were taken since the fault was planned, and acts before the planned one.

    That is the one with the number `step`, or the first one whose name contains `named`.
    """

    def __init__(self, plan: dict[str, Any], taken: int) -> None:
        self.plan = plan
        self.steps = taken
        self.busy = False

    def __call__(self, event: str, arguments: tuple[Any, ...]) -> None:
        if self.busy or event not in EVENTS:
            return
        self.busy = True
        try:
            name = name_of(event, arguments)
            if name:
                self.steps += 1
                with open(TRACE, "a", encoding="utf-8") as file:
                    file.write(f"{name}\n")
                if self.steps == self.plan["step"] or self.plan.get("named", "\n") in name:
                    self.act(name)
        finally:
            self.busy = False

    def act(self, step: str) -> None:
        """Do what is planned; `tell` and `hold` write the step's name to a file or device first."""
        with contextlib.suppress(FileNotFoundError):
            os.remove(PLAN)
        if self.plan["act"] == "kill":
            os.kill(os.getpid(), signal.SIGKILL)
        elif self.plan["act"] == "fill":
            fill(self.plan["paths"])
        elif self.plan["act"] in ("hold", "tell"):
            with open(self.plan.get("to", HELD), "w", encoding="utf-8") as file:
                file.write(f"{step}\n")
        if self.plan["act"] == "hold":
            deadline = time.monotonic() + HOLD_SECONDS
            while not os.path.exists(GO) and time.monotonic() < deadline:
                time.sleep(0.05)


GUARD = "systemd-run --quiet --unit"


class Shortage:
    """Refuses the commands of a transaction for some seconds, as a kernel does that has no process left.

    The commands of a program count from the guard of its transaction on. One that is repeated, such as a poll or
    another try, counts once, because how often it is repeated differs from run to run.
    """

    def __init__(self, plan: dict[str, Any], taken: list[str]) -> None:
        self.plan = plan
        self.taken = taken
        self.begun = False
        self.until = 0.0

    def __call__(self, event: str, arguments: tuple[Any, ...]) -> None:
        name = command_of(event, arguments)
        self.begun = self.begun or name == GUARD
        if name is None or not self.begun:
            return
        if [name] != self.taken[-1:]:
            self.take(name)
        if time.monotonic() < self.until:
            raise OSError(errno.EAGAIN, os.strerror(errno.EAGAIN))

    def take(self, name: str) -> None:
        self.taken.append(name)
        with open(TRACE, "a", encoding="utf-8") as file:
            file.write(f"{name}\n")
        if len(self.taken) == self.plan["step"]:
            os.remove(PLAN)
            self.until = time.monotonic() + self.plan["seconds"]


def install() -> None:
    """Listen if there is a plan; the steps of earlier programs are in the trace."""
    try:
        with open(PLAN, encoding="utf-8") as file:
            plan = json.load(file)
    except (FileNotFoundError, ValueError):
        return
    taken: list[str] = []
    with contextlib.suppress(FileNotFoundError), open(TRACE, encoding="utf-8") as file:
        taken = file.read().splitlines()
    sys.addaudithook(Shortage(plan, taken) if plan["act"] == "refuse" else Hook(plan, len(taken)))


install()
