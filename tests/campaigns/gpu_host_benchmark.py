# SPDX-License-Identifier: GPL-3.0-or-later
"""Run the benchmark under each CPU manager policy, interleaved, with a real kubelet on one GPU machine, without a cluster.

`pack FOLDER` gathers the binaries out of the sandbox's cache, for a machine that cannot fetch any. `measure FOLDER`, as root
on that machine, starts containerd and, for each round, policy and thread count in turn, the kubelet with that policy and one
Guaranteed static pod that times all cells; then the pod goes, the kubelet stops, and its state file is removed. What an earlier call
of the same run has measured is not measured again.

Stand-ins, so that a machine without an image registry, a container toolkit or systemd is enough: the pod works in the
host's own root (its Python and torch) and shares its PID, IPC and network namespaces, a wrapper around runc lets it use all devices
and stay in the host's cgroup namespace, and no device plugin hands out the GPU. The kubelet, its CPU manager and the kernel's
cgroups are what they are everywhere. Standard library only, unlike the other campaigns: run it by its own name.
"""

from __future__ import annotations

import argparse
import json
import lzma
import os
import shlex
import shutil
import subprocess
import sys
import tarfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from sandbox.artefacts import PAUSE_IMAGE
from sandbox.settings import DEFAULT_KUBERNETES, TEST_IMAGE, Paths, SandboxError, Version

PROGRAMS = ("usr/bin/containerd", "usr/bin/containerd-shim-runc-v2", "usr/bin/ctr", "usr/sbin/runc")
LIBRARY = "usr/lib/x86_64-linux-gnu/libseccomp.so.2"
IMAGES = ("pause.tar", "busybox.tar")
HEALTH = "http://127.0.0.1:10248/healthz"
POD = "benchmark"
START_SECONDS = 60
STOP_SECONDS = 30
# Each poll costs some CPU of the machine that is being measured.
POLL_SECONDS = 2
LOG_LINES = 20
NOT_ALL = 3

WRAPPER = """#!{python}
import json, os, sys
arguments = sys.argv[1:]
if "create" in arguments and "--bundle" in arguments:
    path = os.path.join(arguments[arguments.index("--bundle") + 1], "config.json")
    with open(path) as file:
        spec = json.load(file)
    spec["linux"]["resources"]["devices"] = [{{"allow": True, "access": "rwm"}}]
    spec["linux"]["namespaces"] = [space for space in spec["linux"]["namespaces"] if space["type"] != "cgroup"]
    for name in ("oomScoreAdj", "rlimits"):  # a sandboxed machine may not set them
        spec["process"].pop(name, None)
    with open(path, "w") as file:
        json.dump(spec, file)
os.environ["LD_LIBRARY_PATH"] = "{binaries}"
os.execv("{binaries}/runc", ["runc"] + arguments)
"""

CONTAINERD = """version = 2
root = "{work}/containerd"
state = "/run/kubepin-containerd"
[grpc]
  address = "{socket}"
[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "{pause}"
  restrict_oom_score_adj = true
  disable_apparmor = true
  [plugins."io.containerd.grpc.v1.cri".containerd]
    snapshotter = "{snapshotter}"
    [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
      runtime_type = "io.containerd.runc.v2"
      [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc.options]
        BinaryName = "{binaries}/runc-wrapper"
"""


@dataclass(frozen=True)
class ArmRun:
    """One pod: one process of one arm in one round."""

    policy: str
    threads: str
    round: int
    results: Path

    @property
    def done(self) -> bool:
        """Whether the program reported that it ended as asked."""
        return self.results.exists() and '"kind": "end"' in self.results.read_text()


@dataclass(frozen=True)
class Plan:
    """What `measure` was asked for."""

    binaries: Path
    work: Path
    output: Path
    run_id: str
    policies: Sequence[str]
    threads: Sequence[str]
    rounds: int
    cpus: int
    reserved: str
    memory: str
    deadline: float
    python: str
    program: Sequence[str]

    @property
    def socket(self) -> str:
        """Where containerd listens."""
        return "/run/kubepin-containerd/containerd.sock"

    def runs(self) -> list[ArmRun]:
        """All runs in order; every other round runs backwards, so that drift meets all arms alike."""
        arms = [(policy, threads) for threads in self.threads for policy in self.policies]
        return [
            ArmRun(policy, threads, number, self.output / f"{policy}-{threads}-r{number}.jsonl")
            for number in range(1, self.rounds + 1)
            for policy, threads in (arms if number % 2 else reversed(arms))
        ]


