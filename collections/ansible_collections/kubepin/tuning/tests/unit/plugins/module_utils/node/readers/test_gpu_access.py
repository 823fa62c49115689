# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import json
import os
import stat
from pathlib import Path

import pytest
from ansible_collections.kubepin.tuning.plugins.module_utils.node.readers import gpu_access
from ansible_collections.kubepin.tuning.plugins.module_utils.node.readers.gpu_access import LossReader

KUBELET = {
    "version": "1.21.14",
    "effective": {"cpuManagerPolicy": "static"},
    "state": {"cpu_manager": {"policy": "static", "entries": {}}},
    "runtime": {"name": "containerd", "endpoint": "/run/containerd/containerd.sock"},
    "cgroup": {"version": 1, "driver": "cgroupfs"},
    "service": {"name": "kubelet"},
}
LABELS = {"pod.uid": "u", "pod.name": "train", "pod.namespace": "ml", "container.name": "main"}
INFO = {
    "pid": 7,
    "runtimeType": "io.containerd.runc.v2",
    "runtimeOptions": {"binary_name": "runc"},
    "runtimeSpec": {"linux": {"cgroupsPath": "/kubepods/c1", "resources": {"devices": []}}},
}


def inspected(packed):
    return {
        "status": {"labels": {f"io.kubernetes.{key}": value for key, value in LABELS.items()}},
        "info": {"info": json.dumps(INFO)} if packed else INFO,
    }


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A node with a container whose /dev/nvidia0 has the numbers 10:229."""
    for program in ("crictl", "journalctl", "runc"):
        path = tmp_path / "usr/bin" / program
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("")
        path.chmod(0o755)
    files = {
        "proc/7/cgroup": "5:devices:/kubepods/c1\n",
        "proc/7/stat": "7 (a) b) S " + " ".join(["1"] * 18) + " 100 0\n",
        "sys/fs/cgroup/devices/kubepods/c1/devices.list": "c 1:3 rwm\n",
        "proc/7/root/dev/nvidia0": "",
    }
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    real = os.lstat
    numbers = os.stat_result((stat.S_IFCHR | 0o666, 0, 0, 1, 0, 0, 0, 0, 0, 0))

    class Node:
        st_mode, st_rdev = numbers.st_mode, os.makedev(10, 229)

    monkeypatch.setattr(gpu_access.os, "lstat", lambda path: Node() if str(path).endswith("nvidia0") else real(path))
    monkeypatch.setattr(LossReader, "_hosts_devices", lambda self, pid: "")
    return tmp_path


def read(machine, packed=False, journal="{}", endpoint="/run/containerd/containerd.sock"):
    def run(command):
        program = os.path.basename(command[0])
        if program == "crictl" and "ps" in command:
            return 0, "c1\n", ""
        if program == "crictl":
            return 0, json.dumps(inspected(packed)), ""
        if program == "journalctl":
            wanted = any(word.startswith("--until") for word in command)
            return (0, '{"__REALTIME_TIMESTAMP": "5000000"}\n' if wanted else "", "") if journal else (1, "", "broken")
        return 0, "runc version 1.0.0-rc93\n", ""

    runtime = {**KUBELET["runtime"], "endpoint": endpoint}
    return LossReader(run, {**KUBELET, "runtime": runtime}, str(machine)).report(["nvidia*"])


@pytest.mark.parametrize("packed", [False, True])
def test_a_container_without_its_device_is_found_with_its_pod_and_cause(machine: Path, packed: bool) -> None:
    report = read(machine, packed)
    (found,) = report["containers"]
    assert (found["namespace"], found["pod"], found["container"]) == ("ml", "train", "main")
    assert found["devices"] == [{"path": "/dev/nvidia0", "major": 10, "minor": 229, "link": False}]
    assert (found["state"], found["cause"], report["unknown"]) == ("lost", "container_update", [])


def test_another_runtime_than_runc_has_no_known_version(machine: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(INFO, "runtimeType", "io.containerd.runsc.v1")
    monkeypatch.setitem(INFO, "runtimeOptions", {})
    (found,) = read(machine)["containers"]
    assert found["cause"] == "unknown"
    assert "container_update may take it: unknown: the version of runc" in found["evidence"]


def test_cgroup_v2_is_unknown(machine: Path) -> None:
    (machine / "proc/7/cgroup").write_text("0::/kubepods/c1\n")
    (found,) = read(machine)["containers"]
    assert found["state"] == "unknown"
    assert "eBPF" in found["evidence"][0]


def test_a_mounted_dev_of_the_host_is_unknown(machine: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(LossReader, "_hosts_devices", lambda self, pid: "the host's /dev is mounted")
    (found,) = read(machine)["containers"]
    assert (found["state"], found["evidence"]) == ("unknown", ["the host's /dev is mounted"])


def test_without_crictl_the_reason_is_told(machine: Path) -> None:
    (machine / "usr/bin/crictl").unlink()
    report = read(machine)
    assert (report["containers"], report["unknown"]) == ([], ["all containers: there is no crictl on this node"])


def test_a_container_that_ends_meanwhile_is_told(machine: Path) -> None:
    (machine / "proc/7/cgroup").unlink()
    report = read(machine)
    assert report["containers"] == []
    assert report["unknown"][0].startswith("container c1: ")


def test_a_journal_that_cannot_be_read_is_told(machine: Path) -> None:
    (problem,) = read(machine, journal="")["unknown"]
    assert problem.startswith("`journalctl ")
    assert problem.endswith("failed: broken")
