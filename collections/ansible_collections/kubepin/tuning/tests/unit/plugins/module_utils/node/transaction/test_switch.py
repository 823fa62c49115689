# SPDX-License-Identifier: GPL-3.0-or-later
"""The transaction on a simulated node: a stand-in whose kubelet follows the rules of a real one that matter here."""

from __future__ import annotations

import contextlib
import dataclasses
import errno
import itertools
import json
from collections.abc import Callable, Iterator

import pytest
from ansible_collections.kubepin.tuning.plugins.module_utils.common.errors import TuningError
from ansible_collections.kubepin.tuning.plugins.module_utils.common.switch import problems
from ansible_collections.kubepin.tuning.plugins.module_utils.common.switch.changes import (
    Changes,
    DesiredState,
    Endpoint,
    FileChange,
    SettingChange,
)
from ansible_collections.kubepin.tuning.plugins.module_utils.node.transaction import switch as switch_module
from ansible_collections.kubepin.tuning.plugins.module_utils.node.transaction.files import BACKUP, draft_path
from ansible_collections.kubepin.tuning.plugins.module_utils.node.transaction.journal import Journal
from ansible_collections.kubepin.tuning.plugins.module_utils.node.transaction.records import (
    BEGUN,
    COMMITTED,
    UNDONE,
    SwitchRecord,
)
from ansible_collections.kubepin.tuning.plugins.module_utils.node.transaction.switch import (
    Switch,
    sole_use,
    wait_for_held_switch,
)
from ansible_collections.kubepin.tuning.plugins.module_utils.node.transaction.verification import PodCpus
from ansible_collections.kubepin.tuning.tests.unit.samples.problems import refused
from ansible_collections.kubepin.tuning.tests.unit.samples.simulated_node import (
    ENV,
    OLD,
    STATE,
    PowerCut,
    SimulatedNode,
    lasting,
    only,
    state_of,
)

HOME = "/var/lib/kubepin/switches"
NEW = "KUBELET_EXTRA_ARGS=--cpu-manager-policy=static --reserved-cpus=0\n"
ONLINE = frozenset({0, 1})
BEFORE = DesiredState("none", frozenset(), ONLINE, False, "None")
AFTER = DesiredState("static", frozenset({0}), ONLINE, False, "None")


ENDPOINT = Endpoint(
    "http://127.0.0.1:10248/healthz",
    {"cpu_manager": STATE, "memory_manager": "/var/lib/kubelet/memory_manager_state"},
    12,
)
PLAN = Changes(
    settings=[SettingChange("cpuManagerPolicy", "none", "static", "was the kubelet's default")],
    files=[FileChange(ENV, OLD, NEW, "settings")],
    before=BEFORE,
    after=AFTER,
    endpoint=ENDPOINT,
    kubelet_version="1.22.17",
)


def back_from(record: SwitchRecord) -> Changes:
    """The changes that roll a switch back."""
    files = [change.inverse("as before") for change in reversed(record.files)]
    folders = record.folders_made or ()
    return dataclasses.replace(PLAN, files=files, before=AFTER, after=BEFORE, undoes=record.id, folders=folders)


def switch_on(node: SimulatedNode, stay_up_seconds: float = 12) -> tuple[Switch, Journal]:
    journal = Journal(node, HOME)
    endpoint = dataclasses.replace(ENDPOINT, stay_up_seconds=stay_up_seconds)
    return Switch(node, journal, endpoint, timeout=60), journal


def test_a_switch_is_verified_and_committed() -> None:
    node = SimulatedNode()
    switch, journal = switch_on(node)
    record, outcome = switch.apply(PLAN)
    assert node.policy == "static"
    assert node.running
    assert node.clock > 12, "committed before the restart interval was over"
    assert outcome.verified[-1] == "state file: policy static, shared pool 0-1, reserved 0"
    assert journal.committed() == record
    assert journal.unfinished() is None
    assert record.state_files[0].before == state_of("none"), "the old state file is not kept in the journal"


def test_between_stop_and_start_nothing_is_written() -> None:
    node = SimulatedNode()
    switch_on(node)[0].apply(PLAN)
    down = node.steps[node.steps.index("stop") + 1 : node.steps.index("start")]
    assert down == [f"remove {STATE}", f"place {ENV}"]
    assert not node.drafts


def test_a_state_file_that_the_kubelet_wrote_last_is_kept_in_the_journal() -> None:
    node = SimulatedNode()
    switch, journal = switch_on(node)
    stop, last = node.stop_kubelet, json.dumps({"policyName": "none", "defaultCpuSet": "", "checksum": 7})

    def write_and_stop() -> float:
        if not node.steps.count("stop"):
            node.files[STATE] = last
        return stop()

    node.stop_kubelet = write_and_stop  # type: ignore[method-assign]
    record, _outcome = switch.apply(PLAN)
    assert [change.before for change in journal.of(record.id).state_files] == [last]
    saved = node.steps.index(f"write {journal.path(record)}", node.steps.index("stop"))
    assert saved < node.steps.index(f"remove {STATE}"), "removed before its text was on disk"


def held_switch() -> tuple[SimulatedNode, Switch, Journal, SwitchRecord]:
    node = SimulatedNode()
    switch, journal = switch_on(node)
    record, _outcome = switch.apply(PLAN, hold_seconds=45)
    return node, switch, journal, record


