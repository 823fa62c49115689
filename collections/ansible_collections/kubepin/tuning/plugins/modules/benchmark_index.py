#!/usr/bin/python
# GNU General Public License v3.0+ (https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
---
module: benchmark_index
short_description: Write one page about the reports of several nodes
version_added: 1.0.0
author: The kubepin developers (@kubepin)
description:
  - Writes C(index.html) with a row for each node, with what to do there, the contrasts that this follows from, and a link
    to the node's report. The file is written atomically.
  - Always runs on the control node, as the user that runs Ansible, so it needs no C(delegate_to).
  - Writing a page does not change a node, so C(changed) is always false.
requirements:
  - numpy and scipy for the Python that runs Ansible
extends_documentation_fragment:
  - kubepin.tuning.attributes
attributes:
  check_mode:
    support: full
    details: Reads the reports, and writes nothing.
  diff_mode:
    support: none
options:
  reports:
    description: The folders that M(kubepin.tuning.benchmark_report) has written to, a folder for each node.
    type: list
    elements: path
    required: true
  folder:
    description: The folder on the control node for the page. Created if it does not exist.
    type: path
    required: true
  title:
    description: The title of the page.
    type: str
    default: What helps on these nodes?
seealso:
  - module: kubepin.tuning.benchmark_report
"""

EXAMPLES = r"""
- name: Write one page about all nodes
  kubepin.tuning.benchmark_index:
    reports: [runs/lab/benchmark/gpu-01/run, runs/lab/benchmark/gpu-02/run]
    folder: runs/lab/benchmark
"""

RETURN = r"""
file:
  description: The page.
  returned: success
  type: str
  sample: runs/lab/benchmark/index.html
problems:
  description: Every problem of the reports, as C(code), C(subject), C(finding), C(remedy), C(waivable) and C(text).
  returned: failure
  type: list
  elements: dict
"""

ARGUMENT_SPEC = {
    "reports": {"type": "list", "elements": "path", "required": True},
    "folder": {"type": "path", "required": True},
    "title": {"type": "str", "default": "What helps on these nodes?"},
}
