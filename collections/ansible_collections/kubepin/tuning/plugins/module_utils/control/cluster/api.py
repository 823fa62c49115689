# SPDX-License-Identifier: GPL-3.0-or-later
"""The Kubernetes API for kubepin's modules on the control node: few calls, plain JSON, readable errors.

The client library reads the kubeconfig (certificates, tokens, exec plugins, proxies) and opens the connections. Objects
stay plain JSON, because the model classes of a new client can reject objects of an old API server.
"""

from __future__ import annotations

import json
import os
import re
import time
import traceback
import typing as t
from collections.abc import Iterable, Iterator, Mapping
from urllib.parse import quote, urlencode

from ansible.module_utils.basic import missing_required_lib
from ansible.module_utils.common.parameters import env_fallback
from ansible_collections.kubepin.tuning.plugins.module_utils.common.errors import TuningError

if t.TYPE_CHECKING:
    from ansible_collections.kubepin.tuning.plugins.module_utils.control.module import Module

try:
    from kubernetes.client import ApiClient, Configuration
    from kubernetes.config import ConfigException, load_kube_config
    from urllib3 import Timeout
    from urllib3.exceptions import HTTPError, MaxRetryError
    from yaml import YAMLError

    IMPORT_ERROR: str | None = None
except ImportError:
    IMPORT_ERROR = traceback.format_exc()

# kubernetes.core, which cordons and uncordons, reads these variables too: both must reach the same cluster
API_ARGUMENTS: dict[str, dict[str, t.Any]] = {
    "kubeconfig": {"type": "path", "fallback": (env_fallback, ["K8S_AUTH_KUBECONFIG"])},
    "context": {"type": "str", "fallback": (env_fallback, ["K8S_AUTH_CONTEXT"])},
}

JsonObject = dict[str, t.Any]

_PAGE = 250
_CONNECT_SECONDS, _READ_SECONDS = 5, 15
# k8s.io/apimachinery/pkg/util/proxy/transport.go; if the API server or its etcd is unavailable, only the second appears
_REFUSED_BY_KUBELET = ("error trying to reach service", "connection refused")
_OTHER_KUBECONFIG = "or name another kubeconfig with `kubeconfig`."


class ApiError(TuningError):
    """A request that failed. *status* is the HTTP status (None: no answer), *answer* the server's message."""

    def __init__(self, message: str, status: int | None, answer: str) -> None:
        super().__init__(message, status=status)
        self.status = status
        self.answer = answer


def connect(module: Module) -> KubernetesApi:
    """The API that the module's options O(kubeconfig) and O(context) select; the module fails without the library.

    :raises TuningError: if the kubeconfig cannot be used
    """
    if IMPORT_ERROR:
        module.fail_json(
            msg=missing_required_lib("kubernetes"),
            exception=IMPORT_ERROR,
        )
    return KubernetesApi(module.params["kubeconfig"], module.params["context"])


