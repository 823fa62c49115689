# SPDX-License-Identifier: GPL-3.0-or-later
"""Everything that can prevent an upgrade, each rule a pure function from facts to findings."""

from __future__ import annotations

import re
import typing as t
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from ansible_collections.kubepin.tuning.plugins.module_utils.common.problem import Problem
from ansible_collections.kubepin.tuning.plugins.module_utils.common.upgrade.flags import WITHOUT_EFFECT, flag_names
from ansible_collections.kubepin.tuning.plugins.module_utils.common.versions import Version, parse_version
from ansible_collections.kubepin.tuning.plugins.module_utils.control.kubelet.decode import ROOT
from ansible_collections.kubepin.tuning.plugins.module_utils.control.kubelet.fields import FIELDS
from ansible_collections.kubepin.tuning.plugins.module_utils.control.kubelet.running import Difference, same
from ansible_collections.kubepin.tuning.plugins.module_utils.control.kubelet.settings import MANAGED
from ansible_collections.kubepin.tuning.plugins.module_utils.control.upgrade import problems
from ansible_collections.kubepin.tuning.plugins.module_utils.control.upgrade.removed_apis import sort_requests
from ansible_collections.kubepin.tuning.plugins.module_utils.control.upgrade.removed_settings import (
    ADMISSION_PLUGINS,
    FLAGS,
    GATES,
    KUBEADM_APIS,
)
from ansible_collections.kubepin.tuning.plugins.module_utils.control.upgrade.static_pods import (
    ALWAYS_SINCE,
    GATE,
    PREVENTED_SINCE,
)

Data = Mapping[str, t.Any]

_CONTAINERD = ((26, (1, 6, 15)), (32, (1, 6, 36)), (34, (1, 6, 39)), (35, (1, 7, 28)), (36, (2, 2, 0)))
"""Minor -> the lowest containerd release for it and later minors (containerd.io/releases, and CRI v1 for 1.26)."""

_REGISTRY_MOVED = {20: 99, 21: 99, 22: 17, 23: 15, 24: 9}
"""Minor -> the first patch release whose kubeadm uses registry.k8s.io instead of k8s.gcr.io
(kubernetes/kubernetes#113388, #113393, #113395)."""


_EVENTS_UNLIMITED_SINCE = 37
"""The first minor version of 1.x in which `eventRecordQPS: 0` means no limit; before, it means client-go's default
(kubernetes/kubernetes#117119)."""


_OF_THE_NODE = ("containerRuntimeEndpoint", "resolvConf")
"""Fields that kubeadm writes for each node (kubernetes/kubernetes: cmd/kubeadm/app/componentconfigs/kubelet.go Mutate, and
cmd/kubeadm/app/phases/kubelet/config.go WriteInstanceConfigToDisk)."""
_SET_BY_KUBEADM = (
    "authentication",
    "authorization",
    "cgroupDriver",
    "clusterDNS",
    "clusterDomain",
    "healthzBindAddress",
    "healthzPort",
    "rotateCertificates",
    "staticPodPath",
)
"""Fields that kubeadm sets if the ConfigMap does not (kubernetes/kubernetes: cmd/kubeadm/app/componentconfigs/kubelet.go
Default)."""


@dataclass(frozen=True)
class UpgradeContext:
    """The input of the rules.

    *cluster* is as `UpgradeApi.cluster` returns it, *hosts* is as `plan_upgrade` takes it, *versions* are the versions on the
    upgrade path.
    """

    cluster: Data
    hosts: Mapping[str, Data]
    versions: Sequence[Version]
    images_from_registry: bool
    certificate_days: int
    disk_reserve_mb: int

    @property
    def nodes(self) -> dict[str, Data]:
        return {node["name"]: node for node in self.cluster["nodes"]}

    def crosses(self, minor: int) -> bool:
        """Whether the upgrade reaches or passes 1.*minor* from below."""
        server = parse_version(self.cluster["api_server"])
        return any(server.minor < minor <= version.minor for version in self.versions)


Findings = Iterator[Problem]


