# SPDX-License-Identifier: GPL-3.0-or-later
"""The commands of `python3 -m sandbox`."""

from __future__ import annotations

import argparse
import os
import shlex
import shutil
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

from sandbox import gpu_nodes, host, kubespray, machine_image, namespaces, nvidia, pack, releases, torch_image
from sandbox.artefacts import Artefacts
from sandbox.cluster import Sandbox, known_names, labelled, node_ready, ready_sandbox, tear_down
from sandbox.diagnostics import collect
from sandbox.gobuild import KUBERNETES_COMMANDS
from sandbox.locks import lock
from sandbox.machines import Machine
from sandbox.plan import Step
from sandbox.progress import Durations, duration, run_steps
from sandbox.settings import (
    DEFAULT_CONTROL_PLANES,
    DEFAULT_KUBERNETES,
    DEFAULT_NAME,
    DEFAULT_SHAPE,
    DEFAULT_WORKERS,
    GPU_RESOURCE,
    TORCH_IMAGE,
    Paths,
    Request,
    SandboxError,
    Version,
    engine_problems,
    name_problems,
    torch_workers_problems,
    validate,
    version_problems,
)
from sandbox.shell import CommandFailed, Log, Shell
from sandbox.state import State

EXIT_FAILED = 1
STATUS_ABSENT, STATUS_UNHEALTHY = 1, 2


def quiet_shell() -> Shell:
    """A shell for short commands whose output nobody will look up."""
    return Shell(Log(Path(os.devnull)))


def checked_name(name: str) -> str:
    """A sandbox name that is safe in paths and labels."""
    problems = name_problems(name)
    if problems:
        raise SandboxError("\n".join(problems))
    return name


@contextmanager
def building(paths: Paths, missing: Callable[[], list[Step]]) -> Iterator[list[Step]]:
    """The steps that make what the cache lacks, and the build lock for as long as there are any."""
    if not missing():
        yield []
        return
    with lock(paths.locks, "build"):
        yield missing()


def build_missing(artefacts: Artefacts, missing: Callable[[], list[Step]]) -> None:
    """Make what the cache lacks; the log is that of builds."""
    paths, shell = artefacts.paths, artefacts.shell
    try:
        with building(paths, missing) as steps:
            if steps:
                artefacts.discard_unfinished()
            run_steps(steps, Durations(paths.durations), shell.stop)
    except SandboxError as error:
        raise SandboxError(f"{error}\ncomplete log: {paths.build_log}") from error


def described(state: State) -> str:
    """What a sandbox is made of."""
    text = f"Kubernetes {state.kubernetes}, {state.control_planes} control plane node(s) and {state.workers} worker(s)"
    return f"{text} and {state.machines} machine(s) of shape {state.machine_shape}" if state.machines else text


def reuse(sandbox: Sandbox, request: Request) -> bool:
    """Bring a sandbox that is recorded as ready back to health; False if it has to be made anew."""
    state = sandbox.state
    there, asked = described(state), described(State.new(request))
    if there != asked:
        raise SandboxError(
            f'sandbox "{state.name}" exists with {there}; asked for {asked}.\n'
            f"Remove it first (`python3 -m sandbox down --name {state.name}`) or choose another --name."
        )
    missing = sandbox.missing_nodes()
    if missing:
        print(f'sandbox "{state.name}": {", ".join(missing)} is gone: starting over')
        return False
    now = datetime.now(UTC)
    started = sandbox.start_stopped()
    if started:
        print(f'sandbox "{state.name}": started {", ".join(started)}; waiting until they are Ready')
    sandbox.wait_ready(dict.fromkeys(started, now))
    print(f'sandbox "{state.name}" is ready: Kubernetes {state.kubernetes}, {len(sandbox.workers)} worker(s)')
    return True


