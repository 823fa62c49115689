# SPDX-License-Identifier: GPL-3.0-or-later
"""How many inputs tests get: a sample that is the same in each run, all of an enumeration, or many at random."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import pytest
from hypothesis import settings

EXAMPLES = 100
SAMPLE = 12
Sampled = Callable[[Sequence[int]], Sequence[int]]


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--examples",
        type=int,
        metavar="N",
        help=f"property tests: N inputs each, at random; without it, {EXAMPLES} that are the same in each run",
    )
    parser.addoption(
        "--thorough",
        action="store_true",
        help=f"all of each enumeration, of which {SAMPLE} are a sample, and the tests marked thorough",
    )


def pytest_configure(config: pytest.Config) -> None:
    given: int | None = config.getoption("--examples")
    settings.register_profile(
        "kubepin",
        max_examples=given or EXAMPLES,
        derandomize=given is None,
        database=None,
        deadline=None,  # the machine may be busy
    )
    settings.load_profile("kubepin")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if config.getoption("--thorough"):
        return
    left_out = [item for item in items if item.get_closest_marker("thorough")]
    items[:] = [item for item in items if item not in left_out]
    config.hook.pytest_deselected(items=left_out)


@pytest.fixture(scope="session")
def sampled(pytestconfig: pytest.Config) -> Sampled:
    """Takes what a test goes through: all of it with --thorough, else `SAMPLE` at even distances, both ends among them."""

    def sample(all_of_them: Sequence[int]) -> Sequence[int]:
        if pytestconfig.getoption("--thorough") or len(all_of_them) <= SAMPLE:
            return all_of_them
        last = len(all_of_them) - 1
        return [all_of_them[round(place * last / (SAMPLE - 1))] for place in range(SAMPLE)]

    return sample
