# SPDX-License-Identifier: GPL-3.0-or-later
"""The inventory that `up` writes is the one that the inventory script prints."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from sandbox.inventory import render_inventory
from sandbox.settings import SandboxPaths

SCRIPT = Path(__file__).parents[2] / "inventory" / "sandbox" / "hosts.py"
ADDRESSES = {"lab-control-plane": "172.30.0.10", "lab-control-plane-2": "172.30.0.12", "lab-worker-1": "172.30.0.11"}


def rendered(folder: Path) -> dict[str, Any]:
    return render_inventory(SandboxPaths(folder), ADDRESSES, ["lab-control-plane", "lab-control-plane-2"])


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
