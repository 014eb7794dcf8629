"""The text of a run, from its config: its corpora, its training stream and its held-out splits.

Reads indexes; torch is imported where a stream is opened, so that a config can be checked quickly."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from ssrnn_data import CacheOptions, CorpusIndex, MixtureSource, load_tokenizer
from ssrnn_data.mixture.shares import Shares
from ssrnn_data.mixture.sources import OpenedSource, open_sources
from ssrnn_dist.config.run import RunConfig
from ssrnn_dist.config.sections import DataSection, TrainSection

if TYPE_CHECKING:
    from ssrnn_data import EvaluationStream, MixtureStream, TokenStream


def open_index(data: DataSection, index: str) -> CorpusIndex:
    """One corpus. Every index of a run is opened here. DataError where it can't be used."""
    cache = CacheOptions.default(data.cache_folder, data.cache_gb) if "://" in index else None
    return CorpusIndex.load(index, check_files=data.on_bad_sample == "error", cache=cache)


def mixture_of(data: DataSection) -> list[MixtureSource]:
    """The corpora with their weights; a single corpus is a mixture of one."""
    return [MixtureSource(open_index(data, each.index), each.weight, each.name) for each in data.sources]


def open_corpora(config: RunConfig) -> list[OpenedSource]:
    """The corpora of a run: named, opened, and checked to go together, weights and all.

    Raises DataError for what is missing, for tokenizers that differ or aren't what an index says, equal names, weights
    that are all 0 at once."""
    length = config.train.sequence_length
    opened = open_sources(mixture_of(config.data), "train", length)
    load_tokenizer(opened[0].index)  # all have the same
    Shares.of([source.weight for source in opened], length)
    return opened


def open_stream(
    config: RunConfig,
    corpora: Sequence[OpenedSource],
    *,
    rank: int,
    world_size: int,
    position: Mapping[str, Any] | None = None,
) -> "TokenStream | MixtureStream":
    """The training stream of this rank, from a checkpoint's position on. Raises DataError as the streams do."""
    from ssrnn_data import MixtureStream, TokenStream

    data, train = config.data, config.train
    how: dict[str, Any] = {
        "lanes": train.lanes,
        "sequence_length": train.sequence_length,
        "rank": rank,
        "world_size": world_size,
        "seed": train.seed,
        "position": position,
        "on_bad_sample": data.on_bad_sample,
        "max_bad_fraction": data.max_bad_fraction,
    }
    if data.mixture is None:
        return TokenStream(corpora[0].index, **how)
    sources = [MixtureSource(each.index, each.weight, each.name) for each in corpora]
    return MixtureStream(sources, allow_new_weights=data.allow_new_weights, **how)


def has_new_weights(was: Mapping[str, Any], now: Mapping[str, Any]) -> bool:
    """Do two positions differ in the weights of their mixture?"""
    return was.get("weights") != now.get("weights")


def open_valid(
    train: TrainSection, corpora: Sequence[OpenedSource], *, rank: int, world_size: int
) -> "dict[str, EvaluationStream]":
    """This rank's part of the held-out split of each corpus that has one, by the corpus's name."""
    from ssrnn_data import EvaluationStream

    lanes, length = train.lanes, train.sequence_length
    return {
        corpus.name: EvaluationStream(
            corpus.index, lanes=lanes, sequence_length=length, rank=rank, world_size=world_size
        )
        for corpus in corpora
        if "valid" in corpus.index.splits
    }
