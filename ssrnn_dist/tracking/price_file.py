"""The user's price file: what a node, a device or a worker of some kind costs an hour, from which day, by whose word.

Imports the config's base and its YAML reader; reads one file."""

import datetime
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Literal

from pydantic import Field, model_validator

from ssrnn_dist.config.base import Section
from ssrnn_dist.config.load import read_yaml, validated
from ssrnn_dist.problems import UserError, user_error

OLD_AFTER_DAYS = 90
Market = Literal["on_demand", "spot"]
KINDS = ("instance_type", "labels", "accelerator")
OF_PRICES = "`date:`, `source:` and `prices:` (see launch/configs/prices/example.yaml)"


class PriceEntry(Section):
    """One price. It fits the nodes that have its instance type, or all its labels, or its accelerator."""

    instance_type: str | None = Field(None, min_length=1, description="the cloud's name for the machine")
    labels: dict[str, str] | None = Field(None, min_length=1, description="labels of Ray's node, all of which it has")
    accelerator: str | None = Field(None, min_length=1, description="Ray's accelerator type, such as H100")
    on_demand: float | None = Field(None, ge=0, description="dollars an hour; null: not known")
    spot: float | None = Field(None, ge=0, description="dollars an hour where the node may be taken away")
    per: Literal["node", "device", "worker"] = Field(description="what the price is of: node, device or worker")

    @model_validator(mode="after")
    def one_kind(self) -> "PriceEntry":
        given = [kind for kind in KINDS if getattr(self, kind) is not None]
        if len(given) != 1:
            raise ValueError(
                f"{(given or KINDS)[-1]}: {' and '.join(given) or 'none'} given; one of {', '.join(KINDS)} is wanted"
            )
        if self.on_demand is None and self.spot is None:
            raise ValueError("on_demand: no price given; on_demand, spot or both are wanted")
        return self

    @property
    def name(self) -> str:
        labels = ", ".join(f"{key}={value}" for key, value in (self.labels or {}).items())
        return self.instance_type or self.accelerator or labels

    def fits(self, instance_type: str | None, labels: Mapping[str, str], accelerator: str | None) -> bool:
        if self.labels is not None:
            return self.labels.items() <= labels.items()
        if self.instance_type is not None:
            return self.instance_type == instance_type
        return self.accelerator == accelerator

    def usd_per_hour(self, market: Market) -> float | None:
        return self.spot if market == "spot" else self.on_demand


class PriceFile(Section):
    """All prices that a user knows, of one day."""

    date: datetime.date = Field(description="the day of the prices, such as 2026-11-01: prices age")
    currency: Literal["USD"] = Field("USD", description="dollars only")
    source: str = Field(min_length=1, description="where the prices come from, in words")
    prices: list[PriceEntry] = Field(min_length=1, description="entries; of those that fit a node the first one counts")

    @model_validator(mode="after")
    def each_once(self) -> "PriceFile":
        kinds = [(each.instance_type, each.labels, each.accelerator) for each in self.prices]
        for at, kind in enumerate(kinds):
            if kind in kinds[:at]:
                raise ValueError(f"prices.{at}: {self.prices[at].name} again; one entry of each kind is allowed")
        return self

    def entry(self, instance_type: str | None, labels: Mapping[str, str], accelerator: str | None) -> PriceEntry | None:
        """The first entry that fits a node; None where none does."""
        return next((each for each in self.prices if each.fits(instance_type, labels, accelerator)), None)

    def age_warning(self, today: datetime.date) -> str | None:
        """What is odd about the date, if anything is."""
        days = (today - self.date).days
        if days > OLD_AFTER_DAYS:
            return f"the prices are of {self.date}, {days} days ago: look whether they still hold"
        return f"the prices are of {self.date}, a day to come" if days < 0 else None


def read_price_file(path: str) -> PriceFile:
    """The prices of a YAML file; UserError with every problem in it."""
    if not Path(path).expanduser().is_file():
        raise user_error("cost.price_file", f"{path}: no such file", "one like launch/configs/prices/example.yaml")
    values = read_yaml(Path(path).expanduser(), "a YAML file of prices", OF_PRICES)
    try:
        return validated(PriceFile, values, "the file")
    except UserError as error:
        raise UserError(*(replace(each, where=f"{path}: {each.where}") for each in error.problems)) from None
