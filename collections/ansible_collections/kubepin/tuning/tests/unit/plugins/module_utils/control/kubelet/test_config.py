# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import typing as t

import pytest
from ansible_collections.kubepin.tuning.plugins.module_utils.common.kubelet.flags import FlagError
from ansible_collections.kubepin.tuning.plugins.module_utils.control.kubelet.config import (
    DEFAULTS,
    DropIn,
    config_problems,
    effective_config,
)

HEAD = {"apiVersion": "kubelet.config.k8s.io/v1beta1", "kind": "KubeletConfiguration"}


def drop_in(name: str, **config: t.Any) -> DropIn:
    return DropIn(f"/d/{name}", "", config)


@pytest.mark.parametrize(
    ("config", "drop_ins", "flags", "field", "value", "source"),
    [
        pytest.param(None, [], [], "cpuManagerPolicy", "none", "default", id="default"),
        pytest.param({"cpuManagerPolicy": "static"}, [], [], "cpuManagerPolicy", "static", "file:/c", id="file"),
        pytest.param({"cpuManagerPolicy": ""}, [], [], "cpuManagerPolicy", "none", "default", id="empty text is unset"),
        pytest.param({"cpuManagerPolicy": None}, [], [], "cpuManagerPolicy", "none", "default", id="null is unset"),
        pytest.param({"cpuManagerReconcilePeriod": "0s"}, [], [], "cpuManagerReconcilePeriod", "10s", "default", id="0s is unset"),
        pytest.param({"healthzPort": 0}, [], [], "healthzPort", 0, "file:/c", id="port 0 is a value"),
        pytest.param({"failSwapOn": False}, [], [], "failSwapOn", False, "file:/c", id="false is a value"),
        pytest.param({"reservedSystemCPUs": 4}, [], [], "reservedSystemCPUs", "", "default", id="wrong type counts as absent"),
        pytest.param({"healthzPort": True}, [], [], "healthzPort", 10248, "default", id="a boolean is no number"),
        pytest.param(
            {"kubeReserved": {"cpu": "1"}}, [drop_in("1.conf", kubeReserved={"memory": "1Gi"})], [],
            "kubeReserved", {"cpu": "1", "memory": "1Gi"}, "drop-in:/d/1.conf", id="drop-in merges maps",
        ),
        pytest.param(
            {"enforceNodeAllocatable": ["pods", "x"]}, [drop_in("1.conf", enforceNodeAllocatable=["none"])], [],
            "enforceNodeAllocatable", ["none"], "drop-in:/d/1.conf", id="drop-in replaces lists",
        ),
        pytest.param(
            {"cpuManagerPolicy": "static"}, [drop_in("1.conf", cpuManagerPolicy=None)], [],
            "cpuManagerPolicy", "none", "default", id="null in a drop-in goes back to the default",
        ),
        pytest.param(
            None, [drop_in("90.conf", cpuManagerPolicy="static"), drop_in("10.conf", cpuManagerPolicy="none")], [],
            "cpuManagerPolicy", "static", "drop-in:/d/90.conf", id="drop-ins in the order of their names",
        ),
        pytest.param(
            None, [drop_in("b.conf", cpuManagerPolicy="static"), drop_in("a/c.conf", cpuManagerPolicy="none")], [],
            "cpuManagerPolicy", "static", "drop-in:/d/b.conf", id="a folder in its place",
        ),
        pytest.param(
            None, [drop_in("1.yaml", cpuManagerPolicy="static")], [], "cpuManagerPolicy", "none", "default", id="only .conf"
        ),
        pytest.param(
            {"cpuManagerPolicy": "none"}, [drop_in("1.conf", cpuManagerPolicy="none")], ["--cpu-manager-policy=static"],
            "cpuManagerPolicy", "static", "flag", id="flags beat all",
        ),
        pytest.param(
            {"kubeReserved": {"cpu": "1"}}, [], ["--kube-reserved=memory=1Gi"],
            "kubeReserved", {"memory": "1Gi"}, "flag", id="a flag replaces a map",
        ),
        pytest.param(
            {"featureGates": {"A": True, "B": True}}, [], ["--feature-gates=B=false"],
            "featureGates", {"A": True, "B": False}, "flag", id="save feature gates",
        ),
        pytest.param(
            {"evictionHard": {"memory.available": "1Gi"}}, [], [],
            "evictionHard", {"memory.available": "1Gi"}, "file:/c", id="thresholds replace the default ones",
        ),
        pytest.param(
            {"evictionHard": {"memory.available": "1Gi"}, "mergeDefaultEvictionSettings": True}, [], [],
            "evictionHard", {**DEFAULTS["evictionHard"], "memory.available": "1Gi"}, "file:/c", id="unless asked to merge",
        ),
    ],
)  # fmt: skip
def test_effective(
    config: t.Any, drop_ins: list[t.Any], flags: list[str], field: str, value: t.Any, source: str
) -> None:
    effective, sources = effective_config("/c", config, drop_ins, ["/usr/bin/kubelet", *flags])
    assert (effective[field], sources[field]) == (value, source)
    assert set(effective) == set(sources) == set(DEFAULTS)


def test_refused() -> None:
    with pytest.raises(FlagError):
        effective_config(None, None, [], ["kubelet", "--fail-swap-on=maybe"])


@pytest.mark.parametrize(
    ("content", "problems"),
    [
        pytest.param({**HEAD, "cpuManagerPolicy": "static"}, [], id="good"),
        pytest.param({**HEAD, "cpuManagerPolicy": None, "unknownField": 3}, [], id="null and unknown fields"),
        pytest.param([], ["/c does not hold a mapping; expected a KubeletConfiguration."], id="a list"),
        pytest.param(
            {**HEAD, "reservedSystemCPUs": 0},
            ["/c: reservedSystemCPUs is 0; expected text (in quotes)."],
            id="unquoted number",
        ),
        pytest.param(
            {**HEAD, "failSwapOn": "no"}, ["/c: failSwapOn is 'no'; expected true or false."], id="quoted boolean"
        ),
        pytest.param(
            {**HEAD, "healthzPort": True}, ["/c: healthzPort is True; expected a whole number."], id="boolean port"
        ),
        pytest.param({**HEAD, "kubeReserved": []}, ["/c: kubeReserved is []; expected a mapping."], id="map"),
        pytest.param({**HEAD, "reservedMemory": {}}, ["/c: reservedMemory is {}; expected a list."], id="list"),
        pytest.param(
            {"kind": "KubeletConfiguration"},
            [
                "/c: a configuration file needs 'apiVersion: kubelet.config.k8s.io/v1beta1' "
                "and 'kind: KubeletConfiguration'."
            ],
            id="no apiVersion",
        ),
    ],
)
def test_config_problems(content: t.Any, problems: list[str]) -> None:
    found = config_problems(content, "/c")
    assert [problem.text for problem in found] == problems
    assert {problem.code for problem in found} <= {"config_invalid"}


def test_a_drop_in_is_named_as_one() -> None:
    assert "a drop-in needs" in config_problems({}, "/d/1.conf", drop_in=True)[0].text
