# SPDX-License-Identifier: GPL-3.0-or-later
"""The admission policy that applies the rules of ``gpu_pods.pod``. Pure: settings and API objects in, plain data out.

The policy does not check what depends on the node (threads per core, number of CPUs, CPU manager policy), because a pod
has no node at admission. For pods with pod-level resources the kubelet counts as one with the default feature gates, as in
an audit that cannot read it.

Controllers create most pods, and warnings to controllers go unread. So the policy also checks the templates of their
owners, with a binding that never denies, as in Pod Security admission (KEP-2579): a controller that may not update its
own object is stuck.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any

from ansible_collections.kubepin.tuning.plugins.module_utils.common.problem import to_dicts
from ansible_collections.kubepin.tuning.plugins.module_utils.common.versions import parse_version
from ansible_collections.kubepin.tuning.plugins.module_utils.control.cluster.gpu_resources import gpu_prefixes
from ansible_collections.kubepin.tuning.plugins.module_utils.control.gpu_pods import problems

Data = Mapping[str, Any]

NAME = "kubepin-gpu-pods"
FIRST = (1, 30)
"""ValidatingAdmissionPolicy, KEP-3488: generally available and on without a feature gate."""

OWNERS = f"{NAME}-owners"

API = "admissionregistration.k8s.io/v1"
_LABEL = re.compile(r"[A-Za-z0-9._/-]+=[A-Za-z0-9._-]+")
_PREFIX = re.compile(r"[A-Za-z0-9._/-]+")
_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_MANAGED_BY = {"app.kubernetes.io/managed-by": "kubepin"}


def gpu_pod_policy(settings: Data) -> list[dict[str, Any]]:
    """The policy and its bindings. Empty fields are included, so that a merge patch removes what an older version set.

    :param settings: ``action``, ``exempt_namespaces``, ``exempt_label`` as ``KEY=VALUE``, ``resource_prefixes``
    """
    action = settings["action"]
    policy = {
        "failurePolicy": "Fail" if action == "Deny" else "Ignore",
        "matchConstraints": {"resourceRules": [PODS, *WORKLOADS]},
        "variables": [
            {"name": "pod", "expression": POD},
            {"name": "covered", "expression": covered(settings)},
            {"name": "podLevel", "expression": _POD_LEVEL},
            {"name": "asked", "expression": _ASKED},
            {"name": "problems", "expression": _PROBLEMS},
        ],
        "validations": [
            {
                "expression": "!variables.covered || !variables.podLevel",
                "message": f"{_RULE} Give each container limits of its own, and leave spec.resources out.",
            },
            {
                "expression": "!variables.covered || variables.podLevel || variables.problems.size() == 0",
                "message": f"{_RULE} Give each container a limit of whole CPUs and one of memory, and equal requests or none.",
                "messageExpression": f"{json.dumps(_RULE)} + ' ' + variables.problems.join('; ')",
            },
        ],
    }
    return [
        policy_object("ValidatingAdmissionPolicy", NAME, policy),
        policy_object("ValidatingAdmissionPolicyBinding", NAME, _binding(settings, action, [PODS])),
        policy_object("ValidatingAdmissionPolicyBinding", OWNERS, _binding(settings, _OF_OWNERS[action], WORKLOADS)),
    ]


def gpu_pod_policy_problems(
    found: Sequence[Data], settings: Data, version: str, state: str = "present"
) -> list[dict[str, Any]]:
    """Why the policies may not be written or removed, as facts carry problems.

    :param found: the existing objects with the policies' names
    :param settings: as for `gpu_pod_policy`, with ``threads`` and ``thread_variables``
    :param version: the API server's version
    :param state: `present` or `absent`; a server that is too old has no policy to remove
    """
    wrong = []
    if state == "present" and parse_version(version).line < FIRST:
        wrong.append(problems.server_too_old(version, ".".join(map(str, FIRST))))
    if not _LABEL.fullmatch(settings["exempt_label"]):
        wrong.append(problems.exempt_label_invalid(settings["exempt_label"]))
    wrong += [
        problems.prefix_invalid(prefix) for prefix in settings["resource_prefixes"] if not _PREFIX.fullmatch(prefix)
    ]
    if settings["threads"] and not settings["thread_variables"]:
        wrong.append(problems.no_thread_variables())
    wrong += [
        problems.thread_variable_invalid(name)
        for name in settings["thread_variables"]
        if not _VARIABLE.fullmatch(str(name))
    ]
    wrong += [
        problems.not_ours(f"{item['kind']}/{item['metadata']['name']}")
        for item in found
        if any((item["metadata"].get("labels") or {}).get(key) != value for key, value in _MANAGED_BY.items())
    ]
    return to_dicts(wrong)


def gpu_pod_policy_faults(policy: Data) -> list[dict[str, Any]] | None:
    """The cluster's type checking warnings for the policy, as facts carry problems; None until the cluster has checked it."""
    status = policy.get("status") or {}
    if status.get("observedGeneration") != policy["metadata"]["generation"]:
        return None
    warnings = (status.get("typeChecking") or {}).get("expressionWarnings") or []
    return to_dicts(problems.policy_not_checked(warning["fieldRef"], warning["warning"]) for warning in warnings)


