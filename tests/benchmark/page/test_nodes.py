# SPDX-License-Identifier: GPL-3.0-or-later
"""The page of several nodes."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from benchmark import report
from benchmark.evaluate import index_reports
from benchmark.experiment import Experiment
from benchmark.results import InputError
from tests.benchmark import experiments
from tests.benchmark.test_report import HOSTILE, Page


def written(folder: Path, *found: Experiment) -> list[Path]:
    """Reports in folders of their own."""
    folders = [folder / experiment.label / "run" for experiment in found]
    for own, experiment in zip(folders, found):
        report.write(experiment, {}, own, experiment.label, "")
    return folders


def page_of(folder: Path, folders: Sequence[Path]) -> Page:
    return Page(index_reports(folders, folder, "Two nodes").read_text(encoding="utf-8"))


@pytest.fixture
def idle() -> Experiment:
    return experiments.idle_node()


def test_each_node_has_a_row_with_its_verdict_its_contrasts_and_its_report(tmp_path: Path, idle: Experiment) -> None:
    full = replace(experiments.full_node(), label="gpu 02")
    page = page_of(tmp_path, written(tmp_path, idle, full))
    (rows,) = page.tables.values()
    assert rows[0][:2] == ["node", "what to do"]
    assert [text.partition("◂")[0] for text in rows[0][2:4]] == [
        "Threads set against today",
        "Exclusive CPUs against threads set",
    ]
    assert [row[0] for row in rows[1:]] == ["gpu-01", "gpu 02"]
    assert "Set the number of threads" in rows[1][1]
    threads, exclusive = (one.headline.estimate for one in idle.contrasts)
    assert f"{threads.ratio:.2f} {threads.low:.2f} to {threads.high:.2f} faster" in rows[1][2]
    assert f"{exclusive.ratio:.2f} {exclusive.low:.2f} to {exclusive.high:.2f} slower" in rows[1][3]
    assert "Busy neighbours" in rows[2][3]
    links = [values["href"] for tag, values in page.tags if tag == "a"]
    assert links == ["gpu-01/run/report.html", "gpu%2002/run/report.html"]
    assert (page.open, page.crossed) == ([], [])


def test_the_page_says_whether_the_nodes_ask_for_the_same(tmp_path: Path, idle: Experiment) -> None:
    same = page_of(tmp_path, written(tmp_path, idle, replace(idle, label="gpu-02")))
    assert "Set the number of threads: on all 2 nodes." in same.text
    other = replace(experiments.full_node(), label="gpu-03")
    differ = page_of(tmp_path, written(tmp_path, idle, replace(idle, label="gpu-02"), other))
    assert "The nodes differ." in differ.text
    assert "Set the number of threads: gpu-01, gpu-02" in differ.text


def test_an_invalid_measurement_makes_no_claim_and_says_why(tmp_path: Path, idle: Experiment) -> None:
    spoilt = replace(experiments.invalid(), label="gpu-02")
    (rows,) = page_of(tmp_path, written(tmp_path, idle, spoilt)).tables.values()
    assert "INVALID" in rows[2][1]
    assert spoilt.invalid[0].text in rows[2][1]
    assert not any(word in "".join(rows[2]) for word in ("faster", "slower"))


def test_names_are_shown_as_they_are_and_never_run(tmp_path: Path, idle: Experiment) -> None:
    (own,) = written(tmp_path, idle)
    content = json.loads((own / "report.json").read_text())
    (own / "report.json").write_text(json.dumps({**content, "label": HOSTILE}))
    page = page_of(tmp_path, [own, own])
    assert HOSTILE in page.text
    assert not [tag for tag, _values in page.tags if tag in ("script", "img")]


def test_all_problems_of_the_reports_come_at_once(tmp_path: Path, idle: Experiment) -> None:
    old, lost = written(tmp_path, idle)[0], tmp_path / "lost"
    content = json.loads((old / "report.json").read_text())
    (old / "report.json").write_text(json.dumps({**content, "schema": 3}))
    with pytest.raises(InputError) as refused:
        index_reports([old, lost], tmp_path / "pages", "x")
    assert refused.value.problems == [
        f"{old}/report.json: expected a report of schema 4. Write the report of this node again.",
        f"{lost}/report.json: cannot be read: No such file or directory. Write the report of this node first.",
    ]
    assert not (tmp_path / "pages").exists()
