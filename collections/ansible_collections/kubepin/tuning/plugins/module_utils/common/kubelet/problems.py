# SPDX-License-Identifier: GPL-3.0-or-later
"""The wording of every problem with a kubelet's service, configuration and settings."""

from __future__ import annotations

import typing as t

from ansible_collections.kubepin.tuning.plugins.module_utils.common.kubelet.start_errors import Cause
from ansible_collections.kubepin.tuning.plugins.module_utils.common.problem import Problem
from ansible_collections.kubepin.tuning.plugins.module_utils.common.shown import shown
from ansible_collections.kubepin.tuning.plugins.module_utils.common.words import counted

_LINE = 400
"""Characters of a log line that a problem shows."""


def _listed(names: t.Iterable[object]) -> str:
    return ", ".join(str(name) for name in names)


# The kubelet as a program and a service


def version_unreadable() -> Problem:
    return Problem(
        "kubelet_version_unreadable",
        "the kubelet's version",
        "could not be read with `kubelet --version`",
        "Check that the binary on this node is intact.",
    )


def version_not_kubernetes(version: str) -> Problem:
    return Problem(
        "kubelet_version_unreadable",
        f'kubelet version "{version}"',
        "is not of the form 1.MINOR.PATCH",
        "Install a released kubelet, or leave the node out with --limit.",
    )


def version_too_old(version: str, oldest_minor: int) -> Problem:
    return Problem(
        "kubelet_too_old",
        f"kubelet {version}",
        f"is older than 1.{oldest_minor}",
        "Upgrade the cluster first.",
    )


def version_broken(version: str) -> Problem:
    return Problem(
        "kubelet_broken",
        f"kubelet {version}",
        "gives wrong CPUs to Guaranteed pods with several containers (kubernetes/kubernetes#103952)",
        "Upgrade to 1.22.17 first.",
    )


def does_not_run(state: str, service: str = "kubelet") -> Problem:
    """A kubelet without a word in its log.

    :param state: of the service, in systemd's words
    """
    return Problem(
        "kubelet_does_not_run",
        "the kubelet",
        f"does not run (service {state}), and its log says nothing",
        f"Start it with `systemctl start {service}`, or leave the node out with --limit.",
    )


def does_not_start(state: str, cause: Cause, service: str = "kubelet") -> Problem:
    """:param state: of the service, in systemd's words"""
    means = f". That means: {cause.meaning}" if cause.meaning else ""
    line = cause.line if len(cause.line) <= _LINE else f"{cause.line[:_LINE]}..."
    return Problem(
        "kubelet_does_not_start",
        "the kubelet",
        f'does not stay up (service {state}): "{line}"{means}',
        cause.remedy or f"Remove the cause (`journalctl -u {service}`), or leave the node out with --limit.",
    )


def touches_pinned_containers(version: str) -> Problem:
    return Problem(
        "kubelet_updates_pinned_containers",
        f"kubelet {version}",
        "updates even containers with exclusive CPUs every 10 s, and some runtimes then take their GPU away "
        "(kubernetes/kubernetes#101771)",
        "Upgrade to 1.22 or newer first, with -e kubepin_upgrade_first=true or upgrade-cluster.yml, or accept the risk with "
        "cpu_manager_accept_old_kubelet.",
        waivable=True,
    )


def units_changed(service: str) -> Problem:
    return Problem(
        "unit_files_changed",
        f"the unit files of {service}",
        "changed since systemd read them",
        "Drain the node, then run `systemctl daemon-reload`.",
    )


def ambiguous_comment(path: str, variables: t.Sequence[str]) -> Problem:
    return Problem(
        "environment_file_ambiguous",
        path,
        f"has a comment that ends in a backslash, so that systemd before 254 reads {', '.join(variables)} differently from later versions: "
        "it takes the next line for a part of the comment",
        "Remove the backslash at the end of the comment.",
    )


def no_command(service: str) -> Problem:
    return Problem(
        "no_command",
        f"the unit files of {service}",
        "cannot be read, or name no command (ExecStart=)",
        "Install the kubelet's own unit file.",
    )


