# SPDX-License-Identifier: GPL-3.0-or-later
"""Whether a kubelet that was started reaches the desired state, and stays in it."""

from __future__ import annotations

import typing as t
from dataclasses import dataclass, field

from ansible_collections.kubepin.tuning.plugins.module_utils.common.cpuset import format_cpuset
from ansible_collections.kubepin.tuning.plugins.module_utils.common.errors import TuningError
from ansible_collections.kubepin.tuning.plugins.module_utils.common.kubelet.checkpoint import StateFileError
from ansible_collections.kubepin.tuning.plugins.module_utils.common.kubelet.cpu_manager_state import (
    CpuManagerState,
    parse_state,
)
from ansible_collections.kubepin.tuning.plugins.module_utils.common.kubelet.start_errors import Cause, first_cause
from ansible_collections.kubepin.tuning.plugins.module_utils.common.switch.changes import (
    DesiredState,
    Endpoint,
    cpu_state_refusal,
)
from ansible_collections.kubepin.tuning.plugins.module_utils.node.transaction.records import SwitchRecord
from ansible_collections.kubepin.tuning.plugins.module_utils.node.transaction.system import Node

POLL_SECONDS = 0.1
HEALTH_POLL_SECONDS = 0.02


@dataclass
class Outcome:
    """How a switch ended on the node."""

    downtime_ms: float
    started_at: float
    """When the kubelet was started, by the node's clock, in seconds since 1970."""
    up_since: float
    """The same by the node's monotonic clock, in seconds."""
    main_pid: int
    """The process that was verified."""
    verified: t.List[str] = field(default_factory=list)


@dataclass(frozen=True)
class PodCpus:
    """The CPUs that a container was seen to run on, to be compared with the kubelet's state file."""

    uid: str
    container: str
    cpus: str


class NotVerified(TuningError):
    """The kubelet did not come up as planned; the message and the details contain the first cause that it logged."""

    def __init__(self, message: str, cause: t.Optional[Cause] = None) -> None:
        quoted = f' The kubelet said: "{cause.line}"' if cause else ""
        means = f" That means: {cause.meaning}." if cause and cause.meaning else ""
        details = {"first_cause": cause.line, "meaning": cause.meaning} if cause else {}
        super().__init__(f"{message}{quoted}{means}", **details)


