#!/usr/bin/python
# GNU General Public License v3.0+ (https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
---
module: node_drain
short_description: Evict a node's pods as kubectl drain does, and wait until they are gone; uncordon the node
version_added: 0.1.0
author: The kubepin developers (@kubepin)
description:
  - Evicts exactly the pods that M(kubepin.tuning.node_api_info) names in RV(kubepin.tuning.node_api_info#module:node.drain.evicted).
  - Fails before the first eviction if a pod has no controller or keeps data in emptyDir volumes, unless that is
    allowed.
  - Retries an eviction that a disruption budget currently forbids until O(timeout). M(kubernetes.core.k8s_drain)
    instead stops at the first one, and succeeds even if a pod does not go away.
  - Sets the cordon and the annotation in one patch, so that neither exists without the other.
extends_documentation_fragment:
  - kubepin.tuning.attributes
  - kubepin.tuning.api
attributes:
  check_mode:
    support: full
  diff_mode:
    support: none
options:
  node:
    description: The node's name in Kubernetes.
    type: str
    required: true
  state:
    description: Whether to drain the node, or to uncordon it and to remove the annotation C(kubepin.io/cordoned).
    type: str
    choices: [drain, uncordon]
    default: drain
  cordon_as:
    description:
      - Cordon the node first, and set its annotation C(kubepin.io/cordoned) to this text, so that a later run knows
        whose cordon it is.
      - Without it, whether the node is schedulable does not change.
    type: str
  delete_emptydir_data:
    description: Pods may lose the data in their emptyDir volumes.
    type: bool
    default: false
  force:
    description: Pods without a controller may be deleted, although nothing would start them again.
    type: bool
    default: false
  timeout:
    description: Seconds within which all pods must be gone.
    type: int
    default: 600
  progress_file:
    description:
      - A file on the host that runs the module, with an object C({remaining}), a list as RV(remaining). It is updated
        while pods remain, and removed at the end.
    type: path
  stop_file:
    description:
      - As soon as this file exists, the module stops evicting pods and fails, naming the remaining ones.
    type: path
seealso:
  - module: kubepin.tuning.node_api_info
  - module: kubernetes.core.k8s_drain
"""

EXAMPLES = r"""
- name: Cordon the node and evict its pods
  kubepin.tuning.node_drain:
    node: gpu-01
    cordon_as: maintenance
    timeout: 900
  delegate_to: localhost

- name: Uncordon the node
  kubepin.tuning.node_drain:
    node: gpu-01
    state: uncordon
  delegate_to: localhost
"""

RETURN = r"""
evicted:
  description: The pods that were evicted, or would be in check mode.
  returned: success of a drain
  type: list
  elements: dict
  sample: [{namespace: ml, name: trainer-0, owner: StatefulSet/trainer}]
seconds:
  description: How long it took.
  returned: success of a drain
  type: float
remaining:
  description: The pods that are still on the node, each with the reason.
  returned: failure
  type: list
  elements: str
"""

import json
import time
import typing as t
from pathlib import Path

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.kubepin.tuning.plugins.module_utils.common.errors import TuningError
from ansible_collections.kubepin.tuning.plugins.module_utils.control.cluster.api import (
    API_ARGUMENTS,
    KubernetesApi,
    connect,
)
from ansible_collections.kubepin.tuning.plugins.module_utils.control.cluster.drain import DrainPlan, plan_drain
from ansible_collections.kubepin.tuning.plugins.module_utils.control.cluster.node import CORDON_ANNOTATION
from ansible_collections.kubepin.tuning.plugins.module_utils.control.module import Module

ARGUMENT_SPEC: dict[str, t.Any] = {
    **API_ARGUMENTS,
    "node": {"type": "str", "required": True},
    "state": {"type": "str", "choices": ["drain", "uncordon"], "default": "drain"},
    "cordon_as": {"type": "str"},
    "delete_emptydir_data": {"type": "bool", "default": False},
    "force": {"type": "bool", "default": False},
    "timeout": {"type": "int", "default": 600},
    "progress_file": {"type": "path"},
    "stop_file": {"type": "path"},
}
OPTIONS: dict[str, t.Any] = {"argument_spec": ARGUMENT_SPEC}

Pods = dict[tuple[str, str], dict[str, t.Any]]


def uncordon(api: KubernetesApi, name: str, check_mode: bool) -> bool:
    """Uncordon the node and remove the annotation. Returns whether anything was, or would be, changed."""
    node = api.node(name)
    is_marked = CORDON_ANNOTATION in (node["metadata"].get("annotations") or {})
    if not is_marked and not node["spec"].get("unschedulable"):
        return False
    if not check_mode:
        api.patch_node(name, {"metadata": {"annotations": {CORDON_ANNOTATION: None}}, "spec": {"unschedulable": None}})
    return True


class Drain:
    """The eviction of one node's pods."""

    def __init__(self, api: KubernetesApi, node: str, allowed: dict[str, bool]) -> None:
        self._api = api
        self._node = node
        self._allowed = allowed

    def cordon(self, mark: str, check_mode: bool) -> bool:
        """Cordon the node and record whose cordon it is. Returns whether anything was, or would be, changed."""
        node = self._api.node(self._node)
        annotations = node["metadata"].get("annotations") or {}
        if node["spec"].get("unschedulable") and annotations.get(CORDON_ANNOTATION) == mark:
            return False
        if not check_mode:
            self._api.patch_node(
                self._node, {"metadata": {"annotations": {CORDON_ANNOTATION: mark}}, "spec": {"unschedulable": True}}
            )
        return True

    def plan(self) -> tuple[DrainPlan, Pods]:
        """The plan of the drain, and the pods' objects. Disruption budgets are left to the API server.

        :raises TuningError: if a pod must not be evicted at all
        """
        pods = self._api.pods_on(self._node)
        plan = plan_drain(pods, [], self._api.daemon_sets(), **self._allowed)
        if plan.problems:
            raise TuningError.of(plan.problems)
        return plan, {(pod["metadata"]["namespace"], pod["metadata"]["name"]): pod for pod in pods}

    def run(
        self, timeout: float, tell: t.Callable[[list[str]], None], stop: t.Callable[[], bool]
    ) -> list[dict[str, str | None]]:
        """Evict pods until none is left to evict or to wait for.

        :param tell: called with the remaining pods, each with the reason
        :param stop: called before each round of evictions; whether to end the drain
        :raises TuningError: naming every pod that remains after *timeout* seconds or on *stop*, with the reason
        """
        deadline = time.monotonic() + timeout
        api_version = self._api.eviction_version()
        asked: dict[str, dict[str, str | None]] = {}
        while True:
            plan, pods = self.plan()
            if stop() and (
                left := [f"{entry['namespace']}/{entry['name']}" for entry in (*plan.evicted, *plan.terminating)]
            ):
                raise TuningError(
                    f"the drain of node {self._node} was stopped as asked, with {', '.join(left)} still there.",
                    remaining=left,
                )
            remaining = [f"{entry['namespace']}/{entry['name']} is still terminating" for entry in plan.terminating]
            for entry in plan.evicted:
                pod = pods[str(entry["namespace"]), str(entry["name"])]
                if self._api.evict_pod(pod, api_version):
                    asked[pod["metadata"]["uid"]] = entry
                    remaining.append(f"{entry['namespace']}/{entry['name']} was just evicted")
                else:
                    remaining.append(f"{entry['namespace']}/{entry['name']}: its disruption budget allows no eviction")
            if not remaining:
                return list(asked.values())
            tell(remaining)
            if time.monotonic() > deadline:
                raise TuningError(
                    f"node {self._node} was not empty after {timeout:g} s: {'; '.join(remaining)}. Allow more time, relax the "
                    "budgets, or look at the pods' finalizers and grace periods.",
                    remaining=remaining,
                )
            time.sleep(1)


class ProgressFile:
    """Writes to a file what a drain is waiting for; does nothing without a path."""

    def __init__(self, path: str | None) -> None:
        self._path = Path(path) if path else None

    def tell(self, remaining: list[str]) -> None:
        """Replace the contents of the file atomically."""
        if self._path:
            new = self._path.with_suffix(".new")
            new.write_text(json.dumps({"remaining": remaining}))
            new.replace(self._path)

    def remove(self) -> None:
        """Remove the file."""
        if self._path:
            self._path.unlink(missing_ok=True)


def drain(module: Module) -> dict[str, t.Any]:
    """Cordon the node, if requested, and evict its pods.

    :returns: the module's return values
    :raises TuningError: if a pod must not be evicted, or remains after the timeout
    """
    params = module.params
    started = time.monotonic()
    allowed = {name: params[name] for name in ("delete_emptydir_data", "force")}
    progress = ProgressFile(params["progress_file"])
    stop_file = params["stop_file"]
    try:
        this = Drain(connect(module), params["node"], allowed)
        cordoned = params["cordon_as"] is not None and this.cordon(params["cordon_as"], module.check_mode)
        evicted = (
            this.plan()[0].evicted
            if module.check_mode
            else this.run(params["timeout"], progress.tell, lambda: bool(stop_file) and Path(stop_file).is_file())
        )
    finally:
        progress.remove()
    return {
        "changed": cordoned or bool(evicted),
        "evicted": evicted,
        "seconds": round(time.monotonic() - started, 1),
    }


def run(module: Module) -> None:
    """Drain the node, or uncordon it."""
    try:
        if module.params["state"] == "drain":
            result = drain(module)
        else:
            result = {"changed": uncordon(connect(module), module.params["node"], module.check_mode)}
    except (TuningError, OSError) as error:
        module.fail_json(msg=str(error), **getattr(error, "details", {}))
    module.exit_json(**result)


def main() -> None:
    run(AnsibleModule(supports_check_mode=True, **OPTIONS))


if __name__ == "__main__":
    main()
