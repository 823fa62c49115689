# SPDX-License-Identifier: GPL-3.0-or-later
"""Whether the inventory and --limit leave hosts to work on."""

from __future__ import annotations

import pytest
from ansible_collections.kubepin.tuning.plugins.module_utils.control.run.hosts import (
    comparison_problems,
    inventory_problems,
)

GROUPS = {"gpu_nodes": ["gpu-01", "gpu-02"], "other_nodes": ["cp-01"], "amd": ["gpu-01"], "intel": ["gpu-02"]}


@pytest.mark.parametrize(
    ("groups", "hosts", "needed", "code"),
    [
        pytest.param(GROUPS, ["localhost", "gpu-01"], ["gpu_nodes"], None, id="a host is left"),
        pytest.param(GROUPS, ["cp-01"], ["gpu_nodes", "other_nodes"], None, id="of one of the groups"),
        pytest.param(GROUPS, ["cp-01"], ["gpu_nodes"], "limit_without_nodes", id="the limit leaves none"),
        pytest.param({"all": []}, ["localhost"], ["gpu_nodes"], "inventory_without_nodes", id="the group is missing"),
        pytest.param({"gpu_nodes": []}, ["localhost"], ["gpu_nodes"], "inventory_without_nodes", id="an empty group"),
        pytest.param(GROUPS, ["localhost", "gpu-01"], None, None, id="localhost is left"),
        pytest.param(GROUPS, ["gpu-01"], None, "limit_without_localhost", id="the limit leaves localhost out"),
    ],
)
def test_a_playbook_has_hosts_to_work_on(
    groups: dict[str, list[str]], hosts: list[str], needed: list[str] | None, code: str | None
) -> None:
    assert [problem["code"] for problem in inventory_problems(groups, hosts, "x", needed)] == ([code] if code else [])


def test_a_limit_that_leaves_no_node_is_named_with_the_nodes() -> None:
    (problem,) = inventory_problems(GROUPS, ["cp-01"], "cp-01", ["gpu_nodes"])
    assert problem["text"] == (
        '--limit "cp-01" leaves no host of the group gpu_nodes, so there is nothing to do. '
        "Limit the run to hosts of that group: gpu-01, gpu-02."
    )


@pytest.mark.parametrize(
    ("hosts", "group_b", "comparable"),
    [
        pytest.param(["gpu-01", "gpu-02"], "intel", True, id="two groups"),
        pytest.param(["gpu-01"], "intel", False, id="the limit leaves one"),
        pytest.param(["gpu-01", "gpu-02"], "amd", False, id="the same group"),
        pytest.param(["gpu-01", "gpu-02"], "arm", False, id="no such group"),
    ],
)
def test_two_groups_that_both_have_hosts_can_be_compared(hosts: list[str], group_b: str, comparable: bool) -> None:
    found = comparison_problems(GROUPS, hosts, "amd", group_b)
    assert [problem["code"] for problem in found] == ([] if comparable else ["groups_not_comparable"])
