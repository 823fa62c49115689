# SPDX-License-Identifier: GPL-3.0-or-later
"""Makes the dumps of machine types that `kubepin preview` and `kubepin emit` take as `--machine`.

They are in roles/node_preview/files/machines, whose README says where each comes from. A dump of your own, of a machine of
that type (docs/operations.md, preview-gpu-nodes.yml), needs no more than its file and its row there.

    python -m tools.machines    # writes those that are made of something else in the repository
"""

from __future__ import annotations

import io
import tarfile
from collections.abc import Mapping
from pathlib import Path

from tests.topologies import MACHINES, tree
from tools.topology_fixtures import FIXTURES, add

FOLDER = Path(__file__).resolve().parents[1] / "roles/node_preview/files/machines"
GENERATED: Mapping[str, str] = {
    "epyc-7773x-2s-nps1": "epyc-7773x-nps1",
    "epyc-7773x-2s-nps2": "epyc-7773x-nps2",
    "epyc-7773x-2s-nps4": "epyc-7773x-nps4",
    "xeon-8480c-2s": "xeon-8480c",
}
"""Machine type -> its name in `tests.topologies`."""
DUMPED: Mapping[str, tuple[str, str]] = {"epyc-7451-2s": ("util-linux", "x86_64-epyc_7451")}
"""Machine type -> the archive of tests/unit/fixtures/topology with the dump of a real one, and its name there."""


def archive_of(machine: str) -> bytes:
    """The dump of a machine type as an archive, the same bytes each time."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:xz", preset=9) as archive:
        if machine in GENERATED:
            for path, text in sorted(tree(MACHINES[GENERATED[machine]]).items()):
                link = text.removeprefix("-> ") if text.startswith("-> ") else ""
                add(archive, path, None if link else f"{text}\n".encode(), link)
        else:
            _copy(*DUMPED[machine], archive)
    return buffer.getvalue()


def _copy(source: str, name: str, archive: tarfile.TarFile) -> None:
    with tarfile.open(FIXTURES / f"{source}.tar.xz") as dumps:
        for member in dumps:
            path = member.name.removeprefix(f"{name}/")
            if member.name.startswith(f"{name}/") and path.startswith(("sys/", "proc/")):
                content = dumps.extractfile(member) if member.isreg() else None
                add(archive, path, content.read() if content else None, member.linkname)


def main() -> None:
    """Write them all."""
    for machine in (*GENERATED, *DUMPED):
        (FOLDER / f"{machine}.tar.xz").write_bytes(archive_of(machine))
        print(f"{machine}: {(FOLDER / f'{machine}.tar.xz').stat().st_size // 1024} KiB")


if __name__ == "__main__":
    main()
