# SPDX-License-Identifier: GPL-3.0-or-later
"""The matrix, the lines and the files of ryujaehun/pytorch-gpu-benchmark, so that old results stay comparable.

Its loader too: a float tensor with the sample as innermost axis, from which eight workers gather. The lines "start" and
"end" come from its test.sh and are not printed here. New: running out of memory costs a column, not the run, and the
log and system_info.txt say so (`original_lines`); they also say the batch size; and the tables are rewritten after each
model, so that a killed run keeps its results.

By default it times the ResNets at batch 64, which is the comparison that this project started from. The original's own
default is every family at batch 12.
"""

import csv
import glob
import inspect
import json
import os
import platform
import sys
import time
from typing import Any, Callable, Dict, List, NamedTuple, Optional, Sequence, Tuple

from . import loader, models
from .cgroup import read_text
from .environment import parse_cpu_model
from .options import BadArguments, OriginalOptions
from .original_lines import batch_line, failure_line
from .process import DEVICE_LOST, DEVICE_MISSING, DONE, NOTHING_TIMED, DeviceLost, DeviceMissing, find_device, recover

PRECISIONS = ("float", "half", "double")
WORKERS = 8
IMAGE_SIZE = 224
_INDENT = 20  # of the lines on CPUs and memory

Durations = Dict[str, List[float]]


class Frequency(NamedTuple):
    """MHz, in the notation of psutil.cpu_freq()."""

    current: float
    min: float
    max: float

    def __str__(self) -> str:
        return f"scpufreq(current={self.current}, min={self.min}, max={self.max})"


def parse_frequency(cpuinfo: str, cpufreq: Sequence[Dict[str, str]]) -> Optional[Frequency]:
    """Means over the CPUs, as in psutil: the current frequency from /proc/cpuinfo, the limits from cpufreq, else 0.

    `cpufreq` has the files scaling_cur_freq, scaling_min_freq and scaling_max_freq of each CPU, in kHz.
    """
    lines = (line.partition(":") for line in cpuinfo.splitlines())
    current = [float(value) for key, _colon, value in lines if key.strip() == "cpu MHz"]

    def megahertz(file: str) -> List[float]:
        return [int(files[file]) / 1e3 for files in cpufreq if files.get(file, "").strip().isdigit()]

    current = current or megahertz("scaling_cur_freq")
    if not current:
        return None
    return Frequency(_mean(current), _mean(megahertz("scaling_min_freq")), _mean(megahertz("scaling_max_freq")))


def _mean(values: List[float]) -> float:
    return sum(values) / len(values) if values else 0.0


def _frequency() -> Optional[Frequency]:
    files = ("scaling_cur_freq", "scaling_min_freq", "scaling_max_freq")
    folders = glob.glob("/sys/devices/system/cpu/cpu[0-9]*/cpufreq")
    found = [{file: read_text(os.path.join(folder, file)) or "" for file in files} for folder in folders]
    return parse_frequency(read_text("/proc/cpuinfo") or "", found)


def parse_available(meminfo: str) -> Optional[int]:
    """MemAvailable of /proc/meminfo in bytes."""
    for line in meminfo.splitlines():
        if line.startswith("MemAvailable:"):
            return int(line.split()[1]) * 1024
    return None


def system_lines() -> str:
    """The lines about host and CPUs, indented as in the original."""
    blanks = " " * _INDENT
    return (
        f"{platform.uname()}\n{blanks} {_frequency()}\n{blanks}cpu_count: {os.cpu_count()}\n"
        f"{blanks}memory_available: {parse_available(read_text('/proc/meminfo') or '')}"
    )


def model_names(family: Any) -> List[str]:
    """The original's `__all__[1:]` of a module of torchvision.models, without the enums and classes of newer versions.

    Models of newer torchvision, such as resnext101_64x4d, are included, because the original would time them too. Cells
    are independent, so the models of old results stay comparable.
    """
    return [name for name in family.__all__[1:] if inspect.isfunction(getattr(family, name))]


