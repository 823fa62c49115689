# SPDX-License-Identifier: GPL-3.0-or-later
"""The report of an audit of GPU pods. Pure: what gpu_pod_info returned in, text out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ansible_collections.kubepin.tuning.plugins.module_utils.common.problem import to_dicts
from ansible_collections.kubepin.tuning.plugins.module_utils.control.gpu_access.risk import GRADES
from ansible_collections.kubepin.tuning.plugins.module_utils.control.gpu_pods import problems
from ansible_collections.kubepin.tuning.plugins.module_utils.control.gpu_pods.audit import NOT_SCHEDULED
from ansible_collections.kubepin.tuning.plugins.module_utils.control.gpu_pods.devices import KINDS, claimed_devices
from ansible_collections.kubepin.tuning.plugins.module_utils.control.gpu_pods.outlook import forecast_lines
from ansible_collections.kubepin.tuning.plugins.module_utils.control.gpu_pods.pod import CLAIM, REASONS
from ansible_collections.kubepin.tuning.plugins.module_utils.control.words import counted

Data = Mapping[str, Any]

_GAP = "   "
# kueue pkg/workload/resources.go, UseLimitsAsMissingRequestsInPod; pkg/controller/jobframework/reconciler.go, ensureOneWorkload
_KUEUE = (
    "Kueue counts what a workload's pods request, or their limits without requests, against the quota of its ClusterQueue. It suspends a "
    "job whose requests change and queues it again; where the quota has no room for the higher requests, it stays pending."
)


def gpu_pods_text(audit: Data) -> str:
    """The counts, the pods with problems, the meaning of the terms, and the remedies.

    Pods of one owner with the same verdict are one entry, and so are bare pods of one namespace.
    """
    summary = audit["summary"]
    grades = ", ".join(f"{count} {grade}" for grade, count in summary["risk"].items())
    lines = [
        f"kubepin: {counted(summary['pods'], 'GPU pod')}: {summary['exclusive']} with exclusive CPUs, {summary['not_exclusive']} not."
        f" Risk of losing the GPU: {grades}. Finished and left out: {summary['finished']}."
    ]
    gpus = ", ".join(f"{KINDS[kind]} {count}" for kind, count in summary["gpus"].items() if count)
    if gpus:
        lines.append(f"  requested: {gpus}")
    drivers, unknown = claimed_devices(audit["pods"])
    if drivers or unknown:
        words = [f"{driver} {count}" for driver, count in drivers.items()]
        words += [f"unknown of {counted(unknown, 'claim')}"] if unknown else []
        lines.append(f"  devices of claims: {', '.join(words)}")
    groups: dict[tuple[Any, ...], list[Data]] = {}
    for pod in audit["pods"]:
        if not pod["exclusive"] or pod["risk"]["grade"] != "none":
            groups.setdefault(_verdict(pod), []).append(pod)
    rows = [_cells(pods) for pods in groups.values()]
    widths = _widths(rows)
    for (*_unused, containers), row in zip(groups, rows, strict=True):
        lines.append("  " + _GAP.join(f"{cell:<{width}}" for cell, width in zip(row, widths, strict=True)).rstrip())
        lines.extend(f"      {line}" for line in containers)
    notes = [f"note: {problem['text']}" for problem in audit.get("problems", [])]
    forecast = forecast_lines(audit.get("forecast", ()))
    return "\n".join([*lines, *_legend(audit), *_owner_lines(audit), *forecast, *notes])


def gpu_pods_patches(audit: Data) -> list[dict[str, Any]]:
    """Each patch with its file name, the commands that apply and undo it, and its object.

    ``apply`` is whether the audit may apply it: it removes every reason why its owner's pods get no exclusive CPUs, and the
    owner takes the change without being created again.
    """
    return [
        {
            "name": _name(owner),
            **{field: owner[field] for field in ("patch", "undo", "patch_type", "api_version")},
            "owner": {"kind": owner["kind"].partition(".")[0], "namespace": owner["namespace"], "name": owner["name"]},
            "apply": not owner["problems"] and owner["change"] == "in_place",
            "command": _command(owner, f"{_name(owner)}.yaml"),
            "undo_command": _command(owner, f"{_name(owner)}.undo.yaml"),
        }
        for owner in audit["owners"]
        if owner["patch"]
    ]


def _command(owner: Data, file: str) -> str:
    """What applies a patch with kubectl.

    ``replace --force`` deletes the object, with its pods, and creates it anew.
    """
    kubectl, patch = f"kubectl -n {owner['namespace']}", f"--type {owner['patch_type']} --patch-file {file}"
    if owner["change"] == "in_place":
        return f"{kubectl} patch {owner['resource']} {owner['name']} {patch}"
    return (
        f"{kubectl} get {owner['resource']} {owner['name']} -o yaml | kubectl patch --local -f - {patch} -o yaml | "
        f"{kubectl} replace --force -f -"
    )


def gpu_qos_settings_problems(settings: Data) -> list[dict[str, Any]]:
    """Why the variables of role gpu_qos cannot be used together, as facts carry problems.

    :param settings: ``apply`` and ``pods_file`` (empty if not set), as the role names them without its prefix
    """
    outdated = settings["apply"] and settings["pods_file"]
    return to_dicts([problems.patches_from_file(settings["pods_file"])] if outdated else [])


def gpu_pods_verdict(audit: Data, fail_on: str) -> list[dict[str, Any]]:
    """Why the run fails under the policy *fail_on* (``none``, ``at_risk``, ``not_exclusive``), as facts carry problems; empty if
    it does not.

    A risk that depends on something unknown counts as one.
    """
    summary = audit["summary"]
    total, risky = summary["pods"], summary["pods"] - summary["risk"]["none"]
    if fail_on == "at_risk" and risky:
        return to_dicts([problems.pods_at_risk(risky, total)])
    if fail_on == "not_exclusive" and summary["not_exclusive"]:
        return to_dicts([problems.pods_not_exclusive(summary["not_exclusive"], total)])
    return []


def _verdict(pod: Data) -> tuple[Any, ...]:
    """Everything in the table about a pod except its name and node; the containers come last."""
    risk = pod["risk"]
    causes = ", ".join(cause["code"] for cause in risk["causes"])
    words = f"risk {risk['grade']}" + (f" ({causes})" if causes else "")
    containers = tuple(_container_line(container) for container in pod["containers"] if container["reasons"])
    return pod["namespace"], pod["owner"], pod["qos"], words, containers


def _cells(pods: Sequence[Data]) -> list[str]:
    namespace, owner, qos, risk, _unused = _verdict(pods[0])
    nodes = {pod["node"] for pod in pods}
    return [
        f"{namespace}/{pods[0]['name']}" + (f" and {len(pods) - 1} more" if len(pods) > 1 else ""),
        counted(len(nodes), "node") if len(nodes) > 1 else pods[0]["node"] or "no node yet",
        owner or ("bare pods" if len(pods) > 1 else "bare pod"),
        qos,
        risk,
    ]


def _widths(rows: Sequence[Sequence[str]]) -> list[int]:
    return [max(map(len, column)) for column in zip(*rows, strict=True)]


def _container_line(container: Data) -> str:
    hint = "; no OMP_NUM_THREADS" if container["no_thread_count"] else ""
    return f"{container['kind']} {container['name']}, {counted(float(container['cpus']), 'CPU')}: {', '.join(container['reasons'])}{hint}"


def _legend(audit: Data) -> list[str]:
    """The meaning of each term in the table."""
    summary = audit["summary"]
    lines = [f"  {code}: {REASONS[code]} (pods: {count})" for code, count in summary["reasons"].items()]
    causes = {(cause["code"], cause["text"]) for pod in audit["pods"] for cause in pod["risk"]["causes"]}
    lines += [f"  {code}: {text}" for code, text in sorted(causes)]
    lines += [f"  risk {grade}: {GRADES[grade]}" for grade, count in summary["risk"].items() if count]
    unknown = sorted({name for pod in audit["pods"] for name in pod["risk"]["unknown"]})
    if unknown:
        lines.append(f"  unknown of some nodes: {', '.join(unknown)}. Whoever knows them puts them into gpu_qos_nodes.")
    by_claim = sum(_is_claim_only(pod) for pod in audit["pods"])
    if by_claim:
        lines.append(
            f"  pods with a claim (DRA) and no GPU resource: {by_claim}. Only the claim tells whether its device is a GPU: they count "
            "as GPU pods"
        )
    if any(container["no_thread_count"] for pod in audit["pods"] for container in pod["containers"]):
        lines.append(
            "  no OMP_NUM_THREADS: under a CPU quota, a thread per CPU of the host; setting it to the limit is half of the cure"
        )
    return lines


def _is_claim_only(pod: Data) -> bool:
    gpus = [name for container in pod["containers"] for name in container["gpus"]]
    return bool(gpus) and all(name.startswith(CLAIM) for name in gpus)


def _owner_lines(audit: Data) -> list[str]:
    summary, owners = audit["summary"], [owner for owner in audit["owners"] if owner["patch"] or owner["problems"]]
    if not owners:
        return []
    cost = _costs(summary["cpus_per_node"])
    lines = [f"patches: {summary['patches']} of {counted(summary['owners'], 'template')}; all together cost {cost}"]
    for owner in owners:
        words = [*_patch_words(owner), *(problem["text"].rstrip(".") for problem in owner["problems"])]
        lines.append(f"  {owner['namespace']} {owner['kind']}/{owner['name']}: " + "; ".join(words))
    if any(owner["queue"] for owner in owners):
        lines.append(f"  {_KUEUE}")
    return lines


def _patch_words(owner: Data) -> list[str]:
    if not owner["patch"]:
        return ["no patch"]
    words = [f"cost {_costs(owner['cpus_per_node'])}"]
    if owner["change"] == "recreate":
        words.append("has to be deleted and created again")
    if owner["effect"]:
        words.append(owner["effect"])
    if owner["queue"]:
        words.append(f"queued by Kueue in {owner['queue']}")
    return words


def _costs(cpus_per_node: Data) -> str:
    where = {node: f"for pods {node}" if node == NOT_SCHEDULED else f"on {node}" for node in cpus_per_node}
    return ", ".join(f"{_more(cpus)} {where[node]}" for node, cpus in cpus_per_node.items() if cpus) or "nothing now"


def _more(cpus: float) -> str:
    """Such as "+2 CPUs" or "-1 CPU"."""
    return ("-" if cpus < 0 else "+") + counted(float(abs(cpus)), "CPU")


def _name(owner: Data) -> str:
    return f"{owner['namespace']}-{owner['kind'].lower()}-{owner['name']}"
