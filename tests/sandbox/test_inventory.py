# SPDX-License-Identifier: GPL-3.0-or-later
"""The inventory that `up` writes is the one that the inventory script prints."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from sandbox.inventory import Hardware, render_inventory
from sandbox.settings import SandboxPaths
from sandbox.shape import Shape

SCRIPT = Path(__file__).parents[2] / "inventory" / "sandbox" / "hosts.py"
ADDRESSES = {"lab-control-plane": "172.30.0.10", "lab-control-plane-2": "172.30.0.12", "lab-worker-1": "172.30.0.11"}


def rendered(folder: Path) -> dict[str, Any]:
    workers = {"lab-worker-1": Hardware(frozenset({0, 1}), frozenset({0}), "cgroupfs")}
    return render_inventory(SandboxPaths(folder), ADDRESSES, ["lab-control-plane", "lab-control-plane-2"], workers)


def ask(cache: Path, *arguments: str) -> dict[str, Any]:
    environment = {**os.environ, "KUBEPIN_CACHE": str(cache), "KUBEPIN_SANDBOX": "lab"}
    answer = subprocess.run([sys.executable, SCRIPT, *arguments], env=environment, capture_output=True, check=True)
    facts: dict[str, Any] = json.loads(answer.stdout)
    return facts


def test_groups_and_variables(tmp_path: Path) -> None:
    inventory = rendered(tmp_path)
    assert inventory["control_plane"] == {"hosts": ["lab-control-plane", "lab-control-plane-2"]}
    assert inventory["gpu_nodes"] == {"hosts": ["lab-worker-1"]}
    assert inventory["all"]["vars"] == {"kubepin_kubeconfig": str(tmp_path / "admin.conf")}
    worker = inventory["_meta"]["hostvars"]["lab-worker-1"]
    assert worker["ansible_host"] == "172.30.0.11"
    assert worker["kubepin_node_name"] == "lab-worker-1"
    assert "-o StrictHostKeyChecking=yes" in worker["ansible_ssh_common_args"]
    assert inventory["machines"]["hosts"] == []


def test_what_tests_may_expect_of_workers(tmp_path: Path) -> None:
    assert Hardware(frozenset({0, 1}), frozenset({0}), "cgroupfs").variables() == {
        "sandbox_cgroup_driver": "cgroupfs",
        "sandbox_gpus": 1,
        "sandbox_cpus": {"all": "0-1", "first_core": "0", "further": "1", "next": "1", "others": "0"},
    }
    assert Hardware.of_machine(Shape()).variables() == {
        "sandbox_cgroup_driver": "systemd",
        "sandbox_gpus": 2,
        "sandbox_cpus": {"all": "0-7", "first_core": "0-1", "further": "6", "next": "2", "others": "0-1,3-7"},
    }
    (tmp_path / "cpu0/topology").mkdir(parents=True)
    (tmp_path / "online").write_text("0-3\n")
    (tmp_path / "cpu0/topology/thread_siblings_list").write_text("0,2\n")
    expected = Hardware(frozenset(range(4)), frozenset({0, 2}), "cgroupfs")
    assert Hardware.of_container("cgroupfs", folder=tmp_path) == expected
    one = Hardware(frozenset({0}), frozenset({0}), "cgroupfs").variables()["sandbox_cpus"]
    assert one == {"all": "0", "first_core": "0", "further": "0", "next": "", "others": "0"}


def test_machines_are_a_group_that_knows_its_shape(tmp_path: Path) -> None:
    addresses = {"lab-control-plane": "172.30.0.10", "lab-machine-1": "172.30.0.11"}
    hardware = {"lab-machine-1": Hardware.of_machine(Shape())}
    inventory: dict[str, Any] = render_inventory(
        SandboxPaths(tmp_path), addresses, ["lab-control-plane"], hardware, ["lab-machine-1"], "sockets=2"
    )
    assert inventory["gpu_nodes"] == {"hosts": ["lab-machine-1"]}
    assert inventory["machines"] == {"hosts": ["lab-machine-1"], "vars": {"sandbox_shape": "sockets=2"}}
    assert inventory["_meta"]["hostvars"]["lab-machine-1"]["sandbox_cpus"]["next"] == "2"


def test_script_prints_the_sandbox(tmp_path: Path) -> None:
    folder = tmp_path / "sandboxes" / "lab"
    folder.mkdir(parents=True)
    inventory = rendered(folder)
    (folder / "inventory.json").write_text(json.dumps(inventory))
    assert ask(tmp_path, "--list") == inventory
    assert ask(tmp_path, "--host", "lab-worker-1") == inventory["_meta"]["hostvars"]["lab-worker-1"]
    assert ask(tmp_path, "--host", "unknown") == {}


def test_script_is_empty_without_a_sandbox(tmp_path: Path) -> None:
    assert ask(tmp_path, "--list") == {"_meta": {"hostvars": {}}}
