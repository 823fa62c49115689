# SPDX-License-Identifier: GPL-3.0-or-later
"""A worker of a sandbox that is switched, broken and looked at, and Ansible's commands that do it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import tempfile
import time
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

from sandbox.cluster import Sandbox, node_ready
from sandbox.nodes import Node
from sandbox.settings import GPU_RESOURCE
from sandbox.shell import wait_for
from tests.campaigns import fault_hook
from tests.campaigns.base import JSON_LINES, ROOT, AnsibleRun, CheckFailed

MARK = "kubepin.io/cordoned"
UP_SECONDS = 60
RUN_SECONDS = 420
# Longer than the probe's watch, and short enough for a campaign.
TIMEOUT = 45
# How long a switch waits for its confirmation, and the next run for a switch that no run will confirm.
HOLD_SECONDS = 20
ENVIRONMENT = "/etc/default/kubelet"
PLACED = f"rename {ENVIRONMENT}"
"""The step between the kubelet's stop and its start."""
SMALL_FOLDERS = "/var/lib/kubepin/switches /etc/default /etc/kubernetes/kubelet.conf.d"
"""Where the journal and the settings are, each a small file system of its own while a disk is to be full."""
STATE_FILES = "/var/lib/kubelet/cpu_manager_state /var/lib/kubelet/memory_manager_state"

# What stands in for a broken kubelet: the real one runs behind it, unless the static policy is asked for.
WRAPPER = """#!/bin/bash
static() {{ grep -qs static {environment} /etc/kubernetes/kubelet.conf.d/*.conf; }}
if static; then {fault}; fi
exec -a /usr/bin/kubelet /usr/bin/kubelet.real "$@"
"""

RESET = f"""
umount {SMALL_FOLDERS} 2>/dev/null
systemctl stop kubelet
[ ! -e /usr/bin/kubelet.real ] || mv /usr/bin/kubelet.real /usr/bin/kubelet
rm -rf {ENVIRONMENT} {STATE_FILES} /etc/kubernetes/kubelet.conf.d /var/lib/kubepin {fault_hook.FOLDER}
mkdir -p {fault_hook.FOLDER}
systemctl reset-failed kubelet
systemctl start kubelet
"""


class Running:
    """A command of Ansible that goes on while its node is broken."""

    def __init__(self, command: Sequence[str], environment: dict[str, str]) -> None:
        # Not a pipe: nobody reads it before the end, and a run that fills it would stand still.
        self._output = tempfile.TemporaryFile("w+", encoding="utf-8")  # noqa: SIM115  it outlives this method
        self.process = subprocess.Popen(
            command,
            cwd=ROOT,
            env={**os.environ, **environment, **JSON_LINES},
            stdin=subprocess.DEVNULL,
            text=True,
            stdout=self._output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )

    def end(self, timeout: float = RUN_SECONDS) -> AnsibleRun:
        """Wait for it."""
        try:
            code = self.process.wait(timeout)
        except subprocess.TimeoutExpired:
            self.kill()
            raise CheckFailed(f"the run did not end within {timeout:.0f} s") from None
        self._output.seek(0)
        return AnsibleRun.ended(code, self._output.read())

    def kill(self) -> None:
        """SIGKILL for it and its children."""
        os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()


class Worker:
    """A node under test."""

    def __init__(self, sandbox: Sandbox, node: Node) -> None:
        self.sandbox, self.node, self.name = sandbox, node, node.name
        self.steps: Sequence[str] = ()
        """The steps of an undisturbed switch."""
        self.commands: Mapping[bool, Sequence[str]] = {}
        """Whether the settings are sound -> the commands of a switch with such settings."""
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

    def wait_held(self, seconds: float = 180) -> None:
        wait_for(f"{self.name}: the run is held", lambda: self.there(fault_hook.HELD), seconds, 0.2)

    def text(self, path: str) -> str | None:
        """The text of a file, None if it does not exist."""
        return self.node.run("cat", path) if self.there(path) else None

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

    def annotate(self, key: str, value: str | None) -> None:
        """Set an annotation of the node, or remove it."""
        self.sandbox.kubectl.run("annotate", "node", self.name, f"{key}-" if value is None else f"{key}={value}")

    def ready(self, since: datetime) -> bool:
        node = self.object()
        return node_ready(node, since) and node["status"]["allocatable"].get(GPU_RESOURCE, "0") != "0"

    def object(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self.sandbox.kubectl.run("get", "node", self.name, "-o", "json"))
        return found

    def cordon(self) -> None:
        self.sandbox.kubectl.run("cordon", self.name)

    def uncordon(self) -> None:
        self.sandbox.kubectl.run("uncordon", self.name)
        self.annotate(MARK, None)

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

    def wait_up(self, seconds: float = UP_SECONDS) -> float:
        """Wait until the kubelet answers; after how many seconds it did."""
        started = time.monotonic()
        wait_for(f"{self.name}: the kubelet is up", self.up, seconds, 0.3)
        return time.monotonic() - started

    def policy(self) -> str:
        state = self.node.run("cat", "/var/lib/kubelet/cpu_manager_state")
        return str(json.loads(state)["policyName"])

    def drafts(self) -> list[str]:
        """The drafts and backups of switches that are left."""
        return self.shell(f"find {SMALL_FOLDERS} -name '.*.kubepin' 2>/dev/null || true").split()

    def unfinished(self) -> bool:
        command = 'grep -ls \'"status": "begun"\' /var/lib/kubepin/switches/*.json || true'
        return bool(self.node.run("sh", "-c", command).strip())

    def module(self, **parameters: Any) -> dict[str, Any]:
        """The module alone, as an ad-hoc command: its result."""
        arguments = json.dumps({"timeout": TIMEOUT, **parameters})
        command = ["ansible", self.name, "-b", "-m", "kubepin.tuning.kubelet_cpu_manager", "-a", arguments]
        return dict(Running(command, self.environment).end().last)

    def start_switch(self) -> Running:
        """The two tasks of a switch, as the role has them, without what comes before, between and after them."""
        variables = json.dumps({"timeout": TIMEOUT, "hold": HOLD_SECONDS})
        command = ["ansible-playbook", "tests/campaigns/fault_switch.yml", "--limit", self.name, "-e", variables]
        return Running(command, self.environment)

    def switch(self) -> dict[str, Any]:
        """The result of the second task, or of the first if that failed."""
        return dict(self.start_switch().end().last)

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

    def playbook(self, *arguments: str) -> AnsibleRun:
        return self.start_playbook(*arguments).end()

    def wrap(self, fault: str) -> None:
        """Put a broken kubelet before the real one."""
        self.node.run("mv", "/usr/bin/kubelet", "/usr/bin/kubelet.real")
        self.node.write("/usr/bin/kubelet", WRAPPER.format(environment=ENVIRONMENT, fault=fault))
        self.node.run("chmod", "755", "/usr/bin/kubelet")

    def unwrap(self) -> None:
        self.shell("[ ! -e /usr/bin/kubelet.real ] || mv /usr/bin/kubelet.real /usr/bin/kubelet")
