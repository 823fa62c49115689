# SPDX-License-Identifier: GPL-3.0-or-later
"""The benchmark's plan and facts of a node. Pure: settings and module results in, facts and text out."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from fractions import Fraction
from typing import Any

from ansible_collections.kubepin.tuning.plugins.module_utils.common.orders import balanced_orders
from ansible_collections.kubepin.tuning.plugins.module_utils.common.problem import (
    Problem,
    module_failed,
    problems_of,
    to_dicts,
)
from ansible_collections.kubepin.tuning.plugins.module_utils.common.quantity import parse_quantity
from ansible_collections.kubepin.tuning.plugins.module_utils.common.tenants import shares_node
from ansible_collections.kubepin.tuning.plugins.module_utils.control.benchmark import problems as wording
from ansible_collections.kubepin.tuning.plugins.module_utils.control.benchmark.progress import ANALYSES, MOST_ROUNDS
from ansible_collections.kubepin.tuning.plugins.module_utils.control.run.outcome import Outcome
from ansible_collections.kubepin.tuning.plugins.module_utils.control.run.report import natural_sort
from ansible_collections.kubepin.tuning.plugins.module_utils.control.switch.result import with_problems, with_waived
from ansible_collections.kubepin.tuning.plugins.module_utils.control.words import counted, wrapped

Data = Mapping[str, Any]
GroupRound = tuple[str, int]

SCHEMA = 1
"""Of the plan of a measurement."""
FACT_SCHEMA = 3
"""Of `kubepin_benchmark`: since 2, a pod has several rounds; since 3, problems are objects."""
COMPARISON_SCHEMA = STATISTICS_SCHEMA = 2
"""Of `kubepin_comparison` and `kubepin_benchmarks`: since 2, problems are objects."""
_CONTRAST = frozenset({"fractional", "integer"})
_EXPERIMENTS = (_CONTRAST, frozenset({"none"}))
"""The groups whose arms answer a question by themselves (`benchmark.experiment.Question`)."""
_GAP = "   "


def benchmark_settings_problems(settings: Data) -> list[dict[str, Any]]:
    """Every problem of the variables of role gpu_benchmark, checked without a node, as facts carry problems.

    :param settings: ``image``, ``cpu``, ``fractional_cpu``, ``memory``, ``shm_size``, ``gpus``, ``rounds`` (empty if not
        set), ``precision``, ``budget_minutes``, ``threads``, ``arms``, ``contrast`` (auto, true or false), ``load``,
        ``label``, as the role names them without its prefix
    """
    problems = []

    def fault(name: str, expected: str) -> None:
        problems.append(wording.setting_invalid(name, settings[name], expected))

    if not settings["image"]:
        problems.append(wording.image_missing())
    cpu = _quantity(settings["cpu"])
    if cpu is None or not _is_whole(cpu):
        fault("cpu", "a whole number from 1, because only whole CPUs can be exclusive")
    if settings["contrast"] is True and settings["arms"]:
        problems.append(wording.contrast_with_arms())
    fractional = _quantity(settings["fractional_cpu"])
    if settings["contrast"] and (fractional is None or _is_whole(fractional)):
        fault(
            "fractional_cpu", "a quantity that is not a whole number, such as 12001m, because whole CPUs are exclusive"
        )
    elif settings["contrast"] and not settings["arms"] and fractional and cpu and abs(fractional - cpu) >= 1:
        fault(
            "fractional_cpu",
            f"less than 1 CPU away from gpu_benchmark_cpu ({settings['cpu']}), because comparing pods with different "
            "amounts of CPU says nothing about exclusive CPUs",
        )
    groups = [str(arm.get("group") or "") for arm in settings["arms"]]
    if "" in groups or len(set(groups)) < len(groups):
        fault("arms", "a list of {group, cpu}, each group named once")
    for arm in settings["arms"]:
        if "cpu" in arm and _quantity(arm["cpu"]) is None:
            problems.append(wording.arm_cpu_invalid(arm.get("group"), arm["cpu"]))
    for name, example in (("memory", "30Gi"), ("shm_size", "8Gi")):
        if settings[name] and _quantity(settings[name]) is None:
            fault(name, f"a quantity above 0, such as {example}")
    for name, least in (("gpus", 0), ("rounds", 1)):
        if settings[name] != "" and (not str(settings[name]).isdigit() or int(settings[name]) < least):
            fault(name, f"a whole number from {least}")
    if not 0 < float(settings["precision"]) < 1:
        fault("precision", "a share above 0 and below 1, such as 0.1")
    if float(settings["budget_minutes"]) < 0:
        fault("budget_minutes", "minutes, or 0 for no limit")
    threads = [str(one) for one in settings["threads"]]
    if not threads or any(one not in ("auto", "cpus") and not (one.isdigit() and int(one) > 0) for one in threads):
        fault("threads", "a list of auto, cpus, or numbers from 1")
    return to_dicts(problems)


def _quantity(text: object) -> Fraction | None:
    """The quantity; None if it is invalid or not above 0."""
    try:
        value = parse_quantity(str(text))
    except ValueError:
        return None
    return value if value > 0 else None


def _is_whole(value: Fraction) -> bool:
    return value.denominator == 1


def benchmark_plan(settings: Data, api: Data, begun: Data, folder: str) -> dict[str, Any]:
    """What to measure on a node, and the problems that prevent it.

    :param settings: as for `benchmark_settings_problems`, and ``run``, the name of the run
    :param api: the result of node_api_info, failed or not
    :param begun: what `record` saved of a measurement that was started in *folder*; empty without one
    :param folder: where the timings go
    """
    node: Data = api.get("node") or {}
    policy = (node.get("configz") or {}).get("cpuManagerPolicy")
    measured_policy = begun.get("policy") or policy
    problems = []
    if not node:
        problems += problems_of(api)
    elif policy is None:
        problems.append(wording.policy_unknown(node["name"], str(node.get("configz_error"))))
    elif settings["contrast"] is True and measured_policy != "static":
        problems.append(wording.contrast_without_static(node["name"], policy))
    arms = [] if problems else _arms(settings, str(measured_policy))
    if begun and not problems and begun["arms"] != arms:
        problems.append(wording.other_arms(folder, _named(begun["arms"]), _named(arms)))
    run_id = f"{settings['run']}-{node.get('name')}-{settings['label']}"
    groups = frozenset(arm["group"] for arm in arms)
    rounds = int(settings["rounds"] or (MOST_ROUNDS if groups == _CONTRAST else ANALYSES[0]))
    return {
        "schema": SCHEMA,
        "node": node.get("name"),
        "run": settings["run"],
        "run_id": run_id,
        "label": settings["label"],
        "folder": folder,
        "policy": measured_policy,
        "policy_now": policy,
        "kubelet": node.get("kubelet_version"),
        "arms": arms,
        "experiment": groups in _EXPERIMENTS,
        "limits": {
            "rounds": rounds,
            "precision": float(settings["precision"]),
            "budget_minutes": float(settings["budget_minutes"]) or None,
            "analyses": groups == _CONTRAST,
        },
        "groups": [] if problems else _groups(settings, arms, str(measured_policy), rounds),
        "order": [] if problems else _order(arms, rounds, run_id),
        "one_round_per_pod": len(groups) > 1 or shares_node(settings["load"]),
        "problems": to_dicts(problems),
    }


def _arms(settings: Data, policy: str) -> list[dict[str, str]]:
    """The contrast, which is also the default where the policy is static; else the arms asked for, or one for the policy."""
    if settings["contrast"] is True or (settings["contrast"] == "auto" and policy == "static" and not settings["arms"]):
        return [
            {"group": "integer", "cpu": str(settings["cpu"])},
            {"group": "fractional", "cpu": str(settings["fractional_cpu"])},
        ]
    asked = settings["arms"] or [{"group": policy}]
    return [{"group": str(arm["group"]), "cpu": str(arm.get("cpu") or settings["cpu"])} for arm in asked]


def _named(arms: Sequence[Data]) -> str:
    return ", ".join(f"{arm['group']} (cpu {arm['cpu']})" for arm in arms)


def _groups(settings: Data, arms: Sequence[Data], policy: str, rounds: int) -> list[dict[str, Any]]:
    """Each group with all rounds that may be measured."""
    numbers = list(range(1, rounds + 1))
    return [{**arm, "threads": _threads(settings, arm, policy), "rounds": numbers} for arm in arms]


def _order(arms: Sequence[Data], rounds: int, run_id: str) -> list[list[Any]]:
    """Each round of each group as ``[group, round]``, in the order of the measurement."""
    return [
        [arms[index]["group"], number]
        for number, order in enumerate(balanced_orders(len(arms), rounds, run_id), start=1)
        for index in order
    ]


def _threads(settings: Data, arm: Data, policy: str) -> list[str]:
    """The thread settings of an arm. With exclusive CPUs, PyTorch finds as many CPUs as the pod has, so auto would be the
    same as cpus once more: it is measured there only if no number is asked for."""
    asked = [str(one) for one in settings["threads"]]
    cpu = _quantity(arm["cpu"])
    exclusive = policy == "static" and cpu is not None and _is_whole(cpu)
    return [one for one in asked if one != "auto"] or asked if exclusive else asked


def benchmark_todo(plan: Data, looked_at: Sequence[Data], ran: Sequence[Data], measurement: Data) -> dict[str, Any]:
    """The pods that are to run next, the number of rounds that are complete, and the problems that prevent running pods.

    Rounds of a single group share a pod. The first pod of all that run warms the node: its first
    process is not counted.

    :param looked_at: the results of benchmark_pod in check mode for the plan's groups, up to the first that failed
    :param ran: the results of the pods that were run; after a failure no other is
    :param measurement: the fact `kubepin_measurement`; empty to look at all rounds
    """
    problems = _distinct(_refusal(result) for result in looked_at if _failed(result))
    complete = _complete_rounds([*looked_at, *ran])
    target = measurement["next_rounds"] or 0 if measurement else plan["limits"]["rounds"]
    asked = _up_to(plan, target)
    pods = _pods(plan, [one for one in asked if one not in complete])
    if pods and plan["policy"] != plan["policy_now"]:
        lacking_now = len(set(asked) - complete)
        problems.append(
            wording.other_policy(
                plan["folder"], plan["node"], plan["policy"], plan["policy_now"], lacking_now, len(asked)
            )
        )
    if pods and not ran:
        pods[0]["warm_up"] = True
    lacking = [number for group, number in _up_to(plan, plan["limits"]["rounds"]) if (group, number) not in complete]
    return {
        "pods": [] if problems or any(map(_failed, ran)) else pods,
        "rounds": min(lacking, default=plan["limits"]["rounds"] + 1) - 1 if plan["order"] else 0,
        "problems": to_dicts(problems),
    }


def _refusal(result: Data) -> Problem:
    """Why a pod would not be run."""
    code = (result.get("benchmark") or {}).get("failure_code")
    return wording.pod_refused(code, str(result["msg"])) if code else module_failed(str(result["msg"]))


def _up_to(plan: Data, target: int) -> list[GroupRound]:
    """Each round of each group up to round *target*, in order."""
    return [(group, number) for group, number in plan["order"] if number <= target]


def _pods(plan: Data, lacking: Sequence[GroupRound]) -> list[dict[str, Any]]:
    """The pods that measure the rounds in the order given. Those of a single group that has its node alone share a pod.

    Otherwise neighbouring rounds would share what their pod got by chance, and intervals would be too narrow.
    """
    groups = {group["group"]: group for group in plan["groups"]}
    pods: list[dict[str, Any]] = []
    for name, number in lacking:
        if pods and pods[-1]["group"] == name and not plan["one_round_per_pod"]:
            pods[-1]["rounds"].append(number)
        else:
            pods.append({**groups[name], "rounds": [number], "warm_up": False})
    return pods


def _complete_rounds(results: Sequence[Data]) -> set[GroupRound]:
    pods = [result["benchmark"] for result in results if "benchmark" in result]
    return {(pod["arm"], one["round"]) for pod in pods for one in pod["rounds"] if one["complete"]}


def _failed(result: Data) -> bool:
    return bool((result.get("benchmark") or {}).get("failure")) or "benchmark" not in result


def benchmark_fact(
    before: Data,
    plan: Data,
    measurement: Data,
    looked_at: Sequence[Data],
    ran: Sequence[Data],
    timings: Data,
    failed_tasks: Sequence[Data],
    problems: Sequence[Data],
) -> dict[str, Any]:
    """The fact `kubepin_benchmark` of a node after a measurement.

    :param before: the previous fact; other measurements of the same run are kept
    :param measurement: the fact `kubepin_measurement`
    :param looked_at: the results of benchmark_pod in check mode
    :param ran: the results of the pods that were run
    :param timings: the result of module benchmark_timings_info, skipped without timings
    :param failed_tasks: ``task`` and ``msg`` of each task that failed before or after the pods, as filter failure_fact returns
    :param problems: of `benchmark_todo`
    """
    target = measurement["next_rounds"] or measurement["rounds"]
    asked = set(_up_to(plan, target))
    complete = _complete_rounds([*looked_at, *ran])
    earlier = [result["benchmark"] for result in looked_at if _complete_rounds([result])]
    pods = [result["benchmark"] for result in ran if "benchmark" in result]
    own = _distinct(
        [
            *map(Problem.from_dict, plan["problems"]),
            *(wording.task_failed(failed["task"], failed["msg"]) for failed in failed_tasks),
            *map(Problem.from_dict, problems),
            *_reasons_without("summary", timings),
            *(
                wording.pod_failed(pod["failure_code"], pod["arm"], _failed_in(pod), pod["failure"])
                for pod in pods
                if pod["failure"]
            ),
            *(
                module_failed(str(result.get("msg")))
                for result in ran
                if "benchmark" not in result and not result.get("skipped")
            ),
            *(wording.pod_left_behind(str(result["left_behind"])) for result in ran if result.get("left_behind")),
        ]
    )
    arms = timings.get("summary", {}).get("arms") or {}
    same = (before.get("schema"), before.get("run")) == (FACT_SCHEMA, plan["run"])
    runs = dict(before.get("runs") or {}) if same else {}
    runs[plan["label"]] = {
        "run_id": plan["run_id"],
        "policy": plan["policy"],
        "kubelet": plan["kubelet"],
        "folder": plan["folder"],
        "complete": bool(asked) and asked <= complete and measurement["next_rounds"] is None,
        "pods": [*earlier, *pods],
        "arms": arms,
        "experiment": plan["experiment"] and len(arms) > 1,
        "main_arms": _main_arms(plan["arms"], list(arms)),
        "problems": to_dicts(own),
    }
    return {
        "schema": FACT_SCHEMA,
        "node": plan["node"],
        "run": plan["run"],
        "outcome": _outcome(runs).value,
        "runs": runs,
        "problems": [
            wording.labelled(label, Problem.from_dict(problem)).to_dict()
            for label, run in runs.items()
            for problem in run["problems"]
        ],
    }


def _distinct(problems: Iterable[Problem]) -> list[Problem]:
    """Each problem once, in order."""
    return list(dict.fromkeys(problems))


def _failed_in(pod: Data) -> str:
    """The round that a pod did not finish."""
    return next((f"round {one['round']}" for one in pod["rounds"] if not one["complete"]), "after its last round")


def _outcome(runs: Mapping[str, Data]) -> Outcome:
    if all(run["complete"] for run in runs.values()):
        return Outcome.MEASURED
    begun = any(one["complete"] for run in runs.values() for pod in run["pods"] for one in pod["rounds"])
    return Outcome.PARTLY_MEASURED if begun else Outcome.NOT_BEGUN


def with_measurement(plan: Data, benchmark: Data, label: str, accept: bool) -> dict[str, Any]:
    """The fact `kubepin_plan`, with a problem if the node would be switched and the measurement before is not complete.

    After the switch it could not be made up for: the old policy is gone.

    :param benchmark: the fact `kubepin_benchmark`
    :param label: of the measurement before the switch
    :param accept: whether to switch the node anyway, with a note
    """
    run: Data = benchmark["runs"][label]
    if not plan["changed"] or run["complete"]:
        return dict(plan)
    problem = wording.not_measured_before([cause["text"] for cause in run["problems"]], benchmark["run"])
    return with_waived(plan, problem) if accept else with_problems(plan, [problem])


def _main_arms(asked: Sequence[Data], measured: Sequence[str]) -> dict[str, str]:
    """For each group, the measured arm to compare: the one with torch's default number of threads, else the first."""
    chosen = {}
    for group in (arm["group"] for arm in asked):
        arms = [name for name in measured if name.rpartition("-")[0] == group]
        if arms:
            chosen[group] = f"{group}-auto" if f"{group}-auto" in arms else arms[0]
    return chosen


