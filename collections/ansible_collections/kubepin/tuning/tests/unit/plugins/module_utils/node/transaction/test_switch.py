# SPDX-License-Identifier: GPL-3.0-or-later
"""The transaction on a simulated node: a stand-in whose kubelet follows the rules of a real one that matter here."""

from __future__ import annotations

import dataclasses
import itertools
import json
from collections.abc import Iterator
from typing import Any

import pytest
from ansible_collections.kubepin.tuning.plugins.module_utils.common.errors import TuningError
from ansible_collections.kubepin.tuning.plugins.module_utils.common.switch.changes import (
    Changes,
    DesiredState,
    Endpoint,
    FileChange,
    SettingChange,
)
from ansible_collections.kubepin.tuning.plugins.module_utils.node.transaction.journal import (
    BEGUN,
    COMMITTED,
    UNDONE,
    Journal,
    Record,
)
from ansible_collections.kubepin.tuning.plugins.module_utils.node.transaction.switch import (
    PodCpus,
    Switch,
    wait_for_held_switch,
)
from ansible_collections.kubepin.tuning.tests.unit.samples.simulated_node import (
    ENV,
    OLD,
    STATE,
    PowerCut,
    SimulatedNode,
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


def switch_on(node: Any) -> tuple[Switch, Journal]:
    journal = Journal(node, HOME)
    return Switch(node, journal, ENDPOINT, timeout=60), journal


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


def held_switch() -> tuple[SimulatedNode, Switch, Journal, Record]:
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
    with pytest.raises(TuningError, match="did not stay up") as caught:
        switch.confirm(journal.of(record.id), None)
    assert (caught.value.details["undone"], caught.value.details["first_cause"]) == (True, "panic: late")
    assert (node.policy, node.running, journal.of(record.id).status) == ("none", True, UNDONE)


def test_a_held_switch_is_undone_if_the_pod_did_not_get_its_cpus() -> None:
    node, switch, journal, record = held_switch()
    with pytest.raises(TuningError, match="run on CPUs 0-1, and the kubelet's state file gives it no CPUs of its own"):
        switch.confirm(journal.of(record.id), PodCpus("uid-1", "probe", "0-1"))
    assert (node.policy, node.running) == ("none", True)


def test_a_held_switch_that_another_run_has_undone_is_no_success() -> None:
    node, switch, journal, record = held_switch()
    switch.undo(record, ONLINE)
    with pytest.raises(TuningError, match="was undone meanwhile by another run"):
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
    with pytest.raises(TuningError, match="another run is changing this node right now"):
        wait_for_held_switch(node, journal, own=None)


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
    with pytest.raises(TuningError, match="did not stay up"):
        switch.confirm(record, None)
    assert (node.policy, journal.committed()) == ("static", record)


def test_a_switch_that_is_not_there_cannot_be_confirmed() -> None:
    with pytest.raises(TuningError, match="has no switch 20260101T000000"):
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
    with pytest.raises(TuningError, match="Undoing it did not verify either") as caught:
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


@pytest.mark.parametrize(("free_writes", "named"), [(0, r"Z\.json"), (1, ENV)], ids=["the journal", "the settings"])
def test_a_full_disk_before_the_stop_changes_nothing(free_writes: int, named: str) -> None:
    node = SimulatedNode()
    before = dict(node.files)
    full_disk(node, free_writes)
    with pytest.raises(TuningError, match=rf"{named} cannot be written: No space left on device\. Nothing was changed"):
        switch_on(node)[0].apply(PLAN)
    assert "stop" not in node.steps
    assert node.files == before, "a journal or a draft was left"


def test_a_full_disk_at_the_end_leaves_the_kubelet_up_and_the_next_run_repairs() -> None:
    node = SimulatedNode()
    replace = node.replace
    full_disk(node, 2)
    switch, journal = switch_on(node)
    with pytest.raises(TuningError, match="No space left on device"):
        switch.apply(PLAN)
    assert node.running, node.log
    record = journal.unfinished()
    assert record is not None, "a switch that could not be undone is not unfinished"
    with pytest.raises(TuningError, match=r"was not undone: .*No space left on device"):
        switch.undo(record, ONLINE)
    assert node.running, node.log
    node.replace = replace  # type: ignore[method-assign]
    switch.undo(record, ONLINE)
    assert (node.policy, node.running, journal.unfinished(), node.drafts) == ("none", True, None, [])


def test_a_file_that_cannot_be_put_in_its_place_is_undone() -> None:
    node = SimulatedNode()
    place = node.place

    def read_only(draft: str, path: str) -> None:
        if node.files[draft] == NEW:
            raise OSError(30, "Read-only file system")
        place(draft, path)

    node.place = read_only  # type: ignore[method-assign]
    with pytest.raises(TuningError, match="Read-only file system") as caught:
        switch_on(node)[0].apply(PLAN)
    assert caught.value.details["undone"] is True
    assert (node.running, node.files[ENV], node.drafts) == (True, OLD, [])


def test_an_unforeseen_error_is_undone_too() -> None:
    node = SimulatedNode()
    switch, _journal = switch_on(node)
    node.files[STATE] = "no JSON"
    node.healthy = lambda url: 1 / 0 > 0 if node.policy == "static" else True  # type: ignore[method-assign]
    with pytest.raises(TuningError, match="division by zero") as caught:
        switch.apply(PLAN)
    assert (caught.value.details["undone"], node.policy, node.running) == (True, "none", True)


DROP_IN = "/etc/kubernetes/kubelet.conf.d/90-kubepin.conf"
TWO_FILES = dataclasses.replace(
    PLAN, files=[FileChange(DROP_IN, None, "cpuManagerPolicy: static\n", "settings"), *PLAN.files]
)
HOLDS = pytest.mark.parametrize("hold", [None, 45], ids=["committed", "held"])
PLANS = pytest.mark.parametrize("plan", [PLAN, TWO_FILES], ids=["one file", "two files"])


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
            node.boot()
            yield node
            continue
        assert cut > 5, "nothing was cut"
        return


@PLANS
@HOLDS
def test_after_a_power_cut_at_any_operation_the_kubelet_boots_and_the_next_run_repairs(
    plan: Changes, hold: float | None
) -> None:
    for node in every_cut(plan, hold):
        assert node.running, (node.steps[-1], node.log)
        node.power_cut_at = None
        switch, journal = switch_on(node)
        unfinished = journal.unfinished()
        if unfinished:
            switch.undo(unfinished, ONLINE)
            assert (node.policy, node.running, unfinished.status) == ("none", True, UNDONE)
            assert DROP_IN not in node.files
            assert not node.drafts, node.steps
            node.clock += 1
            switch.apply(plan)
        assert (node.running, node.drafts) == (True, [])


@PLANS
def test_power_cut_while_undoing_is_repaired_too(plan: Changes) -> None:
    for node in every_cut(plan, None, fails_with="panic: broken"):
        # a kubelet that fails with the new settings is systemd's to start again and again; the files are what it boots from
        assert node.running or node.policy == "static", (node.steps[-1], node.log)
        node.power_cut_at = None
        switch, journal = switch_on(node)
        if unfinished := journal.unfinished():
            switch.undo(unfinished, ONLINE)
        assert (node.running, node.policy, node.drafts) == (True, "none", []), node.steps


def test_an_undoing_that_is_cut_again_and_again_ends_once_it_is_let() -> None:
    for first in every_cut(TWO_FILES, 45):
        files = dict(first.files)
        for cut in itertools.count(1):
            node = SimulatedNode()
            node.files, node.power_cut_at = dict(files), cut
            switch, journal = switch_on(node)
            unfinished = journal.unfinished()
            if unfinished is None:
                break
            try:
                switch.undo(unfinished, ONLINE)
            except PowerCut:
                node.boot()
                assert node.running, (first.steps[-1], node.steps[-1], node.log)
                node.power_cut_at = None
                if left := journal.unfinished():
                    switch.undo(left, ONLINE)
                assert (node.running, node.policy, node.drafts) == (True, "none", [])
                continue
            break


def test_a_rolled_back_switch_is_not_rolled_back_again() -> None:
    node = SimulatedNode()
    switch, journal = switch_on(node)
    first, _outcome = switch.apply(PLAN)
    back = dataclasses.replace(
        PLAN, files=[first.files[0].inverse("as before")], before=AFTER, after=BEFORE, undoes=first.id
    )
    node.clock += 60
    switch.apply(back)
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
    assert Journal(node, HOME).committed() == record  # type: ignore[arg-type]
    assert (record.before, record.after, record.status) == (BEFORE, AFTER, COMMITTED)


def test_a_journal_of_an_earlier_version_is_read() -> None:
    node = SimulatedNode()
    switch, journal = switch_on(node)
    record, _outcome = switch.apply(PLAN)
    data = json.loads(node.files[journal.path(record)])
    node.files[journal.path(record)] = json.dumps({**data, "steps": ["stopped", "started"]})
    assert journal.committed() == record


def test_a_damaged_journal_is_named() -> None:
    node = SimulatedNode()
    node.files[f"{HOME}/20261123T000000.000Z.json"] = "{"
    with pytest.raises(TuningError, match=r"20261123T000000\.000Z\.json cannot be read as a journal"):
        Journal(node, HOME).unfinished()  # type: ignore[arg-type]


def test_unfinished_is_what_begun_means() -> None:
    node = SimulatedNode()
    node.power_cut_at = 3
    with pytest.raises(PowerCut):
        switch_on(node)[0].apply(PLAN)
    record = Journal(node, HOME).unfinished()  # type: ignore[arg-type]
    assert record is not None
    assert record.status == BEGUN


def test_changes_that_were_planned_for_another_text_are_refused_before_anything() -> None:
    node = SimulatedNode()
    node.files[ENV] = edited = "KUBELET_EXTRA_ARGS=--v=4\n"
    switch, journal = switch_on(node)
    with pytest.raises(TuningError, match=f"{ENV} was changed after the switch was planned") as refused:
        switch.apply(PLAN)
    assert [problem["code"] for problem in refused.value.details["problems"]] == ["file_changed_since_plan"]
    assert (node.steps, node.files[ENV], journal.unfinished()) == ([], edited, None)
