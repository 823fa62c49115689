# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

from typing import Any

import pytest
from ansible_collections.kubepin.tuning.plugins.module_utils.common.kubelet.problems import (
    does_not_start,
    touches_pinned_containers,
)
from ansible_collections.kubepin.tuning.plugins.module_utils.common.kubelet.start_errors import Cause
from ansible_collections.kubepin.tuning.plugins.module_utils.common.problem import Problem, module_failed, to_dicts
from ansible_collections.kubepin.tuning.plugins.module_utils.control.cluster.problems import (
    budget_exhausted,
    in_maintenance,
    in_use,
    local_data,
    no_controller,
    other_cpu_manager,
    other_work,
)
from ansible_collections.kubepin.tuning.plugins.module_utils.control.switch.problems import (
    clock_wrong,
    not_ready,
    other_machine,
    version_stays,
)
from ansible_collections.kubepin.tuning.plugins.module_utils.control.switch.result import (
    awaited_nodes,
    failure_fact,
    host_facts,
    plan_fact,
    result_fact,
    with_failure,
)

NODE: dict[str, Any] = {
    "ready": True,
    "ready_reason": "KubeletReady",
    "unschedulable": False,
    "allocatable": {"cpu": "1", "gpu": 1},
    "configz": {"cpuManagerPolicy": "static"},
    "drain": {"evicted": [{"namespace": "ml", "name": "a"}], "kept": [], "problems": []},
}
KUBELET: dict[str, Any] = {
    "settings": [{"name": "cpuManagerPolicy", "before": "none", "after": "static", "reason": "asked"}],
    "changes": [],
    "policy": "static",
    "policy_before": "none",
    "exclusive_cpus": 1,
    "downtime_ms": 400.0,
    "verified": ["state file: policy static"],
}
PROBE = {"probe": {"cpus_allowed_list": "1", "device_paths_seen": ["/dev/nvidia0"], "seconds_observed": 15}}
BARE_POD = no_controller("ml/a")
LOCAL_DATA = local_data("ml/b", ["scratch"])
FAILURE = {
    "task": "Switch",
    "msg": "It failed.",
    "first_cause": "E1123 broken",
    "meaning": "",
    "journal": "/var/lib/kubepin/x.json",
}


def test_a_kubelet_that_could_not_be_compared_is_noted_where_it_matters() -> None:
    node = {**NODE, "configz": None, "configz_error": "nodes/proxy is forbidden"}
    note = "the running kubelet was not compared with its configuration files: nodes/proxy is forbidden"
    assert note in plan_fact(KUBELET, {"node": node})["notes"]
    assert plan_fact({**KUBELET, "settings": []}, {"node": node})["notes"] == []


def test_times_that_can_prove_nothing_are_a_problem_beside_the_others() -> None:
    plan = plan_fact({"msg": "no kubelet"}, {"node": NODE}, probe_seconds=10, timeout=5)
    first, watched, timeout = plan["problems"]
    assert (first["code"], first["text"]) == ("module_failed", "no kubelet.")
    assert watched["code"] == "probe_seconds_too_short"
    assert watched["text"].startswith("cpu_manager_probe_seconds 10 is too short: ")
    assert timeout["code"] == "timeout_too_short"
    assert timeout["text"].startswith("cpu_manager_timeout 5 is too short: ")


def test_another_program_that_assigns_cpus_stops_a_switch_to_static_only() -> None:
    drain = {
        **NODE["drain"],
        "cpu_managers": to_dicts([other_cpu_manager("Koordinator", "koordinator-system/koordlet-x")]),
    }
    node = {"node": {**NODE, "drain": drain}}
    assert [problem["code"] for problem in plan_fact(KUBELET, node)["problems"]] == ["other_cpu_manager"]
    assert plan_fact({**KUBELET, "policy_before": "static"}, node)["problems"] == []
    assert plan_fact({**KUBELET, "policy": "none", "policy_before": "static"}, node)["problems"] == []