def pack(folder: Path, version: Version) -> None:
    """Compress what `measure` needs into `folder`, from what `python3 -m sandbox build` left in the cache."""
    paths = Paths.from_environment()
    kubernetes = paths.kubernetes(version)
    roots = sorted(paths.node_root.glob("*/root.tar"))
    images = [sorted(kubernetes.glob(f"images-*/every-node/{name}")) for name in IMAGES]
    if not roots or not all(images):
        raise SandboxError(
            f"{paths.cache} lacks Kubernetes {version}: build it first with `python3 -m sandbox build --k8s {version}`."
        )
    folder.mkdir(parents=True, exist_ok=True)
    files = {"kubelet": (kubernetes / "bin" / "kubelet").read_bytes()}
    files |= {name: found[-1].read_bytes() for name, found in zip(IMAGES, images, strict=True)}
    with tarfile.open(roots[-1]) as root:
        for path in (*PROGRAMS, LIBRARY):
            content = root.extractfile(f"./{path}")
            if content is None:
                raise SandboxError(f"{roots[-1]} has no {path}. Remove it; the sandbox builds it again.")
            files[Path(path).name] = content.read()

    def compress(item: tuple[str, bytes]) -> None:
        (folder / f"{item[0]}.xz").write_bytes(lzma.compress(item[1], preset=4))

    with ThreadPoolExecutor() as pool:
        list(pool.map(compress, files.items()))


def unpack(packed: Path, binaries: Path) -> None:
    """The reverse of `pack`, and the wrapper around runc."""
    binaries.mkdir(parents=True, exist_ok=True)
    for file in packed.glob("*.xz"):
        target = binaries / file.stem
        if not target.exists():
            target.write_bytes(lzma.decompress(file.read_bytes()))
            target.chmod(0o755)
    wrapper = binaries / "runc-wrapper"
    wrapper.write_text(WRAPPER.format(python=sys.executable, binaries=binaries))
    wrapper.chmod(0o755)


def kubelet_configuration(plan: Plan, policy: str) -> dict[str, object]:
    """The same for every policy but for the policy itself."""
    return {
        "apiVersion": "kubelet.config.k8s.io/v1beta1",
        "kind": "KubeletConfiguration",
        "authentication": {"anonymous": {"enabled": True}, "webhook": {"enabled": False}},
        "authorization": {"mode": "AlwaysAllow"},
        "cgroupDriver": "cgroupfs",
        "staticPodPath": str(plan.work / "pods"),
        "failSwapOn": False,
        "cpuManagerPolicy": policy,
        "reservedSystemCPUs": plan.reserved,
        "evictionHard": {"nodefs.available": "1%"},
        "fileCheckFrequency": "1s",
    }


def pod(plan: Plan, arm_run: ArmRun) -> dict[str, object]:
    """A Guaranteed pod with whole CPUs that does one run in the host's root."""
    folder = Path(__file__).resolve().parents[2] / "benchmark"
    command = [
        *("/bin/busybox", "chroot", "/host", "/usr/bin/env", f"PYTHONPATH={folder}", f"PATH={os.environ['PATH']}"),
        *(f"{name}={os.environ[name]}" for name in ("LD_LIBRARY_PATH",) if name in os.environ),
        *(
            plan.python,
            "-m",
            "pod",
            "round",
            "--run-id",
            plan.run_id,
            "--arm",
            arm_run.policy,
            "--round",
            str(arm_run.round),
        ),
        *("--threads", arm_run.threads, "--env", f"policy={arm_run.policy}", "--env", f"pod_cpu={plan.cpus}"),
        *("--output", str(arm_run.results), *plan.program),
    ]
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": f"{POD}-{arm_run.policy}-{arm_run.threads}-{arm_run.round}", "namespace": "default"},
        "spec": {
            **{"hostNetwork": True, "hostPID": True, "hostIPC": True, "restartPolicy": "Never"},
            "containers": [
                {
                    "name": POD,
                    "image": TEST_IMAGE,
                    "imagePullPolicy": "Never",
                    "command": command,
                    "resources": {"limits": {"cpu": str(plan.cpus), "memory": plan.memory}},
                    "volumeMounts": [{"name": "host", "mountPath": "/host", "mountPropagation": "HostToContainer"}],
                }
            ],
            "volumes": [{"name": "host", "hostPath": {"path": "/"}}],
        },
    }


