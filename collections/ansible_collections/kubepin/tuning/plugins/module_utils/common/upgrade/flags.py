# SPDX-License-Identifier: GPL-3.0-or-later
"""Pure: kubelet flags that later releases removed and that can be dropped."""

from __future__ import annotations

import re
import typing as t

from ansible_collections.kubepin.tuning.plugins.module_utils.common.kubelet.flags import (
    EXTRA_ARGS,
    FlagError,
    parse_environment,
    rewrite_extra_args,
    split_arguments,
)

KUBEADM_ARGS = "KUBELET_KUBEADM_ARGS"

WITHOUT_EFFECT = (
    "chaos-chance",
    "enable-cadvisor-json-endpoints",
    "redirect-container-streaming",
    "network-plugin",
    "network-plugin-mtu",
    "cni-bin-dir",
    "cni-cache-dir",
    "cni-conf-dir",
    "docker-endpoint",
    "image-pull-progress-deadline",
    "container-runtime",
    "master-service-namespace",
    "pod-infra-container-image",
)
"""Flags without effect on a kubelet with a CRI runtime; an upgrade removes them."""

_UNKNOWN = re.compile(r"unknown flag: --([a-z0-9-]+)")


def flag_names(command_line: t.Sequence[str]) -> t.List[str]:
    """The names of the flags of a command line (program first)."""
    return [word.lstrip("-").partition("=")[0].replace("_", "-") for word in command_line[1:] if word.startswith("-")]


def unknown_flag(output: str) -> t.Optional[str]:
    """The flag that a kubelet reports as unknown, if any."""
    match = _UNKNOWN.search(output)
    return match[1] if match else None


def without_flags(text: str, names: t.Collection[str]) -> str:
    """The text of an environment file without these flags in KUBELET_EXTRA_ARGS and KUBELET_KUBEADM_ARGS.

    :raises FlagError: if a value ends within a quote
    """
    if EXTRA_ARGS in parse_environment(text):
        text = rewrite_extra_args(text, names, [])
    given = parse_environment(text).get(KUBEADM_ARGS)
    if given is None:
        return text
    kept = " ".join(_kept(split_arguments(given), names))
    if kept == " ".join(split_arguments(given)):
        return text
    lines = [line for line in text.splitlines() if not line.startswith(f"{KUBEADM_ARGS}=")]
    if len(lines) != len(text.splitlines()) - 1:
        raise FlagError(f"{KUBEADM_ARGS} is not a single line: take {', '.join(names)} out of it by hand", text=text)
    return "\n".join([*lines, f'{KUBEADM_ARGS}="{kept}"']) + "\n"


def _kept(arguments: t.Sequence[str], names: t.Collection[str]) -> t.Iterator[str]:
    skip_value = False
    for word in arguments:
        if skip_value and not word.startswith("-"):
            skip_value = False
            continue
        name, equals, _value = word.lstrip("-").partition("=")
        skip_value = word.startswith("-") and name in names and not equals
        if not (word.startswith("-") and name in names):
            yield word
