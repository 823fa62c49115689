# SPDX-License-Identifier: GPL-3.0-or-later
"""Make the tables of what minor versions removed, control/upgrade/removed_settings.py, from Kubernetes' own Go sources.

Of each minor version, its first release is read: the modules k8s.io/kubernetes, k8s.io/apiserver, k8s.io/client-go and
k8s.io/component-base, which the `go` command fetches into the sandbox's cache. Nothing is compiled. After a new minor, run it
with the new --newest.
"""

from __future__ import annotations

import re
import textwrap
from collections.abc import Iterable, Mapping
from pathlib import Path

from sandbox.gobuild import Go
from tools.tables import CONTROL, OLDEST, run

TARGET = CONTROL / "upgrade/removed_settings.py"
KLOG = "v2.8.0"
"""The release of k8s.io/klog/v2 whose flags all kubelets took whose logs package initialises them itself."""
GATE_FILES = {
    "kubernetes": ("pkg/features/*.go",),
    "apiserver": ("pkg/features/*.go",),
    "client-go": ("features/*.go",),
    "component-base": ("logs/api/v1/*.go", "metrics/features/*.go", "zpages/features/*.go"),
}
FLAG_FILES = {
    "kubernetes": ("cmd/kubelet/app/options/*.go", "pkg/kubelet/config/flags.go", "pkg/credentialprovider/azure/*.go"),
    "component-base": ("logs/*.go", "logs/api/v1/*.go"),
}

Sources = Mapping[str, Path]
"""Module without k8s.io/ -> its folder."""

_COMMENT = re.compile(r"//.*")
_GATE = re.compile(r'^\s*(?:const )?(\w+)\s+(?:\w+\.)?Feature = "(\w+)"', re.MULTILINE)
_REGISTERED = re.compile(r"^\s*(?:\w+\.)?(\w+):\s*\{", re.MULTILINE)
_FLAG = re.compile(r'(?:\.\w*Var(?:P)?\((?:[^"]*?,)?\s*|\bfs\.Bool\()"([a-z0-9][a-z0-9_-]*)"')
_CADVISOR_CONSTANT = re.compile(r"\bregister\(global, local, cadvisorflags\.(\w+)\)")
_CADVISOR_FLAG = re.compile(r'\bregister(?:Deprecated)?\(global, local, "([\w-]+)"')
_PLUGIN = re.compile(r"\.PluginName,\s*// (\w+)")


def texts(folder: Path, patterns: Iterable[str]) -> list[str]:
    """The Go sources that match, without tests."""
    files = sorted(file for pattern in patterns for file in folder.glob(pattern) if not file.stem.endswith("_test"))
    return [file.read_text() for file in files]


def feature_gates(sources: Iterable[str]) -> set[str]:
    """The gates that are defined, and registered with their maturity."""
    joined = _COMMENT.sub("", "\n".join(sources))
    registered = set(_REGISTERED.findall(joined))
    return {name for constant, name in _GATE.findall(joined) if constant in registered}


def kubelet_flags(sources: Iterable[str], klog: str) -> set[str]:
    """The kubelet's flags.

    :param sources: its options, and component-base's logs, which add klog's flags, up to 1.25 all of them
    """
    joined = "\n".join(sources)
    found = {*_FLAG.findall(joined), *_CADVISOR_FLAG.findall(joined)}
    # the constants of cAdvisor are named as their flags: HousekeepingInterval = "housekeeping_interval"
    found |= {re.sub(r"(?<!^)(?=[A-Z])", "-", constant).lower() for constant in _CADVISOR_CONSTANT.findall(joined)}
    if "klog.InitFlags(" in joined:
        found |= set(_FLAG.findall(klog))
    return {name.replace("_", "-") for name in found}


def removed(by_minor: Mapping[int, set[str]], newest: int) -> dict[str, int]:
    """Name -> the first minor version without it, of all names that an older one has and the newest has not."""
    last = {name: minor for minor, names in sorted(by_minor.items()) for name in names}
    return {name: minor + 1 for name, minor in last.items() if minor < newest}


def _table(name: str, description: str, found: Mapping[str, int]) -> list[str]:
    lines = [f"{name} = by_name(", "    {"]
    for minor in sorted(set(found.values())):
        words = textwrap.wrap(
            " ".join(sorted(key for key in found if found[key] == minor)), 105, break_on_hyphens=False
        )
        if len(words) == 1:
            lines.append(f'        {minor}: "{words[0]}",')
            continue
        lines += [f"        {minor}: (", *(f'            "{line} "' for line in words[:-1])]
        lines += [f'            "{words[-1]}"', "        ),"]
    return [*lines, "    }", ")", f'"""{description}"""', ""]


def render(
    flags: Mapping[str, int], gates: Mapping[str, int], plugins: Mapping[str, int], apis: Mapping[str, int]
) -> str:
    """The Python module with the tables."""
    lines = [
        "# SPDX-License-Identifier: GPL-3.0-or-later",
        '"""What later kubelets, API servers and kubeadms no longer know, made by tools/removed_settings.py."""',
        "",
        "from __future__ import annotations",
        "",
        "from collections.abc import Mapping",
        "",
        "",
        "def by_name(removed: Mapping[int, str]) -> dict[str, int]:",
        '    """Name -> the first minor version of 1.x without it."""',
        "    return {name: minor for minor, names in removed.items() for name in names.split()}",
        "",
        "",
        *_table("FLAGS", "The kubelet's flags.", flags),
        *_table("GATES", "Feature gates of the kubelet and the control plane, which share their definitions.", gates),
        *_table("ADMISSION_PLUGINS", "The API server's admission plugins.", plugins),
        *_table("KUBEADM_APIS", "Versions of kubeadm's configuration API.", apis),
    ]
    return "\n".join(lines)


def read_minor(sources: Sources, klog: str) -> tuple[set[str], set[str], set[str], set[str]]:
    """Flags, feature gates, admission plugins and kubeadm's API versions of one minor version."""
    kubernetes = sources["kubernetes"]
    gates = feature_gates(text for module, files in GATE_FILES.items() for text in texts(sources[module], files))
    flags = kubelet_flags(
        (text for module, files in FLAG_FILES.items() for text in texts(sources[module], files)), klog
    )
    plugins = set(_PLUGIN.findall((kubernetes / "pkg/kubeapiserver/options/plugins.go").read_text()))
    apis = {folder.name for folder in (kubernetes / "cmd/kubeadm/app/apis/kubeadm").glob("v1*")}
    return flags, gates, plugins, apis


def tables(go: Go, newest: int) -> str:
    """The module's text, from the sources of all minor versions."""
    klog = (go.source("k8s.io/klog/v2", KLOG) / "klog.go").read_text()
    by_minor = {}
    for minor in range(OLDEST, newest + 1):
        sources = {
            module: go.source(f"k8s.io/{module}", f"v{1 if module == 'kubernetes' else 0}.{minor}.0")
            for module in GATE_FILES
        }
        by_minor[minor] = read_minor(sources, klog)
        print(f"1.{minor}:", *(len(names) for names in by_minor[minor]), flush=True)
    flags, gates, plugins, apis = (
        removed({minor: found[index] for minor, found in by_minor.items()}, newest) for index in range(4)
    )
    return render(flags, gates, plugins, apis)


if __name__ == "__main__":
    run(TARGET, tables, __doc__)
