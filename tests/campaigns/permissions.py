# SPDX-License-Identifier: GPL-3.0-or-later
"""Run the playbooks with docs/rbac.yaml's rights only, and compare them with what the API server saw.

For each purpose there is a user that kubeadm makes a kubeconfig for, and one without rights. The API server's audit log then shows what
each of them asked for: a right that was never used is one too many. Each playbook must refuse the user without rights before it changes
anything, and the check of the rights must name each right that a user lacks who has all others. Writes OUTPUT/VERSION.md.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import tempfile
import time
from collections import defaultdict
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from ansible_collections.kubepin.tuning.plugins.module_utils.control.cluster.api import KubernetesApi
from ansible_collections.kubepin.tuning.plugins.module_utils.control.cluster.permissions import (
    NAMESPACES,
    OPTIONAL,
    PURPOSES,
    Right,
    rights,
)
from ansible_collections.kubepin.tuning.plugins.modules.api_rights_info import missing_rights as asked_rights

from sandbox.settings import Paths
from sandbox.state import State
from tests.campaigns.base import (
    JSON_LINES,
    ROOT,
    AnsibleRun,
    CheckFailed,
    add_output_argument,
    add_sandbox_arguments,
    expect,
    run_sandbox,
    sandbox_for,
)

POLICY = {
    "apiVersion": "audit.k8s.io/v1",
    "kind": "Policy",
    "omitStages": ["RequestReceived"],
    "rules": [{"level": "Metadata", "userGroups": [f"kubepin:{purpose}" for purpose in PURPOSES]}, {"level": "None"}],
}
MANIFEST = "/etc/kubernetes/manifests/kube-apiserver.yaml"
BENCHMARK = {
    "gpu_benchmark_rounds": 1,
    "gpu_benchmark_cells": ["resnet18:float:inference:4"],
    "gpu_benchmark_threads": ["auto"],
}
UNPINNED = {
    "apiVersion": "apps/v1",
    "kind": "Deployment",
    "metadata": {"name": "unpinned", "namespace": "default"},
    "spec": {
        "replicas": 1,
        "selector": {"matchLabels": {"app": "unpinned"}},
        "template": {
            "metadata": {"labels": {"app": "unpinned"}},
            "spec": {
                "containers": [
                    {
                        "name": "main",
                        "image": "busybox",
                        "resources": {"limits": {"nvidia.com/gpu": "1", "cpu": "500m", "memory": "64Mi"}},
                    }
                ]
            },
        },
    },
}
"""What the purpose `patch` has to patch."""
ENFORCES_FROM = 30
ASSESS = "kubepin assess"
TAINT = ("-e", '{"cpu_manager_taint_untuned": true}')
# Purpose, playbook and arguments, in this order: the rollback finds what the tuning did.
RUNS = (
    ("audit", "audit-gpu-pods.yml", ()),
    ("audit", ASSESS, ()),
    ("preview", "tune-gpu-nodes.yml", ("--check",)),
    ("tune", "tune-gpu-nodes.yml", ("-e", '{"cpu_manager_boot_guard": true, "cpu_manager_taint_untuned": true}')),
    ("benchmark", "benchmark-gpu-nodes.yml", ("-e", json.dumps(BENCHMARK))),
    ("check", "check-gpu-nodes.yml", ()),
    ("taint", "check-gpu-nodes.yml", TAINT),
    ("tune", "rollback-gpu-nodes.yml", ()),
    ("patch", "audit-gpu-pods.yml", ("-e", '{"gpu_qos_apply": true}')),
    ("enforce", "enforce-gpu-pods.yml", ()),
    ("threads", "enforce-gpu-pods.yml", ("-e", '{"gpu_pod_policy_threads": true}')),
    ("enforce", "enforce-gpu-pods.yml", ("-e", '{"gpu_pod_policy_state": "absent"}')),
    ("uninstall", "uninstall-gpu-nodes.yml", ()),
    ("upgrade", "upgrade-cluster.yml", ("--check",)),
)
NEEDS = {"patch": ("audit", "patch"), "threads": ("enforce", "threads"), "taint": ("check", "taint")}
"""Purposes that another one is asked for with."""


class Cluster:
    """The sandbox, as its administrator sees it."""

    def __init__(self, name: str) -> None:
        self._control_plane = f"{name}-control-plane"
        self._admin = str(Paths.from_environment().sandbox(name).kubeconfig)

    def kubectl(self, *arguments: str, text: str = "") -> str:
        """What kubectl prints with all rights."""
        return _output("kubectl", "--kubeconfig", self._admin, *arguments, text=text)

    def on_control_plane(self, script: str, text: str = "") -> str:
        """What a shell prints on the control plane's node."""
        return _output("docker", "exec", "-i", self._control_plane, "sh", "-euc", script, text=text)

    def watch_requests(self) -> None:
        """Have the API server write what kubepin's groups ask for into its log."""
        folder = "/etc/kubernetes/pki"  # the API server's pod has it mounted
        self.on_control_plane(f"cat >{folder}/kubepin-audit.yaml", json.dumps(POLICY))
        if "audit-log-path" not in self.on_control_plane(f"cat {MANIFEST}"):
            flags = rf"    - --audit-log-path=-\n    - --audit-policy-file={folder}/kubepin-audit.yaml"
            self.on_control_plane(f"sed -i 's|^    - kube-apiserver$|&\\n{flags}|' {MANIFEST}")
        deadline = time.monotonic() + 180
        while time.monotonic() < deadline:
            time.sleep(2)
            shown = subprocess.run(
                [
                    "kubectl",
                    "--kubeconfig",
                    self._admin,
                    "-n",
                    "kube-system",
                    "get",
                    "pods",
                    "-l",
                    "component=kube-apiserver",
                    "-o",
                    "json",
                ],
                capture_output=True,
                text=True,
                check=False,
            )
            if shown.returncode:
                continue
            pods = json.loads(shown.stdout)["items"]
            if any(
                "--audit-log-path=-" in pod["spec"]["containers"][0]["command"]
                and pod["status"].get("containerStatuses", [{}])[0].get("ready")
                for pod in pods
            ):
                return
        raise CheckFailed("the API server did not come back with its audit log within 180 s")

    def kubeconfig(self, folder: Path, user: str, *groups: str) -> Path:
        """A new kubeconfig for *user* in *groups*, as kubeadm makes one."""
        script = (
            "kubectl --kubeconfig /etc/kubernetes/admin.conf -n kube-system get cm kubeadm-config -o jsonpath={.data.ClusterConfiguration} "
            f">/tmp/kubeadm.yaml; kubeadm kubeconfig user --config /tmp/kubeadm.yaml --client-name {user} --org {','.join(groups)}"
        )
        path = folder / f"{user}.conf"
        path.write_text(self.on_control_plane(script))
        path.chmod(0o600)
        return path

    def grant(self, granted: Sequence[Right]) -> None:
        """Give the group of WITHOUT these rights and no others."""
        self.kubectl("apply", "-f", "-", text=json.dumps({"apiVersion": "v1", "kind": "List", "items": roles(granted)}))

    def taint(self) -> None:
        """Set kubepin's taint on all workers, which a check then removes from those that are as planned."""
        selector = "!node-role.kubernetes.io/control-plane"
        self.kubectl("taint", "--overwrite", "nodes", "-l", selector, "kubepin.io/untuned=true:NoSchedule")

    def make_unpinned(self) -> None:
        """A Deployment with a GPU pod that no policy would pin."""
        self.kubectl("apply", "-f", "-", text=json.dumps(UNPINNED))
        while not self.kubectl("get", "pods", "-l", "app=unpinned", "-o", "name"):
            time.sleep(1)

    def requests(self) -> list[dict[str, Any]]:
        """The audit log."""
        log = self.kubectl("-n", "kube-system", "logs", f"kube-apiserver-{self._control_plane}")
        return [
            json.loads(line)
            for line in log.splitlines()
            if line.startswith('{"kind":"Event","apiVersion":"audit.k8s.io')
        ]


