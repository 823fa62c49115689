# SPDX-License-Identifier: GPL-3.0-or-later
"""Pods that lose their GPU stand-in: what their logs mean, and that the audit grades what was measured as it happened."""

from __future__ import annotations

import json
from itertools import groupby
from pathlib import Path

import pytest
from ansible_collections.kubepin.tuning.plugins.module_utils.control.gpu_access.node import Node, with_facts
from ansible_collections.kubepin.tuning.plugins.module_utils.control.gpu_access.risk import risk_of

from sandbox.settings import SandboxError
from tests.campaigns import legacy_gpu
from tests.campaigns.gpu_loss import (
    NEIGHBOUR,
    QUIET,
    RESTART,
    SHARED,
    WHOLE,
    GpuLossResult,
    key,
    loss,
    markdown,
    read_rows,
)

MEASURED = Path(__file__).parent / "data" / "gpu-loss"
CONTAINERS = [list(rows) for _, rows in groupby(sorted(read_rows(MEASURED), key=key), key)]


@pytest.mark.parametrize("rows", CONTAINERS, ids=lambda rows: " ".join(key(rows[0])))
def test_the_audit_grades_what_happened(rows: list[GpuLossResult]) -> None:
    first = rows[0]
    lost = {row.event for row in rows if row.lost}
    grade = "high" if lost & {QUIET, NEIGHBOUR} else "low" if RESTART in lost else "none"
    known = {
        "kubelet_version": first.kubelet,
        "cpu_manager_policy": first.policy,
        "runc_version": first.runc,
        "cgroup_driver": "cgroupfs",
        "device_injection": "legacy",
    }
    exclusive = first.policy == "static" and first.pod == WHOLE
    risk = risk_of(with_facts(Node(), "worker", known), exclusive=exclusive, privileged=False)
    assert risk["grade"] == grade


def test_both_kubelets_were_measured_with_both_policies_and_runcs() -> None:
    assert len(CONTAINERS) == 16


@pytest.mark.parametrize(
    ("log", "since", "seconds"),
    [
        pytest.param("100 open\n", 100, None, id="kept"),
        pytest.param("100 open\n108 refused\n", 100, 8, id="lost"),
        pytest.param("100 open\n108 refused\n120 open\n", 115, None, id="granted again before the event"),
        pytest.param("100 open\n108 refused\n120 open\n129 refused\n", 121, 8, id="lost again"),
    ],
)
def test_when_a_pod_lost_its_device(log: str, since: int, seconds: int | None) -> None:
    assert loss(log, since) == seconds


def test_a_device_that_is_not_there_is_no_loss() -> None:
    with pytest.raises(SandboxError, match="No such file"):
        loss("100 open\n103 sh:_can't_create_/dev/nvidia0:_No such file\n", 100)


def test_the_table_has_a_line_a_container_and_says_what_was_not_measured() -> None:
    rows = [
        GpuLossResult("1.21.14", "static", "1.0.0-rc93", WHOLE, QUIET, True, 6),
        GpuLossResult("1.21.14", "static", "1.0.0-rc93", SHARED, NEIGHBOUR, False, None),
    ]
    assert markdown(rows).splitlines()[2:] == [
        "| 1.21.14 | static | 1.0.0-rc93 | no CPU requested | not measured | not measured | kept | not measured |",
        "| 1.21.14 | static | 1.0.0-rc93 | Guaranteed, 1 CPU | lost, 6 s | not measured | not measured | not measured |",
    ]


def test_a_container_starts_from_containerds_specification_and_the_hook() -> None:
    text = json.dumps({"process": {"cwd": "/", "rlimits": [{"type": "RLIMIT_NOFILE"}]}, "mounts": ["kept"]})
    made = json.loads(legacy_gpu.specification_with_hook(text, "/opt/hook"))
    assert made == {
        "process": {"cwd": "/"},
        "mounts": ["kept"],
        "hooks": {"prestart": [{"path": "/opt/hook", "args": ["legacy-hook", "/dev/nvidia0"]}]},
    }


def test_each_runtime_has_its_own_runc() -> None:
    text = legacy_gpu.containerd_runtimes({"one": "/opt/runc", "two": "/usr/sbin/runc"})
    assert text.index("runtimes.one.options]") < text.index('BinaryName = "/opt/runc"') < text.index("runtimes.two]")
    assert text.endswith('BinaryName = "/usr/sbin/runc"\nSystemdCgroup = false\n')
