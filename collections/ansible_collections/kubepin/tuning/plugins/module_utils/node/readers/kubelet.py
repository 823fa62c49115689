# SPDX-License-Identifier: GPL-3.0-or-later
"""What configures this machine's kubelet: its service, command line, files and state, as texts.

The control node decodes them (`control/kubelet/kubelet.py`).
"""

from __future__ import annotations

import glob
import json
import os
import re
import time
import typing as t

from ansible_collections.kubepin.tuning.plugins.module_utils.common.errors import TuningError
from ansible_collections.kubepin.tuning.plugins.module_utils.common.kubelet import problems
from ansible_collections.kubepin.tuning.plugins.module_utils.common.kubelet.argument_file import (
    SNAPS,
    Snap,
    arguments_in,
)
from ansible_collections.kubepin.tuning.plugins.module_utils.common.kubelet.flags import (
    EXTRA_ARGS,
    FlagError,
    absolute_path,
    ambiguous_variables,
    expand_command,
    flag_path,
    parse_environment,
    split_arguments,
)
from ansible_collections.kubepin.tuning.plugins.module_utils.common.kubelet.start_errors import first_cause
from ansible_collections.kubepin.tuning.plugins.module_utils.common.layout import DROP_IN_DIR
from ansible_collections.kubepin.tuning.plugins.module_utils.common.problem import Problem, to_dicts

Run = t.Callable[[t.List[str]], t.Tuple[int, str, str]]
Report = t.Dict[str, t.Any]

ROOT_DIR = "/var/lib/kubelet"
"""The kubelet's default --root-dir (cmd/kubelet/app/options/options.go)."""

EXTRA_ARGS_FILES = ("/etc/default/kubelet", "/etc/sysconfig/kubelet")
"""Where kubeadm's packages (deb, rpm) let users set KUBELET_EXTRA_ARGS; nothing rewrites them."""

KUBESPRAY_ENVIRONMENT = "/etc/kubernetes/kubelet.env"
"""The environment file of kubespray's service (kubernetes-sigs/kubespray@46dbdd3: roles/kubernetes/node/tasks/kubelet.yml,
which writes it at each run)."""

KUBESPRAY_ARGS = "KUBELET_ARGS"
"""The variable in it that holds the arguments (templates/kubelet.service.j2, kubelet.env.v1beta1.j2 of that role)."""

EMBEDDING = {"k3s": "k3s", "k3s-agent": "k3s", "rke2-server": "rke2", "rke2-agent": "rke2"}
"""Service -> distribution, for distributions that run the kubelet inside their own process."""

DROP_IN_SUFFIX = ".conf"
"""The kubelet ignores other files in its --config-dir (cmd/kubelet/app/server.go, mergeKubeletConfigurations)."""

_SNAPS = {snap.service: snap for snap in SNAPS}

SUPERVISING = {"k0sworker": "k0s", "k0scontroller": "k0s"}
"""Service -> distribution, for those whose kubelet is a child of the service's process and gets a command line that no
file contains (k0sproject/k0s@dff90ce: pkg/component/worker/kubelet.go, pkg/supervisor)."""

_INSTALLERS = {
    "kubespray": (KUBESPRAY_ENVIRONMENT, ""),
    "nodeadm": ("/etc/eks/kubelet/environment", ""),
    "kops": ("/etc/sysconfig/kubelet", "DAEMON_ARGS="),
    "openshift": ("/etc/machine-config-daemon/currentconfig", ""),
}
"""Installer -> a file that only it writes, and what stands in it (kubernetes-sigs/kubespray roles/kubernetes/node;
awslabs/amazon-eks-ami nodeadm; kubernetes/kops nodeup/pkg/model/kubelet.go; openshift/machine-config-operator
pkg/daemon/daemon.go)."""

