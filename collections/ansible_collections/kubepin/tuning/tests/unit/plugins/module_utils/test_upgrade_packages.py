# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import pytest
from ansible_collections.kubepin.tuning.plugins.module_utils import _upgrade_packages
from ansible_collections.kubepin.tuning.plugins.module_utils._upgrade_packages import overwriting_warning, package_of

KUBELET = {"manager": "dpkg", "name": "kubelet", "version": "1.21.14-00", "held": False}


@pytest.fixture
def managers(monkeypatch):
    present = set()
    monkeypatch.setattr(_upgrade_packages.shutil, "which", lambda name: name if name in present else None)
    return present


def answering(*answers):
    left = list(answers)
    return lambda argv: left.pop(0)


@pytest.mark.parametrize(("want", "held"), [("hold", True), ("install", False)])
def test_dpkg_names_package_version_and_hold(managers, want, held):
    managers.add("dpkg-query")
    run = answering((0, "kubelet: /usr/bin/kubelet\n", ""), (0, f"kubelet\t1.21.14-00\t{want}", ""))
    assert package_of(run, "/usr/bin/kubelet") == {**KUBELET, "held": held}


def test_a_program_of_no_package(managers):
    managers.update(("dpkg-query", "rpm"))
    run = answering((1, "", "dpkg-query: no path found"), (1, "file is not owned by any package\n", ""))
    assert package_of(run, "/usr/bin/kubelet") is None


def test_a_diversion_is_no_package(managers):
    managers.add("dpkg-query")
    assert package_of(answering((0, "diversion by x from: /usr/bin/kubelet\n", "")), "/usr/bin/kubelet") is None


def test_rpm_names_package_and_version(managers):
    managers.add("rpm")
    found = package_of(answering((0, "kubelet\t1.28.2-150500.1.1\n", "")), "/usr/bin/kubelet")
    assert found == {"manager": "rpm", "name": "kubelet", "version": "1.28.2-150500.1.1", "held": None}


def test_nothing_is_said_of_programs_without_packages():
    assert overwriting_warning({"kubelet": None, "kubeadm": None}) is None


def test_the_warning_names_the_packages_and_how_to_hold_those_that_are_not():
    held = {**KUBELET, "name": "kubeadm", "held": True}
    warning = overwriting_warning({"kubelet": KUBELET, "kubeadm": held, "kubectl": None})
    assert "kubelet 1.21.14-00, kubeadm 1.21.14-00" in warning
    assert "`apt-mark hold kubelet`" in warning


def test_held_packages_stay_held():
    warning = overwriting_warning({"kubelet": {**KUBELET, "held": True}})
    assert "leave it so" in warning
    assert "apt-mark" not in warning


def test_rpm_is_held_with_versionlock():
    warning = overwriting_warning({"kubelet": {**KUBELET, "manager": "rpm", "held": None}})
    assert "`dnf versionlock add kubelet`" in warning
