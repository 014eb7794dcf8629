"""One MLflow run for one training, however many restarts, fed in the background: training never waits for it.

Imports the outbox and the MLflow run; everything that is put here stands in runs/<name>/outbox.jsonl until sent."""

import logging
import secrets
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from ssrnn_dist.config.run import RunConfig
from ssrnn_dist.hooks import StepMetrics
from ssrnn_dist.storage.mirror import OUTBOX
from ssrnn_dist.tracking import address
from ssrnn_dist.tracking.address import tracking_uri
from ssrnn_dist.tracking.jsonl import JsonLines, read_json_lines
from ssrnn_dist.tracking.mlflow_client import one_line
from ssrnn_dist.tracking.mlflow_run import MlflowRun, row_item
from ssrnn_dist.tracking.outbox import Outbox
from ssrnn_dist.tracking.story import EVENTS, event_row
from ssrnn_dist.tracking.totals import Totals
from ssrnn_dist.tracking.values import cost_values, metric_values, system_values

__all__ = ["Tracker", "metric_values", "send_late", "tracking_uri"]

log = logging.getLogger(__name__)

COST_EVERY_SECONDS = 10.0
RUN_TIMEOUT_SECONDS = 10.0
FINISH_TIMEOUT_SECONDS = 20.0
LATE_TIMEOUT_SECONDS = 600.0


def _log_it(kind: str, fields: dict[str, Any]) -> None:
    log.log(logging.WARNING if kind == "warning" else logging.INFO, "%s %s", kind, fields)


