# SPDX-License-Identifier: GPL-3.0-or-later
"""The dumps of machine types are as their sources have them, and the README names each."""

from __future__ import annotations

import io
import tarfile

import pytest
from ansible_collections.kubepin.tuning.plugins.module_utils.control.cpus.topology import Topology
from ansible_collections.kubepin.tuning.plugins.module_utils.node.readers.topology import read_topology

from orchestrator.machines import MACHINES, machine_dump
from tools.machines import DUMPED, FOLDER, GENERATED, archive_of


def members(archive: bytes) -> dict[str, bytes | str]:
    with tarfile.open(fileobj=io.BytesIO(archive)) as opened:
        files = ((each, opened.extractfile(each) if each.isreg() else None) for each in opened)
        return {each.name: file.read() if file else each.linkname for each, file in files}


def test_every_archive_is_made_of_its_source() -> None:
    assert set(MACHINES) == {*GENERATED, *DUMPED}
    for machine in MACHINES:
        assert members(machine_dump(machine).read_bytes()) == members(archive_of(machine)), machine


@pytest.mark.parametrize(
    ("machine", "cpus", "numa_nodes", "l3_groups", "gpus"),
    [
        ("epyc-7773x-2s-nps1", 256, 2, 16, 8),
        ("epyc-7773x-2s-nps4", 256, 8, 16, 8),
        ("xeon-8480c-2s", 224, 2, 2, 8),
        ("epyc-7451-2s", 96, 8, 16, 0),
    ],
)
def test_a_machine_type_is_read_as_any_dump(
    machine: str, cpus: int, numa_nodes: int, l3_groups: int, gpus: int
) -> None:
    found = Topology.of(read_topology(str(machine_dump(machine))))
    assert (len(found.online), len(found.numa_nodes), len(found.l3_groups), len(found.gpus)) == (
        cpus,
        numa_nodes,
        l3_groups,
        gpus,
    )


def test_the_readme_names_the_source_of_each() -> None:
    table = (FOLDER / "README.md").read_text()
    for machine in MACHINES:
        family, _, variant = machine.rpartition("-nps")
        assert f"`{machine}`" in table or f"`-nps{variant}`" in table.split(f"`{family}-nps1`")[1], machine
