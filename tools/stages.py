# SPDX-License-Identifier: GPL-3.0-or-later
"""The stages of `make check`, `make test` and `make test-all`, and what can run side by side."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

OLD, NEW = "1.22.17", "1.36.3"
"""The last release whose settings are flags, and one whose settings are a drop-in file."""
BEFORE_OLD = "1.21.14"
NEWEST = "1.37.2"
"""The newest release: its state files have another format."""
IN_BACKGROUND = ("nice", "-n", "10")
"""Checks that only compute give way to clusters, whose time-outs are real."""
MACHINE_SHAPE = "sockets=2,cores=1,threads=2,numa=2,memory=3G"
"""The smallest with sockets, threads and NUMA nodes: each emulated CPU takes time from all others."""
ONCE = ("--once",)
ON_EVERY_VERSION = ("tune_gpu_nodes", "benchmark", "rollback", "failed_switch", "audit")


@dataclass(frozen=True)
class Stage:
    """One command, its name in the summary, and what its end means for the rest of its lane."""

    name: str
    command: tuple[str, ...]
    required: bool = False
    """Whether the lane's later stages need this one to pass."""
    always: bool = False
    """Whether it runs even if a required stage failed: it cleans up."""
    junit: str = ""
    """The file in the folder of results in which it names its tests."""

    @property
    def slug(self) -> str:
        """The name as a file name."""
        return re.sub(r"[^a-z0-9.]+", "-", self.name.lower()).strip("-")


@dataclass(frozen=True)
class Lane:
    """Stages that run one after the other."""

    name: str
    stages: tuple[Stage, ...]
    needs_engine: bool = False
    needs_machines: bool = False
    """Whether its cluster has virtual machines, for which the host needs QEMU."""


LINT = Stage("lint and types", (*IN_BACKGROUND, "tools/lint"))
CAMPAIGN = ("python", "-m", "tests.campaigns")
PYTEST = (*IN_BACKGROUND, "python", "-m", "pytest", "--numprocesses=2", "--dist=worksteal")
SANITY = Stage("ansible-test sanity", (*IN_BACKGROUND, "python", "-m", "tools.sanity"))
CORES = Stage("newer releases of ansible-core", (*IN_BACKGROUND, "python", "-m", "tools.core_matrix"))
TABLES = tuple(
    Stage(f"tables: {name} against Kubernetes' sources", ("python", "-m", f"tools.{name}", "--check"))
    for name in ("kubelet_fields", "field_sources", "removed_settings")
)


COMPONENT_TESTS = (
    "tests/benchmark/pod",
    "tests/collection",
    "tests/monitoring",
    "tests/orchestrator",
    "tests/playbooks",
    "tests/tools",
)
"""The folders with tests marked component: to collect all tests takes longer than many of these run."""


def marked_tests(name: str, marked: str, *folders: str) -> Stage:
    """The tests in these folders, or in all, whose markers make the expression `marked` true."""
    junit = f"{name}.xml"
    command = (*PYTEST, f"--junitxml=test-results/{junit}", "-m", marked, *folders)
    return Stage(f"{name} tests", command, junit=junit)


def thorough(stage: Stage) -> Stage:
    """The same tests with all of what `make test` takes a sample of."""
    return replace(stage, name=f"all {stage.name}", command=(*stage.command, "--thorough"))


UNIT, COMPONENT = marked_tests("unit", "not component"), marked_tests("component", "component", *COMPONENT_TESTS)


def build(version: str) -> Stage:
    """A release in the cache."""
    return Stage(
        f"Kubernetes {version}: build", (*IN_BACKGROUND, "python3", "-m", "sandbox", "build", "--k8s", version)
    )


def conformance(version: str, configurations: int, sequences: int, *options: str) -> tuple[Stage, ...]:
    """kubepin's decisions against a real kubelet."""
    program = (*IN_BACKGROUND, "python", "-m", "tests.conformance")
    return (
        build(version),
        Stage(
            f"conformance: {configurations} random configurations on kubelet {version}",
            (*program, "config", "--k8s", version, "--cases", str(configurations)),
        ),
        Stage(
            f"conformance: {sequences} pod sequences on kubelet {version}",
            (*program, "allocation", "--k8s", version, "--sequences", str(sequences), *options),
        ),
    )


def cluster(name: str, version: str, *stages: Stage, workers: int = 2, shape: str = "") -> tuple[Stage, ...]:
    """Stages on a cluster of their own; with the shape of a virtual machine, that is a worker too."""
    machine = ("--machine-shape", shape) if shape else ()
    options = ("--workers", str(workers), "--machines", "1" if shape else "0", *machine)
    fresh = ("tools/fresh-sandbox", name, version, *options)
    return (
        Stage(f"{name}: cluster with Kubernetes {version}", fresh, required=True),
        *stages,
        Stage(f"{name}: cluster removed", ("python3", "-m", "sandbox", "down", "--name", name), always=True),
    )


def scenarios(sandbox: str, version: str, *names: str, options: tuple[str, ...] = ()) -> tuple[Stage, ...]:
    """Molecule scenarios on a sandbox, a stage each."""
    return tuple(
        Stage(f"{sandbox}: molecule {name}", ("tools/scenario", sandbox, version, name, *options)) for name in names
    )


