"""How well a model predicts held-out text: nats over every target, with the hidden state carried through documents.

evaluate() serves the training loop and the command alike. B batch, S a layer's state."""

import math
import tempfile
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ssrnn_data import Batch, CorpusIndex, EvaluationStream, build_corpus
from ssrnn_dist.checkpoint.load_model import find_checkpoint, load_model
from ssrnn_dist.checkpoint.store import TOKENIZER
from ssrnn_dist.model.language_model import State
from ssrnn_dist.problems import user_error

NatsOf = Callable[[Batch, State | None], tuple[Tensor, State]]
Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class Evaluation:
    """Nats of all targets of a text, and what people read off them."""

    nats: float
    tokens: int
    text_bytes: int

    @property
    def loss(self) -> float:
        """Nats per token."""
        return self.nats / self.tokens

    @property
    def perplexity(self) -> float:
        return math.exp(self.loss) if self.loss < 700 else math.inf

    @property
    def bits_per_byte(self) -> float:
        """Of the text's UTF-8: comparable between tokenizers."""
        return self.nats / math.log(2) / self.text_bytes if self.text_bytes else math.nan

    def as_dict(self) -> dict[str, Any]:
        return {
            **asdict(self),
            "loss": self.loss,
            "perplexity": self.perplexity,
            "bits_per_byte": self.bits_per_byte,
        }


def evaluate(
    nats_of: NatsOf,
    stream: EvaluationStream,
    sum_over_ranks: Callable[[Tensor], Tensor] = lambda values: values,
    progress: Progress | None = None,
) -> Evaluation:
    """The nats of a split; independent of the number of lanes and of ranks but for rounding."""
    total = torch.zeros((), dtype=torch.float64)
    state: State | None = None
    for index, batch in enumerate(stream):
        if state is not None:  # of the lanes that go on, which come first
            state = tuple(layer[: len(batch.lane_ids_B)] for layer in state)
        nats, state = nats_of(batch, state)
        total += nats.double().cpu()
        if progress is not None:
            progress(index + 1, len(stream))
    return Evaluation(float(sum_over_ranks(total)), stream.tokens_total, stream.text_bytes)


def evaluate_checkpoint(
    checkpoint: str | Path,
    data: str | Path,
    *,
    lanes: int = 16,
    sequence_length: int = 256,
    split: str = "valid",
    progress: Progress | None = None,
) -> dict[str, Any]:
    """Perplexity and bits per byte of a checkpoint on a corpus, or on plain text files, tokenised as it was trained.

    checkpoint: a run's folder or a checkpoint's.  data: a corpus folder, its index.json, the URL of either, or a text
    file or folder.
    UserError or DataError where either is not what it should be."""
    found = find_checkpoint(checkpoint)
    model = load_model(found)

    def nats_of(batch: Batch, state: State | None) -> tuple[Tensor, State]:
        with torch.no_grad():
            return model.loss(batch.tokens_BT, batch.targets_BT, state, batch.reset_BT)

    with tempfile.TemporaryDirectory(prefix="ssrnn-eval-") as scratch:
        index, split = _corpus_of(str(data), found.folder / TOKENIZER, Path(scratch), split)
        stream = EvaluationStream(index, split=split, lanes=lanes, sequence_length=sequence_length)
        evaluation = evaluate(nats_of, stream, progress=progress)
    return {"checkpoint": str(found.folder), "step": found.about["step"], "split": split, **evaluation.as_dict()}


def _corpus_of(data: str, tokenizer: Path, scratch: Path, split: str) -> tuple[CorpusIndex, str]:
    """The corpus at data, which must have been made with this tokenizer; plain text becomes one here."""
    if not _is_corpus(data):
        out = scratch / "corpus"
        built = build_corpus([data], out, tokenizer=tokenizer, holdout=0.0, deduplicate=False)
        return CorpusIndex.load(built), "train"
    index = CorpusIndex.load(data)
    if index.tokenizer_json() != tokenizer.read_bytes():
        raise user_error(data, "a corpus of another tokenizer", f"one made with {tokenizer} is wanted")
    return index, split


def _is_corpus(data: str) -> bool:
    """A folder with an index, an index, or a URL that names no text file."""
    path = Path(data)
    if "://" in data:
        return path.suffix in ("", ".json")
    return path.name == "index.json" or (path / "index.json").is_file()
