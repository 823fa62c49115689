# SPDX-License-Identifier: GPL-3.0-or-later
"""The command `kubepin`: help, completion, errors, Ctrl-C."""

from __future__ import annotations

import json
import os
import pty
import re
import signal
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from orchestrator.__main__ import extra_variables, main, parser, request
from orchestrator.model import EXIT_CODES, VERBS, RunRequest, UsageError
from tests.orchestrator.plays import RESULT, SWITCHES_UNTIL_STOPPED

pytestmark = pytest.mark.component

Write = Callable[..., Path]
Start = Callable[..., subprocess.Popen[str]]
SLEEP = f"86429.{os.getpid()}"  # seconds, and a number by which the processes of this test run are known
PROJECT = Path(__file__).parents[2]


def commands() -> Iterator[list[str]]:
    yield ["--help"]
    for verb in (*VERBS, "assess", "report", "runs"):
        yield [verb, "--help"]


@pytest.mark.parametrize("arguments", list(commands()), ids=lambda arguments: arguments[0])
def test_help_fits_a_screen(
    arguments: list[str], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "100")
    with pytest.raises(SystemExit) as ended:
        main(arguments)
    assert ended.value.code == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) <= 30
    assert max(map(len, lines)) <= 100


def test_completion_knows_every_verb_and_bash_takes_it(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["--print-completion", "bash"])
    script = capsys.readouterr().out
    assert all(verb in script for verb in VERBS)
    assert subprocess.run(["bash", "-n"], input=script, text=True, check=False).returncode == 0


def test_exit_codes_are_documented() -> None:
    text = (PROJECT / "orchestrator" / "README.md").read_text()
    rows = dict(re.findall(r"^\| (\d) \| `(\w+)` \|", text, re.MULTILINE))
    assert rows == {str(code): verdict.value for verdict, code in EXIT_CODES.items()}
    assert len(set(EXIT_CODES.values()) | {2}) == len(EXIT_CODES) + 1


def test_every_kind_of_event_is_documented() -> None:
    text = (PROJECT / "orchestrator" / "README.md").read_text().partition("## Events")[2]
    documented = set(re.findall(r"^\| `(\w+)` \| `", text, re.MULTILINE))
    sources = "".join((PROJECT / "orchestrator" / name).read_text() for name in ("reading.py", "conductor.py"))
    assert set(re.findall(r'Event\(\s*"(\w+)"', sources)) == documented


@pytest.mark.parametrize(
    ("texts", "variables"),
    [
        (["a=1 b='x y'"], {"a": "1", "b": "x y"}),
        (["a=1", '{"a": [1, 2]}'], {"a": [1, 2]}),
    ],
)
def test_extra_variables_are_read_as_ansible_reads_them(texts: list[str], variables: dict[str, object]) -> None:
    assert extra_variables(texts) == (variables, ())


@pytest.mark.parametrize(
    ("words", "variables"),
    [([], {}), (["--load", "solo,full,busy"], {"gpu_benchmark_load": ["solo", "full", "busy"]})],
)
def test_the_loads_of_a_benchmark_are_a_variable_of_its_role(words: list[str], variables: dict[str, object]) -> None:
    options = parser().parse_args(["benchmark", *words])
    assert request(options, PROJECT).variables == variables


def test_a_machine_type_is_the_dump_of_its_role() -> None:
    for verb, role in (("preview", "node_preview"), ("emit", "node_settings")):
        options = parser().parse_args([verb, "--machine", "epyc-7773x-2s-nps4", "--profile", "numa"])
        found = request(options, PROJECT).variables
        assert Path(found[f"{role}_dump"]).is_file()
        assert (found[f"{role}_node_name"], found["cpu_manager_profile"]) == ("epyc-7773x-2s-nps4", "numa")


def test_a_machine_type_that_there_is_not_is_refused_with_those_that_there_are(
    capsys: pytest.CaptureFixture[str],
) -> None:
    with pytest.raises(SystemExit):
        parser().parse_args(["preview", "--machine", "cray-1"])
    assert "invalid choice: 'cray-1' (choose from 'epyc-7451-2s', 'epyc-7773x-2s-nps1'" in capsys.readouterr().err


def test_the_formats_of_emit_are_a_variable_of_its_role() -> None:
    options = parser().parse_args(["emit", "--format", "kubeadm-patch,rke2"])
    assert request(options, PROJECT).variables == {"node_settings_formats": ["kubeadm-patch", "rke2"]}


def test_all_errors_in_extra_variables_are_listed(tmp_path: Path) -> None:
    not_utf8 = tmp_path / os.fsdecode(b"\xff.yml")
    not_utf8.touch()
    with pytest.raises(UsageError) as raised:
        extra_variables(["word", "{a: [", "[1]", "@/no/such", "a='", f"@{not_utf8}"])
    for error in (
        "expected key=value instead of `word`",
        "invalid YAML",
        "expected an object",
        "@/no/such: the file does not exist",
        "unbalanced",
        "name is not UTF-8",
    ):
        assert error in str(raised.value)


