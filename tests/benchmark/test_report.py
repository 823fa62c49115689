# SPDX-License-Identifier: GPL-3.0-or-later
"""What a reader finds in the report, and what must never be in it."""

from __future__ import annotations

import base64
import gzip
import json
import math
import random
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from benchmark import charts, report, sections, wording
from benchmark.analyse import analyse
from benchmark.analysis import Advice, AdviceCode, Analysis, Cause, CauseCode, Difference, Verdict
from benchmark.readers import parse_arms, read
from benchmark.results import Note, NoteCode

Line = dict[str, Any]
VOID = {"meta", "br", "link", "img", "input", "hr"}
SCALED = ("iter_ms", "enqueue_ms", "wait_ms")
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
    def text(self) -> str:
        return " ".join(" ".join(self.said).split())


Written = Callable[..., tuple[Page, str, dict[str, Any]]]


def unchanged(line: Line) -> None:
    """Leaves the lines as the synthetic run wrote them."""


@pytest.fixture(scope="module")
def known() -> dict[object, Analysis]:
    """Analyses made before: they are frozen, and take half a second each."""
    return {}


@pytest.fixture
def analysed(make_lines: Callable[..., list[Line]], known: dict[object, Analysis]) -> Callable[..., Analysis]:
    """The analysis of the four synthetic arms, after `change` has had its way with their lines."""

    def build(
        change: Callable[[Line], None] = unchanged, a: str = "none-auto", b: str = "static-auto", rounds: int = 5
    ) -> Analysis:
        key = (change, a, b, rounds)
        if key not in known:
            lines = make_lines(rounds=rounds)
            for line in lines:
                change(line)
            text = "".join(json.dumps(line) + "\n" for line in lines)
            known[key] = analyse(parse_arms({"timings.jsonl": text}), a, b)
        return known[key]

    return build


@pytest.fixture
def beats(analysed: Callable[..., Analysis]) -> Analysis:
    return analysed()


@pytest.fixture
def seed(amd: Path, intel: Path) -> Analysis:
    return analyse({"amd": read(str(amd), "amd"), "intel": read(str(intel), "intel")}, "amd", "intel")


@pytest.fixture
def written(tmp_path: Path) -> Written:
    """Writes the report and reads it back: the page, the Markdown and the object."""

    def write(
        analysis: Analysis, raw: Mapping[str, bytes] | None = None, title: str = "gpu-01"
    ) -> tuple[Page, str, dict[str, Any]]:
        report.write(analysis, raw or {}, tmp_path / "out", title, "make it\nso")
        texts = {path.name: path.read_text(encoding="utf-8") for path in (tmp_path / "out").iterdir()}
        assert set(texts) == {"report.html", "report.md", "report.json", "line.txt"}
        return (
            Page(texts["report.html"]),
            texts["report.md"],
            json.loads(texts["report.json"], parse_constant=pytest.fail),
        )

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


CASES: dict[str, dict[str, Any]] = {
    "beats": {},
    "worse": {"a": "static-auto", "b": "none-auto"},
    "equivalent": {"a": "static-auto", "b": "static-4"},
    "one-round": {"rounds": 1},
    "invalid": {"change": slower_control},
    "cpu": {"change": on_a_cpu},
    "oom": {"change": out_of_memory_before},
}


@pytest.fixture(params=[*CASES, "seed"])
def case(request: pytest.FixtureRequest, analysed: Callable[..., Analysis]) -> Analysis:
    if request.param == "seed":
        found: Analysis = request.getfixturevalue("seed")
        return found
    return analysed(**CASES[request.param])


def test_every_report_is_well_formed_and_needs_nothing_from_outside(
    case: Analysis, written: Written, tmp_path: Path
) -> None:
    page, _, _ = written(case, {"timings.jsonl": b"{}\n"})
    assert not page.crossed
    assert not page.open
    text = (tmp_path / "out" / "report.html").read_text(encoding="utf-8")
    assert not re.search(r"https?://|//cdn|\bsrc=|@import|<script|<link|<iframe|url\(", text)
    assert all(link.startswith("data:") for link in page.links.values())
    assert len(text.encode()) < 2_000_000


def test_every_report_says_its_verdict_and_all_its_cells_everywhere(case: Analysis, written: Written) -> None:
    page, markdown, data = written(case)
    verdict, line = case.comparison.verdict.value, report.line(case)
    assert verdict in page.text
    assert markdown.startswith(f"# {verdict}: gpu-01\n")
    assert (data["schema"], data["verdict"], data["line"]) == (2, verdict, line)
    assert wording.headline(case)[1:] in page.text
    rows = [row[:3] for row in page.tables["Every cell, in the order of the first chart"][1:]]
    in_markdown = [text.split(" | ") for text in markdown.splitlines()]
    for result in case.comparison.cells:
        name = [result.cell.model, result.cell.precision, result.cell.mode]
        assert name in rows
        assert any([part.strip("| ") for part in parts[:3]] == name for parts in in_markdown)
    assert len(rows) == len(case.comparison.cells) == len(data["cells"])


