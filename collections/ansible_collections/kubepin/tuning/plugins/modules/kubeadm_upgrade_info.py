#!/usr/bin/python
# GNU General Public License v3.0+ (https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
---
module: kubeadm_upgrade_info
short_description: Plan the upgrade of a kubeadm cluster, or list everything that prevents it
version_added: 1.0.0
author: The kubepin developers (@kubepin)
description:
  - Runs on the control node. Reads the cluster from the API, and plans the upgrade to a version, one minor at a time.
  - Reads the state of each node every time, so the plan after an interrupted run contains the remaining steps.
  - All problems are returned at once, each with its remedy.
extends_documentation_fragment:
  - kubepin.tuning.attributes
  - kubepin.tuning.api
attributes:
  check_mode:
    support: full
  diff_mode:
    support: none
options:
  target:
    description:
      - The version to upgrade to. Without it, V(1.22.17) for a cluster below 1.22; any other cluster is not upgraded.
      - V(1.22.0) and V(1.22.1) are rejected.
    type: str
  server_at_least:
    description: Fail if all API servers have an older version than this one.
    type: str
    version_added: 1.2.0
  patches:
    description: >-
      The patch release for an intermediate minor, such as V({"1.21": "1.21.14"}). Without it, the last patch release of
      that minor, if the minor no longer gets any.
    type: dict
    default: {}
  hosts:
    description:
      - Host to C({node, facts, error, configz_error}) - its name in the API, what M(kubepin.tuning.kubeadm_node_info)
        returned, why if it failed, and why RV(kubepin.tuning.node_api_info#module:node.configz) could not be read.
      - Without it, the plan contains only the versions on the upgrade path.
    type: dict
  batches:
    description: How many workers are upgraded at the same time, as numbers or percentages; the last value is repeated.
    type: list
    elements: raw
    default: [1]
  accept:
    description: Codes of problems to waive.
    type: list
    elements: str
    choices:
      - certificates
      - disk
      - external_etcd
      - image_repository
      - kubelet_not_restarted
      - node_in_maintenance
      - node_in_use
      - removed_apis
      - runtime
    default: []
  images_from_registry:
    description: Whether nodes pull images rather than load archives.
    type: bool
    default: true
  certificate_days:
    description: How many more days certificates must be valid.
    type: int
    default: 7
  disk_reserve_mb:
    description: Megabytes that must stay free on each file system.
    type: int
    default: 500
  drain:
    description: What a drain may do.
    type: dict
    suboptions:
      delete_emptydir_data:
        description: Pods may lose the data in their emptyDir volumes.
        type: bool
        default: false
      force:
        description: Pods without a controller may be deleted, although nothing would start them again.
        type: bool
        default: false
  gpu_resource:
    description:
      - Name of the extended resource that counts GPUs.
      - With V(auto), for each node the one of which it offers most, among C(nvidia.com/gpu) and C(nvidia.com/mig-*).
    type: str
    default: nvidia.com/gpu
  run:
    description: The name of this run, to tell its own marks on nodes from those of other runs.
    type: str
    default: ""
seealso:
  - module: kubepin.tuning.kubeadm_node_info
  - module: kubepin.tuning.kubeadm_node_upgrade
"""

EXAMPLES = r"""
- name: Show the upgrade path
  kubepin.tuning.kubeadm_upgrade_info:
    target: 1.22.17
  delegate_to: localhost
"""

RETURN = r"""
plan:
  description: The steps, or the problems that prevent them.
  returned: success
  type: dict
  contains:
    schema:
      description: V(2); missing without O(hosts).
      type: int
      sample: 2
    current:
      description: The API server's version.
      type: str
      sample: 1.20.15
    target:
      description: The version that the run ends with.
      type: str
      sample: 1.22.17
    versions:
      description: The versions on the upgrade path, in order. The first may be the current one, if an earlier run was
        interrupted.
      type: list
      elements: str
      sample: [1.21.14, 1.22.17]
    steps:
      description: The steps in order; the hosts of a step are upgraded at the same time.
      type: list
      elements: dict
      sample: [{version: 1.21.14, action: apply, hosts: [cp-01]}, {version: 1.21.14, action: node, hosts: [gpu-01]}]
    problems:
      description:
        - Everything that prevents the upgrade. C(subject) is the node, or V(cluster).
        - C(code) identifies the rule for programs; C(text) is the full problem for people.
      type: list
      elements: dict
      sample:
        - code: not_ready
          subject: gpu-02
          finding: is not Ready (KubeletNotReady)
          remedy: Repair it first, or remove it from the cluster.
          waivable: false
          text: gpu-02 is not Ready (KubeletNotReady). Repair it first, or remove it from the cluster.
    notes:
      description: Information that does not prevent the upgrade.
      type: list
      elements: str
    position:
      description: The present version of each node.
      type: list
      elements: dict
text:
  description: The present version of each node, and the steps to the target, a line each.
  returned: if O(hosts) is given
  type: list
  elements: str
  sample: ["kubepin: upgrade 1.20.15 -> 1.21.14"]
problems_text:
  description: The problems in RV(plan) as text, a line each. Empty without problems.
  returned: if O(hosts) is given
  type: list
  elements: str
  sample: []
problems:
  description: Why the module failed, the first cause first, as C(code), C(subject), C(finding), C(remedy), C(waivable) and C(text).
  returned: failure
  type: list
  elements: dict
"""

import typing as t

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.kubepin.tuning.plugins.module_utils.common.errors import TuningError
from ansible_collections.kubepin.tuning.plugins.module_utils.common.versions import parse_version
from ansible_collections.kubepin.tuning.plugins.module_utils.control.cluster.api import API_ARGUMENTS, connect
from ansible_collections.kubepin.tuning.plugins.module_utils.control.module import Module
from ansible_collections.kubepin.tuning.plugins.module_utils.control.upgrade.cluster_reader import UpgradeApi
from ansible_collections.kubepin.tuning.plugins.module_utils.control.upgrade.plan import (
    UpgradeRequest,
    batch_problems,
    plan_upgrade,
    plan_versions,
    server_version,
)
from ansible_collections.kubepin.tuning.plugins.module_utils.control.upgrade.problems import WAIVABLE, server_older
from ansible_collections.kubepin.tuning.plugins.module_utils.control.upgrade.report import (
    upgrade_plan_text,
    upgrade_problems_text,
)

ARGUMENT_SPEC: dict[str, t.Any] = {
    **API_ARGUMENTS,
    "target": {"type": "str"},
    "server_at_least": {"type": "str"},
    "patches": {"type": "dict", "default": {}},
    "hosts": {"type": "dict"},
    "batches": {"type": "list", "elements": "raw", "default": [1]},
    "accept": {"type": "list", "elements": "str", "choices": list(WAIVABLE), "default": []},
    "images_from_registry": {"type": "bool", "default": True},
    "certificate_days": {"type": "int", "default": 7},
    "disk_reserve_mb": {"type": "int", "default": 500},
    "drain": {
        "type": "dict",
        "apply_defaults": True,
        "options": {
            "delete_emptydir_data": {"type": "bool", "default": False},
            "force": {"type": "bool", "default": False},
        },
    },
    "gpu_resource": {"type": "str", "default": "nvidia.com/gpu"},
    "run": {"type": "str", "default": ""},
}
OPTIONS: dict[str, t.Any] = {"argument_spec": ARGUMENT_SPEC}


def plan(api: UpgradeApi, params: t.Mapping[str, t.Any]) -> dict[str, t.Any]:
    """:raises TuningError: for invalid batch sizes, if the API cannot be read, or if its server is too old"""
    problems = batch_problems(params["batches"])
    if problems:
        raise TuningError(*problems)
    request = UpgradeRequest(
        target=params["target"] or None,
        patches={str(minor): str(version) for minor, version in params["patches"].items()},
        batches=params["batches"],
        accept=params["accept"],
        images_from_registry=params["images_from_registry"],
        certificate_days=params["certificate_days"],
        disk_reserve_mb=params["disk_reserve_mb"],
    )
    drain = {name: bool((params["drain"] or {}).get(name)) for name in ("delete_emptydir_data", "force")}
    seen = api.versions(params["gpu_resource"], params["run"])
    least, newest = params["server_at_least"], server_version(seen)
    if least and newest < parse_version(least):
        raise TuningError(server_older(str(newest), least))
    if params["hosts"] is None:
        server, target, path = plan_versions(seen, request)
        return {"current": str(server), "target": str(target), "versions": list(map(str, path))}
    current = parse_version(seen["api_server"]).minor
    last = parse_version(params["target"] or "1.22.17").minor
    cluster = {**seen, **api.obstacles(drain, range(current + 1, last + 1))}
    return plan_upgrade(cluster, params["hosts"], request).to_dict()


def run(module: Module) -> None:
    """Do what the parameters ask for, and end with the result."""
    try:
        api = UpgradeApi(connect(module).kubeconfig, module.params["context"])
        result = plan(api, module.params)
    except TuningError as error:
        module.fail_json(msg=str(error), **error.details)
    texts = {}
    if module.params["hosts"] is not None:
        texts = {"text": upgrade_plan_text(result), "problems_text": upgrade_problems_text(result)}
    module.exit_json(changed=False, plan=result, **texts)


def main() -> None:
    run(AnsibleModule(supports_check_mode=True, **OPTIONS))


if __name__ == "__main__":
    main()
