# SPDX-License-Identifier: GPL-3.0-or-later
"""Workers that are virtual machines: their shape, QEMU's command line, their network, and what is done to them."""

from __future__ import annotations

import json
import lzma
import os
import signal
import subprocess
import sys
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from sandbox import cli, host, machine_image, node_image
from sandbox.artefacts import Artefacts
from sandbox.cluster import Sandbox, tear_down
from sandbox.debian import RELEASES
from sandbox.kubeadm import KUBELET_PATCH, render_machine_patch
from sandbox.machine_disk import later_releases, release_disk
from sandbox.machine_image import MachineImage, module_files, unpack_module, usable_accelerator
from sandbox.machines import end_process, mac_address, network_lines, qemu_command, tap_name
from sandbox.settings import MachinePaths, Paths, SandboxError, Version, validate
from sandbox.shape import Shape, read_shape
from sandbox.shell import CommandFailed, Log, Shell, wait_for
from sandbox.state import State

SLEEPER = [sys.executable, "-c", "import time; time.sleep(600)"]

# The shape


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", Shape()),
        ("sockets=1,cores=4,threads=1,numa=4,memory=8G,cpu=EPYC", Shape(1, 4, 1, 4, 8192, "EPYC")),
        ("memory=3000M", Shape(memory=3000)),
        ("debian=13", Shape(debian=13)),
    ],
)
def test_a_shape_is_read_and_written(text: str, expected: Shape) -> None:
    assert read_shape(text) == expected
    assert read_shape(str(expected)) == expected


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("threads=4", "threads=4 cannot be used: expected 1 or 2 per core"),
        ("sockets=9,cores=9,numa=1", "162 CPUs (sockets x cores x threads) cannot be used: expected at most 64"),
        ("sockets=1,cores=3", "numa=2 cannot be used: 3 cores (sockets x cores) cannot be shared out evenly"),
        ("numa=3,memory=6G", "numa=3 cannot be used: 4 cores"),
        ("sockets=2,cores=16,threads=1,numa=32", "numa=32 cannot be used: expected at most 16"),
        ("memory=1G", "memory=1024M cannot be used: expected 2G to 64G"),
        ("memory=2049M", "memory=2049M cannot be shared out evenly among 2 NUMA nodes"),
        ("memory=4096", 'memory="4096" cannot be used: expected a whole number with M or G'),
        ("cores=0", 'cores="0" cannot be used: expected a whole number from 1 on'),
        ("cores", 'cores="" cannot be used'),
        ("cpu=max,+avx", '"+avx" is not known: expected NAME=VALUE with one of sockets, cores'),
        ("cpu=a b", 'cpu="a b" cannot be used: expected a CPU model'),
        ("debian=11", 'debian="11" cannot be used: expected a release of Debian: 12 or 13'),
        ("debian=trixie", 'debian="trixie" cannot be used: expected a release of Debian'),
        ("disk=4G", '"disk=4G" is not known'),
        ("cores=2,cores=2", "cores is given twice"),
    ],
)
def test_unfit_shapes_are_explained(text: str, problem: str) -> None:
    found = read_shape(text)
    assert isinstance(found, list)
    assert len(found) == 1
    assert found[0].startswith(f"machine shape: {problem}")


def test_all_problems_of_a_shape_are_reported_at_once() -> None:
    assert len(read_shape("cores=x,memory=4,disk=1")) == 3  # type: ignore[arg-type]  # a list of problems
    assert len(read_shape("sockets=3,cores=1,threads=3,memory=1G")) == 3  # type: ignore[arg-type]


def test_numa_nodes_have_whole_cores_and_equal_memory() -> None:
    nodes = Shape().numa_nodes
    assert [(list(cpus), memory) for cpus, memory in nodes] == [([0, 1, 2, 3], 2048), ([4, 5, 6, 7], 2048)]


# What `up` refuses


@pytest.mark.parametrize(
    ("values", "problem"),
    [
        ({"workers": 0}, "workers 0 cannot be used: expected 1 to 9"),
        ({"workers": 10, "machines": 1}, "workers 10 cannot be used: expected 0 to 9"),
        ({"workers": 1, "machines": 10}, "machines 10 cannot be used: expected 0 to 9"),
        ({"workers": 5, "machines": 5}, "5 workers and 5 machines cannot be used: expected 9 together"),
        (
            {"workers": 1, "machines": 1, "kubernetes": "1.24.17"},
            '"1.24.17" cannot be used with machines: expected 1.25.0',
        ),
        ({"workers": 1, "shape": "cores=2"}, 'machine shape "cores=2" is for no machine'),
        ({"workers": 1, "machines": 1, "shape": "cores=x"}, 'machine shape: cores="x"'),
    ],
)
def test_what_cannot_be_made_is_refused(values: dict[str, Any], problem: str) -> None:
    with pytest.raises(SandboxError) as caught:
        validate("lab", **{"kubernetes": "1.36.3", **values})
    assert problem in str(caught.value)
    assert len(str(caught.value).splitlines()) == 1


