# SPDX-License-Identifier: GPL-3.0-or-later
"""The Kubernetes API for kubepin's modules on the control node: few calls, plain JSON, readable errors.

The client library reads the kubeconfig (certificates, tokens, exec plugins, proxies) and opens the connections. Objects
stay plain JSON, because the model classes of a new client can reject objects of an old API server.
"""

from __future__ import annotations

import json
import os
import re
import socket
import ssl
import time
import traceback
import typing as t
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from enum import Enum
from urllib.parse import quote, urlencode

from ansible.module_utils.basic import missing_required_lib
from ansible.module_utils.common.parameters import env_fallback
from ansible_collections.kubepin.tuning.plugins.module_utils.common.errors import TuningError
from ansible_collections.kubepin.tuning.plugins.module_utils.common.problem import Problem, to_dicts
from ansible_collections.kubepin.tuning.plugins.module_utils.control.cluster import problems

if t.TYPE_CHECKING:
    from ansible_collections.kubepin.tuning.plugins.module_utils.control.module import Module

try:
    from kubernetes.client import ApiClient, Configuration
    from kubernetes.config import ConfigException, load_kube_config
    from urllib3 import BaseHTTPResponse, Timeout
    from urllib3.exceptions import HTTPError, LocationValueError, MaxRetryError
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

PATIENCE_SECONDS = 60
"""Operations survive an outage of the API that lasts up to this long."""

_PAGE = 250
_CONNECT_SECONDS, _READ_SECONDS = 5, 15
_FIRST_PAUSE_SECONDS, _LONGEST_PAUSE_SECONDS = 0.25, 2.0
# An API server that starts or stops, one that cannot reach etcd, a load balancer without an API server, a change of
# etcd's leader ("etcdserver: leader changed" is a 500): k8s.io/apiserver/pkg/storage/errors, docs of etcd's client.
_OUTAGES = frozenset({500, 502, 503, 504})
# k8s.io/apimachinery/pkg/util/proxy/transport.go; if the API server or its etcd is unavailable, only the second appears
_REFUSED_BY_KUBELET = ("error trying to reach service", "connection refused")
# kubernetes/kubernetes pkg/registry/core/pod/storage/eviction.go, with status 500: it stays so until a person acts
_SEVERAL_BUDGETS = "more than one PodDisruptionBudget"
# k8s.io/api/policy/v1 DisruptionBudgetCause, k8s.io/api/core/v1 NamespaceTerminatingCause
_BUDGET_CAUSE, _TERMINATING_CAUSE = "DisruptionBudget", "NamespaceTerminating"
_CREDENTIALS_SECONDS = 10
"""A refusal that comes this soon after the credentials were read is not due to their age."""


class Eviction(Enum):
    """How the API server answered the request to evict a pod."""

    ACCEPTED = "accepted"
    """The pod is being deleted, or is gone."""
    BUDGET = "its disruption budget allows no eviction"
    NAMESPACE_TERMINATING = "its namespace is being deleted, which will delete the pod"
    REFUSED_FOR_NOW = "an admission webhook refuses its eviction for now"
    """A 429 that is neither a budget's nor the server's own: KubeVirt, for example, moves a virtual machine first."""


class ApiError(TuningError):
    """A request that failed.

    *status* is the HTTP status (None: no answer), *answer* the server's message, and *causes* are the reasons in the
    details of its Status. *outage* tells whether the same request may succeed soon, *retry_after* the pause in seconds
    that the server asks for, *tried* the seconds for which it was repeated, and *may_be_done* whether the server may
    have carried it out although it did not answer.
    """

    def __init__(
        self,
        problem: Problem,
        status: int | None,
        answer: str,
        *,
        causes: Iterable[str] = (),
        outage: bool = False,
        retry_after: float | None = None,
        may_be_done: bool = False,
    ) -> None:
        super().__init__(problem, status=status)
        self.status = status
        self.answer = answer
        self.causes = frozenset(causes)
        self.outage = outage
        self.retry_after = retry_after
        self.may_be_done = may_be_done
        self.tried = 0.0

    def __str__(self) -> str:
        text = super().__str__()
        return f"{text.rstrip('.')}. kubepin tried it for {self.tried:.0f} s." if self.tried >= 1 else text


