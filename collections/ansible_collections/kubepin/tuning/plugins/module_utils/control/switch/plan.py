# SPDX-License-Identifier: GPL-3.0-or-later
"""Pure: plans a switch from a node's facts and the desired settings, as a list of changes or every problem."""

from __future__ import annotations

import posixpath
import typing as t
from dataclasses import dataclass, field, replace

from ansible_collections.kubepin.tuning.plugins.module_utils.common.cpuset import parse_cpuset
from ansible_collections.kubepin.tuning.plugins.module_utils.common.kubelet.feature_gates import manages_pod_level
from ansible_collections.kubepin.tuning.plugins.module_utils.common.kubelet.flags import flag_path, flag_value
from ansible_collections.kubepin.tuning.plugins.module_utils.common.kubelet.memory_manager_state import (
    Machine,
    default_machine,
)
from ansible_collections.kubepin.tuning.plugins.module_utils.common.kubelet.problems import (
    idle_drop_ins,
    managed_by,
    no_extra_args_file,
    overruled,
)
from ansible_collections.kubepin.tuning.plugins.module_utils.common.layout import DROP_IN_DIR, DROP_IN_NAME
from ansible_collections.kubepin.tuning.plugins.module_utils.common.problem import Problem
from ansible_collections.kubepin.tuning.plugins.module_utils.common.switch.changes import (
    Changes,
    DesiredState,
    Endpoint,
    FileChange,
    SettingChange,
    contains,
    state_changes,
)
from ansible_collections.kubepin.tuning.plugins.module_utils.control.cpus.allocation import machine_of, reserved_of
from ansible_collections.kubepin.tuning.plugins.module_utils.control.cpus.notes import machine_notes
from ansible_collections.kubepin.tuning.plugins.module_utils.control.cpus.reservation import (
    Reservation,
)
from ansible_collections.kubepin.tuning.plugins.module_utils.control.cpus.topology import CpuSet, Topology
from ansible_collections.kubepin.tuning.plugins.module_utils.control.kubelet.config import (
    DEFAULTS,
    Config,
    DropIn,
    effective_config,
)
from ansible_collections.kubepin.tuning.plugins.module_utils.control.kubelet.costs import static_policy_costs
from ansible_collections.kubepin.tuning.plugins.module_utils.control.kubelet.decode import decode
from ansible_collections.kubepin.tuning.plugins.module_utils.control.kubelet.kubelet import (
    EMBEDDED_DROP_INS_MINOR,
    Kubelet,
)
from ansible_collections.kubepin.tuning.plugins.module_utils.control.kubelet.kubespray import inventory_variables
from ansible_collections.kubepin.tuning.plugins.module_utils.control.kubelet.running import differences, same
from ansible_collections.kubepin.tuning.plugins.module_utils.control.kubelet.settings import (
    DROP_IN_MINOR,
    KNOWN_SINCE,
    MANAGED,
    Settings,
    as_flags,
    flags_of,
    is_strict,
    minor_of,
    options_on,
    reserved_millicores,
    runs_memory_manager,
    version_problems,
)
from ansible_collections.kubepin.tuning.plugins.module_utils.control.switch.boot_guard import (
    DesiredGuard,
    guard_changes,
)
from ansible_collections.kubepin.tuning.plugins.module_utils.control.switch.desired import (
    ChosenSettings,
    DesiredSettings,
    choose_settings,
)
from ansible_collections.kubepin.tuning.plugins.module_utils.control.switch.problems import (
    changed_since,
    inventory_keeps,
    inventory_lacks,
    not_restarted,
    restarts_more,
    revert_takes_away,
)
from ansible_collections.kubepin.tuning.plugins.module_utils.control.switch.profiles import BALANCED
from ansible_collections.kubepin.tuning.plugins.module_utils.control.switch.system_daemons import (
    DesiredDaemons,
    plan_daemons,
)

EMBEDDED = ("k3s", "rke2")
"""Managers that run the kubelet inside, or as a child of, their own service."""
RESTART_MARGIN_SECONDS = 2
_RKE2_LOG = "/var/lib/rancher/rke2/agent/logs/kubelet.log"
"""Where the kubelet, a child of rke2-server or rke2-agent, logs (rancher/rke2@6ce1a80
pkg/executor/staticpod/staticpod.go). That of k3s logs to the journal of its service."""
_OUTLIVES = {
    "kubeadm": "settings that outlive kubeadm upgrade node",
    "kubespray": "settings that last until kubespray's next run",
    **dict.fromkeys(EMBEDDED, "settings beside those that the distribution writes at each start"),
    "microk8s": "arguments that a refresh of the snap keeps",
    "k8s-snap": "arguments that k8sd and a refresh of the snap keep",
}
"""Manager -> why files hold the settings."""
_SOURCE_WORDS = {"default": "the kubelet's default", "flag": "a flag"}


