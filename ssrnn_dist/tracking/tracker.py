"""The run in MLflow: one MLflow run for one training, however many restarts. The only file that imports mlflow.

Imports mlflow inside functions (it takes seconds); a tracking server that is away is said once and never waited for."""

import json
import logging
import os
import re
import shlex
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from ssrnn_dist.config.run import RunConfig
from ssrnn_dist.files import write_json_atomic
from ssrnn_dist.hooks import StepMetrics
from ssrnn_dist.problems import user_error
from ssrnn_dist.tracking.facts import params_of, tags_of, without_password
from ssrnn_dist.tracking.outbox import Outbox

log = logging.getLogger(__name__)

DATABASES = ("sqlite", "postgresql", "mysql", "mssql")
SERVERS = ("http", "https")
START_TIMEOUT_SECONDS = 30.0  # importing mlflow and making its tables took 13 s on a busy machine
FINISH_TIMEOUT_SECONDS = 20.0
MOST_METRICS_IN_BATCH, MOST_PARAMS_IN_BATCH = 1000, 100  # MLflow's limits
PER_LAYER = {
    "layer_residuals": "feedback_residual",
    "layer_error_estimates": "feedback_error_estimate",
    "layer_sweeps": "feedback_sweeps",
    "layer_probe_errors": "probe_relative_error",
}
NOT_METRICS = ("step", "steps")


@dataclass(frozen=True)
class Row:
    """The metrics of one step, with the time in Unix milliseconds at which they were logged."""

    step: int
    time_ms: int
    values: dict[str, float]


@dataclass(frozen=True)
class Artifact:
    path: Path


@dataclass(frozen=True)
class End:
    status: str


@dataclass(frozen=True)
class Open:
    """Make or find the MLflow run; delivered first."""


Item = Open | Row | Artifact | End


