# SPDX-License-Identifier: GPL-3.0-or-later
"""A virtual machine with a kubelet of its own and no cluster, whose power can be cut again and again.

It is the sandbox's machine (`sandbox.machine_image`), on a disk that is an overlay of a prepared one, reached through a
forwarded port. What a machine was at some moment, its disk and its memory, is a `Saved`; any number of machines go on
from there at once, without a boot. The disk is qcow2: a cluster that the guest has not flushed is known to QEMU alone, and
lost with it, as the content of a disk's own cache is.
"""

from __future__ import annotations

import json
import shutil
import socket
import subprocess
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sandbox.machine_disk import write_builds
from sandbox.machine_image import MachineImage, write_cpio
from sandbox.machines import KERNEL_PARAMETERS, hardware, write_identity
from sandbox.nodes import BUILDS_MOUNT
from sandbox.settings import Paths, SandboxError, Version
from sandbox.shape import Shape
from sandbox.shell import Shell, wait_for
from tests.campaigns import power_cut_look
from tests.campaigns.base import expect
from tests.campaigns.power_cut_checks import Look
from tests.campaigns.worker import Running

NAME = "cut"
# Of QEMU's own network for one machine (`-netdev user`).
ADDRESS, NETWORK = "10.0.2.15", "10.0.2.15/24\n10.0.2.2\n"
SHAPE = Shape(sockets=1, cores=2, threads=1, numa=1, memory=2048)
TOLD = "/dev/ttyS1"
"""Where the machine writes what QEMU passes on at once."""
CONNECT_SECONDS = 40
SSH_SECONDS = 240
BOOT_SECONDS = 300
UP_SECONDS = 180
SAVE_SECONDS = 120
PROGRAMS = ("kubelet", "kubeadm", "kubectl")
KUBELET: Mapping[str, Any] = {
    "apiVersion": "kubelet.config.k8s.io/v1beta1",
    "kind": "KubeletConfiguration",
    "authentication": {"anonymous": {"enabled": True}, "webhook": {"enabled": False}},
    "authorization": {"mode": "AlwaysAllow"},
    "cgroupDriver": "systemd",
    "containerRuntimeEndpoint": "unix:///run/containerd/containerd.sock",
    "evictionHard": {"nodefs.available": "0%"},
    "failSwapOn": False,
    "staticPodPath": "/etc/kubernetes/manifests",
}
# kubeadm's unit file, but for the API server that is not there.
WITHOUT_CLUSTER = '[Service]\nEnvironment="KUBELET_KUBECONFIG_ARGS="\n'


@dataclass(frozen=True)
class Saved:
    """A machine at some moment; without memory, it is off."""

    disk: Path
    disk_format: str = "qcow2"
    memory: Path | None = None


def after_upgrade(version: Version) -> Version:
    """The next patch release."""
    return Version(version.major, version.minor, version.patch + 1)


def with_version(program: bytes, version: Version, other: Version) -> bytes:
    """A program that says it is another release, with a version of the same length.

    Raises SandboxError if the length differs, or the program does not have its version.
    """
    old, new = f"v{version}".encode(), f"v{other}".encode()
    if len(old) != len(new) or old not in program:
        raise SandboxError(f"the kubelet cannot be given the version {other} in the place of {version}")
    return program.replace(old, new)