class KubernetesApi:
    """One API server. Every method raises ApiError, with the server and the remedy, if a request fails."""

    def __init__(self, kubeconfig: str | None, context: str | None) -> None:
        self.kubeconfig = kubeconfig or os.environ.get("KUBECONFIG") or os.path.expanduser("~/.kube/config")
        configuration = _load(self.kubeconfig, context)
        self.server = str(configuration.host)
        self._pool = ApiClient(configuration).rest_client.pool_manager
        bearer = configuration.auth_settings().get("BearerToken")
        self._auth = {bearer["key"]: str(bearer["value"])} if bearer else {}

    def node(self, name: str) -> JsonObject:
        try:
            return self._get(f"/api/v1/nodes/{_quoted(name)}")
        except ApiError as error:
            if error.status != 404:
                raise
            known = (node["metadata"]["name"] for node in self.nodes())
            raise self.without_node(name, known, error.answer) from error

    def without_node(self, name: str, known: Iterable[str], answer: str = "") -> ApiError:
        """The error that the cluster has no node of this name, with the *known* names."""
        return ApiError(
            f'node "{name}" is not in the cluster of {self._who}. It has: {", ".join(sorted(known))}.', 404, answer
        )

    def patch_node(self, name: str, patch: Mapping[str, t.Any]) -> None:
        """Apply a merge patch (RFC 7386)."""
        self.patch(f"/api/v1/nodes/{_quoted(name)}", patch)

    def nodes(self) -> list[JsonObject]:
        return self._list("/api/v1/nodes")

    def configz(self, node: str) -> JsonObject:
        """The configuration that the node's kubelet runs with, read from the kubelet itself."""
        configuration: JsonObject = self._get(f"/api/v1/nodes/{_quoted(node)}/proxy/configz")["kubeletconfig"]
        return configuration

    def kubelet_listens(self, node: str) -> bool | None:
        """Whether the node's kubelet accepts connections from the API server; None if unknown."""
        try:
            self._request("GET", f"/api/v1/nodes/{_quoted(node)}/proxy/healthz")
        except ApiError as error:
            return False if all(words in error.answer for words in _REFUSED_BY_KUBELET) else None
        return True

    def pods_on(self, node: str) -> list[JsonObject]:
        return self._list("/api/v1/pods", fieldSelector=f"spec.nodeName={node}")

    def disruption_budgets(self) -> list[JsonObject]:
        """All budgets, each with its apiVersion: policy/v1 from Kubernetes 1.21, policy/v1beta1 before."""
        try:
            return self._list("/apis/policy/v1/poddisruptionbudgets")
        except ApiError as error:
            if error.status != 404:
                raise
            return self._list("/apis/policy/v1beta1/poddisruptionbudgets")

    def daemon_sets(self) -> set[tuple[str, str]]:
        """(namespace, name) of all DaemonSets."""
        found = self._list("/apis/apps/v1/daemonsets")
        return {(item["metadata"]["namespace"], item["metadata"]["name"]) for item in found}

    def pods_with_label(self, namespace: str, selector: str) -> list[JsonObject]:
        return self._list(f"{namespace_path(namespace)}/pods", labelSelector=selector)

    def pod(self, namespace: str, name: str) -> JsonObject | None:
        return self.find(_pod_path(namespace, name))

    def create_pod(self, manifest: Mapping[str, t.Any]) -> JsonObject:
        return self.create(f"{namespace_path(manifest['metadata']['namespace'])}/pods", manifest)

    def find(self, path: str) -> JsonObject | None:
        """The object at this path of the API, None if it does not exist."""
        try:
            return self._get(path)
        except ApiError as error:
            if error.status == 404:
                return None
            raise

    def create(self, path: str, manifest: Mapping[str, t.Any]) -> JsonObject:
        """Create an object in the collection at this path of the API."""
        created: JsonObject = json.loads(self._request("POST", path, manifest))
        return created

    def patch(self, path: str, patch: Mapping[str, t.Any]) -> None:
        """Apply a merge patch (RFC 7386) to the object at this path of the API."""
        self._request("PATCH", path, patch, "application/merge-patch+json")

    def delete(self, path: str) -> None:
        """Request the deletion of the object at this path of the API."""
        self._request("DELETE", path)

    def delete_pod(self, pod: Mapping[str, t.Any], at_once: bool = False) -> None:
        """Request the deletion of this pod. Does nothing if the pod is gone or another pod has its name.

        :param at_once: skip the grace period, for a pod whose containers never started
        """
        metadata = pod["metadata"]
        options: JsonObject = {"apiVersion": "v1", "kind": "DeleteOptions", "preconditions": {"uid": metadata["uid"]}}
        if at_once:
            options["gracePeriodSeconds"] = 0
        try:
            self._request("DELETE", _pod_path(metadata["namespace"], metadata["name"]), options)
        except ApiError as error:
            if error.status not in (404, 409):
                raise

    def eviction_version(self) -> str:
        """The apiVersion of Eviction that the server accepts: policy/v1 from Kubernetes 1.22, policy/v1beta1 before."""
        served: JsonObject = next((r for r in self._get("/api/v1")["resources"] if r["name"] == "pods/eviction"), {})
        return f"{served.get('group', 'policy')}/{served.get('version', 'v1')}"

    def evict_pod(self, pod: Mapping[str, t.Any], api_version: str) -> bool:
        """Request the eviction of exactly this pod; False if a disruption budget currently forbids it.

        A pod that is gone, or replaced by another of the same name, counts as evicted.
        """
        metadata = pod["metadata"]
        names = {"namespace": metadata["namespace"], "name": metadata["name"]}
        options = {"preconditions": {"uid": metadata["uid"]}}
        body = {"apiVersion": api_version, "kind": "Eviction", "metadata": names, "deleteOptions": options}
        try:
            self._request("POST", f"{_pod_path(**names)}/eviction", body)
        except ApiError as error:
            if error.status not in (404, 409, 429):
                raise
            return error.status != 429
        return True

    def pod_log(self, namespace: str, name: str, container: str) -> str:
        return self._request("GET", f"{_pod_path(namespace, name)}/log?{urlencode({'container': container})}")

    def pod_events(self, namespace: str, uid: str) -> list[JsonObject]:
        return self._list(f"{namespace_path(namespace)}/events", fieldSelector=f"involvedObject.uid={uid}")

    def has_namespace(self, name: str) -> bool:
        return self.find(namespace_path(name)) is not None

    def allows(self, review: Mapping[str, t.Any]) -> bool:
        """Whether the user may do what the SelfSubjectAccessReview asks for."""
        answer = json.loads(self._request("POST", "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews", review))
        return bool(answer["status"]["allowed"])

    @property
    def _who(self) -> str:
        return f'the API server {self.server} (kubeconfig "{self.kubeconfig}")'

    def _get(self, path: str) -> JsonObject:
        answer: JsonObject = json.loads(self._request("GET", path))
        return answer

    def _list(self, path: str, **query: str) -> list[JsonObject]:
        return list(self._items(path, **query))

    def _items(self, path: str, **query: str) -> Iterator[JsonObject]:
        """A list's items, page by page. Items of a list have no apiVersion, so they get the list's."""
        pages: dict[str, str | int] = {**query, "limit": _PAGE}
        while True:
            page = self._get(f"{path}?{urlencode(pages)}")
            for item in page.get("items") or []:
                yield {**item, "apiVersion": page["apiVersion"]}
            following = page["metadata"].get("continue")
            if not following:
                return
            pages["continue"] = following

    def _request(
        self, method: str, path: str, body: Mapping[str, t.Any] | None = None, content_type: str = "application/json"
    ) -> str:
        try:
            response = self._pool.request(
                method,
                self.server + path,
                body=None if body is None else json.dumps(body),
                headers={"Accept": "application/json, */*", "Content-Type": content_type, **self._auth},
                timeout=Timeout(connect=_CONNECT_SECONDS, read=_READ_SECONDS),
                retries=1,
            )
        except HTTPError as error:
            cause = _cause(error)
            raise ApiError(
                f"{self._who} cannot be reached: {cause}. Check that the control plane is up and reachable from here, "
                f"{_OTHER_KUBECONFIG}",
                None,
                cause,
            ) from error
        text = response.data.decode("utf-8", "replace")
        if response.status < 300:
            return text
        answer = _message(text) or str(response.reason)
        raise ApiError(self._explanation(response.status, method, path, answer), response.status, answer)

    def _explanation(self, status: int, method: str, path: str, answer: str) -> str:
        if status == 401:
            return f"{self._who} refuses the credentials: {answer}. Renew them, {_OTHER_KUBECONFIG}"
        if status == 403:
            return f"{self._who} forbids it: {answer}. Grant it, {_OTHER_KUBECONFIG}"
        return f"{self._who} answers {status} to {method} {path.partition('?')[0]}: {answer}"


