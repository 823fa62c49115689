# SPDX-License-Identifier: GPL-3.0-or-later
"""How many inputs property tests get: the same few in each run, or many at random for a campaign."""

from __future__ import annotations

import pytest
from hypothesis import settings

EXAMPLES = 100


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--examples",
        type=int,
        metavar="N",
        help=f"property tests: N inputs each, at random; without it, {EXAMPLES} that are the same in each run",
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
