# SPDX-License-Identifier: GPL-3.0-or-later
# Private to the collection: may change without notice.
"""Pure: everything that can stand in the way of an upgrade, each rule a function from facts to sentences."""

from __future__ import annotations

import re
import typing as t
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from ansible_collections.kubepin.tuning.plugins.module_utils.common.upgrade.flags import flag_problems
from ansible_collections.kubepin.tuning.plugins.module_utils.common.versions import Version, parse_version
from ansible_collections.kubepin.tuning.plugins.module_utils.control.upgrade.removed_apis import judged_requests

Data = Mapping[str, t.Any]

ACCEPTABLE = ("certificates", "disk", "external_etcd", "image_repository", "removed_apis", "runtime")
"""The rules that judge, and that an operator who knows better may overrule."""

_CONTAINERD = ((26, (1, 6, 15)), (32, (1, 6, 36)), (34, (1, 6, 39)), (35, (1, 7, 28)), (36, (2, 2, 0)))
"""From which minor on which containerd at least (containerd.io/releases, and CRI v1 for 1.26)."""

_REGISTRY_MOVED = {20: 99, 21: 99, 22: 17, 23: 15, 24: 9}
"""Minor -> first patch whose kubeadm takes registry.k8s.io for k8s.gcr.io (kubernetes/kubernetes#113388, #113393, #113395)."""


@dataclass(frozen=True)
class Situation:
    """What the rules look at.

    *cluster* is as `UpgradeApi.cluster` returns it, *hosts* maps hosts of this run to `{node, facts}`, *hops* are the versions
    to go through.
    """

    cluster: Data
    hosts: Mapping[str, Data]
    hops: Sequence[Version]
    images_from_registry: bool
    certificate_days: int
    disk_reserve_mb: int

    @property
    def nodes(self) -> dict[str, Data]:
        return {node["name"]: node for node in self.cluster["nodes"]}

    def crosses(self, minor: int) -> bool:
        """Whether a hop reaches or passes 1.*minor* from below."""
        server = parse_version(self.cluster["api_server"])
        return any(server.minor < minor <= hop.minor for hop in self.hops)


Found = Iterator[tuple[t.Optional[str], str]]
"""Pairs of node (None: the cluster) and sentence."""


def _inventory(s: Situation) -> Found:
    named = {host["node"] for host in s.hosts.values()}
    for name in sorted(set(s.nodes) - named):
        yield (
            name,
            "is in the cluster, but not in this run: its kubelet would be left behind, and kubeadm's next hop refuses that. Name it in "
            "the inventory (groups control_plane, gpu_nodes, other_nodes), and run without --limit.",
        )
    for host, entry in sorted(s.hosts.items()):
        node = s.nodes.get(entry["node"])
        if node is None:
            yield (
                None,
                f'host {host} is node "{entry["node"]}" in the inventory, which the cluster does not have. It has: '
                f"{', '.join(sorted(s.nodes))}. Correct kubepin_node_name.",
            )
        elif entry["facts"] and entry["facts"]["boot_id"] != node["boot_id"]:
            yield (
                entry["node"],
                f"host {host} is not the machine that the API calls so (boot IDs {entry['facts']['boot_id']} and {node['boot_id']}). "
                "Correct kubepin_node_name.",
            )
    if not any(entry["facts"] and entry["facts"]["control_plane"] for entry in s.hosts.values()):
        yield (
            None,
            "no host of this run is a control plane node that kubeadm set up. Name them in the group control_plane.",
        )


def _not_ready(s: Situation) -> Found:
    for name, node in sorted(s.nodes.items()):
        if not node["ready"] and not node["in_hand"]:
            yield name, f"is not Ready ({node['ready_reason']}). Repair it first, or take it out of the cluster."


def _skew(s: Situation) -> Found:
    server = parse_version(s.cluster["api_server"])
    for name, node in sorted(s.nodes.items()):
        kubelet = parse_version(node["kubelet"])
        if kubelet.line > server.line:
            yield (
                name,
                f"runs kubelet {kubelet}, newer than the API server ({server}). Install a kubelet of {server} or older.",
            )
        allowed = 2 if kubelet.minor < 25 else 3
        if server.minor - kubelet.minor > allowed:
            yield (
                name,
                f"runs kubelet {kubelet}, more than {allowed} minors behind the API server ({server}). Upgrade or remove the node by hand.",
            )


