# SPDX-License-Identifier: GPL-3.0-or-later
"""Real files: what is left of kubepin on a node, and what a removal leaves."""

from __future__ import annotations

import base64
import hashlib
import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest
from ansible_collections.kubepin.tuning.plugins.module_utils.common.errors import TuningError
from ansible_collections.kubepin.tuning.plugins.module_utils.common.switch.changes import (
    DesiredState,
    Endpoint,
    FileChange,
    KubeletState,
)
from ansible_collections.kubepin.tuning.plugins.module_utils.node.transaction import removal
from ansible_collections.kubepin.tuning.plugins.module_utils.node.transaction.files import BACKUP, draft_path
from ansible_collections.kubepin.tuning.plugins.module_utils.node.transaction.journal import Journal
from ansible_collections.kubepin.tuning.plugins.module_utils.node.transaction.records import (
    BEGUN,
    COMMITTED,
    SwitchRecord,
    UpgradeRecord,
    encode,
)
from ansible_collections.kubepin.tuning.plugins.module_utils.node.transaction.removal import (
    Removal,
    archive,
    leftovers,
)
from ansible_collections.kubepin.tuning.plugins.module_utils.node.transaction.system import Node
from ansible_collections.kubepin.tuning.plugins.module_utils.node.upgrade import record as upgrade_record
from ansible_collections.kubepin.tuning.plugins.module_utils.node.upgrade.record import record_path, upgrade_facts

STATE = DesiredState("none", frozenset(), frozenset({0, 1}), False, None)
STOPPED = "ActiveState=inactive\nSubState=dead\nMainPID=0\nNRestarts=0\n"
NODE = Node(lambda argv: (0, STOPPED, ""))


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """kubepin's folder after two switches of a drop-in file, as a killed run leaves it."""
    home = tmp_path / "kubepin"
    for name, path in (("HOME", home), ("UPGRADES", home / "upgrades"), ("LOCK", home / "lock")):
        monkeypatch.setattr(removal, name, str(path))
    monkeypatch.setattr(upgrade_record, "UPGRADES", str(home / "upgrades"))
    monkeypatch.setattr(upgrade_record, "IN_PROGRESS", str(home / "upgrades" / "packages"))
    (home / "switches").mkdir(parents=True)
    (home / "lock").write_text("")
    (tmp_path / "conf.d").mkdir()
    for number in (1, 2):
        change = FileChange(str(tmp_path / "conf.d" / "90-kubepin.conf"), None, "text", "reason")
        record = SwitchRecord(
            str(number), COMMITTED, "1.36.3", (change,), (), (), STATE, STATE, Endpoint(None, {}, 0), number
        )
        (home / "switches" / f"{number}.json").write_text(encode(record))
        for name in (BACKUP, str(number)):
            Path(draft_path(change.path, name)).write_text("left by a power cut")
    return home


@pytest.fixture
def remove(home: Path) -> Callable[[], None]:
    """Removes what has been archived."""

    def run() -> None:
        seals = {path: hashlib.sha256(base64.b64decode(text)).hexdigest() for path, text in archive(NODE).items()}
        Removal(NODE, Journal(NODE, str(home / "switches"))).run(seals, [str(home.parent / "conf.d")])

    return run


def test_nothing_is_left_of_records_lock_drafts_and_empty_folders(
    tmp_path: Path, home: Path, remove: Callable[[], None]
) -> None:
    assert [os.path.relpath(path, home) for path in leftovers(NODE)] == ["lock", "switches/1.json", "switches/2.json"]
    assert json.loads(base64.b64decode(archive(NODE)[str(home / "switches" / "1.json")]))["id"] == "1"
    remove()
    assert list(tmp_path.iterdir()) == []
    assert (leftovers(NODE), archive(NODE)) == ([], {})


def test_a_folder_with_other_files_stays(tmp_path: Path, home: Path, remove: Callable[[], None]) -> None:
    (tmp_path / "conf.d" / "10-site.conf").write_text("theirs")
    remove()
    assert [path.name for path in tmp_path.rglob("*")] == ["conf.d", "10-site.conf"]


def test_an_upgrade_keeps_its_backups_and_nothing_else_stays(home: Path, remove: Callable[[], None]) -> None:
    folder = home / "upgrades" / "1.22.17"
    folder.mkdir(parents=True)
    (folder / "etcd-snapshot.db").write_bytes(b"\xff")
    assert upgrade_facts(NODE) == [{"folder": str(folder), "before": None, "finished": True, "texts": []}]
    remove()
    assert [os.path.relpath(path, home) for path in NODE.names_below(str(home))] == [
        "upgrades/1.22.17/etcd-snapshot.db"
    ]


@pytest.mark.parametrize(
    ("status", "replacing", "finished"), [(COMMITTED, False, True), (BEGUN, False, False), (COMMITTED, True, False)]
)
def test_an_upgrade_has_ended_once_it_is_committed_and_no_package_is_being_replaced(
    home: Path, status: str, replacing: bool, finished: bool
) -> None:
    folder = home / "upgrades" / "1.22.17"
    folder.mkdir(parents=True)
    record = UpgradeRecord("1.22.17", status, "1.21.14", "then", (), KubeletState({}, STATE, Endpoint(None, {}, 0)))
    Path(record_path(str(folder))).write_text(encode(record))
    if replacing:
        (home / "upgrades" / "packages").write_text("")
    assert upgrade_facts(NODE) == [{"folder": str(folder), "before": "1.21.14", "finished": finished, "texts": []}]


def test_a_record_that_is_not_in_the_archive_keeps_everything(home: Path) -> None:
    before = NODE.names_below(str(home.parent))
    with pytest.raises(TuningError) as caught:
        Removal(NODE, Journal(NODE, str(home / "switches"))).run({}, [])
    assert [problem.code for problem in caught.value.problems] == ["journal_not_archived"] * 2
    assert NODE.names_below(str(home.parent)) == before
