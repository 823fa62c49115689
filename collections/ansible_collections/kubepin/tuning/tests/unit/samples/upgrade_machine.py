# SPDX-License-Identifier: GPL-3.0-or-later
"""A machine for tests of an upgrade: real files under a folder; systemd, kubelet, kubeadm, apt and dpkg are stand-ins."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import re
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.kubepin.tuning.plugins.module_utils.common.kubelet.cpu_manager_state import parse_state
from ansible_collections.kubepin.tuning.plugins.module_utils.control.kubelet.kubelet import decode_kubelet
from ansible_collections.kubepin.tuning.plugins.module_utils.control.upgrade.node_run import StepRun, kubelet_state
from ansible_collections.kubepin.tuning.plugins.module_utils.node.commands import CannotRun
from ansible_collections.kubepin.tuning.plugins.module_utils.node.readers import kubeadm, kubelet
from ansible_collections.kubepin.tuning.plugins.module_utils.node.readers.kubelet import read_sources
from ansible_collections.kubepin.tuning.plugins.module_utils.node.transaction.system import Node
from ansible_collections.kubepin.tuning.plugins.module_utils.node.upgrade import (
    node_steps,
    package_change,
    packages,
    targets,
)
from ansible_collections.kubepin.tuning.plugins.module_utils.node.upgrade.node_steps import NodeUpgrade
from ansible_collections.kubepin.tuning.plugins.module_utils.node.upgrade.source import PROGRAMS, Repository, Source
from ansible_collections.kubepin.tuning.plugins.modules.kubeadm_node_upgrade import run_step
from ansible_collections.kubepin.tuning.tests.unit.samples.machines import topology, topology_facts

OLD, NEW = "1.21.14", "1.22.17"
HEAD = "apiVersion: kubelet.config.k8s.io/v1beta1\nkind: KubeletConfiguration\nhealthzPort: 0\n"
TUNED = HEAD + 'cpuManagerPolicy: static\nreservedSystemCPUs: "0"\n'
OLD_FLAGS = 'KUBELET_KUBEADM_ARGS="--v=2 --redirect-container-streaming=false"\n'
NEW_FLAGS = 'KUBELET_KUBEADM_ARGS="--v=2 --redirect-container-streaming=false --pod-infra-container-image=pause:3.5"\n'
UNKNOWN_TO_NEW = "--redirect-container-streaming"
RESTART_SECONDS = 10
"""The RestartSec of kubeadm's unit."""
NO_PID = "4999999"
"""Above every pid_max, so that /proc has nothing of it."""


