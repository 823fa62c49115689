# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import json
import socket
import ssl
import subprocess
import threading
import time
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.kubepin.tuning.plugins.module_utils.common.errors import TuningError
from ansible_collections.kubepin.tuning.plugins.module_utils.control.cluster import api as cluster_api
from ansible_collections.kubepin.tuning.plugins.module_utils.control.cluster.api import (
    ApiError,
    Eviction,
    KubernetesApi,
    Patience,
)
from ansible_collections.kubepin.tuning.tests.unit.samples.api_server import (
    StandIn,
    answer,
    done_but,
    end,
    reset,
    status_object,
)
from ansible_collections.kubepin.tuning.tests.unit.samples.clock import Clock
from ansible_collections.kubepin.tuning.tests.unit.samples.problems import a_problem

pytest.importorskip("kubernetes")


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Any:
    stand_in = Clock()
    monkeypatch.setattr(cluster_api, "time", stand_in)
    return stand_in


HINT = (
    "Name another one: `kubepin assess --kubeconfig FILE`, the variable kubepin_kubeconfig of a playbook, the option kubeconfig of a "
    "module, or the environment variable KUBECONFIG."
)


def kubeconfig(server: str = "https://127.0.0.1:6443") -> str:
    return f"""
apiVersion: v1
kind: Config
clusters: [{{name: lab, cluster: {{server: "{server}"}}}}]
users: [{{name: admin, user: {{token: secret}}}}]
contexts: [{{name: lab, context: {{cluster: lab, user: admin}}}}]
current-context: lab
"""


def test_a_missing_kubeconfig(tmp_path: Path) -> None:
    path = str(tmp_path / "admin.conf")
    with pytest.raises(TuningError) as caught:
        KubernetesApi(path, None)
    assert str(caught.value) == f'kubeconfig "{path}" does not exist. {HINT}'


