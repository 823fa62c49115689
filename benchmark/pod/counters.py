# SPDX-License-Identifier: GPL-3.0-or-later
"""The kernel's counters over a block, read once before and once after it, never during a step."""

import os
import time
from typing import Dict, List, NamedTuple, Optional, Union

from .cgroup import CpuGroup, Throttling, level_quota, parse_throttling, parse_usage, read_text, throttling_between

Counters = Dict[str, Union[int, float, None]]

REFERENCE_LOOPS = 20000  # about 1-2 ms
REFERENCE_REPEATS = 3


class ThreadCounts(NamedTuple):
    """Of one thread: ms in the state "runnable, but waiting for a CPU", context switches, and migrations."""

    run_delay_ms: Optional[float]
    voluntary: Optional[int]
    involuntary: Optional[int]
    migrations: Optional[int]


class HostTime(NamedTuple):
    """Of the whole host, in ms summed over its CPUs: time not idle, and time stolen by the hypervisor."""

    busy_ms: float
    steal_ms: float


class Snapshot(NamedTuple):
    clock_ms: float
    throttling: List[Optional[Throttling]]
    cpu_ms: Optional[float]
    thread: ThreadCounts
    run_delays_ms: Dict[str, float]
    host: Optional[HostTime]


def parse_run_delay(schedstat: Optional[str]) -> Optional[float]:
    """ms that a thread waited for a CPU, from /proc/.../schedstat: ns run, ns waited, and time slices."""
    fields = (schedstat or "").split()
    return int(fields[1]) / 1e6 if len(fields) == 3 else None


def parse_field(text: Optional[str], name: str) -> Optional[int]:
    """The number in a line "name : 12" or "name: 12" of /proc/.../status or /proc/.../sched."""
    for line in (text or "").splitlines():
        key, _colon, value = line.partition(":")
        if key.strip() == name:
            return int(value)
    return None


def parse_host_time(stat: Optional[str], ticks_per_second: int) -> Optional[HostTime]:
    """First line of /proc/stat: user nice system idle iowait irq softirq steal, in ticks; user includes guest time."""
    fields = (stat or "").partition("\n")[0].split()
    if len(fields) < 9 or fields[0] != "cpu":
        return None
    user, nice, system, _idle, _iowait, irq, softirq, steal = (
        int(field) * 1000 / ticks_per_second for field in fields[1:9]
    )
    return HostTime(user + nice + system + irq + softirq, steal)


def reference_loop() -> float:
    """ms of CPU time of a fixed single-threaded loop, the best of three: CPU speed without waiting for a CPU."""
    best = float("inf")
    for _repeat in range(REFERENCE_REPEATS):
        start = time.clock_gettime(time.CLOCK_THREAD_CPUTIME_ID)
        value = 1
        for _loop in range(REFERENCE_LOOPS):
            value = (value * 1103515245 + 12345) & 0x7FFFFFFF
        best = min(best, (time.clock_gettime(time.CLOCK_THREAD_CPUTIME_ID) - start) * 1e3)
    return best


def current_cpu() -> Optional[int]:
    """The CPU that this thread runs on: field 39 of its stat. The name, field 2, may contain blanks."""
    text = read_text("/proc/thread-self/stat")
    return int(text.rpartition(")")[2].split()[36]) if text else None


def cpu_mhz(cpu: int) -> Optional[float]:
    """The current frequency of a CPU in MHz, from cpufreq or else /proc/cpuinfo."""
    text = read_text(f"/sys/devices/system/cpu/cpu{cpu}/cpufreq/scaling_cur_freq")
    if text is not None and text.strip().isdigit():
        return int(text) / 1e3
    found = None
    for line in (read_text("/proc/cpuinfo") or "").splitlines():
        key, _colon, value = line.partition(":")
        if key.strip() == "processor":
            found = int(value)
        elif key.strip() == "cpu MHz" and found == cpu:
            return float(value)
    return None