def test_no_report_shows_a_word_of_the_program_for_what_is_not_known(case: Analysis, written: Written) -> None:
    broken = tuple(
        replace(entry, a=replace(entry.a, p90_ms=math.nan, max_ms=math.inf, rates={"canary_ms": math.nan}))
        if entry.a
        else entry
        for entry in case.cells
    )
    page, markdown, data = written(replace(case, cells=broken, gpu_minutes=math.nan))
    for text in (page.text, markdown, report.line(case)):
        assert not re.search(r"\b(None|NaN|nan|inf|Infinity|True|False|undefined)\b|CauseCode|Verdict\.|<Status", text)
    assert all(cell["a"] is None or cell["a"]["max_ms"] is None for cell in data["cells"])
    assert data["gpu_minutes"] is None


def test_every_chart_says_what_it_shows(case: Analysis, written: Written) -> None:
    tags = written(case)[0].tags
    drawn = [index for index, (tag, values) in enumerate(tags) if tag == "svg" and values.get("role") == "img"]
    assert drawn
    assert all(tags[index + 1][0] == "title" for index in drawn)
    large = [index for index in drawn if tags[index][1]["class"] in ("scatter", "strip")]
    assert all(tags[index + 2][0] == "desc" for index in large)


@pytest.mark.parametrize(
    ("name", "pattern"),
    [
        (
            "beats",
            r"benchmark: static-auto is 1\.2\dx \[1\.\d\d, 1\.\d\d\] faster than none-auto on 4 launch-bound cells, .*; control 1\.00x",
        ),
        (
            "worse",
            r"benchmark: none-auto is 1\.2\dx \[1\.\d\d, 1\.\d\d\] slower than static-auto on 4 launch-bound cells, 1\.\d\dx on the other",
        ),
        ("equivalent", r"benchmark: static-4 and static-auto are equal within 3%: "),
        ("one-round", r"benchmark: UNDECIDED: none-auto takes .* but one run gives no interval\. 1 round, "),
        ("invalid", r"benchmark: INVALID: the negative control differs by 1\.060x"),
    ],
)
def test_the_line_says_how_much_and_at_what_cost(analysed: Callable[..., Analysis], name: str, pattern: str) -> None:
    line = report.line(analysed(**CASES[name]))
    assert re.match(pattern, line)
    assert re.search(r"\. (5 rounds|1 round), [\d.]+ GPU-minutes?\.$", line)
    assert "\n" not in line


def test_a_cpu_run_claims_no_gpu_time(analysed: Callable[..., Analysis]) -> None:
    assert re.search(r"\. 5 rounds\.$", report.line(analysed(change=on_a_cpu)))


def test_labels_from_outside_stay_text(beats: Analysis, written: Written, tmp_path: Path) -> None:
    notes = (Note(NoteCode.SAME_NUMBERS, HOSTILE), Note(NoteCode.NO_CONTROL, HOSTILE))
    comparison = replace(beats.comparison, label_a=HOSTILE, label_b=f"{HOSTILE}\n# B", notes=notes)
    cells = tuple(
        replace(entry, result=replace(entry.result, cell=entry.result.cell._replace(model=HOSTILE, mode=f"m{index}")))
        for index, entry in enumerate(beats.cells)
    )
    hostile = replace(
        beats,
        comparison=comparison,
        cells=cells,
        differences=(Difference(HOSTILE, HOSTILE, None, red_flag=HOSTILE),),
        causes=(Cause(CauseCode.THROTTLING, 0.5, (HOSTILE,)),),
        same={HOSTILE: HOSTILE},
        why=(HOSTILE,),
        blocks=tuple(replace(block, arm=HOSTILE) for block in beats.blocks),
        advice=(Advice(AdviceCode.TAKE_B, HOSTILE),),
    )
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


def test_the_raw_data_comes_back_from_the_page_byte_for_byte(beats: Analysis, written: Written) -> None:
    raw = {"a.jsonl": b'{"schema": 1}\n' * 500, "b.jsonl.gz": gzip.compress(b"packed before")}
    links = written(beats, raw)[0].links
    for name, expected in (("a.jsonl.gz", raw["a.jsonl"]), ("b.jsonl.gz", b"packed before")):
        assert gzip.decompress(base64.b64decode(links[name].partition("base64,")[2])) == expected


