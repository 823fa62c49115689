# SPDX-License-Identifier: GPL-3.0-or-later
"""The module as a task sees it, with a stand-in for docker that runs its `run` on this machine."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from ansible.module_utils.testing import patch_module_args
from ansible_collections.kubepin.tuning.plugins.modules import cpuset_probe
from ansible_collections.kubepin.tuning.tests.unit.plugins.module_utils.node.host_probe.test_plan import machine

Answer = Callable[..., dict[str, Any]]

# Keeps every call and every container in files; what stands behind the image's name runs, as it would in the container.
DOCKER = r"""
import json, os, sys
home, words = os.environ["FAKE_DOCKER"], sys.argv[1:]
with open(home + "/calls", "a") as calls:
    calls.write(json.dumps(words) + "\n")
containers = home + "/containers/"
if words[0] == "info":
    print("24.0.7")
elif words[:2] == ["image", "inspect"]:
    sys.exit(not os.path.exists(home + "/image"))
elif words[0] == "pull":
    open(home + "/image", "w").close()
elif words[0] == "ps":
    print("\n".join(os.listdir(containers)))
elif words[0] == "rm":
    for name in words[2:]:
        try:
            os.kill(int(open(containers + name).read()), 9)
        except OSError:
            pass
        if os.path.exists(containers + name):
            os.unlink(containers + name)
elif words[0] == "run":
    name = words[words.index("--name") + 1]
    program = words[words.index("--volume") + 1].split(":")[0]
    command = words[words.index("example.org/torch:1") + 1 :]
    for place in (place for place, word in enumerate(words) if word == "--volume"):
        outside, inside = words[place + 1].split(":")[:2]
        command = [word.replace(inside, outside) for word in command]
    listed, list_it = os.pipe()
    child = os.fork()
    if not child:
        os.read(listed, 1) or os._exit(1)  # as docker does: a container has a name before its program begins
        os.execve(sys.executable, [sys.executable, "-S", *command], {**os.environ, "PYTHONPATH": program})
    with open(home + "/new-" + name, "w") as file:
        file.write(str(child))
    os.rename(home + "/new-" + name, containers + name)
    os.write(list_it, b".")
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    if os.path.exists(containers + name):
        os.unlink(containers + name)
    sys.exit(137 if code < 0 else code)
"""

PROGRAM = """
import json, sys
words = sys.argv
arm, number, threads = (words[words.index(option) + 1] for option in ("--arm", "--round", "--threads"))
base = {"schema": 1, "run_id": "r", "arm": arm + "-" + threads, "round": int(number), "process": 0}
env = {"cpus_allowed_list": "0-1" if arm == "quota" else "1", "quota_cpus": 1, "threads": 1}
print("# warming up", flush=True)
print(json.dumps({**base, "kind": "process", "env": env}), flush=True)
"""
ENDS = 'print(json.dumps({**base, "kind": "end"}))\n'


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A host of two CPUs with docker, an image, the program, and a place for the lines."""
    (tmp_path / "bin").mkdir()
    (tmp_path / "containers").mkdir()
    (tmp_path / "image").touch()
    program(tmp_path, PROGRAM + ENDS)
    (tmp_path / "bin" / "docker").write_text(f"#!{sys.executable} -IS\n{DOCKER}")
    (tmp_path / "bin" / "docker").chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    monkeypatch.setenv("FAKE_DOCKER", str(tmp_path))
    monkeypatch.setattr(cpuset_probe, "read_topology", machine)
    monkeypatch.setattr(cpuset_probe, "LOCK", str(tmp_path / "lock"))
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    monkeypatch.setattr(cpuset_probe, "end_on_signals", lambda: None)  # pytest's own handlers stay
    return tmp_path


def program(home: Path, text: str) -> None:
    (home / "pod").mkdir(exist_ok=True)
    (home / "pod" / "__main__.py").write_text(text)


@pytest.fixture
def answer(home: Path, capsys: pytest.CaptureFixture[str]) -> Answer:
    """What the module prints."""

    def run(**changes: Any) -> dict[str, Any]:
        params = {
            "program": str(home),
            "output": str(home / "lines.jsonl"),
            "run_id": "r",
            "image": "example.org/torch:1",
            "python": sys.executable,  # has no torch; the machine's own may have, and take seconds to import it each time
            "cpus": 1,
            "rounds": 1,
            **changes,
        }
        with patch_module_args(params), pytest.raises(SystemExit):
            cpuset_probe.main()
        result: dict[str, Any] = json.loads(capsys.readouterr().out)
        return result

    return run