@pytest.mark.parametrize(
    "text",
    [
        "{a: 2026-13-45}",
        "{a: 2026-11-27}",
        "{a: !!binary aGk=}",
        "{a: !!set {b}}",
        "{2026-11-27: b}",
        "{? [a] : b}",
        "{a: &loop [*loop]}",
        "{a: 0x}",
        "{a: " + "[" * 500 + "]" * 500 + "}",
        "{" + "a: {" * 5000,
        '{"a": "\\ud800"}',
        "{a: " + "9" * 5000 + "}",
        r"a=\N{no such letter}",
        "{a: \0}",
        "a=\udcff",
    ],
    ids=lambda text: text[:20].encode("ascii", "backslashreplace").decode(),
)
def test_what_is_no_variable_is_refused_or_read_and_nothing_else(text: str) -> None:
    said = ""
    variables: dict[str, Any] = {}
    try:
        variables, _ = extra_variables([text])
    except UsageError as error:
        said = str(error)
    assert f"-e '{text}'" in said or json.dumps(variables, ensure_ascii=False).encode() != b"{}"


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["tune", "-i", "/no/such"], "inventory /no/such does not exist.*Copy inventory/example"),
        (
            ["tune", "--resume", "yesterday"],
            "unknown run 'yesterday' in .*There are no runs yet.*`kubepin runs` lists all",
        ),
        (["tune", "-i", "PROJECT/a,b"], "a,b: Ansible takes a name with a comma for a list of hosts"),
        (["tune", "-i", os.fsdecode(b"\xff")], "the name is not UTF-8"),
        (["report"], "unknown run 'last' in"),
        (["runs", "only-one"], "expected no runs or two"),
    ],
)
def test_an_error_is_one_paragraph_with_the_next_step(
    arguments: list[str], words: str, project: Path, tune: Write, capsys: pytest.CaptureFixture[str]
) -> None:
    tune(f"- {RESULT}")
    (project / "a,b").touch()
    assert main([text.replace("PROJECT", str(project)) for text in arguments], project) == 2
    said = capsys.readouterr()
    assert not said.out
    assert re.match(f"kubepin: .*{words}", said.err)
    assert len(said.err.strip().splitlines()) == 1


def test_lines_json_report_and_runs_agree(project: Path, tune: Write, capsys: pytest.CaptureFixture[str]) -> None:
    tune(f"- {RESULT}\n- {{name: Sum up, ansible.builtin.debug: {{msg: two nodes are tuned}}, run_once: true}}")
    assert main(["tune"], project) == 0
    plain = capsys.readouterr().out
    assert "two nodes are tuned" in plain
    assert "kubepin: tune done: 2 hosts: 2 tuned" in plain
    assert "\x1b" not in plain
    assert main(["tune", "--json"], project) == 0
    events = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert events[-1]["exit_code"] == 0
    assert main(["report"], project) == 0
    assert "two nodes are tuned" in capsys.readouterr().out
    assert main(["runs", "--json"], project) == 0
    assert [run["outcomes"] for run in json.loads(capsys.readouterr().out)] == [{"tuned": 2}] * 2


def test_a_lost_terminal_stops_as_ctrl_c_does_and_the_folder_has_the_rest(
    project: Path, tune: Write, start: Start
) -> None:
    tune(f"- {SWITCHES_UNTIL_STOPPED}\n- {RESULT}")
    ours, theirs = pty.openpty()
    with tempfile.TemporaryFile("w+") as errors:
        kubepin = start("tune", stdin=theirs, stdout=theirs, stderr=errors, start_new_session=True)
        os.close(theirs)
        os.close(ours)
        kubepin.send_signal(signal.SIGHUP)
        code = kubepin.wait(timeout=300)
        errors.seek(0)
        assert (code, errors.read()) == (0, "")
    (events,) = project.glob("runs/*/events.jsonl")
    kinds = [json.loads(line)["kind"] for line in events.read_text().splitlines()]
    assert "stopping" in kinds
    assert kinds[-1] == "run_ended", "the current task was not finished"


def test_ctrl_c_twice_cancels_and_says_where_each_node_was_and_how_to_go_on(
    tune: Write, start: Start, wait_for_event: Callable[[str], None]
) -> None:
    tune(f"- {{name: Switch, ansible.builtin.command: sleep {SLEEP}}}")
    kubepin = start("tune", "--plain", stdout=subprocess.PIPE)
    kubepin.send_signal(signal.SIGINT)
    wait_for_event('"kind": "stopping"')
    kubepin.send_signal(signal.SIGINT)
    said, _ = kubepin.communicate(timeout=300)
    assert kubepin.returncode == 5, said
    assert "kubepin: stopping: current nodes will finish" in said
    assert 'gpu-01 was at "Switch"; gpu-02 was at "Switch".' in said
    assert "may stay cordoned" in said
    assert re.search(r"Resume with: kubepin tune --resume 20", said)
    left = subprocess.run(["pgrep", "-f", f"sleep {SLEEP}"], capture_output=True, check=False)
    assert left.returncode == 1, left.stdout


@pytest.mark.parametrize("verb", VERBS)
def test_each_verb_has_its_playbook_in_this_project(verb: str) -> None:
    assert RunRequest(verb=verb, project=PROJECT).playbook.is_file()


def test_verbs_playbooks_and_documentation_name_the_same_set() -> None:
    playbooks = {verb.playbook for verb in VERBS.values()}
    imported = {"require-nodes.yml", "require-localhost.yml"}  # by other playbooks
    named = {path.name.replace("_", "-") for path in (PROJECT / "playbooks").glob("*.yml")}
    assert named - imported == playbooks
    assert {path.name for path in PROJECT.glob("*-*.yml") if path.name != "execution-environment.yml"} == playbooks
    text = (PROJECT / "orchestrator" / "README.md").read_text()
    documented = re.findall(r"^\| `(\w+)` \| `([\w-]+\.yml)` \|", text, re.MULTILINE)
    assert documented == [(name, verb.playbook) for name, verb in VERBS.items()]
    assert playbooks <= set(re.findall(r"^\| `([\w-]+\.yml)` \|", (PROJECT / "README.md").read_text(), re.MULTILINE))
