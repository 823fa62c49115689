# SPDX-License-Identifier: GPL-3.0-or-later
"""Pure: what a probe of one host compares, on which CPUs and through which engine, or why it cannot."""

from __future__ import annotations

import hashlib
import random
import re
import typing as t
from dataclasses import dataclass, field

from ansible_collections.kubepin.tuning.plugins.module_utils.common.cpuset import (
    CpusetError,
    format_cpuset,
    parse_cpuset,
)
from ansible_collections.kubepin.tuning.plugins.module_utils.node.readers.topology import UNKNOWN, Core, Topology

ARMS = ("quota", "cpuset")
CONTAINER_ENGINES = ("docker", "podman", "nerdctl")
CGROUP = "cgroup"
LABEL = "kubepin.probe"
MOUNT = "/opt/kubepin"
PACKAGE = "pod"
BUSY = 1.0
"""A host with this load average or more is too busy to measure on."""

_SIZE = re.compile(r"[1-9]\d*[bkmgBKMG]?", re.ASCII)
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*", re.ASCII)
_TOOLKIT = {
    "docker": "install the NVIDIA container toolkit (`nvidia-ctk runtime configure --runtime=docker`)",
    "podman": "write a CDI specification (`nvidia-ctk cdi generate --output=/etc/cdi/nvidia.yaml`)",
    "nerdctl": "install the NVIDIA container toolkit (nvidia-container-cli)",
}


@dataclass(frozen=True)
class ProbeRequest:
    """What is asked for. `cpuset` and `gpu` may be "auto"; `gpu` may also be "none"."""

    run_id: str
    engine: str
    image: t.Optional[str]
    pull: bool
    python: str
    program: str
    program_options: t.Sequence[str]
    threads: str
    auto_threads: str
    cpus: int
    cpuset: str
    gpu: str
    memory: t.Optional[str]
    shm_size: t.Optional[str]
    rounds: int
    output: str


@dataclass(frozen=True)
class Engine:
    """One engine as found. `problem` says why it cannot be used; `has_image` is None if no image was requested."""

    name: str
    version: str = ""
    problem: str = ""
    gives_gpus: bool = True
    has_image: t.Optional[bool] = None


@dataclass(frozen=True)
class GpuDevice:
    """One GPU as nvidia-smi lists it; `address` is its PCI address as /sys spells it, empty if unknown."""

    index: int
    uuid: str = ""
    address: str = ""


@dataclass(frozen=True)
class ProbeHost:
    """The host as found. `engines` holds those that may be used, in order of preference; `load` is the load average of
    the last minute; `obstacles` says what is wrong with the user and the files."""

    name: str
    topology: Topology
    engines: t.Sequence[Engine]
    gpus: t.Sequence[GpuDevice] = ()
    selinux: bool = False
    load: float = 0.0
    obstacles: t.Sequence[str] = ()


@dataclass(frozen=True)
class CpuChoice:
    """The chosen CPUs, and why."""

    cpus: t.FrozenSet[int]
    explanation: str


@dataclass(frozen=True)
class Plan:
    """What will be run. `order` holds the arms of each round in turn. If there are problems, nothing else is valid."""

    problems: t.List[str]
    engine: Engine = field(default_factory=lambda: Engine(""))
    pull: bool = False
    cpuset: str = ""
    explanation: str = ""
    gpu: t.Optional[GpuDevice] = None
    gpu_numa_node: t.Optional[int] = None
    order: t.Sequence[t.Sequence[str]] = ()
    notes: t.List[str] = field(default_factory=list)


def arm_order(run_id: str, rounds: int) -> t.List[t.List[str]]:
    """The arms of each round in balanced random order: each arm comes first in half of the rounds (one more if their
    number is odd). The same run ID always gives the same order."""
    digest = hashlib.sha256(run_id.encode()).digest()
    generator = random.Random(int.from_bytes(digest, "big"))
    first = generator.randrange(len(ARMS))
    order = [[ARMS[(first + number + place) % 2] for place in range(2)] for number in range(rounds)]
    generator.shuffle(order)
    return order


