# SPDX-License-Identifier: GPL-3.0-or-later
"""The namespace and the ConfigMap that all benchmark pods share."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping

from ansible_collections.kubepin.tuning.plugins.module_utils.common.errors import TuningError
from ansible_collections.kubepin.tuning.plugins.module_utils.control.benchmark import problems
from ansible_collections.kubepin.tuning.plugins.module_utils.control.cluster.api import (
    JsonObject,
    KubernetesApi,
    namespace_path,
)
from ansible_collections.kubepin.tuning.plugins.module_utils.control.cluster.permissions import (
    POD_SECURITY,
    POD_SECURITY_LABEL,
)
from ansible_collections.kubepin.tuning.plugins.module_utils.control.cluster.verification_pod import (
    MANAGED_BY,
    MANAGED_BY_LABEL,
    is_ours,
)

_LABELS = {MANAGED_BY_LABEL: MANAGED_BY}
_POLL_SECONDS = 0.25


def namespace_manifest(name: str) -> JsonObject:
    """A namespace labelled as kubepin's, with the Pod Security Standard of the benchmark enforced."""
    labels = {**_LABELS, POD_SECURITY_LABEL: POD_SECURITY["benchmark"]}
    return {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": labels}}


def config_map_manifest(namespace: str, name: str, data: Mapping[str, str]) -> JsonObject:
    """A ConfigMap labelled as kubepin's."""
    metadata = {"namespace": namespace, "name": name, "labels": _LABELS}
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": dict(data)}


class BenchmarkNamespace:
    """One namespace and its ConfigMap.

    :param timeout: seconds within which the namespace must be ready, or gone
    :param check_mode: change nothing, but report what would change
    """

    def __init__(self, api: KubernetesApi, namespace: str, config_map: str, timeout: float, check_mode: bool) -> None:
        self._api = api
        self._namespace = namespace
        self._timeout = timeout
        self._check_mode = check_mode
        self._config_map = config_map
        self._path = namespace_path(namespace)
        self._config_maps = f"{self._path}/configmaps"
        self._config_map_path = f"{self._config_maps}/{config_map}"

    def make(self, program: Mapping[str, str]) -> bool:
        """Create what is missing, and update the program. Returns whether anything was, or would be, changed.

        :raises TuningError: if a request fails, or the namespace gets no service account, without which no pod is admitted
        """
        is_new = self._api.find(self._path) is None
        if is_new and self._check_mode:
            return True
        if is_new:
            self._api.create("/api/v1/namespaces", namespace_manifest(self._namespace))
        account = f"{self._path}/serviceaccounts/default"
        self._wait(lambda: self._api.find(account) is not None, "has no service account `default`")
        return self._put_program(program) or is_new

    def reason_to_keep(self) -> str | None:
        """Why neither can be removed: pods of other runs need them."""
        pods = self._api.pods_with_label(self._namespace, f"{MANAGED_BY_LABEL}={MANAGED_BY}")
        names = sorted(pod["metadata"]["name"] for pod in pods)
        return f"pods of other runs are in namespace {self._namespace}: {', '.join(names)}" if names else None

    def remove(self) -> bool:
        """Remove the ConfigMap, and the namespace if it is kubepin's. Returns whether anything was or would be changed.

        :raises TuningError: if a request fails, or the namespace does not go away
        """
        namespace = self._api.find(self._path)
        if namespace is None:
            return False
        if is_ours(namespace):
            if not self._check_mode:
                self._api.delete(self._path)
                self._wait(lambda: self._api.find(self._path) is None, "does not go away: look at its finalizers")
            return True
        if self._api.find(self._config_map_path) is None:
            return False
        if not self._check_mode:
            self._api.delete(self._config_map_path)
        return True

    def _put_program(self, program: Mapping[str, str]) -> bool:
        manifest = config_map_manifest(self._namespace, self._config_map, program)
        found = self._api.find(self._config_map_path)
        if found is not None and found.get("data") == manifest["data"]:
            return False
        if self._check_mode:
            return True
        if found is None:
            self._api.create(self._config_maps, manifest)
        else:
            stale = dict.fromkeys(found.get("data") or {})
            self._api.patch(self._config_map_path, {**manifest, "data": {**stale, **manifest["data"]}})
        return True

    def _wait(self, reached: Callable[[], bool], otherwise: str) -> None:
        deadline = time.monotonic() + self._timeout
        while not reached():
            if time.monotonic() > deadline:
                raise TuningError(problems.namespace_not_ready(self._namespace, self._timeout, otherwise))
            time.sleep(_POLL_SECONDS)