class Verification:
    """Watches a kubelet that was just started until it reaches the desired state and stays in it."""

    def __init__(self, node: Node, endpoint: Endpoint, timeout: float) -> None:
        self._node = node
        self._endpoint = endpoint
        self._timeout = timeout

    def run(self, expected: DesiredState, stopped_at: float, started_at: float, settle: bool = True) -> Outcome:
        """Wait for the desired state and, with *settle*, check that it lasts.

        :raises NotVerified: with the first cause
        """
        up_since = self._node.monotonic()
        deadline = up_since + self._timeout
        state = self._node.service_state()
        baseline = state.get("NRestarts")  # missing before systemd 235
        outcome: t.Optional[Outcome] = None
        while True:
            if (
                state.get("NRestarts") != baseline
                or state["ActiveState"] not in ("active", "activating")
                or state["SubState"] == "auto-restart"
            ):
                raise self._not_verified("the kubelet does not stay up with these settings.", started_at)
            if outcome is None and not self._comes_up(state):
                missing = f"/healthz does not answer (service {state['ActiveState']}, {state['SubState']})"
            else:
                outcome = outcome or Outcome(
                    (self._node.monotonic() - stopped_at) * 1000, started_at, up_since, int(state["MainPID"])
                )
                problem = self._state_problem(expected)
                if problem:
                    missing = problem
                elif not settle:
                    outcome.verified = [*self._health(outcome), self._sets(expected)]
                    return outcome
                elif self._settled(up_since) and self._healthy():
                    outcome.main_pid = int(state["MainPID"])
                    outcome.verified = [self._uptime(up_since), *self._health(outcome), self._sets(expected)]
                    return outcome
                else:
                    missing = "the kubelet was not up long enough"
                self._node.sleep(POLL_SECONDS)
            if self._node.monotonic() > deadline:
                raise self._not_verified(f"not verified within {self._timeout:g} s: {missing}.", started_at)
            state = self._node.service_state()

    def confirm(
        self, expected: DesiredState, pod: t.Optional[PodCpus], record: t.Optional[SwitchRecord] = None
    ) -> t.List[str]:
        """Check that *record*'s process still runs as expected, was not restarted, and gave the pod its CPUs.

        :raises NotVerified: with the first cause
        """
        if record and record.main_pid is not None and record.up_since is not None:
            if record.boot_id != self._node.boot_id():
                raise NotVerified("the machine was started anew since the switch.")
            started_at = self._node.time() - (self._node.monotonic() - record.up_since)
            while True:
                state = self._node.service_state()
                if state["ActiveState"] != "active" or int(state["MainPID"]) != record.main_pid:
                    raise self._not_verified("the kubelet did not stay up with these settings.", started_at)
                if self._settled(record.up_since):
                    break
                self._node.sleep(POLL_SECONDS)
        if not self._healthy():
            raise NotVerified("/healthz does not answer any more.")
        problem = self._state_problem(expected) or (pod and self._pod_problem(expected, pod))
        if problem:
            raise NotVerified(f"{problem}.")
        return [self._uptime(record.up_since)] if record and record.up_since is not None else []

    def _settled(self, up_since: float) -> bool:
        return self._node.monotonic() - up_since > self._endpoint.stay_up_seconds

    def _comes_up(self, state: t.Mapping[str, str]) -> bool:
        """Whether an active kubelet becomes healthy before the service's state is polled again."""
        until = self._node.monotonic() + POLL_SECONDS
        while self._node.monotonic() < until:
            if state["ActiveState"] == "active" and self._healthy():
                return True
            self._node.sleep(HEALTH_POLL_SECONDS)
        return False

    def _healthy(self) -> bool:
        return self._endpoint.healthz_url is None or self._node.healthy(self._endpoint.healthz_url)

    def _not_verified(self, message: str, started_at: float) -> NotVerified:
        return NotVerified(message, first_cause(self._node.log_since(started_at)))

    def _state_problem(self, expected: DesiredState) -> t.Optional[str]:
        path = self._endpoint.state_paths["cpu_manager"]
        text = self._node.read(path)
        if text is None:
            return f"{path} is not there yet"
        refusal = cpu_state_refusal(text, expected)
        return f"{path} is not as planned: {refusal.reason}" if refusal else None

    def _pod_problem(self, expected: DesiredState, pod: PodCpus) -> t.Optional[str]:
        entry = self._state(expected)["entries"].get(pod.uid, {}).get(pod.container, "no exclusive CPUs")
        if pod.cpus == entry:
            return None
        return (
            f"the probe pod may run on CPUs {pod.cpus}, and the kubelet's state file gives it {entry}: the policy is not in force "
            "for pods. Look at the runtime's log on the node"
        )

    def _uptime(self, up_since: float) -> str:
        return f"service up for {self._node.monotonic() - up_since:.0f} s without a restart"

    def _health(self, outcome: Outcome) -> t.List[str]:
        return [] if self._endpoint.healthz_url is None else [f"/healthz {outcome.downtime_ms:.0f} ms after the stop"]

    def _state(self, expected: DesiredState) -> CpuManagerState:
        text = self._node.read(self._endpoint.state_paths["cpu_manager"]) or ""
        try:
            return parse_state(text, expected.minor, expected.pod_level)
        except StateFileError as exc:
            raise NotVerified(str(exc)) from exc

    def _sets(self, expected: DesiredState) -> str:
        state = self._state(expected)
        if expected.policy != "static":
            return f"state file: policy {state['policy']}"
        reserved = f", reserved {format_cpuset(expected.reserved)}" if expected.reserved else ""
        return f"state file: policy {state['policy']}, shared pool {state['default_cpus']}{reserved}"
