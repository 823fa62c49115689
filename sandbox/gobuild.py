# SPDX-License-Identifier: GPL-3.0-or-later
"""Builds Kubernetes, etcd, CoreDNS and the sandbox's own programs from the sources that Go's module proxy serves."""

from __future__ import annotations

import json
import re
import shutil
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from sandbox.hashing import hash_of_folder
from sandbox.settings import Paths, SandboxError, Version
from sandbox.shell import Shell

# The newest Kubernetes supported (1.37) asks for it in its go.mod.
GO_MINIMUM = (1, 26)

# kubeadm first: it knows which etcd, CoreDNS and pause belong to its release.
KUBERNETES_COMMANDS = (
    "kubeadm",
    "kubelet",
    "kubectl",
    "kube-proxy",
    "kube-scheduler",
    "kube-controller-manager",
    "kube-apiserver",
)
OWN_PROGRAMS = ("crictl", "gpu-stand-in", "pause")
OWN_SOURCES = Path(__file__).parent / "go"

COREDNS = "github.com/coredns/coredns"
# What kubeadm's Corefile names, and log for whoever looks for a fault; each with its folder in CoreDNS' sources.
COREDNS_PLUGINS = {
    "errors": "errors",
    "log": "log",
    "health": "health",
    "ready": "ready",
    "kubernetes": "kubernetes",
    "prometheus": "metrics",
    "forward": "forward",
    "cache": "cache",
    "loop": "loop",
    "reload": "reload",
    "loadbalance": "loadbalance",
}
ETCD = "go.etcd.io/etcd/server/v3"

# reflect2 1.0.1, pinned by old releases, does not link with Go 1.18 or newer.
REFLECT2 = "github.com/modern-go/reflect2"
REFLECT2_FIXED = "v1.0.2"

# The linker drops DWARF anyway (-w). What is not inlined compiles faster; the standard library keeps its inlining, and
# programs were not measurably slower. All builds share these flags, and so what they compile of the same modules.
COMPILE_FLAGS = ("-gcflags=all=-dwarf=false -l", "-gcflags=std=-dwarf=false", "-trimpath")
# Old dependencies reach into the runtime by go:linkname, which the linker refuses since Go 1.23.
LINK_FLAGS = "-s -w -checklinkname=0"


def go_version(text: str) -> tuple[int, int] | None:
    """Read the output of `go version`."""
    match = re.search(r"\bgo(\d+)\.(\d+)", text)
    return (int(match[1]), int(match[2])) if match else None


@dataclass(frozen=True)
class Replacement:
    """One `replace` line of a go.mod."""

    old: str
    new: str

    @property
    def local(self) -> bool:
        """Whether it points at a folder, which exists only in the upstream repository."""
        return self.new.startswith(("./", "../"))


def replacements(go_mod: str) -> list[Replacement]:
    """All `replace` lines, single or in blocks."""
    found = []
    for line in go_mod.splitlines():
        text = line.split("//", 1)[0].strip().removeprefix("replace ").strip()
        old, arrow, new = text.partition(" => ")
        if arrow:
            found.append(Replacement(old.strip(), new.strip()))
    return found


def staging_modules(go_mod: str) -> list[str]:
    """Modules that live inside the Kubernetes repository and are published as v0.MINOR.PATCH."""
    replaced = {r.old for r in replacements(go_mod) if r.new.startswith("./staging/")}
    required = set(re.findall(r"^\s*(k8s\.io/\S+) v0\.0\.0\s*(?://.*)?$", go_mod, re.MULTILINE))
    return sorted(replaced | required)


def render_go_mod(
    module: str, version: str, upstream: str, pinned: Mapping[str, str], overrides: Mapping[str, str]
) -> str:
    """A go.mod that requires `module` and builds it as its own repository would.

    `replace` lines count only in the main module, so they are copied; those to folders of the upstream repository
    give way to the published versions in `pinned`. `overrides` win over everything.
    """
    go_line = re.search(r"^go (\S+)", upstream, re.MULTILINE)
    lines = ["module kubepin.local/build", "", f"go {go_line[1] if go_line else '1.16'}", ""]
    lines += [f"require {module} {version}", ""]
    lines += [f"replace {name} => {name} {number}" for name, number in pinned.items() if name not in overrides]
    lines += [
        f"replace {r.old} => {r.new}"
        for r in replacements(upstream)
        if not r.local and r.old not in pinned and r.old not in overrides
    ]
    lines += [f"replace {name} => {name} {number}" for name, number in overrides.items()]
    return "\n".join(lines) + "\n"


