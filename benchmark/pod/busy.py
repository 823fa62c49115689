# SPDX-License-Identifier: GPL-3.0-or-later
"""`python3 -m pod.busy --threads N`: the neighbours of a full node that keep CPUs busy until they are ended.

Half of them compute with integers in a register's reach, half copy memory that no L3 cache holds. It needs no torch.
"""

import argparse
import ctypes
import glob
import os
import signal
import sys
from typing import List, Optional, Sequence

from .cgroup import read_text

L3_MULTIPLE = 4
DEFAULT_L3_BYTES = 32 << 20
MOST_BYTES = 256 << 20
_SET_PDEATHSIG = 1  # prctl(2)
_UNITS = {"K": 1 << 10, "M": 1 << 20, "G": 1 << 30}


def cache_bytes(text: str) -> Optional[int]:
    """The size of a cache as sysfs writes it, such as 32768K; None for another text."""
    text = text.strip()
    number, unit = (text[:-1], _UNITS[text[-1]]) if text[-1:] in _UNITS else (text, 1)
    return int(number) * unit if number.isdigit() else None


def l3_bytes() -> int:
    """The size of the L3 cache of CPU 0, or a common one where the kernel does not say."""
    for folder in glob.glob("/sys/devices/system/cpu/cpu0/cache/index*"):
        if (read_text(f"{folder}/level") or "").strip() == "3":
            return cache_bytes(read_text(f"{folder}/size") or "") or DEFAULT_L3_BYTES
    return DEFAULT_L3_BYTES


def compute() -> None:
    """Computes with integers without an end."""
    value = 1
    while True:
        value = (value * 1103515245 + 12345) & 0x7FFFFFFF


def copy(size: int) -> None:
    """Copies one half of `size` bytes onto the other without an end."""
    half = size // 2
    memory = memoryview(bytearray(2 * half))
    while True:
        memory[half:] = memory[:half]


def run(threads: int, size: int) -> None:
    """Keeps `threads` processes busy until this one ends; each dies with it."""
    children: List[int] = []
    for number in range(threads):
        child = os.fork()
        if child == 0:
            ctypes.CDLL(None).prctl(_SET_PDEATHSIG, signal.SIGKILL)
            if number % 2:
                copy(size)
            compute()
        children.append(child)
    for child in children:
        os.waitpid(child, 0)


def main(arguments: Sequence[str]) -> None:
    parser = argparse.ArgumentParser(prog="python3 -m pod.busy", description="Keeps CPUs busy until it is ended.")
    parser.add_argument("--threads", type=int, required=True, metavar="N", help="processes of one thread each")
    run(parser.parse_args(arguments).threads, min(L3_MULTIPLE * l3_bytes(), MOST_BYTES))


if __name__ == "__main__":
    main(sys.argv[1:])
