# SPDX-License-Identifier: GPL-3.0-or-later
"""What runtimes' own configurations amount to, on made machines whose programs answer as the real ones do."""

from __future__ import annotations

import contextlib
import json
import os
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.kubepin.tuning.plugins.module_utils.control.gpu_access.container_runtime import (
    containerd_runtime,
    crio_runtime,
    docker_runtime,
    nvidia_settings,
    parse_runc_version,
    runtime_facts,
)
from ansible_collections.kubepin.tuning.plugins.module_utils.control.gpu_access.document import Unknown
from ansible_collections.kubepin.tuning.plugins.module_utils.control.gpu_access.node import Node, with_facts
from ansible_collections.kubepin.tuning.plugins.module_utils.node.readers.container_runtime import (
    Machine,
    read_programs,
    read_runtime,
)
from ansible_collections.kubepin.tuning.tests.unit.samples.inputs import damaged, documents
from hypothesis import given

CONTAINERD_1 = """\
imports = ["/etc/containerd/config.toml"]
oom_score = 0
version = 2

[plugins]

  [plugins."io.containerd.grpc.v1.cri"]
    enable_cdi = {cdi}
    sandbox_image = "registry.k8s.io/pause:3.6"

    [plugins."io.containerd.grpc.v1.cri".containerd]
      default_runtime_name = "{default}"

      [plugins."io.containerd.grpc.v1.cri".containerd.runtimes]

        [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.nvidia]
          privileged_without_host_devices = false
          runtime_type = "io.containerd.runc.v2"

          [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.nvidia.options]
            BinaryName = "{nvidia}"
            SystemdCgroup = true

        [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
          runtime_type = "io.containerd.runc.v2"

          [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc.options]
            BinaryName = ""
            SystemdCgroup = true
"""
CONTAINERD_2 = """\
version = 3
root = '/var/lib/containerd'
imports = ['/etc/containerd/config.toml', '/etc/containerd/conf.d/99-nvidia.toml']

[plugins]
  [plugins.'io.containerd.cri.v1.images']
    snapshotter = 'overlayfs'

  [plugins.'io.containerd.cri.v1.runtime']
    enable_cdi = true
    cdi_spec_dirs = ['/etc/cdi', '/var/run/cdi']

    [plugins.'io.containerd.cri.v1.runtime'.containerd]
      default_runtime_name = 'runc'

      [plugins.'io.containerd.cri.v1.runtime'.containerd.runtimes]
        [plugins.'io.containerd.cri.v1.runtime'.containerd.runtimes.runc]
          runtime_type = 'io.containerd.runc.v2'

          [plugins.'io.containerd.cri.v1.runtime'.containerd.runtimes.runc.options]
            BinaryName = ''
            SystemdCgroup = true
"""
CONTAINERD_2_4 = CONTAINERD_2.replace("version = 3", "version = 4").replace("    enable_cdi = true\n", "")
CRIO = """\
[crio]
  root = "/var/lib/containers/storage"
  [crio.runtime]
    cgroup_manager = "systemd"
    default_runtime = "{default}"
    hooks_dir = ["/usr/share/containers/oci/hooks.d"]
    [crio.runtime.runtimes]
      [crio.runtime.runtimes.runc]
        runtime_path = "/usr/bin/runc"
        runtime_type = "oci"
      [crio.runtime.runtimes.crun]
        runtime_path = "/usr/bin/crun"
        runtime_type = "oci"
"""
NVIDIA = """\
#accept-nvidia-visible-devices-as-volume-mounts = false
disable-require = false

[nvidia-container-cli]
environment = []
#path = "/usr/bin/nvidia-container-cli"
ldconfig = "@/sbin/ldconfig.real"

[nvidia-container-runtime]
log-level = "info"
mode = "{mode}"
runtimes = [
    "docker-runc",
    "runc",
]

    [nvidia-container-runtime.modes]

        [nvidia-container-runtime.modes.cdi]
        default-kind = "nvidia.com/gpu"
"""
DOCKER = json.dumps(
    {
        "DefaultRuntime": "nvidia",
        "CgroupDriver": "cgroupfs",
        "Runtimes": {"nvidia": {"path": "nvidia-container-runtime"}},
    }
)
RUNC = "runc version {}\ncommit: v1\nspec: 1.0.2-dev\n"


