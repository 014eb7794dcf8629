"""A split as a webdataset.WebDataset, for pipelines of one's own. The only file that imports webdataset.

Training doesn't come this way: webdataset has no resume (stream.py).
"""

from pathlib import Path
from typing import Any

from ssrnn_data.index import CorpusIndex, as_index


def as_webdataset(index: CorpusIndex | str | Path, split: str = "train", **options: Any) -> Any:
    """The samples of a split as {"__key__", "ids.npy"}, decoded to arrays; options go to webdataset.WebDataset.

    Raises DataError for a corpus that can't be read or has no such split.
    """
    import webdataset

    index = as_index(index)
    shards = [str(index.shard_path(shard)) for shard in index.split(split).shards]
    return webdataset.WebDataset(shards, **{"shardshuffle": False, **options}).decode()
