# SPDX-License-Identifier: GPL-3.0-or-later
"""What the kernel says about CPUs, caches, NUMA nodes, clock, GPUs and network cards of this machine."""

from __future__ import annotations

import re
import typing as t

from ansible_collections.kubepin.tuning.plugins.module_utils.common.cpuset import (
    CpusetError,
    format_cpuset,
    parse_cpuset,
)
from ansible_collections.kubepin.tuning.plugins.module_utils.node.readers.system_files import (
    SystemFiles,
    open_files,
    parse_mask,
)

SCHEMA = 1
UNKNOWN = "unknown"

_UNITS = ("Ki", "Mi", "Gi")
_SYSTEM = "sys/devices/system"
_PCI_CLASS_NETWORK = "0x02"
_PCI_CLASS_DISPLAY = "0x03"
_PCI_VENDOR_NVIDIA = "0x10de"

CpuSet = t.FrozenSet[int]


class Cpu(t.TypedDict):
    """One logical CPU. Where the kernel does not report them, for example for an offline CPU, numbers are None and
    `siblings` is empty."""

    id: int
    online: bool
    socket: t.Optional[int]
    die: t.Optional[int]
    core: t.Optional[int]
    numa_node: t.Optional[int]
    l3: t.Optional[int]
    siblings: str


class CpuGroup(t.TypedDict):
    """The online CPUs of one socket, NUMA node or L3 cache."""

    id: int
    cpus: str


class NumaNode(CpuGroup):
    """A NUMA node. `memory` maps "memory" and "hugepages-SIZE", as Kubernetes names them, to bytes; "memory" includes
    the huge pages. It is empty if the kernel does not report it."""

    memory: t.Dict[str, int]


class Core(t.TypedDict):
    """The online CPUs of one physical core."""

    socket: t.Optional[int]
    core: t.Optional[int]
    numa_node: t.Optional[int]
    l3: t.Optional[int]
    cpus: str


class Clock(t.TypedDict):
    """Frequencies in MHz; `current_mhz` is the mean over the online CPUs."""

    current_mhz: t.Optional[float]
    base_mhz: t.Optional[float]
    max_mhz: t.Optional[float]


class Gpu(t.TypedDict):
    """One NVIDIA display controller; `vendor` and `device` are PCI numbers in hexadecimal digits."""

    address: str
    vendor: str
    device: str
    numa_node: t.Optional[int]
    local_cpus: str


class Nic(t.TypedDict):
    """One PCI network controller; `driver` is None where none is bound."""

    address: str
    driver: t.Optional[str]
    interfaces: t.List[str]
    numa_node: t.Optional[int]
    local_cpus: str


class Topology(t.TypedDict):
    """The machine. CPU sets are texts in the kernel's list format, empty for none."""

    schema: int
    cpus: t.List[Cpu]
    online: str
    offline: str
    isolated: str
    housekeeping: t.Dict[str, str]
    sockets: t.List[CpuGroup]
    numa_nodes: t.List[NumaNode]
    l3_groups: t.List[CpuGroup]
    cores: t.List[Core]
    threads_per_core: int
    smt_control: str
    clock: Clock
    governor: str
    boost: str
    gpus: t.List[Gpu]
    nics: t.List[Nic]


class L3Cache(t.NamedTuple):
    """The L3 cache of one CPU: the kernel's number for it, if it gives one, and the CPUs that share it."""

    id: t.Optional[int]
    shared: CpuSet


def read_topology(root: str = "/") -> Topology:
    """The topology of the machine whose /sys and /proc are under `root`: a folder, or a tar archive of one.

    :raises DumpError: if `root` is neither
    """
    return topology_of(open_files(root))


