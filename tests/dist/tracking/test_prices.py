"""Prices: by config and by the user's file, per worker, node or device, spot or not; never invented; read again."""

import datetime
import os
from pathlib import Path
from typing import Any

import pytest
import yaml

from ssrnn_dist.config.cost import CostSection
from ssrnn_dist.problems import UserError
from ssrnn_dist.tracking.prices import NodeFacts, Prices, share, worker_rate

TODAY = datetime.date(2026, 11, 20)
P5 = NodeFacts.of({"node.kubernetes.io/instance-type": "p5.48xlarge"}, devices=8, accelerator="H100")
SPOT_P5 = NodeFacts.of({**P5.labels, "ray.io/market-type": "spot"}, devices=8)
RACK = NodeFacts.of({"ray.io/node-group": "rack", "zone": "b"}, devices=0)


class PriceFileOnDisk:
    """A price file, and the prices of a config that names it."""

    def __init__(self, path: Path) -> None:
        self.path, self.warnings, self.written = path, list[str](), 0
        self.values: dict[str, Any] = {
            "date": datetime.date(2026, 11, 1),
            "currency": "USD",
            "source": "made up for this test",
            "prices": [
                {"instance_type": "p5.48xlarge", "on_demand": 80.0, "spot": 40.0, "per": "node"},
                {"labels": {"ray.io/node-group": "rack", "zone": "b"}, "on_demand": 2.0, "per": "worker"},
                {"labels": {"ray.io/node-group": "rack"}, "on_demand": 3.0, "per": "worker"},
                {"accelerator": "H100", "on_demand": 4.0, "per": "device"},
            ],
        }

    def write(self, text: str | None = None) -> None:
        self.path.write_text(yaml.safe_dump(self.values) if text is None else text)
        self.written += 1
        os.utime(self.path, ns=(self.written, self.written * 10**9))  # as if time had passed

    def open(self, **cost: Any) -> Prices:
        self.write()
        section = CostSection(price_file=str(self.path), **cost)
        return Prices.of(section, self.warnings.append, lambda: TODAY)


@pytest.fixture
def on_disk(tmp_path: Path) -> PriceFileOnDisk:
    return PriceFileOnDisk(tmp_path / "prices.yaml")


@pytest.mark.parametrize(
    ("node", "places", "usd", "name"),
    [
        (P5, 8, 10.0, "1/8 of p5.48xlarge, on_demand, 2026-11-01"),
        (P5, 1, 80.0, "p5.48xlarge, on_demand, 2026-11-01"),
        (P5, 0, 80.0, "p5.48xlarge, on_demand, 2026-11-01"),
        (SPOT_P5, 4, 10.0, "1/4 of p5.48xlarge, spot, 2026-11-01"),
        (RACK, 4, 2.0, "worker of ray.io/node-group=rack, zone=b, on_demand, 2026-11-01"),
        (NodeFacts.of({"ray.io/node-group": "rack", "zone": "c"}, 0), 4, 3.0, None),
        (NodeFacts.of({"ray.io/accelerator-type": "H100"}, 8), 8, 4.0, "device of H100, on_demand, 2026-11-01"),
        (NodeFacts.of({}, 8, "H100"), 4, 8.0, None),  # two devices for each worker
    ],
)
def test_a_place_costs_what_the_first_entry_says_that_fits(
    on_disk: PriceFileOnDisk, node: NodeFacts, places: int, usd: float, name: str | None
) -> None:
    rate = on_disk.open().rate(node, places)
    assert rate.usd_per_hour == pytest.approx(usd)
    assert name is None or rate.name == name
    assert on_disk.warnings == []


def test_the_config_says_what_labels_do_not(on_disk: PriceFileOnDisk) -> None:
    prices = on_disk.open(instance_type="p5.48xlarge", market="spot")
    assert prices.rate(NodeFacts(), 8).usd_per_hour == pytest.approx(5.0)
    on_demand = NodeFacts.of({"ray.io/market-type": "on-demand"}, 8)
    assert prices.rate(on_demand, 8).usd_per_hour == pytest.approx(10.0)  # the node's own label counts more
    other = NodeFacts.of({"node.kubernetes.io/instance-type": "p4d.24xlarge"}, 8)
    assert prices.rate(other, 8).usd_per_hour is None


