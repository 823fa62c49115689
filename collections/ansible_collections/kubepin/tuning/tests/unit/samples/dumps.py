# SPDX-License-Identifier: GPL-3.0-or-later
"""The dumps of real machines in fixtures/topology, and what lstopo and lscpu are expected to say of them."""

from __future__ import annotations

import re
import tarfile
import xml.etree.ElementTree as ET
from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

from ansible_collections.kubepin.tuning.plugins.module_utils.common.cpuset import parse_cpuset
from ansible_collections.kubepin.tuning.plugins.module_utils.node.readers.system_files import Memory, parse_mask
from ansible_collections.kubepin.tuning.plugins.module_utils.node.readers.topology import Topology, topology_of

FIXTURES = Path(__file__).parents[1] / "fixtures" / "topology"
Groups = frozenset[frozenset[int]]


@dataclass
class Dump:
    """A machine's files, and the package's expected outputs by file name."""

    files: dict[str, str] = field(default_factory=dict)
    folders: list[str] = field(default_factory=list)
    expected: dict[str, str] = field(default_factory=dict)

    def memory(self) -> Memory:
        return Memory(self.files, self.folders)


@dataclass(frozen=True)
class Expected:
    """What a tool's output says; None where it does not. Groups are CPU sets; NUMA nodes without CPUs have an empty one."""

    online: frozenset[int] | None = None
    sockets: Groups | None = None
    cores: Groups | None = None
    l3_groups: Groups | None = None
    numa_nodes: dict[int, frozenset[int]] | None = None
    counts: dict[str, int] = field(default_factory=dict)


@cache
def load(archive: str) -> dict[str, Dump]:
    """Name -> dump of `hwloc` or `util-linux`."""
    dumps: dict[str, Dump] = {}
    with tarfile.open(FIXTURES / f"{archive}.tar.xz") as source:
        for member in source:
            name, _separator, path = member.name.partition("/")
            dump = dumps.setdefault(name, Dump())
            if member.isdir():
                dump.folders.append(path)
            elif member.issym():
                dump.files[path] = f"-> {member.linkname}"
            else:
                text = source.extractfile(member).read().decode("utf-8", "replace")  # type: ignore[union-attr]
                if path.startswith("expected/"):
                    dump.expected[path.removeprefix("expected/")] = text
                else:
                    dump.files[path] = text
    return dumps


@cache
def topologies(archive: str) -> dict[str, Topology]:
    """Name -> topology of each dump of an archive."""
    return {name: topology_of(dump.memory()) for name, dump in load(archive).items()}


def _groups(sets: Iterable[frozenset[int]]) -> Groups:
    return frozenset(cpus for cpus in sets if cpus)


@dataclass
class _Object:
    """An object of lstopo: its kind, its number in the kernel, and its CPUs."""

    kind: str
    number: int | None
    cpus: set[int]


_LINE = re.compile(r"( *)([A-Za-z0-9-]+(?:\(MemorySideCache\))?)(.*)")
_STATISTICS = re.compile(r" *depth \d+:")
_MEMORY = ("NUMANode", "MemCache")


def lstopo_text(text: str) -> list[_Object]:
    """The objects of `lstopo -v`. A NUMA node has the CPUs of the object that it is attached to, one level up."""
    objects: list[_Object] = []
    open_objects: list[tuple[int, _Object]] = []
    attached: list[tuple[_Object, _Object]] = []
    for line in text.splitlines():
        match = _LINE.match(line)
        if match is None or _STATISTICS.match(line):
            break
        depth, kind = len(match[1]), match[2]
        number = re.search(r"P#(\d+)", match[3])
        found = _Object(kind, int(number[1]) if number else None, set())
        while open_objects and open_objects[-1][0] >= depth:
            open_objects.pop()
        if kind == "NUMANode":
            attached.append((found, next(o for _unused, o in reversed(open_objects) if o.kind not in _MEMORY)))
        elif kind == "PU" and found.number is not None:
            found.cpus.add(found.number)
            for _unused, above in open_objects:
                above.cpus.add(found.number)
        open_objects.append((depth, found))
        objects.append(found)
    for node, place in attached:
        node.cpus = place.cpus
    return objects


def lstopo_xml(text: str) -> list[_Object]:
    """The objects of `lstopo --of xml`."""
    return [
        _Object(
            element.get("type", ""),
            int(element.get("os_index", "-1")),
            set(parse_mask(_long_mask(element.get("cpuset", "")))),
        )
        for element in ET.fromstring(text).iter("object")
    ]


def _long_mask(text: str) -> str:
    """hwloc leaves out groups of zeroes: `0x1,,0xff` is `00000001,00000000,000000ff`."""
    return ",".join(group.removeprefix("0x").zfill(8) for group in text.split(","))


def expected_of_lstopo(text: str, options: str = "") -> Expected:
    """What an output of lstopo says; kinds that it does not show are None."""
    objects = lstopo_xml(text) if text.lstrip().startswith("<?xml") else lstopo_text(text)
    merged = "--merge" in options or "structure" in options

    def of(*kinds: str) -> Groups | None:
        found = _groups(frozenset(o.cpus) for o in objects if o.kind in kinds)
        return None if merged or not found else found

    return Expected(
        online=frozenset(o.number for o in objects if o.kind == "PU" and o.number is not None),
        sockets=None if "package:none" in options else of("Package"),
        cores=None if "--ignore Core" in options else of("Core"),
        l3_groups=None if "no-caches" in options else of("L3Cache", "L3") or frozenset(),
        numa_nodes={o.number: frozenset(o.cpus) for o in objects if o.kind == "NUMANode" and o.number is not None},
    )