def create(paths: Paths, request: Request) -> None:
    """Make a sandbox from nothing."""
    files = paths.sandbox(request.name)
    state = State.new(request)
    state.save(files)
    shell = Shell(Log(files.log))
    started = time.monotonic()
    artefacts = Artefacts(paths, shell, request.kubernetes, request.dns)
    sandbox = Sandbox(paths, shell, state)
    without_docker = request.engine == "namespaces"
    with_torch = sandbox.container_workers[: request.torch_workers]

    def missing() -> list[Step]:
        if without_docker:
            pack.require(artefacts)
            if request.gpus:
                nvidia.require(paths)
            return []
        steps = artefacts.missing()
        if with_torch:
            steps += torch_image.missing(paths, shell)
        if request.machines:
            steps += machine_image.missing(paths, shell, request.shape.debian)
        return steps

    try:
        with building(paths, missing) as steps:
            if steps:
                artefacts.discard_unfinished()
            steps += [*sandbox.steps(artefacts), *torch_image.giving(with_torch, paths)]
            if request.gpus:
                steps += torch_image.giving(sandbox.container_workers, paths, with_host=True)
            run_steps(steps, Durations(paths.durations), shell.stop)
    except SandboxError as error:
        folder = collect(paths, request.name)
        raise SandboxError(f"{error}\ncomplete log: {files.log}\ndiagnostics: {folder}") from error
    print(f'sandbox "{request.name}" is ready after {duration(time.monotonic() - started)}')
    print(f"kubeconfig: {files.kubeconfig}")


def up(paths: Paths, options: argparse.Namespace) -> int:
    """Make a sandbox, or check the one that is there."""
    request = validate(
        *(options.name, options.k8s, options.workers, options.control_planes, options.torch_workers, options.dns),
        *(options.machines, options.machine_shape),
    )
    problems = engine_problems(options.engine, options.gpus, request.machines, request.torch_workers)
    problems += gpu_nodes.host_problems(options.gpus) if options.gpus and not problems else []
    if problems:
        raise SandboxError("\n".join(problems))
    request = replace(request, engine=options.engine, gpus=options.gpus)
    releases.downloads_from_environment()  # refused, if it is wrong, before anything is removed
    shell = quiet_shell()
    if request.engine == "docker":
        host.require_engine(shell)
    elif not host.allows_many_nodes():
        host.allow_many_nodes()
    if request.machines:
        machine_image.require_host(shell, request.shape.cpu)
    with lock(paths.locks, f"sandbox-{request.name}"):
        state = State.load(paths.sandbox(request.name))
        if state and state.phase == "ready":
            sandbox = Sandbox(paths, Shell(Log(paths.sandbox(request.name).log)), state)
            if reuse(sandbox, request):
                if request.dns and not state.dns:
                    add_dns(sandbox)
                give_torch(sandbox, request.torch_workers)
                return 0
        elif state or remains(shell, request):
            print(f'sandbox "{request.name}": an earlier run did not finish: removing its remains and starting over')
        tear_down(paths, shell, request.name)
        create(paths, request)
    return 0


def remains(shell: Shell, request: Request) -> bool:
    """Whether Docker has anything of a sandbox without a record."""
    kinds = ("container", "network") if request.engine == "docker" else ()
    return any(labelled(shell, kind, request.name) for kind in kinds)


def extend(sandbox: Sandbox, missing: Callable[[], list[Step]], steps: Sequence[Step]) -> None:
    """Build what the cache lacks, and then do these steps on a sandbox that is ready."""
    try:
        with building(sandbox.paths, missing) as builds:
            run_steps([*builds, *steps], Durations(sandbox.paths.durations), sandbox.shell.stop)
    except SandboxError as error:
        raise SandboxError(f"{error}\ncomplete log: {sandbox.files.log}") from error


def add_dns(sandbox: Sandbox) -> None:
    """Give CoreDNS to a cluster that was made without it."""
    artefacts = Artefacts(sandbox.paths, sandbox.shell, sandbox.state.version)
    extend(sandbox, artefacts.missing, sandbox.dns_steps(artefacts))


def give_torch(sandbox: Sandbox, count: int) -> bool:
    """Give the benchmark's image to the first workers, as far as they lack it; return whether there was anything to do."""
    paths = sandbox.paths
    lacking = torch_image.lacking(sandbox.container_workers[:count], paths)
    if not lacking:
        return False
    extend(sandbox, lambda: torch_image.missing(paths, sandbox.shell), torch_image.giving(lacking, paths))
    return True


