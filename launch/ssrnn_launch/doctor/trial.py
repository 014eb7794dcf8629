"""Two steps of the run itself, with its real workers, batch and model, in a scratch folder that goes afterwards.

Imports ray (by host.py): only for use inside a command, after ray is connected."""

import contextlib
import secrets
import signal
import time
from collections.abc import Callable
from pathlib import Path

from ssrnn_data.errors import DataError
from ssrnn_dist.config import RunConfig
from ssrnn_dist.hooks import StepMetrics
from ssrnn_dist.problems import RunFailed, UserError
from ssrnn_dist.runs import prepare_run
from ssrnn_dist.storage.remote import RemoteFailed
from ssrnn_launch.doctor.checks import Check, fail, warn
from ssrnn_launch.doctor.judge_trial import MOST_SECONDS, STEPS, judge_trial, scratch_config
from ssrnn_launch.doctor.probes import Agent, told
from ssrnn_launch.doctor.storage_probes import remove_tree
from ssrnn_launch.doctor.team import Team, cluster_nodes
from ssrnn_launch.host import Host, run_on_ray
from ssrnn_launch.machine import WorkerShape
from ssrnn_launch.problems import LaunchFailed, Stopped
from ssrnn_launch.progress import View
from ssrnn_launch.stop_signals import StopSignals

SCRATCH = "doctor-"
REMOVE_SECONDS = 60.0


def try_two_steps(config: RunConfig, shape: WorkerShape, host: Host) -> Check:
    """Train until two steps are seen, then stop with a checkpoint, as a run that is told to stop does.

    Raises Stopped where the user asked for it."""
    scratch = scratch_config(config, f"{SCRATCH}{secrets.token_hex(4)}")
    try:
        check = _try(scratch, shape, host)
    finally:
        left = _remove(scratch)
    if left is not None and check.state == "ok":
        return warn("trial", f"{check.detail}; {scratch.run_root} is still there ({left})", "remove it by hand")
    return check


def _try(scratch: RunConfig, shape: WorkerShape, host: Host) -> Check:
    stop = _TrialStop(MOST_SECONDS)
    seen = _Seen(stop.enough)
    began = time.monotonic()
    try:
        with stop.watching():
            run_on_ray(prepare_run(scratch), shape, seen, stop, host)
    except Stopped:
        if stop.count:  # by the user, not by us
            raise
    except (UserError, DataError, LaunchFailed, RunFailed, RemoteFailed) as error:
        last = _last_line(scratch.folder / "logs")  # read now: it goes with the folder
        more = "" if not last or told(error)[:60] in last else f" ({last})"
        return fail("trial", told(error) + more, "the run would end so, too")
    if stop.count:
        raise Stopped("stopped during the trial", stop.number or signal.SIGINT)
    return judge_trial(seen.steps, seen.first_at and seen.first_at - began, stop.too_late)


class _TrialStop(StopSignals):
    """Stops the run once it has shown enough, or takes too long. count: signals of the user's only."""

    def __init__(self, most_seconds: float) -> None:
        super().__init__()
        self._until = time.monotonic() + most_seconds
        self._enough = False

    def enough(self) -> None:
        self._enough = True

    @property
    def too_late(self) -> bool:
        return time.monotonic() > self._until

    @property
    def asked(self) -> bool:
        return self._enough or self.too_late or super().asked


class _Seen(View):
    """Keeps what a run tells, and says when enough steps were made."""

    def __init__(self, enough: Callable[[], None]) -> None:
        self.steps: list[StepMetrics] = []
        self.first_at: float | None = None
        self._enough = enough

    def metrics(self, metrics: StepMetrics) -> None:
        self.first_at = self.first_at or time.monotonic()
        self.steps.append(metrics)
        if len(self.steps) >= STEPS:
            self._enough()

    def note(self, text: str) -> None:
        """Nothing: the doctor has one line for all of it."""


def _last_line(logs: Path) -> str | None:
    """What the first of the workers' logs that says anything ends with."""
    for path in sorted(logs.glob("**/worker-*.log")):
        lines = [line.strip() for line in path.read_text(errors="replace").splitlines() if line.strip()]
        if lines:
            return f"{path.name} ends: {lines[-1][:160]}"
    return None


def _remove(scratch: RunConfig) -> str | None:
    """Everything below the scratch run_root, and what nodes keep of a URL; why not, or None."""
    if "://" in scratch.run_root:
        team = Team(Agent, {node.name: node for node in cluster_nodes()[0]})
        team.ask_all(remove_tree, str(scratch.folder.parent), seconds=REMOVE_SECONDS)
        team.end()
        with contextlib.suppress(OSError):
            remove_tree(str(scratch.folder.parent))
    try:
        remove_tree(scratch.run_root)
    except Exception as error:  # whatever a storage's library raises
        return told(error)
    return None
