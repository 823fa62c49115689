# SPDX-License-Identifier: GPL-3.0-or-later
"""Take GPUs from running pods for real ("Failed to initialize NVML: Unknown Error"), by kubelet, policy and runc.

One sandbox a version; afterwards one pod stays without its GPU, and diagnose-gpu-pods.yml finds the cause. The GPU is a
stand-in: a device that the legacy hook granted, opened once a second by the pod itself. "Operation not permitted" is the loss.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

from sandbox.cluster import Sandbox, node_ready, ready_sandbox
from sandbox.locks import lock
from sandbox.nodes import Node
from sandbox.progress import Durations, run_steps
from sandbox.settings import GPU_DEVICE, TEST_IMAGE, Paths, SandboxError
from sandbox.shell import CommandFailed, wait_for
from tests.campaigns import gpu_loss_kubepin, gpu_loss_machine, gpu_loss_systemd, legacy_gpu
from tests.campaigns.base import (
    ROOT,
    add_output_argument,
    markdown_table,
    new_sandbox,
    playbook,
    print_table,
    write_json,
)
from tests.campaigns.gpu_loss_kubepin import KubepinLab

NAME, VERSIONS = "gpu-loss", "1.21.14,1.22.17"
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


@dataclass(frozen=True)
class GpuLossResult:
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
                    "command": ["sh", "-c", legacy_gpu.OPEN_FOR_EVER],
                    "resources": {"limits": limits},
                }
            ],
        },
    }


def loss(log: str, since: int) -> int | None:
    """Seconds from `since` to the first refusal after it; None where the device still opens.

    Raises SandboxError for anything but "open" and "refused": then the stand-in itself is broken.
    """
    refused = None
    for line in log.splitlines():
        second, word = line.split(" ", 1)
        if word not in ("open", "refused"):
            raise SandboxError(f'{GPU_DEVICE} answers "{word}" in the pod: expected that it opens or is not permitted')
        if word == "refused" and refused is None and int(second) >= since:
            refused = int(second) - since
    return refused


class GpuLossLab:
    """One worker whose policy and pods change."""

    def __init__(self, sandbox: Sandbox, report: Callable[[str], None]) -> None:
        self.sandbox = sandbox
        self.node: Node = sandbox.workers[0]
        self.kubectl = sandbox.kubectl
        self.report = report
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
        """Start a pod that gets its GPU; return the second of its first word, which must be "open"."""
        self.kubectl.apply(manifest(kind, self.node.name, runtime, kind))
        wait_for(f"pod {kind} writes its log", lambda: bool(self.log(kind)), START_SECONDS)
        second, word = self.log(kind).splitlines()[0].split(" ", 1)
        if word != "open":
            raise SandboxError(f'pod {kind} never had its device: its first word is "{word}", expected "open"')
        return int(second)

    def remove_pods(self) -> None:
        """Remove what start_pod started."""
        self.kubectl.run("delete", "pod", *PODS, "--ignore-not-found", "--now", "--wait=true")

    def log(self, pod: str) -> str:
        """What a pod wrote."""
        return self.kubectl.run("logs", pod)

    def grant_again(self, pod: str) -> None:
        """Do by hand what the hook did, for a pod that has lost its device."""
        status = json.loads(self.kubectl.run("get", "pod", pod, "-o", "json"))["status"]
        container = status["containerStatuses"][0]["containerID"].rpartition("/")[2]
        folder = self.node.run("find", "/sys/fs/cgroup/devices", "-type", "d", "-name", container).split()[0]
        self.node.run("sh", "-c", f"echo '{DEVICE_RULE}' > {folder}/devices.allow")
        wait_for(f"pod {pod} opens its device again", lambda: self.log(pod).endswith("open\n"), START_SECONDS)

    def watch(self, policy: str, runtime: str, watched: Sequence[tuple[str, str, int]]) -> list[GpuLossResult]:
        """Watch pods, each from its event's second on, until all have lost their device or the time is up."""
        deadline = time.monotonic() + WATCH_SECONDS
        while True:
            time.sleep(1)
            late = time.monotonic() - deadline
            try:
                lost = [loss(self.log(pod), second) for pod, _, second in watched]
            except CommandFailed:
                # No kubelet, no logs. They show later what happened meanwhile.
                if late > START_SECONDS:
                    raise
                continue
            if late > 0 or None not in lost:
                break
        rows = []
        for (pod, event, _), seconds in zip(watched, lost, strict=True):
            name = (self.sandbox.state.kubernetes, policy, self.runcs[runtime], pod, event)
            rows.append(GpuLossResult(*name, lost=seconds is not None, seconds=seconds))
            outcome = "kept" if seconds is None else f"LOST after {seconds} s"
            self.report(f"kubelet {name[0]}, {policy}, runc {name[2]}, {PODS[pod]}: {event}: {outcome}")
        return rows

    def trial(self, policy: str, runtime: str) -> list[GpuLossResult]:
        """A shared pod alone, then one with whole CPUs beside it, then a restart of the kubelet."""
        rows: list[GpuLossResult] = []

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

    def run(self) -> list[GpuLossResult]:
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


