#!/usr/bin/python
# GNU General Public License v3.0+ (https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
---
module: benchmark_namespace
short_description: Create or delete the namespace and the ConfigMap that all benchmark pods share
version_added: 1.0.0
author: The kubepin developers (@kubepin)
description:
  - Creates the namespace if it does not exist, with the restricted Pod Security Standard enforced, and stores the
    benchmark's program in a ConfigMap.
  - Deletes the ConfigMap, and the namespace if it has the label C(app.kubernetes.io/managed-by=kubepin). Both stay
    while the namespace contains pods with that label, because these belong to other runs.
  - Runs on the control node.
extends_documentation_fragment:
  - kubepin.tuning.attributes
  - kubepin.tuning.api
attributes:
  check_mode:
    support: full
  diff_mode:
    support: none
options:
  state:
    description: Whether both should exist.
    type: str
    choices: [present, absent]
    default: present
  namespace:
    description: Name of the namespace.
    type: str
    default: kubepin-benchmark
  config_map:
    description: Name of the ConfigMap.
    type: str
    default: kubepin-benchmark
  program:
    description: The folder whose C(.py) files go into the ConfigMap. Required if O(state=present).
    type: path
  timeout:
    description: Seconds within which the namespace must be ready, or gone.
    type: int
    default: 120
seealso:
  - module: kubepin.tuning.benchmark_pod
"""

EXAMPLES = r"""
- name: Create what the benchmark's pods share
  kubepin.tuning.benchmark_namespace:
    program: "{{ role_path }}/files/pod"   # of role gpu_benchmark
  delegate_to: localhost

- name: Delete what the benchmark's pods share
  kubepin.tuning.benchmark_namespace:
    state: absent
  delegate_to: localhost
"""

RETURN = r"""
kept:
  description: Why the ConfigMap and the namespace were kept. None if they were not.
  returned: success
  type: str
  sample: "pods of other runs are in namespace kubepin-benchmark: kubepin-benchmark-gpu-01"
problems:
  description: Why the module failed, the first cause first, as C(code), C(subject), C(finding), C(remedy), C(waivable) and C(text).
  returned: failure
  type: list
  elements: dict
"""

import typing as t
from pathlib import Path

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.kubepin.tuning.plugins.module_utils.common.errors import TuningError
from ansible_collections.kubepin.tuning.plugins.module_utils.control.benchmark import problems
from ansible_collections.kubepin.tuning.plugins.module_utils.control.benchmark.namespace import BenchmarkNamespace
from ansible_collections.kubepin.tuning.plugins.module_utils.control.cluster.api import API_ARGUMENTS, connect
from ansible_collections.kubepin.tuning.plugins.module_utils.control.module import Module, fail_for

ARGUMENT_SPEC: dict[str, t.Any] = {
    **API_ARGUMENTS,
    "state": {"type": "str", "choices": ["present", "absent"], "default": "present"},
    "namespace": {"type": "str", "default": "kubepin-benchmark"},
    "config_map": {"type": "str", "default": "kubepin-benchmark"},
    "program": {"type": "path"},
    "timeout": {"type": "int", "default": 120},
}
OPTIONS: dict[str, t.Any] = {
    "argument_spec": ARGUMENT_SPEC,
    "required_if": [("state", "present", ["program"])],
}


def read_program(folder: str) -> dict[str, str]:
    """The text of each ``.py`` file in the folder, by file name.

    :raises TuningError: if the folder has no ``.py`` files
    """
    files = {path.name: path.read_text(encoding="utf-8") for path in sorted(Path(folder).glob("*.py"))}
    if not files:
        raise TuningError(problems.program_missing(folder))
    return files


def run(module: Module) -> None:
    """Create or delete both."""
    params = module.params
    kept = None
    try:
        program = read_program(params["program"]) if params["state"] == "present" else {}
        namespace = BenchmarkNamespace(
            connect(module), params["namespace"], params["config_map"], params["timeout"], module.check_mode
        )
        if params["state"] == "present":
            changed = namespace.make(program)
        else:
            kept = namespace.reason_to_keep()
            changed = kept is None and namespace.remove()
    except (TuningError, OSError) as error:
        fail_for(module, error)
    module.exit_json(changed=changed, kept=kept)


def main() -> None:
    run(AnsibleModule(supports_check_mode=True, **OPTIONS))


if __name__ == "__main__":
    main()
