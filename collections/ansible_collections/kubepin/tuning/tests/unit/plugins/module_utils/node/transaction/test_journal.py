# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.kubepin.tuning.plugins.module_utils.common.errors import TuningError
from ansible_collections.kubepin.tuning.plugins.module_utils.common.switch.changes import FileChange
from ansible_collections.kubepin.tuning.plugins.module_utils.node.transaction.files import Files
from ansible_collections.kubepin.tuning.plugins.module_utils.node.transaction.journal import Journal
from ansible_collections.kubepin.tuning.plugins.module_utils.node.transaction.records import BEGUN, COMMITTED, SCHEMA
from ansible_collections.kubepin.tuning.tests.unit.samples.problems import refused

STATE = {
    "policy": "static",
    "reserved": [0],
    "online": [0, 1],
    "strict": False,
    "memory_policy": None,
    "memory": {},
    "minor": 22,
}
FIRST = "20261123T172004.120Z"
SCHEMA_1: dict[str, Any] = {
    "schema": 1,
    "id": FIRST,
    "status": "committed",
    "steps": ["stopped", "started"],
    "kubelet_version": "1.22.17",
    "files": [{"path": "/etc/default/kubelet", "before": "a\n", "after": "b\n", "reason": "settings"}],
    "state_files": [],
    "settings": [{"name": "cpuManagerPolicy", "before": "none", "after": "static", "reason": "default"}],
    "before": {**STATE, "policy": "none"},
    "after": STATE,
    "undoes": None,
    "held_until": 1764000000.0,
    "main_pid": 812,
    "up_since": 4000.5,
}
"""A journal as the first version wrote it."""


def write(folder: Path, content: bytes | dict[str, Any], name: str = FIRST) -> Journal:
    text = content if isinstance(content, bytes) else json.dumps(content).encode()
    (folder / f"{name}.json").write_bytes(text)
    return Journal(Files(), str(folder))


def test_a_journal_of_the_first_version_is_read(tmp_path: Path) -> None:
    journal = write(tmp_path, SCHEMA_1)
    record = journal.committed()
    assert record is not None
    assert record.files == (FileChange("/etc/default/kubelet", "a\n", "b\n", "settings"),)
    assert (record.status, record.after.policy, record.after.reserved) == (COMMITTED, "static", frozenset({0}))
    assert record.held_for("any boot", 0) == 0
    assert journal.next_sequence() == 1
    journal.entry(record).save()
    assert json.loads((tmp_path / f"{FIRST}.json").read_text())["schema"] == SCHEMA
    assert journal.of(FIRST) == record


def test_journals_of_the_first_version_are_older_than_others_and_ordered_by_their_ids(tmp_path: Path) -> None:
    later = "20271123T172004.120Z"
    write(tmp_path, SCHEMA_1)
    journal = write(tmp_path, {**SCHEMA_1, "id": later}, later)
    newest = journal.committed()
    assert newest is not None
    assert newest.id == later
    newest = dataclasses.replace(newest, id="20000101T000000.000Z", sequence=1)
    journal.entry(newest).save()
    assert journal.committed() == newest


def test_a_begun_switch_of_the_first_version_is_unfinished(tmp_path: Path) -> None:
    record = write(tmp_path, {**SCHEMA_1, "status": BEGUN}).unfinished()
    assert record is not None
    assert record.id == FIRST


def test_a_journal_of_schema_2_is_read(tmp_path: Path) -> None:
    newer = {"sequence": 7, "boot_id": "abc", "held_seconds": 45, "held_until": 4045.5, "status": BEGUN}
    endpoint = {"healthz_url": None, "state_paths": {"cpu_manager": "/a"}, "stay_up_seconds": 12}
    data = {name: value for name, value in SCHEMA_1.items() if name != "steps"}
    record = write(tmp_path, {**data, **newer, "schema": 2, "endpoint": endpoint}).unfinished()
    assert record is not None
    assert (record.sequence, record.endpoint.state_paths) == (7, {"cpu_manager": "/a"})
    assert record.held_for("abc", 4010.5) == 35


