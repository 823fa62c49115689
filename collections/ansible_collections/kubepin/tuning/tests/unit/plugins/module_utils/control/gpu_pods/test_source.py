# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import contextlib
import copy
import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.kubepin.tuning.plugins.module_utils.common.errors import TuningError
from ansible_collections.kubepin.tuning.plugins.module_utils.control.gpu_pods.audit import audit
from ansible_collections.kubepin.tuning.plugins.module_utils.control.gpu_pods.source import FileSource, read_objects
from ansible_collections.kubepin.tuning.tests.unit.samples.gpu_pods import CASES, main, manifests, pod
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st


def test_files(tmp_path: Path) -> None:
    file = tmp_path / "pods"
    file.write_text(json.dumps({"kind": "PodList", "apiVersion": "v1", "items": [{"metadata": {"name": "a"}}]}))
    assert read_objects(str(file)) == [{"kind": "Pod", "apiVersion": "v1", "metadata": {"name": "a"}}]
    file.write_text("kind: Pod\nmetadata: {name: a}\n---\nkind: Node\nmetadata: {name: n}\n")
    assert [item["kind"] for item in read_objects(str(file))] == ["Pod", "Node"]
    file.write_text(json.dumps({"kind": "List", "items": manifests(22, "image")}))
    source = FileSource(str(file), None)
    result = audit(source, {}, ["nvidia.com/"], 1)
    assert result["summary"]["pods"] == sum(case.since <= 22 for case in CASES) >= 40
    assert [f"{item['kind']}/{item['name']}" for item in result["owners"] if item["patch"] is None] == ["Job/once"]


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (None, "cannot be read"),
        ("{", "is neither JSON nor YAML"),
        ("just words", "contains something that is not a Kubernetes object"),
        ('{"a": 1}', "contains something that is not a Kubernetes object"),
        ('{"kind": "Pod"}', "contains a Pod without a name"),
        ('{"kind": "List", "items": [1]}', "contains something that is not a Kubernetes object"),
        ('{"kind": "List", "items": {"a": 1}}', "contains a List whose items are not a list"),
        ('{"kind": "Pod", "metadata": "a"}', "contains a Pod without a name"),
        ("[" * 100_000, "is nested too deeply"),
        ("kind: Pod\nmetadata: {name: 2020-13-45}", "is neither JSON nor YAML"),
    ],
)
def test_files_that_are_refused(tmp_path: Path, text: Any, reason: str) -> None:
    file = tmp_path / "pods.json"
    if text is not None:
        file.write_text(text)
    with pytest.raises(TuningError, match=reason):
        read_objects(str(file))


def item(kind: str = "Pod", **changes: Any) -> dict[str, Any]:
    """An object as its author might have written it, without a namespace."""
    spec = pod(main("3500m 1Gi"))
    body = {"spec": spec} if kind == "Pod" else {"spec": {"template": {"spec": spec}}}
    version = "v1" if kind == "Pod" else "apps/v1"
    return {"apiVersion": version, "kind": kind, "metadata": {"name": "x"}, **body, **changes}


def audited(tmp_path: Path, *items: Any) -> Any:
    file = tmp_path / "objects.json"
    file.write_text(json.dumps({"kind": "List", "items": items}))
    return audit(FileSource(str(file), str(file)), {}, ["nvidia.com/"], 1)


def test_objects_without_a_namespace_are_in_default(tmp_path: Path) -> None:
    """What `helm template` and most examples of manifests print."""
    result = audited(tmp_path, item("Deployment"), item())
    assert [found["namespace"] for found in result["pods"]] == ["default"]
    (owner,) = result["owners"]
    assert owner["patch"]["metadata"] == {"namespace": "default", "name": "x"}
    assert owner["patch"]["spec"]["template"]["spec"]["containers"][0]["resources"]["limits"]["cpu"] == "4"


def test_null_is_absent_as_in_the_api(tmp_path: Path) -> None:
    resources: dict[str, Any] = {"limits": {"cpu": "2", "memory": None, "nvidia.com/gpu": None}, "requests": None}
    assert audited(tmp_path, item(spec=pod({"name": "a", "resources": resources})))["pods"] == []
    resources["limits"]["nvidia.com/gpu"] = 1
    (found,) = audited(tmp_path, item(spec=pod({"name": "a", "resources": resources, "env": None})))["pods"]
    assert found["containers"][0]["reasons"] == ["no_memory_limit"]


