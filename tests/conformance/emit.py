# SPDX-License-Identifier: GPL-3.0-or-later
"""Whether real kubelets take what `kubepin emit` writes, in every format, and reserve the CPUs that it names."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ansible_collections.kubepin.tuning.plugins.module_utils.common.kubelet.start_errors import first_cause
from ansible_collections.kubepin.tuning.plugins.module_utils.control.cpus.topology import Topology
from ansible_collections.kubepin.tuning.plugins.module_utils.control.emit.formats import FORMATS
from ansible_collections.kubepin.tuning.plugins.module_utils.control.emit.node_settings import (
    Example,
    NodeSettings,
    by_machine_type,
    settings_for,
)
from ansible_collections.kubepin.tuning.plugins.module_utils.control.kubelet.config import DEFAULTS
from ansible_collections.kubepin.tuning.plugins.module_utils.control.switch.desired import DesiredSettings

from sandbox.settings import Version
from tests.conformance import machines
from tests.conformance.standalone_kubelet import WORK, Job, Place, Result, StandaloneNode, base_config
from tests.emitted import delivered

MACHINES = ("one-socket", "epyc-7773x-nps4")
OTHERS = {"systemReserved": {"memory": "1Gi"}}
"""What the kubelets have besides: `reservedMemory` must add up with it."""
SIMPLE = DesiredSettings("static")
ALL = DesiredSettings(
    "static",
    policy_options={"full-pcpus-only": True},
    topology_manager_policy="restricted",
    topology_manager_scope="pod",
    memory_manager_policy="Static",
    reserved_memory=[{"numa_node": 0, "limits": {"memory": "1Gi"}}],
)
_OPTIONS_BETA = 23
_DROP_IN = "kubelet.conf.d/90-kubepin.conf"


@dataclass(frozen=True)
class Case:
    """The files of a format for one machine, and the CPUs that the kubelet must then reserve."""

    id: str
    job: Job
    reserved: str


def cases(version: Version, machine: str, topology: Topology) -> Iterator[Case]:
    """A case for each format and request that this version can have, which `Emitted.problems` decides."""
    wanted = {"simple": SIMPLE, **({"all": ALL} if version.minor >= _OPTIONS_BETA else {})}
    effective = {**DEFAULTS, "evictionHard": base_config(version)["evictionHard"], **OTHERS}
    for request, desired in wanted.items():
        for name, form in FORMATS.items():
            settings, problems = settings_for(
                Example(machine, topology, str(version), effective), desired, form.cleared
            )
            if settings is None:
                raise ValueError(f"{machine}, {version}: {problems}")
            (node,) = by_machine_type([settings], "gpu-nodes")
            written = form.write(node)
            if written.files:
                files = {file.path: file.text for file in written.files}
                yield _case(f"{machine} {request} {name}", version, name, files, node)


def _case(case: str, version: Version, name: str, files: Mapping[str, str], node: NodeSettings) -> Case:
    delivery = delivered(name, files)
    config: dict[str, Any] = {**base_config(version), **OTHERS, **delivery.config}
    drop_in = {_DROP_IN: delivery.drop_in} if delivery.drop_in else {}
    flags = [f"--config-dir={WORK}/root/{Path(_DROP_IN).parent}"] if drop_in else delivery.flags
    return Case(case, Job(case, config, flags=flags, files=drop_in), node.settings["reservedSystemCPUs"])


def fault(case: Case, result: Result) -> str:
    """How the kubelet differs from what was asked for; empty if it did."""
    if result.exit is not None:
        cause = first_cause(result.log.splitlines())
        return f"exit {result.exit}: {cause.line if cause else 'no log'}"
    policy = json.loads(result.files["cpu_manager_state"])["policyName"]
    if policy != "static":
        return f"the state file has the policy {policy}"
    line = re.search(r".*eserved CPUs not available for exclusive assignment.*", result.log)
    reserved = re.findall(r'reserved="?([\d,-]+)', line[0]) if line else []
    return "" if reserved == [case.reserved] else f"reserved {reserved}, expected {case.reserved}"


def _faults(node: StandaloneNode, version: Version, topologies: Mapping[str, Topology]) -> Iterator[tuple[Case, str]]:
    for machine, topology in topologies.items():
        of_machine = {case.id: case for case in cases(version, machine, topology)}
        for result in node.run(version, [case.job for case in of_machine.values()], tree=machine):
            yield of_machine[result.id], fault(of_machine[result.id], result)


def run(versions: Sequence[Version], place: Place) -> int:
    """Starts a kubelet for each case; prints a table; 1 on any disagreement."""
    disagreements = 0
    with machines.node_with(tuple(MACHINES), versions, place) as (node, topologies):
        print(f"{'kubelet':<10} {'cases':>6} {'disagree':>9} {'seconds':>8}")
        for version in versions:
            started = time.monotonic()
            found = list(_faults(node, version, topologies))
            faults = [f"{case.id}: {text}" for case, text in found if text]
            print(
                f"{version!s:<10} {len(found):>6} {len(faults):>9} {time.monotonic() - started:>8.0f}",
                *(f"disagreement: {text}" for text in faults),
                sep="\n",
                flush=True,
            )
            disagreements += len(faults)
    return 1 if disagreements else 0
