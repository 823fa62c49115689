# SPDX-License-Identifier: GPL-3.0-or-later
"""The files of arguments of MicroK8s and Canonical Kubernetes, as their snaps write them, and nodes that have one.

No real one was available. MicroK8s: canonical/microk8s@d099c90, microk8s-resources/default-args/kubelet, with the line that
its wrapper adds. Canonical Kubernetes: canonical/k8sd@1417866, pkg/k8sd/setup/kubelet.go, as a worker's. Lists of cipher
suites are shortened.
"""

from __future__ import annotations

from typing import Any

from ansible_collections.kubepin.tuning.plugins.module_utils.common.kubelet.argument_file import arguments_in, snap_of
from ansible_collections.kubepin.tuning.plugins.module_utils.control.kubelet.kubelet import Kubelet, decode_kubelet
from ansible_collections.kubepin.tuning.tests.unit.samples.machines import sources

MICROK8S = """\
--kubeconfig=${SNAP_DATA}/credentials/kubelet.config
--cert-dir=${SNAP_DATA}/certs
--client-ca-file=${SNAP_DATA}/certs/ca.crt
--anonymous-auth=false
--root-dir=${SNAP_COMMON}/var/lib/kubelet
--fail-swap-on=false
--eviction-hard="memory.available<100Mi,nodefs.available<1Gi,imagefs.available<1Gi"
--container-runtime-endpoint=${SNAP_COMMON}/run/containerd.sock
--containerd=${SNAP_COMMON}/run/containerd.sock
--node-labels="microk8s.io/cluster=true,node.kubernetes.io/microk8s-controlplane=microk8s-controlplane"
--authentication-token-webhook=true
--read-only-port=0
--tls-cipher-suites=TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256
--serialize-image-pulls=false
--cluster-domain=cluster.local
--cluster-dns=10.152.183.10
--resolv-conf=/run/systemd/resolve/resolv.conf
"""

K8S = """\
--anonymous-auth="false"
--authentication-token-webhook="true"
--authorization-mode="Webhook"
--cgroup-driver="systemd"
--client-ca-file="/etc/kubernetes/pki/client-ca.crt"
--cluster-dns="10.152.183.182"
--cluster-domain="cluster.local"
--container-runtime-endpoint="/var/snap/k8s/common/run/containerd.sock"
--containerd="/var/snap/k8s/common/run/containerd.sock"
--eviction-hard="memory.available<100Mi,nodefs.available<1Gi,imagefs.available<1Gi"
--fail-swap-on="false"
--kubeconfig="/etc/kubernetes/kubelet.conf"
--node-ip="10.0.0.7"
--node-labels="node-role.kubernetes.io/worker=,k8sd.io/role=worker"
--read-only-port="0"
--register-with-taints=""
--root-dir="/var/lib/kubelet"
--serialize-image-pulls="false"
--tls-cert-file="/etc/kubernetes/pki/kubelet.crt"
--tls-cipher-suites="TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256"
--tls-private-key-file="/etc/kubernetes/pki/kubelet.key"
"""

ARGUMENTS = {"microk8s": MICROK8S, "k8s-snap": K8S}


def of_snap(manager: str, text: str | None = None, **given: Any) -> Kubelet:
    """The kubelet of a node that one of the two snaps set up.

    :param text: the file of arguments; None for the snap's own
    """
    snap = snap_of(manager)
    assert snap
    text = ARGUMENTS[manager] if text is None else text
    line = [snap.program, *arguments_in(snap, text)]
    root = "/var/snap/microk8s/common/var/lib/kubelet" if manager == "microk8s" else "/var/lib/kubelet"
    read = sources("1.36.0", manager=manager, extra_args_file=snap.arguments, **given)
    running = ["/snap/microk8s/7234/kubelite"] if manager == "microk8s" else line
    states = {name: {**state, "path": f"{root}/{name}_state"} for name, state in read["state"].items()}
    return decode_kubelet(
        {
            **read,
            "service": {"name": snap.service, "restart_interval_s": 0.1},
            "command_line": running,
            "configured_command_line": line,
            "extra_args_variable": None,
            "extra_args_text": text,
            "texts": {},
            "root_dir": root,
            "state": states,
        }
    )
