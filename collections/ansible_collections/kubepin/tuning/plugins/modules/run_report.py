#!/usr/bin/python
# GNU General Public License v3.0+ (https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
---
module: run_report
short_description: Write the results of a run's hosts, and its summary, to the run's folder
version_added: 1.0.0
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
new:
  description: The hosts whose result was not in the folder before.
  returned: success
  type: list
  elements: str
  sample: [gpu-01]
problems:
  description: Why the module failed, the first cause first, as C(code), C(subject), C(finding), C(remedy), C(waivable) and C(text).
  returned: failure
  type: list
  elements: dict
"""

import json
import typing as t
from collections.abc import Mapping
from pathlib import Path

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.kubepin.tuning.plugins.module_utils.control.module import Module, fail
from ansible_collections.kubepin.tuning.plugins.module_utils.control.run.problems import report_not_writable
from ansible_collections.kubepin.tuning.plugins.module_utils.node.transaction.files import Files

ARGUMENT_SPEC: dict[str, t.Any] = {
    "folder": {"type": "path", "required": True},
    "results": {"type": "dict", "default": {}},
    "summary": {"type": "str", "required": True},
}
OPTIONS: dict[str, t.Any] = {"argument_spec": ARGUMENT_SPEC}


class ResultFile(t.NamedTuple):
    """The file of a host's result."""

    host: str
    path: Path
    text: str

    def is_new(self) -> bool:
        """Whether the file lacks this result.

        :raises OSError: if the file cannot be read
        """
        return not self.path.is_file() or self.path.read_text(encoding="utf-8") != self.text


def result_files(folder: Path, results: Mapping[str, t.Any]) -> list[ResultFile]:
    """A JSON file for each host with a result, named after its node."""
    return [
        ResultFile(host, folder / f"{result['node']}.json", json.dumps(result, indent=4, sort_keys=True) + "\n")
        for host, result in results.items()
        if result
    ]


def run(module: Module) -> None:
    """Do what the parameters ask for, and end with the result."""
    folder = Path(module.params["folder"])
    files = result_files(folder, module.params["results"])
    summary = folder / "summary.txt"
    try:
        new = [file for file in files if file.is_new()]
        if not module.check_mode:
            control_node = Files()
            for file in new:
                control_node.replace(str(file.path), file.text)
            control_node.replace(str(summary), f"{module.params['summary']}\n")
    except OSError as error:
        fail(module, report_not_writable(str(folder), str(error.strerror)))
    module.exit_json(
        changed=False,
        files=[str(path) for path in (*(file.path for file in files), summary)],
        new=[file.host for file in new],
    )


def main() -> None:
    run(AnsibleModule(supports_check_mode=True, **OPTIONS))


if __name__ == "__main__":
    main()
