# SPDX-License-Identifier: GPL-3.0-or-later
"""Pure: builds the facts `kubepin_plan` and `kubepin_result` from the modules' results."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from enum import Enum
from typing import Any

from ansible_collections.kubepin.tuning.plugins.module_utils.common.kubelet.problems import (
    reconcile_period,
    touches_pinned_containers,
)
from ansible_collections.kubepin.tuning.plugins.module_utils.common.problem import (
    Problem,
    module_failed,
    problems_of,
    to_dicts,
)
from ansible_collections.kubepin.tuning.plugins.module_utils.common.quantity import parse_duration
from ansible_collections.kubepin.tuning.plugins.module_utils.common.versions import (
    FIRST_WITHOUT_RECONCILE_OF_PINNED,
    VersionError,
    parse_version,
)
from ansible_collections.kubepin.tuning.plugins.module_utils.control.cluster.node import manager_policy
from ansible_collections.kubepin.tuning.plugins.module_utils.control.run.outcome import Outcome
from ansible_collections.kubepin.tuning.plugins.module_utils.control.run.reading import reading_problems, timed_out
from ansible_collections.kubepin.tuning.plugins.module_utils.control.switch.problems import (
    clock_wrong,
    gpus_not_back,
    not_ready,
    other_machine,
    timeout_too_short,
    watch_too_short,
)
from ansible_collections.kubepin.tuning.plugins.module_utils.control.words import counted

Data = Mapping[str, Any]

SCHEMA = 2
_TIME_LIMIT = "cpu_manager_timeout"
"""The variable that sets the time limit of role cpu_manager's tasks on nodes."""
_AGAIN = "Remove the cause and run the same command again; nodes that are done are left alone."
DEFAULT_RECONCILE_PERIOD = "10s"
PROBE_MARGIN_SECONDS = 2
"""How much longer than a reconcile period the probe pod watches."""


HOLD_MARGIN_SECONDS = 30
"""What the tasks of a verification take besides its waits."""
CLOCK_SECONDS = 300
"""Certificates are made valid from so long before their time on, for clocks that differ (Kubernetes:
pkg/controller/certificates/signer/signer.go, `Backdate`)."""
SETTLE_SECONDS = 600
"""How long after its kubelet's start a node may be without GPUs: a driver may have to be loaded, or installed."""


class GpuProbe(str, Enum):
    """What the verification can check of a node's GPUs."""

    PLANNED = "planned"
    """The probe pod gets one."""
    NONE = "none"
    """The node offers none, and nothing says that it should."""
    HELD = "held"
    """Pods that stay through the drain hold all."""
    NOT_BACK = "not_back"
    """The node should offer some, and does not."""


