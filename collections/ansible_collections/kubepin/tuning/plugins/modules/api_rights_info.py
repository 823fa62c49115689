#!/usr/bin/python
# GNU General Public License v3.0+ (https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
---
module: api_rights_info
short_description: Ask the API server which rights of a purpose are missing
version_added: 0.1.0
author: The kubepin developers (@kubepin)
description:
  - Asks for every right that a purpose takes, by SelfSubjectAccessReviews, and names all that the kubeconfig's user does not have.
  - Every authenticated user may ask that, by Kubernetes' own role C(system:basic-user).
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
  purposes:
    description:
      - What the rights are for. V(tune) is a rollback's, too, V(preview) is its check mode's.
      - V(patch) is the audit's when it applies its patches.
    type: list
    elements: str
    choices: [audit, preview, tune, benchmark, patch, enforce, upgrade]
    required: true
  probe_namespace:
    description: Where the probe pod runs.
    type: str
    default: kube-system
  benchmark_namespace:
    description: Where the benchmark's pods run. If it is not there, the rights to make and to remove it are asked for, too.
    type: str
    default: kubepin-benchmark
"""

EXAMPLES = r"""
- name: See whether this user may tune and measure
  kubepin.tuning.api_rights_info:
    purposes: [tune, benchmark]
    probe_namespace: kubepin-probe
  delegate_to: localhost
  register: rights

- name: Stop with all that is missing
  ansible.builtin.assert:
    that: rights.problems | length == 0
    fail_msg: "{{ rights.problems | join('; ') }}"
  delegate_to: localhost
"""

RETURN = r"""
missing:
  description: The rights that the user does not have.
  returned: success
  type: list
  elements: dict
  sample: [{"verb": "patch", "group": "", "resource": "nodes", "namespace": ""}]
problems:
  description: The same in words, verbs of the same resource together. Empty if nothing is missing.
  returned: success
  type: list
  elements: str
  sample: ["patch nodes", "create, delete, get pods in namespace kubepin-probe"]
server:
  description: The API server that was asked.
  returned: success
  type: str
  sample: https://10.0.0.1:6443
kubeconfig:
  description: The kubeconfig that was used.
  returned: success
  type: str
  sample: /etc/kubernetes/admin.conf
"""

import typing as t

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.kubepin.tuning.plugins.module_utils.common.errors import TuningError
from ansible_collections.kubepin.tuning.plugins.module_utils.control.cluster.api import (
    API_ARGUMENTS,
    KubernetesApi,
    connect,
)
from ansible_collections.kubepin.tuning.plugins.module_utils.control.cluster.permissions import (
    OWN_NAMESPACE,
    PURPOSES,
    Right,
    problems,
    review,
    rights,
)
from ansible_collections.kubepin.tuning.plugins.module_utils.control.module import Module

ARGUMENT_SPEC: dict[str, t.Any] = {
    **API_ARGUMENTS,
    "purposes": {"type": "list", "elements": "str", "choices": list(PURPOSES), "required": True},
    "probe_namespace": {"type": "str", "default": "kube-system"},
    "benchmark_namespace": {"type": "str", "default": "kubepin-benchmark"},
}
OPTIONS: dict[str, t.Any] = {"argument_spec": ARGUMENT_SPEC}


def missing_rights(api: KubernetesApi, purposes: list[str], probe: str, benchmark: str) -> list[Right]:
    """:raises ApiError: if the API server does not answer"""
    wanted = rights(purposes, {"probe": probe, "benchmark": benchmark, "system": "kube-system"})
    missing = [right for right in wanted if not api.allows(review(right))]
    may_look = Right("get", "", "namespaces", "") not in missing
    if "benchmark" in purposes and may_look and not api.has_namespace(benchmark):
        missing += [right for right in OWN_NAMESPACE if not api.allows(review(right))]
    return missing


def run(module: Module) -> None:
    """Do what the parameters ask for, and end with the result."""
    namespaces = (module.params["probe_namespace"], module.params["benchmark_namespace"])
    try:
        api = connect(module)
        missing = missing_rights(api, module.params["purposes"], *namespaces)
    except TuningError as error:
        module.fail_json(msg=str(error), **error.details)
    module.exit_json(
        changed=False,
        missing=[right._asdict() for right in missing],
        problems=problems(missing),
        server=api.server,
        kubeconfig=api.kubeconfig,
    )


def main() -> None:
    run(AnsibleModule(supports_check_mode=True, **OPTIONS))


if __name__ == "__main__":
    main()
