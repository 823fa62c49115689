# SPDX-License-Identifier: GPL-3.0-or-later
"""Tune a virtual machine (cgroup v2, systemd driver, NUMA), cut its power in the middle of a rollback, and roll it back.

On a separate sandbox: a control plane in a container, one worker that is a QEMU machine. Ansible is killed with the machine, so that
nobody is left to clean up. With --full-pcpus-only, the machine is tuned with that option of the static policy, and a pod that does
not fill a core is refused. Emulated on two cores, it takes some 20 minutes.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from sandbox.cluster import Sandbox, ready_sandbox
from sandbox.machines import Machine
from sandbox.settings import DEFAULT_KUBERNETES, GPU_RESOURCE, TEST_IMAGE, Paths
from sandbox.shell import wait_for
from tests.campaigns.base import (
    AnsibleRun,
    CheckFailed,
    add_output_argument,
    expect,
    markdown_table,
    new_sandbox,
    print_table,
    run_sandbox,
    write_json,
)
from tests.campaigns.worker import Running, Worker

NAME = "machine"
POD = "pinned-gpu"
POD_CPUS = 2
START_SECONDS = 180
BEGUN_SECONDS = 420
RUN_SECONDS = 900
# Each wait of a run: an emulated machine's kubelet is slow.
TIMEOUT = ("-e", "cpu_manager_timeout=240")
CGROUP_FILES = ("cpuset.cpus", "cpuset.cpus.effective", "cpuset.mems.effective", "cpu.max")
FULL_PCPUS_ONLY = ("-e", json.dumps({"cpu_manager_policy_options": {"full-pcpus-only": True}}))
NOT_ALIGNED = "SMTAlignmentError"
"""The reason of a pod that full-pcpus-only refuses (Kubernetes: pkg/kubelet/cm/cpumanager/policy_static.go)."""


@dataclass(frozen=True)
class Row:
    """One thing that was done, how long it took, and what was found then."""

    what: str
    seconds: float
    found: str


def manifest(name: str, node: str, limits: Mapping[str, str], containers: int = 1) -> dict[str, Any]:
    """A Guaranteed pod with a GPU in each container."""
    container = {
        "image": TEST_IMAGE,
        "imagePullPolicy": "Never",
        "command": ["sleep", "100000"],
        "resources": {"limits": {**limits, GPU_RESOURCE: "1"}},
    }
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "namespace": "default"},
        "spec": {
            # Not nodeName: the scheduler waits until the probe pod's device is free again.
            "nodeSelector": {"kubernetes.io/hostname": node},
            "restartPolicy": "Never",
            "terminationGracePeriodSeconds": 0,
            "containers": [{"name": f"main-{number}", **container} for number in range(1, containers + 1)],
        },
    }


def scope(pod: Mapping[str, Any]) -> str:
    """The cgroup of a Guaranteed pod's container, as kubelet and containerd name it with the systemd driver.

    Kubernetes: pkg/kubelet/cm/cgroup_manager_linux.go (ToSystemd); containerd: internal/cri/server/helpers.go.
    """
    uid = pod["metadata"]["uid"].replace("-", "_")
    container = pod["status"]["containerStatuses"][0]["containerID"].removeprefix("containerd://")
    return f"/sys/fs/cgroup/kubepods.slice/kubepods-pod{uid}.slice/cri-containerd-{container}.scope"


def pinning_problems(values: Mapping[str, str], state: Mapping[str, Any]) -> list[str]:
    """What is wrong with a container's cgroup, given the kubelet's state file."""
    assigned = [cpus for entries in state.get("entries", {}).values() for cpus in entries.values()]
    problems = []
    if state["policyName"] != "static":
        problems.append(f"the policy is {state['policyName']}, not static")
    for file in ("cpuset.cpus", "cpuset.cpus.effective"):
        if values[file] not in assigned:
            problems.append(f"{file} is {values[file] or 'empty'}; the state file assigns {assigned}")
    quota = f"{POD_CPUS * 100000} 100000"
    if values["cpu.max"] not in (quota, "max 100000"):
        problems.append(f"cpu.max is {values['cpu.max']}: expected {quota}, or no quota")
    return problems


class MachineLab:
    """The machine under test."""

    NAME = NAME

    def __init__(self, sandbox: Sandbox, full_pcpus_only: bool = False) -> None:
        self.sandbox = sandbox
        self.machine: Machine = sandbox.machines[0]
        self.worker = Worker(sandbox, self.machine)
        self.full_pcpus_only = full_pcpus_only
        self.rows: list[Row] = []

    def note(self, what: str, started: float, found: str) -> None:
        row = Row(what, round(time.monotonic() - started, 1), found)
        self.rows.append(row)
        print(f"{row.what}: {row.seconds} s: {row.found}", flush=True)

    def facts(self) -> dict[str, str]:
        """What the campaign ran on."""
        shell = self.worker.shell
        return {
            "kubernetes": self.sandbox.state.kubernetes,
            "shape": self.sandbox.state.shape,
            "accelerator": self.sandbox.state.accelerator,
            "kernel": shell("uname -r").strip(),
            "containerd": shell("containerd --version").split()[2],
            "runc": shell("runc --version").split()[2],
            "cgroup": shell("stat -fc %T /sys/fs/cgroup").strip(),
            "driver": shell("grep cgroupDriver /var/lib/kubelet/config.yaml").split()[1],
        }

    def start(self, playbook: str, *arguments: str) -> Running:
        return self.worker.start_playbook(*TIMEOUT, *arguments, playbook=playbook)

    def succeed(self, playbook: str, *arguments: str) -> AnsibleRun:
        """Run a playbook to its end, which must be good."""
        run = self.start(playbook, *arguments).end(RUN_SECONDS)
        expect(run.code == 0, f"{playbook} failed: {run.error}")
        return run

    def pod(self) -> str:
        """Look at a pod with exclusive CPUs; return its cgroup's values."""
        kubectl = self.sandbox.kubectl
        kubectl.apply(manifest(POD, self.machine.name, {"cpu": str(POD_CPUS), "memory": "64Mi"}))

        def phase() -> str:
            return kubectl.run("get", "pod", POD, "-o", "jsonpath={.status.phase}")

        wait_for(f"pod {POD} runs", lambda: phase() == "Running", START_SECONDS)
        pod = json.loads(kubectl.run("get", "pod", POD, "-o", "json"))
        folder = scope(pod)
        values = {file: self.worker.shell(f"cat {folder}/{file}").strip() for file in CGROUP_FILES}
        state = json.loads(self.worker.shell("cat /var/lib/kubelet/cpu_manager_state"))
        kubectl.run("delete", "pod", POD)
        problems = pinning_problems(values, state)
        expect(not problems, "; ".join(problems))
        return ", ".join(f"{file} {value}" for file, value in values.items())

    def refused_pod(self) -> str:
        """Look at a pod that asks for a part of a core; return the kubelet's words."""
        threads = self.sandbox.state.machine_shape.threads
        expect(threads > 1, f"the machine has {threads} thread per core: expected several")
        kubectl = self.sandbox.kubectl
        kubectl.apply(manifest(POD, self.machine.name, {"cpu": str(threads - 1), "memory": "64Mi"}))

        def status() -> dict[str, Any]:
            found: dict[str, Any] = json.loads(kubectl.run("get", "pod", POD, "-o", "json"))["status"]
            return found

        wait_for(f"pod {POD} is refused", lambda: status()["phase"] == "Failed", START_SECONDS)
        found = status()
        kubectl.run("delete", "pod", POD)
        expect(found["reason"] == NOT_ALIGNED, f"the pod failed with {found['reason']}: expected {NOT_ALIGNED}")
        return f"{found['reason']}: {found['message']}"

    def cut(self) -> None:
        """Cut the power while a rollback is within its transaction."""
        running = self.start("rollback-gpu-nodes.yml")
        try:
            wait_for("a rollback is within its transaction", self.worker.unfinished, BEGUN_SECONDS, 0.1)
            self.machine.power_cut()
        finally:
            running.kill()

    def steps(self) -> None:
        """All that is done."""
        started = time.monotonic()
        run = self.succeed("tune-gpu-nodes.yml", *(FULL_PCPUS_ONLY if self.full_pcpus_only else ()))
        self.note("tune", started, verdict(run, self.machine.name))
        started = time.monotonic()
        self.note("a Guaranteed pod of 2 CPUs with a GPU stand-in", started, self.pod())
        if self.full_pcpus_only:
            started = time.monotonic()
            self.note("a Guaranteed pod of a part of a core", started, self.refused_pod())
        started = time.monotonic()
        self.cut()
        self.note("rollback, and the power is cut within its transaction", started, self.machine.state())
        started = time.monotonic()
        self.machine.boot()
        wait_for(f"{self.machine.name}: the kubelet is up", self.worker.up, START_SECONDS)
        cordoned, marked = self.worker.cordoned()
        expect(cordoned and marked, f"after the cut: cordoned {cordoned}, marked {marked}; expected both")
        self.note("boot until the kubelet is up", started, f"policy {self.worker.policy()}, cordoned as kubepin's")
        started = time.monotonic()
        run = self.succeed("rollback-gpu-nodes.yml")
        expect(self.worker.policy() == "none", f"the policy is {self.worker.policy()} after the rollback")
        expect(self.worker.cordoned() == (False, False), "the node is still cordoned or marked after the rollback")
        expect(not self.worker.unfinished(), "a journal is still unfinished")
        self.note("rollback, run again", started, verdict(run, self.machine.name))


