# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.kubepin.tuning.plugins.module_utils.node.upgrade import packages
from ansible_collections.kubepin.tuning.plugins.module_utils.node.upgrade.packages import (
    Apt,
    Dnf,
    control_of,
    moved,
    newest,
    overwriting_warning,
    package_of,
    package_problems,
    unpackaged_problems,
)
from ansible_collections.kubepin.tuning.plugins.module_utils.node.upgrade.source import Repository, Source

KUBELET = {"manager": "dpkg", "name": "kubelet", "version": "1.21.14-00", "held": False}


@pytest.fixture
def managers(monkeypatch: pytest.MonkeyPatch) -> Any:
    present: set[str] = set()
    monkeypatch.setattr(shutil, "which", lambda name: name if name in present else None)
    return present


def answering(*answers: Any) -> Any:
    left = list(answers)
    return lambda argv: left.pop(0)


@pytest.mark.parametrize(("want", "held"), [("hold", True), ("install", False)])
def test_dpkg_names_package_version_and_hold(managers: Any, want: str, held: bool) -> None:
    managers.add("dpkg-query")
    run = answering((0, "kubelet: /usr/bin/kubelet\n", ""), (0, f"kubelet\t1.21.14-00\t{want}", ""))
    assert package_of(run, "/usr/bin/kubelet") == {**KUBELET, "held": held}


def test_a_program_of_no_package(managers: Any) -> None:
    managers.update(("dpkg-query", "rpm"))
    run = answering((1, "", "dpkg-query: no path found"), (1, "file is not owned by any package\n", ""))
    assert package_of(run, "/usr/bin/kubelet") is None


def test_a_diversion_is_no_package(managers: Any) -> None:
    managers.add("dpkg-query")
    assert package_of(answering((0, "diversion by x from: /usr/bin/kubelet\n", "")), "/usr/bin/kubelet") is None


def test_rpm_names_package_and_version(managers: Any) -> None:
    managers.add("rpm")
    found = package_of(answering((0, "kubelet\t1.28.2-150500.1.1\n", "")), "/usr/bin/kubelet")
    assert found == {"manager": "rpm", "name": "kubelet", "version": "1.28.2-150500.1.1", "held": None}


def test_programs_without_packages_need_no_warning() -> None:
    assert overwriting_warning({"kubelet": None, "kubeadm": None}) is None


def test_the_warning_names_the_packages_and_how_to_hold_those_that_are_not() -> None:
    held = {**KUBELET, "name": "kubeadm", "held": True}
    warning = overwriting_warning({"kubelet": KUBELET, "kubeadm": held, "kubectl": None})
    assert warning
    assert "kubelet 1.21.14-00, kubeadm 1.21.14-00" in warning
    assert "`apt-mark hold kubelet`" in warning


def test_held_packages_stay_held() -> None:
    warning = overwriting_warning({"kubelet": {**KUBELET, "held": True}})
    assert warning
    assert "leave it so" in warning
    assert "apt-mark" not in warning


def test_rpm_is_held_with_versionlock() -> None:
    warning = overwriting_warning({"kubelet": {**KUBELET, "manager": "rpm", "held": None}})
    assert warning
    assert "`dnf versionlock add kubelet`" in warning


COMMUNITY = Repository("https://pkgs.k8s.io/core:/stable:/v{minor}/{format}/")
OWNED = {
    name: {"manager": "dpkg", "name": name, "version": "1.21.14-00", "held": False}
    for name in ("kubeadm", "kubelet", "kubectl")
}


@pytest.mark.parametrize(
    ("version", "chosen"),
    [("1.28.2", "1.28.2-2.1"), ("1.22.17", "1.22.17-00"), ("1.28.20", None), ("1.22.1", None)],
)
def test_the_newest_revision_of_exactly_that_version_is_taken(version: str, chosen: str | None) -> None:
    assert newest(version, ["1.28.2-2.1", "1.28.2-1.1", "1.22.17-00", "1.22.15-00"]) == chosen


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (
            "deb [signed-by=/k.gpg] https://pkgs.k8s.io/core:/stable:/v1.27/deb/ /\n",
            "deb [signed-by=/k.gpg] https://pkgs.k8s.io/core:/stable:/v1.28/deb/ /\n",
        ),
        (
            "URIs: https://pkgs.k8s.io/core:/stable:/v1.27/deb\nSuites: /\n",
            "URIs: https://pkgs.k8s.io/core:/stable:/v1.28/deb\nSuites: /\n",
        ),
        ("# deb https://pkgs.k8s.io/core:/stable:/v1.27/deb/ /\n", None),
        ("deb https://pkgs.k8s.io/core:/prerelease:/v1.27/deb/ /\n", None),
    ],
)
def test_a_repository_file_is_pointed_to_the_minor_and_else_left_as_it_is(text: str, expected: str | None) -> None:
    assert moved(text, COMMUNITY, "1.28.2", "deb") == expected


