# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import json
import time
import typing as t

import pytest
from ansible_collections.kubepin.tuning.plugins.module_utils.control.kubelet.decode import decode, decode_value
from ansible_collections.kubepin.tuning.plugins.module_utils.control.kubelet.fields import FIELDS, NEWEST_MINOR
from ansible_collections.kubepin.tuning.plugins.module_utils.control.kubelet.values import value_problems
from hypothesis import given
from hypothesis import strategies as st

HEAD = "apiVersion: kubelet.config.k8s.io/v1beta1\nkind: KubeletConfiguration\n"

KUBEADM = f"""\
{HEAD}authentication:
  anonymous:
    enabled: false
  webhook:
    cacheTTL: 0s
    enabled: true
  x509:
    clientCAFile: /etc/kubernetes/pki/ca.crt
authorization:
  mode: Webhook
  webhook:
    cacheAuthorizedTTL: 0s
    cacheUnauthorizedTTL: 0s
cgroupDriver: systemd
clusterDNS:
- 10.96.0.10
clusterDomain: cluster.local
containerRuntimeEndpoint: ""
cpuManagerReconcilePeriod: 0s
crashLoopBackOff: {{}}
evictionPressureTransitionPeriod: 0s
fileCheckFrequency: 0s
healthzBindAddress: 127.0.0.1
healthzPort: 10248
httpCheckFrequency: 0s
imageMaximumGCAge: 0s
imageMinimumGCAge: 0s
logging:
  flushFrequency: 0
  options:
    json:
      infoBufferSize: "0"
    text:
      infoBufferSize: "0"
  verbosity: 0
memorySwap: {{}}
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
KUBESPRAY = f"""\
{HEAD}nodeStatusUpdateFrequency: "10s"
failSwapOn: True
authentication:
  anonymous:
    enabled: false
  webhook:
    enabled: True
  x509:
    clientCAFile: /etc/kubernetes/ssl/ca.crt
authorization:
  mode: Webhook
staticPodPath: "/etc/kubernetes/manifests"
cgroupDriver: systemd
containerLogMaxFiles: 5
containerLogMaxSize: 10Mi
containerRuntimeEndpoint : unix:///var/run/containerd/containerd.sock
maxPods: 110
podPidsLimit: -1
address: "192.0.2.7"
readOnlyPort: 0
healthzPort: 10248
healthzBindAddress: "127.0.0.1"
kubeletCgroups: /system.slice/kubelet.service
clusterDomain: cluster.local
protectKernelDefaults: true
rotateCertificates: true
clusterDNS:
- 169.254.25.10
enforceNodeAllocatable:
  - pods
kubeReserved:
  cpu: "100m"
  memory: "256Mi"
  ephemeral-storage: "500Mi"
  pid: "1000"
resolvConf: "/run/systemd/resolve/resolv.conf"
eventRecordQPS: 50
shutdownGracePeriod: "60s"
shutdownGracePeriodCriticalPods: "20s"
tlsCipherSuites:
- TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256
featureGates:
  RotateKubeletServerCertificate: true
