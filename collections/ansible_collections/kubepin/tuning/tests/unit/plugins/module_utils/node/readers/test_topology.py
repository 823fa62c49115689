# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import os
import typing as t
from dataclasses import replace
from pathlib import Path

import pytest
from ansible_collections.kubepin.tuning.plugins.module_utils.common.cpuset import parse_cpuset
from ansible_collections.kubepin.tuning.plugins.module_utils.control.cpus.topology import Topology as ControlTopology
from ansible_collections.kubepin.tuning.plugins.module_utils.node.readers.system_files import Memory
from ansible_collections.kubepin.tuning.plugins.module_utils.node.readers.topology import (
    Cpu,
    L3Cache,
    Topology,
    find_cores,
    name_caches,
    read_topology,
    topology_of,
    with_siblings,
    without_overlap,
)
from ansible_collections.kubepin.tuning.tests.unit.samples.dumps import (
    DIFFERENCES,
    Dump,
    Expected,
    expected_of_lscpu,
    expected_of_lstopo,
    load,
    topologies,
)
from ansible_collections.kubepin.tuning.tests.unit.samples.inputs import ANY_TEXT
from hypothesis import given
from hypothesis import strategies as st

from tests.topologies import MACHINES, tree

Tree = t.Dict[str, str]


@pytest.fixture
def machine(tmp_path: Path) -> t.Callable[[Tree], Topology]:
    """Reads the topology of a tree given as path -> content; "-> target" makes a symbolic link."""

    def read(tree: Tree) -> Topology:
        for name, content in tree.items():
            path = tmp_path / name
            path.parent.mkdir(parents=True, exist_ok=True)
            if content.startswith("-> "):
                path.symlink_to(content[3:])
            else:
                path.write_text(content + "\n")
        return read_topology(str(tmp_path))

    return read


def epyc_7773x_pair() -> Tree:
    """A generated machine, with clocks, and network and display cards beside its GPUs."""
    cpu_dir = "sys/devices/system/cpu"
    files = {**tree(replace(MACHINES["epyc-7773x-nps1"], gpus=(0, 1))), f"{cpu_dir}/cpufreq/boost": "1"}
    for cpu in range(256):
        files.update(
            {
                f"{cpu_dir}/cpu{cpu}/cpufreq/scaling_cur_freq": "3000000" if cpu % 2 else "3500000",
                f"{cpu_dir}/cpu{cpu}/cpufreq/cpuinfo_max_freq": "3527734",
                f"{cpu_dir}/cpu{cpu}/cpufreq/scaling_governor": "performance",
                f"{cpu_dir}/cpu{cpu}/acpi_cppc/nominal_freq": "2200",
            }
        )
    devices = {
        "0000:02:00.0": ("0x030000", "0x1a03", "0x2000", "0", "0-63,128-191"),
        "0000:a1:00.0": ("0x020000", "0x15b3", "0x101b", "1", "64-127,192-255"),
        "0000:a2:00.0": ("0x020000", "0x1af4", "0x1000", "-1", "0-255"),
    }
    for address, values in devices.items():
        names = ("class", "vendor", "device", "numa_node", "local_cpulist")
        files.update({f"sys/bus/pci/devices/{address}/{name}": value for name, value in zip(names, values)})
    return {
        **files,
        "sys/bus/pci/devices/0000:a1:00.0/driver": "-> ../../drivers/mlx5_core",
        "sys/bus/pci/devices/0000:a1:00.0/net/ens1f0/mtu": "1500",
        "sys/bus/pci/devices/0000:a2:00.0/virtio1/net/eth0/mtu": "1500",
    }