def test_the_environment_names_the_kubeconfig(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
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
def test_a_broken_kubeconfig(tmp_path: Path, text: Any, context: str | None) -> None:
    path = tmp_path / "admin.conf"
    path.write_text(text)
    with pytest.raises(TuningError) as caught:
        KubernetesApi(str(path), context)
    assert str(caught.value).startswith(f'kubeconfig "{path}" cannot be used: ')
    assert str(caught.value).endswith(HINT)


@pytest.mark.usefixtures("clock")
def test_an_unreachable_server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cluster_api, "PATIENCE_SECONDS", 1)
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
        "Check that the control plane is up and reachable from here, or name another kubeconfig with `kubeconfig`. "
        "kubepin tried it for 1 s."
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
def test_whether_a_kubelet_listens_is_told_from_all_else(tmp_path: Path, status: int, words: Any, listens: Any) -> None:
    class Answer(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(status)
            self.end_headers()
            self.wfile.write((words if status == 200 else json.dumps({"message": words})).encode())

        def log_message(self, *arguments: Any) -> None:
            pass

    with HTTPServer(("127.0.0.1", 0), Answer) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        path = tmp_path / "admin.conf"
        path.write_text(kubeconfig(f"http://127.0.0.1:{server.server_port}"))
        assert KubernetesApi(str(path), None).kubelet_listens("gpu-01") is listens
        server.shutdown()


LEADER_CHANGED = status_object(500, "etcdserver: leader changed")
THROTTLED = b"Too many requests, please try again later."
OUTAGES = {
    "reset": reset,
    "ended early": end,
    "etcd has a new leader": answer(500, LEADER_CHANGED),
    "a load balancer without an API server": answer(502, b"<html>Bad Gateway</html>"),
    "starting": answer(503, status_object(503, "the server is currently unable to handle the request")),
    "timed out": answer(504, status_object(504, "Timeout: request did not complete within the allotted timeout")),
    "priority and fairness": answer(429, THROTTLED, Retry_After="0"),
}


@pytest.mark.parametrize("fault", OUTAGES.values(), ids=OUTAGES.keys())
@pytest.mark.parametrize("method", ["GET", "POST", "PATCH", "DELETE"])
def test_an_outage_is_borne_by_every_kind_of_request(
    server: StandIn, api: KubernetesApi, fault: Any, method: str
) -> None:
    server.add_node()
    server.faults.extend([fault, fault])
    calls: dict[str, Callable[[], object]] = {
        "GET": lambda: api.node("gpu-01"),
        "POST": lambda: api.create("/api/v1/namespaces", {"metadata": {"name": "made"}}),
        "PATCH": lambda: api.patch_node("gpu-01", {"spec": {"unschedulable": True}}),
        "DELETE": lambda: api.delete("/api/v1/nodes/gpu-01"),
    }
    calls[method]()
    assert [asked for asked, _path in server.asked] == [method] * 3
    assert ("/api/v1/nodes/gpu-01" in server.objects) is (method != "DELETE")
    assert ("/api/v1/namespaces/made" in server.objects) is (method == "POST")


def test_a_server_that_refuses_connections_for_a_while_is_waited_for(server: StandIn, api: KubernetesApi) -> None:
    server.add_node()
    server.stop()
    threading.Timer(0.6, server.start).start()
    assert api.node("gpu-01")["metadata"]["name"] == "gpu-01"


def test_a_time_out_is_an_outage(server: StandIn, api: KubernetesApi, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cluster_api, "_READ_SECONDS", 1)
    server.add_node()
    answered = threading.Event()

    def wait(handler: object) -> None:
        answered.wait(120)

    server.faults.append(wait)
    assert api.node("gpu-01")["metadata"]["name"] == "gpu-01"
    answered.set()


@pytest.mark.usefixtures("clock")
def test_an_outage_without_end_is_told_with_its_length(
    server: StandIn, api: KubernetesApi, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cluster_api, "PATIENCE_SECONDS", 1.2)
    server.faults.extend([answer(503, status_object(503, "apiserver is shutting down"))] * 50)
    with pytest.raises(
        ApiError, match=r"answers 503 .*apiserver is shutting down\. kubepin tried it for 1 s"
    ) as caught:
        api.node("gpu-01")
    assert caught.value.outage
    assert 2 < len(server.asked) < 20


def test_a_pause_that_the_server_asks_for_does_not_outlast_the_patience(
    server: StandIn, api: KubernetesApi, clock: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cluster_api, "PATIENCE_SECONDS", 0.5)
    server.faults.extend([answer(429, THROTTLED, Retry_After="3600")] * 2)
    with pytest.raises(ApiError, match="answers 429"):
        api.node("gpu-01")
    assert clock.now == 0.5
    assert len(server.asked) == 2


def test_the_server_is_given_the_pause_that_it_asks_for(server: StandIn, api: KubernetesApi, clock: Any) -> None:
    server.add_node()
    server.faults.append(answer(429, THROTTLED, Retry_After="1"))
    api.node("gpu-01")
    assert clock.now == 1


@pytest.mark.usefixtures("clock")
def test_a_wait_bears_an_outage_as_long_as_its_own_time_lasts(
    server: StandIn, api: KubernetesApi, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cluster_api, "PATIENCE_SECONDS", 0.1)
    server.add_node()
    server.faults.extend([end] * 4)
    messages: list[Any] = []
    with api.until(20, messages.append):
        api.node("gpu-01")
    assert len(messages) == 4
    server.faults.extend([end] * 4)
    with pytest.raises(ApiError):
        api.node("gpu-01")


@pytest.mark.parametrize(
    ("code", "body"),
    [
        (401, status_object(401, "Unauthorized")),
        (403, status_object(403, "nodes is forbidden")),
        (404, status_object(404, "not found")),
        (422, status_object(422, "invalid")),
    ],
)
def test_what_no_further_try_changes_is_not_tried_again(
    server: StandIn, api: KubernetesApi, code: int, body: Any
) -> None:
    server.faults.append(answer(code, body))
    with pytest.raises(ApiError) as caught:
        api.find("/api/v1/namespaces/x") if code != 404 else api.patch("/api/v1/namespaces/x", {})
    assert caught.value.status == code
    assert "tried it" not in str(caught.value)
    assert len(server.asked) == 1


@pytest.mark.parametrize(("number", "tries"), [(socket.EAI_NONAME, 1), (socket.EAI_AGAIN, 3)])
def test_an_unknown_name_is_told_at_once_and_a_silent_name_server_is_waited_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: Any, tries: int
) -> None:
    asked = []

    def resolve(*arguments: Any, **options: Any) -> None:
        asked.append(arguments[0])
        raise socket.gaierror(number, "in this test")

    monkeypatch.setattr(socket, "getaddrinfo", resolve)
    monkeypatch.setattr(cluster_api, "PATIENCE_SECONDS", 0.6)
    (tmp_path / "admin.conf").write_text(kubeconfig("https://lab.example:6443"))
    with pytest.raises(ApiError, match="cannot be reached"):
        KubernetesApi(str(tmp_path / "admin.conf"), None).node("gpu-01")
    assert len(asked) >= tries
    assert (len(asked) == 1) is (tries == 1)


