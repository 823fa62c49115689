# SPDX-License-Identifier: GPL-3.0-or-later
"""Starts and removes the containers, or the processes in cgroups, of a host probe; the only part that does."""

from __future__ import annotations

import contextlib
import glob
import os
import shutil
import signal
import subprocess
import time
import typing as t

from ansible_collections.kubepin.tuning.plugins.module_utils.common.errors import TuningError
from ansible_collections.kubepin.tuning.plugins.module_utils.node.host_probe import problems
from ansible_collections.kubepin.tuning.plugins.module_utils.node.host_probe.plan import (
    CGROUP,
    CONTAINER_ENGINES,
    LABEL,
    Engine,
    GpuDevice,
    Job,
    Plan,
    ProbeHost,
    ProbeRequest,
    cgroup_command,
    cgroup_roots,
    cgroup_settings,
    cgroup_variables,
    container_command,
    container_name,
    parse_gpu_list,
)

Run = t.Callable[[t.List[str], float], t.Tuple[int, str, str]]
"""Runs a command without a shell, with a time limit in seconds; returns its exit code, output and error output."""

_ANSWER_SECONDS = 60.0
_IMPORT_SECONDS = 300.0
_PULL_SECONDS = 3600.0

_VERSION = {
    "docker": "{{.ServerVersion}}",
    "podman": "{{.Version.Version}}",
    "nerdctl": "{{.ServerVersion}}",
}
_TOOLKIT_PROGRAMS = {
    "docker": ("nvidia-container-runtime-hook", "nvidia-container-runtime", "nvidia-container-toolkit"),
    "podman": (),
    "nerdctl": ("nvidia-container-cli",),
}
_CDI_FILES = ("/etc/cdi/*", "/var/run/cdi/*")
_REMOVE_SECONDS = 10


def run_command(command: t.List[str], seconds: float) -> t.Tuple[int, str, str]:
    """Run a command. If it cannot be run or does not end in time, it returns 127 and the reason as error output."""
    try:
        done = subprocess.run(
            command,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=seconds,
            check=False,
            env={**os.environ, "LC_ALL": "C"},
        )
    except OSError as exc:
        return 127, "", f"{command[0]}: {exc.strerror}"
    except subprocess.TimeoutExpired:
        return 127, "", f"no answer within {seconds:.0f} s"
    return done.returncode, done.stdout.decode(errors="replace"), done.stderr.decode(errors="replace")


def last_line(text: str) -> str:
    """The last line that is not blank."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return lines[-1] if lines else "no reason given"


def find_engines(name: str, image: t.Optional[str], python: str, run: Run) -> t.List[Engine]:
    """The engines that may be used, in order of preference: the named one, or all of them for "auto"."""
    names = (*CONTAINER_ENGINES, CGROUP) if name == "auto" else (name,)
    return [_find_cgroup(python, run) if one == CGROUP else _find_container_engine(one, image, run) for one in names]


def _find_container_engine(name: str, image: t.Optional[str], run: Run) -> Engine:
    if shutil.which(name) is None:
        return Engine(name, problem=f"there is no program {name} in PATH.")
    code, out, err = run([name, "info", "--format", _VERSION[name]], _ANSWER_SECONDS)
    if code != 0:
        return Engine(name, problem=f"does not answer: {last_line(err or out)}")
    has_image = run([name, "image", "inspect", image], _ANSWER_SECONDS)[0] == 0 if image else None
    gives_gpus = any(map(shutil.which, _TOOLKIT_PROGRAMS[name])) or _has_cdi_gpus()
    return Engine(name, out.strip(), "", gives_gpus, has_image)


def _has_cdi_gpus() -> bool:
    for path in (path for pattern in _CDI_FILES for path in glob.glob(pattern)):
        try:
            with open(path, encoding="utf-8", errors="replace") as file:
                if "nvidia.com/gpu" in file.read():
                    return True
        except OSError:
            continue
    return False


def _find_cgroup(python: str, run: Run) -> Engine:
    wrong = []
    version, roots = read_cgroup_roots()
    if version == 0 or (version == 1 and "cpuset" not in roots):
        wrong.append("this host has no cgroup hierarchy with the controllers cpu and cpuset.")
    code, out, err = run([python, "-c", "import torch, torchvision; print(torch.__version__)"], _IMPORT_SECONDS)
    if code != 0:
        wrong.append(
            f"{python} cannot import torch and torchvision ({last_line(err or out)}): install them for it, or name another python."
        )
    return Engine(CGROUP, f"v{version}", " ".join(wrong))


def read_cgroup_roots() -> t.Tuple[int, t.Dict[str, str]]:
    with open("/proc/self/mountinfo", encoding="utf-8", errors="replace") as file:
        return cgroup_roots(file.read())


def find_gpus(run: Run) -> t.List[GpuDevice]:
    """The GPUs that the driver's own tool lists; none if the tool is missing."""
    if shutil.which("nvidia-smi") is None:
        return []
    code, out, _err = run(["nvidia-smi", "--query-gpu=index,uuid,pci.bus_id", "--format=csv,noheader"], _ANSWER_SECONDS)
    return parse_gpu_list(out) if code == 0 else []


