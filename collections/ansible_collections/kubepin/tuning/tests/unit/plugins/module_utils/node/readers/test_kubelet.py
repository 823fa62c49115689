# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import json
import typing as t
from pathlib import Path

import pytest
from ansible_collections.kubepin.tuning.plugins.module_utils.common.errors import TuningError
from ansible_collections.kubepin.tuning.plugins.module_utils.control.kubelet.kubelet import kubelet_facts
from ansible_collections.kubepin.tuning.plugins.module_utils.node.readers.kubelet import (
    parse_time_span,
    parse_unit,
    read_programs,
    read_sources,
)
from ansible_collections.kubepin.tuning.tests.unit.samples.inputs import damaged
from ansible_collections.kubepin.tuning.tests.unit.samples.problems import refused
from ansible_collections.kubepin.tuning.tests.unit.samples.snaps import ARGUMENTS
from hypothesis import given
from hypothesis import strategies as st

UNIT = "/usr/lib/systemd/system/kubelet.service"
DROP_IN = "/usr/lib/systemd/system/kubelet.service.d/10-kubeadm.conf"
FLAGS_ENV = "/var/lib/kubelet/kubeadm-flags.env"
EXTRA = "/etc/default/kubelet"
CONFIG = "/var/lib/kubelet/config.yaml"
HEAD = "apiVersion: kubelet.config.k8s.io/v1beta1\nkind: KubeletConfiguration\n"
COMMAND = [
    "/usr/bin/kubelet",
    "--kubeconfig=/etc/kubernetes/kubelet.conf",
    "--config=/var/lib/kubelet/config.yaml",
    "--v=2",
]
PROGRAMS = {
    "/usr/bin/kubelet": "Kubernetes v1.22.17\n",
    "/usr/bin/containerd": "containerd github.com/containerd/containerd 1.6.20~ds1 1.6.20~ds1-1+deb12u1\n",
    "/usr/sbin/runc": "runc version 1.1.5+ds1\ncommit: 1.1.5+ds1-1+deb12u1\n",
    "/usr/local/bin/k3s": "k3s version v1.28.5+k3s1 (5b2d1271)\n",
}
KUBEADM_NODE = {
    UNIT: "[Unit]\nExecStart=/not/here\n[Service]\nExecStart=/usr/bin/kubelet\nRestart=always\n",
    DROP_IN: (
        "# kubeadm's\n[Service]\n"
        'Environment="KUBELET_KUBECONFIG_ARGS=--kubeconfig=/etc/kubernetes/kubelet.conf"\n'
        'Environment="KUBELET_CONFIG_ARGS=--config=/var/lib/kubelet/config.yaml"\n'
        f"EnvironmentFile=-{FLAGS_ENV}\nEnvironmentFile=-{EXTRA}\nExecStart=\n"
        "ExecStart=/usr/bin/kubelet $KUBELET_KUBECONFIG_ARGS $KUBELET_CONFIG_ARGS $KUBELET_KUBEADM_ARGS $KUBELET_EXTRA_ARGS\n"
    ),
    FLAGS_ENV: 'KUBELET_KUBEADM_ARGS="--v=2"\n',
    CONFIG: HEAD + "cgroupDriver: systemd\n",
    "/proc/4711/cmdline": "\0".join(COMMAND) + "\0",
    "/var/lib/kubelet/cpu_manager_state": '{"policyName":"none","defaultCpuSet":"","checksum":1353318690}',
    "/var/lib/kubelet/memory_manager_state": '{"policyName":"None","machineState":{},"checksum":4236770233}',
    "/sys/fs/cgroup/cgroup.controllers": "cpuset cpu\n",
}
SHOWN = {
    "LoadState": "loaded", "ActiveState": "active", "SubState": "running", "MainPID": "4711", "NRestarts": "2",
    "RestartUSec": "10s", "FragmentPath": UNIT, "DropInPaths": DROP_IN, "NeedDaemonReload": "no",
}  # fmt: skip
ABSENT = {"LoadState": "not-found", "ActiveState": "inactive", "MainPID": "0"}


def journal_output(journal: str, argv: list[str]) -> str:
    """What journalctl of systemd 252 answers: of more lines than it may, the first ones, unless with --reverse."""
    lines = journal.splitlines()
    if "--reverse" in argv:
        lines.reverse()
    return "\n".join(lines[: int(argv[argv.index("--lines") + 1])])