class MadeMachine:
    """A folder with programs, and what they answer."""

    def __init__(self, root: Any) -> None:
        self.root = str(root)
        self.answers: dict[str, Any] = {}
        self.calls: list[Any] = []

    def program(self, path: Any, **answers: Any) -> Any:
        self.file(path, "", 0o755)
        self.answers[path] = {key.replace("_", " "): answer for key, answer in answers.items()}
        return self

    def file(self, path: Any, text: str = "", mode: int = 0o644) -> Any:
        where = self.root + path
        os.makedirs(os.path.dirname(where), exist_ok=True)
        with open(where, "w") as file:
            file.write(text)
        os.chmod(where, mode)
        return self

    def run(self, argv: Any) -> Any:
        answer = self.answers[argv[0][len(self.root) :]].get(" ".join(argv[1:]))
        return (1, "", "no such command") if answer is None else (0, answer, "")

    def call(self, module: Any, arguments: Any) -> Any:
        self.calls.append(module)
        machine = Machine(self.run, self.root)
        if module == "container_programs_info":
            return json.loads(json.dumps(read_programs(machine, **arguments)))
        sources = read_runtime(machine, arguments["runtime"], arguments["gpu_device_paths"])
        return json.loads(json.dumps({"sources": {**sources, "threads_per_core": 2}}))

    def read(self, runtime: str = "containerd") -> Any:
        return runtime_facts(self.call, runtime, ["/dev/nvidia*"])


@pytest.fixture
def machine(tmp_path: Path) -> Any:
    return MadeMachine(tmp_path)


def version(text: Any) -> dict[str, Any]:
    return {"__version": text}


def containerd(
    machine: Any,
    default: str = "nvidia",
    nvidia: str = "/usr/bin/nvidia-container-runtime",
    cdi: str = "false",
    runc: str = "1.0.0~rc93+ds1",
) -> Any:
    dump = CONTAINERD_1.format(default=default, nvidia=nvidia, cdi=cdi)
    machine.program("/usr/bin/containerd", config_dump=dump)
    machine.program("/usr/sbin/runc")
    machine.answers["/usr/sbin/runc"] = {"--version": RUNC.format(runc)}
    return machine


def toolkit(
    machine: Any,
    mode: Any,
    release: Any,
    folder: str = "/usr/bin",
    config: str = "/etc/nvidia-container-runtime/config.toml",
) -> None:
    machine.program(f"{folder}/nvidia-ctk")
    machine.answers[f"{folder}/nvidia-ctk"] = {
        "--version": f"NVIDIA Container Toolkit CLI version {release}\ncommit: x"
    }
    machine.file(config, NVIDIA.format(mode=mode))


def facts(report: Any) -> Any:
    return {key: report[key] for key in ("runc_version", "device_injection", "cgroup_driver")}


@pytest.mark.parametrize(
    ("mode", "release", "expected"),
    [
        ("legacy", "1.17.8", "legacy"),
        ("cdi", "1.17.8", "cdi"),
        ("jit-cdi", "1.18.0", "cdi"),
        ("auto", "1.17.8", "legacy"),
        ("auto", "1.18.0", "cdi"),
        ("csv", "1.17.8", None),
    ],
)
def test_nvidias_runtime_by_its_mode(machine: Any, mode: str, release: str, expected: str | None) -> None:
    containerd(machine)
    toolkit(machine, mode, release)
    report = machine.read()
    assert report["device_injection"] == expected
    assert (report["runc_version"], report["cgroup_driver"]) == ("1.0.0-rc93", "systemd")
    if expected is None:
        assert any(f'mode "{mode}"' in why for why in report["unknown"])


