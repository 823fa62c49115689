# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

from typing import Any

import pytest
from ansible_collections.kubepin.tuning.plugins.module_utils.common.problem import Problem, to_dicts
from ansible_collections.kubepin.tuning.plugins.module_utils.control.cluster.problems import budget_exhausted
from ansible_collections.kubepin.tuning.plugins.module_utils.control.run.report import preflight_problems, run_summary

POLICY = {"name": "cpuManagerPolicy", "before": "none", "after": "static", "reason": "GPU pods own their CPUs"}
RESERVED = {"name": "reservedSystemCPUs", "before": None, "after": "0,128", "reason": "static needs a reservation"}
TUNED = {
    "schema": 1,
    "node": "gpu-01",
    "outcome": "tuned",
    "settings": [POLICY, RESERVED],
    "reserved": {"cpus": "0,128", "explanation": "1 core, NUMA 0, no GPU"},
    "exclusive_cpus": 254,
    "downtime_ms": 1304.2,
    "verified": ["state file", "configz", "allocatable cpu 254", "nvidia.com/gpu 8"],
    "first_cause": None,
    "meaning": None,
    "cordoned_before": False,
    "left_cordoned": False,
    "next_step": None,
    "gpu_label": "GPU",
    "message": None,
}
FAILED = {
    **TUNED,
    "outcome": "failed",
    "verified": [],
    "first_cause": "kubelet does not stay up: unknown CPU Manager Policy option",
    "meaning": "this kubelet does not know the option",
    "left_cordoned": True,
    "next_step": "see journalctl -u kubelet, then run the play again",
}


def problems(*findings: Any) -> Any:
    return to_dicts(Problem("some_code", "", finding) for finding in findings)


def test_no_problem_is_no_text() -> None:
    assert preflight_problems({"gpu-01": {"problems": [], "blocked": []}, "gpu-02": {"problems": []}}) == ""


def test_what_budgets_forbid_now_and_a_failed_planning_are_problems_too() -> None:
    exhausted = budget_exhausted("ml/trainer-0", "ml/a", 1, 1).to_dict()
    assert preflight_problems({"gpu-01": {"problems": [], "blocked": [exhausted]}, "gpu-02": {}}) == (
        "kubepin: nothing was changed. 2 of 2 nodes cannot be switched as asked:\n"
        f"  gpu-01   {exhausted['text']}\n"
        "  gpu-02   could not be planned: its error is above."
    )


def test_problems() -> None:
    text = preflight_problems(
        {
            "gpu-10": {"problems": problems("pod ml/trainer-0 cannot be evicted")},
            "gpu-3": {"problems": []},
            "gpu-2": {"problems": problems('reserved_cpus "0" splits core 0', "socket 1 is reserved")},
        }
    )
    assert text == (
        "kubepin: nothing was changed. 2 of 3 nodes cannot be switched as asked:\n"
        '  gpu-2    reserved_cpus "0" splits core 0.\n'
        "  gpu-2    socket 1 is reserved.\n"
        "  gpu-10   pod ml/trainer-0 cannot be evicted."
    )


def test_a_problem_of_the_only_node() -> None:
    assert preflight_problems({"gpu-01": {"problems": problems("no kubelet")}}) == (
        "kubepin: nothing was changed. 1 of 1 node cannot be switched as asked:\n  gpu-01   no kubelet."
    )


def test_a_good_run() -> None:
    assert run_summary(
        {"gpu-10": {**TUNED, "outcome": "already_tuned", "policy": "static", "settings": []}, "gpu-2": TUNED}, 250
    ) == [
        "kubepin: 2 nodes: 1 tuned, 1 already tuned, 0 failed (4 min 10 s)",
        "  gpu-2    none -> static   reserved 0,128 (1 core, NUMA 0, no GPU)   exclusive 254   kubelet down 1.3 s",
        "           verified: state file, configz, allocatable cpu 254, nvidia.com/gpu 8",
        "  gpu-10   static, reserved 0,128: nothing to do",
        "           verified: state file, configz, allocatable cpu 254, nvidia.com/gpu 8",
    ]


