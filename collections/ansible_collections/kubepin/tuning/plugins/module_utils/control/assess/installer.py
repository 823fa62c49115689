# SPDX-License-Identifier: GPL-3.0-or-later
"""Pure: what installed a node, as far as the API shows, and therefore how its kubelet's settings are changed.

The traces are those of each project's own sources: version suffixes of k3s-io/k3s, rancher/rke2, k0sproject/k0s, EKS and GKE;
labels and annotations of kubernetes cmd/kubeadm/app/constants (cri-socket, which 1.34 and newer no longer write:
KEP-4656), kubernetes-sigs/cluster-api api/core (MachineAnnotation), kubernetes/kops, canonical/microk8s and k8s-snap,
gardener/gardener, AKS and OpenShift; and the static pod kube-nginx of kubernetes-sigs/kubespray
(roles/kubernetes/node/templates/manifests). A kubespray cluster without that load balancer looks like kubeadm's.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from ansible_collections.kubepin.tuning.plugins.module_utils.control.kubelet.kubelet import EMBEDDED_DROP_INS_MINOR

Object = Mapping[str, Any]

UNKNOWN = "unknown means"
_CRI_SOCKET = "kubeadm.alpha.kubernetes.io/cri-socket"
_KUBEADM_POD = "kubeadm.kubernetes.io/"
"""What annotations of kubeadm's own static pods begin with."""


@dataclass(frozen=True)
class Installer:
    """What installed a node."""

    name: str
    evidence: str
    """Where the API shows it; empty if it does not."""
    way: str
    """The next step to the static policy, as a sentence."""
    by_tune: bool = False
    """Whether kubepin switches such nodes itself."""


_TUNE = (
    "Write an inventory (`cp -r inventory/example inventory/lab`), run `kubepin preview -i inventory/lab`, and switch one node first: "
    "`kubepin tune -i inventory/lab --limit NODE`."
)


def _emit(format_name: str, apply: str) -> str:
    return (
        f"Run `kubepin emit --format {format_name}`, which writes the settings in the format of its installer. {apply}"
    )


_IN_POOL = "Set cpuManagerPolicy to static in the kubelet configuration of the node pool, which replaces its nodes."
_VERSIONS = (
    ("+k0s", "k0s", _emit("k0s", "Add the worker profile to k0s.yaml.")),
    ("-eks-", "EKS", _emit("eks-nodeadm", "Add them to the user data of the node group, which replaces its nodes.")),
    ("-gke.", "GKE", _IN_POOL),
)
"""What a kubelet's version contains -> installer, way."""
_RANCHER = (("+k3s", "k3s"), ("+rke2", "RKE2"))
"""What a kubelet's version contains -> distribution, which kubepin switches from 1.32 on."""
_IMAGES = (
    ("Talos", "Talos", _emit("talos", "Apply the patch with talosctl.")),
    ("Bottlerocket", "Bottlerocket", "Set settings.kubernetes.cpu-manager-policy in the user data of new nodes."),
)
"""What the name of the operating system begins with -> installer, way."""
_LABELS = (
    ("node.openshift.io/os_id", "OpenShift", _emit("openshift", "Apply the KubeletConfig to the machine config pool.")),
    ("kubernetes.azure.com/cluster", "AKS", _IN_POOL),
    ("worker.gardener.cloud/pool", "Gardener", _IN_POOL),
    ("kops.k8s.io/instancegroup", "kOps", _emit("kops", "Merge them into the instance group.")),
    ("microk8s.io/cluster", "MicroK8s", _TUNE),
    ("k8sd.io/role", "Canonical Kubernetes", _TUNE),
)
_MACHINE = "cluster.x-k8s.io/machine"
_KUBESPRAY_POD = ("k8s-app", "kube-nginx")


@dataclass(frozen=True)
class Traces:
    """What the pods of a cluster show of its installer."""

    kubeadm: str = ""
    """Where one of kubeadm's static pods shows it."""
    kubespray: Mapping[str, str] = field(default_factory=dict)
    """Node -> its pod of kubespray's load balancer."""


def traces_of(pods: Iterable[Object]) -> Traces:
    """The traces in the pods of a cluster."""
    kubeadm, kubespray = "", {}
    key, value = _KUBESPRAY_POD
    for pod in pods:
        metadata = pod["metadata"]
        name = f"pod {metadata.get('namespace') or 'default'}/{metadata['name']}"
        if (metadata.get("labels") or {}).get(key) == value:
            kubespray[(pod.get("spec") or {}).get("nodeName") or ""] = name
        if any(one.startswith(_KUBEADM_POD) for one in metadata.get("annotations") or {}):
            kubeadm = kubeadm or f"annotations {_KUBEADM_POD}* of {name}"
    return Traces(kubeadm, kubespray)


def installer_of(node: Object, traces: Traces) -> Installer:
    """What installed the node, by itself and by the pods of its cluster."""
    metadata = node["metadata"]
    labels, annotations = metadata.get("labels") or {}, metadata.get("annotations") or {}
    info = (node.get("status") or {}).get("nodeInfo") or {}
    version, image = str(info.get("kubeletVersion")), str(info.get("osImage"))
    for part, name in _RANCHER:
        if part in version:
            return _of_rancher(name, version, is_machine=_MACHINE in annotations)
    for part, name, way in _VERSIONS:
        if part in version:
            return Installer(name, f"version {version}", way)
    for part, name, way in _IMAGES:
        if image.startswith(part):
            return Installer(name, f"operating system {image}", way)
    for label, name, way in _LABELS:
        if label in labels:
            return Installer(name, f"label {label}", way, way == _TUNE)
    if _MACHINE in annotations:
        way = _emit("cluster-api", "Merge them into the KubeadmConfigTemplate, which replaces the machines.")
        return Installer("Cluster API", f"annotation {_MACHINE}", way)
    if metadata["name"] in traces.kubespray:
        way = f"{_TUNE} Then put the variables that the plan names into kubespray's inventory, before kubespray runs again."
        return Installer("kubespray", traces.kubespray[metadata["name"]], way, by_tune=True)
    evidence = f"annotation {_CRI_SOCKET}" if _CRI_SOCKET in annotations else traces.kubeadm
    return Installer("kubeadm" if evidence else UNKNOWN, evidence, _TUNE, by_tune=True)


def _of_rancher(name: str, version: str, is_machine: bool) -> Installer:
    """A node of k3s or RKE2, by its version such as v1.33.4+k3s1.

    :param is_machine: whether Cluster API made it, and will replace it by another
    """
    minor = re.match(r"v?1\.(\d+)\.", version, re.ASCII)
    evidence = f"version {version}"
    if minor and int(minor[1]) >= EMBEDDED_DROP_INS_MINOR and not is_machine:
        return Installer(name, evidence, _TUNE, by_tune=True)
    return Installer(
        name, evidence, _emit(name.lower(), f"Put them on new nodes before the first start of {name.lower()}-agent.")
    )
