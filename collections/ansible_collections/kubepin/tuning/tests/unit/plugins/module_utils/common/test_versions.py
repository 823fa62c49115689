# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import contextlib

import pytest
from ansible_collections.kubepin.tuning.plugins.module_utils.common.versions import (
    Version,
    VersionError,
    choose_target,
    parse_version,
    path_between,
)
from ansible_collections.kubepin.tuning.tests.unit.samples.inputs import damaged
from hypothesis import given


@pytest.mark.parametrize("text", ["1.22.17", "v1.22.17", "v1.22.17+k3s1", "v1.22.17-gke.100"])
def test_versions_are_read_with_or_without_what_vendors_add(text: str) -> None:
    assert parse_version(text) == Version(1, 22, 17)


@pytest.mark.parametrize("text", ["", "1.22", "latest", "1.22.x", "٣.1.1", "1.28." + "9" * 5000])
def test_what_is_no_version_is_named(text: str) -> None:
    with pytest.raises(VersionError, match="is not a Kubernetes version"):
        parse_version(text)


def test_a_cluster_below_1_22_goes_to_1_22_17_unless_asked_otherwise() -> None:
    assert str(choose_target(Version(1, 20, 15), None)) == "1.22.17"
    assert str(choose_target(Version(1, 30, 2), None)) == "1.30.2"
    assert str(choose_target(Version(1, 20, 15), "1.24.17")) == "1.24.17"


@pytest.mark.parametrize("wanted", ["1.22.0", "1.22.1"])
def test_the_first_two_patches_of_1_22_are_refused(wanted: str) -> None:
    with pytest.raises(VersionError, match=r"Ask for 1\.22\.17"):
        choose_target(Version(1, 21, 14), wanted)


def test_no_minor_is_left_out() -> None:
    versions = path_between(Version(1, 20, 15), Version(1, 22, 17), {})
    assert list(map(str, versions)) == ["1.21.14", "1.22.17"]
    assert path_between(Version(1, 22, 17), Version(1, 22, 17), {}) == []
    assert [str(version) for version in path_between(Version(1, 22, 5), Version(1, 22, 17), {})] == ["1.22.17"]


def test_a_patch_can_be_chosen_and_has_to_be_where_none_is_known() -> None:
    assert str(path_between(Version(1, 20, 15), Version(1, 22, 17), {"1.21": "1.21.5"})[0]) == "1.21.5"
    with pytest.raises(VersionError) as error:
        path_between(Version(1, 31, 14), Version(1, 35, 4), {"1.34": "1.33.1"})
    findings = [problem.finding for problem in error.value.problems]
    assert [line in finding for line, finding in zip(("1.32", "1.33", "1.33.1 for 1.34"), findings)] == [True] * 3
    with pytest.raises(VersionError, match=r"gives 1.22.5 for 1.21"):
        path_between(Version(1, 20, 15), Version(1, 22, 17), {"1.21": "1.22.5"})
    with pytest.raises(VersionError, match="refused"):
        path_between(Version(1, 21, 14), Version(1, 23, 17), {"1.22": "1.22.0"})


@given(damaged("v1.22.17+k3s1"))
def test_any_text_is_a_version_or_refused(text: str) -> None:
    with contextlib.suppress(VersionError):
        version = parse_version(text)
        assert parse_version(str(version)) == version