def test_all_hosts_are_planned_at_once_and_only_those_with_nothing_to_do_have_a_result() -> None:
    def host(name: str, planned: dict[str, Any], **changes: Any) -> dict[str, Any]:
        asked = {
            "node": f"node-of-{name}",
            "state": "present",
            "accept_old_kubelet": False,
            "gpu_label": "GPU",
            "probe_seconds": 15,
            "timeout": 120,
            "take_over": False,
            "accept_missing_gpus": False,
            "taint_untuned": False,
        }
        return {
            "inventory_hostname": name,
            "__cpu_manager_asked": {**asked, **changes},
            "__cpu_manager_planned": planned,
        }

    as_asked = {**KUBELET, "settings": []}
    hosts = [
        host("same", as_asked),
        host("none", as_asked, state="rolled_back"),
        host("other", KUBELET),
        host("silent", {"msg": "timed out"}),
        host("lost", as_asked),
        host("hasty", as_asked, probe_seconds=5),
        {"inventory_hostname": "not planned"},
    ]
    names = ("same", "none", "other", "silent", "hasty")
    api = {"nodes": {**{f"node-of-{name}": {"node": NODE} for name in names}, "node-of-lost": {"msg": "no such node"}}}
    facts = host_facts(hosts, api, check_mode=False)
    results = {name: fact["kubepin_result"].get("outcome") for name, fact in facts.items()}
    assert results == {
        "same": "already_tuned", "none": "not_tuned", "other": None, "silent": None, "lost": None, "hasty": None,
    }  # fmt: skip
    assert facts["same"]["kubepin_result"]["node"] == "node-of-same"
    assert facts["other"]["kubepin_plan"]["changed"]
    plans = {name: fact["kubepin_plan"]["outcome"] for name, fact in facts.items()}
    assert plans == {
        "same": "ok", "none": "ok", "other": "not_begun", "silent": "refused", "lost": "refused", "hasty": "refused",
    }  # fmt: skip
    assert facts["silent"]["kubepin_plan"]["problems"] == [module_failed("timed out").to_dict()]
    assert facts["lost"]["kubepin_plan"]["problems"] == [module_failed("no such node").to_dict()]
    assert [problem["code"] for problem in facts["hasty"]["kubepin_plan"]["problems"]] == ["probe_seconds_too_short"]


def test_an_api_that_does_not_answer_is_a_problem_of_each_host() -> None:
    asked = {"node": "a", "state": "present", "accept_old_kubelet": False, "gpu_label": "GPU"}
    asked |= {
        "probe_seconds": 15,
        "timeout": 120,
        "take_over": False,
        "accept_missing_gpus": False,
        "taint_untuned": False,
    }
    host = {"inventory_hostname": "a", "__cpu_manager_asked": asked, "__cpu_manager_planned": KUBELET}
    facts = host_facts([host], {"failed": True, "msg": "no API"}, False)
    assert facts["a"]["kubepin_plan"]["problems"] == [module_failed("no API").to_dict()]


@pytest.mark.parametrize(
    ("kubelet", "api", "problems"),
    [
        pytest.param(KUBELET, {"node": NODE}, [], id="fine"),
        pytest.param(
            {"msg": "both", "problems": to_dicts([BARE_POD, LOCAL_DATA])},
            {"node": NODE},
            [BARE_POD, LOCAL_DATA],
            id="the plan's problems",
        ),
        pytest.param(
            {"msg": "no kubelet here"},
            {"node": NODE},
            [module_failed("no kubelet here")],
            id="a failure without a list",
        ),
        pytest.param(KUBELET, {"msg": "no API"}, [module_failed("no API")], id="the API cannot be read"),
        pytest.param(
            KUBELET,
            {"node": {**NODE, "ready": False, "drain": {"problems": to_dicts([BARE_POD])}}},
            [not_ready("KubeletReady"), BARE_POD],
            id="not Ready and not to be drained",
        ),
        pytest.param(
            {**KUBELET, "boot_id": "a"},
            {"node": {**NODE, "name": "gpu-02", "boot_id": "b"}},
            [other_machine("gpu-02", "a", "b")],
            id="another machine's node name",
        ),
        pytest.param(
            {**KUBELET, "clock_ahead": -3600.0},
            {"node": {**NODE, "ready": False, "ready_reason": "NodeStatusUnknown"}},
            [clock_wrong(-3600.0), not_ready("NodeStatusUnknown")],
            id="a node whose kubelet takes certificates for not yet valid",
        ),
        pytest.param(
            {**KUBELET, "clock_ahead": -3600.0},
            {"node": {**NODE, "configz": None, "configz_error": "Unauthorized"}},
            [clock_wrong(-3600.0)],
            id="a kubelet that could not connect to the API server again",
        ),
        pytest.param(
            {**KUBELET, "recovered": "20261123T000000.000Z"},
            {"node": {**NODE, "ready": False}},
            [],
            id="an interrupted switch: it is undone first, Ready or not",
        ),
        pytest.param(
            {**KUBELET, "settings": []},
            {"node": {**NODE, "drain": {"problems": to_dicts([BARE_POD])}}},
            [],
            id="nothing to change: what a drain would say does not matter",
        ),
    ],
)
def test_plan(kubelet: dict[str, Any], api: dict[str, Any], problems: list[Problem]) -> None:
    assert plan_fact(kubelet, api)["problems"] == to_dicts(problems)


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (86400.0, "is at least 24 h 0 min ahead of"),
        (-3660.0, "is at least 1 h 1 min behind"),
        (-3490.0, "is at least 58 min behind"),
        (299.0, None),
        (0.0, None),
    ],
)
def test_a_clock_from_which_nothing_suffers_is_a_note(seconds: float, words: str | None) -> None:
    plan = plan_fact({**KUBELET, "clock_ahead": seconds}, {"node": NODE})
    notes = [note for note in plan["notes"] if "the node's clock" in note]
    assert plan["problems"] == []
    assert [str(words) in note for note in notes] == ([True] if words else [])


