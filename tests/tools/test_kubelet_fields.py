# SPDX-License-Identifier: GPL-3.0-or-later
"""The table of KubeletConfiguration's fields, made of Go sources."""

from __future__ import annotations

import pytest

from tools.kubelet_fields import TARGET, reachable, render, spans

OLD = """
type Mode string

type KubeletConfiguration struct {
	metav1.TypeMeta `json:",inline"`

	// mode has a comment with a `quote`
	// +optional
	Mode Mode `json:"mode,omitempty"`
	Period metav1.Duration `json:"period"`
	Limit *metav1.Duration `json:"limit,omitempty"`
	Gates map[string]bool `json:"gates"`
	Nested []Nested `json:"nested" protobuf:"bytes,1,opt,name=nested"`
}

type Nested struct {
	Common `json:",inline"`
	Hidden string `json:"-"`
}

type Common struct {
	Number *int32 `json:"number"`
}
"""
NEW = OLD.replace(",inline", "").replace("\tMode Mode", "\tMode *Mode").replace("map[string]bool", "map[string]string")


def test_types_as_the_table_calls_them() -> None:
    assert reachable([OLD]) == {
        "KubeletConfiguration": {
            "apiVersion": "string",
            "kind": "string",
            "mode": "string",
            "period": "duration",
            "limit": "*duration",
            "gates": "map[string]bool",
            "nested": "[]Nested",
        },
        "Nested": {"number": "int32"},
    }


def test_versions_of_fields_and_types() -> None:
    table = spans(
        {20: reachable([OLD]), 21: reachable([NEW]), 22: reachable([NEW.replace('json:"mode', 'json:"kind')])}
    )
    assert table["KubeletConfiguration"]["gates"] == [("map[string]bool", 20, 20), ("map[string]string", 21, 22)]
    assert table["KubeletConfiguration"]["mode"] == [("string", 20, 21)]
    assert table["Nested"]["number"] == [("int32", 20, 22)]


def test_a_type_that_is_not_known_is_named() -> None:
    with pytest.raises(ValueError, match=r"the Go type other\.Thing is not known"):
        reachable([OLD.replace("metav1.Duration", "other.Thing")])


def test_the_table_in_the_collection_has_the_form_that_is_written() -> None:
    written: dict[str, object] = {}
    exec(render({"A": {"b": [("string", 20, 21), ("bool", 22, 22)]}}, 22), written)
    kept: dict[str, object] = {}
    exec(TARGET.read_text(), kept)
    assert written["FIELDS"] == {"A": {"b": (("string", 20, 21), ("bool", 22, 22))}}
    assert set(written) == set(kept)
