# SPDX-License-Identifier: GPL-3.0-or-later
"""The whole audit: every GPU pod of a source, the templates that create them, and the patches for these."""

from __future__ import annotations

import typing as t
from collections import Counter
from fractions import Fraction
from functools import cached_property

from ansible_collections.kubepin.tuning.plugins.module_utils.common.errors import TuningError
from ansible_collections.kubepin.tuning.plugins.module_utils.common.problem import Problem, to_dicts
from ansible_collections.kubepin.tuning.plugins.module_utils.control.cluster.gpu_resources import WHOLE_GPUS
from ansible_collections.kubepin.tuning.plugins.module_utils.control.gpu_access.node import Node, Nodes, Object, Source
from ansible_collections.kubepin.tuning.plugins.module_utils.control.gpu_access.risk import GRADES, risk_of
from ansible_collections.kubepin.tuning.plugins.module_utils.control.gpu_pods.devices import (
    allocated_devices,
    requested_gpus,
    total_gpus,
)
from ansible_collections.kubepin.tuning.plugins.module_utils.control.gpu_pods.manifest import faults
from ansible_collections.kubepin.tuning.plugins.module_utils.control.gpu_pods.owners import (
    Change,
    FoundTemplate,
    OwnerKind,
    group_of,
    owner_kind,
    queues_of,
    shown_kind,
    templates_of,
)
from ansible_collections.kubepin.tuning.plugins.module_utils.control.gpu_pods.patch import (
    ResourceChange,
    ResourcePatch,
    build_patch,
    change_of,
)
from ansible_collections.kubepin.tuning.plugins.module_utils.control.gpu_pods.pod import (
    Container,
    Verdict,
    asks_for_gpu,
    assess,
    containers_of,
    qos,
    resource,
    threads_follow_the_host,
)
from ansible_collections.kubepin.tuning.plugins.module_utils.control.gpu_pods.problems import (
    gpu_requested_elsewhere,
    of_template,
    owner_malformed,
    pod_not_understood,
    template_fixed,
)
from ansible_collections.kubepin.tuning.plugins.module_utils.control.gpu_pods.refusals import request_of

Key = t.Tuple[str, str, str, str]
"""Namespace, API group, kind and name."""

NOT_SCHEDULED = "not scheduled"
"""Stands for the node of pods without one, where CPUs are counted by node."""


class _Template:
    """A template that requests a GPU, and what is known about its pods."""

    def __init__(self, found: FoundTemplate) -> None:
        self.found = found
        self.nodes: t.Counter[t.Optional[str]] = Counter()
        self.containers: t.Set[str] = set()

    def makes(self, containers: t.Sequence[Container], exactly: bool) -> bool:
        """Whether a pod with these containers has all of the template's; *exactly*: with the limits that it gives them."""
        there = {container.name: container.spec for container in containers}
        return all(
            name in there and not (exactly and _limits(container).items() - _limits(there[name]).items())
            for name, container in _by_name(self.found.spec).items()
        )


class _Owner:
    """An object that creates GPU pods, or that stands in their chain of owners."""

    def __init__(self, item: Object, row: OwnerKind, templates: t.Sequence[FoundTemplate]) -> None:
        # what has no template of interest is kept for its owner alone
        self.item = item if templates else {name: item[name] for name in ("apiVersion", "kind", "metadata")}
        self.row = row
        self.templates = [_Template(found) for found in templates]
        self.pods: t.Counter[t.Optional[str]] = Counter()

    def template_of(self, containers: t.Sequence[Container]) -> t.Optional[_Template]:
        if len(self.templates) == 1:
            return self.templates[0]
        return next(
            (each for exactly in (True, False) for each in self.templates if each.makes(containers, exactly)), None
        )