class Machine:
    """A kubeadm worker made of files under *root*. A program is a text that says what it is: "kubelet 1.21.14".

    The stand-in kubelet knows the rules that matter here: it refuses a flag that its version does not know, and a state file of
    another policy. The stand-in kubeadm writes a configuration without any tuning.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        self.running: str | None = None
        self.clock = 0.0
        self.restart_at: float | None = None
        """When systemd starts a kubelet anew that was ended by a signal."""
        self.guards: list[str] = []
        self.kubeadm_runs: list[list[str]] = []
        """The arguments of each `kubeadm upgrade`."""
        self.forks = 0
        self.cannot_fork: Callable[[int], int | None] = lambda _number: None
        """Number of a command of the module, from 1 -> the error with which it is not started."""
        bin_folder = "/usr/bin"
        self.write(f"{bin_folder}/systemctl", "", 0o755)
        for program in PROGRAMS:
            self.write(f"{bin_folder}/{program}", f"{program} {OLD}", 0o751)
            content = f"{program} {NEW}"
            self.write(f"/source/{NEW}/{program}", content, 0o644)
            self.write(f"/source/{NEW}/{program}.sha256", hashlib.sha256(content.encode()).hexdigest())
        unit = (
            f"[Service]\nEnvironmentFile=-{root}/var/lib/kubelet/kubeadm-flags.env\nEnvironmentFile=-{root}/etc/default/kubelet\n"
            f"ExecStart={root}/usr/bin/kubelet --config={root}/var/lib/kubelet/config.yaml --root-dir={root}/var/lib/kubelet "
            "$KUBELET_KUBEADM_ARGS $KUBELET_EXTRA_ARGS\n"
        )
        self.write("/usr/lib/kubelet.service", unit)
        self.write("/var/lib/kubelet/config.yaml", TUNED, 0o600)
        self.write("/var/lib/kubelet/kubeadm-flags.env", OLD_FLAGS, 0o640)
        self.write("/etc/kubernetes/kubelet.conf", "a kubeconfig", 0o600)
        self.boot()
        assert self.running == OLD

    def path(self, name: str) -> Path:
        return self.root / name.lstrip("/")

    def write(self, name: str, text: str, mode: int = 0o644) -> None:
        path = self.path(name)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        path.chmod(mode)

    def text(self, name: str) -> str:
        return self.path(name).read_text()

    def state(self) -> dict[str, tuple[str, int, int]]:
        """Content, mode and owner of all that the kubelet's step may touch."""
        found = {}
        for folder in ("/usr/bin", "/var/lib/kubelet", "/etc"):
            for path in sorted(self.path(folder).rglob("*")):
                if path.is_file() and path.name not in ("kubeadm", "kubectl"):
                    status = path.stat()
                    found[str(path)] = (path.read_text(), status.st_mode, status.st_gid)
        return found

    def source(self) -> Source:
        return Source(f"{self.root}/source/{{version}}")

    def node_upgrade(self) -> Hop:
        return Hop(self)

    def upgrade(self, node_upgrade: Hop | None = None) -> dict[str, Any]:
        """All that a run does on a worker."""
        node_upgrade = node_upgrade or self.node_upgrade()
        node_upgrade.back_up()
        node_upgrade.prepare(control_plane=False)
        configured = node_upgrade.configure([])
        return {**configured, **node_upgrade.switch_kubelet()}

    def effective(self) -> dict[str, Any]:
        return dict(decode_kubelet(read_sources(self.run)).effective)

    def boot(self) -> None:
        """What a start of the service comes to."""
        self.running = self.restart_at = None
        version = self._version(f"{self.root}/usr/bin/kubelet")
        line = " ".join(read_sources(self.run)["configured_command_line"])
        if version is None or "broken" in self.text("/usr/bin/kubelet") or (version == NEW and UNKNOWN_TO_NEW in line):
            return
        policy = self.effective()["cpuManagerPolicy"]
        state = self.path("/var/lib/kubelet/cpu_manager_state")
        if state.exists() and parse_state(state.read_text(), 22, False)["policy"] != policy:
            return
        if not state.exists():
            shared = "0-1" if policy == "static" else ""
            state.write_text(json.dumps({"policyName": policy, "defaultCpuSet": shared, "checksum": 0}))
        self.running = version

    def power_on(self) -> None:
        """The machine starts anew."""
        self.guards = []
        self.boot()

    @staticmethod
    def _version(path: str) -> str | None:
        match = re.match(r"\w+ (\d+\.\d+\.\d+)", Path(path).read_text())
        return match[1] if match else None

    def module_run(self, argv: list[str]) -> tuple[int, str, str]:
        """How the module runs a command, after it has tried again."""
        self.forks += 1
        error = self.cannot_fork(self.forks)
        if error == errno.ENOENT:
            return 127, "", os.strerror(error)
        if error:
            raise CannotRun(os.strerror(error))
        return self.run(argv)

    def module_ends(self) -> None:
        """The kernel frees the node's lock: the guards that are left start the kubelet."""
        if self.guards and self.running is None:
            self.boot()
        self.guards = []

    def run(self, argv: list[str]) -> tuple[int, str, str]:
        name = os.path.basename(argv[0])
        sys.audit("stand-in.command", name, *argv[1:2])
        if name == "systemd-run":
            self.guards.append(argv[argv.index("--unit") + 1])
        if name == "systemctl" and argv[-1] in self.guards:
            self.guards.remove(argv[-1])
        elif name == "systemctl":
            return self._systemctl(argv[1])
        if name == "exe":
            return 0, f"Kubernetes v{self.running}\n", ""
        if name == "kubeadm" and argv[1] == "upgrade":
            self.kubeadm_runs.append(argv[1:])
            return self._kubeadm()
        if name in PROGRAMS:
            version = self._version(argv[0])
            if version == NEW and any(word.startswith(UNKNOWN_TO_NEW) for word in argv):
                return 1, "", f"unknown flag: {UNKNOWN_TO_NEW}"
            return (0, f"v{version}\n", "") if version else (1, "", "")
        return 0, "", ""

    def _kubeadm(self) -> tuple[int, str, str]:
        try:
            self.write("/var/lib/kubelet/config.yaml", HEAD, 0o600)
            self.write("/var/lib/kubelet/kubeadm-flags.env", NEW_FLAGS, 0o640)
        except OSError as error:
            return 1, "", str(error)
        return 0, "", ""

    def _systemctl(self, verb: str) -> tuple[int, str, str]:
        if verb == "stop":
            self.running = self.restart_at = None
        if verb == "start":
            self.boot()
        state = ("active", "running", NO_PID) if self.running else ("inactive", "dead", "0")
        shown = {
            "LoadState": "loaded", "ActiveState": state[0], "SubState": state[1], "MainPID": state[2], "NRestarts": "0",
            "RestartUSec": "1s", "FragmentPath": f"{self.root}/usr/lib/kubelet.service", "NeedDaemonReload": "no",
        }  # fmt: skip
        return 0, "".join(f"{key}={value}\n" for key, value in shown.items()), ""


