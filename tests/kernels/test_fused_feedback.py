"""A pass of feedback by every implementation against torch's, which defines it; Triton's forward and BPTT, too.

Triton takes part where it can: on a GPU, or under TRITON_INTERPRET=1 (test_fused_feedback_triton.py starts that)."""

import os
from collections.abc import Callable

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from windows import each_cell, problem, shapes, shapes_up_to

from ssrnn_kernels.cell import Shape
from ssrnn_kernels.cells import CELLS
from ssrnn_kernels.cpu.build import library_for
from ssrnn_kernels.fused_feedback import Pass, Window, exact_feedback, feedback_pass_for
from ssrnn_kernels.fused_feedback.torch_pass import torch_pass
from ssrnn_kernels.recurrence import recur

INTERPRETED = os.environ.get("TRITON_INTERPRET") == "1"
DEVICE = "cuda" if torch.cuda.is_available() and not INTERPRETED else "cpu"
WITH_TRITON = INTERPRETED or DEVICE == "cuda"
HAS_A_COMPILER = library_for(CELLS["gru"], torch.zeros(1)) is not None
implementations = pytest.mark.parametrize(
    "implementation", [*(["compiled"] if HAS_A_COMPILER else []), *(["triton"] if WITH_TRITON else [])]
)
EXAMPLES, SHAPES = (5, shapes_up_to(4, 2, 2)) if INTERPRETED else (30, shapes)


def pass_of(implementation: str, window: Window, error: Tensor) -> Callable[..., Pass]:
    if implementation == "triton":
        from ssrnn_kernels.fused_feedback.triton import triton_pass

        return triton_pass
    return feedback_pass_for(window, error)


def window_of(name: str, shape: dict, dtype: torch.dtype = torch.float32) -> Window:
    """A window as the forward leaves it, on the device where Triton runs if it does."""
    tensors, reset = problem(name, **shape)
    trajectory = recur(CELLS[name], *tensors, reset, save=True)
    saved = (each.to(DEVICE, dtype) for each in (trajectory.states_TBS, trajectory.saved_TBQD, tensors[1]))
    return Window(CELLS[name], *saved, None if reset is None else reset.to(DEVICE))


def draw(shape: tuple[int, ...], seed: int, dtype: torch.dtype) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed)).to(DEVICE, dtype)


def assert_passes_agree(window: Window, decay: Tensor | None, error: Tensor, ours: Callable, sweeps: int, far: float):
    """Every output of every pass, each implementation going on from its own."""
    weight = window.weights_beside_the_diagonal() if decay is None else window.weight_hh_RK
    mine: Pass | None = None
    theirs: Pass | None = None
    for sweep in range(sweeps + 1):
        flows = [None if each is None else window.through(each.gates_TBR, weight) for each in (mine, theirs)]
        last = sweep == sweeps
        mine = ours(window, decay, error, flows[0], mine, last=last)
        theirs = torch_pass(window, decay, error, flows[1], theirs, last=last)
        for output in ("delta_TBS", "gates_TBR", "inputs_TBR", "rest_TBS", "increment_B", "total_B"):
            got, wanted = getattr(mine, output), getattr(theirs, output)
            assert (got is None) == (wanted is None), output
            if got is not None:
                assert torch.allclose(got.double(), wanted.double(), rtol=far, atol=far), output


@implementations
@each_cell
@given(SHAPES, st.sampled_from(["selective", "constant"]), st.integers(0, 2))
@settings(max_examples=EXAMPLES, deadline=None)
def test_a_pass_is_torchs_pass(implementation: str, name: str, shape: dict, rule: str, sweeps: int) -> None:
    window = window_of(name, shape)
    error = draw(window.states_TBS[1:].shape, shape["seed"] + 1, torch.float32)
    n_states = CELLS[name].N_STATES
    block = n_states, n_states, window.shape.n_units
    decay = None if rule == "selective" else draw(block, 3, torch.float32) / 3
    assert_passes_agree(window, decay, error, pass_of(implementation, window, error), sweeps, far=2e-5)


with_triton = pytest.mark.skipif(not WITH_TRITON, reason="Triton runs on a GPU and in its interpreter")


@with_triton
@each_cell
@given(SHAPES)
@settings(max_examples=EXAMPLES, deadline=None)
def test_tritons_forward_is_the_definition(name: str, shape: dict) -> None:
    from ssrnn_kernels.recurrence.triton import triton_forward

    tensors, reset = problem(name, **shape)
    inputs, weight, bias, state = (each.to(DEVICE) for each in tensors)
    reset = None if reset is None else reset.to(DEVICE)
    cell, wanted = CELLS[name], recur(CELLS[name], inputs, weight, bias, state, reset, save=True)
    assert wanted.saved_TBQD is not None
    states, saved = (torch.full_like(each, torch.nan) for each in (wanted.states_TBS, wanted.saved_TBQD))
    states[0] = state
    triton_forward(cell, Shape.of(cell, weight), inputs, weight, bias, reset, states, saved)
    assert torch.allclose(states, wanted.states_TBS, rtol=0, atol=3e-6)
    assert torch.allclose(saved, wanted.saved_TBQD, rtol=2e-5, atol=3e-6)


@with_triton
@each_cell
@given(SHAPES)
@settings(max_examples=EXAMPLES, deadline=None)
def test_tritons_bptt_is_bptt(name: str, shape: dict) -> None:
    from ssrnn_kernels.fused_feedback.triton import triton_exact

    window = window_of(name, shape)
    error = draw(window.states_TBS[1:].shape, shape["seed"] + 1, torch.float32)
    ours, wanted = triton_exact(window, error), exact_feedback(window, error)
    for output, value in vars(wanted).items():
        assert torch.allclose(getattr(ours, output), value, rtol=2e-5, atol=2e-5), output


@with_triton
@each_cell
@pytest.mark.parametrize(("dtype", "far"), [(torch.float64, 1e-12), (torch.float16, 0.02), (torch.bfloat16, 0.15)])
def test_triton_computes_in_other_types(name: str, dtype: torch.dtype, far: float) -> None:
    shape = {"n_steps": 6, "n_batch": 2, "n_heads": 2, "head_size": 35, "seed": 1, "resets": True}
    window = window_of(name, shape, dtype)
    error = draw(window.states_TBS[1:].shape, 2, dtype)
    assert_passes_agree(window, None, error, pass_of("triton", window, error), 1, far)
