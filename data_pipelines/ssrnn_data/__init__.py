"""From text to shards to lanes: corpora, tokenizers and resumable token streams.

Names load on first use, so that building a corpus never imports torch.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ssrnn_data.corpus import build_corpus
    from ssrnn_data.errors import DataError
    from ssrnn_data.evaluation import EvaluationStream
    from ssrnn_data.index import CorpusIndex, load_tokenizer
    from ssrnn_data.inspection import draw_lengths, inspect_corpus, read_document
    from ssrnn_data.lanes import deal_lanes
    from ssrnn_data.mixture.preview import draw_mixture, preview_mixture
    from ssrnn_data.mixture.sources import MixtureSource
    from ssrnn_data.mixture.stream import MixtureStream
    from ssrnn_data.place import CacheOptions
    from ssrnn_data.shards import BadSample
    from ssrnn_data.stream import IGNORED_TARGET, Batch, TokenStream
    from ssrnn_data.tokenizer import TextTokenizer, Utf8Streamer
    from ssrnn_data.verify import Fault, Verified, verify_corpus
    from ssrnn_data.webdataset import as_webdataset

_HOMES = {
    "IGNORED_TARGET": "stream",
    "BadSample": "shards",
    "Batch": "stream",
    "CacheOptions": "place",
    "CorpusIndex": "index",
    "DataError": "errors",
    "EvaluationStream": "evaluation",
    "Fault": "verify",
    "MixtureSource": "mixture.sources",
    "MixtureStream": "mixture.stream",
    "TextTokenizer": "tokenizer",
    "TokenStream": "stream",
    "Utf8Streamer": "tokenizer",
    "Verified": "verify",
    "as_webdataset": "webdataset",
    "build_corpus": "corpus",
    "deal_lanes": "lanes",
    "draw_mixture": "mixture.preview",
    "draw_lengths": "inspection",
    "inspect_corpus": "inspection",
    "load_tokenizer": "index",
    "preview_mixture": "mixture.preview",
    "read_document": "inspection",
    "verify_corpus": "verify",
}

__all__ = [
    "IGNORED_TARGET",
    "BadSample",
    "Batch",
    "CacheOptions",
    "CorpusIndex",
    "DataError",
    "EvaluationStream",
    "Fault",
    "MixtureSource",
    "MixtureStream",
    "TextTokenizer",
    "TokenStream",
    "Utf8Streamer",
    "Verified",
    "as_webdataset",
    "build_corpus",
    "deal_lanes",
    "draw_lengths",
    "draw_mixture",
    "inspect_corpus",
    "load_tokenizer",
    "preview_mixture",
    "read_document",
    "verify_corpus",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
