#!/usr/bin/python
# GNU General Public License v3.0+ (https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

DOCUMENTATION = r"""
---
module: cpuset_probe
short_description: Measure on one host, without Kubernetes, how exclusive CPUs affect a container with a CPU limit
description:
  - Runs kubepin's benchmark program in two arms, one with only a CPU quota (C(--cpus=12)), the other with the same
    quota on a CPU set of the same size (C(--cpus=12 --cpuset-cpus 4-15)). Each round runs both in random order.
    Nothing else differs.
  - All problems are reported at once, before anything runs.
  - Containers and cgroups are removed afterwards. Those of an interrupted run are removed by the next one.
  - The engine is called through its command line, because C(community.docker) would need the Docker SDK for Python on
    the host.
  - Compare the arms with M(kubepin.tuning.benchmark_report).
extends_documentation_fragment:
  - kubepin.tuning.attributes
version_added: 0.1.0
author:
  - The kubepin developers (@kubepin)
options:
  program:
    description: The folder on the host that holds the package C(pod), a copy of C(files/pod) of role host_probe. It is mounted
      read-only.
    type: path
    required: true
  output:
    description: The file on the host for the JSON lines. It must not exist. The program's other output goes to the
      same name with C(.log) appended.
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
      - The CPUs of the second arm as a list such as V(4-15), exactly O(cpus) of them, or V(auto).
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
  memory:
    description: The memory limit of a container, such as V(30g). No limit if not given.
    type: str
  shm_size:
    description: The size of the container's C(/dev/shm), such as V(30g). The default is the engine's, which is too
      small for a data loader with batch size 64.
    type: str
  rounds:
    description: How often each arm is run. At least 3 are needed to see how well they agree.
    type: int
    default: 3
  threads:
    description: Numbers of torch threads, in the format of C(python3 -m pod round --threads).
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
  description: All problems at once.
  returned: refusal
  type: list
  elements: str
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
  sample: [[quota, cpuset], [cpuset, quota], [quota, cpuset]]
commands:
  description: The command lines of the first round, by arm.
  returned: success
  type: dict
  sample: {quota: "docker run --cpus=12 ...", cpuset: "docker run --cpus=12 --cpuset-cpus 4-15 ..."}
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
      description: V(quota) or V(cpuset).
      type: str
    seconds:
      description: How long it took.
      type: float
    exit_code:
      description: The exit code of the program or of the engine.
      type: int
    processes:
      description: How many of its processes finished.
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
      sample: {quota: {low: 3390.1, median: 3401.0, high: 3412.7}, cpuset: {low: 3395.0, median: 3402.2, high: 3410.3}}
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
import shlex
import signal
import subprocess
import threading
import time
import typing as t

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.kubepin.tuning.plugins.module_utils.common.cpuset import parse_cpuset
from ansible_collections.kubepin.tuning.plugins.module_utils.common.errors import TuningError
from ansible_collections.kubepin.tuning.plugins.module_utils.node.host_probe.engine import (
    CgroupEngine,
    ContainerEngine,
    find_engines,
    find_gpus,
    run_command,
)
from ansible_collections.kubepin.tuning.plugins.module_utils.node.host_probe.plan import (
    ARMS,
    CGROUP,
    PACKAGE,
    Plan,
    ProbeHost,
    ProbeRequest,
    busiest_mhz,
    clock_sentence,
    plan_probe,
)
from ansible_collections.kubepin.tuning.plugins.module_utils.node.readers.topology import read_topology

LOCK = "/run/kubepin-probe.lock"
SAMPLE_SECONDS = 1.0
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
    "memory": {"type": "str"},
    "shm_size": {"type": "str"},
    "rounds": {"type": "int", "default": 3},
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
    if os.path.exists(params["output"]):
        found.append(
            f"output is '{params['output']}', and it exists: lines of two runs must not mix. Name another file."
        )
    return found


def read(params: t.Mapping[str, t.Any], check_mode: bool) -> t.Tuple[ProbeRequest, ProbeHost]:
    """The parameters and the host's facts, in the form that `plan_probe` takes."""
    values = {field.name: params[field.name] for field in dataclasses.fields(ProbeRequest)}
    host_python = params["python"] or "/usr/bin/python3"
    engines = find_engines(params["engine"], params["image"], host_python, run_command)
    usable = [engine for engine in engines if not engine.problem]
    values["python"] = params["python"] or (host_python if usable and usable[0].name == CGROUP else "python3")
    host = ProbeHost(
        name=os.uname().nodename,
        topology=read_topology(),
        engines=engines,
        gpus=find_gpus(run_command),
        selinux=os.path.exists("/sys/fs/selinux/enforce"),
        load=os.getloadavg()[0],
        obstacles=obstacles(params, check_mode),
    )
    return ProbeRequest(**values), host


