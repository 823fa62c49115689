# SPDX-License-Identifier: GPL-3.0-or-later
"""With --limit, which leaves localhost out, a playbook works on the hosts that are left or says that there are none."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.topologies import MACHINES, tree, write

pytestmark = pytest.mark.component

PROJECT = Path(__file__).parents[2]


def play(folder: Path, playbook: str, *arguments: str, **variables: object) -> str:
    """What a run on two nodes and a control plane prints that are this machine, which has no kubelet."""
    here = {"ansible_connection": "local", "ansible_become": False, "ansible_python_interpreter": sys.executable}
    nodes = {"gpu-01": here, "gpu-02": here}
    inventory = folder / "hosts.json"
    inventory.write_text(
        json.dumps({"all": {"children": {"gpu_nodes": {"hosts": nodes}, "control_plane": {"hosts": {"cp-01": here}}}}})
    )
    given = json.dumps({"kubepin_runs": str(folder / "runs"), "kubepin_run": "here", **variables})
    done = subprocess.run(
        [Path(sys.executable).parent / "ansible-playbook", "-i", inventory, playbook, "-e", given, *arguments],
        cwd=PROJECT,
        env={**os.environ, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}", "KUBECONFIG": "/none"},
        capture_output=True,
        text=True,
        check=False,
    )
    return f"{done.stdout}{done.stderr}\nexit status {done.returncode}"


@pytest.mark.parametrize(
    ("playbook", "variables", "report", "file"),
    [
        (
            "diagnose-gpu-pods.yml",
            {},
            "kubepin: 0 running containers with a GPU on 1 node:",
            "gpu-diagnosis/diagnosis.txt",
        ),
        ("preview-gpu-nodes.yml", {}, "kubepin: preview of 1 node under the static policy.", "preview/preview.txt"),
        ("emit-node-settings.yml", {"node_settings_formats": ["drop-in"]}, "Nothing was written. ", None),
        ("audit-gpu-pods.yml", {"gpu_qos_pods_file": "PODS"}, "kubepin: 0 GPU pods", "gpu-pods/audit.txt"),
    ],
)
def test_one_node_of_two_is_reported(
    tmp_path: Path, playbook: str, variables: dict[str, object], report: str, file: str | None
) -> None:
    pods = tmp_path / "pods.json"
    pods.write_text(json.dumps({"kind": "List", "items": []}))
    given = {name: str(pods) if value == "PODS" else value for name, value in variables.items()}
    printed = play(tmp_path, playbook, "--limit", "gpu-01", **given)
    assert report in printed
    assert "gpu-02" not in printed
    assert file is None or (tmp_path / "runs/here" / file).is_file()


@pytest.mark.parametrize(
    "playbook",
    [
        "audit-gpu-pods.yml",
        "benchmark-gpu-nodes.yml",
        "check-gpu-nodes.yml",
        "diagnose-gpu-pods.yml",
        "emit-node-settings.yml",
        "preview-gpu-nodes.yml",
        "probe-host.yml",
        "rollback-gpu-nodes.yml",
        "tune-gpu-nodes.yml",
        "uninstall-gpu-nodes.yml",
    ],
)
def test_a_limit_that_leaves_no_node_is_an_error_with_the_way_out(tmp_path: Path, playbook: str) -> None:
    printed = " ".join(play(tmp_path, playbook, "--limit", "cp-01").split())
    assert '--limit "cp-01" leaves no host of the group gpu_nodes, so there is nothing to do.' in printed
    assert "Limit the run to hosts of that group: gpu-01, gpu-02." in printed
    assert printed.endswith("exit status 2")


def test_what_is_for_the_whole_cluster_is_refused_with_a_limit(tmp_path: Path) -> None:
    printed = " ".join(play(tmp_path, "enforce-gpu-pods.yml", "--limit", "gpu-01").split())
    assert '--limit "gpu-01" leaves out localhost, so nothing was done' in printed
    assert "Run it without --limit." in printed
    assert printed.endswith("exit status 2")


def test_a_comparison_of_which_the_limit_leaves_one_side_is_refused(tmp_path: Path) -> None:
    groups = {"compare_platforms_a": "gpu_nodes", "compare_platforms_b": "control_plane"}
    printed = " ".join(play(tmp_path, "compare-platforms.yml", "--limit", "cp-01", **groups).split())
    assert "each with hosts, of which --limit leaves some" in printed
    assert printed.endswith("exit status 2")


@pytest.mark.parametrize(
    ("playbook", "variables", "file"),
    [
        (
            "emit-node-settings.yml",
            {
                "node_settings_dump": "DUMP",
                "node_settings_formats": ["drop-in"],
                "node_settings_kubelet_version": "1.36.3",
            },
            "node-settings/settings.txt",
        ),
        ("preview-gpu-nodes.yml", {"node_preview_dump": "DUMP"}, "preview/preview.txt"),
    ],
)
def test_a_dump_is_read_with_any_limit(tmp_path: Path, playbook: str, variables: dict[str, object], file: str) -> None:
    dump = tmp_path / "gpu-09"
    write(tree(MACHINES["one-socket"]), dump)
    given = {name: str(dump) if value == "DUMP" else value for name, value in variables.items()}
    play(tmp_path, playbook, "--limit", "gpu-01", **given)
    assert "gpu-09" in (tmp_path / "runs/here" / file).read_text()
