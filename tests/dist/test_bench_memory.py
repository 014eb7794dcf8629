"""Long memory: what the tasks ask, how windows are packed, which trial comes next, and the whole way to the page."""

from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from ssrnn_data import IGNORED_TARGET
from ssrnn_dist.bench.memory.page import write_page
from ssrnn_dist.bench.memory.recipe import Cell, Recipe, Trial, cells, load_recipe, next_trial
from ssrnn_dist.bench.memory.results import best, load_results
from ssrnn_dist.bench.memory.run import run_memory
from ssrnn_dist.bench.memory.tasks import BLANK, FIRST, KINDS, MODULUS, TASKS, Task
from ssrnn_dist.bench.memory.windows import packed_window, single_episodes, slices
from ssrnn_dist.problems import UserError

GRU = Path(__file__).parents[2] / "benchmarks" / "memory" / "gru.yaml"
SEEDS = st.integers(0, 2**32 - 1)


def answers(name: str, tokens: Sequence[int]) -> dict[int, int]:
    """What a task's answers are, by position, from its tokens alone: written again, a token at a time."""
    known: dict[int, int] = {}
    count, opened, keys, pending = 0, [], {}, None
    copied = [token for token in tokens[:8] if name == "copy"]
    for at, token in enumerate(tokens):
        if name == "copy" and at >= len(tokens) - 8:
            known[at] = copied[at - (len(tokens) - 8)]
        if name == "recall" and token != BLANK:
            if token >= FIRST + 4:
                keys[pending] = token
            elif token in keys:
                known[at] = keys[token]
            else:
                pending = token
        if name == "brackets" and token != BLANK:
            kind, closes = (token - FIRST) % KINDS, token >= FIRST + KINDS
            if closes:
                assert opened.pop() == kind
                if opened:
                    known[at] = FIRST + opened[-1]
            else:
                opened.append(kind)
            assert len(opened) <= 6
        if name in ("parity", "counting"):
            ones = FIRST + 1 if name == "parity" else FIRST + MODULUS + 1
            count += token == ones
            known[at] = FIRST + count % (2 if name == "parity" else MODULUS)
    return known


@pytest.mark.parametrize("name", TASKS)
@hypothesis_settings(deadline=None, max_examples=40)
@given(extra=st.integers(0, 300), seed=SEEDS)
def test_every_target_is_the_answer(name: str, extra: int, seed: int) -> None:
    task = TASKS[name]
    length = task.shortest + extra
    tokens, targets = task.episode(np.random.default_rng(seed), length)
    assert len(tokens) == len(targets) == length
    assert tokens.dtype == targets.dtype == np.int64
    assert 0 <= tokens.min() <= tokens.max() < task.vocab_size
    right = answers(name, tokens.tolist())
    asked = {at: target for at, target in enumerate(targets.tolist()) if target != IGNORED_TARGET}
    assert asked.items() <= right.items()
    if name in ("copy", "recall", "brackets"):
        assert asked == right
    else:
        assert length - 1 in asked


@pytest.mark.parametrize("name", TASKS)
def test_an_even_guess_is_what_chance_says(name: str) -> None:
    """Among the answers to many episodes none is much more frequent than the others."""
    targets = single_episodes(TASKS[name], np.random.default_rng(0), lanes=400, length=64).targets_BT
    counted = torch.bincount(targets[targets != IGNORED_TARGET])
    assert counted.max() / counted.sum() == pytest.approx(TASKS[name].chance, rel=0.15)


@given(name=st.sampled_from(list(TASKS)), lanes=st.integers(1, 5), length=st.integers(1, 200), seed=SEEDS)
@hypothesis_settings(deadline=None, max_examples=60)
def test_windows_are_packed_with_whole_episodes(name: str, lanes: int, length: int, seed: int) -> None:
    """Each document is an episode whose targets are answers to its own tokens; what is left is blank."""
    task = TASKS[name]
    batch = packed_window(task, np.random.default_rng(seed), lanes, length)
    assert batch.tokens_BT.shape == batch.targets_BT.shape == batch.reset_BT.shape == (lanes, length)
    for tokens, targets, reset in zip(batch.tokens_BT, batch.targets_BT, batch.reset_BT, strict=True):
        starts = [*torch.nonzero(reset).flatten().tolist(), length]
        assert starts[0] == 0
        for start, end in pairwise(starts):
            asked = {at: target for at, target in enumerate(targets[start:end].tolist()) if target != IGNORED_TARGET}
            if end - start >= task.shortest:
                assert asked.items() <= answers(name, tokens[start:end].tolist()).items()
            else:
                assert end == length
                assert not asked
                assert not tokens[start:end].any()


def test_long_episodes_are_there_and_short_ones_are_the_most() -> None:
    batch = packed_window(TASKS["parity"], np.random.default_rng(0), lanes=200, length=256)
    lengths = [
        each for row in batch.reset_BT for each in torch.diff(torch.nonzero(row).flatten(), append=torch.tensor([256]))
    ]
    sizes = torch.stack(lengths)
    assert (sizes < 32).float().mean() > 0.4
    assert (sizes > 128).float().mean() > 0.05


