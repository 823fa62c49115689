# SPDX-License-Identifier: GPL-3.0-or-later
"""The shape of a virtual machine: sockets, cores, threads, NUMA nodes, memory, CPU model, Debian. Pure."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields

from sandbox.debian import RELEASES

MAX_CPUS = 64
MAX_THREADS = 2
# Each has an expander bus for its GPU stand-in, and the first bus has room for 32 devices in all.
MAX_NUMA = 16
MIN_MEMORY_MIB = 2048
MAX_MEMORY_MIB = 65536
UNITS_MIB = {"M": 1, "G": 1024}


@dataclass(frozen=True)
class Shape:
    """What a machine's kernel finds. NUMA nodes have the same number of cores and the same memory each.

    The default CPU is an Intel model: to QEMU's emulator an AMD one has neither threads nor a shared L3.

    :param sockets: CPU packages, each with an L3 cache of its own
    :param cores: cores per socket
    :param threads: threads per core
    :param numa: NUMA nodes
    :param memory: MiB in all
    :param cpu: a CPU model of QEMU's
    :param debian: a release of Debian, by its number
    """

    sockets: int = 2
    cores: int = 2
    threads: int = 2
    numa: int = 2
    memory: int = 4096
    cpu: str = "Westmere"
    debian: int = 12

    @property
    def cpus(self) -> int:
        """Logical CPUs."""
        return self.sockets * self.cores * self.threads

    @property
    def numa_nodes(self) -> list[tuple[range, int]]:
        """For each NUMA node its CPUs and its memory in MiB. QEMU numbers threads first, then cores, then sockets."""
        share = self.cpus // self.numa
        return [(range(index * share, (index + 1) * share), self.memory // self.numa) for index in range(self.numa)]

    def __str__(self) -> str:
        values = {field.name: getattr(self, field.name) for field in fields(self)} | {"memory": f"{self.memory}M"}
        return ",".join(f"{name}={value}" for name, value in values.items())


def _count(text: str) -> int | None:
    return int(text) if re.fullmatch(r"[1-9]\d{0,3}", text) else None


def _memory(text: str) -> int | None:
    match = re.fullmatch(r"([1-9]\d{0,6})([MG])", text)
    return int(match[1]) * UNITS_MIB[match[2]] if match else None


def _model(text: str) -> str | None:
    return text if re.fullmatch(r"[A-Za-z][A-Za-z0-9._-]*", text) else None


def _release(text: str) -> int | None:
    return next((number for number in RELEASES if text == str(number)), None)


READERS: Mapping[str, tuple[Callable[[str], int | str | None], str]] = {
    **dict.fromkeys(("sockets", "cores", "threads", "numa"), (_count, "a whole number from 1 on")),
    "memory": (_memory, "a whole number with M or G, such as 4G"),
    "cpu": (_model, "a CPU model of QEMU's, such as Westmere"),
    "debian": (_release, f"a release of Debian: {' or '.join(map(str, RELEASES))}"),
}


def _misfits(shape: Shape) -> list[str]:
    """What cannot be about a shape whose values are well-formed."""
    problems = []
    cores = shape.sockets * shape.cores
    if shape.threads > MAX_THREADS:
        problems.append(f"threads={shape.threads} cannot be used: expected 1 or {MAX_THREADS} per core.")
    if shape.cpus > MAX_CPUS:
        problems.append(f"{shape.cpus} CPUs (sockets x cores x threads) cannot be used: expected at most {MAX_CPUS}.")
    if shape.numa > MAX_NUMA:
        problems.append(f"numa={shape.numa} cannot be used: expected at most {MAX_NUMA}.")
    if cores % shape.numa:
        problems.append(
            f"numa={shape.numa} cannot be used: {cores} cores (sockets x cores) cannot be shared out evenly among "
            f"{shape.numa} NUMA nodes."
        )
    if not MIN_MEMORY_MIB <= shape.memory <= MAX_MEMORY_MIB:
        problems.append(
            f"memory={shape.memory}M cannot be used: expected {MIN_MEMORY_MIB // 1024}G to {MAX_MEMORY_MIB // 1024}G."
        )
    if shape.memory % shape.numa:
        problems.append(f"memory={shape.memory}M cannot be shared out evenly among {shape.numa} NUMA nodes.")
    return problems


def read_shape(text: str) -> Shape | list[str]:
    """Read `sockets=2,cores=2,threads=2,numa=2,memory=4G,cpu=Westmere,debian=12`; what is not named keeps its default.

    Returns every problem instead, if there is any.
    """
    problems: list[str] = []
    values: dict[str, int | str] = {}
    for part in text.split(",") if text else []:
        name, _, word = part.partition("=")
        if name not in READERS:
            problems.append(f'"{part}" is not known: expected NAME=VALUE with one of {", ".join(READERS)}.')
            continue
        if name in values:
            problems.append(f"{name} is given twice.")
            continue
        read, expected = READERS[name]
        value = read(word)
        if value is None:
            problems.append(f'{name}="{word}" cannot be used: expected {expected}.')
        else:
            values[name] = value
    if not problems:
        shape = Shape(**values)  # type: ignore[arg-type]  # each reader returns its field's type
        problems = _misfits(shape)
        if not problems:
            return shape
    return [f"machine shape: {problem}" for problem in problems]
