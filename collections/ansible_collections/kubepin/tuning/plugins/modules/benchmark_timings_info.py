#!/usr/bin/python
# GNU General Public License v3.0+ (https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
---
module: benchmark_timings_info
short_description: Read what each arm of a benchmark run measured
version_added: 1.0.0
author: The kubepin developers (@kubepin)
description:
  - Summarizes the JSON lines of the benchmark without comparing arms. Times are milliseconds for each step over all
    rounds of an arm.
  - Does the same as C(python -m benchmark summary) in the repository.
  - Always runs on the control node, as the user that runs Ansible, so it needs no C(delegate_to).
requirements:
  - numpy for the Python that runs Ansible
extends_documentation_fragment:
  - kubepin.tuning.attributes
attributes:
  check_mode:
    support: full
  diff_mode:
    support: none
options:
  sources:
    description: C(.jsonl) or C(.jsonl.gz) files, or folders of them, of one run.
    type: list
    elements: path
    required: true
seealso:
  - module: kubepin.tuning.benchmark_report
"""

EXAMPLES = r"""
- name: Read what was measured before the switch
  kubepin.tuning.benchmark_timings_info:
    sources: [runs/lab/benchmark/gpu-01/before]
  register: timings
"""

RETURN = r"""
summary:
  description: What was measured.
  returned: success
  type: dict
  contains:
    run_ids:
      description: The runs that the lines are of.
      type: list
      elements: str
    arms:
      description: Arm to C(shown_name) (what readers call it), C(environment), C(rounds) and C(cells).
      type: dict
    notes:
      description: Remarks on the input, as C(code), C(text) and C(red_flag).
      type: list
      elements: dict
problems:
  description: Every problem of the files, as C(code), C(subject), C(finding), C(remedy), C(waivable) and C(text).
  returned: failure
  type: list
  elements: dict
"""

ARGUMENT_SPEC = {"sources": {"type": "list", "elements": "path", "required": True}}
