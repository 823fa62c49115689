# SPDX-License-Identifier: GPL-3.0-or-later
"""A node for tests of the transaction, whose kubelet follows the rules of a real one that matter there."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator

from ansible_collections.kubepin.tuning.plugins.module_utils.node.transaction.system import draft_path

ENV, STATE = "/etc/default/kubelet", "/var/lib/kubelet/cpu_manager_state"
OLD = "KUBELET_EXTRA_ARGS=\n"


def state_of(policy: str) -> str:
    """The state file of a kubelet with this policy."""
    return json.dumps({"policyName": policy, "defaultCpuSet": "0-1" if policy == "static" else "", "checksum": 0})


class PowerCut(BaseException):
    """The machine dies: nothing after this runs."""


class SimulatedNode:
    """Files in memory and a kubelet that boots only if its state file suits its settings. A stand-in for a node."""

    def __init__(self) -> None:
        self.files: dict[str, str] = {ENV: OLD, STATE: state_of("none")}
        self.running = True
        self.starts = 1
        self.clock = 0.0
        self.log: list[str] = []
        self.fails_with: str | None = None
        self.steps: list[str] = []
        self.power_cut_at: int | None = None

    @property
    def policy(self) -> str:
        return "static" if "static" in (self.files.get(ENV) or "") else "none"

    def _step(self, name: str) -> None:
        self.steps.append(name)
        if len(self.steps) == self.power_cut_at:
            raise PowerCut

    def read(self, path: str) -> str | None:
        return self.files.get(path)

    def names(self, directory: str) -> list[str]:
        return [path.rsplit("/", 1)[1] for path in self.files if path.startswith(f"{directory}/")]

    def replace(self, path: str, text: str, mode: int = 0o644) -> None:
        self._step(f"write {path}")
        self.files[path] = text

    def draft(self, path: str, text: str, name: str, mode: int = 0o644) -> str:
        self.replace(draft_path(path, name), text, mode)
        return draft_path(path, name)

    def place(self, draft: str, path: str) -> None:
        self._step(f"place {path}")
        self.files[path] = self.files.pop(draft)

    @property
    def drafts(self) -> list[str]:
        return [path for path in self.files if path.endswith(".kubepin")]

    def remove(self, path: str) -> None:
        if path in self.files:
            self._step(f"remove {path}")
            assert not (path == STATE and self.running), "a state file was removed under a running kubelet"
            del self.files[path]

    @contextlib.contextmanager
    def guarded(self) -> Iterator[None]:
        """The machine dies with its guard here; a killed module on a real node is `make fault-campaign`'s."""
        yield

    def stop_kubelet(self) -> float:
        self._step("stop")
        self.running = False
        return self.clock

    def start_kubelet(self) -> None:
        self._step("start")
        self.boot()

    def boot(self) -> None:
        """What systemd and the kubelet do at a start, and after a power cut."""
        self.running = False
        if self.fails_with and self.policy == "static":
            self.log.append(self.fails_with)
            return
        if STATE in self.files and json.loads(self.files[STATE])["policyName"] != self.policy:
            self.log.append(f'configured policy "{self.policy}" differs from state checkpoint policy')
            return
        self.files[STATE] = state_of(self.policy)
        self.running = True
        self.starts += 1

    def service_state(self) -> dict[str, str]:
        if self.running:
            return {"ActiveState": "active", "SubState": "running", "MainPID": str(self.starts), "NRestarts": "0"}
        return {"ActiveState": "activating", "SubState": "auto-restart", "MainPID": "0", "NRestarts": "0"}

    def healthy(self, url: str) -> bool:
        return self.running

    def log_since(self, seconds: float) -> list[str]:
        return self.log

    def time(self) -> float:
        return 1_700_000_000.0 + self.clock

    def monotonic(self) -> float:
        return self.clock

    def sleep(self, seconds: float) -> None:
        self.clock += seconds
