# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import pytest
from ansible_collections.kubepin.tuning.plugins.module_utils.control.upgrade.cluster_reader import component_arguments
from ansible_collections.kubepin.tuning.tests.unit.samples.inputs import damaged, documents
from hypothesis import given

AS_MAPPING = """
apiVersion: kubeadm.k8s.io/v1beta3
apiServer:
  extraArgs:
    enable-admission-plugins: NodeRestriction,PodSecurityPolicy
    v: 3
"""
AS_LIST = """
apiVersion: kubeadm.k8s.io/v1beta4
apiServer:
  extraArgs:
  - name: enable-admission-plugins
    value: NodeRestriction,PodSecurityPolicy
  - name: v
    value: "3"
"""


@pytest.mark.parametrize("text", [AS_MAPPING, AS_LIST])
def test_extra_arguments_in_both_forms_of_kubeadm(text: str) -> None:
    assert component_arguments(text) == {
        "kube-apiserver": {"enable-admission-plugins": "NodeRestriction,PodSecurityPolicy", "v": "3"},
        "kube-controller-manager": {},
        "kube-scheduler": {},
    }


@pytest.mark.parametrize("text", ["", "{", "[]", "apiServer: 3", "apiServer: {extraArgs: null}"])
def test_without_arguments_there_are_none(text: str) -> None:
    assert not any(component_arguments(text).values())


@given(damaged(AS_MAPPING) | documents("apiServer", "scheduler", "extraArgs", "name", "value"))
def test_any_text_has_arguments_that_are_texts(text: str) -> None:
    for arguments in component_arguments(text).values():
        assert all(isinstance(word, str) for pair in arguments.items() for word in pair)
