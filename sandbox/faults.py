# SPDX-License-Identifier: GPL-3.0-or-later
"""Breaks runs of kubepin on real workers, one fault a row, and looks at what is left.

Of each row: is the kubelet up without help, is the cordon as before (or left on purpose, and said), does the next run converge, and is
the first cause shown. `sandbox.fault_hook` stops the program exactly before a step; kubepin has no code for it.
"""

from __future__ import annotations

import argparse
import json
import os
import queue
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from sandbox import fault_hook
from sandbox.cluster import Sandbox, node_ready, ready_sandbox
from sandbox.nodes import Node
from sandbox.settings import GPU_RESOURCE, Paths, SandboxError
from sandbox.shell import CommandFailed, wait_for

ROOT = Path(__file__).resolve().parents[1]
MARK = "kubepin.io/cordoned"
UP_SECONDS = 60
RUN_SECONDS = 420
# Longer than the probe's watch, and short enough for a campaign.
TIMEOUT = 45
# How long a switch waits for its confirmation, and the next run for a switch that nobody will confirm.
HOLD_SECONDS = 20
JSON_OUTPUT = {"ANSIBLE_LOAD_CALLBACK_PLUGINS": "1", "ANSIBLE_STDOUT_CALLBACK": "json"}
ENVIRONMENT = "/etc/default/kubelet"
PLACED = f"rename {ENVIRONMENT}"
"""The step between the kubelet's stop and its start."""
STATE_FILES = "/var/lib/kubelet/cpu_manager_state /var/lib/kubelet/memory_manager_state"

# What stands in for a broken kubelet: the real one runs behind it, unless the static policy is asked for.
WRAPPER = """#!/bin/bash
static() {{ grep -qs static {environment} /etc/kubernetes/kubelet.conf.d/*.conf; }}
if static; then {fault}; fi
exec -a /usr/bin/kubelet /usr/bin/kubelet.real "$@"
"""
AT_ONCE = "echo 'E0101 failed to run Kubelet: broken for the campaign' >&2; exit 1"
AFTER = (
    '(exec -a /usr/bin/kubelet /usr/bin/kubelet.real "$@") & sleep {0}; kill $!; '
    "echo 'E0101 failed to run Kubelet: broken after {0} s' >&2; exit 1"
)
NEVER = "echo 'E0101 failed to run Kubelet: waits for ever' >&2; exec sleep infinity"

RESET = f"""
umount /var/lib/kubepin/switches /etc/default 2>/dev/null
systemctl stop kubelet
[ ! -e /usr/bin/kubelet.real ] || mv /usr/bin/kubelet.real /usr/bin/kubelet
rm -rf {ENVIRONMENT} {STATE_FILES} /etc/kubernetes/kubelet.conf.d /var/lib/kubepin {fault_hook.FOLDER}
mkdir -p {fault_hook.FOLDER}
systemctl reset-failed kubelet
systemctl start kubelet
"""
# A small file system for the journal and the settings, which the hook then fills for real.
SMALL_DISK = """
set -e
mkdir -p /run/small /var/lib/kubepin/switches
mount -t tmpfs -o size=256k tmpfs /run/small
mkdir -p /run/small/switches /run/small/default
cp -a /etc/default/. /run/small/default/
cp -a /var/lib/kubepin/switches/. /run/small/switches/
mount --bind /run/small/switches /var/lib/kubepin/switches
mount --bind /run/small/default /etc/default
"""
LARGE_DISK = """
set -e
rm -f /run/small/*/.full
rm -rf /run/copy && mkdir /run/copy
cp -a /run/small/. /run/copy/
umount /var/lib/kubepin/switches /etc/default /run/small
cp -a /run/copy/switches/. /var/lib/kubepin/switches/
rm -f /etc/default/kubelet
cp -a /run/copy/default/. /etc/default/
rm -rf /run/copy
"""


@dataclass
class Row:
    """One fault: what was found, in words, and whether all of it is as it must be."""

    group: str
    fault: str
    kubelet: str = ""
    cordon: str = ""
    next_run: str = ""
    told: str = ""
    failed: str = ""
    seconds: int = 0


class Wrong(Exception):
    """A row fails; the text says what was found and what was expected."""


