# SPDX-License-Identifier: GPL-3.0-or-later
"""kubepin's decisions against real kubelets."""

from __future__ import annotations

import argparse
import sys

from sandbox.settings import SandboxError, Version
from tests.conformance import allocation, config, emit, machines
from tests.conformance.standalone_kubelet import Place

VERSIONS = "1.20.15,1.21.14,1.22.17,1.36.3,1.37.2"


def main() -> int:
    """The exit status is 1 on any disagreement."""
    parser = argparse.ArgumentParser(prog="python -m tests.conformance", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    command = commands.add_parser(
        "allocation", help="the preview of allocations against the state files of real kubelets"
    )
    command.add_argument("--k8s", default=VERSIONS, metavar="VERSIONS", help="built releases (default: %(default)s)")
    command.add_argument("--sequences", type=int, default=110, help="pod sequences per release (default: %(default)s)")
    command.add_argument("--machines", default=",".join(machines.NAMES), help="which (default: %(default)s)")
    command.add_argument("--seed", type=int, default=1, help="the same seed, the same sequences (default: %(default)s)")
    command = commands.add_parser("config", help="the verdict on configurations and state files against real kubelets")
    command.add_argument("--k8s", default=VERSIONS, metavar="VERSIONS", help="built releases (default: %(default)s)")
    command.add_argument("--cases", type=int, default=500, help="cases per release (default: %(default)s)")
    command.add_argument("--seed", type=int, default=1, help="the same seed, the same cases (default: %(default)s)")
    command = commands.add_parser("emit", help="what `kubepin emit` writes, with real kubelets")
    command.add_argument("--k8s", default=VERSIONS, metavar="VERSIONS", help="built releases (default: %(default)s)")
    for name, command in commands.choices.items():
        command.add_argument(
            "--engine",
            choices=("docker", "namespaces", "machine"),
            default="docker",
            help="who runs the node; machine: it is the virtual machine NAME of a sandbox (default: %(default)s)",
        )
        command.add_argument(
            "--node",
            default=f"conformance-{name}",
            metavar="NAME",
            help="name of the node; two runs at once need different ones (default: %(default)s)",
        )
    options = parser.parse_args()
    place = Place(options.node, options.engine)
    versions = [Version.parse(text) for text in options.k8s.split(",")]
    try:
        if options.command == "config":
            return config.run(versions, options.cases, options.seed, place)
        if options.command == "emit":
            return emit.run(versions, place)
        return allocation.run(versions, options.machines.split(","), options.sequences, options.seed, place)
    except SandboxError as error:
        print(f"conformance: {error}", file=sys.stderr)
        return 2


if __name__ == "__main__":
    sys.exit(main())
