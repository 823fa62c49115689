# SPDX-License-Identifier: GPL-3.0-or-later
"""The input pipeline: torch's DataLoader with workers that hand over batches through /dev/shm."""

import math
import os
from typing import Any, Optional

from .environment import SHM
from .words import count

POOL = 64  # different images; workers fork, so they share one pool
PREFETCH = 2  # batches in flight per worker, torch's default
ENDLESS = 10**9
TIMEOUT_S = 60
_FLOAT_BYTES = 4


class ImagePool:
    """Endless dataset: image i is one contiguous piece of a sample-major pool, so an item costs one copy.

    (The original has the sample as innermost axis, so its workers gather: ten times the work per batch.)
    """

    def __init__(self, torch: Any, size: int) -> None:
        self._images = torch.randn(POOL, 3, size, size)

    def __getitem__(self, index: int) -> Any:
        return self._images[index % POOL]

    def __len__(self) -> int:
        return ENDLESS


def prefetched(workers: int) -> int:
    """Batches that are ready, at most, when nobody takes one: so many steps say nothing of the loader's speed."""
    return PREFETCH * workers


def batch_bytes(batch: int, size: int) -> int:
    return batch * 3 * size * size * _FLOAT_BYTES


def shm_shortage(free: Optional[int], batch: int, size: int, workers: int, remedy: str) -> Optional[str]:
    """Why `free` bytes of /dev/shm (None: no /dev/shm) are too few for what the workers prefetch; None if they suffice.

    The workers need PREFETCH batches each and the batch in use. Without this check a worker dies of a bus error.
    """
    needed = (prefetched(workers) + 1) * batch_bytes(batch, size)
    if not workers or (free is not None and free >= needed):
        return None
    state = "is missing" if free is None else f"has {_mb(free)} MB free"
    return (
        f"{SHM} {state}: expected {_mb(needed)} MB for {count(workers, 'worker')}, each with {PREFETCH} batches of "
        f"{_mb(batch_bytes(batch, size))} MB. Mount a memory-backed volume on {SHM} (emptyDir with medium: Memory), or use "
        f"docker run --shm-size={math.ceil(needed / 1e9)}g{remedy}."
    )


def _mb(size: int) -> str:
    return f"{size / 1e6:.1f}"


def shm_free() -> Optional[int]:
    """Bytes free in /dev/shm, None if it does not exist."""
    try:
        found = os.statvfs(SHM)
    except OSError:
        return None
    return found.f_bavail * found.f_frsize


def batches(torch: Any, pool: ImagePool, batch: int, workers: int) -> Any:
    """Iterator of batches. Its workers end when it is freed; they are forked, so the pool is not copied."""
    return iter(
        torch.utils.data.DataLoader(
            pool,
            batch_size=batch,
            shuffle=False,
            num_workers=workers,
            timeout=TIMEOUT_S if workers else 0,
            multiprocessing_context="fork" if workers else None,
        )
    )
