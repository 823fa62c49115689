# SPDX-License-Identifier: GPL-3.0-or-later
"""The sandbox is a cluster and knows nothing of the product."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

SOURCES = sorted((Path(__file__).parents[2] / "sandbox").glob("*.py"))
PRODUCT = re.compile(
    r"^\s*(?:from|import) (?:ansible|ansible_collections|orchestrator|tests|tools)\b|ansible-playbook|kubepin\.tuning",
    re.MULTILINE,
)


@pytest.mark.parametrize("source", SOURCES, ids=lambda path: path.name)
def test_no_source_names_the_product(source: Path) -> None:
    assert PRODUCT.findall(source.read_text()) == []