@pytest.mark.parametrize(
    ("kubelet", "node"),
    [
        ({**KUBELET, "settings": [], "recovered": "20261123T000000.000Z"}, {}),
        ({**KUBELET, "settings": []}, {"cordoned_by_kubepin": True}),
    ],
    ids=["a switch to undo", "a cordon to take back"],
)
def test_what_an_interrupted_run_left_is_a_change(kubelet: dict[str, Any], node: dict[str, Any]) -> None:
    plan = plan_fact(kubelet, {"node": {**NODE, "unschedulable": True, **node}})
    assert plan["changed"]
    assert plan["cordoned_before"] is not node.get("cordoned_by_kubepin", False)


def in_hand(*found: Problem, resumable: bool = False) -> dict[str, Any]:
    """A cordoned node with kubepin's mark, as node_api_info describes it."""
    work = {"mark": {}, "resumable": resumable, "problems": to_dicts(found), "notes": ["a tool may begin"]}
    return {**NODE, "unschedulable": True, "cordoned_by_kubepin": True, "work": work}


IN_USE = in_use("gpu-01", "run theirs", "")
OTHER_WORK = other_work("gpu-01", "run theirs", True)
MAINTENANCE = in_maintenance("gpu-01", "kured", "annotation x")


def test_a_node_that_another_run_works_on_is_a_problem_and_not_interrupted() -> None:
    plan = plan_fact(KUBELET, {"node": in_hand(IN_USE)})
    assert plan["problems"] == to_dicts([IN_USE])
    assert (plan["outcome"], plan["interrupted"]) == ("refused", False)


@pytest.mark.parametrize("problem", [IN_USE, OTHER_WORK], ids=["a living run", "an unfinished upgrade"])
def test_a_node_with_nothing_to_change_is_not_uncordoned_under_another_run(problem: Problem) -> None:
    plan = plan_fact({**KUBELET, "settings": [], "changes": []}, {"node": in_hand(problem)})
    assert (plan["outcome"], plan["changed"], plan["problems"]) == ("ok", False, [])
    assert plan["notes"] == [f"{problem.subject} {problem.finding}"]


def test_a_node_can_be_taken_over_from_a_run_but_not_from_an_upgrade() -> None:
    plan = plan_fact(KUBELET, {"node": in_hand(IN_USE, MAINTENANCE)}, take_over=True)
    assert (plan["problems"], plan["interrupted"], plan["cordoned_before"]) == ([], True, False)
    assert [note.partition(":")[0] for note in plan["notes"]] == [
        "accepted (node_in_use)", "accepted (node_in_maintenance)", "a tool may begin",
    ]  # fmt: skip
    plan = plan_fact(KUBELET, {"node": in_hand(OTHER_WORK)}, take_over=True)
    assert plan["problems"] == to_dicts([OTHER_WORK])


