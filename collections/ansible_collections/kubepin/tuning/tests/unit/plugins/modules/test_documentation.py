# SPDX-License-Identifier: GPL-3.0-or-later
"""What each module's documentation says against what the module does."""

from __future__ import annotations

import ast
import importlib
import inspect
import typing as t
from pathlib import Path
from types import ModuleType

import pytest
import yaml

PLUGINS = "ansible_collections.kubepin.tuning.plugins"
FOLDER = Path(__file__).parents[4] / "plugins/modules"
NAMES = sorted(path.stem for path in FOLDER.glob("*.py"))
FIELDS = ("type", "elements", "default", "choices", "required")

Options = t.Dict[str, t.Any]


class Started(Exception):
    """The module has called AnsibleModule."""


@pytest.fixture(params=NAMES)
def module(request: pytest.FixtureRequest) -> ModuleType:
    return importlib.import_module(f"{PLUGINS}.modules.{request.param}")


@pytest.fixture
def declared(module: ModuleType, monkeypatch: pytest.MonkeyPatch) -> Options:
    """What the module passes to AnsibleModule; of a module that only documents an action, what the action takes."""
    found: Options = {}
    if not hasattr(module, "main"):
        return {"argument_spec": module.ARGUMENT_SPEC, "supports_check_mode": True}

    def start(**declarations: t.Any) -> t.NoReturn:
        found.update(declarations)
        raise Started

    monkeypatch.setattr(module, "AnsibleModule", start)
    with pytest.raises(Started):
        module.main()
    return found


def documentation_of(module: ModuleType) -> Options:
    """The module's DOCUMENTATION with the options and attributes of its fragments."""
    own: Options = yaml.safe_load(module.DOCUMENTATION)
    for name in own["extends_documentation_fragment"]:
        fragment = importlib.import_module(f"{PLUGINS}.doc_fragments.{name.rpartition('.')[2]}").ModuleDocFragment
        shared = yaml.safe_load(fragment.DOCUMENTATION)
        for section in ("options", "attributes"):
            own[section] = merged(shared.get(section, {}), own.get(section, {}))
    return own


def merged(shared: Options, own: Options) -> Options:
    """Both, entry by entry; what a module says itself counts."""
    return {name: {**shared.get(name, {}), **own.get(name, {})} for name in {**shared, **own}}


def fields_of(options: Options, nested: str) -> Options:
    """Of each option the fields that documentation and argument spec share; `nested` names the key of suboptions."""
    return {
        name: {
            **{field: option[field] for field in FIELDS if field in option},
            **({"options": fields_of(option[nested], nested)} if nested in option else {}),
        }
        for name, option in options.items()
    }


def test_options_are_documented_as_the_module_takes_them(module: ModuleType, declared: Options) -> None:
    documented = fields_of(documentation_of(module)["options"], "suboptions")
    assert documented == fields_of(declared["argument_spec"], "options")


def test_check_mode_is_supported_as_documented(module: ModuleType, declared: Options) -> None:
    support = documentation_of(module)["attributes"]["check_mode"]["support"]
    assert (support == "full") == declared.get("supports_check_mode", False)


def test_a_diff_is_returned_as_documented(module: ModuleType) -> None:
    support = documentation_of(module)["attributes"]["diff_mode"]["support"]
    if not hasattr(module, "main"):
        return  # its action calls other modules
    names = {
        node.value if isinstance(node, ast.Constant) else node.arg
        for node in ast.walk(ast.parse(inspect.getsource(module)))
        if isinstance(node, (ast.Constant, ast.keyword))
    }
    assert (support == "full") == ("diff" in names)


def test_examples_use_options_that_exist(module: ModuleType) -> None:
    name = f"kubepin.tuning.{module.__name__.rpartition('.')[2]}"
    options = documentation_of(module)["options"]
    tasks = yaml.safe_load(module.EXAMPLES)
    shown = [task[name] or {} for task in tasks if name in task]
    assert shown
    assert [wrong for arguments in shown for wrong in unknown(arguments, options)] == []


def unknown(arguments: Options, options: Options) -> t.Iterator[str]:
    """The names among the arguments that are no options, at any depth."""
    for name, value in arguments.items():
        if name not in options:
            yield name
        elif "suboptions" in options[name]:
            for entry in value if isinstance(value, list) else [value]:
                yield from unknown(entry, options[name]["suboptions"]) if isinstance(entry, dict) else ()


def test_every_returned_value_is_described(module: ModuleType) -> None:
    returned = yaml.safe_load(module.RETURN)
    assert {name for name, value in returned.items() if not {"description", "returned", "type"} <= set(value)} == set()
