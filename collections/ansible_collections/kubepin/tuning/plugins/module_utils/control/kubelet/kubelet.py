# SPDX-License-Identifier: GPL-3.0-or-later
"""A node's kubelet, decoded from the texts that its node sent (`node/readers/kubelet.py`)."""

from __future__ import annotations

import posixpath
import typing as t
from dataclasses import asdict, dataclass
from functools import partial

from ansible_collections.kubepin.tuning.plugins.module_utils.common.kubelet import problems
from ansible_collections.kubepin.tuning.plugins.module_utils.common.kubelet.argument_file import (
    Snap,
    arguments_in,
    rewrite_arguments,
    snap_of,
)
from ansible_collections.kubepin.tuning.plugins.module_utils.common.kubelet.checkpoint import StateFileError
from ansible_collections.kubepin.tuning.plugins.module_utils.common.kubelet.cpu_manager_state import parse_state
from ansible_collections.kubepin.tuning.plugins.module_utils.common.kubelet.feature_gates import manages_pod_level
from ansible_collections.kubepin.tuning.plugins.module_utils.common.kubelet.flags import (
    EXTRA_ARGS,
    FlagError,
    extra_args_of,
    flag_path,
    flag_value,
    flag_values,
    rewrite_extra_args,
)
from ansible_collections.kubepin.tuning.plugins.module_utils.common.kubelet.memory_manager_state import (
    parse_memory_state,
)
from ansible_collections.kubepin.tuning.plugins.module_utils.common.layout import DROP_IN_DIR
from ansible_collections.kubepin.tuning.plugins.module_utils.common.problem import Problem, to_dicts
from ansible_collections.kubepin.tuning.plugins.module_utils.control.kubelet.config import (
    Config,
    DropIn,
    is_drop_in,
    merged_config,
    with_defaults,
)
from ansible_collections.kubepin.tuning.plugins.module_utils.control.kubelet.decode import decode
from ansible_collections.kubepin.tuning.plugins.module_utils.control.kubelet.fields import NEWEST_MINOR
from ansible_collections.kubepin.tuning.plugins.module_utils.control.kubelet.settings import minor_of, version_problems
from ansible_collections.kubepin.tuning.plugins.module_utils.control.kubelet.values import value_problems
from ansible_collections.kubepin.tuning.plugins.module_utils.control.kubelet.yaml_text import YamlError, parse_yaml_text

Facts = dict[str, t.Any]

SCHEMA = 1
EMBEDDED_DROP_INS_MINOR = 32
"""The minor version of 1.x from which k3s and RKE2 pass all settings to the kubelet as drop-ins
(docs.k3s.io/installation/configuration, "Kubelet Configuration Files")."""
_FIRST_WITHOUT_DOCKERSHIM = (1, 24)
_CPU_STATE = ("policy", "default_cpus", "entries", "format", "checksum_ok")
_MEMORY_STATE = ("policy",)
_RUNTIME_PROGRAMS = {"containerd": "containerd", "cri-o": "crio", "docker": "docker"}


@dataclass(frozen=True)
class ExtraArgs:
    """Where a service takes further arguments for the kubelet's command line."""

    file: str
    """An environment file, or a snap's file of arguments."""
    variable: str | None
    """The variable in it; None in a file of arguments."""
    text: str | None
    """The file's text; None if it does not exist."""
    snap: Snap | None = None
    """The snap whose file of arguments it is."""

    def arguments(self, text: str | None) -> list[str]:
        """The arguments in a text of this file."""
        if self.snap:
            return arguments_in(self.snap, text)
        return extra_args_of(text, self.variable or EXTRA_ARGS)

    def rewritten(self, remove: t.Collection[str], add: t.Sequence[str]) -> str:
        """The text without the flags *remove*, and with the arguments *add*.

        :raises FlagError: if nothing can be added to the text
        """
        if self.snap:
            return rewrite_arguments(self.snap, self.text, remove, add)
        return rewrite_extra_args(self.text, remove, add, self.variable or EXTRA_ARGS)


