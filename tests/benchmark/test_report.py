# SPDX-License-Identifier: GPL-3.0-or-later
"""What a reader finds in the report, and what must never be in it."""

from __future__ import annotations

import base64
import gzip
import itertools
import json
import math
import random
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import cache
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from benchmark import figures, report, terms
from benchmark.analysis import Advice, AdviceCode, Cause, CauseCode, CellResult, Difference
from benchmark.assess import assess, assess_sides
from benchmark.experiment import ArmRole, Experiment, Load
from benchmark.readers import parse_arms, parse_runs, read
from benchmark.results import Note, NoteCode
from tests.benchmark import experiments
from tests.benchmark.conftest import DATA, arm_lines

Line = dict[str, Any]
VOID = {"meta", "br", "link", "img", "input", "hr"}
SCALED = ("iter_ms", "enqueue_ms", "wait_ms")
LOGS = ("amd-epyc7773x-rtx3090", "intel-rtx3090")
HOSTILE = "<script>alert(1)</script>\"'><img onerror=x> | a_b *c* [d](e) `f`"


class Page(HTMLParser):
    """The page as its reader has it: texts, tables as rows of texts, links; and every tag that was left open."""

    def __init__(self, text: str) -> None:
        super().__init__(convert_charrefs=True)
        self.open: list[str] = []
        self.crossed: list[str] = []
        self.tags: list[tuple[str, dict[str, str]]] = []
        self.tables: dict[str, list[list[str]]] = {}
        self.links: dict[str, str] = {}
        self.said: list[str] = []
        self._rows: list[list[str]] = []
        self._caption = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: Sequence[tuple[str, str | None]]) -> None:
        values = {key: value or "" for key, value in attrs}
        self.tags.append((tag, values))
        if tag not in VOID:
            self.open.append(tag)
        if tag == "table":
            self._rows, self._caption = [], ""
        elif tag == "tr":
            self._rows.append([])
        elif tag in ("td", "th"):
            self._rows[-1].append("")
        elif tag == "a":
            self.links[values.get("download", "")] = values["href"]

    def handle_endtag(self, tag: str) -> None:
        if not self.open or self.open.pop() != tag:
            self.crossed.append(tag)
        if tag == "table":
            self.tables[self._caption] = self._rows

    def handle_data(self, data: str) -> None:
        if "style" in self.open:
            return
        if "svg" not in self.open or "text" in self.open:
            self.said.append(data)
        if "caption" in self.open:
            self._caption += data
        elif ("td" in self.open or "th" in self.open) and "svg" not in self.open:
            self._rows[-1][-1] += data

    @property
    def classes(self) -> list[str]:
        """The class attribute of each element that has one."""
        return [values["class"] for _, values in self.tags if "class" in values]

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.said).split())


Written = tuple[Page, str, dict[str, Any]]
Write = Callable[..., Written]


def unchanged(line: Line) -> None:
    """Leaves the lines as the synthetic run wrote them."""


Evaluated = Callable[..., Experiment]


@cache
def _evaluated(change: Callable[[Line], None], a: str, b: str, rounds: int) -> Experiment:
    """The evaluation of two of the synthetic arms, after `change` has had its way with their lines. It is frozen."""
    lines = arm_lines(rounds=rounds)
    for line in lines:
        change(line)
    arms = parse_arms({"timings.jsonl": "".join(json.dumps(line) + "\n" for line in lines)})
    return assess_sides(arms[a], arms[b], [arm for name, arm in arms.items() if name not in (a, b)])


def evaluated(
    change: Callable[[Line], None] = unchanged, a: str = "none-auto", b: str = "static-auto", rounds: int = 5
) -> Experiment:
    return _evaluated(change, a, b, rounds)


@cache
def seed() -> Experiment:
    amd, intel = (read(str(DATA / f"{name}.log"), name[:5].strip("-")) for name in LOGS)
    return assess_sides(amd, intel)


