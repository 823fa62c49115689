# SPDX-License-Identifier: GPL-3.0-or-later
"""One step of an upgrade on one node: the control node reads the kubelet's configuration, the node does the rest."""

from __future__ import annotations

import json
import typing as t
from dataclasses import asdict

from ansible_collections.kubepin.tuning.plugins.module_utils.common.errors import TuningError
from ansible_collections.kubepin.tuning.plugins.module_utils.common.switch.changes import FileChange, KubeletState
from ansible_collections.kubepin.tuning.plugins.module_utils.control.cpus.topology import Topology
from ansible_collections.kubepin.tuning.plugins.module_utils.control.kubelet.kubelet import Kubelet, decode_kubelet
from ansible_collections.kubepin.tuning.plugins.module_utils.control.kubelet.settings import MANAGED
from ansible_collections.kubepin.tuning.plugins.module_utils.control.node_call import Call, Result
from ansible_collections.kubepin.tuning.plugins.module_utils.control.switch.plan import (
    desired_state,
    effective_after,
    endpoint_of,
    plan_pins,
)
from ansible_collections.kubepin.tuning.plugins.module_utils.control.upgrade import problems

MODULE = "kubeadm_node_upgrade"


def kubelet_state(topology: Topology, kubelet: Kubelet, version: str) -> KubeletState:
    """What the node cannot read from the kubelet's configuration itself.

    :param version: the kubelet's, before or after the upgrade
    """
    return KubeletState(
        settings={name: kubelet.effective[name] for name in MANAGED},
        state=desired_state(topology, kubelet.effective, version),
        endpoint=endpoint_of(kubelet),
    )


class StepRun:
    """Runs the step that the parameters of kubeadm_node_upgrade name.

    :param call: runs a module on the node
    :param params: the task's arguments, valid
    """

    def __init__(self, call: Call, params: t.Mapping[str, t.Any]) -> None:
        self._call = call
        self._params = params
        read = call("kubelet_switch_info", {"wait": False})
        self._topology = Topology.of(read["topology"])
        self._kubelet = decode_kubelet(read["sources"])

    def run(self) -> Result:
        """Return the module's result.

        :raises TuningError: if kubeadm dropped settings that cannot be kept
        :raises ModuleFailed: if the node refused, or undid the step
        """
        if self._params["step"] in ("apply", "configure"):
            return self._configure()
        version = self._params["version"] if self._params["step"] == "kubelet" else self._kubelet.version or ""
        return self._step(kubelet=kubelet_state(self._topology, self._kubelet, version).to_dict())

    def _step(self, **arguments: t.Any) -> Result:
        return self._call(MODULE, {**self._params, **arguments})

    def _configure(self) -> Result:
        """Have kubeadm write its configuration, with the settings in it kept where kubeadm does not write."""
        pins = plan_pins(self._kubelet)
        result = self._step(files=_as_json(pins.files))
        before: t.Mapping[str, t.Any] = result.pop("settings")
        kubelet = decode_kubelet(self._call("kubelet_switch_info", {"wait": False})["sources"])
        back = [change.inverse("kubeadm kept the settings") for change in reversed(pins.files)]
        lost = dropped_settings(before, kubelet, back)
        if lost and pins.problems:
            rewritten = problems.settings_not_kept(str(kubelet.layout.config_file), list(lost), result["folder"])
            raise TuningError(rewritten, *pins.problems)
        if back and not lost:
            self._step(step="settings", files=_as_json(back))
        return {**result, "kept_settings": lost}


def _as_json(changes: t.Sequence[FileChange]) -> str:
    return json.dumps([asdict(change) for change in changes])


def dropped_settings(before: t.Mapping[str, t.Any], kubelet: Kubelet, back: t.Sequence[FileChange]) -> Result:
    """The managed settings that kubeadm's new configuration file dropped or changed.

    kubeadm writes neither flags nor drop-ins. Values from there that changed were changed deliberately, and stay.

    :param before: the effective settings before the upgrade
    :param back: the changes that take the pins away, because the file is checked without them
    """
    after, sources = effective_after(kubelet, back)
    return {
        name: before[name]
        for name in MANAGED
        if before.get(name) and before[name] != after[name] and not sources[name].startswith(("flag", "drop-in:"))
    }
