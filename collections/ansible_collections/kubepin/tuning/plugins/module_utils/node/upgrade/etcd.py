# SPDX-License-Identifier: GPL-3.0-or-later
"""Takes a snapshot of this machine's etcd member through its own gateway, without etcdctl."""

from __future__ import annotations

import base64
import hashlib
import http.client
import json
import os
import ssl
import typing as t
import urllib.error
import urllib.request

from ansible_collections.kubepin.tuning.plugins.module_utils.common.errors import TuningError
from ansible_collections.kubepin.tuning.plugins.module_utils.node.transaction.files import durable_rename
from ansible_collections.kubepin.tuning.plugins.module_utils.node.upgrade import problems

URL = "https://127.0.0.1:2379/v3/maintenance/snapshot"
PKI = "/etc/kubernetes/pki/etcd"
_DIGEST = 32
_SECONDS = 60


def save_snapshot(path: str) -> int:
    """Write the member's snapshot, as `etcdctl snapshot save` does, and return its size in bytes.

    The stream ends with the SHA-256 of the preceding bytes (etcd server/etcdserver/api/v3rpc/maintenance.go), which
    `etcdutl snapshot restore` checks again. An incomplete snapshot is removed.

    :raises TuningError: if etcd cannot be reached or the stream is cut off
    """
    context = ssl.create_default_context(cafile=f"{PKI}/ca.crt")
    context.load_cert_chain(f"{PKI}/healthcheck-client.crt", f"{PKI}/healthcheck-client.key")
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}), urllib.request.HTTPSHandler(context=context))
    request = urllib.request.Request(URL, data=b"{}", method="POST")
    draft = f"{path}.part"
    try:
        with opener.open(request, timeout=_SECONDS) as answer, open(draft, "wb") as file:
            os.fchmod(file.fileno(), 0o600)
            size = _copy(answer, file)
        durable_rename(draft, path)
    except (urllib.error.URLError, http.client.HTTPException, OSError, ValueError) as exc:
        raise TuningError(problems.no_etcd_snapshot(URL, str(exc))) from exc
    return size


def _copy(lines: t.Iterable[bytes], file: t.BinaryIO) -> int:
    """Write the data in the JSON lines of the stream; returns its size in bytes.

    :raises ValueError: if the checksum at the end does not match
    """
    digest, tail, size = hashlib.sha256(), b"", 0
    for line in lines:
        message = json.loads(line)
        if "result" not in message:
            raise ValueError(str(message.get("error") or message))
        blob = base64.b64decode(message["result"].get("blob", ""))
        file.write(blob)
        size += len(blob)
        tail += blob
        digest.update(tail[:-_DIGEST])
        tail = tail[-_DIGEST:]
    if digest.digest() != tail:
        raise ValueError(f"the snapshot was cut off after {size} bytes: its checksum does not fit")
    return size
