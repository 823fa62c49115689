#!/usr/bin/python
# GNU General Public License v3.0+ (https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

DOCUMENTATION = r"""
---
module: cpuset_probe
short_description: Measure on one host, without Kubernetes, how exclusive CPUs affect a container with a CPU limit
description:
  - Runs kubepin's benchmark program in three arms. V(quota-auto) is what most containers have today, a CPU quota
    (C(--cpus=12)) and as many threads as PyTorch finds. V(quota-12) sets the number of threads (C(OMP_NUM_THREADS)) to
    that of the quota. V(cpuset-12) has the same quota and threads on a CPU set of the same size
    (C(--cpuset-cpus 4-15)). Each round runs all of them, in random balanced order. Nothing else differs.
  - Each process reads back its CPUs, its quota and its threads. If they are not those of its arm, the module ends at
    once and says what differs.
  - The first process of a run warms the machine and is not counted.
  - With other loads than V(solo) in O(loads), a program on each GPU of the host, with O(cpus) CPUs of its own, times the
    same cells at the same time. Each round then measures each arm under each load, in random order.
  - All problems are reported at once, before anything runs.
  - Containers and cgroups are removed afterwards. Those of an interrupted run are removed by the next one.
  - The engine is called through its command line, because C(community.docker) would need the Docker SDK for Python on
    the host.
  - Evaluate the arms with M(kubepin.tuning.benchmark_report).
extends_documentation_fragment:
  - kubepin.tuning.attributes
version_added: 1.0.0
author:
  - The kubepin developers (@kubepin)
options:
  program:
    description: The folder on the host that holds the package C(pod), a copy of C(files/pod) of role host_probe. It is mounted
      read-only.
    type: path
    required: true
  output:
    description:
      - The file on the host for the JSON lines. It must not exist, except with O(first_round), where lines are
        appended to it.
      - The program's other output goes to the same name with C(.log) appended.
    type: path
    required: true
  run_id:
    description: The name of the run in the lines and in container names. Letters, digits, C(.), C(_) and C(-).
    type: str
    required: true
  engine:
    description:
      - What limits the CPUs. V(cgroup) runs the host's own Python in a cgroup, version 1 or 2, without a container.
      - V(auto) takes the first of V(docker), V(podman) and V(nerdctl) that answers, or else V(cgroup).
    type: str
    choices: [auto, docker, podman, nerdctl, cgroup]
    default: auto
  image:
    description: An image with Python 3.6 or newer, torch and torchvision. Ignored with O(engine=cgroup).
    type: str
  pull:
    description: Whether to pull a missing image.
    type: bool
    default: false
  python:
    description: The Python with torch, in the image or, with O(engine=cgroup), on the host. The default is C(python3),
      or C(/usr/bin/python3) with O(engine=cgroup).
    type: str
  cpus:
    description: The CPU limit in whole CPUs. Must be fewer than the host has.
    type: int
    default: 12
  cpuset:
    description:
      - The exclusive CPUs as a list such as V(4-15), exactly O(cpus) of them, or V(auto).
      - V(auto) takes whole cores with all their threads on the GPU's NUMA node, one L3 cache after the other, and the
        core of CPU 0 last.
    type: str
    default: auto
  gpu:
    description:
      - The index or UUID of the GPU, V(none), or V(auto) for the first one if the host has any.
      - Docker and nerdctl need the NVIDIA Container Toolkit for it, podman needs a CDI specification.
    type: str
    default: auto
  loads:
    description:
      - What else runs on the host. V(solo) is nothing, V(full) a program on each GPU, V(busy) as V(full) with neighbours
        that keep all CPUs busy and have the weight of a Kubernetes pod that requests the CPUs that are left.
      - With one program, V(full) is the same as V(solo).
    type: list
    elements: str
    choices: [solo, full, busy]
    default: [solo]
  tenants:
    description: How many programs run under V(full) and V(busy). V(0) means one on each GPU, or one without a GPU.
    type: int
    default: 0
  slot_seconds:
    description: Seconds of each cell under other loads than V(solo), in which it is built, warmed up and timed.
    type: float
    default: 6
  memory:
    description: The memory limit of a container, such as V(30g). No limit if not given.
    type: str
  shm_size:
    description: The size of the container's C(/dev/shm), such as V(30g). The default is the engine's, which is too
      small for a data loader with batch size 64.
    type: str
  rounds:
    description: The number of the last round; each runs every arm once. At least 5 are needed for an interval.
    type: int
    default: 5
  first_round:
    description: The number of the first round. Above 1, the rounds before it are in O(output), of the same O(run_id).
    type: int
    default: 1
  threads:
    description:
      - Settings of PyTorch's threads, joined by commas. V(auto) leaves the number to PyTorch, V(cpus) sets it to
        O(cpus), and a number is used as it is.
      - Exclusive CPUs are measured with numbers only, because there V(auto) is the same as V(cpus).
    type: str
    default: auto,cpus
  auto_threads:
    description: What V(auto) means in O(threads). V(found) leaves the number to torch. V(affinity) gives torch one
      thread for each CPU that the process may use, as PyTorch's own packages do by themselves, but Debian's does not.
    type: str
    choices: [found, affinity]
    default: found
  program_options:
    description: Additional arguments for C(python3 -m pod round), such as V([--matrix, resnets]).
    type: list
    elements: str
    default: []
  timeout:
    description: Seconds that one round of one arm may take.
    type: int
    default: 1800
attributes:
  check_mode:
    support: full
    details: Returns the engine, the CPUs and the command lines, and runs nothing. The program and the folder of
      O(output) need not exist yet.
  diff_mode:
    support: none
    details: No file of the host is changed.
notes:
  - Needs root.
"""

