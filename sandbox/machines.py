# SPDX-License-Identifier: GPL-3.0-or-later
"""Virtual machines as nodes: QEMU with a kernel of their own, on the same network as the containers."""

from __future__ import annotations

import os
import select
import shlex
import shutil
import signal
import tempfile
import time
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network
from pathlib import Path

from sandbox import kubeadm
from sandbox.hashing import hash_of
from sandbox.inventory import ssh_options
from sandbox.machine_disk import KUBELET_AT_BOOT
from sandbox.machine_image import machine_image, write_cpio
from sandbox.network import bridge_name
from sandbox.nodes import Node
from sandbox.settings import MachinePaths, Paths, SandboxError
from sandbox.shape import Shape
from sandbox.shell import Shell, wait_for
from sandbox.state import State

# Units that a virtual machine has no use for, and that an emulated one takes long to start.
NEEDLESS_UNITS = (
    *(f"modprobe@{module}.service" for module in ("configfs", "dm_mod", "drm", "efi_pstore", "fuse", "loop")),
    *("systemd-binfmt.service", "systemd-logind.service", "systemd-pstore.service"),
)
# As the guest's kernel: one serial console, `eth0` whatever the bus, no work for security that emulation makes slow.
KERNEL_PARAMETERS = " ".join(
    (
        *("console=ttyS0", "net.ifnames=0", "mitigations=off", "quiet", "audit=0"),
        *(f"systemd.mask={unit}" for unit in NEEDLESS_UNITS),
    )
)
# An emulated machine that is busy takes long to answer.
CONNECT_SECONDS = 30
ALIVE_SECONDS, ALIVE_COUNT = 10, 3
# A connection is kept: the handshake of a new one took a busy emulated machine 8 to 17 s.
KEPT_SECONDS = 60
# Linux' 107 bytes for the address of a socket, less what ssh appends while it makes it.
MAX_SOCKET_PATH = 90
END_SECONDS = 30
TAP_PREFIX = "kptap"
# Above those that the firmware gives to bridges on the first bus, of which a machine has none.
FIRST_GPU_BUS = 16
FILLING = "/var/lib/sandbox-filling"
# Most of it is allocated without being written, so that the disk's file on the host stays small. Root's share counts too.
FILL_DISK = f"""
mkdir -p {FILLING}
fallocate -l $(($(stat -f -c '%f * %S' {FILLING}) * 99 / 100)) {FILLING}/most
dd if=/dev/zero of={FILLING}/rest bs=4k 2>/dev/null || true
sync
if dd if=/dev/zero of={FILLING}/proof bs=4k count=1 conv=fsync 2>/dev/null; then exit 1; fi
"""


def tap_name(machine: str) -> str:
    """The host's side of a machine's network card: at most 15 characters, as Linux wants."""
    return f"{TAP_PREFIX}{hash_of(machine)[:8]}"


def mac_address(address: str) -> str:
    """A card's address, from the machine's: 52:54:00 is QEMU's prefix."""
    return ":".join(["52", "54", "00", *(f"{byte:02x}" for byte in IPv4Address(address).packed[1:])])


def network_lines(address: str, subnet: str) -> str:
    """The lines ADDRESS/PREFIX and GATEWAY that the initial RAM disk configures the network with."""
    network = IPv4Network(subnet)
    return f"{address}/{network.prefixlen}\n{network[1]}\n"


def hardware(shape: Shape, accelerator: str) -> list[str]:
    """QEMU with CPUs and memory, and nothing else."""
    command = ["qemu-system-x86_64", "-machine", "q35", "-nodefaults", "-no-user-config", "-display", "none"]
    command += ["-accel", "kvm" if accelerator == "kvm" else "tcg,thread=multi"]
    # rdrand: else the first boot waits for entropy.
    command += ["-cpu", f"{shape.cpu},+rdrand", "-m", str(shape.memory)]
    command += ["-smp", f"{shape.cpus},sockets={shape.sockets},cores={shape.cores},threads={shape.threads}"]
    for index, (cpus, memory) in enumerate(shape.numa_nodes):
        command += ["-object", f"memory-backend-ram,id=memory{index},size={memory}M"]
        command += ["-numa", f"node,nodeid={index},cpus={cpus[0]}-{cpus[-1]},memdev=memory{index}"]
    return command