def test_a_held_switch_settles_while_the_caller_looks_and_is_committed_once_confirmed() -> None:
    node, switch, journal, record = held_switch()
    assert node.clock < 1, "waited itself"
    assert journal.unfinished() == record, "a run that nobody confirms must be undone by the next one"
    node.clock += 5
    assert switch.confirm(journal.of(record.id), None) == ["service up for 12 s without a restart"]
    committed = journal.committed()
    assert committed is not None
    assert (journal.unfinished(), committed.id) == (None, record.id)


def test_a_held_switch_whose_kubelet_ended_meanwhile_is_undone_with_its_words() -> None:
    node, switch, journal, record = held_switch()
    node.log.append("panic: late")
    node.boot()
    with refused("kubelet_not_staying_up") as caught:
        switch.confirm(journal.of(record.id), None)
    assert (caught.value.details["undone"], caught.value.details["first_cause"]) == (True, "panic: late")
    assert (node.policy, node.running, journal.of(record.id).status) == ("none", True, UNDONE)


def test_a_held_switch_is_undone_if_the_pod_did_not_get_its_cpus() -> None:
    node, switch, journal, record = held_switch()
    with refused("policy_not_in_force"):
        switch.confirm(journal.of(record.id), PodCpus("uid-1", "probe", "0-1"))
    assert (node.policy, node.running) == ("none", True)


def test_a_held_switch_that_another_run_has_undone_is_no_success() -> None:
    node, switch, journal, record = held_switch()
    switch.undo(record, ONLINE)
    with refused("switch_undone_meanwhile"):
        switch.confirm(journal.of(record.id), None)
    assert node.policy == "none"


def test_a_run_waits_for_a_held_switch_that_nobody_confirms_and_then_takes_it_for_interrupted() -> None:
    node, _switch, journal, record = held_switch()
    wait_for_held_switch(node, journal, own=None)
    assert 44 < node.clock < 47
    assert journal.unfinished() == record


def test_a_run_is_refused_if_another_one_confirms_its_held_switch_meanwhile() -> None:
    node, switch, journal, record = held_switch()
    sleep = node.sleep

    def confirmed_meanwhile(seconds: float) -> None:
        sleep(seconds)
        if node.clock > 20 and journal.unfinished():
            switch.confirm(record, None)

    node.sleep = confirmed_meanwhile  # type: ignore[method-assign]  # the other run acts while this one sleeps
    with refused("another_run_active"):
        wait_for_held_switch(node, journal, own=None)


