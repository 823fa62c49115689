# SPDX-License-Identifier: GPL-3.0-or-later
"""Makes, checks and removes sandboxes."""

from __future__ import annotations

import json
import re
import secrets
import shutil
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, TypeVar

from sandbox import (
    gpu_nodes,
    kubeadm,
    machine_disk,
    machine_image,
    machines,
    manifests,
    namespaces,
    network,
    node_image,
)
from sandbox.artefacts import Artefacts
from sandbox.inventory import Hardware, render_inventory, ssh_options
from sandbox.locks import lock
from sandbox.machines import Machine
from sandbox.namespaces import NamespaceNode
from sandbox.nodes import Container, Node, make_ssh_key
from sandbox.plan import Step
from sandbox.settings import GPU_RESOURCE, LABEL, Paths, SandboxError
from sandbox.shell import Log, Shell, wait_for
from sandbox.state import State

RESOLVER_FILES = (Path("/etc/resolv.conf"), Path("/run/systemd/resolve/resolv.conf"))
NODE_BINARIES = ("kubeadm", "kubelet", "kubectl")
READY_SECONDS = 120
# An emulated machine's kubelet and containerd share two CPUs with everything else.
MACHINE_READY_SECONDS = 300
KUBEADM_SECONDS = 300

Json = dict[str, Any]
AnyNode = TypeVar("AnyNode", bound=Node)


@dataclass(frozen=True)
class Kubectl:
    """kubectl on the host, with a sandbox's kubeconfig."""

    shell: Shell
    binary: Path
    kubeconfig: Path

    def run(self, *arguments: str, stdin: str | None = None) -> str:
        """Run kubectl."""
        command = [str(self.binary), f"--kubeconfig={self.kubeconfig}", "--request-timeout=20s", *arguments]
        return self.shell.run(command, stdin=stdin)

    def items(self, *arguments: str) -> list[Json]:
        """Get a list of objects."""
        items: list[Json] = json.loads(self.run("get", *arguments, "-o", "json"))["items"]
        return items

    def apply(self, manifest: Json) -> None:
        """Apply one object."""
        self.run("apply", "-f", "-", stdin=json.dumps(manifest))


def node_ready(node: Json, since: datetime | None = None) -> bool:
    """Whether a Node object says Ready, and was updated since then."""
    for condition in node["status"].get("conditions", []):
        if condition["type"] == "Ready":
            recent = since is None or datetime.fromisoformat(condition["lastHeartbeatTime"]) >= since
            return recent and condition["status"] == "True"
    return False


def counted(number: int, noun: str) -> str:
    """`1 worker`, `2 workers`."""
    return f"{number} {noun}{'s' if number != 1 else ''}"


def in_parallel(action: Callable[[AnyNode], object], nodes: Iterable[AnyNode]) -> None:
    """Do the same on several nodes at once; the first error is raised when all have ended."""
    with ThreadPoolExecutor(10) as pool:
        futures = [pool.submit(action, node) for node in nodes]
    for future in futures:
        future.result()


