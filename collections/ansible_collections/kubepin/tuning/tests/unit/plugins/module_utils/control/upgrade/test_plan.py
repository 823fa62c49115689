# SPDX-License-Identifier: GPL-3.0-or-later
"""The plan: every way through, every place where a run can have been stopped, every problem."""

from __future__ import annotations

import pytest
from ansible_collections.kubepin.tuning.plugins.module_utils.common.kubelet.problems import units_changed
from ansible_collections.kubepin.tuning.plugins.module_utils.common.problem import Problem, to_dicts
from ansible_collections.kubepin.tuning.plugins.module_utils.control.cluster import problems as drain_problems
from ansible_collections.kubepin.tuning.plugins.module_utils.control.upgrade.plan import (
    UpgradeRequest,
    batch_problems,
    in_batches,
    plan_versions,
)
from ansible_collections.kubepin.tuning.plugins.module_utils.control.upgrade.problems import CLUSTER, drain
from ansible_collections.kubepin.tuning.tests.unit.samples.problems import a_problem
from ansible_collections.kubepin.tuning.tests.unit.samples.upgrade_cluster import ALL, CP, W1, W2, Cluster, Data, facts


@pytest.fixture
def cluster() -> Cluster:
    return Cluster()


def test_two_minors_all_kubelets_in_each(cluster: Cluster) -> None:
    assert cluster.plan().problems == []
    assert cluster.steps() == [
        (version, *step)
        for version in ("1.21.14", "1.22.17")
        for step in (("prepare", ALL), ("apply", CP), ("node", CP), ("node", W1), ("node", W2))
    ]


def test_a_cluster_at_its_target_or_above_is_left_alone(cluster: Cluster) -> None:
    cluster.control_plane_at("1.23.17")
    cluster.kubelets_at("1.23.17", CP, W1, W2)
    assert cluster.steps() == []
    cluster.request["target"] = "1.22.17"
    plan = cluster.plan()
    assert (plan.steps, plan.problems) == ([], [])
    assert "left alone" in plan.notes[0]


def test_stopped_after_apply(cluster: Cluster) -> None:
    cluster.control_plane_at("1.21.14")
    assert cluster.steps()[:5] == [
        ("1.21.14", "node", CP),
        ("1.21.14", "node", W1),
        ("1.21.14", "node", W2),
        ("1.22.17", "prepare", ALL),
        ("1.22.17", "apply", CP),
    ]


@pytest.mark.parametrize("behind", ["kube_proxy", "kubeadm", "manifest"])
def test_stopped_within_apply(cluster: Cluster, behind: str) -> None:
    cluster.control_plane_at("1.21.14")
    if behind == "kube_proxy":
        cluster.api["kube_proxy"] = "v1.20.15"
    elif behind == "kubeadm":
        cluster.api["kubeadm"]["kubernetesVersion"] = "v1.20.15"
    else:
        cluster.hosts[CP]["facts"]["manifests"]["kube-scheduler"] = "1.20.15"
    assert cluster.steps()[:2] == [("1.21.14", "prepare", ALL), ("1.21.14", "apply", CP)]


def test_stopped_between_two_workers(cluster: Cluster) -> None:
    cluster.control_plane_at("1.21.14")
    cluster.kubelets_at("1.21.14", CP, W1)
    assert cluster.steps()[:2] == [("1.21.14", "node", W2), ("1.22.17", "prepare", ALL)]


def test_stopped_with_a_node_in_progress_is_finished_even_at_the_target(cluster: Cluster) -> None:
    cluster.control_plane_at("1.22.17")
    cluster.kubelets_at("1.22.17", CP, W1, W2)
    cluster.api["nodes"][1].update(in_progress=True, ready=False, unschedulable=True)
    assert cluster.steps() == [("1.22.17", "node", W1)]
    assert cluster.problems() == []


def test_the_versions_alone_need_no_facts(cluster: Cluster) -> None:
    _server, _target, versions = plan_versions(cluster.api, UpgradeRequest())
    assert list(map(str, versions)) == ["1.21.14", "1.22.17"]