@pytest.mark.parametrize(
    ("node", "wanted"),
    [
        (NodeFacts.of({"beta.kubernetes.io/instance-type": "g6.xlarge"}, 1), "instance_type: g6.xlarge"),
        (NodeFacts.of({}, 1, "L4"), "accelerator: L4"),
        (NodeFacts.of({"ray.io/node-id": "ab", "team": "blue"}, 1), "labels of the node such as team: blue"),
        (NodeFacts(), "cost.instance_type"),
        (NodeFacts.of({**RACK.labels, "ray.io/market-type": "spot"}, 0), "spot in the entry of ray.io/node-group=rack"),
    ],
)
def test_a_price_that_is_not_given_is_not_invented(on_disk: PriceFileOnDisk, node: NodeFacts, wanted: str) -> None:
    prices = on_disk.open()
    assert {prices.rate(node, 1).usd_per_hour for _ in range(3)} == {None}
    (warning,) = on_disk.warnings
    assert wanted in warning
    assert str(on_disk.path) in warning


def test_a_place_without_a_worker_costs_nothing_where_workers_are_paid_for(on_disk: PriceFileOnDisk) -> None:
    prices = on_disk.open()
    assert [prices.is_per_worker(node) for node in (P5, RACK, NodeFacts())] == [False, True, False]
    assert Prices.of(CostSection(usd_per_worker_hour=1.0)).is_per_worker(P5)
    assert not Prices.of(CostSection(usd_per_node_hour=1.0)).is_per_worker(P5)


def test_an_edited_file_counts_from_then_on_and_a_broken_one_does_not(on_disk: PriceFileOnDisk) -> None:
    prices = on_disk.open()
    assert not prices.reload()
    on_disk.values["prices"][0]["on_demand"] = 160.0
    on_disk.write()
    assert prices.reload()
    assert prices.rate(P5, 8).usd_per_hour == pytest.approx(20.0)
    on_disk.write()
    assert not prices.reload()  # touched, but the same
    on_disk.write("prices: [")
    assert [prices.reload() for _ in range(3)] == [False] * 3
    on_disk.path.unlink()
    assert [prices.reload() for _ in range(3)] == [False] * 3
    assert prices.rate(P5, 8).usd_per_hour == pytest.approx(20.0)
    assert len(on_disk.warnings) == 2
    assert "the prices stay as they were" in on_disk.warnings[0]
    assert "no such file" in on_disk.warnings[1]
    on_disk.values["prices"] = on_disk.values["prices"][1:2]
    on_disk.write()
    assert prices.reload()
    assert [prices.rate(P5, 8).usd_per_hour for _ in range(3)] == [pytest.approx(20.0)] * 3  # as it was priced once
    assert "no price any more for a node by p5" in on_disk.warnings[2]
    assert len(on_disk.warnings) == 3


def test_a_node_alike_comes_while_the_file_is_half_edited(on_disk: PriceFileOnDisk) -> None:
    """A worker that is lost goes on elsewhere: a name of a node is no kind."""
    first, second, other = (
        NodeFacts.of({"ray.io/node-id": name, "ray.io/node-group": group}, 0)
        for name, group in (("a", "rack"), ("b", "rack"), ("c", "shelf"))
    )
    prices = on_disk.open()
    assert prices.rate(first, 2).usd_per_hour == pytest.approx(3.0)
    entries = on_disk.values["prices"]
    on_disk.values["prices"] = entries[:1]
    on_disk.write()
    assert prices.reload()
    assert [prices.rate(each, 2).usd_per_hour for each in (second, other)] == [pytest.approx(3.0), None]
    assert (prices.wanted(second), prices.is_per_worker(second)) == (None, True)
    assert "no price any more for a node by ray.io/node-group=rack" in on_disk.warnings[0]
    on_disk.values["prices"] = [*entries[:2], {**entries[2], "on_demand": 5.0}]
    on_disk.write()
    assert prices.reload()
    assert prices.rate(second, 2).usd_per_hour == pytest.approx(5.0)


@pytest.mark.parametrize(
    ("date", "told"),
    [("2026-11-20", None), ("2026-08-22", None), ("2026-08-21", "91 days ago"), ("2026-11-21", "to come")],
)
def test_prices_age(on_disk: PriceFileOnDisk, date: str, told: str | None) -> None:
    on_disk.values["date"] = date
    on_disk.open()
    assert [told in each for each in on_disk.warnings] == ([] if told is None else [True])


