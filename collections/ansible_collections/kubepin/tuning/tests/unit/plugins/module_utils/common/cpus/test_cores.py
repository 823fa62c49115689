# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import pytest
from ansible_collections.kubepin.tuning.plugins.module_utils.common.cpus.cores import threads_as_counted


@pytest.mark.parametrize(
    ("online", "cores", "counted"),
    [
        pytest.param(256, 128, 2, id="equal cores"),
        pytest.param(28, 20, 1, id="hybrid cores"),
        pytest.param(15, 2, 7, id="one CPU offline"),
        pytest.param(2, 0, None, id="no core known"),
    ],
)
def test_threads_are_the_average_rounded_down(online: int, cores: int, counted: int | None) -> None:
    assert threads_as_counted(online, cores) == counted
