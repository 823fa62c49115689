# SPDX-License-Identifier: GPL-3.0-or-later
"""One machine's part of an upgrade, on a simulated machine."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import shutil
import sys
import tarfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from ansible_collections.kubepin.tuning.plugins.module_utils.common.errors import TuningError
from ansible_collections.kubepin.tuning.plugins.module_utils.common.switch.changes import FileChange
from ansible_collections.kubepin.tuning.plugins.module_utils.node.readers.kubeadm import read_node
from ansible_collections.kubepin.tuning.plugins.module_utils.node.transaction.files import BACKUP, Files
from ansible_collections.kubepin.tuning.plugins.module_utils.node.transaction.records import (
    BEGUN,
    COMMITTED,
    PREPARED,
    SCHEMA,
    UpgradeRecord,
)
from ansible_collections.kubepin.tuning.plugins.module_utils.node.transaction.system import Node
from ansible_collections.kubepin.tuning.plugins.module_utils.node.transaction.transaction import followed
from ansible_collections.kubepin.tuning.plugins.module_utils.node.upgrade import (
    node_steps,
    package_change,
)
from ansible_collections.kubepin.tuning.plugins.module_utils.node.upgrade.record import read_entry
from ansible_collections.kubepin.tuning.plugins.module_utils.node.upgrade.source import (
    PROGRAMS,
)
from ansible_collections.kubepin.tuning.tests.unit.samples.problems import refused
from ansible_collections.kubepin.tuning.tests.unit.samples.upgrade_machine import (
    HEAD,
    NEW,
    NEW_FLAGS,
    OLD,
    TUNED,
    UNKNOWN_TO_NEW,
    Hop,
    Machine,
    PackagedMachine,
    point_at,
)

Sampled = Callable[[Sequence[int]], Sequence[int]]


class Killed(BaseException):
    """The process is killed: nothing after this runs."""


@pytest.fixture
def make_machine(
    tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Callable[[str], Machine]]:
    """Makes machines, each under a folder of its own; the last one made is the one that the code sees.

    Each package that is unpacked repeats the path of that folder, so it is a short one.
    """
    monkeypatch.setattr(os, "fsync", lambda _file: None)  # a process is killed here, not a machine
    temporary = tmp_path_factory.getbasetemp().parents[1 + ("PYTEST_XDIST_WORKER" in os.environ)]
    with TemporaryDirectory(dir=temporary, prefix="m") as folder:

        def make(name: str, kind: type[Machine] = Machine) -> Machine:
            point_at(Path(folder, name), monkeypatch)
            return kind(Path(folder, name))

        yield make


@pytest.fixture
def machine(make_machine: Callable[[str], Machine]) -> Machine:
    return make_machine("node")


@pytest.fixture
def make_packaged(make_machine: Callable[..., Machine]) -> Callable[[str], PackagedMachine]:
    return lambda name: make_machine(name, PackagedMachine)  # type: ignore[return-value]


class _Trouble:
    """Counts what the process writes and runs under a folder, and ends it, or refuses it, at one of these.

    It sees what Python audits (PEP 578): files opened for writing, renamed, removed, changed modes and owners; and the commands of
    the stand-in. Hooks cannot be taken away again: this one is off unless a test turns it on.
    """

    def __init__(self) -> None:
        self.root: str | None = None
        self.at = 0
        self.seen = 0
        self.error: BaseException = Killed()
        self.lasting = True

    def hook(self, event: str, arguments: tuple[Any, ...]) -> None:
        if self.root is None or not self._counts(event, arguments):
            return
        self.seen += 1
        if self.seen == self.at or (self.lasting and self.at and self.seen > self.at):
            raise type(self.error)(*self.error.args)

    def _counts(self, event: str, arguments: tuple[Any, ...]) -> bool:
        if event == "open":
            name, _mode, flags = arguments
            return str(name).startswith(self.root or "") and bool(flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT))
        if event == "os.mkdir":
            return str(arguments[0]).startswith(self.root or "")
        if not isinstance(self.error, Killed):
            return False  # a full disk refuses new files and folders, and nothing else
        if event == "stand-in.command":
            return arguments[1:] not in (("show",), ("--version",))
        return event == "os.chmod" or (  # os.chown comes just before it
            event in ("os.rename", "os.remove", "os.link") and str(arguments[0]).startswith(self.root or "")
        )


_trouble = _Trouble()
sys.addaudithook(_trouble.hook)


@pytest.fixture
def trouble() -> Iterator[Callable[..., int]]:
    """Runs a function with trouble at one of its operations; tells how many there were."""

    def at(root: Path, number: int, error: BaseException, operation: Callable[[], object], lasting: bool) -> int:
        _trouble.root, _trouble.at, _trouble.seen = str(root), number, 0
        _trouble.error, _trouble.lasting = error, lasting
        try:
            operation()
        finally:
            _trouble.root = None
        return _trouble.seen

    yield at
    _trouble.root = None


def test_a_hop_ends_with_the_new_kubelet_and_the_tuning_of_before(machine: Machine) -> None:
    outcome = machine.upgrade()
    assert machine.running == NEW
    assert outcome["kept_settings"] == {"cpuManagerPolicy": "static", "reservedSystemCPUs": "0"}
    assert machine.text("/var/lib/kubelet/config.yaml") == HEAD
    assert machine.effective()["cpuManagerPolicy"] == "static"
    assert UNKNOWN_TO_NEW not in machine.text("/var/lib/kubelet/kubeadm-flags.env")
    assert "pod-infra-container-image" in machine.text("/var/lib/kubelet/kubeadm-flags.env")
    assert [UNKNOWN_TO_NEW in text for text in outcome["dropped_flags"]] == [True]
    assert machine.path("/usr/bin/kubelet").stat().st_mode & 0o777 == 0o751, "the mode that the operator gave it"


def test_a_new_kubelet_that_was_installed_by_hand_is_kept_and_started(machine: Machine) -> None:
    machine.write("/usr/bin/kubelet", f"kubelet {NEW}", 0o755)
    machine.upgrade()
    assert (machine.running, machine.effective()["cpuManagerPolicy"]) == (NEW, "static")
    assert Path(machine.node_upgrade().folder, "kubelet").read_text() == f"kubelet {NEW}"


def test_what_was_there_before_is_kept(machine: Machine) -> None:
    machine.write("/etc/kubernetes/tmp/old-etcd", "large")
    node_upgrade = machine.node_upgrade()
    node_upgrade.back_up()
    node_upgrade.prepare(control_plane=False)
    assert machine.text("/usr/bin/kubeadm") == f"kubeadm {NEW}"
    assert (machine.running, machine.text("/usr/bin/kubelet")) == (OLD, f"kubelet {OLD}")
    kept = {path.name: path for path in Path(node_upgrade.folder).iterdir() if path.is_file()}
    assert [kept[program].read_text() for program in PROGRAMS] == [f"{program} {OLD}" for program in PROGRAMS]
    assert kept["kubelet"].stat().st_mode & 0o777 == 0o751
    config = Path(_copies(machine)[CONFIG] or "")
    assert (config.read_text(), config.stat().st_mode & 0o777) == (TUNED, 0o600)
    assert _copies(machine)["/etc/default/kubelet"] is None
    assert kept["etc-kubernetes.tar.gz"].stat().st_mode & 0o077 == 0, "it holds private keys"
    with tarfile.open(kept["etc-kubernetes.tar.gz"]) as archive:
        assert any(name.endswith("kubernetes/kubelet.conf") for name in archive.getnames())


@pytest.mark.parametrize("owner", [0, 12])
def test_a_kubelet_that_does_not_run_is_undone_to_what_stood_before(machine: Machine, owner: int) -> None:
    if owner and os.geteuid():
        pytest.skip("only root gives files away")
    if owner:
        os.chown(machine.path("/usr/bin/kubelet"), -1, owner)
        os.chown(machine.path("/var/lib/kubelet/config.yaml"), -1, owner)
    before = machine.state()
    broken = f"kubelet {NEW} broken"
    machine.write(f"/source/{NEW}/kubelet", broken)
    machine.write(f"/source/{NEW}/kubelet.sha256", hashlib.sha256(broken.encode()).hexdigest())
    with refused("upgrade_undone") as caught:
        machine.upgrade()
    assert caught.value.details["undone"] is True
    assert machine.state() == before
    assert machine.running == OLD
    right = f"kubelet {NEW}"
    machine.write(f"/source/{NEW}/kubelet", right)
    machine.write(f"/source/{NEW}/kubelet.sha256", hashlib.sha256(right.encode()).hexdigest())
    machine.upgrade()
    assert (machine.running, machine.effective()["cpuManagerPolicy"]) == (NEW, "static")


def test_where_neither_kubelet_runs_the_error_says_so_and_names_the_copies(machine: Machine) -> None:
    node_upgrade = machine.node_upgrade()
    node_upgrade.back_up()
    node_upgrade.prepare(control_plane=False)
    node_upgrade.configure([])
    machine.boot = lambda: None  # type: ignore[method-assign]
    with refused("upgrade_not_undone") as caught:
        node_upgrade.switch_kubelet()
    assert caught.value.details["undone"] is False
    assert node_upgrade.folder in str(caught.value)
    assert machine.text("/usr/bin/kubelet") == f"kubelet {OLD}"


CONFIG = "/var/lib/kubelet/config.yaml"


def _record(machine: Machine) -> UpgradeRecord:
    entry = read_entry(Files(), machine.node_upgrade().folder)
    assert entry is not None
    return entry.record


def _copies(machine: Machine) -> dict[str, str | None]:
    """Each file that the upgrade changes -> its copy of before."""
    return {file.path.removeprefix(str(machine.root)): file.kept for file in _record(machine).files}


def _kept(machine: Machine, name: str) -> str:
    """The text of a file's copy of before."""
    return Path(_copies(machine)[name] or "").read_text()


