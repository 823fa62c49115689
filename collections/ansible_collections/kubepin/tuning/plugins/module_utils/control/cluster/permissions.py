# SPDX-License-Identifier: GPL-3.0-or-later
"""Pure: the API permissions that each purpose needs, as a manifest, as access reviews, and as text.

One table feeds all three, so that the documentation matches the checks. `make campaign WHAT=permissions` compares it
with the requests that a real API server received.
"""

from __future__ import annotations

import typing as t
from collections.abc import Container, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from ansible_collections.kubepin.tuning.plugins.module_utils.control.gpu_pods.owners import OWNERS, Change, OwnerKind
from ansible_collections.kubepin.tuning.plugins.module_utils.control.upgrade.removed_apis import READ_IN, REMOVED

NAMESPACES = {"probe": "kubepin-probe", "benchmark": "kubepin-benchmark", "system": "kube-system"}
"""Place -> the namespace in which the manifest grants what is needed in one namespace only."""

POD_SECURITY_LABEL = "pod-security.kubernetes.io/enforce"
POD_SECURITY = {"probe": "baseline", "benchmark": "restricted"}
"""Place -> the Pod Security Standard of its namespace: without one, the right to create pods there is root on any node,
by a privileged pod with `nodeName`. The admission plugin is on by default from Kubernetes 1.23; before, the label does
nothing. The probe pod runs as root, which `restricted` forbids."""


ALWAYS, SERVED, OPTIONAL = "always", "served", "optional"
"""When a right is asked for: always; if the API server serves its group; or never, because the run does without it."""


@dataclass(frozen=True)
class Rule:
    """Verbs on resources of an API group, in all namespaces or in the one that `place` denotes.

    A resource that begins with a slash is a non-resource URL of the API server.
    """

    group: str
    resources: tuple[str, ...]
    verbs: tuple[str, ...]
    place: str = ""
    need: str = ALWAYS


class Right(t.NamedTuple):
    """One question of a SelfSubjectAccessReview; the namespace is empty for all of them."""

    verb: str
    group: str
    resource: str
    namespace: str

    def __str__(self) -> str:
        name = f"{self.resource}.{self.group}" if self.group else self.resource
        return f"{self.verb} {name}" + (f" in namespace {self.namespace}" if self.namespace else "")


_NODES = Rule("", ("nodes",), ("get", "list"))
_CONFIGZ = Rule("", ("nodes/proxy",), ("get",))
_PODS = Rule("", ("pods",), ("list",))


def _owners(need: str, verbs: tuple[str, ...], rows: Iterable[OwnerKind]) -> tuple[Rule, ...]:
    plurals: dict[str, list[str]] = {}
    for row in rows:
        plurals.setdefault(row.group, []).append(row.plural)
    return tuple(Rule(group, tuple(sorted(these)), verbs, need=need) for group, these in sorted(plurals.items()))


_OWNERS = (
    *_owners(ALWAYS, ("list",), (row for row in OWNERS if row.is_builtin)),
    *_owners(OPTIONAL, ("list",), (row for row in OWNERS if not row.is_builtin)),
)
_PATCHED = [row for row in OWNERS if row.templates and row.change is Change.IN_PLACE]
_PATCHES = (
    *_owners(ALWAYS, ("get", "patch"), (row for row in _PATCHED if row.is_builtin)),
    *_owners(SERVED, ("get", "patch"), (row for row in _PATCHED if not row.is_builtin)),
)
_BUDGETS = Rule("policy", ("poddisruptionbudgets",), ("list",))
_CHECK = (_NODES, _CONFIGZ, _PODS)
_CLAIMS = Rule("resource.k8s.io", ("resourceclaims",), ("list",), need=OPTIONAL)
_RUNTIME_CLASSES = Rule("node.k8s.io", ("runtimeclasses",), ("list",), need=OPTIONAL)
_AUDIT = (*_CHECK, *_OWNERS, _CLAIMS, _RUNTIME_CLASSES)
_PREVIEW = (*_AUDIT, _BUDGETS)
_PATCH_NODES = Rule("", ("nodes",), ("patch",))
_DRAIN = (_PATCH_NODES, Rule("", ("pods/eviction",), ("create",)))
_POD_OF_OURS = (
    Rule("", ("pods",), ("create", "delete", "get")),
    Rule("", ("pods/log",), ("get",)),
    Rule("", ("events",), ("list",)),
)


def _in(place: str, rules: Sequence[Rule]) -> tuple[Rule, ...]:
    return tuple(replace(rule, place=place) for rule in rules)


def _removed_apis() -> Iterator[Rule]:
    """Permissions to search for objects in versions that a release no longer serves."""
    groups: dict[str, set[str]] = {}
    for api in REMOVED:
        groups.setdefault(READ_IN.get(api.group, api.group), set()).add(api.resource)
    for group, resources in sorted(groups.items()):
        yield Rule(group, tuple(sorted(resources)), ("list",))


_TUNE = (*_PREVIEW, *_DRAIN, *_in("probe", _POD_OF_OURS))
_ENFORCE = (
    Rule(
        "admissionregistration.k8s.io",
        (
            "mutatingadmissionpolicies",
            "mutatingadmissionpolicybindings",
            "validatingadmissionpolicies",
            "validatingadmissionpolicybindings",
        ),
        ("create", "delete", "get", "patch"),
    ),
)

