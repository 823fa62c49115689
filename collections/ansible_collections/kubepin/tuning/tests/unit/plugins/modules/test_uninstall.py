# SPDX-License-Identifier: GPL-3.0-or-later
"""kubelet_cpu_manager with `state: absent` on a simulated node: what goes back, what is removed, and what is refused."""

from __future__ import annotations

import json
import typing as t
from pathlib import Path

import pytest
from ansible_collections.kubepin.tuning.plugins.module_utils.common.switch import problems
from ansible_collections.kubepin.tuning.plugins.module_utils.node.transaction.system import LOCK
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
BEFORE = {ENV: OLD, STATE: state_of("none")}
SWITCHES = "/var/lib/kubepin/switches"


@pytest.fixture
def remove(run: Run, tmp_path: Path) -> Run:
    """Runs the action with `state: absent` and an archive."""

    def absent(**params: t.Any) -> Result:
        return run(state="absent", archive=str(tmp_path / "archive"), **params)

    return absent


def archived(tmp_path: Path) -> list[Result]:
    """The records in the archive, the oldest first."""
    files = (tmp_path / "archive" / "switches").glob("*.json")
    return sorted((json.loads(file.read_text()) for file in files), key=lambda record: int(record["sequence"]))


def tuned_twice(run: Run) -> None:
    run(reserved_cpus="0")
    run(reserved_cpus="1")


def codes(result: Result) -> list[str]:
    return [problem["code"] for problem in result["problems"]]


def test_a_node_that_was_tuned_once_is_as_before_and_its_journal_is_archived(
    node: SimulatedNode, run: Run, remove: Run, tmp_path: Path
) -> None:
    run()
    node.files[LOCK] = ""
    texts = {path: text for path, text in node.files.items() if path.startswith(SWITCHES)}
    result = remove()
    assert (result["changed"], result["policy_before"], result["policy"]) == (True, "static", "none")
    assert node.files == BEFORE
    assert (node.running, node.guards) == (True, [])
    switch, back = archived(tmp_path)
    assert [json.loads(text) for text in texts.values()] == [switch]
    assert (back["undoes"], back["status"]) == (switch["id"], "committed")


def test_the_archive_is_for_its_owner_alone(run: Run, remove: Run, tmp_path: Path) -> None:
    run()
    remove()
    paths = [tmp_path / "archive", *(tmp_path / "archive").rglob("*")]
    assert {path.stat().st_mode & 0o077 for path in paths} == {0}


def test_a_node_that_was_tuned_twice_goes_back_to_before_the_first_switch_at_once(
    node: SimulatedNode, run: Run, remove: Run, tmp_path: Path
) -> None:
    tuned_twice(run)
    stops = node.steps.count("stop")
    remove()
    assert node.files == BEFORE
    assert node.steps.count("stop") == stops + 1, "the kubelet is stopped once, however many switches there were"
    assert len(archived(tmp_path)) == 3


def test_a_node_that_was_rolled_back_is_not_restarted(
    node: SimulatedNode, run: Run, remove: Run, tmp_path: Path
) -> None:
    run()
    run(state="rolled_back")
    stops = node.steps.count("stop")
    result = remove()
    assert (result["changed"], result["settings"], node.files) == (True, [], BEFORE)
    assert node.steps.count("stop") == stops
    assert len(archived(tmp_path)) == 2


@pytest.mark.parametrize("check_mode", [False, True])
def test_a_node_that_was_never_tuned_is_left_alone(
    node: SimulatedNode, remove: Run, tmp_path: Path, check_mode: bool
) -> None:
    result = remove(_ansible_check_mode=check_mode)
    assert (result["changed"], result["changes"], result["leftovers"]) == (False, [], [])
    assert node.steps == []
    assert not (tmp_path / "archive").exists()


def test_a_second_run_has_nothing_to_do(node: SimulatedNode, run: Run, remove: Run) -> None:
    run()
    remove()
    steps = list(node.steps)
    assert not remove()["changed"]
    assert node.steps == steps


