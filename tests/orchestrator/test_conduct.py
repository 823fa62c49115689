# SPDX-License-Identifier: GPL-3.0-or-later
"""Runs from the request to the result, with their folder, by the real ansible-runner on localhost."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest

from orchestrator import Control, Event, RunRequest, RunVerdict, UsageError, conduct, runs
from orchestrator.ownership import Owner
from orchestrator.redaction import Redactor
from tests.orchestrator.plays import RESULT, SWITCHES_UNTIL_STOPPED, planned_and_gated

pytestmark = pytest.mark.component

Write = Callable[..., Path]
PLANNED_AND_GATED = planned_and_gated()
HALF_MEASURED = """
- name: Measure
  hosts: gpu_nodes
  gather_facts: false
  tasks:
    - {name: Run pods, ansible.builtin.wait_for: {path: "{{ kubepin_stop_file }}", timeout: 300}}
    - ansible.builtin.set_fact:
        kubepin_benchmark: {outcome: partly_measured, problems: []}
"""
SECRETS = ("extra-pass-word", "hostvar-pass-word", "env-token-word", "become-pass-word", "nested-key-word")


def test_the_example_of_the_readme_runs(project: Path, tune: Write, capsys: pytest.CaptureFixture[str]) -> None:
    text = (Path(__file__).parents[2] / "orchestrator" / "README.md").read_text()
    code = re.search(r"```python\n(.*?)```", text, re.DOTALL)
    assert code
    assert len(code[1].strip().splitlines()) <= 10
    tune(f"- {RESULT}")
    exec(code[1].replace('inventory=("inventory/lab",)', f"project=__import__('pathlib').Path({str(project)!r})"), {})
    assert "gpu-01 tuned" in capsys.readouterr().out


def test_a_run_leaves_a_folder_with_everything(project: Path, tune: Write) -> None:
    tune(f"- {RESULT}\n- {{name: Sum up, ansible.builtin.debug: {{msg: two nodes are tuned}}, run_once: true}}")
    heard: list[Event] = []
    result = conduct(RunRequest("tune", project=project), heard.append)
    assert (result.verdict, result.exit_code) == (RunVerdict.DONE, 0)
    assert sorted(path.name for path in result.folder.iterdir()) == [
        "events.jsonl",
        "lock",
        "report.txt",
        "result.json",
        "run.json",
    ]
    lines = [json.loads(line) for line in (result.folder / "events.jsonl").read_text().splitlines()]
    assert lines == [event.to_object() for event in heard]
    assert {line["schema"] for line in lines} == {1}
    assert lines[0]["kind"] == "run_started"
    assert lines[-1]["exit_code"] == 0
    record = json.loads((result.folder / "run.json").read_text())
    assert record["versions"]["ansible-runner"]
    assert len(record["inventory_sha256"]) == 64
    assert record["attempts"][0]["verdict"] == "done"
    assert "two nodes are tuned" in (result.folder / "report.txt").read_text()
    assert [host["outcome"] for host in json.loads((result.folder / "result.json").read_text())["hosts"]] == [
        "tuned"
    ] * 2


MEASURING_MODULE = """#!/usr/bin/python3
# WANT_JSON
import json, sys, time

rounds = [{"round": number, "file": f"round-{number}.jsonl", "seconds": 2.5, "complete": True} for number in (1, 2)]
with open(json.load(open(sys.argv[1]))["progress"], "w") as file:
    json.dump({"rounds": [{"arm": "static", **rounds[0]}]}, file)
time.sleep(4)
print(json.dumps({"benchmark": {"arm": "static", "seconds": 5.0, "rounds": rounds, "failure": None}}))
"""


def test_a_round_is_told_as_soon_as_it_is_finished_and_only_once(project: Path, tune: Write) -> None:
    (project / "playbooks" / "library").mkdir()
    (project / "playbooks" / "library" / "measuring.py").write_text(MEASURING_MODULE)
    tune("""