def topology_of(files: SystemFiles) -> Topology:
    """The topology of the machine that the files belong to.

    The files are those of Documentation/admin-guide/cputopology.rst, ABI/testing/sysfs-devices-system-cpu,
    ABI/stable/sysfs-devices-node and ABI/testing/sysfs-bus-pci. Virtual machines, containers and old kernels lack
    many of them. A value that is missing, unreadable or invalid is None, empty or "unknown", and never an error.
    """
    cpu_dir = f"{_SYSTEM}/cpu"
    listed = files.numbered(cpu_dir, "cpu")
    processors = _processors(files.text("proc/cpuinfo") or "")
    online = _online(files, cpu_dir, listed, processors)
    known = sorted({*listed, *online})
    nodes = without_overlap(
        {
            node: files.cpus(f"{_SYSTEM}/node/node{node}/cpulist", f"{_SYSTEM}/node/node{node}/cpumap")
            for node in files.numbered(f"{_SYSTEM}/node", "node")
        }
    )
    siblings = {cpu: _thread_siblings(files, f"{cpu_dir}/cpu{cpu}/topology") for cpu in known}
    found = {cpu: _l3_cache(files, f"{cpu_dir}/cpu{cpu}/cache", siblings[cpu] | {cpu}) for cpu in known}
    caches = {cpu: cache for cpu, cache in found.items() if cache is not None}
    cpus = with_siblings([_cpu(files, f"{cpu_dir}/cpu{cpu}/topology", cpu, cpu in online) for cpu in known], siblings)
    l3_ids = name_caches(caches)
    node_of = {cpu: node for node, members in nodes.items() for cpu in members}
    for cpu in cpus:
        cpu["l3"] = l3_ids.get(cpu["id"])
        cpu["numa_node"] = node_of.get(cpu["id"])
    cores = find_cores(cpus)
    return {
        "schema": SCHEMA,
        "cpus": cpus,
        "online": format_cpuset(online),
        "offline": format_cpuset(set(known) - online),
        "isolated": format_cpuset(files.cpus(f"{cpu_dir}/isolated")),
        "housekeeping": _housekeeping(files, cpu_dir, online),
        "sockets": group_online(cpus, lambda cpu: cpu["socket"]),
        "numa_nodes": [
            {"id": node, "cpus": format_cpuset(nodes[node] & online), "memory": _memory(files, node)}
            for node in sorted(nodes)
        ],
        "l3_groups": group_online(cpus, lambda cpu: cpu["l3"]),
        "cores": cores,
        "threads_per_core": max((len(parse_cpuset(core["cpus"])) for core in cores), default=1),
        "smt_control": files.text(f"{cpu_dir}/smt/control") or UNKNOWN,
        "clock": _clock(files, cpu_dir, sorted(online), processors),
        "governor": _governor(files, cpu_dir, sorted(online)),
        "boost": _boost(files, cpu_dir),
        "gpus": _gpus(files),
        "nics": _nics(files),
    }


def _housekeeping(files: SystemFiles, cpu_dir: str, online: CpuSet) -> t.Dict[str, str]:
    """What confines the system's own work -> the online CPUs that it leaves to it; nothing that leaves it all of them.

    The kernel's nohz_full and irqaffinity (Documentation/admin-guide/kernel-parameters.txt), and systemd's CPUAffinity=
    (systemd-system.conf(5)), which PID 1 has and every service inherits.
    """
    init = re.search(r"^Cpus_allowed_list:[ \t]*(\S+)$", files.text("proc/1/status") or "", re.MULTILINE)
    confined = {
        "nohz_full": online - files.cpus(f"{cpu_dir}/nohz_full"),
        "CPUAffinity": online & _cpus_of(init[1] if init else ""),
        "irqaffinity": online & parse_mask(files.text("proc/irq/default_smp_affinity") or ""),
    }
    return {name: format_cpuset(cpus) for name, cpus in confined.items() if cpus and cpus != online}


def _cpus_of(text: str) -> CpuSet:
    try:
        return parse_cpuset(text)
    except CpusetError:
        return frozenset()


def _memory(files: SystemFiles, node: int) -> t.Dict[str, int]:
    """The node's memory and huge pages in bytes, read as cAdvisor does (utils/sysinfo GetNodesInfo)."""
    folder = f"{_SYSTEM}/node/node{node}"
    total = re.search(r"MemTotal:\s*(\d{1,18}) kB", files.text(f"{folder}/meminfo") or "")
    memory = {"memory": int(total[1]) * 1024} if total else {}
    for name in files.names(f"{folder}/hugepages"):
        size = re.fullmatch(r"hugepages-(\d{1,18})kB", name, re.ASCII)
        pages = files.number(f"{folder}/hugepages/{name}/nr_hugepages")
        if size and pages is not None:
            memory[f"hugepages-{_binary(int(size[1]))}"] = pages * int(size[1]) * 1024
    return memory


def _binary(kib: int) -> str:
    """A size in KiB as Kubernetes writes it: 2048 is 2Mi."""
    unit = 0
    while kib % 1024 == 0 and unit < len(_UNITS) - 1:
        kib, unit = kib // 1024, unit + 1
    return f"{kib}{_UNITS[unit]}"


def without_overlap(nodes: t.Mapping[int, CpuSet]) -> t.Dict[int, CpuSet]:
    """NUMA node -> its CPUs, each CPU in the lowest node that claims it.

    Some firmware lists every CPU in every node; hwloc then ignores the other nodes (topology-linux.c, look_sysfsnode).
    """
    seen: t.Set[int] = set()
    result: t.Dict[int, CpuSet] = {}
    for node in sorted(nodes):
        result[node] = nodes[node] - seen
        seen |= nodes[node]
    return result


