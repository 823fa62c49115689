# SPDX-License-Identifier: GPL-3.0-or-later
"""The pitfalls of ansible-runner, one test each, with the real one."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from orchestrator.__main__ import main
from orchestrator.model import Event
from orchestrator.play import Play, PlayError, run_play
from orchestrator.processes import MARK, end_marked
from orchestrator.scratch import places

pytestmark = pytest.mark.component

Write = Callable[[str], Path]
SLEEP = f"97531.{os.getpid()}"  # seconds, and a number by which the processes of this test run are known


def ignore(event: Event) -> None:
    """Listens to nothing."""


def sleepers() -> list[str]:
    found = []
    for folder in Path("/proc").iterdir():
        try:
            line = (folder / "cmdline").read_bytes().split(b"\0") if folder.name.isdigit() else []
        except OSError:
            continue
        if b"sleep" in line and SLEEP.encode() in line:
            found.append(folder.name)
    return found


def test_results_and_facts_come_from_events(project: Path, tune: Write, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("ANSIBLE_HOST_KEY_CHECKING", raising=False)
    monkeypatch.setenv("ANSIBLE_FORKS", "1")  # beside one another, the hosts may end in any order
    handlers = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
    tune(
        """
- ansible.builtin.set_fact:
    kubepin_result: {schema: 1, outcome: tuned, settings: [{name: p, before: none, after: static}], verified: [ready]}
- {ansible.builtin.set_stats: {data: {answer: 42}}, run_once: true}
- name: Say it
  ansible.builtin.debug: {msg: "host keys are checked: {{ lookup('ansible.builtin.config', 'HOST_KEY_CHECKING') }}"}
"""
    )
    events: list[Event] = []
    result = run_play(Play(project, project / "playbooks/tune_gpu_nodes.yml"), events.append)
    assert result.status == "successful"
    assert [host.outcome for host in result.hosts] == ["tuned", "tuned"]
    assert result.hosts[0].changes == ("p: none -> static",)
    assert result.hosts[0].verified == ("ready",)
    assert result.statistics == {"answer": 42}
    assert result.messages == ("host keys are checked: True",)  # ansible-runner sets it to False
    assert [event.data["host"] for event in events if event.kind == "fact"] == ["gpu-01", "gpu-02"]
    assert [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)] == handlers


def test_a_host_without_power_is_noticed_within_a_minute(
    project: Path, tune: Write, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where ansible.cfg says nothing of it, as in this project, and beside options of the user."""
    monkeypatch.setenv("ANSIBLE_SSH_EXTRA_ARGS", "-o ProxyJump=bastion")
    ssh = tmp_path / "ssh"
    ssh.write_text(f'#!/bin/sh\nprintf "%s\\n" "$@" >{tmp_path}/asked\nexit 255\n')
    ssh.chmod(0o755)
    (project / "hosts").write_text(f"[gpu_nodes]\ngpu-01 ansible_connection=ssh ansible_ssh_executable={ssh}\n")
    tune("- ansible.builtin.ping:")
    assert run_play(Play(project, project / "playbooks/tune_gpu_nodes.yml"), ignore).hosts[0].outcome == "unreachable"
    asked = [line for line in (tmp_path / "asked").read_text().splitlines() if "=" in line and " " not in line]
    options = [word for option in asked for word in ("-o", option)]
    effective = subprocess.run(["ssh", "-G", *options, "gpu-01"], check=True, capture_output=True, text=True).stdout
    found = dict(line.split(" ", 1) for line in effective.splitlines() if " " in line)
    assert int(found["serveraliveinterval"]) * (int(found["serveralivecountmax"]) + 1) <= 60
    assert found["proxyjump"] == "bastion"


def test_a_listener_that_fails_ends_the_run_and_is_named(project: Path, tune: Write) -> None:
    tune(f"- ansible.builtin.command: sleep {SLEEP}")

    def fail(event: Event) -> None:
        raise ValueError("no such colour")

    with pytest.raises(PlayError, match="no such colour"):
        run_play(Play(project, project / "playbooks/tune_gpu_nodes.yml"), fail)
    assert not sleepers()


