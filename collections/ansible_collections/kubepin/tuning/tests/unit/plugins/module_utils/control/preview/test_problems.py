# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import pytest
from ansible_collections.kubepin.tuning.plugins.module_utils.common.problem import Problem
from ansible_collections.kubepin.tuning.plugins.module_utils.control.preview import problems
from ansible_collections.kubepin.tuning.tests.unit.samples.problems import assert_proper, wordings


@pytest.mark.parametrize("problem", wordings(problems).values(), ids=wordings(problems).keys())
def test_every_wording_is_a_proper_text(problem: Problem) -> None:
    assert_proper(problem)
