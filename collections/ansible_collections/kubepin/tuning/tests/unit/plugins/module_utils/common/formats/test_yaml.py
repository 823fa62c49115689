# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import json
import random
import typing as t

import pytest
import yaml
from ansible_collections.kubepin.tuning.plugins.module_utils.common.formats.yaml import YamlError, parse_yaml

KUBELET = """\
---
# written by hand
apiVersion: kubelet.config.k8s.io/v1beta1
kind: KubeletConfiguration
authentication:
  anonymous: {enabled: false}   # flow
  webhook:
    cacheTTL: 0s
    enabled: true
clusterDNS:
- 10.96.0.10
- fd00::10
cpuManagerPolicyOptions:
    full-pcpus-only: "true"
evictionHard: {memory.available: 100Mi, "nodefs.available": '10%'}
reservedMemory:
  - numaNode: 0
    limits:
      memory: 1Gi
  -   numaNode: 1
      limits: { memory: 2Gi,
        hugepages-1Gi: "1Gi" }   # two lines
reservedSystemCPUs: "0,128"
systemReserved:
featureGates: {}
tlsCipherSuites: [
  A, B,
]
notes: |
  # no comment
    deeper

  last
lists:
- - 1
  - - 2
-
  a: b
-   # comment
  - c
"""


@pytest.mark.parametrize(
    "text",
    [
        pytest.param(KUBELET, id="a kubelet's configuration"),
        pytest.param("", id="empty"),
        pytest.param("# nothing\n\n", id="comments"),
        pytest.param("---\n", id="an empty document"),
        pytest.param("a: 1\r\nb:\r\n- c\r\n", id="DOS line ends"),
        pytest.param("\ufeffa: 1\n", id="byte order mark"),
        pytest.param("a: 'it''s'\nb: \"x\\ty\\u00e9\\x41\\/\"\n", id="quotes and escapes"),
        pytest.param("'a b': 1\n\"c: d\": 2\n", id="quoted keys"),
        pytest.param("a: x#y\nb: x #y\nc: http://h:1/p\nd: -x\ne: a, b\n", id="plain scalars"),
        pytest.param("a: ~\nb: null\nc:\nd: Null\n", id="null"),
        pytest.param("a: yes\nb: Off\nc: TRUE\nd: tRue\n", id="booleans"),
        pytest.param("a: 0x1F\nb: 012\nc: -7\nd: +3\ne: 1_000\nf: 0b11\ng: 1.5\nh: .5\ni: 1.\n", id="numbers"),
        pytest.param('{"a": [1, {"b": null}], "c": "\\u00e9", "d": {}}', id="JSON in a line"),
        pytest.param(json.dumps({"a": [1, 2, {"b": "x: y"}], "c": {"d": []}}, indent=2), id="JSON"),
        pytest.param("a: |-\n  x\n  y\nb: |+\n  z\n\nc: |\n\n  lead\n", id="literal blocks"),
        pytest.param("- a: 1\n  b:\n  - k\n  - l\n- c\n", id="compact list of mappings"),
        pytest.param("just text", id="a scalar"),
    ],
)
def test_same_as_pyyaml(text: str) -> None:
    assert parse_yaml(text) == yaml.safe_load(text)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        pytest.param("y", True, id="y"),
        pytest.param("n", False, id="n"),
        pytest.param("1e3", 1000.0, id="an exponent without a point"),
        pytest.param("08", 8.0, id="no octal number"),
        pytest.param("0o17", 15, id="Go's octal"),
        pytest.param("12345678901234567890123", 12345678901234567890123.0, id="beyond 64 bits"),
        pytest.param("2001-01-01", "2001-01-01", id="a date is text"),
        pytest.param("1:30", "1:30", id="no base 60"),
        pytest.param("{1: a, true: b}", {"1": "a", "true": "b"}, id="keys become text"),
    ],
)
def test_where_go_differs_from_pyyaml(text: str, value: t.Any) -> None:
    """Values by sigs.k8s.io/yaml 1.6.0."""
    result = parse_yaml(text)
    assert result == value
    assert type(result) is type(value)


