# SPDX-License-Identifier: GPL-3.0-or-later
"""What a node knows of its running containers with a GPU. Read-only: runs programs only to read, and opens no device.
With cgroup v2, a process of its own enters a container's cgroup for a moment, to ask the kernel for its device rules.

The control node decodes and diagnoses it (`control/gpu_access/loss.py`).
"""

from __future__ import annotations

import glob
import json
import os
import select
import signal
import stat
import time
import typing as t

from ansible_collections.kubepin.tuning.plugins.module_utils.node.readers.container_runtime import Machine, Report

DEVICES_CGROUP = "/sys/fs/cgroup/devices"
UNIFIED_CGROUPS = "/sys/fs/cgroup"

_ANSWER_SECONDS = 5

_RELOADED = ("Reloading.", "Reloading...", "Reexecuting.", "Reexecuting...")
"""The messages that systemd (219 to 257) logs when it reloads its units."""
_UNIT_STARTED = "39f53479d3a045ac8e11786248231fbf"
"""SD_MESSAGE_UNIT_STARTED (systemd, sd-messages.h)."""


class ContainerReader:
    """Reads the running containers of one machine."""

    def __init__(self, machine: Machine, endpoint: t.Optional[str], service: str) -> None:
        """:param endpoint: the container runtime's socket; None if unknown
        :param service: the systemd service that runs the kubelet
        """
        self._machine = machine
        self._endpoint = endpoint
        self._service = service

    def sources(self, patterns: t.Sequence[str]) -> Report:
        """What `control/gpu_access/loss.py` decodes.

        :param patterns: of the GPUs' device files, below /dev
        """
        listed = self._crictl("ps", "-q") if self._endpoint else None
        names = listed["output"].split() if listed and listed["code"] == 0 else []
        containers = [self._container(name, patterns) for name in names]
        return {"read_at": time.time(), "listed": listed, "containers": containers}

    def _container(self, name: str, patterns: t.Sequence[str]) -> Report:
        """One container; `devices` is null if they could not be read, and `error` says what ended the reading."""
        answer = self._crictl("inspect", "-o", "json", name)
        inspected = _excerpt(answer["output"])
        found: Report = {"id": name, "answer": _without_output(answer), "devices": None, "error": None}
        pid = _at(inspected, "pid")
        if answer["code"] != 0 or not isinstance(pid, int) or pid <= 0:
            return {**found, "inspected": inspected}
        try:
            found["devices"] = self._devices(pid, patterns)
            if found["devices"]:
                found.update(self._traces(pid, found["devices"]), inspected=inspected)
        except (OSError, ValueError, IndexError) as exc:
            found["error"] = str(exc)
        return found

    def _traces(self, pid: int, devices: t.Sequence[Report]) -> Report:
        """What a process tells of its start, its device rules, and what happened since."""
        started, hosts_dev = self._started(pid), self._has_hosts_dev(pid)
        return {
            "started": started,
            "hosts_dev": hosts_dev,
            "rules": None if hosts_dev else self._rules(pid, devices),
            "journal": self._journal(started),
        }

    def _devices(self, pid: int, patterns: t.Sequence[str]) -> t.List[Report]:
        top = self._machine.path(f"/proc/{pid}/root")
        devices = []
        for path in sorted({path for pattern in patterns for path in glob.glob(f"{glob.escape(top)}/dev/{pattern}")}):
            status = os.lstat(path)
            if stat.S_ISCHR(status.st_mode):
                major, minor = os.major(status.st_rdev), os.minor(status.st_rdev)
                link = os.path.exists(self._machine.path(f"/dev/char/{major}:{minor}"))
                devices.append({"path": path[len(top) :], "major": major, "minor": minor, "link": link})
        return devices

    def _rules(self, pid: int, devices: t.Sequence[Report]) -> Report:
        """The `path` of the cgroup's device rules, and their `text`, or the `error` that keeps it from being read.

        cgroup v2 has no such text, so `usable` says there which of the devices the cgroup allows.
        """
        with open(self._machine.path(f"/proc/{pid}/cgroup"), encoding="utf-8") as file:
            lines = [line.rstrip("\n").split(":", 2) for line in file]
        folder = next((path for _unused, controllers, path in lines if "devices" in controllers.split(",")), None)
        if folder is None:
            unified = next((path for number, _unused, path in lines if number == "0"), "")
            return self._unified_rules(f"{UNIFIED_CGROUPS}{unified}", pid, devices)
        path = f"{DEVICES_CGROUP}{folder}/devices.list"
        try:
            with open(self._machine.path(path), encoding="utf-8") as file:
                return {"path": path, "text": file.read(), "error": None}
        except OSError as exc:
            return {"path": path, "text": None, "error": exc.strerror}

    def _unified_rules(self, path: str, pid: int, devices: t.Sequence[Report]) -> Report:
        found: Report = {"path": path, "text": None, "error": None, "usable": None}
        folder = self._machine.path(path)
        try:
            with open(f"{folder}/cgroup.freeze", encoding="utf-8") as file:
                if file.read().strip() == "1":
                    return {**found, "error": "the container is frozen"}
            nodes = [self._machine.path(f"/proc/{pid}/root{device['path']}") for device in devices]
            usable = usable_in_cgroup(folder, nodes)
        except OSError as exc:
            return {**found, "error": exc.strerror or str(exc)}
        return {**found, "usable": {device["path"]: may for device, may in zip(devices, usable)}}

    def _has_hosts_dev(self, pid: int) -> bool:
        machine = self._machine
        return os.stat(machine.path(f"/proc/{pid}/root/dev")).st_dev == os.stat(machine.path("/dev")).st_dev

    def _started(self, pid: int) -> float:
        """When the process started, in seconds since 1970 (proc(5))."""
        with open(self._machine.path(f"/proc/{pid}/stat"), encoding="utf-8") as file:
            ticks = int(file.read().rpartition(")")[2].split()[19])
        booted = time.time() - time.clock_gettime(time.CLOCK_BOOTTIME)
        return booted + ticks / os.sysconf("SC_CLK_TCK")

    def _journal(self, since: float) -> Report:
        """Messages of systemd: the last one `before`, and since then `reloads` of its units and `starts` of the
        kubelet.

        The last one before needs `--reverse`: up to systemd 253, `--until` with `--lines` answers nothing if there are
        later messages (systemd/systemd#26657).
        """
        after = f"--since=@{since:.6f}"
        reloads = (f"MESSAGE={text}" for text in _RELOADED)
        return {
            "before": self._times("--reverse", f"--until=@{since:.6f}", "-n", "1", "_PID=1"),
            "reloads": self._times(after, "_PID=1", *reloads),
            "starts": self._times(after, "_PID=1", f"UNIT={self._service}.service", f"MESSAGE_ID={_UNIT_STARTED}"),
        }

    def _times(self, *arguments: str) -> Report:
        """What `journalctl` answers, with the `times` of its lines instead of them; null if a line has none."""
        answer = self._machine.answer("journalctl", "-q", "--no-pager", "-o", "json", *arguments)
        return {**_without_output(answer), "times": _times(answer["output"])}

    def _crictl(self, *arguments: str) -> Report:
        endpoint = self._endpoint or ""
        socket = endpoint if "://" in endpoint else f"unix://{endpoint}"
        return self._machine.answer("crictl", "--runtime-endpoint", socket, *arguments)


