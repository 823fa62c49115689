# SPDX-License-Identifier: GPL-3.0-or-later
"""Pure: the findings of a host probe as a fact, and what its clock has to do with them as a sentence."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ansible_collections.kubepin.tuning.plugins.module_utils.control.run.outcome import Outcome

SCHEMA = 2
"""Since 2, an experiment of three arms: `contrasts` and a `recommendation` instead of one verdict."""
SPEED_EQUAL = 0.02
MAIN_CAUSE = 0.5
_KEPT = ("engine", "engine_version", "cpuset", "explanation", "gpu", "tenants", "loads", "commands", "notes")
_RATE = ("tenants", "images_per_s", "p99_ms", "worst_tenant", "loss")


def probe_fact(
    measured: Sequence[Mapping[str, Any]], report: Mapping[str, Any], measurement: Mapping[str, Any], folder: str
) -> dict[str, Any]:
    """The fact `kubepin_probe`.

    :param measured: what module `cpuset_probe` returned, for each call in turn
    :param report: the report of module `benchmark_report` on the experiment
    :param measurement: the fact `kubepin_measurement` after the last analysis
    :param folder: the folder on the control node that holds the timings and the report
    """
    clock = measured[-1]["clock"]
    return {
        "schema": SCHEMA,
        "outcome": Outcome.MEASURED.value,
        **{key: measured[0][key] for key in _KEPT},
        "order": [arms for call in measured for arms in call["order"]],
        "rounds": [done for call in measured for done in call["rounds"]],
        "clock": clock,
        "minutes": measurement["minutes"],
        "ending": measurement["ending"],
        "recommendation": report["recommendation"],
        "contrasts": _by_load(report["contrasts"], "question", ("ratio", "low", "high", "verdict")),
        "throughputs": _by_load(report["throughputs"], "role", _RATE),
        "line": report["line"],
        "conclusion": [clock_verdict(clock, report), *(advice["text"] for advice in report["advice"])],
        "lines": f"{folder}/lines.jsonl",
        "report": f"{folder}/report.html",
    }


def _by_load(found: Sequence[Mapping[str, Any]], name: str, keys: Sequence[str]) -> dict[str, dict[str, Any]]:
    """load -> what the key `name` says -> the values of `keys`."""
    result: dict[str, dict[str, Any]] = {}
    for one in found:
        result.setdefault(one["load"], {})[one[name]] = {key: one[key] for key in keys}
    return result


def clock_verdict(clock: Mapping[str, Any], report: Mapping[str, Any]) -> str:
    """Whether the clock is a cause of a decided gap, else whether its frequency was the same in all arms.

    On a host without a governor the hypervisor reports a constant frequency, which proves nothing.
    """
    facts = f"({clock['sentence']})"
    causes = [cause for contrast in report["contrasts"] for cause in contrast["causes"]]
    cause = next((cause for cause in causes if cause["code"] == "frequency"), None)
    if cause is not None:
        return f"{_contribution(cause['share'])}: {cause['evidence']} {facts}."
    speeds = [arm["median"] for arm in clock["running_mhz"].values()]
    if clock["governor"] != "unknown" and len(speeds) > 1:
        if max(speeds) <= min(speeds) * (1 + SPEED_EQUAL):
            return f"The clock is ruled out: its frequency was the same in all arms {facts}."
        return f"The clock's frequency differed between the arms {facts}."
    return f"Whether the clock contributes is unknown {facts}."


def _contribution(share: float | None) -> str:
    if share is None:
        return "The clock contributes to the gap"
    main = "accounts" if share >= MAIN_CAUSE else "is not the main cause, but accounts"
    return f"The clock {main} for {share:.0%} of the gap"
