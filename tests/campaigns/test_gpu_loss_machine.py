# SPDX-License-Identifier: GPL-3.0-or-later
"""GPUs on a virtual machine: what a device without a driver answers, and whether audit and diagnosis say what happened."""

from __future__ import annotations

import json
import subprocess
import tomllib
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from sandbox.settings import GPU_DEVICE, SandboxError
from tests.campaigns import gpu_loss, gpu_loss_kubepin, gpu_loss_machine, legacy_gpu
from tests.campaigns.__main__ import parser
from tests.campaigns.base import AnsibleRun, CheckFailed, TaskResult, write_json
from tests.campaigns.gpu_loss_kubepin import Audited, Diagnosed, Findings
from tests.campaigns.gpu_loss_machine import OLD
from tests.campaigns.gpu_loss_systemd import (
    HOOK,
    NO_DRIVER,
    RELOAD,
    RESIZE,
    RESTART,
    SPECS,
    START,
    SWITCH,
    WHOLE,
    Result,
    Setting,
    Subject,
    by_container,
    cause_of,
    diagnosis,
    grade,
    measured_grade,
    outcome_of,
)


@pytest.mark.parametrize(
    ("words", "outcome"),
    [
        ([(100, NO_DRIVER)], "kept"),
        ([(100, NO_DRIVER), (208, "refused")], "lost"),
        ([(100, NO_DRIVER), (208, "No such file or directory")], "lost"),
        ([(100, NO_DRIVER), (120, "refused")], "lost before"),
    ],
)
def test_a_device_without_a_driver_is_granted_if_the_kernel_says_that_it_has_none(words: Any, outcome: str) -> None:
    assert outcome_of(words, since=200.9, granted=NO_DRIVER)[0] == outcome