@dataclass(frozen=True)
class Plan:
    """Either problems, or changes: first `state_files` while the kubelet is stopped, then `files` in their order.

    This order is safe, because a kubelet without a state file boots with the old settings as well as with the new ones.
    """

    settings: t.List[SettingChange] = field(default_factory=list)
    files: t.List[FileChange] = field(default_factory=list)
    state_files: t.List[FileChange] = field(default_factory=list)
    problems: t.List[Problem] = field(default_factory=list)
    notes: t.List[str] = field(default_factory=list)
    reservation: t.Optional[Reservation] = None
    expected: t.Optional[DesiredState] = None
    folders: t.Sequence[str] = ()
    """Folders that go after the files, if they are empty."""

    @property
    def changed(self) -> bool:
        return bool(self.settings or self.files or self.state_files)


def changes_of(plan: Plan, topology: Topology, kubelet: Kubelet, undoes: str | None = None) -> Changes:
    """A plan without problems in the form that travels to the node.

    :param undoes: the id of the switch that the plan rolls back
    """
    if plan.expected is None or kubelet.version is None:
        raise ValueError("a plan with problems cannot be applied")
    return Changes(
        files=plan.files,
        settings=plan.settings,
        before=desired_state(topology, kubelet.effective, kubelet.version),
        after=plan.expected,
        endpoint=endpoint_of(kubelet),
        kubelet_version=kubelet.version,
        undoes=undoes,
        config_dir=kubelet.layout.config_dir,
        folders=plan.folders,
    )


def endpoint_of(kubelet: Kubelet) -> Endpoint:
    """What the verification of this kubelet needs to know besides its settings."""
    port = int(kubelet.effective["healthzPort"])
    address = kubelet.effective["healthzBindAddress"]
    host = {"0.0.0.0": "127.0.0.1", "::": "[::1]"}.get(address, f"[{address}]" if ":" in address else address)
    return Endpoint(
        healthz_url=f"http://{host}:{port}/healthz" if port else None,
        state_paths={"cpu_manager": kubelet.cpu_state.path, "memory_manager": kubelet.memory_state.path},
        stay_up_seconds=float(kubelet.layout.restart_interval or 0) + RESTART_MARGIN_SECONDS,
        service=kubelet.layout.service,
        log_file=_RKE2_LOG if kubelet.layout.manager == "rke2" else None,
    )


def plan_switch(
    topology: Topology,
    kubelet: Kubelet,
    desired: DesiredSettings,
    running: Config | None = None,
    accept_not_restarted: bool = False,
    guard: DesiredGuard | None = None,
    daemons: DesiredDaemons | None = None,
) -> Plan:
    """The changes that make the kubelet run as desired, or every problem with that.

    :param running: the configuration that the kubelet runs with, as /configz says; None if unknown
    :param accept_not_restarted: whether it may differ from the files and flags in settings that the switch does not set
    :param guard: None leaves the boot guard as it is
    :param daemons: None leaves system daemons as they are
    """
    now: Config = kubelet.effective
    version = kubelet.version
    problems = _node_problems(kubelet)
    if problems or version is None:
        return Plan(problems=[*problems, *version_problems(version)])
    chosen = choose_settings(topology, now, version, desired)
    settings, reservation = chosen.settings, chosen.reservation
    reserved = reservation.cpus if reservation else None
    confined = plan_daemons(daemons or DesiredDaemons(None), topology, now, desired.policy, reserved)
    problems = [*chosen.problems, *confined.problems]
    if problems:
        return Plan(problems=problems, reservation=reservation)
    origins = chosen.origins if desired.profile != BALANCED else {}
    differing = [name for name in settings if not same(name, settings[name], now.get(name))]
    files = _file_changes(kubelet, version, settings) if differing else []
    problems = [*_awakened(kubelet, files), *_overruled(kubelet, files, settings)]
    if problems:
        return Plan(problems=problems, reservation=reservation)
    if guard:
        after, _sources = effective_after(kubelet, files)
        files += guard_changes(guard, desired_state(topology, after, version), endpoint_of(kubelet))
    files += confined.files
    plan = _complete(
        topology,
        kubelet,
        version,
        files=files,
        settings=_setting_changes(kubelet, settings, differing, running, origins),
        notes=[
            *_notes(kubelet, settings, differing),
            *_reasons(chosen, differing, desired.profile),
            *_installer_notes(kubelet, settings),
            *(_snap_notes(kubelet) if differing else []),
            *(machine_notes(topology, reservation.cpus) if reservation else []),
            *(_costs(kubelet, version, settings) if "cpuManagerPolicy" in differing else []),
            *confined.notes,
        ],
        reservation=reservation,
    )
    return _if_restarted(plan, kubelet, running, settings, accept_not_restarted)