def _certificates(s: Situation) -> Found:
    for _host, node, facts in _facts(s):
        short = [entry for entry in facts["certificates"] if entry["days_left"] < s.certificate_days]
        if short:
            yield (
                node,
                f"certificates are valid for less than the wanted {s.certificate_days} days: {', '.join(map(_validity, short))}. Renew "
                "them with `kubeadm certs renew all`, and restart the static pods; a kubelet renews its own while it runs.",
            )


def _validity(certificate: Data) -> str:
    days = certificate["days_left"]
    return f"{certificate['path']} ({f'expired {-days:g} days ago' if days < 0 else f'{days:g} days'})"


def _removed_apis(s: Situation) -> Found:
    clients, _unclear = judged_requests(s.cluster["deprecated_requests"], s.hops[-1].minor)
    for request in clients:
        yield (
            None,
            f"a client asked the API server for {_resource(request)} since it started, which {request['removed_release']} no longer "
            "serves. Find the client in the audit log, update it, and restart the API server, which then counts anew.",
        )
    for old in s.cluster["old_objects"]:
        yield (
            None,
            f"{old['resource']} {old['name']} was written with {old['api']} by {old['writers']}, which {old['removed_release']} no longer "
            "serves. Update the manifest, chart or client, and apply it again.",
        )


def hints(s: Situation) -> list[str]:
    """What may stand in the way, and cannot be told from what every cluster has."""
    _clients, unclear = judged_requests(s.cluster["deprecated_requests"], s.hops[-1].minor)
    named = {(old["api"], old["resource"]) for old in s.cluster["old_objects"]}
    requests = [
        f"{_resource(request)}, which {request['removed_release']} no longer serves, was asked for since the API server started. No stored "
        "object was written with it, and Kubernetes' own programs ask for it too: if a client of yours may, look for it in the audit log."
        for request in unclear
        if (f"{request['group']}/{request['version']}", request["resource"]) not in named
    ]
    return [*requests, *s.cluster["preemptions"]]


def _resource(request: Mapping[str, str]) -> str:
    return f"{request['resource']} of {request['group']}/{request['version']}"


def _cgroup_driver(s: Situation) -> Found:
    if not s.crosses(22):
        return
    name = f"kubelet-config-1.{parse_version(s.cluster['api_server']).minor}"
    wanted = s.cluster["kubelet_configs"].get(name, {}).get("cgroupDriver")
    in_use = {node: facts["cgroup"]["driver"] for _host, node, facts in _facts(s)}
    if wanted is None:
        drivers = sorted(set(in_use.values()))
        yield (
            None,
            f"ConfigMap kube-system/{name} names no cgroupDriver, and kubeadm 1.22 then writes systemd. The nodes use "
            f"{', '.join(drivers) or 'one that could not be read'}. Write that into it, as `cgroupDriver: cgroupfs` or `systemd`: "
            f"`kubectl -n kube-system edit configmap {name}`.",
        )
        return
    for node, driver in sorted(in_use.items()):
        if driver != wanted:
            yield (
                node,
                f"the kubelet uses the cgroup driver {driver}, ConfigMap kube-system/{name} says {wanted}, and kubeadm would write that "
                "to the node. Make them the same, with the container runtime's.",
            )


def _dockershim(s: Situation) -> Found:
    if s.crosses(24):
        for name, node in sorted(s.nodes.items()):
            if node["runtime"].startswith("docker:"):
                yield (
                    name,
                    f"runs {node['runtime']} through dockershim, which 1.24 no longer has. Move it to containerd or cri-dockerd first.",
                )


def _image_repository(s: Situation) -> Found:
    repository = s.cluster["kubeadm"].get("imageRepository")
    for hop in s.hops:
        old = hop.patch < _REGISTRY_MOVED.get(hop.minor, 0)
        if s.images_from_registry and old and repository == "k8s.gcr.io":
            yield (
                None,
                f"kubeadm {hop} pulls from imageRepository k8s.gcr.io, which is frozen and may end at any time. Load image archives "
                "(kubeadm_upgrade_image_archives), or name a mirror (`kubectl -n kube-system edit configmap kubeadm-config`).",
            )


