# SPDX-License-Identifier: GPL-3.0-or-later
"""The part of gpu-loss for nodes with cgroup v2 and the systemd driver: all runtimes and injections beside each other.

Each worker has a policy, and links in /dev/char or none. It runs a pod for each version of runc, each way to give it a
GPU and each kind of CPU request. What happens, happens to all of them at once; pods that lost their GPU are started again
before the next event. With the stand-in a pod opens the device. With real GPUs it asks nvidia-smi and computes with CUDA;
NVIDIA's device plugin names the devices, and for CDI, NVIDIA's container runtime does.
"""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable, Iterable, Mapping, Sequence, Set
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import product
from pathlib import Path
from typing import Any

from ansible_collections.kubepin.tuning.plugins.module_utils.control.gpu_access import diagnosis as gpu_diagnosis
from ansible_collections.kubepin.tuning.plugins.module_utils.control.gpu_access.node import Node as NodeFacts
from ansible_collections.kubepin.tuning.plugins.module_utils.control.gpu_access.node import with_facts
from ansible_collections.kubepin.tuning.plugins.module_utils.control.gpu_access.risk import risk_of

from sandbox import containerd, gpu_nodes, machine_runtime, manifests
from sandbox.cluster import Sandbox, node_ready
from sandbox.nodes import BUILDS_MOUNT, Node
from sandbox.settings import GPU_DEVICE, GPU_RESOURCE, TEST_IMAGE, TORCH_IMAGE, Paths, SandboxError
from sandbox.shell import CommandFailed, wait_for
from tests.campaigns import legacy_gpu
from tests.campaigns.base import markdown_table

# Besides the node's own and that of virtual machines. Old; after the fix of the links (1.1.7); before that of the order of
# device properties (1.2.5).
RUNCS = ("1.0.0-rc93", "1.1.15", "1.2.4")
OWN_RUNC = "own"
SPECS, CDI, HOOK = "device_specs", "cdi", "legacy"
SHARED, FRACTIONAL, WHOLE = "shared", "fractional", "whole"
KINDS = {SHARED: "Burstable", FRACTIONAL: "Guaranteed, 0.5 CPUs", WHOLE: "Guaranteed, 1 CPU"}
CDI_KIND, CDI_RESOURCE = "kubepin.local/gpu", "kubepin.local/gpu"
_OURS = "\n# The handlers of gpu-loss\n"
_STAND_INS = (GPU_RESOURCE, CDI_RESOURCE)
REPLICAS = 60
MEMORY, MORE_MEMORY = "768Mi", "800Mi"
START_SECONDS = 120

START, NEIGHBOUR, RESTART = "nothing", "a pod with whole CPUs starts", "kubelet restarts"
RESIZE, CONTAINERD, RELOAD = "resized in place", "containerd restarts", "daemon-reload"
SWITCH, ROLLBACK = "switch to static", "rollback to none"
# The kubelet looks at its containers every 10 s, and its updates come late on a node with so many pods.
WATCH_SECONDS = {START: 22, NEIGHBOUR: 15, RESTART: 25, RESIZE: 15, CONTAINERD: 15, RELOAD: 15, SWITCH: 30}
EVENTS = tuple(WATCH_SECONDS)
COLUMNS = (*EVENTS, ROLLBACK)
"""Of the table: only kubepin rolls back."""
BY_ITSELF = frozenset({START, NEIGHBOUR})
"""The events in which nothing is done to the container, the kubelet or the node."""
OPEN = "open"
NO_DRIVER = "No such device or address"
"""ENXIO, the answer of a device whose number has no driver. The kernel asks the cgroup first, so whoever gets it may use
the device (Linux, fs/namei.c, do_open; fs/char_dev.c, chrdev_open)."""
NVIDIA_NUMBERS = (195, 0)
_STARTED = 1_000_000.0
REAL_DEVICES = (GPU_DEVICE, "/dev/nvidiactl", "/dev/nvidia-uvm")
"""What the hook gives; NVIDIA's programs may choose another GPU."""
GRANTED_DEVICES = "/dev/nvidia[0-9]* /dev/nvidiactl /dev/nvidia-uvm"

