"""One build of a corpus from a .jsonl with a tokenizer that is given. Imports ssrnn_data."""

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ssrnn_data import CorpusIndex, build_corpus


def prepare(texts: str, tokenizer: str, folder: str) -> dict[str, Callable[..., dict[str, Any]]]:
    """texts: a .jsonl of {"text": …}; folder: where the corpus will stand."""

    def run() -> dict[str, Any]:
        began = time.perf_counter()
        build_corpus(texts, Path(folder), tokenizer=tokenizer, holdout=0.0)
        seconds = time.perf_counter() - began
        return {"seconds": seconds, "tokens": CorpusIndex.load(folder).split("train").tokens}

    return {"run": run}
