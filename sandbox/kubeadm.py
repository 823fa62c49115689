# SPDX-License-Identifier: GPL-3.0-or-later
"""kubeadm's configuration for a sandbox: its defaults, but for what containers as nodes need."""

from __future__ import annotations

import json

from sandbox.settings import Version

POD_SUBNET = "10.244.0.0/16"
# HTTPProxyCIDR: kubeadm's URL check fails on [10.96.0.1] when built with Go 1.25.2 or newer.
# SystemVerification, Swap: they check the host, which a sandbox takes as it is.
IGNORED_PREFLIGHT = "HTTPProxyCIDR,SystemVerification,Swap"

# Where a machine keeps what `kubeadm join --patches` changes for it alone.
PATCHES = "/etc/sandbox/patches"
KUBELET_PATCH = f"{PATCHES}/kubeletconfiguration+merge.json"


def api_version(version: Version) -> str:
    """The newest configuration API that a release reads."""
    if version.minor >= 31:
        return "kubeadm.k8s.io/v1beta4"
    return "kubeadm.k8s.io/v1beta3" if version.minor >= 22 else "kubeadm.k8s.io/v1beta2"


def cri_socket(version: Version) -> str:
    """containerd's socket as the release wants it written."""
    path = "/run/containerd/containerd.sock"
    return f"unix://{path}" if version.minor >= 24 else path


def init_documents(
    version: Version, address: str, certificate_key: str | None = None, cgroup_driver: str = "cgroupfs"
) -> list[dict[str, object]]:
    """The configuration of `kubeadm init`.

    :param certificate_key: 32 bytes in hexadecimal, with which further control plane nodes will read the certificates; None: none will come
    """
    api = api_version(version)
    kubelet: dict[str, object] = {
        "apiVersion": "kubelet.config.k8s.io/v1beta1",
        "kind": "KubeletConfiguration",
        "cgroupDriver": cgroup_driver,
        "failSwapOn": False,
        # The nodes share the host's disk: neither its use nor its images are theirs to clean up.
        "imageGCHighThresholdPercent": 100,
        "evictionHard": {"nodefs.available": "0%", "nodefs.inodesFree": "0%", "imagefs.available": "0%"},
    }
    if version.minor >= 35:
        kubelet["failCgroupV1"] = False
    # The first control plane node's own address: there is no load balancer.
    endpoint = {"controlPlaneEndpoint": f"{address}:6443"} if certificate_key else {}
    return [
        {
            "apiVersion": api,
            "kind": "InitConfiguration",
            "localAPIEndpoint": {"advertiseAddress": address},
            "nodeRegistration": {"criSocket": cri_socket(version)},
            **({"certificateKey": certificate_key} if certificate_key else {}),
        },
        {
            # imageRepository stays at its default: 1.21 drops the coredns/ prefix with any other.
            "apiVersion": api,
            "kind": "ClusterConfiguration",
            "kubernetesVersion": f"v{version}",
            "networking": {"podSubnet": POD_SUBNET},
            **endpoint,
        },
        kubelet,
        {
            "apiVersion": "kubeproxy.config.k8s.io/v1alpha1",
            "kind": "KubeProxyConfiguration",
            "mode": "iptables",
            # nf_conntrack_max belongs to the host: a container cannot set it.
            "conntrack": {"maxPerCore": 0},
        },
    ]


def render_init(
    version: Version, address: str, certificate_key: str | None = None, cgroup_driver: str = "cgroupfs"
) -> str:
    """The configuration as a file; JSON is YAML too."""
    documents = init_documents(version, address, certificate_key, cgroup_driver)
    return "\n---\n".join(json.dumps(document, indent=2) for document in documents) + "\n"


def render_machine_patch() -> str:
    """How a machine's kubelet differs from the others: the cgroup driver that suits its systemd and cgroup v2, and the kubelet's
    default threshold for memory, since a machine's memory is its own. The memory manager needs one.
    """
    return json.dumps({"cgroupDriver": "systemd", "evictionHard": {"memory.available": "100Mi"}}) + "\n"
