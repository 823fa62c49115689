# SPDX-License-Identifier: GPL-3.0-or-later
"""The wording of every problem with the audit's input, and with the admission policies for GPU pods."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from ansible_collections.kubepin.tuning.plugins.module_utils.common.problem import Problem

_EXPECTED = "Expected what `kubectl get pods -A -o json` prints."


def file_unreadable(path: str, reason: str) -> Problem:
    return Problem("file_unreadable", f'"{path}"', f"cannot be read: {reason}", "Name a file that this user can read.")


def yaml_missing(path: str, reason: str) -> Problem:
    return Problem("yaml_missing", f'"{path}"', f"is not JSON, and YAML needs PyYAML: {reason}", "Install it.")


def _not_as_printed(path: str, finding: str) -> Problem:
    return Problem("file_invalid", f'"{path}"', finding, _EXPECTED)


def nested_too_deeply(path: str) -> Problem:
    return _not_as_printed(path, "is nested too deeply")


def no_document(path: str, reason: str) -> Problem:
    return _not_as_printed(path, f"is neither JSON nor YAML: {reason}")


def not_an_object(path: str, shown: str) -> Problem:
    return _not_as_printed(path, f"contains something that is not a Kubernetes object: {shown}")


def object_without_name(path: str, kind: str) -> Problem:
    return _not_as_printed(path, f"contains a {kind} without a name")


def items_not_a_list(path: str, kind: str, shown: str) -> Problem:
    return _not_as_printed(path, f"contains a {kind} whose items are not a list: {shown}")


def object_invalid(path: str, name: str, finding: str) -> Problem:
    """:param finding: what is wrong at which place in the object"""
    return Problem("object_invalid", f'"{path}": {name}:', finding, _EXPECTED)


def runtime_unread(nodes: str, reason: str) -> Problem:
    """:param nodes: their names"""
    return Problem(
        "runtime_unread",
        f"how {nodes} starts GPU containers",
        f"is unknown: {reason}",
        "Or supply it in gpu_qos_nodes.",
    )


def server_too_old(version: str, least: str) -> Problem:
    return Problem(
        "server_too_old",
        f"the API server at {version}",
        f"has no ValidatingAdmissionPolicy, which takes {least} or newer",
        "Use the audit instead: audit-gpu-pods.yml lists the GPU pods without exclusive CPUs, fails on them with "
        "gpu_qos_fail_on=not_exclusive, and patches their owners with gpu_qos_apply=true.",
    )


def patches_from_file(path: str) -> Problem:
    return Problem(
        "patches_from_file",
        f'gpu_qos_apply with gpu_qos_pods_file "{path}"',
        "is not possible: the file may be out of date, so patches are only applied to what the API shows",
        "Omit gpu_qos_pods_file to audit the cluster and apply the patches, or gpu_qos_apply to only write them.",
    )


_LISTED_ABOVE = "They are listed above, with their patches; gpu_qos_fail_on is {}, so the run fails."


def pods_at_risk(risky: int, total: int) -> Problem:
    return Problem(
        "gpu_pods_at_risk",
        f"{risky} of {total} GPU pods",
        "may lose their GPU, or it is unknown whether they do",
        _LISTED_ABOVE.format("at_risk"),
    )


def pods_not_exclusive(shared: int, total: int) -> Problem:
    return Problem(
        "gpu_pods_not_exclusive",
        f"{shared} of {total} GPU pods",
        "have containers without exclusive CPUs",
        _LISTED_ABOVE.format("not_exclusive"),
    )


def policy_not_checked(place: str, warning: str) -> Problem:
    """:param place: the expression that the cluster's type check warns of"""
    return Problem(
        "policy_type_check",
        place,
        f"fails the cluster's type check, so the policy would not check all pods: {warning}",
        "No binding was written, so the policy has no effect. Remove it with gpu_pod_policy_state=absent, and report this.",
    )


def exempt_label_invalid(label: str) -> Problem:
    return Problem(
        "exempt_label_invalid",
        f'gpu_pod_policy_exempt_label "{label}"',
        "is invalid: expected KEY=VALUE, such as kubepin.io/gpu-pod-policy=exempt",
    )


def prefix_invalid(prefix: str) -> Problem:
    return Problem(
        "resource_prefix_invalid",
        f'"{prefix}" in gpu_pod_policy_resource_prefixes',
        "is invalid: expected how names of resources begin, such as nvidia.com/",
    )


def no_thread_variables() -> Problem:
    return Problem(
        "no_thread_variables",
        "gpu_pod_policy_thread_variables",
        "is empty: expected the variables to set, such as OMP_NUM_THREADS",
        "Or leave gpu_pod_policy_threads false.",
    )


def thread_variable_invalid(name: str) -> Problem:
    return Problem(
        "thread_variable_invalid",
        f'"{name}" in gpu_pod_policy_thread_variables',
        "is invalid: expected the name of an environment variable, such as OMP_NUM_THREADS",
    )


def not_ours(name: str) -> Problem:
    return Problem(
        "policy_of_others",
        name,
        "exists without the label app.kubernetes.io/managed-by=kubepin, so it is not kubepin's",
        "Remove it, or give it that label if kubepin may replace or remove it.",
    )


