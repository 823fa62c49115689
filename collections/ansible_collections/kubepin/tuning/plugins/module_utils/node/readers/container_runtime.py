# SPDX-License-Identifier: GPL-3.0-or-later
"""How a node's container runtime starts GPU containers. Read-only; a fact that is not certain is None.

GPU pods run under the default handler, or through a RuntimeClass under an NVIDIA handler. A fact on which these
handlers differ is unknown.
"""

from __future__ import annotations

import glob
import json
import os
import re
import shutil
import stat
import typing as t
from functools import lru_cache

from ansible_collections.kubepin.tuning.plugins.module_utils.common.formats.toml import Table, TomlError, parse_toml

Run = t.Callable[[t.List[str]], t.Tuple[int, str, str]]
"""Runs a command without a shell and returns its exit code, output and error output."""

SCHEMA = 1
NVIDIA_CONFIG = "/etc/nvidia-container-runtime/config.toml"
CDI_SPECIFICATIONS = ("/etc/cdi/*", "/var/run/cdi/*")
SERVICE_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
"""Where systemd's services look for programs (systemd.exec(5))."""

_CRI_PLUGINS = ("io.containerd.cri.v1.runtime", "io.containerd.grpc.v1.cri")
"""Plugin names in containerd's configuration, version 3 and version 2."""
RUNC_SHIMS = ("io.containerd.runc.v1", "io.containerd.runc.v2")
_LOW_LEVEL = ("docker-runc", "runc", "crun")
"""The programs that nvidia-container-runtime looks for by default; newer releases omit the first."""
_NVIDIA = "nvidia-container-runtime"
_JUST_IN_TIME = (1, 18)
"""Since this NVIDIA Container Toolkit, the mode `auto` means CDI instead of the hook (its release notes)."""
_MODES = {"cdi": "cdi", "jit-cdi": "cdi", "legacy": "legacy"}


class Unknown(Exception):
    """A fact is not certain; the text says why."""


class Handler(t.NamedTuple):
    """How one kind of pod is started."""

    name: str
    program: t.Optional[str]
    """The OCI runtime; None if it is not a known one."""
    cgroup_driver: t.Optional[str]


class Runtime(t.NamedTuple):
    """What the configuration of a container runtime says."""

    handlers: t.List[Handler]
    """The handlers that GPU pods may run under."""
    cdi: bool
    hook_folders: t.List[str]
    """The folders of the hooks that the runtime adds by itself."""


def containerd_runtime(dump: str) -> Runtime:
    """:param dump: what ``containerd config dump`` prints, for configurations of version 2 and 3

    :raises Unknown: if it has another form
    """
    plugins = _toml(dump, "containerd config dump").get("plugins") or {}
    cri = next((plugins[name] for name in _CRI_PLUGINS if name in plugins), None)
    settings = (cri or {}).get("containerd") or {}
    runtimes = settings.get("runtimes") or {}
    default = settings.get("default_runtime_name") or "runc"
    if cri is None or default not in runtimes:
        raise Unknown(f'`containerd config dump` names no runtime "{default}" of the CRI plugin')
    handlers = [_containerd_handler(name, runtime) for name, runtime in runtimes.items()]
    return Runtime(_for_gpus(handlers, default), bool(cri.get("enable_cdi")), [])


def crio_runtime(config: str) -> Runtime:
    """:param config: what ``crio status config`` prints

    :raises Unknown: if it has another form
    """
    settings = (_toml(config, "crio status config").get("crio") or {}).get("runtime") or {}
    default, runtimes = str(settings.get("default_runtime")), settings.get("runtimes") or {}
    if default not in runtimes:
        raise Unknown(f'`crio status config` names no runtime "{default}"')
    driver = settings.get("cgroup_manager")
    handlers = [
        Handler(name, runtime.get("runtime_path") or name, driver if driver in ("systemd", "cgroupfs") else None)
        for name, runtime in runtimes.items()
    ]
    return Runtime(_for_gpus(handlers, default), True, list(settings.get("hooks_dir") or []))


def docker_runtime(info: str) -> Runtime:
    """:param info: what ``docker info --format '{{json .}}'`` prints

    :raises Unknown: if it has another form
    """
    try:
        data = json.loads(info)
        program = data["Runtimes"][data["DefaultRuntime"]].get("path")
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise Unknown("`docker info` names no default runtime") from error
    # dockershim supports no other handler
    return Runtime([Handler(data["DefaultRuntime"], program, data.get("CgroupDriver"))], False, [])


