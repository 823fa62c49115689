# SPDX-License-Identifier: GPL-3.0-or-later
"""Cordons through the real client; an HTTP server stands in for the API server."""

from __future__ import annotations

import time
from collections.abc import Callable

import pytest
from ansible_collections.kubepin.tuning.plugins.module_utils.common.errors import TuningError
from ansible_collections.kubepin.tuning.plugins.module_utils.control.cluster.api import KubernetesApi
from ansible_collections.kubepin.tuning.plugins.module_utils.control.cluster.cordon import cordon, uncordon
from ansible_collections.kubepin.tuning.plugins.module_utils.control.cluster.mark import (
    CORDON_ANNOTATION,
    Mark,
    mark_of,
    new_mark,
)
from ansible_collections.kubepin.tuning.tests.unit.samples.api_server import StandIn, _Handler, done_but, reset

PATH = "/api/v1/nodes/gpu-01"


def mark(run: str, purpose: str = "present") -> Mark:
    return new_mark(purpose, run, "host", "", 600, time.time())


def take(api: KubernetesApi, run: str, take_over: bool = False) -> bool:
    return cordon(api, "gpu-01", mark(run), take_over=take_over, check_mode=False)


def test_of_two_runs_that_read_the_same_node_one_wins(server: StandIn, api: KubernetesApi) -> None:
    """The other one's patch arrives between this one's reading and patching."""
    server.add_node()
    arrive = [lambda: take(api, "theirs")]
    patch_node = api.patch_node

    def late(name: str, patch: dict[str, object]) -> None:
        api.patch_node = patch_node  # type: ignore[method-assign]
        arrive.pop()()
        patch_node(name, patch)

    api.patch_node = late  # type: ignore[method-assign, assignment]
    with pytest.raises(TuningError, match="by run theirs") as caught:
        take(api, "mine")
    assert [problem["code"] for problem in caught.value.details["problems"]] == ["node_in_use"]
    found = mark_of(server.objects[PATH])
    assert found is not None
    assert found.run == "theirs"


def test_a_change_by_a_controller_is_no_obstacle(server: StandIn, api: KubernetesApi) -> None:
    node = server.add_node()

    def change_and_serve(handler: _Handler) -> None:
        node["metadata"]["resourceVersion"] = "7"
        found = server.serve(handler.command, handler.path, handler.body)
        assert not callable(found)
        handler.reply(*found, {})

    server.faults.extend([lambda handler: handler.reply(*_served(server, handler), {}), change_and_serve])
    assert take(api, "mine")
    assert [method for method, _path in server.asked] == ["GET", "PATCH", "GET", "PATCH"]
    assert server.objects[PATH]["spec"]["unschedulable"]


def _served(server: StandIn, handler: _Handler) -> tuple[int, bytes]:
    found = server.serve(handler.command, handler.path, handler.body)
    assert not callable(found)
    return found


def test_a_cordon_whose_answer_was_lost_is_recognized(server: StandIn, api: KubernetesApi) -> None:
    server.add_node()
    serve: Callable[[_Handler], None] = lambda handler: handler.reply(*_served(server, handler), {})  # noqa: E731
    server.faults.extend([serve, done_but(reset)])
    take(api, "mine")
    found = mark_of(server.objects[PATH])
    assert found is not None
    assert found.run == "mine"


def test_an_interrupted_run_s_mark_becomes_this_run_s(server: StandIn, api: KubernetesApi) -> None:
    node = server.add_node(annotations={CORDON_ANNOTATION: "present"})
    node["spec"]["unschedulable"] = True
    assert take(api, "mine")
    found = mark_of(server.objects[PATH])
    assert found is not None
    assert found.run == "mine"


def test_another_user_s_cordon_is_left_as_it_is(server: StandIn, api: KubernetesApi) -> None:
    server.add_node()["spec"]["unschedulable"] = True
    for take_over in (False, True):
        with pytest.raises(TuningError, match="was cordoned by another user"):
            take(api, "mine", take_over)
    assert mark_of(server.objects[PATH]) is None


def test_an_upgrade_s_mark_is_not_taken_over_even_if_asked_to(server: StandIn, api: KubernetesApi) -> None:
    server.add_node(annotations={CORDON_ANNOTATION: mark("theirs", "upgrade").dump()})
    with pytest.raises(TuningError, match=r"upgrade-cluster\.yml"):
        take(api, "mine", take_over=True)


@pytest.mark.parametrize("value", ["present", ""], ids=["an earlier version's mark", "an empty mark"])
def test_a_mark_without_an_owner_is_removed_by_any_run(server: StandIn, api: KubernetesApi, value: str) -> None:
    server.add_node(annotations={CORDON_ANNOTATION: value})["spec"]["unschedulable"] = True
    assert uncordon(api, "gpu-01", mark("mine"), check_mode=True)
    assert mark_of(server.objects[PATH]) is not None
    assert uncordon(api, "gpu-01", mark("mine"), check_mode=False)
    assert mark_of(server.objects[PATH]) is None
    assert server.objects[PATH]["spec"] == {}


def test_a_mark_is_removed_by_whoever_names_no_run(server: StandIn, api: KubernetesApi) -> None:
    server.add_node()
    take(api, "theirs")
    assert not uncordon(api, "gpu-01", mark("mine"), check_mode=False)
    assert uncordon(api, "gpu-01", None, check_mode=False)
