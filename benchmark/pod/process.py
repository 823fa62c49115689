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
from typing import Any, Callable, Dict, Iterator, List, NamedTuple, Optional, Sequence, Tuple, Union, cast

from . import cgroup, counters, environment, gpu, loader, measure, models, slots
from .cells import GRAPH_MODE, Cell, controls, grouped_order, matrix_cells
from .words import count

SCHEMA = 1
# Exit codes: with the last three, no further process of the pod can do better.
DONE, NOTHING_TIMED, NO_TORCH, DEVICE_MISSING, DEVICE_LOST = 0, 3, 4, 5, 6
DEFAULT_MATRIX = {"cuda": "default", "cpu": "cpu"}
DEFAULT_IMAGE_SIZE = {"cuda": 224, "cpu": 32}
DEFAULT_WORKERS = {"cuda": 8, "cpu": 2}

_SET_PDEATHSIG = 1  # prctl(2)
_GRAPH_WARM_UPS = 3  # as torch's documentation of CUDA graphs asks
VISITS = 2  # of each cell, apart in the order: so the spread within a process can be told from that between processes

Emit = Callable[[Dict[str, Any]], None]


class Task(NamedTuple):
    """What this process has to do; None where the device decides. With `warm_up` it warms the machine, untimed."""

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
    warm_up: bool = False
    place: slots.Place = slots.Place()

    def to_json(self) -> str:
        return json.dumps(self._asdict())

    @classmethod
    def from_json(cls, text: str) -> "Task":
        values = json.loads(text)
        if values["cells"] is not None:
            values["cells"] = [Cell(*cell) for cell in values["cells"]]
        values["place"] = slots.Place.from_list(values["place"])
        return cls(**values)


def write_all(descriptor: int, data: bytes) -> None:
    """Writes without a buffer, so that a killed program leaves complete lines."""
    while data:
        data = data[os.write(descriptor, data) :]


class DeviceMissing(Exception):
    """The requested device does not exist."""


class DeviceLost(Exception):
    """CUDA worked, and does not any more."""


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


def recover(torch: Any, *, cuda: bool) -> None:
    """Frees memory after a cell failed. Call it when no exception is referenced any more.

    Raises DeviceLost with torch's message if the GPU failed, rather than the cell: it fell off the bus, or its context
    is corrupt, after which every call fails (cudaErrorECCUncorrectable and others in the CUDA Runtime API).
    """
    gc.collect()
    if not cuda:
        return
    try:
        torch.cuda.empty_cache()
        torch.cuda.synchronize()
    except RuntimeError as error:
        raise DeviceLost(f"device cuda stopped working: {models.first_line(error)}") from error


