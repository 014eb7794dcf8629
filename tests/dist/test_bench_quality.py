"""The study: which trial comes next, the rival Transformer, and the whole way from a recipe to table and pictures."""

import json
import os
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import psutil
import pytest
import torch
import yaml

from ssrnn_data import Batch, CorpusIndex, EvaluationStream
from ssrnn_dist.bench import transformer as transformer_module
from ssrnn_dist.bench.generation import measure
from ssrnn_dist.bench.quality.page import write_page
from ssrnn_dist.bench.quality.recipe import Recipe, Row, Trial, load_recipe, next_trial, rows
from ssrnn_dist.bench.quality.results import load_results, table
from ssrnn_dist.bench.quality.run import run_study
from ssrnn_dist.bench.quality.trial import settings, with_context
from ssrnn_dist.bench.results_folder import save_result
from ssrnn_dist.bench.transformer import Transformer
from ssrnn_dist.config.model import ModelSection
from ssrnn_dist.evaluate import evaluate
from ssrnn_dist.problems import RunFailed, UserError

STDLIB = Path(__file__).parents[2] / "benchmarks" / "quality" / "stdlib.yaml"
INFINITE = float("inf")


@pytest.fixture
def recipe(corpus: Path, tmp_path: Path) -> Recipe:
    values = yaml.safe_load(STDLIB.read_text(encoding="utf-8"))
    shape = {"d_model": 16, "n_layers": 1, "mlp_ratio": 1}
    values |= {"model": shape, "transformer": {**shape, "n_heads": 2}, "cells": ["gru", "elman"]}
    values["data"] = {"index": str(corpus)}
    values["train"] = {"steps": 4, "tokens_per_batch": 96, "sequence_length": 12, "validate_every_steps": 2}
    values |= {"rules": {"exact": {"kind": "exact"}, "paper": {"kind": "stationary"}}, "claims": ["exact"]}
    values |= {"learning_rates": [0.01], "sweep_steps": 2, "seeds": [0, 1]}
    path = tmp_path / "recipe.yaml"
    path.write_text(yaml.safe_dump(values), encoding="utf-8")
    return load_recipe(path, [])


def test_the_committed_recipe_is_whole() -> None:
    study = load_recipe(STDLIB, [])
    assert rows(study)[8] == Row("transformer")
    assert len(rows(study)) == 25
    with pytest.raises(UserError, match="claims: exat; allowed: exact"):
        load_recipe(STDLIB, ["claims=[exat]"])
    with pytest.raises(UserError, match=r"rules\.paper"):
        load_recipe(STDLIB, ["rules.paper.refinements=3"])


def trained(recipe: Recipe, loss: dict[float, float]) -> list[Trial]:
    """All trials of the first row in the order in which they come, where a rate's loss is given."""
    losses: dict[Trial, float] = {}
    while (trial := next_trial(recipe, rows(recipe)[:1], losses, set())) is not None:
        losses[trial] = loss[trial.learning_rate]
    return list(losses)


def test_a_sweep_widens_until_its_best_is_inside(recipe: Recipe) -> None:
    study = recipe.model_copy(update={"learning_rates": [0.01, 0.02]})
    came = trained(study, {0.01: 3.0, 0.02: 2.0, 0.04: 1.0, 0.08: INFINITE})
    assert [(each.learning_rate, each.steps) for each in came[:4]] == [(0.01, 2), (0.02, 2), (0.04, 2), (0.08, 2)]
    assert [(each.learning_rate, each.seed, each.steps) for each in came[4:]] == [(0.04, 0, 4), (0.04, 1, 4)]


def test_a_sweep_widens_downwards_and_not_for_ever(recipe: Recipe) -> None:
    study = recipe.model_copy(update={"learning_rates": [0.16, 0.32]})
    came = trained(study, {0.32 / 2**n: 5.0 - n for n in range(12)})
    assert [each.learning_rate for each in came if each.steps == 2][-1] == 0.16 / 16
    assert came[-1].learning_rate == 0.16 / 16