def choose_cpus(topology: Topology, count: int, numa_node: t.Optional[int]) -> CpuChoice:
    """`count` online CPUs: whole cores of the NUMA node first, those of one L3 cache together, the core of CPU 0 last.

    Isolated CPUs (isolcpus) are not taken, because the scheduler would not spread threads over them. A core is split
    only if `count` requires it. Fewer than `count` CPUs are returned if there are not enough.
    """
    isolated = parse_cpuset(topology["isolated"])
    cores = [core for core in topology["cores"] if not parse_cpuset(core["cpus"]) & isolated]

    def rank(core: Core) -> t.Tuple[bool, bool, int, int, int]:
        cpus = parse_cpuset(core["cpus"])
        elsewhere = numa_node is not None and core["numa_node"] != numa_node
        return (0 in cpus, elsewhere, _last_if_unknown(core["numa_node"]), _last_if_unknown(core["l3"]), min(cpus))

    chosen: t.Set[int] = set()
    whole: t.List[Core] = []
    rest: t.List[Core] = []
    for core in sorted(cores, key=rank):
        cpus = parse_cpuset(core["cpus"])
        if len(cpus) <= count - len(chosen):
            chosen |= cpus
            whole.append(core)
        else:
            rest.append(core)
    split = 0
    if rest and len(chosen) < count:
        chosen |= set(sorted(parse_cpuset(rest[0]["cpus"]), reverse=True)[: count - len(chosen)])
        split = 1
    used = [*whole, *rest[:split]]
    return CpuChoice(frozenset(chosen), _explanation(used, len(whole), bool(split), numa_node))


def _last_if_unknown(number: t.Optional[int]) -> int:
    return 1 << 30 if number is None else number


def _explanation(used: t.Sequence[Core], whole: int, split: bool, gpu_node: t.Optional[int]) -> str:
    words = f"{whole} whole core{'' if whole == 1 else 's'}" if whole else ""
    if split:
        words += " and a part of one" if whole else "a part of one core"
    nodes = sorted({core["numa_node"] for core in used if core["numa_node"] is not None})
    if nodes:
        words += f", NUMA {format_cpuset(nodes)}"
    if gpu_node is not None:
        words += " (the GPU's)" if nodes == [gpu_node] else f" (the GPU is on {gpu_node})"
    return words


def plan_probe(request: ProbeRequest, host: ProbeHost) -> Plan:
    """What to run, or every problem."""
    problems = [*_bad_values(request), *host.obstacles]
    engine, found = _pick_engine(request, host.engines)
    problems += found
    gpu, found = _pick_gpu(request, host, engine)
    problems += found
    node = _numa_node(host.topology, gpu)
    choice, found, notes = _pick_cpus(request, host.topology, node)
    problems += found
    if problems or engine is None:
        return Plan(problems)
    if host.topology["gpus"] and gpu is None:
        notes.append("the host has an NVIDIA GPU, and gpu=none was asked for: torch works on the CPU")
    if host.load > BUSY:
        notes.append(f"other work runs on this host (load average {host.load:.1f}): timings will spread widely")
    if engine.name == CGROUP and (request.memory or request.shm_size):
        notes.append("memory and shm_size count in containers only: engine cgroup limits neither")
    return Plan(
        [],
        engine,
        engine.has_image is False,
        format_cpuset(choice.cpus),
        choice.explanation,
        gpu,
        node,
        arm_order(request.run_id, request.rounds),
        notes,
    )


def _bad_values(request: ProbeRequest) -> t.List[str]:
    problems = []
    if not _NAME.fullmatch(request.run_id):
        problems.append(f"run_id is '{request.run_id}': expected letters, digits, '.', '_' and '-', such as gpu-01-a.")
    if request.rounds < 1:
        problems.append(
            f"rounds is {request.rounds}: expected 1 or more. 3 are the fewest that say how far they agree."
        )
    for name, size in (("memory", request.memory), ("shm_size", request.shm_size)):
        if size and not _SIZE.fullmatch(size):
            problems.append(f"{name} is '{size}': expected a number with b, k, m or g behind it, such as 30g.")
    return problems