EXAMPLES = r"""
- name: Twelve CPUs near the first GPU, as the image finds them
  kubepin.tuning.cpuset_probe:
    program: /var/lib/kubepin/probe
    output: /var/lib/kubepin/probe/lines.jsonl
    run_id: gpu-01-a
    image: docker.io/pytorch/pytorch:2.4.1-cuda12.4-cudnn9-runtime
    pull: true
    memory: 30g
    shm_size: 30g

- name: The CPUs by name, the second GPU
  kubepin.tuning.cpuset_probe:
    program: /var/lib/kubepin/probe
    output: /var/lib/kubepin/probe/lines.jsonl
    run_id: gpu-01-b
    engine: docker
    image: registry.example.org/pytorch:1.9
    cpus: 12
    cpuset: 4-15
    gpu: "1"

- name: Without containers, on CPUs
  kubepin.tuning.cpuset_probe:
    program: /var/lib/kubepin/probe
    output: /var/lib/kubepin/probe/lines.jsonl
    run_id: host-a
    engine: cgroup
    gpu: none
    cpus: 1
    auto_threads: affinity
"""

RETURN = r"""
problems:
  description: All problems at once, as C(code), C(subject), C(finding), C(remedy), C(waivable) and C(text).
  returned: failure
  type: list
  elements: dict
engine:
  description: The engine that was used.
  returned: success
  type: str
  sample: docker
engine_version:
  description: Its version; for V(cgroup), the version of the CPU controller's hierarchy.
  returned: success
  type: str
  sample: 24.0.7
pulled:
  description: Whether a missing image was pulled, or would be in check mode.
  returned: success
  type: bool
cpuset:
  description: The CPUs of the second arm.
  returned: success
  type: str
  sample: 4-15
explanation:
  description: Why these CPUs were chosen.
  returned: success
  type: str
  sample: 6 whole cores, NUMA 0 (the GPU's)
tenants:
  description: The programs that ran at the same time.
  returned: success
  type: list
  elements: dict
  sample: [{number: 0, cpuset: 4-15, explanation: "6 whole cores, NUMA 0 (the GPU's)", gpu: {index: 0}, gpu_numa_node: 0}]
loads:
  description: The loads that were measured.
  returned: success
  type: list
  elements: str
  sample: [solo, full, busy]
gpu:
  description: The GPU that was used; empty without one.
  returned: success
  type: dict
  sample: {index: 0, uuid: GPU-5b3c, address: "0000:21:00.0", numa_node: 0}
order:
  description: The arms of each round, in turn.
  returned: success
  type: list
  elements: list
  sample: [[quota-auto, quota-12, cpuset-12], [cpuset-12, quota-auto, quota-12]]
commands:
  description: The command lines of the first tenant in the first of the rounds, by arm.
  returned: success
  type: dict
  sample: {quota-auto: "docker run --cpus=12 ...", cpuset-12: "docker run --cpus=12 --cpuset-cpus 4-15 ..."}
rounds:
  description: The runs in order.
  returned: success and not in check mode
  type: list
  elements: dict
  contains:
    round:
      description: Its number.
      type: int
    arm:
      description: Such as V(quota-auto).
      type: str
    seconds:
      description: How long it took.
      type: float
    exit_code:
      description: The exit code of the program or of the engine; the highest of several tenants.
      type: int
    processes:
      description: How many of its processes finished, without the one that warms the machine.
      type: int
clock:
  description: What the host reports about the clock of its CPUs.
  returned: success
  type: dict
  contains:
    governor:
      description: The frequency governor, or V(unknown).
      type: str
    boost:
      description: V(on), V(off) or V(unknown).
      type: str
    base_mhz:
      description: The nominal frequency, or null.
      type: float
    max_mhz:
      description: The highest frequency that the driver reports, or null.
      type: float
    running_mhz:
      description: The frequency of the busiest CPU that the arm may use, sampled once a second during the rounds, by
        arm. Empty if C(/proc/cpuinfo) shows none.
      type: dict
      sample: {quota-12: {low: 3390.1, median: 3401.0, high: 3412.7}, cpuset-12: {low: 3395.0, median: 3402.2, high: 3410.3}}
    sentence:
      description: The same in words.
      type: str
output:
  description: The file with the JSON lines.
  returned: success
  type: str
lines:
  description: How many lines it holds.
  returned: success and not in check mode
  type: int
removed:
  description: Leftover containers and cgroups of an interrupted run that were removed first.
  returned: success and not in check mode
  type: list
  elements: str
notes:
  description: Additional information.
  returned: success
  type: list
  elements: str
"""

