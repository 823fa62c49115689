#!/usr/bin/python
# GNU General Public License v3.0+ (https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
---
module: run_report
short_description: Write the results of a run's hosts, and its summary, to the run's folder
version_added: 0.1.0
author: The kubepin developers (@kubepin)
description:
  - Writes the fact C(kubepin_result) of each host to a separate file, and the run's summary to the same folder, each
    atomically.
  - Handles all hosts at once, because a task per host and file would take longer than the rest of a run that changes
    nothing.
  - Runs on the control node. Writing a report does not change a node, so C(changed) is always false.
extends_documentation_fragment:
  - kubepin.tuning.attributes
attributes:
  check_mode:
    support: full
  diff_mode:
    support: none
options:
  folder:
    description: The run's folder; created if it does not exist.
    type: path
    required: true
  results:
    description: Host to its fact C(kubepin_result), as docs/facts.md describes it. Hosts without one are left out.
    type: dict
    default: {}
  summary:
    description: The text of C(summary.txt).
    type: str
    required: true
"""

EXAMPLES = r"""
- name: Save what was found, done and verified
  kubepin.tuning.run_report:
    folder: runs/2026-11-25T09-00-00Z
    results: {gpu-01: "{{ kubepin_result }}"}
    summary: "kubepin: 1 node: 1 tuned, 0 failed (38 s)"
  delegate_to: localhost
  run_once: true
"""

RETURN = r"""
files:
  description: The files of the report.
  returned: success
  type: list
  elements: str
  sample: [runs/2026-11-25T09-00-00Z/gpu-01.json, runs/2026-11-25T09-00-00Z/summary.txt]
"""

import json
import os
import typing as t
from collections.abc import Mapping

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.kubepin.tuning.plugins.module_utils.control.module import Module
from ansible_collections.kubepin.tuning.plugins.module_utils.node.transaction.files import Files

ARGUMENT_SPEC: dict[str, t.Any] = {
    "folder": {"type": "path", "required": True},
    "results": {"type": "dict", "default": {}},
    "summary": {"type": "str", "required": True},
}
OPTIONS: dict[str, t.Any] = {"argument_spec": ARGUMENT_SPEC}


def texts(results: Mapping[str, t.Any], summary: str) -> dict[str, str]:
    """File name to text: a JSON file named after each node, and summary.txt."""
    found = {f"{r['node']}.json": json.dumps(r, indent=4, sort_keys=True) + "\n" for r in results.values() if r}
    return {**found, "summary.txt": f"{summary}\n"}


def run(module: Module) -> None:
    """Do what the parameters ask for, and end with the result."""
    folder = module.params["folder"]
    files = {
        os.path.join(folder, name): text
        for name, text in texts(module.params["results"], module.params["summary"]).items()
    }
    if not module.check_mode:
        control_node = Files()
        try:
            for path, text in files.items():
                control_node.replace(path, text)
        except OSError as error:
            module.fail_json(
                msg=f"the report of this run cannot be written to {folder}: {error.strerror}. Name another folder in kubepin_runs."
            )
    module.exit_json(changed=False, files=list(files))


def main() -> None:
    run(AnsibleModule(supports_check_mode=True, **OPTIONS))


if __name__ == "__main__":
    main()
