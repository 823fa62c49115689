# SPDX-License-Identifier: GPL-3.0-or-later
"""What the action kubeadm_node_info returns of a simulated machine, which the module of its name reads."""

from __future__ import annotations

import typing as t
from pathlib import Path

import pytest
import yaml
from ansible.module_utils.basic import AnsibleModule
from ansible_collections.kubepin.tuning.plugins.modules import kubeadm_node_info
from ansible_collections.kubepin.tuning.tests.unit.samples.upgrade_machine import NEW, OLD, Machine, point_at

Result = t.Dict[str, t.Any]
Run = t.Callable[..., Result]


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Machine:
    """A worker whose files are in a folder, and whose programs belong to no package."""
    point_at(tmp_path, monkeypatch)
    machine = Machine(tmp_path)

    def run(_module: AnsibleModule, argv: list[str], **_how: t.Any) -> tuple[int, str, str]:
        return (1, "", "no path found") if argv[0].startswith(("dpkg", "rpm")) else machine.run(argv)

    monkeypatch.setattr(AnsibleModule, "run_command", run)
    return machine


@pytest.mark.parametrize("check_mode", [False, True])
def test_a_worker_with_a_source_that_has_the_version(machine: Machine, plan: Run, check_mode: bool) -> None:
    before = machine.state()
    source = {"binaries": f"{machine.root}/source/{{version}}"}
    result = plan("kubeadm_node_info", versions=[NEW], source=source, _ansible_check_mode=check_mode)
    facts = result["kubeadm_node"]
    assert (result["changed"], machine.state()) == (False, before)
    assert set(facts) == set(yaml.safe_load(kubeadm_node_info.RETURN)["kubeadm_node"]["contains"])
    assert facts["versions"]["kubelet"] == OLD
    assert (facts["control_plane"], facts["problems"], facts["source_problems"]) == (False, [], [])
    assert facts["tuning"]["cpuManagerPolicy"] == "static"


def test_a_source_that_lacks_the_version_is_a_problem_of_the_source(machine: Machine, plan: Run) -> None:
    source = {"binaries": f"{machine.root}/nowhere/{{version}}"}
    (problem, *_others) = plan("kubeadm_node_info", versions=[NEW], source=source)["kubeadm_node"]["source_problems"]
    assert problem["code"] == "program_missing"
    assert f"{machine.root}/nowhere/{NEW}" in problem["subject"]


@pytest.mark.parametrize(
    ("folder", "versions", "codes"),
    [
        ("etc", [NEW], []),
        ("etc", [OLD, NEW], ["patches_unknown"]),
        ("nowhere", [NEW], ["patches_directory_missing"]),
        ("nowhere", [OLD, NEW], ["patches_directory_missing", "patches_unknown"]),
        (None, [OLD, NEW], []),
    ],
)
def test_patches_that_kubeadm_could_not_use_are_problems(
    machine: Machine, plan: Run, folder: str | None, versions: list[str], codes: list[str]
) -> None:
    options = {"patches_directory": f"{machine.root}/{folder}"} if folder else {}
    problems = plan("kubeadm_node_info", versions=versions, **options)["kubeadm_node"]["problems"]
    assert [problem["code"] for problem in problems] == codes


def test_without_a_source_nothing_of_it_is_checked(machine: Machine, plan: Run) -> None:
    assert plan("kubeadm_node_info", versions=[NEW])["kubeadm_node"]["source_problems"] == []


def test_what_the_running_kubelet_has_otherwise_is_compared_on_the_control_node(machine: Machine, plan: Run) -> None:
    running = {"cpuManagerPolicy": "static"}
    facts = plan("kubeadm_node_info", running_config=running)["kubeadm_node"]
    assert [difference["name"] for difference in facts["differences"]] == ["reservedSystemCPUs"]


def test_what_the_configuration_file_sets_is_read_without_its_secret(machine: Machine, plan: Run) -> None:
    secret = "staticPodURLHeader:\n  Authorization: [secret]\n"
    machine.write(
        "/var/lib/kubelet/config.yaml", machine.text("/var/lib/kubelet/config.yaml") + "maxPods: 250\n" + secret
    )
    facts = plan("kubeadm_node_info", patches_directory=f"{machine.root}/etc")["kubeadm_node"]
    assert (facts["config_file"]["maxPods"], facts["patches_directory"]) == (250, f"{machine.root}/etc")
    assert "secret" not in str(facts)


def test_two_sources_are_refused(machine: Machine, plan: Run) -> None:
    result = plan("kubeadm_node_info", source={"binaries": "/b", "packages": {"url": "http://packages"}})
    assert result["failed"] is True
    assert "binaries" in result["msg"]