import contextlib
import dataclasses
import fcntl
import json
import os
import queue
import shlex
import shutil
import signal
import subprocess
import threading
import time
import typing as t

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.kubepin.tuning.plugins.module_utils.common.cpuset import parse_cpuset
from ansible_collections.kubepin.tuning.plugins.module_utils.common.errors import TuningError
from ansible_collections.kubepin.tuning.plugins.module_utils.common.problem import joined, to_dicts
from ansible_collections.kubepin.tuning.plugins.module_utils.common.tenants import (
    BUSY,
    LOADS,
    SOLO,
    Barrier,
    Phase,
    shares_node,
)
from ansible_collections.kubepin.tuning.plugins.module_utils.node.host_probe import problems
from ansible_collections.kubepin.tuning.plugins.module_utils.node.host_probe.engine import (
    CgroupEngine,
    ContainerEngine,
    find_engines,
    find_gpus,
    run_command,
)
from ansible_collections.kubepin.tuning.plugins.module_utils.node.host_probe.plan import (
    CGROUP,
    EXCLUSIVE,
    PACKAGE,
    START_FILE,
    Job,
    Plan,
    ProbeHost,
    ProbeRequest,
    busiest_mhz,
    busy_job,
    clock_sentence,
    group_of,
    plan_probe,
    round_jobs,
    start_folder,
)
from ansible_collections.kubepin.tuning.plugins.module_utils.node.host_probe.readback import arm_problems
from ansible_collections.kubepin.tuning.plugins.module_utils.node.readers.topology import read_topology

LOCK = "/run/kubepin-probe.lock"
SAMPLE_SECONDS = 1.0
POLL_SECONDS = 0.1
BUSY_SETTLE_SECONDS = 0.5
START_DELAY_SECONDS = 0.5  # several times as long as a program takes to see that its phase begins
BAD_ARGUMENTS = 2
FIRST_ENGINE_FAILURE = 125  # exit codes 125 to 127 of docker run and its equivalents come from the engine

