# SPDX-License-Identifier: GPL-3.0-or-later
"""Rows of campaign `faults` in which not kubepin is interrupted, but what surrounds it fails or interferes.

These are: a node without processes, a full disk together with settings that do not run, an API server that is away or
overloaded, configuration management that puts a file back, and others who work on the node.
"""

from __future__ import annotations

import errno
import json
import os
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from ansible_collections.kubepin.tuning.tests.unit.samples import api_server

from sandbox.settings import TEST_IMAGE
from sandbox.shell import wait_for
from tests.campaigns import fault_hook
from tests.campaigns.api_proxy import AWAY, THROTTLED, UNAVAILABLE, ApiProxy, Upstream
from tests.campaigns.base import expect, find_problem, find_text, problems_in
from tests.campaigns.fault_checks import (
    Act,
    Fault,
    FaultResult,
    check_cordon,
    check_module_again,
    check_playbook_again,
    check_up,
)
from tests.campaigns.worker import ENVIRONMENT, MARK, RUN_SECONDS, SMALL_FOLDERS, Worker

AT_ONCE = "echo 'E0101 failed to run Kubelet: broken for the campaign' >&2; exit 1"
"""What a kubelet does that does not run with its settings."""

SHORT_SECONDS = 15
"""Longer than a command is tried again."""
FOR_EVER_SECONDS = 3600
START = "systemctl start kubelet"

OUTAGE_SECONDS = 40
POD_SECONDS = 60

# Text that changes no setting, so that whoever owns the file may put it back while the kubelet runs.
OWNED = "# owned by configuration management\nKUBELET_EXTRA_ARGS=\n"
OWNED_ANEW = "# owned by configuration management, of today\nKUBELET_EXTRA_ARGS=\n"


# No process left


def short_of_processes(position: int, sound: bool, seconds: float = SHORT_SECONDS) -> Act:
    """Commands of the transaction cannot be started, from one of them on.

    The kubelet is up without help, with settings that do not run, too. What could not be verified is undone by the role.
    """

    def act(worker: Worker, row: FaultResult) -> None:
        if not sound:
            worker.wrap(AT_ONCE)
        worker.arm(position, "refuse", seconds=seconds)
        result = worker.switch()
        expect(not worker.there(fault_hook.PLAN), "the command was not reached")
        failed = bool(result.get("failed"))
        expect(sound or failed, "the switch to settings that do not run has succeeded")
        check_up(worker, row)
        if worker.unfinished():
            undone = worker.module(state="recovered")
            expect(not undone.get("failed"), f"the switch cannot be undone: {undone.get('msg')}")
            expect(worker.up(), "the kubelet is not up after the undo")
        expect(worker.policy() == ("none" if failed else "static"), f"failed: {failed}, policy {worker.policy()}")
        row.message = first_cause(result) if failed else "none, switched"
        worker.unwrap()
        check_cordon(worker, row)
        check_module_again(worker, row)

    return act


def first_cause(result: Mapping[str, Any]) -> str:
    """Why a switch failed that was short of processes: the kernel's reason, or the kubelet's own line."""
    kernel, kubelet = os.strerror(errno.EAGAIN), "broken for the campaign"
    return find_text(result["msg"], kubelet if kubelet in result["msg"] else kernel)


def shortages(commands: Mapping[bool, Sequence[str]]) -> list[Fault]:
    """A row for each command of a switch with sound settings, and with unsound ones.

    :param commands: whether the settings are sound -> the commands
    """
    found = []
    for sound, names in commands.items():
        kind = "sound" if sound else "unsound"
        for position, name in enumerate(names, 1):
            title = f"{kind} settings, none for {SHORT_SECONDS} s from: {name}, {names[:position].count(name)}."
            found.append(Fault("forks", title, short_of_processes(position, sound)))
        # with unsound settings, from the command after that: the kubelet that fails must not stay
        position = [*names].index(START) + (1 if sound else 2)
        title = f"{kind} settings, none to the end of the module from: {names[position - 1]}"
        found.append(Fault("forks", title, short_of_processes(position, sound, FOR_EVER_SECONDS)))
    return found


# A full disk together with settings that do not run

SMALL_DISK = f"""
set -e
for folder in {SMALL_FOLDERS}; do
    mkdir -p $folder
    rm -rf /run/copy
    cp -a $folder /run/copy
    mount -t tmpfs -o size=256k,mode=755 tmpfs $folder
    cp -a /run/copy/. $folder/
done
rm -rf /run/copy
"""
LARGE_DISK = f"""
set -e
for folder in {SMALL_FOLDERS}; do
    rm -rf $folder/.full /run/copy
    cp -a $folder /run/copy
    umount $folder
    find $folder -mindepth 1 -delete
    cp -a /run/copy/. $folder/
done
rm -rf /run/copy
"""


