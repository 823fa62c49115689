# SPDX-License-Identifier: GPL-3.0-or-later
"""The modules that talk to the API: their documentation against their arguments. The rest needs a cluster."""

from __future__ import annotations

import pytest
import yaml
from ansible_collections.kubepin.tuning.plugins.doc_fragments.api import ModuleDocFragment
from ansible_collections.kubepin.tuning.plugins.modules import (
    api_rights_info,
    benchmark_pod,
    gpu_pod_info,
    node_api_info,
    node_drain,
    pod_probe,
)

FIELDS = ("type", "elements", "default", "choices", "required")


def documented(options):
    return {
        name: {
            **{field: option[field] for field in FIELDS if field in option},
            **({"options": documented(option["suboptions"])} if "suboptions" in option else {}),
        }
        for name, option in options.items()
    }


def accepted(spec):
    return {
        name: {
            **{field: option[field] for field in FIELDS if field in option},
            **({"options": accepted(option["options"])} if "options" in option else {}),
        }
        for name, option in spec.items()
    }


@pytest.mark.parametrize(
    "module",
    [api_rights_info, benchmark_pod, gpu_pod_info, pod_probe, node_api_info, node_drain],
    ids=["api_rights_info", "benchmark_pod", "gpu_pod_info", "pod_probe", "node_api_info", "node_drain"],
)
def test_every_option_is_documented_as_it_is(module):
    shared = yaml.safe_load(ModuleDocFragment.DOCUMENTATION)["options"]
    assert documented({**shared, **yaml.safe_load(module.DOCUMENTATION)["options"]}) == accepted(module.ARGUMENT_SPEC)


def test_every_fact_of_the_probe_is_documented():
    facts = pod_probe.Probe(None, "kube-system", "n1")._facts(
        {"metadata": {"uid": "u"}}, pod_probe.ProbeRequest("n1", "kube-system", "busybox", 1, 1, "gpu", [], 15, 120)
    )
    assert set(yaml.safe_load(pod_probe.RETURN)["probe"]["contains"]) == set(facts)
