# SPDX-License-Identifier: GPL-3.0-or-later
"""Where the audit's objects come from: the API, page after page, or files for those who cannot give access to it."""

from __future__ import annotations

import json
import typing as t

from ansible_collections.kubepin.tuning.plugins.module_utils.common.errors import TuningError
from ansible_collections.kubepin.tuning.plugins.module_utils.common.problem import Problem
from ansible_collections.kubepin.tuning.plugins.module_utils.control.cluster.api import ApiError, KubernetesApi
from ansible_collections.kubepin.tuning.plugins.module_utils.control.gpu_access.node import (
    Node,
    Object,
    node_from_api,
)
from ansible_collections.kubepin.tuning.plugins.module_utils.control.gpu_pods import problems
from ansible_collections.kubepin.tuning.plugins.module_utils.control.gpu_pods.manifest import faults
from ansible_collections.kubepin.tuning.plugins.module_utils.control.gpu_pods.owners import (
    OWNERS,
    OwnerKind,
    owner_kind,
)

_CLAIMS_GROUP = "resource.k8s.io"
_CLAIMS_VERSIONS = ("v1", "v1beta2", "v1beta1")
"""Those whose allocation has the same form; Kubernetes 1.32 has the first of them."""

_SHOWN = 60
"""Characters of a value that messages show."""


class ApiSource(KubernetesApi):
    """The cluster itself. Pages are processed one by one, so memory does not grow with the cluster."""

    def __init__(self, kubeconfig: t.Optional[str], context: t.Optional[str]) -> None:
        """:raises TuningError: if the kubeconfig cannot be used"""
        super().__init__(kubeconfig, context)
        self._unread: t.List[Problem] = []

    def pods(self) -> t.Iterator[Object]:
        return self._items("/api/v1/pods")

    def namespaces(self) -> t.Iterator[Object]:
        return self._items("/api/v1/namespaces")

    def owners(self) -> t.Iterator[Object]:
        served = self.groups()
        for row in OWNERS:
            yield from self._owners(row, [version for version in row.versions if version in served.get(row.group, ())])

    def _owners(self, row: OwnerKind, versions: t.Sequence[str]) -> t.Iterator[Object]:
        for version in versions:
            try:
                for item in self._items(f"/apis/{row.group}/{version}/{row.plural}"):
                    yield {**item, "kind": row.kind}
                return
            except ApiError as error:
                # not every version of a group has every kind
                if error.status == 404:
                    continue
                if row.is_builtin or error.status != 403:
                    raise
                self._unread.append(problems.owners_unreadable(f"{row.plural}.{row.group}", str(error.answer)))
                return

    def claims(self) -> t.Iterator[Object]:
        served = self.groups().get(_CLAIMS_GROUP, ())
        for version in (version for version in _CLAIMS_VERSIONS if version in served):
            try:
                yield from self._items(f"/apis/{_CLAIMS_GROUP}/{version}/resourceclaims")
            except ApiError as error:
                if error.status == 404:
                    continue
                if error.status != 403:
                    raise
                self._unread.append(problems.claims_unreadable(str(error.answer)))
            return

    def runtime_classes(self) -> t.Iterator[Object]:
        try:
            yield from self._items("/apis/node.k8s.io/v1/runtimeclasses")
        except ApiError as error:
            if error.status == 404:
                return
            if error.status != 403:
                raise
            self._unread.append(problems.runtime_classes_unreadable(str(error.answer)))

    def unread(self) -> t.Sequence[Problem]:
        return self._unread

    def node_facts(self, name: str) -> Node:
        """The node's facts: none for a node that is gone, only those of the API if its kubelet does not answer."""
        try:
            node = self.node(name)
        except ApiError as error:
            if error.status != 404:
                raise
            return Node()
        try:
            return node_from_api(node, self.configz(name))
        except ApiError:
            return node_from_api(node, None)


