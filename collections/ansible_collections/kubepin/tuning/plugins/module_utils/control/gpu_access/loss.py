# SPDX-License-Identifier: GPL-3.0-or-later
"""The running containers of a node that have lost their GPU, decoded from what the node sent
(`node/readers/gpu_access.py`)."""

from __future__ import annotations

import typing as t
from dataclasses import dataclass
from functools import cached_property

from ansible_collections.kubepin.tuning.plugins.module_utils.common.errors import TuningError
from ansible_collections.kubepin.tuning.plugins.module_utils.control.gpu_access import problems
from ansible_collections.kubepin.tuning.plugins.module_utils.control.gpu_access.container_runtime import (
    RUNC_SHIMS,
    adds_devices,
    default_runc_version,
    runc_version,
)
from ansible_collections.kubepin.tuning.plugins.module_utils.control.gpu_access.diagnosis import (
    Container,
    Device,
    Rule,
    diagnose,
    moment,
    parse_rules,
    specified_rules,
)
from ansible_collections.kubepin.tuning.plugins.module_utils.control.gpu_access.document import Table, Unknown
from ansible_collections.kubepin.tuning.plugins.module_utils.control.gpu_access.node import Node, with_facts
from ansible_collections.kubepin.tuning.plugins.module_utils.control.gpu_access.programs import Answer, Programs
from ansible_collections.kubepin.tuning.plugins.module_utils.control.node_call import Call

Facts = dict[str, t.Any]
Data = t.Mapping[str, t.Any]

SCHEMA = 1
_LABEL = "io.kubernetes."
_ORIGIN = "`crictl inspect`"
_YEAR_10000 = 253_402_300_800
"""In seconds since 1970; no calendar goes beyond."""


@dataclass(frozen=True)
class KubeletOfNode:
    """What the diagnosis needs to know of the kubelet."""

    version: str | None
    policy: str | None
    """The CPU manager's, from its state file, or without one, from the settings."""
    exclusive: frozenset[tuple[str, str]] | None
    """UID of the pod and name of each container with exclusive CPUs; None if the state file is not known."""
    service: str
    runtime: str
    endpoint: str | None
    cgroup_version: int | None
    start_problem: Data | None
    """Why the kubelet does not run or does not stay up."""

    @classmethod
    def of(cls, kubelet: Data) -> KubeletOfNode:
        """:param kubelet: what kubelet_info returns

        :raises TuningError: if it is something else
        """
        try:
            state = kubelet["state"]["cpu_manager"]
            entries = state["entries"]
            return cls(
                version=kubelet["version"],
                policy=state["policy"] or kubelet["effective"]["cpuManagerPolicy"],
                exclusive=None
                if entries is None
                else frozenset((uid, name) for uid in entries for name in entries[uid]),
                service=kubelet["service"]["name"],
                runtime=kubelet["runtime"]["name"],
                endpoint=kubelet["runtime"]["endpoint"],
                cgroup_version=kubelet["cgroup"]["version"],
                start_problem=kubelet.get("start_problem"),
            )
        except (KeyError, TypeError) as error:
            raise TuningError(problems.kubelet_facts_invalid(str(error))) from error


@dataclass(frozen=True)
class Inspected:
    """What the container runtime says of a container."""

    labels: Table
    runtime_type: str | None
    """The shim that runs it; None if the runtime has no shims, as CRI-O."""
    program: str | None
    """The OCI runtime that its options name."""
    specification: Table | None

    @classmethod
    def of(cls, value: t.Any) -> Inspected:
        """:param value: what the node took from its answer

        :raises Unknown: if the answer has another form
        """
        if value is None:
            raise Unknown(f"{_ORIGIN} answers in another form")
        top = Table.of(_ORIGIN, value)
        if (top.number("pid") or 0) <= 0:
            raise Unknown(f"{_ORIGIN} names no process (info.pid)")
        options = top.table("runtimeOptions")
        return cls(
            labels=top.table("labels"),
            runtime_type=None if top.values.get("runtimeType") is None else top.text("runtimeType"),
            program=options.text("binary_name") or options.text("BinaryName") or None,
            specification=top.table("runtimeSpec") if top.values.get("runtimeSpec") else None,
        )

    def label(self, name: str) -> str:
        """A label of Kubernetes; empty if the container does not have it."""
        return self.labels.text(f"{_LABEL}{name}")

    @property
    def cgroup_driver(self) -> str | None:
        """systemd's form of a cgroup is slice:prefix:name (opencontainers/runc, docs/systemd.md)."""
        path = self.specification.text("cgroupsPath") if self.specification else ""
        return ("systemd" if path.count(":") == 2 else "cgroupfs") if path else None


def loss_facts(call: Call, kubelet: Data, patterns: t.Sequence[str]) -> Facts:
    """The facts that the module gpu_loss_info documents.

    :param kubelet: what kubelet_info returns
    :param patterns: of the GPUs' device files, below /dev
    :raises TuningError: if *kubelet* is something else
    :raises ModuleFailed: if the node cannot be read at all
    """
    known = KubeletOfNode.of(kubelet)
    arguments = {"devices": list(patterns), "service": known.service, "endpoint": known.endpoint}
    sources = call("gpu_containers_info", {name: value for name, value in arguments.items() if value is not None})[
        "sources"
    ]
    return _Report(call, known).facts(sources)