def test_auto_with_a_specification_is_decided_pod_by_pod(machine: Any) -> None:
    containerd(machine)
    toolkit(machine, "auto", "1.14.3")
    machine.file("/etc/cdi/nvidia.yaml")
    assert machine.read()["device_injection"] is None


def test_the_operators_own_toolkit(machine: Any) -> None:
    folder = "/usr/local/nvidia/toolkit"
    containerd(machine, nvidia=f"{folder}/nvidia-container-runtime")
    toolkit(machine, "cdi", "1.17.8", folder, f"{folder}/.config/nvidia-container-runtime/config.toml")
    machine.file("/etc/nvidia-container-runtime/config.toml", NVIDIA.format(mode="legacy"))
    assert machine.read()["device_injection"] == "cdi"


@pytest.mark.parametrize(("variant", "expected"), [("cdi", "cdi"), ("legacy", "legacy"), ("real", None)])
def test_a_variant_says_its_mode_by_its_name(machine: Any, variant: str, expected: str | None) -> None:
    containerd(machine, nvidia=f"/usr/bin/nvidia-container-runtime.{variant}")
    assert machine.read()["device_injection"] == expected


def test_handlers_that_differ_make_a_fact_unknown(machine: Any) -> None:
    containerd(machine, default="runc")
    toolkit(machine, "legacy", "1.17.8")
    report = machine.read()
    assert facts(report) == {"runc_version": "1.0.0-rc93", "device_injection": None, "cgroup_driver": "systemd"}
    assert any("legacy under nvidia, device_specs under runc" in why for why in report["unknown"])
    assert report["default_handler"] == "runc"
    same = {"runc_version": "1.0.0-rc93", "cgroup_driver": "systemd"}
    assert report["handlers"] == {
        "nvidia": {**same, "device_injection": "legacy"},
        "runc": {**same, "device_injection": "device_specs"},
    }


def test_other_handlers_do_not_make_a_fact_unknown(machine: Any) -> None:
    """Of a handler that starts virtual machines, nothing is known; one with another runc counts for its own pods."""
    runtimes = "plugins.'io.containerd.grpc.v1.cri'.containerd.runtimes"
    others = f"""
[{runtimes}.kata]
runtime_type = "io.containerd.kata.v2"
[{runtimes}.old]
runtime_type = "io.containerd.runc.v2"
[{runtimes}.old.options]
BinaryName = "/opt/old/runc"
"""
    dump = CONTAINERD_1.format(default="runc", nvidia="/usr/bin/nvidia-container-runtime.legacy", cdi="false")
    containerd(machine, runc="1.2.4").program("/usr/bin/containerd", config_dump=dump + others)
    machine.program("/opt/old/runc")
    machine.answers["/opt/old/runc"] = {"--version": RUNC.format("1.1.5")}
    report = machine.read()
    assert report["runc_version"] == "1.2.4"
    assert report["handlers"]["old"] == {
        "runc_version": "1.1.5",
        "device_injection": "device_specs",
        "cgroup_driver": "cgroupfs",
    }
    assert report["handlers"]["kata"] == {"runc_version": None, "device_injection": None, "cgroup_driver": None}