class FileSource:
    """Files as ``kubectl get -A -o json`` (or yaml) prints them: pods, their owners if included, and nodes."""

    def __init__(self, pods_file: str, nodes_file: t.Optional[str]) -> None:
        """:raises TuningError: if a file cannot be read or is not of that form, naming every object that is not"""
        self._objects = _sound(pods_file)
        nodes = _sound(nodes_file) if nodes_file else []
        self._nodes = {node["metadata"]["name"]: node for node in nodes if node["kind"] == "Node"}

    def pods(self) -> t.Iterator[Object]:
        return (item for item in self._objects if item["kind"] == "Pod")

    def owners(self) -> t.Iterator[Object]:
        return (item for item in self._objects if owner_kind(item))

    def claims(self) -> t.Iterator[Object]:
        return (item for item in self._objects if item["kind"] == "ResourceClaim")

    def runtime_classes(self) -> t.Iterator[Object]:
        return (item for item in self._objects if item["kind"] == "RuntimeClass")

    def unread(self) -> t.Sequence[Problem]:
        return ()

    def node_facts(self, name: str) -> Node:
        return node_from_api(self._nodes[name], None) if name in self._nodes else Node()


def read_objects(path: str) -> t.List[t.Dict[str, t.Any]]:
    """The objects of a file, lists unpacked.

    :raises TuningError: if it cannot be read, or contains something else
    """
    try:
        with open(path, encoding="utf-8") as file:
            text = file.read()
    except (OSError, UnicodeDecodeError) as error:
        raise TuningError(problems.file_unreadable(path, str(error))) from error
    found: t.List[t.Dict[str, t.Any]] = []
    try:
        try:
            documents = [json.loads(text)]
        except ValueError:
            documents = _yaml_documents(path, text)
        for document in documents:
            _unpack(path, document, found)
    except RecursionError as error:
        raise TuningError(problems.nested_too_deeply(path)) from error
    return found


def _sound(path: str) -> t.List[t.Dict[str, t.Any]]:
    """The objects of a file, all of them of the form that the audit reads.

    :raises TuningError: naming every object that is not, and what is wrong with it
    """
    objects = read_objects(path)
    wrong = [problems.object_invalid(path, _name(item), fault) for item in objects for fault in faults(item)]
    if wrong:
        raise TuningError(*wrong)
    return objects


def _name(item: t.Mapping[str, t.Any]) -> str:
    metadata = item["metadata"]
    namespace = "" if item["kind"] == "Node" else f"{metadata.get('namespace') or 'default'}/"
    return f"{item['kind']} {namespace}{metadata['name']}"


def _yaml_documents(path: str, text: str) -> t.List[t.Any]:
    try:
        import yaml
    except ImportError as error:
        raise TuningError(problems.yaml_missing(path, str(error))) from error
    try:
        return [document for document in yaml.safe_load_all(text) if document is not None]
    except (yaml.YAMLError, ValueError) as error:  # ValueError: a date or a number that is none
        raise TuningError(problems.no_document(path, str(error))) from error


def _unpack(path: str, document: object, found: t.List[t.Dict[str, t.Any]]) -> None:
    if isinstance(document, list):
        for item in document:
            _unpack(path, item, found)
        return
    if not isinstance(document, dict) or not isinstance(document.get("kind"), str):
        raise TuningError(problems.not_an_object(path, _shown(document)))
    if not document["kind"].endswith("List"):
        metadata = document.get("metadata")
        if not isinstance(metadata, dict) or not isinstance(metadata.get("name"), str):
            raise TuningError(problems.object_without_name(path, document["kind"]))
        found.append(document)
        return
    # items of a PodList have no kind, those of a List do
    kind = document["kind"][: -len("List")]
    items = document.get("items") or []
    if not isinstance(items, list):
        raise TuningError(problems.items_not_a_list(path, document["kind"], _shown(items)))
    for item in items:
        if not isinstance(item, dict):
            raise TuningError(problems.not_an_object(path, _shown(item)))
        _unpack(path, {**({"kind": kind, "apiVersion": document.get("apiVersion")} if kind else {}), **item}, found)


def _shown(value: object) -> str:
    return repr(str(value)[:_SHOWN])
