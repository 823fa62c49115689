# SPDX-License-Identifier: GPL-3.0-or-later
"""GPUs as they were injected around 2021, for a sandbox that asks for them: a hook behind runc's back, and an old runc.

A worker gets two more runtimes, each with a RuntimeClass of the same name. Its default runtime stays as it is.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from functools import partial
from pathlib import Path

from sandbox import containerd
from sandbox.cluster import Sandbox
from sandbox.gobuild import Go, discard_others, replacing
from sandbox.hashing import hash_of_folder
from sandbox.nodes import BUILDS_MOUNT, Node
from sandbox.plan import Step
from sandbox.runc import build_runc
from sandbox.settings import GPU_DEVICE, Paths
from sandbox.shell import Shell

# The last but two before 1.0.0, which was the first to leave the device rules alone in an update; common in 2021.
OLD_RUNC = "1.0.0-rc93"
HOOK_SOURCES = Path(__file__).parent / "legacy-hook"

OLD, OWN = "legacy-old-runc", "legacy-own-runc"
"""The runtimes: the hook with the old runc, and with the node's own."""
BASE_SPECIFICATION = "/etc/containerd/legacy-hook.json"
START_SECONDS = 60

# One line `SECONDS ANSWER` at each change, so that the log says when the device went, whenever it is read. The answer to
# an error that is not a refusal is the kernel's own. Almost without processes: a virtual machine is slow to start them.
OPEN_FOR_EVER = f"""
before=
while :; do
  error=$( (exec 3<>{GPU_DEVICE}) 2>&1 )
  case $error in
    '') now=open ;;
    *'not permitted'*) now=refused ;;
    *) now=${{error##*: }} ;;
  esac
  [ "$now" = "$before" ] || echo "$(date +%s) $now"
  before=$now
  sleep 1
done
"""


def runc(paths: Paths, version: str) -> Path:
    """Where a release of runc lies once built."""
    return paths.builds / f"runc-{version}" / "bin" / "runc"


def hook(paths: Paths) -> Path:
    """Where the hook lies once built."""
    return paths.builds / f"legacy-hook-{hash_of_folder(HOOK_SOURCES)}" / "bin" / "legacy-hook"


def build_release(go: Go, version: str) -> None:
    """Compile a release of runc."""
    with replacing(runc(go.paths, version).parents[1]) as result:
        build_runc(go, version, result / "bin" / "runc")


def build_hook(go: Go) -> None:
    """Compile the hook."""
    target = hook(go.paths).parents[1]
    with replacing(target) as folder:
        go.build(".", folder / "bin" / "legacy-hook", cwd=HOOK_SOURCES, flags=["-mod=readonly"])
    discard_others(target, "legacy-hook-*")


def missing(paths: Paths, shell: Shell, releases: Sequence[str] = (OLD_RUNC,)) -> list[Step]:
    """The steps that build what the cache lacks of the hook and these releases of runc."""
    go = Go(paths, shell)
    steps = [
        Step(f"runc-{version}", f"runc {version}: building", partial(build_release, go, version), seconds=20)
        for version in releases
        if not runc(paths, version).exists()
    ]
    if not hook(paths).exists():
        steps.append(Step("legacy-hook", "legacy hook: building", lambda: build_hook(go)))
    return steps


def containerd_runtimes(runcs: dict[str, str]) -> str:
    """The lines for these runtimes, by name and path of runc, in a configuration of version 2 with the cgroupfs driver."""
    return "".join(containerd.handler("", name, runc, BASE_SPECIFICATION) for name, runc in runcs.items())


def specification_with_hook(specification: str, path: str, devices: Sequence[str] = (GPU_DEVICE,)) -> str:
    """What containerd starts from for each container, with the hook in it, which gives these devices."""
    content = json.loads(specification)
    content["process"].pop("rlimits", None)  # a container without CAP_SYS_RESOURCE may not raise them
    content["hooks"] = {"prestart": [{"path": path, "args": ["legacy-hook", *devices]}]}
    return json.dumps(content)


def runc_paths(paths: Paths) -> dict[str, str]:
    """The runtimes and their runc, as a node sees it."""
    return {OLD: f"{BUILDS_MOUNT}/{runc(paths, OLD_RUNC).relative_to(paths.builds)}", OWN: "/usr/sbin/runc"}


def install(sandbox: Sandbox, node: Node) -> None:
    """Give a node the two runtimes, unless it has them, and the cluster their names."""
    for name in (OLD, OWN):
        sandbox.kubectl.apply(
            {"apiVersion": "node.k8s.io/v1", "kind": "RuntimeClass", "metadata": {"name": name}, "handler": name}
        )
    configuration = node.run("cat", containerd.CONFIGURATION)
    if OLD in configuration:
        return
    path = f"{BUILDS_MOUNT}/{hook(sandbox.paths).relative_to(sandbox.paths.builds)}"
    node.write(BASE_SPECIFICATION, specification_with_hook(node.run("ctr", "oci", "spec"), path))
    node.write(containerd.CONFIGURATION, configuration + containerd_runtimes(runc_paths(sandbox.paths)))
    containerd.restart(node, START_SECONDS)