class Running:
    """A command of Ansible that goes on while its node is broken."""

    def __init__(self, command: Sequence[str], environment: dict[str, str]) -> None:
        self.process = subprocess.Popen(
            command,
            cwd=ROOT,
            env={**os.environ, **environment},
            stdin=subprocess.DEVNULL,
            text=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )

    def end(self, timeout: float = RUN_SECONDS) -> tuple[int, str]:
        """Wait for it: exit status and output."""
        try:
            output, _ = self.process.communicate(timeout=timeout)
        except subprocess.TimeoutExpired:
            self.kill()
            raise Wrong(f"the run did not end within {timeout:.0f} s") from None
        return self.process.returncode, output

    def kill(self) -> None:
        """SIGKILL for it and its children."""
        os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()


class Worker:
    """A node under test."""

    def __init__(self, sandbox: Sandbox, node: Node) -> None:
        self.sandbox, self.node, self.name = sandbox, node, node.name
        self.steps: Sequence[str] = ()
        """The steps of a switch that nobody disturbs."""
        self.environment = {"KUBEPIN_SANDBOX": sandbox.state.name, "ANSIBLE_NOCOLOR": "1", "ANSIBLE_FORCE_COLOR": "0"}

    def shell(self, script: str) -> str:
        """Run a script on the node."""
        return self.node.run("sh", "-c", script)

    def install_hook(self) -> None:
        """Let every Python of the node import the hook, which does nothing without a plan."""
        site = self.node.run("python3", "-c", "import site; print(site.getsitepackages()[0])").strip()
        self.node.write(f"{site}/kubepin_fault_hook.py", Path(fault_hook.__file__).read_text())
        self.node.write(f"{site}/kubepin_fault.pth", "import kubepin_fault_hook\n")

    def remove_hook(self) -> None:
        site = self.node.run("python3", "-c", "import site; print(site.getsitepackages()[0])").strip()
        self.node.run("rm", "-f", f"{site}/kubepin_fault_hook.py", f"{site}/kubepin_fault.pth")

    def arm(self, step: int, act: str, **more: Any) -> None:
        """Plan a fault before a step, counted over all programs of the node from now on."""
        self.node.run("rm", "-f", fault_hook.TRACE)
        self.node.write(fault_hook.PLAN, json.dumps({"step": step, "act": act, **more}))

    def disarm(self) -> None:
        self.node.run("rm", "-f", fault_hook.PLAN)

    def trace(self) -> list[str]:
        return self.node.run("cat", fault_hook.TRACE).splitlines()

    def wait_held(self) -> None:
        wait_for(f"{self.name}: the run is held", lambda: self.there(fault_hook.HELD), 180, 0.2)

    def there(self, path: str) -> bool:
        return self.node.run("sh", "-c", f"test -e {path} && echo yes || true").strip() == "yes"

    def release(self) -> None:
        self.node.run("touch", fault_hook.GO)

    def reset(self) -> None:
        """As it was joined: policy none, schedulable, no journal."""
        began = datetime.now(UTC).replace(microsecond=0)
        self.node.run("sh", "-c", RESET)
        self.uncordon()
        self.wait_up()
        # what the kubelet said before its restart is out of date
        wait_for(f"{self.name} is Ready with its GPU stand-in", partial(self.ready, began), 120)

    def ready(self, since: datetime) -> bool:
        node = self.object()
        return node_ready(node, since) and node["status"]["allocatable"].get(GPU_RESOURCE) == "1"

    def object(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self.sandbox.kubectl.run("get", "node", self.name, "-o", "json"))
        return found

    def cordon(self) -> None:
        self.sandbox.kubectl.run("cordon", self.name)

    def uncordon(self) -> None:
        self.sandbox.kubectl.run("uncordon", self.name)
        self.sandbox.kubectl.run("annotate", "node", self.name, f"{MARK}-")

    def cordoned(self) -> tuple[bool, bool]:
        """Whether it is cordoned, and whether it has kubepin's mark."""
        node = self.object()
        return bool(node["spec"].get("unschedulable")), MARK in node["metadata"].get("annotations", {})

    def up(self) -> bool:
        """Whether the kubelet answers."""
        health = "python3 -c \"import urllib.request as r; print(r.urlopen('http://127.0.0.1:10248/healthz').status)\""
        return (
            self.node.run("sh", "-c", f"systemctl is-active -q kubelet && {health} 2>/dev/null || true").strip()
            == "200"
        )

    def wait_up(self) -> float:
        started = time.monotonic()
        wait_for(f"{self.name}: the kubelet is up", self.up, UP_SECONDS, 0.3)
        return time.monotonic() - started

    def policy(self) -> str:
        state = self.node.run("cat", "/var/lib/kubelet/cpu_manager_state")
        return str(json.loads(state)["policyName"])

    def unfinished(self) -> bool:
        command = 'grep -ls \'"status": "begun"\' /var/lib/kubepin/switches/*.json || true'
        return bool(self.node.run("sh", "-c", command).strip())

    def module(self, **parameters: Any) -> dict[str, Any]:
        """The module alone, as an ad-hoc command: its result."""
        arguments = json.dumps({"timeout": TIMEOUT, **parameters})
        command = ["ansible", self.name, "-b", "-m", "kubepin.tuning.kubelet_cpu_manager", "-a", arguments]
        return result_of(Running(command, {**self.environment, **JSON_OUTPUT}).end()[1])

    def start_switch(self) -> Running:
        """The two tasks of a switch, as the role has them, without what comes before, between and after them."""
        variables = json.dumps({"timeout": TIMEOUT, "hold": HOLD_SECONDS})
        command = ["ansible-playbook", "sandbox/fault_switch.yml", "--limit", self.name, "-e", variables]
        return Running(command, {**self.environment, **JSON_OUTPUT})

    def switch(self) -> dict[str, Any]:
        """The result of the second task, or of the first if that failed."""
        return result_of(self.start_switch().end()[1])

    def start_playbook(self, *arguments: str, playbook: str = "tune-gpu-nodes.yml") -> Running:
        command = [
            "ansible-playbook",
            playbook,
            "--limit",
            self.name,
            "-e",
            f"cpu_manager_timeout={TIMEOUT}",
            *arguments,
        ]
        return Running(command, self.environment)

    def playbook(self, *arguments: str) -> tuple[int, str]:
        return self.start_playbook(*arguments).end()

    def wrap(self, fault: str) -> None:
        """Put a broken kubelet before the real one."""
        self.node.run("mv", "/usr/bin/kubelet", "/usr/bin/kubelet.real")
        self.node.write("/usr/bin/kubelet", WRAPPER.format(environment=ENVIRONMENT, fault=fault))
        self.node.run("chmod", "755", "/usr/bin/kubelet")

    def unwrap(self) -> None:
        self.shell("[ ! -e /usr/bin/kubelet.real ] || mv /usr/bin/kubelet.real /usr/bin/kubelet")


