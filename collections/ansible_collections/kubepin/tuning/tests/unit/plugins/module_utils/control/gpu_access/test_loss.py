# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import json
import os
import stat
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.kubepin.tuning.plugins.module_utils.common.errors import TuningError
from ansible_collections.kubepin.tuning.plugins.module_utils.control.gpu_access.loss import loss_facts
from ansible_collections.kubepin.tuning.plugins.module_utils.node.readers import gpu_access
from ansible_collections.kubepin.tuning.plugins.module_utils.node.readers.container_runtime import (
    Machine,
    read_programs,
    read_runtime,
)
from ansible_collections.kubepin.tuning.plugins.module_utils.node.readers.gpu_access import ContainerReader

KUBELET: dict[str, Any] = {
    "version": "1.21.14",
    "effective": {"cpuManagerPolicy": "static"},
    "state": {"cpu_manager": {"policy": "static", "entries": {}}},
    "runtime": {"name": "containerd", "endpoint": "/run/containerd/containerd.sock"},
    "cgroup": {"version": 1, "driver": "cgroupfs"},
    "service": {"name": "kubelet"},
}
LABELS = {"pod.uid": "u", "pod.name": "train", "pod.namespace": "ml", "container.name": "main"}
INFO: dict[str, Any] = {
    "pid": 7,
    "runtimeType": "io.containerd.runc.v2",
    "runtimeOptions": {"binary_name": "runc"},
    "runtimeSpec": {"linux": {"cgroupsPath": "/kubepods/c1", "resources": {"devices": []}}},
}