evictionHard: {{"memory.available": "100Mi", "nodefs.available": "10%"}}
maxParallelImagePulls: 1
"""
EKS: dict[str, t.Any] = {
    "kind": "KubeletConfiguration",
    "apiVersion": "kubelet.config.k8s.io/v1beta1",
    "address": "0.0.0.0",
    "authentication": {
        "anonymous": {"enabled": False},
        "webhook": {"cacheTTL": "2m0s", "enabled": True},
        "x509": {"clientCAFile": "/etc/kubernetes/pki/ca.crt"},
    },
    "authorization": {"mode": "Webhook", "webhook": {"cacheAuthorizedTTL": "5m0s", "cacheUnauthorizedTTL": "30s"}},
    "clusterDomain": "cluster.local",
    "hairpinMode": "hairpin-veth",
    "readOnlyPort": 0,
    "cgroupDriver": "systemd",
    "featureGates": {"RotateKubeletServerCertificate": True},
    "protectKernelDefaults": True,
    "serializeImagePulls": False,
    "registerWithTaints": [{"key": "a", "effect": "NoSchedule", "timeAdded": None}],
    "clusterDNS": ["10.100.0.10"],
    "evictionHard": {"memory.available": "100Mi", "nodefs.available": "10%", "nodefs.inodesFree": "5%"},
    "kubeReserved": {"cpu": "80m", "ephemeral-storage": "1Gi", "memory": "1355Mi"},
    "maxPods": 58,
    "reservedMemory": [{"numaNode": 0, "limits": {"memory": 1073741824, "hugepages-1Gi": "1Gi"}}],
    "memoryThrottlingFactor": 1,
    "shutdownGracePeriodByPodPriority": [{"priority": -5, "shutdownGracePeriodSeconds": 10}],
}


def texts(problems: t.Iterable[t.Any]) -> list[str]:
    return [problem.text for problem in problems]


@pytest.mark.parametrize("version", ["1.20.15", "1.22.17", "1.30.14", "1.36.3", "1.37.0", "1.99.0"])
@pytest.mark.parametrize(
    "text",
    [
        pytest.param(KUBEADM, id="kubeadm"),
        pytest.param(KUBESPRAY, id="kubespray"),
        pytest.param(json.dumps(EKS, indent=2), id="EKS"),
        pytest.param(json.dumps(EKS, separators=(",", ":")), id="minified"),
    ],
)
def test_real_configurations_have_no_problem(text: str, version: str) -> None:
    for form in (text, text.replace("\n", "\r\n"), text.rstrip("\n")):
        fields, problems = decode(form, "/c", version)
        assert texts(problems) == []
        assert fields["cgroupDriver"] == "systemd"
        assert not {"kind", "apiVersion"} & set(fields)


def test_the_fields_are_what_the_file_says() -> None:
    fields, _problems = decode(json.dumps(EKS), "/c", "1.36.3")
    assert fields == {name: value for name, value in EKS.items() if name not in ("kind", "apiVersion")}


def test_a_field_of_another_version_is_left_out_without_a_word() -> None:
    text = f"{HEAD}memoryManagerPolicy: Static\ncpuManagerPolicyOptions: {{full-pcpus-only: 'true'}}\n"
    assert decode(text, "/c", "1.20.15") == ({}, [])
    fields, _problems = decode(text, "/c", "1.21.14")
    assert set(fields) == {"memoryManagerPolicy"}


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        # public reports, 01: kubernetes-sigs/kubespray#11111
        pytest.param(
            "kubeReserved: {cpu: 1, memory: 2Gi}",
            "kubeReserved.cpu is 1; expected text (in quotes)",
            id="number in a map",
        ),
        # public reports, 22
        pytest.param(
            "cpuManagerPolicyOptions: {full-pcpus-only: true}",
            "cpuManagerPolicyOptions.full-pcpus-only is true; expected text (in quotes)",
            id="boolean option",
        ),
        pytest.param(
            "featureGates: {A: 'true'}", 'featureGates.A is "true"; expected true or false', id="gate as text"
        ),
        pytest.param(
            "evictionHard: {memory.available: 100}",
            "evictionHard.memory.available is 100; expected text (in quotes)",
            id="eviction",
        ),
        pytest.param(
            "reservedMemory: [{numaNode: '0'}]",
            'reservedMemory[0].numaNode is "0"; expected a whole number',
            id="NUMA node",
        ),
        pytest.param(
            "reservedMemory: [{limits: {memory: 1Gb}}]",
            'reservedMemory[0].limits.memory is "1Gb"; expected a quantity, such as 512Mi or 1Gi',
            id="quantity",
        ),
        pytest.param(
            "reservedMemory: [{limits: {memory: true}}]",
            "reservedMemory[0].limits.memory is true; expected a quantity, such as 512Mi or 1Gi",
            id="quantity true",
        ),
        pytest.param("reservedMemory: [1]", "reservedMemory[0] is 1; expected a mapping", id="entry"),
        pytest.param(
            "reservedMemory: [{limits: []}]",
            "reservedMemory[0].limits is an empty list; expected a mapping",
            id="limits",
        ),
        pytest.param("reservedMemory: {}", "reservedMemory is an empty mapping; expected a list", id="list"),
        pytest.param("maxPods: '110'", 'maxPods is "110"; expected a whole number', id="number as text"),
        pytest.param("maxPods: 110.5", "maxPods is 110.5; expected a whole number", id="fraction"),
        pytest.param(
            "maxPods: 2147483648",
            "maxPods is 2147483648; expected a whole number from -2147483648 to 2147483647",
            id="int32",
        ),
        pytest.param("healthzPort: true", "healthzPort is true; expected a whole number", id="boolean port"),
        pytest.param("failSwapOn: 'no'", 'failSwapOn is "no"; expected true or false', id="quoted boolean"),
        pytest.param("failSwapOn: 0", "failSwapOn is 0; expected true or false", id="number as a boolean"),
        pytest.param(
            "reservedSystemCPUs: 0", "reservedSystemCPUs is 0; expected text (in quotes)", id="unquoted number"
        ),
        pytest.param(
            "cpuManagerPolicy: off", "cpuManagerPolicy is false; expected text (in quotes)", id="YAML 1.1 boolean"
        ),
        pytest.param(
            "cpuManagerPolicy: [static]", "cpuManagerPolicy is a list; expected text (in quotes)", id="list as text"
        ),
        pytest.param(
            "enforceNodeAllocatable: pods", 'enforceNodeAllocatable is "pods"; expected a list', id="text as a list"
        ),
        pytest.param(
            "enforceNodeAllocatable: [pods, 1]", "enforceNodeAllocatable[1] is 1; expected text (in quotes)", id="item"
        ),
        pytest.param("kubeReserved: []", "kubeReserved is an empty list; expected a mapping", id="map"),
        pytest.param(
            "cpuManagerReconcilePeriod: 10",
            "cpuManagerReconcilePeriod is 10; expected a duration in quotes, such as 10s or 1m30s",
            id="duration",
        ),
        pytest.param(
            "syncFrequency: 10 s",
            'syncFrequency is "10 s"; expected a duration in quotes, such as 10s or 1m30s',
            id="no duration",
        ),
        pytest.param(
            "syncFrequency: ''",
            'syncFrequency is ""; expected a duration in quotes, such as 10s or 1m30s',
            id="empty duration",
        ),
        pytest.param(
            "syncFrequency:",
            "syncFrequency is empty; expected a duration in quotes, such as 10s or 1m30s",
            id="null as a duration",
        ),
        pytest.param("memoryThrottlingFactor: '0.9'", 'memoryThrottlingFactor is "0.9"; expected a number', id="float"),
        pytest.param(
            "authentication: {anonymous: {enabled: 1}}",
            "authentication.anonymous.enabled is 1; expected true or false",
            id="deep",
        ),
        pytest.param(
            "authentication: {anonymous: no}", "authentication.anonymous is false; expected a mapping", id="struct"
        ),
        pytest.param(
            "registerWithTaints: [{timeAdded: now}]",
            'registerWithTaints[0].timeAdded is "now"; expected a time, such as 2026-01-31T12:00:00Z',
            id="time",
        ),
        pytest.param(
            "logging: {flushFrequency: 5x}",
            'logging.flushFrequency is "5x"; expected a duration in quotes, such as 10s or 1m30s',
            id="log flush",
        ),
        pytest.param(
            "logging: {flushFrequency: true}",
            "logging.flushFrequency is true; expected a duration in quotes, such as 10s or 1m30s, "
            "or nanoseconds as a whole number",
            id="log flush true",
        ),
        pytest.param(
            "logging: {verbosity: -1}",
            "logging.verbosity is -1; expected a whole number from 0 to 4294967295",
            id="uint32",
        ),
        pytest.param(
            f"clusterDomain: [{'[' * 50}{']' * 50}]",
            "clusterDomain is a list; expected text (in quotes)",
            id="deep list as text",
        ),
        pytest.param(f"maxPods: {'x' * 500}", f'maxPods is "{"x" * 59}...; expected a whole number', id="long text"),
    ],
)
@pytest.mark.parametrize("drop_in", [False, True])
def test_a_value_of_a_wrong_type(line: str, problem: str, drop_in: bool) -> None:
    fields, problems = decode(f"{HEAD}{line}\n", "/c", "1.36.3", drop_in)
    if drop_in and line.endswith(":"):
        assert (fields, problems) == ({"syncFrequency": None}, [])
        return
    assert texts(problems) == [f"/c: {problem}."]
    assert [(each.code, each.waivable) for each in problems] == [("config_invalid", False)]
    assert fields == {}


def test_all_problems_are_there_at_once() -> None:
    text = f"{HEAD}maxPods: x\nkubeReserved: {{cpu: 1, memory: 2}}\ncgroupDriver: systemd\n"
    fields, problems = decode(text, "/c", "1.36.3")
    assert len(problems) == 3
    assert fields == {"cgroupDriver": "systemd"}


@pytest.mark.parametrize(
    ("line", "fields"),
    [
        pytest.param("maxPods: 110.0", {"maxPods": 110}, id="whole number with a point"),
        pytest.param("maxPods: 1e2", {"maxPods": 100}, id="whole number with an exponent"),
        pytest.param("healthzPort: 0x2808", {"healthzPort": 10248}, id="hexadecimal"),
        pytest.param("failSwapOn: off", {"failSwapOn": False}, id="YAML 1.1 boolean"),
        pytest.param("maxPods:", {"maxPods": None}, id="null"),
        pytest.param("cpuCFSQuotaPeriod:", {"cpuCFSQuotaPeriod": "10ms"}, id="duration of a field that has one"),
        pytest.param(
            "crashLoopBackOff: {maxContainerRestartPeriod: }",
            {"crashLoopBackOff": {"maxContainerRestartPeriod": None}},
            id="null for a pointer to a duration",
        ),
        pytest.param("syncFrequency: 1h1m1.5s", {"syncFrequency": "1h1m1.5s"}, id="duration"),
        pytest.param("kubeReserved: {cpu: }", {"kubeReserved": {"cpu": ""}}, id="null in a map is Go's zero"),
        pytest.param("featureGates: {A: }", {"featureGates": {"A": False}}, id="null gate"),
        pytest.param("clusterDNS: [~]", {"clusterDNS": [""]}, id="null in a list"),
        # public reports, 22: without numaNode the kubelet reads 0
        pytest.param(
            "reservedMemory: [{limits: {memory: 1Gi}}]",
            {"reservedMemory": [{"numaNode": 0, "limits": {"memory": "1Gi"}}]},
            id="no NUMA node",
        ),
        pytest.param(
            "reservedMemory:\n- numaNode: 0\n- limits: {memory: ' 1Gi '}",
            {"reservedMemory": [{"numaNode": 0, "limits": {}}, {"numaNode": 0, "limits": {"memory": " 1Gi "}}]},
            id="mis-indented",
        ),
        pytest.param(
            "reservedMemory: [~, {limits: {memory: }}]",
            {"reservedMemory": [{"numaNode": 0, "limits": {}}, {"numaNode": 0, "limits": {"memory": "0"}}]},
            id="nulls",
        ),
        pytest.param(
            "logging: {flushFrequency: 5000000000}", {"logging": {"flushFrequency": 5000000000}}, id="nanoseconds"
        ),
        pytest.param("logging: {flushFrequency: 5s}", {"logging": {"flushFrequency": "5s"}}, id="log flush"),
        pytest.param("vendorOnly: {a: 1}", {}, id="a field of nobody"),
    ],
)
def test_what_go_takes(line: str, fields: dict[str, t.Any]) -> None:
    line = line.replace("cpuCFSQuotaPeriod:", "cpuCFSQuotaPeriod: 10ms")
    assert decode(f"{HEAD}{line}\n", "/c", "1.36.3") == (fields, [])


def test_a_number_with_a_point_is_no_whole_number_in_json() -> None:
    _fields, problems = decode(json.dumps({**EKS, "maxPods": 110.0}), "/c", "1.36.3")
    assert texts(problems) == ["/c: maxPods is 110.0; expected a whole number."]


def test_null_in_a_drop_in_stays() -> None:
    """There it removes what the file says, when both are merged."""
    fields, problems = decode(f"{HEAD}cpuManagerPolicy:\nkubeReserved: {{cpu: }}\n", "/c", "1.36.3", drop_in=True)
    assert (fields, problems) == ({"cpuManagerPolicy": None, "kubeReserved": {"cpu": None}}, [])


@pytest.mark.parametrize(
    ("name", "right"),
    [
        ("cpuManagerPolicys", "cpuManagerPolicy"),
        ("reservedSystemCpus", "reservedSystemCPUs"),
        ("reservedCpus", "reservedSystemCPUs"),
        ("CpuManagerPolicy", "cpuManagerPolicy"),
        ("topologyManagerpolicy", "topologyManagerPolicy"),
        ("kubereserved", "kubeReserved"),
        ("memoryMangerPolicy", "memoryManagerPolicy"),
    ],
)
def test_a_misspelt_field_is_named_with_the_right_one(name: str, right: str) -> None:
    fields, (problem,) = decode(f"{HEAD}{name}: '0'\n", "/c", "1.36.3")
    assert problem.text == (
        f"/c: {name} is not a field that this kubelet knows, and it ignores it. "
        f"Did you mean {right}? Correct the name, or remove the field."
    )
    assert (problem.code, problem.waivable, fields) == ("config_field_misspelt", True, {})


def test_a_misspelt_field_in_a_field() -> None:
    _fields, (problem,) = decode(f"{HEAD}reservedMemory: [{{numanode: 1}}]\n", "/c", "1.36.3")
    assert problem.subject == "/c: reservedMemory[0].numanode"
    assert "Did you mean numaNode?" in problem.remedy


def test_a_field_in_other_letters_counts_in_a_drop_in() -> None:
    """encoding/json decodes the merged files, and takes names in any case of letters: this cannot be waived."""
    _fields, (problem,) = decode(f"{HEAD}ReservedSystemCpus: '0'\n", "/d", "1.36.3", drop_in=True)
    assert (problem.code, problem.waivable) == ("config_field_misspelt", False)


def test_a_duplicate_field() -> None:
    """The kubelet takes the last one of a file, and refuses a drop-in."""
    text = f"{HEAD}maxPods: 1\nmaxPods: 2\n"
    fields, (problem,) = decode(text, "/c", "1.36.3")
    assert (fields, problem.code, problem.waivable) == ({"maxPods": 2}, "config_key_twice", True)
    assert "'maxPods' is there twice, again in line 4, and the kubelet takes the last value" in problem.text
    _fields, (problem,) = decode(text, "/d", "1.36.3", drop_in=True)
    assert not problem.waivable
    assert "the kubelet refuses the drop-in" in problem.text


def test_a_second_document_is_not_read() -> None:
    fields, (problem,) = decode(f"{HEAD}maxPods: 1\n---\nmaxPods: 2\n", "/c", "1.36.3")
    assert (fields, problem.code, problem.waivable) == ({"maxPods": 1}, "config_not_read", True)
    assert "line 5" in problem.text


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        pytest.param("", "/c does not hold a mapping; expected a KubeletConfiguration.", id="empty"),
        pytest.param("[]", "/c does not hold a mapping; expected a KubeletConfiguration.", id="a list"),
        pytest.param(f"{HEAD}a: [", "/c, line 4: invalid YAML", id="no YAML"),
        pytest.param("{kind: KubeletConfiguration}", "/c, line 1: invalid JSON", id="no JSON"),
        pytest.param("kind: KubeletConfiguration", "/c: a configuration file needs 'apiVersion", id="no apiVersion"),
        pytest.param(
            HEAD.replace("v1beta1", "v1"), "/c: a configuration file needs 'apiVersion", id="another apiVersion"
        ),
        pytest.param(
            HEAD.replace("KubeletC", "KubeProxyC"), "/c: a configuration file needs 'apiVersion", id="another kind"
        ),
        pytest.param(
            HEAD.replace("KubeletConfiguration", "1"), "/c: a configuration file needs 'apiVersion", id="kind 1"
        ),
    ],
)
def test_no_kubelet_configuration(text: str, problem: str) -> None:
    fields, (found,) = decode(text, "/c", "1.36.3")
    assert found.text.startswith(problem)
    assert (fields, found.waivable) == ({}, False)


def test_the_kind_of_a_file_is_read_in_any_case_of_letters_but_not_that_of_a_drop_in() -> None:
    text = HEAD.replace("kind", "Kind").replace("apiVersion", "APIVersion")
    assert decode(text, "/c", "1.36.3") == ({}, [])
    _fields, problems = decode(text, "/d", "1.36.3", drop_in=True)
    assert "a drop-in needs" in texts(problems)[0]


def test_many_unknown_fields_take_no_time() -> None:
    start = time.thread_time()
    decode(HEAD + "".join(f"memoryManagerPolicx{n}: 1\n" for n in range(5000)), "/c", "1.36.3")
    assert time.thread_time() - start < 20


JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**70), 2**70)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(blacklist_categories=["Cs"]), max_size=8)
    | st.sampled_from(
        ["static", "0-3", "0-15:1/8", "10s", "1Gi", "-1", "500m", "1e999999999", "8", "true", "none", "", " "]
    ),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(
                ["cpu", "memory", "pid", "enabled", "numaNode", "limits", "key", "max-allowable-numa-nodes", "json"]
            )
            | st.text(max_size=4),
            inner,
            max_size=3,
        )
    ),
    max_leaves=10,
)
CONTENT = st.dictionaries(
    st.sampled_from(sorted(FIELDS["KubeletConfiguration"])) | st.text(max_size=6), JSON, max_size=5
)
VERSIONS = st.integers(20, NEWEST_MINOR + 1).map(lambda minor: f"1.{minor}.0")


@given(CONTENT, VERSIONS, st.booleans())
def test_any_content_is_decoded_or_has_problems(content: dict[str, t.Any], version: str, drop_in: bool) -> None:
    """Values without a problem can be looked at further."""
    kind = {"apiVersion": EKS["apiVersion"], "kind": EKS["kind"]}
    fields, problems = decode_value({**content, **kind}, "/c", version, drop_in)
    assert set(fields) <= set(content)
    assert all(problem.text and len(problem.text) < 1000 for problem in problems)
    if not problems and not drop_in:
        assert all(problem.text for problem in value_problems(fields, version))


@given(st.text(st.characters(), max_size=100), st.booleans())
def test_any_text_is_decoded_or_has_problems(text: str, drop_in: bool) -> None:
    _fields, problems = decode(HEAD + text, "/c", "1.36.3", drop_in)
    assert all(problem.text for problem in problems)