def result_of(output: str) -> dict[str, Any]:
    """The last task's result from the json callback's output.

    Raises Wrong if there is none.
    """
    start = output.find("{\n")
    try:
        play = json.loads(output[start:])["plays"][0]
        result: dict[str, Any] = next(iter(play["tasks"][-1]["hosts"].values()))
    except (ValueError, IndexError, KeyError, StopIteration):
        raise Wrong(f"Ansible printed no result: {output[-300:]}") from None
    return result


def expect(holds: bool, text: str) -> None:
    """Raise Wrong unless it holds."""
    if not holds:
        raise Wrong(text)


def flat(text: str) -> str:
    """Text without line breaks of a terminal."""
    return re.sub(r"\s+", " ", text)


def said(output: str, pattern: str) -> str:
    """The part of a run's output that matches; raises Wrong if it says nothing of the kind."""
    found = re.search(pattern, flat(output))
    expect(found is not None, f"not said: {pattern}; the end was: {flat(output)[-600:]}")
    assert found
    return found[0]


Act = Callable[[Worker, Row], None]


@dataclass(frozen=True)
class Fault:
    """A row to be: its group, what it is called and what it does, judgement included."""

    group: str
    title: str
    act: Act
    alone: bool = False
    """Whether no other row may run beside it."""


# The parts of a judgement


def judge_up(worker: Worker, row: Row) -> None:
    """The kubelet is up, without anybody's help."""
    seconds = worker.wait_up()
    row.kubelet = "up" if seconds < 1 else f"up after {seconds:.0f} s"


def judge_cordon(worker: Worker, row: Row, before: bool = False) -> None:
    """The cordon is as before, without kubepin's mark."""
    cordoned, marked = worker.cordoned()
    expect(cordoned == before, f"cordoned: {cordoned}, before: {before}")
    expect(not marked, f"the annotation {MARK} was left")
    row.cordon = "as before"


def judge_left_cordoned(worker: Worker, row: Row, output: str) -> None:
    """The cordon was left on purpose, marked as kubepin's, and that is said."""
    expect(worker.cordoned() == (True, True), f"cordoned and marked: {worker.cordoned()}, expected both")
    said(output, "stays cordoned")
    row.cordon = "left, and said"


