"""What a worker, a node or a device costs an hour, as the config or the user's price file says; never invented.

Decisions are pure; the price file is read, and read again when it has changed."""

import datetime
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from ssrnn_dist.config.cost import CostSection
from ssrnn_dist.problems import UserError
from ssrnn_dist.tracking.lives import Rate
from ssrnn_dist.tracking.price_file import Market, PriceEntry, PriceFile, read_price_file

INSTANCE_TYPE_LABELS = ("node.kubernetes.io/instance-type", "beta.kubernetes.io/instance-type", "instance-type")
ACCELERATOR_LABEL = "ray.io/accelerator-type"  # Ray sets it on nodes with an accelerator
NODE_ID_LABEL = "ray.io/node-id"
MARKET_LABEL = "ray.io/market-type"  # spot or on-demand; on KubeRay from the worker group's labels
MARKETS: Mapping[str, Market] = {"spot": "spot", "on-demand": "on_demand"}

Warn = Callable[[str], None]


@dataclass(frozen=True)
class NodeFacts:
    """What is known of a node. labels: Ray's.  devices: its accelerators.  None: not known."""

    instance_type: str | None = None
    labels: Mapping[str, str] = field(default_factory=dict)
    devices: int = 0
    accelerator: str | None = None

    @classmethod
    def of(cls, labels: Mapping[str, str], devices: int, accelerator: str | None = None) -> "NodeFacts":
        """The facts that Ray's labels of a node tell."""
        instance_type = next((labels[key] for key in INSTANCE_TYPE_LABELS if labels.get(key)), None)
        return cls(instance_type, labels, devices, accelerator or labels.get(ACCELERATOR_LABEL) or None)


@dataclass(frozen=True)
class _Priced:
    """An entry that prices a node. date: of the file."""

    entry: PriceEntry
    usd_per_hour: float
    date: datetime.date


