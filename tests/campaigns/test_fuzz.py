# SPDX-License-Identifier: GPL-3.0-or-later
"""What is counted in pytest's output."""

from __future__ import annotations

from tests.campaigns.fuzz import Count, counts, subject

OUTPUT = """
============================ Hypothesis Statistics =============================
collections/a/module_utils/common/test_cpuset.py::test_any_text:

  - during generate phase (1.25 seconds):
    - Typical runtimes: < 1ms, of which < 1ms in data generation
    - 40 passing, 2 failing, and 3 invalid test cases
    - Found 1 distinct error in this phase

  - during shrink phase (0.25 seconds):
    - Typical runtimes: < 1ms, of which < 1ms in data generation
    - 5 passing, 10 failing, and 0 invalid test cases
    - Tried 15 shrinks of which 10 were successful

  - Stopped because nothing left to do


tests/benchmark/test_readers.py::test_any_file:

  - during generate phase (0.50 seconds):
    - 100 passing, 0 failing, and 0 invalid test cases

  - Stopped because settings.max_examples=100
"""


def test_inputs_of_all_phases_are_added_up_by_test() -> None:
    assert counts(OUTPUT) == [
        Count("collections/a/module_utils/common/test_cpuset.py", "test_any_text", 60, 12, 1.5),
        Count("tests/benchmark/test_readers.py", "test_any_file", 100, 0, 0.5),
    ]


def test_tests_are_named_after_what_they_test() -> None:
    assert [subject(count.file) for count in counts(OUTPUT)] == ["common/cpuset", "benchmark/readers"]
