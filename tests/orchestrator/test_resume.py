# SPDX-License-Identifier: GPL-3.0-or-later
"""Runs that live, were killed, are resumed with other values, or left a damaged folder: real processes and files."""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import socket
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from orchestrator import RunRequest, RunVerdict, UsageError, conduct, runs
from orchestrator.__main__ import main
from orchestrator.ownership import Held, Lock, Owner, is_held, read_owner
from orchestrator.processes import marked
from orchestrator.redaction import Redactor
from orchestrator.scratch import places
from tests.orchestrator.plays import RESULT, planned_and_gated

pytestmark = pytest.mark.component

Write = Callable[..., Path]
Start = Callable[..., subprocess.Popen[str]]
GATED = planned_and_gated()
RUN = "2026-11-27T09-33-02Z"


def verdicts(project: Path, capsys: pytest.CaptureFixture[str]) -> list[tuple[str, str]]:
    capsys.readouterr()
    assert main(["runs", "--json"], project) == 0
    return [(run["verdict"], run["sentence"]) for run in json.loads(capsys.readouterr().out)]


def begun(request: RunRequest) -> str:
    """The name of a run that has begun and was killed."""
    redactor = Redactor(request.variables)
    with runs.begin(request, runs.read_inventory(request), redactor, Owner()).released() as folder:
        assert folder is None
    return runs.find(request.project, "last")


def test_a_living_run_is_not_resumed_and_still_stops_cleanly(
    project: Path, tune: Write, start: Start, capsys: pytest.CaptureFixture[str]
) -> None:
    tune("").write_text(GATED)
    living = start("tune", "--plain", stdout=subprocess.PIPE)
    assert main(["tune", "--resume", "last"], project) == 2
    said = capsys.readouterr().err
    who = rf"process {living.pid} on {re.escape(socket.gethostname())}, since 20\S+"
    assert re.search(rf"is still running: {who}\. Wait until it has ended, or stop it with Ctrl-C there or `kill", said)
    ((verdict, sentence),) = verdicts(project, capsys)
    assert verdict == "running"
    assert re.fullmatch(who, sentence)
    assert main(["runs"], project) == 0
    assert f"process {living.pid}" in capsys.readouterr().out
    living.send_signal(signal.SIGTERM)
    printed, _ = living.communicate(timeout=300)
    assert living.returncode == 4, printed
    assert "tune stopped: 2 hosts: 1 tuned, 1 not begun" in printed
    assert [verdict for verdict, _ in verdicts(project, capsys)] == ["stopped"]
    tune(f"- {RESULT}")
    assert main(["tune", "--resume", "last", "--plain"], project) == 0


def test_a_killed_run_is_told_from_a_living_one_and_waits_for_its_processes(
    project: Path, tune: Write, start: Start, capsys: pytest.CaptureFixture[str]
) -> None:
    tune(f"- {{name: Switch, ansible.builtin.command: sleep 600}}\n- {RESULT}")
    killed = start("tune", "-e", "word=lies-in-the-scratch-folder")
    owners = [path for place in places() for path in place.glob("kubepin-run-*/owner")]
    left = [path.parent for path in owners if (owner := read_owner(path)) and owner.pid == killed.pid]
    (variables,) = [path for folder in left for path in folder.glob("variables.json")]
    assert "lies-in-the-scratch-folder" in variables.read_text()
    killed.kill()
    killed.wait()
    assert verdicts(project, capsys) == [("killed", "")]
    assert all(folder.is_dir() for folder in left), "removed while ansible-playbook still works"
    assert main(["tune", "--resume", "last"], project) == 2
    said = capsys.readouterr().err
    assert "was killed, but processes that it started still run" in said
    owner = read_owner(left[0] / "owner")
    assert owner
    deadline = time.monotonic() + 300
    while started := list(marked(owner.mark)):
        assert time.monotonic() < deadline
        for pid in started:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        time.sleep(0.1)
    tune(f"- {RESULT}")
    assert main(["tune", "--resume", "last", "--plain"], project) == 0
    assert not any(folder.exists() for folder in left)
    assert [verdict for verdict, _ in verdicts(project, capsys)] == ["done"]


def test_a_lock_is_held_by_one_and_says_by_whom(tmp_path: Path) -> None:
    path, owner = tmp_path / "lock", Owner()
    assert not is_held(path)
    lock = Lock.take(path, owner)
    assert is_held(path)
    with pytest.raises(Held) as held:
        Lock.take(path, Owner())
    assert held.value.owner == owner == read_owner(path)
    lock.release()
    assert not is_held(path)
    Lock.take(path, Owner()).release()


