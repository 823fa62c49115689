# SPDX-License-Identifier: GPL-3.0-or-later
"""Pure: settings for new nodes in the format of each installer.

A format is a function from `NodeSettings` to files. What it cannot say is a problem. Field names were checked against the
sources that each function names; of these installers only the kubelet itself was run.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import yaml
from ansible_collections.kubepin.tuning.plugins.module_utils.common.cpuset import format_cpuset, parse_cpuset
from ansible_collections.kubepin.tuning.plugins.module_utils.common.kubelet.flags import rewrite_extra_args
from ansible_collections.kubepin.tuning.plugins.module_utils.common.layout import DROP_IN_DIR, DROP_IN_NAME
from ansible_collections.kubepin.tuning.plugins.module_utils.common.problem import Problem
from ansible_collections.kubepin.tuning.plugins.module_utils.common.switch.system_daemons import DROP_INS
from ansible_collections.kubepin.tuning.plugins.module_utils.common.switch.system_daemons import drop_in as confining
from ansible_collections.kubepin.tuning.plugins.module_utils.control.cpus.allocation import (
    AllocationError,
    machine_of,
    reserved_of,
)
from ansible_collections.kubepin.tuning.plugins.module_utils.control.emit import problems
from ansible_collections.kubepin.tuning.plugins.module_utils.control.emit.node_settings import NodeSettings
from ansible_collections.kubepin.tuning.plugins.module_utils.control.kubelet.config import DEFAULTS
from ansible_collections.kubepin.tuning.plugins.module_utils.control.kubelet.decode import API_VERSION, ROOT
from ansible_collections.kubepin.tuning.plugins.module_utils.control.kubelet.kubelet import EMBEDDED_DROP_INS_MINOR
from ansible_collections.kubepin.tuning.plugins.module_utils.control.kubelet.kubespray import inventory_variables
from ansible_collections.kubepin.tuning.plugins.module_utils.control.kubelet.settings import as_flags
from ansible_collections.kubepin.tuning.plugins.module_utils.control.switch.plan import (
    placed_in_drop_in,
    render_drop_in,
)
from ansible_collections.kubepin.tuning.plugins.module_utils.control.words import counted, listed

EXTRA_ARGS_FILE = "/etc/default/kubelet"
PATCHES_DIR = "/etc/kubernetes/patches"
PATCH_NAME = "kubeletconfiguration90+strategic.yaml"
_KUBEADM_PATCHES = 25
"""The minor version of 1.x whose kubeadm first patches the KubeletConfiguration."""
_RANCHER_CONFIG_DIR = 22
"""The minor version of 1.x from which every release of k3s and RKE2 reads config.yaml.d (it came with 1.21.2)."""
_MOST_NAMED = 3


@dataclass(frozen=True)
class File:
    """A file; its path is that on the node without the leading slash, or a name if the file does not belong on a node."""

    path: str
    text: str


@dataclass(frozen=True)
class Emitted:
    """Files, or every problem with them."""

    files: list[File] = field(default_factory=list)
    problems: list[Problem] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Format:
    """One format.

    :param use: how to use the files, a sentence in which {name} is the machine type's name
    :param cleared: fields that are "" on new nodes, because the files or the installer set them so
    """

    write: Callable[[NodeSettings], Emitted]
    use: str
    cleared: frozenset[str] = frozenset()
    places_files: bool = False
    """Whether the format can place files besides the kubelet's settings on new nodes."""


class _Dumper(yaml.SafeDumper):
    """Quotes texts that look like numbers to people, and keeps the lines of longer ones. Takes Ansible's values, which are
    of subclasses."""


def _text(dumper: yaml.SafeDumper, value: str) -> yaml.ScalarNode:
    style = "|" if "\n" in value else '"' if value[:1].isdigit() or not value else None
    return dumper.represent_scalar("tag:yaml.org,2002:str", str(value), style)


_Dumper.add_representer(str, _text)
_Dumper.add_multi_representer(str, _text)
_Dumper.add_multi_representer(int, yaml.SafeDumper.represent_int)
_Dumper.add_multi_representer(dict, yaml.SafeDumper.represent_dict)
_Dumper.add_multi_representer(list, yaml.SafeDumper.represent_list)


