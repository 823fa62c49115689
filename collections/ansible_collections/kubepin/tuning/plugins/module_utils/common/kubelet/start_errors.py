# SPDX-License-Identifier: GPL-3.0-or-later
"""Pure: finds the reason in a kubelet's log why it did not start, and explains it."""

from __future__ import annotations

import re
import typing as t
from dataclasses import dataclass


@dataclass(frozen=True)
class Cause:
    """The kubelet's own line, its meaning and the remedy ("" if kubepin does not know the line)."""

    line: str
    meaning: str
    remedy: str = ""


_RESTART = "`systemctl stop {service}; rm {root_dir}/%s; systemctl start {service}`"
_CPU_STATE = f"Remove the state file on the node: {_RESTART % 'cpu_manager_state'}."
_MEMORY_STATE = (
    f"Remove the state file on the node: {_RESTART % 'memory_manager_state'}. If the machine's memory "
    "is to stay as it is now, check that reservedMemory still fits it."
)
_STATE = f"Remove the state file that the line names, cpu_manager_state or memory_manager_state: {_RESTART % 'FILE'}."
_SETTING = "Correct it in the kubelet's configuration file, drop-ins or KUBELET_EXTRA_ARGS on the node, and restart the kubelet."
_SYSCTL = "Raise it with `sysctl -w fs.inotify.max_user_instances=1024`, and in /etc/sysctl.d."
_CGROUP_V1 = "Boot the machine with cgroup v2, or set failCgroupV1 to false."
_CGROUP_DRIVER = (
    "Set cgroupDriver of the kubelet and SystemdCgroup of the runtime to the same driver, and restart both."
)

