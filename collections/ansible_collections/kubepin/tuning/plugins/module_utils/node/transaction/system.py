# SPDX-License-Identifier: GPL-3.0-or-later
"""Access to a node's files, the kubelet's service and its health, and the lock that allows one run at a time."""

from __future__ import annotations

import contextlib
import fcntl
import http.client
import os
import re
import signal
import time
import typing as t
import urllib.error
import urllib.request

from ansible_collections.kubepin.tuning.plugins.module_utils.common.errors import TuningError
from ansible_collections.kubepin.tuning.plugins.module_utils.common.layout import HOME
from ansible_collections.kubepin.tuning.plugins.module_utils.common.problem import Problem
from ansible_collections.kubepin.tuning.plugins.module_utils.common.switch import problems
from ansible_collections.kubepin.tuning.plugins.module_utils.node.commands import Run
from ansible_collections.kubepin.tuning.plugins.module_utils.node.transaction.files import Files, make_directory
from ansible_collections.kubepin.tuning.plugins.module_utils.node.transaction.room import Room, room_of

LOCK = os.path.join(HOME, "lock")

LOCK_SECONDS = 30
"""How long a run waits for the lock: longer than a guard takes to start a kubelet that starts."""

_LOCK_PAUSE_SECONDS = 0.2

_FLOCK = re.compile(r": FLOCK +ADVISORY +WRITE +(?P<pid>\d+) +\S+:(?P<inode>\d+) ", re.ASCII)
"""A lock that is held: a line of one that is waited for has an arrow before FLOCK."""

_GUARD_PROGRAM = "flock"
_GUARD_UNIT = "kubepin-guard-"

LAST_RESORT_SECONDS = 30
"""How long a transaction that failed tries to start the kubelet; after that, the guard does."""

_LAST_RESORT_PAUSE_SECONDS = 1

_END_SECONDS = 10
"""How long a process has to end after a signal; a kubelet ends at once after SIGTERM."""

_END_PAUSE_SECONDS = 0.1

_PATIENT = ["--property", "Restart=on-failure", "--property", "RestartSec=5"]
"""A guard that cannot start its commands tries again, as systemd starts it (systemd.service(5))."""

_INIT = 1
"""The parent of a service's main process."""

_ENDED = ("Z", "X")
"""States of processes that have ended (proc(5), /proc/PID/stat)."""


_LOG_BYTES = 1024 * 1024
"""How much of the end of a log file is read."""

_KLOG = re.compile(r"[IWEF](\d\d)(\d\d) (\d\d):(\d\d):(\d\d)\.", re.ASCII)
"""Month, day and local time of a line of the kubelet's log (k8s.io/klog/v2, formatHeader)."""


def log_lines_since(text: str, seconds: float) -> t.List[str]:
    """The lines of a kubelet's log from the first one that is not older than that time (seconds since 1970) on."""
    since = time.localtime(seconds)[1:6]
    lines = text.splitlines()
    for number, line in enumerate(lines):
        match = _KLOG.match(line)
        if match and tuple(map(int, match.groups())) >= since:
            return lines[number:]
    return []


