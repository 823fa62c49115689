# SPDX-License-Identifier: GPL-3.0-or-later
"""emit-node-settings.yml of a dump, without any cluster."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from tests.topologies import MACHINES, tree, write

pytestmark = pytest.mark.component

PROJECT = Path(__file__).parents[2]


def play(folder: Path, *arguments: str, **variables: object) -> subprocess.CompletedProcess[str]:
    dump = folder / "gpu-01"
    if not dump.exists():
        write(tree(MACHINES["one-socket"]), dump)
    extra_vars = json.dumps(
        {
            "kubepin_runs": str(folder / "runs"),
            "node_settings_dump": str(dump),
            "kubepin_run": "here",
            "ansible_python_interpreter": sys.executable,
            **variables,
        }
    )
    command = ["ansible-playbook", "-i", "localhost,", "emit-node-settings.yml", "-e", extra_vars, *arguments]
    environment = {**os.environ, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
    return subprocess.run(command, cwd=PROJECT, env=environment, capture_output=True, text=True, check=False)


def test_the_files_of_a_dump_are_written_and_nothing_is_changed(tmp_path: Path) -> None:
    done = play(
        tmp_path,
        node_settings_formats="kubeadm-patch,drop-in",
        node_settings_kubelet_version="1.36.3",
        cpu_manager_reserved_cpus="0-1,16-17",
        cpu_manager_policy_options={"full-pcpus-only": True},
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "changed=0" in done.stdout
    folder = tmp_path / "runs/here/node-settings"
    files = {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}
    patch = "gpu-nodes/kubeadm-patch/kubeletconfiguration90+strategic.yaml"
    drop_in = "gpu-nodes/drop-in/etc/kubernetes/kubelet.conf.d/90-kubepin.conf"
    assert files == {patch, drop_in, "gpu-nodes/drop-in/etc/default/kubelet", "settings.txt", "settings.json"}
    said = yaml.safe_load((folder / patch).read_text())
    assert said == {
        "apiVersion": "kubelet.config.k8s.io/v1beta1",
        "kind": "KubeletConfiguration",
        "cpuManagerPolicy": "static",
        "cpuManagerPolicyOptions": {"full-pcpus-only": "true"},
        "reservedSystemCPUs": "0-1,16-17",
    }
    assert yaml.safe_load((folder / drop_in).read_text()) == said
    assert "new nodes like gpu-01" in (folder / "settings.txt").read_text()
    (machine,) = json.loads((folder / "settings.json").read_text())["machine_types"]
    assert (machine["kubelet_version"], machine["settings"]["cpuManagerPolicy"]) == ("1.36.3", "static")


def test_check_mode_writes_nothing(tmp_path: Path) -> None:
    done = play(
        tmp_path,
        "--check",
        node_settings_formats=["kubeadm-patch", "k0s"],
        node_settings_kubelet_version="1.36.3",
        cpu_manager_policy_options={"full-pcpus-only": True},
        cpu_manager_memory_manager_policy="Static",
        cpu_manager_reserved_memory=[{"numa_node": 0, "limits": {"memory": "100Mi"}}],
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "k0s worker --profile gpu-nodes" in done.stdout
    assert "reservedMemory: NUMA node 0 memory=100Mi" in done.stdout
    assert not (tmp_path / "runs").exists()


def test_all_problems_are_told_and_nothing_is_written(tmp_path: Path) -> None:
    done = play(tmp_path, node_settings_formats=["k0s", "ignition"])
    assert done.returncode != 0
    assert "Nothing was written." in done.stdout
    assert 'format "ignition" is unknown: expected one of drop-in, ' in done.stdout
    assert "gpu-01: the kubelet's version is unknown" in done.stdout
    assert not (tmp_path / "runs").exists()
