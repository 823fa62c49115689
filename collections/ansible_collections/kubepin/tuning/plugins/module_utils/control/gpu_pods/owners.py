# SPDX-License-Identifier: GPL-3.0-or-later
"""Which objects create GPU pods, where their pod templates are, and how a template is changed. One table, and what reads it.

Sources of the rows of projects outside Kubernetes, each read at the commit of August 2026 unless a release is named:

- Kubeflow training operator 1.9 (kubeflow.org/v1): manifests/base/crds/kubeflow.org_*jobs.yaml. The reconciler creates
  missing pods only (pkg/controller.v1/common/pod.go), so a running job keeps its pods.
- Kubeflow trainer (trainer.kubeflow.org): pkg/apis/trainer/v1alpha1/trainjob_types.go, where ``spec.trainer`` is immutable;
  its ``resourcesPerNode`` go to the container ``node`` of the runtime's JobSet (pkg/constants, Node).
- mpi-operator (kubeflow.org/v2beta1): manifests/base/kubeflow.org_mpijobs.yaml.
- KubeRay: ray-operator/config/crd/bases; ``upgradeStrategy`` in apis/ray/v1/raycluster_types.go and rayservice_types.go.
- JobSet: config/components/crd/bases; ``replicatedJobs`` are immutable (pkg/webhooks/jobset_webhook.go, ValidateUpdate).
- LeaderWorkerSet: config/crd/bases; the StatefulSet of the workers of a group is controlled by the group's leader pod
  (pkg/controllers/pod_controller.go).
- KServe: config/crd/full/serving.kserve.io_inferenceservices.yaml. A component is a pod specification; the container of a
  model server becomes ``kserve-container`` (pkg/constants, InferenceServiceContainerName).
- Kubeflow Notebooks, branch notebooks-v1: components/notebook-controller/config/crd/bases.
- Volcano: config/crd/volcano/bases/batch.volcano.sh_*.yaml; pkg/webhooks/admission/jobs/validate/admit_job.go,
  validateJobUpdate, refuses other templates.
- Argo Workflows: manifests/base/crds/full. ``container`` and ``script`` become the container ``main``
  (workflow/common/common.go); a workflow that runs keeps the specification in its status (``storedWorkflowTemplateSpec``).
- Knative Serving: between an InferenceService and its Deployment are a Service, a Configuration and a Revision.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Any

Object = Mapping[str, Any]
Keys = tuple[str | int, ...]
"""The way to a value in an object: names of fields and numbers of list items."""


class Change(Enum):
    """How an owner takes a changed template."""

    IN_PLACE = "in_place"
    RECREATE = "recreate"
    """The API refuses the change, or the pods of the object stay as they are: it has to be deleted and created again."""


@dataclass(frozen=True)
class Place:
    """Containers of a template: a list of them, or one container to which the operator gives its name."""

    field: str
    """Path from the template, dots between the names of fields."""
    kind: str = "containers"
    """``containers`` or ``initContainers`` of the pod."""
    name: str = ""
    """The container's name in the pod; empty for a list, whose items have names of their own."""
    resources: str = "resources"
    """The field with its limits and requests."""


_LISTS = (Place("initContainers", "initContainers"), Place("containers"))


@dataclass(frozen=True)
class Template:
    """Pod specifications of an object, or what becomes one."""

    path: str
    """Names of fields with dots between; ``*`` is each key of a map, and ``[]`` after a name each item of a list."""
    places: tuple[Place, ...] = _LISTS