def on_machine(sandbox: str, shape: str, *names: str, options: tuple[str, ...] = ()) -> tuple[Stage, ...]:
    """Molecule scenarios on a virtual machine: a kernel of its own, cgroup v2, the systemd cgroup driver, NUMA nodes."""
    return cluster(sandbox, NEW, *scenarios(sandbox, NEW, *names, options=options), workers=0, shape=shape)


def machine_lane(*stages: Stage) -> Lane:
    """Stages on one virtual machine after the other."""
    return Lane("virtual", stages, needs_engine=True, needs_machines=True)


def upgraded_machine() -> tuple[Stage, ...]:
    """A tuned machine goes to the newest release.

    The newest release is built before the machine is made, since its disk of later releases is written then.
    """
    name = "virtual-upgrade"
    program = ("env", f"KUBEPIN_MOLECULE_TARGET={NEWEST}", "tools/scenario")
    upgrade = Stage(f"{name}: molecule upgrade to {NEWEST}", (*program, name, NEW, "upgrade", *ONCE))
    built = replace(build(NEWEST), name=f"{name}: Kubernetes {NEWEST}")
    return (built, *cluster(name, NEW, upgrade, workers=0, shape=MACHINE_SHAPE))


def check() -> tuple[Lane, ...]:
    """What to run before a commit."""
    return (Lane("lint", (LINT,)), Lane("unit", (UNIT,)))


def test() -> tuple[Lane, ...]:
    """What guards main: each promise once, on the cluster where it costs least.

    Drop-in files and flags are rolled back without a scenario of their own: failed_switch and refusals begin by rolling
    tuned nodes back.
    """
    machines = ("--machines", "epyc-7773x-nps4,x86_64-epyc_7451")
    faults = Stage("flags: 4 faults", (*CAMPAIGN, "faults", "--sandbox", "flags", "--sample"))
    drop_in = cluster(
        "drop-in", NEW, *scenarios("drop-in", NEW, "tune_gpu_nodes", "benchmark", "failed_switch", "enforce")
    )
    on_flags = (*scenarios("flags", BEFORE_OLD, "upgrade", "refusals"), faults)
    return (
        Lane("drop-in", drop_in, needs_engine=True),
        Lane("flags", cluster("flags", BEFORE_OLD, *on_flags), needs_engine=True),
        machine_lane(*on_machine("virtual", MACHINE_SHAPE, "tune_gpu_nodes", options=ONCE)),
        Lane("checks", (LINT, UNIT, COMPONENT)),
        Lane("conformance", conformance(OLD, 8, 6, *machines), needs_engine=True),
    )


def campaign(title: str, name: str, *options: str) -> Stage:
    """A campaign that makes and removes its own clusters."""
    return Stage(f"campaign: {title}", (*CAMPAIGN, name, *options))


def everything() -> tuple[Lane, ...]:
    """`make test`, then what else proves a promise."""
    upgrades = (
        campaign("two minors in one run", "upgrade-two-minors"),
        campaign("upgrade with apt packages", "upgrade-packages", "apt"),
        campaign("upgrade with dnf packages", "upgrade-packages", "dnf"),
        campaign("an upgrade killed at every change", "upgrade-interrupted"),
        campaign("a virtual machine, tuned, cut off and rolled back", "machine"),
        campaign("no step takes a GPU from a pod", "gpu-continuity"),
        campaign("a GPU taken from pods", "gpu-loss", "--k8s", f"{BEFORE_OLD},{OLD}"),
    )
    faults = campaign("all faults", "faults", "--output", "test-results/all-faults")
    permissions = campaign("permissions", "permissions", "--k8s", NEW)
    on_old = cluster("old", OLD, *scenarios("old", OLD, *ON_EVERY_VERSION, "refusals"))
    on_three = cluster("three", NEW, *scenarios("three", NEW, "check"), workers=3)
    on_newest = cluster("newest", NEWEST, *scenarios("newest", NEWEST, *ON_EVERY_VERSION, "enforce"))
    decisions = tuple(stage for version in (NEWEST, NEW, "1.35.6", OLD) for stage in conformance(version, 500, 110))
    on_debian_12 = on_machine(
        "virtual", MACHINE_SHAPE, "tune_gpu_nodes", "rollback", "failed_switch", "audit", "enforce"
    )
    on_debian_13 = on_machine("debian-13", f"{MACHINE_SHAPE},debian=13", "tune_gpu_nodes", "rollback", options=ONCE)
    drop_in, flags, _, checks, few_decisions = test()
    tests = (LINT, thorough(UNIT), thorough(COMPONENT))
    # kubespray is the last: its worker stays in that layout
    on_new = cluster(
        "drop-in",
        NEW,
        *scenarios("drop-in", NEW, *ON_EVERY_VERSION, "benchmark_failures", "enforce", "uninstall", "kubespray"),
    )
    return (
        replace(drop_in, stages=(*on_new, *on_three, *on_newest, *on_old, faults, permissions)),
        replace(flags, stages=(*flags.stages, *upgrades)),
        machine_lane(*on_debian_12, *on_debian_13, *upgraded_machine()),
        replace(checks, stages=(*tests, SANITY, CORES, *TABLES, campaign("inputs at random", "fuzz"))),
        replace(few_decisions, stages=decisions),
    )


SUITES: Mapping[str, Callable[[], tuple[Lane, ...]]] = {"check": check, "test": test, "all": everything}
