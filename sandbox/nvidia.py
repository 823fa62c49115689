# SPDX-License-Identifier: GPL-3.0-or-later
"""NVIDIA's device plugin and container runtime, compiled from their modules.

The legacy hook of the runtime is left out: it calls libnvidia-container, a C library that no module proxy serves.
"""

from __future__ import annotations

import platform
import shutil
import tarfile
import tempfile
from pathlib import Path

from sandbox import node_image
from sandbox.gobuild import Go, build_programs, discard_others, replacing
from sandbox.hashing import hash_of
from sandbox.host import install_packages
from sandbox.images import Layer, write_image
from sandbox.plan import Step
from sandbox.settings import Paths, SandboxError
from sandbox.shell import Shell

DEVICE_PLUGIN, DEVICE_PLUGIN_VERSION = "github.com/NVIDIA/k8s-device-plugin", "0.17.4"
TOOLKIT, TOOLKIT_VERSION = "github.com/NVIDIA/nvidia-container-toolkit", "1.19.1"
PLUGIN_PROGRAM = "nvidia-device-plugin"
TOOLKIT_PROGRAMS = ("nvidia-container-runtime", "nvidia-ctk")
PLUGIN_IMAGE = f"kubepin.local/nvidia-device-plugin:{DEVICE_PLUGIN_VERSION}"
# They load NVML when it is needed, and so must not resolve its symbols at their start: both projects' Makefiles.
LAZY = "-extldflags=-Wl,-z,lazy"
PACKAGES = ["gcc", "libc6-dev"]
# What the device plugin and the driver's libraries are linked with.
LIBRARIES = ("libc.so.6", "libdl.so.2", "libm.so.6", "libpthread.so.0", "librt.so.1")
LOADER = "ld-linux-x86-64.so.2"


def folder(paths: Paths) -> Path:
    """Where both lie once built."""
    return paths.builds / f"nvidia-{hash_of(Path(__file__).read_bytes())}"


def programs(paths: Paths) -> list[Path]:
    """The programs of the container toolkit."""
    return [folder(paths) / "bin" / name for name in TOOLKIT_PROGRAMS]


def plugin_archive(paths: Paths) -> Path:
    """The image of the device plugin."""
    return folder(paths) / "device-plugin.tar"


def build(go: Go) -> str:
    """Compile both and write the plugin's image; return their versions."""
    if not shutil.which("gcc"):
        install_packages(go.shell, PACKAGES)
    with replacing(folder(go.paths)) as result, tempfile.TemporaryDirectory(prefix="nvidia-") as scratch:
        modules = (
            (DEVICE_PLUGIN, f"v{DEVICE_PLUGIN_VERSION}", (PLUGIN_PROGRAM,), Path(scratch) / "bin"),
            (TOOLKIT, f"v{TOOLKIT_VERSION}", TOOLKIT_PROGRAMS, result / "bin"),
        )
        for module, version, names, output in modules:
            stamp = f"-X {module}/internal/info.version={version.removeprefix('v')} {LAZY}"
            packages = [f"{module}/cmd/{name}" for name in names]
            build_programs(go, module, version, packages, output, stamp, c=True)
        write_plugin_image(go.paths, Path(scratch), result / plugin_archive(go.paths).name)
    discard_others(folder(go.paths), "nvidia-*")
    return f"device plugin {DEVICE_PLUGIN_VERSION}, container toolkit {TOOLKIT_VERSION}"


def write_plugin_image(paths: Paths, scratch: Path, output: Path) -> None:
    """Write an image with the device plugin from the folder `scratch` and the nodes' own C library."""
    layer = Layer()
    layer.file(f"/usr/bin/{PLUGIN_PROGRAM}", scratch / "bin" / PLUGIN_PROGRAM)
    libraries = f"usr/lib/{platform.machine()}-linux-gnu"
    with tarfile.open(node_image.node_root(paths).tar) as root:
        for name in (LOADER, *LIBRARIES):
            root.extract(f"./{libraries}/{name}", scratch, filter="tar")
            layer.file(f"/{libraries}/{name}", scratch / libraries / name)
    layer.link("/lib", "usr/lib")
    layer.link("/lib64", libraries)
    layer.folder("/etc")
    layer.folder("/tmp", 0o1777)
    write_image(output, [PLUGIN_IMAGE], layer, entrypoint=[f"/usr/bin/{PLUGIN_PROGRAM}"])


def missing(paths: Paths, shell: Shell) -> list[Step]:
    """The step that builds both, unless the cache has them."""
    if folder(paths).exists():
        return []
    title = "NVIDIA: building device plugin and container runtime"
    return [Step("nvidia", title, lambda: build(Go(paths, shell)), ("node-root",), seconds=60)]


def require(paths: Paths) -> None:
    """Raises SandboxError if the cache lacks them."""
    if not folder(paths).exists():
        raise SandboxError(
            f"the cache lacks {folder(paths)}, NVIDIA's device plugin and container runtime. "
            "Run `python3 -m sandbox pack` where Go's module proxy can be reached, and `unpack` its bundles here."
        )
