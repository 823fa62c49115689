# SPDX-License-Identifier: GPL-3.0-or-later
"""Pure: the files from which the snaps MicroK8s and Canonical Kubernetes (k8s) take the kubelet's arguments.

canonical/microk8s@d099c90: build-scripts/components/kubernetes/patches/v1.36.0/0000-Kubelite-integration.patch
(ReadArgsFromFile), microk8s-resources/default-args/kubelet, microk8s-resources/actions/common/utils.sh
(sanitise_args_kubelet, which deletes whole lines). canonical/k8s-snap@d924cc2: k8s/lib.sh (k8s::common::execute).
canonical/k8sd@1417866: pkg/snap/util/arguments.go (UpdateServiceArguments, which sorts the lines), pkg/snap/snap.go.
"""

from __future__ import annotations

import re
import typing as t

from ansible_collections.kubepin.tuning.plugins.module_utils.common.kubelet.flags import FlagError, flags_in, words_in

_PLAIN = re.compile(r"[\w./:=,@%+-]*", re.ASCII)
_ALWAYS_PLAIN = " \t\"'\\`$"
"""What neither of the two can pass to the kubelet literally."""


class Snap(t.NamedTuple):
    """A snap that runs a kubelet."""

    manager: str
    """Its name in kubepin, as a layout and as a format of `kubepin emit`."""
    title: str
    service: str
    """The systemd service."""
    program: str
    """What the kubelet's command line begins with; MicroK8s runs the kubelet inside the program kubelite."""
    folder: str
    """Where the snap is mounted ($SNAP)."""
    data: str
    """What a refresh copies, and `snap revert` restores ($SNAP_DATA)."""
    common: str
    """What stays the same in all revisions ($SNAP_COMMON)."""
    arguments: str
    """The file of the kubelet's arguments."""
    by_shell: bool
    """Whether a shell reads the file; kubelite removes all quotes and splits at spaces."""


SNAPS = (
    Snap(
        manager="microk8s",
        title="MicroK8s",
        service="snap.microk8s.daemon-kubelite",
        program="kubelet",
        folder="/snap/microk8s/current",
        data="/var/snap/microk8s/current",
        common="/var/snap/microk8s/common",
        arguments="/var/snap/microk8s/current/args/kubelet",
        by_shell=False,
    ),
    Snap(
        manager="k8s-snap",
        title="Canonical Kubernetes",
        service="snap.k8s.kubelet",
        program="/snap/k8s/current/bin/kubelet",
        folder="/snap/k8s/current",
        data="/var/snap/k8s/current",
        common="/var/snap/k8s/common",
        arguments="/var/snap/k8s/common/args/kubelet",
        by_shell=True,
    ),
)


def snap_of(manager: str) -> t.Optional[Snap]:
    """The snap that set a node up; None if none did."""
    return next((snap for snap in SNAPS if snap.manager == manager), None)


class _Word(t.NamedTuple):
    line: int
    raw: str
    """As it stands in the file."""
    argument: str


def arguments_in(snap: Snap, text: t.Optional[str]) -> t.List[str]:
    """The kubelet's arguments in a file's text (None: no file).

    :raises FlagError: if a shell reads it and a quote is not closed
    """
    return [word.argument for word in _words(snap, text or "")]


def rewrite_arguments(snap: Snap, text: t.Optional[str], remove: t.Collection[str], add: t.Sequence[str]) -> str:
    """*text* (None: no file) with some flags removed, and others added on separate lines.

    All other lines and arguments keep every byte. If all lines are sorted, as k8sd leaves them, the new ones are sorted
    too, so that k8sd's next update does not change the text. A text that already has these arguments is
    returned unchanged.

    :param remove: names of flags (``reserved-cpus``), written as ``--flag=value`` or ``--flag value``
    :param add: arguments (``--flag=value``)
    :raises FlagError: if a shell reads it and a quote is not closed, or if a value cannot be written
    """
    content = text or ""
    words = _words(snap, content)
    flags = [flag for flag in flags_in([word.argument for word in words]) if flag.name in remove]
    gone = {index for flag in flags for index in range(flag.start, flag.end)}
    if sorted(words[index].argument for index in gone) == sorted(add):
        return content
    lines: t.List[t.Optional[str]] = list(_lines(content))
    for number in {words[index].line for index in gone}:
        kept = [word.raw for index, word in enumerate(words) if word.line == number and index not in gone]
        lines[number] = " ".join(kept) if kept else None
    left = [line for line in lines if line is not None]
    added = [_line(argument) for argument in add]
    in_order = left == sorted(left) and bool(left)
    return "".join(f"{line}\n" for line in (sorted([*left, *added]) if in_order else [*left, *added]))


def _lines(text: str) -> t.List[str]:
    lines = text.split("\n")
    return lines[:-1] if not lines[-1] else lines


def _line(argument: str) -> str:
    name, _equals, value = argument.partition("=")
    if any(sign in value for sign in _ALWAYS_PLAIN):
        raise FlagError(f"{name} is '{value}', which a file of arguments cannot express", flag=name, value=value)
    return argument if _PLAIN.fullmatch(value) else f'{name}="{value}"'


def _words(snap: Snap, text: str) -> t.List[_Word]:
    """The arguments with their lines."""
    found: t.List[_Word] = []
    for number, line in enumerate(_lines(text)):
        if line.lstrip().startswith("#"):
            continue
        found += [_Word(number, raw, _expanded(snap, word)) for raw, word in _split(snap, line)]
    return found


def _split(snap: Snap, line: str) -> t.List[t.Tuple[str, str]]:
    """The words of a line, each as written and without its quotes."""
    if not snap.by_shell:
        return [(raw, re.sub("[\"']", "", raw)) for raw in line.strip().split(" ") if raw]
    words = words_in(line)
    if any(_is_open(raw) for raw, _word in words):
        raise FlagError("a quote is not closed; close it", text=line)
    return words


def _is_open(raw: str) -> bool:
    """Whether a quote in a word is not closed."""
    rest = re.sub(r"""\\.|"(?:\\.|[^"\\])*"|'[^']*'""", "", raw, flags=re.DOTALL)
    return '"' in rest or "'" in rest


def _expanded(snap: Snap, word: str) -> str:
    """The word with the variables of a snap that name its folders; others are kept."""
    values = {"SNAP": snap.folder, "SNAP_DATA": snap.data, "SNAP_COMMON": snap.common}
    return re.sub(r"\$(?:\{(\w+)\}|(\w+))", lambda match: values.get(match[1] or match[2], match[0]), word)
