# SPDX-License-Identifier: GPL-3.0-or-later
"""What the benchmark's pods share; an API in memory stands in for the real one."""

from __future__ import annotations

from typing import Any

import pytest
from ansible_collections.kubepin.tuning.plugins.module_utils.common.errors import TuningError
from ansible_collections.kubepin.tuning.plugins.module_utils.control.benchmark.namespace import BenchmarkNamespace

NAMESPACE = "/api/v1/namespaces/lab"
CONFIG_MAP = f"{NAMESPACE}/configmaps/program"
ACCOUNT = f"{NAMESPACE}/serviceaccounts/default"


class Api:
    """Objects by their path; a new namespace gets its service account, a removed one takes its objects along."""

    def __init__(self, makes_accounts: bool = True) -> None:
        self.objects: dict[str, dict[str, Any]] = {}
        self.pods: list[str] = []
        self.makes_accounts = makes_accounts

    def find(self, path: str) -> dict[str, Any] | None:
        return self.objects.get(path)

    def create(self, path: str, manifest: dict[str, Any]) -> None:
        self.objects[f"{path}/{manifest['metadata']['name']}"] = manifest
        if manifest["kind"] == "Namespace" and self.makes_accounts:
            self.objects[ACCOUNT] = {}

    def patch(self, path: str, patch: dict[str, Any]) -> None:
        data = {**self.objects[path].get("data", {}), **patch["data"]}
        self.objects[path]["data"] = {name: text for name, text in data.items() if text is not None}

    def delete(self, path: str) -> None:
        for name in [name for name in self.objects if name.startswith(path)]:
            del self.objects[name]

    def pods_with_label(self, namespace: str, selector: str) -> list[dict[str, Any]]:
        assert (namespace, selector) == ("lab", "app.kubernetes.io/managed-by=kubepin")
        return [{"metadata": {"name": name}} for name in self.pods]


def namespace(api: Api, check_mode: bool = False) -> BenchmarkNamespace:
    return BenchmarkNamespace(api, "lab", "program", 0, check_mode)  # type: ignore[arg-type]


def test_it_is_made_once_and_removed_with_the_namespace_that_is_ours() -> None:
    api = Api()
    assert namespace(api).make({"main.py": "1"})
    assert api.objects[NAMESPACE]["metadata"]["labels"]["pod-security.kubernetes.io/enforce"] == "restricted"
    assert api.objects[CONFIG_MAP]["data"] == {"main.py": "1"}
    assert not namespace(api).make({"main.py": "1"})
    assert namespace(api).remove()
    assert api.objects == {}
    assert not namespace(api).remove()


def test_a_program_of_another_version_is_replaced_as_a_whole() -> None:
    api = Api()
    namespace(api).make({"main.py": "1", "gone.py": "1"})
    assert namespace(api).make({"main.py": "2"})
    assert api.objects[CONFIG_MAP]["data"] == {"main.py": "2"}


def test_somebody_else_s_namespace_stays() -> None:
    api = Api()
    api.objects = {NAMESPACE: {"metadata": {"name": "lab"}}, ACCOUNT: {}}
    assert namespace(api).make({"main.py": "1"})
    assert namespace(api).remove()
    assert set(api.objects) == {NAMESPACE, ACCOUNT}
    assert not namespace(api).remove()


def test_pods_of_other_runs_are_a_reason_to_keep_it() -> None:
    api = Api()
    assert namespace(api).reason_to_keep() is None
    api.pods = ["b", "a"]
    assert namespace(api).reason_to_keep() == "pods of other runs are in namespace lab: a, b"


def test_check_mode_changes_nothing_and_tells_what_would_change() -> None:
    api = Api()
    assert namespace(api, check_mode=True).make({"main.py": "1"})
    assert api.objects == {}
    namespace(api).make({"main.py": "1"})
    before = dict(api.objects)
    assert namespace(api, check_mode=True).make({"main.py": "2"})
    assert namespace(api, check_mode=True).remove()
    assert api.objects == before
    assert api.objects[CONFIG_MAP]["data"] == {"main.py": "1"}


def test_a_namespace_without_a_service_account_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("time.sleep", lambda seconds: None)
    with pytest.raises(TuningError, match="namespace lab has no service account `default`"):
        namespace(Api(makes_accounts=False)).make({"main.py": "1"})
