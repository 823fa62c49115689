# SPDX-License-Identifier: GPL-3.0-or-later
"""The file itself, its checksum and its machine state. `make conformance WHAT=config` holds the verdict to real kubelets."""

from __future__ import annotations

import contextlib
import json
import typing as t

import pytest
from ansible_collections.kubepin.tuning.plugins.module_utils.common.kubelet.checkpoint import StateFileError, seal_of
from ansible_collections.kubepin.tuning.plugins.module_utils.common.kubelet.memory_manager_state import (
    default_machine,
    memory_checksum_of,
    memory_refusal_of,
    parse_memory_state,
)
from ansible_collections.kubepin.tuning.tests.unit.samples.inputs import damaged, documents
from hypothesis import given
from hypothesis import strategies as st

GIB = 2**30
RESERVED = [{"numaNode": 0, "limits": {"memory": "1Gi"}}]
ONE = {0: {"memory": 128 * GIB}}
TWO = {node: {"memory": 8 * GIB} for node in (0, 1)}
PAGES = {0: {"memory": 8 * GIB, "hugepages-1Gi": 2 * GIB, "hugepages-2Mi": 0}}

# Written by kubelets 1.21.14, 1.22.17, 1.35.6 and 1.36.3 alike, with the policy None, and with Static without and with a pod.
NONE = '{"policyName":"None","machineState":{},"checksum":4236770233}'
EMPTY = (
    '{"policyName":"Static","machineState":{"0":{"numberOfAssignments":0,"memoryMap":{"memory":{"total":137438953472,'
    '"systemReserved":1073741824,"allocatable":136365211648,"reserved":0,"free":136365211648}},"cells":[0]}},"checksum":3846479054}'
)
POD = (
    '{"policyName":"Static","machineState":{"0":{"numberOfAssignments":1,"memoryMap":{"memory":{"total":137438953472,'
    '"systemReserved":1073741824,"allocatable":136365211648,"reserved":1073741824,"free":135291469824}},"cells":[0]}},'
    '"entries":{"a":{"c":[{"numaAffinity":[0],"type":"memory","size":1073741824}]}},"checksum":1513260580}'
)


def rejected(text: str, policy: str = "Static", minor: int = 22, **machine: t.Any) -> str | None:
    """The verdict on a file, for a machine of one NUMA node with 1 GiB reserved unless told otherwise."""
    found = default_machine(machine.get("nodes", ONE), machine.get("reserved", RESERVED))
    refusal = memory_refusal_of(parse_memory_state(text, minor, machine.get("pod_level", False)), policy, found, minor)
    return refusal.reason if refusal else None


def text_of(machine: dict[str, t.Any], entries: dict[str, t.Any]) -> str:
    """A file with the checksum that a kubelet would write."""
    checksum = memory_checksum_of("Static", machine, entries)
    return json.dumps({"policyName": "Static", "machineState": machine, "entries": entries, "checksum": checksum})


@pytest.mark.parametrize("text", [NONE, EMPTY, POD])
def test_a_kubelets_own_checksum_is_right_and_another_is_not(text: str) -> None:
    assert parse_memory_state(text, 22, False)["checksum_ok"] is True
    data = json.loads(text)
    assert parse_memory_state(json.dumps({**data, "checksum": 1}), 22, False)["checksum_ok"] is False
    assert parse_memory_state(json.dumps({**data, "checksum": 0}), 22, False)["checksum_ok"] is None
    assert parse_memory_state(json.dumps({**data, "policyName": "Other"}), 22, False)["checksum_ok"] is False


@pytest.mark.parametrize(("text", "policy"), [(NONE, "None"), (EMPTY, "Static"), (POD, "Static")])
def test_a_kubelets_own_file_is_taken(text: str, policy: str) -> None:
    assert rejected(text, policy) is None


def test_no_file_is_no_problem() -> None:
    assert memory_refusal_of(None, "Static", {}, 22) is None


@pytest.mark.parametrize(
    ("text", "policy", "reason"),
    [
        pytest.param(
            NONE, "Static", 'configured policy "Static" differs from state checkpoint policy "None"', id="policy"
        ),
        pytest.param(
            NONE, "none", 'configured policy "none" differs from state checkpoint policy "None"', id="capitals"
        ),
        pytest.param(EMPTY.replace("3846479054", "1"), "Static", "checkpoint is corrupted", id="checksum"),
        pytest.param(NONE.replace("4236770233", "1"), "None", "checkpoint is corrupted", id="checksum, policy None"),
        pytest.param(text_of({}, json.loads(POD)["entries"]), "Static", "can not be empty", id="pods on no machine"),
        pytest.param(
            text_of(json.loads(EMPTY)["machineState"], json.loads(POD)["entries"]),
            "Static",
            "expected machine state is different",
            id="a pod that the machine state does not know",
        ),
        pytest.param(
            text_of(
                json.loads(POD)["machineState"], {"a": {"c": [{"numaAffinity": [7], "type": "memory", "size": 1}]}}
            ),
            "Static",
            "the NUMA that does not exist",
            id="a pod on an absent NUMA node",
        ),
        pytest.param(
            text_of(
                json.loads(POD)["machineState"],
                {"a": {"c": [{"numaAffinity": [0], "type": "hugepages-1Gi", "size": 1}]}},
            ),
            "Static",
            "memory resource that does not exist",
            id="a pod with absent huge pages",
        ),
    ],
)
def test_refused_files(text: str, policy: str, reason: str) -> None:
    assert reason in (rejected(text, policy) or "")


