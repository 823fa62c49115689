# SPDX-License-Identifier: GPL-3.0-or-later
"""What an upgrade reads from the Kubernetes API, as plain data."""

from __future__ import annotations

import re
import time
import typing as t
from collections.abc import Sequence

from ansible_collections.kubepin.tuning.plugins.module_utils.control.cluster.api import (
    ApiError,
    JsonObject,
    KubernetesApi,
    namespace_path,
)
from ansible_collections.kubepin.tuning.plugins.module_utils.control.cluster.drain import plan_drain
from ansible_collections.kubepin.tuning.plugins.module_utils.control.cluster.mark import UPGRADE, Mark, mark_of
from ansible_collections.kubepin.tuning.plugins.module_utils.control.cluster.node import node_facts, work_facts
from ansible_collections.kubepin.tuning.plugins.module_utils.control.cluster.process import is_running, this_process
from ansible_collections.kubepin.tuning.plugins.module_utils.control.kubelet.yaml_text import YamlError, parse_yaml_text
from ansible_collections.kubepin.tuning.plugins.module_utils.control.upgrade.preemption import preemptions
from ansible_collections.kubepin.tuning.plugins.module_utils.control.upgrade.removed_apis import (
    READ_IN,
    REMOVED,
    RemovedApi,
    old_objects,
)

_METRIC = re.compile(r"^apiserver_requested_deprecated_apis\{(.*)\} [1-9]", re.MULTILINE)
_LABEL = re.compile(r'(\w+)="([^"]*)"')
_FIELD = re.compile(
    r"^(apiVersion|cgroupDriver|imageRepository|kubernetesVersion|failCgroupV1):\s*[\"']?([^\s\"']+)", re.MULTILINE
)
_COMPONENTS = {
    "kube-apiserver": "apiServer",
    "kube-controller-manager": "controllerManager",
    "kube-scheduler": "scheduler",
}
"""Component -> its field in kubeadm's ClusterConfiguration."""
_CONTROL_PLANE_LABELS = ("node-role.kubernetes.io/control-plane", "node-role.kubernetes.io/master")