def test_a_resumable_node_that_a_tool_works_on_is_left_to_the_tool() -> None:
    plan = plan_fact({**KUBELET, "settings": []}, {"node": in_hand(MAINTENANCE, resumable=True)})
    assert plan["problems"] == to_dicts([MAINTENANCE])


def test_what_a_drain_would_disturb_and_what_came_meanwhile_is_noted() -> None:
    drain = {**NODE["drain"], "notes": ["pod ml/a is evicted although"]}
    plan = plan_fact({**KUBELET, "notes": ["first"]}, {"node": {**NODE, "drain": drain}})
    assert plan["notes"] == ["first", "pod ml/a is evicted although"]
    came = {"arrived": [{"name": "late", "text": "pod ml/late came"}]}
    result = result_fact(plan, "gpu-01", "present", False, "GPU", KUBELET, drain=came)
    assert result["notes"] == [*plan["notes"], "pod ml/late came"]


def test_a_claim_that_failed_refuses_the_node() -> None:
    plan = plan_fact(KUBELET, {"node": NODE})
    refused = with_failure(plan, {"msg": "text", "problems": to_dicts([IN_USE])})
    assert (refused["outcome"], refused["problems"]) == ("refused", to_dicts([IN_USE]))
    assert with_failure(plan, {"msg": "no API"})["problems"] == [module_failed("no API").to_dict()]


@pytest.mark.parametrize(
    ("period", "seconds"),
    [(None, 12), ("10s", 12), ("1m0s", 62), ("2.5s", 5)],
    ids=["unknown: the kubelet's default", "default", "a minute", "a fraction"],
)
def test_the_probe_watches_for_longer_than_the_kubelets_reconcile_period(period: str | None, seconds: int) -> None:
    plan = plan_fact({**KUBELET, "reconcile_period": period}, {"node": NODE})
    assert (plan["probe_seconds"], plan["problems"]) == (seconds, [])


def test_times_that_prove_nothing_are_refused() -> None:
    slow = {**KUBELET, "reconcile_period": "20s"}
    (problem,) = plan_fact(slow, {"node": NODE}, probe_seconds="20")["problems"]
    assert problem["code"] == "probe_seconds_too_short"
    assert problem["text"].startswith(
        "cpu_manager_probe_seconds 20 is too short: the pod must watch its device for more than one reconcile"
    )
    assert "(20 s). Raise it" in problem["text"]
    (problem,) = plan_fact(slow, {"node": NODE}, timeout="22")["problems"]
    assert problem["code"] == "timeout_too_short"
    assert problem["text"].startswith("cpu_manager_timeout 22 is too short: it must be longer than the 22 s")


def test_a_reconcile_period_that_is_not_a_duration_is_a_problem() -> None:
    (problem,) = plan_fact({**KUBELET, "reconcile_period": "10 s"}, {"node": NODE})["problems"]
    assert problem["code"] == "reconcile_period_invalid"
    assert problem["text"].startswith('cpuManagerReconcilePeriod: "10 s" is not a duration')


def test_what_a_budget_forbids_now_is_kept_apart() -> None:
    exhausted = budget_exhausted("ml/a", "ml/budget", 1, 1)
    drain = {"evicted": [], "problems": to_dicts([BARE_POD]), "blocked": to_dicts([exhausted])}
    plan = plan_fact(KUBELET, {"node": {**NODE, "drain": drain}})
    assert (plan["problems"], plan["blocked"]) == (to_dicts([BARE_POD]), to_dicts([exhausted]))


def test_the_message_of_a_refused_node_has_all_problems() -> None:
    plan = plan_fact({"msg": "both", "problems": to_dicts([BARE_POD, LOCAL_DATA])}, {"node": NODE})
    assert result(plan=plan)["message"] == f"{BARE_POD.text} {LOCAL_DATA.text}"


def result(**changes: Any) -> dict[str, Any]:
    given: dict[str, Any] = {
        "plan": plan_fact(KUBELET, {"node": NODE}),
        "node": "gpu-01",
        "state": "present",
        "check_mode": False,
        "gpu_label": "GPU",
        "kubelet": KUBELET,
    }
    return result_fact(**{**given, **changes})


