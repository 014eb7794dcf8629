"""A run as a RayJob of KubeRay: the code and the config in a ConfigMap that every pod mounts, a head, and workers.

Every node reads the wheel from its own mount (py_modules: file://…), so that no store for code is needed. Pure."""

import base64
import json
import re
from collections.abc import Mapping
from typing import Any

import yaml

from ssrnn_dist.config import RunConfig, to_yaml
from ssrnn_dist.problems import Problem, UserError, user_error
from ssrnn_launch.targets.kubernetes_rules import is_secret_reference
from ssrnn_launch.targets.nodes import Nodes, nodes_of, price_labels, worker_labels

MOUNT = "/ssrnn"
SHARED_MEMORY = "/dev/shm"
LONGEST_NAME = 47  # KubeRay's limit for a RayJob, a DNS label
LARGEST_CONFIG_MAP_BYTES = 1_000_000  # Kubernetes allows 1 MiB, names included
STOP_SECONDS = 120  # for a pod that is told to go to save a checkpoint
HEAD_CPUS, HEAD_MEMORY = "2", "8G"
# Labels by which clouds and autoscalers mark spot nodes, and the taint's value where they taint them, too.
SPOT_LABELS = {
    "cloud.google.com/gke-spot": "true",
    "eks.amazonaws.com/capacityType": "SPOT",
    "karpenter.sh/capacity-type": "spot",
    "kubernetes.azure.com/scalesetpriority": "spot",
}


def object_name(run: str, suffix: str) -> str:
    """A name that Kubernetes takes for a run's: my_Run.2 → my-run-2-3f2a91."""
    plain = re.sub(r"[^a-z0-9]+", "-", run.lower()).strip("-")
    plain = plain if plain[:1].isalpha() else f"run-{plain}"
    return f"{plain[: LONGEST_NAME - len(suffix) - 1].rstrip('-')}-{suffix}"


def manifest(
    config: RunConfig,
    name: str,
    wheel: tuple[str, bytes],
    environment: Mapping[str, str],
    pip: list[str],
    ray_version: str,
    files: Mapping[str, str] | None = None,
    fresh: bool = False,
) -> list[dict[str, Any]]:
    """The ConfigMap and the RayJob.

    wheel: its file's name and its bytes.  environment: of the driver and the workers, no secrets.
    pip: packages that Ray installs for the job.  files: more texts beside the config, by name."""
    texts = {"run.yaml": to_yaml(config), **(files or {})}
    check_size(wheel[1], texts)
    meta = {"name": name, "namespace": config.cluster.namespace, "labels": {"app.kubernetes.io/name": "ssrnn"}}
    code = {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": meta,
        "data": texts,
        "binaryData": {"code.whl": base64.b64encode(wheel[1]).decode()},
    }
    runtime = {"py_modules": [f"file://{MOUNT}/{wheel[0]}"], "env_vars": dict(environment)}
    job = {
        "apiVersion": "ray.io/v1",
        "kind": "RayJob",
        "metadata": {**meta, "annotations": {"ssrnn.run": config.name}},
        "spec": {
            "jobId": name,
            "entrypoint": f"python -m ssrnn_launch.job_entry {MOUNT}/run.yaml" + (" --fresh" if fresh else ""),
            "metadata": {"ssrnn_run": config.name, "ssrnn_folder": config.remote_folder or str(config.folder)},
            "runtimeEnvYAML": yaml.safe_dump({**runtime, **({"pip": pip} if pip else {})}, sort_keys=False),
            "submissionMode": "K8sJobMode",
            "backoffLimit": 0,  # the run restarts by itself; a second cluster would only pay twice
            "shutdownAfterJobFinishes": True,
            "ttlSecondsAfterFinished": config.cluster.idle_minutes * 60,
            "rayClusterSpec": _cluster(config, name, wheel[0], list(texts), ray_version),
        },
    }
    return [code, job]


def check_size(wheel: bytes, texts: Mapping[str, str]) -> None:
    """UserError where a ConfigMap does not hold the code and the config."""
    size = len(wheel) + sum(len(text.encode()) for text in texts.values())
    if size > LARGEST_CONFIG_MAP_BYTES:
        came = f"{size:,} bytes of code and config"
        allowed = f"at most {LARGEST_CONFIG_MAP_BYTES:,}, what a ConfigMap holds, are allowed"
        raise user_error("submit --to kuberay", came, allowed)


def _cluster(config: RunConfig, name: str, wheel: str, texts: list[str], ray_version: str) -> dict[str, Any]:
    nodes = nodes_of(config)
    image = config.cluster.image or default_image(ray_version, gpu=nodes.gpus > 0)
    share = _Share(config, image, _mounts(config, name, wheel, texts))
    elastic = {
        "enableInTreeAutoscaling": True,
        "autoscalerOptions": {"version": "v2", "idleTimeoutSeconds": config.cluster.idle_minutes * 60},
    }
    return {
        "rayVersion": ray_version,
        "authOptions": {"mode": "token"},  # KubeRay makes the token and keeps it in a Secret
        **(elastic if nodes.elastic else {}),
        "headGroupSpec": {
            "labels": price_labels(None, spot=False),  # _placed keeps it off spot; its kind of node is not said
            "rayStartParams": {"num-cpus": "0", "num-gpus": "0"},  # the driver's place, no worker's
            "template": share.pod("ray-head", {"cpu": HEAD_CPUS, "memory": HEAD_MEMORY}, _placed(config, head=True)),
        },
        "workerGroupSpecs": [
            {
                "groupName": "workers",
                "labels": worker_labels(config),
                "replicas": nodes.fewest,
                "minReplicas": nodes.fewest,
                "maxReplicas": nodes.most,
                "rayStartParams": _start_params(nodes),
                "template": share.pod("ray-worker", _amounts(nodes), _placed(config, head=False)),
            }
        ],
    }


