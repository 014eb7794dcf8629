"""What the page on long memory trains: a recipe's YAML file, its trials, and which of them come next.

Pure but for reading the recipe; imports the config and the tasks' names."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from pydantic import Field, model_validator

from ssrnn_dist.bench.memory.tasks import TASKS
from ssrnn_dist.bench.quality.recipe import TRANSFORMER
from ssrnn_dist.config.base import NonNegativeInt, PositiveInt, Section
from ssrnn_dist.config.load import apply_overrides, read_yaml, validated
from ssrnn_dist.config.model import FeedbackConfig, ModelSection
from ssrnn_dist.config.sections import TrainSection


class Recipe(Section):
    """Every task at every length by every rule: the first learning rate that solves it, or the best of them all."""

    name: str = Field(pattern=r"^[a-z0-9][a-z0-9-]*$", description="names the folder of the results")
    model: ModelSection
    transformer: ModelSection | None = Field(None, description="the rival's shape; its `cell` does not count")
    train: TrainSection = Field(description="its sequence_length and learning_rate are each trial's own")
    tasks: list[str] = Field(min_length=1)
    lengths: list[PositiveInt] = Field(min_length=1, description="of the windows and the longest episodes in training")
    rules: dict[str, FeedbackConfig] = Field(min_length=1)
    learning_rates: list[float] = Field(min_length=1, description="tried in this order until one solves the task")
    seeds: list[NonNegativeInt] = Field([0], min_length=1, description="of the weights and the episodes")
    check_every_steps: PositiveInt = Field(100, description="between looks at episodes of the training length")
    solved_accuracy: float = Field(0.999, gt=0, le=1, description="training stops after two looks that reach it")
    tested_lengths: list[PositiveInt] = Field([1, 2, 4], description="as multiples of the length in training")
    tested_episodes: PositiveInt = Field(128, description="of each length; the same for all")

    @model_validator(mode="after")
    def tasks_and_lengths_are_possible(self) -> "Recipe":
        unknown = [task for task in self.tasks if task not in TASKS]
        if unknown:
            raise ValueError(f"tasks: {', '.join(unknown)}; allowed: {', '.join(TASKS)}")
        odd = [str(length) for length in self.lengths if self.train.tokens_per_batch % length]
        if odd:
            raise ValueError(
                f"lengths: {', '.join(odd)}; they must divide train.tokens_per_batch {self.train.tokens_per_batch}"
            )
        return self

    @property
    def rows(self) -> list[str]:
        """The rules, and the Transformer."""
        return [*self.rules, *([TRANSFORMER] if self.transformer is not None else [])]


@dataclass(frozen=True)
class Cell:
    """A cell of the table: a task at a length by a rule (or the Transformer), from one seed."""

    task: str
    length: int
    row: str
    seed: int


@dataclass(frozen=True)
class Trial:
    """One training."""

    cell: Cell
    learning_rate: float

    @property
    def name(self) -> str:
        """A file's name."""
        cell = self.cell
        return f"{cell.task}-{cell.length}-{cell.row}-lr{self.learning_rate:g}-seed{cell.seed}"


def load_recipe(path: Path, overrides: list[str]) -> Recipe:
    """UserError tells every problem at once."""
    return validated(Recipe, apply_overrides(read_yaml(path), overrides), str(path))


def cells(recipe: Recipe) -> list[Cell]:
    """In the order in which they are trained: the short before the long."""
    return [
        Cell(task, length, row, seed)
        for length in sorted(recipe.lengths)
        for seed in recipe.seeds
        for task in recipe.tasks
        for row in recipe.rows
    ]


def next_of(recipe: Recipe, cell: Cell, solved: Mapping[Trial, bool]) -> Trial | None:
    """The next learning rate of a cell; None once one has solved it or all were tried."""
    for rate in recipe.learning_rates:
        trial = Trial(cell, rate)
        if trial not in solved:
            return trial
        if solved[trial]:
            return None
    return None


def next_trial(recipe: Recipe, wanted: list[Cell], solved: Mapping[Trial, bool], running: set[Trial]) -> Trial | None:
    """The first that can be trained now and is not; None where all of them run or are done."""
    open_trials = (next_of(recipe, cell, solved) for cell in wanted)
    return next((trial for trial in open_trials if trial is not None and trial not in running), None)
