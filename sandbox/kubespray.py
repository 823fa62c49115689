# SPDX-License-Identifier: GPL-3.0-or-later
"""A worker in kubespray's layout, and the part of a kubespray run that writes the kubelet's files.

What a run leaves on a node was read in kubernetes-sigs/kubespray@46dbdd3 (2026-08-21): roles/kubernetes/node/templates,
tasks/kubelet.yml, handlers/main.yml and defaults/main.yml, roles/kubespray_defaults, roles/adduser and
roles/kubernetes/preinstall/tasks/0050-create_directories.yml. kubespray itself does not run: this is a stand-in for its
templating. Variables have kubespray's names, and its defaults but for what `defaults` names.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from sandbox.nodes import Node
from sandbox.settings import SandboxError

Variables = Mapping[str, Any]

CONFIG_DIR = "/etc/kubernetes"
ENVIRONMENT = f"{CONFIG_DIR}/kubelet.env"
CONFIGURATION = f"{CONFIG_DIR}/kubelet-config.yaml"
UNIT = "/etc/systemd/system/kubelet.service"
BIN_DIR = "/usr/local/bin"
PROGRAMS = ("kubeadm", "kubelet", "kubectl")
_RESOURCES = {
    "kube": {"cpu": "100m", "memory": "256Mi", "ephemeral-storage": "500Mi", "pid": "1000"},
    "system": {"cpu": "500m", "memory": "512Mi", "ephemeral-storage": "500Mi", "pid": "1000"},
}


def defaults(name: str, address: str) -> dict[str, Any]:
    """kubespray's variables for a worker of a sandbox: its defaults, but for what a container needs as a node.

    :param name: of the node
    :param address: its IP address
    """
    return {
        "kube_override_hostname": name,
        "kubelet_address": address,
        "kubelet_bind_address": address,
        "kube_log_level": 2,
        "kubelet_custom_flags": [],
        "kubelet_config_extra_args": {},
        "kubelet_event_record_qps": 50,
        "kubelet_max_pods": 110,
        # as sandbox/kubeadm.py sets them for all nodes
        "kubelet_cgroup_driver": "cgroupfs",
        "kubelet_fail_swap_on": False,
        "kubelet_swap_behavior": "NoSwap",  # with cgroup v1, no kubelet starts with kubespray's LimitedSwap
        "kubelet_fail_cgroup_v1": False,
        "kubelet_image_gc_high_threshold": 100,
        "eviction_hard": {"imagefs.available": "0%", "nodefs.available": "0%", "nodefs.inodesFree": "0%"},
        # the cluster's CoreDNS: a sandbox has no node-local cache
        "skydns_server": "10.96.0.10",
    }


def environment(variables: Variables) -> str:
    """kubelet.env (kubelet.env.v1beta1.j2)."""
    flags = " ".join(variables["kubelet_custom_flags"])
    return "\n".join(
        [
            f'KUBE_LOG_LEVEL="--v={variables["kube_log_level"]}"',
            f'KUBELET_ADDRESS="--node-ip={variables["kubelet_address"]}"',
            f'KUBELET_HOSTNAME="--hostname-override={variables["kube_override_hostname"]}"',
            "",
            "",
            f'KUBELET_ARGS="--bootstrap-kubeconfig={CONFIG_DIR}/bootstrap-kubelet.conf \\',
            f"--config={CONFIGURATION} \\",
            f"--kubeconfig={CONFIG_DIR}/kubelet.conf \\",
            "--runtime-cgroups=/system.slice/containerd.service \\",
            f' {flags}"',
            'KUBELET_CLOUDPROVIDER=""',
            "",
            f"PATH={BIN_DIR}:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
            "",
        ]
    )


def unit() -> str:
    """kubelet.service (kubelet.service.j2 with containerd)."""
    arguments = (
        "KUBE_LOGTOSTDERR KUBE_LOG_LEVEL KUBELET_API_SERVER KUBELET_ADDRESS KUBELET_PORT KUBELET_HOSTNAME KUBELET_ARGS "
        "DOCKER_SOCKET KUBELET_NETWORK_PLUGIN KUBELET_VOLUME_PLUGIN KUBELET_CLOUDPROVIDER"
    )
    command = " \\\n".join([f"{BIN_DIR}/kubelet", *(f"\t\t${name}" for name in arguments.split())])
    return (
        "[Unit]\nDescription=Kubernetes Kubelet Server\n"
        "Documentation=https://github.com/GoogleCloudPlatform/kubernetes\n"
        "After=containerd.service\nWants=containerd.service\n\n"
        f"[Service]\nEnvironmentFile=-{ENVIRONMENT}\nExecStart={command}\nRestart=always\nRestartSec=10s\n\n"
        "[Install]\nWantedBy=multi-user.target\n"
    )


def configuration(variables: Variables, minor: int) -> str:
    """kubelet-config.yaml (kubelet-config.v1beta1.yaml.j2).

    :param minor: of Kubernetes 1.x
    """
    extra = dict(variables["kubelet_config_extra_args"])
    by_cgroupfs = variables["kubelet_cgroup_driver"] == "cgroupfs"
    if by_cgroupfs:  # tasks/facts.yml
        extra |= {"systemCgroups": "/system.slice", "cgroupRoot": "/"}
    fields: dict[str, Any] = {
        "apiVersion": "kubelet.config.k8s.io/v1beta1",
        "kind": "KubeletConfiguration",
        "nodeStatusUpdateFrequency": "10s",
        "failSwapOn": variables["kubelet_fail_swap_on"],
        "authentication": {
            "anonymous": {"enabled": False},
            "webhook": {"enabled": True},
            "x509": {"clientCAFile": f"{CONFIG_DIR}/ssl/ca.crt"},
        },
        "authorization": {"mode": "Webhook"},
        **({"failCgroupV1": variables["kubelet_fail_cgroup_v1"]} if minor >= 35 else {}),
        "staticPodPath": f"{CONFIG_DIR}/manifests",
        "cgroupDriver": variables["kubelet_cgroup_driver"],
        "containerLogMaxFiles": 5,
        "containerLogMaxSize": "10Mi",
        "containerRuntimeEndpoint": "unix:///var/run/containerd/containerd.sock",
        "maxPods": variables["kubelet_max_pods"],
        "podPidsLimit": -1,
        "address": variables["kubelet_bind_address"],
        "readOnlyPort": 0,
        "healthzPort": 10248,
        "healthzBindAddress": "127.0.0.1",
        "kubeletCgroups": "/system.slice/kubelet.service",
        "clusterDomain": "cluster.local",
        "protectKernelDefaults": True,
        "rotateCertificates": True,
        "clusterDNS": [variables["skydns_server"]],
        **{f"{scope}Reserved": amounts for scope, amounts in _RESOURCES.items()},
        "evictionHard": variables["eviction_hard"],
        "resolvConf": "/etc/resolv.conf",
        **extra,
        "eventRecordQPS": variables["kubelet_event_record_qps"],
        "shutdownGracePeriod": "60s",
        "shutdownGracePeriodCriticalPods": "20s",
        **(
            {}
            if variables["kubelet_fail_swap_on"]
            else {"memorySwap": {"swapBehavior": variables["kubelet_swap_behavior"]}}
        ),
        "imageGCHighThresholdPercent": variables["kubelet_image_gc_high_threshold"],
        **{
            field: variables[name]
            for name, field in (
                ("kubelet_cpu_manager_policy", "cpuManagerPolicy"),
                ("kubelet_cpu_manager_policy_options", "cpuManagerPolicyOptions"),
                ("kubelet_topology_manager_policy", "topologyManagerPolicy"),
                ("kubelet_topology_manager_scope", "topologyManagerScope"),
            )
            if name in variables
        },
        "maxParallelImagePulls": 1,
    }
    return "\n".join(_block(fields)) + "\n"


def _block(fields: Mapping[str, Any]) -> list[str]:
    """Fields as lines of YAML, each value as JSON, which is YAML too; dictionaries are indented below their names."""
    lines: list[str] = []
    for name, value in fields.items():
        if isinstance(value, Mapping) and value:
            lines += [f"{name}:", *(f"  {line}" for line in _block(value))]
        else:
            lines.append(f"{name}: {json.dumps(value)}")
    return lines


_CONVERT = """
set -eu
groupadd --system --force kube-cert
id kube >/dev/null 2>&1 ||
  useradd --system --no-create-home --comment 'Kubernetes user' --gid kube-cert --shell /sbin/nologin kube
