# SPDX-License-Identifier: GPL-3.0-or-later
"""A node for tests of the transaction, whose kubelet follows the rules of a real one that matter there."""

from __future__ import annotations

import errno
import json
import os
from pathlib import PurePosixPath
from typing import Callable, NoReturn

from ansible_collections.kubepin.tuning.plugins.module_utils.common.cpuset import format_cpuset
from ansible_collections.kubepin.tuning.plugins.module_utils.common.kubelet.flags import flag_path
from ansible_collections.kubepin.tuning.plugins.module_utils.common.layout import HOME
from ansible_collections.kubepin.tuning.plugins.module_utils.common.problem import Problem
from ansible_collections.kubepin.tuning.plugins.module_utils.common.switch.system_daemons import (
    DROP_INS,
    UNITS,
    allowed_cpus,
)
from ansible_collections.kubepin.tuning.plugins.module_utils.node.commands import runner
from ansible_collections.kubepin.tuning.plugins.module_utils.node.transaction.files import NEW, draft_path, is_draft
from ansible_collections.kubepin.tuning.plugins.module_utils.node.transaction.journal import SWITCHES
from ansible_collections.kubepin.tuning.plugins.module_utils.node.transaction.room import Room
from ansible_collections.kubepin.tuning.plugins.module_utils.node.transaction.system import Node

ENV, STATE = "/etc/default/kubelet", "/var/lib/kubelet/cpu_manager_state"
OLD = "KUBELET_EXTRA_ARGS=\n"
_FIRST_PID = 5_000_000
"""Above every pid_max, so that /proc of this machine has nothing of it."""
IRQBALANCE_PID = _FIRST_PID - 1
_EARLIER = ("/etc/kubernetes/admin.conf", "/etc/systemd/system/kubelet.service", f"{HOME}/lock", f"{SWITCHES}/1.json")
"""Files whose folders are there from the beginning."""
_RESTART_SECONDS = 10
"""The RestartSec of kubeadm's unit."""


def state_of(policy: str) -> str:
    """The state file of a kubelet with this policy."""
    return json.dumps({"policyName": policy, "defaultCpuSet": "0-1" if policy == "static" else "", "checksum": 0})


class PowerCut(BaseException):
    """The machine dies: nothing after this runs."""


