# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import importlib
import typing as t

import pytest
import yaml

MODULES = "ansible_collections.kubepin.tuning.plugins.modules"
Answer = t.Callable[..., t.Dict[str, t.Any]]


@pytest.mark.usefixtures("kubelet_without_runtime")
@pytest.mark.parametrize("check_mode", [False, True])
def test_gpu_loss(plan: Answer, check_mode: bool) -> None:
    result = plan("gpu_loss_info", _ansible_check_mode=check_mode)
    report = result["gpu_loss"]
    assert (result["changed"], report["containers"]) == (False, [])
    assert report["unknown"] == ["all containers: the kubelet's container runtime has no known socket"]
    module = importlib.import_module(f"{MODULES}.gpu_loss_info")
    assert set(report) == set(yaml.safe_load(module.RETURN)["gpu_loss"]["contains"])
