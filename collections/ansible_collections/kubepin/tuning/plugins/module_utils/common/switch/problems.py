# SPDX-License-Identifier: GPL-3.0-or-later
"""The wording of every problem of the transaction on a node: before it changes anything, while it does, and when it is
undone."""

from __future__ import annotations

from typing import Sequence

from ansible_collections.kubepin.tuning.plugins.module_utils.common.problem import Problem


def node_locked(lock: str, seconds: int, holder: str = "") -> Problem:
    """:param holder: the process that has the lock, empty if it is not known"""
    held = f"held by {holder}" if holder else "held"
    return Problem(
        "node_locked",
        lock,
        f"is {held}: another run is changing this node right now. It did not end within {seconds} s, and nothing was changed",
        "Wait for it to end, and run again.",
    )


def another_run_active() -> Problem:
    return Problem(
        "another_run_active",
        "another run",
        "is changing this node right now",
        "Wait for it to end, and run again.",
    )


def guard_starts_kubelet(lock: str, seconds: int, pid: str) -> Problem:
    return Problem(
        "guard_starts_kubelet",
        lock,
        f"is held by the guard of an interrupted run (PID {pid}), which starts the kubelet. The kubelet was not up within "
        f"{seconds} s, and nothing was changed",
        "Find out why it does not start (`systemctl status kubelet`, `journalctl --unit kubelet`), and run again once it has.",
    )


def begun_meanwhile(switch_id: str) -> Problem:
    return Problem(
        "switch_begun_meanwhile",
        f"switch {switch_id}",
        "was begun by another run after this one was planned, and has not ended. Nothing was changed",
        "Run again: an interrupted switch is undone first.",
    )


def changed_since_plan(path: str) -> Problem:
    return Problem(
        "file_changed_since_plan",
        path,
        "was changed after the switch was planned",
        "Run again. If it happens again, stop what writes this file, such as a configuration management tool.",
    )


def put_back(path: str) -> Problem:
    return Problem(
        "file_put_back",
        path,
        "does not have the text that the switch wrote: someone replaced it meanwhile, probably configuration management "
        "(Puppet, Chef, Salt, ansible-pull)",
        'Give its owner the new settings, or take the file from it; see "Living with configuration management" in '
        "docs/operations.md.",
    )


def journal_unreadable(path: str, reason: str) -> Problem:
    return Problem(
        "journal_unreadable",
        path,
        f"cannot be read as a journal of this version of kubepin or an earlier one ({reason})",
        "It tells how to undo a switch: keep a copy, and move the file away only once the kubelet's configuration is known "
        "to be right. If a newer kubepin wrote it, run that one.",
    )


def not_archived(path: str) -> Problem:
    return Problem(
        "journal_not_archived",
        path,
        "was written after kubepin's records were archived, so nothing was removed",
        "Run again. If it happens again, another run works on this node: wait for it to end.",
    )


def not_removed(path: str, reason: str) -> Problem:
    return Problem(
        "file_not_removed",
        path,
        f"cannot be removed: {reason}",
        "Remove the cause, and run again: the next run goes on there.",
    )


def upgrade_record_unreadable(path: str, folder: str, reason: str) -> Problem:
    return Problem(
        "upgrade_record_unreadable",
        path,
        f"cannot be read as a record of an upgrade by this version of kubepin or an earlier one ({reason})",
        f"It says which copies in {folder} are those of before the upgrade. Move that folder away only if this node runs "
        "its old version. If a newer kubepin wrote it, run that one.",
    )


def upgrade_not_prepared(path: str) -> Problem:
    return Problem(
        "upgrade_not_prepared", path, "is not there: no copies of before were made", "Run the step `prepare` first."
    )


def packages_record_unreadable(path: str, reason: str) -> Problem:
    return Problem(
        "packages_record_unreadable",
        path,
        f"cannot be read ({reason})",
        "It holds the kubelet's settings while packages are replaced. Restore the settings from the copies of the upgrade, "
        "and remove it.",
    )


def file_not_writable(path: str, reason: str) -> Problem:
    return Problem("file_not_writable", path, f"cannot be written: {reason}", "Nothing was changed.")


def file_unreachable(path: str, reason: str) -> Problem:
    return Problem("file_unreachable", path, f"cannot be reached: {reason}", "Correct the path or its links.")


def file_unreadable(path: str, reason: str) -> Problem:
    return Problem("file_unreadable", path, f"cannot be read: {reason}", "Repair the file.")


def file_read_only(path: str) -> Problem:
    return Problem("file_read_only", path, "is on a file system that is mounted read-only", "Mount it writable.")


