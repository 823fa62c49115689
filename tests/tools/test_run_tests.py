# SPDX-License-Identifier: GPL-3.0-or-later
"""Stages in lanes: what is run, what is not, and what the summary and JUnit file say."""

from __future__ import annotations

import json
import os
import platform
import re
import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree

import pytest

from tests.campaigns.__main__ import CAMPAIGNS, parser
from tools.run_tests import run, temporary_root
from tools.stages import CAMPAIGN, COMPONENT_TESTS, NEW, NEWEST, OLD, ON_EVERY_VERSION, SUITES, Lane, Stage

PROJECT = Path(__file__).parents[2]
PASSES, FAILS = ("true",), ("sh", "-c", "echo the cause; exit 3")


def run_in(folder: Path, *lanes: Lane) -> int:
    return run(lanes, folder / "results", folder / "seconds.json")


def test_all_lanes_are_run_and_summed_up(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert (
        run_in(tmp_path, Lane("one", (Stage("a", PASSES), Stage("b", PASSES))), Lane("two", (Stage("c", PASSES),))) == 0
    )
    assert capsys.readouterr().out.splitlines()[-1] == "3 passed, 0 failed"
    assert set(json.loads((tmp_path / "seconds.json").read_text())) == {"a", "b", "c"}


def test_a_failure_shows_its_output_and_does_not_stop_the_others(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run_in(tmp_path, Lane("one", (Stage("a", FAILS), Stage("b", PASSES)))) == 1
    output = capsys.readouterr().out
    assert "the cause" in output
    assert output.splitlines()[-1] == "1 passed, 1 failed"


def test_the_end_of_the_output_names_the_tests_that_failed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    tests = tmp_path / "test_it.py"
    tests.write_text(
        "import pytest\n"
        "def test_good(): pass\n"
        "def test_bad(): assert [1] == [2], 'the\\nreason\\nis\\nlong'\n"
        "@pytest.fixture\ndef broken(): raise OSError('no disk')\n"
        "def test_set_up(broken): pass\n"
    )
    options = ("-q", "-p", "no:cacheprovider", "-c", "/dev/null", f"--junitxml={tmp_path}/results/unit.xml")
    failing = Stage("unit tests", (sys.executable, "-m", "pytest", *options, str(tests)), junit="unit.xml")
    logging = Stage("cluster", ("sh", "-c", "seq 100; echo the cause; exit 1"))
    silent = Stage("component tests", FAILS, junit="component.xml")
    assert run_in(tmp_path, Lane("one", (failing, silent, Stage("b", PASSES))), Lane("two", (logging,))) == 1
    summary = capsys.readouterr().out.partition("summary (")[2]
    unit, component, cluster = (part.splitlines() for part in summary.split("\nfailed: ")[1:])
    assert unit[0] == "unit tests"
    assert [line.strip().split("::")[-1] for line in unit if "::" in line] == ["test_bad", "test_set_up"]
    assert "    AssertionError: the" in unit
    assert "    is" not in unit, "no more than the first lines of a message"
    assert any("OSError: no disk" in line for line in unit)
    assert component[:2] == ["component tests", "  the cause"], "without a JUnit file, the end of the log"
    assert cluster[:16] == ["cluster", *(f"  {number}" for number in range(87, 101)), "  the cause"]
    assert cluster[-1] == "1 passed, 3 failed"


def test_a_flood_of_failed_tests_is_counted(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    cases = "".join(f'<testcase classname="m" name="t{n}"><failure message="no"/></testcase>' for n in range(25))
    report = tmp_path / "results" / "unit.xml"
    failing = Stage(
        "unit tests", ("sh", "-c", f"echo '<testsuite>{cases}</testsuite>' > {report}; exit 1"), junit=report.name
    )
    assert run_in(tmp_path, Lane("one", (failing,))) == 1
    output = capsys.readouterr().out
    assert output.count("m::t") == 20
    assert "and 5 more in unit.xml" in output


def test_what_needs_a_failed_stage_is_not_run_but_the_clean_up_is(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    up, use = Stage("cluster", FAILS, required=True), Stage("use it", ("touch", str(tmp_path / "used")))
    down = Stage("remove it", ("touch", str(tmp_path / "removed")), always=True)
    assert run_in(tmp_path, Lane("one", (up, use, down)), Lane("two", (Stage("c", PASSES),))) == 1
    assert not (tmp_path / "used").exists()
    assert (tmp_path / "removed").exists()
    output = capsys.readouterr().out
    assert 'use it  "cluster" failed' in output
    assert output.splitlines()[-1] == "2 passed, 1 failed, 1 skipped"


def test_without_an_engine_the_rest_is_run_and_the_reason_is_given(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    lanes: tuple[Lane, ...] = (
        Lane("one", (Stage("cluster", PASSES), Stage("remove it", PASSES, always=True)), needs_engine=True),
    )
    lanes += (Lane("two", (Stage("unit", PASSES),)),)
    assert run(lanes, tmp_path / "results", tmp_path / "seconds.json", lambda _: "no engine here") == 0
    output = capsys.readouterr().out
    assert "remove it  no engine here" in output
    assert output.splitlines()[-1] == "1 passed, 0 failed, 2 skipped"


@pytest.mark.parametrize(("architecture", "prepared"), [("x86_64", [True]), ("aarch64", [False])])
def test_a_host_that_cannot_run_machines_runs_the_rest(
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    architecture: str,
    prepared: list[bool],
) -> None:
    asked: list[bool] = []

    def prepare(machines: bool) -> str:
        asked.append(machines)
        return ""

    monkeypatch.setattr(platform, "machine", lambda: architecture)
    removes = Stage("remove it", PASSES, always=True)
    lanes = (
        Lane("machine", (Stage("machine", PASSES), removes), needs_engine=True, needs_machines=True),
        Lane("cluster", (Stage("cluster", PASSES),), needs_engine=True),
    )
    assert run(lanes, tmp_path / "results", tmp_path / "seconds.json", prepare) == 0
    output = capsys.readouterr().out
    assert asked == prepared
    skipped = architecture != "x86_64"
    assert ("machines are made for x86_64 hosts only, and this one is aarch64" in output) == skipped
    assert output.splitlines()[-1] == ("1 passed, 0 failed, 2 skipped" if skipped else "3 passed, 0 failed")


def test_junit_names_each_stage_with_its_end(tmp_path: Path) -> None:
    coloured = Stage("b", ("printf", "\\033[31mred\\n"))
    failing = Stage("a: x", ("sh", "-c", "printf '\\033[31mred\\n'; exit 1"), required=True)
    run_in(tmp_path, Lane("one", (failing, Stage("c", PASSES))), Lane("two", (coloured,)))
    suite = ElementTree.parse(tmp_path / "results/junit.xml").getroot()
    assert {name: suite.get(name) for name in ("tests", "failures", "skipped")} == {
        "tests": "3",
        "failures": "1",
        "skipped": "1",
    }
    ends = {(case.get("classname"), case.get("name")): [child.tag for child in case] for case in suite}
    assert ends == {("one", "a: x"): ["failure"], ("one", "c"): ["skipped"], ("two", "b"): []}
    assert (tmp_path / "results/a-x.log").read_text() == "\033[31mred\n"


def test_logs_of_an_earlier_run_are_removed(tmp_path: Path) -> None:
    run_in(tmp_path, Lane("one", (Stage("old", PASSES),)))
    run_in(tmp_path, Lane("one", (Stage("new", PASSES),)))
    assert [path.name for path in (tmp_path / "results").glob("*.log")] == ["new.log"]


def test_temporary_folders_of_tests_are_in_memory_only_where_there_is_room(tmp_path: Path) -> None:
    assert temporary_root(str(tmp_path / "absent")) == {}
    assert temporary_root("/proc") == {}, "a file system without room"


def test_a_damaged_record_of_times_is_no_reason_to_stop(tmp_path: Path) -> None:
    (tmp_path / "seconds.json").write_text("[1")
    assert run_in(tmp_path, Lane("one", (Stage("a", PASSES),))) == 0


@pytest.mark.parametrize("suite", SUITES)
def test_stages_have_names_of_their_own_and_commands_that_exist(suite: str) -> None:
    stages = [stage for lane in SUITES[suite]() for stage in lane.stages]
    slugs = [stage.slug for stage in stages]
    assert len(set(slugs)) == len(slugs)
    for stage in stages:
        for word in stage.command:
            if word.startswith("tools/"):
                assert (PROJECT / word).exists()


@pytest.mark.parametrize("tool", sorted(path.stem for path in (PROJECT / "tools").glob("[!_]*.py")))
def test_each_tool_can_be_started_from_the_projects_folder(tool: str) -> None:
    """pytest sets the path of imports, so that an import which works here may fail where a stage runs the tool."""
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    subprocess.run([sys.executable, "-c", f"import tools.{tool}"], cwd=PROJECT, env=environment, check=True)


@pytest.mark.parametrize(
    ("suite", "left_out"),
    [("test", {"audit", "benchmark_failures", "check", "kubespray", "rollback", "uninstall"}), ("all", set())],
)
def test_every_molecule_scenario_is_run(suite: str, left_out: set[str]) -> None:
    commands = [stage.command for lane in SUITES[suite]() for stage in lane.stages]
    run_by_suite = {command[3] for command in commands if command[0] == "tools/scenario"}
    there = {path.parent.name for path in PROJECT.glob("molecule/*/converge.yml")}
    assert run_by_suite == there - left_out


@pytest.mark.parametrize("version", [OLD, NEW, NEWEST])
def test_test_all_runs_each_scenario_of_every_version_on(version: str) -> None:
    commands = [stage.command for lane in SUITES["all"]() for stage in lane.stages]
    run = {command[3] for command in commands if command[0] == "tools/scenario" and command[2] == version}
    assert set(ON_EVERY_VERSION) <= run


def test_every_campaign_is_called_as_its_command_line_wants_it() -> None:
    commands = [stage.command for lane in SUITES["all"]() for stage in lane.stages]
    called = [command[len(CAMPAIGN) :] for command in commands if command[: len(CAMPAIGN)] == CAMPAIGN]
    assert {parser().parse_args(arguments).campaign for arguments in called} <= set(CAMPAIGNS)
    assert len(called) == 11


def test_test_all_runs_all_of_what_make_test_takes_a_sample_of() -> None:
    commands = {
        suite: [stage.command for lane in SUITES[suite]() for stage in lane.stages if "pytest" in stage.command]
        for suite in ("test", "all")
    }
    assert commands["all"] == [(*command, "--thorough") for command in commands["test"]]


def test_every_test_that_is_marked_component_is_collected() -> None:
    marked = [
        path.relative_to(PROJECT)
        for root in ("tests", "collections/ansible_collections/kubepin/tuning/tests")
        for path in (PROJECT / root).rglob("test_*.py")
        if re.search(r"mark\.component\b", path.read_text())
    ]
    assert len(marked) > 5
    assert [str(path) for path in marked if not str(path).startswith(COMPONENT_TESTS)] == []


@pytest.mark.parametrize("options", [(), ("--thorough",)])
def test_thorough_tests_are_for_those_who_ask_and_others_have_a_sample(
    tmp_path: Path, options: tuple[str, ...]
) -> None:
    (tmp_path / "conftest.py").write_text((PROJECT / "conftest.py").read_text())
    (tmp_path / "test_it.py").write_text(
        "import pytest\n"
        "@pytest.mark.thorough\ndef test_costly(): pass\n"
        "def test_many(sampled): print('took', *sampled(range(1, 101)))\n"
        "def test_few(sampled): print('took', *sampled(range(1, 4)))\n"
    )
    command = [sys.executable, "-m", "pytest", "-rP", "-p", "no:cacheprovider", "--rootdir", str(tmp_path), *options]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert f"{3 if options else 2} passed" in done.stdout, done.stdout
    few, many = sorted((line.split()[1:] for line in done.stdout.splitlines() if line.startswith("took")), key=len)
    assert few == ["1", "2", "3"]
    assert (many[0], many[-1], len(many)) == ("1", "100", 100 if options else 12)


def test_readme_names_every_suite() -> None:
    readme = (PROJECT / "README.md").read_text()
    for target in ("make check", "make test", "make test-all"):
        assert re.search(rf"`{target}`", readme), target