def judge_module_again(worker: Worker, row: Row) -> None:
    """The next switch ends as asked, undoing an interrupted one first, and a third run has nothing to do."""
    unfinished = worker.unfinished()
    result = worker.module()
    expect(not result.get("failed"), f"the next run fails: {result.get('msg')}")
    expect(
        bool(result.get("repaired")) == unfinished,
        f"unfinished journal: {unfinished}, undone: {result.get('repaired')}",
    )
    expect(worker.policy() == "static" and worker.up(), "the next run left another policy, or no kubelet")
    expect(not worker.unfinished(), "a journal is still unfinished")
    row.next_run = "undoes the interrupted switch, converges" if unfinished else "converges"


def judge_playbook_again(worker: Worker, row: Row, before: bool = False) -> None:
    """The next run of the playbook tunes the node and gives it back."""
    code, output = worker.playbook()
    expect(code == 0, f"the next run fails: {flat(output)[-600:]}")
    expect(worker.policy() == "static" and worker.up(), "the next run left another policy, or no kubelet")
    expect(worker.cordoned() == (before, False), f"cordoned and marked after the next run: {worker.cordoned()}")
    row.next_run = "converges"


# The faults of the transaction on the node


def killed(step: int) -> Act:
    """SIGKILL before a step."""

    def act(worker: Worker, row: Row) -> None:
        worker.arm(step, "kill")
        result = worker.switch()
        expect(bool(result.get("failed")), "the killed module did not fail: the step was not reached")
        judge_up(worker, row)
        judge_cordon(worker, row)
        row.told = "killed" if worker.unfinished() else "killed, nothing begun"
        judge_module_again(worker, row)

    return act


def restarted(step: int) -> Act:
    """The node's power is cut before a step."""

    def act(worker: Worker, row: Row) -> None:
        worker.arm(step, "hold")
        run = worker.start_switch()
        worker.wait_held()
        worker.sandbox.shell.run(["docker", "kill", worker.name])
        run.kill()
        worker.node.boot()
        judge_up(worker, row)
        judge_cordon(worker, row)
        row.told = "power cut" if worker.unfinished() else "power cut, nothing begun"
        judge_module_again(worker, row)

    return act


def disk_full(step: int) -> Act:
    """The file systems of journal and settings are full from a write on."""

    def act(worker: Worker, row: Row) -> None:
        worker.shell(SMALL_DISK)
        try:
            worker.arm(step, "fill", paths=["/run/small/switches"])
            result = worker.switch()
            expect(bool(result.get("failed")), "the switch did not fail on a full disk")
            row.told = said(result["msg"], "No space left on device")
            judge_up(worker, row)
            judge_cordon(worker, row)
        finally:
            worker.shell(LARGE_DISK)
        judge_module_again(worker, row)

    return act


def disk_full_repair(worker: Worker, row: Row) -> None:
    """An interrupted switch is to be undone on a full disk."""
    worker.arm(steps_named(worker, PLACED), "kill")
    worker.switch()
    expect(worker.unfinished(), "nothing was interrupted")
    worker.shell(SMALL_DISK)
    try:
        worker.arm(1, "fill", paths=["/run/small/switches"])
        result = worker.module()
        expect(bool(result.get("failed")), "the undoing did not fail on a full disk")
        row.told = said(result["msg"], "was not undone: .*No space left on device")
        judge_up(worker, row)
        judge_cordon(worker, row)
    finally:
        worker.shell(LARGE_DISK)
    judge_module_again(worker, row)


def steps_named(worker: Worker, name: str) -> int:
    """The number of the first step of this name."""
    return next(number for number, step in enumerate(worker.steps, 1) if step == name)


def meet_refusal(worker: Worker, row: Row) -> None:
    """A second playbook on the node is refused."""
    code, output = worker.playbook()
    expect(code != 0, "the second run was not refused")
    row.told = said(output, "another run is changing this node right now")


def judge_first_run(worker: Worker, row: Row, first: Running) -> None:
    """The first playbook ends as if nobody had been there."""
    code, output = first.end()
    expect(code == 0, f"the first run fails: {flat(output)[-600:]}")
    judge_up(worker, row)
    judge_cordon(worker, row)
    judge_module_again(worker, row)


def two_runs(worker: Worker, row: Row) -> None:
    """A second playbook meets the first one in its transaction."""
    worker.arm(steps_named(worker, PLACED), "hold")
    first = worker.start_playbook()
    try:
        worker.wait_held()
        meet_refusal(worker, row)
    finally:
        worker.release()
    judge_first_run(worker, row, first)


