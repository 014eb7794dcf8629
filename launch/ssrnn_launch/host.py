"""A run on a Ray that we are connected to: Ray Train in a thread, news shown as it comes, an orderly end.

Used by local.py and job_entry.py alike. Imports ray: only for use inside a command."""

import shutil
import signal
import threading
import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ray
from ray.train import FailureConfig, ScalingConfig
from ray.train import RunConfig as RayRunConfig
from ray.train.v2.api.data_parallel_trainer import DataParallelTrainer
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from ssrnn_dist.config import RunConfig
from ssrnn_dist.hooks import StepMetrics
from ssrnn_launch.board import Board, News
from ssrnn_launch.failures import TellFailures, WatchStarts, last_words
from ssrnn_launch.machine import WorkerShape
from ssrnn_launch.problems import LaunchFailed, Stopped, user_error_of
from ssrnn_launch.progress import View
from ssrnn_launch.rendezvous import NodeTorchConfig
from ssrnn_launch.stop_signals import StopSignals
from ssrnn_launch.worker import work

POLL_SECONDS = 0.25
SETTLE_SECONDS = 1.0  # for Ray Train to end by itself once all is said


@dataclass(frozen=True)
class Host:
    """The Ray that a run is on.

    stop_seconds: from the first Ctrl-C until the workers are ended whether or not they have saved.
    what_died: says which of Ray's own processes has died, if one has."""

    stop_seconds: float
    what_died: Callable[[], str | None] = lambda: None


def run_on_ray(config: RunConfig, shape: WorkerShape, view: View, stop: StopSignals, host: Host) -> dict[str, Any]:
    """Train under Ray Train until the run ends or is told to stop; the summary.

    UserError: a worker found the input wrong.  LaunchFailed: it cannot go on.
    Stopped: told to stop before there was anything to sum up, or twice."""
    logs = config.folder.absolute() / "logs"
    board = _start_board()
    storage = config.folder.absolute() / ".ray-train"
    shutil.rmtree(storage, ignore_errors=True)
    trainer = _trainer(config, shape, board, logs, storage)
    fitting = _Fit(trainer)
    try:
        return _follow(fitting, board, view, stop, host, logs)
    finally:
        shutil.rmtree(storage, ignore_errors=True)


def _start_board() -> Any:
    """The board lives where the driver lives: a lost node of workers does not take it along."""
    here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=True)
    return ray.remote(num_cpus=0, scheduling_strategy=here)(Board).remote()


class _Trainer(DataParallelTrainer):
    """Ray Train's trainer, its starts watched, without two processes of no use: each takes seconds and 0.2 GB."""

    def __init__(self, *given: Any, watch_starts: WatchStarts, **more: Any) -> None:
        super().__init__(*given, **more)
        self._watch_starts = watch_starts

    def _create_default_callbacks(self) -> list[Any]:
        unused = {"DatasetsCallback", "PlacementGroupCleanerCallback"}
        kept = [each for each in super()._create_default_callbacks() if type(each).__name__ not in unused]
        return [*kept, self._watch_starts]


def _trainer(config: RunConfig, shape: WorkerShape, board: Any, logs: Path, storage: Path) -> DataParallelTrainer:
    scale = config.scale
    gpu = scale.gpus_per_worker > 0
    task = {"config": config.model_dump(mode="json"), "logs": str(logs), "threads": shape.threads, "board": board}
    return _Trainer(
        work,
        train_loop_config=task,
        watch_starts=WatchStarts(board, scale.max_restarts, may_wait=config.cluster.address is not None),
        backend_config=NodeTorchConfig(backend="nccl" if gpu else "gloo"),
        scaling_config=ScalingConfig(
            num_workers=_as_ray_wants(scale.workers),
            use_gpu=gpu,
            resources_per_worker={"CPU": shape.cpus, **({"GPU": scale.gpus_per_worker} if gpu else {})},
        ),
        run_config=RayRunConfig(
            name=uuid.uuid4().hex,
            storage_path=str(storage),
            failure_config=FailureConfig(
                max_failures=scale.max_restarts,
                controller_failure_limit=-1,  # of starts, which WatchStarts counts
            ),
            worker_runtime_env={"env_vars": dict(shape.env_vars)} if shape.env_vars else None,
            callbacks=[TellFailures(board)],
        ),
    )


def _as_ray_wants(workers: int | tuple[int, int]) -> int | tuple[int, int]:
    """A range of one number is no range."""
    return workers[0] if isinstance(workers, tuple) and workers[0] == workers[1] else workers


class _Fit:
    """trainer.fit() in a thread of its own: in the main thread Ray Train would take Ctrl-C for itself."""

    def __init__(self, trainer: DataParallelTrainer) -> None:
        self.error: BaseException | None = None
        self._trainer = trainer
        self._thread = threading.Thread(target=self._run, name="ray-train", daemon=True)
        self._thread.start()

    def _run(self) -> None:
        try:
            self._trainer.fit()
        except BaseException as error:
            self.error = error

    def ended(self, within_seconds: float = 0.0) -> bool:
        self._thread.join(within_seconds)
        return not self._thread.is_alive()


def _follow(fitting: _Fit, board: Any, view: View, stop: StopSignals, host: Host, logs: Path) -> dict[str, Any]:
    """Show what comes and pass on what is asked, until the run ends one way or another."""
    asked_at, begun = None, False
    while True:
        ended = fitting.ended(POLL_SECONDS)
        if died := host.what_died():
            raise LaunchFailed(f"{died}; the same command goes on from the newest checkpoint", str(logs))
        news = _news(board)
        show(news, view)
        begun = begun or bool(news.posts)
        if news.failure is not None:
            raise _failure(*news.failure, logs)
        if news.summary is not None:
            fitting.ended(SETTLE_SECONDS)
            return news.summary
        if ended:
            raise LaunchFailed(last_words(fitting.error), str(logs))
        if stop.asked and asked_at is None:
            asked_at = time.monotonic()
            board.request_stop.remote()
            view.note("stopping: saving a checkpoint (once more to end at once)" if begun else "stopping")
        if asked_at is not None:
            _give_up(stop, begun, time.monotonic() - asked_at > host.stop_seconds)


def _give_up(stop: StopSignals, begun: bool, too_late: bool) -> None:
    """Once a stop is asked for: end where nothing can be saved, where the user insists, and where it takes too long."""
    number = stop.number or signal.SIGINT
    if not begun:
        raise Stopped("stopped before the first step", number)
    if too_late or stop.insisted:
        told = "ended without a new checkpoint; the same command goes on from the newest one"
        raise Stopped(told, number, at_once=stop.insisted)


def _news(board: Any) -> News:
    try:
        return ray.get(board.take.remote(), timeout=5)
    except (ray.exceptions.RayError, ray.exceptions.GetTimeoutError):
        return News()  # no board, no news; whether the run ended is asked of Ray Train itself


def show(news: News, view: View) -> None:
    """Bring posts to the view."""
    for kind, fields in news.posts:
        if kind == "metrics":
            view.metrics(StepMetrics(**fields))
        else:
            view.event(kind, fields)


def _failure(user_is_at_fault: bool, lines: list[str], logs: Path) -> Exception:
    return user_error_of(lines) if user_is_at_fault else LaunchFailed(lines[0], str(logs))
