# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import pytest
from ansible_collections.kubepin.tuning.plugins.module_utils.common.formats.toml import TomlError, parse_toml

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
