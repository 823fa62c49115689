# SPDX-License-Identifier: GPL-3.0-or-later
"""The fact of a host probe, as a playbook gets it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

Evaluate = Callable[..., Any]
CALL = "measured | kubepin.tuning.probe_fact(report, measurement, 'runs/a/probe/gpu-01')"
MEASURED = {
    **dict.fromkeys(
        ("engine", "engine_version", "cpuset", "explanation", "gpu", "tenants", "loads", "commands", "notes"), ""
    ),
    "order": [["quota-auto", "quota-12"]],
    "rounds": [1],
    "clock": {"governor": "unknown", "running_mhz": {}, "sentence": "governor unknown"},
}
REPORT = {
    "recommendation": "set_threads",
    "line": "host probe: set the number of threads",
    "contrasts": [
        {
            "question": "threads",
            "load": "solo",
            "ratio": 1.85,
            "low": 1.7,
            "high": 2.0,
            "verdict": "BEATS",
            "causes": [],
        }
    ],
    "throughputs": [],
    "advice": [{"code": "set_threads", "text": "Set OMP_NUM_THREADS."}],
}


def test_the_fact_names_the_recommendation_and_the_files(evaluate: Evaluate) -> None:
    fact = evaluate(CALL, measured=[MEASURED], report=REPORT, measurement={"minutes": 9.1, "ending": "precise"})
    assert (fact["outcome"], fact["recommendation"], fact["ending"]) == ("measured", "set_threads", "precise")
    assert fact["contrasts"]["solo"]["threads"]["ratio"] == 1.85
    assert (fact["lines"], fact["report"]) == (
        "runs/a/probe/gpu-01/lines.jsonl",
        "runs/a/probe/gpu-01/report.html",
    )