cd /etc/kubernetes
mkdir -p manifests /usr/local/bin /usr/libexec/kubernetes/kubelet-plugins/volume/exec /usr/local/bin/kubernetes-scripts
chown kube . manifests /usr/libexec/kubernetes/kubelet-plugins/volume/exec /usr/local/bin/kubernetes-scripts
chmod 0755 . manifests
[ -L pki ] || { mv pki ssl; ln -s /etc/kubernetes/ssl pki; }
for program; do [ ! -e /usr/bin/$program ] || mv /usr/bin/$program /usr/local/bin/$program; done
rm -rf /etc/systemd/system/kubelet.service.d /etc/default/kubelet
"""
"""kubespray's folders, owners, user and programs in the place of kubeadm's package. Its unit has no drop-in."""

_PLACE = """
set -eu
cat > "$1.new"
chmod "$2" "$1.new"
if cmp -s "$1.new" "$1"; then
  rm "$1.new"
  exit
fi
if [ "$3" = backup ] && [ -e "$1" ]; then cp -p "$1" "$1.$$.$(date +%Y-%m-%d@%H:%M:%S~)"; fi
mv "$1.new" "$1"
echo changed
"""
"""As Ansible's template module, with `backup` or without."""


def is_converted(node: Node) -> bool:
    """Whether the node has kubespray's layout."""
    return bool(node.run("sh", "-c", f"test -e {ENVIRONMENT} && echo yes || true").strip())


