# SPDX-License-Identifier: GPL-3.0-or-later
"""Ask the API server for each pod of the unit tests, alone and in a Deployment, without making any; compare with the audit.

``verdicts.py KUBECONFIG MINOR IMAGE ACTION`` (``none``: no policy is there) prints a line per pod; exit status 1 if any verdict differs.
The actions ``threads`` and ``thread-warnings`` compare what the policy for threads sets, or says, with what kubepin lists before.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT / "collections")]

from ansible_collections.kubepin.tuning.plugins.module_utils.control.gpu_access.node import Node  # noqa: E402
from ansible_collections.kubepin.tuning.plugins.module_utils.control.gpu_pods.pod import (  # noqa: E402
    asks_for_gpu,
    assess,
    containers_of,
)
from ansible_collections.kubepin.tuning.plugins.module_utils.control.gpu_pods.threads import unset_threads  # noqa: E402
from ansible_collections.kubepin.tuning.tests.unit.samples import gpu_pods  # noqa: E402
from kubernetes import client, config  # noqa: E402

POLICY = "kubepin-gpu-pods"
PREFIXES = ["nvidia.com/"]
EXEMPT = {"kubepin.io/gpu-pod-policy": "exempt"}
EXEMPT_NAMESPACES = ("gpu-exempt", "kube-system")
THREAD_POLICY = "kubepin-gpu-pod-threads"
THREADS = {
    "resource_prefixes": PREFIXES,
    "thread_variables": ["OMP_NUM_THREADS", "MKL_NUM_THREADS"],
    "exempt_namespaces": ["kube-system"],
    "exempt_label": "kubepin.io/gpu-pod-policy=exempt",
}
"""The settings of molecule/enforce/verify.yml."""
POLICY_SECONDS = 60
SAID = {  # action -> what is said of a pod, and of a Deployment
    "none": ("", ""),
    "Audit": ("", ""),
    "Warn": ("warned", "warned"),
    "Deny": ("refused", "warned"),
}

Data = dict[str, Any]


def cases(minor: int, image: str) -> list[Data]:
    """The pods of the unit tests, and some that the policy leaves alone."""
    found = [item for item in gpu_pods.manifests(minor, image) if item["kind"] == "Pod"]
    broken = next(item for item in found if item["metadata"]["name"] == "gpu-alone")
    found.append(named("labelled-exempt", broken["spec"], image, labels=EXEMPT))
    found += [named(f"gpu-alone-in-{place}", broken["spec"], image, namespace=place) for place in EXEMPT_NAMESPACES]
    found.append(named("no-gpu", gpu_pods.pod(gpu_pods.side("500m 1Gi")), image))
    found.append(named("no-gpu-and-no-limits", gpu_pods.pod(gpu_pods.side()), image))
    return found


def named(name: str, spec: Data, image: str, namespace: str = gpu_pods.NAMESPACE, labels: Data | None = None) -> Data:
    containers = [{**entry, "image": image} for entry in spec["containers"]]
    metadata = {"namespace": namespace, "name": name, "labels": labels or {}}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": {**spec, "containers": containers}}


def deployment(pod: Data) -> Data:
    metadata = pod["metadata"]
    labels = {**metadata.get("labels", {}), "app": "gpu"}
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"namespace": metadata["namespace"], "name": metadata["name"]},
        "spec": {**gpu_pods.SELECTOR, "template": {"metadata": {"labels": labels}, "spec": pod["spec"]}},
    }


def is_fine(pod: Data) -> bool:
    """The audit's verdict, and whether the policy looks at the pod at all."""
    metadata, spec = pod["metadata"], pod["spec"]
    if (
        metadata.get("labels") == EXEMPT
        or metadata["namespace"] in EXEMPT_NAMESPACES
        or not asks_for_gpu(spec, PREFIXES)
    ):
        return True
    return all(verdict.exclusive for verdict in assess(spec, containers_of(spec, PREFIXES), Node()))


def ask(create: Callable[..., Any], manifest: Data) -> tuple[str, str]:
    """What the policy does with an object ("refused", "warned" or nothing), and in which words.

    :raises client.ApiException: if the API server refuses it for another reason
    """
    try:
        answer = create(manifest["metadata"]["namespace"], manifest, dry_run="All")
    except client.ApiException as refused:
        message = str(json.loads(refused.body)["message"])
        if POLICY not in message:
            raise
        return "refused", message
    warning = str(answer[2].get("Warning", ""))
    return ("warned", warning) if POLICY in warning else ("", "")


