# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import json
from typing import Any

import pytest
import yaml
from ansible_collections.kubepin.tuning.plugins.module_utils.common.cpuset import format_cpuset, parse_cpuset
from ansible_collections.kubepin.tuning.plugins.module_utils.common.kubelet.checkpoint import seal_of
from ansible_collections.kubepin.tuning.plugins.module_utils.common.kubelet.problems import not_yaml
from ansible_collections.kubepin.tuning.plugins.module_utils.common.layout import DROP_IN_DIR
from ansible_collections.kubepin.tuning.plugins.module_utils.common.switch.changes import state_changes
from ansible_collections.kubepin.tuning.plugins.module_utils.control.cpus.notes import machine_notes
from ansible_collections.kubepin.tuning.plugins.module_utils.control.kubelet.costs import static_policy_costs
from ansible_collections.kubepin.tuning.plugins.module_utils.control.kubelet.kubelet import Kubelet, decode_kubelet
from ansible_collections.kubepin.tuning.plugins.module_utils.control.switch.desired import DesiredSettings
from ansible_collections.kubepin.tuning.plugins.module_utils.control.switch.plan import (
    Plan,
    desired_state,
    endpoint_of,
    plan_pins,
    plan_rollback,
    plan_switch,
)
from ansible_collections.kubepin.tuning.tests.unit.samples.machines import (
    DEFAULTS,
    ENV,
    HEAD,
    NONE_STATE,
    STATIC_STATE,
    kubelet,
    sources,
    topology,
)
from ansible_collections.kubepin.tuning.tests.unit.samples.snaps import ARGUMENTS, of_snap

DROP_IN = f"{DROP_IN_DIR}/90-kubepin.conf"
TUNED = 'cpuManagerPolicy: static\nreservedSystemCPUs: "0"\n'
STATIC = DesiredSettings("static")
STATIC_FLAGS = 'KUBELET_EXTRA_ARGS="--cpu-manager-policy=static --reserved-cpus=0"\n'


def after(plan: Plan, version: str = "1.22.17", **changes: Any) -> Kubelet:
    """A default kubelet once the plan is carried out and the kubelet restarted."""
    files = {change.path: change.after for change in plan.files}
    drop_ins = {path: text for path, text in files.items() if path != ENV}
    return kubelet(version, **{"extra_args": files.get(ENV), "drop_ins": drop_ins, "state": STATIC_STATE, **changes})


def paths(plan: Plan) -> list[str]:
    return [change.path for change in plan.files]


def test_below_1_30_the_settings_are_flags_in_the_service_environment() -> None:
    plan = plan_switch(topology(), kubelet("1.22.17"), STATIC)
    assert plan.problems == []
    assert [(c.name, c.before, c.after) for c in plan.settings] == [
        ("cpuManagerPolicy", "none", "static"),
        ("reservedSystemCPUs", "", "0"),
    ]
    assert [(c.path, c.before, c.after) for c in plan.files] == [(ENV, None, STATIC_FLAGS)]
    assert [c.path for c in plan.state_files] == ["/var/lib/kubelet/cpu_manager_state"]
    assert 'configured policy "static" differs' in plan.state_files[0].reason


def test_a_profile_is_the_reason_of_its_settings_and_the_numbers_are_explained() -> None:
    machine = topology(cores=8, numa_nodes=2)
    plan = plan_switch(machine, kubelet("1.36.3"), DesiredSettings("static", profile="numa"))
    assert plan.problems == []
    reasons = {setting.name: setting.reason for setting in plan.settings}
    assert reasons["topologyManagerPolicy"] == "profile numa; was the kubelet's default"
    assert reasons["reservedMemory"] == "computed; was the kubelet's default"
    assert any(note.startswith("reservedMemory: 100Mi in all") for note in plan.notes)
    assert any(note.startswith("reservedSystemCPUs: ") for note in plan.notes)
    assert yaml.safe_load(plan.files[0].after or "")["reservedMemory"] == [
        {"numaNode": 0, "limits": {"memory": "50Mi"}},
        {"numaNode": 1, "limits": {"memory": "50Mi"}},
    ]


