# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import base64
import hashlib
import io
import json

import pytest
from ansible_collections.kubepin.tuning.plugins.module_utils.node.upgrade import etcd


def test_a_snapshot_is_whole_or_refused() -> None:
    data = b"etcd" * 1000
    whole = data + hashlib.sha256(data).digest()

    def stream(content: bytes) -> list[bytes]:
        pieces = [content[index : index + 777] for index in range(0, len(content), 777)]
        return [json.dumps({"result": {"blob": base64.b64encode(piece).decode()}}).encode() for piece in pieces]

    file = io.BytesIO()
    assert etcd._copy(stream(whole), file) == len(whole)
    assert file.getvalue() == whole
    with pytest.raises(ValueError, match="cut off"):
        etcd._copy(stream(whole)[:-1], io.BytesIO())
    with pytest.raises(ValueError, match="denied"):
        etcd._copy([b'{"error": "denied"}'], io.BytesIO())