def default_image(ray_version: str, gpu: bool) -> str:
    """Ray's own image, which lacks our dependencies: Ray installs them when the job starts."""
    return f"rayproject/ray:{ray_version}-py311" + ("-gpu" if gpu else "")


def _start_params(nodes: Nodes) -> dict[str, str]:
    """KubeRay puts them on a command line, so that JSON stands in quotes of its own."""
    return {"resources": json.dumps(json.dumps(nodes.resources))} if nodes.resources else {}


def _amounts(nodes: Nodes) -> dict[str, str]:
    gpus = {"nvidia.com/gpu": str(nodes.gpus)} if nodes.gpus else {}
    return {"cpu": str(nodes.cpus), "memory": f"{nodes.memory_gb:g}G", **gpus}


def _mounts(config: RunConfig, name: str, wheel: str, texts: list[str]) -> dict[str, dict[str, Any]]:
    """Volumes by the folder at which they are mounted."""
    items = [{"key": "code.whl", "path": wheel}, *({"key": text, "path": text} for text in texts)]
    return {
        MOUNT: {"name": "ssrnn", "configMap": {"name": name, "items": items}},
        SHARED_MEMORY: {"name": "shm", "emptyDir": {"medium": "Memory"}},  # NCCL's, and Ray's objects
        **{
            folder: {"name": f"volume-{number}", "persistentVolumeClaim": {"claimName": claim}}
            for number, (folder, claim) in enumerate(config.cluster.volumes.items())
        },
    }


class _Share:
    """What the pods of a cluster have in common."""

    def __init__(self, config: RunConfig, image: str, mounts: Mapping[str, dict[str, Any]]) -> None:
        self._image, self._mounts = image, mounts
        self._account, self._env = config.cluster.service_account, secret_references(config.cluster.secrets)

    def pod(self, container: str, amounts: Mapping[str, str], placed: Mapping[str, Any]) -> dict[str, Any]:
        """A pod's template: amounts are what it gets, neither more nor less."""
        read_only = {MOUNT}
        holds = {
            "name": container,
            "image": self._image,
            "resources": {"requests": dict(amounts), "limits": dict(amounts)},
            "volumeMounts": [
                {"name": volume["name"], "mountPath": folder, **({"readOnly": True} if folder in read_only else {})}
                for folder, volume in self._mounts.items()
            ],
            **({"env": self._env} if self._env else {}),
        }
        account = {"serviceAccountName": self._account} if self._account else {}
        stop = {"terminationGracePeriodSeconds": STOP_SECONDS}
        return {"spec": {**account, **stop, **placed, "containers": [holds], "volumes": list(self._mounts.values())}}


def secret_references(secrets: Mapping[str, str]) -> list[dict[str, Any]]:
    """Variables of a container that Kubernetes fills in; UserError for a name that is not secret/key."""
    wrong = [(variable, name) for variable, name in secrets.items() if not is_secret_reference(name)]
    if wrong:
        allowed = "secret/key, the name of a Kubernetes Secret and of a key in it, is wanted"
        raise UserError(*(Problem(f"cluster.secrets.{variable}", name, allowed) for variable, name in wrong))
    pairs = {variable: name.split("/") for variable, name in secrets.items()}
    return [
        {"name": variable, "valueFrom": {"secretKeyRef": {"name": name, "key": key}}}
        for variable, (name, key) in pairs.items()
    ]


def _placed(config: RunConfig, head: bool) -> dict[str, Any]:
    """Where a pod may run: the workers on nodes of the wanted type, and on spot ones if wished; the head on none."""
    nodes = config.cluster.nodes
    if head:
        return {"affinity": _affinity([[_term(label, "NotIn", value) for label, value in SPOT_LABELS.items()]])}
    wanted = {
        "node.kubernetes.io/instance-type": nodes.instance_type,
        "topology.kubernetes.io/region": nodes.region,
        "topology.kubernetes.io/zone": nodes.zone,
    }
    selector = {label: value for label, value in wanted.items() if value is not None}
    placed: dict[str, Any] = {"nodeSelector": selector} if selector else {}
    tolerated = [{"key": "nvidia.com/gpu", "operator": "Exists"}] if config.scale.gpus_per_worker else []
    if nodes.spot:
        placed["affinity"] = _affinity([[_term(label, "In", value)] for label, value in SPOT_LABELS.items()])
        tolerated += [{"key": label, "operator": "Exists"} for label in SPOT_LABELS]
    return {**placed, **({"tolerations": tolerated} if tolerated else {})}


def _affinity(any_of: list[list[dict[str, Any]]]) -> dict[str, Any]:
    """Any of the terms, each of which wants all of its expressions."""
    terms = [{"matchExpressions": all_of} for all_of in any_of]
    return {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": terms}}}


def _term(label: str, operator: str, value: str) -> dict[str, Any]:
    return {"key": label, "operator": operator, "values": [value]}
