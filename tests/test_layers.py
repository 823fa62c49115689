# SPDX-License-Identifier: GPL-3.0-or-later
"""The layers of docs/architecture.md: what a file of each may import, and what a role may name."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

PROJECT = Path(__file__).parents[1]
MODULE_UTILS = PROJECT / "collections/ansible_collections/kubepin/tuning/plugins/module_utils"
OURS = "ansible_collections.kubepin.tuning.plugins.module_utils."
ROLES = sorted(path.name for path in PROJECT.glob("roles/*"))

EFFECTS = {
    "ansible",
    "glob",
    "kubernetes",
    "open",
    "os",
    "pathlib",
    "shutil",
    "socket",
    "subprocess",
    "tempfile",
    "time",
}
"""What a decision has no use for: files, processes, the network, the clock, Ansible."""

EFFECTFUL = {
    "control/assess/reader.py": "asks the Kubernetes API",
    "control/cluster/api.py": "asks the Kubernetes API",
    "control/cluster/cordon.py": "cordons a node through the Kubernetes API",
    "control/cluster/process.py": "looks at the processes of this machine",
    "control/switch/archive.py": "writes the records of a node to this machine",
    "control/upgrade/cluster_reader.py": "asks the Kubernetes API",
    "control/benchmark/namespace.py": "makes a namespace, and waits for it",
    "control/gpu_pods/source.py": "reads pods from a file or the Kubernetes API",
}
"""Files of control/ that are not decisions, and why. No decision imports them."""

TESTS = MODULE_UTILS.parents[1] / "tests/unit/plugins/module_utils"
TESTED_WITH = {
    "common/layout.py": "control/switch/test_plan.py",
    "control/assess/reader.py": "control/assess/test_cluster.py",
    "control/check/node.py": "control/check/test_run.py",
    "control/check/pods.py": "control/check/test_run.py",
    "control/cpus/supplies.py": "control/cpus/test_remedies.py",
    "control/check/report.py": "control/check/test_run.py",
    "control/emit/node_settings.py": "control/emit/test_report.py",
    "control/gpu_access/document.py": "control/gpu_access/test_container_runtime.py",
    "control/gpu_access/programs.py": "control/gpu_access/test_container_runtime.py",
    "control/kubelet/field_sources.py": "control/kubelet/test_running.py",
    "control/kubelet/fields.py": "control/kubelet/test_decode.py",
    "control/kubelet/kubelet.py": "node/readers/test_kubelet.py",
    "control/module.py": "control/benchmark/test_namespace.py",
    "control/run/outcome.py": "control/switch/test_result.py",
    "control/switch/run.py": "../modules/test_kubelet_cpu_manager.py",
    "control/upgrade/removed_settings.py": "control/upgrade/test_plan.py",
    "control/upgrade/rules.py": "control/upgrade/test_plan.py",
    "node/readers/gpu_access.py": "control/gpu_access/test_loss.py",
    "node/readers/kubeadm.py": "node/upgrade/test_node_steps.py",
    "node/transaction/facts.py": "../modules/test_kubelet_cpu_manager.py",
    "node/transaction/records.py": "node/transaction/test_journal.py",
    "node/transaction/transaction.py": "node/transaction/test_switch.py",
    "node/transaction/undoing.py": "node/transaction/test_switch.py",
    "node/transaction/verification.py": "node/transaction/test_switch.py",
    "node/upgrade/package_change.py": "node/upgrade/test_node_steps.py",
    "node/upgrade/record.py": "node/upgrade/test_node_steps.py",
    "node/upgrade/targets.py": "node/upgrade/test_node_steps.py",
}
"""File without a test of its own name -> the test of what it is a part of, where users would notice its faults."""

TESTS_OF_SEVERAL_PLUGINS = {
    "filter/filters.py": "what all filters have in common",
    "modules/documentation.py": "what the documentation of all modules has in common",
    "modules/uninstall.py": "kubelet_cpu_manager with `state: absent`, apart from its switches",
}
"""Tests without a plugin of their name, and why."""

FILES = {str(path.relative_to(MODULE_UTILS)): path.read_text() for path in sorted(MODULE_UTILS.rglob("*.py"))}
DECISIONS = [name for name in FILES if not name.startswith("node/") and name not in EFFECTFUL]


def uses(text: str) -> set[str]:
    """The modules that a file imports, ours as paths below module_utils, and `open` if it calls it."""
    return set(_uses(ast.parse(text)))


def _uses(tree: ast.AST) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name.split(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and str(node.module).startswith(OURS):
            yield f"{str(node.module).removeprefix(OURS).replace('.', '/')}.py"
        elif isinstance(node, ast.ImportFrom):
            yield str(node.module).split(".")[0]
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "open":
            yield "open"


def breaches(folder: str, *forbidden: str) -> list[str]:
    """The imports of a folder's files that begin with a forbidden one."""
    return [
        f"{name} imports {used}"
        for name, text in FILES.items()
        if name.startswith(folder)
        for used in sorted(uses(text))
        if used.startswith(forbidden)
    ]


