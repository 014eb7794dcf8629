"""One life of a run on one rank: the stream, the engine, the hidden state, and what is due at which step.

Built by open_session from the config and the newest checkpoint; the loop itself is train.py's."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import psutil
import torch

from ssrnn_data import Batch
from ssrnn_dist.checkpoint.load_model import model_config
from ssrnn_dist.checkpoint.store import Checkpoint, newest_checkpoint
from ssrnn_dist.checkpoint.training_state import Progress, Saver, load_training
from ssrnn_dist.config import ModelConfig, RunConfig
from ssrnn_dist.data import has_new_weights, open_corpora, open_stream, open_valid
from ssrnn_dist.engine import Engine, cut_lanes
from ssrnn_dist.feedback.fidelity import fidelity
from ssrnn_dist.hooks import RunHooks
from ssrnn_dist.model import LanguageModel
from ssrnn_dist.model.language_model import count_parameters
from ssrnn_dist.probe import Probe, probe
from ssrnn_dist.problems import RunFailed, user_error
from ssrnn_dist.schedule import learning_rate
from ssrnn_dist.stepping import Logged, Stopwatch, Teller, clock, note_bad_samples
from ssrnn_dist.tracking.phases import CHECKPOINTING, DATA_WAIT, IDLE, LOST, TRAINING, VALIDATION
from ssrnn_dist.validation import Validation, validate
from ssrnn_dist.world import World


class Session:
    """Everything of a run on this rank. Every rank calls the same methods in the same order."""

    def __init__(self, config: RunConfig, world: World, hooks: RunHooks) -> None:
        self.config, self.world, self.hooks = config, world, hooks
        self.corpora = open_corpora(config)
        self.tokenizer_json = self.corpora[0].index.tokenizer_json()  # all have the same
        train = config.train
        vocab_size = self.corpora[0].index.vocab_size
        model = ModelConfig(**config.model.model_dump(), vocab_size=vocab_size, feedback=config.feedback)
        _check_fits(model, psutil.virtual_memory().total)
        skipped: list[str] = []
        checkpoint = newest_checkpoint(config.folder / "checkpoints", world, config.remote_folder, skipped.append)
        _check_same_model(checkpoint, model)
        position = checkpoint.about["position"] if checkpoint else None
        self.stream = open_stream(config, self.corpora, rank=world.rank, world_size=world.size, position=position)
        micro = cut_lanes(train.lanes, len(self.stream.lanes), world.size, train.micro_batch_lanes)
        self.engine = Engine(LanguageModel(model).to(world.device), train, config.scale, world, micro)
        if checkpoint is not None:
            self.progress = load_training(checkpoint, self.engine, self.stream.lanes)
        else:
            self.progress = Progress(0, 0, self.stream.position(), self.engine.zero_state())
        self.teller = Teller(config, hooks) if world.is_first else None
        if self.teller is not None:
            hooks.begin(self.step, self.progress.tokens, world.size)
            for message in skipped:  # after begin, which opens the books
                hooks.event("warning", message=message)
        if self.teller is not None and position is not None and has_new_weights(position, self.stream.position()):
            self.teller.note_new_weights(self.step)
        self.watch = Stopwatch()
        self.saver = Saver(config, self.engine, self.stream.lanes, self.tokenizer_json)
        self.saved_at = self.progress.step if checkpoint else -1
        self._saved = clock()
        self._save_asked = False
        self.valid: Validation | None = None
        self.probed: Probe | None = None
        self._validation_seconds: float | None = None
        self._nats = torch.zeros((), dtype=torch.float64)

    @property
    def step(self) -> int:
        """Optimizer steps done."""
        return self.progress.step

    def stop_asked(self) -> bool:
        """Has the host asked to stop?  Rank 0 asks, all ranks agree; on what the clock makes due, too."""
        stop = self.world.is_first and self.hooks.should_stop()
        every = self.config.checkpoint.every_seconds
        save = self.world.is_first and every is not None and clock() - self._saved >= every
        agreed = self.world.first_says(int(stop) + 2 * int(save))
        self._save_asked = agreed >= 2
        return bool(agreed % 2)

    def next_batch(self) -> Batch:
        """This rank's lanes of the next global batch; how long it took counts as data wait."""
        began = clock()
        with self.hooks.clock.phase(DATA_WAIT):
            batch = next(self.stream)
        self._waited = clock() - began
        return batch

    def learn(self, batch: Batch) -> None:
        """One optimizer step."""
        began = clock()
        self.hooks.clock.enter(LOST if self.step < self.hooks.reached_step else TRAINING)
        train = self.config.train
        hidden = self.progress.hidden if train.carry_state else self.engine.zero_state()
        self.engine.prepare(batch, hidden, self.step)
        if self._probe_is_due():
            self.probed = probe(self.engine, batch, hidden)
        nats, hidden = self.engine.step(batch, hidden, learning_rate(self.step, train))
        if not self.engine.stepped:
            raise RunFailed(
                f"the gradient of step {self.step + 1} is not finite; the newest checkpoint is of before: "
                "a lower train.learning_rate or a smaller train.gradient_clip may help"
            )
        self._nats += nats.double().cpu()
        self.progress = Progress(
            self.step + 1, self.progress.tokens + train.tokens_per_batch, self.stream.position(), hidden
        )
        self.watch.add(self._waited, clock() - began)
        self.hooks.heartbeat(self.step)
        self._tell_of_checkpoints()

    def _probe_is_due(self) -> bool:
        """In the step that makes a multiple of feedback.probe_every; BPTT has nothing to compare."""
        every = self.config.feedback.probe_every
        return every is not None and (self.step + 1) % every == 0 and self.config.feedback.kind != "exact"

    def due(self, every_steps: int | None) -> bool:
        """Does something that comes every so many steps come now?  The last step counts for all."""
        last = self.step == self.config.train.steps
        return last or (every_steps is not None and self.step % every_steps == 0)

    def validate(self) -> None:
        """The loss of each corpus's held-out split, by all ranks together; None where no corpus has one."""
        began = clock()
        with self.hooks.clock.phase(VALIDATION):
            streams = open_valid(self.config.train, self.corpora, rank=self.world.rank, world_size=self.world.size)
            self.valid = validate(self.engine.nats, streams, self.world.sum)
        self._validation_seconds = clock() - began

    def log(self) -> None:
        """Reduce what was seen since the last time over the ranks, and have rank 0 write it down."""
        increments = self.engine.steering.take_increments()
        note_bad_samples(self.config.folder, self.step, self.world.rank, self.stream.bad.take())
        own = torch.tensor([float(self._nats), self.stream.bad.count], dtype=torch.float64)
        shared = self.world.sum(torch.cat([own, increments.flatten()]))
        self._nats.zero_()
        if self.teller is not None:
            self.teller.log(self._logged(shared[:2].tolist(), shared[2:].view_as(increments)), self.watch)
        self.watch.restart()
        self._validation_seconds = None
        self.valid = None if self.step < self.config.train.steps else self.valid
        self.probed = None

    def _logged(self, sums: list[float], increments_L4: torch.Tensor) -> Logged:
        nats, bad_samples = sums
        return Logged(
            step=self.step,
            tokens=self.progress.tokens,
            workers=self.world.size,
            train_loss=nats / max(1, self.watch.steps * self.config.train.tokens_per_batch),
            learning_rate=learning_rate(self.step - 1, self.config.train),
            gradient_norm=self.engine.gradient_norm(),
            layers=tuple(fidelity(sums_4) for sums_4 in increments_L4),
            sweeps=tuple(layer.sweeps for layer in self.engine.steering.layers),
            probe=self.probed,
            valid=self.valid,
            validation_seconds=self._validation_seconds,
            epochs=self.stream.epochs(),
            bad_samples=int(bad_samples),
        )

    def save_is_due(self) -> bool:
        """Is a checkpoint due, by the steps or by the clock?"""
        return self._save_asked or self.due(self.config.checkpoint.every_steps)

    def save(self) -> None:
        """Begin a checkpoint of this step, unless it stands already; training goes on while it is written."""
        if self.saved_at == self.step:
            return
        with self.hooks.clock.phase(CHECKPOINTING):
            self.saver.start(self.progress)
        self.saved_at, self._saved = self.step, clock()

    def _tell_of_checkpoints(self) -> None:
        """What the writing threads say, once a checkpoint stands."""
        for kind, fields in self.saver.take_news():
            if kind == "checkpoint":
                fields = {**fields, "seconds": round(clock() - self._saved, 3)}
            self.hooks.event(kind, **fields)

    def finish(self) -> dict[str, Any]:
        """The last checkpoint, and on rank 0 what the host makes of the end; {} elsewhere."""
        self.save()
        with self.hooks.clock.phase(CHECKPOINTING):
            self.saver.wait()
        self._tell_of_checkpoints()
        self.hooks.clock.enter(IDLE)
        if self.teller is None:
            return {}
        tokens, epochs = self.progress.tokens, self.stream.epochs()
        return self.hooks.finish(
            self.teller.finished(self.step, tokens, self.world.size, self.valid, epochs, self.watch)
        )