@pytest.mark.parametrize(
    ("path", "answer"),
    [("/dev/null", "open"), ("/", "Is a directory"), ("/proc/nothing", "No such file or directory")],
)
def test_a_pod_writes_the_kernels_own_answer(path: str, answer: str) -> None:
    command = ["sh", "-c", legacy_gpu.OPEN_FOR_EVER.replace(GPU_DEVICE, path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as pod:
        assert pod.stdout is not None
        second, _, words = pod.stdout.readline().partition(" ")
        pod.kill()
    assert second.isdigit()
    # dash says "nonexistent" for some files
    assert words.strip() in (answer, "Directory nonexistent")


def subject(injection: str) -> Subject:
    return Subject("gpu-machine-1", "2.4.2", "1.1.5", injection, WHOLE, "hook-1-1-5")


def test_a_pod_on_a_machine_belongs_to_a_daemon_set_and_counts_as_a_gpu_pod() -> None:
    found = gpu_loss_kubepin.daemon_set(subject(HOOK), real=False)
    template = found["spec"]["template"]
    assert template["metadata"]["labels"].items() >= found["spec"]["selector"]["matchLabels"].items()
    assert template["spec"]["nodeSelector"] == {"kubernetes.io/hostname": "gpu-machine-1"}
    assert "restartPolicy" not in template["spec"]
    prefixes = tuple(gpu_loss_kubepin.OPTIONS["gpu_qos_resource_prefixes"])
    for injection in (HOOK, SPECS):
        (container,) = gpu_loss_kubepin.daemon_set(subject(injection), False)["spec"]["template"]["spec"]["containers"]
        assert [name for name in container["resources"]["limits"] if name.startswith(prefixes)]


def test_the_audit_finds_the_chosen_handler_as_the_default() -> None:
    config = 'version = 3\n[plugins."io.containerd.cri.v1.runtime".containerd.runtimes.runc]\nruntime_type = "x"\n'
    text = config + gpu_loss_kubepin.default_handler(config, "plain-1-1-5")
    settings = tomllib.loads(text)["plugins"]["io.containerd.cri.v1.runtime"]["containerd"]
    assert settings["default_runtime_name"] == "plain-1-1-5"
    assert "runc" in settings["runtimes"]


def row(event: str, outcome: str, policy: str = "static", **more: Any) -> Result:
    values = {"runc": "1.1.5+ds1", "injection": SPECS, "links": False, "pod": WHOLE, **more}
    return Result("2.4.2", policy=policy, event=event, outcome=outcome, seconds=None, words="", **values)


def diagnosed(event: str, outcome: str, state: str, cause: str | None, injection: str = HOOK) -> Diagnosed:
    policy = "none" if event == RESIZE else "static"
    return Diagnosed("2.4.2", "1.1.5", injection, False, policy, WHOLE, event, outcome, state, cause)


@pytest.mark.parametrize(
    ("said", "agrees"),
    [
        (diagnosed(START, "kept", "kept", None), True),
        (diagnosed(START, "kept", "lost", "container_update"), False),
        (diagnosed(RESTART, "lost", "kept", None), False),
        (diagnosed(RESTART, "lost", "lost", "container_update"), True),
        (diagnosed(RESTART, "lost", "lost", "daemon_reload"), False),
        (diagnosed(RELOAD, "lost", "lost", "daemon_reload"), True),
        (diagnosed(RELOAD, "lost", "lost", "dev_char_links", SPECS), True),
        (diagnosed(RESIZE, "lost", "lost", "unknown"), True),
        (diagnosed(RESIZE, "kept", "missing", None), False),
    ],
)
def test_a_diagnosis_agrees_if_it_names_what_took_the_gpu(said: Diagnosed, agrees: bool) -> None:
    assert said.agrees is agrees


def test_the_audit_is_compared_with_all_that_was_seen_of_a_container() -> None:
    audited = Audited("2.4.2", "1.1.5+ds1", SPECS, False, "static", WHOLE, "none", [], None)
    found = Findings({}, audited=[audited]).with_rows([row(START, "kept")])
    assert (found.audited[0].measured, found.audited[0].agrees) == (None, True)
    found = found.with_rows([row(RELOAD, "lost")])
    assert (found.audited[0].measured, found.audited[0].agrees) == ("low", False)


def test_a_campaign_goes_on_with_what_was_not_observed(tmp_path: Path) -> None:
    found = Findings({}).with_rows([row(START, "kept", "none"), row(START, "lost", "none"), row(SWITCH, "lost")])
    file = tmp_path / "found.json"
    rows = [asdict(it) for it in found.rows]
    file.write_text(json.dumps({"rows": rows, "audited": [], "diagnosed": [], "switches": []}))
    found = Findings.read(file, {})
    setting = Setting("none", links=False)
    assert [it.outcome for it in found.of(START, setting, OLD)] == ["lost"]
    assert len(found.of(SWITCH, setting, OLD)) == 1
    assert not found.of(RESTART, setting, OLD)
    assert not found.of(START, setting, "1.5.3")
    assert not found.of(START, Setting("none", links=True), OLD)


def test_a_machine_needs_the_systemd_part() -> None:
    options = parser().parse_args(["gpu-loss", "--machine", "--sandbox", "x"])
    with pytest.raises(SandboxError, match="--systemd"):
        gpu_loss.run(options)


class Playbooks:
    """Stand-ins for kubepin's playbooks: what they were called with, and reports that they write."""

    def __init__(self, output: Path, problems: Sequence[str] = ()) -> None:
        self.output, self.problems = output, problems
        self.calls: list[tuple[str, dict[str, Any]]] = []

    def __call__(self, name: str, workers: Sequence[str] = (), **variables: Any) -> AnsibleRun:
        self.calls.append((name, variables))
        run = AnsibleRun.ended(0, "")
        if name == "audit-gpu-pods.yml":
            hooked = {"device_injection": HOOK} in variables["gpu_qos_nodes"].values()
            risk = {"grade": "high" if hooked else "low", "causes": [{"code": "daemon_reload"}]}
            self.write(variables, "gpu-pods/audit.json", {"pods": [{"name": f"{p}-x7", "risk": risk} for p in PODS]})
        elif name == "diagnose-gpu-pods.yml":
            containers = [{"pod": f"{PODS[0]}-x7", "state": "lost", "cause": "daemon_reload", "evidence": []}]
            node = {"error": "", "gpu_loss": {"containers": containers, "unknown": []}}
            self.write(variables, "gpu-diagnosis/diagnosis.json", {"nodes": [node]})
        elif self.problems and "gpu_qos_accept_risk" not in variables:
            listed = [{"code": code, "text": "t"} for code in self.problems]
            facts = {"kubepin_plan": {"problems": listed}, "kubepin_result": {"outcome": "refused"}}
            run.code, run.results = 2, [TaskResult("p", "t", "gpu-machine-1", 0.0, {"ansible_facts": facts})]
        return run

    def write(self, variables: dict[str, Any], path: str, value: Any) -> None:
        write_json(self.output / "runs" / variables["kubepin_run"] / path, value)


@pytest.mark.parametrize(("cpus", "machines", "problem"), [(5, 1, "has 5 CPUs: expected 6"), (6, 2, "expected one")])
def test_a_sandbox_needs_one_machine_with_cpus_for_all_pods(
    tmp_path: Path, cpus: int, machines: int, problem: str
) -> None:
    state = SimpleNamespace(name="lab", gpus=0, machine_shape=SimpleNamespace(cpus=cpus))
    sandbox: Any = SimpleNamespace(state=state, kubectl=None, workers=[], machines=[None] * machines)
    with pytest.raises(CheckFailed, match=problem):
        gpu_loss_machine.MachineLab(sandbox, print, tmp_path)


PODS = [subject(injection).pod for injection in (HOOK, SPECS)]


def lab_of(output: Path, playbooks: Playbooks) -> gpu_loss_machine.MachineLab:
    lab = object.__new__(gpu_loss_machine.MachineLab)
    lab.subjects = [subject(HOOK), subject(SPECS)]
    lab.settings = {"gpu-machine-1": Setting("none", links=False)}
    lab.findings, lab.output, lab.report = Findings({}), output, lambda _text: None
    lab.machine = SimpleNamespace(name="gpu-machine-1")  # type: ignore[assignment]
    lab.playbook = playbooks  # type: ignore[method-assign]
    return lab


def test_the_audit_of_the_hooks_pods_knows_that_a_hook_gives_the_gpu(tmp_path: Path) -> None:
    lab = lab_of(tmp_path, Playbooks(tmp_path))
    lab.audit()
    assert {it.injection: (it.grade, it.causes) for it in lab.findings.audited} == {
        SPECS: ("low", ["daemon_reload"]),
        HOOK: ("high", ["daemon_reload"]),
    }


def test_a_container_that_the_diagnosis_does_not_name_differs(tmp_path: Path) -> None:
    lab = lab_of(tmp_path, Playbooks(tmp_path))
    lab.watched = lab.subjects
    lab.diagnose([lab.result(it, RELOAD, "lost", 8, "refused") for it in lab.watched])
    said = {it.injection: (it.state, it.agrees) for it in lab.findings.diagnosed}
    assert said == {HOOK: ("lost", True), SPECS: ("missing", False)}


@pytest.mark.parametrize(("problems", "calls"), [([gpu_loss_kubepin.RISK], 2), ([], 1)])
def test_a_risk_is_accepted_only_if_kubepin_names_it(tmp_path: Path, problems: list[str], calls: int) -> None:
    playbooks = Playbooks(tmp_path, problems)
    lab = lab_of(tmp_path, playbooks)
    lab.happen(SWITCH)
    assert len(playbooks.calls) == calls
    assert [[*it["problems"]] for it in lab.findings.switches] == [problems]


def test_a_switch_that_is_refused_for_another_reason_ends_the_campaign(tmp_path: Path) -> None:
    with pytest.raises(CheckFailed, match="the switch failed"):
        lab_of(tmp_path, Playbooks(tmp_path, ["node_not_ready"])).happen(SWITCH)


MEASURED = Path(gpu_loss_machine.__file__).parent / "data/gpu-loss/machine.json"


def test_audit_and_diagnosis_said_what_was_measured() -> None:
    found = Findings.read(MEASURED, {})
    assert len(found.diagnosed) > len(found.audited) > 0
    # One audit had no answer of the machine within its time limit, and said so.
    assert [it for it in found.audited if not it.agrees and it.grade != "unknown"] == []
    assert [it for it in found.diagnosed if not it.agrees] == []


def test_what_was_measured_is_graded_and_named_by_the_rules_of_today() -> None:
    rows = Findings.read(MEASURED, {}).rows
    kubelet = json.loads(MEASURED.read_text())["kubelet"]
    lost = [it for it in rows if it.outcome == "lost"]
    assert {it.event for it in lost} >= {RELOAD, RESIZE, SWITCH}
    for it in lost:
        measured = measured_grade(by_container(rows)[it.key])
        assert measured in (None, grade(it, kubelet)), it
        assert diagnosis(it, kubelet)["cause"] == cause_of(it, it.event), it


def test_no_switch_is_made_unless_the_risk_is_accepted() -> None:
    for switch in Findings.read(MEASURED, {}).switches:
        assert (list(switch["problems"]), switch["outcome"]) == ([gpu_loss_kubepin.RISK], "tuned")
        assert any("gpu_qos_accept_risk is true" in warning for warning in switch["warnings"])
