# SPDX-License-Identifier: GPL-3.0-or-later
"""Build kubepin.tuning as one archive, with roles, playbooks and the benchmark, in FOLDER (default: dist).

A playbook of a collection is called by its name, which takes no hyphen: tune-gpu-nodes.yml is kubepin.tuning.tune_gpu_nodes there.
"""

from __future__ import annotations

import argparse
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

PROJECT = Path(__file__).resolve().parents[1]
SOURCE = PROJECT / "collections/ansible_collections/kubepin/tuning"
# What runs kubepin but is no matter of a collection: whoever installs one has Ansible, and chooses its version.
NOT_OF_THE_COLLECTION = ("ansible", "ansible-core", "ansible-runner", "rich", "shtab")
NOT_SHIPPED = shutil.ignore_patterns("__pycache__", "*.pyc", "tests", "evidence")


def playbook_name(name: str) -> str:
    """The name of a playbook's file in the collection."""
    return name.replace("-", "_")


def playbook_text(text: str) -> str:
    """A playbook's text in the collection: the playbooks that it imports have other names there."""
    return re.sub(r"(?<=import_playbook: )\S+", lambda match: playbook_name(match[0]), text)


def requirements(text: str) -> str:
    """Of the project's Python requirements those that the collection needs besides Ansible."""
    lines = [line for line in text.splitlines() if "==" in line and line.split("==")[0] not in NOT_OF_THE_COLLECTION]
    return "".join(f"{line}\n" for line in lines)


def assemble(tree: Path) -> None:
    """Put together in the empty folder `tree` what the repository keeps at its top level for those who work in it."""
    shutil.copytree(SOURCE, tree, ignore=NOT_SHIPPED, dirs_exist_ok=True)
    for folder in ("roles", "benchmark", "docs"):
        shutil.copytree(PROJECT / folder, tree / folder, ignore=NOT_SHIPPED)
    shutil.copy(PROJECT / "LICENSE", tree)
    (tree / "playbooks").mkdir()
    for playbook in sorted((PROJECT / "playbooks").glob("*.yml")):
        (tree / "playbooks" / playbook_name(playbook.name)).write_text(playbook_text(playbook.read_text()))
    (tree / "requirements.txt").write_text(requirements((PROJECT / "requirements.txt").read_text()))


def main() -> int:
    """Build, and print the archive's path as ansible-galaxy does."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", nargs="?", type=Path, default=PROJECT / "dist")
    folder = parser.parse_args().folder.absolute()
    with tempfile.TemporaryDirectory() as tree:
        assemble(Path(tree))
        command = ["ansible-galaxy", "collection", "build", "--force", "--output-path", str(folder)]
        return subprocess.run(command, cwd=tree, check=False).returncode


if __name__ == "__main__":
    sys.exit(main())