def comparison_sources(side_a: Data, side_b: Data, facts: Mapping[str, Data]) -> dict[str, Any]:
    """The two inputs of module benchmark_report, or why there are none.

    :param side_a: ``host``, ``run`` (a label) and, where several arms were measured, ``group``
    :param facts: host name -> its ``kubepin_benchmark``, empty for a host that was not measured
    """
    sources: dict[str, Any] = {}
    problems = []
    for name, side in (("a", side_a), ("b", side_b)):
        run = ((facts.get(side["host"]) or {}).get("runs") or {}).get(side["run"]) or {}
        arms: Data = run.get("main_arms") or {}
        group = side.get("group") or next(iter(arms), "")
        if group in arms:
            sources[name] = f"{run['folder']}@{arms[group]}"
        else:
            problems.append(wording.no_timings(side["run"], side["host"], group))
    return {**sources, "problems": to_dicts(problems)}


def comparison_fact(sources: Data, reported: Data, folder: str) -> dict[str, Any]:
    """The fact `kubepin_comparison`.

    :param sources: of `comparison_sources`, or ``source``, the folder of an experiment, and no ``problems``
    :param reported: the result of module benchmark_report, skipped without sources
    :param folder: where the module writes
    """
    report: Data = reported.get("report") or {}
    return {
        "schema": COMPARISON_SCHEMA,
        "source": sources.get("source"),
        "a": sources.get("a"),
        "b": sources.get("b"),
        "verdict": report.get("verdict"),
        "recommendation": report.get("recommendation"),
        "lead": report.get("lead"),
        "answers": report.get("answers") or [],
        "gpu_hours_gained": report.get("gpu_hours_gained"),
        "line": report.get("line") or report.get("sentence"),
        "report": f"{folder}/report.html" if report else None,
        "problems": [*sources["problems"], *to_dicts(_reasons_without("report", reported))],
    }