@contextmanager
def replacing(target: Path) -> Iterator[Path]:
    """Offer a temporary folder beside `target` that takes its place only if the block succeeds."""
    target.parent.mkdir(parents=True, exist_ok=True)
    folder = Path(tempfile.mkdtemp(prefix=f".{target.name}.", dir=target.parent))
    folder.chmod(0o755)
    try:
        yield folder
        if target.exists():
            shutil.rmtree(target)
        folder.rename(target)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def discard(paths: Iterable[Path]) -> None:
    """Remove files and folders, if they are there."""
    for path in paths:
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)


def discard_others(kept: Path, pattern: str) -> None:
    """Remove the earlier versions of an artefact."""
    discard(path for path in kept.parent.glob(pattern) if path != kept)


class Go:
    """A Go toolchain that keeps everything it fetches and compiles in the cache folder."""

    def __init__(self, paths: Paths, shell: Shell) -> None:
        self.paths = paths
        self.shell = shell
        self._binary: str | None = None

    def find(self) -> str | None:
        """The path of a `go` that is new enough: the host's own, or the one that host-setup fetched."""
        fetched = sorted(self.paths.go_toolchain.glob("*/bin/go"), reverse=True)
        for candidate in [shutil.which("go"), *map(str, fetched)]:
            if candidate:
                version = go_version(self.shell.run([candidate, "version"], check=False))
                if version and version >= GO_MINIMUM:
                    return candidate
        return None

    @property
    def binary(self) -> str:
        """The `go` to use."""
        self._binary = self._binary or self.find()
        if not self._binary:
            raise SandboxError(
                f"no Go toolchain: expected `go` {'.'.join(map(str, GO_MINIMUM))} or newer on PATH or under "
                f"{self.paths.go_toolchain}. Run `python3 -m sandbox host-setup`."
            )
        return self._binary

    def run(self, arguments: Sequence[str], *, cwd: Path, check: bool = True, **env: str) -> str:
        """Run `go ARGUMENTS` with the cache's folders and this project's flags only."""
        cwd.mkdir(parents=True, exist_ok=True)
        self.paths.go.mkdir(parents=True, exist_ok=True)
        # In the cache, where the next build finds what a killed one left.
        with tempfile.TemporaryDirectory(prefix="build-", dir=self.paths.go, ignore_cleanup_errors=True) as work:
            # Builds take minutes; whoever works on the machine goes first.
            command = ["nice", self.binary, *arguments]
            return self.shell.run(command, cwd=cwd, env={**self._environment(work), **env}, check=check)

    def _environment(self, work: str) -> dict[str, str]:
        return {
            "GOTMPDIR": work,
            "GOPATH": str(self.paths.go / "path"),
            "GOMODCACHE": str(self.paths.go / "mod"),
            "GOCACHE": str(self.paths.go / "build"),
            # modcacherw: a module cache that `rm -rf` can delete. mod=mod: add the missing go.sum lines while building.
            "GOFLAGS": "-modcacherw -mod=mod -buildvcs=false",
            "GO111MODULE": "on",
            "GOWORK": "off",
            "CGO_ENABLED": "0",
        }

    def download(self, module: str, version: str) -> tuple[Path | None, str]:
        """Fetch a module; return its folder, or None and the reason."""
        answer = self.run(["mod", "download", "-json", f"{module}@{version}"], cwd=self.paths.go, check=False)
        facts: dict[str, str] = json.loads(answer or "{}")
        folder = facts.get("Dir")
        return (Path(folder) if folder else None), facts.get("Error", "the go command gave no answer; see the log")

    def source(self, module: str, version: str) -> Path:
        """Fetch a module that must exist."""
        folder, reason = self.download(module, version)
        if folder is None:
            raise SandboxError(
                f"Go module {module} {version} cannot be had: {reason}\n"
                f"Check that this version exists, and that `go env GOPROXY` names a proxy that this host reaches."
            )
        return folder

    def build(self, package: str, output: Path, *, cwd: Path, flags: Sequence[str] = ()) -> None:
        """Compile a main package; the output file appears only when complete."""
        output.parent.mkdir(parents=True, exist_ok=True)
        unfinished = output.with_name(f".{output.name}.unfinished")
        options = [*flags, *COMPILE_FLAGS, "-ldflags", LINK_FLAGS, "-o", str(unfinished)]
        self.run(["build", *options, package], cwd=cwd)
        unfinished.rename(output)


