# SPDX-License-Identifier: GPL-3.0-or-later
"""GPUs under cgroup v2 and the systemd driver: what pods' logs mean, which pods are made, and what the audit says of them."""

from __future__ import annotations

import tomllib
from typing import Any

import pytest

from tests.campaigns import gpu_loss_systemd as campaign
from tests.campaigns.gpu_loss_systemd import CDI, HOOK, SHARED, SPECS, START, WHOLE, Result, Subject

REFUSED = "refused nvidia-smi=Failed_to_initialize_NVML:_Unknown_Error cuda=error_100 held=works"


@pytest.mark.parametrize(
    ("lines", "outcome"),
    [
        pytest.param([(100, "open")], ("kept", None), id="kept"),
        pytest.param([(100, "open nvidia-smi=works"), (208, REFUSED)], ("lost", 8), id="lost"),
        pytest.param([(100, "open"), (120, REFUSED)], ("lost before", None), id="lost before the event"),
        pytest.param([(100, "open cuda=works"), (208, "open cuda=error_2")], ("kept", None), id="no memory is no loss"),
        pytest.param([], ("no word", None), id="no word"),
    ],
)
def test_what_an_event_did_to_a_container(lines: Any, outcome: Any) -> None:
    assert campaign.outcome_of(lines, since=200.9)[:2] == outcome


def test_logs_of_several_pods_are_told_apart() -> None:
    text = (
        "==> /var/log/pods/default_hook-own-legacy-shared-1_0af/main/0.log\n"
        "2026-11-28T09:32:48.1Z stdout F 100 open\n2026-11-28T09:32:58.1Z stdout F 110 refused x=y\n"
        "==> /var/log/pods/default_neighbour-1_1b/main/0.log\n"
    )
    assert campaign.parse_logs(text) == {
        "hook-own-legacy-shared-1": [(100, "open"), (110, "refused x=y")],
        "neighbour-1": [],
    }


@pytest.mark.parametrize("config", ["version = 2\n", "version = 3\n"])
def test_each_handler_has_its_runc_and_only_those_with_the_hook_its_specification(config: str) -> None:
    text = config + campaign.runtimes(config, {"plain-a": ("/opt/runc-a", False), "hook-a": ("/opt/runc-a", True)})
    found = tomllib.loads(text)["plugins"][campaign.table_name(config)]["containerd"]["runtimes"]
    assert found["hook-a"]["options"] == {"BinaryName": "/opt/runc-a", "SystemdCgroup": True}
    assert "base_runtime_spec" in found["hook-a"]
    assert "base_runtime_spec" not in found["plain-a"]


def subject(injection: str, kind: str) -> Subject:
    return Subject("loss-worker-2", "2.4.2", "1.5.3", injection, kind, "plain-1-5-3")


def test_pods_get_their_gpu_in_the_way_that_is_measured() -> None:
    def container(injection: str) -> Any:
        return campaign.manifest(subject(injection, WHOLE), real=False)["spec"]["containers"][0]

    assert container(SPECS)["resources"]["limits"]["nvidia.com/gpu"] == 1
    assert container(CDI)["resources"]["limits"]["kubepin.local/gpu"] == 1
    assert {"name": "NVIDIA_VISIBLE_DEVICES", "value": "0"} in container(HOOK)["env"]
    assert not [name for name in container(HOOK)["resources"]["limits"] if "/" in name]


def test_pods_of_two_workers_have_names_of_their_own() -> None:
    names = {subject(injection, kind).pod for injection in (SPECS, CDI, HOOK) for kind in campaign.KINDS}
    assert len(names) == 9
    assert all(len(name) <= 63 for name in names)


def test_a_cdi_device_comes_with_the_devices_that_all_share() -> None:
    found = campaign.cdi_specification(campaign.REAL_DEVICES, gpus=2)
    assert [device["name"] for device in found["devices"]] == ["nvidia0", "nvidia1"]
    nodes = [node["path"] for node in found["devices"][1]["containerEdits"]["deviceNodes"]]
    assert nodes == ["/dev/nvidia1", "/dev/nvidiactl", "/dev/nvidia-uvm"]


@pytest.mark.parametrize(
    ("injection", "links", "runc", "kind", "grade"),
    [
        (SPECS, True, "1.1.5+ds1", SHARED, "none"),
        (CDI, True, "1.5.3", SHARED, "none"),
        (HOOK, True, "1.5.3", SHARED, "high"),
        (HOOK, True, "1.5.3", WHOLE, "low"),
        (SPECS, False, "1.1.5+ds1", SHARED, "high"),
        (SPECS, False, "1.1.5+ds1", WHOLE, "low"),
    ],
)
def test_the_audit_grades_what_was_measured(injection: str, links: bool, runc: str, kind: str, grade: str) -> None:
    row = Result("1.6.20", runc, injection, links, kind, START, "kept", None, "open")
    assert campaign.grade(row, "1.36.3") == grade
    (line,) = campaign.lines([row], "1.36.3")
    assert line[-1] == grade
    assert line[5:8] == ["kept", "-", "-"]