def policy_object(kind: str, name: str, spec: dict[str, Any], api: str = API) -> dict[str, Any]:
    """An object that kubepin knows as its own by the label."""
    return {"apiVersion": api, "kind": kind, "metadata": {"name": name, "labels": dict(_MANAGED_BY)}, "spec": spec}


def _rule(group: str, operations: list[str], *resources: str) -> dict[str, Any]:
    return {"apiGroups": [group], "apiVersions": ["v1"], "operations": operations, "resources": list(resources)}


PODS = _rule("", ["CREATE"], "pods")
WORKLOADS = [
    _rule("apps", ["CREATE", "UPDATE"], "deployments", "statefulsets", "daemonsets"),
    _rule("batch", ["CREATE", "UPDATE"], "jobs", "cronjobs"),
]
_OF_OWNERS = {"Warn": "Warn", "Audit": "Audit", "Deny": "Warn"}


def _binding(settings: Data, action: str, rules: list[dict[str, Any]]) -> dict[str, Any]:
    return {
        "policyName": NAME,
        "validationActions": [action],
        "matchResources": match_resources(settings, rules),
    }


def match_resources(settings: Data, rules: list[dict[str, Any]]) -> dict[str, Any]:
    """What a binding applies to: these resources in all namespaces that are not exempt."""
    key, _separator, value = settings["exempt_label"].partition("=")
    exempt = [("kubernetes.io/metadata.name", list(settings["exempt_namespaces"])), (key, [value])]
    return {
        "resourceRules": rules,
        "namespaceSelector": {
            "matchExpressions": [
                {"key": name, "operator": "NotIn", "values": values} for name, values in exempt if values
            ]
        },
    }


def covered(settings: Data) -> str:
    """Whether the pod requests a GPU, as ``pod.asks_for_gpu``, and is not exempt.

    Checking limits is enough: the API server rejects a request for a device without an equal limit.
    """
    key, _separator, value = settings["exempt_label"].partition("=")
    prefixes = gpu_prefixes(settings["resource_prefixes"])
    named = " || ".join(f"name.startsWith({json.dumps(prefix)})" for prefix in prefixes) or "false"
    return (
        f"variables.pod.?metadata.?labels[?{json.dumps(key)}].orValue('') != {json.dumps(value)}"
        f" && {CONTAINERS}.exists(c, c.?resources.?claims.orValue([]).size() > 0"
        f" || c.?resources.?limits.orValue({{}}).exists(name, ({named}) && c.resources.limits[name] != '0'))"
    )


_RULE = "a GPU pod gets exclusive CPUs only if each container has a limit of whole CPUs, a limit of memory, and requests equal to them."
# dyn: the kinds have different fields, the lists have different types, and spec.resources does not exist below 1.32.
POD = "dyn(object).spec.?jobTemplate.?spec.?template.or(dyn(object).spec.?template).orValue(dyn(object))"
CONTAINERS = "(dyn(variables.pod.spec.?initContainers.orValue([])) + dyn(variables.pod.spec.containers))"
_POD_LEVEL = (
    "['limits', 'requests'].exists(f, ['cpu', 'memory'].exists(n,"
    " quantity(variables.pod.spec.?resources[?f][?n].orValue('0')).isGreaterThan(quantity('0'))))"
)
_ASKED = f"""{CONTAINERS}.map(c, {{
  'name': c.name,
  'cpu': c.?resources.?limits.?cpu.orValue(dyn('0')),
  'memory': c.?resources.?limits.?memory.orValue(dyn('0')),
  'cpuRequest': c.?resources.?requests.?cpu.or(c.?resources.?limits.?cpu).orValue(dyn('0')),
  'memoryRequest': c.?resources.?requests.?memory.or(c.?resources.?limits.?memory).orValue(dyn('0'))
}})"""
# A quantity's own isInteger is false for 2000m.
_FLOAT = "quantity(c.cpu).asApproximateFloat()"


def _is_set(name: str) -> str:
    """A limit of 0 counts as none. (A quantity's sign is a function in some releases.)"""
    return f"quantity(c.{name}).isGreaterThan(quantity('0'))"


def _differs(name: str) -> str:
    return (
        f"!{_is_set(name)} || quantity(c.{name}).compareTo(quantity(c.{name}Request)) == 0 ? ''"
        f" : 'set requests.{name} (' + c.{name}Request + ') to limits.{name} (' + c.{name} + ') or leave it out'"
    )


_PROBLEMS = f"""variables.asked.map(c, [string(c.name), [
  !{_is_set("cpu")} ? 'set limits.cpu to a whole number'
    : double(int({_FLOAT})) == {_FLOAT} ? ''
    : 'make limits.cpu (' + c.cpu + ') a whole number, such as ' + string(int({_FLOAT}) + 1),
  {_differs("cpu")},
  {_is_set("memory")} ? '' : 'set limits.memory',
  {_differs("memory")}
].filter(text, text != '').join(', ')]).filter(p, p[1] != '').map(p, 'container ' + p[0] + ': ' + p[1])"""