def test_machines_may_be_the_only_workers() -> None:
    request = validate("lab", "1.36.3", 0, machines=1)
    assert (request.workers, request.machines, request.shape) == (0, 1, Shape())
    assert State.new(request).node_names == ["lab-control-plane", "lab-machine-1"]


class Answers(Shell):
    """Gives one answer to every command, or fails."""

    def __init__(self, folder: Path, answer: str | None = "") -> None:
        super().__init__(Log(folder / "log"))
        self.answer = answer
        self.commands: list[list[str]] = []

    def run(self, command: Sequence[str], **options: Any) -> str:
        self.commands.append(list(command))
        if self.answer is None:
            raise CommandFailed(command, "did not end", "")
        return self.answer


def test_a_cpu_model_that_qemu_does_not_know_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine_image, "missing_host_packages", list)
    monkeypatch.setattr("platform.machine", lambda: "x86_64")
    shell = Answers(tmp_path, "Available CPUs:\nx86 Westmere  (alias)\n\nRecognized CPUID flags:\n  avx\n")
    machine_image.require_host(shell, "Westmere")
    with pytest.raises(SandboxError, match='cpu="avx" is no CPU model of this QEMU'):
        machine_image.require_host(shell, "avx")


@pytest.mark.parametrize(
    ("machine", "lacking", "problem"),
    [("aarch64", [], "this host is aarch64"), ("x86_64", ["cpio"], "lacks cpio. Run `.* host-setup --machines`")],
)
def test_a_host_that_cannot_run_machines_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, machine: str, lacking: list[str], problem: str
) -> None:
    monkeypatch.setattr("platform.machine", lambda: machine)
    monkeypatch.setattr(machine_image, "missing_host_packages", lambda: lacking)
    with pytest.raises(SandboxError, match=problem):
        machine_image.require_host(Answers(tmp_path), "Westmere")


# QEMU


def command_of(shape: Shape, accelerator: str = "tcg") -> str:
    files = MachinePaths(Path("/m"))
    return " ".join(qemu_command(shape, accelerator, files, Path("/builds.raw"), "kptap0", "172.30.0.12"))


def test_the_command_line_has_the_shape() -> None:
    command = command_of(Shape(sockets=2, cores=4, threads=2, numa=2, memory=6144, cpu="Haswell"))
    assert "-cpu Haswell,+rdrand -m 6144 -smp 16,sockets=2,cores=4,threads=2" in command
    assert "size=3072M -numa node,nodeid=0,cpus=0-7,memdev=memory0" in command
    assert "size=3072M -numa node,nodeid=1,cpus=8-15,memdev=memory1" in command
    assert command.index("disk.raw") < command.index("/builds.raw")
    assert "mac=52:54:00:1e:00:0c" in command


def test_each_numa_node_has_a_gpu_stand_in_on_a_bus_of_its_own() -> None:
    words = command_of(Shape(numa=4)).split()
    devices = [dict(part.partition("=")[::2] for part in word.split(",")) for word in words if "," in word]
    stand_ins = [device for device in devices if "pci-testdev" in device]
    ports = {device["id"]: device["bus"] for device in devices if "pcie-root-port" in device}
    buses = {device["id"]: device for device in devices if "pxb-pcie" in device}
    assert [buses[ports[device["bus"]]]["numa_node"] for device in stand_ins] == ["0", "1", "2", "3"]
    # the one behind a port has the next number
    assert len({int(bus["bus_nr"]) + own for bus in buses.values() for own in (0, 1)}) == 8


@pytest.mark.parametrize(("accelerator", "option"), [("tcg", "-accel tcg,thread=multi"), ("kvm", "-accel kvm -cpu")])
def test_the_command_line_names_the_accelerator(accelerator: str, option: str) -> None:
    assert option in command_of(Shape(), accelerator)


def test_network_cards_have_names_that_linux_takes() -> None:
    names = {tap_name(f"{'a' * 20}-machine-{number}") for number in range(1, 10)}
    assert len(names) == 9
    assert all(len(name) <= 15 for name in names)
    assert mac_address("172.30.4.11") == "52:54:00:1e:04:0b"


