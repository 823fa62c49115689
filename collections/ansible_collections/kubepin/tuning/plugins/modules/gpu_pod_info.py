#!/usr/bin/python
# GNU General Public License v3.0+ (https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
---
module: gpu_pod_info
short_description: Find which GPU pods get exclusive CPUs, why others do not, and which may lose their GPU
version_added: 1.0.0
author: The kubepin developers (@kubepin)
description:
  - Reads all pods that request a GPU, and the templates of their owners, from the Kubernetes API or from a file.
  - Determines for each container whether the static CPU manager policy gives it exclusive CPUs, and every reason why
    not.
  - Grades the risk that a pod loses its GPU, with the causes and with what is unknown about the node.
  - Builds a patch for each owner's templates that would solve this, using only numbers from the templates.
  - >-
    Knows Deployments, StatefulSets, DaemonSets, ReplicaSets, Jobs and CronJobs; of Kubeflow PyTorchJobs, TFJobs, JAXJobs,
    PaddleJobs, XGBoostJobs, MPIJobs, TrainJobs and Notebooks; RayClusters, RayJobs, RayServices and RayCronJobs; JobSets;
    LeaderWorkerSets; InferenceServices of KServe; Jobs and CronJobs of Volcano; Workflows and CronWorkflows of Argo.
  - Runs on the control node and changes nothing.
extends_documentation_fragment:
  - kubepin.tuning.attributes
  - kubepin.tuning.gpu_resources
  - kubepin.tuning.api
attributes:
  check_mode:
    support: full
  diff_mode:
    support: none
    details: Nothing changes.
options:
  pods_file:
    description:
      - Read this file instead of the API. Contains the output of C(kubectl get pods -A -o json) or C(-o yaml).
      - The file may also contain owners, as from C(kubectl get pods,deploy,sts,ds,rs,jobs,cronjobs -A -o json), and the
        kinds of other projects, such as C(jobsets.jobset.x-k8s.io).
    type: path
  nodes_file:
    description: Nodes for O(pods_file), as C(kubectl get nodes -o json) prints them.
    type: path
  nodes:
    description:
      - Node name to facts about the node, which take precedence over the API.
      - >-
        Keys are C(kubelet_version), C(cpu_manager_policy), C(full_pcpus_only), C(pod_level_managers) (whether its feature gate
        C(PodLevelResourceManagers) is on), C(pod_scope) (whether its topology manager has the scope V(pod), and a policy other
        than V(none)), C(threads_per_core), C(allocatable_cpu), C(runc_version), C(cgroup_driver)
        (V(systemd) or V(cgroupfs)), C(device_injection) (V(cdi), V(device_specs) or V(legacy)), C(dev_char_links),
        C(default_handler) (the container runtime's handler for pods without a RuntimeClass) and C(handlers) (handler to its
        C(runc_version), C(cgroup_driver) and C(device_injection), which count for the pods that it starts).
    type: dict
    default: {}
  cpu_multiple:
    description: Patches round CPUs up to a multiple of this number, or of the threads per core of a node with
      C(full-pcpus-only) if that is larger.
    type: int
    default: 1
seealso:
  - module: kubepin.tuning.node_api_info
"""

EXAMPLES = r"""
- name: Audit the cluster, with facts that the API does not have
  kubepin.tuning.gpu_pod_info:
    nodes:
      gpu-01: {runc_version: 1.0.0-rc93, device_injection: legacy, cgroup_driver: cgroupfs}
  delegate_to: localhost
  register: audit

- name: Audit a file
  kubepin.tuning.gpu_pod_info:
    pods_file: pods.json
  delegate_to: localhost
"""

RETURN = r"""
schema:
  description: Version of the returned structure.
  returned: success
  type: int
  sample: 1
