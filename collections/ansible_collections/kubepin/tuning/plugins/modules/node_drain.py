#!/usr/bin/python
# GNU General Public License v3.0+ (https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
---
module: node_drain
short_description: Evict a node's pods as kubectl drain does, and wait until they are gone; uncordon the node
version_added: 1.0.0
author: The kubepin developers (@kubepin)
description:
  - Evicts exactly the pods that M(kubepin.tuning.node_api_info) names in RV(kubepin.tuning.node_api_info#module:node.drain.evicted),
    each one once. Pods that come to the node meanwhile are named in RV(arrived).
  - Fails before the first eviction if a pod has no controller or keeps data in emptyDir volumes, unless that is
    allowed.
  - Retries an eviction that a disruption budget currently forbids until O(timeout). M(kubernetes.core.k8s_drain)
    instead stops at the first one, and succeeds even if a pod does not go away.
  - Sets the cordon and the annotation in one patch, so that neither exists without the other. Of two runs that try at
    the same time, one fails.
  - Outages of the API of up to a minute, or up to O(timeout), do not end a drain.
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
    description:
      - V(drain) evicts the pods.
      - V(cordon) only cordons the node; this needs O(cordon_as).
      - V(uncordon) uncordons the node and removes the annotation C(kubepin.io/cordoned).
    type: str
    choices: [drain, cordon, uncordon]
    default: drain
  cordon_as:
    description:
      - The purpose of the work, such as V(present) or V(upgrade).
      - With O(state=drain) and O(state=cordon), cordon the node first, and set its annotation C(kubepin.io/cordoned) to
        an object of purpose, O(run), host and time, so that a later run knows whose cordon it is.
      - Fails, and changes nothing, if another run has marked the node and may still be working on it - that is, if its
        mark is for work of another kind, or its time is not over and its process is not known to have ended.
      - Fails, and changes nothing, if the node is cordoned without a mark.
      - Without it, whether the node is schedulable does not change.
      - With O(state=uncordon), a node with the mark of another run is left as it is. Without it, any mark is removed.
    type: str
  run:
    description: The name of this run, for the mark.
    type: str
    default: ""
  take_over:
    description: Cordon the node even if another run may still be working on it.
    type: bool
    default: false
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
    cordon_as: present
    run: 2026-11-27T09-33-02Z
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
arrived:
  description: The pods that came to the node during the drain, and were not evicted. C(text) says whether that matters.
  returned: success of a drain
  type: list
  elements: dict
  sample:
    - namespace: monitoring
      name: agent-7d4b9
      owner: ReplicaSet/agent
      text: >-
        pod monitoring/agent-7d4b9 came to the node during the drain, because it tolerates
        node.kubernetes.io/unschedulable. That does not matter: it keeps running while the kubelet restarts, as pods of
        DaemonSets do.
seconds:
  description: How long it took.
  returned: success of a drain
  type: float
remaining:
  description: The pods that are still on the node, each with the reason.
  returned: failure
  type: list
  elements: str
problems:
  description: Why the module failed, the first cause first, as C(code), C(subject), C(finding), C(remedy), C(waivable) and C(text).
  returned: failure
  type: list
  elements: dict
"""

import json
import socket
import time
import typing as t
from dataclasses import dataclass
from pathlib import Path

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.kubepin.tuning.plugins.module_utils.common.errors import TuningError
from ansible_collections.kubepin.tuning.plugins.module_utils.control.cluster import problems
from ansible_collections.kubepin.tuning.plugins.module_utils.control.cluster.api import (
    API_ARGUMENTS,
    ApiError,
    Eviction,
    KubernetesApi,
    connect,
)
from ansible_collections.kubepin.tuning.plugins.module_utils.control.cluster.cordon import cordon, uncordon
from ansible_collections.kubepin.tuning.plugins.module_utils.control.cluster.drain import (
    DrainPlan,
    Entry,
    arrivals,
    plan_drain,
)
from ansible_collections.kubepin.tuning.plugins.module_utils.control.cluster.mark import Mark, new_mark
from ansible_collections.kubepin.tuning.plugins.module_utils.control.cluster.process import this_process
from ansible_collections.kubepin.tuning.plugins.module_utils.control.module import Module, fail_for

ARGUMENT_SPEC: dict[str, t.Any] = {
    **API_ARGUMENTS,
    "node": {"type": "str", "required": True},
    "state": {"type": "str", "choices": ["drain", "cordon", "uncordon"], "default": "drain"},
    "cordon_as": {"type": "str"},
    "run": {"type": "str", "default": ""},
    "take_over": {"type": "bool", "default": False},
    "delete_emptydir_data": {"type": "bool", "default": False},
    "force": {"type": "bool", "default": False},
    "timeout": {"type": "int", "default": 600},
    "progress_file": {"type": "path"},
    "stop_file": {"type": "path"},
}
OPTIONS: dict[str, t.Any] = {
    "argument_spec": ARGUMENT_SPEC,
    "required_if": [("state", "cordon", ["cordon_as"])],
}

Pod = dict[str, t.Any]


@dataclass(frozen=True)
class Drained:
    """How a drain ended: the pods that it has evicted, and those that came meanwhile."""

    evicted: list[Entry]
    arrived: list[Entry]


class Drain:
    """The eviction of the pods that a node has at the start, each by its UID and once, as `kubectl drain` does it."""

    def __init__(self, api: KubernetesApi, node: str, allowed: dict[str, bool]) -> None:
        self._api = api
        self._node = node
        self._allowed = allowed

    def plan(self) -> tuple[DrainPlan, list[Pod]]:
        """The plan of the drain, and the pods' objects. Disruption budgets are left to the API server.

        :raises TuningError: if a pod must not be evicted at all
        """
        pods = self._api.pods_on(self._node)
        plan = plan_drain(pods, [], self._api.daemon_sets(), **self._allowed)
        if plan.problems:
            raise TuningError(*plan.problems)
        return plan, pods

    def run(self, timeout: float, tell: t.Callable[[list[str]], None], stop: t.Callable[[], bool]) -> Drained:
        """Evict the pods that are there now, and wait until they are gone.

        :param tell: called with the remaining pods, each with the reason
        :param stop: called before each round of evictions; whether to end the drain
        :raises TuningError: naming every pod that remains after *timeout* seconds or on *stop*, with the reason
        """
        deadline = time.monotonic() + timeout
        remaining: list[str] = []

        def on_outage(error: ApiError) -> None:
            self._end_if(stop, remaining)
            tell([*remaining, f"the API server does not answer: {error.answer}"])

        try:
            with self._api.until(deadline, on_outage):
                return self._run(deadline, timeout, remaining, tell, stop)
        except ApiError as error:
            error.facts["remaining"] = list(remaining)
            raise

    def _run(
        self,
        deadline: float,
        timeout: float,
        remaining: list[str],
        tell: t.Callable[[list[str]], None],
        stop: t.Callable[[], bool],
    ) -> Drained:
        """:param remaining: kept up to date with the remaining pods, each with the reason"""
        plan, pods = self.plan()
        api_version = self._api.eviction_version()
        uids = {_name_of(pod): str(pod["metadata"]["uid"]) for pod in pods}
        due = {uids[_entry_name(entry)]: entry for entry in plan.evicted}
        leaving = {uids[_entry_name(entry)]: entry for entry in plan.terminating}
        first = {*due, *leaving}
        evicted: list[Entry] = []
        while True:
            here = {str(pod["metadata"]["uid"]): pod for pod in pods}
            remaining[:] = [f"{_entry_name(leaving[uid])} is still terminating" for uid in leaving if uid in here]
            asked = [uid for uid in due if uid in here]
            self._end_if(stop, [*remaining, *(f"{_entry_name(due[uid])} is not evicted yet" for uid in asked)])
            for uid in asked:
                answer = self._evict(here[uid], api_version)
                if answer is Eviction.ACCEPTED:
                    evicted.append(due[uid])
                    leaving[uid] = due.pop(uid)
                    remaining.append(f"{_entry_name(leaving[uid])} was just evicted")
                else:
                    remaining.append(f"{_entry_name(due[uid])}: {answer.value}")
            if not remaining:
                return Drained(evicted, arrivals(pods, first, self._api.daemon_sets()))
            tell(remaining)
            if time.monotonic() > deadline:
                raise TuningError(problems.drain_timed_out(self._node, timeout, remaining), remaining=list(remaining))
            time.sleep(1)
            pods = self._api.pods_on(self._node)

    def _evict(self, pod: Pod, api_version: str) -> Eviction:
        """A pod that is already being deleted does not have to be evicted."""
        return Eviction.ACCEPTED if pod["metadata"].get("deletionTimestamp") else self._api.evict_pod(pod, api_version)

    def _end_if(self, stop: t.Callable[[], bool], remaining: list[str]) -> None:
        """:raises TuningError: if the drain is to stop while pods remain"""
        if remaining and stop():
            raise TuningError(problems.drain_stopped(self._node, remaining), remaining=remaining)


def _name_of(pod: Pod) -> str:
    return f"{pod['metadata']['namespace']}/{pod['metadata']['name']}"


def _entry_name(entry: Entry) -> str:
    return f"{entry['namespace']}/{entry['name']}"


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


def drain(module: Module, api: KubernetesApi) -> dict[str, t.Any]:
    """Evict the node's pods.

    :returns: the module's return values
    :raises TuningError: if a pod must not be evicted, or remains after the timeout
    """
    params = module.params
    started = time.monotonic()
    this = Drain(api, params["node"], {name: params[name] for name in ("delete_emptydir_data", "force")})
    progress = ProgressFile(params["progress_file"])
    stop_file = params["stop_file"]
    try:
        drained = (
            Drained(this.plan()[0].evicted, [])
            if module.check_mode
            else this.run(params["timeout"], progress.tell, lambda: bool(stop_file) and Path(stop_file).is_file())
        )
    finally:
        progress.remove()
    return {
        "changed": bool(drained.evicted),
        "evicted": drained.evicted,
        "arrived": drained.arrived,
        "seconds": round(time.monotonic() - started, 1),
    }


def mark(params: dict[str, t.Any]) -> Mark | None:
    """The mark that the parameters ask for."""
    if params["cordon_as"] is None:
        return None
    return new_mark(
        params["cordon_as"], params["run"], socket.gethostname(), this_process(), params["timeout"], time.time()
    )


def run(module: Module) -> None:
    """Cordon the node if requested, and drain it; or uncordon it."""
    params = module.params
    name, mine = params["node"], mark(params)
    result: dict[str, t.Any] = {"changed": False}
    try:
        api = connect(module)
        if params["state"] == "uncordon":
            result["changed"] = uncordon(api, name, mine, module.check_mode)
        elif mine is not None:
            result["changed"] = cordon(api, name, mine, take_over=params["take_over"], check_mode=module.check_mode)
        if params["state"] == "drain":
            drained = drain(module, api)
            result = {**drained, "changed": drained["changed"] or result["changed"]}
    except (TuningError, OSError) as error:
        fail_for(module, error)
    module.exit_json(**result)


def main() -> None:
    run(AnsibleModule(supports_check_mode=True, **OPTIONS))


if __name__ == "__main__":
    main()