def builders(zoo: Any, options: OriginalOptions) -> List[Tuple[str, Callable[[], Any]]]:
    """Name and function of every model of torchvision.models that `options` ask for, in the order of the original."""
    families = [getattr(zoo, name) for name in options.families]
    return [(name, getattr(family, name)) for family in families for name in options.models or model_names(family)]


class ScatteredImages:
    """The original's dataset: items are strided views, because the sample is the innermost axis."""

    def __init__(self, torch: Any, length: int) -> None:
        self._length = length
        self._data = torch.randn(3, IMAGE_SIZE, IMAGE_SIZE, length)

    def __getitem__(self, index: int) -> Any:
        return self._data[:, :, :, index]

    def __len__(self) -> int:
        return self._length


class Original:
    """One run of the original's matrix on one device. `tell` takes the lines that go into system_info.txt too."""

    def __init__(
        self, torch: Any, torchvision: Any, device: str, options: OriginalOptions, tell: Callable[[str], None]
    ) -> None:
        self._torch, self._device, self._options, self._tell = torch, device, options, tell
        self._batch = options.batch * options.gpus
        self._builders = builders(torchvision.models, options)
        images = ScatteredImages(torch, self._batch * (options.warm_up + options.tests))
        self._loader = torch.utils.data.DataLoader(
            images,
            batch_size=self._batch,
            shuffle=False,
            num_workers=WORKERS,
            multiprocessing_context="fork",
        )

    def _wait(self) -> None:
        if self._device == "cuda":
            self._torch.cuda.synchronize()

    def _durations(self, build: Callable[[], Any], precision: str, *, train: bool) -> List[float]:
        """ms of each step after the warm-ups: copy to the device and compute, without conversion."""
        torch, options = self._torch, self._options
        model = build()
        if options.gpus > 1:
            model = torch.nn.DataParallel(model, device_ids=range(options.gpus))
        model = getattr(model, precision)().to(self._device)
        model.train(train)
        targets = torch.LongTensor(self._batch).random_(options.classes).to(self._device)
        criterion = torch.nn.CrossEntropyLoss()
        durations = []
        for step, images in enumerate(self._loader):
            images = getattr(images, precision)()
            self._wait()
            start = time.time()
            if train:
                model.zero_grad()
                criterion(model(images.to(self._device)), targets).backward()
            else:
                with torch.no_grad():
                    model(images.to(self._device))
            self._wait()
            if step >= options.warm_up:
                durations.append((time.time() - start) * 1000)
        return durations

    def _cell(self, name: str, build: Callable[[], Any], precision: str, *, train: bool) -> Optional[List[float]]:
        """ms of each step; None if the cell cannot be timed. Raises DeviceLost."""
        word = "train" if train else "inference"
        print(f"Benchmarking {'Training' if train else 'Inference'} {precision} precision type {name} ", flush=True)
        try:
            durations = self._durations(build, precision, train=train)
        except (RuntimeError, ValueError, MemoryError, NotImplementedError) as error:
            status = "oom" if models.is_out_of_memory(error) else "skipped"
            self._tell(failure_line(name, precision, word, status, models.first_line(error)))
        else:
            print(f"{name} model average {word} time : {sum(durations) / len(durations)}ms", flush=True)
            return durations
        recover(self._torch, cuda=self._device == "cuda")
        return None

    def run(self, prefix: str) -> int:
        """Times all cells, writes each table to `prefix` and its name, and returns the number of timed cells.

        Raises DeviceLost; the tables then have what was timed before.
        """
        timed = 0
        for precision in self._options.precisions or PRECISIONS:
            for train in (True, False):
                table: Durations = {}
                for name, build in self._builders:
                    durations = self._cell(name, build, precision, train=train)
                    if durations is not None:
                        table[name] = durations
                        word = "train" if train else "inference"
                        write_table(f"{prefix}_{precision}_model_{word}_benchmark.csv", table)
                timed += len(table)
        return timed


