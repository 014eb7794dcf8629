"""A wavefront whose forward and backward are one CUDA graph each: the host launches two things a window.

Imports torch. For windows of one shape, on a GPU. T time, B batch, D width, S state."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from torch.nn import Parameter

from ssrnn_dist.feedback.once import refuse_double_backward
from ssrnn_dist.feedback.solve import Trust
from ssrnn_dist.model.stand_ins import trained
from ssrnn_dist.model.wavefront import Chunked, Gradients, Run, edges
from ssrnn_dist.model.waves import streams_of


class GraphedWavefront:
    """wavefront() for windows like the given one: its shape, its types, autocast as it is now, resets or none.

    States may come in another type, as those that a window under autocast leaves do. The blocks' parameters stay where
    they are in memory, as optimizers that write into them leave them. One window at a time: its backward comes before
    the next forward."""

    def __init__(
        self,
        blocks: Sequence[Chunked],
        x_TBD: Tensor,
        states: Sequence[Tensor],
        reset_BT: Tensor | None,
        n_chunks: int,
    ) -> None:
        """ValueError: not on a GPU; blocks that wait for the host; no steps or no chunks."""
        if not x_TBD.is_cuda:
            raise ValueError(f"x_TBD: on {x_TBD.device}; allowed for a CUDA graph: cuda")
        self._blocks, self._chunks = blocks, edges(len(x_TBD), n_chunks)
        self._streams = streams_of(x_TBD.device, len(blocks))
        self._places = [parameter.data_ptr() for parameter in self._parameters()]
        self._x_TBD, self._states = x_TBD.detach().clone(), [each.detach().clone() for each in states]
        self._reset_BT = None if reset_BT is None else reset_BT.clone()
        self._casts, self._cast_to = torch.is_autocast_enabled("cuda"), torch.get_autocast_dtype("cuda")
        self.window = 0  # how many went through: which one the memory holds
        self._capture()

    def __call__(
        self, x_TBD: Tensor, states: Sequence[Tensor], reset_BT: Tensor | None = None
    ) -> tuple[Tensor, tuple[Tensor, ...]]:
        """As wavefront(). ValueError: another shape, type or kind than was captured, or a parameter that has moved."""
        self._check(x_TBD, states, reset_BT)
        y_TBD, *new_states = _Replayed.apply(self, reset_BT, x_TBD, *states, *self._parameters())
        return y_TBD, tuple(new_states)

    @property
    def n_blocks(self) -> int:
        return len(self._blocks)

    def _parameters(self) -> list[Parameter]:
        return [parameter for block in self._blocks for parameter in trained(block)]

    def replay_forward(self, x_TBD: Tensor, states: Sequence[Tensor], reset_BT: Tensor | None) -> list[Tensor]:
        """The last block's outputs and each block's state."""
        self.window += 1
        self._x_TBD.copy_(x_TBD)
        for held, state in zip(self._states, states, strict=True):
            held.copy_(state)
        if self._reset_BT is not None and reset_BT is not None:
            self._reset_BT.copy_(reset_BT)
        self._ahead.replay()
        return [each.clone() for each in self._outputs]

    def replay_backward(self, window: int, gradients: Sequence[Tensor]) -> Gradients:
        """Run.backward of the window that the memory holds; RuntimeError where it holds another."""
        if window != self.window:
            raise RuntimeError("another window went through this graph: each one's backward comes before the next")
        for held, gradient in zip(self._gradients, gradients, strict=True):
            held.copy_(gradient)
        self._back.replay()
        if not self._trust.was_right():
            return self._judged_again()
        x, states, parameters = self._found
        return x.clone(), [_cloned(each) for each in states], [_cloned(each) for each in parameters]

    def _capture(self) -> None:
        device = self._x_TBD.device
        with self._autocast():
            here = torch.cuda.Stream(device)
            here.wait_stream(torch.cuda.current_stream(device))
            with torch.cuda.stream(here):
                self._warm_up()
                with _nothing_waits_for_the_host():
                    self._warm_up()
            torch.cuda.current_stream(device).wait_stream(here)
            self._ahead, self._back = torch.cuda.CUDAGraph(), torch.cuda.CUDAGraph()
            with torch.cuda.graph(self._ahead):
                run, self._outputs = self._forward()
            self._gradients = [torch.zeros_like(each) for each in self._outputs]
            with torch.cuda.graph(self._back, pool=self._ahead.pool()):
                self._trust, self._found = self._trusting(run, self._gradients)

    def _warm_up(self) -> None:
        run, outputs = self._forward()
        self._trusting(run, [torch.zeros_like(each) for each in outputs])

    def _autocast(self) -> torch.autocast:
        """As it was when this was made; what it casts is cast anew, and belongs to its graph."""
        return torch.autocast("cuda", dtype=self._cast_to, enabled=self._casts, cache_enabled=False)

    def _forward(self) -> tuple[Run, list[Tensor]]:
        run = Run(self._blocks, self._chunks, self._reset_BT, learns=True, streams=self._streams)
        y_TBD, states = run.forward(self._x_TBD, self._states)
        return run, [y_TBD, *states]

    def _trusting(self, run: Run, gradients: Sequence[Tensor]) -> tuple[Trust, Gradients]:
        trust = Trust([block.feedback for block in self._blocks])
        with trust.given(), _no_autocast():
            return trust, run.back(gradients[0], gradients[1:])

    def _judged_again(self) -> Gradients:
        """The window in memory once more, without graphs, its sweeps judged: autograd keeps nothing of a replay."""
        with self._autocast():
            run, _ = self._forward()
        with _no_autocast():
            return run.back(self._gradients[0], self._gradients[1:])

    def _check(self, x_TBD: Tensor, states: Sequence[Tensor], reset_BT: Tensor | None) -> None:
        if len(states) != self.n_blocks:
            raise ValueError(f"states: {len(states)}; allowed: {self.n_blocks}, one a block")
        pairs = {
            "x_TBD": (_typed(x_TBD), _typed(self._x_TBD)),
            "reset_BT": (_typed(reset_BT), _typed(self._reset_BT)),
            **{f"states[{at}]": (_shaped(states[at]), _shaped(held)) for at, held in enumerate(self._states)},
        }
        for name, (came, held) in pairs.items():
            if came != held:
                raise ValueError(f"{name}: {came}; allowed in this graph: {held}")
        if self._places != [parameter.data_ptr() for parameter in self._parameters()]:
            raise ValueError("the blocks' parameters are elsewhere in memory; capture another graph")


class _Replayed(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, graphs: GraphedWavefront, reset_BT: Tensor | None, x_TBD: Tensor, *states_and_parameters: Tensor
    ) -> tuple[Tensor, ...]:
        outputs = graphs.replay_forward(x_TBD, states_and_parameters[: graphs.n_blocks], reset_BT)
        ctx.graphs, ctx.window = graphs, graphs.window
        return tuple(outputs)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        refuse_double_backward()
        to_x, to_states, to_parameters = ctx.graphs.replay_backward(ctx.window, gradients)
        return None, None, to_x, *to_states, *to_parameters


def _cloned(tensor: Tensor | None) -> Tensor | None:
    return None if tensor is None else tensor.clone()


def _typed(tensor: Tensor | None) -> str:
    return "None" if tensor is None else f"{tensor.dtype}, {_shaped(tensor)}"


def _shaped(tensor: Tensor) -> str:
    return f"shape {tuple(tensor.shape)}, {tensor.device}"


def _no_autocast() -> torch.autocast:
    """As a backward runs: in the types that the forward left."""
    return torch.autocast("cuda", enabled=False)


@contextmanager
def _nothing_waits_for_the_host() -> Iterator[None]:
    """ValueError where something within makes the host wait for the GPU; a capture that it ends leaves torch broken."""
    before = torch.cuda.get_sync_debug_mode()
    torch.cuda.set_sync_debug_mode("error")
    try:
        yield
    except RuntimeError as error:
        if "synchronizing" not in str(error):
            raise
        raise ValueError(
            "blocks: the host waits for the GPU in the middle of a window; allowed in a CUDA graph: "
            "what Triton's kernels serve (backends.py says which shapes and types they do)"
        ) from error
    finally:
        torch.cuda.set_sync_debug_mode(before)