def plan_fact(
    kubelet: Data,
    api: Data,
    accept_old_kubelet: bool = False,
    probe_seconds: int | str | None = None,
    timeout: int | str = 120,
    take_over: bool = False,
    state: str = "present",
    accept_missing_gpus: bool = False,
    taint_untuned: bool = False,
) -> dict[str, Any]:
    """The fact `kubepin_plan`: what would change on one node, or everything that prevents it.

    A module failed if its return values are missing; `failed` and `changed` were overwritten by `failed_when` and
    `changed_when`.

    :param kubelet: the result of kubelet_cpu_manager in check mode, failed or not
    :param api: the result of node_api_info with `drain`, failed or not
    :param accept_old_kubelet: whether a kubelet that touches containers with exclusive CPUs may get the static policy
    :param probe_seconds: how long the probe pod watches; None: a reconcile period of the kubelet and 2 s
    :param timeout: seconds within which the API must show what was planned, including the probe pod
    :param take_over: whether to work on a node that another run or program may still be working on
    :param state: `present`, `rolled_back` or `absent`, as requested
    :param accept_missing_gpus: whether to switch a node that should offer GPUs, and does not
    :param taint_untuned: whether nodes without the static policy get a taint
    """
    node: Data = api.get("node") or {}
    work: Data = node.get("work") or {}
    occupied, accepted = _occupied(work, take_over)
    # a cordon that another run may still need is not to be taken back
    may_resume = work.get("resumable", True) or (take_over and not occupied)
    interrupted = bool(kubelet.get("recovered") or (node.get("cordoned_by_kubepin") and may_resume))
    planned = "policy" in kubelet
    changed = planned and (interrupted or bool(kubelet["settings"] or kubelet["changes"]))
    problems = [] if planned else reading_problems(kubelet, _TIME_LIMIT)
    if node:
        problems += _node_problems(kubelet, node, occupied, changed or bool(problems))
        if changed and kubelet["policy"] == "static" != kubelet["policy_before"] and not accept_old_kubelet:
            problems += _old_kubelet(str(node.get("kubelet_version")))
        if changed and kubelet["policy"] == "static" != kubelet["policy_before"]:
            problems += map(Problem.from_dict, node["drain"].get("cpu_managers", []))
    else:
        problems.append(module_failed(str(api.get("msg"))))
    period, period_problems = _reconcile_period(kubelet)
    # a value of -e is text
    watched = math.ceil(period) + PROBE_MARGIN_SECONDS if probe_seconds is None else int(probe_seconds)
    problems += [*period_problems, *_time_problems(watched, period, int(timeout))]
    drain: Data = node.get("drain") or {}
    untuned = taint_untuned and state != "absent" and kubelet.get("policy") != "static"
    left_alone = [f"{problem.subject} {problem.finding}" for problem in occupied]
    gpus = (node.get("allocatable") or {}).get("gpu", 0)
    gpus_free = max(0, gpus - drain.get("gpus_kept", 0))
    gpu_probe = _gpu_probe(kubelet, node, gpus_free)
    if changed and gpu_probe is GpuProbe.NOT_BACK and not kubelet.get("recovered"):
        missing = _missing_gpus(kubelet, node, int(timeout))
        if accept_missing_gpus:
            accepted = [*accepted, _waived(missing)]
        else:
            problems.append(missing)
    return {
        "schema": SCHEMA,
        "outcome": _plan_outcome(problems, changed),
        "changed": changed,
        "interrupted": interrupted,
        "problems": to_dicts(problems),
        "blocked": drain.get("blocked", []) if changed or problems else [],
        **{name: kubelet.get(name) or [] for name in ("settings", "changes")},
        "notes": [
            *(kubelet.get("notes") or []),
            *(
                [
                    *_not_compared(node),
                    *_clock_notes(kubelet, node),
                    *accepted,
                    *work.get("notes", []),
                    *drain.get("notes", []),
                ]
                if changed
                else left_alone
            ),
        ],
        **{
            name: kubelet.get(name)
            for name in (
                *("policy", "policy_before", "reservation", "exclusive_cpus", "threads_per_core"),
                *("pod_scope", "full_pcpus_only", "kubelet_after"),
            )
        },
        **{name: kubelet.get(name) or [] for name in ("leftovers", "remaining")},
        "plan_id": kubelet.get("plan_id"),
        "relabels": not problems and (changed or _relabels(kubelet, node.get("labelled") or {}, state, untuned)),
        "untuned": untuned,
        "taints": taint_untuned
        and changed
        and not problems
        and state == "present"
        and kubelet["policy_before"] != "static",
        "cordoned_before": bool(node.get("unschedulable")) and not node.get("cordoned_by_kubepin"),
        "gpu_resource": node.get("gpu_resource"),
        "gpus_before": gpus,
        "gpu_probe": gpu_probe.value,
        "probe_seconds": watched,
        "hold_seconds": 2 * int(timeout) + HOLD_MARGIN_SECONDS,
        "ended_switch": kubelet.get("recovered") if work.get("resumable") else None,
        "gpus_free": gpus_free,
        "pods_to_evict": [f"{pod['namespace']}/{pod['name']}" for pod in drain.get("evicted", [])],
    }


def _relabels(kubelet: Data, labelled: Data, state: str, untuned: bool) -> bool:
    """Whether the labels of a node that needs no switch are to change. A node that was never switched gets none."""
    if state == "absent":
        return any(labelled.values())
    wanted = {"policy": kubelet.get("policy"), "plan": kubelet.get("plan_id"), "untuned": untuned}
    return state == "present" and labelled != wanted


