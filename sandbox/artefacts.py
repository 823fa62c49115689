# SPDX-License-Identifier: GPL-3.0-or-later
"""Everything a sandbox is made of, built step by step and kept in the cache."""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass, field
from pathlib import Path

from sandbox import node_image, openapi
from sandbox.gobuild import (
    COREDNS,
    ETCD,
    KUBERNETES_COMMANDS,
    OWN_SOURCES,
    Go,
    KubernetesBuild,
    build_own_programs,
    build_program,
    discard,
    discard_others,
    own_programs_folder,
    replacing,
)
from sandbox.hashing import hash_of, hash_of_folder
from sandbox.images import Layer, write_image
from sandbox.progress import Step
from sandbox.settings import GPU_IMAGE, TEST_IMAGE, Paths, SandboxError, Version
from sandbox.shell import Shell

# containerd's own pause image, by a name that no Kubernetes release changes.
PAUSE_IMAGE = "kubepin.local/pause:1"
# kubeadm's default moved from the first to the second in the middle of 1.22 ... 1.25.
REGISTRIES = ("k8s.gcr.io", "registry.k8s.io")
# What a node installs, each with its checksum beside it, as dl.k8s.io has them.
NODE_PROGRAMS = ("kubeadm", "kubelet", "kubectl")
CONTROL_PLANE_IMAGES = ("kube-apiserver", "kube-controller-manager", "kube-scheduler", "etcd")

# etcd below 3.5 is no module that builds by itself; a release that asks for it gets this one under the name it expects.
ETCD_OLDEST = (3, 5, 0)
ETCD_INSTEAD = "3.5.6"


@dataclass(frozen=True)
class ImageName:
    """A name as `kubeadm config images list` prints it."""

    path: str
    tag: str

    @classmethod
    def parse(cls, text: str) -> ImageName:
        """Split REGISTRY/PATH:TAG."""
        match = re.fullmatch(r"[^/]+/(.+):([^:/]+)", text)
        if not match:
            raise SandboxError(f'kubeadm lists an image "{text}": expected REGISTRY/PATH:TAG')
        return cls(match[1], match[2])

    @property
    def program(self) -> str:
        """What runs in it: kube-apiserver, etcd, coredns ..."""
        return self.path.rsplit("/", 1)[-1]

    @property
    def names(self) -> list[str]:
        """The image's name in all registries that kubeadm may ask for."""
        return [f"{registry}/{self.path}:{self.tag}" for registry in REGISTRIES]


def etcd_version(tag: str) -> str:
    """The etcd to build for an image tag such as 3.5.6-0."""
    match = re.match(r"(\d+)\.(\d+)\.(\d+)", tag)
    if not match:
        raise SandboxError(f'kubeadm asks for etcd "{tag}": expected MAJOR.MINOR.PATCH-REVISION')
    wanted = tuple(int(number) for number in match.groups())
    return match[0] if wanted >= ETCD_OLDEST else ETCD_INSTEAD