def test_epyc_pair() -> None:
    topology = topology_of(Memory(epyc_7773x_pair()))
    assert topology["schema"] == 1
    assert (topology["online"], topology["offline"], topology["isolated"]) == ("0-255", "", "")
    assert topology["sockets"] == [{"id": 0, "cpus": "0-63,128-191"}, {"id": 1, "cpus": "64-127,192-255"}]
    assert [(node["id"], node["cpus"]) for node in topology["numa_nodes"]] == [
        (socket["id"], socket["cpus"]) for socket in topology["sockets"]
    ]
    assert [node["memory"] for node in topology["numa_nodes"]] == [{"memory": 512 * 2**30}] * 2
    assert len(topology["l3_groups"]) == 16
    assert topology["l3_groups"][9] == {"id": 9, "cpus": "72-79,200-207"}
    assert len(topology["cores"]) == 128
    assert topology["cores"][64] == {"socket": 1, "core": 0, "numa_node": 1, "l3": 8, "cpus": "64,192"}
    assert topology["cpus"][192] == {
        "id": 192, "online": True, "socket": 1, "die": 0, "core": 0, "numa_node": 1, "l3": 8, "siblings": "64,192",
    }  # fmt: skip
    assert topology["threads_per_core"] == 2
    assert topology["clock"] == {"current_mhz": 3250.0, "base_mhz": 2200.0, "max_mhz": 3527.734}
    assert (topology["smt_control"], topology["governor"], topology["boost"]) == ("on", "performance", "on")
    assert topology["gpus"] == [
        {"address": "0000:01:00.0", "vendor": "10de", "device": "2204", "numa_node": 0, "local_cpus": "0-63,128-191"},
        {"address": "0000:11:00.0", "vendor": "10de", "device": "2204", "numa_node": 1, "local_cpus": "64-127,192-255"},
    ]
    assert topology["nics"] == [
        {
            "address": "0000:a1:00.0", "driver": "mlx5_core", "interfaces": ["ens1f0"],
            "numa_node": 1, "local_cpus": "64-127,192-255",
        },
        {"address": "0000:a2:00.0", "driver": None, "interfaces": ["eth0"], "numa_node": None, "local_cpus": "0-255"},
    ]  # fmt: skip


def test_memory_and_huge_pages_of_a_numa_node_as_kubernetes_names_them() -> None:
    node = "sys/devices/system/node/node0"
    files = {
        f"{node}/cpulist": "0",
        f"{node}/meminfo": "Node 0 MemTotal:       16384 kB\nNode 0 MemFree:        1 kB",
        f"{node}/hugepages/hugepages-64kB/nr_hugepages": "3",
        f"{node}/hugepages/hugepages-2048kB/nr_hugepages": "2",
        f"{node}/hugepages/hugepages-1048576kB/nr_hugepages": "0",
    }
    assert topology_of(Memory(files))["numa_nodes"][0]["memory"] == {
        "memory": 16 * 2**20,
        "hugepages-64Ki": 192 * 2**10,
        "hugepages-2Mi": 4 * 2**20,
        "hugepages-1Gi": 0,
    }


def test_smt_turned_off() -> None:
    """The kernel takes the topology folders of offline CPUs away."""
    files = {
        name: content
        for name, content in epyc_7773x_pair().items()
        if not any(f"/cpu{cpu}/topology" in name or f"/cpu{cpu}/cache" in name for cpu in range(128, 256))
    }
    for core in range(128):
        files[f"sys/devices/system/cpu/cpu{core}/topology/core_cpus_list"] = str(core)
    topology = topology_of(
        Memory({**files, "sys/devices/system/cpu/online": "0-127", "sys/devices/system/cpu/smt/control": "off"})
    )
    assert (topology["online"], topology["offline"]) == ("0-127", "128-255")
    assert (topology["threads_per_core"], len(topology["cores"])) == (1, 128)
    assert topology["numa_nodes"][0]["cpus"] == "0-63"
    offline = topology["cpus"][200]
    assert (offline["online"], offline["socket"], offline["core"], offline["siblings"]) == (False, None, None, "")


@pytest.mark.parametrize(
    ("tree", "online", "cores"),
    [
        pytest.param({}, "", [], id="nothing at all"),
        pytest.param({"proc/cpuinfo": "processor\t: 0\n\nprocessor\t: 1\n"}, "0-1", ["0", "1"], id="cpuinfo only"),
        pytest.param({"sys/devices/system/cpu/online": "0-1"}, "0-1", ["0", "1"], id="online only"),
        pytest.param(
            {"sys/devices/system/cpu/cpu0/uevent": "", "sys/devices/system/cpu/cpu1/online": "0"}, "0", ["0"], id="no online file"
        ),
        pytest.param(
            {"sys/devices/system/cpu/online": "rubbish", "sys/devices/system/cpu/cpu0/topology/core_id": "x"}, "0", ["0"],
            id="senseless",
        ),
        pytest.param(
            {"sys/devices/system/cpu/online/x": "", "sys/devices/system/cpu/cpu0/topology": "a file"}, "0", ["0"],
            id="folders and files mixed up",
        ),
    ],
)  # fmt: skip
def test_what_is_missing_is_unknown(
    machine: t.Callable[[Tree], Topology], tree: Tree, online: str, cores: list[str]
) -> None:
    topology = machine(tree)
    assert topology["online"] == online
    assert [core["cpus"] for core in topology["cores"]] == cores
    assert topology["sockets"] == topology["numa_nodes"] == topology["l3_groups"] == []
    assert (topology["gpus"], topology["nics"]) == ([], [])
    assert topology["threads_per_core"] == 1
    assert topology["clock"] == {"current_mhz": None, "base_mhz": None, "max_mhz": None}
    assert topology["smt_control"] == topology["governor"] == topology["boost"] == "unknown"


