# SPDX-License-Identifier: GPL-3.0-or-later
"""The steps of an upgrade on one machine. Each step is idempotent."""

from __future__ import annotations

import contextlib
import os
import shutil
import tarfile
import time
import typing as t
from dataclasses import asdict, replace

from ansible_collections.kubepin.tuning.plugins.module_utils.common.errors import TuningError, causes, output_tail
from ansible_collections.kubepin.tuning.plugins.module_utils.common.kubelet.flags import flag_value
from ansible_collections.kubepin.tuning.plugins.module_utils.common.layout import KUBERNETES, UPGRADES
from ansible_collections.kubepin.tuning.plugins.module_utils.common.problem import Problem
from ansible_collections.kubepin.tuning.plugins.module_utils.common.switch import problems
from ansible_collections.kubepin.tuning.plugins.module_utils.common.switch.changes import FileChange, KubeletState
from ansible_collections.kubepin.tuning.plugins.module_utils.common.upgrade.flags import (
    WITHOUT_EFFECT,
    unknown_flag,
    without_flags,
)
from ansible_collections.kubepin.tuning.plugins.module_utils.node.commands import Run
from ansible_collections.kubepin.tuning.plugins.module_utils.node.readers.kubeadm import (
    FLAGS_FILE,
    MANIFESTS,
    program_path,
    program_version,
)
from ansible_collections.kubepin.tuning.plugins.module_utils.node.readers.kubelet import read_sources
from ansible_collections.kubepin.tuning.plugins.module_utils.node.transaction.changes import (
    Change,
    CopiedFile,
    ProgramChange,
    TextChange,
)
from ansible_collections.kubepin.tuning.plugins.module_utils.node.transaction.files import (
    durable_rename,
    make_directory,
    sync_file,
)
from ansible_collections.kubepin.tuning.plugins.module_utils.node.transaction.journal import Entry
from ansible_collections.kubepin.tuning.plugins.module_utils.node.transaction.records import (
    BEGUN,
    COMMITTED,
    PREPARED,
    KeptFile,
    PackageChange,
    Snapshot,
    UpgradeRecord,
)
from ansible_collections.kubepin.tuning.plugins.module_utils.node.transaction.system import Node
from ansible_collections.kubepin.tuning.plugins.module_utils.node.transaction.transaction import (
    Transaction,
    followed,
    merged,
)
from ansible_collections.kubepin.tuning.plugins.module_utils.node.transaction.undoing import (
    Undoing,
    undone_on_failure,
)
from ansible_collections.kubepin.tuning.plugins.module_utils.node.upgrade import problems as upgrade_problems
from ansible_collections.kubepin.tuning.plugins.module_utils.node.upgrade.etcd import save_snapshot
from ansible_collections.kubepin.tuning.plugins.module_utils.node.upgrade.package_change import (
    PackageReplacement,
    restore_settings,
)
from ansible_collections.kubepin.tuning.plugins.module_utils.node.upgrade.packages import (
    Packages,
    empty_directory,
    packages_here,
)
from ansible_collections.kubepin.tuning.plugins.module_utils.node.upgrade.record import read_entry, record_path
from ansible_collections.kubepin.tuning.plugins.module_utils.node.upgrade.source import (
    PROGRAMS,
    Source,
    archives_of,
    images_in,
    stage,
)
from ansible_collections.kubepin.tuning.plugins.module_utils.node.upgrade.targets import upgrade_obstacles

Data = t.Dict[str, t.Any]
_SPACE = ["--namespace", "k8s.io"]
_DRAFT = "new"
"""The name of the drafts that replace files under the stopped kubelet."""


class KubeadmOptions(t.NamedTuple):
    """What the operator gives to `kubeadm upgrade`."""

    ignore_preflight_errors: t.Sequence[str] = ()
    patches_directory: t.Optional[str] = None

    def arguments(self) -> t.List[str]:
        """As kubeadm takes them."""
        arguments = []
        if self.ignore_preflight_errors:
            arguments.append(f"--ignore-preflight-errors={','.join(self.ignore_preflight_errors)}")
        if self.patches_directory:
            arguments.append(f"--patches={self.patches_directory}")
        return arguments