def parse_runc_version(output: str) -> str:
    """:param output: what ``runc --version`` prints; Debian writes a tilde before the release candidate

    :raises Unknown: for another program, such as crun
    """
    match = re.match(r"runc version v?(\d+\.\d+\.\d+)(?:[-~](rc\.?\d+))?", output)
    if not match:
        raise Unknown(f'it says it is "{output.strip().splitlines()[0] if output.strip() else ""}", not runc')
    return "-".join(filter(None, match.groups()))


def nvidia_settings(text: str) -> t.Tuple[str, t.List[str]]:
    """The mode and the programs of an nvidia-container-runtime's configuration.

    :raises Unknown: if the configuration cannot be parsed
    """
    settings = _toml(text, "nvidia-container-runtime's config.toml").get(_NVIDIA) or {}
    return str(settings.get("mode") or "auto"), list(settings.get("runtimes") or _LOW_LEVEL)


class Reader:
    """Reads one machine."""

    def __init__(self, run: Run, root: str = "/") -> None:
        """:param root: where the machine's files are"""
        self._run = run
        self._root = root

    def report(self, runtime: str, threads_per_core: t.Optional[int], devices: t.Sequence[str]) -> t.Dict[str, t.Any]:
        """What the module container_runtime_info documents.

        :param runtime: the container runtime that the kubelet uses, as kubelet_info names it
        :param devices: patterns of the GPUs' device files
        """
        facts: t.Dict[str, t.Any] = {"schema": SCHEMA, "runtime": runtime, "threads_per_core": threads_per_core}
        unknown = [] if threads_per_core else ["threads_per_core: the kernel does not tell"]
        readers: t.Dict[str, t.Callable[[], t.Any]] = {
            "runc_version": lambda: _agreed(found(), self.runc_version),
            "device_injection": lambda: _agreed(found(), lambda handler: self._injection(handler, found())),
            "cgroup_driver": lambda: _agreed(found(), _cgroup_driver),
            "dev_char_links": lambda: self._dev_char_links(devices),
        }

        @lru_cache(maxsize=1)
        def found() -> Runtime:
            return self._runtime(runtime)

        for name, read in readers.items():
            facts[name] = None
            try:
                facts[name] = read()
            except Unknown as why:
                unknown.append(f"{name}: {why}")
        return {**facts, "unknown": unknown}

    def runc_version(self, handler: Handler) -> str:
        """The version of the runc that starts this handler's containers.

        :raises Unknown: if its runc is not known
        """
        program = _program(handler)
        if _is_nvidia(program):
            _unused, candidates = nvidia_settings(self._nvidia_config(program))
            program = next((name for name in candidates if self._where(name)), "")
            if not program:
                raise Unknown(f"none of {_NVIDIA}'s runtimes {', '.join(candidates)} is on this node")
        try:
            return parse_runc_version(self.output(program, "--version"))
        except Unknown as why:
            raise Unknown(f"{program}: {why}") from why

    def output(self, program: str, *arguments: str) -> str:
        """The output of a program, searched for where systemd's services search.

        :raises Unknown: if it is missing or fails
        """
        path = self._where(program)
        if path is None:
            raise Unknown(f"there is no {program} on this node")
        code, output, error = self._run([path, *arguments])
        if code:
            raise Unknown(f"`{' '.join([program, *arguments])}` failed: {(error or output).strip()[:200]}")
        return output

    def _runtime(self, name: str) -> Runtime:
        if name == "containerd":
            return containerd_runtime(self.output("containerd", "config", "dump"))
        if name == "cri-o":
            return crio_runtime(self.output("crio", "status", "config"))
        if name == "docker":
            return docker_runtime(self.output("docker", "info", "--format", "{{json .}}"))
        raise Unknown("the kubelet's container runtime is none of containerd, CRI-O and Docker")

    def _injection(self, handler: Handler, runtime: Runtime) -> str:
        program = _program(handler)
        if _is_nvidia(program):
            return self._nvidia_injection(program)
        if os.path.basename(program) not in ("runc", "crun", "docker-runc"):
            raise Unknown(f"nothing is known of the runtime {program}")
        if any(
            "nvidia" in os.path.basename(path) for folder in runtime.hook_folders for path in self._files(f"{folder}/*")
        ):
            return "legacy"
        # otherwise only the device plugin names devices, which the specification contains either way
        return "cdi" if runtime.cdi and self._has_cdi() else "device_specs"

    def _nvidia_injection(self, program: str) -> str:
        variant = os.path.basename(program)[len(_NVIDIA) :].lstrip(".")
        if variant in _MODES:
            return _MODES[variant]
        if variant:
            raise Unknown(f"nothing is known of the runtime {program}")
        mode, _unused = nvidia_settings(self._nvidia_config(program))
        if mode in _MODES:
            return _MODES[mode]
        if mode != "auto":
            raise Unknown(f'{_NVIDIA} has the mode "{mode}", of which nothing is known')
        version = self._toolkit_version(program)
        if version >= _JUST_IN_TIME:
            return "cdi"
        if self._has_cdi():
            raise Unknown(f"{_NVIDIA} {version[0]}.{version[1]} chooses between the hook and CDI for each pod")
        return "legacy"

    def _toolkit_version(self, program: str) -> t.Tuple[int, int]:
        beside = os.path.join(os.path.dirname(program), "nvidia-ctk")
        output = self.output(beside if os.path.isabs(program) else "nvidia-ctk", "--version")
        match = re.search(r"version (\d+)\.(\d+)\.", output)
        if not match:
            raise Unknown("`nvidia-ctk --version` names no version, on which the meaning of the mode auto depends")
        return int(match[1]), int(match[2])

    def _nvidia_config(self, program: str) -> str:
        """The GPU Operator's toolkit keeps its configuration next to its programs."""
        beside = os.path.join(os.path.dirname(program), ".config", _NVIDIA, "config.toml")
        for path in (beside, NVIDIA_CONFIG):
            try:
                with open(self._path(path), encoding="utf-8") as file:
                    return file.read()
            except FileNotFoundError:
                continue
            except (OSError, UnicodeDecodeError) as error:
                raise Unknown(f"{path} cannot be read: {error}") from error
        return ""

    def _has_cdi(self) -> bool:
        return any(
            "nvidia" in os.path.basename(path) for pattern in CDI_SPECIFICATIONS for path in self._files(pattern)
        )

    def _dev_char_links(self, patterns: t.Sequence[str]) -> bool:
        numbers = []
        for path in sorted({path for pattern in patterns for path in self._files(pattern)}):
            try:
                status = os.stat(path)
            except OSError as error:
                raise Unknown(f"{path} cannot be looked at: {error.strerror}") from error
            if stat.S_ISCHR(status.st_mode):
                numbers.append((os.major(status.st_rdev), os.minor(status.st_rdev)))
        if not numbers:
            raise Unknown(f"there is no device {', '.join(patterns)}")
        return all(os.path.exists(self._path(f"/dev/char/{major}:{minor}")) for major, minor in numbers)

    def _where(self, program: str) -> t.Optional[str]:
        if os.path.isabs(program):
            return shutil.which(self._path(program))
        return shutil.which(program, path=":".join(self._path(folder) for folder in SERVICE_PATH.split(":")))

    def _files(self, pattern: str) -> t.List[str]:
        return glob.glob(self._path(pattern))

    def _path(self, path: str) -> str:
        return os.path.join(self._root, path.lstrip("/"))


