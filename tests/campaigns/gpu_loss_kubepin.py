# SPDX-License-Identifier: GPL-3.0-or-later
"""The part of gpu-loss in which kubepin switches the nodes, and its audit and diagnosis are compared with what happens.

Each worker has one runc, which is containerd's default, because the audit looks at that one. The results are written after
each event, so that little is lost if the machine is taken away, and a second run goes on from them.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

from sandbox import containerd, machine_runtime
from sandbox.cluster import Sandbox
from sandbox.nodes import Node
from sandbox.settings import GPU_RESOURCE
from tests.campaigns.base import AnsibleRun, expect, write_json
from tests.campaigns.gpu_loss_systemd import (
    CDI_RESOURCE,
    CONTAINERD,
    HOOK,
    OWN_RUNC,
    RELOAD,
    REPLICAS,
    RESIZE,
    RESTART,
    ROLLBACK,
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
)
from tests.campaigns.machine import RUN_SECONDS
from tests.campaigns.worker import Running

UNSEEN_RESOURCE = "kubepin.local/gpu-by-runtime"
"""What pods ask for whose GPU comes from a hook or from NVIDIA's runtime alone: a device that all have."""
# All pods of the trials are GPU pods to the audit.
OPTIONS: Mapping[str, Any] = {"gpu_qos_resource_prefixes": ["nvidia.com/", "kubepin.local/"]}
RISK = "gpu_access_risk"


@dataclass(frozen=True)
class Trial:
    """What is the same for all pods of a worker."""

    setting: Setting
    runc: str


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


def daemon_set(subject: Subject, real: bool) -> dict[str, Any]:
    """A pod that no drain evicts, so that kubepin's switch finds it."""
    pod = manifest(subject, real)
    spec, labels = pod["spec"], {**pod["metadata"]["labels"], "subject": subject.pod}
    spec["nodeSelector"] = {"kubernetes.io/hostname": spec.pop("nodeName")}
    del spec["restartPolicy"]
    limits = spec["containers"][0]["resources"]["limits"]
    if not limits.keys() & {GPU_RESOURCE, CDI_RESOURCE}:
        limits[UNSEEN_RESOURCE] = 1
    return {
        "apiVersion": "apps/v1",
        "kind": "DaemonSet",
        "metadata": {**pod["metadata"], "labels": labels},
        "spec": {
            "selector": {"matchLabels": {"subject": subject.pod}},
            "template": {"metadata": {"labels": labels}, "spec": spec},
        },
    }


def default_handler(config: str, handler: str) -> str:
    """The lines for containerd's configuration that choose the default handler, whose runc the audit looks at."""
    return f"\n[plugins.'{containerd.cri_plugin(config)}'.containerd]\ndefault_runtime_name = '{handler}'\n"


