"""`ssrnn bench wavefront`: a model's blocks over chunks of time in waves, on threads, beside one block after another.

Imports torch and the model. Refuses to time a wave that is wrong. T time, B batch, D width."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor

from ssrnn_dist.bench.timing import in_turn
from ssrnn_dist.config.model import ModelConfig
from ssrnn_dist.model.language_model import LanguageModel
from ssrnn_dist.model.wavefront import wavefront
from ssrnn_dist.problems import RunFailed

FAR = 1e-4  # relative: chunks add the weights' gradients up in another order


@dataclass(frozen=True)
class Timing:
    """Forward and backward of all blocks: the median over the rounds. Ratios above 1 are faster than block by block."""

    n_chunks: int  # 1: block after block, over the whole window, every product on all cores
    seconds: float
    ratio: float
    forward_seconds: float
    forward_ratio: float


def measure(config: ModelConfig, n_batch: int, n_steps: int, chunks: list[int], repeats: int) -> Iterator[Timing]:
    """RunFailed where waves and blocks in order, or one window and its chunks, are not the same."""
    torch.manual_seed(0)
    model = LanguageModel(config)
    x, weigh = (torch.randn(n_steps, n_batch, config.d_model) for _ in range(2))
    n_threads = torch.get_num_threads()

    def forward(n_chunks: int, n_threads: int) -> Callable[[Tensor], Tensor]:
        states = model.zero_state(n_batch)
        if n_chunks == 1:
            return lambda x_TBD: _in_order(model, x_TBD)
        return lambda x_TBD: wavefront(model.blocks_in_order, x_TBD, states, None, n_chunks, n_threads)[0]

    whole = _gradients(model, forward(1, n_threads), x, weigh)
    for n_chunks in chunks:
        waves, in_order = (_gradients(model, forward(n_chunks, threads), x, weigh) for threads in (n_threads, 1))
        if not all(torch.equal(*pair) for pair in zip(waves, in_order, strict=True)):
            raise RunFailed(f"{n_chunks} chunks: waves and chunks in order are not the same: nothing is timed")
        far = max(
            float((ours - all_at_once).norm() / all_at_once.norm())
            for ours, all_at_once in zip(waves, whole, strict=True)
        )
        if not far <= FAR:
            raise RunFailed(f"{n_chunks} chunks: off by {far:.1e} of the whole window: nothing is timed")
    runs: dict[tuple[int, bool], Callable[[], object]] = {}
    for n_chunks in (1, *chunks):
        run = forward(n_chunks, n_threads)
        runs[n_chunks, True] = partial(_gradients, model, run, x, weigh)
        runs[n_chunks, False] = partial(run, x)
    seconds = in_turn(runs, repeats)
    for n_chunks in (1, *chunks):
        both, ahead = seconds[n_chunks, True], seconds[n_chunks, False]
        yield Timing(n_chunks, both, seconds[1, True] / both, ahead, seconds[1, False] / ahead)


def _in_order(model: LanguageModel, x_TBD: Tensor) -> Tensor:
    for block in model.blocks:
        x_TBD, _ = block(x_TBD, None, None)
    return x_TBD


def _gradients(model: LanguageModel, run: Callable[[Tensor], Tensor], x: Tensor, weigh: Tensor) -> list[Tensor]:
    x = x.detach().requires_grad_()
    return list(torch.autograd.grad((run(x) * weigh).sum(), [x, *model.blocks.parameters()]))
