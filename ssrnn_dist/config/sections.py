"""The sections of a run beside the model: data, training, scale, checkpoints, tracking, cost and cluster.

Each field is read somewhere; its unit is in its name; imports pydantic only."""

from typing import Literal

from pydantic import Field, model_validator

from ssrnn_dist.config.base import NonNegativeInt, PositiveInt, Section


class BuildSection(Section):
    """How `train` and `quickstart` build the corpus where it does not stand yet (see `ssrnn data build`)."""

    sources: list[str] = Field(
        min_length=1, description="files, folders, globs or URLs; `stdlib:` is Python's own source"
    )
    vocab_size: int = Field(4096, ge=257, le=2**31 - 1, description="entries of the byte-level BPE tokenizer to train")
    tokenizer: str | None = Field(
        None, description="a tokenizer.json or a Hugging Face folder to use in place of training one"
    )
    holdout: float = Field(0.02, ge=0, lt=1, description="fraction of the documents held out for validation")
    test: float = Field(0.0, ge=0, lt=1, description="fraction of the documents kept for a test split")
    deduplicate: bool = Field(True, description="of equal documents only the first is kept")
    licence: str | None = Field(None, description="the text's licence, for the index; words, as they are")
    provenance: str | None = Field(None, description="where the text comes from, for the index; words, as they are")
    text_field: str = Field("text", description="the field of a .jsonl record that holds its text")


class DataSection(Section):
    """Where the corpus is."""

    index: str = Field(description="folder of a built corpus, or its index.json")
    build: BuildSection | None = Field(None, description="build the corpus at `index` from these where it is missing")
    on_bad_sample: Literal["error", "skip"] = Field(
        "error", description="a sample of a shard that can't be used ends the run, or is skipped, counted and logged"
    )
    max_bad_fraction: float = Field(
        0.001, ge=0, le=1, description="of the training tokens, how many a worker may skip before that is an error"
    )


class TrainSection(Section):
    """One optimizer step is one window of every lane, whatever the number of workers."""

    steps: PositiveInt = Field(1000, description="optimizer steps of the whole run")
    tokens_per_batch: PositiveInt = Field(8192, description="tokens of one optimizer step over all workers")
    sequence_length: PositiveInt = Field(256, description="tokens of one lane in one step")
    micro_batch_lanes: PositiveInt | None = Field(None, description="lanes a worker runs at a time; null: all it has")
    carry_state: bool = Field(True, description="the hidden state goes on from window to window")
    learning_rate: float = Field(3e-3, gt=0, description="peak learning rate of AdamW")
    schedule: Literal["cosine", "constant"] = Field("cosine", description="after the warm-up")
    warmup_fraction: float = Field(0.05, ge=0, le=1, description="fraction of the steps with a linear warm-up")
    final_learning_rate_fraction: float = Field(0.1, ge=0, le=1, description="where cosine ends, over the peak")
    weight_decay: float = Field(0.01, ge=0, description="AdamW's, on matrices only")
    beta1: float = Field(0.9, ge=0, lt=1)
    beta2: float = Field(0.99, ge=0, lt=1)
    gradient_clip: float = Field(1.0, ge=0, description="largest norm of the global gradient; 0: no clipping")
    precision: Literal["fp32", "bf16"] = "fp32"
    seed: NonNegativeInt = Field(0, description="order of the data")
    validate_every_steps: PositiveInt | None = Field(None, description="null: only at the end")
    log_every_steps: PositiveInt = Field(10, description="how often metrics are reduced over workers and logged")

    @property
    def lanes(self) -> int:
        """Parallel streams of text; tokens_per_batch / sequence_length."""
        return self.tokens_per_batch // self.sequence_length

    @property
    def warmup_steps(self) -> int:
        return round(self.warmup_fraction * self.steps)

    @model_validator(mode="after")
    def batch_is_whole_lanes(self) -> "TrainSection":
        length, tokens = self.sequence_length, self.tokens_per_batch
        if tokens % length:
            below, above = tokens // length * length, (tokens // length + 1) * length
            would_do = " or ".join(str(number) for number in (below, above) if number)
            raise ValueError(
                f"tokens_per_batch: {tokens} is not a multiple of sequence_length {length}; {would_do} would do"
            )
        if self.micro_batch_lanes is not None and self.micro_batch_lanes > self.lanes:
            raise ValueError(
                f"micro_batch_lanes: {self.micro_batch_lanes}, but tokens_per_batch / sequence_length gives "
                f"{self.lanes} lanes; allowed: 1 to {self.lanes}, or null"
            )
        return self


class ScaleSection(Section):
    """How many workers, and how DeepSpeed shards over them. Never changes the mathematics."""

    workers: PositiveInt | tuple[PositiveInt, PositiveInt] = Field(
        1, description="ranks: a number, or [min, max] for an elastic range"
    )
    gpus_per_worker: Literal[0, 1] = Field(0, description="a worker is a rank: it has one GPU or none")
    cpus_per_worker: PositiveInt | None = Field(None, description="CPU threads of a worker; null: an even share")
    zero_stage: Literal[1, 2, 3] = Field(1, description="DeepSpeed ZeRO: what is sharded over the workers")
    max_restarts: NonNegativeInt = Field(3, description="failures of workers that a run survives before it gives up")

    @model_validator(mode="after")
    def range_is_ascending(self) -> "ScaleSection":
        if isinstance(self.workers, tuple) and self.workers[0] > self.workers[1]:
            low, high = self.workers
            raise ValueError(f"workers: [{low}, {high}]; [min, max] with min <= max is allowed")
        return self

    @property
    def most_workers(self) -> int:
        return self.workers[1] if isinstance(self.workers, tuple) else self.workers


class CheckpointSection(Section):
    """When a run is saved, and how many checkpoints stay."""

    every_steps: PositiveInt = Field(200, description="steps between checkpoints; the last step is always saved")
    keep: PositiveInt = Field(2, description="newest checkpoints that stay on disk")


class TrackingSection(Section):
    """Where MLflow keeps the run."""

    uri: str | None = Field(None, description="MLflow tracking server; null: SQLite in run_root")
    experiment: str = Field("ssrnn", min_length=1)
    report: bool = Field(True, description="draw report.html and its pictures when the run is complete")


class CostSection(Section):
    """What a worker costs. Nothing is ever invented: with no price the cost is null."""

    usd_per_worker_hour: float | None = Field(None, ge=0, description="price of one worker for one hour")


class ClusterSection(Section):
    """Which Ray cluster; a local one where nothing is given."""

    address: str | None = Field(None, description="Ray address to train on; null: start Ray here, on loopback")
