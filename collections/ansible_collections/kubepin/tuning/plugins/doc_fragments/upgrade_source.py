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
          - This or O(source.packages).
          - A folder on the node, or the URL of one, that holds C(kubeadm), C(kubelet) and C(kubectl). V({version}) and V({arch}) are
            filled in.
          - From a URL of http, only programs whose checksum is in O(source.checksums) are taken.
        type: str
      packages:
        description:
          - The repository that packages of the programs come from. An apt or dnf of the node that already knows it, for whatever minor, is
            pointed to the version's minor; what else stands in its file, such as a key, stays.
        type: dict
        suboptions:
          url:
            description: Its URL; V({minor}) and V({format}) (V(deb) or V(rpm)) are filled in.
            type: str
            required: true
          suite:
            description: With apt, what stands behind the URL.
            type: str
            default: /
          key:
            description:
              - The file of its key on the node, for a repository that the node does not know yet; with dnf also a URL.
              - Without it, what apt trusts, or the key beside a dnf repository. V(unsigned) for a repository without signature.
              - V(unsigned) is not taken over http.
            type: str
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