@pytest.mark.parametrize("name", DECISIONS)
def test_a_decision_touches_nothing(name: str) -> None:
    assert uses(FILES[name]) & (EFFECTS | set(EFFECTFUL)) == set()


@pytest.mark.parametrize("name", EFFECTFUL)
def test_only_files_that_touch_something_are_excepted(name: str) -> None:
    assert uses(FILES[name]) & (EFFECTS | set(EFFECTFUL))


def test_what_runs_on_a_node_does_not_need_the_control_node() -> None:
    assert breaches("node/", "control/") == []


def test_what_both_share_needs_neither() -> None:
    assert breaches("common/", "node/", "control/") == []


def own_test(name: str) -> Path:
    """Where the test of a file of module_utils is, which has the file's name."""
    path = TESTS / name
    return path.with_name(f"test_{path.name}")


@pytest.mark.parametrize("name", FILES)
def test_each_file_has_a_test_of_its_name_or_is_a_part_of_what_another_tests(name: str) -> None:
    if own_test(name).is_file():
        assert name not in TESTED_WITH
    else:
        assert (TESTS / TESTED_WITH.get(name, "no such test")).is_file(), f"{own_test(name)} is missing"


def test_no_test_is_left_of_a_file_that_is_gone() -> None:
    found = {str(path.relative_to(TESTS)) for path in TESTS.rglob("test_*.py")}
    assert found - {str(own_test(name).relative_to(TESTS)) for name in FILES} == set()
    assert set(TESTED_WITH) - set(FILES) == set()


PLUGINS = sorted(
    path.relative_to(MODULE_UTILS.parent)
    for kind in ("modules", "action", "filter", "inventory")
    for path in (MODULE_UTILS.parent / kind).glob("*.py")
)
UNIT = TESTS.parent


def test_each_plugin_has_a_test_of_its_name() -> None:
    """An action shares that of its module, which documents it."""
    tested = {path: UNIT / path.parent.name.replace("action", "modules") / f"test_{path.name}" for path in PLUGINS}
    assert len(PLUGINS) > 50
    assert [str(path) for path, test in tested.items() if not test.is_file()] == []


def test_no_test_is_left_of_a_plugin_that_is_gone() -> None:
    found = {f"{path.parent.name}/{path.name.removeprefix('test_')}" for path in UNIT.glob("*/test_*.py")}
    assert found - {str(path) for path in PLUGINS} == set(TESTS_OF_SEVERAL_PLUGINS)


def test_an_import_within_a_function_and_a_submodule_count() -> None:
    assert uses("def f():\n    import os.path\n    from ansible.errors import AnsibleError") == {"ansible", "os"}


def role_breaches(role: str, text: str) -> list[str]:
    """The groups and the private variables of other roles that a file of a role names."""
    others = "|".join(name for name in ROLES if name != role)
    private = re.findall(rf"\b__(?:{others})_\w+", text)
    return [name for name in private if not name.startswith(f"__{role}_")] + re.findall(
        r"(?<!\.)\bgroups(?:\[|\.)\S+", text
    )