@dataclass(frozen=True)
class OwnerKind:
    """A kind of objects that create pods, or that stand between such an object and its pods."""

    kind: str
    group: str
    versions: tuple[str, ...]
    """The preferred one first; the paths are the same in all of them."""
    plural: str
    templates: tuple[Template, ...] = ()
    """None for a kind that only stands in a chain of owners."""
    change: Change = Change.IN_PLACE
    effect: str = ""
    """What becomes of running pods, for people; empty if the kind rolls the change out itself."""
    elsewhere: str = ""
    """Where the GPU is requested if none of the templates requests one."""

    @property
    def is_builtin(self) -> bool:
        """Whether the kind is of Kubernetes itself, so that strategic merge patches exist for it."""
        return self.group in ("apps", "batch")

    @property
    def shown(self) -> str:
        """The kind, with the group if Kubernetes has a kind of that name."""
        return self.kind if self.is_builtin or self.kind not in _BUILTIN_KINDS else f"{self.kind}.{self.group}"

    @property
    def resource(self) -> str:
        """What kubectl calls objects of the kind."""
        return self.kind.lower() if self.is_builtin else f"{self.plural}.{self.group}"


@dataclass(frozen=True)
class FoundTemplate:
    """A template of an object as a pod specification, with the containers of all places in its lists."""

    path: str
    """Where it is in the object: ``spec.pytorchReplicaSpecs.Worker.template.spec``."""
    spec: Object
    resources: Mapping[str, Keys]
    """Container -> the way to its limits and requests in the object."""


def _pod(path: str) -> tuple[Template, ...]:
    return (Template(path),)


def _kubeflow(kind: str, field: str, *versions: str) -> OwnerKind:
    path = f"spec.{field}.*.template.spec"
    plural = f"{kind.lower()}s"
    return OwnerKind(kind, "kubeflow.org", versions or ("v1",), plural, _pod(path), Change.RECREATE, _KEEPS)


def _ray(kind: str, cluster: str, *more: Template, change: Change, effect: str, versions: tuple[str, ...]) -> OwnerKind:
    templates = (
        Template(f"{cluster}.headGroupSpec.template.spec"),
        Template(f"{cluster}.workerGroupSpecs[].template.spec"),
    )
    return OwnerKind(kind, "ray.io", versions, f"{kind.lower()}s", (*templates, *more), change, effect)


def _model(field: str) -> Place:
    return Place(field, name="kserve-container")


def _argo(path: str) -> tuple[Template, ...]:
    return (
        Template(
            path,
            (
                Place("initContainers", "initContainers"),
                Place("container", name="main"),
                Place("script", name="main"),
                Place("containerSet.containers"),
                Place("sidecars"),
            ),
        ),
    )


_KEEPS = "pods that run keep their resources"
_NEXT = "what it creates next has the new numbers"
_MODELS = [
    "model",
    "huggingface",
    "lightgbm",
    "onnx",
    "paddle",
    "pmml",
    "pytorch",
    "sklearn",
    "tensorflow",
    "triton",
    "xgboost",
]
_RUNTIME = "its GPU is requested in the ServingRuntime: set the resources in the InferenceService, which overrides it"
_RAY = ("v1", "v1alpha1")