def write_table(path: str, table: Durations) -> None:
    """One column per model, one row per step, as pandas writes it; the file is replaced atomically."""
    with open(path + ".part", "w", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(table)
        writer.writerows(zip(*table.values()))
    os.replace(path + ".part", path)


def _now() -> str:
    return time.strftime("%Y/%m/%d %H:%M:%S")


def run_original(options: OriginalOptions) -> int:
    """Runs everything; returns 0, or after printing why: 3 if nothing can be timed, DEVICE_MISSING or DEVICE_LOST.

    Raises BadArguments for the folder.

    The original would overwrite an earlier run's tables in the folder one by one; here they are refused.
    """
    try:
        os.makedirs(options.folder, exist_ok=True)
    except OSError as error:
        raise BadArguments([f"--folder {options.folder}: {error.strerror}. Name a writable folder"]) from error
    try:
        import torch
        import torchvision

        device = find_device(torch, options.device)
    except (ImportError, DeviceMissing) as error:
        print(f"{error}", file=sys.stderr)
        return DEVICE_MISSING if isinstance(error, DeviceMissing) else NOTHING_TIMED
    batch = options.batch * options.gpus
    visible = torch.cuda.device_count() if device == "cuda" else 0
    shortage = loader.shm_shortage(loader.shm_free(), batch, IMAGE_SIZE, WORKERS, "")
    if device == "cuda" and options.gpus > visible:
        shortage = f"--NUM_GPU is {options.gpus}: expected at most {visible}, as many as are visible."
    if shortage is not None:
        print(shortage, file=sys.stderr)
        return NOTHING_TIMED
    torch.backends.cudnn.benchmark = True
    cuda = device == "cuda"
    name = torch.cuda.get_device_name(0) if cuda else parse_cpu_model(read_text("/proc/cpuinfo") or "") or "CPU"
    prefix = os.path.join(options.folder, f"{name.replace('/', '-')}_{options.gpus}_gpus_")
    _refuse_old_tables(prefix, options.folder)
    gpu_lines = [
        f"Number of GPUs on current device : {visible}",
        f"CUDA Version : {torch.version.cuda}",
        f"Cudnn Version : {torch.backends.cudnn.version()}",
        f"Device Name : {name}",
        batch_line(batch),
    ]
    info = _begin(options, gpu_lines)

    def tell(line: str) -> None:
        print(line, flush=True)
        with open(info, "a") as file:
            file.write(line + "\n")

    try:
        timed = Original(torch, torchvision, device, options, tell).run(prefix)
    except DeviceLost as error:
        print(f"{name} is lost: {error}", file=sys.stderr)
        return DEVICE_LOST
    if not timed:
        print("no cell could be timed: see the reasons above", file=sys.stderr)
        return NOTHING_TIMED
    tell(f"benchmark end : {_now()}")
    return DONE


def _begin(options: OriginalOptions, gpu_lines: Sequence[str]) -> str:
    """Prints the header and writes config.json and system_info.txt; returns the path of the latter."""
    with open(os.path.join(options.folder, "config.json"), "w") as file:
        json.dump(_configuration(options), file, indent=2)
    start, system = f"benchmark start : {_now()}", system_lines()
    print("\n".join([start, *gpu_lines, system]), flush=True)
    info = os.path.join(options.folder, "system_info.txt")
    with open(info, "w") as file:
        file.write("\n".join([start, "system_configs\n", system, "gpu_configs\n", *gpu_lines]) + "\n")
    return info


def _refuse_old_tables(prefix: str, folder: str) -> None:
    """:raises BadArguments: if this run would mix its tables with those of an earlier one, which config.json hides"""
    old = sorted(os.path.basename(path) for path in glob.glob(f"{glob.escape(prefix)}_*_benchmark.csv"))
    if old:
        raise BadArguments(
            [f"--folder {folder}: has tables of an earlier run ({old[0]}, ...). Name another folder, or remove them"]
        )


def _configuration(options: OriginalOptions) -> Dict[str, Any]:
    """config.json: the original's options, with the batch multiplied by the number of GPUs as in the original."""
    return {
        "WARM_UP": options.warm_up,
        "NUM_TEST": options.tests,
        "BATCH_SIZE": options.batch * options.gpus,
        "NUM_CLASSES": options.classes,
        "NUM_GPU": options.gpus,
        "folder": options.folder,
    }