pods:
  description: Every GPU pod that has not finished.
  returned: success
  type: list
  elements: dict
  contains:
    namespace:
      description: The pod's namespace.
      type: str
      sample: ml
    name:
      description: The pod's name.
      type: str
      sample: trainer-0
    node:
      description: The node that it is bound to, or null.
      type: str
      sample: gpu-01
    owner:
      description: The controller at the top of the ownership chain, as far as it is known, or null for a bare pod.
      type: str
      sample: StatefulSet/trainer
    template:
      description: Where the template that it comes from is in RV(pods[].owner), or null if that is unknown.
      type: str
      sample: spec.pytorchReplicaSpecs.Worker.template.spec
    qos:
      description: The QoS class that follows from its resources.
      type: str
      sample: Burstable
    exclusive:
      description:
        - Whether all its containers get exclusive CPUs. Unknown facts about the node are assumed not to prevent it.
        - In a pod with pod-level resources, on a node with the feature gate C(PodLevelResourceManagers), whether those with
          a GPU do.
      type: bool
    containers:
      description: The pod's containers, init containers first.
      type: list
      elements: dict
      contains:
        name:
          description: The container's name.
          type: str
          sample: main
        kind:
          description: One of V(container), V(init) and V(sidecar), an init container that keeps running.
          type: str
          sample: container
        gpus:
          description: The GPU resources and claims that it requests.
          type: list
          elements: str
          sample: [nvidia.com/gpu]
        cpus:
          description: The CPUs that it requests, 0 without a request.
          type: float
          sample: 1.5
        exclusive:
          description: Whether it gets exclusive CPUs.
          type: bool
        pool:
          description:
            - The CPUs that it runs on. V(exclusive) are its own; V(node) are those that all pods of the node share.
            - V(pod) are what the containers with exclusive CPUs leave of a pod that the kubelet manages as a whole in the
              scope of the pod.
          type: str
          sample: exclusive
        reasons:
          description:
            - Every reason why it does not get the exclusive CPUs that it needs.
            - C(no_cpu_limit), C(no_memory_limit), C(cpu_request_differs) and C(memory_request_differs) keep a pod from being Guaranteed.
            - C(other_container) means that another container does.
            - C(fractional_cpu) is a request that is not a whole number.
            - C(pod_level_resources) are resources of the pod itself, for which a kubelet pins nothing without
              the feature gate C(PodLevelResourceManagers) (1.36 and newer, off by default).
            - C(pod_fractional_cpu) and C(empty_pod_pool) are resources of the pod itself that a kubelet with this gate and
              C(topologyManagerScope=pod) does not pin, or rejects because they leave no CPUs to the containers that share.
            - C(smt_alignment) is a number of CPUs that C(full-pcpus-only) rejects.
            - C(too_many_cpus) is a request for more CPUs than the node can ever provide.
            - C(policy_not_static) means that its node does not use the static policy.
          type: list
          elements: str
          sample: [fractional_cpu]
        no_thread_count:
          description: Whether it has a CPU quota but no E(OMP_NUM_THREADS), so that it may start a thread per CPU of
            the host.
          type: bool
    gpus:
      description: The GPUs that it requests at a time.
      type: list
      elements: dict
      contains:
        resource:
          description: The resource's name, or C(claim/) and the name of the claim in the pod.
          type: str
          sample: nvidia.com/mig-1g.5gb
        kind:
          description:
            - V(whole), V(mig) (a MIG partition), V(shared) (a share of a GPU by time-slicing or MPS) or V(claim) (DRA).
            - By the resource's name, and by the label C(RESOURCE.product) that NVIDIA's GPU feature discovery sets on nodes.
          type: str
          sample: mig
        count:
          description: How many. A claim counts as one, whatever it allocates.
          type: int
          sample: 2
        claim:
          description:
            - Namespace and name of the ResourceClaim that it comes by (DRA), also of one that backs an extended resource.
            - Null without a claim, and until the claim is made.
          type: str
          sample: ml/the-gpu
        devices:
          description:
            - The devices that are allocated to the claim, each as driver, pool and device with slashes between.
            - Null without a claim, and if they are unknown, because nothing is allocated yet or the claims may not be read.
          type: list
          elements: str
          sample: [gpu.nvidia.com/node-1/gpu-0]
    risk:
      description: Whether it may lose its GPU while it runs.
      type: dict
      contains:
        grade:
          description:
            - V(high) if the kubelet alone causes the loss, V(low) if a restart of the kubelet, a daemon-reload or an
              in-place resize does, or V(none).
            - V(unknown) if it depends on something that is unknown about the node.
          type: str
          sample: high
        causes:
          description: What causes the loss; certain if nothing about it is unknown.
          type: list
          elements: dict
          contains:
            code:
              description: One of V(container_update), V(daemon_reload) and V(dev_char_links).
              type: str
            grade:
              description: V(high) or V(low).
              type: str
            text:
              description: What happens.
              type: str
            unknown:
              description: The unknown facts that decide whether the cause applies, named as in O(nodes).
              type: list
              elements: str
        unknown:
          description: The unknown facts of all causes.
          type: list
          elements: str
          sample: [device_injection, runc_version]