def managed_by(manager: str, since: int) -> Problem:
    """:param since: the minor version of 1.x from which its kubelet has a drop-in directory"""
    return Problem(
        "unsupported_manager",
        "this node's kubelet",
        f"is managed by {manager}, and kubepin switches {manager} from 1.{since} on only, where the kubelet has a drop-in directory",
        f"Upgrade {manager}, or set the policy with the file that emit-node-settings.yml writes (format {manager}), or leave the node out "
        "with --limit.",
    )


def embedded(manager: str, path: str) -> Problem:
    return Problem(
        "embedded_kubelet",
        manager,
        f"starts the kubelet itself, and of its settings only kubelet-arg of {path} and of the folder {path}.d was read",
    )


_OWN_WAY = {
    "kubespray": "Its service must pass $KUBELET_ARGS from /etc/kubernetes/kubelet.env, as kubespray writes it. Run kubespray on this "
    "node. Do not install kubeadm's service drop-in: it would replace kubespray's command and configuration file.",
    "nodeadm": "nodeadm (EKS) rewrites the kubelet's files at each boot. Set cpuManagerPolicy and reservedSystemCPUs, and "
    'kubeReservedCgroup and systemReservedCgroup to "", in spec.kubelet.config of the NodeConfig, and replace the node. '
    "emit-node-settings.yml writes it (format eks-nodeadm).",
    "kops": "kOps rewrites the kubelet's files at each boot and update. Set the policy in spec.kubelet of the instance group, which "
    "emit-node-settings.yml writes (format kops), and run `kops rolling-update cluster`.",
    "k0s": "k0s rewrites the kubelet's configuration at each start, from a worker profile. emit-node-settings.yml writes the profile "
    "(format k0s). Join new nodes with it.",
    "openshift": "The Machine Config Operator owns the kubelet's files. Apply a KubeletConfig, which emit-node-settings.yml writes (format "
    "openshift).",
}
"""Installer -> how to set the policy where its service takes no arguments from a file that kubepin may change."""


def no_extra_args_file(manager: str) -> Problem:
    return Problem(
        "no_extra_args_file",
        "the kubelet's service",
        "reads neither /etc/default/kubelet nor /etc/sysconfig/kubelet into KUBELET_EXTRA_ARGS, nor kubespray's "
        "/etc/kubernetes/kubelet.env into KUBELET_ARGS, where kubepin puts its settings",
        _OWN_WAY.get(
            manager,
            "If kubeadm set this node up, restore its service drop-in (10-kubeadm.conf). Otherwise set the policy with what did, or leave "
            "the node out with --limit.",
        ),
    )


def upgraded_by_installer(manager: str) -> Problem:
    return Problem(
        "upgraded_by_installer",
        "this node's kubelet",
        f"was set up by {manager}, and does not read the configuration that `kubeadm upgrade node` writes",
        _OWN_UPGRADE.get(manager, f"Upgrade it with {manager}."),
    )


_OWN_UPGRADE = {
    "kubespray": "Upgrade the cluster with kubespray's own upgrade-cluster.yml. Put the settings of this node into its inventory first: "
    "emit-node-settings.yml writes them (format kubespray).",
    "nodeadm": "Replace the node by one with a newer image (AMI).",
    "microk8s": "Upgrade it with `snap refresh microk8s`.",
    "k8s-snap": "Upgrade it with `snap refresh k8s`.",
}
"""Installer -> how it upgrades a node."""


def no_child(service: str) -> Problem:
    return Problem(
        "no_command",
        f"{service}.service",
        "runs no kubelet as a child process, and no file contains the arguments of one",
        f"Start it (`systemctl start {service}`), or leave the node out with --limit.",
    )


def no_argument_file(title: str, path: str) -> Problem:
    """:param title: the human-readable name of the snap"""
    return Problem(
        "no_argument_file",
        path,
        f"cannot be read, and {title} reads the kubelet's arguments from it",
        "If this node has not joined a cluster yet, join it, or leave it out with --limit.",
    )


def argument_file_invalid(path: str, reason: object) -> Problem:
    return Problem(
        "argument_file_invalid", f"{path}:", str(reason), "Correct the file, or leave the node out with --limit."
    )


