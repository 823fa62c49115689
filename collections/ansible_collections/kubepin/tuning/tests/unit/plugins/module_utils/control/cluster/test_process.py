# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import multiprocessing
import os
from typing import Any

import pytest
from ansible_collections.kubepin.tuning.plugins.module_utils.control.cluster import process
from ansible_collections.kubepin.tuning.plugins.module_utils.control.cluster.process import is_running, this_process


def _tell(found: Any, go_on: Any) -> None:
    found.put(this_process())
    go_on.wait(120)


def test_a_process_is_known_to_run_until_it_has_ended() -> None:
    """A worker describes the Ansible process that forked it; here, the test."""
    assert this_process() == ""
    context = multiprocessing.get_context("fork")
    found, go_on = context.Queue(), context.Event()
    worker = context.Process(target=_tell, args=(found, go_on))
    worker.start()
    parent = found.get(timeout=120)
    assert is_running(parent) is True
    child = f"{' '.join(parent.split(' ')[:-2])} {worker.pid} {process._start_of(worker.pid or 0)}"
    assert is_running(child) is True
    go_on.set()
    worker.join()
    assert is_running(child) is False
    reused = f"{' '.join(parent.split(' ')[:-2])} {os.getpid()} 1"
    assert is_running(reused) is False


@pytest.mark.parametrize("described", ["", "x", "another-boot pid:[1] 1 2", "a b c d e"])
def test_a_process_elsewhere_is_unknown(described: str) -> None:
    assert is_running(described) is None
