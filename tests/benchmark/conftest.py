# SPDX-License-Identifier: GPL-3.0-or-later
"""Fixtures: the logs and the published CSV folder that the tests read."""

from __future__ import annotations

from pathlib import Path

import pytest

DATA = Path(__file__).parent / "data"


@pytest.fixture
def amd() -> Path:
    return DATA / "amd-epyc7773x-rtx3090.log"


@pytest.fixture
def intel() -> Path:
    return DATA / "intel-rtx3090.log"


@pytest.fixture
def published() -> Path:
    return DATA / "rtx2080ti"
