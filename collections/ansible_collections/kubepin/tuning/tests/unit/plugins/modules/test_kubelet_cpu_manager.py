# SPDX-License-Identifier: GPL-3.0-or-later
"""What a run of kubelet_cpu_manager does to a simulated node, and what it returns."""

from __future__ import annotations

import json
import time
import typing as t

import pytest
from ansible_collections.kubepin.tuning.plugins.module_utils.common.layout import GUARD_FILES
from ansible_collections.kubepin.tuning.plugins.module_utils.common.switch import problems
from ansible_collections.kubepin.tuning.plugins.module_utils.common.switch.system_daemons import (
    DROP_INS,
    IRQBALANCE_FILES,
)
from ansible_collections.kubepin.tuning.plugins.module_utils.control.switch.run import seconds_ahead
from ansible_collections.kubepin.tuning.tests.unit.samples.simulated_node import (
    ENV,
    OLD,
    STATE,
    PowerCut,
    SimulatedNode,
    state_of,
)

Result = t.Dict[str, t.Any]
Run = t.Callable[..., Result]
FAILURE = 'E1123 "Failed to run kubelet" err="no room"'


def interrupt(node: SimulatedNode, run: Run) -> None:
    """Cut the power when the new settings are in place, and boot."""

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(node, "start_kubelet", node.cut_power)
        with pytest.raises(PowerCut):
            run()
    node.power_on()


def test_a_kubelet_that_runs_with_settings_of_which_no_file_knows_is_left_alone(node: SimulatedNode, run: Run) -> None:
    running = {"cpuManagerPolicy": "none", "systemReserved": {"memory": "1Gi"}}
    result = run(running_config=running)
    assert [problem["code"] for problem in result["problems"]] == ["kubelet_not_restarted"]
    assert "systemReserved" in result["msg"]
    assert (node.policy, node.files[ENV]) == ("none", OLD)
    accepted = run(running_config=running, accept_not_restarted=True)
    assert (accepted["changed"], node.policy) == (True, "static")


def test_a_kubelet_that_does_not_run_with_what_is_in_place_is_restarted(node: SimulatedNode, run: Run) -> None:
    run()
    result = run(running_config={"cpuManagerPolicy": "none"})
    assert (result["changed"], result["changes"]) == (True, [])
    assert "downtime_ms" in result
    assert not run(running_config={"cpuManagerPolicy": "static", "reservedSystemCPUs": "0"})["changed"]


def test_the_policy_is_switched_and_verified(node: SimulatedNode, run: Run) -> None:
    result = run()
    assert (result["changed"], node.policy, node.running) == (True, "static", True)
    assert (result["policy_before"], result["policy"], result["exclusive_cpus"]) == ("none", "static", 1)
    assert [(change["path"], change["action"]) for change in result["changes"]] == [
        (STATE, "removed"),
        (ENV, "replaced"),
    ]
    assert "state file: policy static, shared pool 0-1, reserved 0" in result["verified"]
    assert result["rollback"]["id"] == result["switch_id"]
    assert result["rollback"]["restores"] == [ENV]


def test_a_node_that_has_the_settings_is_left_alone(node: SimulatedNode, run: Run) -> None:
    run()
    steps = list(node.steps)
    result = run()
    assert (result["changed"], result["settings"], result["changes"]) == (False, [], [])
    assert node.steps == steps


def test_check_mode_says_the_same_and_touches_nothing(node: SimulatedNode, run: Run) -> None:
    checked = run(_ansible_check_mode=True)
    assert (node.steps, node.policy) == ([], "none")
    done = run()
    for name in ("changed", "settings", "changes", "diff", "policy", "reservation"):
        assert checked[name] == done[name], name


def test_the_diff_shows_each_file(run: Run) -> None:
    state, settings = run(_ansible_check_mode=True)["diff"]
    assert state["after_header"].startswith(f"{STATE} (removed: ")
    assert (state["before"], state["after"]) == (state_of("none"), "")
    assert (settings["before_header"], settings["before"]) == (ENV, OLD)
    assert "--cpu-manager-policy=static" in settings["after"]


def test_secrets_are_in_the_journal_and_not_in_the_result(node: SimulatedNode, run: Run) -> None:
    node.files[ENV] = secret = f"HTTPS_PROXY=http://me:hunter2@proxy\nDB_PASSWORD=hunter2\n{OLD}"
    result = run()
    assert "hunter2" not in json.dumps(result)
    assert "HTTPS_PROXY=http://********@proxy\nDB_PASSWORD=********\n" in result["diff"][1]["after"]
    assert node.files[ENV].startswith(secret[: -len(OLD)])
    (journal,) = [text for path, text in node.files.items() if "/switches/" in path]
    assert "me:hunter2@proxy" in journal


