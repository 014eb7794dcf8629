"""The ledger of a run: every second of every worker and rented place, booked once, in an append-only file.

One process of the run writes it, by its own clock: workers only tell what their time goes into. Sums: totals.py."""

import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from ssrnn_dist.problems import RunFailed
from ssrnn_dist.tracking.dividing import divided, more, summed
from ssrnn_dist.tracking.jsonl import JsonLines, read_json_lines
from ssrnn_dist.tracking.lives import SECONDS_PER_HOUR, Life, Rate, lives_of, rates_of
from ssrnn_dist.tracking.phases import PHASES, START_UP
from ssrnn_dist.tracking.totals import Totals, totals_of

LEDGER = "ledger.jsonl"
# A killed command loses what no row has yet: a five-hundredth of the time, and the file of a month stays small.
SHORTEST_BEAT_SECONDS, LONGEST_BEAT_SECONDS, BEAT_FRACTION = 0.5, 30.0, 0.002


@dataclass
class _Worker:
    """A worker's account: its rate, until when it is booked, in which phase it was last."""

    rate: Rate
    hired_at: float
    booked_until: float
    phase: str = START_UP
    seconds: dict[str, float] = field(default_factory=dict)  # the most that it told
    joules: float = 0.0


class Ledger:
    """The books of a run, open for one command; open_life comes first. Any thread may call it.

    Between its pulses a worker's time is taken to go into the phase that it told last. Its next pulse may move that
    time to other phases, never to another price: seconds and dollars are exact at any moment, and never shrink."""

    def __init__(
        self,
        path: Path,
        *,
        command_age_seconds: float = 0.0,
        clock: Callable[[], float] = time.monotonic,
        wall: Callable[[], float] = time.time,
    ) -> None:
        """command_age_seconds: for how long the command has run already.  clock: seconds that never go back.
        wall: Unix seconds.  OSError where the file cannot be written."""
        self._path = path.absolute()
        rows = read_json_lines(path)
        self._clock, self._wall, self._lock = clock, wall, threading.RLock()
        self._earlier = lives_of(rows)
        self._rates: dict[Rate, str] = {rate: number for number, rate in rates_of(rows).items()}
        self._opened_at = self._beat_at = clock()
        self._command_began = clock() - command_age_seconds
        self._lines = JsonLines(path)
        self._workers: dict[str, _Worker] = {}
        self._unoccupied: dict[Rate, float] = {}  # places without a worker
        self._rented_until = clock()  # they are booked until then
        self._life: Life | None = None

    def found_reached(self, step: int) -> None:
        """Before a life is open: the last one came as far as this step, which a killed command had no time to book."""
        with self._lock:
            if self._earlier and step > max(life.step for life in self._earlier):
                *older, last = self._earlier
                self._lines.append({"kind": "reached", "life": last.number, "step": step})
                self._earlier = (*older, replace(last, step=step))

    def open_life(self, why: str) -> int:
        """A new worker group is asked for; all that is booked from now on is its. The life's number.

        why: failure or resize; of a command's first life it is found out: started, or resumed."""
        with self._lock:
            if self._life is not None:
                self._settle()
                self.beat(now=True)
                self._earlier = (*self._earlier, self._open())
            elif self._earlier:
                why = "resumed"
            number = self._earlier[-1].number + 1 if self._earlier else 0
            self._life = Life(number, why, self._wall())
            self._lines.append({"kind": "life", "life": number, "why": why, "time": round(self._wall(), 3)})
            return number

    def begin(self, from_step: int, tokens: int, workers: int) -> None:
        """The group trains from this step on."""
        with self._lock:
            life = self._open()
            self._lines.append(
                {"kind": "begin", "life": life.number, "workers": workers, "from_step": from_step, "tokens": tokens}
            )
            self._change(workers=workers, from_step=from_step, step=from_step, tokens=tokens)

    def hire(self, worker: str, rate: Rate, age_seconds: float = 0.0) -> None:
        """From now on a worker is paid for; age_seconds: since when it has been, all of it start-up."""
        with self._lock:
            self.release(worker)  # no name is paid for twice
            self._number(rate)
            hired_at = self._clock() - age_seconds
            self._workers[worker] = _Worker(rate, hired_at, hired_at)

    def backdate(self, worker: str, age_seconds: float) -> None:
        """The worker's process has lived for so long already: it is paid for since then, or since the command began."""
        with self._lock:
            account = self._workers.get(worker)
            if account is None:
                return
            earlier = account.hired_at - max(self._clock() - age_seconds, self._command_began)
            if earlier > 0:
                account.hired_at -= earlier
                booked = self._open().booked
                self._change(booked={**booked, account.rate: summed(booked.get(account.rate, {}), {START_UP: earlier})})

    def pulse(self, worker: str, phase: str, seconds: Mapping[str, float], joules: float | None = None) -> None:
        """Book a worker's time until now, split as it tells.

        seconds, joules: of its whole life until now; joules None: no meter.  phase: what it does now."""
        with self._lock:
            account = self._workers.get(worker)
            if account is None:
                return  # released already: a message that came late
            told = {each: more(seconds.get(each), account.seconds.get(each, 0.0)) for each in PHASES}
            self._book(account, told)
            account.phase = phase if phase in PHASES else account.phase
            account.seconds = {each: account.seconds.get(each, 0.0) + told[each] for each in PHASES}
            if joules is not None:
                added = more(joules, account.joules)
                self._change(joules=(self._open().joules or 0.0) + added)
                account.joules += added

    def release(self, worker: str) -> None:
        """The worker is paid for until now; what it has not told of goes into its last phase."""
        with self._lock:
            account = self._workers.pop(worker, None)
            if account is not None:
                self._book(account, {})

    def change_rate(self, worker: str, rate: Rate) -> None:
        """From now on the worker costs something else."""
        with self._lock:
            account = self._workers.get(worker)
            if account is not None and account.rate != rate:
                self._book(account, {})
                self._number(rate)
                account.rate = rate

    def rent(self, places: Mapping[Rate, float]) -> None:
        """So many rented places have no worker, by rate; until the next call."""
        with self._lock:
            for rate in places:
                self._number(rate)
            now = self._clock()
            self._life, self._rented_until = self._with_unoccupied(self._open(), now), now
            self._unoccupied = {rate: count for rate, count in places.items() if count}

    def reach(self, step: int, tokens: int) -> None:
        """Optimizer steps done, from the run's beginning; tokens trained on so far, each once."""
        with self._lock:
            life = self._open()
            self._change(step=max(life.step, step), tokens=max(life.tokens, tokens))

    def beat(self, *, now: bool = False) -> None:
        """Write what is booked, if it is time to, or now.

        OSError, with the file's name, on a full disk.  RunFailed where the file was removed or moved."""
        with self._lock:
            elapsed = self._clock() - self._opened_at
            due = min(max(SHORTEST_BEAT_SECONDS, BEAT_FRACTION * elapsed), LONGEST_BEAT_SECONDS)
            if self._life is None or not (now or self._clock() - self._beat_at >= due):
                return
            self._beat_at = self._clock()
            if not self._lines.stands():
                raise RunFailed(f"{self._path}: removed or moved while the run trained; nothing can be booked any more")
            self._lines.append(self._row(self._until_now()))

    def usd_per_second(self) -> float:
        """What all that is paid for now costs; what has no price costs nothing here."""
        with self._lock:
            hourly = [account.rate.usd_per_hour or 0.0 for account in self._workers.values()]
            hourly += [count * (rate.usd_per_hour or 0.0) for rate, count in self._unoccupied.items()]
            return sum(hourly) / SECONDS_PER_HOUR

    def totals(self) -> Totals:
        """What all lives add up to, until now."""
        with self._lock:
            return totals_of(self._earlier if self._life is None else (*self._earlier, self._until_now()))

    def close(self) -> None:
        """Release whoever is left, and write the last row."""
        with self._lock:
            for worker in list(self._workers):
                self.release(worker)
            if self._life is not None:
                self.rent({})
            self.beat(now=True)
            self._lines.close()

    def _open(self) -> Life:
        assert self._life is not None, "open_life comes first"
        return self._life

    def _change(self, **values: Any) -> None:
        self._life = replace(self._open(), **values)

    def _book(self, account: _Worker, told: Mapping[str, float]) -> None:
        """All time since the account was last booked: by the host's clock, in the proportions that were told."""
        now = self._clock()
        parts = divided(now - account.booked_until, told, account.phase)
        account.booked_until = now
        booked = self._open().booked
        self._change(booked={**booked, account.rate: summed(booked.get(account.rate, {}), parts)})

    def _settle(self) -> None:
        """Book everything until now."""
        self.rent(self._unoccupied)
        for account in self._workers.values():
            self._book(account, {})

    def _until_now(self) -> Life:
        """The life with the time that no pulse has told of yet."""
        now = self._clock()
        life = self._with_unoccupied(self._open(), now)
        booked = {rate: dict(phases) for rate, phases in life.booked.items()}
        for account in self._workers.values():
            phases = booked.setdefault(account.rate, {})
            phases[account.phase] = phases.get(account.phase, 0.0) + now - account.booked_until
        return replace(life, booked=booked)

    def _with_unoccupied(self, life: Life, now: float) -> Life:
        added = {rate: count * (now - self._rented_until) for rate, count in self._unoccupied.items()}
        return replace(life, unoccupied=summed(life.unoccupied, added))

    def _number(self, rate: Rate) -> str:
        """The rate's number in the file, where it is written down when it is first met."""
        if rate not in self._rates:
            number = str(1 + max(map(int, self._rates.values()), default=-1))
            row = {"kind": "rate", "rate": int(number), "name": rate.name, "usd_per_hour": rate.usd_per_hour}
            self._lines.append({**row, "time": round(self._wall(), 3)})
            self._rates[rate] = number
        return self._rates[rate]

    def _row(self, life: Life) -> dict[str, object]:
        booked = {
            self._rates[rate]: {phase: round(each, 6) for phase, each in phases.items()}
            for rate, phases in life.booked.items()
        }
        unoccupied = {self._rates[rate]: round(seconds, 6) for rate, seconds in life.unoccupied.items()}
        joules = None if life.joules is None else round(life.joules, 1)
        row = {"kind": "beat", "life": life.number, "time": round(self._wall(), 3), "step": life.step}
        return {**row, "tokens": life.tokens, "booked": booked, "unoccupied": unoccupied, "joules": joules}
