# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import json

from ansible_collections.kubepin.tuning.plugins.module_utils.control.cluster.permissions import (
    NAMESPACES,
    PURPOSES,
    Right,
    rights,
)

from tests.campaigns import permissions
from tests.campaigns.base import AnsibleRun

EVERYWHERE = Right("get", "", "pods", "")
IN_ONE = Right("get", "", "pods", "kubepin-probe")
OTHER = Right("list", "", "nodes", "")


def test_every_purpose_is_tried_by_a_run() -> None:
    assert set(permissions.EVERY) == set(PURPOSES)


def test_a_right_that_another_one_covers_cannot_be_missed() -> None:
    assert permissions.lacked([EVERYWHERE, IN_ONE, OTHER], OTHER) == [OTHER]
    assert permissions.lacked([EVERYWHERE, IN_ONE, OTHER], IN_ONE) == []
    assert permissions.lacked([EVERYWHERE, IN_ONE, OTHER], EVERYWHERE) == [EVERYWHERE]


def test_roles_grant_each_right_where_it_holds_and_empty_ones_are_there_too() -> None:
    found = permissions.roles(rights(["upgrade", "tune"], NAMESPACES))
    granted = {
        (each["metadata"].get("namespace", ""), json.dumps(rule, sort_keys=True))
        for each in found
        for rule in each.get("rules", ())
    }
    assert len(granted) == len(rights(["upgrade", "tune"], NAMESPACES))
    assert ("", '{"nonResourceURLs": ["/metrics"], "verbs": ["get"]}') in granted
    empty = [each["metadata"] for each in found if each.get("rules") == []]
    assert empty == [{"name": permissions.WITHOUT, "namespace": NAMESPACES["benchmark"]}]


def run(code: int, changed: bool, *codes: str) -> AnsibleRun:
    problems = [{"code": code, "text": ""} for code in codes]
    event = {
        "_event": "v2_runner_on_ok",
        "task": {"name": "Rights", "duration": {"start": "2026-01-01T00:00:00Z", "end": "2026-01-01T00:00:01Z"}},
        "hosts": {
            "n1": {
                "action": "set_fact",
                "changed": changed,
                "ansible_facts": {"kubepin_rights": {"problems": problems}},
            }
        },
    }
    return AnsibleRun.ended(code, json.dumps(event))


def test_a_refusal_is_a_failed_run_that_changed_nothing_and_has_the_code() -> None:
    assert permissions.refuses(run(2, False, "rights_missing"))
    assert not permissions.refuses(run(0, False, "rights_missing"))
    assert not permissions.refuses(run(2, True, "rights_missing"))
    assert not permissions.refuses(run(2, False, "node_not_ready"))
