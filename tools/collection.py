# SPDX-License-Identifier: GPL-3.0-or-later
"""Build kubepin.tuning as one archive in FOLDER (default: dist).

The collection's folder links to the roles, the playbooks and the benchmark at the top level of the repository. ansible-galaxy
leaves out links that lead out of the folder that it builds: so it builds a copy with files in their place.
"""

from __future__ import annotations

import argparse
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


def requirements(text: str) -> str:
    """Of the project's Python requirements those that the collection needs besides Ansible."""
    lines = [line for line in text.splitlines() if "==" in line and line.split("==")[0] not in NOT_OF_THE_COLLECTION]
    return "".join(f"{line}\n" for line in lines)


def assemble(tree: Path) -> None:
    """Copy the collection with all that it links to into the empty folder `tree`, and add what only readers and pip look for."""
    shutil.copytree(SOURCE, tree, ignore=NOT_SHIPPED, dirs_exist_ok=True)
    shutil.copytree(PROJECT / "docs", tree / "docs", ignore=NOT_SHIPPED)
    shutil.copy(PROJECT / "LICENSE", tree)
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
