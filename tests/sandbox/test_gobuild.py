# SPDX-License-Identifier: GPL-3.0-or-later
"""go.mod files are rewritten so that a module builds outside its repository."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from sandbox.gobuild import (
    COREDNS,
    COREDNS_PLUGINS,
    ETCD,
    OWN_SOURCES,
    Go,
    KubernetesBuild,
    Replacement,
    go_version,
    module_refused,
    render_coredns,
    render_go_mod,
    replacements,
    replacing,
    staging_modules,
)
from sandbox.settings import DEFAULT_KUBERNETES, Paths, Version
from sandbox.shell import Log, Shell

OLD = """module k8s.io/kubernetes

go 1.16

require (
\tk8s.io/api v0.0.0
\tk8s.io/klog/v2 v2.9.0
)

replace (
\tgithub.com/modern-go/reflect2 => github.com/modern-go/reflect2 v1.0.1
\tgoogle.golang.org/grpc => google.golang.org/grpc v1.38.0 // pinned
\tk8s.io/api => ./staging/src/k8s.io/api
)

replace example.org/one v1.0.0 => example.org/two v1.1.0
"""
NEW = """module k8s.io/kubernetes

go 1.26.0

require (
\tk8s.io/api v0.0.0
\tk8s.io/client-go v0.0.0 // indirect
\tk8s.io/utils v0.0.0-20260210185600-b8788abfbbc2
)
"""


def test_replace_lines_of_both_forms_are_read() -> None:
    found = replacements(OLD)
    assert Replacement("google.golang.org/grpc", "google.golang.org/grpc v1.38.0") in found
    assert Replacement("example.org/one v1.0.0", "example.org/two v1.1.0") in found
    assert [r.old for r in found if r.local] == ["k8s.io/api"]


def test_staging_modules_of_old_and_new_releases() -> None:
    assert staging_modules(OLD) == ["k8s.io/api"]
    assert staging_modules(NEW) == ["k8s.io/api", "k8s.io/client-go"]


def test_rendered_go_mod() -> None:
    text = render_go_mod(
        "k8s.io/kubernetes",
        "v1.22.17",
        OLD,
        {"k8s.io/api": "v0.22.17"},
        {"github.com/modern-go/reflect2": "v1.0.2"},
    )
    lines = text.splitlines()
    assert "go 1.16" in lines
    assert "require k8s.io/kubernetes v1.22.17" in lines
    assert "replace k8s.io/api => k8s.io/api v0.22.17" in lines
    assert "replace google.golang.org/grpc => google.golang.org/grpc v1.38.0" in lines
    assert "replace github.com/modern-go/reflect2 => github.com/modern-go/reflect2 v1.0.2" in lines
    assert "./staging" not in text
    assert "v1.0.1" not in text


@pytest.mark.parametrize(
    ("text", "expected"),
    [("go version go1.26.8 linux/amd64", (1, 26)), ("go version go1.27rc1 linux/arm64", (1, 27)), ("nonsense", None)],
)
def test_go_version(text: str, expected: tuple[int, int] | None) -> None:
    assert go_version(text) == expected


@pytest.mark.parametrize(
    ("reason", "refused"),
    [
        ("reading .../v0.22.17.zip: 403 Forbidden", True),
        ("invalid version: unknown revision v0.22.99", True),
        ("dial tcp 10.0.0.1:443: i/o timeout", False),
    ],
)
def test_a_network_failure_is_no_refusal(reason: str, refused: bool) -> None:
    assert module_refused(reason) is refused


def test_a_folder_is_replaced_whole_or_not_at_all(tmp_path: Path) -> None:
    target = tmp_path / "thing"
    with replacing(target) as folder:
        (folder / "a").write_text("1")

    def interrupted() -> None:
        with replacing(target) as folder:
            (folder / "a").write_text("2")
            raise RuntimeError

    with pytest.raises(RuntimeError):
        interrupted()
    assert (target / "a").read_text() == "1"
    assert [path.name for path in tmp_path.iterdir()] == ["thing"]


def test_coredns_has_the_chosen_plugins_only() -> None:
    text = render_coredns({"errors": "errors", "prometheus": "metrics"})
    assert re.findall(r'_ "(.+)"', text) == [f"{COREDNS}/plugin/errors", f"{COREDNS}/plugin/metrics"]
    assert 'map[string]bool{"errors": true, "prometheus": true}' in text


def test_kubeadms_corefile_needs_no_other_plugin() -> None:
    """The Corefile of kubeadm 1.36, and `log`, which people add to look for a fault."""
    corefile = "errors health ready kubernetes prometheus forward cache loop reload loadbalance log"
    assert set(COREDNS_PLUGINS) == set(corefile.split())


@pytest.mark.parametrize(("version", "expected"), [("v3.6.8", True), ("v3.6.80", False), ("v3.6", False)])
def test_etcd_is_built_with_the_commands_only_in_the_version_that_the_release_names(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, version: str, expected: bool
) -> None:
    (tmp_path / "go.mod").write_text(f"require (\n\t{ETCD} v3.6.8 // indirect\n)\n")
    monkeypatch.setattr(Go, "source", lambda self, module, version: tmp_path)
    build = KubernetesBuild(Go(Paths(tmp_path), Shell(Log(tmp_path / "log"))), Version(1, 36, 3))
    assert not build.requires(ETCD, version), "its own module is not there yet"
    build.module.mkdir(parents=True)
    assert build.requires(ETCD, version) is expected


def test_own_programs_share_packages_with_the_default_release() -> None:
    minor_and_patch = DEFAULT_KUBERNETES.removeprefix("1.")
    required = (OWN_SOURCES / "go.mod").read_text()
    assert f"k8s.io/cri-api v0.{minor_and_patch}\n" in required
    assert f"k8s.io/kubelet v0.{minor_and_patch}\n" in required
