"""What failed, in one line; and whether trying again makes sense. Decisions are pure.

Imports ray: only for use inside a command."""

from collections.abc import Sequence
from dataclasses import dataclass

import ray

CRASH_LOOP = 3  # times the same failure at the same step


@dataclass(frozen=True)
class Failure:
    """One failure of the worker group. rank: of the worker at fault, None where none of them is."""

    reason: str
    step: int
    rank: int | None = None
    lost_nodes: frozenset[str] = frozenset()

    def __str__(self) -> str:
        return self.reason if self.rank is None else f"worker {self.rank} failed: {self.reason}"


def why_give_up(failures: Sequence[Failure], max_restarts: int) -> str | None:
    """Why the run should not start again after these failures, oldest first; None: it should."""
    last = failures[-1]
    same = failures[-CRASH_LOOP:]
    if len(same) == CRASH_LOOP and len({(each.reason, each.step) for each in same}) == 1:
        return f"{last}; the same failure {CRASH_LOOP} times at step {last.step:,}: more of them would only cost money"
    if len(failures) > max_restarts:
        return f"{last}, and no restart is left"
    return None


def root_cause(errors: dict[int, BaseException]) -> tuple[int, BaseException]:
    """Of the ranks' errors the one that the others follow from: a death before a lost connection, the lowest rank."""
    return min(errors.items(), key=lambda each: (not isinstance(each[1], ray.exceptions.RayActorError), each[0]))


def reason_of(error: BaseException) -> str:
    """A failure in a few words: the exception's own line, not Ray's pages around it."""
    if isinstance(error, ray.exceptions.RayTaskError) and isinstance(error.cause, BaseException):
        return reason_of(error.cause)
    if isinstance(error, ray.exceptions.RayActorError):
        return "its process ended (killed, or out of memory)"
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return f"{type(error).__name__}: {lines[0]}" if lines else type(error).__name__