_PROPERTIES = (
    "LoadState",
    "ActiveState",
    "SubState",
    "MainPID",
    "NRestarts",
    "RestartUSec",
    "FragmentPath",
    "DropInPaths",
    "NeedDaemonReload",
    "ExecMainStartTimestampMonotonic",
    "InactiveExitTimestampMonotonic",
)
_PROGRAM_DIRS = ("/usr/local/sbin", "/usr/local/bin", "/usr/sbin", "/usr/bin", "/sbin", "/bin")
_SECONDS = {"us": 1e-6, "ms": 1e-3, "s": 1.0, "min": 60.0, "h": 3600.0, "d": 86400.0}
_VERSIONED = ("containerd", "crio", "docker", "runc")
_YOUNG_SECONDS = 30
"""A kubelet that systemd restarted by itself and that is younger than this may be about to end again."""
_RESTART_SCHEDULED = "5eb03494b6584870a536b337290809b3"
"""systemd's message before it restarts a service automatically (SD_MESSAGE_UNIT_RESTART_SCHEDULED, sd-messages.h)."""
_LOGGED_WITHIN_SECONDS = 0.5
_LOG_LINES = "4000"
"""The last ones are read by `--reverse`: with `--since` alone, systemd up to 253 answers the first ones."""
_EMBEDDED_PATH = re.compile(r"\b(config|config-dir|data-dir)[\"']?[=:]\s*[\"']?([^\s\"',\]]+)")
"""A file or folder that k3s or RKE2 may pass on; which of them count is decided on the control node."""


def read_sources(run: Run, root: str = "/", monotonic: t.Callable[[], float] = time.monotonic) -> Report:
    """What configures this machine's kubelet, for `decode_kubelet`.

    A file that cannot be read is not an error, but listed in `problems`.

    :param run: runs a command without a shell and returns exit code, output and error output; only called with
        programs that exist
    :param root: where the machine's files are
    :param monotonic: the machine's monotonic clock, by which systemd counts too
    :raises TuningError: if the machine has no kubelet
    """
    return _Reader(run, root, monotonic).sources()


def read_programs(run: Run, root: str = "/") -> t.Dict[str, t.Optional[str]]:
    """The versions of runc and of all container runtimes; None for one that is missing or does not report it.

    Separate from the sources because it runs programs whose versions no plan needs.
    """
    reader = _Reader(run, root, time.monotonic)
    return {program: reader.version(program) for program in _VERSIONED}


def embedded_config(manager: str) -> str:
    """The file from which k3s or RKE2 takes the kubelet's arguments (`kubelet-arg`)."""
    return f"/etc/rancher/{manager}/config.yaml"


def embedded_drop_ins(data_dir: str) -> str:
    """The drop-in directory that k3s and RKE2 pass to the kubelet from 1.32 on (k3s-io/k3s
    pkg/daemons/agent/agent.go; rancher/rke2@6ce1a80 pkg/executor/staticpod/staticpod.go)."""
    return f"{data_dir}/agent/etc/kubelet.conf.d"


def parse_unit(texts: t.Iterable[str]) -> t.Dict[str, t.List[str]]:
    """Setting -> values of the [Service] sections of a unit file and its drop-ins, in this order (systemd.syntax(7)).

    A backslash joins lines, # and ; start comments, and an empty value resets the list.
    """
    settings: t.Dict[str, t.List[str]] = {}
    for text in texts:
        section = ""
        joined = ""
        for line in text.splitlines():
            if line.lstrip()[:1] in ("#", ";"):
                continue
            if line.endswith("\\"):
                joined += line[:-1] + " "
                continue
            line, joined = (joined + line).strip(), ""
            if line.startswith("["):
                section = line
            name, equals, value = (part.strip() for part in line.partition("="))
            if section == "[Service]" and equals:
                settings[name] = [*settings.get(name, []), value] if value else []
    return settings


def parse_time_span(text: str) -> t.Optional[float]:
    """Seconds of a time span as systemctl prints it ("1min 30s", "100ms"); None for "infinity" or anything else."""
    if text == "0":
        return 0.0
    parts = [re.fullmatch(r"(\d+(?:\.\d+)?)(us|ms|s|min|h|d)", part, re.ASCII) for part in text.split()]
    return sum(float(part[1]) * _SECONDS[part[2]] for part in parts if part) if parts and all(parts) else None


class _Unit(t.NamedTuple):
    """The systemd service that runs the kubelet."""

    name: str
    properties: t.Dict[str, str]

    @property
    def manager(self) -> t.Optional[str]:
        """The distribution if the kubelet runs inside another process."""
        return EMBEDDING.get(self.name)

    @property
    def supervisor(self) -> t.Optional[str]:
        """The distribution if the kubelet is a child of the service's process."""
        return SUPERVISING.get(self.name)

    @property
    def snap(self) -> t.Optional[Snap]:
        """The snap whose service it is."""
        return _SNAPS.get(self.name)

    @property
    def files(self) -> t.List[str]:
        return [path for path in (self.properties.get("FragmentPath", ""), *self.drop_ins) if path]

    @property
    def drop_ins(self) -> t.List[str]:
        return self.properties.get("DropInPaths", "").split()


