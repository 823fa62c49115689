# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import pytest
from ansible_collections.kubepin.tuning.plugins.module_utils.common.kubelet.start_errors import Cause, first_cause
from ansible_collections.kubepin.tuning.tests.unit.samples.inputs import damaged
from hypothesis import given
from hypothesis import strategies as st

NOISE = [
    "Started kubelet.service - kubelet: The Kubernetes Node Agent.",
    "Flag --cpu-manager-policy has been deprecated, This parameter should be set via the config file",
    'I1123 18:00:00.000000     100 server.go:408] "Kubelet version" kubeletVersion="v1.22.17"',
    'E1123 18:00:00.100000     100 cri_stats_provider.go:372] "Failed to get the info of the filesystem with mountpoint"',
]
POLICY = (
    'E1123 18:00:01.000000     100 kubelet.go:1384] "Failed to start ContainerManager" err="start cpu manager error: could not restore '
    'state from checkpoint: configured policy \\"static\\" differs from state checkpoint policy \\"none\\", please drain this node"'
)
UNKNOWN = (
    'E1123 18:00:01.000000     100 server.go:292] "Failed to run kubelet" err="failed to run Kubelet: something new"'
)


@pytest.mark.parametrize(
    ("lines", "cause"),
    [
        pytest.param(
            [*NOISE, POLICY, "kubelet.service: Main process exited, code=exited, status=1/FAILURE"],
            Cause(
                POLICY,
                "the state file was written under another policy and must be removed while the kubelet is stopped",
                "Remove the state file that the line names, cpu_manager_state or memory_manager_state: "
                "`systemctl stop kubelet; rm /var/lib/kubelet/FILE; systemctl start kubelet`.",
            ),
            id="a known line among noise",
        ),
        pytest.param([*NOISE, UNKNOWN], Cause(UNKNOWN, ""), id="an unknown fatal line"),
        pytest.param(NOISE, Cause(NOISE[3], ""), id="nothing fatal: the first error"),
        pytest.param(
            ["Usage:", "  kubelet [flags]"], Cause("kubelet [flags]", ""), id="no error at all: the last line"
        ),
        pytest.param([], None, id="silence"),
    ],
)
def test_first_cause(lines: list[str], cause: Cause | None) -> None:
    assert first_cause(lines) == cause


@pytest.mark.parametrize(
    ("line", "meaning"),
    [
        ("[cpumanager] unable to determine reserved CPU resources for static policy", "at least one reserved CPU"),
        (
            'err="failed to run Kubelet: reserved-cpus: 99 is not a subset of online-cpus: 0-1"',
            "this machine does not have",
        ),
        ('Invalid cpuset "99" specified by --reserved-cpus', "this machine does not have"),
        ("can't use reservedSystemCPUs (--reserved-cpus) with systemReservedCgroup", "cannot be combined"),
        ("new none policy error: None policy: received unsupported options=map[a:b]", "although the policy is none"),
        ("static policy options a and b can not be used at the same time", "exclude each other"),
        ("unsupported on machines with more than 8 NUMA Nodes", "refuses this many NUMA nodes"),
        ("Error: failed to parse kubelet flag: unknown flag: --x", "not known to this kubelet's version"),
        ("checkpoint is corrupted", "damaged"),
        (
            "start memory manager error: [memorymanager] the expected machine state is different from the real one",
            "another than",
        ),
        ("[memorymanager] machine state can not be empty when it has memory assignments", "contradicts itself"),
        ("(pod: a, container: c) the memory assignment uses the NUMA that does not exist", "or this machine"),
        ('"Failed to start cAdvisor" err="inotify_init: too many open files"', "fs.inotify.max_user_instances"),
        ('current set of available CPUs "0-3" doesn\'t match with CPUs in state "0-7"', "went online or offline"),
    ],
)
def test_meanings(line: str, meaning: str) -> None:
    cause = first_cause([*NOISE, line])
    assert cause is not None
    assert meaning in cause.meaning
    assert cause.remedy.endswith(".")


CONFIGURATION = [
    'I1127 16:55:40.1 7 server.go:258] "Effective KubeletConfiguration" config=<',
    "\tapiVersion: kubelet.config.k8s.io/v1beta1",
    "\tfailCgroupV1: false",
    " >",
]
FAILURE = 'E1127 16:55:41.2 7 run.go:72] "command failed" err="unknown policy: \\"Static\\""'


@pytest.mark.parametrize(
    "before",
    [
        pytest.param(CONFIGURATION, id="text"),
        pytest.param(CONFIGURATION[:-1], id="text without its end"),
        pytest.param(
            [
                'I1127 17:10:28.5 7 state_checkpoint.go:240] "could not load v3 checkpoint, falling back to v2" '
                'err="checkpoint is corrupted"'
            ],
            id="an older format of a state file",
        ),
        pytest.param(
            [
                'E1128 01:43:13.9 7 state_checkpoint.go:203] "V3 checkpoint is corrupt, falling back to V2" '
                'err="checkpoint is corrupted" logger="CPUManager state checkpoint"'
            ],
            id="a damaged newer part of a state file",
        ),
        pytest.param(['{"msg":"Effective KubeletConfiguration","config":"failCgroupV1: false\\n"}'], id="JSON"),
    ],
)
def test_what_kubelets_log_on_the_way_is_no_cause(before: list[str]) -> None:
    cause = first_cause([*before, FAILURE])
    assert cause is not None
    assert cause.line == FAILURE


@given(st.lists(damaged(*NOISE, 'E0101 00:00:00.000000 1 run.go:74] "command failed" err="x"'), max_size=8))
def test_any_log_has_a_cause_that_is_one_of_its_lines_or_none(lines: list[str]) -> None:
    cause = first_cause(lines)
    assert cause is None or cause.line
