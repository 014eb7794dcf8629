"""Times the run's own engine in a world of one, in step with other processes that do the same. Imports the trainer."""

import contextlib
import gc
import importlib
import statistics
import time
from collections.abc import Callable, Generator, Iterator
from typing import TYPE_CHECKING, Any

import torch

from ssrnn_data import Batch
from ssrnn_dist.bench.timing import wall_seconds
from ssrnn_dist.config import FeedbackConfig, ModelConfig, RunConfig
from ssrnn_dist.data import open_corpora, open_stream
from ssrnn_dist.engine import Engine, cut_lanes
from ssrnn_dist.model import LanguageModel
from ssrnn_dist.model.language_model import State
from ssrnn_dist.probe import probe
from ssrnn_dist.world import World
from ssrnn_launch.plan.process_memory import forget_peak, peak_bytes
from ssrnn_launch.plan.vocabulary import corpus_stands

if TYPE_CHECKING:
    from torch.distributed import Store

WARM_UP_STEPS, FEWEST_STEPS, MOST_STEPS = 3, 8, 400
SETTING_SECONDS = 5.0
LEARNING_RATE = 1e-4
SMALL_VOCABULARY, SMALL_FEEDBACK = 64, FeedbackConfig(refinements=1)


class EngineTimes:
    """Engines of this process, one after the other. peak_bytes: the most that the first one's steps held."""

    def __init__(self, config: RunConfig, vocab_size: int, device: torch.device, store: "Store", rank: int) -> None:
        self.config, self.vocab_size, self.device, self.store, self.rank = config, vocab_size, device, store, rank
        self.has_corpus = corpus_stands(config)
        self.peak_bytes = 0

    def warm_up(self, world: World) -> None:
        """Load all that a training process does before its model: the loop's modules, text, DeepSpeed, our kernels."""
        importlib.import_module("ssrnn_dist.session")
        with contextlib.closing(self._batches(1, self.rank + 1)) as batches:
            next(batches)
        shape = self.config.model.model_copy(update={"d_model": 8 * self.config.model.n_heads, "n_layers": 1})
        model = ModelConfig(**shape.model_dump(), vocab_size=SMALL_VOCABULARY, feedback=SMALL_FEEDBACK)
        scale = self.config.scale.model_copy(update={"partition_ranks": None})
        engine = Engine(LanguageModel(model).to(self.device), self.config.train, scale, world, cut_lanes(2, 2, 1, 2))
        steps = _Steps(engine, self.device)
        for number, batch in zip(range(2), _random_batches(SMALL_VOCABULARY, 2, 8), strict=False):
            steps.step(batch, number)

    def measure(self, name: str, setting: dict[str, Any], world: World) -> dict[str, Any]:
        """A setting's seconds: rows of a step and the update within it, and medians of the rest."""
        torch.set_num_threads(setting["threads"])
        if not self.peak_bytes:
            forget_peak()
        found = self._measure(name, setting, world)
        gc.collect()  # the engine, before the next one
        return found

    def _measure(self, name: str, setting: dict[str, Any], world: World) -> dict[str, Any]:
        lanes, scale = setting["lanes"], self.config.scale.model_copy(update={"partition_ranks": None})
        shape = ModelConfig(**self.config.model.model_dump(), vocab_size=self.vocab_size, feedback=self.config.feedback)
        micro = cut_lanes(lanes, lanes, 1, setting["micro_lanes"])
        engine = Engine(LanguageModel(shape).to(self.device), self.config.train, scale, world, micro)
        steps = _Steps(engine, self.device)
        with contextlib.closing(self._batches(lanes, setting["workers"])) as batches:
            rows, waits = self._timed_steps(name, setting["workers"], steps, batches)
        self.peak_bytes = self.peak_bytes or peak_bytes(self.device)
        probing = 0.0
        if setting["probes"]:
            probing = steps.median_of(lambda: probe(engine, steps.batch, steps.state))
        return {
            "rows": rows,
            "data_seconds": statistics.median(waits) if self.has_corpus else None,
            "forward_seconds": steps.median_of(lambda: engine.nats(steps.batch, steps.state)),
            "probe_seconds": probing,
        }

    def _timed_steps(
        self, name: str, workers: int, steps: "_Steps", batches: Iterator[Batch]
    ) -> tuple[list[tuple[float, float]], list[float]]:
        rows: list[tuple[float, float]] = []
        waits, began = [], 0.0
        for number in range(WARM_UP_STEPS + MOST_STEPS):
            if number == WARM_UP_STEPS:
                began = time.monotonic()
            enough = len(rows) >= FEWEST_STEPS and time.monotonic() - began > SETTING_SECONDS
            if self._first_says(f"{name}-{number}", workers, enough):
                break
            wait_began = time.perf_counter()
            batch = next(batches)
            waited = time.perf_counter() - wait_began
            row = steps.step(batch, number)
            if number >= WARM_UP_STEPS:
                rows.append(row)
                waits.append(waited)
        return rows, waits

    def _first_says(self, key: str, workers: int, enough: bool) -> bool:
        """Wait until all that have a part in it are here; then what the first one said: all do as many steps."""
        if workers == 1:
            return enough
        if self.rank == 0:
            self.store.set(f"{key}-enough", "yes" if enough else "no")
        if self.store.add(f"{key}-here", 1) == workers:
            self.store.set(f"{key}-all", "here")
        self.store.wait([f"{key}-all", f"{key}-enough"])
        return bool(self.store.get(f"{key}-enough") == b"yes")

    def _batches(self, lanes: int, workers: int) -> Generator[Batch, None, None]:
        """The run's own text where its corpus stands, else random tokens; `lanes` lanes of them."""
        if not self.has_corpus:
            return _random_batches(self.vocab_size, lanes, self.config.train.sequence_length)
        stream = open_stream(self.config, open_corpora(self.config), rank=self.rank, world_size=workers)
        return _first_lanes(stream, lanes)