def _yaml(node: NodeSettings, content: Mapping[str, Any], first: str = "") -> str:
    body = yaml.dump(content, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=1000)
    return f"{first}{_header(node)}{body}"


def _header(node: NodeSettings) -> str:
    """The lines of a file that say for which machines it is."""
    cpus = node.settings["reservedSystemCPUs"]
    return (
        f"# Written by kubepin for new nodes like {listed(node.nodes, _MOST_NAMED)}, with kubelet {node.version}.\n"
        f"# reservedSystemCPUs {cpus} ({node.reservation}) is right only for machines with these CPUs:\n"
        f"# {format_cpuset(node.topology.online)} in {counted(len(node.topology.cores), 'core')}, "
        f"{counted(len(node.topology.sockets), 'socket')} and {counted(len(node.topology.numa_nodes), 'NUMA node')}.\n"
    )


def _node_files(node: NodeSettings) -> list[File]:
    """The files of a kubeadm node, where kubepin puts them too when it switches one: a drop-in, or flags below 1.30."""
    if not placed_in_drop_in(node.version):
        return [_extra_args(node, as_flags(node.settings))]
    drop_in = File(f"{DROP_IN_DIR}/{DROP_IN_NAME}", _header(node) + render_drop_in(node.settings))
    return [drop_in, _extra_args(node, [f"--config-dir={DROP_IN_DIR}"])]


def _daemon_files(node: NodeSettings) -> list[File]:
    """The files with which kubepin also confines system daemons when it switches a node."""
    if not node.system_slices:
        return []
    cpus = parse_cpuset(node.settings["reservedSystemCPUs"])
    return [File(path, confining(unit, cpus)) for unit, path in DROP_INS.items()]


def _owned(file: File) -> dict[str, str]:
    """A file as cloud-init and Cluster API take it."""
    return {"path": file.path, "owner": "root:root", "permissions": "0644", "content": file.text}


def _below_root(files: Iterable[File]) -> list[File]:
    return [File(file.path.lstrip("/"), file.text) for file in files]


def _extra_args(node: NodeSettings, arguments: list[str]) -> File:
    return File(EXTRA_ARGS_FILE, _header(node) + rewrite_extra_args(None, (), arguments))


_EXTRA_ARGS_NOTE = (
    f"{EXTRA_ARGS_FILE} sets KUBELET_EXTRA_ARGS as a whole. If new nodes set it already, add the argument there. On RHEL and its kin "
    "the file is /etc/sysconfig/kubelet."
)


def drop_in(node: NodeSettings) -> Emitted:
    """A kubeadm node's own files (KEP-3983; service drop-in 10-kubeadm.conf of kubernetes/release)."""
    return Emitted(_below_root([*_node_files(node), *_daemon_files(node)]), notes=[_EXTRA_ARGS_NOTE])


def cloud_init(node: NodeSettings) -> Emitted:
    """The same files as user data (module write_files; canonical/cloud-init: cloudinit/config/cc_write_files.py)."""
    content = {"write_files": [_owned(file) for file in (*_node_files(node), *_daemon_files(node))]}
    return Emitted([File("user-data.yaml", _yaml(node, content, first="#cloud-config\n"))], notes=[_EXTRA_ARGS_NOTE])


def kubeadm_patch(node: NodeSettings) -> Emitted:
    """A patch for kubeadm's target kubeletconfiguration, which is there since 1.25
    (kubernetes/kubernetes: cmd/kubeadm/app/util/patches/patches.go)."""
    too_old = _without_patches("kubeadm-patch", node)
    return Emitted([File(PATCH_NAME, _yaml(node, _configuration(node)))] if not too_old else [], too_old)


def _configuration(node: NodeSettings) -> dict[str, Any]:
    return {"apiVersion": API_VERSION, "kind": ROOT, **node.settings}


def _without_patches(name: str, node: NodeSettings) -> list[Problem]:
    if node.minor >= _KUBEADM_PATCHES:
        return []
    return [problems.no_kubeadm_patches(name, node.version, _KUBEADM_PATCHES)]


