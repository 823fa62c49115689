# SPDX-License-Identifier: GPL-3.0-or-later
"""Each format as its reader gets it: the text, what the kubelet makes of it, and what cannot be said."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import yaml
from ansible_collections.kubepin.tuning.plugins.module_utils.common.kubelet.flags import fields_from_flags
from ansible_collections.kubepin.tuning.plugins.module_utils.control.cpus.topology import Topology
from ansible_collections.kubepin.tuning.plugins.module_utils.control.emit.formats import FORMATS
from ansible_collections.kubepin.tuning.plugins.module_utils.control.emit.node_settings import NodeSettings
from ansible_collections.kubepin.tuning.plugins.module_utils.control.kubelet.decode import decode, decode_value
from ansible_collections.kubepin.tuning.plugins.module_utils.node.readers.system_files import Memory
from ansible_collections.kubepin.tuning.plugins.module_utils.node.readers.topology import topology_of

from tests.emitted import delivered
from tests.topologies import MACHINES, tree

SETTINGS: dict[str, Any] = {
    "cpuManagerPolicy": "static",
    "cpuManagerPolicyOptions": {"full-pcpus-only": "true"},
    "reservedSystemCPUs": "0,128",
    "topologyManagerPolicy": "restricted",
    "topologyManagerScope": "pod",
    "memoryManagerPolicy": "Static",
    "reservedMemory": [
        {"numaNode": 0, "limits": {"memory": "100Mi"}},
        {"numaNode": 1, "limits": {"memory": "1Gi"}},
    ],
}
KIND = {"apiVersion": "kubelet.config.k8s.io/v1beta1", "kind": "KubeletConfiguration"}
SIMPLE = {"cpuManagerPolicy": "static", "reservedSystemCPUs": "0,128", "topologyManagerPolicy": "restricted"}
NODE = NodeSettings(
    name="gpu-nodes",
    nodes=("gpu-01", "gpu-02"),
    version="1.36.3",
    settings=SETTINGS,
    reservation="1 core, L3 0, NUMA 0, no GPU",
    topology=Topology.of(topology_of(Memory(tree(MACHINES["epyc-7773x-nps1"])))),
    notes=(),
)
HEADER = """\
# Written by kubepin for new nodes like gpu-01, gpu-02, with kubelet 1.36.3.
# reservedSystemCPUs 0,128 (1 core, L3 0, NUMA 0, no GPU) is right only for machines with these CPUs:
# 0-255 in 128 cores, 2 sockets and 2 NUMA nodes.
"""


def emitted(name: str, node: NodeSettings = NODE) -> dict[str, str]:
    written = FORMATS[name].write(node)
    assert written.problems == []
    return {file.path: file.text for file in written.files}


def codes(name: str, node: NodeSettings) -> list[str]:
    written = FORMATS[name].write(node)
    assert written.files == []
    return [problem.code for problem in written.problems]


TEXTS = {
    ("drop-in", "etc/kubernetes/kubelet.conf.d/90-kubepin.conf"): """\
# Written by kubepin (module kubepin.tuning.kubelet_cpu_manager), which replaces it as a whole.
apiVersion: kubelet.config.k8s.io/v1beta1
kind: KubeletConfiguration
cpuManagerPolicy: "static"
reservedSystemCPUs: "0,128"
topologyManagerPolicy: "restricted"
""",
    ("drop-in", "etc/default/kubelet"): """\
KUBELET_EXTRA_ARGS=--config-dir=/etc/kubernetes/kubelet.conf.d
""",
    ("kubeadm-patch", "kubeletconfiguration90+strategic.yaml"): """\
apiVersion: kubelet.config.k8s.io/v1beta1
kind: KubeletConfiguration
cpuManagerPolicy: static
reservedSystemCPUs: "0,128"
topologyManagerPolicy: restricted
""",
    ("kubespray", "group_vars/gpu_nodes.yml"): """\
kubelet_cpu_manager_policy: static
kubelet_topology_manager_policy: restricted
kubelet_config_extra_args:
  reservedSystemCPUs: "0,128"
""",
    ("microk8s", "microk8s.yaml"): """\
version: "0.1.0"
extraKubeletArgs:
  --cpu-manager-policy: static
  --reserved-cpus: "0,128"
  --topology-manager-policy: restricted
