#!/usr/bin/python
# GNU General Public License v3.0+ (https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

DOCUMENTATION = r"""
---
module: kubeadm_node_info
short_description: Read the facts about a kubeadm node that an upgrade needs
description:
  - Runs on the node. Reads installed versions, static pods, certificates, disk space and the kubelet's settings, and
    checks the source of the programs and images of the versions to upgrade to.
  - Warns if O(source) would replace programs that belong to packages.
  - M(kubepin.tuning.kubeadm_upgrade_info) makes the upgrade plan from the result.
extends_documentation_fragment:
  - kubepin.tuning.attributes
  - kubepin.tuning.upgrade_source
version_added: 1.0.0
author:
  - The kubepin developers (@kubepin)
options:
  versions:
    description: The versions whose programs and images O(source) must have.
    type: list
    elements: str
    default: []
  source:
    description: Where programs and images come from. Not checked if not given.
  patches_directory:
    description: The folder of kubeadm's patches that the upgrade is to use, checked if given.
    type: path
    version_added: 1.1.0
  running_config:
    description:
      - The configuration that the kubelet runs with, as RV(kubepin.tuning.node_api_info#module:node.configz). An action
        plugin compares it with the kubelet's files on the control node.
      - Without it, only the command lines are compared.
    type: dict
attributes:
  check_mode:
    support: full
  diff_mode:
    support: none
"""

EXAMPLES = r"""
- name: Read the node, and check a folder for two versions
  kubepin.tuning.kubeadm_node_info:
    versions: [1.21.14, 1.22.17]
    source:
      binaries: "/srv/kubernetes/{version}/bin"
      image_archives: ["/srv/kubernetes/{version}/images/*.tar"]
  become: true
"""

RETURN = r"""
kubeadm_node:
  description: The node.
  returned: success
  type: dict
  contains:
    schema:
      description: Version of this structure.
      type: int
      sample: 1
    control_plane:
      description: Whether the node has static pods of a control plane.
      type: bool
    boot_id:
      description: The ID of this boot.
      type: str
    versions:
      description: The installed kubeadm, kubelet and kubectl; null for a missing one.
      type: dict
      sample: {kubeadm: 1.20.15, kubelet: 1.20.15, kubectl: 1.20.15}
    packages:
      description:
        - The packages that kubeadm, kubelet and kubectl belong to; null for a program without a package.
        - C(held) is null for rpm packages.
      type: dict
      sample: {kubelet: {manager: dpkg, name: kubelet, version: 1.21.14-00, held: true}}
    manifests:
      description: The image tags of the static pods; null for missing ones.
      type: dict
      sample: {kube-apiserver: 1.20.15, etcd: 3.4.13-0}
    stacked_etcd:
      description: Whether etcd runs here as a static pod.
      type: bool
    command_line:
      description: What the next start of the kubelet runs.
      type: list
      elements: str
    runtime:
      description: The container runtime, as M(kubepin.tuning.kubelet_info) returns it.
      type: dict
    cgroup:
      description: The cgroup version, and the kubelet's cgroup driver.
      type: dict
    feature_gates:
      description: The feature gates that the kubelet's configuration and flags set.
      type: dict
      sample: {MemoryManager: true}
    config_file:
      description: The fields that the kubelet's configuration file sets, without C(staticPodURLHeader).
      type: dict
      sample: {cgroupDriver: systemd, maxPods: 250}
    patches_directory:
      description: As given; null if it was not.
      type: str
    event_record_qps:
      description: The kubelet's C(eventRecordQPS) as configured; null if it is not.
      type: int
    static_pod_references:
      description: The static pods that refer to objects of the API, and the kinds of these objects, in plural.
      type: dict
      sample: {/etc/kubernetes/manifests/vip.yaml: [Secrets]}
    tuning:
      description: The effective kubelet settings that kubepin manages.
      type: dict
    tuning_sources:
      description: Where each of them comes from.
      type: dict
    differences:
      description:
        - What the running kubelet has otherwise than its next start would, because its files or flags were changed since
          its start. C(name) is a field or a flag, C(source) where the configured value comes from.
        - Empty while an upgrade to one of O(versions) is under way, as kubeadm has then rewritten the files.
      type: list
      elements: dict
      sample: [{name: maxPods, running: "110", configured: "250", source: /var/lib/kubelet/config.yaml}]
    certificates:
      description: Certificates and the days until they expire.
      type: list
      elements: dict
      sample: [{path: /etc/kubernetes/pki/apiserver.crt, days_left: 364.9}]
    disk:
      description: Required and available space of each file system, in MB.
      type: list
      elements: dict
      sample: [{paths: [/var/lib/kubepin], needed_mb: 500, free_mb: 60000}]
    problems:
      description: The parts of the kubelet's setup that could not be read, the files that an upgrade could not
        replace, and what is wrong with O(patches_directory). C(code) is for programs, C(text) for people.
      type: list
      elements: dict
    source_problems:
      description: Everything that keeps O(versions) from being installed from O(source). C(code) is for programs, C(text)
        for people.
      type: list
      elements: dict
problems:
  description: Why the module failed, the first cause first, as C(code), C(subject), C(finding), C(remedy), C(waivable) and C(text).
  returned: failure
  type: list
  elements: dict
"""

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.kubepin.tuning.plugins.module_utils.common.errors import TuningError
from ansible_collections.kubepin.tuning.plugins.module_utils.common.problem import to_dicts
from ansible_collections.kubepin.tuning.plugins.module_utils.node.commands import runner
from ansible_collections.kubepin.tuning.plugins.module_utils.node.readers.kubeadm import read_node
from ansible_collections.kubepin.tuning.plugins.module_utils.node.transaction.files import Files
from ansible_collections.kubepin.tuning.plugins.module_utils.node.upgrade.packages import overwriting_warning
from ansible_collections.kubepin.tuning.plugins.module_utils.node.upgrade.source import SOURCE, Source
from ansible_collections.kubepin.tuning.plugins.module_utils.node.upgrade.targets import (
    patches_problems,
    upgrade_obstacles,
)

ARGUMENT_SPEC = {
    "versions": {"type": "list", "elements": "str", "default": []},
    "source": SOURCE,
    "patches_directory": {"type": "path"},
    "running_config": {"type": "dict"},
}


def main() -> None:
    module = AnsibleModule(argument_spec=ARGUMENT_SPEC, supports_check_mode=True)
    module.run_command_environ_update = {"LANGUAGE": "C", "LC_ALL": "C"}
    source = Source.of(module.params["source"]) if module.params["source"] else None
    try:
        read = read_node(runner(module.run_command), source, module.params["versions"])
        command_line, by_packages = read["kubelet"]["configured_command_line"], bool(source and source.packages)
        obstacles = upgrade_obstacles(Files(), command_line, by_packages)
        directory = module.params["patches_directory"]
        unusable = patches_problems(directory, module.params["versions"]) if directory else []
        read["obstacles"] = to_dicts([*obstacles, *unusable])
    except TuningError as exc:
        module.fail_json(msg=str(exc), **exc.details)
    overwrites = module.params["versions"] and source and not source.packages
    warning = overwriting_warning(read["packages"]) if overwrites else None
    if warning:
        module.warn(warning)
    module.exit_json(changed=False, read=read)


if __name__ == "__main__":
    main()