def test_nothing_of_an_earlier_run_leaks_into_the_next(project: Path, tune: Write) -> None:
    tune("- {name: Say it, ansible.builtin.debug: {msg: \"{{ word | default('nothing') }}\"}}")
    playbook = project / "playbooks/tune_gpu_nodes.yml"
    assert run_play(Play(project, playbook, variables={"word": "first"}), ignore).messages == ("first",)
    assert run_play(Play(project, playbook), ignore).messages == ("nothing",)


def test_a_cancel_leaves_no_process_and_says_where_it_was(project: Path, tune: Write) -> None:
    tune(f"- {{name: Take long, ansible.builtin.command: sleep {SLEEP}}}")
    result = run_play(Play(project, project / "playbooks/tune_gpu_nodes.yml"), ignore, lambda: len(sleepers()) == 2)
    assert result.status == "canceled"
    assert result.in_progress == {"gpu-01": "Take long", "gpu-02": "Take long"}
    assert {host.outcome for host in result.hosts} == {"interrupted"}
    assert not result.remaining
    assert not sleepers()


@pytest.mark.parametrize("text", [None, "- hosts: all\n  tasks: [{no_such_module_at_all: {}}]\n"])
def test_a_run_that_reached_no_host_is_an_error_not_a_failed_host(project: Path, text: str | None) -> None:
    playbook = project / "playbooks/tune_gpu_nodes.yml"
    if text:
        playbook.write_text(text)
    with pytest.raises(PlayError, match=r"before any host ran: .*(could not be found|no_such_module_at_all)"):
        run_play(Play(project, playbook), ignore)


def test_ignored_and_rescued_failures_do_not_count_and_the_first_cause_is_the_rescued_one(
    project: Path, tune: Write
) -> None:
    tune(
        """
- ansible.builtin.fail: {msg: ignored}
  ignore_errors: true
- block: [{ansible.builtin.fail: {msg: the disk is full}}]
  rescue: [{ansible.builtin.debug: {msg: well again}}]
- ansible.builtin.fail: {msg: could not put it back}
  when: inventory_hostname == 'gpu-02'
"""
    )
    events: list[Event] = []
    result = run_play(Play(project, project / "playbooks/tune_gpu_nodes.yml"), events.append)
    assert result.status == "failed"
    assert [(host.outcome, host.first_cause) for host in result.hosts] == [
        ("ok", None),
        ("failed", "the disk is full"),
    ]
    said = [event.data["message"] for event in events if event.kind == "task_failed"]
    assert said == ["the disk is full", "the disk is full", "could not put it back"]


def test_check_mode_changes_nothing_and_secrets_stand_on_no_command_line(
    project: Path, tune: Write, tmp_path: Path
) -> None:
    lines = "lookup('ansible.builtin.pipe', 'cat /proc/[0-9]*/cmdline 2>/dev/null | tr -d \\\\0')"
    tune(
        f"""
- {{name: Write, ansible.builtin.copy: {{content: x, dest: {tmp_path}/written}}}}
- name: Say it
  ansible.builtin.debug: {{msg: "{{{{ 'hid' ~ 'den-word' in {lines} }}}} {{{{ word }}}}"}}
  run_once: true
"""
    )
    play = Play(
        project,
        project / "playbooks/tune_gpu_nodes.yml",
        variables={"word": "hidden-word"},
        check=True,
        become_password="hidden-word-too",
    )
    result = run_play(play, ignore)
    assert result.changed
    assert not (tmp_path / "written").exists()
    assert result.messages == ("False hidden-word",)


NAMES = ("it's", "two words", 'quo"te', "back\\slash", "naïve-日本", "-e word=1", "a=b", "{x}", "$(x)`x`;x")


