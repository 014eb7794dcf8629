"""Gathers what all units hold for one stretch of a split's order into shards: a shuffle that needs no memory.

A bucket is the documents whose keys lie in one of n equal parts of the 64-bit range; equal documents are in one bucket.
"""

from typing import Any

import numpy as np

from ssrnn_data.building.runs import RunReader, document_order
from ssrnn_data.building.work_folder import WorkFolder
from ssrnn_data.split import SPLITS, Split
from ssrnn_data.writer import ShardWriter

_KEYS = 1 << 64
_NAMED = 10


def bucket_keys(bucket: int, buckets: int) -> tuple[int, int]:
    """The keys of a bucket: from the first up to, but without, the second."""
    return -(-bucket * _KEYS // buckets), -(-(bucket + 1) * _KEYS // buckets)


def gather_bucket(
    runs: list[RunReader], split: Split, keys: tuple[int, int], deduplicate: bool, writer: ShardWriter
) -> dict[str, Any]:
    """Writes a bucket's documents in the order of their keys; its shards and what was a duplicate, JSON-able."""
    parts = [run.between(SPLITS.index(split), *keys) for run in runs]
    documents = np.concatenate(parts)
    of_run = np.repeat(np.arange(len(parts)), [len(part) for part in parts])
    order = document_order(documents)
    documents, of_run = documents[order], of_run[order]
    again = np.zeros(len(documents), bool)
    if deduplicate:
        again[1:] = (documents["digest"][1:] == documents["digest"][:-1]).all(1)
    try:
        for place in np.flatnonzero(~again):
            writer.write_document(runs[of_run[place]].ids(documents[place]))
        shards = writer.close()
    except BaseException:
        writer.abandon()
        raise
    dropped = documents[again]
    first = sorted((int(each["file"]), int(each["number"])) for each in dropped)[:_NAMED]
    return {
        "shards": [shard.model_dump(mode="json") for shard in shards],
        "duplicates": {
            "documents": len(dropped),
            "first": first,
        },
    }


def open_runs(work: WorkFolder, parts: list[str], runs_of: list[int], dtype: str) -> list[RunReader]:
    """All runs of all units, in the units' order."""
    return [
        RunReader(work.parts / part, run, dtype)
        for part, count in zip(parts, runs_of, strict=True)
        for run in range(count)
    ]