def module_refused(reason: str) -> bool:
    """Whether the proxy does not serve this version, as opposed to not being reachable."""
    return bool(re.search(r"\b(403|404|410)\b|not available|unknown revision", reason))


def pick_staging_version(go: Go, module: str, version: Version) -> str:
    """The published version of a staging module: that of the release, or the nearest lower patch that is served.

    Where none is, that of the release is named anyway: of a module that nothing imports (k8s.io/sample-...) only
    the go.mod is read, which the proxy serves even then. Otherwise the build will say what is missing.
    """
    for patch in range(version.patch, -1, -1):
        candidate = f"v0.{version.minor}.{patch}"
        folder, reason = go.download(module, candidate)
        if folder:
            return candidate
        if not module_refused(reason):
            raise SandboxError(f"Go module {module} cannot be had for Kubernetes {version}: {reason}")
    return f"v0.{version.minor}.{version.patch}"


@dataclass(frozen=True)
class KubernetesBuild:
    """The work folder and the binaries of one Kubernetes release."""

    go: Go
    version: Version

    MODULE = "k8s.io/kubernetes"

    @property
    def folder(self) -> Path:
        """Where the release's artefacts go."""
        return self.go.paths.kubernetes(self.version)

    @property
    def module(self) -> Path:
        """A main module that requires k8s.io/kubernetes."""
        return self.folder / "module"

    @property
    def overrides(self) -> dict[str, str]:
        """Dependencies that must be newer than the release asks for."""
        return {REFLECT2: REFLECT2_FIXED} if self.version.minor < 24 else {}

    def binary(self, command: str) -> Path:
        """Where a command's binary lies, or will."""
        return self.folder / "bin" / command

    def prepare(self) -> None:
        """Write the main module, unless it is there."""
        if self.module.exists():
            return
        upstream = (self.go.source(self.MODULE, f"v{self.version}") / "go.mod").read_text()
        names = staging_modules(upstream)
        with ThreadPoolExecutor(8) as pool:
            picked = pool.map(lambda name: pick_staging_version(self.go, name, self.version), names)
            pinned = dict(zip(names, picked, strict=True))
        with replacing(self.module) as folder:
            text = render_go_mod(self.MODULE, f"v{self.version}", upstream, pinned, self.overrides)
            (folder / "go.mod").write_text(text)
            (folder / "staging.json").write_text(json.dumps(pinned, indent=2) + "\n")
            (folder / "build.go").write_text("package build\n")
            self.go.run(["get", f"{self.MODULE}/cmd/kubelet@v{self.version}"], cwd=folder)

    def staging(self) -> dict[str, str]:
        """The staging modules and their versions."""
        pinned: dict[str, str] = json.loads((self.module / "staging.json").read_text())
        return pinned

    def link_flags(self) -> str:
        """Version stamps. Without major and minor in both packages kubeadm and CoreDNS misjudge the server."""
        stamps = {
            "gitVersion": f"v{self.version}",
            "gitMajor": str(self.version.major),
            "gitMinor": str(self.version.minor),
            "gitTreeState": "clean",
            "gitCommit": "sandbox",
        }
        packages = ("k8s.io/component-base/version", "k8s.io/client-go/pkg/version")
        return " ".join(f"-X {package}.{key}={value}" for package in packages for key, value in stamps.items())

    def build(self, commands: Sequence[str], flags: Sequence[str] = ()) -> None:
        """Compile commands at once: while one is linked, the next one's packages are compiled."""
        tags = "providerless" if self.version.minor >= 24 else "providerless,dockerless"
        discard([self._unfinished])
        self._unfinished.mkdir(parents=True)
        self.go.run(
            [
                *["build", "-tags", tags, *flags, *COMPILE_FLAGS, "-ldflags", f"{LINK_FLAGS} {self.link_flags()}"],
                *["-o", f"{self._unfinished}/", *(f"{self.MODULE}/cmd/{command}" for command in commands)],
            ],
            cwd=self.module,
        )
        self.binary("").mkdir(exist_ok=True)
        for command in commands:
            (self._unfinished / command).rename(self.binary(command))
        self._unfinished.rmdir()

    def requires(self, module: str, version: str) -> bool:
        """Whether this build's module is there, and the release names this version of another one in its go.mod."""
        if not self.module.exists():
            return False
        upstream = (self.go.source(self.MODULE, f"v{self.version}") / "go.mod").read_text()
        return f"{module} {version}" in (" ".join(line.split()[:2]) for line in upstream.splitlines())

    def build_required(self, module: str, output: Path) -> None:
        """Compile the main package at the root of a module that the release requires, sharing packages with the commands."""
        # In a copy: it adds lines to go.mod, and the commands may be compiled meanwhile.
        with tempfile.TemporaryDirectory(prefix="build-", dir=self.go.paths.go) as name:
            folder = Path(name)
            for file in ("go.mod", "go.sum", "build.go"):
                shutil.copyfile(self.module / file, folder / file)
            self.go.build(module, output, cwd=folder)

    @property
    def _unfinished(self) -> Path:
        """Where commands lie until all of one build are complete."""
        return self.folder / ".unfinished"

    def linked(self) -> str:
        """Which commands of the build that runs are linked already."""
        names = sorted(path.name for path in self._unfinished.glob("*"))
        return f"{', '.join(names)} linked" if names else "compiling"


