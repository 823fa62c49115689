# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import contextlib
import json
import math
import random
import time
import typing as t

import pytest
import yaml
from ansible_collections.kubepin.tuning.plugins.module_utils.control.kubelet.yaml_text import (
    MAX_DEPTH,
    Document,
    Duplicate,
    YamlError,
    parse_yaml_text,
)
from hypothesis import given
from hypothesis import strategies as st

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


@pytest.fixture(params=["libyaml", "pure Python"])
def scanner(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """PyYAML with and without libyaml."""
    if request.param != "libyaml":
        monkeypatch.delattr(yaml, "CSafeLoader", raising=False)
    return str(request.param)


@pytest.mark.usefixtures("scanner")
@pytest.mark.parametrize(
    "text",
    [
        pytest.param(KUBELET, id="a kubelet's configuration"),
        pytest.param("", id="empty"),
        pytest.param("# nothing\n\n", id="comments"),
        pytest.param("---\n", id="an empty document"),
        pytest.param("a: 1\r\nb:\r\n- c\r\n", id="DOS line ends"),
        pytest.param("\ufeffa: 1\n", id="byte order mark"),
        pytest.param('\ufeff{"a": 1}', id="byte order mark before JSON"),
        pytest.param("a: 'it''s'\nb: \"x\\ty\\u00e9\\x41\"\n", id="quotes and escapes"),
        pytest.param("'a b': 1\n\"c: d\": 2\n", id="quoted keys"),
        pytest.param("a: x#y\nb: x #y\nc: http://h:1/p\nd: -x\ne: a, b\n", id="plain scalars"),
        pytest.param("a: ~\nb: null\nc:\nd: Null\n", id="null"),
        pytest.param("a: yes\nb: Off\nc: TRUE\nd: tRue\n", id="booleans"),
        pytest.param("a: 0x1F\nb: 012\nc: -7\nd: +3\ne: 1_000\nf: 0b11\ng: 1.5\nh: .5\ni: 1.\n", id="numbers"),
        pytest.param('{"a": [1, {"b": null}], "c": "\\u00e9", "d": {}}', id="JSON in a line"),
        pytest.param(json.dumps({"a": [1, 2, {"b": "x: y"}], "c": {"d": []}}, indent=2), id="JSON"),
        pytest.param("a: |-\n  x\n  y\nb: |+\n  z\n\nc: |\n\n  lead\n", id="literal blocks"),
        pytest.param("a: >\n  x\n  y\n\n  z\nb: |2\n    c\n", id="folded block, block with a width"),
        pytest.param("- a: 1\n  b:\n  - k\n  - l\n- c\n", id="compact list of mappings"),
        pytest.param("just text", id="a scalar"),
        pytest.param("a: b\n  c\nd: 'e\n  f'\n", id="scalars over lines"),
        pytest.param("a: &x {b: 1}\nc: *x\n", id="anchor and alias"),
        pytest.param("? a\n: b\n", id="key after a question mark"),
        pytest.param("a: !!str 1\nb: !!int '2'\nc: !!float 1.5\n", id="tags"),
        pytest.param("%YAML 1.1\n---\na: 1\n", id="directive"),
        pytest.param("a: 1 # no more\n...\n", id="document end"),
        pytest.param("a: 1", id="no last line end"),
    ],
)
def test_same_as_pyyaml(text: str) -> None:
    assert parse_yaml_text(text) == Document(yaml.safe_load(text))


@pytest.mark.usefixtures("scanner")
@pytest.mark.parametrize(
    ("text", "value"),
    [
        pytest.param("y", True, id="y"),
        pytest.param("n", False, id="n"),
        pytest.param("[yes, on, no, off]", [True, True, False, False], id="YAML 1.1 booleans"),
        pytest.param("2.0", 2, id="a whole number with a point"),
        pytest.param("-0.0", 0, id="minus zero"),
        pytest.param("1e3", 1000, id="an exponent without a point"),
        pytest.param("1e21", 1e21, id="JSON writes an exponent from here"),
        pytest.param("08", 8, id="no octal number"),
        pytest.param("0o17", 15, id="Go's octal"),
        pytest.param("0b102", "0b102", id="no binary number"),
        pytest.param("18446744073709551615", 2**64 - 1, id="64 bits"),
        pytest.param("+18446744073709551615", 18446744073709552000, id="64 bits with a sign"),
        pytest.param("-9223372036854775809", -9223372036854776000, id="below 64 bits"),
        pytest.param("12345678901234567890123", 1.2345678901234568e22, id="beyond 64 bits"),
        pytest.param("0x" + 32 * "f", "0x" + 32 * "f", id="hexadecimal beyond 64 bits is text"),
        pytest.param("1e400", "1e400", id="beyond a float64 is text"),
        pytest.param("-1E400", "-1E400", id="below a float64 is text"),
        pytest.param(5000 * "9", 5000 * "9", id="more digits than Python's int takes"),
        pytest.param("[.5, ._5, .]", [0.5, "._5", "."], id="numbers that start with a point"),
        pytest.param("2001-01-01", "2001-01-01", id="a date is text"),
        pytest.param("!!timestamp 2001-01-01", "2001-01-01", id="a tagged date"),
        pytest.param("1:30", "1:30", id="no base 60"),
        pytest.param("=", "=", id="default value"),
        pytest.param("a: <<", {"a": "<<"}, id="merge as a value"),
        pytest.param("!foo bar", "bar", id="tag of one's own"),
        pytest.param("! 12", "12", id="tag without a name"),
        pytest.param("!!binary aGk=", "hi", id="base64"),
        pytest.param("!!float 3", 3, id="whole number tagged as a float"),
        pytest.param("1: a\ntrue: b\n1.5: c\n1e7: d\n0.1: e\n.inf: f\n",
                     {"1": "a", "true": "b", "1.5": "c", "1e+07": "d", "0.1": "e", ".inf": "f"}, id="keys become text"),
        pytest.param("on: 1", {"true": 1}, id="a boolean as a key"),
        pytest.param("2001-01-01: 1", {"2001-01-01": 1}, id="a date as a key"),
        pytest.param("x: &m {a: 1, b: 2}\nz: {<<: *m, c: 3}", {"x": {"a": 1, "b": 2}, "z": {"a": 1, "b": 2, "c": 3}}, id="merge key"),
        pytest.param("z: {<<: [{a: 1}, {a: 2, b: 3}]}", {"z": {"a": 1, "b": 3}}, id="merge of a list: the first wins"),
        pytest.param("a\x85b", "a b", id="U+0085 is a line end"),
        pytest.param("\u2028a", "a", id="U+2028 is a line end"),
        pytest.param("  a: 1\nb: 2", {"a": 1}, id="less indented text is another document"),
    ],
)  # fmt: skip
def test_as_go_reads_it(text: str, value: t.Any) -> None:
    """Values by sigs.k8s.io/yaml 1.6.0 (kubectl 1.36.3 label --local)."""
    result = parse_yaml_text(text).value
    assert (result, type(result)) == (value, type(value))


@pytest.mark.parametrize(
    ("text", "value", "duplicate"),
    [
        pytest.param("a: 1\na: 2", {"a": 2}, Duplicate("a", 2), id="YAML"),
        pytest.param("[{a: 1,\n  a: 2}]", [{"a": 2}], Duplicate("a", 2), id="in braces"),
        pytest.param('{"a": 1, "a": 2}', {"a": 2}, Duplicate("a", None), id="JSON"),
        pytest.param("<<: {b: 1}\nb: 2", {"b": 2}, Duplicate("b", 2), id="merged before"),
        pytest.param("b: 2\n<<: {b: 1}", {"b": 1}, Duplicate("b", 2), id="merged after: this replaces"),
        pytest.param(
            "[&x {a: 1, a: 2}, *x]", [{"a": 2}, {"a": 2}], Duplicate("a", 1), id="once, though repeated by an alias"
        ),
        pytest.param("1: a\n'1': b", {"1": "b"}, Duplicate("1", 2), id="equal as text"),
    ],
)
def test_the_last_of_duplicate_keys_counts(text: str, value: t.Any, duplicate: Duplicate) -> None:
    assert parse_yaml_text(text) == Document(value, (duplicate,))


@pytest.mark.parametrize(
    ("text", "line"),
    [
        pytest.param("a: 1\n---\n# nothing\n", None, id="closing dashes"),
        pytest.param("a: 1\n---\nb: 2\n", 3, id="second document"),
        pytest.param("  a: 1\nb: 2\n", 2, id="less indentation"),
        pytest.param("a: 1\n--- [\n", 2, id="what follows is not even YAML"),
    ],
)
def test_what_follows_the_first_document_is_not_read(text: str, line: int | None) -> None:
    document = parse_yaml_text(text)
    assert (document.value, document.unread_line) == ({"a": 1}, line)


@pytest.mark.usefixtures("scanner")
@pytest.mark.parametrize(
    ("text", "line", "what"),
    [
        pytest.param("a: 1\nb: *x", 2, "anchor|alias", id="unknown anchor"),
        pytest.param("a: &x [*x]", 1, "contains itself", id="an anchor in itself"),
        pytest.param("<<: 1", 1, "needs a mapping", id="merge of a scalar"),
        pytest.param("<<: [1]", 1, "needs a mapping", id="merge of a list of scalars"),
        pytest.param("%YAML 1.2\n---\na: 1", 1, "other than 1.1", id="directive"),
        pytest.param("a: |\n    b\n  c", 3, "invalid YAML", id="block with less indentation"),
        pytest.param("a:\n\tb: 1", 2, "invalid YAML", id="tab as indentation"),
        pytest.param('a: "b', 1, "invalid YAML", id="open quote"),
        pytest.param("a: 'b' c", 1, "invalid YAML", id="text after a quote"),
        pytest.param("a: b: c", 1, "mapping values are not allowed", id="mapping in a value"),
        pytest.param("a:\n  b: 1\n c: 2", 3, "invalid YAML", id="uneven indentation"),
        pytest.param("a: 1\nb", None, "expected ':'", id="no colon"),
        pytest.param("a: [1, 2", None, "invalid YAML", id="open bracket"),
        pytest.param("a: [1 2]]", 1, "invalid YAML", id="one bracket too many"),
        pytest.param("[a]: 1", 1, "a key is a collection", id="collection as a key"),
        pytest.param("~: 1", 1, "a key is '~'", id="null as a key"),
        pytest.param("18446744073709551615: 1", 1, "a key is", id="a key beyond 63 bits"),
        pytest.param("[a?b]", 1, "put it in quotes|but got", id="question mark in brackets"),
        pytest.param("[,]", 1, "invalid YAML", id="comma without a value"),
        pytest.param('["a" "b"]', 1, "invalid YAML", id="no comma"),
        pytest.param("a: @b", 1, "cannot start any token", id="reserved character"),
        pytest.param("a: .inf", 1, "no JSON value", id="infinity"),
        pytest.param("a: !!int x", 1, "tagged as !!int", id="no whole number"),
        pytest.param("a: !!timestamp x", 1, "tagged as !!timestamp", id="no date"),
        pytest.param("a: !!binary '*'", 1, "not base64", id="no base64"),
        pytest.param('a: "\\q"', 1, "unknown escape", id="unknown escape"),
        pytest.param('a: "x\\/y"', 1, "write '/'", id="JSON's escaped slash in YAML"),
        pytest.param("a: 1\nb: \x07", 2, "control characters", id="control character"),
        pytest.param("a: - b", 1, "not allowed", id="list in a value"),
        pytest.param("[" * 500, 1, "deep|depth", id="deep lists"),
        pytest.param("\n".join(" " * n + "a:" for n in range(500)), MAX_DEPTH + 1, "deep", id="deep mappings"),
        pytest.param("a0: &a0 [x]\n" + "".join(f"a{n}: &a{n} [*a{n - 1}]\n" for n in range(1, 300)), None, "deep", id="deep aliases"),
        pytest.param("a0: &a0 {x: 1}\n" + "".join(f"a{n}: &a{n} {{<<: *a{n - 1}}}\n" for n in range(1, 300)), None, "deep",
                     id="deep merges"),
    ],
)  # fmt: skip
def test_refused(text: str, line: int | None, what: str) -> None:
    with pytest.raises(YamlError, match=what) as caught:
        parse_yaml_text(text)
    assert line is None or caught.value.details["line"] == line


@pytest.mark.parametrize(
    ("text", "what"),
    [
        pytest.param("{a: 1}", "^line 1: invalid JSON", id="YAML in braces"),
        pytest.param(' \n{"a": 1,\n}', "^line 3: invalid JSON", id="comma at the end"),
        pytest.param('{"a": 1} # no', "invalid JSON", id="comment"),
        pytest.param('{"a": NaN}', "NaN", id="not a number"),
        pytest.param('\x85{"a": 1}', "invalid JSON", id="white space that JSON has not"),
        pytest.param('{"a":' * 500, "invalid JSON|deep", id="deep and open"),
        pytest.param('{"a":' * 500 + "1" + "}" * 500, "deep", id="deep"),
        pytest.param('{"a":' * 100_000, "invalid JSON|deep", id="very deep"),
        pytest.param('{"a": "\\ud800"}', "half a character", id="half a character"),
    ],
)
def test_a_text_that_starts_with_a_brace_is_json(text: str, what: str) -> None:
    with pytest.raises(YamlError, match=what):
        parse_yaml_text(text)


def test_numbers_in_json_stay_as_they_are_written() -> None:
    value = parse_yaml_text('{"a": 2.0, "b": 1e2, "c": 2, "d": 1e400, "e": ' + 5000 * "9" + "}").value
    assert [type(each) for each in value.values()] == [float, float, int, float, float]
    assert value["d"] == value["e"] == math.inf


@pytest.mark.usefixtures("scanner")
@pytest.mark.parametrize("kind", ["[{}]", "{{<<: [{}]}}", "{{a: [{}]}}"])
def test_aliases_that_would_fill_the_memory_are_refused_soon(kind: str) -> None:
    levels = [f"a{n}: &a{n} " + kind.format(",".join([f"*a{n - 1}"] * 10)) for n in range(1, 30)]
    start = time.thread_time()
    with pytest.raises(YamlError, match="aliases repeat"):
        parse_yaml_text("\n".join(["a0: &a0 {x: 1}", *levels]))
    assert time.thread_time() - start < 30


TEXTS = st.text(st.characters(blacklist_categories=["Cc", "Cs"], blacklist_characters="\ufffe\uffff"), max_size=20)
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.floats(-1e15, 1e15) | TEXTS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXTS, inner, max_size=4),
    max_leaves=20,
)


