"""The section of a run that says when it is saved, and what stays.

Each field is read somewhere; its unit is in its name; imports pydantic only."""

from pydantic import Field

from ssrnn_dist.config.base import PositiveInt, Section


class CheckpointSection(Section):
    """When a run is saved, and which checkpoints stay."""

    every_steps: PositiveInt = Field(200, description="steps between checkpoints; the last step is always saved")
    every_seconds: float | None = Field(None, gt=0, description="also once so many seconds have passed; null: no")
    keep: PositiveInt = Field(2, description="newest checkpoints that stay")
    keep_every_steps: PositiveInt | None = Field(None, description="checkpoints at its multiples stay, too; null: none")
    asynchronous: bool = Field(True, description="written in the background while training goes on")
    uri: str | None = Field(None, description="an fsspec URL that checkpoints are copied to as well; null: none")