def file_system_full(mount_point: str, free: int, needed: int, folders: Sequence[str]) -> Problem:
    """:param free: in bytes, as *needed*"""
    return Problem(
        "file_system_full",
        f"file system {mount_point}",
        f"is too full: {_kib(free)} are free, and {_kib(needed)} are needed in {', '.join(folders)}",
        f"Make room (`df -h {mount_point}`), and run again.",
    )


def inodes_used_up(mount_point: str, free: int, needed: int, folders: Sequence[str]) -> Problem:
    """:param free: how many files fit"""
    return Problem(
        "inodes_used_up",
        f"file system {mount_point}",
        f"has too few inodes: {free} are free, and {needed} are needed in {', '.join(folders)}",
        f"Remove files (`df -i {mount_point}`), and run again.",
    )


def _kib(size: int) -> str:
    return f"{size / 1024:,.0f} KiB"


def file_immutable(path: str) -> Problem:
    return Problem(
        "file_immutable",
        path,
        "is immutable or append-only, so that nothing in its place can be replaced",
        f"Find out who set that (`lsattr -d {path}`), and take it off: `chattr -i -a {path}`.",
    )


def file_not_regular(path: str) -> Problem:
    return Problem("file_not_regular", path, "is not a regular file", "Put a regular file there, or remove it.")


def file_is_mount_point(path: str) -> Problem:
    return Problem(
        "file_is_mount_point",
        path,
        "is mounted from elsewhere, so that it cannot be replaced",
        f"Unmount it (`findmnt {path}`), and put a regular file there.",
    )


def file_has_other_names(path: str, names: int) -> Problem:
    return Problem(
        "file_has_other_names",
        path,
        f"has {names} names (hard links): replacing it would leave the other names with the old content",
        f"Find them (`find / -xdev -samefile {path}`), and make them symbolic links or copies.",
    )


def file_attributes_unreadable(path: str, reason: str) -> Problem:
    return Problem(
        "file_attributes_unreadable",
        path,
        f"has extended attributes (SELinux label, ACL) that cannot be read: {reason}",
        f"Look at `getfattr -d -m - {path}`.",
    )


def lock_not_writable(path: str, reason: str) -> Problem:
    return Problem(
        "lock_not_writable",
        path,
        f"cannot be written: {reason.rstrip('.')}. Nothing was changed",
        "Make room there, or mount it writable.",
    )


def switch_unknown(directory: str, switch_id: str) -> Problem:
    return Problem(
        "switch_unknown", directory, f"has no switch {switch_id}", "Name the `switch_id` that the switch returned."
    )


def switch_undone_meanwhile(switch_id: str) -> Problem:
    return Problem(
        "switch_undone_meanwhile", f"the switch {switch_id}", "was undone meanwhile by another run", "Run again."
    )


def edited_since(switch_id: str, paths: Sequence[str], journal: str) -> Problem:
    return Problem(
        "files_edited_since",
        f"the interrupted switch {switch_id}",
        f"cannot be undone: {', '.join(paths)} was edited since",
        f"Make the kubelet's configuration right by hand, then move {journal} away.",
    )


def switch_undone(verified: Sequence[str]) -> Problem:
    return Problem(
        "switch_undone",
        "The old settings",
        f"are back and verified ({'; '.join(verified)})",
        "Remove the cause, and run again.",
    )


def interrupted_undone(switch_id: str) -> Problem:
    """It is undone, and that could not be recorded."""
    return Problem("switch_undone", f"the interrupted switch {switch_id}", "was undone")


def switch_not_undone(journal: str) -> Problem:
    return Problem("switch_not_undone", "Undoing it", "did not verify either", _next_run(journal))


def interrupted_not_undone(switch_id: str, journal: str) -> Problem:
    return Problem("switch_not_undone", f"the interrupted switch {switch_id}", "was not undone", _next_run(journal))


def _next_run(journal: str) -> str:
    return f"Everything that was to be replaced is in {journal}; the next run undoes the switch again first."


def left_as_edited(path: str) -> Problem:
    return Problem(
        "file_left_as_edited",
        path,
        "was changed by someone else meanwhile, and stays as it is",
        "Check that the kubelet's settings in it are right.",
    )


def journal_not_updated(path: str, reason: str) -> Problem:
    return Problem(
        "journal_not_updated",
        path,
        f"cannot be written ({reason}), and still says that the switch is unfinished",
        "Make room there. The next run undoes the switch once more.",
    )


