# SPDX-License-Identifier: GPL-3.0-or-later
"""A cluster for tests of an upgrade's plan, as its readers return it."""

from __future__ import annotations

import copy
from typing import Any

from ansible_collections.kubepin.tuning.plugins.module_utils.control.upgrade.plan import UpgradeRequest, plan_upgrade

Data = dict[str, Any]
CP, W1, W2 = "cp", "w1", "w2"
ALL = f"{CP},{W1},{W2}"


def facts(control_plane: bool, version: str = "1.20.15") -> Data:
    return {
        "control_plane": control_plane,
        "boot_id": "boot",
        "versions": {"kubeadm": version, "kubelet": version, "kubectl": version},
        "manifests": dict.fromkeys(
            ("kube-apiserver", "kube-controller-manager", "kube-scheduler"), version if control_plane else None
        ),
        "stacked_etcd": control_plane,
        "command_line": ["/usr/bin/kubelet", "--cpu-manager-policy=static"],
        "cgroup": {"version": 1, "driver": "cgroupfs"},
        "feature_gates": {},
        "config_file": {},
        "patches_directory": None,
        "event_record_qps": None,
        "static_pod_references": {},
        "tuning": {"cpuManagerPolicy": "static", "reservedSystemCPUs": "0"},
        "differences": [],
        "certificates": [{"path": "/etc/kubernetes/pki/apiserver.crt", "days_left": 300.0}],
        "disk": [{"paths": ["/var/lib/kubepin"], "needed_mb": 500, "free_mb": 60000}],
        "problems": [],
        "source_problems": [],
    }


class Cluster:
    """Three nodes at 1.20.15, to be changed by the test."""

    def __init__(self) -> None:
        self.api: Data = {
            "api_server": "v1.20.15",
            "nodes": [self.node(CP, True), self.node(W1, False), self.node(W2, False)],
            "api_servers": {CP: "v1.20.15"},
            "kubeadm": {"kubernetesVersion": "v1.20.15", "imageRepository": "k8s.gcr.io"},
            "kube_proxy": "v1.20.15",
            "arguments": {},
            "kubelet_gates": {},
            "kubelet_fields": {},
            "kubelet_configs": {"kubelet-config-1.20": {"cgroupDriver": "cgroupfs"}},
            "deprecated_requests": [],
            "old_objects": [],
            "drains": {},
            "preemptions": [],
        }
        self.hosts: Data = {name: {"node": name, "facts": facts(name == CP)} for name in (CP, W1, W2)}
        self.request: Data = {"images_from_registry": False}

    @staticmethod
    def node(name: str, control_plane: bool) -> Data:
        return {
            "name": name,
            "kubelet": "v1.20.15",
            "ready": True,
            "ready_reason": "KubeletReady",
            "unschedulable": False,
            "boot_id": "boot",
            "runtime": "containerd://1.6.20",
            "control_plane": control_plane,
            "in_progress": False,
            "occupied": [],
            "notes": [],
            "gpu": 0,
        }

    def control_plane_at(self, version: str) -> None:
        self.api["api_server"] = self.api["kube_proxy"] = f"v{version}"
        self.api["api_servers"] = {CP: f"v{version}"}
        self.api["kubeadm"]["kubernetesVersion"] = f"v{version}"
        self.api["kubelet_configs"] = {f"kubelet-config-1.{version.split('.')[1]}": {"cgroupDriver": "cgroupfs"}}
        self.hosts[CP]["facts"]["manifests"] = facts(True, version)["manifests"]

    def kubelets_at(self, version: str, *names: str) -> None:
        for node in self.api["nodes"]:
            if node["name"] in names:
                node["kubelet"] = f"v{version}"

    def plan(self) -> Any:
        return plan_upgrade(copy.deepcopy(self.api), self.hosts, UpgradeRequest(**self.request))

    def steps(self) -> list[tuple[str, str, str]]:
        return [(step.version, step.action, ",".join(step.hosts)) for step in self.plan().steps]

    def problems(self) -> list[tuple[str, str]]:
        return [(problem.code, problem.subject) for problem in self.plan().problems]