def _gpu_probe(kubelet: Data, node: Data, gpus_free: int) -> GpuProbe:
    if (node.get("allocatable") or {}).get("gpu", 0):
        return GpuProbe.PLANNED if gpus_free else GpuProbe.HELD
    expected = node.get("gpus_expected_by")
    if expected == "device_plugin" or (_has_just_started(kubelet) and (expected or kubelet.get("nvidia_gpus"))):
        return GpuProbe.NOT_BACK
    return GpuProbe.NONE


def _has_just_started(kubelet: Data) -> bool:
    seconds = kubelet.get("running_seconds")
    return seconds is not None and seconds < SETTLE_SECONDS


def _missing_gpus(kubelet: Data, node: Data, timeout: int) -> Problem:
    reasons = {
        "device_plugin": "its device plugin had registered some",
        "label": "its labels say that it has some",
    }
    on_bus = f"it has {counted(kubelet.get('nvidia_gpus') or 0, 'NVIDIA GPU')} on its PCI bus"
    expected = reasons.get(str(node.get("gpus_expected_by")), on_bus)
    return gpus_not_back(str(node.get("gpu_resource")), expected, timeout if _has_just_started(kubelet) else 0)


def awaited_nodes(hosts: Iterable[Data], api: Data) -> list[dict[str, Any]]:
    """The questions to node_api_info that wait for the GPUs of nodes whose kubelet was just started.

    :param hosts: as for `host_facts`
    :param api: as for `host_facts`
    """
    questions = []
    for host in hosts:
        if "__cpu_manager_asked" not in host or "__cpu_manager_planned" not in host:
            continue
        asked, kubelet = host["__cpu_manager_asked"], host["__cpu_manager_planned"]
        plan = _plan_of(asked, kubelet, api)
        if plan["changed"] and plan["gpu_probe"] == GpuProbe.NOT_BACK.value and _has_just_started(kubelet):
            questions.append({**host["__cpu_manager_question"], "settle": int(asked["timeout"]), "gpus": 1})
    return questions


def _clock_problems(kubelet: Data) -> list[Problem]:
    seconds = kubelet.get("clock_ahead") or 0
    return [clock_wrong(seconds)] if abs(seconds) >= CLOCK_SECONDS else []


def _clock_notes(kubelet: Data, node: Data) -> list[str]:
    return [] if _suffers(node) else [problem.text for problem in _clock_problems(kubelet)]


def _suffers(node: Data) -> bool:
    """Whether a wrong clock may be why kubelet and API server do not accept each other's certificates.

    The connections of a kubelet that runs stay: only its next start fails.
    """
    return not node.get("ready") or bool(node.get("configz_error"))


def _not_compared(node: Data) -> list[str]:
    reason = node.get("configz_error")
    return [f"the running kubelet was not compared with its configuration files: {reason}"] if reason else []


def with_problems(plan: Data, problems: Sequence[Problem]) -> dict[str, Any]:
    """The fact `kubepin_plan` with further problems."""
    known = [*plan["problems"], *to_dicts(problems)]
    return {**plan, "outcome": _plan_outcome(known, plan["changed"]), "problems": known}


def with_waived(plan: Data, problem: Problem) -> dict[str, Any]:
    """The fact `kubepin_plan` with a note of a problem that the operator accepts."""
    return {**plan, "notes": [*plan["notes"], _waived(problem)]}


def _waived(problem: Problem) -> str:
    return f"accepted ({problem.code}): {problem.subject} {problem.finding}".rstrip(".")


def with_failure(plan: Data, result: Data) -> dict[str, Any]:
    """The fact `kubepin_plan` with the problems for which a module failed.

    :param result: the result of the failed task
    """
    return with_problems(plan, problems_of(result))


def _plan_outcome(problems: Sequence[object], changed: bool) -> str:
    """How the host ends if nothing follows the plan."""
    return (Outcome.REFUSED if problems else Outcome.NOT_BEGUN if changed else Outcome.OK).value


