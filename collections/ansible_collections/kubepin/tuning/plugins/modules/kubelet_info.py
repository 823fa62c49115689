#!/usr/bin/python
# GNU General Public License v3.0+ (https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
---
module: kubelet_info
short_description: Read how a node's kubelet is actually configured
description:
  - Follows the kubelet's systemd service to its command line, its environment files, its configuration file and its
    drop-in files, and returns the effective CPU, memory and topology settings and the source of each.
  - The node sends texts, which an action plugin decodes on the control node.
  - Reads the state files of the CPU and memory managers.
  - Changes nothing. Needs permission to read the kubelet's files, which usually means root.
extends_documentation_fragment:
  - kubepin.tuning.attributes
version_added: 1.0.0
author:
  - The kubepin developers (@kubepin)
options:
  fail_on_unsupported:
    description:
      - Whether to fail on a node whose kubelet kubepin does not manage (k3s and RKE2 before 1.32).
      - If V(false), what could be read is returned, with a note in RV(kubelet.problems).
    type: bool
    default: true
  runtime_versions:
    description: Whether to run the container runtimes and runc for their versions in RV(kubelet.runtime), which are null
      otherwise.
    type: bool
    default: true
  expect_main_pid:
    description: Fail with the kubelet's own message if its service no longer runs as this process.
    type: int
attributes:
  check_mode:
    support: full
  diff_mode:
    support: none
    details: Nothing changes.
seealso:
  - module: kubepin.tuning.cpu_topology_info
  - module: kubepin.tuning.kubelet_cpu_manager
"""

EXAMPLES = r"""
- name: Read the kubelets' configuration
  kubepin.tuning.kubelet_info:
  become: true
  register: node

- name: Show the CPU manager policy and what sets it
  ansible.builtin.debug:
    msg: "{{ node.kubelet.effective.cpuManagerPolicy }} ({{ node.kubelet.sources.cpuManagerPolicy }})"

- name: Look at whatever runs here, k3s included
  kubepin.tuning.kubelet_info:
    fail_on_unsupported: false
  become: true
"""

RETURN = r"""
first_cause:
  description: The kubelet's own line that says why the process of O(expect_main_pid) ended.
  returned: that process no longer runs
  type: str
meaning:
  description: The meaning of that line; empty if unknown.
  returned: that process no longer runs
  type: str