@pytest.mark.parametrize(
    ("dump", "specification", "expected"),
    [
        pytest.param(CONTAINERD_2, "nvidia.yaml", "cdi", id="version 3"),
        pytest.param(CONTAINERD_2, "vendor.yaml", "device_specs", id="version 3, another vendor"),
        pytest.param(CONTAINERD_2.replace("cdi = true", "cdi = false"), "nvidia.yaml", "device_specs", id="CDI off"),
        pytest.param(CONTAINERD_2_4, "nvidia.yaml", "cdi", id="version 4 has no enable_cdi any more"),
        pytest.param(CONTAINERD_2_4, "vendor.yaml", "device_specs", id="version 4, another vendor"),
    ],
)
def test_containerd_2_with_plain_runc(machine: Any, dump: str, specification: str, expected: str) -> None:
    machine.program("/usr/bin/containerd", config_dump=dump)
    machine.program("/usr/local/sbin/runc")
    machine.answers["/usr/local/sbin/runc"] = {"--version": RUNC.format("1.2.6")}
    machine.file(f"/var/run/cdi/{specification}")
    assert facts(machine.read()) == {"runc_version": "1.2.6", "device_injection": expected, "cgroup_driver": "systemd"}


def test_crio(machine: Any) -> None:
    machine.program("/usr/bin/crio", status_config=CRIO.format(default="runc"))
    machine.program("/usr/bin/runc")
    machine.answers["/usr/bin/runc"] = {"--version": RUNC.format("1.1.12")}
    expected = {"runc_version": "1.1.12", "device_injection": "device_specs", "cgroup_driver": "systemd"}
    assert facts(machine.read("cri-o")) == expected
    machine.file("/usr/share/containers/oci/hooks.d/oci-nvidia-hook.json")
    assert facts(machine.read("cri-o")) == {**expected, "device_injection": "legacy"}


def test_crun_has_no_version_of_runc(machine: Any) -> None:
    machine.program("/usr/bin/crio", status_config=CRIO.format(default="crun"))
    machine.program("/usr/bin/crun")
    machine.answers["/usr/bin/crun"] = {"--version": "crun version 1.14.1\n"}
    report = machine.read("cri-o")
    assert report["runc_version"] is None
    assert any('says it is "crun version 1.14.1", not runc' in why for why in report["unknown"])


def test_docker(machine: Any) -> None:
    machine.program("/usr/bin/docker")
    machine.answers["/usr/bin/docker"] = {"info --format {{json .}}": DOCKER}
    machine.program("/usr/bin/docker-runc")
    machine.answers["/usr/bin/docker-runc"] = {"--version": RUNC.format("1.0.0-rc10")}
    toolkit(machine, "legacy", "1.5.0")
    expected = {"runc_version": "1.0.0-rc10", "device_injection": "legacy", "cgroup_driver": "cgroupfs"}
    assert facts(machine.read("docker")) == expected


def test_another_runtime_in_a_wrapper_is_unknown(machine: Any) -> None:
    containerd(machine, default="runc")
    dump = CONTAINERD_2.replace("BinaryName = ''", "BinaryName = '/opt/runc-wrapper'")
    machine.program("/usr/bin/containerd", config_dump=dump)
    report = machine.read()
    assert (report["runc_version"], report["device_injection"]) == (None, None)


def test_nothing_is_known_of_a_machine_without_a_runtime(machine: Any) -> None:
    report = machine.read("unknown")
    assert set(facts(report).values()) == {None}
    assert report["dev_char_links"] is None
    assert len(report["unknown"]) == 4
    assert all("none of containerd, CRI-O and Docker" in why for why in report["unknown"][:3])
    assert "there is no device /dev/nvidia*" in report["unknown"][3]
    assert (report["default_handler"], report["handlers"]) == (None, {})


def test_a_failing_program_is_named_with_its_words(machine: Any) -> None:
    machine.program("/usr/bin/containerd")
    assert "`containerd config dump` failed: no such command" in machine.read()["unknown"][0]


@pytest.mark.parametrize("linked", [True, False])
def test_links_of_the_devices(machine: Any, linked: bool) -> None:
    status = os.stat("/dev/null")
    os.makedirs(machine.root + "/dev/char")
    os.symlink("/dev/null", machine.root + "/dev/nvidia0")
    if linked:
        machine.file(f"/dev/char/{os.major(status.st_rdev)}:{os.minor(status.st_rdev)}")
    assert machine.read()["dev_char_links"] is linked


