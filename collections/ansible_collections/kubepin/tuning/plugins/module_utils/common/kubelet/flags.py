# SPDX-License-Identifier: GPL-3.0-or-later
"""Pure: the kubelet's command line and the systemd environment files that it comes from."""

from __future__ import annotations

import posixpath
import re
import typing as t

from ansible_collections.kubepin.tuning.plugins.module_utils.common.errors import InvalidText

EXTRA_ARGS = "KUBELET_EXTRA_ARGS"

TEXT, BOOLEAN, INTEGER, LIST, MAP, OPTIONS, GATES, THRESHOLDS, MEMORY = range(9)

FLAGS: t.Dict[str, t.Tuple[str, int]] = {
    "cpu-manager-policy": ("cpuManagerPolicy", TEXT),
    "cpu-manager-policy-options": ("cpuManagerPolicyOptions", OPTIONS),
    "cpu-manager-reconcile-period": ("cpuManagerReconcilePeriod", TEXT),
    "reserved-cpus": ("reservedSystemCPUs", TEXT),
    "kube-reserved": ("kubeReserved", MAP),
    "system-reserved": ("systemReserved", MAP),
    "kube-reserved-cgroup": ("kubeReservedCgroup", TEXT),
    "system-reserved-cgroup": ("systemReservedCgroup", TEXT),
    "enforce-node-allocatable": ("enforceNodeAllocatable", LIST),
    "topology-manager-policy": ("topologyManagerPolicy", TEXT),
    "topology-manager-scope": ("topologyManagerScope", TEXT),
    "topology-manager-policy-options": ("topologyManagerPolicyOptions", MAP),
    "memory-manager-policy": ("memoryManagerPolicy", TEXT),
    "reserved-memory": ("reservedMemory", MEMORY),
    "feature-gates": ("featureGates", GATES),
    "eviction-hard": ("evictionHard", THRESHOLDS),
    "cgroup-driver": ("cgroupDriver", TEXT),
    "healthz-port": ("healthzPort", INTEGER),
    "healthz-bind-address": ("healthzBindAddress", TEXT),
    "cpu-cfs-quota": ("cpuCFSQuota", BOOLEAN),
    "fail-swap-on": ("failSwapOn", BOOLEAN),
}
"""Flag -> field of KubeletConfiguration, and the format of the flag's value (cmd/kubelet/app/options/options.go)."""

_BOOLEANS = {
    **dict.fromkeys(("1", "t", "T", "true", "TRUE", "True"), True),
    **dict.fromkeys(("0", "f", "F", "false", "FALSE", "False"), False),
}
_PART = re.compile(
    r"""(?P<bare>[^\s"'\\]+)|(?P<escaped>\\.?)|"(?P<double>(?:\\.|[^"\\])*)"?|'(?P<single>(?:\\.|[^'\\])*)'?""",
    re.DOTALL,
)
_WORD = re.compile(rf"(?:{re.sub('[?]P<[a-z]+>', '?:', _PART.pattern)})+", re.DOTALL)
_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*", re.ASCII)
_NEEDS_NO_QUOTES = re.compile(r"[\w./:=,@%+-]*", re.ASCII)

_JOINED_COMMENT = re.compile(r"(?:\\.|\\\Z|[^\\\n\r])*", re.DOTALL)

_MASK = "********"
# RFC 3986 userinfo; a password may contain what it should not, such as a slash
_USERINFO = re.compile(r"""(?<=://)(?:[^\s/"'@:]*:[^\s"']*|[^\s/"'?#@]+)(?=@)""")
_SECRET_NAME = re.compile(r"(?!.*(?:ARGS|OPTS|OPTIONS)$).*(?:PASS|SECRET|TOKEN|CREDENTIAL|KEY|AUTH).*", re.IGNORECASE)
_COMMENTED = re.compile(r"^([ \t]*[#;][#; \t]*)([A-Za-z_]\w*)=(.*)$", re.ASCII | re.MULTILINE)


class FlagError(InvalidText):
    """The kubelet would refuse a flag, or systemd could not parse an environment file."""

    code = "flag_invalid"


class Flag(t.NamedTuple):
    """A flag in a list of arguments: its name, its value if it has one, and the range [start, end) of its arguments."""

    name: str
    value: t.Optional[str]
    start: int
    end: int


class _Assignment(t.NamedTuple):
    """NAME=value in the text of an environment file, from the position `start` up to and including the end of its
    line."""

    name: str
    value: str
    start: int
    end: int


def flag_value(command_line: t.Sequence[str], name: str) -> t.Optional[str]:
    """The last value that a kubelet command line (program first) gives to the flag `name`; None if it does not."""
    values = [flag.value for flag in flags_in(command_line[1:]) if flag.name == name]
    return values[-1] if values else None


