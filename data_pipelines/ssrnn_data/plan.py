"""The arguments of a build, checked together, and the hash by which a corpus that stands is recognised.

Pure but for reading the tokenizer that the user names.
"""

import hashlib
import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import get_args

from ssrnn_data.documents import OnInvalid
from ssrnn_data.errors import data_error
from ssrnn_data.index import VERSION
from ssrnn_data.sources import SourceFile
from ssrnn_data.tokenizer import TextTokenizer, check_vocab_size

FEWEST_SHARD_TOKENS = 64


@dataclass(frozen=True)
class BuildPlan:
    """What decides a corpus besides the files. shard_tokens None: chosen by the corpus's size."""

    sources: tuple[str, ...]
    vocab_size: int
    holdout: float
    text_field: str
    seed: int
    shard_tokens: int | None
    chunk_tokens: int
    on_invalid: OnInvalid
    test: float = 0.0
    deduplicate: bool = True
    licence: str | None = None
    provenance: str | None = None
    document_start: str | None = None
    valid_sources: tuple[str, ...] = ()
    test_sources: tuple[str, ...] = ()

    @property
    def all_sources(self) -> tuple[str, ...]:
        """Every source, those of the splits after the others: SourceFile.source counts in these."""
        return (*self.sources, *self.valid_sources, *self.test_sources)

    @property
    def starts(self) -> re.Pattern[str] | None:
        """What begins a document within a file, where document_start says so."""
        return None if self.document_start is None else re.compile(self.document_start)

    def check(self) -> None:
        """Raises DataError naming the first argument that is out of its range."""
        check_vocab_size(self.vocab_size)
        if isinstance(self.holdout, bool) or not isinstance(self.holdout, int | float) or not 0 <= self.holdout < 1:
            raise data_error("holdout", f"{self.holdout!r} came", "a fraction in [0, 1) is allowed")
        if isinstance(self.test, bool) or not isinstance(self.test, int | float) or not 0 <= self.test < 1:
            raise data_error("test", f"{self.test!r} came", "a fraction in [0, 1) is allowed")
        if self.holdout + self.test >= 1:
            came = f"holdout and test are {self.holdout + self.test:g} together"
            raise data_error("test", came, "less than 1, so that something is left to train on, is allowed")
        self._check_splits_sources()
        for name in ("licence", "provenance"):
            if not isinstance(getattr(self, name), str | None):
                raise data_error(name, f"{getattr(self, name)!r} came", "a text or None is allowed")
        if not isinstance(self.text_field, str) or not self.text_field:
            raise data_error("text_field", f"{self.text_field!r} came", "the name of a JSON field is allowed")
        if not _is_int(self.seed) or not 0 <= self.seed < 1 << 63:
            raise data_error("seed", f"{self.seed!r} came", "an integer in [0, 2^63) is allowed")
        if self.shard_tokens is not None and (
            not _is_int(self.shard_tokens) or self.shard_tokens < FEWEST_SHARD_TOKENS
        ):
            allowed = f"an integer of {FEWEST_SHARD_TOKENS} or more, or none, is allowed"
            raise data_error("shard_tokens", f"{self.shard_tokens!r} came", allowed)
        if not _is_int(self.chunk_tokens) or self.chunk_tokens < 1:
            raise data_error("chunk_tokens", f"{self.chunk_tokens!r} came", "a positive integer is allowed")
        if self.on_invalid not in get_args(OnInvalid):
            raise data_error("on_invalid", f"{self.on_invalid!r} came", "skip, replace or error is allowed")
        self._check_document_start()

    def _check_splits_sources(self) -> None:
        """A split is drawn from the sources or has sources of its own."""
        for name, sources, fraction in (
            ("holdout", self.valid_sources, self.holdout),
            ("test", self.test_sources, self.test),
        ):
            if sources and fraction:
                own = "valid_sources" if name == "holdout" else "test_sources"
                raise data_error(name, f"{fraction} came with {own}", f"0, or a fraction without {own}, is allowed")

    def _check_document_start(self) -> None:
        pattern, allowed = self.document_start, "a regular expression of Python's re, or None, is allowed"
        if pattern is None:
            return
        if not isinstance(pattern, str) or not pattern:
            raise data_error("document_start", f"{pattern!r} came", allowed)
        try:
            re.compile(pattern)
        except (re.error, OverflowError, RecursionError) as error:
            raise data_error("document_start", f"{pattern!r} is a broken pattern ({error})", allowed) from None

    def built_from(self, files: Sequence[SourceFile], tokenizer: TextTokenizer | None) -> str:
        """SHA-256 of the arguments, of each file's place, size and version, and of a tokenizer that is given."""
        parts = {
            "version": VERSION,
            "plan": [*self.sources, self.holdout, self.text_field, self.seed, self.on_invalid],
            "more": [self.test, self.deduplicate, self.licence, self.provenance, self.document_start],
            "splits": [self.valid_sources, self.test_sources],
            "shape": [self.shard_tokens, self.chunk_tokens],
            "tokenizer": tokenizer.sha256 if tokenizer else self.vocab_size,
            "files": [[file.real_location, file.named, file.size_bytes, file.version, file.split] for file in files],
        }
        return hashlib.sha256(json.dumps(parts).encode("ascii")).hexdigest()


def _is_int(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)
