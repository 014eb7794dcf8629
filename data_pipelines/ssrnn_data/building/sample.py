"""A first look at a unit: how much each split will hold, and text for the tokenizer to learn from.

The sample is all training text, or pieces that each document's hash picks, up to the unit's quota.
"""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ssrnn_data.building.held_out import HeldOut
from ssrnn_data.building.splits import split_documents
from ssrnn_data.building.work_folder import WorkFolder
from ssrnn_data.cutting import shorten_words
from ssrnn_data.documents import Document, Tally
from ssrnn_data.files import whole_file
from ssrnn_data.plan import BuildPlan
from ssrnn_data.sources import SourceFile
from ssrnn_data.split import SplitCounts, uniform

SAMPLE_BYTES = 64 << 20
# Of text in which words never end (one long line of letters): learning from it takes a hundred times the memory.
_UNBROKEN_BYTES = 4 << 20


def look_at(
    plan: BuildPlan,
    files: list[SourceFile],
    held_out: HeldOut,
    work: WorkFolder,
    part: str,
    quota_bytes: int,
    fraction: float,
) -> dict[str, Any]:
    """Counts a unit's documents and writes its sample; the counts, JSON-able. DataError for sources that won't do.

    Of files with a split of their own the digests are written: no other file may give these documents.
    """
    counts, tally, taken = SplitCounts(), Tally(), 0
    with (
        whole_file(sample_file(work, part)) as out,
        whole_file(digests_file(work, part)) as digests,
    ):
        for file in files:
            for _, document, split in split_documents(plan, file, counts, tally, held_out):
                if file.split is not None:
                    digests.write(document.digest)
                elif split == "train" and taken < quota_bytes:
                    for piece in _picked(document, plan.seed, fraction):
                        taken += len(piece.encode("utf-8"))
                        out.write(json.dumps(piece).encode("ascii") + b"\n")
                        if taken >= quota_bytes:
                            break
    return {"counts": counts.to_dict(), "tally": tally.to_dict()}


def _picked(document: Document, seed: int, fraction: float) -> Iterator[str]:
    for number, piece in enumerate(document.pieces()):
        if uniform(document.digest, seed, number) < fraction:
            yield piece


def sampled_words(work: WorkFolder, parts: list[str]) -> Iterator[tuple[int, str]]:
    """The samples of all units for the tokenizer's trainer: UTF-8 bytes so far, and text."""
    done = unbroken = 0
    for part in parts:
        with sample_file(work, part).open(encoding="ascii") as stream:
            for line in stream:
                piece = json.loads(line)
                size = len(piece.encode("utf-8"))
                done += size
                words = shorten_words(piece)
                unbroken += size if len(words) > 1 else 0
                if len(words) == 1 or unbroken <= _UNBROKEN_BYTES:
                    yield from ((done, word) for word in words)


def sample_file(work: WorkFolder, part: str) -> Path:
    """Where a unit's sample is."""
    return work.parts / f"{part}.sample"


def digests_file(work: WorkFolder, part: str) -> Path:
    """Where the digests of a unit's documents are, 32 bytes each, if its files have a split of their own."""
    return work.parts / f"{part}.digests"
