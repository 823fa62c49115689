# SPDX-License-Identifier: GPL-3.0-or-later
"""Pure: the JSON value that a kubelet reads in the text of a configuration file.

A text that starts with a brace is JSON (apimachinery, pkg/runtime/serializer/recognizer); any other is YAML, which
sigs.k8s.io/yaml turns into JSON. PyYAML scans and parses, preferably with libyaml, from which Go's scanner was ported;
what the nodes mean is decided here, by the rules of gopkg.in/yaml.v2 (resolve.go, decode.go). They are the same in all
kubelets from 1.20 to 1.37: yaml.v2 2.4 in sigs.k8s.io/yaml 1.2 to 1.6.
"""

from __future__ import annotations

import base64
import json
import math
import re
import struct
import typing as t
from dataclasses import dataclass, field
from decimal import Decimal

from ansible_collections.kubepin.tuning.plugins.module_utils.common.errors import InvalidText

try:
    import yaml
except ImportError:  # ansible-test imports every file without the libraries that Ansible brings
    yaml = None  # type: ignore[assignment]

Value = t.Any
"""None, bool, int, float, str, list of Value, or dict of str to Value: what JSON can hold."""

MAX_DEPTH = 100
"""How deep collections may be nested. Go stops at 10000; KubeletConfiguration needs 6."""

_SPACE = "\t\n\v\f\r \x85\xa0\u1680" + "".join(map(chr, range(0x2000, 0x200B))) + "\u2028\u2029\u202f\u205f\u3000"
"""What Go's unicode.IsSpace takes for white space."""
_TAG = "tag:yaml.org,2002:"
_WORDS: dict[str, Value] = {
    **dict.fromkeys(("", "~", "null", "Null", "NULL")),
    **dict.fromkeys(("true", "True", "TRUE", "y", "Y", "yes", "Yes", "YES", "on", "On", "ON"), True),
    **dict.fromkeys(("false", "False", "FALSE", "n", "N", "no", "No", "NO", "off", "Off", "OFF"), False),
    **dict.fromkeys((".nan", ".NaN", ".NAN"), math.nan),
    **dict.fromkeys((".inf", ".Inf", ".INF", "+.inf", "+.Inf", "+.INF"), math.inf),
    **dict.fromkeys(("-.inf", "-.Inf", "-.INF"), -math.inf),
}
_INTEGER = re.compile(r"[-+]?(?:0[xX][0-9a-fA-F]+|0[bB][01]+|0[oO][0-7]+|0[0-7]*|[1-9][0-9]*)")
_FLOAT = re.compile(r"[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?")
_DATE = re.compile(r"[0-9]{4}-[0-9]{1,2}-[0-9]{1,2}(?:[Tt ].*)?", re.DOTALL)
_LONGEST_NUMBER = 1000
"""Python's int() takes 4300 decimal digits at most; so many are no 64-bit integer anyway."""


class YamlError(InvalidText):
    """A kubelet cannot read the text, or it is nested too deep."""

    code = "yaml_invalid"

    def __init__(self, line: int | None, what: str) -> None:
        super().__init__(what if line is None else f"line {line}: {what}", line=line)


@dataclass(frozen=True)
class Duplicate:
    """A key that is in a mapping more than once; the last value counts."""

    key: str
    line: int | None
    """Where the key is again, from 1; None in JSON."""


@dataclass(frozen=True)
class Document:
    """What a text holds."""

    value: Value
    duplicates: tuple[Duplicate, ...] = ()
    unread_line: int | None = None
    """Where content starts that no kubelet reads, from 1: what follows the first YAML document."""


def parse_yaml_text(text: str) -> Document:
    """The first document in a text; None if there is none.

    Numbers are int where JSON writes them without a point, so that a YAML `2.0` is 2, as for the kubelet.

    :raises YamlError: if a kubelet cannot read the text, and for collections deeper than MAX_DEPTH
    """
    is_json = text.lstrip(_SPACE).startswith("{")
    document = _parse_json(text) if is_json else _parse_yaml(text)
    try:
        json.dumps(document.value, ensure_ascii=False).encode()
    except UnicodeEncodeError as error:
        raise YamlError(None, "an escape stands for half a character (a surrogate)") from error
    return document


# JSON