class Tracker:
    """The MLflow run of one training. After construction nothing here raises into the training loop."""

    def __init__(self, config: RunConfig, *, run_folder: Path, warn: Callable[[str], None] = log.warning) -> None:
        """Go on with the MLflow run named in run_folder/mlflow.json, or start one.

        warn: told each trouble once, from any thread.
        Waits START_TIMEOUT_SECONDS at most; a server that is away is tried again while training goes on.
        Raises UserError where tracking.uri has a form that MLflow cannot take."""
        self.uri = tracking_uri(config)
        self._config = config
        self._saved = run_folder / "mlflow.json"
        self._run_id = read_run_id(self._saved)
        self._client: Any = None
        self._is_open = False
        self._warn, self._said = warn, set[str]()
        self._params, self._tags = params_of(config), tags_of(config)
        _quiet_environment()
        self._outbox: Outbox[Item] = Outbox(self._deliver, on_failure=self._say_it_is_away)
        self._outbox.put(Open())
        self._outbox.wait_for_first_attempt(START_TIMEOUT_SECONDS)

    @property
    def run_id(self) -> str | None:
        """MLflow's id of this run; None until the server has answered for the first time."""
        return self._run_id

    def log(self, metrics: StepMetrics) -> None:
        """Send a step's numbers in the background; what was not measured is left out."""
        self._outbox.put(Row(metrics.step, int(time.time() * 1000), metric_values(metrics)))

    def artifact(self, path: Path) -> None:
        """Send a file in the background; it must stand until finish."""
        self._outbox.put(Artifact(path))

    def finish(self, status: str) -> None:
        """Send what waits, set the run's status and stop; takes FINISH_TIMEOUT_SECONDS at most.

        status: FINISHED, KILLED (stopped, may go on later) or FAILED."""
        self._outbox.put(End(status))
        left = self._outbox.close(FINISH_TIMEOUT_SECONDS)
        if left:
            self._warn(f"MLflow at {self._shown_uri} did not take the last {left} items; metrics.jsonl has them")

    @staticmethod
    def open_command(uri: str) -> str:
        """The one shell command that opens this MLflow on 127.0.0.1; for a server, the one that opens its page."""
        address = shlex.quote(without_password(uri))
        if urlsplit(uri).scheme in SERVERS:
            return f"python -m webbrowser {address}"
        serve = f"{_mlflow_command()} ui --host 127.0.0.1 --workers 1"  # its usual four take a minute to start
        return f"MLFLOW_DISABLE_TELEMETRY=true {serve} --backend-store-uri {address}"

    @property
    def _shown_uri(self) -> str:
        return without_password(self.uri)

    def _deliver(self, items: list[Item]) -> None:
        """On the outbox's thread: send a batch. Raises what MLflow raises; sending a row twice does no harm."""
        if not self._is_open:
            self._open()
        self._send(self._send_rows, [item for item in items if isinstance(item, Row)])
        for item in items:
            if isinstance(item, Artifact):
                self._send(self._send_artifact, item.path)
            elif isinstance(item, End):
                self._send(self._client.set_terminated, self._run_id, item.status)

    def _send(self, call: Callable[..., object], *arguments: object) -> None:
        """Call MLflow; what it refuses for good is said and dropped, everything else is raised, to be tried again."""
        from mlflow.exceptions import MlflowException

        try:
            call(*arguments)
        except MlflowException as error:
            if error.error_code == "INVALID_PARAMETER_VALUE":
                self._warn_once("refused", f"MLflow refused some of this run's data: {_one_line(error)}")
                return
            if error.error_code == "RESOURCE_DOES_NOT_EXIST":
                self._is_open = False  # the server has lost the run: the next attempt starts another
            raise

    def _send_rows(self, rows: list[Row]) -> None:
        from mlflow.entities import Metric

        metrics = [
            Metric(key, value, row.time_ms, row.step) for row in rows for key, value in sorted(row.values.items())
        ]
        for start in range(0, len(metrics), MOST_METRICS_IN_BATCH):
            self._client.log_batch(self._run_id, metrics=metrics[start : start + MOST_METRICS_IN_BATCH])

    def _send_artifact(self, path: Path) -> None:
        if not path.is_file():
            self._warn_once(f"artifact {path}", f"{path} was not sent to MLflow: no such file")
            return
        self._client.log_artifact(self._run_id, str(path))

    def _open(self) -> None:
        """Find the run again, or start one, and give it what it does not have yet."""
        from mlflow import MlflowClient

        if self._client is None:
            self._client = MlflowClient(self.uri)
        run = self._find_run() or self._start_run()
        self._run_id = run.info.run_id
        write_json_atomic(self._saved, {"run_id": self._run_id, "uri": self._shown_uri})
        self._describe(run)
        self._is_open = True

    def _find_run(self) -> Any:
        from mlflow.exceptions import MlflowException

        if self._run_id is None:
            return None
        try:
            run = self._client.get_run(self._run_id)
        except MlflowException as error:
            if error.error_code != "RESOURCE_DOES_NOT_EXIST":
                raise
            run = None
        if run is None or run.info.lifecycle_stage != "active":
            self._warn(f"MLflow at {self._shown_uri} no longer has run {self._run_id}: starting another")
            return None
        self._client.update_run(self._run_id, status="RUNNING")
        return run

    def _start_run(self) -> Any:
        from mlflow.exceptions import MlflowException

        name = self._config.tracking.experiment
        experiment = self._client.get_experiment_by_name(name)
        if experiment is None:
            try:
                experiment_id = self._client.create_experiment(name, artifact_location=artifact_location(self._config))
            except MlflowException as error:
                if error.error_code != "RESOURCE_ALREADY_EXISTS":  # another run was quicker
                    raise
                experiment_id = self._client.get_experiment_by_name(name).experiment_id
        else:
            experiment_id = experiment.experiment_id
        return self._client.create_run(experiment_id, run_name=self._config.name)

    def _describe(self, run: Any) -> None:
        """Params are immutable in MLflow: those that changed since the run began become tags."""
        from mlflow.entities import Param, RunTag

        known = run.data.params
        new = [Param(key, value) for key, value in self._params.items() if key not in known]
        changed = {f"changed.{key}": value for key, value in self._params.items() if known.get(key, value) != value}
        tags = [RunTag(key, value) for key, value in {**self._tags, **changed}.items()]
        for start in range(0, max(len(new), len(tags)), MOST_PARAMS_IN_BATCH):
            part = slice(start, start + MOST_PARAMS_IN_BATCH)
            self._client.log_batch(run.info.run_id, params=new[part], tags=tags[part])

    def _say_it_is_away(self, error: Exception) -> None:
        self._warn_once(
            "away",
            f"MLflow at {self._shown_uri} cannot be reached; training goes on, metrics.jsonl keeps every number, and "
            f"sending is tried again ({_one_line(error)})",
        )

    def _warn_once(self, about: str, message: str) -> None:
        if about not in self._said:
            self._said.add(about)
            self._warn(message)


