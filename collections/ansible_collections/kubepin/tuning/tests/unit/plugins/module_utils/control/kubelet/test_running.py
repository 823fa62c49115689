# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml
from ansible_collections.kubepin.tuning.plugins.module_utils.control.kubelet.field_sources import (
    FLAG_FIELDS,
    WITHOUT_DEFAULT,
)
from ansible_collections.kubepin.tuning.plugins.module_utils.control.kubelet.fields import FIELDS
from ansible_collections.kubepin.tuning.plugins.module_utils.control.kubelet.running import (
    Difference,
    differences,
    same,
)
from ansible_collections.kubepin.tuning.tests.unit.samples.machines import CONFIG, kubelet

CONFIGZ = Path(__file__).parents[4] / "samples" / "configz"
KUBEADM = """
authentication:
  anonymous: {enabled: false}
  webhook: {cacheTTL: 0s, enabled: true}
  x509: {clientCAFile: /etc/kubernetes/pki/ca.crt}
authorization:
  mode: Webhook
  webhook: {cacheAuthorizedTTL: 0s, cacheUnauthorizedTTL: 0s}
cgroupDriver: cgroupfs
clusterDNS: [10.96.0.10]
clusterDomain: cluster.local
cpuManagerReconcilePeriod: 0s
evictionHard: {imagefs.available: 0%, nodefs.available: 0%, nodefs.inodesFree: 0%}
evictionPressureTransitionPeriod: 0s
failSwapOn: false
fileCheckFrequency: 0s
healthzBindAddress: 127.0.0.1
healthzPort: 10248
httpCheckFrequency: 0s
imageGCHighThresholdPercent: 100
imageMinimumGCAge: 0s
logging: {}
nodeStatusReportFrequency: 0s
nodeStatusUpdateFrequency: 0s
rotateCertificates: true
runtimeRequestTimeout: 0s
shutdownGracePeriod: 0s
shutdownGracePeriodCriticalPods: 0s
staticPodPath: /etc/kubernetes/manifests
streamingConnectionIdleTimeout: 0s
syncFrequency: 0s
volumeStatsAggPeriod: 0s
"""
"""What kubeadm writes: its settings, and zero values for which the kubelet takes its defaults."""
THRESHOLDS = '{"imagefs.available": "0%", "nodefs.available": "0%", "nodefs.inodesFree": "0%"}'
TAINT = {"key": "a", "effect": "NoSchedule"}
NEWER = """
containerRuntimeEndpoint: unix:///run/containerd/containerd.sock
crashLoopBackOff: {}
imageMaximumGCAge: 0s
memorySwap: {}
"""


def configz(version: str) -> dict[str, Any]:
    """What a kubelet of this version with KUBEADM said."""
    found: dict[str, Any] = json.loads((CONFIGZ / f"{version}.json").read_text())
    return found


def names(config: str, running: dict[str, Any], version: str = "1.22.17", **given: Any) -> list[str]:
    return [each.name for each in differences(kubelet(version, config=config, **given), running)]


@pytest.mark.parametrize(
    ("version", "more", "extra_args"),
    [
        ("1.21.14", "", "KUBELET_EXTRA_ARGS='--cpu-manager-policy=static --reserved-cpus=0'\n"),
        ("1.22.17", "", None),
        ("1.36.3", NEWER, None),
    ],
)
def test_a_kubelet_that_was_not_touched_since_its_start_does_not_differ(
    version: str, more: str, extra_args: str | None
) -> None:
    there = kubelet(version, config=KUBEADM + more, extra_args=extra_args)
    assert differences(there, configz(version)) == []


@pytest.mark.parametrize("version", ["1.22.17", "1.36.3"])
@pytest.mark.parametrize(
    ("edit", "name", "running", "configured"),
    [
        ("maxPods: 250", "maxPods", "110", "250"),
        ("cpuManagerReconcilePeriod: 5s", "cpuManagerReconcilePeriod", "10s", "5s"),
        ("failSwapOn: true", "failSwapOn", "false", "true"),
        ("serializeImagePulls: false", "serializeImagePulls", "true", "false"),
        ("clusterDNS: [10.96.0.11]", "clusterDNS", '["10.96.0.10"]', '["10.96.0.11"]'),
        ("evictionHard: {memory.available: 1Gi}", "evictionHard", THRESHOLDS, '{"memory.available": "1Gi"}'),
        ("kubeReserved: {memory: 1Gi}", "kubeReserved", "not set", '{"memory": "1Gi"}'),
        ("featureGates: {Some: true}", "featureGates", "not set", '{"Some": true}'),
        ("reservedSystemCPUs: '0'", "reservedSystemCPUs", "not set", "0"),
        (
            "authentication: {webhook: {cacheTTL: 1m}, x509: {clientCAFile: /etc/kubernetes/pki/ca.crt}}",
            "authentication.webhook.cacheTTL",
            "2m0s",
            "1m",
        ),
        ("logging: {format: json}", "logging.format", "text", "json"),
        ("allowedUnsafeSysctls: [net.core.somaxconn]", "allowedUnsafeSysctls", "not set", '["net.core.somaxconn"]'),
    ],
)
def test_a_changed_field_is_named_with_both_values_and_where_it_comes_from(
    version: str, edit: str, name: str, running: str, configured: str
) -> None:
    edited = yaml.safe_dump({**yaml.safe_load(KUBEADM), **yaml.safe_load(edit)})
    assert differences(kubelet(version, config=edited), configz(version)) == [
        Difference(name, running, configured, CONFIG)
    ]