def torch(paths: Paths, options: argparse.Namespace) -> int:
    """Build the benchmark's image and give it to workers, as far as that is not done."""
    name = checked_name(options.name)
    host.require_engine(quiet_shell())
    with ready_sandbox(paths, name) as sandbox:
        workers = sandbox.container_workers
        count = len(workers) if options.workers is None else options.workers
        problems = torch_workers_problems(count, len(workers))
        if problems:
            raise SandboxError("\n".join(problems))
        stopped = [node.name for node in workers[:count] if not node.running()]
        if stopped:
            raise SandboxError(f"{', '.join(stopped)} does not run. Run `python3 -m sandbox up --name {name}` first.")
        given = give_torch(sandbox, count)
    names = ", ".join(sandbox.state.worker_names[:count])
    if not names:
        print(f'sandbox "{name}": {TORCH_IMAGE} is for containers, of which no worker is one')
        return 0
    print(f'sandbox "{name}": {TORCH_IMAGE} is on {names}{"" if given else " already"}')
    return 0


def down(paths: Paths, options: argparse.Namespace) -> int:
    """Remove one sandbox, or all."""
    shell = quiet_shell()
    names = [checked_name(options.name)]
    state = State.load(paths.sandbox(options.name))
    if shutil.which("docker") and (options.all or not (state and state.engine == "namespaces")):
        host.require_engine(shell)
    if options.all:
        names = known_names(paths, shell)
    for name in names:
        with lock(paths.locks, f"sandbox-{name}"):
            existed = tear_down(paths, shell, name)
        print(f'sandbox "{name}": {"removed" if existed else "there is none"}')
    if not names:
        print("there is no sandbox")
    return 0


def status(paths: Paths, options: argparse.Namespace) -> int:
    """Say how a sandbox is."""
    name = checked_name(options.name)
    state = State.load(paths.sandbox(name))
    if not state:
        print(f'sandbox "{name}": there is none. Make it with `python3 -m sandbox up --name {name}`.')
        return STATUS_ABSENT
    shell = quiet_shell()
    sandbox = Sandbox(paths, shell, state)
    print(f'sandbox "{name}": {described(state)}, subnet {state.subnet or "-"}')
    healthy = state.phase == "ready"
    if not healthy:
        print("phase: creating. Either `up` is still running, or it did not finish: run it again.")
    states = {node.name: node.state() for node in sandbox.nodes}
    problems = [
        f"{node.KIND} {node.name} is {word}" for node in sandbox.nodes if (word := states[node.name]) != "running"
    ]
    found = {}
    if healthy and sandbox.control_plane.running():
        try:
            found = {item["metadata"]["name"]: item for item in sandbox.kubectl.items("nodes")}
            problems += sandbox.node_problems()
        except CommandFailed as error:
            problems.append(f"the API server does not answer: {error}")
    titles = f"{'node':<28} {'address':<15} {'kind':<10} {'state':<10} {'ready':<6} {'kubelet':<10}"
    print(f"{titles} {state.gpu_label} allocatable")
    for node in sandbox.nodes:
        item = found.get(node.name)
        ready = "-" if item is None else "yes" if node_ready(item) else "no"
        kubelet = item["status"]["nodeInfo"]["kubeletVersion"] if item else "-"
        gpus = item["status"]["allocatable"].get(GPU_RESOURCE, "0") if item else "-"
        address = state.nodes.get(node.name, "-")
        print(f"{node.name:<28} {address:<15} {node.KIND:<10} {states[node.name]:<10} {ready:<6} {kubelet:<10} {gpus}")
    programs = releases.describe_origins(paths.kubernetes(state.version) / "bin", KUBERNETES_COMMANDS)
    print(f"programs of Kubernetes: {programs}")
    if state.machines:
        print(f"machines: accelerator {state.accelerator or '-'}, consoles {sandbox.files.machines}/*/console.log")
    if not state.dns:
        print(f"no DNS: pods find services by address only; `python3 -m sandbox up --name {name}` adds CoreDNS")
    for problem in problems:
        print(f"problem: {problem}")
    if healthy:
        print(f"kubeconfig: {sandbox.files.kubeconfig}")
        print(f"kubectl: {sandbox.kubectl.binary}")
        print(f"SSH: {shlex.join(sandbox.ssh_command(state.node_names[-1]))}")
    return 0 if healthy and not problems else STATUS_UNHEALTHY