def extra_args_in_braces(variable: str) -> Problem:
    return Problem(
        "extra_args_in_braces",
        "the kubelet's service",
        f"passes {variable} in braces, and systemd then makes a single argument of all its arguments",
        f"Write ${variable} in its ExecStart=, drain the node, and run `systemctl daemon-reload`.",
    )


def extra_args_overruled(path: str, variable: str, chosen: str) -> Problem:
    return Problem(
        "extra_args_overruled",
        path,
        f"sets {variable} too and overrules {chosen}",
        f"Move its arguments to {chosen}.",
    )


def extra_args_hidden(place: str, variable: str, chosen: str) -> Problem:
    return Problem(
        "extra_args_hidden",
        place,
        f"sets {variable}, which {chosen} would overrule once it sets it",
        f"Move the arguments to {chosen}.",
    )


def command_line(reason: object) -> Problem:
    return Problem("command_line", "the kubelet's command line:", str(reason))


# Configuration files


def file_unreadable(path: str, reason: object) -> Problem:
    return Problem("file_unreadable", path, f"cannot be read: {reason}")


def not_yaml(path: str, reason: object) -> Problem:
    return Problem("not_yaml", f"{path},", str(reason))


def idle_drop_ins(paths: t.Sequence[str]) -> Problem:
    return Problem(
        "drop_ins_not_in_use",
        _listed(paths),
        "would be read by the kubelet once kubepin names the folder, and is not read now",
        "Move it out of the folder.",
    )


def config_file_missing(path: str) -> Problem:
    return Problem("config_file_missing", path, "does not exist, although the kubelet's --config names it")


def config_not_a_mapping(path: str) -> Problem:
    return Problem("config_invalid", path, "does not hold a mapping; expected a KubeletConfiguration")


def config_without_kind(path: str, drop_in: bool) -> Problem:
    return Problem(
        "config_invalid",
        f"{path}:",
        f"a {'drop-in' if drop_in else 'configuration file'} needs 'apiVersion: kubelet.config.k8s.io/v1beta1' and "
        "'kind: KubeletConfiguration'",
    )


def config_type(path: str, field: str, found: str, expected: str) -> Problem:
    return Problem("config_invalid", f"{path}:", f"{field} is {found}; expected {expected}")


def config_key_twice(path: str, key: str, line: t.Optional[int], drop_in: bool) -> Problem:
    place = "" if line is None else f", again in line {line}"
    effect = "the kubelet refuses the drop-in" if drop_in else "the kubelet takes the last value"
    return Problem(
        "config_key_twice",
        f"{path}:",
        f"the key '{key}' is there twice{place}, and {effect}",
        "Remove one of them.",
        waivable=not drop_in,
    )


def config_field_misspelt(path: str, field: str, known: str, ignored: bool) -> Problem:
    effect = "is not a field that this kubelet knows, and it ignores it" if ignored else "is spelt with other letters"
    return Problem(
        "config_field_misspelt",
        f"{path}: {field}",
        effect,
        f"Did you mean {known}? Correct the name, or remove the field.",
        waivable=ignored,
    )


def config_not_read(path: str, line: int) -> Problem:
    return Problem(
        "config_not_read",
        f"{path}:",
        f"the kubelet reads the first YAML document only, and ignores what starts in line {line}",
        "Move it into the first document, or remove it.",
        waivable=True,
    )


# Settings


def unknown_choice(name: str, value: object, choices: t.Sequence[str]) -> Problem:
    return Problem(f"{_snake(name)}_unknown", f'{name} "{value}"', f"is unknown: expected one of {_listed(choices)}")


def _snake(name: str) -> str:
    return "".join(f"_{letter.lower()}" if letter.isupper() else letter for letter in name)


def reserved_with_cgroup(name: str, value: object, reserved: str) -> Problem:
    return Problem(
        "reserved_cpus_with_cgroup",
        f'{name} "{value}"',
        f'is refused by the kubelet together with reservedSystemCPUs ("{reserved}")',
        f"Remove {name} from the kubelet's configuration.",
    )


def nothing_reserved() -> Problem:
    return Problem(
        "no_cpu_reserved",
        "cpuManagerPolicy static",
        "needs a reserved CPU, and none is reserved: the kubelet would not start",
        "Set reserved_cpus.",
    )


