#!/usr/bin/python
# GNU General Public License v3.0+ (https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
---
module: gpu_pod_patches
short_description: Write the patches of an audit of GPU pods, and those that undo them
version_added: 1.0.0
author: The kubepin developers (@kubepin)
description:
  - Writes C(NAME.yaml) and C(NAME.undo.yaml) for each patch. The first line of a file is the command that applies it.
  - Handles all patches at once, because a task per file would take minutes for a cluster with hundreds of owners.
  - Runs on the control node. Writing a report does not change the cluster, so C(changed) is always false.
extends_documentation_fragment:
  - kubepin.tuning.attributes
attributes:
  check_mode:
    support: full
  diff_mode:
    support: none
options:
  folder:
    description: The folder of the patches; created if it does not exist.
    type: path
    required: true
  patches:
    description: What the filter P(kubepin.tuning.gpu_pods_patches#filter) returns.
    type: list
    elements: dict
    required: true
"""

EXAMPLES = r"""
- name: Save the patches
  kubepin.tuning.gpu_pod_patches:
    folder: runs/2026-11-25T09-00-00Z/gpu-pods/patches
    patches: "{{ audit | kubepin.tuning.gpu_pods_patches }}"
  delegate_to: localhost
  run_once: true
"""

RETURN = r"""
files:
  description: The files of the patches, or those that there would be in check mode.
  returned: success
  type: list
  elements: str
  sample:
    - runs/2026-11-25T09-00-00Z/gpu-pods/patches/ml-deployment-serve.yaml
    - runs/2026-11-25T09-00-00Z/gpu-pods/patches/ml-deployment-serve.undo.yaml
problems:
  description: Why the module failed, the first cause first, as C(code), C(subject), C(finding), C(remedy), C(waivable) and C(text).
  returned: failure
  type: list
  elements: dict
"""

import json
import typing as t
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.kubepin.tuning.plugins.module_utils.control.module import Module, fail
from ansible_collections.kubepin.tuning.plugins.module_utils.control.run.problems import report_not_writable

try:
    import yaml
except ImportError:  # ansible-test imports every file without the libraries that Ansible brings
    yaml = None  # type: ignore[assignment]

ARGUMENT_SPEC: dict[str, t.Any] = {
    "folder": {"type": "path", "required": True},
    "patches": {"type": "list", "elements": "dict", "required": True},
}
OPTIONS: dict[str, t.Any] = {"argument_spec": ARGUMENT_SPEC}


def patch_files(folder: Path, patches: Sequence[Mapping[str, t.Any]]) -> Iterator[tuple[Path, str]]:
    """The files, each with its text."""
    for patch in patches:
        yield folder / f"{patch['name']}.yaml", _text(patch["command"], patch["patch"])
        yield folder / f"{patch['name']}.undo.yaml", _text(patch["undo_command"], patch["undo"])


def _text(command: str, patch: object) -> str:
    plain = json.loads(json.dumps(patch))  # Ansible's strings are of classes of its own, which YAML would name
    body = yaml.safe_dump(plain, indent=4, allow_unicode=True, default_flow_style=False)
    return f"# {command}\n{body}"


def run(module: Module) -> None:
    """Do what the parameters ask for, and end with the result."""
    folder = Path(module.params["folder"])
    files = list(patch_files(folder, module.params["patches"]))
    try:
        if not module.check_mode:
            folder.mkdir(parents=True, exist_ok=True)
            for path, text in files:
                path.write_text(text, encoding="utf-8")
    except OSError as error:
        fail(module, report_not_writable(str(folder), str(error.strerror)))
    module.exit_json(changed=False, files=[str(path) for path, _text in files])


def main() -> None:
    run(AnsibleModule(supports_check_mode=True, **OPTIONS))


if __name__ == "__main__":
    main()
