# SPDX-License-Identifier: GPL-3.0-or-later
"""Owners of AI pods by the examples of their projects (samples/owners), and what stands between them and their pods."""

from __future__ import annotations

import copy
from functools import reduce
from pathlib import Path
from typing import Any

import yaml
from ansible_collections.kubepin.tuning.plugins.module_utils.control.gpu_pods.owners import owner_kind, templates_of
from ansible_collections.kubepin.tuning.tests.unit.samples.gpu_pods import main, pod

EXAMPLES = Path(__file__).parent / "owners"
NAMES = sorted(path.stem for path in EXAMPLES.glob("*.yaml"))
FRACTIONAL = {"cpu": "1500m", "memory": "1Gi", "nvidia.com/gpu": 1}
GPU_POD = pod(main("1500m 1Gi"))
NAMESPACE = "default"


def example(name: str) -> Any:
    """The first object of a project's example."""
    return next(yaml.safe_load_all((EXAMPLES / f"{name}.yaml").read_text()))


def value_at(item: Any, keys: Any) -> Any:
    """The value that *keys* lead to."""
    return reduce(lambda value, key: value[key], keys, item)


def with_limits(item: Any, limits: Any = FRACTIONAL, containers: Any = None) -> Any:
    """The example with these limits for each container, or those of these names."""
    item = copy.deepcopy(item)
    item["metadata"].setdefault("name", "example")
    row = owner_kind(item)
    assert row
    for template in templates_of(item, row):
        for name, keys in template.resources.items():
            if containers is None or name in containers:
                value_at(item, keys[:-1])[keys[-1]] = {"limits": dict(limits)}
    return item


def child(kind: str, name: str, by: Any, api_version: str = "apps/v1", spec: Any = None) -> Any:
    """An object that *by* controls; one of Kubernetes' own kinds with the template of GPU_POD."""
    given = {"template": {"spec": GPU_POD}} if api_version in ("apps/v1", "batch/v1") else {}
    reference = {"apiVersion": by["apiVersion"], "kind": by["kind"], "name": by["metadata"]["name"], "controller": True}
    metadata = {"namespace": NAMESPACE, "name": name, "ownerReferences": [reference]}
    return {"apiVersion": api_version, "kind": kind, "metadata": metadata, "spec": spec or given}


def pods_of(owner: Any, *specs: Any) -> list[Any]:
    """A pod of each pod specification."""
    return [child("Pod", f"{owner['metadata']['name']}-{n}", owner, "v1", spec) for n, spec in enumerate(specs)]


def job(by: Any) -> Any:
    """A Job between an owner and its pods."""
    return child("Job", f"{by['metadata']['name']}-job", by, "batch/v1")


def chain(name: str, suffix: str = "") -> list[Any]:
    """An example, and everything between it and its pods; the last object controls the pods.

    The leader's pod that stands between a LeaderWorkerSet and the pods of its workers is not there.
    """
    top = with_limits(example(name))
    metadata = top["metadata"]
    metadata.update(namespace=NAMESPACE, name=metadata["name"] + suffix)
    first = metadata["name"]
    if name in ("rayjob", "rayservice"):
        spec = {"headGroupSpec": {"template": {"spec": GPU_POD}}}
        return [top, child("RayCluster", f"{first}-cluster", top, "ray.io/v1", spec)]
    if name == "trainjob":
        jobset = child("JobSet", first, top, "jobset.x-k8s.io/v1alpha2")
        return [top, jobset, job(jobset)]
    if name == "inferenceservice":
        service = child("Service", first, top, "serving.knative.dev/v1")
        configuration = child("Configuration", first, service, "serving.knative.dev/v1")
        revision = child("Revision", f"{first}-1", configuration, "serving.knative.dev/v1")
        deployment = child("Deployment", f"{first}-1", revision)
        return [top, service, configuration, revision, deployment, child("ReplicaSet", f"{first}-1-a", deployment)]
    if name in ("jobset", "mpijob"):
        return [top, job(top)]
    if name in ("notebook", "leaderworkerset"):
        return [top, child("StatefulSet", first, top)]
    return [top]
