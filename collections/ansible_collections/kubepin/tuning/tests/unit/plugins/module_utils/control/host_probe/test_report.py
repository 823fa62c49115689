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

ACQUITTED = "The CPU's speed is acquitted: a fixed piece of CPU work took 1.00 ms on both (1.00x)."
MAIN = "Main cause: CFS throttling (90% of the gap)."


def clock(governor: str = "performance", quota: float | None = None, cpuset: float | None = None) -> dict[str, Any]:
    running = {arm: {"median": mhz} for arm, mhz in (("quota", quota), ("cpuset", cpuset)) if mhz is not None}
    return {"governor": governor, "running_mhz": running, "sentence": f"governor {governor}"}


def report(
    verdict: str = "BEATS", why: tuple[str, ...] = (), causes: tuple[dict[str, Any], ...] = ()
) -> dict[str, Any]:
    family = {"ratio": 1.5, "low": 1.4, "high": 1.6}
    return {
        "verdict": verdict,
        "line": "benchmark: ...",
        "why": list(why),
        "causes": list(causes),
        "advice": ["Do this."],
        "family": family,
    }


@pytest.mark.parametrize(
    ("verdict", "words"),
    [
        ("BEATS", "how CPUs are given out is what slows it down"),
        ("WORSE", "it would lose"),
        ("EQUIVALENT", "make no difference"),
        ("UNDECIDED", "cannot be told yet"),
        ("INVALID", "something else differed"),
    ],
)
def test_every_verdict_has_a_conclusion(verdict: str, words: str) -> None:
    said = conclusion({"clock": clock()}, report(verdict, why=(MAIN, ACQUITTED)))
    assert words in said[0]
    assert said[1] == MAIN
    assert said[2].startswith("The CPU's speed is acquitted")
    assert said[-1] == "Do this."
    assert len(said) == 4


@pytest.mark.parametrize(
    ("told", "found", "expected"),
    [
        pytest.param(
            clock(),
            report(causes=({"code": "frequency", "share": 0.6, "evidence": "1.20x"},)),
            "The clock is to blame for 60% of the gap: 1.20x (governor performance).",
            id="blamed",
        ),
        pytest.param(
            clock(), report(why=(ACQUITTED,)), f"{ACQUITTED[:-1]} (governor performance).", id="acquitted by work"
        ),
        pytest.param(
            clock(quota=3400.0, cpuset=3430.0),
            report(),
            "The clock is acquitted: it ran alike in both arms (governor performance).",
            id="acquitted by frequency",
        ),
        pytest.param(
            clock(quota=2200.0, cpuset=3400.0),
            report(),
            "The clock did not run alike in both arms (governor performance).",
            id="not alike",
        ),
        pytest.param(
            clock("unknown", quota=2596.0, cpuset=2596.0),
            report(),
            "Whether the clock plays a part is unknown (governor unknown).",
            id="a hypervisor's constant proves nothing",
        ),
        pytest.param(
            clock(), report(), "Whether the clock plays a part is unknown (governor performance).", id="no samples"
        ),
    ],
)
def test_the_clock_is_acquitted_or_blamed(told: dict[str, Any], found: dict[str, Any], expected: str) -> None:
    assert clock_verdict(told, found) == expected


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