def test_the_network_is_configured_by_address_and_gateway() -> None:
    assert network_lines("172.30.4.12", "172.30.4.0/24") == "172.30.4.12/24\n172.30.4.1\n"


def test_drivers_are_loaded_in_order_and_once() -> None:
    listings = ["insmod /m/virtio.ko \ninsmod /m/virtio_blk.ko \n", "builtin crc\ninsmod /m/virtio.ko \n"]
    assert module_files(listings) == [Path("/m/virtio.ko"), Path("/m/virtio_blk.ko")]


@pytest.mark.parametrize(("there", "answer", "expected"), [(False, "", "tcg"), (True, "", "kvm"), (True, None, "tcg")])
def test_kvm_counts_only_if_it_boots_the_kernel(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, there: bool, answer: str | None, expected: str
) -> None:
    device = tmp_path / "kvm"
    if there:
        device.touch()
    monkeypatch.setattr(machine_image, "KVM", device)
    image = MachineImage(tmp_path)
    image.accelerator_file.write_text(usable_accelerator(Answers(tmp_path, answer), image))
    assert image.accelerator == expected
    device.unlink(missing_ok=True)
    assert image.accelerator == "tcg"


def test_modules_are_uncompressed_for_the_initial_ram_disk(tmp_path: Path) -> None:
    packed, plain = tmp_path / "ext4.ko.xz", tmp_path / "virtio_blk.ko"
    packed.write_bytes(lzma.compress(b"module"))
    plain.write_bytes(b"other")
    target = tmp_path / "modules"
    target.mkdir()
    assert unpack_module(packed, target) == target / "ext4.ko"
    assert unpack_module(plain, target) == target / "virtio_blk.ko"
    assert [path.read_bytes() for path in sorted(target.iterdir())] == [b"module", b"other"]


@pytest.mark.parametrize(("release", "steps"), [(12, ["machine-runtime", "machine-image"]), (13, ["machine-image"])])
def test_only_a_runtime_that_debian_does_not_bring_is_compiled(tmp_path: Path, release: int, steps: list[str]) -> None:
    missing = machine_image.missing(Paths(tmp_path), Answers(tmp_path), release)
    assert [step.name for step in missing] == steps
    packaged = {"containerd", "runc"} & set(machine_image.packages(RELEASES[release]))
    assert bool(packaged) == ("machine-runtime" not in steps)


def test_an_image_is_kept_when_that_of_another_release_is_made_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    paths = Paths(tmp_path)
    earlier = [paths.machine_image / "debian12-0", paths.machine_image / "debian13-0"]
    for folder in earlier:
        folder.mkdir(parents=True)

    def install(shell: Shell, packages: Sequence[str], root: Path, env: object, suite: str) -> None:
        assert suite == "trixie"
        kernel = root / "boot/vmlinuz-6.12"
        kernel.parent.mkdir(parents=True)
        kernel.touch()

    monkeypatch.setattr(node_image, "install_debian", install)
    monkeypatch.setattr(machine_image, "write_initrd", lambda *_: None)
    monkeypatch.setattr(machine_image, "KVM", tmp_path / "none")
    machine_image.build(paths, Answers(tmp_path), 13)
    kept = sorted(path.name for path in paths.machine_image.iterdir())
    assert kept == ["debian12-0", machine_image.machine_image(paths, 13).folder.name]


def test_a_machine_uses_systemd_as_cgroup_driver_and_has_memory_of_its_own() -> None:
    patch = json.loads(render_machine_patch())
    assert patch == {"cgroupDriver": "systemd", "evictionHard": {"memory.available": "100Mi"}}
    assert Path(KUBELET_PATCH).name.startswith("kubeletconfiguration")


# A machine's process


@contextmanager
def stand_in_process(files: MachinePaths, *words: str) -> Iterator[subprocess.Popen[bytes]]:
    """A process with the number in the pid file, by default one that looks like the machine's QEMU."""
    process = subprocess.Popen(["sleep", "600", *words] if words else [*SLEEPER, "-pidfile", str(files.pid)])
    files.pid.write_text(f"{process.pid}\n")
    try:
        # The kernel has its words a moment after Popen has returned.
        cmdline = Path(f"/proc/{process.pid}/cmdline")
        wait_for("the process has a command line", lambda: bool(cmdline.read_bytes()), 60, 0.01)
        yield process
    finally:
        process.kill()
        process.wait()