def reserved_not_a_list(reason: object) -> Problem:
    return Problem("reserved_cpus_invalid", "reservedSystemCPUs:", str(reason))


def reserved_too_high(reserved: str, online: int, minor: int) -> Problem:
    return Problem(
        "reserved_cpus_too_high",
        f'reservedSystemCPUs "{reserved}"',
        f"is refused: with {counted(online, 'CPU')} online, kubelet 1.{minor} takes numbers below {online} only",
        "Reserve lower ones, or upgrade to 1.22.",
    )


def reserved_absent(reserved: str, absent: str, online: str) -> Problem:
    return Problem(
        "reserved_cpus_offline",
        f'reservedSystemCPUs "{reserved}"',
        f"names CPUs that are not online on this machine: {absent} (online: {online})",
    )


def options_without_static(names: t.Iterable[str], policy: object) -> Problem:
    return Problem(
        "policy_options_without_static",
        f"cpuManagerPolicyOptions ({_listed(names)})",
        f'need the policy `static`, and cpuManagerPolicy is "{policy}"',
        "Remove the options.",
    )


def option_unknown(name: str, known: t.Iterable[str]) -> Problem:
    return Problem("policy_option_unknown", f"policy option {name}", f"is unknown: expected one of {_listed(known)}")


def option_not_boolean(name: str, value: object) -> Problem:
    return Problem("policy_option_invalid", f'policy option {name} "{value}"', "is invalid: expected true or false")


def options_exclusive(first: str, second: str) -> Problem:
    return Problem(
        "policy_options_exclusive",
        f"policy options {first} and {second}",
        "exclude each other",
        "Remove one of them.",
    )


def align_by_socket_single_numa() -> Problem:
    return Problem(
        "policy_options_exclusive",
        "policy option align-by-socket",
        "cannot be used with topologyManagerPolicy single-numa-node",
        "Remove one of them.",
    )


def align_by_socket_sockets() -> Problem:
    return Problem(
        "align_by_socket_sockets",
        "policy option align-by-socket",
        "cannot be used on a machine with more sockets than NUMA nodes",
        "Remove the option.",
    )


def option_too_new(name: str, since: int, minor: int) -> Problem:
    return Problem(
        "policy_option_too_new",
        f"policy option {name}",
        f"needs kubelet 1.{since}, and this one is 1.{minor}",
        "Remove the option, or upgrade.",
    )


def option_gate_122(name: str) -> Problem:
    return Problem(
        "policy_option_gate",
        f"policy option {name}",
        "needs the feature gate CPUManagerPolicyOptions on kubelet 1.22",
        "Enable it in the kubelet's featureGates, or upgrade.",
    )


def option_alpha(name: str, minor: int) -> Problem:
    return Problem(
        "policy_option_gate",
        f"policy option {name}",
        f"is alpha in 1.{minor} and needs the feature gate CPUManagerPolicyAlphaOptions",
        "Enable it in the kubelet's featureGates, or remove the option.",
    )


def option_beta(name: str, minor: int) -> Problem:
    return Problem(
        "policy_option_gate",
        f"policy option {name}",
        f"is beta in 1.{minor}, and the feature gate CPUManagerPolicyBetaOptions is off on this node",
        "Enable it in the kubelet's featureGates, or remove the option.",
    )


def topology_options_gate(names: t.Iterable[str], minor: int) -> Problem:
    return Problem(
        "topology_option_gate",
        f"topologyManagerPolicyOptions ({_listed(names)})",
        f"need the feature gate TopologyManagerPolicyOptions on kubelet 1.{minor}, with any policy",
        "Enable it in the kubelet's featureGates, or remove the options.",
    )


def topology_option_gate(name: str, gate: str, minor: int) -> Problem:
    return Problem(
        "topology_option_gate",
        f"topologyManagerPolicyOptions {name}",
        f"needs the feature gate {gate} on kubelet 1.{minor}",
        "Enable it in the kubelet's featureGates, or remove the option.",
    )


def too_many_numa_nodes(policy: object, nodes: int, allowed: object) -> Problem:
    return Problem(
        "too_many_numa_nodes",
        f'topologyManagerPolicy "{policy}"',
        f"is refused by the kubelet on {nodes} NUMA nodes (at most {allowed})",
        "Use none, fewer NUMA nodes per socket, or, from 1.31, the option max-allowable-numa-nodes.",
    )


