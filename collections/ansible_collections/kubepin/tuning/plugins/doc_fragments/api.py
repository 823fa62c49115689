# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations


class ModuleDocFragment:
    """How the modules of the control node reach the Kubernetes API."""

    DOCUMENTATION = r"""
options:
  kubeconfig:
    description:
      - Path of the kubeconfig.
      - Without it, the environment variable E(K8S_AUTH_KUBECONFIG), then E(KUBECONFIG), then C(~/.kube/config), as in kubernetes.core.
    type: path
  context:
    description: Context of the kubeconfig. Without it, the environment variable E(K8S_AUTH_CONTEXT), then the kubeconfig's current one.
    type: str
requirements:
  - kubernetes (Python library)
"""
