"""Builds a corpus: sources → documents → tokenizer → shards → index.json, on all cores, the same bytes each time.

Three stages over units of work (building/): a look with a sample for the tokenizer, encoding into runs, and gathering
the runs into shards in a shuffled order. What a killed build finished is kept for the next.
"""

import os
import time
from collections.abc import Callable, Iterable, Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

from ssrnn_data.building.sample import sampled_words
from ssrnn_data.building.tasks import Task, encode_task, gather_task, job_of, look_task
from ssrnn_data.building.units import cut_units, expected_text_bytes
from ssrnn_data.building.work_folder import WorkFolder
from ssrnn_data.building.workers import Workers, open_workers
from ssrnn_data.documents import OnInvalid, Tally
from ssrnn_data.errors import DataError, data_error
from ssrnn_data.index import (
    INDEX_FILE,
    TOKENIZER_FILE,
    CorpusIndex,
    Counts,
    Noted,
    Origin,
    ShardEntry,
    SplitEntry,
    TokenizerEntry,
)
from ssrnn_data.plan import BuildPlan
from ssrnn_data.sources import SourceFile, as_source_list, find_sources
from ssrnn_data.split import SPLITS, Split, SplitCounts
from ssrnn_data.staging import staged_folder
from ssrnn_data.tokenizer import TextTokenizer, train_tokenizer
from ssrnn_data.writer import choose_dtype, choose_shard_tokens

Progress = Callable[[str, int, int], None]
_PROGRESS_SECONDS = 0.2
_WORTH_A_PROCESS_BYTES = 4 << 20  # of text; to start one takes half a second


def build_corpus(
    sources: str | Path | Sequence[str | Path],
    out_dir: str | Path,
    *,
    tokenizer: str | Path | None = None,
    vocab_size: int = 4096,
    holdout: float = 0.02,
    test: float = 0.0,
    text_field: str = "text",
    seed: int = 0,
    shard_tokens: int | None = None,
    chunk_tokens: int = 65_536,
    on_invalid: OnInvalid = "skip",
    deduplicate: bool = True,
    licence: str | None = None,
    provenance: str | None = None,
    overwrite: bool = False,
    processes: int | None = None,
    progress: Progress | None = None,
) -> Path:
    """Builds a corpus in out_dir from files, globs, folders, URLs or "stdlib:"; the path of its index.json.

    tokenizer: a tokenizer.json or a Hugging Face folder; None trains byte-level BPE of at most vocab_size ids.
    holdout, test: the fractions of documents (by hash of content and seed) that make the valid and test splits.
    text_field: the field of .jsonl lines and columns of .parquet that holds the text. seed: of splits and order.
    shard_tokens, chunk_tokens: tokens a shard, about (None: by size), and at most a sample.
    on_invalid: what becomes of a document that is no UTF-8: "skip" (counted), "replace" (U+FFFD) or "error".
    deduplicate: of equal documents only the first is kept. licence, provenance: words for the index, as they are.
    processes: at most so many (None: a core each); they change nothing but the time.
    progress(stage, done, total): stage is look, tokenizer, encode (bytes) or gather (tokens).
    A corpus in out_dir that was built from the same is returned as it is; any other needs overwrite=True.

    Raises DataError for wrong arguments or sources: nothing is left. After any other end (a kill, Ctrl-C, a full disk)
    out_dir is as it was, and the same call goes on where it ended.
    """
    names = tuple(as_source_list(sources))
    plan = BuildPlan(
        sources=names,
        vocab_size=vocab_size,
        holdout=holdout,
        text_field=text_field,
        seed=seed,
        shard_tokens=shard_tokens,
        chunk_tokens=chunk_tokens,
        on_invalid=on_invalid,
        test=test,
        deduplicate=deduplicate,
        licence=licence,
        provenance=provenance,
    )
    plan.check()
    target = Path(out_dir).expanduser().absolute()
    given = None if tokenizer is None else TextTokenizer.from_path(tokenizer)
    files = find_sources(names)
    built_from = plan.built_from(files, given)
    if _stands(target, built_from, overwrite):
        return target / INDEX_FILE
    with staged_folder(target.resolve(), built_from) as (work, new):
        units = cut_units(files)
        work.begin(job_of(plan, files, units))
        with open_workers(work, _processes(files, units, processes)) as workers:
            build = _Build(plan, files, len(units), work, workers, progress or (lambda stage, done, total: None))
            chosen = given or build.trained_tokenizer()
            chosen.save(work.path / TOKENIZER_FILE)  # for the workers
            build.encode()
            shards = build.gather()
        chosen.save(new / TOKENIZER_FILE)
        splits = {split: _put(work, new, split, entries) for split, entries in shards.items()}
        build.index(chosen, splits, built_from).write(new)
    return target / INDEX_FILE