def usable_in_cgroup(folder: str, nodes: t.Sequence[str]) -> t.List[bool]:
    """Whether processes of a cgroup may read and write device nodes, as far as the cgroup decides it.

    A child enters the cgroup, asks with access(2), and ends: the kernel asks the cgroup's device program without opening
    the device (Linux, fs/namei.c, inode_permission).

    :param folder: of the cgroup, of version 2
    :raises OSError: if the child cannot enter it, or the node's own cgroup does not allow a device
    """
    if not all(os.access(node, os.R_OK | os.W_OK) for node in nodes):
        raise OSError(f"the node itself may not use one of {', '.join(nodes)}")
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            with open(f"{folder}/cgroup.procs", "w", encoding="utf-8") as file:
                file.write(str(os.getpid()))
            os.write(writing, bytes(os.access(node, os.R_OK | os.W_OK) for node in nodes))
        finally:
            os._exit(0)
    os.close(writing)
    ready = select.select([reading], [], [], _ANSWER_SECONDS)[0]
    answer = os.read(reading, len(nodes)) if ready else b""
    os.close(reading)
    if not ready:
        os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    if len(answer) != len(nodes):
        raise OSError(f"no process can enter {folder}")
    return [bool(value) for value in answer]


def _without_output(answer: Report) -> Report:
    """The answer without the output of a success."""
    return {**answer, "output": ""} if answer["code"] == 0 else answer


def _times(output: str) -> t.Optional[t.List[float]]:
    """The times of a journal's lines, in seconds since 1970; None if a line has none."""
    try:
        return [int(json.loads(line)["__REALTIME_TIMESTAMP"]) / 1e6 for line in output.splitlines() if line]
    except (ValueError, TypeError, KeyError, RecursionError, OverflowError):
        return None


def _excerpt(text: str) -> t.Any:
    """The parts that matter of what `crictl inspect` prints, without the container's environment, which may hold secrets;
    null if it is no JSON, as is each part that is not there."""
    try:
        answer = json.loads(text)
        packed = _at(answer, "info", "info")
        # not every crictl unpacks the text that the runtime packs this into
        info = json.loads(packed) if isinstance(packed, str) else _at(answer, "info")
    except (ValueError, RecursionError):
        return None
    specification = _at(info, "runtimeSpec")
    return {
        "labels": _at(answer, "status", "labels"),
        **{name: _at(info, name) for name in ("pid", "runtimeType", "runtimeOptions")},
        "runtimeSpec": {
            "mounts": _at(specification, "mounts"),
            "cgroupsPath": _at(specification, "linux", "cgroupsPath"),
            "devices": _at(specification, "linux", "resources", "devices"),
        }
        if specification
        else None,
    }


def _at(tree: t.Any, *path: str) -> t.Any:
    for name in path:
        tree = tree.get(name) if isinstance(tree, dict) else None
    return tree