def test_slices_are_the_batch_again() -> None:
    batch = single_episodes(TASKS["copy"], np.random.default_rng(0), lanes=7, length=20)
    parts = list(slices(batch, most_tokens=45))
    assert [len(part.tokens_BT) for part in parts] == [2, 2, 2, 1]
    assert torch.equal(torch.cat([part.targets_BT for part in parts]), batch.targets_BT)
    assert len(list(slices(batch, most_tokens=1))) == 7


def test_the_same_seed_gives_the_same_window() -> None:
    first, second = (packed_window(TASKS["recall"], np.random.default_rng(3), 4, 64) for _ in range(2))
    assert torch.equal(first.tokens_BT, second.tokens_BT)
    assert torch.equal(first.targets_BT, second.targets_BT)


@pytest.fixture
def recipe() -> Recipe:
    shape = "{d_model: 16, n_layers: 1, mlp_ratio: 1, n_heads: 2}"
    changes = [f"model={shape}", f"transformer={shape}", "tasks=[parity]", "lengths=[16]", "check_every_steps=2"]
    return load_recipe(
        GRU, [*changes, "train={steps: 4, tokens_per_batch: 64, sequence_length: 16}", "tested_episodes=5"]
    )


def test_the_committed_recipe_is_whole(recipe: Recipe) -> None:
    whole = load_recipe(GRU, [])
    assert len(cells(whole)) == 5 * 3 * 7
    assert [cell.length for cell in cells(whole)] == sorted(cell.length for cell in cells(whole))
    with pytest.raises(UserError, match="tasks: chess; allowed: copy, recall"):
        load_recipe(GRU, ["tasks=[chess]"])
    with pytest.raises(UserError, match="lengths: 96; they must divide train.tokens_per_batch 4096"):
        load_recipe(GRU, ["lengths=[64, 96]"])


def test_a_second_rate_is_tried_where_the_first_fails(recipe: Recipe) -> None:
    exact, truncated = cells(recipe)[:2]
    first = next_trial(recipe, [exact, truncated], {}, set())
    assert first == Trial(exact, 4e-3)
    assert next_trial(recipe, [exact, truncated], {}, {first}) == Trial(truncated, 4e-3)
    assert next_trial(recipe, [exact], {first: False}, set()) == Trial(exact, 1e-3)
    assert next_trial(recipe, [exact], {first: True}, set()) is None
    assert next_trial(recipe, [exact], {first: False, Trial(exact, 1e-3): False}, set()) is None


def test_the_best_of_a_cell_is_what_solved_it() -> None:
    cell = Cell("copy", 64, "exact", 0)
    failed = {"solved": False, "accuracy": {"64": 1.0, "128": 1.0}}
    solved = {"solved": True, "accuracy": {"64": 0.999, "128": 0.2}}
    assert best({Trial(cell, 1.0): failed, Trial(cell, 2.0): solved}, cell) is solved
    assert best({}, cell) is None


@pytest.mark.long
def test_a_rule_and_the_rival_are_trained_and_told(recipe: Recipe, tmp_path: Path) -> None:
    """Real trainings in processes of their own; sent again, nothing is trained; other settings are refused."""
    folder, wanted, told = tmp_path / "out", [cells(recipe)[0], cells(recipe)[-1]], []
    run = {"jobs": 2, "most": None, "told": lambda trial, values, missing: told.append((trial.name, missing))}
    results = run_memory(recipe, folder, wanted, **run)
    assert len(results) == len(told) == len(list(folder.glob("*.json"))) == 4  # unsolved: both rates of both
    assert told[-1][1] == 0
    for values in results.values():
        assert not values["solved"]
        assert [look["step"] for look in values["curve"]] == [2, 4]
        assert list(values["accuracy"]) == ["16", "32", "64"]
        assert 0 <= min(values["accuracy"].values()) <= max(values["accuracy"].values()) <= 1
    assert run_memory(recipe, folder, wanted, **run) == results
    assert len(told) == 4
    page, picture = write_page(recipe, results, folder)
    text = page.read_text(encoding="utf-8")
    assert "## L = 16" in text
    assert "| truncated |  |" in text
    assert picture.stat().st_size > 1000
    with pytest.raises(UserError, match="made with other settings"):
        load_results(folder, recipe.model_copy(update={"tested_episodes": 6}))


@pytest.mark.long
def test_training_stops_when_it_is_solved(recipe: Recipe, tmp_path: Path) -> None:
    easy = recipe.model_copy(update={"solved_accuracy": 0.2, "train": recipe.train.model_copy(update={"steps": 50})})
    results = run_memory(easy, tmp_path, cells(easy)[:1], jobs=1, most=None, told=lambda *_: None)
    (values,) = results.values()
    assert values["solved"]
    assert values["steps"] == 4  # two looks, after 2 and 4 steps
    page = write_page(easy, results, tmp_path)[0].read_text(encoding="utf-8")
    assert f"| exact | {', '.join(f'{each:.2f}' for each in values['accuracy'].values())} (4) |" in page


def test_tasks_are_told_apart_by_settings() -> None:
    assert len({(task.asks, task.vocab_size) for task in TASKS.values()}) == len(TASKS)
    assert all(isinstance(task, Task) and 0 < task.chance < 1 for task in TASKS.values())
