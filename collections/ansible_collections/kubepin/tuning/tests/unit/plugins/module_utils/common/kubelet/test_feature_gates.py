# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import pytest
from ansible_collections.kubepin.tuning.plugins.module_utils.common.kubelet.feature_gates import manages_pod_level

ON = {"PodLevelResourceManagers": True}


@pytest.mark.parametrize(
    ("minor", "gates", "managed"),
    [
        pytest.param(37, {}, False, id="1.37 by default"),
        pytest.param(37, None, False, id="1.37, gates unknown"),
        pytest.param(37, ON, True, id="1.37"),
        pytest.param(37, {"PodLevelResourceManagers": "true"}, True, id="as a flag has it"),
        pytest.param(36, ON, True, id="1.36"),
        pytest.param(35, ON, False, id="a kubelet that does not know the gate"),
        pytest.param(37, {"AllBeta": True}, True, id="beta in 1.37"),
        pytest.param(36, {"AllBeta": True}, False, id="not beta in 1.36"),
        pytest.param(36, {"AllAlpha": True}, True, id="alpha in 1.36"),
        pytest.param(37, {"AllAlpha": True}, False, id="no longer alpha in 1.37"),
        pytest.param(37, {"AllBeta": True, "PodLevelResourceManagers": False}, False, id="its own gate wins"),
        pytest.param(37, {**ON, "PodLevelResources": False}, False, id="without what it needs"),
    ],
)
def test_whether_a_kubelet_manages_whole_pods(minor: int, gates: dict[str, bool] | None, managed: bool) -> None:
    assert manages_pod_level(gates, minor) is managed
