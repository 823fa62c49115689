# SPDX-License-Identifier: GPL-3.0-or-later
"""Cordons a node and marks it as this run's, and undoes both. Of two runs that try at the same time, one wins."""

from __future__ import annotations

import time
from collections.abc import Callable

from ansible_collections.kubepin.tuning.plugins.module_utils.common.errors import TuningError
from ansible_collections.kubepin.tuning.plugins.module_utils.control.cluster import problems
from ansible_collections.kubepin.tuning.plugins.module_utils.control.cluster.api import (
    ApiError,
    JsonObject,
    KubernetesApi,
)
from ansible_collections.kubepin.tuning.plugins.module_utils.control.cluster.mark import (
    CORDON_ANNOTATION,
    Mark,
    mark_of,
    why_not_ours,
)
from ansible_collections.kubepin.tuning.plugins.module_utils.control.cluster.process import is_running

_TRIES = 20
"""How often a node may change between reading and patching it; its kubelet and controllers write to it, too."""


def cordon(api: KubernetesApi, name: str, mine: Mark, *, take_over: bool, check_mode: bool) -> bool:
    """Cordon the node and mark it as *mine*. Returns whether anything was, or would be, changed.

    :param take_over: also if another run has it, as far as that may be waived
    :raises TuningError: if the node is another run's, or another user has cordoned it
    """

    def change(node: JsonObject) -> JsonObject | None:
        unschedulable, mark = bool(node["spec"].get("unschedulable")), mark_of(node)
        problem = why_not_ours(name, mark, mine, time.time(), is_running)
        if problem is None and unschedulable and mark is None:
            problem = problems.cordoned_meanwhile(name)
        if problem is not None and not (take_over and problem.waivable):
            raise TuningError(problem)
        if unschedulable and mark is not None and mark.belongs_to(mine):
            return None
        return {"metadata": {"annotations": {CORDON_ANNOTATION: mine.dump()}}, "spec": {"unschedulable": True}}

    return change_node(api, name, change, check_mode)


def uncordon(api: KubernetesApi, name: str, mine: Mark | None, check_mode: bool) -> bool:
    """Uncordon the node and remove the mark. Returns whether anything was, or would be, changed.

    :param mine: leave a node with the mark of another run as it is; None: uncordon it whatever its mark is
    """

    def change(node: JsonObject) -> JsonObject | None:
        mark = mark_of(node)
        foreign = mine is not None and mark is not None and bool(mark.run or mark.process) and not mark.belongs_to(mine)
        if foreign or (mark is None and not node["spec"].get("unschedulable")):
            return None
        return {"metadata": {"annotations": {CORDON_ANNOTATION: None}}, "spec": {"unschedulable": None}}

    return change_node(api, name, change, check_mode)


def change_node(
    api: KubernetesApi, name: str, change: Callable[[JsonObject], JsonObject | None], check_mode: bool
) -> bool:
    """Patch the node as *change* decides from its object; decide again if the object has changed meanwhile."""
    for tries_left in reversed(range(_TRIES)):
        node = api.node(name)
        patch = change(node)
        if patch is None:
            return False
        if check_mode:
            return True
        version = {"resourceVersion": node["metadata"]["resourceVersion"]}
        try:
            api.patch_node(name, {**patch, "metadata": {**patch["metadata"], **version}})
        except ApiError as error:
            if error.status != 409 or not tries_left:
                raise
        else:
            return True
    raise AssertionError("the last try returns or raises")
