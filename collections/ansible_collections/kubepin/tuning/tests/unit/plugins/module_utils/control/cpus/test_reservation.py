# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

from typing import Any

import pytest
from ansible_collections.kubepin.tuning.plugins.module_utils.common.cpuset import format_cpuset
from ansible_collections.kubepin.tuning.plugins.module_utils.control.cpus.reservation import (
    auto_count,
    choose_reservation,
)
from ansible_collections.kubepin.tuning.tests.unit.samples.machines import EPYC_7773X_PAIR, topology

SMT4 = topology(cores=4, threads=2)


@pytest.mark.parametrize(
    ("machine", "wanted", "count", "configured", "millicores", "cpus", "explanation"),
    [
        pytest.param(
            topology(), "auto", None, "", 0, "0", "1 core, L3 0, NUMA 0, no GPU", id="two CPUs: one for the system"
        ),
        pytest.param(
            EPYC_7773X_PAIR, "auto", None, "", 0, "0,128", "1 core, L3 0, NUMA 0, no GPU", id="2 x EPYC 7773X"
        ),
        pytest.param(
            topology(cores=128, threads=2, numa_nodes=2, gpus_on=(0, 0)),
            "auto",
            None,
            "",
            0,
            "64,192",
            "1 core, L3 8, NUMA 1, no GPU",
            id="away from the GPUs",
        ),
        pytest.param(
            topology(cores=128, threads=2, numa_nodes=2, gpus_on=(0, 1)),
            "auto",
            None,
            "",
            0,
            "0,128",
            "1 core, L3 0, NUMA 0, 1 GPU",
            id="GPUs everywhere: the lowest",
        ),
        pytest.param(SMT4, "auto", 4, "", 0, "0-1,4-5", "2 cores, L3 0, NUMA 0, no GPU", id="a count of whole cores"),
        pytest.param(
            SMT4,
            "auto",
            None,
            "",
            2500,
            "0-1,4-5",
            "2 cores, L3 0, NUMA 0, no GPU",
            id="no less than kube and system reserve",
        ),
        pytest.param(
            SMT4,
            "auto",
            None,
            "3,7",
            0,
            "3,7",
            "1 core, L3 0, NUMA 0, no GPU; kept as configured",
            id="a sound one is kept",
        ),
        pytest.param(
            SMT4, "auto", None, "3", 0, "0,4", "1 core, L3 0, NUMA 0, no GPU", id="one that splits a core is not kept"
        ),
        pytest.param(
            SMT4, "1,5", None, "3,7", 0, "1,5", "1 core, L3 0, NUMA 0, no GPU", id="a list beats what is configured"
        ),
        pytest.param(topology(numa_nodes=0), "auto", None, "", 0, "0", "1 core, L3 0", id="no NUMA information"),
        pytest.param(
            topology(cores=64, threads=2, numa_nodes=2, gpus_on=(0, 0), isolated="4-63,68-127"),
            "auto",
            None,
            "",
            0,
            "0,64",
            "1 core, L3 0, NUMA 0, 2 GPUs",
            id="where the system runs, even beside the GPUs",
        ),
        pytest.param(
            topology(cores=64, threads=2, numa_nodes=2, housekeeping={"CPUAffinity": "8-9,72-73"}),
            "auto",
            None,
            "",
            0,
            "8,72",
            "1 core, L3 1, NUMA 0, no GPU",
            id="where systemd keeps the system",
        ),
        pytest.param(
            topology(cores=4, housekeeping={"CPUAffinity": "0", "nohz_full": "3"}),
            "auto",
            None,
            "",
            0,
            "0",
            "1 core, L3 0, NUMA 0, no GPU",
            id="settings that contradict each other",
        ),
        pytest.param(
            topology(cores=4, threads=2, isolated="4-7"),
            "auto",
            None,
            "",
            0,
            "0,4",
            "1 core, L3 0, NUMA 0, no GPU",
            id="half of every core is isolated",
        ),
        pytest.param(
            topology(cores=4, threads=2, isolated="2-3,6-7"),
            "2,6",
            None,
            "",
            0,
            "2,6",
            "1 core, L3 0, NUMA 0, no GPU",
            id="isolated CPUs that are asked for",
        ),
    ],
)
def test_reservation(
    machine: Any, wanted: str, count: int | None, configured: str, millicores: int, cpus: str, explanation: str
) -> None:
    reservation, problems = choose_reservation(machine, wanted, count, configured, millicores)
    assert problems == []
    assert reservation
    assert (format_cpuset(reservation.cpus), reservation.explanation) == (cpus, explanation)


