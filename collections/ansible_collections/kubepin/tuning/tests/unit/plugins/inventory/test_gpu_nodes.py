# SPDX-License-Identifier: GPL-3.0-or-later
"""Nodes as a real API server of 1.22.17 gave them (`kubectl get nodes -o json` on a sandbox), with the labels that others would add."""

from __future__ import annotations

import copy
import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.kubepin.tuning.plugins.module_utils.control.cluster.inventory import (
    address,
    groups,
    node_facts,
)

COLLECTIONS = Path(__file__).parents[7]
NODES = json.loads((Path(__file__).parents[2] / "fixtures/nodes/sandbox-1.22.17.json").read_text())
CONTROL_PLANE, WORKER = NODES
PREFIXES = ["nvidia.com/"]
PRESENT = {"nvidia.com/gpu.present": "true"}
# As NVIDIA's GPU Feature Discovery and Node Feature Discovery 0.13 label a node with two EPYC 7773X and an A100.
LABELS = {
    "nvidia.com/gpu.product": "NVIDIA-A100-SXM4-80GB",
    "feature.node.kubernetes.io/cpu-model.vendor_id": "AMD",
    "feature.node.kubernetes.io/cpu-model.family": "25",
    "feature.node.kubernetes.io/cpu-model.id": "1",
    "feature.node.kubernetes.io/cpu-hardware_multithreading": "true",
    "feature.node.kubernetes.io/memory-numa": "true",
}


def changed(node: dict[str, Any], labels: dict[str, str] | None = None, **status: Any) -> dict[str, Any]:
    node = copy.deepcopy(node)
    node["metadata"]["labels"].update(labels or {})
    node["status"].update(status)
    return node


def groups_of(node: dict[str, Any]) -> list[str]:
    return groups(node_facts(node, PREFIXES), PRESENT)


def test_real_nodes_are_told_apart() -> None:
    assert groups_of(CONTROL_PLANE)[0] == "control_plane"
    assert groups_of(WORKER) == ["gpu_nodes", "kubelet_1_22_17", "cpu_2"]
    assert node_facts(WORKER, PREFIXES)["gpus"] == {"nvidia.com/gpu": 1}
    assert node_facts(WORKER, PREFIXES)["ready"]


def test_labels_of_others_name_gpu_and_cpus() -> None:
    capacity = {**WORKER["status"]["capacity"], "cpu": "256"}
    assert groups_of(changed(WORKER, LABELS, capacity=capacity)) == [
        "gpu_nodes",
        "gpu_nvidia_a100_sxm4_80gb",
        "kubelet_1_22_17",
        "cpu_256_amd_25_1_smt_numa",
    ]


def test_what_no_label_says_is_unknown_and_not_no() -> None:
    cpu = node_facts(WORKER, PREFIXES)["cpu"]
    assert cpu["multithreading"] is None
    assert cpu["several_numa_nodes"] is None
    one_thread = {"feature.node.kubernetes.io/cpu-hardware_multithreading": "false"}
    assert node_facts(changed(WORKER, one_thread), PREFIXES)["cpu"]["multithreading"] is False


@pytest.mark.parametrize(
    ("labels", "group"),
    [
        pytest.param({}, "other_nodes", id="no-gpu"),
        pytest.param({"nvidia.com/gpu.present": "true"}, "gpu_nodes", id="labelled"),
        pytest.param({"nvidia.com/gpu.present": "false"}, "other_nodes", id="labelled-without"),
    ],
)
def test_a_node_that_offers_no_gpu_now_is_known_by_its_label(labels: dict[str, str], group: str) -> None:
    offered = {name: value for name, value in WORKER["status"]["allocatable"].items() if "nvidia" not in name}
    had = {name: value for name, value in WORKER["status"]["capacity"].items() if "nvidia" not in name}
    assert groups_of(changed(WORKER, labels, allocatable=offered, capacity=had))[0] == group


def test_a_control_plane_node_with_gpus_is_not_tuned_unasked() -> None:
    node = changed(WORKER, {"node-role.kubernetes.io/master": ""})
    assert "gpu_nodes" not in groups_of(node)
    assert node_facts(node, PREFIXES)["gpus"] == {"nvidia.com/gpu": 1}


def test_addresses_are_taken_in_the_order_of_their_types() -> None:
    facts = node_facts(WORKER, PREFIXES)
    internal = WORKER["status"]["addresses"][0]["address"]
    assert address(facts, ["ExternalIP", "InternalIP"]) == internal
    assert address(facts, ["Hostname", "InternalIP"]) == WORKER["metadata"]["name"]
    assert address(facts, ["ExternalIP"]) is None