def file_not_restored(path: str, reason: str) -> Problem:
    return Problem("file_not_restored", path, f"could not be restored: {reason}", "Remove the cause, and run again.")


def guard_refused(unit: str, reason: str) -> Problem:
    return Problem(
        "guard_refused",
        f"the guard for the kubelet (`systemd-run --unit {unit}`)",
        f"was not started by systemd: {reason.rstrip('.')}. Nothing was changed",
        "Repair systemd on this node (`systemctl status`), and run again.",
    )


def kubelet_not_stopped(service: str, state: str, pid: str) -> Problem:
    return Problem(
        "kubelet_not_stopped",
        f"service {service}",
        f"is {state} (PID {pid} is still there) after `systemctl stop`",
        f"Find out what keeps it (`systemctl status {service}`), and run again.",
    )


def kubelet_not_ended(service: str, pid: int) -> Problem:
    return Problem(
        "kubelet_not_ended",
        f"PID {pid} of service {service}",
        "is still there after SIGKILL",
        f"Find out what it waits for (`cat /proc/{pid}/stack`); a restart of the machine ends it.",
    )


def systemctl_failed(command: str, reason: str) -> Problem:
    return Problem("systemctl_failed", f"`{command}`", f"failed: {reason.strip()}", "See `journalctl --unit kubelet`.")


_SEE_LOG = "See `journalctl --unit kubelet` on the node."


def _as_logged(code: str, subject: str, finding: str, line: str, meaning: str) -> Problem:
    """:param line: the first cause that the kubelet logged, empty if it logged none
    :param meaning: what that means, empty if it is not known"""
    quoted = f'. The kubelet said: "{line}"' if line else ""
    means = f" That means: {meaning}" if meaning else ""
    return Problem(code, subject, f"{finding}{quoted}{means}", "" if line else _SEE_LOG)


def kubelet_not_staying_up(line: str, meaning: str) -> Problem:
    return _as_logged("kubelet_not_staying_up", "the kubelet", "does not stay up with these settings", line, meaning)


def kubelet_not_stayed_up(line: str, meaning: str) -> Problem:
    """It was up, and has ended since."""
    return _as_logged("kubelet_not_staying_up", "the kubelet", "did not stay up with these settings", line, meaning)


def kubelet_not_verified(seconds: float, missing: str, line: str, meaning: str) -> Problem:
    """:param missing: what is not as expected"""
    return _as_logged(
        "kubelet_not_verified", "the kubelet", f"was not verified within {seconds:g} s: {missing}", line, meaning
    )


def machine_restarted() -> Problem:
    return Problem(
        "machine_restarted", "the machine", "was started anew since the switch", "Find out why, and run again."
    )


def healthz_silent() -> Problem:
    return Problem("healthz_silent", "the kubelet's /healthz", "does not answer any more", _SEE_LOG)


def state_not_as_planned(path: str, reason: str) -> Problem:
    return Problem("state_not_as_planned", path, f"is not as planned: {reason}", _SEE_LOG)


def state_missing(path: str) -> Problem:
    return Problem("state_missing", path, "is not there yet", _SEE_LOG)


def policy_not_in_force(pod_cpus: str, state_cpus: str) -> Problem:
    return Problem(
        "policy_not_in_force",
        "the probe pod",
        f"may run on CPUs {pod_cpus}, and the kubelet's state file gives it {state_cpus}: the policy is not in force for pods",
        "Look at the runtime's log on the node.",
    )


def unit_refused(command: str, reason: str) -> Problem:
    return Problem(
        "unit_refused", f"`{command}`", f"failed: {reason.strip().rstrip('.')}", "See `journalctl -b _PID=1`."
    )


def unit_not_confined(unit: str, cpus: str, wanted: str) -> Problem:
    """:param cpus: where it may run
    :param wanted: empty for all CPUs"""
    return Problem(
        "unit_not_confined",
        unit,
        f"runs on CPUs {cpus or 'unknown'} instead of {wanted or 'all'}",
        f"Find out what else sets its CPUs: `systemctl show {unit} -p AllowedCPUs -p DropInPaths`.",
    )


def service_not_restarted(service: str, reason: str) -> Problem:
    return Problem(
        "service_not_restarted",
        service,
        f"was not restarted: {reason.strip().rstrip('.')}",
        f"See `systemctl status {service}`.",
    )


def ban_not_in_force(service: str, pid: str) -> Problem:
    return Problem(
        "ban_not_in_force",
        f"{service} (PID {pid})",
        "does not use the ban list in its environment file",
        f"Check its unit (`systemctl cat {service}`): something else sets its environment.",
    )