def _runtime(s: Situation) -> Found:
    target = s.hops[-1].minor
    needed = next((version for minor, version in reversed(_CONTAINERD) if minor <= target), None)
    for name, node in sorted(s.nodes.items()):
        match = re.fullmatch(r"containerd://v?(\d+)\.(\d+)\.(\d+).*", node["runtime"])
        if needed and match and tuple(map(int, match.groups())) < needed:
            yield (
                name,
                f"runs {node['runtime']}; 1.{target} needs containerd {'.'.join(map(str, needed))} or newer. Upgrade the runtime first.",
            )


def _cgroup_v1(s: Situation) -> Found:
    """Only the ConfigMap's word counts: kubeadm rewrites the node's own file from it."""
    if s.crosses(35) and s.cluster["kubelet_configs"].get("kubelet-config", {}).get("failCgroupV1") != "false":
        for _host, node, facts in _facts(s):
            if facts["cgroup"]["version"] == 1:
                yield (
                    node,
                    "has control groups v1, with which the kubelet of 1.35 refuses to start. Boot it with v2; or, while the cluster is at "
                    "1.31 to 1.34, add `failCgroupV1: false`: `kubectl -n kube-system edit configmap kubelet-config`.",
                )


def _kubelet_flags(s: Situation) -> Found:
    for _host, node, facts in _facts(s):
        for problem in flag_problems(facts["command_line"], s.hops[-1].minor):
            yield node, problem


def _drain(s: Situation) -> Found:
    for name in sorted(s.nodes):
        drain = s.cluster["drains"].get(name) or {}
        for problem in [*drain.get("problems", []), *drain.get("blocked", [])]:
            yield name, _for_an_upgrade(problem)


def _for_an_upgrade(problem: str) -> str:
    """A problem of a drain without the way out that an upgrade does not have, leaving the node out, and with this role's variables."""
    problem = re.sub(r", ((?:(?!\. )[^,])+), or leave the node out with --limit\.", r", or \1.", problem)
    problem = problem.replace(", or leave the node out with --limit.", ".")
    return re.sub(r"`(force|delete_emptydir_data)`", r"kubeadm_upgrade_drain_\1: true", problem)


def _disk(s: Situation) -> Found:
    for _host, node, facts in _facts(s):
        for system in facts["disk"]:
            needed = system["needed_mb"] + s.disk_reserve_mb
            if system["free_mb"] < needed:
                yield (
                    node,
                    f"{', '.join(system['paths'])}: {system['free_mb']} MB are free, {needed} MB are needed ({system['needed_mb']} MB, and "
                    f"{s.disk_reserve_mb} MB that stay free). Make room, or lower kubeadm_upgrade_disk_reserve_mb.",
                )


def _source(s: Situation) -> Found:
    for _host, node, facts in _facts(s):
        for problem in facts["source_problems"]:
            yield node, problem


def _node(s: Situation) -> Found:
    for host, entry in sorted(s.hosts.items()):
        if not entry["facts"]:
            yield (
                entry["node"],
                f"host {host} could not be read: {entry['error'].strip().rstrip('.')}. Repair that, or correct the inventory.",
            )
            continue
        for problem in entry["facts"]["problems"]:
            yield entry["node"], problem


def _external_etcd(s: Situation) -> Found:
    for _host, node, facts in _facts(s):
        if facts["control_plane"] and not facts["stacked_etcd"]:
            yield (
                node,
                "etcd is no static pod of this control plane node, so kubepin makes no snapshot of it. Make one yourself.",
            )


RULES: dict[str, Callable[[Situation], Found]] = {
    "inventory": _inventory,
    "node": _node,
    "not_ready": _not_ready,
    "skew": _skew,
    "certificates": _certificates,
    "removed_apis": _removed_apis,
    "cgroup_driver": _cgroup_driver,
    "dockershim": _dockershim,
    "image_repository": _image_repository,
    "runtime": _runtime,
    "cgroup_v1": _cgroup_v1,
    "kubelet_flags": _kubelet_flags,
    "drain": _drain,
    "disk": _disk,
    "source": _source,
    "external_etcd": _external_etcd,
}
"""Code -> rule. The codes are those that `accept` takes."""


def _facts(s: Situation) -> Iterator[tuple[str, str, Data]]:
    for host, entry in sorted(s.hosts.items()):
        if entry["facts"]:
            yield host, entry["node"], entry["facts"]