def _parse_json(text: str) -> Document:
    duplicates: list[Duplicate] = []

    def mapping(pairs: list[tuple[str, Value]]) -> dict[str, Value]:
        result: dict[str, Value] = {}
        for key, value in pairs:
            if key in result:
                duplicates.append(Duplicate(key, None))
            result[key] = value
        return result

    try:
        value = json.loads(text, object_pairs_hook=mapping, parse_int=_json_integer, parse_constant=_no_json)
        _check_depth(value)
    except json.JSONDecodeError as error:
        raise YamlError(error.lineno, f"invalid JSON: {error.msg} (a text that starts with a brace is JSON)") from error
    except RecursionError as error:
        raise _too_deep(None) from error
    return Document(value, tuple(duplicates))


def _json_integer(digits: str) -> int | float:
    return int(digits) if len(digits) <= _LONGEST_NUMBER else float(digits)


def _no_json(word: str) -> t.NoReturn:
    raise YamlError(None, f"invalid JSON: {word}")


def _check_depth(value: Value) -> None:
    level = [value]
    for _depth in range(MAX_DEPTH + 1):
        level = [
            child
            for parent in level
            if isinstance(parent, (dict, list))
            for child in (parent.values() if isinstance(parent, dict) else parent)
        ]
    if level:
        raise _too_deep(None)


def _too_deep(line: int | None) -> YamlError:
    return YamlError(line, f"collections are nested more than {MAX_DEPTH} deep")


# YAML: nodes


@dataclass(eq=False)
class _Node:
    """A node of the document; a scalar has `text`, a collection `children` (of a mapping, keys and values in turn), an
    alias its `target`."""

    kind: str
    line: int
    tag: str = ""
    text: str = ""
    plain: bool = False
    """Whether an untagged scalar is neither quoted nor a block scalar, so its text decides its type."""
    children: list[_Node] = field(default_factory=list)
    target: _Node | None = None

    @property
    def is_merge(self) -> bool:
        return self.kind == "scalar" and self.text == "<<" and (self.plain or self.tag == f"{_TAG}merge")


def _parse_yaml(text: str) -> Document:
    text = text.removeprefix("\ufeff")
    try:
        events = yaml.parse(text, Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader))
        root = _compose(text, events)
    except yaml.MarkedYAMLError as error:
        raise YamlError(_line_of(error), f"invalid YAML: {error.problem}") from error
    except yaml.YAMLError as error:
        bad = yaml.reader.Reader.NON_PRINTABLE.search(text)
        if bad is None:
            raise YamlError(None, f"invalid YAML: {error}") from error
        line = len(re.findall(r"\r\n?|\n", text[: bad.start()])) + 1
        raise YamlError(line, "control characters are not allowed in YAML") from error
    except (ValueError, OverflowError) as error:
        raise YamlError(None, f"invalid YAML: {error}") from error
    if root is None:
        return Document(None)
    construction = _Construction()
    value = construction.value(root, 0)
    return Document(value, tuple(dict.fromkeys(construction.duplicates)), _unread_line(events))


def _unread_line(events: t.Iterator[t.Any]) -> int | None:
    """The line of the first content after the first document; an empty document, as after a closing ``---``, is none."""
    try:
        for event in events:
            mark: t.Any = event.start_mark
            if isinstance(event, yaml.NodeEvent) and not (isinstance(event, yaml.ScalarEvent) and not event.value):
                return int(mark.line) + 1
    except yaml.MarkedYAMLError as error:
        return _line_of(error)
    except (yaml.YAMLError, ValueError, OverflowError):
        return None
    return None


def _line_of(error: t.Any) -> int | None:
    mark = error.problem_mark or error.context_mark
    return int(mark.line) + 1 if mark else None


def _compose(text: str, events: t.Iterator[t.Any]) -> _Node | None:
    """The nodes of the first document; what follows it is not read."""
    anchors: dict[str, _Node] = {}
    stack: list[_Node] = []
    flows: list[bool] = []
    root: _Node | None = None
    for event in events:
        line = event.start_mark.line + 1
        if isinstance(event, yaml.DocumentStartEvent) and event.version not in (None, (1, 1)):
            raise YamlError(line, "the directive names a version of YAML other than 1.1")
        if isinstance(event, yaml.DocumentEndEvent):
            return root
        if isinstance(event, yaml.CollectionEndEvent):
            stack.pop()
            flows.pop()
            continue
        if not isinstance(event, yaml.NodeEvent):
            continue
        node = _node(event, line, anchors)
        if isinstance(event, yaml.ScalarEvent):
            _check_scalar(event, text, any(flows[-1:]))
        if stack:
            stack[-1].children.append(node)
        else:
            root = node
        if isinstance(event, yaml.CollectionStartEvent):
            stack.append(node)
            flows.append(bool(event.flow_style))
            if len(stack) > MAX_DEPTH:
                raise _too_deep(line)
    return None