def test_what_cannot_be_done_is_refused_with_every_reason(node: SimulatedNode, run: Run) -> None:
    result = run(reserved_cpus="0-1", policy_options={"no-such-option": True})
    assert result["failed"] is True
    codes = [problem["code"] for problem in result["problems"]]
    assert codes == ["no_cpu_left_for_pods", "policy_option_unknown"]
    assert all(problem["text"] in result["msg"] for problem in result["problems"])
    assert "policy" not in result, "whoever registers the result of a failure would take it for a plan"
    assert node.steps == []


@pytest.mark.parametrize("check_mode", [False, True])
def test_files_that_cannot_be_replaced_are_found_before_also_in_check_mode(
    node: SimulatedNode, run: Run, check_mode: bool
) -> None:
    node.problems = {ENV: [problems.file_read_only(ENV)], STATE: [problems.file_immutable(STATE)]}
    result = run(_ansible_check_mode=check_mode)
    assert [problem["code"] for problem in result["problems"]] == ["file_read_only", "file_immutable"]
    assert (result["failed"], node.steps, node.commands) == (True, [], [])


@pytest.mark.parametrize("check_mode", [False, True])
def test_a_disk_that_is_too_full_is_found_before_also_in_check_mode(
    node: SimulatedNode, run: Run, check_mode: bool
) -> None:
    node.free = 64 << 10
    result = run(_ansible_check_mode=check_mode)
    [problem] = result["problems"]
    assert problem["code"] == "file_system_full"
    assert "file system / is too full: 64 KiB are free" in result["msg"]
    assert (result["failed"], node.steps, node.commands) == (True, [], [])


def test_the_result_says_how_wrong_the_clock_is(node: SimulatedNode, run: Run) -> None:
    node.date = time.time() + 86400
    assert run()["clock_ahead"] == pytest.approx(86400 + node.clock, abs=60)


def test_a_clock_that_may_be_the_same_is_not_wrong() -> None:
    assert [seconds_ahead(clock, 100.0, 130.0) for clock in (90.0, 100.0, 115.0, 130.0, 190.0)] == [-10, 0, 0, 0, 60]


def test_a_kubelet_that_fails_is_undone_and_quoted(node: SimulatedNode, run: Run) -> None:
    node.fails_with = FAILURE
    result = run()
    assert (result["failed"], result["undone"], result["first_cause"]) == (True, True, FAILURE)
    assert result["journal"] in node.files
    assert (node.policy, node.running, node.files[ENV]) == ("none", True, OLD)


def test_a_switch_is_rolled_back_once(node: SimulatedNode, run: Run) -> None:
    run()
    back = run(state="rolled_back")
    assert (back["changed"], back["policy_before"], back["policy"]) == (True, "static", "none")
    assert (node.files[ENV], node.running) == (OLD, True)
    confirmed = run(state="confirmed", switch_id=back["switch_id"])
    assert len(confirmed["verified"]) == len(back["lasting"]) == 1
    assert back["lasting"][0] in back["verified"]
    again = run(state="rolled_back")
    assert (again["changed"], again["rollback"]) == (False, {})


@pytest.mark.parametrize("check_mode", [False, True])
@pytest.mark.parametrize("state", ["rolled_back", "recovered"])
def test_with_nothing_to_undo_nothing_changes(node: SimulatedNode, run: Run, state: str, check_mode: bool) -> None:
    result = run(state=state, _ansible_check_mode=check_mode)
    assert (result["changed"], result["changes"], result["rollback"], result["policy"]) == (False, [], {}, "none")
    assert node.steps == []


def test_a_rollback_of_files_that_were_edited_since_is_refused(node: SimulatedNode, run: Run) -> None:
    run()
    node.files[ENV] = edited = node.files[ENV] + "# by hand\n"
    result = run(state="rolled_back")
    assert result["failed"] is True
    assert ENV in result["msg"]
    assert node.files[ENV] == edited


def test_an_interrupted_switch_is_recovered(node: SimulatedNode, run: Run) -> None:
    interrupt(node, run)
    assert node.policy == "static"
    result = run(state="recovered")
    assert (result["changed"], node.policy, node.running, node.drafts) == (True, "none", True, [])
    assert result["recovered"]
    assert [change["path"] for change in result["changes"]] == [ENV]


def test_check_mode_says_what_a_recovery_would_do(node: SimulatedNode, run: Run) -> None:
    interrupt(node, run)
    files = dict(node.files)
    result = run(_ansible_check_mode=True)
    assert result["changed"] is True
    assert result["notes"] == [
        f"the interrupted switch {result['recovered']} would be undone first; what follows is planned after that"
    ]
    assert result["diff"][0]["after"] == OLD
    assert node.files == files


@pytest.mark.parametrize("state", ["recovered", "present", "rolled_back"])
def test_an_interrupted_switch_whose_files_were_edited_since_is_left_to_a_person(
    node: SimulatedNode, run: Run, state: str
) -> None:
    interrupt(node, run)
    node.files[ENV] = "KUBELET_EXTRA_ARGS=--v=4\n"
    files = dict(node.files)
    result = run(state=state)
    assert result["failed"] is True
    assert f"{ENV} was edited since" in result["msg"]
    assert f"move /var/lib/kubepin/switches/{result['recovered']}.json away" in result["msg"]
    assert node.files == files


