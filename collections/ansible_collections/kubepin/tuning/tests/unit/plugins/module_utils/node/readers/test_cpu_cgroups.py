# SPDX-License-Identifier: GPL-3.0-or-later
"""The CPUs of containers, in folders like those of both versions and of all drivers."""

from __future__ import annotations

from pathlib import Path

import pytest
from ansible_collections.kubepin.tuning.plugins.module_utils.node.readers.cpu_cgroups import read_cpu_cgroups

UID = "3a1c2b7e-6f0e-4d0c-8a8e-0f5f0a1b2c3d"
ID = "0f" * 32
V1 = "30 24 0:27 / /sys/fs/cgroup/cpuset rw,relatime shared:9 - cgroup cgroup rw,cpuset\n"
V2 = "29 24 0:26 / /sys/fs/cgroup rw,relatime shared:4 - cgroup2 cgroup2 rw,nsdelegate\n"
HYBRID = "28 24 0:25 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw\n" + V1


def machine(root: Path, mounts: str, folder: str, file: str, cpus: str = "2-3\n") -> str:
    (root / "proc/self").mkdir(parents=True, exist_ok=True)
    (root / "proc/self/mountinfo").write_text(f"22 1 8:1 / / rw - ext4 /dev/sda1 rw\n{mounts}")
    (root / folder).mkdir(parents=True)
    (root / folder / file).write_text(cpus)
    return str(root)


@pytest.mark.parametrize(
    ("version", "mounts", "folder", "file"),
    [
        pytest.param(
            1, V1, f"sys/fs/cgroup/cpuset/kubepods/pod{UID}/{ID}", "cpuset.cpus", id="version 1, cgroupfs driver"
        ),
        pytest.param(1, HYBRID, f"sys/fs/cgroup/cpuset/kubepods/burstable/pod{UID}/{ID}", "cpuset.cpus", id="hybrid"),
        pytest.param(
            2,
            V2,
            f"sys/fs/cgroup/kubepods.slice/kubepods-pod{UID.replace('-', '_')}.slice/cri-containerd-{ID}.scope",
            "cpuset.cpus.effective",
            id="version 2, systemd driver, containerd",
        ),
        pytest.param(
            2,
            V2,
            f"sys/fs/cgroup/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod{UID.replace('-', '_')}.slice/crio-{ID}.scope",
            "cpuset.cpus.effective",
            id="version 2, systemd driver, CRI-O",
        ),
        pytest.param(
            2, V2, f"sys/fs/cgroup/kubelet/kubepods/pod{UID}/{ID}", "cpuset.cpus.effective", id="version 2, own root"
        ),
    ],
)
def test_the_cpus_of_a_container(tmp_path: Path, version: int, mounts: str, folder: str, file: str) -> None:
    found = read_cpu_cgroups(machine(tmp_path, mounts, folder, file))
    assert found == {"version": version, "error": None, "containers": [{"id": ID, "pod": UID, "cpus": "2-3"}]}


def test_a_static_pod_has_a_hash_instead_of_a_uid(tmp_path: Path) -> None:
    root = machine(tmp_path, V1, f"sys/fs/cgroup/cpuset/kubepods/pod{'d' * 32}/{ID}", "cpuset.cpus")
    assert read_cpu_cgroups(root)["containers"][0]["pod"] == "d" * 32


def test_containers_of_no_pod_and_monitors_do_not_count(tmp_path: Path) -> None:
    machine(tmp_path, V2, f"sys/fs/cgroup/system.slice/docker-{ID}.scope", "cpuset.cpus.effective")
    slice_ = f"sys/fs/cgroup/kubepods.slice/kubepods-pod{UID.replace('-', '_')}.slice"
    root = machine(tmp_path, V2, f"{slice_}/crio-conmon-{ID}.scope", "cpuset.cpus.effective")
    assert read_cpu_cgroups(root)["containers"] == []


def test_a_container_without_the_file_is_left_out(tmp_path: Path) -> None:
    root = machine(tmp_path, V2, f"sys/fs/cgroup/kubepods/pod{UID}/{ID}", "cgroup.procs")
    assert read_cpu_cgroups(root) == {"version": 2, "error": None, "containers": []}


def test_a_machine_without_cpu_sets_says_so(tmp_path: Path) -> None:
    root = machine(tmp_path, "", "sys", "empty")
    found = read_cpu_cgroups(root)
    assert (found["version"], found["containers"]) == (None, [])
    assert "no cgroup hierarchy" in found["error"]
