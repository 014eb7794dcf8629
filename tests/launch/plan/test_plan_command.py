"""`ssrnn plan` as a user calls it: by data sheets, with things unknown; when long, a calibration and its check."""

import json
import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from ssrnn_dist.config import check_config, load_config
from ssrnn_launch.cli.main import main
from ssrnn_launch.plan.build import Asked, make_plan
from ssrnn_launch.plan.check import check


@pytest.fixture
def config(tmp_path: Path) -> Path:
    """A GPU run whose corpus does not stand."""
    values = {
        "name": "planned",
        "data": {"index": str(tmp_path / "nowhere")},
        "model": {"d_model": 768, "n_layers": 4},
        "train": {"tokens_per_batch": 65536, "sequence_length": 512, "precision": "bf16"},
        "scale": {"workers": 8, "gpus_per_worker": 1, "accelerator_type": "H100"},
        "cost": {"usd_per_worker_hour": 2.0},
        "cluster": {"address": "ray://head:10001", "nodes": {"workers_each": 8}},
    }
    path = tmp_path / "run.yaml"
    path.write_text(yaml.safe_dump(values))
    return path


def emitted(capfd: Any, *arguments: object) -> dict[str, Any]:
    """The one JSON object of a command that ends well."""
    assert main(["plan", *map(str, arguments), "--json"]) == 0
    found: dict[str, Any] = json.loads(capfd.readouterr().out)
    return found


def test_by_a_data_sheet(config: Path, tmp_path: Path, capfd: Any) -> None:
    picture = tmp_path / "pictures" / "plan.svg"
    found = emitted(capfd, config, "--vocab-size", 32768, "--picture", picture)
    assert (found["ground"], found["device"]) == ("data sheet", "H100")
    assert "NVIDIA H100 data sheet" in found["source"]
    assert [each["workers"] for each in found["choices"]] == [2, 4, 8, 16, 32]
    for choice in found["choices"]:
        assert choice["impossible"] is None
        assert 0 < choice["mfu"] < 1
        assert choice["cost_usd"] == pytest.approx(2.0 * choice["workers"] * choice["run_seconds"] / 3600)
        assert choice["memory"]["total_bytes"] == sum(choice["memory"]["parts_bytes"].values())
        assert choice["energy_kwh"] > 0
    assert {found["cheapest"], found["fastest"]} <= set(found["front"])
    assert "Pareto front" in picture.read_text()


def test_an_unknown_device_gives_memory_and_no_times(config: Path, capfd: Any) -> None:
    found = emitted(capfd, config, "--vocab-size", 32768, "--set", "scale.accelerator_type=null")
    assert found["ground"] == "nothing"
    for choice in found["choices"]:
        assert choice["step_seconds"] is choice["cost_usd"] is choice["energy_kwh"] is None
        assert choice["memory"]["total_bytes"] > 0
    assert found["front"] == []
    assert found["no_dollars"] == "times are not known"


def test_the_table_says_which_and_why(config: Path, capfd: Any) -> None:
    words = [
        "--vocab-size",
        "32768",
        "--device",
        "L4",
        "--set",
        "train.tokens_per_batch=8192",
        "--set",
        "scale.workers=2",
    ]
    assert main(["plan", str(config), *words, "--most", "32"]) == 0
    shown = capfd.readouterr().out
    assert "data sheet: NVIDIA L4" in shown
    assert "32 workers cannot be: 32 workers for 16 lanes" in shown
    assert "memory of a worker by part" in shown
    assert "no dollars" not in shown
    assert main(["plan", str(config), *words, "--set", "cost.usd_per_worker_hour=null"]) == 0
    assert "no dollars: no price is given: cost.usd_per_worker_hour" in capfd.readouterr().out


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (["model.d_model=16384", "model.n_layers=8"], r"8: impossible \(.* GB a worker.*\); nor are their neighbours"),
        (["model.d_model=4096", "scale.zero_stage=3", "scale.workers=[1,2]"], r"1, 2: impossible .*; possible: 4, 8"),
    ],
)
def test_a_run_that_cannot_be_is_shown_and_ends_with_1(config: Path, capfd: Any, words: list[str], line: str) -> None:
    options = [each for word in words for each in ("--set", word)]
    assert main(["plan", str(config), "--vocab-size", "32768", "--device", "L4", "--json", *options]) == 1
    shown = capfd.readouterr()
    given = [each["impossible"] for each in json.loads(shown.out)["choices"] if each["is_given"]]
    assert None not in given
    assert re.search(f"^error: scale.workers: {line}$", shown.err, re.MULTILINE), shown.err


@pytest.mark.parametrize(
    ("words", "line"),
    [
        ([], "error: data: no corpus at"),
        (["--vocab-size", "512", "--device", "T1000"], "error: --device: 'T1000'"),
        (["--vocab-size", "512", "--calibrate"], "error: --calibrate: no GPU here"),
        (["--vocab-size", "512", "--check"], "error: --check: no calibration on CPUs"),
        (["--vocab-size", "512", "--set", "scale.accelerator_type=V3"], "error: scale.accelerator_type: 'V3'"),
        (["--vocab-size", "512", "--device", "L4", "--set", "scale.gpus_per_worker=0"], "error: --device: 'L4'"),
        (["--picture", "plan.txt"], "error: --picture: 'plan.txt'"),
    ],
)
def test_wrong_input_is_one_line(config: Path, capfd: Any, words: list[str], line: str) -> None:
    assert main(["plan", str(config), *words]) == 2
    told = capfd.readouterr().err
    assert line in told
    assert "Traceback" not in told


@pytest.mark.long
@pytest.mark.parametrize("stage", [1, 3])
def test_a_calibration_forecasts_what_then_happens(corpus: Path, tmp_path: Path, stage: int) -> None:
    """Memory within a tenth. Times are compared by `ssrnn plan --check`, on a machine that does nothing else."""
    values = {
        "name": "checked",
        "data": {"index": str(corpus)},
        "model": {"d_model": 128, "n_layers": 2},
        "train": {"tokens_per_batch": 2048, "sequence_length": 64},
        "scale": {"workers": 2, "zero_stage": stage},
    }
    path = tmp_path / "run.yaml"
    path.write_text(yaml.safe_dump(values))
    config, kept = load_config(path), tmp_path / "calibration.json"
    made = make_plan(config, Asked(calibration=kept))
    assert made.ground == "calibration"
    assert {each.workers for each in made.found.choices if each.measured} == {1, 2}
    assert make_plan(config, Asked(calibration=kept)).found == made.found
    checked = check(made, 2)
    assert checked.memory_error == pytest.approx(0, abs=0.1)
    assert checked.step_seconds > 0


def test_times_that_want_a_network_say_so() -> None:
    values = {"name": "plan", "data": {"index": "nowhere"}, "cluster": {"nodes": {"workers_each": 4}}}
    config = check_config({**values, "scale": {"workers": 4, "gpus_per_worker": 1}})
    found = make_plan(config, Asked(device="L4", vocab_size=512))
    assert "--node-gigabits" in found.source
    assert [each.workers for each in found.found.choices if each.step_seconds is None] == [8, 16]
    known = make_plan(config, Asked(device="L4", vocab_size=512, node_gigabits=100))
    assert "--node-gigabits" not in known.source
    assert None not in [each.step_seconds for each in known.found.choices]
