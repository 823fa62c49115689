# SPDX-License-Identifier: GPL-3.0-or-later
"""Whether a kubelet that was started reaches the desired state, and stays in it."""

from __future__ import annotations

import typing as t
from dataclasses import dataclass, field
from functools import partial

from ansible_collections.kubepin.tuning.plugins.module_utils.common.cpuset import format_cpuset
from ansible_collections.kubepin.tuning.plugins.module_utils.common.errors import TuningError
from ansible_collections.kubepin.tuning.plugins.module_utils.common.kubelet.checkpoint import StateFileError
from ansible_collections.kubepin.tuning.plugins.module_utils.common.kubelet.cpu_manager_state import (
    CpuManagerState,
    parse_state,
)
from ansible_collections.kubepin.tuning.plugins.module_utils.common.kubelet.start_errors import Cause, first_cause
from ansible_collections.kubepin.tuning.plugins.module_utils.common.problem import Problem
from ansible_collections.kubepin.tuning.plugins.module_utils.common.switch import problems
from ansible_collections.kubepin.tuning.plugins.module_utils.common.switch.changes import (
    DesiredState,
    Endpoint,
    cpu_state_refusal,
)
from ansible_collections.kubepin.tuning.plugins.module_utils.node.transaction.records import SwitchRecord
from ansible_collections.kubepin.tuning.plugins.module_utils.node.transaction.system import Node

POLL_SECONDS = 0.1
HEALTH_POLL_SECONDS = 0.02


_OfLog = t.Callable[[str, str], Problem]


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
    lasting: t.List[str] = field(default_factory=list)
    """Those of `verified` that a confirmation determines again, such as how long the service has been up."""


@dataclass(frozen=True)
class PodCpus:
    """The CPUs that a container was seen to run on, to be compared with the kubelet's state file."""

    uid: str
    container: str
    cpus: str


class NotVerified(TuningError):
    """The kubelet did not come up as planned; the problem and the facts contain the first cause that it logged."""

    @classmethod
    def logged(cls, of: _OfLog, cause: t.Optional[Cause]) -> NotVerified:
        """:param of: the problem, by the first cause that the kubelet logged and its meaning"""
        if cause is None:
            return cls(of("", ""))
        return cls(of(cause.line, cause.meaning or ""), first_cause=cause.line, meaning=cause.meaning)


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
                raise self._not_verified(problems.kubelet_not_staying_up, started_at)
            if outcome is None and not self._comes_up(state):
                missing = f"/healthz does not answer (service {state['ActiveState']}, {state['SubState']})"
            else:
                outcome = outcome or Outcome(
                    (self._node.monotonic() - stopped_at) * 1000, started_at, up_since, int(state["MainPID"])
                )
                problem = self._state_problem(expected)
                if problem:
                    missing = f"{problem.subject} {problem.finding}"
                elif not settle:
                    outcome.verified = [*self._health(outcome), self._sets(expected)]
                    return outcome
                elif self._settled(up_since) and self._healthy():
                    outcome.main_pid = int(state["MainPID"])
                    outcome.lasting = [self._uptime(up_since)]
                    outcome.verified = [*outcome.lasting, *self._health(outcome), self._sets(expected)]
                    return outcome
                else:
                    missing = "the kubelet was not up long enough"
                self._node.sleep(POLL_SECONDS)
            if self._node.monotonic() > deadline:
                raise self._not_verified(partial(problems.kubelet_not_verified, self._timeout, missing), started_at)
            state = self._node.service_state()

    def confirm(
        self, expected: DesiredState, pod: t.Optional[PodCpus], record: t.Optional[SwitchRecord] = None
    ) -> t.List[str]:
        """Check that *record*'s process still runs as expected, was not restarted, and gave the pod its CPUs.

        :raises NotVerified: with the first cause
        """
        if record and record.main_pid is not None and record.up_since is not None:
            if record.boot_id != self._node.boot_id():
                raise NotVerified(problems.machine_restarted())
            started_at = self._node.time() - (self._node.monotonic() - record.up_since)
            while True:
                state = self._node.service_state()
                if state["ActiveState"] != "active" or int(state["MainPID"]) != record.main_pid:
                    raise self._not_verified(problems.kubelet_not_stayed_up, started_at)
                if self._settled(record.up_since):
                    break
                self._node.sleep(POLL_SECONDS)
        if not self._healthy():
            raise NotVerified(problems.healthz_silent())
        problem = self._state_problem(expected) or (pod and self._pod_problem(expected, pod))
        if problem:
            raise NotVerified(problem)
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

    def _not_verified(self, of: _OfLog, started_at: float) -> NotVerified:
        return NotVerified.logged(of, first_cause(self._node.log_since(started_at)))

    def _state_problem(self, expected: DesiredState) -> t.Optional[Problem]:
        path = self._endpoint.state_paths["cpu_manager"]
        text = self._node.read(path)
        if text is None:
            return problems.state_missing(path)
        refusal = cpu_state_refusal(text, expected)
        return problems.state_not_as_planned(path, refusal.reason) if refusal else None

    def _pod_problem(self, expected: DesiredState, pod: PodCpus) -> t.Optional[Problem]:
        entry = self._state(expected)["entries"].get(pod.uid, {}).get(pod.container, "no exclusive CPUs")
        if pod.cpus == entry:
            return None
        return problems.policy_not_in_force(pod.cpus, entry)

    def _uptime(self, up_since: float) -> str:
        return f"service up for {self._node.monotonic() - up_since:.0f} s without a restart"

    def _health(self, outcome: Outcome) -> t.List[str]:
        return [] if self._endpoint.healthz_url is None else [f"/healthz {outcome.downtime_ms:.0f} ms after the stop"]

    def _state(self, expected: DesiredState) -> CpuManagerState:
        text = self._node.read(self._endpoint.state_paths["cpu_manager"]) or ""
        try:
            return parse_state(text, expected.minor, expected.pod_level)
        except StateFileError as exc:
            raise NotVerified(*exc.problems) from exc

    def _sets(self, expected: DesiredState) -> str:
        state = self._state(expected)
        if expected.policy != "static":
            return f"state file: policy {state['policy']}"
        reserved = f", reserved {format_cpuset(expected.reserved)}" if expected.reserved else ""
        return f"state file: policy {state['policy']}, shared pool {state['default_cpus']}{reserved}"
