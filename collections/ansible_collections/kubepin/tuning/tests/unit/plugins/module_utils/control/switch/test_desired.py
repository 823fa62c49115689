# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

from typing import Any

import pytest
from ansible_collections.kubepin.tuning.plugins.module_utils.control.switch.desired import (
    DesiredSettings,
    choose_settings,
)
from ansible_collections.kubepin.tuning.tests.unit.samples.machines import DEFAULTS, topology

OPTIONS = {**DEFAULTS, "cpuManagerPolicyOptions": {"full-pcpus-only": "true"}}


@pytest.mark.parametrize(
    ("now", "desired", "settings"),
    [
        pytest.param(
            DEFAULTS,
            DesiredSettings("static"),
            {"cpuManagerPolicy": "static", "reservedSystemCPUs": "0"},
            id="what is not named is left alone",
        ),
        pytest.param(DEFAULTS, DesiredSettings("none"), {"cpuManagerPolicy": "none"}, id="no options to take away"),
        pytest.param(
            OPTIONS,
            DesiredSettings("none"),
            {"cpuManagerPolicy": "none", "cpuManagerPolicyOptions": {}},
            id="the policy none refuses options",
        ),
        pytest.param(
            DEFAULTS,
            DesiredSettings("static", policy_options={"full-pcpus-only": True}, topology_manager_scope="pod"),
            {
                "cpuManagerPolicy": "static",
                "reservedSystemCPUs": "0",
                "cpuManagerPolicyOptions": {"full-pcpus-only": "true"},
                "topologyManagerScope": "pod",
            },
            id="values as the kubelet's configuration writes them",
        ),
        pytest.param(
            {**DEFAULTS, "kubeReserved": {"memory": "1Gi"}},
            DesiredSettings(
                "static",
                memory_manager_policy="Static",
                reserved_memory=[{"numa_node": 0, "limits": {"memory": "1124Mi"}}],
            ),
            {
                "cpuManagerPolicy": "static",
                "reservedSystemCPUs": "0",
                "memoryManagerPolicy": "Static",
                "reservedMemory": [{"numaNode": 0, "limits": {"memory": "1124Mi"}}],
            },
            id="reserved memory",
        ),
    ],
)
def test_settings(now: dict[str, Any], desired: DesiredSettings, settings: dict[str, Any]) -> None:
    chosen = choose_settings(topology(), now, "1.36.3", desired)
    assert chosen.problems == []
    assert chosen.settings == settings


def test_rules_of_the_kubelet_and_of_the_reservation_are_checked_at_once() -> None:
    desired = DesiredSettings("static", reserved_cpus="0-1", topology_manager_scope="node")
    chosen = choose_settings(topology(), DEFAULTS, "1.22.17", desired)
    codes = {problem.code for problem in chosen.problems}
    assert codes >= {"no_cpu_left_for_pods", "topology_manager_scope_unknown"}
    assert chosen.reservation is None


@pytest.mark.parametrize(
    ("version", "code"),
    [(None, "kubelet_version_unreadable"), ("1.19.16", "kubelet_too_old"), ("1.22.1", "kubelet_broken")],
)
def test_kubelets_that_are_not_switched(version: str | None, code: str) -> None:
    chosen = choose_settings(topology(), DEFAULTS, version, DesiredSettings("static"))
    assert [problem.code for problem in chosen.problems] == [code]