def audit(
    source: Source, facts: t.Mapping[str, Object], prefixes: t.Sequence[str], multiple: int
) -> t.Dict[str, t.Any]:
    """Every GPU pod with its verdict, every owner with its patch, a summary, and what could not be read (schema 1).

    :param facts: node name -> facts that take precedence over the API
    :param prefixes: prefixes of GPU resource names
    :param multiple: patches round CPUs up to a multiple of this number
    :raises TuningError: for an input that cannot be read or parsed
    """
    nodes, classes = Nodes(source, facts), _RuntimeClasses(source)
    malformed: t.List[Problem] = []
    owners = _owners(source, prefixes, malformed)
    controllers = {reference for owner in owners.values() if (reference := _controller_key(owner.item)) is not None}
    leaders: t.Dict[Key, Object] = {}
    found, finished = [], 0
    requests: t.Dict[str, t.List[t.Dict[str, t.Any]]] = {name: [] for name in facts}
    for item in source.pods():
        key = (_namespace(item), "", "Pod", item["metadata"]["name"])  # items of a list have no kind
        if key in controllers:  # LeaderWorkerSet: a group's leader controls the StatefulSet of its workers
            leaders[key] = {"kind": "Pod", "metadata": item["metadata"]}
        spec = item.get("spec") or {}
        leaves = _has_finished(item) or item["metadata"].get("deletionTimestamp")
        if spec.get("nodeName") in requests and not leaves:
            requests[spec["nodeName"]].append(_request(item, prefixes))
        if not asks_for_gpu(spec, prefixes):
            continue
        if _has_finished(item):
            finished += 1
            continue
        containers, pod = _pod(item, nodes, classes, prefixes)
        found.append((item["metadata"], containers, pod))
    pods = [_with_owner(*each, owners, leaders) for each in found]
    _name_devices(source, pods)
    tops = {key: owner for key, owner in owners.items() if _is_top(owner)}
    results = [_owner_result(key, tops[key], nodes, prefixes, multiple) for key in sorted(tops)]
    pods.sort(key=lambda pod: (pod["namespace"], pod["name"]))
    return {
        "schema": 1,
        "pods": pods,
        "owners": results,
        "requests": requests,
        "whole_gpus": {
            name: nodes.get(name).whole_gpus if _ask_for_whole_gpus(asked) else None for name, asked in requests.items()
        },
        "problems": to_dicts([*source.unread(), *malformed]),
        "summary": summary_of(pods, results, finished),
    }


def _owners(source: Source, prefixes: t.Sequence[str], malformed: t.List[Problem]) -> t.Dict[Key, _Owner]:
    found = {}
    for item in source.owners():
        row = owner_kind(item)
        if row is None:
            continue
        # CRDs may leave the form of what they hold open (KServe's and Argo's minimal ones do)
        wrong = [] if row.is_builtin else faults(item)
        if wrong:
            malformed.append(owner_malformed(f"{row.shown} {_namespace(item)}/{item['metadata']['name']}", wrong))
        templates = [] if wrong else [each for each in templates_of(item, row) if asks_for_gpu(each.spec, prefixes)]
        # a Deployment without a GPU that another one controls may still lead from a pod to its owner
        if templates or not row.is_builtin or _controller(item):
            found[_key(item)] = _Owner(item, row, templates)
    return found


def _is_top(owner: _Owner) -> bool:
    """Whether it is to be changed rather than what it controls, or than what controls it."""
    return bool(owner.templates or (owner.pods and owner.row.elsewhere)) and not _controller(owner.item)


def _controller(item: Object) -> t.Optional[Object]:
    references = item["metadata"].get("ownerReferences") or []
    return next((owner for owner in references if owner.get("controller")), None)


def _key(item: Object) -> Key:
    return _namespace(item), group_of(item.get("apiVersion"), item["kind"]), item["kind"], item["metadata"]["name"]


def _controller_key(item: Object) -> t.Optional[Key]:
    controller = _controller(item)
    if controller is None:
        return None
    group = group_of(controller.get("apiVersion"), controller["kind"])
    return _namespace(item), group, controller["kind"], controller["name"]


