# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

from typing import Any

import pytest
from ansible_collections.kubepin.tuning.plugins.module_utils.control.gpu_access.node import Node, with_facts
from ansible_collections.kubepin.tuning.plugins.module_utils.control.gpu_access.risk import risk_of

OLD = {"cpu_manager_policy": "static", "cgroup_driver": "cgroupfs", "device_injection": "legacy"}


SYSTEMD = {
    "kubelet_version": "1.36.3",
    "cpu_manager_policy": "static",
    "cgroup_driver": "systemd",
    "runc_version": "1.5.3",
}
LINKLESS = {**SYSTEMD, "runc_version": "1.1.5", "device_injection": "device_specs", "dev_char_links": False}


@pytest.mark.parametrize(
    ("known", "exclusive", "grade", "causes"),
    [
        # What was observed by hand: kubelets 1.21.14 and 1.22.17, runc 1.0.0-rc93 and 1.1.5, devices added by a hook
        ({**OLD, "kubelet_version": "1.21.14", "runc_version": "1.0.0-rc93"}, False, "high", ["container_update"]),
        ({**OLD, "kubelet_version": "1.21.14", "runc_version": "1.0.0-rc93"}, True, "high", ["container_update"]),
        ({**OLD, "kubelet_version": "1.22.17", "runc_version": "1.0.0-rc93"}, False, "high", ["container_update"]),
        ({**OLD, "kubelet_version": "1.22.17", "runc_version": "1.0.0-rc93"}, True, "low", ["container_update"]),
        ({**OLD, "kubelet_version": "1.21.14", "runc_version": "1.1.5"}, False, "none", []),
        ({**OLD, "kubelet_version": "1.22.17", "runc_version": "1.1.5"}, False, "none", []),
        # What is unknown counts as unknown, unless it does not matter
        ({}, False, "unknown", ["container_update", "daemon_reload", "dev_char_links"]),
        ({"device_injection": "cdi", "runc_version": "1.2.5"}, False, "none", []),
        ({**OLD, "kubelet_version": "1.22.17"}, False, "unknown", ["container_update"]),
        ({**OLD, "kubelet_version": "1.22.17", "cpu_manager_policy": "none"}, False, "none", []),
        # systemd
        (
            {**OLD, "kubelet_version": "1.30.0", "runc_version": "1.1.5", "cgroup_driver": "systemd"},
            True,
            "low",
            ["container_update", "daemon_reload"],
        ),
        # measured on a real GPU (docs/evidence/gpu-loss.md)
        ({**SYSTEMD, "device_injection": "legacy"}, False, "high", ["container_update", "daemon_reload"]),
        ({**SYSTEMD, "device_injection": "legacy"}, True, "low", ["container_update", "daemon_reload"]),
        ({**SYSTEMD, "device_injection": "device_specs"}, False, "none", []),
        ({**SYSTEMD, "device_injection": "cdi"}, False, "none", []),
        (
            {**SYSTEMD, "cpu_manager_policy": "none", "device_injection": "legacy"},
            True,
            "low",
            ["container_update", "daemon_reload"],
        ),
        (
            {**SYSTEMD, "cpu_manager_policy": "none", "device_injection": "legacy", "kubelet_version": "1.32.0"},
            True,
            "low",
            ["daemon_reload"],
        ),
        (LINKLESS, False, "high", ["dev_char_links"]),
        (LINKLESS, True, "low", ["dev_char_links"]),
        ({**LINKLESS, "cpu_manager_policy": "none"}, False, "low", ["dev_char_links"]),
        (
            {"device_injection": "cdi", "runc_version": "1.1.5", "cgroup_driver": "systemd", "dev_char_links": False},
            True,
            "low",
            ["dev_char_links"],
        ),
        (
            {"device_injection": "cdi", "runc_version": "1.1.5", "cgroup_driver": "systemd"},
            True,
            "unknown",
            ["dev_char_links"],
        ),
        (
            {"device_injection": "cdi", "runc_version": "1.1.7", "cgroup_driver": "systemd", "dev_char_links": False},
            True,
            "none",
            [],
        ),
    ],
)
def test_risk(known: dict[str, Any], exclusive: bool, grade: str, causes: Any) -> None:
    risk = risk_of(with_facts(Node(), "gpu-01", known), exclusive, privileged=False)
    assert (risk["grade"], [cause["code"] for cause in risk["causes"]]) == (grade, causes)


def test_a_privileged_container_keeps_its_devices() -> None:
    assert risk_of(Node(), False, privileged=True) == {"grade": "none", "causes": [], "unknown": []}
