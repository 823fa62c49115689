# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import json

import pytest
from ansible_collections.kubepin.tuning.plugins.module_utils.common.errors import TuningError
from ansible_collections.kubepin.tuning.plugins.module_utils.control.gpu_pods.audit import audit
from ansible_collections.kubepin.tuning.plugins.module_utils.control.gpu_pods.source import FileSource, read_objects
from ansible_collections.kubepin.tuning.tests.unit.samples.gpu_pods import CASES, manifests


def test_files(tmp_path):
    file = tmp_path / "pods"
    file.write_text(json.dumps({"kind": "PodList", "apiVersion": "v1", "items": [{"metadata": {"name": "a"}}]}))
    assert read_objects(str(file)) == [{"kind": "Pod", "apiVersion": "v1", "metadata": {"name": "a"}}]
    file.write_text("kind: Pod\nmetadata: {name: a}\n---\nkind: Node\nmetadata: {name: n}\n")
    assert [item["kind"] for item in read_objects(str(file))] == ["Pod", "Node"]
    file.write_text(json.dumps({"kind": "List", "items": manifests(22, "image")}))
    source = FileSource(str(file), None)
    result = audit(source, {}, ["nvidia.com/"], 1)
    assert result["summary"]["pods"] == sum(case.since <= 22 for case in CASES) >= 40
    assert [f"{item['kind']}/{item['name']}" for item in result["owners"] if item["patch"] is None] == ["Job/once"]


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (None, "cannot be read"),
        ("{", "is neither JSON nor YAML"),
        ("just words", "holds something that is no Kubernetes object"),
        ('{"a": 1}', "holds something that is no Kubernetes object"),
        ('{"kind": "Pod"}', "holds a Pod without a name"),
        ('{"kind": "List", "items": [1]}', "holds something that is no Kubernetes object"),
    ],
)
def test_files_that_are_refused(tmp_path, text, reason):
    file = tmp_path / "pods.json"
    if text is not None:
        file.write_text(text)
    with pytest.raises(TuningError, match=reason):
        read_objects(str(file))
