"""A worker's thread that tells the board every second that the worker lives, and hears whether to stop.

Runs beside the training thread, whatever that does; on one worker a node it looks for notices, too."""

import sys
import threading
import time
import traceback
from typing import Any

from ssrnn_dist.config.cluster import NoticeSection
from ssrnn_dist.tracking.energy import EnergyMeter
from ssrnn_dist.tracking.system_metrics import NodeSampler
from ssrnn_launch.board import BoardHooks, Orders, Pulse
from ssrnn_launch.notices import look

PULSE_SECONDS = 1.0
ANSWER_SECONDS = 10.0
SYSTEM_EVERY_SECONDS = 10.0


class Pulsing:
    """The thread; `with Pulsing(…):` for as long as the worker works."""

    def __init__(
        self, worker: str, board: Any, hooks: BoardHooks, notice: NoticeSection | None, sampler: NodeSampler | None
    ) -> None:
        """notice, sampler: what to look for on this node, and its numbers; None on all but one of its workers."""
        self._worker, self._board, self._hooks = worker, board, hooks
        self._notice, self._sampler = notice, sampler
        self.meter: EnergyMeter | None = None  # set once the device is known
        self._over = threading.Event()
        self._stack: str | None = None
        self._told: tuple[str, float | None] | None = None
        self._looked_at = self._sampled_at = float("-inf")
        self._thread = threading.Thread(target=self._run, name="ssrnn-pulse", daemon=True)

    def __enter__(self) -> "Pulsing":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join(ANSWER_SECONDS)

    def note(self, reason: str) -> None:
        """This node will go, as the process was told itself (SIGTERM)."""
        self._told = self._told or (reason, None)

    def _run(self) -> None:
        while True:
            last = self._over.is_set()
            self._obey(self._send())
            if last:
                return
            self._over.wait(PULSE_SECONDS)

    def _send(self) -> Orders:
        import ray

        phase, seconds = self._hooks.clock.read()
        joules = None if self.meter is None else self.meter.joules()
        notice, system = self._look(), self._sample()
        pulse = Pulse(self._worker, self._hooks.step, phase, seconds, joules, notice, self._stack, system)
        self._stack = None
        try:
            return ray.get(self._board.pulse.remote(pulse), timeout=ANSWER_SECONDS)
        except (ray.exceptions.RayError, ray.exceptions.GetTimeoutError):
            return Orders()  # whoever took the board away ends the workers, too

    def _obey(self, orders: Orders) -> None:
        self._hooks.stop_told = self._hooks.stop_told or orders.stop
        if orders.dump:
            self._stack = stacks()

    def _look(self) -> tuple[str, float | None] | None:
        now = time.monotonic()
        if self._told is None and self._notice is not None and now - self._looked_at >= self._notice.every_seconds:
            self._looked_at = now
            found = look(self._notice)
            self._told = None if found is None else (found.reason, found.deadline)
        return self._told

    def _sample(self) -> dict[str, float] | None:
        now = time.monotonic()
        if self._sampler is None or now - self._sampled_at < SYSTEM_EVERY_SECONDS:
            return None
        self._sampled_at = now
        return self._sampler.sample()


def stacks() -> str:
    """Where every thread of this process is, the main thread first."""
    main = threading.main_thread().ident
    names = {thread.ident: thread.name for thread in threading.enumerate()}
    frames = sorted(sys._current_frames().items(), key=lambda each: each[0] != main)
    return "\n".join(
        f"thread {names.get(ident, ident)}\n{''.join(traceback.format_stack(frame))}" for ident, frame in frames
    )