def test_a_dnf_repository_is_moved_with_its_key_and_keeps_its_exclusion() -> None:
    text = "baseurl={0}/rpm/\ngpgkey={0}/rpm/repodata/repomd.xml.key\nexclude=kubelet kubeadm kubectl\n"
    community = "https://pkgs.k8s.io/core:/stable:/v1.{}"
    found = moved(text.format(community.format(27)), COMMUNITY, "1.28.2", "rpm")
    assert found == text.format(community.format(28))


@pytest.mark.parametrize(
    ("key", "line"),
    [
        (None, "deb https://m/1.22 main\n"),
        ("unsigned", "deb [trusted=yes] https://m/1.22 main\n"),
        ("/k.gpg", "deb [signed-by=/k.gpg] https://m/1.22 main\n"),
    ],
)
def test_a_node_that_does_not_know_the_repository_gets_a_file(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, key: str | None, line: str
) -> None:
    monkeypatch.setattr(packages, "APT_FOLDER", str(tmp_path))
    found = Apt(answering(), Repository("https://m/{minor}", "main", key)).repository_files("1.22.17")
    assert found == {f"{tmp_path}/kubernetes.list": line}


def test_dnf_trusts_the_key_beside_the_repository(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(packages, "DNF_FOLDER", str(tmp_path))
    [text] = Dnf(answering(), COMMUNITY).repository_files("1.28.2").values()
    assert "gpgkey=https://pkgs.k8s.io/core:/stable:/v1.28/rpm/repodata/repomd.xml.key\n" in text
    assert "gpgcheck=1" in text


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"kubelet": None}, "its kubelet belongs to no package"),
        ({"kubectl": {**KUBELET, "name": "kubernetes-client"}}, "its kubectl belongs to package kubernetes-client"),
    ],
)
def test_programs_of_no_or_another_package_are_refused(changes: dict[str, Any], reason: str) -> None:
    [problem] = unpackaged_problems({**OWNED, **changes}, list(OWNED))
    assert problem.code == "programs_not_packaged"
    assert reason in problem.finding


def test_a_node_may_lack_kubectl_only() -> None:
    assert unpackaged_problems({**OWNED, "kubectl": None}, ["kubeadm", "kubelet"]) == []
    [problem] = unpackaged_problems({**OWNED, "kubeadm": None}, ["kubelet", "kubectl"])
    assert "it has no kubeadm" in problem.finding


def problems(source: Any, versions: Any) -> Any:
    return package_problems(answering(), source, versions, OWNED, list(OWNED))


def test_minors_that_the_community_no_longer_has_are_named_without_asking(managers: Any) -> None:
    managers.add("apt-get")
    found = problems(Source(packages=COMMUNITY), ["1.22.17", "1.23.17"])
    assert [problem.subject for problem in found] == ["packages of 1.22.17:", "packages of 1.23.17:"]
    assert {problem.code for problem in found} == {"repository_too_young"}


def test_combinations_that_cannot_work_are_refused_all_at_once(managers: Any) -> None:
    both = problems(Source(packages=COMMUNITY, checksums={"1.28.2": {}}), ["1.28.2"])
    assert [problem.code for problem in both] == ["checksums_of_packages", "no_package_manager"]
    managers.add("apt-get")
    [key] = problems(Source(packages=Repository("https://m/{minor}", key="/nowhere.gpg")), ["1.28.2"])
    assert key.code == "repository_key_missing"
    assert problems(Source("/srv"), ["1.28.2"]) == []


def test_packages_over_http_must_be_signed(managers: Any) -> None:
    managers.add("apt-get")
    [found] = problems(Source(packages=Repository("http://m/{minor}", key="unsigned")), ["1.28.2"])
    assert found.code == "repository_unprotected"


