# SPDX-License-Identifier: GPL-3.0-or-later
"""The pages for people name what there is: variables, playbooks, commands, targets of make, and places in other pages."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest
import yaml
from ansible_collections.kubepin.tuning.plugins.module_utils.control.run.variables import SHARED

from orchestrator.__main__ import parser

PROJECT = Path(__file__).parents[2]
PAGES = sorted(
    path
    for pattern in ("*.md", "docs/*.md", "roles/*/README.md", "*/README.md", "collections/*/*/*/README.md")
    for path in PROJECT.glob(pattern)
)
FACTS = set(
    re.findall(r"\bkubepin_\w+", "\n".join(re.findall(r"^## .*", (PROJECT / "docs/facts.md").read_text(), re.M)))
)
VERBS = (
    "audit",
    "benchmark",
    "check",
    "compare",
    "diagnose",
    "emit",
    "enforce",
    "preview",
    "probe",
    "rollback",
    "tune",
)
"""How names of playbooks begin; `uninstall` and `upgrade` are the others."""
A_MACHINE = "epyc-7773x-2s-nps4"
PLUGINS = PROJECT / "collections/ansible_collections/kubepin/tuning/plugins"
NO_VARIABLES = {
    *(path.stem for folder in ("modules", "filter") for path in (PLUGINS / folder).iterdir()),
    *(path.stem for path in PROJECT.glob("playbooks/*.yml")),
    *re.findall(r'"(kubepin_\w+)"', (PLUGINS / "module_utils/control/check/metrics.py").read_text()),
}
"""Names that begin as variables do: modules, filters, playbooks, metrics."""
NO_PLAYBOOK = "rollback-order.yml"
"""The example of a changelog fragment."""


def of_roles() -> dict[str, set[str]]:
    """Role -> its variables."""
    return {
        path.parts[-3]: {
            name
            for entry in yaml.safe_load(path.read_text())["argument_specs"].values()
            for name in entry.get("options") or {}
        }
        for path in PROJECT.glob("roles/*/meta/argument_specs.yml")
    }


def code_in(text: str) -> list[str]:
    """What stands in backticks, and the lines of blocks."""
    blocks = re.findall(r"^```\w*\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
    rest = re.sub(r"^```\w*\n.*?^```", "", text, flags=re.MULTILINE | re.DOTALL)
    spans = [" ".join(span.split()) for span in re.findall(r"`([^`]+)`", rest)]
    return [*spans, *(line for block in blocks for line in block.splitlines())]


def anchors(page: Path) -> set[str]:
    """The anchors of a page's headings, as GitHub makes them."""
    found: set[str] = set()
    for heading in re.findall(r"^#+ (.*)$", page.read_text(), re.MULTILINE):
        words = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading)
        found.add(re.sub(r"[^\w\- ]", "", words.lower()).replace(" ", "-"))
    return found


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(PROJECT)))
def test_links_lead_somewhere(page: Path) -> None:
    dead = []
    for target in re.findall(r"\]\(([^)\s]+)\)", page.read_text()):
        if "://" in target or target.startswith("mailto:"):
            continue
        name, _hash, anchor = target.partition("#")
        path = page.parent / name if name else page
        if not path.exists() or (anchor and anchor not in anchors(path)):
            dead.append(target)
    assert dead == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(PROJECT)))
def test_variables_are_ones_that_kubepin_reads(page: Path) -> None:
    roles = of_roles()
    known = {*SHARED, *FACTS, *NO_VARIABLES, *(name for names in roles.values() for name in names)}
    named = {
        name
        for code in code_in(page.read_text())
        for name in re.findall(rf"(?<![\w./{{-])((?:kubepin|tune|{'|'.join(roles)})_\w+)(?![\w/.(-])", code)
    }
    assert sorted(named - known - {*roles}) == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(PROJECT)))
def test_playbooks_and_targets_of_make_exist(page: Path) -> None:
    targets = set(re.findall(r"^([a-z-]+):", (PROJECT / "Makefile").read_text(), re.MULTILINE))
    text = page.read_text()
    playbooks = set(re.findall(rf"(?<![\w/.-])((?:{'|'.join(VERBS)}|uninstall|upgrade)-[a-z-]+\.yml)", text)) - {
        NO_PLAYBOOK
    }
    made = {word for code in code_in(text) for word in re.findall(r"(?:^|[;&] *)(?:\$ )?make ([a-z-]+)", code)}
    assert sorted(name for name in playbooks if not (PROJECT / name).is_file()) == []
    assert sorted(made - targets) == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(PROJECT)))
def test_commands_of_kubepin_are_ones_that_it_takes(page: Path) -> None:
    for code in code_in(page.read_text()):
        command = re.match(
            r"(?:\$ )?(?:bin/)?kubepin ([a-z]+(?: [^#|>]*)?)$", re.split(r" +#|(?<=\w) +\.\.\.", code)[0]
        )
        if command:
            words = shlex.split(re.sub(r"[][]", "", command[1]).replace("TYPE", A_MACHINE))
            assert parser().parse_args(words).verb == words[0]
