# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations


class ModuleDocFragment:
    """Where a node gets the programs and images of a version from; C(SOURCE_ARGUMENTS) of module_utils._upgrade_source."""

    DOCUMENTATION = r"""
options:
  source:
    description: Where programs and images come from.
    type: dict
    suboptions:
      binaries:
        description:
          - A folder on the node, or the URL of one, that holds C(kubeadm), C(kubelet) and C(kubectl). V({version}) and V({arch}) are
            filled in.
        type: str
        required: true
      checksums:
        description:
          - Version to program to SHA-256.
          - Of a program that is not here, the checksum is read from C(PROGRAM.sha256) beside it.
        type: dict
        default: {}
      image_archives:
        description: Patterns of image archives on the node, as C(docker save) writes them. Without any, a registry serves the images.
        type: list
        elements: str
        default: []
      control_plane_image_archives:
        description: The same, for control plane nodes only.
        type: list
        elements: str
        default: []
"""