def flag_values(command_line: t.Sequence[str]) -> t.Dict[str, t.List[t.Optional[str]]]:
    """Flag -> its values in their order on a kubelet command line (program first); None for a flag without a value."""
    values: t.Dict[str, t.List[t.Optional[str]]] = {}
    for flag in flags_in(command_line[1:]):
        values.setdefault(flag.name, []).append(flag.value)
    return values


def absolute_path(path: str) -> str:
    """A path that the kubelet is given: relative ones start at /, the working directory of its service."""
    return posixpath.normpath(posixpath.join("/", path))


def flag_path(command_line: t.Sequence[str], name: str) -> t.Optional[str]:
    """The path that `flag_value` names; None if it names none."""
    path = flag_value(command_line, name)
    return absolute_path(path) if path else None


def fields_from_flags(command_line: t.Sequence[str]) -> t.Dict[str, t.Any]:
    """The KubeletConfiguration fields that a kubelet command line (program first) sets, in the form of a
    configuration file.

    A repeated flag replaces the earlier value, or adds to it if the value is a list or a map
    (k8s.io/component-base/cli/flag, and pkg/util/flag for --reserved-memory). --cpu-manager-policy-options takes one
    option at a time.

    :raises FlagError: for a value that the kubelet would refuse
    """
    fields: t.Dict[str, t.Any] = {}
    for flag in flags_in(command_line[1:]):
        if flag.name in FLAGS:
            field, kind = FLAGS[flag.name]
            value = _parse_value(flag, kind)
            if isinstance(value, dict):
                value = {**fields.get(field, {}), **value}
            elif isinstance(value, list):
                value = [*fields.get(field, []), *value]
            fields[field] = value
    return fields


def parse_environment(text: str) -> t.Dict[str, str]:
    """The variables of a file for systemd's EnvironmentFile=; the last assignment to a name wins.

    The rules are those of systemd.exec(5) and src/basic/env-file.c: comments start with # or ;, a backslash joins
    lines, quotes only count at the start of a value or after another quoted part, and lines without a valid NAME= are
    ignored. As in systemd 254 and later, a backslash at the end of a comment does not join lines.
    """
    return _variables(text, comments_join=False)


def ambiguous_variables(text: str) -> t.List[str]:
    """The variables of an environment file that systemd reads differently since version 254, because a comment ends in a
    backslash: before, the next line was a part of that comment."""
    new, old = (_variables(text, comments_join) for comments_join in (False, True))
    return sorted(name for name in {**new, **old} if new.get(name) != old.get(name))


def _variables(text: str, comments_join: bool) -> t.Dict[str, str]:
    assignments, _open_quote = _assignments(text, comments_join)
    return {assignment.name: assignment.value for assignment in assignments}


def split_arguments(text: str) -> t.List[str]:
    """Splits at unquoted, unescaped white space, as systemd splits ExecStart= and $NAME in it."""
    return [word for _raw, word in words_in(text)]


def expand_command(words: t.Sequence[str], environment: t.Mapping[str, str]) -> t.List[str]:
    """The arguments of an ExecStart= line with its variables replaced (systemd.service(5), "Command lines").

    ``$NAME`` as a separate word is split into arguments; ``${NAME}`` anywhere is replaced by the value as it is; an
    unset variable is empty; ``$$`` is a dollar sign.
    """
    result: t.List[str] = []
    for word in words:
        name = word[1:]
        if word.startswith("$") and _VARIABLE.fullmatch(name):
            result.extend(split_arguments(environment.get(name, "")))
        else:
            result.append(
                re.sub(
                    r"\$\$|\$\{(\w+)\}",
                    lambda match: "$" if match[0] == "$$" else environment.get(match[1], ""),
                    word,
                )
            )
    return result


def extra_args_of(text: t.Optional[str], variable: str = EXTRA_ARGS) -> t.List[str]:
    """The arguments in a variable of an environment file's text; none if the file (None) or the variable is missing."""
    return split_arguments(parse_environment(text or "").get(variable, ""))


