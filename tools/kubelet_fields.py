# SPDX-License-Identifier: GPL-3.0-or-later
"""Make the table of KubeletConfiguration's fields, control/kubelet/fields.py, from Kubernetes' own Go sources.

Of each minor version, its first release is read: the modules k8s.io/kubelet, k8s.io/component-base and k8s.io/api, which
the `go` command fetches into the sandbox's cache. Nothing is compiled. After a new minor, run it with the new --newest.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

from sandbox.gobuild import Go
from tools.tables import CONTROL, OLDEST, run

TARGET = CONTROL / "kubelet/fields.py"
ROOT = "KubeletConfiguration"
SOURCES = (
    ("k8s.io/api", "core/v1/types.go"),
    ("k8s.io/component-base", "config/v1alpha1/types.go"),
    ("k8s.io/component-base", "logs/api/v1/types.go"),
    ("k8s.io/component-base", "tracing/api/v1/types.go"),
    ("k8s.io/kubelet", "config/v1beta1/types.go"),
)
"""Module and file; a type of a later file counts more than one of the same name in an earlier file."""
OWN_DECODERS = {
    "metav1.Duration": "duration",
    "metav1.Time": "time",
    "time.Duration": "int64",
    "TimeOrMetaDuration": "duration or int64",
    "resource.Quantity": "quantity",
    "resource.QuantityValue": "quantity",
}
"""Go types that read JSON in a way of their own, and what the table calls them."""
TYPE_META = {"apiVersion": "string", "kind": "string"}
BASIC = {"bool", "string", "int32", "int64", "uint32", "uint64", "float64"}

Fields = Mapping[str, str]
"""JSON name -> type."""
Spans = Mapping[str, Mapping[str, list[tuple[str, int, int]]]]
"""Struct -> JSON name -> type, first and last minor version that has it."""

_STRUCT = re.compile(r"^type (\w+) struct \{\n(.*?)^\}", re.MULTILINE | re.DOTALL)
_NAMED = re.compile(r"^type (\w+) ([\w.\[\]*]+)$", re.MULTILINE)
_FIELD = re.compile(r'^[ \t]*(?:\w+[ \t]+)?([\w.\[\]*]+)[ \t]+`json:"(\w*)(?:,[\w,]*)?"', re.MULTILINE)


def read_types(texts: Iterable[str]) -> tuple[dict[str, str], dict[str, str]]:
    """The bodies of all structs, and what all other named types stand for, in Go sources."""
    structs: dict[str, str] = {}
    named: dict[str, str] = {}
    for text in texts:
        structs |= {match[1]: match[2] for match in _STRUCT.finditer(text)}
        named |= {match[1]: match[2] for match in _NAMED.finditer(text)}
    return structs, named


def type_in_table(go: str, structs: Mapping[str, str], named: Mapping[str, str]) -> str:
    """What the table calls a Go type. Of pointers, only those to durations stay: null is no duration, but no pointer is.

    :raises ValueError: for a type that is not known
    """
    if go.startswith("*"):
        kind = type_in_table(go[1:], structs, named)
        return f"*{kind}" if kind == "duration" else kind
    for prefix in re.findall(r"^(?:\[\]|map\[[\w.]+\])", go):
        kind = type_in_table(go[len(prefix) :], structs, named)
        return f"[]{kind}" if prefix == "[]" else f"map[string]{kind}"
    bare = go.rpartition(".")[2]
    if go in OWN_DECODERS or bare in OWN_DECODERS:
        return OWN_DECODERS.get(go) or OWN_DECODERS[bare]
    if go in BASIC or bare in structs:
        return bare
    if bare in named:
        return type_in_table(named[bare], structs, named)
    raise ValueError(f"the Go type {go} is not known: expected one of the files {SOURCES}")


def fields_of(struct: str, structs: Mapping[str, str], named: Mapping[str, str]) -> dict[str, str]:
    """The fields of a struct, with those of the structs inlined in it."""
    fields: dict[str, str] = {}
    for go, name in _FIELD.findall(structs[struct]):
        if name:
            fields[name] = type_in_table(go, structs, named)
        else:
            inlined = go.rpartition(".")[2]
            fields |= TYPE_META if inlined == "TypeMeta" else fields_of(inlined, structs, named)
    return fields


def reachable(texts: Iterable[str]) -> dict[str, Fields]:
    """KubeletConfiguration and every struct in it."""
    structs, named = read_types(texts)
    found: dict[str, Fields] = {}
    todo = [ROOT]
    while todo:
        struct = todo.pop()
        if struct not in found:
            found[struct] = fields_of(struct, structs, named)
            todo += [bare for kind in found[struct].values() if (bare := re.sub(r"^.*\]|^\*", "", kind)) in structs]
    return found


def spans(by_minor: Mapping[int, Mapping[str, Fields]]) -> dict[str, dict[str, list[tuple[str, int, int]]]]:
    """The versions of every field, of what each minor version has."""
    table: dict[str, dict[str, list[tuple[str, int, int]]]] = {}
    for minor, structs in sorted(by_minor.items()):
        for struct, fields in structs.items():
            for name, kind in fields.items():
                known = table.setdefault(struct, {}).setdefault(name, [])
                if known and known[-1][0] == kind and known[-1][2] == minor - 1:
                    known[-1] = (kind, known[-1][1], minor)
                else:
                    known.append((kind, minor, minor))
    return table


def render(table: Spans, newest: int) -> str:
    """The Python module with the table."""
    lines = [
        "# SPDX-License-Identifier: GPL-3.0-or-later",
        '"""The fields of KubeletConfiguration (kubelet.config.k8s.io/v1beta1), made by tools/kubelet_fields.py."""',
        "",
        "from __future__ import annotations",
        "",
        "import typing as t",
        "",
        f"NEWEST_MINOR = {newest}",
        '"""The newest minor version of 1.x in the table."""',
        "",
        "FIELDS: t.Dict[str, t.Dict[str, t.Tuple[t.Tuple[str, int, int], ...]]] = {",
    ]
    for struct in sorted(table):
        lines.append(f'    "{struct}": {{')
        for name, known in sorted(table[struct].items()):
            listed = ", ".join(f'("{kind}", {first}, {last})' for kind, first, last in known)
            lines.append(f'        "{name}": ({listed}{"," * (len(known) == 1)}),')
        lines.append("    },")
    lines += [
        "}",
        '"""Struct -> JSON name -> Go type, first and last minor version of 1.x that have it.',
        "",
        "`duration` is metav1.Duration, and `*duration` a pointer to it; `quantity` is resource.Quantity, `time` metav1.Time.",
        '"""',
    ]
    return "\n".join(lines) + "\n"


def table(go: Go, newest: int) -> str:
    """The module's text, from the sources of all minor versions."""
    by_minor = {}
    for minor in range(OLDEST, newest + 1):
        files = [go.source(module, f"v0.{minor}.0") / file for module, file in SOURCES]
        by_minor[minor] = reachable(file.read_text() for file in files if file.exists())
        print(f"1.{minor}: {len(by_minor[minor][ROOT])} fields", flush=True)
    return render(spans(by_minor), newest)


if __name__ == "__main__":
    run(TARGET, table, __doc__)