OWNERS: tuple[OwnerKind, ...] = (
    OwnerKind("ReplicaSet", "apps", ("v1",), "replicasets", _pod("spec.template.spec")),
    OwnerKind("Deployment", "apps", ("v1",), "deployments", _pod("spec.template.spec")),
    OwnerKind("StatefulSet", "apps", ("v1",), "statefulsets", _pod("spec.template.spec")),
    OwnerKind("DaemonSet", "apps", ("v1",), "daemonsets", _pod("spec.template.spec")),
    OwnerKind("Job", "batch", ("v1",), "jobs", _pod("spec.template.spec"), Change.RECREATE),
    # batch/v1 has CronJob from Kubernetes 1.21 on
    OwnerKind("CronJob", "batch", ("v1", "v1beta1"), "cronjobs", _pod("spec.jobTemplate.spec.template.spec")),
    _kubeflow("PyTorchJob", "pytorchReplicaSpecs"),
    _kubeflow("TFJob", "tfReplicaSpecs"),
    _kubeflow("JAXJob", "jaxReplicaSpecs"),
    _kubeflow("PaddleJob", "paddleReplicaSpecs"),
    _kubeflow("XGBoostJob", "xgbReplicaSpecs"),
    _kubeflow("MPIJob", "mpiReplicaSpecs", "v2beta1", "v1"),
    OwnerKind(
        "TrainJob",
        "trainer.kubeflow.org",
        ("v1alpha1",),
        "trainjobs",
        (Template("spec", (Place("trainer", name="node", resources="resourcesPerNode"),)),),
        Change.RECREATE,
        "spec.trainer is immutable",
        "its GPU is requested in the runtime of spec.runtimeRef: set spec.trainer.resourcesPerNode, which overrides it",
    ),
    _ray(
        "RayCluster",
        "spec",
        change=Change.IN_PLACE,
        effect="its pods stay until you delete them, unless spec.upgradeStrategy is Recreate",
        versions=_RAY,
    ),
    _ray(
        "RayJob",
        "spec.rayClusterSpec",
        Template("spec.submitterPodTemplate.spec"),
        change=Change.RECREATE,
        effect=_KEEPS,
        versions=_RAY,
    ),
    _ray(
        "RayService",
        "spec.rayClusterConfig",
        change=Change.IN_PLACE,
        effect="a second cluster starts before the first one ends",
        versions=_RAY,
    ),
    _ray("RayCronJob", "spec.jobTemplate.rayClusterSpec", change=Change.IN_PLACE, effect=_NEXT, versions=("v1",)),
    OwnerKind(
        "JobSet",
        "jobset.x-k8s.io",
        ("v1alpha2",),
        "jobsets",
        _pod("spec.replicatedJobs[].template.spec.template.spec"),
        Change.RECREATE,
        "spec.replicatedJobs is immutable",
    ),
    OwnerKind(
        "LeaderWorkerSet",
        "leaderworkerset.x-k8s.io",
        ("v1",),
        "leaderworkersets",
        (
            Template("spec.leaderWorkerTemplate.leaderTemplate.spec"),
            Template("spec.leaderWorkerTemplate.workerTemplate.spec"),
        ),
    ),
    OwnerKind(
        "InferenceService",
        "serving.kserve.io",
        ("v1beta1",),
        "inferenceservices",
        (
            Template("spec.predictor", (*_LISTS, *(_model(field) for field in _MODELS))),
            Template("spec.predictor.workerSpec"),
            Template("spec.transformer"),
            Template("spec.explainer", (*_LISTS, _model("art"))),
        ),
        elsewhere=_RUNTIME,
    ),
    OwnerKind("Service", "serving.knative.dev", ("v1",), "services"),
    OwnerKind("Configuration", "serving.knative.dev", ("v1",), "configurations"),
    OwnerKind("Revision", "serving.knative.dev", ("v1",), "revisions"),
    OwnerKind("Notebook", "kubeflow.org", ("v1", "v1beta1"), "notebooks", _pod("spec.template.spec")),
    OwnerKind(
        "Job",
        "batch.volcano.sh",
        ("v1alpha1",),
        "jobs",
        _pod("spec.tasks[].template.spec"),
        Change.RECREATE,
        "its tasks are immutable",
    ),
    OwnerKind(
        "CronJob",
        "batch.volcano.sh",
        ("v1alpha1",),
        "cronjobs",
        _pod("spec.jobTemplate.spec.tasks[].template.spec"),
        effect=_NEXT,
    ),
    OwnerKind(
        "Workflow",
        "argoproj.io",
        ("v1alpha1",),
        "workflows",
        _argo("spec.templates[]"),
        Change.RECREATE,
        "a workflow that runs keeps its templates",
        "its GPU is requested in a WorkflowTemplate (spec.workflowTemplateRef) or in spec.templateDefaults: set the resources there",
    ),
    OwnerKind(
        "CronWorkflow",
        "argoproj.io",
        ("v1alpha1",),
        "cronworkflows",
        _argo("spec.workflowSpec.templates[]"),
        effect=_NEXT,
    ),
)
"""Every kind that the audit knows; owners of owners come after them for Kubernetes' own kinds."""

