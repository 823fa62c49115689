# SPDX-License-Identifier: GPL-3.0-or-later
"""The audit's decisions: reasons, risk, patches, and what is refused."""

from __future__ import annotations

import json
from fractions import Fraction

import pytest
from ansible_collections.kubepin.tuning.plugins.module_utils.common.errors import TuningError
from ansible_collections.kubepin.tuning.plugins.module_utils.common.gpu_access.node import (
    Node,
    node_from_api,
    with_facts,
)
from ansible_collections.kubepin.tuning.plugins.module_utils.common.gpu_access.risk import risk_of
from ansible_collections.kubepin.tuning.plugins.module_utils.control.gpu_pods.audit import NOT_SCHEDULED, audit
from ansible_collections.kubepin.tuning.plugins.module_utils.control.gpu_pods.patch import mend
from ansible_collections.kubepin.tuning.plugins.module_utils.control.gpu_pods.pod import (
    REASONS,
    asks_for_gpu,
    containers_of,
    judge,
    qos,
    threads_follow_the_host,
)
from ansible_collections.kubepin.tuning.plugins.module_utils.control.gpu_pods.source import FileSource, read_objects
from ansible_collections.kubepin.tuning.tests.unit.samples import gpu_pods as made

CASES, main, pod, side = made.CASES, made.main, made.pod, made.side

PREFIXES = ["nvidia.com/"]


def facts(**known):
    return with_facts(Node(), "gpu-01", known)


def reasons(spec, node=None):
    found = judge(spec, containers_of(spec, PREFIXES), node or Node())
    return {verdict.container.name: list(verdict.reasons) for verdict in found}


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_every_reason_of_every_container_is_named(case):
    assert reasons(case.spec) == case.reasons
    assert asks_for_gpu(case.spec, PREFIXES)


WHOLE, ODD = pod(main("2 1Gi")), pod(main("3 1Gi"))
POD_LEVEL = next(case.spec for case in CASES if case.name == "pod-level")
PINNED_IN_THE_POD = {**POD_LEVEL, "containers": [main("2 1Gi", "2 1Gi"), side("500m")]}


@pytest.mark.parametrize(
    ("spec", "known", "expected"),
    [
        pytest.param(WHOLE, {"cpu_manager_policy": "none"}, {"main": ["policy_not_static"]}, id="policy none"),
        pytest.param(WHOLE, {"cpu_manager_policy": "static"}, {"main": []}, id="policy static"),
        pytest.param(ODD, {"full_pcpus_only": True, "threads_per_core": 2}, {"main": ["smt_alignment"]}, id="odd"),
        pytest.param(ODD, {"full_pcpus_only": True, "threads_per_core": 1}, {"main": []}, id="odd, no SMT"),
        pytest.param(ODD, {"full_pcpus_only": True}, {"main": []}, id="odd, threads unknown"),
        pytest.param(ODD, {"full_pcpus_only": False, "threads_per_core": 2}, {"main": []}, id="odd, no such option"),
        pytest.param(ODD, {"allocatable_cpu": 2}, {"main": ["too_many_cpus"]}, id="more than the node has"),
        pytest.param(ODD, {"allocatable_cpu": "2900m"}, {"main": ["too_many_cpus"]}, id="a part of a CPU is none"),
        pytest.param(ODD, {"allocatable_cpu": 3}, {"main": []}, id="all that the node has"),
        pytest.param(
            pod(main("2 1Gi"), side("2 1Gi")),
            {"allocatable_cpu": 3},
            {"main": ["too_many_cpus"], "side": ["too_many_cpus"]},
            id="together more than the node has",
        ),
        pytest.param(
            pod(main("2 1Gi"), init=(side("3 1Gi"),)),
            {"allocatable_cpu": 3},
            {"side": [], "main": []},
            id="an init container runs before",
        ),
        pytest.param(
            PINNED_IN_THE_POD,
            {"kubelet_version": "1.36.3"},
            {"main": ["pod_level_resources"], "side": ["no_memory_limit", "fractional_cpu", "pod_level_resources"]},
            id="resources of the pod",
        ),
        pytest.param(
            PINNED_IN_THE_POD,
            {"kubelet_version": "1.37.0"},
            {"main": [], "side": ["no_memory_limit", "fractional_cpu"]},
            id="resources of the pod, pinned",
        ),
        pytest.param(
            {**POD_LEVEL, "containers": [main("2 1Gi", "1 1Gi")]},
            {"kubelet_version": "1.37.0"},
            {"main": ["cpu_request_differs"]},
            id="equal resources of the pod, unequal ones of the container",
        ),
        pytest.param(
            POD_LEVEL,
            {"kubelet_version": "1.37.0"},
            {"main": ["no_cpu_limit", "no_memory_limit"]},
            id="nothing of the container's own",
        ),
    ],
)
def test_what_the_node_makes_of_it(spec, known, expected):
    assert reasons(spec, facts(**known)) == expected