# One line at each change: the second, whether the devices open, and with a real GPU what nvidia-smi, a new CUDA process
# and one that has had its devices open since the start say. These three are asked at each change only: a hundred pods that
# ask all the time keep a node from its own work.
PROBE = r"""
import ctypes, glob, os, subprocess, sys, time
def check(code):
    if code: raise OSError(code)
def context():
    cuda = ctypes.CDLL("libcuda.so.1")
    check(cuda.cuInit(0)); ctx = ctypes.c_void_p()
    check(cuda.cuDevicePrimaryCtxRetain(ctypes.byref(ctx), 0)); check(cuda.cuCtxSetCurrent(ctx))
    pointer = ctypes.c_void_p(); check(cuda.cuMemAlloc_v2(ctypes.byref(pointer), 1 << 20))
    return cuda, pointer
def compute(cuda, pointer):
    check(cuda.cuMemsetD8_v2(pointer, 7, 1 << 20)); check(cuda.cuCtxSynchronize())
    back = (ctypes.c_ubyte * 16)(); check(cuda.cuMemcpyDtoH_v2(back, pointer, 16))
    if bytes(back) != b"\7" * 16: raise OSError("wrong result")
def outcome(action):
    try: action(); return "works"
    except OSError as error: return "error_" + str(error).replace(" ", "_")
if sys.argv[1:] == ["once"]:
    print(outcome(lambda: compute(*context()))); sys.exit()
# Before nvidia-smi makes the nodes of GPUs that the container did not get.
granted = [path for pattern in os.environ["DEVICES"].split() for path in glob.glob(pattern)]
def devices():
    for path in granted:
        try: os.close(os.open(path, os.O_RDWR))
        except PermissionError: return "refused"
    return "open" if granted else "no_device"
def smi():
    done = subprocess.run(["nvidia-smi", "-L"], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    return "works" if done.returncode == 0 else (done.stdout.strip().splitlines() or ["?"])[0].replace(" ", "_")
def once():
    done = subprocess.run([sys.executable, "-c", os.environ["PROBE"], "once"], stdout=subprocess.PIPE, text=True)
    return done.stdout.strip() or "ended_" + str(done.returncode)
held = None; before = None
while True:
    now = devices()
    if now != before:
        second = int(time.time())
        words = [now, "nvidia-smi=" + smi(), "cuda=" + once()]
        try:
            held = held or context()
            words.append("held=" + outcome(lambda: compute(*held)))
        except OSError as error: words.append("held=error_" + str(error))
        print(second, " ".join(words), flush=True)
    before = now
    time.sleep(1)
"""


@dataclass(frozen=True)
class Setting:
    """How a worker is while its pods run."""

    policy: str
    links: bool


SETTINGS = tuple(Setting(policy, links) for links, policy in product((False, True), ("none", "static")))


@dataclass(frozen=True)
class Subject:
    """One container on one worker."""

    worker: str
    containerd: str
    runc: str
    injection: str
    kind: str
    handler: str

    @property
    def pod(self) -> str:
        """Its pod's name."""
        return f"{self.handler}-{self.injection.replace('_', '-')}-{self.kind}-{self.worker[-1]}"


Key = tuple[str, str, str, bool, str, str]


@dataclass(frozen=True)
class Container:
    """A container, by what is different about it.

    *policy* is that of the kubelet during the event: a switch to static is one under the static policy.
    """

    containerd: str
    runc: str
    injection: str
    links: bool
    policy: str
    pod: str

    @property
    def key(self) -> Key:
        """What makes it the same as another one."""
        return self.containerd, self.runc, self.injection, self.links, self.policy, self.pod


@dataclass(frozen=True)
class Result(Container):
    """One container through one event; *outcome* is `kept`, `lost`, or why there is neither."""

    event: str
    outcome: str
    seconds: int | None
    words: str


def runtimes(config: str, handlers: dict[str, tuple[str, bool]]) -> str:
    """The lines for these handlers, each with its runc and whether it has the hook; their cgroup driver is the others'."""
    return "".join(
        containerd.handler(config, name, runc, legacy_gpu.BASE_SPECIFICATION if hooked else "")
        for name, (runc, hooked) in handlers.items()
    )


def cdi_specification() -> dict[str, Any]:
    """What names the stand-in for CDI."""
    device = {"name": Path(GPU_DEVICE).name, "containerEdits": {"deviceNodes": [{"path": GPU_DEVICE}]}}
    return {"cdiVersion": "0.5.0", "kind": CDI_KIND, "devices": [device]}


