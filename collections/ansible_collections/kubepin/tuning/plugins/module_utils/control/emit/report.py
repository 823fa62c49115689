# SPDX-License-Identifier: GPL-3.0-or-later
"""The files and the report of settings for new nodes. Pure: what was read from each node in, plain data and text out."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from ansible_collections.kubepin.tuning.plugins.module_utils.common.cpuset import format_cpuset
from ansible_collections.kubepin.tuning.plugins.module_utils.common.errors import TuningError
from ansible_collections.kubepin.tuning.plugins.module_utils.common.problem import Problem, module_failed, to_dicts
from ansible_collections.kubepin.tuning.plugins.module_utils.control.cpus.topology import Topology
from ansible_collections.kubepin.tuning.plugins.module_utils.control.emit import problems
from ansible_collections.kubepin.tuning.plugins.module_utils.control.emit.formats import FORMATS
from ansible_collections.kubepin.tuning.plugins.module_utils.control.emit.node_settings import (
    Example,
    NodeSettings,
    by_machine_type,
    settings_for,
    shown_settings,
)
from ansible_collections.kubepin.tuning.plugins.module_utils.control.switch.desired import static_policy_of
from ansible_collections.kubepin.tuning.plugins.module_utils.control.words import counted

Data = Mapping[str, Any]

SCHEMA = 1
_LABEL = re.compile(r"[a-z]([a-z0-9-]{0,38}[a-z0-9])?", re.ASCII)


def node_settings(nodes: Sequence[Data], formats: str | Sequence[str], name: str) -> dict[str, Any]:
    """The files that give new nodes the settings, in each format, or every problem with that.

    :param nodes: for each node its name as `node`, what `node_facts` says of it, and role node_settings' variables without
        their prefix as `settings`
    :param formats: names of FORMATS; a text joins them by commas
    :param name: names the machine type, where a format needs a name
    """
    wanted = _names(formats)
    unknown = [problems.format_unknown(each, list(FORMATS)) for each in wanted if each not in FORMATS]
    found = unknown if wanted else [problems.no_format(list(FORMATS))]
    if not _LABEL.fullmatch(name):
        found.append(problems.name_invalid(name))
    each_found: list[NodeSettings] = []
    for node in nodes:
        settings, of_node = _of_node(node, [each for each in wanted if each in FORMATS])
        found += of_node
        each_found += [settings] if settings else []
    types = by_machine_type(each_found, name) if each_found and not found else []
    emitted = [(node, [(each, FORMATS[each].write(node)) for each in wanted]) for node in types]
    for _node, written in emitted:
        found += [problem for _format, one in written for problem in one.problems if problem not in found]
    if found:
        return {"schema": SCHEMA, "problems": to_dicts(found), "machine_types": [], "files": []}
    return {
        "schema": SCHEMA,
        "problems": [],
        "machine_types": [
            {
                "name": node.name,
                "nodes": list(node.nodes),
                "kubelet_version": node.version,
                "cpus": format_cpuset(node.topology.online),
                "settings": node.settings,
                "reservation": node.reservation,
                "notes": list(node.notes),
                "formats": [
                    {
                        "format": format_name,
                        "use": FORMATS[format_name].use.replace("{name}", node.name),
                        "notes": [*one.notes, *_unplaced(node, format_name)],
                        "files": [f"{node.name}/{format_name}/{file.path}" for file in one.files],
                    }
                    for format_name, one in written
                ],
            }
            for node, written in emitted
        ],
        "files": [
            {"path": f"{node.name}/{format_name}/{file.path}", "content": file.text}
            for node, written in emitted
            for format_name, one in written
            for file in one.files
        ],
    }


def _names(formats: str | Sequence[str]) -> list[str]:
    parts = formats.split(",") if isinstance(formats, str) else formats
    return list(dict.fromkeys(name for part in parts if (name := str(part).strip())))


def _of_node(node: Data, formats: Sequence[str]) -> tuple[NodeSettings | None, list[Problem]]:
    """The settings for new nodes like this one; every problem that one of the formats has with it, with its name.

    Fields that a format clears decide about problems only: kubepin manages none of them.
    """
    name, kubelet, variables = node["node"], node["kubelet"], node["settings"]
    if node["error"]:
        return None, [problems.of_node(name, module_failed(node["error"]))]
    desired, found = static_policy_of(variables)
    try:
        topology = Topology.of(node["topology"])
    except TuningError as exc:
        found = [*exc.problems, *found]
    if found or desired is None:
        return None, [problems.of_node(name, problem) for problem in found]
    version = variables["kubelet_version"] or kubelet.get("version")
    if node["kubelet_error"] and version is None:
        return None, [problems.of_node(name, module_failed(node["kubelet_error"]))]
    example = Example(name, topology, version, kubelet.get("effective"), node["kubelet_error"])
    settings = None
    for cleared in dict.fromkeys(FORMATS[each].cleared for each in formats) or [frozenset[str]()]:
        settings, refused = settings_for(example, desired, cleared, variables["system_slices"])
        found += [problem for problem in refused if problem not in found]
    return settings, [problems.of_node(name, problem) for problem in found]


def _unplaced(node: NodeSettings, format_name: str) -> list[str]:
    if not node.system_slices or FORMATS[format_name].places_files:
        return []
    return [
        "These files only contain the kubelet's settings, not those that confine system daemons to the reserved CPUs. Write the latter "
        "with the format drop-in, or run tune-gpu-nodes.yml on new nodes."
    ]


def node_settings_text(result: Data) -> str:
    """What `node_settings` returned as text."""
    if result["problems"]:
        return "\n".join(problem["text"] for problem in result["problems"])
    types = result["machine_types"]
    lines = [f"kubepin: settings for new nodes of {counted(len(types), 'machine type')}. No node was touched."]
    if len(types) > 1:
        lines.append(
            "The machine types differ in their CPUs, settings or version: reserved CPUs of one are wrong for another. Give each its own "
            "group, pool or image."
        )
    for each in types:
        lines += ["", f"== {each['name']}: new nodes like {', '.join(each['nodes'])}", *_type_lines(each)]
    return "\n".join(lines)


def _type_lines(machine: Data) -> list[str]:
    lines = [f"  CPUs {machine['cpus']}, kubelet {machine['kubelet_version']}"]
    for name, value in shown_settings(machine["settings"]).items():
        reason = f"   ({machine['reservation']})" if name == "reservedSystemCPUs" else ""
        lines.append(f"  {name}: {value}{reason}")
    lines += [f"  note: {note}" for note in machine["notes"]]
    for written in machine["formats"]:
        lines += ["", f"  {written['format']}: {written['use']}"]
        lines += [f"    {path}" for path in written["files"]]
        lines += [f"    note: {note}" for note in written["notes"]]
    return lines
