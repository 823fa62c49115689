# SPDX-License-Identifier: GPL-3.0-or-later
"""Reads the facts that `diagnose` needs from a node. Read-only: runs programs only to read, and opens no device."""

from __future__ import annotations

import glob
import json
import os
import stat
import time
import typing as t

from ansible_collections.kubepin.tuning.plugins.module_utils.common.gpu_access.diagnosis import (
    Container,
    Device,
    Rule,
    diagnose,
    moment,
    parse_rules,
    specified_rules,
)
from ansible_collections.kubepin.tuning.plugins.module_utils.common.gpu_access.node import Node, with_facts
from ansible_collections.kubepin.tuning.plugins.module_utils.node.readers.container_runtime import (
    RUNC_SHIMS,
    Handler,
    Reader,
    Run,
    Unknown,
)

Report = t.Dict[str, t.Any]

SCHEMA = 1
DEVICES_CGROUP = "/sys/fs/cgroup/devices"

_LABEL = "io.kubernetes."
_RELOADED = ("Reloading.", "Reloading...", "Reexecuting.", "Reexecuting...")
"""The messages that systemd (219 to 257) logs when it reloads its units."""
_UNIT_STARTED = "39f53479d3a045ac8e11786248231fbf"
"""SD_MESSAGE_UNIT_STARTED (systemd, sd-messages.h)."""


