# SPDX-License-Identifier: GPL-3.0-or-later
"""Steps start when those before them are done, the most urgent first; the rest is predicted; a failure ends all."""

from __future__ import annotations

import io
import json
import re
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from sandbox import progress
from sandbox.plan import Step, expected_seconds, ready, seconds_left, urgency
from sandbox.progress import Durations, Screen, roughly, run_steps
from sandbox.shell import Log, Shell, Stopped, wait_for


def step(name: str, *after: str, seconds: float = 1.0, action: Callable[[], str | None] = lambda: None) -> Step:
    return Step(name, f"{name}: working", action, after, seconds)


PLAN = [
    step("debian", seconds=40),
    step("image", "debian", seconds=5),
    step("compile", seconds=100),
    step("up", "image", "compile"),
]


def test_a_step_waits_for_those_before_it() -> None:
    assert [one.name for one in ready(PLAN, (), ())] == ["debian", "compile"]
    assert [one.name for one in ready(PLAN, ("debian", "compile"), ("debian",))] == ["image"]


def test_what_the_plan_lacks_is_done_already() -> None:
    assert [one.name for one in ready([step("image", "debian")], (), ())] == ["image"]


def test_the_longest_chain_is_the_most_urgent() -> None:
    urgent = urgency(PLAN, expected_seconds(PLAN, {}))
    assert urgent == {"compile": 101, "debian": 46, "image": 6, "up": 1}


def test_a_step_takes_as_long_as_last_time() -> None:
    assert expected_seconds(PLAN, {"compile": 20.0})["compile"] == 20
    assert expected_seconds(PLAN, {"compile": 20.0})["debian"] == 40


@pytest.mark.parametrize(
    ("running", "done", "workers", "expected"),
    [
        pytest.param({}, (), 2, 101, id="two workers: Debian beside the compiler"),
        pytest.param({}, (), 1, 146, id="one worker: one after the other"),
        pytest.param({"compile": 90.0}, ("debian", "image"), 2, 11, id="what a running step has done counts"),
        pytest.param({"compile": 300.0}, ("debian", "image"), 2, 31, id="a step that takes longer than expected"),
        pytest.param({}, ("debian", "image", "compile", "up"), 2, 0, id="nothing left"),
    ],
)
def test_the_rest_is_predicted(running: dict[str, float], done: tuple[str, ...], workers: int, expected: float) -> None:
    assert seconds_left(PLAN, expected_seconds(PLAN, {}), running, done, workers) == expected


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(3, "a few seconds"), (44, "about 40 s"), (89, "about 90 s"), (95, "about 2 min"), (700, "about 12 min")],
)
def test_estimates_are_round(seconds: float, text: str) -> None:
    assert roughly(seconds) == text


def test_durations_are_kept(tmp_path: Path) -> None:
    durations = Durations(tmp_path / "cache" / "durations.json")
    durations.add({"compile": 61.23})
    durations.add({"debian": 40.0})
    assert durations.read() == {"compile": 61.2, "debian": 40.0}


@pytest.mark.parametrize("content", ["", "[]", '{"compile": "long"}', "\x00"])
def test_a_file_of_durations_that_makes_no_sense_counts_as_empty(tmp_path: Path, content: str) -> None:
    path = tmp_path / "durations.json"
    path.write_text(content)
    assert Durations(path).read() == {}
    Durations(path).add({"compile": 1})
    assert json.loads(path.read_text()) == {"compile": 1}