@pytest.fixture
def beats() -> Experiment:
    return evaluated(rounds=8)


def read_back(folder: Path, found: Experiment, raw: Mapping[str, bytes], title: str) -> Written:
    """Writes the report and reads it back."""
    report.write(found, raw, folder, title, "make it\nso")
    texts = {path.name: path.read_text(encoding="utf-8") for path in folder.iterdir()}
    assert set(texts) == {"report.html", "report.md", "report.json", "line.txt"}
    data = json.loads(texts["report.json"], parse_constant=pytest.fail)
    return Page(texts["report.html"]), texts["report.md"], data


@pytest.fixture
def written(tmp_path: Path) -> Write:
    """Writes a report and reads it back: the page, the Markdown and the object."""

    def write(found: Experiment, raw: Mapping[str, bytes] | None = None, title: str = "gpu-01") -> Written:
        return read_back(tmp_path / "out", found, raw or {}, title)

    return write


def slower_control(line: Line) -> None:
    if line["kind"] == "block" and line["mode"] == "inference-graph" and line["arm"].startswith("none"):
        line.update({key: [value * 1.06 for value in line[key]] for key in SCALED})


def on_a_cpu(line: Line) -> None:
    if line["kind"] == "process":
        line["env"] = {key: value for key, value in line["env"].items() if not key.startswith(("gpu", "driver"))}
        line["env"]["device"] = "cpu"
    elif line["kind"] == "block":
        line["control"] = False
        for key in ("enqueue_ms", "wait_ms", "data_ms", "h2d_ms"):
            line.pop(key, None)


def out_of_memory_before(line: Line) -> None:
    if line["kind"] == "block" and line["model"] == "resnet50" and line["arm"].startswith("none"):
        for key in (*SCALED, "counters"):
            line.pop(key, None)
        line.update(status="oom", reason="CUDA out of memory")


SIDES: dict[str, dict[str, Any]] = {
    "beats": {"rounds": 8},
    "undecided": {},
    "worse": {"a": "static-auto", "b": "none-auto"},
    "equivalent": {"a": "static-auto", "b": "static-4"},
    "one-round": {"rounds": 1},
    "sides-invalid": {"change": slower_control},
    "cpu": {"change": on_a_cpu},
    "oom": {"change": out_of_memory_before},
}


@pytest.fixture(scope="module", params=[*experiments.EXPERIMENTS, *SIDES, "seed"])
def case(request: pytest.FixtureRequest) -> Experiment:
    name = request.param
    if name in experiments.EXPERIMENTS:
        return experiments.EXPERIMENTS[name]()
    return seed() if name == "seed" else evaluated(**SIDES[name])