def test_from_1_30_the_settings_are_a_drop_in_that_is_written_before_it_is_named() -> None:
    plan = plan_switch(topology(), kubelet("1.36.3"), STATIC)
    assert paths(plan) == [DROP_IN, ENV]
    assert plan.files[1].after == f"KUBELET_EXTRA_ARGS=--config-dir={DROP_IN_DIR}\n"
    assert yaml.safe_load(plan.files[0].after or "") == {
        "apiVersion": "kubelet.config.k8s.io/v1beta1",
        "kind": "KubeletConfiguration",
        "cpuManagerPolicy": "static",
        "reservedSystemCPUs": "0",
    }


def test_a_drop_in_directory_that_is_in_use_is_used() -> None:
    there = kubelet("1.36.3", extra_args="KUBELET_EXTRA_ARGS=--config-dir=/etc/site/kubelet.d\n")
    assert paths(plan_switch(topology(), there, STATIC)) == ["/etc/site/kubelet.d/90-kubepin.conf"]


def test_from_1_30_flags_that_would_overrule_the_drop_in_go() -> None:
    there = kubelet("1.36.3", extra_args='KUBELET_EXTRA_ARGS="--v=2 --cpu-manager-policy=none"\n')
    plan = plan_switch(topology(), there, STATIC)
    assert plan.files[1].after == f'KUBELET_EXTRA_ARGS="--v=2 --config-dir={DROP_IN_DIR}"\n'


def test_a_flag_that_an_old_kubelet_does_not_know_is_not_written_for_its_default() -> None:
    desired = DesiredSettings("static", memory_manager_policy="None", reserved_memory=[], policy_options={})
    plan = plan_switch(topology(), kubelet("1.20.15"), desired)
    assert plan.problems == []
    assert [change.after for change in plan.files] == [
        'KUBELET_EXTRA_ARGS="--cpu-manager-policy=static --reserved-cpus=0"\n'
    ]


@pytest.mark.parametrize("version", ["1.21.14", "1.22.17", "1.29.0", "1.30.0", "1.36.3"])
def test_a_second_run_has_nothing_to_do(version: str) -> None:
    plan = plan_switch(topology(), kubelet(version), STATIC)
    assert not plan_switch(topology(), after(plan, version), STATIC).changed


def test_the_policy_none_also_drops_options() -> None:
    flags = "--cpu-manager-policy=static --cpu-manager-policy-options=full-pcpus-only=true"
    found = kubelet(extra_args=f'KUBELET_EXTRA_ARGS="{flags}"\n')
    plan = plan_switch(topology(), found, DesiredSettings("none"))
    assert plan.problems == []
    assert plan.files[0].after == "KUBELET_EXTRA_ARGS=--cpu-manager-policy=none\n"


def test_settings_that_are_not_named_stay() -> None:
    found = after(plan_switch(topology(), kubelet("1.36.3"), STATIC), "1.36.3")
    plan = plan_switch(topology(), found, DesiredSettings("static", topology_manager_policy="best-effort"))
    assert [change.name for change in plan.settings] == ["topologyManagerPolicy"]
    assert yaml.safe_load(plan.files[0].after or "")["cpuManagerPolicy"] == "static"
    assert plan.state_files == [], "a state file that the kubelet would take was to be removed"


def test_a_state_file_left_over_from_another_policy_is_a_change_of_its_own() -> None:
    found = after(plan_switch(topology(), kubelet(), STATIC), state=NONE_STATE)
    plan = plan_switch(topology(), found, STATIC)
    assert (plan.settings, plan.files) == ([], [])
    assert plan.changed


def test_a_kubelet_that_was_not_restarted_since_is_restarted() -> None:
    running = ["--cpu-manager-policy=static", "--reserved-cpus=1"]
    found = after(plan_switch(topology(), kubelet(), STATIC), running=running)
    plan = plan_switch(topology(), found, STATIC)
    assert [(c.name, c.before, c.after, c.reason) for c in plan.settings] == [
        ("reservedSystemCPUs", "1", "0", "configured, but the kubelet was not restarted since")
    ]


def test_what_configz_says_counts_more_than_the_command_line() -> None:
    found = kubelet(config=TUNED, state=STATIC_STATE)
    plan = plan_switch(topology(), found, STATIC, {"cpuManagerPolicy": "none"})
    assert plan.problems == []
    assert [(c.name, c.before, c.after, c.reason) for c in plan.settings] == [
        ("cpuManagerPolicy", "none", "static", "configured, but the kubelet was not restarted since"),
        ("reservedSystemCPUs", "", "0", "configured, but the kubelet was not restarted since"),
    ]
    assert plan.changed
    assert not plan_switch(topology(), found, STATIC, {"cpuManagerPolicy": "static", "reservedSystemCPUs": "0"}).changed


