# SPDX-License-Identifier: GPL-3.0-or-later
"""Nodes in plain namespaces: what they are called on the host, and that a process is never taken for another."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from sandbox import namespaces
from sandbox.namespaces import NamespaceNode
from sandbox.settings import Paths
from sandbox.shell import CommandFailed, Log, Shell


@pytest.fixture
def node(tmp_path: Path) -> NamespaceNode:
    """A node that was never created."""
    return NamespaceNode("gpu-worker-1", Shell(Log(tmp_path / "log")), Paths(tmp_path / "cache"), "gpu", gpus=True)


def record(node: NamespaceNode, text: str) -> None:
    """Write what `start` writes about the node's systemd."""
    node.root.mkdir(parents=True)
    (node.folder / "init").write_text(text)


def test_a_bridges_name_fits_linux_and_differs_by_sandbox() -> None:
    names = {namespaces.bridge_name(name) for name in ("kubepin", "a-name-of-20-letters", "gpu")}
    assert len(names) == 3
    assert all(len(name) <= 15 for name in names)


def test_a_node_is_missing_then_exited_then_running(node: NamespaceNode) -> None:
    assert node.state() == "missing"
    record(node, f"{os.getpid()} {namespaces.started_at(os.getpid())}\n")
    assert node.state() == "running"
    (node.folder / "init").unlink()
    assert node.state() == "exited"


def test_a_pid_that_another_process_has_by_now_is_not_the_node(node: NamespaceNode) -> None:
    record(node, f"{os.getpid()} 1\n")
    assert node.pid() is None
    assert node.state() == "exited"


def test_a_process_that_has_ended_has_no_start() -> None:
    assert namespaces.started_at(2**22 + 1) == ""


def test_a_command_in_a_node_that_does_not_run_fails(node: NamespaceNode) -> None:
    with pytest.raises(CommandFailed):
        node.run("true")


def test_a_command_gets_nothing_of_the_hosts_environment(node: NamespaceNode) -> None:
    record(node, f"{os.getpid()} {namespaces.started_at(os.getpid())}\n")
    command = node.command("systemctl", "status")
    assert command[:3] == ["nsenter", "--target", str(os.getpid())]
    assert command[command.index("env") + 1] == "-i"
    assert command[-2:] == ["systemctl", "status"]


@pytest.mark.parametrize(("unified", "driver"), [(True, "true"), (False, "false")])
def test_containerds_cgroup_driver_follows_the_host(
    node: NamespaceNode, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, unified: bool, driver: str
) -> None:
    source = tmp_path / "source/etc/containerd"
    source.mkdir(parents=True)
    (source / "config.toml").write_text("SystemdCgroup = false\n")
    tar = tmp_path / "root.tar"
    node.shell.run(["tar", "-C", str(tmp_path / "source"), "-cf", str(tar), "."])
    monkeypatch.setattr(namespaces, "unified_cgroups", lambda: unified)
    node.create("gpu", str(tar), "172.30.0.11", tmp_path)
    assert f"SystemdCgroup = {driver}\n" in (node.root / "etc/containerd/config.toml").read_text()
    assert "172.30.0.11 gpu-worker-1" in (node.root / "etc/hosts").read_text()
    assert node.state() == "exited"


def test_a_node_without_an_address_has_its_name_at_the_loopback_address(node: NamespaceNode, tmp_path: Path) -> None:
    (tmp_path / "source/etc").mkdir(parents=True)
    tar = tmp_path / "root.tar"
    node.shell.run(["tar", "-C", str(tmp_path / "source"), "-cf", str(tar), "."])
    node.create("conformance", str(tar), None, tmp_path)
    assert "127.0.0.1 gpu-worker-1" in (node.root / "etc/hosts").read_text()


def test_a_cgroup_is_removed_with_those_below_it(tmp_path: Path) -> None:
    (tmp_path / "group/kubepods/pod").mkdir(parents=True)
    assert namespaces.removed(tmp_path / "group")
    assert not (tmp_path / "group").exists()


def test_a_cgroup_in_use_stays(tmp_path: Path) -> None:
    (tmp_path / "group/pod").mkdir(parents=True)
    (tmp_path / "group/pod/file").write_text("")  # what keeps rmdir from working
    assert not namespaces.removed(tmp_path / "group")
    assert (tmp_path / "group").exists()