def asked(events: list[dict[str, Any]]) -> tuple[dict[str, set[Right]], dict[str, set[Right]]]:
    """Purpose to what its user asked for: all of it, and what was forbidden. Discovery and reviews are left out."""
    everything: dict[str, set[Right]] = defaultdict(set)
    forbidden: dict[str, set[Right]] = defaultdict(set)
    for event in events:
        purpose = event["user"]["username"].removeprefix("kubepin-")
        target = event.get("objectRef") or {}
        resource = "/".join(filter(None, (target.get("resource"), target.get("subresource"))))
        if not resource:
            resource = event["requestURI"].partition("?")[0]
            if resource != "/metrics":
                continue
        if resource.startswith("selfsubject"):
            continue
        right = Right(event["verb"], target.get("apiGroup", ""), resource, target.get("namespace", ""))
        everything[purpose].add(right)
        if event["responseStatus"]["code"] == 403:
            forbidden[purpose].add(right)
    return everything, forbidden


def covers(granted: Right, used: Right) -> bool:
    """Whether the right that was granted is the one that was used; without a namespace it holds in all."""
    return granted[:3] == used[:3] and granted.namespace in ("", used.namespace)


WITHOUT = "kubepin-without"
"""User and group that have all rights of a purpose but one."""
_RBAC = "rbac.authorization.k8s.io"
_SEEN_SECONDS = 15
"""How long a change of roles may take until the API server's answers follow it."""