def name_caches(caches: t.Mapping[int, L3Cache]) -> t.Dict[int, int]:
    """CPU -> number of its L3 cache, unique on the machine.

    The kernel's cache id should be unique per level (ABI/testing/sysfs-devices-system-cpu, cache/index*/id). If one
    is missing, or two caches have the same id, every cache gets the number of its lowest CPU instead.
    """
    by_id: t.Dict[t.Optional[int], t.Set[CpuSet]] = {}
    for cache in caches.values():
        by_id.setdefault(cache.id, set()).add(cache.shared)
    if None not in by_id and all(len(shared) == 1 for shared in by_id.values()):
        return {cpu: cache.id for cpu, cache in caches.items() if cache.id is not None}
    return {cpu: min(cache.shared) for cpu, cache in caches.items()}


def with_siblings(cpus: t.Sequence[Cpu], siblings: t.Mapping[int, CpuSet]) -> t.List[Cpu]:
    """`cpus` with the sibling hardware threads of each, itself included.

    The kernel's own list (`siblings`) takes precedence. Without one, online CPUs with the same socket, die and core
    number are siblings, because the core number alone is not unique on the machine. A CPU with neither is its own
    only sibling.
    """
    same_core: t.Dict[t.Tuple[t.Optional[int], t.Optional[int], t.Optional[int]], t.Set[int]] = {}
    for cpu in cpus:
        if cpu["online"]:
            same_core.setdefault((cpu["socket"], cpu["die"], cpu["core"]), set()).add(cpu["id"])
    result: t.List[Cpu] = []
    for cpu in cpus:
        found: t.Collection[int] = siblings.get(cpu["id"], frozenset())
        if not found and cpu["online"]:
            known = cpu["core"] is not None
            found = same_core[cpu["socket"], cpu["die"], cpu["core"]] if known else {cpu["id"]}
        result.append(t.cast(Cpu, {**cpu, "siblings": format_cpuset(found)}))
    return result


def find_cores(cpus: t.Sequence[Cpu]) -> t.List[Core]:
    """The physical cores with at least one online CPU, in the order of their lowest CPU."""
    members: t.Dict[str, t.List[Cpu]] = {}
    for cpu in cpus:
        if cpu["online"]:
            members.setdefault(cpu["siblings"], []).append(cpu)
    return [
        {
            "socket": threads[0]["socket"],
            "core": threads[0]["core"],
            "numa_node": threads[0]["numa_node"],
            "l3": threads[0]["l3"],
            "cpus": format_cpuset(thread["id"] for thread in threads),
        }
        for threads in members.values()
    ]


def group_online(cpus: t.Sequence[Cpu], key: t.Callable[[Cpu], t.Optional[int]]) -> t.List[CpuGroup]:
    """The online CPUs grouped by `key`, in the order of the keys; CPUs whose key is None are in no group."""
    members: t.Dict[int, t.List[int]] = {}
    for cpu in cpus:
        number = key(cpu)
        if cpu["online"] and number is not None:
            members.setdefault(number, []).append(cpu["id"])
    return [{"id": number, "cpus": format_cpuset(members[number])} for number in sorted(members)]


def _processors(cpuinfo: str) -> t.Dict[int, t.Dict[str, str]]:
    """CPU number -> its fields in the text of /proc/cpuinfo."""
    result: t.Dict[int, t.Dict[str, str]] = {}
    for block in re.split(r"\n\s*\n", cpuinfo):
        lines = (line.partition(":") for line in block.splitlines())
        fields = {name.strip(): value.strip() for name, _colon, value in lines}
        if re.fullmatch(r"\d{1,9}", fields.get("processor", ""), re.ASCII):
            result[int(fields["processor"])] = fields
    return result


def _online(files: SystemFiles, cpu_dir: str, listed: t.Sequence[int], processors: t.Mapping[int, t.Any]) -> CpuSet:
    online = files.cpus(f"{cpu_dir}/online")
    if online:
        return online
    if listed:
        return frozenset(cpu for cpu in listed if files.text(f"{cpu_dir}/cpu{cpu}/online") != "0")
    return frozenset(processors)


def _cpu(files: SystemFiles, topology: str, cpu: int, online: bool) -> Cpu:
    return {
        "id": cpu,
        "online": online,
        "socket": files.number(f"{topology}/physical_package_id"),
        "die": files.number(f"{topology}/die_id"),
        "core": files.number(f"{topology}/core_id"),
        "numa_node": None,
        "l3": None,
        "siblings": "",
    }


def _thread_siblings(files: SystemFiles, topology: str) -> CpuSet:
    """Linux 5.3 renamed thread_siblings to core_cpus and keeps both (Documentation/admin-guide/cputopology.rst)."""
    for name in ("core_cpus", "thread_siblings"):
        found = files.cpus(f"{topology}/{name}_list", f"{topology}/{name}")
        if found:
            return found
    return frozenset()