def test_a_power_cut_ends_the_process(tmp_path: Path) -> None:
    files = MachinePaths(tmp_path)
    with stand_in_process(files):
        assert end_process(files)
        assert not end_process(files)


def test_a_number_that_another_program_has_by_now_is_not_killed(tmp_path: Path) -> None:
    files = MachinePaths(tmp_path)
    with stand_in_process(files, "1") as process:
        assert not end_process(files)
        assert process.poll() is None


# In a sandbox


@pytest.fixture
def lab(tmp_path: Path) -> Sandbox:
    paths = Paths(tmp_path)
    state = State.new(validate("lab", "1.36.3", 1, machines=1))
    state.nodes = {name: f"172.30.0.{number}" for number, name in enumerate(state.node_names, 10)}
    state.subnet, state.phase = "172.30.0.0/24", "ready"
    state.save(paths.sandbox("lab"))
    return Sandbox(paths, Answers(tmp_path), state)


def test_a_machine_is_reached_with_its_host_key_checked(lab: Sandbox) -> None:
    command = lab.machines[0].command("cat", "a b")
    assert command[:2] == ["ssh", "-n"]
    assert command[-2:] == ["root@172.30.0.12", "cat 'a b'"]
    assert "StrictHostKeyChecking=yes" in command
    assert f"UserKnownHostsFile={lab.files.known_hosts}" in command
    assert "-n" not in lab.machines[0].command("cat", stdin=True)


def test_a_connection_is_kept_where_its_socket_can_have_a_name(tmp_path: Path) -> None:
    state = State.new(validate("lab", "1.36.3", 0, machines=1))
    state.nodes = dict.fromkeys(state.node_names, "172.30.0.10")
    kept = {}
    for cache in (Path("/c"), Path("/c" * 60)):
        (machine,) = Sandbox(Paths(cache), Answers(tmp_path), state).machines
        kept[cache] = [word for word in machine.command("true") if word.startswith("ControlPath=")]
    assert list(kept.values()) == [["ControlPath=/c/sandboxes/lab/machines/lab-machine-1/ssh"], []]


def test_a_machine_is_off_or_missing(lab: Sandbox) -> None:
    (machine,) = lab.machines
    assert machine.state() == "missing"
    machine.files.folder.mkdir(parents=True)
    machine.files.disk.touch()
    assert machine.state() == "off"
    with pytest.raises(SandboxError, match="machine lab-machine-1 is off: start it"):
        machine.power_cut()


def test_files_of_a_machine_that_is_off_come_from_its_disk(lab: Sandbox, tmp_path: Path) -> None:
    command = lab.machines[0].fetch_command("/var/log/journal", tmp_path / "journal")
    assert command == ["debugfs", "-R", f"rdump /var/log/journal {tmp_path}", str(lab.machines[0].files.disk)]


def test_machines_are_installed_beside_the_control_plane_and_join_with_the_others(lab: Sandbox) -> None:
    steps = {step.name: step for step in lab.steps(Artefacts(lab.paths, lab.shell, lab.state.version))}
    assert steps["boot-machines"].after == ("network", "machine-disk-1.36.3")
    assert "machine-image" in steps["machine-disk-1.36.3"].after
    assert "boot-machines" in steps["join"].after
    assert steps["join"].title.startswith("2 workers: ")
    assert steps["install-workers"].title == "1 worker: installing"


def test_a_sandbox_of_machines_only_installs_no_container_worker(tmp_path: Path) -> None:
    state = State.new(validate("lab", "1.36.3", 0, machines=2))
    sandbox = Sandbox(Paths(tmp_path), Answers(tmp_path), state)
    names = [step.name for step in sandbox.steps(Artefacts(sandbox.paths, sandbox.shell, state.version))]
    assert "install-workers" not in names
    assert "boot-machines" in names