def kubespray(node: NodeSettings) -> Emitted:
    """Group variables (`control/kubelet/kubespray.py`)."""
    return Emitted(
        [File(f"group_vars/{node.name.replace('-', '_')}.yml", _yaml(node, inventory_variables(node.settings)))],
        notes=[
            "Leave kube_reserved and system_reserved false, as they are by default: otherwise kubespray sets kubeReservedCgroup and "
            "systemReservedCgroup, with which the kubelet refuses reservedSystemCPUs.",
            "If the inventory sets kubelet_config_extra_args elsewhere, merge the two: Ansible takes only one of them.",
        ],
    )


def rke2(node: NodeSettings) -> Emitted:
    """A drop-in from 1.32, flags below (rancher/rke2@6ce1a80: pkg/executor/staticpod/staticpod.go;
    rancher/rke2-docs@9477b7b: docs/install/configuration.md)."""
    return _rancher("rke2", node)


def k3s(node: NodeSettings) -> Emitted:
    """As RKE2, which is built on it (k3s-io/k3s: pkg/daemons/agent/agent_linux.go; docs.k3s.io/installation/configuration,
    Kubelet configuration; a repeated kubelet-arg is a repeated flag, pkg/util/args.go GetArgs)."""
    return _rancher("k3s", node)


def _rancher(name: str, node: NodeSettings) -> Emitted:
    if node.minor >= EMBEDDED_DROP_INS_MINOR:
        path = f"var/lib/rancher/{name}/agent/etc/kubelet.conf.d/{DROP_IN_NAME}"
        settings = File(path, _header(node) + render_drop_in(node.settings))
        return Emitted([settings, *_below_root(_daemon_files(node))])
    if node.minor < _RANCHER_CONFIG_DIR:
        return Emitted(problems=[problems.no_config_directory(name, node.version, _RANCHER_CONFIG_DIR)])
    arguments = [flag.removeprefix("--") for flag in as_flags(node.settings)]
    path = f"etc/rancher/{name}/config.yaml.d/90-kubepin.yaml"
    return Emitted([File(path, _yaml(node, {"kubelet-arg+": arguments})), *_below_root(_daemon_files(node))])


_K0S_CLEARED = ("kubeReservedCgroup",)


def k0s(node: NodeSettings) -> Emitted:
    """A worker profile (k0sproject/k0s@dff90ce: pkg/apis/k0s/v1beta1/workerprofile.go, docs/worker-node-config.md, and
    pkg/component/controller/workerconfig/reconciler.go, which sets kubeReservedCgroup in every profile)."""
    content = {
        "apiVersion": "k0s.k0sproject.io/v1beta1",
        "kind": "ClusterConfig",
        "metadata": {"name": "k0s"},
        "spec": {
            "workerProfiles": [{"name": node.name, "values": {**dict.fromkeys(_K0S_CLEARED, ""), **node.settings}}]
        },
    }
    note = "k0s sets kubeReservedCgroup, with which the kubelet refuses reservedSystemCPUs. The profile empties it."
    return Emitted([File("k0s.yaml", _yaml(node, content))], notes=[note])


_EKS_CLEARED = ("kubeReservedCgroup", "systemReservedCgroup")


def eks_nodeadm(node: NodeSettings) -> Emitted:
    """A NodeConfig, which nodeadm merges with the user data (awslabs/amazon-eks-ami@81fec2e:
    nodeadm/api/v1alpha1/nodeconfig_types.go KubeletOptions, nodeadm/internal/kubelet/config.go, and
    test/e2e/cases/kubelet-config-set-empty for the empty cgroups)."""
    content = {
        "apiVersion": "node.eks.aws/v1alpha1",
        "kind": "NodeConfig",
        "spec": {"kubelet": {"config": {**dict.fromkeys(_EKS_CLEARED, ""), **node.settings}}},
    }
    return Emitted(
        [File("nodeconfig.yaml", _yaml(node, content))],
        notes=[
            "nodeadm sets kubeReservedCgroup and systemReservedCgroup, with which the kubelet refuses reservedSystemCPUs. The file empties "
            "both, as nodeadm allows."
        ],
    )


