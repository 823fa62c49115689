# SPDX-License-Identifier: GPL-3.0-or-later
"""What is seen of a run, and what is a secret."""

from __future__ import annotations

import base64
import io
import json
import re
import shlex
from typing import Any

import pytest
from rich.console import Console

from orchestrator import Outcome
from orchestrator.console import LiveView, PlainView
from orchestrator.model import Event
from orchestrator.progress import line, short
from orchestrator.reading import Reader
from orchestrator.redaction import HIDDEN, Redactor, is_secret

PLAN = {"outcome": "not_begun", "policy_before": "none", "policy": "static"}
MEASUREMENT = {"rounds": 3, "next_rounds": 5, "text": "3 rounds measured. Going on up to round 5."}
EVENTS = (
    Event("run_started", {"run": "r1", "verb": "tune", "check": False}, 100.0),
    Event("play", {"name": "Switch the nodes, a single one first", "batch": 2}, 101.0),
    Event("host_begins", {"host": "gpu-02", "play": "Switch", "batch": 2}, 101.0),
    Event("fact", {"host": "gpu-01", "name": "kubepin_result", "value": {**PLAN, "outcome": "tuned"}}, 102.0),
    Event("fact", {"host": "gpu-02", "name": "kubepin_plan", "value": PLAN}, 102.0),
    Event("task", {"name": "Drain | Evict the node's pods", "role": "cpu_manager"}, 103.0),
    Event("drain", {"node": "gpu-02", "waits_for": ["ml/trainer-0: its disruption budget allows no eviction"]}, 104.0),
    Event("fact", {"host": "gpu-01", "name": "kubepin_measurement", "value": MEASUREMENT}, 105.0),
)


def seen(events: tuple[Event, ...], **options: Any) -> str:
    console = Console(file=io.StringIO(), width=110, force_terminal=True, **options)
    view = LiveView(console)
    for event in events:
        view(event)
    with console.capture() as captured:
        console.print(view.render())
    return captured.get()