ARGUMENT_SPEC: t.Dict[str, t.Any] = {
    "program": {"type": "path", "required": True},
    "output": {"type": "path", "required": True},
    "run_id": {"type": "str", "required": True},
    "engine": {"type": "str", "choices": ["auto", "docker", "podman", "nerdctl", "cgroup"], "default": "auto"},
    "image": {"type": "str"},
    "pull": {"type": "bool", "default": False},
    "python": {"type": "str"},
    "cpus": {"type": "int", "default": 12},
    "cpuset": {"type": "str", "default": "auto"},
    "gpu": {"type": "str", "default": "auto"},
    "loads": {"type": "list", "elements": "str", "choices": list(LOADS), "default": [SOLO]},
    "tenants": {"type": "int", "default": 0},
    "slot_seconds": {"type": "float", "default": 6.0},
    "memory": {"type": "str"},
    "shm_size": {"type": "str"},
    "rounds": {"type": "int", "default": 5},
    "first_round": {"type": "int", "default": 1},
    "threads": {"type": "str", "default": "auto,cpus"},
    "auto_threads": {"type": "str", "choices": ["found", "affinity"], "default": "found"},
    "program_options": {"type": "list", "elements": "str", "default": []},
    "timeout": {"type": "int", "default": 1800},
}


def obstacles(params: t.Mapping[str, t.Any], check_mode: bool) -> t.List[str]:
    """The problems with the user and the files. In check mode the files need not exist yet."""
    found = []
    if os.geteuid() != 0:
        found.append("only root may do this: use become.")
    if check_mode:
        return found
    program = os.path.join(params["program"], PACKAGE, "__main__.py")
    if not os.path.isfile(program):
        found.append(
            f"program is '{params['program']}', and {program} is not there: copy files/pod of role host_probe to it first."
        )
    folder = os.path.dirname(os.path.abspath(params["output"]))
    if not os.path.isdir(folder):
        found.append(f"output is '{params['output']}', and there is no folder {folder}: make it first.")
    begun, first = os.path.exists(params["output"]), params["first_round"] == 1
    if begun and first:
        found.append(
            f"output is '{params['output']}', and it exists: lines of two runs must not mix. Name another file."
        )
    elif not begun and not first:
        found.append(
            f"output is '{params['output']}', and it does not exist: expected the rounds before first_round, which is "
            f"{params['first_round']}. Name their file, or begin with round 1."
        )
    return found


def look(params: t.Mapping[str, t.Any], check_mode: bool) -> t.Tuple[ProbeRequest, ProbeHost]:
    """The parameters and the host's facts, in the form that `plan_probe` takes."""
    values = {field.name: params[field.name] for field in dataclasses.fields(ProbeRequest)}
    host_python = params["python"] or "/usr/bin/python3"
    engines = find_engines(params["engine"], params["image"], host_python, run_command)
    usable = [engine for engine in engines if not engine.problem]
    values["python"] = params["python"] or (host_python if usable and usable[0].name == CGROUP else "python3")
    found = ProbeHost(
        host=os.uname().nodename,
        topology=read_topology(),
        engines=engines,
        gpus=find_gpus(run_command),
        selinux=os.path.exists("/sys/fs/selinux/enforce"),
        load=os.getloadavg()[0],
        obstacles=obstacles(params, check_mode),
    )
    return ProbeRequest(**values), found


@contextlib.contextmanager
def one_at_a_time() -> t.Iterator[None]:
    """Lock the host: two probes at once would disturb each other's measurements and remove each other's containers."""
    with open(LOCK, "w", encoding="utf-8") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as exc:
            raise TuningError(problems.another_probe(LOCK)) from exc
        yield


def end_on_signals() -> None:
    """Turn terminating signals into an exception, so that running containers and cgroups are removed."""

    def end(number: int, _frame: object) -> t.NoReturn:
        for name in (signal.SIGHUP, signal.SIGINT, signal.SIGTERM):
            signal.signal(name, signal.SIG_IGN)
        raise TuningError(problems.probe_interrupted(signal.Signals(number).name))

    for name in (signal.SIGHUP, signal.SIGINT, signal.SIGTERM):
        signal.signal(name, end)


def _object(line: bytes) -> t.Optional[t.Dict[str, t.Any]]:
    """The JSON object that the line is; None for any other text."""
    if not line.startswith(b"{"):
        return None
    try:
        content = json.loads(line)
    except (ValueError, RecursionError):
        return None
    return content if isinstance(content, dict) else None


ReadBack = t.Callable[[str, t.Mapping[str, t.Any]], t.List[str]]
"""From an arm and the line of kind "process" to how they differ."""