def test_what_runs_is_not_started_twice_and_failures_are_not_chosen(recipe: Recipe) -> None:
    first = next_trial(recipe, rows(recipe), {}, set())
    assert first is not None
    second = next_trial(recipe, rows(recipe), {}, {first})
    assert second is not None
    assert second.row != first.row
    study = recipe.model_copy(update={"learning_rates": [0.01, 0.02]})
    assert trained(study, {0.005: 3.0, 0.01: 2.0, 0.02: INFINITE})[-1].learning_rate == 0.01


@pytest.mark.long
def test_two_networks_are_trained_compared_and_drawn(recipe: Recipe, tmp_path: Path) -> None:
    """Real trainings in processes of their own; sent again, nothing is trained."""
    folder, wanted, told = tmp_path / "out", [Row("gru", "exact"), Row("transformer")], []
    run = {"jobs": 2, "told": lambda trial, values, missing: told.append((trial.name, missing))}
    first = run_study(recipe, folder, wanted, most=1, **run)
    assert len(first) == len(list(folder.glob("*.json"))) == 1
    results = run_study(recipe, folder, wanted, most=None, **run)
    assert len(results) == len(told) == 6
    assert told[-1][1] == 0
    assert run_study(recipe, folder, wanted, most=None, **run) == results
    assert len(told) == 6
    for values in results.values():
        assert [point["step"] for point in values["curve"]] == list(range(2, values["steps"] + 1, 2))
        assert values["curve"][-1]["loss"] == values["loss"] < 5.8
        assert 0 < values["core_seconds"] < 600
    exact, rival = table(recipe, results)
    assert exact.against_bptt == [0.0, 0.0]
    assert rival.against_bptt[1] == rival.runs[1]["perplexity"] / exact.runs[1]["perplexity"] - 1
    written = write_page(recipe, results, folder)
    assert [path.name for path in written] == ["README.md", *(f"gru-{axis}.svg" for axis in AXES)]
    page = written[0].read_text(encoding="utf-8")
    assert f"| transformer | 0.01 | {rival.perplexity:.2f} |" in page
    assert all(path.stat().st_size > 1000 for path in written[1:])


