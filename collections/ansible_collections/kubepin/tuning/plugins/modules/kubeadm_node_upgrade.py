#!/usr/bin/python
# GNU General Public License v3.0+ (https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

DOCUMENTATION = r"""
---
module: kubeadm_node_upgrade
short_description: Perform one step of an upgrade on a kubeadm node
description:
  - Runs on the node. Each step is idempotent. A lost connection does not interrupt a step.
  - Everything that a step replaces is backed up in C(/var/lib/kubepin/upgrades/VERSION), with an etcd snapshot on
    control plane nodes.
  - Kubelet settings that C(kubeadm upgrade) drops from the configuration file are written where kubeadm does not
    write, before the kubelet is restarted. An action plugin reads them on the control node, before and after.
  - If the new kubelet does not run, the old one is restored and verified; the module then fails with the first cause.
  - Plan with M(kubepin.tuning.kubeadm_upgrade_info). Drain the node before O(step=kubelet).
extends_documentation_fragment:
  - kubepin.tuning.attributes
  - kubepin.tuning.upgrade_source
version_added: 1.0.0
author:
  - The kubepin developers (@kubepin)
options:
  step:
    description:
      - V(prepare) makes backups, snapshots etcd, fetches and verifies the programs, loads images, and installs
        kubeadm. With packages nothing is installed yet, and kubeadm runs from the folder where it was unpacked.
      - V(apply) runs C(kubeadm upgrade apply), on the first control plane node.
      - V(configure) runs C(kubeadm upgrade node), on all others.
      - V(settings) only writes O(files).
      - V(kubelet) installs kubelet and kubectl, or all packages at once, restarts the kubelet and verifies it. It runs
        C(systemctl daemon-reload) if packages changed the kubelet's unit files.
    type: str
    choices: [prepare, apply, configure, settings, kubelet]
    required: true
  version:
    description: The version to upgrade the node to.
    type: str
    required: true
  source:
    required: true
  control_plane:
    description: Whether the node belongs to the control plane.
    type: bool
    default: false
  ignore_preflight_errors:
    description: Checks of kubeadm whose errors are only warnings.
    type: list
    elements: str
    default: []
  patches_directory:
    description:
      - A folder on the node with patches, which kubeadm applies to what it writes (C(--patches)).
      - Without it, C(kubeadm upgrade) loses what C(kubeadm init --patches) or C(kubeadm join --patches) had changed.
    type: path
    version_added: 1.1.0
  kubelet:
    description: The kubelet's settings, and the state and endpoint that follow from them. The action plugin sets it.
    type: dict
  files:
    description: The file changes that keep the kubelet's settings. The action plugin sets it.
    type: json
    default: "[]"
  timeout:
    description: Seconds within which the kubelet must be up.
    type: int
    default: 120
attributes:
  check_mode:
    support: full
    details: Check mode does nothing and reports a change.
  diff_mode:
    support: none
"""

EXAMPLES = r"""
- name: Make backups and fetch what the upgrade needs
  kubepin.tuning.kubeadm_node_upgrade:
    step: prepare
    version: 1.22.17
    control_plane: true
    source:
      binaries: "https://dl.k8s.io/v{version}/bin/linux/{arch}"
  become: true
"""

RETURN = r"""
seconds:
  description: How long the step took.
  returned: success
  type: float
folder:
  description: The folder that holds the backups.
  returned: success
  type: str
  sample: /var/lib/kubepin/upgrades/1.22.17
etcd_snapshot:
  description: Path and size of etcd's snapshot.
  returned: O(step=prepare)
  type: dict
loaded:
  description: The image archives that were loaded.
  returned: O(step=prepare)
  type: list
  elements: str
kept_settings:
  description: Kubelet settings that kubeadm dropped and that were written elsewhere.
  returned: O(step=apply) and O(step=configure)
  type: dict
dropped_flags:
  description: Flags that this kubelet no longer supports, and the files that they were removed from.
  returned: O(step=kubelet) and changed
  type: list
  elements: str
started_at:
  description: When the kubelet was started, by the node's clock, in seconds since 1970.
  returned: changed with O(step=kubelet)
  type: float
downtime_ms:
  description: Milliseconds from the stop of the kubelet to the first answer of its health endpoint.
  returned: O(step=kubelet)
  type: float
verified:
  description: What was found after the start.
  returned: O(step=kubelet)
  type: list
  elements: str
undone:
  description: Whether the old kubelet is back and verified.
  returned: failure of O(step=kubelet)
  type: bool
kubeadm_output:
  description: The end of kubeadm's output.
  returned: failure of O(step=apply) and O(step=configure)
  type: list
  elements: str
problems:
  description: Why the module failed, the first cause first, as C(code), C(subject), C(finding), C(remedy), C(waivable) and C(text).
  returned: failure
  type: list
  elements: dict
"""

