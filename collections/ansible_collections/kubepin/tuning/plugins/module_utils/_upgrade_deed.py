# SPDX-License-Identifier: GPL-3.0-or-later
# Private to the collection: may change without notice.
# The steps of an upgrade on one machine. Each can be repeated: what is done already is left alone.
from __future__ import annotations

import json
import os
import shutil
import tarfile
import time
import typing as t

from ansible_collections.kubepin.tuning.plugins.module_utils._errors import TuningError
from ansible_collections.kubepin.tuning.plugins.module_utils._kubelet import read_kubelet
from ansible_collections.kubepin.tuning.plugins.module_utils._node import HOME, Node
from ansible_collections.kubepin.tuning.plugins.module_utils._plan import (
    FileChange,
    Wanted,
    expected_of,
    plan_switch,
    state_changes,
)
from ansible_collections.kubepin.tuning.plugins.module_utils._settings import MANAGED
from ansible_collections.kubepin.tuning.plugins.module_utils._switch import Verification, endpoint_of
from ansible_collections.kubepin.tuning.plugins.module_utils._topology import read_topology
from ansible_collections.kubepin.tuning.plugins.module_utils._upgrade_etcd import save_snapshot
from ansible_collections.kubepin.tuning.plugins.module_utils._upgrade_flags import (
    WITHOUT_EFFECT,
    unknown_flag,
    without_flags,
)
from ansible_collections.kubepin.tuning.plugins.module_utils._upgrade_node import (
    FLAGS_FILE,
    KUBERNETES,
    MANIFESTS,
    program_path,
    program_version,
)
from ansible_collections.kubepin.tuning.plugins.module_utils._upgrade_source import (
    PROGRAMS,
    Source,
    archives_of,
    images_in,
    stage,
)

Data = t.Dict[str, t.Any]
Run = t.Callable[[t.List[str]], t.Tuple[int, str, str]]

FOLDER = f"{HOME}/upgrades"
_SPACE = ["--namespace", "k8s.io"]
_LAST_LINES = 15


def lost_settings(before: t.Mapping[str, t.Any], after: t.Mapping[str, t.Any]) -> t.Dict[str, t.Any]:
    """The managed kubelet settings that kubeadm's new configuration no longer has as they were."""
    return {name: before[name] for name in MANAGED if before.get(name) and before.get(name) != after.get(name)}


def wanted_again(before: t.Mapping[str, t.Any]) -> Wanted:
    """The settings of before as they are asked of `plan_switch`."""
    return Wanted(
        policy=before["cpuManagerPolicy"],
        policy_options=before.get("cpuManagerPolicyOptions") or None,
        reserved_cpus=before.get("reservedSystemCPUs") or "auto",
        topology_manager_policy=before.get("topologyManagerPolicy"),
        topology_manager_scope=before.get("topologyManagerScope"),
        memory_manager_policy=before.get("memoryManagerPolicy"),
        reserved_memory=[
            {"numa_node": entry["numaNode"], "limits": entry["limits"]} for entry in before.get("reservedMemory") or []
        ]
        or None,
    )


def last_words(output: str, errors: str) -> str:
    """The end of what a command said, where the reason of a failure stands."""
    lines = [line for line in f"{output}\n{errors}".splitlines() if line.strip()]
    return " | ".join(lines[-_LAST_LINES:])


