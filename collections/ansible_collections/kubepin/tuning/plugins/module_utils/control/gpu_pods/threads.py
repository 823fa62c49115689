# SPDX-License-Identifier: GPL-3.0-or-later
"""The admission policy that sets the number of threads of GPU pods to their CPU limit, and what it would have set. Pure.

MutatingAdmissionPolicy is KEP-3962: in admissionregistration.k8s.io/v1 and on from Kubernetes 1.36, a beta from 1.34 that
is off by default (apiserver pkg/features/kube_features.go). Where the API server does not serve it, a
ValidatingAdmissionPolicy warns instead. The mutation is an apply configuration, which is merged by the names of
containers and variables (apiserver pkg/admission/plugin/policy/mutating/patch/smd.go). It names every container in its
order, so that the merge keeps the order.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from ansible_collections.kubepin.tuning.plugins.module_utils.common.errors import TuningError
from ansible_collections.kubepin.tuning.plugins.module_utils.control.gpu_pods import problems
from ansible_collections.kubepin.tuning.plugins.module_utils.control.gpu_pods.pod import (
    asks_for_gpu,
    thread_count,
    unset_variables,
)
from ansible_collections.kubepin.tuning.plugins.module_utils.control.gpu_pods.policy import (
    API,
    CONTAINERS,
    POD,
    PODS,
    WORKLOADS,
    covered,
    match_resources,
    policy_object,
)
from ansible_collections.kubepin.tuning.plugins.module_utils.control.words import counted

Data = Mapping[str, Any]

NAME = "kubepin-gpu-pod-threads"
_MUTATING = "MutatingAdmissionPolicy"
_VALIDATING = "ValidatingAdmissionPolicy"
_VERSIONS = (API, "admissionregistration.k8s.io/v1beta1")


def gpu_pod_thread_policy(settings: Data, apis: Data) -> dict[str, list[dict[str, Any]]]:
    """``wanted``: the policy and its binding, none unless ``threads`` is true; ``others``: objects of its names to remove.

    :param settings: as for `gpu_pod_policy`, with ``threads`` and ``thread_variables``
    :param apis: API version -> the kinds that the API server serves in it
    """
    mutating = mutating_api(apis)
    warning = _warning(settings)
    setting = _setting(settings, mutating) if mutating else []
    if not settings["threads"]:
        return {"wanted": [], "others": [*setting, *warning]}
    return {"wanted": setting or warning, "others": warning if setting else []}


def mutating_api(apis: Data) -> str:
    """The API version of MutatingAdmissionPolicy, or nothing if the API server does not serve it."""
    return next((version for version in _VERSIONS if _MUTATING in apis.get(version, {})), "")


def unset_threads(pods: Iterable[Data], namespaces: Iterable[Data], settings: Data) -> list[dict[str, Any]]:
    """What the policy would have set in pods that have not finished: a pod with its containers, and the variables of each.

    :param settings: ``exempt_namespaces``, ``exempt_label``, ``resource_prefixes`` and ``thread_variables``
    :raises TuningError: for a pod that cannot be understood
    """
    key, _separator, value = settings["exempt_label"].partition("=")
    exempt = {*settings["exempt_namespaces"]}
    exempt |= {
        item["metadata"]["name"] for item in namespaces if (item["metadata"].get("labels") or {}).get(key) == value
    }
    found = []
    for item in pods:
        metadata = item["metadata"]
        finished = (item.get("status") or {}).get("phase") in ("Succeeded", "Failed")
        exempted = metadata["namespace"] in exempt or (metadata.get("labels") or {}).get(key) == value
        if finished or exempted:
            continue
        try:
            containers = pod_threads(item["spec"], settings["resource_prefixes"], settings["thread_variables"])
        except ValueError as error:
            name = f"{metadata['namespace']}/{metadata['name']}"
            raise TuningError(problems.pod_not_understood(name, str(error))) from error
        if containers:
            found.append({"namespace": metadata["namespace"], "name": metadata["name"], "containers": containers})
    return sorted(found, key=lambda pod: (pod["namespace"], pod["name"]))


def pod_threads(spec: Data, prefixes: Sequence[str], variables: Sequence[str]) -> dict[str, dict[str, str]]:
    """Container -> the variables that the policy sets in it, with their values; containers without any are left out.

    :raises ValueError: for an invalid quantity
    """
    if not asks_for_gpu(spec, prefixes):
        return {}
    containers = [each for field in ("initContainers", "containers") for each in spec.get(field) or []]
    found = {each["name"]: (str(thread_count(each)), unset_variables(each, variables)) for each in containers}
    return {name: dict.fromkeys(unset, count) for name, (count, unset) in found.items() if unset}


def gpu_pod_threads_text(pods: Sequence[Data]) -> str:
    """What the policy would have set, pods of a namespace with equal containers in one line."""
    groups: dict[tuple[str, str], list[str]] = {}
    for pod in pods:
        set_ = "; ".join(
            f"{name}: {', '.join(f'{variable}={value}' for variable, value in values.items())}"
            for name, values in pod["containers"].items()
        )
        groups.setdefault((pod["namespace"], set_), []).append(pod["name"])
    if not groups:
        return "kubepin: no running GPU pod leaves its number of threads unset."
    lines = [
        f"  {namespace}/{names[0]}" + (f" and {len(names) - 1} more" if len(names) > 1 else "") + f"   {set_}"
        for (namespace, set_), names in groups.items()
    ]
    head = (
        f"kubepin: the policy would have set the number of threads in {counted(len(pods), 'running GPU pod')}. Running pods stay as "
        "they are."
    )
    return "\n".join([head, *lines])


def _setting(settings: Data, api: str) -> list[dict[str, Any]]:
    spec = {
        "failurePolicy": "Ignore",
        # other admission plugins may add containers after the first call
        "reinvocationPolicy": "IfNeeded",
        "matchConstraints": {"resourceRules": [PODS]},
        "variables": _variables(settings),
        "mutations": [{"patchType": "ApplyConfiguration", "applyConfiguration": {"expression": _mutation(settings)}}],
    }
    binding = {"policyName": NAME, "matchResources": match_resources(settings, [PODS])}
    return [policy_object(_MUTATING, NAME, spec, api), policy_object(f"{_MUTATING}Binding", NAME, binding, api)]


def _warning(settings: Data) -> list[dict[str, Any]]:
    rules = [PODS, *WORKLOADS]
    text = "a GPU pod starts a thread per CPU of the host if nothing limits their number."
    spec = {
        "failurePolicy": "Ignore",
        "matchConstraints": {"resourceRules": rules},
        "variables": [*_variables(settings), {"name": "unset", "expression": _unset_texts(settings)}],
        "validations": [
            {
                "expression": "variables.unset.size() == 0",
                "message": text,
                "messageExpression": f"{json.dumps(text)} + ' ' + variables.unset.join('; ')",
            }
        ],
    }
    binding = {"policyName": NAME, "validationActions": ["Warn"], "matchResources": match_resources(settings, rules)}
    return [policy_object(_VALIDATING, NAME, spec), policy_object(f"{_VALIDATING}Binding", NAME, binding)]


def _variables(settings: Data) -> list[dict[str, str]]:
    return [
        {"name": "pod", "expression": POD},
        {"name": "covered", "expression": covered(settings)},
        {"name": "names", "expression": json.dumps(list(settings["thread_variables"]))},
    ]


# A limit of 0 counts as none, and variables from other objects cannot be read: unset_variables() has the same rules.
_UNSET = (
    "variables.names.filter(n, variables.covered"
    " && quantity(c.?resources.?limits.?cpu.orValue(dyn('0'))).isGreaterThan(quantity('0'))"
    " && c.?envFrom.orValue([]).size() == 0 && !c.?env.orValue([]).exists(e, e.name == n))"
)
_FLOAT = "quantity(c.?resources.?limits.?cpu.orValue(dyn('1'))).asApproximateFloat()"
_COUNT = f"string({_FLOAT} < 1.0 ? 1 : int({_FLOAT}))"


def _mutation(settings: Data) -> str:
    def with_variables(field: str, containers: str) -> str:
        env = f"{_UNSET}.map(n, Object.spec.{field}.env{{name: n, value: {_COUNT}}})"
        return f"{field}: {containers}.map(c, Object.spec.{field}{{name: c.name, env: {env}}})"

    init = with_variables("initContainers", "dyn(variables.pod.spec.?initContainers.orValue([]))")
    return (
        f"Object{{spec: Object.spec{{{init}, {with_variables('containers', 'dyn(variables.pod.spec.containers)')}}}}}"
    )


def _unset_texts(settings: Data) -> str:
    return (
        f"{CONTAINERS}.map(c, {_UNSET}.map(n, 'container ' + string(c.name) + ': set ' + n + ' to ' + {_COUNT}))"
        ".map(texts, texts.join('; ')).filter(text, text != '')"
    )
