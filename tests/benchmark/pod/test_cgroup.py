# SPDX-License-Identifier: GPL-3.0-or-later
"""cgroup v1 and v2, as text in a folder that stands for the mount."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmark.pod.cgroup import (
    Throttling,
    effective_cpus,
    find_group,
    parse_throttling,
    parse_usage,
    quota_cpus,
    throttling_between,
)

V1_STAT = "nr_periods 600\nnr_throttled 599\nthrottled_time 28000500000\nnr_bursts 0\nburst_time 0\n"
V2_STAT = (
    "usage_usec 1234567\nuser_usec 1000000\nsystem_usec 234567\n"
    "nr_periods 600\nnr_throttled 599\nthrottled_usec 28000500\nnr_bursts 0\nburst_usec 0\n"
)


def _write(folder: Path, files: dict[str, str]) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in files.items():
        (folder / name).write_text(text)
    return folder


def _v1_level(folder: Path, quota: int) -> Path:
    return _write(folder, {"cpu.stat": V1_STAT, "cpu.cfs_quota_us": f"{quota}\n", "cpu.cfs_period_us": "100000\n"})


def _v2_level(folder: Path, limit: str) -> Path:
    return _write(folder, {"cpu.stat": V2_STAT, "cpu.max": f"{limit}\n", "cgroup.events": "populated 1\n"})


def _v1_mounts(tmp_path: Path, root: str) -> str:
    return (
        f"30 24 0:26 {root} {tmp_path}/cpu rw,nosuid - cgroup cgroup rw,cpu\n"
        f"31 24 0:27 {root} {tmp_path}/cpuacct rw,nosuid shared:9 - cgroup cgroup rw,cpuacct\n"
        f"32 24 0:28 / {tmp_path}/unified rw - cgroup2 cgroup2 rw\n"
    )


def test_throttling_of_v1_counts_nanoseconds() -> None:
    assert parse_throttling(V1_STAT) == Throttling(600, 599, 28000.5)


def test_throttling_of_v2_counts_microseconds() -> None:
    assert parse_throttling(V2_STAT) == Throttling(600, 599, 28000.5)


def test_a_group_without_the_controller_has_no_throttling() -> None:
    assert parse_throttling("usage_usec 12\nuser_usec 10\nsystem_usec 2\n") is None


def test_usage_in_milliseconds() -> None:
    assert parse_usage("1234567890\n") == pytest.approx(1234.56789)
    assert parse_usage(V2_STAT) == pytest.approx(1234.567)
    assert parse_usage("") is None


def test_v1_in_a_container_that_sees_its_own_group_only(tmp_path: Path) -> None:
    _v1_level(tmp_path / "cpu", 1200000)
    _write(tmp_path / "cpuacct", {"cpuacct.usage": "5000000\n"})
    text = "5:cpuacct:/kubepods/pod1/c1\n4:cpu:/kubepods/pod1/c1\n0::/\n"
    group = find_group(text, _v1_mounts(tmp_path, "/kubepods/pod1/c1"))
    assert group is not None
    assert (group.version, group.levels, group.usage) == (
        1,
        [str(tmp_path / "cpu")],
        str(tmp_path / "cpuacct/cpuacct.usage"),
    )
    assert quota_cpus(group) == 12.0


def test_v1_counts_the_quota_of_the_pod_above(tmp_path: Path) -> None:
    _v1_level(tmp_path / "cpu", -1)
    _v1_level(tmp_path / "cpu/pod1", 50000)
    own = _v1_level(tmp_path / "cpu/pod1/c1", -1)
    group = find_group("4:cpu,cpuacct:/pod1/c1\n", _v1_mounts(tmp_path, "/"))
    assert group is not None
    assert group.levels == [str(own), str(tmp_path / "cpu/pod1"), str(tmp_path / "cpu")]
    assert quota_cpus(group) == 0.5


def test_v2_in_a_private_namespace(tmp_path: Path) -> None:
    own = _v2_level(tmp_path, "1200100 100000")
    group = find_group("0::/\n", f"29 23 0:25 / {tmp_path} ro - cgroup2 cgroup rw\n")
    assert group is not None
    assert (group.version, group.levels, group.usage) == (2, [str(own)], f"{own}/cpu.stat")
    assert quota_cpus(group) == 12.001


def test_v2_takes_the_tightest_quota_of_all_levels(tmp_path: Path) -> None:
    _v2_level(tmp_path / "pod1", "300000 100000")
    _v2_level(tmp_path / "pod1/c1", "max 100000")
    group = find_group("0::/pod1/c1\n", f"29 23 0:25 / {tmp_path} rw - cgroup2 cgroup2 rw\n")
    assert quota_cpus(group) == 3.0


def test_no_quota_at_all(tmp_path: Path) -> None:
    _v2_level(tmp_path, "max 100000")
    group = find_group("0::/\n", f"29 23 0:25 / {tmp_path} rw - cgroup2 cgroup2 rw\n")
    assert group is not None
    assert quota_cpus(group) is None
    assert quota_cpus(None) is None


def test_the_whole_machine_is_no_group_of_the_process(tmp_path: Path) -> None:
    _write(tmp_path, {"cpu.stat": "usage_usec 12\n"})
    group = find_group("0::/\n", f"29 23 0:25 / {tmp_path} rw - cgroup2 cgroup2 rw\n")
    assert group is not None
    assert group.usage is None


def test_no_cpu_controller_is_no_group() -> None:
    assert find_group("4:memory:/\n", "") is None
    assert find_group("0::/\n", "") is None


def test_the_level_that_was_throttled_longest_counts() -> None:
    container = (Throttling(100, 0, 0.0), Throttling(120, 1, 2.0))
    pod = (Throttling(100, 50, 900.0), Throttling(120, 70, 2800.0))
    assert throttling_between([container[0], pod[0]], [container[1], pod[1]]) == Throttling(20, 20, 1900.0)
    assert throttling_between([None], [container[1]]) is None


def test_v2_tells_the_cpus_of_the_group(tmp_path: Path) -> None:
    _v2_level(tmp_path / "c1", "300000 100000")
    _write(tmp_path / "c1", {"cpuset.cpus.effective": "4-6\n"})
    mounts = f"29 23 0:25 / {tmp_path} rw - cgroup2 cgroup2 rw\n"
    assert effective_cpus("0::/c1\n", mounts) == "4-6"


def test_v2_without_the_controller_has_the_cpus_of_the_next_group_above(tmp_path: Path) -> None:
    _v2_level(tmp_path / "c1", "300000 100000")
    _write(tmp_path, {"cpuset.cpus.effective": "0-7\n"})
    mounts = f"29 23 0:25 / {tmp_path} rw - cgroup2 cgroup2 rw\n"
    assert effective_cpus("0::/c1\n", mounts) == "0-7"


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        ({"cpuset.cpus": "\n", "cpuset.effective_cpus": "0-7\n"}, "0-7"),
        ({"cpuset.cpus": "4-6\n", "cpuset.effective_cpus": "4-6\n"}, "4-6"),
        ({"cpuset.cpus": "4-6\n"}, "4-6"),
        ({"cpuset.cpus": "\n"}, None),
    ],
)
def test_v1_tells_the_cpus_in_the_controllers_own_hierarchy(
    tmp_path: Path, files: dict[str, str], expected: str | None
) -> None:
    _write(tmp_path / "cpuset" / "c1", files)
    mounts = f"35 30 0:31 / {tmp_path}/cpuset rw - cgroup cgroup rw,cpuset\n" + _v1_mounts(tmp_path, "/")
    assert effective_cpus("5:cpuset:/c1\n4:cpu:/c1\n0::/\n", mounts) == expected


def test_no_cpuset_controller_tells_nothing() -> None:
    assert effective_cpus("4:cpu:/c1\n", "") is None
