# SPDX-License-Identifier: GPL-3.0-or-later
"""Test kubepin with newer releases of ansible-core than the one that requirements.txt pins.

Each release gets a virtual environment of its own in the cache, with the community package `ansible` that belongs to it.
In it run the tests that start Ansible: the installed collection, the playbooks, the orchestrator, and the action plugins.
A release for which this machine has no Python is named and counts as a failure.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

PROJECT = Path(__file__).resolve().parents[1]
CACHE = Path(os.environ.get("KUBEPIN_CACHE") or Path.home() / ".cache/kubepin")
PINNED = ("ansible", "ansible-core")
TESTS = (
    "tests/collection",
    "tests/playbooks",
    "tests/orchestrator",
    "collections/ansible_collections/kubepin/tuning/tests/unit/plugins/action",
)


@dataclass(frozen=True)
class Release:
    """A minor release of ansible-core, the major release of `ansible` that is made for it, and the Pythons that run it.

    https://docs.ansible.com/ansible/latest/reference_appendices/release_and_maintenance.html
    """

    core: str
    bundle: int
    pythons: tuple[str, ...]

    @property
    def requirements(self) -> tuple[str, str]:
        """What pip installs, the newest patch release of each."""
        return f"ansible-core~={self.core}.0", f"ansible~={self.bundle}.0"


RELEASES = (
    Release("2.20", 13, ("3.12", "3.13", "3.14")),
    Release("2.21", 14, ("3.12", "3.13", "3.14")),
)


def other_requirements(text: str) -> str:
    """Of a requirements file everything but Ansible itself and references to other files."""
    lines = [line for line in text.splitlines() if line.partition("==")[0] not in PINNED and not line.startswith("-r ")]
    return "".join(f"{line}\n" for line in lines)


def find_python(release: Release) -> str | None:
    """The path of the first Python on the PATH that starts and runs this release."""
    found = (shutil.which(f"python{name}") for name in release.pythons)
    return next((path for path in found if path and _starts(path)), None)


def _starts(python: str) -> bool:
    """A version manager puts programs on the PATH for versions that are not selected: those end with an error."""
    return subprocess.run([python, "--version"], capture_output=True, check=False).returncode == 0


def make_environment(release: Release, python: str) -> Path:
    """The folder of programs of a virtual environment with this release and all else that tests need."""
    folder = CACHE / "core-matrix" / release.core
    folder.mkdir(parents=True, exist_ok=True)
    requirements = folder / "requirements.txt"
    files = ("requirements.txt", "requirements-dev.txt")
    requirements.write_text("".join(other_requirements((PROJECT / name).read_text()) for name in files))
    uv = [str(Path(sys.executable).with_name("uv"))]
    environment = {**os.environ, "UV_CACHE_DIR": str(CACHE / "uv")}
    venv = folder / "venv"
    subprocess.run([*uv, "venv", "--quiet", "--clear", "--python", python, str(venv)], env=environment, check=True)
    install = [*uv, "pip", "install", "--quiet", "--python", str(venv / "bin/python"), "-r", str(requirements)]
    subprocess.run([*install, *release.requirements], env=environment, check=True)
    return venv / "bin"


def run(release: Release, python: str) -> int:
    """The exit code of the tests under this release."""
    programs = make_environment(release, python)
    environment = {**os.environ, "PATH": f"{programs}:{os.environ['PATH']}"}
    environment.pop("VIRTUAL_ENV", None)
    version = subprocess.run(
        [str(programs / "ansible"), "--version"], env=environment, capture_output=True, text=True, check=True
    )
    print(f"core-matrix: {version.stdout.splitlines()[0]} with {python}", flush=True)
    tests = [str(programs / "python"), "-m", "pytest", "-q", "--numprocesses=2", "--dist=worksteal", *TESTS]
    return subprocess.run(tests, cwd=PROJECT, env=environment, check=False).returncode


def main() -> int:
    """Test each release; 1 if any failed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    known = {release.core: release for release in RELEASES}
    parser.add_argument("--core", choices=known, action="append", help="only this release; repeatable")
    failed = []
    for core in parser.parse_args().core or known:
        python = find_python(known[core])
        if python is None:
            print(
                f"core-matrix: ansible-core {core} needs Python {' or '.join(known[core].pythons)}: none is on the PATH"
            )
            failed.append(core)
        elif run(known[core], python):
            failed.append(core)
    print(f"core-matrix: failed: {', '.join(failed)}" if failed else "core-matrix: all passed")
    return int(bool(failed))


if __name__ == "__main__":
    sys.exit(main())
