"""What a ledger's rows tell: rates, and the lives of the run with their time by rate and phase. Pure.

Imports the standard library and phases only; ledger.py writes the rows, totals.py sums the lives."""

from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import Any

from ssrnn_dist.tracking.phases import IDLE, PHASES, TRAINING

SECONDS_PER_HOUR = 3600.0
ODD = (KeyError, TypeError, ValueError, AttributeError, ArithmeticError)  # what a row of another shape raises


@dataclass(frozen=True)
class Rate:
    """A price: of an hour of a worker, or of the place for one on a rented node. usd_per_hour None: not known."""

    name: str
    usd_per_hour: float | None

    def usd(self, seconds: float) -> float | None:
        if not seconds:
            return 0.0
        return None if self.usd_per_hour is None else seconds / SECONDS_PER_HOUR * self.usd_per_hour


@dataclass(frozen=True)
class Life:
    """One worker group, from when it was asked for until the next is: its time, and the steps that it made.

    why: started, resumed (by another command), failure or resize.  booked: worker-seconds by rate and phase.
    unoccupied: seconds of rented places without a worker, by rate.  time: Unix seconds at which it began."""

    number: int
    why: str
    time: float
    workers: int = 0
    from_step: int | None = None
    step: int = 0
    tokens: int = 0
    booked: Mapping[Rate, Mapping[str, float]] = field(default_factory=dict)
    unoccupied: Mapping[Rate, float] = field(default_factory=dict)
    joules: float | None = None
    ended: float | None = None  # Unix seconds of its last row

    @property
    def has_begun(self) -> bool:
        """Did its workers come to their first step?"""
        return self.from_step is not None

    @property
    def worker_seconds(self) -> float:
        return sum(sum(phases.values()) for phases in self.booked.values())

    @property
    def steps(self) -> tuple[int, int]:
        """From which step to which it trained; an empty range where it did not."""
        start = self.step if self.from_step is None else self.from_step
        return start, max(start, self.step)

    def seconds_by_phase(self) -> dict[str, float]:
        """Worker-seconds of each phase; places without a worker are idle."""
        seconds = dict.fromkeys(PHASES, 0.0)
        for _, phase, spent in self._spent():
            seconds[phase] += spent
        return seconds

    def usd_by_phase(self) -> dict[str, float] | None:
        """Dollars of each phase; None where the price of any of the time is not known."""
        dollars = dict.fromkeys(PHASES, 0.0)
        for rate, phase, spent in self._spent():
            usd = rate.usd(spent)
            if usd is None:
                return None
            dollars[phase] += usd
        return dollars

    def _spent(self) -> Iterable[tuple[Rate, str, float]]:
        for rate, phases in self.booked.items():
            yield from ((rate, phase, seconds) for phase, seconds in phases.items())
        yield from ((rate, IDLE, seconds) for rate, seconds in self.unoccupied.items())


def rates_of(rows: Iterable[Mapping[str, Any]]) -> dict[str, Rate]:
    """The rates that the rows name, by their number in the file, as text."""
    rates = {}
    for row in rows:
        if row.get("kind") == "rate":
            with suppress(*ODD):
                usd = row["usd_per_hour"]
                rates[str(int(row["rate"]))] = Rate(str(row["name"]), None if usd is None else float(usd))
    return rates


def lives_of(rows: Iterable[Mapping[str, Any]]) -> tuple[Life, ...]:
    """The lives that the rows tell of; a life's newest beat counts, and steps and tokens never shrink.

    A row that is whole but of another shape is left out, as a torn one is."""
    rows = list(rows)
    rates, lives = rates_of(rows), dict[int, Life]()
    for row in rows:
        with suppress(*ODD):
            _take_row(lives, row, rates)
    return tuple(lives.values())


def _take_row(lives: dict[int, Life], row: Mapping[str, Any], rates: Mapping[str, Rate]) -> None:
    kind, number = row.get("kind"), row.get("life")
    if kind == "life":
        lives[int(row["life"])] = Life(int(row["life"]), str(row["why"]), float(row["time"]), ended=float(row["time"]))
    elif kind == "begin" and number in lives:
        workers, from_step, tokens = (int(row[name]) for name in ("workers", "from_step", "tokens"))
        step = max(lives[number].step, from_step)
        lives[number] = replace(lives[number], workers=workers, from_step=from_step, tokens=tokens, step=step)
    elif kind == "beat" and number is not None:
        number = int(number)
        life = lives.get(number) or Life(number, "resumed", float(row["time"]))  # its own row was torn: time counts
        lives[number] = _after_beat(life, row, rates)
    elif kind == "reached" and number in lives:
        lives[number] = replace(lives[number], step=max(lives[number].step, int(row["step"])))
    elif kind in ("start", "beat"):
        _take_row_of_0_1_0(lives, row)


def _after_beat(life: Life, row: Mapping[str, Any], rates: Mapping[str, Rate]) -> Life:
    joules = row["joules"]
    return replace(
        life,
        step=max(life.step, int(row["step"])),
        tokens=max(life.tokens, int(row["tokens"])),
        booked={_rate(rates, each): _phases(phases) for each, phases in row["booked"].items()},
        unoccupied={_rate(rates, each): float(seconds) for each, seconds in row["unoccupied"].items()},
        joules=None if joules is None else float(joules),
        ended=float(row["time"]),
    )


def _phases(row: Mapping[str, Any]) -> dict[str, float]:
    if unknown := row.keys() - set(PHASES):
        raise ValueError(f"no phases: {unknown}")
    return {phase: float(seconds) for phase, seconds in row.items()}


def _rate(rates: Mapping[str, Rate], number: str) -> Rate:
    """A rate whose own row was torn is not known; its time still counts."""
    return rates.get(number) or Rate(f"rate {number}", None)


def _take_row_of_0_1_0(lives: dict[int, Life], row: Mapping[str, Any]) -> None:
    """Version 0.1.0 booked a group's seconds as one sum, at one price a worker: all of it counts as training."""
    if row["kind"] == "start":
        number, step, time = len(lives), row["from_step"], row.get("time", 0.0)
        rate, why = Rate("worker", row["usd_per_worker_hour"]), "resumed" if lives else "started"
        lives[number] = Life(number, why, time, row["workers"], step, step, booked={rate: {TRAINING: 0.0}}, ended=time)
    elif lives:
        life = lives[max(lives)]
        ((rate, phases),) = life.booked.items()
        seconds = max(phases[TRAINING], row["seconds"] * life.workers)
        ended = life.time + seconds / life.workers
        booked = {rate: {TRAINING: seconds}}
        lives[life.number] = replace(
            life, step=max(life.step, row["step"]), tokens=row["tokens"], booked=booked, ended=ended
        )