def test_all_problems_at_once(cluster: Cluster) -> None:
    cluster.api["nodes"][1]["ready"] = False
    cluster.api["kubelet_configs"]["kubelet-config-1.20"] = {}
    cluster.api["drains"] = {
        W2: {
            "problems": [drain_problems.no_controller("a/b").to_dict()],
            "blocked": [drain_problems.budget_exhausted("a/b", "a/c", 1, 1).to_dict()],
        }
    }
    cluster.hosts[W2]["facts"]["disk"][0]["free_mb"] = 10
    cluster.hosts[W2]["facts"]["source_problems"] = [a_problem("kubelet 1.21.14 has no checksum").to_dict()]
    cluster.hosts[CP]["facts"]["certificates"][0]["days_left"] = 2.0
    assert cluster.problems() == [
        ("not_ready", W1),
        ("certificates", CP),
        ("cgroup_driver", CLUSTER),
        ("drain", W2),
        ("drain", W2),
        ("disk", W2),
        ("source", W2),
    ]


def test_nodes_that_are_not_in_the_run_block_it(cluster: Cluster) -> None:
    del cluster.hosts[W2]
    cluster.hosts["stranger"] = {"node": "stranger", "facts": facts(False)}
    assert cluster.problems() == [("inventory", W2), ("inventory", CLUSTER)]


def test_another_machine_by_that_name(cluster: Cluster) -> None:
    cluster.hosts[W1]["facts"]["boot_id"] = "another"
    assert cluster.problems() == [("inventory", W1)]


def test_a_host_without_facts_blocks(cluster: Cluster) -> None:
    cluster.hosts[W1].update(facts={}, error="ssh: connect to host w1 port 22: Connection refused")
    assert cluster.problems() == [("node_unreadable", W1)]
    assert (
        "w1 could not be read through host w1: ssh: connect to host w1 port 22: Connection refused."
        in cluster.plan().problems[0].text
    )


def test_another_cgroup_driver_than_the_config_map(cluster: Cluster) -> None:
    cluster.hosts[W1]["facts"]["cgroup"]["driver"] = "systemd"
    assert cluster.problems() == [("cgroup_driver", W1)]


@pytest.mark.parametrize(
    ("target", "change", "code"),
    [
        ("1.24.17", {"runtime": "docker://20.10.7"}, "dockershim"),
        ("1.26.15", {"runtime": "containerd://1.5.9"}, "runtime"),
    ],
)
def test_runtimes(cluster: Cluster, target: str, change: Data, code: str) -> None:
    cluster.request["target"] = target
    cluster.api["nodes"][1].update(change)
    assert cluster.problems() == [(code, W1)]
    cluster.request.update(target="1.22.17", accept=["runtime"])
    assert cluster.problems() == []


def test_control_groups_v1_from_1_35(cluster: Cluster) -> None:
    cluster.control_plane_at("1.34.4")
    cluster.kubelets_at("1.34.4", CP, W1, W2)
    for node in cluster.api["nodes"]:
        node["runtime"] = "containerd://2.2.1"
    cluster.hosts[W1]["facts"]["cgroup"]["version"] = 2
    cluster.request["target"] = "1.35.4"
    assert cluster.problems() == [("cgroup_v1", CP), ("cgroup_v1", W2)]
    cluster.api["kubelet_configs"]["kubelet-config"] = {"failCgroupV1": "false"}
    assert cluster.problems() == []


def at_1_36(cluster: Cluster) -> None:
    """The cluster at 1.36.3 on the way to 1.37.2, with nothing against it."""
    cluster.control_plane_at("1.36.3")
    cluster.kubelets_at("1.36.3", CP, W1, W2)
    for node in cluster.api["nodes"]:
        node["runtime"] = "containerd://2.2.1"
    cluster.request["target"] = "1.37.2"
    assert cluster.problems() == []


def test_feature_gates_that_the_target_does_not_know(cluster: Cluster) -> None:
    at_1_36(cluster)
    for host in (W1, W2):
        cluster.hosts[host]["facts"]["feature_gates"] = {"SidecarContainers": True, "PodLevelResourceManagers": True}
    assert cluster.problems() == [("feature_gates", W1), ("feature_gates", W2)]
    cluster.api["kubelet_gates"] = {"kubelet-config": ["SidecarContainers"]}
    assert cluster.problems() == [("feature_gates", CLUSTER)]
    cluster.api["arguments"] = {"kube-scheduler": {"feature-gates": "GangScheduling=true, AllAlpha=false"}}
    assert cluster.problems() == [("feature_gates", CLUSTER)] * 2
    assert "GangScheduling in the feature-gates of kube-scheduler, which 1.37" in cluster.plan().problems[1].text