def two_runs_in_verify(worker: Worker, row: Row) -> None:
    """A second playbook meets the first one while its probe pod watches, for long enough for the second one to plan."""
    first = worker.start_playbook("-e", "cpu_manager_probe_seconds=40", "-e", "cpu_manager_timeout=120")
    wait_for("the switch is held", lambda: worker.unfinished() and worker.policy() == "static", RUN_SECONDS)
    meet_refusal(worker, row)
    judge_first_run(worker, row, first)


def corrupted(text: str) -> Act:
    """A state file that no kubelet reads, written under the running one."""

    def act(worker: Worker, row: Row) -> None:
        worker.node.write("/var/lib/kubelet/cpu_manager_state", text)
        result = worker.module()
        expect(not result.get("failed"), f"the switch fails: {result.get('msg')}")
        changes = {change["path"]: change for change in result["changes"]}
        reason = changes["/var/lib/kubelet/cpu_manager_state"]["reason"]
        row.told = reason
        judge_up(worker, row)
        judge_cordon(worker, row)
        judge_module_again(worker, row)

    return act


def corrupted_journal(worker: Worker, row: Row) -> None:
    """A journal that cannot be read: refused by name, nothing touched."""
    worker.node.write("/var/lib/kubepin/switches/20260101T000000.000Z.json", "{")
    pid = worker.node.run("systemctl", "show", "-p", "MainPID", "kubelet")
    result = worker.module()
    expect(bool(result.get("failed")), "a damaged journal was not refused")
    row.told = said(result["msg"], r"\S+\.json cannot be read as a journal")
    expect(worker.node.run("systemctl", "show", "-p", "MainPID", "kubelet") == pid, "the kubelet was restarted")
    judge_up(worker, row)
    judge_cordon(worker, row)
    worker.shell("rm /var/lib/kubepin/switches/*")
    judge_module_again(worker, row)


# The faults of a whole run


def killed_in_playbook(worker: Worker, row: Row) -> None:
    """SIGKILL of the module within a playbook, which undoes it at once."""
    worker.arm(steps_named(worker, PLACED) + 1, "kill")
    code, output = worker.playbook()
    expect(code != 0, "the run did not fail")
    row.told = said(output, "Ansible's program on the node was killed by signal 9")
    judge_up(worker, row)
    expect(worker.policy() == "none", "the killed switch was not undone by the same run")
    judge_cordon(worker, row)
    judge_module_again(worker, row)


def ssh_cut(worker: Worker, row: Row) -> None:
    """The connection's sshd dies; the transaction goes on."""
    worker.arm(steps_named(worker, PLACED), "hold")
    run = worker.start_playbook()
    worker.wait_held()
    worker.shell("pkill -9 -f '[s]shd: root' || true")
    time.sleep(1)
    worker.release()
    code, output = run.end()
    expect(code != 0, "the run did not fail")
    row.told = said(output, "cannot be reached any more")
    judge_up(worker, row)
    judge_left_cordoned(worker, row, output)
    judge_playbook_again(worker, row)


def control_node_killed(worker: Worker, row: Row) -> None:
    """ansible-playbook and its children die within the transaction, which ends by itself."""
    worker.arm(steps_named(worker, PLACED), "hold")
    run = worker.start_playbook()
    worker.wait_held()
    run.kill()
    worker.release()
    wait_for(f"{worker.name}: the switch ends by itself", lambda: worker.policy() == "static", 60)
    row.told = "killed; the switch ended by itself, not confirmed"
    judge_up(worker, row)
    expect(worker.cordoned() == (True, True), f"cordoned and marked: {worker.cordoned()}, expected both")
    row.cordon = "left, marked as kubepin's"
    judge_playbook_again(worker, row)


def control_node_killed_in_verify(worker: Worker, row: Row) -> None:
    """ansible-playbook dies while the probe pod watches."""
    run = worker.start_playbook()
    name = f"kubepin-probe-{worker.name}"
    wait_for(
        "the probe pod is there",
        lambda: bool(worker.sandbox.kubectl.run("get", "pod", "-n", "kube-system", name, "--ignore-not-found")),
        RUN_SECONDS,
    )
    run.kill()
    row.told = "killed; probe pod left"
    judge_up(worker, row)
    expect(worker.cordoned() == (True, True), f"cordoned and marked: {worker.cordoned()}, expected both")
    row.cordon = "left, marked as kubepin's"
    judge_playbook_again(worker, row)
    found = worker.sandbox.kubectl.run("get", "pod", "-n", "kube-system", name, "--ignore-not-found")
    expect(not found, "the next run left the probe pod")
    row.next_run += ", removes the pod"


