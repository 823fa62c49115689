# SPDX-License-Identifier: GPL-3.0-or-later
"""Write what the code says itself: docs/reference from the documentation of modules and roles, docs/rbac.yaml from the permissions."""

from __future__ import annotations

import ast
import json
import re
import subprocess
import sys
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import yaml
from ansible_collections.kubepin.tuning.plugins.module_utils.control.cluster import permissions as rights
from antsibull_docs_parser import dom
from antsibull_docs_parser.parser import Context, parse

PROJECT = Path(__file__).resolve().parents[1]
PLUGINS = PROJECT / "collections/ansible_collections/kubepin/tuning/plugins"
REFERENCE = PROJECT / "docs/reference"
NAMESPACE = "kubepin.tuning"
WRITTEN = "Written by `make docs`; what it says stands in the code."
Data = Mapping[str, Any]

RBAC_HEAD = """\
# SPDX-License-Identifier: GPL-3.0-or-later
# Written by `make docs` from what kubepin asks the API server for before a run; docs/operations.md ("Permissions") tells how to use it.
# For each purpose a ClusterRole, and one more for what it takes in a single namespace; the groups kubepin:PURPOSE have them.
# Below Kubernetes 1.23, the labels of the namespaces do nothing: whoever may create pods there is root on every node.
"""


def rbac() -> str:
    """The manifest of the permissions."""
    bindings = [
        _binding(purpose, place)
        for purpose, rules in rights.PURPOSES.items()
        for place in sorted({rule.place for rule in rules})
    ]
    objects = [*rights.namespaces(), *rights.cluster_roles(), *bindings]
    return RBAC_HEAD + "".join("---\n" + _yaml(item) for item in objects)


_LONGEST_LIST = 110
"""Characters of a list that stands on one line."""


class _Indented(yaml.SafeDumper):
    """Lists are indented below their name, and those that are too long for a line have a line for each item."""

    def increase_indent(self, flow: bool = False, indentless: bool = False) -> None:
        super().increase_indent(flow, False)

    def represent_sequence(
        self, tag: str, sequence: Iterable[object], flow_style: bool | None = None
    ) -> yaml.SequenceNode:
        node = super().represent_sequence(tag, sequence, flow_style)
        if node.flow_style and sum(len(str(item.value)) + 2 for item in node.value) > _LONGEST_LIST:
            node.flow_style = False
        return node


def _yaml(item: object) -> str:
    return yaml.dump(item, Dumper=_Indented, sort_keys=False, default_flow_style=None, width=1000)


def _binding(purpose: str, place: str) -> dict[str, object]:
    kind = "RoleBinding" if place else "ClusterRoleBinding"
    namespace = {"namespace": rights.NAMESPACES[place]} if place else {}
    api = "rbac.authorization.k8s.io"
    return {
        "apiVersion": f"{api}/v1",
        "kind": kind,
        "metadata": {"name": f"kubepin-{purpose}", **namespace},
        "roleRef": {"apiGroup": api, "kind": "ClusterRole", "name": rights.role_name(purpose, place)},
        "subjects": [{"apiGroup": api, "kind": "Group", "name": f"kubepin:{purpose}"}],
    }


def documented(kind: str) -> dict[str, Any]:
    """Name to what ansible-doc knows of the collection's plugins of a kind (`module`, `inventory`)."""
    folder = PLUGINS / ("modules" if kind == "module" else kind)
    names = [f"{NAMESPACE}.{path.stem}" for path in sorted(folder.glob("*.py"))]
    command = [str(Path(sys.executable).parent / "ansible-doc"), "--json", "--type", kind, *names]
    done = subprocess.run(command, cwd=PROJECT, capture_output=True, text=True, check=True)
    pages: dict[str, Any] = json.loads(done.stdout)
    return pages


def plugin_page(name: str, kind: str, page: Data) -> str:
    """A module's or plugin's page."""
    doc = page["doc"]
    words = Words(name, kind)
    lines = [f"# {name}", "", f"{words.of(doc['short_description'])}. {kind.capitalize()}. {WRITTEN}", ""]
    lines += [f"- {words.of(text)}" for text in _listed(doc.get("description"))]
    if doc.get("requirements"):
        lines += ["", f"Needs {', '.join(map(words.of, doc['requirements']))}."]
    support = {name: doc.get("attributes", {}).get(name, {}).get("support") for name in ("check_mode", "diff_mode")}
    if kind == "module":
        lines += ["", f"Check mode: {support['check_mode']}. Diff mode: {support['diff_mode']}."]
    if doc.get("options"):
        lines += ["", "## Options", "", "| option | type | default | meaning |", "|---|---|---|---|"]
        lines += _option_rows(doc["options"], words)
    if page.get("return"):
        lines += ["", "## Returns", "", "| value | type | returned | meaning |", "|---|---|---|---|"]
        lines += _return_rows(page["return"], words)
    if page.get("examples"):
        lines += ["", "## Examples", "", "```yaml", page["examples"].strip("\n"), "```"]
    return "\n".join(lines) + "\n"


