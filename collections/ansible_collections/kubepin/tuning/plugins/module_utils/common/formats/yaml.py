# SPDX-License-Identifier: GPL-3.0-or-later
"""A strict reader for the YAML of KubeletConfiguration files; it refuses what it does not support, naming the line."""

from __future__ import annotations

import re
import typing as t

from ansible_collections.kubepin.tuning.plugins.module_utils.common.errors import TuningError

Node = t.Any
"""None, bool, int, float, str, list of Node, or dict of str to Node: what JSON can hold."""

_INTEGER = re.compile(r"[-+]?(?:0[xX][0-9a-fA-F]+|0[bB][01]+|0[oO][0-7]+|0[0-7]*|[1-9][0-9]*)", re.ASCII)
_FLOAT = re.compile(r"[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?", re.ASCII)
_NOT_JSON = re.compile(r"[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN)")
_WORDS: t.Dict[str, t.Optional[bool]] = {
    **dict.fromkeys(("", "~", "null", "Null", "NULL")),
    **dict.fromkeys(("true", "True", "TRUE", "y", "Y", "yes", "Yes", "YES", "on", "On", "ON"), True),
    **dict.fromkeys(("false", "False", "FALSE", "n", "N", "no", "No", "NO", "off", "Off", "OFF"), False),
}
_REFUSED_STARTS = {
    "&": "anchors are",
    "*": "aliases are",
    "!": "tags are",
    "%": "directives are",
    ">": "folded block scalars are",
    "@": "a value that starts with '@' is",
    "`": "a value that starts with '`' is",
}
_ESCAPES = {
    "0": "\0", "a": "\a", "b": "\b", "t": "\t", "n": "\n", "v": "\v", "f": "\f", "r": "\r", "e": "\x1b",
    " ": " ", '"': '"', "/": "/", "\\": "\\", "N": "\x85", "_": "\xa0", "L": "\u2028", "P": "\u2029",
}  # fmt: skip
_HEX_ESCAPES = {"x": 2, "u": 4, "U": 8}
_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f]")
_FLOW_PLAIN = re.compile(r"(?:(?!\s#|:(?:\s|$))[^,\[\]{}])*")
_LITERAL = re.compile(r"\|([-+]?)\s*(?:\s#.*)?")


class YamlError(TuningError):
    """The YAML is invalid, or uses something that this reader does not support."""

    def __init__(self, line: int, what: str) -> None:
        super().__init__(f"line {line}: {what}", line=line)


def parse_yaml(text: str) -> Node:
    """The value of the single YAML document in `text`, as sigs.k8s.io/yaml passes it to the kubelet; None for an empty
    text.

    Supported are block and flow mappings and sequences (so JSON too), plain and quoted scalars on one line, literal
    block scalars, comments and a leading ``---``. Plain scalars become null, booleans and numbers by the rules of
    gopkg.in/yaml.v2, resolve.go: YAML 1.1, where ``on``, ``yes`` and ``y`` are true, but dates and ``1:30`` are text.
    Keys are text, as in JSON.

    :raises YamlError: naming the line, for everything else: anchors, aliases, tags, merge keys, folded scalars, several
        documents, scalars over several lines, duplicate keys, tabs outside of quotes and comments, control characters
    """
    return _Reader(text).document()


class _Line:
    """One line that is neither empty nor a comment; `indent` is the column at which `text` starts."""

    def __init__(self, number: int, indent: int, text: str) -> None:
        self.number = number
        self.indent = indent
        self.text = text

    @property
    def is_item(self) -> bool:
        return self.text == "-" or self.text.startswith("- ")


