# SPDX-License-Identifier: GPL-3.0-or-later
"""Tune a virtual machine with each profile: what pods get there, what the preview said they would, and that a rollback leaves nothing.

On a separate sandbox: a control plane in a container, one worker that is a QEMU machine with two NUMA nodes and a GPU stand-in on
each. For each profile, the preview predicts a sequence of Guaranteed pods with CPUs, memory and a GPU. Then the node is tuned and gets
these pods. CPUs and memory are read from their control groups, the GPU from their device file. Before `numa`, a pod that it would
refuse stops the switch. Emulated on two cores, a profile takes
some 6 minutes.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ansible_collections.kubepin.tuning.plugins.module_utils.common.cpuset import format_cpuset, parse_cpuset

from sandbox.cluster import Sandbox
from sandbox.settings import GPU_RESOURCE
from sandbox.shell import wait_for
from tests.campaigns.base import expect, find_problem
from tests.campaigns.machine import (
    RUN_SECONDS,
    START_SECONDS,
    MachineLab,
    add_machine_arguments,
    manifest,
    on_machine,
    scope,
    verdict,
)

NAME = "profiles"
# Three CPUs fit on either NUMA node of four at first, of which one has two reserved. The second pod finds three free CPUs,
# but on two nodes.
_LARGE, _SMALL = {"cpu": "3", "memory": "128Mi"}, {"cpu": "2", "memory": "128Mi"}
PODS: Mapping[str, Sequence[Mapping[str, str]]] = {
    "balanced": (_LARGE, _LARGE),
    "numa": (_LARGE, _LARGE, _SMALL),
    "l3": (_LARGE, _LARGE),
}
REFUSED = "TopologyAffinityError"
CGROUP_FILES = ("cpuset.cpus", "cpuset.cpus.effective", "cpuset.mems", "cpuset.mems.effective", "cpu.max")
# What kubelet and pods write while they run is left out, and kubepin's journal, which a rollback keeps.
LIST_FILES = """
find /etc /usr/local /opt /root /var/lib/kubelet -xdev \\( -path /var/lib/kubelet/pods -o -path /var/lib/kubelet/device-plugins \\
  -o -path /var/lib/kubelet/pod-resources -o -path /root/.ansible -o -name '*_pods_state' \\) -prune \\
  -o \\( -type f -exec sha256sum {} + , -printf '%M %U:%G %p %l\\n' \\) | LC_ALL=C sort
"""
LIST_GPUS = """
for device in /sys/bus/pci/devices/*; do
  [ "$(cat "$device/vendor")" != 0x10de ] || echo "${device##*/} $(cat "$device/numa_node")"