kubelet:
  description: The node's kubelet.
  returned: success
  type: dict
  contains:
    schema:
      description: Version of this structure.
      type: int
      sample: 1
    manager:
      description: What set the node up, one of V(kubeadm), V(kubespray), V(nodeadm) (EKS), V(kops), V(openshift), V(k3s),
        V(rke2), V(k0s), V(microk8s), V(k8s-snap) (Canonical Kubernetes) and V(unknown).
      type: str
      sample: kubeadm
    version:
      description: Version of the installed kubelet, or null. A running process may be older.
      type: str
      sample: 1.22.17
    service:
      description: The systemd service that runs it.
      type: dict
      contains:
        name:
          description: Name of the service.
          type: str
          sample: kubelet
        active_state:
          description: systemd's C(ActiveState).
          type: str
          sample: active
        sub_state:
          description: systemd's C(SubState).
          type: str
          sample: running
        main_pid:
          description: Number of its main process, or null.
          type: int
        restarts:
          description: How often systemd restarted it by itself, or null.
          type: int
        restart_interval_s:
          description: Seconds that systemd waits before it restarts the service, or null.
          type: float
          sample: 10.0
        running_seconds:
          description: How long its main process has been running, or null.
          type: float
          sample: 86400.5
        unit_file:
          description: Path of the unit file.
          type: str
        drop_ins:
          description: Paths of the unit's drop-in files.
          type: list
          elements: str
        environment_files:
          description: The files that its environment comes from, in order.
          type: list
          elements: dict
          contains:
            path:
              description: Path of the file.
              type: str
              sample: /etc/default/kubelet
            optional:
              description: Whether the service starts without it.
              type: bool
            exists:
              description: Whether it exists.
              type: bool
    start_problem:
      description:
        - Why the service does not run or does not stay up, with the first cause in its log, its meaning and the remedy,
          in the form of RV(kubelet.problems). Null if it runs.
      type: dict
    command_line:
      description: Program and arguments of the running process; empty if it does not run.
      type: list
      elements: str
    configured_command_line:
      description: What the next start will run.
      type: list
      elements: str
    stale:
      description: Whether the running process has other arguments than the next one; null if unknown.
      type: bool
    extra_args_file:
      description: The file that sets, or would set, further arguments; null if the service reads none.
      type: str
      sample: /etc/default/kubelet
    extra_args_variable:
      description: The variable in it, E(KUBELET_EXTRA_ARGS) for kubeadm and E(KUBELET_ARGS) for kubespray; null if there is
        no file, or if it only contains arguments, as on MicroK8s and Canonical Kubernetes.
      type: str
      sample: KUBELET_EXTRA_ARGS
    extra_args_text:
      description: The text of that file, or null if it does not exist.
      type: str
    config_file:
      description: Path of the configuration file (C(--config)), or null.
      type: str
      sample: /var/lib/kubelet/config.yaml
    config:
      description: Its content, or null.
      type: dict
    config_dir:
      description: Folder of the drop-in configuration files (C(--config-dir)), or null.
      type: str
    drop_ins:
      description: The drop-in configuration files, in the order of precedence, the highest last.
      type: list
      elements: dict
      contains:
        path:
          description: Path of the file.
          type: str
        text:
          description: Its text.
          type: str
        config:
          description: Its content; empty if it could not be parsed.
          type: dict
    effective:
      description:
        - The settings in effect from the next start on. Flags take precedence over drop-in files, drop-in files over
          the configuration file, and the configuration file over the kubelet's defaults.
      type: dict
      sample: {"cpuManagerPolicy": "static", "reservedSystemCPUs": "0,128"}
      contains:
        cpuManagerPolicy:
          description: V(none) or V(static).
          type: str
        cpuManagerPolicyOptions:
          description: Options of the CPU manager policy.
          type: dict
        cpuManagerReconcilePeriod:
          description: How often the CPU manager reconciles containers, such as V(10s).
          type: str
        reservedSystemCPUs:
          description: The CPUs reserved for the system; empty if none are listed.
          type: str
        kubeReserved:
          description: Resources reserved for Kubernetes.
          type: dict
        systemReserved:
          description: Resources reserved for the system.
          type: dict
        kubeReservedCgroup:
          description: The cgroup that C(kubeReserved) is enforced on.
          type: str
        systemReservedCgroup:
          description: The cgroup that C(systemReserved) is enforced on.
          type: str
        enforceNodeAllocatable:
          description: The groups of processes that the limits are enforced on.
          type: list
          elements: str
        topologyManagerPolicy:
          description: Policy of the topology manager.
          type: str
        topologyManagerScope:
          description: V(container) or V(pod).
          type: str
        topologyManagerPolicyOptions:
          description: Options of the topology manager policy.
          type: dict
        memoryManagerPolicy:
          description: V(None) or V(Static), with capitals.
          type: str
        reservedMemory:
          description: Memory reserved for the system, by NUMA node.
          type: list
          elements: dict
        featureGates:
          description: Feature gates that are set.
          type: dict
        evictionHard:
          description: Thresholds at which pods are evicted.
          type: dict
        cgroupDriver:
          description: V(cgroupfs) or V(systemd).
          type: str
        healthzPort:
          description: Port of the health check; 0 for none.
          type: int
        healthzBindAddress:
          description: Address of the health check.
          type: str
        cpuCFSQuota:
          description: Whether CPU limits are enforced.
          type: bool
        failSwapOn:
          description: Whether the kubelet refuses to start with swap.
          type: bool
    sources:
      description:
        - Where each of these comes from, V(default), C(file:PATH), C(drop-in:PATH) or V(flag).
      type: dict
      sample: {"cpuManagerPolicy": "flag", "reservedSystemCPUs": "file:/var/lib/kubelet/config.yaml"}
    root_dir:
      description: The folder that holds the kubelet's state.
      type: str
      sample: /var/lib/kubelet
    state:
      description: The state files.
      type: dict
      contains:
        cpu_manager:
          description: State of the CPU manager; the fields from C(policy) on are null if the file is missing or
            invalid.
          type: dict
          contains:
            path:
              description: Path of the file.
              type: str
            exists:
              description: Whether it exists.
              type: bool
            text:
              description: Its text, or null.
              type: str
            error:
              description: Why it could not be parsed, or null.
              type: str
            policy:
              description: The policy that wrote it.
              type: str
            default_cpus:
              description: The CPUs that containers share.
              type: str
            entries:
              description: The exclusive CPUs, by UID of the pod and name of the container.
              type: dict
            format:
              description: V(V1) to V(V4).
              type: str
            checksum_ok:
              description: Whether its checksum matches; null if it was not checked.
              type: bool
        memory_manager:
          description: State of the memory manager.
          type: dict
          contains:
            path:
              description: Path of the file.
              type: str
            exists:
              description: Whether it exists.
              type: bool
            text:
              description: Its text, or null.
              type: str
            error:
              description: Why it could not be parsed, or null.
              type: str
            policy:
              description: The policy that wrote it, or null.
              type: str
    runtime:
      description: The container runtime.
      type: dict
      contains:
        name:
          description: V(containerd), V(cri-o), V(docker) or V(unknown).
          type: str
        endpoint:
          description: Its socket.
          type: str
        version:
          description: Its version, or null.
          type: str
        runc_version:
          description: Version of runc, or null.
          type: str
    cgroup:
      description: The machine's control groups.
      type: dict
      contains:
        version:
          description: 1, 2 or null.
          type: int
        driver:
          description: The kubelet's cgroup driver, V(cgroupfs) or V(systemd).
          type: str
    problems:
      description: What could not be read or parsed, and what would keep the kubelet from starting.
      type: list
      elements: dict
      contains:
        code:
          description: Names the rule, for programs.
          type: str
        subject:
          description: What the problem is about.
          type: str
        finding:
          description: What is wrong with the subject.
          type: str
        remedy:
          description: What to do; may be empty.
          type: str
        waivable:
          description: Whether the operator can accept the problem.
          type: bool
        text:
          description: The whole problem, for people.
          type: str