@given(VALUES)
def test_json_is_yaml(value: t.Any) -> None:
    """A list in JSON is read as YAML; YAML's scanner takes U+0085 and its like for a line end, and not all characters."""
    text = json.dumps([value], ensure_ascii=False)
    if yaml.reader.Reader.NON_PRINTABLE.search(text) or any(char in text for char in "\x85\u2028\u2029\ufeff"):
        return
    assert parse_yaml_text(text).value == [value]


@given(st.dictionaries(TEXTS, VALUES, max_size=4))
def test_json_is_json(value: t.Any) -> None:
    assert parse_yaml_text(json.dumps(value)) == Document(value)


PARTS = ["", " ", "\n", "\t", ":", "-", "#", "'", '"', "[", "]", "{", "}", ",", "|", ">", "&a ", "*a", "<<: ", "!!int ", "? ", "\\", "%",
         "\x85", "\u2028", "\x00", "\ud800", "1e400", "0x" + 40 * "f", "---\n", "...\n"]  # fmt: skip


@pytest.mark.usefixtures("scanner")
@pytest.mark.parametrize("seed", range(5))
def test_a_damaged_text_is_read_or_refused(seed: int) -> None:
    """Never another exception, and not often refused."""
    chance = random.Random(seed)
    read = 0
    for _index in range(300):
        lines = KUBELET.splitlines(keepends=True)
        start = chance.randrange(len(lines))
        text = "".join(lines[start : start + chance.randint(1, 12)])
        for _damage in range(chance.randint(1, 3)):
            at = chance.randrange(len(text) + 1)
            text = text[:at] + chance.choice(PARTS) + text[at + chance.randint(0, 2) :]
        try:
            parse_yaml_text(text)
        except YamlError:
            continue
        read += 1
    assert read > 50


@given(st.text(st.characters(), max_size=200))
def test_any_text_is_read_or_refused(text: str) -> None:
    with contextlib.suppress(YamlError):
        assert json.dumps(parse_yaml_text(text).value)
