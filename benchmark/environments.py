# SPDX-License-Identifier: GPL-3.0-or-later
"""How the environments of two arms differ, and which differences make the comparison doubtful."""

from __future__ import annotations

from .analysis import Difference
from .results import ResultSet, Scalar

# Keys that an experiment on CPUs sets, and keys that follow from those.
BY_DESIGN = frozenset(
    {
        "cpu_numa_nodes",
        "cpus_allowed",
        "cpus_allowed_list",
        "interop_threads",
        "omp_num_threads",
        "pod_cpu",
        "policy",
        "quota_cpus",
        "threads",
        "threads_by",
    }
)
_RED_FLAGS = {
    "device": "the GPU on one side, the CPU on the other",
    "gpu": "another GPU model: the differences are not due to the CPU alone",
    "gpu_uuid": "another card: two cards of one model differ by 2 to 5 %",
    "driver": "another GPU driver",
    "cuda": "another CUDA",
    "cudnn": "another cuDNN may choose other algorithms",
    "torch": "another torch",
    "torchvision": "another torchvision",
    "tf32_cudnn": "different arithmetic in float cells",
    "tf32_matmul": "different arithmetic in float cells",
    "image_size": "another workload",
    "workers": "another workload in loader cells",
    "governor": "the CPU frequency is governed differently",
    "boost": "the CPU frequency is governed differently",
    "smt": "the CPU's cores are shared differently",
}
_ON_ONE_HOST = {
    "cpu_model": "another CPU, though the rounds were interleaved",
    "cpu_count": "another number of CPUs, though the rounds were interleaved",
    "kernel": "another kernel, though the rounds were interleaved",
    "host": "another host, though the rounds were interleaved",
}
_NEVER_EQUAL = frozenset({"started", "ended", "memory_available"})


def differences(a: ResultSet, b: ResultSet) -> tuple[Difference, ...]:
    """Keys on which A and B differ, red flags first, differences by design last. A side that lacks a key has None."""
    flags = {**_RED_FLAGS, **(_ON_ONE_HOST if a.run_ids and a.run_ids == b.run_ids else {})}
    found = []
    for key in _keys(a, b):
        left, right = a.environment.get(key), b.environment.get(key)
        if left != right:
            flag = flags.get(key, "") if left is not None and right is not None else ""
            found.append(Difference(key, left, right, key in BY_DESIGN, flag))
    return tuple(sorted(found, key=lambda difference: (not difference.red_flag, difference.by_design)))


def same(a: ResultSet, b: ResultSet) -> dict[str, Scalar]:
    """Keys that are equal on both sides."""
    return {
        key: a.environment[key]
        for key in _keys(a, b)
        if a.environment.get(key) is not None and a.environment.get(key) == b.environment.get(key)
    }


def _keys(a: ResultSet, b: ResultSet) -> list[str]:
    return [key for key in dict.fromkeys([*a.environment, *b.environment]) if key not in _NEVER_EQUAL]
