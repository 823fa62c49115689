# SPDX-License-Identifier: GPL-3.0-or-later
"""What kubeadm_upgrade_info plans for a cluster that its API tells of."""

from __future__ import annotations

import types
import typing as t

import pytest
from ansible_collections.kubepin.tuning.plugins.module_utils.common.errors import TuningError
from ansible_collections.kubepin.tuning.plugins.modules import kubeadm_upgrade_info
from ansible_collections.kubepin.tuning.tests.unit.samples.problems import a_problem
from ansible_collections.kubepin.tuning.tests.unit.samples.upgrade_cluster import CP, W1, W2, Cluster

Result = t.Dict[str, t.Any]
Run = t.Callable[..., Result]
VERSIONS = ("api_server", "nodes", "api_servers", "kubeadm", "kube_proxy")


@pytest.fixture
def cluster(monkeypatch: pytest.MonkeyPatch) -> Cluster:
    """The cluster that the module sees."""
    cluster = Cluster()

    class Api:
        def __init__(self, kubeconfig: str, context: str | None) -> None:
            """The kubeconfig is that of `connect`."""

        def versions(self, gpu_resource: str, run: str) -> Result:
            return {name: cluster.api[name] for name in VERSIONS}

        def obstacles(self, drain: dict[str, bool], minors: t.Iterable[int]) -> Result:
            return {name: value for name, value in cluster.api.items() if name not in VERSIONS}

    monkeypatch.setattr(kubeadm_upgrade_info, "UpgradeApi", Api)
    monkeypatch.setattr(kubeadm_upgrade_info, "connect", lambda module: types.SimpleNamespace(kubeconfig="/k"))
    return cluster


@pytest.fixture
def plan(cluster: Cluster, answer: Run) -> Run:
    """The module's result for all hosts of the cluster, whose nodes load images from archives."""
    return lambda **params: answer(
        "kubeadm_upgrade_info", **{"hosts": cluster.hosts, "images_from_registry": False, **params}
    )


@pytest.mark.parametrize("check_mode", [False, True])
def test_without_hosts_only_the_versions_are_planned(cluster: Cluster, answer: Run, check_mode: bool) -> None:
    result = answer("kubeadm_upgrade_info", patches={"1.21": "1.21.5"}, _ansible_check_mode=check_mode)
    assert result["changed"] is False
    assert result["plan"] == {"current": "1.20.15", "target": "1.22.17", "versions": ["1.21.5", "1.22.17"]}
    assert "text" not in result


def test_all_steps_are_planned_in_order(plan: Run) -> None:
    result = plan(target="1.21.14", batches=["100%"])
    assert (result["changed"], result["plan"]["problems"]) == (False, [])
    assert [(step["action"], step["hosts"]) for step in result["plan"]["steps"]] == [
        ("prepare", [CP, W1, W2]),
        ("apply", [CP]),
        ("node", [CP]),
        ("node", [W1, W2]),
    ]
    assert result["text"][0] == "kubepin: upgrade 1.20.15 -> 1.21.14"
    assert result["problems_text"] == []


def test_all_problems_are_returned_at_once(cluster: Cluster, plan: Run) -> None:
    cluster.api["nodes"][1]["ready"] = False
    cluster.hosts[W2]["facts"]["certificates"][0]["days_left"] = 1.0
    cluster.hosts[W2]["facts"]["disk"][0]["free_mb"] = 1
    result = plan()
    found = {(problem["code"], problem["subject"]) for problem in result["plan"]["problems"]}
    assert found == {("not_ready", W1), ("certificates", W2), ("disk", W2)}
    assert result["problems_text"][0].startswith("kubepin: nothing was changed. 3 problems ")


def test_an_accepted_blocker_becomes_a_note(cluster: Cluster, plan: Run) -> None:
    cluster.hosts[W2]["facts"]["certificates"][0]["days_left"] = 1.0
    result = plan(accept=["certificates"])["plan"]
    assert result["problems"] == []
    assert any(W2 in note for note in result["notes"])


def test_batches_that_are_no_sizes_are_refused(plan: Run) -> None:
    result = plan(batches=["half"])
    assert result["failed"] is True
    assert "half" in result["msg"]


def test_an_api_that_cannot_be_read_fails_the_task(plan: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    def unreachable(module: object) -> t.NoReturn:
        raise TuningError(a_problem("the API server cannot be reached"), kubeconfig="/k")

    monkeypatch.setattr(kubeadm_upgrade_info, "connect", unreachable)
    result = plan()
    assert (result["failed"], result["msg"], result["kubeconfig"]) == (True, "the API server cannot be reached.", "/k")


def test_a_node_is_not_upgraded_while_the_api_server_is_older(cluster: Cluster, answer: Run) -> None:
    cluster.api.update({"api_server": "v1.20.15", "api_servers": {CP: "v1.21.14", W1: "v1.20.15"}})
    failed = answer("kubeadm_upgrade_info", server_at_least="1.22.17")
    assert [problem["code"] for problem in failed["problems"]] == ["server_older"]
    assert "1.21.14" in failed["msg"]
    for version in ("1.21.14", "1.20.15"):
        assert answer("kubeadm_upgrade_info", server_at_least=version)["plan"]["current"] == "1.21.14"