def to_uninstall(labelled: dict[str, Any] | None = None, **changes: Any) -> dict[str, Any]:
    """The plan for a node whose settings need not go back."""
    node = {**NODE, "labelled": labelled or {"policy": None, "plan": None, "untuned": False}}
    return plan_fact({**KUBELET, "settings": [], **changes}, {"node": node}, state="absent")


@pytest.mark.parametrize(
    ("changes", "outcome"),
    [
        ({}, "tuned"),
        ({"check_mode": True}, "would_tune"),
        ({"state": "rolled_back"}, "rolled_back"),
        ({"plan": plan_fact({**KUBELET, "settings": []}, {"node": NODE})}, "already_tuned"),
        ({"plan": plan_fact({"msg": "no", "problems": to_dicts([BARE_POD])}, {"node": NODE})}, "refused"),
        ({"failure": FAILURE, "left": {"outcome": "undone", "cordoned": False}}, "undone"),
        ({"state": "absent"}, "uninstalled"),
        ({"state": "absent", "check_mode": True}, "would_uninstall"),
        ({"state": "absent", "plan": to_uninstall(leftovers=["/var/lib/kubepin/lock"])}, "uninstalled"),
        ({"state": "absent", "plan": to_uninstall()}, "not_installed"),
        (
            {"state": "absent", "plan": to_uninstall(labelled={"policy": "none", "plan": "abc", "untuned": False})},
            "uninstalled",
        ),
    ],
)
def test_outcome(changes: dict[str, Any], outcome: str) -> None:
    assert result(**changes)["outcome"] == outcome


def test_what_was_verified_names_a_stand_in_as_one() -> None:
    assert result(api={"node": NODE}, probe=PROBE, gpu_label="GPU stand-in")["verified"] == [
        "state file: policy static",
        "Ready",
        "configz policy static",
        "allocatable cpu 1",
        "GPU stand-in allocatable 1",
        "probe pod on CPUs 1 still has its GPU stand-in after 15 s",
    ]


def test_what_a_confirmation_finds_anew_is_not_said_twice() -> None:
    up = "service up for 19 s without a restart"
    kubelet = {**KUBELET, "verified": [up, "state file: policy none"], "lasting": [up]}
    later = {"verified": ["service up for 98 s without a restart"]}
    assert result(kubelet=kubelet, confirmed=later)["verified"] == ["state file: policy none", *later["verified"]]
    assert result(kubelet=kubelet)["verified"] == kubelet["verified"]


def test_what_was_verified_names_the_policies_of_the_other_managers() -> None:
    configz = {"cpuManagerPolicy": "static", "topologyManagerPolicy": "restricted", "memoryManagerPolicy": "Static"}
    verified = result(api={"node": {**NODE, "configz": configz}})["verified"]
    assert "configz policy static, topology manager restricted, memory manager Static" in verified
    without = {**configz, "topologyManagerPolicy": "none", "memoryManagerPolicy": "None"}
    assert "configz policy static" in result(api={"node": {**NODE, "configz": without}})["verified"]


def test_gpus_that_pods_keep_through_the_drain_are_not_free_for_the_probe() -> None:
    plan = plan_fact(KUBELET, {"node": {**NODE, "drain": {**NODE["drain"], "gpus_kept": 1}}})
    assert (plan["gpus_before"], plan["gpus_free"]) == (1, 0)
    without_device = {"probe": {**PROBE["probe"], "device_paths_seen": []}}
    assert result(plan=plan, api={"node": NODE}, probe=without_device)["verified"][-2:] == [
        "probe pod on CPUs 1 after 15 s",
        "no GPU was checked: pods that stay through the drain hold all",
    ]
    assert plan["gpu_probe"] == "held"


NO_GPU = {**NODE, "allocatable": {"cpu": "1", "gpu": 0}, "gpu_resource": "nvidia.com/gpu"}
REGISTERED = {**NO_GPU, "gpus_expected_by": "device_plugin"}
LABELLED = {**NO_GPU, "gpus_expected_by": "label"}