@pytest.fixture(scope="module")
def files(case: Experiment, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of the case's report, written once."""
    return tmp_path_factory.mktemp("report") / "out"


@pytest.fixture(scope="module")
def shown(case: Experiment, files: Path) -> Written:
    return read_back(files, case, {"timings.jsonl": b"{}\n"}, "gpu-01")


# Every report


def test_every_report_is_well_formed_and_needs_nothing_from_outside(shown: Written, files: Path) -> None:
    page = shown[0]
    assert not page.crossed
    assert not page.open
    text = (files / "report.html").read_text(encoding="utf-8")
    assert not re.search(r"https?://|//cdn|\bsrc=|@import|<script|<link|<iframe|url\(", text)
    assert all(link.startswith("data:") for link in page.links.values())
    assert len(text.encode()) < 2_000_000


def test_every_chart_and_table_says_what_it_shows(shown: Written) -> None:
    page = shown[0]
    drawn = [index for index, (tag, values) in enumerate(page.tags) if tag == "svg" and values.get("role") == "img"]
    assert drawn
    assert all(page.tags[index + 1][0] == "title" for index in drawn)
    assert "" not in page.tables
    ids = [values["id"] for _, values in page.tags if "id" in values]
    assert len(ids) == len(set(ids))


def test_no_report_shows_a_word_of_the_program(case: Experiment, shown: Written) -> None:
    page, markdown, _ = shown
    for text in (page.text, markdown, report.line(case)):
        assert not re.search(r"\b(None|NaN|nan|inf|Infinity|True|False|undefined)\b|CauseCode|Verdict\.|<Status", text)
        assert not re.search(r"\dx (faster|slower)", text)


def test_every_report_says_its_line_in_all_files(case: Experiment, shown: Written, files: Path) -> None:
    data = shown[2]
    line = (files / "line.txt").read_text(encoding="utf-8")
    assert line == f"{data['line']}\n" == f"{report.line(case)}\n"
    assert line.startswith("benchmark: ")
    assert data["schema"] == 4


# An experiment


def test_the_top_says_what_to_do_how_much_it_brings_and_how_sure_that_is(written: Write) -> None:
    experiment = experiments.idle_node()
    page, markdown, _ = written(experiment)
    top = page.text.partition("The two questions")[0]
    for text in (top, markdown):
        for said in (
            "Set the number of threads.",
            "2.31 times as fast",
            "Saves about 13.6 GPU-hours a day for each GPU: 24 hours of work take about 10.4.",
            "Threads set: at least 2.16 and at most 2.47 times as fast as today.",
            "Exclusive CPUs: slower: between 0.79 and 0.91 times as fast as with threads set.",
            "98.75%",
            "after 5, 8, 12 or 20 rounds",
            "Set OMP_NUM_THREADS=12, the CPU limit, in the pods.",
        ):
            assert said in text
    rates = page.tables["Images per second, one tenant, the rest of the node idle"]
    assert [(row[0].partition("a CPU")[0][:13], row[2]) for row in rates] == [
        ("as it is toda", "820 images/s"),
        ("threads setth", "1894 images/s"),
        ("exclusive CPU", "1610 images/s"),
    ]


def test_both_questions_are_asked_by_family_with_a_dot_for_each_round(written: Write) -> None:
    page, _, _ = written(experiments.idle_node())
    for caption in (
        "threads set against today: one tenant, the rest of the node idle (log scale)",
        "exclusive CPUs against threads set: one tenant, the rest of the node idle (log scale)",
    ):
        names = [row[0] for row in page.tables[caption][1:]]
        assert names == [
            "input pipelinea loader feeds the GPU (6 cells)",
            "launchinglaunching kernels limits the step (2 cells)",
            "controlthe CPU has no part, so it must stay at 1 (1 cell)",
        ]
    assert page.classes.count("mark round") == 1 + 2 * 3 * 6  # and one in the legend
    assert {"◂ slower", "faster ▸"} <= {text.strip() for text in page.said}


def test_an_idle_node_has_no_panel_of_a_full_one(written: Write) -> None:
    assert "On a full node" not in written(experiments.idle_node())[0].text


def test_a_full_node_shows_both_questions_and_each_arm_under_each_load(written: Write) -> None:
    experiment = experiments.full_node()
    page, markdown, _ = written(experiment)
    answers = {
        row[0]: row[1:]
        for row in page.tables["Times as fast in the input pipeline (log scale), by load; small dots are rounds"]
    }
    assert answers[terms.LOADS[Load.BUSY].name][1] == "1.24 1.16 to 1.33 faster"
    arms = [row for row in page.tables["Each arm under each load, input pipeline"] if len(row) > 1]
    assert len(arms) == 1 + 9
    assert arms[-1][:1] + arms[-1][2:] == ["exclusive CPUs", "6160", "98% of the median", "44.9 ms", "6%"]
    assert page.classes.count("mark exclusive") == 6 * (1 + 4 + 4)
    for heading in ("On a full node", "Each arm under each load", "worst tenant"):
        assert heading in page.text
        assert heading in markdown
    top = page.text.partition("The two questions")[0]
    assert "Images per second, full node with busy neighbours" in top
    assert "2.34 times as fast" in top


def test_causes_stand_by_remedy_and_only_for_gaps_that_are_decided(written: Write) -> None:
    page, _, data = written(experiments.full_node())
    assert list(page.tables)[list(page.tables).index("What setting the number of threads removes") :][:2] == [
        "What setting the number of threads removes",
        "What using exclusive CPUs removes beyond that, full node with busy neighbours",
    ]
    assert data["contrasts"][0]["causes"][0] == {
        "code": "oversubscription",
        "share": 0.78,
        "evidence": "64 threads on 12 CPUs; with 12 threads a step takes 28.5 ms",
    }
    assert "No cause is named: no gap is decided." in written(experiments.not_decided())[0].text


def test_what_a_remedy_costs_is_not_called_removed(written: Write) -> None:
    found = experiments.idle_node()
    threads, exclusive = found.contrasts
    slower = replace(exclusive, causes=(Cause(CauseCode.UNEXPLAINED, 1.0, ("2.1 ms per step",)),))
    page = written(replace(found, contrasts=(threads, slower)))[0]
    assert "Why using exclusive CPUs makes it slower" in page.tables
    assert not any(name.startswith("What using exclusive CPUs removes") for name in page.tables)


def test_cells_have_intervals_and_no_conclusion(written: Write) -> None:
    page, markdown, _ = written(experiments.idle_node())
    rows = page.tables["threads set against today: one tenant, the rest of the node idle"]
    assert rows[0][2:] == ["today, ms", "threads set, ms", "times as fast", "interval"]
    assert len(rows) == 1 + 9
    assert all(re.fullmatch(r"\d\.\d\d to \d\.\d\d", row[5]) for row in rows[1:])
    assert "resnet152 half inference-loader, batch 64" in markdown


def test_an_invalid_experiment_claims_nothing_and_says_why(written: Write) -> None:
    page, markdown, _ = written(experiments.invalid())
    top = page.text.partition("The two questions")[0]
    assert "INVALID" in top
    assert "NOT IN TURNS" in top
    assert "others kept 1.4 CPUs busy" in top
    assert "others kept 1.4 CPUs busy" in markdown
    for claim in ("How much it brings", "How sure it is", "GPU-hours"):
        assert claim not in top
    assert "not a fair comparison" in page.text
    assert "whisker faster" not in page.classes


def test_arms_that_took_no_turns_have_intervals_of_their_rounds_only(written: Write) -> None:
    found = experiments.idle_node()
    threads, exclusive = found.contrasts
    page, markdown, _ = written(
        replace(found, interleaved=False, contrasts=(threads, replace(exclusive, margin=0.10)), margin=0.10)
    )
    assert "margin ± 5% and ± 10%" in page.text
    for text in (page.text, markdown):
        assert "The intervals hold the spread of the rounds only." in text
    assert "misses the true value" not in page.text


def test_what_is_not_decided_says_how_many_rounds_are_expected(written: Write) -> None:
    experiment = experiments.not_decided()
    top = written(experiment)[0].text.partition("The two questions")[0]
    assert "NOT DECIDED 3 rounds so far, about 8 expected" in top
    assert "3 rounds allow no interval" in top
    assert "proves nothing yet" in top


def test_the_object_holds_each_contrast_by_question_and_load(written: Write) -> None:
    data = written(experiments.full_node())[2]
    assert data["recommendation"] == "pin_if_busy"
    assert data["arms"] == {"today": "fractional-auto", "threads": "fractional-12", "exclusive": "integer-12"}
    assert [(one["question"], one["load"]) for one in data["contrasts"]] == [
        (question, load) for load in ("solo", "full", "busy") for question in ("threads", "exclusive")
    ]
    full = data["contrasts"][3]
    assert (full["name"], full["load_name"]) == ("exclusive CPUs against threads set", "full node")
    first = data["contrasts"][0]["families"][0]
    assert (first["family"], first["verdict"], first["rounds"], len(first["by_round"])) == (
        "input_pipeline",
        "BEATS",
        6,
        6,
    )
    assert {"model": "resnet18", "precision": "half", "mode": "train-loader", "batch": 64}.items() <= data["contrasts"][
        0
    ]["cells"][0].items()
    assert len(data["throughputs"]) == 9


def test_the_csv_holds_every_cell_of_every_contrast(written: Write) -> None:
    link = written(experiments.full_node())[0].links["cells.csv"]
    rows = [text.split(",") for text in base64.b64decode(link.partition("base64,")[2]).decode().splitlines()]
    assert rows[0][:4] == ["question", "load", "family", "model"]
    assert len(rows) == 1 + 6 * 9
    assert rows[1][:4] == ["threads", "solo", "input_pipeline", "resnet18"]


# Names of arms


def ended_early(line: Line) -> None:
    if line["kind"] == "end" and line["arm"] == "static-4":
        line["kind"] = "ready"


def another_driver(line: Line) -> None:
    if line["kind"] == "process" and line["arm"].startswith("static"):
        line["env"]["driver"] = "1.0"


def not_pinned(line: Line) -> None:
    if line["kind"] == "process" and line["arm"].startswith("static"):
        line["env"].update(cpus_allowed=16, quota_cpus=4.0, cpus_effective="0-15")


@pytest.mark.parametrize("change", [unchanged, ended_early, another_driver, not_pinned])
def test_readers_meet_the_arms_by_what_they_stand_for(
    change: Callable[[Line], None], written: Write, four_arms: Sequence[Line]
) -> None:
    for line in four_arms:
        change(line)
    text = "".join(json.dumps(line) + "\n" for line in four_arms)
    found = assess(parse_runs({"timings.jsonl": text}))
    page, markdown, _data = written(found)
    for shown in (page.text, markdown):
        findings, _heading, made = shown.partition("How it was made")
        assert not re.search("(none|static)-(auto|4)", findings)
        assert "none-auto" in made
    assert bool(found.invalid) is (change in (another_driver, not_pinned))


# Two sides


def test_two_sides_are_one_contrast_and_the_steps_between_them(beats: Experiment, written: Write) -> None:
    page, markdown, data = written(beats)
    idle = "one tenant, the rest of the node idle"
    assert f"exclusive CPUs against today: {idle} (log scale)" in page.tables
    assert "The questions" in page.text
    for text in (page.text, markdown):
        assert "more threads than CPUs" in text
        assert "16 threads on 4 CPUs today" in text
    causes = data["contrasts"][0]["causes"]
    assert [cause["code"] for cause in causes] == [cause.code.value for cause in beats.contrasts[0].causes]
    assert data["advice"] == [{"code": item.code.value, "text": item.text} for item in beats.advice]
    counted = {
        row[0]: row[1:]
        for row in page.tables["What the system counted over all cells: periods are summed, rates are means"]
    }
    assert counted[""] == ["today", "threads set", "exclusive CPUs"]
    assert counted["CFS periods throttled"][0].endswith("(40%)")
    assert counted["CFS periods throttled"][2] == "no quota"
    assert counted["torch threads"] == ["16", "4", "4"]


def test_sides_that_stand_for_nothing_have_their_own_names(written: Write) -> None:
    page, _, data = written(evaluated(a="static-auto", b="static-4"))
    assert "How fast is static-4 against static-auto?" in page.text
    assert "static-4 against static-auto (log scale)" in page.tables
    assert data["arms"] == {"a": "static-auto", "b": "static-4"}
    assert (data["asked"], data["verdict"]) == ("sides", "EQUIVALENT")


def test_the_seed_is_read_without_counters(written: Write) -> None:
    page, markdown, _ = written(seed())
    for text in (page.text, markdown):
        assert "neither proved nor ruled out" in text
        assert "smallest models 1.48x, largest 1.06x" in text
        assert "2.06" in text
    assert not any(name.startswith("whisker") for name in page.classes)


def test_red_flags_come_before_what_is_on_purpose(beats: Experiment, written: Write) -> None:
    flagged = Difference("driver", "555.42", "570.1", red_flag="another GPU driver")
    others = tuple(item for item in beats.differences if item.key != "driver")
    page, _, data = written(replace(beats, differences=(flagged, *others)))
    rows = page.tables["What differs between the first and the last arm"]
    assert rows[1] == ["driver", "555.42", "570.1", "red flag"]
    assert all(row[3] == "on purpose" for row in rows[2:])
    assert "Red flag driver: 555.42 in today, 570.1 in exclusive CPUs: another GPU driver" in page.text
    assert data["differences"][0]["key"] == "driver"


def test_a_cell_out_of_memory_is_named_with_its_side(written: Write) -> None:
    page, markdown, _ = written(evaluated(change=out_of_memory_before))
    assert "resnet50 half inference batch 64: today: out of memory" in page.text
    assert "resnet50 half inference batch 64: today: out of memory" in markdown


def test_a_cpu_run_claims_no_gpu_time(written: Write) -> None:
    found = evaluated(change=on_a_cpu)
    assert "GPU-minute" not in report.line(found)
    assert "none: measured on a CPU" in written(found)[0].text


def with_cells(found: Experiment, change: Callable[[CellResult], CellResult]) -> Experiment:
    contrasts = (replace(one, cells=tuple(map(change, one.cells))) for one in found.contrasts)
    return replace(found, contrasts=tuple(contrasts))


def test_numbers_that_are_not_finite_are_not_known(beats: Experiment, written: Write) -> None:
    def broken(cell: CellResult) -> CellResult:
        if cell.a is None:
            return cell
        return replace(cell, a=replace(cell.a, p90_ms=math.nan, max_ms=math.inf, rates={"canary_ms": math.nan}))

    page, markdown, data = written(replace(with_cells(beats, broken), gpu_minutes=math.nan))
    for text in (page.text, markdown):
        assert not re.search(r"\b(nan|inf)\b", text)
    cells = [cell for contrast in data["contrasts"] for cell in contrast["cells"]]
    assert all(cell["a"] is None or cell["a"]["max_ms"] is None for cell in cells)
    assert data["gpu_minutes"] is None


# What comes from outside


def _hostile_sides() -> Experiment:
    found = evaluated(a="static-auto", b="static-4")
    modes = (f"m{number}" for number in itertools.count())
    named = with_cells(
        found, lambda result: replace(result, cell=result.cell._replace(model=HOSTILE, mode=next(modes)))
    )
    return replace(
        named,
        label=HOSTILE,
        arms={ArmRole.A: HOSTILE, ArmRole.B: f"{HOSTILE}\n# B"},
        contrasts=(
            replace(named.contrasts[0], causes=(Cause(CauseCode.THROTTLING, 0.5, (HOSTILE,)),), unknown=(HOSTILE,)),
        ),
        differences=(Difference(HOSTILE, HOSTILE, None, red_flag=HOSTILE),),
        environment={HOSTILE: HOSTILE},
        sentence=HOSTILE,
        advice=(Advice(AdviceCode.TAKE_B, HOSTILE),),
        notes=(Note(NoteCode.SAME_NUMBERS, HOSTILE), Note(NoteCode.NO_CONTROL, HOSTILE)),
    )


def _hostile_experiment() -> Experiment:
    found = experiments.full_node()
    first = found.contrasts[0]
    cells = tuple(replace(result, cell=result.cell._replace(model=HOSTILE)) for result in first.cells)
    causes = (Cause(CauseCode.THROTTLING, 0.5, (HOSTILE,)),)
    return replace(
        found,
        label=HOSTILE,
        arms=dict.fromkeys(found.arms, HOSTILE),
        contrasts=(replace(first, cells=cells, causes=causes), *found.contrasts[1:]),
        sentence=HOSTILE,
        advice=(Advice(AdviceCode.SET_THREADS, HOSTILE),),
        notes=(Note(NoteCode.NO_CONTROL, HOSTILE), Note(NoteCode.SAME_NUMBERS, HOSTILE)),
        environment={HOSTILE: HOSTILE},
    )


@pytest.mark.parametrize("kind", ["experiment", "sides"])
def test_labels_from_outside_stay_text(kind: str, written: Write, tmp_path: Path) -> None:
    hostile = _hostile_experiment() if kind == "experiment" else _hostile_sides()
    page, markdown, _ = written(hostile, {HOSTILE: b"x"}, HOSTILE)
    assert {tag for tag, _ in page.tags}.isdisjoint({"script", "img"})
    assert not any("onerror" in values for _, values in page.tags)
    assert not page.crossed
    assert page.text.count("<script>alert(1)</script>") > 10
    assert not re.search(r"(?<!\\)<(script|img)", markdown)
    assert "[d](e)" not in markdown
    tables = [text for text in markdown.splitlines() if text.startswith("| ")]
    columns = [len(re.findall(r"(?<!\\)\|", text)) for text in tables if "alert" in text]
    heads = {len(re.findall(r"(?<!\\)\|", text)) for text in tables if "---" in text}
    assert columns
    assert set(columns) <= heads
    assert (tmp_path / "out" / "line.txt").read_text(encoding="utf-8").count("\n") == 1


def test_a_name_in_the_csv_is_no_formula(beats: Experiment, written: Write) -> None:
    named = with_cells(beats, lambda result: replace(result, cell=result.cell._replace(model="=1+1")))
    link = written(named)[0].links["cells.csv"]
    rows = base64.b64decode(link.partition("base64,")[2]).decode().splitlines()
    assert rows[0].split(",")[3] == "model"
    assert rows[1].split(",")[3] == "'=1+1"


def test_the_raw_data_comes_back_from_the_page_byte_for_byte(written: Write) -> None:
    raw = {"a.jsonl": b'{"schema": 1}\n' * 500, "b.jsonl.gz": gzip.compress(b"packed before")}
    links = written(experiments.idle_node(), raw)[0].links
    for name, expected in (("a.jsonl.gz", raw["a.jsonl"]), ("b.jsonl.gz", b"packed before")):
        assert gzip.decompress(base64.b64decode(links[name].partition("base64,")[2])) == expected


def test_raw_data_that_is_too_large_is_named_and_the_page_stays_small(written: Write, tmp_path: Path) -> None:
    noise = random.Random(1).randbytes(1_500_000)
    page, markdown, _ = written(experiments.full_node(), {"large.jsonl": noise, "small.jsonl": b"{}"})
    assert (tmp_path / "out" / "report.html").stat().st_size < 2_000_000
    assert "Too large for this page; the raw data is in: large.jsonl (1.5 MB)" in page.text
    assert set(page.links) == {"cells.csv", "small.jsonl.gz"}
    assert "large.jsonl (1.5 MB)" in markdown


def test_a_report_is_replaced_whole(tmp_path: Path) -> None:
    last = experiments.idle_node()
    for found in (experiments.full_node(), last):
        report.write(found, {}, tmp_path / "new" / "folder", "t", "c")
    assert sorted(report.FILES) == sorted(path.name for path in (tmp_path / "new" / "folder").iterdir())
    assert (tmp_path / "new" / "folder" / "line.txt").read_text() == report.line(last) + "\n"


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, "~"),
        (math.nan, "~"),
        (0.0, "0"),
        (0.02, "0.020"),
        (3.14159, "3.14"),
        (41.38, "41.4"),
        (1234.5, "1234"),
        (16.0, "16"),
    ],
)
def test_numbers_have_three_digits(value: float | None, text: str) -> None:
    assert figures.number(value) == text