class Prices:
    """The prices of a run, as the config gives them."""

    def __init__(self, cost: CostSection, warn: Warn, today: Callable[[], datetime.date]) -> None:
        self._cost, self._warn, self._today = cost, warn, today
        self._told: set[str] = set()
        self._known: dict[object, _Priced] = {}  # how each kind of node was priced last
        self._file: PriceFile | None = None
        self._read: object = None  # the price file as it was read last: its time and size
        if cost.price_file is not None:
            self._read = _state(cost.price_file)
            self._take(read_price_file(cost.price_file))

    @classmethod
    def of(
        cls,
        cost: CostSection,
        warn: Warn = lambda message: None,
        today: Callable[[], datetime.date] = datetime.date.today,
    ) -> "Prices":
        """The prices that a config names. warn: hears once of each price that is missing or old.

        UserError with every problem of the price file."""
        return cls(cost, warn, today)

    def rate(self, node: NodeFacts, places: int) -> Rate:
        """What one place for a worker on a node costs an hour; usd_per_hour None, and a warning, where nobody knows.

        places: how many workers fit on the node; 0: none, and the rate is that of the whole node."""
        cost = self._cost
        if cost.usd_per_worker_hour is not None:
            return Rate("worker", cost.usd_per_worker_hour * share("worker", places, node.devices))
        if cost.usd_per_node_hour is not None:
            return Rate(_named("node", places), cost.usd_per_node_hour * share("node", places, node.devices))
        if cost.usd_per_device_hour is not None:
            return Rate("device", cost.usd_per_device_hour * share("device", places, node.devices))
        return self._of_file(self._file, node, places) if self._file is not None else Rate("no price", None)

    def is_per_worker(self, node: NodeFacts) -> bool:
        """Is it workers that are paid for on this node, so that a place without one costs nothing?"""
        if self._file is None:
            return self._cost.usd_per_worker_hour is not None
        priced = self._priced(self._file, node)
        return priced is not None and priced.entry.per == "worker"

    def _instance_type(self, node: NodeFacts) -> str | None:
        return node.instance_type or self._cost.instance_type

    def _entry(self, prices: PriceFile, node: NodeFacts) -> PriceEntry | None:
        return prices.entry(self._instance_type(node), node.labels, node.accelerator)

    def _market(self, node: NodeFacts) -> Market:
        return MARKETS.get(node.labels.get(MARKET_LABEL, ""), self._cost.market)

    def _priced(self, prices: PriceFile, node: NodeFacts) -> "_Priced | None":
        """As the file prices a node now, or did once: a file that is saved half-edited takes no price away."""
        instance_type, market = self._instance_type(node), self._market(node)
        labels = {key: value for key, value in node.labels.items() if key != NODE_ID_LABEL}  # nodes alike cost the same
        kind = (instance_type, market, node.accelerator, frozenset(labels.items()))
        entry = self._entry(prices, node)
        usd = None if entry is None else entry.usd_per_hour(market)
        if entry is not None and usd is not None:
            self._known[kind] = _Priced(entry, usd, prices.date)
        elif (known := self._known.get(kind)) is not None:
            self._tell_once(f"no price any more for a node by {known.entry.name}: that of {known.date} stays")
        return self._known.get(kind)

    def _of_file(self, prices: PriceFile, node: NodeFacts, places: int) -> Rate:
        market, priced = self._market(node), self._priced(prices, node)
        if priced is None:
            return self._no_price(prices, node)
        entry = priced.entry
        named = _named(entry.name, places) if entry.per == "node" else f"{entry.per} of {entry.name}"
        return Rate(f"{named}, {market}, {priced.date}", priced.usd_per_hour * share(entry.per, places, node.devices))

    def _no_price(self, prices: PriceFile, node: NodeFacts) -> Rate:
        entry = self._entry(prices, node)
        self._tell_once(f"no price for a node, so cost_usd is null and no budget holds; it wants {self.wanted(node)}")
        named = entry.name if entry else self._instance_type(node) or node.accelerator or "node"
        return Rate(f"{named}, {self._market(node)}, no price", None)

    def wanted(self, node: NodeFacts) -> str | None:
        """What would price a node, in words: an entry of the price file; None where it has a price."""
        if self._file is None:
            return None if self._cost.is_priced else "cost.usd_per_worker_hour, or another price of `cost`"
        if self._priced(self._file, node) is not None:
            return None
        entry = self._entry(self._file, node)
        if entry is None:
            return _wanted(self._instance_type(node), node)
        return f"{self._market(node)} in the entry of {entry.name}"

    def reload(self) -> bool:
        """Read the price file again if it has changed on disk; are there other prices now?

        What cannot be read keeps the old prices, and is told once."""
        path = self._cost.price_file
        if path is None or (state := _state(path)) == self._read:
            return False
        self._read = state
        try:
            new = read_price_file(path)
        except UserError as error:
            problems = "; ".join(str(problem) for problem in error.problems)
            self._warn(f"the prices stay as they were: {problems}")
            return False
        return self._take(new)

    def _take(self, new: PriceFile) -> bool:
        if new == self._file:
            return False
        self._file = new
        self._told.clear()
        if (odd := new.age_warning(self._today())) is not None:
            self._tell_once(odd)
        return True

    def _tell_once(self, message: str) -> None:
        if message not in self._told:
            self._told.add(message)
            self._warn(f"cost.price_file {self._cost.price_file}: {message}")


def share(per: str, places: int, devices: int) -> float:
    """How much of the price of a node, a device or a worker one place for a worker costs.

    A node without accelerators has a device for each of its workers. places 0: of the whole node."""
    if per == "node":
        return 1 / max(1, places)
    if per == "device":
        return (devices or places) / max(1, places)
    return min(1, places)


def worker_rate(cost: CostSection, places: int = 1, warn: Warn = lambda message: None) -> Rate:
    """The rate of a worker on a node of which nothing is known but how many workers it has."""
    return Prices.of(cost, warn).rate(NodeFacts(), places)


def _named(node: str, places: int) -> str:
    return node if places < 2 else f"1/{places} of {node}"


def _wanted(instance_type: str | None, node: NodeFacts) -> str:
    """The entry that would price a node."""
    if instance_type is not None:
        return f"an entry with instance_type: {instance_type}"
    accelerator = f"accelerator: {node.accelerator}, or " if node.accelerator else ""
    labels = [
        f"{key}: {value}" for key, value in sorted(node.labels.items()) if key not in (NODE_ID_LABEL, MARKET_LABEL)
    ]
    told = f" such as {labels[0]}" if labels else ""
    return f"an entry with {accelerator}labels of the node{told}, or cost.instance_type"


def _state(path: str) -> object:
    """What tells whether a file has changed; None where it is not there."""
    try:
        stat = Path(path).expanduser().stat()
    except OSError:
        return None
    return stat.st_mtime_ns, stat.st_size, stat.st_ino
