# SPDX-License-Identifier: GPL-3.0-or-later
"""The part of gpu-loss for a virtual machine, whose policy kubepin switches, and what its audit and diagnosis say.

One trial after the other, with six pods each, so that an emulated machine keeps up: two versions of runc, without links in
/dev/char and with them, under both policies. The GPU is a device with NVIDIA's numbers and no driver.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

from sandbox.cluster import Sandbox
from sandbox.machines import Machine
from sandbox.nodes import Node
from sandbox.settings import GPU_DEVICE, GPU_RESOURCE
from tests.campaigns import legacy_gpu
from tests.campaigns.base import AnsibleRun, expect, write_json
from tests.campaigns.gpu_loss_systemd import (
    CDI_RESOURCE,
    CONTAINERD,
    HOOK,
    NEIGHBOUR,
    NO_DRIVER,
    NVIDIA_NUMBERS,
    OWN_RUNC,
    RELOAD,
    RESIZE,
    RESTART,
    SHARED,
    START,
    SWITCH,
    WHOLE,
    Container,
    Result,
    Setting,
    Subject,
    SystemdLab,
    by_container,
    cause_of,
    device_plugin,
    manifest,
    measured_grade,
    table_name,
)
from tests.campaigns.machine import RUN_SECONDS, TIMEOUT
from tests.campaigns.worker import Worker

OLD = "1.1.5"
"""runc as Debian 12 has it, one of the releases that need links in /dev/char."""
PROGRAMS = "/opt/gpu-loss"
CPUS = 6
"""A trial has three pods with a CPU each and three with a tenth of one. The static policy reserves one more CPU, and the pod that
probes a switch, or the neighbour, gets one."""
HOOK_RESOURCE = "kubepin.local/gpu-by-hook"
EVENTS: Mapping[str, Sequence[str]] = {
    "none": (START, CONTAINERD, RELOAD, RESTART, RESIZE, SWITCH),
    "static": (START, CONTAINERD, RELOAD, RESTART, NEIGHBOUR, RESIZE),
}
# All pods of the trials are GPU pods to the audit. The probe pod cannot open the stand-in.
OPTIONS: Mapping[str, Any] = {
    "gpu_qos_resource_prefixes": ["nvidia.com/", "kubepin.local/"],
    "cpu_manager_probe_device_paths": ["/dev/null"],
}
RISK = "gpu_access_risk"


@dataclass(frozen=True)
class Trial:
    """What is the same for all pods of a trial."""

    setting: Setting
    runc: str


# A switch costs minutes. So those under the static policy follow one.
TRIALS = tuple(
    Trial(Setting(policy, links), runc)
    for links in (False, True)
    for policy, runc in (("none", OLD), ("static", OLD), ("static", OWN_RUNC), ("none", OWN_RUNC))
)


@dataclass(frozen=True)
class Audited(Container):
    """What the audit says of a container, beside its measured grade; None if not enough was seen for one."""

    grade: str
    causes: Sequence[str]
    measured: str | None

    @property
    def agrees(self) -> bool:
        """Whether the audit says what was measured."""
        return self.measured in (None, self.grade)


@dataclass(frozen=True)
class Diagnosed(Container):
    """What the diagnosis says of a container after an event, beside what happened."""

    event: str
    outcome: str
    state: str
    cause: str | None

    @property
    def agrees(self) -> bool:
        """Whether the diagnosis says what happened, and names what did it."""
        if self.outcome != "lost":
            return self.state == self.outcome
        return self.state == "lost" and self.cause == cause_of(self, self.event)


Kind = TypeVar("Kind", bound=Container)


def merged(before: Iterable[Kind], new: Iterable[Kind]) -> list[Kind]:
    """The items, of each two about the same container and event the new one."""
    return list({(item.key, getattr(item, "event", None)): item for item in (*before, *new)}.values())


@dataclass(frozen=True)
class Findings:
    """What all trials found; an interrupted campaign goes on from it."""

    facts: Mapping[str, str]
    rows: Sequence[Result] = ()
    audited: Sequence[Audited] = ()
    diagnosed: Sequence[Diagnosed] = ()
    switches: Sequence[Mapping[str, Any]] = ()

    @classmethod
    def read(cls, path: Path, facts: Mapping[str, str]) -> Findings:
        """Those of a file, if it exists; *facts* are those of now."""
        if not path.exists():
            return cls(facts)
        data = json.loads(path.read_text())
        return cls(
            facts,
            [Result(**row) for row in data["rows"]],
            [Audited(**row) for row in data["audited"]],
            [Diagnosed(**row) for row in data["diagnosed"]],
            data["switches"],
        )

    def with_rows(self, rows: Sequence[Result]) -> Findings:
        """With these, and the grades that follow from them."""
        merged_rows = merged(self.rows, rows)
        seen = by_container(merged_rows)
        audited = [replace(item, measured=measured_grade(seen.get(item.key, []))) for item in self.audited]
        return replace(self, rows=merged_rows, audited=audited)

    def of(self, event: str, setting: Setting, runc: str) -> list[Result]:
        """The rows of an event.

        :param runc: its version
        """
        policy = "static" if event == SWITCH else setting.policy
        wanted = (event, policy, setting.links, runc)
        return [row for row in self.rows if (row.event, row.policy, row.links, row.runc.partition("+")[0]) == wanted]


def daemon_set(subject: Subject) -> dict[str, Any]:
    """A pod that no drain evicts, so that kubepin's switch finds it."""
    pod = manifest(subject, real=False)
    spec, labels = pod["spec"], {**pod["metadata"]["labels"], "subject": subject.pod}
    spec["nodeSelector"] = {"kubernetes.io/hostname": spec.pop("nodeName")}
    del spec["restartPolicy"]
    if subject.injection == HOOK:
        spec["containers"][0]["resources"]["limits"][HOOK_RESOURCE] = 1
    return {
        "apiVersion": "apps/v1",
        "kind": "DaemonSet",
        "metadata": {**pod["metadata"], "labels": labels},
        "spec": {
            "selector": {"matchLabels": {"subject": subject.pod}},
            "template": {"metadata": {"labels": labels}, "spec": spec},
        },
    }


