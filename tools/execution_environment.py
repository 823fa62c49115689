# SPDX-License-Identifier: GPL-3.0-or-later
"""Build execution-environment.yml where no container registry and no Galaxy server can be reached.

The base image is made from Debian's packages, and kubernetes.core comes with the `ansible` package of requirements.txt.
Everything else is as in the definition: ansible-builder's own steps, the collection's archive, its Python and system
dependencies. The image is tagged kubepin:VERSION.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import yaml

from sandbox.node_image import install_debian, trim, write_root
from sandbox.shell import Log, Shell

PROJECT = Path(__file__).resolve().parents[1]
DEFINITION = PROJECT / "execution-environment.yml"
BASE_IMAGE = "kubepin/debian:bookworm"
PYTHON = "python3.11"
BASE_PACKAGES = ("ca-certificates", "python3", "python3-pip", "python3-venv")
TRIMMED = ("usr/share/doc/*", "usr/share/info/*", "usr/share/locale/*", "usr/share/man/*")
CERTIFICATES = Path("/etc/ssl/certs/ca-certificates.crt")


def pinned(text: str, package: str) -> str:
    """The line of a requirements file that pins this package."""
    return next(line for line in text.splitlines() if line.startswith(f"{package}=="))


def offline(definition: dict[str, Any], requirements: str) -> dict[str, Any]:
    """The same definition on Debian, with kubernetes.core from the `ansible` package instead of Galaxy.

    :param definition: execution-environment.yml, of which nothing is changed in place
    :param requirements: the text of requirements.txt
    """
    dependencies = definition["dependencies"]
    archives = [entry for entry in dependencies["galaxy"]["collections"] if entry.get("type") == "file"]
    return {
        **definition,
        "images": {"base_image": {"name": BASE_IMAGE}},
        "build_arg_defaults": {"ANSIBLE_GALAXY_CLI_COLLECTION_OPTS": "--no-deps"},
        "options": {"package_manager_path": "/usr/bin/apt-get", "skip_pip_install": True},
        "additional_build_steps": {"prepend_base": ["RUN apt-get update"]},
        # The derived definition stands in another folder.
        "additional_build_files": [
            {**file, "src": str(PROJECT / file["src"])} for file in definition["additional_build_files"]
        ],
        "dependencies": {
            **dependencies,
            "ansible_core": {
                "package_pip": f"{dependencies['ansible_core']['package_pip']} {pinned(requirements, 'ansible')}"
            },
            "python_interpreter": {"package_system": PYTHON, "python_path": f"/usr/bin/{PYTHON}"},
            "galaxy": {"collections": archives},
        },
    }


def tag(definition: dict[str, Any]) -> str:
    """The image's name, with the version of the collection's archive that the definition names."""
    archive = definition["additional_build_files"][0]["src"]
    return f"kubepin:{Path(archive).name.removeprefix('kubepin-tuning-').removesuffix('.tar.gz')}"


def make_base(shell: Shell) -> None:
    """Install Debian into a folder, and import it as an image."""
    with tempfile.TemporaryDirectory() as name:
        root, archive = Path(name, "root"), Path(name, "root.tar")
        install_debian(shell, BASE_PACKAGES, root)
        (root / CERTIFICATES.relative_to("/")).write_bytes(CERTIFICATES.read_bytes())
        trim(root, TRIMMED)
        write_root(shell, root, archive)
        shell.run(["docker", "import", str(archive), BASE_IMAGE])


def build(definition: dict[str, Any], folder: Path) -> None:
    """Let ansible-builder write the build's context into `folder`, and Docker build it.

    The base image has this machine's certificates, which a package index behind a proxy may need.
    """
    described = folder / DEFINITION.name
    described.write_text(yaml.safe_dump(definition, sort_keys=False))
    context = folder / "context"
    builder = [sys.executable, "-m", "ansible_builder", "create", "--file", str(described), "--context", str(context)]
    subprocess.run([*builder, "--output-filename", "Dockerfile"], cwd=PROJECT, check=True)
    subprocess.run(["docker", "build", "--network=host", "--tag", tag(definition), str(context)], check=True)


def main() -> int:
    """Build the image, and print its name."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--log", type=Path, default=Path(os.devnull), help="file for the commands that make the base image"
    )
    options = parser.parse_args()
    definition = yaml.safe_load(DEFINITION.read_text())
    requirements = (PROJECT / "requirements.txt").read_text()
    subprocess.run([sys.executable, "-m", "tools.collection"], cwd=PROJECT, check=True)
    make_base(Shell(Log(options.log)))
    with tempfile.TemporaryDirectory() as folder:
        build(offline(definition, requirements), Path(folder))
    print(tag(definition))
    return 0


if __name__ == "__main__":
    sys.exit(main())
