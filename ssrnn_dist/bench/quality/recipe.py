"""What the study trains: a recipe's YAML file, its trials, and which of them come next.

Pure but for reading the recipe; imports the config only."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from pydantic import Field, model_validator

from ssrnn_dist.config.base import NonNegativeInt, PositiveInt, Section
from ssrnn_dist.config.load import apply_overrides, read_yaml, validated
from ssrnn_dist.config.model import CellName, FeedbackConfig, ModelSection
from ssrnn_dist.config.sections import DataSection, TrainSection

TRANSFORMER = "transformer"
WIDEST = 16  # how far beyond the given learning rates, as a factor, the best one is looked for


class Recipe(Section):
    """A study. Each row is a network by a rule; its learning rate is swept on short runs, then it is trained whole."""

    name: str = Field(pattern=r"^[a-z0-9][a-z0-9-]*$", description="names the folder of the results")
    data: DataSection
    model: ModelSection = Field(description="the shape of every recurrent network; its `cell` does not count")
    train: TrainSection
    cells: list[CellName] = Field(min_length=1, description="in the order in which they are trained")
    rules: dict[str, FeedbackConfig] = Field(min_length=1)
    transformer: ModelSection | None = Field(None, description="the rival's shape; its `cell` does not count")
    learning_rates: list[float] = Field(min_length=1, description="the sweep; widened by 2 where the best is its edge")
    sweep_steps: PositiveInt = Field(description="optimizer steps of a run of the sweep")
    seeds: list[NonNegativeInt] = Field(min_length=1, description="of the weights and the data's order, in pairs")
    claims: list[str] = Field(description="rules that are trained with every seed; the others with the first")
    usd_per_core_hour: float | None = Field(None, ge=0, description="price of a core for an hour; null: no dollars")

    @model_validator(mode="after")
    def one_corpus(self) -> "Recipe":
        if self.data.mixture is not None:
            raise ValueError("data.mixture: given; a study is of one corpus: data.index is wanted")
        return self

    @model_validator(mode="after")
    def names_are_known(self) -> "Recipe":
        unknown = [rule for rule in self.claims if rule not in self.rules]
        if unknown:
            raise ValueError(f"claims: {', '.join(unknown)}; allowed: {', '.join(self.rules)}")
        return self


@dataclass(frozen=True)
class Row:
    """A line of the table: a cell by a rule; the Transformer's rule is empty."""

    network: str
    rule: str = ""

    @property
    def label(self) -> str:
        return " ".join(part for part in (self.network, self.rule) if part)


@dataclass(frozen=True)
class Trial:
    """One training."""

    row: Row
    learning_rate: float
    seed: int
    steps: int

    @property
    def name(self) -> str:
        """A file's name."""
        row = self.row.label.replace(" ", "-")
        return f"{row}-lr{self.learning_rate:g}-seed{self.seed}-steps{self.steps}"


def load_recipe(path: Path, overrides: list[str]) -> Recipe:
    """UserError tells every problem at once."""
    return validated(Recipe, apply_overrides(read_yaml(path), overrides), str(path))


def rows(recipe: Recipe) -> list[Row]:
    """In the order in which they are trained: the Transformer after the first cell."""
    of_cells = [[Row(cell, rule) for rule in recipe.rules] for cell in recipe.cells]
    rival = [Row(TRANSFORMER)] if recipe.transformer is not None else []
    return [*of_cells[0], *rival, *(row for each in of_cells[1:] for row in each)]


def missing_trials(recipe: Recipe, row: Row, losses: Mapping[Trial, float]) -> list[Trial]:
    """What can be trained now of a row: its sweep, and once that has shown the best rate, the whole runs."""
    swept = sweep(recipe, row, losses)
    rates = sorted({*recipe.learning_rates, *swept})
    unswept = [Trial(row, rate, recipe.seeds[0], recipe.sweep_steps) for rate in rates if rate not in swept]
    if unswept:
        return unswept
    best = best_rate(swept)
    beyond = {rates[0]: best / 2, rates[-1]: best * 2}.get(best)
    lowest, highest = min(recipe.learning_rates) / WIDEST, max(recipe.learning_rates) * WIDEST
    if beyond is not None and len(rates) > 1 and lowest <= beyond <= highest:
        return [Trial(row, beyond, recipe.seeds[0], recipe.sweep_steps)]
    return [trial for trial in whole_trials(recipe, row, best) if trial not in losses]


def sweep(recipe: Recipe, row: Row, losses: Mapping[Trial, float]) -> dict[float, float]:
    """Learning rate → nats a token of the row's short runs; infinite where training failed."""
    return {
        trial.learning_rate: loss if math.isfinite(loss) else math.inf
        for trial, loss in losses.items()
        if (trial.row, trial.seed, trial.steps) == (row, recipe.seeds[0], recipe.sweep_steps)
    }


def best_rate(swept: Mapping[float, float]) -> float:
    """The learning rate of the least loss, the lowest of equals."""
    return min(sorted(swept), key=lambda rate: swept[rate])


def whole_trials(recipe: Recipe, row: Row, learning_rate: float) -> list[Trial]:
    """A row's whole runs: every seed for a claim and for the rival."""
    seeds = recipe.seeds if row.rule in recipe.claims or row.network == TRANSFORMER else recipe.seeds[:1]
    return [Trial(row, learning_rate, seed, recipe.train.steps) for seed in seeds]


def next_trial(recipe: Recipe, wanted: list[Row], losses: Mapping[Trial, float], running: set[Trial]) -> Trial | None:
    """The first that can be trained now and is not; None where all of them run or are done."""
    for row in wanted:
        for trial in missing_trials(recipe, row, losses):
            if trial not in running:
                return trial
    return None
