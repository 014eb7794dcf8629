"""What the run pays for: each worker by its node's rate, and rented places that have no worker. Told to the ledger.

Decisions are pure but for the price file, which may change; imports the config, prices and placing."""

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence

from ssrnn_dist.config.cost import CostSection
from ssrnn_dist.tracking.budget import check_priced, check_start
from ssrnn_dist.tracking.ledger import Ledger
from ssrnn_dist.tracking.lives import Rate
from ssrnn_dist.tracking.prices import NodeFacts, Prices
from ssrnn_launch import placing


def facts_of(node: placing.Node) -> NodeFacts:
    """What prices go by."""
    types = (name.partition(":")[2] for name in node.total if name.startswith("accelerator_type:"))
    return NodeFacts.of(node.labels, int(node.total.get("GPU", 0)), next(types, None))


def unoccupied(
    found: Sequence[placing.Node], held: Mapping[str, int], prices: Prices, wanted: Mapping[str, float], whole: bool
) -> dict[Rate, float]:
    """Rented places without a worker, by rate: of nodes that hold workers, or of the whole cluster.

    found: the cluster's nodes.  held: workers of ours by node.  wanted: what a worker asks of Ray. A node that holds no
    worker at all, such as a head, is one place at the price of the node."""
    empty: Counter[Rate] = Counter()
    for node in found:
        here, facts = held.get(node.id, 0), facts_of(node)
        if prices.is_per_worker(facts) or not (here or whole):
            continue
        places = placing.most_places(node, wanted)
        empty[prices.rate(facts, places)] += max(0, places - here) if places else 1
    return {rate: count for rate, count in empty.items() if count}


def unpriced(found: Iterable[placing.Node], prices: Prices) -> list[tuple[placing.Node, str]]:
    """The nodes that have no price, each with what would price it, in words."""
    wanted = [(node, prices.wanted(facts_of(node))) for node in found]
    return [(node, entry) for node, entry in wanted if entry is not None]


class Renting:
    """The rates of the cluster's nodes, as the config prices them."""

    def __init__(
        self, cost: CostSection, ledger: Ledger, wanted: Mapping[str, float], warn: Callable[[str], None]
    ) -> None:
        """UserError where the price file is wrong."""
        self._cost, self._ledger, self._wanted = cost, ledger, wanted
        self._prices = Prices.of(cost, warn)
        self._seats: dict[str, placing.Node] = {}
        self._found: Sequence[placing.Node] = ()

    @property
    def unpriced(self) -> set[str]:
        """Under a budget: the ids of the cluster's nodes that have no price. None of their time is booked."""
        return set() if self._cost.budget_usd is None else {node.id for node, _ in unpriced(self._found, self._prices)}

    def check_priced(self, more: Iterable[placing.Node] = ()) -> None:
        """UserError where a budget could not hold, as a node that is paid for has no price. more: nodes to come."""
        if self._cost.budget_usd is not None:
            paid_for = [*self._seats.values(), *more, *(self._found if self._is_whole else ())]
            wanted = {node.address: entry for node, entry in unpriced(paid_for, self._prices)}
            check_priced(self._cost.budget_usd, wanted)

    @property
    def _is_whole(self) -> bool:
        """Is all of the cluster paid for?"""
        return self._cost.rented == "cluster"

    def hire_all(self, seats: Mapping[str, placing.Node]) -> None:
        """From now on these workers are paid for, each on its node, and their places are no longer empty.

        UserError where a budget would not hold: a node has no price, or too little is left for another start."""
        self.check_priced(seats.values())
        self._seats.update(seats)
        for worker, node in seats.items():
            self._ledger.hire(worker, self._rate(node))
        self._rent()
        if self._cost.budget_usd is not None:
            totals = self._ledger.totals()
            check_start(self._cost.budget_usd, totals.cost_usd, totals.lives[:-1], self._ledger.usd_per_second())

    def release(self, worker: str) -> None:
        """It is paid for until now."""
        self._seats.pop(worker, None)
        self._ledger.release(worker)

    def look(self, found: Sequence[placing.Node]) -> None:
        """The cluster and the prices as they are now."""
        self._found = found
        if self._prices.reload():
            for worker, node in self._seats.items():
                self._ledger.change_rate(worker, self._rate(node))
        self._rent()

    def _rent(self) -> None:
        """Book the places without a worker from now on."""
        if self._cost.is_priced:
            held = Counter(node.id for node in self._seats.values())
            left_out = self.unpriced
            priced = [node for node in self._found if node.id not in left_out]
            self._ledger.rent(unoccupied(priced, held, self._prices, self._wanted, self._is_whole))

    def _rate(self, node: placing.Node) -> Rate:
        """What a place for a worker on a node costs."""
        return self._prices.rate(facts_of(node), max(1, placing.most_places(node, self._wanted)))
