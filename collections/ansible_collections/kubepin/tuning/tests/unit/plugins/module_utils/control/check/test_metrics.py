# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import typing as t

from ansible_collections.kubepin.tuning.plugins.module_utils.control.check.metrics import metric_files
from prometheus_client.parser import text_string_to_metric_families as parsed

Data = t.Dict[str, t.Any]
NOW = 1764000000.0


def check(node: str, outcome: str, **more: t.Any) -> Data:
    """A fact `kubepin_check`."""
    nothing: Data = {"problems": [], "unchecked": [], "pinned": 0, "gpu_containers": []}
    return {"node": node, "outcome": outcome, **nothing, **more}


def samples(text: str) -> t.Dict[t.Tuple[str, ...], float]:
    """(name, values of the labels in the order of their names) -> value, as Prometheus' parser reads the text."""
    return {
        (sample.name, *(sample.labels[label] for label in sorted(sample.labels))): sample.value
        for family in parsed(text)
        for sample in family.samples
    }


def test_a_node_that_differs_has_its_problems_by_code() -> None:
    problems = [{"code": code} for code in ("exclusive_cpus_lost", "exclusive_cpus_lost", "state_file_missing")]
    containers = [{"pinned": True}, {"pinned": False}, {"pinned": True}]
    found = check("gpu-01", "drifted", problems=problems, pinned=3, gpu_containers=containers)
    files = metric_files([found], NOW)
    assert list(files) == ["kubepin-gpu-01.prom"]
    assert samples(files["kubepin-gpu-01.prom"]) == {
        ("kubepin_check_timestamp_seconds", "gpu-01"): NOW,
        ("kubepin_node_checked", "gpu-01"): 1,
        ("kubepin_node_as_planned", "gpu-01"): 0,
        ("kubepin_node_problems", "exclusive_cpus_lost", "gpu-01"): 2,
        ("kubepin_node_problems", "state_file_missing", "gpu-01"): 1,
        ("kubepin_node_pinned_containers", "gpu-01"): 3,
        ("kubepin_node_gpu_containers", "gpu-01", "true"): 2,
        ("kubepin_node_gpu_containers", "gpu-01", "false"): 1,
    }


def test_of_a_node_that_was_not_checked_only_the_reason_is_known() -> None:
    files = metric_files([check("gpu-01", "not_checked", unchecked=[{"code": "node_unread"}])], NOW)
    assert samples(files["kubepin-gpu-01.prom"]) == {
        ("kubepin_check_timestamp_seconds", "gpu-01"): NOW,
        ("kubepin_node_checked", "gpu-01"): 0,
        ("kubepin_node_problems", "node_unread", "gpu-01"): 1,
    }


def test_each_metric_says_what_it_is() -> None:
    (text,) = metric_files([check("gpu-01", "as_planned")], NOW).values()
    assert {(family.type, bool(family.documentation)) for family in parsed(text)} == {("gauge", True)}


def test_a_name_is_that_of_a_file_in_the_folder() -> None:
    assert list(metric_files([check("../gpu", "not_checked")], NOW)) == ["kubepin-..%2Fgpu.prom"]
