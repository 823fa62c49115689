# SPDX-License-Identifier: GPL-3.0-or-later
"""The proxy of campaign `faults` fails as an API server does, and kubepin's client bears it."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
from ansible_collections.kubepin.tuning.plugins.module_utils.control.cluster.api import KubernetesApi
from ansible_collections.kubepin.tuning.tests.unit.samples.api_server import Fault, StandIn, kubeconfig

from tests.campaigns.api_proxy import AWAY, THROTTLED, UNAVAILABLE, ApiProxy


@pytest.mark.parametrize("fault", [AWAY, UNAVAILABLE, THROTTLED], ids=["away", "503", "429"])
def test_requests_fail_from_one_of_them_on_and_are_passed_on_later(fault: Fault, tmp_path: Path) -> None:
    cluster = StandIn()
    cluster.add_node("gpu-01")
    cluster.add_node("gpu-02")
    proxy = ApiProxy(cluster.serve, "^GET .*/nodes/gpu-02$", fault, seconds=1)
    proxy.start()
    try:
        config = tmp_path / "proxy.conf"
        config.write_text(kubeconfig(f"http://127.0.0.1:{proxy.port}"))
        api = KubernetesApi(str(config), None)
        api.node("gpu-01")
        assert (proxy.failed, proxy.over) == (0, False)
        began = time.monotonic()
        assert api.node("gpu-02")["metadata"]["name"] == "gpu-02"
        assert time.monotonic() - began >= 1
        assert proxy.failed >= 1
        assert proxy.over
        failed = proxy.failed
        api.node("gpu-02")
        assert proxy.failed == failed
    finally:
        proxy.close()
