# SPDX-License-Identifier: GPL-3.0-or-later
"""What holds for any input: readers raise their own error or none, and no form of a secret is left."""

from __future__ import annotations

import base64
import json
import shlex
import tempfile
from contextlib import suppress
from pathlib import Path
from urllib.parse import quote

from hypothesis import example, given
from hypothesis import strategies as st

from orchestrator.ownership import read_owner
from orchestrator.progress import Progress, line
from orchestrator.reading import Reader
from orchestrator.records import RecordError, read_result, read_run
from orchestrator.redaction import HIDDEN, SHORTEST, Redactor

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: (
        st.lists(inner) | st.dictionaries(st.text() | st.sampled_from(["outcome", "problems", "text"]), inner)
    ),
)
NAMES = (
    "schema",
    "run",
    "verb",
    "attempts",
    "request",
    "versions",
    "inventory_sha256",
    "hosts",
    "sentence",
    "pid",
    "host",
)
FACTS = ("kubepin_plan", "kubepin_result", "kubepin_upgrade_result", "kubepin_benchmark", "kubepin_comparison")
KINDS = ("playbook_on_play_start", "runner_on_start", "runner_on_ok", "runner_on_failed", "playbook_on_stats")


@given(
    st.binary()
    | JSON.map(json.dumps).map(str.encode)
    | st.dictionaries(st.sampled_from(NAMES), JSON).map(json.dumps).map(str.encode)
)
def test_a_file_of_a_run_is_read_or_refused(content: bytes) -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for file, read in (("run.json", read_run), ("result.json", read_result)):
            (folder / file).write_bytes(content)
            with suppress(RecordError):
                read(folder)
        (folder / "lock").write_bytes(content)
        read_owner(folder / "lock")


@given(st.sampled_from(KINDS), st.dictionaries(st.sampled_from(FACTS), JSON), JSON)
def test_any_fact_is_shown_and_counted(kind: str, facts: dict[str, object], other: object) -> None:
    reader, progress = Reader(), Progress()
    result = {"ansible_facts": facts, "benchmark": other, "msg": other, "stderr": other}
    for event in reader.read(
        {"event": kind, "event_data": {"host": "a", "ok": other, "task_action": "debug", "res": result}}
    ):
        progress.apply(event)
        line(event)
    reader.result("failed")


@given(
    st.text(min_size=SHORTEST).filter(lambda text: HIDDEN not in text and text.strip() == text), st.text(), st.text()
)
@example("long-word", "a", "b")
def test_no_form_of_a_secret_is_left(secret: str, before: str, after: str) -> None:
    raw = secret.encode()
    for written in (
        secret,
        quote(secret, safe=""),
        json.dumps(secret)[1:-1],
        shlex.quote(secret),
        base64.b64encode(raw).decode(),
        base64.urlsafe_b64encode(raw).decode(),
    ):
        found = Redactor({"a_token": secret}).hide(f"{before}\n{written}\n{after}")
        assert HIDDEN in found
        assert f"\n{written}\n" not in found
