# SPDX-License-Identifier: GPL-3.0-or-later
"""Pure: whether objects from a file have the form that the audit reads. Anybody may have written such a file."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from ansible_collections.kubepin.tuning.plugins.module_utils.common.quantity import parse_quantity
from ansible_collections.kubepin.tuning.plugins.module_utils.control.gpu_pods.owners import (
    OwnerKind,
    Template,
    owner_kind,
)

Check = Callable[[Any, str], Iterator[str]]
"""Yields what is wrong with a value at a path such as ``spec.containers[0]``."""


@dataclass(frozen=True)
class _Object:
    """A mapping with these fields; others are ignored. An optional field may also be null, as in the API."""

    required: Mapping[str, Check] = field(default_factory=dict)
    optional: Mapping[str, Check] = field(default_factory=dict)

    def __call__(self, value: Any, path: str) -> Iterator[str]:
        if not isinstance(value, Mapping):
            yield f"{path} is {_shown(value)}: expected an object"
            return
        for name, check in {**self.required, **self.optional}.items():
            if value.get(name) is not None:
                yield from check(value[name], _below(path, name))
            elif name in self.required:
                yield f"{_below(path, name)} is missing"


@dataclass(frozen=True)
class _Each:
    """A list of such values."""

    of: Check

    def __call__(self, value: Any, path: str) -> Iterator[str]:
        if not isinstance(value, list):
            yield f"{path} is {_shown(value)}: expected a list"
            return
        for number, item in enumerate(value):
            yield from self.of(item, f"{path}[{number}]")


def _text(value: Any, path: str) -> Iterator[str]:
    if not isinstance(value, str) or not value:
        yield f"{path} is {_shown(value)}: expected a text"


def _flag(value: Any, path: str) -> Iterator[str]:
    if not isinstance(value, bool):
        yield f"{path} is {_shown(value)}: expected true or false"


def _texts(value: Any, path: str) -> Iterator[str]:
    if not isinstance(value, Mapping):
        yield f"{path} is {_shown(value)}: expected an object"
        return
    for name, text in value.items():
        if not isinstance(name, str) or not isinstance(text, str):
            yield f"{path} has {_shown(name)}: {_shown(text)}: expected texts"


def _quantities(value: Any, path: str) -> Iterator[str]:
    if not isinstance(value, Mapping):
        yield f"{path} is {_shown(value)}: expected an object"
        return
    for name, amount in value.items():
        if not isinstance(name, str):
            yield f"{path} has the key {_shown(name)}: expected a resource's name"
        elif amount is None:
            continue
        elif isinstance(amount, bool) or not isinstance(amount, str | int | float):
            yield f"{_below(path, name)} is {_shown(amount)}: expected a quantity"
        else:
            try:
                parse_quantity(str(amount))
            except ValueError as error:
                yield f"{_below(path, name)}: {error}"


def _shown(value: Any) -> str:
    text = json.dumps(value, default=str, ensure_ascii=False)
    return text if len(text) <= 60 else f"{text[:57]}..."


def _below(path: str, name: str) -> str:
    return f"{path}.{name}" if path else name


_NAMED = _Object({"name": _text})
_RESOURCES = _Object(
    optional={"limits": _quantities, "requests": _quantities, "claims": _Each(_NAMED)},
)
_CONTAINER = _Object(
    {"name": _text},
    {
        "restartPolicy": _text,
        "resources": _RESOURCES,
        "env": _Each(_NAMED),
        "envFrom": _Each(_Object()),
        "securityContext": _Object(optional={"privileged": _flag}),
    },
)
_POD_SPEC = _Object(
    {"containers": _Each(_CONTAINER)},
    {
        "initContainers": _Each(_CONTAINER),
        "nodeName": _text,
        "runtimeClassName": _text,
        "resources": _RESOURCES,
        "resourceClaims": _Each(_Object({"name": _text}, {"resourceClaimName": _text})),
    },
)
_EXTENDED = _Object(
    {"resourceClaimName": _text, "requestMappings": _Each(_Object({"resourceName": _text}))},
)
_POD_STATUS = _Object(
    optional={
        "phase": _text,
        "resourceClaimStatuses": _Each(_Object({"name": _text}, {"resourceClaimName": _text})),
        "extendedResourceClaimStatus": _EXTENDED,
    }
)
_RESULT = _Object({"driver": _text, "pool": _text, "device": _text})
_ALLOCATION = _Object(optional={"devices": _Object(optional={"results": _Each(_RESULT)})})
_OWNER = _Object({"kind": _text, "name": _text}, {"controller": _flag, "apiVersion": _text})
_METADATA = _Object({"name": _text}, {"namespace": _text, "ownerReferences": _Each(_OWNER), "labels": _texts})


@dataclass(frozen=True)
class _Values:
    """A mapping whose values are such values."""

    of: Check

    def __call__(self, value: Any, path: str) -> Iterator[str]:
        if not isinstance(value, Mapping):
            yield f"{path} is {_shown(value)}: expected an object"
            return
        for name, item in value.items():
            yield from self.of(item, _below(path, str(name)))


def _at(path: list[str], check: Check, required: bool = False) -> Check:
    """An object with such a value at a path as `Template.path` writes it."""
    for name in reversed(path):
        if name == "*":
            check = _Values(check)
        else:
            listed = name.endswith("[]")
            fields = {name.removesuffix("[]"): _Each(check) if listed else check}
            check = _Object(fields) if required else _Object(optional=fields)
    return check


def _checks_of(template: Template, required: bool) -> Iterator[Check]:
    """What must hold for an object with such a template."""
    for place in template.places:
        container = _named(place.resources) if place.name else _CONTAINER
        path = place.field if place.name else f"{place.field}[]"
        needed = required and place.field == "containers"
        yield _at(template.path.split("."), _at(path.split("."), container, needed), required)
    yield _at(template.path.split("."), _Object(optional={"resources": _RESOURCES}), required)


def _named(resources: str) -> Check:
    """A container to which the operator gives its name."""
    return _Object(optional={resources: _RESOURCES, "env": _Each(_NAMED), "envFrom": _Each(_Object())})


def _owner_faults(item: Mapping[str, Any], row: OwnerKind) -> Iterator[str]:
    yield from _Object({"apiVersion": _text})(item, "")
    for template in row.templates:
        for check in _checks_of(template, row.is_builtin):
            yield from check(item, "")


_SHAPES: Mapping[str, Check] = {
    "Pod": _Object({"spec": _POD_SPEC}, {"status": _POD_STATUS}),
    "ResourceClaim": _Object(optional={"status": _Object(optional={"allocation": _ALLOCATION})}),
    "RuntimeClass": _Object({"handler": _text}),
    "Node": _Object(
        optional={
            "status": _Object(
                optional={"allocatable": _quantities, "nodeInfo": _Object(optional={"kubeletVersion": _text})}
            )
        }
    ),
}
"""Kind -> the form of its objects; other kinds are not read."""


def faults(item: Mapping[str, Any]) -> list[str]:
    """What is wrong with an object of a file, each fault with its place: ``spec.containers[0].name is missing``."""
    shape, row = _SHAPES.get(item["kind"]), owner_kind(item)
    if shape is None and row is None:
        return []
    found = [*_METADATA(item.get("metadata"), "metadata")]
    if shape:
        found += shape(item, "")
    if row:
        found += _owner_faults(item, row)
    return list(dict.fromkeys(found))
