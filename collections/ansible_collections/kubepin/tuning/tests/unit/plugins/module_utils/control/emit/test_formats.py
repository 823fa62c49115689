# SPDX-License-Identifier: GPL-3.0-or-later
"""Each format as its reader gets it: the text, what the kubelet makes of it, and what cannot be said."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import pytest
import yaml
from ansible_collections.kubepin.tuning.plugins.module_utils.common.kubelet.flags import (
    extra_args_of,
    fields_from_flags,
)
from ansible_collections.kubepin.tuning.plugins.module_utils.control.cpus.topology import Topology
from ansible_collections.kubepin.tuning.plugins.module_utils.control.emit.formats import FORMATS
from ansible_collections.kubepin.tuning.plugins.module_utils.control.emit.node_settings import NodeSettings
from ansible_collections.kubepin.tuning.plugins.module_utils.control.kubelet.decode import decode, decode_value
from ansible_collections.kubepin.tuning.plugins.module_utils.node.readers.system_files import Memory
from ansible_collections.kubepin.tuning.plugins.module_utils.node.readers.topology import topology_of

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
    ("k0s", "k0s.yaml"): """\
apiVersion: k0s.k0sproject.io/v1beta1
kind: ClusterConfig
metadata:
  name: k0s
spec:
  workerProfiles:
  - name: gpu-nodes
    values:
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


def _content(texts: Mapping[str, str]) -> Any:
    (text,) = texts.values()
    return yaml.safe_load(text)


def _kubespray(texts: Mapping[str, str]) -> Any:
    """As kubespray's template kubelet-config.v1beta1.yaml.j2 writes the variables."""
    variables = _content(texts)
    names = {
        "kubelet_cpu_manager_policy": "cpuManagerPolicy",
        "kubelet_cpu_manager_policy_options": "cpuManagerPolicyOptions",
        "kubelet_topology_manager_policy": "topologyManagerPolicy",
        "kubelet_topology_manager_scope": "topologyManagerScope",
    }
    extra = variables.pop("kubelet_config_extra_args")
    return {**extra, **{names[name]: value for name, value in variables.items()}}


def _patch_of_cluster_api(texts: Mapping[str, str]) -> Any:
    spec = _content(texts)["spec"]["template"]["spec"]
    (file,) = spec["files"]
    folder, _slash, name = file["path"].rpartition("/")
    assert spec["joinConfiguration"]["patches"]["directory"] == folder
    assert name == next(iter(emitted("kubeadm-patch")))
    return yaml.safe_load(file["content"])


def _first_of_cloud_init(texts: Mapping[str, str]) -> Any:
    (text,) = texts.values()
    assert text.startswith("#cloud-config\n")
    drop_in, extra_args = yaml.safe_load(text)["write_files"]
    assert extra_args_of(extra_args["content"]) == [f"--config-dir={drop_in['path'].rpartition('/')[0]}"]
    return yaml.safe_load(drop_in["content"])


READERS: Mapping[str, Callable[[Mapping[str, str]], Any]] = {
    "drop-in": lambda texts: yaml.safe_load(texts["etc/kubernetes/kubelet.conf.d/90-kubepin.conf"]),
    "kubeadm-patch": _content,
    "kubespray": _kubespray,
    "rke2": lambda texts: yaml.safe_load(texts["var/lib/rancher/rke2/agent/etc/kubelet.conf.d/90-kubepin.conf"]),
    "k3s": lambda texts: yaml.safe_load(texts["var/lib/rancher/k3s/agent/etc/kubelet.conf.d/90-kubepin.conf"]),
    "k0s": lambda texts: _content(texts)["spec"]["workerProfiles"][0]["values"],
    "eks-nodeadm": lambda texts: _content(texts)["spec"]["kubelet"]["config"],
    "cluster-api": _patch_of_cluster_api,
    "talos": lambda texts: _content(texts)["machine"]["kubelet"]["extraConfig"],
    "openshift": lambda texts: _content(texts)["spec"]["kubeletConfig"],
    "cloud-init": _first_of_cloud_init,
}
"""Format -> what arrives at the kubelet as configuration."""


def test_every_format_but_kops_can_say_everything() -> None:
    assert set(READERS) == set(FORMATS) - {"kops"}


@pytest.mark.parametrize("name", READERS)
def test_every_setting_arrives_as_the_kubelet_takes_it(name: str) -> None:
    said = {"apiVersion": "kubelet.config.k8s.io/v1beta1", "kind": "KubeletConfiguration"}
    fields, problems = decode_value({**said, **READERS[name](emitted(name))}, name, "1.36.3")
    cleared = dict.fromkeys(FORMATS[name].cleared, "") if name == "eks-nodeadm" else {}
    assert problems == []
    assert fields == {**SETTINGS, **cleared}


@pytest.mark.parametrize("name", ["drop-in", "rke2", "k3s"])
def test_a_drop_in_is_strictly_what_the_kubelet_decodes(name: str) -> None:
    (text,) = (text for path, text in emitted(name).items() if path.endswith(".conf"))
    assert decode(text, name, "1.36.3", drop_in=True) == (SETTINGS, [])


def as_fields(arguments: list[str]) -> Any:
    return fields_from_flags(["kubelet", *arguments])


OLD = replace(NODE, version="1.29.14")


@pytest.mark.parametrize("name", ["rke2", "k3s"])
def test_below_1_32_rke2_and_k3s_get_flags_that_are_appended(name: str) -> None:
    (path,) = emitted(name, replace(NODE, version="1.31.5"))
    assert path == f"etc/rancher/{name}/config.yaml.d/90-kubepin.yaml"
    arguments = _content(emitted(name, replace(NODE, version="1.31.5")))["kubelet-arg+"]
    assert arguments[:3] == [
        "cpu-manager-policy=static",
        "cpu-manager-policy-options=full-pcpus-only=true",
        "reserved-cpus=0,128",
    ]
    assert as_fields([f"--{argument}" for argument in arguments]) == SETTINGS


def test_below_1_30_a_kubeadm_node_gets_flags() -> None:
    texts = emitted("drop-in", OLD)
    assert list(texts) == ["etc/default/kubelet"]
    assert as_fields(extra_args_of(texts["etc/default/kubelet"])) == SETTINGS
    (file,) = yaml.safe_load(emitted("cloud-init", OLD)["user-data.yaml"])["write_files"]
    assert (file["path"], file["permissions"]) == ("/etc/default/kubelet", "0644")
    assert as_fields(extra_args_of(file["content"])) == SETTINGS


@pytest.mark.parametrize(
    ("name", "version"),
    [("kubeadm-patch", "1.24.17"), ("cluster-api", "1.24.17"), ("rke2", "1.21.14"), ("k3s", "1.21.14")],
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
