"""`ssrnn cost`: from folders and from the real MLflow, by run, project and day, at equal loss; what is not known."""

import csv
import json
import math
import os
import sqlite3
import time
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from costed_runs import BEGAN, PlannedLife, make_run
from hypothesis import given
from hypothesis import strategies as st

from ssrnn_dist.config import load_config
from ssrnn_dist.hooks import StepMetrics
from ssrnn_dist.run_lock import run_lock
from ssrnn_dist.tracking.costs_of_runs import tables
from ssrnn_dist.tracking.costs_of_runs.equal_loss import step_at, value_at
from ssrnn_dist.tracking.costs_of_runs.from_folder import run_in_folder
from ssrnn_dist.tracking.costs_of_runs.run_cost import Spent
from ssrnn_dist.tracking.history import History
from ssrnn_dist.tracking.tracker import Tracker
from ssrnn_launch.cli.main import main

DAY = 86_400.0


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three runs and their MLflow: two of the project `size`, the second with a failure; one without a price."""
    root = tmp_path_factory.mktemp("runs")
    size = {"tracking": {"project": "size"}}
    make_run(root, [PlannedLife(0, 60)], name="wide", usd_per_worker_hour=2.0, summary={}, **size)
    lives = [PlannedLife(0, 60, step_seconds=5), PlannedLife(50, 80)]
    make_run(root, lives, name="narrow", usd_per_worker_hour=2.0, loss=lambda step: 2.05 + 9 / step, **size)
    make_run(root, [PlannedLife(0, 30)], name="unpriced", usd_per_worker_hour=None, began=BEGAN + DAY)
    for name in ("wide", "narrow", "unpriced"):
        config = load_config(root / name / "config.yaml")
        assert Tracker(config, run_folder=config.folder).finish("FINISHED", 60) == 0
    return root


@pytest.fixture(autouse=True)
def no_address_from_outside(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)


def cost_json(capfd: pytest.CaptureFixture[str], *arguments: object) -> dict[str, Any]:
    capfd.readouterr()
    stdout = os.dup(1)
    assert main(["cost", *map(str, arguments), "--json"]) == 0
    (line,) = capfd.readouterr().out.splitlines()
    os.dup2(stdout, 1)  # --json has moved it aside
    os.close(stdout)
    return dict(json.loads(line))


def rows_of(found: dict[str, Any], *keys: str) -> dict[str, Any]:
    return {row["label"]: tuple(row[key] for key in keys) for row in found["rows"]}


def test_mlflow_and_the_folders_say_the_same(root: Path, capfd: pytest.CaptureFixture[str]) -> None:
    keys = ("cost_usd", "worker_hours", "tokens", "train_loss", "valid_loss", "goodput", "lost_usd", "project")
    names = ("wide", "narrow", "unpriced")
    from_folders = cost_json(capfd, *(root / name for name in names))
    from_mlflow = cost_json(capfd, "--run-root", root)
    assert rows_of(from_folders, *keys) == rows_of(from_mlflow, *keys)
    assert rows_of(from_mlflow, "cost_usd", "runs_without_cost")["unpriced"] == (None, 1)
    by_hand = 2 * (20 + 60 * 10) / 3600 * 2.0
    assert rows_of(from_mlflow, "cost_usd")["wide"] == pytest.approx((by_hand,))
    again = cost_json(capfd, *names, "--uri", f"sqlite:///{root}/mlflow.db")
    equal = cost_json(capfd, *(root / name for name in names))["equal_loss"]
    assert again["equal_loss"]["loss"] == equal["loss"]
    assert {run["name"]: run["step"] for run in again["equal_loss"]["runs"]} == {
        run["name"]: run["step"] for run in equal["runs"]
    }


def test_equal_loss_by_hand(root: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """wide: 8 / s + 2.1, validated every 5 steps; 2.5 is reached at step 20, and costs what 20 steps cost."""
    found = cost_json(capfd, root / "wide", root / "narrow", "--loss", "2.5")["equal_loss"]
    runs = {run["name"]: run for run in found["runs"]}
    assert found["metric"] == "valid_loss"
    assert runs["wide"]["step"] == pytest.approx(20)
    assert runs["wide"]["cost_usd"] == pytest.approx(2 * (20 + 200) / 3600 * 2.0)
    loss_25, loss_30 = 2.15 + 9 / 25, 2.15 + 9 / 30
    assert runs["narrow"]["step"] == pytest.approx(25 + 5 * (loss_25 - 2.5) / (loss_25 - loss_30))
    unreached = cost_json(capfd, root / "wide", "--loss", "2.0")["equal_loss"]["runs"][0]
    assert (unreached["step"], unreached["cost_usd"]) == (None, None)
    common = cost_json(capfd, root / "wide", root / "narrow")["equal_loss"]
    assert common["loss"] == pytest.approx(2.15 + 9 / 80), "the best that both reached"


def test_repeated_steps_cost_nothing_twice_at_equal_loss(root: Path) -> None:
    costs = run_in_folder(root / "narrow").cost_at_step
    assert [step for step, _ in costs] == list(range(1, 81))
    assert [usd for _, usd in costs] == sorted(usd for _, usd in costs)
    assert costs[55][1] == pytest.approx(2 * (20 + 56 * 5) / 3600 * 2.0), "as it was first reached"


def test_projects_are_summed_and_say_what_is_left_out(root: Path, capfd: pytest.CaptureFixture[str]) -> None:
    found = cost_json(capfd, "--run-root", root, "--by", "project")
    rows = rows_of(found, "runs", "runs_without_cost", "tokens")
    assert rows == {"size": (2, 0, 14_000), "ssrnn": (1, 1, 3_000)}
    assert found["all"]["cost_usd"] == pytest.approx(rows_of(found, "cost_usd")["size"][0])
    assert main(["cost", "--run-root", str(root), "--by", "project"]) == 0
    shown = capfd.readouterr().out
    assert "not known" in shown
    assert "1 run left out, whose cost is not known" in shown


def test_days_are_those_on_which_it_was_spent(root: Path, capfd: pytest.CaptureFixture[str]) -> None:
    found = cost_json(capfd, "--run-root", root, "--by", "day")
    assert rows_of(found, "runs", "runs_without_cost") == {"2023-11-14": (2, 0), "2023-11-15": (1, 1)}
    assert found["all"]["worker_hours"] == pytest.approx(
        sum(run_in_folder(each).worker_hours for each in folders(root))
    )
    later = cost_json(capfd, "--run-root", root, "--by", "day", "--since", "2023-11-15")
    assert list(rows_of(later)) == ["2023-11-15"]


def folders(root: Path) -> list[Path]:
    return [root / name for name in ("wide", "narrow", "unpriced")]


@given(
    st.lists(st.tuples(st.floats(0, 5 * DAY), st.floats(0, 3), st.floats(0, 9)), max_size=12),
    st.booleans(),
)
def test_no_hour_and_no_dollar_is_lost_between_days(pieces: list[tuple[float, float, float]], priced: bool) -> None:
    at, hours, usd, spent = BEGAN, 0.0, 0.0, []
    for seconds, more_hours, more_usd in pieces:
        at, hours, usd = at + seconds, hours + more_hours, usd + more_usd
        spent.append(Spent(at, hours, usd if priced else None))
    days = tables.daily(spent)
    assert [day for day, _, _ in days] == sorted({tables.day_of(point.time) for point in spent})
    assert sum(each for _, each, _ in days) == pytest.approx(hours)
    if priced:
        assert sum(each or 0.0 for _, _, each in days) == pytest.approx(usd)
    else:
        assert all(each is None for _, _, each in days)


@given(st.lists(st.floats(0.5, 9), min_size=1, max_size=20), st.floats(0.5, 9))
def test_the_step_of_a_loss_lies_on_the_curve(losses: list[float], target: float) -> None:
    points = [(10 * (index + 1), loss) for index, loss in enumerate(losses)]
    step = step_at(points, target)
    assert (step is None) == (min(losses) > target)
    if step is not None and step > points[0][0]:
        assert value_at(points, step) == pytest.approx(target)
        assert all(loss > target for at, loss in points if at < step)


def test_csv_and_picture(root: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    table, picture = tmp_path / "new" / "costs.csv", tmp_path / "loss.svg"
    arguments = ["cost", "wide", "narrow", "--run-root", str(root), "--csv", str(table), "--picture", str(picture)]
    assert main(arguments) == 0
    with table.open() as file:
        rows = list(csv.DictReader(file))
    assert [row["label"] for row in rows] == ["wide", "narrow"]
    assert float(rows[0]["cost_usd"]) == pytest.approx(run_in_folder(root / "wide").cost_usd)
    assert float(rows[0]["usd_to_reach"]) < float(rows[0]["cost_usd"])
    assert picture.read_text().startswith("<?xml")
    assert "until validation loss" in capfd.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["no-such"], "'no-such'"),
        (["--experiment", "other"], "--experiment: 'other'"),
        (["--since", "yesterday"], "2026-01-31"),
        (["--picture", "a.txt"], "--picture"),
        (["--uri", "ftp://x"], "--uri"),
        (["--send", "nowhere"], "--send: nowhere"),
        (["--loss", "nan"], "--loss: nan"),
        (["--loss", "-1"], "--loss: -1.0"),
        (["--uri", "sqlite://"], "--uri: no MLflow in sqlite://; "),
    ],
)
def test_wrong_words_are_told_in_a_line(
    root: Path, arguments: list[str], words: str, capfd: pytest.CaptureFixture[str]
) -> None:
    assert main(["cost", "--run-root", str(root), *arguments]) == 2
    error = capfd.readouterr().err
    assert error.startswith("error: ")
    assert words in error
    assert error.count("\n") == 1


def test_no_mlflow_is_made_by_asking(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert main(["cost", "--run-root", str(tmp_path)]) == 2
    other = tmp_path / "photos.db"
    typo = f"sqlite:///{tmp_path}/none.db"
    with closing(sqlite3.connect(other)) as photos:
        photos.execute("CREATE TABLE photos (name TEXT)")
    before = other.read_bytes()
    (tmp_path / "no.db").write_text("no database at all" * 9)
    for uri in (typo, f"{typo}?timeout=9", f"sqlite+pysqlite:///{other}", f"sqlite:///{tmp_path}/no.db"):
        assert main(["cost", "--uri", uri]) == 2
        assert f"--uri: no MLflow in {uri}; " in capfd.readouterr().err
    assert sorted(each.name for each in tmp_path.iterdir()) == ["no.db", "photos.db"]
    assert other.read_bytes() == before
    assert main(["cost", "--uri", "http://127.0.0.1:9"]) == 1
    assert "MLflow can't be asked" in capfd.readouterr().err


def test_one_run_that_cannot_be_read_hides_none_of_the_others(root: Path, capfd: pytest.CaptureFixture[str]) -> None:
    good, odd, bad = root / "wide", make_run(root / "more", name="odd"), make_run(root / "more", name="bad")
    beat = {"kind": "beat", "life": 0}
    with (odd / "ledger.jsonl").open("a") as file:
        file.write("".join(json.dumps(row) + "\n" for row in (beat, {"kind": "rate"}, {**beat, "step": "a"})))
    found = cost_json(capfd, good, odd)
    assert [row["label"] for row in found["rows"]] == ["wide", "odd"]
    assert all(row["cost_usd"] for row in found["rows"])

    (bad / "metrics.jsonl").unlink()
    (bad / "metrics.jsonl").mkdir()
    assert main(["cost", str(bad), str(good)]) == 1
    told = capfd.readouterr()
    assert "wide" in told.out
    assert f"error: left out: [Errno 21] Is a directory: '{bad}/metrics.jsonl'" in told.err
    assert main(["cost", str(bad)]) == 2
    assert "bad/metrics.jsonl" in capfd.readouterr().err


def test_a_run_is_running_while_its_lock_is_held_or_far_away_while_it_beats(tmp_path: Path) -> None:
    def status() -> str:
        return run_in_folder(folder).status

    folder = make_run(tmp_path, began=time.time() - 280)  # it ends 280 s later
    assert status() == "running"
    with run_lock(folder):
        assert status() == "running"
    assert status() == "killed"
    (folder / "summary.json").write_text(json.dumps({"stopped": True}))
    assert status() == "killed"
    (folder / "summary.json").write_text(json.dumps({"stopped": False}))
    assert status() == "finished"
    assert run_in_folder(make_run(tmp_path, name="long-ago")).status == "killed"


def test_the_loss_is_of_the_furthest_step_wherever_it_is_read(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """The second command was killed before it came as far as the first."""
    folder = make_run(tmp_path, [PlannedLife(0, 3)])
    (folder / "metrics.jsonl").unlink()
    config = load_config(folder / "config.yaml")
    names = [name for name in StepMetrics.__dataclass_fields__ if not name.startswith("valid_")]
    losses = ({1: 4.0, 2: 3.0, 3: 2.0}, {2: 2.5, 3: math.nan}, {2: 2.25})
    for told, expected in zip(losses, (2.0, None, None), strict=True):
        tracker, history = Tracker(config, run_folder=folder), History(folder / "metrics.jsonl", min(told) - 1)
        for step, loss in told.items():
            metrics = StepMetrics(**{**dict.fromkeys(names), "layer_residuals": (), "step": step, "train_loss": loss})
            metrics = replace(metrics, worker_hours=1.0)
            tracker.log(metrics, history.append(metrics))
        history.close()
        assert tracker.finish("KILLED", 60) == 0
        for found in (cost_json(capfd, folder), cost_json(capfd, "--run-root", tmp_path)):
            assert rows_of(found, "train_loss") == {"a-run": (expected,)}  # NaN is null in JSON


def test_a_run_that_has_booked_nothing_began_at_no_time(
    root: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "empty/ledger.jsonl").touch()
    assert rows_of(cost_json(capfd, root / "wide", tmp_path / "empty"), "began")["empty"] == (None,)
    assert main(["cost", str(tmp_path / "empty"), str(root / "wide")]) == 0
    assert "1970" not in capfd.readouterr().out


def test_what_an_ended_run_could_not_send_is_sent(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """The run ended without MLflow's answer: its outbox stands in its folder."""
    folder = make_run(tmp_path, [PlannedLife(0, 5)])
    items = ({"kind": "row", "step": 5, "time_ms": int(BEGAN * 1000) + 10**6, "values": {"worker_hours": 9.0}},)
    ends = [*items, {"kind": "end", "status": "FINISHED"}]
    (folder / "outbox.jsonl").write_text("".join(json.dumps({**item, "command": "x"}) + "\n" for item in ends))
    assert main(["cost", "--send", str(folder)]) == 0
    assert "MLflow has everything" in capfd.readouterr().out
    found = cost_json(capfd, "a-run", "--run-root", tmp_path)
    assert rows_of(found, "worker_hours", "status") == {"a-run": (9.0, "finished")}