def test_steps_run_in_order_and_are_measured(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    order: list[str] = []

    def act(name: str) -> Callable[[], str | None]:
        return lambda: order.append(name)

    durations = Durations(tmp_path / "durations.json")
    run_steps([step("b", "a", action=act("b")), step("a", action=act("a"))], durations, lambda: None)
    assert order == ["a", "b"]
    assert set(durations.read()) == {"a", "b"}
    lines = capsys.readouterr().out.splitlines()
    assert [line.rsplit(":", 1)[0] for line in lines] == ["[1/2] a: working", "[2/2] b: working"]


def test_what_an_earlier_step_has_done_is_dropped(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    done: list[str] = []

    def act(name: str) -> Callable[[], str | None]:
        return lambda: done.append(name)

    download = step("download", action=act("download"))
    steps = [
        download,
        replace(step("fetch", "download", action=act("fetch")), unless=lambda: done == ["download"]),
        replace(step("compile", "fetch", action=act("compile")), unless=lambda: done == ["download"]),
        step("up", "compile", action=act("up")),
    ]
    durations = Durations(tmp_path / "durations.json")
    run_steps(steps, durations, lambda: None)
    assert done == ["download", "up"]
    assert set(durations.read()) == {"download", "up"}
    lines = capsys.readouterr().out.splitlines()
    assert [line.rsplit(":", 1)[0] for line in lines] == ["[1/4] download: working", "[2/2] up: working"]


def test_two_steps_run_at_once(tmp_path: Path) -> None:
    both = threading.Barrier(2, timeout=120)

    def meet() -> None:
        both.wait()

    run_steps([step("a", action=meet), step("b", action=meet)], Durations(tmp_path / "d"), lambda: None)


def test_a_failure_ends_the_other_step_and_starts_no_more(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    shell = Shell(Log(tmp_path / "log"))
    started: list[str] = []
    begun, ended = tmp_path / "begun", tmp_path / "ended"

    def compile_long() -> None:
        shell.run(["sh", "-c", f"touch {begun}; sleep 600; touch {ended}"])

    def fail() -> None:
        while not begun.exists():
            time.sleep(0.01)
        raise OSError("no space left")

    steps = [
        step("compile", action=compile_long),
        step("debian", action=fail),
        step("up", "compile", action=lambda: started.append("up")),
    ]
    with pytest.raises(OSError, match="no space left"):
        run_steps(steps, Durations(tmp_path / "d"), shell.stop)
    assert not ended.exists()
    assert not started
    assert "[-/3] debian: working: FAILED after " in capsys.readouterr().out


def test_a_stopped_shell_is_not_taken_for_a_command_that_may_succeed_later(tmp_path: Path) -> None:
    shell = Shell(Log(tmp_path / "log"))
    shell.stop()
    with pytest.raises(Stopped):
        wait_for("the API server answers", lambda: bool(shell.run(["true"], check=False)), timeout=300)


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_the_live_region_is_replaced_and_lines_stay_above_it() -> None:
    output = Terminal()
    screen = Screen(output)
    screen.shows(["> compiling", "1 of 2"])
    screen.stays("[1/2] done")
    screen.shows(["2 of 2"])
    assert output.getvalue() == "> compiling\n1 of 2\n\x1b[2F\x1b[J[1/2] done\n2 of 2\n"


def test_lines_of_the_live_region_do_not_wrap(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "20")
    output = Terminal()
    Screen(output).shows(["x" * 100])
    assert output.getvalue() == f"{'x' * 19}\n"


def test_without_a_terminal_there_is_a_sign_of_life(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(progress, "HEARTBEAT_SECONDS", 0.1)
    monkeypatch.setattr(progress, "LIVE_SECONDS", 0.1)
    shown = threading.Event()

    def far() -> str:
        shown.set()
        return "kubelet linked"

    def compile_until_shown() -> None:
        assert shown.wait(120)

    slow = Step("a", "compiler", compile_until_shown, seconds=42, progress=far)
    run_steps([slow], Durations(tmp_path / "d"), lambda: None)
    lines = capsys.readouterr().out.splitlines()
    sign = r"  \.\.\. compiler \(\d+ s\): kubelet linked\. 0 of 1 steps done, \d+ s so far, .* left"
    assert re.fullmatch(sign, lines[0])
    assert "\x1b" not in "".join(lines)
