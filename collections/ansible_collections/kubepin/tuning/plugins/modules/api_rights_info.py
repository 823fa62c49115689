#!/usr/bin/python
# GNU General Public License v3.0+ (https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
---
module: api_rights_info
short_description: Find which permissions for a purpose are missing
version_added: 1.0.0
author: The kubepin developers (@kubepin)
description:
  - Checks every permission that a purpose needs with a SelfSubjectAccessReview, and lists all that the kubeconfig's
    user does not have.
  - Kubernetes' default role C(system:basic-user) allows every authenticated user to do this.
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
      - What the permissions are for.
      - V(tune) also covers rollback, V(preview) covers check mode, and V(patch) covers applying the audit's patches.
      - V(threads) covers what role C(gpu_pod_policy) needs in addition to V(enforce) to list the pods without a number of threads.
    type: list
    elements: str
    choices: [check, taint, audit, preview, tune, benchmark, patch, enforce, uninstall, threads, upgrade]
    required: true
  probe_namespace:
    description: Where the probe pod runs.
    type: str
    default: kube-system
  benchmark_namespace:
    description: Where the benchmark's pods run. If it does not exist, the permissions to create and delete it are
      checked too.
    type: str
    default: kubepin-benchmark
"""

EXAMPLES = r"""
- name: Check whether this user may tune and measure
  kubepin.tuning.api_rights_info:
    purposes: [tune, benchmark]
    probe_namespace: kubepin-probe
  delegate_to: localhost
  register: rights

- name: Fail if permissions are missing
  ansible.builtin.assert:
    that: rights.missing | length == 0
    fail_msg: "{{ rights.missing_text | join('; ') }}"
  delegate_to: localhost
"""

RETURN = r"""
missing:
  description: The permissions that the user does not have.
  returned: success
  type: list
  elements: dict
  sample: [{"verb": "patch", "group": "", "resource": "nodes", "namespace": ""}]
missing_text:
  description: The same as text, with the verbs of a resource together. Empty if nothing is missing.
  returned: success
  type: list
  elements: str
  sample: ["patch nodes", "create, delete, get pods in namespace kubepin-probe"]
server:
  description: The address of the API server.
  returned: success
  type: str
  sample: https://10.0.0.1:6443
kubeconfig:
  description: The kubeconfig that was used.
  returned: success
  type: str
  sample: /etc/kubernetes/admin.conf
problems:
  description: Why the module failed, the first cause first, as C(code), C(subject), C(finding), C(remedy), C(waivable) and C(text).
    On success, a problem that names all missing permissions, or an empty list.
  returned: always
  type: list
  elements: dict
"""

import typing as t

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.kubepin.tuning.plugins.module_utils.common.errors import TuningError
from ansible_collections.kubepin.tuning.plugins.module_utils.common.problem import to_dicts
from ansible_collections.kubepin.tuning.plugins.module_utils.control.cluster.api import (
    API_ARGUMENTS,
    KubernetesApi,
    connect,
)
from ansible_collections.kubepin.tuning.plugins.module_utils.control.cluster.permissions import (
    OWN_NAMESPACE,
    PURPOSES,
    SERVED,
    Right,
    review,
    rights,
    texts_of,
)
from ansible_collections.kubepin.tuning.plugins.module_utils.control.cluster.problems import rights_missing
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
    served = api.groups() if any(rule.need == SERVED for purpose in purposes for rule in PURPOSES[purpose]) else ()
    wanted = rights(purposes, {"probe": probe, "benchmark": benchmark, "system": "kube-system"}, served)
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
    texts = texts_of(missing)
    found = [rights_missing(api.kubeconfig, api.server, module.params["purposes"], texts)] if texts else []
    module.exit_json(
        changed=False,
        missing=[right._asdict() for right in missing],
        missing_text=texts,
        problems=to_dicts(found),
        server=api.server,
        kubeconfig=api.kubeconfig,
    )


def main() -> None:
    run(AnsibleModule(supports_check_mode=True, **OPTIONS))


if __name__ == "__main__":
    main()