def _check_scalar(event: t.Any, text: str, in_flow: bool) -> None:
    """What newer scanners take, and yaml.v2's scannerc.go does not."""
    line = event.start_mark.line + 1
    if event.implicit[0] and in_flow and "?" in event.value:
        raise YamlError(line, f"'{event.value}' has a '?' in brackets; put it in quotes")
    raw = text[event.start_mark.index : event.end_mark.index]
    if event.style == '"' and "/" in re.findall(r"\\(.)", raw, re.DOTALL):
        raise YamlError(line, r"the escape '\/' is not known; write '/'")


def _node(event: t.Any, line: int, anchors: dict[str, _Node]) -> _Node:
    if isinstance(event, yaml.AliasEvent):
        if event.anchor not in anchors:
            raise YamlError(line, f"the anchor '{event.anchor}' is not known")
        return _Node("alias", line, text=event.anchor, target=anchors[event.anchor])
    tag = event.tag or ""
    if isinstance(event, yaml.ScalarEvent):
        node = _Node("scalar", line, tag, event.value, plain=bool(event.implicit[0]))
    else:
        node = _Node("mapping" if isinstance(event, yaml.MappingStartEvent) else "sequence", line, tag)
    if event.anchor is not None:
        anchors[event.anchor] = node
    return node


# YAML: values


class _Construction:
    """Turns nodes into values (decode.go), and counts as Go does, so that aliases cannot fill the memory."""

    def __init__(self) -> None:
        self.duplicates: list[Duplicate] = []
        self._open: set[_Node] = set()
        self._nodes = 0
        self._from_aliases = 0

    def value(self, node: _Node, depth: int) -> Value:
        self._count(node)
        if depth > MAX_DEPTH:
            raise _too_deep(node.line)
        if node.target is not None:
            return self._alias(node, lambda target: self.value(target, depth + 1))
        if node.kind == "sequence":
            return [self.value(child, depth + 1) for child in node.children]
        if node.kind == "mapping":
            result: dict[str, Value] = {}
            self._fill(node, result, depth)
            return result
        value = _scalar(node)
        if isinstance(value, float):
            if not math.isfinite(value):
                raise YamlError(node.line, f"'{node.text}' has no JSON value; put it in quotes if it is text")
            # encoding/json writes the shortest digits, and an exponent only from 1e21
            return int(Decimal(repr(value))) if value.is_integer() and abs(value) < 1e21 else value
        return value

    def _count(self, node: _Node) -> None:
        self._nodes += 1
        self._from_aliases += bool(self._open)
        few, many = 400_000, 4_000_000
        if self._from_aliases > 100 and self._nodes > 1000:
            share = min(max(self._nodes - few, 0) / (many - few), 1)
            if self._from_aliases / self._nodes > 0.99 - 0.89 * share:
                raise YamlError(node.line, "aliases repeat too much of the document")

    def _alias(self, node: _Node, use: t.Callable[[_Node], Value]) -> Value:
        if node in self._open:
            raise YamlError(node.line, f"the anchor '{node.text}' contains itself")
        self._open.add(node)
        result = use(t.cast("_Node", node.target))
        self._open.remove(node)
        return result

    def _fill(self, node: _Node, result: dict[str, Value], depth: int) -> None:
        for key_node, value_node in zip(node.children[::2], node.children[1::2], strict=True):
            if key_node.is_merge:
                self._merge(value_node, result, depth + 1)
                continue
            self._count(key_node)
            key = self._key(key_node)
            value = self.value(value_node, depth + 1)
            if key in result:
                self.duplicates.append(Duplicate(key, key_node.line))
            result[key] = value

    def _merge(self, node: _Node, result: dict[str, Value], depth: int) -> None:
        """Adds the keys of the mappings that ``<<`` names. As in Go, one that is there already is replaced."""
        parts = reversed(node.children) if node.kind == "sequence" else [node]
        for part in parts:
            if (part.target or part).kind != "mapping":
                raise YamlError(part.line, "'<<' needs a mapping, or a list of mappings")
            if depth > MAX_DEPTH:
                raise _too_deep(part.line)
            self._count(part)
            if part.target is None:
                self._fill(part, result, depth)
            else:
                self._alias(part, lambda target: self._fill(target, result, depth))

    def _key(self, node: _Node) -> str:
        """The JSON key (sigs.k8s.io/yaml, convertToJSONableObject)."""
        scalar = node.target or node
        value = _scalar(scalar) if scalar.kind == "scalar" else None
        if isinstance(value, str):
            return value
        if isinstance(value, bool):
            return "true" if value else "false"
        if isinstance(value, int) and value < 2**63:
            return str(value)
        if isinstance(value, float):
            return _float_key(value)
        what = "a collection" if scalar.kind != "scalar" else f"'{scalar.text}'"
        raise YamlError(node.line, f"a key is {what}; expected text")


