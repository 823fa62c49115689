# SPDX-License-Identifier: GPL-3.0-or-later
"""Pure: the conclusions of a host probe as sentences."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ansible_collections.kubepin.tuning.plugins.module_utils.control.run.outcome import Outcome

SCHEMA = 1
SPEED_EQUAL = 0.02
MAIN_CAUSE = 0.5

_CONCLUSIONS = {
    "BEATS": (
        "Exclusive CPUs make this container faster with the same CPU limit: sharing CPUs slows it down on this host. "
        "In Kubernetes, the static CPU manager policy assigns exclusive CPUs (tune-gpu-nodes.yml)."
    ),
    "WORSE": (
        "Exclusive CPUs make this container slower on this host, so the static CPU manager policy would slow it down. "
        "Check which CPUs these are, and how many threads it runs."
    ),
    "EQUIVALENT": (
        "Exclusive CPUs make no difference to this container within the margin: if something slows it down, it is not "
        "the sharing of CPUs."
    ),
    "UNDECIDED": "No conclusion yet on exclusive CPUs: run more rounds, on a quieter host.",
    "INVALID": "No conclusion on exclusive CPUs is possible: something else differed between the two arms.",
}


def probe_fact(measured: Mapping[str, Any], report: Mapping[str, Any], folder: str) -> dict[str, Any]:
    """The fact `kubepin_probe`.

    :param measured: what module `cpuset_probe` returned
    :param report: the report of module `benchmark_report`
    :param folder: the folder on the control node that holds the timings and the report
    """
    kept = ("engine", "engine_version", "cpuset", "explanation", "gpu", "order", "commands", "rounds", "clock", "notes")
    return {
        "schema": SCHEMA,
        "outcome": Outcome.MEASURED.value,
        **{key: measured[key] for key in kept},
        "verdict": report["verdict"],
        "ratio": report["family"]["ratio"],
        "low": report["family"]["low"],
        "high": report["family"]["high"],
        "line": report["line"],
        "conclusion": conclusion(measured, report),
        "lines": f"{folder}/lines.jsonl",
        "report": f"{folder}/report.html",
    }


def conclusion(measured: Mapping[str, Any], report: Mapping[str, Any]) -> list[str]:
    """Sentences: the effect of exclusive CPUs, the main cause, whether the clock contributes, and what to do."""
    return [
        _CONCLUSIONS[report["verdict"]],
        *report["why"][:1],
        clock_verdict(measured["clock"], report),
        *(advice["text"] for advice in report["advice"]),
    ]


def clock_verdict(clock: Mapping[str, Any], report: Mapping[str, Any]) -> str:
    """Whether the clock is a cause, from the report's causes, else its reference loop, else the frequencies.

    On a host without a governor the hypervisor reports a constant frequency, which proves nothing.
    """
    facts = f"({clock['sentence']})"
    cause = _about_frequency(report["causes"])
    if cause is not None:
        return f"{_contribution(cause['share'])}: {cause['evidence']} {facts}."
    ruled_out = _about_frequency(report["ruled_out"])
    if ruled_out is not None:
        return f"{ruled_out['text'].rstrip('.')} {facts}."
    speeds = [arm["median"] for arm in clock["running_mhz"].values()]
    if clock["governor"] != "unknown" and len(speeds) == 2:
        if max(speeds) <= min(speeds) * (1 + SPEED_EQUAL):
            return f"The clock is ruled out: its frequency was the same in both arms {facts}."
        return f"The clock's frequency differed between the arms {facts}."
    return f"Whether the clock contributes is unknown {facts}."


def _about_frequency(findings: Sequence[Mapping[str, Any]]) -> Mapping[str, Any] | None:
    return next((finding for finding in findings if finding["code"] == "frequency"), None)


def _contribution(share: float | None) -> str:
    if share is None:
        return "The clock contributes to the gap"
    main = "accounts" if share >= MAIN_CAUSE else "is not the main cause, but accounts"
    return f"The clock {main} for {share:.0%} of the gap"
