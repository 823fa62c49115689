# SPDX-License-Identifier: GPL-3.0-or-later
"""What is written about the code says what the code says."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml
from ansible_collections.kubepin.tuning.plugins.module_utils.control.run.outcome import Outcome

from tools import docs

PROJECT = Path(__file__).parents[2]
ROLES = sorted(path for path in PROJECT.glob("roles/*") if path.is_dir())


def test_make_docs_would_change_nothing() -> None:
    written = docs.pages()
    stale = [
        str(path.relative_to(PROJECT))
        for path, text in written.items()
        if not path.exists() or path.read_text() != text
    ]
    stale += [str(path.relative_to(PROJECT)) for path in set(docs.REFERENCE.glob("*.md")) - set(written)]
    assert stale == [], "run `make docs`"


def test_every_outcome_is_documented() -> None:
    text = (PROJECT / "docs/facts.md").read_text().partition("## Problems")[0]
    assert set(re.findall(r"^\| `(\w+)` \|", text, re.MULTILINE)) == set(Outcome)


def test_every_code_that_is_written_out_is_on_the_page_of_codes() -> None:
    """Only those of `problems.py` get there by themselves."""
    of_any_module = {"module_failed", "system_error"}
    listed = {found.code for found in docs.codes()} | of_any_module
    texts = [path.read_text() for path in (docs.PLUGINS / "module_utils").rglob("*.py")]
    written = {code for text in texts for code in re.findall(r'\bProblem\(\s*"([a-z0-9_]+)"', text)}
    assert written >= {"gpu_access_risk", "pods_invalid"}
    assert written - listed == set()


def variables(role: Path) -> set[str]:
    """The variables of all entries, by the role's specification."""
    entries = yaml.safe_load((role / "meta/argument_specs.yml").read_text())["argument_specs"].values()
    return {name for entry in entries for name in entry.get("options") or {}}


def documented(role: Path) -> set[str]:
    """The variables in the README's tables; `a_b_policy`, `_scope` tells of a_b_scope, too."""
    found: set[str] = set()
    for line in (role / "README.md").read_text().splitlines():
        cells = line.split("|")
        if len(cells) < 4:
            continue
        whole = ""
        for name in re.findall(r"`([a-z_]+)`", cells[1]):
            if name.startswith("_"):
                stems = {whole.rsplit("_", count)[0] for count in range(1, whole.count("_") + 1)}
                found |= {stem + name for stem in stems} & variables(role)
            elif name.startswith(f"{role.name}_"):
                whole = name
                found.add(name)
    return found


@pytest.mark.parametrize("role", ROLES, ids=lambda role: role.name)
def test_a_role_s_readme_tells_of_its_variables_and_of_no_others(role: Path) -> None:
    assert documented(role) ^ variables(role) == set()


@pytest.mark.parametrize("role", ROLES, ids=lambda role: role.name)
def test_defaults_are_variables_that_the_role_checks(role: Path) -> None:
    defaults = (role / "defaults/main.yml").read_text()
    named = set(re.findall(r"^(?:# )?([a-z_]+):", defaults, re.MULTILINE))
    assert {name for name in named if name.startswith(f"{role.name}_")} - variables(role) == set()
