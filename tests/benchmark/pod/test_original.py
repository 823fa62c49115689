# SPDX-License-Identifier: GPL-3.0-or-later
"""The parts of the original's mode that need no torch."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest

from benchmark.pod.models import FAMILIES
from benchmark.pod.options import parse_original
from benchmark.pod.original import (
    builders,
    model_names,
    parse_available,
    parse_frequency,
    system_lines,
    write_table,
)
from benchmark.readers import read


def test_frequency_is_printed_as_psutil_does() -> None:
    cpuinfo = "processor : 0\ncpu MHz\t\t: 1100.5\nprocessor : 1\ncpu MHz\t\t: 1300.5\n"
    limits = {"scaling_cur_freq": "9\n", "scaling_min_freq": "800000\n", "scaling_max_freq": "3400000\n"}
    assert str(parse_frequency(cpuinfo, [limits, limits])) == "scpufreq(current=1200.5, min=800.0, max=3400.0)"


def test_frequency_without_cpufreq_or_without_cpuinfo() -> None:
    assert str(parse_frequency("cpu MHz : 2596.12\n", [])) == "scpufreq(current=2596.12, min=0.0, max=0.0)"
    arm = [{"scaling_cur_freq": "2000000\n", "scaling_min_freq": "", "scaling_max_freq": ""}]
    assert str(parse_frequency("", arm)) == "scpufreq(current=2000.0, min=0.0, max=0.0)"
    assert parse_frequency("", []) is None


def test_available_memory_in_bytes() -> None:
    assert parse_available("MemTotal: 9 kB\nMemFree: 1 kB\nMemAvailable:   260351264 kB\n") == 266599694336
    assert parse_available("") is None


def test_system_lines_look_like_those_of_the_logs(amd: Path) -> None:
    def shape(line: str) -> str:
        return re.sub(r"[\d.]+", "N", line.partition("'")[0])

    logged = [line for line in amd.read_text().splitlines() if re.match(r"uname| +(scpu|cpu_|mem)", line)]
    assert [shape(line) for line in system_lines().splitlines()] == [shape(line) for line in logged]


def test_models_are_the_functions_that_build_one() -> None:
    def build() -> None: ...

    class Weights: ...

    resnet = SimpleNamespace(
        __all__=["ResNet", "ResNet18_Weights", "resnet18", "resnext101_64x4d"],
        ResNet=object,
        ResNet18_Weights=Weights,
        resnet18=build,
        resnext101_64x4d=build,
    )
    assert model_names(resnet) == ["resnet18", "resnext101_64x4d"]


def zoo() -> SimpleNamespace:
    """As torchvision.models: a module for each family, with a class and two functions that build a model."""
    modules = {}
    for family in FAMILIES:
        names = (f"{family}_a", f"{family}_b")
        build = {name: (lambda name=name: f"a {name}") for name in names}
        modules[family] = SimpleNamespace(__all__=[family.title(), *names], **{family.title(): object}, **build)
    return SimpleNamespace(**modules)


def test_the_models_of_every_family_in_the_order_of_the_original() -> None:
    found = builders(zoo(), parse_original("pod original", ["--families", "all", "-b", "12"]))
    assert [name for name, _build in found] == [f"{family}_{one}" for family in FAMILIES for one in "ab"]
    assert [build() for _name, build in found][:2] == ["a mnasnet_a", "a mnasnet_b"]


def test_the_models_of_some_families_and_of_the_default() -> None:
    some = builders(zoo(), parse_original("pod original", ["--families", "vgg", "mnasnet"]))
    assert [name for name, _build in some] == ["mnasnet_a", "mnasnet_b", "vgg_a", "vgg_b"]
    assert [name for name, _build in builders(zoo(), parse_original("pod original", []))] == ["resnet_a", "resnet_b"]


def test_a_table_is_one_of_the_original(tmp_path: Path) -> None:
    path = tmp_path / "NVIDIA A100_1_gpus__half_model_train_benchmark.csv"
    write_table(str(path), {"resnet18": [15.0, 15.25], "resnet34": [25.0, 25.125]})
    assert path.read_text() == "resnet18,resnet34\n15.0,25.0\n15.25,25.125\n"
    timings = read(str(tmp_path)).processes[0].timings
    assert [timing.iter_ms for timing in timings.values()] == [(15.0, 15.25), (25.0, 25.125)]


# Finds a GPU if the file is there, and loses it with the first model.
A_GPU_THAT_IS_LOST = """
import os
__version__ = "2.4"
FOUND = os.path.exists("found")
def fail(*_arguments):
    raise RuntimeError("CUDA error: uncorrectable ECC error encountered\\nCUDA kernel errors might be")
class backends:
    class cudnn:
        version = lambda: 9
class version:
    cuda = "12.4"
class utils:
    class data:
        DataLoader = lambda *_arguments, **_options: []
class cuda:
    init = lambda: None if FOUND else fail()
    get_device_name = lambda _device: "H100"
    device_count = lambda: 1
    is_available = lambda: True
    empty_cache = synchronize = fail
randn = lambda *_shape: None
class models:
    class resnet:
        __all__ = ["ResNet", "resnet18"]
        resnet18 = fail
"""


@pytest.mark.parametrize(
    ("found", "code", "said"),
    [
        (True, 6, "H100 is lost: device cuda stopped working: CUDA error: uncorrectable ECC error encountered"),
        (False, 5, "device cuda: CUDA error"),
    ],
)
def test_a_gpu_that_is_lost_or_missing_ends_the_original(
    run: Callable[..., subprocess.CompletedProcess[str]], tmp_path: Path, found: bool, code: int, said: str
) -> None:
    (tmp_path / "modules").mkdir()
    (tmp_path / "modules/torch.py").write_text(A_GPU_THAT_IS_LOST)
    (tmp_path / "modules/torchvision.py").write_text("from torch import models")
    if found:
        (tmp_path / "found").touch()
    done = run("original", "-b", "1", "-f", "out", "--device", "cuda", path=tmp_path / "modules")
    assert done.returncode == code, done.stderr
    assert said in done.stderr
    assert "Traceback" not in done.stderr