def _top_owner(pod: Object, owners: t.Mapping[Key, _Owner], leaders: t.Mapping[Key, Object]) -> t.Optional[Key]:
    """The known controller at the top of the ownership chain: a Deployment rather than its ReplicaSet."""
    key: t.Optional[Key] = None
    item: t.Optional[Object] = pod
    seen: t.Set[t.Optional[Key]] = set()  # an object of a file may own itself
    while item is not None and key not in seen:
        seen.add(key)
        controller = _controller_key(item)
        if controller is None:
            break
        key = controller
        item = owners[key].item if key in owners else leaders.get(key)
    return key


def _with_owner(
    metadata: Object,
    containers: t.Sequence[Container],
    pod: t.Dict[str, t.Any],
    owners: t.Mapping[Key, _Owner],
    leaders: t.Mapping[Key, Object],
) -> t.Dict[str, t.Any]:
    """The pod with its owner and template, which count it."""
    key = _top_owner({"metadata": metadata}, owners, leaders)
    owner = owners.get(key) if key else None
    template = owner.template_of(containers) if owner else None
    if owner:
        owner.pods[pod["node"]] += 1
    if template:
        template.nodes[pod["node"]] += 1
        template.containers.update(container.name for container in containers)
    shown = f"{shown_kind(key[1], key[2])}/{key[3]}" if key else None
    return {**pod, "owner": shown, "template": template.found.path if template else None}


class _RuntimeClasses:
    """The RuntimeClasses of a source, read once, when the first pod names one on a node whose handlers are known."""

    def __init__(self, source: Source) -> None:
        self._source = source

    @cached_property
    def _handlers(self) -> t.Dict[str, str]:
        return {item["metadata"]["name"]: item["handler"] for item in self._source.runtime_classes()}

    def node_of(self, spec: Object, node: Node) -> Node:
        """The *node* as it is for a pod with this specification."""
        if not node.handlers:
            return node
        name = spec.get("runtimeClassName")
        return node.under(self._handlers.get(name) if name else node.default_handler)


def _pod(
    item: Object, nodes: Nodes, classes: _RuntimeClasses, prefixes: t.Sequence[str]
) -> t.Tuple[t.List[Container], t.Dict[str, t.Any]]:
    """Its containers, and the pod as the audit returns it, without its owner."""
    spec = item["spec"]
    name = f"{_namespace(item)}/{item['metadata']['name']}"
    node = classes.node_of(spec, nodes.get(spec.get("nodeName")))
    quality, verdicts = _assessed(name, spec, node, prefixes)
    holders = [verdict for verdict in verdicts if verdict.container.gpus]
    privileged = all((v.container.spec.get("securityContext") or {}).get("privileged") for v in holders)
    return [verdict.container for verdict in verdicts], {
        "namespace": _namespace(item),
        "name": item["metadata"]["name"],
        "node": spec.get("nodeName"),
        "qos": quality,
        "exclusive": not any(verdict.reasons for verdict in verdicts),
        "containers": [_container(verdict) for verdict in verdicts],
        "gpus": requested_gpus(
            _namespace(item), item, [verdict.container for verdict in verdicts], dict(node.products)
        ),
        "risk": risk_of(node, all(verdict.pool != "node" for verdict in holders), privileged),
    }


def _name_devices(source: Source, pods: t.Iterable[t.Mapping[str, t.Any]]) -> None:
    gpus = [gpu for pod in pods for gpu in pod["gpus"] if gpu["claim"]]
    allocated = allocated_devices(source.claims()) if gpus else {}
    for gpu in gpus:
        gpu["devices"] = allocated.get(gpu["claim"])


def _has_finished(item: Object) -> bool:
    return (item.get("status") or {}).get("phase") in ("Succeeded", "Failed")


def _request(item: Object, prefixes: t.Sequence[str]) -> t.Dict[str, t.Any]:
    try:
        return request_of(item, containers_of(item["spec"], prefixes))
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        raise _not_understood(f"{_namespace(item)}/{item['metadata']['name']}", error) from error


