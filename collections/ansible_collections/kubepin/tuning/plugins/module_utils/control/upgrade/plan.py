# SPDX-License-Identifier: GPL-3.0-or-later
"""Pure: from the state of a cluster and a request, the steps of an upgrade, or everything that prevents it.

The state of each node is read from the nodes and the API every time, so an interrupted run can simply be repeated.
"""

from __future__ import annotations

import re
import typing as t
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field

from ansible_collections.kubepin.tuning.plugins.module_utils.common.problem import Problem, to_dicts
from ansible_collections.kubepin.tuning.plugins.module_utils.common.versions import (
    Version,
    VersionError,
    choose_target,
    parse_version,
    path_between,
)
from ansible_collections.kubepin.tuning.plugins.module_utils.control.upgrade.problems import batch_invalid, no_batches
from ansible_collections.kubepin.tuning.plugins.module_utils.control.upgrade.problems import version as version_problem
from ansible_collections.kubepin.tuning.plugins.module_utils.control.upgrade.rules import (
    RULES,
    UpgradeContext,
    notes,
)

Data = Mapping[str, t.Any]

SCHEMA = 3
"""Since 2, problems are objects."""
PREPARE, APPLY, NODE = "prepare", "apply", "node"
"""What a step does: back up the present state and fetch the new version, on all nodes, because `apply` rolls out
kube-proxy and CoreDNS to them; `kubeadm upgrade apply` on the first control plane node; or upgrade a node's own
configuration and kubelet."""


@dataclass(frozen=True)
class UpgradeRequest:
    """The operator's request."""

    target: str | None = None
    patches: Mapping[str, str] = field(default_factory=dict)
    batches: Sequence[int | str] = (1,)
    accept: Sequence[str] = ()
    images_from_registry: bool = True
    certificate_days: int = 7
    disk_reserve_mb: int = 500


@dataclass(frozen=True)
class Step:
    """What hosts do at the same time; the next step begins when all of them are done."""

    version: str
    action: str
    hosts: list[str]


@dataclass(frozen=True)
class UpgradePlan:
    """The steps, or the problems that prevent them."""

    current: str
    target: str
    versions: list[str] = field(default_factory=list)
    steps: list[Step] = field(default_factory=list)
    problems: list[Problem] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    position: list[dict[str, t.Any]] = field(default_factory=list)
    first_control_plane: str | None = None
    """The host that runs `kubeadm upgrade apply`; all others run `kubeadm upgrade node`."""

    def to_dict(self) -> dict[str, t.Any]:
        """The plan as in the fact `kubepin_upgrade_plan`."""
        return {"schema": SCHEMA, **asdict(self), "problems": to_dicts(self.problems)}


def server_version(cluster: Data) -> Version:
    """The version of the newest API server: while an upgrade is in progress, the others may be older."""
    return max(parse_version(version) for version in (cluster["api_server"], *cluster["api_servers"].values()))


def plan_versions(cluster: Data, request: UpgradeRequest) -> tuple[Version, Version, list[Version]]:
    """The cluster's version, the target version, and the versions on the upgrade path.

    The first is the API server's own version if an earlier run left nodes, or kubeadm's last tasks, unfinished.

    :raises VersionError: for a target or an upgrade path that does not exist
    """
    server = server_version(cluster)
    target = choose_target(server, request.target)
    behind = _unfinished(cluster, server)
    if target <= server:
        return server, server, [server] if behind else []
    versions = path_between(server, target, request.patches)
    if behind and versions[0].line > server.line:
        versions.insert(0, server)
    return server, target, versions


def _unfinished(cluster: Data, server: Version) -> bool:
    """Whether an upgrade to the API server's version was started but not finished."""
    recorded = [*cluster["api_servers"].values(), cluster["kubeadm"].get("kubernetesVersion"), cluster["kube_proxy"]]
    return any(version is not None and parse_version(version) < server for version in recorded) or any(
        node["in_progress"] or parse_version(node["kubelet"]) < server for node in cluster["nodes"]
    )


def plan_upgrade(cluster: Data, hosts: Mapping[str, Data], request: UpgradeRequest) -> UpgradePlan:
    """The plan of a whole run.

    :param cluster: as `UpgradeApi.cluster` returns it
    :param hosts: host of the run -> `{node, facts, error, configz_error}`: its name in the API, the facts of
        kubeadm_node_info or an empty dictionary, why it is empty, and why its running configuration could not be read
    """
    try:
        server, target, versions = plan_versions(cluster, request)
    except VersionError as error:
        version = cluster["api_server"].lstrip("v")
        return UpgradePlan(
            version, request.target or version, problems=[version_problem(each) for each in error.problems]
        )
    position = _position(cluster, hosts)
    plan = UpgradePlan(
        str(server),
        str(target),
        [str(version) for version in versions],
        position=position,
        first_control_plane=next(
            (place["host"] for place in position if place["control_plane"] and place["host"]), None
        ),
    )
    if request.target and parse_version(request.target) < server:
        plan.notes.append(f"the cluster is at {server}, above the requested {request.target}: it is left alone")
    if not versions:
        return plan
    context = UpgradeContext(
        cluster, hosts, versions, request.images_from_registry, request.certificate_days, request.disk_reserve_mb
    )
    for rule in RULES:
        for problem in rule(context):
            if problem.waivable and problem.code in request.accept:
                plan.notes.append(f"accepted ({problem.code}): {problem.text}")
            else:
                plan.problems.append(problem)
    plan.notes.extend(notes(context))
    plan.steps.extend(_steps(cluster, hosts, versions, request.batches, plan.first_control_plane))
    return plan


