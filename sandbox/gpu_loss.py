# SPDX-License-Identifier: GPL-3.0-or-later
"""Takes GPUs from running pods for real: «Failed to initialize NVML: Unknown Error», by kubelet, policy and runc.

`measure` works on a sandbox that exists, `hold` leaves pods there for a diagnosis, `table` shows what all measurements
found. The GPU is a stand-in: a device that the legacy hook granted, opened once a second by the pod itself. «Operation
not permitted» is the loss.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from sandbox import legacy_gpu
from sandbox.cluster import Sandbox, node_ready, ready_sandbox
from sandbox.locks import lock
from sandbox.nodes import Node
from sandbox.progress import Durations, run_steps
from sandbox.settings import GPU_DEVICE, TEST_IMAGE, Paths, SandboxError
from sandbox.shell import CommandFailed, wait_for

POLICIES = ("none", "static")
RESERVED = "0"
# The kubelet looks at its containers every 10 s; twice that, and some for its own start.
WATCH_SECONDS = 25
START_SECONDS = 90
DEVICE_RULE = "c 10:229 rw"

QUIET, AGAIN = "nothing", "nothing more, granted again"
NEIGHBOUR, RESTART = "a pod with whole CPUs starts", "kubelet restarts"
EVENTS = (QUIET, AGAIN, NEIGHBOUR, RESTART)
SHARED, WHOLE = "shared", "whole"
PODS = {SHARED: "no CPU requested", WHOLE: "Guaranteed, 1 CPU"}

# One line `SECONDS WORD` at each change, so that the log says when the device went, whenever it is read.
OPEN_FOR_EVER = f"""
before=
while :; do
  if (exec 3<>{GPU_DEVICE}) 2>/tmp/error; then now=open
  elif grep -q 'not permitted' /tmp/error; then now=refused
  else now=$(tr ' ' _ < /tmp/error); fi
  [ "$now" = "$before" ] || echo "$(date +%s) $now"
  before=$now
  sleep 1