class Sandbox:
    """One sandbox, by its record."""

    def __init__(self, paths: Paths, shell: Shell, state: State) -> None:
        self.paths = paths
        self.shell = shell
        self.state = state
        self.files = paths.sandbox(state.name)
        self.control_planes = [self._container(name) for name in state.control_plane_names]
        self.control_plane = self.control_planes[0]
        self.container_workers = [self._container(name) for name in state.worker_names]
        self.machines = [Machine(name, shell, paths, state) for name in state.machine_names]
        self.workers: list[Node] = [*self.container_workers, *self.machines]
        self.containers = [*self.control_planes, *self.container_workers]
        self.nodes: list[Node] = [*self.control_planes, *self.workers]
        self._certificate_key = secrets.token_hex(32)
        self.kubectl = Kubectl(shell, paths.kubernetes(state.version) / "bin" / "kubectl", self.files.kubeconfig)

    def _container(self, name: str) -> Container:
        if self.state.engine == "docker":
            return Container(name, self.shell)
        gpus = self.state.gpus > 0 and name in self.state.worker_names
        return NamespaceNode(name, self.shell, self.paths, self.state.name, gpus)

    @property
    def _ready_seconds(self) -> int:
        """How long workers may take for what they do in the cluster."""
        return MACHINE_READY_SECONDS if self.machines else READY_SECONDS

    def ssh_command(self, node: str) -> list[str]:
        """The command that reaches a node as root."""
        return ["ssh", "-i", str(self.files.ssh_key), *ssh_options(self.files), f"root@{self.state.nodes[node]}"]

    # Making

    def steps(self, artefacts: Artefacts) -> list[Step]:
        """The steps that make a sandbox of what Artefacts.missing() builds."""
        release = self.state.kubernetes
        further = len(self.control_planes) - 1
        containers = counted(len(self.container_workers), "worker")
        workers = counted(len(self.workers), "worker")
        built = (f"images-{release}", f"checksums-{release}", f"dns-{release}")
        everywhere = ["every-node", *(["dns"] if self.state.dns else [])]
        debian = self.state.machine_shape.debian

        def install_control_planes() -> None:
            self._install(artefacts, self.control_planes, [*everywhere, "control-plane"])

        def install_workers() -> None:
            self._install(artefacts, self.container_workers, everywhere)
            if self.state.gpus:
                in_parallel(lambda node: gpu_nodes.prepare(node, self.paths), self.container_workers)

        def make_disk() -> None:
            machine_disk.make_release_disk(self.paths, self.shell, debian, *self._to_install(artefacts, everywhere))

        def disk_made() -> bool:
            return machine_disk.release_disk(self.paths, debian, *self._to_install(artefacts, everywhere)).exists()

        def boot_machines() -> str:
            return self._boot_machines(artefacts.images.name, *self._to_install(artefacts, everywhere))

        steps = [
            Step("network", "network and SSH key: making", self._prepare, seconds=1),
            Step(
                "boot",
                f"{counted(len(self.containers), 'container')}: booting",
                self._boot_nodes,
                ("network", "node-image"),
                6,
            ),
            Step("install", "control plane: installing", install_control_planes, ("boot", *built), 10),
            Step("init", f"control plane: kubeadm init {release}", self._init, ("install",), 15),
        ]
        if self.container_workers:
            title = f"{containers}: installing"
            steps.append(Step("install-workers", title, install_workers, ("boot", *built), 10))
        if self.machines:
            before = ("machine-image", "own-programs", *built)
            title = f"machine: making a disk with Debian {debian} and Kubernetes {release}"
            count = counted(len(self.machines), "machine")
            steps += [
                Step(f"machine-disk-{release}", title, make_disk, before, 15, unless=disk_made),
                Step("boot-machines", f"{count}: booting", boot_machines, ("network", f"machine-disk-{release}"), 60),
            ]
        if further:
            title = f"{further} more of the control plane: kubeadm join"
            steps.append(Step("join-control-planes", title, self._join_control_planes, ("init",), 30))
        gpu = self.state.gpu_label
        checked = f"{gpu}, DNS, services, SSH" if self.state.dns else f"{gpu}, services, SSH"
        before_join = ("init", "install-workers", "boot-machines", "join-control-planes")
        return [
            *steps,
            Step("join", f"{workers}: kubeadm join, pod network", self._join, before_join, 8),
            Step("ready", f"nodes and {gpu}s: waiting until all are ready", lambda: self.wait_ready(), ("join",)),
            Step("check", f"{checked}: checking from every worker", self._check, ("ready",)),
            Step("inventory", "inventory: writing", self._finish, ("check",), 1),
        ]

    def _prepare(self) -> str:
        with lock(self.paths.locks, "networks"):
            if self.state.engine == "docker":
                subnet = network.create_network(self.shell, self.state.name)
            else:
                tools = namespaces.tools_root(self.paths, self.shell)
                subnet = namespaces.create_network(self.shell, tools, self.state.name)
        self.state.subnet = str(subnet)
        names = enumerate(self.state.node_names)
        self.state.nodes = {name: str(network.node_address(subnet, index)) for index, name in names}
        self.state.save(self.files)
        make_ssh_key(self.shell, self.files, self.state.name)
        resolver = network.resolver_config(str(subnet[1]), RESOLVER_FILES)
        self.files.resolver.write_text(resolver)
        for machine in self.machines:
            machine.make_host_key()
        self.files.known_hosts.write_text(self._known_hosts(self.machines))
        return self.state.subnet

    def _known_hosts(self, nodes: Iterable[Node]) -> str:
        return "".join(f"{self.state.nodes[node.name]},{node.name} {node.host_key()}\n" for node in nodes)

    def _boot_nodes(self) -> None:
        docker = self.state.engine == "docker"
        image = node_image.image_name(self.paths) if docker else str(namespaces.node_tar(self.paths))

        def boot(node: Container) -> None:
            node.create(self.state.name, image, self.state.nodes[node.name], self.paths.builds)
            node.copy_in(self.files.resolver, "/etc/sandbox/resolv.conf")
            node.copy_in(self.files.ssh_key.with_suffix(".pub"), "/root/.ssh/authorized_keys")
            node.boot()

        in_parallel(boot, self.containers)
        # Appended: machines may be asked for their keys meanwhile.
        with self.files.known_hosts.open("a") as file:
            file.write(self._known_hosts(self.containers))

    def _boot_machines(self, images: str, binaries: Sequence[Path], archives: Sequence[Path]) -> str:
        debian = self.state.machine_shape.debian
        later = machine_disk.later_releases(self.paths.builds, self.state.version, images)
        machine_disk.write_builds(self.shell, self.paths.builds, later, self.files.machine_builds)
        disk = machine_disk.release_disk(self.paths, debian, binaries, archives)
        self.state.accelerator = machine_image.machine_image(self.paths, debian).accelerator
        self.state.save(self.files)

        def boot(machine: Machine) -> None:
            machine.create(disk)
            machine.boot()
            machine.enable_kubelet()

        in_parallel(boot, self.machines)
        return self.state.accelerator

    def _to_install(self, artefacts: Artefacts, kinds: Iterable[str]) -> tuple[list[Path], list[Path]]:
        """The programs and the image archives of a node."""
        own = artefacts.own_programs / "crictl"
        binaries = [*(artefacts.kubernetes.binary(name) for name in NODE_BINARIES), own]
        return binaries, [path for kind in kinds for path in sorted((artefacts.images / kind).glob("*.tar"))]

    def _install(self, artefacts: Artefacts, nodes: Iterable[Node], kinds: Iterable[str]) -> None:
        builds = self.paths.builds
        binaries, archives = self._to_install(artefacts, kinds)
        relative = [str(path.relative_to(builds)) for path in binaries]

        def install(node: Node) -> None:
            node.install(relative, [str(path.relative_to(builds)) for path in archives])

        in_parallel(install, nodes)

    def _init(self) -> None:
        node, config = self.control_plane, self._write_init_config()
        options = ["--config", config, "--skip-token-print", f"--ignore-preflight-errors={kubeadm.IGNORED_PREFLIGHT}"]
        options += ["--upload-certs"] if self._more_control_planes else []
        # As a flag: v1beta2 has no skipPhases.
        options += [] if self.state.dns else ["--skip-phases", "addon/coredns"]
        node.run("kubeadm", "init", *options, timeout=KUBEADM_SECONDS)
        self.files.kubeconfig.touch(mode=0o600)
        self.files.kubeconfig.write_text(node.run("cat", "/etc/kubernetes/admin.conf"))
        if self.state.dns:
            self._pin_dns()
        for item in self._device_plugin():
            self.kubectl.apply(item)

    def _device_plugin(self) -> list[Json]:
        """What the cluster gets for its GPUs."""
        if self.state.gpus:
            return [gpu_nodes.runtime_class(), *gpu_nodes.device_plugin()]
        return [manifests.gpu_stand_in()]

    @property
    def _more_control_planes(self) -> bool:
        return len(self.control_planes) > 1

    def _write_init_config(self) -> str:
        """Write the configuration of `kubeadm init` on the first control plane node; return its path there."""
        node, path = self.control_plane, "/run/kubeadm-init.yaml"
        key = self._certificate_key if self._more_control_planes else None
        address, driver = self.state.nodes[node.name], self._cgroup_driver
        node.write(path, kubeadm.render_init(self.state.version, address, key, driver))
        return path

    @property
    def _cgroup_driver(self) -> str:
        """That of the nodes that are not machines."""
        systemd = self.state.engine == "namespaces" and namespaces.unified_cgroups()
        return "systemd" if systemd else "cgroupfs"

    def _pin_dns(self) -> None:
        patch = json.dumps(manifests.COREDNS_PATCH)
        self.kubectl.run("-n", "kube-system", "patch", "deployment", "coredns", "-p", patch)

    def dns_steps(self, artefacts: Artefacts) -> list[Step]:
        """The steps that give CoreDNS to a cluster made without it, from what Artefacts.missing() builds."""
        after = (f"images-{self.state.kubernetes}", f"dns-{self.state.kubernetes}")
        return [Step("dns", "CoreDNS: adding it to the cluster", lambda: self._add_dns(artefacts), after, 10)]

    def _add_dns(self, artefacts: Artefacts) -> None:
        archive = str((artefacts.dns_images / "coredns.tar").relative_to(self.paths.builds))
        in_parallel(lambda node: node.import_image(archive), self.nodes)
        self.control_plane.run("kubeadm", "init", "phase", "addon", "coredns", "--config", self._write_init_config())
        self._pin_dns()
        in_namespace = ("-n", "kube-system")
        counts = "jsonpath={.status.updatedReplicas} {.status.availableReplicas}"

        def pinned() -> bool:
            """The new pod answers, and those from before it was pinned no longer take CPU from a worker."""
            count = self.kubectl.run("get", "deployment", "coredns", *in_namespace, "-o", counts)
            return count == "1 1" and len(self.kubectl.items("pods", *in_namespace, "-l", "k8s-app=kube-dns")) == 1

        wait_for("CoreDNS is available on the control plane only", pinned, READY_SECONDS)
        self.state.dns = True
        self.state.save(self.files)

    def _join_command(self) -> list[str]:
        """The command that makes a booted node one of the cluster."""
        answer = self.control_plane.run("kubeadm", "token", "create", "--ttl", "1h", "--print-join-command")
        token = re.search(r"--token (\S+)", answer)
        digest = re.search(r"--discovery-token-ca-cert-hash (\S+)", answer)
        if not token or not digest:
            raise SandboxError(f"kubeadm token create --print-join-command printed no token and hash:\n{answer}")
        token_id = token[1].split(".")[0]

        def signed() -> bool:
            answer = self.kubectl.run("get", "configmap", "cluster-info", "-n", "kube-public", "-o", "json")
            return f"jws-kubeconfig-{token_id}" in json.loads(answer)["data"]

        # kubeadm join would wait for it too, but looks every 5 s only.
        wait_for("the control plane has signed cluster-info for the token", signed, READY_SECONDS)
        return [
            *["kubeadm", "join", f"{self.state.nodes[self.control_plane.name]}:6443", "--token", token[1]],
            *["--discovery-token-ca-cert-hash", digest[1], "--cri-socket", kubeadm.cri_socket(self.state.version)],
            f"--ignore-preflight-errors={kubeadm.IGNORED_PREFLIGHT}",
        ]

    def _join_control_planes(self) -> None:
        """One after the other: etcd takes one new member at a time."""
        command = [*self._join_command(), "--control-plane", "--certificate-key", self._certificate_key]
        for node in self.control_planes[1:]:
            address = self.state.nodes[node.name]
            node.run(*command, "--apiserver-advertise-address", address, timeout=KUBEADM_SECONDS)

    def _join(self) -> None:
        command = self._join_command()
        failed = threading.Event()

        def join(node: Node) -> None:
            patches = ["--patches", kubeadm.PATCHES] if isinstance(node, Machine) else []
            try:
                node.run(*command, *patches, timeout=KUBEADM_SECONDS)
            except SandboxError:
                failed.set()
                raise

        with ThreadPoolExecutor(2 * len(self.nodes)) as pool:
            tasks = [pool.submit(join, node) for node in self.workers]
            # The sooner a node has its CNI configuration, the sooner its kubelet reports it as Ready.
            connections = {node.name: pool.submit(self._connect, node, failed) for node in self.nodes}
        for task in tasks:
            task.result()
        subnets = {name: connection.result() for name, connection in connections.items()}

        def add_routes(node: Node) -> None:
            node.write("/etc/sandbox/routes", network.routes_for(node.name, subnets, self.state.nodes))
            node.run("systemctl", "restart", "sandbox-boot")

        in_parallel(add_routes, self.nodes)

    def _connect(self, node: Node, failed: threading.Event) -> str:
        """Write a node's CNI configuration as soon as its pod subnet is assigned; return the subnet."""

        def pod_subnet() -> str:
            if failed.is_set():
                raise SandboxError(f"node {node.name} is not waited for: kubeadm join failed")
            return self.kubectl.run("get", "node", node.name, "-o", "jsonpath={.spec.podCIDR}")

        wait_for(f"node {node.name} has a podCIDR", lambda: bool(pod_subnet()), self._ready_seconds)
        subnet = pod_subnet()
        node.write("/etc/cni/net.d/10-sandbox.conflist", network.cni_config(subnet))
        return subnet

    def wait_ready(self, restarted: Mapping[str, datetime] | None = None) -> None:
        """Wait until every node is Ready and every worker offers its GPU or stand-in.

        Of nodes that were `restarted` only a word from after that time counts: the API server goes on to show the last
        one from before for 40 s.
        """

        def ready() -> bool:
            return not self.node_problems(restarted)

        wait_for(f"every node is Ready, every worker offers its {self.state.gpu_label}", ready, self._ready_seconds)

    def _check(self) -> None:
        runtime_class = gpu_nodes.RUNTIME_CLASS if self.state.gpus else None
        for worker in self.workers:
            self.kubectl.apply(manifests.check_pod(worker.name, self.state.dns, runtime_class))
        selector = ("pods", "-n", "default", "-l", manifests.CHECK_SELECTOR)

        def finished() -> bool:
            phases = [pod["status"].get("phase") for pod in self.kubectl.items(*selector)]
            return all(phase in ("Succeeded", "Failed") for phase in phases)

        wait_for("the check pods have ended", finished, self._ready_seconds)
        for pod in self.kubectl.items(*selector):
            if pod["status"]["phase"] != "Succeeded":
                name = pod["metadata"]["name"]
                raise SandboxError(f"pod {name} failed:\n{self.kubectl.run('logs', name)}\n{pod['status']}")
        self.kubectl.run("delete", *selector, "--wait=false")
        in_parallel(lambda node: self.shell.run([*self.ssh_command(node.name), "true"], timeout=30), self.nodes)

    def _finish(self) -> None:
        state = self.state
        hardware = {name: Hardware.of_container(self._cgroup_driver, state.gpus) for name in state.worker_names}
        hardware |= {name: Hardware.of_machine(state.machine_shape) for name in state.machine_names}
        inventory = render_inventory(
            self.files, state.nodes, state.control_plane_names, hardware, state.machine_names, state.shape
        )
        self.files.inventory.write_text(json.dumps(inventory, indent=2) + "\n")
        self.files.resolver.unlink()
        self.state.phase = "ready"
        self.state.save(self.files)

    # Looking

    def missing_nodes(self) -> list[str]:
        """Nodes whose container or disk is gone, as `KIND NAME`."""
        return [f"{node.KIND} {node.name}" for node in self.nodes if node.state() == "missing"]

    def start_stopped(self) -> list[str]:
        """Start stopped nodes; return their names."""
        stopped = [node for node in self.nodes if not node.running()]
        in_parallel(lambda node: node.boot(), stopped)
        return [node.name for node in stopped]

    def node_problems(self, restarted: Mapping[str, datetime] | None = None) -> list[str]:
        """What keeps the cluster from being whole; nothing when it is."""
        since = restarted or {}
        found = {item["metadata"]["name"]: item for item in self.kubectl.items("nodes")}
        problems = []
        for node in self.nodes:
            item = found.get(node.name)
            if item is None:
                problems.append(f"node {node.name} is not in the cluster")
            elif not node_ready(item, since.get(node.name)):
                problems.append(f"node {node.name} is not Ready")
            elif node in self.workers and item["status"]["allocatable"].get(GPU_RESOURCE, "0") == "0":
                problems.append(f"node {node.name} offers no {GPU_RESOURCE}")
        return problems


