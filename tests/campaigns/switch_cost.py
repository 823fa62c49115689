# SPDX-License-Identifier: GPL-3.0-or-later
"""Measure what a switch costs: downtime against a bare restart, the playbook for an empty node, and runs with nothing to do.

Nothing else should run on the machine. All hosts of the run with nothing to do are the sandbox's workers under other names.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import statistics
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from scipy import stats

from sandbox.cluster import ready_sandbox
from sandbox.settings import Paths
from tests.campaigns.base import (
    ROOT,
    AnsibleRun,
    CheckFailed,
    add_output_argument,
    add_sandbox_arguments,
    expect,
    markdown_table,
    sandbox_for,
    write_json,
)
from tests.campaigns.worker import RUN_SECONDS, Running, Worker

PAIRS = 10
PLAYBOOK_RUNS = 3
HOSTS = (10, 100)
NODES_PLAY = "Switch the nodes"  # runs batch after batch, the others once for all nodes
# Asked every 20 ms through the same library, as the switch's own measurement does it.
BARE_RESTART = """
import subprocess, time, urllib.request
began = time.monotonic()
subprocess.run(["systemctl", "restart", "kubelet"], check=True)
while True:
    try:
        if urllib.request.urlopen("http://127.0.0.1:10248/healthz", timeout=2).status == 200:
            break
    except OSError:
        pass
    time.sleep(0.02)
print((time.monotonic() - began) * 1000)
"""


@dataclass(frozen=True)
class Ratio:
    """A ratio of paired times: geometric mean and 95 % interval of Student's t on the logarithms."""

    mean: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.mean:.2f} ({self.low:.2f} to {self.high:.2f})"


def paired_ratio(numerators: Sequence[float], denominators: Sequence[float]) -> Ratio:
    """The ratio of two equally long lists of times that were measured in pairs; two pairs at least."""
    logs = [math.log(a / b) for a, b in zip(numerators, denominators, strict=True)]
    mean = statistics.fmean(logs)
    margin = float(stats.t.ppf(0.975, len(logs) - 1)) * statistics.stdev(logs) / math.sqrt(len(logs))
    return Ratio(math.exp(mean), math.exp(mean - margin), math.exp(mean + margin))


def bare_restart(worker: Worker) -> float:
    """Milliseconds from `systemctl restart kubelet` to the first answer of /healthz."""
    return float(worker.node.run("python3", "-c", BARE_RESTART))


def switch(worker: Worker) -> float:
    """Milliseconds of downtime of a switch to the other policy: none to static, or taken back."""
    wanted = {"policy": "static"} if worker.policy() == "none" else {"state": "rolled_back"}
    result = worker.module(**wanted)
    expect(not result.get("failed"), f"the switch fails: {result.get('msg')}")
    return float(result["downtime_ms"])


def downtimes(worker: Worker) -> dict[str, list[float]]:
    """Both, in pairs whose order alternates."""
    times: dict[str, list[float]] = {"switch": [], "restart": []}
    for number in range(PAIRS):
        kinds = ("switch", "restart") if number % 2 else ("restart", "switch")
        for kind in kinds:
            times[kind].append(switch(worker) if kind == "switch" else bare_restart(worker))
        print(
            f"pair {number + 1}/{PAIRS}: switch {times['switch'][-1]:.0f} ms, restart {times['restart'][-1]:.0f} ms",
            flush=True,
        )
    return times


def play(command: Sequence[str], environment: dict[str, str]) -> tuple[float, AnsibleRun]:
    """Seconds of a playbook, and what it reports.

    Raises CheckFailed if it fails.
    """
    started = time.monotonic()
    run = Running(command, environment).end(4 * RUN_SECONDS)
    seconds = time.monotonic() - started
    expect(run.code == 0, f"`{' '.join(command)}` fails: {run.error}")
    return seconds, run


def tasks_of(run: AnsibleRun, host: str) -> list[tuple[str, str, float]]:
    """Play, name and seconds of each task that ran for a host; what was skipped, and inclusions, which do nothing, are left out."""
    return [
        (result.play, result.task, result.seconds)
        for result in run.results
        if result.host == host and not result.values.get("skipped") and not is_inclusion(result.values)
    ]


def is_inclusion(values: Mapping[str, Any]) -> bool:
    """Whether a task only included others."""
    return str(values.get("action", "")).split(".")[-1].startswith("include_")


def whole_playbook(worker: Worker) -> dict[str, Any]:
    """Tune an empty node and take it back, again and again."""
    seconds, tasks = [], []
    for number in range(PLAYBOOK_RUNS):
        worker.reset()
        took, run = play(["ansible-playbook", "tune-gpu-nodes.yml", "--limit", worker.name], worker.environment)
        tasks = tasks_of(run, worker.name)
        seconds.append(took)
        print(f"playbook {number + 1}/{PLAYBOOK_RUNS}: {took:.1f} s, {len(tasks)} tasks", flush=True)
    return {"seconds": seconds, "tasks": tasks}