class NodeUpgrade:
    """The upgrade of one machine to one version. Backups of everything that it replaces are in `folder`."""

    def __init__(self, node: Node, run: Run, version: str, source: Source, timeout: float) -> None:
        self._node = node
        self._run = run
        self.version = version
        self._source = source
        self._timeout = timeout
        self.folder = f"{UPGRADES}/{version}"
        self._staged = f"{self.folder}/new"
        self._packages = packages_here(run, source.packages) if source.packages else None
        self._new_packages = f"{self._staged}/packages"
        self._old_packages = f"{self.folder}/packages"

    # Backups

    def back_up(self, before: KubeletState) -> Data:
        """Back up the programs, the kubelet's files and settings, /etc/kubernetes, and on a control plane node etcd.

        Each run renews the backups until kubeadm has started; after that they stay as they are. A finished upgrade
        whose kubelet was downgraded since starts over.
        """
        self._make_folder()
        self._restore_settings()
        entry = read_entry(self._node, self.folder)
        record = entry.record if entry else None
        kubelet = read_sources(self._run)
        begins = (
            record is None
            or record.status == PREPARED
            or (record.status == COMMITTED and kubelet["version"] != self.version)
        )
        if record is None or begins:
            record = self._copies(kubelet, before)
        taken = os.path.exists(f"{MANIFESTS}/etcd.yaml") and record.status == PREPARED
        if taken:
            path = f"{self.folder}/etcd-snapshot.db"
            record = replace(record, etcd_snapshot=Snapshot(path, save_snapshot(path)))
        entry = Entry(self._node, record_path(self.folder), record)
        with _room_for(entry.path):
            entry.save()
        return {
            "changed": begins or taken,
            "etcd_snapshot": asdict(record.etcd_snapshot) if record.etcd_snapshot else None,
        }

    def _copies(self, kubelet: t.Mapping[str, t.Any], before: KubeletState) -> UpgradeRecord:
        """Copy what the upgrade replaces, and return the record of that."""
        self._refuse_obstacles(kubelet)
        for path, program in ((program_path(program), program) for program in PROGRAMS):
            # a killed run may have installed the new one, but only after it had copied the old one
            if program_version(self._run, path) != self.version or not os.path.exists(f"{self.folder}/{program}"):
                self._keep(path, program)
        repositories = self._packages.repository_files(self.version) if self._packages else ()
        config = flag_value(kubelet["configured_command_line"], "config")
        paths = filter(None, (config, FLAGS_FILE, kubelet["extra_args_file"], *repositories))
        files = tuple(KeptFile(path, self._keep(path, path.strip("/").replace("/", "-"))) for path in paths)
        self._archive_kubernetes()
        return UpgradeRecord(
            id=self.version,
            status=PREPARED,
            kubelet_version=kubelet["version"],
            begun=time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
            files=files,
            before=before,
        )

    def _refuse_obstacles(self, kubelet: t.Mapping[str, t.Any]) -> None:
        found = upgrade_obstacles(self._node, kubelet["configured_command_line"], packaged=self._packages is not None)
        if found:
            raise TuningError(*found)

    def _make_folder(self) -> None:
        try:
            make_directory(self._staged, mode=0o700)
        except OSError as exc:
            raise TuningError(upgrade_problems.folder_not_made(self._staged, str(exc))) from exc

    def _keep(self, path: str, name: str) -> t.Optional[str]:
        """Back up a file and return the path of the copy; None if there is no such file."""
        if not os.path.exists(path):
            return None
        kept = f"{self.folder}/{name}"
        self._copy(path, kept)
        return kept

    def _copy(self, origin: str, path: str, like: t.Optional[str] = None) -> None:
        with _room_for(path):
            self._node.copy(origin, path, like)

    def _archive_kubernetes(self) -> None:
        path = f"{self.folder}/etc-kubernetes.tar.gz"
        with _room_for(path), self._node.replacing(path, 0o600, name="archive") as file, _archive(file) as archive:
            archive.add(KUBERNETES, filter=lambda info: None if info.name.startswith("etc/kubernetes/tmp/") else info)

    def _entry(self) -> Entry[UpgradeRecord]:
        """:raises TuningError: if the record is missing or cannot be read"""
        entry = read_entry(self._node, self.folder)
        if entry is None:
            raise TuningError(problems.upgrade_not_prepared(record_path(self.folder)))
        return entry

    def _restore_settings(self) -> None:
        with _room_for("a file with the kubelet's settings"):
            restore_settings(self._node)

    # Programs and images

    def prepare(self, control_plane: bool) -> Data:
        """Fetch and verify the programs, load the images, install kubeadm.

        Packages are installed all at once, in the kubelet's step, because kubeadm's package changes the unit files of
        a kubelet that still runs. Until then kubeadm runs from the folder where it was unpacked.
        """
        self._make_folder()
        for program in self._fetch():
            path = f"{self._staged}/{program}"
            version = program_version(self._run, path)
            if version != self.version:
                raise TuningError(upgrade_problems.program_of_other_version(program, self.version, version or "", path))
        loaded = self._load_images(control_plane)
        installed = not self._packages and self._install("kubeadm")
        return {"changed": bool(loaded) or installed, "loaded": loaded}

    def _fetch(self) -> t.Sequence[str]:
        """Fetch the new programs or packages, back up the old packages, and return the names of the new programs."""
        if not self._packages:
            for program in PROGRAMS:
                stage(self._source, self.version, program, self._staged)
            return PROGRAMS
        entry = self._entry()
        known = [change.name for change in entry.record.packages or ()]
        names = [name for name in PROGRAMS if name in (known or self._packages.installed())]
        try:
            self._fetch_packages(self._packages, names, entry)
        except OSError as exc:
            raise TuningError(upgrade_problems.packages_not_put(self.version, self.folder, str(exc))) from exc
        return names

    def _fetch_packages(self, packages: Packages, names: t.Sequence[str], entry: Entry[UpgradeRecord]) -> None:
        known = entry.record.packages
        packages.fetch(names, self.version, self._new_packages)
        files = packages.files_in(self._new_packages)
        with empty_directory(f"{self._staged}/.unpacked") as root:
            for name in names:
                packages.extract(files[name], root)
                durable_rename(f"{root}/usr/bin/{name}", f"{self._staged}/{name}")
        if known is None:
            shutil.rmtree(self._old_packages, ignore_errors=True)
        make_directory(self._old_packages, mode=0o700)
        seen = {change.name for change in known or ()}
        versions = {name: packages.version_of(name) for name in files if name not in seen}
        packages.keep([name for name, version in versions.items() if version], self._old_packages)
        for name in self._node.names(self._old_packages):
            sync_file(f"{self._old_packages}/{name}")
        held = packages.held(versions)
        new = (PackageChange(name, version, name in held) for name, version in versions.items())
        entry.update(packages=(*(known or ()), *new))

    def _load_images(self, control_plane: bool) -> t.List[str]:
        loaded = []
        for archive in archives_of(self._source, self.version, control_plane):
            code, output, errors = self._run(["ctr", *_SPACE, "images", "list", "-q"])
            if code == 0 and set(images_in(archive)) <= set(output.split()):
                continue
            code, output, errors = self._run(["ctr", *_SPACE, "images", "import", archive])
            if code != 0:
                raise TuningError(upgrade_problems.images_not_loaded(archive, output_tail(output, errors)))
            loaded.append(archive)
        return loaded

    def _install(self, program: str) -> bool:
        """Install a staged program atomically."""
        path, staged = program_path(program), f"{self._staged}/{program}"
        if program_version(self._run, path) == self.version:
            return False
        self._copy(staged, path, like=path if os.path.exists(path) else staged)
        return True

    # kubeadm

    def apply(self, options: KubeadmOptions, pins: t.Sequence[FileChange]) -> Data:
        """`kubeadm upgrade apply` on the first control plane node."""
        return self._kubeadm(["apply", f"v{self.version}", "--yes"], options, pins)

    def configure(self, options: KubeadmOptions, pins: t.Sequence[FileChange]) -> Data:
        """`kubeadm upgrade node`: further control plane nodes and workers."""
        return self._kubeadm(["node"], options, pins)

    def _kubeadm(self, arguments: t.List[str], options: KubeadmOptions, pins: t.Sequence[FileChange]) -> Data:
        """Run kubeadm.

        :param pins: put the settings where kubeadm does not write. They come first: a kubelet that starts when kubeadm
            has dropped the settings from its configuration file would refuse its own state file.
        """
        entry = self._entry()
        record = entry.record
        if record.status == PREPARED:
            with _room_for(entry.path):
                entry.update(status=BEGUN)
        self._write(entry, pins)
        program = f"{self._staged}/kubeadm" if self._packages else program_path("kubeadm")
        command = [program, "upgrade", *arguments, *options.arguments()]
        code, output, errors = self._run(command)
        if code != 0:
            raise TuningError(
                upgrade_problems.kubeadm_failed(" ".join(command), output_tail(output, errors), self._way_back(record)),
                kubeadm_output=output.splitlines()[-60:],
            )
        return {"changed": True, "settings": dict(record.before.settings)}

    def write(self, changes: t.Sequence[FileChange]) -> None:
        """Write the kubelet's files; the kubelet is not restarted."""
        self._write(self._entry(), changes)

    def _write(self, entry: Entry[UpgradeRecord], changes: t.Sequence[FileChange]) -> None:
        with _room_for(entry.path):
            entry.update(texts=followed(entry.record.texts, changes))
        for change in changes:
            self._put(change)

    def _way_back(self, record: UpgradeRecord) -> str:
        snapshot = record.etcd_snapshot
        parts = [f"the copies of before are in {self.folder} (etc-kubernetes.tar.gz, programs, the kubelet's files)"]
        if snapshot:
            parts.append(f"etcd's snapshot is {snapshot.path} ({snapshot.bytes} bytes; `etcdutl snapshot restore`)")
        return "; ".join(parts) + "."

    def _put(self, change: FileChange) -> None:
        with _room_for(change.path):
            if change.after is None:
                self._node.remove(change.path)
            else:
                self._node.replace(change.path, change.after)

    # The kubelet

    def switch_kubelet(self, after: KubeletState) -> Data:
        """Install kubelet and kubectl, restart and verify, or undo; does nothing if the version runs and was
        verified.

        :param after: the state that the new kubelet must show
        """
        entry = self._entry()
        kubectl = not self._packages and self._install("kubectl")
        transaction = Transaction(self._node, after.endpoint, self._timeout)
        kubelet = read_sources(self._run)
        environment = self._without_dropped_flags(kubelet)
        if entry.record.status == COMMITTED and not environment and self._runs_already():
            transaction.clean((), self._files_before(entry.record))  # of a run that was killed after its commit
            return {"changed": kubectl, "verified": [], "downtime_ms": 0.0}
        self._refuse_obstacles(kubelet)
        changes: t.List[Change] = [
            *(TextChange(change, _DRAFT) for change in environment),
            *self._program_changes(entry.record),
        ]
        with self._node.guarded():
            removed_earlier = entry.record.state_files
            self._prepare(transaction, entry, environment, changes, after)
            with undone_on_failure(lambda exc: self._undone(entry.record, changes, after, exc)):
                outcome = transaction.carry_out(entry, changes, after.state, removed_earlier)
            with _room_for(entry.path):
                entry.update(status=COMMITTED)
            transaction.clean(changes, self._files_before(entry.record))
        return {
            "changed": True,
            "verified": [f"kubelet {self.version}", *outcome.verified],
            "downtime_ms": round(outcome.downtime_ms, 1),
            "started_at": outcome.started_at,
            "dropped_flags": [change.reason for change in environment],
        }

    def _prepare(
        self,
        transaction: Transaction,
        entry: Entry[UpgradeRecord],
        environment: t.Sequence[FileChange],
        changes: t.Sequence[Change],
        after: KubeletState,
    ) -> None:
        """:raises TuningError: if something cannot be written; the kubelet was not touched then"""
        path = entry.path
        try:
            entry.update(
                state_files=merged(entry.record.state_files, transaction.refused_state_files(after.state)),
                texts=followed(entry.record.texts, environment),
            )
            transaction.prepare(changes, self._files_before(entry.record))
        except OSError as exc:
            raise TuningError(
                upgrade_problems.kubelet_file_not_writable(exc.filename or path, str(exc.strerror))
            ) from exc

    def _program_changes(self, record: UpgradeRecord) -> t.List[Change]:
        if not self._packages:
            path = program_path("kubelet")
            if program_version(self._run, path) == self.version:
                return []
            return [ProgramChange(path, f"{self._staged}/kubelet", _DRAFT)]
        repositories = [
            FileChange(path, self._node.read(path), text, path)
            for path, text in self._packages.repository_files(self.version).items()
        ]
        return [
            self._replacement(self._packages, record),
            *(TextChange(change, _DRAFT) for change in repositories),
        ]

    def _replacement(self, packages: Packages, record: UpgradeRecord) -> PackageReplacement:
        settings = tuple(file.path for file in record.files)
        return PackageReplacement(
            packages, self._node, self._new_packages, self._old_packages, record.packages or (), settings
        )

    def _files_before(self, record: UpgradeRecord) -> t.List[CopiedFile]:
        """What is restored if the new kubelet does not run."""
        return [
            CopiedFile(program_path("kubelet"), f"{self.folder}/kubelet"),
            *(CopiedFile(file.path, file.kept) for file in record.files),
        ]

    def _runs_already(self) -> bool:
        state = self._node.service_state()
        if state["ActiveState"] != "active" or state["SubState"] != "running" or state["MainPID"] == "0":
            return False
        code, output, _errors = self._run([f"/proc/{state['MainPID']}/exe", "--version"])
        installed = program_version(self._run, program_path("kubelet"))
        return code == 0 and output.strip().endswith(f"v{self.version}") and installed == self.version

    def _without_dropped_flags(self, kubelet: t.Mapping[str, t.Any]) -> t.List[FileChange]:
        """The changes to environment files that the new kubelet needs to accept its command line; it is run to find
        out.

        :raises TuningError: for flags whose removal would change behaviour; nothing was changed then
        """
        arguments = list(kubelet["configured_command_line"][1:])
        dropped: t.List[str] = []
        while True:
            code, output, errors = self._run([f"{self._staged}/kubelet", *arguments, "--version"])
            name = unknown_flag(output + errors)
            if code == 0 or name is None or name in dropped:
                break
            dropped.append(name)
            arguments = [word for word in arguments if word.lstrip("-").partition("=")[0] != name]
        needed = [name for name in dropped if name not in WITHOUT_EFFECT]
        if needed:
            raise TuningError(upgrade_problems.flags_removed(self.version, needed))
        changes = []
        for path in (FLAGS_FILE, kubelet["extra_args_file"]):
            text = self._node.read(path) if path else None
            after = without_flags(text, dropped) if text is not None and dropped else text
            if after != text:
                changes.append(FileChange(path, text, after, f"{path}: without --{', --'.join(dropped)}"))
        return changes

    def _undone(
        self, record: UpgradeRecord, changes: t.Sequence[Change], after: KubeletState, exc: BaseException
    ) -> TuningError:
        """Restore the old kubelet and its files; returns one error that says what happened and what is in place now."""
        before = replace(record.before.state, online=after.state.online)
        transaction = Transaction(self._node, record.before.endpoint, self._timeout)
        way_back = self._way_back(record)
        replacement = (
            self._replacement(self._packages, record) if self._packages and record.packages is not None else None
        )
        not_restored: t.List[Problem] = []

        def restore_packages() -> None:
            try:
                if replacement:
                    replacement.undo()
            except (TuningError, OSError) as second:
                not_restored.extend((*causes(second), upgrade_problems.packages_not_restored(self._old_packages)))

        try:
            outcome = transaction.undo(self._files_before(record), before, Undoing(), restore_packages)
        except Exception as second:
            return TuningError(
                *causes(exc),
                *causes(second),
                upgrade_problems.upgrade_not_undone(self.version, str(record.kubelet_version), way_back),
                undone=False,
            )
        finally:
            if replacement and not_restored:  # else the next run would restore the settings of the new version
                with contextlib.suppress(OSError):
                    replacement.hold_settings()
        transaction.clean(changes, ())
        return TuningError(
            *causes(exc),
            *not_restored,
            upgrade_problems.upgrade_undone(self.version, str(record.kubelet_version), outcome.verified, way_back),
            undone=True,
        )


def _archive(file: t.BinaryIO) -> tarfile.TarFile:
    return tarfile.open(fileobj=file, mode="w:gz")


@contextlib.contextmanager
def _room_for(path: str) -> t.Iterator[None]:
    """:raises TuningError: if the file cannot be written"""
    try:
        yield
    except OSError as exc:
        raise TuningError(upgrade_problems.no_room(path, str(exc))) from exc
