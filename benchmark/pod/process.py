# SPDX-License-Identifier: GPL-3.0-or-later
"""One fresh process of one arm: times every cell and writes a JSON line for each to a given file descriptor.

Started by rounds.py. Its stdout and stderr are for people: progress, and torch's messages.
"""

import contextlib
import ctypes
import functools
import gc
import json
import os
import signal
import sys
import time
from typing import Any, Callable, Dict, Iterator, List, NamedTuple, Optional, Sequence, cast

from . import cgroup, counters, environment, gpu, loader, measure, models
from .cells import GRAPH_MODE, Cell, controls, grouped_order, matrix_cells

SCHEMA = 1
DONE, NOTHING_TIMED, DEVICE_MISSING = 0, 3, 4
DEFAULT_MATRIX = {"cuda": "default", "cpu": "cpu"}
DEFAULT_IMAGE_SIZE = {"cuda": 224, "cpu": 32}
DEFAULT_WORKERS = {"cuda": 8, "cpu": 2}

_SET_PDEATHSIG = 1  # prctl(2)
_GRAPH_WARM_UPS = 3  # as torch's documentation of CUDA graphs asks

Emit = Callable[[Dict[str, Any]], None]


class Task(NamedTuple):
    """What this process has to do; None where the device decides."""

    run_id: str
    arm: str
    round: int
    cells: Optional[List[Cell]]
    matrix: Optional[str]
    device: str
    block_seconds: float
    workers: Optional[int]
    image_size: Optional[int]
    threads_by: str
    env: Dict[str, str]

    def to_json(self) -> str:
        return json.dumps(self._asdict())

    @classmethod
    def from_json(cls, text: str) -> "Task":
        values = json.loads(text)
        if values["cells"] is not None:
            values["cells"] = [Cell(*cell) for cell in values["cells"]]
        return cls(**values)


def write_all(descriptor: int, data: bytes) -> None:
    """Writes without a buffer, so that a killed program leaves complete lines."""
    while data:
        data = data[os.write(descriptor, data) :]


class DeviceMissing(Exception):
    """The requested device does not exist."""


def find_device(torch: Any, requested: str) -> str:
    """`cuda` or `cpu`. Raises DeviceMissing with torch's message if CUDA is requested but has no device."""
    if requested == "cpu" or (requested == "auto" and not torch.cuda.is_available()):
        return "cpu"
    try:
        torch.cuda.init()
        torch.cuda.get_device_name(0)
    except (RuntimeError, AssertionError) as error:
        raise DeviceMissing(
            f"device cuda: {models.first_line(error)}. Give the pod a GPU and its driver, or use --device cpu."
        ) from error
    return "cuda"


class Bench:
    """torch on one device; turns cells into work, and work into the values of a block."""

    def __init__(self, torch: Any, torchvision: Any, device: str, task: Task) -> None:
        self.torch, self.torchvision, self.device = torch, torchvision, device
        self.cuda = device == "cuda"
        self.graphs = self.cuda and hasattr(torch.cuda, "CUDAGraph")  # torch 1.10
        self.image_size = task.image_size or DEFAULT_IMAGE_SIZE[device]
        self.workers = DEFAULT_WORKERS[device] if task.workers is None else task.workers
        self.block_seconds = task.block_seconds
        group = cgroup.own_group()
        self.gpu = gpu.Gpu() if self.cuda else None
        self._sampler = counters.Sampler(group)
        self._criterion = torch.nn.CrossEntropyLoss()
        self._pool: Optional[loader.ImagePool] = None
        self.environment = {
            **environment.of_cpus(group),
            **environment.of_torch(torch, torchvision, device, self.gpu.identity if self.gpu else gpu.GpuIdentity()),
            "threads_by": task.threads_by,
            "workers": self.workers,
            "image_size": self.image_size,
            **task.env,
        }

    def _wait(self) -> None:
        if self.cuda:
            self.torch.cuda.synchronize()

    def build(self, cell: Cell) -> Any:
        return models.build_model(self.torch, self.torchvision, cell.model, cell.precision, self.device)

    def obstacle(self, cell: Cell) -> Optional[str]:
        """Why a cell cannot be timed here, as far as it is known before the attempt."""
        if cell.mode == GRAPH_MODE and not self.graphs:
            found = f"torch {self.torch.__version__} on {self.device}"
            return f"CUDA graphs need CUDA and torch 1.10 or later: this is {found}"
        if cell.loads:
            return loader.shm_shortage(
                loader.shm_free(), _batch(cell), self.image_size, self.workers, ", or fewer --workers"
            )
        return None

    @contextlib.contextmanager
    def _work(self, cell: Cell, model: Any) -> Iterator[measure.Work]:
        torch, clock = self.torch, time.perf_counter
        models.prepare_model(model, trains=cell.trains)
        batch = _batch(cell)
        criterion, targets = self._criterion, models.random_targets(torch, batch, self.device)

        def run(images: Any) -> Any:
            if not cell.trains:
                return model(images)
            model.zero_grad()
            return criterion(model(images), targets).backward()

        with contextlib.ExitStack() as stack:
            if not cell.trains:
                stack.enter_context(torch.no_grad())
            if cell.loads:
                if self._pool is None:
                    self._pool = loader.ImagePool(torch, self.image_size)
                source = loader.batches(torch, self._pool, batch, self.workers)

                def fetch() -> Any:
                    return getattr(next(source), cell.precision)()

                def upload(images: Any) -> Any:
                    return images.to(self.device)

                yield measure.loading_work(fetch, upload, run, self._wait, clock, cuda=self.cuda)
                return
            images = models.random_images(torch, batch, self.image_size, cell.precision, self.device)
            if cell.mode == GRAPH_MODE:
                graph = self._captured(lambda: run(images))
                yield measure.resident_work(graph.replay, self._wait, clock, cuda=True)
                return
            yield measure.resident_work(lambda: run(images), self._wait, clock, cuda=self.cuda)

    def _captured(self, run: Callable[[], Any]) -> Any:
        """Graph of one step. cuDNN chooses its algorithms in the warm-up, which cannot be captured."""
        torch = self.torch
        side = torch.cuda.Stream()
        side.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(side):
            for _replay in range(_GRAPH_WARM_UPS):
                run()
        torch.cuda.current_stream().wait_stream(side)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            run()
        return graph

    def time_cell(self, cell: Cell, model: Any) -> Dict[str, Any]:
        """Values of a block with status ok. Raises whatever torch raises."""
        with self._work(cell, model) as work:
            measure.warm_up(work.step, self.block_seconds, time.perf_counter)
            reference_ms = counters.reference_loop()
            before = self._sampler.before()
            started = time.time()
            start, marks = measure.run_block(work.step, self.block_seconds, time.perf_counter)
            after = self._sampler.after()
            cpu = counters.current_cpu()
            found = {
                **counters.between(before, after),
                "canary_ms": round(reference_ms, 3),
                "cpu_mhz": None if cpu is None else counters.cpu_mhz(cpu),
            }
            if self.gpu:
                work.launch()  # an idle GPU would report idle clocks
                found.update(self.gpu.sample())
                self._wait()
        return {
            "status": "ok",
            "started": round(started, 3),
            **measure.step_times(start, marks, work.parts),
            "counters": found,
        }

    def free(self) -> None:
        """Frees memory after a cell ran out of it. Call it when no exception is referenced any more."""
        gc.collect()
        if self.cuda:
            self.torch.cuda.empty_cache()

    def try_cell(self, cell: Cell, model: Any) -> Dict[str, Any]:
        """Values of a block, whatever its status; `model` builds or returns the model."""
        started = {"started": round(time.time(), 3)}
        reason = self.obstacle(cell)
        if reason is not None:
            return {"status": "skipped", "reason": reason, **started}
        try:
            return self.time_cell(cell, model())
        except (RuntimeError, ValueError, MemoryError, NotImplementedError) as error:
            status = "oom" if models.is_out_of_memory(error) else "skipped"
            reason = models.first_line(error)
        self.free()
        return {"status": status, "reason": reason, **started}


