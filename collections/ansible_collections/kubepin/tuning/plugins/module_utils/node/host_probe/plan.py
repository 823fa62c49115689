# SPDX-License-Identifier: GPL-3.0-or-later
"""Pure: what a probe of one host compares, on which CPUs and through which engine, or why it cannot."""

from __future__ import annotations

import re
import typing as t
from dataclasses import dataclass, field

from ansible_collections.kubepin.tuning.plugins.module_utils.common.cpuset import (
    CpusetError,
    format_cpuset,
    parse_cpuset,
)
from ansible_collections.kubepin.tuning.plugins.module_utils.common.orders import balanced_orders
from ansible_collections.kubepin.tuning.plugins.module_utils.common.tenants import BUSY as BUSY_LOAD
from ansible_collections.kubepin.tuning.plugins.module_utils.common.tenants import (
    SOLO,
    busy_threads,
    cpu_shares,
    cpu_weight,
    load_order,
    load_problem,
    measured_loads,
    shares_node,
)
from ansible_collections.kubepin.tuning.plugins.module_utils.common.words import counted
from ansible_collections.kubepin.tuning.plugins.module_utils.node.readers.topology import UNKNOWN, Core, Topology

SHARED, EXCLUSIVE = "quota", "cpuset"
"""The groups of arms: a CPU limit alone, and the same limit on exclusive CPUs."""
AUTO, AS_MANY_AS_CPUS = "auto", "cpus"
CONTAINER_ENGINES = ("docker", "podman", "nerdctl")
CGROUP = "cgroup"
LABEL = "kubepin.probe"
MOUNT = "/opt/kubepin"
PACKAGE = "pod"
START_MOUNT = "/run/kubepin"
START_FILE = "start"
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
    """The request. `cpuset` and `gpu` may be "auto"; `gpu` may also be "none". It is for the rounds from `first_round`
    to `rounds`. `tenants` of 0 means one on each GPU."""

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
    first_round: int
    rounds: int
    output: str
    loads: t.Sequence[str] = (SOLO,)
    tenants: int = 0
    slot_seconds: float = 6.0


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

    host: str
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
class Tenant:
    """One program on one GPU; `cpuset` are its exclusive CPUs."""

    number: int
    cpuset: str
    explanation: str
    gpu: t.Optional[GpuDevice]
    gpu_numa_node: t.Optional[int]


@dataclass(frozen=True)
class Job:
    """One program within limits of its own.

    `name` is unique at a time; `words` are the arguments of Python. `quota` is in CPUs, None for none. An empty `cpuset`
    means all CPUs. `shares` are cpu.shares, None for the default. `start_folder` holds the start file.
    """

    name: str
    words: t.Sequence[str]
    quota: t.Optional[int]
    cpuset: str = ""
    gpu: t.Optional[GpuDevice] = None
    shares: t.Optional[int] = None
    start_folder: t.Optional[str] = None


@dataclass(frozen=True)
class Plan:
    """What will be run. `arms` are named group-threads. `order` holds the arms of each round in turn, from the first
    round asked for. If there are problems, nothing else is valid.

    `cpuset`, `explanation`, `gpu` and `gpu_numa_node` are those of the first of the `tenants`.
    """

    problems: t.List[str]
    engine: Engine = field(default_factory=lambda: Engine(""))
    pull: bool = False
    cpuset: str = ""
    explanation: str = ""
    gpu: t.Optional[GpuDevice] = None
    gpu_numa_node: t.Optional[int] = None
    arms: t.Sequence[str] = ()
    order: t.Sequence[t.Sequence[str]] = ()
    notes: t.List[str] = field(default_factory=list)
    tenants: t.Sequence[Tenant] = ()
    loads: t.Sequence[str] = (SOLO,)


def group_of(arm: str) -> str:
    """The group of an arm, SHARED or EXCLUSIVE."""
    return arm.rpartition("-")[0]


def threads_of(arm: str) -> str:
    """The thread setting of an arm: AUTO or a number."""
    return arm.rpartition("-")[2]


def described(arm: str) -> str:
    """What readers call an arm, as in the report: "exclusive CPUs (cpuset-4)"."""
    shared = "today" if threads_of(arm) == AUTO else "threads set"
    return f"{'exclusive CPUs' if group_of(arm) == EXCLUSIVE else shared} ({arm})"


