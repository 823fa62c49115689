# SPDX-License-Identifier: GPL-3.0-or-later
"""Upgrade a tuned cluster over two minor versions, 1.20.15 to 1.22.17, and watch a pod with an exclusive CPU.

It is tuned before and after, and a further run must change nothing. Some 15 minutes, and 10 more for the first builds.
"""

from __future__ import annotations

import argparse
import os
import subprocess

from sandbox.cluster import ready_sandbox
from sandbox.settings import Paths
from tests.campaigns import pinned_pod
from tests.campaigns.base import JSON_LINES, ROOT, AnsibleRun, expect, new_sandbox, playbook

NAME, BEFORE, MINORS = "two-minors", "1.20.15", ("1.21.14", "1.22.17")


def check_nothing_to_do() -> None:
    """A further run changes nothing."""
    command = ["ansible-playbook", "upgrade-cluster.yml"]
    environment = {**os.environ, **JSON_LINES}
    done = subprocess.run(command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, text=True, check=False)
    run = AnsibleRun.ended(done.returncode, done.stdout)
    expect(
        run.code == 0 and run.changed_nothing, f"a further run changed something, or failed: {run.stats} {run.error}"
    )


def add_arguments(_parser: argparse.ArgumentParser) -> None:
    """No options."""


def run(_options: argparse.Namespace) -> int:
    """On a sandbox of its own."""
    with new_sandbox(NAME, BEFORE, workers=2, builds=MINORS):
        playbook("molecule/upgrade/prepare.yml")
        playbook("upgrade-cluster.yml", "--check")
        with ready_sandbox(Paths.from_environment(), NAME) as sandbox:
            pinned_pod.start(sandbox)
            with pinned_pod.watched(sandbox) as samples:
                playbook("upgrade-cluster.yml")
            pinned_pod.check(samples, kubelets=len(MINORS) * (len(sandbox.nodes) - 1))
        check_nothing_to_do()
        playbook("molecule/upgrade/verify.yml")
    return 0