import json
import signal
import time
import typing as t

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.kubepin.tuning.plugins.module_utils.common.errors import TuningError
from ansible_collections.kubepin.tuning.plugins.module_utils.common.switch.changes import FileChange, KubeletState
from ansible_collections.kubepin.tuning.plugins.module_utils.node.commands import runner
from ansible_collections.kubepin.tuning.plugins.module_utils.node.transaction.system import Node, NodeLock
from ansible_collections.kubepin.tuning.plugins.module_utils.node.upgrade.node_steps import (
    KubeadmOptions,
    NodeUpgrade,
)
from ansible_collections.kubepin.tuning.plugins.module_utils.node.upgrade.source import SOURCE, Source

ARGUMENT_SPEC: t.Dict[str, t.Any] = {
    "step": {"type": "str", "choices": ["prepare", "apply", "configure", "settings", "kubelet"], "required": True},
    "version": {"type": "str", "required": True},
    "source": {**SOURCE, "required": True},
    "control_plane": {"type": "bool", "default": False},
    "ignore_preflight_errors": {"type": "list", "elements": "str", "default": []},
    "patches_directory": {"type": "path"},
    "kubelet": {"type": "dict"},
    # no_log keeps texts of files, which may hold credentials, from the node's system log
    "files": {"type": "json", "no_log": True, "default": "[]"},
    "timeout": {"type": "int", "default": 120},
}


def run_step(upgrade: NodeUpgrade, params: t.Mapping[str, t.Any]) -> t.Dict[str, t.Any]:
    """Run the step that the parameters name.

    :raises TuningError: with what happened, what is in place now, and how to continue or go back
    """
    step, files = params["step"], [FileChange(**change) for change in json.loads(params["files"])]
    if step == "prepare":
        kept = upgrade.back_up(KubeletState.from_dict(params["kubelet"]))
        fetched = upgrade.prepare(params["control_plane"])
        return {**kept, **fetched, "changed": kept["changed"] or fetched["changed"]}
    if step in ("apply", "configure"):
        options = KubeadmOptions(params["ignore_preflight_errors"], params["patches_directory"])
        return upgrade.apply(options, files) if step == "apply" else upgrade.configure(options, files)
    if step == "settings":
        upgrade.write(files)
        return {"changed": bool(files)}
    return upgrade.switch_kubelet(KubeletState.from_dict(params["kubelet"]))


def main() -> None:
    module = AnsibleModule(argument_spec=ARGUMENT_SPEC, supports_check_mode=True)
    module.run_command_environ_update = {"LANGUAGE": "C", "LC_ALL": "C"}
    for name in (signal.SIGHUP, signal.SIGINT, signal.SIGTERM):
        signal.signal(name, signal.SIG_IGN)  # a lost connection must not interrupt a step
    if module.check_mode:
        module.exit_json(changed=True)

    run = runner(module.run_command)
    params, started = module.params, time.monotonic()
    try:
        with NodeLock():
            source = Source.of(params["source"])
            upgrade = NodeUpgrade(Node(run), run, params["version"], source, float(params["timeout"]))
            result = run_step(upgrade, params)
    except TuningError as exc:
        module.fail_json(msg=str(exc), **exc.details)
    module.exit_json(seconds=round(time.monotonic() - started, 1), folder=upgrade.folder, **result)


if __name__ == "__main__":
    main()
