# SPDX-License-Identifier: GPL-3.0-or-later
"""The lines that `original` adds to those of ryujaehun/pytorch-gpu-benchmark; our readers parse them. Pure."""

BATCH = "Batch size"  # of the header; the original has it in config.json only
FAILURES = {"oom": "out of memory", "skipped": "not possible"}  # by the status of a block


def batch_line(batch: int) -> str:
    return f"{BATCH} : {batch}"


def failure_line(model: str, precision: str, mode: str, status: str, reason: str) -> str:
    """In place of a cell's average, and in system_info.txt: why its column is missing. `reason` is one line."""
    return f"{model} {precision} {mode}: {FAILURES[status]}, left out: {reason}"
