"""A run on a Ray that we are connected to: supervised to its end, news shown as it comes, signals obeyed.

Used by local.py and job_entry.py alike. Imports ray: only for use inside a command."""

import signal
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from ssrnn_dist.bookkeeping import Books
from ssrnn_dist.config import RunConfig
from ssrnn_dist.hooks import StepMetrics
from ssrnn_dist.tracking.budget import USED_UP
from ssrnn_launch.machine import WorkerShape
from ssrnn_launch.problems import LaunchFailed, Stopped
from ssrnn_launch.progress import View
from ssrnn_launch.stop_signals import StopSignals
from ssrnn_launch.supervisor import StoppedWaiting, Supervisor


@dataclass(frozen=True)
class Host:
    """The Ray that a run is on.

    stop_seconds: from the first Ctrl-C until the workers are ended whether or not they have saved.
    what_died: says which of Ray's own processes has died, if one has."""

    stop_seconds: float
    what_died: Callable[[], str | None] = lambda: None


def run_on_ray(config: RunConfig, shape: WorkerShape, view: View, stop: StopSignals, host: Host) -> dict[str, Any]:
    """Train until the run ends or is told to stop; the summary.

    UserError: a worker found the input wrong.  LaunchFailed: it cannot go on.
    Stopped: told to stop before there was anything to sum up, or twice."""
    books = Books(config, view.event)
    hearing = _Hearing(config, view, stop, host)
    try:
        supervisor = hearing.supervisor = Supervisor(
            config, shape, books, lambda kind, fields: show(kind, fields, view), hearing.poll
        )
        try:
            finished = supervisor.run()
        finally:
            supervisor.close()
    except StoppedWaiting:
        books.fail("KILLED")
        goes_on = "a larger budget" if supervisor.stop_why == USED_UP else "the same command"
        told = f"{supervisor.stop_why} while no workers trained; {goes_on} goes on"
        raise Stopped(told, stop.number or signal.SIGTERM) from None
    except Stopped as stopped:
        books.fail("KILLED", at_once=stopped.at_once)
        raise
    except BaseException:
        books.fail("FAILED")
        raise
    return books.finish(finished, supervisor.stop_why)


class _Hearing:
    """Hears the person's signals and the death of Ray, twice a second."""

    def __init__(self, config: RunConfig, view: View, stop: StopSignals, host: Host) -> None:
        self._logs = str(config.folder.absolute() / "logs")
        self._view, self._stop, self._host = view, stop, host
        self._asked_at: float | None = None
        self.supervisor: Supervisor | None = None

    def poll(self) -> None:
        """Raises Stopped or LaunchFailed where there is nothing more to wait for."""
        if died := self._host.what_died():
            raise LaunchFailed(f"{died}; the same command goes on from the newest checkpoint", self._logs)
        if not self._stop.asked or self.supervisor is None:
            return
        has_begun = self.supervisor.has_begun
        if self._asked_at is None:
            self._asked_at = time.monotonic()
            self.supervisor.want_stop("stopped by a signal")
            self._view.note("stopping: saving a checkpoint (once more to end at once)" if has_begun else "stopping")
        give_up(self._stop, has_begun, time.monotonic() - self._asked_at > self._host.stop_seconds)


def give_up(stop: StopSignals, has_begun: bool, too_late: bool) -> None:
    """Once a stop is asked for: end where nothing can be saved, where the user insists, and where it takes too long."""
    number = stop.number or signal.SIGINT
    if not has_begun:
        raise Stopped("stopped before the first step", number)
    if too_late or stop.insisted:
        told = "ended without a new checkpoint; the same command goes on from the newest one"
        raise Stopped(told, number, at_once=stop.insisted)


def show(kind: str, fields: dict[str, Any], view: View) -> None:
    """Bring what happened to the view."""
    if kind == "metrics":
        view.metrics(StepMetrics(**fields))
    else:
        view.event(kind, fields)