def test_a_journal_of_1_0_does_not_say_which_folders_the_switch_made(tmp_path: Path) -> None:
    data = {name: value for name, value in SCHEMA_1.items() if name != "steps"}
    endpoint: dict[str, Any] = {"healthz_url": None, "state_paths": {}, "stay_up_seconds": 12}
    record = write(tmp_path, {**data, "schema": 3, "kind": "switch", "sequence": 1, "endpoint": endpoint}).committed()
    assert record is not None
    assert (record.folders_made, record.folders_removed) == (None, ())


def test_the_folders_of_a_journal_of_1_1_0_count_as_removed(tmp_path: Path) -> None:
    data = {name: value for name, value in SCHEMA_1.items() if name != "steps"}
    endpoint: dict[str, Any] = {"healthz_url": None, "state_paths": {}, "stay_up_seconds": 12}
    newer = {"schema": 3, "kind": "switch", "sequence": 1, "endpoint": endpoint, "folders_removed": ["/etc/a"]}
    journal = write(tmp_path, {**data, **newer})
    assert journal.oldest_first()[0].folders_removed == ("/etc/a",)
    assert journal.folders_to_remove() == ()


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "Expecting value"),
        (b"{", "Expecting property name"),
        (b"\xff\xfe\x00", "Expecting value"),
        (b"\0" * 512, "Expecting value"),
        (b"null", "not a JSON object"),
        (b"1", "not a JSON object"),
        (b'"text"', "not a JSON object"),
        (b"[]", "not a JSON object"),
        (b"[" * 200_000, "nested too deeply"),
        (b"{}", "schema"),
        ({**SCHEMA_1, "schema": 4}, "schema is 4"),
        ({**SCHEMA_1, "schema": 3}, "not the record of a kind that belongs here, switch"),
        ({**SCHEMA_1, "schema": 3, "kind": "upgrade"}, "not the record of a kind"),
        ({**SCHEMA_1, "status": "odd"}, "status is odd"),
        ({**SCHEMA_1, "status": None}, "status is null"),
        ({**SCHEMA_1, "files": None}, "files is null"),
        ({**SCHEMA_1, "files": [1]}, "one of files is 1"),
        ({**SCHEMA_1, "files": [{"path": 1, "before": None, "after": None, "reason": ""}]}, "path is 1"),
        ({**SCHEMA_1, "files": [{"path": "/a"}]}, "one of files.before is missing"),
        ({**SCHEMA_1, "settings": [[]]}, r"one of settings is \[\]"),
        ({**SCHEMA_1, "before": []}, r"before is \[\]"),
        ({**SCHEMA_1, "after": {**STATE, "online": 3}}, "after.online is 3"),
        ({**SCHEMA_1, "after": {**STATE, "online": ["a"]}}, "one of after.online is "),
        ({**SCHEMA_1, "main_pid": "812"}, "main_pid is "),
        ({**SCHEMA_1, "main_pid": True}, "main_pid is true"),
        ({**SCHEMA_1, "more": 1}, "more is unknown"),
        ({name: value for name, value in SCHEMA_1.items() if name != "before"}, "before is missing"),
    ],
)
def test_a_damaged_journal_is_named_with_the_way_out(tmp_path: Path, content: Any, said: str) -> None:
    journal = write(tmp_path, content)
    for read in (journal.unfinished, journal.committed, journal.next_sequence):
        with pytest.raises(TuningError, match=rf"{FIRST}\.json cannot be read as a journal .*{said}.*keep a copy"):
            read()


def test_a_folder_with_the_name_of_a_journal_is_named_too(tmp_path: Path) -> None:
    (tmp_path / f"{FIRST}.json").mkdir()
    with refused("journal_unreadable"):
        Journal(Files(), str(tmp_path)).unfinished()