@dataclass(frozen=True)
class Layout:
    """Where this kubelet's settings come from, where kubepin may put its own, and what runs the kubelet."""

    manager: str
    """What set the node up: kubeadm, kubespray, nodeadm, kops, openshift, k3s, rke2, k0s, microk8s, k8s-snap or unknown."""
    service: str
    """The systemd service that a restart restarts."""
    restart_interval: float | None
    """Seconds that systemd waits before it restarts the service; None if unknown."""
    command_line: tuple[str, ...]
    """Program and arguments of the next start; of an embedded kubelet, what its distribution passes on."""
    config_file: str | None
    config: Config | None
    config_dir: str | None
    drop_ins: tuple[DropIn, ...]
    """In the order of precedence, the highest last."""
    idle_drop_ins: t.Mapping[str, str | None]
    """Path -> text of the drop-ins in DROP_IN_DIR if the kubelet has no drop-in directory: it would read them with one."""
    extra_args: ExtraArgs | None
    """None if the service takes none."""
    root_dir: str
    """The kubelet's --root-dir, which holds its state files."""


@dataclass(frozen=True)
class StateFile:
    """A checkpoint that the kubelet reads at its start."""

    path: str
    text: str | None
    """None if there is no such file."""


@dataclass(frozen=True)
class Runtime:
    """The container runtime, as the kubelet's configuration names it."""

    name: str
    endpoint: str | None


@dataclass(frozen=True)
class Kubelet:
    """A node's kubelet: what it runs with from its next start on, and what is known of the running one."""

    version: str | None
    """Of the installed program, which may be newer than the running process; None if it could not be read."""
    layout: Layout
    running: tuple[str, ...]
    """Program and arguments of the running process; empty if none runs."""
    effective: Config
    """Field of KubeletConfiguration -> value, for each field of `config.DEFAULTS`."""
    sources: t.Mapping[str, str]
    """Field -> where its value comes from, in the words of `effective_config`."""
    configured: Config
    """Every field of KubeletConfiguration that the files set, or a flag in `flags.FLAGS`."""
    configured_by: t.Mapping[str, str]
    """Field -> where its value comes from, in the words of `merged_config`."""
    cpu_state: StateFile
    memory_state: StateFile
    runtime: Runtime
    cgroup_version: int | None
    running_seconds: float | None
    """How long the process has been running; None if none runs, or unknown."""
    start_problem: Problem | None
    """Why the service does not run, or does not stay up; None if it runs."""
    problems: tuple[Problem, ...]
    """What could not be read or decoded, and what would keep the kubelet from starting. What it would only ignore, such
    as a misspelt field, is waivable."""


def decode_kubelet(sources: t.Mapping[str, t.Any]) -> Kubelet:
    """The kubelet that a node's texts describe.

    Whatever cannot be decoded is not an error, but listed in the kubelet's `problems`.

    :param sources: as `read_sources` returns them
    """
    return _Decoder(sources).kubelet()


