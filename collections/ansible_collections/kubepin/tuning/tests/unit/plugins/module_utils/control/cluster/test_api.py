# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import json
import socket
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest
from ansible_collections.kubepin.tuning.plugins.module_utils.common.errors import TuningError
from ansible_collections.kubepin.tuning.plugins.module_utils.control.cluster.api import ApiError, KubernetesApi

pytest.importorskip("kubernetes")

HINT = "Name a kubeconfig with `kubeconfig`, or in the environment variable KUBECONFIG."


def kubeconfig(server="https://127.0.0.1:6443"):
    return f"""
apiVersion: v1
kind: Config
clusters: [{{name: lab, cluster: {{server: "{server}"}}}}]
users: [{{name: admin, user: {{token: secret}}}}]
contexts: [{{name: lab, context: {{cluster: lab, user: admin}}}}]
current-context: lab
"""


def test_a_missing_kubeconfig(tmp_path):
    path = str(tmp_path / "admin.conf")
    with pytest.raises(TuningError) as caught:
        KubernetesApi(path, None)
    assert str(caught.value) == f'kubeconfig "{path}" does not exist. {HINT}'


def test_the_environment_names_the_kubeconfig(tmp_path, monkeypatch):
    (tmp_path / "admin.conf").write_text(kubeconfig("https://lab:6443"))
    monkeypatch.setenv("KUBECONFIG", f"{tmp_path}/none:{tmp_path}/admin.conf")
    assert KubernetesApi(None, None).server == "https://lab:6443"


@pytest.mark.parametrize(
    ("text", "context"),
    [
        pytest.param("a: [", None, id="no YAML"),
        pytest.param("hello", None, id="no mapping"),
        pytest.param("", None, id="empty"),
        pytest.param(kubeconfig(), "other", id="no such context"),
    ],
)
def test_a_broken_kubeconfig(tmp_path, text, context):
    path = tmp_path / "admin.conf"
    path.write_text(text)
    with pytest.raises(TuningError) as caught:
        KubernetesApi(str(path), context)
    assert str(caught.value).startswith(f'kubeconfig "{path}" cannot be used: ')
    assert str(caught.value).endswith(HINT)


def test_an_unreachable_server(tmp_path):
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        server = f"https://127.0.0.1:{unused.getsockname()[1]}"
        path = tmp_path / "admin.conf"
        path.write_text(kubeconfig(server))
        with pytest.raises(ApiError) as caught:
            KubernetesApi(str(path), None).node("gpu-01")
    assert caught.value.status is None
    assert str(caught.value) == (
        f'the API server {server} (kubeconfig "{path}") cannot be reached: Connection refused. '
        "Check that the control plane is up and reachable from here, or name another kubeconfig with `kubeconfig`."
    )


REFUSED = "error trying to reach service: dial tcp 172.30.0.12:10250: connect: connection refused"
ETCD_AWAY = "transport: Error while dialing dial tcp 127.0.0.1:2379: connect: connection refused"


@pytest.mark.parametrize(
    ("status", "words", "listens"),
    [
        (200, "ok", True),
        (503, REFUSED, False),
        (503, REFUSED.replace("connection refused", "no route to host"), None),
        (500, ETCD_AWAY, None),
        (403, "nodes is forbidden", None),
    ],
    ids=["answers", "refuses", "not reached", "the API server's own trouble", "no right to ask"],
)
def test_whether_a_kubelet_listens_is_told_from_all_else(tmp_path, status, words, listens):
    class Answer(BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_response(status)
            self.end_headers()
            self.wfile.write((words if status == 200 else json.dumps({"message": words})).encode())

        def log_message(self, *arguments):
            pass

    with HTTPServer(("127.0.0.1", 0), Answer) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        path = tmp_path / "admin.conf"
        path.write_text(kubeconfig(f"http://127.0.0.1:{server.server_port}"))
        assert KubernetesApi(str(path), None).kubelet_listens("gpu-01") is listens
        server.shutdown()
