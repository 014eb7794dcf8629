"""The same texts and tokenizer by Hugging Face datasets: the .jsonl loaded, then map in batches. Imports datasets."""

import time
from collections.abc import Callable
from importlib import import_module
from typing import Any

DOCUMENTS_PER_BATCH = 1000  # its own default


def prepare(texts: str, tokenizer: str, folder: str, loader_processes: int) -> dict[str, Callable[..., dict[str, Any]]]:
    """loader_processes: map's num_proc; 0: none, the tokenizer's own threads encode."""
    datasets: Any = import_module("datasets")
    datasets.disable_progress_bars()
    read: Any = import_module("tokenizers").Tokenizer.from_file(tokenizer)
    read.encode_special_tokens = True

    def encoded(batch: dict[str, list[str]]) -> dict[str, list[list[int]]]:
        return {"ids": [each.ids for each in read.encode_batch_fast(batch["text"], add_special_tokens=False)]}

    def run() -> dict[str, Any]:
        began = time.perf_counter()
        loaded = datasets.load_dataset("json", data_files=texts, split="train", cache_dir=folder)
        mapping = time.perf_counter()
        mapped = loaded.map(
            encoded,
            batched=True,
            batch_size=DOCUMENTS_PER_BATCH,
            num_proc=loader_processes or None,
            remove_columns=["text"],
            features=datasets.Features({"ids": datasets.Sequence(datasets.Value("int32"))}),
        )
        ended = time.perf_counter()
        tokens = len(mapped) + sum(len(ids) for ids in mapped.with_format("numpy")["ids"])
        return {"seconds": ended - mapping, "seconds_with_loading": ended - began, "tokens": tokens}

    return {"run": run}
