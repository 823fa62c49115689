# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import typing as t

import pytest

MODULES = "ansible_collections.kubepin.tuning.plugins.modules"
Answer = t.Callable[..., t.Dict[str, t.Any]]


@pytest.mark.usefixtures("kubelet_without_runtime")
@pytest.mark.parametrize("check_mode", [False, True])
def test_container_runtime(plan: Answer, check_mode: bool) -> None:
    result = plan("container_runtime_info", gpu_device_paths=["/no/device"], _ansible_check_mode=check_mode)
    report = result["container_runtime"]
    assert (result["changed"], report["schema"], report["runtime"], report["runc_version"]) == (
        False,
        1,
        "unknown",
        None,
    )
    assert "dev_char_links: there is no device /no/device" in report["unknown"]