class _Decoder:
    def __init__(self, sources: t.Mapping[str, t.Any]) -> None:
        self._sources = sources
        # a version that cannot be read is a problem of its own; until then, the newest rules are as good as others
        self._version = sources["version"] if not version_problems(sources["version"]) else f"1.{NEWEST_MINOR}.0"
        self._problems: list[Problem] = []

    def kubelet(self) -> Kubelet:
        sources = self._sources
        command_line = self._command_line()
        config_file = flag_path(command_line, "config")
        config = self._config(config_file)
        config_dir = flag_path(command_line, "config-dir")
        drop_ins = self._drop_ins(config_dir)
        configured, configured_by = self._merged(config_file, config, drop_ins, command_line)
        effective, origins = with_defaults(configured, configured_by)
        self._problems += value_problems(effective, self._version)
        start_problem = sources.get("start_problem")
        layout = Layout(
            manager=sources["manager"],
            service=sources["service"]["name"],
            restart_interval=sources["service"]["restart_interval_s"],
            command_line=tuple(command_line),
            config_file=config_file,
            config=config,
            config_dir=config_dir,
            drop_ins=drop_ins,
            idle_drop_ins={} if config_dir else {path: self._text(path) for path in self._drop_in_paths(DROP_IN_DIR)},
            extra_args=self._extra_args(),
            root_dir=sources["root_dir"],
        )
        return Kubelet(
            version=sources["version"],
            layout=layout,
            running=tuple(sources["command_line"]),
            effective=effective,
            sources=origins,
            configured=configured,
            configured_by=configured_by,
            cpu_state=StateFile(**sources["state"]["cpu_manager"]),
            memory_state=StateFile(**sources["state"]["memory_manager"]),
            runtime=_runtime(command_line, config or {}, sources["version"]),
            cgroup_version=sources["cgroup_version"],
            running_seconds=sources["service"].get("running_seconds"),
            start_problem=Problem.from_dict(start_problem) if start_problem else None,
            problems=(*map(Problem.from_dict, sources["problems"]), *self._problems),
        )

    def _command_line(self) -> t.Sequence[str]:
        line: list[str] = self._sources["configured_command_line"]
        paths: list[str] = self._sources["embedded_configs"]
        return self._embedded_command_line(line, paths) if paths else line

    def _embedded_command_line(self, line: t.Sequence[str], paths: t.Sequence[str]) -> list[str]:
        """What k3s and RKE2 pass on to the kubelet, as far as it is known: their drop-in directory, and kubelet-arg.

        Of several files, the last that sets a key counts; one that ends in + adds to the key (docs.rke2.io/install/configuration).
        Options of the service's command come last.
        """
        manager, own = self._sources["manager"], flag_values(line)
        arguments: list[t.Any] = []
        data_dir = f"/var/lib/rancher/{manager}"
        for path in paths:
            found = self._distribution(path)
            config: Config = found if isinstance(found, dict) else {}
            if "kubelet-arg" in config:
                arguments = _as_list(config["kubelet-arg"])
            arguments += _as_list(config.get("kubelet-arg+"))
            data_dir = str(config.get("data-dir") or data_dir)
        arguments += own.get("kubelet-arg", [])
        data_dir = (own.get("data-dir") or [data_dir])[-1] or data_dir
        if minor_of(self._version) >= EMBEDDED_DROP_INS_MINOR:
            drop_ins = [f"--config-dir={data_dir.rstrip('/')}/agent/etc/kubelet.conf.d"]
        else:
            drop_ins = []
            self._problems.append(problems.embedded(manager, paths[0]))
        return ["kubelet", *drop_ins, *(f"--{str(value).lstrip('-')}" for value in arguments)]

    def _extra_args(self) -> ExtraArgs | None:
        sources = self._sources
        if sources["extra_args_file"] is None:
            return None
        return ExtraArgs(
            sources["extra_args_file"],
            sources["extra_args_variable"],
            sources["extra_args_text"],
            snap_of(sources["manager"]),
        )

    def _distribution(self, path: str) -> t.Any:
        """The configuration of k3s or RKE2."""
        try:
            return parse_yaml_text(self._text(path) or "").value
        except YamlError as exc:
            self._problems.append(problems.not_yaml(path, exc))
            return None

    def _text(self, path: str) -> str | None:
        text: str | None = self._sources["texts"].get(path)
        return text

    def _config(self, path: str | None) -> Config | None:
        if path is None:
            return None
        text = self._text(path)
        if text is None:
            if not self._is_unreadable(path):
                self._problems.append(problems.config_file_missing(path))
            return None
        return self._decoded(path, text, drop_in=False)

    def _is_unreadable(self, path: str) -> bool:
        return any(
            problem["code"] == "file_unreadable" and problem["subject"] == path for problem in self._sources["problems"]
        )

    def _decoded(self, path: str, text: str, drop_in: bool) -> Config:
        fields, found = decode(text, path, self._version, drop_in)
        self._problems += found
        return fields

    def _drop_ins(self, config_dir: str | None) -> tuple[DropIn, ...]:
        paths = sorted(self._drop_in_paths(config_dir), key=lambda path: path.split("/"))
        texts = [(path, self._text(path)) for path in paths]
        return tuple(
            DropIn(path, text, {} if text is None else self._decoded(path, text, drop_in=True)) for path, text in texts
        )

    def _drop_in_paths(self, folder: str | None) -> list[str]:
        return [path for path in self._sources["drop_ins"].get(folder, ()) if is_drop_in(path)]

    def _merged(
        self,
        config_file: str | None,
        config: Config | None,
        drop_ins: t.Sequence[DropIn],
        command_line: t.Sequence[str],
    ) -> tuple[Facts, dict[str, str]]:
        try:
            return merged_config(config_file, config, drop_ins, command_line)
        except FlagError as exc:
            self._problems.append(problems.command_line(exc))
            return merged_config(config_file, config, drop_ins, [])


