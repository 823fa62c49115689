# SPDX-License-Identifier: GPL-3.0-or-later
"""Pure: the facts about one machine that an upgrade is planned with, from what the machine tells."""

from __future__ import annotations

import typing as t
from dataclasses import asdict

from ansible_collections.kubepin.tuning.plugins.module_utils.common.kubelet.problems import upgraded_by_installer
from ansible_collections.kubepin.tuning.plugins.module_utils.common.layout import (
    HOME,
    KUBERNETES,
    RUNTIME_FOLDERS,
)
from ansible_collections.kubepin.tuning.plugins.module_utils.common.problem import to_dicts
from ansible_collections.kubepin.tuning.plugins.module_utils.control.kubelet.config import Config
from ansible_collections.kubepin.tuning.plugins.module_utils.control.kubelet.kubelet import (
    container_runtime,
    control_groups,
    decode_kubelet,
)
from ansible_collections.kubepin.tuning.plugins.module_utils.control.kubelet.running import (
    SECRET_FIELDS,
    differences,
)
from ansible_collections.kubepin.tuning.plugins.module_utils.control.kubelet.settings import MANAGED
from ansible_collections.kubepin.tuning.plugins.module_utils.control.upgrade.static_pods import api_references

Facts = dict[str, t.Any]

SCHEMA = 1
_UPGRADED_OTHERWISE = ("kubespray", "nodeadm", "k0s", "microk8s", "k8s-snap")
"""Managers whose kubelet does not read what `kubeadm upgrade node` writes."""
_PROGRAMS_MB = 500
"""Two sets of kubeadm, kubelet and kubectl, the new and the backed-up ones; packages need the same again."""
_IMAGES_MB = 1000
"""The control plane's images of one version, unpacked."""


def node_facts(
    read: t.Mapping[str, t.Any],
    by_packages: bool,
    running: Config | None = None,
    patches_directory: str | None = None,
) -> Facts:
    """The facts that the module kubeadm_node_info documents.

    :param read: as `read_node` returns it, with `obstacles`: the problems of files that cannot be replaced
    :param by_packages: whether the upgrade installs packages
    :param running: the configuration that the kubelet runs with, as /configz says; None if unknown
    :param patches_directory: the folder of kubeadm's patches that the upgrade is to use; None if none was named
    """
    kubelet = decode_kubelet(read["kubelet"])
    # an interrupted upgrade drained the node before it changed unit files, and this run completes it
    problems = [
        problem
        for problem in kubelet.problems
        if not problem.waivable and (problem.code != "unit_files_changed" or not read["upgrade_in_progress"])
    ]
    # while an upgrade is in progress, the kubelet may wait for its completion
    if kubelet.start_problem and not read["upgrade_in_progress"]:
        problems.append(kubelet.start_problem)
    if kubelet.layout.manager in _UPGRADED_OTHERWISE:
        problems.append(upgraded_by_installer(kubelet.layout.manager))
    copied = ("control_plane", "boot_id", "packages", "manifests", "certificates", "source_problems")
    return {
        "schema": SCHEMA,
        **{name: read[name] for name in copied},
        "versions": {**read["versions"], "kubelet": kubelet.version},
        "stacked_etcd": read["manifests"]["etcd"] is not None,
        "command_line": list(kubelet.layout.command_line),
        "runtime": container_runtime(kubelet, read["programs"]),
        "cgroup": control_groups(kubelet),
        "feature_gates": kubelet.effective["featureGates"],
        "config_file": {
            name: value for name, value in (kubelet.layout.config or {}).items() if name not in SECRET_FIELDS
        },
        "event_record_qps": kubelet.configured.get("eventRecordQPS"),
        "static_pod_references": {
            path: references for path, text in read["static_pods"].items() if (references := api_references(text))
        },
        "patches_directory": patches_directory,
        "tuning": {name: kubelet.effective[name] for name in MANAGED},
        "tuning_sources": {name: kubelet.sources[name] for name in MANAGED},
        # kubeadm has rewritten the files for a kubelet that is yet to be started, and those of before were compared
        "differences": [] if read["kubeadm_began"] else [asdict(each) for each in differences(kubelet, running)],
        "disk": _disk(read, kubelet.runtime.name, by_packages),
        "problems": [*to_dicts(problems), *read["obstacles"]],
    }


def _disk(read: t.Mapping[str, t.Any], runtime: str, by_packages: bool) -> list[Facts]:
    """The free space in MB that the upgrade needs on each file system that it writes to, and what is free."""
    control_plane = read["control_plane"]
    database = read["etcd_database_mb"] if control_plane else 0
    needs = [
        (HOME, _PROGRAMS_MB * (2 if by_packages else 1) + database),
        (RUNTIME_FOLDERS.get(runtime, "/var/lib"), _IMAGES_MB if control_plane else _IMAGES_MB // 4),
    ]
    if control_plane:
        needs.append((KUBERNETES, 2 * database))  # kubeadm copies etcd's data to /etc/kubernetes/tmp
    systems: dict[int, Facts] = {}
    for path, megabytes in needs:
        space = read["free_space"][path]
        entry = systems.setdefault(space["device"], {"paths": [], "needed_mb": 0, "free_mb": space["free_mb"]})
        entry["paths"].append(path)
        entry["needed_mb"] += megabytes
    return list(systems.values())