@pytest.mark.skipif(os.geteuid() == 0, reason="root reads everything")
def test_unreadable_files_are_unknown(machine: t.Callable[[Tree], Topology], tmp_path: Path) -> None:
    machine({"sys/devices/system/cpu/online": "0", "sys/devices/system/cpu/smt/control": "on"})
    (tmp_path / "sys/devices/system/cpu/smt/control").chmod(0)
    assert read_topology(str(tmp_path))["smt_control"] == "unknown"


@pytest.mark.parametrize(
    ("tree", "boost"),
    [
        pytest.param({"cpufreq/boost": "1"}, "on", id="cpufreq on"),
        pytest.param({"cpufreq/boost": "0"}, "off", id="cpufreq off"),
        pytest.param({"intel_pstate/no_turbo": "0"}, "on", id="intel_pstate on"),
        pytest.param({"intel_pstate/no_turbo": "1"}, "off", id="intel_pstate off"),
        pytest.param({}, "unknown", id="neither"),
    ],
)
def test_boost(machine: t.Callable[[Tree], Topology], tree: Tree, boost: str) -> None:
    assert machine({f"sys/devices/system/cpu/{name}": text for name, text in tree.items()})["boost"] == boost


def test_clock_of_cpuinfo(machine: t.Callable[[Tree], Topology]) -> None:
    block = "processor\t: {}\nmodel name\t: Intel(R) Xeon(R) CPU @ 2.20GHz\ncpu MHz\t\t: {}\n\n"
    topology = machine({"proc/cpuinfo": block.format(0, "2200.5") + block.format(1, "2300.5")})
    assert topology["clock"] == {"current_mhz": 2250.5, "base_mhz": 2200.0, "max_mhz": None}


def test_different_governors(machine: t.Callable[[Tree], Topology]) -> None:
    folder = "sys/devices/system/cpu"
    governors = {
        f"{folder}/cpu{cpu}/cpufreq/scaling_governor": name for cpu, name in enumerate(("schedutil", "performance"))
    }
    assert machine({f"{folder}/online": "0-1", **governors})["governor"] == "performance,schedutil"


@pytest.mark.parametrize(
    ("caches", "names"),
    [
        pytest.param([(0, "0-1"), (0, "0-1"), (4, "2-3"), (4, "2-3")], [0, 0, 4, 4], id="the kernel's numbers"),
        pytest.param([(None, "0-1"), (None, "0-1"), (None, "2-3"), (None, "2-3")], [0, 0, 2, 2], id="no numbers"),
        pytest.param([(0, "0-1"), (0, "0-1"), (0, "2-3"), (0, "2-3")], [0, 0, 2, 2], id="numbers not unique"),
        pytest.param([(1, "0-1"), (1, "0-1"), (None, "2-3"), (None, "2-3")], [0, 0, 2, 2], id="some without a number"),
    ],
)
def test_name_caches(caches: list[tuple[int | None, str]], names: list[int]) -> None:
    found = {cpu: L3Cache(number, parse_cpuset(shared)) for cpu, (number, shared) in enumerate(caches)}
    assert name_caches(found) == dict(enumerate(names))


def test_a_cpu_is_in_one_numa_node() -> None:
    everywhere = parse_cpuset("0-3")
    assert without_overlap({1: everywhere, 0: parse_cpuset("0-1")}) == {0: parse_cpuset("0-1"), 1: parse_cpuset("2-3")}


@pytest.mark.parametrize("shared", ["00", "04"], ids=["nobody's", "somebody else's"])
def test_an_l3_cache_belongs_at_least_to_its_core(machine: t.Callable[[Tree], Topology], shared: str) -> None:
    folder = "sys/devices/system/cpu/cpu0"
    cache = {"level": "3", "type": "Unified", "shared_cpu_map": shared}
    files = {f"{folder}/cache/index3/{name}": text for name, text in cache.items()}
    topology = machine({"sys/devices/system/cpu/online": "0-1", f"{folder}/topology/thread_siblings": "3", **files})
    assert [group["cpus"] for group in topology["l3_groups"]] == ["0"]