def test_admission_plugins_that_the_target_does_not_know(cluster: Cluster) -> None:
    cluster.api["arguments"] = {"kube-apiserver": {"enable-admission-plugins": "NodeRestriction,PodSecurityPolicy"}}
    cluster.request["target"] = "1.24.17"
    assert cluster.problems() == []
    cluster.request["target"] = "1.25.16"
    assert cluster.problems() == [("admission_plugins", CLUSTER)]


def test_a_configuration_that_only_the_present_kubeadm_reads(cluster: Cluster) -> None:
    at_1_36(cluster)
    cluster.api["kubeadm"]["apiVersion"] = "kubeadm.k8s.io/v1beta4"
    assert cluster.problems() == []
    cluster.api["kubeadm"]["apiVersion"] = "kubeadm.k8s.io/v1beta3"
    assert cluster.problems() == [("kubeadm_api", CLUSTER)]


def test_a_configuration_that_a_kubeadm_on_the_path_converts(cluster: Cluster) -> None:
    cluster.api["kubeadm"]["apiVersion"] = "kubeadm.k8s.io/v1beta2"
    cluster.request["target"] = "1.28.15"
    for node in cluster.api["nodes"]:
        node["runtime"] = "containerd://2.2.1"
    assert cluster.problems() == []


def test_containerd_1_is_too_old_for_1_36_and_newer(cluster: Cluster) -> None:
    at_1_36(cluster)
    cluster.api["nodes"][1]["runtime"] = "containerd://1.7.28"
    assert cluster.problems() == [("runtime", W1)]


def test_flags_of_cadvisor_stop_the_kubelet_of_1_37(cluster: Cluster) -> None:
    at_1_36(cluster)
    cluster.hosts[W1]["facts"]["command_line"] += ["--containerd=/run/c.sock", "--housekeeping-interval=10s"]
    assert cluster.problems() == [("kubelet_flags", W1)]


def test_static_pods_with_references_to_the_api(cluster: Cluster) -> None:
    at_1_36(cluster)
    pods = {"/etc/kubernetes/manifests/vip.yaml": ["ConfigMaps", "Secrets"]}
    cluster.hosts[W1]["facts"]["static_pod_references"] = pods
    assert cluster.problems() == []  # they have not run since 1.34
    cluster.hosts[W1]["facts"]["feature_gates"] = {"PreventStaticPodAPIReferences": False}
    assert ("static_pods", W1) in cluster.problems()
    cluster.control_plane_at("1.33.5")
    cluster.kubelets_at("1.33.5", CP, W1, W2)
    cluster.request["target"] = "1.34.4"
    assert cluster.problems() == []
    cluster.hosts[W1]["facts"]["feature_gates"] = {}
    [problem] = cluster.plan().problems
    assert "vip.yaml that refers to ConfigMaps, Secrets, which the kubelet does not start since 1.34" in problem.text


def test_events_without_a_limit_are_a_note(cluster: Cluster) -> None:
    at_1_36(cluster)
    assert not any("eventRecordQPS" in note for note in cluster.plan().notes)
    cluster.hosts[W1]["facts"]["event_record_qps"] = 0
    assert [note for note in cluster.plan().notes if "eventRecordQPS: 0" in note and W1 in note]


def overwritten(cluster: Cluster) -> list[str]:
    """The notes on settings of single nodes that kubeadm replaces."""
    return [note for note in cluster.plan().notes if "kubeadm_upgrade_patches_directory" in note]


def test_settings_of_a_node_that_kubeadm_replaces_are_a_note(cluster: Cluster) -> None:
    shared = {
        "cgroupDriver": "cgroupfs",
        "evictionHard": {"nodefs.available": "0%"},
        "maxPods": 110,
        "resolvConf": "/run/a",
    }
    cluster.api["kubelet_fields"] = {"kubelet-config-1.20": shared, "kubelet-config": {}}
    own = {
        **shared,
        "evictionHard": {"nodefs.available": "0%", "memory.available": "100Mi"},
        "podPidsLimit": 4096,
        "resolvConf": "/run/b",  # kubeadm's own, like clusterDNS
        "clusterDNS": ["10.96.0.10"],
        "cpuManagerPolicy": "static",  # kept in any case
    }
    cluster.hosts[W1]["facts"]["config_file"] = own
    cluster.hosts[W2]["facts"]["config_file"] = shared
    (note,) = overwritten(cluster)
    assert W1 in note
    assert "kube-system/kubelet-config-1.20 in evictionHard, podPidsLimit:" in note
    cluster.hosts[W1]["facts"]["patches_directory"] = "/etc/patches"
    assert overwritten(cluster) == []


