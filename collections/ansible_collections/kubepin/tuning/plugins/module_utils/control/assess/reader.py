# SPDX-License-Identifier: GPL-3.0-or-later
"""Reads what an assessment needs from the Kubernetes API, and keeps the reason for everything that it may not read."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

from ansible_collections.kubepin.tuning.plugins.module_utils.control.assess.cluster import Seen, has_gpu
from ansible_collections.kubepin.tuning.plugins.module_utils.control.cluster.api import ApiError
from ansible_collections.kubepin.tuning.plugins.module_utils.control.cluster.gpu_resources import DEFAULT_PREFIXES
from ansible_collections.kubepin.tuning.plugins.module_utils.control.cluster.inventory import node_facts
from ansible_collections.kubepin.tuning.plugins.module_utils.control.gpu_access.node import Object
from ansible_collections.kubepin.tuning.plugins.module_utils.control.gpu_pods.source import ApiSource
from ansible_collections.kubepin.tuning.plugins.module_utils.control.kubelet.config import Config

_AT_ONCE = 8
"""The number of kubelets that are asked at the same time."""
_NOT_READY = "the node is not Ready, so its kubelet was not asked"


def read_cluster(api: ApiSource) -> Seen:
    """What could be read of the cluster.

    :raises ApiError: if the nodes cannot be listed, without which nothing can be said
    """
    nodes = api.nodes()
    gpu_nodes = [node for node in nodes if has_gpu(node)]
    with ThreadPoolExecutor(_AT_ONCE) as pool:
        answers = list(pool.map(lambda node: _configz(api, node), gpu_nodes))
    named = [(node["metadata"]["name"], answer) for node, answer in zip(gpu_nodes, answers, strict=True)]
    version, version_error = _version(api)
    pods, pods_error = _pods(api)
    owners, owners_error = _owners(api)
    return Seen(
        server=api.server,
        version=version,
        version_error=version_error,
        nodes=nodes,
        configz={name: answer for name, answer in named if not isinstance(answer, str)},
        configz_errors={name: answer for name, answer in named if isinstance(answer, str)},
        pods=pods,
        pods_error=pods_error,
        owners=owners,
        owners_error=owners_error,
    )


def _configz(api: ApiSource, node: Object) -> Config | str:
    """The configuration that the node's kubelet runs with, or why it cannot be read."""
    if not node_facts(node, DEFAULT_PREFIXES)["ready"]:
        return _NOT_READY
    try:
        return api.configz(node["metadata"]["name"])
    except ApiError as error:
        return str(error)


def _version(api: ApiSource) -> tuple[str | None, str]:
    try:
        return api.version(), ""
    except ApiError as error:
        return None, str(error)


def _pods(api: ApiSource) -> tuple[list[Object] | None, str]:
    try:
        return list(api.pods()), ""
    except ApiError as error:
        return None, str(error)


def _owners(api: ApiSource) -> tuple[list[Object], str]:
    """Those that were read before one kind could not be are left out, too: half of the owners would mislead."""
    try:
        return list(api.owners()), ""
    except ApiError as error:
        return [], str(error)