@contextmanager
def without_api_server(worker: Worker) -> Iterator[None]:
    """The static pod of the API server is gone."""
    node = worker.sandbox.control_plane
    manifest = "/etc/kubernetes/manifests/kube-apiserver.yaml"
    node.run("sh", "-c", f"mv {manifest} /etc/kubernetes/kube-apiserver.yaml; pkill -9 kube-apiserver || true")
    try:
        yield
    finally:
        node.run("mv", "/etc/kubernetes/kube-apiserver.yaml", manifest)
        wait_for("the API server answers", lambda: bool(worker.sandbox.kubectl.run("get", "--raw", "/readyz")), 180)


def api_server_pause(worker: Worker, row: Row) -> None:
    """The API server is away for less than the time that a run waits for it."""
    worker.arm(steps_named(worker, PLACED), "hold")
    run = worker.start_playbook("-e", "cpu_manager_timeout=120")
    worker.wait_held()
    with without_api_server(worker):
        worker.release()
        time.sleep(20)
    code, output = run.end()
    expect(code == 0, f"the run fails: {flat(output)[-600:]}")
    row.told = "waited for it, tuned"
    judge_up(worker, row)
    judge_cordon(worker, row)
    judge_module_again(worker, row)


def api_server_stopped(worker: Worker, row: Row) -> None:
    """The API server stays away."""
    worker.arm(steps_named(worker, PLACED), "hold")
    run = worker.start_playbook()
    worker.wait_held()
    with without_api_server(worker):
        worker.release()
        code, output = run.end()
        expect(code != 0, "the run did not fail")
        row.told = said(output, "(?i)connection refused|max retries exceeded|cannot be reached|no answer")[:160]
        judge_up(worker, row)
        expect(worker.policy() == "none", "the switch that the API did not confirm was not taken back")
    judge_left_cordoned(worker, row, output)
    judge_playbook_again(worker, row)


def broken_kubelet(fault: str, words: str, before: bool = False) -> Act:
    """A kubelet that does not do with the new settings."""

    def act(worker: Worker, row: Row) -> None:
        if before:
            worker.cordon()
        worker.wrap(fault)
        started = time.monotonic()
        code, output = worker.playbook()
        took = time.monotonic() - started
        expect(code != 0, "the run did not fail")
        row.told = f"{said(output, words)} (undone by the run, which took {took:.0f} s)"
        worker.unwrap()
        judge_up(worker, row)
        expect(worker.policy() == "none", f"policy {worker.policy()} is left, expected the old one")
        judge_cordon(worker, row, before)
        judge_module_again(worker, row)

    return act


def cordoned_by_another(worker: Worker, row: Row) -> None:
    """Somebody else's cordon outlives a run that succeeds."""
    worker.cordon()
    code, output = worker.playbook()
    expect(code == 0, f"the run fails: {flat(output)[-600:]}")
    row.told = "nothing to tell"
    judge_up(worker, row)
    judge_cordon(worker, row, before=True)
    judge_playbook_again(worker, row, before=True)


RUNS = [
    Fault("run", "the module is killed (SIGKILL) after the settings were written", killed_in_playbook),
    Fault("run", "the SSH connection is cut within the transaction", ssh_cut),
    Fault("run", "ansible-playbook is killed within the transaction", control_node_killed),
    Fault("run", "ansible-playbook is killed while the probe pod watches", control_node_killed_in_verify),
    Fault("run", "a second run on the node while the first one is in its transaction", two_runs),
    Fault("run", "a second run on the node while the first one's probe pod watches", two_runs_in_verify),
    Fault("run", "the node is cordoned by someone else", cordoned_by_another),
    Fault("run", "state file corrupted: no JSON", corrupted("{garbage")),
    Fault("run", "state file corrupted: checksum", corrupted('{"policyName":"none","defaultCpuSet":"","checksum":1}')),
    Fault("run", "journal of an earlier switch corrupted", corrupted_journal),
]
KUBELETS = [
    Fault("kubelet", "fails at once", broken_kubelet(AT_ONCE, "broken for the campaign")),
    Fault(
        "kubelet",
        "fails at once, on a node cordoned by someone else",
        broken_kubelet(AT_ONCE, "broken for the campaign", True),
    ),
    Fault("kubelet", "fails after 5 s", broken_kubelet(AFTER.format(5), "broken after 5 s")),
    Fault("kubelet", "fails after 15 s", broken_kubelet(AFTER.format(15), "broken after 15 s")),
    Fault("kubelet", "never gets healthy", broken_kubelet(NEVER, "/healthz does not answer")),
]
API = [
    Fault("api", "the API server is away for 20 s after the switch", api_server_pause, alone=True),
    Fault("api", "the API server is away for longer than a run waits", api_server_stopped, alone=True),
]
GROUPS = ("kill", "restart", "disk", "run", "kubelet", "api")
SAMPLE = {
    ("kill", "before: systemctl start kubelet"),
    ("disk", "full from: write /etc/default, 1."),
    ("run", "a second run on the node while the first one's probe pod watches"),
    ("kubelet", "fails at once"),
}
"""What `make test` runs of it."""


