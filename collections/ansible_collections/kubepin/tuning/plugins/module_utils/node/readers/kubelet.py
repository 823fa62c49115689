# SPDX-License-Identifier: GPL-3.0-or-later
"""How this machine's kubelet is really configured: service, command line, files, state, container runtime."""

from __future__ import annotations

import glob
import os
import re
import typing as t

from ansible_collections.kubepin.tuning.plugins.module_utils.common.errors import TuningError
from ansible_collections.kubepin.tuning.plugins.module_utils.common.formats.yaml import YamlError, parse_yaml
from ansible_collections.kubepin.tuning.plugins.module_utils.common.kubelet import problems
from ansible_collections.kubepin.tuning.plugins.module_utils.common.kubelet.checkpoint import StateFileError
from ansible_collections.kubepin.tuning.plugins.module_utils.common.kubelet.config import (
    config_problems,
    effective_config,
    is_drop_in,
)
from ansible_collections.kubepin.tuning.plugins.module_utils.common.kubelet.cpu_manager_state import parse_state
from ansible_collections.kubepin.tuning.plugins.module_utils.common.kubelet.flags import (
    EXTRA_ARGS,
    FlagError,
    expand_command,
    flag_value,
    parse_environment,
    split_arguments,
)
from ansible_collections.kubepin.tuning.plugins.module_utils.common.kubelet.memory_manager_state import (
    parse_memory_state,
)
from ansible_collections.kubepin.tuning.plugins.module_utils.common.problem import Problem

Run = t.Callable[[t.List[str]], t.Tuple[int, str, str]]
Report = t.Dict[str, t.Any]

SCHEMA = 1
ROOT_DIR = "/var/lib/kubelet"
"""The kubelet's default --root-dir (cmd/kubelet/app/options/options.go)."""

EXTRA_ARGS_FILES = ("/etc/default/kubelet", "/etc/sysconfig/kubelet")
"""Where kubeadm's packages (deb, rpm) let users set KUBELET_EXTRA_ARGS; nothing rewrites them."""

EMBEDDING = {"k3s": "k3s", "k3s-agent": "k3s", "rke2-server": "rke2", "rke2-agent": "rke2"}
"""Service -> distribution, for distributions that run the kubelet inside their own process."""

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
)
_PROGRAM_DIRS = ("/usr/local/sbin", "/usr/local/bin", "/usr/sbin", "/usr/bin", "/sbin", "/bin")
_SECONDS = {"us": 1e-6, "ms": 1e-3, "s": 1.0, "min": 60.0, "h": 3600.0, "d": 86400.0}
_FIRST_WITHOUT_DOCKERSHIM = (1, 24)
_RUNTIME_PROGRAMS = {"containerd": "containerd", "cri-o": "crio", "docker": "docker"}


def read_kubelet(run: Run, root: str = "/") -> Report:
    """This machine's kubelet, as the module kubelet_info documents it.

    Anything that cannot be read or parsed is not an error, but listed in the report's `problems`.

    :param run: runs a command without a shell and returns exit code, output and error output; only called with
        programs that exist
    :param root: where the machine's files are
    :raises TuningError: if the machine has no kubelet
    """
    return _Reader(run, root).report()


def read_runtime(run: Run, kubelet: Report, root: str = "/") -> Report:
    """The report's `runtime` with the versions of its programs; None for one that is missing or does not report it.

    Separate from the report because it runs two programs, and a plan needs neither version.
    """
    reader = _Reader(run, root)
    program = _RUNTIME_PROGRAMS.get(kubelet["runtime"]["name"])
    return {
        **kubelet["runtime"],
        "version": reader.version(program) if program else None,
        "runc_version": reader.version("runc"),
    }


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
    def files(self) -> t.List[str]:
        return [path for path in (self.properties.get("FragmentPath", ""), *self.drop_ins) if path]

    @property
    def drop_ins(self) -> t.List[str]:
        return self.properties.get("DropInPaths", "").split()