def _untroubled(make_machine: Callable[[str], Machine], trouble: Callable[..., int]) -> tuple[dict[str, Any], int]:
    machine = make_machine("untroubled")
    operations = trouble(machine.root, 0, Killed(), machine.upgrade, True)
    return _relative(machine), operations


def _left_beside_files(machine: Machine) -> list[Path]:
    """Drafts and backups of the kubelet's step."""
    folders = [machine.path(name) for name in ("/usr/bin", "/var/lib/kubelet", "/etc")]
    return [path for folder in folders for path in folder.rglob(".*.kubepin")]


def _relative(machine: Machine) -> dict[str, Any]:
    """What the machine came to, leaving out drafts that a killed process could not remove."""
    return {
        path.replace(str(machine.root), ""): (entry[0].replace(str(machine.root), ""), *entry[1:])
        for path, entry in machine.state().items()
        if not os.path.basename(path).startswith(".")
    }


def test_killed_at_any_operation_the_next_run_ends_where_an_untroubled_one_does(
    make_machine: Callable[[str], Machine], trouble: Callable[..., int], sampled: Sampled
) -> None:
    wanted, operations = _untroubled(make_machine, trouble)
    assert operations > 40
    for number in sampled(range(1, operations + 1)):
        machine = make_machine(f"killed-{number}")
        with pytest.raises(Killed):
            trouble(machine.root, number, Killed(), machine.upgrade, True)
        machine.power_on()
        assert machine.running, number
        machine.upgrade()
        assert (machine.running, _relative(machine)) == (NEW, wanted), number
        assert not _left_beside_files(machine), number
        folder = Path(machine.node_upgrade().folder)
        assert [(folder / program).read_text() for program in PROGRAMS] == [f"{program} {OLD}" for program in PROGRAMS]
        assert _kept(machine, CONFIG) == TUNED, "the copy of before was replaced by one of after"