def _ask_for_whole_gpus(requests: t.Iterable[Object]) -> bool:
    """Whether it matters how many GPUs the pods' node offers, for which the API and the kubelet are asked."""
    return any(WHOLE_GPUS in container["requests"] for request in requests for container in request["containers"])


def _not_understood(name: str, error: Exception) -> TuningError:
    return TuningError(pod_not_understood(name, str(error)))


def _assessed(name: str, spec: Object, node: Node, prefixes: t.Sequence[str]) -> t.Tuple[str, t.List[Verdict]]:
    try:
        containers = containers_of(spec, prefixes)
        return qos(spec, containers), assess(spec, containers, node)
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        raise _not_understood(name, error) from error


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


def _owner_result(
    key: Key, owner: _Owner, nodes: Nodes, prefixes: t.Sequence[str], multiple: int
) -> t.Dict[str, t.Any]:
    namespace, _group, _kind, name = key
    qualities, containers = [], []
    found: t.List[Problem] = []
    changes: t.List[t.Tuple[FoundTemplate, ResourceChange]] = []
    costs: t.Dict[str, float] = {}
    for template in owner.templates:
        quality, verdicts, change = _change(
            f"{owner.row.shown} {namespace}/{name}", template, nodes, prefixes, multiple
        )
        qualities.append(quality)
        changes.append((template.found, change))
        several = len(owner.templates) > 1
        found += [of_template(template.found.path, each) if several else each for each in change.problems]
        containers += [{**_container(verdict), "template": template.found.path} for verdict in verdicts]
        for node, count in template.nodes.items():
            place = node or NOT_SCHEDULED
            costs[place] = costs.get(place, 0) + _plain(change.cpus * count)
    if not owner.templates:
        found.append(gpu_requested_elsewhere(owner.row.elsewhere))
    patch = build_patch(owner.item, owner.row, changes) if changes else ResourcePatch(None, None, "json")
    if owner.row.is_builtin and owner.row.change is Change.RECREATE and any(change.changed for _, change in changes):
        found.append(template_fixed(owner.row.kind))
    return {
        "namespace": namespace,
        "kind": owner.row.shown,
        "resource": owner.row.resource,
        "api_version": owner.item["apiVersion"],
        "name": name,
        "qos": next((quality for quality in qualities if quality != "Guaranteed"), "Guaranteed") if qualities else None,
        "pods": sum(owner.pods.values()),
        "containers": containers,
        "patch": patch.patch,
        "undo": patch.undo,
        "patch_type": patch.type,
        "change": owner.row.change.value,
        "effect": owner.row.effect,
        "problems": to_dicts(found),
        "queue": ", ".join(queues_of(owner.item, owner.row)) or None,
        "cpus_per_node": costs if patch.patch else {},
    }


def _change(
    name: str, template: _Template, nodes: Nodes, prefixes: t.Sequence[str], multiple: int
) -> t.Tuple[str, t.List[Verdict], ResourceChange]:
    """The QoS class and the verdicts of a template's pods, and what it would have to ask for."""
    node = _any_of([nodes.get(node) for node in template.nodes if node])
    quality, verdicts = _assessed(name, template.found.spec, node, prefixes)
    containers = [verdict.container for verdict in verdicts]
    injected = sorted(template.containers - {container.name for container in containers})
    threads = max((_threads(nodes.get(node)) for node in template.nodes), default=1)
    return quality, verdicts, change_of(template.found.spec, containers, injected, max(multiple, threads), node)


def _by_name(spec: Object) -> t.Dict[str, Object]:
    return {c["name"]: c for field in ("initContainers", "containers") for c in spec.get(field) or []}


def _limits(container: Object) -> t.Dict[str, t.Optional[Fraction]]:
    limits = (container.get("resources") or {}).get("limits") or {}
    return {name: resource(container, "limits", name) for name in limits}


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
        "gpus": total_gpus(pods),
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
