#!/usr/bin/python
# GNU General Public License v3.0+ (https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
---
module: benchmark_report
short_description: Evaluate a measurement of the benchmark, or compare two
version_added: 1.0.0
author: The kubepin developers (@kubepin)
description:
  - "Given the timings of an experiment (O(source)): says which remedy helps on this node, setting the number of threads
    or exclusive CPUs, by how much, and how sure that is."
  - "Given two sides (O(a) and O(b)): says whether side B is faster than side A, by how much, and why. If both are arms of
    one node whose names say what they stand for, such as V(none-auto) before a switch and V(static-4) after it, the arms
    next to them show the steps between the two."
  - With O(folder), writes one HTML page, Markdown, JSON, and one line of text. Each file is written atomically.
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
  source:
    description:
      - The timings of an experiment on one node, C(.jsonl) or C(.jsonl.gz) files or folders of them. Its arms are named
        V(GROUP-THREADS), such as V(none-auto), V(none-4) and V(static-4).
      - Several are the halves before and after a switch of the kubelet. If what was measured before is measured once
        more at the end, that measures how much the halves differ for other reasons.
    type: list
    elements: path
  a:
    description:
      - The reference, measured before a change or without it.
      - A C(.jsonl) or C(.jsonl.gz) file or a folder of them, with the arm after an C(@), such as
        V(runs/today@none-auto). Also the log of the original benchmark, or its folder of CSV files.
    type: str
  b:
    description: The side that is compared with O(a), in the same form.
    type: str
  label_a:
    description: Name of side A in the report. The default is its arm.
    type: str
  label_b:
    description: Name of side B in the report. The default is its arm.
    type: str
  others:
    description: More arms that help to explain the gap between two sides, in the form of O(a). Those next to both sides are found anyway.
    type: list
    elements: str
    default: []
  margin:
    description:
      - Differences up to this share do not count. Above 0 and below 1.
      - Sides that were measured one after the other get at least 0.1, because what changes meanwhile counts too.
    type: float
    default: 0.05
  precision:
    description: The half-width that the intervals of an experiment are to reach, as a share. Above 0 and below 1.
    type: float
    default: 0.1
  allow_different:
    description:
      - Settings on which the arms may differ. On any other, the measurement is invalid.
    type: list
    elements: str
    choices: [gpu, driver, torch, cudnn, image_size, workers]
    default: []
  folder:
    description:
      - The folder on the control node for the report. Created if it does not exist.
      - Without it, nothing is written.
    type: path
  title:
    description: The title of the report.
    type: str
    default: What helps on this node?
  made_by:
    description: The commands that made the measurements, for the report.
    type: str
    default: ""
seealso:
  - module: kubepin.tuning.benchmark_timings_info
"""

EXAMPLES = r"""
- name: Evaluate what was measured so far
  kubepin.tuning.benchmark_report:
    source: runs/lab/benchmark/gpu-01/today
  register: evaluated
  until: evaluated.report.is_precise

- name: Write the report
  kubepin.tuning.benchmark_report:
    source: runs/lab/benchmark/gpu-01/today
    folder: runs/lab/benchmark/gpu-01

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
    schema:
      description: V(4).
      type: int
    line:
      description: The result as one line of text.
      type: str
    sentence:
      description: What was found.
      type: str
    recommendation:
      description: >-
        V(set_threads), V(pin), V(both), V(neither), V(pin_if_busy), V(measure_more), or V(repeat) if it is invalid.
        V(change) and V(keep) if only the two ends were compared, such as today and exclusive CPUs: the second is faster,
        or slower.
      type: str
      sample: set_threads
    is_precise:
      description: >-
        Whether each contrast is decided and within O(precision), so that no further round is needed.
      type: bool
    rounds:
      description: The rounds that count.
      type: int
    expected_rounds:
      description: >-
        How many rounds are expected to be needed; null before the third, and if that is not known.
      type: int
    contrasts:
      description: >-
        Each C(question) (V(threads), V(exclusive), both steps at once as V(whole), or V(sides)) under each C(load), both
        also as texts in C(name) and C(load_name), with C(ratio), C(low), C(high), C(verdict), C(families) with the ratio
        C(by_round), C(cells), C(gradient), and the C(causes) of a decided gap as C(code), C(share) and C(evidence).
      type: list
      elements: dict
    throughputs:
      description: Images per second of each arm under each load.
      type: list
      elements: dict
    gpu_hours_gained:
      description: >-
        What the recommendation saves each GPU of the node in a day, in hours; null if nothing is
        recommended.
      type: float
    lead:
      description: The recommendation in a few words.
      type: str
      sample: Set the number of threads
    answers:
      description: The contrasts that the recommendation follows from, without C(families).
      type: list
      elements: dict
    asked:
      description: "Of two sides: the question that B against A answers, V(sides) if the arms stand for nothing in particular."
      type: str
      sample: whole
    verdict:
      description: "Of two sides: V(BEATS), V(WORSE), V(EQUIVALENT), V(UNDECIDED) or V(INVALID)."
      type: str
      sample: BEATS
    invalid:
      description: Why no claim is possible, as C(code) and C(text) with the remedy.
      type: list
      elements: dict
    advice:
      description: What to do, as C(code) and C(text).
      type: list
      elements: dict
files:
  description: The files of the report; empty without O(folder).
  returned: success
  type: list
  elements: str
  sample: [runs/lab/benchmark/gpu-01/report.html]
problems:
  description: Every problem of the options and of the files, as C(code), C(subject), C(finding), C(remedy), C(waivable) and C(text).
  returned: failure
  type: list
  elements: dict
"""

ARGUMENT_SPEC = {
    "source": {"type": "list", "elements": "path"},
    "a": {"type": "str"},
    "b": {"type": "str"},
    "label_a": {"type": "str"},
    "label_b": {"type": "str"},
    "others": {"type": "list", "elements": "str", "default": []},
    "margin": {"type": "float", "default": 0.05},
    "precision": {"type": "float", "default": 0.1},
    "allow_different": {
        "type": "list",
        "elements": "str",
        "choices": ["gpu", "driver", "torch", "cudnn", "image_size", "workers"],
        "default": [],
    },
    "folder": {"type": "path"},
    "title": {"type": "str", "default": "What helps on this node?"},
    "made_by": {"type": "str", "default": ""},
}
CONSTRAINTS = {
    "required_one_of": [["source", "a"]],
    "mutually_exclusive": [["source", "a"], ["source", "b"]],
    "required_together": [["a", "b"]],
}