def manifest(subject: Subject, real: bool) -> dict[str, Any]:
    """A pod that reports whether it has its GPU."""
    cpu = {SHARED: "1", FRACTIONAL: "500m", WHOLE: "1"}[subject.kind]
    resources: dict[str, dict[str, Any]] = {"limits": {"cpu": cpu, "memory": MEMORY if real else "32Mi"}}
    if subject.kind == SHARED:
        resources["requests"] = {"cpu": "100m", "memory": "16Mi"}
    env = {"DEVICES": GRANTED_DEVICES if real else GPU_DEVICE, "PROBE": PROBE}
    by_runtime = subject.injection == HOOK or (real and subject.injection == CDI)
    if by_runtime:
        env["NVIDIA_VISIBLE_DEVICES"] = "0"
    else:
        resources["limits"][CDI_RESOURCE if subject.injection == CDI else GPU_RESOURCE] = 1
    # NVIDIA's runtime brings them.
    volumes = gpu_nodes.HOST_VOLUMES if real and subject.injection != CDI else {}
    command = ["python3", "-c", PROBE] if real else ["sh", "-c", legacy_gpu.OPEN_FOR_EVER]
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": subject.pod, "namespace": "default", "labels": {"campaign": "gpu-loss"}},
        "spec": {
            "nodeName": subject.worker,
            "runtimeClassName": subject.handler,
            "terminationGracePeriodSeconds": 0,
            "restartPolicy": "Never",
            "containers": [
                {
                    "name": "main",
                    "image": TORCH_IMAGE if real else TEST_IMAGE,
                    "imagePullPolicy": "Never",
                    "env": [{"name": name, "value": value} for name, value in env.items()],
                    "command": command,
                    "resources": resources,
                    "volumeMounts": [
                        {"name": f"v{index}", "mountPath": path, "readOnly": True} for index, path in enumerate(volumes)
                    ],
                }
            ],
            "volumes": [
                {"name": f"v{index}", "hostPath": {"path": path}} for index, path in enumerate(volumes.values())
            ],
        },
    }


def device_plugin(name: str, resource: str, options: Sequence[str]) -> dict[str, Any]:
    """A device plugin that offers its GPU many times."""
    plugin = manifests.gpu_stand_in([*options, f"-replicas={REPLICAS}"])
    labels = {"app": name}
    plugin["metadata"] |= {"name": name, "labels": labels}
    spec = plugin["spec"]
    spec["selector"] = {"matchLabels": labels}
    spec["updateStrategy"] = {"rollingUpdate": {"maxUnavailable": "100%"}}
    spec["template"]["metadata"]["labels"] = labels
    spec["template"]["spec"]["containers"][0]["args"][0] = f"-resource={resource}"
    return plugin


def guaranteed(resource: str, amount: str) -> dict[str, dict[str, str]]:
    """What a Guaranteed container asks for of a resource."""
    return {"requests": {resource: amount}, "limits": {resource: amount}}


def neighbour(worker: str) -> dict[str, Any]:
    """A pod without a GPU that takes a whole CPU from the shared pool."""
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": f"neighbour-{worker[-1]}", "namespace": "default", "labels": {"campaign": "gpu-loss"}},
        "spec": {
            "nodeName": worker,
            "terminationGracePeriodSeconds": 0,
            "containers": [
                {
                    "name": "main",
                    "image": TEST_IMAGE,
                    "imagePullPolicy": "Never",
                    "command": ["sleep", "100000"],
                    "resources": {"limits": {"cpu": "1", "memory": "32Mi"}},
                }
            ],
        },
    }


def parse_logs(text: str, subject_of: Callable[[str], str] = str) -> dict[str, list[tuple[int, str]]]:
    """What pods wrote, from `head` of their logs in /var/log/pods: the second and the words of each line.

    :param subject_of: the pod's name -> the key of its lines
    """
    found: dict[str, list[tuple[int, str]]] = {}
    pod = ""
    for line in text.splitlines():
        title = re.fullmatch(r"==> /var/log/pods/default_([^_]+)_.*", line)
        words = re.fullmatch(r"\S+ stdout F (\d+) (.+)", line)
        if title:
            pod = subject_of(title[1])
            found.setdefault(pod, [])
        elif words:
            found[pod].append((int(words[1]), words[2]))
    return found


