# SPDX-License-Identifier: GPL-3.0-or-later
"""Make the tables of what sets fields of KubeletConfiguration besides files, control/kubelet/field_sources.py, from
Kubernetes' own Go sources.

Of each minor version, its first release is read: the modules k8s.io/kubernetes, k8s.io/kubelet, k8s.io/component-base and
k8s.io/api, which the `go` command fetches into the sandbox's cache. Nothing is compiled. After a new minor, run it with the
new --newest.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from sandbox.gobuild import Go
from tools.kubelet_fields import ROOT, SOURCES, TYPE_META, fields_of, read_types
from tools.tables import CONTROL, OLDEST, run

TARGET = CONTROL / "kubelet/field_sources.py"
OPTIONS = "cmd/kubelet/app/options/options.go"
"""AddKubeletConfigFlags, in which `c` is the configuration."""
LOG_OPTIONS = ("logs/*.go", "logs/api/v1/*.go")
"""In k8s.io/component-base: flags of LoggingConfiguration, which is `c` there."""
LOGGING = "Logging"
DEFAULTS = "pkg/kubelet/apis/config/v1beta1/defaults*.go"
SERVER = "cmd/kubelet/app/server*.go"
MOVED = frozenset(("systemReserved",))
"""Fields that the kubelet changes before it runs, but of which `running.py` knows how."""

_FLAG = re.compile(r'\.\w*VarP?\([^"\n]*?&c\.([\w.]+)[)}]*,\s*(?:"([\w-]+)"|(\w+))')
_CONSTANT = re.compile(r'^(?:const)?\s*(\w+)\s*= "([\w-]+)"', re.MULTILINE)
_GO_FIELD = re.compile(r'^[ \t]*(?:(\w+)[ \t]+)?([\w.\[\]*]+)[ \t]+`json:"(\w*)(?:,[\w,]*)?"', re.MULTILINE)
_DEFAULT = re.compile(r"^\s*obj\.([\w.]+) = |\(&obj\.([\w.]+)\)", re.MULTILINE)
_FILLED = re.compile(r"^\s*(?:kc|s)\.([A-Z][\w.]*) = ", re.MULTILINE)


@dataclass(frozen=True)
class Types:
    """The Go types of one minor version's KubeletConfiguration."""

    structs: Mapping[str, str]
    """Name -> body."""
    named: Mapping[str, str]
    """Name of another type -> what it stands for."""

    @classmethod
    def of(cls, texts: Iterable[str]) -> Types:
        """The types that Go sources define."""
        return cls(*read_types(texts))

    def path(self, go: str) -> str | None:
        """The names in YAML of a field that Go names, such as authentication.x509.clientCAFile; None if it has none.

        Fields of other types, such as that of a duration, do not count.
        """
        names: list[str] = []
        struct = ROOT
        for part in go.split("."):
            known = self._fields(struct) if struct in self.structs else {}
            if part not in known:
                break
            name, struct = known[part]
            names.append(name)
        return ".".join(names) or None

    def leaves(self, struct: str = ROOT, where: str = "") -> Iterator[str]:
        """The paths of all fields whose type is not a struct."""
        for name, kind in fields_of(struct, self.structs, self.named).items():
            if kind in self.structs and kind != struct:
                yield from self.leaves(kind, f"{where}{name}.")
            elif name not in TYPE_META:
                yield f"{where}{name}"

    def _fields(self, struct: str) -> dict[str, tuple[str, str]]:
        """Go's name of a field -> its name in YAML, and its type without package and pointer."""
        fields: dict[str, tuple[str, str]] = {}
        for go, kind, name in _GO_FIELD.findall(self.structs[struct]):
            bare = kind.rpartition(".")[2].lstrip("*")
            if name:
                fields[go] = (name, bare)
            elif bare in self.structs:
                fields |= self._fields(bare)
        return fields