class Sampler:
    """Reads the counters of this process, its launching thread (the calling one) and the host."""

    def __init__(self, group: Optional[CpuGroup]) -> None:
        levels = group.levels if group else []
        limited = [level for level in levels[1:] if level_quota(level) is not None]
        self._stats = [os.path.join(level, "cpu.stat") for level in levels[:1] + limited]
        self._usage = group.usage if group else None
        self._ticks = os.sysconf("SC_CLK_TCK")

    def _throttling(self) -> List[Optional[Throttling]]:
        return [parse_throttling(read_text(path) or "") for path in self._stats]

    def _cpu_ms(self) -> Optional[float]:
        return parse_usage(read_text(self._usage) or "") if self._usage else time.process_time() * 1e3

    def _thread(self) -> ThreadCounts:
        status = read_text("/proc/thread-self/status")
        sched = read_text("/proc/thread-self/sched")
        return ThreadCounts(
            parse_run_delay(read_text("/proc/thread-self/schedstat")),
            parse_field(status, "voluntary_ctxt_switches"),
            parse_field(status, "nonvoluntary_ctxt_switches"),
            parse_field(sched, "se.nr_migrations"),
        )

    def _run_delays(self) -> Dict[str, float]:
        delays = {}
        for thread in os.listdir("/proc/self/task"):
            delay = parse_run_delay(read_text(f"/proc/self/task/{thread}/schedstat"))
            if delay is not None:
                delays[thread] = delay
        return delays

    def _host(self) -> Optional[HostTime]:
        return parse_host_time(read_text("/proc/stat"), self._ticks)

    def before(self) -> Snapshot:
        """Call right before the block: slow readings come first."""
        host, delays = self._host(), self._run_delays()
        cpu, throttling, thread = self._cpu_ms(), self._throttling(), self._thread()
        return Snapshot(time.perf_counter() * 1e3, throttling, cpu, thread, delays, host)

    def after(self) -> Snapshot:
        """Call right after the block: slow readings come last."""
        clock = time.perf_counter() * 1e3
        thread, throttling, cpu = self._thread(), self._throttling(), self._cpu_ms()
        return Snapshot(clock, throttling, cpu, thread, self._run_delays(), self._host())


def _minus(after: Optional[float], before: Optional[float]) -> Optional[float]:
    return None if after is None or before is None else round(after - before, 3)


def between(before: Snapshot, after: Snapshot) -> Counters:
    """Counters over a block, by their names in schema 1; None if the kernel does not report one."""
    wall = after.clock_ms - before.clock_ms
    throttling = throttling_between(before.throttling, after.throttling)
    delays = [delay - before.run_delays_ms.get(thread, 0.0) for thread, delay in after.run_delays_ms.items()]
    host = None
    if before.host is not None and after.host is not None and wall > 0:
        host = HostTime(after.host.busy_ms - before.host.busy_ms, after.host.steal_ms - before.host.steal_ms)
    return {
        "wall_ms": round(wall, 3),
        "periods": throttling.periods if throttling else None,
        "throttled_periods": throttling.throttled_periods if throttling else None,
        "throttled_ms": round(throttling.throttled_ms, 3) if throttling else None,
        "cpu_ms": _minus(after.cpu_ms, before.cpu_ms),
        "run_delay_ms": _minus(after.thread.run_delay_ms, before.thread.run_delay_ms),
        "run_delay_all_ms": round(sum(delays), 3) if delays else None,
        "switches_voluntary": _minus(after.thread.voluntary, before.thread.voluntary),
        "switches_involuntary": _minus(after.thread.involuntary, before.thread.involuntary),
        "migrations": _minus(after.thread.migrations, before.thread.migrations),
        "threads": len(after.run_delays_ms) or None,
        "host_busy_cpus": round(host.busy_ms / wall, 3) if host else None,
        "steal_ms": round(host.steal_ms, 3) if host else None,
    }
