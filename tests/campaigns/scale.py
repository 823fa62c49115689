# SPDX-License-Identifier: GPL-3.0-or-later
"""Measure what `kubepin tune` costs over simulated hosts with nothing to do, beside a bare ping; and with a dead and a slow host.

The baseline is `ansible -m ping` of the same hosts, with the same forks and pipelining; every run opens connections of
its own. The API server and its nodes are real; the hosts are simulated: names of the sandbox's workers, each with a connection of its
own. Modules run on the workers, on this machine, so that their time is in the run's time; CPU time is counted separately. A dead host is an
address that accepts connections and says nothing; a slow one has a Python that sleeps before it begins.
"""

from __future__ import annotations

import argparse
import json
import os
import socket
import subprocess
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

from orchestrator.model import EXIT_CODES, RunVerdict
from sandbox.cluster import ready_sandbox
from sandbox.settings import Paths
from tests.campaigns.base import (
    ROOT,
    add_output_argument,
    add_sandbox_arguments,
    expect,
    markdown_table,
    sandbox_for,
    write_json,
)
from tests.campaigns.switch_cost import many_hosts
from tests.campaigns.worker import Worker

COUNTS = (10, 100, 500)
FEW, FEW_FORKS = 10, 5
SOCKETS = ".sockets"
SSH_TIMEOUT = 10
NODE_TIMEOUT = 120
"""The role's default. The simulated hosts share the control node's CPUs: with 500 of them, some plans take over 30 s."""
SLOW_NODE_TIMEOUT = 30
SLOW_PYTHON = "/opt/slow-python"
SLOW_SECONDS = 120
POLL_SECONDS = 1.0  # looking at the memory of all processes costs some 100 ms of CPU itself
ANSIBLE = (b"ansible-playbook", b"ansible")
CLOCK_TICKS = os.sysconf("SC_CLK_TCK")
DONE, REFUSED = EXIT_CODES[RunVerdict.DONE], EXIT_CODES[RunVerdict.REFUSED]


@dataclass
class Cost:
    """One run as the control node saw it; memory is PSS, in MiB, so that shared pages count once."""

    title: str
    hosts: int
    forks: int
    exit_code: int
    seconds: float = 0.0
    control_cpu_s: float = 0.0
    """CPU seconds of the run's processes on the control node."""
    hosts_cpu_s: float = 0.0
    """CPU seconds of all that came through SSH, on the workers."""
    conductor_mib: float = 0.0
    """Greatest memory of the orchestrator's own process."""
    playbook_mib: float = 0.0
    """Greatest memory of Ansible's main process."""
    all_mib: float = 0.0
    """Greatest memory of all processes of the run at one time."""
    workers: int = 0
    """Most of Ansible's worker processes at one time."""
    lines: int = 0
    """Lines on the terminal."""
    longest_line: int = 0


def children_of(pid: int) -> list[int]:
    with suppress(OSError):
        return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    return []


def family(pid: int) -> Iterator[tuple[int, int]]:
    """Process and parent of all that descends from *pid*."""
    for child in children_of(pid):
        yield child, pid
        yield from family(child)


def memory_mib(pid: int) -> float:
    """Proportional set size; 0 of a process that is gone."""
    with suppress(OSError):
        for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
            if line.startswith("Pss:"):
                return int(line.split()[1]) / 1024
    return 0.0


def is_playbook(pid: int) -> bool:
    with suppress(OSError):
        words = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
        return any(os.path.basename(word) in ANSIBLE for word in words[:2])
    return False


class Watch:
    """Samples a run's processes until it ends; works for `kubepin` and for a bare ansible-playbook."""

    def __init__(self, cost: Cost, pid: int) -> None:
        self._cost = cost
        self._pid = pid
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> None:
        self._thread.start()

    def __exit__(self, *_exc: object) -> None:
        self._done.set()
        self._thread.join()

    def _run(self) -> None:
        cost = self._cost
        while not self._done.wait(POLL_SECONDS):
            parents = dict(family(self._pid))
            playbooks = {pid for pid in [self._pid, *parents] if is_playbook(pid)}
            mains = {pid for pid in playbooks if parents.get(pid) not in playbooks}
            sizes = {pid: memory_mib(pid) for pid in [self._pid, *parents]}
            cost.workers = max(cost.workers, sum(parents.get(pid) in mains for pid in playbooks))
            cost.conductor_mib = max(cost.conductor_mib, sizes[self._pid])
            cost.playbook_mib = max([cost.playbook_mib, *(sizes[pid] for pid in mains)])
            cost.all_mib = max(cost.all_mib, sum(sizes.values()))


def tune(site: Path, timeout: int = NODE_TIMEOUT) -> list[str]:
    """The run that is measured."""
    variables = {"cpu_manager_timeout": timeout, "cpu_manager_probe_seconds": 15}
    return ["bin/kubepin", "tune", "-i", str(site), "--plain", "--no-color", "-e", json.dumps(variables)]


