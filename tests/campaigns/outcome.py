# SPDX-License-Identifier: GPL-3.0-or-later
"""Runs a command of Ansible and prints its outcome as JSON, for Molecule: codes of problems, and texts for people."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from typing import Any

from tests.campaigns.base import JSON_LINES, AnsibleRun

_SHOWN = "ansible.builtin.debug"


def outcome(run: AnsibleRun) -> dict[str, Any]:
    """What a run that has ended found and said.

    `codes`: of all problems, sorted. `outcomes`: the last one of each host (docs/facts.md). `said`: the lines of messages
    and failures. `recap`: the play recap. `other`: lines of output that are not events.
    """
    outcomes = {
        result.host: fact["outcome"]
        for result in run.results
        for fact in (result.values.get("ansible_facts") or {}).values()
        if isinstance(fact, dict) and "outcome" in fact
    }
    shown = [result.values for result in run.results if result.failed or result.values.get("action") == _SHOWN]
    items = [item for values in shown for item in values.get("results") or [values]]
    return {
        "codes": sorted(run.problems()),
        "outcomes": outcomes,
        "said": [line for item in items for line in _lines(item.get("msg") or "")],
        "recap": run.stats,
        "other": run.other_output,
    }


def _lines(message: object) -> list[str]:
    if isinstance(message, list):
        return [line for each in message for line in _lines(each)]
    return str(message).splitlines()


def main(command: Sequence[str]) -> int:
    """Run it; returns its exit status."""
    environment = {**os.environ, **JSON_LINES}
    done = subprocess.run(command, env=environment, stdout=subprocess.PIPE, text=True, check=False)
    print(json.dumps(outcome(AnsibleRun.ended(done.returncode, done.stdout))))
    return done.returncode


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