def test_a_run_that_waited_for_the_lock_leaves_a_switch_alone_that_was_held_meanwhile(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    node = SimulatedNode()
    switch, journal = switch_on(node)

    @contextlib.contextmanager
    def locked_by_another_run() -> Iterator[None]:
        if journal.unfinished() is None:
            switch.apply(PLAN, hold_seconds=45)
        yield

    monkeypatch.setattr(switch_module, "NodeLock", locked_by_another_run)
    with sole_use(node, journal, own=None):
        assert 44 < node.clock < 60
        with refused("switch_begun_meanwhile"):
            switch.apply(PLAN)
    assert (node.policy, journal.unfinished() is not None) == ("static", True)


def test_a_run_does_not_wait_for_its_own_held_switch() -> None:
    node, _switch, journal, record = held_switch()
    before = node.clock
    wait_for_held_switch(node, journal, own=record.id)
    assert node.clock == before


def test_a_committed_switch_that_does_not_verify_any_more_is_told_and_left() -> None:
    node = SimulatedNode()
    switch, journal = switch_on(node)
    record, _outcome = switch.apply(PLAN)
    node.boot()
    with refused("kubelet_not_staying_up"):
        switch.confirm(record, None)
    assert (node.policy, journal.committed()) == ("static", record)


def test_a_switch_that_is_not_there_cannot_be_confirmed() -> None:
    with refused("switch_unknown"):
        switch_on(SimulatedNode())[1].of("20260101T000000.000Z")


def test_a_kubelet_that_fails_is_undone_with_its_own_words() -> None:
    node = SimulatedNode()
    node.fails_with = 'E1123 "Failed to run kubelet" err="Invalid cpuset \\"99\\" specified by --reserved-cpus"'
    switch, journal = switch_on(node)
    with pytest.raises(TuningError) as caught:
        switch.apply(PLAN)
    assert caught.value.details["first_cause"] == node.fails_with
    assert caught.value.details["undone"] is True
    assert "reserved CPUs name a CPU that this machine does not have" in str(caught.value)
    assert node.files[ENV] == OLD
    assert node.running
    assert (journal.unfinished(), journal.committed()) == (None, None)


def test_a_kubelet_that_fails_both_ways_stays_unfinished_for_the_next_run() -> None:
    node = SimulatedNode()
    node.fails_with = "panic: broken"
    switch, journal = switch_on(node)
    node.boot = lambda: node.__dict__.update(running=False)  # type: ignore[method-assign]
    with refused("switch_not_undone") as caught:
        switch.apply(PLAN)
    assert caught.value.details["undone"] is False
    assert node.files[ENV] == OLD
    assert journal.unfinished() is not None


def full_disk(node: SimulatedNode, free_writes: int) -> None:
    """Let so many writes pass, and no other."""
    replace, left = node.replace, [free_writes]

    def write(path: str, text: str, mode: int = 0o644) -> None:
        if not left[0]:
            raise OSError(28, "No space left on device")
        left[0] -= 1
        replace(path, text, mode)

    node.replace = write  # type: ignore[method-assign]


@pytest.mark.parametrize(
    ("free_writes", "named"),
    [(0, r"Z\.json"), (1, ENV), (2, ENV)],
    ids=["the journal", "the settings", "their backup"],
)
def test_a_full_disk_before_the_stop_changes_nothing(free_writes: int, named: str) -> None:
    node = SimulatedNode()
    before = dict(node.files)
    full_disk(node, free_writes)
    with pytest.raises(TuningError, match=rf"{named} cannot be written: No space left on device\. Nothing was changed"):
        switch_on(node)[0].apply(PLAN)
    assert "stop" not in node.steps
    assert node.files == before, "a journal or a draft was left"


def test_a_full_disk_at_the_end_needs_no_room_for_the_undo() -> None:
    node = SimulatedNode()
    replace = node.replace
    full_disk(node, 3)
    switch, journal = switch_on(node)
    with pytest.raises(
        TuningError,
        match=r"No space left on device.* The old settings are back and verified .*Z\.json cannot be written",
    ):
        switch.apply(PLAN)
    assert (node.policy, node.running, node.drafts) == ("none", True, [])
    record = journal.unfinished()
    assert record is not None, "a switch whose end could not be recorded is not unfinished"
    node.replace = replace  # type: ignore[method-assign]
    switch.undo(record, ONLINE)
    assert (node.policy, node.running, journal.unfinished(), node.drafts) == ("none", True, None, [])


def test_a_file_that_cannot_be_put_in_its_place_is_undone() -> None:
    node = SimulatedNode()
    place = node.place_draft

    def read_only(path: str, name: str) -> None:
        if node.files[draft_path(path, name)] == NEW:
            raise OSError(30, "Read-only file system")
        place(path, name)

    node.place_draft = read_only  # type: ignore[method-assign]
    with pytest.raises(TuningError, match="Read-only file system") as caught:
        switch_on(node)[0].apply(PLAN)
    assert caught.value.details["undone"] is True
    assert (node.running, node.files[ENV], node.drafts) == (True, OLD, [])


def full_var(node: SimulatedNode, free_writes: int) -> None:
    """Journals can be written so many times; the settings are on another file system."""
    replace, left = node.replace, [free_writes]

    def write(path: str, text: str, mode: int = 0o644) -> None:
        if path.startswith(HOME):
            if not left[0]:
                raise OSError(28, "No space left on device")
            left[0] -= 1
        replace(path, text, mode)

    node.replace = write  # type: ignore[method-assign]


def test_settings_that_fail_are_undone_although_no_journal_can_be_written_any_more() -> None:
    node = SimulatedNode()
    node.fails_with = "panic: broken"
    replace = node.replace
    full_var(node, 1)
    switch, journal = switch_on(node)
    with pytest.raises(
        TuningError, match=r"The old settings are back and verified .*Z\.json cannot be written"
    ) as caught:
        switch.apply(PLAN)
    assert (caught.value.details["undone"], caught.value.details["first_cause"]) == (True, "panic: broken")
    assert (node.policy, node.running, node.drafts) == ("none", True, [])
    record = journal.unfinished()
    assert record is not None
    with refused("switch_undone", "journal_not_updated") as caught:
        switch.undo(record, ONLINE)
    assert (caught.value.details["undone"], node.running) == (True, True)
    node.replace = replace  # type: ignore[method-assign]
    switch.undo(record, ONLINE)
    assert (node.running, journal.unfinished()) == (True, None)


def test_a_held_switch_that_cannot_be_committed_on_a_full_disk_is_undone() -> None:
    node, switch, journal, record = held_switch()
    full_var(node, 0)
    with refused("switch_undone"):
        switch.confirm(record, None)
    assert (node.policy, node.running) == ("none", True)
    assert journal.unfinished() is not None


@pytest.mark.parametrize("stuck", [ENV, STATE, "/etc/kubernetes/kubelet.conf.d/90-kubepin.conf"])
def test_a_file_that_cannot_be_restored_is_named_and_keeps_no_other_from_it(stuck: str) -> None:
    node = SimulatedNode()
    node.fails_with = "panic: broken"
    place, remove = node.place_draft, node.remove
    failing: list[str] = []

    def fixed(path: str) -> None:
        if path == stuck and failing:
            raise OSError(1, "Operation not permitted")

    def place_draft(path: str, name: str) -> None:
        fixed(path)
        place(path, name)
        failing.extend([path] if path == ENV else [])

    def remove_file(path: str) -> None:
        fixed(path)
        remove(path)

    node.place_draft, node.remove = place_draft, remove_file  # type: ignore[method-assign]
    switch, journal = switch_on(node)
    if stuck == STATE:  # the kubelet writes it before it fails
        node.boot = lambda: node.files.update({STATE: state_of("static")})  # type: ignore[method-assign]
    with pytest.raises(TuningError, match=f"{stuck} could not be restored: .*Operation not permitted") as caught:
        switch.apply(TWO_FILES)
    assert caught.value.details["undone"] is False
    assert (node.files[ENV] == OLD) is (stuck != ENV)
    assert (DROP_IN in node.files) is (stuck == DROP_IN)
    assert journal.unfinished() is not None


def test_an_unforeseen_error_is_undone_too() -> None:
    node = SimulatedNode()
    switch, _journal = switch_on(node)
    node.files[STATE] = "no JSON"
    node.healthy = lambda url: 1 / 0 > 0 if node.policy == "static" else True  # type: ignore[method-assign]
    with pytest.raises(TuningError, match="division by zero") as caught:
        switch.apply(PLAN)
    assert (caught.value.details["undone"], node.policy, node.running) == (True, "none", True)


FOLDER = "/etc/kubernetes/kubelet.conf.d"
DROP_IN = f"{FOLDER}/90-kubepin.conf"
TWO_FILES = dataclasses.replace(
    PLAN,
    files=[
        FileChange(DROP_IN, None, "cpuManagerPolicy: static\n", "settings"),
        FileChange(ENV, OLD, f"{NEW.strip()} --config-dir={FOLDER}\n", "names the drop-in directory"),
    ],
)
HOLDS = pytest.mark.parametrize("hold", [None, 45], ids=["committed", "held"])
PLANS = pytest.mark.parametrize("plan", [PLAN, TWO_FILES], ids=["one file", "two files"])


def full_from_the_start_on(node: SimulatedNode) -> None:
    boot = node.boot

    def fill() -> None:
        node.full = lambda _path: True
        boot()

    node.boot = fill  # type: ignore[method-assign]


@PLANS
def test_settings_that_fail_are_undone_although_all_disks_are_full(plan: Changes) -> None:
    node = SimulatedNode()
    node.fails_with = "panic: broken"
    full_from_the_start_on(node)
    with refused("switch_undone", "journal_not_updated") as caught:
        switch_on(node)[0].apply(plan)
    assert caught.value.details["undone"] is True
    assert (node.files[ENV], DROP_IN in node.files, node.running, node.drafts) == (OLD, False, True, [])


@PLANS
def test_an_interrupted_switch_is_undone_although_all_disks_are_full(plan: Changes) -> None:
    node = prepared("undo", sound=False)
    node.full = lambda _path: True
    switch, journal = switch_on(node)
    record = journal.unfinished()
    assert record is not None
    with refused("switch_undone", "journal_not_updated"):
        switch.undo(record, ONLINE)
    assert (node.files[ENV], DROP_IN in node.files, node.running, node.drafts) == (OLD, False, True, [])


@pytest.mark.parametrize("left", ["KUBELET", None], ids=["torn", "lost"])
def test_a_backup_that_did_not_survive_is_written_anew_from_the_journal(left: str | None) -> None:
    node = prepared("undo", sound=True)
    backup = draft_path(ENV, BACKUP)
    assert node.files.pop(backup) == OLD
    if left is not None:
        node.files[backup] = left
    switch, journal = switch_on(node)
    record = journal.unfinished()
    assert record is not None
    switch.undo(record, ONLINE)
    assert (node.files[ENV], node.running, node.drafts) == (OLD, True, [])


def test_a_created_file_stays_if_the_file_that_names_it_cannot_be_restored() -> None:
    node = prepared("undo", sound=True)
    del node.files[draft_path(ENV, BACKUP)]
    node.full = lambda _path: True
    switch, journal = switch_on(node)
    record = journal.unfinished()
    assert record is not None
    with pytest.raises(TuningError, match=f"{ENV} could not be restored: .*No space left on device"):
        switch.undo(record, ONLINE)
    assert (node.policy, DROP_IN in node.files, node.running) == ("static", True, True)
    node.full = lambda _path: False
    switch.undo(record, ONLINE)
    assert (node.policy, DROP_IN in node.files, node.running, node.drafts) == ("none", False, True, [])


def every_cut(plan: Changes, hold: float | None, fails_with: str | None = None) -> Iterator[SimulatedNode]:
    """A node whose power was cut, once for each step of a switch and of its confirmation or undoing, and that has booted."""
    for cut in itertools.count(1):
        node = SimulatedNode()
        node.fails_with = fails_with
        node.power_cut_at = cut
        switch, _journal = switch_on(node)
        try:
            record, _outcome = switch.apply(plan, hold_seconds=hold)
            switch.confirm(record, None)
        except TuningError:
            assert fails_with
        except PowerCut:
            node.power_on()
            yield node
            continue
        assert cut > 5, "nothing was cut"
        return


@PLANS
@HOLDS
def test_after_a_power_cut_at_any_operation_the_kubelet_boots_and_the_next_run_recovers(
    plan: Changes, hold: float | None
) -> None:
    for node in every_cut(plan, hold):
        assert node.running, (node.steps[-1], node.log)
        switch, journal = switch_on(node)
        unfinished = journal.unfinished()
        if unfinished:
            switch.undo(unfinished, ONLINE)
            assert (node.policy, node.running, journal.of(unfinished.id).status) == ("none", True, UNDONE)
            assert DROP_IN not in node.files
            assert FOLDER not in node.folders
            assert not node.drafts, node.steps
            node.clock += 1
            switch.apply(plan)
        elif committed := journal.committed():
            switch.apply(back_from(committed))  # a backup may be left, which the next switch removes
        else:
            switch.apply(plan)
        assert (node.running, node.drafts) == (True, [])


@PLANS
def test_power_cut_while_undoing_is_recovered_from_too(plan: Changes) -> None:
    for node in every_cut(plan, None, fails_with="panic: broken"):
        # a kubelet that fails with the new settings is systemd's to start again and again; the files are what it boots from
        assert node.running or node.policy == "static", (node.steps[-1], node.log)
        switch, journal = switch_on(node)
        if unfinished := journal.unfinished():
            switch.undo(unfinished, ONLINE)
            assert not node.drafts, node.steps
        assert (node.running, node.policy, FOLDER in node.folders) == (True, "none", False), node.steps


def test_an_undoing_that_is_cut_again_and_again_ends_once_it_is_let() -> None:
    for first in every_cut(TWO_FILES, 45):
        files = dict(first.files)
        for cut in itertools.count(1):
            node = SimulatedNode()
            node.files, node.folders, node.power_cut_at = dict(files), set(first.folders), cut
            switch, journal = switch_on(node)
            unfinished = journal.unfinished()
            if unfinished is None:
                break
            try:
                switch.undo(unfinished, ONLINE)
            except PowerCut:
                node.power_on()
                assert node.running, (first.steps[-1], node.steps[-1], node.log)
                if left := journal.unfinished():
                    switch.undo(left, ONLINE)
                assert (node.running, node.policy, node.drafts) == (True, "none", [])
                assert FOLDER not in node.folders
                continue
            break


def tuned(*theirs: str) -> tuple[SimulatedNode, Switch, SwitchRecord]:
    """:param theirs: files that were there before"""
    node = SimulatedNode()
    for path in theirs:
        node.replace(path, "theirs")
    switch, _journal = switch_on(node)
    record, _outcome = switch.apply(TWO_FILES)
    node.clock += 60
    return node, switch, record


def test_a_rollback_removes_the_folder_that_the_switch_made_once_the_kubelet_runs_without_it() -> None:
    node, switch, record = tuned()
    assert FOLDER in node.folders
    switch.apply(back_from(record))
    assert FOLDER not in node.folders
    removal = node.steps.index(f"rmdir {FOLDER}")
    assert not {"stop", "start", f"place {ENV}"} & {*node.steps[removal:]}
    assert "start" in node.steps[:removal]


def test_a_folder_that_someone_makes_again_after_the_rollback_is_not_kubepins_any_more() -> None:
    node, switch, record = tuned()
    switch.apply(back_from(record))
    node.folders.add(FOLDER)
    node.clock += 60
    again, _outcome = switch.apply(TWO_FILES)
    node.clock += 60
    switch.apply(back_from(again))
    assert (again.folders_made, FOLDER in node.folders) == ((), True)


def test_a_folder_that_was_in_use_at_the_rollback_is_still_kubepins() -> None:
    node, switch, record = tuned()
    node.replace(f"{FOLDER}/50-site.conf", "theirs")
    back, _outcome = switch.apply(back_from(record))
    assert (back.folders_to_remove, back.folders_removed) == ((FOLDER,), ())
    node.remove(f"{FOLDER}/50-site.conf")
    node.clock += 60
    again, _outcome = switch.apply(TWO_FILES)
    node.clock += 60
    switch.apply(back_from(again))
    assert FOLDER not in node.folders


def test_a_rollback_stands_even_if_the_removal_of_a_folder_cannot_be_recorded() -> None:
    node, switch, record = tuned()
    removed = node.remove_folder

    def remove_folder(path: str) -> bool:
        node.full = lambda _path: True
        return removed(path)

    node.remove_folder = remove_folder  # type: ignore[method-assign]
    back, _outcome = switch.apply(back_from(record))
    assert (back.status, node.policy, node.running, FOLDER in node.folders) == (COMMITTED, "none", True, False)


def test_a_folder_that_was_there_before_the_switch_stays() -> None:
    node, switch, record = tuned(f"{FOLDER}/README")
    node.remove(f"{FOLDER}/README")
    switch.apply(back_from(record))
    assert (record.folders_made, FOLDER in node.folders) == ((), True)


def test_a_folder_that_is_used_by_others_stays() -> None:
    node, switch, record = tuned()
    node.replace(f"{FOLDER}/50-site.conf", "theirs")
    switch.apply(back_from(record))
    assert f"{FOLDER}/50-site.conf" in node.files


def test_a_folder_that_the_kubelet_named_before_stays_although_it_was_missing() -> None:
    node = SimulatedNode()
    node.files[ENV] = before = f"KUBELET_EXTRA_ARGS=--config-dir={FOLDER}\n"
    node.fails_with = "panic: broken"
    env = dataclasses.replace(TWO_FILES.files[1], before=before)
    with refused("switch_undone"):
        switch_on(node)[0].apply(dataclasses.replace(TWO_FILES, files=[TWO_FILES.files[0], env], config_dir=FOLDER))
    assert (node.running, FOLDER in node.folders) == (True, True)


def test_a_folder_stays_if_someone_else_edited_a_file_that_may_name_it() -> None:
    node = SimulatedNode()
    switch, journal = switch_on(node)
    record, _outcome = switch.apply(TWO_FILES, hold_seconds=45)
    node.files[ENV] = f"KUBELET_EXTRA_ARGS=--config-dir={FOLDER}\n"
    with pytest.raises(TuningError):
        switch.confirm(journal.of(record.id), None)
    assert (node.running, DROP_IN in node.files, FOLDER in node.folders) == (True, False, True)


def test_a_folder_is_made_in_vain_on_a_full_disk_and_goes_at_once() -> None:
    node = SimulatedNode()
    node.full = lambda path: path.startswith(FOLDER)
    switch, journal = switch_on(node)
    with refused("file_not_writable"):
        switch.apply(TWO_FILES)
    assert (FOLDER in node.folders, journal.unfinished()) == (False, None)


def test_after_a_power_cut_at_any_step_of_a_rollback_another_one_leaves_everything_as_found() -> None:
    found = SimulatedNode().folders
    for cut in itertools.count(1):
        node, switch, record = tuned()
        node.power_cut_at = len(node.steps) + cut
        try:
            switch.apply(back_from(record))
        except PowerCut:
            node.power_on()
            assert node.running, (node.steps[-1], node.log)
            switch, journal = switch_on(node)
            if unfinished := journal.unfinished():
                switch.undo(unfinished, ONLINE)
            if (last := journal.committed()) is None:
                last, _outcome = switch.apply(TWO_FILES)
            switch.apply(back_from(last))
            assert (node.running, node.files[ENV], node.folders, node.drafts) == (True, OLD, found, [])
            continue
        assert cut > 5, "nothing was cut"
        break


def test_a_rolled_back_switch_is_not_rolled_back_again() -> None:
    node = SimulatedNode()
    switch, journal = switch_on(node)
    first, _outcome = switch.apply(PLAN)
    node.clock += 60
    switch.apply(back_from(first))
    assert node.policy == "none"
    assert journal.committed() is None


def test_repeating_a_rollback_does_not_go_back_a_second_step() -> None:
    node = SimulatedNode()
    switch, journal = switch_on(node)
    switch.apply(PLAN)
    node.clock += 60
    unchanged = dataclasses.replace(PLAN, files=[], settings=[], before=AFTER)
    second, _outcome = switch.apply(unchanged)
    node.clock += 60
    switch.apply(dataclasses.replace(unchanged, undoes=second.id))
    assert journal.committed() is None


def test_journals_survive_a_round_trip() -> None:
    node = SimulatedNode()
    switch, _journal = switch_on(node)
    record, _outcome = switch.apply(PLAN)
    assert Journal(node, HOME).committed() == record
    assert (record.before, record.after, record.status) == (BEFORE, AFTER, COMMITTED)


def test_unfinished_is_what_begun_means() -> None:
    node = SimulatedNode()
    node.power_cut_at = 4
    with pytest.raises(PowerCut):
        switch_on(node)[0].apply(PLAN)
    node.power_on()
    record = Journal(node, HOME).unfinished()
    assert record is not None
    assert record.status == BEGUN


# Commands that cannot be started


def operations(node: SimulatedNode) -> dict[str, Callable[[], object]]:
    """Name -> what a module does on a node that was prepared for it."""
    switch, journal = switch_on(node, stay_up_seconds=0.3)

    def held() -> None:
        record, _outcome = switch.apply(TWO_FILES, hold_seconds=45)
        switch.confirm(record, None)

    def undo() -> None:
        record = journal.unfinished()
        assert record is not None
        switch.undo(record, ONLINE)

    def roll_back() -> None:
        last = journal.committed()
        assert last is not None
        switch.apply(back_from(last))

    return {
        "apply": lambda: switch.apply(TWO_FILES),
        "hold and confirm": held,
        "undo": undo,
        "roll back": roll_back,
    }


def prepared(operation: str, sound: bool) -> SimulatedNode:
    node = SimulatedNode()
    switch, _journal = switch_on(node, stay_up_seconds=0.3)
    if operation == "undo":
        node.power_cut_at = 11  # the settings are in their places
        with pytest.raises(PowerCut):
            switch.apply(TWO_FILES)
        node.fails_with = None if sound else "panic: broken"
        node.power_on()
        assert (node.policy, node.running) == ("static", sound)
    if operation == "roll back":
        switch.apply(TWO_FILES)
        node.fails_under = "none"
    node.fails_with = None if sound else "panic: broken"
    node.commands.clear()
    return node


def number_of_commands(operation: str, sound: bool) -> int:
    node = prepared(operation, sound)
    with contextlib.suppress(TuningError):
        operations(node)[operation]()
    assert 6 < len(node.commands) < 40
    return len(node.commands)


def assert_safe(node: SimulatedNode, what: object) -> None:
    """The kubelet runs or is about to be started; a changed file has a journal; and the next run restores the node."""
    said = (what, node.steps, node.log, node.commands[-5:])
    began = any(command[:3] == ["systemctl", "stop", "kubelet"] for command in node.commands)
    found_broken = node.fails_with is not None and not began
    assert node.running or node.guards or found_broken, said
    node.module_ends()
    node.cannot_fork = lambda _number: None
    switch, journal = switch_on(node, stay_up_seconds=0.3)
    unfinished, committed = journal.unfinished(), journal.committed()
    if node.files[ENV] != OLD or DROP_IN in node.files:
        assert unfinished or committed, said
    assert node.running or (found_broken and unfinished), said
    if unfinished:
        switch.undo(unfinished, ONLINE)
        assert (node.running, node.drafts, journal.unfinished()) == (True, [], None), said


OPERATIONS = pytest.mark.parametrize("operation", ["apply", "hold and confirm", "undo", "roll back"])
SOUND = pytest.mark.parametrize("sound", [True, False], ids=["sound", "unsound"])


@OPERATIONS
@SOUND
def test_commands_that_cannot_be_started_never_leave_a_stopped_kubelet(operation: str, sound: bool) -> None:
    last = number_of_commands(operation, sound) + 8  # undoing takes more
    failures: list[tuple[object, Callable[[int], int | None]]] = [(("from", n), lasting(n)) for n in range(1, last)]
    failures += [((n, m), only(n, m)) for n, m in itertools.combinations_with_replacement(range(1, last), 2)]
    for what, cannot_fork in failures:
        node = prepared(operation, sound)
        node.cannot_fork = cannot_fork
        with contextlib.suppress(TuningError):
            operations(node)[operation]()
        assert_safe(node, what)


@OPERATIONS
@SOUND
@pytest.mark.parametrize("kind", [SystemExit, KeyboardInterrupt])
def test_the_end_of_the_process_never_leaves_a_stopped_kubelet(
    operation: str, sound: bool, kind: type[BaseException]
) -> None:
    for at in range(1, number_of_commands(operation, sound) + 1):
        node = prepared(operation, sound)

        def end(number: int, at: int = at) -> None:
            if number == at:
                raise kind

        node.cannot_fork = end
        with pytest.raises(kind):
            operations(node)[operation]()
        assert_safe(node, at)


def test_settings_that_do_not_run_are_taken_back_although_no_command_can_be_started() -> None:
    node = SimulatedNode()
    node.fails_with = "panic: broken"
    node.cannot_fork = lasting(5)
    with refused("command_not_started") as caught:
        switch_on(node)[0].apply(TWO_FILES)
    assert node.commands[3] == ["systemctl", "start", "kubelet"]
    assert caught.value.details["undone"] is False, "it could not be verified"
    assert (node.files[ENV], DROP_IN in node.files, node.drafts) == (OLD, False, [])
    node.module_ends()
    assert (node.policy, node.running) == ("none", True)


@pytest.mark.parametrize("restarts", [True, False], ids=["Restart=always", "no restart"])
def test_a_running_kubelet_ends_before_its_files_are_restored_although_no_command_can_be_started(
    restarts: bool,
) -> None:
    node, switch, _journal, record = held_switch()
    node.restarts = restarts
    node.cannot_fork = lasting(len(node.commands) + 2)
    with refused("command_not_started"):
        switch.confirm(record, None)
    assert node.steps.index("signal") < node.steps.index(f"remove {STATE}", node.steps.index("signal"))
    assert (node.files[ENV], node.running) == (OLD, restarts)
    node.module_ends()
    assert (node.policy, node.running) == ("none", True)


def test_a_kubelet_that_has_its_old_settings_is_left_alone_if_it_cannot_be_stopped() -> None:
    node = SimulatedNode()
    node.cannot_fork = lasting(2)
    with refused("command_not_started"):
        switch_on(node)[0].apply(TWO_FILES)
    assert (node.running, node.starts, "signal" in node.steps) == (True, 1, False)
    assert (node.files[ENV], DROP_IN in node.files) == (OLD, False)


def test_a_process_that_does_not_end_is_named_and_the_files_are_restored(monkeypatch: pytest.MonkeyPatch) -> None:
    node, switch, journal, record = held_switch()
    node.cannot_fork = lasting(len(node.commands) + 2)
    monkeypatch.setattr(node, "_signal", lambda _pid, _number: None)
    # the state file of a kubelet that hangs goes, too
    monkeypatch.setattr(node, "remove", lambda path: node.files.pop(path, None))
    with refused("kubelet_not_ended"):
        switch.confirm(record, None)
    assert node.files[ENV] == OLD
    assert journal.unfinished() is not None


def test_the_end_of_the_process_undoes_a_switch(monkeypatch: pytest.MonkeyPatch) -> None:
    node = SimulatedNode()
    switch, journal = switch_on(node)

    def leave(url: str) -> bool:
        monkeypatch.undo()
        raise SystemExit

    monkeypatch.setattr(node, "healthy", leave)
    with pytest.raises(SystemExit):
        switch.apply(PLAN)
    assert (node.policy, node.running, journal.unfinished(), node.drafts) == ("none", True, None, [])


@OPERATIONS
def test_a_machine_that_is_short_of_processes_for_seconds_is_waited_for(operation: str) -> None:
    for first in range(1, number_of_commands(operation, True) + 1):
        node = prepared(operation, True)
        began: list[float] = []

        def short(
            number: int, first: int = first, node: SimulatedNode = node, began: list[float] = began
        ) -> int | None:
            if number < first:
                return None
            began.append(node.clock)
            return errno.ENOMEM if node.clock - began[0] < 5 else None

        node.cannot_fork = short
        operations(node)[operation]()
        assert (node.running, node.guards) == (True, []), first
        assert node.policy == ("static" if operation in ("apply", "hold and confirm") else "none")


def test_without_processes_nothing_begins() -> None:
    node = SimulatedNode()
    node.cannot_fork = lasting(1)
    files = dict(node.files)
    with pytest.raises(TuningError, match=r"could not be started for 10 s: .* Nothing was changed"):
        switch_on(node)[0].apply(PLAN)
    assert (node.files, node.steps) == (files, [])


def test_the_last_resort_is_bounded() -> None:
    node = SimulatedNode()
    node.cannot_fork = lasting(4)
    with refused("switch_not_undone"):
        switch_on(node)[0].apply(PLAN)
    assert node.clock < 120
    assert len(node.guards) == 1


# Clocks


def test_a_clock_that_is_set_back_changes_neither_order_nor_names() -> None:
    node = SimulatedNode()
    switch, journal = switch_on(node)
    first, _outcome = switch.apply(PLAN)
    node.date -= 10 * 365 * 86400
    switch.apply(back_from(first))
    assert journal.committed() is None, "the switch that was rolled back is the last one again"
    third, _outcome = switch.apply(PLAN)
    assert journal.committed() == third
    node.date, node.clock = 1_700_000_000.0, 0.0
    fourth, _outcome = switch.apply(dataclasses.replace(PLAN, files=[], before=AFTER))
    assert len({first.id, third.id, fourth.id}) == 3
    assert journal.committed() == fourth


@pytest.mark.parametrize("jump", [-10 * 365 * 86400.0, 86400.0])
def test_a_hold_lasts_as_long_as_it_lasts_whatever_the_clock_does(jump: float) -> None:
    node, _switch, journal, _record = held_switch()
    node.date += jump
    wait_for_held_switch(node, journal, own=None)
    assert 44 < node.clock < 47


def test_a_hold_that_cannot_be_true_is_waited_for_no_longer_than_its_length() -> None:
    node, _switch, journal, record = held_switch()
    journal.entry(record).update(held_until=1e12)
    wait_for_held_switch(node, journal, own=None)
    assert node.clock < 47


def test_a_hold_is_over_with_the_boot() -> None:
    node, _switch, journal, record = held_switch()
    node.power_on()
    wait_for_held_switch(node, journal, own=None)
    assert node.clock == 0
    assert journal.unfinished() == record


def test_another_boot_with_the_same_process_number_is_no_confirmation() -> None:
    node, switch, _journal, record = held_switch()
    node.power_on()
    assert int(node.service_state()["MainPID"]) == record.main_pid
    with refused("machine_restarted") as caught:
        switch.confirm(record, None)
    assert (caught.value.details["undone"], node.policy, node.running) == (True, "none", True)


# What is found before anything is disturbed


def test_everything_that_cannot_be_replaced_is_told_at_once_and_nothing_is_disturbed() -> None:
    node = SimulatedNode()
    node.problems = {
        path: [problems.file_immutable("/etc/default"), problems.file_read_only(path)] for path in (ENV, STATE)
    }
    files = dict(node.files)
    with pytest.raises(TuningError) as caught:
        switch_on(node)[0].apply(PLAN)
    found = [(problem["code"], problem["subject"]) for problem in caught.value.details["problems"]]
    assert found == [("file_immutable", "/etc/default"), ("file_read_only", ENV), ("file_read_only", STATE)]
    assert (node.files, node.steps, node.commands) == (files, [], [])


@pytest.mark.parametrize("text", [None, "KUBELET_EXTRA_ARGS=--v=4\n"])
def test_a_plan_that_no_longer_fits_is_refused(text: str | None) -> None:
    node = SimulatedNode()
    node.files[ENV] = text or ""
    if text is None:
        del node.files[ENV]
    with pytest.raises(TuningError) as caught:
        switch_on(node)[0].apply(PLAN)
    assert [problem["code"] for problem in caught.value.details["problems"]] == ["file_changed_since_plan"]
    assert (node.steps, node.commands) == ([], [])


def test_a_state_file_that_is_no_text_is_kept_in_the_journal_and_removed() -> None:
    node = SimulatedNode()
    switch, journal = switch_on(node)
    node.files[STATE] = damaged = b"\xff\x00".decode("utf-8", "surrogateescape")
    record, _outcome = switch.apply(PLAN)
    assert node.policy == "static"
    assert [change.before for change in journal.of(record.id).state_files] == [damaged]


def test_an_interrupted_switch_whose_file_became_immutable_is_told_and_the_kubelet_runs() -> None:
    node = prepared("undo", sound=True)
    node.problems = {ENV: [problems.file_immutable(ENV)]}
    node.running = False
    files = dict(node.files)
    switch, journal = switch_on(node)
    unfinished = journal.unfinished()
    assert unfinished is not None
    with refused("file_immutable", "switch_not_undone"):
        switch.undo(unfinished, ONLINE)
    assert (node.running, node.files) == (True, files)


# Configuration management


@pytest.mark.parametrize("text", [OLD, None, "KUBELET_EXTRA_ARGS=--v=4\n"], ids=["as before", "removed", "another"])
@pytest.mark.parametrize("when", ["before", "while it waits"])
def test_a_file_that_is_put_back_during_the_hold_is_named_and_the_switch_undone(text: str | None, when: str) -> None:
    node, switch, journal, record = held_switch()

    def put_back() -> None:
        node.files.pop(ENV)
        if text is not None:
            node.files[ENV] = text

    sleep = node.sleep

    def sleep_meanwhile(seconds: float) -> None:
        sleep(seconds)
        if node.files.get(ENV) == NEW:
            put_back()

    if when == "before":
        put_back()
    else:
        node.sleep = sleep_meanwhile  # type: ignore[method-assign]
    with refused("file_put_back") as caught:
        switch.confirm(record, None)
    codes = [problem.code for problem in caught.value.problems]
    assert codes[:2] == ["file_put_back", "switch_undone"]
    assert set(codes[2:]) <= {"file_left_as_edited"}
    assert (caught.value.details["undone"], node.running, node.policy) == (True, True, "none")
    assert node.files.get(ENV) == text, "what someone else wrote was overwritten"
    assert ("stays as it is" in str(caught.value)) is (text != OLD)
    assert journal.unfinished() is None


def test_a_committed_switch_whose_file_was_put_back_is_told_and_left() -> None:
    node = SimulatedNode()
    switch, journal = switch_on(node)
    record, _outcome = switch.apply(PLAN)
    node.files[ENV] = OLD
    with refused("file_put_back"):
        switch.confirm(record, None)
    assert journal.committed() == record
