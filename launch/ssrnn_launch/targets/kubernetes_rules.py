"""What Kubernetes would turn down in a run's config, or take and never place: told before anything is written. Pure.

Imports the config, and how much memory a worker takes at least."""

import re
from collections.abc import Iterator

from ssrnn_dist.config import RunConfig
from ssrnn_dist.problems import Problem, UserError
from ssrnn_launch.machine import WORKER_BYTES
from ssrnn_launch.targets.nodes import LABEL_VALUE

LONGEST_NAME = 253
_LABEL = re.compile(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?")  # RFC 1123's, as namespaces are named
_KEY = re.compile(r"[-A-Za-z0-9_.]+")  # of a secret
_NAME_ALLOWED = "small letters, digits, '-' and '.', a letter or digit at both ends, are allowed"


def is_name(text: str) -> bool:
    """A subdomain, as nearly all objects are named."""
    return len(text) <= LONGEST_NAME and all(_LABEL.fullmatch(part) for part in text.split("."))


def is_secret_reference(text: str) -> bool:
    """secret/key."""
    name, _, key = text.partition("/")
    return is_name(name) and _KEY.fullmatch(key) is not None


def check_for_kubernetes(config: RunConfig, own_folders: tuple[str, ...]) -> None:
    """UserError with a line for each value that could come to nothing.

    own_folders: where the pods have volumes of ours."""
    problems = [*_names(config), *_volumes(config, own_folders), *_amounts(config)]
    if problems:
        raise UserError(*problems)


def _names(config: RunConfig) -> Iterator[Problem]:
    cluster = config.cluster
    if not _LABEL.fullmatch(cluster.namespace):
        allowed = "small letters, digits and '-', 63 characters at most, are allowed"
        yield Problem("cluster.namespace", repr(cluster.namespace), allowed)
    if cluster.service_account is not None and not is_name(cluster.service_account):
        yield Problem("cluster.service_account", repr(cluster.service_account), _NAME_ALLOWED)
    for field in ("instance_type", "region", "zone"):
        value = getattr(cluster.nodes, field)
        if value is not None and not LABEL_VALUE.fullmatch(value):
            yield Problem(f"cluster.nodes.{field}", repr(value), "the value of a node's label is wanted")


def _volumes(config: RunConfig, own_folders: tuple[str, ...]) -> Iterator[Problem]:
    for folder, claim in config.cluster.volumes.items():
        if not is_name(claim):
            yield Problem(f"cluster.volumes.{folder}", f"the claim {claim!r}", _NAME_ALLOWED)
        if ":" in folder or folder.rstrip("/") in own_folders:
            taken = f"{' and '.join(own_folders)} are ours"
            yield Problem("cluster.volumes", folder, f"another folder, without ':', is wanted: {taken}")


def _amounts(config: RunConfig) -> Iterator[Problem]:
    """A pod asks for a node's whole share, whether so many workers come or not."""
    nodes, most = config.cluster.nodes, config.scale.most_workers
    if nodes.workers_each > most:
        came = f"{nodes.workers_each}, a pod with room for more than the run's {most} workers"
        yield Problem("cluster.nodes.workers_each", came, f"1 to {most} are allowed")
    least_gb = WORKER_BYTES * nodes.workers_each / 1e9
    if nodes.memory_gb is not None and nodes.memory_gb < least_gb:
        came = f"{nodes.memory_gb:g} for a pod of {nodes.workers_each} workers"
        yield Problem("cluster.nodes.memory_gb", came, f"at least {least_gb:g}, what even small workers take")
