# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import contextlib
import json
import typing as t

import pytest
from ansible_collections.kubepin.tuning.plugins.module_utils.common.cpuset import parse_cpuset
from ansible_collections.kubepin.tuning.plugins.module_utils.common.kubelet.checkpoint import (
    Refusal,
    StateFileError,
    seal_of,
)
from ansible_collections.kubepin.tuning.plugins.module_utils.common.kubelet.cpu_manager_state import (
    checksum_of,
    parse_state,
    refusal_of,
)
from ansible_collections.kubepin.tuning.tests.unit.samples.inputs import damaged, documents
from hypothesis import given
from hypothesis import strategies as st

TWO_PODS = {"b-uid": {"c2": "4-5", "c1": "2-3"}, "a-uid": {"main": "1"}}


def state_text(policy: str, default: str, checksum: int, **more: t.Any) -> str:
    return json.dumps({"policyName": policy, "defaultCpuSet": default, **more, "checksum": checksum})


V2 = state_text("static", "4-7", checksum_of("static", "4-7", {}))
V3 = state_text("static", "0,6-7", 93566514, entries=TWO_PODS)
_DATA = '{"policyName":"static","defaultCpuSet":"0-3"}'


def v4(**changed: t.Any) -> str:
    """A file of 1.37 whose V2 part differs from what counts, with some fields changed."""
    return json.dumps({**json.loads(V2), "data": _DATA, "dataChecksum": 270902611, **changed})


V4 = v4()


# The checksums are the kubelet's own: the first from a node, two from the Kubernetes blog on strict-cpu-reservation, the others from
# its Go structs hashed with k8s.io/utils/dump.
@pytest.mark.parametrize(
    ("text", "kind", "checksum_ok"),
    [
        pytest.param(state_text("none", "", 1353318690), "V2", True, id="V2 none"),
        pytest.param(state_text("static", "0-63", 1058907510), "V2", True, id="V2 static, no pods"),
        pytest.param(
            state_text("static", "2-15,17-31,34-47,49-63", 4141502832), "V2", True, id="V2 strict reservation"
        ),
        pytest.param(state_text("static", "0,6-7", 200561236, entries=TWO_PODS), "V2", True, id="V2 with pods"),
        pytest.param(state_text("static", "0,6-7", 200561237, entries=TWO_PODS), "V2", False, id="V2 corrupt"),
        pytest.param(state_text("static", "0-7", 200561236, entries=TWO_PODS), "V2", False, id="V2 edited by hand"),
        pytest.param(state_text("static", "0-3", 0), "V2", None, id="V2 checksum 0 is not verified"),
        pytest.param('{"policyName":"none"}', "V2", None, id="V2 without a checksum"),
        pytest.param(
            state_text("static", "0,6-7", 1830492695, entries={"id2": "1-3", "id1": "4-5"}),
            "V1",
            True,
            id="V1 with containers",
        ),
        pytest.param(state_text("none", "", 3242152201), "V1", True, id="V1 none"),
        pytest.param(state_text("static", "0", 5, entries={"id": "1"}), "V1", False, id="V1 corrupt"),
        pytest.param(
            state_text("static", "0,6-7", 93566514, entries=TWO_PODS), "V3", True, id="V3 without pod entries"
        ),
        pytest.param(state_text("none", "", 642675224), "V3", True, id="V3 none"),
        pytest.param(
            state_text("static", "0,6-7", 4072537545, entries=TWO_PODS, podEntries={"p": {"cpuSet": "1-2"}}),
            "V3",
            True,
            id="V3",
        ),
    ],
)
def test_format_and_checksum(text: str, kind: str, checksum_ok: bool | None) -> None:
    state = parse_state(text, 36, kind == "V3")
    assert (state["format"], state["checksum_ok"]) == (kind, checksum_ok)


def test_content() -> None:
    text = state_text("static", "0,6-7", 4072537545, entries=TWO_PODS, podEntries={"p": {"cpuSet": "1-2"}})
    state = parse_state(text, 36, True)
    assert state["policy"] == "static"
    assert state["default_cpus"] == "0,6-7"
    assert state["entries"] == TWO_PODS
    assert state["pod_entries"] == {"p": "1-2"}


def test_content_of_v1_is_by_container() -> None:
    assert parse_state(state_text("static", "0", 0, entries={"id": "1"}), 22, False)["entries"] == {"id": {"": "1"}}