def role_page(folder: Path) -> str:
    """A role's page: its entries with their variables; the README tells the rest."""
    entries: Data = yaml.safe_load((folder / "meta/argument_specs.yml").read_text())["argument_specs"]
    defaults: Data = yaml.safe_load((folder / "defaults/main.yml").read_text()) or {}
    name = f"{NAMESPACE}.{folder.name}"
    words = Words(name, "role")
    lines = [f"# Role {name}", "", f"{WRITTEN} More: [README](../../roles/{folder.name}/README.md)."]
    shown: dict[str, str] = {}
    for entry in sorted(entries, key=lambda entry: (entry != "main", entry)):
        spec = entries[entry]
        lines += ["", f"## Entry `{entry}`", "", f"{words.of(spec['short_description'])}."]
        options = spec.get("options") or {}
        rows = list(_option_rows(options, words, defaults))
        same = shown.setdefault("\n".join(rows), entry)
        if not rows:
            lines += ["", "No variables."]
        elif same != entry:
            lines += ["", f"Variables as of `{same}`."]
        else:
            lines += ["", "| variable | type | default | meaning |", "|---|---|---|---|", *rows]
    return "\n".join(lines) + "\n"


class Words:
    """Ansible's markup as Markdown; the library's own writes a backslash before every comma."""

    def __init__(self, name: str, kind: str) -> None:
        self._plugin = dom.PluginIdentifier(name, kind)

    def of(self, text: str | list[str]) -> str:
        """One line, of one or several paragraphs."""
        paragraphs = parse(text, Context(current_plugin=self._plugin, role_entrypoint="main"), errors="exception")
        text = " ".join("".join(map(_markdown, paragraph)) for paragraph in paragraphs)
        return text.replace("\n", " ").replace("|", "\\|")


def _markdown(part: dom.AnyPart) -> str:
    if isinstance(part, (dom.TextPart, dom.BoldPart, dom.ItalicPart)):
        return part.text
    if isinstance(part, dom.LinkPart):
        return f"[{part.text}]({part.url})"
    if isinstance(part, dom.URLPart):
        return f"<{part.url}>"
    if isinstance(part, dom.OptionNamePart) and part.value is not None:
        return f"`{part.name}={part.value}`"
    if isinstance(part, dom.ModulePart):
        return f"`{part.fqcn}`"
    if isinstance(part, dom.PluginPart):
        return f"`{part.plugin.fqcn}`"
    if isinstance(part, dom.CodePart):
        return f"`{part.text}`"
    if isinstance(part, dom.OptionValuePart):
        return f"`{part.value}`"
    if isinstance(part, (dom.OptionNamePart, dom.ReturnValuePart, dom.EnvVariablePart)):
        return f"`{part.name}`"
    raise TypeError(f"no Markdown for {part!r}")


def _option_rows(options: Data, words: Words, defaults: Data | None = None, prefix: str = "") -> Iterator[str]:
    for name, option in options.items():
        default = option.get("default") if defaults is None else defaults.get(name)
        shown = "required" if option.get("required") else "" if default is None else _code(default)
        meaning = words.of(_listed(option.get("description")))
        if option.get("choices"):
            meaning += f" One of {', '.join(_code(choice) for choice in option['choices'])}."
        yield f"| `{prefix}{name}` | {_type(option)} | {shown} | {meaning} |"
        nested = option.get("suboptions") or option.get("options") or {}
        yield from _option_rows(nested, words, None, f"{prefix}{name}.")


def _return_rows(values: Data, words: Words, prefix: str = "") -> Iterator[str]:
    for name, value in values.items():
        meaning = words.of(_listed(value.get("description")))
        yield f"| `{prefix}{name}` | {_type(value)} | {words.of(str(value.get('returned', '')))} | {meaning} |"
        yield from _return_rows(value.get("contains") or {}, words, f"{prefix}{name}.")


def _type(value: Data) -> str:
    kind = value.get("type", "str")
    return f"{kind} of {value['elements']}" if value.get("elements") else str(kind)


def _code(value: object) -> str:
    text = value if isinstance(value, str) and value else json.dumps(value)
    return f"`{text}`".replace("|", "\\|")


