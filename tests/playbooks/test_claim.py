# SPDX-License-Identifier: GPL-3.0-or-later
"""The claim of a node by role cpu_manager; an HTTP server stands in for the API server."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from ansible_collections.kubepin.tuning.plugins.module_utils.control.cluster.mark import Mark, mark_of
from ansible_collections.kubepin.tuning.plugins.module_utils.control.cluster.process import _here
from ansible_collections.kubepin.tuning.tests.unit.samples.api_server import StandIn, kubeconfig, stand_in

PROJECT = Path(__file__).parents[2]
NOW = int(time.time())
PLAN = {
    "problems": [],
    "changed": True,
    "settings": [],
    "changes": [],
    "notes": [],
    "gpu_probe": "none",
    "remaining": [],
}
PLAY = """
- hosts: all
  gather_facts: false
  tasks:
    - block:
        - ansible.builtin.include_role: {name: cpu_manager, tasks_from: claim}
      always:
        - ansible.builtin.debug: {msg: "{{ inventory_hostname }} is {{ kubepin_result.outcome | default('claimed') }}"}
"""
RELEASE = """
- hosts: all
  gather_facts: false
  tasks:
    - ansible.builtin.include_role: {name: cpu_manager, tasks_from: release}
"""
THEIRS = Mark("present", "theirs", "there", NOW, NOW + 3600)
KILLED = Mark("present", "theirs", "here", NOW, NOW + 3600, f"{_here()} {os.getpid()} 1")
"""The process has a start time that this one has not."""
MARKS = {"free": None, "theirs": THEIRS, "upgrade": Mark("upgrade"), "killed": KILLED, "on-request": THEIRS}


@dataclass(frozen=True)
class Played:
    """What a play came to: the nodes afterwards, and what it printed, by spaces."""

    code: int
    output: str
    nodes: dict[str, Any]

    def mark(self, name: str) -> Mark | None:
        return mark_of(self.nodes[name])


def play(server: StandIn, folder: Path, text: str, *names: str) -> Played:
    """Runs the play on nodes of the stand-in; node on-request is to be taken over."""
    (folder / "admin.conf").write_text(kubeconfig(f"http://127.0.0.1:{server.port}"))
    known = {
        "ansible_connection": "local",
        "cpu_manager_kubeconfig": str(folder / "admin.conf"),
        "kubepin_run": "mine",
        "kubepin_plan": {**PLAN, "cordoned_before": False},
        "__cpu_manager_kubelet": {},
    }
    hosts = {name: {"cpu_manager_take_over": name == "on-request"} for name in names}
    (folder / "hosts.yml").write_text(yaml.safe_dump({"all": {"hosts": hosts, "vars": known}}))
    (folder / "claim.yml").write_text(text)
    environment = {**os.environ, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
    environment["ANSIBLE_ROLES_PATH"] = str(PROJECT / "roles")
    command = ["ansible-playbook", "-i", str(folder / "hosts.yml"), str(folder / "claim.yml")]
    done = subprocess.run(command, cwd=PROJECT, env=environment, capture_output=True, text=True, check=False)
    nodes = {name: server.objects[f"/api/v1/nodes/{name}"] for name in names}
    return Played(done.returncode, " ".join((done.stdout + done.stderr).split()), nodes)


def test_nodes_that_are_free_left_or_asked_for_are_taken_and_others_are_refused_and_left_as_they_are(
    tmp_path: Path,
) -> None:
    with stand_in() as server:
        for name, mark in MARKS.items():
            if mark:
                node = server.add_node(name, annotations={"kubepin.io/cordoned": mark.dump()})
                node["spec"]["unschedulable"] = True
            else:
                server.add_node(name)
        played = play(server, tmp_path, PLAY, *MARKS)
        released = play(server, tmp_path, RELEASE, "free")

    for name in ("free", "killed", "on-request"):
        taken = played.mark(name)
        assert taken is not None, played.output
        assert (taken.purpose, taken.run) == ("present", "mine"), name
        assert taken.process
        assert f"{name} is claimed" in played.output
    for name, words in (("theirs", "by run theirs on there"), ("upgrade", "finish its work with upgrade-cluster.yml")):
        assert played.mark(name) == MARKS[name]
        assert words in played.output
        assert f"{name} is refused" in played.output
    assert played.code != 0

    assert released.code == 0, released.output
    assert released.mark("free") is None
    assert released.nodes["free"]["spec"] == {}
