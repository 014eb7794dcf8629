"""A first look at a unit: how much each split will hold, and text for the tokenizer to learn from.

The sample is all training text, or pieces that each document's hash picks, up to the unit's quota.
"""

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ssrnn_data.building.work_folder import WorkFolder
from ssrnn_data.cutting import shorten_words
from ssrnn_data.documents import Document, Tally, read_documents
from ssrnn_data.plan import BuildPlan
from ssrnn_data.sources import SourceFile
from ssrnn_data.split import SplitCounts, split_of, uniform

SAMPLE_BYTES = 64 << 20
# Of text in which words never end (one long line of letters): learning from it takes a hundred times the memory.
_UNBROKEN_BYTES = 4 << 20


def look_at(
    plan: BuildPlan, files: list[SourceFile], work: WorkFolder, part: str, quota_bytes: int, fraction: float
) -> dict[str, Any]:
    """Counts a unit's documents and writes its sample; the counts, JSON-able. DataError for sources that won't do."""
    counts, tally, taken = SplitCounts(), Tally(), 0
    unfinished = work.parts / f"{part}.{os.getpid()}"
    with unfinished.open("w", encoding="ascii") as out:
        for file in files:
            for document in read_documents(file, plan.text_field, plan.on_invalid, tally):
                split = split_of(document.digest, plan.seed, plan.holdout, plan.test)
                counts.add(document.digest, document.text_bytes, plan.seed, split)
                if split == "train" and taken < quota_bytes:
                    for piece in _picked(document, plan.seed, fraction):
                        taken += len(piece.encode("utf-8"))
                        out.write(json.dumps(piece) + "\n")
                        if taken >= quota_bytes:
                            break
    unfinished.rename(_sample_file(work, part))
    return {"counts": counts.to_dict(), "tally": tally.to_dict()}


def _picked(document: Document, seed: int, fraction: float) -> Iterator[str]:
    for number, piece in enumerate(document.pieces()):
        if uniform(document.digest, seed, number) < fraction:
            yield piece


def sampled_words(work: WorkFolder, parts: list[str]) -> Iterator[tuple[int, str]]:
    """The samples of all units for the tokenizer's trainer: UTF-8 bytes so far, and text."""
    done = unbroken = 0
    for part in parts:
        with _sample_file(work, part).open(encoding="ascii") as stream:
            for line in stream:
                piece = json.loads(line)
                size = len(piece.encode("utf-8"))
                done += size
                words = shorten_words(piece)
                unbroken += size if len(words) > 1 else 0
                if len(words) == 1 or unbroken <= _UNBROKEN_BYTES:
                    yield from ((done, word) for word in words)


def _sample_file(work: WorkFolder, part: str) -> Path:
    return work.parts / f"{part}.sample"
