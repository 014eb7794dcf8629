"""Where asked-for runs are looked up: folders by their path, everything else in an MLflow.

Imports the readers; mlflow is loaded only where a run is no folder."""

import sqlite3
from collections.abc import Callable, Sequence
from contextlib import closing
from pathlib import Path

from ssrnn_dist.problems import RunFailed, user_error
from ssrnn_dist.storage.mirror import run_folder_at
from ssrnn_dist.tracking.address import DATABASE_FILE, check_uri, sqlite_uri
from ssrnn_dist.tracking.costs_of_runs.from_folder import is_run_folder, run_in_folder
from ssrnn_dist.tracking.costs_of_runs.from_mlflow import runs_in_mlflow
from ssrnn_dist.tracking.costs_of_runs.run_cost import RunCost
from ssrnn_dist.tracking.facts import without_password


def gather(
    wanted: Sequence[str],
    *,
    uri: str | None,
    run_root: Path,
    experiment: str | None,
    since: float | None,
    with_history: bool,
    progress: Callable[[int, int], None],
    leave_out: Callable[[str], None],
) -> list[RunCost]:
    """The costs of the wanted runs (folders, names or ids; none: all of the MLflow), oldest first.

    uri: the MLflow; None: the one beside the runs of run_root.  leave_out: told of each folder or URL that can't be
    read, where others can.  UserError, or RunFailed where it can't be asked."""
    places = [word for word in dict.fromkeys(wanted) if "://" in word or is_run_folder(word)]
    named = [word for word in wanted if word not in places]
    costs = _in_places(places, leave_out)
    if named or not wanted:
        address = _that_is_there(uri) if uri is not None else _beside(run_root, named)
        costs += runs_in_mlflow(
            address, named, experiment=experiment, since=since, with_history=with_history, progress=progress
        )
    return sorted(costs, key=lambda cost: cost.age)


def _in_places(places: Sequence[str], leave_out: Callable[[str], None]) -> list[RunCost]:
    """One that can't be read hides none of the others; where none can be read, the first one's error is raised."""
    costs: list[RunCost] = []
    errors: list[Exception] = []
    for place in places:
        try:
            costs.append(run_in_folder(run_folder_at(place)))
        except (OSError, ValueError, RunFailed) as error:  # DataError and UserError are ValueErrors
            errors.append(error)
    if errors and not costs:
        raise errors[0]
    for each in errors:
        leave_out(str(each))
    return costs


def _that_is_there(uri: str) -> str:
    """The address as it is. UserError where MLflow would not take it, or would make a new SQLite there."""
    scheme = check_uri(uri, "--uri").partition(":")[0].partition("+")[0]
    if scheme == "sqlite" and not _has_experiments(uri.partition(":///")[2].partition("?")[0]):
        raise user_error("--uri", f"no MLflow in {without_password(uri)}", "the address of one that stands is wanted")
    return uri


def _has_experiments(path: str) -> bool:
    """Is it a SQLite file of MLflow's?  Read only; True where it is in use and nobody can tell."""
    if not Path(path).is_file():
        return False
    try:
        with closing(sqlite3.connect(f"{Path(path).absolute().as_uri()}?mode=ro", uri=True)) as database:
            return database.execute("SELECT 1 FROM sqlite_master WHERE name = 'experiments'").fetchone() is not None
    except sqlite3.OperationalError:
        return True
    except sqlite3.DatabaseError:
        return False


def _beside(run_root: Path, named: Sequence[str]) -> str:
    if (run_root / DATABASE_FILE).is_file():
        return sqlite_uri(run_root)
    came = f"no {DATABASE_FILE} in {run_root}/" + (f", and {named[0]!r} is no run's folder" if named else "")
    raise user_error("ssrnn cost", came, "--uri with an MLflow's address, --run-root, or folders of runs are allowed")
