# SPDX-License-Identifier: GPL-3.0-or-later
"""Shows that kubepin's own acts take no GPU from a running pod that is not drained: tuned, taken back, upgraded and tuned.

Two DaemonSets on the worker, which a drain leaves alone, open a device once a second: `plugin` has it from the device plugin, `hook`
from the legacy hook, both under the node's own runc. The device is a stand-in. «Operation not permitted» would be the loss.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from sandbox import legacy_gpu
from sandbox.gpu_loss import OPEN_FOR_EVER, START_SECONDS, Laboratory, laboratory, loss
from sandbox.settings import GPU_RESOURCE, TEST_IMAGE, Paths, SandboxError
from sandbox.shell import wait_for

PLUGIN, HOOK = "plugin", "hook"
ROOT = Path(__file__).resolve().parents[1]
ACTS = {
    "tuned, kubelet 1.21": ["tune-gpu-nodes.yml", "-e", "cpu_manager_accept_old_kubelet=true"],
    "taken back": ["rollback-gpu-nodes.yml"],
    "upgraded and tuned": ["tune-gpu-nodes.yml", "-e", "kubepin_upgrade_first=true"],
}
# The kubelet looks at its containers every 10 s.
AFTER_SECONDS = 15


@dataclass(frozen=True)
class Seen:
    """One pod after one act."""

    act: str
    pod: str
    uid: str
    restarts: int
    lost: bool


def daemon_set(kind: str, node: str) -> dict[str, Any]:
    """A pod on the node that a drain leaves where it is."""
    limits = {"memory": "64Mi"} | ({GPU_RESOURCE: "1"} if kind == PLUGIN else {})
    granted = [{"name": "NVIDIA_VISIBLE_DEVICES", "value": "0"}] if kind == HOOK else []
    runtime = {"runtimeClassName": legacy_gpu.OWN} if kind == HOOK else {}
    labels = {"app": f"keep-{kind}"}
    spec = {
        **runtime,
        "nodeSelector": {"kubernetes.io/hostname": node},
        "tolerations": [{"operator": "Exists"}],
        "terminationGracePeriodSeconds": 0,
        "containers": [
            {
                "name": "main",
                "image": TEST_IMAGE,
                "imagePullPolicy": "Never",
                "env": granted,
                "command": ["sh", "-c", OPEN_FOR_EVER],
                "resources": {"limits": limits},
            }
        ],
    }
    return {
        "apiVersion": "apps/v1",
        "kind": "DaemonSet",
        "metadata": {"name": f"keep-{kind}", "namespace": "default"},
        "spec": {"selector": {"matchLabels": labels}, "template": {"metadata": {"labels": labels}, "spec": spec}},
    }


def look(worker: Laboratory, act: str, kind: str) -> Seen | None:
    """The pod as it is now; None until it has spoken."""
    items = worker.kubectl.items("pods", "-n", "default", "-l", f"app=keep-{kind}")
    if not items or not items[0]["status"].get("containerStatuses"):
        return None
    pod, name = items[0], items[0]["metadata"]["name"]
    log = worker.log(name)
    if not log:
        return None
    restarts = pod["status"]["containerStatuses"][0]["restartCount"]
    if restarts:
        log = worker.kubectl.run("logs", "--previous", name) + log
    return Seen(act, kind, pod["metadata"]["uid"], restarts, lost=loss(log, 0) is not None)


def spoke(worker: Laboratory, kind: str) -> bool:
    """Whether the pod has said anything yet."""
    return look(worker, "", kind) is not None


def begin(paths: Paths, name: str) -> list[Seen]:
    """Start both pods, which must have their device."""
    with laboratory(paths, name) as worker:
        legacy_gpu.install(worker.sandbox, worker.node)
        for kind in (PLUGIN, HOOK):
            worker.kubectl.apply(daemon_set(kind, worker.node.name))
            wait_for(f"pod {kind} speaks", partial(spoke, worker, kind), START_SECONDS)
    return check(paths, name, "before")


def check(paths: Paths, name: str, act: str) -> list[Seen]:
    """Both pods after an act."""
    found = []
    with laboratory(paths, name) as worker:
        for kind in (PLUGIN, HOOK):
            seen = look(worker, act, kind)
            if seen is None:
                raise SandboxError(f"pod {kind} is gone or silent after «{act}»: expected that it still runs")
            found.append(seen)
            fate = "LOST its device" if seen.lost else "kept its device"
            print(f"{time.strftime('%H:%M:%S')} {act}: {kind} {fate}, {seen.restarts} restarts, {seen.uid}", flush=True)
    return found


def run(paths: Paths, name: str) -> list[Seen]:
    """All acts, one after the other.

    Raises SandboxError if a playbook fails.
    """
    seen = begin(paths, name)
    for act, arguments in ACTS.items():
        command = ["ansible-playbook", *arguments]
        print(f"$ {' '.join(command)}", flush=True)
        if subprocess.run(command, cwd=ROOT, check=False).returncode:
            raise SandboxError(f"«{act}» failed: see above")
        time.sleep(AFTER_SECONDS)
        seen += check(paths, name, act)
    return seen


def markdown(seen: Sequence[Seen]) -> str:
    """The table for a page."""
    first = {item.pod: item.uid for item in seen if item.act == "before"}
    lines = ["| after | pod | device | restarts | the same pod |", "|---|---|---|---|---|"]
    for item in seen:
        same = "yes" if item.uid == first[item.pod] else "no"
        lines.append(f"| {item.act} | {item.pod} | {'lost' if item.lost else 'kept'} | {item.restarts} | {same} |")
    return "\n".join(lines) + "\n"


def unharmed(seen: Sequence[Seen]) -> bool:
    """Whether each pod is the one that it was, never restarted, and still has its device."""
    pods = {item.pod for item in seen}
    return not any(item.lost or item.restarts for item in seen) and len({item.uid for item in seen}) == len(pods)


def main(arguments: Sequence[str] | None = None) -> int:
    """`NAME FOLDER`: exit status 1 if a pod lost its device, restarted or was replaced."""
    parser = argparse.ArgumentParser(prog="python -m sandbox.gpu_keep", description=__doc__)
    parser.add_argument("name", help="the sandbox; its worker is tuned and its cluster upgraded")
    parser.add_argument("folder", type=Path, help="where the table goes")
    options = parser.parse_args(arguments)
    try:
        seen = run(Paths.from_environment(), options.name)
    except SandboxError as error:
        print(f"gpu_keep: {error}", file=sys.stderr)
        return 1
    options.folder.mkdir(parents=True, exist_ok=True)
    (options.folder / "kept.json").write_text(json.dumps([vars(item) for item in seen], indent=1) + "\n")
    (options.folder / "kept.md").write_text(markdown(seen))
    print(markdown(seen))
    return int(not unharmed(seen))


if __name__ == "__main__":
    sys.exit(main())
