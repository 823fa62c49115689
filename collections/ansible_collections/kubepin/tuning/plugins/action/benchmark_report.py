# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import typing as t
from pathlib import Path

from ansible_collections.kubepin.tuning.plugins.modules.benchmark_report import ARGUMENT_SPEC, CONSTRAINTS
from ansible_collections.kubepin.tuning.plugins.plugin_utils.benchmark import report
from ansible_collections.kubepin.tuning.plugins.plugin_utils.benchmark.evaluate import (
    Sides,
    Target,
    report_experiment,
    report_sides,
)
from ansible_collections.kubepin.tuning.plugins.plugin_utils.benchmark.experiment import Experiment
from ansible_collections.kubepin.tuning.plugins.plugin_utils.timings import TimingsAction


class ActionModule(TimingsAction):
    argument_spec = ARGUMENT_SPEC
    constraints = CONSTRAINTS

    def evaluate(self, params: dict[str, t.Any]) -> dict[str, t.Any]:
        target = Target(Path(params["folder"]), params["title"], params["made_by"]) if params["folder"] else None
        found = self._found(params, target)
        return {"report": report.to_object(found), "files": list(map(str, target.files())) if target else []}

    def _found(self, params: dict[str, t.Any], target: Target | None) -> Experiment:
        write = not self._task.check_mode
        allowed = params["allow_different"]
        if params["source"]:
            return report_experiment(
                [Path(path) for path in params["source"]],
                target,
                margin=params["margin"],
                precision=params["precision"],
                allow_different=allowed,
                write=write,
            )
        sides = Sides(params["a"], params["b"], params["label_a"], params["label_b"], params["others"])
        return report_sides(sides, params["margin"], target, allowed, write=write)
