# SPDX-License-Identifier: GPL-3.0-or-later
"""Break runs of kubepin on real workers, one fault a row, and check what is left.

Each row checks: the kubelet is up without help; the cordon is as before, or left on purpose, and the run says so; the next run
converges; and the first cause is shown. `tests.campaigns.fault_hook` stops the program exactly before a step; kubepin has no code for
it. Rows of a group stand in OUTPUT/GROUP.json, all of them in OUTPUT/table.md.
"""

from __future__ import annotations

import argparse
import json
import queue
import re
import signal
import threading
import time
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path

from sandbox.cluster import Sandbox, ready_sandbox
from sandbox.settings import Paths, SandboxError
from sandbox.shell import wait_for
from tests.campaigns.base import (
    CheckFailed,
    add_output_argument,
    add_sandbox_arguments,
    expect,
    find_problem,
    find_text,
    markdown_table,
    no_answer,
    print_table,
    problems_in,
    sandbox_for,
    write_json,
)
from tests.campaigns.fault_checks import (
    Act,
    Fault,
    FaultResult,
    check_cordon,
    check_left_cordoned,
    check_module_again,
    check_playbook_again,
    check_up,
)
from tests.campaigns.fault_surroundings import (
    AT_ONCE,
    FAILING_API,
    OTHERS,
    UNSOUND_ON_FULL_DISK,
    shortages,
    small_disk,
    steps_on_small_disk,
)
from tests.campaigns.worker import PLACED, RUN_SECONDS, SMALL_FOLDERS, Running, Worker

AFTER = (
    '(exec -a /usr/bin/kubelet /usr/bin/kubelet.real "$@") & sleep {0}; kill $!; '
    "echo 'E0101 failed to run Kubelet: broken after {0} s' >&2; exit 1"
)
NEVER = "echo 'E0101 failed to run Kubelet: waits for ever' >&2; exec sleep infinity"


# The faults of the transaction on the node


def killed(step: int) -> Act:
    """SIGKILL before a step."""

    def act(worker: Worker, row: FaultResult) -> None:
        worker.arm(step, "kill")
        result = worker.switch()
        expect(bool(result.get("failed")), "the killed module did not fail: the step was not reached")
        check_up(worker, row)
        check_cordon(worker, row)
        row.message = "killed" if worker.unfinished() else "killed, nothing begun"
        check_module_again(worker, row)

    return act


def restarted(step: int) -> Act:
    """The node's power is cut before a step."""

    def act(worker: Worker, row: FaultResult) -> None:
        worker.arm(step, "hold")
        run = worker.start_switch()
        worker.wait_held()
        worker.sandbox.shell.run(["docker", "kill", worker.name])
        run.kill()
        worker.node.boot()
        check_up(worker, row)
        check_cordon(worker, row)
        row.message = "power cut" if worker.unfinished() else "power cut, nothing begun"
        check_module_again(worker, row)

    return act


def disk_full(step: int) -> Act:
    """The file systems of journal and settings are full from a write on."""

    def act(worker: Worker, row: FaultResult) -> None:
        with small_disk(worker):
            worker.arm(step, "fill", paths=SMALL_FOLDERS.split())
            result = worker.switch()
            expect(bool(result.get("failed")), "the switch did not fail on a full disk")
            row.message = find_text(result["msg"], "No space left on device")
            check_up(worker, row)
            check_cordon(worker, row)
        check_module_again(worker, row)

    return act


def disk_full_repair(worker: Worker, row: FaultResult) -> None:
    """An interrupted switch is to be undone on a full disk."""
    worker.arm(steps_named(worker, PLACED), "kill")
    worker.switch()
    expect(worker.unfinished(), "nothing was interrupted")
    with small_disk(worker):
        worker.arm(1, "fill", paths=SMALL_FOLDERS.split())
        result = worker.module()
        expect(bool(result.get("failed")), "the undoing did not say that it cannot be recorded on a full disk")
        expect(result.get("undone") is True, f"the interrupted switch was not undone: {result.get('msg')}")
        row.message = find_problem(problems_in([result]), "journal_not_updated")
        check_up(worker, row)
        expect(worker.policy() == "none", f"policy {worker.policy()} is left, expected the old one")
        check_cordon(worker, row)
    check_module_again(worker, row)


