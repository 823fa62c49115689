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