class _Steps:
    """Steps of an engine, their seconds, and the seconds of their updates: what DeepSpeed does once gradients stand."""

    def __init__(self, engine: Engine, device: torch.device) -> None:
        self.engine, self.device, self.state = engine, device, engine.zero_state()
        self.batch: Batch
        self._update, self._update_seconds = engine.deepspeed.step, 0.0
        engine.deepspeed.step = self._timed_update

    def step(self, batch: Batch, number: int) -> tuple[float, float]:
        """Seconds of a step, and of the update in it."""
        self._update_seconds = 0.0
        self.batch = batch
        seconds = self._seconds_of(lambda: self._step(number))
        return seconds, self._update_seconds

    def _step(self, number: int) -> None:
        self.engine.prepare(self.batch, self.state, number)
        _, self.state = self._run()

    def _run(self) -> tuple[torch.Tensor, State]:
        return self.engine.step(self.batch, self.state, LEARNING_RATE)

    def _timed_update(self) -> None:
        self._wait()
        self._update_seconds += self._seconds_of(self._update)

    def median_of(self, run: Callable[[], object]) -> float:
        """Of three, after one that does not count."""
        return statistics.median([self._seconds_of(run) for _ in range(4)][1:])

    def _seconds_of(self, run: Callable[[], object]) -> float:
        def whole() -> None:
            run()
            self._wait()

        return wall_seconds(whole)

    def _wait(self) -> None:
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)


def _random_batches(vocab_size: int, lanes: int, length: int) -> Generator[Batch, None, None]:
    drawn = torch.randint(vocab_size, (lanes, length + 1), generator=torch.Generator().manual_seed(0))
    reset = torch.zeros(lanes, length, dtype=torch.bool)
    while True:
        yield Batch(drawn[:, :-1], drawn[:, 1:], reset, torch.arange(lanes))


def _first_lanes(stream: Any, lanes: int) -> Generator[Batch, None, None]:
    with contextlib.closing(stream):
        for batch in stream:
            yield Batch(
                *(getattr(batch, name)[:lanes] for name in ("tokens_BT", "targets_BT", "reset_BT", "lane_ids_B"))
            )
