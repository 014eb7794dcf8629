"""What goes to stdout: one JSON object with --json, text and tables for people without; all else goes to stderr.

With --json the process's stdout is moved aside, so that no library can write between."""

import json
import os
import sys
from collections.abc import Mapping, Sequence
from typing import IO, TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rich.console import Console

_state: dict[str, Any] = {"json": None, "debug": False}


def start(arguments: Sequence[str]) -> None:
    """Look for --json and --debug before anything is parsed: a usage error, too, obeys them."""
    options = arguments[: arguments.index("--")] if "--" in arguments else arguments
    _state["debug"] = "--debug" in options
    _state["json"] = _move_stdout_aside() if "--json" in options else None


def _move_stdout_aside() -> IO[str]:
    sys.stdout.flush()
    real = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    return real


def end() -> None:
    """Give stdout back, in a process that goes on after a command."""
    real: IO[str] | None = _state["json"]
    if real is not None:
        sys.stdout.flush()
        os.dup2(real.fileno(), 1)
        real.close()
    _state.update(json=None, debug=False)


def as_json() -> bool:
    return _state["json"] is not None


def debug() -> bool:
    return bool(_state["debug"])


def emit_json(value: Mapping[str, Any]) -> None:
    """The command's one JSON object. Numbers that JSON does not have (inf, nan) become null."""
    stream: IO[str] = _state["json"]
    stream.write(json.dumps(_finite(value), ensure_ascii=False, default=str) + "\n")
    stream.flush()


def _finite(value: Any) -> Any:
    if isinstance(value, float) and (value != value or value in (float("inf"), float("-inf"))):
        return None
    if isinstance(value, Mapping):
        return {str(key): _finite(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(each) for each in value]
    return value


def say(text: str) -> None:
    """A line for people: on stdout, or on stderr where stdout belongs to the JSON object."""
    print(text, file=sys.stderr if as_json() else sys.stdout, flush=True)


def note(text: str) -> None:
    """A line about what goes on; always stderr."""
    print(text, file=sys.stderr, flush=True)


def console(stderr: bool = False) -> "Console":
    """A rich console that neither wraps nor cuts where no terminal limits the width."""
    from rich.console import Console

    made = Console(stderr=stderr or as_json(), highlight=False)
    if not made.is_terminal:
        made.width = 160
    return made


def table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """A table on stdout."""
    from rich import box
    from rich.table import Table
    from rich.text import Text

    drawn = Table(*columns, box=box.SIMPLE_HEAD)
    for row in rows:
        drawn.add_row(*(Text(cell, overflow="fold") for cell in row))
    console().print(drawn)


def pairs(rows: Mapping[str, str], title: str | None = None) -> None:
    """Names and values on stdout."""
    from rich.table import Table
    from rich.text import Text

    drawn = Table.grid(padding=(0, 2), pad_edge=True)
    drawn.add_column(style="bold")
    drawn.add_column()
    for name, value in rows.items():
        drawn.add_row(name, Text(value, overflow="fold"))
    if title is not None:
        say(title)
    console().print(drawn)


def forget_stdout() -> None:
    """After a broken pipe, let the interpreter flush into nothing."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
