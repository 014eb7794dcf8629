"""`ssrnn bench wavefront`: a model's blocks over chunks of time in waves, beside one block after another.

Imports torch and the model. Refuses to time a wave that is wrong. T time, B batch, D width."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor

from ssrnn_dist.bench.on_a_gpu import clock_of
from ssrnn_dist.bench.timing import in_turn
from ssrnn_dist.config.model import ModelConfig
from ssrnn_dist.model.graphed_wavefront import GraphedWavefront
from ssrnn_dist.model.language_model import LanguageModel
from ssrnn_dist.model.wavefront import edges, wavefront
from ssrnn_dist.problems import RunFailed

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}
FAR = {"float32": 1e-4, "bfloat16": 4e-2}  # relative: chunks add the weights' gradients up in another order
Forward = Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class Case:
    n_batch: int
    n_steps: int
    device: str = "cpu"
    dtype: str = "float32"


@dataclass(frozen=True)
class Timing:
    """Forward and backward of all blocks: the median over the rounds. Ratios above 1 are faster than block by block."""

    n_chunks: int  # 1: block after block, over the whole window
    graph: bool  # on a GPU: replayed as CUDA graphs
    seconds: float
    ratio: float
    forward_seconds: float
    forward_ratio: float


def measure(config: ModelConfig, case: Case, chunks: Sequence[int], repeats: int) -> Iterator[Timing]:
    """RunFailed where waves and blocks in order, or one window and its chunks, are not the same."""
    torch.backends.cudnn.allow_tf32 = False  # float32 is float32, as in our kernels
    torch.manual_seed(0)
    model = LanguageModel(config).to(case.device, DTYPES[case.dtype])
    shape = case.n_steps, case.n_batch, config.d_model
    x, weigh = (torch.randn(*shape).to(model.norm.weight) for _ in range(2))
    chunks = [n for n in dict.fromkeys(len(edges(case.n_steps, n)) for n in chunks) if n > 1]  # those that there can be
    ways = {(1, False): partial(_in_order, model)} | {(n, False): _waves(model, case, n) for n in chunks}
    if case.device == "cuda":
        ways |= {(n, True): _graphed(model, x, case, n) for n in (1, *chunks)}
    _check(model, case, ways, x, weigh)
    runs: dict[tuple[int, bool, str], Callable[[], object]] = {}
    for way, forward in ways.items():
        runs[*way, "both"] = partial(_gradients, model, forward, x, weigh)
        runs[*way, "forward"] = partial(forward, x)
    seconds = in_turn(runs, repeats, clock_of(case.device))
    alone, alone_ahead = seconds[1, False, "both"], seconds[1, False, "forward"]
    for n_chunks, graph in ways:
        both, ahead = seconds[n_chunks, graph, "both"], seconds[n_chunks, graph, "forward"]
        yield Timing(n_chunks, graph, both, alone / both, ahead, alone_ahead / ahead)


def _check(model: LanguageModel, case: Case, ways: dict[tuple[int, bool], Forward], x: Tensor, weigh: Tensor) -> None:
    whole = _gradients(model, ways[1, False], x, weigh)
    for n_chunks, graph in [way for way in ways if way != (1, False)]:
        name = f"{n_chunks} chunks{' in a graph' * graph}"
        waves = _gradients(model, ways[n_chunks, graph], x, weigh)
        in_order = _gradients(model, _waves(model, case, n_chunks, 1), x, weigh)
        if not all(torch.equal(*pair) for pair in zip(waves, in_order, strict=True)):
            raise RunFailed(f"{name}: waves and chunks in order are not the same: nothing is timed")
        far = max(
            float((ours - all_at_once).norm() / all_at_once.norm())
            for ours, all_at_once in zip(waves, whole, strict=True)
        )
        if not far <= FAR[case.dtype]:
            raise RunFailed(f"{name}: off by {far:.1e} of the whole window: nothing is timed")


def _in_order(model: LanguageModel, x_TBD: Tensor) -> Tensor:
    for block in model.blocks:
        x_TBD, _ = block(x_TBD, None, None)
    return x_TBD


def _waves(model: LanguageModel, case: Case, n_chunks: int, n_threads: int | None = None) -> Forward:
    states, threads = model.zero_state(case.n_batch), n_threads or max(2, torch.get_num_threads())
    return lambda x_TBD: wavefront(model.blocks_in_order, x_TBD, states, None, n_chunks, threads)[0]


def _graphed(model: LanguageModel, x: Tensor, case: Case, n_chunks: int) -> Forward:
    states = model.zero_state(case.n_batch)
    graphed = GraphedWavefront(model.blocks_in_order, x, states, None, n_chunks)
    return lambda x_TBD: graphed(x_TBD, states)[0]


def _gradients(model: LanguageModel, run: Forward, x: Tensor, weigh: Tensor) -> list[Tensor]:
    x = x.detach().requires_grad_()
    return list(torch.autograd.grad((run(x) * weigh).sum(), [x, *model.blocks.parameters()]))