class Bench:
    """torch on one device; turns cells into work, and work into the values of a block."""

    def __init__(self, torch: Any, torchvision: Any, device: str, task: Task) -> None:
        self.torch, self.torchvision, self.device = torch, torchvision, device
        self.cuda = device == "cuda"
        self.graphs = self.cuda and hasattr(torch.cuda, "CUDAGraph")  # torch 1.10
        self.image_size = task.image_size or DEFAULT_IMAGE_SIZE[device]
        self.workers = DEFAULT_WORKERS[device] if task.workers is None else task.workers
        self.block_seconds = task.block_seconds
        self.time: Union[slots.OwnTime, slots.SlotTime] = slots.OwnTime(task.block_seconds)
        group = cgroup.own_group()
        self.gpu = gpu.Gpu() if self.cuda else None
        self._sampler = counters.Sampler(group)
        self._criterion = torch.nn.CrossEntropyLoss()
        self._pool: Optional[loader.ImagePool] = None
        # Building a model on few CPUs takes longer than a slot has
        self.keeps_models = task.place.start_file is not None
        self._models: Dict[Tuple[str, str], List[Any]] = {}
        self.environment = {
            **environment.of_cpus(group),
            **environment.of_torch(torch, torchvision, device, self.gpu.identity if self.gpu else gpu.GpuIdentity()),
            "threads_by": task.threads_by,
            "workers": self.workers,
            "image_size": self.image_size,
            **task.env,
        }

    def models_of(self, cell: Cell) -> List[Any]:
        """Where the cell's model is kept: empty before it is built."""
        return self._models.setdefault((cell.model, cell.precision), [])

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

                work = measure.loading_work(fetch, upload, run, self._wait, clock, cuda=self.cuda)
                yield work._replace(in_stock=loader.prefetched(self.workers))
                return
            images = models.random_images(torch, batch, self.image_size, cell.precision, self.device)
            if cell.mode == GRAPH_MODE:
                graph = self._captured(lambda: run(images))
                yield measure.resident_work(graph.replay, self._wait, clock, cuda=True)._replace(replays=True)
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

    def warm_up_cell(self, cell: Cell, model: Any) -> Dict[str, Any]:
        """Runs a cell until it is warm, and times nothing. Raises whatever torch raises."""
        with self._work(cell, model) as work:
            self._warm_up(work)
        return {"status": "ok"}

    def _warm_up(self, work: measure.Work) -> None:
        self.time.warm_up(work.step, work.in_stock)

    def time_cell(self, cell: Cell, model: Any) -> Dict[str, Any]:
        """Values of a block with status ok. Raises whatever torch raises.

        The CPU's speed is taken before the loader has workers, which slow the other thread of their core. Between
        warm-up and block only counters are read, because the workers fill their stock in a pause.
        """
        reference_ms = counters.reference_loop()
        with self._work(cell, model) as work:
            self._warm_up(work)
            before = self._sampler.before()
            started = time.time()
            times = self._block(work)
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
        return {"status": "ok", "started": round(started, 3), **times, "counters": found}

    def _block(self, work: measure.Work) -> Dict[str, List[float]]:
        if work.replays:
            return {"iter_ms": measure.run_replays(work.launch, self._mark, self.block_seconds, time.perf_counter)}
        start, marks = self.time.block(work.step, work.in_stock)
        return measure.step_times(start, marks, work.parts)

    def _mark(self) -> Any:
        event = self.torch.cuda.Event(enable_timing=True)
        event.record()
        return event

    def try_cell(self, cell: Cell, model: Any, run: Callable[[Cell, Any], Dict[str, Any]]) -> Dict[str, Any]:
        """Values of a block, whatever its status; `model` builds or returns the model, `run` is a method of this.

        Raises DeviceLost.
        """
        started = {"started": round(time.time(), 3)}
        reason = self.obstacle(cell)
        if reason is not None:
            return {"status": "skipped", "reason": reason, **started}
        try:
            return run(cell, model())
        except (RuntimeError, ValueError, MemoryError, NotImplementedError) as error:
            status = "oom" if models.is_out_of_memory(error) else "skipped"
            reason = models.first_line(error)
        recover(self.torch, cuda=self.cuda)
        return {"status": status, "reason": reason, **started}


def time_cells(bench: Bench, order: Sequence[Sequence[Cell]], emit: Emit, control: Sequence[Cell]) -> int:
    """Visits all cells in this order, and then again; emits a block for each visit and returns how many were timed.

    In slots there is one visit: the tenants are several, and their time is dear.
    """
    timed = position = 0
    for visit in range(VISITS if isinstance(bench.time, slots.OwnTime) else 1):
        for cell, values in _visits(bench, order, bench.time_cell):
            timed += values["status"] == "ok"
            place = {"control": cell in control, "order": position, "visit": visit, **bench.time.line()}
            emit({"kind": "block", **cell._asdict(), **place, **values})
            print(f"{cell}: {_outcome(values)}", flush=True)
            position += 1
    return timed


def warm_up_cells(bench: Bench, order: Sequence[Sequence[Cell]]) -> int:
    """Runs every cell once without timing it, and returns how many ran."""
    return sum(values["status"] == "ok" for _cell, values in _visits(bench, order, bench.warm_up_cell))


