#!/usr/bin/python
# GNU General Public License v3.0+ (https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
---
module: node_label
short_description: Label a node with its CPU manager policy, taint it while it is untuned, or remove both
version_added: 1.0.0
author: The kubepin developers (@kubepin)
description:
  - Sets the label C(kubepin.io/cpu-manager), by which pods can select nodes, and the annotation C(kubepin.io/plan).
  - Sets or removes the taint C(kubepin.io/untuned=true:NoSchedule), which keeps new pods off a node that is not tuned.
    Pods of DaemonSets need a toleration for it, too, such as those of the GPU's device plugin.
  - Runs on the control node.
extends_documentation_fragment:
  - kubepin.tuning.attributes
  - kubepin.tuning.api
attributes:
  check_mode:
    support: full
  diff_mode:
    support: full
options:
  node:
    description: The node's name in Kubernetes.
    type: str
    required: true
  state:
    description: V(present) sets what the other options name, V(absent) removes label, annotation and taint.
    type: str
    choices: [present, absent]
    default: present
  policy:
    description: The CPU manager policy that was verified. Not set - label and annotation stay as they are.
    type: str
    choices: [none, static]
  plan:
    description: The ID of the settings that were verified, as RV(kubepin.tuning.kubelet_cpu_manager#module:plan_id).
      Required with O(policy).
    type: str
  untuned:
    description: Whether the node has the taint. Not set - the taint stays as it is.
    type: bool
    version_added: 1.0.0
seealso:
  - module: kubepin.tuning.kubelet_cpu_manager
  - module: kubepin.tuning.node_api_info
"""

EXAMPLES = r"""
- name: Label the node
  kubepin.tuning.node_label:
    node: gpu-01
    policy: static
    plan: 3f8a0c51d2b7
  delegate_to: localhost

- name: Keep new pods off a node that is not tuned
  kubepin.tuning.node_label:
    node: gpu-02
    untuned: true
  delegate_to: localhost
"""

RETURN = r"""
labels:
  description: The policy and the plan that the node has now, or would have in check mode; null if none. C(untuned) is
    whether it has the taint.
  returned: success
  type: dict
  sample: {policy: static, plan: 3f8a0c51d2b7, untuned: false}
problems:
  description: Why the module failed, the first cause first, as C(code), C(subject), C(finding), C(remedy), C(waivable) and C(text).
  returned: failure
  type: list
  elements: dict
"""

import typing as t

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.kubepin.tuning.plugins.module_utils.common.errors import TuningError
from ansible_collections.kubepin.tuning.plugins.module_utils.control.cluster.api import (
    API_ARGUMENTS,
    JsonObject,
    connect,
)
from ansible_collections.kubepin.tuning.plugins.module_utils.control.cluster.cordon import change_node
from ansible_collections.kubepin.tuning.plugins.module_utils.control.cluster.label import (
    UNLABELLED,
    label_patch,
    labels_of,
)
from ansible_collections.kubepin.tuning.plugins.module_utils.control.module import Module, fail_for

OPTIONS: dict[str, t.Any] = {
    "argument_spec": {
        **API_ARGUMENTS,
        "node": {"type": "str", "required": True},
        "state": {"type": "str", "choices": ["present", "absent"], "default": "present"},
        "policy": {"type": "str", "choices": ["none", "static"]},
        "plan": {"type": "str"},
        "untuned": {"type": "bool"},
    },
    "required_together": [("policy", "plan")],
    "required_if": [("state", "present", ["policy", "untuned"], True)],
}


def run(module: Module) -> None:
    """Label or taint the node, or remove label and taint."""
    params = module.params
    given = {name: params[name] for name in UNLABELLED if params[name] is not None}
    wanted = given if params["state"] == "present" else UNLABELLED
    before: dict[str, t.Any] = {}
    after: dict[str, t.Any] = {}

    def change(node: JsonObject) -> JsonObject | None:
        before.update(labels_of(node))
        after.update({**before, **wanted})
        return label_patch(node, after)

    try:
        changed = change_node(connect(module), params["node"], change, module.check_mode)
    except (TuningError, OSError) as error:
        fail_for(module, error)
    module.exit_json(changed=changed, labels=after, diff={"before": before, "after": after})


def main() -> None:
    run(AnsibleModule(supports_check_mode=True, **OPTIONS))


if __name__ == "__main__":
    main()
