# SPDX-License-Identifier: GPL-3.0-or-later
"""What a probe of one host would run, and everything that it refuses."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import pytest
from ansible_collections.kubepin.tuning.plugins.module_utils.common.cpuset import format_cpuset, parse_cpuset
from ansible_collections.kubepin.tuning.plugins.module_utils.node.host_probe.plan import (
    CgroupFile,
    Engine,
    GpuDevice,
    Plan,
    ProbeHost,
    ProbeRequest,
    arm_order,
    busiest_mhz,
    cgroup_roots,
    cgroup_settings,
    cgroup_variables,
    choose_cpus,
    clock_sentence,
    container_command,
    parse_gpu_list,
    plan_probe,
)
from ansible_collections.kubepin.tuning.tests.unit.samples.machines import topology_facts

GPUS = (GpuDevice(0, "GPU-aa", "0000:21:00.0"), GpuDevice(1, "GPU-bb", "0000:a1:00.0"))
DOCKER = Engine("docker", "24.0.7", has_image=True)


def machine(offline: Sequence[int] = (), isolated: str = "", gpus_on: Sequence[int] = (), **shape: Any) -> Any:
    """A machine, with what the reader tells besides the shape; GPU N has the address of GPUS[N]."""
    told = topology_facts(**shape)
    online = parse_cpuset(told["online"])
    told.update(
        cpus=[{"id": cpu, "online": cpu in online} for cpu in sorted({*online, *offline})],
        isolated=isolated,
        governor="performance",
        boost="on",
        clock={"current_mhz": 3390.0, "base_mhz": 2200.0, "max_mhz": None},
        gpus=[{"address": gpu.address, "numa_node": node} for gpu, node in zip(GPUS, gpus_on)],
    )
    return told


EPYC_PAIR: dict[str, Any] = {"cores": 128, "threads": 2, "numa_nodes": 2, "sockets": 2}
EPYC = machine(**EPYC_PAIR, gpus_on=(1, 0))
REQUEST = ProbeRequest(
    run_id="gpu-01-a",
    engine="docker",
    image="example.org/torch:1",
    pull=False,
    python="python3",
    program="/srv/probe",
    program_options=["--matrix", "resnets"],
    threads="auto,cpus",
    auto_threads="found",
    cpus=12,
    cpuset="auto",
    gpu="auto",
    memory="30g",
    shm_size="30g",
    rounds=3,
    output="/srv/probe/lines.jsonl",
)
HOST = ProbeHost("gpu-01", EPYC, [DOCKER], GPUS)


def plan(host: ProbeHost = HOST, **changes: Any) -> Plan:
    return plan_probe(dataclasses.replace(REQUEST, **changes), host)


@pytest.mark.parametrize("rounds", [1, 2, 3, 8])
@pytest.mark.parametrize("run_id", ["a", "b", "c"])
def test_the_order_is_balanced_and_the_same_for_the_same_run(run_id: str, rounds: int) -> None:
    order = arm_order(run_id, rounds)
    assert [sorted(arms) for arms in order] == [["cpuset", "quota"]] * rounds
    first = [arms[0] for arms in order]
    assert abs(first.count("quota") - first.count("cpuset")) <= 1
    assert arm_order(run_id, rounds) == order


def test_the_order_differs_between_runs() -> None:
    assert len({str(arm_order(f"run-{number}", 4)) for number in range(20)}) > 3


@pytest.mark.parametrize(
    ("told", "count", "node", "expected", "explanation"),
    [
        pytest.param(EPYC, 12, 1, "64-69,192-197", "6 whole cores, NUMA 1 (the GPU's)", id="near the GPU"),
        pytest.param(
            EPYC, 12, 0, "1-6,129-134", "6 whole cores, NUMA 0 (the GPU's)", id="one L3, not the core of CPU 0"
        ),
        pytest.param(
            EPYC, 128, 0, "1-64,129-192", "64 whole cores, NUMA 0-1 (the GPU is on 0)", id="CPU 0 last, even so"
        ),
        pytest.param(
            EPYC, 3, 1, "64,192-193", "1 whole core and a part of one, NUMA 1 (the GPU's)", id="an odd number"
        ),
        pytest.param(machine(), 1, None, "1", "1 whole core, NUMA 0", id="two CPUs"),
        pytest.param(machine(cores=1, threads=2), 1, None, "1", "a part of one core, NUMA 0", id="two threads"),
        pytest.param(machine(cores=4, isolated="1-2"), 1, None, "3", "1 whole core, NUMA 0", id="isolated"),
    ],
)
def test_cpus_are_chosen(told: Any, count: int, node: int | None, expected: str, explanation: str) -> None:
    choice = choose_cpus(told, count, node)
    assert (format_cpuset(choice.cpus), choice.explanation) == (expected, explanation)


def test_the_arms_differ_in_the_cpus_only() -> None:
    made = plan()
    assert (made.problems, made.notes, made.gpu, made.gpu_numa_node) == ([], [], GPUS[0], 1)
    quota, cpuset = (container_command(REQUEST, HOST, made, arm, 2) for arm in ("quota", "cpuset"))
    place = cpuset.index("--cpuset-cpus")
    assert cpuset[place + 1] == "64-69,192-197"
    rest = [word.replace("cpuset", "quota") for word in cpuset[:place] + cpuset[place + 2 :]]
    assert rest == quota


def test_a_round_in_docker() -> None:
    command = " ".join(container_command(REQUEST, HOST, plan(), "quota", 2))
    assert command == (
        "docker run --rm --name kubepin-probe-gpu-01-a-quota-2 --hostname gpu-01 --label kubepin.probe=gpu-01-a "
        "--network none --cpus=12 --memory=30g --shm-size=30g --gpus device=GPU-aa --volume /srv/probe:/opt/kubepin:ro "
        "--env PYTHONPATH=/opt/kubepin --entrypoint python3 example.org/torch:1 -m pod round --matrix resnets "
        "--run-id gpu-01-a --arm quota --round 2 --threads auto,cpus --auto-threads found --device cuda --env policy=quota "
        "node=gpu-01 engine=docker 24.0.7 image=example.org/torch:1 clock=governor performance, boost on, base 2200 MHz, "
        "highest unknown"
    )


def test_podman_takes_the_gpu_from_cdi_and_reads_the_program_under_selinux() -> None:
    host = dataclasses.replace(HOST, engines=[Engine("podman", "5.2", has_image=True)], selinux=True)
    command = " ".join(container_command(REQUEST, host, plan(host, gpu="1"), "quota", 1))
    assert "--device nvidia.com/gpu=GPU-bb " in command
    assert "--security-opt label=disable " in command
    assert "--gpus" not in command


def test_no_gpu_no_limits() -> None:
    host = dataclasses.replace(HOST, topology=machine(), gpus=())
    request = dataclasses.replace(REQUEST, cpus=1, memory=None, shm_size=None)
    command = " ".join(container_command(request, host, plan_probe(request, host), "quota", 1))
    assert "--device cpu " in command
    for option in ("--gpus", "--memory", "--shm-size", "--security-opt"):
        assert option not in command


def test_without_a_container_the_gpu_is_chosen_by_the_environment() -> None:
    host = dataclasses.replace(HOST, engines=[Engine("cgroup", "v2")])
    made = plan(host, image=None)
    assert made.problems == []
    assert made.notes == ["memory and shm_size count in containers only: engine cgroup limits neither"]
    variables = cgroup_variables(REQUEST, made)
    assert variables == {
        "PYTHONPATH": "/srv/probe",
        "CUDA_DEVICE_ORDER": "PCI_BUS_ID",
        "CUDA_VISIBLE_DEVICES": "GPU-aa",
    }
    assert cgroup_variables(REQUEST, plan(host, gpu="none"))["CUDA_VISIBLE_DEVICES"] == ""


def test_a_gpu_that_is_left_unused_is_told() -> None:
    assert "the host has an NVIDIA GPU" in plan(gpu="none").notes[0]


def test_a_busy_host_is_told() -> None:
    (note,) = plan(dataclasses.replace(HOST, load=4.2)).notes
    assert note == "other work runs on this host (load average 4.2): timings will spread widely"


def test_auto_takes_the_first_engine_that_works() -> None:
    engines = [Engine("docker", problem="does not answer"), Engine("podman", "5.2", has_image=True), Engine("cgroup")]
    made = plan(dataclasses.replace(HOST, engines=engines))
    assert (made.problems, made.engine.name) == ([], "podman")


def test_an_image_is_pulled_if_that_is_allowed() -> None:
    host = dataclasses.replace(HOST, engines=[dataclasses.replace(DOCKER, has_image=False)])
    assert plan(host, pull=True).pull
    assert not plan(pull=True).pull


def test_split_cores_are_told() -> None:
    made = plan(cpus=2, cpuset="4,5")
    assert made.problems == []
    assert made.notes == [
        "cpuset '4,5' splits the core 4,132: other threads may share it",
        "cpuset '4,5' splits the core 5,133: other threads may share it",
    ]


SMALL = dataclasses.replace(HOST, topology=machine(offline=(2,)), gpus=())


@pytest.mark.parametrize(
    ("host", "changes", "expected"),
    [
        (HOST, {"run_id": "a b"}, "run_id is 'a b': expected letters"),
        (HOST, {"rounds": 0}, "rounds is 0: expected 1 or more"),
        (HOST, {"memory": "30Gi"}, "memory is '30Gi': expected a number with b, k, m or g"),
        (HOST, {"shm_size": "much"}, "shm_size is 'much'"),
        (HOST, {"image": None}, "image is not given"),
        (HOST, {"gpu": "7"}, "gpu is '7': expected auto, none, or the index or UUID of one of: 0 GPU-aa, 1 GPU-bb"),
        (SMALL, {"cpus": 1, "gpu": "0"}, "gpu is '0', and this host has no NVIDIA GPU"),
        (HOST, {"cpus": 256}, "cpus is 256: expected 1 to 255, fewer than the host's 256 CPUs online"),
        (HOST, {"cpus": 0}, "cpus is 0: expected 1 to 255"),
        (SMALL, {"cpus": 2}, "cpus is 2: expected 1, fewer than the host's 2 CPUs online"),
        (
            dataclasses.replace(SMALL, topology=machine(cores=1)),
            {"cpus": 1},
            "it has 1 only: there is nothing to compare on it",
        ),
        (
            dataclasses.replace(SMALL, topology=machine(cores=4, isolated="1-3")),
            {"cpus": 2},
            "only 1 CPUs are not isolated",
        ),
        (HOST, {"cpuset": "4-"}, "'4-' is neither a CPU number nor a range"),
        (SMALL, {"cpus": 1, "cpuset": "7"}, "this host has no CPU 7. Online are 0-1"),
        (SMALL, {"cpus": 1, "cpuset": "2"}, "CPU 2 is offline"),
        (HOST, {"cpuset": "4-14"}, "names 11 CPUs, and cpus is 12"),
        (dataclasses.replace(HOST, obstacles=["only root may do this."]), {}, "only root may do this."),
        (
            dataclasses.replace(HOST, engines=[Engine("docker", problem="there is no program docker in PATH.")]),
            {},
            "engine docker: there is no program docker in PATH.",
        ),
        (
            dataclasses.replace(HOST, engines=[dataclasses.replace(DOCKER, has_image=False)]),
            {},
            "image example.org/torch:1 is not there, and pull is false: run `docker pull example.org/torch:1`",
        ),
        (
            dataclasses.replace(HOST, engines=[dataclasses.replace(DOCKER, gives_gpus=False)]),
            {},
            "engine docker cannot hand GPU 0 to a container: install the NVIDIA container toolkit",
        ),
        (
            dataclasses.replace(HOST, engines=[Engine("podman", has_image=True, gives_gpus=False)]),
            {},
            "write a CDI specification",
        ),
    ],
)
def test_what_stands_in_the_way(host: ProbeHost, changes: dict[str, Any], expected: str) -> None:
    (problem,) = plan(host, **changes).problems
    assert expected in problem


def test_all_problems_come_at_once() -> None:
    engines = [Engine("docker", problem="does not answer: no socket"), Engine("cgroup", problem="no torch")]
    host = dataclasses.replace(SMALL, engines=engines)
    problems = plan(host, cpus=1, cpuset="7-8", memory="x", gpu="3", rounds=-1).problems
    assert len(problems) == 7


def test_the_cgroup_files_of_each_arm() -> None:
    assert cgroup_settings(2, "quota", 12, "4-15", "") == [CgroupFile("", "cpu.max", "1200000 100000")]
    assert cgroup_settings(2, "cpuset", 12, "4-15", "")[1:] == [CgroupFile("", "cpuset.cpus", "4-15")]
    quota = cgroup_settings(1, "quota", 12, "4-15", "0-1")
    assert quota == [CgroupFile("cpu", "cpu.cfs_period_us", "100000"), CgroupFile("cpu", "cpu.cfs_quota_us", "1200000")]
    assert cgroup_settings(1, "cpuset", 12, "4-15", "0-1")[2:] == [
        CgroupFile("cpuset", "cpuset.cpus", "4-15"),
        CgroupFile("cpuset", "cpuset.mems", "0-1"),
    ]


V1 = """\
30 24 0:26 / /sys/fs/cgroup ro,nosuid shared:4 - tmpfs tmpfs ro,mode=755
33 30 0:29 / /sys/fs/cgroup/cpu,cpuacct rw,nosuid shared:9 - cgroup cgroup rw,cpu,cpuacct
35 30 0:31 / /sys/fs/cgroup/cpuset rw,nosuid shared:11 - cgroup cgroup rw,cpuset
31 30 0:27 / /sys/fs/cgroup/unified rw,nosuid shared:5 - cgroup2 cgroup2 rw,nsdelegate
"""
V2 = "30 24 0:26 / /sys/fs/cgroup rw,nosuid shared:4 - cgroup2 cgroup2 rw,nsdelegate\n"


@pytest.mark.parametrize(
    ("mountinfo", "expected"),
    [
        pytest.param(V1, (1, {"cpu": "/sys/fs/cgroup/cpu,cpuacct", "cpuset": "/sys/fs/cgroup/cpuset"}), id="hybrid"),
        pytest.param(V2, (2, {"": "/sys/fs/cgroup"}), id="version 2"),
        pytest.param("1 1 0:1 / / rw - ext4 /dev/vda rw\n", (0, {}), id="none"),
    ],
)
def test_where_the_cgroups_are(mountinfo: str, expected: tuple[int, dict[str, str]]) -> None:
    assert cgroup_roots(mountinfo) == expected


def test_gpus_by_the_drivers_tool() -> None:
    text = "0, GPU-aa, 00000000:21:00.0\n1, GPU-bb, 00000000:A1:00.0\nNo devices were found\n"
    assert parse_gpu_list(text) == list(GPUS)


CPUINFO = "processor\t: 0\ncpu MHz\t\t: 1500.0\n\nprocessor\t: 1\ncpu MHz\t\t: 3400.5\n\nprocessor\t: 2\ncpu MHz\t\t: 3500.0\n"


@pytest.mark.parametrize(("cpus", "expected"), [({0, 1}, 3400.5), ({0}, 1500.0), ({7}, None)])
def test_the_busiest_cpu_counts(cpus: set[int], expected: float | None) -> None:
    assert busiest_mhz(CPUINFO, cpus) == expected


def test_the_clock_in_words() -> None:
    assert clock_sentence({"quota": [3400.0, 3390.0, 3410.0], "cpuset": [3402.0]}, EPYC) == (
        "busiest CPU at 3400 MHz with quota (3390 to 3410), 3402 MHz with cpuset (3402 to 3402); governor performance, boost on, "
        "base 2200 MHz, highest unknown"
    )
    assert clock_sentence({}, EPYC).startswith("frequency while running unknown; governor performance")