def test_a_switch_cannot_be_undone_to_settings_that_never_ran() -> None:
    running = {"cpuManagerPolicy": "none", "maxPods": 110}
    edited = kubelet(config="maxPods: 250\n")
    plan = plan_switch(topology(), edited, STATIC, running)
    assert [(problem.code, problem.waivable) for problem in plan.problems] == [("kubelet_not_restarted", True)]
    assert "maxPods is 110, and would be 250 (from /var/lib/kubelet/config.yaml)" in plan.problems[0].text
    assert not plan.changed
    accepted = plan_switch(topology(), edited, STATIC, running, accept_not_restarted=True)
    assert accepted.changed
    assert "accepted (kubelet_not_restarted)" in accepted.notes[-1]


def test_a_managed_setting_that_the_switch_does_not_set_has_to_have_run_too() -> None:
    found = kubelet(config="topologyManagerPolicy: restricted\n")
    running = {"cpuManagerPolicy": "none", "topologyManagerPolicy": "none"}
    assert [p.code for p in plan_switch(topology(), found, STATIC, running).problems] == ["kubelet_not_restarted"]
    desired = DesiredSettings("static", topology_manager_policy="restricted")
    plan = plan_switch(topology(), found, desired, running)
    assert plan.problems == []
    assert "topologyManagerPolicy" in [setting.name for setting in plan.settings]


def test_a_node_that_needs_no_switch_is_not_refused_for_its_kubelet() -> None:
    found = kubelet(config=TUNED + "maxPods: 250\n", state=STATIC_STATE)
    running = {"cpuManagerPolicy": "static", "reservedSystemCPUs": "0", "maxPods": 110}
    plan = plan_switch(topology(), found, STATIC, running)
    assert not plan.changed
    assert plan.problems == []
    assert "maxPods is 110, and would be 250" in plan.notes[-1]


def test_a_rollback_is_refused_for_other_settings_that_never_ran() -> None:
    switch = plan_switch(topology(), kubelet(), STATIC)
    current = {change.path: change.after for change in switch.files}
    edited = after(switch, config="maxPods: 250\n")
    running = {"cpuManagerPolicy": "static", "reservedSystemCPUs": "0", "maxPods": 110}
    plan = plan_rollback(topology(), edited, switch.files, current, running)
    assert [problem.code for problem in plan.problems] == ["kubelet_not_restarted"]
    assert plan_rollback(topology(), edited, switch.files, current, running, accept_not_restarted=True).changed


def test_settings_in_config_yaml_are_left_with_a_word_on_upgrades() -> None:
    found = kubelet(config=TUNED, state=STATIC_STATE)
    plan = plan_switch(topology(), found, STATIC)
    assert not plan.changed
    assert "which `kubeadm upgrade node` rewrites" in plan.notes[0]


