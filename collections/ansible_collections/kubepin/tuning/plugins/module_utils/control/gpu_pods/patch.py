# SPDX-License-Identifier: GPL-3.0-or-later
"""The change to an owner's template that would give its pods exclusive CPUs. Pure; uses only the template's numbers."""

from __future__ import annotations

import math
import typing as t
from fractions import Fraction

from ansible_collections.kubepin.tuning.plugins.module_utils.control.gpu_access.node import Node, Object
from ansible_collections.kubepin.tuning.plugins.module_utils.control.gpu_pods.pod import (
    REASONS,
    UNGUARANTEED,
    Container,
    containers_request,
    own_resources,
    pod_cpus,
    pod_reasons,
    resource,
)

TEMPLATES: t.Dict[str, t.Tuple[str, ...]] = {
    "Deployment": ("spec", "template"),
    "StatefulSet": ("spec", "template"),
    "DaemonSet": ("spec", "template"),
    "ReplicaSet": ("spec", "template"),
    "Job": ("spec", "template"),
    "CronJob": ("spec", "jobTemplate", "spec", "template"),
}
"""Kind -> the path of the pod template in its objects."""

Resources = t.Dict[str, t.Dict[str, t.Optional[str]]]


class ResourcePatch(t.NamedTuple):
    """*patch* and *undo* are strategic merge patches, None if nothing can be changed; *problems* need a person."""

    patch: t.Optional[t.Dict[str, t.Any]]
    undo: t.Optional[t.Dict[str, t.Any]]
    problems: t.List[str]
    cpus: Fraction
    """CPUs that each pod would request in addition to its present request."""


def build_patch(
    owner: Object,
    template: Object,
    containers: t.Sequence[Container],
    injected: t.Iterable[str],
    multiple: int,
    node: Node,
) -> ResourcePatch:
    """Whole CPUs, rounded up, and requests equal to limits, for every container of the template; of a pod that the kubelets
    manage as a whole, only for those with a GPU, if the pod's own resources have room for that.

    :param owner: the object, with ``apiVersion``, ``kind`` and ``metadata``
    :param template: the pod specification in it
    :param injected: names of containers that its pods have but the template does not
    :param multiple: CPUs are rounded up to a multiple of this number
    :param node: what the nodes of its pods have in common
    """
    as_a_whole = bool(own_resources(template) and node.pod_level)
    problems = [] if as_a_whole else [_injected(name) for name in injected]
    if template.get("resources") and not as_a_whole:
        problems.append(
            "the pod's own resources (spec.resources) are not pinned without the kubelet's feature gate "
            "PodLevelResourceManagers: give them to the containers"
        )
    changed: t.Dict[str, t.Tuple[Container, Resources]] = {}
    after = []
    for container in containers:
        if as_a_whole and not container.gpus:
            after.append(container)
            continue
        wanted, missing = _wanted(container, multiple)
        problems.extend(missing)
        if _differs(container.spec, wanted):
            changed[container.name] = container, wanted
        cpus = Fraction(wanted["limits"].get("cpu") or container.cpus)
        after.append(container._replace(cpus=cpus, spec=_changed(container.spec, wanted)))
    if as_a_whole:
        problems.extend(_of_pod(reason) for reason in pod_reasons(_filled(template, after), after, node))
        too_small = _too_small(template, after)
        if too_small:
            return ResourcePatch(None, None, [*problems, *too_small], Fraction(0))
    if changed and owner["kind"] == "Job":
        problems.append("the template of a Job cannot be changed: change what makes the Job")
    if not changed or owner["kind"] == "Job":
        return ResourcePatch(None, None, problems, Fraction(0))
    return ResourcePatch(
        _patch(owner, list(changed.values())),
        _patch(owner, [(container, _present(container.spec, wanted)) for container, wanted in changed.values()]),
        problems,
        Fraction(0) if as_a_whole else pod_cpus(after) - pod_cpus(containers),
    )


def _injected(name: str) -> str:
    return f"container {name} is not in the template: set its resources where it is injected"


def _too_small(template: Object, containers: t.Sequence[Container]) -> t.List[str]:
    """The pod's own resources that are less than its containers request together, which the API server refuses
    (pkg/apis/core/validation, validatePodResourceConsistency)."""
    found = []
    for name, unit in (("cpu", "CPUs"), ("memory", "bytes of memory")):
        given = resource(template, "requests", name) or resource(template, "limits", name)
        asked = containers_request(containers, name)
        if given is not None and asked > given:
            found.append(
                f"its containers need {float(asked):.12g} {unit} and the pod itself (spec.resources) has {float(given):.12g}: raise these"
            )
    return found


def _of_pod(reason: str) -> str:
    return (
        f"of the pod's own resources (spec.resources), {REASONS[reason]}" if reason in UNGUARANTEED else REASONS[reason]
    )


def _filled(template: Object, containers: t.Sequence[Container]) -> Object:
    """The template with these containers."""
    inits = [c.spec for c in containers if c.kind != "container"]
    return {**template, "initContainers": inits, "containers": [c.spec for c in containers if c.kind == "container"]}


def _changed(container: Object, wanted: Resources) -> Object:
    present = container.get("resources") or {}
    fields = {field: {**(present.get(field) or {}), **wanted[field]} for field in wanted}
    return {**container, "resources": {**present, **fields}}


def _wanted(container: Container, multiple: int) -> t.Tuple[Resources, t.List[str]]:
    """The desired limits and requests, as far as the container's own numbers determine them."""
    values: t.Dict[str, t.Optional[str]] = {}
    problems = []
    cpu = resource(container.spec, "limits", "cpu") or resource(container.spec, "requests", "cpu")
    if cpu:
        values["cpu"] = str(math.ceil(cpu / multiple) * multiple)
    else:
        problems.append(f"container {container.name} names no number of CPUs: choose one")
    resources = container.spec.get("resources") or {}
    field = next((f for f in ("limits", "requests") if resource(container.spec, f, "memory")), None)
    if field:
        values["memory"] = str(resources[field]["memory"])
    else:
        problems.append(f"container {container.name} names no amount of memory: choose one")
    return {"limits": dict(values), "requests": dict(values)}, problems


def _differs(container: Object, wanted: Resources) -> bool:
    """Whether the numbers change; a missing request already equals its limit."""
    for name in wanted["limits"]:
        number = resource({"resources": wanted}, "limits", name)
        limit, request = resource(container, "limits", name), resource(container, "requests", name)
        if limit != number or request not in (None, number):
            return True
    return False


def _present(container: Object, wanted: Resources) -> Resources:
    """The present values of the fields that *wanted* sets; None removes a field in a strategic merge patch."""
    resources = container.get("resources") or {}
    return {field: {name: (resources.get(field) or {}).get(name) for name in wanted[field]} for field in wanted}


def _patch(owner: Object, changed: t.Iterable[t.Tuple[Container, Resources]]) -> t.Dict[str, t.Any]:
    spec: t.Dict[str, t.List[t.Dict[str, t.Any]]] = {}
    for container, resources in changed:
        field = "containers" if container.kind == "container" else "initContainers"
        spec.setdefault(field, []).append({"name": container.name, "resources": resources})
    body: t.Dict[str, t.Any] = {"spec": spec}
    for key in reversed(TEMPLATES[owner["kind"]]):
        body = {key: body}
    # an object from a file may have no namespace: kubectl would create it in this one
    metadata = {"namespace": owner["metadata"].get("namespace") or "default", "name": owner["metadata"]["name"]}
    return {"apiVersion": owner["apiVersion"], "kind": owner["kind"], "metadata": metadata, **body}
