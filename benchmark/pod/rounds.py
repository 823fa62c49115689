# SPDX-License-Identifier: GPL-3.0-or-later
"""The rounds of one pod: in each a fresh process for each thread setting, and one writer for the output of all."""

import contextlib
import hashlib
import json
import os
import selectors
import signal
import subprocess
import sys
from typing import IO, Dict, List, NamedTuple, Optional, Sequence, cast

from . import cgroup, gpu
from .environment import SHM, usable_cpus
from .options import RoundOptions
from .process import DEVICE_LOST, DEVICE_MISSING, DONE, NO_TORCH, NOTHING_TIMED, Task, write_all

_CHUNK = 1 << 16
_POLL_S = 0.1
_OF_PROCESS = b'"kind": "process"'
_LIKELY = {
    signal.SIGBUS: f". Most likely {SHM} is too small: mount a memory-backed volume on it",
    signal.SIGKILL: ". Most likely the pod's memory limit was reached: raise it",
}


class Setting(NamedTuple):
    """One thread setting: `threads` is the value of OMP_NUM_THREADS, None to leave it as it is."""

    label: str
    threads: Optional[int]
    by: str


def thread_settings(
    wanted: Sequence[Optional[int]], *, auto_threads: str, allowed: int, quota: Optional[float]
) -> List[Setting]:
    """The settings of --threads without repeats: None is auto, 0 the CPUs that the pod may use."""
    settings = []
    for count in wanted:
        if count is None:
            affinity = auto_threads == "affinity"
            settings.append(Setting("auto", allowed if affinity else None, auto_threads))
        else:
            number = count or usable_cpus(allowed, quota)
            settings.append(Setting(str(number), number, "fixed"))
    return list(dict.fromkeys(settings))


def rotated(settings: Sequence[Setting], run_id: str, round_: int) -> List[Setting]:
    """The order in a round: over as many rounds as there are settings, each setting has each place once.

    The run's name decides where the rotation begins.
    """
    first = int(hashlib.sha256(run_id.encode()).hexdigest(), 16) + round_
    return [settings[(first + place) % len(settings)] for place in range(len(settings))]


def child_environment(setting: Setting, found: Dict[str, str]) -> Dict[str, str]:
    """Environment of the timing process. It sets OMP_NUM_THREADS, because that is the remedy that users have."""
    result = dict(found)
    package_depth = __name__.count(".")
    root = os.path.abspath(__file__)
    for _level in range(package_depth + 1):
        root = os.path.dirname(root)
    result["PYTHONPATH"] = os.pathsep.join(filter(None, (root, found.get("PYTHONPATH"))))
    if setting.threads is not None:
        result["OMP_NUM_THREADS"] = result["MKL_NUM_THREADS"] = str(setting.threads)
    return result


class Lines:
    """Splits a stream of bytes into complete lines, and keeps an incomplete last line."""

    def __init__(self) -> None:
        self._rest = b""

    def feed(self, data: bytes) -> List[bytes]:
        lines = (self._rest + data).split(b"\n")
        self._rest = lines.pop()
        return lines


class Writer:
    """The only writer of stdout: JSON lines, and all other lines with the prefix "# "."""

    def __init__(self, descriptors: Sequence[int]) -> None:
        """JSON lines go to all `descriptors`, other lines to the first.

        The first gets its JSON line last, so that a line it shows is already stored.
        """
        self._descriptors = descriptors
        self.gpu: Optional[str] = None  # of the last process that named one

    def json(self, line: bytes) -> None:
        for descriptor in reversed(self._descriptors):
            write_all(descriptor, line + b"\n")
        if _OF_PROCESS in line:  # the others are long, and decoding them would disturb what is timed
            self.gpu = gpu.name_of(json.loads(line)["env"]) or self.gpu

    def message(self, line: bytes) -> None:
        write_all(self._descriptors[0], b"# " + line + b"\n")