_LSCPU_COUNTS = {"Thread(s) per core": "threads_per_core", "Socket(s)": "sockets", "NUMA node(s)": "numa_nodes"}


def expected_of_lscpu(text: str) -> Expected:
    """What the outputs of `lscpu` and `lscpu -p` say."""
    pairs = [line.split(":", 1) for line in text.splitlines() if ":" in line and not line.startswith("#")]
    fields = {name.strip(): value.strip() for name, value in pairs}
    columns: list[str] = []
    rows: list[list[str]] = []
    for line in text.splitlines():
        if line.startswith("# CPU,"):
            if rows:
                break  # the same again with the kernel's numbers
            columns = line.removeprefix("# ").split(",")
        elif columns and re.match(r"\d+,", line):
            rows.append(line.split(","))

    def by(column: str) -> Groups | None:
        if column not in columns:
            return None
        place = columns.index(column)
        groups: dict[str, set[int]] = {}
        for row in rows:
            if len(row) > place and row[place]:
                groups.setdefault(row[place], set()).add(int(row[0]))
        return _groups(frozenset(cpus) for cpus in groups.values()) if groups else None

    nodes = {
        int(m[1]): parse_cpuset(value) for name, value in fields.items() if (m := re.match(r"NUMA node(\d+) CPU", name))
    }
    online = fields.get("On-line CPU(s) list")
    return Expected(
        online=None if online is None else parse_cpuset(online),
        sockets=by("Socket"),
        cores=by("Core"),
        l3_groups=by("L3"),
        numa_nodes=nodes or None,
        counts={key: int(fields[name]) for name, key in _LSCPU_COUNTS.items() if fields.get(name, "").isdigit()},
    )


_CGROUP = "lstopo shows the CPUs that the dumped cgroup allowed; the kubelet's are those of the machine"
_NO_SOCKET = "the kernel numbers no sockets; lstopo and lscpu count core_siblings, the kubelet reads the number only"
_NO_NODE = "lstopo makes up one NUMA node where the kernel has none"
_PLACED = "lstopo places nodes of memory alone beside CPUs, the kernel names no CPU of theirs"
_UNITS = "lstopo counts core_id, the kernel's thread_siblings pair the two halves of an Opteron module"
_FILTERED = "lstopo was told to merge levels"

DIFFERENCES: dict[tuple[str, str], str] = {
    **{
        (name, "online"): _CGROUP
        for name in (
            "16amd64-4n4c-cgroup-distance-merge.output",
            "16amd64-8n2c-cpusets.output",
            "16amd64-8n2c-cpusets.xml.output",
            "16em64t-4s2ca2c-cpusetreorder.output",
            "16em64t-4s2ca2c-cpusetreorder-merge.output",
            "32amd64-4s2n4c-cgroup2.output",
            "32amd64-4s2n4c-cgroup2.xml.output",
            "4fake-4gr1nu1pu.output",
        )
    },
    **{
        (name, "sockets"): _NO_SOCKET
        for name in (
            "20s390-2g6s4c.output",
            "256ppc-8n8s4t.output",
            "2s390-2c.output",
            "4ia64-4s.output",
            "lscpu-ppc-qemu",
            "lscpu-ppc64-POWER7",
            "lscpu-ppc64-POWER7-64cpu",
            "lscpu-s390-kvm",
            "lscpu-s390-lpar",
            "lscpu-s390-zvm",
            "lscpu-sparc64",
        )
    },
    ("16ia64-8n2s.output", "sockets"): "two sockets have one number, which is what the kubelet goes by",
    ("40intel64-4n10c+pci-conflicts.output", "sockets"): "lstopo loses a socket to a group of a PCI device's wrong locality",
    ("40intel64-4n10c+pci-conflicts.output", "l3_groups"): "lstopo loses a cache to a group of a PCI device's wrong locality",
    **{
        (name, "l3_groups"): _FILTERED
        for name in (
            "16amd64-4n4c-cgroup-distance-merge.output",
            "16em64t-4s2c2t_merge.output",
            "16em64t-4s2ca2c-cpusetreorder-merge.output",
        )
    },
    ("64fake-4n2s2ca2c2t.output", "l3_groups"): "made up: its CPU lists contradict its masks, which lstopo reads",
    **{
        (name, "cores"): _UNITS
        for name in ("64amd64-4s2n4ca2co.output", "64amd64-4p2n4ca2co.output", "64amd64-4p2n4ca2co.topoextnuma.output")
    },
    **{
        (name, "numa_nodes"): _NO_NODE
        for name in (
            "20s390-2g6s4c.output",
            "2arm-2c.output",
            "2i386-2c-nohugepage.xml.output",
            "2i386-2t-hugepagesizecount.xml.output",
            "2ps3-2t.output",
            "2s390-2c.output",
        )
    },
    **{
        (name, "numa_nodes"): _PLACED
        for name in (
            "64intel64-fakeKNL-SNC4-hybrid.output",
            "64intel64-fakeKNL-SNC4-hybrid-msc.output",
            "fakeheteromemtiers.output",
            "fakememinitiators-1np2c+1npp+gi.output",
            "nvidiagpunumanodes.kept.output",
        )
    },
    ("nvidiagpunumanodes.output", "numa_nodes"): "lstopo leaves out the memory of GPUs unless it is told to keep it",
    ("fakeheterocpunuma.output", "numa_nodes"): "made up: CPUs in several NUMA nodes at once, which lstopo takes in a debug mode",
    ("8em64t-2s2ca2c-buggynuma.output", "numa_nodes"): "firmware names all CPUs in all nodes; lstopo drops the nodes that are left empty",
}  # fmt: skip
"""(output, what) -> why ours is another. A difference that is gone fails the test, too."""
