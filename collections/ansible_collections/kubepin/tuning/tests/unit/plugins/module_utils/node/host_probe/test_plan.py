# SPDX-License-Identifier: GPL-3.0-or-later
"""What a probe of one host would run, and everything that it refuses."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import pytest
from ansible_collections.kubepin.tuning.plugins.module_utils.common.cpuset import format_cpuset, parse_cpuset
from ansible_collections.kubepin.tuning.plugins.module_utils.common.tenants import load_order
from ansible_collections.kubepin.tuning.plugins.module_utils.node.host_probe.plan import (
    CgroupFile,
    Engine,
    GpuDevice,
    Job,
    Plan,
    ProbeHost,
    ProbeRequest,
    arms_of,
    busiest_mhz,
    busy_job,
    cgroup_roots,
    cgroup_settings,
    cgroup_variables,
    choose_cpus,
    clock_sentence,
    container_command,
    parse_gpu_list,
    plan_probe,
    round_jobs,
)
from ansible_collections.kubepin.tuning.tests.unit.samples.machines import topology_facts

GPUS = (GpuDevice(0, "GPU-aa", "0000:21:00.0"), GpuDevice(1, "GPU-bb", "0000:a1:00.0"))
DOCKER = Engine("docker", "24.0.7", has_image=True)


def machine(offline: Sequence[int] = (), isolated: str = "", gpus_on: Sequence[int] = (), **shape: Any) -> Any:
    """A machine, with what the reader tells besides the shape; GPU N has the address of GPUS[N]."""
    facts = topology_facts(**shape)
    online = parse_cpuset(facts["online"])
    facts.update(
        cpus=[{"id": cpu, "online": cpu in online} for cpu in sorted({*online, *offline})],
        isolated=isolated,
        governor="performance",
        boost="on",
        clock={"current_mhz": 3390.0, "base_mhz": 2200.0, "max_mhz": None},
        gpus=[{"address": gpu.address, "numa_node": node} for gpu, node in zip(GPUS, gpus_on)],
    )
    return facts


EPYC_PAIR: dict[str, Any] = {"cores": 128, "threads": 2, "numa_nodes": 2, "sockets": 2}
EPYC = machine(**EPYC_PAIR, gpus_on=(1, 0))
WANTED = ProbeRequest(
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
    first_round=1,
    rounds=5,
    output="/srv/probe/lines.jsonl",
)
FOUND = ProbeHost("gpu-01", EPYC, [DOCKER], GPUS)


def plan(found: ProbeHost = FOUND, **changes: Any) -> Plan:
    return plan_probe(dataclasses.replace(WANTED, **changes), found)


def commands(
    made: Plan, arm: str, number: int, *, found: ProbeHost = FOUND, request: ProbeRequest = WANTED
) -> list[list[str]]:
    """The command line of each tenant for one round of one arm."""
    return [container_command(request, found, made, job) for job in round_jobs(request, found, made, arm, number)]


@pytest.mark.parametrize(
    ("threads", "arms"),
    [
        ("auto,cpus", ["quota-auto", "quota-12", "cpuset-12"]),
        ("auto", ["quota-auto", "cpuset-auto"]),
        ("cpus", ["quota-12", "cpuset-12"]),
        ("auto, 6,12,cpus", ["quota-auto", "quota-6", "quota-12", "cpuset-6", "cpuset-12"]),
    ],
)
def test_settings_that_amount_to_the_same_are_measured_once(threads: str, arms: list[str]) -> None:
    assert arms_of(threads, 12) == arms


def test_later_rounds_go_on_with_the_same_order() -> None:
    whole = plan(rounds=8).order
    assert [sorted(arms) for arms in whole] == [["cpuset-12", "quota-12", "quota-auto"]] * 8
    assert plan(first_round=6, rounds=8).order == whole[5:]
    assert plan(rounds=5).order == whole[:5]


def test_the_first_process_of_a_run_warms_the_machine() -> None:
    made = plan()
    warm = [
        (number, arm)
        for number, arms in enumerate(made.order, 1)
        for arm in arms
        if "--warm-up" in commands(made, arm, number)[0]
    ]
    assert warm == [(1, made.order[0][0])]
    later = plan(first_round=6, rounds=8)
    assert "--warm-up" not in commands(later, later.order[0][0], 6)[0]


@pytest.mark.parametrize(
    ("facts", "count", "node", "expected", "explanation"),
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
def test_cpus_are_chosen(facts: Any, count: int, node: int | None, expected: str, explanation: str) -> None:
    choice = choose_cpus(facts, count, node)
    assert (format_cpuset(choice.cpus), choice.explanation) == (expected, explanation)


def test_with_the_same_threads_the_arms_differ_in_the_cpus_only() -> None:
    made = plan()
    assert (made.problems, made.notes, made.gpu, made.gpu_numa_node) == ([], [], GPUS[0], 1)
    quota, cpuset = (commands(made, arm, 2)[0] for arm in ("quota-12", "cpuset-12"))
    place = cpuset.index("--cpuset-cpus")
    assert cpuset[place + 1] == "64-69,192-197"
    rest = [word.replace("cpuset", "quota") for word in cpuset[:place] + cpuset[place + 2 :]]
    assert rest == quota


def test_a_round_in_docker() -> None:
    command = " ".join(commands(plan(), "quota-auto", 2)[0])
    assert command == (
        "docker run --rm --name kubepin-probe-gpu-01-a-quota-auto-2 --hostname gpu-01 --label kubepin.probe=gpu-01-a "
        "--network none --cpus=12 --memory=30g --shm-size=30g --gpus device=GPU-aa --volume /srv/probe:/opt/kubepin:ro "
        "--env PYTHONPATH=/opt/kubepin --entrypoint python3 example.org/torch:1 -m pod round --matrix resnets "
        "--run-id gpu-01-a --arm quota --round 2 --threads auto --auto-threads found --device cuda --env policy=quota "
        "node=gpu-01 engine=docker 24.0.7 image=example.org/torch:1 clock=governor performance, boost on, base 2200 MHz, "
        "highest unknown"
    )


def test_podman_takes_the_gpu_from_cdi_and_reads_the_program_under_selinux() -> None:
    found = dataclasses.replace(FOUND, engines=[Engine("podman", "5.2", has_image=True)], selinux=True)
    command = " ".join(commands(plan(found, gpu="1"), "quota-12", 1, found=found)[0])
    assert "--device nvidia.com/gpu=GPU-bb " in command
    assert "--security-opt label=disable " in command
    assert "--gpus" not in command


def test_no_gpu_no_limits() -> None:
    found = dataclasses.replace(FOUND, topology=machine(), gpus=())
    request = dataclasses.replace(WANTED, cpus=1, memory=None, shm_size=None)
    command = " ".join(commands(plan_probe(request, found), "quota-1", 1, found=found, request=request)[0])
    assert "--device cpu " in command
    for option in ("--gpus", "--memory", "--shm-size", "--security-opt"):
        assert option not in command


def test_without_a_container_the_gpu_is_chosen_by_the_environment() -> None:
    found = dataclasses.replace(FOUND, engines=[Engine("cgroup", "v2")])
    made = plan(found, image=None)
    assert made.problems == []
    assert made.notes == ["memory and shm_size count in containers only: engine cgroup limits neither"]
    variables = cgroup_variables(WANTED, round_jobs(WANTED, found, made, "quota-12", 1)[0])
    assert variables == {
        "PYTHONPATH": "/srv/probe",
        "CUDA_DEVICE_ORDER": "PCI_BUS_ID",
        "CUDA_VISIBLE_DEVICES": "GPU-aa",
    }
    (blind,) = round_jobs(WANTED, found, plan(found, gpu="none"), "quota-12", 1)
    assert cgroup_variables(WANTED, blind)["CUDA_VISIBLE_DEVICES"] == ""


def test_a_gpu_that_is_left_unused_is_told() -> None:
    assert "the host has an NVIDIA GPU" in plan(gpu="none").notes[0]


def test_a_busy_host_is_told() -> None:
    (note,) = plan(dataclasses.replace(FOUND, load=4.2)).notes
    assert note == "other work runs on this host (load average 4.2): timings will spread widely"


def test_auto_takes_the_first_engine_that_works() -> None:
    engines = [Engine("docker", problem="does not answer"), Engine("podman", "5.2", has_image=True), Engine("cgroup")]
    made = plan(dataclasses.replace(FOUND, engines=engines))
    assert (made.problems, made.engine.name) == ([], "podman")


def test_an_image_is_pulled_if_that_is_allowed() -> None:
    found = dataclasses.replace(FOUND, engines=[dataclasses.replace(DOCKER, has_image=False)])
    assert plan(found, pull=True).pull
    assert not plan(pull=True).pull


def test_split_cores_are_told() -> None:
    made = plan(cpus=2, cpuset="4,5")
    assert made.problems == []
    assert made.notes == [
        "cpuset '4,5' splits the core 4,132: other threads may share it",
        "cpuset '4,5' splits the core 5,133: other threads may share it",
    ]


FULL = {"loads": ["solo", "full", "busy"], "cpus": 12}
SMALL = dataclasses.replace(FOUND, topology=machine(offline=(2,)), gpus=())


@pytest.mark.parametrize(
    ("found", "changes", "expected"),
    [
        (FOUND, {"run_id": "a b"}, "run_id is 'a b': expected letters"),
        (FOUND, {"rounds": 0}, "rounds is 0: expected 1 or more"),
        (FOUND, {"first_round": 0}, "first_round is 0: expected 1 or more"),
        (FOUND, {"first_round": 6}, "rounds is 5: expected 6 or more"),
        (FOUND, {"threads": "auto,half"}, "threads is 'auto,half': 'half' is neither auto, cpus nor a number from 1"),
        (FOUND, {"threads": "0"}, "threads is '0'"),
        (FOUND, {"loads": ["solo", "solo"]}, "loads is solo, solo: expected some of solo, full, busy, each once"),
        (FOUND, {"tenants": -1}, "tenants is -1: expected 1 or more, or 0 for one on each GPU"),
        (FOUND, {**FULL, "tenants": 3}, "tenants is 3: expected up to 2, one on each GPU, or gpu none"),
        (FOUND, {**FULL, "cpus": 128}, "cpus is 128: expected 1 to 127 for each of 2 tenants"),
        (FOUND, {**FULL, "cpuset": "4-15"}, "cpuset is '4-15': expected auto, because 2 tenants share out the CPUs"),
        (
            SMALL,
            {**FULL, "cpus": 1, "tenants": 2},
            "expected fewer tenants than 2: this host has 2 CPUs online, of which busy neighbours need one",
        ),
        (
            dataclasses.replace(SMALL, topology=machine(cores=4, isolated="2-3")),
            {**FULL, "cpus": 1, "tenants": 3},
            "cpus is 1 for each of 3 tenants, and isolation leaves only 2 CPUs: ask for fewer",
        ),
        (FOUND, {"memory": "30Gi"}, "memory is '30Gi': expected a number with b, k, m or g"),
        (FOUND, {"shm_size": "much"}, "shm_size is 'much'"),
        (FOUND, {"image": None}, "image is not given"),
        (FOUND, {"gpu": "7"}, "gpu is '7': expected auto, none, or the index or UUID of one of: 0 GPU-aa, 1 GPU-bb"),
        (SMALL, {"cpus": 1, "gpu": "0"}, "gpu is '0', and this host has no NVIDIA GPU"),
        (FOUND, {"cpus": 256}, "cpus is 256: expected 1 to 255, fewer than the host's 256 CPUs online"),
        (FOUND, {"cpus": 0}, "cpus is 0: expected 1 to 255"),
        (SMALL, {"cpus": 2}, "cpus is 2: expected 1, fewer than the host's 2 CPUs online"),
        (
            dataclasses.replace(SMALL, topology=machine(cores=1)),
            {"cpus": 1},
            "it has 1 only: there is nothing to compare on it",
        ),
        (
            dataclasses.replace(SMALL, topology=machine(cores=4, isolated="1-3")),
            {"cpus": 2},
            "isolation leaves only 1 CPU",
        ),
        (FOUND, {"cpuset": "4-"}, "'4-' is neither a CPU number nor a range"),
        (SMALL, {"cpus": 1, "cpuset": "7"}, "this host has no CPU 7. Online are 0-1"),
        (SMALL, {"cpus": 1, "cpuset": "2"}, "CPU 2 is offline"),
        (FOUND, {"cpuset": "4-14"}, "names 11 CPUs, and cpus is 12"),
        (dataclasses.replace(FOUND, obstacles=["only root may do this."]), {}, "only root may do this."),
        (
            dataclasses.replace(FOUND, engines=[Engine("docker", problem="there is no program docker in PATH.")]),
            {},
            "engine docker: there is no program docker in PATH.",
        ),
        (
            dataclasses.replace(FOUND, engines=[dataclasses.replace(DOCKER, has_image=False)]),
            {},
            "image example.org/torch:1 is not there, and pull is false: run `docker pull example.org/torch:1`",
        ),
        (
            dataclasses.replace(FOUND, engines=[dataclasses.replace(DOCKER, gives_gpus=False)]),
            {},
            "engine docker cannot hand GPU 0 to a container: install the NVIDIA container toolkit",
        ),
        (
            dataclasses.replace(FOUND, engines=[Engine("podman", has_image=True, gives_gpus=False)]),
            {},
            "write a CDI specification",
        ),
    ],
)
def test_what_stands_in_the_way(found: ProbeHost, changes: dict[str, Any], expected: str) -> None:
    (problem,) = plan(found, **changes).problems
    assert expected in problem


def test_all_problems_come_at_once() -> None:
    engines = [Engine("docker", problem="does not answer: no socket"), Engine("cgroup", problem="no torch")]
    found = dataclasses.replace(SMALL, engines=engines)
    problems = plan(found, cpus=1, cpuset="7-8", memory="x", gpu="3", rounds=-1).problems
    assert len(problems) == 7


def test_the_cgroup_files_of_each_arm() -> None:
    limited, pinned = Job("quota-12-1", (), 12), Job("cpuset-12-1", (), 12, "4-15")
    assert cgroup_settings(2, limited, "") == [CgroupFile("", "cpu.max", "1200000 100000")]
    assert cgroup_settings(2, pinned, "")[1:] == [CgroupFile("", "cpuset.cpus", "4-15")]
    quota = cgroup_settings(1, limited, "0-1")
    assert quota == [CgroupFile("cpu", "cpu.cfs_period_us", "100000"), CgroupFile("cpu", "cpu.cfs_quota_us", "1200000")]
    assert cgroup_settings(1, pinned, "0-1")[2:] == [
        CgroupFile("cpuset", "cpuset.cpus", "4-15"),
        CgroupFile("cpuset", "cpuset.mems", "0-1"),
    ]


def test_the_cgroup_files_of_neighbours_have_a_weight_and_no_limit() -> None:
    busy = Job("busy-quota-12", (), None, shares=4096)
    assert cgroup_settings(1, busy, "") == [CgroupFile("cpu", "cpu.shares", "4096")]
    assert cgroup_settings(2, busy, "") == [CgroupFile("", "cpu.weight", "157")]


def full(found: ProbeHost = FOUND, **changes: Any) -> tuple[ProbeRequest, Plan]:
    """A probe of a full host."""
    request = dataclasses.replace(WANTED, **{**FULL, **changes})
    return request, plan_probe(request, found)


def test_a_full_host_has_a_tenant_on_each_gpu_with_cpus_of_its_own_near_it() -> None:
    _, made = full()
    assert [(tenant.gpu, tenant.gpu_numa_node, tenant.cpuset) for tenant in made.tenants] == [
        (GPUS[0], 1, "64-69,192-197"),
        (GPUS[1], 0, "1-6,129-134"),
    ]
    assert made.loads == ["solo", "full", "busy"]


def test_tenants_on_the_same_numa_node_do_not_share_a_cpu() -> None:
    found = dataclasses.replace(FOUND, topology=machine(**EPYC_PAIR, gpus_on=(0, 0)))
    _, made = full(found)
    first, second = (parse_cpuset(tenant.cpuset) for tenant in made.tenants)
    assert len(first) == len(second) == 12
    assert not first & second


def test_the_tenants_of_a_round_differ_in_their_place_gpu_and_cpus() -> None:
    request, made = full()
    first, second = (" ".join(words) for words in commands(made, "cpuset-12", 3, request=request))
    assert "--name kubepin-probe-gpu-01-a-cpuset-12-3-0 " in first
    assert "--name kubepin-probe-gpu-01-a-cpuset-12-3-1 " in second
    assert "--cpuset-cpus 64-69,192-197 --cpu-shares=12288 " in first
    assert "--cpuset-cpus 1-6,129-134 --cpu-shares=12288 " in second
    assert ("device=GPU-aa" in first, "device=GPU-bb" in second) == (True, True)
    assert "--volume /srv/probe/lines.jsonl.start:/run/kubepin:ro " in first
    order = ",".join(load_order(["solo", "full", "busy"], "gpu-01-a", 3))
    place = f"--load {order} --start-file /run/kubepin/start --slot-seconds 6"
    assert f"--tenant 0 --tenants 2 {place}" in first
    assert f"--tenant 1 --tenants 2 {place}" in second


def test_busy_neighbours_keep_off_exclusive_cpus_and_have_the_weight_of_what_is_left() -> None:
    request, made = full()
    quota, pinned = (busy_job(request, FOUND, made, arm) for arm in ("quota-12", "cpuset-12"))
    assert quota.words == ["-m", "pod.busy", "--threads", str(256 - 24 + 12)]
    assert (quota.quota, quota.cpuset, quota.shares, quota.gpu) == (None, "", 232 * 1024, None)
    taken = {cpu for tenant in made.tenants for cpu in parse_cpuset(tenant.cpuset)}
    assert parse_cpuset(pinned.cpuset) == set(range(256)) - taken


def test_one_tenant_is_not_measured_twice() -> None:
    _, made = full(gpu="1")
    assert made.loads == ["solo", "busy"]
    assert [tenant.gpu for tenant in made.tenants] == [GPUS[1]]
    assert "one tenant fills this host" in made.notes[0]


def test_tenants_without_a_gpu_are_as_many_as_asked_for() -> None:
    found = dataclasses.replace(FOUND, topology=machine(cores=4), gpus=())
    _, made = full(found, cpus=1, tenants=3, gpu="none")
    assert [tenant.cpuset for tenant in made.tenants] == ["1", "2", "3"]


def test_without_busy_neighbours_tenants_may_have_all_cpus() -> None:
    found = dataclasses.replace(FOUND, topology=machine(), gpus=())
    _, made = full(found, cpus=1, tenants=2, gpu="none", loads=["solo", "full"])
    assert [tenant.cpuset for tenant in made.tenants] == ["1", "0"]


def test_alone_a_host_has_one_tenant() -> None:
    assert [tenant.gpu for tenant in plan(tenants=2).tenants] == [GPUS[0]]


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
    assert clock_sentence({"quota-12": [3400.0, 3390.0, 3410.0], "cpuset-12": [3402.0], "quota-auto": []}, EPYC) == (
        "busiest CPU at 3400 MHz (3390 to 3410) with threads set (quota-12), 3402 MHz (3402 to 3402) with exclusive CPUs "
        "(cpuset-12); governor performance, boost on, base 2200 MHz, highest unknown"
    )
    assert clock_sentence({}, EPYC).startswith("frequency while running unknown; governor performance")
