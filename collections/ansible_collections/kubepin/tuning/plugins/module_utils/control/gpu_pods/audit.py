# SPDX-License-Identifier: GPL-3.0-or-later
"""The whole audit: every GPU pod of a source, the templates that create them, and the patches for these."""

from __future__ import annotations

import typing as t
from collections import Counter
from fractions import Fraction

from ansible_collections.kubepin.tuning.plugins.module_utils.common.errors import TuningError
from ansible_collections.kubepin.tuning.plugins.module_utils.control.gpu_access.node import Node, Nodes, Object, Source
from ansible_collections.kubepin.tuning.plugins.module_utils.control.gpu_access.risk import GRADES, risk_of
from ansible_collections.kubepin.tuning.plugins.module_utils.control.gpu_pods.patch import TEMPLATES, build_patch
from ansible_collections.kubepin.tuning.plugins.module_utils.control.gpu_pods.pod import (
    Verdict,
    asks_for_gpu,
    assess,
    containers_of,
    qos,
    threads_follow_the_host,
)

Key = t.Tuple[str, str, str]
"""Namespace, kind and name."""

NOT_SCHEDULED = "not scheduled"
"""Stands for the node of pods without one, where CPUs are counted by node."""


class _Owner:
    """A template that creates GPU pods, and what is known about its pods."""

    def __init__(self, item: Object, template: Object) -> None:
        self.item = item
        self.template = template
        self.nodes: t.Counter[t.Optional[str]] = Counter()
        self.containers: t.Set[str] = set()


def audit(
    source: Source, facts: t.Mapping[str, Object], prefixes: t.Sequence[str], multiple: int
) -> t.Dict[str, t.Any]:
    """Every GPU pod with its verdict, every owner with its patch, and a summary (schema 1).

    :param facts: node name -> facts that take precedence over the API
    :param prefixes: prefixes of GPU resource names
    :param multiple: patches round CPUs up to a multiple of this number
    :raises TuningError: for an input that cannot be read or parsed
    """
    nodes = Nodes(source, facts)
    owners = _owners(source, prefixes)
    pods, finished = [], 0
    for item in source.pods():
        spec = item.get("spec") or {}
        if not asks_for_gpu(spec, prefixes):
            continue
        if (item.get("status") or {}).get("phase") in ("Succeeded", "Failed"):
            finished += 1
            continue
        key = _top_owner(item, owners)
        pods.append(_pod(item, key, nodes, prefixes))
        if key in owners:
            owners[key].nodes[spec.get("nodeName")] += 1
            owners[key].containers.update(container["name"] for container in pods[-1]["containers"])
    tops = {key: owner for key, owner in owners.items() if not _controller(owner.item)}
    mended = [_mended(key, tops[key], nodes, prefixes, multiple) for key in sorted(tops)]
    pods.sort(key=lambda pod: (pod["namespace"], pod["name"]))
    return {"schema": 1, "pods": pods, "owners": mended, "summary": summary_of(pods, mended, finished)}


def _owners(source: Source, prefixes: t.Sequence[str]) -> t.Dict[Key, _Owner]:
    found = {}
    for item in source.owners():
        template: t.Any = item
        for field in (*TEMPLATES[item["kind"]], "spec"):
            template = (template or {}).get(field)
        if template and asks_for_gpu(template, prefixes):
            found[_namespace(item), item["kind"], item["metadata"]["name"]] = _Owner(item, template)
    return found


def _controller(item: Object) -> t.Optional[Object]:
    references = item["metadata"].get("ownerReferences") or []
    return next((owner for owner in references if owner.get("controller")), None)


def _top_owner(pod: Object, owners: t.Mapping[Key, _Owner]) -> t.Optional[Key]:
    """The known controller at the top of the ownership chain: a Deployment rather than its ReplicaSet."""
    key: t.Optional[Key] = None
    item: t.Optional[Object] = pod
    seen: t.Set[t.Optional[Key]] = set()  # an object of a file may own itself
    while item is not None and key not in seen:
        seen.add(key)
        controller = _controller(item)
        if controller is None:
            break
        key = _namespace(pod), controller["kind"], controller["name"]
        item = owners[key].item if key in owners else None
    return key


