# SPDX-License-Identifier: GPL-3.0-or-later
"""The Ansible inventory of a sandbox."""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path

from sandbox.gpu_nodes import RUNTIME_CLASS
from sandbox.settings import SandboxPaths
from sandbox.shape import Shape

HOST_CPUS = Path("/sys/devices/system/cpu")
# In place of inventory/sandbox/group_vars, which describe the stand-in and PyTorch for CPUs.
REAL_GPUS = {
    "cpu_manager_gpu_label": "GPU",
    "cpu_manager_probe_runtime_class": RUNTIME_CLASS,
    "gpu_benchmark_runtime_class": RUNTIME_CLASS,
    "gpu_benchmark_device": "cuda",
    "gpu_benchmark_matrix": "default",
    "gpu_benchmark_auto_threads": "found",
}


def write_cpus(cpus: Iterable[int]) -> str:
    """CPU numbers as the kernel writes them: 0-1,3."""
    runs = [[cpu for _, cpu in run] for _, run in groupby(enumerate(sorted(cpus)), lambda pair: pair[1] - pair[0])]
    return ",".join(f"{run[0]}-{run[-1]}" if len(run) > 1 else f"{run[0]}" for run in runs)


def read_cpus(text: str) -> frozenset[int]:
    """Parse CPU numbers as the kernel writes them."""
    ends = [part.split("-") for part in text.strip().split(",")]
    return frozenset(cpu for end in ends for cpu in range(int(end[0]), int(end[-1]) + 1))


@dataclass(frozen=True)
class Hardware:
    """What a test may expect of a worker: its CPUs, those of its first core, its cgroup driver, its GPUs.

    *real*: whether its GPUs are real ones.
    """

    cpus: frozenset[int]
    first_core: frozenset[int]
    cgroup_driver: str
    gpus: int = 1
    real: bool = False

    @classmethod
    def of_machine(cls, shape: Shape) -> Hardware:
        """A machine's. QEMU numbers the threads of a core one after the other."""
        return cls(frozenset(range(shape.cpus)), frozenset(range(shape.threads)), "systemd", gpus=shape.numa)

    @classmethod
    def of_container(cls, cgroup_driver: str, real_gpus: int = 0, folder: Path = HOST_CPUS) -> Hardware:
        """A container's: the host's CPUs."""
        online = read_cpus((folder / "online").read_text())
        siblings = read_cpus((folder / "cpu0/topology/thread_siblings_list").read_text())
        return cls(online, siblings & online, cgroup_driver, real_gpus or 1, real_gpus > 0)

    def variables(self) -> dict[str, object]:
        """As variables of a host. `next` is the first CPU after the first core, `others` are all but that one."""
        further = self.cpus - self.first_core
        following = min(further, default=None)
        return {
            "sandbox_cgroup_driver": self.cgroup_driver,
            "sandbox_gpus": self.gpus,
            "sandbox_cpus": {
                "all": write_cpus(self.cpus),
                "first_core": write_cpus(self.first_core),
                "further": str(len(further)),
                "next": "" if following is None else str(following),
                "others": write_cpus(self.cpus - {following}),
            },
            **(REAL_GPUS if self.real else {}),
        }


def ssh_options(paths: SandboxPaths) -> list[str]:
    """Options for checked connections with the sandbox's own key and known hosts."""
    settings = (f"UserKnownHostsFile={paths.known_hosts}", "StrictHostKeyChecking=yes", "IdentitiesOnly=yes")
    return [word for setting in settings for word in ("-o", setting)]


def render_inventory(
    paths: SandboxPaths,
    addresses: Mapping[str, str],
    control_planes: Sequence[str],
    hardware: Mapping[str, Hardware],
    machines: Sequence[str] = (),
    shape: str = "",
) -> dict[str, object]:
    """What an inventory script prints for --list.

    :param hardware: of each worker
    :param machines: the workers that are machines
    :param shape: of machines, as `up` takes it
    """
    hostvars = {
        node: {
            "ansible_host": address,
            "ansible_user": "root",
            "ansible_ssh_private_key_file": str(paths.ssh_key),
            "ansible_ssh_common_args": shlex.join(ssh_options(paths)),
            "ansible_python_interpreter": "/usr/bin/python3",
            "kubepin_node_name": node,
            **(hardware[node].variables() if node in hardware else {}),
        }
        for node, address in addresses.items()
    }
    return {
        "_meta": {"hostvars": hostvars},
        "all": {"children": ["control_plane", "gpu_nodes"], "vars": {"kubepin_kubeconfig": str(paths.kubeconfig)}},
        "control_plane": {"hosts": [*control_planes]},
        "gpu_nodes": {"hosts": [node for node in addresses if node not in control_planes]},
        "machines": {"hosts": [*machines], "vars": {"sandbox_shape": shape}},
    }