@contextmanager
def small_disk(worker: Worker) -> Iterator[None]:
    """The journal and the settings are on small file systems, which the hook can fill for real."""
    worker.shell(SMALL_DISK)
    try:
        yield
    finally:
        worker.shell(LARGE_DISK)


def steps_on_small_disk(steps: Sequence[str]) -> list[str]:
    """The steps of the same switch there: the folders exist, as they are mounted."""
    return [step for step in steps if not step.startswith("mkdir ")]


def full_with_unsound_settings(full: Sequence[str]) -> Act:
    """Folders are full when a kubelet is started that does not run with the new settings."""

    def act(worker: Worker, row: FaultResult) -> None:
        worker.node.write(ENVIRONMENT, OWNED)
        worker.wrap(AT_ONCE)
        with small_disk(worker):
            worker.arm(steps_on_small_disk(worker.steps).index(START) + 1, "fill", paths=[*full])
            result = worker.switch()
            expect(bool(result.get("failed")), "the switch to settings that do not run has succeeded")
            expect(result.get("undone") is True, f"the switch was not undone: {result.get('msg')}")
            find_text(result["first_cause"], "broken for the campaign")
            row.message = find_problem(problems_in([result]), "journal_not_updated")
            check_up(worker, row)
            expect(worker.policy() == "none", f"policy {worker.policy()} is left, expected the old one")
            expect(worker.text(ENVIRONMENT) == OWNED, f"{ENVIRONMENT} is not as before")
            check_cordon(worker, row)
        worker.unwrap()
        check_module_again(worker, row)

    return act


JOURNAL = ["/var/lib/kubepin/switches"]
UNSOUND_ON_FULL_DISK = [
    Fault(
        "disk",
        "/var full from the kubelet's start, with settings that do not run",
        full_with_unsound_settings(JOURNAL),
    ),
    Fault(
        "disk",
        "all full from the kubelet's start, with settings that do not run",
        full_with_unsound_settings(SMALL_FOLDERS.split()),
    ),
]


# An API server that fails for a while


@contextmanager
def evictable_pod(worker: Worker) -> Iterator[None]:
    """A pod on the node that a drain evicts."""
    name = f"fault-{worker.name}"
    labels = {"app": name}
    container = {"name": "sleep", "image": TEST_IMAGE, "imagePullPolicy": "Never", "command": ["sleep", "100000"]}
    spec = {
        "nodeSelector": {"kubernetes.io/hostname": worker.name},
        "terminationGracePeriodSeconds": 1,
        "containers": [container],
    }
    deployment: dict[str, Any] = {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": name, "namespace": "default"},
        "spec": {"selector": {"matchLabels": labels}, "template": {"metadata": {"labels": labels}, "spec": spec}},
    }
    kubectl = worker.sandbox.kubectl
    kubectl.apply(deployment)
    try:
        available = ("get", "deployment", name, "-o", "jsonpath={.status.availableReplicas}")
        wait_for(f"a pod runs on {worker.name}", lambda: kubectl.run(*available) == "1", POD_SECONDS)
        yield
    finally:
        kubectl.run("delete", "deployment", name, "--wait=false")


@contextmanager
def proxied(worker: Worker, proxy: ApiProxy) -> Iterator[Path]:
    """The kubeconfig of a proxy that listens."""
    proxy.start()
    try:
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "proxy.conf"
            path.write_text(api_server.kubeconfig(f"http://127.0.0.1:{proxy.port}"))
            yield path
    finally:
        proxy.close()


def api_fails(pattern: Callable[[str], str], fault: api_server.Fault) -> Act:
    """The API fails for a while from a request on, and the run bears it.

    :param pattern: name of the worker -> pattern of the request, `METHOD PATH`
    :param fault: what the proxy does with a request
    """

    def act(worker: Worker, row: FaultResult) -> None:
        upstream = Upstream(worker.sandbox.kubectl.kubeconfig)
        proxy = ApiProxy(upstream.ask, pattern(worker.name), fault, OUTAGE_SECONDS)
        with evictable_pod(worker), proxied(worker, proxy) as path:
            run = worker.playbook("-e", f"kubepin_kubeconfig={path}", "-e", "cpu_manager_timeout=120")
            expect(run.code == 0, f"the run fails: {run.error}")
            expect(proxy.over, "the run has ended before the API was back")
        expect(worker.policy() == "static", f"policy {worker.policy()}, expected static")
        row.message = "waited for it, tuned"
        check_up(worker, row)
        check_cordon(worker, row)
        check_module_again(worker, row)

    return act