class Api:
    """A stand-in for an API server: a web server that knows one path, and counts."""

    def __init__(self, folder: Path) -> None:
        self.asked = 0
        self.refuses = False
        answer = json.dumps({"kind": "NodeList", "apiVersion": "v1", "metadata": {}, "items": NODES}).encode()

        class Handler(BaseHTTPRequestHandler):
            def do_GET(handler) -> None:  # noqa: N805 # pylint: disable=no-self-argument
                self.asked += 1
                known = handler.path.startswith("/api/v1/nodes?")
                handler.send_response(403 if self.refuses else 200 if known else 404)
                handler.end_headers()
                handler.wfile.write(answer if known and not self.refuses else b"{}")

            def log_message(self, *_arguments: object) -> None:
                """Say nothing."""

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.address = f"http://127.0.0.1:{self.server.server_port}"
        self.kubeconfig = folder / "lab.conf"
        cluster = {"name": "lab", "cluster": {"server": self.address}}
        context = {"name": "lab", "context": {"cluster": "lab", "user": "lab"}}
        users = [{"name": "lab", "user": {}}]
        named = {"clusters": [cluster], "contexts": [context], "users": users, "current-context": "lab"}
        self.kubeconfig.write_text(json.dumps({"apiVersion": "v1", "kind": "Config", **named}))


@pytest.fixture
def api(tmp_path: Path) -> Iterator[Api]:
    found = Api(tmp_path)
    threading.Thread(target=found.server.serve_forever, daemon=True).start()
    yield found
    found.server.shutdown()
    found.server.server_close()


def inventory(folder: Path, kubeconfig: Path, **options: Any) -> subprocess.CompletedProcess[str]:
    source = folder / "lab.gpu_nodes.yml"
    source.write_text(json.dumps({"plugin": "kubepin.tuning.gpu_nodes", "kubeconfig": str(kubeconfig), **options}))
    environment = {
        **os.environ,
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        "ANSIBLE_COLLECTIONS_PATH": str(COLLECTIONS),
        "ANSIBLE_INVENTORY_UNPARSED_FAILED": "true",
    }
    command = ["ansible-inventory", "-i", str(source), "--list"]
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)


def test_the_inventory_is_what_the_playbooks_expect(tmp_path: Path, api: Api) -> None:
    keyed = [{"key": "kubepin_node.architecture", "prefix": "arch"}]
    done = inventory(tmp_path, api.kubeconfig, compose={"cpus": "kubepin_node.cpu.capacity * 2"}, keyed_groups=keyed)
    # what comes from outside is marked, so that nobody takes it for a template
    found = json.loads(done.stdout, object_hook=lambda item: item.get("__ansible_unsafe", item))
    worker = WORKER["metadata"]["name"]
    assert found["control_plane"]["hosts"] == [CONTROL_PLANE["metadata"]["name"]]
    assert found["gpu_nodes"]["hosts"] == [worker]
    assert worker in found["arch_amd64"]["hosts"]
    variables = found["_meta"]["hostvars"][worker]
    assert variables["ansible_host"] == WORKER["status"]["addresses"][0]["address"]
    assert (variables["kubepin_node_name"], variables["cpus"]) == (worker, 4)
    assert variables["kubepin_kubeconfig"] == str(api.kubeconfig)


def test_with_a_cache_the_api_is_asked_once(tmp_path: Path, api: Api) -> None:
    cache = {"cache": True, "cache_plugin": "ansible.builtin.jsonfile", "cache_connection": str(tmp_path / "cache")}
    first, second = (inventory(tmp_path, api.kubeconfig, **cache) for _index in range(2))
    assert first.stdout == second.stdout
    assert WORKER["metadata"]["name"] in second.stdout
    assert api.asked == 1


def test_an_api_that_refuses_is_named(tmp_path: Path, api: Api) -> None:
    api.refuses = True
    done = inventory(tmp_path, api.kubeconfig)
    assert done.returncode != 0
    assert f"the API server {api.address}" in done.stderr
    assert "forbids it" in " ".join(done.stderr.split())


@pytest.mark.thorough
def test_an_api_that_does_not_answer_is_named(tmp_path: Path, api: Api) -> None:
    api.server.server_close()
    done = inventory(tmp_path, api.kubeconfig)
    assert done.returncode != 0
    assert f"the API server {api.address}" in done.stderr
    assert "cannot be reached" in done.stderr
