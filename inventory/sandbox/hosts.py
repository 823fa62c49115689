#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-3.0-or-later
"""Ansible inventory of the sandbox named by KUBEPIN_SANDBOX (default: kubepin); empty when there is none.

`python3 -m sandbox up` writes what this prints.
"""

from __future__ import annotations

import argparse
import json
import os
from pathlib import Path
from typing import Any

EMPTY: dict[str, Any] = {"_meta": {"hostvars": {}}}


def load() -> dict[str, Any]:
    """Read the inventory that belongs to the sandbox."""
    cache = Path(os.environ.get("KUBEPIN_CACHE") or Path.home() / ".cache" / "kubepin").absolute()
    name = os.environ.get("KUBEPIN_SANDBOX") or "kubepin"
    try:
        inventory: dict[str, Any] = json.loads((cache / "sandboxes" / name / "inventory.json").read_text())
    except FileNotFoundError:
        return EMPTY
    return inventory


def main() -> None:
    """Answer as Ansible asks."""
    parser = argparse.ArgumentParser(description=__doc__)
    question = parser.add_mutually_exclusive_group(required=True)
    question.add_argument("--list", action="store_true", help="print the whole inventory")
    question.add_argument("--host", metavar="NAME", help="print the variables of one host")
    options = parser.parse_args()
    inventory = load()
    answer = inventory if options.list else inventory["_meta"]["hostvars"].get(options.host, {})
    print(json.dumps(answer, indent=2))


if __name__ == "__main__":
    main()
