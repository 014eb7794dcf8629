"""Blocks over chunks of time in waves: block l runs chunk c once block l − 1 has and it has run chunk c − 1 itself.

So a model of L blocks and C chunks is L + C − 1 chunks deep, not L · C, and what does not wait for one another runs on
threads of its own, each on one core. The way back mirrors it. Imports torch. T time, B batch, D width, S state."""

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from threading import Event, Lock
from typing import Any, Protocol

import torch
from torch import Tensor
from torch.nn import Parameter

from ssrnn_dist.feedback.once import refuse_double_backward


class Chunked(Protocol):
    """A block that runs over a window chunk by chunk (language_model.Block)."""

    def chunk(
        self, x_TBD: Tensor, state_BS: Tensor | None, reset_BT: Tensor | None, before_KBS: Tensor | None
    ) -> tuple[Tensor, Tensor, Tensor]: ...

    def parameters(self) -> Iterator[Parameter]: ...


def wavefront(
    blocks: Sequence[Chunked],
    x_TBD: Tensor,
    states: Sequence[Tensor],
    reset_BT: Tensor | None,
    n_chunks: int,
    n_threads: int,
) -> tuple[Tensor, tuple[Tensor, ...]]:
    """What the blocks make of a window one after another, chunk by chunk, and each block's state after it.

    states: (B, S) a block.  n_threads: 1 goes in order, to the same bits.
    Differentiable once, in x, the states and the blocks' parameters; on a CPU. ValueError: no steps or no chunks."""
    parameters = [parameter for block in blocks for parameter in trained(block)]
    learns = torch.is_grad_enabled() and any(each.requires_grad for each in (x_TBD, *states, *parameters))
    run = _Run(list(blocks), len(x_TBD), reset_BT, n_chunks, n_threads, learns)
    x_TBD, *new_states = _Wavefront.apply(run, x_TBD, *states, *parameters)
    return x_TBD, tuple(new_states)


def trained(block: Chunked) -> list[Parameter]:
    return [parameter for parameter in block.parameters() if parameter.requires_grad]