class _Reader:
    def __init__(self, run: Run, root: str) -> None:
        self._run = run
        self._root = root
        self._problems: t.List[Problem] = []

    def report(self) -> Report:
        unit = self._find_unit()
        settings = parse_unit(text for text in map(self._text, unit.files) if text is not None)
        environment_files = self._environment_files(settings)
        configured = self._configured_command_line(unit.name, settings, environment_files)
        running = self._running_command_line(unit)
        extra_args_file = self._extra_args_file(settings, environment_files)
        kubelet_line = self._embedded_command_line(unit.manager) if unit.manager else configured
        config_file = self._absolute(flag_value(kubelet_line, "config"))
        config = self._config(config_file)
        config_dir = self._absolute(flag_value(kubelet_line, "config-dir"))
        drop_ins = self._drop_ins(config_dir)
        effective, sources = self._effective(config_file, config, drop_ins, kubelet_line)
        root_dir = self._absolute(flag_value(kubelet_line, "root-dir")) or ROOT_DIR
        version = self.version(configured[0]) if configured else None
        if unit.properties.get("NeedDaemonReload") == "yes":
            self._problems.append(problems.units_changed(unit.name))
        return {
            "schema": SCHEMA,
            "manager": unit.manager or self._installer(unit),
            "version": version,
            "service": {**_service(unit), "environment_files": environment_files},
            "command_line": running,
            "configured_command_line": configured,
            "stale": None if unit.manager else _is_stale(running, configured),
            "extra_args_file": extra_args_file,
            "extra_args_text": self._text(extra_args_file) if extra_args_file else None,
            "config_file": config_file,
            "config": config,
            "config_dir": config_dir,
            "drop_ins": drop_ins,
            "effective": effective,
            "sources": sources,
            "root_dir": root_dir,
            "state": {
                "cpu_manager": self._cpu_state(f"{root_dir}/cpu_manager_state"),
                "memory_manager": self._memory_state(f"{root_dir}/memory_manager_state"),
            },
            "runtime": self._runtime(kubelet_line, config or {}, version),
            "cgroup": {"version": self._cgroup_version(), "driver": effective["cgroupDriver"]},
            "problems": self._problems,
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
        names = ("kubelet", *EMBEDDING)
        units = [_Unit(name, properties) for name, properties in zip(names, self._properties(names))]
        loaded = [unit for unit in units if unit.properties.get("LoadState") == "loaded"]
        running = [unit for unit in loaded if unit.properties.get("ActiveState") == "active"]
        if not loaded:
            services = ", ".join(f"{name}.service" for name in names)
            raise TuningError(
                f"This machine has no kubelet: systemd knows none of the services {services}. Install Kubernetes on it, or "
                "leave it out with --limit.",
                looked_for=list(names),
            )
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

    def _installer(self, unit: _Unit) -> str:
        by_kubeadm = any(os.path.basename(path) == "10-kubeadm.conf" for path in unit.drop_ins)
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
            environment.update(parse_environment(self._text(file["path"]) or ""))
        command = settings["ExecStart"][-1].replace("%%", "%").lstrip("-@:+!|")
        return expand_command(split_arguments(command), environment)

    def _running_command_line(self, unit: _Unit) -> t.List[str]:
        pid = unit.properties.get("MainPID", "0")
        text = self._text(f"/proc/{pid}/cmdline") if pid != "0" else None
        return text.rstrip("\0").split("\0") if text else []

    def _extra_args_file(
        self, settings: t.Mapping[str, t.List[str]], environment_files: t.Sequence[Report]
    ) -> t.Optional[str]:
        words = [word for command in settings.get("ExecStart", [])[-1:] for word in split_arguments(command)]
        paths = [file["path"] for file in environment_files]
        candidates = [path for path in paths if path in EXTRA_ARGS_FILES]
        if f"${EXTRA_ARGS}" not in words or not candidates:
            return None
        chosen: str = candidates[-1]
        for path in paths[paths.index(chosen) + 1 :]:
            if EXTRA_ARGS in parse_environment(self._text(path) or ""):
                self._problems.append(problems.extra_args_overruled(path, EXTRA_ARGS, chosen))
        if EXTRA_ARGS not in parse_environment(self._text(chosen) or ""):
            self._problems += [
                problems.extra_args_hidden(place, EXTRA_ARGS, chosen)
                for place in self._earlier_extra_args(settings, paths[: paths.index(chosen)])
            ]
        return chosen

    def _earlier_extra_args(self, settings: t.Mapping[str, t.List[str]], paths: t.Sequence[str]) -> t.List[str]:
        """The sources of values that an assignment in a later file would override."""
        words = [word for setting in settings.get("Environment", []) for word in split_arguments(setting)]
        places = ["the service's Environment="] if any(word.startswith(f"{EXTRA_ARGS}=") for word in words) else []
        return places + [path for path in paths if EXTRA_ARGS in parse_environment(self._text(path) or "")]

    # Configuration

    def _embedded_command_line(self, manager: str) -> t.List[str]:
        """The kubelet flags that the configuration file of k3s or RKE2 passes on (`kubelet-arg`)."""
        path = f"/etc/rancher/{manager}/config.yaml"
        config = self._yaml(path)
        arguments = config.get("kubelet-arg") if isinstance(config, dict) else None
        self._problems.append(problems.embedded(manager, path))
        values = arguments if isinstance(arguments, list) else [arguments] if arguments else []
        return ["kubelet", *(f"--{str(value).lstrip('-')}" for value in values)]

    def _absolute(self, path: t.Optional[str]) -> t.Optional[str]:
        """Relative paths start at /, the kubelet service's working directory."""
        return os.path.normpath(os.path.join("/", path)) if path else None

    def _yaml(self, path: str) -> t.Any:
        text = self._text(path)
        return None if text is None else self._parsed(path, text)

    def _parsed(self, path: str, text: str) -> t.Any:
        try:
            return parse_yaml(text)
        except YamlError as exc:
            self._problems.append(problems.not_yaml(path, exc))
            return None

    def _config(self, path: t.Optional[str]) -> t.Optional[Report]:
        if path is None:
            return None
        if not self._exists(path):
            self._problems.append(problems.config_file_missing(path))
            return None
        return self._checked(path, self._yaml(path), drop_in=False)

    def _checked(self, path: str, content: t.Any, drop_in: bool) -> t.Optional[Report]:
        if content is None:
            return None
        self._problems += config_problems(content, path, drop_in)
        return content if isinstance(content, dict) else None

    def _drop_ins(self, config_dir: t.Optional[str]) -> t.List[Report]:
        """The drop-in files in the order of their precedence, including subfolders (Go's filepath.WalkDir)."""
        if config_dir is None:
            return []
        top = self._path(config_dir)
        paths = [
            os.path.normpath(os.path.join(config_dir, os.path.relpath(os.path.join(folder, name), top)))
            for folder, _folders, names in os.walk(top)
            for name in names
            if is_drop_in(name)
        ]
        result: t.List[Report] = []
        for path in sorted(paths, key=lambda path: path.split("/")):
            text = self._text(path)
            content = None if text is None else self._parsed(path, text)
            result.append({"path": path, "text": text, "config": self._checked(path, content, drop_in=True) or {}})
        return result

    def _effective(
        self,
        config_file: t.Optional[str],
        config: t.Optional[Report],
        drop_ins: t.Sequence[Report],
        command_line: t.Sequence[str],
    ) -> t.Tuple[Report, t.Dict[str, str]]:
        try:
            return effective_config(config_file, config, drop_ins, command_line)
        except FlagError as exc:
            self._problems.append(problems.command_line(exc))
            return effective_config(config_file, config, drop_ins, [])

    # State, runtime, cgroups

    def _cpu_state(self, path: str) -> Report:
        keys = ("policy", "default_cpus", "entries", "format", "checksum_ok")
        return self._state(path, keys, parse_state)

    def _memory_state(self, path: str) -> Report:
        return self._state(path, ("policy",), parse_memory_state)

    def _state(self, path: str, keys: t.Sequence[str], parse: t.Callable[[str], t.Mapping[str, t.Any]]) -> Report:
        report: Report = {"path": path, "exists": self._exists(path), "text": self._text(path), "error": None}
        report.update(dict.fromkeys(keys))
        if report["text"] is not None:
            try:
                state = parse(report["text"])
                report.update((key, state[key]) for key in keys)
            except StateFileError as exc:
                report["error"] = str(exc)
        return report

    def version(self, program: str) -> t.Optional[str]:
        """The version of an installed program, which may be newer than the running process."""
        return _first_version(self._output(program, "--version"))

    def _runtime(self, command_line: t.Sequence[str], config: Report, version: t.Optional[str]) -> Report:
        endpoint = flag_value(command_line, "container-runtime-endpoint") or config.get("containerRuntimeEndpoint")
        if not endpoint and version is not None:
            by_docker = tuple(int(part) for part in version.split(".")[:2]) < _FIRST_WITHOUT_DOCKERSHIM
            endpoint = f"unix:///{'var/run/dockershim' if by_docker else 'run/containerd/containerd'}.sock"
        names = (name for name, program in _RUNTIME_PROGRAMS.items() if program in (endpoint or ""))
        return {"name": next(names, "unknown"), "endpoint": endpoint}

    def _cgroup_version(self) -> t.Optional[int]:
        if self._exists("/sys/fs/cgroup/cgroup.controllers"):
            return 2
        return 1 if self._exists("/sys/fs/cgroup/cpuset") else None


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


def _is_stale(running: t.Sequence[str], configured: t.Sequence[str]) -> t.Optional[bool]:
    """Whether the arguments differ between the running process and the next start; None if the programs differ."""
    if not running or not configured or os.path.basename(running[0]) != os.path.basename(configured[0]):
        return None
    return list(running[1:]) != list(configured[1:])


def _first_version(text: t.Optional[str]) -> t.Optional[str]:
    match = re.search(r"\bv?(\d+\.\d+\.\d+(?:-(?:alpha|beta|rc)\.?\d+)?)", text or "", re.ASCII)
    return match[1] if match else None
