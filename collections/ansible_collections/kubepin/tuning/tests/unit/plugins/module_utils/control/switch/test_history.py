# SPDX-License-Identifier: GPL-3.0-or-later
"""What all switches together have done to the files of a node, and what prevents undoing it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest
from ansible_collections.kubepin.tuning.plugins.module_utils.common.switch.changes import FileChange, SettingChange
from ansible_collections.kubepin.tuning.plugins.module_utils.control.switch.history import (
    Committed,
    History,
    Upgrade,
    folders_made,
    net_changes,
    net_settings,
    remaining,
)

FOLDER = "/etc/kubernetes/kubelet.conf.d"
DROP_IN, ENV = f"{FOLDER}/90-kubepin.conf", "/etc/default/kubelet"


def switch(name: str, *changes: tuple[str, str | None, str | None], version: str = "1.36.3") -> Committed:
    return Committed(name, version, tuple(FileChange(*change, "reason") for change in changes))


def history(*switches: Committed, current: Mapping[str, str | None], **changes: Any) -> History:
    known: dict[str, Any] = {
        "sequences": tuple(range(1, len(switches) + 1)),
        "directory": "/var/lib/kubepin/switches",
        "upgrades": (),
        "leftovers": (),
    }
    return History(switches, current, **{**known, **changes})


FIRST = switch("1", (DROP_IN, None, "reserved 0"), (ENV, "", "--config-dir"))
SECOND = switch("2", (DROP_IN, "reserved 0", "reserved 1"))


@pytest.mark.parametrize(
    ("folders", "config_dir", "made"),
    [
        pytest.param((), None, [], id="it was there before"),
        pytest.param((FOLDER, "/etc/kubernetes"), None, [FOLDER, "/etc/kubernetes"], id="the deepest first"),
        pytest.param((FOLDER, "/etc/kubernetes"), FOLDER, [], id="the kubelet needs it"),
        pytest.param(None, None, [FOLDER], id="a journal of 1.0 does not say"),
    ],
)
def test_the_folders_that_switches_made(
    folders: tuple[str, ...] | None, config_dir: str | None, made: list[str]
) -> None:
    of = history(replace(FIRST, folders=folders), replace(SECOND, folders=()), current={})
    assert folders_made(of, config_dir) == made


BACK = switch("3", (ENV, "--config-dir", ""), (DROP_IN, "reserved 1", None))
AGAIN = switch("4", (DROP_IN, None, "reserved 0"), (ENV, "", "--config-dir"))


@pytest.mark.parametrize(
    ("switches", "made"),
    [
        pytest.param(
            [replace(FIRST, folders=(FOLDER,)), replace(BACK, folders=(), folders_removed=(FOLDER,))], [], id="removed"
        ),
        pytest.param([FIRST, replace(BACK, folders=(), folders_removed=(FOLDER,))], [], id="of a journal of 1.0"),
        pytest.param(
            [replace(FIRST, folders=(FOLDER,)), replace(BACK, folders=())], [FOLDER], id="in use at the rollback"
        ),
        pytest.param(
            [
                replace(FIRST, folders=(FOLDER,)),
                replace(BACK, folders=(), folders_removed=(FOLDER,)),
                replace(AGAIN, folders=(FOLDER,)),
            ],
            [FOLDER],
            id="made again by kubepin",
        ),
        pytest.param(
            [
                replace(FIRST, folders=(FOLDER,)),
                replace(BACK, folders=(), folders_removed=(FOLDER,)),
                replace(AGAIN, folders=()),
            ],
            [],
            id="made again by someone else",
        ),
    ],
)
def test_a_folder_that_a_rollback_removed_is_not_kubepins_any_more(switches: list[Committed], made: list[str]) -> None:
    assert folders_made(history(*switches, current={}), None) == made


def net(of: History) -> list[tuple[str, str | None, str | None]]:
    changes, found = net_changes(of)
    assert found == []
    return [(change.path, change.before, change.after) for change in changes]


def test_the_file_that_names_the_drop_in_goes_back_before_it_however_often_the_drop_in_was_changed() -> None:
    now = {DROP_IN: "reserved 1", ENV: "--config-dir"}
    assert net(history(FIRST, SECOND, current=now)) == [(DROP_IN, None, "reserved 1"), (ENV, "", "--config-dir")]


def test_the_settings_of_all_switches_are_compared_with_those_of_before_the_first() -> None:
    first = (
        SettingChange("reservedSystemCPUs", None, "0", "asked"),
        SettingChange("cpuManagerPolicy", "none", "static", "asked"),
    )
    of = history(
        Committed("1", None, (), first),
        Committed("2", None, (), (SettingChange("reservedSystemCPUs", "0", "1", "asked"),)),
        current={},
    )
    assert [(change.name, change.before, change.after) for change in net_settings(of)] == [
        ("reservedSystemCPUs", None, "1"),
        ("cpuManagerPolicy", "none", "static"),
    ]


def test_what_was_rolled_back_needs_no_change() -> None:
    back = switch("2", (ENV, "--config-dir", ""), (DROP_IN, "reserved 0", None))
    assert net(history(FIRST, back, current={DROP_IN: None, ENV: ""})) == []


@pytest.mark.parametrize("sequences", [(2,), (1, 3), (1, 2, 4, 3, 6)])
def test_missing_records_are_a_problem(sequences: tuple[int, ...]) -> None:
    found = net_changes(history(FIRST, current={DROP_IN: "reserved 0", ENV: "--config-dir"}, sequences=sequences))[1]
    assert [problem.code for problem in found] == ["records_missing"]


@pytest.mark.parametrize("sequences", [(), (0, 0), (0, 1, 2), (2, 1)])
def test_records_of_the_first_schema_have_no_number(sequences: tuple[int, ...]) -> None:
    assert net(history(FIRST, current={DROP_IN: None, ENV: ""}, sequences=sequences)) == []


def test_every_file_that_was_edited_is_named() -> None:
    third = switch("3", (ENV, "--config-dir --v=4", "--config-dir --v=4 --x"))
    now = {DROP_IN: "by hand", ENV: "--config-dir --v=4 --x"}
    found = net_changes(history(FIRST, SECOND, third, current=now))[1]
    assert [(problem.code, problem.subject) for problem in found] == [
        ("file_changed_since", DROP_IN),
        ("file_changed_between", ENV),
    ]


def test_an_installer_that_wrote_the_original_text_again_between_two_switches_has_lost_nothing() -> None:
    again = switch("4", (ENV, "", "--config-dir"))
    now = {DROP_IN: "reserved 1", ENV: "--config-dir"}
    assert net(history(FIRST, SECOND, again, current=now)) == [(DROP_IN, None, "reserved 1"), (ENV, "", "--config-dir")]
    edited = switch("3", (ENV, "--config-dir --v=4", "--config-dir --v=5"))
    assert net(history(FIRST, SECOND, edited, again, current=now))[1] == (ENV, "", "--config-dir")


def test_versions_and_backups_of_upgrades_stay() -> None:
    upgrades = (Upgrade("/up/1.22.17", "1.21.14", True), Upgrade("/up/1.23.17", None, True))
    found = remaining(history(FIRST, current={}, upgrades=upgrades), "v1.37.2")
    assert [(problem.code, problem.subject) for problem in found] == [
        ("version_stays", "kubelet 1.37.2"),
        ("upgrade_backups_stay", "/up/1.22.17"),
        ("upgrade_backups_stay", "/up/1.23.17"),
    ]
    assert "was 1.21.14 before" in found[0].text


def test_an_upgrade_by_others_since_the_first_switch_is_named_too() -> None:
    (found,) = remaining(history(switch("1", version="1.9.10"), current={}), "1.36.3")
    assert "was 1.9.10 before" in found.text


@pytest.mark.parametrize("version", ["1.36.3", None, "devel"])
def test_with_the_same_version_or_an_unknown_one_nothing_stays(version: str | None) -> None:
    assert remaining(history(FIRST, current={}), version) == []
