# SPDX-License-Identifier: GPL-3.0-or-later
"""The facts of a check as metrics in Prometheus' text format. Pure.

Names follow https://prometheus.io/docs/practices/naming/. The label `node` is the one that kubelets' metrics have in
kube-prometheus, so both can be joined.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any
from urllib.parse import quote

from ansible_collections.kubepin.tuning.plugins.module_utils.control.run.outcome import Outcome

Data = Mapping[str, Any]


def metric_files(checks: Sequence[Data], time: float) -> dict[str, str]:
    """Name of a file -> its text, one for each node, so that a check of some nodes leaves what is known of the others.

    :param checks: facts `kubepin_check`
    :param time: when the nodes were checked, in seconds since 1970
    :raises ImportError: if prometheus_client is missing
    """
    return {f"kubepin-{quote(check['node'], safe='')}.prom": _text(check, time) for check in checks}


def _text(check: Data, time: float) -> str:
    from prometheus_client import CollectorRegistry, Gauge, generate_latest

    registry = CollectorRegistry()

    def gauge(name: str, help_text: str, value: float, **labels: str) -> None:
        names = ("node", *labels)
        Gauge(name, help_text, names, registry=registry).labels(node=check["node"], **labels).set(value)

    checked = check["outcome"] != Outcome.NOT_CHECKED
    gauge("kubepin_check_timestamp_seconds", "When the node was last checked, or the attempt failed.", time)
    gauge("kubepin_node_checked", "Whether it is known if the node is as planned: 1 or 0.", checked)
    problems = Gauge(
        "kubepin_node_problems",
        "In how many ways the node differs from its plan, or could not be checked, by the code of the problem.",
        ("node", "code"),
        registry=registry,
    )
    for code, count in Counter(found["code"] for found in [*check["problems"], *check["unchecked"]]).items():
        problems.labels(node=check["node"], code=code).set(count)
    if checked:
        as_planned = check["outcome"] == Outcome.AS_PLANNED
        gauge("kubepin_node_as_planned", "Whether nothing on the node differs from its plan: 1 or 0.", as_planned)
        gauge(
            "kubepin_node_pinned_containers",
            "How many containers have the exclusive CPUs that the kubelet assigned, by their cgroups.",
            check["pinned"],
        )
        containers = Gauge(
            "kubepin_node_gpu_containers",
            "How many containers of GPU pods run on the node, by whether they have exclusive CPUs.",
            ("node", "pinned"),
            registry=registry,
        )
        pinned = Counter(bool(one["pinned"]) for one in check["gpu_containers"])
        for state in (True, False):
            containers.labels(node=check["node"], pinned=str(state).lower()).set(pinned[state])
    text: bytes = generate_latest(registry)
    return text.decode()
