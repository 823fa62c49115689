# SPDX-License-Identifier: GPL-3.0-or-later
"""What the scripts share that make tables of the collection from Kubernetes' own Go sources."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path

from ansible_collections.kubepin.tuning.plugins.module_utils.control.kubelet.fields import NEWEST_MINOR

from sandbox.gobuild import Go
from sandbox.settings import Paths
from sandbox.shell import Log, Shell

CONTROL = (
    Path(__file__).resolve().parents[1] / "collections/ansible_collections/kubepin/tuning/plugins/module_utils/control"
)
"""Where the tables are."""
OLDEST = 20
"""The oldest minor version of 1.x in them."""


def run(target: Path, render: Callable[[Go, int], str], description: str | None) -> None:
    """The command line of such a script: writes its table, or says whether it is what the sources say.

    :param render: the table's text from `go`, which fetches the sources, and the newest minor version
    :raises SystemExit: with --check, if the table is another
    """
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--newest",
        type=int,
        default=NEWEST_MINOR,
        metavar="MINOR",
        help="the newest minor, such as 37 for 1.37 (default: %(default)s, that of the tables now)",
    )
    parser.add_argument("--check", action="store_true", help="write nothing; fail if the table is another")
    options = parser.parse_args()
    paths = Paths.from_environment()
    text = render(Go(paths, Shell(Log(paths.cache / "tables.log"))), options.newest)
    if not options.check:
        target.write_text(text)
    elif target.read_text() != text:
        raise SystemExit(f"{target} is not what the sources say. Run this without --check, and see what has changed.")