def test_names_of_files_are_not_split(project: Path, tune: Write, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["tune", "--plain"]
    for number, name in enumerate(NAMES):
        folder = project / name
        folder.mkdir()
        variables = f"[gpu_nodes:vars]\nplace_{number}=there-{number}\n"
        (folder / "hosts").write_text((project / "hosts").read_text() + variables)
        (folder / f"{name}.yml").write_text(f"word_{number}: hello-{number}\n")
        arguments += ["-i", str(folder / "hosts"), "-e", f"@{folder / name}.yml"]
    words = " ".join(f"{{{{ word_{number} }}}} {{{{ place_{number} }}}}" for number in range(len(NAMES)))
    tune(f'- {{name: Say it, ansible.builtin.debug: {{msg: "{words}"}}}}')
    assert main(arguments, project) == 0, capsys.readouterr()
    assert " ".join(f"hello-{number} there-{number}" for number in range(len(NAMES))) in capsys.readouterr().out


SUDO = """#!/usr/bin/python3
import os, sys
arguments = sys.argv[1:]
sys.stderr.write(arguments[arguments.index("-p") + 1])
sys.stderr.flush()
password = b""
while not password.endswith(b"\\n"):
    password += os.read(0, 1)
with open(sys.argv[0] + ".password", "wb") as file:
    file.write(password)
os.execvp("/bin/sh", ["/bin/sh", "-c", arguments[-1]])
"""


def test_the_become_password_reaches_sudo_and_no_file(
    project: Path, tune: Write, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ANSIBLE_BECOME_ALLOW_SAME_USER", "true")  # these tests may run as root
    sudo = tmp_path / "sudo"
    sudo.write_text(SUDO)
    sudo.chmod(0o755)
    folders = " ".join(str(place) for place in places())
    search = f"grep -rlsF --devices=skip become-{{{{ 'pass-word' }}}} {folders}/kubepin-run-*"
    tune(
        f"""
- {{name: Look, ansible.builtin.shell: "{search}", register: look, failed_when: false, run_once: true}}
- {{name: Say it, ansible.builtin.debug: {{msg: "found: {{{{ look.stdout }}}}"}}, run_once: true}}
- name: Become
  ansible.builtin.command: 'true'
  become: true
  run_once: true
  vars: {{ansible_become_exe: {sudo}}}
"""
    )
    play = Play(project, project / "playbooks/tune_gpu_nodes.yml", become_password="become-pass-word")
    result = run_play(play, ignore)
    assert result.messages == ("found:",)
    assert result.status == "successful", result
    assert (tmp_path / "sudo.password").read_bytes() == b"become-pass-word\n"


def test_a_become_password_that_nobody_reads_does_not_hang(project: Path) -> None:
    with pytest.raises(PlayError, match="before any host ran"):
        run_play(Play(project, project / "playbooks/none.yml", become_password="become-pass-word"), ignore)


def test_what_ignores_sigterm_is_waited_for_and_never_killed() -> None:
    mark = f"test-{os.getpid()}"
    environment = {**os.environ, MARK: mark}
    pipe = subprocess.PIPE
    meek = subprocess.Popen(["sh", "-c", "echo ready; read line"], env=environment, stdin=pipe, stdout=pipe, text=True)
    assert meek.stdout is not None
    assert meek.stdout.readline() == "ready\n"
    assert end_marked(mark, kill_after=120, give_up_after=120) == ()
    assert meek.wait() == -signal.SIGTERM
    script = "trap '' TERM; echo ready; read line; exit 7"
    stubborn = subprocess.Popen(["sh", "-c", script], env=environment, stdin=pipe, stdout=pipe, text=True)
    assert stubborn.stdout is not None
    assert stubborn.stdout.readline() == "ready\n"
    (remaining,) = end_marked(mark, kill_after=0, give_up_after=0.2)
    assert "sh -c" in remaining
    stubborn.communicate("end\n")
    assert stubborn.returncode == 7
    assert end_marked(mark) == ()
