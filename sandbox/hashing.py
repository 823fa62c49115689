# SPDX-License-Identifier: GPL-3.0-or-later
"""Short hashes that name artefacts by what they were made of."""

from __future__ import annotations

import hashlib
from pathlib import Path

LENGTH = 12


def hash_of(*parts: str | bytes) -> str:
    """A hash of the parts, each told apart from its neighbours."""
    digest = hashlib.sha256()
    for part in parts:
        data = part.encode() if isinstance(part, str) else part
        digest.update(len(data).to_bytes(8, "big") + data)
    return digest.hexdigest()[:LENGTH]


def hash_of_folder(folder: Path) -> str:
    """A hash of the names, modes and contents of all files below a folder."""
    parts: list[str | bytes] = []
    for path in sorted(p for p in folder.rglob("*") if p.is_file()):
        parts += [str(path.relative_to(folder)), str(path.stat().st_mode & 0o111), path.read_bytes()]
    return hash_of(*parts)