@pytest.mark.parametrize(
    ("node", "kubelet", "outcome", "reason"),
    [
        pytest.param(NODE, {}, "planned", "", id="offered"),
        pytest.param(NO_GPU, {"running_seconds": 20.0, "nvidia_gpus": 0}, "none", "", id="a node without GPUs"),
        pytest.param(REGISTERED, {"running_seconds": 9e5}, "not_back", "had registered some", id="its plugin is gone"),
        pytest.param(LABELLED, {"running_seconds": 20.0}, "not_back", "its labels say", id="a fresh boot"),
        pytest.param(LABELLED, {"running_seconds": 9e5}, "none", "", id="labels, and no plugin for days"),
        pytest.param(
            NO_GPU,
            {"running_seconds": 20.0, "nvidia_gpus": 8},
            "not_back",
            "8 NVIDIA GPUs on its PCI bus",
            id="on the bus",
        ),
    ],
)
def test_no_switch_is_planned_for_a_node_whose_gpus_are_not_back(
    node: dict[str, Any], kubelet: dict[str, Any], outcome: str, reason: str
) -> None:
    plan = plan_fact({**KUBELET, **kubelet}, {"node": node})
    assert plan["gpu_probe"] == outcome
    assert [problem["code"] for problem in plan["problems"]] == (["gpus_not_back"] if reason else [])
    assert reason in "".join(problem["finding"] for problem in plan["problems"])


def test_gpus_that_are_not_back_are_accepted_and_said_in_notes_and_verification() -> None:
    plan = plan_fact(KUBELET, {"node": REGISTERED}, accept_missing_gpus=True)
    assert (plan["problems"], plan["outcome"]) == ([], "not_begun")
    assert any(note.startswith("accepted (gpus_not_back): the node offers no nvidia.com/gpu") for note in plan["notes"])
    without_device = {"probe": {**PROBE["probe"], "device_paths_seen": []}}
    fact = result(plan=plan, api={"node": NODE}, probe=without_device)
    assert fact["gpu_probe"] == "not_back"
    assert fact["verified"][-1] == "no GPU was checked: the node's were not back before the switch"


def test_only_nodes_that_change_and_whose_kubelet_was_just_started_are_waited_for() -> None:
    def host(name: str, state: str = "present", **kubelet: Any) -> dict[str, Any]:
        asked = {"node": name, "state": state, "accept_old_kubelet": False, "gpu_label": "GPU", "probe_seconds": None}
        asked |= {"timeout": 90, "take_over": False, "accept_missing_gpus": False, "taint_untuned": False}
        return {
            "inventory_hostname": name,
            "__cpu_manager_asked": asked,
            "__cpu_manager_question": {"node": name, "gpu_resource": "auto"},
            "__cpu_manager_planned": {**KUBELET, "running_seconds": 20.0, **kubelet},
        }

    hosts = [
        host("started"),
        host("same", settings=[]),
        host("for-days", running_seconds=9e5),
        host("back", "rolled_back"),
    ]
    api = {"nodes": {name: {"node": REGISTERED} for name in ("started", "same", "for-days", "back")}}
    waited = [{"node": name, "gpu_resource": "auto", "settle": 90, "gpus": 1} for name in ("started", "back")]
    assert awaited_nodes([*hosts, {"inventory_hostname": "not read"}], api) == waited
    plans = host_facts(hosts, api, False, {"nodes": {"started": {"node": NODE}}})
    codes = {name: [problem["code"] for problem in facts["kubepin_plan"]["problems"]] for name, facts in plans.items()}
    assert codes == {"started": [], "same": [], "for-days": ["gpus_not_back"], "back": []}
    assert plans["started"]["kubepin_plan"]["gpu_probe"] == "planned"


def test_a_kubelet_that_does_not_start_is_named_instead_of_what_the_api_says_of_its_node() -> None:
    broken = does_not_start("activating, auto-restart", Cause("E0101 no room", "the disk is full", "Make room."))
    node = {**NODE, "ready": False, "ready_reason": "KubeletNotReady: PLEG is not healthy"}
    plan = plan_fact({**KUBELET, "start_problem": broken.to_dict()}, {"node": node})
    assert plan["problems"] == [broken.to_dict()]
    assert plan_fact({**KUBELET, "start_problem": broken.to_dict(), "recovered": "1"}, {"node": node})["problems"] == []


@pytest.mark.parametrize("timeout", [60, 120, 600])
def test_a_switch_is_held_for_longer_than_its_verification_may_take(timeout: int) -> None:
    """The probe pod and the API may each take as long as cpu_manager_timeout."""
    assert plan_fact(KUBELET, {"node": NODE}, timeout=timeout)["hold_seconds"] > 2 * timeout


