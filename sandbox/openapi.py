# SPDX-License-Identifier: GPL-3.0-or-later
"""Generates what the API server of Kubernetes below 1.24 needs and its published module lacks: the OpenAPI definitions.

The release's own generator works in GOPATH mode only, so it gets a GOPATH of links to just the packages it reads. The
result has to lie inside k8s.io/kubernetes itself: `go build -overlay` refuses files in the module cache, hence a
writable copy of that module, used through a go.mod of its own.
"""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path

from sandbox.gobuild import KubernetesBuild
from sandbox.settings import SandboxError

GENERATOR = "k8s.io/kube-openapi/cmd/openapi-gen"
PACKAGE = "k8s.io/kubernetes/pkg/generated/openapi"
FILE_BASE = "zz_generated.openapi"
MARK = b"+k8s:openapi-gen="
FIRST_MINOR_WITH_DEFINITIONS = 24

# Staging modules that serve no API types, though some of their files carry the mark.
NO_API = frozenset({"k8s.io/code-generator", "k8s.io/legacy-cloud-providers"})
NOT_COPIED = frozenset({"api", "docs", "staging", "test", "vendor", "CHANGELOG"})
COPIED_TESTS = ("utils", "images")


def marked_packages(module: str, folder: Path) -> set[str]:
    """Import paths of a module's packages that ask for OpenAPI definitions."""
    found = set()
    for path in folder.rglob("*.go"):
        relative = path.relative_to(folder)
        text = "/" + str(relative)
        skipped = text.startswith(("/test/", "/vendor/", "/staging/")) or text.endswith("_test.go")
        if skipped or any(word in text for word in ("testdata", "example", "zz_generated", "/cmd/")):
            continue
        if MARK in path.read_bytes():
            found.add("/".join([module, *relative.parent.parts]))
    return found


def link_packages(listing: str, gopath: Path) -> None:
    """Make a GOPATH of links from lines of `IMPORT-PATH<tab>FOLDER`."""
    for line in listing.splitlines():
        import_path, _, source = line.partition("\t")
        target = gopath / "src" / import_path
        target.mkdir(parents=True, exist_ok=True)
        for path in Path(source).glob("*.go"):
            if not path.name.endswith("_test.go"):
                (target / path.name).symlink_to(path)


def copy_module(source: Path, target: Path) -> None:
    """Copy what a build of Kubernetes reads, writable (the module cache's modes may be read-only)."""
    folders = [path for path in source.iterdir() if path.name not in NOT_COPIED]
    for path in [*folders, *(source / "test" / name for name in COPIED_TESTS)]:
        destination = target / path.relative_to(source)
        if path.is_dir():
            shutil.copytree(path, destination, copy_function=shutil.copyfile)
        else:
            shutil.copyfile(path, destination)
    for path in target.rglob("*"):
        path.chmod(0o755 if path.is_dir() else 0o644)


def build_api_server(build: KubernetesBuild) -> None:
    """Generate the definitions and compile kube-apiserver with them."""
    go, module, version = build.go, build.module, f"v{build.version}"
    kubernetes = go.source(build.MODULE, version)
    with tempfile.TemporaryDirectory(prefix=".openapi-", dir=module) as name:
        work = Path(name)
        for suffix in ("mod", "sum"):
            shutil.copyfile(module / f"go.{suffix}", work / f"generate.{suffix}")
        modfile = f"-modfile={work / 'generate.mod'}"
        go.run(["get", modfile, f"{build.MODULE}/cmd/kube-apiserver@{version}", GENERATOR], cwd=module)

        packages = marked_packages(build.MODULE, kubernetes)
        for staged, number in build.staging().items():
            if staged not in NO_API and not staged.startswith("k8s.io/sample-"):
                packages |= marked_packages(staged, go.source(staged, number))
        inputs = sorted(packages)
        form = "{{if not .Standard}}{{.ImportPath}}\t{{.Dir}}{{end}}"
        link_packages(go.run(["list", modfile, "-deps", "-f", form, *inputs, PACKAGE], cwd=module), work / "gopath")

        generator = work / "openapi-gen"
        go.run(["build", modfile, "-o", str(generator), GENERATOR], cwd=module)
        boilerplate = kubernetes / "hack" / "boilerplate" / "boilerplate.generatego.txt"
        go.shell.run(
            [
                "env",
                "GO111MODULE=off",
                "GOFLAGS=",
                f"GOPATH={work / 'gopath'}",
                f"GOCACHE={go.paths.go / 'build'}",
                f"PATH={Path(go.binary).parent}:/usr/bin:/bin",
                *[str(generator), "--logtostderr", "-i", ",".join(inputs), "-p", PACKAGE, "-O", FILE_BASE],
                *["-h", str(boilerplate), "-r", str(work / "report"), "-o", str(work / "generated")],
            ],
            cwd=work,
        )
        definitions = work / "generated" / PACKAGE / f"{FILE_BASE}.go"
        if not definitions.exists():
            raise SandboxError(f"{GENERATOR} of Kubernetes {build.version} wrote no {definitions}")

        copy = work / "kubernetes"
        copy.mkdir()
        copy_module(kubernetes, copy)
        shutil.copyfile(definitions, copy / "pkg" / "generated" / "openapi" / definitions.name)
        (work / "server.mod").write_text((module / "go.mod").read_text() + f"\nreplace {build.MODULE} => {copy}\n")
        shutil.copyfile(module / "go.sum", work / "server.sum")
        build.build(["kube-apiserver"], [f"-modfile={work / 'server.mod'}"])