@pytest.mark.parametrize(
    ("found", "desired", "code", "text"),
    [
        pytest.param(
            kubelet("1.31.9", manager="k3s"),
            STATIC,
            "unsupported_manager",
            "is managed by k3s, and kubepin switches k3s from 1.32 on only",
            id="k3s",
        ),
        pytest.param(
            kubelet("1.31.9", manager="rke2"),
            STATIC,
            "unsupported_manager",
            "the file that emit-node-settings.yml writes (format rke2)",
            id="RKE2",
        ),
        pytest.param(
            kubelet(extra_args_file=None),
            STATIC,
            "no_extra_args_file",
            "reads neither /etc/default/kubelet nor",
            id="no KUBELET_EXTRA_ARGS",
        ),
        pytest.param(
            kubelet(extra_args_file=None, manager="unknown"),
            STATIC,
            "no_extra_args_file",
            "If kubeadm set this node up, restore its service drop-in (10-kubeadm.conf). Otherwise set the policy with what did",
            id="an unknown installer",
        ),
        pytest.param(
            kubelet(extra_args_file=None, manager="kubespray"),
            STATIC,
            "no_extra_args_file",
            "Do not install kubeadm's service drop-in: it would replace kubespray's command and configuration file.",
            id="kubespray without KUBELET_ARGS",
        ),
        pytest.param(
            kubelet(extra_args_file=None, manager="nodeadm"),
            STATIC,
            "no_extra_args_file",
            "in spec.kubelet.config of the NodeConfig, and replace the node. emit-node-settings.yml writes it (format eks-nodeadm).",
            id="EKS",
        ),
        pytest.param(
            kubelet(extra_args_file=None, manager="kops"),
            STATIC,
            "no_extra_args_file",
            "which emit-node-settings.yml writes (format kops)",
            id="kOps",
        ),
        pytest.param(
            kubelet(extra_args_file=None, manager="openshift"),
            STATIC,
            "no_extra_args_file",
            "which emit-node-settings.yml writes (format openshift)",
            id="OpenShift",
        ),
        pytest.param(
            kubelet(version=None), STATIC, "kubelet_version_unreadable", "version could not be read", id="no version"
        ),
        pytest.param(
            kubelet(problems=[not_yaml("/c", "line 3: anchors")]),
            STATIC,
            "not_yaml",
            "/c, line 3: anchors.",
            id="what could not be read",
        ),
        pytest.param(
            kubelet(),
            DesiredSettings("static", reserved_cpus="0-1"),
            "no_cpu_left_for_pods",
            'reserved_cpus "0-1" leaves no CPU for pods (online: 0-1). Reserve fewer cores.',
            id="reservation",
        ),
        pytest.param(
            kubelet(),
            DesiredSettings("static", policy_options={"x": "true"}),
            "policy_option_unknown",
            "policy option x is unknown",
            id="option",
        ),
        pytest.param(
            kubelet(config='cpuManagerPolicyOptions: {full-pcpus-only: "true"}\n'),
            DesiredSettings("none"),
            "setting_overruled",
            "cpuManagerPolicyOptions would stay",
            id="options in config.yaml, which flags cannot take away",
        ),
    ],
)
def test_refused(found: Kubelet, desired: DesiredSettings, code: str, text: str) -> None:
    plan = plan_switch(topology(), found, desired)
    assert not plan.changed
    assert any(problem.code == code and text in problem.text for problem in plan.problems), plan.problems


def test_a_field_that_the_kubelet_ignores_is_noted_and_does_not_prevent_the_switch() -> None:
    plan = plan_switch(topology(), kubelet(config="cpuManagerPolicys: static\n"), STATIC)
    assert (plan.problems, plan.changed) == ([], True)
    note = plan.notes[0]
    assert "cpuManagerPolicys" in note
    assert "cpuManagerPolicy" in note.replace("cpuManagerPolicys", "")


def test_all_problems_at_once() -> None:
    plan = plan_switch(
        topology(),
        kubelet(),
        DesiredSettings("static", reserved_cpus="0-1", policy_options={"x": "true"}, topology_manager_scope="node"),
    )
    assert {problem.code for problem in plan.problems} >= {
        "no_cpu_left_for_pods",
        "policy_option_unknown",
        "topology_manager_scope_unknown",
    }


def test_what_overrules_the_drop_in_is_named() -> None:
    found = kubelet("1.36.3", line=["--reserved-cpus=1"])
    plan = plan_switch(topology(), found, DesiredSettings("static", reserved_cpus="0"))
    [problem] = plan.problems
    assert problem.code == "setting_overruled"
    assert problem.text == (
        'reservedSystemCPUs would stay "1": a flag overrules what kubepin writes ("0"). Remove it there.'
    )


@pytest.mark.parametrize("version", ["1.22.17", "1.36.3"])
def test_rollback_is_the_exact_inverse(version: str) -> None:
    plan = plan_switch(topology(), kubelet(version), STATIC)
    tuned = after(plan, version)
    back = plan_rollback(topology(), tuned, plan.files, {change.path: change.after for change in plan.files})
    assert back.problems == []
    assert [(c.path, c.after) for c in back.files] == [(c.path, c.before) for c in reversed(plan.files)]
    assert back.expected is not None
    assert back.expected.policy == "none"
    assert [c.path for c in back.state_files] == ["/var/lib/kubelet/cpu_manager_state"]
    assert [(c.name, c.after) for c in back.settings] == [("cpuManagerPolicy", "none"), ("reservedSystemCPUs", "")]


