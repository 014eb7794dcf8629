"""The sections of a run that say what is learnt: the data and the training.

Each field is read somewhere; its unit is in its name; imports pydantic only."""

import re
from typing import Annotated, Any, Literal

from pydantic import Field, WrapValidator, model_validator

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
    holdout: float | None = Field(
        None,
        ge=0,
        lt=1,
        description="fraction of the documents held out for validation; null: 0.02, 0 with valid_sources",
    )
    test: float = Field(0.0, ge=0, lt=1, description="fraction of the documents kept for a test split")
    valid_sources: list[str] = Field([], description="sources that are the valid split, all of them")
    test_sources: list[str] = Field([], description="sources that are the test split, all of them")
    deduplicate: bool = Field(True, description="of equal documents only the first is kept")
    licence: str | None = Field(None, description="the text's licence, for the index; words, as they are")
    provenance: str | None = Field(None, description="where the text comes from, for the index; words, as they are")
    text_field: str = Field("text", description="the field of a .jsonl record that holds its text")
    document_start: str | None = Field(
        None, min_length=1, description="a regular expression: the lines or rows that begin a document; null: each does"
    )

    @model_validator(mode="after")
    def splits_are_drawn_or_given(self) -> "BuildSection":
        for name, drawn, own in (
            ("holdout", self.holdout, self.valid_sources),
            ("test", self.test, self.test_sources),
        ):
            sources = "valid_sources" if name == "holdout" else "test_sources"
            if drawn and own:
                raise ValueError(f"{name}: {drawn} with {sources}; 0, or a fraction without {sources}, is allowed")
        return self

    @model_validator(mode="after")
    def document_start_is_a_pattern(self) -> "BuildSection":
        try:
            re.compile(self.document_start or "")
        except (re.error, OverflowError, RecursionError) as error:
            allowed = "a regular expression of Python's re, or null, is allowed"
            raise ValueError(f"document_start: a broken pattern ({error}); {allowed}") from None
        return self


def _as_weight(value: Any, _: object) -> float | tuple[tuple[int, float], ...]:
    """A weight with its numbers as floats, so that 1 and 1.0 are the same; ValueError for anything else."""
    if _is_weight(value):
        return float(value)
    knots = value if isinstance(value, list | tuple) else []
    pairs = [each for each in knots if isinstance(each, list | tuple) and len(each) == 2]
    tokens = [each[0] for each in pairs]
    ascending = all(type(at) is int and 0 <= at < LATEST_TOKENS for at in tokens) and tokens == sorted(set(tokens))
    if not pairs or len(pairs) < len(knots) or not ascending or not all(_is_weight(each[1]) for each in pairs):
        raise ValueError(WEIGHT_ALLOWED)
    return tuple((at, float(weight)) for at, weight in pairs)


def _is_weight(value: Any) -> bool:
    return type(value) in (int, float) and 0 <= value < HEAVIEST


WEIGHT_ALLOWED = "a number of 0 or more is allowed, or pairs [tokens seen, number] with ascending tokens"
HEAVIEST, LATEST_TOKENS = 1e300, 1 << 50  # what a mixture can count with
SourceWeight = Annotated[float | tuple[tuple[int, float], ...], WrapValidator(_as_weight)]


class SourceSection(Section):
    """One corpus of a mixture."""

    index: str = Field(description="folder of a built corpus, its index.json, or the URL of either")
    weight: SourceWeight = Field(
        1.0, description="relative to the other sources': a number, or [tokens seen, number] pairs, linear in between"
    )
    name: str | None = Field(
        None,
        pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,99}$",
        description="in metrics: letters, digits, '.', '_' and '-'; null: the folder's name",
    )


class DataSection(Section):
    """Where the corpus is, or the corpora of a mixture. All of a mixture's have the same tokenizer."""

    index: str | None = Field(None, description="folder of a built corpus, its index.json, or the URL of either")
    mixture: list[SourceSection] | None = Field(
        None, min_length=1, description="in place of `index`: corpora and their weights"
    )
    allow_new_weights: bool = Field(
        False, description="a run that goes on with other weights of its mixture counts by them from there on"
    )
    build: BuildSection | None = Field(None, description="build the corpus at `index` from these where it is missing")
    on_bad_sample: Literal["error", "skip"] = Field(
        "error", description="a sample of a shard that can't be used ends the run, or is skipped, counted and logged"
    )
    max_bad_fraction: float = Field(
        0.001, ge=0, le=1, description="of the training tokens, how many a worker may skip before that is an error"
    )
    cache_folder: str | None = Field(
        None, description="where a node keeps shards from URLs; null: $SSRNN_CACHE, else ~/.cache/ssrnn"
    )
    cache_gb: float | None = Field(None, gt=0, description="how much it may hold; null: $SSRNN_CACHE_GB, else 50")

    @property
    def sources(self) -> list[SourceSection]:
        """The corpora; a single one is a mixture of one."""
        if self.mixture is not None:
            return self.mixture
        assert self.index is not None  # one_or_the_other
        return [SourceSection(index=self.index)]

    @model_validator(mode="after")
    def one_or_the_other(self) -> "DataSection":
        if self.index is None and self.mixture is None:
            raise ValueError("index: missing; required: folder of a built corpus or its index.json, or `mixture`")
        if self.index is not None and self.mixture is not None:
            raise ValueError("mixture: given beside index; one of them is allowed: `index` can be one of the mixture's")
        if self.mixture is not None and self.build is not None:
            raise ValueError("build: given beside mixture; it is for `index` only: build each with `ssrnn data build`")
        if self.build is not None and "://" in (self.index or ""):
            raise ValueError(
                "build: given beside a URL; build: null (--set data.build=null), or a folder to build in, is allowed"
            )
        return self


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
