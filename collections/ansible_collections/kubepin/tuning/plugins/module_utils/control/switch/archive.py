# SPDX-License-Identifier: GPL-3.0-or-later
"""Writes what a node's removal of kubepin would lose to the control node."""

from __future__ import annotations

import base64
import hashlib
import os
import typing as t
from pathlib import PurePosixPath

from ansible_collections.kubepin.tuning.plugins.module_utils.common.errors import TuningError
from ansible_collections.kubepin.tuning.plugins.module_utils.common.layout import HOME
from ansible_collections.kubepin.tuning.plugins.module_utils.control.switch import problems
from ansible_collections.kubepin.tuning.plugins.module_utils.node.transaction.files import Files, make_directory


def write_archive(folder: str, archive: t.Mapping[str, str]) -> dict[str, str]:
    """Write the files below *folder*, as they are below kubepin's folder on the node, readable by their owner only.

    The files are on disk when this returns.

    :param archive: path on the node -> content (base64)
    :returns: path on the node -> SHA-256 of what was written
    :raises TuningError: if a path leads out of the folder, or a file cannot be written
    """
    seals = {}
    for path, text in archive.items():
        place = os.path.join(folder, _below_home(path))
        content = base64.b64decode(text)
        try:
            make_directory(os.path.dirname(place), mode=0o700)
            with Files().replacing(place, mode=0o600) as file:
                file.write(content)
        except OSError as exc:
            raise TuningError(problems.archive_not_writable(place, str(exc.strerror))) from exc
        seals[path] = hashlib.sha256(content).hexdigest()
    return seals


def _below_home(path: str) -> str:
    """The path below kubepin's folder. A node must not choose where the control node writes."""
    parts = PurePosixPath(path).parts
    home = PurePosixPath(HOME).parts
    if parts[: len(home)] != home or len(parts) == len(home) or ".." in parts:
        raise TuningError(problems.not_below_home(path, HOME))
    return os.path.join(*parts[len(home) :])