def outcome_of(lines: Sequence[tuple[int, str]], since: float, granted: str = OPEN) -> tuple[str, int | None, str]:
    """The outcome after an event, the seconds until a loss, and the last words.

    :param granted: how words begin that say that the container may use its device
    """
    if not lines:
        return "no word", None, ""
    lost = next(
        (second for second, words in lines if second >= int(since) and not words.startswith(granted)),
        None,
    )
    last = lines[-1][1]
    if lost is None:
        return ("kept" if last.startswith(granted) else "lost before"), None, last
    return "lost", lost - int(since), last


class SystemdLab:
    """All workers of a sandbox, each with its runtimes."""

    RUNCS: Sequence[str] = RUNCS
    PODS: Sequence[str] = tuple(KINDS)
    WATCH_SECONDS: Mapping[str, int] = WATCH_SECONDS
    START_SECONDS = START_SECONDS
    GRANTED = OPEN

    def __init__(self, sandbox: Sandbox, report: Callable[[str], None]) -> None:
        self.sandbox, self.report, self.kubectl = sandbox, report, sandbox.kubectl
        self.workers: list[Node] = sandbox.workers
        self.real = sandbox.state.gpus > 0
        self.devices = REAL_DEVICES if self.real else (GPU_DEVICE,)
        self.subjects: list[Subject] = []
        self.settings: dict[str, Setting] = {}
        self.dead: dict[str, str] = {}
        self.lost: list[Subject] = []
        self.watched: list[Subject] = []
        self.started: dict[str, float] = {}
        self.runcs: dict[str, Mapping[str, str]] = {}
        """Of each worker: a name -> its path."""
        self.configs: dict[str, str] = {}
        """containerd's configuration of each worker, without NVIDIA's handlers."""

    def each(self, action: Callable[[Node], object], nodes: Sequence[Node] | None = None) -> None:
        """On all workers, or these, at once."""
        with ThreadPoolExecutor(len(self.workers)) as pool:
            list(pool.map(action, self.workers if nodes is None else nodes))

    # Preparing

    def install(self) -> None:
        """Give the workers the current containerd, which knows CDI, their runtimes and device plugins."""
        paths = self.sandbox.paths
        self.each(lambda node: self._install_runtimes(paths, node))
        for handler in sorted({subject.handler for subject in self.subjects}):
            self.kubectl.apply(
                {
                    "apiVersion": "node.k8s.io/v1",
                    "kind": "RuntimeClass",
                    "metadata": {"name": handler},
                    "handler": handler,
                }
            )
        for plugin in self.plugins():
            self.kubectl.apply(plugin)

        def offered() -> bool:
            names = {worker.name for worker in self.workers}
            found = [
                node["status"]["allocatable"]
                for node in self.kubectl.items("nodes")
                if node["metadata"]["name"] in names
            ]
            return all(item.get(name) == str(amount) for item in found for name, amount in self.offers().items())

        wait_for("the device plugins offer each GPU several times", offered, self.START_SECONDS)

    def offers(self) -> dict[str, int]:
        """What each worker then offers."""
        return {GPU_RESOURCE: REPLICAS * self.sandbox.state.gpus} if self.real else dict.fromkeys(_STAND_INS, REPLICAS)

    def plugins(self) -> list[dict[str, Any]]:
        """The device plugins."""
        if self.real:
            return gpu_nodes.device_plugin(REPLICAS)
        options = ["-devices=1", f"-path={GPU_DEVICE}"]
        return [
            device_plugin("gpu-stand-in", GPU_RESOURCE, options),
            device_plugin("gpu-by-cdi", CDI_RESOURCE, [*options, f"-cdi={CDI_KIND}"]),
        ]

    def program(self, _node: Node, built: Path) -> str:
        """Where a node has a program of the builds folder."""
        return f"{BUILDS_MOUNT}/{built.relative_to(self.sandbox.paths.builds)}"

    def _use_current_containerd(self, paths: Paths, node: Node) -> None:
        folder = f"{BUILDS_MOUNT}/{machine_runtime.runtime_folder(paths).relative_to(paths.builds)}/bin"
        config = (Path(machine_runtime.__file__).parent / "machine-rootfs/etc/containerd/config.toml").read_text()
        extra = "\n[plugins.'io.containerd.cri.v1.runtime']\nrestrict_oom_score_adj = true\n"
        extra += (
            "[plugins.'io.containerd.cri.v1.runtime'.cni]\nbin_dirs = ['/usr/lib/cni']\nconf_dir = '/etc/cni/net.d'\n"
        )
        if self.configuration(node)["cgroupDriver"] == "cgroupfs":
            config = config.replace("SystemdCgroup = true", "SystemdCgroup = false")
        node.write(containerd.CONFIGURATION, config + extra)
        # In place of the node's own: the audit asks the containerd and the runc in the PATH.
        programs = [f"{folder}/{name}" for name in ("containerd", "containerd-shim-runc-v2")]
        node.run("install", "-m755", *programs, "/usr/bin/")

    def _install_runtimes(self, paths: Paths, node: Node) -> None:
        config = node.run("cat", containerd.CONFIGURATION)
        if "version = 3" not in config:
            self._use_current_containerd(paths, node)
            config = node.run("cat", containerd.CONFIGURATION)
        runcs = {version: self.program(node, legacy_gpu.runc(paths, version)) for version in self.RUNCS}
        runcs[OWN_RUNC] = node.run("sh", "-c", "command -v runc").strip()
        if node.run(runcs[OWN_RUNC], "--version").split()[2] != machine_runtime.RUNC_VERSION:
            current = machine_runtime.runtime_folder(paths) / "bin/runc"
            runcs[machine_runtime.RUNC_VERSION] = self.program(node, current)
        handlers: dict[str, tuple[str, bool]] = {}
        for version, path in runcs.items():
            name = version.replace(".", "-")
            handlers |= {f"plain-{name}": (path, False), f"hook-{name}": (path, True)}
        hook = self.program(node, legacy_gpu.hook(paths))
        node.write(
            legacy_gpu.BASE_SPECIFICATION,
            legacy_gpu.specification_with_hook(node.run("ctr", "oci", "spec"), hook, self.devices),
        )
        if not self.real:
            node.write("/etc/cdi/kubepin.json", json.dumps(cdi_specification()))
        self.runcs[node.name] = runcs
        self.configs[node.name] = f"{config.partition(_OURS)[0]}{_OURS}{runtimes(config, handlers)}"
        self.configure(node, runcs)
        server = node.run("ctr", "version").rpartition("Version:")[2].split()[0]
        for version, path in runcs.items():
            real = node.run(path, "--version").split()[2]
            name = version.replace(".", "-")
            kinds = {SPECS: "plain", HOOK: "hook", CDI: "nvidia" if self.real else "plain"}
            for injection in (SPECS, HOOK, *([CDI] if server.startswith("2.") else [])):
                handler = f"{kinds[injection]}-{name}"
                self.subjects += [Subject(node.name, server, real, injection, kind, handler) for kind in self.PODS]

    def configure(self, node: Node, runcs: Iterable[str], more: str = "") -> None:
        """Write containerd's configuration and restart it.

        :param runcs: names of those that NVIDIA's handlers start; that of the device plugin takes the first
        :param more: further lines
        """
        config = self.configs[node.name]
        if self.real:
            names = {version: f"nvidia-{version.replace('.', '-')}" for version in runcs}
            programs = {
                name: gpu_nodes.runtime_with(node, name, self.runcs[node.name][version])
                for version, name in names.items()
            }
            programs[gpu_nodes.RUNTIME_CLASS] = next(iter(programs.values()))
            config += "".join(gpu_nodes.handler(config, name, program) for name, program in programs.items())
        node.write(containerd.CONFIGURATION, config + more)
        containerd.restart(node, self.START_SECONDS)

    def set_links(self, node: Node, there: bool) -> None:
        """Make the links of NVIDIA's devices in /dev/char, or remove them."""
        action = "mkdir -p /dev/char; ln -sf $path $link" if there else "rm -f $link"
        find = "[ -c $path ] || continue; link=/dev/char/$(stat -c %Hr:%Lr $path)"
        node.run("sh", "-c", f"for path in /dev/nvidia*; do {find}; {action}; done")

    def configuration(self, node: Node) -> dict[str, Any]:
        """The running kubelet's configuration."""
        answer = self.kubectl.run("get", "--raw", f"/api/v1/nodes/{node.name}/proxy/configz")
        found: dict[str, Any] = json.loads(answer)["kubeletconfig"]
        return found

    def use_policy(self, node: Node, policy: str) -> None:
        """Start the kubelet with this policy, and without the state of the previous one; pods stay."""
        flags = f"--cpu-manager-policy={policy}" + (" --reserved-cpus=0" if policy == "static" else "")
        node.run("systemctl", "stop", "kubelet")
        node.run("rm", "-f", "/var/lib/kubelet/cpu_manager_state")
        node.write("/etc/default/kubelet", f"KUBELET_EXTRA_ARGS={flags}\n")
        self.start_kubelet(node, lambda: self.configuration(node)["cpuManagerPolicy"] == policy)

    def start_kubelet(self, node: Node, also: Callable[[], bool] = lambda: True) -> None:
        """Start or restart a kubelet, until its node is Ready."""
        started = datetime.now(UTC).replace(microsecond=0)
        node.run("systemctl", "restart", "kubelet")

        def ready() -> bool:
            (item,) = [it for it in self.kubectl.items("nodes") if it["metadata"]["name"] == node.name]
            return node_ready(item, started) and also()

        wait_for(f"{node.name} is Ready", ready, self.START_SECONDS)

    # Pods

    def subject_of(self, pod: str) -> str:
        """The name of the subject that a pod is."""
        return pod

    def pod_name(self, subject: Subject) -> str:
        """The name of a subject's pod."""
        return subject.pod

    def now(self) -> float:
        """The time, in seconds since 1970, by the clock that pods write."""
        return time.time()

    def logs(self) -> dict[str, list[tuple[int, str]]]:
        """What all pods wrote since their last start: the logs of removed pods stay for a while."""
        found: dict[str, list[tuple[int, str]]] = {}
        for node in self.workers:
            script = 'for f in /var/log/pods/default_*/main/*.log; do echo "==> $f"; cat $f; done'
            found |= parse_logs(node.run("sh", "-c", script, check=False), self.subject_of)
        return {
            pod: sorted(line for line in lines if line[0] >= int(self.started.get(pod, 0)))
            for pod, lines in found.items()
        }

    def start(self, subjects: Sequence[Subject]) -> None:
        """Start pods and wait until each has its GPU."""
        now = self.now()
        self.started |= {subject.pod: now for subject in subjects}
        items = [self.object_of(subject) for subject in subjects]
        self.kubectl.run("apply", "-f", "-", stdin=json.dumps({"apiVersion": "v1", "kind": "List", "items": items}))
        self.wait_started({subject.pod for subject in subjects})

    def object_of(self, subject: Subject) -> dict[str, Any]:
        """What makes a subject's pod."""
        return manifest(subject, self.real)

    def wait_started(self, names: Set[str]) -> None:
        """Wait until each has its GPU; those that never get it are reported, and left out from then on."""

        def ended() -> bool:
            logs = self.logs()
            return all(logs.get(name) for name in names - self._failed(names))

        try:
            wait_for("all pods have said whether they have their GPU", ended, self.START_SECONDS, 1)
        except SandboxError as error:
            self.report(str(error))
        logs, failed = self.logs(), self._failed(names)
        for name in sorted(names):
            words = logs.get(name, [])
            if not words or name in failed or not words[0][1].startswith(self.GRANTED):
                why = words[0][1] if words else self._reason(name)
                self.dead[name] = why
                self.report(f"{name} does not start with its GPU: {why}")

    def _failed(self, names: Iterable[str]) -> set[str]:
        wanted = set(names)
        return {
            pod["metadata"]["name"]
            for pod in self.kubectl.items("pods")
            if pod["metadata"]["name"] in wanted and pod["status"]["phase"] in ("Failed", "Succeeded")
        }

    def _reason(self, name: str) -> str:
        try:
            events = self.kubectl.items("events", "--field-selector", f"involvedObject.name={name},type=Warning")
        except CommandFailed:
            return "unknown"
        return str(events[-1]["message"])[:300] if events else "unknown"

    def remove(self, names: Iterable[str]) -> None:
        """Remove pods."""
        listed = sorted(names)
        if listed:
            self.kubectl.run("delete", "pod", *listed, "--now", "--ignore-not-found", "--wait=true")

    def alive(self) -> list[Subject]:
        """The containers that had their GPU when they started last."""
        return [
            subject for subject in self.subjects if subject.worker in self.settings and subject.pod not in self.dead
        ]

    # Events

    def concerned(self, event: str) -> list[Subject]:
        """The containers to which an event happens."""
        found = self.alive()
        if event == SWITCH:
            return [it for it in found if self.settings[it.worker].policy == "none"]
        if event == RESIZE:  # the static policy refuses it for Guaranteed pods
            return [it for it in found if it.kind == SHARED or self.settings[it.worker].policy == "none"]
        return found

    def resize(self, subjects: Iterable[Subject]) -> None:
        """Give pods more CPU while they run; those with whole CPUs more memory, so that they keep one CPU."""

        def patch(subject: Subject) -> None:
            resources = {
                SHARED: {"limits": {"cpu": "2"}},
                FRACTIONAL: guaranteed("cpu", "600m"),
                WHOLE: guaranteed("memory", MORE_MEMORY if self.real else "40Mi"),
            }[subject.kind]
            change = {"spec": {"containers": [{"name": "main", "resources": resources}]}}
            try:
                self.kubectl.run(
                    "patch", "pod", self.pod_name(subject), "--subresource=resize", "--patch", json.dumps(change)
                )
            except CommandFailed as error:
                self.report(f"{subject.pod} cannot be resized: {error}")

        with ThreadPoolExecutor(8) as pool:
            list(pool.map(patch, subjects))

    def happen(self, event: str) -> None:
        """Let something happen to all workers, and a switch to those with the policy none."""
        if event == SWITCH:
            switched = [
                node
                for node in self.workers
                if node.name in self.settings and self.settings[node.name].policy == "none"
            ]
            self.each(lambda node: self.use_policy(node, "static"), switched)
        elif event == NEIGHBOUR:
            for name in self.settings:
                self.kubectl.apply(neighbour(name))
        elif event == RESTART:
            self.each(self.start_kubelet)
        elif event == RESIZE:
            self.resize(self.concerned(RESIZE))
        elif event == CONTAINERD:
            self.each(lambda node: node.run("systemctl", "restart", "containerd"))
        elif event == RELOAD:
            self.each(lambda node: node.run("systemctl", "daemon-reload"))

    def observe(self, event: str) -> list[Result]:
        """What an event does to all containers; `lost` has those that lost their GPU."""
        self.watched = watched = self.concerned(event)
        since = self.now()
        self.happen(event)
        time.sleep(self.WATCH_SECONDS[event])
        logs = self.logs()
        rows = []
        for subject in watched:
            # Nothing happens in the first event, so what counts is the time since the start.
            from_then_on = self.started[subject.pod] if event == START else since
            outcome, seconds, words = outcome_of(logs.get(subject.pod, []), from_then_on, self.GRANTED)
            rows.append(self.result(subject, event, outcome, seconds, words))
        self.lost = [it for it, row in zip(watched, rows, strict=True) if row.outcome != "kept"]
        names = ", ".join(it.pod for it in self.lost)
        self.report(f"{event}: {len(self.lost)} of {len(watched)} lost their GPU: {names}")
        return rows

    def renew(self) -> None:
        """Start those that lost their GPU again."""
        self.remove(it.pod for it in self.lost)
        if self.lost:
            self.start(self.lost)

    def begin(self, settings: Sequence[Setting]) -> list[Result]:
        """Give the workers their settings, the first to the first, and start the pods; those that do not start."""
        self.settings = {node.name: setting for node, setting in zip(self.workers, settings, strict=False)}
        self.dead = {}

        def prepare(node: Node) -> None:
            self.set_links(node, self.settings[node.name].links)
            self.use_policy(node, self.settings[node.name].policy)

        self.each(prepare, [node for node in self.workers if node.name in self.settings])
        self.start(self.alive())
        return [
            self.result(it, START, "does not start", None, self.dead[it.pod])
            for it in self.subjects
            if it.pod in self.dead
        ]

    def container(self, subject: Subject, event: str) -> Container:
        """The container of a subject during an event."""
        setting = self.settings[subject.worker]
        policy = "static" if event == SWITCH else setting.policy
        return Container(subject.containerd, subject.runc, subject.injection, setting.links, policy, subject.kind)

    def result(self, subject: Subject, event: str, outcome: str, seconds: int | None, words: str) -> Result:
        """One container through one event."""
        return Result(*self.container(subject, event).key, event, outcome, seconds, words)

    def trial(self, settings: Sequence[Setting]) -> list[Result]:
        """All events, one after the other."""
        try:
            rows = self.begin(settings)
            for event in EVENTS:
                rows += self.observe(event)
                if event != EVENTS[-1]:
                    self.renew()
        finally:
            self.remove_all()
        return rows

    def remove_all(self) -> None:
        """Remove all pods."""
        self.kubectl.run("delete", "daemonset,pod", "-l", "campaign=gpu-loss", "--now", "--wait=true")

    def facts(self) -> dict[str, str]:
        """What the measurement ran on."""
        node = self.workers[0]
        driver = node.run("sh", "-c", "head -1 /proc/driver/nvidia/version", check=False).strip()
        return {
            "kubelet": self.sandbox.state.kubernetes,
            "kernel": node.run("uname", "-r").strip(),
            "systemd": node.run("systemctl", "--version").split()[1],
            "cgroup": "v2" if "cgroup2fs" in node.run("stat", "-fc", "%T", "/sys/fs/cgroup") else "v1",
            "cgroup_driver": str(self.configuration(node)["cgroupDriver"]),
            "gpu": driver or "stand-in",
        }

    def run(self) -> list[Result]:
        """All settings, as many at once as there are workers."""
        self.install()
        size = len(self.workers)
        batches = [SETTINGS[first : first + size] for first in range(0, len(SETTINGS), size)]
        return [row for batch in batches for row in self.trial(batch)]


