#!/usr/bin/python
# GNU General Public License v3.0+ (https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
---
module: benchmark_report
short_description: Compare two measurements of the benchmark, and write a report
version_added: 0.1.0
author: The kubepin developers (@kubepin)
description:
  - Says whether side B is faster than side A, by how much, and why, as one HTML page, Markdown, JSON, and one line of
    text. Each file is written atomically.
  - Does the same as C(python -m benchmark report) in the repository. The benchmark's README describes the method.
  - Always runs on the control node, as the user that runs Ansible, so it needs no C(delegate_to).
  - Writing a report does not change a node, so C(changed) is always false.
requirements:
  - numpy and scipy for the Python that runs Ansible
extends_documentation_fragment:
  - kubepin.tuning.attributes
attributes:
  check_mode:
    support: full
    details: Compares, and writes nothing.
  diff_mode:
    support: none
options:
  a:
    description:
      - The reference, measured before a change or without it.
      - A C(.jsonl) or C(.jsonl.gz) file or a folder of them, with the arm after an C(@), such as
        V(runs/today@none-auto). Also the log of the original benchmark, or its folder of CSV files.
    type: str
    required: true
  b:
    description: The side that is compared with O(a), in the same form.
    type: str
    required: true
  label_a:
    description: Name of side A in the report. The default is its arm.
    type: str
  label_b:
    description: Name of side B in the report. The default is its arm.
    type: str
  others:
    description: More arms that help to explain the gap, in the form of O(a). Those next to both sides are found anyway.
    type: list
    elements: str
    default: []
  margin:
    description: Differences up to this share do not count. Above 0 and below 1.
    type: float
    default: 0.03
  folder:
    description: The folder on the control node for the report. Created if it does not exist.
    type: path
    required: true
  title:
    description: The title of the report.
    type: str
    default: "Benchmark: before and after"
  made_by:
    description: The commands that made the measurements, for the report.
    type: str
    default: ""
seealso:
  - module: kubepin.tuning.benchmark_timings_info
"""

EXAMPLES = r"""
- name: Compare the node before and after the switch
  kubepin.tuning.benchmark_report:
    a: runs/lab/benchmark/gpu-01/before@none-auto
    b: runs/lab/benchmark/gpu-01/after@static-auto
    folder: runs/lab/benchmark/gpu-01
  register: compared

- name: Show the verdict in one line
  ansible.builtin.debug:
    msg: "{{ compared.report.line }}"
"""

RETURN = r"""
report:
  description: The content of C(report.json).
  returned: success
  type: dict
  contains:
    verdict:
      description: V(BEATS), V(WORSE), V(EQUIVALENT), V(UNDECIDED) or V(INVALID).
      type: str
      sample: BEATS
    line:
      description: The verdict as one line of text.
      type: str
    family:
      description: Ratio of the times of A and B over all cells that count, with its interval.
      type: dict
    causes:
      description: What explains the gap, as C(code), C(share) and C(evidence).
      type: list
      elements: dict
    advice:
      description: What to do, as C(code) and C(text).
      type: list
      elements: dict
files:
  description: The files of the report.
  returned: success
  type: list
  elements: str
  sample: [runs/lab/benchmark/gpu-01/report.html]
problems:
  description: Every problem of the options and of the files, a sentence each.
  returned: failure
  type: list
  elements: str
"""

ARGUMENT_SPEC = {
    "a": {"type": "str", "required": True},
    "b": {"type": "str", "required": True},
    "label_a": {"type": "str"},
    "label_b": {"type": "str"},
    "others": {"type": "list", "elements": "str", "default": []},
    "margin": {"type": "float", "default": 0.03},
    "folder": {"type": "path", "required": True},
    "title": {"type": "str", "default": "Benchmark: before and after"},
    "made_by": {"type": "str", "default": ""},
}