def calls(home: Path, verb: str) -> list[list[str]]:
    lines = (home / "calls").read_text().splitlines() if (home / "calls").exists() else []
    return [words for words in map(json.loads, lines) if words[0] == verb]


def test_all_rounds_of_all_arms(home: Path, answer: Answer) -> None:
    result = answer(rounds=2)
    assert result["changed"], result
    ran = [(one["round"], one["arm"], one["exit_code"], one["processes"]) for one in result["rounds"]]
    assert ran == [(number, arm, 0, 1) for number, arms in enumerate(result["order"], 1) for arm in arms]
    lines = [json.loads(line) for line in (home / "lines.jsonl").read_text().splitlines()]
    assert [line["kind"] for line in lines] == ["process", "end"] * 6
    assert result["lines"] == 12
    assert (home / "lines.jsonl.log").read_text() == "# warming up\n" * 6
    assert [("--cpuset-cpus" in words) for words in calls(home, "run")] == [
        arm == "cpuset-1" for _unused, arm, _unused, _unused in ran
    ]
    assert result["cpuset"] == "1"
    assert not list((home / "containers").iterdir())


FULL_PROGRAM = (
    PROGRAM[: PROGRAM.rindex("print(json")]
    + """
import os, time
tenant, loads, start = (words[words.index(option) + 1] for option in ("--tenant", "--load", "--start-file"))
def neighbours():
    return any("-busy-" in name for name in os.listdir(os.environ["FAKE_DOCKER"] + "/containers"))
if arm == "cpuset":
    env["cpus_allowed_list"] = str(1 + int(tenant))
for load in loads.split(","):
    line = {**base, "tenant": int(tenant), "load": load}
    print(json.dumps({**line, "kind": "ready"}), flush=True)
    while f"{base['arm']} {number} {load} " not in open(start).read():
        time.sleep(0.02)
    give_up = time.monotonic() + 120
    while load == "busy" and not neighbours() and time.monotonic() < give_up:
        time.sleep(0.02)
    if load != "solo" or tenant == "0":
        print(json.dumps({**line, "kind": "process", "env": env, "busy": neighbours()}), flush=True)
        time.sleep(0.1)
        print(json.dumps({**line, "kind": "end"}), flush=True)
"""
)