def gather(paths: Paths, options: argparse.Namespace) -> int:
    """Collect diagnostics."""
    print(collect(paths, checked_name(options.name), options.to))
    return 0


def build(paths: Paths, options: argparse.Namespace) -> int:
    """Build the artefacts only."""
    problems = version_problems(options.k8s)
    if problems:
        raise SandboxError("\n".join(problems))
    shell = Shell(Log(paths.build_log))
    host.require_engine(shell)
    artefacts = Artefacts(paths, shell, Version.parse(options.k8s))
    build_missing(artefacts, artefacts.missing)
    print(f"Kubernetes {options.k8s}: everything is built under {paths.builds}")
    return 0


def write_bundles(paths: Paths, options: argparse.Namespace) -> int:
    """Write bundles of what a machine without network needs."""
    problems = version_problems(options.k8s)
    if problems:
        raise SandboxError("\n".join(problems))
    shell = Shell(Log(paths.build_log))
    artefacts = Artefacts(paths, shell, Version.parse(options.k8s), options.dns)
    pack.require(artefacts)
    build_missing(artefacts, lambda: nvidia.missing(paths, shell))
    for path in pack.pack(artefacts, options.output):
        print(f"{path.stat().st_size / 1e6:6.1f} MB  {path}")
    return 0


def read_bundles(paths: Paths, options: argparse.Namespace) -> int:
    """Fill the cache from bundles and say how to go on."""
    packages = pack.unpack(options.folder, paths, Shell(Log(paths.build_log)))
    tools = namespaces.tools_root(paths, quiet_shell()) / "host"
    print(f"export KUBEPIN_CACHE={paths.cache}")
    print(f"export PYTHONPATH={packages} PATH={packages}/bin:$PATH:{tools}")
    print(f"export ANSIBLE_SSH_TRANSFER_METHOD=piped LC_ALL=C.UTF-8 KUBEPIN_SANDBOX={options.name}")
    return 0


def kubespray_node(paths: Paths, options: argparse.Namespace) -> int:
    """Turn a worker into a node of kubespray's layout, or write its files anew as a later kubespray run does."""
    name = checked_name(options.name)
    host.require_engine(quiet_shell())
    inventory = options.variables.read_text() if options.variables else "{}"
    with ready_sandbox(paths, name) as sandbox:
        found = [node for node in sandbox.container_workers if node.name == options.node]
        if not found:
            workers = ", ".join(sandbox.state.worker_names)
            raise SandboxError(f'"{options.node}" is not a worker of sandbox "{name}": expected one of {workers}')
        (node,) = found
        address, minor = sandbox.state.nodes[node.name], sandbox.state.version.minor
        variables = kubespray.with_inventory(kubespray.defaults(node.name, address), inventory)
        new = not kubespray.is_converted(node)
        before = datetime.now(UTC)
        if new:
            kubespray.convert(node)
        changed = kubespray.template(node, variables, minor)
        if new:
            sandbox.wait_ready({node.name: before})
    print(f"{node.name}: {'kubespray layout; ' if new else ''}written: {', '.join(changed) or 'nothing'}")
    return 0


def kubeconfig(paths: Paths, options: argparse.Namespace) -> int:
    """Print the path of the kubeconfig."""
    path = paths.sandbox(checked_name(options.name)).kubeconfig
    if not path.exists():
        raise SandboxError(f'sandbox "{options.name}" has no kubeconfig {path}. Run `python3 -m sandbox up` first.')
    print(path)
    return 0