def test_raw_data_that_is_too_large_is_named_and_the_page_stays_small(
    beats: Analysis, written: Written, tmp_path: Path
) -> None:
    noise = random.Random(1).randbytes(1_500_000)
    page, markdown, _ = written(beats, {"large.jsonl": noise, "small.jsonl": b"{}"})
    assert (tmp_path / "out" / "report.html").stat().st_size < 2_000_000
    assert "Too large for this page; the raw data is in: large.jsonl (1.5 MB)" in page.text
    assert set(page.links) == {"cells.csv", "small.jsonl.gz"}
    assert "large.jsonl (1.5 MB)" in markdown


def test_a_cell_out_of_memory_is_blank_in_the_map_and_named_with_its_side(
    analysed: Callable[..., Analysis], written: Written
) -> None:
    page, markdown, _ = written(analysed(change=out_of_memory_before))
    heat = {row[0]: row[1:] for row in page.tables["Change by model, precision and mode"]}
    assert heat["resnet50"] == ["OOM", "OOM", "", "", ""]
    blank = [values for tag, values in page.tags if tag == "td" and "resnet50" in values.get("title", "")]
    assert [values["class"] for values in blank] == ["none", "none"]
    assert "resnet50 half inference batch 64: none-auto: out of memory" in page.text
    assert "resnet50 half inference batch 64: none-auto: out of memory" in markdown


def test_cells_without_a_claim_are_hatched(seed: Analysis, written: Written) -> None:
    cells = [
        values for tag, values in written(seed)[0].tags if tag == "td" and values.get("title", "").endswith("UNDECIDED")
    ]
    assert len(cells) == 18
    assert all("hatched" in values["class"] for values in cells)


def test_logs_without_steps_and_counters_get_words_instead_of_empty_charts(seed: Analysis, written: Written) -> None:
    page, markdown, _ = written(seed)
    classes = [values.get("class", "") for tag, values in page.tags]
    assert classes.count("scatter") == 1
    assert not {"strip", "bar", "parts", "factors"} & set(classes)
    assert not any(name.startswith("whisker") for name in classes)
    for text in (page.text, markdown):
        for said in (
            "the input has averages only",
            "the input has no times for data",
            "the input has no start times of blocks",
            "neither proved nor ruled out",
            "resnet18",
            "2.059x",
            "The gap grows as models shrink",
        ):
            assert said in text


def test_the_seed_is_read_from_its_gradient(seed: Analysis, written: Written) -> None:
    page, _, _ = written(seed)
    assert "smallest models 1.48x, largest 1.06x" in page.text
    rows = page.tables["Ratio of every cell, on a log scale"]
    ratios = [float(row[2].rstrip("x")) for row in rows[2:-1]]
    assert ratios == sorted(ratios, reverse=True)
    assert len(ratios) == 18


def test_the_forest_shows_the_most_launch_bound_first_and_the_control_apart(beats: Analysis, written: Written) -> None:
    rows = written(beats)[0].tables["Ratio of every cell with its interval, on a log scale"][1:]
    groups = [row[0] for row in rows if len(row) == 1]
    assert [name.partition(":")[0] for name in groups] == [
        "Launch-bound cells",
        "Other cells",
        "As the original benchmark times them",
        "Controls",
    ]
    first = rows[1 : rows.index([groups[1]])]
    indices = [float(row[4]) for row in first[:-1]]
    assert indices == sorted(indices, reverse=True)
    assert first[-1][0].startswith("all together")
    assert rows[-1][0] == "resnet18half inference-graph, batch 64"


def test_red_flags_come_before_what_is_on_purpose(analysed: Callable[..., Analysis], written: Written) -> None:
    def other_driver(line: Line) -> None:
        if line["kind"] == "process" and line["arm"] == "none-auto":
            line["env"]["driver"] = "555.42"

    page, _, data = written(analysed(change=other_driver))
    rows = page.tables["Keys of the environments that differ"]
    assert rows[1] == ["driver red flag", "555.42", "570.1"]
    assert all("on purpose" in row[0] for row in rows[2:])
    assert "Red flag driver: 555.42 in A, 570.1 in B: another GPU driver" in page.text
    assert data["differences"][0]["key"] == "driver"


