# SPDX-License-Identifier: GPL-3.0-or-later
"""The definition that is built where no registry can be reached: ansible-builder accepts it, and it names no server."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from tools.execution_environment import BASE_IMAGE, DEFINITION, PROJECT, offline, tag


@pytest.fixture
def published() -> dict[str, Any]:
    """The definition that users build."""
    definition: dict[str, Any] = yaml.safe_load(DEFINITION.read_text())
    return definition


def created(definition: dict[str, Any], folder: Path) -> Path:
    """The build's context, written by ansible-builder itself."""
    described = folder / "execution-environment.yml"
    described.write_text(yaml.safe_dump(definition))
    context = folder / "context"
    command = [sys.executable, "-m", "ansible_builder", "create", "--file", str(described), "--context", str(context)]
    subprocess.run([*command, "--output-filename", "Containerfile"], check=True, capture_output=True)
    return context


def test_ansible_builder_accepts_both_definitions(published: dict[str, Any], tmp_path: Path) -> None:
    for name, definition in {
        "published": published,
        "offline": offline(published, (PROJECT / "requirements.txt").read_text()),
    }.items():
        folder = tmp_path / name
        folder.mkdir()
        assert (created(definition, folder) / "Containerfile").exists()


def test_the_build_asks_neither_a_registry_nor_galaxy(published: dict[str, Any], tmp_path: Path) -> None:
    context = created(offline(published, (PROJECT / "requirements.txt").read_text()), tmp_path)
    steps = (context / "Containerfile").read_text()
    assert f'ARG EE_BASE_IMAGE="{BASE_IMAGE}"' in steps
    assert 'ARG PKGMGR="/usr/bin/apt-get"' in steps
    collections = yaml.safe_load((context / "_build/requirements.yml").read_text())["collections"]
    assert [entry["type"] for entry in collections] == ["file"]


def test_kubernetes_core_comes_with_the_pinned_bundle(published: dict[str, Any]) -> None:
    definition = offline(published, "ansible-core==2.19.14\nansible==12.3.0\n")
    assert definition["dependencies"]["ansible_core"] == {"package_pip": "ansible-core==2.19.14 ansible==12.3.0"}


def test_the_image_has_the_version_of_the_collection(published: dict[str, Any]) -> None:
    galaxy = yaml.safe_load((PROJECT / "collections/ansible_collections/kubepin/tuning/galaxy.yml").read_text())
    assert tag(published) == f"kubepin:{galaxy['version']}"
