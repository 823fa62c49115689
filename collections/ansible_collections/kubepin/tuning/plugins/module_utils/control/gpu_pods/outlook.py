# SPDX-License-Identifier: GPL-3.0-or-later
"""Pure: which pods the kubelet would refuse after a switch to the static policy, on nodes without a planned switch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ansible_collections.kubepin.tuning.plugins.module_utils.common.errors import TuningError
from ansible_collections.kubepin.tuning.plugins.module_utils.common.problem import Problem, module_failed, to_dicts
from ansible_collections.kubepin.tuning.plugins.module_utils.control.cpus.topology import (
    Core,
    Cpu,
    CpuGroup,
    NumaNode,
    Topology,
)
from ansible_collections.kubepin.tuning.plugins.module_utils.control.gpu_pods import problems
from ansible_collections.kubepin.tuning.plugins.module_utils.control.gpu_pods.preflight import unread_runtimes
from ansible_collections.kubepin.tuning.plugins.module_utils.control.gpu_pods.refusals import Forecast, forecast
from ansible_collections.kubepin.tuning.plugins.module_utils.control.kubelet.config import DEFAULTS, Config
from ansible_collections.kubepin.tuning.plugins.module_utils.control.kubelet.settings import ADMITS_BY
from ansible_collections.kubepin.tuning.plugins.module_utils.control.switch.desired import (
    DesiredSettings,
    choose_settings,
    static_policy_of,
)
from ansible_collections.kubepin.tuning.plugins.module_utils.control.words import counted, listed

Data = Mapping[str, Any]
_MOST = 5
"""Nodes that a line names."""


def gpu_pods_forecast(audit: Data, stacks: Sequence[Data]) -> dict[str, Any]:
    """The audit with `forecast`: for each node that was read, the pods that its kubelet would refuse after a switch with the
    requested settings, and what would let each of them in; and with a problem for each node whose container runtime could not
    be read.

    :param stacks: as `preflight.Stacks`; of nodes whose `switch` was read, which is what `node_facts` says, and `settings` (the
        variables of role cpu_manager without their prefix)
    """
    return {
        **audit,
        "forecast": [_of_node(audit, stack) for stack in stacks if stack.get("switch")],
        "problems": [*audit["problems"], *to_dicts(unread_runtimes(stacks))],
    }


def _of_node(audit: Data, stack: Data) -> dict[str, Any]:
    node, switch = stack["node"], stack["switch"]
    requests = audit["requests"].get(node, [])
    found: Forecast | None = None
    unknown: Sequence[Problem] = ()
    try:
        found = _forecast(switch, requests, audit["whole_gpus"].get(node))
    except TuningError as exc:
        unknown = exc.problems
    if found and found.unknown:
        unknown = [module_failed(found.unknown)]
    return {
        "node": node,
        "profile": switch["settings"]["profile"],
        "pods": len(requests),
        "in_effect": found is None and not unknown,
        **(found or Forecast()).to_facts(),
        "problems": to_dicts(unknown),
    }


def _forecast(switch: Data, requests: Sequence[Data], gpus: int | None) -> Forecast | None:
    """None if the kubelet already runs with these settings.

    :raises TuningError: if the node could not be read, or cannot be switched as asked
    """
    error = switch["error"] or switch.get("kubelet_error")
    if error:
        raise TuningError(module_failed(error))
    desired, found = static_policy_of(switch["settings"])
    if desired is None:
        raise TuningError(*found)
    kubelet = switch["kubelet"]
    now = {**DEFAULTS, **(kubelet.get("effective") or {})}
    topology = Topology.of(switch["topology"])
    after = _settings_after(topology, now, kubelet.get("version"), desired)
    if all(after[name] == now.get(name) for name in ADMITS_BY):
        return None
    return forecast(topology, after, requests, _evicted(requests), gpus)


def _settings_after(topology: Topology, now: Config, version: str | None, desired: DesiredSettings) -> dict[str, Any]:
    chosen = choose_settings(topology, now, version, desired)
    if chosen.problems:
        raise TuningError(*chosen.problems)
    after = {**now, **chosen.settings}
    return {"version": version, **{name: after.get(name) for name in ADMITS_BY}}


def _evicted(requests: Sequence[Data]) -> frozenset[str]:
    return frozenset(request["name"] for request in requests if not request["stays"])


def too_big(requests: Sequence[Data], cpus: int, now: Config, version: str) -> list[str]:
    """The names of pods that certainly request more CPUs than a switch leaves to them, by what the API says of their node.

    The machine is taken for one of single-threaded cores on one NUMA node: no other machine with as many CPUs reserves
    fewer, as reservations are rounded up to whole cores, or refuses fewer pods.

    :param requests: `refusals.request_of` each of the node's pods
    :param cpus: how many CPUs it has
    :param now: the kubelet's effective configuration
    :raises TuningError: if its kubelet cannot be switched
    """
    machine = _flat(cpus)
    after = _settings_after(machine, {**DEFAULTS, **now}, version, DesiredSettings("static"))
    by_number_alone = {**after, "cpuManagerPolicyOptions": None, "topologyManagerPolicy": "none"}
    found = forecast(machine, by_number_alone, requests, _evicted(requests), None)
    return [refusal.pod for refusal in found.refused]


def _flat(cpus: int) -> Topology:
    every = frozenset(range(cpus))
    return Topology(
        cpus=tuple(Cpu(cpu, online=True, socket=0, core=cpu, numa_node=0, l3=0) for cpu in range(cpus)),
        online=every,
        offline=frozenset(),
        isolated=frozenset(),
        sockets=(CpuGroup(0, every),),
        numa_nodes=(NumaNode(0, every, {}),),
        l3_groups=(CpuGroup(0, every),),
        cores=tuple(Core(0, 0, 0, frozenset({cpu})) for cpu in range(cpus)),
        gpus=(),
    )


def forecast_lines(forecasts: Sequence[Data]) -> list[str]:
    """The forecast as text. Nodes with the same result share a line; each pod that would be refused has a separate line."""
    if not forecasts:
        return []
    groups: dict[tuple[str, ...], list[str]] = {}
    for one in forecasts:
        refused = [f"    {_refusal(refusal)}" for refusal in one["refused"]]
        refused += [f"    if all pods come back: {_refusal(refusal)}" for refusal in one["no_room"]]
        groups.setdefault((f"profile {one['profile']}: {_verdict(one)}", *refused), []).append(one["node"])
    lines = ["after a switch to the static policy, with the requested settings:"]
    for (verdict, *refused), nodes in groups.items():
        lines += [f"  {listed(nodes, _MOST)}, {verdict}", *refused]
    if any(one["refused"] for one in forecasts):
        lines.append(f"  {problems.REFUSED_REMEDY}")
    return lines


def _verdict(one: Data) -> str:
    if one["problems"]:
        return "not known: " + " ".join(problem["text"] for problem in one["problems"])
    if one["in_effect"]:
        return "these settings are already in effect"
    if not one["refused"]:
        return "no pod would be refused"
    return f"{len(one['refused'])} of {counted(one['pods'], 'pod')} would be refused"


def _refusal(refusal: Data) -> str:
    enough = ", ".join(f"{remedy['what']} {remedy['value']}" for remedy in refusal["remedies"])
    reason = f"{refusal['pod']}: {refusal['reason']}"
    return f"{reason}; any of these would let it in: {enough}" if enough else reason
