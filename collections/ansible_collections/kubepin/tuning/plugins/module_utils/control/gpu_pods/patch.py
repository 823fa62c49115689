# SPDX-License-Identifier: GPL-3.0-or-later
"""The change to an owner's templates that would give its pods exclusive CPUs. Pure; uses only the templates' numbers."""

from __future__ import annotations

import math
import typing as t
from fractions import Fraction

from ansible_collections.kubepin.tuning.plugins.module_utils.common.problem import Problem
from ansible_collections.kubepin.tuning.plugins.module_utils.control.gpu_access.node import Node, Object
from ansible_collections.kubepin.tuning.plugins.module_utils.control.gpu_pods import problems
from ansible_collections.kubepin.tuning.plugins.module_utils.control.gpu_pods.owners import (
    Change,
    FoundTemplate,
    OwnerKind,
)
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

Resources = t.Dict[str, t.Dict[str, t.Optional[str]]]


class ResourceChange(t.NamedTuple):
    """What a template would have to ask for; *problems* need a person."""

    changed: t.Tuple[t.Tuple[Container, Resources], ...]
    problems: t.List[Problem]
    cpus: Fraction
    """CPUs that each pod would request in addition to its present request."""


class ResourcePatch(t.NamedTuple):
    """*patch* and *undo* are None if nothing can be changed, else both of the type that kubectl calls *type*."""

    patch: t.Any
    undo: t.Any
    type: str


def change_of(
    template: Object, containers: t.Sequence[Container], injected: t.Iterable[str], multiple: int, node: Node
) -> ResourceChange:
    """Whole CPUs, rounded up, and requests equal to limits, for every container of the template; of a pod that the kubelets
    manage as a whole, only for those with a GPU, if the pod's own resources have room for that.

    :param template: a pod specification
    :param injected: names of containers that its pods have but the template does not
    :param multiple: CPUs are rounded up to a multiple of this number
    :param node: what the nodes of its pods have in common
    """
    as_a_whole = bool(own_resources(template) and node.pod_level)
    found = [] if as_a_whole else [problems.container_injected(name) for name in injected]
    if template.get("resources") and not as_a_whole:
        found.append(problems.pod_resources_not_pinned())
    changed: t.Dict[str, t.Tuple[Container, Resources]] = {}
    after = []
    for container in containers:
        if as_a_whole and not container.gpus:
            after.append(container)
            continue
        wanted, missing = _wanted(container, multiple)
        found.extend(missing)
        if _differs(container.spec, wanted):
            changed[container.name] = container, wanted
        cpus = Fraction(wanted["limits"].get("cpu") or container.cpus)
        after.append(container._replace(cpus=cpus, spec=_changed(container.spec, wanted)))
    if as_a_whole:
        found.extend(_of_pod(reason) for reason in pod_reasons(_filled(template, after), after, node))
        too_small = _too_small(template, after)
        if too_small:
            return ResourceChange((), [*found, *too_small], Fraction(0))
    cpus = Fraction(0) if as_a_whole or not changed else pod_cpus(after) - pod_cpus(containers)
    return ResourceChange(tuple(changed.values()), found, cpus)


def build_patch(
    owner: Object, kind: OwnerKind, changes: t.Sequence[t.Tuple[FoundTemplate, ResourceChange]]
) -> ResourcePatch:
    """The patch that gives the templates of an owner what they would have to ask for, and the one that undoes it.

    Strategic merge patches exist for Kubernetes' own kinds only. A merge patch would have to repeat whole lists of
    containers, so other kinds get a JSON patch (RFC 6902). It does nothing to an object that was changed since it was read.

    :param owner: the object, with ``apiVersion``, ``kind`` and ``metadata``
    """
    if not kind.is_builtin:
        patch, undo = _json_patches(changes)
        return ResourcePatch(patch or None, undo or None, "json")
    ((template, change),) = changes
    if not change.changed or kind.change is not Change.IN_PLACE:
        return ResourcePatch(None, None, "strategic")
    undo_of = [(container, _present(container.spec, wanted)) for container, wanted in change.changed]
    return ResourcePatch(_patch(owner, template, change.changed), _patch(owner, template, undo_of), "strategic")


