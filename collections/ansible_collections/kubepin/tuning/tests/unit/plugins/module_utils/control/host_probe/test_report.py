# SPDX-License-Identifier: GPL-3.0-or-later
"""What a probe of one host found."""

from __future__ import annotations

from typing import Any

import pytest
from ansible_collections.kubepin.tuning.plugins.module_utils.control.host_probe.report import clock_verdict, probe_fact


def clock(governor: str = "performance", **medians: float) -> dict[str, Any]:
    running = {arm: {"median": mhz} for arm, mhz in medians.items()}
    return {"governor": governor, "running_mhz": running, "sentence": f"governor {governor}"}


RATE = {"tenants": 1, "images_per_s": 900.0, "p99_ms": None, "worst_tenant": None, "loss": None}


def report(*causes: dict[str, Any]) -> dict[str, Any]:
    gap = {"ratio": 1.85, "low": 1.7, "high": 2.0, "verdict": "BEATS"}
    none = {"ratio": 0.98, "low": 0.93, "high": 1.04, "verdict": "UNDECIDED"}
    return {
        "recommendation": "set_threads",
        "line": "benchmark: ...",
        "contrasts": [
            {"question": "threads", "load": "solo", **gap, "causes": list(causes)},
            {"question": "exclusive", "load": "solo", **none, "causes": []},
            {"question": "exclusive", "load": "busy", **gap, "causes": []},
        ],
        "throughputs": [{"role": "today", "load": "solo", **RATE, "by_round": {"1": 900.0}}],
        "advice": [{"code": "set_threads", "text": "Do this."}],
    }


@pytest.mark.parametrize(
    ("measured", "found", "expected"),
    [
        pytest.param(
            clock(),
            report({"code": "frequency", "share": 0.6, "evidence": "1.20x"}),
            "The clock accounts for 60% of the gap: 1.20x (governor performance).",
            id="main cause",
        ),
        pytest.param(
            clock(),
            report({"code": "frequency", "share": 0.24, "evidence": "1.10x"}),
            "The clock is not the main cause, but accounts for 24% of the gap: 1.10x (governor performance).",
            id="further cause",
        ),
        pytest.param(
            clock(a=3400.0, b=3430.0, c=3410.0),
            report({"code": "oversubscription", "share": 1.0, "evidence": "16 threads"}),
            "The clock is ruled out: its frequency was the same in all arms (governor performance).",
            id="ruled out by frequency",
        ),
        pytest.param(
            clock(a=3400.0, b=3400.0, c=2200.0),
            report(),
            "The clock's frequency differed between the arms (governor performance).",
            id="frequencies differ",
        ),
        pytest.param(
            clock("unknown", a=2596.0, b=2596.0),
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
    keys = ("engine", "engine_version", "cpuset", "explanation", "gpu", "tenants", "loads", "commands", "notes")
    calls = [
        {**dict.fromkeys(keys, "x"), "order": [[str(number)]], "rounds": [number], "clock": clock(), "invocation": {}}
        for number in (1, 2)
    ]
    measurement = {"minutes": 9.1, "ending": "precise"}
    fact = probe_fact(calls, report(), measurement, "/runs/a/probe/gpu-01")
    assert (fact["schema"], fact["outcome"], fact["ending"]) == (2, "measured", "precise")
    assert (fact["order"], fact["rounds"]) == ([["1"], ["2"]], [1, 2])
    assert fact["recommendation"] == "set_threads"
    assert fact["contrasts"]["solo"]["threads"] == {"ratio": 1.85, "low": 1.7, "high": 2.0, "verdict": "BEATS"}
    assert (fact["contrasts"]["solo"]["exclusive"]["ratio"], fact["contrasts"]["busy"]["exclusive"]["ratio"]) == (
        0.98,
        1.85,
    )
    assert fact["throughputs"] == {"solo": {"today": RATE}}
    assert fact["conclusion"][-1] == "Do this."
    assert fact["lines"] == "/runs/a/probe/gpu-01/lines.jsonl"
    assert fact["report"] == "/runs/a/probe/gpu-01/report.html"
    assert "invocation" not in fact