def key(row: GpuLossResult) -> tuple[str, str, str, str]:
    """What a line of the table is about."""
    return row.kubelet, row.policy, row.runc, row.pod


def lines(rows: Iterable[GpuLossResult]) -> list[list[str]]:
    """The table's cells: one line a container, one column an event."""
    grouped: dict[tuple[str, str, str, str], dict[str, str]] = {}
    for row in rows:
        grouped.setdefault(key(row), {})[row.event] = f"lost, {row.seconds} s" if row.lost else "kept"
    return [
        [*name[:3], PODS[name[3]], *(cells.get(event, "not measured") for event in EVENTS)]
        for name, cells in sorted(grouped.items())
    ]


HEADINGS = ("kubelet", "policy", "runc", "pod", *EVENTS)


def markdown(rows: Iterable[GpuLossResult]) -> str:
    """The table for a page."""
    return markdown_table(HEADINGS, lines(rows))


def read_rows(folder: Path) -> list[GpuLossResult]:
    """What all measurements in a folder found."""
    files = sorted(folder.glob("measured-*.json"))
    if not files:
        raise SandboxError(f"{folder} holds no measured-*.json: run `make campaign WHAT=gpu-loss` first.")
    return [GpuLossResult(**row) for file in files for row in json.loads(file.read_text())["rows"]]


def build_missing(sandbox: Sandbox, runcs: Sequence[str]) -> None:
    """Build what the cache lacks of the hook and these releases of runc."""
    paths, shell = sandbox.paths, sandbox.shell
    if legacy_gpu.missing(paths, shell, runcs):
        with lock(paths.locks, "build"):
            run_steps(legacy_gpu.missing(paths, shell, runcs), Durations(paths.durations), shell.stop)


@contextmanager
def gpu_loss_lab(paths: Paths, name: str) -> Iterator[GpuLossLab]:
    """The first worker of a sandbox, for as long as it takes."""
    with ready_sandbox(paths, name) as sandbox:
        build_missing(sandbox, [legacy_gpu.OLD_RUNC])
        yield GpuLossLab(sandbox, report)


def measure(paths: Paths, name: str, folder: Path) -> None:
    """Measure on a sandbox, keep what was found, and let kubepin say why a pod is without its GPU."""
    with gpu_loss_lab(paths, name) as worker:
        result = {**worker.facts(), "rows": [asdict(row) for row in worker.run()]}
    version = result["kubelet"]
    write_json(folder / f"measured-{version}.json", result)
    hold(paths, name)
    playbook("diagnose-gpu-pods.yml", "-e", f"kubepin_run=gpu-loss-{version}")
    shutil.copy(ROOT / f"runs/gpu-loss-{version}/gpu-diagnosis/diagnosis.txt", folder / f"diagnosis-{version}.txt")