@pytest.fixture
def full_host(home: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """Parameters for two tenants on four CPUs."""
    monkeypatch.setattr(cpuset_probe, "read_topology", lambda: machine(cores=4))
    program(home, FULL_PROGRAM)
    (home / "pod" / "busy.py").write_text("import time; time.sleep(600)")
    return {"loads": ["solo", "full", "busy"], "tenants": 2, "gpu": "none"}


def test_all_tenants_of_a_full_host_begin_each_load_together(
    home: Path, answer: Answer, full_host: dict[str, Any]
) -> None:
    result = answer(**full_host)
    assert [(one["arm"], one["processes"]) for one in result["rounds"]] == [
        (arm, 5) for arms in result["order"] for arm in arms
    ], result
    lines = [json.loads(line) for line in (home / "lines.jsonl").read_text().splitlines()]
    assert {line["kind"] for line in lines} == {"process", "end"}
    began = [(line["load"], line["tenant"], line["busy"]) for line in lines if line["kind"] == "process"]
    assert sorted(began) == sorted(
        [("solo", 0, False), ("full", 0, False), ("full", 1, False), ("busy", 0, True), ("busy", 1, True)] * 3
    )
    assert [tenant["cpuset"] for tenant in result["tenants"]] == ["1", "2"]
    assert not list((home / "containers").iterdir())
    assert not (home / "lines.jsonl.start").exists()


def test_tenants_go_on_without_one_that_failed(home: Path, answer: Answer, full_host: dict[str, Any]) -> None:
    program(home, FULL_PROGRAM.replace("line = {", 'tenant == "1" and load == "full" and sys.exit(3)\n    line = {', 1))
    result = answer(**full_host)
    assert {one["exit_code"] for one in result["rounds"]} == {3}
    lines = [json.loads(line) for line in (home / "lines.jsonl").read_text().splitlines()]
    ended = [line["load"] for line in lines if line["kind"] == "end" and line["tenant"] == 0]
    assert sorted(ended) == sorted(["solo", "full", "busy"] * 3)


def test_a_tenant_on_the_cpus_of_another_ends_the_run(home: Path, answer: Answer, full_host: dict[str, Any]) -> None:
    program(home, FULL_PROGRAM.replace("str(1 + int(tenant))", '"1"'))
    assert "has the CPUs 1 " in answer(**full_host)["msg"]


def test_later_rounds_are_appended(home: Path, answer: Answer) -> None:
    answer()
    result = answer(first_round=2, rounds=2)
    assert [one["round"] for one in result["rounds"]] == [2] * 3
    rounds = [json.loads(line)["round"] for line in (home / "lines.jsonl").read_text().splitlines()]
    assert sorted(set(rounds)) == [1, 2]


def test_later_rounds_need_the_earlier_ones(home: Path, answer: Answer) -> None:
    assert (
        "it does not exist: expected the rounds before first_round, which is 3"
        in answer(first_round=3, rounds=3)["msg"]
    )
    assert not calls(home, "run")


@pytest.mark.parametrize("ending", [ENDS, "import time\nif arm == 'quota': time.sleep(600)\n" + ENDS])
def test_an_arm_that_is_not_what_it_says_ends_the_run_at_once(home: Path, answer: Answer, ending: str) -> None:
    program(home, PROGRAM.replace('"0-1" if arm == "quota" else "1"', '"1"') + ending)
    started = time.monotonic()
    result = answer()
    assert re.search(r"an arm is not what its name says\. (today|threads set) \(quota-", result["msg"])
    assert "has the CPUs 1 only (its CPU affinity): expected the host's shared CPUs" in result["msg"]
    assert time.monotonic() - started < 300, "it waited for a program that takes 600 s"
    assert not list((home / "containers").iterdir())


def test_what_warms_the_machine_does_not_count_as_a_process(home: Path, answer: Answer) -> None:
    program(home, PROGRAM + 'print(json.dumps({**base, "kind": "end", "warm_up": True}), flush=True)\nsys.exit(3)\n')
    assert "round 1" in answer()["msg"]


def test_check_mode_runs_nothing(home: Path, answer: Answer) -> None:
    result = answer(_ansible_check_mode=True, program="/nowhere", output="/nowhere/lines.jsonl")
    assert result["changed"]
    assert "--cpuset-cpus 1" in result["commands"]["cpuset-1"]
    assert "--cpuset-cpus" not in result["commands"]["quota-auto"]
    assert not calls(home, "run")


def test_all_problems_come_at_once_and_nothing_runs(
    home: Path, answer: Answer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    (home / "image").unlink()
    (home / "lines.jsonl").touch()
    result = answer(cpus=5, program="/nowhere")
    assert result["failed"]
    words = ("only root", "/nowhere/pod/__main__.py is not there", "it exists: lines of two runs", "image", "cpus is 5")
    assert len(result["problems"]) == len(words)
    for word in words:
        assert word in result["msg"]
    assert not calls(home, "run")


def test_an_image_is_pulled_before_the_first_round(home: Path, answer: Answer) -> None:
    (home / "image").unlink()
    assert answer(pull=True)["pulled"]
    assert calls(home, "pull") == [["pull", "example.org/torch:1"]]


def test_what_an_interrupted_run_left_is_removed_first(home: Path, answer: Answer) -> None:
    left = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
    (home / "containers" / "abc").write_text(str(left.pid))
    assert answer()["removed"] == ["abc"]
    assert left.wait(120) == -signal.SIGKILL


def test_a_program_that_refuses_its_arguments_ends_the_run_with_its_words(home: Path, answer: Answer) -> None:
    program(home, "import sys\nprint('# --matrix is odd', file=sys.stderr)\nsys.exit(2)\n")
    result = answer()
    assert "round 1" in result["msg"]
    assert "exit code 2: --matrix is odd" in result["msg"]
    assert len(calls(home, "run")) == 1


def test_a_process_that_never_finishes_its_work_fails_the_run_and_keeps_the_lines(home: Path, answer: Answer) -> None:
    program(home, PROGRAM + "print('# no device', flush=True)\nsys.exit(3)\n")
    assert "exit code 3: warming up / no device" in answer()["msg"]
    assert len((home / "lines.jsonl").read_text().splitlines()) == 1


def test_one_process_of_two_that_ends_early_does_not_stop_the_others(home: Path, answer: Answer) -> None:
    program(home, PROGRAM + ENDS + "sys.exit(3)\n")
    result = answer()
    assert [one["exit_code"] for one in result["rounds"]] == [3] * 3


def test_a_cut_line_is_left_out(home: Path, answer: Answer) -> None:
    program(home, PROGRAM + ENDS + "print('{\"kind\": \"blo', end='')\n")
    assert answer()["lines"] == 6


def test_lines_that_only_look_like_json_go_to_the_log(home: Path, answer: Answer) -> None:
    lines = ["{not: json}", "{", "[1]", '{"kind": ' * 5000]
    program(home, f"print(*{lines!r}, sep='\\n')\n" + PROGRAM + ENDS)
    assert answer()["lines"] == 6
    logged = (home / "lines.jsonl.log").read_text().splitlines()
    assert [line for line in logged if line in lines] == lines * 3


def test_lines_that_cannot_be_written_end_the_run_and_not_the_program(
    home: Path, answer: Answer, monkeypatch: pytest.MonkeyPatch
) -> None:
    program(home, PROGRAM + "print('# ' + 'x' * 1000000)\n" + ENDS)

    def full(_lines: object, _line: bytes, _arm: str) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(cpuset_probe.Lines, "feed", full)
    message = answer(timeout=300)["msg"]
    assert "lines.jsonl cannot be written: [Errno 28] No space left on device. Free space there" in message


def test_a_round_that_hangs_is_ended_and_removed(home: Path, answer: Answer) -> None:
    program(home, PROGRAM + "import time; time.sleep(600)\n" + ENDS)
    result = answer(timeout=1)
    assert [problem["code"] for problem in result["problems"]] == ["round_timed_out"]
    assert '"end"' not in (home / "lines.jsonl").read_text()
    assert not list((home / "containers").iterdir())


def test_two_probes_at_once_are_refused(home: Path, answer: Answer) -> None:
    holder = f"import fcntl, sys; f = open({str(home / 'lock')!r}, 'w'); fcntl.flock(f, 2); print('held', flush=True); sys.stdin.read()"
    with subprocess.Popen([sys.executable, "-c", holder], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as other:
        assert other.stdout
        other.stdout.readline()
        result = answer()
        other.communicate()
    assert "another probe runs on this host right now" in result["msg"]


def test_a_signal_removes_the_container_and_keeps_the_lines(home: Path) -> None:
    program(home, PROGRAM + "import time; time.sleep(600)\n")
    script = textwrap.dedent(
        f"""
        import os
        from ansible.module_utils.testing import patch_module_args
        from ansible_collections.kubepin.tuning.plugins.modules import cpuset_probe
        from ansible_collections.kubepin.tuning.tests.unit.plugins.module_utils.node.host_probe.test_plan import machine
        os.geteuid = lambda: 0
        cpuset_probe.read_topology = machine
        cpuset_probe.LOCK = {str(home / "lock")!r}
        params = dict(
            program={str(home)!r}, output={str(home / "lines.jsonl")!r}, run_id="r", image="example.org/torch:1", cpus=1,
            python={sys.executable!r},
        )
        with patch_module_args(params):
            cpuset_probe.main()
        """
    )
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    with subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, env=environment) as module:
        deadline = time.monotonic() + 300
        while not any((home / "containers").iterdir()) or not (home / "lines.jsonl").read_text():
            assert time.monotonic() < deadline
            time.sleep(0.05)
        module.send_signal(signal.SIGHUP)
        out, _unused = module.communicate(timeout=120)
    result = json.loads(out)
    assert "ended by SIGHUP" in result["msg"]
    assert not list((home / "containers").iterdir())
    assert len((home / "lines.jsonl").read_text().splitlines()) == 1
