# SPDX-License-Identifier: GPL-3.0-or-later
"""Sandboxes find subnets of their own, and nodes the way to each other's pods."""

from __future__ import annotations

import json
from ipaddress import IPv4Network
from pathlib import Path

import pytest

from sandbox.network import POOL, cni_config, free_subnet, node_address, resolver_config, routes_for
from sandbox.settings import SandboxError


@pytest.mark.parametrize(
    ("taken", "expected"),
    [
        ([], "172.30.0.0/24"),
        (["172.30.0.0/24", "172.17.0.0/16"], "172.30.1.0/24"),
        (["172.30.1.0/24"], "172.30.0.0/24"),
        (["172.30.0.128/25", "172.30.1.0/24"], "172.30.2.0/24"),
        (["172.30.0.0/20"], "172.30.16.0/24"),
    ],
)
def test_first_free_subnet(taken: list[str], expected: str) -> None:
    assert str(free_subnet(map(IPv4Network, taken))) == expected


def test_no_free_subnet() -> None:
    with pytest.raises(SandboxError, match="no free /24"):
        free_subnet([POOL])


def test_addresses_are_static() -> None:
    subnet = IPv4Network("172.30.4.0/24")
    assert [str(node_address(subnet, index)) for index in (0, 1)] == ["172.30.4.10", "172.30.4.11"]


def test_routes_leave_out_the_node_itself() -> None:
    subnets = {"a": "10.244.0.0/24", "b": "10.244.1.0/24"}
    addresses = {"a": "172.30.0.10", "b": "172.30.0.11"}
    assert routes_for("a", subnets, addresses) == "10.244.1.0/24 via 172.30.0.11\n"


def test_cni_config_uses_the_nodes_own_subnet() -> None:
    bridge, _ = json.loads(cni_config("10.244.3.0/24"))["plugins"]
    assert bridge["ipam"]["ranges"] == [[{"subnet": "10.244.3.0/24"}]]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("nameserver 10.0.0.2\nsearch example.org\n", "nameserver 10.0.0.2\n"),
        ("nameserver 127.0.0.53\n", "nameserver 172.30.0.1\n"),
        ("nameserver fe80::1\n", "nameserver 172.30.0.1\n"),
        ("", "nameserver 172.30.0.1\n"),
    ],
)
def test_name_servers_never_loop_back(tmp_path: Path, text: str, expected: str) -> None:
    path = tmp_path / "resolv.conf"
    path.write_text(text)
    assert resolver_config("172.30.0.1", [path, tmp_path / "absent"]) == expected
