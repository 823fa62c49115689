# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

from typing import Any

import pytest
from ansible_collections.kubepin.tuning.plugins.module_utils.control.assess import installer
from ansible_collections.kubepin.tuning.plugins.module_utils.control.assess.installer import (
    UNKNOWN,
    Traces,
    installer_of,
    traces_of,
)
from ansible_collections.kubepin.tuning.plugins.module_utils.control.emit.formats import FORMATS

KUBEADM_POD = {
    "metadata": {
        "namespace": "kube-system",
        "name": "etcd-cp",
        "annotations": {"kubeadm.kubernetes.io/etcd.advertise-client-urls": "https://10.0.0.1:2379"},
    },
    "spec": {"nodeName": "cp"},
}
NGINX = {
    "metadata": {"namespace": "kube-system", "name": "nginx-proxy-n1", "labels": {"k8s-app": "kube-nginx"}},
    "spec": {"nodeName": "n1"},
}


def node(version: str = "v1.36.3", image: str = "Debian GNU/Linux 12", **metadata: Any) -> dict[str, Any]:
    return {
        "metadata": {"name": "n1", **metadata},
        "status": {"nodeInfo": {"kubeletVersion": version, "osImage": image}},
    }


@pytest.mark.parametrize(
    ("given", "name"),
    [
        (node("v1.31.9+k3s1"), "k3s"),
        (node("v1.31.9+rke2r1"), "RKE2"),
        (node("v1.36.4+rke2r1", annotations={"cluster.x-k8s.io/machine": "m"}), "RKE2"),
        (node("v1.33.4+k0s"), "k0s"),
        (node("v1.33.4-eks-3abbec1"), "EKS"),
        (node("v1.33.4-gke.1036000"), "GKE"),
        (node(image="Talos (v1.11.0)"), "Talos"),
        (node(image="Bottlerocket OS 1.40.0 (aws-k8s-1.33-nvidia)"), "Bottlerocket"),
        (node(labels={"node.openshift.io/os_id": "rhcos"}), "OpenShift"),
        (node(labels={"kubernetes.azure.com/cluster": "MC_a"}), "AKS"),
        (node(labels={"kops.k8s.io/instancegroup": "gpus"}), "kOps"),
        (node(annotations={"cluster.x-k8s.io/machine": "m"}), "Cluster API"),
        (node(annotations={"kubeadm.alpha.kubernetes.io/cri-socket": "unix:///c"}), "kubeadm"),
        (node(), UNKNOWN),
    ],
)
def test_the_installer_by_the_node_itself(given: dict[str, Any], name: str) -> None:
    found = installer_of(given, Traces())
    assert found.name == name
    assert bool(found.evidence) == (name != UNKNOWN)
    assert found.by_tune == (name in ("kubeadm", UNKNOWN))


@pytest.mark.parametrize(
    ("given", "name"),
    [
        (node("v1.33.4+k3s1"), "k3s"),
        (node("v1.32.0+rke2r1"), "RKE2"),
        (node(labels={"microk8s.io/cluster": "true"}), "MicroK8s"),
        (node(labels={"k8sd.io/role": "worker"}), "Canonical Kubernetes"),
    ],
)
def test_distributions_that_kubepin_switches(given: dict[str, Any], name: str) -> None:
    found = installer_of(given, Traces())
    assert (found.name, found.by_tune) == (name, True)
    assert "kubepin tune" in found.way


def test_a_node_of_kubespray_is_tuned_before_its_inventory_gets_the_variables() -> None:
    """Its own run would restart the kubelet with another policy than its state file has."""
    found = installer_of(node(), traces_of([NGINX]))
    assert found.by_tune
    assert found.way.index("kubepin tune") < found.way.index("inventory, before kubespray runs again")


def test_the_installer_by_the_pods_of_the_cluster() -> None:
    assert installer_of(node(), traces_of([KUBEADM_POD])).name == "kubeadm"
    both = traces_of([KUBEADM_POD, NGINX])
    assert installer_of(node(), both).name == "kubespray"
    assert installer_of({**node(), "metadata": {"name": "n2"}}, both).name == "kubeadm"


def test_every_format_that_a_next_step_names_exists() -> None:
    ways = [way for *_names, way in (*installer._VERSIONS, *installer._IMAGES, *installer._LABELS)]
    ways += [
        installer_of(node("v1.31.9+k3s1"), Traces()).way,
        installer_of(node("v1.31.9+rke2r1"), Traces()).way,
        installer_of(node(annotations={installer._MACHINE: "m"}), Traces()).way,
    ]
    named = {way.partition("--format ")[2].partition("`")[0] for way in ways if "--format" in way}
    assert named
    assert named <= set(FORMATS)
