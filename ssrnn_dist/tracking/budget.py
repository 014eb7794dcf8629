"""When a run's money is used up: early enough to save a checkpoint before the budget is passed. Decisions only.

Imports the words of the console and of errors, and the ledger's sums."""

from collections.abc import Iterable, Mapping, Sequence

from ssrnn_dist.console import dollars
from ssrnn_dist.problems import user_error
from ssrnn_dist.tracking.lives import Life
from ssrnn_dist.tracking.phases import START_UP
from ssrnn_dist.tracking.totals import Totals

WARN_FRACTION = 0.8
CHECKPOINT_SECONDS = 10.0  # until one was measured
USED_UP = "cost.budget_usd is used up"
LARGER = "a larger budget goes on from the newest checkpoint"
WIND_UP_SECONDS = 5.0  # from the last checkpoint until all workers are released, with the time to tell them


def seconds_to_stop(step_seconds: float, checkpoint_seconds: float, validation_seconds: float = 0.0) -> float:
    """From the wish to stop until all is released, each as long as it ever took.

    The step under way and one more for the word to reach it, a validation that is due after it, a checkpoint."""
    return 2 * step_seconds + validation_seconds + checkpoint_seconds + WIND_UP_SECONDS


def is_used_up(budget_usd: float, cost_usd: float, usd_per_second: float, seconds_to_stop: float) -> bool:
    """Would stopping any later pass the budget?

    usd_per_second: what the run costs now.  seconds_to_stop: from the wish to stop until all is released."""
    return cost_usd + usd_per_second * seconds_to_stop >= budget_usd


def check_budget(budget_usd: float | None, earlier: Totals) -> None:
    """UserError where earlier commands have spent the budget, or nobody knows what they have spent."""
    if budget_usd is None:
        return
    if earlier.cost_usd is None and earlier.worker_hours:
        came = f"{dollars(budget_usd)}, and what the run has cost so far is not known: some of it has no price"
        raise user_error("cost.budget_usd", came, "no budget, or --fresh")
    if (earlier.cost_usd or 0.0) >= budget_usd:
        came = f"{dollars(earlier.cost_usd)} of {dollars(budget_usd)} are spent"
        raise user_error("cost.budget_usd", came, LARGER)


def check_start(
    budget_usd: float | None, cost_usd: float | None, earlier: Sequence[Life], usd_per_second: float
) -> None:
    """UserError where another start, as long as the longest before, and a stop after it would reach the budget.

    cost_usd: spent so far.  earlier: the lives before this start; a run's first start is let through, as nobody knows
    how long it takes.  usd_per_second: of the workers that are to start, and the empty places beside them."""
    if budget_usd is None or cost_usd is None or not earlier:
        return
    seconds = longest_start_seconds(earlier) + seconds_to_stop(0.0, CHECKPOINT_SECONDS)
    start_usd = usd_per_second * seconds
    if cost_usd + start_usd >= budget_usd:
        came = (
            f"{dollars(cost_usd)} of {dollars(budget_usd)} are spent, and to start and to stop takes up to "
            f"{dollars(start_usd)} ({seconds:.0f} s)"
        )
        raise user_error("cost.budget_usd", came, LARGER)


def longest_start_seconds(lives: Iterable[Life]) -> float:
    """How long a worker took at most to come to its first step; 0 where none ever did."""
    begun = (life for life in lives if life.has_begun and life.workers)
    return max((life.seconds_by_phase()[START_UP] / life.workers for life in begun), default=0.0)


def check_priced(budget_usd: float | None, wanted: Mapping[str, str]) -> None:
    """UserError where a budget could not hold, as nodes have no price. wanted: what would price them, by name."""
    if budget_usd is not None and wanted:
        name, entry = min(wanted.items())
        more = f", nor have {len(wanted) - 1} more" if len(wanted) > 1 else ""
        came = f"{dollars(budget_usd)}, but node {name} has no price{more}, so it could not hold"
        raise user_error("cost.budget_usd", came, f"wanted in cost.price_file: {entry}; or no budget")


class Budget:
    """A run's budget, over all its commands; none where budget_usd is None."""

    def __init__(self, budget_usd: float | None) -> None:
        self.budget_usd = budget_usd
        self.is_used_up = False
        self._warned = False

    def look(
        self, cost_usd: float | None, usd_per_second: float, seconds_to_stop: float, has_begun: bool = True
    ) -> str | None:
        """Take note of what was spent; a line for the user, once at 80 % and once at the end.

        has_begun: do the workers train, so that there is something to save?"""
        if self.budget_usd is None or cost_usd is None or self.is_used_up:
            return None
        spent = f"cost.budget_usd: {dollars(cost_usd)} of {dollars(self.budget_usd)} are spent"
        if is_used_up(self.budget_usd, cost_usd, usd_per_second, seconds_to_stop):
            self.is_used_up = True
            if not has_begun:
                return f"{spent}, too much to train and to stop in time: the run ends before a step; {LARGER}"
            ends = "the run saves a checkpoint and ends; a larger budget goes on"
            return f"{spent}, and stopping takes up to {seconds_to_stop:.0f} s more: {ends}"
        if cost_usd >= WARN_FRACTION * self.budget_usd and not self._warned:
            self._warned = True
            return f"{spent} ({cost_usd / self.budget_usd:.0%})"
        return None