done
"""


@dataclass(frozen=True)
class Row:
    """One container through one event. `seconds` is the time from the event to the loss."""

    kubelet: str
    policy: str
    runc: str
    pod: str
    event: str
    lost: bool
    seconds: int | None


def manifest(name: str, node: str, runtime: str, kind: str) -> dict[str, Any]:
    """A pod that the hook grants the device."""
    limits = {"memory": "64Mi"} | ({"cpu": "1"} if kind == WHOLE else {})
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "namespace": "default"},
        "spec": {
            "nodeName": node,
            "runtimeClassName": runtime,
            "terminationGracePeriodSeconds": 0,
            "containers": [
                {
                    "name": "main",
                    "image": TEST_IMAGE,
                    "imagePullPolicy": "Never",
                    "env": [{"name": "NVIDIA_VISIBLE_DEVICES", "value": "0"}],
                    "command": ["sh", "-c", OPEN_FOR_EVER],
                    "resources": {"limits": limits},
                }
            ],
        },
    }


def loss(log: str, since: int) -> int | None:
    """Seconds from `since` to the first refusal after it; None where the device still opens.

    Raises SandboxError for anything but «open» and «refused»: then the stand-in itself is broken.
    """
    refused = None
    for line in log.splitlines():
        second, word = line.split(" ", 1)
        if word not in ("open", "refused"):
            raise SandboxError(f"{GPU_DEVICE} answers «{word}» in the pod: expected that it opens or is not permitted")
        if word == "refused" and refused is None and int(second) >= since:
            refused = int(second) - since
    return refused


class Laboratory:
    """One worker whose policy and pods change."""

    def __init__(self, sandbox: Sandbox, tell: Callable[[str], None]) -> None:
        self.sandbox = sandbox
        self.node: Node = sandbox.workers[0]
        self.kubectl = sandbox.kubectl
        self.tell = tell
        self.runcs = {
            runtime: self.node.run(path, "--version").split()[2]
            for runtime, path in legacy_gpu.runc_paths(sandbox.paths).items()
        }

    def facts(self) -> dict[str, str]:
        """What the measurement ran on."""
        system = "cgroup2fs" in self.node.run("stat", "-fc", "%T", "/sys/fs/cgroup")
        return {
            "kubelet": self.sandbox.state.kubernetes,
            "containerd": self.node.run("containerd", "--version").split()[2],
            "cgroup": "v2" if system else "v1",
            "cgroup_driver": self.configuration()["cgroupDriver"],
        }

    def configuration(self) -> dict[str, Any]:
        """The running kubelet's configuration."""
        answer = self.kubectl.run("get", "--raw", f"/api/v1/nodes/{self.node.name}/proxy/configz")
        found: dict[str, Any] = json.loads(answer)["kubeletconfig"]
        return found

    def use_policy(self, policy: str) -> None:
        """Start the kubelet with this policy and no state of the one before."""
        flags = f"--cpu-manager-policy={policy}" + (f" --reserved-cpus={RESERVED}" if policy == "static" else "")
        self.node.run("systemctl", "stop", "kubelet")
        self.node.run("rm", "-f", "/var/lib/kubelet/cpu_manager_state")
        self.node.write("/etc/default/kubelet", f"KUBELET_EXTRA_ARGS={flags}\n")
        started = datetime.now(UTC).replace(microsecond=0)
        self.node.run("systemctl", "start", "kubelet")

        def ready() -> bool:
            (item,) = [node for node in self.kubectl.items("nodes") if node["metadata"]["name"] == self.node.name]
            return node_ready(item, started) and self.configuration()["cpuManagerPolicy"] == policy

        wait_for(f"{self.node.name} is Ready with policy {policy}", ready, START_SECONDS)

    def start_pod(self, kind: str, runtime: str) -> int:
        """Start a pod that gets its GPU; return the second of its first word, which must be «open»."""
        self.kubectl.apply(manifest(kind, self.node.name, runtime, kind))
        wait_for(f"pod {kind} speaks", lambda: bool(self.log(kind)), START_SECONDS)
        second, word = self.log(kind).splitlines()[0].split(" ", 1)
        if word != "open":
            raise SandboxError(f"pod {kind} never had its device: its first word is «{word}», expected «open»")
        return int(second)

    def remove_pods(self) -> None:
        """Remove what start_pod started."""
        self.kubectl.run("delete", "pod", *PODS, "--ignore-not-found", "--now", "--wait=true")

    def log(self, pod: str) -> str:
        """What a pod said."""
        return self.kubectl.run("logs", pod)

    def grant_again(self, pod: str) -> None:
        """Do by hand what the hook did, for a pod that has lost its device."""
        status = json.loads(self.kubectl.run("get", "pod", pod, "-o", "json"))["status"]
        container = status["containerStatuses"][0]["containerID"].rpartition("/")[2]
        folder = self.node.run("find", "/sys/fs/cgroup/devices", "-type", "d", "-name", container).split()[0]
        self.node.run("sh", "-c", f"echo '{DEVICE_RULE}' > {folder}/devices.allow")
        wait_for(f"pod {pod} opens its device again", lambda: self.log(pod).endswith("open\n"), START_SECONDS)

    def watch(self, policy: str, runtime: str, watched: Sequence[tuple[str, str, int]]) -> list[Row]:
        """Watch pods, each from its event's second on, until all have lost their device or the time is up."""
        deadline = time.monotonic() + WATCH_SECONDS
        while True:
            time.sleep(1)
            late = time.monotonic() - deadline
            try:
                lost = [loss(self.log(pod), second) for pod, _, second in watched]
            except CommandFailed:
                # No kubelet, no logs. They tell later what happened meanwhile.
                if late > START_SECONDS:
                    raise
                continue
            if late > 0 or None not in lost:
                break
        rows = []
        for (pod, event, _), seconds in zip(watched, lost, strict=True):
            name = (self.sandbox.state.kubernetes, policy, self.runcs[runtime], pod, event)
            rows.append(Row(*name, lost=seconds is not None, seconds=seconds))
            outcome = "kept" if seconds is None else f"LOST after {seconds} s"
            self.tell(f"kubelet {name[0]}, {policy}, runc {name[2]}, {PODS[pod]}: {event}: {outcome}")
        return rows

    def trial(self, policy: str, runtime: str) -> list[Row]:
        """A shared pod alone, then one with whole CPUs beside it, then a restart of the kubelet."""
        rows: list[Row] = []

        def regrant() -> None:
            for pod in {row.pod for row in rows}:
                if self.log(pod).endswith("refused\n"):
                    self.grant_again(pod)

        try:
            rows += self.watch(policy, runtime, [(SHARED, QUIET, self.start_pod(SHARED, runtime))])
            regrant()
            if rows[0].lost:
                rows += self.watch(policy, runtime, [(SHARED, AGAIN, int(time.time()))])
                regrant()
            before = int(time.time())
            rows += self.watch(
                policy, runtime, [(SHARED, NEIGHBOUR, before), (WHOLE, QUIET, self.start_pod(WHOLE, runtime))]
            )
            regrant()
            self.node.run("systemctl", "restart", "kubelet")
            restarted = int(time.time())
            rows += self.watch(policy, runtime, [(SHARED, RESTART, restarted), (WHOLE, RESTART, restarted)])
        finally:
            self.remove_pods()
        return rows

    def run(self) -> list[Row]:
        """All policies and both versions of runc."""
        legacy_gpu.install(self.sandbox, self.node)
        rows = []
        for policy in POLICIES:
            self.remove_pods()
            self.use_policy(policy)
            for runtime in (legacy_gpu.OLD, legacy_gpu.OWN):
                rows += self.trial(policy, runtime)
        return rows

    def hold(self) -> None:
        """Leave two pods running, one that has lost its device and one on another runc that keeps it."""
        legacy_gpu.install(self.sandbox, self.node)
        self.remove_pods()
        self.use_policy("static")
        self.start_pod(WHOLE, legacy_gpu.OWN)
        self.watch("static", legacy_gpu.OLD, [(SHARED, QUIET, self.start_pod(SHARED, legacy_gpu.OLD))])