""",
    ("k8s-snap", "configuration.yaml"): """\
extra-node-kubelet-args:
  --cpu-manager-policy: static
  --reserved-cpus: "0,128"
  --topology-manager-policy: restricted
""",
    ("k0s", "k0s.yaml"): """\
apiVersion: k0s.k0sproject.io/v1beta1
kind: ClusterConfig
metadata:
  name: k0s
spec:
  workerProfiles:
  - name: gpu-nodes
    values:
      kubeReservedCgroup: ""
      cpuManagerPolicy: static
      reservedSystemCPUs: "0,128"
      topologyManagerPolicy: restricted
""",
    ("eks-nodeadm", "nodeconfig.yaml"): """\
apiVersion: node.eks.aws/v1alpha1
kind: NodeConfig
spec:
  kubelet:
    config:
      kubeReservedCgroup: ""
      systemReservedCgroup: ""
      cpuManagerPolicy: static
      reservedSystemCPUs: "0,128"
      topologyManagerPolicy: restricted
""",
    ("kops", "instancegroup.yaml"): """\
apiVersion: kops.k8s.io/v1alpha2
kind: InstanceGroup
metadata:
  name: gpu-nodes
spec:
  kubelet:
    cpuManagerPolicy: static
    topologyManagerPolicy: restricted
    kubeReserved:
      cpu: "2"
""",
    ("talos", "talos-patch.yaml"): """\
machine:
  kubelet:
    extraConfig:
      cpuManagerPolicy: static
      reservedSystemCPUs: "0,128"
      topologyManagerPolicy: restricted
""",
    ("openshift", "kubeletconfig.yaml"): """\
apiVersion: machineconfiguration.openshift.io/v1
kind: KubeletConfig
metadata:
  name: gpu-nodes
spec:
  machineConfigPoolSelector:
    matchLabels:
      pools.operator.machineconfiguration.openshift.io/gpu-nodes: ""
  kubeletConfig:
    cpuManagerPolicy: static
    reservedSystemCPUs: "0,128"
    topologyManagerPolicy: restricted
""",
}


@pytest.mark.parametrize(("name", "path"), TEXTS, ids=[f"{name} {path}" for name, path in TEXTS])
def test_a_file_reads_as_its_user_expects(name: str, path: str) -> None:
    assert emitted(name, replace(NODE, settings=SIMPLE))[path] == HEADER + TEXTS[name, path]


def test_an_older_cluster_api_is_told_its_version() -> None:
    (note,) = FORMATS["cluster-api"].write(NODE).notes
    assert note == "v1beta2 came with Cluster API 1.11: with an older one, change the apiVersion to v1beta1."


def test_new_talos_nodes_join_the_cluster_that_there_is() -> None:
    """`talosctl gen config` makes a new cluster's secrets."""
    assert "gen config" not in FORMATS["talos"].use
    assert "`talosctl machineconfig patch worker.yaml --patch @talos-patch.yaml" in FORMATS["talos"].use


SNAPS = ("microk8s", "k8s-snap")
EMPTIED = {"eks-nodeadm": ("kubeReservedCgroup", "systemReservedCgroup"), "k0s": ("kubeReservedCgroup",)}
"""What an installer sets otherwise, and with which the kubelet refuses reservedSystemCPUs."""


@pytest.mark.parametrize("name", [name for name in FORMATS if name not in ("kops", *SNAPS)])
def test_every_setting_arrives_as_the_kubelet_takes_it(name: str) -> None:
    delivery = delivered(name, emitted(name))
    said = yaml.safe_load(delivery.drop_in) if delivery.drop_in else {**KIND, **delivery.config}
    fields, problems = decode_value(said, name, "1.36.3")
    emptied = dict.fromkeys(EMPTIED.get(name, ()), "")
    assert problems == []
    assert fields == {**SETTINGS, **emptied}


@pytest.mark.parametrize("name", ["drop-in", "rke2", "k3s"])
def test_a_drop_in_is_strictly_what_the_kubelet_decodes(name: str) -> None:
    (text,) = (text for path, text in emitted(name).items() if path.endswith(".conf"))
    assert decode(text, name, "1.36.3", drop_in=True) == (SETTINGS, [])