class PackagedMachine(Machine):
    """A machine whose programs are packages; apt, dpkg and a repository are stand-ins.

    A package file is a text: its name, version and files. dpkg unpacks file by file, marks a package half installed before and
    configured after, and a package's unit file is unknown to systemd until the next daemon-reload: the kubelet does not start before.
    """

    def __init__(self, root: Path) -> None:
        self.reloaded = True
        super().__init__(root)
        (root / "tmp").mkdir()
        self.database: dict[str, dict[str, Any]] = {}
        for name in (*PROGRAMS, "cri-tools"):
            self.database[name] = {"version": f"{OLD}-00", "state": "hi", "files": self.packaged(name, OLD, 0o751)}
            self.write(f"/repository/{name}_{NEW}.deb", self.deb(name, NEW))
        self.write("/usr/bin/cri-tools", f"cri-tools {OLD}", 0o751)
        self.write("/etc/apt/sources.list.d/kubernetes.list", "deb [signed-by=/k.gpg] http://packages/v1.21/deb/ /\n")
        self.save()

    def packaged(self, name: str, version: str, mode: int, remark: str = "") -> dict[str, tuple[str, int]]:
        return {f"{self.root}/usr/bin/{name}": (f"{name} {version}{remark}", mode)}

    def deb(self, name: str, version: str, remark: str = "") -> str:
        files: dict[str, tuple[str, int]] = self.packaged(name, version, 0o755, remark)
        if name == "kubelet":
            files[f"{self.root}/etc/default/kubelet"] = ("KUBELET_EXTRA_ARGS=\n", 0o644)
        return json.dumps({"name": name, "version": f"{version}-1.1", "files": files})

    def save(self) -> None:
        self.write("/var/lib/dpkg/status", json.dumps(self.database))

    def packages(self) -> dict[str, tuple[str, str]]:
        """What dpkg says, and what the programs are."""
        return {
            name: (f"{entry['state']} {entry['version']}", self.text(f"/usr/bin/{name}").split()[1])
            for name, entry in self.database.items()
        }

    def source(self) -> Source:
        return Source(packages=Repository("http://packages/v{minor}/{format}/"))

    def boot(self) -> None:
        super().boot()
        if not self.reloaded:
            self.running = None

    def power_on(self) -> None:
        self.reloaded = True
        super().power_on()

    def run(self, argv: list[str]) -> tuple[int, str, str]:
        if argv[0] == "env":
            assert "SYSTEMD_OFFLINE=1" in argv
            argv = [word for word in argv[1:] if "=" not in word]
        name = os.path.basename(argv[0])
        if name not in ("dpkg", "dpkg-query", "dpkg-deb", "apt-get", "apt-cache", "apt-mark"):
            if argv[:2] == ["systemctl", "daemon-reload"]:
                assert self.running is None, "under a kubelet that runs"
                self.reloaded = True
            return super().run(argv)
        if name in ("dpkg", "apt-mark"):
            sys.audit("stand-in.command", name, argv[-1])
        try:
            return 0, str(getattr(self, f"_{name.replace('-', '_')}")(argv[1:]) or ""), ""
        except OSError as error:
            return 1, "", str(error)

    def _systemctl(self, verb: str) -> tuple[int, str, str]:
        code, output, errors = super()._systemctl(verb)
        return code, output if self.reloaded else output.replace("DaemonReload=no", "DaemonReload=yes"), errors

    def _dpkg(self, arguments: list[str]) -> None:
        assert self.running is None, "packages are replaced under a kubelet that runs"
        if "--purge" in arguments:
            for name in arguments[arguments.index("--purge") + 1 :]:
                for path in self.database.pop(name)["files"]:
                    Path(path).unlink(missing_ok=True)
                self.save()
            return
        debs = [json.loads(Path(path).read_text()) for path in arguments[arguments.index("--install") + 1 :]]
        self.reloaded = False
        for deb in debs:
            entry = self.database.setdefault(deb["name"], {"version": "", "state": "i", "files": {}})
            entry["state"] = "iH"  # as the real one: an explicit --install takes a hold off
            self.save()
            for path, (text, mode) in deb["files"].items():
                self.write(path.removeprefix(str(self.root)), text, mode)
            for path in entry["files"]:
                if path not in deb["files"] and os.path.exists(path):
                    os.unlink(path)
            entry.update(version=deb["version"], files=deb["files"], state="iU")
            self.save()
        for deb in debs:
            self.database[deb["name"]]["state"] = "ii"
            self.save()

    def _apt_mark(self, arguments: list[str]) -> None:
        for name in arguments[1:]:
            self.database[name]["state"] = "h" + self.database[name]["state"][1]
        self.save()

    def _dpkg_query(self, arguments: list[str]) -> str:
        entry = self.database.get(arguments[-1] if arguments[0] != "--control-path" else arguments[1])
        if entry is None:
            raise OSError("no such package")
        if arguments[0] == "--show" and "Want" in arguments[1]:
            return "hold" if entry["state"][0] == "h" else "install"
        if arguments[0] == "--show":
            return f"{entry['version']}\t{entry['state']} "
        if arguments[0] == "--listfiles":
            folders = {str(folder) for path in entry["files"] for folder in Path(path).parents}
            return "\n".join(["/.", *sorted(folders), *entry["files"]])
        if arguments[0] == "--status":
            return f"Package: {arguments[-1]}\nStatus: install ok installed\nVersion: {entry['version']}\n"
        return ""

    def _dpkg_deb(self, arguments: list[str]) -> str:
        if arguments[-3] == "--build":
            root, path = Path(arguments[-2]), Path(arguments[-1])
            control = dict(line.split(": ") for line in (root / "DEBIAN/control").read_text().splitlines())
            files = {
                f"/{file.relative_to(root)}": (file.read_text(), file.stat().st_mode & 0o777)
                for file in root.rglob("*")
                if file.is_file() and "DEBIAN" not in file.parts
            }
            path.write_text(json.dumps({"name": control["Package"], "version": control["Version"], "files": files}))
            return ""
        deb = json.loads(Path(arguments[-1] if arguments[0] == "--show" else arguments[1]).read_text())
        for path, (text, _mode) in deb["files"].items() if arguments[0] == "--extract" else ():
            target = Path(arguments[2] + path.removeprefix(str(self.root)))
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_text(text)
        return f"{deb['name']}\t{deb['version']}"

    def _apt_get(self, arguments: list[str]) -> str:
        folder = next((word.partition("=")[2] for word in arguments if word.startswith("Dir::Cache::archives=")), "")
        lines = []
        for deb in sorted(self.path("/repository").iterdir()) if "install" in arguments else ():
            if "--download-only" in arguments:
                (Path(folder) / deb.name).write_bytes(deb.read_bytes())
            lines.append(f"'http://x/{deb.name}' {deb.name} 1 SHA256:{hashlib.sha256(deb.read_bytes()).hexdigest()}")
        return "\n".join(lines)

    def _apt_cache(self, arguments: list[str]) -> str:
        return f" {arguments[-1]} | {NEW}-1.1 | http://x Packages\n {arguments[-1]} | 1.22.4-1.1 | http://x Packages\n"


