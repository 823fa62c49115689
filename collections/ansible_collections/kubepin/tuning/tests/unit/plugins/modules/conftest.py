# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import importlib
import json
import typing as t
from types import SimpleNamespace

import pytest
from ansible.errors import AnsibleActionFail
from ansible.module_utils.testing import patch_module_args

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
