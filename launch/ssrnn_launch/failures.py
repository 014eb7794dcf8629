"""What failed under Ray Train, told to the board and in one line; and how often a start may fail.

Runs in Ray Train's controller and in the driver. Imports ray: only for use inside a command."""

from typing import Any

import ray
from ray.train import UserCallback
from ray.train.v2._internal.exceptions import WorkerGroupStartupFailedError, WorkerGroupStartupTimeoutError
from ray.train.v2._internal.execution.callback import ControllerCallback

from ssrnn_launch.problems import LaunchFailed


class TellFailures(UserCallback):
    """Posts which workers failed while they trained, and of what."""

    def __init__(self, board: Any) -> None:
        self._board = board

    def after_exception(self, run_context: Any, worker_exceptions: dict[int, Exception]) -> None:
        for rank, error in worker_exceptions.items():
            self._board.post.remote("worker_failed", {"rank": rank, "error": reason_of(error)})


class WatchStarts(ControllerCallback):
    """Posts why the workers did not start, and ends the run after max_failures of that.

    may_wait: a cluster without room for the workers is waited for, however long."""

    def __init__(self, board: Any, max_failures: int, may_wait: bool) -> None:
        self._board, self._max_failures, self._may_wait = board, max_failures, may_wait
        self._failures = 0

    def after_controller_state_update(self, previous_state: Any, current_state: Any) -> None:
        error = getattr(getattr(current_state, "training_failed_error", None), "controller_failure", None)
        if isinstance(error, WorkerGroupStartupTimeoutError):
            self._tell(f"no room for {error.num_workers} workers", counts=not self._may_wait)
        elif isinstance(error, WorkerGroupStartupFailedError):
            self._tell(f"the workers did not start: {reason_of(error)}", counts=True)

    def _tell(self, reason: str, counts: bool) -> None:
        self._board.post.remote("warning", {"message": reason if counts else f"{reason}; waiting for it"})
        self._failures += counts
        if self._failures > self._max_failures:
            raise LaunchFailed(f"{reason}, and no restart is left")


def reason_of(error: BaseException) -> str:
    """A failure in a few words: the exception's own line, not Ray's pages around it."""
    for wrapped in ("_base_exc", "health_check_failure", "cause"):
        inner = getattr(error, wrapped, None)
        if isinstance(inner, BaseException):
            return reason_of(inner)
    if isinstance(error, ray.exceptions.RayActorError):
        return "its process ended (killed, or out of memory)"
    if isinstance(error.__cause__, ray.exceptions.RayActorError):
        return "a worker's process ended (killed, or out of memory)"
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return f"{type(error).__name__}: {lines[0]}" if lines else type(error).__name__


def last_words(error: BaseException | None) -> str:
    """Why Ray Train gave up, in one line."""
    failures = getattr(error, "worker_failures", None)
    if failures:
        rank, first = min(failures.items())
        return f"worker {rank} failed, and no restart is left: {reason_of(first)}"
    inner = getattr(error, "controller_failure", None) or error
    if isinstance(inner, LaunchFailed):
        return str(inner)
    return f"Ray ended the run: {reason_of(inner)}" if inner else "Ray ended the run without a result"
