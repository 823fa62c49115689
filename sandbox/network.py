# SPDX-License-Identifier: GPL-3.0-or-later
"""The addresses of a sandbox: its Docker network, its nodes, its pods."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from ipaddress import IPv4Address, IPv4Network
from pathlib import Path

from sandbox.settings import LABEL, SandboxError
from sandbox.shell import Shell

POOL = IPv4Network("172.30.0.0/16")
FIRST_NODE = 10


def free_subnet(taken: Iterable[IPv4Network]) -> IPv4Network:
    """The first /24 of the pool that overlaps nothing."""
    networks = list(taken)
    for candidate in POOL.subnets(new_prefix=24):
        if not any(candidate.overlaps(network) for network in networks):
            return candidate
    raise SandboxError(
        f"no free /24 is left in {POOL} for the nodes. Remove sandboxes (`python3 -m sandbox down --all`) or Docker "
        f"networks that are not needed (`docker network ls`)."
    )


def node_address(subnet: IPv4Network, index: int) -> IPv4Address:
    """The static address of a node: the control plane is number 0."""
    return subnet[FIRST_NODE + index]


def taken_subnets(shell: Shell) -> list[IPv4Network]:
    """All IPv4 subnets of Docker's networks and of the host's own routes."""
    found = routed_subnets()
    ids = shell.run(["docker", "network", "ls", "-q"]).split()
    for network in json.loads(shell.run(["docker", "network", "inspect", *ids])):
        for config in network["IPAM"]["Config"] or []:
            if "." in config.get("Subnet", ""):
                found.append(IPv4Network(config["Subnet"], strict=False))
    return found


def routed_subnets() -> list[IPv4Network]:
    """All IPv4 subnets of the host's own routes."""
    found = []
    for line in Path("/proc/net/route").read_text().splitlines()[1:]:
        _, destination, _, _, _, _, _, mask = line.split()[:8]
        address = IPv4Address(bytes.fromhex(destination)[::-1])
        prefix = int(mask, 16).bit_count()
        if prefix:
            found.append(IPv4Network((address, prefix), strict=False))
    return found


def create_network(shell: Shell, name: str) -> IPv4Network:
    """Make the Docker network of a sandbox. The caller holds the lock that keeps two runs from choosing the same."""
    subnet = free_subnet(taken_subnets(shell))
    shell.run(
        ["docker", "network", "create", "--label", f"{LABEL}={name}", "--subnet", str(subnet), network_name(name)]
    )
    return subnet


def network_name(name: str) -> str:
    """The Docker network of a sandbox."""
    return f"kubepin-sandbox-{name}"


def bridge_name(shell: Shell, name: str) -> str:
    """The bridge behind the Docker network of a sandbox, named as Docker names those without a name of their own."""
    identity = shell.run(["docker", "network", "inspect", "-f", "{{.Id}}", network_name(name)]).strip()
    return f"br-{identity[:12]}"


def cni_config(pod_subnet: str) -> str:
    """A bridge for the node's own pods; static routes lead to the others."""
    bridge = {
        "type": "bridge",
        "bridge": "cni0",
        "isGateway": True,
        "ipMasq": True,
        "hairpinMode": True,
        "ipam": {"type": "host-local", "ranges": [[{"subnet": pod_subnet}]], "routes": [{"dst": "0.0.0.0/0"}]},
    }
    portmap = {"type": "portmap", "capabilities": {"portMappings": True}}
    return json.dumps({"cniVersion": "0.4.0", "name": "sandbox", "plugins": [bridge, portmap]}, indent=2) + "\n"


def routes_for(node: str, pod_subnets: Mapping[str, str], addresses: Mapping[str, str]) -> str:
    """The lines of a node's /etc/sandbox/routes."""
    return "".join(
        f"{subnet} via {addresses[other]}\n" for other, subnet in sorted(pod_subnets.items()) if other != node
    )


def resolver_config(gateway: str, files: Iterable[Path]) -> str:
    """A resolv.conf for the nodes: the host's name servers that a container reaches, or the gateway.

    A loopback address would be the node itself, and CoreDNS would find itself in a loop.
    """
    for path in files:
        if not path.exists():
            continue
        servers = [line.split()[1] for line in path.read_text().splitlines() if line.startswith("nameserver ")]
        usable = [server for server in servers if ":" not in server and not IPv4Address(server).is_loopback]
        if usable:
            return "".join(f"nameserver {server}\n" for server in usable)
    return f"nameserver {gateway}\n"
