# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations


class ModuleDocFragment:
    """Which resources count as GPUs."""

    DOCUMENTATION = r"""
options:
  gpu_resource_prefixes:
    description:
      - Prefixes of GPU resource names. V(nvidia.com/) stands for the names of NVIDIA's GPUs, C(nvidia.com/gpu*) and
        C(nvidia.com/mig-*), and not for network devices such as C(nvidia.com/hostdev). It also stands for the device
        classes of NVIDIA's DRA driver as extended resources, such as
        C(deviceclass.resource.kubernetes.io/gpu.nvidia.com).
      - Claims of containers (DRA) always count as GPUs. They may be for other devices, which only the claims tell, and the
        audit does not read claims.
    type: list
    elements: str
    default: [nvidia.com/]
"""
