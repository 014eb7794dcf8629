"""What runs in each worker: output into the run's logs, its share of threads, the group, then ssrnn_dist.train.

Imports torch and the trainer inside, in the worker's process."""

import errno
import os
import signal
import sys
import threading
import traceback
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ssrnn_data.errors import DataError
from ssrnn_dist.config import RunConfig
from ssrnn_dist.problems import RunFailed, UserError
from ssrnn_dist.tracking.energy import EnergyMeter
from ssrnn_dist.tracking.phases import PhaseClock
from ssrnn_dist.tracking.process import process_age_seconds
from ssrnn_dist.tracking.system_metrics import NodeSampler
from ssrnn_launch.board import BoardHooks
from ssrnn_launch.pulse import Pulsing
from ssrnn_launch.rendezvous import Meeting, environment_of, join, listen

# Errors that come back however often a run is started again: bugs, full disks. Collectives fail as RuntimeError.
LASTING_ERRORS = (RunFailed, TypeError, AttributeError, NameError, LookupError, AssertionError, ImportError)
LASTING_ERRNOS = {errno.ENOSPC, errno.EFBIG, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM}


@dataclass(frozen=True)
class Task:
    """What a worker has to do. config: as a mapping.  threads: None: an even share of its node."""

    worker: str
    config: dict[str, Any]
    logs: str
    threads: int | None
    reached_step: int
    meeting: Meeting


@dataclass(frozen=True)
class Arrival:
    """A worker's process: the GPUs that Ray gave to it, and for how many seconds it has lived."""

    devices: tuple[str, ...]
    pid: int
    age_seconds: float


class TrainWorker:
    """One rank; a Ray actor of one life of the run."""

    def __init__(self, board: Any) -> None:
        self._board = board
        self._clock = PhaseClock()

    def arrive(self) -> "Arrival":
        import ray

        devices = tuple(str(each) for each in ray.get_gpu_ids())
        return Arrival(devices, os.getpid(), process_age_seconds())

    def listen(self, host: str) -> tuple[str, int]:
        return listen(host)

    def work(self, task: Task) -> None:
        """Train this rank's part; rank 0 tells the board how it ended."""
        _send_output_to(Path(task.logs) / f"worker-{task.meeting.rank}.log")
        hooks = BoardHooks(self._board, self._clock, task.reached_step)
        from ssrnn_dist.config import check_config

        config = check_config(task.config)
        is_first_here = task.meeting.local_rank == 0
        notice = config.cluster.notice if is_first_here else None
        sampler = NodeSampler(task.meeting.devices) if is_first_here and config.tracking.system_metrics else None
        with Pulsing(task.worker, self._board, hooks, notice, sampler) as pulsing:
            _note_sigterm(pulsing)
            try:
                self._train(config, task, hooks, pulsing)
            except BaseException as error:
                self._tell(error)

    def _train(self, config: RunConfig, task: Task, hooks: BoardHooks, pulsing: Pulsing) -> None:
        network = config.cluster.network
        os.environ.update(environment_of(task.meeting, network))
        _take_threads(task.threads, task.meeting.local_size)
        from ssrnn_dist.train import train

        join(task.meeting, network)
        meeting = task.meeting
        pulsing.meter = EnergyMeter.open(bool(meeting.devices), meeting.local_rank, 1 / meeting.local_size)
        train(config, hooks)

    def _tell(self, error: BaseException) -> None:
        """What a restart would not mend is told to the board; everything else is raised, and starts the run again."""
        traceback.print_exc()
        sys.stderr.flush()
        told = lasting_failure(error)
        if told is None:
            raise error
        import ray

        ray.get(self._board.fail.remote(*told))


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


def _note_sigterm(pulsing: Pulsing) -> None:
    """SIGTERM to a worker means that its node goes: the run is told, and saves."""
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, lambda number, frame: pulsing.note("a worker got SIGTERM"))
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGTERM})  # Ray's processes are deaf to it on a Ray of ours


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
