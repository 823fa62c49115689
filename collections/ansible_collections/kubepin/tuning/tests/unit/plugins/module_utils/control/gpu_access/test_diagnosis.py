# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

from typing import Any

import pytest
from ansible_collections.kubepin.tuning.plugins.module_utils.control.gpu_access.diagnosis import (
    Container,
    Device,
    diagnose,
    parse_rules,
    specified_rules,
)
from ansible_collections.kubepin.tuning.plugins.module_utils.control.gpu_access.document import Table
from ansible_collections.kubepin.tuning.plugins.module_utils.control.gpu_access.node import Node, with_facts
from ansible_collections.kubepin.tuning.tests.unit.samples.inputs import damaged
from hypothesis import given

STARTED = 1_800_000_000.0
RELOADED = STARTED + 3600
GPU = Device("/dev/nvidia0", 195, 0, link=False)
WITHOUT = parse_rules("c 1:3 rwm\nc *:* m\n")
WITH = parse_rules("c 1:3 rwm\nc 195:* rw\n")


def specified(*devices: Any) -> Any:
    return specified_rules([Table("`crictl inspect`", device) for device in devices])


NAMED = specified(
    {"allow": False, "access": "rwm"}, {"allow": True, "type": "c", "major": 195, "minor": 0, "access": "rwm"}
)


def container(facts: Any = None, **changes: Any) -> Any:
    """A container of the shared pool that a hook gave its GPU, on a node of 2021, and that has lost it."""
    known = {"kubelet_version": "1.21.14", "cpu_manager_policy": "static", "runc_version": "1.0.0-rc93"}
    known = {**known, "cgroup_driver": "cgroupfs", **(facts or {})}
    node = with_facts(Node(), "n", {key: value for key, value in known.items() if value is not None})
    usual = Container(
        "ml", "train", "main", "abc", STARTED, [GPU], WITHOUT, "", [], False, node, reloads=[], kubelet_starts=[]
    )
    return usual._replace(**changes)


SYSTEMD = {"cgroup_driver": "systemd"}
NEW_RUNC = {**SYSTEMD, "runc_version": "1.1.9"}
SKIPPING = {**SYSTEMD, "runc_version": "1.1.5"}
QUIET = {"kubelet_version": "1.22.17"}


@pytest.mark.parametrize(
    ("case", "cause", "words"),
    [
        pytest.param(container(), "container_update", "kubelet 1.21.14 with the static policy", id="old kubelet"),
        pytest.param(container(exclusive=True), "container_update", "every 10 s", id="old kubelet, own CPUs"),
        pytest.param(container(QUIET), "container_update", "whenever the shared pool changes", id="shared pool"),
        pytest.param(
            container(QUIET, exclusive=True, kubelet_starts=[RELOADED]),
            "container_update",
            "the kubelet was started 2027-01-15T09:00:00Z",
            id="own CPUs, kubelet restarted",
        ),
        pytest.param(
            container({**NEW_RUNC, "cpu_manager_policy": "none"}, reloads=[RELOADED]),
            "daemon_reload",
            "systemd read its units again 2027-01-15T09:00:00Z",
            id="daemon-reload",
        ),
        pytest.param(
            container({**QUIET, **NEW_RUNC}),
            "container_update",
            "systemd (driver systemd) applies",
            id="driver systemd",
        ),
        pytest.param(
            container({**QUIET, **SYSTEMD}, exclusive=True, kubelet_starts=[RELOADED + 60], reloads=[RELOADED]),
            "daemon_reload",
            "container_update takes it",
            id="the earlier of two",
        ),
        pytest.param(
            container(SKIPPING, specified=NAMED, reloads=[RELOADED]),
            "dev_char_links",
            "/dev/char/195:0 is missing, and runc 1.1.5",
            id="no links",
        ),
        pytest.param(
            container(QUIET, exclusive=True), "unknown", "was not started since", id="own CPUs, nothing happened"
        ),
        pytest.param(container({"runc_version": None}), "unknown", "unknown: the version of runc", id="runc not known"),
        pytest.param(container(specified=None), "unknown", "unknown: whether a hook", id="specification not known"),
        pytest.param(
            container(SKIPPING, completed=True, reloads=[RELOADED]),
            "dev_char_links",
            "/dev/char/195:0 is missing",
            id="NVIDIA's runtime added the device to the specification",
        ),
        pytest.param(
            container(SKIPPING, completed=None, reloads=[RELOADED]),
            "unknown",
            "unknown: whether a hook added the device",
            id="NVIDIA's runtime may have added it",
        ),
        pytest.param(container({"cpu_manager_policy": None}), "unknown", "the kubelet's policy", id="policy not known"),
        pytest.param(
            container(QUIET, exclusive=True, kubelet_starts=None), "unknown", "the kubelet's starts", id="no journal"
        ),
        pytest.param(
            container({**NEW_RUNC, "cpu_manager_policy": "none"}, reloads=None),
            "unknown",
            "journal does not reach back",
            id="reloads not known",
        ),
        pytest.param(
            container({**SKIPPING, "cgroup_driver": None}, specified=NAMED),
            "unknown",
            "the container's cgroup driver",
            id="driver not known",
        ),
        pytest.param(container({"cpu_manager_policy": "none"}), "unknown", "it updates no container", id="policy none"),
        pytest.param(
            container({"cpu_manager_policy": "none", "kubelet_version": "1.33.0"}),
            "unknown",
            "container_update may take it: the kubelet's CPU manager has the policy none: it updates no container, "
            "unless the pod was resized in place",
            id="policy none, resized perhaps",
        ),
        pytest.param(
            container({**NEW_RUNC}, specified=NAMED), "unknown", "needs no links", id="nothing fits, runc 1.1.9"
        ),
        pytest.param(
            container(SKIPPING, specified=NAMED, devices=[GPU._replace(link=True)]),
            "unknown",
            "each device has its link",
            id="links are there",
        ),
    ],
)
def test_the_cause_and_its_evidence(case: Any, cause: str, words: str) -> None:
    found = diagnose(case)
    assert (found["state"], found["cause"]) == ("lost", cause)
    assert "/dev/nvidia0 (195:0) is there, and its cgroup does not allow it" in found["evidence"]
    assert "its cgroup allows c 1:3 rwm, c *:* m" in found["evidence"]
    assert words in "\n".join(found["evidence"])
    assert "elete the pod" in found["remedy"]