def test_killed_at_any_operation_with_a_broken_kubelet_the_next_run_undoes(
    make_machine: Callable[[str], Machine], trouble: Callable[..., int], sampled: Sampled
) -> None:
    def undoes(machine: Machine) -> None:
        with refused("upgrade_undone"):
            machine.upgrade()

    first = _broken(make_machine("first"))
    operations = trouble(first.root, 0, Killed(), lambda: undoes(first), True)
    for number in sampled(range(1, operations + 1)):
        machine = _broken(make_machine(f"broken-{number}"))
        before = _relative(machine)
        with pytest.raises(Killed):
            trouble(machine.root, number, Killed(), machine.upgrade, True)
        machine.power_on()
        assert machine.running or machine.text("/usr/bin/kubelet") != f"kubelet {OLD}", number
        undoes(machine)
        assert (machine.running, _relative(machine)) == (OLD, before), number
        assert not _left_beside_files(machine), number


@pytest.mark.parametrize("lasting", [False, True], ids=["once", "lasting"])
def test_a_disk_that_is_full_at_any_write_leaves_a_running_kubelet_and_loses_nothing(
    make_machine: Callable[[str], Machine], trouble: Callable[..., int], lasting: bool
) -> None:
    wanted, operations = _untroubled(make_machine, trouble)
    full = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    number, refused = 0, True
    while refused:
        number += 1
        machine = make_machine(f"full-{lasting}-{number}")
        message = ""
        try:
            trouble(machine.root, number, full, machine.upgrade, lasting)
        except TuningError as error:
            message = str(error)
        refused = bool(message)
        assert not refused or "No space left on device" in message, number
        assert machine.running, number
        machine.upgrade()
        assert (machine.running, _relative(machine)) == (NEW, wanted), number
    assert 10 < number < operations


def test_a_broken_kubelet_is_undone_although_nothing_can_be_written_below_var_lib_kubepin(
    make_machine: Callable[[str], Machine], trouble: Callable[..., int]
) -> None:
    full = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    for number in range(2, 5):  # the first write is the record's, before the kubelet is touched
        machine = make_machine(f"full-{number}")
        before = _relative(machine)
        node_upgrade = _at_its_kubelet(_broken(machine))
        with pytest.raises(TuningError):
            trouble(machine.path("/var/lib/kubepin"), number, full, node_upgrade.switch_kubelet, True)
        assert (machine.running, _relative(machine)) == (OLD, before), number


