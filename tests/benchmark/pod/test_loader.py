# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import pytest

from benchmark.pod.loader import batch_bytes, shm_shortage

BATCH = batch_bytes(64, 224)


def test_a_batch_of_64_has_38_mb() -> None:
    assert BATCH == 64 * 3 * 224 * 224 * 4 == 38535168


@pytest.mark.parametrize("free", [None, 64 << 20, 17 * BATCH - 1])
def test_too_little_shared_memory_is_reported_with_figures_and_remedy(free: int | None) -> None:
    said = shm_shortage(free, 64, 224, 8, ", or fewer --workers")
    assert said is not None
    for part in (
        "expected 655.1 MB for 8 workers",
        "8 workers",
        "medium: Memory",
        "--shm-size=1g",
        "or fewer --workers",
    ):
        assert part in said
    assert ("is missing" if free is None else f"has {free / 1e6:.1f} MB free") in said


def test_enough_shared_memory_is_no_problem() -> None:
    assert shm_shortage(17 * BATCH, 64, 224, 8, "") is None


def test_without_workers_no_shared_memory_is_needed() -> None:
    assert shm_shortage(0, 64, 224, 0, "") is None


def test_the_remedy_is_large_enough() -> None:
    said = shm_shortage(0, 512, 224, 8, "")
    assert said is not None
    assert "--shm-size=6g" in said
