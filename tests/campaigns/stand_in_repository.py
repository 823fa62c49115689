# SPDX-License-Identifier: GPL-3.0-or-later
"""Package repositories of 1.21 and 1.22, one per minor, of the sandbox's own programs.

A stand-in for the repositories of Kubernetes: the same layout, names, versions, dependencies and kinds of maintainer scripts. The
packages of 1.21 are as the legacy ones, those of 1.22 as today's. If it is to be broken, the kubelet of 1.22.17 only knows its version.
rpm packages need a system that Red Hat's packages made; here, the package `red-hat-base` provides what they need of it.
"""

from __future__ import annotations

import gzip
import hashlib
import shutil
import subprocess
import tempfile
from email.utils import formatdate
from pathlib import Path

from tests.campaigns.base import ROOT

UNITS = ROOT / "sandbox/rootfs/etc/systemd/system"
DROP_IN = "kubelet.service.d/10-kubeadm.conf"
RING = "ring"
BROKEN = '#!/bin/sh\n[ "$1" != --version ] || { echo "Kubernetes v1.22.17"; exit 0; }\necho "broken on purpose" >&2; exit 1\n'
# As debhelper writes it for a service that shall run, with a restart on top, as other packages have it.
POSTINST = """#!/bin/sh
set -e
if [ "$1" = configure ]; then
  deb-systemd-helper unmask kubelet.service >/dev/null || true
  deb-systemd-helper enable kubelet.service >/dev/null || true
  if [ -d /run/systemd/system ]; then
    systemctl --system daemon-reload || true
    deb-systemd-invoke start kubelet.service || true
    systemctl restart kubelet.service || true
  fi
fi
"""


SPEC = """
Name: {name}
Version: {version}
Release: {release}
Summary: {name} of the sandbox
License: none
AutoReqProv: no
{depends}
%description
{name} of the sandbox
%install
cp -a {root}/. %{{buildroot}}
%post
{postinst}
%files
{files}
"""


def rpm(
    folder: Path,
    name: str,
    version: str,
    files: dict[str, Path | str],
    depends: str = "",
    config: str = "",
    postinst: str = "",
) -> None:
    """Build one .rpm into the folder, as `deb` does; `index_rpm` signs it."""
    with tempfile.TemporaryDirectory() as temporary:
        root, spec = Path(temporary) / "root", Path(temporary) / "package.spec"
        fill(root, files)
        number, _, release = version.rpartition("-")
        listed = "\n".join(f"{'%config(noreplace) ' if place == config else ''}/{place}" for place in files)
        text = SPEC.format(
            name=name, version=number, release=release, depends=depends, root=root, postinst=postinst, files=listed
        )
        spec.write_text(text)
        settings = {
            "_topdir": temporary,
            "_rpmdir": str(folder),
            "_build_name_fmt": "%{NAME}-%{VERSION}-%{RELEASE}.%{ARCH}.rpm",
        }
        settings |= {"__os_install_post": "%{nil}", "_binary_payload": "w1.gzdio", "debug_package": "%{nil}"}
        defined = [word for key, value in settings.items() for word in ("--define", f"{key} {value}")]
        subprocess.run(["rpmbuild", "--quiet", "-bb", *defined, str(spec)], check=True)


def index_rpm(folder: Path, ring: Path) -> None:
    """Sign the packages, and write the metadata with the key beside it."""
    settings = {
        "__gpg": shutil.which("gpg"),
        "_gpg_name": "kubepin stand-in",
        "_gpg_path": str(ring),
        "_gpg_sign_cmd_extra_args": "--pinentry-mode loopback --passphrase ''",
    }
    defined = [word for key, value in settings.items() for word in ("--define", f"{key} {value}")]
    subprocess.run(
        ["rpmsign", *defined, "--addsign", *map(str, sorted(folder.glob("*.rpm")))], check=True, capture_output=True
    )
    subprocess.run(["createrepo_c", "--quiet", str(folder)], check=True)
    gpg(ring, "--export", "--armor", "--output", str(folder / "repodata/repomd.xml.key"))


def fill(root: Path, files: dict[str, Path | str]) -> None:
    """Lay out a package's files; each is a path to copy, or the text of a program."""
    root.mkdir()
    for place, origin in files.items():
        path = root / place
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(origin) if isinstance(origin, str) else shutil.copyfile(origin, path)
        path.chmod(0o755 if "bin" in path.parts else 0o644)


def deb(
    folder: Path,
    name: str,
    version: str,
    files: dict[str, Path | str],
    depends: str = "",
    conffiles: tuple[str, ...] = (),
    postinst: str = "",
) -> None:
    """Build one .deb into the folder."""
    with tempfile.TemporaryDirectory() as temporary:
        root = Path(temporary) / "root"
        fill(root, files)
        control = root / "DEBIAN"
        control.mkdir(mode=0o755)
        text = f"Package: {name}\nVersion: {version}\nArchitecture: amd64\nMaintainer: kubepin's stand-in repository <nobody@localhost>\n"
        text += f"Depends: {depends}\n" if depends else ""
        (control / "control").write_text(f"{text}Description: {name} of the sandbox\n")
        if conffiles:
            (control / "conffiles").write_text("".join(f"/{path}\n" for path in conffiles))
        if postinst:
            (control / "postinst").write_text(postinst)
            (control / "postinst").chmod(0o755)
        command = [
            "dpkg-deb",
            "--root-owner-group",
            "-Zgzip",
            "-z1",
            "--build",
            str(root),
            str(folder / f"{name}_{version}_amd64.deb"),
        ]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)