class Code(NamedTuple):
    """A problem's code, with where its wording stands and what it says."""

    code: str
    domain: str
    says: str


def codes() -> list[Code]:
    """The codes that every `problems.py` and every class of unreadable texts writes out, each wording once."""
    found = set()
    for path in sorted((PLUGINS / "module_utils").rglob("*.py")):
        domain = "/".join(path.relative_to(PLUGINS / "module_utils").parts[:-1])
        tree = ast.parse(path.read_text())
        named = {
            node.targets[0].id: node.value.value
            for node in tree.body
            if isinstance(node, ast.Assign)
            and isinstance(node.targets[0], ast.Name)
            and isinstance(node.value, ast.Constant)
        }
        for node in ast.walk(tree):
            if isinstance(node, ast.ClassDef) and any(getattr(base, "id", "") == "InvalidText" for base in node.bases):
                meaning = (ast.get_docstring(node) or "").split("\n")[0]
                found |= {Code(code, domain, meaning) for code in _class_codes(node)}
            elif path.name == "problems.py" and isinstance(node, ast.Call) and _words_a_problem(node):
                code = named.get(getattr(node.args[0], "id", ""), getattr(node.args[0], "value", None))
                if isinstance(code, str) and re.fullmatch("[a-z][a-z0-9_]+", code):
                    found.add(Code(code, domain, " ".join(map(_template, node.args[1:3]))))
    return sorted(found)


def _class_codes(node: ast.ClassDef) -> list[str]:
    """The value of the class's `code`."""
    values = (
        part for part in node.body if isinstance(part, ast.Assign) and getattr(part.targets[0], "id", "") == "code"
    )
    return [str(ast.literal_eval(part.value)) for part in values]


def _words_a_problem(call: ast.Call) -> bool:
    """Whether it makes a problem: `Problem` itself, or a helper of the file that takes the code first."""
    name = getattr(call.func, "id", "")
    return len(call.args) > 2 and (name == "Problem" or name.startswith("_"))


def _template(text: ast.expr) -> str:
    """A text of the code, with … in the place of what is filled in."""
    if isinstance(text, ast.Constant):
        return str(text.value)
    parts = text.values if isinstance(text, ast.JoinedStr) else []
    return "".join(str(part.value) if isinstance(part, ast.Constant) else "…" for part in parts) or "…"


def codes_page() -> str:
    """All codes of problems."""
    lines = [
        "# Codes of problems",
        "",
        f"{WRITTEN} What a problem is: [facts.md](../facts.md#problems).",
        "A failing module has them in `problems`, the first cause first. `…` stands for what is filled in.",
        "",
    ]
    lines += ["| code | domain | says |", "|---|---|---|"]
    lines += [f"| `{code}` | {domain} | {says.replace('|', chr(92) + '|')} |" for code, domain, says in codes()]
    return "\n".join(lines) + "\n"


def _listed(value: str | list[str] | None) -> list[str]:
    return [value] if isinstance(value, str) else value or []


def pages() -> dict[Path, str]:
    """Every written page with its text."""
    found = {PROJECT / "docs/rbac.yaml": rbac()}
    index = ["# Reference", "", f"{WRITTEN} Facts that roles publish: [facts.md](../facts.md).", ""]
    index += ["| role | does |", "|---|---|"]
    for folder in sorted((PROJECT / "roles").iterdir()):
        found[REFERENCE / f"role-{folder.name}.md"] = role_page(folder)
        does = yaml.safe_load((folder / "meta/main.yml").read_text())["galaxy_info"]["description"]
        index.append(f"| [{folder.name}](role-{folder.name}.md) | {does} |")
    for kind in ("module", "inventory"):
        index += ["", f"| {kind if kind == 'module' else f'{kind} plugin'} | does |", "|---|---|"]
        for name, page in sorted(documented(kind).items()):
            file = f"{kind}-{name.removeprefix(NAMESPACE + '.')}.md"
            found[REFERENCE / file] = plugin_page(name, kind, page)
            index.append(
                f"| [{name.removeprefix(NAMESPACE + '.')}]({file}) | {Words(name, kind).of(page['doc']['short_description'])} |"
            )
    found[REFERENCE / "problem-codes.md"] = codes_page()
    index += ["", "Codes of problems: [problem-codes.md](problem-codes.md)."]
    found[REFERENCE / "README.md"] = "\n".join(index) + "\n"
    return found


def main() -> None:
    """Write all pages, and remove those of what is gone."""
    written = pages()
    for path in set(REFERENCE.glob("*.md")) - set(written):
        path.unlink()
    for path, text in written.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)


if __name__ == "__main__":
    main()