@pytest.mark.parametrize(("resumable", "ended"), [(True, "20261123T172004.120Z"), (False, None)])
def test_the_switch_of_a_run_that_has_ended_is_not_waited_for(resumable: bool, ended: str | None) -> None:
    node = {**NODE, "cordoned_by_kubepin": True, "work": {"resumable": resumable, "problems": [], "notes": []}}
    assert plan_fact({**KUBELET, "recovered": "20261123T172004.120Z"}, {"node": node})["ended_switch"] == ended


def test_a_failure_says_what_state_the_node_is_in_and_what_to_do() -> None:
    undone = result(failure=FAILURE, left={"outcome": "undone", "cordoned": False})
    assert "It failed. Node gpu-01 is as it was found (policy none, schedulable)." in undone["message"]
    assert undone["first_cause"] == "E1123 broken"
    assert undone["left_cordoned"] is False
    lost = result(failure=FAILURE, left={"outcome": "failed", "cordoned": True, "msg": "not Ready"})
    assert "stays cordoned: not Ready" in lost["message"]
    assert "/var/lib/kubepin/x.json on the node" in lost["next_step"]
    assert lost["left_cordoned"] is True


@pytest.mark.parametrize(
    ("version", "policy_before", "accepted", "refused"),
    [
        pytest.param("v1.21.14", "none", False, True, id="old"),
        pytest.param("v1.21.14", "none", True, False, id="accepted"),
        pytest.param("v1.21.14", "static", False, False, id="static already"),
        pytest.param("v1.22.17", "none", False, False, id="new"),
    ],
)
def test_a_kubelet_that_touches_pinned_containers_gets_no_static_policy_unasked(
    version: str, policy_before: str, accepted: bool, refused: bool
) -> None:
    kubelet = {**KUBELET, "policy_before": policy_before}
    problems = plan_fact(kubelet, {"node": {**NODE, "kubelet_version": version}}, accepted)["problems"]
    assert problems == (to_dicts([touches_pinned_containers("1.21.14")]) if refused else [])
    assert all(problem["waivable"] for problem in problems)
    assert all("kubepin_upgrade_first=true" in problem["remedy"] for problem in problems)


def test_a_module_that_was_killed_on_the_node_is_named_as_killed() -> None:
    found = {
        "failed": True,
        "module_stderr": "Killed\n",
        "module_stdout": "",
        "rc": 137,
        "msg": "No start of json char found",
    }
    failure = failure_fact(found, "Switch")
    assert failure["first_cause"] == failure["msg"]
    assert failure["msg"] == 'Ansible\'s program on the node was killed by signal 9 before it had a result: "Killed".'
    ended = failure_fact({**found, "rc": 1, "module_stderr": "", "module_stdout": "Segmentation\nfault"}, "Switch")[
        "msg"
    ]
    assert (
        ended == 'Ansible\'s program on the node ended with exit status 1 before it had a result: "Segmentation fault".'
    )


def test_the_result_of_a_failed_task_is_kept() -> None:
    task_result = {"msg": "no", "first_cause": "E1 no", "meaning": "that", "journal": "/j"}
    assert failure_fact(task_result, "Switch") == {"task": "Switch", **task_result}
    assert failure_fact({}, "Switch")["first_cause"] == "unknown"


def test_a_task_at_its_time_limit_names_the_variable_to_raise() -> None:
    late = {"msg": "Task failed: Timed out after 480 second(s).", "timedout": {"frame": "", "period": 480}}
    failure = failure_fact(late, "Switch", "cpu_manager_timeout")
    assert failure["msg"] == failure["first_cause"]
    assert "480 s" in failure["msg"]
    assert "raise cpu_manager_timeout" in failure["msg"]
    assert failure_fact(late, "Switch")["msg"] == late["msg"]