def flag_fields(types: Types, options: str, log_options: Sequence[str]) -> dict[str, str]:
    """Flag -> the field that it sets.

    :param options: the source of the kubelet's options
    :param log_options: the sources of component-base's
    :raises ValueError: for a flag whose name or field is not known
    """
    joined = "\n".join(log_options)
    constants = dict(_CONSTANT.findall(joined))
    found = {}
    for source, prefix in ((options, ""), (joined, f"{LOGGING}.")):
        for go, literal, constant in _FLAG.findall(source):
            flag, path = literal or constants.get(constant), types.path(prefix + go)
            if flag is None or path is None:
                raise ValueError(
                    f"the flag {literal or constant} for {prefix}{go}: expected a name and a field that are known"
                )
            found[flag] = path
    return found


def filled_in(types: Types, sources: Iterable[str]) -> set[str]:
    """The fields, or structs as a whole, to which a kubelet gives values itself, by default or before it runs."""
    joined = "\n".join(sources)
    names = [*("".join(found) for found in _DEFAULT.findall(joined)), *_FILLED.findall(joined)]
    return {path for name in names if (path := types.path(name))} - MOVED


def without_default(leaves: Iterable[str], filled: Iterable[str]) -> set[str]:
    """The fields that no kubelet fills in."""
    known = {*filled}
    return {path for path in leaves if not any(path == each or path.startswith(f"{each}.") for each in known)}


def render(flags: Mapping[str, str], unfilled: Iterable[str], newest: int) -> str:
    """The Python module with the tables."""
    lines = [
        "# SPDX-License-Identifier: GPL-3.0-or-later",
        '"""What sets fields of KubeletConfiguration besides files, made by tools/field_sources.py."""',
        "",
        "from __future__ import annotations",
        "",
        "FLAG_FIELDS: dict[str, str] = {",
        *(f'    "{flag}": "{path}",' for flag, path in sorted(flags.items())),
        "}",
        f'"""Flag -> the field that it sets, in any version from 1.{OLDEST} to 1.{newest} (AddKubeletConfigFlags in {OPTIONS}, and',
        'k8s.io/component-base/logs)."""',
        "",
        "WITHOUT_DEFAULT = frozenset(",
        "    (",
        *(f'        "{path}",' for path in sorted(unfilled)),
        "    )",
        ")",
        f'"""Fields that no kubelet from 1.{OLDEST} to 1.{newest} fills in (SetDefaults_KubeletConfiguration in',
        "pkg/kubelet/apis/config/v1beta1/defaults.go, and cmd/kubelet/app/server.go), so a value in configz comes from a file or a",
        'flag."""',
    ]
    return "\n".join(lines) + "\n"


def _texts(folder: Path, *patterns: str) -> list[str]:
    files = sorted(file for pattern in patterns for file in folder.glob(pattern) if not file.stem.endswith("_test"))
    return [file.read_text() for file in files]


def tables(go: Go, newest: int) -> str:
    """The module's text, from the sources of all minor versions."""
    flags: dict[str, str] = {}
    leaves: set[str] = set()
    filled: set[str] = set()
    for minor in range(OLDEST, newest + 1):
        folders = {module: go.source(module, f"v0.{minor}.0") for module, _file in SOURCES}
        types = Types.of(file.read_text() for module, name in SOURCES if (file := folders[module] / name).exists())
        kubernetes = go.source("k8s.io/kubernetes", f"v1.{minor}.0")
        options = (kubernetes / OPTIONS).read_text()
        flags |= flag_fields(types, options, _texts(folders["k8s.io/component-base"], *LOG_OPTIONS))
        leaves |= {*types.leaves()}
        filled |= filled_in(types, _texts(kubernetes, DEFAULTS, SERVER))
        print(
            f"1.{minor}: {len(flags)} flags, {len(without_default(leaves, filled))} fields without a default",
            flush=True,
        )
    return render(flags, without_default(leaves, filled), newest)


if __name__ == "__main__":
    run(TARGET, tables, __doc__)
