"""Heads whose weights are spread over many multiprocessors: who fits, and that they compute what the definition does.

Triton takes part where it can: on a GPU, or under TRITON_INTERPRET=1 (test_in_the_interpreter.py starts that)."""

import importlib.util
import os

import pytest
import torch
from torch import Tensor
from windows import each_cell, problem

from ssrnn_kernels import fused_bptt, fused_recurrence
from ssrnn_kernels.cell import Shape
from ssrnn_kernels.cells import CELLS
from ssrnn_kernels.fused_recurrence import recur
from ssrnn_kernels.window import Window

pytestmark = pytest.mark.skipif(importlib.util.find_spec("triton") is None, reason="triton is not installed")
INTERPRETED = os.environ.get("TRITON_INTERPRET") == "1"
ON_A_GPU = torch.cuda.is_available() and not INTERPRETED
SIZES = [(3, 3, 2, 20), (2, 18, 1, 24), (1, 1, 1, 257)]  # T, B, heads, units a head


@pytest.mark.skipif(not INTERPRETED, reason="in the interpreter the programs of a step run one by one, in float32")
@each_cell
@pytest.mark.parametrize("sizes", SIZES)
def test_triton_spreads_a_head(name: str, sizes: tuple[int, ...]) -> None:
    """NaN-filled memory, resets, sequences and units that fill no program."""
    import triton

    from ssrnn_kernels.fused_bptt.triton_spread import spread_bptt
    from ssrnn_kernels.fused_recurrence.triton_spread import spread_forward
    from ssrnn_kernels.gpu.spread import Spread, Tile

    _, n_batch, n_heads, head_size = sizes
    (inputs, weight, bias, state), reset = problem(name, *sizes, seed=1, resets=True)
    cell, shape = CELLS[name], Shape.of(CELLS[name], weight)
    spread = Spread(Tile(16, 16, 4), triton.cdiv(head_size, 16), n_heads, triton.cdiv(n_batch, 16), 1)
    wanted = recur(cell, inputs, weight, bias, state, reset, save=True, backend="torch")
    assert wanted.saved_TBQD is not None
    states, saved = (torch.full_like(each, torch.nan) for each in (wanted.states_TBS, wanted.saved_TBQD))
    states[0] = state
    spread_forward(spread, cell, shape, inputs, weight, bias, reset, states, saved)
    torch.testing.assert_close(states, wanted.states_TBS, rtol=0, atol=5e-6)
    torch.testing.assert_close(saved, wanted.saved_TBQD, rtol=1e-5, atol=5e-6)

    window, error = Window(cell, wanted.states_TBS, wanted.saved_TBQD, weight, reset), torch.randn_like(states[1:])
    torch.use_deterministic_algorithms(True)  # fills what is empty with NaN
    try:
        ours = spread_bptt(spread, window, error)
    finally:
        torch.use_deterministic_algorithms(False)
    begin = (name, wanted.states_TBS, wanted.saved_TBQD, weight, error, reset)
    for got, each in zip(
        (ours.delta_TBS, ours.gates_TBR, ours.inputs_TBR), fused_bptt(*begin, backend="torch"), strict=True
    ):
        torch.testing.assert_close(got, each, rtol=1e-5, atol=1e-5)


def both(name: str, tensors: list[Tensor], reset: Tensor | None, backend: str) -> dict[str, Tensor]:
    """States, and every gradient by BPTT."""
    leaves = [each.detach().requires_grad_() for each in tensors]
    states, saved = fused_recurrence(name, *leaves, reset, backend=backend)
    gradients = torch.autograd.grad(states.sum(), leaves)
    return {
        "states": states,
        "saved": saved,
        **dict(zip(("inputs", "weight", "bias", "state"), gradients, strict=True)),
    }


@pytest.mark.skipif(not ON_A_GPU, reason="programs that wait for one another need a GPU")
@each_cell
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("sizes", [(37, 16, 1, 768), (64, 5, 1, 300), (21, 40, 2, 257), (33, 1, 1, 1024)])
def test_a_head_spread_over_a_gpu(name: str, dtype: torch.dtype, sizes: tuple[int, ...]) -> None:
    """Its error beside float64 is at most twice torch's, and two runs are the same to the bit."""
    tensors, reset = problem(name, *sizes, seed=3, resets=True)
    assert reset is not None
    tensors, reset = [each.to("cuda", dtype) for each in tensors], reset.to("cuda")
    ours, again, torchs = (both(name, tensors, reset, backend) for backend in ("triton", "triton", "torch"))
    exact = both(name, [each.double() for each in tensors], reset, "torch")
    for output, wanted in exact.items():
        far, torch_far = ((each[output].double() - wanted).norm() for each in (ours, torchs))
        assert far <= 2 * torch_far, output
        assert torch.equal(ours[output], again[output]), output


def test_who_fits() -> None:
    from ssrnn_kernels.gpu.spread import BACKWARD, FORWARD, Chip, Tile, spread_over

    h100, a100 = Chip(132, 227 * 1024), Chip(108, 163 * 1024)

    def placed(chip: Chip, n_gates: int, head_size: int, n_batch: int, tiles: tuple[Tile, ...] = FORWARD) -> object:
        spread = spread_over(chip, Shape(n_gates, 1, 1, head_size), n_batch, tiles)
        return None if spread is None else (spread.tile, spread.grid, spread.gates_at_once)

    assert placed(h100, 3, 768, 16) == (Tile(8, 16, 2), (96, 1, 1), 1)
    assert placed(h100, 3, 768, 17) == (Tile(16, 16, 4), (48, 1, 2), 1)
    assert placed(h100, 3, 768, 64) == (Tile(16, 32, 8), (48, 1, 2), 1)
    assert placed(h100, 3, 768, 65) is None  # three blocks of 32 sequences want 144 multiprocessors
    assert placed(h100, 3, 1536, 16) == (Tile(16, 16, 4), (96, 1, 1), 1)
    assert placed(h100, 4, 2048, 16) is None  # too many weights
    assert placed(a100, 3, 768, 16) == (Tile(8, 16, 2), (96, 1, 1), 1)
    assert placed(h100, 3, 768, 16, BACKWARD) == (Tile(16, 16, 4), (48, 1, 1), 3)
    assert placed(h100, 4, 1024, 16, BACKWARD) == (Tile(16, 16, 4), (64, 1, 1), 2)  # half of the gates at once
    assert placed(h100, 3, 1024, 16, BACKWARD) == (Tile(16, 16, 8), (64, 1, 1), 3)
    assert placed(h100, 3, 1536, 16, BACKWARD) == (Tile(16, 16, 8), (96, 1, 1), 1)
    assert placed(a100, 4, 1024, 16, BACKWARD) is None
