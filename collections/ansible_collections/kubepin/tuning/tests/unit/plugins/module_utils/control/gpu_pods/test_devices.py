# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

from typing import Any

import pytest
from ansible_collections.kubepin.tuning.plugins.module_utils.control.gpu_access.node import Node, node_from_api
from ansible_collections.kubepin.tuning.plugins.module_utils.control.gpu_pods.audit import audit
from ansible_collections.kubepin.tuning.plugins.module_utils.control.gpu_pods.report import gpu_pods_text
from ansible_collections.kubepin.tuning.tests.unit.samples.gpu_pods import Cluster, claiming, container, main, pod


def node(**labels: Any) -> Any:
    """A node of GPU feature discovery, underscores for dots and slashes of NVIDIA's labels."""
    names = {f"nvidia.com/{name.replace('__', '-').replace('_', '.')}": value for name, value in labels.items()}
    return node_from_api({"metadata": {"name": "n", "labels": names}}, None)


def totals(*specs: Any, at: Any = None) -> Any:
    pods = [
        {"kind": "Pod", "metadata": {"namespace": "ml", "name": f"p{n}"}, "spec": {**spec, "nodeName": "n"}}
        for n, spec in enumerate(specs)
    ]
    result = audit(Cluster(pods, [], at or Node()), {}, ["nvidia.com/"], 1)
    return {kind: count for kind, count in result["summary"]["gpus"].items() if count}, result


@pytest.mark.parametrize(
    ("name", "at", "kind"),
    [
        ("nvidia.com/gpu", node(), "whole"),
        ("nvidia.com/gpu", node(gpu_product="NVIDIA-A100-SXM4-40GB"), "whole"),
        ("nvidia.com/gpu", node(gpu_product="NVIDIA-A100-SXM4-40GB-MIG-1g.5gb"), "mig"),
        ("nvidia.com/gpu", node(gpu_product="Tesla-T4-SHARED"), "shared"),
        ("nvidia.com/gpu", node(gpu_product="NVIDIA-A100-SXM4-40GB-MIG-1g.5gb-SHARED"), "shared"),
        ("nvidia.com/gpu.shared", node(gpu_product="Tesla-T4"), "shared"),
        ("nvidia.com/mig-1g.5gb", node(gpu_product="Tesla-T4-SHARED"), "mig"),
        ("nvidia.com/mig-1g.5gb.shared", node(), "shared"),
        ("deviceclass.resource.kubernetes.io/gpu.nvidia.com", node(), "whole"),
        ("deviceclass.resource.kubernetes.io/mig.nvidia.com", node(), "mig"),
    ],
)
def test_names_and_the_products_of_a_node_tell_what_a_gpu_is(name: Any, at: Any, kind: Any) -> None:
    assert totals(pod(main("2 1Gi", gpu=name)), at=at)[0] == {kind: 1}


def test_gpus_count_as_the_scheduler_counts_them() -> None:
    """Containers together, or an init container, whichever is more."""
    eight = container("2 1Gi", name="first")
    eight["resources"]["limits"]["nvidia.com/gpu"] = "8"
    two = main("2 1Gi")
    two["resources"]["limits"]["nvidia.com/gpu"] = 2
    spec = pod(two, container("1 1Gi", name="more", gpu="nvidia.com/gpu"))
    assert totals(spec)[0] == {"whole": 3}
    assert totals({**spec, "initContainers": [eight]})[0] == {"whole": 8}
    assert totals(spec, spec)[0] == {"whole": 6}


def test_a_claim_that_pods_share_is_one_and_a_template_makes_one_for_each_pod() -> None:
    shared = claiming("2 1Gi", resourceClaimName="the-gpu")
    own = claiming("2 1Gi", resourceClaimTemplateName="one-gpu")
    assert totals(shared, shared, own, own)[0] == {"claim": 3}
    both = pod(
        *[{**c, "name": name} for c in own["containers"] for name in ("a", "b")], resourceClaims=own["resourceClaims"]
    )
    assert totals(both)[0] == {"claim": 1}


def test_the_report_tells_them_apart() -> None:
    _total, result = totals(pod(main("2 1Gi")), pod(main("2 1Gi", gpu="nvidia.com/mig-1g.5gb")))
    assert "  requested: whole GPUs 1, MIG partitions 1" in gpu_pods_text(result).splitlines()


