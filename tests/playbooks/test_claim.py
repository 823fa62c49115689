# SPDX-License-Identifier: GPL-3.0-or-later
"""The claim of a node by role cpu_manager; an HTTP server stands in for the API server."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from ansible_collections.kubepin.tuning.plugins.module_utils.control.cluster.mark import Mark, mark_of
from ansible_collections.kubepin.tuning.plugins.module_utils.control.cluster.process import _here
from ansible_collections.kubepin.tuning.tests.unit.samples.api_server import StandIn, kubeconfig, stand_in

PROJECT = Path(__file__).parents[2]
NODE = "/api/v1/nodes/gpu-01"
NOW = int(time.time())
PLAN = {"problems": [], "changed": True, "settings": [], "changes": [], "notes": [], "gpus_free": 0}
ROLE = {"ansible.builtin.include_role": {"name": "cpu_manager", "tasks_from": "claim"}}
RELEASE = {"ansible.builtin.include_role": {"name": "cpu_manager", "tasks_from": "release"}}


@pytest.fixture
def server() -> Iterator[StandIn]:
    with stand_in() as listening:
        yield listening


def play(server: StandIn, folder: Path, *tasks: dict[str, Any], **variables: Any) -> tuple[int, str]:
    """The exit code and the output of a play with these tasks on host gpu-01."""
    (folder / "admin.conf").write_text(kubeconfig(f"http://127.0.0.1:{server.port}"))
    known = {
        "cpu_manager_kubeconfig": str(folder / "admin.conf"),
        "kubepin_run": "mine",
        "kubepin_plan": {**PLAN, "cordoned_before": False},
        "__cpu_manager_kubelet": {},
        **variables,
    }
    book = folder / "claim.yml"
    book.write_text(yaml.safe_dump([{"hosts": "gpu-01", "gather_facts": False, "vars": known, "tasks": [*tasks]}]))
    environment = {**os.environ, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
    environment["ANSIBLE_ROLES_PATH"] = str(PROJECT / "roles")
    command = ["ansible-playbook", "-i", "gpu-01,", "-c", "local", str(book)]
    done = subprocess.run(command, cwd=PROJECT, env=environment, capture_output=True, text=True, check=False)
    return done.returncode, " ".join((done.stdout + done.stderr).split())


def test_a_free_node_is_marked_and_given_back(server: StandIn, tmp_path: Path) -> None:
    server.add_node()
    code, output = play(server, tmp_path, ROLE)
    assert code == 0, output
    mark = mark_of(server.objects[NODE])
    assert mark is not None
    assert (mark.purpose, mark.run) == ("present", "mine")
    assert mark.process
    code, output = play(server, tmp_path, ROLE, RELEASE)
    assert code == 0, output
    assert mark_of(server.objects[NODE]) is None
    assert server.objects[NODE]["spec"] == {}


THEIRS = Mark("present", "theirs", "there", NOW, NOW + 3600)


@pytest.mark.parametrize(
    ("mark", "words"),
    [
        (THEIRS, "by run theirs on there"),
        (Mark("upgrade"), "finish its work with upgrade-cluster.yml"),
    ],
    ids=["another run's", "an upgrade's"],
)
def test_a_node_that_is_taken_is_refused_and_left_as_it_is(
    server: StandIn, tmp_path: Path, mark: Mark, words: str
) -> None:
    server.add_node(annotations={"kubepin.io/cordoned": mark.dump()})["spec"]["unschedulable"] = True
    result = {"ansible.builtin.debug": {"msg": "the outcome is {{ kubepin_result.outcome }}"}}
    code, output = play(server, tmp_path, {"block": [ROLE], "always": [result]})
    assert code != 0
    assert words in output
    assert mark_of(server.objects[NODE]) == mark
    assert "the outcome is refused" in output


def test_a_node_of_a_run_whose_process_was_killed_here_is_taken_over(server: StandIn, tmp_path: Path) -> None:
    killed = Mark("present", "theirs", "here", NOW, NOW + 3600, f"{_here()} {os.getpid()} 1")
    server.add_node(annotations={"kubepin.io/cordoned": killed.dump()})["spec"]["unschedulable"] = True
    code, output = play(server, tmp_path, ROLE)
    assert code == 0, output
    mark = mark_of(server.objects[NODE])
    assert mark is not None
    assert mark.run == "mine"


def test_a_node_is_taken_over_on_request(server: StandIn, tmp_path: Path) -> None:
    server.add_node(annotations={"kubepin.io/cordoned": THEIRS.dump()})["spec"]["unschedulable"] = True
    code, output = play(server, tmp_path, ROLE, cpu_manager_take_over=True)
    assert code == 0, output
    mark = mark_of(server.objects[NODE])
    assert mark is not None
    assert mark.run == "mine"
