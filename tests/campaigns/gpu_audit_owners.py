# SPDX-License-Identifier: GPL-3.0-or-later
"""Audit the examples of AI projects under their real CRDs, and have the API server take each patch and its undo.

CRDS is a folder with the CRDs of the projects (docs/evidence/audit.md names the files). Their operators do not run: what they would
create between an object and its pods is created here, with the owner references that they set. Pods of Kubernetes' own kinds are
created by their controllers. No scheduler serves the pods. Writes OUTPUT/owners.md.
"""

from __future__ import annotations

import argparse
import copy
import json
import os
import re
import subprocess
import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import yaml
from ansible_collections.kubepin.tuning.plugins.module_utils.control.gpu_pods.owners import (
    OwnerKind,
    owner_kind,
    templates_of,
)
from ansible_collections.kubepin.tuning.tests.unit.samples import gpu_owners

from sandbox.settings import Paths
from tests.campaigns.base import (
    ROOT,
    add_output_argument,
    add_sandbox_arguments,
    expect,
    markdown_table,
    playbook,
    sandbox_for,
)

NAMESPACE, PUBLISHED = "gpu-owners", "gpu-owners-published"
APP = {"app": "gpu-owners"}
SECONDS = 120


class Outcome(NamedTuple):
    """What became of one patch; texts are empty if all went well."""

    dry_run: str
    """As a change in place, which the API may refuse of an object that has to be created again."""
    applied: str
    undone: str


class Cluster:
    """The sandbox, as its administrator sees it."""

    def __init__(self, name: str) -> None:
        self._kubeconfig = str(Paths.from_environment().sandbox(name).kubeconfig)

    def shell(self, command: str, folder: Path = ROOT, text: str = "") -> subprocess.CompletedProcess[str]:
        """Run a shell's command that uses kubectl."""
        environment = {**os.environ, "KUBECONFIG": self._kubeconfig}
        return subprocess.run(
            ["bash", "-o", "pipefail", "-c", command],
            cwd=folder,
            env=environment,
            input=text,
            capture_output=True,
            text=True,
            check=False,
        )

    def output(self, command: str, text: str = "") -> str:
        """What the command prints.

        Raises CheckFailed if it fails.
        """
        done = self.shell(command, text=text)
        expect(done.returncode == 0, f"`{command}` failed: {done.stderr or done.stdout}")
        return done.stdout

    def create(self, item: Any) -> Any:
        """The object as the API server keeps it."""
        return json.loads(self.output("kubectl create -f - -o json", json.dumps(item)))

    def get(self, resource: str, name: str) -> Any:
        """An object of the audited namespace."""
        return json.loads(self.output(f"kubectl -n {NAMESPACE} get {resource} {name} -o json"))

    def wait_for(self, resource: str, name: str) -> Any:
        """An object that a controller creates."""
        deadline = time.monotonic() + SECONDS
        while time.monotonic() < deadline:
            done = self.shell(f"kubectl -n {NAMESPACE} get {resource} {name} -o json")
            if done.returncode == 0:
                return json.loads(done.stdout)
            time.sleep(1)
        expect(False, f"{resource} {name} was not created within {SECONDS} s")
        return None

    def install(self, crds: Iterable[Path]) -> None:
        """Create the CRDs that are not there, and wait until they are served."""
        names = []
        for path in crds:
            names += [f"crd/{item['metadata']['name']}" for item in yaml.load_all(path.read_text(), yaml.CSafeLoader)]
            done = self.shell(f"kubectl create -f {path}")
            expect(done.returncode == 0 or "AlreadyExists" in done.stderr, f"{path} is refused: {done.stderr}")
            print(f"{path.name}: {names[-1]}", flush=True)
        self.output(f"kubectl wait --for condition=Established --timeout {SECONDS}s {' '.join(names)}")

    def serves(self, row: OwnerKind) -> bool:
        """Whether the API has the kind."""
        return self.shell(f"kubectl get {row.resource} -A").returncode == 0


def examples(folders: Iterable[Path]) -> list[tuple[Any, OwnerKind]]:
    """The first object of each file that can own pods."""
    found = []
    for folder in folders:
        for path in sorted(folder.glob("*.yaml")):
            items = [item for item in yaml.safe_load_all(path.read_text()) if item and owner_kind(item)]
            row = owner_kind(items[0])
            assert row
            items[0]["metadata"].setdefault("name", path.stem)
            items[0]["metadata"].pop("generateName", None)
            found.append((items[0], row))
    return found


def in_namespace(item: Any, namespace: str) -> Any:
    """A copy of the object there."""
    item = copy.deepcopy(item)
    item["metadata"]["namespace"] = namespace
    return item


