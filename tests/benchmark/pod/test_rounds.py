# SPDX-License-Identifier: GPL-3.0-or-later
"""The parent of the timing processes; what stands for torch here never lets them come far."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest

from benchmark.pod.environment import usable_cpus
from benchmark.pod.process import DeviceLost, recover
from benchmark.pod.rounds import Lines, Setting, child_environment, rotated, thread_settings

LEAST = ["round", "--run-id", "r1", "--arm", "none", "--round", "1"]
Start = Callable[..., subprocess.Popen[str]]
Run = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def fake_torch(tmp_path: Path) -> Callable[[str], Path]:
    """A folder whose module torch does what the text says when it is imported."""

    def write(text: str) -> Path:
        folder = tmp_path / "modules"
        folder.mkdir()
        (folder / "torch.py").write_text(text)
        return folder

    return write


@pytest.mark.parametrize(
    ("allowed", "quota", "cpus"),
    [(256, 12.0, 12), (12, None, 12), (12, 12.001, 12), (256, 12.9, 12), (2, 0.5, 1), (4, 8.0, 4)],
)
def test_usable_cpus_are_the_lesser_of_mask_and_quota(allowed: int, quota: float | None, cpus: int) -> None:
    assert usable_cpus(allowed, quota) == cpus


def test_settings_of_the_two_by_two() -> None:
    settings = thread_settings((None, 0), auto_threads="found", allowed=256, quota=12.0)
    assert settings == [Setting("auto", None, "found"), Setting("12", 12, "fixed")]


def test_auto_by_affinity_takes_the_size_of_the_mask() -> None:
    assert thread_settings((None,), auto_threads="affinity", allowed=256, quota=12.0) == [
        Setting("auto", 256, "affinity")
    ]


def test_a_setting_named_twice_runs_once() -> None:
    settings = thread_settings((0, 12, None), auto_threads="found", allowed=12, quota=None)
    assert [setting.label for setting in settings] == ["12", "auto"]


@pytest.mark.parametrize("run_id", ["r1", "r2", "2024-05-01-a"])
def test_each_setting_comes_first_as_often_as_the_others(run_id: str) -> None:
    settings = thread_settings((None, 4), auto_threads="found", allowed=4, quota=None)
    first = Counter(rotated(settings, run_id, round_)[0].label for round_ in range(1, 9))
    assert first == {"auto": 4, "4": 4}


def test_which_setting_begins_depends_on_the_run() -> None:
    settings = thread_settings((None, 4), auto_threads="found", allowed=4, quota=None)
    assert {rotated(settings, f"r{number}", 1)[0].label for number in range(20)} == {"auto", "4"}


def test_threads_are_set_as_a_user_would() -> None:
    found = {"OMP_NUM_THREADS": "7", "PATH": "/bin"}
    fixed = child_environment(Setting("12", 12, "fixed"), found)
    assert (fixed["OMP_NUM_THREADS"], fixed["MKL_NUM_THREADS"], fixed["PATH"]) == ("12", "12", "/bin")
    auto = child_environment(Setting("auto", None, "found"), found)
    assert auto["OMP_NUM_THREADS"] == "7"
    assert "MKL_NUM_THREADS" not in auto


def test_lines_come_whole() -> None:
    lines = Lines()
    assert lines.feed(b'{"a"') == []
    assert lines.feed(b': 1}\n{"b": 2}\n{"c') == [b'{"a": 1}', b'{"b": 2}']


def test_bad_arguments_end_with_2_and_start_nothing(run: Run, fake_torch: Callable[[str], Path]) -> None:
    done = run("round", "--arm", "none", "--round", "x", path=fake_torch("print('imported')"))
    assert (done.returncode, done.stdout) == (2, "")
    assert "2 problems" in done.stderr
    assert "--run-id is missing" in done.stderr
    assert "--round is 'x'" in done.stderr


def test_an_output_that_cannot_be_written_is_refused(run: Run, tmp_path: Path) -> None:
    done = run(*LEAST, "--output", str(tmp_path))
    assert done.returncode == 2
    assert "Is a directory. Name a writable file" in done.stderr


def test_an_unknown_command_is_refused(run: Run) -> None:
    done = run("rounds")
    assert done.returncode == 2
    assert "expected round or original" in done.stderr


def test_no_torch_is_said_once(run: Run, fake_torch: Callable[[str], Path]) -> None:
    done = run(*LEAST, path=fake_torch("raise ImportError('No module named torch')"))
    assert done.returncode == 3
    assert done.stdout.count("torch and torchvision cannot be imported: No module named torch") == 1
    assert all(line.startswith("# ") for line in done.stdout.splitlines())


# Finds a GPU in its first process only, and ends as soon as it has found and named one.
ONE_PROCESS_HAS_A_GPU = """
import os, sys
LINE = b'{"kind": "process", "env": {"gpu": "NVIDIA H100 PCIe", "gpu_uuid": "GPU-1", "gpu_pci": "0000:1b:00.0"}}'
FIRST = not os.path.exists("seen")
open("seen", "w").close()
class cuda:
    def init():
        if not FIRST or os.path.exists("never"):
            raise RuntimeError("No CUDA GPUs are available")
    def get_device_name(_):
        os.write(int(sys.argv[1]), LINE + b"\\n")
        raise SystemExit(3)
