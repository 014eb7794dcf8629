"""The whole of `ssrnn bench data`: a corpus on every reader's shelf, then what was asked for, part after part.

Effects: a folder to work in, and fresh processes."""

import sys
import sysconfig
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from ssrnn_data import CorpusIndex, build_corpus
from ssrnn_data.lanes import windows_per_epoch
from ssrnn_dist.bench.data import building, reading, resuming
from ssrnn_dist.bench.data.peers import BUILDER, READERS, Peer
from ssrnn_dist.bench.data.stored import stored_shards, texts
from ssrnn_dist.problems import user_error

PARTS = ("reading", "building", "resume", "dealing")
QUICK_PACKAGES = ("asyncio", "email", "http", "importlib", "json", "logging", "multiprocessing", "unittest", "xml")
MOST_TEXT_BYTES = 32 << 20  # of the texts that are built
SHARD_TOKENS = 2_500_000  # about what build_corpus chooses for ten billion tokens
TOKENS_SEEN, LARGE_TOKENS = 10_000_000_000, 12_000_000_000
DEALT_SHARDS, DEALT_WORKERS = 10_000, 1_024
Told = Callable[[str], None]


@dataclass(frozen=True)
class Plan:
    """What is measured. loader_processes: of the peers' loaders; map_processes: of map, 0 the tokenizer's threads."""

    parts: tuple[str, ...]
    lanes: int
    sequence_length: int
    workers: tuple[int, ...]
    loader_processes: tuple[int, ...]
    map_processes: tuple[int, ...]
    rounds: int
    warm_seconds: float

    def check(self) -> None:
        """UserError where a world does not share the lanes evenly: the peers' batches would differ."""
        for world_size in self.workers:
            if self.lanes % world_size:
                raise user_error("--lanes", f"{self.lanes}", f"a multiple of {world_size} workers is allowed")


def sources(quick: bool) -> list[str]:
    """Python's own source, or for a quick look some packages of it."""
    stdlib = Path(sysconfig.get_path("stdlib"))
    return [str(stdlib / name) for name in QUICK_PACKAGES] if quick else ["stdlib:"]


def measure(
    plan: Plan, corpus: Path | None, peers: Mapping[str, Peer], work: Path, told: Told, *, quick: bool = False
) -> dict[str, Any]:
    """Rows and numbers by part. corpus None: one is built in `work`. RunFailed for the first wrong result."""
    plan.check()
    if corpus is None:
        told("building the corpus")
        corpus = build_corpus(sources(quick), work / "corpus").parent
    run = _Run(plan, CorpusIndex.load(corpus), peers, work, told)
    split = run.index.split("train")
    found: dict[str, Any] = {
        "corpus": {"tokens": split.tokens, "documents": split.documents, "shards": len(split.shards)}
    }
    for part in plan.parts:
        found[part] = getattr(run, part)()
    return found


class _Run:
    """One run: its parts share the corpus's ids and texts."""

    def __init__(self, plan: Plan, index: CorpusIndex, peers: Mapping[str, Peer], work: Path, told: Told) -> None:
        self.plan, self.index, self.peers, self.work, self.told = plan, index, peers, work, told
        self._text_bytes = 0

    @cached_property
    def shards(self) -> Sequence[np.ndarray]:
        return stored_shards(self.index)

    @cached_property
    def texts(self) -> Path:
        path = self.work / "texts.jsonl"
        self._text_bytes = building.write_texts(texts(self.index, self.shards, MOST_TEXT_BYTES), path)
        return path

    @cached_property
    def one_shard(self) -> CorpusIndex:
        """A corpus whose first shard is as large as a large corpus's."""
        tokenizer = self.index.folder / self.index.tokenizer.file
        folder = self.work / "one"
        self.told("building a large shard")
        return CorpusIndex.load(
            build_corpus([self.texts], folder, tokenizer=tokenizer, holdout=0.0, shard_tokens=SHARD_TOKENS)
        )

    def reading(self) -> list[dict[str, Any]]:
        plan, readers = self.plan, [self.peers[name] for name in READERS if name in self.peers]
        windows = windows_per_epoch(self.index.split("train").tokens, plan.lanes, plan.sequence_length)
        if windows < 2:
            raise user_error("--lanes", f"one batch of {plan.lanes} an epoch", "fewer lanes or more text is needed")
        self.told("writing the peers' formats")
        shelf = reading.shelve(self.index.folder, self.shards, plan.lanes, plan.sequence_length, readers, self.work)
        settings = [
            reading.Setting(name, world_size, n)
            for world_size in plan.workers
            for name in (reading.OWN, *(peer.name for peer in readers))
            for n in ((0,) if name == reading.OWN else plan.loader_processes)
        ]

        def measure_one(setting: reading.Setting) -> reading.Speed:
            self.told(
                f"reading by {setting.reader}, workers {setting.world_size}, "
                f"loader processes {setting.loader_processes}"
            )
            python = sys.executable if setting.reader == reading.OWN else self.peers[setting.reader].python
            return reading.measure_setting(shelf, python, setting, plan.warm_seconds)

        return reading.as_rows(reading.in_rounds(settings, plan.rounds, measure_one))

    def building(self) -> list[dict[str, Any]]:
        self.told("building the same texts")
        tokenizer = self.index.folder / self.index.tokenizer.file
        found = building.measure(
            self.texts, tokenizer, self.peers.get(BUILDER), self.plan.map_processes, self.plan.rounds
        )
        return building.as_rows(found, self._text_bytes)

    def resume(self) -> dict[str, Any]:
        one = self.one_shard
        self.told("resuming")
        return resuming.resume(
            one,
            self.work / "large",
            n_tokens=LARGE_TOKENS,
            tokens_seen=TOKENS_SEEN,
            lanes=self.plan.lanes,
            sequence_length=self.plan.sequence_length,
            rounds=self.plan.rounds,
        )

    def dealing(self) -> dict[str, Any]:
        one = self.one_shard
        self.told("dealing")
        return resuming.deal(
            one,
            self.work / "dealt",
            n_shards=DEALT_SHARDS,
            world_size=DEALT_WORKERS,
            sequence_length=self.plan.sequence_length,
        )


def described(plan: Plan, peers: Mapping[str, Peer]) -> dict[str, Any]:
    """The settings and the peers' versions, for the results' file."""
    return {"settings": asdict(plan), "peers": {name: peer.version for name, peer in peers.items()}}