@pytest.mark.parametrize("text", ["", "null", "[]", "1", '{"pid": 1}', '{"pid": "x", "host": 1}', "\0", "[" * 9999])
def test_a_lock_whose_text_is_damaged_still_locks(tmp_path: Path, text: str) -> None:
    path = tmp_path / "lock"
    lock = Lock.take(path, Owner())
    path.write_text(text)
    with pytest.raises(Held) as held:
        Lock.take(path, Owner())
    assert held.value.owner is None or isinstance(held.value.owner.pid, int)
    lock.release()


def test_a_run_is_resumed_with_other_values_only_if_that_is_asked_for(project: Path, tune: Write) -> None:
    tune(f"- {RESULT}")
    (project / "lab").write_text((project / "hosts").read_text())
    (project / "more.yml").write_text("b: 1\n")
    name = begun(RunRequest("tune", project=project, variables={"a": 1, "db_password": "long-word"}))
    record = project / "runs" / name / "run.json"
    before = record.read_bytes()
    kept = {"db_password": "long-word"}
    asked = RunRequest(
        "tune",
        project=project,
        resume=name,
        inventory=("lab",),
        limit="gpu-01",
        variables=kept | {"a": 2, "b": "x"},
        variable_files=("more.yml",),
        check=True,
    )
    with pytest.raises(UsageError) as refused:
        conduct(asked)
    for words in (
        "inventory: none -> lab",
        'limit: none -> "gpu-01"',
        "files of variables: none -> more.yml",
        "check: false -> true",
        "variable a: 1 -> 2",
        'variable b: none -> "x"',
        "add --with-changes",
    ):
        assert words in str(refused.value)
    assert "long-word" not in str(refused.value)
    assert record.read_bytes() == before
    same = conduct(RunRequest("tune", project=project, resume=name, variables=kept))
    assert same.verdict is RunVerdict.DONE
    with (project / "hosts").open("a") as hosts:
        hosts.write("[gpu_nodes:vars]\nkubepin_kubeconfig=/other/cluster\n")
    with pytest.raises(UsageError, match="the hosts, groups or variables in the inventory"):
        conduct(RunRequest("tune", project=project, resume=name, variables=kept))
    again = conduct(RunRequest("tune", project=project, resume="last", variables=kept | {"a": 2}, with_changes=True))
    assert again.run == name
    attempts = json.loads(record.read_text())["attempts"]
    assert [attempt["request"]["variables"]["a"] for attempt in attempts] == [1, 1, 2]
    assert len({attempt["inventory_sha256"] for attempt in attempts}) == 2


def test_secrets_of_a_resumed_run_may_come_from_a_file_instead(project: Path, tune: Write) -> None:
    tune(f"- {RESULT}\n- {{ansible.builtin.assert: {{that: db_password == 'long-word'}}}}")
    name = begun(RunRequest("tune", project=project, variables={"db_password": "long-word"}))
    (project / "vault.yml").write_text("db_password: long-word\n")
    file = (str(project / "vault.yml"),)
    with pytest.raises(UsageError, match="a vaulted file, and --with-changes"):
        conduct(RunRequest("tune", project=project, resume=name))
    done = conduct(RunRequest("tune", project=project, resume=name, variable_files=file, with_changes=True))
    assert done.verdict is RunVerdict.DONE


def test_the_state_of_nodes_that_a_run_changes_is_no_other_inventory() -> None:
    def inventory(version: str, **node: object) -> dict[str, object]:
        group = f"kubelet_{version}"
        variables = {"gpu-01": {"ansible_host": "192.0.2.1", "kubepin_node": node}}
        return {
            "_meta": {"hostvars": variables},
            "all": {"children": ["gpu_nodes", group]},
            group: {"hosts": ["gpu-01"]},
        }

    before = runs.inventory_hash(inventory("1_22_17", cordoned=False), Redactor())
    assert runs.inventory_hash(inventory("1_23_17", cordoned=True), Redactor()) == before
    other = inventory("1_22_17", cordoned=False)
    assert runs.inventory_hash(other | {"gpu_nodes": {"hosts": ["gpu-02"]}}, Redactor()) != before


@pytest.fixture(scope="module")
def good() -> dict[str, str]:
    """The files of a run that has ended."""
    request: dict[str, Any] = {"inventory": [], "limit": None, "variables": {}, "variable_files": [], "check": False}
    record = {
        "schema": 1,
        "run": RUN,
        "verb": "tune",
        "attempts": [{"started": "2026-11-27T09:33:02+00:00", "ended": "2026-11-27T09:34:02+00:00", "verdict": "done"}],
        "request": request,
        "versions": {"python": "3.11"},
        "inventory_sha256": "0" * 64,
    }
    hosts: list[dict[str, Any]] = [{"host": "gpu-01", "outcome": "tuned", "facts": {}, "first_cause": None}]
    result = {"schema": 1, "sentence": "tune done", "hosts": hosts}
    return {"run.json": json.dumps(record), "result.json": json.dumps(result), "report.txt": "done\n"}


