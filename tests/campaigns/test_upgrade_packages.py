# SPDX-License-Identifier: GPL-3.0-or-later
"""What the campaign of packages needs of its machine is installed where it begins."""

from __future__ import annotations

from argparse import Namespace
from pathlib import Path

import pytest

from tests.campaigns import upgrade_packages


@pytest.mark.parametrize(("manager", "installed"), [("apt", []), ("dnf", [["rpm", "createrepo-c"]])])
def test_missing_programs_are_installed_before_the_sandbox_starts(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, manager: str, installed: list[list[str]]
) -> None:
    """The installation itself is a stand-in."""
    asked: list[list[str]] = []
    monkeypatch.setenv("KUBEPIN_CACHE", str(tmp_path))
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr("sandbox.host.have", lambda _thing: False)
    monkeypatch.setattr(upgrade_packages, "install_packages", lambda _shell, packages, _program: asked.append(packages))
    monkeypatch.setattr(upgrade_packages, "new_sandbox", lambda *_names, **_options: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        upgrade_packages.run(Namespace(manager=manager))
    assert asked == installed