class _Reader:
    def __init__(self, text: str) -> None:
        self._lines = [line[:-1] if line.endswith("\r") else line for line in text.lstrip("\ufeff").split("\n")]
        self._row = 0
        self._rest: t.Optional[_Line] = None
        for number, line in enumerate(self._lines, 1):
            if _CONTROL.search(line):
                raise YamlError(number, "control characters are not supported")

    # Lines

    def _peek(self) -> t.Optional[_Line]:
        """The next line with content, or the rest of the current one."""
        if self._rest is not None:
            return self._rest
        while self._row < len(self._lines):
            text = self._lines[self._row].strip(" ")
            if text and not text.startswith("#"):
                if text.startswith("\t"):
                    raise YamlError(self._row + 1, "tabs are not supported for indentation; use spaces")
                raw = self._lines[self._row]
                indent = len(raw) - len(raw.lstrip(" "))
                if indent == 0 and re.match(r"(---|\.\.\.)(\s|$)", raw):
                    raise YamlError(self._row + 1, f"'{raw[:3]}' is not supported here: expected one document")
                return _Line(self._row + 1, indent, raw[indent:])
            self._row += 1
        return None

    def _narrow(self, line: _Line, skip: int) -> None:
        """Continues on the same line after its first `skip` characters."""
        text = line.text[skip:]
        rest = text.lstrip(" ")
        self._rest = _Line(line.number, line.indent + skip + len(text) - len(rest), rest)

    def _next_row(self) -> None:
        self._rest = None
        self._row += 1

    # Block structure

    def document(self) -> Node:
        while self._row < len(self._lines):
            text = self._lines[self._row]
            if re.fullmatch(r"---( +#.*| *)", text):
                self._row += 1
                break
            if text.strip(" ") and not text.lstrip(" ").startswith("#"):
                break
            self._row += 1
        line = self._peek()
        if line is None:
            return None
        node = self._block(line)
        left = self._peek()
        if left is not None:
            raise YamlError(left.number, f"expected the end of the document or a key at column {line.indent + 1}")
        return node

    def _block(self, line: _Line) -> Node:
        if line.is_item:
            return self._sequence(line.indent)
        if self._key(line) is not None:
            return self._mapping(line.indent)
        return self._value(line, line.indent - 1)

    def _sequence(self, indent: int) -> t.List[Node]:
        items: t.List[Node] = []
        while True:
            line = self._peek()
            if line is None or line.indent != indent or not line.is_item:
                self._check_indent(line, indent)
                return items
            self._narrow(line, 1)
            rest = t.cast(_Line, self._rest)
            if _is_blank(rest.text):
                self._next_row()
                items.append(self._nested(indent))
            else:
                items.append(self._block(rest))

    def _mapping(self, indent: int) -> t.Dict[str, Node]:
        result: t.Dict[str, Node] = {}
        while True:
            line = self._peek()
            if line is None or line.indent != indent or line.is_item:
                self._check_indent(line, indent)
                return result
            found = self._key(line)
            if found is None:
                raise YamlError(line.number, f"expected 'key: value', found '{line.text}'")
            key, length = found
            if key in result:
                raise YamlError(line.number, f"the key '{key}' is there twice")
            self._narrow(line, length)
            rest = t.cast(_Line, self._rest)
            if _is_blank(rest.text):
                self._next_row()
                following = self._peek()
                if following is not None and following.indent == indent and following.is_item:
                    result[key] = self._sequence(indent)
                else:
                    result[key] = self._nested(indent)
            else:
                result[key] = self._value(rest, indent)

    def _nested(self, indent: int) -> Node:
        """The value indented deeper than `indent`, or null."""
        line = self._peek()
        return self._block(line) if line is not None and line.indent > indent else None

    def _check_indent(self, line: t.Optional[_Line], indent: int) -> None:
        if line is not None and line.indent > indent:
            raise YamlError(line.number, "unexpected indentation (scalars over several lines are not supported)")

    def _key(self, line: _Line) -> t.Optional[t.Tuple[str, int]]:
        """The key at the start of `line` and the length up to and including its colon; None if there is no key."""
        text = line.text
        if text[0] in "\"'":
            value, end = _quoted(text, 0, line.number)
            colon = re.compile(r" *:(?=\s|$)").match(text, end)
            return (value, colon.end()) if colon else None
        if text[0] in "[{":
            return None
        if re.match(r"\?(\s|$)", text):
            raise YamlError(line.number, "keys introduced by '?' are not supported")
        colon = re.search(r":(?=\s|$)", text)
        comment = text.find(" #")
        if colon is None or -1 < comment < colon.start():
            return None
        return _key_text(text[: colon.start()].rstrip(" "), line.number), colon.end()

    def _value(self, line: _Line, indent: int) -> Node:
        """The value that starts in `line` and does not continue on the next one, except in brackets or as a literal
        block."""
        text = line.text
        if text[0] == "|":
            return self._literal(line, indent)
        if text[0] in "[{":
            return self._flow_value(line)
        if text[0] in "\"'":
            value, end = _quoted(text, 0, line.number)
            _check_blank(text[end:], line.number)
        else:
            plain = re.split(r" +#", text, maxsplit=1)[0].rstrip(" ")
            if re.search(r":(\s|$)", plain):
                raise YamlError(line.number, f"a mapping is not allowed in the value '{plain}'; put it in quotes")
            value = _plain(plain, line.number)
        self._next_row()
        following = self._peek()
        if following is not None and following.indent > indent:
            raise YamlError(following.number, "scalars over several lines are not supported; put the value on one line")
        return value

    def _literal(self, line: _Line, indent: int) -> str:
        header = _LITERAL.fullmatch(line.text)
        if header is None:
            raise YamlError(line.number, f"'{line.text}' is not supported; expected '|', '|-' or '|+'")
        self._next_row()
        first = self._row
        while self._row < len(self._lines):
            raw = self._lines[self._row]
            if raw.strip(" ") and len(raw) - len(raw.lstrip(" ")) <= indent:
                break
            self._row += 1
        rows = self._lines[first : self._row]
        width = next((len(raw) - len(raw.lstrip(" ")) for raw in rows if raw.strip(" ")), 0)
        empty = True
        for offset, raw in enumerate(rows):
            empty = empty and not raw.strip(" ")
            if raw[:width].strip(" ") or (width and empty and len(raw) > width):
                raise YamlError(first + offset + 1, "a line of a block scalar is not indented like its first one")
            if "\t" in raw[: width + 1]:
                raise YamlError(first + offset + 1, "tabs are not supported for indentation; use spaces")
        if self._row == len(self._lines) and rows and not rows[-1]:
            rows.pop()
            ending = "\n"
        else:
            ending = "" if self._row == len(self._lines) else "\n"
        body = "\n".join(raw[width:] if width else "" for raw in rows) + (ending if rows else "")
        if header[1] == "+":
            return body
        content = body.rstrip("\n")
        return content + "\n" if content and not header[1] and body.endswith("\n") else content

    # Flow collections, which may span lines

    def _flow_value(self, line: _Line) -> Node:
        self._rest = None
        self._row = line.number - 1
        self._column = line.indent
        value = self._flow()
        _check_blank(self._lines[self._row][self._column :], self._row + 1)
        self._row += 1
        return value

    def _flow(self) -> Node:
        text, number = self._lines[self._row], self._row + 1
        char = text[self._column]
        if char == "{":
            return self._flow_mapping()
        if char == "[":
            return self._flow_sequence()
        if char in "\"'":
            value, self._column = _quoted(text, self._column, number)
            return value
        plain = self._flow_plain()
        if not plain:
            raise YamlError(number, f"expected a value, found '{text[self._column :]}'")
        return _plain(plain, number)

    def _flow_plain(self) -> str:
        text = self._lines[self._row]
        match = t.cast("re.Match[str]", _FLOW_PLAIN.match(text, self._column))
        plain = match[0].rstrip()
        if "?" in plain or plain.startswith(":") or re.compile(r":[,\[\]{}]").match(text, match.end() - 1):
            raise YamlError(self._row + 1, f"'{plain}' is not supported in brackets; put it in quotes")
        self._column = match.end()
        return plain

    def _flow_next(self) -> str:
        """The next character that is neither white space nor comment, possibly on a later line."""
        while self._row < len(self._lines):
            text = self._lines[self._row]
            if self._column == 0 and re.match(r"(---|\.\.\.)(\s|$)", text):
                break
            while self._column < len(text) and text[self._column] == " ":
                self._column += 1
            comment = re.compile(r"(?<![^ ])#").match(text, self._column)
            if self._column < len(text) and not comment:
                if text[self._column] == "\t":
                    raise YamlError(self._row + 1, "tabs are not supported; use spaces")
                return text[self._column]
            self._row += 1
            self._column = 0
        raise YamlError(min(self._row + 1, len(self._lines)), "a bracket is not closed")

    def _flow_sequence(self) -> t.List[Node]:
        items: t.List[Node] = []
        self._column += 1
        while self._flow_next() != "]":
            items.append(self._flow())
            if self._flow_separator("]") == ":":
                raise YamlError(self._row + 1, "a mapping without braces is not supported in a list")
        self._column += 1
        return items

    def _flow_mapping(self) -> t.Dict[str, Node]:
        result: t.Dict[str, Node] = {}
        self._column += 1
        while self._flow_next() != "}":
            number = self._row + 1
            char = self._lines[self._row][self._column]
            if char in "[{":
                raise YamlError(number, "expected a key, found a collection")
            quoted = char in "\"'"
            key = self._flow() if quoted else _key_text(self._flow_plain(), number)
            if key in result:
                raise YamlError(number, f"the key '{key}' is there twice")
            if self._flow_next() != ":" or self._row + 1 != number:
                raise YamlError(number, f"expected ':' and a value after the key '{key}'")
            self._column += 1
            result[key] = None if self._flow_next() in ",}" else self._flow()
            if self._flow_separator("}") == ":":
                raise YamlError(self._row + 1, "expected ',' or '}', found ':'")
        self._column += 1
        return result

    def _flow_separator(self, closing: str) -> str:
        """Skips a comma, but neither the end of the collection nor a colon."""
        char = self._flow_next()
        if char == ",":
            self._column += 1
        elif char not in (closing, ":"):
            raise YamlError(self._row + 1, f"expected ',' or '{closing}', found '{char}'")
        return char