def labelled(shell: Shell, kind: str, name: str | None) -> list[str]:
    """IDs of the containers or networks of one sandbox, or of all."""
    selector = f"label={LABEL}={name}" if name else f"label={LABEL}"
    listing = ["docker", "ps", "-aq"] if kind == "container" else ["docker", "network", "ls", "-q"]
    return shell.run([*listing, "--filter", selector]).split()


def known_names(paths: Paths, shell: Shell) -> list[str]:
    """Names of all sandboxes of which anything is left."""
    names = {path.name for path in paths.sandboxes.glob("*") if path.is_dir()}
    form = f'{{{{.Label "{LABEL}"}}}}'
    listings = (["docker", "ps", "-a"], ["docker", "network", "ls"]) if shutil.which("docker") else ()
    for listing in listings:
        names.update(shell.run([*listing, "--filter", f"label={LABEL}", "--format", form]).split())
    return sorted(names)


def tear_down(paths: Paths, shell: Shell, name: str) -> bool:
    """Remove everything of a sandbox; return whether there was anything."""
    state = State.load(paths.sandbox(name))
    if state and state.engine == "namespaces":
        for node in Sandbox(paths, shell, state).nodes:
            assert isinstance(node, NamespaceNode)
            node.remove()
        namespaces.remove_network(shell, namespaces.tools_root(paths, shell), name)
        shutil.rmtree(paths.sandbox(name).folder)
        return True
    if not state and not shutil.which("docker"):
        return False
    containers = labelled(shell, "container", name)
    if containers:
        shell.run(["docker", "rm", "--force", "--volumes", *containers])
    for folder in paths.sandbox(name).machines.glob("*"):
        machines.remove_remains(shell, paths.sandbox(name).machine(folder.name))
    networks = labelled(shell, "network", name)
    if networks:
        shell.run(["docker", "network", "rm", *networks])
    folder = paths.sandbox(name).folder
    existed = folder.exists()
    if existed:
        shutil.rmtree(folder)
    return bool(containers or networks or existed)


@contextmanager
def ready_sandbox(paths: Paths, name: str) -> Iterator[Sandbox]:
    """The sandbox, locked for as long as it takes.

    Raises SandboxError if it is not ready.
    """
    files = paths.sandbox(name)
    with lock(paths.locks, f"sandbox-{name}"):
        state = State.load(files)
        if not state or state.phase != "ready":
            raise SandboxError(f'sandbox "{name}" is not ready. Run `python3 -m sandbox up --name {name}` first.')
        yield Sandbox(paths, Shell(Log(files.log)), state)