class Laboratory:
    """What all machines of a campaign share: kernel, initial RAM disk, keys, and a disk with programs."""

    def __init__(
        self, paths: Paths, image: MachineImage, shell: Shell, folder: Path, consoles: Path, version: Version
    ) -> None:
        self.paths, self.image, self.shell, self.folder, self.consoles = paths, image, shell, folder, consoles
        self.version, self.target = version, after_upgrade(version)
        self.key, self.host_key = folder / "id_ed25519", folder / "ssh_host_ed25519_key"
        self.initrd, self.programs = folder / "initrd.img", folder / "programs.raw"

    def prepare(self) -> Saved:
        """Make what the machines share; return the disk that the first one boots from."""
        for folder in (self.folder, self.consoles):
            folder.mkdir(parents=True, exist_ok=True)
        for key in (self.key, self.host_key):
            if not key.exists():
                self.shell.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(key)])
        content = self.folder / "content"
        shutil.rmtree(content, ignore_errors=True)
        write_identity(content, NAME, NETWORK, ADDRESS, self.host_key, "", self.key.with_suffix(".pub"))
        root = content / "identity"
        files = {
            "etc/kubernetes/manifests/.keep": "",
            "etc/systemd/system/kubelet.service.d/20-without-cluster.conf": WITHOUT_CLUSTER,
            "var/lib/kubelet/config.yaml": json.dumps(KUBELET, indent=1) + "\n",
            "var/lib/kubelet/kubeadm-flags.env": f'KUBELET_KUBEADM_ARGS="--hostname-override={NAME}"\n',
        }
        for path, text in files.items():
            (root / path).parent.mkdir(parents=True, exist_ok=True)
            (root / path).write_text(text)
        archive = self.folder / "identity.cpio"
        write_cpio(self.shell, content, archive)
        self.initrd.write_bytes(self.image.initrd.read_bytes() + archive.read_bytes())
        self._write_programs()
        return Saved(self.image.disk, "raw")

    def _write_programs(self) -> None:
        """Write the disk with the kubelet's two releases. Only the kubelet's own step is looked at, so scripts stand in
        for kubeadm and kubectl, and the second kubelet is the first one with another version in it."""
        builds = self.folder / "builds"
        kubelet = (self.paths.kubernetes(self.version) / "bin" / "kubelet").read_bytes()
        for version in (self.version, self.target):
            folder = builds / str(version)
            folder.mkdir(parents=True, exist_ok=True)
            (folder / "kubelet").write_bytes(with_version(kubelet, self.version, version))
            for program in ("kubeadm", "kubectl"):
                (folder / program).write_text(f"#!/bin/sh\necho v{version}\n")
            for program in PROGRAMS:
                (folder / program).chmod(0o755)
                checksum = self.shell.run(["sha256sum", str(folder / program)]).split()[0]
                (folder / f"{program}.sha256").write_text(checksum)
        write_builds(self.shell, builds, [path for path in builds.rglob("*") if path.is_file()], self.programs)