def _cpu(number: int, socket: int | None, core: int | None) -> Cpu:
    return {
        "id": number, "online": True, "socket": socket, "die": None, "core": core, "numa_node": None, "l3": None, "siblings": "",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("cpus", "listed", "cores"),
    [
        pytest.param([_cpu(0, 0, 0), _cpu(1, 1, 0)], {}, ["0", "1"], id="same core number, other socket"),
        pytest.param([_cpu(0, 0, 0), _cpu(1, 0, 0)], {}, ["0-1"], id="same core number, same socket"),
        pytest.param([_cpu(0, None, None), _cpu(1, None, None)], {}, ["0", "1"], id="unknown: each alone"),
        pytest.param([_cpu(0, 0, 0), _cpu(1, 0, 0)], {0: {0}, 1: {1}}, ["0", "1"], id="the kernel's list counts"),
        pytest.param(
            [_cpu(0, 0, 0), _cpu(1, 0, 1), _cpu(2, 0, 0)], {}, ["0,2", "1"], id="in the order of the lowest CPU"
        ),
    ],
)
def test_cores(cpus: list[Cpu], listed: dict[int, set[int]], cores: list[str]) -> None:
    siblings = {cpu: frozenset(members) for cpu, members in listed.items()}
    assert [core["cpus"] for core in find_cores(with_siblings(cpus, siblings))] == cores


def test_epyc_7451_clock() -> None:
    topology = topology_of(load("util-linux")["x86_64-epyc_7451"].memory())
    assert topology["clock"] == {"current_mhz": 2893.7, "base_mhz": None, "max_mhz": 2300.0}
    assert (topology["governor"], topology["boost"]) == ("performance", "on")
    assert topology["numa_nodes"][5] == {"id": 5, "cpus": "30-35,78-83", "memory": {}}


# Every dump of a machine that hwloc and util-linux keep for their own tests, against what they expect of lstopo and lscpu.

OUTPUTS = [
    pytest.param(name, dump, output, id=f"{archive}-{output}")
    for archive in ("hwloc", "util-linux")
    for name, dump in load(archive).items()
    for output in dump.expected
    if not output.endswith((".options", ".env"))
]


@pytest.fixture(scope="module")
def read() -> dict[str, Topology]:
    """Dump -> its topology."""
    return {**topologies("hwloc"), **topologies("util-linux")}


def _expected(dump: Dump, output: str) -> Expected:
    text = dump.expected[output]
    if output.startswith("lscpu-"):
        return expected_of_lscpu(text)
    return expected_of_lstopo(text, dump.expected.get(output.replace(".output", ".options"), ""))


def _differing(topology: Topology, expected: Expected) -> set[str]:
    """What differs, of the CPUs that the tool shows."""
    online = parse_cpuset(topology["online"])
    shown = online if expected.online is None else expected.online
    found = set() if shown == online else {"online"}
    assert shown <= online
    for what in ("sockets", "cores", "l3_groups"):
        theirs = getattr(expected, what)
        ours = {parse_cpuset(group["cpus"]) & shown for group in topology[what]} - {frozenset()}
        found |= {what} if theirs is not None and theirs != ours else set()
    if expected.numa_nodes is not None:
        nodes = {node["id"]: parse_cpuset(node["cpus"]) & shown for node in topology["numa_nodes"]}
        expected_nodes = {number: cpus & shown for number, cpus in expected.numa_nodes.items()}
        if "online" in found:  # nodes outside the cgroup are not shown
            nodes = {number: cpus for number, cpus in nodes.items() if cpus}
            expected_nodes = {number: cpus for number, cpus in expected_nodes.items() if number in nodes or cpus}
            nodes = {number: cpus for number, cpus in nodes.items() if number in expected_nodes}
        found |= {"numa_nodes"} if nodes != expected_nodes else set()
    for what, count in expected.counts.items():
        ours_counted = topology[what]  # type: ignore[literal-required]
        found |= {what} if count != (ours_counted if isinstance(ours_counted, int) else len(ours_counted)) else set()
    return found


