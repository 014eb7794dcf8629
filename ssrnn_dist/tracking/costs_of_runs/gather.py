"""Where asked-for runs are looked up: folders by their path, everything else in an MLflow.

Imports the readers; mlflow is loaded only where a run is no folder."""

from collections.abc import Callable, Sequence
from pathlib import Path

from ssrnn_dist.problems import user_error
from ssrnn_dist.storage.mirror import run_folder_at
from ssrnn_dist.tracking.address import DATABASE_FILE, check_uri, sqlite_uri
from ssrnn_dist.tracking.costs_of_runs.from_folder import is_run_folder, run_in_folder
from ssrnn_dist.tracking.costs_of_runs.from_mlflow import runs_in_mlflow
from ssrnn_dist.tracking.costs_of_runs.run_cost import RunCost


def gather(
    wanted: Sequence[str],
    *,
    uri: str | None,
    run_root: Path,
    experiment: str | None,
    since: float | None,
    with_history: bool,
    progress: Callable[[int, int], None],
) -> list[RunCost]:
    """The costs of the wanted runs (folders, names or ids; none: all of the MLflow), oldest first.

    uri: the MLflow; None: the one beside the runs of run_root. UserError, or RunFailed where it can't be asked."""
    places = [word for word in dict.fromkeys(wanted) if "://" in word or is_run_folder(word)]
    folders = [run_folder_at(word) for word in places]
    named = [word for word in wanted if word not in places]
    costs = [run_in_folder(folder) for folder in folders]
    if named or not wanted:
        address = check_uri(uri, "--uri") if uri is not None else _beside(run_root, named)
        costs += runs_in_mlflow(
            address, named, experiment=experiment, since=since, with_history=with_history, progress=progress
        )
    return sorted(costs, key=lambda cost: cost.began)


def _beside(run_root: Path, named: Sequence[str]) -> str:
    if (run_root / DATABASE_FILE).is_file():
        return sqlite_uri(run_root)
    came = f"no {DATABASE_FILE} in {run_root}/" + (f", and {named[0]!r} is no run's folder" if named else "")
    raise user_error("ssrnn cost", came, "--uri with an MLflow's address, --run-root, or folders of runs are allowed")