def test_every_reason_has_a_case():
    seen = {reason for case in CASES for found in case.reasons.values() for reason in found}
    assert seen | {"policy_not_static", "smt_alignment", "too_many_cpus"} == set(REASONS)


@pytest.mark.parametrize(
    ("spec", "expected"),
    [
        (WHOLE, "Guaranteed"),
        (pod(main("1500m 1Gi")), "Guaranteed"),
        (pod(main("2")), "Burstable"),
        (pod(main()), "BestEffort"),
        (POD_LEVEL, "Guaranteed"),
    ],
)
def test_quality_of_service(spec, expected):
    assert qos(spec, containers_of(spec, PREFIXES)) == expected


def test_which_pods_ask_for_a_gpu():
    assert not asks_for_gpu(pod(side("2 1Gi")), PREFIXES)
    assert not asks_for_gpu(pod(main(gpu="amd.com/gpu")), PREFIXES)
    assert asks_for_gpu(pod(main(gpu="amd.com/gpu")), [*PREFIXES, "amd.com/"])
    assert not asks_for_gpu({"containers": [{"name": "a", "resources": {"limits": {"nvidia.com/gpu": "0"}}}]}, PREFIXES)
    assert not asks_for_gpu({}, PREFIXES)


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("fractional", True),
        ("fractional-with-threads", False),
        ("fractional-env-from", False),
        ("whole", False),
        ("gpu-alone", False),
    ],
)
def test_a_quota_without_a_number_of_threads(name, hint):
    spec = next(case.spec for case in CASES if case.name == name)
    verdict = judge(spec, containers_of(spec, PREFIXES), Node())[-1]
    assert threads_follow_the_host(verdict) is hint


OLD = {"cpu_manager_policy": "static", "cgroup_driver": "cgroupfs", "device_injection": "legacy"}


