# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

from typing import Any

import pytest
from ansible.errors import AnsibleFilterError
from ansible_collections.kubepin.tuning.plugins.filter.facts import FilterModule

FILTERS = FilterModule().filters()


def test_filters_are_the_report_functions() -> None:
    assert FILTERS["preflight_problems"]({"n1": {"problems": []}}) == ""
    assert FILTERS["run_summary"]({"n1": {"outcome": "already_tuned", "policy": "static"}}, "2") == (
        "kubepin: 1 node: 1 already tuned, 0 failed (2 s)\n  n1   static: nothing to do"
    )


@pytest.mark.parametrize("value", [["n1"], {"n1": "tuned"}, "text"], ids=["list", "no facts", "text"])
@pytest.mark.parametrize(("name", "arguments"), [("preflight_problems", ()), ("run_summary", (1,))])
def test_other_input_is_refused(name: str, arguments: Any, value: Any) -> None:
    with pytest.raises(AnsibleFilterError) as caught:
        FILTERS[name](value, *arguments)
    assert str(caught.value) == f"kubepin.tuning.{name} expects a dictionary of host name to facts, got {value!r}"