def make_pods(cluster: Cluster, top: Any, row: OwnerKind) -> None:
    """What the project's operator makes of an object: a pod of each template, and the objects between."""
    name = top["metadata"]["name"]
    specs = [_sleeping(template.spec) for template in templates_of(top, row)]
    if row.kind == "LeaderWorkerSet":
        cluster.create(_workload("StatefulSet", name, top, specs[0]))
        leader = {**cluster.wait_for("pod", f"{name}-0"), "apiVersion": "v1", "kind": "Pod"}
        cluster.create(_workload("StatefulSet", f"{name}-0", leader, specs[1]))
        cluster.wait_for("pod", f"{name}-0-0")
    elif row.kind == "Notebook":
        cluster.create(_workload("StatefulSet", name, top, specs[0]))
        cluster.wait_for("pod", f"{name}-0")
    elif row.kind == "InferenceService":  # in its Standard mode, without Knative
        cluster.create(_workload("Deployment", f"{name}-predictor", top, specs[0]))
        _wait_for_job_or_set(cluster, f"{name}-predictor")
    elif row.kind in ("MPIJob", "JobSet"):
        cluster.create(_job(f"{name}-0", top, specs[0]))
        _wait_for_job_or_set(cluster, f"{name}-0")
        if row.kind == "MPIJob":
            cluster.create(_pod(f"{name}-worker-0", top, specs[-1]))
    elif row.kind == "TrainJob":
        job = {"template": {"metadata": {"labels": APP}, "spec": specs[0]}}
        jobs = [{"name": "node", "template": {"spec": job}}]
        jobset = cluster.create(_child("JobSet", name, top, "jobset.x-k8s.io/v1alpha2", {"replicatedJobs": jobs}))
        cluster.create(_job(f"{name}-node-0", jobset, specs[0]))
        _wait_for_job_or_set(cluster, f"{name}-node-0")
    elif row.kind in ("RayJob", "RayService"):
        spec = top["spec"].get("rayClusterSpec") or top["spec"]["rayClusterConfig"]
        between = cluster.create(_child("RayCluster", f"{name}-cluster", top, "ray.io/v1", spec))
        for number, each in enumerate(specs):
            cluster.create(_pod(f"{name}-cluster-{number}", between, each))
    elif "Cron" not in row.kind:  # these have pods when their time comes
        for number, each in enumerate(specs):
            cluster.create(_pod(f"{name}-{number}", top, each))


def _wait_for_job_or_set(cluster: Cluster, name: str) -> None:
    """Until the controllers have made a pod whose name begins with *name*."""
    deadline = time.monotonic() + SECONDS
    while time.monotonic() < deadline:
        if f"pod/{name}-" in cluster.output(f"kubectl -n {NAMESPACE} get pods -o name"):
            return
        time.sleep(1)
    expect(False, f"no pod of {name} was created within {SECONDS} s")


def _child(kind: str, name: str, by: Any, api_version: str, spec: Any) -> Any:
    item = gpu_owners.child(kind, name, by, api_version, spec)
    item["metadata"].update(namespace=NAMESPACE, labels=APP)
    item["metadata"]["ownerReferences"][0]["uid"] = by["metadata"]["uid"]
    return item


def _pod(name: str, by: Any, spec: Any) -> Any:
    return _child("Pod", name, by, "v1", spec)


def _job(name: str, by: Any, spec: Any) -> Any:
    return _child("Job", name, by, "batch/v1", {"template": {"metadata": {"labels": APP}, "spec": spec}})


def _workload(kind: str, name: str, by: Any, spec: Any) -> Any:
    labels = {**APP, "workload": name}
    template = {"metadata": {"labels": labels}, "spec": {**spec, "restartPolicy": "Always"}}
    service = {"serviceName": name} if kind == "StatefulSet" else {}
    body = {"selector": {"matchLabels": labels}, "template": template, **service}
    return _child(kind, name, by, "apps/v1", body)


def _sleeping(spec: Mapping[str, Any]) -> Any:
    """Containers with the names and resources of the template, in pods that no scheduler takes."""
    lists = {
        field: [
            {"name": container["name"], "image": "none", "resources": container["resources"] or {}}
            for container in spec[field]
        ]
        for field in ("initContainers", "containers")
        if field in spec
    }
    return {**lists, "restartPolicy": "Never", "schedulerName": "nobody"}


def audited(name: str, output: Path) -> Any:
    """What the playbook writes: the audit, with the patches beside it."""
    playbook(
        "-i", "inventory/sandbox", "audit-gpu-pods.yml", "-e", f"kubepin_runs={output}", "-e", f"kubepin_run={name}"
    )
    return json.loads((output / name / "gpu-pods/audit.json").read_text())