def index_deb(folder: Path, ring: Path) -> None:
    """Write Packages and Release of a flat repository."""
    entries = []
    for path in sorted(folder.glob("*.deb")):
        control = subprocess.run(["dpkg-deb", "--field", str(path)], check=True, capture_output=True, text=True).stdout
        digest = hashlib.sha256(path.read_bytes()).hexdigest()
        entries.append(f"{control}Filename: ./{path.name}\nSize: {path.stat().st_size}\nSHA256: {digest}\n")
    content = "\n".join(entries).encode()
    (folder / "Packages").write_bytes(content)
    (folder / "Packages.gz").write_bytes(gzip.compress(content))
    lines = [
        f" {hashlib.sha256(path.read_bytes()).hexdigest()} {path.stat().st_size} {path.name}"
        for path in (folder / "Packages", folder / "Packages.gz")
    ]
    (folder / "Release").write_text(
        f"Origin: kubepin stand-in\nDate: {formatdate(usegmt=True)}\nSHA256:\n" + "\n".join(lines) + "\n"
    )
    gpg(ring, "--yes", "--clearsign", "--output", str(folder / "InRelease"), str(folder / "Release"))


def gpg(ring: Path, *arguments: str) -> None:
    """Run gpg with the repository's own key ring, which is worth nothing outside."""
    ring.mkdir(mode=0o700, parents=True, exist_ok=True)
    command = ["gpg", "--homedir", str(ring), "--batch", "--quiet", "--pinentry-mode", "loopback", "--passphrase", ""]
    subprocess.run([*command, *arguments], check=True)


def apt_repository(folder: Path, programs: Path, crictl: Path, version: str, legacy: bool, broken: bool) -> None:
    """The packages of one version for apt, and their index."""
    tools = f"{version.rpartition('.')[0]}.0"
    revision = "00" if legacy else "1.1"
    systemd = "etc/systemd/system" if legacy else "usr/lib/systemd/system"
    units = "lib/systemd/system" if legacy else "usr/lib/systemd/system"
    drop_in = f"{systemd}/kubelet.service.d/10-kubeadm.conf"
    deb(folder, "cri-tools", f"{tools}-{revision}", {"usr/bin/crictl": crictl})
    deb(folder, "kubectl", f"{version}-{revision}", {"usr/bin/kubectl": programs / "kubectl"})
    defaults = {} if legacy else {"etc/default/kubelet": "KUBELET_EXTRA_ARGS=\n"}
    deb(
        folder,
        "kubelet",
        f"{version}-{revision}",
        {
            "usr/bin/kubelet": BROKEN if broken else programs / "kubelet",
            f"{units}/kubelet.service": UNITS / "kubelet.service",
            **defaults,
        },
        conffiles=tuple(defaults),
        postinst=POSTINST,
    )
    deb(
        folder,
        "kubeadm",
        f"{version}-{revision}",
        {"usr/bin/kubeadm": programs / "kubeadm", drop_in: UNITS / DROP_IN},
        depends=f"cri-tools (>= {tools})" + (", kubelet (>= 1.13.0), kubectl (>= 1.13.0)" if legacy else ""),
        conffiles=(drop_in,) if legacy else (),
        postinst="#!/bin/sh\n[ ! -d /run/systemd/system ] || systemctl --system daemon-reload || true\n",
    )
    index_deb(folder, folder.parents[1] / RING)


def dnf_repository(folder: Path, programs: Path, crictl: Path, version: str, legacy: bool, broken: bool) -> None:
    """The packages of one version for dnf, and their metadata."""
    tools = f"{version.rpartition('.')[0]}.0"
    release = "0" if legacy else "150500.1.1"
    units, settings = "usr/lib/systemd/system", "etc/sysconfig/kubelet"
    restart = "systemctl daemon-reload || :\nsystemctl restart kubelet.service || :"
    drop_in = (UNITS / DROP_IN).read_text().replace("/etc/default/kubelet", f"/{settings}")
    rpm(folder, "red-hat-base", "1-1", {}, depends="Provides: /bin/sh")
    rpm(folder, "cri-tools", f"{tools}-{release}", {"usr/bin/crictl": crictl})
    rpm(folder, "kubectl", f"{version}-{release}", {"usr/bin/kubectl": programs / "kubectl"})
    rpm(
        folder,
        "kubelet",
        f"{version}-{release}",
        {
            "usr/bin/kubelet": BROKEN if broken else programs / "kubelet",
            f"{units}/kubelet.service": UNITS / "kubelet.service",
            settings: "KUBELET_EXTRA_ARGS=\n",
        },
        config=settings,
        postinst=f"systemctl --no-reload preset kubelet.service || :\n{restart}",
    )
    rpm(
        folder,
        "kubeadm",
        f"{version}-{release}",
        {"usr/bin/kubeadm": programs / "kubeadm", f"{units}/{DROP_IN}": drop_in},
        depends=f"Requires: cri-tools >= {tools}\n"
        + ("Requires: kubelet >= 1.13.0, kubectl >= 1.13.0" if legacy else ""),
    )
    index_rpm(folder, folder.parents[1] / RING)


def publish(builds: Path, top: Path, kind: str, broken: bool = False) -> None:
    """Make the repositories of *kind* (deb or rpm) below *top*; those of 1.21 stay as they are if they are there."""
    if not (top / "key.gpg").exists():
        gpg(top / RING, "--quick-generate-key", "kubepin stand-in", "default", "default", "never")
        gpg(top / RING, "--export", "--output", str(top / "key.gpg"))
    [crictl] = builds.glob("own-*/bin/crictl")
    write = {"deb": apt_repository, "rpm": dnf_repository}[kind]
    for version, legacy in (("1.21.14", True), ("1.22.17", False)):
        folder = top / f"v{version.rpartition('.')[0]}" / kind
        if legacy and folder.exists():
            continue
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        write(folder, builds / f"kubernetes-{version}/bin", crictl, version, legacy, broken and not legacy)