def test_rollback_removes_the_folder_that_the_switch_made_unless_the_kubelet_needs_it() -> None:
    plan = plan_switch(topology(), kubelet("1.36.3"), STATIC)
    current = {change.path: change.after for change in plan.files}
    back = plan_rollback(topology(), after(plan, "1.36.3"), plan.files, current, folders=[DROP_IN_DIR])
    assert (back.folders, back.notes) == (
        [DROP_IN_DIR],
        [f"{DROP_IN_DIR}: removed if it is empty, because the switch made it"],
    )
    named = kubelet("1.36.3", line=[f"--config-dir={DROP_IN_DIR}/"])
    assert plan_rollback(topology(), named, plan.files, current, folders=[DROP_IN_DIR]).folders == []


def test_rollback_refuses_to_overwrite_later_edits() -> None:
    plan = plan_switch(topology(), kubelet(), STATIC)
    tuned = after(plan)
    back = plan_rollback(topology(), tuned, plan.files, {ENV: "KUBELET_EXTRA_ARGS=--v=9\n"})
    [problem] = back.problems
    assert problem.code == "file_changed_since"
    assert (
        "/etc/default/kubelet was changed after the switch that is to be rolled back. Undo that edit first"
        in problem.text
    )
    assert not back.changed


@pytest.mark.parametrize(
    ("reserved", "taken"),
    [
        ({"kubeReserved": {"cpu": "500m"}}, "0"),
        ({"kubeReserved": {"cpu": "2"}, "systemReserved": {"cpu": "1"}}, "0-1,4"),
    ],
)
def test_without_a_list_the_reserved_cpus_are_those_that_the_kubelet_picks(
    reserved: dict[str, Any], taken: str
) -> None:
    after = {**DEFAULTS, "cpuManagerPolicy": "static", **reserved}
    expected = desired_state(topology(cores=4, threads=2), after, "1.22.17")
    assert format_cpuset(expected.reserved) == taken


@pytest.mark.parametrize(("gates", "policy"), [({}, "None"), ({"MemoryManager": False}, None)])
def test_a_kubelet_without_memory_manager_does_not_read_its_state_file(
    gates: dict[str, bool], policy: str | None
) -> None:
    expected = desired_state(topology(), {**DEFAULTS, "featureGates": gates}, "1.22.17")
    assert expected.memory_policy == policy
    damaged = {"memory_manager": ("/var/lib/kubelet/memory_manager_state", "{")}
    assert bool(state_changes(damaged, expected)) == (policy is not None)


@pytest.mark.parametrize(("gates", "refused"), [({}, True), ({"PodLevelResourceManagers": True}, False)])
def test_cpus_of_whole_pods_in_the_state_count_if_the_kubelet_manages_whole_pods(
    gates: dict[str, bool], refused: bool
) -> None:
    after = {**DEFAULTS, "cpuManagerPolicy": "static", "reservedSystemCPUs": "0", "featureGates": gates}
    expected = desired_state(topology(cores=4, threads=1), after, "1.37.2")
    data = '{"policyName":"static","defaultCpuSet":"0-1","podEntries":{"uid":{"cpuSet":"2-3"}}}'
    text = json.dumps({"data": data, "dataChecksum": seal_of(data)})
    assert bool(state_changes({"cpu_manager": ("/var/lib/kubelet/cpu_manager_state", text)}, expected)) == refused


@pytest.mark.parametrize("version", ["1.22.17", "1.36.3"])
def test_pins_keep_the_settings_of_config_yaml_and_change_none(version: str) -> None:
    pins = plan_pins(kubelet(version, config=TUNED))
    assert pins.problems == []
    pinned = after(pins, version)  # after kubeadm has dropped the settings from config.yaml
    assert (pinned.effective["cpuManagerPolicy"], pinned.effective["reservedSystemCPUs"]) == ("static", "0")


def test_settings_that_kubeadm_does_not_write_need_no_pins() -> None:
    assert not plan_pins(after(plan_switch(topology(), kubelet("1.36.3"), STATIC), "1.36.3")).changed
    assert not plan_pins(kubelet()).changed


def test_settings_that_cannot_be_pinned_are_a_problem() -> None:
    [problem] = plan_pins(kubelet(config=TUNED, extra_args_file=None)).problems
    assert problem.code == "no_extra_args_file"


