# SPDX-License-Identifier: GPL-3.0-or-later
"""What a probe of one host concludes."""

from __future__ import annotations

from typing import Any

import pytest
from ansible_collections.kubepin.tuning.plugins.module_utils.control.host_probe.report import (
    clock_verdict,
    conclusion,
    probe_fact,
)

RULED_OUT = {
    "code": "frequency",
    "text": "CPU speed ruled out: a fixed piece of CPU work took 1.00 ms on both (1.00x).",
}
MAIN = "Main cause: CFS throttling (90% of the gap)."


def clock(governor: str = "performance", quota: float | None = None, cpuset: float | None = None) -> dict[str, Any]:
    running = {arm: {"median": mhz} for arm, mhz in (("quota", quota), ("cpuset", cpuset)) if mhz is not None}
    return {"governor": governor, "running_mhz": running, "sentence": f"governor {governor}"}


def report(
    verdict: str = "BEATS",
    why: tuple[str, ...] = (),
    causes: tuple[dict[str, Any], ...] = (),
    ruled_out: tuple[dict[str, Any], ...] = (),
) -> dict[str, Any]:
    family = {"ratio": 1.5, "low": 1.4, "high": 1.6}
    return {
        "verdict": verdict,
        "line": "benchmark: ...",
        "why": list(why),
        "causes": list(causes),
        "ruled_out": list(ruled_out),
        "advice": [{"code": "take_b", "text": "Do this."}],
        "family": family,
    }


@pytest.mark.parametrize(
    ("verdict", "words"),
    [
        ("BEATS", "sharing CPUs slows it down"),
        ("WORSE", "would slow it down"),
        ("EQUIVALENT", "make no difference"),
        ("UNDECIDED", "No conclusion yet"),
        ("INVALID", "something else differed"),
    ],
)
def test_every_verdict_has_a_conclusion(verdict: str, words: str) -> None:
    found = report(verdict, why=(MAIN, RULED_OUT["text"]), ruled_out=(RULED_OUT,))
    sentences = conclusion({"clock": clock()}, found)
    assert words in sentences[0]
    assert sentences[1] == MAIN
    assert sentences[2].startswith("CPU speed ruled out")
    assert sentences[-1] == "Do this."
    assert len(sentences) == 4


@pytest.mark.parametrize(
    ("measured", "found", "expected"),
    [
        pytest.param(
            clock(),
            report(causes=({"code": "frequency", "share": 0.6, "evidence": "1.20x"},)),
            "The clock accounts for 60% of the gap: 1.20x (governor performance).",
            id="main cause",
        ),
        pytest.param(
            clock(),
            report(causes=({"code": "frequency", "share": 0.24, "evidence": "1.10x"},)),
            "The clock is not the main cause, but accounts for 24% of the gap: 1.10x (governor performance).",
            id="further cause",
        ),
        pytest.param(
            clock(),
            report(ruled_out=({"code": "throttling", "text": "Throttling ruled out."}, RULED_OUT)),
            f"{RULED_OUT['text'][:-1]} (governor performance).",
            id="ruled out by the reference loop",
        ),
        pytest.param(
            clock(quota=3400.0, cpuset=3430.0),
            report(),
            "The clock is ruled out: its frequency was the same in both arms (governor performance).",
            id="ruled out by frequency",
        ),
        pytest.param(
            clock(quota=2200.0, cpuset=3400.0),
            report(),
            "The clock's frequency differed between the arms (governor performance).",
            id="frequencies differ",
        ),
        pytest.param(
            clock("unknown", quota=2596.0, cpuset=2596.0),
            report(),
            "Whether the clock contributes is unknown (governor unknown).",
            id="a hypervisor's constant proves nothing",
        ),
        pytest.param(
            clock(), report(), "Whether the clock contributes is unknown (governor performance).", id="no samples"
        ),
    ],
)
def test_whether_the_clock_contributes(measured: dict[str, Any], found: dict[str, Any], expected: str) -> None:
    assert clock_verdict(measured, found) == expected


def test_the_fact() -> None:
    keys = ("engine", "engine_version", "cpuset", "explanation", "gpu", "order", "commands", "rounds", "notes")
    measured = {**dict.fromkeys(keys, "x"), "clock": clock(), "lines": 48, "invocation": {}}
    fact = probe_fact(measured, report(), "/runs/a/probe/gpu-01")
    assert fact["schema"] == 1
    assert fact["outcome"] == "measured"
    assert (fact["ratio"], fact["low"], fact["high"], fact["verdict"]) == (1.5, 1.4, 1.6, "BEATS")
    assert fact["lines"] == "/runs/a/probe/gpu-01/lines.jsonl"
    assert fact["report"] == "/runs/a/probe/gpu-01/report.html"
    assert "invocation" not in fact
