# SPDX-License-Identifier: GPL-3.0-or-later
"""The CPU controller's view of this process, cgroup v1 and v2: quota, throttling, CPU time.

Rules: the kernel's Documentation/scheduler/sched-bwc.rst and Documentation/admin-guide/cgroup-v2.rst. A quota may be
set on the container and on its pod, so every visible level counts.
"""

import os
from typing import Dict, List, NamedTuple, Optional, Tuple

_MARKERS = {"cpuacct": "cpuacct.usage", "cpuset": "cpuset.cpus"}  # a file that each folder of the controller has
_EFFECTIVE = {True: ("cpuset.cpus.effective",), False: ("cpuset.effective_cpus", "cpuset.cpus")}


class Throttling(NamedTuple):
    """Counters of one level since its creation; `throttled_ms` is a sum over CPUs."""

    periods: int
    throttled_periods: int
    throttled_ms: float


class CpuGroup(NamedTuple):
    """The CPU controller's group of a process.

    `levels` are directories, the process's own first, then its ancestors. `usage` is the file with the CPU time of the
    group, None if the group is the whole machine.
    """

    version: int
    levels: List[str]
    usage: Optional[str]


def read_text(path: str) -> Optional[str]:
    """Content of a small file of /proc or /sys, None if it cannot be read."""
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            return file.read()
    except OSError:
        return None


def find_group(cgroup_text: str, mountinfo_text: str) -> Optional[CpuGroup]:
    """The group from /proc/self/cgroup and /proc/self/mountinfo; None without a mounted CPU controller."""
    paths: Dict[str, str] = {}
    for line in cgroup_text.splitlines():
        number, controllers, path = line.split(":", 2)
        if number == "0" and not controllers:
            paths["unified"] = path
        for controller in controllers.split(","):
            paths[controller] = path
    if "cpu" in paths:
        own = _directory(paths["cpu"], mountinfo_text, "cpu")
        if own is not None:
            accounting = _directory(paths.get("cpuacct", ""), mountinfo_text, "cpuacct")
            whole_machine = accounting is None or os.path.exists(os.path.join(accounting, "release_agent"))
            usage = None if accounting is None or whole_machine else os.path.join(accounting, "cpuacct.usage")
            return CpuGroup(1, _levels(own), usage)
    if "unified" in paths:
        own = _directory(paths["unified"], mountinfo_text, None)
        if own is not None:
            whole_machine = not os.path.exists(os.path.join(own, "cgroup.events"))
            return CpuGroup(2, _levels(own), None if whole_machine else os.path.join(own, "cpu.stat"))
    return None


def _directory(path: str, mountinfo_text: str, controller: Optional[str]) -> Optional[str]:
    """Directory of a group. In a container, the mount may show only the part of the tree below its root."""
    marker = _MARKERS.get(controller or "", "cpu.stat")
    for line in mountinfo_text.splitlines():
        fields, _dash, rest = line.partition(" - ")
        kind, *options = rest.split(" ")
        if kind == ("cgroup2" if controller is None else "cgroup") and (
            controller is None or controller in options[-1].split(",")
        ):
            root, mount = fields.split(" ")[3:5]
            root = root.rstrip("/")
            below = path[len(root) :] if (path + "/").startswith(root + "/") else ""
            for candidate in (os.path.normpath(mount + "/" + below), mount):
                if os.path.isfile(os.path.join(candidate, marker)):
                    return candidate
    return None


def _levels(own: str) -> List[str]:
    levels = []
    while os.path.isfile(os.path.join(own, "cpu.stat")):
        levels.append(own)
        own = os.path.dirname(own)
    return levels


def level_quota(level: str) -> Optional[float]:
    """Quota of one level in CPUs, None if it has none."""
    text = read_text(os.path.join(level, "cpu.max"))
    if text is not None:
        quota, _space, period = text.strip().partition(" ")
    else:
        quota = (read_text(os.path.join(level, "cpu.cfs_quota_us")) or "-1").strip()
        period = (read_text(os.path.join(level, "cpu.cfs_period_us")) or "100000").strip()
    if quota == "max" or int(quota) <= 0:
        return None
    return int(quota) / int(period or 100000)


def quota_cpus(group: Optional[CpuGroup]) -> Optional[float]:
    """The smallest quota of the levels, in CPUs; None without one."""
    quotas = [quota for quota in map(level_quota, group.levels if group else []) if quota is not None]
    return min(quotas) if quotas else None


def effective_cpus(cgroup_text: str, mountinfo_text: str) -> Optional[str]:
    """The CPUs that the cpuset controller leaves to a process, as the kernel lists them; None where it tells none.

    Version 2: cpuset.cpus.effective of the group, or of the next ancestor with the controller. Version 1:
    cpuset.effective_cpus (Documentation/admin-guide/cgroup-v1/cpusets.rst), or cpuset.cpus of older kernels.
    """
    for line in cgroup_text.splitlines():
        number, controllers, path = line.split(":", 2)
        unified = number == "0" and not controllers
        if not unified and "cpuset" not in controllers.split(","):
            continue
        own = _directory(path, mountinfo_text, None if unified else "cpuset")
        while own is not None and own != os.path.dirname(own):
            for name in _EFFECTIVE[unified]:
                text = read_text(os.path.join(own, name))
                if text is not None and text.strip():
                    return text.strip()
            own = os.path.dirname(own)
    return None


def parse_throttling(text: str) -> Optional[Throttling]:
    """Throttling in a cpu.stat: v2 counts microseconds in throttled_usec, v1 nanoseconds in throttled_time."""
    values = _values(text)
    if "nr_periods" not in values:
        return None
    throttled_ms = values["throttled_usec"] / 1e3 if "throttled_usec" in values else values["throttled_time"] / 1e6
    return Throttling(values["nr_periods"], values["nr_throttled"], throttled_ms)


def parse_usage(text: str) -> Optional[float]:
    """CPU time in ms of a v2 cpu.stat or a v1 cpuacct.usage."""
    if text.strip().isdigit():
        return int(text) / 1e6
    values = _values(text)
    return values["usage_usec"] / 1e3 if "usage_usec" in values else None


def _values(text: str) -> Dict[str, int]:
    pairs = (line.split() for line in text.splitlines())
    return {pair[0]: int(pair[1]) for pair in pairs if len(pair) == 2}


def throttling_between(before: List[Optional[Throttling]], after: List[Optional[Throttling]]) -> Optional[Throttling]:
    """Throttling between two readings of the same levels: that of the level that was throttled longest.

    If none was throttled, that of the level with the most periods: a level without a quota counts none.
    """
    deltas = [
        Throttling(
            end.periods - begin.periods,
            end.throttled_periods - begin.throttled_periods,
            end.throttled_ms - begin.throttled_ms,
        )
        for begin, end in zip(before, after)
        if begin is not None and end is not None
    ]
    return max(deltas, key=lambda delta: (delta.throttled_ms, delta.periods)) if deltas else None


def own_group() -> Optional[CpuGroup]:
    """The group of this process."""
    return find_group(*_own_texts())


def own_effective_cpus() -> Optional[str]:
    """The CPUs that the cpuset controller leaves to this process; None where it tells none."""
    return effective_cpus(*_own_texts())


def _own_texts() -> Tuple[str, str]:
    return read_text("/proc/self/cgroup") or "", read_text("/proc/self/mountinfo") or ""
