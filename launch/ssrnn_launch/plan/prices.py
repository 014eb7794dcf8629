"""What a run's workers cost an hour, on nodes as the config asks for them; null where no price says it.

Imports the config, and the ledger's own prices and our nodes' labels: plan and books go by the same rules."""

from ssrnn_dist.config import RunConfig
from ssrnn_dist.tracking.prices import NodeFacts, Prices
from ssrnn_launch.targets.nodes import worker_labels


def usd_per_hour(config: RunConfig, workers: int) -> float | None:
    """Of all workers together; None: not known. Unless workers are paid for, nodes that are not full are paid whole.

    Raises UserError where the price file is wrong."""
    prices, places = Prices.of(config.cost), config.cluster.nodes.workers_each
    node = NodeFacts.of(worker_labels(config), places * config.scale.gpus_per_worker, config.scale.accelerator_type)
    each = prices.rate(node, places).usd_per_hour
    if each is None:
        return None
    return each * (workers if prices.is_per_worker(node) else places * -(-workers // places))