def host_facts(
    hosts: Iterable[Data], api: Data, check_mode: bool, awaited: Data | None = None
) -> dict[str, dict[str, Any]]:
    """Host -> its `kubepin_plan`, and its `kubepin_result`, which is empty if the plan changes anything.

    Handles all hosts at once, because a task for each host costs the control node far more.

    :param hosts: the variables of each host: `__cpu_manager_asked` holds the role's request, `__cpu_manager_planned`
        the result of kubelet_cpu_manager in check mode, failed or not; a host without them is omitted
    :param api: the result of node_api_info for all hosts, failed or not
    :param awaited: its result for those of `awaited_nodes`
    """
    api = {**api, "nodes": {**(api.get("nodes") or {}), **((awaited or {}).get("nodes") or {})}}
    planned = (host for host in hosts if "__cpu_manager_asked" in host and "__cpu_manager_planned" in host)
    return {
        host["inventory_hostname"]: _facts_of(
            host["__cpu_manager_asked"], host["__cpu_manager_planned"], api, check_mode
        )
        for host in planned
    }


def _plan_of(asked: Data, kubelet: Data, api: Data) -> dict[str, Any]:
    answer = (api.get("nodes") or {}).get(asked["node"], api)
    names = ("accept_old_kubelet", "probe_seconds", "timeout", "take_over", "state", "taint_untuned")
    # the way back to the old settings stays open
    accepted = asked["accept_missing_gpus"] or asked["state"] != "present"
    return plan_fact(kubelet, answer, accept_missing_gpus=accepted, **{name: asked[name] for name in names})


def _facts_of(asked: Data, kubelet: Data, api: Data, check_mode: bool) -> dict[str, Any]:
    plan = _plan_of(asked, kubelet, api)
    nothing_to_do = not (plan["changed"] or plan["problems"] or _is_left(plan, asked["state"]))
    request = {name: asked[name] for name in ("node", "state", "gpu_label")}
    result = result_fact(plan, check_mode=check_mode, kubelet=kubelet, **request) if nothing_to_do else {}
    return {"kubepin_plan": plan, "kubepin_result": result}


def _occupied(work: Data, take_over: bool) -> tuple[list[Problem], list[str]]:
    """Why the node has to be left alone, and notes about the reasons that are waived."""
    found = [Problem.from_dict(problem) for problem in work.get("problems", [])]
    waived = [problem for problem in found if take_over and problem.waivable]
    return [problem for problem in found if problem not in waived], list(map(_waived, waived))


def _node_problems(kubelet: Data, node: Data, occupied: Sequence[Problem], touched: bool) -> list[Problem]:
    problems = []
    mine, its = kubelet.get("boot_id"), node.get("boot_id")
    if mine and its and mine != its:
        problems.append(other_machine(node["name"], mine, its))
    broken = None if kubelet.get("recovered") else kubelet.get("start_problem")
    if broken:
        problems.append(Problem.from_dict(broken))
    if touched:
        if _suffers(node):
            problems += _clock_problems(kubelet)
        if not broken and not node["ready"] and not kubelet.get("recovered"):
            problems.append(not_ready(node.get("ready_reason") or "no reason given"))
        problems += occupied
        problems += map(Problem.from_dict, node["drain"]["problems"])
    return problems


def _reconcile_period(kubelet: Data) -> tuple[float, list[Problem]]:
    """The period in seconds (the kubelet's default if it is unknown), and what is wrong with it."""
    try:
        return parse_duration(kubelet.get("reconcile_period") or DEFAULT_RECONCILE_PERIOD), []
    except ValueError as error:
        return parse_duration(DEFAULT_RECONCILE_PERIOD), [reconcile_period(error)]


def _time_problems(watched: int, period: float, timeout: int) -> list[Problem]:
    """Problems with times for which the verification would prove nothing."""
    problems = []
    if watched <= period:
        problems.append(watch_too_short(watched, period))
    if timeout <= watched:
        problems.append(timeout_too_short(timeout, watched))
    return problems