class Lines:
    """Appends the program's JSON lines to one file as they arrive and other lines to a log; counts finished
    processes, and reads back what each says of itself."""

    def __init__(self, path: str, arms: t.Sequence[str], problems_of: ReadBack) -> None:
        self._json = open(path, "ab", buffering=0)  # noqa: SIM115 - closed by close()
        self.log = open(f"{path}.log", "a+b", buffering=0)  # noqa: SIM115
        self.total = 0
        self.ended: t.Dict[str, int] = dict.fromkeys(arms, 0)
        self._problems_of = problems_of
        self.problems: t.List[str] = []
        """How a process differs from its arm."""
        self._round_began = 0
        self.failure: t.Optional[OSError] = None
        """Why lines are lost."""
        self._lock = threading.Lock()

    def begin_round(self) -> None:
        self._round_began = self.log.seek(0, os.SEEK_END)

    def feed(self, line: bytes, arm: str) -> t.Dict[str, t.Any]:
        """Write one line, and return the object that it is, empty for other text.

        A truncated JSON line of a killed program has no newline and is dropped. What only looks like JSON, from the image's
        own programs, belongs to the log. A line of kind "ready" is a message to this module, and no result.
        """
        if line.startswith(b"{") and not line.endswith(b"\n"):
            return {}
        content = _object(line)
        with self._lock:
            if content is None:
                self.log.write(line)
                return {}
            if content.get("kind") != "ready":
                self._json.write(line)
                self.total += 1
                self.ended[arm] += content.get("kind") == "end" and not content.get("warm_up")
            if content.get("kind") == "process" and isinstance(content.get("env"), dict):
                self.problems += self._problems_of(arm, content)
        return content

    def last_lines(self) -> str:
        """The last lines of the round's log, for a message."""
        self.log.seek(self._round_began)
        lines = [line.lstrip("# ") for line in self.log.read().decode(errors="replace").splitlines() if line.strip()]
        return " / ".join(lines[-5:]) or "it said nothing"

    def close(self) -> None:
        self._json.close()
        self.log.close()


AnyEngine = t.Union[ContainerEngine, CgroupEngine]


class Tenants:
    """The programs of one round of one arm, and what they say."""

    def __init__(self, engine: AnyEngine, jobs: t.Sequence[Job], arm: str, lines: Lines) -> None:
        self._engine, self.jobs, self._arm, self._lines = engine, jobs, arm, lines
        self._processes: t.List[subprocess.Popen[bytes]] = []
        self._readers: t.List[threading.Thread] = []
        self.ready: queue.SimpleQueue[t.Tuple[int, Phase]] = queue.SimpleQueue()
        self.codes: t.List[int] = []

    def start(self) -> None:
        """:raises OSError, subprocess.SubprocessError: if the engine cannot be started"""
        for number, job in enumerate(self.jobs):
            process = self._engine.start(job, self._lines.log)
            self._processes.append(process)
            reader = threading.Thread(target=self._relay, args=(process, number), daemon=True)
            self._readers.append(reader)
            reader.start()

    def stop(self) -> int:
        """End whatever still runs; returns the highest exit code."""
        for job in self.jobs:
            self._engine.stop(job)
        for process in self._processes:
            if process.poll() is None:
                process.kill()
        self.codes = [process.wait() for process in self._processes]
        for reader in self._readers:
            reader.join()
        return max(self.codes, default=0)

    def ended(self, seconds: float) -> bool:
        """Whether all have ended, after waiting for up to `seconds`."""
        deadline = time.monotonic() + seconds
        for process in self._processes:
            try:
                process.wait(max(0.0, deadline - time.monotonic()))
            except subprocess.TimeoutExpired:
                return False
        return True

    def gone(self) -> t.List[int]:
        """The numbers of those that have ended."""
        return [number for number, process in enumerate(self._processes) if process.poll() is not None]

    def _relay(self, process: subprocess.Popen[bytes], number: int) -> None:
        """Passes the program's output on. Reads to its end in any case, because a full pipe would stop the program."""
        output = t.cast("t.IO[bytes]", process.stdout)
        try:
            for line in output:
                content = self._lines.feed(line, self._arm) or {}
                if content.get("kind") == "ready":
                    self.ready.put((number, Phase.of(content)))
        except OSError as exc:
            self._lines.failure = exc
            for _line in output:
                pass