def test_the_live_view_shows_batch_nodes_step_drain_and_measurement(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("time.time", lambda: 123.0)
    text = seen(EVENTS, color_system=None)
    for words in (
        "kubepin tune  r1  23 s",
        "Switch the nodes, a single one first, batch 2: gpu-02",
        "Drain | Evict the node's pods  20 s",
        "gpu-02: the drain is waiting for ml/trainer-0: its disruption budget allows no eviction",
        "gpu-01: 3 rounds measured. Going on up to round 5.",
        "Press Ctrl-C to stop cleanly.",
    ):
        assert words in text
    done, in_progress = (row for row in text.splitlines() if "none -> static" in row)
    assert done.split() == ["gpu-01", "tuned", "none", "->", "static"]
    assert in_progress.split() == ["▸", "gpu-02", "to", "change", "21", "s", "none", "->", "static"]
    over = (*EVENTS, Event("drain", {"node": "gpu-02", "waits_for": []}), Event("stopping", {"what": "w", "why": None}))
    assert "the drain is waiting" not in seen(over, color_system=None)
    assert "Stopping: w. Press Ctrl-C again to cancel immediately." in seen(over, color_system=None)


def test_a_host_without_a_plan_is_not_shown_as_planning_after_its_play() -> None:
    play = Event("play", {"name": "Read the cluster", "batch": 1}, 101.0)
    begun = (EVENTS[0], play, Event("host_begins", {"host": "control-1", "play": "Read", "batch": 1}, 101.0))
    assert "planning" in seen(begun, color_system=None)
    after = seen((*begun, Event("play", {"name": "Switch", "batch": 1}, 102.0)), color_system=None)
    assert "control-1" in after
    assert "planning" not in after


def test_colours_are_off_when_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    assert "\x1b[32m" in seen(EVENTS, color_system="standard")
    assert "\x1b[32m" not in seen(EVENTS, color_system="standard", no_color=True)
    monkeypatch.setenv("NO_COLOR", "1")
    assert "\x1b[32m" not in seen(EVENTS, color_system="standard")


def test_a_table_of_many_hosts_fits_the_terminal() -> None:
    many = tuple(
        Event("fact", {"host": f"gpu-{number:03}", "name": "kubepin_plan", "value": PLAN}, 102.0)
        for number in range(500)
    )
    text = seen((*EVENTS, *many), color_system=None)
    assert len(text.splitlines()) < 45
    assert "▸ gpu-02" in " ".join(text.split())
    assert "and 471 more" in text or "and 472 more" in text


def test_lines_are_few_and_say_what_matters() -> None:
    assert [bool(line(event)) for event in EVENTS] == [True, True, False, False, False, False, True, False]
    assert short("a\n b" * 99, 10) == "a ba ba b…"


def test_hosts_that_begin_together_share_a_line() -> None:
    begin = [Event("host_begins", {"host": f"gpu-{n:03}", "play": "Plan", "batch": 1}, 101.0) for n in range(500)]
    alone = Event("host_begins", {"host": "gpu-500", "play": "Switch", "batch": 1}, 102.0)
    console = Console(file=io.StringIO(), width=100)
    view = PlainView(console)
    for event in (*begin, EVENTS[1], alone, EVENTS[5]):
        view(event)
    assert console.file.getvalue().splitlines() == [  # type: ignore[attr-defined]
        f"  {', '.join(f'gpu-{n:03}' for n in range(8))} and 492 more: begin",
        "Switch the nodes, a single one first (batch 2)",
        "  gpu-500: begins",
    ]


def _pod_event(seconds: float | None, *rounds: tuple[float | None, bool], failure: str | None = None) -> dict[str, Any]:
    """A pod that ran `seconds`, and how long each of its rounds took and whether it is complete."""
    items = [
        {"round": number, "file": f"f{number}", "seconds": took, "complete": complete}
        for number, (took, complete) in enumerate(rounds, start=1)
    ]
    pod = {"arm": "integer", "seconds": seconds, "rounds": items, "failure": failure}
    return {"event": "runner_item_on_ok", "event_data": {"host": "a", "res": {"benchmark": pod}}}


def test_pods_that_were_only_looked_at_are_no_progress() -> None:
    assert not list(Reader().read(_pod_event(None, (None, True), (None, False))))


def test_each_round_that_a_pod_has_finished_is_progress_and_so_is_the_one_that_failed() -> None:
    found = list(Reader().read(_pod_event(20.0, (None, True), (9.4, True), (None, False), failure="killed for memory")))
    assert [line(event) for event in found] == [
        "  a: integer, round 2: 9 s",
        "  a: integer, round 3: killed for memory",
    ]


@pytest.mark.parametrize(
    ("outcomes", "counter", "expected"),
    [
        ({}, "ok", Outcome.OK),
        ({}, "failures", Outcome.FAILED),
        ({}, "dark", Outcome.UNREACHABLE),
        ({"kubepin_plan": "not_begun"}, "ok", Outcome.NOT_BEGUN),
        ({"kubepin_plan": "not_begun"}, "failures", Outcome.FAILED),
        ({"kubepin_plan": "not_begun", "kubepin_benchmark": "measured"}, "ok", Outcome.NOT_BEGUN),
        ({"kubepin_plan": "not_begun", "kubepin_result": "tuned"}, "failures", Outcome.TUNED),
        ({"kubepin_plan": "refused"}, "dark", Outcome.REFUSED),
        ({"kubepin_plan": "ok", "kubepin_upgrade_result": "upgraded"}, "ok", Outcome.OK),
        ({"kubepin_upgrade_result": "partly_upgraded"}, "ok", Outcome.PARTLY_UPGRADED),
        ({"kubepin_upgrade_result": "partly_upgraded"}, "dark", Outcome.UNREACHABLE),
        ({"kubepin_probe": "measured"}, "ok", Outcome.MEASURED),
    ],
)
def test_a_host_ends_as_its_roles_publish_it_and_else_as_ansible_saw_it(
    outcomes: dict[str, str], counter: str, expected: Outcome
) -> None:
    facts = {name: {"outcome": outcome} for name, outcome in outcomes.items()}
    reader = Reader()
    for raw in (
        {"event": "runner_on_ok", "event_data": {"host": "a", "res": {"ansible_facts": facts}}},
        {"event": "playbook_on_stats", "event_data": {counter: {"a": 1}}},
    ):
        list(reader.read(raw))
    (host,) = reader.result("successful" if counter == "ok" else "failed").hosts
    assert host.outcome is expected


def test_a_host_without_stats_was_interrupted() -> None:
    reader = Reader()
    list(reader.read({"event": "runner_on_start", "event_data": {"host": "a", "task": "Drain"}}))
    result = reader.result("canceled")
    assert (result.hosts[0].outcome, result.in_progress) == (Outcome.INTERRUPTED, {"a": "Drain"})


@pytest.mark.parametrize(
    "name", ["db_password", "ansible_become_pass", "API_TOKEN", "ssh_passphrase", "aws_secret", "api-key"]
)
def test_names_of_secrets(name: str) -> None:
    assert is_secret(name)


@pytest.mark.parametrize(
    "name", ["gpu_benchmark_image_pull_secrets", "VAULT_PASSWORD_FILE", "kubepin_run", "PATH", "passed"]
)
def test_names_of_no_secrets(name: str) -> None:
    assert not is_secret(name)


def test_secrets_are_hidden_wherever_they_turn_up() -> None:
    redactor = Redactor({"a": {"b_password": ["long-word"]}, "pin_password": 123456, "c_token": "x", "on_secret": True})
    assert redactor.hide({"long-word": ["the long-word", 123456, True, None]}) == {
        HIDDEN: [f"the {HIDDEN}", HIDDEN, True, None]
    }
    assert redactor.hide({"c_token": "x", "letter": "x", "empty_password": ""}) == {
        "c_token": HIDDEN,
        "letter": "x",
        "empty_password": "",
    }


@pytest.mark.parametrize(
    ("written", "hidden"),
    [
        ("long/word+x==", HIDDEN),
        ("long%2Fword%2Bx%3D%3D", HIDDEN),
        ("long%2fword%2bx%3d%3d", HIDDEN),
        ("long/word%2Bx%3D%3D", HIDDEN),
        (base64.b64encode(b"long/word+x==").decode(), r"\*{8}=*"),
        (base64.urlsafe_b64encode(b"a:long/word+x==").decode(), r"\S{,3}\*{8}\S?=*"),
        (base64.b64encode(b"ab:long/word+x==:c").decode(), r"\S{,5}\*{8}\S{,4}=*"),
        ("https://u:long/word+x==@h", f"https://{HIDDEN}@h"),
    ],
)
def test_secrets_are_hidden_in_every_form(written: str, hidden: str) -> None:
    found = Redactor({"db_password": "long/word+x=="}).hide(f"a {written} b")
    assert found == f"a {hidden} b" or re.fullmatch(f"a {hidden} b", found), found


@pytest.mark.parametrize(
    "secret", ["it's a word", 'quo"te', "back\\slash", "two\nlines", "$HOME `x`", "ünïö", "\ud800abc"]
)
def test_secrets_are_hidden_where_they_are_escaped(secret: str) -> None:
    redactor = Redactor({"db_password": secret})
    for written in (
        json.dumps(secret),
        json.dumps(secret, ensure_ascii=False),
        repr(secret),
        shlex.quote(secret),
        f"""'{secret.replace("'", chr(39) + chr(92) + chr(39) * 2)}'""",
    ):
        found = redactor.hide(f"a {written} b")
        assert found.replace(HIDDEN, "").strip("ab \"'") == "", (written, found)


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("https://user:word@h:6443/p?q", f"https://{HIDDEN}@h:6443/p?q"),
        ("https://token@h", f"https://{HIDDEN}@h"),
        (r"https:\/\/user:word@h", rf"https:\/\/{HIDDEN}@h"),
        ("http://user:p@ss:word@h", f"http://{HIDDEN}@h"),
        ("http_proxy=http://u:p@h, ok", f"http_proxy=http://{HIDDEN}@h, ok"),
        ("ssh://git@h", "ssh://git@h"),
        ("https://h:6443/ and m@x.org", "https://h:6443/ and m@x.org"),
        ("https://h/@x", "https://h/@x"),
    ],
)
def test_the_user_and_password_of_a_url_are_hidden(text: str, shown: str) -> None:
    assert Redactor().hide({"url": [text]}) == {"url": [shown]}
    assert Redactor().hide(shown) == shown


