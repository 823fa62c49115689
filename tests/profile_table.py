# SPDX-License-Identifier: GPL-3.0-or-later
"""Prints the table of docs/evidence/preview.md: what becomes of pods with CPUs, memory and GPUs under each profile.

    python -m tests.profile_table

Each line is one preview, as preview-gpu-nodes.yml makes it, of a machine type that comes with kubepin.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ansible_collections.kubepin.tuning.plugins.module_utils.common.cpuset import parse_cpuset
from ansible_collections.kubepin.tuning.plugins.module_utils.control.preview.report import preview_nodes
from ansible_collections.kubepin.tuning.plugins.module_utils.control.switch.profiles import PROFILES
from ansible_collections.kubepin.tuning.plugins.module_utils.control.words import counted
from ansible_collections.kubepin.tuning.plugins.module_utils.node.readers.topology import read_topology
from ansible_collections.kubepin.tuning.tests.unit.samples.machines import UNSET

from orchestrator.machines import machine_dump

VERSION = "1.36.3"
HEAD = (
    "machine type",
    "pods",
    "profile",
    "CPUs reserved",
    "placed",
    "CPUs inside one L3 group",
    "CPUs inside one NUMA node",
    "GPUs and memory on the NUMA nodes of the CPUs",
    "refused",
)


@dataclass(frozen=True)
class Pods:
    """As many pods of one kind as a machine has GPUs for: CPUs, GiB of memory and GPUs of each."""

    number: int
    cpu: int
    memory: int
    gpus: int

    def __str__(self) -> str:
        return f"{self.number} of {self.cpu} CPUs, {self.memory}Gi, {counted(self.gpus, 'GPU')}"

    def requests(self) -> list[dict[str, str]]:
        """The pods as node_preview_pods has them."""
        one = {"cpu": str(self.cpu), "memory": f"{self.memory}Gi", "nvidia.com/gpu": str(self.gpus)}
        return [one] * self.number


ASKED: Mapping[str, Sequence[Pods]] = {
    "epyc-7773x-2s-nps4": (Pods(8, 12, 96, 1), Pods(8, 16, 96, 1), Pods(8, 32, 96, 1), Pods(4, 60, 200, 2)),
    "xeon-8480c-2s": (Pods(8, 12, 96, 1), Pods(8, 26, 240, 1), Pods(4, 52, 480, 2), Pods(2, 112, 900, 4)),
}
"""Machine type -> what is asked of it."""


def preview(machine: str, profile: str, pods: Pods) -> Mapping[str, Any]:
    """The preview of a machine type."""
    asked = {"profile": profile, "reserved_cpus": "auto", "reserved_memory": [], "kubelet_version": VERSION}
    settings = {**UNSET, **asked, "pod_cpus": "", "pods": pods.requests()}
    topology = read_topology(str(machine_dump(machine)))
    (found,) = preview_nodes(
        [{"node": machine, "topology": topology, "kubelet": {}, "settings": settings, "error": ""}]
    )
    return found


def rows() -> Iterator[tuple[str, ...]]:
    """The lines of the table."""
    for machine, asked in ASKED.items():
        for pods in asked:
            for profile in PROFILES:
                yield machine, str(pods), f"`{profile}`", *_counts(preview(machine, profile, pods))


def _counts(found: Mapping[str, Any]) -> tuple[str, ...]:
    placed = [pod for pod in found["pods"] if pod["cpus"]]
    numbers = (
        len(parse_cpuset(found["reservation"]["cpus"])),
        len(placed),
        sum(len(pod["l3_groups"]) == 1 for pod in placed),
        sum(len(pod["numa_nodes"]) == 1 for pod in placed),
        sum(_aligned(pod) for pod in placed),
        sum(bool(pod["refused"]) for pod in found["pods"]),
    )
    return tuple(map(str, numbers))


def _aligned(pod: Mapping[str, Any]) -> bool:
    """Whether its CPUs and GPUs, and its memory if a memory manager places it, are on the same NUMA nodes."""
    return pod["numa_nodes"] == pod["device_nodes"] and pod["memory_nodes"] in ([], pod["numa_nodes"])


def main() -> None:
    """Print the table."""
    for row in (HEAD, ("---",) * len(HEAD), *rows()):
        print(f"| {' | '.join(row)} |", flush=True)


if __name__ == "__main__":
    main()