class Node:
    """A node made of files under a folder, and what systemctl shows of its services."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.services: dict[str, dict[str, str]] = {}
        self.journal = ""
        self.restart_scheduled_at = 0
        for name in ("/usr/bin/systemctl", "/usr/bin/journalctl", *PROGRAMS):
            self.write(name, "")
            self.path(name).chmod(0o755)

    def path(self, name: str) -> Path:
        return self.root / name.lstrip("/")

    def write(self, name: str, text: str) -> None:
        self.path(name).parent.mkdir(parents=True, exist_ok=True)
        self.path(name).write_text(text)

    def run(self, argv: list[str]) -> tuple[int, str, str]:
        if argv[:2] == ["/usr/bin/systemctl", "show"]:
            names = [word.removesuffix(".service") for word in argv[2 : argv.index("-p")]]
            shown = (self.services.get(name, ABSENT) for name in names)
            return 0, "\n".join("".join(f"{key}={value}\n" for key, value in each.items()) for each in shown), ""
        if argv[0] == "/usr/bin/journalctl" and "UNIT=kubelet.service" in argv:
            entry = {"__MONOTONIC_TIMESTAMP": str(self.restart_scheduled_at), "MESSAGE": "Scheduled restart job"}
            return 0, json.dumps(entry) if self.restart_scheduled_at else "", ""
        if argv[0] == "/usr/bin/journalctl":
            return 0, journal_output(self.journal, argv), ""
        assert argv[1:] == ["--version"]
        return 0, PROGRAMS[argv[0]], ""

    def read(self) -> dict[str, t.Any]:
        """What the control node makes of it."""
        root = str(self.root)
        return kubelet_facts(read_sources(self.run, root, lambda: 5000.0), read_programs(self.run, root))


@pytest.fixture
def node(tmp_path: Path) -> Node:
    result = Node(tmp_path)
    for name, text in KUBEADM_NODE.items():
        result.write(name, text)
    result.services["kubelet"] = dict(SHOWN)
    return result


MEMORY = (
    'E1127 18:00:01.0 7 run.go:72] "command failed" err="start memory manager error: [memorymanager] the expected machine state is '
    'different from the real one"'
)
CRASHED = {"ActiveState": "activating", "SubState": "auto-restart", "MainPID": "0"}


@pytest.mark.parametrize(
    ("shown", "journal", "code", "words"),
    [
        pytest.param(
            CRASHED, MEMORY, "kubelet_does_not_start", "rm /var/lib/kubelet/memory_manager_state", id="crashed"
        ),
        pytest.param(
            {"ExecMainStartTimestampMonotonic": "4995000000"}, MEMORY, "kubelet_does_not_start", "active", id="again"
        ),
        pytest.param(
            {"ExecMainStartTimestampMonotonic": "4995000000"}, "E1127 x", None, "", id="started again, and up"
        ),
        pytest.param({"ExecMainStartTimestampMonotonic": "1000000"}, MEMORY, None, "", id="up for long"),
        pytest.param(
            {"NRestarts": "0", "ExecMainStartTimestampMonotonic": "4995000000"}, MEMORY, None, "", id="by hand"
        ),
        pytest.param(
            {"ActiveState": "inactive", "SubState": "dead", "MainPID": "0"},
            "",
            "kubelet_does_not_run",
            "says nothing",
            id="off",
        ),
    ],
)
def test_what_keeps_a_kubelet_from_starting_is_named(
    node: Node, shown: dict[str, str], journal: str, code: str | None, words: str
) -> None:
    node.services["kubelet"].update(shown)
    node.journal = f"I1127 18:00:00.0 7 server.go:408] starting\n{journal}\n"
    node.journal = node.journal if journal else ""
    problem = node.read()["start_problem"]
    assert (problem and problem["code"]) == code
    assert words in (problem or {"text": ""})["text"]


def test_the_cause_is_found_at_the_end_of_a_long_log(node: Node) -> None:
    node.services["kubelet"].update(CRASHED)
    node.journal = MEMORY
    expected = node.read()["start_problem"]
    node.journal = "I1127 18:00:00.0 7 server.go:408] busy\n" * 5000 + MEMORY
    assert node.read()["start_problem"] == expected


BY_ITSELF, BY_HAND = 4994900000, 4980000000


@pytest.mark.parametrize(
    ("announced", "code"),
    [
        pytest.param(BY_ITSELF, "kubelet_does_not_start", id="started by systemd again"),
        pytest.param(BY_HAND, None, id="repaired and started by hand, and the counter is as it was"),
        pytest.param(0, None, id="nothing in the journal"),
    ],
)
def test_an_old_counter_of_restarts_says_nothing_of_a_kubelet_that_was_repaired(
    node: Node, announced: int, code: str | None
) -> None:
    node.journal = MEMORY
    node.restart_scheduled_at = announced
    node.services["kubelet"].update(
        NRestarts="7", ExecMainStartTimestampMonotonic="4995000000", InactiveExitTimestampMonotonic="4995000000"
    )
    problem = node.read()["start_problem"]
    assert (problem and problem["code"]) == code


def test_how_long_a_kubelet_has_been_running(node: Node) -> None:
    node.services["kubelet"]["ExecMainStartTimestampMonotonic"] = "4950000000"
    assert node.read()["service"]["running_seconds"] == 50.0
    node.services["kubelet"].update(CRASHED)
    assert node.read()["service"]["running_seconds"] is None


def test_a_kubeadm_node(node: Node) -> None:
    report = node.read()
    assert report["problems"] == []
    assert (report["schema"], report["manager"], report["version"]) == (1, "kubeadm", "1.22.17")
    assert report["service"] == {
        "name": "kubelet", "active_state": "active", "sub_state": "running", "main_pid": 4711, "restarts": 2,
        "restart_interval_s": 10.0, "running_seconds": None, "unit_file": UNIT, "drop_ins": [DROP_IN],
        "environment_files": [
            {"path": FLAGS_ENV, "optional": True, "exists": True},
            {"path": EXTRA, "optional": True, "exists": False},
        ],
    }  # fmt: skip
    assert report["configured_command_line"] == report["command_line"] == COMMAND
    assert report["stale"] is False
    assert (report["extra_args_file"], report["extra_args_text"]) == (EXTRA, None)
    assert (report["config_file"], report["config"]["cgroupDriver"]) == (CONFIG, "systemd")
    assert (report["config_dir"], report["drop_ins"], report["root_dir"]) == (None, [], "/var/lib/kubelet")
    assert report["effective"]["cpuManagerPolicy"] == "none"
    assert report["sources"]["cgroupDriver"] == f"file:{CONFIG}"
    assert report["state"]["cpu_manager"] == {
        "path": "/var/lib/kubelet/cpu_manager_state", "exists": True,
        "text": KUBEADM_NODE["/var/lib/kubelet/cpu_manager_state"], "error": None,
        "policy": "none", "default_cpus": "", "entries": {}, "format": "V2", "checksum_ok": True,
    }  # fmt: skip
    assert report["state"]["memory_manager"]["policy"] == "None"
    assert node.read()["runtime"] == {
        "name": "docker", "endpoint": "unix:///var/run/dockershim.sock", "version": None, "runc_version": "1.1.5",
    }  # fmt: skip
    assert report["cgroup"] == {"version": 2, "driver": "systemd"}


def test_flags_win_and_make_the_process_stale(node: Node) -> None:
    node.write(EXTRA, "KUBELET_EXTRA_ARGS='--cpu-manager-policy=static --reserved-cpus=0'\n")
    report = node.read()
    assert report["stale"] is True
    assert report["effective"]["cpuManagerPolicy"] == "static"
    assert report["sources"]["reservedSystemCPUs"] == "flag"
    assert report["extra_args_text"] == "KUBELET_EXTRA_ARGS='--cpu-manager-policy=static --reserved-cpus=0'\n"
    assert report["configured_command_line"][-2:] == ["--cpu-manager-policy=static", "--reserved-cpus=0"]


def test_drop_ins(node: Node) -> None:
    node.write(EXTRA, "KUBELET_EXTRA_ARGS=--config-dir=/etc/kubernetes/kubelet.conf.d\n")
    node.write("/etc/kubernetes/kubelet.conf.d/50-a.conf", HEAD + "cpuManagerPolicy: none\n")
    node.write("/etc/kubernetes/kubelet.conf.d/90-b.conf", HEAD + "cpuManagerPolicy: static\n")
    node.write("/etc/kubernetes/kubelet.conf.d/99-c.yaml", "{")
    report = node.read()
    assert report["problems"] == []
    assert report["config_dir"] == "/etc/kubernetes/kubelet.conf.d"
    assert [drop_in["path"][-9:] for drop_in in report["drop_ins"]] == ["50-a.conf", "90-b.conf"]
    assert report["drop_ins"][1]["text"].endswith("static\n")
    assert report["sources"]["cpuManagerPolicy"] == "drop-in:/etc/kubernetes/kubelet.conf.d/90-b.conf"


@pytest.mark.parametrize(
    ("files", "code", "text"),
    [
        pytest.param({CONFIG: HEAD + "a: [\n"}, "not_yaml", f"{CONFIG}, line 4: ", id="not YAML"),
        pytest.param({CONFIG: HEAD + "reservedSystemCPUs: 0\n"}, "config_invalid", f"{CONFIG}: reservedSystemCPUs is 0; expected text",
                     id="wrong type"),
        pytest.param({CONFIG: None}, "config_file_missing", f"{CONFIG} does not exist", id="no configuration file"),
        pytest.param({EXTRA: "KUBELET_EXTRA_ARGS=--healthz-port=x\n"}, "command_line", "--healthz-port is 'x'", id="bad flag"),
        pytest.param({UNIT: None, DROP_IN: None}, "no_command", "name no command", id="no unit files"),
        pytest.param({CONFIG: b"\xff\xfe"}, "file_unreadable", f"{CONFIG} cannot be read", id="not UTF-8"),
        pytest.param(
            {EXTRA: "KUBELET_EXTRA_ARGS=--config-dir=/d\n", "/d/1.conf": "cpuManagerPolicy: static\n"},
            "config_invalid", "/d/1.conf: a drop-in needs", id="drop-in without kind",
        ),
    ],
)  # fmt: skip
def test_what_cannot_be_understood_is_a_problem(
    node: Node, files: dict[str, str | bytes | None], code: str, text: str
) -> None:
    for name, content in files.items():
        if content is None:
            node.path(name).unlink()
        elif isinstance(content, bytes):
            node.path(name).write_bytes(content)
        else:
            node.write(name, content)
    report = node.read()
    [problem] = report["problems"]
    assert problem["code"] == code
    assert text in problem["text"]
    assert report["effective"]["cpuManagerPolicy"] in ("none", "static")


@pytest.mark.parametrize(
    ("old", "new", "expected", "codes"),
    [
        pytest.param("$KUBELET_EXTRA_ARGS", "", None, [], id="ExecStart does not use it"),
        pytest.param(
            "$KUBELET_EXTRA_ARGS", "${KUBELET_EXTRA_ARGS}", EXTRA, ["extra_args_in_braces"], id="in braces: one argument"
        ),
        pytest.param(f"EnvironmentFile=-{EXTRA}\n", "", None, [], id="the unit reads no such file"),
        pytest.param(EXTRA, "/etc/sysconfig/kubelet", "/etc/sysconfig/kubelet", [], id="rpm"),
        pytest.param(
            f"EnvironmentFile=-{EXTRA}\n", f"EnvironmentFile=-/etc/sysconfig/kubelet\nEnvironmentFile=-{EXTRA}\n", EXTRA, [],
            id="both: the last counts",
        ),
        pytest.param(
            f"EnvironmentFile=-{EXTRA}\n", f"EnvironmentFile=-{EXTRA}\nEnvironmentFile=/etc/own.env\n", EXTRA,
            ["extra_args_overruled"], id="overruled",
        ),
        pytest.param(EXTRA, "/etc/default/kubele*", EXTRA, [], id="a pattern"),
        pytest.param("# kubeadm's\n[Service]\n", "[Service]\nEnvironment=KUBELET_EXTRA_ARGS=--v=3\n", EXTRA,
                     ["extra_args_hidden"], id="hides Environment"),
        pytest.param(
            f"EnvironmentFile=-{EXTRA}\n", f"EnvironmentFile=/etc/own.env\nEnvironmentFile=-{EXTRA}\n", EXTRA, ["extra_args_hidden"],
            id="hides an earlier file",
        ),
    ],
)  # fmt: skip
def test_extra_args_file(node: Node, old: str, new: str, expected: str | None, codes: list[str]) -> None:
    node.write(EXTRA, "")
    node.write("/etc/own.env", "KUBELET_EXTRA_ARGS=--v=3\n")
    node.write(DROP_IN, KUBEADM_NODE[DROP_IN].replace(old, new))
    report = node.read()
    assert report["extra_args_file"] == expected
    assert [problem["code"] for problem in report["problems"]] == codes


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("# off: \\\nKUBELET_EXTRA_ARGS=--v=3\n", "KUBELET_EXTRA_ARGS"),
        ("; off: \\\n# more \\\nA=1\nKUBELET_EXTRA_ARGS=--v=3\n", "A"),
        ("# off: \\\n\nKUBELET_EXTRA_ARGS=--v=3\n", ""),
        ("# off: \\n\nKUBELET_EXTRA_ARGS=--v=3 \\\n --v=4\n", ""),
        ("# off: \\\n# more\nKUBELET_EXTRA_ARGS=--v=3\n", ""),
    ],
    ids=["before an assignment", "over two comments", "before an empty line", "not at its end", "before a comment"],
)
def test_a_comment_that_versions_of_systemd_read_differently_is_named(node: Node, text: str, names: str) -> None:
    node.write(EXTRA, text)
    found = [problem for problem in node.read()["problems"] if problem["code"] == "environment_file_ambiguous"]
    assert [f"systemd before 254 reads {names} differently" in problem["text"] for problem in found] == [True] * bool(
        names
    )


@pytest.mark.parametrize(
    ("flags", "version", "name", "endpoint"),
    [
        pytest.param("", "1.22.17", "docker", "unix:///var/run/dockershim.sock", id="dockershim is the default before 1.24"),
        pytest.param("", "1.30.1", "containerd", "unix:///run/containerd/containerd.sock", id="containerd since"),
        pytest.param(
            "--container-runtime-endpoint=unix:///var/run/crio/crio.sock", "1.30.1", "cri-o", "unix:///var/run/crio/crio.sock",
            id="CRI-O",
        ),
        pytest.param("--container-runtime-endpoint=/run/x.sock", "1.30.1", "unknown", "/run/x.sock", id="another"),
    ],
)  # fmt: skip
def test_runtime(
    node: Node, monkeypatch: pytest.MonkeyPatch, flags: str, version: str, name: str, endpoint: str
) -> None:
    monkeypatch.setitem(PROGRAMS, "/usr/bin/kubelet", f"Kubernetes v{version}\n")
    node.write(EXTRA, f"KUBELET_EXTRA_ARGS={flags}\n")
    runtime = node.read()["runtime"]
    assert (runtime["name"], runtime["endpoint"]) == (name, endpoint)
    assert runtime["version"] == ("1.6.20" if name == "containerd" else None)


@pytest.mark.parametrize(
    ("text", "error"),
    [
        pytest.param(None, None, id="no file"),
        pytest.param("{", "is not JSON", id="corrupt"),
    ],
)
def test_state_files(node: Node, text: str | None, error: str | None) -> None:
    for name in ("cpu_manager_state", "memory_manager_state"):
        if text is None:
            node.path(f"/var/lib/kubelet/{name}").unlink()
        else:
            node.write(f"/var/lib/kubelet/{name}", text)
    report = node.read()
    assert report["problems"] == []
    for state in report["state"].values():
        assert (state["exists"], state["text"], state["policy"]) == (text is not None, text, None)
        assert state["error"] is None if error is None else error in state["error"]


def test_root_dir_moves_the_state(node: Node) -> None:
    node.write(EXTRA, "KUBELET_EXTRA_ARGS=--root-dir=/data/kubelet/\n")
    report = node.read()
    assert report["state"]["cpu_manager"]["path"] == "/data/kubelet/cpu_manager_state"
    assert report["state"]["cpu_manager"]["exists"] is False


def test_a_stopped_kubelet(node: Node) -> None:
    node.services["kubelet"].update(ActiveState="inactive", SubState="dead", MainPID="0")
    report = node.read()
    assert (report["command_line"], report["stale"], report["service"]["main_pid"]) == ([], None, None)
    assert report["configured_command_line"] == COMMAND


def test_changed_unit_files(node: Node) -> None:
    node.services["kubelet"]["NeedDaemonReload"] = "yes"
    [problem] = node.read()["problems"]
    assert problem["code"] == "unit_files_changed"
    assert "the unit files of kubelet changed since systemd read them" in problem["text"]
    assert "systemctl daemon-reload" in problem["remedy"]


def test_another_program_is_not_called_stale(node: Node) -> None:
    node.write("/proc/4711/cmdline", "/usr/bin/wrapper\0kubelet\0")
    assert node.read()["stale"] is None


def test_k3s(tmp_path: Path) -> None:
    node = Node(tmp_path)
    node.services["k3s-agent"] = {**SHOWN, "FragmentPath": "/etc/systemd/system/k3s-agent.service", "DropInPaths": ""}
    node.write("/etc/systemd/system/k3s-agent.service", "[Service]\nExecStart=/usr/local/bin/k3s \\\n    agent \\\n\n")
    node.write("/etc/rancher/k3s/config.yaml", 'kubelet-arg: ["cpu-manager-policy=static", "kube-reserved=cpu=1"]\n')
    report = node.read()
    assert (report["manager"], report["service"]["name"], report["version"]) == ("k3s", "k3s-agent", "1.28.5")
    assert report["configured_command_line"] == ["/usr/local/bin/k3s", "agent"]
    assert report["effective"]["cpuManagerPolicy"] == "static"
    assert (report["stale"], report["extra_args_file"]) == (None, None)
    assert report["problems"][0]["code"] == "embedded_kubelet"
    assert "k3s starts the kubelet itself, and of its settings only kubelet-arg of" in report["problems"][0]["text"]


RKE2_UNIT = "/usr/local/lib/systemd/system/rke2-agent.service"
RKE2_DROP_INS = "/var/lib/rancher/rke2/agent/etc/kubelet.conf.d"


@pytest.fixture
def rke2(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Node:
    """Files of RKE2 1.36, as its documentation and sources name them; no real one was at hand."""
    monkeypatch.setitem(PROGRAMS, "/usr/local/bin/rke2", "rke2 version v1.36.4+rke2r1 (0badc0de)\n")
    node = Node(tmp_path)
    node.write("/usr/local/bin/rke2", "")
    node.path("/usr/local/bin/rke2").chmod(0o755)
    node.services["rke2-agent"] = {**SHOWN, "FragmentPath": RKE2_UNIT, "DropInPaths": "", "RestartUSec": "5s"}
    node.write(
        RKE2_UNIT, "[Service]\nType=notify\nKillMode=process\nRestartSec=5s\nExecStart=/usr/local/bin/rke2 agent\n"
    )
    node.write(
        f"{RKE2_DROP_INS}/00-rke2-defaults.conf", HEAD + "cgroupDriver: systemd\nhealthzBindAddress: 127.0.0.1\n"
    )
    return node


def test_the_settings_of_rke2_are_drop_ins(rke2: Node) -> None:
    rke2.write("/etc/rancher/rke2/config.yaml", "server: https://10.0.0.1:9345\n")
    report = rke2.read()
    assert report["problems"] == []
    assert (report["manager"], report["version"], report["service"]["name"]) == ("rke2", "1.36.4", "rke2-agent")
    assert (report["config_dir"], report["config_file"]) == (RKE2_DROP_INS, None)
    assert [drop_in["path"] for drop_in in report["drop_ins"]] == [f"{RKE2_DROP_INS}/00-rke2-defaults.conf"]
    assert report["cgroup"]["driver"] == "systemd"
    assert report["effective"]["cpuManagerPolicy"] == "none"


def test_arguments_of_rke2_come_from_all_its_files_and_its_command(rke2: Node) -> None:
    folder = "/etc/rancher/rke2/config.yaml.d"
    rke2.write("/etc/rancher/rke2/config.yaml", "kubelet-arg: [max-pods=200]\n")
    rke2.write(f"{folder}/10-site.yaml", "kubelet-arg: cpu-manager-policy=none\n")
    rke2.write(f"{folder}/20-more.yaml", "kubelet-arg+:\n- cpu-manager-policy=static\n- reserved-cpus=0\n")
    rke2.write(f"{folder}/30-not.txt", "kubelet-arg: reserved-cpus=7\n")
    report = rke2.read()
    assert (report["effective"]["cpuManagerPolicy"], report["effective"]["reservedSystemCPUs"]) == ("static", "0")
    rke2.write(RKE2_UNIT, "[Service]\nExecStart=/usr/local/bin/rke2 agent '--kubelet-arg=reserved-cpus=1'\n")
    assert rke2.read()["effective"]["reservedSystemCPUs"] == "1"


@pytest.mark.parametrize("option", [False, True], ids=["in its configuration", "on its command line"])
def test_rke2_with_another_data_folder(rke2: Node, option: bool) -> None:
    folder = "/data/rke2/agent/etc/kubelet.conf.d"
    rke2.write(f"{folder}/90-kubepin.conf", HEAD + "cpuManagerPolicy: static\n")
    if option:
        rke2.write(RKE2_UNIT, "[Service]\nExecStart=/usr/local/bin/rke2 agent --data-dir=/data/rke2\n")
    else:
        rke2.write("/etc/rancher/rke2/config.yaml", 'data-dir: "/data/rke2"\n')
    report = rke2.read()
    assert (report["config_dir"], report["effective"]["cpuManagerPolicy"]) == (folder, "static")


def test_a_leftover_kubelet_unit_beside_k3s(node: Node) -> None:
    node.services["kubelet"]["ActiveState"] = "inactive"
    node.services["rke2-server"] = {**SHOWN, "FragmentPath": "", "DropInPaths": ""}
    assert node.read()["manager"] == "rke2"


K0S_COMMAND = [
    "/var/lib/k0s/bin/kubelet",
    "--root-dir=/var/lib/k0s/kubelet",
    "--config=/run/k0s/kubelet/config.yaml",
    "--kubeconfig=/var/lib/k0s/kubelet.conf",
    "--runtime-cgroups=/system.slice/containerd.service",
]
K0S_NODE = {
    "/etc/systemd/system/k0sworker.service": "[Service]\nExecStart=/usr/local/bin/k0s worker --profile=gpu\n",
    "/run/k0s/kubelet/config.yaml": HEAD
    + "cpuManagerPolicy: static\nreservedSystemCPUs: '0'\nkubeReservedCgroup: ''\n",
    "/proc/4711/stat": "4711 (k0s) S 1 4711\n",
    "/proc/815/stat": "815 (containerd) S 4711 815\n",
    "/proc/816/stat": "816 (kubelet) S 4711 816\n",
    "/proc/816/cmdline": "\0".join(K0S_COMMAND) + "\0",
    "/proc/817/stat": "817 (kubelet) S 9000 817\n",
    "/proc/817/cmdline": "kubelet\0--in-a-container\0",
    "/var/lib/k0s/bin/kubelet": "",
    "/var/lib/k0s/kubelet/cpu_manager_state": KUBEADM_NODE["/var/lib/kubelet/cpu_manager_state"],
}
"""As k0sproject/k0s@dff90ce runs a worker (pkg/component/worker/kubelet.go), with fewer arguments."""


@pytest.fixture
def k0s(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Node:
    monkeypatch.setitem(PROGRAMS, "/var/lib/k0s/bin/kubelet", "Kubernetes v1.36.3+k0s\n")
    node = Node(tmp_path)
    for name, text in K0S_NODE.items():
        node.write(name, text)
    node.path("/var/lib/k0s/bin/kubelet").chmod(0o755)
    unit = "/etc/systemd/system/k0sworker.service"
    node.services["k0sworker"] = {**SHOWN, "FragmentPath": unit, "DropInPaths": ""}
    return node


def test_a_node_of_k0s_is_read_from_the_process_that_it_started(k0s: Node) -> None:
    report = k0s.read()
    assert report["problems"] == []
    assert (report["manager"], report["version"], report["service"]["name"]) == ("k0s", "1.36.3", "k0sworker")
    assert report["command_line"] == report["configured_command_line"] == K0S_COMMAND
    assert (report["effective"]["cpuManagerPolicy"], report["config_file"]) == ("static", K0S_COMMAND[2].split("=")[1])
    assert report["state"]["cpu_manager"]["path"] == "/var/lib/k0s/kubelet/cpu_manager_state"
    assert report["extra_args_file"] is None


def test_a_kubelet_of_k0s_that_does_not_run_is_a_problem(k0s: Node) -> None:
    k0s.path("/proc/816/stat").unlink()
    [problem] = [each for each in k0s.read()["problems"] if each["code"] == "no_command"]
    assert "k0sworker.service runs no kubelet as a child process" in problem["text"]


@pytest.mark.parametrize(
    ("file", "text", "manager"),
    [
        ("/etc/kubernetes/kubelet.env", 'KUBELET_ARGS="--v=2"\n', "kubespray"),
        ("/etc/eks/kubelet/environment", "NODEADM_KUBELET_ARGS=--v=2\n", "nodeadm"),
        ("/etc/sysconfig/kubelet", 'DAEMON_ARGS="--v=2"\n', "kops"),
        ("/etc/machine-config-daemon/currentconfig", "{}\n", "openshift"),
    ],
)
def test_installers_with_a_service_of_their_own(node: Node, file: str, text: str, manager: str) -> None:
    node.write(file, text)
    assert node.read()["manager"] == "kubeadm"
    node.services["kubelet"]["DropInPaths"] = ""
    assert (node.read()["manager"], node.read()["extra_args_file"]) == (manager, None)


KUBESPRAY_ENV = "/etc/kubernetes/kubelet.env"
KUBESPRAY_CONFIG = "/etc/kubernetes/kubelet-config.yaml"
KUBESPRAY_NODE = {
    "/etc/systemd/system/kubelet.service": (
        "[Service]\nEnvironmentFile=-/etc/kubernetes/kubelet.env\nExecStart=/usr/local/bin/kubelet \\\n\t\t$KUBE_LOGTOSTDERR \\\n"
        "\t\t$KUBE_LOG_LEVEL \\\n\t\t$KUBELET_ADDRESS \\\n\t\t$KUBELET_ARGS \\\n\t\t$DOCKER_SOCKET \\\n\t\t$KUBELET_CLOUDPROVIDER\n"
        "Restart=always\nRestartSec=10s\n"
    ),
    KUBESPRAY_ENV: (
        'KUBE_LOG_LEVEL="--v=2"\nKUBELET_ADDRESS="--node-ip=10.0.0.7"\n\n\n'
        'KUBELET_ARGS="--bootstrap-kubeconfig=/etc/kubernetes/bootstrap-kubelet.conf \\\n'
        f"--config={KUBESPRAY_CONFIG} \\\n--kubeconfig=/etc/kubernetes/kubelet.conf \\\n"
        '--runtime-cgroups=/system.slice/containerd.service \\\n "\n'
        'KUBELET_CLOUDPROVIDER=""\n\nPATH=/usr/local/bin:/usr/bin\n'
    ),
    KUBESPRAY_CONFIG: HEAD + "cgroupDriver: systemd\nkubeReserved:\n  cpu: 100m\nsystemReserved:\n  cpu: 500m\n",
    "/usr/local/bin/kubelet": "",
    # an older run's, which kubespray's backup leaves beside the file
    f"{KUBESPRAY_ENV}.4242.2026-11-02@10:00:00~": 'KUBELET_ARGS="--cpu-manager-policy=static"\n',
}
"""As the templates in roles/kubernetes/node of kubernetes-sigs/kubespray@46dbdd3 write them, but for shorter texts."""


def test_a_kubespray_node(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(PROGRAMS, "/usr/local/bin/kubelet", "Kubernetes v1.36.3\n")
    node = Node(tmp_path)
    for name, text in KUBESPRAY_NODE.items():
        node.write(name, text)
    node.path("/usr/local/bin/kubelet").chmod(0o755)
    node.services["kubelet"] = {**SHOWN, "FragmentPath": "/etc/systemd/system/kubelet.service", "DropInPaths": ""}
    report = node.read()
    assert report["problems"] == []
    assert (report["manager"], report["version"]) == ("kubespray", "1.36.3")
    assert (report["extra_args_file"], report["extra_args_variable"]) == (KUBESPRAY_ENV, "KUBELET_ARGS")
    assert report["configured_command_line"] == [
        "/usr/local/bin/kubelet",
        "--v=2",
        "--node-ip=10.0.0.7",
        "--bootstrap-kubeconfig=/etc/kubernetes/bootstrap-kubelet.conf",
        f"--config={KUBESPRAY_CONFIG}",
        "--kubeconfig=/etc/kubernetes/kubelet.conf",
        "--runtime-cgroups=/system.slice/containerd.service",
    ]
    assert (report["config_file"], report["effective"]["cpuManagerPolicy"]) == (KUBESPRAY_CONFIG, "none")
    assert (report["cgroup"]["driver"], report["effective"]["kubeReserved"]) == ("systemd", {"cpu": "100m"})


OWN_SERVICES = {
    "nodeadm": {
        "/etc/systemd/system/kubelet.service": (
            "[Service]\nSlice=runtime.slice\nEnvironmentFile=/etc/eks/kubelet/environment\n"
            "ExecStart=/usr/bin/kubelet $NODEADM_KUBELET_ARGS\n"
        ),
        "/etc/eks/kubelet/environment": (
            "NODEADM_KUBELET_ARGS=--config=/etc/kubernetes/kubelet/config.json "
            "--config-dir=/etc/kubernetes/kubelet/config.json.d --kubeconfig=/var/lib/kubelet/kubeconfig\n"
        ),
        "/etc/kubernetes/kubelet/config.json": (
            '{"apiVersion": "kubelet.config.k8s.io/v1beta1", "kind": "KubeletConfiguration", "cgroupDriver": "systemd", '
            '"kubeReservedCgroup": "/runtime", "systemReservedCgroup": "/system"}'
        ),
        "/etc/kubernetes/kubelet/config.json.d/40-nodeadm.conf": (
            '{"apiVersion": "kubelet.config.k8s.io/v1beta1", "kind": "KubeletConfiguration", "cpuManagerPolicy": "static", '
            '"reservedSystemCPUs": "0", "kubeReservedCgroup": "", "systemReservedCgroup": ""}'
        ),
    },
    "kops": {
        "/etc/systemd/system/kubelet.service": (
            '[Service]\nEnvironmentFile=/etc/sysconfig/kubelet\nExecStart=/usr/bin/kubelet "$DAEMON_ARGS"\nRestart=always\n'
        ),
        "/etc/sysconfig/kubelet": (
            'DAEMON_ARGS="--config=/var/lib/kubelet/kubelet.conf --kubeconfig=/var/lib/kubelet/kubeconfig --v=2"\nHOME="/root"\n'
        ),
        "/var/lib/kubelet/kubelet.conf": HEAD
        + "cgroupDriver: systemd\ncpuManagerPolicy: static\nkubeReserved:\n  cpu: '2'\n",
    },
}
"""As awslabs/amazon-eks-ami@81fec2e (nodeadm/internal/kubelet, templates/al2023) and kubernetes/kops@268927e
(nodeup/pkg/model/kubelet.go) write them, but for shorter texts."""


@pytest.mark.parametrize(
    ("manager", "sets", "reserved"),
    [
        ("nodeadm", "/etc/kubernetes/kubelet/config.json.d/40-nodeadm.conf", {"reservedSystemCPUs": "0"}),
        ("kops", "/var/lib/kubelet/kubelet.conf", {"kubeReserved": {"cpu": "2"}}),
    ],
)
def test_a_node_of_eks_or_kops_is_read(tmp_path: Path, manager: str, sets: str, reserved: dict[str, t.Any]) -> None:
    node, unit = Node(tmp_path), "/etc/systemd/system/kubelet.service"
    for name, text in OWN_SERVICES[manager].items():
        node.write(name, text)
    node.services["kubelet"] = {**SHOWN, "FragmentPath": unit, "DropInPaths": ""}
    report = node.read()
    assert (report["problems"], report["manager"], report["extra_args_file"]) == ([], manager, None)
    assert report["effective"]["cpuManagerPolicy"] == "static"
    assert report["sources"]["cpuManagerPolicy"].endswith(f":{sets}")
    assert report["cgroup"]["driver"] == "systemd"
    assert reserved.items() <= report["effective"].items()
    assert report["effective"]["kubeReservedCgroup"] == ""


SNAP_UNITS = {"microk8s": "snap.microk8s.daemon-kubelite", "k8s-snap": "snap.k8s.kubelet"}
SNAP_FILES = {"microk8s": "/var/snap/microk8s/current/args/kubelet", "k8s-snap": "/var/snap/k8s/common/args/kubelet"}
SNAP_FOLDERS = {"microk8s": "/snap/microk8s/current", "k8s-snap": "/snap/k8s/current"}


def snap_node(root: Path, manager: str, text: str | None) -> Node:
    """:param text: the file of arguments; None if there is none"""
    node, unit = Node(root), f"/etc/systemd/system/{SNAP_UNITS[manager]}.service"
    node.services[SNAP_UNITS[manager]] = {**SHOWN, "FragmentPath": unit, "DropInPaths": "", "RestartUSec": "100ms"}
    command = SNAP_UNITS[manager].removeprefix("snap.")
    node.write(unit, f"[Service]\nExecStart=/usr/bin/snap run {command}\nRestart=on-failure\n")
    node.write(f"{SNAP_FOLDERS[manager]}/meta/snap.yaml", "name: x\nversion: v1.36.2\nbase: core22\n")
    if text is not None:
        node.write(SNAP_FILES[manager], text)
    return node


@pytest.mark.parametrize(
    ("manager", "root_dir", "driver"),
    [
        ("microk8s", "/var/snap/microk8s/common/var/lib/kubelet", "cgroupfs"),
        ("k8s-snap", "/var/lib/kubelet", "systemd"),
    ],
)
def test_a_node_of_a_snap(tmp_path: Path, manager: str, root_dir: str, driver: str) -> None:
    node = snap_node(tmp_path, manager, ARGUMENTS[manager] + "--cpu-manager-policy=static\n--reserved-cpus=0\n")
    node.write(f"{root_dir}/cpu_manager_state", KUBEADM_NODE["/var/lib/kubelet/cpu_manager_state"])
    report = node.read()
    assert report["problems"] == []
    assert (report["manager"], report["version"]) == (manager, "1.36.2")
    assert report["service"]["name"] == SNAP_UNITS[manager]
    assert (report["extra_args_file"], report["extra_args_variable"]) == (SNAP_FILES[manager], None)
    assert report["effective"]["cpuManagerPolicy"] == "static"
    assert report["effective"]["evictionHard"]["memory.available"] == "100Mi"
    assert report["cgroup"]["driver"] == driver
    assert (report["root_dir"], report["state"]["cpu_manager"]["policy"]) == (root_dir, "none")
    assert (report["config_file"], report["config_dir"]) == (None, None)


def test_a_snap_that_has_not_joined_a_cluster_is_named(tmp_path: Path) -> None:
    [problem] = snap_node(tmp_path, "k8s-snap", None).read()["problems"]
    assert problem["code"] == "no_argument_file"
    assert "Canonical Kubernetes reads the kubelet's arguments from it" in problem["text"]


def test_a_snap_s_service_that_does_not_run_is_named_as_it_is(tmp_path: Path) -> None:
    node = snap_node(tmp_path, "microk8s", ARGUMENTS["microk8s"])
    node.services[SNAP_UNITS["microk8s"]].update({"ActiveState": "inactive", "SubState": "dead", "MainPID": "0"})
    problem = node.read()["start_problem"]
    assert problem["code"] == "kubelet_does_not_run"
    assert "`systemctl start snap.microk8s.daemon-kubelite`" in problem["remedy"]


def test_the_remedy_of_a_refused_state_file_names_the_snap_s_service_and_its_file(tmp_path: Path) -> None:
    node = snap_node(tmp_path, "microk8s", ARGUMENTS["microk8s"])
    node.services[SNAP_UNITS["microk8s"]].update(CRASHED)
    node.journal = MEMORY
    remedy = node.read()["start_problem"]["remedy"]
    path = "/var/snap/microk8s/common/var/lib/kubelet/memory_manager_state"
    service = "snap.microk8s.daemon-kubelite"
    assert f"`systemctl stop {service}; rm {path}; systemctl start {service}`" in remedy


def test_a_file_of_arguments_that_a_shell_would_refuse_is_named(tmp_path: Path) -> None:
    [problem] = snap_node(tmp_path, "k8s-snap", '--v="2\n').read()["problems"]
    assert problem["code"] == "argument_file_invalid"
    assert "a quote is not closed" in problem["text"]


def test_no_kubelet(tmp_path: Path) -> None:
    node = Node(tmp_path)
    with pytest.raises(
        TuningError, match=r"has no kubelet: .*kubelet\.service, k3s\.service.*k0sworker\.service.*--limit"
    ):
        node.read()
    node.path("/usr/bin/systemctl").unlink()
    with refused("no_kubelet"):
        node.read()


@pytest.mark.parametrize(
    ("texts", "settings"),
    [
        pytest.param([], {}, id="no files"),
        pytest.param(["[Unit]\nA=1\n[Service]\nA = 2\nA=3\n"], {"A": ["2", "3"]}, id="the section, several values"),
        pytest.param(["[Service]\nA=1\n", "[Service]\nA=\nA=2\n"], {"A": ["2"]}, id="an empty value forgets"),
        pytest.param(
            ["[Service]\nA=1 \\\n# c\n  2\nB=3\n"], {"A": ["1    2"], "B": ["3"]}, id="continuation with a comment"
        ),
        pytest.param(["; c\n#[Service]\nA=1\n"], {}, id="comments"),
    ],
)
def test_parse_unit(texts: list[str], settings: dict[str, list[str]]) -> None:
    assert parse_unit(texts) == settings


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("10s", 10), ("100ms", 0.1), ("1min 30s", 90), ("0", 0), ("infinity", None), ("", None), ("2h 1d", 93600)],
)
def test_parse_time_span(text: str, seconds: float | None) -> None:
    assert parse_time_span(text) == seconds


UNIT_TEXT = (
    "[Service]\n# c\nExecStart=/usr/bin/kubelet \\\n  $KUBELET_EXTRA_ARGS\nExecStart=\nRestartSec=1min 30s\n[Install]\n"
)


@given(st.lists(damaged(UNIT_TEXT), max_size=3))
def test_any_unit_file_has_settings(texts: list[str]) -> None:
    for name, values in parse_unit(texts).items():
        assert name.strip() == name
        for value in values:
            assert value
            parse_time_span(value)
