# SPDX-License-Identifier: GPL-3.0-or-later
"""How a node's container runtime starts GPU containers, decoded from what its node sent
(`node/readers/container_runtime.py`). A fact that is not certain is None.

A pod runs under the default handler, or under that of its RuntimeClass. Of a GPU pod whose handler is not known, only
those facts are known on which the default handler and NVIDIA's agree.
"""

from __future__ import annotations

import contextlib
import posixpath
import re
import typing as t
from dataclasses import dataclass

from ansible_collections.kubepin.tuning.plugins.module_utils.control.gpu_access.document import Table, Unknown
from ansible_collections.kubepin.tuning.plugins.module_utils.control.gpu_access.programs import Answer, Programs
from ansible_collections.kubepin.tuning.plugins.module_utils.control.node_call import Call

Facts = dict[str, t.Any]

SCHEMA = 1
NVIDIA_CONFIG = "/etc/nvidia-container-runtime/config.toml"
CDI_FOLDERS = ("/etc/cdi", "/var/run/cdi")
RUNC_SHIMS = ("io.containerd.runc.v1", "io.containerd.runc.v2")

_CRI_PLUGINS = {"io.containerd.cri.v1.runtime": True, "io.containerd.grpc.v1.cri": False}
"""Plugin names in containerd's configuration -> whether CDI is on if `enable_cdi` is not set: version 3 and newer, and
version 2. containerd 2.4 has no `enable_cdi` any more: CDI is always on (containerd/containerd RELEASES.md,
internal/cri/server/container_create_linux.go)."""
_LOW_LEVEL = ("docker-runc", "runc", "crun")
"""The programs that nvidia-container-runtime looks for by default; newer releases omit the first."""
_NVIDIA = "nvidia-container-runtime"
_JUST_IN_TIME = (1, 18)
"""Since this NVIDIA Container Toolkit, the mode `auto` means CDI instead of the hook (its release notes)."""
_MODES = {"cdi": "cdi", "jit-cdi": "cdi", "legacy": "legacy"}


@dataclass(frozen=True)
class Handler:
    """How one kind of pod is started."""

    name: str
    program: str | None
    """The OCI runtime; None if it is not a known one."""
    cgroup_driver: str | None

    def known_program(self) -> str:
        """:raises Unknown: if it is not a known one"""
        if not self.program:
            raise Unknown(f"the handler {self.name} is not runc")
        return self.program


@dataclass(frozen=True)
class Runtime:
    """What the configuration of a container runtime says."""

    default: str
    """The handler of pods without a RuntimeClass."""
    handlers: tuple[Handler, ...]
    cdi: bool
    hook_folders: tuple[str, ...]
    """The folders of the hooks that the runtime adds by itself."""

    @property
    def for_gpus(self) -> tuple[Handler, ...]:
        """The handlers that GPU pods usually run under."""
        return tuple(it for it in self.handlers if it.name == self.default or _is_nvidia(it.program or ""))


@dataclass(frozen=True)
class NvidiaSettings:
    """What the configuration of an nvidia-container-runtime says."""

    mode: str
    runtimes: tuple[str, ...]
    """The low-level runtimes, of which it takes the first that it finds."""


def containerd_runtime(dump: str) -> Runtime:
    """:param dump: what ``containerd config dump`` prints, for configurations of version 2, 3 and 4

    :raises Unknown: if it has another form
    """
    plugins = Table.of_toml("`containerd config dump`", dump).table("plugins")
    plugin = next((name for name in _CRI_PLUGINS if name in plugins.values), None)
    if plugin is None:
        raise Unknown("`containerd config dump` has no CRI plugin")
    cri = plugins.table(plugin)
    settings = cri.table("containerd")
    default, runtimes = settings.text("default_runtime_name") or "runc", settings.table("runtimes")
    if default not in runtimes.values:
        raise Unknown(f'`containerd config dump` names no runtime "{default}" of the CRI plugin')
    handlers = tuple(_containerd_handler(name, runtimes.table(name)) for name in runtimes.values)
    return Runtime(default, handlers, cri.flag("enable_cdi", _CRI_PLUGINS[plugin]), ())


def crio_runtime(config: str) -> Runtime:
    """:param config: what ``crio status config`` prints

    :raises Unknown: if it has another form
    """
    settings = Table.of_toml("`crio status config`", config).table("crio").table("runtime")
    default, runtimes = settings.text("default_runtime"), settings.table("runtimes")
    if default not in runtimes.values:
        raise Unknown(f'`crio status config` names no runtime "{default}"')
    driver = settings.text("cgroup_manager")
    paths = {name: runtimes.table(name).text("runtime_path") or name for name in runtimes.values}
    handlers = tuple(Handler(name, path, driver) for name, path in paths.items())
    return Runtime(default, handlers, True, tuple(settings.texts("hooks_dir")))


def docker_runtime(info: str) -> Runtime:
    """:param info: what ``docker info --format '{{json .}}'`` prints

    :raises Unknown: if it has another form
    """
    data = Table.of_json("`docker info`", info)
    default, runtimes = data.text("DefaultRuntime"), data.table("Runtimes")
    if default not in runtimes.values:
        raise Unknown("`docker info` names no default runtime")
    # dockershim supports no other handler
    handler = Handler(default, runtimes.table(default).text("path"), data.text("CgroupDriver"))
    return Runtime(default, (handler,), False, ())


