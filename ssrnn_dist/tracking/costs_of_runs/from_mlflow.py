"""The cost of the runs that an MLflow has, by our metrics in it; a run of somebody else's has no cost and is left out.

Asks MLflow through mlflow_client.py."""

from collections.abc import Callable, Sequence
from typing import Any

from ssrnn_dist.problems import RunFailed, user_error
from ssrnn_dist.tracking import mlflow_client
from ssrnn_dist.tracking.costs_of_runs.run_cost import RunCost, Spent, first_by_step, last_by_step
from ssrnn_dist.tracking.facts import without_password

MOST_IN_PAGE = 1000
OUR_METRIC = "worker_hours"  # every row of ours has it


def runs_in_mlflow(
    uri: str,
    wanted: Sequence[str],
    *,
    experiment: str | None,
    since: float | None,
    with_history: bool,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> list[RunCost]:
    """The runs of these names or ids, or all; oldest first.

    experiment: its name; None: all.  since: Unix seconds, runs that went on after it.  with_history: read how the
    cost and the losses went, which takes four requests a run or more.
    UserError for a name that no run has; RunFailed where MLflow cannot be asked."""
    try:
        client = mlflow_client.connect(uri)
        found = [run for run in _search(client, experiment) if OUR_METRIC in run.data.metrics]
        chosen = _chosen(found, wanted, uri)
        costs = []
        for done, run in enumerate(chosen):
            progress(done, len(chosen))
            if since is None or _ended(run) >= since:
                costs.append(_cost_of(client, run, with_history))
        return sorted(costs, key=lambda cost: cost.age)
    except (ValueError, RunFailed):
        raise
    except Exception as error:
        raise RunFailed(f"{without_password(uri)}: MLflow can't be asked: {mlflow_client.one_line(error)}") from error


def _search(client: Any, experiment: str | None) -> list[Any]:
    if experiment is None:
        ids = [each.experiment_id for each in _all_pages(client.search_experiments, max_results=MOST_IN_PAGE)]
    else:
        named = client.get_experiment_by_name(experiment)
        if named is None:
            raise user_error("--experiment", repr(experiment), "the name of an experiment in this MLflow is wanted")
        ids = [named.experiment_id]
    return _all_pages(client.search_runs, experiment_ids=ids, max_results=MOST_IN_PAGE) if ids else []


def _all_pages(call: Callable[..., Any], **arguments: Any) -> list[Any]:
    found: list[Any] = []
    token = None
    while True:
        page = call(**arguments, page_token=token)
        found += page
        token = page.token
        if not token:
            return found


def _chosen(runs: list[Any], wanted: Sequence[str], uri: str) -> list[Any]:
    if not wanted:
        return runs
    chosen = []
    for word in dict.fromkeys(wanted):
        named = [run for run in runs if word in (run.info.run_id, run.info.run_name)]
        if not named:
            names = ", ".join(sorted({str(run.info.run_name) for run in runs})[:8]) or "none"
            raise user_error("RUN", repr(word), f"a run's name or id in {without_password(uri)}; there are: {names}")
        chosen += [run for run in named if run not in chosen]
    return chosen


def _ended(run: Any) -> float:
    """Unix seconds; a run under way has not ended."""
    return float("inf") if run.info.end_time is None else run.info.end_time / 1000


def _cost_of(client: Any, run: Any, with_history: bool) -> RunCost:
    metrics, tags = run.data.metrics, run.data.tags
    history = _History(client, run.info.run_id, set(metrics)) if with_history else None
    hours, dollars = (history.by_time("worker_hours"), history.by_time("cost_usd")) if history else ([], [])
    usd_at = {at: value for at, _, value in dollars}
    return RunCost(
        name=run.info.run_name,
        run_id=run.info.run_id,
        project=tags.get("project") or run.data.params.get("tracking.experiment") or "",
        status=run.info.status.lower(),
        began=run.info.start_time / 1000,
        worker_hours=metrics["worker_hours"],
        cost_usd=metrics.get("cost_usd"),
        tokens=int(metrics.get("tokens", 0)),
        train_loss=metrics.get("train_loss"),
        valid_loss=metrics.get("valid_loss"),
        goodput=metrics.get("goodput"),
        lost_usd=metrics.get("lost_usd"),
        energy_kwh=metrics.get("energy_kwh"),
        spent=[Spent(at, value, usd_at.get(at)) for at, _, value in hours],
        train_losses=last_by_step((step, value) for _, step, value in history.by_time("train_loss")) if history else (),
        valid_losses=last_by_step((step, value) for _, step, value in history.by_time("valid_loss")) if history else (),
        cost_at_step=first_by_step((step, value) for _, step, value in dollars),
    )


class _History:
    """The histories of one run's metrics."""

    def __init__(self, client: Any, run_id: str, known: set[str]) -> None:
        self._client, self._run_id, self._known = client, run_id, known

    def by_time(self, key: str) -> list[tuple[float, int, float]]:
        """(Unix seconds, step, value), oldest first; nothing for a metric that the run does not have."""
        if key not in self._known:
            return []
        found = self._client.get_metric_history(self._run_id, key)
        return sorted((each.timestamp / 1000, each.step, each.value) for each in found)
