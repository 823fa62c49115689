# SPDX-License-Identifier: GPL-3.0-or-later
"""Inputs for tests of what holds for any input of a reader."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from hypothesis import strategies as st

_SCALARS = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20)
_NESTED = st.sampled_from(("[", '{"a":', "(", "- ")).map(lambda part: part * 50_000)

ANY_TEXT = st.text(max_size=300) | _NESTED


def damaged(*texts: str) -> st.SearchStrategy[str]:
    """One of the texts with up to three places cut or overwritten, or any other text."""
    edit = st.tuples(st.integers(0, 10_000), st.integers(0, 30), st.text(max_size=12))
    return st.builds(_edited, st.sampled_from(texts), st.lists(edit, max_size=3)) | ANY_TEXT


def _edited(text: str, edits: Sequence[tuple[int, int, str]]) -> str:
    for place, length, instead in edits:
        start = place % (len(text) + 1)
        text = text[:start] + instead + text[start + length :]
    return text


def objects(*names: str) -> st.SearchStrategy[dict[str, Any]]:
    """Objects of JSON in which these names stand anywhere, with values of any type."""
    keys = st.sampled_from(names) | st.text(max_size=5)
    inner = st.recursive(_SCALARS, lambda each: st.lists(each, max_size=3) | st.dictionaries(keys, each, max_size=4))
    return st.dictionaries(keys, inner, max_size=8)


def documents(*names: str) -> st.SearchStrategy[str]:
    """Such objects as texts."""
    return objects(*names).map(json.dumps)