def ping(site: Path) -> list[str]:
    """The baseline: one module on each host, and nothing else."""
    return ["ansible", "-i", str(site), "gpu_nodes", "-m", "ping"]


def through_ssh(workers: Sequence[Worker]) -> float:
    """CPU seconds that the workers' SSH sessions have taken so far, those that have ended (proc(5), cutime and cstime)."""
    texts = [worker.shell("cat /proc/$(cat /run/sshd.pid)/stat") for worker in workers]
    return sum(int(field) for text in texts for field in text.rpartition(")")[2].split()[13:15]) / CLOCK_TICKS


def close_connections(site: Path) -> None:
    """End the SSH sessions that Ansible keeps open for the next run."""
    for socket_file in site.glob(f"{SOCKETS}/*"):
        subprocess.run(
            ["ssh", "-O", "exit", "-o", f"ControlPath={socket_file}", "host"], capture_output=True, check=False
        )


class ScaleBenchmark:
    """Runs commands against simulated hosts and watches them."""

    def __init__(self, workers: Sequence[Worker], forks: int) -> None:
        self._workers = workers
        self._forks = forks
        self.costs: list[Cost] = []

    def measure(
        self, title: str, site: Path, command: list[str], expected: int = DONE, forks: int | None = None
    ) -> Cost:
        """Run the command to its end.

        Raises CheckFailed if it does not end with the expected exit code.
        """
        hosts = json.loads((site / "hosts.json").read_text())["all"]["children"]["gpu_nodes"]["hosts"]
        cost = Cost(title, len(hosts), forks or self._forks, 0)
        environment = {
            **os.environ,
            **self._workers[0].environment,
            "ANSIBLE_FORKS": str(cost.forks),
            "ANSIBLE_TIMEOUT": str(SSH_TIMEOUT),
        }
        before = through_ssh(self._workers)
        started = time.monotonic()
        with tempfile.TemporaryFile("w+") as output:
            process = subprocess.Popen(
                command, cwd=ROOT, env=environment, stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT
            )
            with Watch(cost, process.pid):
                _pid, status, used = os.wait4(process.pid, 0)
            cost.seconds = time.monotonic() - started
            output.seek(0)
            lines = output.read().splitlines()
        close_connections(site)
        cost.exit_code = process.returncode = os.waitstatus_to_exitcode(status)
        cost.control_cpu_s = used.ru_utime + used.ru_stime
        cost.hosts_cpu_s = through_ssh(self._workers) - before
        cost.lines, cost.longest_line = len(lines), max(map(len, lines), default=0)
        print(
            f"{title}: {cost.seconds:.1f} s, CPU {cost.control_cpu_s:.1f} s here and {cost.hosts_cpu_s:.1f} s on the hosts, "
            f"{cost.all_mib:.0f} MiB, {cost.workers} workers, exit code {cost.exit_code}",
            flush=True,
        )
        end = "\n".join(lines[-20:])
        expect(cost.exit_code == expected, f"{title}: exit code {cost.exit_code}, expected {expected}: {end}")
        self.costs.append(cost)
        return cost


def write_site(folder: Path, inventory: dict[str, Any]) -> Path:
    """An inventory folder with the sandbox's own settings, and a place for the hosts' connections."""
    (folder / "group_vars").mkdir(parents=True)
    (folder / SOCKETS).mkdir()
    for name, variables in inventory["all"]["children"]["gpu_nodes"]["hosts"].items():
        variables["ansible_control_path"] = str(folder / SOCKETS / name)
    (folder / "hosts.json").write_text(json.dumps(inventory))
    (folder / "group_vars/all.yml").write_text((ROOT / "inventory/sandbox/group_vars/all.yml").read_text())
    return folder


@contextmanager
def silent_address() -> Iterator[int]:
    """A port of 127.0.0.1 that accepts connections and says nothing."""
    with socket.create_server(("127.0.0.1", 0), backlog=128) as server:
        yield server.getsockname()[1]


def with_one_more(inventory: dict[str, Any], name: str, changes: dict[str, Any]) -> dict[str, Any]:
    """The inventory with one host more, which is like the first but for *changes*."""
    group = inventory["all"]["children"]["gpu_nodes"]
    first = next(iter(group["hosts"].values()))
    hosts = {**group["hosts"], name: {**first, **changes}}
    return {"all": {**inventory["all"], "children": {"gpu_nodes": {"hosts": hosts}}}}


