"""The one place where exceptions become exit codes and lines: 2 for the user's input, 1 for a failure, 130 for Ctrl-C.

A line is `error: <where>: <what came>; <what is allowed>`; a traceback is shown only with --debug."""

import errno
import os
import signal
import sys
import tempfile
import traceback
from dataclasses import dataclass
from pathlib import Path

import typer

from ssrnn_data.errors import DataError
from ssrnn_dist.problems import RunFailed, UserError
from ssrnn_launch.cli import output
from ssrnn_launch.problems import LaunchFailed, Stopped

# Where the path that the user gave is at fault, not the machine.
PATH_ERRORS = {errno.ENOENT, errno.EACCES, errno.EPERM, errno.ENOTDIR, errno.EISDIR, errno.EEXIST, errno.EROFS}


@dataclass(frozen=True)
class Failure:
    """What is told of an exception."""

    exit_code: int
    lines: tuple[str, ...]
    log: str | None = None
    unexpected: bool = False


def explain(error: BaseException) -> Failure:
    """The exit code and the lines for an exception; pure."""
    if isinstance(error, UserError):
        return Failure(2, tuple(str(problem) for problem in error.problems))
    if isinstance(error, DataError):
        return Failure(2, (one_line(error),))
    if hasattr(error, "format_message") and hasattr(error, "exit_code"):  # typer's own, whichever click it carries
        return Failure(int(error.exit_code), (_usage_line(error),))
    if isinstance(error, Stopped):
        return Failure(128 + error.signal_number, (one_line(error),))
    if isinstance(error, KeyboardInterrupt | typer.Abort):
        return Failure(128 + signal.SIGINT, ("stopped",))
    if isinstance(error, LaunchFailed):
        return Failure(1, (one_line(error),), error.log)
    if isinstance(error, RunFailed):
        return Failure(1, (one_line(error),))
    if isinstance(error, OSError) and error.errno is not None:
        return _os_failure(error)
    if isinstance(error, OSError) and _is_a_stores(error):
        return Failure(1, (one_line(error),))
    return Failure(1, (f"{type(error).__name__}: {one_line(error)}",), unexpected=True)


def _is_a_stores(error: OSError) -> bool:
    """Imported here: every command begins with this file, and what raises it is loaded by then."""
    from ssrnn_dist.storage.remote import RemoteFailed

    return isinstance(error, RemoteFailed)


def one_line(error: BaseException) -> str:
    return " ".join(str(error).split())


def _usage_line(error: BaseException) -> str:
    context = getattr(error, "ctx", None)
    where = context.command_path if context else "ssrnn"
    message = " ".join(str(error.format_message()).split()).rstrip(".")  # type: ignore[attr-defined]
    return f"{where}: {message[:1].lower()}{message[1:]}; see `{where} --help`"


def _os_failure(error: OSError) -> Failure:
    where = str(error.filename) if error.filename is not None else type(error).__name__
    reason = os.strerror(error.errno) if error.errno else one_line(error)
    if error.errno in PATH_ERRORS and error.filename is not None:
        return Failure(2, (f"{where}: {reason}; a path that can be read or written is wanted",))
    return Failure(1, (f"{where}: {reason}",))


def tell(error: BaseException) -> int:
    """Print an exception as its lines (and, with --json, as one object on stdout); its exit code."""
    if isinstance(error, SystemExit):
        return error.code if isinstance(error.code, int) else 1
    if type(error).__name__ == "NoArgsIsHelpError":
        print(error.format_message())  # type: ignore[attr-defined]
        return 0
    failure = explain(error)
    log = failure.log
    if output.debug():
        traceback.print_exception(error, file=sys.stderr)
    elif failure.unexpected:
        log = _write_traceback(error)
    for line in failure.lines:
        prefix = "" if failure.exit_code > 2 else "error: "
        print(f"{prefix}{line}" + (f" (log: {log})" if log else ""), file=sys.stderr)
    if output.as_json():
        output.emit_json({"error": failure.lines[0], "problems": list(failure.lines), "log": log})
    if isinstance(error, Stopped) and error.at_once:
        sys.stderr.flush()
        os._exit(failure.exit_code)  # Ray's own goodbye would wait for processes that are gone
    return failure.exit_code


def _write_traceback(error: BaseException) -> str | None:
    path = Path(tempfile.gettempdir()) / f"ssrnn-error-{os.getpid()}.log"
    try:
        path.write_text("".join(traceback.format_exception(error)))
    except OSError:
        return None
    return str(path)