"""


@pytest.fixture
def fake_cuda(fake_torch: Callable[[str], Path]) -> Path:
    folder = fake_torch(ONE_PROCESS_HAS_A_GPU)
    (folder / "torchvision.py").touch()
    return folder


def test_without_a_gpu_that_was_asked_for_nothing_is_measured_on_the_cpu(
    run: Run, fake_cuda: Path, tmp_path: Path
) -> None:
    (tmp_path / "never").touch()
    done = run(*LEAST, "--device", "cuda", path=fake_cuda)
    assert done.returncode == 5
    assert done.stdout.count("device cuda: No CUDA GPUs are available") == 1


def test_a_gpu_that_goes_away_between_two_processes_ends_the_measurement(run: Run, fake_cuda: Path) -> None:
    done = run(*LEAST[:-1], "1,2", "--device", "cuda", "--threads", "auto,1", path=fake_cuda)
    assert done.returncode == 6
    assert done.stdout.count("device cuda: No CUDA GPUs are available") == 1
    last = done.stdout.splitlines()[-1]
    assert last == "# the GPU is lost: NVIDIA H100 PCIe (GPU-1, PCI address 0000:1b:00.0)."


def cuda_that(works: bool) -> SimpleNamespace:
    def call() -> None:
        if not works:
            raise RuntimeError("CUDA error: unspecified launch failure\nCUDA kernel errors might be")

    return SimpleNamespace(cuda=SimpleNamespace(empty_cache=call, synchronize=call))


def test_a_gpu_that_stops_working_is_not_taken_for_a_cell_that_fails() -> None:
    recover(cuda_that(works=True), cuda=True)
    recover(cuda_that(works=False), cuda=False)
    with pytest.raises(DeviceLost, match=r"device cuda stopped working: CUDA error: unspecified launch failure$"):
        recover(cuda_that(works=False), cuda=True)


def test_a_process_that_dies_is_named_with_its_signal(run: Run, fake_torch: Callable[[str], Path]) -> None:
    done = run(*LEAST, "--threads", "auto,1", path=fake_torch("import os\nos.kill(os.getpid(), 7)"))
    assert done.returncode == 3
    assert "none-auto round 1: ended early by SIGBUS. Most likely /dev/shm is too small" in done.stdout
    assert "none-1 round 1: ended early by SIGBUS" in done.stdout


def test_after_a_round_that_failed_no_other_begins(run: Run, fake_torch: Callable[[str], Path]) -> None:
    arguments = [*LEAST[:-1], "4,5", "--threads", "1"]
    done = run(*arguments, path=fake_torch("raise SystemExit(9)"))
    assert done.returncode == 3
    assert "none-1 round 4: ended early" in done.stdout
    assert "round 5" not in done.stdout


def test_what_torch_says_is_no_json_line(run: Run, fake_torch: Callable[[str], Path]) -> None:
    done = run(*LEAST, path=fake_torch("import os\nprint('{}')\nos.write(2, b'warning\\n')\nraise SystemExit(9)"))
    lines = done.stdout.splitlines()
    assert all(line.startswith("# ") for line in lines)
    assert any(line.endswith(": {}") for line in lines)
    assert any(line.endswith(": warning") for line in lines)
    assert any("ended early with exit code 9" in line for line in lines)


def _exists(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return "\nState:\tZ" not in Path(f"/proc/{pid}/status").read_text()


def _gone(pids: list[int]) -> bool:
    end = time.monotonic() + 120
    while time.monotonic() < end:
        if not any(map(_exists, pids)):
            return True
        time.sleep(0.05)
    return False


# The timing process and a worker of it, which say who they are and then hang.
HANGS = "import os, time\nos.fork()\nos.write(1, b'pid %d\\n' % os.getpid())\ntime.sleep(600)"


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_all_processes(start: Start, fake_torch: Callable[[str], Path], number: signal.Signals) -> None:
    process = start(*LEAST, path=fake_torch(HANGS))
    assert process.stdout is not None
    pids = [int(process.stdout.readline().split()[-1]) for _ in range(2)]
    process.send_signal(number)
    _, err = process.communicate(timeout=120)
    assert process.returncode == 128 + number
    assert f"ended by {number.name}" in err
    assert _gone(pids)


def test_the_timing_process_dies_with_a_killed_parent(start: Start, fake_torch: Callable[[str], Path]) -> None:
    process = start(*LEAST, path=fake_torch(HANGS.replace("os.fork()\n", "")))
    assert process.stdout is not None
    pid = int(process.stdout.readline().split()[-1])
    process.kill()
    process.communicate(timeout=120)
    assert _gone([pid])