class Handshakes:
    """A TCP server that stands in for one behind TLS: it ends every handshake, or answers with a foreign certificate."""

    def __init__(self, certificate: Any = None) -> None:
        self.seen = 0
        self._certificate = certificate
        self._socket = socket.create_server(("127.0.0.1", 0))
        self.port = self._socket.getsockname()[1]
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self) -> None:
        while True:
            try:
                connection, _address = self._socket.accept()
            except OSError:
                return
            self.seen += 1
            try:
                if self._certificate:
                    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
                    context.load_cert_chain(self._certificate)
                    context.wrap_socket(connection, server_side=True)
                else:
                    connection.recv(10)
            except OSError:
                pass
            connection.close()

    def close(self) -> None:
        self._socket.close()


def test_a_tls_handshake_that_ends_early_is_an_outage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cluster_api, "PATIENCE_SECONDS", 0.6)
    server = Handshakes()
    (tmp_path / "admin.conf").write_text(kubeconfig(f"https://127.0.0.1:{server.port}"))
    with pytest.raises(ApiError) as caught:
        KubernetesApi(str(tmp_path / "admin.conf"), None).node("gpu-01")
    server.close()
    assert caught.value.outage
    assert server.seen > 1


def test_a_certificate_that_does_not_fit_is_told_at_once(tmp_path: Path) -> None:
    key = tmp_path / "key.pem"
    command = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-subj", "/CN=other", "-days", "2"]
    subprocess.run([*command, "-keyout", key, "-out", tmp_path / "cert.pem"], check=True, capture_output=True)
    both = tmp_path / "both.pem"
    both.write_text(key.read_text() + (tmp_path / "cert.pem").read_text())
    server = Handshakes(str(both))
    (tmp_path / "admin.conf").write_text(kubeconfig(f"https://127.0.0.1:{server.port}"))
    with pytest.raises(ApiError, match="certificate verify failed") as caught:
        KubernetesApi(str(tmp_path / "admin.conf"), None).node("gpu-01")
    server.close()
    assert not caught.value.outage
    assert server.seen == 1


POD = {"metadata": {"namespace": "ml", "name": "a", "uid": "u"}}
BUDGET = status_object(429, "Cannot evict pod as it would violate the pod's disruption budget.", "DisruptionBudget")


@pytest.mark.parametrize(
    ("fault", "eviction"),
    [
        (answer(201), Eviction.ACCEPTED),
        (answer(404, status_object(404, "gone")), Eviction.ACCEPTED),
        (answer(409, status_object(409, "another UID")), Eviction.ACCEPTED),
        (answer(429, BUDGET), Eviction.BUDGET),
        (answer(429, BUDGET, Retry_After="10"), Eviction.BUDGET),
        (answer(429, status_object(429, 'admission webhook "virt" denied it')), Eviction.REFUSED_FOR_NOW),
        (
            answer(
                403, status_object(403, "pods is forbidden: namespace ml is being terminated", "NamespaceTerminating")
            ),
            Eviction.NAMESPACE_TERMINATING,
        ),
    ],
    ids=["accepted", "gone", "replaced", "budget", "budget not observed yet", "webhook", "namespace terminating"],
)
def test_the_answers_to_an_eviction_are_told_apart(
    server: StandIn, api: KubernetesApi, fault: Any, eviction: Any
) -> None:
    server.faults.append(fault)
    assert api.evict_pod(POD, "policy/v1") is eviction
    assert len(server.asked) == 1


def test_throttling_is_not_taken_for_a_disruption_budget(server: StandIn, api: KubernetesApi) -> None:
    server.faults.extend([answer(429, THROTTLED, Retry_After="0")] * 3)
    server.objects["/api/v1/namespaces/ml/pods/a"] = POD
    assert api.evict_pod(POD, "policy/v1") is Eviction.ACCEPTED
    assert len(server.asked) == 4


def test_a_pod_with_several_budgets_is_told_at_once(server: StandIn, api: KubernetesApi) -> None:
    message = "This pod has more than one PodDisruptionBudget, which the eviction subresource does not support."
    server.faults.append(answer(500, status_object(500, message)))
    with pytest.raises(ApiError, match="more than one PodDisruptionBudget"):
        api.evict_pod(POD, "policy/v1")
    assert len(server.asked) == 1


