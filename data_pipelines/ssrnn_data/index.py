"""index.json: what a corpus holds, where, and the checksums to prove it.

The schema, its checks, and how it is read and written.
"""

import hashlib
import json
import os
from pathlib import Path
from typing import Annotated, BinaryIO, Literal

from pydantic import BaseModel, ConfigDict, Field, PrivateAttr, StringConstraints, ValidationError

from ssrnn_data.errors import data_error
from ssrnn_data.place import CacheOptions, Folder, Place, place_of
from ssrnn_data.shards import ShardForm
from ssrnn_data.split import Split
from ssrnn_data.tokenizer import TextTokenizer

INDEX_FILE = "index.json"
TOKENIZER_FILE = "tokenizer.json"
FORMAT = "ssrnn-corpus"
VERSION: Literal[1] = 1
_BUILD_IT = "build it with build_corpus or `ssrnn data build`"

# A plain name: no folder, no "..", no "pipe:" and no URL, so nothing outside the corpus is read and nothing is run.
FileName = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9_][A-Za-z0-9_.-]*$")]
Sha256 = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]
Count = Annotated[int, Field(ge=0)]


class _Entry(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=False)


class Counts(_Entry):
    """tokens include each document's <|endoftext|>; text_bytes are the UTF-8 bytes of the text."""

    tokens: Count
    documents: Count
    samples: Count
    text_bytes: Count


class ShardEntry(Counts):
    """One tar. documents: those that begin in it."""

    file: FileName
    sha256: Sha256
    size_bytes: Count


class SplitEntry(Counts):
    """The shards of a split in the order of its documents, and their totals."""

    shards: tuple[ShardEntry, ...]


class TokenizerEntry(_Entry):
    """The tokenizer's file and its SHA-256."""

    file: FileName
    sha256: Sha256


class Origin(_Entry):
    """What a source gave, in all splits and before equal documents were dropped. size_bytes: of its files."""

    source: str
    files: Count
    size_bytes: Count
    documents: Count
    text_bytes: Count


class Noted(_Entry):
    """How many documents, and the first few by name."""

    count: Count
    first: tuple[str, ...]


