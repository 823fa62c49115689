# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

from typing import Any

import pytest
from ansible_collections.kubepin.tuning.plugins.module_utils.common.cpuset import parse_cpuset
from ansible_collections.kubepin.tuning.plugins.module_utils.control.cpus.notes import machine_notes
from ansible_collections.kubepin.tuning.tests.unit.samples.machines import EPYC_7773X_PAIR, topology

HYBRID = topology(cores=20, threads=2, missing=tuple(range(28, 40)))
"""8 performance cores of 2 threads and 12 efficient ones of 1, as an i7-14700 has: 28 CPUs of 20 cores."""
ISOLATED = topology(cores=64, threads=2, numa_nodes=2, gpus_on=(0, 0), isolated="4-63,68-127")

CONFINED = topology(cores=64, threads=2, housekeeping={"CPUAffinity": "0-3,64-67", "irqaffinity": "0-3,64-67"})


@pytest.mark.parametrize(
    ("machine", "reserved", "notes"),
    [
        pytest.param(EPYC_7773X_PAIR, "0,128", [], id="nothing unusual"),
        pytest.param(
            ISOLATED,
            "0-3,64-67",
            [
                "CPUs 4-63,68-127 are isolated (isolcpus), which the kubelet ignores: it gives them to pods. The kernel does not "
                "spread a container's threads over them, so that these stay on the CPU on which they started. Boot without "
                "isolcpus, unless the programs in the pods pin their threads themselves."
            ],
            id="all of the system's CPUs reserved",
        ),
        pytest.param(
            ISOLATED,
            "0,64",
            [
                "The system runs on CPUs 0-3,64-67, because the others are isolated (isolcpus), and pods may get 1-3,65-67 of them "
                "for themselves. Reserve all of the system's CPUs: 0-3,64-67.",
                "CPUs 4-63,68-127 are isolated",
            ],
            id="some of the system's CPUs reserved",
        ),
        pytest.param(
            ISOLATED,
            "32,96",
            [
                "Reserved CPUs 32,96 are isolated (isolcpus): the system runs on CPUs 0-3,64-67 and not there, so they would idle. "
                "Reserve the system's CPUs instead: 0-3,64-67.",
                "CPUs 4-31,33-63,68-95,97-127 are isolated",
            ],
            id="isolated CPUs reserved",
        ),
        pytest.param(CONFINED, "0-3,64-67", [], id="all that is left to the system reserved"),
        pytest.param(
            CONFINED,
            "0,64",
            [
                "systemd keeps the system's services on CPUs 0-3,64-67 (CPUAffinity=), and pods may get 1-3,65-67 of them for "
                "themselves. Reserve 0-3,64-67, or change the setting.",
                "The kernel sends interrupts to CPUs 0-3,64-67 (irqaffinity), and pods may get",
            ],
            id="some of what is left to the system reserved",
        ),
        pytest.param(
            topology(cores=8, housekeeping={"nohz_full": "0-1"}),
            "4",
            [
                "The kernel's own work is kept on CPUs 0-1 (nohz_full), and none of them is reserved: the reserved CPUs 4 are little "
                "used by it. Reserve 0-1, or change the setting."
            ],
            id="others reserved than are left to the kernel",
        ),
        pytest.param(
            HYBRID,
            "0,20",
            [
                "The cores of this machine have 1 and 2 threads. The kubelet counts with 1, their average rounded down, and may give "
                "CPUs away that are reserved or another pod's (kubernetes/kubernetes#140495). Switch SMT off, so that every core has "
                "1 thread."
            ],
            id="hybrid cores in one socket",
        ),
        pytest.param(
            topology(cores=48, threads=2, missing=(95,), offline="95"),
            "0,48",
            [
                "The cores of this machine have 1 and 2 threads. The kubelet counts with 1, their average rounded down, and may give "
                "CPUs away that are reserved or another pod's (kubernetes/kubernetes#140495). Bring CPUs 95 online, if they are the "
                "missing threads; otherwise switch SMT off."
            ],
            id="one CPU offline",
        ),
        pytest.param(
            topology(cores=5, sockets=2),
            "0",
            [
                "The sockets of this machine have 2 and 3 CPUs online. The kubelet counts with 2, their average rounded down, and may "
                "give CPUs away that are reserved or another pod's (kubernetes/kubernetes#140495). Bring the same number of CPUs "
                "online in each."
            ],
            id="unequal sockets",
        ),
    ],
)
def test_what_is_unusual_is_told_with_its_remedy(machine: Any, reserved: str, notes: Any) -> None:
    found = machine_notes(machine, parse_cpuset(reserved))
    assert len(found) == len(notes)
    for note, words in zip(found, notes, strict=True):
        assert note.startswith(words)