def _load(kubeconfig: str, context: str | None) -> Configuration:
    """:raises TuningError: if a file is missing or unreadable, or the context is not in it"""
    hint = "Name a kubeconfig with `kubeconfig`, or in the environment variable KUBECONFIG."
    readable = [path for path in kubeconfig.split(os.pathsep) if os.path.exists(os.path.expanduser(path))]
    if not readable:
        raise TuningError(f'kubeconfig "{kubeconfig}" does not exist. {hint}')
    configuration = Configuration()
    try:
        load_kube_config(kubeconfig, context, client_configuration=configuration, persist_config=False)
    except (ConfigException, OSError, YAMLError, TypeError, ValueError, KeyError) as error:
        raise TuningError(f'kubeconfig "{kubeconfig}" cannot be used: {error}. {hint}') from error
    return configuration


def namespace_path(name: str) -> str:
    """The API path of a namespace; the paths of its objects begin with it."""
    return f"/api/v1/namespaces/{_quoted(name)}"


def _pod_path(namespace: str, name: str) -> str:
    return f"{namespace_path(namespace)}/pods/{_quoted(name)}"


def _quoted(name: str) -> str:
    return quote(name, safe="")


def _message(text: str) -> str:
    """The message of a Status object, or the text itself (the node proxy answers in plain text)."""
    try:
        return str(json.loads(text)["message"])
    except (ValueError, KeyError, TypeError):
        return text.strip()


def _cause(error: HTTPError) -> str:
    """urllib3's innermost reason without object names and numbers: "Connection refused" and the like."""
    reason = str(error.reason if isinstance(error, MaxRetryError) else error)
    return re.sub(r"^(.*\[Errno -?\d+\] |<[^>]*>: |\w+\([^)]*\): )", "", reason).rstrip(".)")


def remove_pod(api: KubernetesApi, pod: Mapping[str, t.Any], timeout: float, what: str, at_once: bool = False) -> None:
    """Delete exactly *pod* and wait until it is gone; *what* names it in the error, such as "probe pod".

    :param at_once: as for `KubernetesApi.delete_pod`
    :raises TuningError: if it still exists after *timeout* seconds
    """
    metadata = pod["metadata"]
    namespace, name = metadata["namespace"], metadata["name"]
    api.delete_pod(pod, at_once)
    deadline = time.monotonic() + timeout
    while (found := api.pod(namespace, name)) is not None and found["metadata"]["uid"] == metadata["uid"]:
        if time.monotonic() > deadline:
            raise TuningError(
                f"the {what} {namespace}/{name} is still there {timeout} s after its deletion. "
                "Check that the node's kubelet runs."
            )
        time.sleep(0.25)
