# SPDX-License-Identifier: GPL-3.0-or-later
"""What a drain of one node would do, decided from plain API objects. Pure: nothing is read, nothing is changed.

The rules are those of ``kubectl drain --ignore-daemonsets`` (kubernetes/kubectl ``pkg/drain/filters.go``) and of the
eviction API (kubernetes/kubernetes ``pkg/registry/core/pod/storage/eviction.go``), Kubernetes 1.20 to 1.36.
"""

from __future__ import annotations

import typing as t
from collections.abc import Collection, Iterable, Mapping
from dataclasses import asdict, dataclass

from ansible_collections.kubepin.tuning.plugins.module_utils.common.problem import Problem, to_dicts
from ansible_collections.kubepin.tuning.plugins.module_utils.control.cluster import problems
from ansible_collections.kubepin.tuning.plugins.module_utils.control.cluster.node import is_tolerated
from ansible_collections.kubepin.tuning.plugins.module_utils.control.cluster.verification_pod import is_probe

JsonObject = Mapping[str, t.Any]

Entry = dict[str, str | None]

_MIRROR_ANNOTATION = "kubernetes.io/config.mirror"
_CORDON_TAINT = {"key": "node.kubernetes.io/unschedulable", "effect": "NoSchedule"}
_NOT_TO_BE_DISTURBED = {
    # kubernetes/autoscaler cluster-autoscaler/utils/drain/drain.go PodSafeToEvictKey
    "cluster-autoscaler.kubernetes.io/safe-to-evict": "false",
    # kubernetes-sigs/karpenter pkg/apis/v1/labels.go DoNotDisruptAnnotationKey
    "karpenter.sh/do-not-disrupt": "true",
}
"""Annotations of pods that keep an autoscaler from evicting them. `kubectl drain` does not read them, nor does kubepin."""


@dataclass(frozen=True)
class DrainPlan:
    """What a drain would do: every list is sorted by namespace and name.

    *evicted* pods have to leave the node (including those in *problems*, once these are solved), *kept* pods stay
    (DaemonSet and mirror pods), *terminating* pods are already being deleted and are only waited for. *problems* last
    until a person acts; the evictions in *blocked* are forbidden by a disruption budget now, but may be allowed later.
    *notes* name pods that are evicted although they ask autoscalers to leave them alone.
    """

    evicted: list[Entry]
    kept: list[Entry]
    terminating: list[Entry]
    problems: list[Problem]
    blocked: list[Problem]
    notes: list[str]

    def to_dict(self) -> dict[str, t.Any]:
        """The plan as facts carry it."""
        return {**asdict(self), "problems": to_dicts(self.problems), "blocked": to_dicts(self.blocked)}


def plan_drain(
    pods: Iterable[JsonObject],
    budgets: Collection[JsonObject],
    daemon_sets: Collection[tuple[str, str]],
    *,
    delete_emptydir_data: bool = False,
    force: bool = False,
) -> DrainPlan:
    """Decide what a drain evicts and keeps, and list every reason why it could not finish.

    A disruption budget blocks only if it allows no disruption *now*. A budget that allows 1 while two of its pods run
    on the node does not block: the drain evicts one, waits until it is replaced elsewhere, and continues.

    :param pods: all pods of the node
    :param budgets: the cluster's PodDisruptionBudgets, each with its ``apiVersion``
    :param daemon_sets: (namespace, name) of the cluster's DaemonSets; a pod of a missing DaemonSet counts as bare
    :param delete_emptydir_data: pods may lose the data in their emptyDir volumes
    :param force: pods without a controller may be deleted
    """
    plan = DrainPlan([], [], [], [], [], [])
    for pod in sorted(pods, key=_key):
        controller = _controller(pod)
        entry = _entry(pod, controller)
        if reason := _stays(pod, daemon_sets):
            plan.kept.append({**entry, "reason": reason})
        elif _finished(pod):
            plan.evicted.append(entry)
        elif pod["metadata"].get("deletionTimestamp"):
            plan.terminating.append(entry)
        else:
            plan.evicted.append(entry)
            bare = None if force or is_probe(pod) else _bare_problem(pod, controller)
            local_data = None if delete_emptydir_data else _local_data_problem(pod)
            plan.problems.extend(filter(None, (bare, local_data)))
            plan.blocked.extend(filter(None, (_budget_problem(pod, budgets),)))
            plan.notes.extend(_asks_to_stay(pod))
    return plan


def arrivals(
    pods: Iterable[JsonObject], first: Collection[str], daemon_sets: Collection[tuple[str, str]]
) -> list[Entry]:
    """The pods that came to the node during its drain, each with a `text` that says whether that matters.

    `kubectl drain` does not evict them either: it works on the list that it made at its start.

    :param pods: all pods of the node at the end of the drain
    :param first: the UIDs of the pods that the drain found at its start
    """
    return [
        {**_entry(pod, _controller(pod)), "text": _arrival_text(pod)}
        for pod in sorted(pods, key=_key)
        if pod["metadata"]["uid"] not in first and not _finished(pod) and not _stays(pod, daemon_sets)
    ]


def _arrival_text(pod: JsonObject) -> str:
    tolerations = (pod.get("spec") or {}).get("tolerations") or []
    return problems.arrived(_name(pod), is_tolerated(_CORDON_TAINT, tolerations), _devices(pod))


def _devices(pod: JsonObject) -> list[str]:
    """The extended resources that the pod's containers hold, such as "nvidia.com/gpu"."""
    limits = [(c.get("resources") or {}).get("limits") or {} for c in (pod.get("spec") or {}).get("containers") or []]
    return sorted({name for each in limits for name in each if "/" in name})