def _check_fits(model: ModelConfig, memory_bytes: int) -> None:
    """Every rank makes the initial weights in float32 before they are sharded: these must fit, whatever the rest."""
    n_parameters = count_parameters(model)
    if 4 * n_parameters > memory_bytes:
        came = f"{n_parameters:,} parameters, {4 * n_parameters / 1e9:,.0f} GB in float32"
        allowed = f"a smaller d_model or n_layers, or a machine with more than {memory_bytes / 1e9:,.0f} GB of memory"
        raise user_error("model", came, allowed)


def _check_same_model(checkpoint: Checkpoint | None, model: ModelConfig) -> None:
    if checkpoint is None:
        return
    where = str(checkpoint.folder)
    stored = model_config(checkpoint.about, where)
    if stored.model_copy(update={"feedback": model.feedback}) != model:  # no weight depends on the learning rule
        odd = [name for name in ModelConfig.model_fields if getattr(stored, name) != getattr(model, name)]
        came = ", ".join(f"{name} {getattr(stored, name)}" for name in odd if name != "feedback")
        raise user_error(where, f"a checkpoint of another model ({came})", "the config's model, or --fresh")


@contextmanager
def open_session(config: RunConfig, world: World, hooks: RunHooks) -> Iterator[Session]:
    """A session that closes its stream in the end, and tells its host where the run fails."""
    session = Session(config, world, hooks)
    try:
        yield session
    except BaseException:
        session.saver.close()
        hooks.close(failed=True)
        raise
    finally:
        session.stream.close()
