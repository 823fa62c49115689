# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import pytest
from ansible_collections.kubepin.tuning.plugins.module_utils.common.words import counted


@pytest.mark.parametrize(
    ("number", "text"),
    [(0, "0 CPUs"), (1, "1 CPU"), (2, "2 CPUs"), (1.0, "1 CPU"), (1.5, "1.5 CPUs"), (12.0, "12 CPUs")],
)
def test_only_one_is_not_a_plural(number: float, text: str) -> None:
    assert counted(number, "CPU") == text