def _reasons_without(value: str, result: Data) -> list[Problem]:
    """Why the result of a module lacks a value; nothing if it is there, or if the task was skipped."""
    return [] if value in result or result.get("skipped") else problems_of(result)


def benchmark_statistics(fact: Data) -> dict[str, Any]:
    """The part of `kubepin_benchmark` that a workflow publishes: the problems, and the mean of each cell in ms."""
    return {
        "schema": STATISTICS_SCHEMA,
        "node": fact["node"],
        "run": fact["run"],
        "problems": fact["problems"],
        "means_ms": {
            label: {
                arm: {_cell(cell): cell["mean_ms"] for cell in values["cells"] if cell.get("mean_ms") is not None}
                for arm, values in run["arms"].items()
            }
            for label, run in fact["runs"].items()
        },
    }


def _cell(cell: Data) -> str:
    return f"{cell['model']} {cell['precision']} {cell['mode']} {cell['batch']}"


def benchmark_summary(facts: Mapping[str, Data], comparisons: Mapping[str, Data]) -> list[str]:
    """The summary of a run: what to do on each node, what was measured, and what could not be measured.

    :param facts: host name -> its ``kubepin_benchmark``, empty for a host that was not measured
    :param comparisons: host name -> its ``kubepin_comparison``, empty for one without
    """
    measured = [host for host in natural_sort(facts) if facts[host]]
    if not measured:
        return []
    failed = [host for host in measured if facts[host]["problems"] or (comparisons.get(host) or {}).get("problems")]
    lines = [
        f"benchmark: {counted(len(measured), 'node')}: {len(measured) - len(failed)} measured, {len(failed)} with problems"
    ]
    lines += [f"  {line}" for line in _nodes_table(measured, comparisons)]
    width = max(map(len, measured))
    for host in measured:
        host_lines = _host_lines(facts[host], comparisons.get(host) or {})
        lines += [f"  {host if not number else '':<{width}}{_GAP}{line}" for number, line in enumerate(host_lines)]
    return lines


