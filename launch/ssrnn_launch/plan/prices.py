"""What workers cost an hour, as the config says; null where it does not. The one place where a plan asks for prices.

Imports the config and the prices."""

from ssrnn_dist.config import RunConfig
from ssrnn_dist.tracking.prices import NodeFacts, Prices


def usd_per_worker_hour(config: RunConfig) -> float | None:
    """The price of one worker for one hour, on nodes that are full; None: not known."""
    cost, nodes = config.cost, config.cluster.nodes
    if cost.usd_per_worker_hour is not None:
        return cost.usd_per_worker_hour
    if cost.usd_per_device_hour is not None and config.scale.gpus_per_worker:
        return cost.usd_per_device_hour
    if cost.usd_per_node_hour is not None:
        return cost.usd_per_node_hour / nodes.workers_each
    if cost.price_file is not None:
        devices = nodes.workers_each * config.scale.gpus_per_worker
        instance_type = cost.instance_type or nodes.instance_type
        node = NodeFacts(instance_type, devices=devices, accelerator=config.scale.accelerator_type)
        return Prices.of(cost).rate(node, nodes.workers_each).usd_per_hour
    return None


def usd_per_hour(config: RunConfig, workers: int) -> float | None:
    """Of all workers together. By node or device, nodes that are not full are paid whole."""
    each = usd_per_worker_hour(config)
    if each is None:
        return None
    if config.cost.usd_per_worker_hour is not None:
        return each * workers
    places = config.cluster.nodes.workers_each
    return each * places * -(-workers // places)