def test_the_causes_the_threads_part_and_the_advice_are_shown(beats: Analysis, written: Written) -> None:
    page, markdown, data = written(beats)
    assert beats.factors is not None
    for text in (page.text, markdown):
        assert "CFS throttling" in text
        assert "160 of 400 CFS periods throttled on none-auto" in text
        assert "OMP_NUM_THREADS=4" in text
    assert beats.factors.sentence in page.text
    assert [cause["code"] for cause in data["causes"]] == [cause.code.value for cause in beats.causes]
    assert data["factors"]["share_by_threads"] == pytest.approx(beats.factors.share_by_threads)
    assert data["advice"] == [{"code": item.code.value, "text": item.text} for item in beats.advice]
    assert data["ruled_out"] == [{"code": item.code.value, "text": item.text} for item in beats.ruled_out]
    grid = {row[0]: row[1:] for row in page.tables["Each arm against the reference: above 1 it is faster"] if row[0]}
    assert set(grid) == {"none", "static"}
    assert grid["none"][0].startswith("threads as found1.00x (reference)")
    counted = {row[0]: row[1:] for row in page.tables["Both arms over all cells: periods are summed, rates are means"]}
    assert counted["CFS periods throttled"] == ["240 of 600 (40%)", "no quota"]
    assert counted["torch threads"] == ["16", "4"]


def test_an_invalid_run_gives_no_reason_for_its_gap_on_top(analysed: Callable[..., Analysis], written: Written) -> None:
    top = written(analysed(change=slower_control))[0].text.partition("What differed")[0]
    assert "INVALID not a fair comparison The negative control differs by 1.060x" in top
    assert "Do not act on these numbers" in top
    assert "closes" not in top


def test_p99_is_kept_back_where_steps_are_few(beats: Analysis, written: Written) -> None:
    rows = {row[0]: row[2:] for row in written(beats)[0].tables["Ratios of quantiles, on a log scale"]}
    assert rows["resnet50half train, batch 64"][2] == "~"
    assert float(rows["resnet18half train, batch 64"][2].rstrip("x")) > 5


def test_the_run_is_shown_in_order_with_each_arm_in_its_colour(beats: Analysis, written: Written) -> None:
    page, markdown, _ = written(replace(beats, blocks=tuple(reversed(beats.blocks))))
    dots = [values for tag, values in page.tags if tag == "circle" and "cx" in values]
    assert len(dots) == len(beats.blocks)
    assert "none-auto (mean 1.1" in page.text
    assert "| 1 | none-auto, none-4, static-auto, static-4 |" in markdown


def test_a_table_of_all_cells_can_be_taken_along(beats: Analysis, written: Written) -> None:
    link = written(beats)[0].links["cells.csv"]
    rows = [text.split(",") for text in base64.b64decode(link.partition("base64,")[2]).decode().splitlines()]
    assert rows[0][:4] == ["model", "precision", "mode", "batch"]
    assert len(rows) == 1 + len(beats.comparison.cells)
    formula = replace(beats.comparison.cells[0], cell=beats.comparison.cells[0].cell._replace(model="=1+1"))
    changed = replace(beats, comparison=replace(beats.comparison, cells=(formula,)))
    assert report.to_csv(changed).splitlines()[1].startswith("'=1+1,")


def test_a_report_is_replaced_whole(beats: Analysis, seed: Analysis, tmp_path: Path) -> None:
    for analysis in (beats, seed):
        report.write(analysis, {}, tmp_path / "new" / "folder", "t", "c")
    assert sorted(report.FILES) == sorted(path.name for path in (tmp_path / "new" / "folder").iterdir())
    assert (tmp_path / "new" / "folder" / "line.txt").read_text() == report.line(seed) + "\n"


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
    assert wording.number(value) == text


def test_a_ratio_and_its_inverse_lie_equally_far_from_one() -> None:
    scale = charts.LogScale(0.25, 4)
    assert scale.at(1) == pytest.approx(50)
    assert scale.at(2) - 50 == pytest.approx(50 - scale.at(0.5))


def test_one_huge_interval_does_not_squeeze_the_others() -> None:
    spans = [charts.Span(1.2, 1.1, 1.3), charts.Span(1.3, 0.01, 90.0)]
    scale = charts.ratio_scale(spans, 0.03)
    assert scale.high / scale.low < 3
    assert 1.0 in charts.ratio_ticks(scale)
    assert "end" in charts.span_row(spans[1], scale, 0.03, "circle", "unknown", "")
    assert "end" not in charts.span_row(spans[0], scale, 0.03, "circle", "unknown", "")


@pytest.mark.parametrize("verdict", list(Verdict))
def test_every_verdict_has_its_badge(beats: Analysis, verdict: Verdict, tmp_path: Path) -> None:
    changed = replace(beats, comparison=replace(beats.comparison, verdict=verdict))
    report.write(changed, {}, tmp_path, "t", "c")
    glyph, words = sections.BADGES[verdict]
    assert f"{glyph} {verdict} {words}" in Page((tmp_path / "report.html").read_text(encoding="utf-8")).text