def test_an_interrupted_switch_is_recovered_before_a_new_one(node: SimulatedNode, run: Run) -> None:
    interrupt(node, run)
    result = run()
    assert (result["changed"], node.policy, node.running) == (True, "static", True)
    assert result["recovered"] != result["switch_id"]


def test_a_held_switch_is_committed_once_confirmed(node: SimulatedNode, run: Run) -> None:
    held = run(hold=300)
    assert held["rollback"] == {}
    result = run(state="confirmed", switch_id=held["switch_id"])
    assert (result["changed"], result["rollback"]["id"]) == (False, held["switch_id"])
    assert result["verified"] == ["service up for 60 s without a restart"]


def test_a_held_switch_is_undone_if_a_pod_did_not_get_its_cpus(node: SimulatedNode, run: Run) -> None:
    held = run(hold=300)
    pod = {"uid": "u", "container": "probe", "cpus": "0-1"}
    result = run(state="confirmed", switch_id=held["switch_id"], pod=pod)
    assert (result["failed"], result["undone"], node.policy) == (True, True, "none")
    assert "gives it no exclusive CPUs" in result["msg"]


def test_check_mode_confirms_nothing(node: SimulatedNode, run: Run) -> None:
    held = run(hold=300)
    result = run(state="confirmed", switch_id=held["switch_id"], _ansible_check_mode=True)
    assert (result["changed"], result["rollback"]) == (False, {})


def test_a_switch_that_is_not_there_cannot_be_confirmed(run: Run) -> None:
    assert "has no switch 20260101T000000.000Z" in run(state="confirmed", switch_id="20260101T000000.000Z")["msg"]


def test_the_boot_guard_is_a_part_of_the_switch_and_goes_with_it(node: SimulatedNode, run: Run) -> None:
    before = dict(node.files)
    assert run(boot_guard=True)["changed"]
    assert all(path in node.files for path in GUARD_FILES)
    assert not run(boot_guard=True)["changed"]
    assert not run()["changed"]
    run(state="rolled_back")
    assert not any(path in node.files for path in GUARD_FILES)
    assert {path: text for path, text in node.files.items() if path in before and path != STATE} == {
        path: text for path, text in before.items() if path != STATE
    }


def test_a_node_that_has_a_boot_guard_and_is_to_have_none_loses_it(node: SimulatedNode, run: Run) -> None:
    run(boot_guard=True)
    result = run(boot_guard=False)
    assert [(change["path"], change["action"]) for change in result["changes"]] == [
        (path, "removed") for path in GUARD_FILES
    ]
    assert not any(path in node.files for path in GUARD_FILES)


def test_system_daemons_are_a_part_of_the_switch_and_go_with_it(node: SimulatedNode, run: Run) -> None:
    node.add_control_groups()
    before = dict(node.files)
    planned = run(system_slices=True, irqbalance=True, _ansible_check_mode=True)
    result = run(system_slices=True, irqbalance=True)
    assert planned["changes"] == result["changes"]
    assert {*DROP_INS.values(), IRQBALANCE_FILES[0]} <= {change["path"] for change in result["changes"]}
    assert "system.slice, user.slice, init.scope on CPUs 0" in result["verified"]
    assert any("AllowedCPUs=0" in diff["after"] for diff in result["diff"])
    assert not run(system_slices=True, irqbalance=True)["changed"]
    assert not run()["changed"], "without the option, it stays as it is"
    run(state="rolled_back")
    assert {path: text for path, text in node.files.items() if path in before and path != STATE} == {
        path: text for path, text in before.items() if path != STATE
    }
    assert not any(path in node.files for path in (*DROP_INS.values(), *IRQBALANCE_FILES))


def test_system_daemons_follow_other_reserved_cpus_and_are_freed_by_the_policy_none(
    node: SimulatedNode, run: Run
) -> None:
    node.add_control_groups()
    run(system_slices=True)
    run(reserved_cpus="1")
    assert "AllowedCPUs=1\n" in node.files[DROP_INS["system.slice"]]
    run(policy="none")
    assert not any(path in node.files for path in DROP_INS.values())
    assert node.files["/sys/fs/cgroup/system.slice/cpuset.cpus.effective"] == "0-1\n"


def test_every_problem_with_system_daemons_comes_with_the_others(node: SimulatedNode, run: Run) -> None:
    result = run(policy="none", system_slices=True, irqbalance=True)
    assert [problem["code"] for problem in result["problems"]] == ["no_cpus_for_system", "no_cpus_for_system"]
    node.files[DROP_INS["user.slice"]] = "[Slice]\nAllowedCPUs=0\n"
    node.add_control_groups()
    node.allowed_cpus_of["user.slice"] = "0"
    result = run(reserved_cpus="0-1", system_slices=True)
    assert [problem["code"] for problem in result["problems"]] == ["no_cpu_left_for_pods", "unit_already_restricted"]
    assert node.steps == []