@contextmanager
def service(command: Sequence[str], log: Path) -> Iterator[subprocess.Popen[bytes]]:
    """A program that runs during the block, and is asked to end after it."""
    with log.open("ab") as sink:
        process = subprocess.Popen(command, stdout=sink, stderr=sink, start_new_session=True)
    try:
        yield process
    finally:
        process.terminate()
        try:
            process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


class GpuHost:
    """containerd, and a kubelet for each policy in turn."""

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self.state = plan.work / "kubelet" / "cpu_manager_state"
        self.log = plan.output / "kubelet.log"

    def ctr(self, *arguments: str) -> str:
        """Ask containerd in the kubelet's namespace."""
        command = [str(self.plan.binaries / "ctr"), "-a", self.plan.socket, "-n", "k8s.io", *arguments]
        return subprocess.run(command, check=True, text=True, capture_output=True).stdout

    def import_images(self) -> None:
        """Wait for containerd, then give it the two images."""
        deadline = time.monotonic() + START_SECONDS
        while True:
            try:
                self.ctr("version")
                break
            except subprocess.CalledProcessError as error:
                if time.monotonic() > deadline:
                    raise SandboxError(f"containerd does not answer: {error.stderr.strip()}") from error
                time.sleep(0.2)
        for name in IMAGES:
            self.ctr("images", "import", str(self.plan.binaries / name))

    @contextmanager
    def kubelet(self, policy: str) -> Iterator[subprocess.Popen[bytes]]:
        """The kubelet, healthy, with a fresh state file."""
        self.state.unlink(missing_ok=True)
        configuration = self.plan.work / "kubelet.json"
        configuration.write_text(json.dumps(kubelet_configuration(self.plan, policy)))
        command = [
            *(str(self.plan.binaries / "kubelet"), f"--config={configuration}", f"--root-dir={self.plan.work}/kubelet"),
            *("--container-runtime=remote", f"--container-runtime-endpoint=unix://{self.plan.socket}"),
            *("--hostname-override=standalone", "--v=2"),
        ]
        with service(command, self.log) as process:
            deadline = time.monotonic() + START_SECONDS
            while not healthy():
                if process.poll() is not None or time.monotonic() > deadline:
                    raise SandboxError(f"the kubelet with policy {policy} is not healthy: see {self.log}")
                time.sleep(0.1)
            yield process

    def run(self, arm_run: ArmRun) -> float:
        """One run; return its seconds. Raises SandboxError if the pod does not end well."""
        arm_run.results.unlink(missing_ok=True)
        manifest = self.plan.work / "pods" / "benchmark.json"
        started = time.monotonic()
        name = f"round {arm_run.round}, {arm_run.policy}, threads {arm_run.threads}"
        seen = False
        with self.kubelet(arm_run.policy) as kubelet:
            manifest.write_text(json.dumps(pod(self.plan, arm_run)))
            try:
                while not arm_run.done:
                    running = len(self.ctr("tasks", "ls", "-q").split()) > 1
                    gone, seen = seen and not running, seen or running
                    if kubelet.poll() is not None or time.time() > self.plan.deadline or (gone and not arm_run.done):
                        raise SandboxError(f"{name}: no whole result; see {self.log}\n{pod_log()}")
                    time.sleep(POLL_SECONDS)
                state = self.state.read_text() if self.state.exists() else "none"
            finally:
                manifest.unlink()
                self.await_removal()
        seconds = time.monotonic() - started
        print(f"{name}: {seconds:.0f} s; cpu_manager_state {state.strip()}", flush=True)
        return seconds

    def await_removal(self) -> None:
        """Until the kubelet has removed the pod's containers."""
        deadline = time.monotonic() + STOP_SECONDS
        while self.ctr("tasks", "ls", "-q").strip() and time.monotonic() < deadline:
            time.sleep(0.2)


def pod_log() -> str:
    """The last lines that the newest benchmark container wrote."""
    logs = sorted(Path("/var/log/pods").glob(f"default_{POD}-*/{POD}/*.log"), key=lambda path: path.stat().st_mtime)
    return "\n".join(logs[-1].read_text().splitlines()[-LOG_LINES:]) if logs else "the pod wrote no log"


