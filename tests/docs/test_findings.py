# SPDX-License-Identifier: GPL-3.0-or-later
"""docs/evidence/findings.md names tests that exist."""

from __future__ import annotations

import re
from pathlib import Path

PROJECT = Path(__file__).resolve().parents[2]
FINDINGS = PROJECT / "docs/evidence/findings.md"
TESTS = (PROJECT / "tests", PROJECT / "collections/ansible_collections/kubepin/tuning/tests")


def test_every_test_that_the_findings_name_exists_once() -> None:
    named = set(re.findall(r"`([\w/]+\.py)::(\w+)`", FINDINGS.read_text()))
    assert len(named) > 50
    files = {path.as_posix(): path for folder in TESTS for path in folder.rglob("test_*.py")}
    for end, test in sorted(named):
        found = [path for name, path in files.items() if name.endswith(f"/{end}")]
        assert len([path for path in found if f"def {test}(" in path.read_text()]) == 1, (end, test, found)


def test_every_finding_has_a_test_or_says_why_not() -> None:
    rows = [line.split(" | ") for line in FINDINGS.read_text().splitlines() if line.startswith("| ")]
    found = [row for row in rows if row[0] not in ("| no.", "| ---")]
    assert len(found) > 70
    assert [row for row in found if "::" not in row[-1] and not re.search(r"\*\*open\*\*|^unchanged", row[-2])] == []
