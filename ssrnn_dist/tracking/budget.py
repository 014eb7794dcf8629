"""When a run's money is used up: early enough to save a checkpoint before the budget is passed. Decisions only.

Imports the words of the console and of errors, and the ledger's sums."""

from ssrnn_dist.console import dollars
from ssrnn_dist.problems import user_error
from ssrnn_dist.tracking.phases import START_UP
from ssrnn_dist.tracking.totals import Totals

WARN_FRACTION = 0.8
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
    """UserError where earlier commands have spent the budget, or another start, dear as the last one, would pass it."""
    spent_usd = earlier.cost_usd
    if budget_usd is None or spent_usd is None or not earlier.lives:
        return
    start_usd = (earlier.lives[-1].usd_by_phase() or {}).get(START_UP, 0.0)
    if spent_usd + start_usd >= budget_usd:
        came = f"{dollars(spent_usd)} of {dollars(budget_usd)} are spent, and the last start took {dollars(start_usd)}"
        raise user_error("cost.budget_usd", came, "a larger budget goes on from the newest checkpoint")


class Budget:
    """A run's budget, over all its commands; none where budget_usd is None."""

    def __init__(self, budget_usd: float | None) -> None:
        self.budget_usd = budget_usd
        self.is_used_up = False
        self._warned = False

    def look(self, cost_usd: float | None, usd_per_second: float, seconds_to_stop: float) -> str | None:
        """Take note of what was spent; a line for the user, once at 80 % and once at the end."""
        if self.budget_usd is None or cost_usd is None or self.is_used_up:
            return None
        spent = f"cost.budget_usd: {dollars(cost_usd)} of {dollars(self.budget_usd)} are spent"
        if is_used_up(self.budget_usd, cost_usd, usd_per_second, seconds_to_stop):
            self.is_used_up = True
            return (
                f"{spent}, and stopping takes up to {seconds_to_stop:.0f} s more: the run saves a checkpoint and ends; "
                "a larger budget goes on"
            )
        if cost_usd >= WARN_FRACTION * self.budget_usd and not self._warned:
            self._warned = True
            return f"{spent} ({cost_usd / self.budget_usd:.0%})"
        return None