def arms_of(threads: str, cpus: int) -> t.List[str]:
    """The arms for settings of threads such as "auto,cpus".

    With exclusive CPUs, PyTorch finds as many CPUs as the limit has, so AUTO would be the same setting once more: it is
    measured there only if no number is asked for.

    :raises ValueError: if one is neither AUTO, AS_MANY_AS_CPUS nor a number from 1
    """
    settings = []
    for word in (part.strip() for part in threads.split(",")):
        setting = str(cpus) if word == AS_MANY_AS_CPUS else word
        if setting != AUTO and not (setting.isdigit() and int(setting) > 0):
            raise ValueError(word)
        if setting not in settings:
            settings.append(setting)
    numbers = [setting for setting in settings if setting != AUTO]
    return [f"{SHARED}-{setting}" for setting in settings] + [
        f"{EXCLUSIVE}-{setting}" for setting in numbers or settings
    ]


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
    words = counted(whole, "whole core") if whole else ""
    if split:
        words += " and a part of one" if whole else "a part of one core"
    nodes = sorted({core["numa_node"] for core in used if core["numa_node"] is not None})
    if nodes:
        words += f", NUMA {format_cpuset(nodes)}"
    if gpu_node is not None:
        words += " (the GPU's)" if nodes == [gpu_node] else f" (the GPU is on {gpu_node})"
    return words


def plan_probe(request: ProbeRequest, found: ProbeHost) -> Plan:
    """What to run, or every problem."""
    problems = [*_bad_values(request), *found.obstacles]
    engine, more = _pick_engine(request, found.engines)
    problems += more
    gpus, more = _pick_gpus(request, found, engine)
    problems += more
    tenants, more, notes = _pick_tenants(request, found.topology, gpus)
    problems += more
    if problems or engine is None:
        return Plan(problems)
    arms = arms_of(request.threads, request.cpus)
    orders = balanced_orders(len(arms), request.rounds, request.run_id)[request.first_round - 1 :]
    first = tenants[0]
    if found.topology["gpus"] and first.gpu is None:
        notes.append("the host has an NVIDIA GPU, and gpu=none was asked for: torch works on the CPU")
    if found.load > BUSY:
        notes.append(f"other work runs on this host (load average {found.load:.1f}): timings will spread widely")
    if engine.name == CGROUP and (request.memory or request.shm_size):
        notes.append("memory and shm_size count in containers only: engine cgroup limits neither")
    loads = measured_loads(request.loads, len(tenants))
    if len(loads) < len(request.loads):
        notes.append("one tenant fills this host, so load full is the same as solo and is not measured again")
    return Plan(
        [],
        engine,
        engine.has_image is False,
        first.cpuset,
        first.explanation,
        first.gpu,
        first.gpu_numa_node,
        arms,
        [[arms[number] for number in order] for order in orders],
        notes,
        tenants,
        loads,
    )


def _bad_values(request: ProbeRequest) -> t.List[str]:
    problems = []
    if not _NAME.fullmatch(request.run_id):
        problems.append(f"run_id is '{request.run_id}': expected letters, digits, '.', '_' and '-', such as gpu-01-a.")
    if request.first_round < 1:
        problems.append(f"first_round is {request.first_round}: expected 1 or more.")
    if request.rounds < max(1, request.first_round):
        problems.append(
            f"rounds is {request.rounds}: expected {max(1, request.first_round)} or more. 5 are the fewest that give an interval."
        )
    try:
        arms_of(request.threads, max(1, request.cpus))
    except ValueError as exc:
        problems.append(f"threads is '{request.threads}': '{exc}' is neither auto, cpus nor a number from 1.")
    for name, size in (("memory", request.memory), ("shm_size", request.shm_size)):
        if size and not _SIZE.fullmatch(size):
            problems.append(f"{name} is '{size}': expected a number with b, k, m or g behind it, such as 30g.")
    if problem := load_problem("loads", request.loads):
        problems.append(problem)
    if request.tenants < 0:
        problems.append(f"tenants is {request.tenants}: expected 1 or more, or 0 for one on each GPU.")
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