class Patience:
    """Bears an outage of the API: the only policy of its kind, for single requests and for loops that poll.

    An outage is a connection that is refused or ends early, a time-out, an answer of `_OUTAGES`, and 429 of API
    priority and fairness. It may last *seconds*; each answer begins a new count.
    """

    def __init__(self, seconds: float | None = None) -> None:
        """:param seconds: `PATIENCE_SECONDS` unless given"""
        self._seconds = PATIENCE_SECONDS if seconds is None else seconds
        self._since: float | None = None
        self._pause = _FIRST_PAUSE_SECONDS

    def answered(self) -> None:
        """The API server has answered, so the outage is over."""
        self._since, self._pause = None, _FIRST_PAUSE_SECONDS

    def bear(self, error: ApiError) -> float:
        """How many seconds to wait before the next try.

        :raises ApiError: *error* itself, if it is not an outage, or if the outage has lasted too long
        """
        now = time.monotonic()
        if self._since is None:
            self._since = now - error.tried
        error.tried = now - self._since
        left = self._seconds - error.tried
        if not error.outage or left <= 0:
            raise error
        pause = min(left, self._pause if error.retry_after is None else error.retry_after)
        self._pause = min(2 * self._pause, _LONGEST_PAUSE_SECONDS)
        return pause


def connect(module: Module) -> KubernetesApi:
    """The API that the module's options O(kubeconfig) and O(context) select; the module fails without the library.

    :raises TuningError: if the kubeconfig cannot be used
    """
    if IMPORT_ERROR:
        problem = problems.client_missing(missing_required_lib("kubernetes"))
        module.fail_json(msg=problem.text, problems=to_dicts([problem]), exception=IMPORT_ERROR)
    return KubernetesApi(module.params["kubeconfig"], module.params["context"])