class SimulatedNode(Node):
    """Files in memory, and a systemd whose kubelet boots only if its state file suits its settings.

    All else is the node of the module: it stops, starts, watches and guards the kubelet with the same commands.
    """

    def __init__(self) -> None:
        super().__init__(runner(self._run_command, self.sleep, self.monotonic))
        self.files: dict[str, str] = {ENV: OLD, STATE: state_of("none")}
        self.folders = {str(parent) for path in (*self.files, *_EARLIER) for parent in PurePosixPath(path).parents}
        self.running = True
        self.starts = 1
        self.boots = 1
        self.clock = 0.0
        self.date = 1_700_000_000.0
        self.log: list[str] = []
        self.fails_with: str | None = None
        self.fails_under = "static"
        """The policy with which the kubelet fails, if `fails_with` says how."""
        self.steps: list[str] = []
        self.power_cut_at: int | None = None
        self.guards: list[str] = []
        self.commands: list[list[str]] = []
        self.cannot_fork: Callable[[int], int | None] = lambda _number: None
        """Number of a command, from 1 -> the error with which it is not started."""
        self.problems: dict[str, list[Problem]] = {}
        self.full: Callable[[str], bool] = lambda _path: False
        """Whether the file system of a path has no room: nothing can be written there, and renames and removals can be done."""
        self.free = 1 << 30
        """What its one file system says that it has, in bytes."""
        self.allowed_cpus_of: dict[str, str] = {}
        """Unit -> AllowedCPUs=, as systemd has it."""
        self.refused_units: set[str] = set()
        """The units whose properties systemd does not set."""
        self.restarted_with: str | None = None
        """The environment with which irqbalance was started again."""
        self.irqbalance_runs = False
        self.irqbalance_ignores_file = False
        self._irqbalance_execs_at = 0.0
        self.restarts = True
        """Whether systemd starts a kubelet anew that has ended by itself (Restart=always)."""
        self._restart_at: float | None = None
        self._dead = False

    @property
    def policy(self) -> str:
        return "static" if "static" in (self.files.get(ENV) or "") else "none"

    def _step(self, name: str) -> None:
        self._alive()
        self.steps.append(name)
        if len(self.steps) == self.power_cut_at:
            self.cut_power()

    def cut_power(self) -> NoReturn:
        """Whatever the process does from now on, it does no more: see `power_on`."""
        self._dead = True
        raise PowerCut

    def _alive(self) -> None:
        if self._dead:
            raise PowerCut

    # Files

    def read(self, path: str) -> str | None:
        self._alive()
        if path == f"/proc/{IRQBALANCE_PID}/environ":
            has_file = self.clock >= self._irqbalance_execs_at and not self.irqbalance_ignores_file
            return "\0".join(["HOME=/", *(self.restarted_with or "").splitlines()] if has_file else ["HOME=/"])
        return f"boot-{self.boots}\n" if path.endswith("/boot_id") else self.files.get(path)

    def names(self, directory: str) -> list[str]:
        return [path.rsplit("/", 1)[1] for path in self.files if path.startswith(f"{directory}/")]

    def names_below(self, directory: str) -> list[str]:
        return sorted(path for path in self.files if path.startswith(f"{directory}/"))

    def content(self, path: str) -> bytes:
        return self.files[path].encode()

    def exists(self, path: str) -> bool:
        return path in self.files

    def remove_empty_folders(self, directory: str) -> None:
        """Of kubepin's own: they are not simulated."""

    def remove_folder(self, path: str) -> bool:
        if path in self.folders and not any(PurePosixPath(path) in PurePosixPath(file).parents for file in self.files):
            self._step(f"rmdir {path}")
            self.folders.remove(path)
        return path not in self.folders

    def missing_folders(self, path: str) -> list[str]:
        return [folder for parent in PurePosixPath(path).parents if (folder := str(parent)) not in self.folders]

    def obstacles(self, path: str, removes: bool = False) -> list[Problem]:
        return self.problems.get(path, [])

    def room(self, path: str) -> Room:
        return Room("/", block=4096, free=self.free, free_inodes=None)

    def replace(self, path: str, text: str, mode: int = 0o644) -> None:
        for folder in reversed(self.missing_folders(path)):
            self._step(f"mkdir {folder}")
            self.folders.add(folder)
        self._step(f"write {path}")
        if self.full(path):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        if is_draft(path.rsplit("/", 1)[1]):
            self.files[path] = text
        else:
            self.files[draft_path(path, NEW)] = text
            self.place_draft(path, NEW)

    def draft(self, path: str, text: str, name: str, mode: int = 0o644) -> None:
        self.replace(draft_path(path, name), text, mode)

    def place_draft(self, path: str, name: str) -> None:
        self._step(f"place {path}")
        self.files[path] = self.files.pop(draft_path(path, name))

    def read_draft(self, path: str, name: str) -> str | None:
        return self.read(draft_path(path, name))

    def remove_draft(self, path: str, name: str) -> None:
        self.remove(draft_path(path, name))

    @property
    def drafts(self) -> list[str]:
        return [path for path in self.files if path.endswith(".kubepin")]

    def remove(self, path: str) -> None:
        if path in self.files:
            self._step(f"remove {path}")
            assert not (path == STATE and self.running), "a state file was removed under a running kubelet"
            del self.files[path]

    # systemd

    def _run_command(
        self, argv: list[str], handle_exceptions: bool, expand_user_and_vars: bool
    ) -> tuple[int, str, str]:
        assert not handle_exceptions, "would end the process on an error"
        assert not expand_user_and_vars, "would change an argument"
        self._alive()
        self.commands.append(argv)
        number = self.cannot_fork(len(self.commands))
        if number:
            raise OSError(number, os.strerror(number))
        if argv[0] == "systemd-run":
            self.guards.append(argv[argv.index("--unit") + 1])
        elif argv[:2] == ["systemctl", "set-property"]:
            self._step(f"set-property {argv[3]}")
            if argv[3] in self.refused_units:
                return 1, "", f"Failed to set unit properties on {argv[3]}: Access denied\n"
            self._set_allowed_cpus(argv[3], argv[4].partition("=")[2])
        elif argv[:2] == ["systemctl", "try-restart"]:
            self._step(f"restart {argv[2]}")
            self.restarted_with = self.files.get("/etc/default/irqbalance")
            self._irqbalance_execs_at = self.clock + 0.3  # systemd answers before
        elif argv[:2] == ["systemctl", "show"] and argv[2] in UNITS:
            return 0, f"AllowedCPUs={self.allowed_cpus_of.get(argv[2], '')}\n", ""
        elif argv[:3] == ["systemctl", "show", "irqbalance.service"]:
            return 0, f"MainPID={IRQBALANCE_PID if self.irqbalance_runs else 0}\n", ""
        elif argv[:2] == ["systemctl", "show"]:
            return 0, "".join(f"{name}={value}\n" for name, value in self._shown().items()), ""
        elif argv[:2] == ["systemctl", "stop"] and argv[2] in self.guards:
            self.guards.remove(argv[2])
        elif argv[:2] == ["systemctl", "stop"] and argv[2].endswith("*"):
            self.guards = []
        elif argv[:2] == ["systemctl", "stop"]:
            self._step("stop")
            self.running, self._restart_at = False, None
        elif argv[:2] == ["systemctl", "start"]:
            self._step("start")
            self.boot()
        elif argv[0] == "journalctl":
            return 0, "\n".join(self.log), ""
        return 0, "", ""

    def add_control_groups(self) -> None:
        """Of a machine with cgroup v2 and the CPUs 0 and 1, on which system daemons have all of them."""
        self.files["/sys/devices/system/cpu/possible"] = self.files["/sys/fs/cgroup/cpuset.cpus.effective"] = "0-1\n"
        for unit in UNITS:
            folder = f"/sys/fs/cgroup/{unit}"
            self.files.update({folder: "", f"{folder}/cpuset.cpus.effective": "0-1\n"})

    def _set_allowed_cpus(self, unit: str, cpus: str) -> None:
        """As systemd does, which does not change the cgroup if there are none (systemd/systemd#43846)."""
        self.allowed_cpus_of[unit] = cpus
        folder = f"/sys/fs/cgroup/{unit}"
        if cpus and folder in self.files:
            self.files[f"{folder}/cpuset.cpus.effective"] = f"{cpus}\n"

    def _shown(self) -> dict[str, str]:
        if self.running:
            pid = str(_FIRST_PID + self.starts)
            return {"ActiveState": "active", "SubState": "running", "MainPID": pid, "NRestarts": "0"}
        return {"ActiveState": "activating", "SubState": "auto-restart", "MainPID": "0", "NRestarts": "0"}

    def _processes(self) -> set[int]:
        return {_FIRST_PID + self.starts} if self.running else set()

    def _signal(self, pid: int, number: int) -> None:
        self._step("signal")
        self.running = False
        if self.restarts:
            self._restart_at = self.clock + _RESTART_SECONDS

    def boot(self) -> None:
        """What systemd and the kubelet do at a start."""
        self.running, self._restart_at = False, None
        if self.fails_with and self.policy == self.fails_under:
            self.log.append(self.fails_with)
            return
        config_dir = flag_path(["kubelet", *self.files.get(ENV, "").partition("=")[2].split()], "config-dir")
        if config_dir is not None and config_dir not in self.folders:
            self.log.append(f"failed to walk through kubelet dropin directory {config_dir!r}")
            return
        if STATE in self.files and json.loads(self.files[STATE])["policyName"] != self.policy:
            self.log.append(f'configured policy "{self.policy}" differs from state checkpoint policy')
            return
        self.files[STATE] = state_of(self.policy)
        self.running = True
        self.starts += 1

    def power_on(self) -> None:
        """The machine starts anew, after a power cut too: monotonic clock and process numbers begin again."""
        self._dead, self.power_cut_at = False, None
        self.guards, self.clock = [], 0.0
        if f"/sys/fs/cgroup/{UNITS[0]}" in self.files:
            self.add_control_groups()
            for unit, path in DROP_INS.items():
                self._set_allowed_cpus(unit, format_cpuset(allowed_cpus(self.files.get(path))))
        self.starts -= 1
        self.boots += 1
        self.boot()

    def module_ends(self) -> None:
        """The kernel frees the node's lock: the guards that are left start the kubelet, if systemd does not."""
        if (self.guards or self._restart_at is not None) and not self.running:
            self.boot()
        self.guards = []

    def healthy(self, url: str) -> bool:
        self._alive()
        return self.running

    def time(self) -> float:
        return self.date + self.clock

    def monotonic(self) -> float:
        return self.clock

    def sleep(self, seconds: float) -> None:
        self._alive()
        self.clock += seconds
        if self._restart_at is not None and self.clock >= self._restart_at:
            self.boot()


def lasting(first: int, error: int = errno.EAGAIN) -> Callable[[int], int | None]:
    """From the command of this number on, none can be started."""
    return lambda number: error if number >= first else None


def only(*numbers: int) -> Callable[[int], int | None]:
    """The commands of these numbers find no program, as on a file system that has gone."""
    return lambda number: errno.ENOENT if number in numbers else None