def nvidia_settings(text: str) -> NvidiaSettings:
    """:raises Unknown: if the configuration cannot be decoded"""
    settings = Table.of_toml(f"{_NVIDIA}'s config.toml", text).table(_NVIDIA)
    return NvidiaSettings(settings.text("mode") or "auto", tuple(settings.texts("runtimes")) or _LOW_LEVEL)


def parse_runc_version(output: str) -> str:
    """:param output: what ``runc --version`` prints; Debian writes a tilde before the release candidate

    :raises Unknown: for another program, such as crun
    """
    match = re.match(r"runc version v?(\d+\.\d+\.\d+)(?:[-~](rc\.?\d+))?", output, re.ASCII)
    if not match:
        raise Unknown(f'it says it is "{output.strip().splitlines()[0] if output.strip() else ""}", not runc')
    return "-".join(filter(None, match.groups()))


def runtime_facts(call: Call, runtime: str, device_patterns: t.Sequence[str]) -> Facts:
    """What the module container_runtime_info documents.

    :param runtime: the container runtime that the kubelet uses, as kubelet_info names it
    :param device_patterns: of the GPUs' device files
    :raises ModuleFailed: if the node cannot be read at all
    """
    arguments = {"runtime": runtime, "gpu_device_paths": list(device_patterns)}
    sources = call("container_runtime_info", arguments)["sources"]
    programs = Programs(call)
    threads = sources["threads_per_core"]
    facts: Facts = {"schema": SCHEMA, "runtime": runtime, "threads_per_core": threads}
    unknown = [] if threads else ["threads_per_core: the kernel does not tell"]
    readers: dict[str, t.Callable[[], t.Any]] = {
        "runc_version": lambda: default_runc_version(sources, programs),
        "device_injection": lambda: _injection(_decoded(sources), programs),
        "cgroup_driver": lambda: _agreed(_decoded(sources), _cgroup_driver),
        "dev_char_links": lambda: _has_dev_char_links(sources["devices"], device_patterns),
    }
    for name, read in readers.items():
        facts[name] = None
        try:
            facts[name] = read()
        except Unknown as why:
            unknown.append(f"{name}: {why}")
    return {**facts, **_by_handler(sources, programs), "unknown": unknown}


def default_runc_version(sources: t.Mapping[str, t.Any], programs: Programs) -> str:
    """The version of the runc that starts GPU containers.

    :param sources: as `read_runtime` returns them
    :raises Unknown: if it is not certain
    """
    runtime = _decoded(sources)
    _fetch_all(runtime, programs)
    return str(_agreed(runtime, lambda handler: runc_version(handler.known_program(), programs)))


def runc_version(program: str, programs: Programs) -> str:
    """The version of the runc that an OCI runtime is, or starts.

    :raises Unknown: if its runc is not known
    """
    if _is_nvidia(program):
        candidates = _nvidia_settings(program, programs).runtimes
        programs.fetch(programs=candidates)
        program = next((name for name in candidates if programs.is_there(name)), "")
        if not program:
            raise Unknown(f"none of {_NVIDIA}'s runtimes {', '.join(candidates)} is on this node")
    try:
        return parse_runc_version(programs.version(program))
    except Unknown as why:
        raise Unknown(f"{program}: {why}") from why


def adds_devices(program: str, programs: Programs) -> bool:
    """Whether an OCI runtime adds devices to the specification of a container before runc gets it, as NVIDIA's does in the
    modes for CDI.

    :raises Unknown: if its mode is not known
    """
    return _is_nvidia(program) and _nvidia_injection(program, programs) == "cdi"


def _by_handler(sources: t.Mapping[str, t.Any], programs: Programs) -> Facts:
    """What differs between the handlers of a container runtime. What is not certain of one is None."""
    try:
        runtime = _decoded(sources)
    except Unknown:
        return {"default_handler": None, "handlers": {}}
    readers: dict[str, t.Callable[[Handler], t.Any]] = {
        "runc_version": lambda handler: runc_version(handler.known_program(), programs),
        "device_injection": lambda handler: _handlers_injection(handler, runtime, programs),
        "cgroup_driver": _cgroup_driver,
    }
    handlers: dict[str, Facts] = {handler.name: dict.fromkeys(readers) for handler in runtime.handlers}
    for handler in runtime.handlers:
        for name, read in readers.items():
            with contextlib.suppress(Unknown):
                handlers[handler.name][name] = read(handler)
    return {"default_handler": runtime.default, "handlers": handlers}


_DECODERS: dict[str, t.Callable[[str], Runtime]] = {
    "containerd": containerd_runtime,
    "cri-o": crio_runtime,
    "docker": docker_runtime,
}


def _decoded(sources: t.Mapping[str, t.Any]) -> Runtime:
    decode = _DECODERS.get(sources["runtime"])
    if decode is None:
        raise Unknown("the kubelet's container runtime is none of containerd, CRI-O and Docker")
    return decode(Answer.of(sources["configuration"]).text())


