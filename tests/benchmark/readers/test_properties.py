# SPDX-License-Identifier: GPL-3.0-or-later
"""What holds for any input: it is read, or refused with a reason; and no measurement counts twice."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from benchmark.pod.cells import Cell
from benchmark.pod.original_lines import batch_line, failure_line
from benchmark.readers import parse_csv_folder, parse_json_lines, parse_log, parse_runs
from benchmark.results import InputError
from tests.benchmark.readers.samples import BLOCK, END, HEAD, START, TABLE, TIME, lines, measured, refused

quick = settings(database=None, deadline=None, max_examples=50)

WORDS = st.text(max_size=200) | st.text(alphabet="abc:,ms. 019\r\n", max_size=60)
VALUES: st.SearchStrategy[Any] = (
    st.none() | st.booleans() | st.integers(-2, 3) | st.floats() | st.text(max_size=5) | st.just([])
)
KEYS = ("schema", "kind", "run_id", "arm", "round", "process", "tenant", "tenants", "load", "visit", "slot", "status",
        "started", "ended", "env", "iter_ms", "wait_ms", "enqueue_ms", "counters", "control", "batch")  # fmt: skip
STEPS = st.lists(st.floats(0.5, 4.0), min_size=1, max_size=12)


@given(WORDS, st.text(alphabet='\r\n,0123456789.en"x', max_size=60))
@quick
def test_any_text_is_read_or_refused(text: str, table: str) -> None:
    calls: tuple[Callable[[], object], ...] = (
        lambda: parse_log(HEAD + text, "log", "x"),
        lambda: parse_log(START + HEAD + TIME + text + "\n" + END, "log", "x"),
        lambda: parse_json_lines({"f": text}, "x"),
        lambda: parse_json_lines({"f": measured(BLOCK) + '{"schema": 1, ' + text}, "x"),
        lambda: parse_csv_folder({TABLE: table}, "run", "x", text, text),
    )
    for call in calls:
        with contextlib.suppress(InputError):
            call()


@given(st.lists(st.dictionaries(st.sampled_from(KEYS), VALUES, max_size=3), min_size=1, max_size=4))
@quick
def test_any_lines_are_read_or_refused_with_their_place(changes: list[dict[str, object]]) -> None:
    text = measured(BLOCK) + lines(*({**BLOCK, "round": 2 + n, **change} for n, change in enumerate(changes)))
    for parse in (lambda: parse_json_lines({"f": text}, "x"), lambda: parse_runs({"f": text})):
        problems = ["f:"]
        try:
            parse()
        except InputError as error:
            problems = error.problems
        assert problems
        assert all(problem.startswith("f:") for problem in problems)


@given(st.lists(STEPS, min_size=1, max_size=4), st.data())
@quick
def test_rounds_are_read_in_any_order_of_lines_and_none_counts_twice(
    rounds: list[list[float]], data: st.DataObject
) -> None:
    blocks: list[dict[str, Any]] = [
        BLOCK
        | {
            "round": number,
            "visit": visit,
            "iter_ms": [step + number + visit / 3 + n / 1e4 for n, step in enumerate(own)],
        }
        for number, own in enumerate(rounds, 1)
        for visit in (0, 1)
    ]
    rows = measured(*blocks).splitlines(keepends=True)
    found = parse_json_lines({"f": "".join(data.draw(st.permutations(rows)))}, "x")
    expected = {
        number: (*blocks[2 * number - 2]["iter_ms"], *blocks[2 * number - 1]["iter_ms"])
        for number in range(1, len(rounds) + 1)
    }
    assert {one.round: timing.iter_ms for one in found.processes for timing in one.timings.values()} == expected
    again = data.draw(st.sampled_from([row for row in rows if '"block"' in row]))
    problems = refused(lambda: parse_json_lines({"f": "".join(rows), "g": again}, "x"))
    assert any("repeats" in problem and problem.startswith("g:1") for problem in problems)


NAMES = st.text(alphabet="abcdefgh_0123456789", min_size=1, max_size=12)


@given(NAMES, st.sampled_from(["half", "float", "double"]), st.sampled_from(["train", "inference"]),
       st.sampled_from(["oom", "skipped"]), st.text(alphabet=st.characters(exclude_categories=["C", "Z"]), max_size=60),
       st.integers(1, 10**6))  # fmt: skip
@quick
def test_what_our_original_says_is_read_back(
    model: str, precision: str, mode: str, status: str, reason: str, batch: int
) -> None:
    line = failure_line(model, precision, mode, status, reason) + "\n"
    word = "Training" if mode == "train" else "Inference"
    log = f"{START}{batch_line(batch)}\nBenchmarking {word} {precision} precision type {model} \n{line}{END}"
    cell = Cell(model, precision, mode, batch)
    table = "resnet18\n20\n"
    for found in (
        parse_log(log, "log", "x"),
        parse_csv_folder({TABLE: table}, "run", "x", START + line + END, f'{{"BATCH_SIZE": {batch}, "NUM_GPU": 1}}'),
    ):
        timing = found.processes[0].timings[cell]
        assert (timing.status, timing.reason) == (status, reason)