def verdict(run: AnsibleRun, node: str) -> str:
    """What a run reports of a node.

    Raises CheckFailed if it reports nothing.
    """
    result = run.fact("kubepin_result", node)
    expect(bool(result), f"the run reports nothing about {node}: {run.error}")
    words = [f"{result['policy_before']} -> {result['policy']}"]
    words += [f"reserved {result['reserved']['cpus']}"] if result["reserved"] else []
    return ", ".join([result["outcome"], *words, *result["verified"]])


def add_machine_arguments(parser: argparse.ArgumentParser, name: str) -> None:
    """The options that `on_machine` needs."""
    parser.add_argument("--k8s", default=DEFAULT_KUBERNETES, metavar="VERSION", help="default: %(default)s")
    parser.add_argument("--sandbox", metavar="NAME", help="one with a machine that is ready, and stays; else a new one")
    add_output_argument(parser, name)


def look(name: str, options: argparse.Namespace, make: Callable[[Sandbox], MachineLab]) -> int:
    """A campaign on a sandbox that is there."""
    with ready_sandbox(Paths.from_environment(), name) as sandbox:
        expect(bool(sandbox.machines), f'sandbox "{name}" has no machine')
        lab = make(sandbox)
        facts, failed = lab.facts(), ""
        try:
            lab.steps()
        except CheckFailed as error:
            failed = str(error)
        rows: Sequence[Sequence[str]] = [(row.what, str(row.seconds), row.found) for row in lab.rows]
        headings = ("what", "s", "found")
        write_json(
            options.output / f"{lab.NAME}.json",
            {"facts": facts, "rows": [asdict(row) for row in lab.rows], "failed": failed},
        )
        (options.output / f"{lab.NAME}.md").write_text(markdown_table(headings, rows))
        print_table(", ".join(f"{key} {value}" for key, value in facts.items()), headings, rows)
        if failed:
            raise CheckFailed(failed)
    return 0


def on_machine(name: str, options: argparse.Namespace, make: Callable[[Sandbox], MachineLab]) -> int:
    """A campaign on the sandbox that the options ask for; a new one has the campaign's name, and is removed at the end."""
    if options.sandbox:
        return look(options.sandbox, options, make)
    run_sandbox("host-setup", "--machines")
    with new_sandbox(name, options.k8s, 0, machines=1):
        return look(name, options, make)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_machine_arguments(parser, NAME)
    parser.add_argument("--full-pcpus-only", action="store_true", help="tune with this option of the static policy")


def run(options: argparse.Namespace) -> int:
    return on_machine(NAME, options, lambda sandbox: MachineLab(sandbox, options.full_pcpus_only))