class _Report:
    def __init__(self, call: Call, kubelet: KubeletOfNode) -> None:
        self._call = call
        self._kubelet = kubelet
        self._programs = Programs(call)
        self._unknown: list[str] = []

    def facts(self, sources: Data) -> Facts:
        kubelet = self._kubelet
        known = {"kubelet_version": kubelet.version, "cpu_manager_policy": kubelet.policy}
        node = with_facts(Node(), "this node", {key: value for key, value in known.items() if value})
        self._check_list(sources["listed"])
        found: list[Facts] = []
        for data in sources["containers"]:
            try:
                container = self._container(data, node)
            except Unknown as why:
                self._unknown.append(f"container {data['id'][:13]}: {why}")
            else:
                found += [diagnose(container)] if container else []
        return {
            "schema": SCHEMA,
            **known,
            "runtime": kubelet.runtime,
            "cgroup_version": kubelet.cgroup_version,
            "containers_read": sum(data["devices"] is not None for data in sources["containers"]),
            "containers": found,
            "unknown": self._unknown,
            "kubelet_problem": kubelet.start_problem,
            "read_at": moment(sources["read_at"]),
        }

    def _check_list(self, listed: Data | None) -> None:
        try:
            if listed is None:
                raise Unknown("the kubelet's container runtime has no known socket")
            Answer.of(listed).text()
        except Unknown as why:
            self._unknown.append(f"all containers: {why}")

    def _container(self, data: Data, node: Node) -> Container | None:
        """The container; None if it sees no GPU."""
        Answer.of(data["answer"]).text()
        if data["error"]:
            raise Unknown(data["error"])
        if data["devices"] == []:
            return None
        inspected = Inspected.of(data["inspected"])
        devices = [Device(**device) for device in data["devices"]]
        specification = inspected.specification
        pod_uid, name = inspected.label("pod.uid"), inspected.label("container.name")
        exclusive = self._kubelet.exclusive
        allowed, not_read = (
            (None, "the host's /dev is mounted, so what it sees was not meant for it by itself")
            if data["hosts_dev"]
            else _allowed(data["rules"], devices)
        )
        reloads, starts = self._journal(data["journal"])
        return Container(
            namespace=inspected.label("pod.namespace"),
            pod=inspected.label("pod.name"),
            name=name,
            id=data["id"],
            started=data["started"],
            devices=devices,
            allowed=allowed,
            not_read=not_read,
            specified=None if specification is None else specified_rules(specification.tables("devices")),
            exclusive=None if exclusive is None else (pod_uid, name) in exclusive,
            node=self._stack(inspected, node),
            reloads=reloads,
            kubelet_starts=starts,
            tried=bool(data["rules"] and data["rules"].get("usable")),
            mounts=[mount.text("destination") for mount in specification.tables("mounts")] if specification else [],
            completed=self._is_completed(inspected),
        )

    def _is_completed(self, inspected: Inspected) -> bool | None:
        """Whether the container's OCI runtime adds devices to the specification; None if that is not known."""
        try:
            return bool(inspected.program) and adds_devices(inspected.program or "", self._programs)
        except Unknown:
            return None

    def _stack(self, inspected: Inspected, node: Node) -> Node:
        """*node* with this container's runc and cgroup driver."""
        node = node._replace(cgroup_driver=inspected.cgroup_driver)
        version = self._runc_version(inspected)
        return with_facts(node, "this node", {"runc_version": version}) if version else node

    def _runc_version(self, inspected: Inspected) -> str | None:
        if inspected.runtime_type is None:
            return self._default_runc
        program = inspected.program or ("runc" if inspected.runtime_type in RUNC_SHIMS else None)
        try:
            return runc_version(program, self._programs) if program else None
        except Unknown:
            return None

    @cached_property
    def _default_runc(self) -> str | None:
        """The version of the runc that the configuration of the runtime names; None if it is not certain."""
        arguments = {"runtime": self._kubelet.runtime, "gpu_device_paths": []}
        sources = self._call("container_runtime_info", arguments)["sources"]
        try:
            return default_runc_version(sources, self._programs)
        except Unknown:
            return None

    def _journal(self, journal: Data) -> tuple[list[float] | None, list[float] | None]:
        """When systemd reloaded its units, and when the kubelet started; None if the journal does not reach back."""
        try:
            if not _times(journal["before"]):
                return None, None
            return _times(journal["reloads"]), _times(journal["starts"])
        except Unknown as why:
            if str(why) not in self._unknown:
                self._unknown.append(str(why))
            return None, None


def _allowed(rules: Data, devices: t.Sequence[Device]) -> tuple[t.Any, str]:
    """The rules of a container's cgroup, or why they are not known.

    cgroup v2 keeps them in an eBPF program that nobody can read back: those of the devices that were tried stand for it.
    """
    usable = rules.get("usable")
    if usable is not None:
        return [Rule("c", device.major, device.minor, "rw") for device in devices if usable[device.path]], ""
    if rules["text"] is None:
        return None, f"{rules['path']} cannot be read: {rules['error']}"
    return parse_rules(rules["text"]), ""


def _times(answer: Data) -> list[float]:
    Answer.of(answer).text()
    times: list[float] | None = answer["times"]
    if times is None or not all(0 <= second < _YEAR_10000 for second in times):
        raise Unknown(f"`{' '.join(answer['command'])}` answers in another form")
    return times