def healthy() -> bool:
    """Whether the kubelet says so."""
    try:
        with urllib.request.urlopen(HEALTH, timeout=1) as answer:
            return bool(answer.read() == b"ok")
    except (urllib.error.URLError, OSError):
        return False


def controllers() -> None:
    """Let cgroup v2 give the controllers that the kubelet needs to its children; on v1 there is nothing to do."""
    control = Path("/sys/fs/cgroup/cgroup.subtree_control")
    if control.exists():
        control.write_text("+cpu +cpuset +memory +pids +io +hugetlb")


def measure(plan: Plan, packed: Path) -> int:
    """All runs that fit before the deadline; return the number of runs that are still to do."""
    unpack(packed, plan.binaries)
    for folder in (plan.work / "pods", plan.work / "kubelet", plan.output):
        folder.mkdir(parents=True, exist_ok=True)
    os.environ["PATH"] = f"{plan.binaries}:{os.environ['PATH']}"
    subprocess.run(["mount", "--make-rshared", "/"], check=True)
    controllers()
    configuration = plan.work / "containerd.toml"
    snapshotter = "overlayfs" if "overlay" in Path("/proc/filesystems").read_text().split() else "native"
    configuration.write_text(
        CONTAINERD.format(
            work=plan.work, socket=plan.socket, pause=PAUSE_IMAGE, binaries=plan.binaries, snapshotter=snapshotter
        )
    )
    host = GpuHost(plan)
    longest = 0.0
    with service([str(plan.binaries / "containerd"), "-c", str(configuration)], plan.output / "containerd.log"):
        host.import_images()
        for arm_run in plan.runs():
            if time.time() + longest > plan.deadline:
                break
            if not arm_run.done:
                longest = max(longest, host.run(arm_run))
    left = sum(not arm_run.done for arm_run in plan.runs())
    print(f"{left} of {len(plan.runs())} runs are still to do", flush=True)
    return left


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line."""
    parser = argparse.ArgumentParser(
        prog="python3 -m tests.campaigns.gpu_host_benchmark", description=__doc__.split("\n")[0]
    )
    commands = parser.add_subparsers(dest="command", required=True)
    packing = commands.add_parser("pack", help="gather the binaries for another machine")
    packing.add_argument("folder", type=Path)
    packing.add_argument("--k8s", default=DEFAULT_KUBERNETES)
    measuring = commands.add_parser(
        "measure", help="measure on this machine, as root; arguments of the round behind --"
    )
    measuring.add_argument("folder", type=Path)
    measuring.add_argument("--output", type=Path, required=True)
    measuring.add_argument("--run-id", required=True)
    measuring.add_argument("--policies", default="none,static")
    measuring.add_argument("--threads", default="auto,cpus")
    measuring.add_argument("--rounds", type=int, default=3)
    measuring.add_argument("--cpus", type=int, default=4)
    measuring.add_argument("--reserved", default="0,1")
    measuring.add_argument("--memory", default="30Gi")
    measuring.add_argument("--seconds", type=int, default=540, help="start no run that would end later than this")
    measuring.add_argument("--work", type=Path, default=Path("/tmp/kubepin-gpu-host"))
    measuring.add_argument("--python", default=shutil.which("python3"))
    words = list(sys.argv[1:] if arguments is None else arguments)
    split = words.index("--") if "--" in words else len(words)
    options = parser.parse_args(words[:split])
    try:
        if options.command == "pack":
            pack(options.folder, Version.parse(options.k8s))
            return 0
        plan = Plan(
            binaries=options.work.absolute() / "bin",
            work=options.work.absolute(),
            output=options.output.absolute(),
            run_id=options.run_id,
            policies=tuple(options.policies.split(",")),
            threads=tuple(options.threads.split(",")),
            rounds=options.rounds,
            cpus=options.cpus,
            reserved=options.reserved,
            memory=options.memory,
            deadline=time.time() + options.seconds,
            python=options.python,
            program=tuple(words[split + 1 :]),
        )
        print(f"$ {shlex.join([sys.executable, '-m', 'tests.campaigns.gpu_host_benchmark', *words])}", flush=True)
        return NOT_ALL if measure(plan, options.folder) else 0
    except SandboxError as error:
        print(f"gpu_host_benchmark: {error}", file=sys.stderr)
        return 1


if __name__ == "__main__":
    sys.exit(main())