class Hop:
    """The steps of one upgrade of the machine, with the control node's part of each."""

    def __init__(self, machine: Machine) -> None:
        self._machine = machine
        self._upgrade = NodeUpgrade(MachineNode(machine), machine.module_run, NEW, machine.source(), timeout=30)
        self.folder = self._upgrade.folder

    def _call(self, module: str, arguments: dict[str, Any]) -> dict[str, Any]:
        if module == "kubelet_switch_info":
            return {"topology": topology_facts(), "sources": read_sources(self._machine.run)}
        return {**run_step(self._upgrade, {"files": "[]", **arguments}), "folder": self.folder}

    def _step(self, step: str, **params: Any) -> dict[str, Any]:
        return StepRun(self._call, {"step": step, "version": NEW, **params}).run()

    def back_up(self) -> dict[str, Any]:
        kubelet = decode_kubelet(read_sources(self._machine.run))
        return self._upgrade.back_up(kubelet_state(topology(), kubelet, kubelet.version or ""))

    def prepare(self, control_plane: bool) -> dict[str, Any]:
        return self._upgrade.prepare(control_plane)

    def configure(self, ignored: list[str], patches_directory: str | None = None) -> dict[str, Any]:
        return self._step("configure", ignore_preflight_errors=ignored, patches_directory=patches_directory)

    def switch_kubelet(self) -> dict[str, Any]:
        return self._step("kubelet")