LINES = {
    "the least there is": ({"outcome": "tuned"}, ["switched by an interrupted run, finished now"]),
    "a stand-in": (
        {**TUNED, "gpu_label": "GPU stand-in", "verified": None, "reserved": {"cpus": "0"}},
        ["none -> static   reserved 0   exclusive 254   kubelet down 1.3 s   GPU stand-in"],
    ),
    "a stand-in, nothing to do": (
        {"outcome": "already_tuned", "policy": "static", "gpu_label": "GPU stand-in"},
        ["static: nothing to do   GPU stand-in"],
    ),
    "cordoned before": (
        {"outcome": "tuned", "settings": [POLICY], "cordoned_before": True, "left_cordoned": True},
        ["none -> static", "stays cordoned, as it was found"],
    ),
    "more settings": (
        {
            "outcome": "tuned",
            "reserved": {"cpus": "0"},
            "settings": [
                {"name": "reservedSystemCPUs", "before": "1", "after": "0"},
                {
                    "name": "cpuManagerPolicyOptions",
                    "before": {},
                    "after": {"full-pcpus-only": "true"},
                    "reason": "SMT",
                },
                {"name": "topologyManagerPolicy", "before": None, "after": "restricted"},
            ],
        },
        [
            "settings changed   reserved 0",
            "cpuManagerPolicyOptions: not set -> full-pcpus-only=true (SMT)",
            "topologyManagerPolicy: not set -> restricted",
        ],
    ),
    "a turn that has not come": ({}, ["not touched yet"]),
    "would tune": (
        {"outcome": "would_tune", "settings": [POLICY], "exclusive_cpus": 254},
        ["none -> static   exclusive 254"],
    ),
    "rolled back": (
        {"outcome": "rolled_back", "settings": [{**POLICY, "before": "static", "after": "none"}], "downtime_ms": 900},
        ["static -> none   kubelet down 0.9 s"],
    ),
    "uninstalled": (
        {
            "outcome": "uninstalled",
            "settings": [{**POLICY, "before": "static", "after": "none"}],
            "downtime_ms": 900,
            "remaining": [{"code": "version_stays", "text": "kubelet 1.22.17 was 1.21.14."}],
            "archive": "runs/x/journal/gpu-01",
        },
        [
            "static -> none   kubelet down 0.9 s",
            "remains: kubelet 1.22.17 was 1.21.14.",
            "journal: runs/x/journal/gpu-01",
        ],
    ),
    "uninstalled after a rollback": (
        {"outcome": "uninstalled", "settings": []},
        ["settings are as before the first switch"],
    ),
    "records left": (
        {"outcome": "failed", "first_cause": "no room", "records_left": True, "next_step": "Make room."},
        [
            "FAILED   no room",
            "now: the settings are as before the first switch; kubepin's records are still on the node",
            "next: Make room.",
        ],
    ),
    "nothing to uninstall": ({"outcome": "not_installed", "settings": []}, ["nothing of kubepin: nothing to do"]),
    "nothing to roll back": ({"outcome": "not_tuned", "settings": []}, ["no switch to undo: nothing to do"]),
    "refused": (
        {"outcome": "refused", "message": "pod a/b has no controller."},
        ["REFUSED   pod a/b has no controller.", "now: not touched"],
    ),
    "failed": (
        FAILED,
        [
            "FAILED   kubelet does not stay up: unknown CPU Manager Policy option",
            "meaning: this kubelet does not know the option",
            "now: not put back; the node stays cordoned",
            "next: see journalctl -u kubelet, then run the play again",
        ],
    ),
    "undone": (
        {**FAILED, "outcome": "undone", "meaning": None, "cordoned_before": True, "gpu_label": "GPU stand-in"},
        [
            "FAILED   GPU stand-in   kubelet does not stay up: unknown CPU Manager Policy option",
            "now: everything was put back as it was; the node stays cordoned, as it was found",
            "next: see journalctl -u kubelet, then run the play again",
        ],
    ),
    "failed, and nobody knows why": (
        {"outcome": "failed"},
        ["FAILED   the cause is not known", "now: not put back"],
    ),
}


@pytest.mark.parametrize(("result", "lines"), LINES.values(), ids=LINES.keys())
def test_a_node(result: Any, lines: Any) -> None:
    first, *others = lines
    assert run_summary({"n1": result}, 1)[1:] == [f"  n1   {first}", *(f"       {line}" for line in others)]


