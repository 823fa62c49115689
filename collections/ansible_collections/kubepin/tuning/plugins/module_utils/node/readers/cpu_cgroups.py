# SPDX-License-Identifier: GPL-3.0-or-later
"""The CPUs on which the containers of this machine's pods may run, by their control groups. Read-only.

The kernel's files are those of Documentation/admin-guide/cgroup-v1/cpusets.rst and cgroup-v2.rst. The names of the
folders are those of the kubelet (pkg/kubelet/cm/cgroup_manager_linux.go, pod_container_manager_linux.go) and of the
container runtimes (containerd internal/cri/server/helpers.go, CRI-O internal/config/cgmgr).
"""

from __future__ import annotations

import os
import re
import typing as t

Report = t.Dict[str, t.Any]

_POD = re.compile(r"pod([0-9a-f]{8}[-_][0-9a-f_-]{27}|[0-9a-f]{32})(?:\.slice)?")
"""The folder of a pod: its UID, with underscores by the systemd driver. That of a static pod is a hash."""
_CONTAINER = re.compile(r"(?:(?:cri-containerd|crio|docker)-)?([0-9a-f]{64})(?:\.scope)?")
_CPUS = {1: "cpuset.cpus", 2: "cpuset.cpus.effective"}
"""Version -> the file that names the CPUs. In version 1, the kernel refuses CPUs that the parent does not have."""


def read_cpu_cgroups(root: str = "/") -> Report:
    """The version of the hierarchy with the CPU sets, and each container's CPUs.

    ``error`` says why they cannot be read; `version` and `containers` are then null and empty. A container that ends
    meanwhile is left out.

    :param root: where the machine's files are
    """
    found = _hierarchy(root)
    if found is None:
        return {"version": None, "containers": [], "error": "no cgroup hierarchy with CPU sets is mounted"}
    version, top = found
    containers = []
    for folder, uid, name in _folders(top, None):
        cpus = _cpus(folder, version)
        if cpus is not None:
            containers.append({"id": name, "pod": uid, "cpus": cpus})
    return {"version": version, "containers": containers, "error": None}


def _hierarchy(root: str) -> t.Optional[t.Tuple[int, str]]:
    """Version and mount point of the hierarchy with CPU sets (proc(5), mountinfo). In a hybrid setup, that is version 1."""
    try:
        with open(os.path.join(root, "proc/self/mountinfo"), encoding="utf-8") as file:
            mounts = [line.rstrip().split(" - ") for line in file]
    except OSError:
        return None
    found: t.Dict[int, str] = {}
    for before, after in (mount for mount in mounts if len(mount) == 2):
        kind, _device, options = after.split(None, 2)
        place = os.path.join(root, before.split()[4].lstrip("/"))
        if kind == "cgroup" and "cpuset" in options.split(","):
            found.setdefault(1, place)
        elif kind == "cgroup2":
            found.setdefault(2, place)
    return min(found.items()) if found else None


def _folders(folder: str, uid: t.Optional[str]) -> t.Iterator[t.Tuple[str, str, str]]:
    """Folder, pod and ID of each container below *folder*, which belongs to pod *uid* if there is one."""
    try:
        names = sorted(entry.name for entry in os.scandir(folder) if entry.is_dir(follow_symlinks=False))
    except OSError:
        return
    for name in names:
        path = os.path.join(folder, name)
        container = _CONTAINER.fullmatch(name)
        if uid is not None and container:
            yield path, uid, container[1]
            continue
        pod = _POD.search(name)
        yield from _folders(path, pod[1].replace("_", "-") if pod else uid)


def _cpus(folder: str, version: int) -> t.Optional[str]:
    try:
        with open(os.path.join(folder, _CPUS[version]), encoding="utf-8") as file:
            return file.read().strip()
    except OSError:
        return None