def build_program(go: Go, module: str, version: str, output: Path) -> None:
    """Compile the main package at the root of a module (etcd)."""
    _build_with(go, module, version, output, package=module, source="package build\n")


def build_coredns(go: Go, version: str, output: Path) -> None:
    """Compile CoreDNS with the plugins that kubeadm's Corefile names."""
    _build_with(go, COREDNS, version, output, package=".", source=render_coredns(COREDNS_PLUGINS))


def render_coredns(plugins: Mapping[str, str]) -> str:
    """The main program of a CoreDNS with a choice of plugins, in the way its manual describes for external ones."""
    imports = "\n".join(f'\t_ "{COREDNS}/plugin/{folder}"' for folder in plugins.values())
    names = ", ".join(f'"{name}": true' for name in plugins)
    return f"""package main

import (
\t"{COREDNS}/core/dnsserver"
\t"{COREDNS}/coremain"
{imports}
)

// The order of the directives, which is CoreDNS' own, is the order in which a query passes the plugins.
func init() {{
\tchosen := map[string]bool{{{names}}}
\tvar directives []string
\tfor _, name := range dnsserver.Directives {{
\t\tif chosen[name] {{
\t\t\tdirectives = append(directives, name)
\t\t}}
\t}}
\tdnsserver.Directives = directives
}}

func main() {{
\tcoremain.Run()
}}
"""


def _build_with(go: Go, module: str, version: str, output: Path, *, package: str, source: str) -> None:
    """Compile a package in a main module that requires `module` and holds one file of Go."""
    with requiring(go, module, version, source) as folder:
        go.build(package, output, cwd=folder)


@contextmanager
def requiring(go: Go, module: str, version: str, source: str) -> Iterator[Path]:
    """A main module that requires `module` and holds one file of Go, in a folder for the time of the block."""
    upstream = (go.source(module, version) / "go.mod").read_text()
    with tempfile.TemporaryDirectory(prefix="build-", dir=go.paths.go) as name:
        folder = Path(name)
        (folder / "go.mod").write_text(render_go_mod(module, version, upstream, {}, {REFLECT2: REFLECT2_FIXED}))
        (folder / "build.go").write_text(source)
        go.run(["get", f"{module}@{version}"], cwd=folder)
        yield folder


def build_programs(
    go: Go, module: str, version: str, packages: Sequence[str], output: Path, stamp: str, *, c: bool = False
) -> None:
    """Compile several main packages of a module into a folder, with linker flags that stamp their version.

    :param c: whether they have parts in C
    """
    with requiring(go, module, version, "package build\n") as folder:
        output.mkdir(parents=True)
        flags = [*COMPILE_FLAGS, "-ldflags", f"{LINK_FLAGS} {stamp}"]
        go.run(["get", *(f"{package}@{version}" for package in packages)], cwd=folder)
        go.run(["build", *flags, "-o", f"{output}/", *packages], cwd=folder, CGO_ENABLED=str(int(c)))


def own_programs_folder(paths: Paths) -> Path:
    """Where this source's own programs lie once built."""
    return paths.builds / f"own-{hash_of_folder(OWN_SOURCES)}"


def build_own_programs(go: Go) -> None:
    """Compile the crictl stand-in, the GPU stand-in and pause."""
    target = own_programs_folder(go.paths)
    with replacing(target) as folder:
        for program in OWN_PROGRAMS:
            go.build(f"./{program}", folder / "bin" / program, cwd=OWN_SOURCES, flags=["-mod=readonly"])
    discard_others(target, "own-*")