@contextlib.contextmanager
def one_at_a_time() -> t.Iterator[None]:
    """Lock the host: two probes at once would disturb each other's measurements and remove each other's containers."""
    with open(LOCK, "w", encoding="utf-8") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as exc:
            raise TuningError(
                f"another probe runs on this host right now ({LOCK} is locked): wait for it to end."
            ) from exc
        yield


def end_on_signals() -> None:
    """Turn terminating signals into an exception, so that running containers and cgroups are removed."""

    def end(number: int, _frame: object) -> t.NoReturn:
        for name in (signal.SIGHUP, signal.SIGINT, signal.SIGTERM):
            signal.signal(name, signal.SIG_IGN)
        raise TuningError(
            f"ended by {signal.Signals(number).name}; what was running is removed, the lines so far are kept."
        )

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


class Lines:
    """Writes the program's JSON lines to one file as they arrive and other lines to a log; counts finished
    processes."""

    def __init__(self, path: str) -> None:
        self._json = open(path, "xb", buffering=0)  # noqa: SIM115 - closed by close()
        self.log = open(f"{path}.log", "w+b", buffering=0)  # noqa: SIM115
        self.total = 0
        self.ended: t.Dict[str, int] = dict.fromkeys(ARMS, 0)
        self._round_began = 0
        self.failure: t.Optional[OSError] = None
        """Why lines are lost."""

    def begin_round(self) -> None:
        self._round_began = self.log.seek(0, os.SEEK_END)

    def feed(self, line: bytes, arm: str) -> None:
        """Write one line. A truncated JSON line of a killed program has no newline and is dropped.

        What only looks like JSON, from the image's own programs, belongs to the log.
        """
        if line.startswith(b"{") and not line.endswith(b"\n"):
            return
        content = _object(line)
        if content is None:
            self.log.write(line)
            return
        self._json.write(line)
        self.total += 1
        self.ended[arm] += content.get("kind") == "end"

    def last_lines(self) -> str:
        """The last lines of the round's log, for a message."""
        self.log.seek(self._round_began)
        lines = [line.lstrip("# ") for line in self.log.read().decode(errors="replace").splitlines() if line.strip()]
        return " / ".join(lines[-5:]) or "it said nothing"

    def close(self) -> None:
        self._json.close()
        self.log.close()


