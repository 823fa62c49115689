# SPDX-License-Identifier: GPL-3.0-or-later
"""Runs on a machine: waits until the kubelet answers, and prints what the machine's files are, as JSON.

    python3 power_cut_look.py SECONDS

For the campaign `power-cuts` only. Standard library only.
"""

from __future__ import annotations

import json
import os
import stat
import subprocess
import sys
import time
import urllib.request
import zlib
from typing import Any

FOLDERS = ("/etc/default", "/etc/kubernetes", "/var/lib/kubelet", "/var/lib/kubepin", "/usr/bin")
NAMES = ("/etc/default/kubelet", "/etc/kubernetes/", "/usr/bin/kube")
CONFIGURATION = ("/var/lib/kubelet/config.yaml", "/var/lib/kubelet/kubeadm-flags.env")
STATE = "/var/lib/kubelet/cpu_manager_state"
RECORDS = ("/var/lib/kubepin/switches/", "/var/lib/kubepin/upgrades/")
PAUSE_SECONDS = 0.2


def up() -> bool:
    """Whether the kubelet answers."""
    try:
        with urllib.request.urlopen("http://127.0.0.1:10248/healthz", timeout=2) as answer:
            return bool(answer.status == 200)
    except OSError:
        return False


def wait_up(seconds: float) -> float | None:
    """After how many seconds the kubelet answers; None if it does not in time."""
    began = time.monotonic()
    while not up():
        if time.monotonic() - began > seconds:
            return None
        time.sleep(PAUSE_SECONDS)
    return time.monotonic() - began


def look_at(path: str) -> list[Any]:
    """What must be whole of a file: its content's size and checksum, owner, group and mode.

    CRC-32, because emulated CPUs take long for others, and the kubelet is large.
    """
    status = os.stat(path)
    with open(path, "rb") as file:
        content = f"{status.st_size} bytes, {zlib.crc32(file.read()):08x}"
    return [content, status.st_uid, status.st_gid, stat.S_IMODE(status.st_mode)]


def state_of(path: str) -> str:
    """The status of a record of a switch or an upgrade, or why it cannot be read."""
    try:
        with open(path, encoding="utf-8") as file:
            return str(json.load(file)["status"])
    except (OSError, ValueError, KeyError) as error:
        return f"unreadable: {error!r}"


def policy() -> str | None:
    """The policy in the kubelet's state file; None without one."""
    try:
        with open(STATE, encoding="utf-8") as file:
            return str(json.load(file)["policyName"])
    except FileNotFoundError:
        return None


def look(seconds: float) -> dict[str, Any]:
    """Everything."""
    found: dict[str, Any] = {"up": wait_up(seconds), "files": {}, "drafts": [], "records": {}, "log": ""}
    for folder in FOLDERS:
        for place, _, names in os.walk(folder):
            for path in (os.path.join(place, name) for name in names):
                if path.endswith(".kubepin"):
                    found["drafts"].append(path)
                elif path.startswith(RECORDS) and path.endswith(".json"):
                    found["records"][path] = state_of(path)
                elif path.startswith(NAMES) or path in CONFIGURATION:
                    found["files"][path] = look_at(path)
    found["policy"] = policy()
    if found["up"] is None:
        command = ["journalctl", "--unit", "kubelet", "--no-pager", "--lines", "20", "--output", "cat"]
        found["log"] = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=False).stdout
    return found


if __name__ == "__main__":
    print(json.dumps(look(float(sys.argv[1]))))