class Node(Files):
    """Files and the kubelet's systemd service of the machine that this runs on.

    :param run: as `commands.runner` makes it
    :param log_file: the file that the kubelet logs to; None if it logs to the journal of the service
    """

    def __init__(self, run: Run, service: str = "kubelet", log_file: t.Optional[str] = None) -> None:
        self._run = run
        self._service = service
        self._log_file = log_file
        self._stopped = False
        """Whether the kubelet was stopped here since the guard was set up."""

    @contextlib.contextmanager
    def guarded(self, may_be_down: bool = False) -> t.Iterator[None]:
        """A transaction that stops the kubelet; the caller must hold `NodeLock`.

        However it ends, the kubelet runs afterwards, or systemd is about to start it. A transient unit waits for that
        lock, which the kernel releases even if this process is killed, and then starts the kubelet; it tries again if it
        cannot. It is removed only once the kubelet was seen running. Creating it needs no daemon-reload.

        :param may_be_down: whether an interrupted transaction may have left the kubelet stopped
        :raises TuningError: if systemd refuses the unit; nothing was stopped then
        """
        guard = f"{_GUARD_UNIT}{os.getpid()}"
        refusal = self._start_guard(guard)
        if refusal is not None:
            if may_be_down:
                self.start_anyway()
            raise TuningError(problems.guard_refused(guard, refusal))
        self._stopped = may_be_down
        try:
            yield
        finally:
            if not self._stopped or self.start_anyway():
                with contextlib.suppress(TuningError):  # it then finds that there is nothing to start
                    self._run(["systemctl", "stop", guard])

    def _start_guard(self, name: str) -> t.Optional[str]:
        """Why systemd does not start it, None if it does. Old versions do not take the properties."""
        start = [_GUARD_PROGRAM, LOCK, "systemctl", "start", self._service]
        refusal: t.Optional[str] = None
        for properties in (_PATIENT, []):
            try:
                code, _out, err = self._run(["systemd-run", "--quiet", "--unit", name, *properties, *start])
            except TuningError as exc:
                return str(exc)
            if code == 0:
                return None
            refusal = err.strip()
        return refusal

    def start_anyway(self) -> bool:
        """Last resort: start the kubelet if it does not run, and try again for `LAST_RESORT_SECONDS`.

        Whatever settings are in place, a running kubelet is better than a stopped one.

        :returns: whether it was seen running
        """
        deadline = self.monotonic() + LAST_RESORT_SECONDS
        while not self._is_running():
            try:
                self.start_kubelet()
            except TuningError:
                if self.monotonic() > deadline:
                    return False
                self.sleep(_LAST_RESORT_PAUSE_SECONDS)
            else:
                return self._is_running()
        return True

    def _is_running(self) -> bool:
        try:
            state = self.service_state()
        except TuningError:
            return False
        return state.get("ActiveState") == "active" and state.get("MainPID", "0") != "0"

    def stop_kubelet(self) -> float:
        """Stop the service and check that it is down.

        :returns: when it was asked to stop, by the monotonic clock in seconds
        :raises TuningError: if it still runs
        """
        pid = self.service_state()["MainPID"]
        asked_at = self.monotonic()
        self._stopped = True
        self._systemctl("stop")
        if os.path.exists(f"/proc/{pid}") and pid != "0":
            state = self.service_state()
            raise TuningError(problems.kubelet_not_stopped(self._service, state["ActiveState"], pid))
        return asked_at

    def end_kubelet(self) -> None:
        """End the service's processes by a signal: the way for a machine that can start no command.

        systemd then starts the service again if its unit says so, as kubeadm's does (Restart=always), and else the
        guard does once the transaction has ended.

        :raises TuningError: if a process is still there
        """
        self._stopped = True
        left = self._processes()
        for number in (signal.SIGTERM, signal.SIGKILL):
            for pid in left:
                self._signal(pid, number)
            deadline = self.monotonic() + _END_SECONDS
            while left and self.monotonic() < deadline:
                self.sleep(_END_PAUSE_SECONDS)
                left = left & self._processes()
        if left:
            raise TuningError(problems.kubelet_not_ended(self._service, min(left)))

    def _processes(self) -> t.Set[int]:
        """The main process of the service, and what else of it init has for a child, found without a command."""
        return {int(name) for name in os.listdir("/proc") if name.isdigit() and self._is_of_service(name)}

    def _is_of_service(self, pid: str) -> bool:
        """By its control group, or by its name, because a kubelet can move itself to another group (kubeletCgroups).

        Kubelets in containers have another parent.
        """
        try:
            stat, groups = (self.read(f"/proc/{pid}/{name}") or "" for name in ("stat", "cgroup"))
        except OSError:
            return False
        name, _, fields = stat.partition("(")[2].rpartition(") ")  # PID (NAME) STATE PARENT ...
        state, parent = [*fields.split(), "X", "0"][:2]
        if state in _ENDED or int(parent) != _INIT:
            return False
        return name == self._service or any(
            group.endswith(f"/{self._service}.service") for group in groups.splitlines()
        )

    def _signal(self, pid: int, number: int) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, number)

    def start_kubelet(self) -> None:
        """Start the service, even if systemd gave up on it; does not check whether it stays up."""
        try:
            self._systemctl("start")
        except TuningError:
            self._systemctl("reset-failed")
            self._systemctl("start")

    def remove_guards(self) -> None:
        """Remove the guards of runs that were killed, if the kubelet runs."""
        if self._is_running():
            for verb in ("stop", "reset-failed"):
                with contextlib.suppress(TuningError):
                    self._run(["systemctl", verb, f"{_GUARD_UNIT}*"])

    def read_changed_units(self) -> None:
        """Run `systemctl daemon-reload` if systemd reports that the service's files changed since it loaded them."""
        _code, out, _err = self._run(["systemctl", "show", self._service, "-p", "NeedDaemonReload"])
        if "NeedDaemonReload=yes" in out.splitlines():
            code, _out, err = self._run(["systemctl", "daemon-reload"])
            if code != 0:
                raise TuningError(problems.systemctl_failed("systemctl daemon-reload", err))

    def _systemctl(self, verb: str) -> None:
        code, _out, err = self._run(["systemctl", verb, self._service])
        if code != 0:
            raise TuningError(problems.systemctl_failed(f"systemctl {verb} {self._service}", err))

    def allowed_cpus(self, unit: str) -> str:
        """AllowedCPUs= of a unit according to systemd; empty if there is none, or systemd does not answer."""
        _code, out, _err = self._run(["systemctl", "show", unit, "-p", "AllowedCPUs"])
        return out.strip().partition("AllowedCPUs=")[2]

    def set_allowed_cpus(self, unit: str, cpus: str) -> None:
        """Set AllowedCPUs= of a unit until the next boot; empty for none, which does not widen a running unit.

        It takes effect at once, without a daemon-reload (systemd src/core/dbus-unit.c, bus_unit_set_properties, and
        src/core/dbus-cgroup.c). A value written to the cgroup itself would not last: systemd overwrites it
        whenever a pod with exclusive CPUs starts (src/core/cgroup.c, cgroup_context_apply).

        :raises TuningError: if systemd refuses
        """
        command = ["systemctl", "set-property", "--runtime", unit, f"AllowedCPUs={cpus}"]
        code, _out, err = self._run(command)
        if code != 0:
            raise TuningError(problems.unit_refused(" ".join(command), err))

    def restart_if_running(self, service: str) -> None:
        """:raises TuningError: if it does not start again"""
        code, _out, err = self._run(["systemctl", "try-restart", service])
        if code != 0:
            raise TuningError(problems.service_not_restarted(service, err))

    def main_pid(self, service: str) -> t.Optional[int]:
        """The main process of a service; None if it has none."""
        code, out, _err = self._run(["systemctl", "show", service, "-p", "MainPID"])
        pid = out.strip().partition("MainPID=")[2] if code == 0 else ""
        return int(pid) if pid.isdigit() and pid != "0" else None

    def service_state(self) -> t.Dict[str, str]:
        """ActiveState, SubState, MainPID and NRestarts of the service, as systemd words them."""
        code, out, err = self._run(
            [
                "systemctl",
                "show",
                self._service,
                "-p",
                "ActiveState",
                "-p",
                "SubState",
                "-p",
                "MainPID",
                "-p",
                "NRestarts",
            ]
        )
        if code != 0:
            raise TuningError(problems.systemctl_failed(f"systemctl show {self._service}", err))
        return dict(line.split("=", 1) for line in out.splitlines() if "=" in line)

    def healthy(self, url: str) -> bool:
        """Whether the kubelet's health endpoint answers; ignores the environment's proxies."""
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        try:
            with opener.open(url, timeout=2) as answer:
                return bool(answer.status == 200)
        except (urllib.error.URLError, http.client.HTTPException, OSError):
            return False

    def log_since(self, seconds: float) -> t.List[str]:
        """The kubelet's messages since that time (of `time()`), oldest first."""
        if self._log_file is not None:
            return log_lines_since(self._tail(self._log_file), seconds)
        _code, out, _err = self._run(
            ["journalctl", "--unit", self._service, "--no-pager", "--output", "cat", "--since", f"@{seconds:.6f}"]
        )
        return out.splitlines()

    def _tail(self, path: str) -> str:
        try:
            with open(path, "rb") as file:
                file.seek(max(0, os.fstat(file.fileno()).st_size - _LOG_BYTES))
                return file.read().decode("utf-8", "replace")
        except OSError:
            return ""

    def room(self, path: str) -> Room:
        """What the file system of a path still has."""
        return room_of(path)

    def boot_id(self) -> str:
        """Identifies this boot of the machine: times of `monotonic` are comparable within it only."""
        return (self.read("/proc/sys/kernel/random/boot_id") or "").strip()

    def time(self) -> float:
        """Seconds since 1970, for people and logs: the clock may be wrong, and be corrected at any moment."""
        return time.time()

    def monotonic(self) -> float:
        return time.monotonic()

    def sleep(self, seconds: float) -> None:
        time.sleep(seconds)