def rewrite_extra_args(
    text: t.Optional[str], remove: t.Collection[str], add: t.Sequence[str], variable: str = EXTRA_ARGS
) -> str:
    """`text` of an environment file (None: no file) with the arguments in a variable changed.

    Only the last assignment to the variable, the effective one, changes. Every other line and every remaining argument
    is preserved byte for byte. If there is no assignment, one is added at the end. A text that already has these
    arguments is returned unchanged.

    :param remove: names of flags (``reserved-cpus``) to remove, written as ``--flag=value`` or ``--flag value``
    :param add: arguments (``--flag=value``) to append to the remaining ones
    :raises FlagError: if the file, or the variable's value, ends within a quote, so that nothing can be added
    """
    content = text or ""
    assignments, open_quote = _assignments(content)
    if open_quote:
        shown = mask_secrets(content)
        raise FlagError("the environment file ends within a quoted value; close the quote", text=shown)
    target = next((found for found in reversed(assignments) if found.name == variable), None)
    words = words_in(target.value) if target else []
    gone = {
        index
        for flag in flags_in([word for _raw, word in words])
        if flag.name in remove
        for index in range(flag.start, flag.end)
    }
    kept = [pair for index, pair in enumerate(words) if index not in gone]
    wanted = [*(word for _raw, word in kept), *add]
    if wanted == [word for _raw, word in words]:
        return content
    value = " ".join([*(raw for raw, _word in kept), *map(_quote_word, add)])
    if split_arguments(value) != wanted:
        shown = mask_secrets(content)
        raise FlagError(f"{variable} is '{mask_secrets(value)}', where a quote is not closed; close it", text=shown)
    line = f"{variable}={_quote_value(value)}\n"
    if target:
        return content[: target.start] + line + content[target.end :]
    if content and not content.endswith("\n"):
        content += "\n"
    # an empty line, so that a backslash at the end of the last one does not swallow the new one
    separator = "\n" if content.endswith("\\\n") else ""
    return content + separator + line


def mask_secrets(text: str) -> str:
    """`text` of an environment file as it may be shown: without the userinfo of URLs, as in a proxy's
    ``http://user:password@host``, and without the values of variables whose name speaks of a secret.

    Variables of arguments stay: a kubelet has no flag for a secret.
    """
    shown, position = [], 0
    for found in _assignments(text)[0]:
        if _SECRET_NAME.fullmatch(found.name):
            line_end = "\n" if text[: found.end].endswith("\n") else ""
            shown += [text[position : found.start], f"{found.name}={_MASK}{line_end}"]
            position = found.end
    rest = "".join([*shown, text[position:]])
    rest = _COMMENTED.sub(lambda m: f"{m[1]}{m[2]}={_MASK}" if _SECRET_NAME.fullmatch(m[2]) else m[0], rest)
    return _USERINFO.sub(_MASK, rest)


def flags_in(arguments: t.Sequence[str]) -> t.List[Flag]:
    """The flags in arguments without the program; "_" in names is "-" (component-base/cli/flag WordSepNormalizeFunc).

    A flag without ``=`` takes the next argument as its value unless it is boolean. For flags that are not in FLAGS,
    this is assumed if the next argument does not look like a flag, because the kubelet accepts no positional arguments
    (cmd/kubelet/app/server.go, "unknown command").
    """
    flags: t.List[Flag] = []
    index = 0
    while index < len(arguments) and arguments[index] != "--":
        start = index
        argument = arguments[index]
        index += 1
        if not argument.startswith("-"):
            continue
        name, equals, text = argument.lstrip("-").partition("=")
        name = name.replace("_", "-")
        value: t.Optional[str] = text if equals else None
        kind = FLAGS[name][1] if name in FLAGS else None
        if (
            not equals
            and kind != BOOLEAN
            and index < len(arguments)
            and (kind is not None or not arguments[index].startswith("-"))
        ):
            value = arguments[index]
            index += 1
        flags.append(Flag(name, value, start, index))
    return flags


def _parse_value(flag: Flag, kind: int) -> t.Any:
    if kind == BOOLEAN:
        return _boolean(flag, "true" if flag.value is None else flag.value)
    if flag.value is None:
        raise FlagError(f"--{flag.name} has no value", flag=flag.name)
    text = flag.value
    if kind == INTEGER:
        if not re.fullmatch(r"-?\d+", text, re.ASCII):
            raise _refused(flag, "a whole number")
        return int(text)
    if kind == LIST:
        return text.split(",") if text else []
    if kind == MEMORY:
        return [_reserved_memory(flag, part) for part in text.split(";")] if text else []
    if kind == TEXT:
        return text
    separator = "<" if kind == THRESHOLDS else "="
    pairs = [text] if kind == OPTIONS else text.split(",")
    result: t.Dict[str, t.Any] = {}
    for pair in filter(None, pairs):
        key, found, value = pair.partition(separator)
        if not found:
            raise _refused(flag, f"key{separator}value" + ("" if kind == OPTIONS else " pairs separated by commas"))
        result[key.strip()] = _boolean(flag, value.strip()) if kind == GATES else value.strip()
    return result