@pytest.mark.parametrize(
    ("config", "running"),
    [
        ("syncFrequency: 60s", {"syncFrequency": "1m0s"}),
        ("imageMinimumGCAge: 1.5h", {"imageMinimumGCAge": "1h30m0s"}),
        ("kubeReserved: {memory: 1024Mi}", {"kubeReserved": {"memory": "1Gi"}}),
        (
            "evictionSoftGracePeriod: {memory.available: 90s}",
            {"evictionSoftGracePeriod": {"memory.available": "1m30s"}},
        ),
        ("reservedSystemCPUs: '0,1,2'", {"reservedSystemCPUs": "0-2"}),
        (
            "reservedMemory: [{numaNode: 0, limits: {memory: 1024Mi}}]",
            {"reservedMemory": [{"numaNode": 0, "limits": {"memory": "1Gi"}}]},
        ),
        ("registerWithTaints: [{key: a, value: '', effect: NoSchedule}]", {"registerWithTaints": [TAINT]}),
        ("kubeReserved: {}", {}),
        ("featureGates: {}", {}),
        ("protectKernelDefaults: false", {}),
        ("readOnlyPort: 0", {}),
        ("tlsCipherSuites: []", {}),
        ("maxPods: 0", {"maxPods": 110}),
        ("enforceNodeAllocatable: []", {"enforceNodeAllocatable": ["pods"]}),
        ("", {"maxPods": 110, "tlsCertFile": "/var/lib/kubelet/pki/kubelet.crt"}),
        ("featureGatesOfAnotherVersion: 1", {}),
    ],
)
def test_the_same_in_other_words_is_no_difference(config: str, running: dict[str, Any]) -> None:
    assert names(config, running, "1.36.3") == []


def test_of_removed_settings_those_without_a_default_are_found() -> None:
    running = {
        "systemReserved": {"memory": "1Gi"},
        "protectKernelDefaults": True,
        "readOnlyPort": 10255,
        "maxPods": 250,
        "authentication": {"x509": {"clientCAFile": "/etc/ca.crt"}},
    }
    found = differences(kubelet("1.22.17"), running)
    assert [(each.name, each.configured) for each in found] == [
        ("authentication.x509.clientCAFile", "not set"),
        ("protectKernelDefaults", "not set"),
        ("readOnlyPort", "not set"),
        ("systemReserved", "not set"),
    ]


def test_a_drop_in_counts_and_is_named() -> None:
    path = "/etc/kubernetes/kubelet.conf.d/50-site.conf"
    line = ["--config-dir=/etc/kubernetes/kubelet.conf.d"]
    there = kubelet("1.36.3", config="maxPods: 110\n", line=line, drop_ins={path: "maxPods: 50\n"})
    assert [(each.name, each.source) for each in differences(there, {"maxPods": 110})] == [("maxPods", path)]


def test_a_field_is_compared_as_the_installed_version_knows_it() -> None:
    assert names("podLogsDir: /srv/logs\n", {"podLogsDir": "/var/log/pods"}, "1.22.17") == []
    assert names("podLogsDir: /srv/logs\n", {"podLogsDir": "/var/log/pods"}, "1.36.3") == ["podLogsDir"]
    nanoseconds = "logging: {flushFrequency: 5000000000}\n"
    assert names(nanoseconds, {"logging": {"flushFrequency": "5s"}}, "1.30.0") == []
    assert names(nanoseconds, {"logging": {"flushFrequency": 5000000000}}, "1.24.0") == []


def test_what_reserved_cpus_replace_is_no_difference() -> None:
    config = "kubeReserved: {cpu: 500m, memory: 1Gi}\nsystemReserved: {cpu: 500m}\nreservedSystemCPUs: 0-1\n"
    running = {"kubeReserved": {"memory": "1Gi"}, "systemReserved": {"cpu": "2"}, "reservedSystemCPUs": "0-1"}
    assert names(config, running) == []
    assert names(config, {**running, "kubeReserved": {"memory": "2Gi"}}) == ["kubeReserved"]


def test_from_1_28_the_container_runtime_chooses_the_cgroup_driver() -> None:
    assert names("cgroupDriver: cgroupfs\n", {"cgroupDriver": "systemd"}, "1.27.16") == ["cgroupDriver"]
    assert names("cgroupDriver: cgroupfs\n", {"cgroupDriver": "systemd"}, "1.28.0") == []