def test_a_namespace_that_is_being_deleted_is_no_missing_right(server: StandIn, api: KubernetesApi) -> None:
    server.faults.append(answer(403, status_object(403, "namespace ml is being terminated", "NamespaceTerminating")))
    with pytest.raises(ApiError, match="Wait until the namespace is gone") as caught:
        api.create_pod(POD)
    assert "Grant it" not in str(caught.value)


def test_an_object_whose_creation_was_not_confirmed_is_found_again(server: StandIn, api: KubernetesApi) -> None:
    server.faults.append(done_but(reset))
    made = api.create_pod({"metadata": {**POD["metadata"], "labels": {"of": "kubepin"}}})
    assert made["metadata"]["labels"] == {"of": "kubepin"}
    assert [method for method, _path in server.asked] == ["POST", "POST", "GET"]


def test_an_object_of_someone_else_is_not_taken_for_ones_own(server: StandIn, api: KubernetesApi) -> None:
    server.objects["/api/v1/namespaces/ml/pods/a"] = POD
    with pytest.raises(ApiError, match="already exists"):
        api.create_pod(POD)
    server.faults.append(reset)
    with pytest.raises(ApiError, match="already exists"):
        api.create_pod({"metadata": {**POD["metadata"], "labels": {"of": "kubepin"}}})


def test_the_failure_of_a_kubelet_is_not_waited_for(server: StandIn, api: KubernetesApi) -> None:
    server.faults.append(answer(503, json.dumps({"message": REFUSED}).encode()))
    with pytest.raises(ApiError, match="connection refused"):
        api.configz("gpu-01")
    server.faults.append(answer(500, status_object(500, "dial tcp 10.0.0.1:10250: connect: connection refused")))
    with pytest.raises(ApiError) as caught:
        api.pod_log("ml", "a", "main")
    assert len(server.asked) == 2
    assert caught.value.outage


def test_an_answer_ends_an_outage_and_the_next_one_is_counted_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = [0.0]
    monkeypatch.setattr(time, "monotonic", lambda: clock[0])
    patience, error = Patience(10), ApiError(a_problem("away"), None, "away", outage=True)
    patience.bear(error)
    clock[0] = 9
    patience.bear(error)
    patience.answered()
    clock[0] = 15
    patience.bear(ApiError(a_problem("away"), None, "away", outage=True))
    clock[0] = 26
    with pytest.raises(ApiError, match="tried it for 11 s"):
        patience.bear(ApiError(a_problem("away"), None, "away", outage=True))


EXEC_PLUGIN = """#!/bin/sh
echo token >> {calls}
echo '{{"apiVersion": "client.authentication.k8s.io/v1", "kind": "ExecCredential",'
echo '"status": {{"token": "'token-$(wc -l < {calls})'"}}}}'
"""


def by_exec_plugin(tmp_path: Path, server: Any) -> Any:
    """An API whose user's tokens are token-1, token-2 and so on, each read by a program."""
    plugin = tmp_path / "plugin"
    plugin.write_text(EXEC_PLUGIN.format(calls=tmp_path / "calls"))
    plugin.chmod(0o755)
    user = f"exec: {{command: {plugin}, apiVersion: client.authentication.k8s.io/v1}}"
    config = tmp_path / "config"
    config.write_text(kubeconfig(f"http://127.0.0.1:{server.port}").replace("token: secret", user))
    return KubernetesApi(str(config), None)


def only_token(number: Any) -> Any:
    """The API server accepts only this token."""

    def fault(handler: Any) -> None:
        sound = handler.headers["Authorization"] == f"Bearer token-{number}"
        handler.reply(200 if sound else 401, b'{"accepted": true}' if sound else status_object(401, "Unauthorized"), {})

    return fault


def test_a_token_of_an_exec_plugin_that_has_expired_is_replaced(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, server: StandIn
) -> None:
    monkeypatch.setattr(cluster_api, "_CREDENTIALS_SECONDS", 0)
    api = by_exec_plugin(tmp_path, server)
    server.faults += [only_token(1), only_token(2), only_token(2), only_token(2)]
    assert [api.find("/api/v1/nodes/a") for _ in range(3)] == [{"accepted": True}] * 3
    assert (tmp_path / "calls").read_text().count("token") == 2


def test_a_token_that_is_refused_at_once_is_not_read_again(tmp_path: Path, server: StandIn) -> None:
    api = by_exec_plugin(tmp_path, server)
    server.faults.append(only_token(2))
    with pytest.raises(ApiError, match="refuses the credentials"):
        api.find("/api/v1/nodes/a")
    assert (tmp_path / "calls").read_text().count("token") == 1