def _inventory(context: UpgradeContext) -> Findings:
    named = {host["node"] for host in context.hosts.values()}
    for name in sorted(set(context.nodes) - named):
        yield problems.not_in_run(name)
    for host, entry in sorted(context.hosts.items()):
        node = context.nodes.get(entry["node"])
        if node is None:
            yield problems.unknown_node(host, entry["node"], sorted(context.nodes))
        elif entry["facts"] and entry["facts"]["boot_id"] != node["boot_id"]:
            yield problems.other_machine(entry["node"], host, entry["facts"]["boot_id"], node["boot_id"])
    if not any(entry["facts"] and entry["facts"]["control_plane"] for entry in context.hosts.values()):
        yield problems.no_control_plane()


def _not_ready(context: UpgradeContext) -> Findings:
    for name, node in sorted(context.nodes.items()):
        if not node["ready"] and not node["in_progress"]:
            yield problems.not_ready(name, node["ready_reason"])


_WORDINGS = {"node_in_use": problems.node_in_use, "node_in_maintenance": problems.node_in_maintenance}


def _occupied(context: UpgradeContext) -> Findings:
    for _name, node in sorted(context.nodes.items()):
        for problem in map(Problem.from_dict, node["occupied"]):
            yield _WORDINGS.get(problem.code, problems.node_in_other_work)(problem)


def _skew(context: UpgradeContext) -> Findings:
    server = parse_version(context.cluster["api_server"])
    for name, node in sorted(context.nodes.items()):
        kubelet = parse_version(node["kubelet"])
        if kubelet.line > server.line:
            yield problems.kubelet_newer(name, kubelet, server)
        allowed = 2 if kubelet.minor < 25 else 3
        if server.minor - kubelet.minor > allowed:
            yield problems.kubelet_too_old(name, kubelet, allowed, server)


def _not_restarted(context: UpgradeContext) -> Findings:
    """An upgrade that fails goes back to the old kubelet with its files, so it must be known to start with them."""
    for _host, node, facts in _facts(context):
        if facts["differences"] and _is_restarted(context, node):
            yield problems.not_restarted(node, (Difference(**each) for each in facts["differences"]))


def _is_restarted(context: UpgradeContext, node: str) -> bool:
    known = context.nodes.get(node)
    return known is not None and parse_version(known["kubelet"]) < context.versions[-1]


def _certificates(context: UpgradeContext) -> Findings:
    for _host, node, facts in _facts(context):
        expiring = [
            (entry["path"], entry["days_left"])
            for entry in facts["certificates"]
            if entry["days_left"] < context.certificate_days
        ]
        if expiring:
            yield problems.certificates(node, context.certificate_days, expiring)


def _removed_apis(context: UpgradeContext) -> Findings:
    clients, _unclear = sort_requests(context.cluster["deprecated_requests"], context.versions[-1].minor)
    for request in clients:
        yield problems.removed_api_requested(_resource(request), request["removed_release"])
    for old in context.cluster["old_objects"]:
        wording = problems.removed_api_stored if old["served_in"] else problems.removed_api_without_successor
        yield wording(*(old[name] for name in ("resource", "name", "api", "writers", "removed_release")))


def notes(context: UpgradeContext) -> list[str]:
    """What may prevent the upgrade, where the available data cannot decide it."""
    _clients, unclear = sort_requests(context.cluster["deprecated_requests"], context.versions[-1].minor)
    named = {(old["api"], old["resource"]) for old in context.cluster["old_objects"]}
    requests = [
        problems.removed_api_note(_resource(request), request["removed_release"])
        for request in unclear
        if (f"{request['group']}/{request['version']}", request["resource"]) not in named
    ]
    marks = [note for _name, node in sorted(context.nodes.items()) for note in node["notes"]]
    evictions = [note for _name, drain in sorted(context.cluster["drains"].items()) for note in drain.get("notes", [])]
    unread = [
        problems.configz_unreadable(entry["node"], entry["configz_error"])
        for _host, entry in sorted(context.hosts.items())
        if entry["facts"] and entry.get("configz_error") and _is_restarted(context, entry["node"])
    ]
    events = [
        problems.events_unlimited(node)
        for _host, node, facts in _facts(context)
        if context.crosses(_EVENTS_UNLIMITED_SINCE) and facts["event_record_qps"] == 0
    ]
    return [
        *requests,
        *context.cluster["preemptions"],
        *marks,
        *evictions,
        *unread,
        *events,
        *_overwritten(context),
    ]