def test_trainings_do_not_outlive_a_study_that_is_killed(recipe: Recipe, tmp_path: Path) -> None:
    """kill -9, after which nobody can clean up."""
    study = {**recipe.model_dump(mode="json"), "sweep_steps": 100_000}
    (tmp_path / "long.yaml").write_text(yaml.safe_dump(study), encoding="utf-8")
    words = ["bench", "quality", "long.yaml", "--out", "out", "--jobs", "1"]
    code = f"from ssrnn_launch.cli.main import main; main({words!r})"
    paths = {**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
    started, trainings = psutil.Popen([sys.executable, "-c", code], cwd=tmp_path, env=paths), []
    try:
        trainings = until(lambda: [each for each in started.children() if "spawn_main" in str(each.cmdline())])
        until(lambda: trainings[0].cpu_times().user > 2)  # it has begun
        started.kill()
        started.wait(timeout=30)
        assert psutil.wait_procs(trainings, timeout=30)[1] == []
    finally:
        for each in [*trainings, started]:
            with suppress(psutil.NoSuchProcess):
                each.kill()


def until(found: Callable[[], Any]) -> Any:
    """What it finds, within a minute; looked for again and again, since no event tells of a process."""
    ends = time.monotonic() + 60
    while not (what := found()):
        assert time.monotonic() < ends
        time.sleep(0.1)
    return what


AXES = ("tokens", "core-seconds", "dollars")


def test_a_result_of_other_settings_is_refused(recipe: Recipe, tmp_path: Path) -> None:
    trial = Trial(Row("gru", "paper"), 0.01, 0, 2)
    values = {
        "network": "gru",
        "rule": "paper",
        "learning_rate": 0.01,
        "seed": 0,
        "steps": 2,
        "settings": settings(recipe, trial, CorpusIndex.load(recipe.data.index)),
    }
    save_result(tmp_path / "out", trial, values)
    assert list(load_results(tmp_path / "out", recipe)) == [trial]
    other = recipe.model_copy(update={"model": recipe.model.model_copy(update={"d_model": 18})})
    with pytest.raises(UserError, match="gru-paper-lr0.01-seed0-steps2.json: made with other settings"):
        load_results(tmp_path / "out", other)


@pytest.fixture(scope="module")
def transformer() -> Transformer:
    return Transformer(ModelSection(d_model=16, n_layers=2, n_heads=2), vocab_size=50).double()


def test_a_token_at_a_time_the_transformer_says_the_same(transformer: Transformer) -> None:
    tokens = torch.randint(50, (3, 9), generator=torch.Generator().manual_seed(0))
    whole, _ = transformer(tokens)
    logits, cache = transformer(tokens[:, :5])
    pieces = [logits]
    for t in range(5, 9):
        logits, cache = transformer(tokens[:, t : t + 1], cache)
        pieces.append(logits)
    torch.testing.assert_close(torch.cat(pieces, dim=1), whole, rtol=1e-10, atol=1e-10)
    with pytest.raises(ValueError, match="one token at a time"):
        transformer(tokens, cache)


def test_generation_is_timed_at_every_context(recipe: Recipe) -> None:
    found = measure(recipe, 40, [1, 300], tokens=2)
    assert [(each.model, each.context_tokens) for each in found] == [
        (model, context) for context in (1, 300) for model in ("gru", "elman", "transformer")
    ]
    kept = {(each.model, each.context_tokens): each.state_megabytes for each in found}
    assert kept["gru", 1] == kept["gru", 300] == 16 * 4 / 2**20
    assert kept["transformer", 300] == 2 * 16 * 301 * 4 / 2**20
    assert all(each.tokens_per_second > 0 for each in found)


def test_a_model_that_says_something_else_token_by_token_is_not_timed(
    recipe: Recipe, monkeypatch: pytest.MonkeyPatch
) -> None:
    angles = transformer_module._angles
    monkeypatch.setattr(transformer_module, "_angles", lambda begin, *rest: angles(0, *rest))  # forgets where it is
    with pytest.raises(RunFailed, match="transformer: token by token its logits are off"):
        measure(recipe, 40, [1], tokens=1)


def test_the_transformer_sees_its_own_document_and_no_future(transformer: Transformer) -> None:
    tokens = torch.randint(50, (2, 8), generator=torch.Generator().manual_seed(1))
    reset = torch.zeros(2, 8, dtype=torch.bool)
    reset[:, 4] = True
    changed = tokens.clone()
    changed[:, 2] = (changed[:, 2] + 1) % 50
    before, after = (transformer(each, reset_BT=reset)[0] for each in (tokens, changed))
    torch.testing.assert_close(before[:, :2], after[:, :2])
    torch.testing.assert_close(before[:, 4:], after[:, 4:])
    assert not torch.allclose(before[:, 2:4], after[:, 2:4])


def test_context_before_a_window_is_read_and_not_counted(transformer: Transformer, corpus: Path) -> None:
    """Two windows in turn are one window of both; over a split every target counts once."""
    generator = torch.Generator().manual_seed(2)
    tokens, targets = (torch.randint(50, (2, 8), generator=generator) for _ in range(2))
    reset = torch.rand(2, 8, generator=generator) < 0.2
    lanes = torch.arange(2)

    def nats(batch: Batch, state: object) -> tuple:
        return transformer.loss(batch.tokens_BT, batch.targets_BT, None, batch.reset_BT)

    def window(cut: slice) -> Batch:
        return Batch(tokens[:, cut], targets[:, cut], reset[:, cut], lanes)

    first, state = with_context(nats)(window(slice(0, 4)), None)
    second, _ = with_context(nats)(window(slice(4, 8)), state)
    whole, _ = nats(window(slice(0, 8)), None)
    torch.testing.assert_close(first + second, whole)
    counted = []

    def count(batch: Batch, state: object) -> tuple:
        counted.append(int((batch.targets_BT >= 0).sum()))
        return torch.zeros(()), ()

    stream = EvaluationStream(corpus, lanes=5, sequence_length=7)
    evaluate(with_context(count), stream)
    assert sum(counted) == stream.tokens_total


def test_results_are_plain_json(recipe: Recipe, tmp_path: Path) -> None:
    trial = Trial(Row("elman", "exact"), 0.01, 1, 4)
    save_result(tmp_path, trial, {"loss": float("nan")})
    assert json.loads((tmp_path / "elman-exact-lr0.01-seed1-steps4.json").read_text()) == {"loss": None}