def take_patch(cluster: Cluster, owner: Mapping[str, Any], folder: Path) -> Outcome:
    """Try the patch of an owner on the API server, apply it by the command that its file begins with, and undo it."""
    resource, name = owner["resource"], owner["name"]
    file = folder / f"{NAMESPACE}-{owner['kind'].lower()}-{name}.yaml"
    before = cluster.get(resource, name)["spec"]
    command = (
        f"kubectl -n {NAMESPACE} patch {resource} {name} --type json --patch-file {file.name} --dry-run=server -o json"
    )
    tried = cluster.shell(command, folder)
    applied = cluster.shell(_command(file), folder)
    after = cluster.get(resource, name)["spec"]
    changed = "" if applied.returncode or after != before else "nothing was changed"
    undo = file.with_suffix(".undo.yaml")
    undone = cluster.shell(_command(undo), folder)
    left = "" if undone.returncode or cluster.get(resource, name)["spec"] == before else "the object is not as before"
    return Outcome(_error(tried), _error(applied) or changed, _error(undone) or left)


def _command(file: Path) -> str:
    return file.read_text().splitlines()[0].removeprefix("# ")


def _error(done: subprocess.CompletedProcess[str]) -> str:
    return re.sub(r"\s+", " ", done.stderr or "failed")[:300] if done.returncode else ""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options."""
    add_sandbox_arguments(parser, "audit-owners", version="1.36.3", workers=1)
    add_output_argument(parser, "gpu-audit-owners")
    parser.add_argument("--crds", type=Path, required=True, metavar="FOLDER", help="the CRDs of the projects, as YAML")
    parser.add_argument("--examples", type=Path, metavar="FOLDER", help="objects besides those in samples/owners")


def run(options: argparse.Namespace) -> int:
    """The exit status is 1 if an owner is not found, or the API server does not take a patch as the audit says."""
    crds = sorted(options.crds.glob("*.yaml"))
    expect(bool(crds), f"there is no .yaml in {options.crds}: put the projects' CRDs there (docs/evidence/audit.md)")
    with sandbox_for(options) as name:
        return run_on(Cluster(name), crds, [gpu_owners.EXAMPLES, *filter(None, [options.examples])], options.output)


def run_on(cluster: Cluster, crds: Iterable[Path], folders: Iterable[Path], output: Path) -> int:
    """The same on a sandbox."""
    cluster.install(crds)
    known = [(item, row) for item, row in examples(folders) if cluster.serves(row)]
    for namespace in (NAMESPACE, PUBLISHED):
        cluster.output(f"kubectl create namespace {namespace}")
    for item, row in known:
        print(f"{row.shown} {item['metadata']['name']}", flush=True)
        cluster.create(in_namespace(item, PUBLISHED))
        limited = in_namespace(gpu_owners.with_limits(item), NAMESPACE)
        make_pods(cluster, cluster.create(limited), row)
    result = audited("before", output)
    owners = {(owner["namespace"], owner["kind"], owner["name"]): owner for owner in result["owners"]}
    folder = output / "before/gpu-pods/patches"
    rows, wrong = [], 0
    for item, row in known:
        owner = owners[NAMESPACE, row.shown, item["metadata"]["name"]]
        outcome = take_patch(cluster, owner, folder)
        expected = sum(pod["owner"] == f"{row.shown}/{owner['name']}" for pod in result["pods"])
        refused = outcome.dry_run and owner["change"] == "in_place"
        wrong += (
            bool(refused or outcome.applied or outcome.undone)
            or owner["pods"] != expected
            or not (expected or "Cron" in row.kind)
        )
        published = owners.get((PUBLISHED, row.shown, item["metadata"]["name"]))
        rows.append(
            [
                f"{row.shown} ({owner['api_version']})",
                owner["pods"],
                len({container["template"] for container in owner["containers"]}),
                *(text or "yes" for text in outcome),
                _as_published(published),
            ]
        )
    headings = ["kind", "pods", "templates", "accepted by the dry run", "applied", "undone", "the example as published"]
    text = markdown_table(headings, rows)
    output.mkdir(parents=True, exist_ok=True)
    (output / "owners.md").write_text(text)
    print(text)
    return int(bool(wrong))


def _as_published(owner: Mapping[str, Any] | None) -> str:
    if owner is None:
        return "requests no GPU"
    codes = sorted({problem["code"] for problem in owner["problems"]})
    return ", ".join([*(["a patch"] if owner["patch"] else []), *codes]) or "nothing to change"
