"""A run for a cluster that is made for it, as one checked file: KubeRay's manifest or a cluster file for `ray up`.

Decides all that is in the file; writes nothing and starts nothing. Imports ray inside."""

import secrets
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

from ssrnn_dist.config import RunConfig
from ssrnn_dist.storage.standing import check_goes_on
from ssrnn_launch.submit import carried, job_environment
from ssrnn_launch.targets import kubectl, kuberay, machines, schemas
from ssrnn_launch.targets.kubernetes_rules import check_for_kubernetes
from ssrnn_launch.targets.nodes import check_for_nodes, check_no_logins, storage_extras
from ssrnn_launch.targets.text import as_yaml
from ssrnn_launch.wheel import build_wheel, requirements

TOKEN_OF_SECRET = "-o jsonpath='{.data.auth_token}' | base64 -d"  # KubeRay keeps it in the cluster's Secret


@dataclass(frozen=True)
class Written:
    """A file to be, its name unless the user gives one, and what to do with it.

    steps: pairs of words and the command that does it, FILE for the file's path.  checked: against what."""

    name: str
    text: str
    checked: str
    steps: list[tuple[str, str]]
    notes: list[str]


def for_kuberay(config: RunConfig, schema: Mapping[str, Any] | None, checked: str, *, fresh: bool = False) -> Written:
    """The manifest.  schema: of a CRD; None: our own description of what we write."""
    check_no_logins(config)
    check_for_nodes(config)
    check_for_kubernetes(config, (kuberay.MOUNT, kuberay.SHARED_MEMORY))
    if not fresh:
        check_goes_on(config)
    config, files = carried(config, f"{kuberay.MOUNT}/")
    name = kuberay.object_name(config.name, secrets.token_hex(3))
    own_image = config.cluster.image is not None
    pip = [*([] if own_image else _without_ray(requirements(storage_extras(config)))), *config.cluster.pip]
    with tempfile.TemporaryDirectory(prefix="ssrnn-submit-") as scratch:
        wheel = build_wheel(Path(scratch))
        parts = wheel.name, wheel.read_bytes()
    ray = metadata.version("ray")
    documents = kuberay.manifest(config, name, parts, job_environment(config), pip, ray, files, fresh)
    schemas.check_rayjob(documents[1], schemas.own_schema() if schema is None else schema)
    space = f"-n {config.cluster.namespace}"
    comment = (
        f"The run {config.name} on KubeRay (1.5.1 or newer), written by `ssrnn submit --to kuberay`.\n"
        "The code and the config are in the ConfigMap; secrets are named, their values are your cluster's."
    )
    cluster = f"$(kubectl get rayjob {name} {space} -o jsonpath='{{.status.rayClusterName}}')"
    steps = [
        ("make it", f"kubectl {' '.join(kubectl.apply_words('FILE'))}"),
        ("see it", f"kubectl get rayjob {name} {space}"),
        ("lead its dashboard here, and leave that open", f"kubectl port-forward {space} svc/{cluster}-head-svc 8265"),
        ("its token", f"export RAY_AUTH_TOKEN=$(kubectl get secret {space} {cluster} {TOKEN_OF_SECRET})"),
        ("follow it", f"ssrnn jobs logs {name} --follow"),
        ("take all of it away", "kubectl delete -f FILE"),
    ]
    notes = [] if own_image else ["cluster.image is null: every node installs the dependencies when the job starts"]
    return Written(f"{name}.yaml", as_yaml(documents, comment), checked, steps, notes)


def _without_ray(packages: list[str]) -> list[str]:
    """Ray's images have it; Ray does not install itself into a job."""
    return [each for each in packages if not each.startswith("ray[")]


def for_machines(config: RunConfig, provider: machines.Provider) -> Written:
    """The cluster file."""
    check_no_logins(config)
    check_for_nodes(config)
    cluster = machines.cluster_file(config, provider, requirements(storage_extras(config)))
    schemas.check_cluster_file(cluster)
    name = f"{config.name}-{provider}.yaml"
    comment = (
        f"A Ray cluster on {provider.upper()} for the run {config.name}, written by `ssrnn submit --to {provider}`.\n"
        "From `ray up` to `ray down` it costs money, the head also when no run is on it."
    )
    steps = [
        ("a token, once", "ray get-auth-token --generate"),
        ("rent the head", "ray up FILE"),
        ("lead its dashboard here, and leave that open", "ray dashboard FILE"),
        ("send the run", "ssrnn submit CONFIG --follow"),
        ("give all of it back", "ray down FILE"),
    ]
    notes = [] if config.cluster.image else ["cluster.image is null: the nodes need a Python of 3.11 or newer"]
    return Written(name, as_yaml([cluster], comment), f"Ray {metadata.version('ray')}'s own schema", steps, notes)