def _old_kubelet(version: str) -> list[Problem]:
    try:
        old = parse_version(version).line < FIRST_WITHOUT_RECONCILE_OF_PINNED
    except VersionError:
        old = False  # the planner reports a version that it cannot parse
    return [touches_pinned_containers(version.lstrip("v"))] if old else []


def failure_fact(result: Data, task: str, time_limit: str = "") -> dict[str, str]:
    """A failed task's name, message, first cause with its meaning, and a journal that names what was replaced.

    A module that was killed on the node returns nothing; Ansible then reports missing JSON (`module_stdout`, `rc`).

    :param result: the registered result of the failed task
    :param time_limit: the variable that sets the task's time limit; empty if none does
    """
    message = str(result.get("msg") or "unknown")
    late = timed_out(result, time_limit) if time_limit else None
    if late:
        message = late.text
    if "module_stdout" in result and result.get("rc"):
        status = int(result["rc"])
        killed = f"was killed by signal {status - 128}" if status > 128 else f"ended with exit status {status}"
        words = " ".join(f"{result.get('module_stderr') or ''} {result['module_stdout']}".split())[-300:]
        message = f"Ansible's program on the node {killed} before it had a result" + (f': "{words}".' if words else ".")
    return {
        "task": task,
        "msg": message,
        "first_cause": str(result.get("first_cause") or message),
        "meaning": str(result.get("meaning") or ""),
        "journal": str(result.get("journal") or ""),
    }


def result_fact(
    plan: Data,
    node: str,
    state: str,
    check_mode: bool,
    gpu_label: str,
    kubelet: Data,
    confirmed: Data | None = None,
    api: Data | None = None,
    probe: Data | None = None,
    drain: Data | None = None,
    failure: Data | None = None,
    left: Data | None = None,
    removed: Data | None = None,
) -> dict[str, Any]:
    """The fact `kubepin_result`: what was found, done and verified on one node.

    :param plan: the fact `kubepin_plan`
    :param state: `present`, `rolled_back` or `absent`, as requested
    :param gpu_label: the site's name for its GPUs
    :param kubelet: the result of kubelet_cpu_manager
    :param confirmed: its result with `state: confirmed`
    :param api: the result of node_api_info after the switch
    :param probe: the result of pod_probe
    :param drain: the result of node_drain
    :param failure: task, msg, first_cause, meaning, journal of the first failure
    :param left: outcome, cordoned and msg of the rollback; records_left if only the removal of records failed
    :param removed: the result of kubelet_cpu_manager that removed what is left of kubepin
    """
    records_left = bool((left or {}).get("records_left"))
    message, next_step = _failure_text(plan, node, failure, left) if failure and left else (None, None)
    if plan["problems"]:
        message = " ".join(problem["text"] for problem in plan["problems"])
    return {
        "schema": SCHEMA,
        "node": node,
        "outcome": _outcome(plan, state, check_mode, left).value,
        "policy_before": plan.get("policy_before"),
        "policy": plan.get("policy_before") if check_mode or (left and not records_left) else plan.get("policy"),
        "settings": plan["settings"],
        "changes": [*(kubelet.get("changes") or plan["changes"]), *((removed or {}).get("changes") or [])],
        "remaining": plan["remaining"],
        "archive": (removed or {}).get("archive"),
        "records_left": records_left,
        "notes": [*plan["notes"], *(pod["text"] for pod in (drain or {}).get("arrived", []))],
        "reserved": plan.get("reservation"),
        "exclusive_cpus": plan.get("exclusive_cpus"),
        "downtime_ms": kubelet.get("downtime_ms"),
        "verified": _verified(kubelet, confirmed or {}, api, probe, gpu_label, plan["gpu_probe"]),
        "gpu_probe": plan["gpu_probe"],
        "probe": (probe or {}).get("probe"),
        "first_cause": failure["first_cause"] if failure else None,
        "meaning": (failure["meaning"] or None) if failure else None,
        "cordoned_before": plan["cordoned_before"],
        "left_cordoned": bool(left["cordoned"]) if left else plan["cordoned_before"],
        "message": message,
        "next_step": next_step,
        "gpu_label": gpu_label,
    }


