"""Encodes a unit: its documents become runs, each document with its split and its place there.

Memory is bounded for documents of any length.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import tee
from typing import Any

import numpy as np

from ssrnn_data.building.held_out import HeldOut
from ssrnn_data.building.runs import RunWriter
from ssrnn_data.building.splits import split_documents
from ssrnn_data.building.work_folder import WorkFolder
from ssrnn_data.documents import Tally
from ssrnn_data.plan import BuildPlan
from ssrnn_data.sources import SourceFile
from ssrnn_data.split import SPLITS, SplitCounts, order_key
from ssrnn_data.tokenizer import TextTokenizer
from ssrnn_data.writer import choose_dtype

_BATCH_CHARACTERS = 1 << 19
_BATCH_PIECES = 1 << 12


@dataclass(frozen=True)
class _Piece:
    text: str
    ends: bool
    record: tuple[Any, ...]
    starts: bool


def encode_unit(
    plan: BuildPlan,
    files: list[SourceFile],
    first: int,
    held_out: HeldOut,
    tokenizer: TextTokenizer,
    work: WorkFolder,
    part: str,
) -> dict[str, Any]:
    """Writes the runs of the files, which are numbered from `first` on; what they hold, JSON-able."""
    counts, tally = SplitCounts(), Tally()
    tokens, of_files = dict.fromkeys(SPLITS, 0), [[0, 0] for _ in files]
    writer = RunWriter(work.parts / part, choose_dtype(tokenizer.vocab_size))
    try:
        for piece, ids in _encoded(_batches(_pieces(plan, files, held_out, counts, tally, of_files)), tokenizer):
            split, key, digest, place, number = piece.record
            if piece.starts:
                writer.open_document((split, key, digest, first + place, number))
            writer.add(np.asarray(ids, np.uint32))
            tokens[SPLITS[split]] += len(ids) + piece.starts
            if piece.ends:
                writer.end_document()
        runs = writer.close()
    except BaseException:
        writer.abandon()
        raise
    return {
        "counts": counts.to_dict(),
        "tally": tally.to_dict(),
        "tokens": tokens,
        "runs": runs,
        "of_files": of_files,  # documents, bytes of text
    }


def _encoded(batches: Iterator[list[_Piece]], tokenizer: TextTokenizer) -> Iterator[tuple[_Piece, list[int]]]:
    kept, sent = tee(batches)
    ids_of = tokenizer.encode_batches([piece.text for piece in batch] for batch in sent)
    for batch, ids in zip(kept, ids_of, strict=True):
        yield from zip(batch, ids, strict=True)


def _pieces(
    plan: BuildPlan,
    files: list[SourceFile],
    held_out: HeldOut,
    counts: SplitCounts,
    tally: Tally,
    of_files: list[list[int]],
) -> Iterator[_Piece]:
    for place, file in enumerate(files):
        for number, document, split in split_documents(plan, file, counts, tally, held_out):
            of_files[place][0] += 1
            of_files[place][1] += document.text_bytes
            if split is None:
                continue
            key = order_key(document.digest, plan.seed)
            if not plan.deduplicate:  # equal documents must not end up side by side
                key = order_key(document.digest + f"{file.name}:{number}".encode(), plan.seed)
            digest = tuple(np.frombuffer(document.digest, "<u8").tolist())
            record = (SPLITS.index(split), key, digest, place, number)
            yield from _marked(document.pieces(), record)


def _marked(pieces: Iterator[str], record: tuple[Any, ...]) -> Iterator[_Piece]:
    """The pieces of a document, the first and the last marked."""
    text, starts = next(pieces), True
    for following in pieces:
        yield _Piece(text, False, record, starts)
        text, starts = following, False
    yield _Piece(text, True, record, starts)


def _batches(pieces: Iterator[_Piece]) -> Iterator[list[_Piece]]:
    """Pieces of many documents together, so that the tokenizer's threads have work."""
    batch: list[_Piece] = []
    characters = 0
    for piece in pieces:
        batch.append(piece)
        characters += len(piece.text)
        if characters >= _BATCH_CHARACTERS or len(batch) >= _BATCH_PIECES:
            yield batch
            batch, characters = [], 0
    if batch:
        yield batch
