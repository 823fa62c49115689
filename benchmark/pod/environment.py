# SPDX-License-Identifier: GPL-3.0-or-later
"""The hardware and software of a process: the env object of schema 1, scalars only, None if unknown."""

import glob
import os
import platform
import time
from typing import Any, Dict, Optional, Set, Union

from .cgroup import CpuGroup, own_effective_cpus, quota_cpus, read_text
from .cpulist import format_list, parse_list
from .gpu import GpuIdentity

Environment = Dict[str, Union[str, int, float, bool, None]]

_CPU = "/sys/devices/system/cpu"
SHM = "/dev/shm"

# Keys that the program determines itself; --env must not set them.
FOUND_KEYS = frozenset(
    (
        "device",
        "gpu",
        "gpu_uuid",
        "gpu_pci",
        "gpu_numa_node",
        "driver",
        "cuda",
        "cudnn",
        "cudnn_benchmark",
        "torch",
        "torchvision",
        "python",
        "kernel",
        "host",
        "cpu_model",
        "cpu_count",
        "cpus_allowed_list",
        "cpus_allowed",
        "cpus_effective",
        "quota_cpus",
        "cgroup_version",
        "threads",
        "interop_threads",
        "omp_num_threads",
        "threads_by",
        "governor",
        "boost",
        "cpu_mhz_max",
        "smt",
        "cpu_numa_nodes",
        "shm_bytes",
        "tf32_cudnn",
        "tf32_matmul",
        "workers",
        "image_size",
        "started",
    )
)


def usable_cpus(allowed: int, quota: Optional[float]) -> int:
    """Whole CPUs that a process can keep busy all the time: the smaller of affinity mask and quota, at least 1."""
    return max(1, allowed if quota is None else min(allowed, int(quota)))


def parse_cpu_model(cpuinfo: str) -> Optional[str]:
    """Name of the first CPU in /proc/cpuinfo; None on Arm, which has no name there."""
    for line in cpuinfo.splitlines():
        key, _colon, value = line.partition(":")
        if key.strip() == "model name":
            return value.strip()
    return None


def _of_cpus(cpus: Set[int], file: str) -> Set[str]:
    texts = (read_text(f"{_CPU}/cpu{cpu}/cpufreq/{file}") for cpu in cpus)
    return {text.strip() for text in texts if text is not None}


def _boost() -> Optional[bool]:
    text = read_text(f"{_CPU}/cpufreq/boost")
    if text is not None:
        return text.strip() == "1"
    text = read_text(f"{_CPU}/intel_pstate/no_turbo")
    return None if text is None else text.strip() == "0"


def _numa_nodes(cpus: Set[int]) -> Optional[str]:
    nodes = {
        int(path.split("/node")[-1].split("/")[0])
        for path in glob.glob("/sys/devices/system/node/node[0-9]*/cpulist")
        if cpus & parse_list(read_text(path) or "")
    }
    return format_list(nodes) or None


def shm_bytes() -> Optional[int]:
    """Size of /dev/shm in bytes, None if it does not exist."""
    try:
        found = os.statvfs(SHM)
    except OSError:
        return None
    return found.f_blocks * found.f_frsize


def of_cpus(group: Optional[CpuGroup]) -> Environment:
    """The part that does not need torch."""
    allowed = os.sched_getaffinity(0)
    smt = read_text(f"{_CPU}/smt/active")
    highest = [int(text) / 1e3 for text in _of_cpus(allowed, "cpuinfo_max_freq") if text.isdigit()]
    return {
        "python": platform.python_version(),
        "kernel": platform.release(),
        "host": platform.node(),
        "cpu_model": parse_cpu_model(read_text("/proc/cpuinfo") or ""),
        "cpu_count": os.cpu_count(),
        "cpus_allowed_list": format_list(allowed),
        "cpus_allowed": len(allowed),
        "cpus_effective": own_effective_cpus(),
        "quota_cpus": quota_cpus(group),
        "cgroup_version": group.version if group else None,
        "omp_num_threads": os.environ.get("OMP_NUM_THREADS"),
        "governor": ", ".join(sorted(_of_cpus(allowed, "scaling_governor"))) or None,
        "boost": _boost(),
        "cpu_mhz_max": max(highest) if highest else None,
        "smt": None if smt is None else smt.strip() == "1",
        "cpu_numa_nodes": _numa_nodes(allowed),
        "shm_bytes": shm_bytes(),
        "started": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
    }


def of_torch(torch: Any, torchvision: Any, device: str, identity: GpuIdentity) -> Environment:
    """The part that comes from torch. If `device` is cuda, CUDA must be initialised."""
    cuda = device == "cuda"
    return {
        "device": device,
        "gpu": torch.cuda.get_device_name(0) if cuda else None,
        "gpu_uuid": identity.uuid,
        "gpu_pci": identity.pci,
        "gpu_numa_node": identity.numa_node,
        "driver": identity.driver,
        "cuda": torch.version.cuda if cuda else None,
        "cudnn": torch.backends.cudnn.version() if cuda else None,
        "cudnn_benchmark": torch.backends.cudnn.benchmark if cuda else None,
        "tf32_cudnn": torch.backends.cudnn.allow_tf32 if cuda else None,
        "tf32_matmul": torch.backends.cuda.matmul.allow_tf32 if cuda else None,
        "torch": str(torch.__version__),
        "torchvision": str(torchvision.__version__),
        "threads": torch.get_num_threads(),
        "interop_threads": torch.get_num_interop_threads(),
    }