done
"""


@dataclass(frozen=True)
class Got:
    """What a pod got: values of its control group, the NUMA nodes of its CPUs, and those of its GPUs by device file."""

    cgroup: Mapping[str, str]
    numa_nodes: list[int]
    gpus: Mapping[str, int]

    def __str__(self) -> str:
        values = ", ".join(f"{name} {value or 'empty'}" for name, value in self.cgroup.items())
        gpus = ", ".join(f"{file} of NUMA {node}" for file, node in self.gpus.items())
        return f"{values}; CPUs of NUMA {format_cpuset(self.numa_nodes)}, {gpus}"


def differences(profile: str, predicted: Mapping[str, Any], got: Got) -> list[str]:
    """Where a pod that runs differs from its prediction, and with `numa` also whether anything is on another NUMA node.

    :param predicted: the pod in the preview's JSON
    """
    problems = []
    expected = {
        "cpuset.cpus": predicted["cpus"],
        "cpuset.cpus.effective": predicted["cpus"],
        "cpuset.mems": format_cpuset(predicted["memory_nodes"]),
    }
    for file, value in expected.items():
        if got.cgroup[file] != value:
            problems.append(f"{file} is {got.cgroup[file] or 'empty'}, predicted {value or 'empty'}")
    gpu_nodes = sorted(set(got.gpus.values()))
    if predicted["certain"] and gpu_nodes != predicted["device_nodes"]:
        problems.append(
            f"its GPU is of NUMA node {format_cpuset(gpu_nodes)}, predicted {format_cpuset(predicted['device_nodes'])}"
        )
    if len(got.gpus) != 1:
        problems.append(f"it has the device files {list(got.gpus)}, asked for one GPU")
    if profile == "numa" and not (
        len(got.numa_nodes) == 1
        and got.numa_nodes == gpu_nodes
        and got.cgroup["cpuset.mems"] == format_cpuset(gpu_nodes)
    ):
        problems.append(f"it is not on one NUMA node: {got}")
    return problems


class ProfileLab(MachineLab):
    """The machine under test, with one profile after the other."""

    NAME = NAME

    def __init__(self, sandbox: Sandbox, output: Path, profiles: Sequence[str]) -> None:
        super().__init__(sandbox)
        self.output, self.profiles = output, profiles

    def steps(self) -> None:
        """All profiles, each from the node as it was."""
        for profile in self.profiles:
            self.profile(profile)

    def preview(self, profile: str) -> dict[str, Any]:
        """What kubepin predicts for the pods of a profile, on an empty node."""
        pods = [{**pod, GPU_RESOURCE: 1} for pod in PODS[profile]]
        more = json.dumps({"node_preview_pods": pods, "kubepin_runs": str(self.output), "kubepin_run": profile})
        self.succeed("preview-gpu-nodes.yml", "-e", f"cpu_manager_profile={profile}", "-e", more)
        (node,) = json.loads((self.output / profile / "preview/preview.json").read_text())["nodes"]
        expect(not node["problems"], f"the preview has problems: {node['problems']}")
        return dict(node)

    def files(self) -> set[str]:
        return set(self.worker.shell(LIST_FILES).splitlines())

    def phase(self, name: str) -> str:
        return self.sandbox.kubectl.run("get", "pod", name, "-o", "jsonpath={.status.phase}")

    def admit(self, name: str, limits: Mapping[str, str], containers: int = 1) -> dict[str, Any]:
        """Make a pod and wait until the kubelet has started or refused it."""
        self.sandbox.kubectl.apply(manifest(name, self.machine.name, limits, containers))
        wait_for(f"pod {name} runs or is refused", lambda: self.phase(name) in ("Running", "Failed"), START_SECONDS)
        return dict(json.loads(self.sandbox.kubectl.run("get", "pod", name, "-o", "json")))

    def got(self, pod: Mapping[str, Any]) -> Got:
        """What a running pod got, by the files of the node."""
        shell, folder = self.worker.shell, scope(pod)
        values = {file: shell(f"cat {folder}/{file}").strip() for file in CGROUP_FILES}
        nodes = shell("cd /sys/devices/system/node && grep . node*/cpulist").split()
        own = parse_cpuset(values["cpuset.cpus"])
        numa_nodes = [
            int(name.removeprefix("node").removesuffix("/cpulist"))
            for name, _, cpus in (line.partition(":") for line in nodes)
            if own & parse_cpuset(cpus)
        ]
        found = shell(f"ls -d /proc/$(head -n 1 {folder}/cgroup.procs)/root/dev/nvidia*").split()
        all_gpus = [int(line.split()[1]) for line in shell(LIST_GPUS).splitlines()]
        files = [f"/dev/{Path(path).name}" for path in found]
        return Got(values, numa_nodes, {file: all_gpus[int(file.removeprefix("/dev/nvidia"))] for file in files})

    def pods(self, profile: str, predicted: Sequence[Mapping[str, Any]]) -> None:
        """Admit a profile's pods one after the other, and compare each with its prediction."""
        for number, (limits, prediction) in enumerate(zip(PODS[profile], predicted, strict=True), 1):
            name, started = f"{NAME}-{number}", time.monotonic()
            status = self.admit(name, limits)
            what = f"{profile}: pod {number}, {limits['cpu']} CPUs, {limits['memory']}, a GPU"
            if prediction["refused"]:
                refused = status["status"].get("reason", status["status"]["phase"])
                expect(refused == REFUSED, f"{what}: {refused}, predicted {prediction['refused']}")
                expect(REFUSED in prediction["refused"], f"{what}: {REFUSED}, predicted {prediction['refused']}")
                self.note(what, started, f"refused as predicted: {status['status']['message']}")
                continue
            expect(status["status"]["phase"] == "Running", f"{what}: {status['status']}, predicted that it runs")
            got = self.got(status)
            problems = differences(profile, prediction, got)
            expect(not problems, f"{what}: {'; '.join(problems)}")
            self.note(what, started, f"as predicted: {got}")

    def all_shared(self) -> bool:
        """Whether no pod has exclusive CPUs: the kubelet shares those of a deleted pod again some seconds later."""
        return not json.loads(self.worker.shell("cat /var/lib/kubelet/cpu_manager_state")).get("entries")

    def delete(self, *names: str) -> None:
        self.sandbox.kubectl.run("delete", "pod", "--ignore-not-found", *names)

    def stopped(self) -> None:
        """A running pod whose second container would find no three CPUs on a NUMA node stops a switch before it begins."""
        name, started = f"{NAME}-two", time.monotonic()
        pod = self.admit(name, _LARGE, containers=2)
        try:
            expect(pod["status"]["phase"] == "Running", f"with policy none, the pod does not run: {pod['status']}")
            more = ("-e", "cpu_manager_profile=numa", "-e", "cpu_manager_drain_force=true")
            run = self.start("tune-gpu-nodes.yml", *more).end(RUN_SECONDS)
            text = find_problem(run.problems(), "pod_refused")
            expect(self.phase(name) == "Running", "the pod was evicted")
            expect(self.worker.cordoned() == (False, False), "the node is cordoned or marked")
            expect(self.worker.policy() == "none", f"the policy is {self.worker.policy()}")
        finally:
            self.delete(name)
        self.note("numa: tune beside a pod of two such containers", started, f"refused, nothing changed: {text}")

    def profile(self, profile: str) -> None:
        """Tune, look at pods, check, roll back, and compare the node's files."""
        option = ("-e", f"cpu_manager_profile={profile}")
        started = time.monotonic()
        before, preview = self.files(), self.preview(profile)
        gpus = [f"NUMA {node['id']}: {', '.join(node['gpus'])}" for node in preview["numa_nodes"]]
        expect(all(len(node["gpus"]) == 1 for node in preview["numa_nodes"]), f"expected a GPU on each node: {gpus}")
        self.note(f"{profile}: preview", started, f"GPUs {'; '.join(gpus)}; {_settings(preview)}")
        if profile == "numa":
            self.stopped()
        started = time.monotonic()
        run = self.succeed("tune-gpu-nodes.yml", *option)
        self.note(f"{profile}: tune", started, verdict(run, self.machine.name))
        wait_for("the probe pod's CPUs are shared again", self.all_shared, START_SECONDS)
        try:
            self.pods(profile, preview["pods"])
            started = time.monotonic()
            run = self.succeed("check-gpu-nodes.yml", *option)
            outcome = run.fact("kubepin_check", self.machine.name)["outcome"]
            expect(outcome == "as_planned", f"the check says {outcome}")
            self.note(f"{profile}: check, with these pods", started, outcome)
        finally:
            self.delete(*(f"{NAME}-{number}" for number in range(1, len(PODS[profile]) + 1)))
        started = time.monotonic()
        run = self.succeed("rollback-gpu-nodes.yml")
        changed = sorted(before ^ self.files())
        expect(not changed, f"after the rollback, files differ from those before the switch: {changed}")
        self.note(
            f"{profile}: rollback", started, f"{verdict(run, self.machine.name)}; {len(before)} lines, no file differs"
        )


def _settings(preview: Mapping[str, Any]) -> str:
    """What a profile sets, and what is reserved."""
    settings = [f"{one['name']} {json.dumps(one['value'])}" for one in preview["profile"]["settings"]]
    return ", ".join([f"reserved {preview['reservation']['cpus']}", *settings, *preview["notes"]])


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--profiles", nargs="+", choices=PODS, default=list(PODS), help="default: all")
    add_machine_arguments(parser, NAME)


def run(options: argparse.Namespace) -> int:
    return on_machine(NAME, options, lambda sandbox: ProfileLab(sandbox, options.output.absolute(), options.profiles))
