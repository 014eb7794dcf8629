"""The host of a loop that runs without Ray, alone or under torchrun: its books, its lines on the terminal, Ctrl-C.

Rank 0 keeps the books for all ranks: they work in step, so its phases stand for theirs."""

import os
import platform
import signal
import threading
from typing import Any, TextIO

from ssrnn_dist.bookkeeping import Books, furthest_step
from ssrnn_dist.config import RunConfig
from ssrnn_dist.console import LINE_EVERY_SECONDS, Lines, event_line
from ssrnn_dist.hooks import Finished, RunHooks, StepMetrics
from ssrnn_dist.problems import RunFailed
from ssrnn_dist.tracking.budget import USED_UP, check_budget, check_priced, check_start
from ssrnn_dist.tracking.energy import EnergyMeter
from ssrnn_dist.tracking.ledger import LEDGER
from ssrnn_dist.tracking.lives import SECONDS_PER_HOUR
from ssrnn_dist.tracking.prices import NodeFacts, Prices, worker_rate
from ssrnn_dist.tracking.process import process_age_seconds
from ssrnn_dist.tracking.totals import Totals, read_ledger

TICK_SECONDS = 0.5


def check_money(config: RunConfig, earlier: Totals) -> None:
    """UserError where the budget is spent, a start would spend it, or nobody knows what a worker costs."""
    cost = config.cost
    if cost.budget_usd is None:
        return
    prices, node = Prices.of(cost), NodeFacts()
    wanted = prices.wanted(node)
    check_priced(cost.budget_usd, {} if wanted is None else {platform.node(): wanted})
    check_budget(cost.budget_usd, earlier)
    workers = int(os.environ.get("WORLD_SIZE", 1))
    rate = prices.rate(node, int(os.environ.get("LOCAL_WORLD_SIZE", workers)))
    usd_per_second = workers * (rate.usd_per_hour or 0.0) / SECONDS_PER_HOUR
    check_start(cost.budget_usd, earlier.cost_usd, earlier.lives, usd_per_second)


class AloneHooks(RunHooks):
    """Keeps the books in rank 0's own process, and shows lines where it is given a file for them."""

    def __init__(self, config: RunConfig, file: TextIO | None = None) -> None:
        """file: where a person reads; None: nobody does.  UserError where a budget would not hold."""
        earlier = read_ledger(config.folder / LEDGER)
        check_money(config, earlier)
        super().__init__(reached_step=furthest_step(config.folder, earlier))
        self._config = config
        self._lines = None if file is None else Lines(file, LINE_EVERY_SECONDS)
        self._books: Books | None = None
        self._workers: tuple[str, ...] = ()
        self._meter: EnergyMeter | None = None
        self._stop = False
        self._failure: OSError | RunFailed | None = None
        self._stop_why: str | None = None
        self._over = threading.Event()
        self._ticking = threading.Thread(target=self._tick, name="ssrnn-books", daemon=True)

    def stop_on_signals(self) -> None:
        """From now on Ctrl-C and SIGTERM end the run after its step, with a checkpoint; a second one ends at once."""
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, self._on_signal)

    def _on_signal(self, number: int, _: Any) -> None:
        self._stop, self._stop_why = True, "stopped by a signal"
        signal.signal(number, signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL)

    def begin(self, step: int, tokens: int, workers: int) -> None:
        self._books = Books(self._config, self._tell)
        self._books.ledger.open_life("started")
        self._workers = tuple(str(rank) for rank in range(workers))
        here = int(os.environ.get("LOCAL_WORLD_SIZE", workers))
        rate = worker_rate(self._config.cost, here, lambda message: self._tell("warning", {"message": message}))
        for worker in self._workers:
            self._books.ledger.hire(worker, rate, process_age_seconds())
        uses_gpu = self._config.scale.gpus_per_worker > 0
        self._meter = EnergyMeter.open(uses_gpu, int(os.environ.get("LOCAL_RANK", 0)), 1 / here)
        self._books.begin(step, tokens, workers)
        self._ticking.start()

    def _tick(self) -> None:
        while not self._over.wait(TICK_SECONDS):
            self._book()
            try:
                used_up = self._kept.tick()
            except (OSError, RunFailed) as error:  # for the loop to raise: a thread's error ends nothing
                self._failure = error
                return
            if used_up:
                self._stop, self._stop_why = True, USED_UP

    def _book(self) -> None:
        phase, seconds = self.clock.read()
        for worker in self._workers:
            self._kept.ledger.pulse(worker, phase, seconds, self._joules())

    def _joules(self) -> float | None:
        """Of rank 0, which stands for the others."""
        return None if self._meter is None else self._meter.joules()

    @property
    def _kept(self) -> Books:
        assert self._books is not None, "begin comes first"
        return self._books

    def should_stop(self) -> bool:
        if self._failure is not None:
            raise self._failure
        return self._stop

    def report(self, metrics: StepMetrics) -> None:
        self._book()
        metrics = self._kept.report(metrics)
        if self._lines is not None:
            self._lines.metrics(metrics)

    def event(self, kind: str, **fields: Any) -> None:
        if self._books is not None:
            self._books.event(kind, fields)
        self._tell(kind, fields)

    def _tell(self, kind: str, fields: dict[str, Any]) -> None:
        if self._lines is not None:
            self._lines.note(event_line(kind, fields))

    def finish(self, finished: Finished) -> dict[str, Any]:
        self._stop_ticking()
        self._book()
        books, self._books = self._kept, None
        return books.finish(finished, self._stop_why)

    def close(self, failed: bool) -> None:
        self._stop_ticking()
        if self._books is not None:
            self._books.fail()
            self._books = None

    def _stop_ticking(self) -> None:
        self._over.set()
        if self._ticking.is_alive():
            self._ticking.join()