- name: Measure
  measuring: {progress: "{{ kubepin_progress_directory }}/rounds-gpu-01.json"}
  loop: [1]
  run_once: true
""")
    heard: list[Event] = []
    conduct(RunRequest("tune", project=project), heard.append)
    rounds = [event for event in heard if event.kind == "benchmark_round"]
    assert [(event.data["host"], event.data["arm"], event.data["round"]) for event in rounds] == [
        ("gpu-01", "static", 1),
        ("gpu-01", "static", 2),
    ]
    assert rounds[1].time - rounds[0].time > 1


def test_no_secret_is_stored_or_shown(project: Path, tune: Write, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MY_API_TOKEN", "env-token-word")
    with (project / "hosts").open("a") as hosts:
        hosts.write("[gpu_nodes:vars]\nansible_become_password=hostvar-pass-word\n")
    tune(
        """
- name: Say them
  ansible.builtin.debug:
    msg: "{{ db_password }} {{ ansible_become_password }} {{ lookup('env', 'MY_API_TOKEN') }} {{ login.api_key }} visible-word"
- ansible.builtin.set_fact: {kubepin_result: {schema: 1, outcome: failed, message: "{{ db_password }}", password: abc}}
- ansible.builtin.command: "false {{ db_password }} become-pass-word"
"""
    )
    heard: list[Event] = []
    asked = RunRequest(
        "tune",
        project=project,
        variables={"db_password": "extra-pass-word", "login": {"api_key": "nested-key-word"}},
        become_password="become-pass-word",
    )
    result = conduct(asked, heard.append)
    texts = [path.read_text() for path in result.folder.iterdir()] + [json.dumps(event.to_object()) for event in heard]
    assert any("visible-word" in text for text in texts)
    for secret in SECRETS:
        assert not [text for text in texts if secret in text], secret
    with pytest.raises(
        UsageError, match=r"the secrets db_password, login, which kubepin does not store. Pass them again"
    ):
        conduct(RunRequest("tune", project=project, resume=result.run))


def test_an_encoded_secret_is_neither_stored_nor_shown(project: Path, tune: Write) -> None:
    secret = """pa'ss "wörd/+&"""
    tune(
        """
- name: Say them
  ansible.builtin.debug:
    msg: >-
      1 {{ db_password | b64encode }} 2 {{ db_password | urlencode }} 3 {{ db_password | to_json }} 4 {{ db_password | quote }}
      5 {{ ('user:' ~ db_password) | b64encode }} 6 https://user:unknown-word@example.org/ visible-word
  run_once: true
"""
    )
    heard: list[Event] = []
    result = conduct(RunRequest("tune", project=project, variables={"db_password": secret}), heard.append)
    (said,) = [event.data["text"] for event in heard if event.kind == "message"]
    assert re.fullmatch(
        r"1 \*{8}=* 2 \*{8} 3 \"\*{8}\" 4 '\*{8}' 5 dXNlcj\S\*{8}\S?=* 6 https://\*{8}@example.org/ visible-word", said
    ), said
    texts = [path.read_text() for path in result.folder.iterdir()]
    assert any("visible-word" in text for text in texts)
    for part in ("unknown-word", "pa'ss", "w%C3%B6rd"):
        assert not [text for text in texts if part in text], part


def test_only_the_user_can_read_the_folder_and_what_roles_wrote_there(project: Path, tune: Write) -> None:
    below = f"{project}/runs/{{{{ kubepin_run }}}}/benchmark"
    tune(
        f"""
- {{ansible.builtin.file: {{path: "{below}", state: directory, mode: "0755"}}, run_once: true}}
- {{ansible.builtin.copy: {{dest: "{below}/report.html", content: x, mode: "0644"}}, run_once: true}}
"""
    )
    seen: list[int] = []

    def listen(event: Event) -> None:
        seen.extend(path.stat().st_mode & 0o777 for path in project.glob("runs/*"))

    result = conduct(RunRequest("tune", project=project), listen)
    assert set(seen) == {0o700}
    assert (result.folder / "benchmark" / "report.html").is_file()
    for path in (result.folder, *result.folder.rglob("*")):
        assert path.stat().st_mode & 0o777 == (0o700 if path.is_dir() else 0o600), path