def cluster_api(node: NodeSettings) -> Emitted:
    """What a KubeadmConfigTemplate needs for kubeadm's patch (kubernetes-sigs/cluster-api@ae7ff04:
    docs/book/src/tasks/bootstrap/kubeadm-bootstrap/kubelet-config.md)."""
    too_old = _without_patches("cluster-api", node)
    patch = File(f"{PATCHES_DIR}/{PATCH_NAME}", _yaml(node, _configuration(node)))
    content = {
        "apiVersion": "bootstrap.cluster.x-k8s.io/v1beta2",
        "kind": "KubeadmConfigTemplate",
        "metadata": {"name": node.name},
        "spec": {
            "template": {
                "spec": {
                    "files": [_owned(file) for file in (patch, *_daemon_files(node))],
                    "joinConfiguration": {"patches": {"directory": PATCHES_DIR}},
                }
            }
        },
    }
    if too_old:
        return Emitted(problems=too_old)
    note = "v1beta2 came with Cluster API 1.11: with an older one, change the apiVersion to v1beta1."
    return Emitted([File("kubeadmconfigtemplate.yaml", _yaml(node, content))], notes=[note])


_SNAP_SINCE = {"microk8s": 27, "k8s-snap": 30}
"""Format -> the minor version of 1.x from which its snap takes a configuration file (microk8s.io/docs/ref-launch-config;
the first release of the snap k8s)."""


def microk8s(node: NodeSettings) -> Emitted:
    """A launch configuration (canonical/microk8s@d099c90: snap/hooks/install, microk8s-resources/microk8s.default.yaml;
    canonical/microk8s-cluster-agent: pkg/k8sinit/schema.go)."""
    return _snap_arguments("microk8s", "microk8s.yaml", {"version": "0.1.0"}, "extraKubeletArgs", node)


def k8s_snap(node: NodeSettings) -> Emitted:
    """What `k8s bootstrap` and `k8s join-cluster` take (canonical/k8s-snap@d924cc2:
    docs/canonicalk8s/_parts/worker_join_config.md; canonical/k8sd@1417866: pkg/k8sd/setup/kubelet.go)."""
    return _snap_arguments("k8s-snap", "configuration.yaml", {}, "extra-node-kubelet-args", node)


def _snap_arguments(name: str, file: str, head: dict[str, Any], key: str, node: NodeSettings) -> Emitted:
    """A mapping of flags, in which each flag has one value."""
    found = []
    if node.minor < _SNAP_SINCE[name]:
        found.append(problems.no_launch_configuration(name, node.version, _SNAP_SINCE[name]))
    arguments: dict[str, str] = {}
    for flag in as_flags(node.settings):
        option, _equals, value = flag.partition("=")
        # from 1.23 on, --reserved-memory takes several NUMA nodes (pkg/util/flag ReservedMemoryVar)
        arguments[option] = f"{arguments[option]};{value}" if option in arguments else value
    options = node.settings.get("cpuManagerPolicyOptions", {})
    if len(options) > 1:  # the flag takes one option at a time (NewMapStringStringNoSplit)
        found.append(problems.one_option_only(name, sorted(options)))
    return Emitted([File(file, _yaml(node, {**head, key: arguments}))] if not found else [], found)


_KOPS_FIELDS = ("cpuManagerPolicy", "topologyManagerPolicy")


def kops(node: NodeSettings) -> Emitted:
    """What an instance group can say (kubernetes/kops@268927e: pkg/apis/kops/v1alpha2/componentconfig.go
    KubeletConfigSpec, which has no reservedSystemCPUs, only kubeReserved and systemReserved; nodeup/pkg/model/kubelet.go).
    """
    unsaid = [
        f"{name} {value}"
        for name, value in node.settings.items()
        if name not in (*_KOPS_FIELDS, "reservedSystemCPUs") and value != DEFAULTS[name]
    ]
    found = [problems.kops_cannot_say(unsaid)] if unsaid else []
    reserved = parse_cpuset(node.settings["reservedSystemCPUs"])
    try:
        picked = reserved_of(machine_of(node.topology), node.minor, frozenset(), len(reserved))
    except AllocationError:  # choose_settings has refused a machine whose CPUs the kubelet cannot count
        picked = frozenset()
    if picked != reserved:
        found.append(problems.kops_cannot_name_cpus(format_cpuset(reserved), format_cpuset(picked)))
    kubelet = {name: node.settings[name] for name in _KOPS_FIELDS if name in node.settings}
    content = {
        "apiVersion": "kops.k8s.io/v1alpha2",
        "kind": "InstanceGroup",
        "metadata": {"name": node.name},
        "spec": {"kubelet": {**kubelet, "kubeReserved": {"cpu": str(len(reserved))}}},
    }
    note = (
        "kOps cannot name the reserved CPUs. The kubelet picks them by their number, and on these machines it picks "
        f"{format_cpuset(reserved)}. The cluster's spec must not set systemReserved.cpu, which would be added."
    )
    return Emitted([File("instancegroup.yaml", _yaml(node, content))] if not found else [], found, [note])


