#!/usr/bin/python
# GNU General Public License v3.0+ (https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
---
module: node_check_metrics
short_description: Write what a check found as metrics for node_exporter's textfile collector
version_added: 1.0.0
author: The kubepin developers (@kubepin)
description:
  - Writes a file C(kubepin-NODE.prom) for each node in Prometheus' text format, each atomically.
  - Handles all nodes at once, because a task per node would take longer than the check.
  - Runs on the control node, and needs the Python library C(prometheus_client) there. Writing metrics does not change a node,
    so C(changed) is always false.
extends_documentation_fragment:
  - kubepin.tuning.attributes
attributes:
  check_mode:
    support: full
  diff_mode:
    support: none
options:
  directory:
    description: The folder that node_exporter reads, its option C(--collector.textfile.directory). It must exist.
    type: path
    required: true
  checks:
    description: Facts C(kubepin_check), as docs/facts.md of the project describes them.
    type: list
    elements: dict
    required: true
seealso:
  - module: kubepin.tuning.node_check_info
"""

EXAMPLES = r"""
- name: Write the metrics of all nodes
  kubepin.tuning.node_check_metrics:
    directory: /var/lib/prometheus/node-exporter
    checks: "{{ ansible_play_hosts_all | map('extract', hostvars, 'kubepin_check') }}"
  delegate_to: localhost
  run_once: true
"""

RETURN = r"""
files:
  description: The files of the metrics.
  returned: success
  type: list
  elements: str
  sample: [/var/lib/prometheus/node-exporter/kubepin-gpu-01.prom]
problems:
  description: Why the module failed, the first cause first, as C(code), C(subject), C(finding), C(remedy), C(waivable) and C(text).
  returned: failure
  type: list
  elements: dict
"""

import os
import time
import typing as t

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.kubepin.tuning.plugins.module_utils.control.benchmark.problems import library_missing
from ansible_collections.kubepin.tuning.plugins.module_utils.control.check.metrics import metric_files
from ansible_collections.kubepin.tuning.plugins.module_utils.control.check.problems import metrics_unwritable
from ansible_collections.kubepin.tuning.plugins.module_utils.control.module import Module, fail
from ansible_collections.kubepin.tuning.plugins.module_utils.node.transaction.files import Files

ARGUMENT_SPEC: dict[str, t.Any] = {
    "directory": {"type": "path", "required": True},
    "checks": {"type": "list", "elements": "dict", "required": True},
}
OPTIONS: dict[str, t.Any] = {"argument_spec": ARGUMENT_SPEC}


def run(module: Module) -> None:
    """Do what the parameters ask for, and end with the result."""
    directory = module.params["directory"]
    try:
        texts = metric_files(module.params["checks"], time.time())
    except ImportError as error:
        fail(module, library_missing(str(error.name)))
    if not os.path.isdir(directory):
        fail(module, metrics_unwritable(directory, "no such folder on the control node"))
    paths = {os.path.join(directory, name): text for name, text in texts.items()}
    try:
        if not module.check_mode:
            control_node = Files()
            for path, text in paths.items():
                control_node.replace(path, text)
    except OSError as error:
        fail(module, metrics_unwritable(directory, error.strerror or str(error)))
    module.exit_json(changed=False, files=list(paths))


def main() -> None:
    run(AnsibleModule(supports_check_mode=True, **OPTIONS))


if __name__ == "__main__":
    main()
