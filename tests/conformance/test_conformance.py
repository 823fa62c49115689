# SPDX-License-Identifier: GPL-3.0-or-later
"""What the conformance runs draw and how they count, without a kubelet."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.kubepin.tuning.plugins.module_utils.control.cpus.admission import Books, Supplies
from ansible_collections.kubepin.tuning.plugins.module_utils.control.cpus.allocation import (
    Container,
    Pod,
    machine_of,
    pod_request,
)
from ansible_collections.kubepin.tuning.plugins.module_utils.control.cpus.devices import DevicePlugin
from ansible_collections.kubepin.tuning.plugins.module_utils.control.cpus.topology import Topology
from ansible_collections.kubepin.tuning.plugins.module_utils.control.emit.formats import FORMATS

from sandbox import nodes
from sandbox.settings import Paths, SandboxError, Version, validate
from sandbox.shell import Log, Shell
from sandbox.state import State
from tests.conformance import allocation, config, emit, machines
from tests.conformance.standalone_kubelet import Place, Result, StandaloneNode, standalone_node

V1_22 = Version(1, 22, 17)
NOT_ENOUGH = "Allocate failed due to not enough cpus available to satisfy request, which is unexpected"


@pytest.fixture(scope="module")
def topology(tmp_path_factory: pytest.TempPathFactory) -> Topology:
    return machines.make("one-socket", tmp_path_factory.mktemp("tree") / "one-socket")


def test_a_seed_draws_the_same_again(topology: Topology) -> None:
    draws = [allocation.draw(seed, "one-socket", topology, 36) for seed in ("1", "1", "2")]
    assert draws[0] == draws[1] != draws[2]
    cases = [config.draw(seed, V1_22, {"one-socket": topology}) for seed in ("1", "1", "2")]
    assert cases[0] == cases[1] != cases[2]


def event(pod: str, reason: str, message: str) -> str:
    subject = f'object="default/{pod}-standalone" kind="Pod"'
    return f'I1 event.go:291] "Event occurred" {subject} type="Warning" reason="{reason}" message="{message}"'


def test_refusals_are_read_from_events() -> None:
    log = "\n".join(
        [event("p1", "SMTAlignmentError", 'said \\"no\\"'), event("p2", "FailedCreatePodSandBox", "no image")]
    )
    assert allocation.refusals(log) == {"p1": 'SMTAlignmentError: said "no"'}


def compared(topology: Topology, entries: dict[str, Any], default: str, log: str) -> allocation.Count:
    pods = (Pod("p0", (Container("c", "2"),)), Pod("p1", (Container("c", "31"),)))
    drawn = allocation.PodSequence("1", "one-socket", frozenset({0, 16}), (), "none", "container", pods)
    state = json.dumps({"policyName": "static", "defaultCpuSet": default, "entries": entries})
    count = allocation.Count()
    allocation.compare(drawn, machine_of(topology), 22, Result("1", None, {"cpu_manager_state": state}, log), count)
    return count


@pytest.mark.parametrize("name", ["conformance-config", "lab-machine-2"])
def test_only_a_machine_of_a_sandbox_can_be_the_node(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setenv("KUBEPIN_CACHE", str(tmp_path))
    state = State.new(validate("lab", "1.36.3", 0, machines=1))
    state.save(Paths(tmp_path).sandbox("lab"))
    with (
        pytest.raises(SandboxError, match=f'node "{name}" is not a virtual machine of a sandbox'),
        standalone_node(Place(name, "machine")),
    ):
        pass


def test_a_machine_runs_its_own_kubelet_only(tmp_path: Path) -> None:
    node = StandaloneNode(Paths(tmp_path), nodes.Container("lab", Shell(Log(tmp_path / "log"))), only=Version(1, 36, 3))
    assert node.require(Version(1, 36, 3)) == "/usr/bin/kubelet"
    with pytest.raises(SandboxError, match=r"has the kubelet 1\.36\.3 only: 1\.22\.17 cannot be run there"):
        node.require(V1_22)


def test_agreement_and_disagreement_on_allocations(topology: Topology) -> None:
    refused = event("p1", "UnexpectedAdmissionError", NOT_ENOUGH)
    agreed = compared(topology, {"p0": {"c": "1,17"}}, "0,2-16,18-31", refused)
    assert (agreed.granted, agreed.refused, agreed.disagreements) == (1, 1, [])
    [other] = compared(topology, {"p0": {"c": "1-2"}}, "0,3-31", refused).disagreements
    assert "seed 1 on one-socket" in other
    assert "preview: c 1,17; memory: -; devices: -\n  kubelet: c 1-2; memory" in other
    assert len(compared(topology, {"p0": {"c": "1,17"}}, "0,2-16,18-31", "").disagreements) == 1


def test_a_pod_that_the_kubelet_ignores_is_a_disagreement(topology: Topology) -> None:
    ignored = 'E1 file_linux.go:61] "Unable to process watch event" err="invalid pod: [spec.resources: Forbidden]"'
    log = "\n".join([ignored, event("p1", "UnexpectedAdmissionError", NOT_ENOUGH)])
    (found,) = compared(topology, {"p0": {"c": "1,17"}}, "0,2-16,18-31", log).disagreements
    assert found.endswith('a pod was not tried: invalid pod: [spec.resources: Forbidden]"')


def test_pods_with_resources_of_their_own_are_drawn_for_kubelets_that_know_them(topology: Topology) -> None:
    for minor, some in ((33, False), (34, True)):
        drawn = [allocation.draw(str(seed), "one-socket", topology, minor) for seed in range(20)]
        pods = [pod for sequence in drawn for pod in sequence.pods if pod.own]
        assert bool(pods) is some
        for pod in pods:
            assert pod_request(pod, minor) >= pod_request(replace(pod, own={}), minor)


def test_memory_and_devices_of_another_node_are_a_disagreement(tmp_path: Path) -> None:
    found = machines.make("numa-2", tmp_path / "numa-2")
    places = {"gpu-0": frozenset({0}), "gpu-1": frozenset({1})}
    supplies = Supplies(
        memory={node.id: node.memory for node in found.numa_nodes},
        reserved_memory=[{"numaNode": 0, "limits": {"memory": "1Gi"}}],
        plugins=(DevicePlugin("example.com/gpu", places, lowest_first=True),),
    )
    pod = Pod("p0", (Container("c", "2", others={"memory": "1Gi", "example.com/gpu": "1"}),))
    drawn = allocation.PodSequence("1", "numa-2", frozenset({0, 32}), (), "none", "container", (pod,), supplies)

    def compared_with(node: int, device: str) -> list[str]:
        state = {"policyName": "static", "defaultCpuSet": "0,2-32,34-63", "entries": {"p0": {"c": "1,33"}}}
        books = Books.of(machine_of(found), drawn.rules(36), supplies)
        books.admit(pod)
        assert books.memory
        cells = {
            number: {
                "cells": cells,
                "numberOfAssignments": assignments,
                "memoryMap": {what: {"free": free, "reserved": taken} for what, (free, taken) in tables.items()},
            }
            for number, (cells, assignments, tables) in allocation.cells_of(books.memory).items()
        }
        block = {"numaAffinity": [node], "type": "memory", "size": 1024**3}
        entry = {"PodUID": "p0", "ContainerName": "c", "ResourceName": "example.com/gpu", "DeviceIDs": {"0": [device]}}
        files = {
            "cpu_manager_state": json.dumps(state),
            "memory_manager_state": json.dumps({"entries": {"p0": {"c": [block]}}, "machineState": cells}),
            "kubelet_internal_checkpoint": json.dumps({"Data": {"PodDeviceEntries": [entry]}}),
        }
        count = allocation.Count()
        allocation.compare(drawn, machine_of(found), 36, Result("1", None, files, ""), count)
        return count.disagreements

    assert compared_with(0, "gpu-0") == []
    assert "kubelet: c 1,33; memory: c memory 1073741824 in [1]" in compared_with(1, "gpu-0")[0]
    assert "devices: c ['gpu-1']" in compared_with(0, "gpu-1")[0]


def test_a_kubelet_that_does_not_end_agrees_with_a_preview_that_says_so(tmp_path: Path) -> None:
    found = machines.make("x86_64-epyc_7451", tmp_path / "machine")
    drawn = allocation.draw("1-1.35.6-x86_64-epyc_7451-6", "x86_64-epyc_7451", found, 35)  # 1.35.6 does not end
    drawn = replace(drawn, policy="none")
    for pods, hung in ((drawn.pods, 1), (drawn.pods[1:2], 0)):
        count = allocation.Count()
        result = Result("1", "timeout", {}, "")
        allocation.compare(replace(drawn, pods=pods), machine_of(found), 35, result, count)
        assert (count.hung, len(count.disagreements)) == (hung, 1 - hung)


@pytest.mark.parametrize(
    ("change", "exit_status", "log", "agrees"),
    [
        pytest.param({}, None, "", True, id="starts as expected"),
        pytest.param({}, 1, "E1 failed to run Kubelet: something", False, id="fails unexpectedly"),
        pytest.param({"reservedSystemCPUs": ""}, None, "", False, id="starts unexpectedly"),
        pytest.param(
            *({"reservedSystemCPUs": ""}, 1),
            "E1 [cpumanager] the static policy requires systemreserved.cpu + kubereserved.cpu to be greater than zero",
            True,
            id="fails for the cause",
        ),
        pytest.param({"reservedSystemCPUs": ""}, 1, "E1 checkpoint is corrupted", False, id="fails for another cause"),
        pytest.param({"reservedSystemCPUs": ""}, 1, "E1 never heard of", False, id="fails with an unknown line"),
    ],
)
def test_agreement_and_disagreement_on_configurations(
    topology: Topology, change: dict[str, Any], exit_status: int | None, log: str, agrees: bool
) -> None:
    sound = config.Case("1", "one-socket", {"cpuManagerPolicy": "static", "reservedSystemCPUs": "0"}, {}, {})
    case = replace(sound, config={**sound.config, **change})
    count = config.Count()
    config.compare(case, config.predict(case, V1_22, topology), Result("1", exit_status, {}, log), count)
    assert (count.disagreements == []) == agrees


@pytest.mark.parametrize(
    ("exit_status", "policy", "reserved", "said"),
    [
        pytest.param(None, "static", "0,16", "", id="does as configured"),
        pytest.param(None, "none", "0,16", "the state file has the policy none", id="another policy"),
        pytest.param(None, "static", "0-1", "reserved ['0-1'], expected 0,16", id="other CPUs"),
        pytest.param(1, "static", "0,16", "exit 1: ", id="ends"),
    ],
)
def test_a_kubelet_that_does_not_do_as_emit_told_it_is_a_fault(
    topology: Topology, exit_status: int | None, policy: str, reserved: str, said: str
) -> None:
    case = next(emit.cases(V1_22, "one-socket", topology))
    text = "Reserved CPUs not available for exclusive assignment"
    log = f'I1 policy_static.go:120] "{text}" reservedSize=2 reserved="{reserved}"'
    result = Result(case.id, exit_status, {"cpu_manager_state": json.dumps({"policyName": policy})}, log)
    assert emit.fault(case, result).startswith(said)
    assert bool(emit.fault(case, result)) == bool(said)


@pytest.mark.parametrize("version", [Version(1, 20, 15), V1_22, Version(1, 36, 3)])
def test_every_format_is_tried_or_has_a_problem_with_the_version(topology: Topology, version: Version) -> None:
    tried = {case.id.split()[-1] for case in emit.cases(version, "one-socket", topology)}
    without_patches = {"kubeadm-patch", "cluster-api"} if version.minor < 25 else set()
    without_directory = {"rke2", "k3s"} if version.minor < 22 else set()
    without_file = {name for name, since in (("microk8s", 27), ("k8s-snap", 30)) if version.minor < since}
    assert set(FORMATS) - tried == without_patches | without_directory | without_file


def test_dumps_are_made_whole(tmp_path: Path) -> None:
    found = machines.make("64amd64-4s2n4ca2co", tmp_path / "64amd64-4s2n4ca2co")
    system = tmp_path / "64amd64-4s2n4ca2co/sys/devices/system"
    assert len(list((system / "node/node0").glob("cpu[0-9]*"))) == len(found.cpus) // len(found.numa_nodes)
    assert (system / "cpu/cpu0/cache/index0/size").exists()
    assert "physical id" in (tmp_path / "64amd64-4s2n4ca2co/proc/cpuinfo").read_text()


def test_an_unknown_machine_is_refused_before_anything_is_made() -> None:
    with pytest.raises(SandboxError, match="machine no-such is unknown"):
        allocation.run([V1_22], ["no-such"], 1, 1, Place("unused"))