class UpgradeApi(KubernetesApi):
    """The API with the additional queries of an upgrade."""

    def versions(self, gpu_resource: str, run: str) -> dict[str, t.Any]:
        """The present state of the cluster, for the run of this name."""
        mine = Mark(UPGRADE, run, process=this_process())
        config = self._config_map("kubeadm-config") or {}
        return {
            "api_server": str(self._get("/version")["gitVersion"]),
            "nodes": [self._node(node, gpu_resource, mine) for node in self._list("/api/v1/nodes")],
            "api_servers": self._static_pods("kube-apiserver"),
            "kubeadm": _fields(config.get("ClusterConfiguration", "")),
            "arguments": component_arguments(config.get("ClusterConfiguration", "")),
            "kube_proxy": self._kube_proxy(),
        }

    def obstacles(self, drain: dict[str, bool], minors: Sequence[int]) -> dict[str, t.Any]:
        """What may prevent the upgrade.

        :param minors: the minors of 1.x on the upgrade path, whose removed APIs are searched for
        """
        config_maps = {
            item["metadata"]["name"]: (item.get("data") or {}).get("kubelet", "")
            for item in self._list("/api/v1/namespaces/kube-system/configmaps")
            if item["metadata"]["name"].startswith("kubelet-config")
        }
        nodes = self._list("/api/v1/nodes")
        pods = {node["metadata"]["name"]: self.pods_on(node["metadata"]["name"]) for node in nodes}
        drains = self._drains(pods, drain)
        leaving = {name: [f"{pod['namespace']}/{pod['name']}" for pod in d["evicted"]] for name, d in drains.items()}
        return {
            "kubelet_configs": {name: _fields(text) for name, text in config_maps.items()},
            "kubelet_fields": {name: _whole(text) for name, text in config_maps.items()},
            "kubelet_gates": {name: sorted(_mapping(text, "featureGates")) for name, text in config_maps.items()},
            "deprecated_requests": self._deprecated_requests(),
            "old_objects": [entry for api in REMOVED if api.minor in minors for entry in self._old_objects(api)],
            "drains": drains,
            "preemptions": preemptions(nodes, pods, leaving),
        }

    @staticmethod
    def _node(node: JsonObject, gpu_resource: str, mine: Mark) -> dict[str, t.Any]:
        facts = node_facts(node, None, None, gpu_resource)
        metadata, mark = node["metadata"], mark_of(node)
        work = work_facts(node, mine, time.time(), is_running)
        return {
            **{name: facts[name] for name in ("name", "ready", "ready_reason", "unschedulable", "boot_id")},
            "kubelet": facts["kubelet_version"],
            "runtime": node["status"]["nodeInfo"]["containerRuntimeVersion"],
            "control_plane": any(label in (metadata.get("labels") or {}) for label in _CONTROL_PLANE_LABELS),
            "in_progress": mark is not None and mark.purpose == UPGRADE,
            "occupied": work["problems"],
            "notes": work["notes"],
            "gpu": facts["allocatable"]["gpu"],
        }

    def _config_map(self, name: str) -> dict[str, str] | None:
        found = self.find(f"{namespace_path('kube-system')}/configmaps/{name}")
        return found.get("data") if found else None

    def _static_pods(self, component: str) -> dict[str, str]:
        """Node -> version of the component on it, from the image's tag."""
        pods = self._list("/api/v1/namespaces/kube-system/pods", labelSelector=f"component={component}")
        return {
            pod["spec"]["nodeName"]: _tag(pod["spec"]["containers"][0]["image"])
            for pod in pods
            if pod["spec"].get("nodeName")
        }

    def _kube_proxy(self) -> str | None:
        found = self.find("/apis/apps/v1/namespaces/kube-system/daemonsets/kube-proxy")
        return _tag(found["spec"]["template"]["spec"]["containers"][0]["image"]) if found else None

    def _deprecated_requests(self) -> list[dict[str, str]]:
        """Requests since an API server's start for APIs that a later release no longer serves (1.19 and newer)."""
        try:
            text = self._request("GET", "/metrics")
        except ApiError as error:
            if error.status in (403, 404):
                return []
            raise
        return [dict(_LABEL.findall(labels)) for labels in _METRIC.findall(text)]

    def _old_objects(self, api: RemovedApi) -> list[dict[str, t.Any]]:
        """The objects that were last written with a removed API version, or that the server has in no other version.

        They are read in another version where there is one: reading the old version would itself count as a request for it.
        """
        group = READ_IN.get(api.group, api.group)
        served = self.find(f"/apis/{group}")
        if served is None:
            return []
        names = [served["preferredVersion"]["version"], *(each["version"] for each in served["versions"])]
        others = [name for name in dict.fromkeys(names) if (group, name) != (api.group, api.version)]
        for version in [*others, *([api.version] if group == api.group else [])]:
            objects = self._list_if_served(f"/apis/{group}/{version}/{api.resource}")
            if objects is not None:
                return old_objects(api, objects, version if version in others else None)
        return []

    def _list_if_served(self, path: str) -> list[JsonObject] | None:
        try:
            return self._list(path)
        except ApiError as error:
            if error.status == 404:
                return None
            raise

    def _drains(self, pods: dict[str, list[JsonObject]], drain: dict[str, bool]) -> dict[str, dict[str, t.Any]]:
        budgets, daemon_sets = self.disruption_budgets(), self.daemon_sets()
        return {name: plan_drain(on_it, budgets, daemon_sets, **drain).to_dict() for name, on_it in pods.items()}


def _fields(text: str) -> dict[str, str]:
    """The few top-level scalars of a YAML configuration that an upgrade uses."""
    return dict(_FIELD.findall(text))


def component_arguments(text: str) -> dict[str, dict[str, str]]:
    """Component -> its extra arguments in kubeadm's ClusterConfiguration, which has them as a mapping, or since v1beta4 as
    a list of names and values; empty if they cannot be read."""
    found = {}
    for component, field in _COMPONENTS.items():
        given = _mapping(text, field).get("extraArgs")
        listed = [item for item in given if isinstance(item, dict)] if isinstance(given, list) else []
        pairs = given.items() if isinstance(given, dict) else [(item.get("name"), item.get("value")) for item in listed]
        found[component] = {str(name): str(value) for name, value in pairs}
    return found


def _mapping(text: str, field: str) -> dict[str, t.Any]:
    """A mapping in a YAML configuration; empty if it is not there or cannot be read."""
    value = _whole(text).get(field)
    return value if isinstance(value, dict) else {}


def _whole(text: str) -> dict[str, t.Any]:
    """A YAML configuration; empty if it cannot be read."""
    try:
        whole = parse_yaml_text(text).value
    except YamlError:
        return {}
    return whole if isinstance(whole, dict) else {}


def _tag(image: str) -> str:
    return image.rsplit(":", 1)[-1].partition("@")[0]