def steps_named(worker: Worker, name: str) -> int:
    """The number of the first step of this name."""
    return next(number for number, step in enumerate(worker.steps, 1) if step == name)


def meet_refusal(worker: Worker, row: FaultResult) -> None:
    """A second playbook on the node is refused, because of the first one's mark."""
    run = worker.playbook()
    expect(run.code != 0, "the second run was not refused")
    row.message = find_problem(run.problems(), "node_in_use")


def check_first_run(worker: Worker, row: FaultResult, first: Running) -> None:
    """The first playbook ends undisturbed."""
    run = first.end()
    expect(run.code == 0, f"the first run fails: {run.error}")
    check_up(worker, row)
    check_cordon(worker, row)
    check_module_again(worker, row)


def two_runs(worker: Worker, row: FaultResult) -> None:
    """A second playbook meets the first one in its transaction, and so does a task that knows nothing of marks."""
    worker.arm(steps_named(worker, PLACED), "hold")
    first = worker.start_playbook()
    try:
        worker.wait_held()
        meet_refusal(worker, row)
        refusal = find_problem(problems_in([worker.module()]), "node_locked", "another_run_active")
        row.message += f"; {refusal}"
    finally:
        worker.release()
    check_first_run(worker, row, first)


def two_runs_in_verify(worker: Worker, row: FaultResult) -> None:
    """A second playbook meets the first one while its probe pod watches, for long enough for the second one to plan."""
    first = worker.start_playbook("-e", "cpu_manager_probe_seconds=40", "-e", "cpu_manager_timeout=120")
    wait_for("the switch is held", lambda: worker.unfinished() and worker.policy() == "static", RUN_SECONDS)
    meet_refusal(worker, row)
    check_first_run(worker, row, first)


def corrupted(text: str) -> Act:
    """A state file that no kubelet reads, written under the running one."""

    def act(worker: Worker, row: FaultResult) -> None:
        worker.node.write("/var/lib/kubelet/cpu_manager_state", text)
        result = worker.module()
        expect(not result.get("failed"), f"the switch fails: {result.get('msg')}")
        changes = {change["path"]: change for change in result["changes"]}
        reason = changes["/var/lib/kubelet/cpu_manager_state"]["reason"]
        row.message = reason
        check_up(worker, row)
        check_cordon(worker, row)
        check_module_again(worker, row)

    return act


def corrupted_journal(worker: Worker, row: FaultResult) -> None:
    """A journal that cannot be read: refused by name, nothing touched."""
    worker.node.write("/var/lib/kubepin/switches/20260101T000000.000Z.json", "{")
    pid = worker.node.run("systemctl", "show", "-p", "MainPID", "kubelet")
    result = worker.module()
    row.message = find_problem(problems_in([result]), "journal_unreadable")
    expect(worker.node.run("systemctl", "show", "-p", "MainPID", "kubelet") == pid, "the kubelet was restarted")
    check_up(worker, row)
    check_cordon(worker, row)
    worker.shell("rm /var/lib/kubepin/switches/*")
    check_module_again(worker, row)


# The faults of a whole run


def killed_in_playbook(worker: Worker, row: FaultResult) -> None:
    """SIGKILL of the module within a playbook, which undoes it at once."""
    worker.arm(steps_named(worker, PLACED) + 1, "kill")
    run = worker.playbook()
    expect(run.code != 0, "the run did not fail")
    ends = [result.values["rc"] for result in run.failures if "module_stdout" in result.values]
    expect(ends == [128 + signal.SIGKILL], f"exit status of Ansible's program on the node: {ends}, expected 137")
    row.message = run.fact("kubepin_result", worker.name)["first_cause"]
    check_up(worker, row)
    expect(worker.policy() == "none", "the killed switch was not undone by the same run")
    check_cordon(worker, row)
    check_module_again(worker, row)


