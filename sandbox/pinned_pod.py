# SPDX-License-Identifier: GPL-3.0-or-later
"""A pod with an exclusive CPU on the last worker, watched while the cluster is upgraded.

`start` makes it, `watch` writes a line a sample until it is killed, `judge` fails if the pod lost its CPUs or its container while its node
was not in hand. The host sees the pod's process itself, so nothing is missed while an API server restarts.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
import time
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from sandbox.cluster import Sandbox
from sandbox.settings import TEST_IMAGE, Paths, SandboxError
from sandbox.shell import CommandFailed, Log, Shell, wait_for
from sandbox.state import State

NAME = "pinned"
VARIABLE = "KUBEPIN_PINNED_POD"
MARK = "kubepin.io/cordoned"
"""The annotation of a node that an upgrade has in hand."""
START_SECONDS = 120
PAUSE_SECONDS = 0.5
API_SECONDS = 3.0


@dataclass(frozen=True)
class Sample:
    """The pod at one moment; `container` and `cpus` None: it does not run; `kubelets` None: the API did not answer."""

    at: float
    container: str | None
    cpus: str | None
    in_hand: bool | None
    kubelets: Mapping[str, str] | None


@dataclass(frozen=True)
class Life:
    """One container of the pod, in seconds since the first sample; `through`: the other nodes' new kubelets meanwhile."""

    container: str
    cpus: str
    began: float
    ended: float
    through: list[str]


def lives(samples: Sequence[Sample]) -> list[Life]:
    """The pod's containers, one after the other.

    :raises SandboxError: if one ended, or its CPUs changed, while its node was not in hand
    """
    found: list[Life] = []
    kubelets: Mapping[str, str] = {}
    for index, sample in enumerate(samples):
        last = found[-1] if found else None
        at = round(sample.at - samples[0].at, 1)
        ended = last and samples[index - 1].container == last.container != sample.container
        # a node stays in hand for longer than the API takes to answer again
        if last and ended and not next((s.in_hand for s in samples[index:] if s.in_hand is not None), False):
            raise SandboxError(f"container {last.container} ended after {at} s, while its node was not in hand")
        if sample.container and sample.cpus:
            if not last or last.container != sample.container:
                last = Life(sample.container, sample.cpus, at, at, [])
            elif last.cpus != sample.cpus:
                raise SandboxError(f"container {last.container} had CPUs {last.cpus}, and {sample.cpus} after {at} s")
            else:
                found.pop()
            news = [f"{node} {new}" for node, new in (sample.kubelets or {}).items() if kubelets.get(node, new) != new]
            found.append(Life(last.container, last.cpus, last.began, at, [*last.through, *news]))
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
    """Whether the node *own* is in hand, and the kubelets of all others, from the API."""
    items = {item["metadata"]["name"]: item for item in sandbox.kubectl.items("nodes")}
    kubelets = {name: item["status"]["nodeInfo"]["kubeletVersion"] for name, item in items.items() if name != own}
    return MARK in items[own]["metadata"].get("annotations", {}), kubelets


def watch(sandbox: Sandbox, path: Path) -> None:
    """Write samples until killed."""
    own = sandbox.workers[-1].name
    asked = 0.0
    with path.open("w") as file:
        while True:
            container, cpus = process(sandbox.state.name)
            in_hand = kubelets = None
            if time.monotonic() - asked >= API_SECONDS:
                asked = time.monotonic()
                with suppress(CommandFailed):
                    in_hand, kubelets = nodes(sandbox, own)
            file.write(json.dumps(asdict(Sample(time.time(), container, cpus, in_hand, kubelets))) + "\n")
            file.flush()
            time.sleep(PAUSE_SECONDS)


def judge(sandbox: Sandbox, lines: Iterable[str], hops: int) -> None:
    """Print the pod's containers.

    :raises SandboxError: if it lost anything out of turn, or did not live through every new kubelet of the other nodes
    """
    samples = [Sample(**json.loads(line)) for line in lines]
    found = lives(samples)
    for life in found:
        print(
            f"container {life.container}   CPUs {life.cpus}   {life.began:.0f} s to {life.ended:.0f} s   "
            f"lived through: {', '.join(life.through) or 'nothing'}"
        )
    through = [change for life in found for change in life.through]
    wanted = hops * (len(sandbox.nodes) - 1)
    if len(through) != wanted:
        raise SandboxError(f"the pod lived through {len(through)} new kubelets of other nodes, not {wanted}")
    print(f"{len(samples)} samples: the pod kept its CPUs and its container, but for the drains of its own node")


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m sandbox.pinned_pod", description=__doc__)
    parser.add_argument("action", choices=["start", "watch", "judge"])
    parser.add_argument("name", help="of a sandbox that is ready")
    parser.add_argument("file", type=Path, nargs="?", help="the samples")
    parser.add_argument(
        "--hops", type=int, default=1, help="how many kubelets each other node got (default: %(default)s)"
    )
    options = parser.parse_args(arguments)
    paths = Paths.from_environment()
    state = State.load(paths.sandbox(options.name))
    if not state:
        parser.error(f"there is no sandbox {options.name}")
    sandbox = Sandbox(paths, Shell(Log(Path("/dev/null"))), state)
    try:
        if options.action == "start":
            start(sandbox)
        elif options.action == "watch":
            watch(sandbox, options.file)
        else:
            judge(sandbox, options.file.read_text().splitlines(), options.hops)
    except SandboxError as error:
        print(f"pinned pod: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