def _processes(files: Sequence[SourceFile], units: Sequence[range], wanted: int | None) -> int:
    if wanted is not None:
        return max(1, min(wanted, len(units)))
    worth = sum(map(expected_text_bytes, files)) // _WORTH_A_PROCESS_BYTES
    return max(1, min(os.cpu_count() or 1, len(units), worth))


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


def _put(work: WorkFolder, new: Path, split: Split, entries: Sequence[ShardEntry]) -> SplitEntry:
    """Moves a split's shards to their place, numbered without gaps; a build that was killed here goes on."""
    placed = []
    for number, entry in enumerate(entries):
        file = f"{split}-{number:06d}.tar"
        if not (new / file).exists():
            (work.shards / entry.file).rename(new / file)
        placed.append(entry.model_copy(update={"file": file}))
    totals = {what: sum(getattr(entry, what) for entry in placed) for what in Counts.model_fields}
    return SplitEntry(shards=tuple(placed), **totals)


class _Build:
    """One build: its stages, and what they counted."""

    def __init__(
        self,
        plan: BuildPlan,
        files: list[SourceFile],
        units: int,
        work: WorkFolder,
        workers: Workers,
        progress: Progress,
    ) -> None:
        self._plan, self._files, self._units, self._work, self._workers = plan, files, units, work, workers
        self._progress, self._next_report = progress, 0.0
        self._bytes_of = [0] * units
        self._encoded: list[dict[str, Any]] = []
        self._duplicates: list[dict[str, Any]] = []

    def _report(self, stage: str, done: int, total: int) -> None:
        if done >= total or time.monotonic() >= self._next_report:
            self._progress(stage, done, total)
            self._next_report = time.monotonic() + _PROGRESS_SECONDS

    def _run(self, stage: str, tasks: Sequence[Task], sizes: Sequence[int]) -> list[dict[str, Any]]:
        """The results of the tasks, in their order."""
        size_of = {task["part"]: size for task, size in zip(tasks, sizes, strict=True)}
        results: dict[str, dict[str, Any]] = {}
        done, total = 0, max(1, sum(sizes))
        self._report(stage, 0, total)

        def on_done(task: Task, result: dict[str, Any]) -> None:
            nonlocal done
            results[task["part"]] = result
            done += size_of[task["part"]]
            self._report(stage, min(done, total), total)

        self._workers.run(tasks, on_done)
        self._report(stage, total, total)
        return [results[task["part"]] for task in tasks]

    def _unit_sizes(self) -> list[int]:
        return [sum(self._files[place].size_bytes for place in unit) for unit in cut_units(self._files)]

    def trained_tokenizer(self) -> TextTokenizer:
        """Looks at all units and trains on their samples; DataError for no document or an impossible split."""
        tasks = [look_task(unit) for unit in range(self._units)]
        self._check(self._run("look", tasks, self._unit_sizes()))
        parts = [task["part"] for task in tasks]
        total = sum((self._work.parts / f"{part}.sample").stat().st_size for part in parts)

        def words() -> Iterable[str]:
            for done, word in sampled_words(self._work, parts):
                self._report("tokenizer", min(done, total - 1), total)
                yield word

        tokenizer = train_tokenizer(words(), self._plan.vocab_size)
        self._report("tokenizer", total, total)
        return tokenizer

    def encode(self) -> None:
        """Writes every unit's runs."""
        self._encoded = self._run("encode", [encode_task(unit) for unit in range(self._units)], self._unit_sizes())
        self._check(self._encoded)

    def gather(self) -> dict[Split, list[ShardEntry]]:
        """Writes the shards of every split that has documents."""
        tokens = {split: sum(unit["tokens"][split] for unit in self._encoded) for split in SPLITS}
        shard_tokens = self._plan.shard_tokens or choose_shard_tokens(self._counts.text_bytes["train"])
        buckets = {split: -(-tokens[split] // shard_tokens) for split in SPLITS}
        tasks = [
            gather_task(split, bucket, buckets[split], shard_tokens)
            for split in SPLITS
            for bucket in range(buckets[split])
        ]
        sizes = [tokens[task["split"]] // task["buckets"] for task in tasks]
        found: dict[Split, list[ShardEntry]] = {split: [] for split in SPLITS if buckets[split]}
        for task, result in zip(tasks, self._run("gather", tasks, sizes), strict=True):
            found[task["split"]] += [ShardEntry(**shard) for shard in result["shards"]]
            self._duplicates.append(result["duplicates"])
        return found

    def _check(self, units: Sequence[dict[str, Any]]) -> None:
        """Adds up what the units counted; DataError for no document or an impossible split."""
        self._counts, self._tally = SplitCounts(), Tally()
        for unit in units:
            self._counts.merge(unit["counts"])
            self._tally.merge(unit["tally"])
        if not sum(self._counts.documents.values()):
            counted = sorted(self._tally.counts.items())
            skipped = ", ".join(f"{count} {reason}" for reason, count in counted) or "0 lines"
            came = f"no document in {len(self._files)} files ({skipped})"
            raise data_error(", ".join(self._plan.sources), came, "at least one non-empty UTF-8 text is needed")
        self._counts.check(self._plan.holdout, self._plan.test)

    def index(self, tokenizer: TextTokenizer, splits: dict[Split, SplitEntry], built_from: str) -> CorpusIndex:
        """What index.json will say."""
        noted = {
            reason: Noted(count=count, first=tuple(self._tally.first[reason]))
            for reason, count in self._tally.counts.items()
        }
        if any(each["documents"] for each in self._duplicates):
            noted["duplicate"] = self._noted_duplicates()
        return CorpusIndex(
            created_by=f"ssrnn-dist {_release()}",
            dtype=choose_dtype(tokenizer.vocab_size),
            vocab_size=tokenizer.vocab_size,
            end_of_text=tokenizer.end_of_text,
            tokenizer=TokenizerEntry(file=TOKENIZER_FILE, sha256=tokenizer.sha256),
            splits=splits,
            sources=tuple(_printable(name) for name in self._plan.sources),
            origins=self._origins(),
            licence=self._plan.licence,
            provenance=self._plan.provenance,
            seed=self._plan.seed,
            holdout=float(self._plan.holdout),
            test=float(self._plan.test),
            replaced=noted.pop("replaced", Noted(count=0, first=())),
            skipped=dict(sorted(noted.items())),
            built_from=built_from,
        )

    def _noted_duplicates(self) -> Noted:
        first = sorted(tuple(place) for each in self._duplicates for place in each["first"])[:10]
        names = tuple(f"{self._files[file].name}, document {number + 1}" for file, number in first)
        return Noted(count=sum(each["documents"] for each in self._duplicates), first=names)

    def _origins(self) -> tuple[Origin, ...]:
        """What each source gave, duplicates and all."""
        of_files = [pair for unit in self._encoded for pair in unit["of_files"]]
        origins = []
        for place, source in enumerate(self._plan.sources):
            mine = [(file, *pair) for file, pair in zip(self._files, of_files, strict=True) if file.source == place]
            origins.append(
                Origin(
                    source=_printable(source),
                    files=len(mine),
                    size_bytes=sum(file.size_bytes for file, _, _ in mine),
                    documents=sum(documents for _, documents, _ in mine),
                    text_bytes=sum(text_bytes for _, _, text_bytes in mine),
                )
            )
        return tuple(origins)


def _printable(name: str) -> str:
    return name.encode("utf-8", "replace").decode("utf-8")


def _release() -> str:
    try:
        return metadata.version("ssrnn-dist")
    except metadata.PackageNotFoundError:
        return "unreleased"