def ssh_cut(worker: Worker, row: FaultResult) -> None:
    """The connection's sshd dies; the transaction goes on."""
    worker.arm(steps_named(worker, PLACED), "hold")
    run = worker.start_playbook()
    worker.wait_held()
    worker.shell("pkill -9 -f '[s]shd: root' || true")
    time.sleep(1)
    worker.release()
    ended = run.end()
    expect(ended.code != 0, "the run did not fail")
    lost = [result.task for result in ended.results if result.values.get("unreachable")]
    expect(bool(lost), f"no task lost its host: {ended.error}")
    row.message = ended.fact("kubepin_result", worker.name)["first_cause"]
    check_up(worker, row)
    check_left_cordoned(worker, row, ended)
    check_playbook_again(worker, row)


def control_node_killed(worker: Worker, row: FaultResult) -> None:
    """ansible-playbook and its children die within the transaction, which ends by itself."""
    worker.arm(steps_named(worker, PLACED), "hold")
    run = worker.start_playbook()
    worker.wait_held()
    run.kill()
    worker.release()
    wait_for(f"{worker.name}: the switch ends by itself", lambda: worker.policy() == "static", 60)
    row.message = "killed; the switch ended by itself, not confirmed"
    check_up(worker, row)
    expect(worker.cordoned() == (True, True), f"cordoned and marked: {worker.cordoned()}, expected both")
    row.cordon = "left, marked as kubepin's"
    check_playbook_again(worker, row)


def control_node_killed_in_verify(worker: Worker, row: FaultResult) -> None:
    """ansible-playbook dies while the probe pod watches."""
    run = worker.start_playbook()
    name = f"kubepin-probe-{worker.name}"
    wait_for(
        "the probe pod is there",
        lambda: bool(worker.sandbox.kubectl.run("get", "pod", "-n", "kube-system", name, "--ignore-not-found")),
        RUN_SECONDS,
    )
    run.kill()
    row.message = "killed; probe pod left"
    check_up(worker, row)
    expect(worker.cordoned() == (True, True), f"cordoned and marked: {worker.cordoned()}, expected both")
    row.cordon = "left, marked as kubepin's"
    check_playbook_again(worker, row)
    found = worker.sandbox.kubectl.run("get", "pod", "-n", "kube-system", name, "--ignore-not-found")
    expect(not found, "the next run left the probe pod")
    row.next_run += ", removes the pod"


@contextmanager
def without_api_server(worker: Worker) -> Iterator[None]:
    """The static pod of the API server is gone."""
    node = worker.sandbox.control_plane
    manifest = "/etc/kubernetes/manifests/kube-apiserver.yaml"
    node.run("sh", "-c", f"mv {manifest} /etc/kubernetes/kube-apiserver.yaml; pkill -9 kube-apiserver || true")
    try:
        yield
    finally:
        node.run("mv", "/etc/kubernetes/kube-apiserver.yaml", manifest)
        wait_for("the API server answers", lambda: bool(worker.sandbox.kubectl.run("get", "--raw", "/readyz")), 180)


def api_server_pause(worker: Worker, row: FaultResult) -> None:
    """The API server is away for less than the time that a run waits for it."""
    worker.arm(steps_named(worker, PLACED), "hold")
    run = worker.start_playbook("-e", "cpu_manager_timeout=120")
    worker.wait_held()
    with without_api_server(worker):
        worker.release()
        time.sleep(20)
    ended = run.end()
    expect(ended.code == 0, f"the run fails: {ended.error}")
    row.message = "waited for it, tuned"
    check_up(worker, row)
    check_cordon(worker, row)
    check_module_again(worker, row)


def api_server_stopped(worker: Worker, row: FaultResult) -> None:
    """The API server stays away."""
    worker.arm(steps_named(worker, PLACED), "hold")
    run = worker.start_playbook()
    worker.wait_held()
    with without_api_server(worker):
        worker.release()
        ended = run.end()
        expect(ended.code != 0, "the run did not fail")
        unanswered = [result.task for result in ended.failures if no_answer(result.values)]
        expect(bool(unanswered), f"no task waited in vain for the API server: {ended.error}")
        row.message = ended.fact("kubepin_result", worker.name)["first_cause"]
        check_up(worker, row)
        expect(worker.policy() == "none", "the switch that the API did not confirm was not taken back")
    check_left_cordoned(worker, row, ended)
    check_playbook_again(worker, row)


