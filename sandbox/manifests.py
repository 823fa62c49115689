# SPDX-License-Identifier: GPL-3.0-or-later
"""Kubernetes objects that every sandbox gets."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from sandbox.settings import GPU_DEVICE, GPU_IMAGE, GPU_PCI, GPU_RESOURCE, TEST_IMAGE

CONTROL_PLANE_LABEL = "node-role.kubernetes.io/control-plane"
CHECK_LABEL = {"app": "sandbox-check"}
CHECK_SELECTOR = "app=sandbox-check"
PLUGIN_FOLDER = "/var/lib/kubelet/device-plugins"
# One device; on a machine, those on its PCI bus with their NUMA nodes. There is no /dev/nvidia1 in a container.
STAND_IN_OPTIONS = ("-devices=1", "-path=/dev/nvidia%d", f"-pci={GPU_PCI}")

# One replica, kept off the workers: its 100m of CPU would take a whole CPU from those who want exclusive ones.
COREDNS_PATCH = {"spec": {"replicas": 1, "template": {"spec": {"nodeSelector": {CONTROL_PLANE_LABEL: ""}}}}}


def check_script(dns: bool) -> str:
    """What the check pod runs: it waits until the name is known, or without DNS until the service is reached."""
    name = "kubernetes.default.svc.cluster.local" if dns else "$KUBERNETES_SERVICE_HOST"
    connect = f"nc -w 5 {name} 443 < /dev/null"
    return f"""
set -e
exec 3<>{GPU_DEVICE}
for attempt in $(seq 150); do {f"nslookup {name}" if dns else connect} && break; sleep 0.5; done
{connect}
"""


def worker_daemon_set(name: str, container: Mapping[str, Any], volumes: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """A device plugin on all workers."""
    labels = {"app": name}
    not_control_plane = {"matchExpressions": [{"key": CONTROL_PLANE_LABEL, "operator": "DoesNotExist"}]}
    affinity = {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": [not_control_plane]}}
    return {
        "apiVersion": "apps/v1",
        "kind": "DaemonSet",
        "metadata": {"name": name, "namespace": "kube-system", "labels": labels},
        "spec": {
            "selector": {"matchLabels": labels},
            "updateStrategy": {"rollingUpdate": {"maxUnavailable": "100%"}},
            "template": {
                "metadata": {"labels": labels},
                "spec": {
                    "affinity": {"nodeAffinity": affinity},
                    "priorityClassName": "system-node-critical",
                    # So that it starts before the pod network is there: a node is then ready with its devices at once.
                    "hostNetwork": True,
                    "tolerations": [
                        {"key": "node.kubernetes.io/not-ready", "operator": "Exists", "effect": "NoSchedule"}
                    ],
                    # The default of 30 s would hold up every restart: a device plugin has nothing to finish.
                    "terminationGracePeriodSeconds": 1,
                    "containers": [container],
                    "volumes": [*volumes],
                },
            },
        },
    }


def gpu_stand_in(options: Sequence[str] = STAND_IN_OPTIONS) -> dict[str, Any]:
    """The stand-in's device plugin on all workers, with options that say what it offers."""
    container = {
        "name": "gpu-stand-in",
        "image": GPU_IMAGE,
        "imagePullPolicy": "Never",
        "args": [f"-resource={GPU_RESOURCE}", *options],
        "volumeMounts": [{"name": "plugins", "mountPath": PLUGIN_FOLDER}],
    }
    return worker_daemon_set("gpu-stand-in", container, [{"name": "plugins", "hostPath": {"path": PLUGIN_FOLDER}}])


def check_pod(node: str, dns: bool, runtime_class: str | None = None) -> dict[str, Any]:
    """A pod that ends well only if the device opens, DNS (if any) answers and a service is reached on that node."""
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": f"sandbox-check-{node}", "namespace": "default", "labels": CHECK_LABEL},
        "spec": {
            "restartPolicy": "Never",
            "runtimeClassName": runtime_class,
            "terminationGracePeriodSeconds": 0,
            "nodeSelector": {"kubernetes.io/hostname": node},
            "containers": [
                {
                    "name": "check",
                    "image": TEST_IMAGE,
                    "imagePullPolicy": "Never",
                    "command": ["sh", "-c", check_script(dns)],
                    "resources": {"limits": {GPU_RESOURCE: 1}},
                }
            ],
        },
    }
