"""A stream that goes on far inside a large corpus: seconds from nothing to its first batch. Imports ssrnn_data."""

import time
from collections.abc import Callable, Mapping
from typing import Any

from ssrnn_data import CorpusIndex, TokenStream


def prepare(
    folder: str, lanes: int, sequence_length: int, position: Mapping[str, Any]
) -> dict[str, Callable[..., dict[str, Any]]]:
    """position: of this corpus and shape."""

    def run() -> dict[str, Any]:
        began = time.perf_counter()
        index = CorpusIndex.load(folder)
        loaded = time.perf_counter()
        stream = TokenStream(index, lanes=lanes, sequence_length=sequence_length, position=position)
        batch = next(stream)
        ended = time.perf_counter()
        return {"seconds": ended - began, "index_seconds": loaded - began, "tokens_BT": batch.tokens_BT.tolist()}

    return {"run": run}