def test_a_node_that_has_the_version_keeps_its_settings(cluster: Cluster) -> None:
    cluster.api["kubelet_fields"] = {"kubelet-config": {"maxPods": 110}}
    for host in (W1, W2):
        cluster.hosts[host]["facts"]["config_file"] = {"maxPods": 250}
    cluster.control_plane_at("1.21.14")
    cluster.kubelets_at("1.21.14", CP, W1)
    cluster.request["target"] = "1.21.14"
    (note,) = overwritten(cluster)
    assert W2 in note


def test_settings_spelt_otherwise_are_the_same(cluster: Cluster) -> None:
    cluster.api["kubelet_fields"] = {"kubelet-config": {"streamingConnectionIdleTimeout": "4h", "memorySwap": {}}}
    cluster.hosts[W1]["facts"]["config_file"] = {
        "streamingConnectionIdleTimeout": "4h0m0s",
        "evictionPressureTransitionPeriod": "0s",
    }
    assert overwritten(cluster) == []


def test_frozen_registry_blocks_until_accepted(cluster: Cluster) -> None:
    cluster.request["images_from_registry"] = True
    assert cluster.problems() == [("image_repository", CLUSTER)]
    cluster.request["accept"] = ["image_repository"]
    plan = cluster.plan()
    assert plan.problems == []
    assert plan.notes[0].startswith("accepted (image_repository)")


def test_removed_apis(cluster: Cluster) -> None:
    old = {"version": "v1beta1", "removed_release": "1.22"}
    cluster.api["deprecated_requests"] = [
        {**old, "group": "extensions", "resource": "ingresses"},
        {**old, "group": "networking.k8s.io", "resource": "ingresses"},
        {"group": "batch", "version": "v1beta1", "resource": "cronjobs", "removed_release": "1.25"},
    ]
    cluster.api["old_objects"] = [
        {
            "api": "extensions/v1beta1",
            "resource": "ingresses",
            "name": "a/b",
            "writers": "helm",
            "removed_release": "1.22",
            "served_in": "v1",
        }
    ]
    problems = cluster.plan().problems
    assert [(problem.code, problem.waivable) for problem in problems] == [("removed_apis", True)] * 2
    texts = [problem.text for problem in problems]
    assert "networking.k8s.io/v1beta1" in texts[0]
    assert "a/b, written with extensions/v1beta1 by helm" in texts[1]


def test_an_object_of_an_api_without_a_successor_is_to_be_deleted(cluster: Cluster) -> None:
    old = {"api": "scheduling.k8s.io/v1alpha2", "resource": "workloads", "name": "ml/a", "writers": "kueue"}
    cluster.api["old_objects"] = [{**old, "removed_release": "1.37", "served_in": None}]
    [problem] = cluster.plan().problems
    assert problem.code == "removed_apis"
    assert "workloads ml/a of scheduling.k8s.io/v1alpha2, written by kueue, which 1.37 cannot read" in problem.text


def test_requests_that_may_be_kubernetes_own_are_hints_unless_an_object_names_them(cluster: Cluster) -> None:
    cluster.request["target"] = "1.25.16"
    old = {"version": "v1beta1", "removed_release": "1.25"}
    cluster.api["deprecated_requests"] = [
        {**old, "group": "batch", "resource": "cronjobs"},
        {**old, "group": "discovery.k8s.io", "resource": "endpointslices"},
    ]
    cluster.api["old_objects"] = [
        {
            "api": "batch/v1beta1",
            "resource": "cronjobs",
            "name": "a/b",
            "writers": "helm",
            "removed_release": "1.25",
            "served_in": "v1",
        }
    ]
    plan = cluster.plan()
    assert [problem.finding.split(" which ")[0] for problem in plan.problems] == [
        "stores cronjobs a/b, written with batch/v1beta1 by helm,"
    ]
    assert [note.split(",")[0] for note in plan.notes] == ["endpointslices of discovery.k8s.io/v1beta1"]


