"""What a run's workers cost an hour, on nodes as the config asks for them; null where no price says it.

Imports the config, and the ledger's own prices and our nodes' labels: plan and books go by the same rules."""

from ssrnn_dist.config import RunConfig
from ssrnn_dist.tracking.prices import NodeFacts, Prices
from ssrnn_launch.targets.nodes import worker_labels


def usd_per_hour(config: RunConfig, workers: int) -> float | None:
    """Of all workers together; None: not known. Unless workers are paid for, nodes that are not full are paid whole.

    UserError where the price file is wrong."""
    prices, places, node = Prices.of(config.cost), config.cluster.nodes.workers_each, node_asked_for(config)
    each = prices.rate(node, places).usd_per_hour
    if each is None:
        return None
    return each * (workers if prices.is_per_worker(node) else places * -(-workers // places))


def node_asked_for(config: RunConfig) -> NodeFacts:
    """What the config says of the nodes that it wants; a cluster that stands may know more of its own."""
    devices = config.cluster.nodes.workers_each * config.scale.gpus_per_worker
    return NodeFacts.of(worker_labels(config), devices, config.scale.accelerator_type)


def why_no_dollars(config: RunConfig, *, times_known: bool) -> str | None:
    """Why a plan's dollars are blank; None where they are not. UserError where the price file is wrong."""
    wanted = Prices.of(config.cost).wanted(node_asked_for(config))
    if wanted is None:
        return None if times_known else "times are not known"
    if not config.cost.is_priced:
        return f"no price is given: {wanted}"
    return f"no entry of {config.cost.price_file} prices a node as the config asks for it; it wants {wanted}"