@pytest.mark.parametrize(
    ("text", "minor", "pod_level", "read"),
    [
        pytest.param(V4, 37, False, ("V4", "0-3", True), id="V4"),
        pytest.param(V4, 36, False, ("V2", "4-7", True), id="V4 by an older kubelet"),
        pytest.param(v4(dataChecksum=12345), 37, False, ("V4", "0-3", False), id="V4 corrupt"),
        pytest.param(v4(dataChecksum=0), 37, False, ("V4", "0-3", False), id="V4 without its checksum"),
        pytest.param(v4(checksum=1), 37, False, ("V4", "0-3", True), id="V4, V2 in it corrupt"),
        pytest.param(v4(checksum=1), 36, False, ("V2", "4-7", False), id="V4, V2 in it corrupt, by an older kubelet"),
        pytest.param(v4(data="", dataChecksum=0), 37, False, ("V2", "4-7", True), id="V2 with empty fields of V4"),
        pytest.param(V2, 37, False, ("V2", "4-7", True), id="V2"),
        pytest.param(V3, 37, False, ("V3", "0,6-7", True), id="V3"),
        pytest.param(V3, 36, True, ("V3", "0,6-7", True), id="V3 with the gate"),
        pytest.param(V3, 36, False, ("V2", "0,6-7", False), id="V3 without the gate"),
        pytest.param(V3, 35, False, ("V2", "0,6-7", False), id="V3 by a kubelet that does not know it"),
        pytest.param(state_text("none", "", 3242152201), 36, False, ("V1", "", True), id="V1"),
        pytest.param(state_text("none", "", 3242152201), 37, False, ("V2", "", False), id="V1 by a kubelet without it"),
    ],
)
def test_which_format_a_kubelet_reads(text: str, minor: int, pod_level: bool, read: tuple[str, str, bool]) -> None:
    state = parse_state(text, minor, pod_level)
    assert (state["format"], state["default_cpus"], state["checksum_ok"]) == read


@pytest.mark.parametrize(
    ("text", "message"),
    [
        pytest.param(v4(data='{"policyName"', dataChecksum=1), "'data' is not JSON", id="V4 cut off"),
        pytest.param(v4(data="", dataChecksum=1), "'data' is not JSON", id="V4 without data"),
        pytest.param(v4(data="[]"), "'data' holds \\[\\]", id="V4, data is a list"),
        pytest.param(v4(data=3), "'data' is 3; expected text", id="V4, data is a number"),
        pytest.param(v4(dataChecksum="1"), "'dataChecksum' is '1'; expected a whole number", id="V4 checksum"),
        pytest.param(v4(data='{"defaultCpuSet":"0-"}'), "'0-' is not a CPU list", id="V4 default set"),
        pytest.param(
            state_text("static", "0", 0, entries={"id": "1"}), "V1, which no kubelet since 1.37 reads", id="V1"
        ),
        pytest.param("", "is not JSON", id="empty"),
        pytest.param('{"policyName": "sta', "is not JSON", id="cut off"),
        pytest.param("[]", "holds \\[\\]; expected a JSON object", id="a list"),
        pytest.param('{"policyName": 1}', "'policyName' is 1; expected text", id="policy is a number"),
        pytest.param(state_text("static", "0-", 0), "'0-' is not a CPU list", id="default set"),
        pytest.param(
            state_text("static", "0", 0, entries={"u": {"c": "x"}}), "'x' is not a CPU list", id="a container's set"
        ),
        pytest.param(
            state_text("static", "0", 0, entries={"u": {"c": 1}}), "'c' is 1; expected text", id="set is a number"
        ),
        pytest.param(state_text("static", "0", 0, entries=[]), "'entries' is \\[\\]; expected a mapping", id="entries"),
        pytest.param(
            state_text("static", "0", 0, entries={"u": 1}), "'u' is 1; expected a mapping", id="a pod's entry"
        ),
        pytest.param(state_text("static", "0", 0, entries={"u": {}, "i": "1"}), "mixes the formats", id="mixed"),
        pytest.param(
            state_text("static", "0", 0, podEntries={"u": "1"}), "'u' is '1'; expected a mapping", id="pod entry"
        ),
        pytest.param('{"checksum": "1"}', "'checksum' is '1'; expected a whole number", id="checksum"),
    ],
)
def test_refused(text: str, message: str) -> None:
    with pytest.raises(StateFileError, match=message) as caught:
        parse_state(text, 37, True)
    assert "Drain the node and remove the file" in str(caught.value)


