# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import typing as t
from pathlib import Path

from ansible_collections.kubepin.tuning.plugins.modules.benchmark_timings_info import ARGUMENT_SPEC
from ansible_collections.kubepin.tuning.plugins.plugin_utils.benchmark.evaluate import read_sources
from ansible_collections.kubepin.tuning.plugins.plugin_utils.benchmark.summary import summarise
from ansible_collections.kubepin.tuning.plugins.plugin_utils.timings import TimingsAction


class ActionModule(TimingsAction):
    argument_spec = ARGUMENT_SPEC

    def evaluate(self, params: dict[str, t.Any]) -> dict[str, t.Any]:
        return {"summary": summarise(read_sources(map(Path, params["sources"])))}