@pytest.mark.parametrize(
    ("case", "state", "words"),
    [
        pytest.param(container(allowed=WITH), "kept", "its cgroup allows /dev/nvidia0 (195:0)", id="allowed"),
        pytest.param(container(allowed=parse_rules("a *:* rwm\n")), "kept", "allows /dev/nvidia0", id="all allowed"),
        pytest.param(
            container(allowed=None, not_read="cgroup v2", specified=specified({"allow": True, "access": "rwm"})),
            "kept",
            "privileged",
            id="privileged, cgroup v2",
        ),
        pytest.param(container(mounts=["/dev/nvidia0"]), "unknown", "as a volume", id="a volume"),
        pytest.param(container(allowed=None, not_read="cgroup v2 ..."), "unknown", "cgroup v2", id="cgroup v2"),
    ],
)
def test_no_cause_where_nothing_is_lost(case: Any, state: str, words: str) -> None:
    found = diagnose(case)
    assert (found["state"], found["cause"], found["remedy"]) == (state, None, None)
    assert words in found["evidence"][0]


def test_reading_alone_is_not_enough() -> None:
    assert diagnose(container(allowed=parse_rules("c 195:0 r\nc 195:0 w\n")))["state"] == "lost"


@given(damaged("c 195:* rw\na *:* rwm\nc 195:0 m\n"))
def test_any_list_of_devices_has_rules(text: str) -> None:
    for rule in parse_rules(text):
        assert {*rule.access} <= {*"rwm"}


MADE = Device("/dev/nvidia1", 195, 1, link=False)
CONTROL = Device("/dev/nvidiactl", 195, 255, link=False)


@pytest.mark.parametrize(
    ("specification", "allowed", "state"),
    [
        pytest.param(NAMED, parse_rules("c 195:0 rw\n"), "kept", id="the one that is specified"),
        pytest.param(NAMED, parse_rules("c 195:255 rw\n"), "lost", id="another than the specified one"),
        pytest.param([], parse_rules("c 195:0 rw\nc 195:255 rw\n"), "kept", id="those of the hook"),
        pytest.param([], WITHOUT, "lost", id="none of the hook"),
    ],
)
def test_devices_that_a_program_made_in_the_container_were_never_granted(
    specification: Any, allowed: Any, state: str
) -> None:
    found = diagnose(container(devices=[GPU, MADE, CONTROL], specified=specification, allowed=allowed))
    assert found["state"] == state
    assert state == "kept" or ("/dev/nvidia1" in found["evidence"][0]) == (specification == [])
