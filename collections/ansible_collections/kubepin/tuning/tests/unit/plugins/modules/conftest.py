# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import contextlib
import importlib
import json
import signal
import typing as t
from pathlib import Path
from types import SimpleNamespace

import pytest
from ansible.errors import AnsibleActionFail
from ansible.module_utils.testing import patch_module_args
from ansible.playbook.task import Task
from ansible_collections.kubepin.tuning.plugins.module_utils.node.transaction import switch
from ansible_collections.kubepin.tuning.plugins.modules import kubelet_switch, kubelet_switch_info
from ansible_collections.kubepin.tuning.tests.unit.samples import machines
from ansible_collections.kubepin.tuning.tests.unit.samples.simulated_node import ENV, STATE, SimulatedNode

ACTIONS = "ansible_collections.kubepin.tuning.plugins.action"
MODULES = "ansible_collections.kubepin.tuning.plugins.modules"
Answer = t.Callable[..., t.Dict[str, t.Any]]


@pytest.fixture
def plan(answer: Answer, monkeypatch: pytest.MonkeyPatch) -> Answer:
    """What an action plugin that plans on the control node returns; the modules that it calls run in this process."""

    def run(name: str, _ansible_check_mode: bool = False, **params: t.Any) -> dict[str, t.Any]:
        action = importlib.import_module(f"{ACTIONS}.{name}").ActionModule

        def call(module_name: str, module_args: dict[str, t.Any], task_vars: object) -> dict[str, t.Any]:
            module = module_name.rpartition(".")[2]
            return answer(module, _ansible_check_mode=_ansible_check_mode, **module_args)

        connection = SimpleNamespace(_shell=SimpleNamespace(tmpdir=None))
        task = SimpleNamespace(args=params, check_mode=_ansible_check_mode, async_val=0, diff=False, action=name)
        made = action(task, connection, SimpleNamespace(), None, None, None)
        monkeypatch.setattr(made, "_execute_module", call)
        monkeypatch.setattr(made, "_remove_tmp_path", lambda path: None)
        try:
            result: dict[str, t.Any] = json.loads(json.dumps(made.run()))
        except AnsibleActionFail as refused:
            return {"failed": True, "msg": str(refused)}
        return result

    return run


@pytest.fixture
def answer(capsys: pytest.CaptureFixture[str]) -> Answer:
    """What a module prints when it is run with some parameters."""

    def run(name: str, **params: t.Any) -> dict[str, t.Any]:
        module = importlib.import_module(f"{MODULES}.{name}")
        with patch_module_args(params), pytest.raises(SystemExit):
            module.main()
        result: dict[str, t.Any] = json.loads(capsys.readouterr().out)
        return result

    return run


@pytest.fixture
def act() -> Answer:
    """Runs an action that evaluates timings, on the control node as Ansible does."""

    def run(action: t.Any, arguments: dict[str, t.Any], check_mode: bool = False) -> dict[str, t.Any]:
        task = Task()
        task.args = arguments
        task.check_mode = check_mode
        unused: t.Any = None
        result: dict[str, t.Any] = action.ActionModule(task, unused, unused, unused, unused, unused).run(None, {})
        return result

    return run


@pytest.fixture
def timings(tmp_path: Path) -> Path:
    """Five rounds of two arms, of which static is faster, as the program in the pod writes them."""
    common = {"schema": 1, "run_id": "r1", "process": 0}
    cell = {"model": "resnet18", "precision": "half", "mode": "inference", "batch": 64}
    lines = [
        line
        for number in range(1, 6)
        for arm, ms in (("none-auto", 12.0), ("static-auto", 10.0))
        for line in (
            {**common, "kind": "process", "arm": arm, "round": number, "env": {}},
            {
                **common,
                "kind": "block",
                "arm": arm,
                "round": number,
                **cell,
                "status": "ok",
                "iter_ms": [ms + number / 1000],
            },
        )
    ]
    file = tmp_path / "timings" / "run.jsonl"
    file.parent.mkdir()
    file.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return file.parent


@pytest.fixture
def node(monkeypatch: pytest.MonkeyPatch) -> SimulatedNode:
    """The node that the modules see."""
    node = SimulatedNode()

    def read_sources(run: object) -> dict[str, t.Any]:
        found = machines.sources(extra_args=node.files[ENV])
        found["state"]["cpu_manager"]["text"] = node.read(STATE)
        return found

    for module in (kubelet_switch, kubelet_switch_info):
        monkeypatch.setattr(module, "Node", lambda *_: node)
    monkeypatch.setattr(switch, "NodeLock", contextlib.nullcontext)
    monkeypatch.setattr(kubelet_switch_info, "read_topology", machines.topology_facts)
    monkeypatch.setattr(kubelet_switch_info, "read_sources", read_sources)
    monkeypatch.setattr(
        kubelet_switch_info, "read_system_daemons", lambda run: machines.daemon_facts(node.files, node.allowed_cpus_of)
    )
    monkeypatch.setattr(signal, "signal", lambda number, handler: None)  # pytest needs its own
    return node


@pytest.fixture
def run(node: SimulatedNode, plan: Answer) -> Answer:
    """Runs the action a minute after its last run."""

    def later(**params: t.Any) -> dict[str, t.Any]:
        node.clock += 60
        return plan("kubelet_cpu_manager", **params)

    return later


@pytest.fixture
def kubelet_without_runtime(monkeypatch: pytest.MonkeyPatch) -> None:
    """A node whose kubelet names no container runtime that is known."""
    module = importlib.import_module(f"{MODULES}.kubelet_info")
    found = machines.sources(version=None)
    monkeypatch.setattr(module, "read_sources", lambda run: found)
    monkeypatch.setattr(module, "read_programs", lambda run: pytest.fail("no program needs to be run for this"))
