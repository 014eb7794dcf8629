"""The ledger: every second booked once, its file under kill -9 and on a full disk; and the history after a resume."""

import json
import math
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ssrnn_dist.bookkeeping import furthest_step
from ssrnn_dist.files import write_json_atomic, write_text_atomic
from ssrnn_dist.hooks import StepMetrics
from ssrnn_dist.problems import RunFailed
from ssrnn_dist.tracking.dividing import divided
from ssrnn_dist.tracking.history import History, read_history
from ssrnn_dist.tracking.jsonl import JsonLines, read_json_lines
from ssrnn_dist.tracking.ledger import LONGEST_BEAT_SECONDS, SHORTEST_BEAT_SECONDS, Ledger
from ssrnn_dist.tracking.lives import Life, Rate
from ssrnn_dist.tracking.phases import IDLE, LOST, PHASES, START_UP, TRAINING, VALIDATION
from ssrnn_dist.tracking.totals import Totals, read_ledger, totals, totals_of

RATE, SPOT, FREE, UNKNOWN = Rate("worker", 3600.0), Rate("spot", 900.0), Rate("free", 0.0), Rate("?", None)


class Clock:
    """Seconds that the test sets."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def in_numbers(books: Totals) -> list[float]:
    """What file and memory must agree on; the file has microseconds."""
    lives = [[life.number, life.steps, life.workers, life.tokens, life.why] for life in books.lives]
    numbers = [books.worker_hours, books.idle_hours, books.cost_usd, books.lost_usd, books.energy_kwh, books.goodput]
    phases = [books.seconds_by_phase[phase] for phase in PHASES]
    return [hash(str(lives)), *(-1.0 if each is None else each for each in numbers), *phases]


def assert_same(one: Totals, other: Totals) -> None:
    assert in_numbers(one) == pytest.approx(in_numbers(other), abs=1e-4)


def test_a_worker_is_paid_from_hire_to_release_and_its_time_divided_as_it_tells(tmp_path: Path) -> None:
    path, clock = tmp_path / "ledger.jsonl", Clock()
    ledger = Ledger(path, clock=clock)
    assert ledger.open_life("started") == 0
    ledger.hire("a", RATE, age_seconds=5)
    ledger.hire("b", SPOT)
    ledger.begin(0, 0, workers=2)
    clock.now += 10
    ledger.pulse("a", TRAINING, {START_UP: 12.0, TRAINING: 3.0}, joules=100.0)  # 15 s since it began
    clock.now += 10
    ledger.pulse("a", VALIDATION, {START_UP: 12.0, TRAINING: 10.0, VALIDATION: 2.0}, joules=250.0)  # a second unsaid
    assert ledger.usd_per_second() == pytest.approx(1.25)
    clock.now += 4
    ledger.release("a")
    ledger.pulse("a", TRAINING, {TRAINING: 1000.0})  # came late
    ledger.reach(7, 700)
    clock.now += 6
    ledger.rent({RATE: 2})
    clock.now += 1
    ledger.close()
    books = read_ledger(path)
    (life,) = books.lives
    assert life.booked[RATE] == pytest.approx({START_UP: 12, TRAINING: 3 + 7 + 1, VALIDATION: 2 + 4})
    assert life.booked[SPOT] == pytest.approx({START_UP: 31})
    assert (life.steps, life.workers, life.why) == ((0, 7), 2, "started")
    assert books.cost_usd == pytest.approx(29 * 1.0 + 31 * 0.25 + 2 * 1.0)
    assert books.usd_by_phase is not None
    assert books.usd_by_phase[IDLE] == pytest.approx(2.0)
    assert books.energy_kwh == pytest.approx(250 / 3.6e6)
    assert (books.tokens, books.usd_per_million_tokens) == (700, pytest.approx(books.cost_usd / 700 * 1e6))
    assert_same(ledger.totals(), books)


def test_what_no_pulse_has_told_is_booked_all_the_same(tmp_path: Path) -> None:
    """A worker that hangs costs money, too: the budget and the file must see it."""
    path, clock = tmp_path / "ledger.jsonl", Clock()
    ledger = Ledger(path, clock=clock)
    ledger.open_life("started")
    ledger.hire("a", RATE)
    ledger.rent({SPOT: 1})
    clock.now += 1000
    assert ledger.totals().cost_usd == pytest.approx(1000 + 250)
    ledger.beat()
    assert read_ledger(path).cost_usd == pytest.approx(1250)
    ledger.pulse("a", TRAINING, {START_UP: 400.0, TRAINING: 600.0})
    assert ledger.totals().cost_usd == pytest.approx(1250)
    assert ledger.totals().seconds_by_phase[TRAINING] == pytest.approx(600)


@given(
    st.floats(0, 1e6),
    st.dictionaries(st.sampled_from(PHASES), st.floats(0, 1e300)),
    st.sampled_from(PHASES),
)
def test_time_is_divided_without_a_rest(elapsed: float, told: dict[str, float], phase: str) -> None:
    parts = divided(elapsed, told, phase)
    assert math.fsum(parts.values()) == pytest.approx(elapsed, rel=1e-12)
    assert all(seconds >= 0 for seconds in parts.values())
    if sum(told.values()) <= elapsed:
        assert all(parts[each] >= seconds for each, seconds in told.items() if seconds)


NAMES, RATES = ("a", "b", "c"), (RATE, SPOT, FREE)
told_seconds = st.dictionaries(
    st.sampled_from([*PHASES, "napping"]), st.one_of(st.floats(0, 50), st.sampled_from([math.nan, math.inf, -3.0]))
)
acts = st.one_of(
    st.tuples(st.just("hire"), st.sampled_from(NAMES), st.sampled_from(RATES), st.integers(0, 8)),
    st.tuples(
        st.just("pulse"), st.sampled_from(NAMES), st.sampled_from([*PHASES, "napping"]), told_seconds, st.floats(0, 99)
    ),
    st.tuples(st.just("release"), st.sampled_from(NAMES)),
    st.tuples(st.just("change_rate"), st.sampled_from(NAMES), st.sampled_from(RATES)),
    st.tuples(st.just("rent"), st.dictionaries(st.sampled_from(RATES), st.integers(0, 3))),
    st.tuples(st.just("open_life"), st.sampled_from(["failure", "resize"])),
    st.tuples(st.just("beat")),
    st.tuples(st.just("command")),  # the command ends, and another one goes on
)


class ByHand:
    """The same books, kept the plain way: dollars and seconds as time passes."""

    def __init__(self) -> None:
        self.alive: dict[str, Rate] = {}
        self.rented: dict[Rate, float] = {}
        self.worker_seconds = self.usd = self.idle_seconds = 0.0

    def pass_time(self, seconds: float) -> None:
        for rate in self.alive.values():
            self.worker_seconds += seconds
            self.usd += seconds / 3600 * (rate.usd_per_hour or 0.0)
        for rate, count in self.rented.items():
            self.idle_seconds += seconds * count
            self.usd += seconds * count / 3600 * (rate.usd_per_hour or 0.0)

    def do(self, name: str, *what: Any) -> None:
        if name == "hire":
            self.alive[what[0]] = what[1]
            self.worker_seconds += what[2]
            self.usd += what[2] / 3600 * (what[1].usd_per_hour or 0.0)
        elif name == "release":
            self.alive.pop(what[0], None)
        elif name == "change_rate" and what[0] in self.alive:
            self.alive[what[0]] = what[1]
        elif name == "rent":
            self.rented = what[0]
        elif name == "command":
            self.alive, self.rented = {}, {}


@settings(deadline=None, max_examples=150)
@given(st.lists(st.tuples(st.sampled_from([0.0, 0.125, 1.5, 40.0]), acts), max_size=25))
def test_every_second_is_booked_once_whatever_the_workers_tell(
    tmp_path_factory: pytest.TempPathFactory, acted: list[Any]
) -> None:
    path, clock, by_hand = tmp_path_factory.mktemp("books") / "ledger.jsonl", Clock(), ByHand()
    ledger = Ledger(path, clock=clock)
    ledger.open_life("started")
    for seconds, (name, *what) in acted:
        clock.now += seconds
        by_hand.pass_time(seconds)
        by_hand.do(name, *what)
        if name == "command":
            ledger.close()
            ledger = Ledger(path, clock=clock)
            ledger.open_life("started")
        else:
            getattr(ledger, name)(*what)
        books = ledger.totals()
        assert books.worker_hours * 3600 == pytest.approx(by_hand.worker_seconds, abs=1e-3)
        assert books.idle_hours * 3600 == pytest.approx(by_hand.idle_seconds, abs=1e-3)
        assert (books.cost_usd or 0.0) == pytest.approx(by_hand.usd, abs=1e-3)
        assert sum(books.seconds_by_phase.values()) == pytest.approx(
            by_hand.worker_seconds + by_hand.idle_seconds, abs=1e-3
        )
    ledger.close()
    assert_same(ledger.totals(), read_ledger(path))
    assert_never_shrinks(path)


def assert_never_shrinks(path: Path) -> None:
    """As a reader sees the file grow, line by line."""
    rows, reached = read_json_lines(path), 0.0
    for end in range(1, len(rows) + 1):
        cost = totals(rows[:end]).cost_usd or 0.0
        assert cost >= reached - 1e-6
        reached = cost


def test_two_commands_after_one_another(tmp_path: Path) -> None:
    path, clock = tmp_path / "ledger.jsonl", Clock()
    for command in range(2):
        ledger = Ledger(path, clock=clock)
        ledger.open_life("started")
        ledger.hire("a", RATE)
        ledger.begin(80 * command, 800 * command, workers=1)
        clock.now += 60
        ledger.reach(100 + command, 1000)
        ledger.release("a")
        ledger.hire("b", SPOT)
        clock.now += 60
        if command == 0:
            ledger.open_life("resize")
            ledger.begin(100, 1000, workers=1)
        ledger.close()
    books = read_ledger(path)
    assert [life.why for life in books.lives] == ["started", "resize", "resumed"]
    assert (books.restarts, books.resizes, books.restart_steps, books.reached_step) == (1, 1, (100, 80), 101)
    assert books.cost_usd == pytest.approx(2 * 60 * 1.25)
    assert (books.executed_steps, books.distinct_steps, books.goodput) == (121, 101, pytest.approx(101 / 121))
    assert sum(row["kind"] == "rate" for row in read_json_lines(path)) == 2


def test_rows_come_more_rarely_as_a_run_grows_old(tmp_path: Path) -> None:
    clock = Clock()
    ledger = Ledger(tmp_path / "ledger.jsonl", clock=clock)
    ledger.open_life("started")
    for _ in range(60):
        clock.now += 0.1
        ledger.beat()
    few = len(read_json_lines(tmp_path / "ledger.jsonl"))
    assert few <= 2 + 6 / SHORTEST_BEAT_SECONDS
    for _ in range(200):
        clock.now += 1000 + LONGEST_BEAT_SECONDS
        ledger.beat()
    assert len(read_json_lines(tmp_path / "ledger.jsonl")) == few + 200


@pytest.mark.parametrize(
    ("rates", "cost"),
    [
        ([], None),
        ([(UNKNOWN, 3600)], None),
        ([(UNKNOWN, 0), (Rate("x", 2.0), 3600)], 2.0),
        ([(UNKNOWN, 1), (Rate("x", 2.0), 3600)], None),
        ([(Rate("x", 0.0), 3600)], 0.0),
    ],
)
def test_a_cost_is_never_invented(rates: list[tuple[Rate, float]], cost: float | None) -> None:
    books = totals_of((Life(0, "started", 0.0, booked={rate: {TRAINING: each} for rate, each in rates}),))
    assert (books.cost_usd, books.lost_usd is None) == (cost, cost is None)


BEAT = {"kind": "beat", "life": 0, "time": 1, "step": 9, "tokens": 0, "booked": {}, "unoccupied": {}, "joules": None}


@pytest.mark.parametrize(
    "odd",
    [
        {"kind": "beat", "life": 0},
        {"kind": "beat", "life": [0], "time": 1.0},
        {"kind": "rate"},
        {"kind": "rate", "rate": "x", "name": "y", "usd_per_hour": 1},
        {"kind": "life"},
        {"kind": "begin", "life": 0, "workers": None},
        {"kind": "start"},
        {**BEAT, "step": "a"},
        {**BEAT, "step": "Infinity"},
        {**BEAT, "booked": {"0": 7}},
        {**BEAT, "booked": {"0": {"lunch": 7}}},
        {**BEAT, "joules": "many"},
    ],
)
def test_a_row_of_another_shape_is_left_out_like_a_torn_one(tmp_path: Path, odd: dict[str, Any]) -> None:
    path, clock = tmp_path / "ledger.jsonl", Clock()
    for step in (3, 5):
        ledger = Ledger(path, clock=clock)
        ledger.open_life("started")
        ledger.hire("a", RATE)
        ledger.begin(0, 0, workers=1)
        clock.now += 10
        ledger.reach(step, 100)
        ledger.close()
        before = read_ledger(path)
        with path.open("a") as file:
            file.write(json.dumps(odd) + "\n")
        assert_same(read_ledger(path), before)
    assert before.cost_usd == pytest.approx(20)


def test_steps_that_a_killed_command_had_no_time_to_book_are_booked_by_the_next(tmp_path: Path) -> None:
    path, clock = tmp_path / "ledger.jsonl", Clock()
    killed = Ledger(path, clock=clock)
    killed.open_life("started")
    killed.begin(0, 0, workers=1)
    killed.reach(41, 0)
    killed.beat(now=True)
    assert furthest_step(tmp_path, read_ledger(path)) == 41
    with (tmp_path / "metrics.jsonl").open("w") as file:
        file.write(json.dumps({"step": 48}) + "\n" + json.dumps({"step": 49}) + '\n{"step": 5')
    assert furthest_step(tmp_path, read_ledger(path)) == 49
    (tmp_path / "checkpoints/step-00000040").mkdir(parents=True)
    assert furthest_step(tmp_path, read_ledger(path)) == 49

    ledger = Ledger(path, clock=clock)
    ledger.found_reached(furthest_step(tmp_path, read_ledger(path)))
    ledger.found_reached(30)
    ledger.open_life("started")
    ledger.begin(40, 0, workers=1)
    ledger.reach(60, 0)
    ledger.close()
    books = read_ledger(path)
    assert (books.executed_steps, books.distinct_steps, books.goodput) == (49 + 20, 60, 60 / 69)
    assert_same(books, ledger.totals())
    (tmp_path / "checkpoints/step-00000075").mkdir()
    (tmp_path / "checkpoints/step-odd").mkdir()
    assert furthest_step(tmp_path, read_ledger(path)) == 75


@pytest.mark.parametrize("how", ["removed", "moved", "replaced"])
def test_books_that_no_reader_would_find_end_the_run_at_the_next_beat(tmp_path: Path, how: str) -> None:
    path, clock = tmp_path / "run/ledger.jsonl", Clock()
    ledger = Ledger(path, clock=clock)
    ledger.open_life("started")
    ledger.hire("a", RATE)
    ledger.beat(now=True)
    if how == "moved":
        path.parent.rename(tmp_path / "elsewhere")
    else:
        shutil.rmtree(path.parent)
    if how == "replaced":
        path.parent.mkdir()
        path.write_text("")
    clock.now += SHORTEST_BEAT_SECONDS
    with pytest.raises(RunFailed, match=f"{path}: removed or moved"):
        ledger.beat()
    with pytest.raises(RunFailed):
        ledger.close()


def test_what_cannot_be_written_is_told_with_its_file() -> None:
    with pytest.raises(OSError, match=r"No space left on device: '/dev/full'"):
        JsonLines(Path("/dev/full")).append({"a": 1})


def test_a_rate_or_a_life_whose_row_was_torn_loses_no_time(tmp_path: Path) -> None:
    path, clock = tmp_path / "ledger.jsonl", Clock()
    ledger = Ledger(path, clock=clock)
    ledger.open_life("started")
    ledger.hire("a", RATE)
    clock.now += 10
    ledger.close()
    for kind in ("rate", "life"):
        rows = [row for row in read_json_lines(path) if row["kind"] != kind]
        assert totals(rows).worker_hours == pytest.approx(10 / 3600)
        assert totals(rows).cost_usd == (None if kind == "rate" else pytest.approx(10.0))


def test_the_ledgers_of_0_1_0_keep_their_cost(tmp_path: Path) -> None:
    path, clock = tmp_path / "ledger.jsonl", Clock()
    old = [
        {"kind": "beat", "seconds": 5, "step": 5, "tokens": 5},  # belongs to nothing
        {"kind": "start", "time": 1e9, "workers": 2, "usd_per_worker_hour": 3.0, "from_step": 0},
        {"kind": "beat", "seconds": 1800.0, "step": 100, "tokens": 1_000_000},
        {"kind": "start", "time": 1e9, "workers": 1, "usd_per_worker_hour": 6.0, "from_step": 80},
        {"kind": "beat", "seconds": 3000.0, "step": 150, "tokens": 1_500_000},
        {"kind": "beat", "seconds": 3600.0, "step": 200, "tokens": 2_000_000},
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in old))
    books = read_ledger(path)
    assert (books.cost_usd, books.worker_hours, books.tokens) == (pytest.approx(9.0), pytest.approx(2.0), 2_000_000)
    assert (books.restarts, books.restart_steps, books.goodput) == (1, (80,), pytest.approx(200 / 220))
    assert books.seconds_by_phase[TRAINING] == pytest.approx(7200)
    ledger = Ledger(path, clock=clock)
    assert ledger.open_life("started") == 2
    ledger.hire("a", RATE)
    clock.now += 1
    ledger.close()
    assert read_ledger(path).cost_usd == pytest.approx(10.0)
    assert read_ledger(path).lives[-1].why == "resumed"


lives = st.lists(
    st.tuples(
        st.sampled_from(["failure", "resize"]),
        st.integers(0, 50),
        st.integers(0, 50),
        st.dictionaries(st.sampled_from(PHASES), st.floats(0, 1e5), min_size=1),
        st.floats(0, 100),
    ),
    min_size=1,
    max_size=6,
)


@given(lives)
def test_totals_are_what_a_hand_count_gives(told: list[Any]) -> None:
    made = tuple(
        Life(number, why if number else "started", 0.0, 1, start, start + steps, 0, {Rate("x", usd): spent})
        for number, (why, start, steps, spent, usd) in enumerate(told)
    )
    books = totals_of(made)
    seen: set[int] = set()
    for _, start, steps, _, _ in told:
        seen |= set(range(start, start + steps))
    executed = sum(steps for _, _, steps, _, _ in told)
    lost = sum(
        usd / 3600 * (spent.get(LOST, 0.0) + (spent.get(START_UP, 0.0) if number and why == "failure" else 0.0))
        for number, (why, _, _, spent, usd) in enumerate(told)
    )
    whole = sum(sum(spent.values()) for _, _, _, spent, _ in told)
    assert books.cost_usd == pytest.approx(sum(sum(spent.values()) / 3600 * usd for _, _, _, spent, usd in told))
    assert books.lost_usd == pytest.approx(lost)
    assert books.lost_usd <= books.cost_usd * (1 + 1e-9)
    assert (books.executed_steps, books.distinct_steps) == (executed, len(seen))
    assert books.goodput == (len(seen) / executed if executed else None)
    training = sum(spent.get(TRAINING, 0.0) for _, _, _, spent, _ in told)
    assert books.useful_fraction == (pytest.approx(training / whole) if whole else None)
    assert books.restarts + books.resizes == len(told) - 1


WRITER = """
import sys, pathlib, time
from ssrnn_dist.tracking.ledger import Ledger
from ssrnn_dist.tracking.lives import Rate
ledger = Ledger(pathlib.Path(sys.argv[1]))
ledger.open_life("started")
ledger.hire("a", Rate("worker", 3600.0))
ledger.begin(int(sys.argv[2]), 0, 1)
began, step = time.monotonic(), int(sys.argv[2])
print("open", flush=True)
while True:
    step += 1
    ledger.reach(step, step * 8192)
    ledger.pulse("a", "training", {"training": time.monotonic() - began})
    ledger.beat()
    print(ledger.totals().cost_usd, flush=True)
    time.sleep(0.001)