def _reserved_memory(flag: Flag, text: str) -> t.Dict[str, t.Any]:
    node, _colon, limits = text.partition(":")
    pairs = [limit.partition("=") for limit in limits.split(",")]
    if not node.isdigit() or not all(kind and amount for kind, _equals, amount in pairs):
        raise _refused(flag, "NODE:TYPE=QUANTITY[,TYPE=QUANTITY...], several of them separated by ';'")
    return {"numaNode": int(node), "limits": {kind: amount for kind, _equals, amount in pairs}}


def _boolean(flag: Flag, text: str) -> bool:
    if text not in _BOOLEANS:
        raise _refused(flag, "true or false")
    return _BOOLEANS[text]


def _refused(flag: Flag, expected: str) -> FlagError:
    return FlagError(f"--{flag.name} is '{flag.value}'; expected {expected}", flag=flag.name, value=flag.value)


def words_in(text: str) -> t.List[t.Tuple[str, str]]:
    """The words of `text`, each as written and with its quotes removed (systemd, src/basic/extract-word.c)."""
    return [(word[0], "".join(_read_part(part) for part in _PART.finditer(word[0]))) for word in _WORD.finditer(text)]


def _read_part(part: t.Match[str]) -> str:
    """A part of a word: bare text as it is, an escaped character or quoted text without backslash or quotes."""
    if part["bare"] is not None:
        return part["bare"]
    return re.sub(r"\\(.?)", r"\1", part["double"] or part["single"] or part["escaped"] or "", flags=re.DOTALL)


def _quote_word(word: str) -> str:
    if re.search(r"""[\s"'\\]""", word) or not word:
        return '"' + re.sub(r'(["\\])', r"\\\1", word) + '"'
    return word


def _quote_value(value: str) -> str:
    if _NEEDS_NO_QUOTES.fullmatch(value):
        return value
    return '"' + re.sub(r'(["\\$`])', r"\\\1", value) + '"'


def _assignments(text: str, comments_join: bool = False) -> t.Tuple[t.List[_Assignment], bool]:
    """The valid assignments in order, and whether the text ends within a quote.

    :param comments_join: whether a backslash joins the lines of a comment, as before systemd 254
    """
    result: t.List[_Assignment] = []
    position = 0
    open_quote = False
    while position < len(text):
        head = t.cast("re.Match[str]", re.compile(r"[ \t]*([^\n\r]*)").match(text, position))
        start = head.start(1)
        name, equals, _rest = head[1][1:].partition("=")
        name = head[1][:1] + name
        if comments_join and name[:1] in ("#", ";"):
            joined = t.cast("re.Match[str]", _JOINED_COMMENT.match(text, start))
            position = _line_end(text, joined.end())
            continue
        if not equals or name[:1] in ("#", ";"):
            position = _line_end(text, head.end())
            continue
        value, position, open_quote = _read_value(text, start + len(name) + 1)
        if _VARIABLE.fullmatch(name.rstrip()):
            result.append(_Assignment(name.rstrip(), value, start, position))
    return result, open_quote


def _line_end(text: str, position: int) -> int:
    return position + 1 if position < len(text) else position


def _read_value(text: str, position: int) -> t.Tuple[str, int, bool]:
    """The value at `position`, where the next line starts, and whether a quote in it is never closed."""
    parts: t.List[str] = []
    while True:
        position = t.cast("re.Match[str]", re.compile(r"[ \t]*").match(text, position)).end()
        if position >= len(text) or text[position] in "\n\r":
            return "".join(parts), _line_end(text, position), False
        quote = text[position]
        if quote not in "\"'":
            value, position = _read_plain(text, position)
            return "".join(parts) + value, position, False
        body = re.compile(r"[^']*" if quote == "'" else r'(?:\\.|\\\Z|[^"\\])*', re.DOTALL)
        match = t.cast("re.Match[str]", body.match(text, position + 1))
        parts.append(match[0] if quote == "'" else re.sub(r'\\(["\\$`\n])', _unescaped, match[0]))
        position = match.end() + 1
        if position > len(text):
            return "".join(parts), len(text), True


def _unescaped(match: t.Match[str]) -> str:
    return "" if match[1] == "\n" else match[1]


def _read_plain(text: str, position: int) -> t.Tuple[str, int]:
    match = t.cast("re.Match[str]", re.compile(r"(?:\\.|\\\Z|[^\\\n\r])*", re.DOTALL).match(text, position))
    value = re.sub(r"[ \t]+$", "", match[0]) if not re.search(r"\\[ \t]$", match[0]) else match[0]
    return re.sub(r"\\(.?)", _unescaped, value, flags=re.DOTALL), _line_end(text, match.end())
