# SPDX-License-Identifier: GPL-3.0-or-later
"""Everything a sandbox is made of, built step by step and kept in the cache."""

from __future__ import annotations

import hashlib
import re
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from sandbox import node_image, openapi
from sandbox.gobuild import (
    ETCD,
    KUBERNETES_COMMANDS,
    OWN_SOURCES,
    Go,
    KubernetesBuild,
    build_coredns,
    build_own_programs,
    build_program,
    discard,
    discard_others,
    own_programs_folder,
    replacing,
)
from sandbox.hashing import hash_of, hash_of_folder
from sandbox.images import Layer, write_image
from sandbox.plan import Step
from sandbox.releases import Program, Progress, Releases, downloads_from_environment
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


def _write_program(output: Path, names: list[str], binary: Path, path: str, base: Path | None = None) -> None:
    """Write the image archive of one program, which lies at `path` in it."""
    layer = Layer()
    layer.file(path, binary)
    write_image(output, names, layer, base=base, entrypoint=[path])


@dataclass
class Artefacts:
    """The artefacts for one Kubernetes release, CoreDNS among them unless `dns` is false."""

    paths: Paths
    shell: Shell
    version: Version
    dns: bool = True
    go: Go = field(init=False)
    kubernetes: KubernetesBuild = field(init=False)
    releases: Releases = field(init=False)

    def __post_init__(self) -> None:
        self.releases = Releases(self.shell, downloads_from_environment())
        self.go = Go(self.paths, self.shell)
        self.kubernetes = KubernetesBuild(self.go, self.version)

    @property
    def images(self) -> Path:
        """The release's image archives: control-plane/ for that node only, every-node/ for all, dns/ for all of a
        cluster with CoreDNS."""
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

    def _get(self, binary: Path, released: Callable[[str, Path], Program], build: Callable[[str, Path], None]) -> str:
        """Download a program, or build it; both get its version and place. Return the version and where it comes from."""
        version = binary.parents[1].name.removeprefix(f"{binary.name}-")
        if binary.exists():
            return version
        note = self.releases.get([released(version, binary)])
        if not binary.exists():
            build(version, binary)
        return f"{version}: {note}"

    def _get_etcd(self) -> str:
        def build(version: str, binary: Path) -> None:
            if self.kubernetes.requires(ETCD, f"v{version}"):
                self.kubernetes.build_required(ETCD, binary)
            else:
                build_program(self.go, ETCD, f"v{version}", binary)

        return self._get(self.etcd(), Program.of_etcd, build)

    def _get_coredns(self) -> str:
        def build(version: str, binary: Path) -> None:
            build_coredns(self.go, f"v{version}", binary)

        return self._get(self.coredns(), Program.of_coredns, build)

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
                where = control_plane if name in CONTROL_PLANE_IMAGES else every
                _write_program(where / f"{name}.tar", names, binary, path, base)

            for name in ("kube-apiserver", "kube-controller-manager", "kube-scheduler"):
                write(name, images[name].names, self.kubernetes.binary(name), f"/usr/local/bin/{name}")
            proxy = self.kubernetes.binary("kube-proxy")
            write("kube-proxy", images["kube-proxy"].names, proxy, "/usr/local/bin/kube-proxy", root.kube_proxy_base)
            write("etcd", images["etcd"].names, self.etcd(), "/usr/local/bin/etcd")
            write("pause", [PAUSE_IMAGE, *images["pause"].names], self.own_programs / "pause", "/pause")
            write("gpu-stand-in", [GPU_IMAGE], self.own_programs / "gpu-stand-in", "/gpu-stand-in")
            write_image(every / "busybox.tar", [TEST_IMAGE], Layer(), base=root.busybox, command=["/bin/sh"])
        discard_others(self.images, "images-*")

    @property
    def dns_images(self) -> Path:
        """Where CoreDNS' archive lies."""
        return self.images / "dns"

    def _write_dns_image(self) -> None:
        with replacing(self.dns_images) as folder:
            _write_program(folder / "coredns.tar", self.wanted_images()["coredns"].names, self.coredns(), "/coredns")

    def discard_unfinished(self) -> None:
        """Remove what killed builds left behind. Only for the holder of the build lock."""
        kubernetes = self.kubernetes
        for folder in (self.paths.builds, self.paths.node_root, kubernetes.folder, kubernetes.module, self.images):
            discard(folder.glob(".*"))
        discard(self.paths.builds.glob("*/bin/.*"))
        discard(self.paths.node_root.glob("*.tar"))
        discard(self.paths.go.glob("build-*"))

    def missing(self) -> list[Step]:
        """The steps that make what the cache lacks."""
        return [*self._missing_debian(), *self._missing_kubernetes(), *self._missing_images()]

    def _missing_debian(self) -> list[Step]:
        def build() -> None:
            node_image.build_node_root(self.paths, self.shell)

        def give() -> None:
            node_image.import_image(self.paths, self.shell)

        steps = []
        if not node_image.node_root(self.paths).folder.exists():
            steps.append(Step("node-root", "node: installing Debian", build, seconds=45))
        if not node_image.have_image(self.paths, self.shell):
            steps.append(Step("node-image", "node: importing the image", give, ("node-root",), seconds=6))
        return steps

    def _lacking(self, commands: Sequence[str] = KUBERNETES_COMMANDS) -> list[str]:
        return [command for command in commands if not self.kubernetes.binary(command).exists()]

    def _get_released(self, name: str) -> Step:
        """The step that takes what can be had of a release; those after it build what is lacking then."""
        lacking = self._lacking()
        programs = [Program.of_kubernetes(self.version, it, self.kubernetes.binary(it)) for it in lacking]
        seen: deque[Progress] = deque(maxlen=1)
        return Step(
            name,
            f"Kubernetes {self.version}: downloading what is released",
            lambda: str(self.releases.get(programs, seen.append)),
            seconds=30,
            progress=lambda: str(seen[-1]) if seen else "",
        )

    def _missing_kubernetes(self) -> list[Step]:
        """kubeadm first: etcd and CoreDNS wait for what it names."""
        build, release = self.kubernetes, self.version
        lacking = self._lacking()
        released = f"released-{release}"
        sources, kubeadm, commands = f"sources-{release}", f"kubeadm-{release}", f"commands-{release}"
        steps = []
        if lacking:
            steps.append(self._get_released(released))
            title = f"Kubernetes {release}: fetching sources"
            steps.append(
                Step(sources, title, build.prepare, (released,), seconds=30, unless=lambda: not self._lacking())
            )
        if "kubeadm" in lacking:
            title = f"kubeadm {release}: building"
            steps.append(
                Step(
                    kubeadm,
                    title,
                    lambda: build.build(["kubeadm"]),
                    (sources,),
                    seconds=300,
                    unless=lambda: not self._lacking(["kubeadm"]),
                )
            )
        apart = {"kubeadm"}
        if release.minor < openapi.FIRST_MINOR_WITH_DEFINITIONS:
            apart.add("kube-apiserver")
        others = [command for command in lacking if command not in apart]
        if others:
            title = f"{', '.join(others)} {release}: building"
            steps.append(
                Step(
                    commands,
                    title,
                    lambda: build.build(self._lacking(others)),
                    (sources, kubeadm),
                    seconds=480,
                    progress=build.linked,
                    unless=lambda: not self._lacking(others),
                )
            )
        if "kube-apiserver" in apart & {*lacking}:
            title = f"kube-apiserver {release}: generating its OpenAPI definitions, building"
            steps.append(
                Step(
                    f"kube-apiserver-{release}",
                    title,
                    lambda: openapi.build_api_server(build),
                    (sources, kubeadm, commands),
                    seconds=130,
                    unless=lambda: not self._lacking(["kube-apiserver"]),
                )
            )
        if not all(self._checksum(command).exists() for command in NODE_PROGRAMS):
            title = f"checksums for {release}: writing"
            steps.append(Step(f"checksums-{release}", title, self._write_checksums, (kubeadm, commands), seconds=1))
        return steps

    def _missing_images(self) -> list[Step]:
        release = self.version
        own, etcd, coredns, kubeadm = "own-programs", f"etcd-{release}", f"coredns-{release}", f"kubeadm-{release}"
        images = f"images-{release}"
        steps = []
        if not self.own_programs.exists():
            title = "crictl, pause and GPU stand-in: building"
            # After kubeadm: what they share would be compiled twice at the same time.
            steps.append(Step(own, title, lambda: build_own_programs(self.go), (kubeadm,), seconds=25))
        if not self.images.exists():
            steps.append(Step(etcd, "etcd: downloading or building", self._get_etcd, (kubeadm,), seconds=35))
            title = f"images for {release}: writing"
            parts = ("node-root", own, f"commands-{release}", f"kube-apiserver-{release}", etcd)
            steps.append(Step(images, title, self._write_images, parts))
        if self.dns and not self.dns_images.exists():
            steps.append(Step(coredns, "CoreDNS: downloading or building", self._get_coredns, (kubeadm,), seconds=300))
            title = f"CoreDNS' image for {release}: writing"
            steps.append(Step(f"dns-{release}", title, self._write_dns_image, (images, coredns), seconds=1))
        return steps