_BUILTIN_KINDS = {row.kind for row in OWNERS if row.is_builtin} | {"Service"}
_BY_NAME = {(row.group, row.kind): row for row in OWNERS}
_GROUP_OF_BUILTIN = {row.kind: row.group for row in OWNERS if row.is_builtin}

KUEUE_LABEL = "kueue.x-k8s.io/queue-name"
"""Names the LocalQueue of a job or a pod (Kueue pkg/controller/constants)."""


def group_of(api_version: object, kind: str) -> str:
    """The API group of an object or of a reference to one.

    Kubernetes' own kinds have had other groups (``extensions``), and files may leave the version out: both mean today's.
    """
    group = str(api_version or "").rpartition("/")[0]
    return _GROUP_OF_BUILTIN.get(kind, group) if "." not in group else group


def owner_kind(item: Object) -> OwnerKind | None:
    """The row of an object, by its ``apiVersion`` and ``kind``."""
    return _BY_NAME.get((group_of(item.get("apiVersion"), item["kind"]), item["kind"]))


def shown_kind(group: str, kind: str) -> str:
    """The kind as reports show it; kinds that the table does not have as they are."""
    row = _BY_NAME.get((group, kind))
    return row.shown if row else kind


def templates_of(item: Object, row: OwnerKind) -> list[FoundTemplate]:
    """All templates of an object, without those that have no container."""
    found = []
    for template in row.templates:
        for keys, value in _at(item, template.path.split("."), ()):
            pod = _as_pod(template, keys, value)
            if pod.resources:
                found.append(pod)
    return found


def queues_of(item: Object, row: OwnerKind) -> list[str]:
    """The LocalQueues of Kueue that an object names: for itself, for the jobs that it creates, or for their pods.

    A CronJob has the label in ``spec.jobTemplate.metadata``, an Argo Workflow in ``spec.podMetadata`` or in the ``metadata`` of a
    template (Kueue site/content/en/docs/tasks/run/run_cronjobs.md, site/static/examples/pod-based-workloads).
    """
    queues = {_queue(item, "metadata")}
    for template in row.templates:
        for keys, _value in _at(item, template.path.split("."), ()):
            value: Any = item
            for key in keys:
                value = value[key]
                queues |= {_queue(value, "metadata"), _queue(value, "podMetadata")}
    return sorted(filter(None, queues))


def _queue(value: Any, field: str) -> str:
    for name in (field, "labels", KUEUE_LABEL):
        value = value.get(name) if isinstance(value, Mapping) else None
    return str(value or "")


def dotted(keys: Keys) -> str:
    """``spec.tasks[0].template.spec``."""
    text = "".join(f"[{key}]" if isinstance(key, int) else f".{key}" for key in keys)
    return text.lstrip(".")


def _at(value: Any, path: list[str], keys: Keys) -> Iterator[tuple[Keys, Object]]:
    if not value:
        return
    if not path:
        yield keys, value
        return
    name, *rest = path
    if name == "*":
        for key in value:
            yield from _at(value[key], rest, (*keys, key))
    elif name.endswith("[]"):
        for number, item in enumerate(value.get(name[:-2]) or []):
            yield from _at(item, rest, (*keys, name[:-2], number))
    else:
        yield from _at(value.get(name), rest, (*keys, name))


def _as_pod(template: Template, keys: Keys, value: Object) -> FoundTemplate:
    lists: dict[str, list[Object]] = {"initContainers": [], "containers": []}
    resources: dict[str, Keys] = {}
    for place in template.places:
        for way, container in _at(value, (place.field if place.name else f"{place.field}[]").split("."), keys):
            name = place.name or container["name"]
            if name not in resources:
                lists[place.kind].append({**container, "name": name, "resources": container.get(place.resources)})
                resources[name] = (*way, place.resources)
    return FoundTemplate(dotted(keys), {**value, **{kind: these for kind, these in lists.items() if these}}, resources)
