# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

from typing import Any

import pytest
from ansible_collections.kubepin.tuning.plugins.module_utils.control.kubelet.costs import static_policy_costs

RESIZE, NO_QUOTA, QUOTA = "refuses to resize the CPUs of Guaranteed pods", "have no CFS quota", "keep their CFS quota"


EMPTY = "may take all CPUs that are not reserved"
QUOTA_OF_POD = "keeps its CFS quota unless all of its containers have exclusive CPUs"


def gates(**values: bool) -> dict[str, Any]:
    return {"featureGates": values}


@pytest.mark.parametrize(
    ("minor", "after", "expected"),
    [
        pytest.param(22, {}, [QUOTA], id="old"),
        pytest.param(32, {}, [QUOTA], id="the last that keeps the quota and resizes nothing"),
        pytest.param(33, {}, [RESIZE, NO_QUOTA], id="1.33"),
        pytest.param(
            33, gates(DisableCPUQuotaWithExclusiveCPUs=False), [RESIZE, QUOTA], id="the old quota, by its gate"
        ),
        pytest.param(34, gates(InPlacePodVerticalScaling=False), [NO_QUOTA], id="nothing is resized, by its gate"),
        pytest.param(35, gates(InPlacePodVerticalScaling=False), [RESIZE, NO_QUOTA], id="a gate that is locked"),
        pytest.param(
            36, gates(InPlacePodVerticalScalingExclusiveCPUs=True), [NO_QUOTA], id="resizes exclusive CPUs too"
        ),
        pytest.param(37, gates(DisableCPUQuotaWithExclusiveCPUs=False), [RESIZE, NO_QUOTA], id="another locked gate"),
        pytest.param(
            36,
            {"cpuManagerPolicyOptions": {"strict-cpu-reservation": "true"}},
            [RESIZE, EMPTY, NO_QUOTA],
            id="a shared pool without reserved CPUs",
        ),
        pytest.param(
            36, gates(PodLevelResourceManagers=True), [RESIZE, NO_QUOTA, QUOTA_OF_POD], id="manages whole pods"
        ),
        pytest.param(36, {"cpuCFSQuota": False}, [RESIZE], id="no quota on this node at all"),
    ],
)
def test_what_the_policy_costs_by_version(minor: int, after: dict[str, Any], expected: list[str]) -> None:
    notes = static_policy_costs(minor, after)
    assert len(notes) == len(expected)
    assert all(words in note for note, words in zip(notes, expected, strict=True))