def inspected(packed: Any) -> dict[str, Any]:
    return {
        "status": {"labels": {f"io.kubernetes.{key}": value for key, value in LABELS.items()}},
        "info": {"info": json.dumps(INFO)} if packed else INFO,
    }


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A node with a container whose /dev/nvidia0 has the numbers 10:229."""
    for program in ("crictl", "journalctl", "runc"):
        path = tmp_path / "usr/bin" / program
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("")
        path.chmod(0o755)
    files = {
        "proc/7/cgroup": "5:devices:/kubepods/c1\n",
        "proc/7/stat": "7 (a) b) S " + " ".join(["1"] * 18) + " 100 0\n",
        "sys/fs/cgroup/devices/kubepods/c1/devices.list": "c 1:3 rwm\n",
        "proc/7/root/dev/nvidia0": "",
    }
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    real = os.lstat
    numbers = os.stat_result((stat.S_IFCHR | 0o666, 0, 0, 1, 0, 0, 0, 0, 0, 0))

    class Node:
        st_mode, st_rdev = numbers.st_mode, os.makedev(10, 229)

    monkeypatch.setattr(os, "lstat", lambda path: Node() if str(path).endswith("nvidia0") else real(path))
    monkeypatch.setattr(ContainerReader, "_has_hosts_dev", lambda self, pid: False)
    return tmp_path


LINE = '{"__REALTIME_TIMESTAMP": "5000000"}\n'


CRIO = '[crio.runtime]\ndefault_runtime = "runc"\n[crio.runtime.runtimes.runc]\nruntime_path = "/usr/bin/runc"\n'


def journalctl(command: Any, before: str, reloads: str) -> tuple[int, str, str]:
    """As up to systemd 253: --until with -n finds nothing if there are later messages, unless with --reverse."""
    if not before:
        return 1, "", "broken"
    if any(word.startswith("--until") for word in command):
        return 0, before if "--reverse" in command else "", ""
    return 0, reloads if "MESSAGE=Reloading." in command else "", ""


def read(
    machine: Any,
    packed: bool = False,
    journal: Any = LINE,
    answer: Any = None,
    runtime: str = "containerd",
    reloads: str = "",
) -> Any:
    def run(command: Any) -> Any:
        program = os.path.basename(command[0])
        if program == "crictl" and "ps" in command:
            return 0, "c1\n", ""
        if program == "crictl":
            return 0, json.dumps(inspected(packed)) if answer is None else answer, ""
        if program == "journalctl":
            return journalctl(command, journal, reloads)
        return 0, CRIO if program == "crio" else "runc version 1.0.0-rc93\n", ""

    reader = Machine(run, str(machine))

    def call(module: Any, arguments: Any) -> Any:
        if module == "container_programs_info":
            found = read_programs(reader, **arguments)
        elif module == "container_runtime_info":
            found = {"sources": read_runtime(reader, arguments["runtime"], arguments["gpu_device_paths"])}
        else:
            containers = ContainerReader(reader, arguments.get("endpoint"), arguments["service"])
            found = {"sources": containers.sources(arguments["devices"])}
        return json.loads(json.dumps(found))

    return loss_facts(call, {**KUBELET, "runtime": {**KUBELET["runtime"], "name": runtime}}, ["nvidia*"])


@pytest.mark.parametrize("packed", [False, True])
def test_a_container_without_its_device_is_found_with_its_pod_and_cause(machine: Path, packed: bool) -> None:
    report = read(machine, packed)
    (found,) = report["containers"]
    assert (found["namespace"], found["pod"], found["container"]) == ("ml", "train", "main")
    assert found["devices"] == [{"path": "/dev/nvidia0", "major": 10, "minor": 229, "link": False}]
    assert (found["state"], found["cause"], report["unknown"]) == ("lost", "container_update", [])


def test_another_runtime_than_runc_has_no_known_version(machine: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(INFO, "runtimeType", "io.containerd.runsc.v1")
    monkeypatch.setitem(INFO, "runtimeOptions", {})
    (found,) = read(machine)["containers"]
    assert found["cause"] == "unknown"
    assert "container_update may take it: unknown: the version of runc" in found["evidence"]


@pytest.mark.parametrize(
    ("variant", "cause", "words"),
    [
        ("cdi", "unknown", "container_update does not: the container's specification names the device"),
        ("legacy", "container_update", "container_update takes it: a hook added the device"),
        ("real", "unknown", "container_update may take it: unknown: whether a hook added the device"),
    ],
)
def test_what_nvidias_runtime_adds_to_the_specification_is_not_a_hooks(
    machine: Path, monkeypatch: pytest.MonkeyPatch, variant: str, cause: str, words: str
) -> None:
    """containerd does not know the specification that runc then gets."""
    program = f"/usr/bin/nvidia-container-runtime.{variant}"
    monkeypatch.setitem(INFO, "runtimeOptions", {"binary_name": program})
    (found,) = read(machine)["containers"]
    assert found["cause"] == cause
    assert any(line.startswith(words) for line in found["evidence"])


def unified(machine: Path, freeze: str = "0") -> None:
    """Put the container under cgroup v2."""
    (machine / "proc/7/cgroup").write_text("0::/kubepods/c1\n")
    folder = machine / "sys/fs/cgroup/kubepods/c1"
    folder.mkdir(parents=True)
    (folder / "cgroup.freeze").write_text(f"{freeze}\n")


@pytest.mark.parametrize(("usable", "state"), [(True, "kept"), (False, "lost")])
def test_with_cgroup_v2_a_process_in_the_cgroup_tries(
    machine: Path, monkeypatch: pytest.MonkeyPatch, usable: bool, state: str
) -> None:
    unified(machine)
    monkeypatch.setattr(gpu_access, "usable_in_cgroup", lambda folder, nodes: [usable] * len(nodes))
    (found,) = read(machine)["containers"]
    assert found["state"] == state
    if not usable:
        assert "its cgroup allows none of these devices, as a process that entered it saw" in found["evidence"]


@pytest.mark.parametrize(("freeze", "reason"), [("1", "the container is frozen"), ("0", "no process can enter")])
def test_a_cgroup_that_cannot_be_tried_is_unknown(
    machine: Path, monkeypatch: pytest.MonkeyPatch, freeze: str, reason: str
) -> None:
    unified(machine, freeze)

    def refuse(folder: str, nodes: object) -> None:
        raise OSError(f"no process can enter {folder}")

    monkeypatch.setattr(gpu_access, "usable_in_cgroup", refuse)
    (found,) = read(machine)["containers"]
    assert found["state"] == "unknown"
    assert reason in found["evidence"][0]


def test_the_child_enters_the_cgroup_and_says_what_it_may_use(tmp_path: Path) -> None:
    files = [tmp_path / name for name in ("one", "two")]
    for file in files:
        file.write_text("")
    (tmp_path / "cgroup.procs").write_text("")
    assert gpu_access.usable_in_cgroup(str(tmp_path), [str(file) for file in files]) == [True, True]
    assert int((tmp_path / "cgroup.procs").read_text()) != os.getpid()


def test_a_cgroup_that_nobody_can_enter_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "one").write_text("")
    with pytest.raises(OSError, match="no process can enter"):
        gpu_access.usable_in_cgroup(str(tmp_path / "missing"), [str(tmp_path / "one")])


def test_a_mounted_dev_of_the_host_is_unknown(machine: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ContainerReader, "_has_hosts_dev", lambda self, pid: True)
    (found,) = read(machine)["containers"]
    assert found["state"] == "unknown"
    assert found["evidence"] == ["the host's /dev is mounted, so what it sees was not meant for it by itself"]


def test_without_crictl_the_reason_is_told(machine: Path) -> None:
    (machine / "usr/bin/crictl").unlink()
    report = read(machine)
    assert (report["containers"], report["unknown"]) == ([], ["all containers: there is no crictl on this node"])


def test_a_container_that_ends_meanwhile_is_told(machine: Path) -> None:
    (machine / "proc/7/cgroup").unlink()
    report = read(machine)
    assert report["containers"] == []
    assert report["unknown"][0].startswith("container c1: ")


def test_a_journal_that_cannot_be_read_is_told(machine: Path) -> None:
    (problem,) = read(machine, journal="")["unknown"]
    assert problem.startswith("`journalctl ")
    assert problem.endswith("failed: broken")


def test_a_daemon_reload_is_named_although_systemd_logged_more_since(
    machine: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    specification = {"linux": {"cgroupsPath": "kubepods.slice:cri-containerd:c1", "resources": {"devices": []}}}
    monkeypatch.setitem(INFO, "runtimeSpec", specification)
    monkeypatch.setitem(KUBELET["effective"], "cpuManagerPolicy", "none")
    (found,) = read(machine, reloads=LINE)["containers"]
    assert (found["state"], found["cause"]) == ("lost", "daemon_reload")


def changed(**info: Any) -> Any:
    return json.dumps({**inspected(packed=False), "info": {**INFO, **info}})


@pytest.mark.parametrize(
    ("answer", "why"),
    [
        pytest.param("no JSON", "`crictl inspect` answers in another form", id="no JSON"),
        pytest.param("[]", "`crictl inspect` names no process (info.pid)", id="a list"),
        pytest.param(changed(pid=None), "`crictl inspect` names no process (info.pid)", id="no process"),
        pytest.param(changed(pid="7"), 'pid is "7": expected a whole number', id="a process of text"),
        pytest.param(changed(runtimeOptions="x"), 'runtimeOptions is "x": expected a table', id="options"),
        pytest.param(changed(runtimeType=5), "runtimeType is 5: expected a text", id="runtime"),
        pytest.param(changed(runtimeSpec={"mounts": ["x"]}), 'mounts is ["x"]: expected a list of tables', id="mounts"),
        pytest.param(
            changed(runtimeSpec={"linux": {"resources": {"devices": [{"allow": True, "major": "x"}]}}}),
            'major is "x": expected a whole number',
            id="rules",
        ),
        pytest.param(
            json.dumps({"info": INFO, "status": {"labels": {"io.kubernetes.pod.uid": 1}}}),
            'labels."io.kubernetes.pod.uid" is 1: expected a text',
            id="labels",
        ),
    ],
)
def test_any_odd_answer_of_crictl_is_told(machine: Path, answer: str, why: str) -> None:
    report = read(machine, answer=answer)
    assert report["containers"] == []
    (reason,) = report["unknown"]
    assert reason.startswith("container c1: `crictl inspect`")
    assert why in reason


@pytest.mark.parametrize("line", ["no JSON", "[]", "{}", '{"__REALTIME_TIMESTAMP": "9' + "9" * 20 + '"}'])
def test_any_odd_line_of_the_journal_is_told(machine: Path, line: str) -> None:
    report = read(machine, journal=line)
    (reason,) = report["unknown"]
    assert reason.endswith("` answers in another form")
    assert [found["state"] for found in report["containers"]] == ["lost"]


@pytest.mark.parametrize("configured", [True, False])
def test_a_runtime_without_shims_has_the_runc_that_its_configuration_names(
    machine: Path, monkeypatch: pytest.MonkeyPatch, configured: bool
) -> None:
    monkeypatch.delitem(INFO, "runtimeType")
    if configured:
        (machine / "usr/bin/crio").write_text("")
        (machine / "usr/bin/crio").chmod(0o755)
    (found,) = read(machine, runtime="cri-o")["containers"]
    unknown = "container_update may take it: unknown: the version of runc" in found["evidence"]
    assert (found["cause"], unknown) == (("container_update", False) if configured else ("unknown", True))


@pytest.mark.parametrize("kubelet", [{}, {"state": {"cpu_manager": None}}, {**KUBELET, "runtime": "containerd"}])
def test_something_else_than_the_facts_of_a_kubelet_is_refused(kubelet: dict[str, object]) -> None:
    with pytest.raises(TuningError, match=r"`kubelet` is not what kubepin\.tuning\.kubelet_info returns"):
        loss_facts(lambda module, arguments: {}, kubelet, ["nvidia*"])


def test_secrets_in_a_containers_environment_stay_on_the_node(machine: Path) -> None:
    def run(command: list[str]) -> tuple[int, str, str]:
        specification = {**INFO["runtimeSpec"], "process": {"env": ["TOKEN=s3cret"]}}
        return 0, "c1\n" if "ps" in command else changed(runtimeSpec=specification), ""

    sources = ContainerReader(Machine(run, str(machine)), "/run/c.sock", "kubelet").sources(["nvidia*"])
    assert sources["containers"][0]["inspected"]["runtimeSpec"]["cgroupsPath"] == "/kubepods/c1"
    assert "s3cret" not in json.dumps(sources)