def _as_list(value: t.Any) -> list[t.Any]:
    """The values of an option that takes several, or a single one."""
    return [each for each in (value if isinstance(value, list) else [value]) if each]


def _runtime(command_line: t.Sequence[str], config: Config, version: str | None) -> Runtime:
    endpoint = flag_value(command_line, "container-runtime-endpoint") or config.get("containerRuntimeEndpoint")
    if not endpoint and version is not None:
        by_docker = tuple(int(part) for part in version.split(".")[:2]) < _FIRST_WITHOUT_DOCKERSHIM
        endpoint = f"unix:///{'var/run/dockershim' if by_docker else 'run/containerd/containerd'}.sock"
    names = (name for name, program in _RUNTIME_PROGRAMS.items() if program in (endpoint or ""))
    return Runtime(next(names, "unknown"), endpoint)


def kubelet_facts(sources: t.Mapping[str, t.Any], programs: t.Mapping[str, str | None]) -> Facts:
    """The facts that the module kubelet_info documents.

    :param sources: as `read_sources` returns them
    :param programs: as `read_programs` returns them
    """
    kubelet = decode_kubelet(sources)
    layout = kubelet.layout
    embedded = bool(sources["embedded_configs"])
    minor = minor_of(kubelet.version) if kubelet.version and not version_problems(kubelet.version) else NEWEST_MINOR
    pod_level = manages_pod_level(kubelet.effective["featureGates"], minor)
    return {
        "schema": SCHEMA,
        "manager": layout.manager,
        "version": kubelet.version,
        "service": sources["service"],
        "command_line": sources["command_line"],
        "configured_command_line": sources["configured_command_line"],
        "stale": None if embedded else _is_stale(sources["command_line"], sources["configured_command_line"]),
        "extra_args_file": sources["extra_args_file"],
        "extra_args_variable": sources["extra_args_variable"],
        "extra_args_text": sources["extra_args_text"],
        "config_file": layout.config_file,
        "config": layout.config,
        "config_dir": layout.config_dir,
        "drop_ins": [asdict(drop_in) for drop_in in layout.drop_ins],
        "effective": kubelet.effective,
        "sources": kubelet.sources,
        "root_dir": layout.root_dir,
        "state": {
            "cpu_manager": _state_facts(
                kubelet.cpu_state, _CPU_STATE, partial(parse_state, minor=minor, pod_level=pod_level)
            ),
            "memory_manager": _state_facts(
                kubelet.memory_state, _MEMORY_STATE, partial(parse_memory_state, minor=minor, pod_level=pod_level)
            ),
        },
        "runtime": container_runtime(kubelet, programs),
        "cgroup": control_groups(kubelet),
        "start_problem": kubelet.start_problem.to_dict() if kubelet.start_problem else None,
        "problems": to_dicts(kubelet.problems),
    }


def container_runtime(kubelet: Kubelet, programs: t.Mapping[str, str | None]) -> Facts:
    """`kubelet.runtime` of the module kubelet_info.

    :param programs: as `read_programs` returns them
    """
    program = _RUNTIME_PROGRAMS.get(kubelet.runtime.name)
    return {
        **asdict(kubelet.runtime),
        "version": programs.get(program) if program else None,
        "runc_version": programs.get("runc"),
    }


def control_groups(kubelet: Kubelet) -> Facts:
    """`kubelet.cgroup` of the module kubelet_info."""
    return {"version": kubelet.cgroup_version, "driver": kubelet.effective["cgroupDriver"]}


def _is_stale(running: t.Sequence[str], configured: t.Sequence[str]) -> bool | None:
    """Whether the arguments differ between the running process and the next start; None if the programs differ."""
    if not running or not configured or posixpath.basename(running[0]) != posixpath.basename(configured[0]):
        return None
    return list(running[1:]) != list(configured[1:])


def _state_facts(file: StateFile, names: t.Sequence[str], parse: t.Callable[[str], t.Mapping[str, t.Any]]) -> Facts:
    """A state file's facts; *names* are null if it is missing or invalid."""
    facts: Facts = {"path": file.path, "exists": file.text is not None, "text": file.text, "error": None}
    try:
        state: t.Mapping[str, t.Any] = parse(file.text) if file.text is not None else {}
    except StateFileError as exc:
        return {**facts, **dict.fromkeys(names), "error": str(exc)}
    return {**facts, **{name: state.get(name) for name in names}}
