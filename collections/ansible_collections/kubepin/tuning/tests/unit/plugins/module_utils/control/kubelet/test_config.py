# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import typing as t

import pytest
from ansible_collections.kubepin.tuning.plugins.module_utils.common.kubelet.flags import FlagError
from ansible_collections.kubepin.tuning.plugins.module_utils.control.kubelet.config import (
    DEFAULTS,
    DropIn,
    effective_config,
)


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
