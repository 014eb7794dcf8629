"""What a plan counts for an hour is what the run's ledger would book for it, whatever the price is of."""

from pathlib import Path
from typing import Any

import pytest

from ssrnn_dist.config import check_config
from ssrnn_dist.tracking.prices import Prices
from ssrnn_launch import renting
from ssrnn_launch.placing import Node, needs
from ssrnn_launch.plan.prices import usd_per_hour, why_no_dollars
from ssrnn_launch.targets.nodes import worker_labels

PRICE_FILE = """
date: 2026-11-01
currency: USD
source: made up for this test
prices:
  - {instance_type: big, on_demand: 8.0, spot: 4.0, per: node}
  - {instance_type: own, on_demand: 2.0, per: worker}
  - {accelerator: H100, on_demand: 2.0, per: device}
"""


@pytest.mark.parametrize(
    ("cost", "gpus", "nodes", "of_nine"),
    [
        ({}, 0, {}, None),
        ({"usd_per_worker_hour": 2.0}, 0, {}, 18.0),
        ({"usd_per_device_hour": 2.0}, 1, {}, 24.0),
        ({"usd_per_device_hour": 2.0}, 0, {}, 24.0),  # without GPUs each worker counts as one
        ({"usd_per_node_hour": 8.0}, 0, {}, 24.0),
        ({"price_file": True}, 0, {"instance_type": "big"}, 24.0),
        ({"price_file": True}, 1, {"instance_type": "big", "spot": True}, 12.0),
        ({"price_file": True, "market": "spot"}, 0, {"instance_type": "big"}, 12.0),
        ({"price_file": True}, 0, {"instance_type": "own"}, 18.0),
        ({"price_file": True, "instance_type": "own"}, 0, {"instance_type": "big"}, 18.0),
        ({"price_file": True}, 1, {}, 24.0),
        ({"price_file": True}, 0, {}, None),
    ],
)
def test_a_plan_counts_the_price_that_the_ledger_would_book(
    tmp_path: Path, cost: dict[str, Any], gpus: int, nodes: dict[str, Any], of_nine: float | None
) -> None:
    """Nodes of four: the third is paid whole, unless it is workers that are paid for."""
    (tmp_path / "prices.yaml").write_text(PRICE_FILE)
    cost = {key: str(tmp_path / "prices.yaml") if key == "price_file" else value for key, value in cost.items()}
    scale = {"gpus_per_worker": gpus, "accelerator_type": "H100" if gpus else None}
    cluster = {"nodes": {"workers_each": 4, **nodes}}
    config = check_config({"name": "p", "data": {"index": "x"}, "cost": cost, "scale": scale, "cluster": cluster})
    assert usd_per_hour(config, 9) == of_nine
    prices, wanted = Prices.of(config.cost), needs(config.scale, 1.0)
    total = {"CPU": 4.0} | ({"GPU": 4.0, "accelerator_type:H100": 1.0} if gpus else {})
    found = [Node(name, name, total, total, worker_labels(config)) for name in ("a", "b", "c")]
    rates = [prices.rate(renting.facts_of(found[0]), 4).usd_per_hour] * 9
    empty = renting.unoccupied(found, {"a": 4, "b": 4, "c": 1}, prices, wanted, whole=False)
    rates += [rate.usd_per_hour for rate, count in empty.items() for _ in range(int(count))]
    assert sum(rate or 0.0 for rate in rates) == (of_nine or 0.0)


@pytest.mark.parametrize(
    ("cost", "nodes", "times_known", "why"),
    [
        ({"usd_per_worker_hour": 2.0}, {}, True, None),
        ({"usd_per_worker_hour": 2.0}, {}, False, "times are not known"),
        ({}, {}, True, "no price is given: cost.usd_per_worker_hour"),
        ({"price_file": True}, {"instance_type": "big"}, True, None),
        ({"price_file": True}, {"instance_type": "small"}, True, "it wants an entry with instance_type: small"),
        ({"price_file": True}, {"instance_type": "own", "spot": True}, False, "it wants spot in the entry of own"),
        ({"price_file": True}, {}, True, "or cost.instance_type"),
    ],
)
def test_a_plan_says_why_dollars_are_blank(
    tmp_path: Path, cost: dict[str, Any], nodes: dict[str, Any], times_known: bool, why: str | None
) -> None:
    (tmp_path / "prices.yaml").write_text(PRICE_FILE)
    cost = {key: str(tmp_path / "prices.yaml") if key == "price_file" else value for key, value in cost.items()}
    config = check_config({"name": "p", "data": {"index": "x"}, "cost": cost, "cluster": {"nodes": nodes}})
    told = why_no_dollars(config, times_known=times_known)
    assert told is None if why is None else why in (told or "")
