# SPDX-License-Identifier: GPL-3.0-or-later
"""Owners of AI pods, by the examples of their projects (samples/owners).

The campaign gpu-audit-owners has a real API server take the patches under the projects' CRDs.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator
from functools import reduce
from typing import Any

import pytest
from ansible_collections.kubepin.tuning.plugins.module_utils.control.cluster.api import ApiError
from ansible_collections.kubepin.tuning.plugins.module_utils.control.gpu_access.node import Node
from ansible_collections.kubepin.tuning.plugins.module_utils.control.gpu_pods.audit import audit
from ansible_collections.kubepin.tuning.plugins.module_utils.control.gpu_pods.owners import (
    OWNERS,
    owner_kind,
)
from ansible_collections.kubepin.tuning.plugins.module_utils.control.gpu_pods.report import (
    gpu_pods_patches,
    gpu_pods_text,
)
from ansible_collections.kubepin.tuning.plugins.module_utils.control.gpu_pods.source import ApiSource
from ansible_collections.kubepin.tuning.tests.unit.samples.gpu_owners import (
    FRACTIONAL,
    GPU_POD,
    NAMES,
    chain,
    child,
    example,
    pods_of,
    with_limits,
)
from ansible_collections.kubepin.tuning.tests.unit.samples.gpu_pods import Cluster, owner, pod
from ansible_collections.kubepin.tuning.tests.unit.samples.problems import a_problem

PREFIXES = ["nvidia.com/"]


def audited(pods: Any, owners: Any) -> Any:
    return audit(Cluster(pods, owners, Node()), {}, PREFIXES, 1)


def patched(item: Any, patch: Any) -> Any:
    """The object with a JSON patch of the operations that kubepin uses (RFC 6902)."""
    item = copy.deepcopy(item)
    for operation in patch:
        *way, last = [part.replace("~1", "/").replace("~0", "~") for part in operation["path"].split("/")[1:]]
        target = reduce(lambda value, key: value[int(key) if isinstance(value, list) else key], way, item)
        if operation["op"] == "test":
            assert target[last] == operation["value"], operation
        elif operation["op"] == "add":
            target[last] = operation["value"]
        else:
            assert operation["op"] == "remove"
            del target[last]
    return item


@pytest.mark.parametrize("name", NAMES)
def test_the_patch_of_an_example_gives_all_its_pods_exclusive_cpus_and_can_be_undone(name: Any) -> None:
    item = with_limits(example(name))
    (owner,) = audited([], [item])["owners"]
    assert owner["problems"] == []
    after = patched(item, owner["patch"])
    assert after != item
    (again,) = audited([], [after])["owners"]
    assert again["patch"] is None
    assert {(c["exclusive"], c["cpus"]) for c in again["containers"]} == {(True, 2)}
    assert patched(after, owner["undo"]) == item


@pytest.mark.parametrize(
    ("name", "containers"),
    [
        (
            "pytorchjob",
            {
                "spec.pytorchReplicaSpecs.Master.template.spec": ["pytorch"],
                "spec.pytorchReplicaSpecs.Worker.template.spec": ["pytorch"],
            },
        ),
        ("trainjob", {"spec": ["node"]}),
        ("mpijob", {"spec.mpiReplicaSpecs.Worker.template.spec": ["tensorflow-benchmarks"]}),
        ("raycluster", {"spec.headGroupSpec.template.spec": ["ray-head"]}),
        ("rayjob", {"spec.rayClusterSpec.headGroupSpec.template.spec": ["ray-head"]}),
        ("rayservice", {"spec.rayClusterConfig.workerGroupSpecs[0].template.spec": ["ray-worker"]}),
        (
            "leaderworkerset",
            {
                "spec.leaderWorkerTemplate.leaderTemplate.spec": ["vllm-leader"],
                "spec.leaderWorkerTemplate.workerTemplate.spec": ["vllm-worker"],
            },
        ),
        ("inferenceservice", {"spec.predictor": ["kserve-container"]}),
        ("volcano-job", {"spec.tasks[1].template.spec": ["mpiworker"]}),
    ],
)
def test_the_containers_of_an_example_that_asks_for_gpus(name: Any, containers: Any) -> None:
    (owner,) = audited([], [example(name)])["owners"]
    found: dict[str, list[str]] = {}
    for container in owner["containers"]:
        found.setdefault(container["template"], []).append(container["name"])
    assert found == containers


def test_numbers_that_an_example_does_not_name_are_not_invented() -> None:
    (owner,) = audited([], [example("pytorchjob")])["owners"]
    assert owner["patch"] is None
    assert [(problem["subject"], problem["code"]) for problem in owner["problems"]] == [
        (f"spec.pytorchReplicaSpecs.{role}.template.spec: container pytorch", code)
        for role in ("Master", "Worker")
        for code in ("no_number_of_cpus", "no_amount_of_memory")
    ]


def test_an_argo_pod_has_what_the_operator_calls_main_and_its_sidecars() -> None:
    item = with_limits(example("workflow"), containers=["main"])
    (owner,) = audited([], [item])["owners"]
    assert [container["name"] for container in owner["containers"]] == ["main", "dind"]
    (first, *_rest) = [step["path"] for step in owner["patch"]]
    assert first.startswith("/spec/templates/0/container/resources")


@pytest.mark.parametrize("name", [name for name in NAMES if name != "leaderworkerset"])
def test_the_owner_of_a_pod_is_at_the_top_of_its_chain(name: Any) -> None:
    top, *between = chain(name)
    result = audited(pods_of([top, *between][-1], GPU_POD), [*between, top])
    kind = owner_kind(top)
    assert kind
    assert result["pods"][0]["owner"] == f"{kind.shown}/{top['metadata']['name']}"
    (owner,) = result["owners"]
    assert (owner["kind"], owner["pods"]) == (kind.shown, 1)


def test_the_workers_of_a_leader_worker_set_hang_on_the_groups_leader() -> None:
    top, leaders = chain("leaderworkerset")
    (leader,) = pods_of(leaders, pod({"name": "vllm-leader", "resources": {"limits": FRACTIONAL}}))
    workers = child("StatefulSet", "vllm-0", leader, spec={"template": {"spec": GPU_POD}})
    (worker,) = pods_of(workers, pod({"name": "vllm-worker", "resources": {"limits": FRACTIONAL}}))
    for item in (leader, worker):
        del item["kind"], item["apiVersion"]  # the API's lists have neither
    for pods in ([worker, leader], [leader, worker]):
        result = audited(pods, [leaders, workers, top])
        assert {found["name"]: (found["owner"], found["template"]) for found in result["pods"]} == {
            "vllm-0": ("LeaderWorkerSet/vllm", "spec.leaderWorkerTemplate.leaderTemplate.spec"),
            "vllm-0-0": ("LeaderWorkerSet/vllm", "spec.leaderWorkerTemplate.workerTemplate.spec"),
        }
        (owner,) = result["owners"]
        assert owner["cpus_per_node"] == {"not scheduled": 1}


def test_a_pod_belongs_to_the_template_with_its_limits() -> None:
    item = with_limits(example("pytorchjob"))
    workers = item["spec"]["pytorchReplicaSpecs"]["Worker"]["template"]["spec"]["containers"][0]
    workers["resources"]["limits"]["cpu"] = "7500m"
    spec = pod({"name": "pytorch", "resources": {"limits": {**FRACTIONAL, "cpu": "7.5"}}})
    result = audited(pods_of(item, spec, spec), [item])
    assert {found["template"] for found in result["pods"]} == {"spec.pytorchReplicaSpecs.Worker.template.spec"}
    assert result["owners"][0]["cpus_per_node"] == {"not scheduled": 1}


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("inferenceservice", "ServingRuntime"),
        ("trainjob", "spec.trainer.resourcesPerNode"),
        ("workflow", "WorkflowTemplate"),
    ],
)
def test_a_gpu_that_is_requested_elsewhere_is_named_with_where_to_set_it(name: Any, words: Any) -> None:
    top, *between = chain(name)
    (owner,) = audited(pods_of([top, *between][-1], GPU_POD), [*between, with_limits(top, {})])["owners"]
    assert (owner["patch"], owner["pods"]) == (None, 1)
    assert [problem["code"] for problem in owner["problems"]] == ["gpu_requested_elsewhere"]
    assert words in owner["problems"][0]["finding"]


def test_jobs_of_two_projects_with_one_name_are_two() -> None:
    volcano = with_limits(example("volcano-job"))
    batch = {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {"name": volcano["metadata"]["name"]},
        "spec": {"template": {"spec": GPU_POD}},
    }
    result = audited([*pods_of(volcano, GPU_POD), *pods_of(batch, GPU_POD, GPU_POD)], [volcano, batch])
    assert {owner["kind"]: owner["pods"] for owner in result["owners"]} == {"Job": 2, "Job.batch.volcano.sh": 1}


@pytest.mark.parametrize(
    ("name", "command"),
    [
        (
            "notebook",
            "kubectl -n default patch notebooks.kubeflow.org notebook-sample-v1 --type json "
            "--patch-file default-notebook-notebook-sample-v1.yaml",
        ),
        (
            "jobset",
            "kubectl -n default get jobsets.jobset.x-k8s.io pytorch -o yaml | kubectl patch --local -f - --type json "
            "--patch-file default-jobset-pytorch.yaml -o yaml | kubectl -n default replace --force -f -",
        ),
    ],
)
def test_only_what_takes_the_change_in_place_is_patched_by_the_audit(name: Any, command: Any) -> None:
    (patch,) = gpu_pods_patches(audited([], [with_limits(example(name))]))
    assert (patch["command"], patch["apply"]) == (command, name == "notebook")


def test_the_report_says_what_happens_to_the_object_and_to_kueues_quota() -> None:
    item = with_limits(example("jobset"))
    item["metadata"]["labels"] = {"kueue.x-k8s.io/queue-name": "gpus"}
    text = gpu_pods_text(audited([], [item]))
    assert (
        "  default JobSet/pytorch: cost nothing now; has to be deleted and created again; spec.replicatedJobs is immutable; "
        "queued by Kueue in gpus" in text
    )
    assert "against the quota of its ClusterQueue" in text
    assert "Kueue" not in gpu_pods_text(audited([], [with_limits(example("jobset"))]))


QUEUE = {"labels": {"kueue.x-k8s.io/queue-name": "gpus"}}


def cron_job(metadata: Any) -> Any:
    job_template = {"metadata": metadata, "spec": {"template": {"spec": GPU_POD}}}
    return owner("CronJob", "nightly", {"jobTemplate": job_template}, "batch/v1")


def labelled(name: Any, *way: Any, labels: Any = QUEUE) -> Any:
    """An example with the label of a queue there."""
    item = with_limits(example(name))
    target = item
    for key in way:
        target = target[key] if isinstance(key, int) else target.setdefault(key, {})
    target.update(copy.deepcopy(labels))
    return item


@pytest.mark.parametrize(
    ("item", "queue"),
    [
        (cron_job(QUEUE), "gpus"),
        (cron_job({"labels": {"app": "gpu"}}), None),
        (cron_job("malformed"), None),
        (labelled("pytorchjob", "metadata"), "gpus"),
        (labelled("pytorchjob", "spec", "pytorchReplicaSpecs", "Worker", "template", "metadata"), "gpus"),
        (labelled("workflow", "spec", "podMetadata"), "gpus"),
        (labelled("workflow", "spec", "templates", 0, "metadata"), "gpus"),
        (labelled("jobset", "metadata", labels={"labels": None}), None),
    ],
)
def test_the_queue_of_an_owner_is_where_kueue_reads_it(item: Any, queue: Any) -> None:
    (found,) = audited([], [item])["owners"]
    assert found["queue"] == queue


def test_all_queues_of_an_owner_are_named() -> None:
    item = labelled("workflow", "spec", "podMetadata")
    item["metadata"]["labels"] = {"kueue.x-k8s.io/queue-name": "batch"}
    (found,) = audited([], [item])["owners"]
    assert found["queue"] == "batch, gpus"


def test_an_object_that_no_operator_could_use_is_a_note_and_the_others_are_audited() -> None:
    broken = example("workflow")
    broken["metadata"]["name"] = "broken"
    broken["spec"]["templates"][0]["sidecars"] = {"name": "dind"}
    result = audited(pods_of(broken, GPU_POD), [broken, with_limits(example("notebook"))])
    (problem,) = result["problems"]
    assert problem["code"] == "owner_malformed"
    assert "Workflow default/broken" in problem["text"]
    assert 'spec.templates[0].sidecars is {"name": "dind"}: expected a list' in problem["text"]
    assert [owner["kind"] for owner in result["owners"] if owner["patch"]] == ["Notebook"]
    assert f"note: {problem['text']}" in gpu_pods_text(result)


class Api(ApiSource):
    """An API server from a table: path -> its objects, or the status of its refusal."""

    def __init__(self, served: Any, answers: Any) -> None:
        self._unread, self._served, self._answers = [], served, answers
        self.asked: list[str] = []

    def groups(self) -> Any:
        return self._served

    def _items(self, path: Any, **query: Any) -> Iterator[dict[str, Any]]:
        self.asked.append(path)
        answer = self._answers.get(path, [])
        if isinstance(answer, int):
            raise ApiError(a_problem("no"), answer, "forbidden to alice")
        yield from answer


BUILTIN = {"apps": ["v1"], "batch": ["v1", "v1beta1"]}


def test_only_what_the_server_serves_is_read_in_a_version_that_it_has() -> None:
    api = Api({"apps": ["v1"], "batch": ["v1beta1"], "ray.io": ["v1alpha1"]}, {})
    assert list(api.owners()) == []
    assert api.asked[4:] == [
        "/apis/batch/v1beta1/cronjobs",
        *(f"/apis/ray.io/v1alpha1/{plural}" for plural in ("rayclusters", "rayjobs", "rayservices")),
    ]


def test_cron_jobs_of_kubernetes_1_20_are_read_where_they_are() -> None:
    api = Api(BUILTIN, {"/apis/batch/v1/cronjobs": 404})
    list(api.owners())
    assert api.asked[-2:] == ["/apis/batch/v1/cronjobs", "/apis/batch/v1beta1/cronjobs"]


def test_what_may_not_be_read_is_a_note_but_for_kubernetes_own_kinds() -> None:
    path = "/apis/jobset.x-k8s.io/v1alpha2/jobsets"
    api = Api({**BUILTIN, "jobset.x-k8s.io": ["v1alpha2"]}, {path: 403})
    assert list(api.owners()) == []
    (problem,) = api.unread()
    assert problem.code == "owners_unreadable"
    assert problem.text == (
        "jobsets.jobset.x-k8s.io cannot be read (forbidden to alice), so their pods are audited, but not what makes them. "
        "The ClusterRole kubepin-audit in docs/rbac.yaml has the permission."
    )
    with pytest.raises(ApiError):
        list(Api(BUILTIN, {"/apis/apps/v1/deployments": 403}).owners())


def test_a_kind_that_the_installed_version_of_a_project_lacks_is_passed_over() -> None:
    api = Api({**BUILTIN, "ray.io": ["v1"]}, {"/apis/ray.io/v1/raycronjobs": 404})
    assert list(api.owners()) == []
    assert api.unread() == []


@pytest.mark.parametrize(
    ("served", "path"),
    [(["v1", "v1beta2"], "v1"), (["v1beta1"], "v1beta1"), (["v1alpha3"], None), ([], None)],
)
def test_claims_are_read_in_a_version_that_the_server_has(served: Any, path: Any) -> None:
    claim = {"metadata": {"name": "the-gpu"}}
    api = Api({"resource.k8s.io": served}, {f"/apis/resource.k8s.io/{path}/resourceclaims": [claim]})
    assert list(api.claims()) == ([claim] if path else [])


def test_claims_that_may_not_be_read_are_a_note() -> None:
    api = Api({"resource.k8s.io": ["v1"]}, {"/apis/resource.k8s.io/v1/resourceclaims": 403})
    assert list(api.claims()) == []
    (problem,) = api.unread()
    assert problem.code == "claims_unreadable"
    assert problem.text == (
        "resourceclaims.resource.k8s.io cannot be read (forbidden to alice), so the devices of claims are unknown. "
        "The ClusterRole kubepin-audit in docs/rbac.yaml has the permission."
    )
    with pytest.raises(ApiError):
        list(Api({"resource.k8s.io": ["v1"]}, {"/apis/resource.k8s.io/v1/resourceclaims": 500}).claims())


def test_runtime_classes_that_may_not_be_read_are_a_note() -> None:
    path = "/apis/node.k8s.io/v1/runtimeclasses"
    runtime_class = {"metadata": {"name": "nvidia"}, "handler": "nvidia"}
    assert list(Api({}, {path: [runtime_class]}).runtime_classes()) == [runtime_class]
    api = Api({}, {path: 403})
    assert list(api.runtime_classes()) == []
    (problem,) = api.unread()
    assert problem.code == "runtime_classes_unreadable"
    assert "handlers of pods with a RuntimeClass are unknown" in problem.text
    missing = Api({}, {path: 404})
    assert list(missing.runtime_classes()) == []
    assert missing.unread() == []
    with pytest.raises(ApiError):
        list(Api({}, {path: 500}).runtime_classes())


def test_no_two_rows_are_of_one_kind() -> None:
    names = [(row.group, row.kind) for row in OWNERS]
    assert len(names) == len(set(names))
    json.dumps([row.shown for row in OWNERS])