@pytest.mark.parametrize(
    ("faulty", "fault"),
    [
        (item(spec=None), "Pod default/x: spec is missing"),
        (item(spec={"containers": [{"image": "a"}]}), "Pod default/x: spec.containers[0].name is missing"),
        (item(spec={"containers": {"name": "a"}}), 'Pod default/x: spec.containers is {"name": "a"}: expected a list'),
        (item(spec=[]), "Pod default/x: spec is []: expected an object"),
        (item(metadata={"name": "x", "namespace": 7}), "Pod 7/x: metadata.namespace is 7: expected a text"),
        (
            item(metadata={"name": "x", "ownerReferences": [{"kind": [], "name": "y"}]}),
            "Pod default/x: metadata.ownerReferences[0].kind is []: expected a text",
        ),
        (
            item(spec=pod({"name": "a", "resources": {"limits": {"cpu": "two"}}})),
            'Pod default/x: spec.containers[0].resources.limits.cpu: "two" is not a Kubernetes quantity',
        ),
        (
            item(spec=pod({"name": "a", "resources": {"limits": {"cpu": [2]}}})),
            "Pod default/x: spec.containers[0].resources.limits.cpu is [2]: expected a quantity",
        ),
        (
            item(spec=pod({"name": "a", "securityContext": {"privileged": "yes"}})),
            'Pod default/x: spec.containers[0].securityContext.privileged is "yes": expected true or false',
        ),
        (
            item(spec=pod({"name": "a", "resources": {"claims": ["gpu"]}})),
            'Pod default/x: spec.containers[0].resources.claims[0] is "gpu": expected an object',
        ),
        (
            item("ResourceClaim", status={"allocation": {"devices": {"results": [{"driver": "gpu.nvidia.com"}]}}}),
            "ResourceClaim default/x: status.allocation.devices.results[0].pool is missing",
        ),
        (
            item(spec=pod(main()), status={"resourceClaimStatuses": [{"name": 1}]}),
            "Pod default/x: status.resourceClaimStatuses[0].name is 1: expected a text",
        ),
        (item("Deployment", spec={"replicas": 1}), "Deployment default/x: spec.template is missing"),
        (item("Deployment", apiVersion=None), "Deployment default/x: apiVersion is missing"),
        (
            {"kind": "Node", "metadata": {"name": "n"}, "status": {"allocatable": {"cpu": "many"}}},
            'Node n: status.allocatable.cpu: "many" is not a Kubernetes quantity',
        ),
    ],
)
def test_a_malformed_object_is_named_with_the_place(tmp_path: Path, faulty: Any, fault: str) -> None:
    with pytest.raises(TuningError) as caught:
        audited(tmp_path, item(), faulty)
    assert f'objects.json": {fault}' in str(caught.value)
    assert "Expected what `kubectl get pods -A -o json` prints." in str(caught.value)


def test_all_malformed_objects_are_told_and_the_first_are_named(tmp_path: Path) -> None:
    with pytest.raises(TuningError) as caught:
        audited(tmp_path, *(item(metadata={"name": f"p{number}"}, spec=None) for number in range(22)))
    assert [problem.code for problem in caught.value.problems] == ["object_invalid"] * 22
    assert "Pod default/p19: spec is missing" in str(caught.value)
    assert str(caught.value).endswith("And 2 more.")


def test_objects_that_own_each_other_are_no_endless_chain(tmp_path: Path) -> None:
    def owned(name: Any, by: Any) -> Any:
        reference = {"kind": "ReplicaSet", "name": by, "controller": True}
        return item("ReplicaSet", metadata={"name": name, "ownerReferences": [reference]})

    started = time.thread_time()
    metadata = {"name": "p", "ownerReferences": [{"kind": "ReplicaSet", "name": "a", "controller": True}]}
    audited(tmp_path, owned("a", "b"), owned("b", "a"), item(metadata=metadata))
    assert time.thread_time() - started < 5


def test_the_risk_is_that_of_the_handler_of_the_pods_runtime_class(tmp_path: Path) -> None:
    """Pods without a RuntimeClass have the default handler; of one whose RuntimeClass is not in the file, the handler is
    unknown, and so is what differs between handlers."""
    handlers = {"runc": {"device_injection": "legacy"}, "nv": {"device_injection": "cdi"}}
    known = {"kubelet_version": "1.36.3", "cpu_manager_policy": "static", "cgroup_driver": "systemd"}
    facts = {**known, "runc_version": "1.2.4", "default_handler": "runc", "handlers": handlers}
    shared = {**pod(main("3500m 1Gi")), "nodeName": "gpu-01"}
    pods = [
        item(metadata={"name": "default"}, spec=shared),
        item(metadata={"name": "by-cdi"}, spec={**shared, "runtimeClassName": "nvidia"}),
        item(metadata={"name": "other"}, spec={**shared, "runtimeClassName": "not-in-the-file"}),
    ]
    file = tmp_path / "objects.json"
    runtime_class = {
        "apiVersion": "node.k8s.io/v1",
        "kind": "RuntimeClass",
        "metadata": {"name": "nvidia"},
        "handler": "nv",
    }
    file.write_text(json.dumps({"kind": "List", "items": [*pods, runtime_class]}))
    result = audit(FileSource(str(file), None), {"gpu-01": facts}, ["nvidia.com/"], 1)
    grades = {it["name"]: (it["risk"]["grade"], it["risk"]["unknown"]) for it in result["pods"]}
    assert grades == {
        "default": ("high", []),
        "by-cdi": ("none", []),
        "other": ("unknown", ["device_injection"]),
    }


def places(value: Any, path: Any = ()) -> Iterator[Any]:
    """The paths to everything in a value."""
    yield path
    parts = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, part in parts:
        yield from places(part, (*path, key))


OBJECTS = json.loads(json.dumps(manifests(35, "image")[-30:]))
JUNK = st.sampled_from([None, "", "x", "1e999999999", 0, -1, 1.5, True, [], [1], {}, {"a": 1}, {"name": 1}])


@given(st.data())
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_whatever_stands_anywhere_in_an_object_it_is_audited_or_named(tmp_path: Path, data: Any) -> None:
    objects = copy.deepcopy(data.draw(st.lists(st.sampled_from(OBJECTS), min_size=1, max_size=3)))
    for _change in range(data.draw(st.integers(1, 3))):
        *path, last = data.draw(st.sampled_from([place for place in places(objects) if place]))
        target = objects
        for key in path:
            target = target[key]
        target[last] = copy.deepcopy(data.draw(JUNK))  # else a later change of it is one of JUNK
    with contextlib.suppress(TuningError):
        audited(tmp_path, *objects)
