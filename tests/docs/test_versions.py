# SPDX-License-Identifier: GPL-3.0-or-later
"""The collection's version is the same wherever it stands, and what is new says in which release it came."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import tomllib
import yaml

PROJECT = Path(__file__).parents[2]
COLLECTION = PROJECT / "collections/ansible_collections/kubepin/tuning"
VERSION: str = yaml.safe_load((COLLECTION / "galaxy.yml").read_text())["version"]
PLACES = {
    "execution-environment.yml": r"(?:kubepin:|kubepin-tuning-)(\d+\.\d+\.\d+)\b",
    "examples/audit.gitlab-ci.yml": r"image: kubepin:(\S+)",
    "examples/ansible-navigator.yml": r"image: kubepin:(\S+)",
}
"""File -> what stands before the version in it."""


@pytest.mark.parametrize("name", PLACES)
def test_every_place_has_the_version_of_the_collection(name: str) -> None:
    assert set(re.findall(PLACES[name], (PROJECT / name).read_text())) == {VERSION}


def test_the_project_has_the_version_of_the_collection() -> None:
    assert tomllib.loads((PROJECT / "pyproject.toml").read_text())["project"]["version"] == VERSION


def test_whatever_is_new_came_with_a_release_or_comes_with_this_one() -> None:
    released = set(yaml.safe_load((COLLECTION / "changelogs/changelog.yaml").read_text())["releases"])
    files = [
        *(COLLECTION / "plugins").rglob("*.py"),
        *(COLLECTION / "plugins").rglob("*.yml"),
        *PROJECT.glob("roles/*/meta/*.yml"),
    ]
    named = {
        (str(path.relative_to(PROJECT)), version)
        for path in files
        for version in re.findall(r"version_added: *[\"']?([\d.]+)", path.read_text())
    }
    assert {(path, version) for path, version in named if version not in released | {VERSION}} == set()
    assert len(named) > 50


def test_the_changelog_names_every_plugin_of_a_release() -> None:
    releases = yaml.safe_load((COLLECTION / "changelogs/changelog.yaml").read_text())["releases"]
    named = {
        (version, each["name"])
        for version, release in releases.items()
        for each in [*release.get("modules", []), *(p for kind in release.get("plugins", {}).values() for p in kind)]
    }
    documented = [
        *(COLLECTION / "plugins/modules").glob("*.py"),
        *(COLLECTION / "plugins/filter").glob("*.yml"),
        *(COLLECTION / "plugins/inventory").glob("*.py"),
    ]
    # of the module or plugin itself; those of options are indented further
    new = {
        (version, path.stem)
        for path in documented
        for version in re.findall(r"^(?:  )?version_added: *[\"']?([\d.]+)", path.read_text(), re.MULTILINE)
    }
    assert {(version, name) for version, name in new if version in releases} == named
    assert len(named) > 50