@pytest.mark.parametrize(
    ("known", "exclusive", "grade", "causes"),
    [
        # What was observed by hand: kubelets 1.21.14 and 1.22.17, runc 1.0.0-rc93 and 1.1.5, devices added by a hook
        ({**OLD, "kubelet_version": "1.21.14", "runc_version": "1.0.0-rc93"}, False, "high", ["container_update"]),
        ({**OLD, "kubelet_version": "1.21.14", "runc_version": "1.0.0-rc93"}, True, "high", ["container_update"]),
        ({**OLD, "kubelet_version": "1.22.17", "runc_version": "1.0.0-rc93"}, False, "high", ["container_update"]),
        ({**OLD, "kubelet_version": "1.22.17", "runc_version": "1.0.0-rc93"}, True, "low", ["container_update"]),
        ({**OLD, "kubelet_version": "1.21.14", "runc_version": "1.1.5"}, False, "none", []),
        ({**OLD, "kubelet_version": "1.22.17", "runc_version": "1.1.5"}, False, "none", []),
        # What is unknown is said to be unknown, unless it does not matter
        ({}, False, "unknown", ["container_update", "daemon_reload", "dev_char_links"]),
        ({"device_injection": "cdi", "runc_version": "1.2.5"}, False, "none", []),
        ({**OLD, "kubelet_version": "1.22.17"}, False, "unknown", ["container_update"]),
        ({**OLD, "kubelet_version": "1.22.17", "cpu_manager_policy": "none"}, False, "none", []),
        # systemd
        (
            {**OLD, "kubelet_version": "1.30.0", "runc_version": "1.1.5", "cgroup_driver": "systemd"},
            True,
            "low",
            ["daemon_reload"],
        ),
        (
            {"device_injection": "cdi", "runc_version": "1.1.5", "cgroup_driver": "systemd", "dev_char_links": False},
            True,
            "low",
            ["dev_char_links"],
        ),
        (
            {"device_injection": "cdi", "runc_version": "1.1.5", "cgroup_driver": "systemd"},
            True,
            "unknown",
            ["dev_char_links"],
        ),
        (
            {"device_injection": "cdi", "runc_version": "1.1.7", "cgroup_driver": "systemd", "dev_char_links": False},
            True,
            "none",
            [],
        ),
    ],
)
def test_risk(known, exclusive, grade, causes):
    risk = risk_of(facts(**known), exclusive, privileged=False)
    assert (risk["grade"], [cause["code"] for cause in risk["causes"]]) == (grade, causes)


def test_a_privileged_container_keeps_its_devices():
    assert risk_of(Node(), False, privileged=True) == {"grade": "none", "causes": [], "unknown": []}


def test_node_from_the_api():
    node = {"status": {"allocatable": {"cpu": "253500m"}, "nodeInfo": {"kubeletVersion": "v1.30.2"}}}
    configz = {
        "cpuManagerPolicy": "static",
        "cpuManagerPolicyOptions": {"full-pcpus-only": "true"},
        "cgroupDriver": "systemd",
    }
    assert node_from_api(node, configz) == facts(
        kubelet_version="1.30.2",
        allocatable_cpu=253,
        cpu_manager_policy="static",
        full_pcpus_only=True,
        cgroup_driver="systemd",
    )
    assert node_from_api(node, None) == facts(kubelet_version="1.30.2", allocatable_cpu=253)
    assert node_from_api({}, None) == Node()


@pytest.mark.parametrize(
    ("key", "value", "words"),
    [
        ("kernel", "6", "kernel is unknown: expected one of kubelet_version"),
        ("kubelet_version", "new", 'kubelet_version is "new": expected a version'),
        ("cpu_manager_policy", "statik", "expected none or static"),
        ("full_pcpus_only", "yes", "expected true or false"),
        ("threads_per_core", 0, "expected a whole number above 0"),
        ("allocatable_cpu", "many", "expected a number of CPUs"),
        ("runc_version", "one", "expected a version such as 1.1.5"),
        ("cgroup_driver", "cgroup", "expected systemd or cgroupfs"),
        ("device_injection", "hook", "expected cdi, device_specs, legacy"),
        ("dev_char_links", 1, "expected true or false"),
    ],
)
def test_facts_that_are_refused(key, value, words):
    with pytest.raises(TuningError, match="the facts of node gpu-01 cannot be used") as refused:
        facts(**{key: value, "threads_per_core": 2} if key != "threads_per_core" else {key: value})
    assert words in str(refused.value)


def mending(spec, kind="Deployment", injected=(), multiple=1):
    item = {"apiVersion": "apps/v1", "kind": kind, "metadata": {"namespace": "ml", "name": "a"}}
    return mend(item, spec, containers_of(spec, PREFIXES), injected, multiple)


