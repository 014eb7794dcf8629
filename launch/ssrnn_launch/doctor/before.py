"""What can be looked at before any cluster: the corpora, the price, what the run takes.

Reads indexes; imports torch inside, to count parameters."""

from collections.abc import Collection, Sequence
from typing import TYPE_CHECKING

from ssrnn_data.errors import DataError
from ssrnn_dist.config import ModelConfig, RunConfig
from ssrnn_dist.console import dollars
from ssrnn_dist.problems import UserError
from ssrnn_dist.tracking.prices import Prices
from ssrnn_launch import placing
from ssrnn_launch.corpus import corpus_folder
from ssrnn_launch.doctor.checks import Check, fail, grouped, listed, nodes_, ok, warn
from ssrnn_launch.doctor.facts import Need
from ssrnn_launch.plan.prices import why_no_dollars
from ssrnn_launch.renting import unpriced

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
    """The prices themselves, and whether they fit a node as the config asks for it (check_node_prices: as it is)."""
    cost = config.cost
    if not cost.is_priced:
        return warn("price", "none: cost_usd stays null", "cost.usd_per_worker_hour, or another price of `cost`")
    odd: list[str] = []
    try:
        Prices.of(cost, odd.append)
        unknown = why_no_dollars(config, times_known=True)
    except UserError as error:
        first, *others = error.problems
        more = f" (and {len(others)} more)" if others else ""
        return fail("price", f"{first.where}: {first.came}{more}", first.allowed)
    if unknown is not None:
        return warn("price", unknown, "unless the nodes' own labels fit an entry, `train` refuses a budget")
    if odd:
        return warn("price", odd[0], "the prices of today, with their date")
    budget = "no budget" if cost.budget_usd is None else f"a budget of {dollars(cost.budget_usd)}"
    return ok("price", f"given, {budget}")


def check_node_prices(config: RunConfig, found: Sequence[placing.Node], used: Collection[str]) -> list[Check]:
    """Does the price file price the nodes that are there? Without one nothing is to be checked.

    found: the cluster's nodes.  used: ids of those that workers go to; the others are paid for with rented: cluster."""
    cost = config.cost
    if cost.price_file is None:
        return []
    paid_for = [node for node in found if node.id in used or cost.rented == "cluster"]
    wanted = {node.address: entry for node, entry in unpriced(paid_for, Prices.of(cost))}
    if not wanted:
        return [ok("node prices", f"{nodes_(len(paid_for))} priced by {cost.price_file}")]
    judge, so = (warn, "cost_usd is null") if cost.budget_usd is None else (fail, "`train` refuses the budget")
    return [
        judge("node prices", f"{listed(nodes)}: no price, so {so}", f"{entry}, in {cost.price_file}")
        for entry, nodes in grouped(wanted).items()
    ]


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