def test_default_thresholds_that_are_merged_in_are_no_difference() -> None:
    config = "mergeDefaultEvictionSettings: true\nevictionHard: {memory.available: 1Gi}\n"
    running = {
        "mergeDefaultEvictionSettings": True,
        "evictionHard": {"memory.available": "1Gi", "nodefs.available": "10%"},
    }
    assert names(config, running, "1.36.3") == []
    assert names(config.replace("1Gi", "2Gi"), running, "1.36.3") == ["evictionHard"]


def test_a_flag_with_a_field_is_compared_with_what_runs() -> None:
    there = kubelet(config="kubeReserved: {memory: 1Gi}\n", line=["--kube-reserved=memory=2Gi"], running=[])
    assert [(each.name, each.source) for each in differences(there, {"kubeReserved": {"memory": "1Gi"}})] == [
        ("kubeReserved", "a flag")
    ]
    assert differences(there, {"kubeReserved": {"memory": "2Gi"}}) == []


def test_a_flag_that_overrules_a_file_is_compared_as_a_flag() -> None:
    assert names("maxPods: 110\n", {"maxPods": 200}, line=["--max-pods=200"]) == []
    there = kubelet(config="maxPods: 110\n", line=["--max-pods=250"], running=["--max-pods=200"])
    (found,) = differences(there, {"maxPods": 200})
    assert (found.name, found.running, found.configured) == ("--max-pods", "200", "250")


@pytest.mark.parametrize("running", [{}, None])
def test_flags_without_a_field_are_compared_in_any_order(running: dict[str, Any] | None) -> None:
    there = kubelet(line=["--node-ip=10.0.0.2", "--v=2"], running=["--v=2", "--node-ip=10.0.0.2"])
    assert differences(there, running) == []
    there = kubelet(line=["--node-ip=10.0.0.3"], running=["--node-ip", "10.0.0.2", "--exit-on-lock-contention"])
    assert [(each.name, each.running, each.configured) for each in differences(there, running)] == [
        ("--exit-on-lock-contention", "true", "not set"),
        ("--node-ip", "10.0.0.2", "10.0.0.3"),
    ]


@pytest.mark.parametrize("running", [(), ("/opt/kubelet.real", "--node-ip=10.0.0.2")])
def test_the_flags_of_no_process_or_another_program_are_not_compared(running: tuple[str, ...]) -> None:
    there = replace(kubelet(line=["--node-ip=10.0.0.3"]), running=running)
    assert differences(there, {}) == []


def test_without_configz_a_flag_that_kubepin_does_not_manage_is_compared_as_a_flag() -> None:
    there = kubelet(
        line=["--kube-reserved=memory=2Gi", "--cpu-manager-policy=static"], running=["--kube-reserved=memory=1Gi"]
    )
    assert [each.name for each in differences(there, None)] == ["--kube-reserved"]


def test_exempt_fields_may_differ() -> None:
    there = kubelet(config="cpuManagerPolicy: static\nmaxPods: 1\n")
    found = differences(there, {"cpuManagerPolicy": "none", "maxPods": 110}, exempt=["cpuManagerPolicy"])
    assert [each.name for each in found] == ["maxPods"]


def test_headers_and_passwords_are_not_shown() -> None:
    config = "staticPodURL: https://me:secret@pods\nstaticPodURLHeader: {Authorization: [secret]}\n"
    found = differences(
        kubelet(config=config, line=["--manifest-url-header=Authorization:secret"], running=[]),
        {"staticPodURL": "https://pods"},
    )
    assert [each.name for each in found] == ["staticPodURL", "--manifest-url-header"]
    found += differences(kubelet(config=config), {"staticPodURL": "https://me:secret@pods"})
    assert found[-1].name == "staticPodURLHeader"
    assert "secret" not in repr(found)


def test_a_long_value_is_cut() -> None:
    (found,) = differences(kubelet(config="clusterDNS: ['" + "1" * 1000 + "']"), {})
    assert len(found.configured) < 200


@pytest.mark.parametrize(
    ("field", "one", "other", "equal"),
    [
        ("reservedSystemCPUs", "0-1", "0,1", True),
        ("reservedSystemCPUs", "", None, True),
        ("reservedSystemCPUs", "0", "1", False),
        ("cpuManagerPolicyOptions", {}, None, True),
        ("cpuManagerPolicyOptions", {"a": "true"}, {"a": "false"}, False),
    ],
)
def test_values_of_a_field_can_be_compared(field: str, one: object, other: object, equal: bool) -> None:
    assert same(field, one, other) is equal


def test_the_tables_name_fields_that_exist() -> None:
    for path in (*FLAG_FIELDS.values(), *WITHOUT_DEFAULT):
        struct = "KubeletConfiguration"
        for part in path.split("."):
            struct = FIELDS[struct][part][-1][0]
