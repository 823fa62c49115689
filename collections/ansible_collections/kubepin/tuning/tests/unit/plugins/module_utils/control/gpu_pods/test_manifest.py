# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

from ansible_collections.kubepin.tuning.plugins.module_utils.control.gpu_pods.manifest import faults


def test_a_sound_object_and_a_kind_that_is_not_read_have_no_fault() -> None:
    assert faults({"kind": "Pod", "metadata": {"name": "a"}, "spec": {"containers": [{"name": "c"}]}}) == []
    assert faults({"kind": "ConfigMap", "metadata": 7}) == []


def test_all_faults_come_with_their_places() -> None:
    container = {"resources": {"limits": {"cpu": "two", "memory": True}}, "env": "x"}
    not_a_quantity = "is not a Kubernetes quantity: expected a number with a suffix such as m, k, M, Mi, G or Gi"
    assert faults({"kind": "Pod", "metadata": {"name": ""}, "spec": {"containers": [container]}}) == [
        'metadata.name is "": expected a text',
        "spec.containers[0].name is missing",
        f'spec.containers[0].resources.limits.cpu: "two" {not_a_quantity}',
        "spec.containers[0].resources.limits.memory is true: expected a quantity",
        'spec.containers[0].env is "x": expected a list',
    ]


def test_an_owner_needs_a_template_and_its_version() -> None:
    assert faults({"kind": "Deployment", "metadata": {"name": "a"}, "spec": {}}) == [
        "apiVersion is missing",
        "spec.template is missing",
    ]