def _if_restarted(
    plan: Plan, kubelet: Kubelet, running: Config | None, exempt: t.Collection[str], accepted: bool
) -> Plan:
    """The plan, unless its way back would be settings that the kubelet was never started with.

    :param exempt: the fields for which that counts as a part of the switch
    """
    found = differences(kubelet, running, exempt)
    if not found:
        return plan
    problem = not_restarted(found)
    if plan.changed and not accepted:
        return Plan(problems=[problem], notes=plan.notes, reservation=plan.reservation)
    finding = f"{problem.subject} {problem.finding}"
    note = f"accepted ({problem.code}): {finding}" if plan.changed else finding
    return replace(plan, notes=[*plan.notes, note])


def plan_pins(kubelet: Kubelet) -> Plan:
    """The changes that put the settings of the kubelet's configuration file where kubeadm does not write.

    The kubelet runs with the same settings before and after, and need not be restarted.
    """
    settings = {name: kubelet.effective[name] for name in MANAGED if kubelet.sources[name].startswith("file:")}
    if not settings:
        return Plan()
    version = kubelet.version
    problems = [problem for problem in _node_problems(kubelet) if problem.code != "unit_files_changed"]
    if problems or version is None:
        return Plan(problems=problems or version_problems(version))
    return Plan(files=_file_changes(kubelet, version, settings))


def plan_rollback(
    topology: Topology,
    kubelet: Kubelet,
    files: t.Sequence[FileChange],
    current: t.Mapping[str, t.Optional[str]],
    running: Config | None = None,
    accept_not_restarted: bool = False,
    switched: t.Sequence[SettingChange] = (),
    folders: t.Sequence[str] = (),
) -> Plan:
    """The plan to roll back a committed switch. A file that has its old text already, as after an installer's run, stays.

    `running` and `accept_not_restarted` are as for `plan_switch`.

    :param files: the switch's file changes, from its journal
    :param current: path -> current text (None: absent) of those files
    :param switched: the switch's settings, from its journal
    :param folders: the folders that the switch made, from its journal
    """
    problems = _node_problems(kubelet)
    problems += [
        changed_since(change.path) for change in files if current.get(change.path) not in (change.after, change.before)
    ]
    version = kubelet.version
    if problems or version is None:
        return Plan(problems=problems or version_problems(version))
    due = [change for change in files if current.get(change.path) == change.after]
    back = [change.inverse("as before the switch") for change in reversed(due)]
    after, _sources = effective_after(kubelet, back)
    now: Config = kubelet.effective
    kept = {
        change.name: after[change.name]
        for change in switched
        if not same(change.name, change.before, after[change.name])
    }
    if kept and kubelet.layout.manager == "kubespray":
        return Plan(problems=[inventory_keeps(str(kubelet.layout.config_file), inventory_variables(kept))])
    settings = [
        SettingChange(name, now.get(name), after.get(name), "as before the switch")
        for name in MANAGED
        if not same(name, now.get(name), after.get(name))
    ]
    config_dir = flag_path(_command_line_after(kubelet, back), "config-dir")
    removable = [folder for folder in folders if not contains(folder, config_dir)]
    notes = [f"{folder}: removed if it is empty, because the switch made it" for folder in removable]
    plan = _complete(topology, kubelet, version, files=back, settings=settings, notes=notes, reservation=None)
    plan = replace(plan, folders=removable)
    return _if_restarted(plan, kubelet, running, MANAGED, accept_not_restarted)


