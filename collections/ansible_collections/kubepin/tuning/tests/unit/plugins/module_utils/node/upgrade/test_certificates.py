# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import base64
import contextlib

import pytest
from ansible_collections.kubepin.tuning.plugins.module_utils.node.upgrade.certificates import (
    CertificateError,
    expiry_of,
)
from ansible_collections.kubepin.tuning.tests.unit.samples.inputs import damaged
from hypothesis import given
from hypothesis import strategies as st

NOT_AFTER = 1893553445.0  # 2030-01-02 03:04:05 UTC


def der(tag: int, *parts: bytes) -> bytes:
    content = b"".join(parts)
    length = bytes([len(content)]) if len(content) < 128 else bytes([0x81, len(content)])
    return bytes([tag]) + length + content


def certificate(not_after: bytes = b"300102030405Z", tag: int = 0x17) -> str:
    validity = der(0x30, der(0x17, b"200101000000Z"), der(tag, not_after))
    tbs = der(0x30, der(0xA0, der(2, b"\x02")), der(2, b"\x01"), der(0x30, b""), der(0x30, b"\x00" * 130), validity)
    body = base64.b64encode(der(0x30, tbs)).decode()
    return f"-----BEGIN CERTIFICATE-----\n{body}\n-----END CERTIFICATE-----\n"


def test_expiry_of_a_pem_and_of_a_kubeconfig() -> None:
    pem = certificate()
    assert expiry_of(pem) == NOT_AFTER
    embedded = base64.b64encode(pem.encode()).decode()
    assert expiry_of(f"users:\n- user:\n    client-certificate-data: {embedded}\n") == NOT_AFTER
    assert expiry_of(certificate(b"20500102030405Z", 0x18)) > NOT_AFTER


def test_a_text_without_certificate() -> None:
    with pytest.raises(CertificateError):
        expiry_of("nothing")


KUBECONFIG = "users:\n- user:\n    client-certificate-data: {}\n"


def test_a_kubeconfig_with_data_that_is_no_base64_is_refused() -> None:
    with pytest.raises(CertificateError, match="cannot be read"):
        expiry_of(KUBECONFIG.format("abcde"))


@given(
    damaged(certificate(), KUBECONFIG.format(base64.b64encode(certificate().encode()).decode())), st.binary(max_size=99)
)
def test_any_text_has_an_expiry_or_is_refused(text: str, content: bytes) -> None:
    pem = f"-----BEGIN CERTIFICATE-----{base64.b64encode(content).decode()}-----END CERTIFICATE-----"
    for each in (text, pem):
        with contextlib.suppress(CertificateError):
            expiry_of(each)
