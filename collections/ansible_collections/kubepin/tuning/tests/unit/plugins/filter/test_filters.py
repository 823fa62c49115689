# SPDX-License-Identifier: GPL-3.0-or-later
"""What all filters have in common."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

COLLECTIONS = Path(__file__).parents[7]
FILTERS = sorted((Path(__file__).parents[4] / "plugins/filter").glob("*.py"))


def test_filters_do_not_load_the_kubernetes_client() -> None:
    """Ansible loads all of them in each task that names one: half a second per task and host."""
    names = [f"ansible_collections.kubepin.tuning.plugins.filter.{path.stem}" for path in FILTERS]
    program = (
        f"import sys, importlib; [importlib.import_module(n) for n in {names}]; print('kubernetes' in sys.modules)"
    )
    command = [sys.executable, "-c", program]
    said = subprocess.run(command, env={"PYTHONPATH": str(COLLECTIONS)}, capture_output=True, text=True, check=True)
    assert len(names) > 5
    assert said.stdout.strip() == "False"
