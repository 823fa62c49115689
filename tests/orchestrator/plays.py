# SPDX-License-Identifier: GPL-3.0-or-later
"""Plays for the orchestrator's tests, shaped as those that switch nodes."""

from __future__ import annotations

RESULT = "ansible.builtin.set_fact: {kubepin_result: {schema: 1, outcome: tuned}}"
SWITCHES_UNTIL_STOPPED = '{name: Switch, ansible.builtin.wait_for: {path: "{{ kubepin_stop_file }}", timeout: 300}}'


def planned_and_gated(*first: str) -> str:
    """A playbook that plans all nodes, and switches one after the other once it may stop.

    :param first: tasks of the switch before its gate, each in YAML's flow style
    """
    return "\n".join(
        [
            "- name: Plan",
            "  hosts: gpu_nodes",
            "  gather_facts: false",
            "  tasks: [{ansible.builtin.set_fact: {kubepin_plan: {schema: 1, outcome: not_begun}}}]",
            "- name: Switch",
            "  hosts: gpu_nodes",
            "  gather_facts: false",
            "  serial: 1",
            "  tasks:",
            "    - ansible.builtin.meta: end_play",
            "      when: kubepin_stop_file | default('') is file",
            *(f"    - {task}" for task in first),
            f"    - {SWITCHES_UNTIL_STOPPED}",
            f"    - {RESULT}",
            "",
        ]
    )
