# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

from pathlib import Path

import pytest
from ansible_collections.kubepin.tuning.plugins.module_utils.common.errors import TuningError
from ansible_collections.kubepin.tuning.plugins.modules.benchmark_namespace import read_program


def test_the_program_is_all_python_files_of_the_folder(tmp_path: Path) -> None:
    (tmp_path / "b.py").write_text("b\n")
    (tmp_path / "a.py").write_text("a\n")
    (tmp_path / "README.md").write_text("not a program\n")
    assert read_program(str(tmp_path)) == {"a.py": "a\n", "b.py": "b\n"}


@pytest.mark.parametrize("name", ["", "absent"])
def test_a_folder_without_a_program_is_refused_and_named(tmp_path: Path, name: str) -> None:
    folder = tmp_path / name
    with pytest.raises(TuningError) as refused:
        read_program(str(folder))
    [problem] = refused.value.problems
    assert (problem.code, problem.subject) == ("benchmark_program_missing", f'program "{folder}"')