@pytest.mark.parametrize(
    ("text", "line", "what"),
    [
        pytest.param("a: &x 1", 1, "anchors", id="anchor"),
        pytest.param("a: 1\nb: *x", 2, "aliases", id="alias"),
        pytest.param("a: !!str 1", 1, "tags", id="tag"),
        pytest.param("<<: {a: 1}", 1, "merge keys", id="merge key"),
        pytest.param("%YAML 1.1\n---\na: 1", 1, "", id="directive"),
        pytest.param("a: >\n  b", 1, "folded", id="folded block"),
        pytest.param("a: |2\n  b", 1, "'\\|2'", id="block with a width"),
        pytest.param("a: |\n    b\n  c", 3, "not indented like", id="block with less indentation"),
        pytest.param("a: 1\na: 2", 2, "'a' is there twice", id="duplicate key"),
        pytest.param("{a: 1, a: 2}", 1, "'a' is there twice", id="duplicate key in braces"),
        pytest.param("a:\n\tb: 1", 2, "tabs", id="tab as indentation"),
        pytest.param("a: b\tc", 1, "tabs", id="tab in a value"),
        pytest.param("a: b\n  c", 2, "several lines", id="plain scalar over lines"),
        pytest.param("a: 'b\n  c'", 1, "quote is not closed", id="quoted scalar over lines"),
        pytest.param('a: "b', 1, "quote is not closed", id="open quote"),
        pytest.param("a: 'b' c", 1, "unexpected 'c' after a value", id="text after a quote"),
        pytest.param("a: b: c", 1, "a mapping is not allowed", id="mapping in a value"),
        pytest.param("? a\n: b", 1, "'\\?'", id="complex key"),
        pytest.param("a: 1\n---\nb: 2", 2, "one document", id="two documents"),
        pytest.param("a: 1\n...", 2, "one document", id="document end"),
        pytest.param("--- a", 1, "one document", id="text after ---"),
        pytest.param("  a: 1\nb: 2", 2, "expected the end", id="dedent"),
        pytest.param("a:\n  b: 1\n c: 2", 3, "unexpected indentation", id="uneven indentation"),
        pytest.param("a: 1\nb", 2, "expected 'key: value'", id="no colon"),
        pytest.param("a: [1, 2", 1, "bracket is not closed", id="open bracket"),
        pytest.param("a: [1 2]]", 1, "unexpected '\\]'", id="one bracket too many"),
        pytest.param("[a: 1]", 1, "a mapping without braces", id="pair in a list"),
        pytest.param("{a}", 1, "expected ':'", id="key without a value"),
        pytest.param("{[a]: 1}", 1, "expected a key", id="collection as a key"),
        pytest.param("[a?b]", 1, "put it in quotes", id="question mark in brackets"),
        pytest.param("[,]", 1, "expected a value", id="comma without a value"),
        pytest.param('["a" "b"]', 1, "expected ',' or '\\]'", id="no comma"),
        pytest.param("a: @b", 1, "'@'", id="reserved character"),
        pytest.param("a: .inf", 1, "no JSON value", id="infinity"),
        pytest.param("a: =", 1, "'='", id="default value"),
        pytest.param("1.5: a", 1, "neither text nor a whole number", id="fraction as a key"),
        pytest.param('a: "\\q"', 1, "escape '\\\\q'", id="unknown escape"),
        pytest.param('a: "\\ud83d\\ude00"', 1, "not a character", id="surrogates"),
        pytest.param("a: \x07", 1, "control characters", id="control character"),
        pytest.param("a: - b", 1, "cannot start like", id="list in a value"),
    ],
)
def test_refused(text: str, line: int, what: str) -> None:
    with pytest.raises(YamlError, match=f"^line {line}: .*{what}"):
        parse_yaml(text)


WORDS = [
    "static", "0-3,8", "10s", "10%", "a b", "a: b", "x #y", "#z", "'q'", '"dq"', "true", "yes", "null", "~", "", "-", "- a",
    "{a", "[b", "a,b", "*x", "&y", "!t", "|", ">", "%d", "@a", "`b", "1", "0x1f", "012", "1.5", "-1", "é", "tru", "fd00::10",
    "0:memory=1Gi", ":",
]  # fmt: skip
KEYS = ["a", "c d", "x-y", "memory.available", "q: r", "#k", " s", "on", "10"]


def _random_node(chance: random.Random, depth: int = 0) -> t.Any:
    kind = chance.random()
    if depth < 4 and kind < 0.35:
        return {
            f"{chance.choice(KEYS)}_{index}": _random_node(chance, depth + 1) for index in range(chance.randint(0, 4))
        }
    if depth < 4 and kind < 0.6:
        return [_random_node(chance, depth + 1) for _index in range(chance.randint(0, 4))]
    return chance.choice([None, True, False, chance.randint(-5, 10**6), round(chance.random(), 3), *WORDS])


@pytest.mark.parametrize("flow", [True, False, None])
@pytest.mark.parametrize("indent", [2, 4])
def test_random_documents(flow: bool | None, indent: int) -> None:
    """What PyYAML writes, PyYAML and this reader read alike."""
    chance = random.Random(f"{flow} {indent}")
    for _index in range(500):
        text = yaml.safe_dump(
            _random_node(chance), default_flow_style=flow, indent=indent, width=10**9, allow_unicode=True
        )
        text = text[:-4] if text.endswith("\n...\n") else text
        assert parse_yaml(text) == yaml.safe_load(text), text


def test_random_damage() -> None:
    """A damaged document is refused or read as PyYAML reads it; never guessed at, never another exception."""
    chance = random.Random(7)
    known_differences = ("y", "n", "Y", "N")
    read = 0
    for _index in range(3000):
        lines = KUBELET.splitlines(keepends=True)
        start = chance.randrange(len(lines))
        text = "".join(lines[start : start + chance.randint(1, 12)])
        at = chance.randrange(len(text))
        text = (
            text[:at]
            + chance.choice(["", " ", "\n", ":", "-", "#", "'", '"', "[", "}", ",", "|", "  ", ": "])
            + text[at + 1 :]
        )
        try:
            value = parse_yaml(text)
        except YamlError:
            continue
        read += 1
        expected = yaml.safe_load(text)
        if not any(word in known_differences for word in text.split()):
            assert json.dumps(value, sort_keys=True) == json.dumps(expected, sort_keys=True, default=str), text
    assert read > 1000
