# SPDX-License-Identifier: GPL-3.0-or-later
"""The steps of an upgrade on one machine. Each step is idempotent."""

from __future__ import annotations

import contextlib
import filecmp
import json
import os
import shutil
import tarfile
import time
import typing as t
from dataclasses import asdict, dataclass, replace

from ansible_collections.kubepin.tuning.plugins.module_utils.common.errors import TuningError, output_tail
from ansible_collections.kubepin.tuning.plugins.module_utils.common.kubelet.flags import flag_value
from ansible_collections.kubepin.tuning.plugins.module_utils.common.layout import KUBERNETES, UPGRADE_RECORD, UPGRADES
from ansible_collections.kubepin.tuning.plugins.module_utils.common.switch.changes import (
    DesiredState,
    Endpoint,
    FileChange,
    state_changes,
)
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
from ansible_collections.kubepin.tuning.plugins.module_utils.node.transaction.files import (
    durable_rename,
    make_directory,
    sync_file,
)
from ansible_collections.kubepin.tuning.plugins.module_utils.node.transaction.journal import read_object
from ansible_collections.kubepin.tuning.plugins.module_utils.node.transaction.switch import (
    Outcome,
    Verification,
)
from ansible_collections.kubepin.tuning.plugins.module_utils.node.transaction.system import Node
from ansible_collections.kubepin.tuning.plugins.module_utils.node.transaction.undoing import (
    Undoing,
    undone_on_failure,
)
from ansible_collections.kubepin.tuning.plugins.module_utils.node.upgrade.etcd import save_snapshot
from ansible_collections.kubepin.tuning.plugins.module_utils.node.upgrade.packages import (
    IN_PROGRESS,
    Packages,
    empty_directory,
    packages_here,
)
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


@dataclass(frozen=True)
class KubeletState:
    """What only the control node can read from the kubelet's configuration."""

    settings: t.Mapping[str, t.Any]
    """The effective settings that kubepin manages."""
    state: DesiredState
    """The state that the kubelet shows with them."""
    endpoint: Endpoint

    @classmethod
    def from_dict(cls, data: t.Mapping[str, t.Any]) -> KubeletState:
        """The state that `dataclasses.asdict` and `DesiredState.to_dict` wrote."""
        return cls(data["settings"], DesiredState.from_dict(data["state"]), Endpoint(**data["endpoint"]))