@pytest.mark.parametrize(
    ("output", "expected"),
    [
        (RUNC.format("1.1.5+ds1"), "1.1.5"),
        (RUNC.format("1.0.0~rc93+ds1-5+deb11u5"), "1.0.0-rc93"),
        (RUNC.format("1.0.0-rc95"), "1.0.0-rc95"),
        (RUNC.format("1.3.0-rc.1"), "1.3.0-rc.1"),
    ],
)
def test_version_of_runc_as_the_audit_takes_it(output: Any, expected: str) -> None:
    assert parse_runc_version(output) == expected
    assert with_facts(Node(), "a", {"runc_version": expected}).runc is not None


@pytest.mark.parametrize("output", ["", "crun version 1.14\n"])
def test_no_version_of_runc(output: str) -> None:
    with pytest.raises(Unknown):
        parse_runc_version(output)


def test_a_known_configuration_takes_two_calls_and_another_low_level_runtime_one_more(machine: Any) -> None:
    containerd(machine)
    toolkit(machine, "legacy", "1.17.8")
    assert machine.read()["runc_version"] == "1.0.0-rc93"
    assert machine.calls == ["container_runtime_info", "container_programs_info"]
    machine.calls.clear()
    path = "/etc/nvidia-container-runtime/config.toml"
    machine.file(path, NVIDIA.format(mode="legacy").replace('"docker-runc"', '"/opt/runc"'))
    machine.program("/opt/runc")
    machine.answers["/opt/runc"] = {"--version": RUNC.format("1.1.9")}
    assert machine.read()["runc_version"] == "1.1.9"
    assert machine.calls == ["container_runtime_info", "container_programs_info", "container_programs_info"]


RUNTIMES = '[plugins."io.containerd.grpc.v1.cri".containerd'


@pytest.mark.parametrize(
    ("dump", "why"),
    [
        pytest.param("a = ", "`containerd config dump` is not TOML: Invalid value (at end of document)", id="no TOML"),
        pytest.param("a = " + "[" * 5000, "`containerd config dump` is not TOML: ", id="nested without end"),
        pytest.param("a = " + "9" * 5000, "`containerd config dump` is not TOML: ", id="a number without end"),
        pytest.param("version = 2", "`containerd config dump` has no CRI plugin", id="no plugins"),
        pytest.param("plugins = 5", "plugins is 5: expected a table", id="plugins are a number"),
        pytest.param(
            f"{RUNTIMES}]\ndefault_runtime_name = 5", "default_runtime_name is 5: expected a text", id="default"
        ),
        pytest.param(
            f"{RUNTIMES}]\ndefault_runtime_name = 'kata'", 'names no runtime "kata" of the CRI plugin', id="absent"
        ),
        pytest.param(
            f"{RUNTIMES}.runtimes]\nrunc = 'x'",
            """plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc is "x": expected a table""",
            id="a runtime is a text",
        ),
        pytest.param(
            f"{RUNTIMES}.runtimes.runc]\nruntime_type = 'io.containerd.runc.v2'\noptions = []",
            "runc.options is []: expected a table",
            id="options are a list",
        ),
        pytest.param(
            f"{RUNTIMES}.runtimes.runc]\nruntime_type = 'io.containerd.runc.v2'\noptions.SystemdCgroup = 'yes'",
            'SystemdCgroup is "yes": expected true or false',
            id="a flag is a text",
        ),
        pytest.param(
            f"{RUNTIMES}.runtimes.runc]\nruntime_type = 'io.containerd.runc.v2'\noptions.BinaryName = 1979-05-27",
            'BinaryName is "1979-05-27": expected a text',
            id="a program is a date",
        ),
    ],
)
def test_any_odd_configuration_of_containerd_is_told(machine: Any, dump: Any, why: str) -> None:
    machine.program("/usr/bin/containerd", config_dump=dump)
    report = machine.read()
    assert set(facts(report).values()) == {None}
    for name, reason in zip(facts(report), report["unknown"]):
        assert reason.startswith(f"{name}: `containerd config dump`")
        assert why in reason