def _overwritten(context: UpgradeContext) -> Iterator[str]:
    """The settings of single nodes that kubeadm replaces: it writes the ConfigMap, changed by patches, over a node's file
    (kubernetes/kubernetes: cmd/kubeadm/app/phases/kubelet/config.go WriteConfigToDisk)."""
    versioned = f"kubelet-config-1.{parse_version(context.cluster['api_server']).minor}"  # before 1.24
    name = versioned if versioned in context.cluster["kubelet_fields"] else "kubelet-config"
    shared = context.cluster["kubelet_fields"].get(name)
    if not shared:
        return
    for _host, node, facts in _facts(context):
        if facts["patches_directory"] is None and _is_restarted(context, node):
            fields = [
                field for field, value in sorted(facts["config_file"].items()) if _is_replaced(field, value, shared)
            ]
            if fields:
                yield problems.config_overwritten(node, name, fields)


def _is_replaced(field: str, value: object, shared: Data) -> bool:
    """Whether the ConfigMap *shared* has another value of a field than a node. Managed settings are kept anyway."""
    if field in (*MANAGED, *_OF_THE_NODE) or field not in FIELDS[ROOT]:
        return False
    return (field in shared or field not in _SET_BY_KUBEADM) and not same(field, value, shared.get(field))


def _resource(request: Mapping[str, str]) -> str:
    return f"{request['resource']} of {request['group']}/{request['version']}"


def _cgroup_driver(context: UpgradeContext) -> Findings:
    if not context.crosses(22):
        return
    name = f"kubelet-config-1.{parse_version(context.cluster['api_server']).minor}"
    configured = context.cluster["kubelet_configs"].get(name, {}).get("cgroupDriver")
    in_use = {node: facts["cgroup"]["driver"] for _host, node, facts in _facts(context)}
    if configured is None:
        yield problems.no_cgroup_driver(name, sorted(set(in_use.values())))
        return
    for node, driver in sorted(in_use.items()):
        if driver != configured:
            yield problems.other_cgroup_driver(node, driver, name, configured)


def _dockershim(context: UpgradeContext) -> Findings:
    if context.crosses(24):
        for name, node in sorted(context.nodes.items()):
            if node["runtime"].startswith("docker:"):
                yield problems.dockershim(name, node["runtime"])


def _image_repository(context: UpgradeContext) -> Findings:
    repository = context.cluster["kubeadm"].get("imageRepository")
    for version in context.versions:
        old = version.patch < _REGISTRY_MOVED.get(version.minor, 0)
        if context.images_from_registry and old and repository == "k8s.gcr.io":
            yield problems.frozen_registry(version)


def _runtime(context: UpgradeContext) -> Findings:
    target = context.versions[-1].minor
    needed = next((version for minor, version in reversed(_CONTAINERD) if minor <= target), None)
    for name, node in sorted(context.nodes.items()):
        match = re.fullmatch(r"containerd://v?(\d+)\.(\d+)\.(\d+).*", node["runtime"])
        if needed and match and tuple(map(int, match.groups())) < needed:
            yield problems.old_containerd(name, node["runtime"], target, ".".join(map(str, needed)))


def _cgroup_v1(context: UpgradeContext) -> Findings:
    """Only the ConfigMap counts, because kubeadm overwrites the node's own file with it."""
    config = context.cluster["kubelet_configs"].get("kubelet-config", {})
    if context.crosses(35) and config.get("failCgroupV1") != "false":
        for _host, node, facts in _facts(context):
            if facts["cgroup"]["version"] == 1:
                yield problems.cgroup_v1(node)


def _kubelet_flags(context: UpgradeContext) -> Findings:
    """Flags without effect are left to the upgrade of the node, which removes them."""
    for _host, node, facts in _facts(context):
        for flag, minor in _gone(context, FLAGS, flag_names(facts["command_line"])):
            if flag not in WITHOUT_EFFECT:
                yield problems.removed_flag(node, flag, minor)


def _feature_gates(context: UpgradeContext) -> Findings:
    """No component starts with a gate that it does not know (k8s.io/component-base/featuregate). What the ConfigMap sets,
    kubeadm writes to every node, so that it is reported once."""
    shared = context.cluster["kubelet_gates"]
    for name, gates in sorted(shared.items()):
        for gate, minor in _gone(context, GATES, gates):
            yield problems.removed_gate(problems.CLUSTER, f"the ConfigMap {name}", gate, minor)
    for _host, node, facts in _facts(context):
        own = set(facts["feature_gates"]).difference(*shared.values())
        for gate, minor in _gone(context, GATES, own):
            yield problems.removed_gate(node, "the configuration of its kubelet", gate, minor)
    for component, arguments in sorted(context.cluster["arguments"].items()):
        for gate, minor in _gone(context, GATES, _names(arguments.get("feature-gates", ""))):
            yield problems.removed_gate(problems.CLUSTER, f"the feature-gates of {component}", gate, minor)