def _asks_to_stay(pod: JsonObject) -> list[str]:
    annotations = pod["metadata"].get("annotations") or {}
    return [
        problems.asks_to_stay(_name(pod), key, value)
        for key, value in _NOT_TO_BE_DISTURBED.items()
        if annotations.get(key) == value
    ]


def stays_through_drain(pod: JsonObject) -> bool:
    """Whether a drain leaves the pod on its node, as if the DaemonSets that pods name were all there."""
    controller = _controller(pod)
    of_daemon_set = controller is not None and controller["kind"] == "DaemonSet" and not _finished(pod)
    return of_daemon_set or _MIRROR_ANNOTATION in (pod["metadata"].get("annotations") or {})


def _stays(pod: JsonObject, daemon_sets: Collection[tuple[str, str]]) -> str | None:
    """Why a drain leaves the pod on the node; None if it does not."""
    if _MIRROR_ANNOTATION in (pod["metadata"].get("annotations") or {}):
        return "mirror"
    controller = _controller(pod)
    if controller and controller["kind"] == "DaemonSet" and (_key(pod)[0], controller["name"]) in daemon_sets:
        return None if _finished(pod) else "daemonset"
    return None


def selector_matches(selector: JsonObject | None, labels: Mapping[str, str], *, empty_matches: bool) -> bool:
    """Whether a LabelSelector selects an object with *labels* (apimachinery ``LabelSelectorAsSelector``).

    A missing selector matches nothing, nor does one with an unknown operator or with ``In``/``NotIn`` without values:
    the API server skips such budgets. What an empty selector matches depends on the API: *empty_matches*.
    """
    if selector is None:
        return False
    exact: Mapping[str, str] = selector.get("matchLabels") or {}
    expressions: list[JsonObject] = selector.get("matchExpressions") or []
    if not exact and not expressions:
        return empty_matches
    return all(labels.get(key) == value for key, value in exact.items()) and all(
        _expression_matches(expression, labels) for expression in expressions
    )


def _expression_matches(expression: JsonObject, labels: Mapping[str, str]) -> bool:
    key, operator, values = expression["key"], expression["operator"], expression.get("values") or []
    if operator == "In":
        return labels.get(key) in values
    if operator == "NotIn":
        return bool(values) and labels.get(key) not in values
    if operator == "Exists":
        return key in labels
    if operator == "DoesNotExist":
        return key not in labels
    return False


def _key(pod: JsonObject) -> tuple[str, str]:
    return pod["metadata"]["namespace"], pod["metadata"]["name"]


def _entry(pod: JsonObject, controller: JsonObject | None) -> Entry:
    namespace, name = _key(pod)
    owner = f"{controller['kind']}/{controller['name']}" if controller else None
    return {"namespace": namespace, "name": name, "owner": owner}


def _controller(pod: JsonObject) -> JsonObject | None:
    return next((owner for owner in pod["metadata"].get("ownerReferences") or [] if owner.get("controller")), None)


def _finished(pod: JsonObject) -> bool:
    return _status(pod).get("phase") in ("Succeeded", "Failed")


def _ready(pod: JsonObject) -> bool:
    return any(c["type"] == "Ready" and c["status"] == "True" for c in _status(pod).get("conditions") or [])


def _status(pod: JsonObject) -> JsonObject:
    return pod.get("status") or {}


def _name(item: JsonObject) -> str:
    return "/".join(_key(item))


def _bare_problem(pod: JsonObject, controller: JsonObject | None) -> Problem | None:
    if controller is None:
        return problems.no_controller(_name(pod))
    if controller["kind"] == "DaemonSet":
        return problems.daemon_set_missing(_name(pod), controller["name"])
    return None


def _local_data_problem(pod: JsonObject) -> Problem | None:
    volumes = [v["name"] for v in (pod.get("spec") or {}).get("volumes") or [] if v.get("emptyDir") is not None]
    return problems.local_data(_name(pod), volumes) if volumes else None


def _budget_problem(pod: JsonObject, budgets: Iterable[JsonObject]) -> Problem | None:
    """Why the eviction API would answer 429 or 500 for *pod* now; the order of the checks is eviction.go's."""
    if _status(pod).get("phase") == "Pending":
        return None
    matching = sorted((budget for budget in budgets if _protects(budget, pod)), key=_name)
    if not matching:
        return None
    if len(matching) > 1:
        return problems.several_budgets(_name(pod), [_name(budget) for budget in matching])
    budget = matching[0]
    names = _name(pod), _name(budget)
    status = _status(budget)
    healthy, desired = status.get("currentHealthy", 0), status.get("desiredHealthy", 0)
    always = (budget.get("spec") or {}).get("unhealthyPodEvictionPolicy") == "AlwaysAllow"
    if not _ready(pod) and (always or healthy >= desired > 0):
        return None
    observed, generation = status.get("observedGeneration", 0), budget["metadata"].get("generation", 0)
    if observed < generation:
        return problems.budget_outdated(*names, observed, generation)
    if status.get("disruptionsAllowed", 0) > 0:
        return None
    for condition in status.get("conditions") or []:
        if condition.get("reason") == "SyncFailed" and condition.get("message"):
            return problems.budget_failing(*names, condition["message"])
    word = problems.budget_exhausted if _ready(pod) else problems.budget_pod_not_ready
    return word(*names, healthy, desired)


def _protects(budget: JsonObject, pod: JsonObject) -> bool:
    """Whether *budget* covers *pod*. An empty selector matches the whole namespace in policy/v1, nothing in v1beta1."""
    return _key(budget)[0] == _key(pod)[0] and selector_matches(
        (budget.get("spec") or {}).get("selector"),
        pod["metadata"].get("labels") or {},
        empty_matches=budget["apiVersion"] == "policy/v1",
    )
