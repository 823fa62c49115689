# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import typing as t
from pathlib import Path

MODULES = "ansible_collections.kubepin.tuning.plugins.modules"
Answer = t.Callable[..., t.Dict[str, t.Any]]


def test_container_programs(answer: Answer, tmp_path: Path) -> None:
    (tmp_path / "config.toml").write_text("mode = 'cdi'")
    result = answer(
        "container_programs_info",
        programs=["cat", "no-such-program"],
        files=[str(tmp_path / "config.toml")],
        folders=[str(tmp_path)],
    )
    assert [program["code"] for program in result["programs"]] == [0, None]
    assert (result["files"][0]["text"], result["folders"][0]["names"]) == ("mode = 'cdi'", ["config.toml"])