def allocated(name: str, *devices: str) -> Any:
    """A ResourceClaim to which *devices* (DRIVER/POOL/DEVICE) are allocated."""
    results = [
        dict(zip(("request", "driver", "pool", "device"), ("gpu", *device.split("/")), strict=True))
        for device in devices
    ]
    metadata = {"namespace": "ml", "name": name}
    return {"kind": "ResourceClaim", "metadata": metadata, "status": {"allocation": {"devices": {"results": results}}}}


def claiming_pod(name: str, spec: Any, **status: Any) -> Any:
    return {"kind": "Pod", "metadata": {"namespace": "ml", "name": name}, "spec": spec, "status": status}


OWN = claiming("2 1Gi", resourceClaimTemplateName="one-gpu")
SHARED = claiming("2 1Gi", resourceClaimName="the-gpu")
MADE = [{"name": "gpu", "resourceClaimName": "own-gpu-x7"}]
FIRST, SECOND = "gpu.nvidia.com/n/gpu-0", "gpu.nvidia.com/n/gpu-1"


def audited(pods: Any, claims: Any = ()) -> Any:
    return audit(Cluster(pods, [], Node(), claims), {}, ["nvidia.com/"], 1)


def test_the_devices_of_claims_are_those_that_are_allocated_to_them() -> None:
    pods = [
        claiming_pod("own", OWN, resourceClaimStatuses=MADE),
        claiming_pod("pending", OWN),
        claiming_pod("shared-1", SHARED),
        claiming_pod("shared-2", SHARED),
    ]
    claims = [
        allocated("own-gpu-x7", SECOND, FIRST),
        allocated("the-gpu", "dra.net/n/nic-0"),
        {"kind": "ResourceClaim", "metadata": {"namespace": "ml", "name": "another"}},
    ]
    result = audited(pods, claims)
    assert {found["name"]: [(gpu["claim"], gpu["devices"]) for gpu in found["gpus"]] for found in result["pods"]} == {
        "own": [("ml/own-gpu-x7", [FIRST, SECOND])],
        "pending": [(None, None)],
        "shared-1": [("ml/the-gpu", ["dra.net/n/nic-0"])],
        "shared-2": [("ml/the-gpu", ["dra.net/n/nic-0"])],
    }
    assert result["summary"]["gpus"]["claim"] == 3
    lines = gpu_pods_text(result).splitlines()
    assert "  devices of claims: dra.net 1, gpu.nvidia.com 2, unknown of 1 claim" in lines


def test_an_extended_resource_that_a_claim_backs_is_a_gpu_and_no_claim() -> None:
    mappings = [{"containerName": "main", "resourceName": "nvidia.com/gpu", "requestName": "container-0-request-0"}]
    status = {"resourceClaimName": "own-extended-resources-4", "requestMappings": mappings}
    item = claiming_pod("own", pod(main("2 1Gi")), extendedResourceClaimStatus=status)
    result = audited([item], [allocated("own-extended-resources-4", FIRST)])
    assert result["summary"]["gpus"] == {"whole": 1, "mig": 0, "shared": 0, "claim": 0}
    (gpu,) = result["pods"][0]["gpus"]
    assert (gpu["count"], gpu["claim"], gpu["devices"]) == (1, "ml/own-extended-resources-4", [FIRST])


def test_two_resources_of_one_claim_count_both() -> None:
    mappings = [{"resourceName": name} for name in ("nvidia.com/gpu", "nvidia.com/mig-1g.5gb")]
    status = {"resourceClaimName": "own", "requestMappings": mappings}
    both = pod(main("2 1Gi"), container("1 1Gi", name="part", gpu="nvidia.com/mig-1g.5gb"))
    gpus = audited([claiming_pod("own", both, extendedResourceClaimStatus=status)])["summary"]["gpus"]
    assert (gpus["whole"], gpus["mig"]) == (1, 1)


def test_devices_of_claims_that_cannot_be_read_are_unknown() -> None:
    result = audited([claiming_pod("shared-1", SHARED), claiming_pod("shared-2", SHARED)])
    assert [gpu["devices"] for found in result["pods"] for gpu in found["gpus"]] == [None, None]
    assert "  devices of claims: unknown of 1 claim" in gpu_pods_text(result).splitlines()


def test_nothing_is_said_of_claims_where_there_are_none() -> None:
    assert "claims" not in gpu_pods_text(audited([claiming_pod("plain", pod(main("2 1Gi")))]))
