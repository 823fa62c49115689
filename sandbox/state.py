# SPDX-License-Identifier: GPL-3.0-or-later
"""What is recorded about a sandbox."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from typing import Literal

from sandbox.settings import Engine, Request, SandboxPaths, Version
from sandbox.shape import Shape, read_shape

Phase = Literal["creating", "ready"]


@dataclass
class State:
    """The content of sandbox.json. Whatever is not `ready` is the remains of a run that did not finish."""

    name: str
    kubernetes: str
    workers: int
    control_planes: int = 1
    dns: bool = True
    engine: Engine = "docker"
    gpus: int = 0
    phase: Phase = "creating"
    subnet: str = ""
    nodes: dict[str, str] = field(default_factory=dict)
    machines: int = 0
    shape: str = ""
    accelerator: str = ""

    @classmethod
    def new(cls, request: Request) -> State:
        """The record of a sandbox about to be made."""
        state = cls(request.name, str(request.kubernetes), request.workers, request.control_planes, request.dns)
        state.machines = request.machines
        state.shape = str(request.shape) if request.machines else ""
        state.engine, state.gpus = request.engine, request.gpus
        return state

    @classmethod
    def load(cls, paths: SandboxPaths) -> State | None:
        """Read the record; None when there is none, or none that can be read."""
        try:
            return cls(**json.loads(paths.state.read_text()))
        except (FileNotFoundError, ValueError, TypeError):
            return None

    def save(self, paths: SandboxPaths) -> None:
        """Write the record in one piece."""
        paths.folder.mkdir(parents=True, exist_ok=True)
        paths.folder.chmod(0o700)
        unfinished = paths.state.with_suffix(".unfinished")
        unfinished.write_text(json.dumps(asdict(self), indent=2) + "\n")
        unfinished.rename(paths.state)

    @property
    def version(self) -> Version:
        """The Kubernetes release the sandbox was made with."""
        return Version.parse(self.kubernetes)

    @property
    def gpu_label(self) -> str:
        """What its workers offer."""
        return "GPU" if self.gpus else "GPU stand-in"

    @property
    def control_plane(self) -> str:
        """The node that kubeadm init ran on."""
        return f"{self.name}-control-plane"

    @property
    def control_plane_names(self) -> list[str]:
        """All control plane nodes, that of kubeadm init first."""
        return [self.control_plane, *(f"{self.control_plane}-{n}" for n in range(2, self.control_planes + 1))]

    @property
    def worker_names(self) -> list[str]:
        """The containers with the GPUs or the GPU stand-in."""
        return [f"{self.name}-worker-{number}" for number in range(1, self.workers + 1)]

    @property
    def machine_names(self) -> list[str]:
        """The virtual machines, which have the GPU stand-in too."""
        return [f"{self.name}-machine-{number}" for number in range(1, self.machines + 1)]

    @property
    def machine_shape(self) -> Shape:
        """The machines' shape."""
        shape = read_shape(self.shape)
        assert isinstance(shape, Shape), shape  # validated before it was recorded
        return shape

    @property
    def node_names(self) -> list[str]:
        """All nodes, the control plane first."""
        return [*self.control_plane_names, *self.worker_names, *self.machine_names]