def faults_of(steps: Sequence[str], groups: Sequence[str]) -> list[Fault]:
    """The rows: one a step for the faults of the transaction, and the others."""
    found: list[Fault] = []
    for number, step in enumerate(steps, 1):
        short = re.sub(r"/var/lib/kubepin/switches/\S+", "journal", step)
        if step.startswith("write "):
            count = steps[:number].count(step)
            found.append(
                Fault(
                    "disk",
                    f"full from: {short.replace('/var/lib/kubepin/switches', 'journal')}, {count}.",
                    disk_full(number),
                )
            )
        else:
            found.append(Fault("kill", f"before: {short}", killed(number)))
            found.append(Fault("restart", f"before: {short}", restarted(number)))
    found.append(Fault("disk", "full while an interrupted switch is undone", disk_full_repair))
    return [fault for fault in [*found, *RUNS, *KUBELETS, *API] if fault.group in groups]


def taking_turns(faults: Sequence[Fault]) -> list[Fault]:
    """The same rows, group after group in turn: what was done of a stopped campaign is a part of every group."""
    place: dict[str, int] = {}
    ranked = []
    for fault in faults:
        place[fault.group] = place.get(fault.group, -1) + 1
        ranked.append((place[fault.group], fault))
    return [fault for _rank, fault in sorted(ranked, key=lambda item: item[0])]


class Campaign:
    """All rows, on all workers at once, with a line for each."""

    def __init__(self, sandbox: Sandbox, folder: Path) -> None:
        self.workers = [Worker(sandbox, node) for node in sandbox.workers]
        self.folder = folder
        self.done = 0
        self._lock = threading.Lock()
        self._total = 0

    def learn_steps(self) -> list[str]:
        """The steps of a switch that nobody disturbs."""
        worker = self.workers[0]
        worker.reset()
        worker.arm(0, "none")
        result = worker.switch()
        if result.get("failed"):
            raise SandboxError(f"an undisturbed switch fails: {result['msg']}")
        steps = worker.trace()
        worker.disarm()
        for each in self.workers:
            each.steps = steps
        return steps

    def run(
        self,
        groups: Sequence[str],
        passed: Collection[tuple[str, str]],
        only: Collection[tuple[str, str]] | None = None,
    ) -> None:
        """Run the rows of these groups but those that have passed; each is kept in the folder as soon as it has ended.

        Raises SandboxError if a row of *only* is none of the campaign.
        """
        for worker in self.workers:
            worker.install_hook()
        try:
            steps = self.learn_steps()
            print(f"{len(steps)} steps of an undisturbed switch:", *steps, sep="\n  ", flush=True)
            known = {(fault.group, fault.title): fault for fault in faults_of(steps, groups)}
            if missing := set(only or ()) - known.keys():
                raise SandboxError(f"the campaign has no rows {sorted(missing)}")
            faults = [known[row] for row in known if row not in passed and (only is None or row in only)]
            self._total = len(faults)
            waiting: queue.Queue[Fault] = queue.Queue()
            for fault in taking_turns(faults):
                if not fault.alone:
                    waiting.put(fault)
            threads = [
                threading.Thread(target=self._drain, args=(worker, waiting), daemon=True) for worker in self.workers
            ]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
            for fault in faults:
                if fault.alone:
                    self._row(self.workers[0], fault)
        finally:
            for worker in self.workers:
                worker.reset()
                worker.remove_hook()

    def _drain(self, worker: Worker, waiting: queue.Queue[Fault]) -> None:
        while True:
            try:
                fault = waiting.get_nowait()
            except queue.Empty:
                return
            self._row(worker, fault)

    def _row(self, worker: Worker, fault: Fault) -> None:
        row = Row(fault.group, fault.title)
        started = time.monotonic()
        try:
            worker.reset()
            fault.act(worker, row)
        except (Wrong, SandboxError, CommandFailed, KeyError, ValueError) as error:
            row.failed = str(error)
        row.seconds = round(time.monotonic() - started)
        with self._lock:
            keep(self.folder, row)
            self.done += 1
            done = self.done
        verdict = (
            f"FAILED: {row.failed}"
            if row.failed
            else f"kubelet {row.kubelet}; cordon {row.cordon}; next run {row.next_run}"
        )
        stamp = time.strftime("%H:%M:%S")
        print(
            f"{stamp} [{done}/{self._total}] {worker.name} {row.group}, {row.fault}: {verdict} ({row.seconds} s)",
            flush=True,
        )


