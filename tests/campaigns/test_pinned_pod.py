# SPDX-License-Identifier: GPL-3.0-or-later
"""A pod with exclusive CPUs may lose its container to a drain of its own node, and to nothing else."""

from __future__ import annotations

import pytest

from tests.campaigns.base import CheckFailed
from tests.campaigns.pinned_pod import Sample, pod_runs

OLD, NEW = {"other": "v1.21.14"}, {"other": "v1.22.17"}


def test_a_drain_of_its_own_node_may_end_it() -> None:
    samples = [
        Sample(10, "a", "1", False, OLD),
        Sample(11, "a", "1", None, None),
        Sample(12, "a", "1", False, NEW),
        Sample(13, None, None, None, None),
        Sample(14, None, None, True, NEW),
        Sample(15, "b", "1", False, NEW),
    ]
    first, second = pod_runs(samples)
    assert (first.container, first.began, first.ended, first.outlasted) == ("a", 0, 2, ["other v1.22.17"])
    assert (second.container, second.outlasted) == ("b", [])


@pytest.mark.parametrize("after", [Sample(11, None, None, False, OLD), Sample(11, "b", "1", False, OLD)])
def test_an_end_out_of_turn_is_named(after: Sample) -> None:
    with pytest.raises(CheckFailed, match="container a ended after 1 s, while its node was not being upgraded"):
        pod_runs([Sample(10, "a", "1", False, OLD), after])


def test_other_cpus_are_named() -> None:
    with pytest.raises(CheckFailed, match="had CPUs 1, and 0-1 after"):
        pod_runs([Sample(10, "a", "1", True, OLD), Sample(11, "a", "0-1", True, OLD)])