def test_one_file_that_cannot_be_restored_keeps_no_other_from_it(
    machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    stuck = str(machine.path("/var/lib/kubelet/kubeadm-flags.env"))
    node_upgrade = _at_its_kubelet(_broken(machine))
    place = Node.place_draft

    def refuse(node: Node, path: str, name: str) -> None:
        if path == stuck and name == BACKUP:
            raise OSError(errno.EPERM, os.strerror(errno.EPERM))
        place(node, path, name)

    monkeypatch.setattr(Node, "place_draft", refuse)
    with pytest.raises(TuningError, match=f"{stuck} could not be restored: .*Operation not permitted") as caught:
        node_upgrade.switch_kubelet()
    assert caught.value.details["undone"] is False
    assert (machine.running, machine.text("/var/lib/kubelet/config.yaml")) == (OLD, TUNED)
    assert machine.text("/usr/bin/kubelet") == f"kubelet {OLD}"


def test_settings_that_were_saved_from_kubeadm_stay_if_the_old_file_cannot_be_restored(
    machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    node_upgrade = _at_its_kubelet(_broken(machine))
    place = Node.place_draft

    def refuse(node: Node, path: str, name: str) -> None:
        if path == str(machine.path(CONFIG)):
            raise OSError(errno.EPERM, os.strerror(errno.EPERM))
        place(node, path, name)

    monkeypatch.setattr(Node, "place_draft", refuse)
    with pytest.raises(TuningError, match=f"{CONFIG} could not be restored: .*Operation not permitted") as caught:
        node_upgrade.switch_kubelet()
    assert caught.value.details["undone"] is False
    assert (machine.running, machine.text(CONFIG), machine.effective()["cpuManagerPolicy"]) == (OLD, HEAD, "static")


def _broken(machine: Machine) -> Machine:
    """The machine with a new kubelet that does not start."""
    machine.write(f"/source/{NEW}/kubelet", f"kubelet {NEW} broken")
    digest = hashlib.sha256(f"kubelet {NEW} broken".encode()).hexdigest()
    machine.write(f"/source/{NEW}/kubelet.sha256", digest)
    return machine


def _forks(machine: Machine, at: Callable[[int], int | None]) -> BaseException | None:
    """What the kubelet's step ends with if commands cannot be started; the module has ended then."""
    node_upgrade = _at_its_kubelet(machine)
    machine.forks, machine.cannot_fork = 0, at
    ended: BaseException | None = None
    try:
        node_upgrade.switch_kubelet()
    except (TuningError, SystemExit) as error:
        ended = error
    assert machine.running or machine.guards, (ended, machine.forks)
    machine.cannot_fork = lambda _number: None
    return ended


def _fails(error: int, first: int, last: int) -> Callable[[int], int | None]:
    """For commands by number: the error of those from the first to the last."""
    return lambda number: error if first <= number <= last else None


def test_commands_that_cannot_be_started_never_leave_a_stopped_kubelet(
    make_machine: Callable[[str], Machine], sampled: Sampled
) -> None:
    wanted_machine = make_machine("wanted")
    assert _forks(wanted_machine, lambda _number: None) is None
    wanted, commands = _relative(wanted_machine), wanted_machine.forks
    assert commands > 10
    failures: list[tuple[str, Callable[[int], int | None]]] = []
    for at in sampled(range(1, commands + 8)):  # undoing takes more
        failures.append((f"from-{at}", _fails(errno.EAGAIN, at, 10**6)))
        failures.append((f"once-{at}", _fails(errno.EAGAIN, at, at)))
        failures.append((f"missing-{at}", _fails(errno.ENOENT, at, at)))
    for name, cannot_fork in failures:
        machine = make_machine(name)
        _forks(machine, cannot_fork)
        machine.module_ends()
        assert machine.running, name
        machine.upgrade()
        assert (machine.running, _relative(machine)) == (NEW, wanted), name


def test_commands_that_cannot_be_started_while_a_broken_kubelet_is_undone(
    make_machine: Callable[[str], Machine], sampled: Sampled
) -> None:
    first = _broken(make_machine("broken"))
    _forks(first, lambda _number: None)
    for at in sampled(range(1, first.forks + 4)):
        for name, last in (("from", 10**6), ("once", at)):
            machine = _broken(make_machine(f"{name}-{at}"))
            _forks(machine, _fails(errno.EAGAIN, at, last))
            machine.module_ends()
            assert machine.running == OLD, (name, at)
            with refused("upgrade_undone"):
                machine.upgrade()
            assert machine.running == OLD, (name, at)
            assert _kept(machine, CONFIG) == TUNED, (name, at)


def test_the_end_of_the_process_never_leaves_a_stopped_kubelet(
    make_machine: Callable[[str], Machine], sampled: Sampled
) -> None:
    first = make_machine("first")
    _forks(first, lambda _number: None)
    for at in sampled(range(1, first.forks + 1)):
        machine = make_machine(f"exit-{at}")

        def leave(number: int, at: int = at) -> None:
            if number == at:
                raise SystemExit

        assert isinstance(_forks(machine, leave), SystemExit)
        machine.module_ends()
        assert machine.running, at


@pytest.mark.parametrize("name", ["/usr/bin/kubelet", "/var/lib/kubelet/config.yaml"])
def test_files_that_cannot_be_replaced_are_all_told_before_anything_changes(machine: Machine, name: str) -> None:
    os.link(machine.path(name), machine.path("/other"))
    os.link(machine.path("/var/lib/kubelet/kubeadm-flags.env"), machine.path("/flags"))
    before = machine.state()
    with pytest.raises(TuningError) as caught:
        machine.node_upgrade().back_up()
    found = {(problem["code"], problem["subject"]) for problem in caught.value.details["problems"]}
    flags = str(machine.path("/var/lib/kubelet/kubeadm-flags.env"))
    assert found == {("file_has_other_names", str(machine.path(name))), ("file_has_other_names", flags)}
    assert machine.state() == before


def test_a_file_that_became_a_hard_link_is_told_before_the_kubelet_is_stopped(machine: Machine) -> None:
    node_upgrade = _at_its_kubelet(machine)
    os.link(machine.path("/usr/bin/kubelet"), machine.path("/other"))
    before = machine.state()
    with refused("file_has_other_names"):
        node_upgrade.switch_kubelet()
    assert (machine.state(), machine.running, machine.guards) == (before, OLD, [])


def test_a_program_that_is_a_link_stays_one(machine: Machine) -> None:
    real = machine.path("/opt/kubernetes/kubelet")
    real.parent.mkdir(parents=True)
    program = machine.path("/usr/bin/kubelet")
    program.rename(real)
    program.symlink_to(real)
    machine.upgrade()
    assert (machine.running, program.is_symlink(), real.read_text()) == (NEW, True, f"kubelet {NEW}")


def _as_earlier_versions_wrote_it(record: UpgradeRecord) -> dict[str, Any]:
    """The record as the versions before schema 3 wrote it."""
    packages = {
        "packages": {change.name: change.before for change in record.packages or ()},
        "held": [change.name for change in record.packages or () if change.held],
    }
    return {
        "from": record.kubelet_version,
        "to": record.id,
        "begun": record.begun,
        "files": {file.path: file.kept for file in record.files},
        **record.before.to_dict(),
        "kubeadm_began": record.status != PREPARED,
        "verified": record.status == COMMITTED,
        **(packages if record.packages is not None else {}),
    }


@pytest.mark.parametrize("kind", [Machine, PackagedMachine], ids=["programs", "packages"])
@pytest.mark.parametrize("status", [PREPARED, BEGUN, COMMITTED])
def test_the_record_of_an_earlier_version_is_read_and_the_upgrade_continued(
    make_machine: Callable[..., Machine], kind: type[Machine], status: str
) -> None:
    machine = make_machine("node", kind)
    node_upgrade = machine.node_upgrade()
    node_upgrade.back_up()
    node_upgrade.prepare(control_plane=False)
    if status != PREPARED:
        node_upgrade.configure([])
    if status == COMMITTED:
        node_upgrade.switch_kubelet()
    record = _record(machine)
    path = Path(node_upgrade.folder, "record.json")
    path.write_text(json.dumps(_as_earlier_versions_wrote_it(record)))
    assert _record(machine) == replace(record, state_files=(), texts=())
    machine.upgrade()
    assert (machine.running, machine.effective()["cpuManagerPolicy"], _kept(machine, CONFIG)) == (NEW, "static", TUNED)
    assert json.loads(path.read_text())["schema"] == SCHEMA


def test_the_settings_that_an_earlier_version_held_while_packages_were_replaced_are_restored(
    make_packaged: Callable[[str], PackagedMachine],
) -> None:
    machine = make_packaged("node")
    file = machine.path("/etc/default/kubelet")
    Path(package_change.IN_PROGRESS).parent.mkdir(parents=True)
    Path(package_change.IN_PROGRESS).write_text(json.dumps({str(file): OWN_ARGUMENTS, f"{file}.none": None}))
    machine.node_upgrade().back_up()
    assert file.read_text() == OWN_ARGUMENTS


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"schema": 4}, "schema is 4"),
        ({"kind": "switch"}, "not the record of a kind that belongs here, upgrade"),
        ({"status": "undone"}, "status is undone"),
        ({"files": {}}, r"files is \{\}"),
        ({"files": [{"path": 1, "kept": None}]}, "path is 1"),
        ({"before": {}}, "before.settings is missing"),
        ({"more": 1}, "more is unknown"),
    ],
)
def test_a_record_that_is_not_of_this_form_is_refused_before_anything_changes(
    machine: Machine, change: dict[str, Any], said: str
) -> None:
    node_upgrade = machine.node_upgrade()
    node_upgrade.back_up()
    path = Path(node_upgrade.folder, "record.json")
    path.write_text(json.dumps({**json.loads(path.read_text()), **change}))
    before = machine.state()
    with pytest.raises(TuningError, match=rf"record\.json cannot be read .*{said}.*Move that folder") as caught:
        node_upgrade.back_up()
    assert [problem["code"] for problem in caught.value.details["problems"]] == ["upgrade_record_unreadable"]
    assert (machine.state(), machine.running) == (before, OLD)


