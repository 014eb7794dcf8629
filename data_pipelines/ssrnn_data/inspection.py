"""What a corpus holds, for a person: counts, ratios, document lengths as a table and a picture, texts back from ids.

Reads a bounded number of shards, however large the corpus.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ssrnn_data.errors import data_error
from ssrnn_data.index import CorpusIndex, SplitEntry, as_index, load_tokenizer
from ssrnn_data.shards import read_samples
from ssrnn_data.tokenizer import Utf8Streamer

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_SHARDS_READ = 16
_HEAD_TOKENS = 64


def inspect_corpus(index: CorpusIndex | str | Path, n_samples: int = 3) -> dict[str, Any]:
    """A JSON-able description of a corpus.

    At most 16 shards of the train split are read, evenly chosen (shards_read). splits: by name, counts, bytes_per_token
    and tokens_per_document. documents: n_samples from those shards, each with its shard and its head as text.
    length_histogram: the documents that begin in those shards by length in tokens, as far as the shard holds them, as
    {"from", "below", "documents"} with edges at powers of two.

    Raises DataError for a corpus that can't be read.
    """
    index = as_index(index)
    tokenizer = load_tokenizer(index)
    split = index.split("train")
    picked = sorted({int(at) for at in np.linspace(0, len(split.shards) - 1, _SHARDS_READ)})
    lengths: list[int] = []
    heads: list[dict[str, Any]] = []
    for at in picked:
        shard = split.shards[at]
        samples = read_samples(index.open_shard(shard), index.form_of(shard))
        first_here = len(lengths)
        for ids in samples:
            if ids[0] == index.end_of_text:
                lengths.append(len(ids))
                if len(heads) < n_samples and (at == picked[-1] or len(lengths) == first_here + 1):
                    heads.append({"shard": shard.file, "head": tokenizer.decode(ids[:_HEAD_TOKENS].tolist())})
            elif len(lengths) > first_here:
                lengths[-1] += len(ids)
    return {
        "index": index.where,
        "fingerprint": index.fingerprint,
        "vocab_size": index.vocab_size,
        "dtype": index.dtype,
        "tokenizer_sha256": index.tokenizer.sha256,
        "sources": list(index.sources),
        "origins": [origin.model_dump() for origin in index.origins],
        "licence": index.licence,
        "provenance": index.provenance,
        "splits": {name: _counts(entry) for name, entry in index.splits.items()},
        "skipped": {reason: noted.count for reason, noted in index.skipped.items()},
        "replaced": index.replaced.count,
        "documents": heads,
        "length_histogram": _histogram(lengths),
        "shards_read": len(picked),
    }


def _counts(entry: SplitEntry) -> dict[str, Any]:
    return {
        "tokens": entry.tokens,
        "documents": entry.documents,
        "samples": entry.samples,
        "text_bytes": entry.text_bytes,
        "shards": len(entry.shards),
        "bytes_per_token": entry.text_bytes / entry.tokens,
        "tokens_per_document": entry.tokens / entry.documents,
    }


def _histogram(lengths: list[int]) -> list[dict[str, int]]:
    """Counts between powers of two, from the shortest document's to the longest's."""
    if not lengths:
        return []
    exponents = np.array([length.bit_length() - 1 for length in lengths])
    return [
        {"from": 1 << int(e), "below": 2 << int(e), "documents": int((exponents == e).sum())}
        for e in range(int(exponents.min()), int(exponents.max()) + 1)
    ]


def read_document(index: CorpusIndex | str | Path, number: int, split: str = "train") -> Iterator[str]:
    """The text of a split's document, from 0, piece by piece, exactly as it came.

    Raises DataError for a number that the split doesn't have and for a corpus that can't be read.
    """
    index = as_index(index)
    entry, tokenizer = index.split(split), load_tokenizer(index)
    if not 0 <= number < entry.documents:
        raise data_error("document", f"{number} came", f"0 to {entry.documents - 1} of the {split} split are allowed")
    text = Utf8Streamer(tokenizer)
    for place, ids in _samples_from(index, entry, number):
        if place > number:
            break
        yield "".join(map(text.push, ids.tolist()))
    yield text.finish()


def _samples_from(index: CorpusIndex, split: SplitEntry, document: int) -> Iterator[tuple[int, np.ndarray]]:
    """The samples of a document and of all after it, each with its document's number; shards before are not opened."""
    begun = 0
    for shard in split.shards:
        if begun + shard.documents <= document:
            begun += shard.documents
            continue
        for ids in read_samples(index.open_shard(shard), index.form_of(shard)):
            begun += int(ids[0] == index.end_of_text)
            if begun > document:
                yield begun - 1, ids


def draw_lengths(inspected: dict[str, Any]) -> "Figure":
    """The length histogram of inspect_corpus: how many documents are how many tokens long."""
    from matplotlib.figure import Figure

    bins = inspected["length_histogram"]
    figure = Figure(figsize=(7.2, 3.6), facecolor="white", layout="constrained")
    axes = figure.subplots()
    axes.bar(range(len(bins)), [each["documents"] for each in bins], width=0.92, color="#0072B2")
    edges = [each["from"] for each in bins]
    axes.set_xticks(range(len(bins)), [f"{edge >> 10}Ki" if edge >= 1024 else str(edge) for edge in edges])
    axes.set_xlabel("tokens of a document, from; each bar up to the next")
    shards = f"{inspected['shards_read']} of {inspected['splits']['train']['shards']}"
    axes.set_title(f"documents in {shards} training shards", loc="left", fontsize=10)
    axes.grid(axis="y", color="#e3e7ec", linewidth=0.8)
    axes.set_axisbelow(True)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    return figure
