# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

from typing import Any

import pytest
from ansible_collections.kubepin.tuning.plugins.module_utils.common.shown import shown


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, "not set"),
        ([], "not set"),
        ("static", "static"),
        (True, "true"),
        (2, "2"),
        ({"full-pcpus-only": "true", "b": False}, "b=false, full-pcpus-only=true"),
        (
            [{"numaNode": 0, "limits": {"memory": "300Mi"}}, {"numaNode": 1, "limits": {"memory": "1Gi"}}],
            "NUMA node 0 memory=300Mi; NUMA node 1 memory=1Gi",
        ),
        (["a", "b"], "a; b"),
    ],
)
def test_values_are_written_for_people_and_not_as_python_does(value: Any, text: str) -> None:
    assert shown(value) == text
