# SPDX-License-Identifier: GPL-3.0-or-later
"""What the images of the cluster take from the nodes' Debian."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from sandbox.node_image import kube_proxy_base

LIBRARIES = {
    "/usr/sbin/xtables-nft-multi": "libc.so.6 => /lib/x86_64-linux-gnu/libc.so.6 (0x1)\n/lib64/ld-linux-x86-64.so.2 (0x2)",
    "/usr/lib/x86_64-linux-gnu/xtables/libxt_statistic.so": "libm.so.6 => /lib/x86_64-linux-gnu/libm.so.6 (0x1)",
}


class Ldd:
    """A shell that knows `ldd` only."""

    def run(self, command: Sequence[str]) -> str:
        assert [command[0], command[2]] == ["chroot", "ldd"]
        return LIBRARIES.get(command[3], "statically linked")


def test_kube_proxy_has_the_libraries_of_its_extensions(tmp_path: Path) -> None:
    """Without libm, iptables-restore refuses all rules as soon as one service has two endpoints."""
    multiarch = "lib/x86_64-linux-gnu"
    places = [
        "usr/sbin/xtables-nft-multi",
        "usr/sbin/conntrack",
        "bin/dash",
        f"usr/{multiarch}/xtables/libxt_statistic.so",
    ]
    for place in [*places, f"{multiarch}/libc.so.6", f"{multiarch}/libm.so.6", "lib64/ld-linux-x86-64.so.2"]:
        (tmp_path / place).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / place).write_bytes(b"\x7fELF")
    layer = kube_proxy_base(Ldd(), tmp_path)  # type: ignore[arg-type]
    assert {f"{multiarch}/libm.so.6", f"usr/{multiarch}/xtables/libxt_statistic.so", "bin/sh"} <= set(layer.entries)
