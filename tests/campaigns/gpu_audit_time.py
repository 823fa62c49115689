# SPDX-License-Identifier: GPL-3.0-or-later
"""Measure the audit of 10,000 GPU pods of a file, bare ones and ones with owners: processor time and peak of memory.

The file with owners has equally many pods of a Deployment and of each example in samples/owners, with the objects between, and each
object has what an API server adds to it: a file of kubectl is of that size.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from itertools import pairwise
from multiprocessing import get_context
from pathlib import Path
from typing import Any

from ansible_collections.kubepin.tuning.plugins.module_utils.control.gpu_pods.audit import audit
from ansible_collections.kubepin.tuning.plugins.module_utils.control.gpu_pods.owners import owner_kind, templates_of
from ansible_collections.kubepin.tuning.plugins.module_utils.control.gpu_pods.report import gpu_pods_text
from ansible_collections.kubepin.tuning.plugins.module_utils.control.gpu_pods.source import FileSource
from ansible_collections.kubepin.tuning.tests.unit.samples import gpu_owners, gpu_pods

from tests.campaigns.base import ROOT, expect

COUNT, RUNS = 10_000, 5
PODS_OF_AN_OWNER = 8
PODS_OF_A_NODE = 8
_MIB = 1024 * 1024


def bare_pods() -> list[Any]:
    """Pods of every kind that breaks the rule, without owners."""
    pods = [item for item in gpu_pods.manifests(36, "image") if item["kind"] == "Pod"]
    return [
        {**pod, "metadata": {**pod["metadata"], "name": f"{pod['metadata']['name']}-{number}"}}
        for number, pod in zip(range(COUNT), pods * (COUNT // len(pods) + 1), strict=False)
    ]


def owned_pods() -> list[Any]:
    """Pods of owners of each kind, in turns, with the owners and all that is between; on nodes, and as a server prints them."""
    items: list[Any] = []
    kinds = ("deployment", *gpu_owners.NAMES)
    pods = number = 0
    while pods < COUNT:
        for item in _family(kinds[number % len(kinds)], f"-{number}", min(PODS_OF_AN_OWNER, COUNT - pods)):
            if item["kind"] == "Pod":
                item["spec"]["nodeName"] = f"node-{pods // PODS_OF_A_NODE}"
                pods += 1
            items.append(_as_printed(item, len(items)))
        number += 1
    return items


def _family(kind: str, suffix: str, count: int) -> Iterator[Any]:
    """An owner, what is between, and its pods."""
    if kind == "deployment":
        top = gpu_pods.owner("Deployment", f"serve{suffix}", {"template": {"metadata": {}, "spec": gpu_owners.GPU_POD}})
        replicas = gpu_owners.child("ReplicaSet", f"serve{suffix}-a", top, spec=top["spec"])
        top["metadata"]["namespace"] = gpu_owners.NAMESPACE
        objects = [top, replicas]
    else:
        objects = gpu_owners.chain(kind, suffix)
    yield from objects
    row = owner_kind(objects[0])
    assert row
    specs = [
        {field: template.spec[field] for field in ("initContainers", "containers") if field in template.spec}
        for template in templates_of(objects[0], row)
    ]
    if kind != "leaderworkerset":
        yield from gpu_owners.pods_of(objects[-1], *(specs[number % len(specs)] for number in range(count)))
        return
    (leader,) = gpu_owners.pods_of(objects[-1], specs[0])
    workers = gpu_owners.child("StatefulSet", leader["metadata"]["name"], leader, spec={"template": {"spec": specs[1]}})
    yield from (leader, workers, *gpu_owners.pods_of(workers, *[specs[1]] * (count - 1)))


def _as_printed(item: Any, number: int) -> Any:
    """The object with what the API server, the scheduler and the kubelet add."""
    uid = f"00000000-0000-4000-8000-{number:012d}"
    added = {"uid": uid, "resourceVersion": str(number), "creationTimestamp": "2026-11-28T09:00:00Z"}
    labels = {"app": "gpu", "pod-template-hash": "5d89bdfdc7", "controller-uid": uid}
    shown = {**item, "metadata": {**item["metadata"], **added, "labels": labels}}
    if item["kind"] != "Pod":
        return {**shown, "status": {"conditions": [_condition("Available"), _condition("Progressing")], "replicas": 8}}
    volume = f"kube-api-access-{number:05d}"
    token = {"serviceAccountToken": {"expirationSeconds": 3607, "path": "token"}}
    root = {"configMap": {"items": [{"key": "ca.crt", "path": "ca.crt"}], "name": "kube-root-ca.crt"}}
    tolerations = [
        {"effect": "NoExecute", "key": f"node.kubernetes.io/{key}", "operator": "Exists", "tolerationSeconds": 300}
        for key in ("not-ready", "unreachable")
    ]
    mount = {
        "mountPath": "/var/run/secrets/kubernetes.io/serviceaccount",
        "name": volume,
        "readOnly": True,
    }
    for field in ("initContainers", "containers"):
        if field in item["spec"]:
            item["spec"][field] = [
                {**container, "volumeMounts": [*(container.get("volumeMounts") or []), mount]}
                for container in item["spec"][field]
            ]
    return {
        **shown,
        "spec": {
            **item["spec"],
            "dnsPolicy": "ClusterFirst",
            "schedulerName": "default-scheduler",
            "serviceAccountName": "default",
            "tolerations": tolerations,
            "volumes": [{"name": volume, "projected": {"defaultMode": 420, "sources": [token, root]}}],
        },
        "status": {
            "phase": "Running",
            "conditions": [_condition(kind) for kind in ("PodScheduled", "Initialized", "ContainersReady", "Ready")],
            "containerStatuses": [
                {
                    "containerID": f"containerd://{number:064x}",
                    "image": container.get("image"),
                    "imageID": f"registry.example/image@sha256:{number:064x}",
                    "name": container["name"],
                    "ready": True,
                    "restartCount": 0,
                    "state": {"running": {"startedAt": "2026-11-28T09:00:05Z"}},
                }
                for container in item["spec"]["containers"]
            ],
            "podIP": "10.0.0.1",
            "podIPs": [{"ip": "10.0.0.1"}],
            "qosClass": "Burstable",
        },
    }


def _condition(kind: str) -> dict[str, Any]:
    return {
        "type": kind,
        "status": "True",
        "lastProbeTime": None,
        "lastTransitionTime": "2026-11-28T09:00:05Z",
    }


def write(path: Path, items: Sequence[Any]) -> None:
    """The objects as ``kubectl get -o json`` prints them."""
    with path.open("w") as file:
        json.dump({"apiVersion": "v1", "kind": "List", "items": items}, file, indent=4)


def measure(path: Path) -> None:
    """Audit the file a few times, and print the seconds of processor time that each part took."""
    for number in range(1, RUNS + 1):
        times = [time.process_time()]
        source = FileSource(str(path), None)
        times.append(time.process_time())
        result = audit(source, {}, ["nvidia.com/"], 1)
        times.append(time.process_time())
        lines = gpu_pods_text(result).count("\n") + 1
        times.append(time.process_time())
        read, audited, formatted = (after - before for before, after in pairwise(times))
        summary = result["summary"]
        expect(summary["pods"] == COUNT, f"{summary['pods']} GPU pods were found in {path}, of {COUNT}")
        print(
            f"  run {number}: read in {read:.2f} s, audited in {audited:.2f} s, {summary['owners']} owners with"
            f" {summary['patches']} patches, {lines} lines in {formatted:.2f} s; peak of memory so far {_peak(resource.RUSAGE_SELF)}",
            flush=True,
        )
        del source, result  # the next run would add to them


def measure_playbook(path: Path) -> None:
    """Run the playbook on the file, and print what it took."""
    with tempfile.TemporaryDirectory() as runs:
        variables = {
            "gpu_qos_pods_file": str(path),
            "kubepin_runs": runs,
            "ansible_python_interpreter": sys.executable,
        }
        started = time.perf_counter()
        done = subprocess.run(
            ["ansible-playbook", "-i", "localhost,", "audit-gpu-pods.yml", "-e", json.dumps(variables)],
            cwd=ROOT,
            check=False,
            capture_output=True,
            text=True,
        )
        seconds = time.perf_counter() - started
        usage = resource.getrusage(resource.RUSAGE_CHILDREN)
        expect(done.returncode == 0, f"audit-gpu-pods.yml failed: {(done.stdout + done.stderr)[-2000:]}")
        patches = sum(1 for _file in Path(runs).rglob("patches/*.yaml"))
        print(
            f"  audit-gpu-pods.yml: {seconds:.1f} s, of processor time {usage.ru_utime + usage.ru_stime:.1f} s, {patches} files of patches;"
            f" peak of memory of its largest process {_peak(resource.RUSAGE_CHILDREN)}",
            flush=True,
        )


def _peak(who: int) -> str:
    return f"{resource.getrusage(who).ru_maxrss / 1024:.0f} MiB"


def _in_own_process(function: Any, *arguments: Any) -> None:
    """Peaks of memory are those of a process, and of its children."""
    process = get_context("spawn").Process(target=function, args=arguments)
    process.start()
    process.join()
    expect(process.exitcode == 0, f"{function.__name__} failed: see above")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options."""
    parser.add_argument("--playbook", action="store_true", help="run audit-gpu-pods.yml on the files, too")


def run(options: argparse.Namespace) -> int:
    """Needs no sandbox."""
    with tempfile.TemporaryDirectory() as folder:
        for name, objects in (("owned", owned_pods), ("bare", bare_pods)):
            path = Path(folder) / f"{name}.json"
            items = objects()
            write(path, items)
            kinds = ", ".join(f"{count} {kind}" for kind, count in Counter(item["kind"] for item in items).items())
            print(f"{name}: {path.stat().st_size / _MIB:.1f} MiB, {kinds}", flush=True)
            del items
            _in_own_process(measure, path)
            if options.playbook:
                _in_own_process(measure_playbook, path)
    return 0