def measure_systemd(paths: Paths, name: str, folder: Path, kubepin: Callable[..., KubepinLab] | None) -> None:
    """Measure on all workers of a sandbox with cgroup v2, keep what was found and print the table.

    :param kubepin: with kubepin's switch, audit and diagnosis, by this lab
    """
    with ready_sandbox(paths, name) as sandbox:
        make = partial(kubepin, output=folder) if kubepin else gpu_loss_systemd.SystemdLab
        lab = make(sandbox, report=report)
        build_missing(sandbox, lab.RUNCS)
        facts, rows = lab.facts(), lab.run()
    if not kubepin:
        write_json(folder / "systemd.json", {**facts, "rows": [asdict(row) for row in rows]})
    headings, lines = gpu_loss_systemd.HEADINGS, gpu_loss_systemd.lines(rows, facts["kubelet"])
    print_table("The GPU of a container, by what happens on its node", headings, lines, red=["lost"])
    (folder / "table-systemd.md").write_text(gpu_loss_systemd.markdown(rows, facts["kubelet"]))


def report(text: str) -> None:
    """Say what was found, with the time."""
    print(f"{time.strftime('%H:%M:%S')} {text}", flush=True)


def hold(paths: Paths, name: str) -> None:
    """Leave a pod without its GPU, and one with it, on the first worker of a sandbox."""
    with gpu_loss_lab(paths, name) as worker:
        worker.hold()


def show(folder: Path) -> None:
    """Print the table and write it as Markdown."""
    rows = read_rows(folder)
    print_table("The GPU stand-in of a container, by what happens on its node", HEADINGS, lines(rows), red=["lost"])
    (folder / "table.md").write_text(markdown(rows))


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options."""
    parser.add_argument("--k8s", default=VERSIONS, metavar="VERSIONS", help="one sandbox each (default: %(default)s)")
    parser.add_argument("--sandbox", metavar="NAME", help="measure on one that is ready, and stays, instead")
    parser.add_argument("--hold", action="store_true", help="only leave the pods of a diagnosis on --sandbox NAME")
    parser.add_argument(
        "--systemd", action="store_true", help="on --sandbox NAME with cgroup v2: all ways to give a GPU"
    )
    parser.add_argument(
        "--machine",
        action="store_true",
        help="with --systemd: on the virtual machine of --sandbox NAME, with kubepin's switch, audit and diagnosis;"
        " goes on from what the output folder has",
    )
    parser.add_argument(
        "--kubepin",
        action="store_true",
        help="with --systemd: the same on the first six workers of --sandbox NAME in namespaces, all at once",
    )
    add_output_argument(parser, NAME)


def run(options: argparse.Namespace) -> int:
    """All versions one after the other; the table has what all measurements in the folder found."""
    paths = Paths.from_environment()
    if options.hold and not options.sandbox:
        raise SandboxError("--hold needs --sandbox NAME: pods of a new sandbox would be removed with it")
    if options.systemd and not options.sandbox:
        raise SandboxError("--systemd needs --sandbox NAME: one of machines, or of namespaces on a host with cgroup v2")
    labs = {"machine": gpu_loss_machine.MachineLab, "kubepin": gpu_loss_kubepin.WorkersLab}
    chosen = [name for name in labs if getattr(options, name)]
    if chosen and not options.systemd:
        raise SandboxError(f"--{chosen[0]} is a way of --systemd: give both")
    if len(chosen) > 1:
        raise SandboxError("--machine and --kubepin are for different workers: give one of them")
    if options.systemd:
        measure_systemd(paths, options.sandbox, options.output.absolute(), labs[chosen[0]] if chosen else None)
        return 0
    if options.hold:
        hold(paths, options.sandbox)
        return 0
    if options.sandbox:
        os.environ["KUBEPIN_SANDBOX"] = options.sandbox
        measure(paths, options.sandbox, options.output)
    else:
        for version in options.k8s.split(","):
            with new_sandbox(NAME, version, workers=1):
                measure(paths, NAME, options.output)
    show(options.output)
    return 0
