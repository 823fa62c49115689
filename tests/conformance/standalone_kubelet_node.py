# SPDX-License-Identifier: GPL-3.0-or-later
"""Runs in a node, in a mount namespace of its own: starts a real kubelet for each job and reports what came of it.

    unshare --mount python3 standalone_kubelet_node.py [TREE] < jobs > results

TREE is a folder whose sys/devices/system/{cpu,node} and proc/cpuinfo the kubelet gets to see instead of the machine's, and
proc/meminfo and sys/kernel/mm/hugepages, if it has them. A job is a line of JSON: `id`, `kubelet` (a path), `config` (a
KubeletConfiguration), `flags`, `files` (name -> text, put into the kubelet's root directory before it starts), `pods`
(manifests, in the order in which the kubelet is to admit them), `plugins` (resource -> arguments of its device plugin, which
starts after the kubelet) and `seconds`. A result is a line of JSON: `id`, `exit` (the exit status; None if the kubelet came to
admit pods, and so past the start of its container manager; "timeout" if neither happened), `files` (the state files then) and
`log`.
Standard library only.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

WORK = Path("/var/tmp/standalone-kubelet")
DEVICE_PLUGIN = "/root/device-plugin"
DEVICE_PLUGINS = Path("/var/lib/kubelet/device-plugins")
DEVICE_STATE = "kubelet_internal_checkpoint"
OVERLAID_IF_ANY = ("proc/meminfo", "sys/kernel/mm/hugepages")
OVERLAID = ("sys/devices/system/cpu", "sys/devices/system/node", "proc/cpuinfo")
KEPT = ("cpu_manager_state", "memory_manager_state")
FIRST, LAST = "aa-first", "zz-last"
CGROUPS = Path("/sys/fs/cgroup")
POLL_SECONDS = 0.02
# The kubelet logs why it refused a pod in a thread of its own.
SETTLE_SECONDS = 0.2
LOG_BYTES = 1_000_000


def show(tree: Path) -> None:
    """Mounts a machine's files over this one's, in this mount namespace."""
    for name in [*OVERLAID, *(name for name in OVERLAID_IF_ANY if (tree / name).exists())]:
        subprocess.run(["mount", "--bind", str(tree / name), f"/{name}"], check=True)


def make_pods_cgroup() -> None:
    """Makes the cgroup of all pods (cgroup v1), as if a kubelet had run before.

    The first kubelet makes it, and with the policy none gives it all CPUs of the machine that it sees, which this machine
    may not have (getCgroupConfig in pkg/kubelet/cm/node_container_manager_linux.go).
    """
    if not (CGROUPS / "cgroup.controllers").exists():
        for controller in CGROUPS.iterdir():
            if os.access(controller, os.W_OK):
                (controller / "kubepods").mkdir(exist_ok=True)


def marker(name: str) -> dict[str, Any]:
    """A pod without requests."""
    return {"name": name, "spec": {"containers": [{"name": "c", "image": "none", "imagePullPolicy": "Never"}]}}


class Kubelet:
    """The kubelet of one job."""

    def __init__(self, job: dict[str, Any]) -> None:
        self.deadline = time.monotonic() + job["seconds"]
        self.number = 0
        self.plugins: list[subprocess.Popen[bytes]] = []
        for folder in ("root", "pods", "new"):
            (WORK / folder).mkdir()
        for name, text in job["files"].items():
            path = WORK / "root" / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
        (WORK / "config.json").write_text(json.dumps(job["config"]))
        self.add(marker(FIRST))
        command = [job["kubelet"], f"--config={WORK}/config.json", f"--root-dir={WORK}/root", *job["flags"]]
        with (WORK / "log").open("wb") as log:
            self.process = subprocess.Popen(command, stdout=log, stderr=log, start_new_session=True)

    def add(self, pod: dict[str, Any]) -> None:
        """Puts a static pod into the kubelet's folder, whole at once. The kubelet takes them in the order in which they
        come, and those that it finds together in the order of their creation times."""
        self.number += 1
        name = pod["name"]
        created = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(1_600_000_000 + self.number))
        manifest = {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {"name": name, "namespace": "default", "uid": name, "creationTimestamp": created},
            "spec": {"hostNetwork": True, "terminationGracePeriodSeconds": 0, **pod["spec"]},
        }
        new = WORK / "new" / f"{name}.json"
        new.write_text(json.dumps(manifest))
        new.rename(WORK / "pods" / new.name)

    def admits(self, name: str) -> bool:
        """Waits until the kubelet has made the folder of a pod: it has dealt with all pods before it."""
        folder = WORK / "root" / "pods" / name
        while not folder.exists():
            if self.process.poll() is not None or time.monotonic() > self.deadline:
                return False
            time.sleep(POLL_SECONDS)
        return True

    def offers(self, plugins: dict[str, list[str]]) -> bool:
        """Starts device plugins, and waits until the kubelet has noted their devices."""
        for resource, arguments in plugins.items():
            command = [DEVICE_PLUGIN, str(DEVICE_PLUGINS), resource, *arguments]
            with (WORK / "plugins.log").open("ab") as log:
                self.plugins.append(subprocess.Popen(command, stdout=log, stderr=log))
        while any(len(devices) + 1 != len(plugins[resource]) for resource, devices in self.noted(plugins).items()):
            if self.process.poll() is not None or time.monotonic() > self.deadline:
                return False
            time.sleep(POLL_SECONDS)
        return True

    def noted(self, plugins: dict[str, list[str]]) -> dict[str, list[str]]:
        """The devices of these resources that the kubelet has written to its state file."""
        try:
            known = json.loads((DEVICE_PLUGINS / DEVICE_STATE).read_text())["Data"]["RegisteredDevices"] or {}
        except FileNotFoundError:
            known = {}
        return {resource: known.get(resource) or [] for resource in plugins}

    def end(self) -> int | None:
        """Kills it; returns the exit status that it had before, if it had ended."""
        for plugin in self.plugins:
            plugin.kill()
            plugin.wait()
        status = self.process.poll()
        if status is None:
            os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()
        return status


def run(job: dict[str, Any]) -> dict[str, Any]:
    """Starts the kubelet of a job, gives it the pods, and kills it as soon as it has dealt with them."""
    kubelet = Kubelet(job)
    try:
        # From the first pod on, the kubelet knows all of its sources, and frees the CPUs of pods that it refused.
        done = kubelet.admits(FIRST)
        done = done and kubelet.offers(job["plugins"])
        if done and job["pods"]:
            for pod in [*job["pods"], marker(LAST)]:
                kubelet.add(pod)
            done = kubelet.admits(LAST)
            time.sleep(SETTLE_SECONDS)
    finally:
        status = kubelet.end()
    states = [*(WORK / "root" / name for name in KEPT), DEVICE_PLUGINS / DEVICE_STATE]
    files = {path.name: path.read_text() for path in states if path.exists()}
    log = (WORK / "log").read_bytes()[-LOG_BYTES:].decode(errors="replace")
    exit_status = None if done else "timeout" if status is None else status
    return {"id": job["id"], "exit": exit_status, "files": files, "log": log}


def run_in_own_folders(job: dict[str, Any]) -> dict[str, Any]:
    """A job's result, from folders of its own that are gone afterwards, with what the kubelet has mounted below them."""
    folders = (WORK, DEVICE_PLUGINS)
    for folder in folders:
        folder.mkdir(parents=True, exist_ok=True)
        subprocess.run(["mount", "-t", "tmpfs", "standalone-kubelet", str(folder)], check=True)
    try:
        return run(job)
    finally:
        for folder in folders:
            subprocess.run(["umount", "--lazy", str(folder)], check=True)


def main() -> None:
    """Runs job after job."""
    if len(sys.argv) > 1:
        show(Path(sys.argv[1]))
    make_pods_cgroup()
    for line in sys.stdin:
        print(json.dumps(run_in_own_folders(json.loads(line))), flush=True)


if __name__ == "__main__":
    main()
