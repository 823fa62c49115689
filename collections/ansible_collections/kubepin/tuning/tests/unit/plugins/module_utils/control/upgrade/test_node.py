# SPDX-License-Identifier: GPL-3.0-or-later
"""The facts about a machine that an upgrade is planned with."""

from __future__ import annotations

import importlib
import typing as t

import pytest
import yaml
from ansible_collections.kubepin.tuning.plugins.module_utils.common.kubelet.problems import (
    does_not_start,
    no_command,
    units_changed,
)
from ansible_collections.kubepin.tuning.plugins.module_utils.common.kubelet.start_errors import Cause
from ansible_collections.kubepin.tuning.plugins.module_utils.common.layout import RUNTIME_FOLDERS
from ansible_collections.kubepin.tuning.plugins.module_utils.common.problem import to_dicts
from ansible_collections.kubepin.tuning.plugins.module_utils.common.switch.problems import file_immutable
from ansible_collections.kubepin.tuning.plugins.module_utils.control.upgrade.node import node_facts
from ansible_collections.kubepin.tuning.tests.unit.samples.machines import CONFIG, sources


def read(**changes: t.Any) -> dict[str, t.Any]:
    """What a worker with one file system for everything sends."""
    paths = ("/var/lib/kubepin", "/etc/kubernetes", "/var/lib", *RUNTIME_FOLDERS.values())
    return {
        "control_plane": False,
        "boot_id": "b",
        "versions": {"kubeadm": "1.21.14", "kubectl": None},
        "packages": {},
        "upgrade_in_progress": False,
        "kubeadm_began": False,
        "manifests": dict.fromkeys(("kube-apiserver", "etcd")),
        "static_pods": {},
        "certificates": [],
        "etcd_database_mb": 200,
        "free_space": {path: {"device": 1, "free_mb": 900} for path in paths},
        "kubelet": sources("1.30.0"),
        "programs": {"containerd": "1.7.1", "runc": "1.1.5"},
        "source_problems": [],
        "obstacles": [],
        **changes,
    }


def test_the_facts_are_those_that_the_module_documents() -> None:
    module = importlib.import_module("ansible_collections.kubepin.tuning.plugins.modules.kubeadm_node_info")
    documented = yaml.safe_load(module.RETURN)["kubeadm_node"]["contains"]
    facts = node_facts(read(), by_packages=False)
    assert set(facts) == set(documented)
    assert (facts["versions"]["kubelet"], facts["runtime"]["version"]) == ("1.30.0", "1.7.1")


@pytest.mark.parametrize(("in_progress", "found"), [(False, ["kubelet_does_not_start"]), (True, [])])
def test_a_kubelet_that_does_not_start_is_a_problem_unless_an_upgrade_waits_for_its_completion(
    in_progress: bool, found: list[str]
) -> None:
    broken = does_not_start("failed, failed", Cause("E0101 no room", "the disk is full", "Make room.")).to_dict()
    given = read(kubelet={**sources("1.30.0"), "start_problem": broken}, upgrade_in_progress=in_progress)
    assert [problem["code"] for problem in node_facts(given, by_packages=False)["problems"]] == found


def test_static_pods_are_facts_only_if_they_refer_to_the_api() -> None:
    texts = {"/m/plain.yaml": "spec: {containers: []}", "/m/vip.yaml": "spec: {imagePullSecrets: [{name: a}]}"}
    facts = node_facts(read(static_pods=texts), by_packages=False)
    assert facts["static_pod_references"] == {"/m/vip.yaml": ["Secrets"]}


@pytest.mark.parametrize(
    ("changes", "by_packages", "needed"),
    [
        pytest.param({}, False, 500 + 250, id="worker"),
        pytest.param({}, True, 1000 + 250, id="packages need the same again"),
        pytest.param({"control_plane": True}, False, 500 + 200 + 1000 + 400, id="a control plane has images and etcd"),
    ],
)
def test_space_on_one_file_system_is_added_up(changes: dict[str, t.Any], by_packages: bool, needed: int) -> None:
    [entry] = node_facts(read(**changes), by_packages)["disk"]
    assert (entry["needed_mb"], entry["free_mb"]) == (needed, 900)


@pytest.mark.parametrize(
    ("in_progress", "codes"), [(False, ["unit_files_changed", "no_command"]), (True, ["no_command"])]
)
def test_unit_files_that_an_interrupted_upgrade_changed_are_no_problem(in_progress: bool, codes: list[str]) -> None:
    kubelet = sources(problems=[units_changed("kubelet"), no_command("kubelet")])
    facts = node_facts(read(kubelet=kubelet, upgrade_in_progress=in_progress), by_packages=False)
    assert [problem["code"] for problem in facts["problems"]] == codes


@pytest.mark.parametrize(
    ("manager", "way"), [("kubespray", "kubespray's own upgrade-cluster.yml"), ("nodeadm", "newer image")]
)
def test_a_node_that_kubeadm_does_not_configure_is_not_upgraded(manager: str, way: str) -> None:
    [problem] = node_facts(read(kubelet=sources(manager=manager)), by_packages=False)["problems"]
    assert problem["code"] == "upgraded_by_installer"
    assert way in problem["remedy"]


def test_files_that_cannot_be_replaced_are_problems_of_the_node() -> None:
    obstacles = to_dicts([file_immutable("/usr/bin/kubelet")])
    assert node_facts(read(obstacles=obstacles), by_packages=False)["problems"] == obstacles


def test_what_was_changed_since_the_kubelet_was_started_is_named_unless_kubeadm_changed_it() -> None:
    edited = {"kubelet": sources("1.30.0", config="maxPods: 250\n")}
    found = {"name": "maxPods", "running": "110", "configured": "250", "source": CONFIG}
    running = {"maxPods": 110}
    assert node_facts(read(**edited), by_packages=False, running=running)["differences"] == [found]
    assert node_facts(read(**edited, kubeadm_began=True), by_packages=False, running=running)["differences"] == []


def test_without_the_running_configuration_the_command_lines_are_compared() -> None:
    edited = sources("1.30.0", config="maxPods: 250\n", line=["--node-ip=10.0.0.3"], running=["--node-ip=10.0.0.2"])
    facts = node_facts(read(kubelet=edited), by_packages=False)
    assert [each["name"] for each in facts["differences"]] == ["--node-ip"]
