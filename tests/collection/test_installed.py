# SPDX-License-Identifier: GPL-3.0-or-later
"""The collection as somebody has it who never saw the repository: built, installed into an empty folder, run from another one."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

pytestmark = pytest.mark.component

PROJECT = Path(__file__).parents[2]
PLAYBOOKS = sorted(path.stem.replace("-", "_") for path in PROJECT.glob("playbooks/*.yml"))
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


@pytest.fixture
def run(installed: Path, tmp_path: Path) -> Run:
    """Runs an Ansible command on this host in an empty folder, with the installed collection."""

    def in_empty_folder(*command: str) -> str:
        host = ("-i", "localhost,", "-c", "local", "-e", f"ansible_python_interpreter={sys.executable}")
        return output_of(tmp_path, *command, *host, ANSIBLE_COLLECTIONS_PATH=str(installed))

    return in_empty_folder


def test_every_playbook_is_found_by_its_name_with_all_its_roles(run: Run) -> None:
    shown = run("ansible-playbook", "--list-tasks", *(f"kubepin.tuning.{name}" for name in PLAYBOOKS))
    listed = [
        Path(line.removeprefix("playbook: ")).stem for line in shown.splitlines() if line.startswith("playbook: ")
    ]
    assert listed == PLAYBOOKS
    assert "kubepin.tuning.cpu_manager : Plan | Plan the kubelet's settings" in shown


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


def test_the_benchmark_that_the_roles_call_is_in_it(installed: Path) -> None:
    called_from = installed / "ansible_collections/kubepin/tuning"  # role_path/../..
    logs = [str(PROJECT / "tests/benchmark/data" / name) for name in ("amd-epyc7773x-rtx3090.log", "intel-rtx3090.log")]
    assert "intel-rtx3090" in output_of(called_from, sys.executable, "-m", "benchmark", "compare", *logs)
    assert (called_from / "benchmark/pod/__main__.py").exists()


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
