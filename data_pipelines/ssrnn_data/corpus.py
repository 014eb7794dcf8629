"""Builds a corpus: sources → documents → tokenizer → shards → index.json, on all cores, the same bytes each time.

Three stages over units of work (building/): a look with a sample for the tokenizer, encoding into runs, and gathering
the runs into shards in a shuffled order. What a killed build finished is kept for the next.
"""

import os
import re
from collections.abc import Sequence
from pathlib import Path

from ssrnn_data.building.indexing import make_index
from ssrnn_data.building.stages import Progress, Stages
from ssrnn_data.building.tasks import job_of
from ssrnn_data.building.units import cut_large, cut_units, expected_text_bytes
from ssrnn_data.building.work_folder import WorkFolder
from ssrnn_data.building.workers import open_workers
from ssrnn_data.documents import OnInvalid
from ssrnn_data.errors import DataError, data_error
from ssrnn_data.files import whole_file
from ssrnn_data.index import INDEX_FILE, TOKENIZER_FILE, CorpusIndex, Counts, ShardEntry, SplitEntry, is_index
from ssrnn_data.lanes import check_counts
from ssrnn_data.plan import BuildPlan
from ssrnn_data.sources import SourceFile, as_source_list, find_split_sources
from ssrnn_data.split import Split
from ssrnn_data.staging import staged_folder
from ssrnn_data.tokenizer import TextTokenizer

_HOLDOUT = 0.02
_SHARD = re.compile(r"(train|valid|test)-\d{6}\.tar")
_WORTH_A_PROCESS_BYTES = 8 << 20  # of text; to start one takes half a second


def build_corpus(
    sources: str | Path | Sequence[str | Path],
    out_dir: str | Path,
    *,
    tokenizer: str | Path | None = None,
    vocab_size: int = 4096,
    holdout: float | None = None,
    test: float = 0.0,
    valid_sources: str | Path | Sequence[str | Path] = (),
    test_sources: str | Path | Sequence[str | Path] = (),
    text_field: str = "text",
    document_start: str | None = None,
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
    holdout, test: the fractions of documents (by hash of content and seed) that make the valid and test splits; a
    holdout of None is 0.02, or 0 with valid_sources.
    valid_sources, test_sources: all that these hold is the split, even where sources hold it, too. Other documents that
    equal one of these are left out and counted as held_out.
    text_field: the field of .jsonl lines and columns of .parquet that holds the text. seed: of splits and order.
    document_start: a regular expression (re.match); a line of a plain text, or the text of a row of .jsonl, .parquet or
    .tar, that it matches begins a document, the others go on with the one before. None: a document a file, or a row.
    shard_tokens, chunk_tokens: tokens a shard, about (None: by size), and at most a sample.
    on_invalid: what becomes of a document that is no UTF-8: "skip" (counted), "replace" (U+FFFD) or "error".
    deduplicate: of equal documents only the first is kept. licence, provenance: words for the index, as they are.
    processes: at most so many (None: a core each); they change nothing but the time.
    progress(stage, done, total): stage is look, tokenizer, encode (bytes) or gather (tokens).
    A corpus in out_dir that was built from the same is returned as it is; any other needs overwrite=True.

    Raises DataError for wrong arguments or sources: nothing is left. After any other end (a kill, Ctrl-C, a full disk)
    out_dir is as it was, and the same call goes on where it ended.
    """
    own_valid = tuple(as_source_list(valid_sources, "valid_sources", needed=False))
    plan = BuildPlan(
        sources=tuple(as_source_list(sources)),
        vocab_size=vocab_size,
        holdout=_default_holdout(own_valid) if holdout is None else holdout,
        text_field=text_field,
        seed=seed,
        shard_tokens=shard_tokens,
        chunk_tokens=chunk_tokens,
        on_invalid=on_invalid,
        test=test,
        deduplicate=deduplicate,
        licence=licence,
        provenance=provenance,
        document_start=document_start,
        valid_sources=own_valid,
        test_sources=tuple(as_source_list(test_sources, "test_sources", needed=False)),
    )
    plan.check()
    if processes is not None:
        check_counts(processes=processes)
    target = Path(out_dir).expanduser().absolute()
    given = None if tokenizer is None else TextTokenizer.from_path(tokenizer)
    files = find_split_sources(plan.sources, plan.valid_sources, plan.test_sources)
    built_from = plan.built_from(files, given)
    if _stands(target, built_from, overwrite):
        return target / INDEX_FILE
    with staged_folder(target.resolve(), built_from) as (work, new):
        files = files if document_start is not None else cut_large(files)  # a document may go on in the next part
        units = cut_units(files)
        work.begin(job_of(plan, files, units))
        with open_workers(work, _processes(files, units, processes)) as workers:
            stages = Stages(plan, files, units, work, workers, progress or (lambda stage, done, total: None))
            stages.look_at_held_out(will_train=given is None)
            chosen = given or stages.trained_tokenizer()
            with whole_file(work.tokenizer) as out:
                out.write(chosen.serialized.encode("utf-8"))
            stages.encode()
            shards = stages.gather()
        chosen.save(new / TOKENIZER_FILE)
        splits = {split: _put(work, new, split, entries) for split, entries in shards.items()}
        make_index(plan, files, stages, chosen, splits, built_from).write(new)
    return target / INDEX_FILE


def _default_holdout(valid_sources: Sequence[str]) -> float:
    return 0.0 if valid_sources else _HOLDOUT


def _processes(files: Sequence[SourceFile], units: Sequence[range], wanted: int | None) -> int:
    if wanted is not None:
        return min(wanted, len(units))
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
    if INDEX_FILE not in there or not is_index(target / INDEX_FILE):
        raise data_error(target, "a folder that is no corpus and not empty", "a new or empty folder is allowed")
    try:
        index = CorpusIndex.load(target)
    except DataError as error:
        if not overwrite:
            raise data_error(target, f"a damaged corpus is there ({error})", "overwrite=True builds it again") from None
        known = {name for name in there if _SHARD.fullmatch(name)} | {INDEX_FILE, TOKENIZER_FILE}
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