def _pod(item: Object, owner: t.Optional[Key], nodes: Nodes, prefixes: t.Sequence[str]) -> t.Dict[str, t.Any]:
    spec = item["spec"]
    name = f"{_namespace(item)}/{item['metadata']['name']}"
    node = nodes.get(spec.get("nodeName"))
    quality, verdicts = _assessed(name, spec, node, prefixes)
    holders = [verdict for verdict in verdicts if verdict.container.gpus]
    privileged = all((v.container.spec.get("securityContext") or {}).get("privileged") for v in holders)
    return {
        "namespace": _namespace(item),
        "name": item["metadata"]["name"],
        "node": spec.get("nodeName"),
        "owner": f"{owner[1]}/{owner[2]}" if owner else None,
        "qos": quality,
        "exclusive": not any(verdict.reasons for verdict in verdicts),
        "containers": [_container(verdict) for verdict in verdicts],
        "risk": risk_of(node, all(verdict.pool != "node" for verdict in holders), privileged),
    }


def _assessed(name: str, spec: Object, node: Node, prefixes: t.Sequence[str]) -> t.Tuple[str, t.List[Verdict]]:
    try:
        containers = containers_of(spec, prefixes)
        return qos(spec, containers), assess(spec, containers, node)
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        raise TuningError(f"{name} cannot be understood: {error}. Expected an object as the API gives it.") from error


def _container(verdict: Verdict) -> t.Dict[str, t.Any]:
    container = verdict.container
    return {
        "name": container.name,
        "kind": container.kind,
        "gpus": list(container.gpus),
        "cpus": _plain(container.cpus),
        "exclusive": verdict.exclusive,
        "pool": verdict.pool,
        "reasons": list(verdict.reasons),
        "no_thread_count": threads_follow_the_host(verdict),
    }


def _mended(key: Key, owner: _Owner, nodes: Nodes, prefixes: t.Sequence[str], multiple: int) -> t.Dict[str, t.Any]:
    namespace, kind, name = key
    node = _any_of([nodes.get(node) for node in owner.nodes if node])
    quality, verdicts = _assessed(f"{kind} {namespace}/{name}", owner.template, node, prefixes)
    containers = [verdict.container for verdict in verdicts]
    injected = sorted(owner.containers - {container.name for container in containers})
    threads = max((_threads(nodes.get(node)) for node in owner.nodes), default=1)
    patch = build_patch(owner.item, owner.template, containers, injected, max(multiple, threads), node)
    costs = {node or NOT_SCHEDULED: _plain(patch.cpus * count) for node, count in owner.nodes.items()}
    return {
        "namespace": namespace,
        "kind": kind,
        "name": name,
        "qos": quality,
        "pods": sum(owner.nodes.values()),
        "containers": [_container(verdict) for verdict in verdicts],
        "patch": patch.patch,
        "undo": patch.undo,
        "problems": patch.problems,
        "cpus_per_node": costs if patch.patch else {},
    }


def _any_of(nodes: t.Sequence[Node]) -> Node:
    """What counts for a template whose pods run on *nodes*: whether all of them manage whole pods, and whether one does
    so in the scope of the pod, which asks for more."""
    return Node(
        pod_level=bool(nodes) and all(node.pod_level for node in nodes), pod_scope=any(node.pod_scope for node in nodes)
    )


def _threads(node: Node) -> int:
    return (node.threads_per_core or 1) if node.full_pcpus_only else 1


def summary_of(
    pods: t.Sequence[t.Mapping[str, t.Any]], owners: t.Sequence[t.Mapping[str, t.Any]], finished: int
) -> t.Dict[str, t.Any]:
    """The totals of pods and owners in the audit."""
    exclusive = sum(pod["exclusive"] for pod in pods)
    grades = Counter(pod["risk"]["grade"] for pod in pods)
    costs: t.Counter[str] = Counter()
    for owner in owners:
        costs.update(owner["cpus_per_node"])
    reasons = Counter(
        reason for pod in pods for reason in {r for container in pod["containers"] for r in container["reasons"]}
    )
    return {
        "pods": len(pods),
        "exclusive": exclusive,
        "not_exclusive": len(pods) - exclusive,
        "finished": finished,
        "risk": {grade: grades[grade] for grade in GRADES},
        "reasons": dict(sorted(reasons.items())),
        "owners": len(owners),
        "patches": sum(owner["patch"] is not None for owner in owners),
        "cpus_per_node": {node: costs[node] for node in sorted(costs)},
    }


def _namespace(item: Object) -> str:
    return str(item["metadata"].get("namespace") or "default")


def _plain(number: Fraction) -> float:
    return int(number) if number.denominator == 1 else float(number)
