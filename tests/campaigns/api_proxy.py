# SPDX-License-Identifier: GPL-3.0-or-later
"""A small proxy that stands in for a load balancer before an API server, and fails for some seconds."""

from __future__ import annotations

import base64
import http.client
import json
import re
import ssl
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from urllib.parse import urlsplit

import yaml
from ansible_collections.kubepin.tuning.tests.unit.samples.api_server import (
    Data,
    Fault,
    StandIn,
    answer,
    reset,
    status_object,
)

UNAVAILABLE = answer(503, status_object(503, "the server is currently unable to handle the request"))
# as API priority and fairness answers (k8s.io/apiserver/pkg/server/filters tooManyRequests)
THROTTLED = answer(429, b"Too many requests, please try again later.\n", Retry_After="1", Content_Type="text/plain")
AWAY = reset
"""New connections are refused meanwhile, and those that exist are reset."""
REQUEST_SECONDS = 30
Ask = Callable[[str, str, Data | None], tuple[int, bytes] | Fault]


class Upstream:
    """The API server of a kubeconfig with a client certificate."""

    def __init__(self, kubeconfig: Path) -> None:
        loaded = yaml.safe_load(kubeconfig.read_text())
        cluster, user = loaded["clusters"][0]["cluster"], loaded["users"][0]["user"]
        self._address = urlsplit(cluster["server"])
        authority = base64.b64decode(cluster["certificate-authority-data"]).decode()
        self._context = ssl.create_default_context(cadata=authority)
        with tempfile.NamedTemporaryFile() as file:
            for name in ("client-certificate-data", "client-key-data"):
                file.write(base64.b64decode(user[name]))
            file.flush()
            self._context.load_cert_chain(file.name)

    def ask(self, method: str, path: str, body: Data | None) -> tuple[int, bytes]:
        """Status and body of its answer."""
        connection = http.client.HTTPSConnection(
            str(self._address.hostname), self._address.port, timeout=REQUEST_SECONDS, context=self._context
        )
        content_type = "application/merge-patch+json" if method == "PATCH" else "application/json"
        try:
            text = None if body is None else json.dumps(body)
            connection.request(method, path, text, {"Accept": "application/json, */*", "Content-Type": content_type})
            response = connection.getresponse()
            return response.status, response.read()
        finally:
            connection.close()


class ApiProxy(StandIn):
    """Passes requests on, but from the first one whose method and path match *pattern*, all fail for some seconds.

    :param ask: what answers the requests, such as `Upstream.ask`
    """

    def __init__(self, ask: Ask, pattern: str, fault: Fault, seconds: float) -> None:
        super().__init__()
        self._ask = ask
        self._pattern = pattern
        self._fault = fault
        self._seconds = seconds
        self._until: float | None = None
        self._begin = threading.Lock()
        self.failed = 0
        """How many requests it has answered with the fault."""

    @property
    def over(self) -> bool:
        """Whether the time of the fault has come and gone."""
        return self._until is not None and time.monotonic() > self._until

    def serve(self, method: str, path: str, body: Data | None) -> tuple[int, bytes] | Fault:
        with self._begin:
            if self._until is None and re.search(self._pattern, f"{method} {path.partition('?')[0]}"):
                self._until = time.monotonic() + self._seconds
                if self._fault is AWAY:
                    self.stop()
                    threading.Timer(self._seconds, self.start).start()
            if self._until is not None and not self.over:
                self.failed += 1
                return self._fault
        return self._ask(method, path, body)
