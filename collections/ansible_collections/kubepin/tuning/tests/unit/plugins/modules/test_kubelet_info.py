# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import importlib
import typing as t

import pytest
import yaml
from ansible_collections.kubepin.tuning.plugins.module_utils.common.errors import TuningError
from ansible_collections.kubepin.tuning.plugins.module_utils.control.kubelet.config import DEFAULTS
from ansible_collections.kubepin.tuning.tests.unit.samples.machines import sources
from ansible_collections.kubepin.tuning.tests.unit.samples.problems import a_problem, refused

MODULES = "ansible_collections.kubepin.tuning.plugins.modules"
Answer = t.Callable[..., t.Dict[str, t.Any]]


@pytest.mark.parametrize(
    ("manager", "params", "failed"),
    [
        pytest.param("kubeadm", {}, False, id="kubeadm"),
        pytest.param("unknown", {}, False, id="unknown installer"),
        pytest.param("k3s", {}, True, id="k3s"),
        pytest.param("rke2", {}, True, id="rke2"),
        pytest.param("k3s", {"fail_on_unsupported": False}, False, id="k3s, asked for all the same"),
    ],
)
def test_kubelet(
    plan: Answer, monkeypatch: pytest.MonkeyPatch, manager: str, params: dict[str, t.Any], failed: bool
) -> None:
    module = importlib.import_module(f"{MODULES}.kubelet_info")
    monkeypatch.setattr(module, "read_sources", lambda run: sources(manager=manager))
    monkeypatch.setattr(module, "read_programs", lambda run: {"runc": "1.1.5"})
    result = plan("kubelet_info", **params)
    if failed:
        assert f"This node runs {manager}" in result["msg"]
        assert f"kubepin manages {manager} from 1.32 on" in result["msg"]
        assert result["manager"] == manager
    else:
        assert (result["changed"], result["kubelet"]["manager"]) == (False, manager)
        assert result["kubelet"]["runtime"]["runc_version"] == "1.1.5"
        assert set(result["kubelet"]) == set(yaml.safe_load(module.RETURN)["kubelet"]["contains"])


def test_no_kubelet(answer: Answer, monkeypatch: pytest.MonkeyPatch) -> None:
    def nothing(run: object) -> t.NoReturn:
        raise TuningError(a_problem("This machine has no kubelet"), looked_for=["kubelet"])

    monkeypatch.setattr(importlib.import_module(f"{MODULES}.kubelet_info"), "read_sources", nothing)
    result = answer("kubelet_info")
    assert (result["failed"], result["msg"], result["looked_for"]) == (
        True,
        "This machine has no kubelet.",
        ["kubelet"],
    )


def test_the_documentation_names_all_settings() -> None:
    kubelet = yaml.safe_load(importlib.import_module(f"{MODULES}.kubelet_info").RETURN)["kubelet"]["contains"]
    assert set(kubelet["effective"]["contains"]) == set(DEFAULTS)


def test_a_kubelet_that_ended_since_is_refused_with_its_own_words() -> None:
    module = importlib.import_module(f"{MODULES}.kubelet_info")
    service = {"main_pid": 7, "active_state": "active", "sub_state": "running"}
    module.refuse_another_process(service, 7, [])
    for now in (
        {**service, "main_pid": 8},
        {"main_pid": None, "active_state": "activating", "sub_state": "auto-restart"},
    ):
        with refused("kubelet_not_staying_up") as caught:
            module.refuse_another_process(now, 7, ["I0101 started", "E0101 Failed to run kubelet: no room"])
        assert caught.value.details["first_cause"] == "E0101 Failed to run kubelet: no room"