def broken_kubelet(fault: str, line: str, before: bool = False) -> Act:
    """A kubelet that does not work with the new settings.

    :param line: a part of the line that it logs
    """

    def act(worker: Worker, row: FaultResult) -> None:
        if before:
            worker.cordon()
        worker.wrap(fault)
        started = time.monotonic()
        run = worker.playbook()
        took = time.monotonic() - started
        expect(run.code != 0, "the run did not fail")
        result = run.fact("kubepin_result", worker.name)
        expect(result.get("outcome") == "undone", f"outcome {result.get('outcome')}, expected undone: {run.error}")
        row.message = f"{find_text(result['first_cause'], line)} (undone by the run, which took {took:.0f} s)"
        worker.unwrap()
        check_up(worker, row)
        expect(worker.policy() == "none", f"policy {worker.policy()} is left, expected the old one")
        check_cordon(worker, row, before)
        check_module_again(worker, row)

    return act


def cordoned_by_another(worker: Worker, row: FaultResult) -> None:
    """A cordon that is not kubepin's outlives a run that succeeds."""
    worker.cordon()
    run = worker.playbook()
    expect(run.code == 0, f"the run fails: {run.error}")
    row.message = "none"
    check_up(worker, row)
    check_cordon(worker, row, before=True)
    check_playbook_again(worker, row, before=True)


RUNS = [
    Fault("run", "the module is killed (SIGKILL) after the settings were written", killed_in_playbook),
    Fault("run", "the SSH connection is cut within the transaction", ssh_cut),
    Fault("run", "ansible-playbook is killed within the transaction", control_node_killed),
    Fault("run", "ansible-playbook is killed while the probe pod watches", control_node_killed_in_verify),
    Fault("run", "a second run on the node while the first one is in its transaction", two_runs),
    Fault("run", "a second run on the node while the first one's probe pod watches", two_runs_in_verify),
    Fault("run", "the node is cordoned by someone else", cordoned_by_another),
    Fault("run", "state file corrupted: no JSON", corrupted("{garbage")),
    Fault("run", "state file corrupted: checksum", corrupted('{"policyName":"none","defaultCpuSet":"","checksum":1}')),
    Fault("run", "journal of an earlier switch corrupted", corrupted_journal),
]
KUBELETS = [
    Fault("kubelet", "fails at once", broken_kubelet(AT_ONCE, "broken for the campaign")),
    Fault(
        "kubelet",
        "fails at once, on a node cordoned by someone else",
        broken_kubelet(AT_ONCE, "broken for the campaign", True),
    ),
    Fault("kubelet", "fails after 5 s", broken_kubelet(AFTER.format(5), "broken after 5 s")),
    Fault("kubelet", "fails after 15 s", broken_kubelet(AFTER.format(15), "broken after 15 s")),
    Fault("kubelet", "never gets healthy", broken_kubelet(NEVER, "waits for ever")),
]
API = [
    Fault("api", "the API server is away for 20 s after the switch", api_server_pause, alone=True),
    Fault("api", "the API server is away for longer than a run waits", api_server_stopped, alone=True),
]
GROUPS = ("kill", "restart", "disk", "forks", "run", "others", "kubelet", "api")
SAMPLE = {
    ("kill", "before: systemctl start kubelet"),
    ("disk", "full from: write /etc/default, 1."),
    ("run", "a second run on the node while the first one's probe pod watches"),
    ("kubelet", "fails at once"),
}
"""What `make test` runs of it."""