class Conductor:
    """Lets the phases of a full host begin, and starts and ends the busy neighbours."""

    def __init__(self, engine: AnyEngine, busy: Job, tenants: int, folder: str, log: t.IO[bytes]) -> None:
        self._engine, self._busy, self._log = engine, busy, log
        self._barrier = Barrier(tenants)
        self._neighbours: t.Optional[subprocess.Popen[bytes]] = None
        os.makedirs(folder, exist_ok=True)
        self._file = os.path.join(folder, START_FILE)
        self._write("")

    def step(self, tenants: Tenants) -> None:
        """Announce the next phase once all tenants wait for it."""
        while not tenants.ready.empty():
            self._barrier.ready(*tenants.ready.get())
        for number in tenants.gone():
            self._barrier.ended(number)
        phase = self._barrier.due()
        if phase is None:
            return
        self.quiet()
        if phase.load == BUSY:
            self._neighbours = self._engine.start(self._busy, self._log)
            time.sleep(BUSY_SETTLE_SECONDS)
        self._write(self._barrier.announce(phase, time.time() + START_DELAY_SECONDS))

    def quiet(self) -> None:
        """End the busy neighbours."""
        if self._neighbours is None:
            return
        self._engine.stop(self._busy)
        if self._neighbours.poll() is None:
            self._neighbours.kill()
        self._neighbours.communicate()
        self._neighbours = None

    def _write(self, text: str) -> None:
        with open(f"{self._file}.new", "w", encoding="utf-8") as file:
            file.write(text)
        os.replace(f"{self._file}.new", self._file)


class Probe:
    """Runs the plan. Everything that was started is removed before `run` returns or raises."""

    def __init__(self, request: ProbeRequest, found: ProbeHost, plan: Plan, timeout: float) -> None:
        self._request, self._found, self._plan, self._timeout = request, found, plan, timeout
        self.engine: AnyEngine = (
            CgroupEngine(request, found, plan)
            if plan.engine.name == CGROUP
            else ContainerEngine(request, found, plan, run_command)
        )
        self.rounds: t.List[t.Dict[str, t.Any]] = []
        self.mhz: t.Dict[str, t.List[float]] = {arm: [] for arm in plan.arms}

    def run(self) -> t.Dict[str, t.Any]:
        """Run all rounds.

        :raises TuningError: if the engine or the program fails, no process of an arm finished, or one is not as its arm
        """
        removed = self.engine.clean()
        lines = Lines(self._request.output, self._plan.arms, self._problems_of)
        try:
            self.engine.prepare()
            for number, arms in enumerate(self._plan.order, self._request.first_round):
                for arm in arms:
                    self._round(arm, number, lines)
        finally:
            lines.close()
            self.engine.clean()
            shutil.rmtree(start_folder(self._request), ignore_errors=True)
        return {"rounds": self.rounds, "lines": lines.total, "removed": removed}

    def _problems_of(self, arm: str, line: t.Mapping[str, t.Any]) -> t.List[str]:
        cpusets = {tenant.number: tenant.cpuset for tenant in self._plan.tenants}
        return arm_problems(arm, line["env"], self._request.cpus, cpusets.get(line.get("tenant", 0), self._plan.cpuset))

    def _round(self, arm: str, number: int, lines: Lines) -> None:
        lines.begin_round()
        before, started = lines.ended[arm], time.monotonic()
        tenants = Tenants(self.engine, round_jobs(self._request, self._found, self._plan, arm, number), arm, lines)
        conductor = None
        if shares_node(self._plan.loads):
            busy = busy_job(self._request, self._found, self._plan, arm)
            conductor = Conductor(self.engine, busy, len(tenants.jobs), start_folder(self._request), lines.log)
        try:
            tenants.start()
        except (OSError, subprocess.SubprocessError) as exc:
            tenants.stop()
            raise TuningError(problems.round_not_started(number, arm, str(exc))) from exc
        in_time = False
        try:
            in_time = self._wait(tenants, conductor, arm, started + self._timeout, lines)
        finally:
            if conductor is not None:
                conductor.quiet()
            code = tenants.stop()
        if lines.failure is not None:
            raise TuningError(problems.output_not_writable(self._request.output, str(lines.failure)))
        self.rounds.append(
            {
                "round": number,
                "arm": arm,
                "seconds": round(time.monotonic() - started, 1),
                "exit_code": code,
                "processes": lines.ended[arm] - before,
            }
        )
        if lines.problems:
            raise TuningError(problems.arm_not_as_named(number, lines.problems))
        if not in_time:
            raise TuningError(problems.round_timed_out(number, arm, self._timeout, lines.last_lines()))
        if BAD_ARGUMENTS in tenants.codes or code >= FIRST_ENGINE_FAILURE or lines.ended[arm] == before:
            raise TuningError(problems.round_failed(number, arm, code, lines.last_lines()))

    def _wait(
        self, tenants: Tenants, conductor: t.Optional[Conductor], arm: str, deadline: float, lines: Lines
    ) -> bool:
        """Wait for the round while sampling the CPU clock, or for a problem; returns whether it ended in time."""
        exclusive = {cpu for tenant in self._plan.tenants for cpu in parse_cpuset(tenant.cpuset)}
        cpus = exclusive if group_of(arm) == EXCLUSIVE else parse_cpuset(self._found.topology["online"])
        sampled = time.monotonic()
        while time.monotonic() < deadline and not lines.problems:
            if tenants.ended(POLL_SECONDS):
                return True
            if conductor is not None:
                conductor.step(tenants)
            if time.monotonic() - sampled < SAMPLE_SECONDS:
                continue
            sampled = time.monotonic()
            with open("/proc/cpuinfo", encoding="utf-8", errors="replace") as file:
                mhz = busiest_mhz(file.read(), cpus)
            if mhz is not None:
                self.mhz[arm].append(mhz)
        return False


