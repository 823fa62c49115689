# SPDX-License-Identifier: GPL-3.0-or-later
"""The collection as somebody has it who never saw the repository: built, installed into an empty folder, run from another one."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

pytestmark = pytest.mark.component

PROJECT = Path(__file__).parents[2]
PLAYBOOKS = sorted(f"kubepin.tuning.{path.stem}" for path in PROJECT.glob("playbooks/*.yml"))
PARTS = ("meta", "playbooks", "plugins", "roles")
RESOURCES = {"limits": {"nvidia.com/gpu": "1"}, "requests": {"cpu": "500m", "nvidia.com/gpu": "1"}}
POD = {
    "apiVersion": "v1",
    "kind": "Pod",
    "metadata": {"name": "train", "namespace": "ml"},
    "spec": {"containers": [{"name": "torch", "image": "registry.example.org/torch:1", "resources": RESOURCES}]},
    "status": {"phase": "Running", "qosClass": "Burstable"},
}
Run = Callable[..., str]


def output_of(folder: Path, *command: str, **environment: str) -> str:
    """What a command prints that must succeed in `folder`, with nothing of the repository in its environment."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("ANSIBLE_", "PYTHON", "KUBE"))}
    kept["PATH"] = f"{Path(sys.executable).parent}:{kept['PATH']}"
    done = subprocess.run(command, cwd=folder, env=kept | environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The path that the collection was installed into."""
    folder = tmp_path_factory.mktemp("collection")
    output_of(folder, sys.executable, str(PROJECT / "tools/collection.py"), str(folder))
    (archive,) = folder.glob("kubepin-tuning-*.tar.gz")
    path = folder / "path"
    output_of(
        folder, "ansible-galaxy", "collection", "install", "--offline", "--no-deps", "-p", str(path), str(archive)
    )
    return path


@pytest.fixture(scope="module")
def alone(installed: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A path with nothing but the parts of the collection that Ansible loads."""
    path = tmp_path_factory.mktemp("alone")
    for part in PARTS:
        collection = "ansible_collections/kubepin/tuning"
        shutil.copytree(installed / collection / part, path / collection / part, symlinks=True)
    return path


@pytest.fixture
def run(alone: Path, tmp_path: Path) -> Run:
    """Runs an Ansible command on this host in an empty folder, with the collection alone."""

    def in_empty_folder(*command: str) -> str:
        host = ("-i", "localhost,", "-c", "local", "-e", f"ansible_python_interpreter={sys.executable}")
        return output_of(tmp_path, *command, *host, ANSIBLE_COLLECTIONS_PATH=str(alone))

    return in_empty_folder


def named(shown: str) -> list[str]:
    """The playbooks that Ansible says it has loaded."""
    return [
        f"kubepin.tuning.{Path(line.removeprefix('playbook: ')).stem}"
        for line in shown.splitlines()
        if line.startswith("playbook: ")
    ]


def test_every_playbook_is_found_by_its_name_with_all_its_roles(run: Run) -> None:
    assert named(run("ansible-playbook", "--syntax-check", *PLAYBOOKS)) == PLAYBOOKS


def test_a_playbook_has_the_same_name_in_the_repository() -> None:
    shown = output_of(PROJECT, "ansible-playbook", "--syntax-check", "-i", "localhost,", *PLAYBOOKS)
    assert named(shown) == PLAYBOOKS


def test_no_link_is_left(alone: Path) -> None:
    assert [path for path in alone.rglob("*") if path.is_symlink()] == []


def test_a_module_runs(run: Run) -> None:
    shown = run("ansible", "localhost", "-m", "kubepin.tuning.cpu_topology_info")
    assert "SUCCESS" in shown
    assert '"sockets"' in shown


def test_a_playbook_runs_and_writes_below_the_current_folder(run: Run, tmp_path: Path) -> None:
    (tmp_path / "pods.json").write_text(json.dumps({"apiVersion": "v1", "kind": "List", "items": [POD]}))
    variables = f"gpu_qos_pods_file={tmp_path}/pods.json kubepin_run=audit"
    shown = run("ansible-playbook", "kubepin.tuning.audit_gpu_pods", "-e", variables)
    assert "ml/train" in shown
    assert "ml/train" in (tmp_path / "runs/audit/gpu-pods/audit.txt").read_text()


def test_a_role_runs_from_a_playbook_of_somebody_else(run: Run, tmp_path: Path) -> None:
    (tmp_path / "pods.json").write_text(json.dumps({"apiVersion": "v1", "kind": "List", "items": [POD]}))
    role = {"name": "kubepin.tuning.gpu_qos"}
    variables = {"gpu_qos_pods_file": "pods.json", "gpu_qos_run": "mine", "gpu_qos_fail_on": "none"}
    play = {
        "hosts": "localhost",
        "gather_facts": False,
        "vars": variables,
        "tasks": [{"ansible.builtin.import_role": role}],
    }
    (tmp_path / "mine.yml").write_text(json.dumps([play]))
    run("ansible-playbook", "mine.yml")
    assert (tmp_path / "runs/mine/gpu-pods/audit.json").exists()


def test_the_action_group_has_every_module_that_reaches_the_api() -> None:
    collection = PROJECT / "collections/ansible_collections/kubepin/tuning"
    group = yaml.safe_load((collection / "meta/runtime.yml").read_text())["action_groups"]["api"]
    modules = (collection / "plugins/modules").glob("*.py")
    assert group == sorted(module.stem for module in modules if "  - kubepin.tuning.api\n" in module.read_text())


def test_module_defaults_of_the_action_group_name_the_kubeconfig(run: Run, tmp_path: Path) -> None:
    play = {
        "hosts": "localhost",
        "gather_facts": False,
        "module_defaults": {"group/kubepin.tuning.api": {"kubeconfig": "/nowhere/kubeconfig"}},
        "tasks": [
            {"kubepin.tuning.node_api_info": {"node": "gpu-01"}, "register": "found", "ignore_errors": True},
            {"ansible.builtin.assert": {"that": ["'/nowhere/kubeconfig' in found.msg"]}},
        ],
    }
    (tmp_path / "mine.yml").write_text(json.dumps([play]))
    run("ansible-playbook", "mine.yml")


def timings(folder: Path) -> str:
    """A folder with five rounds of two arms, of which static is faster, as the program in the pod writes them."""
    common = {"schema": 1, "run_id": "r1", "process": 0}
    cell = {"kind": "block", "model": "resnet18", "precision": "half", "mode": "inference", "batch": 64, "status": "ok"}
    lines = [
        {**common, **line, "arm": arm, "round": number}
        for number in range(1, 6)
        for arm, ms in (("none-auto", 12.0), ("static-auto", 10.0))
        for line in ({"kind": "process", "env": {}}, {**cell, "iter_ms": [ms + number / 1000]})
    ]
    folder.mkdir()
    (folder / "run.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    return str(folder)


def test_recorded_timings_are_summarized_and_compared(run: Run, tmp_path: Path) -> None:
    folder = timings(tmp_path / "timings")
    fact = {
        "node": "gpu-01",
        "runs": {
            "before": {"folder": folder, "main_arms": {"none": "none-auto"}},
            "after": {"folder": folder, "main_arms": {"static": "static-auto"}},
        },
    }
    tasks: list[dict[str, object]] = [
        {"kubepin.tuning.benchmark_timings_info": {"sources": [folder]}, "register": "read"},
        {"ansible.builtin.set_fact": {"kubepin_benchmark": fact}},
        {"ansible.builtin.include_role": {"name": "kubepin.tuning.report", "tasks_from": "benchmark"}},
        {
            "ansible.builtin.copy": {
                "content": "{{ {'comparison': kubepin_comparison, 'summary': read.summary} | to_json }}",
                "dest": str(tmp_path / "found.json"),
            }
        },
    ]
    variables = {"report_run": "mine", "report_started": 0}
    # the action runs in Ansible's process, which has no use for what the task asks of a process of its own
    play = {"hosts": "localhost", "gather_facts": False, "vars": variables, "environment": {"A": "b"}, "tasks": tasks}
    (tmp_path / "mine.yml").write_text(json.dumps([play]))
    run("ansible-playbook", "mine.yml")
    found = json.loads((tmp_path / "found.json").read_text())
    assert found["comparison"]["problems"] == []
    assert found["comparison"]["verdict"] == "BEATS"
    assert found["comparison"]["report"] == str(tmp_path / "runs/mine/benchmark/gpu-01/report.html")
    assert "static-auto" in Path(found["comparison"]["report"]).read_text()
    assert list(found["summary"]["arms"]) == ["none-auto", "static-auto"]


@pytest.mark.parametrize("role", ["gpu_benchmark", "host_probe"])
def test_the_program_of_the_pod_is_a_file_of_its_role(alone: Path, role: str) -> None:
    files = alone / "ansible_collections/kubepin/tuning/roles" / role / "files"
    assert "usage" in output_of(files, sys.executable, "-m", "pod", "--help")


def test_the_execution_environment_has_all_that_it_copies(installed: Path, tmp_path: Path) -> None:
    (tmp_path / "dist").symlink_to(installed.parent)
    definition = PROJECT / "execution-environment.yml"
    (tmp_path / definition.name).write_text(definition.read_text())
    output_of(tmp_path, "ansible-builder", "create", "--context", "context", "--output-filename", "Containerfile")
    (archive,) = installed.parent.glob("*.tar.gz")
    assert (tmp_path / "context/_build/collections" / archive.name).exists()
    requirements = (tmp_path / "context/_build/requirements.yml").read_text()
    assert f"collections/{archive.name}" in requirements
    assert "python3.11" in (tmp_path / "context/Containerfile").read_text()
    tree = installed / "ansible_collections/kubepin/tuning"
    assert "kubernetes==" in (tree / "requirements.txt").read_text()
    assert "openssh-clients" in (tree / "bindep.txt").read_text()