def _pick_gpus(
    request: ProbeRequest, found: ProbeHost, engine: t.Optional[Engine]
) -> t.Tuple[t.List[t.Optional[GpuDevice]], t.List[str]]:
    """The GPU of each tenant, None without one, and the problems."""
    alone = not shares_node(request.loads)
    if request.gpu == "none" or (request.gpu == "auto" and not found.topology["gpus"]):
        return [None] * (1 if alone else max(1, request.tenants)), []
    devices = found.gpus or [
        GpuDevice(index, address=gpu["address"]) for index, gpu in enumerate(found.topology["gpus"])
    ]
    if not devices:
        return [None], [f"gpu is '{request.gpu}', and this host has no NVIDIA GPU on its PCI bus: set gpu to none."]
    named = [
        device
        for device in devices
        if request.gpu in ("auto", str(device.index), device.uuid, device.address) and request.gpu
    ]
    if not named:
        known = ", ".join(
            filter(None, (f"{device.index} {device.uuid or device.address}".strip() for device in devices))
        )
        return [None], [f"gpu is '{request.gpu}': expected auto, none, or the index or UUID of one of: {known}."]
    count = 1 if alone else request.tenants or len(named)
    problems = []
    if count > len(named):
        problems.append(f"tenants is {count}: expected up to {len(named)}, one on each GPU, or gpu none.")
    if engine is not None and not engine.gives_gpus:
        problems.append(
            f"engine {engine.name} cannot hand GPU {named[0].index} to a container: {_TOOLKIT[engine.name]}, or set gpu to none."
        )
    return list(named[:count]), problems


def _numa_node(topology: Topology, gpu: t.Optional[GpuDevice]) -> t.Optional[int]:
    if gpu is None:
        return None
    return next((known["numa_node"] for known in topology["gpus"] if known["address"] == gpu.address), None)


def _pick_tenants(
    request: ProbeRequest, topology: Topology, gpus: t.Sequence[t.Optional[GpuDevice]]
) -> t.Tuple[t.List[Tenant], t.List[str], t.List[str]]:
    """The tenants with their CPUs, the problems, and the notes."""
    nodes = [_numa_node(topology, gpu) for gpu in gpus]
    choices, problems, notes = _pick_cpus(request, topology, nodes)
    tenants = [
        Tenant(number, format_cpuset(choice.cpus), choice.explanation, gpu, node)
        for number, (choice, gpu, node) in enumerate(zip(choices, gpus, nodes))
    ]
    return tenants, problems, notes


def share_out(topology: Topology, count: int, nodes: t.Sequence[t.Optional[int]]) -> t.List[CpuChoice]:
    """`count` CPUs for each tenant, by `choose_cpus` from those that the tenants before it left.

    :param nodes: the NUMA node of each tenant's GPU, None if unknown
    """
    choices = []
    cores = list(topology["cores"])
    for node in nodes:
        choice = choose_cpus(t.cast(Topology, {**topology, "cores": cores}), count, node)
        choices.append(choice)
        left = [(core, parse_cpuset(core["cpus"]) - choice.cpus) for core in cores]
        cores = [t.cast(Core, {**core, "cpus": format_cpuset(cpus)}) for core, cpus in left if cpus]
    return choices


def _pick_cpus(
    request: ProbeRequest, topology: Topology, nodes: t.Sequence[t.Optional[int]]
) -> t.Tuple[t.List[CpuChoice], t.List[str], t.List[str]]:
    """The exclusive CPUs of each tenant, the problems, and the notes."""
    online = parse_cpuset(topology["online"])
    tenants = len(nodes)
    needed = request.cpus * tenants
    spare = 1 if tenants == 1 or BUSY_LOAD in request.loads else 0
    if not 1 <= needed <= len(online) - spare:
        end = "fewer than the host's CPUs online, and it has 1 only: there is nothing to compare on it."
        if len(online) > 1:
            most = (len(online) - spare) // tenants
            few = "1" if most == 1 else f"1 to {most}"
            end = f"{few}, fewer than the host's {len(online)} CPUs online: with all of them both arms are the same."
            if tenants > 1:
                has = f"this host has {len(online)} CPUs online" + (
                    ", of which busy neighbours need one" if spare else ""
                )
                end = (
                    f"{few} for each of {tenants} tenants: {has}." if most else f"fewer tenants than {tenants}: {has}."
                )
        return [], [f"cpus is {request.cpus}: expected {end}"], []
    if request.cpuset == "auto":
        choices = share_out(topology, request.cpus, nodes)
        chosen = sum(len(choice.cpus) for choice in choices)
        if chosen == needed:
            return choices, [], []
        remedy = "name them with cpuset." if tenants == 1 else "ask for fewer."
        who = "" if tenants == 1 else f" for each of {tenants} tenants"
        return [], [f"cpus is {request.cpus}{who}, and isolation leaves only {counted(chosen, 'CPU')}: {remedy}"], []
    try:
        given = parse_cpuset(request.cpuset)
    except CpusetError as exc:
        return [], [f"cpuset: {exc}"], []
    problems = []
    if tenants > 1:
        problems.append(f"cpuset is '{request.cpuset}': expected auto, because {tenants} tenants share out the CPUs.")
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
            f"cpuset '{request.cpuset}' names {counted(len(given), 'CPU')}, and cpus is {request.cpus}: expected "
            f"the same number, so that the arms differ in one thing only."
        )
    split = [core["cpus"] for core in topology["cores"] if 0 < len(parse_cpuset(core["cpus"]) - given) < _size(core)]
    notes = [f"cpuset '{request.cpuset}' splits the core {cpus}: other threads may share it" for cpus in split]
    return [CpuChoice(given, "as given")], problems, notes