def lacked(granted: Sequence[Right], dropped: Right) -> list[Right]:
    """What a user lacks who has all rights but one: nothing if another one of them covers it."""
    kept = [right for right in granted if right != dropped]
    return [right for right in granted if not any(covers(each, right) for each in kept)]


def roles(granted: Sequence[Right]) -> list[dict[str, Any]]:
    """Roles with these rights, and their bindings to the group of WITHOUT; empty ones take away what earlier ones gave."""
    found = []
    for namespace in ("", *NAMESPACES.values()):
        kind = "Role" if namespace else "ClusterRole"
        metadata = {"name": WITHOUT, **({"namespace": namespace} if namespace else {})}
        rules = [_rule(right) for right in granted if right.namespace == namespace]
        subject = {"kind": "Group", "name": WITHOUT, "apiGroup": _RBAC}
        role = {"kind": kind, "name": WITHOUT, "apiGroup": _RBAC}
        found += [
            {"apiVersion": f"{_RBAC}/v1", "kind": kind, "metadata": metadata, "rules": rules},
            {
                "apiVersion": f"{_RBAC}/v1",
                "kind": f"{kind}Binding",
                "metadata": metadata,
                "subjects": [subject],
                "roleRef": role,
            },
        ]
    return found


def _rule(right: Right) -> dict[str, Any]:
    if right.resource.startswith("/"):
        return {"nonResourceURLs": [right.resource], "verbs": [right.verb]}
    return {"apiGroups": [right.group], "resources": [right.resource], "verbs": [right.verb]}


def overlooked(cluster: Cluster, kubeconfig: Path, purposes: Iterable[str]) -> tuple[int, list[str]]:
    """How many rights were taken away one by one, and for which the check of the rights did not name just that one.

    A right that another one covers cannot be missed.
    """
    api, tried, wrong = KubernetesApi(str(kubeconfig), None), 0, []
    for purpose in purposes:
        together = list(NEEDS.get(purpose, (purpose,)))
        granted = rights(together, NAMESPACES)
        for dropped in granted:
            expected = lacked(granted, dropped)
            if not expected:
                continue
            tried += 1
            cluster.grant([right for right in granted if right != dropped])
            deadline = time.monotonic() + _SEEN_SECONDS
            while (found := asked_rights(api, together, NAMESPACES["probe"], NAMESPACES["benchmark"])) != expected:
                if time.monotonic() > deadline:
                    wrong.append(f"{purpose} without {dropped}: {', '.join(map(str, found)) or 'nothing'} named")
                    break
                time.sleep(0.1)
    return tried, wrong