def clock_of(found: ProbeHost, mhz: t.Mapping[str, t.Sequence[float]]) -> t.Dict[str, t.Any]:
    """The clock in the module's result."""
    topology = found.topology
    running = {}
    for arm, samples in mhz.items():
        if samples:
            ordered = sorted(samples)
            running[arm] = {"low": ordered[0], "median": ordered[len(ordered) // 2], "high": ordered[-1]}
    return {
        "governor": topology["governor"],
        "boost": topology["boost"],
        "base_mhz": topology["clock"]["base_mhz"],
        "max_mhz": topology["clock"]["max_mhz"],
        "running_mhz": running,
        "sentence": clock_sentence(mhz, topology),
    }


def as_facts(request: ProbeRequest, found: ProbeHost, plan: Plan, probe: Probe) -> t.Dict[str, t.Any]:
    """The plan in the module's result."""
    return {
        "engine": plan.engine.name,
        "engine_version": plan.engine.version,
        "pulled": plan.pull,
        "cpuset": plan.cpuset,
        "explanation": plan.explanation,
        "tenants": [dataclasses.asdict(tenant) for tenant in plan.tenants],
        "loads": list(plan.loads),
        "gpu": {**dataclasses.asdict(plan.gpu), "numa_node": plan.gpu_numa_node} if plan.gpu else {},
        "order": plan.order,
        "commands": {
            arm: shlex.join(probe.engine.command(round_jobs(request, found, plan, arm, request.first_round)[0]))
            for arm in plan.arms
        },
        "clock": clock_of(found, probe.mhz),
        "output": request.output,
        "notes": plan.notes,
    }


def main() -> None:
    module = AnsibleModule(argument_spec=ARGUMENT_SPEC, supports_check_mode=True)
    request, found = look(module.params, module.check_mode)
    plan = plan_probe(request, found)
    if plan.problems:
        refused = [problems.plan_refused(text) for text in plan.problems]
        module.fail_json(msg=f"nothing was run. {joined(refused)}", problems=to_dicts(refused))
    probe = Probe(request, found, plan, module.params["timeout"])
    if module.check_mode:
        module.exit_json(changed=True, **as_facts(request, found, plan, probe))
    end_on_signals()
    try:
        with one_at_a_time():
            result = probe.run()
    except TuningError as exc:
        module.fail_json(
            msg=str(exc), **{**as_facts(request, found, plan, probe), "rounds": probe.rounds, **exc.details}
        )
    module.exit_json(changed=True, **as_facts(request, found, plan, probe), **result)


if __name__ == "__main__":
    main()
