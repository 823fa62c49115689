# SPDX-License-Identifier: GPL-3.0-or-later
"""What the control node has a node do in the steps of an upgrade."""

from __future__ import annotations

import json
import typing as t

import pytest
from ansible_collections.kubepin.tuning.plugins.module_utils.common.errors import TuningError
from ansible_collections.kubepin.tuning.plugins.module_utils.control.upgrade.node_run import StepRun
from ansible_collections.kubepin.tuning.tests.unit.samples.machines import sources, topology_facts

TUNED = 'cpuManagerPolicy: static\nreservedSystemCPUs: "0"\n'
SETTINGS = {"cpuManagerPolicy": "static", "reservedSystemCPUs": "0", "topologyManagerPolicy": "none"}


class Node:
    """Answers as the modules would: what it reads before and after kubeadm, and what it was asked to write."""

    def __init__(self, before: dict[str, t.Any], after: dict[str, t.Any]) -> None:
        self.read = [before, after]
        self.written: list[tuple[str, list[str]]] = []

    def call(self, module: str, arguments: dict[str, t.Any]) -> dict[str, t.Any]:
        if module == "kubelet_switch_info":
            return {"topology": topology_facts(), "sources": self.read.pop(0)}
        if "kubelet" in arguments:
            return {"state": arguments["kubelet"]}
        self.written.append((arguments["step"], [change["path"] for change in json.loads(arguments["files"])]))
        return {"changed": True, "settings": SETTINGS, "folder": "/backup"}

    def run(self, step: str) -> dict[str, t.Any]:
        return StepRun(self.call, {"step": step, "version": "1.22.17"}).run()


def test_settings_that_kubeadm_drops_are_written_elsewhere_before_it_runs() -> None:
    pinned = 'KUBELET_EXTRA_ARGS="--cpu-manager-policy=static --reserved-cpus=0"\n'
    node = Node(sources("1.21.14", config=TUNED), sources("1.21.14", extra_args=pinned))
    assert node.run("configure")["kept_settings"] == {"cpuManagerPolicy": "static", "reservedSystemCPUs": "0"}
    assert node.written == [("configure", ["/etc/default/kubelet"])]


def test_pins_are_taken_back_if_kubeadm_kept_the_settings() -> None:
    pinned = 'KUBELET_EXTRA_ARGS="--cpu-manager-policy=static --reserved-cpus=0"\n'
    node = Node(sources("1.21.14", config=TUNED), sources("1.21.14", config=TUNED, extra_args=pinned))
    assert node.run("apply")["kept_settings"] == {}
    assert node.written == [("apply", ["/etc/default/kubelet"]), ("settings", ["/etc/default/kubelet"])]


def test_settings_that_kubeadm_does_not_write_need_nothing() -> None:
    flags = sources("1.21.14", extra_args='KUBELET_EXTRA_ARGS="--cpu-manager-policy=static --reserved-cpus=0"\n')
    node = Node(flags, flags)
    assert node.run("configure")["kept_settings"] == {}
    assert node.written == [("configure", [])]


def test_settings_that_were_changed_on_purpose_stay_changed() -> None:
    before = sources("1.21.14", extra_args='KUBELET_EXTRA_ARGS="--cpu-manager-policy=static --reserved-cpus=0"\n')
    after = sources("1.21.14", extra_args='KUBELET_EXTRA_ARGS="--cpu-manager-policy=static --reserved-cpus=1"\n')
    assert Node(before, after).run("configure")["kept_settings"] == {}


def test_settings_that_are_lost_and_cannot_be_kept_are_an_error() -> None:
    node = Node(sources("1.21.14", config=TUNED, extra_args_file=None), sources("1.21.14", extra_args_file=None))
    with pytest.raises(TuningError, match=r"its cpuManagerPolicy, reservedSystemCPUs cannot be kept.*/backup"):
        node.run("configure")


def test_the_new_kubelet_must_show_the_state_of_its_own_version() -> None:
    node = Node(sources("1.21.14"), sources("1.21.14"))
    state = node.run("kubelet")["state"]["state"]
    assert (state["policy"], state["minor"]) == ("none", 22)