@pytest.mark.parametrize(
    ("state", "settings", "labelled", "relabels"),
    [
        pytest.param("present", KUBELET["settings"], (None, None), True, id="switched"),
        pytest.param("present", [], ("static", "abc"), False, id="as planned and labelled"),
        pytest.param("present", [], (None, None), True, id="as planned, tuned by an earlier version"),
        pytest.param("present", [], ("static", "old"), True, id="as planned, labelled for another plan"),
        pytest.param("rolled_back", [], (None, None), False, id="never switched"),
        pytest.param("rolled_back", KUBELET["settings"], ("static", "abc"), True, id="rolled back"),
        pytest.param("absent", [], (None, None), False, id="without a label"),
        pytest.param("absent", [], ("none", "abc"), True, id="label to remove"),
    ],
)
def test_when_the_labels_of_a_node_change(
    state: str, settings: list[Any], labelled: tuple[str | None, str | None], relabels: bool
) -> None:
    kubelet = {**KUBELET, "settings": settings, "plan_id": "abc"}
    node = {**NODE, "labelled": {**dict(zip(("policy", "plan"), labelled, strict=True)), "untuned": False}}
    assert plan_fact(kubelet, {"node": node}, state=state)["relabels"] is relabels


@pytest.mark.parametrize(
    ("asked", "state", "policies", "changed", "expected"),
    [
        pytest.param(True, "present", ("none", "static"), True, (True, False, True), id="tainted until it is tuned"),
        pytest.param(False, "present", ("none", "static"), True, (False, False, True), id="not asked for"),
        pytest.param(True, "present", ("static", "static"), True, (False, False, True), id="another reservation"),
        pytest.param(True, "rolled_back", ("static", "none"), True, (False, True, True), id="rolled back"),
        pytest.param(True, "absent", ("static", "none"), True, (False, False, True), id="uninstalled"),
        pytest.param(True, "present", ("none", "none"), False, (False, True, True), id="planned without the policy"),
        pytest.param(False, "present", ("static", "static"), False, (False, False, False), id="as planned"),
    ],
)
def test_an_untuned_node_is_tainted_only_if_that_is_asked_for(
    asked: bool, state: str, policies: tuple[str, str], changed: bool, expected: tuple[bool, bool, bool]
) -> None:
    kubelet = {
        **KUBELET,
        "settings": KUBELET["settings"] if changed else [],
        "changes": KUBELET["changes"] if changed else [],
        "policy_before": policies[0],
        "policy": policies[1],
        "plan_id": "abc",
    }
    node = {**NODE, "labelled": {"policy": policies[1], "plan": "abc", "untuned": False}}
    plan = plan_fact(kubelet, {"node": node}, state=state, taint_untuned=asked)
    assert (plan["taints"], plan["untuned"], plan["relabels"]) == expected


def test_a_taint_that_is_left_is_removed_from_a_tuned_node() -> None:
    kubelet = {**KUBELET, "settings": [], "changes": [], "plan_id": "abc"}
    node = {**NODE, "labelled": {"policy": "static", "plan": "abc", "untuned": True}}
    plan = plan_fact(kubelet, {"node": node})
    assert (plan["relabels"], plan["untuned"]) == (True, False)


def test_a_refused_node_is_not_labelled() -> None:
    plan = plan_fact({"msg": "no", "problems": to_dicts([BARE_POD])}, {"node": {**NODE, "labelled": {}}})
    assert not plan["relabels"]


def test_the_result_of_an_uninstallation_names_what_was_removed_where_it_is_now_and_what_remains() -> None:
    stays = to_dicts([version_stays("1.21.14", "1.22.17")])
    plan = plan_fact({**KUBELET, "remaining": stays}, {"node": NODE}, state="absent")
    record = {"path": "/var/lib/kubepin/switches/a.json", "action": "removed", "reason": "a record of kubepin"}
    done = result(plan=plan, state="absent", removed={"changes": [record], "archive": "runs/x/journal/gpu-01"})
    assert (done["changes"], done["archive"], done["remaining"]) == ([record], "runs/x/journal/gpu-01", stays)


def test_records_that_could_not_be_removed_fail_a_node_whose_settings_are_back() -> None:
    left = {"outcome": "failed", "cordoned": False, "records_left": True}
    done = result(state="absent", failure=FAILURE, left=left)
    assert (done["outcome"], done["policy"], done["records_left"], done["left_cordoned"]) == (
        "failed",
        "static",
        True,
        False,
    )
    assert "kubepin's records are still there" in done["message"]
    assert done["next_step"].startswith("Remove the cause and run the same command again")