class Hop:
    """One machine's part of the way to one version. Everything that it replaces is kept in `folder`."""

    def __init__(self, node: Node, run: Run, version: str, source: Source, timeout: float) -> None:
        self._node = node
        self._run = run
        self.version = version
        self._source = source
        self._timeout = timeout
        self.folder = f"{FOLDER}/{version}"
        self._staged = f"{self.folder}/new"
        self._record_path = f"{self.folder}/record.json"

    # What was there before

    def back_up(self) -> Data:
        """Keep the kubelet's configuration and settings, /etc/kubernetes, and on a control plane node etcd.

        A hop that was stopped keeps its first copies, which are the ones from before; an etcd snapshot is made anew until
        kubeadm has begun.
        """
        os.makedirs(self._staged, mode=0o700, exist_ok=True)
        record = self._record()
        first = not record
        if first:
            kubelet = read_kubelet(self._run)
            for path in (kubelet["config_file"], FLAGS_FILE, kubelet["extra_args_file"]):
                if path and os.path.exists(path):
                    shutil.copy2(path, f"{self.folder}/{os.path.basename(path)}{'' if '.' in path else '.env'}")
            self._archive_kubernetes()
            record = {
                "from": kubelet["version"],
                "to": self.version,
                "begun": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
                "config_file": kubelet["config_file"],
                "extra_args_file": kubelet["extra_args_file"],
                "settings": {name: kubelet["effective"].get(name) for name in MANAGED},
                "kubeadm_began": False,
            }
        snapshot = f"{self.folder}/etcd-snapshot.db"
        taken = os.path.exists(f"{MANIFESTS}/etcd.yaml") and not record["kubeadm_began"]
        if taken:
            record["etcd_snapshot"] = {"path": snapshot, "bytes": save_snapshot(snapshot)}
        self._save(record)
        return {"changed": first or taken, "etcd_snapshot": record.get("etcd_snapshot")}

    def _archive_kubernetes(self) -> None:
        path = f"{self.folder}/etc-kubernetes.tar.gz"
        with open(f"{path}.part", "wb") as file:
            os.fchmod(file.fileno(), 0o600)
            with tarfile.open(fileobj=file, mode="w:gz") as archive:
                archive.add(
                    KUBERNETES, filter=lambda info: None if info.name.startswith("etc/kubernetes/tmp/") else info
                )
        os.replace(f"{path}.part", path)

    def _record(self) -> Data:
        text = self._node.read(self._record_path)
        record: Data = json.loads(text) if text else {}
        return record

    def _save(self, record: Data) -> None:
        self._node.replace(self._record_path, json.dumps(record, indent=1, sort_keys=True) + "\n", mode=0o600)

    # Programs and images

    def prepare(self, control_plane: bool) -> Data:
        """Fetch and verify the programs, load the images, install kubeadm."""
        os.makedirs(self._staged, mode=0o700, exist_ok=True)
        for program in PROGRAMS:
            stage(self._source, self.version, program, self._staged)
        loaded = self._load_images(control_plane)
        installed = self._install("kubeadm")
        return {"changed": bool(loaded) or installed, "loaded": loaded}

    def _load_images(self, control_plane: bool) -> t.List[str]:
        loaded = []
        for archive in archives_of(self._source, self.version, control_plane):
            code, output, errors = self._run(["ctr", *_SPACE, "images", "list", "-q"])
            if code == 0 and set(images_in(archive)) <= set(output.split()):
                continue
            code, output, errors = self._run(["ctr", *_SPACE, "images", "import", archive])
            if code != 0:
                raise TuningError(f"the images in {archive} cannot be loaded: {last_words(output, errors)}")
            loaded.append(archive)
        return loaded

    def _install(self, program: str, keep: bool = True) -> bool:
        """Put a staged program in its place in one step; what was there is kept."""
        path = program_path(program)
        if program_version(self._run, path) == self.version:
            return False
        if keep and os.path.exists(path):
            self._copy(path, f"{self.folder}/{program}")
        self._copy(f"{self._staged}/{program}", path)
        return True

    @staticmethod
    def _copy(origin: str, path: str) -> None:
        draft = os.path.join(os.path.dirname(path), f".{os.path.basename(path)}.kubepin")
        shutil.copyfile(origin, draft)
        os.chmod(draft, 0o755)
        with open(draft, "rb") as file:
            os.fsync(file.fileno())
        os.replace(draft, path)

    # kubeadm

    def apply(self, ignore_preflight_errors: t.Sequence[str]) -> Data:
        """`kubeadm upgrade apply` on the first control plane node."""
        return self._kubeadm(["apply", f"v{self.version}", "--yes"], ignore_preflight_errors)

    def configure(self, ignore_preflight_errors: t.Sequence[str]) -> Data:
        """`kubeadm upgrade node`: further control plane nodes and workers."""
        return self._kubeadm(["node"], ignore_preflight_errors)

    def _kubeadm(self, arguments: t.List[str], ignore_preflight_errors: t.Sequence[str]) -> Data:
        record = self._record()
        record["kubeadm_began"] = True
        self._save(record)
        command = [program_path("kubeadm"), "upgrade", *arguments]
        if ignore_preflight_errors:
            command.append(f"--ignore-preflight-errors={','.join(ignore_preflight_errors)}")
        code, output, errors = self._run(command)
        if code != 0:
            raise TuningError(
                f"`{' '.join(command)}` failed: {last_words(output, errors)} kubeadm puts the old manifests back where it can. Going on: "
                "remove the cause and run the playbook again, it continues here. Going back: " + self._way_back(record),
                kubeadm_output=output.splitlines()[-60:],
            )
        return {"changed": True, "kept_settings": self._keep_settings(record)}

    def _keep_settings(self, record: Data) -> t.Dict[str, t.Any]:
        """kubeadm has rewritten the configuration file: put settings that are gone with it where it does not write."""
        kubelet = read_kubelet(self._run)
        lost = lost_settings(record["settings"], kubelet["effective"])
        if not lost:
            return {}
        plan = plan_switch(read_topology(), kubelet, wanted_again(record["settings"]))
        if plan.problems:
            raise TuningError(
                f"kubeadm rewrote {record['config_file']}, and its {', '.join(lost)} cannot be kept: {' '.join(plan.problems)} The kubelet "
                f"was not restarted. The old file is in {self.folder}."
            )
        for change in plan.files:
            self._put(change)
        return lost

    def _way_back(self, record: Data) -> str:
        snapshot = record.get("etcd_snapshot")
        parts = [f"the copies of before are in {self.folder} (etc-kubernetes.tar.gz, programs, the kubelet's files)"]
        if snapshot:
            parts.append(
                f"etcd's snapshot is {snapshot['path']} ({snapshot['bytes']} bytes; `etcdutl snapshot restore`)"
            )
        return "; ".join(parts) + "."

    def _put(self, change: FileChange) -> None:
        if change.after is None:
            self._node.remove(change.path)
        else:
            self._node.replace(change.path, change.after)

    # The kubelet

    def switch_kubelet(self) -> Data:
        """Install kubelet and kubectl and restart, verified or undone; nothing if that version runs already."""
        kubectl = self._install("kubectl")
        if self._runs_already():
            return {"changed": kubectl, "verified": [], "downtime_ms": 0.0}
        record = self._record()
        environment = self._without_dropped_flags()
        kubelet = read_kubelet(self._run)
        stopped_at = self._node.monotonic()
        try:
            self._node.stop_kubelet()
            self._install("kubelet")
            for change in environment:
                self._put(change)
            verified, downtime = self._start(stopped_at)
        except Exception as exc:
            raise self._undone(record, environment, kubelet, exc) from exc
        return {
            "changed": True,
            "verified": [f"kubelet {self.version}", *verified],
            "downtime_ms": round(downtime, 1),
            "dropped_flags": [change.reason for change in environment],
        }

    def _runs_already(self) -> bool:
        state = self._node.service_state()
        if state["ActiveState"] != "active" or state["SubState"] != "running" or state["MainPID"] == "0":
            return False
        code, output, _errors = self._run([f"/proc/{state['MainPID']}/exe", "--version"])
        installed = program_version(self._run, program_path("kubelet"))
        return code == 0 and output.strip().endswith(f"v{self.version}") and installed == self.version

    def _without_dropped_flags(self) -> t.List[FileChange]:
        """The changes to environment files without which the new kubelet refuses its command line; it is asked itself.

        :raises TuningError: for flags whose absence would change something; nothing was touched then
        """
        kubelet = read_kubelet(self._run)
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

    def _start(self, stopped_at: float) -> t.Tuple[t.List[str], float]:
        """Remove state files that the kubelet would refuse, start it, and verify."""
        kubelet = read_kubelet(self._run)
        expected = expected_of(read_topology(), kubelet["effective"])
        endpoint = endpoint_of(kubelet)
        texts = {name: (path, self._node.read(path)) for name, path in endpoint.state_paths.items()}
        for change in state_changes(texts, expected):
            if change.before is not None:
                self._node.replace(f"{self.folder}/{os.path.basename(change.path)}", change.before, mode=0o600)
            self._node.remove(change.path)
        started_at = self._node.time()
        self._node.start_kubelet()
        outcome = Verification(self._node, endpoint, self._timeout).run(expected, stopped_at, started_at)
        return outcome.verified, outcome.downtime_ms

    def _undone(
        self, record: Data, environment: t.Sequence[FileChange], kubelet: t.Mapping[str, t.Any], exc: Exception
    ) -> TuningError:
        """Put the old kubelet and its configuration back, and say in one error what happened and what is there now."""
        way_back = self._way_back(record)
        try:
            self._node.stop_kubelet()
            self._copy(f"{self.folder}/kubelet", program_path("kubelet"))
            for change in environment:
                self._put(change.inverse("undone"))
            if kubelet["config_file"]:
                before = self._node.read(f"{self.folder}/{os.path.basename(kubelet['config_file'])}")
                if before is not None:
                    self._node.replace(kubelet["config_file"], before)
            verified, _downtime = self._start(self._node.monotonic())
        except Exception as second:
            return TuningError(
                f"the kubelet of {self.version} did not run: {exc} Putting {record.get('from')} back did not verify either: {second} "
                f"The node is cordoned. {way_back[0].upper()}{way_back[1:]}",
                undone=False,
            )
        return TuningError(
            f"the kubelet of {self.version} did not run: {exc} {record.get('from')} is back and verified ({'; '.join(verified)}), and the "
            f"node stays cordoned. Remove the cause and run the playbook again; {way_back}",
            undone=True,
        )
