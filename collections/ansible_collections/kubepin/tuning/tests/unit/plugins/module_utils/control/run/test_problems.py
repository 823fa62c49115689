# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import pytest
from ansible_collections.kubepin.tuning.plugins.module_utils.control.run import problems
from ansible_collections.kubepin.tuning.plugins.module_utils.control.run.variables import type_problems

KINDS = {"a": "list", "b": "dict"}


@pytest.mark.parametrize("name", sorted(KINDS))
def test_each_wording_is_a_code_and_sentences(name: str) -> None:
    for problem in (*type_problems({name: "x"}, KINDS), problems.batch_invalid("x")):
        assert problem.text.endswith(".")
        assert "  " not in problem.text