def time_cells(bench: Bench, order: Sequence[Sequence[Cell]], emit: Emit, control: Sequence[Cell]) -> int:
    """Emits a block for each cell and returns how many were timed. A model is kept for its group of cells."""
    timed = position = 0
    for group in order:
        kept: List[Any] = []
        model = functools.partial(_build_once, bench, group[0], kept)
        for cell in group:
            values = bench.try_cell(cell, model)
            timed += values["status"] == "ok"
            emit({"kind": "block", **cell._asdict(), "control": cell in control, "order": position, **values})
            print(f"{cell}: {_outcome(values)}", flush=True)
            position += 1
        kept.clear()
    return timed


def _batch(cell: Cell) -> int:
    return cast(int, cell.batch)  # only cells that were read from a log lack it


def _build_once(bench: Bench, cell: Cell, kept: List[Any]) -> Any:
    if not kept:
        kept.append(bench.build(cell))
    return kept[0]


def _outcome(values: Dict[str, Any]) -> str:
    if values["status"] != "ok":
        return f"{values['status']}: {values['reason']}"
    steps = values["iter_ms"]
    return f"{len(steps)} steps, mean {sum(steps) / len(steps):.2f} ms"


def run_task(task: Task, emit: Emit) -> int:
    """Does the work of the process and returns its exit code."""
    try:
        import torch
        import torchvision
    except ImportError as error:
        print(f"torch and torchvision cannot be imported: {error}. Use an image that has both.", flush=True)
        return DEVICE_MISSING
    try:
        device = find_device(torch, task.device)
    except DeviceMissing as error:
        print(error, flush=True)
        return DEVICE_MISSING
    torch.backends.cudnn.benchmark = True  # as the original
    bench = Bench(torch, torchvision, device, task)
    found = bench.environment
    print(f"{found['gpu'] or found['cpu_model']}, torch {found['torch']}, {found['threads']} threads", flush=True)
    head = {"schema": SCHEMA, "run_id": task.run_id, "arm": task.arm, "round": task.round, "process": 0}
    emit({**head, "kind": "process", "env": bench.environment})
    cells = task.cells
    if cells is None:
        cells = matrix_cells(task.matrix or DEFAULT_MATRIX[device], cuda=bench.cuda, graphs=bench.graphs)
    order = grouped_order(cells, f"{task.run_id} {task.arm} {task.round}")
    control = controls(cells, cuda=bench.cuda, graphs=bench.graphs)
    timed = time_cells(bench, order, lambda line: emit({**head, **line}), control)
    if not timed:
        print("no cell could be timed: see the reasons above", flush=True)
        return NOTHING_TIMED
    emit({**head, "kind": "end", "status": "done"})
    return DONE


def main(arguments: Sequence[str]) -> int:
    """Arguments: the file descriptor for JSON lines, and the task. The process dies with its parent."""
    channel, task = int(arguments[0]), Task.from_json(arguments[1])
    ctypes.CDLL(None).prctl(_SET_PDEATHSIG, signal.SIGKILL)

    def emit(line: Dict[str, Any]) -> None:
        write_all(channel, (json.dumps(line, allow_nan=False) + "\n").encode())

    return run_task(task, emit)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