def _outcome(plan: Data, state: str, check_mode: bool, left: Data | None) -> Outcome:
    if left:
        return Outcome(left["outcome"])
    if plan["problems"]:
        return Outcome.REFUSED
    if state == "absent":
        if not plan["changed"] and not _is_left(plan, state):
            return Outcome.NOT_INSTALLED
        return Outcome.WOULD_UNINSTALL if check_mode else Outcome.UNINSTALLED
    if not plan["changed"]:
        return Outcome.NOT_TUNED if state == "rolled_back" else Outcome.ALREADY_TUNED
    if check_mode:
        return Outcome.WOULD_TUNE
    return Outcome.ROLLED_BACK if state == "rolled_back" else Outcome.TUNED


def _is_left(plan: Data, state: str) -> bool:
    """Whether an uninstallation has anything to remove besides the settings."""
    return state == "absent" and bool(plan["leftovers"] or plan["relabels"])


_NO_GPU_CHECKED = {
    GpuProbe.NONE: "no {} was checked: the node offers none",
    GpuProbe.HELD: "no {} was checked: pods that stay through the drain hold all",
    GpuProbe.NOT_BACK: "no {} was checked: the node's were not back before the switch",
}


def _verified(
    kubelet: Data, confirmed: Data, api: Data | None, probe: Data | None, gpu_label: str, gpu_probe: str
) -> list[str]:
    again = confirmed.get("verified") or []
    found_anew = (kubelet.get("lasting") or []) if again else []
    lines = [*(line for line in kubelet.get("verified") or [] if line not in found_anew), *again]
    if api and api.get("node") and not api.get("failed"):
        node = api["node"]
        lines += ["Ready", _configured(node.get("configz")), f"allocatable cpu {node['allocatable']['cpu']}"]
        gpus = node["allocatable"]["gpu"]
        lines += [f"{gpu_label} allocatable {gpus}"] if gpus else []
    seen = (probe or {}).get("probe")
    if seen and not (probe or {}).get("failed"):
        device = f" still has its {gpu_label}" if seen["device_paths_seen"] else ""
        lines.append(f"probe pod on CPUs {seen['cpus_allowed_list']}{device} after {seen['seconds_observed']} s")
        lines += [_NO_GPU_CHECKED[GpuProbe(gpu_probe)].format(gpu_label)] if gpu_probe != GpuProbe.PLANNED.value else []
    return lines


def _configured(configz: Data | None) -> str:
    """The policies that the kubelet runs with; those of topology and memory manager unless they are the default."""
    if configz is None:
        return "configz policy unknown"
    policies = {manager: manager_policy(configz, manager) for manager in ("topology", "memory")}
    others = [f"{manager} manager {policy}" for manager, policy in policies.items() if policy.lower() != "none"]
    return ", ".join([f"configz policy {manager_policy(configz, 'CPU')}", *others])


def _sentence(message: str) -> str:
    """A message that others follow. Ansible's own ends with a colon if ssh said nothing more."""
    text = message.strip().rstrip(":")
    return text if text.endswith((".", "!", "?")) else f"{text}."


def _failure_text(plan: Data, node: str, failure: Data, left: Data) -> tuple[str, str]:
    """The failure as text, with the remedy."""
    if left["outcome"] == "undone":
        state = (
            f"Node {node} is as it was found (policy {plan.get('policy_before')}, "
            f"{'still cordoned, as it was before' if left['cordoned'] else 'schedulable'})."
        )
        step = _AGAIN
    elif left.get("records_left"):
        state = f"The settings of node {node} are as before the first switch, and kubepin's records are still there."
        step = _AGAIN
    else:
        state = f"Node {node} could not be put back and verified, and stays cordoned: {left.get('msg')}"
        journal = f" What was replaced is in {failure['journal']} on the node." if failure.get("journal") else ""
        step = (
            f"Look at `journalctl -u kubelet` on the node.{journal} Then run the same command again: it undoes an unfinished switch "
            "first, and gives the node back once it verifies."
        )
    return f"{failure['task']}: {_sentence(failure['msg'])} {state} {step}", step