class MachineNode(Node):
    """The real one, with a clock of its own."""

    def __init__(self, machine: Machine) -> None:
        super().__init__(machine.module_run)
        self._machine = machine

    def monotonic(self) -> float:
        return self._machine.clock

    def sleep(self, seconds: float) -> None:
        machine = self._machine
        machine.clock += 1
        if machine.restart_at is not None and machine.clock >= machine.restart_at:
            machine.boot()

    def _processes(self) -> set[int]:
        return {int(NO_PID)} if self._machine.running else set()

    def _signal(self, pid: int, number: int) -> None:
        self._machine.running, self._machine.restart_at = None, self._machine.clock + RESTART_SECONDS


def point_at(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Make the code see the machine under *root*."""
    monkeypatch.setattr(packages, "APT_FOLDER", f"{root}/etc/apt/sources.list.d")
    for module in (package_change, kubeadm):
        monkeypatch.setattr(module, "IN_PROGRESS", f"{root}/var/lib/kubepin/in-progress")
    monkeypatch.setattr(shutil, "which", lambda name: name)
    monkeypatch.setattr(kubelet, "_PROGRAM_DIRS", (f"{root}/usr/bin",))
    monkeypatch.setattr(kubelet, "EXTRA_ARGS_FILES", (f"{root}/etc/default/kubelet",))
    monkeypatch.setattr(targets, "EXTRA_ARGS_FILES", kubelet.EXTRA_ARGS_FILES)
    monkeypatch.setattr(kubeadm, "PROGRAM_FOLDERS", (f"{root}/usr/bin",))
    for module in (node_steps, kubeadm):
        monkeypatch.setattr(module, "UPGRADES", f"{root}/var/lib/kubepin/upgrades")
    for module in (node_steps, targets):
        monkeypatch.setattr(module, "FLAGS_FILE", f"{root}/var/lib/kubelet/kubeadm-flags.env")
    monkeypatch.setattr(node_steps, "KUBERNETES", f"{root}/etc/kubernetes")
    monkeypatch.setattr(node_steps, "MANIFESTS", f"{root}/etc/kubernetes/manifests")
