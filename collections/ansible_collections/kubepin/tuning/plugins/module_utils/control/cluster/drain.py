# SPDX-License-Identifier: GPL-3.0-or-later
# Private to the collection: may change without notice.
"""What a drain of one node would do, decided from plain API objects. Pure: nothing is read, nothing is changed.

The rules are those of ``kubectl drain --ignore-daemonsets`` (kubernetes/kubectl ``pkg/drain/filters.go``) and of the
eviction API (kubernetes/kubernetes ``pkg/registry/core/pod/storage/eviction.go``), Kubernetes 1.20 to 1.36.
"""

from __future__ import annotations

import typing as t
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass

from ansible_collections.kubepin.tuning.plugins.module_utils.control.cluster.verification_pod import is_probe

JsonObject = Mapping[str, t.Any]

_MIRROR_ANNOTATION = "kubernetes.io/config.mirror"
_SKIP_NODE = "or leave the node out with --limit."


@dataclass(frozen=True)
class DrainPlan:
    """What a drain would do: every list is sorted by namespace and name.

    *evicted* has to leave the node (pods named in *problems* among them: they would leave once that is solved), *kept*
    stays (DaemonSet and mirror pods), *terminating* is on its way out already and only waited for. *problems* stay until
    somebody acts; what *blocked* names, a disruption budget forbids now, and may allow later.
    """

    evicted: list[dict[str, str | None]]
    kept: list[dict[str, str | None]]
    terminating: list[dict[str, str | None]]
    problems: list[str]
    blocked: list[str]


def plan_drain(
    pods: Iterable[JsonObject],
    budgets: Collection[JsonObject],
    daemon_sets: Collection[tuple[str, str]],
    *,
    delete_emptydir_data: bool = False,
    force: bool = False,
) -> DrainPlan:
    """Decide what a drain evicts and keeps, and name every reason why it could not finish, all at once.

    A disruption budget blocks only if it allows no disruption *now*. One that allows 1 while two of its pods run on
    the node does not: the drain evicts one, waits until it is replaced elsewhere, and goes on.

    :param pods: all pods of the node
    :param budgets: the cluster's PodDisruptionBudgets, each with its ``apiVersion``
    :param daemon_sets: (namespace, name) of the cluster's DaemonSets; a pod of one that is not there counts as bare
    :param delete_emptydir_data: pods may lose what they keep in emptyDir volumes
    :param force: pods that no controller would start again may be deleted
    """
    plan = DrainPlan([], [], [], [], [])
    for pod in sorted(pods, key=_key):
        controller = _controller(pod)
        entry = _entry(pod, controller)
        if _MIRROR_ANNOTATION in (pod["metadata"].get("annotations") or {}):
            plan.kept.append({**entry, "reason": "mirror"})
        elif _finished(pod):
            plan.evicted.append(entry)
        elif controller and controller["kind"] == "DaemonSet" and (_key(pod)[0], controller["name"]) in daemon_sets:
            plan.kept.append({**entry, "reason": "daemonset"})
        elif pod["metadata"].get("deletionTimestamp"):
            plan.terminating.append(entry)
        else:
            plan.evicted.append(entry)
            bare = None if force or is_probe(pod) else _bare_problem(pod, controller)
            local_data = None if delete_emptydir_data else _local_data_problem(pod)
            plan.problems.extend(filter(None, (bare, local_data)))
            plan.blocked.extend(filter(None, (_budget_problem(pod, budgets),)))
    return plan


def selector_matches(selector: JsonObject | None, labels: Mapping[str, str], *, empty_matches: bool) -> bool:
    """Whether a LabelSelector selects an object with *labels* (apimachinery ``LabelSelectorAsSelector``).

    No selector selects nothing, and neither does one with an unknown operator or with ``In``/``NotIn`` without values:
    the API server skips such budgets. What an empty selector means depends on the API: *empty_matches*.
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


def _entry(pod: JsonObject, controller: JsonObject | None) -> dict[str, str | None]:
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


def _bare_problem(pod: JsonObject, controller: JsonObject | None) -> str | None:
    if controller is None:
        return (
            f"pod {_name(pod)} has no controller: nothing would start it again. "
            f"Delete it, allow its deletion with `force`, {_SKIP_NODE}"
        )
    if controller["kind"] == "DaemonSet":
        return (
            f"pod {_name(pod)} belongs to DaemonSet {controller['name']}, which does not exist: nothing would start it "
            f"again. Delete it, allow its deletion with `force`, {_SKIP_NODE}"
        )
    return None


def _local_data_problem(pod: JsonObject) -> str | None:
    volumes = [v["name"] for v in (pod.get("spec") or {}).get("volumes") or [] if v.get("emptyDir") is not None]
    if not volumes:
        return None
    return (
        f"pod {_name(pod)} would lose the data of its emptyDir {_plural('volume', volumes)} {', '.join(volumes)}. "
        f"Save it and allow this with `delete_emptydir_data`, {_SKIP_NODE}"
    )


def _budget_problem(pod: JsonObject, budgets: Iterable[JsonObject]) -> str | None:
    """Why the eviction API would answer 429 or 500 for *pod* now; the order of the checks is eviction.go's."""
    if _status(pod).get("phase") == "Pending":
        return None
    matching = sorted((budget for budget in budgets if _protects(budget, pod)), key=_name)
    if not matching:
        return None
    refused = f"pod {_name(pod)} cannot be evicted:"
    if len(matching) > 1:
        return (
            f"{refused} it has {len(matching)} disruption budgets ({', '.join(map(_name, matching))}), and the "
            f"eviction API accepts one. Change their selectors, {_SKIP_NODE}"
        )
    budget = matching[0]
    status = _status(budget)
    healthy, desired = status.get("currentHealthy", 0), status.get("desiredHealthy", 0)
    always = (budget.get("spec") or {}).get("unhealthyPodEvictionPolicy") == "AlwaysAllow"
    if not _ready(pod) and (always or healthy >= desired > 0):
        return None
    observed, generation = status.get("observedGeneration", 0), budget["metadata"].get("generation", 0)
    if observed < generation:
        return (
            f"{refused} the status of disruption budget {_name(budget)} is out of date (generation {observed} of "
            f"{generation}). Try again in a few seconds; if it stays so, look at kube-controller-manager."
        )
    if status.get("disruptionsAllowed", 0) > 0:
        return None
    blocked = f"{refused} disruption budget {_name(budget)} allows 0"
    for condition in status.get("conditions") or []:
        if condition.get("reason") == "SyncFailed" and condition.get("message"):
            return f"{blocked}, because its controller fails: {condition['message']}. Repair the budget, {_SKIP_NODE}"
    counts = f"(currently {healthy} healthy of {desired} desired)"
    if not _ready(pod):
        return (
            f"{blocked} {counts}, and the pod itself is not ready. Repair its application, relax the budget (in "
            f"Kubernetes 1.27 and newer with `unhealthyPodEvictionPolicy: AlwaysAllow`), {_SKIP_NODE}"
        )
    return f"{blocked} {counts}. Scale its owner up, relax the budget, {_SKIP_NODE}"


def _protects(budget: JsonObject, pod: JsonObject) -> bool:
    """Whether *budget* covers *pod*. An empty selector covers the whole namespace in policy/v1, nothing in v1beta1."""
    return _key(budget)[0] == _key(pod)[0] and selector_matches(
        (budget.get("spec") or {}).get("selector"),
        pod["metadata"].get("labels") or {},
        empty_matches=budget["apiVersion"] == "policy/v1",
    )


def _plural(word: str, items: Collection[object]) -> str:
    return word if len(items) == 1 else f"{word}s"