class KubernetesApi:
    """One API server. Every method raises ApiError, with the server and the remedy, if a request fails.

    A request is repeated through an outage of `PATIENCE_SECONDS`, except one that the API server passes on to a kubelet:
    there, the failure may be the kubelet's.
    """

    def __init__(self, kubeconfig: str | None, context: str | None) -> None:
        self._deadline: float | None = None
        self._on_outage: Callable[[ApiError], None] = lambda error: None
        self.kubeconfig = kubeconfig or os.environ.get("KUBECONFIG") or os.path.expanduser("~/.kube/config")
        self._context = context
        self._read_credentials()

    def _read_credentials(self) -> None:
        """Read the kubeconfig, which runs its exec plugin and reads its token file."""
        configuration = _load(self.kubeconfig, self._context)
        self._read_at = time.monotonic()
        self.server = str(configuration.host)
        self._pool = ApiClient(configuration).rest_client.pool_manager
        bearer = configuration.auth_settings().get("BearerToken")
        self._auth = {bearer["key"]: str(bearer["value"])} if bearer else {}

    @contextmanager
    def until(self, deadline: float, on_outage: Callable[[ApiError], None] | None = None) -> Iterator[None]:
        """Within this block, a request bears an outage until *deadline*, if that is later than its patience ends anyway.

        :param deadline: on the clock of `time.monotonic`
        :param on_outage: called before each further try; what it raises ends the request
        """
        before = self._deadline, self._on_outage
        self._deadline, self._on_outage = deadline, on_outage or self._on_outage
        try:
            yield
        finally:
            self._deadline, self._on_outage = before

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
        return ApiError(problems.node_unknown(name, self._who, sorted(known)), 404, answer)

    def patch_node(self, name: str, patch: Mapping[str, t.Any]) -> None:
        """Apply a merge patch (RFC 7386)."""
        self.patch(f"/api/v1/nodes/{_quoted(name)}", patch)

    def nodes(self) -> list[JsonObject]:
        return self._list("/api/v1/nodes")

    def version(self) -> str:
        """The API server's version, such as v1.36.3."""
        return str(self._get("/version")["gitVersion"])

    def configz(self, node: str) -> JsonObject:
        """The configuration that the node's kubelet runs with, read from the kubelet itself."""
        path = f"/api/v1/nodes/{_quoted(node)}/proxy/configz"
        configuration: JsonObject = json.loads(self._through_kubelet(path))["kubeletconfig"]
        return configuration

    def kubelet_listens(self, node: str) -> bool | None:
        """Whether the node's kubelet accepts connections from the API server; None if unknown."""
        try:
            self._once("GET", f"/api/v1/nodes/{_quoted(node)}/proxy/healthz")
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

    def annotate_pod(self, namespace: str, name: str, annotations: Mapping[str, str]) -> None:
        self.patch(_pod_path(namespace, name), {"metadata": {"annotations": dict(annotations)}})

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
        lost = False

        def create() -> str:
            nonlocal lost
            try:
                return self._once("POST", path, manifest)
            except ApiError as error:
                if error.status == 409 and lost and (made := self._made(path, manifest)) is not None:
                    return json.dumps(made)
                lost = lost or error.may_be_done
                raise

        created: JsonObject = json.loads(self._patiently(create))
        return created

    def _made(self, path: str, manifest: Mapping[str, t.Any]) -> JsonObject | None:
        """The object that an earlier try created, whose answer was lost; None if the one of this name has other labels."""
        found = self.find(f"{path}/{_quoted(manifest['metadata']['name'])}")
        labels = ((found or {}).get("metadata") or {}).get("labels") or {}
        return found if labels.items() >= (manifest["metadata"].get("labels") or {}).items() else None

    def patch(self, path: str, patch: Mapping[str, t.Any]) -> None:
        """Apply a merge patch (RFC 7386) to the object at this path of the API."""
        self._request("PATCH", path, patch, "application/merge-patch+json")

    def delete(self, path: str) -> None:
        """Request the deletion of the object at this path of the API. Does nothing if it is gone or being deleted."""
        try:
            self._request("DELETE", path)
        except ApiError as error:
            if error.status not in (404, 409):
                raise

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

    def evict_pod(self, pod: Mapping[str, t.Any], api_version: str) -> Eviction:
        """Request the eviction of exactly this pod.

        A pod that is gone, or replaced by another of the same name, counts as evicted. As `kubectl drain`, an eviction
        from a namespace that is being deleted is to be tried again (kubernetes/kubectl pkg/drain/drain.go evictPods).
        """
        metadata = pod["metadata"]
        names = {"namespace": metadata["namespace"], "name": metadata["name"]}
        options = {"preconditions": {"uid": metadata["uid"]}}
        body = {"apiVersion": api_version, "kind": "Eviction", "metadata": names, "deleteOptions": options}
        try:
            self._request("POST", f"{_pod_path(**names)}/eviction", body)
        except ApiError as error:
            if error.status in (404, 409):
                return Eviction.ACCEPTED
            if error.status == 403 and _TERMINATING_CAUSE in error.causes:
                return Eviction.NAMESPACE_TERMINATING
            if error.status == 429 and not error.outage:
                return Eviction.BUDGET if _BUDGET_CAUSE in error.causes else Eviction.REFUSED_FOR_NOW
            raise
        return Eviction.ACCEPTED

    def pod_log(self, namespace: str, name: str, container: str) -> str:
        path = f"{_pod_path(namespace, name)}/log?{urlencode({'container': container})}"
        try:
            return self._through_kubelet(path)
        except ApiError as error:
            # the container has just ended or is not there yet; whether its pod has failed, the pod itself tells
            error.outage = error.outage or error.status in (400, 404)
            raise

    def pod_events(self, namespace: str, uid: str) -> list[JsonObject]:
        return self._list(f"{namespace_path(namespace)}/events", fieldSelector=f"involvedObject.uid={uid}")

    def has_namespace(self, name: str) -> bool:
        return self.find(namespace_path(name)) is not None

    def groups(self) -> dict[str, list[str]]:
        """API group -> its versions, without the core group. Every user may read it."""
        found = self._get("/apis").get("groups") or []
        return {group["name"]: [version["version"] for version in group["versions"]] for group in found}

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
        return self._patiently(lambda: self._once(method, path, body, content_type))

    def _through_kubelet(self, path: str) -> str:
        """What a kubelet answers. A 5xx may be about the kubelet, so the request is not repeated then."""
        return self._patiently(lambda: self._once("GET", path), lambda error: error.status not in _OUTAGES)

    def _patiently(self, request: Callable[[], str], bears: Callable[[ApiError], bool] = lambda error: True) -> str:
        """The answer of *request*, which is repeated through an outage.

        :param bears: whether an error counts as an outage of the API server, if it is one at all
        """
        left = 0.0 if self._deadline is None else self._deadline - time.monotonic()
        patience = Patience(max(PATIENCE_SECONDS, left))
        while True:
            try:
                return request()
            except ApiError as error:
                if not bears(error):
                    raise
                pause = patience.bear(error)
                self._on_outage(error)
                time.sleep(pause)

    def _once(
        self, method: str, path: str, body: Mapping[str, t.Any] | None = None, content_type: str = "application/json"
    ) -> str:
        try:
            return self._answer(method, path, body, content_type)
        except ApiError as error:
            if error.status != 401 or time.monotonic() - self._read_at < _CREDENTIALS_SECONDS:
                raise
        # tokens and certificates of exec plugins, and tokens in files, are replaced while a module waits
        self._read_credentials()
        return self._answer(method, path, body, content_type)

    def _answer(self, method: str, path: str, body: Mapping[str, t.Any] | None, content_type: str) -> str:
        try:
            response = self._pool.request(
                method,
                self.server + path,
                body=None if body is None else json.dumps(body),
                headers={"Accept": "application/json, */*", "Content-Type": content_type, **self._auth},
                timeout=Timeout(connect=_CONNECT_SECONDS, read=_READ_SECONDS),
                # urllib3 would obey any Retry-After, and would not repeat a POST
                retries=False,
            )
        except HTTPError as error:
            cause = _cause(error)
            raise ApiError(
                problems.api_unreachable(self._who, cause),
                None,
                cause,
                outage=not _is_lasting(error),
                may_be_done=True,
            ) from error
        text = response.data.decode("utf-8", "replace")
        if response.status < 300:
            return text
        raise self._refusal(response, text, method, path)

    def _refusal(self, response: BaseHTTPResponse, text: str, method: str, path: str) -> ApiError:
        """The error for an answer that is not a success."""
        status = int(response.status)
        answer, causes = _message(text) or str(response.reason), _causes(text)
        retry_after = _seconds(response.headers.get("Retry-After"))
        outage = status in _OUTAGES and _SEVERAL_BUDGETS not in answer
        if status == 429:
            # API priority and fairness answers with Retry-After and plain text, a webhook with a Status of its own
            # (k8s.io/apiserver/pkg/server/filters tooManyRequests)
            by_server = retry_after is not None or not _is_status(text) or not path.endswith("/eviction")
            outage = by_server and _BUDGET_CAUSE not in causes
        return ApiError(
            self._explanation(status, method, path, answer, causes),
            status,
            answer,
            causes=causes,
            outage=outage,
            retry_after=retry_after,
            may_be_done=status in _OUTAGES,
        )

    def _explanation(self, status: int, method: str, path: str, answer: str, causes: Iterable[str]) -> Problem:
        if status == 401:
            return problems.api_unauthorized(self._who, answer)
        if status == 403 and _TERMINATING_CAUSE in causes:
            return problems.namespace_terminating(self._who, answer)
        if status == 403:
            return problems.api_forbidden(self._who, answer)
        return problems.api_refused(self._who, status, f"{method} {path.partition('?')[0]}", answer)


