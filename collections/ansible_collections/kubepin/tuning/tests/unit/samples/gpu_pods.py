# SPDX-License-Identifier: GPL-3.0-or-later
"""Pods that break the rule in different ways, and a few that do not, with what is said of each container.

As a program it prints those that an API server of Kubernetes 1.MINOR takes, and owners, as a List for kubectl:
``gpu_pods.py MINOR IMAGE``.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from typing import Any, NamedTuple

GPU = "nvidia.com/gpu"
NAMESPACE = "gpu-audit"
NO_LIMITS = ["no_cpu_limit", "no_memory_limit"]


class Case(NamedTuple):
    name: str
    spec: dict[str, Any]
    reasons: dict[str, list[str]]
    since: int = 20


class Cluster:
    """A source of an audit, from lists; *node* stands for every node."""

    def __init__(self, pods: list[Any], owners: Any, node: Any, claims: Any = ()) -> None:
        self._pods, self._owners, self._node, self._claims = pods, owners, node, claims

    def pods(self) -> Iterator[dict[str, Any]]:
        return iter(self._pods)

    def owners(self) -> Iterator[dict[str, Any]]:
        return iter(self._owners)

    def claims(self) -> Iterator[dict[str, Any]]:
        return iter(self._claims)

    def runtime_classes(self) -> Iterator[dict[str, Any]]:
        return iter(())

    def unread(self) -> tuple[()]:
        return ()

    def node_facts(self, name: str) -> Any:
        return self._node


def amounts(text: str) -> dict[str, str]:
    """``2 1Gi`` is CPU and memory; ``-`` leaves one out."""
    return {key: value for key, value in zip(("cpu", "memory"), text.split()) if value != "-"}


def container(
    limits: str = "", requests: str = "", name: str = "main", gpu: str | None = None, **fields: Any
) -> dict[str, Any]:
    devices = {gpu: "1"} if gpu else {}
    resources = {"limits": {**amounts(limits), **devices}, "requests": {**amounts(requests), **devices}}
    return {"name": name, "resources": resources, **fields}


def main(limits: str = "", requests: str = "", gpu: str = GPU, **fields: Any) -> dict[str, Any]:
    return container(limits, requests, "main", gpu, **fields)


def side(limits: str = "", requests: str = "", name: str = "side", **fields: Any) -> dict[str, Any]:
    return container(limits, requests, name, **fields)


def pod(*containers: dict[str, Any], init: tuple[dict[str, Any], ...] = (), **fields: Any) -> dict[str, Any]:
    return {"containers": list(containers), **({"initContainers": list(init)} if init else {}), **fields}


def claiming(limits: str = "", **claim: str) -> dict[str, Any]:
    """A pod whose GPU comes by a claim (DRA)."""
    resources = {**main(limits, gpu="")["resources"], "claims": [{"name": "gpu"}]}
    return pod({"name": "main", "resources": resources}, resourceClaims=[{"name": "gpu", **claim}])


WHOLE = "2 1Gi"
CASES = [
    Case("whole", pod(main(WHOLE)), {"main": []}),
    Case("whole-in-milli", pod(main("2000m 1Gi")), {"main": []}),
    Case("whole-as-exponent", pod(main("2e0 1Gi")), {"main": []}),
    Case("whole-with-equal-requests", pod(main(WHOLE, "2 1024Mi")), {"main": []}),
    Case("whole-init", pod(main(WHOLE), init=(side("4 1Gi"),)), {"side": [], "main": []}),
    Case("whole-many", pod(main("96 1Gi")), {"main": []}),
    Case("gpu-alone", pod(main()), {"main": NO_LIMITS}),
    Case("no-cpu-limit", pod(main("- 1Gi")), {"main": ["no_cpu_limit"]}),
    Case("no-memory-limit", pod(main("2")), {"main": ["no_memory_limit"]}),
    Case("only-cpu-request", pod(main("", "2")), {"main": NO_LIMITS}),
    Case("only-memory-request", pod(main("", "- 1Gi")), {"main": NO_LIMITS}),
    Case("only-requests", pod(main("", WHOLE)), {"main": NO_LIMITS}),
    Case("only-fractional-request", pod(main("", "1500m 1Gi")), {"main": [*NO_LIMITS, "fractional_cpu"]}),
    Case("cpu-request-lower", pod(main("4 1Gi", "2 1Gi")), {"main": ["cpu_request_differs"]}),
    Case(
        "cpu-request-fractional",
        pod(main("4 1Gi", "500m 1Gi")),
        {"main": ["cpu_request_differs", "fractional_cpu"]},
    ),
    Case("cpu-request-zero", pod(main("2 1Gi", "0 1Gi")), {"main": ["cpu_request_differs"]}),
    Case("cpu-limit-zero", pod(main("0 1Gi")), {"main": ["no_cpu_limit"]}),
    Case("memory-request-lower", pod(main("2 2Gi", WHOLE)), {"main": ["memory_request_differs"]}),
    Case(
        "both-requests-lower",
        pod(main("4 2Gi", WHOLE)),
        {"main": ["cpu_request_differs", "memory_request_differs"]},
    ),
    Case("memory-request-other-unit", pod(main("2 1G", "2 1Mi")), {"main": ["memory_request_differs"]}),
    Case("fractional", pod(main("1500m 1Gi")), {"main": ["fractional_cpu"]}),
    Case("fractional-half", pod(main("0.5 1Gi")), {"main": ["fractional_cpu"]}),
    Case("fractional-decimal", pod(main("2.5 1Gi")), {"main": ["fractional_cpu"]}),
    Case("fractional-nearly-whole", pod(main("1999m 1Gi")), {"main": ["fractional_cpu"]}),
    Case("fractional-tiny", pod(main("1m 1Gi")), {"main": ["fractional_cpu"]}),
    Case("fractional-large", pod(main("15500m 1Gi")), {"main": ["fractional_cpu"]}),
    Case("fractional-without-memory", pod(main("1500m")), {"main": ["no_memory_limit", "fractional_cpu"]}),
    Case(
        "fractional-memory-lower",
        pod(main("1500m 2Gi", "1500m 1Gi")),
        {"main": ["memory_request_differs", "fractional_cpu"]},
    ),
    Case(
        "fractional-with-threads",
        pod(main("1500m 1Gi", env=[{"name": "OMP_NUM_THREADS", "value": "1"}])),
        {"main": ["fractional_cpu"]},
    ),
    Case(
        "fractional-env-from",
        pod(main("1500m 1Gi", envFrom=[{"configMapRef": {"name": "threads", "optional": True}}])),
        {"main": ["fractional_cpu"]},
    ),
    Case(
        "fractional-privileged",
        pod(main("1500m 1Gi", securityContext={"privileged": True})),
        {"main": ["fractional_cpu"]},
    ),
    Case("side-bare", pod(main(WHOLE), side()), {"main": ["other_container"], "side": NO_LIMITS}),
    Case("side-no-memory", pod(main(WHOLE), side("1")), {"main": ["other_container"], "side": ["no_memory_limit"]}),
    Case("side-no-cpu", pod(main(WHOLE), side("- 1Gi")), {"main": ["other_container"], "side": ["no_cpu_limit"]}),
    Case(
        "side-burstable",
        pod(main(WHOLE), side("1 64Mi", "100m 64Mi")),
        {"main": ["other_container"], "side": ["cpu_request_differs", "fractional_cpu"]},
    ),
    Case("side-fractional", pod(main(WHOLE), side("100m 64Mi")), {"main": [], "side": ["fractional_cpu"]}),
    Case(
        "side-two",
        pod(main(WHOLE), side(), side("1 64Mi", name="log")),
        {"main": ["other_container"], "side": NO_LIMITS, "log": ["other_container"]},
    ),
    Case(
        "both-fractional",
        pod(main("1500m 1Gi"), side("500m 1Gi")),
        {"main": ["fractional_cpu"], "side": ["fractional_cpu"]},
    ),
    Case("gpu-in-the-second", pod(side(), main()), {"side": NO_LIMITS, "main": NO_LIMITS}),
    Case("gpu-holder-fractional", pod(main("1500m 1Gi"), side(WHOLE)), {"main": ["fractional_cpu"], "side": []}),
    Case("init-bare", pod(main(WHOLE), init=(side(),)), {"side": NO_LIMITS, "main": ["other_container"]}),
    Case("init-fractional", pod(main(WHOLE), init=(side("500m 1Gi"),)), {"side": ["fractional_cpu"], "main": []}),
    Case(
        "init-memory-lower",
        pod(main(WHOLE), init=(side("1 2Gi", "1 1Gi"),)),
        {"side": ["memory_request_differs"], "main": ["other_container"]},
    ),
    Case(
        "init-holds-the-gpu",
        pod(side(WHOLE), init=(main(),)),
        {"main": NO_LIMITS, "side": ["other_container"]},
    ),
    Case(
        "all-kinds",
        pod(main("1500m"), side(), init=(side(name="first"),)),
        {"first": NO_LIMITS, "main": ["no_memory_limit", "fractional_cpu"], "side": NO_LIMITS},
    ),
    Case("mig", pod(main("1500m 1Gi", gpu="nvidia.com/mig-1g.5gb")), {"main": ["fractional_cpu"]}),
    Case("shared-gpu", pod(main("2", gpu="nvidia.com/gpu.shared")), {"main": ["no_memory_limit"]}),
    Case(
        "sidecar-bare",
        pod(main(WHOLE), init=(side(restartPolicy="Always"),)),
        {"side": NO_LIMITS, "main": ["other_container"]},
        since=29,
    ),
    Case(
        "sidecar-whole",
        pod(main(WHOLE), init=(side("1 1Gi", restartPolicy="Always"),)),
        {"side": [], "main": []},
        since=29,
    ),
    Case(
        "sidecar-fractional",
        pod(main(WHOLE), init=(side("100m 64Mi", restartPolicy="Always"),)),
        {"side": ["fractional_cpu"], "main": []},
        since=29,
    ),
    Case("claim", claiming(resourceClaimTemplateName="one-gpu"), {"main": NO_LIMITS}, since=34),
    Case(
        "claim-fractional",
        claiming("1500m 1Gi", resourceClaimTemplateName="one-gpu"),
        {"main": ["fractional_cpu"]},
        since=34,
    ),
    Case("claim-whole", claiming(WHOLE, resourceClaimName="the-gpu"), {"main": []}, since=34),
    Case(
        "pod-level",
        pod(main(), resources={"limits": amounts(WHOLE), "requests": amounts(WHOLE)}),
        {"main": [*NO_LIMITS, "pod_level_resources"]},
        since=34,
    ),
    Case(
        "pod-level-over-whole",
        pod(main(WHOLE), resources={"limits": amounts("3 2Gi"), "requests": amounts("3 2Gi")}),
        {"main": ["pod_level_resources"]},
        since=34,
    ),
    Case(
        "pod-level-burstable",
        pod(main(WHOLE), resources={"limits": amounts("3 2Gi"), "requests": amounts("2 2Gi")}),
        {"main": ["cpu_request_differs", "pod_level_resources"]},
        since=34,
    ),
]

SELECTOR = {"selector": {"matchLabels": {"app": "gpu"}}}


def template(spec: dict[str, Any], restart: str = "Always") -> dict[str, Any]:
    return {"metadata": {"labels": {"app": "gpu"}}, "spec": {**spec, "restartPolicy": restart}}


def owner(kind: str, name: str, spec: dict[str, Any], api_version: str = "apps/v1") -> dict[str, Any]:
    return {
        "apiVersion": api_version,
        "kind": kind,
        "metadata": {"namespace": NAMESPACE, "name": name},
        "spec": spec,
    }


def owners(batch: str = "batch/v1") -> list[dict[str, Any]]:
    """One of each kind, none with whole CPUs; the second Deployment cannot be mended without a person."""
    fractional = pod(main("1500m 1Gi"))
    job = {"template": template(fractional, "Never")}
    return [
        owner("Deployment", "serve", {**SELECTOR, "replicas": 2, "template": template(fractional)}),
        owner("Deployment", "guess", {**SELECTOR, "replicas": 1, "template": template(pod(main("1500m"), side()))}),
        owner(
            "StatefulSet",
            "train",
            {**SELECTOR, "serviceName": "train", "template": template(pod(main("4 2Gi", WHOLE)))},
        ),
        owner("DaemonSet", "watch", {**SELECTOR, "template": template(pod(main(WHOLE), side("100m 64Mi")))}),
        owner("ReplicaSet", "old", {**SELECTOR, "replicas": 1, "template": template(pod(main("", "3 1Gi")))}),
        owner("Job", "once", job, "batch/v1"),
        owner("CronJob", "nightly", {"schedule": "0 3 * * *", "jobTemplate": {"spec": job}}, batch),
    ]


def claims() -> list[dict[str, Any]]:
    """What the pods claim, of a class that nobody offers."""
    spec = {"devices": {"requests": [{"name": "gpu", "exactly": {"deviceClassName": "gpu-audit"}}]}}
    return [
        owner("ResourceClaimTemplate", "one-gpu", {"spec": spec}, "resource.k8s.io/v1"),
        owner("ResourceClaim", "the-gpu", spec, "resource.k8s.io/v1"),
    ]


def manifests(minor: int, image: str) -> list[dict[str, Any]]:
    """The namespace, the claims, the pods and the owners, every container with *image* and a command that sleeps."""
    pods = [
        {"apiVersion": "v1", "kind": "Pod", "metadata": {"namespace": NAMESPACE, "name": case.name}, "spec": case.spec}
        for case in CASES
        if case.since <= minor
    ]
    items: list[dict[str, Any]] = json.loads(
        json.dumps([*pods, *owners("batch/v1" if minor >= 21 else "batch/v1beta1")])
    )
    for item in items:
        spec = item["spec"]
        spec = spec.get("jobTemplate", {}).get("spec", spec)
        spec = spec.get("template", {}).get("spec", spec)
        spec["terminationGracePeriodSeconds"] = 0
        for entry in [*spec["containers"], *spec.get("initContainers", [])]:
            entry.update(image=image, command=["sleep", "3600"])
    namespace = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE}}
    return [namespace, *(claims() if minor >= 34 else []), *items]


if __name__ == "__main__":
    print(json.dumps({"apiVersion": "v1", "kind": "List", "items": manifests(int(sys.argv[1]), sys.argv[2])}))