def faults_of(steps: Sequence[str], commands: Mapping[bool, Sequence[str]], groups: Collection[str]) -> list[Fault]:
    """The rows: one a step or command for the faults of the transaction, and the others.

    :param commands: whether the settings are sound -> the commands of a switch to such settings
    """
    found: list[Fault] = []
    for number, step in enumerate(steps, 1):
        short = re.sub(r"/var/lib/kubepin/switches/\S+", "journal", step)
        if step.startswith("write "):
            count = steps[:number].count(step)
            found.append(
                Fault(
                    "disk",
                    f"full from: {short.replace('/var/lib/kubepin/switches', 'journal')}, {count}.",
                    disk_full(len(steps_on_small_disk(steps[:number]))),
                )
            )
        else:
            found.append(Fault("kill", f"before: {short}", killed(number)))
            found.append(Fault("restart", f"before: {short}", restarted(number)))
    found.append(Fault("disk", "full while an interrupted switch is undone", disk_full_repair))
    found += [*UNSOUND_ON_FULL_DISK, *shortages(commands), *RUNS, *OTHERS, *KUBELETS, *API, *FAILING_API]
    return [fault for fault in found if fault.group in groups]


def taking_turns(faults: Sequence[Fault]) -> list[Fault]:
    """The same rows, group after group in turn: a stopped campaign has done a part of every group."""
    place: dict[str, int] = {}
    ranked = []
    for fault in faults:
        place[fault.group] = place.get(fault.group, -1) + 1
        ranked.append((place[fault.group], fault))
    return [fault for _rank, fault in sorted(ranked, key=lambda item: item[0])]


class FaultCampaign:
    """All rows, on all workers at once, with a line for each."""

    def __init__(self, sandbox: Sandbox, folder: Path) -> None:
        self.workers = [Worker(sandbox, node) for node in sandbox.workers]
        self.folder = folder
        self.done = 0
        self._lock = threading.Lock()
        self._total = 0

    def learn_steps(self) -> list[str]:
        """The steps of an undisturbed switch."""
        worker = self.workers[0]
        worker.reset()
        worker.arm(0, "none")
        result = worker.switch()
        if result.get("failed"):
            raise SandboxError(f"an undisturbed switch fails: {result['msg']}")
        steps = worker.trace()
        worker.disarm()
        for each in self.workers:
            each.steps = steps
        return steps

    def learn_commands(self, sound: bool) -> list[str]:
        """The commands of a switch to sound settings, or to those that do not run."""
        worker = self.workers[0]
        worker.reset()
        if not sound:
            worker.wrap(AT_ONCE)
        worker.arm(0, "refuse", seconds=0)
        result = worker.switch()
        if bool(result.get("failed")) == sound:
            raise SandboxError(f"a switch, sound settings: {sound}, ends with: {result.get('msg')}")
        commands = worker.trace()
        worker.disarm()
        return commands

    def run(
        self,
        groups: Sequence[str],
        passed: Collection[tuple[str, str]],
        only: Collection[tuple[str, str]] | None = None,
    ) -> None:
        """Run the rows of these groups but those that have passed; each is kept in the folder as soon as it has ended.

        Raises SandboxError if *only* names a row that the campaign does not have.
        """
        for worker in self.workers:
            worker.install_hook()
        try:
            steps = self.learn_steps()
            print(f"{len(steps)} steps of an undisturbed switch:", *steps, sep="\n  ", flush=True)
            wanted = set(groups) if only is None else {group for group, _title in only}
            commands = {sound: self.learn_commands(sound) for sound in ((True, False) if "forks" in wanted else ())}
            known = {(fault.group, fault.title): fault for fault in faults_of(steps, commands, wanted)}
            if missing := set(only or ()) - known.keys():
                raise SandboxError(f"the campaign has no rows {sorted(missing)}")
            faults = [known[row] for row in known if row not in passed and (only is None or row in only)]
            self._total = len(faults)
            waiting: queue.Queue[Fault] = queue.Queue()
            for fault in taking_turns(faults):
                if not fault.alone:
                    waiting.put(fault)
            threads = [
                threading.Thread(target=self._drain, args=(worker, waiting), daemon=True) for worker in self.workers
            ]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
            for fault in faults:
                if fault.alone:
                    self._row(self.workers[0], fault)
        finally:
            for worker in self.workers:
                worker.reset()
                worker.remove_hook()

    def _drain(self, worker: Worker, waiting: queue.Queue[Fault]) -> None:
        while True:
            try:
                fault = waiting.get_nowait()
            except queue.Empty:
                return
            self._row(worker, fault)

    def _row(self, worker: Worker, fault: Fault) -> None:
        row = FaultResult(fault.group, fault.title)
        started = time.monotonic()
        try:
            worker.reset()
            fault.act(worker, row)
        except (CheckFailed, SandboxError, KeyError, ValueError) as error:
            row.failed = str(error)
        row.seconds = round(time.monotonic() - started)
        with self._lock:
            keep(self.folder, row)
            self.done += 1
            done = self.done
        outcome = (
            f"FAILED: {row.failed}"
            if row.failed
            else f"kubelet {row.kubelet}; cordon {row.cordon}; next run {row.next_run}"
        )
        stamp = time.strftime("%H:%M:%S")
        print(
            f"{stamp} [{done}/{self._total}] {worker.name} {row.group}, {row.fault}: {outcome} ({row.seconds} s)",
            flush=True,
        )


