# SPDX-License-Identifier: GPL-3.0-or-later
"""The machine types that come with kubepin: dumps in roles/node_preview/files/machines, whose README says where they come from."""

from __future__ import annotations

from pathlib import Path

from orchestrator.model import PROJECT

FOLDER = PROJECT / "roles/node_preview/files/machines"
_SUFFIX = ".tar.xz"
MACHINES = tuple(sorted(path.name.removesuffix(_SUFFIX) for path in FOLDER.glob(f"*{_SUFFIX}")))
"""Their names."""


def machine_dump(name: str) -> Path:
    """The dump of a machine type, for `node_preview_dump` and `node_settings_dump`."""
    return FOLDER / f"{name}{_SUFFIX}"
