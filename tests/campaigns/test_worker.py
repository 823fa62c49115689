# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import json
import sys

from tests.campaigns.worker import Running

MORE_THAN_A_PIPE_HOLDS = 300_000  # bytes; Linux: 65536, pipe(7)
EVENT = {"_event": "v2_playbook_on_stats", "stats": {"gpu-01": {"changed": 0, "failures": 0, "unreachable": 0}}}


def test_a_run_goes_on_while_nobody_reads_what_it_prints() -> None:
    program = f"print('x' * {MORE_THAN_A_PIPE_HOLDS}); print({json.dumps(json.dumps(EVENT))})"
    running = Running([sys.executable, "-c", program], {})
    assert running.process.wait(60) == 0
    ended = running.end()
    assert (ended.code, ended.changed_nothing) == (0, True)