def _same(one: str, other: str) -> bool:
    """Whether both exist with the same content, owner and mode."""
    try:
        first, second = os.stat(one), os.stat(other)
    except FileNotFoundError:
        return False
    return (first.st_uid, first.st_gid, first.st_mode) == (
        second.st_uid,
        second.st_gid,
        second.st_mode,
    ) and filecmp.cmp(one, other, shallow=False)


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
        self._record_path = f"{self.folder}/{UPGRADE_RECORD}"
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
        self._put_settings_back()
        record = self._record()
        kubelet = read_sources(self._run)
        begins = not record.get("kubeadm_began") or (record.get("verified") and kubelet["version"] != self.version)
        if begins:
            self._refuse_obstacles(kubelet)
            for path, program in ((program_path(program), program) for program in PROGRAMS):
                if program_version(self._run, path) != self.version:  # a killed run may have installed the new one
                    self._keep(path, program)
            repositories = self._packages.repository_files(self.version) if self._packages else ()
            paths = filter(
                None,
                (
                    flag_value(kubelet["configured_command_line"], "config"),
                    FLAGS_FILE,
                    kubelet["extra_args_file"],
                    *repositories,
                ),
            )
            files = {path: self._keep(path, path.strip("/").replace("/", "-")) for path in paths}
            self._archive_kubernetes()
            record = {
                "from": kubelet["version"],
                "to": self.version,
                "begun": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
                "files": files,
                "settings": dict(before.settings),
                "state": before.state.to_dict(),
                "endpoint": asdict(before.endpoint),
                "kubeadm_began": False,
                "verified": False,
            }
        snapshot = f"{self.folder}/etcd-snapshot.db"
        taken = os.path.exists(f"{MANIFESTS}/etcd.yaml") and not record["kubeadm_began"]
        if taken:
            record["etcd_snapshot"] = {"path": snapshot, "bytes": save_snapshot(snapshot)}
        self._save(record)
        return {"changed": bool(begins or taken), "etcd_snapshot": record.get("etcd_snapshot")}

    def _refuse_obstacles(self, kubelet: t.Mapping[str, t.Any]) -> None:
        found = upgrade_obstacles(self._node, kubelet["configured_command_line"], packaged=self._packages is not None)
        if found:
            raise TuningError.of(found)

    def _make_folder(self) -> None:
        try:
            make_directory(self._staged, mode=0o700)
        except OSError as exc:
            raise TuningError(
                f"{self._staged} cannot be made: {exc}. Make room there, and run the playbook again."
            ) from exc

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

    def _record(self) -> Data:
        return self._object(
            self._record_path,
            f"It says which copies in {self.folder} are those of before the upgrade. Move that folder away only if this "
            "node runs its old version.",
        )

    def _object(self, path: str, remedy: str) -> Data:
        """The JSON object in a file; empty if there is no such file.

        :raises TuningError: if it is anything else
        """
        if not os.path.lexists(path):
            return {}
        try:
            return read_object(self._node, path)
        except ValueError as exc:
            raise TuningError(f"{path} cannot be read as a record of an upgrade ({exc}). {remedy}") from exc

    def _save(self, record: Data) -> None:
        text = json.dumps(record, indent=1, sort_keys=True) + "\n"
        self._put(FileChange(self._record_path, None, text, "record"), mode=0o600)

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
                raise TuningError(
                    f"the {program} that the source has for {self.version} says that it is {version or 'nothing'}: `{path}` does not "
                    "run, or is another version. Correct the source. The installed programs were not touched."
                )
        loaded = self._load_images(control_plane)
        installed = not self._packages and self._install("kubeadm")
        return {"changed": bool(loaded) or installed, "loaded": loaded}

    def _fetch(self) -> t.Sequence[str]:
        """Fetch the new programs or packages, back up the old packages, and return the names of the new programs."""
        if not self._packages:
            for program in PROGRAMS:
                stage(self._source, self.version, program, self._staged)
            return PROGRAMS
        known = self._record().get("packages")
        names = [name for name in PROGRAMS if name in (known or self._packages.installed())]
        try:
            self._fetch_packages(self._packages, names)
        except OSError as exc:
            raise TuningError(
                f"the packages of {self.version} cannot be put into {self.folder}: {exc}. Make room there, and run the playbook again. "
                "Nothing was installed."
            ) from exc
        return names

    def _fetch_packages(self, packages: Packages, names: t.Sequence[str]) -> None:
        record = self._record()
        known = record.get("packages")
        packages.fetch(names, self.version, self._new_packages)
        files = packages.files_in(self._new_packages)
        with empty_directory(f"{self._staged}/.unpacked") as root:
            for name in names:
                packages.extract(files[name], root)
                durable_rename(f"{root}/usr/bin/{name}", f"{self._staged}/{name}")
        if known is None:
            shutil.rmtree(self._old_packages, ignore_errors=True)
        make_directory(self._old_packages, mode=0o700)
        versions = {name: packages.version_of(name) for name in files if name not in (known or {})}
        packages.keep([name for name, version in versions.items() if version], self._old_packages)
        for name in self._node.names(self._old_packages):
            sync_file(f"{self._old_packages}/{name}")
        held = record["held"] if known is not None else packages.held(files)
        self._save({**record, "packages": {**(known or {}), **versions}, "held": held})

    def _load_images(self, control_plane: bool) -> t.List[str]:
        loaded = []
        for archive in archives_of(self._source, self.version, control_plane):
            code, output, errors = self._run(["ctr", *_SPACE, "images", "list", "-q"])
            if code == 0 and set(images_in(archive)) <= set(output.split()):
                continue
            code, output, errors = self._run(["ctr", *_SPACE, "images", "import", archive])
            if code != 0:
                raise TuningError(f"the images in {archive} cannot be loaded: {output_tail(output, errors)}")
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

    def apply(self, ignore_preflight_errors: t.Sequence[str], pins: t.Sequence[FileChange]) -> Data:
        """`kubeadm upgrade apply` on the first control plane node."""
        return self._kubeadm(["apply", f"v{self.version}", "--yes"], ignore_preflight_errors, pins)

    def configure(self, ignore_preflight_errors: t.Sequence[str], pins: t.Sequence[FileChange]) -> Data:
        """`kubeadm upgrade node`: further control plane nodes and workers."""
        return self._kubeadm(["node"], ignore_preflight_errors, pins)

    def _kubeadm(
        self, arguments: t.List[str], ignore_preflight_errors: t.Sequence[str], pins: t.Sequence[FileChange]
    ) -> Data:
        """Run kubeadm.

        :param pins: put the settings where kubeadm does not write. They come first: a kubelet that starts when kubeadm
            has dropped the settings from its configuration file would refuse its own state file.
        """
        record = self._record()
        record["kubeadm_began"] = True
        self._save(record)
        self.write(pins)
        command = [f"{self._staged}/kubeadm" if self._packages else program_path("kubeadm"), "upgrade", *arguments]
        if ignore_preflight_errors:
            command.append(f"--ignore-preflight-errors={','.join(ignore_preflight_errors)}")
        code, output, errors = self._run(command)
        if code != 0:
            raise TuningError(
                f"`{' '.join(command)}` failed: {output_tail(output, errors)} kubeadm puts the old manifests back where it can. Going on: "
                "remove the cause and run the playbook again, it continues here. Going back: " + self._way_back(record),
                kubeadm_output=output.splitlines()[-60:],
            )
        return {"changed": True, "settings": record["settings"]}

    def write(self, changes: t.Sequence[FileChange]) -> None:
        """Write the kubelet's files; the kubelet is not restarted."""
        for change in changes:
            self._put(change)

    def _way_back(self, record: Data) -> str:
        snapshot = record.get("etcd_snapshot")
        parts = [f"the copies of before are in {self.folder} (etc-kubernetes.tar.gz, programs, the kubelet's files)"]
        if snapshot:
            parts.append(
                f"etcd's snapshot is {snapshot['path']} ({snapshot['bytes']} bytes; `etcdutl snapshot restore`)"
            )
        return "; ".join(parts) + "."

    def _put(self, change: FileChange, mode: int = 0o644) -> None:
        with _room_for(change.path):
            if change.after is None:
                self._node.remove(change.path)
            else:
                self._node.replace(change.path, change.after, mode)

    # The kubelet

    def switch_kubelet(self, after: KubeletState) -> Data:
        """Install kubelet and kubectl, restart and verify, or undo; does nothing if the version runs and was
        verified.

        :param after: the state that the new kubelet must show
        """
        kubectl = not self._packages and self._install("kubectl")
        record = self._record()
        kubelet = read_sources(self._run)
        environment = self._without_dropped_flags(kubelet)
        if record["verified"] and not environment and self._runs_already():
            return {"changed": kubectl, "verified": [], "downtime_ms": 0.0}
        self._refuse_obstacles(kubelet)
        with self._node.guarded():
            with undone_on_failure(lambda exc: self._undone(record, after, exc)):
                stopped_at = self._node.stop_kubelet()
                # files first: if there is no room for the new kubelet, the old one still starts with them
                for change in environment:
                    self._put(change)
                self._put_programs(record)
                self._remove_state_files(after)
                outcome = self._start(after, stopped_at)
            self._save({**record, "verified": True})
        return {
            "changed": True,
            "verified": [f"kubelet {self.version}", *outcome.verified],
            "downtime_ms": round(outcome.downtime_ms, 1),
            "started_at": outcome.started_at,
            "dropped_flags": [change.reason for change in environment],
        }

    def _put_programs(self, record: Data) -> None:
        if not self._packages:
            self._install("kubelet")
            return
        self._put_packages(self._packages, record, self._packages.files_in(self._new_packages))
        for path, text in self._packages.repository_files(self.version).items():
            if self._node.read(path) != text:
                self._put(FileChange(path, None, text, path))

    def _put_packages(
        self, packages: Packages, record: Data, files: t.Mapping[str, str], unwanted: t.Sequence[str] = ()
    ) -> None:
        """Install package files while the kubelet is stopped, and have systemd reload the unit files if they changed.

        The files with the kubelet's settings stay as they are, whatever the packages' scripts do to them.
        """
        settings = {path: self._node.read(path) for path in record["files"]}
        self._put(FileChange(IN_PROGRESS, None, json.dumps(settings), IN_PROGRESS), mode=0o600)
        due = [path for path in files.values() if not packages.complete(*packages.describe(path))]
        try:
            if due:
                packages.do(packages.install_command(due), self._node.sleep)
            if unwanted:
                packages.do(packages.remove_command(unwanted), self._node.sleep)
            packages.hold_again(record["held"], list(files))
        finally:  # even if packages cannot be restored, the old kubelet must start
            self._put_settings_back()
            self._node.read_changed_units()
        self._node.remove(IN_PROGRESS)

    def _put_settings_back(self) -> None:
        """Restore kubelet settings that packages changed, including those of a run that was killed."""
        remedy = "Restore the kubelet's settings from the copies, and remove it."
        for path, text in self._object(IN_PROGRESS, remedy).items():
            if text is not None and self._node.read(path) != text:
                self._put(FileChange(path, None, text, path))

    def _put_packages_back(self, record: Data) -> None:
        if not self._packages or "packages" not in record:
            return
        before = record["packages"]
        unwanted = [name for name, version in before.items() if not version and self._packages.version_of(name)]
        self._put_packages(self._packages, record, self._packages.files_in(self._old_packages), unwanted)

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
            raise TuningError(
                f"the kubelet of {self.version} refuses --{', --'.join(needed)}, which this node's kubelet runs with. Move the setting "
                "into the kubelet's configuration file, or take the flag out. The kubelet was not touched."
            )
        changes = []
        for path in (FLAGS_FILE, kubelet["extra_args_file"]):
            text = self._node.read(path) if path else None
            after = without_flags(text, dropped) if text is not None and dropped else text
            if after != text:
                changes.append(FileChange(path, text, after, f"{path}: without --{', --'.join(dropped)}"))
        return changes

    def _remove_state_files(self, after: KubeletState) -> None:
        """Remove the state files that the kubelet would refuse, and keep copies."""
        texts = {name: (path, self._node.read(path)) for name, path in after.endpoint.state_paths.items()}
        for change in state_changes(texts, after.state):
            if change.before is not None:
                self._put(FileChange(f"{self.folder}/{os.path.basename(change.path)}", None, change.before, ""), 0o600)
            self._put(change)

    def _start(self, kubelet: KubeletState, stopped_at: float) -> Outcome:
        started_at = self._node.time()
        self._node.start_kubelet()
        verification = Verification(self._node, kubelet.endpoint, self._timeout)
        return verification.run(kubelet.state, stopped_at, started_at)

    def _undone(self, record: Data, after: KubeletState, exc: BaseException) -> TuningError:
        """Restore the old kubelet and its files; returns one error that says what happened and what is in place now."""
        before = KubeletState.from_dict(record) if "state" in record else after  # records of earlier versions have none
        before = replace(before, state=replace(before.state, online=after.state.online))
        way_back = self._way_back(record)
        undoing = Undoing()
        verified: t.List[str] = []
        packages = failure = ""
        try:
            stopped_at = undoing.stop(self._node, lambda: self._is_due(record, before))
            try:
                self._put_packages_back(record)
            except (TuningError, OSError) as second:
                packages = f"; its packages are not: {second} Install those in {self._old_packages}"
            self._put_files_back(record, undoing)
            undoing.remove_state_files(self._node, before.endpoint.state_paths, before.state)
            verified = self._start(before, stopped_at).verified
        except Exception as second:
            failure = str(second)
        if failure or undoing.failed:
            reasons = f"{undoing.text} {failure}".strip()
            return TuningError(
                f"the kubelet of {self.version} did not run: {exc} Putting {record.get('from')} back did not verify either: {reasons} "
                f"The node is cordoned. {way_back[0].upper()}{way_back[1:]}",
                undone=False,
            )
        return TuningError(
            f"the kubelet of {self.version} did not run: {exc} {record['from']} is back and verified ({'; '.join(verified)}){packages}; "
            f"{way_back}",
            undone=True,
        )

    def _is_due(self, record: Data, before: KubeletState) -> bool:
        """Whether a running kubelet's program, files or state are not those of before."""
        try:
            texts = {name: (path, self._node.read(path)) for name, path in before.endpoint.state_paths.items()}
            return bool(state_changes(texts, before.state)) or any(
                os.path.exists(path) if kept is None else not _same(kept, path)
                for path, kept in self._kept_files(record).items()
            )
        except OSError:
            return True

    def _kept_files(self, record: Data) -> t.Dict[str, t.Optional[str]]:
        """Path -> its copy of before, None if there was no such file."""
        return {program_path("kubelet"): f"{self.folder}/kubelet", **record["files"]}

    def _put_files_back(self, record: Data, undoing: Undoing) -> None:
        # removals last: on a full disk, the settings saved from kubeadm must survive until the old file is back
        for path, kept in sorted(self._kept_files(record).items(), key=lambda entry: entry[1] is None):
            with undoing.step(path):
                if kept is not None and not _same(kept, path):
                    self._node.copy(kept, path)
                elif kept is None and not undoing.failed:
                    self._node.remove(path)


def _archive(file: t.BinaryIO) -> tarfile.TarFile:
    return tarfile.open(fileobj=file, mode="w:gz")


@contextlib.contextmanager
def _room_for(path: str) -> t.Iterator[None]:
    """:raises TuningError: if the file cannot be written"""
    try:
        yield
    except OSError as exc:
        raise TuningError(f"{path} cannot be written: {exc}. Make room there, and run the playbook again.") from exc
