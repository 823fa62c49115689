# SPDX-License-Identifier: GPL-3.0-or-later
"""ansible-test sanity for the collection: every test that has something to look at, with packages from PyPI alone.

Not run:
- compile and import on other Pythons than this one: they need their interpreters. `tools/lint` holds what runs on managed nodes
  to Python 3.8, and what runs in pods to 3.6.
- pslint and shellcheck: the collection has neither PowerShell nor shell scripts.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

PROJECT = Path(__file__).parents[1]
COLLECTION = "ansible_collections/kubepin/tuning"
PARTS = ("README.md", "galaxy.yml", "meta", "plugins", "tests")
NOT_RUN = ("pslint", "shellcheck")
CACHE = Path(os.environ.get("KUBEPIN_CACHE") or Path.home() / ".cache/kubepin") / "ansible-test"

GET_PIP = CACHE / ".ansible/test/cache/get_pip_24_2.py"
"""Where ansible-test of ansible-core 2.19 looks for the program that installs pip, which it would fetch from a site of its own."""

GET_PIP_TEXT = """\
import runpy
import subprocess
import sys

subprocess.run([sys.executable, "-m", "ensurepip"], check=True)   # in a process of its own, as it hides pip's settings
sys.argv[1:] = ["install", *(word for word in sys.argv[1:] if word not in ("--no-setuptools", "--no-wheel"))]
runpy.run_module("pip", run_name="__main__", alter_sys=True)
"""


def main() -> int:
    """Run the tests on a copy of the collection; the exit code of ansible-test."""
    GET_PIP.parent.mkdir(parents=True, exist_ok=True)
    GET_PIP.write_text(GET_PIP_TEXT)
    with tempfile.TemporaryDirectory() as scratch:
        copy = Path(scratch, COLLECTION)
        copy.mkdir(parents=True)
        for name in PARTS:
            source = PROJECT / "collections" / COLLECTION / name
            if source.is_dir():
                shutil.copytree(source, copy / name, ignore=shutil.ignore_patterns("__pycache__", "output"))
            else:
                shutil.copy(source, copy / name)
        skipped = (word for name in NOT_RUN for word in ("--skip-test", name))
        python = f"{sys.version_info.major}.{sys.version_info.minor}"
        command = ["ansible-test", "sanity", "--python", python, *skipped]
        environment = {**os.environ, "HOME": str(CACHE)}  # its virtual environments are kept below it
        return subprocess.run(command, cwd=copy, env=environment, check=False).returncode


if __name__ == "__main__":
    sys.exit(main())