def test_a_terminal_that_cannot_show_a_letter_does_not_end_a_run(project: Path, tune: Write) -> None:
    tune(f"- {{name: Say it, ansible.builtin.debug: {{msg: '→ ✓'}}}}\n- {RESULT}")
    program = (
        "import pathlib, sys; from orchestrator.__main__ import main;"
        "sys.exit(main(['tune', '--plain'], pathlib.Path(sys.argv[1])))"
    )
    root = Path(__file__).parents[2]
    environment = {**os.environ, "PYTHONPATH": f"{root}:{root / 'collections'}", "PYTHONIOENCODING": "latin-1"}
    command = [sys.executable, "-c", program, str(project)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert r"\u2192 \u2713" in done.stdout


def test_a_stop_finishes_the_current_node_and_resume_does_the_rest(project: Path, tune: Write) -> None:
    tune("").write_text(PLANNED_AND_GATED)
    control = Control()
    heard: list[Event] = []

    def listen(event: Event) -> None:
        heard.append(event)
        if event.kind == "task" and event.data["name"] == "Switch":
            control.stop()

    result = conduct(RunRequest("tune", project=project), listen, control)
    assert (result.verdict, result.exit_code) == (RunVerdict.STOPPED, 4)
    assert [(host.host, host.outcome) for host in result.hosts] == [("gpu-01", "tuned"), ("gpu-02", "not_begun")]
    assert result.next_step == f"Resume with: kubepin tune --resume {result.run}"
    assert "stopping" in [event.kind for event in heard]
    tune(f"- {RESULT}")
    again = conduct(RunRequest("tune", project=project, resume=result.run))
    assert (again.run, again.verdict) == (result.run, RunVerdict.DONE)
    assert [host.outcome for host in again.hosts] == ["tuned", "tuned"]
    assert len(json.loads((again.folder / "run.json").read_text())["attempts"]) == 2


def test_a_stopped_measurement_is_not_done(project: Path) -> None:
    (project / "playbooks" / "benchmark_gpu_nodes.yml").write_text(HALF_MEASURED)
    control = Control()

    def listen(event: Event) -> None:
        if event.kind == "task":
            control.stop()

    result = conduct(RunRequest("benchmark", project=project), listen, control)
    assert (result.verdict, result.sentence) == (RunVerdict.STOPPED, "benchmark stopped: 2 hosts: 2 partly measured")


@pytest.mark.parametrize(
    ("measured", "compared", "verdict"),
    [
        pytest.param("measured", False, RunVerdict.STOPPED, id="not measured again"),
        pytest.param("partly_measured", True, RunVerdict.STOPPED, id="half measured again", marks=pytest.mark.thorough),
        pytest.param("measured", True, RunVerdict.DONE, id="all of it done before the stop"),
    ],
)
def test_a_stop_before_the_second_measurement_is_not_done(
    project: Path, tune: Write, measured: str, compared: bool, verdict: RunVerdict
) -> None:
    tune(
        f"- {RESULT}\n"
        f"- {SWITCHES_UNTIL_STOPPED}\n"
        f"- ansible.builtin.set_fact: {{kubepin_benchmark: {{outcome: {measured}, problems: []}}}}\n"
        f"- {{ansible.builtin.set_fact: {{kubepin_comparison: {{verdict: BEATS}}}}, when: {compared}}}\n"
    )
    control = Control()
    result = conduct(RunRequest("tune", project=project), lambda event: control.stop(), control)
    assert (result.verdict, result.sentence.split(":")[0]) == (verdict, f"tune {verdict}")


def test_failed_and_not_run_are_told_apart(project: Path, tune: Write) -> None:
    tune("- {ansible.builtin.command: 'true'}\n- ansible.builtin.fail: {msg: no}")
    assert conduct(RunRequest("tune", project=project)).exit_code == 1
    tune("- no_such_module_at_all: {}")
    not_run = conduct(RunRequest("tune", project=project))
    assert (not_run.verdict, not_run.exit_code) == (RunVerdict.NOT_RUN, 6)


def test_a_refused_run_counts_the_hosts_with_problems_not_the_one_that_failed_for_all(
    project: Path, tune: Write
) -> None:
    tune(
        "- ansible.builtin.set_fact: {kubepin_plan: {schema: 2, outcome: not_begun, problems: []}}\n"
        "- ansible.builtin.set_fact: {kubepin_plan: {schema: 2, outcome: refused, problems: [{text: it has no room}]}}\n"
        "  when: inventory_hostname == 'gpu-02'\n"
        "- {ansible.builtin.fail: {msg: 'gpu-02: it has no room'}, run_once: true}"
    )
    result = conduct(RunRequest("tune", project=project))
    assert (result.verdict, result.sentence) == (RunVerdict.REFUSED, "tune refused: 2 hosts: 1 not begun, 1 refused")
    assert (result.host("gpu-01").first_cause, result.host("gpu-02").first_cause) == (None, "it has no room")


def test_runs_are_listed_compared_and_found(project: Path, tune: Write) -> None:
    tune(f"- {RESULT}")
    first = conduct(RunRequest("tune", project=project))
    tune("- ansible.builtin.fail: {msg: the disk is full}")
    second = conduct(RunRequest("tune", project=project, limit="gpu-01"))
    assert (second.verdict, second.exit_code) == (RunVerdict.REFUSED, 3)
    assert second.host("gpu-01").first_cause == "the disk is full"
    listed, damaged = runs.summaries(project)
    assert not damaged
    assert [(run.run, run.verdict, run.outcomes) for run in listed] == [
        (second.run, "refused", {"failed": 1}),
        (first.run, "done", {"tuned": 2}),
    ]
    rows = {row[0]: row[1:] for row in runs.compare(project, first.run, "last")}
    assert rows["verdict"] == ("done", "refused")
    assert rows["limit"] == ("None", "gpu-01")
    assert rows["gpu-01"] == ("tuned", "failed; the disk is full")
    assert rows["gpu-02"] == ("tuned", "not in the run")
    assert "ansible-runner" not in rows


def test_what_cannot_be_begun_leaves_nothing(project: Path, tune: Write) -> None:
    tune(f"- {RESULT}")
    done = runs.begin(RunRequest("tune", project=project), {}, Redactor(), Owner())
    before = runs.names(project)
    (project / "playbooks" / "rollback_gpu_nodes.yml").touch()
    refused: tuple[tuple[Callable[[], RunRequest], str], ...] = (
        (lambda: RunRequest("tun", project=project), "unknown command `tun`: choose from tune"),
        (lambda: RunRequest("preview", project=project), "preview_gpu_nodes.yml, which is missing"),
        (lambda: RunRequest("tune", project=project, inventory=("/no/such",)), "inventory /no/such does not exist"),
        (lambda: RunRequest("tune", project=project, resume="yesterday"), "unknown run 'yesterday' in"),
        (lambda: RunRequest("rollback", project=project, resume=done.name), "belongs to `kubepin tune`"),
        *(
            (
                partial(RunRequest, "tune", project=project, variables={"gpu_benchmark_rounds": rounds}),
                "expected a whole number of at least 1",
            )
            for rounds in ("x", "0", "²", -1, "9" * 5000, None, True)
        ),
    )
    for make, words in refused:
        with pytest.raises(UsageError, match=words):
            conduct(make())
    assert runs.names(project) == before