owners:
  description: Every object whose templates create GPU pods, even if it has no pods at present.
  returned: success
  type: list
  elements: dict
  contains:
    namespace:
      description: Its namespace.
      type: str
    kind:
      description: Its kind, with the API group if Kubernetes itself has a kind of that name.
      type: str
      sample: Deployment
    resource:
      description: What kubectl calls objects of its kind.
      type: str
      sample: jobsets.jobset.x-k8s.io
    api_version:
      description: The API version in which it was read.
      type: str
      sample: apps/v1
    name:
      description: Its name.
      type: str
    qos:
      description: The QoS class of its pods; of several templates, one that is not V(Guaranteed). Null without a template.
      type: str
    pods:
      description: How many of its pods have not finished.
      type: int
    containers:
      description: As in RV(pods[].containers), for a node about which nothing is known but how the nodes of its pods manage
        pods with pod-level resources; and in C(template), where in the object the container is.
      type: list
      elements: dict
    patch:
      description: Patch that gives exclusive CPUs to its containers that need them, as far as its own numbers
        allow. Null without a patch.
      type: raw
    undo:
      description: Patch that reverts RV(owners[].patch).
      type: raw
    patch_type:
      description: V(strategic) for Kubernetes' own kinds, V(json) for others, to which no strategic merge patch applies.
      type: str
      sample: strategic
    change:
      description: V(in_place) if a change of its templates reaches its pods, V(recreate) if it has to be created again for that.
      type: str
      sample: in_place
    effect:
      description: What becomes of its pods when its templates change; empty if the object replaces them by its own strategy.
      type: str
    queue:
      description: The LocalQueue of Kueue that it, its jobs or its pods wait in, with commas between several, or null. Higher requests
        count against the quota.
      type: str
    problems:
      description: Problems that the patch cannot solve and a person must. C(code) is for programs, C(text) for people.
      type: list
      elements: dict
    cpus_per_node:
      description: The cost of the patch, node to additional CPUs requested.
      type: dict
      sample: {"gpu-01": 0.5}
requests:
  description: What every pod that neither has finished nor is being deleted asks of its node, for each node of O(nodes),
    with or without a GPU. C(stays) is whether a drain leaves it there, C(own) its pod-level resources (spec.resources).
  returned: success
  type: dict
  sample:
    gpu-01:
      - name: ml/trainer-0
        created: "2026-11-28T08:00:00Z"
        qos: Guaranteed
        stays: false
        own: {}
        containers: [{name: main, role: app, requests: {cpu: "12", memory: 64Gi, nvidia.com/gpu: "1"}}]
whole_gpus:
  description: How many GPUs each node of O(nodes) offers as C(nvidia.com/gpu). Null if it offers none, if that is unknown,
    or if none of its pods requests any.
  returned: success
  type: dict
  sample: {"gpu-01": 8}