@pytest.mark.parametrize(
    ("problem", "finding", "remedy"),
    [
        (
            drain_problems.no_controller("a/b"),
            "cannot be drained: pod a/b has no controller, so nothing would start it again",
            "Delete it, or allow its deletion with kubeadm_upgrade_drain_force: true.",
        ),
        (
            drain_problems.daemon_set_missing("a/b", "c"),
            "cannot be drained: pod a/b belongs to DaemonSet c, which does not exist, so nothing would start it again",
            "Delete it, or allow its deletion with kubeadm_upgrade_drain_force: true.",
        ),
        (
            drain_problems.local_data("a/b", ["scratch"]),
            "cannot be drained: pod a/b would lose the data of its emptyDir volume scratch",
            "Save it, and allow this with kubeadm_upgrade_drain_delete_emptydir_data: true.",
        ),
        (
            drain_problems.several_budgets("a/b", ["a/c", "a/d"]),
            "cannot be drained: pod a/b cannot be evicted: it has 2 disruption budgets (a/c, a/d), and the eviction API accepts one",
            "Change their selectors.",
        ),
        (
            drain_problems.budget_outdated("a/b", "a/c", 1, 2),
            "cannot be drained: pod a/b cannot be evicted: the status of disruption budget a/c is out of date (generation 1 of 2)",
            "Try again in a few seconds; if it stays so, check kube-controller-manager.",
        ),
        (
            drain_problems.budget_exhausted("a/b", "a/c", 1, 1),
            "cannot be drained: pod a/b cannot be evicted: disruption budget a/c allows 0 (currently 1 healthy of 1 desired)",
            "Scale its owner up, or relax the budget.",
        ),
    ],
)
def test_a_drain_for_an_upgrade_leaves_no_node_out(
    cluster: Cluster, problem: Problem, finding: str, remedy: str
) -> None:
    cluster.api["drains"] = {W1: {"problems": [problem.to_dict()], "blocked": []}}
    [found] = cluster.plan().problems
    assert (found.code, found.subject, found.finding, found.remedy) == ("drain", W1, finding, remedy)


def test_no_drain_problem_suggests_to_leave_a_node_out() -> None:
    wordings = [
        drain_problems.no_controller("a/b"),
        drain_problems.daemon_set_missing("a/b", "c"),
        drain_problems.local_data("a/b", ["scratch"]),
        drain_problems.several_budgets("a/b", ["a/c", "a/d"]),
        drain_problems.budget_outdated("a/b", "a/c", 1, 2),
        drain_problems.budget_failing("a/b", "a/c", "no scale"),
        drain_problems.budget_pod_not_ready("a/b", "a/c", 0, 1),
        drain_problems.budget_exhausted("a/b", "a/c", 1, 1),
    ]
    assert all("--limit" not in drain(W1, problem).text for problem in wordings)


def test_what_is_wrong_with_a_node_stays_with_its_remedy(cluster: Cluster) -> None:
    cluster.hosts[W1]["facts"]["problems"] = [units_changed("kubelet.service").to_dict()]
    [found] = cluster.plan().problems
    assert (found.code, found.subject, found.waivable) == ("unit_files_changed", W1, False)
    assert (
        found.finding
        == "has a problem with its kubelet: the unit files of kubelet.service changed since systemd read them"
    )
    assert found.remedy == "Drain the node, then run `systemctl daemon-reload`."


def test_facts_carry_problems_as_dictionaries(cluster: Cluster) -> None:
    cluster.api["nodes"][1]["ready"] = False
    fact = cluster.plan().to_dict()
    [problem] = fact["problems"]
    assert fact["schema"] == 3
    assert (problem["code"], problem["subject"], problem["waivable"]) == ("not_ready", W1, False)
    assert problem["text"].startswith("w1 is not Ready (KubeletReady). Repair it first")


def test_only_waivable_problems_can_be_accepted(cluster: Cluster) -> None:
    cluster.api["nodes"][1]["ready"] = False
    cluster.request["accept"] = ["not_ready"]
    assert cluster.problems() == [("not_ready", W1)]


def test_a_dropped_flag_that_means_something(cluster: Cluster) -> None:
    cluster.request["target"] = "1.24.17"
    cluster.hosts[W1]["facts"]["command_line"] += ["--dynamic-config-dir=/x", "--network-plugin=cni"]
    assert cluster.problems() == [("kubelet_flags", W1)]


def test_a_kubelet_newer_than_the_api_server(cluster: Cluster) -> None:
    cluster.kubelets_at("1.21.14", W1)
    assert cluster.problems() == [("skew", W1)]


