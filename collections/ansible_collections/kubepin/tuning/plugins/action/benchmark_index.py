# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import typing as t
from pathlib import Path

from ansible_collections.kubepin.tuning.plugins.modules.benchmark_index import ARGUMENT_SPEC
from ansible_collections.kubepin.tuning.plugins.plugin_utils.benchmark.evaluate import index_reports
from ansible_collections.kubepin.tuning.plugins.plugin_utils.timings import TimingsAction


class ActionModule(TimingsAction):
    argument_spec = ARGUMENT_SPEC

    def evaluate(self, params: dict[str, t.Any]) -> dict[str, t.Any]:
        folders = [Path(path) for path in params["reports"]]
        page = index_reports(folders, Path(params["folder"]), params["title"], write=not self._task.check_mode)
        return {"file": str(page)}