# (what the kubelet logs, what it means, what to do with {service} and {root_dir}).
# Sources: pkg/kubelet/cm/cpumanager/{policy_static,policy_none,cpu_manager,policy_options}.go, state/state_checkpoint.go,
# cm/topologymanager/topology_manager.go, cm/memorymanager, cmd/kubelet/app/server.go, apis/config/validation/validation.go
_KNOWN: t.Tuple[t.Tuple[str, str, str], ...] = (
    (
        "configured policy .* differs from state checkpoint policy",
        "the state file was written under another policy and must be removed while the kubelet is stopped",
        _STATE,
    ),
    ("checkpoint is corrupted", "a state file is damaged and must be removed while the kubelet is stopped", _STATE),
    (
        r"unable to determine reserved CPU resources for static policy|requires systemreserved\.cpu \+ kubereserved\.cpu",
        "the static policy needs at least one reserved CPU",
        _SETTING,
    ),
    (
        "not all reserved cpus: .* are present in defaultCpuSet",
        "the reservation moved or grew since the state file was written",
        _CPU_STATE,
    ),
    (
        "strictly reserved cpus: .* are present in defaultCpuSet",
        "strict-cpu-reservation was turned on over an old state file",
        _CPU_STATE,
    ),
    (
        "current set of available CPUs .* doesn't match with CPUs in state",
        "CPUs went online or offline since the state file was written",
        _CPU_STATE,
    ),
    (
        "reserved-cpus: .* is not a subset of online-cpus|Invalid cpuset .* specified by --reserved-cpus|Invalid CPU set .* reserved",
        "reserved CPUs name a CPU that this machine does not have",
        _SETTING,
    ),
    (
        "can't use reservedSystemCPUs",
        "reservedSystemCPUs cannot be combined with kubeReservedCgroup or systemReservedCgroup",
        _SETTING,
    ),
    (
        "unable to reserve the required amount of CPUs",
        "reserved CPUs name CPUs that this machine does not have",
        _SETTING,
    ),
    (
        "is incompatible with CPUManager .* policy option|Align by socket is not compatible",
        "align-by-socket cannot be used here",
        _SETTING,
    ),
    (
        "default cpuset cannot be empty|overlaps with default cpuset",
        "the state file contradicts itself and must be removed",
        _CPU_STATE,
    ),
    (
        "could not restore state from checkpoint",
        "a state file is damaged and must be removed while the kubelet is stopped",
        _STATE,
    ),
    ("received unsupported options", "policy options are set although the policy is none", _SETTING),
    ("can not be used at the same time", "two policy options exclude each other", _SETTING),
    (
        "[Uu]nknown CPU Manager Policy option|unsupported cpumanager option|Policy (Alpha|Beta)-level Options not enabled",
        "this kubelet's version does not know or does not enable a policy option",
        _SETTING,
    ),
    ("bad value for option ", "a policy option is neither true nor false", _SETTING),
    (
        "policy options map.* require feature gates",
        "policy options need the feature gate CPUManagerPolicyOptions in 1.22",
        _SETTING,
    ),
    (
        r"topologyManager(Policy|Scope) (non-allowable value|\(--topology-manager-(policy|scope)\) .* must be one of)",
        "the kubelet does not know this topology manager policy or scope",
        _SETTING,
    ),
    ("unable to parse reserved(SystemCPUs|-cpus)", "reservedSystemCPUs is not a list of CPUs", _SETTING),
    (
        r"eviction threshold \S+ must be positive",
        "a threshold in evictionHard is 0: only a percentage may be",
        _SETTING,
    ),
    ("reserved memory may not be zero", "an entry of reservedMemory is 0", _SETTING),
    ("you should specify the system reserved memory", "memoryManagerPolicy Static needs reservedMemory", _SETTING),
    (
        "the reserved memory .* NUMA node",
        "reservedMemory names a NUMA node twice, or one that this machine does not have",
        _SETTING,
    ),
    (
        "expected machine state is different from the real one",
        "the machine's memory or reservedMemory is another than when memory_manager_state was written: it must be removed while the "
        "kubelet is stopped",
        _MEMORY_STATE,
    ),
    (
        "machine state can not be empty|the memory assignment uses (the NUMA|memory resource) that does not exist",
        "memory_manager_state contradicts itself or this machine, and must be removed while the kubelet is stopped",
        _MEMORY_STATE,
    ),
    ("unknown policy: ", "the kubelet does not know this CPU, memory or topology manager policy", _SETTING),
    (
        r"panic: interface conversion: bitmask.BitMask is nil",
        "the machine has a NUMA node with a number above 63: only topologyManagerPolicy none works there",
        _SETTING,
    ),
    (
        r"unsupported on machines with more than \d+ NUMA Nodes",
        "the topology manager refuses this many NUMA nodes",
        _SETTING,
    ),
    ("unknown flag: ", "a flag in KUBELET_EXTRA_ARGS is not known to this kubelet's version", _SETTING),
    (
        "the total amount .* of type .* is not equal to the value .* determined by Node Allocatable",
        "reservedMemory must sum up to kubeReserved + systemReserved + evictionHard",
        _SETTING,
    ),
    (
        "failCgroupV1|configured to not run on a host using cgroup v1",
        "this kubelet refuses hosts with cgroup v1",
        _CGROUP_V1,
    ),
    (
        "inotify_init: too many open files",
        "the machine has no inotify instances left: raise the sysctl fs.inotify.max_user_instances",
        _SYSCTL,
    ),
    (
        "misconfiguration: kubelet cgroup driver",
        "the cgroup drivers of the kubelet and of the container runtime differ",
        _CGROUP_DRIVER,
    ),
)
_FATAL = re.compile(
    r"^F\d{4} |^Error: |^panic: |[Ff]ailed to run [Kk]ubelet|Failed to start ContainerManager|command failed|"
    r"[Ff]ailed to (load|parse|validate) (the )?kubelet|failed to parse kubelet flag|Failed to initialize"
)
_CONFIGURATION = "Effective KubeletConfiguration"
_FALLBACK = re.compile(r"\b[vV]\d checkpoint.*falling back to [vV]\d")
"""What 1.36 and newer log of every state file in an older format, or whose newer part is damaged, before they read the
older one (state_checkpoint.go of both managers)."""
_KLOG = re.compile(r"^[IWEF]\d{4} ")
_KLOG_ERROR = re.compile(r"^[EF]\d{4} ")


def first_cause(
    lines: t.Sequence[str], service: str = "kubelet", root_dir: str = "/var/lib/kubelet"
) -> t.Optional[Cause]:
    """The first line that explains why the kubelet ended; None if it logged nothing at all.

    :param lines: the kubelet's messages since it was started, oldest first (`journalctl -o cat`)
    :param service: the systemd service that runs it
    :param root_dir: its --root-dir, which holds its state files
    """
    lines = [line for line in _without_configuration(lines) if not _FALLBACK.search(line)]
    for line in lines:
        for pattern, meaning, remedy in _KNOWN:
            if re.search(pattern, line):
                return Cause(line.strip(), meaning, remedy.format(service=service, root_dir=root_dir))
    for test in (_FATAL, _KLOG_ERROR):
        for line in lines:
            if test.search(line):
                return Cause(line.strip(), "")
    written = [line.strip() for line in lines if line.strip()]
    return Cause(written[-1], "") if written else None


def _without_configuration(lines: t.Sequence[str]) -> t.Iterator[str]:
    """All lines but the configuration, which kubelets since 1.37 log before they validate it and whose fields look like errors
    (cmd/kubelet/app/server.go). It has many lines, from one that ends with ``=<`` to one that starts with `` >``
    (k8s.io/klog/v2/internal/serialize)."""
    inside = False
    for line in lines:
        inside = inside and not _KLOG.match(line)
        if inside:
            inside = not line.lstrip().startswith(">")
        elif _CONFIGURATION in line:
            inside = line.rstrip().endswith("=<")
        else:
            yield line