class Probe:
    """Runs the plan. Everything that was started is removed before `run` returns or raises."""

    def __init__(self, request: ProbeRequest, host: ProbeHost, plan: Plan, timeout: float) -> None:
        self._request, self._host, self._plan, self._timeout = request, host, plan, timeout
        self.engine: t.Union[ContainerEngine, CgroupEngine] = (
            CgroupEngine(request, host, plan)
            if plan.engine.name == CGROUP
            else ContainerEngine(request, host, plan, run_command)
        )
        self.rounds: t.List[t.Dict[str, t.Any]] = []
        self.mhz: t.Dict[str, t.List[float]] = {arm: [] for arm in ARMS}

    def run(self) -> t.Dict[str, t.Any]:
        """Run all rounds.

        :raises TuningError: if the engine or the program fails, or no process of an arm finished
        """
        removed = self.engine.clean()
        lines = Lines(self._request.output)
        try:
            self.engine.prepare()
            for number, arms in enumerate(self._plan.order, 1):
                for arm in arms:
                    self._round(arm, number, lines)
        finally:
            lines.close()
            self.engine.clean()
        return {"rounds": self.rounds, "lines": lines.total, "removed": removed}

    def _round(self, arm: str, number: int, lines: Lines) -> None:
        lines.begin_round()
        before, started = lines.ended[arm], time.monotonic()
        try:
            process = self.engine.start(arm, number, lines.log)
        except (OSError, subprocess.SubprocessError) as exc:
            raise TuningError(f"round {number} of {arm} could not be started: {exc}") from exc
        reader = threading.Thread(target=self._relay, args=(process, arm, lines), daemon=True)
        reader.start()
        in_time = False
        try:
            in_time = self._wait(process, arm, started + self._timeout)
        finally:
            self.engine.stop(arm, number)
            if process.poll() is None:
                process.kill()
            code = process.wait()
            reader.join()
        if lines.failure is not None:
            raise TuningError(
                f"{self._request.output} cannot be written: {lines.failure}. Free space there, or name another file."
            )
        self.rounds.append(
            {
                "round": number,
                "arm": arm,
                "seconds": round(time.monotonic() - started, 1),
                "exit_code": code,
                "processes": lines.ended[arm] - before,
            }
        )
        if not in_time:
            raise TuningError(
                f"round {number} of {arm} did not end within {self._timeout:.0f} s: raise timeout. {lines.last_lines()}"
            )
        if code == BAD_ARGUMENTS or code >= FIRST_ENGINE_FAILURE or lines.ended[arm] == before:
            raise TuningError(f"round {number} of {arm} ended with exit code {code}: {lines.last_lines()}")

    @staticmethod
    def _relay(process: subprocess.Popen[bytes], arm: str, lines: Lines) -> None:
        """Passes the program's output on. Reads to its end in any case, because a full pipe would stop the program."""
        output = t.cast("t.IO[bytes]", process.stdout)
        try:
            for line in output:
                lines.feed(line, arm)
        except OSError as exc:
            lines.failure = exc
            for _line in output:
                pass

    def _wait(self, process: subprocess.Popen[bytes], arm: str, deadline: float) -> bool:
        """Wait for the round while sampling the CPU clock; returns whether it ended in time."""
        cpus = parse_cpuset(self._plan.cpuset if arm == "cpuset" else self._host.topology["online"])
        while time.monotonic() < deadline:
            try:
                process.wait(SAMPLE_SECONDS)
            except subprocess.TimeoutExpired:
                with open("/proc/cpuinfo", encoding="utf-8", errors="replace") as file:
                    mhz = busiest_mhz(file.read(), cpus)
                if mhz is not None:
                    self.mhz[arm].append(mhz)
            else:
                return True
        return False


def clock_of(host: ProbeHost, mhz: t.Mapping[str, t.Sequence[float]]) -> t.Dict[str, t.Any]:
    """The clock in the module's result."""
    topology = host.topology
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


def describe(request: ProbeRequest, host: ProbeHost, plan: Plan, probe: Probe) -> t.Dict[str, t.Any]:
    """The plan in the module's result."""
    return {
        "engine": plan.engine.name,
        "engine_version": plan.engine.version,
        "pulled": plan.pull,
        "cpuset": plan.cpuset,
        "explanation": plan.explanation,
        "gpu": {**dataclasses.asdict(plan.gpu), "numa_node": plan.gpu_numa_node} if plan.gpu else {},
        "order": plan.order,
        "commands": {arm: shlex.join(probe.engine.command(arm, 1)) for arm in ARMS},
        "clock": clock_of(host, probe.mhz),
        "output": request.output,
        "notes": plan.notes,
    }


def main() -> None:
    module = AnsibleModule(argument_spec=ARGUMENT_SPEC, supports_check_mode=True)
    request, host = read(module.params, module.check_mode)
    plan = plan_probe(request, host)
    if plan.problems:
        module.fail_json(msg="nothing was run. " + " ".join(plan.problems), problems=plan.problems)
    probe = Probe(request, host, plan, module.params["timeout"])
    if module.check_mode:
        module.exit_json(changed=True, **describe(request, host, plan, probe))
    end_on_signals()
    try:
        with one_at_a_time():
            result = probe.run()
    except TuningError as exc:
        module.fail_json(
            msg=str(exc), **{**describe(request, host, plan, probe), "rounds": probe.rounds, **exc.details}
        )
    module.exit_json(changed=True, **describe(request, host, plan, probe), **result)


if __name__ == "__main__":
    main()