def host_setup(paths: Paths, options: argparse.Namespace) -> int:
    """Make the host able to run sandboxes."""
    packages = machine_image.missing_host_packages() if options.machines else []
    return host.setup(paths, Shell(Log(paths.cache / "host-setup.log")), packages)


STEP_CLOCK = "step-clock"
MACHINE_ACTIONS: Mapping[str, tuple[Callable[[Machine], object], str]] = {
    "start": (Machine.boot, "start it and wait until systemd has booted"),
    "reboot": (Machine.reboot, "reboot it in order and wait until systemd has booted"),
    "power-cut": (Machine.power_cut, "end it at once; what it has not written to its disk is lost"),
    "freeze-network": (Machine.freeze_network, "drop all its packets; connections are not closed"),
    "thaw-network": (Machine.thaw_network, "let its packets through again"),
    "fill-disk": (Machine.fill_disk, "fill every block of its disk"),
    "free-disk": (Machine.free_disk, "free its disk again"),
}


def machine_action(name: str, seconds: int | None) -> Callable[[Machine], object]:
    """What an action does to a machine."""
    if name == STEP_CLOCK:
        if seconds is None:
            raise SandboxError(f"machine {name}: expected --seconds N, such as --seconds -3600, or 0 to correct it.")
        return lambda machine: machine.step_clock(seconds)
    if seconds is not None:
        raise SandboxError(f"machine {name}: --seconds {seconds} cannot be used: only {STEP_CLOCK} takes it.")
    return MACHINE_ACTIONS[name][0]


def machine(paths: Paths, options: argparse.Namespace) -> int:
    """Do to a virtual machine what happens to real ones."""
    name = checked_name(options.name)
    act = machine_action(options.action_name, options.seconds)
    with ready_sandbox(paths, name) as sandbox:
        found = {machine.name: machine for machine in sandbox.machines}
        if options.node not in found:
            known = ", ".join(found) or "none"
            raise SandboxError(f'sandbox "{name}" has no machine "{options.node}": its machines are: {known}.')
        started = time.monotonic()
        act(found[options.node])
    print(f"{options.node}: {options.action_name} done after {duration(time.monotonic() - started)}")
    return 0