@pytest.mark.parametrize(
    ("config", "why"),
    [
        pytest.param("crio = []", "`crio status config`: crio is []: expected a table", id="no table"),
        pytest.param("", '`crio status config` names no runtime ""', id="empty"),
        pytest.param(
            CRIO.format(default="runc").replace('["/usr/share/containers/oci/hooks.d"]', "[1]"),
            "crio.runtime.hooks_dir is [1]: expected a list of texts",
            id="hooks",
        ),
        pytest.param(
            CRIO.format(default="runc").replace('"/usr/bin/crun"', "true"),
            "crio.runtime.runtimes.crun.runtime_path is true: expected a text",
            id="path",
        ),
    ],
)
def test_any_odd_configuration_of_crio_is_told(machine: Any, config: Any, why: str) -> None:
    machine.program("/usr/bin/crio", status_config=config)
    report = machine.read("cri-o")
    assert set(facts(report).values()) == {None}
    assert all(why in reason for reason in report["unknown"][:3])


@pytest.mark.parametrize(
    ("info", "why"),
    [
        pytest.param("Cannot connect", "`docker info` is not JSON: ", id="no JSON"),
        pytest.param("[]", "`docker info` is []: expected a table", id="a list"),
        pytest.param("{}", "`docker info` names no default runtime", id="empty"),
        pytest.param(
            '{"DefaultRuntime": "runc", "Runtimes": {"runc": "x"}}',
            'Runtimes.runc is "x": expected a table',
            id="a runtime is a text",
        ),
    ],
)
def test_any_odd_answer_of_docker_is_told(machine: Any, info: str, why: str) -> None:
    machine.program("/usr/bin/docker")
    machine.answers["/usr/bin/docker"] = {"info --format {{json .}}": info}
    report = machine.read("docker")
    assert set(facts(report).values()) == {None}
    assert all(why in reason for reason in report["unknown"][:3])


@pytest.mark.parametrize(
    ("config", "why"),
    [
        pytest.param("mode", "nvidia-container-runtime's config.toml is not TOML: ", id="no TOML"),
        pytest.param("nvidia-container-runtime = 5", "nvidia-container-runtime is 5: expected a table", id="no table"),
        pytest.param(
            "[nvidia-container-runtime]\nruntimes = 'runc'",
            'runtimes is "runc": expected a list of texts',
            id="no list",
        ),
        pytest.param(
            "[nvidia-container-runtime]\nruntimes = ['', '../runc', '\\u0000']", "is on this node", id="no programs"
        ),
    ],
)
def test_any_odd_configuration_of_nvidias_runtime_is_told(machine: Any, config: str, why: str) -> None:
    containerd(machine)
    machine.file("/etc/nvidia-container-runtime/config.toml", config)
    report = machine.read()
    assert report["runc_version"] is None
    assert why in report["unknown"][0]


def test_a_configuration_that_is_no_text_is_told(machine: Any) -> None:
    containerd(machine)
    machine.file("/etc/nvidia-container-runtime/config.toml")
    with open(machine.root + "/etc/nvidia-container-runtime/config.toml", "wb") as file:
        file.write(b"\xff")
    assert "/etc/nvidia-container-runtime/config.toml cannot be read: " in machine.read()["unknown"][0]


@given(damaged(CONTAINERD_1) | documents("DefaultRuntime", "Runtimes", "path", "CgroupDriver"))
def test_any_configuration_is_read_or_unknown(text: str) -> None:
    for read in (containerd_runtime, crio_runtime, docker_runtime, nvidia_settings, parse_runc_version):
        with contextlib.suppress(Unknown):
            read(text)