def test_check_mode_says_what_would_go_and_touches_nothing(
    node: SimulatedNode, run: Run, remove: Run, tmp_path: Path
) -> None:
    run()
    files, steps = dict(node.files), list(node.steps)
    result = remove(_ansible_check_mode=True)
    (record,) = result["leftovers"]
    actions = {change["path"]: change["action"] for change in result["changes"]}
    assert actions == {STATE: "removed", ENV: "replaced", record: "removed"}
    assert [each["before_header"] for each in result["diff"]] == [STATE, ENV, record]
    assert (node.files, node.steps) == (files, steps)
    assert not (tmp_path / "archive").exists()


def test_without_an_archive_the_settings_go_back_and_the_journal_stays(node: SimulatedNode, run: Run) -> None:
    run()
    result = run(state="absent")
    assert (result["policy"], node.files[ENV]) == ("none", OLD)
    assert len(node.names(SWITCHES)) == 2
    assert not run(state="absent")["changed"], "verified from outside meanwhile, and not switched once more"


def test_an_interrupted_switch_is_undone_first(node: SimulatedNode, run: Run, remove: Run, tmp_path: Path) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(node, "start_kubelet", node.cut_power)
        with pytest.raises(PowerCut):
            run()
    node.power_on()
    result = remove()
    assert result["recovered"]
    assert node.files == BEFORE
    assert [record["status"] for record in archived(tmp_path)] == ["undone"]


def test_the_power_is_cut_at_every_step_and_the_next_run_ends_what_was_begun(
    node: SimulatedNode, run: Run, remove: Run
) -> None:
    tuned_twice(run)
    files = dict(node.files)
    begun = len(node.steps)
    node.guards = ["kubepin-guard-1"]  # a killed run left it
    remove()
    assert node.guards == []
    for number in range(begun + 1, len(node.steps) + 1):
        node.files, node.steps, node.running = dict(files), ["earlier"] * begun, True
        node.power_cut_at = number
        with pytest.raises(PowerCut):
            remove()
        step = node.steps[-1]
        node.power_on()
        assert node.running, f"no kubelet after a power cut at: {step}"
        result = remove()
        assert "failed" not in result, f"{step}: {result.get('msg')}"
        assert node.files == BEFORE, step


def test_a_kubelet_that_fails_with_the_old_settings_keeps_the_new_ones_and_its_journal(
    node: SimulatedNode, run: Run, remove: Run
) -> None:
    run()
    node.fails_with, node.fails_under = 'E1123 "Failed to run kubelet" err="no room"', "none"
    result = remove()
    assert (result["failed"], result["undone"], node.policy, node.running) == (True, True, "static", True)
    assert node.names(SWITCHES)


def test_a_file_that_was_edited_since_is_named_and_nothing_is_touched(
    node: SimulatedNode, run: Run, remove: Run
) -> None:
    run()
    node.files[ENV] += "# by hand\n"
    files = dict(node.files)
    result = remove()
    assert codes(result) == ["file_changed_since"]
    assert ENV in result["msg"]
    assert node.files == files


def test_an_edit_between_two_switches_would_be_lost_and_is_named(node: SimulatedNode, run: Run, remove: Run) -> None:
    run(reserved_cpus="0")
    node.files[ENV] += "OTHER=1\n"
    run(reserved_cpus="1")
    files = dict(node.files)
    assert codes(remove()) == ["file_changed_between"]
    assert node.files == files


def test_a_file_that_someone_has_restored_needs_no_restart(node: SimulatedNode, run: Run, remove: Run) -> None:
    run()
    node.stop_kubelet()
    node.files.update(BEFORE)
    node.start_kubelet()
    starts = node.starts
    assert remove()["changed"]
    assert (node.files, node.starts) == (BEFORE, starts)


