#!/usr/bin/python
# GNU General Public License v3.0+ (https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
---
module: gpu_pod_threads_info
short_description: Find the running GPU pods in which the admission policy would have set the number of threads
version_added: 1.0.0
author: The kubepin developers (@kubepin)
description:
  - Reads all pods and namespaces from the Kubernetes API.
  - Lists the containers of GPU pods that have a CPU limit, and leave variables for the number of threads unset, with the
    value that the policy of role C(gpu_pod_policy) would have given them, the limit in whole CPUs, at least 1.
  - Containers with variables from other objects (C(envFrom)) are left out, because the variable may be among them.
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
  variables:
    description: The variables.
    type: list
    elements: str
    default: [OMP_NUM_THREADS]
  exempt_namespaces:
    description: Namespaces to ignore.
    type: list
    elements: str
    default: [kube-system]
  exempt_label:
    description: Pods and namespaces with this label are ignored, C(KEY=VALUE).
    type: str
    default: kubepin.io/gpu-pod-policy=exempt
seealso:
  - module: kubepin.tuning.gpu_pod_info
"""

EXAMPLES = r"""
- name: Find the pods
  kubepin.tuning.gpu_pod_threads_info:
    variables: [OMP_NUM_THREADS, MKL_NUM_THREADS]
  delegate_to: localhost
  register: threads
"""

RETURN = r"""
pods:
  description: The pods, by namespace and name. Those that have finished are left out.
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
    containers:
      description: Container to the variables that it leaves unset, with the values that they would have.
      type: dict
      sample: {main: {OMP_NUM_THREADS: "4"}}
problems:
  description: Why the module failed, the first cause first, as C(code), C(subject), C(finding), C(remedy), C(waivable) and C(text).
  returned: failure
  type: list
  elements: dict
"""

from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.kubepin.tuning.plugins.module_utils.common.errors import TuningError
from ansible_collections.kubepin.tuning.plugins.module_utils.control.cluster.api import API_ARGUMENTS, connect
from ansible_collections.kubepin.tuning.plugins.module_utils.control.cluster.gpu_resources import DEFAULT_PREFIXES
from ansible_collections.kubepin.tuning.plugins.module_utils.control.gpu_pods.pod import THREAD_VARIABLE
from ansible_collections.kubepin.tuning.plugins.module_utils.control.gpu_pods.source import ApiSource
from ansible_collections.kubepin.tuning.plugins.module_utils.control.gpu_pods.threads import unset_threads
from ansible_collections.kubepin.tuning.plugins.module_utils.control.module import Module

ARGUMENT_SPEC: dict[str, Any] = {
    **API_ARGUMENTS,
    "variables": {"type": "list", "elements": "str", "default": [THREAD_VARIABLE]},
    "exempt_namespaces": {"type": "list", "elements": "str", "default": ["kube-system"]},
    "exempt_label": {"type": "str", "default": "kubepin.io/gpu-pod-policy=exempt"},
    "gpu_resource_prefixes": {"type": "list", "elements": "str", "default": [*DEFAULT_PREFIXES]},
}
OPTIONS: dict[str, Any] = {"argument_spec": ARGUMENT_SPEC}


def run(module: Module) -> None:
    """Do what the parameters ask for, and end with the result."""
    params = module.params
    settings = {
        "exempt_namespaces": params["exempt_namespaces"],
        "exempt_label": params["exempt_label"],
        "resource_prefixes": params["gpu_resource_prefixes"],
        "thread_variables": params["variables"],
    }
    try:
        source = ApiSource(connect(module).kubeconfig, params["context"])
        pods = unset_threads(source.pods(), source.namespaces(), settings)
    except TuningError as error:
        module.fail_json(msg=str(error), **error.details)
    module.exit_json(changed=False, pods=pods)


def main() -> None:
    run(AnsibleModule(supports_check_mode=True, **OPTIONS))


if __name__ == "__main__":
    main()