class NodeLock:
    """Lets one run at a time use the node; a context manager."""

    def __enter__(self) -> None:
        """Wait for whoever has the lock: most often a run that is about to end, or the guard that starts the kubelet.

        :raises TuningError: if it is not free within `LOCK_SECONDS`, with who has it; nothing was changed
        """
        deadline = time.monotonic() + LOCK_SECONDS
        self._open()
        while not self._is_taken():
            if time.monotonic() >= deadline:
                problem = _held_lock(self._file)
                self._file.close()
                raise TuningError(problem)
            time.sleep(_LOCK_PAUSE_SECONDS)

    def _open(self) -> None:
        try:
            make_directory(HOME, mode=0o700)
            self._file = open(LOCK, "w", encoding="utf-8")  # noqa: SIM115 - closed with the lock
        except OSError as exc:
            raise TuningError(problems.lock_not_writable(LOCK, str(exc.strerror))) from exc

    def _is_taken(self) -> bool:
        """Whether the lock is ours: one on a file that an uninstallation has removed meanwhile locks nothing."""
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        with contextlib.suppress(FileNotFoundError):
            if os.path.samestat(os.fstat(self._file.fileno()), os.stat(LOCK)):
                return True
        self._file.close()
        self._open()
        return False

    def __exit__(self, *_exc: object) -> None:
        self._file.close()