def test_a_kubelet_that_was_not_restarted_after_someone_restored_its_files_is_restarted(
    node: SimulatedNode, run: Run, remove: Run
) -> None:
    """Else it would refuse its state file at the next start, when nothing on the node says why any more."""
    run()
    node.files[ENV] = OLD
    result = remove()
    assert [change["path"] for change in result["changes"][:1]] == [STATE]
    assert (result["changed"], node.files, node.running) == (True, BEFORE, True)
    node.boot()
    assert node.running


def test_missing_records_are_named(node: SimulatedNode, run: Run, remove: Run) -> None:
    tuned_twice(run)
    first = min(node.names(SWITCHES))
    del node.files[f"{SWITCHES}/{first}"]
    assert codes(remove()) == ["records_missing"]
    assert node.policy == "static"


def test_all_problems_are_listed_at_once(node: SimulatedNode, run: Run, remove: Run) -> None:
    tuned_twice(run)
    del node.files[f"{SWITCHES}/{min(node.names(SWITCHES))}"]
    node.files[ENV] += "# by hand\n"
    assert codes(remove()) == ["records_missing", "file_changed_since"]


def test_files_that_cannot_be_replaced_are_named_before_the_drain(node: SimulatedNode, run: Run, remove: Run) -> None:
    run()
    node.problems = {ENV: [problems.file_immutable(ENV)]}
    assert codes(remove(_ansible_check_mode=True)) == ["file_immutable"]


def test_a_record_that_was_written_after_the_archive_is_not_lost(
    node: SimulatedNode, run: Run, remove: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    run()
    run(state="absent")
    content = node.content
    calls = []

    def changed_meanwhile(path: str) -> bytes:
        calls.append(path)
        return content(path) + (b" " if len(calls) > len(node.names(SWITCHES)) * 2 else b"")

    monkeypatch.setattr(node, "content", changed_meanwhile)
    files = dict(node.files)
    result = remove()
    assert set(codes(result)) == {"journal_not_archived"}
    assert node.files == files


def test_a_control_node_without_room_keeps_the_journal_on_the_node(
    node: SimulatedNode, run: Run, remove: Run, tmp_path: Path
) -> None:
    run()
    (tmp_path / "archive").write_text("in the way")
    result = remove()
    assert codes(result) == ["archive_not_writable"]
    assert (node.policy, len(node.names(SWITCHES))) == ("none", 2)


def test_an_upgrade_stays_and_is_named_with_its_backups(node: SimulatedNode, run: Run, remove: Run) -> None:
    run()
    copy = "/var/lib/kubepin/upgrades/1.22.17/kubelet"
    node.files[copy] = "program"
    result = remove()
    assert [problem["code"] for problem in result["remaining"]] == ["upgrade_backups_stay"]
    assert node.files == {**BEFORE, copy: "program"}


def test_an_upgrade_that_has_not_ended_comes_first(node: SimulatedNode, run: Run, remove: Run) -> None:
    run()
    node.files["/var/lib/kubepin/upgrades/1.22.17/kubelet"] = "program"
    node.files["/var/lib/kubepin/upgrades/packages-in-hand"] = "{}"
    assert codes(remove()) == ["upgrade_unfinished"]
    assert node.policy == "static"


def test_system_daemons_are_free_again(node: SimulatedNode, run: Run, remove: Run) -> None:
    node.add_control_groups()
    before, folders = dict(node.files), set(node.folders)
    run(system_slices=True, irqbalance=True)
    run(reserved_cpus="1")
    assert node.folders > folders
    remove()
    assert (node.files, node.folders) == (before, folders)


def test_the_folders_of_system_daemons_go_with_a_rollback_too(node: SimulatedNode, run: Run) -> None:
    node.add_control_groups()
    folders = set(node.folders)
    run(system_slices=True)
    assert node.folders > folders
    run(state="rolled_back")
    assert node.folders == folders


def test_a_folder_that_someone_makes_again_after_the_rollback_stays(node: SimulatedNode, run: Run, remove: Run) -> None:
    node.add_control_groups()
    found = set(node.folders)
    run(system_slices=True)
    made = node.folders - found
    run(state="rolled_back")
    node.folders |= made
    remove()
    assert node.folders == found | made
