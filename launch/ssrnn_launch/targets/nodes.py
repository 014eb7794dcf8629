"""What a run asks of the nodes of a cluster made for it, and what it must not take for granted there. Pure.

Imports the config, and the names of the labels that prices go by."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from ssrnn_dist.config import RunConfig
from ssrnn_dist.config.cluster import holds_login
from ssrnn_dist.problems import Problem, UserError
from ssrnn_dist.tracking.prices import INSTANCE_TYPE_LABELS, MARKET_LABEL, MARKETS

STORAGE_EXTRAS = {"s3": "s3", "gs": "gcs", "gcs": "gcs"}
LABEL_VALUE = re.compile(r"[A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?")  # of Kubernetes, and of Ray


@dataclass(frozen=True)
class Nodes:
    """The nodes that hold workers; the head is another one.

    fewest, most: how many.  cpus, gpus, memory_gb, resources: of each, resources by Ray's names."""

    fewest: int
    most: int
    cpus: int
    gpus: int
    memory_gb: float
    resources: dict[str, int]

    @property
    def elastic(self) -> bool:
        return self.fewest < self.most


def nodes_of(config: RunConfig) -> Nodes:
    """As many nodes as hold the run's workers."""
    scale, nodes = config.scale, config.cluster.nodes
    each = nodes.workers_each
    return Nodes(
        fewest=-(-scale.fewest_workers // each),
        most=-(-scale.most_workers // each),
        cpus=nodes.cpus or each * (scale.cpus_per_worker or 1),
        gpus=each * scale.gpus_per_worker,
        memory_gb=nodes.memory_gb or 4.0 * each + 4.0,
        resources={f"accelerator_type:{scale.accelerator_type}": 1} if scale.accelerator_type else {},
    )


def worker_labels(config: RunConfig) -> dict[str, str]:
    """Ray's labels of the nodes that hold workers, by which a price file knows them; `cost` has the first word."""
    cost, nodes = config.cost, config.cluster.nodes
    return price_labels(cost.instance_type or nodes.instance_type, nodes.spot or cost.market == "spot")


def price_labels(instance_type: str | None, spot: bool) -> dict[str, str]:
    """Ray's labels by which a price file knows a node.

    instance_type: None where it is not known; one that can't be a label's value is left to cost.instance_type."""
    market = next(label for label, market in MARKETS.items() if market == ("spot" if spot else "on_demand"))
    of_type = {INSTANCE_TYPE_LABELS[0]: instance_type} if instance_type and LABEL_VALUE.fullmatch(instance_type) else {}
    return {**of_type, MARKET_LABEL: market}


def storage_extras(config: RunConfig) -> list[str]:
    """The extras of this distribution that the run's URLs need on every node."""
    urls = [path for _, path in shared_paths(config) if "://" in path]
    return sorted({STORAGE_EXTRAS[scheme] for url in urls if (scheme := url.partition("://")[0]) in STORAGE_EXTRAS})


def shared_paths(config: RunConfig) -> Iterator[tuple[str, str]]:
    """The places, by their names in the config, that every node of a cluster reads or writes."""
    yield "run_root", config.run_root
    data = config.data
    if data.index is not None:
        yield "data.index", data.index
    for number, corpus in enumerate(data.mixture or ()):
        yield f"data.mixture.{number}.index", corpus.index
    if data.build is not None:
        for kind in ("sources", "valid_sources", "test_sources"):
            yield from ((f"data.build.{kind}.{number}", each) for number, each in enumerate(getattr(data.build, kind)))


def check_for_nodes(config: RunConfig) -> None:
    """UserError for each path that nodes other than this machine can't find."""
    allowed = "an fsspec URL (s3://…, gs://…), or the absolute path of storage that every node has mounted, is wanted"
    problems = [
        Problem(where, f"{path}, a path relative to this machine's folder, for a cluster of several nodes", allowed)
        for where, path in shared_paths(config)
        if not is_anywhere(path)
    ]
    if problems:
        raise UserError(*problems)


def is_anywhere(path: str) -> bool:
    """Whether a path means the same on every node; `stdlib:` is a source that every Python has, URLs have a scheme."""
    return path.startswith("/") or ":" in path.partition("/")[0]


def check_no_logins(config: RunConfig) -> None:
    """UserError for each value with a password in it: the config is sent, kept and shown."""
    problems = [
        Problem(where, "a URL with a password in it", "the URL alone; a variable of cluster.secrets for the password")
        for where, value in _strings(config.model_dump(mode="json"))
        if holds_login(value)
    ]
    if problems:
        raise UserError(*problems)


def _strings(value: Any, where: str = "") -> Iterator[tuple[str, str]]:
    if isinstance(value, str):
        yield where, value
    elif isinstance(value, dict):
        for key, each in value.items():
            yield from _strings(each, f"{where}.{key}" if where else str(key))
    elif isinstance(value, list):
        for number, each in enumerate(value):
            yield from _strings(each, f"{where}.{number}")