def _pick_engine(request: ProbeRequest, engines: t.Sequence[Engine]) -> t.Tuple[t.Optional[Engine], t.List[str]]:
    """The first engine that works, and the problems; with "auto", those of the engines count only if none works."""
    works = [engine for engine in engines if not engine.problem]
    if not works:
        return None, [f"engine {engine.name}: {engine.problem}" for engine in engines]
    engine = works[0]
    if engine.name == CGROUP:
        return engine, []
    if not request.image:
        return engine, [f"image is not given: engine {engine.name} needs an image with Python, torch and torchvision."]
    if engine.has_image is False and not request.pull:
        return engine, [
            f"image {request.image} is not there, and pull is false: run `{engine.name} pull {request.image}`, load it from an "
            f"archive, or set pull to true."
        ]
    return engine, []


def _pick_gpu(
    request: ProbeRequest, host: ProbeHost, engine: t.Optional[Engine]
) -> t.Tuple[t.Optional[GpuDevice], t.List[str]]:
    if request.gpu == "none" or (request.gpu == "auto" and not host.topology["gpus"]):
        return None, []
    devices = host.gpus or [GpuDevice(index, address=gpu["address"]) for index, gpu in enumerate(host.topology["gpus"])]
    if not devices:
        return None, [f"gpu is '{request.gpu}', and this host has no NVIDIA GPU on its PCI bus: set gpu to none."]
    named = [
        device
        for device in devices
        if request.gpu in ("auto", str(device.index), device.uuid, device.address) and request.gpu
    ]
    if not named:
        known = ", ".join(
            filter(None, (f"{device.index} {device.uuid or device.address}".strip() for device in devices))
        )
        return None, [f"gpu is '{request.gpu}': expected auto, none, or the index or UUID of one of: {known}."]
    if engine is not None and not engine.gives_gpus:
        return named[0], [
            f"engine {engine.name} cannot hand GPU {named[0].index} to a container: {_TOOLKIT[engine.name]}, or set gpu to none."
        ]
    return named[0], []


def _numa_node(topology: Topology, gpu: t.Optional[GpuDevice]) -> t.Optional[int]:
    if gpu is None:
        return None
    return next((known["numa_node"] for known in topology["gpus"] if known["address"] == gpu.address), None)


def _pick_cpus(
    request: ProbeRequest, topology: Topology, numa_node: t.Optional[int]
) -> t.Tuple[CpuChoice, t.List[str], t.List[str]]:
    online = parse_cpuset(topology["online"])
    nothing = CpuChoice(frozenset(), "")
    if not 1 <= request.cpus < len(online):
        end = "fewer than the host's CPUs online, and it has 1 only: there is nothing to compare on it."
        if len(online) > 1:
            most = "1" if len(online) == 2 else f"1 to {len(online) - 1}"
            end = f"{most}, fewer than the host's {len(online)} CPUs online: with all of them both arms are the same."
        return nothing, [f"cpus is {request.cpus}: expected {end}"], []
    if request.cpuset == "auto":
        choice = choose_cpus(topology, request.cpus, numa_node)
        if len(choice.cpus) == request.cpus:
            return choice, [], []
        missing = f"cpus is {request.cpus}, and only {len(choice.cpus)} CPUs are not isolated: name them with cpuset."
        return nothing, [missing], []
    try:
        given = parse_cpuset(request.cpuset)
    except CpusetError as exc:
        return nothing, [f"cpuset: {exc}"], []
    problems = []
    known = {cpu["id"] for cpu in topology["cpus"]}
    outside, offline = given - known, (given & known) - online
    if outside:
        problems.append(
            f"cpuset '{request.cpuset}': this host has no CPU {format_cpuset(outside)}. Online are {topology['online']}."
        )
    if offline:
        problems.append(
            f"cpuset '{request.cpuset}': CPU {format_cpuset(offline)} is offline. Online are {topology['online']}."
        )
    if len(given) != request.cpus:
        problems.append(
            f"cpuset '{request.cpuset}' names {len(given)} CPU{'' if len(given) == 1 else 's'}, and cpus is {request.cpus}: expected "
            f"the same number, so that the arms differ in one thing only."
        )
    split = [core["cpus"] for core in topology["cores"] if 0 < len(parse_cpuset(core["cpus"]) - given) < _size(core)]
    notes = [f"cpuset '{request.cpuset}' splits the core {cpus}: other threads may share it" for cpus in split]
    return CpuChoice(given, "as given"), problems, notes