def test_a_requested_version_that_is_refused(cluster: Cluster) -> None:
    cluster.request["target"] = "1.22.0"
    plan = cluster.plan()
    assert [problem.code for problem in plan.problems] == ["version"]
    assert plan.steps == []


@pytest.mark.parametrize(
    ("sizes", "expected"),
    [([1], [1, 1, 1, 1]), ([1, "50%"], [1, 2, 1]), (["100%"], [4]), (["10%"], [1, 1, 1, 1]), ([3], [3, 1])],
)
def test_batches(sizes: list[int | str], expected: list[int]) -> None:
    assert [len(batch) for batch in in_batches(list("abcd"), sizes)] == expected
    assert batch_problems(sizes) == []


@pytest.mark.parametrize("size", ["[2]", "0", 0, -1, "half", "120%", "2.5", "%"])
def test_what_is_no_size_of_a_batch_is_named(size: object) -> None:
    (problem,) = batch_problems([1, size])
    assert problem.subject == f'"{size}" in kubeadm_upgrade_batches'
    assert problem.finding.startswith("is not a number of workers")


def test_no_batch_at_all_is_refused() -> None:
    assert "expected how many workers at a time" in batch_problems([])[0].finding


def test_what_a_drain_may_take_from_others_is_a_note(cluster: Cluster) -> None:
    cluster.api["preemptions"] = ["pod a may preempt b"]
    assert "pod a may preempt b" in cluster.plan().notes
    assert cluster.problems() == []


def test_a_node_that_others_work_on_is_left_to_them_until_that_is_accepted(cluster: Cluster) -> None:
    found = [
        drain_problems.in_use(W1, "run theirs", ""),
        drain_problems.in_maintenance(W1, "kured", "annotation x"),
        drain_problems.other_work(W1, "run theirs", False),
    ]
    cluster.api["nodes"][1].update(occupied=to_dicts(found), notes=["the cluster autoscaler may begin"])
    assert cluster.problems() == [("node_in_use", W1), ("node_in_maintenance", W1), ("node_in_other_work", W1)]
    assert "the cluster autoscaler may begin" in cluster.plan().notes
    assert not any("--limit" in problem.text or "cpu_manager" in problem.text for problem in cluster.plan().problems)
    cluster.request["accept"] = ["node_in_use", "node_in_maintenance", "node_in_other_work"]
    assert cluster.problems() == [("node_in_other_work", W1)]


def test_pods_that_a_drain_evicts_and_autoscalers_would_not_are_notes(cluster: Cluster) -> None:
    cluster.api["drains"] = {W1: {"problems": [], "blocked": [], "notes": ["pod ml/a is evicted although"]}}
    assert "pod ml/a is evicted although" in cluster.plan().notes


EDITED = {"name": "maxPods", "running": "110", "configured": "250", "source": "/var/lib/kubelet/config.yaml"}


def test_a_kubelet_that_runs_otherwise_than_its_files_say_blocks_until_accepted(cluster: Cluster) -> None:
    cluster.hosts[W1]["facts"]["differences"] = [EDITED]
    assert cluster.problems() == [("kubelet_not_restarted", W1)]
    assert "maxPods is 110, and would be 250 (from /var/lib/kubelet/config.yaml)" in cluster.plan().problems[0].text
    cluster.request["accept"] = ["kubelet_not_restarted"]
    plan = cluster.plan()
    assert plan.problems == []
    assert plan.notes[0].startswith("accepted (kubelet_not_restarted): w1 ")


def test_kubelets_that_are_not_restarted_by_the_upgrade_may_differ(cluster: Cluster) -> None:
    cluster.kubelets_at("1.22.17", W1)
    cluster.control_plane_at("1.22.17")
    cluster.hosts[W1]["facts"]["differences"] = [EDITED]
    cluster.hosts[W1]["configz_error"] = "the kubelet was not asked"
    plan = cluster.plan()
    assert (plan.problems, plan.notes) == ([], [])
    assert plan.steps != []


def test_a_configuration_that_could_not_be_read_is_a_note(cluster: Cluster) -> None:
    cluster.hosts[W1]["configz_error"] = "nodes/proxy is forbidden."
    plan = cluster.plan()
    assert plan.problems == []
    assert (
        "w1 runs with could not be read (nodes/proxy is forbidden), so that only its flags were compared"
        in plan.notes[0]
    )