def measure_all(workers: Sequence[Worker], counts: Sequence[int], forks: int) -> list[Cost]:
    """Growth beside the yardsticks, forks, and what a dead and a slow host cost the others."""
    bench = ScaleBenchmark(workers, forks)
    with tempfile.TemporaryDirectory(prefix="kp-") as folder, silent_address() as port:
        sites = Path(folder)
        few = many_hosts(workers, FEW)
        site = write_site(sites / "few", few)
        for command in (ping(site), tune(site)):
            bench.measure(f"warm-up: {Path(command[0]).name}", site, command)
        bench.costs.clear()
        for count in counts:
            many = write_site(sites / str(count), many_hosts(workers, count))
            bench.measure(f"{count} hosts: ping", many, ping(many))
            bench.measure(f"{count} hosts", many, tune(many))
        bench.measure(f"{FEW} hosts, {FEW_FORKS} forks", site, tune(site), forks=FEW_FORKS)
        dead = {"ansible_host": "127.0.0.1", "ansible_port": port}
        site = write_site(sites / "dead", with_one_more(few, "dead", dead))
        bench.measure(f"{FEW} hosts and a dead one", site, tune(site), REFUSED)
        workers[0].node.write(SLOW_PYTHON, f'#!/bin/sh\nsleep {SLOW_SECONDS}\nexec python3 "$@"\n')
        workers[0].shell(f"chmod +x {SLOW_PYTHON}")
        slow = {"ansible_python_interpreter": SLOW_PYTHON}
        site = write_site(sites / "slow", with_one_more(few, "slow", slow))
        bench.measure(f"{FEW} hosts and a slow one", site, tune(site, SLOW_NODE_TIMEOUT), REFUSED)
        workers[0].shell(f"rm {SLOW_PYTHON}")
    return bench.costs


def growth(costs: Sequence[Cost], name: str) -> list[float]:
    """What one host more costs, between each run and the next larger one."""
    return [
        (getattr(larger, name) - getattr(smaller, name)) / (larger.hosts - smaller.hosts)
        for smaller, larger in pairwise(costs)
    ]


def ratio(cost: Cost, costs: Sequence[Cost]) -> str:
    """The run's time over that of the ping of the same hosts; empty where that was not measured."""
    ping = next((each for each in costs if each.title == f"{cost.title}: ping"), None)
    return f"{cost.seconds / ping.seconds:.2f}" if ping else ""


HEADINGS = (
    *(
        "run",
        "s",
        "of ping",
        "CPU here, s",
        "CPU on the hosts, s",
        "all processes, MiB",
        "Ansible, MiB",
        "kubepin, MiB",
    ),
    *("workers / forks", "lines (longest)", "exit code"),
)


def markdown(costs: Sequence[Cost], counts: Sequence[int]) -> str:
    """What was measured, as tables for a page."""
    runs = [
        (
            *(c.title, f"{c.seconds:.1f}", ratio(c, costs), f"{c.control_cpu_s:.1f}", f"{c.hosts_cpu_s:.1f}"),
            *(f"{c.all_mib:.0f}", f"{c.playbook_mib:.0f}", f"{c.conductor_mib:.0f}", f"{c.workers} / {c.forks}"),
            *(f"{c.lines} ({c.longest_line})", c.exit_code),
        )
        for c in costs
    ]
    grown = [cost for count in counts for cost in costs if cost.title == f"{count} hosts"]
    rates = [
        (unit, ", then ".join(f"{value:.2f}" for value in growth(grown, name)))
        for name, unit in (
            ("seconds", "s"),
            ("control_cpu_s", "s of CPU here"),
            ("hosts_cpu_s", "s of CPU on the host"),
            ("all_mib", "MiB, all processes"),
            ("playbook_mib", "MiB, ansible-playbook"),
            ("conductor_mib", "MiB, kubepin"),
        )
    ]
    return "\n".join(
        (
            markdown_table(HEADINGS, runs, numeric=True),
            markdown_table((f"one host more, between {', '.join(map(str, counts))} hosts", ""), rates),
        )
    )


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options."""
    add_sandbox_arguments(parser, "scale", version="1.36.3", workers=2)
    add_output_argument(parser, "scale")
    parser.add_argument(
        "--hosts", default=",".join(map(str, COUNTS)), help="how many hosts, ascending (default: %(default)s)"
    )
    parser.add_argument("--forks", type=int, default=20)


def run(options: argparse.Namespace) -> int:
    """Workers of a sandbox that stays are tuned, and left untuned."""
    counts = [int(count) for count in options.hosts.split(",")]
    with sandbox_for(options) as name, ready_sandbox(Paths.from_environment(), name) as sandbox:
        workers = [Worker(sandbox, node) for node in sandbox.workers]
        for worker in workers:
            worker.module(policy="static")
        costs = measure_all(workers, counts, options.forks)
        for worker in workers:
            worker.reset()
    write_json(options.output / "measured.json", [asdict(cost) for cost in costs])
    (options.output / "table.md").write_text(markdown(costs, counts))
    print(markdown(costs, counts))
    return 0