def set_by_the_policy(pod: Data, answer: Any) -> dict[str, dict[str, str]]:
    """Container -> the variables that a pod has in the server's answer and not in the request.

    :raises RuntimeError: if anything else of the containers differs: their order, or the order of their variables
    """
    spec = client.ApiClient().sanitize_for_serialization(answer)["spec"]
    found = {}
    for field in ("initContainers", "containers"):
        asked, given = pod["spec"].get(field) or [], spec.get(field) or []
        if [entry["name"] for entry in asked] != [entry["name"] for entry in given]:
            raise RuntimeError(f"{pod['metadata']['name']}: the {field} are {given}")
        for before, after in zip(asked, given, strict=True):
            own = before.get("env") or []
            kept = [entry for entry in after.get("env") or [] if entry in own]
            if kept != own:
                raise RuntimeError(f"{pod['metadata']['name']}: the variables of {after['name']} are {after['env']}")
            added = {entry["name"]: entry["value"] for entry in after.get("env") or [] if entry not in own}
            if added:
                found[after["name"]] = added
    return found


def compare_threads(minor: int, image: str, warns: bool) -> int:
    """Whether the policy for threads does in each pod what kubepin lists for it."""
    api = client.CoreV1Api()
    namespaces = [client.ApiClient().sanitize_for_serialization(item) for item in api.list_namespace().items]
    differ = changed = 0
    for pod in cases(minor, image):
        metadata = pod["metadata"]
        (listed,) = unset_threads([pod], namespaces, THREADS) or [{"containers": {}}]
        expected = listed["containers"]
        answer, _status, headers = api.create_namespaced_pod_with_http_info(metadata["namespace"], pod, dry_run="All")
        done = set_by_the_policy(pod, answer)
        words = str(headers.get("Warning", "")) if THREAD_POLICY in str(headers.get("Warning", "")) else ""
        said = [f"{name}: set {key} to {value}" for name, values in expected.items() for key, value in values.items()]
        agree = (
            (not done and bool(words) == bool(said) and all(text in words for text in said))
            if warns
            else done == expected
        )
        differ += not agree
        changed += bool(expected)
        print(f"{'agree ' if agree else 'DIFFER'} {metadata['name']}: expected {expected}, {words or done}")
    print(f"{changed} pods changed or warned of, {differ} differ")
    return 1 if differ or not changed else 0


def wait_for_threads(minor: int, image: str, warns: bool) -> None:
    """Until the API server uses a new policy."""
    api = client.CoreV1Api()
    pod = next(item for item in cases(minor, image) if item["metadata"]["name"] == "fractional")
    deadline = time.monotonic() + POLICY_SECONDS
    while time.monotonic() < deadline:
        answer, _status, headers = api.create_namespaced_pod_with_http_info(gpu_pods.NAMESPACE, pod, dry_run="All")
        if THREAD_POLICY in str(headers.get("Warning", "")) if warns else set_by_the_policy(pod, answer):
            return
        time.sleep(1)


def main(kubeconfig: str, minor: int, image: str, action: str) -> int:
    config.load_kube_config(kubeconfig)
    if action in ("threads", "thread-warnings"):
        warns = action == "thread-warnings"
        wait_for_threads(minor, image, warns)
        return compare_threads(minor, image, warns)
    pod_api, apps_api = client.CoreV1Api(), client.AppsV1Api()
    pods = cases(minor, image)
    kinds = (
        ("Pod", pod_api.create_namespaced_pod_with_http_info, pods),
        ("Deployment", apps_api.create_namespaced_deployment_with_http_info, [deployment(pod) for pod in pods]),
    )
    broken = next(index for index, pod in enumerate(pods) if pod["metadata"]["name"] == "gpu-alone")
    deadline = time.monotonic() + POLICY_SECONDS  # the API server takes a moment to use a new policy, and to forget one
    while time.monotonic() < deadline and SAID[action] != tuple(
        ask(create, all_[broken])[0] for _, create, all_ in kinds
    ):
        time.sleep(1)
    differ = objected = 0
    for (kind, create, manifests), expected in zip(kinds, SAID[action], strict=True):
        for pod, manifest in zip(pods, manifests, strict=True):
            done, words = ask(create, manifest)
            agree = done == ("" if is_fine(pod) else expected)
            differ += not agree
            objected += bool(done)
            name = f"{kind} {pod['metadata']['name']}"
            print(f"{'agree ' if agree else 'DIFFER'} {name}: {done or 'taken without a word'} {words}".rstrip())
    print(f"{action}: {2 * len(pods)} objects, {objected} objected to, {differ} verdicts differ from the audit's")
    return 1 if differ else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], int(sys.argv[2]), sys.argv[3], sys.argv[4]))
