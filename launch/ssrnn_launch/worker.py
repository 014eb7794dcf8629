"""What runs in each worker: output into the run's logs, its share of threads, then ssrnn_dist.train.

Imports torch and the trainer inside, in the worker's process."""

import errno
import os
import sys
import traceback
from pathlib import Path
from typing import Any

from ssrnn_data.errors import DataError
from ssrnn_dist.problems import RunFailed, UserError
from ssrnn_launch.board import BoardHooks

# Errors that come back however often a run is started again: bugs, full disks. Collectives fail as RuntimeError.
LASTING_ERRORS = (RunFailed, TypeError, AttributeError, NameError, LookupError, AssertionError, ImportError)
LASTING_ERRNOS = {errno.ENOSPC, errno.EFBIG, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM}


def work(task: dict[str, Any]) -> dict[str, Any] | None:
    """Train this rank's part; rank 0's summary goes to the board.

    task: config (as a mapping), logs (folder), threads (of a worker; None: an even share of its node), board."""
    import ray.train

    context = ray.train.get_context()
    rank = context.get_world_rank()
    board = task["board"]
    _send_output_to(Path(task["logs"]) / f"worker-{rank}.log")
    try:
        _take_threads(task["threads"], context.get_local_world_size())
        summary = _train(task["config"], BoardHooks(board) if rank == 0 else None)
    except BaseException as error:
        traceback.print_exc()
        sys.stderr.flush()
        told = lasting_failure(error)
        if told is None:
            raise
        ray.get(board.fail.remote(*told))  # the driver ends the run; raising would only start it again
        return None
    if rank == 0:
        ray.get(board.finish.remote(summary))
    return summary


def _train(config: dict[str, Any], hooks: BoardHooks | None) -> dict[str, Any]:
    from ssrnn_dist.config import check_config
    from ssrnn_dist.train import train

    return train(check_config(config), hooks)


def lasting_failure(error: BaseException) -> tuple[bool, list[str]] | None:
    """Whether the user is at fault and the lines to tell, for an error that a restart would not mend; else None."""
    if isinstance(error, UserError):
        return True, [str(problem) for problem in error.problems]
    if isinstance(error, DataError):
        return True, [str(error)]
    if isinstance(error, RunFailed):
        return False, [str(error)]
    if isinstance(error, OSError) and error.errno in LASTING_ERRNOS:
        return False, [f"{error.filename or 'disk'}: {os.strerror(error.errno or 0)}"]
    if isinstance(error, LASTING_ERRORS):
        return False, [f"{type(error).__name__}: {' '.join(str(error).split())}"]
    return None


def _send_output_to(path: Path) -> None:
    """This process's stdout and stderr, native code's too, go to the end of a file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    sys.stdout.flush()
    sys.stderr.flush()
    with path.open("ab") as file:
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)


def _take_threads(threads: int | None, workers_here: int) -> None:
    import torch

    from ssrnn_launch.machine import available_cores

    torch.set_num_threads(threads or max(1, available_cores() // workers_here))