def _scalar(node: _Node) -> Value:
    """The value of a scalar node; infinities and NaN are there too."""
    text, tag = node.text, node.tag
    if tag == f"{_TAG}binary":
        try:
            return base64.b64decode(re.sub(r"[\r\n]", "", text), validate=True).decode("utf-8", "replace")
        except ValueError as error:
            raise YamlError(node.line, f"'{text[:20]}' is tagged as !!binary, but is not base64") from error
    kind = tag[len(_TAG) :] if tag.startswith(_TAG) else ""
    if tag and kind not in ("bool", "int", "float", "null", "timestamp"):
        return text
    if not tag and not node.plain:
        return text
    value = _resolve(text)
    if not tag:
        return value
    if kind == "float" and isinstance(value, int) and not isinstance(value, bool) and value < 2**63:
        return float(value)
    if not _is_of_kind(kind, value, text):
        raise YamlError(node.line, f"'{text[:20]}' is tagged as !!{kind}, but is none")
    return value


def _is_of_kind(kind: str, value: Value, text: str) -> bool:
    if kind == "timestamp":
        return bool(_DATE.fullmatch(text))
    types = {"bool": bool, "int": int, "float": float, "null": type(None)}
    return type(value) is types[kind]


def _resolve(text: str) -> Value:
    """The value of a plain scalar (resolve.go): YAML 1.1, where ``on``, ``yes`` and ``y`` are true, but a date and
    ``1:30`` are text, as is a number that fits neither 64 bits nor a float64."""
    if text in _WORDS:
        return _WORDS[text]
    if text[0] == ".":
        return _float_or_text(text, text)
    if text[0] not in "+-0123456789":
        return text
    digits = text.replace("_", "")
    if _INTEGER.fullmatch(digits) and len(digits) <= _LONGEST_NUMBER:
        number = _integer(digits)
        if -(2**63) <= number < (2**63 if digits[0] in "+-" else 2**64):
            return number
    return _float_or_text(digits, text)


def _float_or_text(digits: str, text: str) -> float | str:
    number = float(digits) if _FLOAT.fullmatch(digits) else math.inf
    return number if math.isfinite(number) else text


def _integer(digits: str) -> int:
    """Go's strconv.ParseInt(digits, 0, 64) without a limit: a leading 0 means octal."""
    is_octal = re.fullmatch(r"0[0-7]+", digits.lstrip("+-"))
    return int(digits, 8 if is_octal else 0)


def _float_key(value: float) -> str:
    """Go's strconv.FormatFloat(value, 'g', -1, 32), with YAML's words for infinities and NaN."""
    if math.isnan(value):
        return ".nan"
    try:
        single = struct.unpack("f", struct.pack("f", value))[0]
    except OverflowError:
        single = math.copysign(math.inf, value)
    if math.isinf(single):
        return ".inf" if single > 0 else "-.inf"
    packed = struct.pack("f", single)
    places = next((n for n in range(8) if struct.pack("f", float(f"{single:.{n}e}")) == packed), 8)
    shortest = f"{single:.{places}e}"
    exponent = int(shortest.partition("e")[2])
    return shortest if not -4 <= exponent < 6 else f"{single:.{max(places - exponent, 0)}f}"