def _size(core: Core) -> int:
    return len(parse_cpuset(core["cpus"]))


def container_name(request: ProbeRequest, job: Job) -> str:
    """The name of the job's container."""
    return f"kubepin-probe-{request.run_id}-{job.name}"


def clock_words(topology: Topology) -> str:
    """The governor, boost and the frequencies that the host reports, as one text."""
    clock = topology["clock"]
    parts = [f"governor {topology['governor']}", f"boost {topology['boost']}"]
    for name, value in (("base", clock["base_mhz"]), ("highest", clock["max_mhz"])):
        parts.append(f"{name} {UNKNOWN if value is None else f'{value:.0f} MHz'}")
    return ", ".join(parts)


def round_jobs(request: ProbeRequest, found: ProbeHost, plan: Plan, arm: str, number: int) -> t.List[Job]:
    """The program for one round of one arm, on each tenant."""
    shared = shares_node(plan.loads)
    return [
        Job(
            name=f"{arm}-{number}-{tenant.number}" if shared else f"{arm}-{number}",
            words=["-m", PACKAGE, *program_arguments(request, found, plan, arm, number, tenant)],
            quota=request.cpus,
            cpuset=tenant.cpuset if group_of(arm) == EXCLUSIVE else "",
            gpu=tenant.gpu,
            shares=cpu_shares(request.cpus) if shared else None,
            start_folder=start_folder(request) if shared else None,
        )
        for tenant in plan.tenants
    ]


def busy_job(request: ProbeRequest, found: ProbeHost, plan: Plan, arm: str) -> Job:
    """The busy neighbours: a Burstable pod that requests the CPUs that are left, and has no limit.

    As with the static CPU manager policy, they keep off exclusive CPUs.
    """
    online = parse_cpuset(found.topology["online"])
    taken = request.cpus * len(plan.tenants)
    exclusive = {cpu for tenant in plan.tenants for cpu in parse_cpuset(tenant.cpuset)}
    return Job(
        name=f"busy-{arm}",
        words=["-m", f"{PACKAGE}.busy", "--threads", str(busy_threads(len(online), taken))],
        quota=None,
        cpuset=format_cpuset(online - exclusive) if group_of(arm) == EXCLUSIVE else "",
        shares=cpu_shares(len(online) - taken),
    )


def start_folder(request: ProbeRequest) -> str:
    """The folder of the start file, beside the output."""
    return f"{request.output}.start"


def program_arguments(
    request: ProbeRequest, found: ProbeHost, plan: Plan, arm: str, number: int, tenant: Tenant
) -> t.List[str]:
    """The arguments of the program for one round of one arm. The very first process of a run warms the machine."""
    facts = {
        "policy": group_of(arm),
        "node": found.host,
        "engine": f"{plan.engine.name} {plan.engine.version}".strip(),
        "image": "" if plan.engine.name == CGROUP else request.image,
        "clock": clock_words(found.topology),
    }
    return [
        "round",
        *request.program_options,
        *["--run-id", request.run_id, "--arm", group_of(arm), "--round", str(number)],
        *["--threads", threads_of(arm), "--auto-threads", request.auto_threads],
        *(["--warm-up"] if number == 1 and arm == plan.order[0][0] else []),
        *["--device", "cpu" if plan.gpu is None else "cuda"],
        *(_place_arguments(request, plan, number, tenant) if shares_node(plan.loads) else []),
        *["--env", *(f"{key}={value}" for key, value in facts.items() if value)],
    ]


