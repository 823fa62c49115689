# SPDX-License-Identifier: GPL-3.0-or-later
"""Tune a container and two virtual machines of one cluster in one run, audit them, roll them back, and lose one of them in the middle.

On a sandbox that is there, with cgroup v1 in the container and v2 in the machines:

    tools/fresh-sandbox mixed 1.36.3 --workers 1 --machines 2 --machine-shape sockets=1,cores=2,threads=1,numa=1,memory=2G --without-dns
    python -m tests.campaigns mixed --sandbox mixed

With one batch, the cut is before the kubelet of the lost machine starts again, while the other nodes are tuned. With the
batches of default, it is in a rollback, before the batch of the last machine. The run that follows each cut has to converge.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from sandbox.cluster import Sandbox
from sandbox.shell import wait_for
from tests.campaigns.base import AnsibleRun, add_output_argument, expect
from tests.campaigns.gpu_loss_systemd import HOOK
from tests.campaigns.machine import START_SECONDS, TIMEOUT, MachineLab, look, manifest, verdict
from tests.campaigns.power_cut_cluster import ROLL_BACK, TUNE, UP_SECONDS, cut_before, message_of
from tests.campaigns.worker import PLACED, Running, Worker

NAME = "mixed"
ONE_BATCH = ("-e", json.dumps({"kubepin_batches": ["100%"]}))
COMMITTED = "(committed)"
FACTS = """
echo "kernel $(uname -r), cgroup $(stat -fc %T /sys/fs/cgroup), driver $(sed -n 's/^cgroupDriver: //p' /var/lib/kubelet/config.yaml), \
containerd $(containerd --version | cut -d' ' -f3), runc $(runc --version | sed -n '1s/.* //p')"
"""


class MixedLab(MachineLab):
    """All workers of a sandbox, the last of which is a machine."""

    NAME = NAME

    def __init__(self, sandbox: Sandbox, output: Path) -> None:
        super().__init__(sandbox)
        expect(
            len(sandbox.machines) == 2 and len(sandbox.workers) == 3,
            f'sandbox "{sandbox.state.name}" has {len(sandbox.machines)} machines of {len(sandbox.workers)} workers: '
            "expected 2 of 3",
        )
        self.output = output
        self.workers = {node.name: Worker(sandbox, node) for node in sandbox.workers}
        (self.container,) = (node.name for node in sandbox.container_workers)

    def facts(self) -> dict[str, str]:
        """What each node is."""
        state = self.sandbox.state
        nodes = {name: worker.shell(FACTS).strip() for name, worker in self.workers.items()}
        return {"kubernetes": state.kubernetes, "shape": state.shape, "accelerator": state.accelerator, **nodes}

    def start(self, playbook: str, *arguments: str) -> Running:
        """Start a playbook on all nodes."""
        return Running(["ansible-playbook", playbook, *TIMEOUT, *arguments], self.worker.environment)

    def policies(self) -> dict[str, str]:
        """The policy of each node."""
        return {name: worker.policy() for name, worker in self.workers.items()}

    def check_all(self, policy: str) -> None:
        """Fail unless all nodes have the policy and are in service."""
        expect(set(self.policies().values()) == {policy}, f"the policies are {self.policies()}: expected {policy}")
        cordoned = [name for name, worker in self.workers.items() if worker.cordoned() != (False, False)]
        expect(not cordoned, f"{', '.join(cordoned)}: cordoned or marked")
        unfinished = [name for name, worker in self.workers.items() if worker.unfinished()]
        expect(not unfinished, f"{', '.join(unfinished)}: a switch is unfinished")

    def converge(self, playbook: str, policy: str, *arguments: str) -> None:
        """Run a playbook, after which all nodes have the policy."""
        started = time.monotonic()
        run = self.succeed(playbook, *arguments)
        self.check_all(policy)
        self.note(playbook, started, "; ".join(f"{name}: {verdict(run, name)}" for name in self.workers))

    # The audit

    def audit(self) -> None:
        """Compare the audit's grades, with a hook's injection as the operator's fact, with the cgroup driver of each node."""
        started = time.monotonic()
        pods = {f"gpu-{name}": name for name in self.workers}
        for pod, node in pods.items():
            self.sandbox.kubectl.apply(manifest(pod, node, {"cpu": "1", "memory": "64Mi"}))

        def running() -> bool:
            found = self.sandbox.kubectl.items("pods", "-n", "default")
            return {pod["metadata"]["name"] for pod in found if pod["status"]["phase"] == "Running"} == set(pods)

        wait_for("a GPU pod runs on each node", running, START_SECONDS)
        facts = {"gpu_qos_nodes": {name: {"device_injection": HOOK} for name in self.workers}}
        folder = {"kubepin_runs": str(self.output / "runs"), "kubepin_run": "mixed"}
        self.succeed("audit-gpu-pods.yml", "-e", json.dumps({**facts, **folder}))
        data = json.loads((self.output / "runs/mixed/gpu-pods/audit.json").read_text())
        found = {pod["node"]: risk_of_pod(pod) for pod in data["pods"] if pod["name"] in pods}
        problems = audit_problems(found, self.container)
        self.succeed("diagnose-gpu-pods.yml", "-e", json.dumps(folder))
        data = json.loads((self.output / "runs/mixed/gpu-diagnosis/diagnosis.json").read_text())
        problems += diagnosis_problems(data, pods)
        self.sandbox.kubectl.run("delete", "pod", "-n", "default", *pods, "--now", "--wait=true")
        expect(not problems, "; ".join(problems))
        self.note("audit and diagnosis", started, "; ".join(f"{name}: {risk}" for name, risk in sorted(found.items())))

    # Cuts

    def one_lost(self, lost: str, step: str, playbook: str, policy: str, others: Mapping[str, str], *more: str) -> None:
        """Cut a machine's power within a run, and run again.

        :param policy: of all nodes in the end
        :param others: the other nodes' outcomes in the run that loses the machine
        :param more: arguments of that run
        """
        started, worker = time.monotonic(), self.workers[lost]
        machine = next(machine for machine in self.sandbox.machines if machine.name == lost)
        worker.install_hook()
        worker.shell("sync")  # a cut loses what the kernel has not written yet
        run, cut_at = cut_before(step, worker, machine, lambda: self.start(playbook, *more))
        message = message_of(run, lost, cut_at)
        outcomes = {name: outcome_of(run, name) for name in others}
        expect(outcomes == others, f"after the loss of {lost}, the others are {outcomes}: expected {others}")
        stuck = [name for name in others if self.workers[name].cordoned() != (False, False)]
        expect(not stuck, f"{', '.join(stuck)}: cordoned or marked after the loss of {lost}")
        self.note(f"{playbook}, {lost} is lost before: {step}", started, f"{outcomes}; {lost}: {message}")
        started = time.monotonic()
        machine.boot()
        worker.wait_up(UP_SECONDS)
        expect(worker.cordoned() == (True, True), f"after the boot: cordoned and marked {worker.cordoned()}")
        worker.remove_hook()
        self.note(f"{lost} boots", started, f"policy {worker.policy()}, cordoned as kubepin's")
        self.converge(playbook, policy)

    def steps(self) -> None:
        """All that is done."""
        self.check_all("none")
        first, second = (machine.name for machine in self.sandbox.machines)
        self.converge(TUNE, "static")
        started = time.monotonic()
        self.succeed("check-gpu-nodes.yml")
        self.note("check-gpu-nodes.yml", started, "all nodes are as planned")
        self.audit()
        self.converge(ROLL_BACK, "none")
        tuned = {self.container: "tuned", first: "tuned"}
        self.one_lost(second, PLACED, TUNE, "static", tuned, *ONE_BATCH)
        self.one_lost(first, COMMITTED, ROLL_BACK, "none", {self.container: "rolled_back", second: "not_begun"})