def test_the_plan_tells_what_isolated_cpus_and_unequal_cores_mean() -> None:
    machine = topology(cores=4, threads=2, missing=(7,), isolated="2-3,6")
    plan = plan_switch(machine, kubelet("1.31.4"), STATIC)
    assert plan.settings[1].after == "0,4"
    assert plan.notes[:3] == machine_notes(machine, parse_cpuset("0,4"))
    assert plan_switch(machine, kubelet("1.31.4"), DesiredSettings("none")).notes == []


def test_the_plan_of_a_switch_tells_what_it_costs_and_the_next_run_does_not() -> None:
    found = kubelet("1.36.3")
    plan = plan_switch(topology(), found, STATIC)
    assert plan.notes == static_policy_costs(36, found.effective)
    assert len(plan.notes) == 2
    assert plan_switch(topology(), after(plan, "1.36.3"), STATIC).notes == []


KUBESPRAY_ENV = "/etc/kubernetes/kubelet.env"
KUBESPRAY_ARGS = (
    'KUBE_LOG_LEVEL="--v=2"\nKUBELET_ARGS="--kubeconfig=/etc/kubernetes/kubelet.conf \\\n'
    '--runtime-cgroups=/system.slice/containerd.service \\\n "\nKUBELET_CLOUDPROVIDER=""\n'
)


def of_kubespray(version: str = "1.36.3", args: str = KUBESPRAY_ARGS, **given: Any) -> Kubelet:
    return kubelet(
        version,
        manager="kubespray",
        extra_args_file=KUBESPRAY_ENV,
        extra_args_variable="KUBELET_ARGS",
        extra_args=args,
        **given,
    )


def switched_kubespray(plan: Plan, version: str = "1.36.3", **given: Any) -> Kubelet:
    """The node once the plan is carried out and the kubelet restarted."""
    texts = {change.path: change.after for change in plan.files}
    args = texts.pop(KUBESPRAY_ENV) or ""
    return of_kubespray(version, args, **{"drop_ins": texts, "state": STATIC_STATE, **given})


def test_on_a_kubespray_node_the_drop_in_directory_is_named_in_its_environment_file() -> None:
    plan = plan_switch(topology(), of_kubespray(), STATIC)
    assert plan.problems == []
    assert paths(plan) == [DROP_IN, KUBESPRAY_ENV]
    assert plan.files[1].after == (
        'KUBE_LOG_LEVEL="--v=2"\nKUBELET_ARGS="--kubeconfig=/etc/kubernetes/kubelet.conf '
        f'--runtime-cgroups=/system.slice/containerd.service --config-dir={DROP_IN_DIR}"\nKUBELET_CLOUDPROVIDER=""\n'
    )
    assert not plan_switch(topology(), switched_kubespray(plan), STATIC).changed


def test_below_1_30_a_kubespray_node_gets_flags() -> None:
    plan = plan_switch(topology(), of_kubespray("1.29.0"), STATIC)
    assert paths(plan) == [KUBESPRAY_ENV]
    assert '--cpu-manager-policy=static --reserved-cpus=0"' in (plan.files[0].after or "")
    assert not plan_switch(topology(), switched_kubespray(plan, "1.29.0", drop_ins={}), STATIC).changed


def test_the_variables_that_keep_the_settings_on_a_kubespray_node_are_named_until_its_file_has_them() -> None:
    plan = plan_switch(topology(), of_kubespray(), STATIC)
    wanted = 'kubelet_cpu_manager_policy: "static", kubelet_config_extra_args: {"reservedSystemCPUs": "0"}.'
    assert [note for note in plan.notes if wanted in note]
    again = plan_switch(topology(), switched_kubespray(plan), STATIC)
    assert (again.changed, [wanted in note for note in again.notes]) == (False, [True])
    by_inventory = of_kubespray(config=TUNED, state=STATIC_STATE)
    kept = plan_switch(topology(), by_inventory, STATIC)
    assert (kept.changed, kept.notes) == (False, [])


def roll_back(plan: Plan, found: Kubelet, current: dict[str, str | None]) -> Plan:
    return plan_rollback(topology(), found, plan.files, current, switched=plan.settings)


def test_a_kubespray_node_is_rolled_back() -> None:
    plan = plan_switch(topology(), of_kubespray(), STATIC)
    back = roll_back(plan, switched_kubespray(plan), {change.path: change.after for change in plan.files})
    assert back.problems == []
    assert [(change.path, change.after) for change in back.files] == [(KUBESPRAY_ENV, KUBESPRAY_ARGS), (DROP_IN, None)]