def test_a_step_without_copies_is_refused(machine: Machine) -> None:
    before = machine.state()
    node_upgrade = machine.node_upgrade()
    steps: tuple[Callable[[], object], ...] = (lambda: node_upgrade.configure([]), node_upgrade.switch_kubelet)
    for step in steps:
        with refused("upgrade_not_prepared"):
            step()
    assert (machine.state(), machine.running) == (before, OLD)


def test_the_old_kubelet_is_restored_by_renames_when_all_disks_are_full(
    machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    node_upgrade = _at_its_kubelet(_broken(machine))
    before = machine.text("/var/lib/kubelet/kubeadm-flags.env")
    boot, opened = machine.boot, os.open

    def no_room(path: str, flags: int, *more: Any, **named: Any) -> int:
        if flags & os.O_CREAT:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return opened(path, flags, *more, **named)

    def fill() -> None:
        monkeypatch.setattr(os, "open", no_room)
        boot()

    machine.boot = fill  # type: ignore[method-assign]
    with refused("upgrade_undone") as caught:
        node_upgrade.switch_kubelet()
    assert caught.value.details["undone"] is True
    assert (machine.running, machine.text("/usr/bin/kubelet")) == (OLD, f"kubelet {OLD}")
    assert machine.text("/var/lib/kubelet/config.yaml") == TUNED
    assert machine.text("/var/lib/kubelet/kubeadm-flags.env") != before == NEW_FLAGS


def test_between_stop_and_start_files_are_only_renamed(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    node_upgrade = _at_its_kubelet(machine)
    run, opened = machine.run, os.open
    down: list[str] = []

    def no_writing(path: str, flags: int, *more: Any, **named: Any) -> int:
        assert not (machine.running is None and flags & os.O_CREAT), f"{path} is written under a stopped kubelet"
        return opened(path, flags, *more, **named)

    def watch(argv: list[str]) -> tuple[int, str, str]:
        down.extend(["stop"] if argv[:2] == ["systemctl", "stop"] else [])
        return run(argv)

    monkeypatch.setattr(os, "open", no_writing)
    monkeypatch.setattr(machine, "run", watch)
    node_upgrade.switch_kubelet()
    assert (machine.running, down[:1]) == (NEW, ["stop"])


@pytest.mark.parametrize("content", [b"", b"null", b"[]", b"\xff", b"[" * 200_000])
def test_a_damaged_record_is_named(machine: Machine, content: bytes) -> None:
    node_upgrade = _at_its_kubelet(machine)
    before = machine.state()
    (Path(node_upgrade.folder) / "record.json").write_bytes(content)
    for step in (node_upgrade.back_up, lambda: node_upgrade.configure([]), node_upgrade.switch_kubelet):
        with pytest.raises(
            TuningError, match=r"record\.json cannot be read as a record of an upgrade .*Move that folder"
        ):
            step()
    assert (machine.state(), machine.running) == (before, OLD)


def test_every_copy_is_on_disk_before_the_record_that_names_it(
    machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    flushed: set[str] = set()
    unsure: set[str] = set()
    replace = os.replace

    def flush(handle: int) -> None:
        path = os.readlink(f"/proc/self/fd/{handle}")
        flushed.add(path)
        unsure.difference_update({name for name in unsure if os.path.dirname(name) == path})

    def rename(old: str, new: str) -> None:
        assert old in flushed, f"{new} may be empty after a power cut"
        assert os.path.basename(new) != "record.json" or not unsure, f"{unsure} may be gone after a power cut"
        replace(old, new)
        unsure.add(new)

    monkeypatch.setattr(os, "fsync", flush)
    monkeypatch.setattr(os, "replace", rename)
    machine.upgrade()
    assert any(path.endswith(".etc-kubernetes.tar.gz.archive.kubepin") for path in flushed)
    assert not unsure


def test_a_source_with_another_program_touches_nothing(machine: Machine) -> None:
    machine.write(f"/source/{NEW}/kubelet", "not what was promised")
    before = machine.state()
    node_upgrade = machine.node_upgrade()
    node_upgrade.back_up()
    with refused("checksum_differs"):
        node_upgrade.prepare(control_plane=False)
    other = f"kubelet {OLD}"
    machine.write(f"/source/{NEW}/kubelet", other)
    machine.write(f"/source/{NEW}/kubelet.sha256", hashlib.sha256(other.encode()).hexdigest())
    with refused("program_of_other_version"):
        node_upgrade.prepare(control_plane=False)
    assert machine.state() == before
    assert machine.text("/usr/bin/kubeadm") == f"kubeadm {OLD}"


def test_a_node_that_was_tuned_after_an_interrupted_run_keeps_the_newer_tuning(machine: Machine) -> None:
    machine.write("/var/lib/kubelet/config.yaml", HEAD, 0o600)
    node_upgrade = machine.node_upgrade()
    node_upgrade.back_up()
    node_upgrade.prepare(control_plane=False)
    machine.run(["systemctl", "stop", "kubelet"])
    machine.path("/var/lib/kubelet/cpu_manager_state").unlink()
    machine.write("/etc/default/kubelet", "KUBELET_EXTRA_ARGS=--cpu-manager-policy=static --reserved-cpus=1\n")
    machine.run(["systemctl", "start", "kubelet"])
    machine.upgrade()
    assert machine.running == NEW
    assert (machine.effective()["cpuManagerPolicy"], machine.effective()["reservedSystemCPUs"]) == ("static", "1")


def test_the_record_says_what_the_upgrade_itself_made_of_the_kubelets_files(machine: Machine) -> None:
    machine.upgrade()
    record = _record(machine)
    written = {change.path: (change.before, change.after) for change in record.texts}
    extra, flags = (str(machine.path(name)) for name in ("/etc/default/kubelet", "/var/lib/kubelet/kubeadm-flags.env"))
    assert written == {
        extra: (None, machine.text("/etc/default/kubelet")),
        flags: (NEW_FLAGS, machine.text("/var/lib/kubelet/kubeadm-flags.env")),
    }


def test_an_interrupted_run_and_the_next_one_are_one_change_of_a_file() -> None:
    first = FileChange("/etc/default/kubelet", "a", "b", "")
    again = FileChange("/etc/default/kubelet", "b", "c", "")
    assert followed([first], [again]) == (FileChange("/etc/default/kubelet", "a", "c", ""),)
    assert followed([first], [first.inverse("")]) == ()
    edited = FileChange("/etc/default/kubelet", "x", "c", "")
    assert followed([first], [edited]) == (edited,), "somebody's edit is not the upgrade's"


def test_a_finished_hop_is_left_alone_and_begins_again_after_the_old_kubelet_was_put_back(machine: Machine) -> None:
    machine.upgrade()
    wanted = machine.state()
    machine.upgrade()
    assert machine.state() == wanted
    again = machine.node_upgrade().switch_kubelet()
    assert (again["changed"], again["downtime_ms"]) == (False, 0.0)
    machine.write("/usr/bin/kubelet", f"kubelet {OLD}", 0o755)
    machine.write("/var/lib/kubelet/kubeadm-flags.env", 'KUBELET_KUBEADM_ARGS="--v=4"\n')
    machine.node_upgrade().back_up()
    record = _record(machine)
    assert (record.kubelet_version, record.status) == (OLD, PREPARED)
    assert _kept(machine, "/var/lib/kubelet/kubeadm-flags.env") == 'KUBELET_KUBEADM_ARGS="--v=4"\n'


def test_that_kubeadm_has_begun_is_known_until_the_new_kubelet_is_verified(
    machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shutil, "which", lambda name: None)  # its programs are of no package

    def began() -> bool:
        found: bool = read_node(machine.module_run, None, ["1.21.14", NEW])["kubeadm_began"]
        return found

    node_upgrade = machine.node_upgrade()
    node_upgrade.back_up()
    node_upgrade.prepare(control_plane=False)
    assert not began()
    node_upgrade.configure([])
    assert began()
    node_upgrade.switch_kubelet()
    assert not began()
    machine.write(f"/var/lib/kubepin/upgrades/{NEW}/record.json", '{"kubeadm_began": true')
    assert not began()


def test_a_flag_that_means_something_stops_the_hop_before_the_kubelet_is_touched(
    machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(node_steps, "WITHOUT_EFFECT", ())
    node_upgrade = machine.node_upgrade()
    node_upgrade.back_up()
    node_upgrade.prepare(control_plane=False)
    node_upgrade.configure([])
    before = machine.state()
    with refused("flags_removed"):
        node_upgrade.switch_kubelet()
    assert (machine.state(), machine.running) == (before, OLD)


UPGRADED = dict.fromkeys((*PROGRAMS, "cri-tools"), (f"hi {NEW}-1.1", NEW))
AS_BEFORE = dict.fromkeys((*PROGRAMS, "cri-tools"), (f"hi {OLD}-00", OLD))
OWN_ARGUMENTS = "KUBELET_EXTRA_ARGS=--v=3\n"


def test_packages_are_replaced_at_once_under_the_stopped_kubelet(
    make_packaged: Callable[[str], PackagedMachine],
) -> None:
    machine = make_packaged("node")
    machine.write("/etc/default/kubelet", OWN_ARGUMENTS)
    node_upgrade = machine.node_upgrade()
    node_upgrade.back_up()
    node_upgrade.prepare(control_plane=False)
    assert (machine.packages(), machine.running) == (AS_BEFORE, OLD), "nothing is installed before the node is drained"
    node_upgrade.configure([])
    node_upgrade.switch_kubelet()
    assert (machine.packages(), machine.running) == (UPGRADED, NEW)
    assert machine.effective()["cpuManagerPolicy"] == "static"
    assert "--v=3" in machine.text("/etc/default/kubelet"), "not the package's own file"
    assert (
        machine.text("/etc/apt/sources.list.d/kubernetes.list")
        == "deb [signed-by=/k.gpg] http://packages/v1.22/deb/ /\n"
    )
    wanted = machine.state()
    again = machine.node_upgrade().switch_kubelet()
    assert (again["changed"], machine.state()) == (False, wanted)


def test_packages_without_kubectl_leave_it_so(
    make_packaged: Callable[[str], PackagedMachine], monkeypatch: pytest.MonkeyPatch
) -> None:
    machine = make_packaged("node")
    monkeypatch.setattr(node_steps, "program_path", lambda name: f"{machine.root}/usr/bin/{name}")
    del machine.database["kubectl"]
    machine.path("/usr/bin/kubectl").unlink()
    machine.path(f"/repository/kubectl_{NEW}.deb").unlink()
    machine.upgrade()
    assert (machine.running, "kubectl" in machine.database) == (NEW, False)


def _breaking(machine: PackagedMachine) -> PackagedMachine:
    machine.write(f"/repository/kubelet_{NEW}.deb", machine.deb("kubelet", NEW, " broken"))
    machine.write("/repository/conntrack_1.deb", machine.deb("conntrack", NEW))
    return machine


def test_a_broken_package_is_undone_with_all_packages_and_goes_on_once_mended(
    make_packaged: Callable[[str], PackagedMachine],
) -> None:
    machine = _breaking(make_packaged("node"))
    before = machine.state()
    with refused("upgrade_undone"):
        machine.upgrade()
    assert (machine.packages(), machine.running) == (AS_BEFORE, OLD), "a package that came along is gone again"
    assert machine.state() == before
    machine.write(f"/repository/kubelet_{NEW}.deb", machine.deb("kubelet", NEW))
    machine.upgrade()
    assert machine.running == NEW
    assert machine.packages() == {**UPGRADED, "conntrack": (f"ii {NEW}-1.1", NEW)}


def test_packages_that_cannot_be_put_back_are_named_and_the_old_kubelet_runs(
    make_packaged: Callable[[str], PackagedMachine], monkeypatch: pytest.MonkeyPatch
) -> None:
    machine = _breaking(make_packaged("node"))
    real = machine._dpkg

    def once(arguments: list[str]) -> None:
        if any("/packages/kubelet.deb" in word and "/new/" not in word for word in arguments):
            raise OSError("dpkg: error: database area is read-only")
        real(arguments)

    monkeypatch.setattr(machine, "_dpkg", once)
    with pytest.raises(TuningError, match="read-only") as caught:
        machine.upgrade()
    assert [problem.code for problem in caught.value.problems][1:] == [
        "package_command_failed",
        "packages_not_restored",
        "upgrade_undone",
    ]
    assert machine.running == OLD
    assert caught.value.details["undone"] is True
    assert machine.text(CONFIG) == TUNED
    machine.node_upgrade().back_up()
    assert machine.text(CONFIG) == TUNED, "the next run restores the settings of before, not those of the new version"


def test_a_lock_that_somebody_holds_is_waited_for(
    make_packaged: Callable[[str], PackagedMachine], monkeypatch: pytest.MonkeyPatch
) -> None:
    machine = make_packaged("node")
    real, tries = machine._dpkg, []

    def busy(arguments: list[str]) -> None:
        tries.append(machine.clock)
        if len(tries) < 3:
            raise OSError("dpkg frontend lock was locked by another process with pid 1")
        real(arguments)

    monkeypatch.setattr(machine, "_dpkg", busy)
    machine.upgrade()
    assert (machine.running, len(tries)) == (NEW, 3)


def _at_its_kubelet(machine: Machine) -> Hop:
    """The machine's node_upgrade, with all done that comes before its kubelet."""
    node_upgrade = machine.node_upgrade()
    node_upgrade.back_up()
    node_upgrade.prepare(control_plane=False)
    node_upgrade.configure([])
    return node_upgrade


def _next_run(machine: PackagedMachine) -> None:
    machine.database = json.loads(machine.text("/var/lib/dpkg/status"))
    machine.upgrade()


def test_killed_while_packages_are_fetched_and_kept_nothing_is_installed_and_the_kept_ones_are_the_old_ones(
    make_packaged: Callable[[str], PackagedMachine], trouble: Callable[..., int], sampled: Sampled
) -> None:
    def prepare(machine: PackagedMachine) -> None:
        machine.node_upgrade().prepare(control_plane=False)

    first = make_packaged("untroubled")
    first.node_upgrade().back_up()
    operations = trouble(first.root, 0, Killed(), lambda: prepare(first), True)
    assert operations > 10
    for number in sampled(range(1, operations + 1)):
        machine = make_packaged(f"killed-{number}")
        machine.node_upgrade().back_up()
        with pytest.raises(Killed):
            trouble(machine.root, number, Killed(), lambda machine=machine: prepare(machine), True)
        assert (machine.packages(), machine.running) == (AS_BEFORE, OLD), number
        prepare(machine)
        kept = [json.loads(path.read_text()) for path in Path(machine.node_upgrade().folder, "packages").glob("*.deb")]
        assert {deb["name"]: deb["version"] for deb in kept} == dict.fromkeys(AS_BEFORE, f"{OLD}-00"), number


def test_killed_at_any_operation_of_the_kubelet_the_next_run_ends_with_all_packages(
    make_packaged: Callable[[str], PackagedMachine], trouble: Callable[..., int], sampled: Sampled
) -> None:
    first = make_packaged("untroubled")
    operations = trouble(first.root, 0, Killed(), _at_its_kubelet(first).switch_kubelet, True)
    wanted = _relative(first)
    assert operations > 20
    for number in sampled(range(1, operations + 1)):
        machine = make_packaged(f"killed-{number}")
        node_upgrade = _at_its_kubelet(machine)
        with pytest.raises(Killed):
            trouble(machine.root, number, Killed(), node_upgrade.switch_kubelet, True)
        machine.power_on()
        assert machine.running or Path(package_change.IN_PROGRESS).exists(), number
        _next_run(machine)
        assert (machine.running, machine.packages(), _relative(machine)) == (NEW, UPGRADED, wanted), number
        assert not Path(package_change.IN_PROGRESS).exists()


def test_killed_with_a_broken_package_the_next_run_undoes_all_of_them(
    make_packaged: Callable[[str], PackagedMachine], trouble: Callable[..., int], sampled: Sampled
) -> None:
    def undoes(operation: Callable[[], object]) -> None:
        with refused("upgrade_undone"):
            operation()

    first = _breaking(make_packaged("first"))
    node_upgrade = _at_its_kubelet(first)
    operations = trouble(first.root, 0, Killed(), lambda: undoes(node_upgrade.switch_kubelet), True)
    for number in sampled(range(1, operations + 1)):
        machine = _breaking(make_packaged(f"broken-{number}"))
        before = _relative(machine)
        node_upgrade = _at_its_kubelet(machine)
        with pytest.raises(Killed):
            trouble(machine.root, number, Killed(), node_upgrade.switch_kubelet, True)
        undoes(partial(_next_run, machine))
        assert (machine.running, machine.packages(), _relative(machine)) == (OLD, AS_BEFORE, before), number