"""


def test_a_writer_killed_at_any_moment_loses_a_beat_at_most(tmp_path: Path) -> None:
    path, before = tmp_path / "ledger.jsonl", 0.0
    for life in range(3):
        process = subprocess.Popen(
            [sys.executable, "-c", WRITER, str(path), str(life * 10)], stdout=subprocess.PIPE, cwd=Path.cwd(), text=True
        )
        try:
            assert process.stdout is not None
            process.stdout.readline()
            time.sleep(0.6 + 0.17 * life)
        finally:
            os.kill(process.pid, signal.SIGKILL)
            told, _ = process.communicate()
        spent = float(told.split("\n")[-2])  # the last whole line; a second costs a dollar
        books = read_ledger(path)
        assert books.restarts == life
        assert books.lives[-1].step > life * 10
        assert spent - 1.5 * SHORTEST_BEAT_SECONDS <= (books.cost_usd or 0.0) <= spent + 0.1
        assert (books.cost_usd or 0.0) > before
        before = books.cost_usd or 0.0
        with path.open("a") as file:
            file.write('{"kind": "beat", "life": 0, "boo')  # as a torn write leaves it
        assert read_ledger(path) == books
    assert_never_shrinks(path)


FULL_DISK = """
import resource, signal, sys, pathlib
from ssrnn_dist.tracking.ledger import Ledger
from ssrnn_dist.tracking.lives import Rate
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
path, now = pathlib.Path(sys.argv[1]), [0.0]
ledger = Ledger(path, clock=lambda: now[0])
ledger.open_life("started")
ledger.hire("a", Rate("worker", 3600.0))
hard = resource.getrlimit(resource.RLIMIT_FSIZE)[1]
resource.setrlimit(resource.RLIMIT_FSIZE, (path.stat().st_size + 400, hard))
failed = 0
for second in range(20):
    now[0] += 1
    try:
        ledger.beat(now=True)
    except OSError:
        failed += 1