HEADINGS = ("fault", "kubelet", "cordon", "next run", "what was said", "s")


def cells(row: Row) -> list[str]:
    """A row as it is shown."""
    if row.failed:
        return [
            f"{row.group}: {row.fault}",
            row.kubelet,
            row.cordon,
            row.next_run,
            f"FAILED: {row.failed}",
            str(row.seconds),
        ]
    return [f"{row.group}: {row.fault}", row.kubelet, row.cordon, row.next_run, row.told, str(row.seconds)]


def keep(folder: Path, row: Row) -> None:
    """Put a row in the place of an earlier one of that fault, or behind the others of its group."""
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / f"{row.group}.json"
    rows = {each["fault"]: each for each in (json.loads(file.read_text()) if file.exists() else [])}
    rows[row.fault] = asdict(row)
    file.write_text(json.dumps(list(rows.values()), indent=1) + "\n")


def read_rows(folder: Path) -> list[Row]:
    """What all parts of the campaign found."""
    return [
        Row(**row)
        for group in GROUPS
        if (folder / f"{group}.json").exists()
        for row in json.loads((folder / f"{group}.json").read_text())
    ]


def show(folder: Path) -> int:
    """Print the table and write it as Markdown; the number of failed rows."""
    rows = read_rows(folder)
    table = Table(title="Faults: what is left of a run, and what the next one makes of it")
    lines = [HEADINGS, ("---",) * len(HEADINGS)]
    for heading in HEADINGS:
        table.add_column(heading)
    for row in rows:
        texts = cells(row)
        table.add_row(*(f"[red]{text}[/]" if row.failed else text for text in texts))
        lines.append(tuple(text.replace("|", "\\|").replace("\n", " ") for text in texts))
    Console(width=None if sys.stdout.isatty() else 200, markup=True).print(table)
    failed = sum(bool(row.failed) for row in rows)
    print(f"{len(rows)} rows, {failed} failed", flush=True)
    (folder / "table.md").write_text("".join(f"| {' | '.join(line)} |\n" for line in lines))
    return failed


def main(arguments: Sequence[str] | None = None) -> int:
    """`NAME FOLDER [GROUP ...]`: exit status 1 if a row fails."""
    parser = argparse.ArgumentParser(prog="python -m sandbox.faults", description=__doc__)
    parser.add_argument("name", help="the sandbox; its workers are switched and broken, and left untuned")
    parser.add_argument("folder", type=Path, help="where the results go")
    parser.add_argument("groups", nargs="*", metavar="GROUP", help=f"a part of: {', '.join(GROUPS)}")
    parser.add_argument(
        "--continue", dest="go_on", action="store_true", help="leave out rows that passed in FOLDER before"
    )
    parser.add_argument("--sample", action="store_true", help="one row each of some groups, for `make test`")
    options = parser.parse_args(arguments)
    if options.sample and options.groups:
        parser.error("--sample takes no GROUP: it has rows of its own")
    groups = options.groups or list(GROUPS)
    if unknown := [group for group in groups if group not in GROUPS]:
        parser.error(f"unknown group {', '.join(unknown)}: expected some of {', '.join(GROUPS)}")
    if not options.go_on:
        for group in groups:
            (options.folder / f"{group}.json").unlink(missing_ok=True)
    passed = {(row.group, row.fault) for row in read_rows(options.folder) if not row.failed}
    try:
        with ready_sandbox(Paths.from_environment(), options.name) as sandbox:
            Campaign(sandbox, options.folder).run(groups, passed, SAMPLE if options.sample else None)
    except SandboxError as error:
        print(f"faults: {error}", file=sys.stderr)
        return 1
    return int(show(options.folder) > 0)


if __name__ == "__main__":
    sys.exit(main())