def parser() -> argparse.ArgumentParser:
    """The command line."""
    top = argparse.ArgumentParser(
        prog="python3 -m sandbox",
        description="A real Kubernetes cluster in containers on this machine, of released programs or built from source.",
        epilog="Everything is kept under ~/.cache/kubepin, or the folder that the variable KUBEPIN_CACHE names.",
    )
    commands = top.add_subparsers(dest="command", required=True, metavar="COMMAND")

    def add(name: str, action: Callable[[Paths, argparse.Namespace], int], text: str) -> argparse.ArgumentParser:
        command = commands.add_parser(name, help=text, description=text)
        command.set_defaults(action=action)
        return command

    def add_name(command: argparse.ArgumentParser) -> None:
        command.add_argument("--name", default=DEFAULT_NAME, help="name of the sandbox (default: %(default)s)")

    def add_version(command: argparse.ArgumentParser) -> None:
        text = "Kubernetes release, 1.20.0 or newer (default: %(default)s)"
        command.add_argument("--k8s", default=DEFAULT_KUBERNETES, metavar="VERSION", help=text)

    command = add("host-setup", host_setup, "install what this host lacks and start the Docker engine")
    command.add_argument("--machines", action="store_true", help="also install what virtual machines need")
    command = add("up", up, "make a sandbox, or check and start the one that is there")
    add_name(command)
    add_version(command)
    command.add_argument(
        "--workers",
        type=int,
        default=DEFAULT_WORKERS,
        help="number of workers that are containers, 0 or 1 to 9 (default: %(default)s)",
    )
    command.add_argument(
        "--machines",
        type=int,
        default=0,
        help="number of workers that are virtual machines, 0 to 9 (default: %(default)s)",
    )
    command.add_argument(
        "--machine-shape",
        default="",
        metavar="NAME=VALUE,...",
        help=f"what the machines are like; default: {DEFAULT_SHAPE}",
    )
    command.add_argument(
        "--control-planes",
        type=int,
        default=DEFAULT_CONTROL_PLANES,
        help="number of control plane nodes with an etcd member each, 1 to 3 (default: %(default)s)",
    )
    command.add_argument(
        "--torch-workers",
        type=int,
        default=0,
        metavar="N",
        help="the first N workers get the benchmark's image, as with the command torch (default: %(default)s)",
    )
    command.add_argument(
        "--without-dns", dest="dns", action="store_false", help="a new cluster gets no CoreDNS; a later `up` adds it"
    )
    command.add_argument(
        "--engine",
        choices=("docker", "namespaces"),
        default="docker",
        help="who runs the nodes; namespaces: this program itself, from unpacked bundles (default: %(default)s)",
    )
    command.add_argument(
        "--gpus",
        type=int,
        default=0,
        metavar="N",
        help="each worker offers the host's N GPUs in place of the stand-in; for the engine namespaces",
    )
    command = add("pack", write_bundles, "write bundles for a machine without network and Docker")
    add_version(command)
    command.add_argument("--output", type=Path, required=True, metavar="DIR", help="an empty or new folder")
    command.add_argument("--without-dns", dest="dns", action="store_false", help="leave CoreDNS out")
    command = add("unpack", read_bundles, "fill the cache from bundles, and print the environment for playbooks")
    add_name(command)
    command.add_argument("folder", type=Path, metavar="DIR", help="the folder that pack wrote")
    command = add("down", down, "remove a sandbox; the cache of built artefacts stays")
    add_name(command)
    command.add_argument("--all", action="store_true", help="remove all sandboxes")
    add_name(add("status", status, "show a sandbox: exit status 0 ready, 1 not there, 2 unhealthy"))
    command = add("collect", gather, "gather logs and states of a sandbox into a folder")
    add_name(command)
    command.add_argument("--to", type=Path, metavar="DIR", help="the folder (default: a new one in the cache)")
    command = add("torch", torch, f"build the benchmark's image {TORCH_IMAGE} and give it to the workers")
    add_name(command)
    command.add_argument("--workers", type=int, metavar="N", help="only the first N workers (default: all)")
    command = add(
        "kubespray", kubespray_node, "give a worker kubespray's layout, or write its files as a later run does"
    )
    add_name(command)
    command.add_argument("--variables", type=Path, metavar="FILE", help="variables of its inventory, as a JSON object")
    command.add_argument("node", metavar="NODE", help="a worker")
    command = add("machine", machine, "do to a virtual machine what happens to real ones")
    command.add_argument(
        "action_name",
        choices=[*MACHINE_ACTIONS, STEP_CLOCK],
        metavar="ACTION",
        help="; ".join(f"{name}: {text}" for name, (_, text) in MACHINE_ACTIONS.items())
        + f"; {STEP_CLOCK}: step its clock to --seconds ahead of the host's",
    )
    command.add_argument(
        "--seconds", type=int, metavar="N", help="seconds ahead of the host's clock: -3600, or 0 to correct it"
    )
    command.add_argument("node", metavar="NODE", help="the machine, such as kubepin-machine-1")
    add_name(command)
    add_version(add("build", build, "build the artefacts for a Kubernetes release only"))
    add_name(add("kubeconfig", kubeconfig, "print the path of a sandbox's kubeconfig"))
    return top


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command and turn failures into one readable message."""
    options = parser().parse_args(arguments)
    sys.stdout.reconfigure(line_buffering=True)  # type: ignore[union-attr]
    action: Callable[[Paths, argparse.Namespace], int] = options.action
    try:
        return action(Paths.from_environment(), options)
    except host.CannotRunDocker as error:
        print(f"sandbox: {error}", file=sys.stderr)
        return host.EXIT_NO_DOCKER
    except SandboxError as error:
        print(f"sandbox: {error}", file=sys.stderr)
        return EXIT_FAILED
    except BrokenPipeError:
        # Whoever read our output has seen enough; Python must not try to flush the rest at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return EXIT_FAILED
    except KeyboardInterrupt:
        print("\nsandbox: interrupted; run the same command again to go on", file=sys.stderr)
        return 130