class _Reader:
    def __init__(self, run: Run, root: str, monotonic: t.Callable[[], float]) -> None:
        self._run = run
        self._root = root
        self._monotonic = monotonic
        self._problems: t.List[Problem] = []

    def sources(self) -> Report:
        unit = self._find_unit()
        settings = parse_unit(text for text in map(self._text, unit.files) if text is not None)
        environment_files = self._environment_files(settings)
        if unit.snap:
            configured, version = self._snap_command_line(unit.snap), self._snap_version(unit.snap)
            extra_args_file: t.Optional[str] = unit.snap.arguments
            extra_args_variable: t.Optional[str] = None
        elif unit.supervisor:
            configured = self._child_command_line(unit)
            version = self.version(configured[0]) if configured else None
            extra_args_file = extra_args_variable = None
        else:
            configured = self._configured_command_line(unit.name, settings, environment_files)
            version = self.version(configured[0]) if configured else None
            extra_args_file, extra_args_variable = self._extra_args(settings, environment_files)
        files, folders = self._configuration_paths(unit.manager, configured)
        drop_ins = {folder: self._drop_ins(folder) for folder in folders}
        root_dir = flag_path(configured, "root-dir") or ROOT_DIR
        if unit.properties.get("NeedDaemonReload") == "yes":
            self._problems.append(problems.units_changed(unit.name))
        texts = {path: self._text(path) for path in [*files, *(path for paths in drop_ins.values() for path in paths)]}
        return {
            "manager": self._manager(unit),
            "embedded_configs": self._embedded_configs(unit.manager) if unit.manager else [],
            "version": version,
            "service": {
                **_service(unit),
                "running_seconds": self._age(unit) if _is_active(unit) else None,
                "environment_files": environment_files,
            },
            "start_problem": self._start_problem(unit, root_dir),
            "command_line": configured if unit.supervisor else self._running_command_line(unit),
            "configured_command_line": configured,
            "extra_args_file": extra_args_file,
            "extra_args_variable": extra_args_variable,
            "extra_args_text": self._text(extra_args_file) if extra_args_file else None,
            "texts": texts,
            "drop_ins": drop_ins,
            "root_dir": root_dir,
            "state": {
                name: {"path": path, "text": self._text(path)}
                for name in ("cpu_manager", "memory_manager")
                for path in [f"{root_dir}/{name}_state"]
            },
            "cgroup_version": self._cgroup_version(),
            "problems": to_dicts(self._problems),
        }

    # Files and commands

    def _path(self, path: str) -> str:
        return os.path.join(self._root, path.lstrip("/"))

    def _text(self, path: str) -> t.Optional[str]:
        """The file's unchanged text; None if it does not exist, or if it cannot be read, which is noted as a
        problem."""
        try:
            with open(self._path(path), encoding="utf-8", newline="") as stream:
                return stream.read()
        except FileNotFoundError:
            return None
        except (OSError, UnicodeDecodeError) as exc:
            self._problems.append(problems.file_unreadable(path, exc))
            return None

    def _exists(self, path: str) -> bool:
        return os.path.exists(self._path(path))

    def _output(self, program: str, *arguments: str) -> t.Optional[str]:
        """A program's output; None if it does not exist or fails. A bare name is searched for in the program
        folders."""
        paths = [program] if program.startswith("/") else [f"{folder}/{program}" for folder in _PROGRAM_DIRS]
        for path in paths:
            if os.path.isfile(self._path(path)) and os.access(self._path(path), os.X_OK):
                code, output, _errors = self._run([path, *arguments])
                return output if code == 0 else None
        return None

    # The service

    def _find_unit(self) -> _Unit:
        names = ("kubelet", *EMBEDDING, *_SNAPS, *SUPERVISING)
        units = [_Unit(name, properties) for name, properties in zip(names, self._properties(names))]
        loaded = [unit for unit in units if unit.properties.get("LoadState") == "loaded"]
        running = [unit for unit in loaded if unit.properties.get("ActiveState") == "active"]
        if not loaded:
            services = [f"{name}.service" for name in names]
            raise TuningError(problems.no_kubelet(services), looked_for=list(names))
        return (running or loaded)[0]

    def _properties(self, names: t.Sequence[str]) -> t.List[t.Dict[str, str]]:
        """The properties of each service, which systemctl separates by empty lines; empty if systemctl fails."""
        arguments = [part for name in _PROPERTIES for part in ("-p", name)]
        output = self._output("systemctl", "show", *(f"{name}.service" for name in names), *arguments) or ""
        blocks = [block.splitlines() for block in output.split("\n\n")] + [[]] * len(names)
        return [
            {key: value for key, _equals, value in (line.partition("=") for line in block)}
            for _name, block in zip(names, blocks)
        ]

    def _age(self, unit: _Unit) -> t.Optional[float]:
        """Seconds since the service's last process was started; None if unknown."""
        text = unit.properties.get("ExecMainStartTimestampMonotonic", "")
        started = int(text) if text.isdigit() else 0
        return round(max(0.0, self._monotonic() - started * 1e-6), 1) if started else None

    def _was_restarted(self, unit: _Unit) -> bool:
        """Whether systemd started the service's last process automatically, after the previous one had ended.

        NRestarts does not say so: it stays if a service is stopped while it waits for its next start, and then started
        (service_enter_dead and service_stop in systemd's src/core/service.c). So the last announcement of such a start
        counts, if no start by anyone followed it.
        """
        if unit.properties.get("NRestarts", "0") in ("", "0"):
            return False
        match = (f"UNIT={unit.name}.service", f"MESSAGE_ID={_RESTART_SCHEDULED}")
        options = ("--quiet", "--no-pager", "--boot", "--lines", "1", "--output", "json")
        entry = json.loads(self._output("journalctl", *options, *match) or "{}")
        announced = int(entry.get("__MONOTONIC_TIMESTAMP", 0)) * 1e-6
        started = int(unit.properties.get("InactiveExitTimestampMonotonic") or 0) * 1e-6
        return announced > started - _LOGGED_WITHIN_SECONDS

    def _start_problem(self, unit: _Unit, root_dir: str) -> t.Optional[Report]:
        """Why the service does not run, or does not stay up, as a problem; None if it runs.

        Of a kubelet that systemd keeps restarting, the log of the process that ended last counts.
        """
        age, state = self._age(unit), unit.properties.get("SubState", "")
        if _is_active(unit) and (age is None or age > _YOUNG_SECONDS or not self._was_restarted(unit)):
            return None
        active_state = unit.properties.get("ActiveState")
        words = f"{active_state}, {state}"
        since = f"-{_YOUNG_SECONDS + (age or 0):.0f}s"
        options = ("--no-pager", "--output", "cat", "--reverse", "--since", since, "--lines", _LOG_LINES)
        log = self._output("journalctl", "--unit", unit.name, *options)
        cause = first_cause((log or "").splitlines()[::-1], unit.name, root_dir)
        if active_state in ("active", "inactive") and cause and not cause.meaning:
            cause = None  # it runs, or was stopped by someone: any line of a log is not a cause
        if _is_active(unit) and not cause:
            return None
        if cause:
            return problems.does_not_start(words, cause, unit.name).to_dict()
        return problems.does_not_run(words, unit.name).to_dict()

    def _manager(self, unit: _Unit) -> str:
        return unit.manager or unit.supervisor or (unit.snap.manager if unit.snap else self._installer(unit))

    def _installer(self, unit: _Unit) -> str:
        by_kubeadm = any(os.path.basename(path) == "10-kubeadm.conf" for path in unit.drop_ins)
        # installers that use kubeadm and replace its service come first
        others = (
            name
            for name, (file, mark) in _INSTALLERS.items()
            if self._exists(file) and mark in (self._text(file) or "")
        )
        other = None if by_kubeadm else next(others, None)
        if other:
            return other
        return "kubeadm" if by_kubeadm or self._exists(f"{ROOT_DIR}/kubeadm-flags.env") else "unknown"

    def _environment_files(self, settings: t.Mapping[str, t.List[str]]) -> t.List[Report]:
        files: t.List[Report] = []
        for setting in settings.get("EnvironmentFile", []):
            pattern = setting.lstrip("-")
            found = sorted(glob.glob(self._path(pattern))) if glob.has_magic(pattern) else []
            paths = [os.path.join("/", os.path.relpath(path, self._root)) for path in found] or [pattern]
            files += [
                {"path": path, "optional": setting.startswith("-"), "exists": self._exists(path)} for path in paths
            ]
        return files

    def _configured_command_line(
        self, service: str, settings: t.Mapping[str, t.List[str]], environment_files: t.Sequence[Report]
    ) -> t.List[str]:
        """The last ExecStart= with the current variables; files override Environment= (systemd.exec(5))."""
        if not settings.get("ExecStart"):
            self._problems.append(problems.no_command(service))
            return []
        environment = dict(
            word.split("=", 1)
            for setting in settings.get("Environment", [])
            for word in split_arguments(setting.replace("%%", "%"))
            if "=" in word
        )
        for file in environment_files:
            text = self._text(file["path"]) or ""
            environment.update(parse_environment(text))
            ambiguous = ambiguous_variables(text)
            if ambiguous:
                self._problems.append(problems.ambiguous_comment(file["path"], ambiguous))
        command = settings["ExecStart"][-1].replace("%%", "%").lstrip("-@:+!|")
        return expand_command(split_arguments(command), environment)

    def _snap_command_line(self, snap: Snap) -> t.List[str]:
        """The arguments in the snap's file; a file that cannot be read is a problem."""
        text = self._text(snap.arguments)
        if text is None:
            self._problems.append(problems.no_argument_file(snap.title, snap.arguments))
        try:
            return [snap.program, *arguments_in(snap, text)]
        except FlagError as exc:
            self._problems.append(problems.argument_file_invalid(snap.arguments, exc))
            return [snap.program]

    def _child_command_line(self, unit: _Unit) -> t.List[str]:
        """The command line of the kubelet that the service's process has started; a problem if none runs."""
        main_pid = unit.properties.get("MainPID", "0")
        for path in sorted(glob.glob(glob.escape(self._path("/proc")) + "/[0-9]*/stat")):
            pid = os.path.basename(os.path.dirname(path))
            stat = self._text(f"/proc/{pid}/stat") or ""
            name, _unused, fields = stat.partition("(")[2].rpartition(") ")  # PID (NAME) STATE PARENT ...
            if name == "kubelet" and fields.split()[1:2] == [main_pid]:
                return self._arguments_of(pid)
        self._problems.append(problems.no_child(unit.name))
        return []

    def _snap_version(self, snap: Snap) -> t.Optional[str]:
        """The snap's own version, which is that of its Kubernetes (part kubernetes-version of both snapcraft.yaml)."""
        text = self._text(f"{snap.folder}/meta/snap.yaml") or ""
        line = re.search(r"^version:(.*)$", text, re.MULTILINE)
        return _first_version(line[1]) if line else None

    def _running_command_line(self, unit: _Unit) -> t.List[str]:
        pid = unit.properties.get("MainPID", "0")
        return self._arguments_of(pid) if pid != "0" else []

    def _arguments_of(self, pid: str) -> t.List[str]:
        text = self._text(f"/proc/{pid}/cmdline")
        return text.rstrip("\0").split("\0") if text else []

    def _extra_args(
        self, settings: t.Mapping[str, t.List[str]], environment_files: t.Sequence[Report]
    ) -> t.Tuple[t.Optional[str], t.Optional[str]]:
        """The file that sets further arguments, and the variable in it; None for both if the service takes none."""
        words = [word for command in settings.get("ExecStart", [])[-1:] for word in split_arguments(command)]
        paths = [file["path"] for file in environment_files]
        for variable, files in ((EXTRA_ARGS, EXTRA_ARGS_FILES), (KUBESPRAY_ARGS, (KUBESPRAY_ENVIRONMENT,))):
            candidates = [path for path in paths if path in files]
            plain, braced = f"${variable}" in words, f"${{{variable}}}" in words
            if candidates and (plain or braced):
                if not plain:
                    self._problems.append(problems.extra_args_in_braces(variable))
                self._note_conflicts(settings, paths, candidates[-1], variable)
                return candidates[-1], variable
        return None, None

    def _note_conflicts(
        self, settings: t.Mapping[str, t.List[str]], paths: t.Sequence[str], chosen: str, variable: str
    ) -> None:
        """Note what overrules the variable in the chosen file, or would be overruled by it."""
        for path in paths[paths.index(chosen) + 1 :]:
            if variable in parse_environment(self._text(path) or ""):
                self._problems.append(problems.extra_args_overruled(path, variable, chosen))
        if variable not in parse_environment(self._text(chosen) or ""):
            self._problems += [
                problems.extra_args_hidden(place, variable, chosen)
                for place in self._earlier_extra_args(settings, paths[: paths.index(chosen)], variable)
            ]

    def _earlier_extra_args(
        self, settings: t.Mapping[str, t.List[str]], paths: t.Sequence[str], variable: str
    ) -> t.List[str]:
        """The sources of values that an assignment in a later file would override."""
        words = [word for setting in settings.get("Environment", []) for word in split_arguments(setting)]
        places = ["the service's Environment="] if any(word.startswith(f"{variable}=") for word in words) else []
        return places + [path for path in paths if variable in parse_environment(self._text(path) or "")]

    # Configuration

    def _configuration_paths(
        self, manager: t.Optional[str], command_line: t.Sequence[str]
    ) -> t.Tuple[t.List[str], t.List[str]]:
        """The configuration files and the folder of drop-ins that the command line names (if none, the one that a switch
        would name), or, for an embedded kubelet, the distribution's own configuration and all that it may name."""
        if manager is None:
            file, folder = (flag_path(command_line, name) for name in ("config", "config-dir"))
            return [file] if file else [], [folder or DROP_IN_DIR]
        paths = self._embedded_configs(manager)
        found = [pair for path in paths for pair in _EMBEDDED_PATH.findall(self._text(path) or "")]
        found += _EMBEDDED_PATH.findall(" ".join(command_line))
        named = {
            kind: [absolute_path(value) for name, value in found if name == kind] for kind in ("config", "config-dir")
        }
        data = [f"/var/lib/rancher/{manager}", *(absolute_path(value) for name, value in found if name == "data-dir")]
        return [*paths, *named["config"]], [*map(embedded_drop_ins, data), *named["config-dir"]]

    def _embedded_configs(self, manager: str) -> t.List[str]:
        """The distribution's own configuration, the last with the highest precedence (docs.rke2.io/install/configuration,
        "Multiple Config Files")."""
        first = embedded_config(manager)
        found = sorted(glob.glob(glob.escape(self._path(f"{first}.d")) + "/*.y*ml"))
        return [first, *(f"{first}.d/{os.path.basename(path)}" for path in found)]

    def _drop_ins(self, folder: str) -> t.List[str]:
        """All files below the folder, of which the kubelet reads some (Go's filepath.WalkDir)."""
        top = self._path(folder)
        return sorted(
            os.path.normpath(os.path.join(folder, os.path.relpath(os.path.join(parent, name), top)))
            for parent, _folders, names in os.walk(top)
            for name in names
            if name.endswith(DROP_IN_SUFFIX)
        )

    # Programs, cgroups

    def version(self, program: str) -> t.Optional[str]:
        """The version of an installed program, which may be newer than the running process."""
        return _first_version(self._output(program, "--version"))

    def _cgroup_version(self) -> t.Optional[int]:
        if self._exists("/sys/fs/cgroup/cgroup.controllers"):
            return 2
        return 1 if self._exists("/sys/fs/cgroup/cpuset") else None


def _is_active(unit: _Unit) -> bool:
    return unit.properties.get("ActiveState") == "active"


def _service(unit: _Unit) -> Report:
    numbers = {key: unit.properties.get(key, "") for key in ("MainPID", "NRestarts")}
    pid, restarts = (int(value) if value.isdigit() else None for value in numbers.values())
    return {
        "name": unit.name,
        "active_state": unit.properties.get("ActiveState"),
        "sub_state": unit.properties.get("SubState"),
        "main_pid": pid or None,
        "restarts": restarts,
        "restart_interval_s": parse_time_span(unit.properties.get("RestartUSec", "")),
        "unit_file": unit.properties.get("FragmentPath") or None,
        "drop_ins": unit.drop_ins,
    }


def _first_version(text: t.Optional[str]) -> t.Optional[str]:
    match = re.search(r"\bv?(\d+\.\d+\.\d+(?:-(?:alpha|beta|rc)\.?\d+)?)", text or "", re.ASCII)
    return match[1] if match else None