def _nodes_table(hosts: Sequence[str], comparisons: Mapping[str, Data]) -> list[str]:
    """What to do on each node and how many times as fast it makes each contrast, and on which nodes the advice differs;
    empty below two nodes.
    """
    advised = {host: comparisons[host] for host in hosts if (comparisons.get(host) or {}).get("lead")}
    if len(advised) < 2:
        return []
    names = list(dict.fromkeys(answer["name"] for found in advised.values() for answer in found["answers"]))
    rows = [["node", "what to do", *names, "GPU-hours a day"]]
    for host, found in advised.items():
        answers = {answer["name"]: answer for answer in reversed(found["answers"])}
        hours = found["gpu_hours_gained"]
        gained = "-" if hours is None else f"{hours:.1f}"
        rows.append([host, found["lead"], *(_times(answers.get(name)) for name in names), gained])
    widths = [max(map(len, column)) for column in zip(*rows)]
    table = [_GAP.join(f"{text:<{width}}" for text, width in zip(row, widths)).rstrip() for row in rows]
    return [*table, _agreement({host: found["lead"] for host, found in advised.items()})]


def _times(answer: Data | None) -> str:
    """Such as "2.31 [2.16, 2.47]"; a dash if it was not measured."""
    if answer is None or answer["ratio"] is None:
        return "-"
    interval = "" if answer["low"] is None else f" [{answer['low']:.2f}, {answer['high']:.2f}]"
    return f"{answer['ratio']:.2f}{interval}"