def _fetch_all(runtime: Runtime, programs: Programs) -> None:
    """Ask in one call for all that this configuration usually needs."""
    names = [handler.program for handler in runtime.handlers if handler.program]
    nvidia = [name for name in names if _is_nvidia(name)]
    programs.fetch(
        programs=[*({*names} - {*nvidia}), *map(_toolkit, nvidia), *(_LOW_LEVEL if nvidia else ())],
        files=[path for name in nvidia for path in _nvidia_configs(name)],
        folders=[*CDI_FOLDERS, *runtime.hook_folders],
    )


def _injection(runtime: Runtime, programs: Programs) -> str:
    return str(_agreed(runtime, lambda handler: _handlers_injection(handler, runtime, programs)))


def _handlers_injection(handler: Handler, runtime: Runtime, programs: Programs) -> str:
    program = handler.known_program()
    if _is_nvidia(program):
        return _nvidia_injection(program, programs)
    if posixpath.basename(program) not in ("runc", "crun", "docker-runc"):
        raise Unknown(f"nothing is known of the runtime {program}")
    if _names_nvidia(runtime.hook_folders, programs):
        return "legacy"
    # otherwise only the device plugin names devices, which the specification contains either way
    return "cdi" if runtime.cdi and _names_nvidia(CDI_FOLDERS, programs) else "device_specs"


def _nvidia_injection(program: str, programs: Programs) -> str:
    variant = posixpath.basename(program)[len(_NVIDIA) :].lstrip(".")
    if variant in _MODES:
        return _MODES[variant]
    if variant:
        raise Unknown(f"nothing is known of the runtime {program}")
    mode = _nvidia_settings(program, programs).mode
    if mode in _MODES:
        return _MODES[mode]
    if mode != "auto":
        raise Unknown(f'{_NVIDIA} has the mode "{mode}", of which nothing is known')
    major, minor = _toolkit_version(program, programs)
    if (major, minor) >= _JUST_IN_TIME:
        return "cdi"
    if _names_nvidia(CDI_FOLDERS, programs):
        raise Unknown(f"{_NVIDIA} {major}.{minor} chooses between the hook and CDI for each pod")
    return "legacy"


def _toolkit(program: str) -> str:
    return posixpath.join(posixpath.dirname(program), "nvidia-ctk") if posixpath.isabs(program) else "nvidia-ctk"


def _toolkit_version(program: str, programs: Programs) -> tuple[int, int]:
    match = re.search(r"version (\d{1,9})\.(\d{1,9})\.", programs.version(_toolkit(program)), re.ASCII)
    if not match:
        raise Unknown("`nvidia-ctk --version` names no version, on which the meaning of the mode auto depends")
    return int(match[1]), int(match[2])


def _nvidia_configs(program: str) -> list[str]:
    """The GPU Operator's toolkit keeps its configuration next to its programs."""
    beside = posixpath.join(posixpath.dirname(program), ".config", _NVIDIA, "config.toml")
    return [beside, NVIDIA_CONFIG] if posixpath.isabs(program) else [NVIDIA_CONFIG]


def _nvidia_settings(program: str, programs: Programs) -> NvidiaSettings:
    paths = _nvidia_configs(program)
    programs.fetch(files=paths)
    texts = (text for text in map(programs.file, paths) if text is not None)
    return nvidia_settings(next(texts, ""))


def _names_nvidia(folders: t.Sequence[str], programs: Programs) -> bool:
    programs.fetch(folders=folders)
    return any("nvidia" in name for folder in folders for name in programs.names(folder))


def _has_dev_char_links(devices: t.Sequence[t.Mapping[str, t.Any]], patterns: t.Sequence[str]) -> bool:
    for device in devices:
        if device["error"]:
            raise Unknown(f"{device['path']} cannot be looked at: {device['error']}")
    if not devices:
        raise Unknown(f"there is no device {', '.join(patterns)}")
    return all(device["link"] for device in devices)


def _containerd_handler(name: str, runtime: Table) -> Handler:
    if runtime.text("runtime_type") not in RUNC_SHIMS:
        return Handler(name, None, None)
    options = runtime.table("options")
    driver = "systemd" if options.flag("SystemdCgroup") else "cgroupfs"
    return Handler(name, options.text("BinaryName") or "runc", driver)


def _agreed(runtime: Runtime, read: t.Callable[[Handler], t.Any]) -> t.Any:
    found = {handler.name: read(handler) for handler in runtime.for_gpus}
    if len(set(found.values())) > 1:
        different = ", ".join(f"{value} under {name}" for name, value in found.items())
        raise Unknown(f"the handlers that GPU pods may run under differ: {different}")
    return next(iter(found.values()))


def _is_nvidia(program: str) -> bool:
    return posixpath.basename(program).startswith(_NVIDIA)


def _cgroup_driver(handler: Handler) -> str:
    if handler.cgroup_driver not in ("systemd", "cgroupfs"):
        raise Unknown(f"the configuration of the handler {handler.name} does not tell")
    return handler.cgroup_driver
