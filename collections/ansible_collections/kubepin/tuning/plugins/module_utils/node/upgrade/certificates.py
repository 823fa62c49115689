# SPDX-License-Identifier: GPL-3.0-or-later
"""Pure: when certificates expire; a small DER reader, because the standard library has no public one."""

from __future__ import annotations

import base64
import calendar
import re
import time
import typing as t

_PEM = re.compile(r"-----BEGIN CERTIFICATE-----(.+?)-----END CERTIFICATE-----", re.DOTALL)
_EMBEDDED = re.compile(r"^\s*client-certificate-data:\s*(\S+)\s*$", re.MULTILINE)
_SEQUENCE, _EXPLICIT_VERSION, _UTC_TIME = 0x30, 0xA0, 0x17


class CertificateError(ValueError):
    """The text holds no certificate, or one that cannot be parsed."""


def expiry_of(text: str) -> float:
    """The earliest expiry, in seconds since 1970, of the certificates in a PEM text or a kubeconfig.

    :raises CertificateError: if there is none
    """
    try:
        pems = _PEM.findall(text)
        for embedded in _EMBEDDED.findall(text):
            pems += _PEM.findall(base64.b64decode(embedded).decode("ascii", "replace"))
        expiries = [_not_after(base64.b64decode(pem)) for pem in pems]
    except (ValueError, IndexError) as exc:
        raise CertificateError(f"holds a certificate that cannot be read: {exc}") from exc
    if not expiries:
        raise CertificateError("holds no certificate")
    return min(expiries)


def _not_after(der: bytes) -> float:
    """RFC 5280, 4.1: Certificate > TBSCertificate > [version] serial signature issuer validity(notBefore, notAfter)."""
    _tag, tbs, _rest = _element(_content(der, _SEQUENCE))
    tag, _value, rest = _element(tbs)
    if tag == _EXPLICIT_VERSION:
        _tag, _value, rest = _element(rest)  # the serial number
    for _field in ("signature", "issuer"):
        _tag, _value, rest = _element(rest)
    _tag, validity, _rest = _element(rest)
    _tag, _not_before, rest = _element(validity)
    tag, value, _rest = _element(rest)
    text = value.decode("ascii")
    if tag == _UTC_TIME:  # two digits of the year, up to 2049
        text = ("19" if int(text[:2]) >= 50 else "20") + text
    return float(calendar.timegm(time.strptime(text, "%Y%m%d%H%M%SZ")))


def _content(data: bytes, tag: int) -> bytes:
    found, value, _rest = _element(data)
    if found != tag:
        raise ValueError(f"tag {found:#x} where {tag:#x} was expected")
    return value


def _element(data: bytes) -> t.Tuple[int, bytes, bytes]:
    """The tag and value of a DER element, and the bytes after it."""
    tag, length, start = data[0], data[1], 2
    if length & 0x80:
        octets = length & 0x7F
        length, start = int.from_bytes(data[2 : 2 + octets], "big"), 2 + octets
    return tag, data[start : start + length], data[start + length :]
