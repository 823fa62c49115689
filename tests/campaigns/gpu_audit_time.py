# SPDX-License-Identifier: GPL-3.0-or-later
"""Measure how long the audit takes for 10,000 GPU pods of a file: five runs, and the peak of memory."""

from __future__ import annotations

import argparse
import json
import resource
import tempfile
import time

from ansible_collections.kubepin.tuning.plugins.module_utils.control.gpu_pods.audit import audit
from ansible_collections.kubepin.tuning.plugins.module_utils.control.gpu_pods.report import gpu_pods_text
from ansible_collections.kubepin.tuning.plugins.module_utils.control.gpu_pods.source import FileSource
from ansible_collections.kubepin.tuning.tests.unit.samples import gpu_pods

COUNT, RUNS = 10_000, 5


def add_arguments(_parser: argparse.ArgumentParser) -> None:
    """No options."""


def run(_options: argparse.Namespace) -> int:
    """Needs no sandbox."""
    pods = [item for item in gpu_pods.manifests(36, "image") if item["kind"] == "Pod"]
    items = [
        {**pod, "metadata": {**pod["metadata"], "name": f"{pod['metadata']['name']}-{number}"}}
        for number, pod in zip(range(COUNT), pods * (COUNT // len(pods) + 1), strict=False)
    ]
    with tempfile.NamedTemporaryFile("w", suffix=".json") as file:
        json.dump({"apiVersion": "v1", "kind": "List", "items": items}, file)
        file.flush()
        for number in range(1, RUNS + 1):
            started = time.perf_counter()
            source = FileSource(file.name, None)
            read = time.perf_counter()
            result = audit(source, {}, ["nvidia.com/"], 1)
            audited = time.perf_counter()
            lines = gpu_pods_text(result).count("\n") + 1
            ended = time.perf_counter()
            print(
                f"run {number}: {result['summary']['pods']} pods read in {read - started:.2f} s, audited in {audited - read:.2f} s,"
                f" worded in {lines} lines in {ended - audited:.2f} s"
            )
    print(f"peak of memory: {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024:.0f} MiB")
    return 0
