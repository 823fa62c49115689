# SPDX-License-Identifier: GPL-3.0-or-later
"""The boot guard on files, and its decisions against the rules with which kubepin plans."""

from __future__ import annotations

import json
import subprocess
import sys
import typing as t
from pathlib import Path

import pytest
from ansible_collections.kubepin.tuning.plugins.module_utils.common.cpuset import format_cpuset
from ansible_collections.kubepin.tuning.plugins.module_utils.common.kubelet.checkpoint import seal_of
from ansible_collections.kubepin.tuning.plugins.module_utils.common.kubelet.cpu_manager_state import (
    checksum_of,
    parse_state,
    refusal_of,
)
from ansible_collections.kubepin.tuning.plugins.module_utils.common.kubelet.memory_manager_state import (
    default_machine,
    memory_checksum_of,
    memory_refusal_of,
    parse_memory_state,
)
from ansible_collections.kubepin.tuning.plugins.module_utils.node import boot_guard
from hypothesis import given
from hypothesis import strategies as st

GIB = 1024**3
ENTRIES = {"uid": {"main": "2-3"}}
CPUS = st.frozensets(st.integers(0, 7), min_size=1)


def cpu_state(default: str = "0-1", entries: t.Mapping[str, t.Mapping[str, str]] = ENTRIES) -> str:
    """A file of the format V2."""
    plain = {uid: dict(pod) for uid, pod in entries.items()}
    checksum = checksum_of("static", default, plain)
    return json.dumps({"policyName": "static", "defaultCpuSet": default, "entries": plain, "checksum": checksum})


def sealed(text: str) -> str:
    """The same as kubelets write it since 1.37."""
    return json.dumps({**json.loads(text), "data": text, "dataChecksum": seal_of(text)})


def memory_state(*gib: int) -> str:
    """A file of the memory manager on a machine with so much memory in each NUMA node."""
    machine = default_machine({node: {"memory": size * GIB} for node, size in enumerate(gib)}, [])
    checksum = memory_checksum_of("Static", machine, {})
    return json.dumps({"policyName": "Static", "machineState": machine, "entries": {}, "checksum": checksum})


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """/sys/devices/system of a machine with the CPUs 0 to 3 and 4 GiB, 2 MiB of them in huge pages."""
    pages = tmp_path / "system/node/node0/hugepages/hugepages-2048kB"
    pages.mkdir(parents=True)
    (pages / "nr_hugepages").write_text("1\n")
    (tmp_path / "system/node/node0/meminfo").write_text(f"Node 0 MemTotal: {4 * 1024**2} kB\n")
    (tmp_path / "system/cpu").mkdir()
    (tmp_path / "system/cpu/online").write_text("0-3\n")
    return tmp_path / "system"


@pytest.fixture
def start(tmp_path: Path, root: Path, capsys: pytest.CaptureFixture[str]) -> t.Callable[..., str]:
    """Runs the guard, and returns what it says."""

    def run(*more: str) -> str:
        paths = {name: str(tmp_path / name) for name in ("cpu-state", "memory-state", "folder")}
        boot_guard.main([*(f"--{name}={path}" for name, path in paths.items()), *more], str(root))
        return capsys.readouterr().out

    return run


@pytest.mark.parametrize("form", [str, sealed])
def test_a_state_of_other_cpus_is_moved_and_kept(
    tmp_path: Path, start: t.Callable[..., str], form: t.Callable[[str], str]
) -> None:
    text = form(cpu_state("0-1,4-5"))
    (tmp_path / "cpu-state").write_text(text)
    said = start()
    (moved,) = (tmp_path / "folder").iterdir()
    assert moved.read_text() == text
    assert not (tmp_path / "cpu-state").exists()
    assert f"kubepin: {tmp_path / 'cpu-state'} was moved to {moved}" in said
    assert "it has CPUs [0, 1, 2, 3, 4, 5], and the machine has [0, 1, 2, 3]" in said


