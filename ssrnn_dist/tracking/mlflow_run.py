"""One MLflow run for one training: found again or started, described, and fed with what the outbox brings.

Asks MLflow through mlflow_client.py. Lives on the outbox's thread; raises what MLflow raises, to be tried again."""

import secrets
import time
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from ssrnn_dist.config.run import RunConfig
from ssrnn_dist.files import write_json_atomic
from ssrnn_dist.tracking import mlflow_client as mlflow
from ssrnn_dist.tracking.address import artifact_location, page_of, read_known, tracking_uri
from ssrnn_dist.tracking.facts import params_of, tags_of, without_password
from ssrnn_dist.tracking.history import HISTORY, read_history
from ssrnn_dist.tracking.jsonl import read_json_lines
from ssrnn_dist.tracking.register import register_version
from ssrnn_dist.tracking.story import EVENTS, event_tags, joined_note, story
from ssrnn_dist.tracking.values import is_of_the_books, metric_values, only_grows

SAVED, NOTE = "mlflow.json", "mlflow.note.content"
MARK = "ssrnn_mark"
KIND_OF_EXPERIMENT = {"mlflow.experimentKind": "custom_model_development"}  # its page shows training, not chats
Item = Mapping[str, Any]


class MlflowRun:
    """The MLflow run that mlflow.json in the run's folder names, or a new one."""

    def __init__(self, config: RunConfig, run_folder: Path, tell: Callable[[str, dict[str, Any]], None]) -> None:
        """tell: hears of each trouble once, and where the run can be looked at.

        UserError where tracking.uri has a form that MLflow cannot take."""
        self.uri = tracking_uri(config)
        self.shown_uri = without_password(self.uri)
        self._config, self._folder, self._tell = config, run_folder, tell
        known = read_known(run_folder / SAVED)
        self.run_id, self._mark = known.run_id, known.mark
        self._params, self._tags = params_of(config), tags_of(config)
        self._began_at = time.time()
        self._client: Any = None
        self._is_open = False
        self._said: set[str] = set()
        self._furthest_step = 0
        self._grown: dict[str, float] = {}

    def deliver(self, items: list[dict[str, Any]]) -> None:
        """Send a batch; sending it twice does no harm."""
        if not self._is_open:
            self._open()
        self._send_rows([item for item in items if item["kind"] == "row"])
        self._send_events([item for item in items if item["kind"] == "event"])
        for item in items:
            if item["kind"] == "artifact":
                self._send(self._send_artifact, self._folder / item["path"])
            elif item["kind"] == "model":
                self._send(self._register, item)
            elif item["kind"] == "end":
                self._send(self._client.set_terminated, self.run_id, item["status"])

    def warn(self, message: str, about: str | None = None) -> None:
        """about: what of is only ever said once."""
        if about is None or about not in self._said:
            self._said.add(about or "")
            self._tell("warning", {"message": message})

    def _send(self, call: Callable[..., object], *arguments: object) -> bool:
        """Call MLflow; False where it refuses for good. Everything else is raised, to be tried again."""
        try:
            call(*arguments)
        except Exception as error:
            if mlflow.code_of(error) == mlflow.REFUSED:
                self.warn(f"MLflow refused some of this run's data: {mlflow.one_line(error)}", about="refused")
                return False
            if mlflow.code_of(error) == mlflow.MISSING:
                self._is_open = False  # the server has lost the run: the next attempt starts another
            raise
        return True

    def _send_rows(self, rows: Iterable[Item]) -> None:
        metrics = [each for row in rows for each in self._metrics_of(row)]
        for start in range(0, len(metrics), mlflow.MOST_METRICS_IN_BATCH):
            part = metrics[start : start + mlflow.MOST_METRICS_IN_BATCH]
            if not self._send(self._log_metrics, part) and len(part) > 1:
                for each in part:  # one of them was refused, and the others with it
                    self._send(self._log_metrics, [each])

    def _log_metrics(self, metrics: list[Any]) -> None:
        self._client.log_batch(self.run_id, metrics=metrics)

    def _metrics_of(self, row: Item) -> list[Any]:
        """What a row says, but for what would have something shrink that only ever grows.

        That happens where a killed command had told MLflow of seconds that its ledger did not have yet."""
        self._furthest_step = max(self._furthest_step, row["step"])
        found = []
        for key, value in sorted(row["values"].items()):
            if only_grows(key):
                if value < self._grown.get(key, value):
                    continue
                self._grown[key] = value
            step = self._furthest_step if is_of_the_books(key) else row["step"]
            found.append(mlflow.metric(key, value, row["time_ms"], step))
        return found

    def _send_events(self, events: list[Item]) -> None:
        """As text on the run's page and as tags to search by."""
        if not events:
            return
        tags: dict[str, str] = {}
        for event in events:
            tags |= event_tags(event["event"], event["fields"])
        note = self._client.get_run(self.run_id).data.tags.get(NOTE)
        tags[NOTE] = joined_note(note, story(read_json_lines(self._folder / EVENTS)))
        self._send(self._set_tags, tags)

    def _set_tags(self, tags: Mapping[str, str]) -> None:
        self._client.log_batch(self.run_id, tags=[mlflow.tag(key, value) for key, value in tags.items()])

    def _send_artifact(self, path: Path) -> None:
        if not path.is_file():
            self.warn(f"{path} was not sent to MLflow: no such file", about=f"artifact {path}")
            return
        self._client.log_artifact(self.run_id, str(path))

    def _register(self, item: Item) -> None:
        version = register_version(
            self._client, str(self.run_id), self._folder / item["path"], item["name"], item["tags"]
        )
        self._tell("registered", {"model": item["name"], "version": version})

    def _open(self) -> None:
        """Find the run again, or start one, and give it what it does not have yet."""
        if self._client is None:
            self._client = mlflow.connect(self.uri)
        found = self._find_run()
        run = found or self._start_run()
        self.run_id = run.info.run_id
        self._save()
        self._describe(run)
        self._grown = {key: value for key, value in run.data.metrics.items() if only_grows(key)}
        lines = read_json_lines(self._folder / HISTORY)
        earlier = [line["step"] for line in lines if "step" in line and line.get("time", 0.0) < self._began_at]
        if found is None and earlier:  # another MLflow than the run began with, or one that has lost it
            self._furthest_step = 0
            self._send_rows(row_item(row, row["time"]) for row in read_history(self._folder / HISTORY))
        self._furthest_step = max([self._furthest_step, *earlier])
        self._is_open = True
        self._tell("tracking", {"run_id": self.run_id, "url": page_of(self.uri, run.info.experiment_id, self.run_id)})

    def _save(self) -> None:
        write_json_atomic(self._folder / SAVED, {"run_id": self.run_id, "mark": self._mark, "uri": self.shown_uri})

    def _find_run(self) -> Any:
        run = self._run_of_id() or self._run_of_mark()
        if run is not None:
            self._client.update_run(run.info.run_id, status="RUNNING")
        elif self.run_id is not None:
            self.warn(f"MLflow at {self.shown_uri} no longer has run {self.run_id}: starting another")
        return run

    def _run_of_id(self) -> Any:
        if self.run_id is None:
            return None
        try:
            run = self._client.get_run(self.run_id)
        except Exception as error:
            if mlflow.code_of(error) != mlflow.MISSING:
                raise
            return None
        return run if run.info.lifecycle_stage == "active" else None

    def _run_of_mark(self) -> Any:
        """One that MLflow began for us, though its answer was lost, or we were killed before we had written it down."""
        if self._mark is None:
            return None
        found = self._client.search_runs([self._experiment_id()], f"tags.{MARK} = '{self._mark}'", max_results=1)
        return found[0] if found else None

    def _start_run(self) -> Any:
        experiment_id = self._experiment_id()
        if self._mark is None:
            self._mark = secrets.token_hex(16)
            self._save()
        return self._client.create_run(experiment_id, run_name=self._config.name, tags={**self._tags, MARK: self._mark})

    def _experiment_id(self) -> str:
        """Of the config's experiment, which is made if there is none."""
        name = self._config.tracking.experiment
        experiment = self._client.get_experiment_by_name(name)
        if experiment is not None:
            return str(experiment.experiment_id)
        try:
            return str(
                self._client.create_experiment(
                    name, artifact_location=artifact_location(self._config), tags=KIND_OF_EXPERIMENT
                )
            )
        except Exception as error:
            if mlflow.code_of(error) != mlflow.TAKEN:  # another run was quicker
                raise
            return str(self._client.get_experiment_by_name(name).experiment_id)

    def _describe(self, run: Any) -> None:
        """Params are immutable in MLflow: those that changed since the run began become tags."""
        known = run.data.params
        new = [mlflow.param(key, value) for key, value in self._params.items() if key not in known]
        changed = {f"changed.{key}": value for key, value in self._params.items() if known.get(key, value) != value}
        tags = [mlflow.tag(key, value) for key, value in {**self._tags, **changed}.items()]
        for start in range(0, max(len(new), len(tags)), mlflow.MOST_PARAMS_IN_BATCH):
            part = slice(start, start + mlflow.MOST_PARAMS_IN_BATCH)
            self._client.log_batch(run.info.run_id, params=new[part], tags=tags[part])


def row_item(row: Mapping[str, Any], time_seconds: float) -> dict[str, Any]:
    """A row of metrics.jsonl as an item of the outbox."""
    return {
        "kind": "row",
        "step": row["step"],
        "time_ms": round(time_seconds * 1000),
        "values": metric_values(row),
    }
