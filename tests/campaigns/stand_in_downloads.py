# SPDX-License-Identifier: GPL-3.0-or-later
"""Serve the programs built under BUILDS by the paths of the release hosts.

A stand-in for dl.k8s.io and github.com, to measure a sandbox that downloads without the internet:

    python -m tests.campaigns stand-in-downloads ~/.cache/kubepin/builds --port 8099
    KUBEPIN_CACHE=/var/tmp/empty KUBEPIN_DOWNLOADS=http://127.0.0.1:8099 python3 -m sandbox build --k8s 1.36.3

The checksums are those of the files served; there are no signatures, as only the projects can make them. It is as fast
as this machine's loopback, and does not resume.
"""

from __future__ import annotations

import argparse
import hashlib
import http.server
import re
import tarfile
import tempfile
from functools import partial
from pathlib import Path

from sandbox.gobuild import KUBERNETES_COMMANDS
from sandbox.releases import Program
from sandbox.settings import SandboxError, Version


def sha256(path: Path) -> str:
    """The checksum of a file."""
    with path.open("rb") as content:
        return hashlib.file_digest(content, "sha256").hexdigest()


def publish(root: Path, program: Program) -> str:
    """Lay a built program out as its project publishes it; return its path below the host."""
    built = program.output
    published = root / program.host / program.path
    published.parent.mkdir(parents=True, exist_ok=True)
    if program.member:
        with tarfile.open(published, "w:gz", compresslevel=1) as archive:
            archive.add(built, program.member)
    else:
        published.symlink_to(built)
    (root / program.host / program.checksums).write_text(f"{sha256(published)}  {published.name}\n")
    return f"{program.host}/{program.path}"


def programs(builds: Path) -> list[Program]:
    """The programs under a builds folder."""
    found = []
    for binary in sorted(builds.glob("*/bin/*")):
        name, _, version = binary.parent.parent.name.rpartition("-")
        if name == "kubernetes" and binary.name in KUBERNETES_COMMANDS:
            found.append(Program.of_kubernetes(Version.parse(version), binary.name, binary))
        elif name == binary.name and re.fullmatch(r"[0-9.]+", version):
            made = {"etcd": Program.of_etcd, "coredns": Program.of_coredns}.get(name)
            found += [made(version, binary)] if made else []
    return found


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options."""
    parser.add_argument("builds", type=Path, metavar="BUILDS", help="the folder builds/ of a sandbox's cache")
    parser.add_argument("--port", type=int, default=0, help="default: a free one")


def run(options: argparse.Namespace) -> int:
    """Lay out and serve until interrupted."""
    served = programs(options.builds.absolute())
    if not served:
        raise SandboxError(f"{options.builds} has no program: expected kubernetes-VERSION/bin/kubelet and the like")
    with tempfile.TemporaryDirectory(prefix="stand-in-downloads-") as folder:
        for program in served:
            print(publish(Path(folder), program))
        handler = partial(http.server.SimpleHTTPRequestHandler, directory=folder)
        with http.server.ThreadingHTTPServer(("127.0.0.1", options.port), handler) as server:
            print(f"serving: KUBEPIN_DOWNLOADS=http://127.0.0.1:{server.server_port}", flush=True)
            try:
                server.serve_forever()
            except KeyboardInterrupt:
                print("stopped")
    return 0
