# SPDX-License-Identifier: GPL-3.0-or-later
"""What a drain says while it waits, and how it ends when it is asked to; an API in memory stands in for the real one."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.kubepin.tuning.plugins.module_utils.common.errors import TuningError
from ansible_collections.kubepin.tuning.plugins.modules.node_drain import Drain, ProgressFile, uncordon

ALLOWED = {"delete_emptydir_data": False, "force": False}


class Api:
    """One pod of a StatefulSet, whose budget allows its eviction after some refusals."""

    def __init__(self, refusals: int) -> None:
        self.refusals = refusals
        self.gone = False
        self.patches: list[dict[str, Any]] = []

    def node(self, name: str) -> dict[str, Any]:
        assert name == "gpu-01"
        node: dict[str, Any] = {"metadata": {"name": name}, "spec": {}}
        for patch in self.patches:
            node = {"metadata": {**node["metadata"], **patch["metadata"]}, "spec": {**node["spec"], **patch["spec"]}}
        return node

    def patch_node(self, name: str, patch: dict[str, Any]) -> None:
        self.patches.append(patch)

    def pods_on(self, node: str) -> list[dict[str, Any]]:
        owner = {"kind": "StatefulSet", "name": "trainer", "controller": True}
        metadata = {"namespace": "ml", "name": "trainer-0", "uid": "u", "ownerReferences": [owner]}
        return [] if self.gone else [{"metadata": metadata, "spec": {}, "status": {"phase": "Running"}}]

    def daemon_sets(self) -> list[dict[str, Any]]:
        return []

    def eviction_version(self) -> str:
        return "policy/v1"

    def evict_pod(self, pod: dict[str, Any], api_version: str) -> bool:
        self.refusals -= 1
        self.gone = self.refusals < 0
        return self.gone


@pytest.fixture(autouse=True)
def _no_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("time.sleep", lambda seconds: None)


def drain(api: Api) -> Drain:
    return Drain(api, "gpu-01", ALLOWED)  # type: ignore[arg-type]


def test_it_tells_what_it_waits_for_until_nothing_is_left() -> None:
    told: list[list[str]] = []
    evicted = drain(Api(refusals=2)).run(60, told.append, lambda: False)
    assert [pod["name"] for pod in evicted] == ["trainer-0"]
    refused = ["ml/trainer-0: its disruption budget allows no eviction"]
    assert told == [refused, refused, ["ml/trainer-0 was just evicted"]]


def test_a_stop_begins_no_eviction_and_names_the_pods_that_are_still_there() -> None:
    api = Api(refusals=0)
    with pytest.raises(TuningError, match="stopped as asked, with ml/trainer-0 still there"):
        drain(api).run(60, lambda remaining: None, lambda: True)
    assert not api.gone


def test_a_stop_of_a_node_that_is_empty_already_is_none() -> None:
    api = Api(refusals=0)
    api.gone = True
    assert drain(api).run(60, lambda remaining: None, lambda: True) == []


def test_the_progress_file_is_replaced_and_removed(tmp_path: Path) -> None:
    path = tmp_path / "drain-gpu-01.json"
    progress = ProgressFile(str(path))
    progress.tell(["one"])
    progress.tell(["two"])
    assert json.loads(path.read_text()) == {"remaining": ["two"]}
    progress.remove()
    assert list(tmp_path.iterdir()) == []
    ProgressFile(None).tell(["nobody listens"])


def test_a_cordon_is_marked_as_whose_it_is_and_made_once() -> None:
    api = Api(refusals=0)
    assert drain(api).cordon("present", check_mode=True)
    assert api.patches == []
    assert drain(api).cordon("present", check_mode=False)
    assert api.node("gpu-01")["spec"] == {"unschedulable": True}
    assert api.node("gpu-01")["metadata"]["annotations"] == {"kubepin.io/cordoned": "present"}
    assert not drain(api).cordon("present", check_mode=False)
    assert len(api.patches) == 1


def test_an_uncordon_takes_the_mark_off_too_and_is_made_once() -> None:
    api = Api(refusals=0)
    assert not uncordon(api, "gpu-01", check_mode=False)  # type: ignore[arg-type]
    drain(api).cordon("present", check_mode=False)
    assert uncordon(api, "gpu-01", check_mode=True)  # type: ignore[arg-type]
    assert len(api.patches) == 1
    assert uncordon(api, "gpu-01", check_mode=False)  # type: ignore[arg-type]
    assert api.patches[-1] == {
        "metadata": {"annotations": {"kubepin.io/cordoned": None}},
        "spec": {"unschedulable": None},
    }
