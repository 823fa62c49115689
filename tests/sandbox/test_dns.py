# SPDX-License-Identifier: GPL-3.0-or-later
"""A cluster can be made without CoreDNS, which is then not built; it gets it later."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from sandbox import cli, host
from sandbox.artefacts import Artefacts
from sandbox.cluster import Sandbox
from sandbox.manifests import check_script
from sandbox.settings import Paths, Version, validate
from sandbox.shell import Log, Shell
from sandbox.state import State

RELEASE = "1.21.14"


class Recorder(Shell):
    """Keeps every command; CoreDNS is available, in one pod, as soon as it is asked for."""

    def __init__(self, log: Log) -> None:
        super().__init__(log)
        self.commands: list[str] = []

    def run(self, command: Sequence[str], **options: Any) -> str:
        self.commands.append(" ".join(command))
        if "pods" in command:
            return json.dumps({"items": [{}]})
        return "1 1" if "deployment" in command else ""

    def ran(self, text: str) -> list[str]:
        return [command for command in self.commands if text in command]


@pytest.fixture
def paths(tmp_path: Path) -> Paths:
    return Paths(tmp_path)


@pytest.fixture
def shell(paths: Paths) -> Recorder:
    return Recorder(Log(paths.cache / "log"))


def sandbox(paths: Paths, shell: Shell, dns: bool) -> Sandbox:
    state = State.new(validate("lab", RELEASE, 2, dns=dns))
    state.nodes = {name: f"172.30.0.{number}" for number, name in enumerate(state.node_names, 10)}
    state.save(paths.sandbox("lab"))
    return Sandbox(paths, shell, state)


def missing(artefacts: Artefacts) -> list[str]:
    return [step.name.removesuffix(f"-{RELEASE}") for step in artefacts._missing_images()]


def test_a_cluster_without_dns_does_not_build_coredns(paths: Paths, shell: Recorder) -> None:
    version = Version.parse(RELEASE)
    assert missing(Artefacts(paths, shell, version, dns=False)) == ["own-programs", "etcd", "images"]
    assert missing(Artefacts(paths, shell, version)) == ["own-programs", "etcd", "images", "coredns", "dns"]


def test_only_coredns_is_built_for_a_cluster_that_gets_it_later(paths: Paths, shell: Recorder) -> None:
    artefacts = Artefacts(paths, shell, Version.parse(RELEASE))
    for folder in (artefacts.own_programs, artefacts.images):
        folder.mkdir(parents=True)
    assert missing(artefacts) == ["coredns", "dns"]
    artefacts.dns_images.mkdir()
    assert missing(artefacts) == []


@pytest.mark.parametrize("dns", [True, False])
def test_kubeadm_init_leaves_coredns_out_where_it_is_not_wanted(paths: Paths, shell: Recorder, dns: bool) -> None:
    sandbox(paths, shell, dns)._init()
    (init,) = shell.ran("kubeadm init")
    assert ("--skip-phases addon/coredns" in init) is not dns
    assert bool(shell.ran("patch deployment coredns")) is dns


def test_coredns_is_added_and_recorded(paths: Paths, shell: Recorder) -> None:
    lab = sandbox(paths, shell, dns=False)
    (step,) = lab.dns_steps(Artefacts(paths, shell, lab.state.version))
    assert f"dns-{RELEASE}" in step.after
    step.action()
    assert len(shell.ran("images import")) == len(lab.nodes)
    (phase,) = shell.ran("kubeadm init phase addon coredns --config")
    assert "lab-control-plane" in phase
    assert shell.commands.index(phase) < shell.commands.index(shell.ran("patch deployment coredns")[0])
    recorded = State.load(paths.sandbox("lab"))
    assert recorded
    assert recorded.dns


@pytest.mark.parametrize(
    ("has", "options", "added"), [(False, [], True), (False, ["--without-dns"], False), (True, [], False)]
)
def test_up_adds_what_the_cluster_lacks(
    paths: Paths, shell: Recorder, monkeypatch: pytest.MonkeyPatch, has: bool, options: list[str], added: bool
) -> None:
    lab = sandbox(paths, shell, has)
    lab.state.phase = "ready"
    lab.state.save(lab.files)
    additions: list[Sandbox] = []
    monkeypatch.setenv("KUBEPIN_CACHE", str(paths.cache))
    monkeypatch.setattr(host, "require_engine", lambda shell: None)
    monkeypatch.setattr(cli, "reuse", lambda sandbox, request: True)
    monkeypatch.setattr(cli, "add_dns", additions.append)
    assert cli.main(["up", "--name", "lab", "--k8s", RELEASE, *options]) == 0
    assert bool(additions) is added


def test_a_record_from_before_the_choice_has_dns(paths: Paths, shell: Recorder) -> None:
    files = sandbox(paths, shell, dns=False).files
    record = json.loads(files.state.read_text())
    del record["dns"]
    files.state.write_text(json.dumps(record))
    state = State.load(files)
    assert state
    assert state.dns


def test_the_check_asks_dns_only_where_there_is_one() -> None:
    assert "nslookup kubernetes.default.svc.cluster.local" in check_script(dns=True)
    without = check_script(dns=False)
    assert "cluster.local" not in without
    assert "nc -w 5 $KUBERNETES_SERVICE_HOST 443" in without