def _load(kubeconfig: str, context: str | None) -> Configuration:
    """:raises TuningError: if a file is missing or unreadable, or the context is not in it"""
    readable = [path for path in kubeconfig.split(os.pathsep) if os.path.exists(os.path.expanduser(path))]
    if not readable:
        raise TuningError(problems.kubeconfig_missing(kubeconfig))
    configuration = Configuration()
    try:
        load_kube_config(kubeconfig, context, client_configuration=configuration, persist_config=False)
    except (ConfigException, OSError, YAMLError, TypeError, ValueError, KeyError) as error:
        raise TuningError(problems.kubeconfig_invalid(kubeconfig, str(error))) from error
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


def _status_of(text: str) -> Mapping[str, t.Any]:
    """The Status object in *text*, empty if it is something else."""
    try:
        found = json.loads(text)
    except ValueError:
        return {}
    return found if isinstance(found, dict) and found.get("kind") == "Status" else {}


def _is_status(text: str) -> bool:
    return bool(_status_of(text))


def _causes(text: str) -> frozenset[str]:
    """The reasons of the causes in a Status' details."""
    causes = (_status_of(text).get("details") or {}).get("causes") or []
    return frozenset(str(cause.get("reason")) for cause in causes)


def _seconds(text: str | None) -> float | None:
    """A Retry-After in seconds; the API server does not send dates."""
    return float(text) if text and text.isascii() and text.isdigit() else None


def _is_lasting(error: BaseException | None) -> bool:
    """Whether no further try can succeed: a certificate that does not fit, an invalid address, an unknown name."""
    if error is None:
        return False
    if isinstance(error, (ssl.SSLCertVerificationError, LocationValueError)):
        return True
    if isinstance(error, socket.gaierror):
        return error.errno != socket.EAI_AGAIN
    return _is_lasting(error.__cause__) or any(
        _is_lasting(argument) for argument in error.args if isinstance(argument, BaseException)
    )


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
            raise TuningError(problems.pod_not_removed(what, f"{namespace}/{name}", timeout))
        time.sleep(0.25)