def test_a_sandbox_from_before_machines_had_a_choice_of_debian_is_the_same(
    lab: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    lab.state.shape = "sockets=2,cores=2,threads=2,numa=2,memory=4096M,cpu=Westmere"
    monkeypatch.setattr(lab, "missing_nodes", lambda: ["lab-machine-1"])
    assert not cli.reuse(lab, validate("lab", "1.36.3", 1, machines=1))


def test_another_shape_needs_another_sandbox(lab: Sandbox) -> None:
    with pytest.raises(SandboxError, match=r"exists with .*threads=2.*asked for .*threads=1"):
        cli.reuse(lab, validate("lab", "1.36.3", 1, machines=1, shape="threads=1"))


def test_down_ends_machines(lab: Sandbox) -> None:
    files = lab.machines[0].files
    files.folder.mkdir(parents=True)
    with stand_in_process(files) as process:
        assert tear_down(lab.paths, lab.shell, "lab")
        assert process.wait(60) == -signal.SIGKILL
    assert not files.folder.exists()


def test_only_machines_of_the_sandbox_can_be_cut_off(
    lab: Sandbox, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("KUBEPIN_CACHE", str(lab.paths.cache))
    assert cli.main(["machine", "power-cut", "lab-worker-1", "--name", "lab"]) == 1
    assert 'no machine "lab-worker-1": its machines are: lab-machine-1' in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "problem"),
    [
        (["step-clock"], "expected --seconds N, such as --seconds -3600"),
        (["reboot", "--seconds", "5"], "machine reboot: --seconds 5 cannot be used: only step-clock takes it"),
    ],
)
def test_only_a_step_of_the_clock_has_a_length(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    words: list[str],
    problem: str,
) -> None:
    monkeypatch.setenv("KUBEPIN_CACHE", str(tmp_path))
    assert cli.main(["machine", *words, "lab-machine-1", "--name", "lab"]) == 1
    assert problem in capsys.readouterr().err


def test_a_machine_that_is_off_has_no_clock_and_no_disk_to_fill(lab: Sandbox) -> None:
    (machine,) = lab.machines
    machine.files.folder.mkdir(parents=True)
    machine.files.disk.touch()
    for action in (machine.fill_disk, machine.free_disk, lambda: machine.step_clock(60)):
        with pytest.raises(SandboxError, match="machine lab-machine-1 is off: start it"):
            action()


# The disk of a release


def make_files(folder: Path, names: Iterable[str]) -> None:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()


def test_later_releases_of_the_cache_are_what_an_upgrade_needs(tmp_path: Path) -> None:
    files = [
        *("kubernetes-1.36.3/bin/kubelet", "kubernetes-1.37.2/bin/kubelet", "kubernetes-1.37.2/bin/kubelet.sha256"),
        *("kubernetes-1.37.2/bin/kube-apiserver", "kubernetes-1.37.2/images-1/every-node/kube-proxy.tar"),
        *("kubernetes-1.37.2/images-1/control-plane/etcd.tar", "kubernetes-1.9.0/bin/kubelet"),
    ]
    make_files(tmp_path, files)
    found = later_releases(tmp_path, Version.parse("1.36.3"), "images-1")
    assert [str(path.relative_to(tmp_path)) for path in found] == [files[1], files[2], files[4]]


@pytest.mark.parametrize(("current", "taken"), [("images-1", 0), ("images-2", 1), ("images-3", 1)])
def test_of_several_sets_of_images_one_is_taken(tmp_path: Path, current: str, taken: int) -> None:
    files = [f"kubernetes-1.37.2/images-{number}/{kind}.tar" for number in (1, 2) for kind in ("every-node/a", "dns/b")]
    make_files(tmp_path, files)
    os.utime(tmp_path / "kubernetes-1.37.2/images-1", (0, 0))
    found = later_releases(tmp_path, Version.parse("1.36.3"), current)
    assert [str(path.relative_to(tmp_path)) for path in found] == files[2 * taken : 2 * taken + 2]


def test_another_program_or_image_needs_another_disk(tmp_path: Path) -> None:
    paths = Paths(tmp_path)
    binaries, archive = (
        [paths.builds / "kubernetes-1.36.3/bin/kubeadm"],
        paths.builds / "kubernetes-1.36.3/images-1/a.tar",
    )
    disk = release_disk(paths, 12, binaries, [archive])
    assert disk.name.startswith("kubernetes-1.36.3-")
    assert disk == release_disk(paths, 12, binaries, [archive])
    assert disk != release_disk(paths, 12, binaries, [paths.builds / "kubernetes-1.36.3/images-2/a.tar"])
    assert disk.parent != release_disk(paths, 13, binaries, [archive]).parent


def test_host_setup_installs_what_machines_need_only_if_asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[Sequence[str]] = []

    def setup(paths: Paths, shell: Shell, more: Sequence[str] = ()) -> int:
        asked.append(more)
        return 0

    monkeypatch.setenv("KUBEPIN_CACHE", str(tmp_path))
    monkeypatch.setattr(host, "setup", setup)
    monkeypatch.setattr(machine_image, "missing_host_packages", lambda: ["cpio"])
    cli.main(["host-setup"])
    cli.main(["host-setup", "--machines"])
    assert asked == [[], ["cpio"]]
