# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import pytest
from ansible_collections.kubepin.tuning.plugins.module_utils.common.kubelet.checkpoint import (
    StateFileError,
    fnv32a,
    go_map,
    is_sealed,
    is_sealed_well,
    json_object,
    mapping_of,
    number_of,
    seal_of,
    text_of,
)


@pytest.mark.parametrize("text", ["", "{", "[]", "null", "[" * 100_000])
def test_what_is_no_json_object_is_refused_with_the_way_out(text: str) -> None:
    with pytest.raises(StateFileError, match=r"cpu_manager_state .*Drain the node and remove the file"):
        json_object(text, "cpu_manager_state")


def test_a_value_of_another_type_is_named_and_a_missing_one_is_empty() -> None:
    data = {"policyName": 1, "entries": [], "checksum": "1"}
    with pytest.raises(StateFileError, match="'policyName' is 1; expected text"):
        text_of(data, "policyName")
    with pytest.raises(StateFileError, match=r"'entries' is \[\]; expected a mapping"):
        mapping_of(data, "entries")
    with pytest.raises(StateFileError, match="'checksum' is '1'; expected a whole number"):
        number_of(data, "checksum")
    assert (text_of({}, "a"), mapping_of({"a": None}, "a"), number_of({}, "a")) == ("", {}, 0)


def test_maps_are_written_as_go_writes_them_with_numbers_by_value() -> None:
    assert go_map({10: "b", 9: "a"}) == "map[9:a 10:b]"


def test_the_hash_is_fnv_1a() -> None:
    """Test vectors of Landon Curt Noll's FNV page."""
    assert [fnv32a(text) for text in ("", "a", "foobar")] == [0x811C9DC5, 0xE40C292C, 0xBF9CF968]


def test_a_seal_counts_for_its_text_only() -> None:
    data = {"data": "{}", "dataChecksum": seal_of("{}")}
    assert (is_sealed(data), is_sealed_well(data)) == (True, True)
    assert not is_sealed_well({**data, "data": "{} "})
    assert not is_sealed({"policyName": "static"})