def _node(row: Result, kubelet: str) -> NodeFacts:
    known = {
        "kubelet_version": kubelet,
        "cpu_manager_policy": row.policy,
        "runc_version": row.runc.partition("+")[0],
        "cgroup_driver": "systemd",
        "device_injection": row.injection,
        "dev_char_links": row.links,
    }
    return with_facts(NodeFacts(), "worker", known)


def grade(row: Result, kubelet: str) -> str:
    """The audit's grade of such a container."""
    return str(risk_of(_node(row, kubelet), exclusive=row.pod == WHOLE, privileged=False)["grade"])


def cause_of(lost: Container, event: str) -> str:
    """The code of what took a GPU. Nothing on a node shows afterwards that a pod was resized in place."""
    if lost.injection != HOOK:
        return "dev_char_links"
    if event == RELOAD:
        return "daemon_reload"
    return "unknown" if event == RESIZE and lost.policy == "none" else "container_update"


def diagnosis(row: Result, kubelet: str) -> dict[str, Any]:
    """What the diagnosis says of a container that lost its GPU in an event, if the node has a journal."""
    gpu = gpu_diagnosis.Device(GPU_DEVICE, *NVIDIA_NUMBERS, link=row.links)
    named = [gpu_diagnosis.Rule("c", *NVIDIA_NUMBERS, "rw")]
    container = gpu_diagnosis.Container(
        namespace="default",
        pod=row.pod,
        name="main",
        id=row.pod,
        started=_STARTED,
        devices=[gpu],
        allowed=[],
        not_read="",
        specified=[] if row.injection == HOOK else named,
        exclusive=row.pod == WHOLE and row.policy == "static",
        node=_node(row, kubelet),
        reloads=[_STARTED + 60] if row.event == RELOAD else [],
        kubelet_starts=[_STARTED + 60] if row.event in (RESTART, SWITCH) else [],
        tried=True,
    )
    return gpu_diagnosis.diagnose(container)