def assess(kubeconfig: Path) -> AnsibleRun:
    """Look at the cluster as the user of a kubeconfig."""
    command = ["bin/kubepin", "assess", "--kubeconfig", str(kubeconfig)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    return AnsibleRun.ended(done.returncode, done.stdout + done.stderr)


def play(playbook: str, kubeconfig: Path, folder: Path, *arguments: str) -> AnsibleRun:
    """Run a playbook as the user of a kubeconfig."""
    variables = {
        "kubepin_kubeconfig": str(kubeconfig),
        "cpu_manager_probe_namespace": NAMESPACES["probe"],
        "kubepin_runs": str(folder),
    }
    command = ["ansible-playbook", "-i", "inventory/sandbox", playbook, "-e", json.dumps(variables), *arguments]
    environment = {**os.environ, **JSON_LINES}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    return AnsibleRun.ended(done.returncode, done.stdout + done.stderr)


def refuses(run: AnsibleRun) -> bool:
    """Whether a run ended for missing rights, by their code, before it changed anything."""
    return run.code not in (0, None) and not run.changed and "rights_missing" in run.problems()


def missing_rights(run: AnsibleRun) -> list[str]:
    """The rights that a run was refused for."""
    checks = [result.values for result in run.results if result.values["action"] == "kubepin.tuning.api_rights_info"]
    return [text for values in checks for text in values.get("missing_text") or ()]


def _output(*command: str, text: str = "") -> str:
    done = subprocess.run(command, input=text, capture_output=True, text=True, check=False)
    expect(done.returncode == 0, f"{' '.join(command[:3])} ... failed: {done.stderr or done.stdout}")
    return done.stdout


def table(everything: dict[str, set[Right]], forbidden: dict[str, set[Right]], ran: dict[str, list[str]]) -> list[str]:
    """A line for each purpose that ran."""
    lines = [
        "| purpose | ran | permissions | of them used | not used | optional permissions used | asked for and forbidden |",
        "|---|---|---|---|---|---|---|",
    ]
    for purpose, outcomes in ran.items():
        granted = rights(NEEDS.get(purpose, (purpose,)), NAMESPACES)
        idle = [right for right in granted if not any(covers(right, used) for used in everything[purpose])]
        optional = [
            right for right in optional_rights(purpose) if any(covers(right, used) for used in everything[purpose])
        ]
        cells = [_listed(idle), _listed(optional), _listed(sorted(forbidden[purpose]))]
        lines.append(
            f"| {purpose} | {', '.join(outcomes)} | {len(granted)} | {len(granted) - len(idle)} | {' | '.join(cells)} |"
        )
    return lines


def optional_rights(purpose: str) -> list[Right]:
    """The rights of a purpose that no run asks for beforehand, because it does without them."""
    return [
        Right(verb, rule.group, resource, "")
        for each in NEEDS.get(purpose, (purpose,))
        for rule in PURPOSES[each]
        if rule.need == OPTIONAL
        for resource in rule.resources
        for verb in rule.verbs
    ]


def _listed(found: Sequence[Right]) -> str:
    return ", ".join(map(str, found)) or "none"


EVERY = list(dict.fromkeys(purpose for purpose, _playbook, _arguments in RUNS))


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options."""
    add_sandbox_arguments(parser, "permissions", version="1.36.3", workers=1)
    add_output_argument(parser, "permissions")
    parser.add_argument("purposes", nargs="*", metavar="PURPOSE", help=f"some of {', '.join(EVERY)}; default: all")


def run(options: argparse.Namespace) -> int:
    """The exit status is 1 if a run failed that has its rights, or one went on that has none."""
    if unknown := set(options.purposes) - set(EVERY):
        raise CheckFailed(f"unknown purpose {', '.join(sorted(unknown))}: expected some of {', '.join(EVERY)}")
    with sandbox_for(options) as name:
        return run_on(name, options.purposes, options.output)


def run_on(name: str, purposes: Sequence[str], output: Path) -> int:
    """The same on a sandbox."""
    state = State.load(Paths.from_environment().sandbox(name))
    if not state:
        raise CheckFailed(f"there is no sandbox {name}")
    unknown_there = () if state.version.minor >= ENFORCES_FROM else ("enforce", "threads")
    chosen = [purpose for purpose in purposes or EVERY if purpose not in unknown_there]
    if "benchmark" in chosen:
        run_sandbox("torch", "--name", name)
    cluster = Cluster(name)
    cluster.watch_requests()
    cluster.kubectl("apply", "-f", str(ROOT / "docs/rbac.yaml"))
    failed = False
    ran: dict[str, list[str]] = defaultdict(list)
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        nobody = cluster.kubeconfig(folder, "kubepin-none", "none")
        missing = missing_rights(play("tune-gpu-nodes.yml", nobody, folder))
        failed |= not missing
        for purpose, playbook, arguments in RUNS:
            if purpose not in chosen:
                continue
            if purpose == "patch":
                cluster.make_unpinned()
            if purpose == "taint":
                cluster.taint()
            groups = [f"kubepin:{each}" for each in NEEDS.get(purpose, (purpose,))]
            kubeconfig = cluster.kubeconfig(folder, f"kubepin-{purpose}", *groups)
            if playbook == ASSESS:
                done = assess(kubeconfig)
            else:
                if not refuses(play(playbook, nobody, folder, *arguments)):
                    failed = True
                    print(f"{playbook} of a user without permissions did not end with rights_missing", flush=True)
                done = play(playbook, kubeconfig, folder, *arguments)
            outcome = "passed" if done.code == 0 else "FAILED"
            check = " --check" if "--check" in arguments else ""
            print(f"{playbook}{check} as kubepin-{purpose}: {outcome}", flush=True)
            ran[purpose].append(f"`{playbook}{check}` {outcome}")
            if done.code:
                failed = True
                print(done.error)
        lines = table(*asked(cluster.requests()), ran)
        tried, wrong = overlooked(cluster, cluster.kubeconfig(folder, WITHOUT, WITHOUT), chosen)
    failed |= bool(wrong)
    lines += ["", f"Permissions removed one by one: {tried}. Not named: {'; '.join(wrong) or 'none'}."]
    text = "\n".join([*lines, "", "tune-gpu-nodes.yml of a user without permissions:", "", "```", *missing, "```", ""])
    output.mkdir(parents=True, exist_ok=True)
    (output / f"{state.kubernetes}.md").write_text(text)
    print(text)
    return int(failed)