def test_what_a_repository_lacks_is_named_with_what_it_has(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(packages, "APT_FOLDER", str(tmp_path))

    def run(argv: Any) -> Any:
        if argv[0] == "apt-cache":
            return (
                0,
                "" if argv[-1] == "kubectl" else f" {argv[-1]} | 1.22.17-00 | x\n {argv[-1]} | 1.22.15-00 | x\n",
                "",
            )
        return 0, "1.21.14-00\tii " if argv[0] == "dpkg-query" else "", ""

    [problem] = Apt(run, Repository("https://m/{minor}")).problems("1.22.16")
    assert problem.code == "packages_missing"
    assert "kubeadm, kubelet, kubectl 1.22.16" in problem.subject
    assert "it has 1.22.15-00, 1.22.17-00" in problem.finding


def test_dnf_moves_locks_that_name_a_version() -> None:
    asked = []

    def run(argv: Any) -> Any:
        asked.append(argv)
        if argv[-1] == "list":
            return 0, "kubelet-0:1.27.1-1.1.*\n", ""
        return 0, "1.28.2-1.1" if argv[0] == "rpm" else "", ""

    Dnf(run, COMMUNITY).hold_again([], ["kubeadm", "kubelet"])
    commands = [argv for argv in asked if argv[0] == "dnf"]
    assert [argv[4:] for argv in commands[1:]] == [
        ["add", "--raw", "kubelet-0:1.28.2-1.1.*"],
        ["delete", "kubelet-0:1.27.1-1.1.*"],
    ]
    assert all("--disablerepo=*" in argv for argv in commands), "the kubelet is stopped: no repository is asked"


def test_dnf_is_not_asked_to_keep_nothing(tmp_path: Path) -> None:
    """A run that is repeated has kept everything already; `dnf reinstall` without a package is an error."""
    Dnf(lambda argv: pytest.fail(f"ran {argv}"), COMMUNITY).keep([], str(tmp_path))


def test_a_control_file_is_what_the_database_says_without_its_own_words() -> None:
    status = (
        "Package: kubelet\nStatus: hold ok installed\nVersion: 1.21.14-00\nConffiles:\n /etc/default/kubelet 0123\n"
        "Description: agent\n of a node\n"
    )
    assert control_of(status) == "Package: kubelet\nVersion: 1.21.14-00\nDescription: agent\n of a node\n"


@pytest.mark.skipif(not shutil.which("dpkg-deb"), reason="dpkg-deb is Debian's")
def test_a_package_is_made_anew_where_lib_is_a_link(tmp_path: Path) -> None:
    (tmp_path / "usr/lib/systemd").mkdir(parents=True)
    (tmp_path / "usr/lib/systemd/x.service").write_text("unit")
    (tmp_path / "lib").symlink_to("usr/lib")
    (tmp_path / "usr/lib/alias").symlink_to("systemd/x.service")
    (tmp_path / "kept").mkdir()
    listed = [f"{tmp_path}/{name}" for name in ("lib", "lib/systemd", "lib/systemd/x.service", "lib/alias", "gone")]
    parents = [str(folder) for folder in reversed(tmp_path.parents)][1:]

    def run(argv: Any) -> Any:
        if argv[0] == "dpkg-query":
            status = (
                "Package: x\nStatus: hold ok installed\nVersion: 1-00\nArchitecture: all\nMaintainer: m\nConffiles:\n"
                f" {tmp_path}/lib/alias 0123\n {tmp_path}/gone 0123 obsolete\n /never 0123\nDescription: d\n"
            )
            answers = {"--listfiles": "\n".join(["/.", *parents, str(tmp_path), *listed]), "--status": status}
            return 0, answers.get(argv[1], ""), ""
        done = subprocess.run(argv, capture_output=True, text=True, check=False)
        return done.returncode, done.stdout, done.stderr

    apt = Apt(run, COMMUNITY)
    apt.keep(["x"], str(tmp_path / "kept"))
    [(name, path)] = apt.files_in(str(tmp_path / "kept")).items()
    assert (name, apt.describe(path)) == ("x", ("x", "1-00"))
    assert run(["dpkg-deb", "--info", path, "conffiles"])[1] == f"{tmp_path}/lib/alias\n", "else dpkg would remove it"
    apt.extract(path, str(tmp_path / "out"))
    unpacked = tmp_path / "out" / str(tmp_path).lstrip("/") / "lib"
    assert (unpacked.is_symlink(), (unpacked / "systemd/x.service").read_text()) == (False, "unit")
    assert os.readlink(unpacked / "alias") == "systemd/x.service"
