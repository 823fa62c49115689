# SPDX-License-Identifier: GPL-3.0-or-later
"""A pod with an exclusive CPU on the last worker, watched while the cluster is upgraded.

It may lose its CPUs or its container only while its own node is upgraded. The host sees the pod's process itself, so nothing is missed
while an API server restarts.
"""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sandbox.cluster import Sandbox
from sandbox.settings import TEST_IMAGE
from sandbox.shell import CommandFailed, Log, Shell, wait_for
from tests.campaigns.base import CheckFailed, expect

NAME = "pinned"
VARIABLE = "KUBEPIN_PINNED_POD"
MARK = "kubepin.io/cordoned"
"""The annotation of a node while kubepin upgrades it."""
START_SECONDS = 120
PAUSE_SECONDS = 0.5
API_SECONDS = 3.0


@dataclass(frozen=True)
class Sample:
    """The pod at one moment; `container` and `cpus` None: it does not run; `kubelets` None: the API did not answer."""

    at: float
    container: str | None
    cpus: str | None
    upgrading: bool | None
    kubelets: Mapping[str, str] | None


@dataclass(frozen=True)
class PodRun:
    """One container of the pod, in seconds since the first sample; `outlasted`: the other nodes' new kubelets meanwhile."""

    container: str
    cpus: str
    began: float
    ended: float
    outlasted: list[str]


def pod_runs(samples: Sequence[Sample]) -> list[PodRun]:
    """The pod's containers, one after the other.

    :raises CheckFailed: if one ended, or its CPUs changed, while its node was not being upgraded
    """
    found: list[PodRun] = []
    kubelets: Mapping[str, str] = {}
    for index, sample in enumerate(samples):
        last = found[-1] if found else None
        at = round(sample.at - samples[0].at, 1)
        ended = last and samples[index - 1].container == last.container != sample.container
        # a node's upgrade takes longer than the API needs to answer again
        if last and ended and not next((s.upgrading for s in samples[index:] if s.upgrading is not None), False):
            raise CheckFailed(f"container {last.container} ended after {at} s, while its node was not being upgraded")
        if sample.container and sample.cpus:
            if not last or last.container != sample.container:
                last = PodRun(sample.container, sample.cpus, at, at, [])
            elif last.cpus != sample.cpus:
                raise CheckFailed(f"container {last.container} had CPUs {last.cpus}, and {sample.cpus} after {at} s")
            else:
                found.pop()
            news = [f"{node} {new}" for node, new in (sample.kubelets or {}).items() if kubelets.get(node, new) != new]
            found.append(PodRun(last.container, last.cpus, last.began, at, [*last.outlasted, *news]))
        kubelets = sample.kubelets or kubelets
    return found


def manifest(sandbox: str, node: str) -> dict[str, Any]:
    """A Deployment, so that a drain may evict its pod; a Guaranteed pod with a whole CPU, so that the static policy gives it one."""
    labels = {"app": NAME}
    container = {
        "name": NAME,
        "image": TEST_IMAGE,
        "imagePullPolicy": "Never",
        "command": ["sleep", "100000"],
        "env": [{"name": VARIABLE, "value": sandbox}],
        "resources": {"limits": {"cpu": "1", "memory": "32Mi"}},
    }
    spec = {
        "nodeSelector": {"kubernetes.io/hostname": node},
        "terminationGracePeriodSeconds": 1,
        # else CoreDNS, moved off a drained control plane node, preempts it: a worker here has one CPU to give
        "priorityClassName": "system-cluster-critical",
        "containers": [container],
    }
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": NAME, "namespace": "default"},
        "spec": {"selector": {"matchLabels": labels}, "template": {"metadata": {"labels": labels}, "spec": spec}},
    }


def process(sandbox: str) -> tuple[str | None, str | None]:
    """The container's ID and the CPUs that its process may run on, from the host's /proc."""
    wanted = f"{VARIABLE}={sandbox}".encode()
    for folder in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            if wanted not in (folder / "environ").read_bytes().split(b"\0"):
                continue
            if not (folder / "cmdline").read_bytes().startswith(b"sleep\0"):
                continue  # runc, before it becomes the container
            container = re.search(r"[0-9a-f]{64}\s*$", (folder / "cgroup").read_text(), re.MULTILINE)
            cpus = re.search(r"^Cpus_allowed_list:\s*(\S+)", (folder / "status").read_text(), re.MULTILINE)
            if container and cpus:
                return container[0].strip()[:12], cpus[1]
    return None, None


def start(sandbox: Sandbox) -> None:
    """Make the pod and wait until it runs."""
    sandbox.kubectl.apply(manifest(sandbox.state.name, sandbox.workers[-1].name))
    wait_for("the pod with an exclusive CPU runs", lambda: process(sandbox.state.name)[0] is not None, START_SECONDS)


def nodes(sandbox: Sandbox, own: str) -> tuple[bool, dict[str, str]]:
    """Whether the node *own* is being upgraded, and the kubelets of all others, from the API."""
    items = {item["metadata"]["name"]: item for item in sandbox.kubectl.items("nodes")}
    kubelets = {name: item["status"]["nodeInfo"]["kubeletVersion"] for name, item in items.items() if name != own}
    return MARK in items[own]["metadata"].get("annotations", {}), kubelets


def take_sample(sandbox: Sandbox, with_api: bool) -> Sample:
    """The pod now."""
    container, cpus = process(sandbox.state.name)
    upgrading = kubelets = None
    if with_api:
        with suppress(CommandFailed):
            upgrading, kubelets = nodes(sandbox, sandbox.workers[-1].name)
    return Sample(time.time(), container, cpus, upgrading, kubelets)


@contextmanager
def watched(sandbox: Sandbox) -> Iterator[list[Sample]]:
    """The samples of the pod, which are taken during the block."""
    quiet = Sandbox(sandbox.paths, Shell(Log(Path("/dev/null"))), sandbox.state)  # its log would grow without end
    samples: list[Sample] = []
    done = threading.Event()

    def watch() -> None:
        asked = 0.0
        while not done.wait(PAUSE_SECONDS):
            with_api = time.monotonic() - asked >= API_SECONDS
            if with_api:
                asked = time.monotonic()
            samples.append(take_sample(quiet, with_api))

    thread = threading.Thread(target=watch, daemon=True)
    thread.start()
    try:
        yield samples
    finally:
        done.set()
        thread.join()


def check(samples: Sequence[Sample], kubelets: int) -> None:
    """Print the pod's containers.

    :raises CheckFailed: if it lost anything out of turn, or did not outlast that many new kubelets of other nodes
    """
    found = pod_runs(samples)
    for run in found:
        print(
            f"container {run.container}   CPUs {run.cpus}   {run.began:.0f} s to {run.ended:.0f} s   "
            f"outlasted: {', '.join(run.outlasted) or 'nothing'}"
        )
    outlasted = sum(len(run.outlasted) for run in found)
    expect(outlasted == kubelets, f"the pod outlasted {outlasted} new kubelets of other nodes, expected {kubelets}")
    print(f"{len(samples)} samples: the pod kept its CPUs and its container, but for the drains of its own node")
