# SPDX-License-Identifier: GPL-3.0-or-later
"""What a format's installer passes on to the kubelet, from the files that `kubepin emit` writes for it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import yaml
from ansible_collections.kubepin.tuning.plugins.module_utils.common.kubelet.flags import extra_args_of

_OF_KUBESPRAY = {
    "kubelet_cpu_manager_policy": "cpuManagerPolicy",
    "kubelet_cpu_manager_policy_options": "cpuManagerPolicyOptions",
    "kubelet_topology_manager_policy": "topologyManagerPolicy",
    "kubelet_topology_manager_scope": "topologyManagerScope",
}
"""Variable -> the field that kubespray's template kubelet-config.v1beta1.yaml.j2 makes of it."""

_OF_SNAPS = {"microk8s": "extraKubeletArgs", "k8s-snap": "extra-node-kubelet-args"}
"""Format -> the key of its snap's file under which a flag of the kubelet is a key."""


@dataclass(frozen=True)
class Delivery:
    """What arrives at the kubelet."""

    config: Mapping[str, Any] = field(default_factory=dict)
    """Fields of its configuration file."""
    drop_in: str | None = None
    """The text of a file in its drop-in directory."""
    flags: tuple[str, ...] = ()


def delivered(name: str, files: Mapping[str, str]) -> Delivery:
    """What arrives from the files of a format.

    :param files: path -> text
    """
    if name == "cloud-init":
        written = yaml.safe_load(files["user-data.yaml"])["write_files"]
        return delivered("drop-in", {file["path"].lstrip("/"): file["content"] for file in written})
    if name == "drop-in":
        arguments = extra_args_of(files["etc/default/kubelet"])
        folders = [argument.partition("=")[2] for argument in arguments if argument.startswith("--config-dir=")]
        if folders:
            return Delivery(drop_in=files[f"{folders[0].lstrip('/')}/90-kubepin.conf"])
        return Delivery(flags=tuple(arguments))
    (text,) = files.values()
    if name in _OF_SNAPS:
        arguments = yaml.safe_load(text)[_OF_SNAPS[name]]
        return Delivery(flags=tuple(f"{flag}={value}" for flag, value in arguments.items()))
    if name in ("rke2", "k3s"):
        if f"var/lib/rancher/{name}/agent/etc/kubelet.conf.d/90-kubepin.conf" in files:
            return Delivery(drop_in=text)
        return Delivery(flags=tuple(f"--{argument}" for argument in yaml.safe_load(text)["kubelet-arg+"]))
    return Delivery(config=_config(name, yaml.safe_load(text)))


def _config(name: str, content: Any) -> Mapping[str, Any]:
    if name == "kubeadm-patch":
        return {field: value for field, value in content.items() if field not in ("apiVersion", "kind")}
    if name == "kubespray":
        extra = content.pop("kubelet_config_extra_args")
        return {**extra, **{_OF_KUBESPRAY[variable]: value for variable, value in content.items()}}
    if name == "cluster-api":
        spec = content["spec"]["template"]["spec"]
        (file,) = spec["files"]
        folder, _slash, patch = file["path"].rpartition("/")
        assert spec["joinConfiguration"]["patches"]["directory"] == folder
        assert patch.startswith("kubeletconfiguration")
        return _config("kubeadm-patch", yaml.safe_load(file["content"]))
    keys = {
        "k0s": ("spec", "workerProfiles", 0, "values"),
        "eks-nodeadm": ("spec", "kubelet", "config"),
        "kops": ("spec", "kubelet"),
        "talos": ("machine", "kubelet", "extraConfig"),
        "openshift": ("spec", "kubeletConfig"),
    }[name]
    for key in keys:
        content = content[key]
    return dict(content)
