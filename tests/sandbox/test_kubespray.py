# SPDX-License-Identifier: GPL-3.0-or-later
"""What a kubespray run would write; that a kubelet runs with it is the Molecule scenario kubespray."""

from __future__ import annotations

import json

import pytest
import yaml

from sandbox import kubespray
from sandbox.settings import SandboxError

VARIABLES = kubespray.defaults("w1", "172.18.0.3")


def test_the_service_reads_its_arguments_from_kubesprays_file_only() -> None:
    text = kubespray.unit()
    assert "EnvironmentFile=-/etc/kubernetes/kubelet.env\n" in text
    assert "\t\t$KUBELET_ARGS \\\n" in text
    assert "KUBELET_EXTRA_ARGS" not in text


def test_the_arguments_are_continued_over_lines_and_end_with_the_custom_flags() -> None:
    text = kubespray.environment({**VARIABLES, "kubelet_custom_flags": ["--a=b", "--c=d"]})
    assert text.count(" \\\n") == 4
    assert "--config=/etc/kubernetes/kubelet-config.yaml \\\n" in text
    assert '\n --a=b --c=d"\n' in text


def test_the_inventorys_policy_and_further_fields_are_in_the_configuration() -> None:
    given = {"kubelet_cpu_manager_policy": "static", "kubelet_config_extra_args": {"reservedSystemCPUs": "0"}}
    fields = yaml.safe_load(
        kubespray.configuration(kubespray.with_inventory(dict(VARIABLES), json.dumps(given)), minor=36)
    )
    assert (fields["cpuManagerPolicy"], fields["reservedSystemCPUs"]) == ("static", "0")
    assert fields["systemReserved"]["cpu"] == "500m"
    assert fields["kubeletCgroups"] == "/system.slice/kubelet.service"
    assert "cpuManagerPolicy" not in yaml.safe_load(kubespray.configuration(VARIABLES, minor=36))


def test_the_variables_that_a_container_needs_differ_from_kubesprays_defaults() -> None:
    fields = yaml.safe_load(kubespray.configuration(VARIABLES, minor=36))
    assert fields["memorySwap"] == {"swapBehavior": "NoSwap"}, "no kubelet starts with LimitedSwap on cgroup v1"
    assert (fields["failSwapOn"], fields["cgroupDriver"]) == (False, "cgroupfs")


@pytest.mark.parametrize(("minor", "there"), [(34, False), (35, True)])
def test_the_field_for_cgroup_v1_is_written_for_kubelets_that_know_it(minor: int, there: bool) -> None:
    assert ("failCgroupV1" in yaml.safe_load(kubespray.configuration(VARIABLES, minor))) is there


@pytest.mark.parametrize(
    ("text", "said"),
    [("{", "not JSON"), ("[]", "no object"), ('{"kubelet_cpu_manger_policy": "static"}', "kubelet_cpu_manger_policy")],
    ids=["not JSON", "not an object", "a misspelt variable"],
)
def test_variables_that_are_not_templated_are_refused(text: str, said: str) -> None:
    with pytest.raises(SandboxError, match=said):
        kubespray.with_inventory(dict(VARIABLES), text)