def test_another_reservation_or_other_memory_than_in_the_file_is_refused() -> None:
    more = [{"numaNode": 0, "limits": {"memory": "2Gi"}}]
    assert "expected machine state is different" in (rejected(EMPTY, reserved=more) or "")
    less = {0: {"memory": 128 * GIB - 4096}}
    assert "expected machine state is different" in (rejected(EMPTY, nodes=less) or "")
    assert "expected machine state is different" in (rejected(EMPTY, nodes=TWO) or "")
    assert "expected machine state is different" in (rejected(EMPTY, nodes=PAGES) or "")


def test_a_machine_whose_memory_is_not_known_is_not_held_against_the_file() -> None:
    assert memory_refusal_of(parse_memory_state(EMPTY, 22, False), "Static", {}, 22) is None


def test_a_checksum_of_0_is_taken_from_1_36_on() -> None:
    text = EMPTY.replace("3846479054", "0")
    assert [rejected(text, minor=minor) for minor in (22, 35, 36)] == ["checkpoint is corrupted"] * 2 + [None]


def sealed(text: str, **changed: t.Any) -> str:
    """The file as 1.37 writes it, around a part for older kubelets that has another policy."""
    data = json.dumps({name: value for name, value in json.loads(text).items() if name != "checksum"})
    return json.dumps({**json.loads(NONE), "data": data, "dataChecksum": seal_of(data), **changed})


def test_since_1_37_the_text_in_the_file_counts_and_its_checksum() -> None:
    assert rejected(sealed(POD), minor=37) is None
    assert "differs from state checkpoint policy" in (rejected(sealed(POD), minor=36) or "")
    for broken in (sealed(POD, dataChecksum=12345), sealed(POD, dataChecksum=0)):
        assert rejected(broken, minor=37) == "checkpoint is corrupted"
    assert rejected(sealed(POD, checksum=1), minor=37) is None
    assert rejected(POD, minor=37) is None
    assert rejected(sealed(NONE, data="", dataChecksum=0), "None", minor=37) is None


@pytest.mark.parametrize(("pod_level", "starts"), [(True, True), (False, False)])
def test_the_memory_of_a_whole_pod_counts_with_the_feature_gate(pod_level: bool, starts: bool) -> None:
    state = json.loads(POD)
    blocks = state["entries"]["a"]["c"]
    state["entries"]["a"] = {"c": blocks, "d": blocks}
    whole = {"a": {"memoryBlocks": blocks}}
    checksum = memory_checksum_of("Static", state["machineState"], state["entries"], whole)
    v2 = json.dumps({**state, "podEntries": whole, "checksum": checksum})
    for text in (v2, sealed(v2)):
        assert (rejected(text, minor=37, pod_level=pod_level) is None) == starts


def test_a_file_of_1_36_with_the_feature_gate_is_corrupted_without_it() -> None:
    state = json.loads(EMPTY)
    text = json.dumps({**state, "checksum": memory_checksum_of("Static", state["machineState"], {}, {})})
    assert rejected(text, minor=36, pod_level=True) is None
    assert rejected(text, minor=36) == "checkpoint is corrupted"
    assert rejected(text, minor=37) is None


def test_huge_pages_are_no_allocatable_memory() -> None:
    tables = default_machine(PAGES, RESERVED)["0"]["memoryMap"]
    assert {name: table["allocatable"] // GIB for name, table in tables.items()} == {
        "memory": 5,
        "hugepages-1Gi": 2,
        "hugepages-2Mi": 0,
    }


def test_from_1_32_on_only_the_sums_of_a_group_of_numa_nodes_must_be_right() -> None:
    machine = default_machine(TWO, [])
    for node, taken in (("0", 3 * GIB), ("1", 7 * GIB)):  # the kubelet would compute 8 and 2
        machine[node].update(numberOfAssignments=1, cells=[0, 1])
        machine[node]["memoryMap"]["memory"].update(reserved=taken, free=8 * GIB - taken)
    text = text_of(machine, {"a": {"c": [{"numaAffinity": [0, 1], "type": "memory", "size": 10 * GIB}]}})
    assert "different" in (rejected(text, minor=31, nodes=TWO, reserved=[]) or "")
    assert rejected(text, minor=32, nodes=TWO, reserved=[]) is None


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        '{"data": "{", "dataChecksum": 1}',
        '{"data": "", "dataChecksum": 1}',
        '{"data": "[]", "dataChecksum": 1}',
        "3",
        '{"policyName": null, "entries": 3}',
        '{"machineState": {"0": {}}}',
        '{"machineState": {"a": null}}',
    ],
)
def test_text_that_is_no_such_file_is_named(text: str) -> None:
    with pytest.raises(StateFileError, match="Drain the node"):
        parse_memory_state(text, 37, False)


NAMES = ("policyName", "machineState", "entries", "checksum", "podEntries", "memoryBlocks", "data", "dataChecksum")
WHOLE = json.dumps({"policyName": "Static", "machineState": default_machine({0: {"memory": GIB}}, []), "checksum": 5})


@given(
    damaged(WHOLE) | documents(*NAMES, "0", "memoryMap", "cells", "numaAffinity"), st.integers(21, 38), st.booleans()
)
def test_any_text_is_a_state_or_refused(text: str, minor: int, pod_level: bool) -> None:
    with contextlib.suppress(StateFileError):
        parse_memory_state(text, minor, pod_level)
