# SPDX-License-Identifier: GPL-3.0-or-later
"""The examples name what is there."""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer
from importlib import resources
from pathlib import Path
from typing import Any, ClassVar

import jsonschema
import pytest
import yaml

from orchestrator.__main__ import parser

PROJECT = Path(__file__).parents[2]
EXAMPLES = PROJECT / "examples"
OF_PLAYBOOKS = {"tune_benchmark": {"type": "bool"}}


def specification() -> dict[str, dict[str, Any]]:
    """Variable to its specification, of all roles, and of the playbook of the survey."""
    found = dict(OF_PLAYBOOKS)
    for specs in PROJECT.glob("roles/*/meta/argument_specs.yml"):
        for entry in yaml.safe_load(specs.read_text())["argument_specs"].values():
            found |= entry.get("options") or {}
    return found


def test_the_survey_asks_for_variables_that_there_are_with_answers_that_they_take() -> None:
    known = specification()
    for question in json.loads((EXAMPLES / "awx-survey.json").read_text())["spec"]:
        option = known[question["variable"]]
        kind = option.get("type", "str")
        if kind == "bool":
            assert question["choices"] == ["false", "true"]
        elif "choices" in option:
            assert sorted(question["choices"]) == sorted(option["choices"])
        assert question["type"] == {"str": question["type"], "bool": "multiplechoice", "int": "integer"}[kind]
        assert question["default"] in question.get("choices", [question["default"]])


def command_lines() -> list[str]:
    """Every call of ansible-playbook in the examples, as a shell gets it."""
    found = []
    for path in sorted(EXAMPLES.glob("*.*")):
        if path.suffix in (".yml", ".cron"):
            found += re.findall(r"^[^#\n]*?(ansible-playbook [^\n>|]+)", path.read_text(), re.MULTILINE)
    return found


def test_there_are_command_lines() -> None:
    assert len(command_lines()) == 2


@pytest.mark.parametrize("line", command_lines())
def test_a_command_line_is_one_that_ansible_takes(line: str) -> None:
    line = re.sub(r"\$\(.*?\)", "of-a-command", line)
    line = re.sub(r"kubepin\.tuning\.(\w+)", lambda name: name[1].replace("_", "-") + ".yml", line)
    arguments = [word.replace("inventory/lab", "inventory/example") for word in shlex.split(line)]
    environment = {**os.environ, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
    command = [*arguments, "--syntax-check"]
    done = subprocess.run(command, cwd=PROJECT, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    known = specification()
    named = [pair.partition("=")[0] for flag, pair in zip(arguments, arguments[1:]) if flag == "-e"]
    assert [name for name in named if name not in known and not name.startswith("kubepin_run")] == []


def kubepin_lines() -> list[str]:
    """Every call of kubepin in the examples."""
    files = [path for path in sorted(EXAMPLES.glob("*.*")) if path.suffix in (".cron", ".service")]
    return [
        line
        for path in files
        for line in re.findall(r"^[^#\n]*?/bin/kubepin ([^\n>|]+)", path.read_text(), re.MULTILINE)
    ]


def test_the_calls_of_kubepin_are_ones_that_it_takes() -> None:
    assert [parser().parse_args(shlex.split(line)).verb for line in kubepin_lines()] == ["check", "check"]


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="needs systemd")
def test_the_units_are_ones_that_systemd_takes(tmp_path: Path) -> None:
    for name in ("kubepin-check.service", "kubepin-check.timer"):
        text = (EXAMPLES / name).read_text().replace("/opt/kubepin", str(PROJECT))
        (tmp_path / name).write_text(text)
    command = ["systemd-analyze", "verify", "--man=no", *map(str, sorted(tmp_path.iterdir()))]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, [line for line in done.stderr.splitlines() if "kubepin-check" in line]) == (0, [])


def test_the_pipeline_and_navigator_s_settings_are_yaml_of_the_expected_kind() -> None:
    job = yaml.safe_load((EXAMPLES / "audit.gitlab-ci.yml").read_text())["audit-gpu-pods"]
    navigator = yaml.safe_load((EXAMPLES / "ansible-navigator.yml").read_text())["ansible-navigator"]
    assert job["image"] == navigator["execution-environment"]["image"]
    (kept,) = job["artifacts"]["paths"]
    assert kept == "runs/audit/gpu-pods/"


def test_the_rulebook_is_one_that_ansible_lint_s_schema_takes_and_runs_playbooks_that_there_are() -> None:
    rulebook = yaml.safe_load((EXAMPLES / "eda/kubepin-rulebook.yml").read_text())
    schema = json.loads(resources.files("ansiblelint").joinpath("schemas/rulebook.json").read_text())
    jsonschema.validate(rulebook, schema)
    names = [rule["action"]["run_playbook"]["name"] for rules in rulebook for rule in rules["rules"]]
    assert all((PROJECT / f"playbooks/{name.removeprefix('kubepin.tuning.')}.yml").is_file() for name in names)
    alerts = yaml.safe_load((EXAMPLES / "monitoring/kubepin-rules.yml").read_text())["groups"]
    known = {rule["alert"] for group in alerts for rule in group["rules"]}
    asked = re.findall(r'alertname == "(\w+)"', json.dumps(rulebook).replace('\\"', '"'))
    assert asked == ["KubepinNodeUntuned"]
    assert known.issuperset(asked)


@pytest.mark.parametrize("name", ["awx-schedule.yml", "drift-webhook.yml"])
def test_the_plays_are_ones_that_ansible_takes(name: str) -> None:
    environment = {**os.environ, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
    command = ["ansible-playbook", "--syntax-check", str(EXAMPLES / name)]
    done = subprocess.run(command, cwd=PROJECT, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


class Webhook(BaseHTTPRequestHandler):
    """Keeps what is sent to it."""

    bodies: ClassVar[list[dict[str, Any]]] = []

    def do_POST(self) -> None:
        self.bodies.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
        self.send_response(204)
        self.end_headers()


def test_the_webhook_gets_the_nodes_of_the_newest_report_that_are_not_as_planned(tmp_path: Path) -> None:
    for run, outcomes in (("old", ["drifted"]), ("new", ["as_planned", "drifted", "not_checked"])):
        folder = tmp_path / run / "check"
        folder.mkdir(parents=True)
        nodes = [{"node": f"gpu-{number}", "outcome": outcome} for number, outcome in enumerate(outcomes)]
        (folder / "check.json").write_text(json.dumps({"schema": 1, "nodes": nodes}))
    os.utime(tmp_path / "old/check/check.json", (0, 0))
    with HTTPServer(("127.0.0.1", 0), Webhook) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        given = {"kubepin_runs": str(tmp_path), "drift_webhook_url": f"http://127.0.0.1:{server.server_port}/"}
        environment = {**os.environ, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
        command = ["ansible-playbook", str(EXAMPLES / "drift-webhook.yml"), "-e", json.dumps(given)]
        done = subprocess.run(command, cwd=PROJECT, env=environment, capture_output=True, text=True, check=False)
        server.shutdown()
    assert done.returncode == 0, done.stdout + done.stderr
    (body,) = Webhook.bodies
    assert [node["node"] for node in body["nodes"]] == ["gpu-1", "gpu-2"]
    assert body["text"] == "GPU nodes that are not as planned: gpu-1, gpu-2"