def test_after_a_kubespray_run_that_took_the_settings_away_a_rollback_removes_the_rest() -> None:
    plan = plan_switch(topology(), of_kubespray(), STATIC)
    current = {DROP_IN: plan.files[0].after, KUBESPRAY_ENV: KUBESPRAY_ARGS}
    back = roll_back(plan, of_kubespray(state=STATIC_STATE), current)
    assert back.problems == []
    assert [(change.path, change.after) for change in back.files] == [(DROP_IN, None)]
    assert [change.path for change in back.state_files] == ["/var/lib/kubelet/cpu_manager_state"]


def with_idle_drop_ins(texts: dict[str, str]) -> Kubelet:
    """A kubelet without a drop-in directory, beside files in the one that a switch would name."""
    read = sources("1.36.3")
    read["texts"] |= texts
    read["drop_ins"] = {DROP_IN_DIR: sorted(texts)}
    return decode_kubelet(read)


def test_a_drop_in_that_an_installers_run_left_behind_is_replaced() -> None:
    left = HEAD + "cpuManagerPolicy: static\ntopologyManagerPolicy: restricted\n"
    plan = plan_switch(topology(), with_idle_drop_ins({DROP_IN: left}), STATIC)
    assert plan.problems == []
    assert (plan.files[0].path, plan.files[0].before) == (DROP_IN, left)
    assert "topologyManagerPolicy" not in (plan.files[0].after or "")


def test_a_drop_in_left_behind_that_has_the_planned_text_comes_into_use_again() -> None:
    text = plan_switch(topology(), with_idle_drop_ins({}), STATIC).files[0].after
    assert text is not None
    plan = plan_switch(topology(), with_idle_drop_ins({DROP_IN: text}), STATIC)
    assert plan.problems == []
    assert [change.reason for change in plan.files] == ["names the drop-in directory"]
    others = with_idle_drop_ins({DROP_IN: text, f"{DROP_IN_DIR}/50-site.conf": HEAD + "maxPods: 20\n"})
    assert [problem.code for problem in plan_switch(topology(), others, STATIC).problems] == ["drop_ins_not_in_use"]


def test_drop_ins_of_others_that_nobody_reads_must_not_come_into_force() -> None:
    found = with_idle_drop_ins({f"{DROP_IN_DIR}/50-site.conf": HEAD + "maxPods: 20\n"})
    [problem] = plan_switch(topology(), found, STATIC).problems
    assert problem.code == "drop_ins_not_in_use"
    assert f"{DROP_IN_DIR}/50-site.conf" in problem.text


def test_what_the_inventory_keeps_cannot_be_rolled_back() -> None:
    plan = plan_switch(topology(), of_kubespray(), STATIC)
    current = {DROP_IN: plan.files[0].after, KUBESPRAY_ENV: KUBESPRAY_ARGS}
    [problem] = roll_back(plan, of_kubespray(config=TUNED, state=STATIC_STATE), current).problems
    assert problem.code == "inventory_keeps_settings"
    assert 'kubelet_cpu_manager_policy: "static"' in problem.text
    assert "-e cpu_manager_policy=none" in problem.remedy


def of_rancher(manager: str, service: str, **given: Any) -> Kubelet:
    """A kubelet of k3s or RKE2, as their files describe it; no real one was at hand."""
    read = sources("1.36.4", manager=manager, extra_args_file=None, **given)
    read["service"] = {"name": service, "restart_interval_s": 5}
    folder = f"/var/lib/rancher/{manager}/agent/etc/kubelet.conf.d"
    texts = {f"{folder}/00-{manager}-defaults.conf": HEAD + "cgroupDriver: systemd\n", **(given.get("drop_ins") or {})}
    read["texts"] |= texts
    read["drop_ins"] = {folder: sorted(texts)}
    return decode_kubelet(read)


