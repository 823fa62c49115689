# SPDX-License-Identifier: GPL-3.0-or-later
"""What a check says of nodes that were tuned, were not, or have drifted since."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import pytest
from ansible_collections.kubepin.tuning.plugins.module_utils.common.kubelet.problems import does_not_start
from ansible_collections.kubepin.tuning.plugins.module_utils.common.kubelet.start_errors import Cause
from ansible_collections.kubepin.tuning.plugins.module_utils.common.layout import DROP_IN_DIR
from ansible_collections.kubepin.tuning.plugins.module_utils.common.problem import Problem
from ansible_collections.kubepin.tuning.plugins.module_utils.control.check.pods import running_containers
from ansible_collections.kubepin.tuning.plugins.module_utils.control.check.report import (
    check_facts,
    check_text,
    check_verdict,
)
from ansible_collections.kubepin.tuning.plugins.module_utils.control.check.run import checked
from ansible_collections.kubepin.tuning.plugins.module_utils.control.gpu_access.node import Node
from ansible_collections.kubepin.tuning.tests.unit.samples.gpu_pods import main, pod, side
from ansible_collections.kubepin.tuning.tests.unit.samples.machines import ENV, HEAD, sources, topology_facts

VERSION = "1.36.3"
DROP_IN = f"{DROP_IN_DIR}/90-kubepin.conf"
TUNED = HEAD + 'cpuManagerPolicy: "static"\nreservedSystemCPUs: "0"\n'
NAMES_IT = f"KUBELET_EXTRA_ARGS=--config-dir={DROP_IN_DIR}\n"
CONFIGZ = {"cpuManagerPolicy": "static", "reservedSystemCPUs": "0"}
JOURNAL = "/var/lib/kubepin/switches/1.json"
UID = "3a1c2b7e-6f0e-4d0c-8a8e-0f5f0a1b2c3d"
MAIN, SIDE = "a" * 64, "b" * 64


def state(policy: str = "static", default: str = "0-3", entries: Mapping[str, Any] | None = None) -> str:
    return json.dumps({"policyName": policy, "defaultCpuSet": default, "entries": entries or {}, "checksum": 0})


def journal(drop_in: str | None = TUNED, env: str | None = NAMES_IT, **changes: Any) -> dict[str, Any]:
    """What the journal of a tuned node says, and what its files hold now."""
    files = [{"path": DROP_IN, "after": TUNED}, {"path": ENV, "after": NAMES_IT}]
    return {
        "unfinished": None,
        "committed": {"id": "1", "files": files, "current": {DROP_IN: drop_in, ENV: env}},
        "rollback": {"id": "1", "journal": JOURNAL},
        "upgrades": [],
        **changes,
    }


UNTOUCHED: dict[str, Any] = {"unfinished": None, "committed": None, "rollback": {}, "upgrades": []}


def upgrade(version: str, *texts: tuple[str | None, str | None], finished: bool = True) -> dict[str, Any]:
    """What the record of an upgrade says that wrote these texts, each before and after, to the environment file."""
    return {
        "folder": f"/var/lib/kubepin/upgrades/{version}",
        "before": "1.35.6",
        "finished": finished,
        "texts": [{"path": ENV, "before": before, "after": after, "reason": ""} for before, after in texts],
    }


def in_api(*pods: dict[str, Any], policy: str | None = "static", **changes: Any) -> dict[str, Any]:
    containers = [each.to_dict() for each in running_containers(pods, Node(policy=policy), ["nvidia.com/"])]
    return {
        "configz": CONFIGZ,
        "configz_error": None,
        "boot_id": "boot",
        "containers": containers,
        **changes,
    }


def running(spec: dict[str, Any], name: str = "trainer", uid: str = UID, **ids: str) -> dict[str, Any]:
    """A pod whose containers run with these IDs."""
    statuses = [
        {"name": container, "containerID": f"containerd://{one}", "state": {"running": {}}}
        for container, one in ids.items()
    ]
    return {
        "metadata": {"namespace": "ml", "name": name, "uid": uid},
        "spec": spec,
        "status": {"containerStatuses": statuses},
    }


def check(
    *,
    node: Mapping[str, Any] | None = None,
    api: Mapping[str, Any] | None = None,
    read: Mapping[str, Any] | None = None,
    cpus: Mapping[str, str] | None = None,
    cgroups: Mapping[str, Any] | None = None,
    wanted: Mapping[str, Any] | None = None,
    process: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """The fact of a node that is tuned, except for what is given.

    :param node: other arguments of `sources`
    :param process: what else the node sends of its kubelet
    :param api: the answer of node_api_info
    :param read: what the journal says
    :param cpus: ID of a container -> its CPUs by its cgroup
    """
    kubelet = {"extra_args": NAMES_IT, "drop_ins": {DROP_IN: TUNED}, "state": state(), **(node or {})}
    answers = {
        "kubelet_switch_info": {
            "topology": topology_facts(cores=4),
            "sources": {**sources(VERSION, **kubelet), **(process or {})},
            "boot_id": "boot",
            "system_daemons": None,
            **(journal() if read is None else read),
        },
        "container_cpus_info": {
            "cgroups": cgroups
            or {
                "version": 2,
                "error": None,
                "containers": [{"id": one, "pod": UID, "cpus": of} for one, of in (cpus or {}).items()],
            }
        },
    }
    options = (
        "policy_options",
        "reserved_cpu_count",
        "topology_manager_policy",
        "topology_manager_scope",
        "memory_manager_policy",
        "reserved_memory",
        "system_slices",
        "irqbalance",
    )
    params = {
        "node": "gpu-01",
        "api": {"node": in_api()} if api is None else api,
        "policy": "static",
        "reserved_cpus": "auto",
        "profile": "balanced",
        **dict.fromkeys(options),
        **(wanted or {}),
    }
    return checked(lambda module, arguments: answers[module], params)


def codes(fact: Mapping[str, Any], of: str = "problems") -> list[str]:
    return [problem["code"] for problem in fact[of]]


def test_a_tuned_node_is_as_planned() -> None:
    fact = check()
    assert (fact["outcome"], fact["problems"], fact["unchecked"], fact["reserved"]) == ("as_planned", [], [], "0")
    assert [(one["planned"], one["configured"], one["running"]) for one in fact["settings"]] == [
        ("static", "static", "static"),
        ("0", "0", "0"),
    ]
    assert check_verdict(fact) == ""


def test_a_new_node_is_untuned_and_not_said_to_have_drifted() -> None:
    fact = check(
        node={"extra_args": None, "drop_ins": None, "state": state("none", "")},
        api={"node": in_api(configz={"cpuManagerPolicy": "none"})},
        read=UNTOUCHED,
    )
    assert (fact["outcome"], codes(fact)) == ("untuned", ["node_untuned"])


def test_a_node_that_its_installer_tuned_needs_no_journal() -> None:
    assert check(read=UNTOUCHED)["outcome"] == "as_planned"


def test_a_policy_changed_by_hand_is_named_with_all_that_follows_from_it() -> None:
    by_hand = TUNED.replace("static", "none")
    fact = check(node={"drop_ins": {DROP_IN: by_hand}}, read=journal(drop_in=by_hand))
    assert fact["outcome"] == "drifted"
    assert codes(fact) == [
        "policy_differs",
        "file_changed_since_switch",
        "kubelet_not_restarted",
        "state_file_refused",
    ]
    assert DROP_IN in fact["problems"][0]["finding"]
    assert JOURNAL in fact["problems"][1]["remedy"]


@pytest.mark.parametrize(
    ("wanted", "code"),
    [
        ({"reserved_cpus": "1"}, "reservation_differs"),
        ({"policy_options": {"full-pcpus-only": True}}, "policy_options_differ"),
        ({"topology_manager_policy": "restricted"}, "setting_differs"),
    ],
)
def test_each_setting_is_compared_with_the_plan(wanted: dict[str, Any], code: str) -> None:
    fact = check(wanted=wanted)
    assert (fact["outcome"], codes(fact)) == ("drifted", [code])


def test_a_file_that_was_removed_or_edited_without_effect_is_drift() -> None:
    edited = TUNED + "# by me\n"
    fact = check(node={"drop_ins": {DROP_IN: edited}}, read=journal(drop_in=edited))
    assert (fact["outcome"], codes(fact)) == ("drifted", ["file_changed_since_switch"])


SHORTER, SHORTEST = NAMES_IT.replace("\n", " \n"), NAMES_IT.strip()


@pytest.mark.parametrize(
    "upgrades",
    [
        pytest.param([upgrade("1.36.3", (NAMES_IT, SHORTER))], id="one"),
        pytest.param([upgrade("1.36.3", (NAMES_IT, SHORTEST)), upgrade("1.37.2", (SHORTEST, SHORTER))], id="two"),
        pytest.param([upgrade("1.35.6", ("A=1", "A=2")), upgrade("1.36.3", (NAMES_IT, SHORTER))], id="an older one"),
    ],
)
def test_what_an_upgrade_of_kubepin_made_of_a_file_is_no_drift(upgrades: list[dict[str, Any]]) -> None:
    fact = check(node={"extra_args": SHORTER}, read=journal(env=SHORTER, upgrades=upgrades))
    assert (fact["outcome"], fact["problems"]) == ("as_planned", [])
    assert [note for note in fact["notes"] if ENV in note and "can no longer be rolled back" in note]


@pytest.mark.parametrize(
    "upgrades",
    [
        pytest.param([upgrade("1.36.3", (NAMES_IT, SHORTEST))], id="edited after the upgrade"),
        pytest.param([upgrade("1.36.3", ("edited", SHORTER))], id="edited before the upgrade"),
    ],
)
def test_an_edit_before_or_after_an_upgrade_stays_drift(upgrades: list[dict[str, Any]]) -> None:
    fact = check(node={"extra_args": SHORTER}, read=journal(env=SHORTER, upgrades=upgrades))
    assert (fact["outcome"], codes(fact)) == ("drifted", ["file_changed_since_switch"])


def test_an_upgrade_that_has_not_ended_is_named() -> None:
    fact = check(read=journal(upgrades=[upgrade("1.36.3", finished=False)]))
    assert (fact["outcome"], codes(fact)) == ("drifted", ["upgrade_unfinished"])


def test_a_kubelet_that_was_not_restarted_since_an_edit_is_drift() -> None:
    fact = check(node={"config": "maxPods: 250\n"}, api={"node": in_api(configz={**CONFIGZ, "maxPods": 110})})
    assert (fact["outcome"], codes(fact)) == ("drifted", ["kubelet_not_restarted"])
    assert "maxPods is 110, and would be 250" in fact["problems"][0]["finding"]


def test_flags_of_the_running_process_count() -> None:
    fact = check(node={"running": [f"--config-dir={DROP_IN_DIR}", "--node-ip=10.0.0.1"]})
    assert codes(fact) == ["kubelet_not_restarted"]
    assert "--node-ip" in fact["problems"][0]["finding"]


@pytest.mark.parametrize(
    ("text", "code"),
    [
        (None, "state_file_missing"),
        (state("none", ""), "state_file_refused"),
        (state("static", "1-3"), "state_file_refused"),
        ("{", "state_file_refused"),
    ],
)
def test_a_state_file_that_is_gone_or_would_be_refused_is_drift(text: str | None, code: str) -> None:
    fact = check(node={"state": text})
    assert (fact["outcome"], codes(fact)) == ("drifted", [code])


def test_an_interrupted_switch_is_drift() -> None:
    fact = check(read=journal(unfinished="2"))
    assert (fact["outcome"], codes(fact)) == ("drifted", ["switch_unfinished"])


DOWN = {"node": in_api(configz=None, configz_error="not Ready")}


def test_a_stopped_kubelet_is_drift_and_needs_no_configz() -> None:
    fact = check(process={"command_line": []}, api=DOWN)
    assert (fact["outcome"], codes(fact)) == ("drifted", ["kubelet_not_running"])


@pytest.mark.parametrize("line", [[], ["/usr/bin/kubelet"]], ids=["ended", "just started once more"])
def test_a_kubelet_that_does_not_stay_up_is_drift_and_needs_no_configz(line: list[str]) -> None:
    broken = does_not_start("activating, auto-restart", Cause("E0101 no room", "the disk is full", "Make room."))
    process = {"command_line": line, "start_problem": broken.to_dict()}
    fact = check(process=process, api=DOWN)
    assert (fact["outcome"], codes(fact), codes(fact, "unchecked")) == ("drifted", ["kubelet_does_not_start"], [])
    assert fact["problems"][0]["remedy"] == "Make room."
    # `kubepin tune` would leave such a node alone
    refused = check(node={"state": state("none", "")}, process=process, api=DOWN)["problems"][1]
    assert (refused["code"], "kubepin tune" in refused["remedy"]) == ("state_file_refused", False)


# Pods

WHOLE = running(pod(main("1 1Gi"), side("1 1Gi")), main=MAIN, side=SIDE)
ASSIGNED = {UID: {"main": "1", "side": "2"}}


def test_containers_on_the_cpus_that_the_kubelet_assigned_are_pinned() -> None:
    fact = check(
        node={"state": state("static", "0,3", ASSIGNED)}, api={"node": in_api(WHOLE)}, cpus={MAIN: "1", SIDE: "2"}
    )
    assert (fact["outcome"], fact["pinned"]) == ("as_planned", 2)
    assert [(one["container"], one["cpus"], one["pinned"]) for one in fact["gpu_containers"]] == [
        ("main", "1", True),
        ("side", "2", True),
    ]


@pytest.mark.parametrize(
    ("entries", "cpus", "code"),
    [
        pytest.param(ASSIGNED, {MAIN: "0-3", SIDE: "2"}, "exclusive_cpus_lost", id="the cgroup was widened"),
        pytest.param(
            {UID: {"side": "2"}}, {MAIN: "0-1", SIDE: "2"}, "exclusive_cpus_not_assigned", id="never assigned"
        ),
    ],
)
def test_exclusive_cpus_that_a_container_does_not_have_are_drift(
    entries: dict[str, Any], cpus: dict[str, str], code: str
) -> None:
    shared = "0,3" if "main" in entries[UID] else "0-1,3"
    fact = check(node={"state": state("static", shared, entries)}, api={"node": in_api(WHOLE)}, cpus=cpus)
    assert fact["outcome"] == "drifted"
    assert codes(fact)[0] == code
    assert "container main of pod ml/trainer" in fact["problems"][0]["subject"]


def test_a_container_that_runs_on_the_exclusive_cpus_of_another_is_named() -> None:
    other = running(pod(side("100m", name="agent")), name="agent", uid="u2", agent="c" * 64)
    fact = check(
        node={"state": state("static", "0,3", ASSIGNED)},
        api={"node": in_api(WHOLE, other)},
        cpus={MAIN: "1", SIDE: "2", "c" * 64: "0-1,3"},
    )
    assert codes(fact) == ["exclusive_cpus_shared"]
    assert "container agent of pod ml/agent" in fact["problems"][0]["finding"]


def test_without_a_state_file_the_cgroups_alone_say_whether_cpus_are_exclusive() -> None:
    fact = check(node={"state": None}, api={"node": in_api(WHOLE)}, cpus={MAIN: "1", SIDE: "2"})
    assert (codes(fact), fact["pinned"]) == (["state_file_missing"], 2)


def test_a_container_that_ended_meanwhile_is_a_note() -> None:
    fact = check(node={"state": state("static", "0,3", ASSIGNED)}, api={"node": in_api(WHOLE)}, cpus={SIDE: "2"})
    assert (fact["outcome"], fact["pinned"], len(fact["notes"])) == ("as_planned", 1, 1)


def test_a_gpu_pod_that_never_qualified_is_listed_and_no_drift() -> None:
    fractional = running(pod(main("1500m 1Gi")), main=MAIN)
    fact = check(api={"node": in_api(fractional)}, cpus={MAIN: "0-3"})
    assert fact["outcome"] == "as_planned"
    assert fact["gpu_containers"] == [
        {
            "namespace": "ml",
            "pod": "trainer",
            "container": "main",
            "cpus": "0-3",
            "pinned": False,
            "reasons": ["fractional_cpu"],
        }
    ]
    assert "ml/trainer main on CPUs 0-3: fractional_cpu" in check_text([fact])


def test_a_static_pod_is_known_to_the_kubelet_by_its_own_uid() -> None:
    mirror = running(pod(main("1 1Gi")), main=MAIN)
    mirror["metadata"]["annotations"] = {"kubernetes.io/config.mirror": "d" * 32}
    entries = {"d" * 32: {"main": "1"}}
    fact = check(node={"state": state("static", "0,2-3", entries)}, api={"node": in_api(mirror)}, cpus={MAIN: "1"})
    assert (fact["outcome"], fact["pinned"]) == ("as_planned", 1)


# What cannot be checked


@pytest.mark.parametrize(
    ("given", "code"),
    [
        pytest.param({"api": {"msg": "no such node"}}, "api_unread", id="the API does not know it"),
        pytest.param(
            {"api": {"node": in_api(configz=None, configz_error="forbidden")}},
            "configz_unread",
            id="no right to configz",
        ),
        pytest.param({"api": {"node": in_api(boot_id="other")}}, "other_machine", id="another machine"),
        pytest.param({"node": {}, "wanted": {"reserved_cpus": "0-99"}}, "reserved_cpus_offline", id="no plan"),
        pytest.param(
            {
                "api": {"node": in_api(WHOLE)},
                "cgroups": {"version": None, "error": "none is mounted", "containers": []},
            },
            "cgroups_unread",
            id="no cgroups",
        ),
    ],
)
def test_what_cannot_be_checked_is_no_drift_and_not_as_planned(given: dict[str, Any], code: str) -> None:
    fact = check(**given)
    assert fact["outcome"] == "not_checked"
    assert code in codes(fact, "unchecked")
    assert code in check_verdict(fact)


def test_a_host_that_cannot_be_read_is_not_checked_for_that_reason() -> None:
    hosts: list[dict[str, Any]] = [
        {"inventory_hostname": "a", "__node_check_name": "gpu-01", "__node_check_read": {"msg": "No route to host"}},
        {"inventory_hostname": "b", "__node_check_name": "gpu-02", "__node_check_read": {"check": check()}},
        {"inventory_hostname": "c"},
    ]
    facts = check_facts(hosts)
    assert [(name, fact["node"], fact["outcome"]) for name, fact in facts.items()] == [
        ("a", "gpu-01", "not_checked"),
        ("b", "gpu-01", "as_planned"),
        ("c", "c", "not_checked"),
    ]
    assert "No route to host" in facts["a"]["unchecked"][0]["text"]


def test_the_report_counts_the_nodes_and_has_every_remedy() -> None:
    drifted = check(node={"state": None})
    text = check_text([check(), drifted])
    assert text.splitlines()[0] == "kubepin: 2 nodes: 1 as planned, 1 drifted"
    problem = Problem.from_dict(drifted["problems"][0])
    assert f"state_file_missing: {problem.text}" in text
