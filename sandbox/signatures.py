# SPDX-License-Identifier: GPL-3.0-or-later
"""Checks a signature made with cosign without keys, as far as that can be done without asking anyone.

Checked: the signature over the file by the certificate's key; that the certificate is for code signing and was issued
by the pinned authority; that it names the expected signer, as attested by the expected identity provider.

Not checked: the transparency log, and with it the time. Such a certificate is valid for 10 minutes and the log proves
that the signature was made in them; here a signature of any later time would pass. So would one whose certificate
was never logged.
"""

from __future__ import annotations

import base64
import re
import tempfile
from dataclasses import dataclass
from pathlib import Path

from sandbox.shell import CommandFailed, Shell

# The names are those that `openssl asn1parse` prints.
ISSUER = "1.3.6.1.4.1.57264.1.1"
SIGNER = "X509v3 Subject Alternative Name"
PURPOSE = "X509v3 Extended Key Usage"
CODE_SIGNING = bytes.fromhex("300a06082b06010505070303")


@dataclass(frozen=True)
class Trust:
    """Whose signatures count."""

    authorities: Path
    email: str
    issuer: str

    @property
    def extensions(self) -> dict[str, bytes]:
        """What the certificate's extensions must contain, to the byte."""
        email = self.email.encode()
        name = b"\x81" + len(email).to_bytes(1, "big") + email
        return {
            SIGNER: b"\x30" + len(name).to_bytes(1, "big") + name,
            ISSUER: self.issuer.encode(),
            PURPOSE: CODE_SIGNING,
        }


class BadSignature(Exception):
    """The signature proves nothing; the text says why."""


def decode(text: bytes, what: str) -> bytes:
    """Undo the base64 that release pages put around signatures and certificates."""
    try:
        return base64.b64decode(b"".join(text.split()), validate=True)
    except ValueError as error:
        raise BadSignature(f"the {what} is not base64") from error


def parse_extensions(listing: str) -> dict[str, bytes]:
    """The extensions in the output of `openssl asn1parse`, which prints text as text and the rest in hexadecimal."""
    pattern = r"OBJECT +:(.+)\n(?:.*BOOLEAN.*\n)?.*OCTET STRING +(?:\[HEX DUMP\]:([0-9A-F]+)|:(.*))"
    return {name: bytes.fromhex(data) or text.encode() for name, data, text in re.findall(pattern, listing)}


def check_signature(shell: Shell, trust: Trust, blob: Path, signature: bytes, certificate: bytes) -> None:
    """Verify `blob` against the content of its .sig and .cert files.

    Raises BadSignature.
    """

    def openssl(failure: str, *arguments: str) -> str:
        try:
            return shell.run(["openssl", *arguments])
        except CommandFailed as error:
            last = error.output.strip().splitlines()[-1:]
            raise BadSignature(f"{failure} (openssl: {''.join(last) or 'no output'})") from error

    with tempfile.TemporaryDirectory(prefix="kubepin-signature-") as name:
        raw, cert, key, sig = (Path(name) / part for part in ("raw.pem", "cert.pem", "key.pem", "signature"))
        pem = certificate.lstrip().startswith(b"-----BEGIN")
        raw.write_bytes(certificate if pem else decode(certificate, "certificate"))
        sig.write_bytes(decode(signature, "signature"))
        openssl("the certificate cannot be read", "x509", "-in", str(raw), "-out", str(cert))
        # Only the pinned authorities count. They are asked about the chain, not about the time: see above.
        openssl(
            "its certificate was not issued by the expected authority",
            *("verify", "-no_check_time", "-no-CApath", "-no-CAstore", "-CAfile", str(trust.authorities), str(cert)),
        )
        found = parse_extensions(openssl("the certificate cannot be read", "asn1parse", "-in", str(cert)))
        for extension, expected in trust.extensions.items():
            if found.get(extension) != expected:
                got = found.get(extension)
                raise BadSignature(
                    f"its certificate names another signer: {extension} is {got!r}, expected {expected!r}"
                )
        openssl("the certificate has no key", "x509", "-in", str(cert), "-noout", "-pubkey", "-out", str(key))
        openssl(
            "it is not the signature of this file",
            *("dgst", "-sha256", "-verify", str(key), "-signature", str(sig), str(blob)),
        )