def _size(core: Core) -> int:
    return len(parse_cpuset(core["cpus"]))


def container_name(run_id: str, arm: str, number: int) -> str:
    """The name of the container for one round of one arm."""
    return f"kubepin-probe-{run_id}-{arm}-{number}"


def clock_words(topology: Topology) -> str:
    """The governor, boost and the frequencies that the host reports, as one text."""
    clock = topology["clock"]
    parts = [f"governor {topology['governor']}", f"boost {topology['boost']}"]
    for name, value in (("base", clock["base_mhz"]), ("highest", clock["max_mhz"])):
        parts.append(f"{name} {UNKNOWN if value is None else f'{value:.0f} MHz'}")
    return ", ".join(parts)


def program_arguments(request: ProbeRequest, host: ProbeHost, plan: Plan, arm: str, number: int) -> t.List[str]:
    """The arguments of the program for one round."""
    facts = {
        "policy": arm,
        "node": host.name,
        "engine": f"{plan.engine.name} {plan.engine.version}".strip(),
        "image": "" if plan.engine.name == CGROUP else request.image,
        "clock": clock_words(host.topology),
    }
    return [
        "round",
        *request.program_options,
        *["--run-id", request.run_id, "--arm", arm, "--round", str(number)],
        *["--threads", request.threads, "--auto-threads", request.auto_threads],
        *["--device", "cpu" if plan.gpu is None else "cuda"],
        *["--env", *(f"{key}={value}" for key, value in facts.items() if value)],
    ]


def container_command(request: ProbeRequest, host: ProbeHost, plan: Plan, arm: str, number: int) -> t.List[str]:
    """The engine's command line for one round; the arms differ only in --cpuset-cpus."""
    engine = plan.engine.name
    command = [
        *[engine, "run", "--rm", "--name", container_name(request.run_id, arm, number), "--hostname", host.name],
        *["--label", f"{LABEL}={request.run_id}", "--network", "none", f"--cpus={request.cpus}"],
    ]
    if arm == "cpuset":
        command += ["--cpuset-cpus", plan.cpuset]
    if request.memory:
        command += [f"--memory={request.memory}"]
    if request.shm_size:
        command += [f"--shm-size={request.shm_size}"]
    if plan.gpu is not None:
        name = plan.gpu.uuid or str(plan.gpu.index)
        command += ["--device", f"nvidia.com/gpu={name}"] if engine == "podman" else ["--gpus", f"device={name}"]
    if host.selinux and engine != "nerdctl":
        command += ["--security-opt", "label=disable"]  # else the mounted program cannot be read
    command += [
        "--volume",
        f"{request.program}:{MOUNT}:ro",
        "--env",
        f"PYTHONPATH={MOUNT}",
        "--entrypoint",
        request.python,
    ]
    return [*command, t.cast(str, request.image), "-m", PACKAGE, *program_arguments(request, host, plan, arm, number)]


def cgroup_command(request: ProbeRequest, host: ProbeHost, plan: Plan, arm: str, number: int) -> t.List[str]:
    """The host's own Python, to be run in the arm's cgroup."""
    return [request.python, "-m", PACKAGE, *program_arguments(request, host, plan, arm, number)]


def cgroup_variables(request: ProbeRequest, plan: Plan) -> t.Dict[str, str]:
    """Environment variables of the program outside of a container."""
    visible = "" if plan.gpu is None else plan.gpu.uuid or str(plan.gpu.index)
    return {"PYTHONPATH": request.program, "CUDA_DEVICE_ORDER": "PCI_BUS_ID", "CUDA_VISIBLE_DEVICES": visible}