class KubepinLab(SystemdLab):
    """All workers of a sandbox, whose pods are in DaemonSets."""

    FILE = "systemd-kubepin.json"
    OPTIONS = OPTIONS
    RUNCS: Sequence[str] = ()
    WATCH_SECONDS: Mapping[str, int] = {**SystemdLab.WATCH_SECONDS, ROLLBACK: 15}
    PODS = (SHARED, WHOLE)
    TIMEOUT: Sequence[str] = ("-e", "cpu_manager_timeout=90")

    def __init__(self, sandbox: Sandbox, report: Callable[[str], None], output: Path, workers: Sequence[Node]) -> None:
        super().__init__(sandbox, report)
        self.workers = [*workers]
        self.output = output
        self.file = output / self.FILE
        self.findings = Findings.read(self.file, self.facts())
        self.all_subjects: Sequence[Subject] = ()

    # Preparing

    def install(self) -> None:
        """As on any worker; keeps all containers, to choose from them."""
        super().install()
        self.all_subjects = self.subjects

    def offers(self) -> dict[str, int]:
        """One more, so that all pods of the trials are GPU pods to kubepin."""
        return {**super().offers(), UNSEEN_RESOURCE: REPLICAS}

    def plugins(self) -> list[dict[str, Any]]:
        """One more."""
        return [*super().plugins(), device_plugin("gpu-by-runtime", UNSEEN_RESOURCE, ["-devices=1", "-path=/dev/null"])]

    def use_runcs(self, runcs: Mapping[str, str]) -> None:
        """Make a runc the default of each worker and choose its pods.

        :param runcs: worker -> name of a runc, as its handlers have it
        """
        names = {worker: runc.replace(".", "-") for worker, runc in runcs.items()}
        kinds = ("plain", "hook", "nvidia")
        handlers = {worker: {f"{kind}-{name}" for kind in kinds} for worker, name in names.items()}
        self.subjects = [it for it in self.all_subjects if it.handler in handlers.get(it.worker, ())]

        def use(node: Node) -> None:
            default = default_handler(self.configs[node.name], f"plain-{names[node.name]}")
            self.configure(node, [runcs[node.name]], default)

        self.each(use, [node for node in self.workers if node.name in names])

    # Pods

    def subject_of(self, pod: str) -> str:
        """A DaemonSet's pods have its name and a suffix."""
        return pod.rpartition("-")[0]

    def pod_name(self, subject: Subject) -> str:
        """That of the newest pod of its DaemonSet."""
        pods = self.kubectl.items("pods", "-n", "default", "-l", f"subject={subject.pod}")
        return str(max(pods, key=lambda pod: pod["metadata"]["creationTimestamp"])["metadata"]["name"])

    def object_of(self, subject: Subject) -> dict[str, Any]:
        """A DaemonSet."""
        return daemon_set(subject, self.real)

    def renew(self) -> None:
        """Have those that lost their GPU made again."""
        if self.lost:
            now = self.now()
            self.started |= {subject.pod: now for subject in self.lost}
            names = ",".join(subject.pod for subject in self.lost)
            self.kubectl.run("delete", "pod", "-l", f"subject in ({names})", "--now", "--wait=true")
            self.wait_started({subject.pod for subject in self.lost})

    # kubepin

    def playbook(self, name: str, workers: Sequence[str] = (), **variables: Any) -> AnsibleRun:
        """Run a playbook to its end, on these workers or on all that have pods."""
        extra = ("-e", json.dumps({**self.OPTIONS, "kubepin_runs": str(self.output / "runs"), **variables}))
        limit = ("--limit", ",".join(workers or self.settings))
        environment = {"KUBEPIN_SANDBOX": self.sandbox.state.name, "ANSIBLE_NOCOLOR": "1", "ANSIBLE_FORCE_COLOR": "0"}
        return Running(["ansible-playbook", name, *limit, *self.TIMEOUT, *extra], environment).end(RUN_SECONDS)

    def without_static(self) -> list[str]:
        """The workers with the policy none, which are those that kubepin switches."""
        return [name for name, setting in self.settings.items() if setting.policy == "none"]

    def switch(self) -> None:
        """Switch nodes with their pods on them: first as users do, then with the risk accepted, if kubepin names one."""
        names = self.without_static()
        run = self.playbook("tune-gpu-nodes.yml", names, kubepin_batches=["100%"])
        problems = run.problems()
        if RISK in problems:
            variables = {"gpu_qos_accept_risk": True, "kubepin_batches": ["100%"]}
            run = self.playbook("tune-gpu-nodes.yml", names, **variables)
        switches = [
            self.switched(name, problems, run.fact("kubepin_result", name), run.fact("__gpu_qos_preflight", name))
            for name in names
        ]
        self.findings = replace(self.findings, switches=[*self.findings.switches, *switches])
        self.report(f"switch: {sorted(problems)}, {[it['outcome'] for it in switches]}")
        expect(run.code == 0, f"the switch failed: {run.error}")

    def switched(
        self, worker: str, problems: Mapping[str, str], result: Mapping[str, Any], preflight: Mapping[str, Any]
    ) -> dict[str, Any]:
        """What is kept of a switch."""
        return {
            "links": self.settings[worker].links,
            "runc": next(it.runc for it in self.subjects if it.worker == worker),
            "problems": problems,
            "outcome": result.get("outcome"),
            "verified": result.get("verified"),
            "warnings": preflight.get("warnings", []),
        }

    def roll_back(self) -> None:
        """Undo the switch."""
        run = self.playbook("rollback-gpu-nodes.yml", self.without_static(), kubepin_batches=["100%"])
        expect(run.code == 0, f"rollback-gpu-nodes.yml failed: {run.error}")

    def concerned(self, event: str) -> list[Subject]:
        """A rollback comes right after the switch: it counts for those that kept their GPU then."""
        if event == ROLLBACK:
            return [it for it in super().concerned(SWITCH) if it not in self.lost]
        return super().concerned(event)

    def observe(self, event: str) -> list[Result]:
        """What an event does; those that lost their GPU in a switch are still without it after the rollback."""
        earlier = self.lost if event == ROLLBACK else []
        rows = super().observe(event)
        self.lost = [*earlier, *self.lost]
        return rows

    def happen(self, event: str) -> None:
        """The switch is kubepin's; while nothing happens, it audits, which takes longer than the kubelet's next update."""
        if event == SWITCH:
            self.switch()
        elif event == ROLLBACK:
            self.roll_back()
        elif event == START:
            self.audit()
        else:
            super().happen(event)

    def run_name(self, what: str) -> str:
        """The folder of a playbook's report."""
        return what.replace(" ", "-")

    def audit(self) -> None:
        """Keep what the audit says of each container.

        A second audit with the operator's fact that a hook gives the GPUs is for those containers: the node's
        configuration names the stand-in for NVIDIA's hook only in the handlers that have it.
        """
        for name, facts in (("read", {}), ("hook", {worker: {"device_injection": HOOK} for worker in self.settings})):
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
        """Keep what the diagnosis says of the watched containers, whose *rows* an event gave."""
        folder = self.run_name(f"after {rows[0].event}")
        run = self.playbook("diagnose-gpu-pods.yml", kubepin_run=folder)
        expect(run.code == 0, f"diagnose-gpu-pods.yml failed: {run.error}")
        data = json.loads((self.output / "runs" / folder / "gpu-diagnosis/diagnosis.json").read_text())
        said: dict[str, Mapping[str, Any]] = {}
        for node in data["nodes"]:
            for problem in [node["error"], *node["gpu_loss"].get("unknown", [])]:
                if problem:
                    self.report(f"not read: {problem}")
            said |= {self.subject_of(it["pod"]): it for it in node["gpu_loss"].get("containers", [])}
        diagnosed = []
        for subject, row in zip(self.watched, rows, strict=True):
            found = said.get(subject.pod, {"state": "missing", "cause": None})
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

    def events_of(self, settings: Sequence[Setting], events: Sequence[str], before: Sequence[Result]) -> None:
        """The events of trials, the first of which may have been observed *before*."""
        try:
            self.keep(self.begin(settings))
            self.leave_out(before)
            for event, following in zip(events, [*events[1:], None], strict=True):
                rows = self.observe(event)
                self.keep(rows)
                if rows and (event == START or any(row.outcome == "lost" for row in rows)):
                    self.diagnose(rows)
                self.keep([])
                if event == START:
                    self.leave_out(rows)
                elif following not in (None, ROLLBACK):
                    self.renew()
        finally:
            self.remove_all()

    def leave_out(self, rows: Sequence[Result]) -> None:
        """Leave out the containers that lost their GPU by themselves: started again, they would lose it again."""
        lost = {row.key for row in rows if row.outcome == "lost"}
        self.dead |= {it.pod: "lost by itself" for it in self.subjects if self.container(it, START).key in lost}
        self.lost = [it for it in self.lost if it.pod not in self.dead]