def _json_patches(
    changes: t.Sequence[t.Tuple[FoundTemplate, ResourceChange]],
) -> t.Tuple[t.List[t.Dict[str, t.Any]], t.List[t.Dict[str, t.Any]]]:
    patch: t.List[t.Dict[str, t.Any]] = []
    undo: t.List[t.Dict[str, t.Any]] = []
    for template, change in changes:
        for container, wanted in change.changed:
            keys = template.resources[container.name]
            path, present = _pointer(keys), container.spec.get("resources")
            changed = _changed(container.spec, wanted)["resources"]
            if isinstance(keys[-2], int):  # the list may have changed since the audit
                named = {"op": "test", "path": _pointer((*keys[:-1], "name")), "value": container.name}
                patch.append(named)
                undo.append(named)
            if present:
                patch.append({"op": "test", "path": path, "value": present})
            patch.append({"op": "add", "path": path, "value": changed})
            undo.append({"op": "test", "path": path, "value": changed})
            undo.append({"op": "add", "path": path, "value": present} if present else {"op": "remove", "path": path})
    return patch, undo


def _pointer(keys: t.Iterable[t.Union[str, int]]) -> str:
    """A JSON pointer (RFC 6901)."""
    return "".join("/" + str(key).replace("~", "~0").replace("/", "~1") for key in keys)


def _too_small(template: Object, containers: t.Sequence[Container]) -> t.List[Problem]:
    """The pod's own resources that are less than its containers request together, which the API server refuses
    (pkg/apis/core/validation, validatePodResourceConsistency)."""
    found = []
    for name, unit in (("cpu", "CPUs"), ("memory", "bytes of memory")):
        given = resource(template, "requests", name) or resource(template, "limits", name)
        asked = containers_request(containers, name)
        if given is not None and asked > given:
            found.append(problems.pod_resources_too_small(f"{float(asked):.12g}", unit, f"{float(given):.12g}"))
    return found


def _of_pod(reason: str) -> Problem:
    word = problems.pod_resources_inexact if reason in UNGUARANTEED else problems.pod_not_pinned
    return word(REASONS[reason])


def _filled(template: Object, containers: t.Sequence[Container]) -> Object:
    """The template with these containers."""
    inits = [c.spec for c in containers if c.kind != "container"]
    return {**template, "initContainers": inits, "containers": [c.spec for c in containers if c.kind == "container"]}


def _changed(container: Object, wanted: Resources) -> Object:
    present = container.get("resources") or {}
    fields = {field: {**(present.get(field) or {}), **wanted[field]} for field in wanted}
    return {**container, "resources": {**present, **fields}}


def _wanted(container: Container, multiple: int) -> t.Tuple[Resources, t.List[Problem]]:
    """The desired limits and requests, as far as the container's own numbers determine them."""
    values: t.Dict[str, t.Optional[str]] = {}
    missing = []
    cpu = resource(container.spec, "limits", "cpu") or resource(container.spec, "requests", "cpu")
    if cpu:
        values["cpu"] = str(math.ceil(cpu / multiple) * multiple)
    else:
        missing.append(problems.no_number_of_cpus(container.name))
    resources = container.spec.get("resources") or {}
    field = next((f for f in ("limits", "requests") if resource(container.spec, f, "memory")), None)
    if field:
        values["memory"] = str(resources[field]["memory"])
    else:
        missing.append(problems.no_amount_of_memory(container.name))
    return {"limits": dict(values), "requests": dict(values)}, missing


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


def _patch(
    owner: Object, template: FoundTemplate, changed: t.Iterable[t.Tuple[Container, Resources]]
) -> t.Dict[str, t.Any]:
    spec: t.Dict[str, t.List[t.Dict[str, t.Any]]] = {}
    for container, resources in changed:
        field = "containers" if container.kind == "container" else "initContainers"
        spec.setdefault(field, []).append({"name": container.name, "resources": resources})
    body: t.Dict[str, t.Any] = spec
    for key in reversed(template.path.split(".")):
        body = {key: body}
    # an object from a file may have no namespace: kubectl would create it in this one
    metadata = {"namespace": owner["metadata"].get("namespace") or "default", "name": owner["metadata"]["name"]}
    return {"apiVersion": owner["apiVersion"], "kind": owner["kind"], "metadata": metadata, **body}