def damaged() -> list[tuple[str, str | bytes, str]]:
    """File, its text or the change of its text, and words of the message."""
    run, result = "run.json", "result.json"
    whole: list[tuple[str, str | bytes, str]] = [
        (file, text, words)
        for file in (run, result)
        for text, words in (
            ("null", "it is null; expected an object"),
            ("[]", "it is []; expected an object"),
            ("1", "it is 1; expected an object"),
            ("{}", "lacks schema"),
            ("", "is not JSON"),
            ("{", "is not JSON"),
            ("9" * 5000, "is not JSON"),
            (b"\xff\xfe", "is not UTF-8"),
            ("[" * 100_000, "is nested deeper than 100 levels"),
            ("[" * 200 + "]" * 200, "is nested deeper than 100 levels"),
            ('{"schema": 2}', "schema is 2; expected 1; another version"),
            ('{"schema": true}', "schema is true; expected a whole number"),
        )
    ]
    changes: tuple[tuple[str, str, Any, str], ...] = (
        (run, "attempts", [], "attempts is []; expected at least one"),
        (run, "attempts", [1], "attempts[0] is 1; expected an object"),
        (run, "attempts", [{}], "lacks attempts[0].started"),
        (run, "attempts", [{"started": "yesterday"}], "attempts[0].started is"),
        (run, "attempts", [{"started": "2026-11-27T09:33:02"}], "expected a time such as"),
        (run, "attempts", [{"started": "2026-11-27T09:33:02Z", "ended": None}], "attempts[0].ended is null"),
        (run, "verb", "dance", 'verb is "dance"; expected one of tune'),
        (run, "request", {}, "lacks request.inventory"),
        (run, "request", None, "request is null; expected an object"),
        (run, "versions", {"python": 3}, "versions.python is 3; expected a text"),
        (run, "inventory_sha256", None, "inventory_sha256 is null; expected a text"),
        (result, "hosts", {}, "hosts is {}; expected a list"),
        (result, "hosts", [{"host": "a"}], "lacks hosts[0].facts"),
        (result, "sentence", ["x" * 999], "sentence is"),
    )
    return whole + [(file, json.dumps({name: value}), words) for file, name, value, words in changes]


@pytest.mark.parametrize(("file", "text", "words"), damaged(), ids=str)
def test_a_damaged_folder_is_named_and_passed_over_and_is_not_resumed(
    project: Path,
    tune: Write,
    good: dict[str, str],
    capsys: pytest.CaptureFixture[str],
    file: str,
    text: str | bytes,
    words: str,
) -> None:
    tune(f"- {RESULT}")
    for name in (RUN, f"{RUN}-2"):
        folder = project / "runs" / name
        folder.mkdir(parents=True)
        for other, content in good.items():
            (folder / other).write_text(content)
    if isinstance(text, str) and text.startswith('{"') and "schema" not in text:
        text = json.dumps(json.loads(good[file]) | json.loads(text))
    (folder / file).write_bytes(text if isinstance(text, bytes) else text.encode())
    assert main(["runs", "--json"], project) == 0
    said = capsys.readouterr()
    assert [run["run"] for run in json.loads(said.out)] == [RUN]
    assert said.err.startswith(f"kubepin: passed over: {folder / file}")
    assert words in said.err
    assert len(said.err.strip().splitlines()) == 1
    assert main(["runs"], project) == 0
    assert RUN in capsys.readouterr().out
    assert main(["runs", RUN, "last"], project) == 2
    assert words in capsys.readouterr().err
    if file == "run.json":
        assert main(["tune", "--resume", "last"], project) == 2
        assert words in capsys.readouterr().err


@pytest.mark.parametrize(
    ("name", "arguments"),
    [("run.json", ["runs"]), ("result.json", ["runs"]), ("report.txt", ["report"]), ("lock", ["runs", RUN, "last"])],
)
def test_a_named_pipe_in_place_of_a_file_does_not_hang(
    project: Path, good: dict[str, str], capsys: pytest.CaptureFixture[str], name: str, arguments: list[str]
) -> None:
    folder = project / "runs" / RUN
    folder.mkdir(parents=True)
    for other, content in good.items():
        (folder / other).write_text(content)
    (folder / name).unlink(missing_ok=True)
    os.mkfifo(folder / name)
    main(arguments, project)
    words = f"{folder / name} is not a regular file. Restore the file, or remove {folder}."
    assert (words in capsys.readouterr().err) == (name != "lock"), "kubepin can do without the owner's name"


def test_names_that_are_not_utf8_are_printed(
    project: Path, good: dict[str, str], capsysbinary: pytest.CaptureFixture[bytes]
) -> None:
    folder = Path(os.fsdecode(os.fsencode(project) + b"/runs/\xff"))
    folder.mkdir(parents=True)
    for other, content in good.items():
        (folder / other).write_text(content)
    assert main(["runs"], project) == 0
    assert rb"\udcff" in capsysbinary.readouterr().out