def many_hosts(workers: Sequence[Worker], count: int) -> dict[str, Any]:
    """An inventory of so many hosts, each one of the workers, with a connection of its own."""
    inventory = json.loads(workers[0].sandbox.files.inventory.read_text())
    variables = inventory["_meta"]["hostvars"]
    hosts = {}
    for number in range(count):
        name = f"host-{number:03d}"
        original = variables[workers[number % len(workers)].name]
        hosts[name] = {**original, "ansible_control_path": f"{tempfile.gettempdir()}/kubepin-cost-{name}"}
    common = {
        key: value for group in ("all", "gpu_nodes") for key, value in inventory.get(group, {}).get("vars", {}).items()
    }
    return {"all": {"vars": common, "children": {"gpu_nodes": {"hosts": hosts}}}}


def nothing_to_do(workers: Sequence[Worker]) -> dict[str, list[float]]:
    """Seconds of a run that finds all hosts as asked, few and many, twice in turn."""
    for worker in workers:
        worker.module(policy="static")
    times: dict[str, list[float]] = {str(count): [] for count in HOSTS}
    with tempfile.TemporaryDirectory() as folder:
        for count in HOSTS * 2:
            site = Path(folder) / str(count)
            (site / "group_vars").mkdir(parents=True, exist_ok=True)
            (site / "hosts.json").write_text(json.dumps(many_hosts(workers, count)))
            common = ROOT / "inventory/sandbox/group_vars/all.yml"
            (site / "group_vars" / "all.yml").write_text(common.read_text())
            took, run = play(["ansible-playbook", "-i", str(site), "tune-gpu-nodes.yml"], workers[0].environment)
            changed = sum(stats_of["changed"] for stats_of in run.stats.values())
            expect(not changed, f"a run that should have nothing to do changed {changed} things")
            times[str(count)].append(took)
            print(
                f"nothing to do, {count} hosts: {took:.1f} s, {len(tasks_of(run, 'host-000'))} tasks a host",
                flush=True,
            )
    return times


def markdown(result: dict[str, Any]) -> str:
    """What was measured, as tables for a page."""
    switch_ms, restart_ms = result["downtime"]["switch"], result["downtime"]["restart"]
    few, many = (result["nothing"][str(count)] for count in HOSTS)
    tasks = sorted(result["playbook"]["tasks"], key=lambda task: -task[-1])
    own = sum(play.startswith(NODES_PLAY) for play, _name, _seconds in tasks)
    rows = [
        (
            f"{title}, {unit}",
            f"{statistics.median(times):.{digits}f}",
            f"{min(times):.{digits}f} to {max(times):.{digits}f}",
        )
        for title, unit, digits, times in (
            ("kubelet's downtime by a switch", "ms", 0, switch_ms),
            ("by `systemctl restart kubelet`", "ms", 0, restart_ms),
            (
                f"whole playbook, one empty node, {len(tasks)} tasks, {own} of them again for each node",
                "s",
                1,
                result["playbook"]["seconds"],
            ),
            (f"nothing to do, {HOSTS[0]} hosts", "s", 1, few),
            (f"nothing to do, {HOSTS[1]} hosts", "s", 1, many),
        )
    ]
    ratios = [
        (f"ratio of {len(switch_ms)} pairs, 95 % interval", str(paired_ratio(switch_ms, restart_ms)), ""),
        (f"ratio, {HOSTS[1]} hosts to {HOSTS[0]}", f"{statistics.median(many) / statistics.median(few):.1f}", ""),
    ]
    return "\n".join(
        (
            markdown_table(("what", "median", "range"), [*rows[:2], ratios[0], *rows[2:], ratios[1]]),
            markdown_table(
                ("play", "task of the whole playbook", "s"),
                [(play, name, f"{seconds:.1f}") for play, name, seconds in tasks],
            ),
        )
    )


PARTS = ("downtime", "playbook", "nothing")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options."""
    add_sandbox_arguments(parser, "switch-cost", version="1.22.17", workers=2)
    add_output_argument(parser, "switch-cost")
    parser.add_argument("parts", nargs="*", metavar="PART", help=f"some of {', '.join(PARTS)}; all of them by default")


def run(options: argparse.Namespace) -> int:
    """Workers of a sandbox that stays are left untuned."""
    parts = options.parts or list(PARTS)
    if unknown := [part for part in parts if part not in PARTS]:
        raise CheckFailed(f"unknown part {', '.join(unknown)}: expected some of {', '.join(PARTS)}")
    file = options.output / "measured.json"
    result: dict[str, Any] = json.loads(file.read_text()) if file.exists() else {}
    with sandbox_for(options) as name, ready_sandbox(Paths.from_environment(), name) as sandbox:
        workers = [Worker(sandbox, node) for node in sandbox.workers]
        for part in parts:
            for worker in workers:
                worker.reset()
            if part == "downtime":
                result[part] = downtimes(workers[0])
            elif part == "playbook":
                result[part] = whole_playbook(workers[0])
            else:
                result[part] = nothing_to_do(workers)
        for worker in workers:
            worker.reset()
    result["load"] = os.getloadavg()
    write_json(file, result)
    if all(part in result for part in PARTS):
        (options.output / "table.md").write_text(markdown(result))
        print(markdown(result))
    return 0
