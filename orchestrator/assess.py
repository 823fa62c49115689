# SPDX-License-Identifier: GPL-3.0-or-later
"""`kubepin assess`: what a cluster's API says about its GPU nodes and pods, for someone who has never run kubepin on it."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from ansible_collections.kubepin.tuning.plugins.module_utils.common.errors import TuningError
from ansible_collections.kubepin.tuning.plugins.module_utils.control.assess.cluster import assess_cluster
from ansible_collections.kubepin.tuning.plugins.module_utils.control.assess.reader import read_cluster
from ansible_collections.kubepin.tuning.plugins.module_utils.control.gpu_pods.pod import REASONS
from ansible_collections.kubepin.tuning.plugins.module_utils.control.gpu_pods.source import ApiSource
from ansible_collections.kubepin.tuning.plugins.module_utils.control.words import counted, listed
from rich import box
from rich.console import Group, RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from orchestrator.model import KubepinError

Data = Mapping[str, Any]

_UNKNOWN = Text("?", style="yellow")
_MOST_NODES = 3
_POLICY_STYLES = {"static": "green", "none": "yellow"}


def assessment(kubeconfig: str | None, context: str | None) -> Data:
    """The assessment of the cluster (orchestrator/README.md); only reads.

    :raises KubepinError: if the kubeconfig cannot be used, or the nodes cannot be listed
    """
    try:
        return assess_cluster(read_cluster(ApiSource(kubeconfig, context)))
    except TuningError as error:
        raise KubepinError(str(error)) from error


def screen(found: Data) -> RenderableType:
    """The assessment for a terminal."""
    parts: list[RenderableType] = [_head(found)]
    if found["nodes"]:
        parts += [_title("GPU nodes"), _nodes(found["nodes"])]
    if found["owners"]:
        parts += [_title("GPU pods"), _pods(found), _legend(found["owners"])]
    parts += [_title("What to do"), _steps(found["findings"])]
    parts += [_title("What this did not see"), _unseen(found["unseen"])]
    return Group(*parts)


def _head(found: Data) -> Text:
    nodes, pods = found["nodes"], found["pods"]
    head = Text.assemble(
        ("kubepin assess  ", "bold"), f"{found['server']}  Kubernetes {(found['version'] or '?').removeprefix('v')}\n"
    )
    head.append(f"{counted(len(nodes), 'node')} with GPUs, {found['other_nodes']} without. ")
    if pods and not pods["total"]:
        head.append("No GPU pods. ")
    elif pods:
        head.append(
            f"{counted(pods['total'], 'GPU pod')}: {pods['exclusive']} with exclusive CPUs, "
            f"{pods['exclusive_if_static']} would have them if the policy were static everywhere. "
        )
    head.append("Only the API was read; nothing was installed or changed.", style="dim")
    return head


def _title(text: str) -> Text:
    return Text(f"\n{text}", style="bold cyan")


def _table(*headings: str) -> Table:
    table = Table(box=box.SIMPLE_HEAD, header_style="bold", padding=(0, 1), pad_edge=False)
    for heading in headings:
        table.add_column(heading, overflow="fold")
    return table


def _nodes(nodes: Sequence[Data]) -> Table:
    """Nodes that differ only in their names share a row. The columns fit into 80 characters."""
    table = _table("nodes", "CPUs, GPUs", "kubelet", "settings")
    groups: dict[str, list[Data]] = {}
    for node in nodes:
        alike = {key: value for key, value in node.items() if key not in ("name", "installer", "configz_error")}
        groups.setdefault(json.dumps([alike, node["installer"]["name"]]), []).append(node)
    for same in groups.values():
        node = same[0]
        table.add_row(
            Text(
                listed([one["name"] for one in same], _MOST_NODES) + ("" if node["ready"] else "\nnot Ready"),
                style="" if node["ready"] else "red",
            ),
            Text(f"{node['cpus']} CPUs\n{_gpus(node)}"),
            _kubelet(node),
            _settings(node),
        )
    return table


def _gpus(node: Data) -> str:
    offered = [f"{number} {name.removeprefix('nvidia.com/')}" for name, number in node["gpus"].items()]
    return ", ".join(offered or ["GPUs by label"]) + (f"\n{node['gpu_model']}" if node["gpu_model"] else "")


def _kubelet(node: Data) -> Text:
    installer = f"by {node['installer']['name']}" if node["installer"]["evidence"] else "installer unknown"
    runtime = str(node["container_runtime"]).replace("://", " ")
    return Text(f"{node['kubelet_version']}\n{installer}\n{runtime}")


def _settings(node: Data) -> Text:
    """The running kubelet's settings, one line for each of its managers."""
    if not node["policy"]:
        return Text.assemble("CPU manager ", _UNKNOWN)
    options = [name for name, value in node["policy_options"].items() if str(value).lower() == "true"]
    policy = " + ".join([node["policy"], *options])
    topology = node["topology_manager"]
    scope = f" ({topology['scope']})" if topology["policy"] != "none" else ""
    return Text.assemble(
        "CPU manager ",
        (policy, _POLICY_STYLES.get(node["policy"], "")),
        f"\nreserved {node['reserved'] or 'nothing'}\n"
        f"topology {topology['policy']}{scope}, memory {node['memory_manager_policy']}",
    )


def _pods(found: Data) -> Table:
    table = _table("workload", "pods", "on", "exclusive", "if static", "why not")
    for owner in found["owners"]:
        threads = ["no OMP_NUM_THREADS"] if owner["no_thread_count"] else []
        table.add_row(
            Text(f"{owner['namespace']} {owner['owner']}"),
            Text(str(owner["pods"])),
            Text(listed(owner["nodes"], _MOST_NODES) or "no node yet"),
            _share(owner["exclusive"], owner["pods"]),
            _share(owner["exclusive_if_static"], owner["pods"]),
            Text("\n".join([*owner["reasons"], *threads])),
        )
    return table


def _share(number: int | None, total: int) -> Text:
    if number is None:
        return _UNKNOWN
    style = "green" if number == total else "red" if number == 0 else "yellow"
    return Text({0: "no", total: "yes"}.get(number, f"{number} of {total}"), style=style)


def _legend(owners: Sequence[Data]) -> RenderableType:
    used = {reason for owner in owners for reason in owner["reasons"]}
    lines = [f"{code}: {REASONS[code]}" for code in REASONS if code in used]
    return Padding(Text("\n".join(lines), style="dim"), (0, 0, 0, 1)) if lines else Text("")


def _steps(findings: Sequence[Data]) -> Table:
    table = Table.grid(padding=(0, 1))
    table.add_column(justify="right", style="bold")
    table.add_column(overflow="fold")
    for number, finding in enumerate(findings, 1):
        text = Text(_sentence(finding))
        if finding["remedy"]:
            text.append(f"\n→ {finding['remedy']}", style="green")
        table.add_row(f"{number}.", text)
    return table


def _unseen(unseen: Sequence[Data]) -> Table:
    table = Table.grid(padding=(0, 1))
    table.add_column()
    table.add_column(overflow="fold")
    for one in unseen:
        text = Text(_sentence(one))
        if one["remedy"]:
            text.append(f" {one['remedy']}", style="dim")
        table.add_row("-", text)
    return table


def _sentence(problem: Data) -> str:
    clause = f"{problem['subject']} {problem['finding']}".rstrip(".")
    return f"{clause[0].upper()}{clause[1:]}."