@pytest.mark.parametrize(
    ("outcomes", "seconds", "header"),
    [
        pytest.param([], 0.4, "kubepin: 0 nodes: 0 failed (0 s)", id="no node"),
        pytest.param(["tuned"], 59.6, "kubepin: 1 node: 1 tuned, 0 failed (1 min 0 s)", id="rounding up to a minute"),
        pytest.param(
            ["failed", "undone", "tuned", "already_tuned"],
            3725,
            "kubepin: 4 nodes: 1 tuned, 1 already tuned, 2 failed (1 of them put back) (1 h 2 min)",
            id="failures",
        ),
        pytest.param(
            ["would_tune", "would_tune", "already_tuned"],
            12,
            "kubepin: 3 nodes: 2 would be tuned (check mode, nothing was changed), 1 already tuned, 0 failed (12 s)",
            id="check mode",
        ),
        pytest.param(
            ["uninstalled", "not_installed"],
            61,
            "kubepin: 2 nodes: 1 uninstalled, 1 without anything of kubepin, 0 failed (1 min 1 s)",
            id="uninstalled",
        ),
        pytest.param(["rolled_back"], 61, "kubepin: 1 node: 1 rolled back, 0 failed (1 min 1 s)", id="rolled back"),
    ],
)
def test_header(outcomes: Any, seconds: float, header: str) -> None:
    results = {f"n{number}": {"outcome": outcome} for number, outcome in enumerate(outcomes)}
    assert run_summary(results, seconds)[0] == header


@pytest.mark.parametrize(
    ("last", "continues", "shown"),
    [
        pytest.param({}, False, ["gpu-2"], id="a node is to come"),
        pytest.param(TUNED, True, ["gpu-2"], id="a measurement is to come"),
        pytest.param(TUNED, False, ["gpu-1", "gpu-2", "gpu-3"], id="the end"),
        pytest.param(FAILED, True, ["gpu-1", "gpu-2", "gpu-3"], id="a failure"),
    ],
)
def test_while_a_run_goes_on_only_what_is_new_is_shown(last: Any, continues: bool, shown: list[str]) -> None:
    results = {"gpu-1": TUNED, "gpu-2": TUNED, "gpu-3": last}
    lines = run_summary(results, 60, ["gpu-2"], continues)
    assert lines[0].startswith("kubepin: 3 nodes: ")
    assert [line.split()[0] for line in lines[1:] if line.startswith("  gpu")] == shown


def test_a_note_stands_once_and_names_its_nodes_if_others_lack_it() -> None:
    noted = {**TUNED, "notes": ["No quota."]}
    rewritten = {"outcome": "already_tuned", "policy": "static", "notes": ["No quota.", "config.yaml is rewritten."]}
    lines = run_summary({"gpu-1": noted, "gpu-2": rewritten, "gpu-3": noted}, 60)
    assert lines[-2:] == ["  note: No quota.", "  note: gpu-2: config.yaml is rewritten."]
    assert "note" not in "".join(lines[:-2])


def test_a_note_that_earlier_nodes_had_is_not_repeated_while_a_run_goes_on() -> None:
    first, second = {**TUNED, "notes": ["No quota."]}, {**TUNED, "notes": ["No quota.", "config.yaml is rewritten."]}
    lines = run_summary({"gpu-1": first, "gpu-2": second, "gpu-3": {}}, 60, ["gpu-2"])
    assert [line for line in lines if "note: " in line] == ["  note: config.yaml is rewritten."]


def test_a_long_note_is_wrapped_and_a_failed_node_has_none() -> None:
    lines = run_summary({"gpu-1": {**TUNED, "notes": ["word " * 40]}, "gpu-2": {**FAILED, "notes": ["other"]}}, 60)
    assert lines[-2].startswith("  note: gpu-1: word word")
    assert lines[-1].startswith("        word")
    assert max(map(len, lines)) < 120
    assert "other" not in "".join(lines)


def test_of_many_nodes_the_same_lines_are_shown_once_and_all_failures_by_name() -> None:
    results: dict[str, dict[str, Any]] = {f"gpu-{number:03d}": {} for number in range(500)}
    results["gpu-007"] = results["gpu-008"] = results["gpu-009"] = results["gpu-010"] = FAILED
    lines = run_summary(results, 60)
    assert lines[0] == "kubepin: 500 nodes: 496 to come, 4 failed (1 min 0 s)"
    assert lines[1:3] == ["  gpu-000, gpu-001, gpu-002 and 493 more", "      not touched yet"]
    assert lines[3] == "  gpu-007, gpu-008, gpu-009, gpu-010"
    assert len(lines) < 12


def test_of_many_refused_nodes_the_same_problem_is_shown_once_with_all_names() -> None:
    refused = {f"gpu-{number:02d}": {"problems": problems("splits core 0"), "blocked": []} for number in range(20)}
    head, *lines = preflight_problems(refused).splitlines()
    assert head == "kubepin: nothing was changed. 20 of 20 nodes cannot be switched as asked:"
    assert " ".join(lines[:-1]).split() == [*(f"{host}," for host in list(refused)[:-1]), "gpu-19"]
    assert lines[-1] == "      splits core 0."