class LossReader:
    """Reads one machine."""

    def __init__(self, run: Run, kubelet: Report, root: str = "/") -> None:
        """:param kubelet: what kubelet_info returns
        :param root: where the machine's files are
        """
        self._run = run
        self._kubelet = kubelet
        self._root = root
        self._unknown: t.List[str] = []

    def report(self, patterns: t.Sequence[str]) -> Report:
        """The report that the module gpu_loss_info documents.

        :param patterns: of the GPUs' device files, below /dev
        """
        state = self._kubelet["state"]["cpu_manager"]
        policy = state["policy"] or self._kubelet["effective"]["cpuManagerPolicy"]
        facts = {"kubelet_version": self._kubelet["version"], "cpu_manager_policy": policy}
        node = with_facts(Node(), "this node", {key: value for key, value in facts.items() if value})
        found: t.List[Report] = []
        read = 0
        for name in self._containers():
            try:
                inspected = self._inspect(name)
                pid = self._pid(inspected)
                devices = self._devices(pid, patterns)
                read += 1
                if devices:
                    found.append(diagnose(self._container(name, inspected, pid, devices, node)))
            except (Unknown, OSError) as why:
                self._unknown.append(f"container {name[:13]}: {why}")
        runtime = self._kubelet["runtime"]
        return {
            "schema": SCHEMA,
            **facts,
            "runtime": runtime["name"],
            "cgroup_version": self._kubelet["cgroup"]["version"],
            "containers_read": read,
            "containers": found,
            "unknown": self._unknown,
            "read_at": moment(time.time()),
        }

    def _containers(self) -> t.List[str]:
        try:
            return self._crictl("ps", "-q").split()
        except Unknown as why:
            self._unknown.append(f"all containers: {why}")
            return []

    def _inspect(self, name: str) -> Report:
        try:
            answer: Report = json.loads(self._crictl("inspect", "-o", "json", name))
            packed = answer["info"].get("info")
            # not every crictl unpacks the text that the runtime packs this into
            return {**answer, "info": json.loads(packed)} if isinstance(packed, str) else answer
        except (ValueError, KeyError, AttributeError) as error:
            raise Unknown(f"`crictl inspect` answers in another form: {error}") from error

    def _pid(self, inspected: Report) -> int:
        pid = inspected["info"].get("pid")
        if not isinstance(pid, int) or pid <= 0:
            raise Unknown("`crictl inspect` names no process (info.pid)")
        return pid

    def _devices(self, pid: int, patterns: t.Sequence[str]) -> t.List[Device]:
        top = self._path(f"/proc/{pid}/root")
        devices = []
        for path in sorted({path for pattern in patterns for path in glob.glob(f"{glob.escape(top)}/dev/{pattern}")}):
            status = os.lstat(path)
            if stat.S_ISCHR(status.st_mode):
                major, minor = os.major(status.st_rdev), os.minor(status.st_rdev)
                link = os.path.exists(self._path(f"/dev/char/{major}:{minor}"))
                devices.append(Device(path[len(top) :], major, minor, link))
        return devices

    def _container(self, name: str, inspected: Report, pid: int, devices: t.Sequence[Device], node: Node) -> Container:
        labels = inspected["status"].get("labels") or {}
        pod_uid, own_name = labels.get(f"{_LABEL}pod.uid", ""), labels.get(f"{_LABEL}container.name", "")
        started = self._started(pid)
        hosts = self._hosts_devices(pid)
        allowed, not_read = (None, hosts) if hosts else self._allowed(pid)
        specification = inspected["info"].get("runtimeSpec")
        resources = ((specification or {}).get("linux") or {}).get("resources") or {}
        entries = self._kubelet["state"]["cpu_manager"]["entries"]
        reloads, starts = self._journal(started)
        return Container(
            namespace=labels.get(f"{_LABEL}pod.namespace", ""),
            pod=labels.get(f"{_LABEL}pod.name", ""),
            name=own_name,
            id=name,
            started=started,
            devices=devices,
            allowed=allowed,
            not_read=not_read,
            specified=specified_rules(resources.get("devices") or []) if specification else None,
            exclusive=None if entries is None else own_name in (entries.get(pod_uid) or {}),
            node=self._stack(inspected, node),
            reloads=reloads,
            kubelet_starts=starts,
            mounts=[mount.get("destination", "") for mount in (specification or {}).get("mounts") or []],
        )

    def _stack(self, inspected: Report, node: Node) -> Node:
        """*node* with this container's runc and cgroup driver."""
        info = inspected["info"]
        path = (((info.get("runtimeSpec") or {}).get("linux") or {}).get("cgroupsPath")) or ""
        # systemd's form is slice:prefix:name (opencontainers/runc, docs/systemd.md)
        driver = ("systemd" if path.count(":") == 2 else "cgroupfs") if path else None
        node = node._replace(cgroup_driver=driver)
        reader = Reader(self._run, self._root)
        if "runtimeType" not in info:
            facts = reader.report(self._kubelet["runtime"]["name"], None, [])
            version = facts["runc_version"]
        else:
            options = info.get("runtimeOptions") or {}
            is_runc = info["runtimeType"] in RUNC_SHIMS
            program = options.get("binary_name") or options.get("BinaryName") or ("runc" if is_runc else None)
            try:
                version = reader.runc_version(Handler("of this container", program, driver))
            except Unknown:
                version = None
        return with_facts(node, "this node", {"runc_version": version}) if version else node

    def _allowed(self, pid: int) -> t.Tuple[t.Optional[t.List[Rule]], str]:
        with open(self._path(f"/proc/{pid}/cgroup"), encoding="utf-8") as file:
            lines = [line.rstrip("\n").split(":", 2) for line in file]
        folder = next((path for _unused, controllers, path in lines if "devices" in controllers.split(",")), None)
        if folder is None:
            return None, "cgroup v2 keeps device rules in an eBPF program, which nobody can read back as rules"
        path = f"{DEVICES_CGROUP}{folder}/devices.list"
        try:
            with open(self._path(path), encoding="utf-8") as file:
                return parse_rules(file.read()), ""
        except OSError as error:
            return None, f"{path} cannot be read: {error.strerror}"

    def _hosts_devices(self, pid: int) -> str:
        """Why the device nodes in this container prove nothing: its /dev is the host's."""
        same = os.stat(self._path(f"/proc/{pid}/root/dev")).st_dev == os.stat(self._path("/dev")).st_dev
        return "the host's /dev is mounted, so what it sees was not meant for it by itself" if same else ""

    def _started(self, pid: int) -> t.Optional[float]:
        with open(self._path(f"/proc/{pid}/stat"), encoding="utf-8") as file:
            ticks = int(file.read().rpartition(")")[2].split()[19])
        booted = time.time() - time.clock_gettime(time.CLOCK_BOOTTIME)
        return booted + ticks / os.sysconf("SC_CLK_TCK")

    def _journal(self, since: t.Optional[float]) -> t.Tuple[t.Optional[t.List[float]], t.Optional[t.List[float]]]:
        """When systemd reloaded its units, and when the kubelet started; None if the journal does not reach back."""
        if since is None:
            return None, None
        try:
            if not self._lines(f"--until=@{since:.6f}", "-n", "1", "_PID=1"):
                return None, None
            reloads = self._lines(f"--since=@{since:.6f}", "_PID=1", *(f"MESSAGE={text}" for text in _RELOADED))
            unit = f"UNIT={self._kubelet['service']['name']}.service"
            starts = self._lines(f"--since=@{since:.6f}", "_PID=1", unit, f"MESSAGE_ID={_UNIT_STARTED}")
        except Unknown as why:
            if str(why) not in self._unknown:
                self._unknown.append(str(why))
            return None, None
        return reloads, starts

    def _lines(self, *arguments: str) -> t.List[float]:
        output = self._output("journalctl", "-q", "--no-pager", "-o", "json", *arguments)
        return [int(json.loads(line)["__REALTIME_TIMESTAMP"]) / 1e6 for line in output.splitlines() if line]

    def _crictl(self, *arguments: str) -> str:
        endpoint = self._kubelet["runtime"]["endpoint"] or ""
        if not endpoint:
            raise Unknown("the kubelet's container runtime has no known socket")
        socket = endpoint if "://" in endpoint else f"unix://{endpoint}"
        return self._output("crictl", "--runtime-endpoint", socket, *arguments)

    def _output(self, program: str, *arguments: str) -> str:
        return Reader(self._run, self._root).output(program, *arguments)

    def _path(self, path: str) -> str:
        return os.path.join(self._root, path.lstrip("/"))
