# SPDX-License-Identifier: GPL-3.0-or-later
"""Pure: whether the inventory and --limit leave a playbook the hosts that it works on."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

from ansible_collections.kubepin.tuning.plugins.module_utils.common.problem import to_dicts
from ansible_collections.kubepin.tuning.plugins.module_utils.control.run import problems

Groups = Mapping[str, Sequence[str]]


def inventory_problems(
    groups: Groups, hosts: Collection[str], limit: str, needed: Sequence[str] | None = None
) -> list[dict[str, Any]]:
    """What keeps a playbook from working on the hosts of some groups, or on localhost.

    :param groups: the groups of the inventory
    :param hosts: those of the play, which --limit leaves
    :param limit: empty without one
    :param needed: groups of which a host is needed; None: localhost
    """
    if needed is None:
        return [] if "localhost" in hosts else to_dicts([problems.limit_without_localhost(limit)])
    found = list(dict.fromkeys(host for name in needed for host in groups.get(name, ())))
    if not found:
        return to_dicts([problems.no_nodes()])
    return [] if set(found) & set(hosts) else to_dicts([problems.limit_without_nodes(limit, needed, found)])


def comparison_problems(groups: Groups, hosts: Collection[str], group_a: str, group_b: str) -> list[dict[str, Any]]:
    """What keeps two groups from being compared.

    :param groups: the groups of the inventory
    :param hosts: those of the play, which --limit leaves
    """
    left = [set(groups.get(name, ())) & set(hosts) for name in (group_a, group_b)]
    comparable = all(left) and group_a != group_b
    return [] if comparable else to_dicts([problems.groups_not_comparable(group_a, group_b)])
