"""How a launch ends other than well: told to stop, or failed with a log to look into.

Imports nothing of ours but ssrnn_dist.problems."""

from collections.abc import Sequence

from ssrnn_dist.problems import Problem, UserError


class Stopped(Exception):
    """The user or the cluster told us to stop, and we did."""

    def __init__(self, message: str, signal_number: int, at_once: bool = False) -> None:
        super().__init__(message)
        self.signal_number, self.at_once = signal_number, at_once


class LaunchFailed(RuntimeError):
    """What was started failed: exit code 1, one line, and where the log is."""

    def __init__(self, message: str, log: str | None = None) -> None:
        super().__init__(message)
        self.log = log


def user_error_of(lines: Sequence[str]) -> UserError:
    """The UserError whose lines came from another process."""
    return UserError(*(_problem(line) for line in lines))


def _problem(line: str) -> Problem:
    where, _, rest = line.partition(": ")
    came, _, allowed = rest.partition("; ")
    return Problem(where, came, allowed)