def measured_grade(rows: Sequence[Result]) -> str | None:
    """The grade that the audit should give to a container, by what was seen of it; None if that is not enough."""
    lost = {row.event for row in rows if row.outcome == "lost"}
    if lost & BY_ITSELF:
        return "high"
    kept = {row.event for row in rows if row.outcome == "kept"}
    if lost and START in kept:
        return "low"
    return "none" if {START, RESTART, RELOAD} <= kept else None


HEADINGS = ("containerd", "runc", "GPU by", "/dev/char", "policy", "pod", *COLUMNS, "audit")


def by_container(rows: Iterable[Result]) -> dict[Key, list[Result]]:
    """The rows of each container."""
    grouped: dict[Key, list[Result]] = {}
    for row in rows:
        grouped.setdefault(row.key, []).append(row)
    return dict(sorted(grouped.items(), key=str))


def lines(rows: Iterable[Result], kubelet: str) -> list[list[str]]:
    """One line a container, one column an event."""
    table = []
    for key, found_rows in by_container(rows).items():
        cells = {row.event: row for row in found_rows}
        first = next(iter(cells.values()))
        outcomes = []
        for event in COLUMNS:
            found = cells.get(event)
            seconds = f", {found.seconds} s" if found and found.seconds is not None else ""
            outcomes.append(f"{found.outcome}{seconds}" if found else "-")
        links = "links" if first.links else "none"
        table.append([*key[:3], links, first.policy, KINDS[first.pod], *outcomes, grade(first, kubelet)])
    return table


def markdown(rows: Iterable[Result], kubelet: str) -> str:
    """The table for a page."""
    return markdown_table(HEADINGS, lines(rows, kubelet))
