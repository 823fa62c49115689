#!/usr/bin/python
# GNU General Public License v3.0+ (https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
---
module: node_api_info
short_description: Read nodes from the Kubernetes API
version_added: 1.0.0
author: The kubepin developers (@kubepin)
description:
  - Reads a node object, the configuration that its kubelet runs with, and what a drain of the node would do. Reading
    many nodes at once is much cheaper than one at a time.
  - Lists every reason why a drain could not finish, without evicting anything.
  - Can wait until the node reaches a state, and lists what is missing if it does not.
  - Runs on the control node and changes nothing.
extends_documentation_fragment:
  - kubepin.tuning.attributes
  - kubepin.tuning.api
attributes:
  check_mode:
    support: full
  diff_mode:
    support: none
options:
  node:
    description: The node's name in Kubernetes. Either this or O(nodes).
    type: str
  nodes:
    description:
      - Many nodes. The module succeeds even if some of them cannot be read.
      - They are listed, 250 in a request.
    type: list
    elements: dict
    suboptions:
      node:
        description: As O(node).
        type: str
        required: true
      gpu_resource:
        description: As O(gpu_resource).
        type: str
        default: nvidia.com/gpu
      settle:
        description:
          - How long to wait, in seconds, for a node that is not Ready because its kubelet was started a moment ago, and for
            O(nodes[].gpus). The node is read after that, whatever it shows.
        type: int
        default: 0
      gpus:
        description: How many of O(nodes[].gpu_resource) to wait for.
        type: int
        default: 0
      configz:
        description: Whether to read RV(node.configz), with one more request, unless the node is not Ready.
        type: bool
        default: false
      containers:
        description: Whether to read RV(node.containers), with another request.
        type: bool
        default: false
      drain:
        description: As O(drain).
        type: dict
        suboptions:
          delete_emptydir_data:
            description: As O(drain.delete_emptydir_data).
            type: bool
            default: false
          force:
            description: As O(drain.force).
            type: bool
            default: false
      work:
        description: As O(work).
        type: dict
        suboptions:
          purpose:
            description: As O(work.purpose).
            type: str
            required: true
          run:
            description: As O(work.run).
            type: str
            default: ""
  gpu_resource:
    description:
      - Name of the extended resource that counts the node's GPUs.
      - With V(auto), the one of which the node offers most, among C(nvidia.com/gpu) and C(nvidia.com/mig-*).
    type: str
    default: nvidia.com/gpu
  drain:
    description: What a drain may do to the node's pods, for RV(node.drain).
    type: dict
    suboptions:
      delete_emptydir_data:
        description: Pods may lose what they keep in emptyDir volumes.
        type: bool
        default: false
      force:
        description: Pods that no controller would start again may be deleted.
        type: bool
        default: false
  work:
    description: The work that is planned for the node, for RV(node.work).
    type: dict
    suboptions:
      purpose:
        description: As in O(kubepin.tuning.node_drain#module:cordon_as).
        type: str
        required: true
      run:
        description: The name of this run.
        type: str
        default: ""
  wait_for:
    description:
      - Poll every second until all of these conditions hold, and fail with a list of those that do not after the
        timeout.
      - An API server that does not answer during this time is not an error.
      - Only with O(node).
    type: dict
    suboptions:
      ready:
        description: The node is Ready, or is not.
        type: bool
      kubelet_version:
        description: The kubelet's version, such as C(v1.36.3).
        type: str
        version_added: 1.2.0
      cpu_manager_policy:
        description: C(cpuManagerPolicy) of the configuration that the kubelet runs with.
        type: str
      topology_manager_policy:
        description: C(topologyManagerPolicy) in the same configuration.
        type: str
        version_added: 1.0.0
      memory_manager_policy:
        description: C(memoryManagerPolicy) in the same configuration; V(None) if the kubelet has no memory manager.
        type: str
        version_added: 1.0.0
      allocatable_cpu:
        description: Exactly this many CPUs are allocatable.
        type: int
      gpu:
        description: At least this many of O(gpu_resource) are allocatable.
        type: int
      reported_since:
        description:
          - The kubelet has reported the node's status since this time, by the node's own clock, in seconds since 1970.
          - Otherwise the status may be stale, because the API server was unavailable or the restarted kubelet has not
            reported yet.
        type: float
      timeout:
        description: How long to wait, in seconds.
        type: int
        default: 120
seealso:
  - module: kubernetes.core.k8s_drain
"""

EXAMPLES = r"""
- name: Show what a drain would do
  kubepin.tuning.node_api_info:
    node: gpu-01
    drain:
      delete_emptydir_data: true
  delegate_to: localhost
  register: api

- name: Show what a drain of each node would do
  kubepin.tuning.node_api_info:
    nodes:
      - {node: gpu-01, drain: {}}
      - {node: gpu-02, drain: {}, gpu_resource: amd.com/gpu}
  delegate_to: localhost

- name: Fail if the node cannot be drained
  ansible.builtin.assert:
    that: api.node.drain.problems | length == 0
    fail_msg: "{{ api.node.drain.problems | map(attribute='text') | join('\n') }}"

- name: Wait until the tuned node is back with all its GPUs
  kubepin.tuning.node_api_info:
    node: gpu-01
    kubeconfig: /etc/kubernetes/admin.conf
    wait_for:
      ready: true
      cpu_manager_policy: static
      allocatable_cpu: 254
      gpu: 8
      timeout: 180
  delegate_to: localhost
"""

RETURN = r"""
nodes:
  description: Name to RV(node) as C(node), or to C(msg), the reason why it cannot be read.
  returned: when O(nodes) is given
  type: dict
  sample: {gpu-01: {node: {schema: 1, name: gpu-01, ready: true}}, gpu-02: {msg: 'node "gpu-02" is not in the cluster of [...]'}}
node:
  description: The node in the API.
  returned: when O(node) is given
  type: dict
  contains:
    schema:
      description: Version of this structure.
      type: int
      sample: 1
    name:
      description: The node's name.
      type: str
      sample: gpu-01
    ready:
      description: Whether its condition Ready is true.
      type: bool
    reported_at:
      description: When the kubelet last reported the node's condition, by the node's clock, in whole seconds since
        1970. None if never.
      type: int
    ready_reason:
      description: Reason and message of that condition.
      type: str
      sample: "KubeletReady: kubelet is posting ready status"
    unschedulable:
      description: Whether it is cordoned.
      type: bool
    cordoned_by_kubepin:
      description: Whether a run of kubepin cordoned it, according to the annotation C(kubepin.io/cordoned).
      type: bool
    labelled:
      description: The CPU manager policy and the plan with which kubepin labelled it, null without a label. C(untuned)
        is whether it has the taint C(kubepin.io/untuned).
      type: dict
      sample: {policy: static, plan: 3f8a0c51d2b7, untuned: false}
    boot_id:
      description: ID of the machine's current boot.
      type: str
    kubelet_version:
      description: Version of its kubelet.
      type: str
      sample: v1.22.17
    gpu_resource:
      description: The resource that counts its GPUs.
      type: str
      sample: nvidia.com/gpu
    gpus_expected_by:
      description: Why the node should offer GPUs - V(device_plugin), which had registered some, even if it offers none
        now, V(label), which says that the node has GPUs, or null.
      type: str
      sample: device_plugin
    allocatable:
      description: What pods may request. C(cpu) is a string as in the API, C(gpu) a number (0 without GPUs).
      type: dict
      sample: {"cpu": "254", "gpu": 8}
    capacity:
      description: What the machine has, in the same form.
      type: dict
      sample: {"cpu": "256", "gpu": 8}
    configz:
      description: The configuration that the kubelet runs with. None if it cannot be read.
      type: dict
      sample: {"cpuManagerPolicy": "static", "reservedSystemCPUs": "0,128"}
    configz_error:
      description: Why RV(node.configz) is None. None if it is not.
      type: str
    addresses:
      description: The node's addresses.
      type: list
      elements: dict
      sample: [{"type": "InternalIP", "address": "10.0.0.11"}]
    taints:
      description: The node's taints.
      type: list
      elements: dict
    work:
      description: Who is working on the node. Only with O(work).
      type: dict
      contains:
        mark:
          description: The annotation C(kubepin.io/cordoned), None without it. Fields that it does not have are empty.
          type: dict
          sample:
            purpose: present
            run: 2026-11-27T09-33-02Z
            host: admin-1
            time: 1795771982
            expires: 1795774382
            process: "31c1a2c4-9ad1-4a9a-a5de-2d7f5b5f8f4d pid:[4026531836] 4711 1234567"
        resumable:
          description: Whether the mark is this run's, or that of an interrupted run of the same kind.
          type: bool
        problems:
          description: Why the node has to be left alone - another run of kubepin, or another program, works on it.
          type: list
          elements: dict
          sample:
            - code: node_in_maintenance
              subject: node gpu-01
              finding: is being worked on by Karpenter, as its taint karpenter.sh/disrupted says
              remedy: Wait until that is over, or leave the node out with --limit.
              waivable: true
              text: >-
                node gpu-01 is being worked on by Karpenter, as its taint karpenter.sh/disrupted says. Wait until that is
                over, or leave the node out with --limit.
        notes:
          description: Programs that may begin to work on the node.
          type: list
          elements: str
          sample: []
    containers:
      description:
        - The containers that run on the node. Only with O(nodes[].containers).
        - C(exclusive), C(pool) and C(reasons) are as in RV(kubepin.tuning.gpu_pod_info#module:pods[].containers), C(uid) is the
          one by which the kubelet knows the pod.
      type: list
      elements: dict
      sample:
        - namespace: ml
          pod: trainer-0
          uid: 3a1c2b7e-6f0e-4d0c-8a8e-0f5f0a1b2c3d
          name: main
          id: 0f2ab7...
          of_gpu_pod: true
          gpus: [nvidia.com/gpu]
          exclusive: false
          pool: node
          reasons: [fractional_cpu]
    drain:
      description: What a drain that ignores DaemonSets would do now. Only with O(drain).
      type: dict
      contains:
        evicted:
          description: Pods that have to leave the node, with the controller that owns them, if any.
          type: list
          elements: dict
          sample: [{"namespace": "ml", "name": "trainer-0", "owner": "StatefulSet/trainer"}]
        kept:
          description: Pods that stay, C(reason) being C(daemonset) or C(mirror).
          type: list
          elements: dict
          sample: [{"namespace": "kube-system", "name": "cni-x2x9c", "owner": "DaemonSet/cni", "reason": "daemonset"}]
        gpus_kept:
          description: How many GPUs are held by pods that stay.
          type: int
          sample: 0
        cpu_managers:
          description: Programs on the node that assign the CPUs of containers, as the static policy would, as problems.
          type: list
          elements: dict
          sample: []
        terminating:
          description: Pods that are already terminating.
          type: list
          elements: dict
          sample: []
        problems:
          description: Every reason why the drain cannot finish until a person acts. C(text) is for people, C(code) for
            programs.
          type: list
          elements: dict
          sample:
            - code: pod_without_controller
              subject: pod ml/tool
              finding: has no controller, so nothing would start it again
              remedy: "Delete it, allow its deletion with cpu_manager_drain_force: true, or leave the node out with --limit."
              waivable: false
              text: >-
                pod ml/tool has no controller, so nothing would start it again.
                Delete it, allow its deletion with cpu_manager_drain_force: true, or leave the node out with --limit.
        blocked:
          description: Every eviction that a disruption budget forbids now and may allow later, in the same form.
          type: list
          elements: dict
          sample:
            - code: budget_exhausted
              subject: pod ml/trainer-0
              finding: "cannot be evicted: disruption budget ml/trainer allows 0 (currently 1 healthy of 1 desired)"
              remedy: Scale its owner up, relax the budget, or leave the node out with --limit.
              waivable: false
              text: >-
                pod ml/trainer-0 cannot be evicted: disruption budget ml/trainer allows 0
                (currently 1 healthy of 1 desired). Scale its owner up, relax the budget,
                or leave the node out with --limit.
        notes:
          description: Pods that would be evicted although an annotation keeps autoscalers from it.
          type: list
          elements: str
          sample: []
waited_seconds:
  description: How long O(wait_for) took, in seconds.
  returned: when O(wait_for) is given
  type: float
  sample: 11.3
unmet:
  description: The conditions of O(wait_for) that did not hold, with the last values.
  returned: failure of O(wait_for)
  type: list
  elements: str
  sample: ["allocatable nvidia.com/gpu is 0, wanted at least 8"]
problems:
  description: Why the module failed, the first cause first, as C(code), C(subject), C(finding), C(remedy), C(waivable) and C(text).
  returned: failure
  type: list
  elements: dict
"""

import time
import typing as t
from concurrent.futures import ThreadPoolExecutor

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.kubepin.tuning.plugins.module_utils.common.errors import TuningError
from ansible_collections.kubepin.tuning.plugins.module_utils.common.problem import to_dicts
from ansible_collections.kubepin.tuning.plugins.module_utils.control.check.pods import running_containers
from ansible_collections.kubepin.tuning.plugins.module_utils.control.cluster import problems
from ansible_collections.kubepin.tuning.plugins.module_utils.control.cluster.api import (
    API_ARGUMENTS,
    ApiError,
    KubernetesApi,
    connect,
)
from ansible_collections.kubepin.tuning.plugins.module_utils.control.cluster.cpu_managers import other_cpu_managers
from ansible_collections.kubepin.tuning.plugins.module_utils.control.cluster.drain import plan_drain
from ansible_collections.kubepin.tuning.plugins.module_utils.control.cluster.gpu_resources import DEFAULT_PREFIXES
from ansible_collections.kubepin.tuning.plugins.module_utils.control.cluster.mark import Mark
from ansible_collections.kubepin.tuning.plugins.module_utils.control.cluster.node import (
    just_started,
    node_facts,
    requested,
    unmet,
    work_facts,
)
from ansible_collections.kubepin.tuning.plugins.module_utils.control.cluster.process import is_running, this_process
from ansible_collections.kubepin.tuning.plugins.module_utils.control.gpu_access.node import node_from_api
from ansible_collections.kubepin.tuning.plugins.module_utils.control.module import Module

_AT_ONCE = 8
"""The number of nodes whose pods are read at the same time."""

_QUESTION: dict[str, t.Any] = {
    "gpu_resource": {"type": "str", "default": "nvidia.com/gpu"},
    "drain": {
        "type": "dict",
        "options": {
            "delete_emptydir_data": {"type": "bool", "default": False},
            "force": {"type": "bool", "default": False},
        },
    },
    "work": {
        "type": "dict",
        "options": {"purpose": {"type": "str", "required": True}, "run": {"type": "str", "default": ""}},
    },
}
_NAMED_QUESTION: dict[str, t.Any] = {
    **_QUESTION,
    "node": {"type": "str", "required": True},
    "configz": {"type": "bool", "default": False},
    "settle": {"type": "int", "default": 0},
    "gpus": {"type": "int", "default": 0},
    "containers": {"type": "bool", "default": False},
}
ARGUMENT_SPEC: dict[str, t.Any] = {
    **API_ARGUMENTS,
    **_QUESTION,
    "node": {"type": "str"},
    "nodes": {"type": "list", "elements": "dict", "options": _NAMED_QUESTION},
    "wait_for": {
        "type": "dict",
        "options": {
            "ready": {"type": "bool"},
            "kubelet_version": {"type": "str"},
            "cpu_manager_policy": {"type": "str"},
            "topology_manager_policy": {"type": "str"},
            "memory_manager_policy": {"type": "str"},
            "allocatable_cpu": {"type": "int"},
            "gpu": {"type": "int"},
            "reported_since": {"type": "float"},
            "timeout": {"type": "int", "default": 120},
        },
    },
}
OPTIONS: dict[str, t.Any] = {
    "argument_spec": ARGUMENT_SPEC,
    "required_one_of": [("node", "nodes")],
    "mutually_exclusive": [("node", "nodes"), ("nodes", "wait_for")],
}


_NOT_ASKED = "the kubelet was not asked"
_NOT_READY = "the kubelet was not asked, because the node is not Ready"


def read_node(api: KubernetesApi, name: str, gpu_resource: str, work: dict[str, str] | None = None) -> dict[str, t.Any]:
    """:raises ApiError: if the node cannot be read; an unreadable configz is part of the result"""
    node = api.node(name)
    return {**node_facts(node, *read_configz(api, name), gpu_resource), **in_hand(node, work)}


def read_configz(api: KubernetesApi, name: str) -> tuple[dict[str, t.Any] | None, str | None]:
    """The configuration that the node's kubelet runs with, or why it cannot be read."""
    try:
        return api.configz(name), None
    except ApiError as failed:
        return None, str(failed)


def in_hand(node: dict[str, t.Any], work: dict[str, str] | None) -> dict[str, t.Any]:
    """``work``, if requested."""
    if work is None:
        return {}
    mine = Mark(work["purpose"], work["run"], process=this_process())
    return {"work": work_facts(node, mine, time.time(), is_running)}


def wait(api: KubernetesApi, name: str, gpu_resource: str, wanted: dict[str, t.Any]) -> float:
    """Poll until all of *wanted* holds; returns the seconds it took.

    :raises TuningError: naming everything still missing after ``wanted["timeout"]`` seconds
    """
    started = time.monotonic()
    first: float | None = None
    while True:
        try:
            with api.until(started + wanted["timeout"]):
                facts = read_node(api, name, gpu_resource)
            first = facts["reported_at"] if first is None else first
            missing = unmet(facts, {**wanted, "first_report": first})
        except ApiError as error:
            missing = [str(error)]
        waited = time.monotonic() - started
        if not missing:
            return round(waited, 1)
        if waited > wanted["timeout"]:
            raise TuningError(problems.state_not_reached(name, wanted["timeout"], missing), unmet=missing)
        time.sleep(1)


def read_drain(
    api: KubernetesApi,
    question: dict[str, t.Any],
    gpu_resource: str,
    cluster: tuple[list[dict[str, t.Any]], set[tuple[str, str]]],
) -> dict[str, t.Any]:
    """What a drain of the node would do, with ``gpus_kept``, how many GPUs are held by pods that stay, and
    ``cpu_managers``, the problems with programs that assign CPUs beside the kubelet.

    :param cluster: all disruption budgets and DaemonSets
    :raises ApiError: if the node's pods cannot be read
    """
    pods = api.pods_on(question["node"])
    plan = plan_drain(pods, *cluster, **question["drain"])
    holders = requested(gpu_resource, pods)
    kept = sum(holders.get(f"{pod['namespace']}/{pod['name']}", 0) for pod in plan.kept)
    return {**plan.to_dict(), "gpus_kept": int(kept), "cpu_managers": to_dicts(other_cpu_managers(pods))}


def read_containers(
    api: KubernetesApi, node: dict[str, t.Any], configz: dict[str, t.Any] | None
) -> list[dict[str, t.Any]]:
    """The containers that run on the node.

    :raises ApiError: if the node's pods cannot be read
    """
    pods = api.pods_on(node["metadata"]["name"])
    return [each.to_dict() for each in running_containers(pods, node_from_api(node, configz), DEFAULT_PREFIXES)]


def read_one(api: KubernetesApi, question: dict[str, t.Any]) -> dict[str, t.Any]:
    """``node`` with the configuration that its kubelet runs with, and ``drain`` if requested.

    :raises ApiError: if the node cannot be read
    """
    node = read_node(api, question["node"], question["gpu_resource"], question["work"])
    if question["drain"] is not None:
        node["drain"] = read_drain(api, question, node["gpu_resource"], (api.disruption_budgets(), api.daemon_sets()))
    return node


def settled(api: KubernetesApi, question: dict[str, t.Any], node: dict[str, t.Any]) -> dict[str, t.Any]:
    """The node once its kubelet is back and offers the GPUs that are waited for, or as it is when that time is over.

    :raises ApiError: if it cannot be read
    """
    deadline = time.monotonic() + question.get("settle", 0)
    while time.monotonic() < deadline:
        offered = node_facts(node, None, None, question["gpu_resource"])["allocatable"]["gpu"]
        if not just_started(node) and offered >= question.get("gpus", 0):
            break
        time.sleep(1)
        with api.until(deadline):
            node = api.node(question["node"])
    return node


def read_many(api: KubernetesApi, questions: list[dict[str, t.Any]]) -> dict[str, t.Any]:
    """Name -> ``node``, or ``msg`` with the reason why it cannot be read.

    What all of them share is read once: the list of nodes, and what a drain needs to know about the whole cluster.

    :raises ApiError: if that cannot be read
    """
    found = {node["metadata"]["name"]: node for node in api.nodes()}
    drains = any(question["drain"] is not None for question in questions)
    cluster = (api.disruption_budgets(), api.daemon_sets()) if drains else ([], set())

    def read(question: dict[str, t.Any]) -> dict[str, t.Any]:
        if question["node"] not in found:
            missing = api.without_node(question["node"], found)
            return {"msg": str(missing), **missing.details}
        try:
            this = settled(api, question, found[question["node"]])
        except ApiError as error:
            return {"msg": str(error), **error.details}
        node = {**node_facts(this, None, _NOT_ASKED, question["gpu_resource"]), **in_hand(this, question["work"])}
        if question["configz"]:
            configz = read_configz(api, question["node"]) if node["ready"] else (None, _NOT_READY)
            node["configz"], node["configz_error"] = configz
        try:
            drain = (
                {} if question["drain"] is None else {"drain": read_drain(api, question, node["gpu_resource"], cluster)}
            )
            containers = {"containers": read_containers(api, this, node["configz"])} if question["containers"] else {}
        except TuningError as error:
            return {"msg": str(error), **error.details}
        return {"node": {**node, **drain, **containers}}

    with ThreadPoolExecutor(_AT_ONCE) as pool:
        answers = pool.map(read, questions)
        return {question["node"]: answer for question, answer in zip(questions, answers, strict=True)}


def run(module: Module) -> None:
    """Do what the parameters ask for, and end with the result."""
    params = module.params
    result: dict[str, t.Any] = {"changed": False}
    try:
        api = connect(module)
        if params["wait_for"]:
            result["waited_seconds"] = wait(api, params["node"], params["gpu_resource"], params["wait_for"])
        if params["nodes"] is None:
            result["node"] = read_one(api, params)
        else:
            result["nodes"] = read_many(api, params["nodes"])
    except TuningError as error:
        module.fail_json(msg=str(error), **error.details)
    module.exit_json(**result)


def main() -> None:
    run(AnsibleModule(supports_check_mode=True, **OPTIONS))


if __name__ == "__main__":
    main()