def test_the_password_of_a_url_is_a_secret_elsewhere_too() -> None:
    redactor = Redactor({"kubeadm_upgrade_repository": "https://u:p%40ssword@h"})
    assert redactor.hide("denied: p@ssword, p%40ssword") == f"denied: {HIDDEN}, {HIDDEN}"


def test_what_is_nested_too_deeply_is_hidden() -> None:
    value: Any = "long-word"
    for _ in range(5000):
        value = [value]
    assert HIDDEN in json.dumps(Redactor({"a_token": "long-word"}).hide({"value": value}))


def deep() -> Any:
    value: Any = 1
    for _ in range(5000):
        value = [value]
    return value


@pytest.mark.parametrize(
    "odd", [None, 0, 1.5, "x", "", [], [1], {}, {"a": 1}, {"outcome": "new"}, [None], True, deep()], ids=type
)
@pytest.mark.parametrize("place", ["event_data", "res", "ansible_facts", "fact", "entries", "benchmark", "stats"])
def test_what_a_playbook_publishes_never_ends_a_run(odd: Any, place: str) -> None:
    names = ("kubepin_plan", "kubepin_result", "kubepin_upgrade_result", "kubepin_benchmark", "kubepin_comparison")
    entries = {
        "problems": odd,
        "settings": odd,
        "verified": odd,
        "steps": odd,
        "message": odd,
        "line": odd,
        "verdict": odd,
    }
    fact = odd if place == "fact" else {"outcome": "tuned", **entries} if place == "entries" else {}
    result = {
        "ansible_facts": odd if place == "ansible_facts" else dict.fromkeys(names, fact),
        "benchmark": odd if place == "benchmark" else {"seconds": odd, "arm": odd},
        "msg": odd,
        "reason": odd,
        "stderr": odd,
    }
    data = (
        odd
        if place == "event_data"
        else {"host": "a", "task_action": "debug", "res": odd if place == "res" else result}
    )
    reader, live, plain = Reader(), LiveView(Console(file=io.StringIO())), PlainView(Console(file=io.StringIO()))
    redactor = Redactor({"a_token": "long-word"})
    for kind in (
        "playbook_on_play_start",
        "playbook_on_task_start",
        "runner_on_start",
        "runner_on_ok",
        "runner_on_failed",
        "runner_item_on_ok",
    ):
        for event in reader.read({"event": kind, "event_data": data}):
            hidden = Event(event.kind, redactor.hide(event.data), event.time)
            live(hidden)
            plain(hidden)
            live.render()
    stats = {"ok": odd, "failures": odd, "dark": odd, "artifact_data": odd} if place == "stats" else {"ok": {"a": 1}}
    list(reader.read({"event": "playbook_on_stats", "event_data": stats}))
    result_of_play = reader.result("failed")
    assert all(isinstance(host.outcome, Outcome) for host in result_of_play.hosts)
