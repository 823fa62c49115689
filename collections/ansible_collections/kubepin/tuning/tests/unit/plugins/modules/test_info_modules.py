# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import importlib
import typing as t
from pathlib import Path

import pytest
import yaml
from ansible_collections.kubepin.tuning.plugins.module_utils.common.errors import TuningError
from ansible_collections.kubepin.tuning.plugins.module_utils.control.kubelet.config import DEFAULTS
from ansible_collections.kubepin.tuning.plugins.module_utils.node.readers.topology import read_topology
from ansible_collections.kubepin.tuning.tests.unit.samples.machines import sources

MODULES = "ansible_collections.kubepin.tuning.plugins.modules"
Answer = t.Callable[..., t.Dict[str, t.Any]]


@pytest.mark.parametrize("check_mode", [False, True])
def test_topology(answer: Answer, tmp_path: Path, check_mode: bool) -> None:
    online = tmp_path / "sys/devices/system/cpu/online"
    online.parent.mkdir(parents=True)
    online.write_text("0-1\n")
    result = answer("cpu_topology_info", root=str(tmp_path), _ansible_check_mode=check_mode)
    assert result["changed"] is False
    assert result["topology"] == read_topology(str(tmp_path))
    assert result["topology"]["online"] == "0-1"


def test_a_dump_that_is_none_fails_and_is_named(answer: Answer, tmp_path: Path) -> None:
    result = answer("cpu_topology_info", root=str(tmp_path / "absent"))
    assert result["failed"] is True
    assert f"{tmp_path}/absent is neither a folder nor a tar archive" in result["msg"]


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
        raise TuningError("This machine has no kubelet", looked_for=["kubelet"])

    monkeypatch.setattr(importlib.import_module(f"{MODULES}.kubelet_info"), "read_sources", nothing)
    result = answer("kubelet_info")
    assert (result["failed"], result["msg"], result["looked_for"]) == (True, "This machine has no kubelet", ["kubelet"])


def test_documentation_names_all_returned_fields(tmp_path: Path) -> None:
    topology = yaml.safe_load(importlib.import_module(f"{MODULES}.cpu_topology_info").RETURN)["topology"]["contains"]
    assert set(topology) == set(read_topology(str(tmp_path)))
    kubelet = yaml.safe_load(importlib.import_module(f"{MODULES}.kubelet_info").RETURN)["kubelet"]["contains"]
    assert set(kubelet["effective"]["contains"]) == set(DEFAULTS)


@pytest.fixture
def kubelet(monkeypatch: pytest.MonkeyPatch) -> None:
    """A node whose kubelet names no container runtime that is known."""
    module = importlib.import_module(f"{MODULES}.kubelet_info")
    found = sources(version=None)
    monkeypatch.setattr(module, "read_sources", lambda run: found)
    monkeypatch.setattr(module, "read_programs", lambda run: pytest.fail("no program needs to be run for this"))


@pytest.mark.usefixtures("kubelet")
@pytest.mark.parametrize("check_mode", [False, True])
def test_container_runtime(plan: Answer, check_mode: bool) -> None:
    result = plan("container_runtime_info", gpu_device_paths=["/no/device"], _ansible_check_mode=check_mode)
    report = result["container_runtime"]
    assert (result["changed"], report["schema"], report["runtime"], report["runc_version"]) == (
        False,
        1,
        "unknown",
        None,
    )
    assert "dev_char_links: there is no device /no/device" in report["unknown"]


def test_container_programs(answer: Answer, tmp_path: Path) -> None:
    (tmp_path / "config.toml").write_text("mode = 'cdi'")
    result = answer(
        "container_programs_info",
        programs=["cat", "no-such-program"],
        files=[str(tmp_path / "config.toml")],
        folders=[str(tmp_path)],
    )
    assert [program["code"] for program in result["programs"]] == [0, None]
    assert (result["files"][0]["text"], result["folders"][0]["names"]) == ("mode = 'cdi'", ["config.toml"])


@pytest.mark.usefixtures("kubelet")
@pytest.mark.parametrize("check_mode", [False, True])
def test_gpu_loss(plan: Answer, check_mode: bool) -> None:
    result = plan("gpu_loss_info", _ansible_check_mode=check_mode)
    report = result["gpu_loss"]
    assert (result["changed"], report["containers"]) == (False, [])
    assert report["unknown"] == ["all containers: the kubelet's container runtime has no known socket"]
    module = importlib.import_module(f"{MODULES}.gpu_loss_info")
    assert set(report) == set(yaml.safe_load(module.RETURN)["gpu_loss"]["contains"])


def test_a_kubelet_that_ended_since_is_refused_with_its_own_words() -> None:
    module = importlib.import_module(f"{MODULES}.kubelet_info")
    service = {"main_pid": 7, "active_state": "active", "sub_state": "running"}
    module.refuse_another_process(service, 7, [])
    for now in (
        {**service, "main_pid": 8},
        {"main_pid": None, "active_state": "activating", "sub_state": "auto-restart"},
    ):
        with pytest.raises(TuningError, match="process 7 has ended since it was verified") as caught:
            module.refuse_another_process(now, 7, ["I0101 started", "E0101 Failed to run kubelet: no room"])
        assert caught.value.details["first_cause"] == "E0101 Failed to run kubelet: no room"
