# SPDX-License-Identifier: GPL-3.0-or-later
"""kubepin's boot guard, a program of its own on the node: before the kubelet starts, it moves state files aside that the
kubelet would refuse because the machine has other CPUs or other memory than before.

It never deletes a file, and always ends with 0, so that the kubelet starts in any case. Only what the machine decides is
compared, because that changes at a boot: a file that the kubelet would refuse for its settings stays, and the kubelet says
why. Whether a file is refused, validateState decides in Kubernetes' pkg/kubelet/cm/cpumanager/policy_static.go and
pkg/kubelet/cm/memorymanager/policy_static.go.
"""

import argparse
import datetime
import json
import os
import re
import shutil
import sys
import typing as t

CpuSet = t.FrozenSet[int]
Memory = t.Dict[str, t.Dict[str, int]]
"""NUMA node -> resource, such as "memory" or "hugepages-2Mi" -> bytes."""


def parsed_cpus(text: str) -> CpuSet:
    """The CPUs of a list such as "0-3,8".

    :raises ValueError: if it is none
    """
    found: t.Set[int] = set()
    for part in filter(None, text.strip().split(",")):
        first, _dash, last = part.partition("-")
        found.update(range(int(first), int(last or first) + 1))
    return frozenset(found)


def content_of(text: str) -> t.Dict[str, t.Any]:
    """The state in a file of any format: since 1.37, it is a text in the field `data`.

    :raises ValueError: if it is no JSON object
    """
    outer = json.loads(text)
    content = json.loads(outer["data"]) if outer.get("data") else outer
    if not isinstance(content, dict):
        raise ValueError("no JSON object")
    return content


def other_cpus(text: str, online: CpuSet, strictly_reserved: CpuSet) -> t.Optional[str]:
    """Why the CPU manager's state is of another machine; None if it is not, or does not matter to the kubelet.

    :param strictly_reserved: the CPUs that strict-cpu-reservation keeps out of the state
    :raises ValueError: if the text is not a state file of this kind
    """
    state = content_of(text)
    default = parsed_cpus(state.get("defaultCpuSet") or "")
    if state.get("policyName") != "static" or not default:
        return None
    pods = [{"": pod} if isinstance(pod, str) else pod for pod in (state.get("entries") or {}).values()]
    exclusive = [cpus for pod in pods for cpus in pod.values()]
    exclusive += [pod.get("cpuSet") or "" for pod in (state.get("podEntries") or {}).values()]
    known = default.union(*map(parsed_cpus, exclusive))
    available = online - strictly_reserved
    if known == available:
        return None
    return f"it has CPUs {sorted(known)}, and the machine has {sorted(available)}"


def other_memory(text: str, memory: Memory) -> t.Optional[str]:
    """Why the memory manager's state is of another machine; None if it is not, or does not matter to the kubelet.

    :param memory: empty if unknown
    :raises ValueError: if the text is not a state file of this kind
    """
    state = content_of(text)
    machine = state.get("machineState") or {}
    if state.get("policyName") != "Static" or not machine or not memory:
        return None
    known = {
        node: {resource: table["total"] for resource, table in one["memoryMap"].items()}
        for node, one in machine.items()
    }
    return None if known == memory else f"it has memory {known}, and the machine has {memory}"


def read_memory(root: str) -> Memory:
    """The memory and the huge pages of each NUMA node, as cAdvisor reads them (utils/sysinfo GetNodesInfo).

    :param root: /sys/devices/system
    """
    nodes = [name for name in os.listdir(f"{root}/node") if re.fullmatch(r"node\d+", name)]
    return {name[len("node") :]: _memory_of(f"{root}/node/{name}") for name in nodes}


def _memory_of(folder: str) -> t.Dict[str, int]:
    total = re.search(r"MemTotal:\s*(\d+) kB", _text(f"{folder}/meminfo"))
    found = {"memory": int(total.group(1)) * 1024} if total else {}
    pages = f"{folder}/hugepages"
    for name in os.listdir(pages) if os.path.isdir(pages) else ():
        kib = int(name[len("hugepages-") : -len("kB")])
        size, unit = next(
            (kib >> shift, unit) for shift, unit in ((20, "Gi"), (10, "Mi"), (0, "Ki")) if not kib % (1 << shift)
        )
        found[f"hugepages-{size}{unit}"] = int(_text(f"{pages}/{name}/nr_hugepages")) * kib * 1024
    return found


def _text(path: str) -> str:
    with open(path, encoding="utf-8") as file:
        return file.read()


def move_aside(path: str, folder: str) -> str:
    """Move a file to the folder, with the time in its new name, which is returned."""
    os.makedirs(folder, mode=0o700, exist_ok=True)
    now = datetime.datetime.now(datetime.timezone.utc).strftime("%Y%m%dT%H%M%S.%fZ")
    return str(shutil.move(path, os.path.join(folder, f"{os.path.basename(path)}.{now}")))


def guard(path: str, folder: str, reason_of: t.Callable[[str], t.Optional[str]]) -> str:
    """Move the state file aside if there is a reason, and return what happened, in one line."""
    try:
        reason = reason_of(_text(path))
        if reason is None:
            return f"{path} fits this machine"
        return f"{path} was moved to {move_aside(path, folder)}, because the kubelet would not start: {reason}"
    except FileNotFoundError:
        return f"{path} does not exist"
    except Exception as error:  # whatever it is, the kubelet starts
        return f"{path} was left alone: {error!r}"


def main(arguments: t.Sequence[str], root: str = "/sys/devices/system") -> None:
    """Look at both state files."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cpu-state", required=True)
    parser.add_argument("--memory-state", required=True)
    parser.add_argument("--strictly-reserved", default="")
    parser.add_argument("--folder", required=True)
    options = parser.parse_args(arguments)

    def cpus(text: str) -> t.Optional[str]:
        return other_cpus(text, parsed_cpus(_text(f"{root}/cpu/online")), parsed_cpus(options.strictly_reserved))

    for path, reason_of in (
        (options.cpu_state, cpus),
        (options.memory_state, lambda text: other_memory(text, read_memory(root))),
    ):
        print(f"kubepin: {guard(path, options.folder, reason_of)}", flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
