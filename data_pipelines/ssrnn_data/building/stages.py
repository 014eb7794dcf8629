"""The stages of a build, one after another on all workers, and what they count: look, tokenizer, encode, gather.

Sources of valid and test are looked at first: what they hold is left out of the rest.
"""

import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from typing import Any

from ssrnn_data.background import in_background
from ssrnn_data.building.held_out import sort_held_out
from ssrnn_data.building.sample import digests_file, sample_file, sampled_words
from ssrnn_data.building.tasks import Task, encode_task, gather_task, look_task
from ssrnn_data.building.work_folder import WorkFolder
from ssrnn_data.building.workers import Workers
from ssrnn_data.documents import Tally
from ssrnn_data.errors import data_error
from ssrnn_data.index import ShardEntry
from ssrnn_data.plan import BuildPlan
from ssrnn_data.sources import SourceFile
from ssrnn_data.split import SPLITS, Split, SplitCounts
from ssrnn_data.tokenizer import TextTokenizer, train_tokenizer
from ssrnn_data.writer import choose_shard_tokens

Progress = Callable[[str, int, int], None]
_PROGRESS_SECONDS = 0.2


class Stages:
    """One build: look_at_held_out, trained_tokenizer where none is given, encode, gather.

    tally, of_files (documents and bytes of text of each file) and duplicates (by bucket) are for the index.
    """

    def __init__(
        self,
        plan: BuildPlan,
        files: list[SourceFile],
        units: list[range],
        work: WorkFolder,
        workers: Workers,
        progress: Progress,
    ) -> None:
        self._plan, self._files, self._work, self._workers = plan, files, work, workers
        self._progress, self._next_report = progress, 0.0
        self._unit_bytes = [sum(files[place].part_bytes for place in unit) for unit in units]
        self._held_out = [place for place, unit in enumerate(units) if files[unit.start].split is not None]
        self._others = [place for place, unit in enumerate(units) if files[unit.start].split is None]
        self._looked: list[dict[str, Any]] = []
        self._tokens: dict[Split, int] = {}
        self._counts = SplitCounts()
        self.tally = Tally()
        self.of_files: list[list[int]] = []
        self.duplicates: list[dict[str, Any]] = []

    def look_at_held_out(self, will_train: bool) -> None:
        """Writes down what valid_sources and test_sources hold. will_train: trained_tokenizer() follows."""
        if not self._held_out:
            return
        rest = sum(self._sizes(self._others)) if will_train else 0
        tasks = [look_task(unit) for unit in self._held_out]
        self._looked = self._run("look", tasks, self._sizes(self._held_out), after=rest)
        sort_held_out(self._work, [digests_file(self._work, task["part"]) for task in tasks])

    def trained_tokenizer(self) -> TextTokenizer:
        """Looks at the other units and trains on their samples; DataError for no document or an impossible split."""
        tasks = [look_task(unit) for unit in self._others]
        looked_at = sum(self._sizes(self._held_out))
        self._looked += self._run("look", tasks, self._sizes(self._others), before=looked_at)
        self._check(self._looked)
        if self._work.tokenizer.is_file():  # of this very build, which was broken off
            return TextTokenizer.from_file(self._work.tokenizer)
        parts = [task["part"] for task in tasks]
        total = max(1, sum(sample_file(self._work, part).stat().st_size for part in parts))

        def words() -> Iterable[str]:
            for done, word in sampled_words(self._work, parts):
                self._report("tokenizer", min(done, total - 1), total)
                yield word

        training = in_background(lambda: train_tokenizer(words(), self._plan.vocab_size), "ssrnn-tokenizer")
        tokenizer = training.result()  # in this thread, Ctrl-C would wait for its end
        self._report("tokenizer", total, total)
        return tokenizer

    def encode(self) -> None:
        """Writes every unit's runs."""
        encoded = self._run("encode", [encode_task(unit) for unit in range(len(self._unit_bytes))], self._unit_bytes)
        self._check(encoded)
        self._tokens = {split: sum(unit["tokens"][split] for unit in encoded) for split in SPLITS}
        self.of_files = [pair for unit in encoded for pair in unit["of_files"]]

    def gather(self) -> dict[Split, list[ShardEntry]]:
        """Writes the shards of every split that has documents."""
        tokens = self._tokens
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
            self.duplicates.append(result["duplicates"])
        return found

    def _sizes(self, units: Sequence[int]) -> list[int]:
        return [self._unit_bytes[unit] for unit in units]

    def _report(self, stage: str, done: int, total: int) -> None:
        if done >= total or time.monotonic() >= self._next_report:
            self._progress(stage, done, total)
            self._next_report = time.monotonic() + _PROGRESS_SECONDS

    def _run(
        self, stage: str, tasks: Sequence[Task], sizes: Sequence[int], before: int = 0, after: int = 0
    ) -> list[dict[str, Any]]:
        """The results of the tasks, in their order. before, after: what of the stage other calls do."""
        size_of = {task["part"]: size for task, size in zip(tasks, sizes, strict=True)}
        results: dict[str, dict[str, Any]] = {}
        done, total = before, max(1, before + sum(sizes) + after)
        self._report(stage, done, total)

        def on_done(task: Task, result: dict[str, Any]) -> None:
            nonlocal done
            results[task["part"]] = result
            done += size_of[task["part"]]
            self._report(stage, min(done, total), total)

        self._workers.run(tasks, on_done)
        self._report(stage, total - after, total)
        return [results[task["part"]] for task in tasks]

    def _check(self, units: Sequence[dict[str, Any]]) -> None:
        """Adds up what the units counted; DataError for no document or an impossible split."""
        self._counts, self.tally = SplitCounts(), Tally()
        for unit in units:
            self._counts.merge(unit["counts"])
            self.tally.merge(unit["tally"])
        plan, documents = self._plan, self._counts.documents
        skipped = ", ".join(f"{count} {reason}" for reason, count in sorted(self.tally.counts.items())) or "0 lines"
        if not sum(documents.values()):
            came = f"no document in {len(self._files)} files ({skipped})"
            raise data_error(", ".join(plan.all_sources), came, "at least one non-empty UTF-8 text is needed")
        own: dict[Split, tuple[str, ...]] = {"valid": plan.valid_sources, "test": plan.test_sources}
        for split, sources in own.items():
            if sources and not documents[split]:
                raise data_error(f"{split}_sources", f"no document in {', '.join(sources)}", "at least one is needed")
        if not documents["train"] and not plan.holdout and not plan.test:
            came = f"no document is left to train on ({skipped})"
            raise data_error(", ".join(plan.sources), came, "texts that valid_sources and test_sources lack are needed")
        drawn = {split: 0 if own.get(split) else count for split, count in documents.items()}
        replace(self._counts, documents=drawn).check(plan.holdout, plan.test)
