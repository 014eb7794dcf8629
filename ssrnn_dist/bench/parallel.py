"""`ssrnn bench parallel`: a trained model's forward solved for all steps at once, beside the one step by step.

Imports torch, the model and the kernels. T time, B batch (1 here), R rows of the weights, D width."""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional as F

from ssrnn_data import TextTokenizer
from ssrnn_dist.bench.timing import in_turn
from ssrnn_dist.checkpoint.load_model import find_checkpoint, load_model
from ssrnn_dist.checkpoint.store import TOKENIZER
from ssrnn_dist.model import LanguageModel
from ssrnn_dist.model.language_model import Block, embedded
from ssrnn_dist.problems import user_error
from ssrnn_kernels.fused_recurrence import recur
from ssrnn_kernels.parallel_recurrence import solve_forward
from ssrnn_kernels.parallel_recurrence.op import MOST_SWEEPS

ROUNDS = 3


@dataclass(frozen=True)
class Solution:
    """One layer on one length of text, to one tolerance."""

    layer: int
    n_steps: int
    tolerance: float
    sweeps: int
    converged: bool
    residual: float
    error: float  # ‖states − the sequential ones‖ / ‖the sequential ones‖
    seconds: float
    sequential_seconds: float


@torch.no_grad()
def measure(checkpoint: Path, text: Path, lengths: list[int], tolerances: list[float]) -> Iterator[Solution]:
    """Every layer, length and tolerance on the first tokens of a text file, as it goes.

    UserError: no checkpoint, no text, or not as many tokens as the longest length."""
    found = find_checkpoint(checkpoint)
    model = load_model(found)
    tokens = _tokens(text, TextTokenizer.from_file(found.folder / TOKENIZER), max(lengths))
    for length in sorted(lengths):
        for layer, inputs_TBR in enumerate(_inputs_of_layers(model, tokens[:, :length])):
            yield from _solved(model, layer, inputs_TBR, tolerances)


def _tokens(text: Path, tokenizer: TextTokenizer, wanted: int) -> Tensor:
    try:
        read = text.read_text(encoding="utf-8", errors="replace")[: 16 * wanted]
    except OSError as error:
        raise user_error(str(text), error.strerror or "not readable", "a text file is wanted") from None
    tokens = [tokenizer.end_of_text, *tokenizer.encode(read)][:wanted]
    if len(tokens) < wanted:
        raise user_error(str(text), f"{len(tokens):,} tokens", f"{wanted:,} are wanted for the longest length")
    return torch.tensor([tokens])


def _inputs_of_layers(model: LanguageModel, tokens_BT: Tensor) -> Iterator[Tensor]:
    """(T, B, R): what each layer's recurrence gets of this text."""
    x_TBD = embedded(model.embedding, tokens_BT.t(), model.config)
    for block in model.blocks:
        assert isinstance(block, Block)
        layer = block.recurrent
        yield F.linear(block.norm_recurrent(x_TBD), layer.weight_ih, layer.bias_ih)
        x_TBD, _ = block(x_TBD, None, None)


def _solved(model: LanguageModel, index: int, inputs_TBR: Tensor, tolerances: list[float]) -> Iterator[Solution]:
    layer = model.recurrent_layers[index]
    state = inputs_TBR.new_zeros(inputs_TBR.shape[1], layer.state_size)
    given = (layer.cell, inputs_TBR, layer.weight_hh, layer.bias_hh, state, None)
    in_order = partial(recur, *given, save=True)
    wanted = in_order().states_TBS
    for tolerance in tolerances:
        at_once = partial(solve_forward, *given, tolerance, MOST_SWEEPS)
        done = at_once()
        seconds = in_turn({"at once": at_once, "in order": in_order}, ROUNDS)
        error = float((done.states_TBS - wanted).norm() / wanted.norm())
        yield Solution(
            index, len(inputs_TBR), tolerance, done.sweeps, done.converged, done.residual, error,
            seconds["at once"], seconds["in order"],
        )  # fmt: skip
