# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

from ansible_collections.kubepin.tuning.plugins.module_utils.common.upgrade.flags import (
    unknown_flag,
    without_flags,
)


def test_the_flag_that_a_kubelet_reports_as_unknown() -> None:
    assert unknown_flag('err="failed to parse kubelet flag: unknown flag: --network-plugin"') == "network-plugin"
    assert unknown_flag("Kubernetes v1.22.17") is None


def test_flags_leave_both_environment_files_and_nothing_else_changes() -> None:
    kubeadm = 'KUBELET_KUBEADM_ARGS="--container-runtime=remote --network-plugin cni --node-ip=1.2.3.4"\n'
    assert (
        without_flags(kubeadm, ["container-runtime", "network-plugin"]) == 'KUBELET_KUBEADM_ARGS="--node-ip=1.2.3.4"\n'
    )
    extra = 'A=1\nKUBELET_EXTRA_ARGS="--cpu-manager-policy=static --redirect-container-streaming=false"\n'
    assert without_flags(extra, ["redirect-container-streaming"]) == (
        "A=1\nKUBELET_EXTRA_ARGS=--cpu-manager-policy=static\n"
    )
    assert without_flags(kubeadm, ["v"]) == kubeadm