def _place_arguments(request: ProbeRequest, plan: Plan, number: int, tenant: Tenant) -> t.List[str]:
    folder = start_folder(request) if plan.engine.name == CGROUP else START_MOUNT
    return [
        *["--tenant", str(tenant.number), "--tenants", str(len(plan.tenants))],
        *["--load", ",".join(load_order(plan.loads, request.run_id, number))],
        *["--start-file", f"{folder}/{START_FILE}", "--slot-seconds", f"{request.slot_seconds:g}"],
    ]


def container_command(request: ProbeRequest, found: ProbeHost, plan: Plan, job: Job) -> t.List[str]:
    """The engine's command line for a job; those of the arms differ only in --cpuset-cpus."""
    engine = plan.engine.name
    command = [
        *[engine, "run", "--rm", "--name", container_name(request, job), "--hostname", found.host],
        *["--label", f"{LABEL}={request.run_id}", "--network", "none"],
    ]
    if job.quota is not None:
        command += [f"--cpus={job.quota}"]
    if job.cpuset:
        command += ["--cpuset-cpus", job.cpuset]
    if job.shares is not None:
        command += [f"--cpu-shares={job.shares}"]
    if request.memory and job.quota is not None:
        command += [f"--memory={request.memory}"]
    if request.shm_size:
        command += [f"--shm-size={request.shm_size}"]
    if job.gpu is not None:
        name = job.gpu.uuid or str(job.gpu.index)
        command += ["--device", f"nvidia.com/gpu={name}"] if engine == "podman" else ["--gpus", f"device={name}"]
    if found.selinux and engine != "nerdctl":
        command += ["--security-opt", "label=disable"]  # else the mounted program cannot be read
    command += ["--volume", f"{request.program}:{MOUNT}:ro"]
    if job.start_folder is not None:
        command += ["--volume", f"{job.start_folder}:{START_MOUNT}:ro"]
    command += [
        "--env",
        f"PYTHONPATH={MOUNT}",
        "--entrypoint",
        request.python,
    ]
    return [*command, t.cast(str, request.image), *job.words]


def cgroup_command(request: ProbeRequest, job: Job) -> t.List[str]:
    """The host's own Python, to be run in the job's cgroup."""
    return [request.python, *job.words]


def cgroup_variables(request: ProbeRequest, job: Job) -> t.Dict[str, str]:
    """Environment variables of the program outside of a container."""
    visible = "" if job.gpu is None else job.gpu.uuid or str(job.gpu.index)
    return {"PYTHONPATH": request.program, "CUDA_DEVICE_ORDER": "PCI_BUS_ID", "CUDA_VISIBLE_DEVICES": visible}


class CgroupFile(t.NamedTuple):
    """A file in a cgroup's folder of one hierarchy, and what is written to it."""

    controller: str
    name: str
    value: str


def cgroup_settings(version: int, job: Job, memory_nodes: str) -> t.List[CgroupFile]:
    """The job's limits as cgroup files, in the order of writing.

    Version 1 requires cpuset.mems before a process may join (Documentation/admin-guide/cgroup-v1/cpusets.rst); in
    version 2, empty values of both are inherited from the parent (Documentation/admin-guide/cgroup-v2.rst). The period
    is the kernel's default.
    """
    period = 100000
    settings = []
    if version == 2:
        if job.quota is not None:
            settings.append(CgroupFile("", "cpu.max", f"{job.quota * period} {period}"))
        if job.shares is not None:
            settings.append(CgroupFile("", "cpu.weight", str(cpu_weight(job.shares))))
        return settings + ([CgroupFile("", "cpuset.cpus", job.cpuset)] if job.cpuset else [])
    if job.quota is not None:
        settings.append(CgroupFile("cpu", "cpu.cfs_period_us", str(period)))
        settings.append(CgroupFile("cpu", "cpu.cfs_quota_us", str(job.quota * period)))
    if job.shares is not None:
        settings.append(CgroupFile("cpu", "cpu.shares", str(job.shares)))
    if job.cpuset:
        settings += [CgroupFile("cpuset", "cpuset.cpus", job.cpuset), CgroupFile("cpuset", "cpuset.mems", memory_nodes)]
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
    for arm, found in running.items():
        samples = sorted(found)
        if samples:
            middle = samples[len(samples) // 2]
            words.append(f"{middle:.0f} MHz ({samples[0]:.0f} to {samples[-1]:.0f}) with {described(arm)}")
    frequency = "busiest CPU at " + ", ".join(words) if words else "frequency while running unknown"
    return f"{frequency}; {clock_words(topology)}"