@pytest.mark.parametrize(("name", "dump", "output"), OUTPUTS)
def test_reads_what_the_packages_expect(read: dict[str, Topology], name: str, dump: Dump, output: str) -> None:
    known = {what for name_of_output, what in DIFFERENCES if name_of_output == output}
    assert _differing(read[name], _expected(dump, output)) == known


def test_every_dump_has_an_expectation() -> None:
    counts = {archive: len(load(archive)) for archive in ("hwloc", "util-linux")}
    assert counts == {"hwloc": 49, "util-linux": 16}
    assert {param.values[0] for param in OUTPUTS} == {name for archive in counts for name in load(archive)}
    assert {output for output, _what in DIFFERENCES} <= {param.values[2] for param in OUTPUTS}


@pytest.mark.parametrize("archive", ["hwloc", "util-linux"])
def test_every_online_cpu_is_in_one_core_and_at_most_one_group(read: dict[str, Topology], archive: str) -> None:
    for name in load(archive):
        topology = read[name]
        online = parse_cpuset(topology["online"])
        for what in ("cores", "sockets", "numa_nodes", "l3_groups"):
            sets = [parse_cpuset(group["cpus"]) for group in topology[what]]
            together = frozenset().union(*sets)
            assert sum(map(len, sets)) == len(together), (name, what)
            assert together <= online, (name, what)
            assert what != "cores" or together == online, name


@pytest.mark.parametrize(
    ("name", "offline", "threads_per_core", "memory_only"),
    [
        pytest.param("s390-lpar", "0,6-7", 1, [], id="offline CPUs of s390"),
        pytest.param("offline-cpu0-node0", "0-3,21-23", 1, [], id="CPU 0 offline"),
        pytest.param("x86-5intel64-hybrid-lakefield", "", 1, [], id="hybrid cores"),
        pytest.param("nvidiagpunumanodes", "", 4, [250, 251, 252, 253, 254, 255], id="GPU memory as NUMA nodes"),
        pytest.param("fakeheteromemtiers", "", 1, [4, 6, 8, 9], id="memory-less CPUs and nodes of memory alone"),
        pytest.param("fakecpuid1f-64intel64-2p4d2n2c2t", "", 2, [], id="16 NUMA nodes"),
    ],
)
def test_what_the_tools_do_not_show(
    read: dict[str, Topology], name: str, offline: str, threads_per_core: int, memory_only: list[int]
) -> None:
    topology = read[name]
    assert (topology["offline"], topology["threads_per_core"]) == (offline, threads_per_core)
    assert [node["id"] for node in topology["numa_nodes"] if not node["cpus"]] == memory_only


SMALL = tree(replace(MACHINES["one-socket"], cores_per_socket=4))
ODD = st.sampled_from(["", "-1", "0", "99999", "0-7", "5-1", "0-4294967295", "ffffffff,ffffffff", "-> .", "-> /sys"])


@given(
    st.dictionaries(st.sampled_from(sorted(SMALL)), ODD | ANY_TEXT, max_size=8), st.sets(st.sampled_from(sorted(SMALL)))
)
def test_any_machine_is_read_on_the_node_and_on_the_control_node(changed: Tree, missing: set[str]) -> None:
    there = {name: text for name, text in {**SMALL, **changed}.items() if name not in missing}
    found = topology_of(Memory(there))
    assert ControlTopology.of(found).online == parse_cpuset(found["online"])


@pytest.mark.parametrize(
    ("files", "housekeeping"),
    [
        ({}, {}),
        ({"proc/1/status": "Cpus_allowed:\tff\nCpus_allowed_list:\t0-255\nMems_allowed:\t1"}, {}),
        ({"proc/1/status": "Cpus_allowed_list:\t0-3,128-131"}, {"CPUAffinity": "0-3,128-131"}),
        ({"proc/1/status": "Cpus_allowed_list:\t(null)"}, {}),
        ({"proc/irq/default_smp_affinity": "00000000,0000000f"}, {"irqaffinity": "0-3"}),
        ({"sys/devices/system/cpu/nohz_full": "4-255"}, {"nohz_full": "0-3"}),
        ({"sys/devices/system/cpu/nohz_full": "  (null)"}, {}),
        ({"sys/devices/system/cpu/nohz_full": "0-255"}, {}),
    ],
)
def test_what_confines_the_systems_own_work(files: Tree, housekeeping: dict[str, str]) -> None:
    assert topology_of(Memory({**epyc_7773x_pair(), **files}))["housekeeping"] == housekeeping