@pytest.mark.parametrize("role", ROLES)
def test_a_role_names_no_group_and_no_private_variable_of_another_role(role: str) -> None:
    files = [path for path in sorted((PROJECT / "roles" / role).rglob("*")) if path.suffix in (".yml", ".j2")]
    found = {str(path.relative_to(PROJECT)): role_breaches(role, path.read_text()) for path in files}
    assert {path: names for path, names in found.items() if names} == {}


def test_what_a_role_may_not_name_is_found() -> None:
    text = "a: \"{{ groups['gpu_nodes'] + groups.all + plan.groups[:1] + __gpu_qos_audit + __report_folder }}\""
    assert role_breaches("report", text) == ["__gpu_qos_audit", "groups['gpu_nodes']", "groups.all"]


PLUGIN_FOLDER = MODULE_UTILS.parent
TEXT_ALLOWED = {
    "filter/facts.py": "Ansible has only a text for a filter that is misused in a template",
    "inventory/gpu_nodes.py": "an inventory has no result, only Ansible's error",
    "plugin_utils/control_node.py": "the arguments, in the words of Ansible's own validator",
}
"""Files that fail with a text, and why."""

ENDS = ("TuningError", "AnsibleError", "AnsibleActionFail", "AnsibleFilterError", "AnsibleParserError")
"""Exceptions that end a task, an inventory or a template."""


def texts(source: str) -> list[int]:
    """The lines where a plugin fails with a text and without problems that a program could read."""
    nodes = (node for node in ast.walk(ast.parse(source)) if isinstance(node, ast.expr))
    return [node.lineno for node in nodes if _fails_with_text(node)]


def _fails_with_text(node: ast.expr) -> bool:
    if isinstance(node, ast.Dict):
        keys = {key.value for key in node.keys if isinstance(key, ast.Constant)}
        return {"failed", "msg"} <= keys and "problems" not in keys and not _details(node.values)
    if not isinstance(node, ast.Call):
        return False
    name = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
    if name == "fail_json":
        values = [keyword.value for keyword in node.keywords]
        named = {keyword.arg for keyword in node.keywords} | {
            part.value for value in values for part in ast.walk(value) if isinstance(part, ast.Constant)
        }
        return "problems" not in named and not _details(values)
    return name in ENDS and bool(node.args) and isinstance(node.args[0], (ast.JoinedStr, ast.Constant, ast.BinOp))


def _details(values: list[ast.expr]) -> bool:
    """Whether one of them is what programs read of a TuningError."""
    return any(
        isinstance(part, ast.Attribute) and part.attr == "details" for value in values for part in ast.walk(value)
    )


def test_no_plugin_fails_with_a_bare_text() -> None:
    found = {
        str(path.relative_to(PLUGIN_FOLDER)): lines
        for path in sorted(PLUGIN_FOLDER.rglob("*.py"))
        if (lines := texts(path.read_text()))
    }
    assert {name: lines for name, lines in found.items() if name not in TEXT_ALLOWED} == {}
    assert set(TEXT_ALLOWED) <= set(found), "the exception is not needed any more"


@pytest.mark.parametrize(
    "source",
    [
        'raise TuningError("it is full")',
        'raise errors.AnsibleError(f"{name} is full")',
        'raise TuningError("it is " + "full")',
        "module.fail_json(msg=str(error))",
        'answer = {"failed": True, "msg": "it is full"}',
    ],
)
def test_a_bare_text_is_found(source: str) -> None:
    assert texts(source) == [1]


@pytest.mark.parametrize(
    "source",
    [
        "raise TuningError(problems.full(path))",
        "raise TuningError(*found)",
        "module.fail_json(msg=str(error), **error.details)",
        "module.fail_json(msg=problem.text, problems=to_dicts([problem]))",
        'answer = {**known, "failed": True, "msg": str(exc), **exc.details}',
    ],
)
def test_problems_are_no_bare_text(source: str) -> None:
    assert texts(source) == []