assert failed > 10, failed
print(path.read_bytes()[-1:] != b"\\n", flush=True)  # a torn line
resource.setrlimit(resource.RLIMIT_FSIZE, (hard, hard))
now[0] += 1
ledger.close()
print(ledger.totals().cost_usd)
"""


def test_a_full_disk_loses_nothing_once_there_is_room_again(tmp_path: Path) -> None:
    path = tmp_path / "ledger.jsonl"
    done = subprocess.run(
        [sys.executable, "-c", FULL_DISK, str(path)], capture_output=True, text=True, cwd=Path.cwd(), check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == ["True", "21.0"]
    assert read_ledger(path).cost_usd == pytest.approx(21.0)


def metrics_at(step: int, **changed: Any) -> StepMetrics:
    names = [name for name in StepMetrics.__dataclass_fields__ if not name.startswith("valid_")]
    return StepMetrics(**{**dict.fromkeys(names), "layer_residuals": (0.5, None), "step": step, **changed})


def test_rows_of_repeated_steps_give_way_to_the_later_ones(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    assert read_history(path) == []
    first = History(path, 0)
    for step in (10, 20, 30, 40):
        first.append(metrics_at(step, train_loss=1.0))
    second = History(path, 20)
    assert [row["step"] for row in read_history(path)] == [10, 20]
    second.append(metrics_at(30, train_loss=math.nan))
    with path.open("a") as file:
        file.write('{"step": 40, "train_lo')
    third = History(path, 30)
    third.append(metrics_at(45, train_loss=math.inf, valid_loss=2.0))
    third.close()
    rows = read_history(path)
    assert [row["step"] for row in rows] == [10, 20, 30, 45]
    assert math.isnan(rows[2]["train_loss"])
    assert (rows[3]["train_loss"], rows[3]["valid_loss"], rows[3]["layer_residuals"]) == (math.inf, 2.0, [0.5, None])
    assert rows[0]["time"] == pytest.approx(time.time(), abs=60)
    for line in path.read_text().split("\n"):
        assert "NaN" not in line or '"NaN"' in line, "strict JSON has no bare NaN"


def test_json_lines_skip_what_is_no_row(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_bytes(b'[1]\n{"a": 1}\n\x00\x00\xff\n3\n{"a"')
    lines = JsonLines(path)
    lines.append({"a": "ü\u2028\n"})
    lines.close()
    assert read_json_lines(path) == [{"a": 1}, {"a": "ü\u2028\n"}]


def test_atomic_writes_replace_whole_files_and_leave_nothing_behind(tmp_path: Path) -> None:
    path = tmp_path / "summary.json"
    write_json_atomic(path, {"loss": math.nan, "deep": [{"x": math.inf, "y": 1.5}], "text": "日本"})
    assert json.loads(path.read_text()) == {"loss": None, "deep": [{"x": None, "y": 1.5}], "text": "日本"}
    with pytest.raises(TypeError):
        write_json_atomic(path, {"loss": object()})
    write_text_atomic(tmp_path / "text", "a\ud800b")
    assert (tmp_path / "text").read_text() == "a?b"
    with pytest.raises(OSError, match="Is a directory"):
        write_text_atomic(tmp_path, "a folder is no file")
    assert sorted(each.name for each in tmp_path.iterdir()) == ["summary.json", "text"]
    assert not list(tmp_path.parent.glob(f".{tmp_path.name}.*.tmp"))