def _l3_cache(files: SystemFiles, cache_dir: str, own: CpuSet) -> t.Optional[L3Cache]:
    """The L3 cache of a CPU. If the kernel's list lacks any thread of the CPU's core (`own`), only these share it."""
    for index in files.numbered(cache_dir, "index"):
        cache = f"{cache_dir}/index{index}"
        if files.number(f"{cache}/level") == 3 and files.text(f"{cache}/type") in ("Unified", "Data"):
            shared = files.cpus(f"{cache}/shared_cpu_list", f"{cache}/shared_cpu_map")
            return L3Cache(files.number(f"{cache}/id"), shared if own <= shared else own)
    return None


def _clock(
    files: SystemFiles, cpu_dir: str, online: t.Sequence[int], processors: t.Mapping[int, t.Mapping[str, str]]
) -> Clock:
    """cpufreq counts in kHz, CPPC and /proc/cpuinfo in MHz, a model name in GHz ("... CPU @ 2.20GHz")."""

    def of_cpus(name: str, per_mhz: int) -> t.List[float]:
        values = (files.number(f"{cpu_dir}/cpu{cpu}/{name}") for cpu in online)
        return [value / per_mhz for value in values if value]

    def of_cpuinfo(field: str, pattern: str, mhz: int) -> t.List[float]:
        texts = (re.search(pattern, processors.get(cpu, {}).get(field, ""), re.ASCII) for cpu in online)
        return [float(match[1]) * mhz for match in texts if match]

    current = of_cpus("cpufreq/scaling_cur_freq", 1000) or of_cpuinfo("cpu MHz", r"^(\d+\.?\d*)$", 1)
    base = (
        of_cpus("cpufreq/base_frequency", 1000)
        or of_cpus("acpi_cppc/nominal_freq", 1)
        or of_cpuinfo("model name", r"@\s*(\d+\.?\d*)\s*GHz", 1000)
    )
    return {
        "current_mhz": round(sum(current) / len(current), 1) if current else None,
        "base_mhz": max(base, default=None),
        "max_mhz": max(of_cpus("cpufreq/cpuinfo_max_freq", 1000), default=None),
    }


def _governor(files: SystemFiles, cpu_dir: str, online: t.Sequence[int]) -> str:
    found = {files.text(f"{cpu_dir}/cpu{cpu}/cpufreq/scaling_governor") for cpu in online}
    return ",".join(sorted(governor for governor in found if governor)) or UNKNOWN


def _boost(files: SystemFiles, cpu_dir: str) -> str:
    """Whether the clock may rise above the base frequency (Documentation/admin-guide/pm/cpufreq.rst and
    intel_pstate.rst)."""
    boost = files.number(f"{cpu_dir}/cpufreq/boost")
    if boost is None:
        no_turbo = files.number(f"{cpu_dir}/intel_pstate/no_turbo")
        boost = None if no_turbo is None else 1 - no_turbo
    return {0: "off", 1: "on"}.get(t.cast(int, boost), UNKNOWN)


def _pci_devices(files: SystemFiles, pci_class: str) -> t.Iterator[t.Tuple[str, str]]:
    """Address and folder of each PCI device of a class."""
    folder = "sys/bus/pci/devices"
    for address in files.names(folder):
        device = f"{folder}/{address}"
        if (files.text(f"{device}/class") or "").startswith(pci_class):
            yield address, device


def _local_cpus(files: SystemFiles, device: str) -> str:
    return format_cpuset(files.cpus(f"{device}/local_cpulist", f"{device}/local_cpus"))


def _hex_digits(text: t.Optional[str]) -> str:
    return text[2:] if text and text.startswith("0x") else UNKNOWN


def _gpus(files: SystemFiles) -> t.List[Gpu]:
    return [
        {
            "address": address,
            "vendor": _hex_digits(_PCI_VENDOR_NVIDIA),
            "device": _hex_digits(files.text(f"{device}/device")),
            "numa_node": files.number(f"{device}/numa_node"),
            "local_cpus": _local_cpus(files, device),
        }
        for address, device in _pci_devices(files, _PCI_CLASS_DISPLAY)
        if files.text(f"{device}/vendor") == _PCI_VENDOR_NVIDIA
    ]


def _nics(files: SystemFiles) -> t.List[Nic]:
    return [
        {
            "address": address,
            "driver": files.link_name(f"{device}/driver"),
            "interfaces": _interfaces(files, device),
            "numa_node": files.number(f"{device}/numa_node"),
            "local_cpus": _local_cpus(files, device),
        }
        for address, device in _pci_devices(files, _PCI_CLASS_NETWORK)
    ]


def _interfaces(files: SystemFiles, device: str) -> t.List[str]:
    """The network interfaces of a PCI device; those of a virtio card are one level down, below its virtio device."""
    holders = [device, *(f"{device}/{name}" for name in files.names(device) if name.startswith("virtio"))]
    return [name for holder in holders for name in files.names(f"{holder}/net")]