def _complete(
    topology: Topology,
    kubelet: Kubelet,
    version: str,
    files: t.List[FileChange],
    settings: t.List[SettingChange],
    notes: t.List[str],
    reservation: t.Optional[Reservation],
) -> Plan:
    """Completes a switch or a rollback: the desired state determines which state files the kubelet would refuse."""
    after, _sources = effective_after(kubelet, files)
    expected = desired_state(topology, after, version)
    state_files = state_changes(
        {
            "cpu_manager": (kubelet.cpu_state.path, kubelet.cpu_state.text),
            "memory_manager": (kubelet.memory_state.path, kubelet.memory_state.text),
        },
        expected,
    )
    plan = Plan(settings, files, state_files, [], notes, reservation, expected)
    if plan.changed and kubelet.layout.manager in (*EMBEDDED, "microk8s"):
        return replace(plan, notes=[*notes, restarts_more(kubelet.layout.service).text])
    return plan


def desired_state(topology: Topology, after: Config, version: str) -> DesiredState:
    """The state that a kubelet with the configuration *after* must show once it runs."""
    minor = minor_of(version)
    return DesiredState(
        policy=after["cpuManagerPolicy"],
        reserved=_reserved(topology, after, minor),
        online=topology.online,
        strict=is_strict(after),
        memory_policy=after["memoryManagerPolicy"] if runs_memory_manager(after, minor) else None,
        memory=_memory_machine(topology, after),
        minor=minor,
        pod_level=manages_pod_level(after["featureGates"], minor),
    )


