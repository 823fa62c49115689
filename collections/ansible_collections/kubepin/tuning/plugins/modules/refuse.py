#!/usr/bin/python
# GNU General Public License v3.0+ (https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# The action plugin of the same name does the work.
from __future__ import annotations

DOCUMENTATION = r"""
---
module: refuse
short_description: Fail if there are problems, with their codes
version_added: 1.1.0
author: The kubepin developers (@kubepin)
description:
  - Fails like M(ansible.builtin.fail) if O(problems) has any, and returns them as all modules of this collection do, so that
    programs need not read the message.
  - Runs on the control node and needs no connection to the host.
extends_documentation_fragment:
  - kubepin.tuning.attributes
attributes:
  check_mode:
    support: full
  diff_mode:
    support: none
options:
  problems:
    description: The problems, each with at least C(code) and C(text). Without any, the task succeeds.
    type: list
    elements: dict
    required: true
  msg:
    description: The message, a text or a list of lines. By default the texts of the problems.
    type: raw
"""

EXAMPLES = r"""
- name: Fail if the settings are invalid
  kubepin.tuning.refuse:
    problems: "{{ settings | kubepin.tuning.benchmark_settings_problems }}"
"""

RETURN = r"""
problems:
  description: The problems, as they were given.
  returned: failure
  type: list
  elements: dict
  sample: [{code: batch_invalid, text: 'gpu_benchmark_batch "0" is invalid: expected a whole number above 0.'}]
"""

import typing as t

ARGUMENT_SPEC: dict[str, t.Any] = {
    "problems": {"type": "list", "elements": "dict", "required": True},
    "msg": {"type": "raw"},
}
