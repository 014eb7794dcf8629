"""What the user can mend: a problem is one line that says where, what came, and what is allowed.

Imports nothing, so that every room above may raise it cheaply."""

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Problem:
    """One thing wrong with the user's input; prints as `<where>: <what came>; <what is allowed>`."""

    where: str
    came: str
    allowed: str

    def __str__(self) -> str:
        line = f"{self.where}: {self.came}; {self.allowed}"
        return " ".join(line.split())


class UserError(ValueError):
    """The user's input is wrong: exit code 2, one line per problem and no traceback."""

    def __init__(self, *problems: Problem) -> None:
        self.problems: Sequence[Problem] = problems
        super().__init__("\n".join(str(problem) for problem in problems))


def user_error(where: str, came: str, allowed: str) -> UserError:
    """Shorthand for the usual case of a single problem."""
    return UserError(Problem(where, came, allowed))


class RunFailed(RuntimeError):
    """The run cannot go on, and trying again would end the same: exit code 1, one line, no restart."""
