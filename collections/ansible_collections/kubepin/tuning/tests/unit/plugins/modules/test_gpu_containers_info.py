# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import typing as t
from pathlib import Path

import pytest
from ansible_collections.kubepin.tuning.plugins.module_utils.node.readers import container_runtime

Answer = t.Callable[..., t.Dict[str, t.Any]]


@pytest.fixture
def crictl(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A `crictl` that lists no container where services search; the file that holds its arguments."""
    asked = tmp_path / "asked"
    program = tmp_path / "crictl"
    program.write_text(f'#!/bin/sh\necho "$@" >> {asked}\n')
    program.chmod(0o755)
    monkeypatch.setattr(container_runtime, "SERVICE_PATH", str(tmp_path))
    return asked


@pytest.mark.parametrize("check_mode", [False, True])
def test_containers_are_listed_at_the_runtime_s_endpoint(answer: Answer, crictl: Path, check_mode: bool) -> None:
    result = answer(
        "gpu_containers_info",
        devices=["nvidia*"],
        service="kubelet",
        endpoint="unix:///run/other.sock",
        _ansible_check_mode=check_mode,
    )
    assert (result["changed"], result["sources"]["containers"]) == (False, [])
    assert result["sources"]["listed"]["code"] == 0
    assert "unix:///run/other.sock" in crictl.read_text()


def test_without_an_endpoint_nothing_is_listed(answer: Answer, crictl: Path) -> None:
    result = answer("gpu_containers_info", devices=["nvidia*"], service="kubelet")
    assert result["sources"]["listed"] is None
    assert not crictl.exists()