def _position(cluster: Data, hosts: Mapping[str, Data]) -> list[dict[str, t.Any]]:
    """The present version of each node."""
    host_of = {entry["node"]: (host, entry["facts"] or {}) for host, entry in hosts.items()}
    position = []
    for node in sorted(cluster["nodes"], key=lambda node: (not node["control_plane"], node["name"])):
        host, facts = host_of.get(node["name"], (None, {}))
        position.append(
            {
                "node": node["name"],
                "host": host,
                "control_plane": node["control_plane"],
                "api_server": (cluster["api_servers"].get(node["name"]) or "").lstrip("v") or None,
                "kubelet": node["kubelet"].lstrip("v"),
                "kubeadm": (facts.get("versions") or {}).get("kubeadm"),
                "kubectl": (facts.get("versions") or {}).get("kubectl"),
                "in_progress": node["in_progress"],
                "cordoned": node["unschedulable"] and not node["in_progress"],
                "policy": (facts.get("tuning") or {}).get("cpuManagerPolicy"),
                "reserved": (facts.get("tuning") or {}).get("reservedSystemCPUs"),
                "gpu": node["gpu"],
            }
        )
    return position


def _steps(
    cluster: Data,
    hosts: Mapping[str, Data],
    versions: Sequence[Version],
    batches: Sequence[int | str],
    first: str | None,
) -> list[Step]:
    nodes = {node["name"]: node for node in cluster["nodes"]}
    known = {host: entry for host, entry in sorted(hosts.items()) if entry["node"] in nodes}
    control_plane = [host for host, entry in known.items() if nodes[entry["node"]]["control_plane"]]
    control_plane.sort(key=lambda host: host != first)
    steps: list[Step] = []
    for version in versions:
        if first and _needs_apply(cluster, known[first], version):
            steps += [Step(str(version), PREPARE, list(known)), Step(str(version), APPLY, [first])]
        waiting = [host for host in known if _needs_node(cluster, nodes[known[host]["node"]], version)]
        steps.extend(Step(str(version), NODE, [host]) for host in control_plane if host in waiting)
        workers = [host for host in waiting if host not in control_plane]
        steps.extend(Step(str(version), NODE, batch) for batch in in_batches(workers, batches))
    return steps


def _needs_apply(cluster: Data, first: Data, version: Version) -> bool:
    """Whether `kubeadm upgrade apply` has not finished yet: its last tasks are kubeadm-config and kube-proxy."""
    manifests = (first["facts"] or {}).get("manifests") or {}
    components = [manifests.get(f"kube-{name}") for name in ("apiserver", "controller-manager", "scheduler")]
    seen = [
        *components,
        cluster["api_servers"].get(first["node"]),
        cluster["kubeadm"].get("kubernetesVersion"),
        cluster["kube_proxy"],
    ]
    return any(one is not None and parse_version(one) < version for one in seen)


def _needs_node(cluster: Data, node: Data, version: Version) -> bool:
    server = cluster["api_servers"].get(node["name"])
    return bool(
        node["in_progress"]
        or parse_version(node["kubelet"]) < version
        or (server is not None and parse_version(server) < version)
    )


def batch_problems(sizes: Sequence[object]) -> list[Problem]:
    """What is wrong with the batch sizes; nothing if `in_batches` accepts them."""
    if not sizes:
        return [no_batches()]
    return [
        batch_invalid(size)
        for size in sizes
        if not re.fullmatch(r"[1-9][0-9]*|(100|[1-9]?[0-9])(\.[0-9]+)?%", str(size))
    ]


def in_batches(hosts: Sequence[str], sizes: Sequence[int | str]) -> list[list[str]]:
    """Hosts in batches as Ansible's `serial` would form them: numbers or percentages, the last one repeated."""
    batches: list[list[str]] = []
    rest = list(hosts)
    for index in range(len(hosts)):
        if not rest:
            break
        size = sizes[min(index, len(sizes) - 1)]
        text = str(size)
        count = int(len(hosts) * float(text[:-1]) / 100) if text.endswith("%") else int(text)
        count = max(1, count)
        batches.append(rest[:count])
        rest = rest[count:]
    return batches