def tracking_uri(config: RunConfig) -> str:
    """The address of MLflow's store: tracking.uri, or SQLite in run_root, absolute. UserError for an unusable one."""
    uri = config.tracking.uri
    if uri is None:
        database = Path(config.run_root).absolute() / "mlflow.db"
        if any(sign in str(database) for sign in "%?"):
            raise user_error("run_root", str(database.parent), "MLflow's SQLite takes no '%' or '?' in its path")
        database.parent.mkdir(parents=True, exist_ok=True)
        return f"sqlite:///{database}"
    scheme = uri.partition(":")[0].partition("+")[0] if "://" in uri else ""
    if scheme not in (*SERVERS, *DATABASES):
        allowed = ", ".join(f"{each}://" for each in (*SERVERS, *DATABASES))
        raise user_error(
            "tracking.uri", without_password(uri), f"an address that starts with one of {allowed} is wanted"
        )
    return uri


def artifact_location(config: RunConfig) -> str | None:
    """Where artifacts go: beside the SQLite file of run_root; a server or a database of the user's decides itself."""
    return (Path(config.run_root).absolute() / "mlartifacts").as_uri() if config.tracking.uri is None else None


def metric_values(metrics: StepMetrics) -> dict[str, float]:
    """MLflow's metrics of a step: None left out, one key a layer (feedback_residual/layer_0), a corpus (epochs/web)."""
    values: dict[str, float] = {}
    for key, value in metrics.as_dict().items():
        if value is None:
            continue
        if key in PER_LAYER:
            layers = {f"{PER_LAYER[key]}/layer_{index}": each for index, each in enumerate(value)}
            values.update({name: float(each) for name, each in layers.items() if each is not None})
        elif key == "sources":
            for name, numbers in value.items():
                values.update({f"{number}/{_as_key(name)}": float(each) for number, each in numbers.items()})
        elif key not in NOT_METRICS:
            values[key] = float(value)
    return values


def _as_key(name: str) -> str:
    """A corpus's name as a part of a metric's that MLflow takes."""
    return re.sub(r"[^\w.\- ]|^\.*$", "_", name)[:200]


def read_run_id(path: Path) -> str | None:
    """The MLflow run that a run folder's mlflow.json names; None where there is none yet, or it is no such file."""
    try:
        saved = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    run_id = saved.get("run_id") if isinstance(saved, dict) else None
    return run_id if isinstance(run_id, str) else None


def _mlflow_command() -> str:
    """`mlflow` as this environment has it, so that the command works where the environment is not activated."""
    beside_python = Path(sys.executable).parent / "mlflow"
    if not beside_python.is_file():
        return "mlflow"
    inside_cwd = beside_python.is_relative_to(Path.cwd())
    return shlex.quote(str(beside_python.relative_to(Path.cwd()) if inside_cwd else beside_python))


def _one_line(error: Exception) -> str:
    text = " ".join(without_password(str(error)).split())
    return f"{type(error).__name__}: {text[:200]}"


def _quiet_environment() -> None:
    """No telemetry, no chatter, and no long waits: the outbox itself tries again. Set before mlflow is imported."""
    os.environ["MLFLOW_DISABLE_TELEMETRY"] = "true"
    os.environ["DO_NOT_TRACK"] = "true"
    os.environ["MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT"] = "true"
    os.environ.setdefault("MLFLOW_LOGGING_LEVEL", "ERROR")
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "8")
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
