# SPDX-License-Identifier: GPL-3.0-or-later
"""Names, versions and worker counts are checked before anything happens."""

from __future__ import annotations

from pathlib import Path

import pytest

from sandbox.settings import Paths, SandboxError, Version, engine_problems, name_problems, validate, version_problems


@pytest.mark.parametrize(("text", "expected"), [("1.22.17", Version(1, 22, 17)), ("v1.36.3", Version(1, 36, 3))])
def test_version_is_parsed(text: str, expected: Version) -> None:
    assert Version.parse(text) == expected
    assert str(expected) == text.removeprefix("v")


def test_versions_are_ordered_by_number() -> None:
    assert Version(1, 9, 0) < Version(1, 22, 3) < Version(1, 22, 17)


@pytest.mark.parametrize("text", ["1.22", "latest", "", "1.22.17-rc.1", "1.19.16", "2.20.0", "0.30.0"])
def test_unfit_versions_are_named(text: str) -> None:
    (problem,) = version_problems(text)
    assert f'"{text}"' in problem


@pytest.mark.parametrize("name", ["kubepin", "s1", "a", "a-b", "a" * 20])
def test_fit_names(name: str) -> None:
    assert name_problems(name) == []


@pytest.mark.parametrize("name", ["", "1a", "-a", "a-", "A", "a_b", "a/b", "..", "a" * 21, "a\n"])
def test_unfit_names(name: str) -> None:
    assert len(name_problems(name)) == 1


def test_all_problems_are_reported_at_once() -> None:
    with pytest.raises(SandboxError) as caught:
        validate("No", "1.2", 10, 4)
    text = str(caught.value)
    assert '"No"' in text
    assert '"1.2"' in text
    assert "workers 10" in text
    assert "control planes 4" in text


@pytest.mark.parametrize("count", [-1, 3])
def test_the_benchmarks_image_goes_to_no_more_workers_than_there_are(count: int) -> None:
    with pytest.raises(SandboxError, match=f"^{count} workers cannot get the benchmark's image: expected 0 to 2"):
        validate("lab", "1.36.3", 2, torch_workers=count)


def test_a_valid_request() -> None:
    request = validate("lab", "1.21.14", 1)
    assert (request.name, request.kubernetes, request.workers) == ("lab", Version(1, 21, 14), 1)


def test_the_cache_folder_can_be_moved(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("KUBEPIN_CACHE", str(tmp_path))
    assert Paths.from_environment().sandbox("lab").state == tmp_path / "sandboxes" / "lab" / "sandbox.json"
    monkeypatch.delenv("KUBEPIN_CACHE")
    assert Paths.from_environment().cache == Path.home() / ".cache" / "kubepin"


def test_what_an_engine_cannot_do_is_refused_all_at_once() -> None:
    assert engine_problems("docker", 0, 2, 1) == []
    assert engine_problems("namespaces", 8, 0, 0) == []
    assert "--gpus 1 needs --engine namespaces" in engine_problems("docker", 1, 0, 0)[0]
    refused = engine_problems("namespaces", -1, 1, 2)
    assert [text.split(" ", 2)[:2] for text in refused] == [
        ["--gpus", "-1"],
        ["--machines", "1"],
        ["--torch-workers", "2"],
    ]
