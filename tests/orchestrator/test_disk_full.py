# SPDX-License-Identifier: GPL-3.0-or-later
"""A run whose folder cannot be written: a full file system of its own, and /dev/full."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from orchestrator import Event, RunRequest, RunVerdict, UsageError, conduct, runs
from tests.orchestrator.plays import RESULT, planned_and_gated

pytestmark = pytest.mark.component

Write = Callable[..., Path]
ROOT = Path(__file__).parents[2]
FILL = "head -c 1M /dev/zero > {{ playbook_dir }}/../runs/{{ kubepin_run }}/fill || true"
FILLED = planned_and_gated(
    f'{{name: Fill, ansible.builtin.shell: "{FILL}"}}',
    """{name: Say, ansible.builtin.debug: {msg: "{{ 'x' * 9999 }}"}}""",
)


def on_a_small_disk(project: Path, size: str, *commands: str) -> subprocess.CompletedProcess[str]:
    """Runs `kubepin` commands one after another, with runs/ on a file system of its own."""
    (project / "runs").mkdir()
    calls = "; ".join(
        f"print('code', main({command.split()!r}, pathlib.Path({str(project)!r})), flush=True)" for command in commands
    )
    program = f"import pathlib; from orchestrator.__main__ import main; {calls}; print(*pathlib.Path('runs').iterdir())"
    mount = f'mount -t tmpfs -o size={size} tmpfs runs && exec {sys.executable} -c "$0"'
    environment = {**os.environ, "PYTHONPATH": f"{ROOT}:{ROOT / 'collections'}"}
    command = ["unshare", "--user", "--map-root-user", "--mount", "sh", "-c", mount, program]
    done = subprocess.run(
        command, cwd=project, env=environment, capture_output=True, text=True, check=False, timeout=300
    )
    if "unshare" in done.stderr or "mount:" in done.stderr:
        pytest.skip(f"this user may not mount a file system: {done.stderr}")
    return done


def test_a_full_disk_stops_a_run_as_ctrl_c_does(project: Path, tune: Write) -> None:
    tune("").write_text(FILLED)
    done = on_a_small_disk(project, "256k", "tune --plain", "runs --json")
    assert "Traceback" not in done.stdout + done.stderr
    assert done.stdout.count("code 7") == 1, done.stdout + done.stderr
    (message,) = [line for line in done.stdout.splitlines() if line.startswith("kubepin: ") and "Stopping" in line]
    assert "Z cannot be written: No space left on device. Stopping: current nodes will finish" in message
    assert "kubepin: tune not recorded: 2 hosts: 1 tuned, 1 not begun" in done.stdout
    assert (
        "cannot be written: No space left on device. Make it writable. Resume with: kubepin tune --resume"
        in done.stdout
    )
    assert '"verdict": "not_recorded"' in done.stdout


def test_a_disk_that_is_full_before_the_run_is_a_usage_error_and_leaves_no_folder(project: Path, tune: Write) -> None:
    tune(f"- {RESULT}")
    done = on_a_small_disk(project, "4k", "tune --plain")
    assert "code 2" in done.stdout, done.stderr
    assert "cannot be written: No space left on device. Nothing was changed. Free space there" in done.stderr
    assert done.stdout.splitlines()[-1] == ""


def test_only_the_record_is_missing_if_the_work_was_done(project: Path, tune: Write) -> None:
    tune(f"- {RESULT}")
    first = conduct(RunRequest("tune", project=project))
    events = first.folder / "events.jsonl"
    events.unlink()
    events.symlink_to("/dev/full")
    heard: list[Event] = []
    result = conduct(RunRequest("tune", project=project, resume=first.run), heard.append)
    assert (result.verdict, result.exit_code) == (RunVerdict.NOT_RECORDED, 7)
    assert result.sentence == "tune not recorded: 2 hosts: 2 tuned"
    assert result.next_step == f"{first.folder} cannot be written: No space left on device. Make it writable."
    whys = [event.data["why"] for event in heard if event.kind == "stopping"]
    assert whys == [f"{first.folder} cannot be written: No space left on device"]
    assert heard[-1].data["exit_code"] == 7
    assert json.loads((result.folder / "result.json").read_text())["verdict"] == "not_recorded"


def test_a_folder_that_vanishes_does_not_cancel_the_run(project: Path, tune: Write) -> None:
    tune(
        f"- {{name: Remove, ansible.builtin.file: {{path: '{project}/runs', state: absent}}, run_once: true}}\n- {RESULT}"
    )
    result = conduct(RunRequest("tune", project=project))
    assert (result.verdict, result.sentence) == (RunVerdict.NOT_RECORDED, "tune not recorded: 2 hosts: 2 tuned")


def test_an_event_is_written_whole_or_not_at_all(project: Path, tune: Write) -> None:
    tune(f"- {RESULT}")
    result = conduct(RunRequest("tune", project=project))
    program = (
        "import pathlib, resource, sys; from orchestrator import Event; from orchestrator.ownership import Lock, Owner;"
        "from orchestrator.redaction import Redactor; from orchestrator.runs import RunFolder;"
        "path = pathlib.Path(sys.argv[1]); owner = Owner();"
        "folder = RunFolder(path, Redactor(), Lock.take(path / 'lock', owner), owner);"
        "size = (path / 'events.jsonl').stat().st_size;"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (size + 10, size + 10));"
        "folder.add(Event('message', {'text': 'x' * 100}))"
    )
    before = (result.folder / "events.jsonl").read_bytes()
    environment = {**os.environ, "PYTHONPATH": f"{ROOT}:{ROOT / 'collections'}"}
    command = [sys.executable, "-c", program, str(result.folder)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert "OSError: [Errno 27] File too large" in done.stderr
    assert (result.folder / "events.jsonl").read_bytes() == before


def test_a_project_without_a_place_for_runs_is_a_usage_error(project: Path, tune: Write) -> None:
    tune(f"- {RESULT}")
    (project / "runs").touch()
    with pytest.raises(UsageError, match=r"runs cannot be written: .*Nothing was changed"):
        conduct(RunRequest("tune", project=project))
    assert runs.names(project) == []