def numa_node_number(policy: object, node: int, most: int) -> Problem:
    return Problem(
        "numa_node_number",
        f'topologyManagerPolicy "{policy}"',
        f"ends the kubelet at its first pod on a machine with NUMA node {node} (the highest number that it can use is {most})",
        "Use none on this machine.",
    )


def eviction_not_a_quantity(signal: str, reason: object) -> Problem:
    return Problem("eviction_hard_invalid", f"evictionHard {signal}:", str(reason))


def eviction_not_positive(signal: str, value: object) -> Problem:
    return Problem(
        "eviction_hard_invalid",
        f'evictionHard {signal} "{value}"',
        "is invalid: expected more than 0",
        'Use "0%" to switch it off.',
    )


def eviction_percentage(value: object) -> Problem:
    return Problem(
        "eviction_hard_percentage",
        f'evictionHard memory.available "{value}"',
        "is a percentage, and memoryManagerPolicy Static needs a quantity",
        "Write it as a quantity, such as 100Mi.",
    )


def memory_too_new(what: str, minor: int) -> Problem:
    return Problem(
        "memory_manager_too_new",
        what,
        f"needs kubelet 1.21, and this one is 1.{minor}",
        "Remove the setting, choose another profile if numa asks for it, or upgrade.",
    )


def memory_gate(minor: int) -> Problem:
    return Problem(
        "memory_manager_gate",
        "memoryManagerPolicy Static",
        f"needs the feature gate MemoryManager on kubelet 1.{minor}",
        "Enable it in the kubelet's featureGates.",
    )


def memory_unknown_node(node: object, known: t.Iterable[int]) -> Problem:
    return Problem(
        "reserved_memory_unknown_node",
        f"reservedMemory of NUMA node {node}",
        f"names a NUMA node that this machine does not have (it has {_listed(known)})",
    )


def memory_zero(node: object, kind: str) -> Problem:
    return Problem(
        "reserved_memory_zero",
        f"reservedMemory of NUMA node {node}:",
        f"{kind} is 0",
        "Remove the entry.",
    )


def memory_not_a_quantity(reason: object) -> Problem:
    return Problem("reserved_memory_invalid", "reserved memory:", str(reason))


def memory_nothing_reserved() -> Problem:
    return Problem(
        "reserved_memory_missing",
        "memoryManagerPolicy Static",
        "needs memory to reserve, but kubeReserved, systemReserved and the evictionHard threshold memory.available are 0",
        "Set one of them in the kubelet's configuration, such as memory.available: 100Mi in evictionHard. It has no default if "
        "evictionHard has other thresholds.",
    )


def memory_sum(given: int, parts: t.Mapping[str, object], needed: int) -> Problem:
    listed = " + ".join(f"{name} {value}" for name, value in parts.items())
    return Problem(
        "reserved_memory_sum",
        "reservedMemory",
        f"sums up to {given} bytes, and the kubelet expects {listed} = {needed} bytes over all NUMA nodes",
    )


def memory_huge_pages(node: object, kind: str, amount: object) -> Problem:
    return Problem(
        "reserved_memory_huge_pages",
        f"reservedMemory of NUMA node {node}:",
        f"{kind} {amount} is refused: the sum over all NUMA nodes must be what kubeReserved and systemReserved hold of it, "
        "and these take no huge pages",
        "Remove it. Huge pages that the system uses are not reserved: leave them to it by using fewer in pods.",
    )


def memory_not_whole_bytes(needed: object) -> Problem:
    return Problem(
        "reserved_memory_not_whole_bytes",
        "kubeReserved + systemReserved + evictionHard memory.available",
        f"is {needed} bytes, and memoryManagerPolicy Static needs whole bytes",
        "Write them as quantities of whole bytes, such as 1Gi.",
    )


def memory_unreported(nodes: t.Iterable[int]) -> Problem:
    """:param nodes: none if the machine tells no NUMA node"""
    which = _listed(sorted(nodes))
    return Problem(
        "numa_memory_unknown",
        "memoryManagerPolicy Static",
        f"needs the memory of each NUMA node, and the kernel reports none {'of node ' + which if which else 'at all'}",
        "Use the profile balanced, or a memory_manager_policy other than Static.",
    )


