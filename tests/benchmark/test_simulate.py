# SPDX-License-Identifier: GPL-3.0-or-later
"""The simulation behind docs/evidence/method.md, with few runs."""

from __future__ import annotations

import pytest

from benchmark.simulate import NOISES, SHIFTS, Line, line, to_text

RUNS = 20


@pytest.fixture(scope="module")
def quiet() -> Line:
    return line(NOISES[0], (1.0, 1.0), 0.0, RUNS)


def test_equal_arms_end_without_a_claim(quiet: Line) -> None:
    assert (quiet.runs, quiet.false, quiet.precise, quiet.rounds) == (RUNS, 0, RUNS, 5.0)
    assert quiet.covered >= RUNS - 2
    assert quiet.minutes == pytest.approx(5 * 3 * 30 / 60)


def test_noise_costs_rounds() -> None:
    assert line(NOISES[2], (2.0, 0.87), 0.0, RUNS).rounds > line(NOISES[0], (2.0, 0.87), 0.0, RUNS).rounds == 5.0


def test_a_shift_between_two_halves_is_seldom_a_claim() -> None:
    """5 % between the halves made a third of the runs claim an effect before the margin had a floor."""
    assert line(NOISES[0], (1.0, 1.0), SHIFTS[2], RUNS).false <= 0.15 * RUNS


def test_the_table_names_what_it_counts(quiet: Line) -> None:
    text = to_text([quiet]).splitlines()
    assert text[0].startswith(f"{RUNS} runs a line; precision 10%, margin 5%")
    assert text[-1] == f"| quiet 0.5%, 1% | 1, 1 |  | 0 | {quiet.covered} | {RUNS} | 0 | 5.0 | 7.5 |"