class Tracker:
    """The MLflow run of one training. After construction nothing here raises into the training loop."""

    def __init__(
        self, config: RunConfig, *, run_folder: Path, tell: Callable[[str, dict[str, Any]], None] = _log_it
    ) -> None:
        """Go on with the MLflow run named in run_folder/mlflow.json, or start one, in the background.

        tell: told each trouble once, as a warning, and where the run can be looked at; from any thread.
        What an earlier command could not send goes first. A server that is away is tried again while training goes on.
        Raises UserError where tracking.uri has a form that MLflow cannot take, OSError where the folder can't be
        written."""
        self._folder = run_folder
        self._run = MlflowRun(config, run_folder, tell)
        self.uri = self._run.uri
        self._command = secrets.token_hex(8)
        self._lock = threading.Lock()
        self._cost_at, self._time, self._step = float("-inf"), 0.0, 0
        run_folder.mkdir(parents=True, exist_ok=True)
        self._events = JsonLines(run_folder / EVENTS)
        self._outbox = Outbox(run_folder / OUTBOX, self._deliver, on_failure=self._say_it_is_away)
        self._put({"kind": "open"})

    @property
    def run_id(self) -> str | None:
        """MLflow's id of this run; None until the server has answered for the first time."""
        return self._run.run_id

    def wait_for_run(self, timeout_seconds: float = RUN_TIMEOUT_SECONDS) -> str | None:
        """The run's id, once the server was asked for it: waits as long as that takes, but not for one that is away."""
        self._outbox.wait_for_attempts(1, timeout_seconds)
        return self.run_id

    def log(self, metrics: StepMetrics, time_seconds: float | None = None) -> None:
        """Send a step's numbers in the background; what was not measured is left out.

        time_seconds: the row's own in metrics.jsonl (Unix), so that it stays the same row when it is sent again."""
        self._cost_at, self._step = time.monotonic(), metrics.step
        self._put(row_item(metrics.as_dict(), self._now() if time_seconds is None else time_seconds))

    def log_cost(self, totals: Totals, *, at_once: bool = False) -> None:
        """Send what was spent, not more often than every COST_EVERY_SECONDS, or at once; in the background."""
        if at_once or time.monotonic() - self._cost_at >= COST_EVERY_SECONDS:
            self._cost_at = time.monotonic()
            self._put_values(max(self._step, totals.reached_step), cost_values(totals))

    def log_system(self, node: str, values: Mapping[str, float], step: int | None = None) -> None:
        """Send a node's numbers (system_metrics.py) in the background; step: of the training, the last one if None."""
        self._put_values(self._step if step is None else step, system_values(node, values))

    def event(self, kind: str, fields: Mapping[str, Any]) -> None:
        """Write down what happened (events.jsonl), and show it on the run's page; the same events as `tell`'s."""
        at = self._now()
        try:
            with self._lock:
                self._events.append(event_row(kind, fields, at))
        except (OSError, ValueError, TypeError) as error:
            self._run.warn(f"an event was not written down: {one_line(error)}", about="events")
        self._put({"kind": "event", "event": kind, "fields": {key: str(value) for key, value in fields.items()}})

    def artifact(self, path: Path) -> None:
        """Send a file in the background, as it is then; it must stand until it was sent."""
        self._put({"kind": "artifact", "path": self._relative(path)})

    def register_model(self, folder: Path, name: str, tags: Mapping[str, str]) -> None:
        """Send a folder as the run's artifact `model`, and register it under a name; in the background.

        tags: of the version."""
        self._put({"kind": "model", "path": self._relative(folder), "name": name, "tags": dict(tags)})

    def finish(self, status: str, timeout_seconds: float | None = None) -> int:
        """Send what waits, set the run's status and stop; takes FINISH_TIMEOUT_SECONDS at most. What still waits.

        status: FINISHED, KILLED (stopped, may go on later) or FAILED."""
        self._put({"kind": "end", "status": status})
        return self._close(FINISH_TIMEOUT_SECONDS if timeout_seconds is None else timeout_seconds)

    @staticmethod
    def open_command(uri: str) -> str:
        """The one shell command that opens this MLflow on 127.0.0.1; for a server, the one that opens its page."""
        return address.open_command(uri)

    def _close(self, timeout_seconds: float) -> int:
        left = self._outbox.close(timeout_seconds)
        self._events.close()
        if left:
            self._run.warn(
                f"MLflow at {self._run.shown_uri} did not take the last {left} items yet: they are kept, and sent when "
                f"the run goes on or by `ssrnn cost --send {self._folder}`"
            )
        return left

    def _put_values(self, step: int, values: Mapping[str, float]) -> None:
        self._put({"kind": "row", "step": step, "time_ms": round(self._now() * 1000), "values": dict(values)})

    def _put(self, item: dict[str, Any]) -> None:
        try:
            self._outbox.put({**item, "command": self._command})
        except (OSError, ValueError, TypeError) as error:
            self._run.warn(f"something was not kept for MLflow: {one_line(error)}", about="outbox")

    def _deliver(self, items: list[dict[str, Any]]) -> None:
        """An earlier command's end was none: this one goes on."""
        self._run.deliver([item for item in items if item["kind"] != "end" or item["command"] == self._command])

    def _now(self) -> float:
        """Unix seconds that never go back, whatever is done to the clock."""
        with self._lock:
            self._time = max(self._time, time.time())
            return self._time

    def _relative(self, path: Path) -> str:
        """Relative to the run's folder where it is inside: the folder may be elsewhere when it is sent."""
        inside = path.absolute().is_relative_to(self._folder.absolute())
        return str(path.absolute().relative_to(self._folder.absolute()) if inside else path.absolute())

    def _say_it_is_away(self, error: Exception) -> None:
        self._run.warn(
            f"MLflow at {self._run.shown_uri} cannot be reached; training goes on, every number is kept, and "
            f"sending is tried again ({one_line(error)})",
            about="away",
        )


class _Late(Tracker):
    """Sends what ended commands have left, their end too."""

    def _deliver(self, items: list[dict[str, Any]]) -> None:
        self._run.deliver(items)


def send_late(config: RunConfig, timeout_seconds: float = LATE_TIMEOUT_SECONDS) -> int:
    """Send what MLflow has not got yet of a run that has ended; the number of items that still wait.

    Not while the run is under way: its own process sends."""
    outbox = config.folder / OUTBOX
    if not outbox.is_file():
        return 0
    has_ended = any(item.get("kind") == "end" for item in read_json_lines(outbox))
    late = _Late(config, run_folder=config.folder)
    return late._close(timeout_seconds) if has_ended else late.finish("KILLED", timeout_seconds)