def memory_exceeds(needed: int, room: int) -> Problem:
    """In bytes."""
    return Problem(
        "reserved_memory_exceeds",
        "kubeReserved + systemReserved + evictionHard memory.available",
        f"is {needed} bytes, and the NUMA nodes with CPUs have {room} bytes besides huge pages",
        "Lower them, or the number of huge pages.",
    )


def overruled(name: str, stays: object, place: str, value: object) -> Problem:
    return Problem(
        "setting_overruled",
        name,
        f'would stay "{shown(stays)}": {place} overrules what kubepin writes ("{shown(value)}")',
        "Remove it there.",
    )


def reserved_resource_unknown(field: str, resource: str, known: t.Iterable[str]) -> Problem:
    return Problem(
        "reserved_resource_unknown",
        f"{field} {resource}",
        f"cannot be reserved: expected one of {_listed(known)}",
        "Remove it.",
    )


def reserved_not_a_quantity(field: str, resource: str, amount: object) -> Problem:
    return Problem(
        "reserved_quantity_invalid",
        f'{field} {resource} "{amount}"',
        "is not a quantity: expected a number, with a suffix if needed, such as 500m, 2 or 1Gi",
    )


def reserved_negative(field: str, resource: str, amount: object) -> Problem:
    return Problem(
        "reserved_quantity_invalid",
        f'{field} {resource} "{amount}"',
        "is negative, and the kubelet refuses it",
        "Remove it, or reserve 0 or more.",
    )


def reserved_cpus_form(reserved: str, plain: str) -> Problem:
    return Problem(
        "reserved_cpus_invalid",
        f'reservedSystemCPUs "{reserved}"',
        "is not in the kubelet's form: expected numbers and ranges separated by commas, without spaces or steps",
        f'Write "{plain}".',
    )


def topology_option_unknown(name: str, known: t.Iterable[str]) -> Problem:
    return Problem(
        "topology_option_unknown",
        f"topologyManagerPolicyOptions {name}",
        f"is unknown: expected one of {_listed(known)}",
        "Remove the option.",
    )


def topology_option_too_new(name: str, since: int, minor: int) -> Problem:
    return Problem(
        "topology_option_too_new",
        f"topologyManagerPolicyOptions {name}",
        f"needs kubelet 1.{since}, and this one is 1.{minor}",
        "Remove the option, or upgrade.",
    )


def topology_option_invalid(name: str, value: object, expected: str) -> Problem:
    return Problem(
        "topology_option_invalid",
        f'topologyManagerPolicyOptions {name} "{value}"',
        f"is invalid: expected {expected}",
    )


def reconcile_period(reason: object) -> Problem:
    return Problem("reconcile_period_invalid", "cpuManagerReconcilePeriod:", str(reason))


def no_kubelet(services: t.Sequence[str]) -> Problem:
    return Problem(
        "no_kubelet",
        "This machine",
        f"has no kubelet: systemd knows none of the services {', '.join(services)}",
        "Install Kubernetes on it, or leave it out with --limit.",
    )


def distribution_too_old(manager: str, version: str, service: str, oldest: str) -> Problem:
    return Problem(
        "distribution_too_old",
        "This node",
        f"runs {manager} {version} (service '{service}'). kubepin manages {manager} from {oldest} on, where its kubelet "
        "takes settings from files that can be read",
        "Leave the node out with --limit, or set `fail_on_unsupported` to `false` to look at it all the same.",
    )


def another_process(pid: int, state: str, line: str, meaning: str) -> Problem:
    """:param line: the first cause that the process logged, empty if it logged none
    :param meaning: what that means, empty if it is not known"""
    quoted = f'. It said: "{line}"' if line else ""
    means = f" That means: {meaning}" if meaning else ""
    return Problem(
        "kubelet_not_staying_up",
        "the kubelet",
        f"did not stay up: process {pid} has ended since it was verified, and the service is {state}{quoted}{means}",
        "" if line else "See `journalctl --unit kubelet` on the node.",
    )
