# SPDX-License-Identifier: GPL-3.0-or-later
"""A small HTTP server that stands in for an API server: it stores objects, and fails as it is told to."""

from __future__ import annotations

import json
import re
import socket
import struct
import threading
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

Data = dict[str, Any]
Fault = Callable[["_Handler"], None]

_LISTS = {
    "/api/v1/pods": ("v1", r"/api/v1/namespaces/[^/]+/pods/[^/]+"),
    "/api/v1/namespaces": ("v1", r"/api/v1/namespaces/[^/]+"),
    "/api/v1/nodes": ("v1", r"/api/v1/nodes/[^/]+"),
    "/apis/apps/v1/daemonsets": ("apps/v1", r"/apis/apps/v1/namespaces/[^/]+/daemonsets/[^/]+"),
}


def status_object(code: int, message: str, *causes: str) -> bytes:
    """A Status as the API server sends it."""
    details = {"causes": [{"reason": cause, "message": "why"} for cause in causes]}
    return json.dumps({"kind": "Status", "code": code, "message": message, "details": details}).encode()


def answer(code: int, body: bytes = b"", **headers: str) -> Fault:
    """An answer that the API server did not ask for; header names with underscores."""

    def fault(handler: _Handler) -> None:
        handler.reply(code, body, {name.replace("_", "-"): value for name, value in headers.items()})

    return fault


def reset(handler: _Handler) -> None:
    """The connection is reset (RST) before an answer."""
    handler.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    end(handler)


def end(handler: _Handler) -> None:
    """The connection ends before an answer."""
    handler.close_connection = True
    handler.connection.close()


def done_but(fault: Fault) -> Fault:
    """The request is carried out, and its answer is lost."""

    def both(handler: _Handler) -> None:
        handler.stand_in.serve(handler.command, handler.path, handler.body)
        fault(handler)

    return both


class _Server(ThreadingHTTPServer):
    allow_reuse_port = True
    daemon_threads = True


