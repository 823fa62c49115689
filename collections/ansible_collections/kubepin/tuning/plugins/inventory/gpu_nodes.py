# GNU General Public License v3.0+ (https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# mypy: disable-error-code="no-untyped-call"

from __future__ import annotations

DOCUMENTATION = r"""
---
name: gpu_nodes
short_description: Find the nodes of a Kubernetes cluster, GPU nodes first
version_added: 1.0.0
author: The kubepin developers (@kubepin)
description:
  - Reads the nodes from the API and groups them as kubepin's playbooks expect - V(control_plane), V(gpu_nodes),
    V(other_nodes).
  - A control plane node is in none of the other groups, whether it has GPUs or not.
  - Also groups them by GPU model (C(gpu_nvidia_a100_sxm4_80gb), from the label C(nvidia.com/gpu.product)), by kubelet
    version (C(kubelet_1_22_17)), and by what the API knows about their CPUs (C(cpu_256_amd_25_1_smt_numa)).
  - The API knows the number of CPUs. Labels of Node Feature Discovery add their vendor, family and model, whether a
    core has several threads, and whether there is more than one NUMA node. The API does not know sockets, L3 groups,
    CPU numbers, or which CPUs are near a GPU; M(kubepin.tuning.cpu_topology_info) reads these on the node.
  - The file's name must end in C(gpu_nodes.yml) or C(gpu_nodes.yaml).
extends_documentation_fragment:
  - ansible.builtin.constructed
  - ansible.builtin.inventory_cache
options:
  plugin:
    description: V(kubepin.tuning.gpu_nodes).
    type: str
    required: true
    choices: [kubepin.tuning.gpu_nodes]
  kubeconfig:
    description:
      - Path of the kubeconfig. The hosts get it as C(kubepin_kubeconfig), so that the playbooks use the same cluster.
      - Without it, E(K8S_AUTH_KUBECONFIG), then E(KUBECONFIG), then C(~/.kube/config).
    type: path
    env:
      - name: K8S_AUTH_KUBECONFIG
  context:
    description: Context of the kubeconfig. Without it, E(K8S_AUTH_CONTEXT), then the kubeconfig's current context.
    type: str
    env:
      - name: K8S_AUTH_CONTEXT
  gpu_resource_prefixes:
    description:
      - Prefixes of GPU resource names. V(nvidia.com/) stands for the names of NVIDIA's GPUs, C(nvidia.com/gpu*) and
        C(nvidia.com/mig-*), and not for network devices such as C(nvidia.com/hostdev).
    type: list
    elements: str
    default: [nvidia.com/]
  gpu_labels:
    description: A node with any of these labels is a GPU node even if its device plugin offers nothing at present.
    type: dict
    default: {nvidia.com/gpu.present: "true"}
  address_types:
    description: Types of addresses in order of preference; the first that a node has becomes C(ansible_host).
    type: list
    elements: str
    default: [InternalIP, ExternalIP, Hostname]
requirements:
  - kubernetes (Python library)
  - permission to list nodes
"""

EXAMPLES = r"""
# lab.gpu_nodes.yml: ansible-inventory -i lab.gpu_nodes.yml --graph
plugin: kubepin.tuning.gpu_nodes
kubeconfig: ~/.kube/lab.conf
# ten minutes is short enough for nodes that come and go
cache: true
cache_plugin: ansible.builtin.jsonfile
cache_connection: ~/.cache/ansible
cache_timeout: 600
compose:
  # variables that the playbooks read, computed from the node's facts
  cpu_manager_reserved_cpu_count: 4 if kubepin_node.cpu.capacity >= 128 else 2
  ansible_user: "'admin'"
keyed_groups:
  - key: kubepin_node.labels['topology.kubernetes.io/zone'] | default('none')
    prefix: zone
"""

from typing import Any, cast

from ansible.errors import AnsibleParserError
from ansible.plugins.inventory import BaseInventoryPlugin, Cacheable, Constructable
from ansible_collections.kubepin.tuning.plugins.module_utils.common.errors import TuningError
from ansible_collections.kubepin.tuning.plugins.module_utils.control.cluster.api import IMPORT_ERROR, KubernetesApi
from ansible_collections.kubepin.tuning.plugins.module_utils.control.cluster.inventory import (
    address,
    groups,
    node_facts,
)

Nodes = list[dict[str, Any]]


class InventoryModule(BaseInventoryPlugin, Constructable, Cacheable):
    """The nodes of one cluster."""

    inventory: Any
    NAME = "kubepin.tuning.gpu_nodes"

    def verify_file(self, path: str) -> bool:
        """Whether the file's name says that it is meant for this plugin."""
        return bool(super().verify_file(path)) and path.endswith(("gpu_nodes.yml", "gpu_nodes.yaml"))

    def parse(self, inventory: Any, loader: Any, path: str, cache: bool = True) -> None:
        """Add the nodes to the inventory."""
        super().parse(inventory, loader, path, cache)
        self._read_config_data(path)
        for group in ("control_plane", "gpu_nodes", "other_nodes"):
            self.inventory.add_group(group)
        if self.get_option("kubeconfig"):
            self.inventory.set_variable("all", "kubepin_kubeconfig", self.get_option("kubeconfig"))
        for node in self._nodes(path, cache):
            self._add(node)

    def _nodes(self, path: str, cache: bool) -> Nodes:
        """The node objects, from the cache if it is enabled and has them."""
        self.load_cache_plugin()
        key = self.get_cache_key(path)
        may_read = cache and self.get_option("cache")
        if may_read and key in self._cache:
            return cast("Nodes", self._cache[key])
        nodes = self._ask()
        if self.get_option("cache"):
            self._cache[key] = nodes
        return nodes

    def _ask(self) -> Nodes:
        """:raises AnsibleParserError: if the API cannot be read"""
        if IMPORT_ERROR:
            raise AnsibleParserError(
                "kubepin.tuning.gpu_nodes needs the Python library `kubernetes` on the control node."
            )
        try:
            return KubernetesApi(self.get_option("kubeconfig"), self.get_option("context")).nodes()
        except TuningError as error:
            raise AnsibleParserError(f"kubepin.tuning.gpu_nodes: {error}") from error

    def _add(self, node: dict[str, Any]) -> None:
        name = self.inventory.add_host(node["metadata"]["name"])
        facts = node_facts(node, self.get_option("gpu_resource_prefixes"))
        self.inventory.set_variable(name, "kubepin_node_name", name)
        self.inventory.set_variable(name, "kubepin_node", facts)
        reached_at = address(facts, self.get_option("address_types"))
        if reached_at:
            self.inventory.set_variable(name, "ansible_host", reached_at)
        for group in groups(facts, self.get_option("gpu_labels")):
            self.inventory.add_child(self.inventory.add_group(group), name)
        variables = self.inventory.get_host(name).get_vars()
        strict = self.get_option("strict")
        self._set_composite_vars(self.get_option("compose"), variables, name, strict=strict)
        variables = self.inventory.get_host(name).get_vars()
        self._add_host_to_composed_groups(self.get_option("groups"), variables, name, strict=strict)
        self._add_host_to_keyed_groups(self.get_option("keyed_groups"), variables, name, strict=strict)