def in_drain(_name: str) -> str:
    return "^POST .*/eviction$"


def in_verification(name: str) -> str:
    return f"^GET .*/pods/kubepin-probe-{name}$"


API_FAULTS = (
    (AWAY, f"is away for {OUTAGE_SECONDS} s"),
    (UNAVAILABLE, f"answers 503 for {OUTAGE_SECONDS} s"),
    (THROTTLED, f"answers 429 for {OUTAGE_SECONDS} s"),
)
FAILING_API = [
    Fault("api", f"behind a proxy that {words}, from {when}", api_fails(pattern, fault))
    for fault, words in API_FAULTS
    for pattern, when in ((in_drain, "an eviction on"), (in_verification, "the wait for the probe pod on"))
]


# Others who work on the node


def put_back(text: str) -> Act:
    """Configuration management writes a file that the switch changed, while the probe pod watches."""

    def act(worker: Worker, row: FaultResult) -> None:
        worker.node.write(ENVIRONMENT, OWNED)
        run = worker.start_playbook("-e", "cpu_manager_probe_seconds=30", "-e", "cpu_manager_timeout=120")
        wait_for("the switch is held", lambda: worker.unfinished() and worker.policy() == "static", RUN_SECONDS)
        worker.node.write(ENVIRONMENT, text)
        ended = run.end()
        expect(ended.code != 0, "the run did not fail")
        row.message = find_problem(ended.problems(), "file_put_back")
        check_up(worker, row)
        expect(worker.policy() == "none", f"policy {worker.policy()} is left, expected the old one")
        expect(not worker.unfinished(), "the switch is unfinished")
        expect(worker.text(ENVIRONMENT) == text, f"{ENVIRONMENT} is not as configuration management wrote it")
        check_cordon(worker, row)
        check_playbook_again(worker, row)

    return act


def young_mark(purpose: str) -> str:
    """The mark of a run that began just now on another machine."""
    now = time.time()
    times = {name: time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(now + after)) for name, after in MARK_TIMES.items()}
    return json.dumps({"purpose": purpose, "run": "another", "host": "elsewhere", "process": "elsewhere 1 1", **times})


MARK_TIMES = {"time": 0, "expires": 3600}


def marked_by_another(key: str, value: Callable[[], str], code: str) -> Act:
    """Someone else has cordoned and marked the node: it is left alone."""

    def act(worker: Worker, row: FaultResult) -> None:
        worker.cordon()
        worker.annotate(key, value())
        try:
            before = state_of(worker)
            run = worker.playbook()
            expect(run.code != 0, "the run did not fail")
            row.message = find_problem(run.problems(), code)
            expect(state_of(worker) == before, f"before: {before}, after: {state_of(worker)}")
            row.cordon = "left alone"
        finally:
            worker.annotate(key, None)
        check_up(worker, row)
        worker.uncordon()
        check_playbook_again(worker, row)

    return act


def state_of(worker: Worker) -> Mapping[str, Any]:
    """What a run changes on a node."""
    node = worker.object()
    return {
        "cordoned": bool(node["spec"].get("unschedulable")),
        "annotations": node["metadata"].get("annotations"),
        "kubelet": worker.node.run("systemctl", "show", "-p", "MainPID", "kubelet"),
        "policy": worker.policy(),
        "journals": worker.shell("ls /var/lib/kubepin/switches 2>/dev/null || true"),
    }


OTHERS = [
    Fault("others", "configuration management puts the old text of a file back during the hold", put_back(OWNED)),
    Fault("others", "configuration management puts a new text into a file during the hold", put_back(OWNED_ANEW)),
    Fault(
        "others",
        "the young mark of another run",
        marked_by_another(MARK, lambda: young_mark("present"), "node_in_use"),
    ),
    Fault(
        "others",
        "the mark of an upgrade",
        marked_by_another(MARK, lambda: young_mark("upgrade"), "node_in_other_work"),
    ),
    Fault(
        "others",
        "kured's mark",
        marked_by_another("weave.works/kured-reboot-in-progress", lambda: "true", "node_in_maintenance"),
    ),
]