problems:
  description: Why the module failed, the first cause first, as C(code), C(subject), C(finding), C(remedy), C(waivable) and C(text).
  returned: failure
  type: list
  elements: dict
"""

import re
import typing as t

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.kubepin.tuning.plugins.module_utils.common.errors import TuningError
from ansible_collections.kubepin.tuning.plugins.module_utils.common.kubelet import problems
from ansible_collections.kubepin.tuning.plugins.module_utils.common.kubelet.start_errors import Cause, first_cause
from ansible_collections.kubepin.tuning.plugins.module_utils.node.commands import runner
from ansible_collections.kubepin.tuning.plugins.module_utils.node.readers.kubelet import (
    EMBEDDING,
    read_programs,
    read_sources,
)

DROP_INS_MINOR = 32
"""The minor version of 1.x from which k3s and RKE2 pass all settings to the kubelet as files."""

ARGUMENT_SPEC = {
    "fail_on_unsupported": {"type": "bool", "default": True},
    "runtime_versions": {"type": "bool", "default": True},
    "expect_main_pid": {"type": "int"},
}


def refuse_unsupported(kubelet: t.Mapping[str, t.Any]) -> None:
    """Refuses a kubelet that kubepin cannot manage.

    :raises TuningError: naming the distribution that was recognized
    """
    manager, service = kubelet["manager"], kubelet["service"]["name"]
    if manager in EMBEDDING.values() and not _has_drop_ins(kubelet["version"]):
        raise TuningError(
            problems.distribution_too_old(manager, str(kubelet["version"]), service, f"1.{DROP_INS_MINOR}"),
            manager=manager,
            service=service,
        )


def _has_drop_ins(version: t.Optional[str]) -> bool:
    match = re.match(r"1\.(\d+)\.", version or "", re.ASCII)
    return match is not None and int(match[1]) >= DROP_INS_MINOR


def refuse_another_process(service: t.Mapping[str, t.Any], pid: int, log: t.Sequence[str]) -> None:
    """Refuses a service that does not run as process *pid*, whose messages are *log*.

    :raises TuningError: with the first cause
    """
    if service["main_pid"] == pid:
        return
    cause = first_cause(log) or Cause("", "")
    state = f"{service['active_state']} ({service['sub_state']})"
    raise TuningError(
        problems.another_process(pid, state, cause.line, cause.meaning or ""),
        first_cause=cause.line or f"process {pid} ended",
        meaning=cause.meaning,
    )


def main() -> None:
    module = AnsibleModule(argument_spec=ARGUMENT_SPEC, supports_check_mode=True)
    module.run_command_environ_update = {"LANGUAGE": "C", "LC_ALL": "C"}
    run = runner(module.run_command)
    try:
        sources = read_sources(run)
        if module.params["fail_on_unsupported"]:
            refuse_unsupported(sources)
        pid = module.params["expect_main_pid"]
        if pid is not None:
            _code, output, _errors = run(["journalctl", "--no-pager", "--output", "cat", f"_PID={pid}"])
            refuse_another_process(sources["service"], pid, output.splitlines())
        programs = read_programs(run) if module.params["runtime_versions"] else {}
    except TuningError as exc:
        module.fail_json(msg=str(exc), **exc.details)
    module.exit_json(changed=False, read={"kubelet": sources, "programs": programs})


if __name__ == "__main__":
    main()