class CorpusIndex(_Entry):
    """What index.json holds. skipped: by reason (empty, invalid_utf8, binary, duplicate, held_out).

    checksum: of all else (verify_corpus asks).
    holdout, test: fractions of the documents. licence, provenance: the builder's words. built_from: of its arguments.
    """

    format: Literal["ssrnn-corpus"] = "ssrnn-corpus"
    version: Literal[1] = VERSION
    created_by: str
    dtype: Literal["uint16", "uint32"]
    vocab_size: Annotated[int, Field(ge=257)]
    end_of_text: Count
    tokenizer: TokenizerEntry
    splits: dict[Split, SplitEntry]
    sources: tuple[str, ...]
    origins: tuple[Origin, ...] = ()
    licence: str | None = None
    provenance: str | None = None
    seed: int
    holdout: float
    test: float = 0.0
    skipped: dict[str, Noted]
    replaced: Noted
    built_from: Sha256
    checksum: Sha256 | None = None
    _place: Place = PrivateAttr(default_factory=lambda: Folder(Path()))

    @classmethod
    def load(cls, path: str | Path, *, check_files: bool = True, cache: CacheOptions | None = None) -> "CorpusIndex":
        """Reads index.json, given itself or its folder, as a path or a URL.

        check_files: whether the shards of a local corpus must be there, each of its size; remote ones are checked as
        they come. cache: where shards behind a URL are kept (None: CacheOptions.default()).
        Raises DataError for a missing file, foreign JSON, another version, a missing or cut shard.
        """
        place, name = place_of(path, cache, INDEX_FILE)
        file = place.where(name)
        try:
            content = place.read(name)
        except OSError as error:
            raise data_error(file, f"no index there ({error.strerror})", _BUILD_IT) from None
        try:
            raw = json.loads(content)
        except (ValueError, RecursionError) as error:
            raise data_error(file, f"not JSON ({error})", _BUILD_IT) from None
        if not isinstance(raw, dict) or raw.get("format") != FORMAT:
            raise data_error(file, "not the index of a corpus", _BUILD_IT)
        if raw.get("version") != VERSION:
            raise data_error(
                file, f"version {raw.get('version')!r}", f"this release reads version {VERSION}; {_BUILD_IT}"
            )
        try:
            index = cls.model_validate(raw)
        except ValidationError as error:
            first = error.errors()[0]
            field = ".".join(str(part) for part in first["loc"])
            raise data_error(file, f"{field}: {first['msg']}", _BUILD_IT) from None
        index._place = place
        index._check(file, check_files)
        return index

    @property
    def where(self) -> str:
        """The folder or URL, for messages."""
        return self._place.name

    @property
    def title(self) -> str:
        """The folder's name."""
        return Path(self.where).resolve().name if isinstance(self._place, Folder) else self.where.rpartition("/")[2]

    @property
    def folder(self) -> Path:
        """The folder that holds the shards; DataError where they are behind a URL."""
        if not isinstance(self._place, Folder):
            raise data_error(self.where, "a corpus behind a URL", "a corpus in a folder is needed here; copy it")
        return self._place.path

    @property
    def fingerprint(self) -> str:
        """A short hash of the tokens that the corpus holds, wherever it lies: of dtype, tokenizer and every shard."""
        shards = {split: [shard.sha256 for shard in entry.shards] for split, entry in self.splits.items()}
        parts = [self.dtype, self.tokenizer.sha256, shards]
        return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:32]

    def split(self, name: str) -> SplitEntry:
        """A split by name; DataError saying which there are."""
        for known, entry in self.splits.items():
            if known == name:
                return entry
        there = ", ".join(self.splits)
        raise data_error(
            self._place.where(INDEX_FILE),
            f"no split {name!r}",
            f"it has: {there}; holdout makes a valid split, test a test split",
        )

    def shard_path(self, shard: ShardEntry) -> Path:
        """Where a shard lies; DataError where that is behind a URL."""
        return self.folder / shard.file

    def open_shard(self, shard: ShardEntry) -> BinaryIO:
        """A shard, open for reading, fetched first where that is needed; DataError where it can't be had."""
        return self._place.open(shard.file, shard.sha256, shard.size_bytes)

    def prefetch_shard(self, shard: ShardEntry) -> None:
        """Says that a shard will be opened soon; returns at once."""
        self._place.prefetch(shard.file, shard.sha256, shard.size_bytes)

    def form_of(self, shard: ShardEntry) -> ShardForm:
        """What the samples of a shard must be."""
        return ShardForm(self._place.where(shard.file), self.dtype, self.vocab_size, shard.tokens)

    def tokenizer_json(self) -> bytes:
        """tokenizer.json; DataError where it is missing or not the one that the shards were encoded with."""
        where = self._place.where(self.tokenizer.file)
        try:
            serialized = self._place.read(self.tokenizer.file)
        except OSError as error:
            allowed = "the tokenizer that the corpus was built with is needed"
            raise data_error(where, f"can't be read ({error.strerror})", allowed) from None
        found = hashlib.sha256(serialized).hexdigest()
        if found != self.tokenizer.sha256:
            came = f"SHA-256 {found[:12]}…"
            raise data_error(where, came, f"the index says {self.tokenizer.sha256[:12]}…; {_BUILD_IT}")
        return serialized

    def write(self, folder: Path) -> Path:
        """Writes index.json into a folder and brings it to the disk; the same index gives the same bytes."""
        path = folder / INDEX_FILE
        with path.open("w", encoding="ascii") as stream:
            json.dump(self.sealed().model_dump(mode="json"), stream, indent=1)
            stream.write("\n")
            stream.flush()
            os.fsync(stream.fileno())
        return path

    def sealed(self) -> "CorpusIndex":
        """With its checksum."""
        content = json.dumps(self.model_dump(mode="json", exclude={"checksum"}), sort_keys=True)
        sealed = self.model_copy(update={"checksum": hashlib.sha256(content.encode()).hexdigest()})
        sealed._place = self._place
        return sealed

    def _check(self, file: str, check_files: bool) -> None:
        if "train" not in self.splits or self.end_of_text >= self.vocab_size:
            raise data_error(file, "no train split, or <|endoftext|> outside the vocabulary", _BUILD_IT)
        for name, split in self.splits.items():
            for what in Counts.model_fields:
                if getattr(split, what) != sum(getattr(shard, what) for shard in split.shards):
                    raise data_error(file, f"splits.{name}.{what} isn't the sum of its shards", _BUILD_IT)
            for shard in split.shards if check_files and isinstance(self._place, Folder) else ():
                self._check_file(file, shard)

    def _check_file(self, file: str, shard: ShardEntry) -> None:
        try:
            size = self.shard_path(shard).stat().st_size
        except OSError:
            raise data_error(
                file, f"lists the shard {shard.file}, which is missing", "all its shards are needed"
            ) from None
        if size != shard.size_bytes:
            came = f"the shard {shard.file} has {size:,} bytes"
            raise data_error(file, came, f"the index says {shard.size_bytes:,}; copy it again or {_BUILD_IT}")


def as_index(index: CorpusIndex | str | Path) -> CorpusIndex:
    """An index, loaded where a path is given."""
    return index if isinstance(index, CorpusIndex) else CorpusIndex.load(index)


def load_tokenizer(index: CorpusIndex | str | Path) -> TextTokenizer:
    """The tokenizer of a corpus, its checksum verified."""
    index = as_index(index)
    tokenizer = TextTokenizer(index.tokenizer_json().decode("utf-8"), index.where)
    found, said = (tokenizer.vocab_size, tokenizer.end_of_text), (index.vocab_size, index.end_of_text)
    if found != said:
        came = f"vocab_size and end_of_text are {said[0]:,} and {said[1]:,}"
        raise data_error(index.where, came, f"its tokenizer's are {found[0]:,} and {found[1]:,}; {_BUILD_IT}")
    return tokenizer


def is_index(file: Path) -> bool:
    """Whether a file was once an index of ours, damaged or not."""
    try:
        with file.open("rb") as stream:
            return f'"{FORMAT}"'.encode() in stream.read(4096)
    except OSError:
        return False