@pytest.mark.parametrize(
    ("text", "more"),
    [
        (cpu_state(), ()),
        (sealed(cpu_state()), ()),
        (cpu_state("1"), ("--strictly-reserved=0",)),
        ('{"policyName":"none","defaultCpuSet":"","checksum":1}', ()),
        ('{"policyName":"static","defaultCpuSet":"","checksum":1}', ()),
        ("no JSON", ()),
        ("[]", ()),
        ('{"policyName":"static","defaultCpuSet":"one"}', ()),
    ],
)
def test_what_fits_or_is_refused_for_another_reason_stays(
    tmp_path: Path, start: t.Callable[..., str], text: str, more: tuple[str, ...]
) -> None:
    (tmp_path / "cpu-state").write_text(text)
    assert "moved" not in start(*more)
    assert (tmp_path / "cpu-state").read_text() == text


def test_two_files_of_one_name_are_both_kept(tmp_path: Path, start: t.Callable[..., str]) -> None:
    for default in ("0-1,4", "0-1,5"):
        (tmp_path / "cpu-state").write_text(cpu_state(default))
        start()
    assert len(list((tmp_path / "folder").iterdir())) == 2


def test_a_state_of_other_memory_is_moved(tmp_path: Path, start: t.Callable[..., str]) -> None:
    (tmp_path / "memory-state").write_text(memory_state(4))  # without huge pages
    assert "memory-state was moved" in start()


def test_a_state_of_the_same_memory_stays(tmp_path: Path, root: Path, start: t.Callable[..., str]) -> None:
    machine = default_machine({0: {"memory": 4 * GIB, "hugepages-2Mi": 2 * 1024**2}}, [])
    assert boot_guard.read_memory(str(root)) == {"0": {"memory": 4 * GIB, "hugepages-2Mi": 2 * 1024**2}}
    (tmp_path / "memory-state").write_text(json.dumps({"policyName": "Static", "machineState": machine}))
    assert "memory-state fits this machine" in start()


def test_a_machine_that_cannot_be_read_and_a_folder_that_cannot_be_made_leave_the_files(
    tmp_path: Path, root: Path, start: t.Callable[..., str]
) -> None:
    (tmp_path / "cpu-state").write_text(cpu_state("0-1,4-5"))
    (tmp_path / "folder").write_text("a file")
    assert "cpu-state was left alone: FileExistsError" in start()
    (root / "cpu/online").unlink()
    start()
    assert (tmp_path / "cpu-state").exists()


def test_it_is_a_program_without_anything_else(tmp_path: Path) -> None:
    program = tmp_path / "boot-guard.py"
    program.write_text(Path(boot_guard.__file__).read_text())
    options = [f"--{name}={tmp_path / name}" for name in ("cpu-state", "memory-state", "folder")]
    done = subprocess.run([sys.executable, "-I", str(program), *options], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines() == [
        f"kubepin: {tmp_path / 'cpu-state'} does not exist",
        f"kubepin: {tmp_path / 'memory-state'} does not exist",
    ]


@given(default=CPUS, exclusive=CPUS, online=CPUS, reserved=st.frozensets(st.integers(0, 7)), strict=st.booleans())
def test_it_moves_what_a_plan_would_remove_for_its_cpus_and_nothing_else(
    default: frozenset[int],
    exclusive: frozenset[int],
    online: frozenset[int],
    reserved: frozenset[int],
    strict: bool,
) -> None:
    shared = default - exclusive
    text = cpu_state(format_cpuset(shared), {"uid": {"main": format_cpuset(exclusive)}})
    refusal = refusal_of(parse_state(text, 36, False), "static", reserved, online, strict)
    moved = boot_guard.other_cpus(text, online, reserved if strict else frozenset())
    if refusal is None:
        assert moved is None
    elif refusal.code == "other_cpus":
        assert moved
    if moved:
        assert refusal is not None


@given(before=st.lists(st.integers(1, 3), min_size=1), after=st.lists(st.integers(1, 3), min_size=1))
def test_it_moves_what_a_plan_would_remove_for_its_memory(before: list[int], after: list[int]) -> None:
    text = memory_state(*before)
    machine = {node: {"memory": size * GIB} for node, size in enumerate(after)}
    refusal = memory_refusal_of(parse_memory_state(text, 36, False), "Static", default_machine(machine, []), 36)
    moved = boot_guard.other_memory(text, {str(node): amounts for node, amounts in machine.items()})
    assert bool(moved) == bool(refusal)