@pytest.mark.parametrize(
    ("state", "policy", "reserved", "online", "strict", "refusal"),
    [
        pytest.param(None, "static", "0", "0-3", False, None, id="no file"),
        pytest.param(("none", "", {}), "none", "", "0-3", False, None, id="none stays none"),
        pytest.param(("none", "9", {}), "none", "0", "0-3", False, None, id="none looks at nothing else"),
        pytest.param(
            ("none", "", {}), "static", "0", "0-3", False,
            Refusal("cpu_state_other_policy", 'configured policy "static" differs from state checkpoint policy "none"'),
            id="none to static",
        ),
        pytest.param(
            ("static", "0-3", {}), "none", "", "0-3", False,
            Refusal("cpu_state_other_policy", 'configured policy "none" differs from state checkpoint policy "static"'),
            id="static to none",
        ),
        pytest.param(("static", "", {}), "static", "0", "0-3", False, None, id="empty, no pods: initialised"),
        pytest.param(
            ("static", "", {"u": {"c": "1"}}), "static", "0", "0-3", False,
            Refusal("shared_pool_empty", "default cpuset cannot be empty"),
            id="empty with pods",
        ),
        pytest.param(("static", "0-3", {}), "static", "0-1", "0-3", False, None, id="as before"),
        pytest.param(("static", "0,3", {"u": {"c": "1-2"}}), "static", "0", "0-3", False, None, id="as before, with a pod"),
        pytest.param(("static", "0-1,3", {"u": {"c": "2"}}), "static", "0", "0-3", False, None, id="less reserved is accepted"),
        pytest.param(
            ("static", "0,3", {"u": {"c": "1-2"}}), "static", "0-1", "0-3", False,
            Refusal("reserved_cpus_outside_shared_pool", 'not all reserved cpus: "0-1" are present in defaultCpuSet: "0,3"'),
            id="more reserved than free",
        ),
        pytest.param(
            ("static", "0-3", {}), "static", "0-1", "0-3", True,
            Refusal("strictly_reserved_cpus_in_shared_pool", 'some of strictly reserved cpus: "0-1" are present in defaultCpuSet: "0-3"'),
            id="strict turned on",
        ),
        pytest.param(("static", "2-3", {}), "static", "0-1", "0-3", True, None, id="strict as before"),
        pytest.param(
            ("static", "2-3", {}), "static", "0-1", "0-3", False,
            Refusal("reserved_cpus_outside_shared_pool", 'not all reserved cpus: "0-1" are present in defaultCpuSet: "2-3"'),
            id="strict turned off",
        ),
        pytest.param(
            ("static", "0-3", {"u": {"c": "1-2"}}), "static", "0", "0-3", False,
            Refusal("exclusive_cpus_in_shared_pool", 'pod: u, container: c cpuset: "1-2" overlaps with default cpuset "0-3"'),
            id="overlap",
        ),
        pytest.param(
            ("static", "0-3", {}), "static", "0", "0-7", False,
            Refusal("other_cpus", 'current set of available CPUs "0-7" doesn\'t match with CPUs in state "0-3"'),
            id="CPUs came (SMT turned on)",
        ),
        pytest.param(
            ("static", "0-7", {}), "static", "0", "0-3", False,
            Refusal("other_cpus", 'current set of available CPUs "0-3" doesn\'t match with CPUs in state "0-7"'),
            id="CPUs went",
        ),
    ],
)  # fmt: skip
def test_refusals(
    state: tuple[str, str, t.Any] | None, policy: str, reserved: str, online: str, strict: bool, refusal: Refusal | None
) -> None:
    parsed = parse_state(state_text(state[0], state[1], 0, entries=state[2]), 36, False) if state else None
    assert refusal_of(parsed, policy, parse_cpuset(reserved), parse_cpuset(online), strict) == refusal


def test_a_wrong_checksum_comes_first() -> None:
    state = parse_state(state_text("none", "", 1), 36, False)
    assert refusal_of(state, "static", frozenset(), frozenset(), False) == Refusal(
        "cpu_state_corrupted", "checkpoint is corrupted"
    )


@pytest.mark.parametrize(("pod_level", "starts"), [(True, True), (False, False)])
def test_cpus_of_whole_pods_are_known_with_the_feature_gate(pod_level: bool, starts: bool) -> None:
    data = json.dumps({"policyName": "static", "defaultCpuSet": "0-1", "podEntries": {"p": {"cpuSet": "2-3"}}})
    state = parse_state(v4(data=data, dataChecksum=seal_of(data)), 37, pod_level)
    refusal = refusal_of(state, "static", frozenset({0}), frozenset(range(4)), False)
    assert (refusal is None) == starts


NAMES = ("policyName", "defaultCpuSet", "entries", "checksum", "podEntries", "cpuSet", "data", "dataChecksum")


@given(
    damaged(state_text("static", "0,6-7", 5, entries=TWO_PODS)) | documents(*NAMES), st.integers(20, 38), st.booleans()
)
def test_any_text_is_a_state_or_refused(text: str, minor: int, pod_level: bool) -> None:
    with contextlib.suppress(StateFileError):
        parse_state(text, minor, pod_level)
