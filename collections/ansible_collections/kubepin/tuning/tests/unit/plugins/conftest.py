# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from ansible_collections.kubepin.tuning.plugins.module_utils.control.cluster.api import KubernetesApi
from ansible_collections.kubepin.tuning.tests.unit.samples.api_server import StandIn, kubeconfig, stand_in


@pytest.fixture
def server() -> Iterator[StandIn]:
    """An HTTP server that stands in for an API server."""
    with stand_in() as listening:
        yield listening


@pytest.fixture
def kubeconfig_file(server: StandIn, tmp_path: Path) -> str:
    """The kubeconfig of the stand-in."""
    path = tmp_path / "admin.conf"
    path.write_text(kubeconfig(f"http://127.0.0.1:{server.port}"))
    return str(path)


@pytest.fixture
def api(kubeconfig_file: str) -> KubernetesApi:
    """The API of the stand-in, through the real client."""
    return KubernetesApi(kubeconfig_file, None)