def _is_blank(text: str) -> bool:
    return not text or text.startswith("#")


def _check_blank(text: str, line: int) -> None:
    if not re.fullmatch(r" *(\s#.*)?", text):
        raise YamlError(line, f"unexpected '{text.strip()}' after a value")


def _key_text(text: str, line: int) -> str:
    """The JSON key for a plain key (sigs.k8s.io/yaml, convertToJSONableObject)."""
    if text == "<<":
        raise YamlError(line, "merge keys are not supported")
    value = _plain(text, line) if text else None
    if isinstance(value, str):
        return value
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int):
        return str(value)
    raise YamlError(line, f"the key '{text}' is neither text nor a whole number; put it in quotes")


def _plain(text: str, line: int) -> Node:
    """The value of a plain scalar (gopkg.in/yaml.v2, resolve.go)."""
    if "\t" in text:
        raise YamlError(line, "tabs are not supported; use spaces")
    if text[:1] in _REFUSED_STARTS:
        raise YamlError(line, f"{_REFUSED_STARTS[text[0]]} not supported: '{text}'")
    if text[:1] in (",", "]", "}", "|", "#") or re.match(r"[-?:](\s|$)", text):
        raise YamlError(line, f"a plain value cannot start like '{text}'; put it in quotes")
    if text in _WORDS:
        return _WORDS[text]
    if text in ("=", "<<"):
        raise YamlError(line, f"'{text}' is not supported as a value; put it in quotes")
    if _NOT_JSON.fullmatch(text):
        raise YamlError(line, f"'{text}' has no JSON value; put it in quotes if it is text")
    digits = text.replace("_", "") if text[0] in "+-.0123456789" else text
    if _INTEGER.fullmatch(digits):
        number = _integer(digits)
        return number if -(2**63) <= number < 2**64 else float(number)
    if _FLOAT.fullmatch(digits):
        return float(digits)
    return text