def gpu_stand_ins(shape: Shape) -> list[str]:
    """A PCI device for each NUMA node, which the script gpu-stand-ins makes look like a GPU.

    An expander bus is a host bridge of its own, whose NUMA node the firmware's tables name; only bridges fit on it (QEMU
    docs/pcie.txt, docs/pci_expander_bridge.txt). Two buses each: its own, and the one behind its root port.
    """
    options = []
    for node in range(shape.numa):
        bus = FIRST_GPU_BUS + 2 * node
        options += ["-device", f"pxb-pcie,id=bus{node},bus=pcie.0,bus_nr={bus},numa_node={node}"]
        options += ["-device", f"pcie-root-port,id=port{node},bus=bus{node},chassis={node + 1}"]
        options += ["-device", f"pci-testdev,bus=port{node}"]
    return options


def qemu_command(
    shape: Shape, accelerator: str, files: MachinePaths, builds: Path, tap: str, address: str
) -> list[str]:
    """The command that starts a machine in the background."""
    command = hardware(shape, accelerator)
    command += ["-kernel", str(files.kernel), "-initrd", str(files.initrd), "-append", KERNEL_PARAMETERS]
    # In this order: they are /dev/vda and /dev/vdb. With if=virtio, QEMU would look for a bus itself, and take a GPU's.
    command += ["-drive", f"if=none,id=root,format=raw,cache=writeback,file={files.disk}"]
    command += ["-drive", f"if=none,id=builds,format=raw,readonly=on,file={builds}"]
    command += ["-device", "virtio-blk-pci,drive=root", "-device", "virtio-blk-pci,drive=builds"]
    command += ["-netdev", f"tap,id=network,ifname={tap},script=no,downscript=no"]
    command += ["-device", f"virtio-net-pci,netdev=network,mac={mac_address(address)},romfile="]
    command += ["-device", "virtio-rng-pci", *gpu_stand_ins(shape)]
    command += ["-chardev", f"file,id=console,append=on,path={files.console}", "-serial", "chardev:console"]
    return [*command, "-daemonize", "-pidfile", str(files.pid)]


def write_identity(
    content: Path, name: str, network: str, address: str, host_key: Path, resolver: str, ssh_key: Path
) -> None:
    """Write what the script of the initial RAM disk expects to find there.

    :param network: as `network_lines` has it
    :param resolver: the text of resolv.conf
    :param ssh_key: the public key of those who may log in as root
    """
    root = content / "identity"
    for path in ("etc/ssh", "etc/sandbox", "root/.ssh"):
        (root / path).mkdir(parents=True)
    (content / "machine").write_text(network)
    (root / "root/.ssh").chmod(0o700)
    (root / "etc/hostname").write_text(f"{name}\n")
    (root / "etc/hosts").write_text(f"127.0.0.1 localhost\n{address} {name}\n")
    for source in (host_key, host_key.with_suffix(".pub")):
        shutil.copy(source, root / "etc/ssh" / source.name)
    (root / "etc/sandbox/resolv.conf").write_text(resolver)
    shutil.copyfile(ssh_key, root / "root/.ssh/authorized_keys")


def process_of(files: MachinePaths) -> int | None:
    """The number of a machine's QEMU; None if it does not run. A number that another program has by now does not count."""
    try:
        pid = int(files.pid.read_text())
        words = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
    except (OSError, ValueError):
        return None
    return pid if str(files.pid).encode() in words else None


