# SPDX-License-Identifier: GPL-3.0-or-later
"""Compiles runc, which unlike everything else here has a part in C."""

from __future__ import annotations

from pathlib import Path

from sandbox.gobuild import LINK_FLAGS, Go, requiring
from sandbox.host import install_packages

RUNC = "github.com/opencontainers/runc"
# pkg-config's name and Debian's: pause containers have a seccomp profile, so runc must know seccomp.
SECCOMP, PACKAGES = "libseccomp", ["libseccomp-dev", "gcc", "libc6-dev", "pkg-config"]


def build_runc(go: Go, version: str, output: Path) -> None:
    """Compile a version of runc with its C part and seccomp; the host gets libseccomp's headers if it lacks them."""
    if "yes" not in go.shell.run(["sh", "-c", f"pkg-config --exists {SECCOMP} && echo yes"], check=False):
        install_packages(go.shell, PACKAGES)
    with requiring(go, RUNC, f"v{version}", "package build\n") as folder:
        flags = ["-trimpath", "-tags", "seccomp", "-ldflags", f"{LINK_FLAGS} -X main.version={version}"]
        go.run(["build", *flags, "-o", str(output), RUNC], cwd=folder, CGO_ENABLED="1")