def _held_lock(file: t.IO[str]) -> Problem:
    """That the lock is not free, with the process that has it if the kernel tells (proc(5), /proc/locks)."""
    wanted = os.fstat(file.fileno())
    with contextlib.suppress(OSError), open("/proc/locks", encoding="utf-8") as locks:
        for line in locks:
            match = _FLOCK.search(line)
            if match and int(match["inode"]) == wanted.st_ino and _has_open(match["pid"], wanted):
                return _held_by(match["pid"])
    return problems.node_locked(LOCK, LOCK_SECONDS)


def _has_open(pid: str, wanted: os.stat_result) -> bool:
    """Whether the process has this file open: numbers of inodes are unique within a file system only."""
    folder = f"/proc/{pid}/fd"
    for name in os.listdir(folder):
        with contextlib.suppress(OSError):
            if os.path.samestat(os.stat(f"{folder}/{name}"), wanted):
                return True
    return False


def _held_by(pid: str) -> Problem:
    with open(f"/proc/{pid}/cmdline", encoding="utf-8", errors="replace") as file:
        command = file.read().rstrip("\0").split("\0")
    if os.path.basename(command[0]) == _GUARD_PROGRAM:
        return problems.guard_starts_kubelet(LOCK, LOCK_SECONDS, pid)
    return problems.node_locked(LOCK, LOCK_SECONDS, f"PID {pid}, `{' '.join(command)}`")
