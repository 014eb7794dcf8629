"""What can be looked at before any cluster: the corpora, the price, what the run takes.

Reads indexes; imports torch inside, to count parameters."""

from pathlib import Path
from typing import TYPE_CHECKING

from ssrnn_data.errors import DataError
from ssrnn_dist.config import ModelConfig, RunConfig
from ssrnn_launch.corpus import corpus_folder
from ssrnn_launch.doctor.checks import Check, fail, ok, warn
from ssrnn_launch.doctor.facts import Need

if TYPE_CHECKING:
    from ssrnn_data.mixture.sources import OpenedSource

CONNECT_SECONDS = 5.0
STATE_BYTES_PER_PARAMETER = 12  # of a checkpoint: float32 weight and AdamW's two moments


def check_corpora(config: RunConfig) -> tuple[Check, "list[OpenedSource]"]:
    """Opened as the run does; none where that fails, or where `train` builds it first."""
    from ssrnn_dist.data import open_corpora

    data = config.data
    if data.build is not None and not (corpus_folder(data) / "index.json").is_file():
        found = f"none at {data.index} yet"
        return warn("corpora", found, "`ssrnn train` builds it; run it or `ssrnn data build` first for the trial"), []
    try:
        opened = open_corpora(config)
    except (DataError, ValueError) as error:
        came, _, allowed = " ".join(str(error).split()).rpartition("; ")
        return fail("corpora", came or allowed, allowed), []
    tokens = sum(source.split.tokens for source in opened)
    return ok("corpora", f"{len(opened)} with {tokens:,} training tokens"), opened


def check_price(config: RunConfig) -> Check:
    """Without a price nothing is booked in dollars, and no budget holds."""
    cost = config.cost
    if not cost.is_priced:
        return warn("price", "none: cost_usd stays null", "cost.usd_per_worker_hour, or another price of `cost`")
    if cost.price_file is not None and not Path(cost.price_file).expanduser().is_file():
        return fail("price", f"{cost.price_file}: no such file", "cost.price_file names a YAML file of prices")
    budget = "no budget" if cost.budget_usd is None else f"a budget of ${cost.budget_usd:,.2f}"
    return ok("price", f"given, {budget}")


def need_of(config: RunConfig, corpora: "list[OpenedSource]") -> Need:
    """From the model's size; zeros where the vocabulary is not known."""
    if not corpora:
        return Need(0, config.checkpoint.keep, 0)
    from ssrnn_dist.model.language_model import count_parameters

    vocab_size = corpora[0].index.vocab_size
    model = ModelConfig(**config.model.model_dump(), vocab_size=vocab_size, feedback=config.feedback)
    n_parameters = count_parameters(model)
    width = 2 if config.train.precision == "bf16" else 4
    return Need(STATE_BYTES_PER_PARAMETER * n_parameters, config.checkpoint.keep, width * n_parameters)


def index_file(index: str) -> str:
    """The index.json of a corpus that is given as itself or as its folder."""
    return index if index.endswith("index.json") else f"{index.rstrip('/')}/index.json"
