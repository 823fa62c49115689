# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

from dataclasses import replace

from ansible_collections.kubepin.tuning.plugins.module_utils.common.switch.changes import (
    DesiredState,
    FileChange,
    cpu_state_refusal,
    memory_state_refusal,
    state_changes,
)

STATIC = DesiredState("static", frozenset({0}), frozenset(range(4)), strict=False, memory_policy=None, minor=22)
NONE_STATE = '{"policyName":"none","defaultCpuSet":"","checksum":0}'


def test_a_state_file_that_the_kubelet_would_refuse_is_removed_and_the_others_stay() -> None:
    texts = {"cpu_manager": ("/cpu", NONE_STATE), "memory_manager": ("/memory", "damaged")}
    (change,) = state_changes(texts, STATIC)  # without a memory manager, nothing reads its file
    assert (change.path, change.before, change.after) == ("/cpu", NONE_STATE, None)
    assert change.reason == (
        'the kubelet would refuse it: configured policy "static" differs from state checkpoint policy "none"'
    )
    assert state_changes(texts, replace(STATIC, policy="none")) == []


def test_a_refusal_has_the_code_of_the_kubelets_check() -> None:
    damaged, memory = "{", replace(STATIC, memory_policy="Static")
    refusals = [
        cpu_state_refusal(damaged, STATIC),
        cpu_state_refusal(NONE_STATE, STATIC),
        memory_state_refusal(damaged, memory),
    ]
    assert [refusal.code for refusal in refusals if refusal] == [
        "cpu_state_unreadable",
        "cpu_state_other_policy",
        "memory_state_unreadable",
    ]
    assert cpu_state_refusal(None, STATIC) is None


def test_the_inverse_of_a_change_restores_the_text() -> None:
    assert FileChange("/f", "old", "new", "asked for").inverse("undone") == FileChange("/f", "new", "old", "undone")