class Child:
    """A timing process with its loader workers, in a separate process group."""

    def __init__(self, task: Task, setting: Setting) -> None:
        self._lines, channel = os.pipe()
        try:
            self._process = subprocess.Popen(
                [sys.executable, "-u", "-m", f"{__package__}.process", str(channel), task.to_json()],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                pass_fds=(channel,),
                env=child_environment(setting, dict(os.environ)),
                start_new_session=True,
            )
        finally:
            os.close(channel)

    def relay(self, writer: Writer, label: bytes) -> int:
        """Forwards all lines until the process ends; returns its exit code, negative for a signal.

        It polls for the end, because loader workers that outlive the process hold its pipes open.
        """
        messages, lines = cast(IO[bytes], self._process.stdout).fileno(), self._lines
        cutters = {messages: Lines(), lines: Lines()}
        with selectors.DefaultSelector() as selector:
            for descriptor in cutters:
                selector.register(descriptor, selectors.EVENT_READ)
            ended = False
            while selector.get_map():
                events = selector.select(timeout=_POLL_S)
                for key, _mask in events:
                    data = os.read(key.fd, _CHUNK)
                    if not data:
                        selector.unregister(key.fd)
                    for line in cutters[key.fd].feed(data):
                        if key.fd == lines:
                            writer.json(line)
                        else:
                            writer.message(label + b": " + line)
                if ended and not events:
                    break
                ended = self._process.poll() is not None
        return self._process.wait()

    def kill(self) -> None:
        """Ends the process and its workers, whatever state they are in."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()
        os.close(self._lines)
        if self._process.stdout is not None:
            self._process.stdout.close()


def _ending(code: int) -> Optional[str]:
    """Why a process ended early; None if it printed the reason itself."""
    if code in (DONE, NOTHING_TIMED, NO_TORCH, DEVICE_MISSING, DEVICE_LOST):
        return None
    if code > 0:
        return f"ended early with exit code {code}: see the reason above"
    number = signal.Signals(-code)
    return f"ended early by {number.name}{_LIKELY.get(number, '')}"


def run_rounds(options: RoundOptions, descriptors: Sequence[int]) -> int:
    """Times the rounds one after the other and writes their lines to `descriptors`.

    Returns 0; DEVICE_MISSING if the first process finds no GPU, DEVICE_LOST if a later one does not, after naming the GPU that
    is lost; or 3 if any process of a round failed otherwise. The rounds after one that failed are not begun.

    The first process on a machine is slower in every arm, because its memory and its caches are cold: one that warms
    the machine comes before the first round, if the options say so.
    """
    writer = Writer(descriptors)
    settings = thread_settings(
        options.threads,
        auto_threads=options.auto_threads,
        allowed=len(os.sched_getaffinity(0)),
        quota=cgroup.quota_cpus(cgroup.own_group()),
    )
    had_device = False
    for number in options.rounds:
        order = rotated(settings, options.run_id, number)
        warms = options.warm_up and number == options.rounds[0]
        result = DONE
        for setting, warm_up in [(order[0], True)] * warms + [(setting, False) for setting in order]:
            code = _run_process(_task(options, number, setting, warm_up), setting, writer)
            if code == DEVICE_LOST or (code == DEVICE_MISSING and had_device):
                writer.message(f"the GPU is lost: {writer.gpu or 'no process had named it yet'}.".encode())
                return DEVICE_LOST
            if code == DEVICE_MISSING:
                return code
            had_device = had_device or code in (DONE, NOTHING_TIMED)
            if code != DONE:
                result = NOTHING_TIMED
            if code == NO_TORCH:
                break
        if result != DONE:
            return result
    return DONE


def _task(options: RoundOptions, number: int, setting: Setting, warm_up: bool) -> Task:
    return Task(
        options.run_id,
        f"{options.arm}-{setting.label}",
        number,
        options.cells,
        options.matrix,
        options.device,
        options.block_seconds,
        options.workers,
        options.image_size,
        setting.by,
        options.env,
        warm_up,
        options.place,
    )


def _run_process(task: Task, setting: Setting, writer: Writer) -> int:
    """Runs one process to its end and says how it ended if it did so early; returns its exit code."""
    label = f"{task.arm} round {task.round}"
    child = Child(task, setting)
    try:
        code = child.relay(writer, label.encode())
    finally:
        child.kill()
    ending = _ending(code)
    if ending is not None:
        writer.message(f"{label}: {ending}".encode())
    return code