problems:
  description: Kinds of owners that the user may not read, and owners that are malformed. Their pods are audited nevertheless.
  returned: success
  type: list
  elements: dict
  contains:
    code:
      description: V(owners_unreadable) or V(owner_malformed).
      type: str
    subject:
      description: What the problem is about.
      type: str
    finding:
      description: What is wrong with it.
      type: str
    remedy:
      description: What to do.
      type: str
    waivable:
      description: Always false.
      type: bool
    text:
      description: All of it in sentences.
      type: str
summary:
  description: The totals.
  returned: success
  type: dict
  contains:
    pods:
      description: Number of RV(pods).
      type: int
    exclusive:
      description: How many pods have exclusive CPUs for all their containers.
      type: int
    not_exclusive:
      description: How many pods do not.
      type: int
    finished:
      description: How many GPU pods have finished, and are not included.
      type: int
    gpus:
      description: Kind, as in RV(pods[].gpus), to the number that all pods request together. A ResourceClaim that pods share
        counts once.
      type: dict
      sample: {whole: 8, mig: 0, shared: 4, claim: 1}
    risk:
      description: Grade to number of pods.
      type: dict
    reasons:
      description: Reason to number of pods.
      type: dict
    owners:
      description: Number of RV(owners).
      type: int
    patches:
      description: How many owners have a patch.
      type: int
    cpus_per_node:
      description: The cost of all patches together.
      type: dict
"""

import typing as t

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.kubepin.tuning.plugins.module_utils.common.errors import TuningError
from ansible_collections.kubepin.tuning.plugins.module_utils.control.cluster.api import API_ARGUMENTS, connect
from ansible_collections.kubepin.tuning.plugins.module_utils.control.cluster.gpu_resources import DEFAULT_PREFIXES
from ansible_collections.kubepin.tuning.plugins.module_utils.control.gpu_access.node import Source
from ansible_collections.kubepin.tuning.plugins.module_utils.control.gpu_pods import problems
from ansible_collections.kubepin.tuning.plugins.module_utils.control.gpu_pods.audit import audit
from ansible_collections.kubepin.tuning.plugins.module_utils.control.gpu_pods.source import ApiSource, FileSource
from ansible_collections.kubepin.tuning.plugins.module_utils.control.module import Module

ARGUMENT_SPEC: dict[str, t.Any] = {
    **API_ARGUMENTS,
    "pods_file": {"type": "path"},
    "nodes_file": {"type": "path"},
    "nodes": {"type": "dict", "default": {}},
    "gpu_resource_prefixes": {"type": "list", "elements": "str", "default": [*DEFAULT_PREFIXES]},
    "cpu_multiple": {"type": "int", "default": 1},
}
OPTIONS: dict[str, t.Any] = {
    "argument_spec": ARGUMENT_SPEC,
    "required_by": {"nodes_file": ["pods_file"]},
}


def source_of(module: Module) -> Source:
    """:raises TuningError: if the file or the kubeconfig cannot be used"""
    if module.params["pods_file"]:
        return FileSource(module.params["pods_file"], module.params["nodes_file"])
    return ApiSource(connect(module).kubeconfig, module.params["context"])


def run(module: Module) -> None:
    """Do what the parameters ask for, and end with the result."""
    params = module.params
    try:
        if params["cpu_multiple"] < 1:
            raise TuningError(problems.multiple_invalid(params["cpu_multiple"]))
        result = audit(source_of(module), params["nodes"], params["gpu_resource_prefixes"], params["cpu_multiple"])
    except TuningError as error:
        module.fail_json(msg=str(error), **error.details)
    module.exit_json(changed=False, **result)


def main() -> None:
    run(AnsibleModule(supports_check_mode=True, **OPTIONS))


if __name__ == "__main__":
    main()
