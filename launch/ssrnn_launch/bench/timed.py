"""Run by `ssrnn bench launch`: the real loop or the real command, in which every worker writes down when what happened.

python -m ssrnn_launch.bench.timed alone|train CONFIG. Subclasses at three seams, nothing else differs. No ray here."""

import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from functools import wraps
from typing import Any

from ssrnn_dist.alone import AloneHooks
from ssrnn_launch import worker
from ssrnn_launch.bench.marks import Marks
from ssrnn_launch.board import BoardHooks

marks = Marks()
join = worker.join


class TimedAloneHooks(AloneHooks):
    """A loop alone; the end of each step is written down."""

    def heartbeat(self, step: int) -> None:
        super().heartbeat(step)
        marks.note("step", step)


class TimedBoardHooks(BoardHooks):
    """A worker under Ray; the end of each step is written down."""

    def begin(self, step: int, tokens: int, workers: int) -> None:
        marks.note("engine made")
        super().begin(step, tokens, workers)

    def heartbeat(self, step: int) -> None:
        super().heartbeat(step)
        marks.note("step", step)


class TimedTrainWorker(worker.TrainWorker):
    """A worker that says when its process was there, torch imported, and so on."""

    def __init__(self, board: Any) -> None:
        marks.note("worker started")
        super().__init__(board)

    def work(self, task: worker.Task) -> None:
        marks.open(str(task.meeting.rank))
        worker.BoardHooks = TimedBoardHooks  # type: ignore[misc]
        worker.join = _join_timed  # type: ignore[assignment]
        super().work(task)


def _join_timed(*arguments: Any) -> None:
    """Where a worker joins its group, it has just imported torch and the trainer."""
    marks.note("torch imported")
    import ssrnn_dist.engine as engine

    engine._deepspeed = _then_noted(engine._deepspeed, "DeepSpeed imported")
    join(*arguments)


def _then_noted(function: Callable[..., Any], what: str) -> Callable[..., Any]:
    @wraps(function)
    def noted(*arguments: Any) -> Any:
        found = function(*arguments)
        marks.note_once(what)
        return found

    return noted


def _timed_start(local_ray: Callable[..., AbstractContextManager[Any]]) -> Callable[..., AbstractContextManager[Any]]:
    @contextmanager
    def timed(*arguments: Any, **named: Any) -> Iterator[Any]:
        marks.note("input checked")
        with local_ray(*arguments, **named) as found:
            marks.note("Ray started")
            yield found

    return timed


def main(kind: str, arguments: list[str]) -> int:
    """alone: as `python -m ssrnn_dist.train`.  train: as `ssrnn train`."""
    if kind == "alone":
        from ssrnn_dist import train as alone

        marks.open("0")
        alone.AloneHooks = TimedAloneHooks  # type: ignore[misc]
        return alone.main(arguments)
    from ssrnn_launch import ray_session
    from ssrnn_launch.cli import main as command

    marks.open("command")
    worker.TrainWorker = TimedTrainWorker  # type: ignore[misc]
    ray_session.local_ray = _timed_start(ray_session.local_ray)  # type: ignore[assignment]
    return command.main(["train", *arguments])


if __name__ == "__main__":
    # By its own name: what Ray's workers import must not be called __main__.
    from ssrnn_dist.world import end_process
    from ssrnn_launch.bench import timed

    code = timed.main(sys.argv[1], sys.argv[2:])
    if sys.argv[1] == "alone":
        end_process(code)
    sys.exit(code)