@pytest.mark.parametrize(
    ("spec", "multiple", "cpu", "memory", "cost"),
    [
        (pod(main("1500m 1Gi")), 1, "2", "1Gi", Fraction(1, 2)),
        (pod(main("1500m 1Gi")), 4, "4", "1Gi", Fraction(5, 2)),
        (pod(main("4 2Gi", "2 1Gi")), 1, "4", "2Gi", 2),
        (pod(main("", "3 1Gi")), 1, "3", "1Gi", 0),
        (pod(main("2 1Gi", "500m 1Gi")), 1, "2", "1Gi", Fraction(3, 2)),
        (pod(main("3 1Gi")), 2, "4", "1Gi", 1),
    ],
)
def test_a_patch_rounds_up_and_equals_requests_and_limits(spec, multiple, cpu, memory, cost):
    found = mending(spec, multiple=multiple)
    wanted = {"cpu": cpu, "memory": memory}
    entry = {"name": "main", "resources": {"limits": wanted, "requests": wanted}}
    assert found.patch["spec"] == {"template": {"spec": {"containers": [entry]}}}
    assert found.patch["metadata"] == {"namespace": "ml", "name": "a"}
    assert (found.problems, found.cpus) == ([], cost)


def test_the_way_back_removes_what_was_not_there():
    resources = mending(pod(main("1500m 1Gi"))).undo["spec"]["template"]["spec"]["containers"][0]["resources"]
    assert resources == {"limits": {"cpu": "1500m", "memory": "1Gi"}, "requests": {"cpu": None, "memory": None}}


def test_a_cron_job_keeps_its_template_deeper():
    assert set(mending(pod(main("1500m 1Gi")), "CronJob").patch["spec"]["jobTemplate"]["spec"]["template"]) == {"spec"}


def test_init_containers_are_patched_where_they_are():
    patch = mending(pod(main("2 1Gi"), init=(side("500m 1Gi"),))).patch["spec"]["template"]["spec"]
    assert [entry["name"] for entry in patch["initContainers"]] == ["side"]
    assert "containers" not in patch


@pytest.mark.parametrize(
    ("spec", "kind", "injected", "patched", "problems"),
    [
        (WHOLE, "Deployment", (), False, []),
        (WHOLE, "Job", (), False, []),
        (
            pod(main("1500m 1Gi")),
            "Job",
            (),
            False,
            ["the template of a Job cannot be changed: change what makes the Job"],
        ),
        (pod(main("1500m")), "Deployment", (), True, ["container main names no amount of memory: choose one"]),
        (
            pod(main()),
            "Deployment",
            (),
            False,
            [
                "container main names no number of CPUs: choose one",
                "container main names no amount of memory: choose one",
            ],
        ),
        (
            WHOLE,
            "Deployment",
            ("istio-proxy",),
            False,
            ["container istio-proxy is not in the template: set its resources where it is injected"],
        ),
    ],
)
def test_what_a_patch_cannot_mend_is_said(spec, kind, injected, patched, problems):
    found = mending(spec, kind, injected)
    assert (found.patch is not None, found.problems) == (patched, problems)


def test_what_is_mended_needs_no_other_patch():
    spec = pod(main("4 2Gi", "1500m 1Gi"), side("100m 64Mi"))
    patch = mending(spec).patch["spec"]["template"]["spec"]["containers"]
    mended = pod(*({**old, "resources": new["resources"]} for old, new in zip(spec["containers"], patch)))
    assert mending(mended).patch is None
    assert qos(mended, containers_of(mended, [])) == "Guaranteed"


def named(name, spec, kind="Pod", controller=None, **extra):
    metadata = {"namespace": "ml", "name": name}
    if controller:
        metadata["ownerReferences"] = [{"kind": controller[0], "name": controller[1], "controller": True}]
    api_version = "v1" if kind == "Pod" else "apps/v1"
    return {"apiVersion": api_version, "kind": kind, "metadata": metadata, "spec": spec, **extra}


