# SPDX-License-Identifier: GPL-3.0-or-later
"""kubeadm's configuration follows the release and changes nothing that a product under test might set."""

from __future__ import annotations

import json

import pytest

from sandbox.kubeadm import api_version, cri_socket, init_documents, render_init
from sandbox.settings import Version

ADDRESS = "172.30.0.10"


@pytest.mark.parametrize(
    ("minor", "expected"),
    [(20, "v1beta2"), (21, "v1beta2"), (22, "v1beta3"), (30, "v1beta3"), (31, "v1beta4"), (36, "v1beta4")],
)
def test_api_version(minor: int, expected: str) -> None:
    assert api_version(Version(1, minor, 0)) == f"kubeadm.k8s.io/{expected}"


@pytest.mark.parametrize(("minor", "scheme"), [(23, False), (24, True)])
def test_socket_is_an_url_from_1_24_on(minor: int, scheme: bool) -> None:
    assert cri_socket(Version(1, minor, 0)).startswith("unix://") is scheme


def test_kubelet_gets_only_what_containers_as_nodes_need() -> None:
    kubelet = init_documents(Version(1, 22, 17), ADDRESS)[2]
    assert set(kubelet) == {
        "apiVersion",
        "kind",
        "cgroupDriver",
        "failSwapOn",
        "imageGCHighThresholdPercent",
        "evictionHard",
    }


@pytest.mark.parametrize(("minor", "present"), [(34, False), (35, True), (36, True)])
def test_cgroup_v1_is_allowed_where_it_is_refused_by_default(minor: int, present: bool) -> None:
    kubelet = init_documents(Version(1, minor, 0), ADDRESS)[2]
    assert ("failCgroupV1" in kubelet) is present


def test_rendered_documents_are_separated_as_yaml_wants() -> None:
    documents = [json.loads(part) for part in render_init(Version(1, 22, 17), ADDRESS).split("\n---\n")]
    kinds = [document["kind"] for document in documents]
    assert kinds == ["InitConfiguration", "ClusterConfiguration", "KubeletConfiguration", "KubeProxyConfiguration"]
    assert documents[0]["localAPIEndpoint"] == {"advertiseAddress": ADDRESS}
    assert "taints" not in documents[0]["nodeRegistration"]
    assert documents[1]["kubernetesVersion"] == "v1.22.17"
    assert "controlPlaneEndpoint" not in documents[1]


def test_further_control_planes_find_the_first_and_its_certificates() -> None:
    init, cluster, *_ = init_documents(Version(1, 22, 17), ADDRESS, "5e" * 32)
    assert init["certificateKey"] == "5e" * 32
    assert cluster["controlPlaneEndpoint"] == f"{ADDRESS}:6443"