@pytest.mark.parametrize("name", SNAPS)
def test_a_snap_gets_each_flag_once(name: str) -> None:
    flags = delivered(name, emitted(name)).flags
    assert len({flag.partition("=")[0] for flag in flags}) == len(flags)
    assert "--reserved-memory=0:memory=100Mi;1:memory=1Gi" in flags
    assert fields_from_flags(["kubelet", *flags]) == SETTINGS


@pytest.mark.parametrize("name", SNAPS)
def test_a_snap_cannot_set_two_policy_options(name: str) -> None:
    options = {"full-pcpus-only": "true", "strict-cpu-reservation": "true"}
    node = replace(NODE, settings={**SETTINGS, "cpuManagerPolicyOptions": options})
    assert codes(name, node) == ["format_cannot_say"]
    (problem,) = FORMATS[name].write(node).problems
    assert "full-pcpus-only, strict-cpu-reservation" in problem.text


OLD = replace(NODE, version="1.29.14")


@pytest.mark.parametrize("name", ["rke2", "k3s"])
def test_below_1_32_rke2_and_k3s_get_flags_that_are_appended(name: str) -> None:
    files = emitted(name, replace(NODE, version="1.31.5"))
    assert list(files) == [f"etc/rancher/{name}/config.yaml.d/90-kubepin.yaml"]
    flags = delivered(name, files).flags
    assert flags[:3] == (
        "--cpu-manager-policy=static",
        "--cpu-manager-policy-options=full-pcpus-only=true",
        "--reserved-cpus=0,128",
    )
    assert fields_from_flags(["kubelet", *flags]) == SETTINGS


@pytest.mark.parametrize(("name", "path"), [("drop-in", "etc/default/kubelet"), ("cloud-init", "user-data.yaml")])
def test_below_1_30_a_kubeadm_node_gets_flags(name: str, path: str) -> None:
    files = emitted(name, OLD)
    assert list(files) == [path]
    assert fields_from_flags(["kubelet", *delivered(name, files).flags]) == SETTINGS


def test_user_data_is_a_cloud_config_of_files_that_everyone_can_read() -> None:
    text = emitted("cloud-init")["user-data.yaml"]
    assert text.startswith("#cloud-config\n")
    assert [(file["path"], file["permissions"]) for file in yaml.safe_load(text)["write_files"]] == [
        ("/etc/kubernetes/kubelet.conf.d/90-kubepin.conf", "0644"),
        ("/etc/default/kubelet", "0644"),
    ]


@pytest.mark.parametrize(
    ("name", "version"),
    [
        ("kubeadm-patch", "1.24.17"),
        ("cluster-api", "1.24.17"),
        ("rke2", "1.21.14"),
        ("k3s", "1.21.14"),
        ("microk8s", "1.26.15"),
        ("k8s-snap", "1.29.14"),
    ],
)
def test_a_version_without_the_mechanism_is_a_problem_with_a_way_out(name: str, version: str) -> None:
    node = replace(NODE, version=version)
    assert codes(name, node) == ["format_too_new"]
    (problem,) = FORMATS[name].write(node).problems
    assert version in problem.text
    assert problem.remedy


def test_kops_says_what_it_has_no_place_for() -> None:
    assert codes("kops", NODE) == ["format_cannot_say"]
    (problem,) = FORMATS["kops"].write(NODE).problems
    for name in ("cpuManagerPolicyOptions", "topologyManagerScope pod", "memoryManagerPolicy Static", "reservedMemory"):
        assert name in problem.finding


def test_kops_is_refused_cpus_that_the_kubelet_would_not_pick_by_their_number() -> None:
    node = replace(NODE, settings={**SIMPLE, "reservedSystemCPUs": "1,129"})
    assert codes("kops", node) == ["format_cannot_name_cpus"]
    (problem,) = FORMATS["kops"].write(node).problems
    assert "would then reserve 0,128 instead of 1,129" in problem.text


def test_defaults_are_no_loss_for_kops() -> None:
    node = replace(NODE, settings={**SIMPLE, "topologyManagerScope": "container", "memoryManagerPolicy": "None"})
    assert set(yaml.safe_load(emitted("kops", node)["instancegroup.yaml"])["spec"]["kubelet"]) == {
        "cpuManagerPolicy",
        "topologyManagerPolicy",
        "kubeReserved",
    }
