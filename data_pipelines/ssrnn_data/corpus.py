"""Builds a corpus: sources → documents → tokenizer → shards → index.json, in constant memory, the same each time.

Three passes over the sources: survey (validate, hash, split), tokenizer (a sample of the training text), encode.
"""

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

from ssrnn_data.cutting import shorten_words
from ssrnn_data.documents import Document, OnInvalid, Tally, read_documents
from ssrnn_data.errors import DataError, data_error
from ssrnn_data.index import INDEX_FILE, TOKENIZER_FILE, CorpusIndex, Noted, SplitEntry, TokenizerEntry
from ssrnn_data.plan import BuildPlan
from ssrnn_data.sources import SourceFile, as_source_list, find_sources
from ssrnn_data.split import SPLITS, Split, SplitCounts, split_of, uniform
from ssrnn_data.staging import staged_folder
from ssrnn_data.tokenizer import TextTokenizer, train_tokenizer
from ssrnn_data.writer import ShardFormat, SplitWriter, choose_dtype, choose_shard_tokens

Progress = Callable[[str, int, int], None]
TOKENIZER_SAMPLE_BYTES = 64 << 20
# Of text in which words never end (one long line of letters): learning from it takes a hundred times the memory.
_UNBROKEN_SAMPLE_BYTES = 4 << 20
_BATCH_CHARACTERS = 1 << 19
_BATCH_PIECES = 1 << 12
_PROGRESS_SECONDS = 0.2


def build_corpus(
    sources: str | Path | Sequence[str | Path],
    out_dir: str | Path,
    *,
    tokenizer: str | Path | None = None,
    vocab_size: int = 4096,
    holdout: float = 0.02,
    text_field: str = "text",
    seed: int = 0,
    shard_tokens: int | None = None,
    chunk_tokens: int = 65_536,
    on_invalid: OnInvalid = "skip",
    overwrite: bool = False,
    progress: Progress | None = None,
) -> Path:
    """Builds a corpus in out_dir from files, globs, folders or "stdlib:"; the path of its index.json.

    tokenizer: a tokenizer.json; None trains byte-level BPE of at most vocab_size ids on the training text.
    holdout: the fraction of documents (by hash of content and seed) that makes the valid split; 0 for none.
    text_field: the field of .jsonl lines. shard_tokens, chunk_tokens: tokens a shard (None: by size), at most a sample.
    on_invalid: what becomes of a document that is no UTF-8: "skip" (counted), "replace" (U+FFFD) or "error".
    progress(stage, done, total): stage is survey, tokenizer or encode; bytes.
    A corpus in out_dir that was built from the same is returned as it is; any other needs overwrite=True.

    Raises DataError for wrong arguments or sources, OSError for a full disk: then out_dir is as it was.
    """
    names = tuple(as_source_list(sources))
    plan = BuildPlan(names, vocab_size, holdout, text_field, seed, shard_tokens, chunk_tokens, on_invalid)
    plan.check()
    target = Path(out_dir).expanduser().absolute()
    given = None if tokenizer is None else TextTokenizer.from_file(tokenizer)
    files = find_sources(names)
    built_from = plan.built_from(files, given)
    if _stands(target, built_from, overwrite):
        return target / INDEX_FILE
    build = _Build(plan, files, progress or (lambda stage, done, total: None))
    with staged_folder(target.resolve()) as folder:
        build.survey()
        chosen = given or train_tokenizer(build.sample(), vocab_size)
        chosen.save(folder / TOKENIZER_FILE)
        splits = build.encode(folder, chosen)
        build.index(chosen, splits, built_from).write(folder)
    return target / INDEX_FILE


def _stands(target: Path, built_from: str, overwrite: bool) -> bool:
    """Whether the very corpus is there already; DataError where something else is in the way."""
    if not target.exists():
        return False
    if not target.is_dir():
        raise data_error(target, "a file is there", "a new or empty folder is allowed")
    there = {path.name for path in target.iterdir()}
    if not there:
        return False
    if INDEX_FILE not in there:
        raise data_error(target, "a folder that is no corpus and not empty", "a new or empty folder is allowed")
    try:
        index = CorpusIndex.load(target)
    except DataError as error:
        if not overwrite:
            raise data_error(target, f"a damaged corpus is there ({error})", "overwrite=True builds it again") from None
        known = {path.name for path in target.glob("*.tar")} | {INDEX_FILE, TOKENIZER_FILE}
    else:
        if index.built_from == built_from and not overwrite:
            return True
        if not overwrite:
            came = "a corpus built from other files or arguments is there"
            raise data_error(target, came, "another folder, or overwrite=True to replace it")
        shards = {shard.file for split in index.splits.values() for shard in split.shards}
        known = shards | {INDEX_FILE, index.tokenizer.file}
    if foreign := sorted(there - known):
        raise data_error(
            target, f"overwriting would lose {foreign[0]!r}", "a folder with nothing but a corpus is allowed"
        )
    return False


@dataclass(frozen=True)
class _Piece:
    split: Split
    text: str
    starts: bool
    ends: bool
    where: str