def _visits(
    bench: Bench, order: Sequence[Sequence[Cell]], run: Callable[[Cell, Any], Dict[str, Any]]
) -> Iterator[Tuple[Cell, Dict[str, Any]]]:
    """Each cell with its values, in this order. A model is kept for its group of cells."""
    for group in order:
        kept = bench.models_of(group[0])
        model = functools.partial(_build_once, bench, group[0], kept)
        for cell in group:
            bench.time.next_cell()
            yield cell, bench.try_cell(cell, model, run)
        if not bench.keeps_models:
            kept.clear()


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
    return f"{count(len(steps), 'step')}, mean {sum(steps) / len(steps):.2f} ms"


def run_task(task: Task, emit: Emit, began: float) -> int:
    """Does the work of the process, which `began` at this time in seconds since 1970, and returns its exit code."""
    try:
        import torch
        import torchvision
    except ImportError as error:
        print(f"torch and torchvision cannot be imported: {error}. Use an image that has both.", flush=True)
        return NO_TORCH
    try:
        device = find_device(torch, task.device)
    except DeviceMissing as error:
        print(error, flush=True)
        return DEVICE_MISSING
    torch.backends.cudnn.benchmark = True  # as the original
    bench = Bench(torch, torchvision, device, task)
    found = bench.environment
    print(
        f"{found['gpu'] or found['cpu_model']}, torch {found['torch']}, {count(torch.get_num_threads(), 'thread')}",
        flush=True,
    )
    cells = task.cells
    if cells is None:
        cells = matrix_cells(task.matrix or DEFAULT_MATRIX[device], cuda=bench.cuda, graphs=bench.graphs)
    order = grouped_order(cells, f"{task.run_id} {task.arm} {task.round}")
    control = controls(cells, cuda=bench.cuda, graphs=bench.graphs)
    worked = False
    try:
        if task.place.start_file is not None and not task.warm_up:
            warm_up_cells(bench, order)  # cuDNN's search takes longer than a slot has
        for load in (slots.SOLO,) if task.warm_up else task.place.loads:
            worked = run_phase(bench, task, load, order, control, emit, began) or worked
            began = time.time()
    except slots.NotStarted as error:
        print(error, flush=True)
        return NOTHING_TIMED
    except DeviceLost as error:
        print(error, flush=True)
        return DEVICE_LOST
    if not worked:
        print("no cell could be timed: see the reasons above", flush=True)
        return NOTHING_TIMED
    return DONE


def run_phase(
    bench: Bench,
    task: Task,
    load: str,
    order: Sequence[Sequence[Cell]],
    control: Sequence[Cell],
    emit: Emit,
    began: float,
) -> bool:
    """Times every cell under one load, or warms the machine; returns whether any cell ran, or was another tenant's.

    :raises slots.NotStarted: if nobody announces when the phase begins
    :raises DeviceLost: if the GPU stops working
    """
    place = task.place
    head = {"schema": SCHEMA, "run_id": task.run_id, "arm": task.arm, "round": task.round, "process": 0}
    head.update(place.head(load))
    if task.warm_up:
        head.update(process=1, warm_up=True)
    elif place.start_file is not None:
        emit({**head, "kind": "ready"})
        begin = slots.wait_for_start(place.start_file, slots.phase_key(task.arm, task.round, load))
        if not place.takes_part(load):
            return True
        bench.time = slots.SlotTime(begin, place.slot_seconds, task.block_seconds)
    emit({**head, "kind": "process", "began": round(began, 3), "env": bench.environment})
    if task.warm_up:
        worked = warm_up_cells(bench, order)
        print(f"warm-up of the machine: {count(worked, 'cell')} ran, nothing counts", flush=True)
    else:
        worked = time_cells(bench, order, lambda line: emit({**head, **line}), control)
    if not worked:
        return False
    emit({**head, "kind": "end", "status": "done", "ended": round(time.time(), 3)})
    return True


def main(arguments: Sequence[str]) -> int:
    """Arguments: the file descriptor for JSON lines, and the task. The process dies with its parent."""
    began = time.time()
    channel, task = int(arguments[0]), Task.from_json(arguments[1])
    ctypes.CDLL(None).prctl(_SET_PDEATHSIG, signal.SIGKILL)

    def emit(line: Dict[str, Any]) -> None:
        write_all(channel, (json.dumps(line, allow_nan=False) + "\n").encode())

    return run_task(task, emit, began)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
