# SPDX-License-Identifier: GPL-3.0-or-later
"""Timing: warm-up and blocks of steps. A step is a function that returns the clock at the end of each of its parts.

A step begins where the previous one ended, so no stall falls between two steps. The clock counts seconds.
"""

from typing import Any, Callable, Dict, List, NamedTuple, Sequence, Tuple

Clock = Callable[[], float]
Step = Callable[[], Tuple[float, ...]]

WARM_UP_GROUP = 10
WARM_UP_TOLERANCE = 0.02
WARM_UP_CAP_S = 5.0
LEAST_STEPS = 10
# A step of a large model on a CPU takes minutes: no step begins after this time, or the block's own if that is longer.
BLOCK_CAP_S = 20.0
REPLAYS = 50
REPLAYS_AHEAD = 10


def _median(values: Sequence[float]) -> float:
    ordered = sorted(values)
    middle = len(ordered) // 2
    return ordered[middle] if len(ordered) % 2 else (ordered[middle - 1] + ordered[middle]) / 2


def warm_up(step: Step, seconds: float, clock: Clock, least: int = 0) -> int:
    """Runs steps until the medians of two groups of ten differ by at most 2 %; returns the number of steps.

    It takes at most 5 s, and at most `seconds` after the first step, which includes cuDNN's search for algorithms.
    Medians, because in a throttled arm means never settle, and its warm-up would be longer. `least` steps are run in
    any case, within the cap of a block: a loader's steps say nothing before its workers' stock is used up.
    """
    lengths: List[float] = []
    start = last = first = clock()
    steady = False
    while (len(lengths) < least and last - start < BLOCK_CAP_S) or (
        not steady and last - start < WARM_UP_CAP_S and last - first < seconds
    ):
        end = step()[-1]
        lengths.append(end - last)
        last = end
        if len(lengths) == 1:
            first = end
        if len(lengths) % WARM_UP_GROUP == 0 and len(lengths) >= 2 * WARM_UP_GROUP:
            before = _median(lengths[-2 * WARM_UP_GROUP : -WARM_UP_GROUP])
            steady = steady or abs(_median(lengths[-WARM_UP_GROUP:]) - before) <= WARM_UP_TOLERANCE * before
    return len(lengths)


def run_block(
    step: Step, seconds: float, clock: Clock, least: int = LEAST_STEPS
) -> Tuple[float, List[Tuple[float, ...]]]:
    """Runs steps for at least `seconds`, and `least` of them; none begins after 20 s, or `seconds` if that is longer.

    Returns the clock at the beginning, and at the end of each part of each step.
    """
    marks: List[Tuple[float, ...]] = []
    start = last = clock()
    cap = max(BLOCK_CAP_S, seconds)
    while (last - start < seconds or len(marks) < least) and (not marks or last - start < cap):
        ends = step()
        marks.append(ends)
        last = ends[-1]
    return start, marks


def run_replays(replay: Callable[[], Any], mark: Callable[[], Any], seconds: float, clock: Clock) -> List[float]:
    """Replays a CUDA graph for at least `seconds`; returns the ms of each replay by the GPU's own clock.

    `mark` records an event (torch.cuda.Event) in the stream. Fifty replays are enqueued in one go, and the next fifty
    before the end of the last ones: the GPU always has work, so the CPU's stalls do not count. The first replays only
    keep the GPU busy while the ones that count are enqueued.
    """
    for _replay in range(REPLAYS_AHEAD):
        replay()
    marks = [mark()]
    start = clock()
    awaited = 0
    while clock() - start < seconds or len(marks) == 1:
        for _replay in range(REPLAYS):
            replay()
            marks.append(mark())
        marks[awaited].synchronize()
        awaited = len(marks) - 1
    marks[-1].synchronize()
    return [round(float(begin.elapsed_time(end)), 3) for begin, end in zip(marks, marks[1:])]


def step_times(start: float, marks: Sequence[Tuple[float, ...]], parts: Sequence[str]) -> Dict[str, List[float]]:
    """`iter_ms` and one list for each of `parts`, in ms rounded to 0.001, from clock marks in seconds.

    A step of a single part has only `iter_ms`.
    """
    times: Dict[str, List[float]] = {name: [] for name in ("iter_ms", *parts)}
    begin = start
    for ends in marks:
        times["iter_ms"].append(round((ends[-1] - begin) * 1e3, 3))
        for name, end in zip(parts, ends):
            times[name].append(round((end - begin) * 1e3, 3))
            begin = end
        begin = ends[-1]
    return times


class Work(NamedTuple):
    """A cell ready to run. `parts` names the marks that `step` returns; `launch` enqueues a step without waiting.

    `in_stock` steps take batches that were loaded before, at most: so many warm up, and a block has at least so many.
    `replays` is set for a graph, whose steps the GPU times itself (`run_replays`).
    """

    step: Step
    parts: Tuple[str, ...]
    launch: Callable[[], Any]
    in_stock: int = 0
    replays: bool = False


def resident_work(run: Callable[[], Any], wait: Callable[[], Any], clock: Clock, *, cuda: bool) -> Work:
    """Data on the device. On a CPU launching is computing, so a step has one part."""
    if not cuda:

        def compute() -> Tuple[float, ...]:
            run()
            return (clock(),)

        return Work(compute, (), run)

    def enqueue_and_wait() -> Tuple[float, ...]:
        run()
        enqueued = clock()
        wait()
        return enqueued, clock()

    return Work(enqueue_and_wait, ("enqueue_ms", "wait_ms"), run)


def loading_work(
    fetch: Callable[[], Any],
    upload: Callable[[Any], Any],
    run: Callable[[Any], Any],
    wait: Callable[[], Any],
    clock: Clock,
    *,
    cuda: bool,
) -> Work:
    """Each step fetches and converts a batch, copies it to the device, and runs on it."""

    def launch() -> Any:
        return run(upload(fetch()))

    if not cuda:

        def load_and_compute() -> Tuple[float, ...]:
            images = fetch()
            fetched = clock()
            run(images)
            return fetched, clock()

        return Work(load_and_compute, ("data_ms",), launch)

    def load_enqueue_and_wait() -> Tuple[float, ...]:
        images = fetch()
        fetched = clock()
        images = upload(images)
        uploaded = clock()
        run(images)
        enqueued = clock()
        wait()
        return fetched, uploaded, enqueued, clock()

    return Work(load_enqueue_and_wait, ("data_ms", "h2d_ms", "enqueue_ms", "wait_ms"), launch)