def with_default(config: str, handler: str) -> str:
    """containerd's configuration with another default handler, whose runc the audit then looks at."""
    setting = f"\n[plugins.'{table_name(config)}'.containerd]\ndefault_runtime_name = "
    return f"{config.partition(setting)[0]}{setting}'{handler}'\n"


class MachineLab(SystemdLab):
    """A virtual machine."""

    RUNCS = (OLD,)
    PODS = (SHARED, WHOLE)
    RESOURCES = (GPU_RESOURCE, CDI_RESOURCE, HOOK_RESOURCE)
    # Emulated machines are slow: three others beside it, a container took minutes to start.
    WATCH_SECONDS = dict.fromkeys((*EVENTS["none"], NEIGHBOUR), 30)
    START_SECONDS = 600
    GRANTED = NO_DRIVER

    def __init__(self, sandbox: Sandbox, report: Callable[[str], None], output: Path) -> None:
        super().__init__(sandbox, report)
        expect(len(sandbox.machines) == 1, f'sandbox "{sandbox.state.name}" has no machine, or several: expected one')
        cpus = sandbox.state.machine_shape.cpus
        expect(cpus >= CPUS, f'the machine of sandbox "{sandbox.state.name}" has {cpus} CPUs: expected {CPUS} or more')
        self.machine: Machine = sandbox.machines[0]
        self.workers = [self.machine]
        self.worker = Worker(sandbox, self.machine)
        self.output = output
        self.file = output / "systemd-machine.json"
        self.findings = Findings.read(self.file, self.facts())
        self.all_subjects: Sequence[Subject] = ()
        self.config = ""

    # Preparing

    def facts(self) -> dict[str, str]:
        """What the measurement ran on."""
        state = self.sandbox.state
        return {**super().facts(), "accelerator": state.accelerator, "shape": state.shape}

    def install(self) -> None:
        """As on any worker, and the device: the kernel has no driver for it, and does not list it in /sys/dev/char."""
        self.machine.run("rm", "-f", GPU_DEVICE)
        self.machine.run("mknod", "-m", "666", GPU_DEVICE, "c", *map(str, NVIDIA_NUMBERS))
        super().install()
        self.config = self.machine.run("cat", legacy_gpu.CONTAINERD_CONFIGURATION)
        self.all_subjects = self.subjects

    def plugins(self, options: Sequence[str]) -> list[dict[str, Any]]:
        """One more, for pods that the hook gives the GPU: they get a device that all have."""
        return [
            *super().plugins(options),
            device_plugin("gpu-by-hook", HOOK_RESOURCE, ["-devices=1", "-path=/dev/null"]),
        ]

    def program(self, _node: Node, built: Path) -> str:
        """Copied: a machine has no folder of the host."""
        folder = f"{PROGRAMS}/{built.parents[1].name}"
        self.machine.run("mkdir", "-p", folder)
        self.machine.copy_in(built, f"{folder}/{built.name}")
        return f"{folder}/{built.name}"

    def use_policy(self, node: Node, policy: str) -> None:
        """Switch the node, or roll it back, if it has another policy."""
        found = self.configuration(node)["cpuManagerPolicy"]
        if found != policy:
            run = self.playbook("tune-gpu-nodes.yml" if policy == "static" else "rollback-gpu-nodes.yml")
            expect(run.code == 0, f"the node's policy is {found}, and the playbook failed: {run.error}")

    # Pods

    def subject_of(self, pod: str) -> str:
        """A DaemonSet's pods have its name and a suffix."""
        return pod.rpartition("-")[0]

    def pod_name(self, subject: Subject) -> str:
        """That of the newest pod of its DaemonSet."""
        pods = self.kubectl.items("pods", "-n", "default", "-l", f"subject={subject.pod}")
        return str(max(pods, key=lambda pod: pod["metadata"]["creationTimestamp"])["metadata"]["name"])

    def now(self) -> float:
        """The machine's time."""
        return float(self.machine.run("date", "+%s"))

    def object_of(self, subject: Subject) -> dict[str, Any]:
        """A DaemonSet."""
        return daemon_set(subject)

    def renew(self) -> None:
        """Have those that lost their GPU made again."""
        if self.lost:
            now = self.now()
            self.started |= {subject.pod: now for subject in self.lost}
            names = ",".join(subject.pod for subject in self.lost)
            self.kubectl.run("delete", "pod", "-l", f"subject in ({names})", "--now", "--wait=true")
            self.wait_started({subject.pod for subject in self.lost})

    # kubepin

    def playbook(self, name: str, **variables: Any) -> AnsibleRun:
        """Run a playbook to its end."""
        extra = ("-e", json.dumps({**OPTIONS, "kubepin_runs": str(self.output / "runs"), **variables}))
        return self.worker.start_playbook(*TIMEOUT, *extra, playbook=name).end(RUN_SECONDS)

    def switch(self) -> None:
        """Switch the node with its pods on it: first as users do, then with the risk accepted, if kubepin names one."""
        run = self.playbook("tune-gpu-nodes.yml")
        problems = run.problems()
        if RISK in problems:
            run = self.playbook("tune-gpu-nodes.yml", gpu_qos_accept_risk=True)
        result = run.fact("kubepin_result", self.machine.name)
        (setting,) = self.settings.values()
        switched = {
            "links": setting.links,
            "runc": self.subjects[0].runc,
            "problems": problems,
            "outcome": result.get("outcome"),
            "verified": result.get("verified"),
            "warnings": run.fact("__gpu_qos_preflight").get("warnings", []),
        }
        switches = [*self.findings.switches, switched]
        self.findings = replace(self.findings, switches=switches)
        self.report(f"switch: {sorted(problems)}, {result.get('outcome')}")
        expect(run.code == 0, f"the switch failed: {run.error}")

    def happen(self, event: str) -> None:
        """The switch is kubepin's; while nothing happens, it audits, which takes longer than the kubelet's next update."""
        if event == SWITCH:
            self.switch()
        elif event == START:
            self.audit()
        else:
            super().happen(event)

    def run_name(self, what: str) -> str:
        """The folder of a playbook's report."""
        (setting,) = self.settings.values()
        runc, links = self.subjects[0].runc.partition("+")[0], "links" if setting.links else "no-links"
        return f"{links}-{setting.policy}-{runc}-{what}".replace(" ", "-")

    def audit(self) -> None:
        """Keep what the audit says of each container.

        A second audit with the operator's fact that a hook gives the GPUs is for those containers: the node's
        configuration names the stand-in for NVIDIA's hook only in the handlers that have it.
        """
        for name, facts in (("read", {}), ("hook", {self.machine.name: {"device_injection": HOOK}})):
            folder = self.run_name(f"audit-{name}")
            run = self.playbook("audit-gpu-pods.yml", kubepin_run=folder, gpu_qos_nodes=facts)
            expect(run.code == 0, f"audit-gpu-pods.yml failed: {run.error}")
            data = json.loads((self.output / "runs" / folder / "gpu-pods/audit.json").read_text())
            risks = {self.subject_of(pod["name"]): pod["risk"] for pod in data["pods"]}
            audited = [
                Audited(*self.container(subject, START).key, *_grade(risks[subject.pod]), measured=None)
                for subject in self.subjects
                if subject.pod in risks and (subject.injection == HOOK) == (name == "hook")
            ]
            found = merged(self.findings.audited, audited)
            self.findings = replace(self.findings, audited=found)

    def diagnose(self, rows: Sequence[Result]) -> None:
        """Keep what the diagnosis says of the containers of *rows* after their event."""
        folder = self.run_name(f"after {rows[0].event}")
        run = self.playbook("diagnose-gpu-pods.yml", kubepin_run=folder)
        expect(run.code == 0, f"diagnose-gpu-pods.yml failed: {run.error}")
        data = json.loads((self.output / "runs" / folder / "gpu-diagnosis/diagnosis.json").read_text())
        (node,) = data["nodes"]
        for problem in [node["error"], *node["gpu_loss"].get("unknown", [])]:
            if problem:
                self.report(f"not read: {problem}")
        said = {self.subject_of(it["pod"]): it for it in node["gpu_loss"].get("containers", [])}
        names = {(it.runc, it.injection, it.kind): it.pod for it in self.subjects}
        diagnosed = []
        for row in rows:
            found = said.get(names[row.runc, row.injection, row.pod], {"state": "missing", "cause": None})
            if row.outcome in ("kept", "lost"):
                diagnosed.append(Diagnosed(*row.key, row.event, row.outcome, found["state"], found["cause"]))
                if not diagnosed[-1].agrees:
                    self.report(f"differs: {diagnosed[-1]}: {found.get('evidence')}")
        self.findings = replace(self.findings, diagnosed=merged(self.findings.diagnosed, diagnosed))

    # Trials

    def keep(self, rows: Sequence[Result]) -> None:
        """Add rows, and write all that was found."""
        self.findings = self.findings.with_rows(rows)
        write_json(
            self.file,
            {
                **self.findings.facts,
                "rows": [asdict(row) for row in self.findings.rows],
                "audited": [asdict(item) for item in self.findings.audited],
                "diagnosed": [asdict(item) for item in self.findings.diagnosed],
                "switches": self.findings.switches,
            },
        )

    def use_runc(self, runc: str) -> str:
        """Make it the default and choose its pods; return its version."""
        name = runc.replace(".", "-")
        self.subjects = [it for it in self.all_subjects if it.handler in (f"plain-{name}", f"hook-{name}")]
        self.machine.write(legacy_gpu.CONTAINERD_CONFIGURATION, with_default(self.config, f"plain-{name}"))
        self.machine.run("systemctl", "restart", "containerd")
        return self.subjects[0].runc.partition("+")[0]

    def one(self, setting: Setting, events: Sequence[str], before: Sequence[Result]) -> None:
        """The events of a trial, the first of which may have been observed *before*."""
        try:
            self.keep(self.begin([setting]))
            self.leave_out(before)
            for event in events:
                rows = self.observe(event)
                self.keep(rows)
                if event == START or self.lost:
                    self.diagnose(rows)
                self.keep([])
                if event == START:
                    self.leave_out(rows)
                elif event != events[-1]:
                    self.renew()
        finally:
            self.remove_all()

    def leave_out(self, rows: Sequence[Result]) -> None:
        """Leave out the containers that lost their GPU by themselves: started again, they would lose it again."""
        lost = {(row.injection, row.pod) for row in rows if row.outcome == "lost"}
        self.dead |= {it.pod: "lost by itself" for it in self.subjects if (it.injection, it.kind) in lost}

    def run(self) -> list[Result]:
        """What was not observed before."""
        self.install()
        for trial in TRIALS:
            setting, runc = trial.setting, self.use_runc(trial.runc)
            events = [it for it in EVENTS[setting.policy] if not self.findings.of(it, setting, runc)]
            if events:
                self.report(f"runc {runc}, {setting}: {', '.join(events)}")
                self.one(setting, events, self.findings.of(START, setting, runc))
        return list(self.findings.rows)


def _grade(risk: Mapping[str, Any]) -> tuple[str, list[str]]:
    return risk["grade"], [cause["code"] for cause in risk["causes"]]