def _admission_plugins(context: UpgradeContext) -> Findings:
    arguments = context.cluster["arguments"].get("kube-apiserver", {})
    for flag in ("enable-admission-plugins", "disable-admission-plugins"):
        for plugin, minor in _gone(context, ADMISSION_PLUGINS, _names(arguments.get(flag, ""))):
            yield problems.removed_admission_plugin(flag, plugin, minor)


def _kubeadm_api(context: UpgradeContext) -> Findings:
    """Only the first kubeadm on the path reads what is there now; each writes its own newest version."""
    version = context.cluster["kubeadm"].get("apiVersion", "").rpartition("/")[2]
    removed = KUBEADM_APIS.get(version)
    if context.versions and removed is not None and removed <= context.versions[0].minor:
        yield problems.old_kubeadm_api(version, removed)


def _static_pods(context: UpgradeContext) -> Findings:
    """The kubelet admits them before, without a mirror pod in the API."""
    for _host, node, facts in _facts(context):
        first = ALWAYS_SINCE if facts["feature_gates"].get(GATE) is False else PREVENTED_SINCE
        if context.crosses(first):
            for path, references in sorted(facts["static_pod_references"].items()):
                yield problems.static_pod_references(node, path, references, first)


def _names(text: str) -> list[str]:
    """The names in a list of names, or of NAME=VALUE, separated by commas."""
    return [item.partition("=")[0].strip() for item in text.split(",")]


def _gone(context: UpgradeContext, removed: Mapping[str, int], names: Iterable[str]) -> Iterator[tuple[str, int]]:
    """Each of the names that a version on the upgrade path no longer knows, and the first minor without it."""
    newest = context.versions[-1].minor
    return ((name, removed[name]) for name in sorted(set(names)) if removed.get(name, newest + 1) <= newest)


def _drain(context: UpgradeContext) -> Findings:
    for name in sorted(context.nodes):
        drain = context.cluster["drains"].get(name) or {}
        for problem in [*drain.get("problems", []), *drain.get("blocked", [])]:
            yield problems.drain(name, Problem.from_dict(problem))


def _disk(context: UpgradeContext) -> Findings:
    for _host, node, facts in _facts(context):
        for system in facts["disk"]:
            needed = system["needed_mb"] + context.disk_reserve_mb
            if system["free_mb"] < needed:
                yield problems.disk(node, system, needed, context.disk_reserve_mb)


def _source(context: UpgradeContext) -> Findings:
    for _host, node, facts in _facts(context):
        for problem in facts["source_problems"]:
            yield problems.source(node, Problem.from_dict(problem))


def _node(context: UpgradeContext) -> Findings:
    for host, entry in sorted(context.hosts.items()):
        if not entry["facts"]:
            yield problems.node_unreadable(entry["node"], host, entry["error"])
            continue
        for problem in entry["facts"]["problems"]:
            yield problems.node_problem(entry["node"], Problem.from_dict(problem))


def _external_etcd(context: UpgradeContext) -> Findings:
    for _host, node, facts in _facts(context):
        if facts["control_plane"] and not facts["stacked_etcd"]:
            yield problems.external_etcd(node)


RULES: tuple[Callable[[UpgradeContext], Findings], ...] = (
    _inventory,
    _node,
    _not_ready,
    _occupied,
    _skew,
    _not_restarted,
    _certificates,
    _removed_apis,
    _cgroup_driver,
    _dockershim,
    _image_repository,
    _runtime,
    _cgroup_v1,
    _kubelet_flags,
    _feature_gates,
    _admission_plugins,
    _kubeadm_api,
    _static_pods,
    _drain,
    _disk,
    _source,
    _external_etcd,
)
"""The rules, in the order in which their problems are shown."""


def _facts(context: UpgradeContext) -> Iterator[tuple[str, str, Data]]:
    for host, entry in sorted(context.hosts.items()):
        if entry["facts"]:
            yield host, entry["node"], entry["facts"]
