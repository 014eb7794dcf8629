"""The corpora of a mixture: named, opened, and checked to go together.

Reads their indexes and no shard.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

from ssrnn_data.errors import data_error
from ssrnn_data.index import CorpusIndex, SplitEntry, as_index
from ssrnn_data.lanes import check_counts
from ssrnn_data.mixture.shares import Knots, Weight, as_knots


@dataclass(frozen=True)
class MixtureSource:
    """A corpus and its weight, relative to the other sources' weights.

    index: a CorpusIndex, index.json or its folder. weight: a number, or knots (tokens seen by the whole mixture,
    weight), linear between and constant outside them. name: None takes the folder's.
    """

    index: CorpusIndex | str | Path
    weight: Weight = 1.0
    name: str | None = None


@dataclass(frozen=True)
class OpenedSource:
    """A source with its index, and the whole windows of its split: (N - 1) // T an epoch."""

    name: str
    index: CorpusIndex
    split: SplitEntry
    weight: Knots
    epoch_windows: int


def open_sources(sources: Sequence[MixtureSource], split: str, sequence_length: int) -> list[OpenedSource]:
    """Reads every index.

    Raises DataError for no source, two of one name, a wrong weight, an unknown split, a split of less than one window,
    or tokenizers that differ.
    """
    check_counts(sequence_length=sequence_length)
    opened = [_open(source, split, sequence_length) for source in sources]
    if not opened:
        raise data_error("sources", "none came", "one or more are needed")
    names = [source.name for source in opened]
    for name in names:
        if names.count(name) > 1:
            raise data_error("sources", f"{names.count(name)} have the name {name!r}", "each needs a name of its own")
    for one, other in pairwise(opened):
        if _vocabulary(one.index) != _vocabulary(other.index):
            came = f"{one.name} has tokenizer {_said(one.index)}, {other.name} has {_said(other.index)}"
            raise data_error("sources", came, "one tokenizer for all is allowed: build_corpus(…, tokenizer=…)")
    return opened


def _open(source: MixtureSource, split: str, sequence_length: int) -> OpenedSource:
    index = as_index(source.index)
    name = index.title if source.name is None else source.name
    entry = index.split(split)
    windows = (entry.tokens - 1) // sequence_length
    if windows < 1:
        came = f"{entry.tokens:,} tokens for windows of {sequence_length:,}"
        raise data_error(f"{name}, {split} split", came, f"at least {sequence_length + 1:,} tokens are needed")
    return OpenedSource(name, index, entry, as_knots(source.weight, name), windows)


def _vocabulary(index: CorpusIndex) -> tuple[str, int, int]:
    return index.tokenizer.sha256, index.end_of_text, index.vocab_size


def _said(index: CorpusIndex) -> str:
    return f"{index.tokenizer.sha256[:12]}… ({index.vocab_size:,} ids, <|endoftext|> is {index.end_of_text})"