class Cluster:
    """What a source gives, from lists."""

    def __init__(self, pods, owners=()):
        self._pods, self._owners = pods, owners

    def pods(self):
        return iter(self._pods)

    def owners(self):
        return iter(self._owners)

    def node_facts(self, name):
        return Node()


def test_the_audit_follows_owners_and_counts_costs():
    fractional = pod(main("1500m 1Gi"))
    template = {"template": {"spec": fractional}}
    result = audit(
        Cluster(
            [
                named("serve-1-a", {**fractional, "nodeName": "gpu-01"}, controller=("ReplicaSet", "serve-1")),
                named("serve-1-b", {**fractional, "nodeName": "gpu-01"}, controller=("ReplicaSet", "serve-1")),
                named("serve-1-c", fractional, controller=("ReplicaSet", "serve-1")),
                named("torch-0", WHOLE, controller=("PyTorchJob", "torch")),
                named("bare", WHOLE),
                named("done", WHOLE, status={"phase": "Succeeded"}),
                named("web", pod(side())),
            ],
            [
                named("serve-1", template, "ReplicaSet", ("Deployment", "serve")),
                named("serve", template, "Deployment"),
                named("web", {"template": {"spec": pod(side())}}, "Deployment"),
            ],
        ),
        {"gpu-01": {"full_pcpus_only": True, "threads_per_core": 4}},
        PREFIXES,
        1,
    )
    assert {item["name"]: item["owner"] for item in result["pods"]} == {
        "bare": None,
        "serve-1-a": "Deployment/serve",
        "serve-1-b": "Deployment/serve",
        "serve-1-c": "Deployment/serve",
        "torch-0": "PyTorchJob/torch",
    }
    (serve,) = result["owners"]
    assert (serve["name"], serve["pods"]) == ("serve", 3)
    assert serve["cpus_per_node"] == {"gpu-01": 5, NOT_SCHEDULED: 2.5}
    summary = result["summary"]
    assert (summary["pods"], summary["exclusive"], summary["finished"]) == (5, 2, 1)
    assert summary["reasons"] == {"fractional_cpu": 3}
    json.dumps(result)


def test_a_quantity_that_is_none_names_its_pod():
    with pytest.raises(TuningError, match=r'ml/odd cannot be understood: "two" is no Kubernetes quantity'):
        audit(Cluster([named("odd", pod(main("two 1Gi")))]), {}, PREFIXES, 1)


def test_files(tmp_path):
    file = tmp_path / "pods"
    file.write_text(json.dumps({"kind": "PodList", "apiVersion": "v1", "items": [{"metadata": {"name": "a"}}]}))
    assert read_objects(str(file)) == [{"kind": "Pod", "apiVersion": "v1", "metadata": {"name": "a"}}]
    file.write_text("kind: Pod\nmetadata: {name: a}\n---\nkind: Node\nmetadata: {name: n}\n")
    assert [item["kind"] for item in read_objects(str(file))] == ["Pod", "Node"]
    file.write_text(json.dumps({"kind": "List", "items": made.manifests(22, "image")}))
    source = FileSource(str(file), None)
    result = audit(source, {}, PREFIXES, 1)
    assert result["summary"]["pods"] == sum(case.since <= 22 for case in CASES) >= 40
    assert [f"{item['kind']}/{item['name']}" for item in result["owners"] if item["patch"] is None] == ["Job/once"]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (None, "cannot be read"),
        ("{", "is neither JSON nor YAML"),
        ("just words", "holds something that is no Kubernetes object"),
        ('{"a": 1}', "holds something that is no Kubernetes object"),
        ('{"kind": "Pod"}', "holds a Pod without a name"),
        ('{"kind": "List", "items": [1]}', "holds something that is no Kubernetes object"),
    ],
)
def test_files_that_are_refused(tmp_path, text, words):
    file = tmp_path / "pods.json"
    if text is not None:
        file.write_text(text)
    with pytest.raises(TuningError, match=words):
        read_objects(str(file))