def _integer(digits: str) -> int:
    """Go's strconv.ParseInt(digits, 0, 64): a leading 0 means octal."""
    unsigned = digits.lstrip("+-")
    octal = re.fullmatch(r"0[0-7]+", unsigned)
    value = int(unsigned, 8 if octal else 0)
    return -value if digits.startswith("-") else value


def _quoted(text: str, start: int, line: int) -> t.Tuple[str, int]:
    """The value of the quoted scalar at `start`, and where it ends."""
    if text[start] == "'":
        match = re.compile(r"'((?:[^']|'')*)'").match(text, start)
        if match is None:
            raise YamlError(line, "a quote is not closed on its line (scalars over several lines are not supported)")
        return match[1].replace("''", "'"), match.end()
    match = re.compile(r'"((?:[^"\\]|\\.)*)"').match(text, start)
    if match is None:
        raise YamlError(line, "a quote is not closed on its line (scalars over several lines are not supported)")
    return _unescape(match[1], line), match.end()


def _unescape(body: str, line: int) -> str:
    parts: t.List[str] = []
    position = 0
    while position < len(body):
        char = body[position]
        position += 1
        if char != "\\":
            parts.append(char)
            continue
        kind = body[position]
        position += 1
        if kind in _ESCAPES:
            parts.append(_ESCAPES[kind])
            continue
        width = _HEX_ESCAPES.get(kind, 0)
        digits = body[position : position + width]
        if not width or not re.fullmatch(rf"[0-9a-fA-F]{{{width}}}", digits):
            raise YamlError(line, f"the escape '\\{kind}' is not supported")
        code = int(digits, 16)
        if 0xD800 <= code <= 0xDFFF or code > 0x10FFFF:
            raise YamlError(line, f"the escape '\\{kind}{digits}' is not a character")
        parts.append(chr(code))
        position += width
    return "".join(parts)
