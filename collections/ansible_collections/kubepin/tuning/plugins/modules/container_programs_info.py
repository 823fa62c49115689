#!/usr/bin/python
# GNU General Public License v3.0+ (https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

DOCUMENTATION = r"""
---
module: container_programs_info
short_description: Read the programs and files that a container runtime's configuration names
description:
  - Returns what programs report as their version, and the content of files and folders.
    M(kubepin.tuning.container_runtime_info) and M(kubepin.tuning.gpu_loss_info) name them once they have decoded the
    configuration on the control node. Use these modules instead.
  - Changes nothing. Runs each program with C(--version) only.
extends_documentation_fragment:
  - kubepin.tuning.attributes
version_added: 1.0.0
author:
  - The kubepin developers (@kubepin)
options:
  programs:
    description: Programs, by path or by a name that is searched for where systemd's services search.
    type: list
    elements: str
    default: []
  files:
    description: Paths of files.
    type: list
    elements: str
    default: []
  folders:
    description: Paths of folders.
    type: list
    elements: str
    default: []
attributes:
  check_mode:
    support: full
  diff_mode:
    support: none
    details: Nothing changes.
seealso:
  - module: kubepin.tuning.container_runtime_info
  - module: kubepin.tuning.gpu_loss_info
"""

EXAMPLES = r"""
- name: Read the version of runc
  kubepin.tuning.container_programs_info:
    programs: [runc]
  become: true
  register: node
"""

RETURN = r"""
programs:
  description: For each of O(programs) in this order, its C(command), exit C(code), C(output) and C(errors). The code is
    null if it is not there.
  returned: success
  type: list
  elements: dict
files:
  description: For each of O(files) in this order, its C(text), null if it does not exist, and the C(error) that keeps it
    from being read.
  returned: success
  type: list
  elements: dict
folders:
  description: For each of O(folders) in this order, the C(names) in it without hidden ones, and the C(error) that keeps it
    from being read.
  returned: success
  type: list
  elements: dict
problems:
  description: Why the module failed, the first cause first, as C(code), C(subject), C(finding), C(remedy), C(waivable) and C(text).
  returned: failure
  type: list
  elements: dict
"""

import typing as t

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.kubepin.tuning.plugins.module_utils.common.errors import TuningError
from ansible_collections.kubepin.tuning.plugins.module_utils.node.commands import runner
from ansible_collections.kubepin.tuning.plugins.module_utils.node.readers.container_runtime import (
    Machine,
    read_programs,
)

ARGUMENT_SPEC: t.Dict[str, t.Any] = {
    name: {"type": "list", "elements": "str", "default": []} for name in ("programs", "files", "folders")
}


def main() -> None:
    module = AnsibleModule(argument_spec=ARGUMENT_SPEC, supports_check_mode=True)
    module.run_command_environ_update = {"LANGUAGE": "C", "LC_ALL": "C"}
    try:
        found = read_programs(Machine(runner(module.run_command)), **module.params)
    except TuningError as exc:
        module.fail_json(msg=str(exc), **exc.details)
    module.exit_json(changed=False, **found)


if __name__ == "__main__":
    main()