def key(row: Row) -> tuple[str, str, str, str]:
    """What a line of the table is about."""
    return row.kubelet, row.policy, row.runc, row.pod


def lines(rows: Iterable[Row]) -> list[list[str]]:
    """The table's cells: one line a container, one column an event."""
    grouped: dict[tuple[str, str, str, str], dict[str, str]] = {}
    for row in rows:
        grouped.setdefault(key(row), {})[row.event] = f"lost, {row.seconds} s" if row.lost else "kept"
    return [
        [*name[:3], PODS[name[3]], *(cells.get(event, "not measured") for event in EVENTS)]
        for name, cells in sorted(grouped.items())
    ]


HEADINGS = ("kubelet", "policy", "runc", "pod", *EVENTS)


def markdown(rows: Iterable[Row]) -> str:
    """The table for a page."""
    cells = [HEADINGS, ["---"] * len(HEADINGS), *lines(rows)]
    return "".join(f"| {' | '.join(line)} |\n" for line in cells)


def read_rows(folder: Path) -> list[Row]:
    """What all measurements in a folder found."""
    files = sorted(folder.glob("measured-*.json"))
    if not files:
        raise SandboxError(f"{folder} holds no measured-*.json: run `make reproduce-gpu-loss` first.")
    return [Row(**row) for file in files for row in json.loads(file.read_text())["rows"]]


@contextmanager
def laboratory(paths: Paths, name: str) -> Iterator[Laboratory]:
    """The first worker of a sandbox, for as long as it takes."""
    with ready_sandbox(paths, name) as sandbox:
        if legacy_gpu.missing(paths, sandbox.shell):
            with lock(paths.locks, "build"):
                run_steps(legacy_gpu.missing(paths, sandbox.shell), Durations(paths.durations), sandbox.shell.stop)
        yield Laboratory(sandbox, lambda text: print(f"{time.strftime('%H:%M:%S')} {text}", flush=True))


def measure(paths: Paths, name: str, folder: Path) -> None:
    """Measure on a sandbox and keep what was found."""
    with laboratory(paths, name) as worker:
        rows = worker.run()
        result = {**worker.facts(), "rows": [asdict(row) for row in rows]}
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"measured-{result['kubelet']}.json").write_text(json.dumps(result, indent=1) + "\n")


def show(folder: Path) -> None:
    """Print the table and write it as Markdown."""
    rows = read_rows(folder)
    table = Table(title="The GPU stand-in of a container, by what happens on its node")
    for heading in HEADINGS:
        table.add_column(heading)
    for line in lines(rows):
        table.add_row(*(f"[red]{cell}[/]" if cell.startswith("lost") else cell for cell in line))
    Console(width=None if sys.stdout.isatty() else 140).print(table)
    (folder / "table.md").write_text(markdown(rows))


def main(arguments: Sequence[str] | None = None) -> int:
    """`measure NAME FOLDER`, `hold NAME` or `table FOLDER`."""
    top = argparse.ArgumentParser(prog="python -m sandbox.gpu_loss", description=__doc__)
    commands = top.add_subparsers(dest="command", required=True)
    command = commands.add_parser("measure", help="take GPUs from pods on the first worker of a sandbox")
    command.add_argument("name", help="the sandbox")
    command.add_argument("folder", type=Path, help="where the result goes")
    command = commands.add_parser(
        "hold", help="leave a pod without its GPU, and one with it, on the first worker of a sandbox"
    )
    command.add_argument("name", help="the sandbox")
    command = commands.add_parser("table", help="show what was measured")
    command.add_argument("folder", type=Path, help="where the results are")
    options = top.parse_args(arguments)
    try:
        if options.command == "measure":
            measure(Paths.from_environment(), options.name, options.folder)
        elif options.command == "hold":
            with laboratory(Paths.from_environment(), options.name) as worker:
                worker.hold()
        else:
            show(options.folder)
    except SandboxError as error:
        print(f"gpu_loss: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