def _reserved(topology: Topology, after: Config, minor: int) -> CpuSet:
    """reservedSystemCPUs, or the CPUs that the static policy picks if kubeReserved and systemReserved give only an
    amount (pkg/kubelet/cm/cpumanager/cpu_manager.go NewManager)."""
    named = parse_cpuset(after.get("reservedSystemCPUs") or "")
    count = -(-reserved_millicores(after) // 1000)
    if named or after["cpuManagerPolicy"] != "static" or count == 0:
        return named
    return reserved_of(machine_of(topology), minor, options_on(after.get("cpuManagerPolicyOptions")), count)


def _memory_machine(topology: Topology, after: Config) -> Machine:
    memory = {node.id: node.memory for node in topology.numa_nodes}
    if after["memoryManagerPolicy"] != "Static" or not all("memory" in amounts for amounts in memory.values()):
        return {}
    try:
        return default_machine(memory, after["reservedMemory"])
    except ValueError:
        return {}  # an invalid quantity, with which no kubelet runs


def _node_problems(kubelet: Kubelet) -> t.List[Problem]:
    problems = [problem for problem in kubelet.problems if not problem.waivable]
    if kubelet.layout.manager in EMBEDDED:
        if kubelet.version and minor_of(kubelet.version) < EMBEDDED_DROP_INS_MINOR:
            problems.append(managed_by(kubelet.layout.manager, EMBEDDED_DROP_INS_MINOR))
    elif kubelet.layout.extra_args is None:
        problems.append(no_extra_args_file(kubelet.layout.manager))
    return problems


def placed_in_drop_in(version: str) -> bool:
    """Whether the settings go to a drop-in directory (since 1.30, where it is beta and on by default) or to flags.

    `kubeadm upgrade node` rewrites /var/lib/kubelet/config.yaml and kubeadm-flags.env, but neither the drop-in
    directory nor the file that sets KUBELET_EXTRA_ARGS. kubespray writes its configuration file and its environment
    file, and no drop-ins. Flags take precedence over drop-ins, and drop-ins over the configuration file (KEP-3983).
    """
    return minor_of(version) >= DROP_IN_MINOR


def _file_changes(kubelet: Kubelet, version: str, settings: Settings) -> list[FileChange]:
    layout = kubelet.layout
    changes: list[FileChange] = []
    minor = minor_of(version)
    written = {n: value for n, value in settings.items() if value not in ({}, []) and minor >= KNOWN_SINCE.get(n, 0)}
    flags = as_flags(written)
    placed = reason = _OUTLIVES.get(layout.manager, _OUTLIVES["kubeadm"])
    if placed_in_drop_in(version) and not _is_of_snap(kubelet):
        path, before = drop_in_of(kubelet)
        earlier: Config = next((drop_in.config for drop_in in layout.drop_ins if drop_in.path == path), {})
        kept = {name: value for name, value in earlier.items() if name in MANAGED and name not in settings}
        changes.append(FileChange(path, before, render_drop_in({**kept, **written}), placed))
        flags = [] if layout.config_dir else [f"--config-dir={DROP_IN_DIR}"]
        reason = "names the drop-in directory"
    extra = layout.extra_args
    if extra is not None:
        text = extra.rewritten(flags_of(settings), flags)
        changes.append(FileChange(extra.file, extra.text, text, reason))
    return [change for change in changes if change.before != change.after]


def _is_of_snap(kubelet: Kubelet) -> bool:
    """Whether a snap passes all settings as flags: MicroK8s and Canonical Kubernetes have neither a configuration file nor a
    drop-in directory, and a strictly confined snap could not read one of kubepin's."""
    return kubelet.layout.extra_args is not None and kubelet.layout.extra_args.snap is not None


def drop_in_of(kubelet: Kubelet) -> t.Tuple[str, t.Optional[str]]:
    """Path and text (None: absent) of kubepin's own drop-in file."""
    path = f"{(kubelet.layout.config_dir or DROP_IN_DIR).rstrip('/')}/{DROP_IN_NAME}"
    texts = {**kubelet.layout.idle_drop_ins, **{drop_in.path: drop_in.text for drop_in in kubelet.layout.drop_ins}}
    return path, texts.get(path)


def render_drop_in(settings: t.Mapping[str, t.Any]) -> str:
    """A KubeletConfiguration file with only these fields."""
    lines = [
        "# Written by kubepin (module kubepin.tuning.kubelet_cpu_manager), which replaces it as a whole.",
        "apiVersion: kubelet.config.k8s.io/v1beta1",
        "kind: KubeletConfiguration",
    ]
    for name in MANAGED:
        value = settings.get(name)
        if isinstance(value, dict):
            lines += [f"{name}:", *(f'  {key}: "{state}"' for key, state in sorted(value.items()))]
        elif isinstance(value, list):
            lines.append(f"{name}:")
            for entry in value:
                lines += [f"- numaNode: {entry['numaNode']}", "  limits:"]
                lines += [f'    {kind}: "{amount}"' for kind, amount in sorted(entry["limits"].items())]
        elif value is not None:
            lines.append(f'{name}: "{value}"')
    return "\n".join(lines) + "\n"


def effective_after(kubelet: Kubelet, files: t.Sequence[FileChange]) -> tuple[dict[str, t.Any], dict[str, str]]:
    """The kubelet's effective configuration once these files are in place, and the source of each value."""
    layout = kubelet.layout
    texts = {change.path: change.after for change in files}
    argv = _command_line_after(kubelet, files)
    path, unchanged = drop_in_of(kubelet)
    drop_ins = [drop_in for drop_in in layout.drop_ins if drop_in.path not in texts]
    # kubepin's own drop-in may be there already, and come into use as its folder is named again
    idle = path in layout.idle_drop_ins and flag_value(argv, "config-dir")
    text = texts.get(path, unchanged if idle else None)
    if text is not None:
        fields, _problems = decode(text, path, kubelet.version or "", drop_in=True)
        drop_ins.append(DropIn(path, text, fields))
    return effective_config(layout.config_file, layout.config, drop_ins, argv)


def _command_line_after(kubelet: Kubelet, files: t.Sequence[FileChange]) -> t.List[str]:
    argv, extra = list(kubelet.layout.command_line), kubelet.layout.extra_args
    texts = {change.path: change.after for change in files}
    if extra is None or extra.file not in texts:
        return argv
    return _replace_arguments(argv, extra.arguments(extra.text), extra.arguments(texts[extra.file]))


def _replace_arguments(argv: t.List[str], old: t.List[str], new: t.List[str]) -> t.List[str]:
    """*argv* with its subsequence *old* replaced by *new*, which is appended if *old* is not in it."""
    for start in range(len(argv) - len(old), -1, -1):
        if old and argv[start : start + len(old)] == old:
            return argv[:start] + new + argv[start + len(old) :]
    return argv + new


def _awakened(kubelet: Kubelet, files: t.Sequence[FileChange]) -> t.List[Problem]:
    """Drop-ins of others that the kubelet does not read now, and would read once its drop-in directory is named."""
    path, _text = drop_in_of(kubelet)
    others = sorted(kubelet.layout.idle_drop_ins.keys() - {path})
    return [idle_drop_ins(others)] if others and flag_value(_command_line_after(kubelet, files), "config-dir") else []


def _overruled(kubelet: Kubelet, files: t.Sequence[FileChange], settings: Settings) -> t.List[Problem]:
    """Settings that would be written but not take effect, because another source takes precedence."""
    effective, sources = effective_after(kubelet, files)
    return [
        overruled(name, effective.get(name), place_of(sources[name]), value)
        for name, value in settings.items()
        if not same(name, effective.get(name), value)
    ]


def _setting_changes(
    kubelet: Kubelet,
    settings: Settings,
    differing: t.Sequence[str],
    running: Config | None,
    origins: t.Mapping[str, str],
) -> t.List[SettingChange]:
    """:param origins: setting -> who asks for it, if that is worth a word"""
    changes = [
        SettingChange(
            name,
            kubelet.effective.get(name),
            settings[name],
            "; ".join(filter(None, (origins.get(name), f"was {_source(kubelet, name)}"))),
        )
        for name in differing
    ]
    now: Config | None = None
    if running is not None:
        now = {**DEFAULTS, **running}
    elif kubelet.running and not _is_of_another_program(kubelet):
        now, _sources = effective_config(
            kubelet.layout.config_file, kubelet.layout.config, kubelet.layout.drop_ins, kubelet.running
        )
    if now is not None:
        changes += [
            SettingChange(name, now[name], value, "configured, but the kubelet was not restarted since")
            for name, value in settings.items()
            if name not in differing and not same(name, now[name], value)
        ]
    return changes


def _is_of_another_program(kubelet: Kubelet) -> bool:
    """Whether the kubelet runs inside another program's process, which hides its arguments."""
    program, line = kubelet.running[0], kubelet.layout.command_line
    return not line or posixpath.basename(program) != posixpath.basename(line[0])


def _source(kubelet: Kubelet, name: str) -> str:
    source = kubelet.sources.get(name, "default")
    return _SOURCE_WORDS.get(source) or f"set in {place_of(source)}"


def place_of(source: str) -> str:
    """A source of `effective_config` for people: a file's path without its kind."""
    return _SOURCE_WORDS.get(source) or source.split(":", 1)[-1]


def _costs(kubelet: Kubelet, version: str, settings: Settings) -> t.List[str]:
    after = {**kubelet.effective, **settings}
    return static_policy_costs(minor_of(version), after) if after["cpuManagerPolicy"] == "static" else []


def _reasons(chosen: ChosenSettings, differing: t.Sequence[str], profile: str) -> list[str]:
    """Where the numbers of settings that change come from. With the profile balanced, those of the reserved CPUs are in the
    preview alone."""
    explained = [name for name in differing if profile != BALANCED or name == "reservedMemory"]
    return [
        *chosen.notes,
        *(f"{name}: {' '.join(chosen.reasons[name])}" for name in explained if name in chosen.reasons),
    ]


def _notes(kubelet: Kubelet, settings: Settings, differing: t.Sequence[str]) -> list[str]:
    ignored = [problem.text for problem in kubelet.problems if problem.waivable]
    if differing:
        return ignored
    if kubelet.layout.manager == "kubespray":
        return ignored
    rewritten = [
        f"{name} comes from {kubelet.layout.config_file}, which `kubeadm upgrade node` rewrites from the cluster's ConfigMap"
        for name in settings
        if kubelet.sources.get(name, "").startswith("file:")
    ]
    return [*ignored, *rewritten]


def _installer_notes(kubelet: Kubelet, settings: Settings) -> list[str]:
    """What an installer's next run would take away, because its own configuration file says otherwise."""
    layout = kubelet.layout
    if layout.manager != "kubespray" or layout.extra_args is None:
        return []
    written: Config = {**DEFAULTS, **(layout.config or {})}
    lost = {name: value for name, value in settings.items() if not same(name, value, written[name])}
    return [inventory_lacks(layout.extra_args.file, inventory_variables(lost)).text] if lost else []


def _snap_notes(kubelet: Kubelet) -> list[str]:
    """What removes the settings from a snap that keeps a copy of its arguments for each revision."""
    extra = kubelet.layout.extra_args
    if extra is None or extra.snap is None or not extra.file.startswith(f"{extra.snap.data}/"):
        return []
    return [revert_takes_away(extra.snap.title, kubelet.layout.root_dir).text]