def convert(node: Node) -> None:
    """Give a worker kubespray's folders and programs; its files are written by `template`."""
    node.run("sh", "-c", _CONVERT, "convert", *PROGRAMS)


def template(node: Node, variables: Variables, minor: int) -> list[str]:
    """Write the kubelet's files as a kubespray run does, and restart the kubelet if one of them changed.

    As in a kubespray run, nothing is drained, and nobody waits for the kubelet.

    :returns: the paths that changed
    """
    wanted = {
        ENVIRONMENT: (environment(variables), "0600", "backup"),
        CONFIGURATION: (configuration(variables, minor), "0600", "no"),
        UNIT: (unit(), "0644", "backup"),
    }
    changed = [
        path
        for path, (text, mode, backup) in wanted.items()
        if node.run("sh", "-c", _PLACE, "place", path, mode, backup, stdin=text).strip()
    ]
    if ENVIRONMENT in changed or UNIT in changed:
        node.run("systemctl", "daemon-reload")
    if changed:
        node.run("systemctl", "restart", "kubelet")
    return changed


def with_inventory(variables: dict[str, Any], inventory: str) -> dict[str, Any]:
    """The variables with those of an inventory.

    :param inventory: JSON, an object of kubespray's variables
    :raises SandboxError: if it is none, or has a variable that is not templated here
    """
    try:
        given = json.loads(inventory)
    except ValueError as error:
        raise SandboxError(f"the variables are not JSON: {error}") from error
    known = {
        *variables,
        *("kubelet_cpu_manager_policy", "kubelet_cpu_manager_policy_options"),
        *("kubelet_topology_manager_policy", "kubelet_topology_manager_scope"),
    }
    if not isinstance(given, dict) or given.keys() - known:
        found = ", ".join(sorted(given.keys() - known)) if isinstance(given, dict) else "no object"
        raise SandboxError(f"the variables are {found}; expected a JSON object of {', '.join(sorted(known))}")
    return {**variables, **given}
