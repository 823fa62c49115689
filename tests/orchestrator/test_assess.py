# SPDX-License-Identifier: GPL-3.0-or-later
"""The screen of `kubepin assess`, and how it ends."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.kubepin.tuning.plugins.module_utils.control.assess.cluster import assess_cluster
from ansible_collections.kubepin.tuning.tests.unit.plugins.module_utils.control.assess.test_cluster import (
    node,
    placed,
    seen,
)
from ansible_collections.kubepin.tuning.tests.unit.samples.gpu_pods import main as container
from ansible_collections.kubepin.tuning.tests.unit.samples.gpu_pods import pod
from rich.console import Console

from orchestrator import assess
from orchestrator.__main__ import main

pytestmark = pytest.mark.component

PODS = [placed("ready", pod(container("2 1Gi"))), placed("fractional", pod(container("1500m 1Gi")), on="gpu-02")]


def shown(found: Any, width: int = 120) -> str:
    console = Console(file=io.StringIO(), width=width, no_color=True)
    console.print(assess.screen(found))
    text: str = console.file.getvalue()  # type: ignore[attr-defined]   # a StringIO
    return text


def test_the_screen_has_nodes_pods_steps_and_what_was_not_seen() -> None:
    text = shown(assess_cluster(seen(pods=PODS)))
    for part in ("gpu-01", "containerd 2.1.4", "Pod/fractional", "fractional_cpu:", "→ ", "What this did not see"):
        assert part in text
    assert "2 GPU pods: 0 with exclusive CPUs, 1 would have them" in " ".join(text.split())


@pytest.mark.parametrize("width", [60, 80, 200])
def test_no_line_is_wider_than_the_terminal_and_no_name_is_cut(width: int) -> None:
    text = shown(assess_cluster(seen(pods=PODS)), width)
    assert max(map(len, text.splitlines())) <= width
    assert "…" not in text


@pytest.mark.parametrize(
    "found",
    [
        seen(nodes=[node("cpu-01", gpus=0)]),
        seen(configz={}, configz_errors={"gpu-01": "forbidden"}, pods=None, pods_error="forbidden", version=None),
    ],
)
def test_a_cluster_of_which_little_is_known_has_a_screen_too(found: Any) -> None:
    assert "What to do" in shown(assess_cluster(found))


def test_nodes_that_are_alike_share_a_row() -> None:
    nodes = [node(f"gpu-{number:02}") for number in range(5)]
    configz = {one["metadata"]["name"]: {"cpuManagerPolicy": "none"} for one in nodes}
    assert "gpu-00, gpu-01, gpu-02 and 2 more" in " ".join(
        shown(assess_cluster(seen(nodes=nodes, configz=configz))).split()
    )


def test_names_are_no_markup() -> None:
    text = shown(assess_cluster(seen(pods=[placed("[red]x", pod(container("2 1Gi")))])))
    assert "[red]x" in text


def test_json_is_the_assessment(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    found = assess_cluster(seen(pods=PODS))
    monkeypatch.setattr(assess, "assessment", lambda kubeconfig, context: found)
    assert main(["assess", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == found


@pytest.mark.parametrize("text", [None, "not: [a kubeconfig"])
def test_a_kubeconfig_that_cannot_be_used_is_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], text: str | None
) -> None:
    path = tmp_path / "kubeconfig"
    if text is not None:
        path.write_text(text)
    assert main(["assess", "--kubeconfig", str(path)]) == 2
    assert str(path) in capsys.readouterr().err