def end_process(files: MachinePaths) -> bool:
    """Kill a machine's QEMU, as if its power were cut; return whether it ran."""
    pid = process_of(files)
    if pid is None:
        return False
    process = os.pidfd_open(pid)
    try:
        signal.pidfd_send_signal(process, signal.SIGKILL)
        # Readable as soon as it has ended. Until then it holds its disk and network card.
        ended, _, _ = select.select([process], [], [], END_SECONDS)
    finally:
        os.close(process)
    if not ended:
        raise SandboxError(f"QEMU, process {pid}, has not ended {END_SECONDS} s after SIGKILL.")
    return True


def remove_remains(shell: Shell, files: MachinePaths) -> None:
    """End a machine and remove its network card. Its folder stays."""
    end_process(files)
    tap = tap_name(files.folder.name)
    if Path(f"/sys/class/net/{tap}").exists():
        shell.run(["ip", "link", "delete", tap])


@dataclass(frozen=True)
class Machine(Node):
    """A node that is a virtual machine."""

    paths: Paths
    sandbox: State

    KIND = "machine"
    # Emulated on two cores beside a cluster; 80 s alone.
    BOOT_SECONDS = 300

    @property
    def files(self) -> MachinePaths:
        """Its disk, keys and console."""
        return self.paths.sandbox(self.sandbox.name).machine(self.name)

    @property
    def address(self) -> str:
        """Its address in the sandbox's network."""
        return self.sandbox.nodes[self.name]

    @property
    def tap(self) -> str:
        """The host's side of its network card."""
        return tap_name(self.name)

    @property
    def _connection(self) -> list[str]:
        sandbox = self.paths.sandbox(self.sandbox.name)
        settings = [
            *("BatchMode=yes", "LogLevel=ERROR", f"ConnectTimeout={CONNECT_SECONDS}"),
            *(f"ServerAliveInterval={ALIVE_SECONDS}", f"ServerAliveCountMax={ALIVE_COUNT}"),
        ]
        socket = self.files.ssh_socket
        if len(os.fsencode(socket)) <= MAX_SOCKET_PATH:
            settings += ["ControlMaster=auto", f"ControlPath={socket}", f"ControlPersist={KEPT_SECONDS}"]
        more = [word for setting in settings for word in ("-o", setting)]
        return ["-i", str(sandbox.ssh_key), *ssh_options(sandbox), *more]

    def command(self, *words: str, stdin: bool = False) -> list[str]:
        """`ssh`, with the host key checked."""
        return ["ssh", *([] if stdin else ["-n"]), *self._connection, f"root@{self.address}", shlex.join(words)]

    def fetch_command(self, path: str, target: Path) -> list[str]:
        """`scp` while it runs; else straight from its disk."""
        if self.running():
            return ["scp", "-r", *self._connection, f"root@{self.address}:{path}", str(target)]
        return ["debugfs", "-R", f"rdump {path} {target.parent}", str(self.files.disk)]

    def copy_in(self, source: Path, path: str) -> None:
        """Copy a file into the running machine."""
        self.shell.run(["scp", *self._connection, str(source), f"root@{self.address}:{path}"])

    def state(self) -> str:
        """`running`, `off`, or `missing` without a disk."""
        if process_of(self.files) is not None:
            return "running"
        return "off" if self.files.disk.exists() else "missing"

    def host_key(self) -> str:
        """The public host key, which was made on the host."""
        return " ".join(self.files.host_key.with_suffix(".pub").read_text().split()[:2])

    def make_host_key(self) -> None:
        """Make the host key before the first boot, so that nobody needs to trust the first answer."""
        self.files.folder.mkdir(parents=True)
        comment = f"root@{self.name}"
        self.shell.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", comment, "-f", str(self.files.host_key)])

    def create(self, disk: Path) -> None:
        """Make its disk and the initial RAM disk with its identity.

        They and the kernel are copies: the cache's may be replaced while this machine is there.

        :param disk: what its own is a copy of
        """
        image, files = machine_image(self.paths, self.sandbox.machine_shape.debian), self.files
        self.shell.run(["cp", "--sparse=always", "--reflink=auto", str(disk), str(files.disk)])
        shutil.copyfile(image.kernel, files.kernel)
        with tempfile.TemporaryDirectory(dir=files.folder) as name:
            content, archive = Path(name) / "content", Path(name) / "identity.cpio"
            self._write_identity(content)
            write_cpio(self.shell, content, archive)
            files.initrd.write_bytes(image.initrd.read_bytes() + archive.read_bytes())

    def _write_identity(self, content: Path) -> None:
        sandbox = self.paths.sandbox(self.sandbox.name)
        write_identity(
            content,
            self.name,
            network_lines(self.address, self.sandbox.subnet),
            self.address,
            self.files.host_key,
            sandbox.resolver.read_text(),
            sandbox.ssh_key.with_suffix(".pub"),
        )
        patch = content / "identity" / kubeadm.KUBELET_PATCH.lstrip("/")
        patch.parent.mkdir(parents=True)
        patch.write_text(kubeadm.render_machine_patch())

    def start(self) -> None:
        """Start QEMU on the sandbox's network."""
        if self.running():
            return
        # Else a connection from before a power cut would be used.
        self.files.ssh_socket.unlink(missing_ok=True)
        if not Path(f"/sys/class/net/{self.tap}").exists():
            self.shell.run(["ip", "tuntap", "add", "dev", self.tap, "mode", "tap"])
        bridge = bridge_name(self.shell, self.sandbox.name)
        self.shell.run(["ip", "link", "set", self.tap, "master", bridge, "up"])
        builds = self.paths.sandbox(self.sandbox.name).machine_builds
        shape, accelerator = self.sandbox.machine_shape, self.sandbox.accelerator
        self.shell.run(qemu_command(shape, accelerator, self.files, builds, self.tap, self.address))

    def enable_kubelet(self) -> None:
        """Have the kubelet started at each boot. Its first start is kubeadm's, which makes systemd look again."""
        self.run("ln", "-s", "/etc/systemd/system/kubelet.service", f"/{KUBELET_AT_BOOT}")

    # What happens to real machines

    def boot_id(self) -> str:
        """The kernel's own name for this boot."""
        return self.run("cat", "/proc/sys/kernel/random/boot_id").strip()

    def require_running(self) -> None:
        """Stop with a way out unless it runs."""
        if not self.running():
            start = f"python3 -m sandbox machine start {self.name} --name {self.sandbox.name}"
            raise SandboxError(f"machine {self.name} is {self.state()}: start it with `{start}`.")

    def reboot(self) -> None:
        """Reboot as systemd does, and wait until it is up again."""
        self.require_running()
        before = self.boot_id()
        self.run("systemctl", "reboot", check=False)  # the connection may end before the answer
        wait_for(f"machine {self.name} boots anew", lambda: self.boot_id() != before, self.BOOT_SECONDS)
        self.wait_booted()

    def power_cut(self) -> None:
        """End it at once. What the guest has written to its disk is kept; what it has not is lost, as with a cut of power."""
        self.require_running()
        end_process(self.files)

    def freeze_network(self) -> None:
        """Lose every packet from now on; no connection is closed."""
        self.require_running()
        self.shell.run(["ip", "link", "set", self.tap, "down"])

    def thaw_network(self) -> None:
        """Let packets through again."""
        self.require_running()
        self.shell.run(["ip", "link", "set", self.tap, "up"])

    def fill_disk(self) -> None:
        """Fill every block of its disk, also those reserved for root."""
        self.require_running()
        self.run("sh", "-ec", FILL_DISK)

    def free_disk(self) -> None:
        """Take back what filled the disk."""
        self.require_running()
        self.run("rm", "-rf", FILLING)

    def step_clock(self, seconds: int) -> None:
        """Step its clock to some seconds ahead of the host's; 0 corrects it. Nothing else in the machine sets the clock.

        A boot sets it right too, as QEMU's clock on the board is the host's.
        """
        self.require_running()
        self.run("date", "--utc", f"--set=@{time.time() + seconds:.0f}")
