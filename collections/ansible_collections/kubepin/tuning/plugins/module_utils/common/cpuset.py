# SPDX-License-Identifier: GPL-3.0-or-later
"""Pure: the kernel's CPU list format, such as "0-3,8"."""

from __future__ import annotations

import re
import typing as t

from ansible_collections.kubepin.tuning.plugins.module_utils.common.errors import InvalidText

MAX_CPUS = 65536
"""CPU numbers are below this, so that a typing error cannot fill the memory. The kernel's own limit (NR_CPUS) is 8192
or lower."""

_MAX_DIGITS = 18
"""Longer numbers are refused before they are converted, which Python limits and which takes quadratic time."""

_PART = re.compile(r"(\d+)(?:-(\d+)(?::(\d+)/(\d+))?)?", re.ASCII)


class CpusetError(InvalidText):
    """The text is not a CPU list."""

    code = "cpuset_invalid"


def parse_cpuset(text: str) -> t.FrozenSet[int]:
    """The CPU numbers in a CPU list; none for an empty text.

    The format is the kernel's (Documentation/admin-guide/cputopology.rst and bitmap_parselist): numbers and ranges
    separated by commas, and ``N-M:U/G`` for the first U of every G numbers from N to M. Surrounding white space is
    ignored.

    :raises CpusetError: naming the text and the invalid part
    """
    stripped = text.strip()
    if not stripped:
        return frozenset()
    cpus: t.Set[int] = set()
    for part in stripped.split(","):
        match = _PART.fullmatch(part)
        if match is None:
            raise _refused(text, part, "is neither a CPU number nor a range")
        if any(len(number) > _MAX_DIGITS for number in match.groups(default="")):
            raise _refused(text, part, f"goes beyond CPU {MAX_CPUS - 1}")
        first = int(match[1])
        last = int(match[2] or match[1])
        used, group = int(match[3] or 1), int(match[4] or 1)
        if last < first:
            raise _refused(text, part, "ends before it starts")
        if last >= MAX_CPUS:
            raise _refused(text, part, f"goes beyond CPU {MAX_CPUS - 1}")
        if not 0 < used <= group:
            raise _refused(text, part, "uses none, or more than all, of each group")
        for start in range(first, last + 1, group):
            cpus.update(range(start, min(start + used, last + 1)))
    return frozenset(cpus)


def format_cpuset(cpus: t.Iterable[int]) -> str:
    """CPUs in the list format of the kernel and the kubelet (k8s.io/utils/cpuset String()), such as ``0-3,8``; two
    neighbours already form a range."""
    ranges: t.List[t.List[int]] = []
    for cpu in sorted(set(cpus)):
        if ranges and ranges[-1][1] == cpu - 1:
            ranges[-1][1] = cpu
        else:
            ranges.append([cpu, cpu])
    return ",".join(str(first) if first == last else f"{first}-{last}" for first, last in ranges)


def _shortened(text: str) -> str:
    """The text as messages quote it."""
    return text if len(text) <= 120 else f"{text[:117]}..."


def _refused(text: str, part: str, why: str) -> CpusetError:
    return CpusetError(
        f"'{_shortened(text.strip())}' is not a CPU list: '{_shortened(part)}' {why}. "
        "Expected numbers and ranges separated by commas, such as '0-3,8'.",
        value=text,
    )