class CgroupFile(t.NamedTuple):
    """A file in a cgroup's folder of one hierarchy, and what is written to it."""

    controller: str
    name: str
    value: str


def cgroup_settings(version: int, arm: str, cpus: int, cpuset: str, memory_nodes: str) -> t.List[CgroupFile]:
    """The arm's limits as cgroup files, in the order of writing.

    Version 1 requires cpuset.mems before a process may join (Documentation/admin-guide/cgroup-v1/cpusets.rst); in
    version 2, empty values of both are inherited from the parent (Documentation/admin-guide/cgroup-v2.rst). The period
    is the kernel's default.
    """
    period = 100000
    if version == 2:
        settings = [CgroupFile("", "cpu.max", f"{cpus * period} {period}")]
        return settings + ([CgroupFile("", "cpuset.cpus", cpuset)] if arm == "cpuset" else [])
    settings = [
        CgroupFile("cpu", "cpu.cfs_period_us", str(period)),
        CgroupFile("cpu", "cpu.cfs_quota_us", str(cpus * period)),
    ]
    if arm == "cpuset":
        settings += [CgroupFile("cpuset", "cpuset.cpus", cpuset), CgroupFile("cpuset", "cpuset.mems", memory_nodes)]
    return settings


def cgroup_roots(mountinfo: str) -> t.Tuple[int, t.Dict[str, str]]:
    """The version of the CPU controller's hierarchy, and controller -> folder (version 2: one, under an empty name).

    Version 0 means that no CPU controller is mounted.

    :param mountinfo: the text of /proc/self/mountinfo (Documentation/filesystems/proc.rst 3.5)
    """
    first: t.Dict[str, str] = {}
    second = ""
    for line in mountinfo.splitlines():
        fields, _separator, rest = line.partition(" - ")
        kind, _source, options = [*rest.split(" ", 2), "", ""][:3]
        mount = fields.split(" ")[4] if fields.count(" ") >= 4 else ""
        if kind == "cgroup2":
            second = second or mount
        elif kind == "cgroup":
            for controller in options.split(","):
                if controller in ("cpu", "cpuset"):
                    first.setdefault(controller, mount)
    if "cpu" in first:
        return 1, first
    return (2, {"": second}) if second else (0, {})


def parse_gpu_list(text: str) -> t.List[GpuDevice]:
    """The GPUs in the output of `nvidia-smi --query-gpu=index,uuid,pci.bus_id --format=csv,noheader`. Its PCI domains
    have eight digits, those of /sys four."""
    devices = []
    for line in text.splitlines():
        parts = [part.strip() for part in line.split(",")]
        if len(parts) == 3 and parts[0].isdigit():
            domain, _colon, rest = parts[2].lower().partition(":")
            devices.append(GpuDevice(int(parts[0]), parts[1], f"{domain[-4:]}:{rest}"))
    return devices


def busiest_mhz(cpuinfo: str, cpus: t.AbstractSet[int]) -> t.Optional[float]:
    """The highest frequency in MHz that /proc/cpuinfo shows for these CPUs; None if it shows none."""
    found = []
    cpu = -1
    for line in cpuinfo.splitlines():
        name, _colon, value = line.partition(":")
        if name.strip() == "processor":
            cpu = int(value)
        elif name.strip() == "cpu MHz" and cpu in cpus:
            found.append(float(value))
    return max(found, default=None)


def clock_sentence(running: t.Mapping[str, t.Sequence[float]], topology: Topology) -> str:
    """What the clock did during the rounds: facts only, no verdict.

    :param running: MHz of the busiest CPU that the arm may use, a list of samples by arm
    """
    words = []
    for arm in ARMS:
        samples = sorted(running.get(arm, ()))
        if samples:
            middle = samples[len(samples) // 2]
            words.append(f"{middle:.0f} MHz with {arm} ({samples[0]:.0f} to {samples[-1]:.0f})")
    found = "busiest CPU at " + ", ".join(words) if words else "frequency while running unknown"
    return f"{found}; {clock_words(topology)}"