def talos(node: NodeSettings) -> Emitted:
    """A machine configuration patch (siderolabs/talos@ad88231: pkg/machinery/kubelet/kubelet.go, whose
    ProtectedConfigurationFields has none of these)."""
    content = {"machine": {"kubelet": {"extraConfig": node.settings}}}
    return Emitted([File("talos-patch.yaml", _yaml(node, content))])


def openshift(node: NodeSettings) -> Emitted:
    """A KubeletConfig (openshift/machine-config-operator@7ff337a: docs/KubeletConfigDesign.md, and
    pkg/controller/kubelet-config/helpers.go, which clears systemReservedCgroup if reservedSystemCPUs is set)."""
    content = {
        "apiVersion": "machineconfiguration.openshift.io/v1",
        "kind": "KubeletConfig",
        "metadata": {"name": node.name},
        "spec": {
            "machineConfigPoolSelector": {
                "matchLabels": {f"pools.operator.machineconfiguration.openshift.io/{node.name}": ""}
            },
            "kubeletConfig": node.settings,
        },
    }
    return Emitted(
        [File("kubeletconfig.yaml", _yaml(node, content))],
        notes=[
            "The object also applies to nodes that are in the pool already: the Machine Config Operator drains and reboots them."
        ],
    )


FORMATS: Mapping[str, Format] = {
    "drop-in": Format(
        drop_in,
        "Put the files into the image of new kubeadm nodes, before the kubelet's first start.",
        places_files=True,
    ),
    "kubeadm-patch": Format(
        kubeadm_patch,
        "Put it into a folder FOLDER on new nodes and run `kubeadm join --patches FOLDER`, and every `kubeadm upgrade node` with the same "
        "option.",
    ),
    "kubespray": Format(kubespray, "Copy it to the inventory, with new nodes in a group of the file's name."),
    "rke2": Format(rke2, "Put it on new nodes before the first start of rke2-agent.", places_files=True),
    "k3s": Format(k3s, "Put it on new nodes before the first start of k3s-agent.", places_files=True),
    "microk8s": Format(
        microk8s,
        "Put it on new nodes as /etc/microk8s.yaml before the snap is installed. The file replaces the snap's own, so add what "
        "your nodes have there, such as --cluster-dns and addons.",
    ),
    "k8s-snap": Format(
        k8s_snap,
        "Give it to new nodes when they join: `k8s join-cluster --file configuration.yaml TOKEN`. Merge it with the file that "
        "you already use.",
    ),
    "k0s": Format(
        k0s,
        "Add the profile to the controllers' k0s.yaml, apply that, and join new nodes with `k0s worker --profile {name}`.",
        frozenset(_K0S_CLEARED),
    ),
    "eks-nodeadm": Format(
        eks_nodeadm,
        "Add it to the user data of the launch template or EC2NodeClass, as a MIME part of type application/node.eks.aws, or "
        "put it into /etc/eks/nodeadm.d of the image.",
        frozenset(_EKS_CLEARED),
    ),
    "cluster-api": Format(
        cluster_api,
        "Merge it into the KubeadmConfigTemplate of the machine deployment, which replaces its machines.",
        places_files=True,
    ),
    "kops": Format(kops, "Merge it into the instance group: `kops edit instancegroup {name}`."),
    "talos": Format(
        talos,
        "Patch a copy of the cluster's worker configuration, and use it for new nodes: `talosctl machineconfig patch "
        "worker.yaml --patch @talos-patch.yaml --output {name}.yaml`.",
    ),
    "openshift": Format(
        openshift,
        "Label the machine config pool of new nodes with pools.operator.machineconfiguration.openshift.io/{name}, then apply it.",
        frozenset({"systemReservedCgroup"}),
    ),
    "cloud-init": Format(
        cloud_init, "Use it as user data of new kubeadm nodes, or merge it into theirs.", places_files=True
    ),
}
"""Name -> format, in the order in which they are listed."""