def _containerd_handler(name: str, runtime: Table) -> Handler:
    options = runtime.get("options") or {}
    if runtime.get("runtime_type") not in RUNC_SHIMS:
        return Handler(name, None, None)
    driver = "systemd" if options.get("SystemdCgroup") else "cgroupfs"
    return Handler(name, options.get("BinaryName") or "runc", driver)


def _for_gpus(handlers: t.Sequence[Handler], default: str) -> t.List[Handler]:
    return [handler for handler in handlers if handler.name == default or _is_nvidia(handler.program or "")]


def _agreed(runtime: Runtime, read: t.Callable[[Handler], t.Any]) -> t.Any:
    found = {handler.name: read(handler) for handler in runtime.handlers}
    if len(set(found.values())) > 1:
        different = ", ".join(f"{value} under {name}" for name, value in found.items())
        raise Unknown(f"the handlers that GPU pods may run under differ: {different}")
    return next(iter(found.values()))


def _is_nvidia(program: str) -> bool:
    return os.path.basename(program).startswith(_NVIDIA)


def _program(handler: Handler) -> str:
    if not handler.program:
        raise Unknown(f"the handler {handler.name} is no runc")
    return handler.program


def _cgroup_driver(handler: Handler) -> str:
    if handler.cgroup_driver not in ("systemd", "cgroupfs"):
        raise Unknown(f"the configuration of the handler {handler.name} does not tell")
    return handler.cgroup_driver


def _toml(text: str, origin: str) -> Table:
    try:
        return parse_toml(text)
    except TomlError as error:
        raise Unknown(f"{origin}: {error}") from error
