# SPDX-License-Identifier: GPL-3.0-or-later
"""The facts about one machine that an upgrade needs. Read-only."""

from __future__ import annotations

import glob
import os
import re
import time
import typing as t

from ansible_collections.kubepin.tuning.plugins.module_utils.common.errors import TuningError
from ansible_collections.kubepin.tuning.plugins.module_utils.common.layout import (
    HOME,
    KUBERNETES,
    RUNTIME_FOLDERS,
    UPGRADES,
)
from ansible_collections.kubepin.tuning.plugins.module_utils.common.problem import to_dicts
from ansible_collections.kubepin.tuning.plugins.module_utils.node.readers.kubelet import read_programs, read_sources
from ansible_collections.kubepin.tuning.plugins.module_utils.node.transaction.files import Files
from ansible_collections.kubepin.tuning.plugins.module_utils.node.transaction.records import BEGUN
from ansible_collections.kubepin.tuning.plugins.module_utils.node.upgrade.certificates import (
    CertificateError,
    expiry_of,
)
from ansible_collections.kubepin.tuning.plugins.module_utils.node.upgrade.package_change import IN_PROGRESS
from ansible_collections.kubepin.tuning.plugins.module_utils.node.upgrade.packages import (
    package_of,
    package_problems,
)
from ansible_collections.kubepin.tuning.plugins.module_utils.node.upgrade.record import read_entry
from ansible_collections.kubepin.tuning.plugins.module_utils.node.upgrade.source import (
    PROGRAMS,
    Source,
    source_problems,
)

Run = t.Callable[[t.List[str]], t.Tuple[int, str, str]]
Report = t.Dict[str, t.Any]

MANIFESTS = f"{KUBERNETES}/manifests"
COMPONENTS = ("kube-apiserver", "kube-controller-manager", "kube-scheduler", "etcd")
FLAGS_FILE = "/var/lib/kubelet/kubeadm-flags.env"
PROGRAM_FOLDERS = ("/usr/bin", "/usr/local/bin", "/usr/sbin", "/usr/local/sbin", "/opt/bin")

_CERTIFICATES = (
    f"{KUBERNETES}/pki/*.crt",
    f"{KUBERNETES}/pki/etcd/*.crt",
    f"{KUBERNETES}/admin.conf",
    f"{KUBERNETES}/controller-manager.conf",
    f"{KUBERNETES}/scheduler.conf",
    "/var/lib/kubelet/pki/kubelet-client-current.pem",
)


def read_node(run: Run, source: t.Optional[Source], versions: t.Sequence[str]) -> Report:
    """What one machine tells about itself, for `node_facts` on the control node.

    :param source: where programs and images come from; None skips its checks
    :param versions: the versions to upgrade to, for which the source is checked
    :raises TuningError: if the machine has no kubelet
    """
    manifests = {name: _tag(f"{MANIFESTS}/{name}.yaml") for name in COMPONENTS}
    control_plane = manifests["kube-apiserver"] is not None
    packages = {name: _package(run, program_path(name)) for name in PROGRAMS}
    return {
        "control_plane": control_plane,
        "boot_id": _text("/proc/sys/kernel/random/boot_id").strip(),
        "versions": {name: program_version(run, program_path(name)) for name in ("kubeadm", "kubectl")},
        "packages": packages,
        "upgrade_in_progress": os.path.exists(IN_PROGRESS),
        "kubeadm_began": any(map(_kubeadm_began, versions)),
        "manifests": manifests,
        "static_pods": _static_pods(),
        "certificates": _certificates(),
        "etcd_database_mb": _size("/var/lib/etcd/member/snap/db"),
        "free_space": {path: _free(path) for path in (HOME, KUBERNETES, "/var/lib", *RUNTIME_FOLDERS.values())},
        "kubelet": read_sources(run),
        "programs": read_programs(run),
        "source_problems": to_dicts(
            [
                *package_problems(
                    run, source, versions, packages, [n for n in PROGRAMS if os.path.isfile(program_path(n))]
                ),
                *(problem for version in versions for problem in source_problems(source, version, control_plane)),
            ]
        )
        if source
        else [],
    }


def program_path(name: str) -> str:
    """Where a program is; if it is missing, where packages would install it."""
    return next(
        (f"{folder}/{name}" for folder in PROGRAM_FOLDERS if os.path.isfile(f"{folder}/{name}")), f"/usr/bin/{name}"
    )


def program_version(run: Run, path: str) -> t.Optional[str]:
    """The version that kubeadm, kubelet or kubectl reports; None if the program is missing."""
    if not os.path.isfile(path):
        return None
    arguments = {"kubelet": ["--version"], "kubeadm": ["version", "-o", "short"], "kubectl": ["version", "--client"]}
    name = next(name for name in PROGRAMS if os.path.basename(path).startswith(name))
    _code, output, _errors = run([path, *arguments[name]])
    match = re.search(r"v(\d+\.\d+\.\d+)", output, re.ASCII)
    return match[1] if match else None


def _kubeadm_began(version: str) -> bool:
    """Whether kubeadm has begun to rewrite this node's files for a kubelet of *version*, which was not verified since.

    A record that cannot be read counts as none here; the step that needs it names it.
    """
    try:
        entry = read_entry(Files(), f"{UPGRADES}/{version}")
    except TuningError:
        return False
    return entry is not None and entry.record.status == BEGUN


def _package(run: Run, path: str) -> t.Optional[Report]:
    return package_of(run, path) if os.path.isfile(path) else None


def _text(path: str) -> str:
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            return file.read()
    except OSError:
        return ""


def _tag(path: str) -> t.Optional[str]:
    """The image tag in a static pod's manifest; None if there is no manifest."""
    match = re.search(r"^\s*(?:- )?image:\s*[\"']?[^\s\"'@]+:v?([^\s\"'@:/]+)", _text(path), re.MULTILINE)
    return match[1] if match else None


def _static_pods() -> t.Dict[str, str]:
    """Path -> text of the static pods; the kubelet reads all files there whose names do not begin with a dot."""
    return {path: _text(path) for path in sorted(glob.glob(f"{MANIFESTS}/*")) if os.path.isfile(path)}


def _certificates() -> t.List[Report]:
    found = []
    for path in sorted(path for pattern in _CERTIFICATES for path in glob.glob(pattern)):
        try:
            left = (expiry_of(_text(path)) - time.time()) / 86400
        except CertificateError:
            continue
        found.append({"path": path, "days_left": round(left, 1)})
    return found


def _free(path: str) -> Report:
    """The file system that a path is, or would be, on, and the free MB there."""
    existing = path
    while not os.path.exists(existing):
        existing = os.path.dirname(existing)
    status = os.statvfs(existing)
    return {"device": os.stat(existing).st_dev, "free_mb": status.f_bavail * status.f_frsize >> 20}


def _size(path: str) -> int:
    try:
        return os.path.getsize(path) >> 20
    except OSError:
        return 0
