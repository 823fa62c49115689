# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import typing as t
from pathlib import Path

from ansible_collections.kubepin.tuning.plugins.modules.benchmark_report import ARGUMENT_SPEC
from ansible_collections.kubepin.tuning.plugins.plugin_utils.benchmark import report
from ansible_collections.kubepin.tuning.plugins.plugin_utils.benchmark.evaluate import Sides, Target, analyse_sides
from ansible_collections.kubepin.tuning.plugins.plugin_utils.timings import TimingsAction


class ActionModule(TimingsAction):
    argument_spec = ARGUMENT_SPEC

    def evaluate(self, params: dict[str, t.Any]) -> dict[str, t.Any]:
        sides = Sides(params["a"], params["b"], params["label_a"], params["label_b"], params["others"])
        target = Target(Path(params["folder"]), params["title"], params["made_by"])
        analysis = analyse_sides(sides, params["margin"], target, write=not self._task.check_mode)
        return {"report": report.to_object(analysis), "files": list(map(str, target.files()))}