def owners_unreadable(resource: str, answer: str) -> Problem:
    return Problem(
        "owners_unreadable",
        f"{resource} cannot be read",
        f"({answer}), so their pods are audited, but not what makes them",
        "The ClusterRole kubepin-audit in docs/rbac.yaml has the permission.",
    )


def claims_unreadable(answer: str) -> Problem:
    return Problem(
        "claims_unreadable",
        "resourceclaims.resource.k8s.io cannot be read",
        f"({answer}), so the devices of claims are unknown",
        "The ClusterRole kubepin-audit in docs/rbac.yaml has the permission.",
    )


def runtime_classes_unreadable(answer: str) -> Problem:
    return Problem(
        "runtime_classes_unreadable",
        "runtimeclasses.node.k8s.io cannot be read",
        f"({answer}), so the container runtime's handlers of pods with a RuntimeClass are unknown",
        "The ClusterRole kubepin-audit in docs/rbac.yaml has the permission.",
    )


def owner_malformed(name: str, faults: Sequence[str]) -> Problem:
    return Problem(
        "owner_malformed", name, f"is not of the form that its kind has, so it gets no patch: {'; '.join(faults)}"
    )


REFUSED_REMEDY = (
    "If a pod would be refused, tune-gpu-nodes.yml stops before it changes anything (problem code pod_refused). To continue, use "
    "-e gpu_qos_accept_refused=true."
)


def pod_refused(pod: str, reason: str, enough: Sequence[str]) -> Problem:
    way_out = f"Any of these would let it in: {', '.join(enough)}. " if enough else ""
    return Problem(
        "pod_refused",
        f"pod {pod}",
        f"would be refused by the kubelet after the switch: {reason}",
        f"{way_out}Or go on with -e gpu_qos_accept_refused=true.",
        waivable=True,
    )


def pod_not_understood(name: str, reason: str) -> Problem:
    return Problem(
        "pod_not_understood",
        name,
        f"cannot be understood: {reason}",
        "Expected an object as the API gives it: read it again with `kubectl get --output json`.",
    )


def multiple_invalid(value: int) -> Problem:
    return Problem(
        "cpu_multiple_invalid", f"cpu_multiple {value}", "is invalid: expected a whole number above 0, such as 1"
    )


def container_injected(name: str) -> Problem:
    return Problem(
        "container_injected", f"container {name}", "is not in the template", "Set its resources where it is injected."
    )


def pod_resources_not_pinned() -> Problem:
    return Problem(
        "pod_resources_not_pinned",
        "the pod's own resources (spec.resources)",
        "are not pinned without the kubelet's feature gate PodLevelResourceManagers",
        "Give them to the containers.",
    )


def pod_resources_too_small(needed: str, unit: str, given: str) -> Problem:
    return Problem(
        "pod_resources_too_small",
        "the pod itself (spec.resources)",
        f"has {given} {unit}, and its containers need {needed}",
        "Raise the pod's own.",
    )


def pod_resources_inexact(finding: str) -> Problem:
    """:param finding: why a pod gets no exclusive CPUs, in the words of the audit"""
    return Problem("pod_resources_inexact", "of the pod's own resources (spec.resources),", finding)


def pod_not_pinned(finding: str) -> Problem:
    """:param finding: why a pod gets no exclusive CPUs, in the words of the audit"""
    return Problem("pod_not_pinned", "", finding)


def no_number_of_cpus(container: str) -> Problem:
    return Problem("no_number_of_cpus", f"container {container}", "names no number of CPUs", "Choose one.")


def no_amount_of_memory(container: str) -> Problem:
    return Problem("no_amount_of_memory", f"container {container}", "names no amount of memory", "Choose one.")


def gpu_requested_elsewhere(place: str) -> Problem:
    """:param place: where, as a clause"""
    return Problem("gpu_requested_elsewhere", "", place)


def template_fixed(kind: str) -> Problem:
    return Problem("template_fixed", f"the template of a {kind}", "cannot be changed", f"Change what makes the {kind}.")


def of_template(path: str, problem: Problem) -> Problem:
    """The problem, with the place of its template in front."""
    return replace(problem, subject=f"{path}: {problem.subject}".rstrip())


_KEEP_GPUS = (
    "Give them whole CPUs, with audit-gpu-pods.yml -e gpu_qos_apply=true or the patches of this run; or make the node's stack keep "
    "devices (CDI or device specifications, for runc 1.1.3 to 1.1.6 with links in /dev/char; under the cgroup driver cgroupfs, runc "
    "1.0.0 or newer) or say in gpu_qos_nodes what it is; or go on with -e gpu_qos_accept_risk=true."
)


def gpu_access_lost(pods: str) -> Problem:
    return Problem(
        "gpu_access_risk",
        f"GPU pods {pods}",
        "would share CPUs, and the static policy would take their GPU on this node",
        _KEEP_GPUS,
        waivable=True,
    )


def gpu_access_unknown(pods: str, unknown: Sequence[str]) -> Problem:
    """:param unknown: facts of the node's stack"""
    return Problem(
        "gpu_access_risk",
        f"GPU pods {pods}",
        f"would share CPUs, and whether the static policy takes their GPU depends on what is unknown: {', '.join(unknown)}",
        _KEEP_GPUS,
        waivable=True,
    )