class ContainerEngine:
    """Runs each job in a container of its own; every container with the probe's label belongs to the probe."""

    def __init__(self, request: ProbeRequest, found: ProbeHost, plan: Plan, run: Run) -> None:
        self._request, self._found, self._plan, self._run = request, found, plan, run
        self._name = plan.engine.name

    def command(self, job: Job) -> t.List[str]:
        return container_command(self._request, self._found, self._plan, job)

    def prepare(self) -> None:
        """Pull the image if it is missing.

        :raises TuningError: with the engine's reason
        """
        if not self._plan.pull:
            return
        code, out, err = self._run([self._name, "pull", t.cast(str, self._request.image)], _PULL_SECONDS)
        if code != 0:
            raise TuningError(
                problems.image_not_pulled(f"{self._name} pull {self._request.image}", last_line(err or out))
            )

    def start(self, job: Job, output: t.IO[bytes]) -> subprocess.Popen[bytes]:
        """Start a job; its lines come on stdout, everything else goes to `output`."""
        return subprocess.Popen(
            self.command(job),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=output,
            start_new_session=True,
        )

    def stop(self, job: Job) -> None:
        """End a job and remove its container."""
        self._run([self._name, "rm", "--force", container_name(self._request, job)], _ANSWER_SECONDS)

    def clean(self) -> t.List[str]:
        """Remove all containers of this probe and of interrupted ones; return what was removed.

        :raises TuningError: if one stays
        """
        code, out, err = self._run(
            [self._name, "ps", "--all", "--quiet", "--filter", f"label={LABEL}"], _ANSWER_SECONDS
        )
        if code != 0:
            raise TuningError(problems.engine_failed(f"{self._name} ps", last_line(err)))
        containers = out.split()
        if containers:
            code, _out, err = self._run([self._name, "rm", "--force", *containers], _ANSWER_SECONDS)
            if code != 0:
                by_hand = " ".join([self._name, "rm", "--force", *containers])
                raise TuningError(problems.containers_not_removed(by_hand, last_line(err)))
        return containers


class CgroupEngine:
    """The host's own Python in a cgroup for each job, version 1 or 2."""

    def __init__(self, request: ProbeRequest, found: ProbeHost, plan: Plan) -> None:
        self._request, self._found, self._plan = request, found, plan
        self._version, self._roots = read_cgroup_roots()
        self._enabled: t.List[str] = []

    def command(self, job: Job) -> t.List[str]:
        return cgroup_command(self._request, job)

    def prepare(self) -> None:
        """Enable the controllers for the root's children, which version 2 requires; `clean` disables them again.

        :raises TuningError: with the kernel's reason
        """
        if self._version != 2:
            return
        control = os.path.join(self._roots[""], "cgroup.subtree_control")
        for controller in sorted({"cpu", "cpuset"} - set(_read(control).split())):
            _write(control, f"+{controller}")
            self._enabled.append(controller)

    def _folders(self, job: Job) -> t.Dict[str, str]:
        return {controller: os.path.join(root, f"kubepin-probe-{job.name}") for controller, root in self._roots.items()}

    def _make(self, job: Job) -> t.List[str]:
        """Make the job's cgroups; returns the files that a process is written to in order to join them."""
        memory_nodes = _read(os.path.join(self._roots["cpuset"], "cpuset.mems")) if self._version == 1 else ""
        folders = self._folders(job)
        used = []
        for setting in cgroup_settings(self._version, job, memory_nodes):
            folder = folders[setting.controller]
            if folder not in used:
                os.makedirs(folder, exist_ok=True)
                used.append(folder)
            _write(os.path.join(folder, setting.name), setting.value)
        return [os.path.join(folder, "cgroup.procs") for folder in used]

    def start(self, job: Job, output: t.IO[bytes]) -> subprocess.Popen[bytes]:
        """Start a job in its cgroup; its lines come on stdout, everything else goes to `output`."""
        members = self._make(job)

        def enter() -> None:
            for path in members:
                _write(path, "0")

        return subprocess.Popen(
            self.command(job),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=output,
            env={**os.environ, **cgroup_variables(self._request, job)},
            preexec_fn=enter,
            start_new_session=True,
        )

    def stop(self, job: Job) -> None:
        """End whatever still runs in the job's cgroups, and remove them."""
        for folder in self._folders(job).values():
            _remove(folder)

    def clean(self) -> t.List[str]:
        """Remove all cgroups of this probe and of interrupted ones; return their folders.

        :raises TuningError: if one stays
        """
        folders = sorted({path for root in self._roots.values() for path in glob.glob(f"{root}/kubepin-probe-*")})
        for folder in folders:
            _remove(folder)
        if self._enabled:
            control = os.path.join(self._roots[""], "cgroup.subtree_control")
            _write(control, " ".join(f"-{controller}" for controller in self._enabled))
            self._enabled = []
        return folders


def _read(path: str) -> str:
    with open(path, encoding="utf-8") as file:
        return file.read().strip()


def _write(path: str, text: str) -> None:
    try:
        with open(path, "w", encoding="utf-8") as file:
            file.write(text)
    except OSError as exc:
        raise TuningError(problems.cgroup_refuses(path, text, str(exc.strerror))) from exc


def _end_members(folder: str) -> bool:
    """Kill the processes of a cgroup; returns whether there were any."""
    try:
        members = _read(os.path.join(folder, "cgroup.procs")).split()
    except OSError:
        return False
    for member in members:
        with contextlib.suppress(ProcessLookupError):
            os.kill(int(member), signal.SIGKILL)
    return bool(members)


def _remove(folder: str) -> None:
    deadline = time.monotonic() + _REMOVE_SECONDS
    while True:
        _end_members(folder)
        try:
            os.rmdir(folder)
        except FileNotFoundError:
            return
        except OSError as exc:
            if time.monotonic() > deadline:
                raise TuningError(problems.cgroup_not_removed(folder, str(exc.strerror))) from exc
            time.sleep(0.1)
        else:
            return