class StandIn:
    """Objects by their path, what was asked, and the faults that are still due, one for each request."""

    def __init__(self) -> None:
        self.objects: dict[str, Data] = {}
        self.faults: deque[Fault] = deque()
        self.asked: list[tuple[str, str]] = []
        self.evictions: list[str] = []
        self.on_eviction: Callable[[Data], Fault | None] = lambda pod: None
        self._lock = threading.Lock()
        self._server: _Server | None = None
        self._reserved: socket.socket | None = None
        self.port = 0

    def start(self) -> None:
        """Listen: on any port at first, on the same one later.

        A socket that is bound to it and never listens keeps it from every other connection of this machine in between.
        """
        if self._reserved is None:
            self._reserved = socket.socket()
            self._reserved.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
            self._reserved.bind(("127.0.0.1", 0))
            self.port = self._reserved.getsockname()[1]
        handler = type("Handler", (_Handler,), {"stand_in": self})
        self._server = _Server(("127.0.0.1", self.port), handler)
        threading.Thread(target=self._server.serve_forever, args=(0.01,), daemon=True).start()

    def stop(self) -> None:
        """Refuse connections."""
        if self._server:
            self._server.shutdown()
            self._server.server_close()
            self._server = None

    def close(self) -> None:
        """Refuse connections, and give the port back."""
        self.stop()
        if self._reserved:
            self._reserved.close()
            self._reserved = None

    def add_pod(self, name: str, uid: str, **more: Any) -> None:
        """A pod of a ReplicaSet in namespace ml on node gpu-01."""
        owner = {"kind": "ReplicaSet", "name": name.rpartition("-")[0], "controller": True}
        metadata = {"namespace": "ml", "name": name, "uid": uid, "ownerReferences": [owner], **more.pop("metadata", {})}
        pod = {"metadata": metadata, "spec": {"nodeName": "gpu-01", **more}, "status": {"phase": "Running"}}
        self.objects[f"/api/v1/namespaces/ml/pods/{name}"] = pod

    def add_node(self, name: str = "gpu-01", **metadata: Any) -> Data:
        node = {"metadata": {"name": name, "resourceVersion": "1", **metadata}, "spec": {}, "status": {}}
        self.objects[f"/api/v1/nodes/{name}"] = node
        return node

    def serve(self, method: str, path: str, body: Data | None) -> tuple[int, bytes] | Fault:
        """The answer of a sound API server, or the fault with which it answers an eviction."""
        path = path.partition("?")[0]
        with self._lock:
            if method == "GET":
                return self._get(path)
            if path.endswith("/eviction"):
                return self._evict(path.removesuffix("/eviction"), body or {})
            if method == "POST":
                return self._create(f"{path}/{(body or {})['metadata']['name']}", body or {})
            if path not in self.objects:
                return 404, status_object(404, f"{path} not found")
            if method == "DELETE":
                return 200, json.dumps(self.objects.pop(path)).encode()
            return self._patch(path, body or {})

    def _get(self, path: str) -> tuple[int, bytes]:
        if path == "/api/v1":
            eviction = {"name": "pods/eviction", "group": "policy", "version": "v1"}
            return 200, json.dumps({"resources": [eviction]}).encode()
        if path in _LISTS:
            version, pattern = _LISTS[path]
            items = [found for where, found in self.objects.items() if re.fullmatch(pattern, where)]
            return 200, json.dumps({"apiVersion": version, "metadata": {}, "items": items}).encode()
        if path in self.objects:
            return 200, json.dumps(self.objects[path]).encode()
        return 404, status_object(404, f"{path} not found")

    def _evict(self, path: str, body: Data) -> tuple[int, bytes] | Fault:
        pod = self.objects.get(path)
        if pod is None or pod["metadata"]["uid"] != body["deleteOptions"]["preconditions"]["uid"]:
            return 409, status_object(409, "the UID in the precondition does not match")
        self.evictions.append(pod["metadata"]["uid"])
        fault = self.on_eviction(pod)
        if fault is not None:
            return fault
        if self.objects.get(path) is pod:
            del self.objects[path]
        return 201, b"{}"

    def _create(self, path: str, body: Data) -> tuple[int, bytes]:
        if path in self.objects:
            return 409, status_object(409, f"{path} already exists")
        self.objects[path] = body
        return 201, json.dumps(body).encode()

    def _patch(self, path: str, patch: Data) -> tuple[int, bytes]:
        known = self.objects[path]
        wanted = patch.get("metadata", {}).get("resourceVersion")
        if wanted not in (None, known["metadata"]["resourceVersion"]):
            return 409, status_object(409, "the object has been modified")
        new = _merged(known, patch)
        new["metadata"]["resourceVersion"] = str(int(known["metadata"]["resourceVersion"]) + 1)
        self.objects[path] = new
        return 200, json.dumps(new).encode()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    stand_in: StandIn
    body: Data | None = None

    def _serve(self) -> None:
        length = int(self.headers.get("Content-Length") or 0)
        self.body = json.loads(self.rfile.read(length)) if length else None
        self.stand_in.asked.append((self.command, self.path.partition("?")[0]))
        if self.stand_in.faults:
            self.stand_in.faults.popleft()(self)
            return
        found = self.stand_in.serve(self.command, self.path, self.body)
        if callable(found):
            found(self)
        else:
            self.reply(*found, {})

    do_GET = do_POST = do_PATCH = do_DELETE = _serve  # noqa: N815 - the names are BaseHTTPRequestHandler's

    def reply(self, code: int, body: bytes, headers: Mapping[str, str]) -> None:
        self.send_response(code)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def finish(self) -> None:
        with suppress(OSError):  # a fault has closed the connection
            super().finish()

    def log_message(self, format: str, *args: Any) -> None:
        """Nothing is logged."""


def _merged(known: Any, patch: Any) -> Any:
    """RFC 7386"""
    if not isinstance(patch, dict):
        return patch
    merged = dict(known) if isinstance(known, dict) else {}
    for name, value in patch.items():
        if value is None:
            merged.pop(name, None)
        else:
            merged[name] = _merged(merged.get(name), value)
    return merged


def kubeconfig(server: str) -> str:
    """The text of a kubeconfig for this server."""
    return f"""
apiVersion: v1
kind: Config
clusters: [{{name: lab, cluster: {{server: "{server}", insecure-skip-tls-verify: true}}}}]
users: [{{name: admin, user: {{token: secret}}}}]
contexts: [{{name: lab, context: {{cluster: lab, user: admin}}}}]
current-context: lab
"""


@contextmanager
def stand_in() -> Iterator[StandIn]:
    """A stand-in that listens."""
    server = StandIn()
    server.start()
    try:
        yield server
    finally:
        server.close()