PURPOSES: Mapping[str, tuple[Rule, ...]] = {
    "check": _CHECK,
    "taint": (_NODES, _PATCH_NODES),
    "audit": _AUDIT,
    "preview": _PREVIEW,
    "tune": _TUNE,
    "benchmark": (
        Rule("", ("nodes",), ("get", "list")),
        _CONFIGZ,
        _PODS,
        Rule("", ("namespaces",), ("get",)),
        *_in(
            "benchmark",
            (
                *_POD_OF_OURS,
                Rule("", ("pods",), ("list", "patch")),
                Rule("", ("configmaps",), ("create", "delete", "get", "patch")),
                Rule("", ("serviceaccounts",), ("get",)),
            ),
        ),
    ),
    "patch": _PATCHES,
    "enforce": _ENFORCE,
    "uninstall": (
        *_TUNE,
        *(Rule(rule.group, rule.resources, ("delete", "get")) for rule in _ENFORCE),
        Rule("", ("namespaces",), ("get",)),
        *_in("benchmark", (Rule("", ("pods",), ("list",)), Rule("", ("configmaps",), ("delete", "get")))),
    ),
    "threads": (_PODS, Rule("", ("namespaces",), ("list",))),
    "upgrade": (
        _NODES,
        _PODS,
        _BUDGETS,
        Rule("apps", ("daemonsets",), ("list",)),
        *_DRAIN,
        *_in("system", (Rule("", ("configmaps",), ("get", "list")), Rule("apps", ("daemonsets",), ("get",)))),
        _CONFIGZ,
        Rule("", ("/metrics",), ("get",)),
        *_removed_apis(),
    ),
}
"""What each purpose needs; `tune` also covers rollback. Discovery (/api, /apis, /version) is public and omitted."""

OWN_NAMESPACE = (Right("create", "", "namespaces", ""), Right("delete", "", "namespaces", ""))
"""What the benchmark also needs if its namespace does not exist, to create and delete it."""


def rights(purposes: Sequence[str], namespaces: Mapping[str, str], served: Container[str] = ()) -> list[Right]:
    """The individual permissions that *purposes* need, without duplicates.

    :param purposes: keys of `PURPOSES`
    :param namespaces: the names of the rules' places (`NAMESPACES`) in this cluster
    :param served: the API groups that the API server serves
    """
    found = {
        Right(verb, rule.group, resource, namespaces[rule.place] if rule.place else "")
        for purpose in purposes
        for rule in PURPOSES[purpose]
        if rule.need == ALWAYS or (rule.need == SERVED and rule.group in served)
        for resource in rule.resources
        for verb in rule.verbs
    }
    return sorted(found, key=lambda right: (right.namespace, right.group, right.resource, right.verb))


def review(right: Right) -> dict[str, t.Any]:
    """The SelfSubjectAccessReview for *right* (authorization.k8s.io/v1)."""
    if right.resource.startswith("/"):
        spec: dict[str, t.Any] = {"nonResourceAttributes": {"path": right.resource, "verb": right.verb}}
    else:
        resource, _separator, subresource = right.resource.partition("/")
        asked = {**right._asdict(), "resource": resource, "subresource": subresource}
        spec = {"resourceAttributes": {name: value for name, value in asked.items() if value}}
    return {"apiVersion": "authorization.k8s.io/v1", "kind": "SelfSubjectAccessReview", "spec": spec}


def texts_of(missing: Sequence[Right]) -> list[str]:
    """A line with the missing verbs for each API group, resource and namespace with missing permissions."""
    verbs: dict[Right, list[str]] = {}
    for right in missing:
        verbs.setdefault(right._replace(verb=""), []).append(right.verb)
    return [str(right._replace(verb=", ".join(these))) for right, these in verbs.items()]


def namespaces() -> list[dict[str, t.Any]]:
    """The manifest's namespaces, each with its Pod Security Standard."""
    return [
        {
            "apiVersion": "v1",
            "kind": "Namespace",
            "metadata": {"name": NAMESPACES[place], "labels": {POD_SECURITY_LABEL: standard}},
        }
        for place, standard in POD_SECURITY.items()
    ]


def cluster_roles() -> list[dict[str, t.Any]]:
    """The manifest's roles: for each purpose a ClusterRole, and another one for each namespace in which it needs more.

    A RoleBinding grants the latter in that namespace only.
    """
    return [
        {
            "apiVersion": "rbac.authorization.k8s.io/v1",
            "kind": "ClusterRole",
            "metadata": {"name": role_name(purpose, place)},
            "rules": [_rule(rule) for rule in _merged(rule for rule in rules if rule.place == place)],
        }
        for purpose, rules in PURPOSES.items()
        for place in sorted({rule.place for rule in rules})
    ]


def role_name(purpose: str, place: str) -> str:
    """The name of a ClusterRole of the manifest."""
    return f"kubepin-{purpose}" + (f"-in-{NAMESPACES[place]}" if place else "")


def _merged(rules: t.Iterable[Rule]) -> list[Rule]:
    """The rules with all verbs of the same resources merged; non-resource URLs are kept separate."""
    verbs: dict[tuple[str, tuple[str, ...]], set[str]] = {}
    for rule in rules:
        for resource in rule.resources:
            verbs.setdefault((rule.group, (resource,)), set()).update(rule.verbs)
    same: dict[tuple[str, tuple[str, ...], bool], list[str]] = {}
    for (group, (resource,)), these in sorted(verbs.items()):
        same.setdefault((group, tuple(sorted(these)), resource.startswith("/")), []).append(resource)
    return [Rule(group, tuple(resources), these) for (group, these, _path), resources in same.items()]


def _rule(rule: Rule) -> dict[str, t.Any]:
    if rule.resources[0].startswith("/"):
        return {"nonResourceURLs": list(rule.resources), "verbs": list(rule.verbs)}
    return {"apiGroups": [rule.group], "resources": list(rule.resources), "verbs": list(rule.verbs)}