HEADINGS = ("fault", "kubelet", "cordon", "next run", "message", "s")


def cells(row: FaultResult) -> list[str]:
    """A row as it is shown."""
    message = f"FAILED: {row.failed}" if row.failed else row.message
    return [f"{row.group}: {row.fault}", row.kubelet, row.cordon, row.next_run, message, str(row.seconds)]


def keep(folder: Path, row: FaultResult) -> None:
    """Put a row in the place of an earlier one of that fault, or behind the others of its group."""
    file = folder / f"{row.group}.json"
    rows = {each["fault"]: each for each in (json.loads(file.read_text()) if file.exists() else [])}
    rows[row.fault] = asdict(row)
    write_json(file, list(rows.values()))


def read_rows(folder: Path) -> list[FaultResult]:
    """What all parts of the campaign found."""
    return [
        FaultResult(**row)
        for group in GROUPS
        if (folder / f"{group}.json").exists()
        for row in json.loads((folder / f"{group}.json").read_text())
    ]


def show(folder: Path) -> int:
    """Print the table and write it as Markdown; the number of failed rows."""
    rows = read_rows(folder)
    table = [cells(row) for row in rows]
    print_table("Faults: what is left of a run, and what the next one makes of it", HEADINGS, table, red=["FAILED"])
    failed = sum(bool(row.failed) for row in rows)
    print(f"{len(rows)} rows, {failed} failed", flush=True)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "table.md").write_text(markdown_table(HEADINGS, table))
    return failed


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options."""
    add_sandbox_arguments(parser, "faults", version="1.22.17", workers=2)
    add_output_argument(parser, "faults")
    parser.add_argument("groups", nargs="*", metavar="GROUP", help=f"a part of: {', '.join(GROUPS)}")
    parser.add_argument(
        "--continue", dest="go_on", action="store_true", help="leave out rows that passed in FOLDER before"
    )
    parser.add_argument("--sample", action="store_true", help="one row each of some groups, for `make test`")


def run(options: argparse.Namespace) -> int:
    """Workers of a sandbox that stays are left untuned; the exit status is 1 if a row fails."""
    if options.sample and options.groups:
        raise CheckFailed("--sample takes no GROUP: it has rows of its own")
    groups = options.groups or list(GROUPS)
    if unknown := [group for group in groups if group not in GROUPS]:
        raise CheckFailed(f"unknown group {', '.join(unknown)}: expected some of {', '.join(GROUPS)}")
    if not options.go_on:
        for group in groups:
            (options.output / f"{group}.json").unlink(missing_ok=True)
    passed = {(row.group, row.fault) for row in read_rows(options.output) if not row.failed}
    with sandbox_for(options) as name, ready_sandbox(Paths.from_environment(), name) as sandbox:
        FaultCampaign(sandbox, options.output).run(groups, passed, SAMPLE if options.sample else None)
    return int(show(options.output) > 0)
