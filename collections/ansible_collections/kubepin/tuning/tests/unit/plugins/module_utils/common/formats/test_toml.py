# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import contextlib

import pytest
from ansible_collections.kubepin.tuning.plugins.module_utils.common.formats.toml import TomlError, parse_toml
from hypothesis import given, settings
from hypothesis import strategies as st

TEXT = """\
# a comment
version = 2  # another
imports = ['/etc/a.toml', "b \\"c\\"",
  # in between
]
big = 1_000
ratio = 0.02
a.b = { x = 1, y = "}" }
[plugins.'io.x'.inner]
on = true
[[hooks]]
name = "first"
[[hooks]]
name = "second"
[hooks.more]
off = false
"""


def test_what_runtimes_write():
    assert parse_toml(TEXT) == {
        "version": 2,
        "imports": ["/etc/a.toml", 'b "c"'],
        "big": 1000,
        "ratio": 0.02,
        "a": {"b": {"x": 1, "y": "}"}},
        "plugins": {"io.x": {"inner": {"on": True}}},
        "hooks": [{"name": "first"}, {"name": "second", "more": {"off": False}}],
    }
    assert parse_toml("") == {}


def test_the_same_as_the_standard_library():
    tomllib = pytest.importorskip("tomllib")
    assert parse_toml(TEXT) == tomllib.loads(TEXT)


@pytest.mark.parametrize(
    "text",
    [
        'a = """x"""',
        "a = 1979-05-27",
        "a = 1\na = 2",
        "a = 1 b = 2",
        "a",
        "a = [1",
        "a = {x = 1",
        "a = [1 2]",
        'a = "\\q"',
        "a = 1\n[a.b]",
        "a = 1\n[[a]]",
        "= 1",
        "[a",
        "a = nan",
    ],
)
def test_what_is_not_understood_is_refused(text):
    with pytest.raises(TomlError, match=r"^line [12] is not understood: "):
        parse_toml(text)


@pytest.mark.parametrize("text", ["a = " + "[" * 100_000, "a = " + "{a = " * 100_000])
def test_nesting_beyond_all_measure_is_refused(text):
    with pytest.raises(TomlError, match=r"^line 1 is not understood: "):
        parse_toml(text)


def test_a_number_of_any_length_is_read():
    assert parse_toml("a = " + "9" * 5000) == {"a": float("inf")}


@given(st.text(alphabet=st.characters(max_codepoint=0x2030), max_size=80) | st.text(alphabet="[]{}=,. \n'\"a09_e-"))
@settings(database=None, deadline=None)
def test_any_text_is_read_or_refused(text):
    with contextlib.suppress(TomlError):
        parse_toml(text)