class Guest:
    """One machine at a time, which goes on from a `Saved`."""

    def __init__(self, laboratory: Laboratory, number: int) -> None:
        self.laboratory = laboratory
        self.number = number
        self.folder = laboratory.folder / f"machine-{number}"
        self.folder.mkdir(parents=True, exist_ok=True)
        self.disk = self.folder / "disk.qcow2"
        self.port = free_port()
        self._process: subprocess.Popen[bytes] | None = None
        self._cache = "writeback"
        self._write_inventory()

    def _write_inventory(self) -> None:
        known = self.folder / "known_hosts"
        public = " ".join(self.laboratory.host_key.with_suffix(".pub").read_text().split()[:2])
        known.write_text(f"[127.0.0.1]:{self.port} {public}\n")
        self.options = [
            *("-o", f"UserKnownHostsFile={known}", "-o", "StrictHostKeyChecking=yes", "-o", "BatchMode=yes"),
            *("-o", "LogLevel=ERROR", "-o", f"ConnectTimeout={CONNECT_SECONDS}"),
        ]
        host = {
            "ansible_host": "127.0.0.1",
            "ansible_port": self.port,
            "ansible_user": "root",
            "ansible_ssh_private_key_file": str(self.laboratory.key),
            "ansible_ssh_common_args": " ".join(self.options),
            "ansible_python_interpreter": "/usr/bin/python3",
        }
        self.inventory = self.folder / "hosts.yml"
        self.inventory.write_text(json.dumps({"gpu_nodes": {"hosts": {NAME: host}}}))

    # Power

    def start(self, saved: Saved, cache: str) -> None:
        """Let it go on from there, on a disk of its own."""
        self.end()
        self._cache = cache
        self.disk.unlink(missing_ok=True)
        backing = ["-b", str(saved.disk), "-F", saved.disk_format]
        self.laboratory.shell.run(["qemu-img", "create", "-q", "-f", "qcow2", *backing, str(self.disk)])
        self._run_qemu(["-incoming", f"exec:cat {saved.memory}"] if saved.memory else [])
        if saved.memory:
            wait_for(f"machine {self.number} goes on", lambda: self._status() == "running", SAVE_SECONDS, 0.1)
        self.wait_booted()

    def boot(self) -> None:
        """Switch it on after a cut, on the disk that the cut left."""
        self._run_qemu([])
        self.wait_booted()

    def _run_qemu(self, more: Sequence[str]) -> None:
        laboratory = self.laboratory
        command = hardware(SHAPE, laboratory.image.accelerator)
        command += ["-kernel", str(laboratory.image.kernel), "-initrd", str(laboratory.initrd)]
        command += ["-append", KERNEL_PARAMETERS]
        # What the disk is an overlay of is only read, by all machines.
        cache = f"cache={self._cache},backing.cache.direct=off"
        command += ["-drive", f"if=virtio,format=qcow2,{cache},file={self.disk}"]
        command += ["-drive", f"if=virtio,format=raw,readonly=on,file={laboratory.programs}"]
        command += ["-netdev", f"user,id=network,restrict=on,hostfwd=tcp:127.0.0.1:{self.port}-:22"]
        command += ["-device", "virtio-net-pci,netdev=network,romfile=", "-device", "virtio-rng-pci"]
        command += ["-chardev", f"file,id=console,append=on,path={laboratory.consoles}/machine-{self.number}.log"]
        command += ["-serial", "chardev:console", "-serial", f"unix:{self.folder}/told,server=on,wait=off"]
        command += ["-qmp", f"unix:{self.folder}/monitor,server=on,wait=off"]
        with (self.folder / "qemu.log").open("ab") as log:
            self._process = subprocess.Popen([*command, *more], stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        wait_for(f"machine {self.number}: QEMU answers", (self.folder / "told").exists, 30, 0.05)

    def cut(self) -> None:
        """Cut its power: SIGKILL for QEMU. What was not yet on its disk is lost."""
        assert self._process
        self._process.kill()
        self._process.wait()
        for name in ("told", "monitor"):
            (self.folder / name).unlink(missing_ok=True)

    def end(self) -> None:
        """Leave nothing running."""
        if self._process:
            self.cut()
            self._process = None

    def save(self, name: str) -> Saved:
        """Keep its disk and memory, and end it."""
        self.shell("sync; echo 3 > /proc/sys/vm/drop_caches")
        folder = self.laboratory.folder / "saved"
        folder.mkdir(exist_ok=True)
        saved = Saved(folder / f"{name}.qcow2", memory=folder / f"{name}.memory")
        self._monitor("migrate", uri=f"exec:cat > {saved.memory}")
        wait_for(f"{name} is saved", lambda: self._monitor("query-migrate")["status"] == "completed", SAVE_SECONDS, 0.2)
        self.end()
        self.disk.rename(saved.disk)
        return saved

    def _status(self) -> str:
        return str(self._monitor("query-status")["status"])

    def _monitor(self, command: str, **arguments: Any) -> dict[str, Any]:
        """Ask QEMU (docs/interop/qmp-spec.txt)."""
        with socket.socket(socket.AF_UNIX) as connection:
            connection.settimeout(SAVE_SECONDS)
            connection.connect(str(self.folder / "monitor"))
            with connection.makefile("rw") as stream:
                answers = (json.loads(line) for line in stream)
                next(answers)  # the greeting
                for each in ({"execute": "qmp_capabilities"}, {"execute": command, "arguments": arguments}):
                    stream.write(json.dumps(each))
                    stream.flush()
                    answer = next(line for line in answers if "return" in line or "error" in line)
        if "error" in answer:
            raise SandboxError(f"QEMU refuses {command}: {answer['error']}")
        found: dict[str, Any] = answer["return"]
        return found

    # What is done in it

    def shell(self, script: str, stdin: str | None = None) -> str:
        """Run a script in it."""
        command = ["ssh", *([] if stdin is not None else ["-n"]), "-i", str(self.laboratory.key), *self.options]
        command += ["-p", str(self.port), "root@127.0.0.1", script]
        return self.laboratory.shell.run(command, stdin=stdin, timeout=SSH_SECONDS)

    def wait_booted(self) -> None:
        """Wait until it lets us in."""
        wait_for(f"machine {self.number} boots", lambda: bool(self.shell("echo up")), BOOT_SECONDS, 0.5)

    def install(self, version: Version) -> None:
        """Install a kubelet, start it with each boot, and wait for it; let every Python import the hook."""
        programs = " ".join(f"{BUILDS_MOUNT}/{version}/{program}" for program in PROGRAMS)
        self.shell(f"install -m755 {programs} /usr/bin/ && systemctl enable --quiet kubelet")
        site = "$(python3 -c 'import site; print(site.getsitepackages()[0])')"
        hook = Path(__file__).with_name("fault_hook.py").read_text()
        script = f"mkdir -p {site} && cat > {site}/kubepin_fault_hook.py"
        self.shell(f"{script} && echo 'import kubepin_fault_hook' > {site}/kubepin_fault.pth", stdin=hook)
        self.shell("systemctl restart kubelet")
        expect(self.look().up is not None, f"the kubelet {version} does not start")

    def arm(self, step: int, act: str) -> None:
        """Plan a fault before a step, counted from now on."""
        plan = json.dumps({"step": step, "act": act, "to": TOLD})
        self.shell("mkdir -p /run/kubepin-fault && cd /run/kubepin-fault && rm -f trace && cat > plan.json", stdin=plan)

    def trace(self) -> list[str]:
        """The steps since `arm`."""
        return self.shell("cat /run/kubepin-fault/trace").splitlines()

    def listen(self) -> socket.socket:
        """A connection for `wait_told`, to be made before the run: what comes before is lost."""
        connection = socket.socket(socket.AF_UNIX)
        connection.connect(str(self.folder / "told"))
        connection.settimeout(0.2)
        return connection

    def look(self) -> Look:
        """Its files, once the kubelet answers."""
        text = Path(power_cut_look.__file__).read_text()
        return Look(**json.loads(self.shell(f"python3 - {UP_SECONDS}", stdin=text)))

    def run_module(self, module: str, arguments: Mapping[str, Any]) -> Running:
        """A module of kubepin by Ansible's own program."""
        words = ["ansible", NAME, "-i", str(self.inventory), "-b", "-m", f"kubepin.tuning.{module}"]
        return Running([*words, "-a", json.dumps(arguments)], self._environment())

    def run_playbook(self, playbook: str, variables: Mapping[str, Any]) -> Running:
        """A playbook of this folder."""
        words = ["ansible-playbook", f"tests/campaigns/{playbook}", "-i", str(self.inventory)]
        return Running([*words, "-e", json.dumps(variables)], self._environment())

    def _environment(self) -> dict[str, str]:
        return {"ANSIBLE_NOCOLOR": "1", "ANSIBLE_TIMEOUT": str(CONNECT_SECONDS)}


def wait_told(connection: socket.socket, running: Running, seconds: float) -> str:
    """What the hook writes when its step has come.

    Raises CheckFailed if the run ends before.
    """
    deadline = time.monotonic() + seconds
    text = ""
    while "\n" not in text:
        ended = running.process.poll() is not None
        try:
            text += connection.recv(4096).decode()
        except TimeoutError:
            expect(not ended, "the run ended before the step was reached")
            expect(time.monotonic() < deadline, f"the step was not reached within {seconds:.0f} s")
    return text.strip()


def free_port() -> int:
    """A port of this host that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