def test_all_that_is_wrong_is_told_at_once(on_disk: PriceFileOnDisk) -> None:
    on_disk.values = {
        "date": "yesterday",
        "currency": "EUR",
        "currancy": "USD",
        "prices": [
            {"instance_type": "a", "accelerator": "b", "on_demand": 1, "per": "node"},
            {"on_demand": 1, "per": "node"},
            {"instance_type": "a", "per": "node"},
            {"instance_type": "a", "on_demand": -1, "per": "hour"},
            {"instance_type": "a", "on_demand": True},
            {"labels": {}, "on_demand": "much", "per": "node"},
        ],
    }
    with pytest.raises(UserError) as caught:
        on_disk.open()
    wheres = [each.where.removeprefix(f"{on_disk.path}: ") for each in caught.value.problems]
    of_entries = ["0.accelerator", "1.accelerator", "2.on_demand", "3.on_demand", "3.per", "4.on_demand", "4.per"]
    wanted = ["date", "currency", "currancy", "source", *(f"prices.{each}" for each in of_entries)]
    assert sorted(wheres) == sorted([*wanted, "prices.5.labels", "prices.5.on_demand"])
    assert all(len(str(each).splitlines()) == 1 for each in caught.value.problems)


@pytest.mark.parametrize(("kind", "again"), [("instance_type", "p5"), ("labels", {"a": "b"}), ("accelerator", "H100")])
def test_an_entry_that_stands_twice_is_told(on_disk: PriceFileOnDisk, kind: str, again: Any) -> None:
    on_disk.values["prices"] = [{kind: again, "on_demand": usd, "per": "node"} for usd in (1.0, 2.0)]
    with pytest.raises(UserError, match=r"prices\.1: .* again; one entry of each kind is allowed"):
        on_disk.open()


@pytest.mark.parametrize(("text", "came"), [("", "an empty file"), ("# none\n", "an empty file"), ("[1]", "a list")])
def test_a_file_of_another_shape_is_told_of_as_a_price_file(on_disk: PriceFileOnDisk, text: str, came: str) -> None:
    on_disk.write(text)
    with pytest.raises(UserError) as caught:
        Prices.of(CostSection(price_file=str(on_disk.path)))
    assert str(caught.value).startswith(f"{on_disk.path}: {came}; ")
    assert str(caught.value).endswith(
        "`date:`, `source:` and `prices:` (see launch/configs/prices/example.yaml)" + " are wanted" * ("empty" in came)
    )
    assert "`data:`" not in str(caught.value)


def test_a_file_that_is_not_there() -> None:
    with pytest.raises(UserError, match=r"^cost.price_file: nowhere/prices.yaml: no such file; "):
        Prices.of(CostSection(price_file="nowhere/prices.yaml"))


@pytest.mark.parametrize(
    ("cost", "node", "places", "usd"),
    [
        ({"usd_per_worker_hour": 2.0}, P5, 8, 2.0),
        ({"usd_per_worker_hour": 2.0}, P5, 0, 0.0),  # a head has no worker
        ({"usd_per_node_hour": 80.0}, P5, 8, 10.0),
        ({"usd_per_node_hour": 1.0}, NodeFacts(), 0, 1.0),
        ({"usd_per_device_hour": 3.0}, P5, 8, 3.0),
        ({"usd_per_device_hour": 3.0}, P5, 2, 12.0),
        ({"usd_per_device_hour": 3.0}, NodeFacts(), 4, 3.0),  # no accelerators: each worker is one
        ({"usd_per_device_hour": 3.0}, NodeFacts(), 0, 0.0),
        ({}, P5, 8, None),
    ],
)
def test_prices_of_the_config(cost: dict[str, float], node: NodeFacts, places: int, usd: float | None) -> None:
    prices = Prices.of(CostSection(**cost))
    assert prices.rate(node, places).usd_per_hour == (None if usd is None else pytest.approx(usd))
    assert not prices.reload()


@pytest.mark.parametrize("per", ["node", "device", "worker"])
@pytest.mark.parametrize("devices", [0, 1, 4, 8])
@pytest.mark.parametrize("places", [1, 2, 3, 8])
def test_the_places_of_a_node_together_cost_what_it_costs(per: str, devices: int, places: int) -> None:
    whole = {"node": 1, "device": devices or places, "worker": places}[per]
    assert places * share(per, places, devices) == pytest.approx(whole)


def test_a_worker_without_a_cluster() -> None:
    assert worker_rate(CostSection(usd_per_node_hour=4.0), 2).usd_per_hour == pytest.approx(2.0)
    assert worker_rate(CostSection(usd_per_worker_hour=4.0), 2).usd_per_hour == pytest.approx(4.0)
    assert worker_rate(CostSection()).usd_per_hour is None


def test_the_example_is_valid_and_marked_as_one() -> None:
    path = Path(__file__).parents[3] / "launch" / "configs" / "prices" / "example.yaml"
    prices = Prices.of(CostSection(price_file=str(path)))
    assert prices.rate(P5, 8).usd_per_hour is not None
    lines = [line for line in path.read_text().splitlines() if "on_demand:" in line or "spot:" in line]
    assert lines
    assert all("AN EXAMPLE" in line for line in lines)
