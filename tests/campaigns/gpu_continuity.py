# SPDX-License-Identifier: GPL-3.0-or-later
"""Check that tuning, rollback and upgrade take no GPU from a running pod that is not drained.

Two DaemonSets on the worker, which a drain leaves alone, open a device once a second: `plugin` has it from the device plugin, `hook`
from the legacy hook, both under the node's own runc. The device is a stand-in. "Operation not permitted" would be the loss.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from sandbox.settings import GPU_RESOURCE, TEST_IMAGE, Paths, SandboxError
from sandbox.shell import wait_for
from tests.campaigns import legacy_gpu
from tests.campaigns.base import add_output_argument, markdown_table, new_sandbox, playbook, write_json
from tests.campaigns.gpu_loss import START_SECONDS, GpuLossLab, gpu_loss_lab, loss

NAME = "gpu-continuity"
BEFORE, AFTER = "1.21.14", "1.22.17"
PLUGIN, HOOK = "plugin", "hook"
ACTS = {
    "tuned, kubelet 1.21": ["tune-gpu-nodes.yml", "-e", "cpu_manager_accept_old_kubelet=true"],
    "taken back": ["rollback-gpu-nodes.yml"],
    "upgraded and tuned": ["tune-gpu-nodes.yml", "-e", "kubepin_upgrade_first=true"],
}
# The kubelet looks at its containers every 10 s.
AFTER_SECONDS = 15


@dataclass(frozen=True)
class PodCheck:
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
                "command": ["sh", "-c", legacy_gpu.OPEN_FOR_EVER],
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


def check_pod(worker: GpuLossLab, act: str, kind: str) -> PodCheck | None:
    """The pod as it is now; None until it has written to its log."""
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
    return PodCheck(act, kind, pod["metadata"]["uid"], restarts, lost=loss(log, 0) is not None)


def has_log(worker: GpuLossLab, kind: str) -> bool:
    """Whether the pod has written to its log yet."""
    return check_pod(worker, "", kind) is not None


def begin(paths: Paths, name: str) -> list[PodCheck]:
    """Start both pods, which must have their device."""
    with gpu_loss_lab(paths, name) as worker:
        legacy_gpu.install(worker.sandbox, worker.node)
        for kind in (PLUGIN, HOOK):
            worker.kubectl.apply(daemon_set(kind, worker.node.name))
            wait_for(f"pod {kind} writes its log", partial(has_log, worker, kind), START_SECONDS)
    return check(paths, name, "before")


def check(paths: Paths, name: str, act: str) -> list[PodCheck]:
    """Both pods after an act."""
    found = []
    with gpu_loss_lab(paths, name) as worker:
        for kind in (PLUGIN, HOOK):
            seen = check_pod(worker, act, kind)
            if seen is None:
                raise SandboxError(f'pod {kind} is gone or has no log after "{act}": expected that it still runs')
            found.append(seen)
            fate = "LOST its device" if seen.lost else "kept its device"
            print(f"{time.strftime('%H:%M:%S')} {act}: {kind} {fate}, {seen.restarts} restarts, {seen.uid}", flush=True)
    return found


def run_all(paths: Paths, name: str) -> list[PodCheck]:
    """All acts, one after the other."""
    seen = begin(paths, name)
    for act, arguments in ACTS.items():
        playbook(*arguments)
        time.sleep(AFTER_SECONDS)
        seen += check(paths, name, act)
    return seen


def markdown(seen: Sequence[PodCheck]) -> str:
    """The table for a page."""
    first = {item.pod: item.uid for item in seen if item.act == "before"}
    rows = [
        (
            item.act,
            item.pod,
            "lost" if item.lost else "kept",
            item.restarts,
            "yes" if item.uid == first[item.pod] else "no",
        )
        for item in seen
    ]
    return markdown_table(("after", "pod", "device", "restarts", "the same pod"), rows)


def unharmed(seen: Sequence[PodCheck]) -> bool:
    """Whether each pod is the one that it was, never restarted, and still has its device."""
    pods = {item.pod for item in seen}
    return not any(item.lost or item.restarts for item in seen) and len({item.uid for item in seen}) == len(pods)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options."""
    add_output_argument(parser, NAME)


def run(options: argparse.Namespace) -> int:
    """The exit status is 1 if a pod lost its device, restarted or was replaced."""
    with new_sandbox(NAME, BEFORE, workers=1, builds=(BEFORE, AFTER)):
        seen = run_all(Paths.from_environment(), NAME)
    write_json(options.output / "kept.json", [vars(item) for item in seen])
    (options.output / "kept.md").write_text(markdown(seen))
    print(markdown(seen))
    return int(not unharmed(seen))