@dataclass
class Artefacts:
    """The artefacts for one Kubernetes release."""

    paths: Paths
    shell: Shell
    version: Version
    go: Go = field(init=False)
    kubernetes: KubernetesBuild = field(init=False)

    def __post_init__(self) -> None:
        self.go = Go(self.paths, self.shell)
        self.kubernetes = KubernetesBuild(self.go, self.version)

    @property
    def images(self) -> Path:
        """The release's image archives: control-plane/ for that node only, every-node/ for all."""
        sources = Path(__file__)
        key = hash_of(
            hash_of_folder(OWN_SOURCES),
            node_image.node_root(self.paths).folder.name,
            sources.read_bytes(),
            sources.with_name("images.py").read_bytes(),
        )
        return self.kubernetes.folder / f"images-{key}"

    @property
    def own_programs(self) -> Path:
        """The binaries of the sandbox's own programs."""
        return own_programs_folder(self.paths) / "bin"

    def wanted_images(self) -> dict[str, ImageName]:
        """What this release's kubeadm will ask for, by program."""
        kubeadm = str(self.kubernetes.binary("kubeadm"))
        listing = self.shell.run([kubeadm, "config", "images", "list", "--kubernetes-version", f"v{self.version}"])
        return {image.program: image for image in map(ImageName.parse, listing.split())}

    def _program(self, name: str, version: str) -> Path:
        return self.paths.builds / f"{name}-{version}" / "bin" / name

    def etcd(self) -> Path:
        """The etcd binary's place."""
        return self._program("etcd", etcd_version(self.wanted_images()["etcd"].tag))

    def coredns(self) -> Path:
        """The CoreDNS binary's place."""
        return self._program("coredns", self.wanted_images()["coredns"].tag.removeprefix("v"))

    def _build_command(self, command: str) -> None:
        if command == "kube-apiserver" and self.version.minor < openapi.FIRST_MINOR_WITH_DEFINITIONS:
            openapi.build_api_server(self.kubernetes)
        else:
            self.kubernetes.build(command)

    def _build_program(self, module: str, binary: Path) -> str:
        if binary.exists():
            return "cached"
        version = binary.parent.parent.name.removeprefix(f"{binary.name}-")
        build_program(self.go, module, f"v{version}", binary)
        return version

    def _checksum(self, command: str) -> Path:
        return self.kubernetes.binary(f"{command}.sha256")

    def _write_checksums(self) -> None:
        for command in NODE_PROGRAMS:
            with self.kubernetes.binary(command).open("rb") as content:
                digest = hashlib.file_digest(content, "sha256").hexdigest()
            self._checksum(command).write_text(f"{digest}\n")

    def _write_images(self) -> None:
        images = self.wanted_images()
        root = node_image.node_root(self.paths)
        with replacing(self.images) as folder:
            every, control_plane = folder / "every-node", folder / "control-plane"
            every.mkdir()
            control_plane.mkdir()

            def write(name: str, names: list[str], binary: Path, path: str, base: Path | None = None) -> None:
                layer = Layer()
                layer.file(path, binary)
                where = control_plane if name in CONTROL_PLANE_IMAGES else every
                write_image(where / f"{name}.tar", names, layer, base=base, entrypoint=[path])

            for name in ("kube-apiserver", "kube-controller-manager", "kube-scheduler"):
                write(name, images[name].names, self.kubernetes.binary(name), f"/usr/local/bin/{name}")
            proxy = self.kubernetes.binary("kube-proxy")
            write("kube-proxy", images["kube-proxy"].names, proxy, "/usr/local/bin/kube-proxy", root.kube_proxy_base)
            write("etcd", images["etcd"].names, self.etcd(), "/usr/local/bin/etcd")
            write("coredns", images["coredns"].names, self.coredns(), "/coredns")
            write("pause", [PAUSE_IMAGE, *images["pause"].names], self.own_programs / "pause", "/pause")
            write("gpu-stand-in", [GPU_IMAGE], self.own_programs / "gpu-stand-in", "/gpu-stand-in")
            write_image(every / "busybox.tar", [TEST_IMAGE], Layer(), base=root.busybox, command=["/bin/sh"])
        discard_others(self.images, "images-*")

    def discard_unfinished(self) -> None:
        """Remove what killed builds left behind. Only for the holder of the build lock."""
        for folder in (self.paths.builds, self.paths.node_root, self.kubernetes.folder, self.kubernetes.module):
            discard(folder.glob(".*"))
        discard(self.paths.node_root.glob("*.tar"))
        discard(self.paths.go.glob("build-*"))

    def missing(self) -> list[Step]:
        """The steps that make what the cache lacks, in order."""
        steps = []
        root = node_image.node_root(self.paths)
        if not root.folder.exists():
            steps.append(Step("node: installing Debian", lambda: node_image.build_node_root(self.paths, self.shell)))
        if not node_image.have_image(self.paths, self.shell):
            steps.append(Step("node: importing the image", lambda: node_image.import_image(self.paths, self.shell)))
        if not self.own_programs.exists():
            steps.append(Step("crictl, pause and GPU stand-in: building", lambda: build_own_programs(self.go)))
        lacking = [command for command in KUBERNETES_COMMANDS if not self.kubernetes.binary(command).exists()]
        if lacking:
            steps.append(Step(f"Kubernetes {self.version}: fetching sources", self.kubernetes.prepare))
        for command in lacking:
            title = f"{command} {self.version}: building"
            steps.append(Step(title, lambda command=command: self._build_command(command)))  # type: ignore[misc]
        if not all(self._checksum(command).exists() for command in NODE_PROGRAMS):
            steps.append(Step(f"checksums for {self.version}: writing", self._write_checksums))
        if not self.images.exists():
            steps.append(Step("etcd: building", lambda: self._build_program(ETCD, self.etcd())))
            steps.append(Step("CoreDNS: building", lambda: self._build_program(COREDNS, self.coredns())))
            steps.append(Step(f"images for {self.version}: writing", self._write_images))
        return steps
