# SPDX-License-Identifier: GPL-3.0-or-later
"""The container runtime of virtual machines: current releases of containerd and runc, compiled from their modules."""

from __future__ import annotations

import shutil
from pathlib import Path

from sandbox.gobuild import Go, build_programs, discard_others, replacing
from sandbox.hashing import hash_of
from sandbox.plan import Step
from sandbox.runc import build_runc
from sandbox.settings import Paths
from sandbox.shell import Shell

CONTAINERD = "github.com/containerd/containerd/v2"
CONTAINERD_VERSION = "2.4.2"
RUNC_VERSION = "1.5.3"
CONTAINERD_PROGRAMS = ("containerd", "containerd-shim-runc-v2", "ctr")
# As containerd's own documentation installs its releases: docs/getting-started.md.
CONTAINERD_FOLDER, RUNC_FOLDER, UNIT_FOLDER = "usr/local/bin", "usr/local/sbin", "usr/local/lib/systemd/system"
UNIT = "containerd.service"


def runtime_folder(paths: Paths) -> Path:
    """Where the runtime lies once built."""
    key = hash_of(Path(__file__).read_bytes())
    return paths.builds / f"machine-runtime-{key}"


def build(go: Go) -> str:
    """Compile the runtime; return its versions."""
    target = runtime_folder(go.paths)
    with replacing(target) as folder:
        stamp = f"-X {CONTAINERD}/version.Version={CONTAINERD_VERSION}"
        packages = [f"{CONTAINERD}/cmd/{program}" for program in CONTAINERD_PROGRAMS]
        build_programs(go, CONTAINERD, f"v{CONTAINERD_VERSION}", packages, folder / "bin", stamp)
        build_runc(go, RUNC_VERSION, folder / "bin" / "runc")
        shutil.copyfile(go.source(CONTAINERD, f"v{CONTAINERD_VERSION}") / UNIT, folder / UNIT)
    discard_others(target, "machine-runtime-*")
    return f"containerd {CONTAINERD_VERSION}, runc {RUNC_VERSION}"


def missing(paths: Paths, shell: Shell) -> list[Step]:
    """The step that builds the runtime, unless the cache has it."""
    if runtime_folder(paths).exists():
        return []
    title = "machine: building containerd and runc"
    return [Step("machine-runtime", title, lambda: build(Go(paths, shell)), seconds=300)]


def install(paths: Paths, root: Path) -> None:
    """Put the runtime into a root file system, to be started at boot."""
    built = runtime_folder(paths)
    places = {
        **{program: f"{CONTAINERD_FOLDER}/{program}" for program in CONTAINERD_PROGRAMS},
        "runc": f"{RUNC_FOLDER}/runc",
    }
    for program, place in places.items():
        (root / place).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(built / "bin" / program, root / place)
    unit, wanted = root / UNIT_FOLDER / UNIT, root / "etc/systemd/system/multi-user.target.wants" / UNIT
    for path in (unit, wanted):
        path.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(built / UNIT, unit)
    wanted.symlink_to(f"/{UNIT_FOLDER}/{UNIT}")