def edges(n_steps: int, n_chunks: int) -> list[tuple[int, int]]:
    """(first, end) of chunks of equal length, the last perhaps shorter."""
    if n_steps < 1 or n_chunks < 1:
        raise ValueError(f"{n_steps} steps in {n_chunks} chunks; allowed: 1 or more of each")
    size = -(-n_steps // n_chunks)
    return [(first, min(first + size, n_steps)) for first in range(0, n_steps, size)]


@dataclass
class _Piece:
    """A block on a chunk: the leaves of its own small graph, and what it gave."""

    x_TBD: Tensor
    state_BS: Tensor
    before_KBS: Tensor | None
    outputs: tuple[Tensor, Tensor, Tensor]  # x, state, and what hangs chunks together


class _Run:
    """The blocks' chunks of one window, forward and back."""

    def __init__(
        self,
        blocks: list[Chunked],
        n_steps: int,
        reset_BT: Tensor | None,
        n_chunks: int,
        n_threads: int,
        learns: bool,
    ) -> None:
        self.blocks, self.reset_BT, self.n_threads, self.learns = blocks, reset_BT, n_threads, learns
        self.chunks = edges(n_steps, n_chunks)
        self.pieces: dict[tuple[int, int], _Piece] = {}

    def forward(self, x_TBD: Tensor, states: Sequence[Tensor]) -> tuple[Tensor, list[Tensor]]:
        n_blocks, n_chunks = len(self.blocks), len(self.chunks)

        def one(block: int, chunk: int) -> None:
            first, end = self.chunks[chunk]
            x = x_TBD[first:end] if block == 0 else self.pieces[block - 1, chunk].outputs[0]
            before = None if chunk == 0 else self.pieces[block, chunk - 1].outputs
            state = states[block] if before is None else before[1]
            leaves = x.detach().requires_grad_(), state.detach().requires_grad_()
            token = None if before is None else before[2].detach().requires_grad_()
            reset_BT = None if self.reset_BT is None else self.reset_BT[:, first:end]
            with torch.set_grad_enabled(self.learns):
                outputs = self.blocks[block].chunk(*leaves, reset_BT, token)
            self.pieces[block, chunk] = _Piece(*leaves, token, outputs)

        in_waves(n_blocks, n_chunks, one, self.n_threads)
        after = torch.cat([self.pieces[n_blocks - 1, chunk].outputs[0].detach() for chunk in range(n_chunks)])
        return after, [self.pieces[block, n_chunks - 1].outputs[1].detach() for block in range(n_blocks)]

    def backward(
        self, grad_x_TBD: Tensor, grad_states: Sequence[Tensor | None]
    ) -> tuple[Tensor, list[Tensor | None], list[Tensor | None]]:
        """Gradients of x, of the states and of the parameters, block by block; each sum goes from the last chunk on."""
        n_blocks, n_chunks = len(self.blocks), len(self.chunks)
        to_x: dict[tuple[int, int], Tensor] = {}
        to_before: dict[int, tuple[Tensor | None, Tensor | None]] = {}
        sums: list[list[Tensor | None]] = [[] for _ in self.blocks]

        def one(back_block: int, back_chunk: int) -> None:
            block, chunk = n_blocks - 1 - back_block, n_chunks - 1 - back_chunk
            piece, (first, end) = self.pieces.pop((block, chunk)), self.chunks[chunk]
            from_x = grad_x_TBD[first:end] if block == n_blocks - 1 else to_x.pop((block + 1, chunk))
            from_state, from_token = (grad_states[block], None) if chunk == n_chunks - 1 else to_before[block]
            parameters = trained(self.blocks[block])
            leaves = [
                piece.x_TBD,
                piece.state_BS,
                *([] if piece.before_KBS is None else [piece.before_KBS]),
                *parameters,
            ]
            given = [
                pair
                for pair in zip(piece.outputs, (from_x, from_state, from_token), strict=True)
                if pair[1] is not None
            ]
            outputs, gradients = zip(*given, strict=True)
            found = torch.autograd.grad(outputs, leaves, gradients, allow_unused=True)
            to_x[block, chunk] = found[0]
            to_before[block] = found[1], None if piece.before_KBS is None else found[2]
            ours = found[len(leaves) - len(parameters) :]
            sums[block] = [_sum(*pair) for pair in zip(sums[block] or [None] * len(ours), ours, strict=True)]

        in_waves(n_blocks, n_chunks, one, self.n_threads)
        grad_x = torch.cat([to_x[0, chunk] for chunk in range(n_chunks)])
        return grad_x, [to_before[block][0] for block in range(n_blocks)], [each for block in sums for each in block]


def _sum(so_far: Tensor | None, more: Tensor | None) -> Tensor | None:
    if so_far is None or more is None:
        return more if so_far is None else so_far
    return so_far + more


class _Wavefront(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, run: _Run, x_TBD: Tensor, *states_and_parameters: Tensor) -> tuple[Tensor, ...]:
        n_blocks = len(run.blocks)
        x_TBD, states = run.forward(x_TBD, states_and_parameters[:n_blocks])
        ctx.run = run
        return x_TBD, *states

    @staticmethod
    def backward(ctx: Any, grad_x_TBD: Tensor, *grad_states: Tensor) -> tuple[Tensor | None, ...]:
        refuse_double_backward()
        if not ctx.run.pieces:
            raise RuntimeError("a wavefront's backward runs once: what it needs is gone; retain_graph does not keep it")
        grad_x, to_states, to_parameters = ctx.run.backward(grad_x_TBD, grad_states)
        return None, grad_x, *to_states, *to_parameters


def in_waves(n_blocks: int, n_chunks: int, one: Callable[[int, int], None], n_threads: int) -> None:
    """one(block, chunk) for all, each after (block − 1, chunk) and (block, chunk − 1); the first error ends it."""
    with one_core_each():
        if n_threads == 1:
            for block in range(n_blocks):
                for chunk in range(n_chunks):
                    one(block, chunk)
        else:
            _Waves(n_blocks, n_chunks, one, _pool(n_threads)).run()


class _Waves:
    """The tasks of one call, handed to a pool as they become ready."""

    def __init__(self, n_blocks: int, n_chunks: int, one: Callable[[int, int], None], pool: ThreadPoolExecutor) -> None:
        self.one, self.pool, self.last = one, pool, (n_blocks - 1, n_chunks - 1)
        self.waits_for = {(b, c): (b > 0) + (c > 0) for b in range(n_blocks) for c in range(n_chunks)}
        self.lock, self.ended, self.errors = Lock(), Event(), list[BaseException]()
        self.autocast = torch.is_autocast_enabled("cpu"), torch.get_autocast_dtype("cpu")  # which torch keeps by thread

    def run(self) -> None:
        self.pool.submit(self._run, 0, 0)
        self.ended.wait()
        if self.errors:
            raise self.errors[0]

    def _run(self, block: int, chunk: int) -> None:
        enabled, dtype = self.autocast
        try:
            with torch.autocast("cpu", dtype=dtype, enabled=enabled):
                self.one(block, chunk)
        except BaseException as error:
            self.errors.append(error)
        if self.errors or (block, chunk) == self.last:
            self.ended.set()
            return
        for after in self._ready_after(block, chunk):
            self.pool.submit(self._run, *after)

    def _ready_after(self, block: int, chunk: int) -> list[tuple[int, int]]:
        with self.lock:
            after = [place for place in ((block, chunk + 1), (block + 1, chunk)) if place in self.waits_for]
            for place in after:
                self.waits_for[place] -= 1
            return [place for place in after if not self.waits_for[place]]


@contextmanager
def one_core_each() -> Iterator[None]:
    """torch on one thread, here and in threads that start meanwhile: its number is the process's and the thread's."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


@cache
def _pool(n_threads: int) -> ThreadPoolExecutor:
    return ThreadPoolExecutor(n_threads, "wavefront")
