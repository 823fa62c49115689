# SPDX-License-Identifier: GPL-3.0-or-later
"""Runs in a node, in a mount namespace of its own: starts a real kubelet for each job and reports what came of it.

    unshare --mount python3 standalone_kubelet_node.py [TREE] < jobs > results

TREE is a folder whose sys/devices/system/{cpu,node} and proc/cpuinfo the kubelet gets to see instead of the machine's. A
job is a line of JSON: `id`, `kubelet` (a path), `config` (a KubeletConfiguration), `flags`, `files` (name -> text, put
into the kubelet's root directory before it starts), `pods` (manifests, in the order in which the kubelet is to admit
them) and `seconds`. A result is a line of JSON: `id`, `exit` (the exit status; None if the kubelet came to admit pods, and
so past the start of its container manager; "timeout" if neither happened), `files` (the state files then) and `log`.
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
    for name in OVERLAID:
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

    def end(self) -> int | None:
        """Kills it; returns the exit status that it had before, if it had ended."""
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
        if done and job["pods"]:
            for pod in [*job["pods"], marker(LAST)]:
                kubelet.add(pod)
            done = kubelet.admits(LAST)
            time.sleep(SETTLE_SECONDS)
    finally:
        status = kubelet.end()
    files = {name: (WORK / "root" / name).read_text() for name in KEPT if (WORK / "root" / name).exists()}
    log = (WORK / "log").read_bytes()[-LOG_BYTES:].decode(errors="replace")
    exit_status = None if done else "timeout" if status is None else status
    return {"id": job["id"], "exit": exit_status, "files": files, "log": log}


def run_in_own_folder(job: dict[str, Any]) -> dict[str, Any]:
    """A job's result, from a folder of its own that is gone afterwards, with what the kubelet has mounted below it."""
    WORK.mkdir(parents=True, exist_ok=True)
    subprocess.run(["mount", "-t", "tmpfs", "standalone-kubelet", str(WORK)], check=True)
    try:
        return run(job)
    finally:
        subprocess.run(["umount", "--lazy", str(WORK)], check=True)


def main() -> None:
    """Runs job after job."""
    if len(sys.argv) > 1:
        show(Path(sys.argv[1]))
    make_pods_cgroup()
    for line in sys.stdin:
        print(json.dumps(run_in_own_folder(json.loads(line))), flush=True)


if __name__ == "__main__":
    main()