def _agreement(leads: Mapping[str, str]) -> str:
    """Whether the advice is the same on all nodes; else the nodes of each advice, the most frequent one first."""
    nodes: dict[str, list[str]] = {}
    for host, lead in leads.items():
        nodes.setdefault(lead, []).append(host)
    if len(nodes) == 1:
        return "The advice is the same on all nodes."
    ordered = sorted(nodes.items(), key=lambda entry: -len(entry[1]))
    return f"The advice differs: {'; '.join(f'{lead}: {_listed(hosts)}' for lead, hosts in ordered)}."


def _listed(hosts: Sequence[str]) -> str:
    return ", ".join(hosts)


def _host_lines(fact: Data, comparison: Data) -> list[str]:
    lines = []
    if comparison.get("line"):
        lines += [*wrapped("", comparison["line"]), f"report: {comparison['report']}"]
    for label, run in fact["runs"].items():
        if run["arms"]:
            found = [(arm, run["arms"][arm]) for arm in natural_sort(run["arms"])]
            arms = "; ".join(f"{own.get('shown_name', arm)}: {counted(own['rounds'], 'round')}" for arm, own in found)
            lines.append(f"{label}: policy {run['policy']}: {arms}; {run['folder']}")
    lines += [f"PROBLEM {problem['text']}" for problem in (*fact["problems"], *(comparison.get("problems") or ()))]
    return lines or ["nothing was measured"]