def risk_of_pod(pod: Mapping[str, Any]) -> str:
    """A grade and the codes of its causes."""
    risk = pod["risk"]
    return " ".join([risk["grade"], *(cause["code"] for cause in risk["causes"])])


def audit_problems(found: Mapping[str, str], container: str) -> list[str]:
    """What is wrong with the risks of pods whose GPU a hook gives: only a cgroup of systemd's loses it in a daemon-reload.

    :param found: the risk of each node's pod
    :param container: the node with cgroupfs
    """
    return [
        f"the pod of {node} has the risk {risk}"
        for node, risk in found.items()
        if ("daemon_reload" in risk) == (node == container)
    ]


def diagnosis_problems(data: Mapping[str, Any], pods: Mapping[str, str]) -> list[str]:
    """Which pods the diagnosis does not find with their GPU, on their node.

    :param pods: pod -> node
    """
    states = {
        it["pod"]: (node["node"], it["state"])
        for node in data["nodes"]
        for it in node["gpu_loss"].get("containers", [])
    }
    return [
        f"the diagnosis says of {pod}: {states.get(pod)}"
        for pod, node in pods.items()
        if states.get(pod) != (node, "kept")
    ]


def outcome_of(run: AnsibleRun, node: str) -> str:
    """The outcome of a node, also of one that was not begun."""
    return str((run.fact("kubepin_result", node) or run.fact("kubepin_plan", node)).get("outcome"))


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options."""
    parser.add_argument("--sandbox", metavar="NAME", required=True, help="one with a container and two machines")
    add_output_argument(parser, NAME)


def run(options: argparse.Namespace) -> int:
    """On the sandbox that the options name."""
    output: Path = options.output.absolute()
    return look(options.sandbox, options, lambda sandbox: MixedLab(sandbox, output))