class _Build:
    """One build: the passes over the sources, and what the first one counted."""

    def __init__(self, plan: BuildPlan, files: list[SourceFile], progress: Progress) -> None:
        self._plan, self._files, self._progress = plan, files, progress
        self._counts, self._tally = SplitCounts(), Tally()
        self._next_report = 0.0

    def _report(self, stage: str, done: int, total: int) -> None:
        if done >= total or time.monotonic() >= self._next_report:
            self._progress(stage, done, total)
            self._next_report = time.monotonic() + _PROGRESS_SECONDS

    def _documents(self, file: SourceFile, tally: Tally) -> Iterator[Document]:
        return read_documents(file, text_field=self._plan.text_field, on_invalid=self._plan.on_invalid, tally=tally)

    def _all_documents(self) -> Iterator[Document]:
        for file in self._files:
            yield from self._documents(file, Tally())

    def survey(self) -> None:
        """Validates, hashes and counts every document; DataError for no document or an impossible split."""
        plan, total, done = self._plan, sum(file.size_bytes for file in self._files), 0
        for file in self._files:
            for document in self._documents(file, self._tally):
                self._counts.add(document.digest, document.text_bytes, plan.seed, plan.holdout)
                self._report("survey", done, total)
            done += file.size_bytes
            self._report("survey", done, total)
        if not sum(self._counts.documents.values()):
            skipped = (
                ", ".join(f"{count} {reason}" for reason, count in sorted(self._tally.counts.items())) or "0 lines"
            )
            came = f"no document in {len(self._files)} files ({skipped})"
            raise data_error(", ".join(plan.sources), came, "at least one non-empty UTF-8 text is needed")
        self._counts.check(plan.holdout)

    def sample(self) -> Iterator[str]:
        """Training text for the tokenizer: all of it, or pieces that their document's hash picks."""
        total = self._counts.text_bytes["train"]
        fraction = min(1.0, TOKENIZER_SAMPLE_BYTES / max(1, total))
        done = taken = unbroken = 0
        for document in self._all_documents():
            if split_of(document.digest, self._plan.seed, self._plan.holdout) != "train":
                continue
            for number, piece in enumerate(document.pieces()):
                size = len(piece.encode("utf-8"))
                done += size
                picked = uniform(document.digest, self._plan.seed, number) < fraction
                if picked and taken < TOKENIZER_SAMPLE_BYTES:
                    words = shorten_words(piece)
                    unbroken += size if len(words) > 1 else 0
                    if len(words) == 1 or unbroken <= _UNBROKEN_SAMPLE_BYTES:
                        taken += size
                        yield from words
                self._report("tokenizer", min(done, total), total)

    def encode(self, folder: Path, tokenizer: TextTokenizer) -> dict[Split, SplitEntry]:
        """Writes the shards of every split that has documents; the splits' entries."""
        shard_tokens = self._plan.shard_tokens or choose_shard_tokens(self._counts.text_bytes["train"])
        form = ShardFormat(choose_dtype(tokenizer.vocab_size), shard_tokens, self._plan.chunk_tokens)
        writers = {
            split: SplitWriter(folder, split, tokenizer, form) for split in SPLITS if self._counts.documents[split]
        }
        total, done = sum(self._counts.text_bytes.values()), 0
        try:
            for batch in self._batches():
                for piece, ids in zip(batch, tokenizer.encode_batch([p.text for p in batch]), strict=True):
                    if piece.split not in writers:
                        raise self._changed(piece.where)
                    writers[piece.split].add(ids, starts=piece.starts, ends=piece.ends)
                    done += len(piece.text.encode("utf-8"))
                self._report("encode", min(done, total), total)
            entries = {split: writer.close() for split, writer in writers.items()}
        finally:
            for writer in writers.values():
                writer.abandon()
        for split, entry in entries.items():
            if (entry.documents, entry.text_bytes) != (self._counts.documents[split], self._counts.text_bytes[split]):
                raise self._changed(", ".join(self._plan.sources))
        return entries

    @staticmethod
    def _changed(where: str) -> DataError:
        return data_error(where, "changed while it was read", "leave the sources alone until the build is done")

    def _pieces(self) -> Iterator[_Piece]:
        for document in self._all_documents():
            split = split_of(document.digest, self._plan.seed, self._plan.holdout)
            pieces = document.pieces()
            text, starts = next(pieces), True
            for following in pieces:
                yield _Piece(split, text, starts, False, document.where)
                text, starts = following, False
            yield _Piece(split, text, starts, True, document.where)

    def _batches(self) -> Iterator[list[_Piece]]:
        """Pieces of many documents together, so that every core encodes."""
        batch: list[_Piece] = []
        characters = 0
        for piece in self._pieces():
            batch.append(piece)
            characters += len(piece.text)
            if characters >= _BATCH_CHARACTERS or len(batch) >= _BATCH_PIECES:
                yield batch
                batch, characters = [], 0
        if batch:
            yield batch

    def index(self, tokenizer: TextTokenizer, splits: dict[Split, SplitEntry], built_from: str) -> CorpusIndex:
        """What index.json will say."""
        noted = {
            reason: Noted(count=count, first=tuple(self._tally.first[reason]))
            for reason, count in sorted(self._tally.counts.items())
        }
        return CorpusIndex(
            created_by=f"ssrnn-dist {_release()}",
            dtype=choose_dtype(tokenizer.vocab_size),
            vocab_size=tokenizer.vocab_size,
            end_of_text=tokenizer.end_of_text,
            tokenizer=TokenizerEntry(file=TOKENIZER_FILE, sha256=tokenizer.sha256),
            splits=splits,
            sources=tuple(name.encode("utf-8", "replace").decode("utf-8") for name in self._plan.sources),
            seed=self._plan.seed,
            holdout=float(self._plan.holdout),
            replaced=noted.pop("replaced", Noted(count=0, first=())),
            skipped=noted,
            built_from=built_from,
        )


def _release() -> str:
    try:
        return metadata.version("ssrnn-dist")
    except metadata.PackageNotFoundError:
        return "unreleased"