@pytest.mark.parametrize(
    ("manager", "service", "log", "scope"),
    [
        ("k3s", "k3s", None, "this server of the control plane and its agent"),
        ("k3s", "k3s-agent", None, "the agent, which also supervises the container runtime"),
        ("rke2", "rke2-server", "/var/lib/rancher/rke2/agent/logs/kubelet.log", "this server of the control plane"),
        ("rke2", "rke2-agent", "/var/lib/rancher/rke2/agent/logs/kubelet.log", "the agent, which also supervises"),
    ],
)
def test_k3s_and_rke2_get_a_drop_in_and_it_is_said_what_else_restarts(
    manager: str, service: str, log: str | None, scope: str
) -> None:
    found = of_rancher(manager, service)
    plan = plan_switch(topology(), found, STATIC)
    assert plan.problems == []
    [change] = plan.files
    assert change.path == f"/var/lib/rancher/{manager}/agent/etc/kubelet.conf.d/90-kubepin.conf"
    assert yaml.safe_load(change.after or "")["cpuManagerPolicy"] == "static"
    assert [note for note in plan.notes if f"restarts {service}.service: not only the kubelet, but {scope}" in note]
    endpoint = endpoint_of(found)
    assert (endpoint.service, endpoint.log_file, endpoint.stay_up_seconds) == (service, log, 7)
    switched = of_rancher(manager, service, drop_ins={change.path: change.after}, state=STATIC_STATE)
    again = plan_switch(topology(), switched, STATIC)
    assert (again.changed, again.notes) == (False, [])
    back = plan_rollback(topology(), switched, plan.files, {change.path: change.after}, switched=plan.settings)
    assert [(each.path, each.after) for each in back.files] == [(change.path, None)]


def test_an_argument_of_rke2_that_overrules_the_drop_in_is_a_problem() -> None:
    texts = {"/etc/rancher/rke2/config.yaml": "kubelet-arg: [cpu-manager-policy=none]\n"}
    read = sources("1.36.4", manager="rke2", extra_args_file=None)
    read["texts"] |= texts
    [problem] = plan_switch(topology(), decode_kubelet(read), STATIC).problems
    assert problem.code == "setting_overruled"


@pytest.mark.parametrize(
    ("manager", "service", "scope", "reverts"),
    [
        ("microk8s", "snap.microk8s.daemon-kubelite", "also kube-proxy and, unless this node joined as a worker", True),
        ("k8s-snap", "snap.k8s.kubelet", None, False),
    ],
)
def test_a_snap_gets_arguments_in_its_own_file(manager: str, service: str, scope: str | None, reverts: bool) -> None:
    found = of_snap(manager)
    plan = plan_switch(topology(), found, STATIC)
    assert plan.problems == []
    [change] = plan.files
    assert (change.path, change.before) == (
        found.layout.extra_args and found.layout.extra_args.file,
        ARGUMENTS[manager],
    )
    added = set((change.after or "").splitlines()) - set(ARGUMENTS[manager].splitlines())
    assert added == {"--cpu-manager-policy=static", "--reserved-cpus=0"}
    assert [each.path for each in plan.state_files] == [f"{found.layout.root_dir}/cpu_manager_state"]
    assert endpoint_of(found).service == service
    restarts = [note for note in plan.notes if f"restarts {service}.service: not only the kubelet, but" in note]
    assert all(scope is not None and scope in note for note in restarts)
    assert len(restarts) == bool(scope)
    assert any("`snap revert` to a revision from before the switch" in note for note in plan.notes) == reverts
    switched = of_snap(manager, change.after, state=STATIC_STATE)
    again = plan_switch(topology(), switched, STATIC)
    assert (again.problems, again.changed, again.notes) == ([], False, [])
    back = plan_rollback(topology(), switched, plan.files, {change.path: change.after}, switched=plan.settings)
    assert [(each.path, each.after) for each in back.files] == [(change.path, ARGUMENTS[manager])]
    assert back.settings[0].after == "none"


def test_kubelite_s_own_arguments_are_not_taken_for_those_of_the_kubelet() -> None:
    switched = plan_switch(topology(), of_snap("microk8s"), STATIC).files[0].after
    plan = plan_switch(topology(), of_snap("microk8s", switched, state=STATIC_STATE), STATIC, running=None)
    assert plan.settings == []


def test_a_setting_that_a_snap_has_already_takes_the_place_of_its_argument() -> None:
    found = of_snap("k8s-snap", ARGUMENTS["k8s-snap"] + '--cpu-manager-policy="none"\n--reserved-cpus="7"\n')
    [change] = plan_switch(topology(), found, STATIC).files
    lines = (change.after or "").splitlines()
    assert [line for line in lines if "cpu-manager" in line] == ["--cpu-manager-policy=static"]
    assert [line for line in lines if "reserved-cpus" in line] == ["--reserved-cpus=0"]
