# SPDX-License-Identifier: GPL-3.0-or-later
# Private to the collection: may change without notice.
# Pure: what a probe of one host says about the host, in sentences.
from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ansible_collections.kubepin.tuning.plugins.module_utils.control.run.outcome import Outcome

SCHEMA = 1
SPEED_EQUAL = 0.02
MAIN_CAUSE = 0.5

_CONCLUSIONS = {
    "BEATS": (
        "CPUs of its own make this container faster, with the same CPU limit: how CPUs are given out is what slows it down on this "
        "host. In Kubernetes the static CPU manager policy gives them (tune-gpu-nodes.yml)."
    ),
    "WORSE": (
        "CPUs of its own make this container slower on this host: with the static CPU manager policy it would lose. Look at which "
        "CPUs these are, and how many threads it runs."
    ),
    "EQUIVALENT": (
        "CPUs of its own make no difference to this container within the margin: what slows it down, if anything, is not how CPUs are "
        "given out."
    ),
    "UNDECIDED": "Whether CPUs of its own make a difference cannot be told yet: run more rounds, on a quieter host.",
    "INVALID": "Nothing can be said about the CPUs: something else differed between the two arms.",
}


def probe_fact(measured: Mapping[str, Any], report: Mapping[str, Any], folder: str) -> dict[str, Any]:
    """The fact `kubepin_probe`.

    :param measured: what module `cpuset_probe` returned
    :param report: the object of `python -m benchmark report --json`
    :param folder: where lines and report are on the control node
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
    """Sentences: what CPUs of its own do here, the main cause, the clock acquitted or blamed, and what to do."""
    why = [sentence for sentence in report["why"] if not sentence.startswith("The CPU's speed")]
    return [_CONCLUSIONS[report["verdict"]], *why[:1], clock_verdict(measured["clock"], report), *report["advice"]]


def clock_verdict(clock: Mapping[str, Any], report: Mapping[str, Any]) -> str:
    """Whether the clock is a cause: by the report's causes, else by its timed piece of work, else by the frequencies.

    Frequencies of a host without a governor are a constant that a hypervisor made up: they prove nothing.
    """
    facts = f"({clock['sentence']})"
    cause = next((cause for cause in report["causes"] if cause["code"] == "frequency"), None)
    if cause is not None:
        share = cause["share"]
        part = "" if share is None else f" for {share:.0%} of the gap"
        blame = "acquitted as the main cause, and may count" if share is not None and share < MAIN_CAUSE else "to blame"
        return f"The clock is {blame}{part}: {cause['evidence']} {facts}."
    acquitted = next(
        (sentence for sentence in report["why"] if sentence.startswith("The CPU's speed is acquitted")), None
    )
    if acquitted is not None:
        return f"{acquitted.rstrip('.')} {facts}."
    speeds = [arm["median"] for arm in clock["running_mhz"].values()]
    if clock["governor"] != "unknown" and len(speeds) == 2:
        equal = max(speeds) <= min(speeds) * (1 + SPEED_EQUAL)
        return f"The clock {'is acquitted: it ran alike' if equal else 'did not run alike'} in both arms {facts}."
    return f"Whether the clock plays a part is unknown {facts}."