class WorkersLab(KubepinLab):
    """Several workers in namespaces at once, with the host's GPUs or the stand-in.

    Two workers with links are beside four without them, as a contrast.
    """

    TRIALS = tuple(
        Trial(Setting(policy, links), runc)
        for runc, links in ((OWN_RUNC, False), (machine_runtime.RUNC_VERSION, False), (OWN_RUNC, True))
        for policy in ("none", "static")
    )
    # What no run has seen comes first.
    EVENTS = (START, RELOAD, CONTAINERD, SWITCH, ROLLBACK, RESTART, RESIZE)
    # The audit takes longer than the kubelet's first update.
    WATCH_SECONDS: Mapping[str, int] = {**KubepinLab.WATCH_SECONDS, START: 5, SWITCH: 15}

    def __init__(self, sandbox: Sandbox, report: Callable[[str], None], output: Path) -> None:
        super().__init__(sandbox, report, output, sandbox.workers[: len(self.TRIALS)])

    def use_policy(self, node: Node, policy: str) -> None:
        """Nothing for one that has it, so that the kubelet of a node with the policy none is as it was joined."""
        if self.configuration(node)["cpuManagerPolicy"] != policy:
            super().use_policy(node, policy)

    def run(self) -> list[Result]:
        """All events on all workers; those that the output folder has are not repeated."""
        self.install()
        trials = self.TRIALS[: len(self.workers)]
        self.use_runcs({node.name: trial.runc for node, trial in zip(self.workers, trials, strict=True)})
        seen = {row.event for row in self.findings.rows}
        events = [event for event in self.EVENTS if event not in seen]
        if events:
            before = [row for row in self.findings.rows if row.event == START]
            self.events_of([trial.setting for trial in trials], events, before)
        return list(self.findings.rows)


def _grade(risk: Mapping[str, Any]) -> tuple[str, list[str]]:
    return risk["grade"], [cause["code"] for cause in risk["causes"]]