@pytest.mark.parametrize(
    ("machine", "wanted", "count", "millicores", "code", "text"),
    [
        pytest.param(
            EPYC_7773X_PAIR,
            "0",
            None,
            0,
            "reserved_cpus_split_core",
            'reserved_cpus "0" splits core 0 (CPUs 0 and 128). Reserve "0,128", or use `auto`.',
            id="splits a core",
        ),
        pytest.param(
            SMT4,
            "8",
            None,
            0,
            "reserved_cpus_offline",
            'reserved_cpus "8" names CPUs that are not online on this node: 8 (online: 0-7).',
            id="absent CPU",
        ),
        pytest.param(
            SMT4,
            "0-7",
            None,
            0,
            "no_cpu_left_for_pods",
            'reserved_cpus "0-7" leaves no CPU for pods (online: 0-7). Reserve fewer cores.',
            id="all",
        ),
        pytest.param(
            SMT4,
            "",
            None,
            0,
            "no_cpu_reserved",
            'reserved_cpus "" is empty, and the static policy needs at least one reserved CPU. Name one core, or use `auto`.',
            id="none",
        ),
        pytest.param(
            SMT4,
            "0-",
            None,
            0,
            "reserved_cpus_invalid",
            "reserved_cpus \"0-\": '0-' is not a CPU list",
            id="no CPU list",
        ),
        pytest.param(
            SMT4,
            "0,4",
            2,
            0,
            "reserved_cpus_and_count",
            'reserved_cpus "0,4" and reserved_cpu_count 2 exclude each other. Give the list, or `auto` with a count.',
            id="list and count",
        ),
        pytest.param(
            SMT4,
            "auto",
            3,
            0,
            "reserved_cpu_count_splits_core",
            "reserved_cpu_count 3 splits a core: cores of this node have 2 threads and are reserved whole. Use 2 or 4.",
            id="half a core",
        ),
        pytest.param(
            topology(cores=4, threads=2, missing=(6, 7)),
            "auto",
            3,
            0,
            "reserved_cpu_count_splits_core",
            "reserved_cpu_count 3 splits a core: cores of this node have 1 or 2 threads and are reserved whole. Use 2 or 4.",
            id="half a core of a hybrid processor",
        ),
        pytest.param(
            topology(cores=8, threads=2, isolated="2-7,10-15"),
            "auto",
            None,
            5500,
            "reserved_cpus_isolated",
            "a reservation of 6 CPUs takes more than the CPUs on which the system runs (0-1,8-9): the others are isolated "
            "(isolcpus: 2-7,10-15). Lower reserved_cpu_count",
            id="more than the system has for itself",
        ),
        pytest.param(
            SMT4,
            "auto",
            0,
            0,
            "reserved_cpu_count_invalid",
            "reserved_cpu_count 0 is too low: expected 1 or more",
            id="count 0",
        ),
        pytest.param(
            SMT4,
            "auto",
            None,
            8000,
            "no_cpu_left_for_pods",
            "a reservation of 8 CPUs leaves no core for pods (online: 0-7). Lower reserved_cpu_count",
            id="auto would take all",
        ),
        pytest.param(
            topology(cores=1, threads=2),
            "auto",
            None,
            0,
            "too_few_cores",
            "this node has 1 core online (CPUs 0-1), and the static policy needs one for the system and one for pods. Leave",
            id="a single core",
        ),
    ],
)
def test_refused(machine: Any, wanted: str, count: int | None, millicores: int, code: str, text: str) -> None:
    reservation, problems = choose_reservation(machine, wanted, count, "", millicores)
    assert reservation is None
    assert any(problem.code == code and text in problem.text for problem in problems), problems


def test_all_problems_at_once() -> None:
    _reservation, problems = choose_reservation(SMT4, "0,9", None, "", 0)
    assert [problem.code for problem in problems] == ["reserved_cpus_offline", "reserved_cpus_split_core"]


@pytest.mark.parametrize(("online", "count"), [(1, 1), (64, 1), (256, 1), (376, 2)])
def test_auto_count_follows_the_size(online: int, count: int) -> None:
    assert auto_count(online) == count
