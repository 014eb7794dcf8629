"""The parts of a build that run in any process: by name, from what the work folder says, with a result of JSON.

look N: a unit's counts and sample, or what it holds out. encode N: its runs. gather SPLIT N: a bucket's shards.
"""

from collections.abc import Sequence
from dataclasses import asdict
from functools import cached_property
from typing import Any

from ssrnn_data.building.encode import encode_unit
from ssrnn_data.building.gather import bucket_keys, gather_bucket, open_runs
from ssrnn_data.building.held_out import HeldOut, held_out_file
from ssrnn_data.building.runs import RunReader
from ssrnn_data.building.sample import SAMPLE_BYTES, look_at
from ssrnn_data.building.units import sample_quotas, sampled_bytes
from ssrnn_data.building.work_folder import WorkFolder
from ssrnn_data.plan import BuildPlan
from ssrnn_data.sources import SourceFile
from ssrnn_data.split import Split
from ssrnn_data.tokenizer import TextTokenizer
from ssrnn_data.writer import ShardFormat, ShardWriter, choose_dtype

Task = dict[str, Any]  # what to do, as JSON; "part" is its name and its result's


def job_of(plan: BuildPlan, files: Sequence[SourceFile], units: Sequence[range]) -> dict[str, Any]:
    """What every process of a build must know, as JSON."""
    return {
        "plan": asdict(plan),
        "files": [file.to_dict() for file in files],
        "units": [[unit.start, unit.stop] for unit in units],
    }


def look_task(unit: int) -> Task:
    return {"do": "look", "unit": unit, "part": f"look-{unit:06d}"}


def encode_task(unit: int) -> Task:
    return {"do": "encode", "unit": unit, "part": f"encode-{unit:06d}"}


def gather_task(split: Split, bucket: int, buckets: int, shard_tokens: int) -> Task:
    return {
        "do": "gather",
        "split": split,
        "bucket": bucket,
        "buckets": buckets,
        "shard_tokens": shard_tokens,
        "part": f"gather-{split}-{bucket:06d}",
    }


class Tasks:
    """Does the tasks of one build, one after another. What it reads from the work folder it reads once."""

    def __init__(self, work: WorkFolder) -> None:
        self._work = work
        job = work.job()
        lists = {name: tuple(value) for name, value in job["plan"].items() if isinstance(value, list)}
        self._plan = BuildPlan(**{**job["plan"], **lists})
        self._files = [SourceFile(**file) for file in job["files"]]
        self._units = [range(*unit) for unit in job["units"]]

    @cached_property
    def _held_out(self) -> HeldOut:
        return HeldOut(held_out_file(self._work))

    @cached_property
    def _tokenizer(self) -> TextTokenizer:
        return TextTokenizer.from_file(self._work.tokenizer)

    @cached_property
    def _quotas(self) -> list[int]:
        return sample_quotas(self._files, self._units, SAMPLE_BYTES)

    @cached_property
    def _sampled_fraction(self) -> float:
        return min(1.0, SAMPLE_BYTES / max(1, sampled_bytes(self._files)))

    @cached_property
    def _runs(self) -> list[RunReader]:
        parts = [encode_task(unit)["part"] for unit in range(len(self._units))]
        counts = [len((self._work.result(part) or {"runs": []})["runs"]) for part in parts]
        return open_runs(self._work, parts, counts, self._format(1).dtype)

    def _format(self, shard_tokens: int) -> ShardFormat:
        return ShardFormat(choose_dtype(self._tokenizer.vocab_size), shard_tokens, self._plan.chunk_tokens)

    def do(self, task: Task) -> dict[str, Any]:
        """Does a task and marks it as done; its result. Raises DataError and OSError."""
        result: dict[str, Any] = {"look": self._look, "encode": self._encode, "gather": self._gather}[task["do"]](task)
        self._work.finish(task["part"], result)
        return result

    def _look(self, task: Task) -> dict[str, Any]:
        files = [self._files[place] for place in self._units[task["unit"]]]
        quota = self._quotas[task["unit"]]
        return look_at(self._plan, files, self._held_out, self._work, task["part"], quota, self._sampled_fraction)

    def _encode(self, task: Task) -> dict[str, Any]:
        unit = self._units[task["unit"]]
        files = [self._files[place] for place in unit]
        return encode_unit(self._plan, files, unit.start, self._held_out, self._tokenizer, self._work, task["part"])

    def _gather(self, task: Task) -> dict[str, Any]:
        stem = self._work.shards / f"{task['split']}-{task['bucket']:06d}"
        writer = ShardWriter(stem, task["bucket"], self._tokenizer, self._format(task["shard_tokens"]))
        keys = bucket_keys(task["bucket"], task["buckets"])
        return gather_bucket(self._runs, task["split"], keys, self._plan.deduplicate, writer)
