"""Blocks over chunks of time in waves: block l runs chunk c once block l − 1 has and it has run chunk c − 1 itself.

So a model of L blocks and C chunks is L + C − 1 chunks deep, not L · C, and what does not wait for one another runs at
once (waves.py). The way back mirrors it. Imports torch. T time, B batch, D width, S state."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import chain
from typing import Any, Protocol

import torch
from torch import Tensor
from torch.nn import Parameter

from ssrnn_dist.feedback.layer_feedback import LayerFeedback
from ssrnn_dist.feedback.once import refuse_double_backward
from ssrnn_dist.feedback.solve import Trust
from ssrnn_dist.model.stand_ins import HasModules, standing_in, trained
from ssrnn_dist.model.waves import Task, handed_out, on_streams, on_threads, streams_of


class Chunked(HasModules, Protocol):
    """A block that runs over a window chunk by chunk (language_model.Block)."""

    def chunk(
        self, x_TBD: Tensor, state_BS: Tensor | None, reset_BT: Tensor | None, before_KBS: Tensor | None
    ) -> tuple[Tensor, Tensor, Tensor]: ...

    @property
    def feedback(self) -> LayerFeedback: ...


def wavefront(
    blocks: Sequence[Chunked],
    x_TBD: Tensor,
    states: Sequence[Tensor],
    reset_BT: Tensor | None,
    n_chunks: int,
    n_threads: int,
) -> tuple[Tensor, tuple[Tensor, ...]]:
    """What the blocks make of a window one after another, chunk by chunk, and each block's state after it.

    states: (B, S) a block.  n_threads: of a CPU, a core each; 1 goes in order, to the same bits. A GPU takes a stream a
    block. Differentiable once, in x, the states and the blocks' parameters. ValueError: no steps or no chunks."""
    parameters = [parameter for block in blocks for parameter in trained(block)]
    learns = torch.is_grad_enabled() and any(each.requires_grad for each in (x_TBD, *states, *parameters))
    streams = streams_of(x_TBD.device, len(blocks)) if x_TBD.is_cuda and n_threads > 1 else None
    run = Run(blocks, edges(len(x_TBD), n_chunks), reset_BT, learns, n_threads, streams)
    x_TBD, *new_states = _Wavefront.apply(run, x_TBD, *states, *parameters)
    return x_TBD, tuple(new_states)


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


@dataclass
class Run:
    """The blocks' chunks of one window, forward and back; on streams, or else on threads."""

    blocks: Sequence[Chunked]
    chunks: list[tuple[int, int]]  # (first step, end) of each
    reset_BT: Tensor | None
    learns: bool
    n_threads: int = 1
    streams: Sequence[torch.cuda.Stream] | None = None
    pieces: dict[tuple[int, int], _Piece] = field(default_factory=dict)
    trained: list[list[Parameter]] = field(default_factory=list)  # by block: stand-ins, which forward() recorded

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

        with standing_in(self.blocks):
            self.trained = [trained(block) for block in self.blocks]
            self._each(one)
        after = torch.cat([self.pieces[n_blocks - 1, chunk].outputs[0].detach() for chunk in range(n_chunks)])
        new_states = [self.pieces[block, n_chunks - 1].outputs[1].detach() for block in range(n_blocks)]
        handed_out(new_states)
        return after, new_states

    def backward(self, grad_x_TBD: Tensor, grad_states: Sequence[Tensor | None]) -> "Gradients":
        """What back() gives. A GPU's sweeps are taken on trust: the host looks once, and where some grew goes again."""
        if self.streams is None:
            return self.back(grad_x_TBD, grad_states)
        trust = Trust([block.feedback for block in self.blocks])
        with trust.given():
            found = self.back(grad_x_TBD, grad_states, keep=True)
        if not trust.was_right():
            return self.back(grad_x_TBD, grad_states)
        self.pieces.clear()
        return found

    def back(self, grad_x_TBD: Tensor, grad_states: Sequence[Tensor | None], *, keep: bool = False) -> "Gradients":
        """Gradients of x, of the states and of the parameters, block by block; each sum goes from the last chunk on.

        keep: all that another backward of this window needs."""
        n_blocks, n_chunks = len(self.blocks), len(self.chunks)
        to_x: dict[tuple[int, int], Tensor] = {}
        to_before: dict[int, tuple[Tensor | None, Tensor | None]] = {}
        sums: list[list[Tensor | None]] = [[] for _ in self.blocks]

        def one(back_block: int, back_chunk: int) -> None:
            block, chunk = n_blocks - 1 - back_block, n_chunks - 1 - back_chunk
            piece, (first, end) = self.pieces[block, chunk], self.chunks[chunk]
            from_x = grad_x_TBD[first:end] if block == n_blocks - 1 else to_x[block + 1, chunk]
            from_state, from_token = (grad_states[block], None) if chunk == n_chunks - 1 else to_before[block]
            token = [] if piece.before_KBS is None else [piece.before_KBS]
            leaves = [piece.x_TBD, piece.state_BS, *token, *self.trained[block]]
            given = [
                pair
                for pair in zip(piece.outputs, (from_x, from_state, from_token), strict=True)
                if pair[1] is not None
            ]
            outputs, gradients = zip(*given, strict=True)
            found = torch.autograd.grad(outputs, leaves, gradients, allow_unused=True, retain_graph=keep)
            if not keep:
                del self.pieces[block, chunk]
            to_x[block, chunk] = found[0]
            to_before[block] = found[1], None if piece.before_KBS is None else found[2]
            ours = found[2 + len(token) :]
            sums[block] = [_sum(*pair) for pair in zip(sums[block] or [None] * len(ours), ours, strict=True)]

        self._each(one, back=True)
        grad_x = torch.cat([to_x[0, chunk] for chunk in range(n_chunks)])
        to_states, to_parameters = [to_before[block][0] for block in range(n_blocks)], [*chain.from_iterable(sums)]
        handed_out([*to_states, *to_parameters])
        return grad_x, to_states, to_parameters

    def _each(self, one: Task, *, back: bool = False) -> None:
        n_blocks, n_chunks = len(self.blocks), len(self.chunks)
        if self.streams is None:
            on_threads(n_blocks, n_chunks, one, self.n_threads)
        else:
            on_streams(n_blocks, n_chunks, one, self.streams[::-1] if back else self.streams)


Gradients = tuple[Tensor, list[Tensor | None], list[Tensor | None]]


def _sum(so_far: Tensor | None, more: Tensor | None) -> Tensor | None:
    if so_far is None or more is None:
        return more if so_far is None else so_far
    return so_far + more


class _Wavefront(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, run: Run, x_TBD: Tensor, *states_and_parameters: Tensor) -> tuple[Tensor, ...]:
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
