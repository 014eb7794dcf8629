"""The parallel forward against the sequential one, which defines it: every cell, resets, gradients, and giving up."""

import logging

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from windows import each_cell, problem, shapes

from ssrnn_kernels import fused_recurrence, parallel_recurrence
from ssrnn_kernels.feedback_scan import forward_scan


@pytest.mark.parametrize("varies", [False, True])
@pytest.mark.parametrize("states", [(), (2,)])
def test_the_forward_scan_is_its_loop(varies: bool, states: tuple[int, ...]) -> None:
    generator = torch.Generator().manual_seed(0)
    values = torch.randn(2, 5, *states, 3, generator=generator, dtype=torch.float64)
    decay = torch.randn(*((2, 5) if varies else ()), *states * 2, 3, generator=generator, dtype=torch.float64)
    reset = torch.tensor([[False, False, True, False, False], [False] * 4 + [True]])
    before, wanted = torch.zeros_like(values[:, 0]), []
    for t in range(5):
        factor = decay[:, t] if varies else decay
        flow = torch.einsum("...ijd,...jd->...id", factor, before) if states else factor * before
        before = values[:, t] + flow.masked_fill(reset[:, t].view(2, *(1,) * (flow.dim() - 1)), 0)
        wanted.append(before)
    torch.testing.assert_close(forward_scan(values, decay, reset), torch.stack(wanted, 1))


@each_cell
@given(shapes, st.sampled_from([1e-3, 1e-9]))
@settings(max_examples=15, deadline=None)
def test_it_comes_to_the_sequential_states(name: str, shape: dict, tolerance: float) -> None:
    tensors, reset = problem(name, **shape)
    tensors = [each.double() for each in tensors]
    states, saved, sweeps = parallel_recurrence(name, *tensors, reset, tolerance=tolerance)
    wanted, wanted_saved = fused_recurrence(name, *tensors, reset)
    assert sweeps <= shape["n_steps"]
    far = 30 * tolerance * max(1.0, wanted.norm().item())
    assert (states - wanted).norm() <= far
    assert (saved - wanted_saved).norm() <= far


@each_cell
def test_gradients_are_bptts(name: str) -> None:
    tensors, reset = problem(name, 12, 2, 2, 5, 0, True)
    leaves = [each.double().requires_grad_() for each in tensors]
    found = {}
    for kind, op in (("parallel", parallel_recurrence), ("sequential", fused_recurrence)):
        states, *_ = op(name, *leaves, reset, **({"tolerance": 1e-12} if kind == "parallel" else {}))
        found[kind] = torch.autograd.grad(states.square().sum(), leaves)
    for ours, wanted in zip(found["parallel"], found["sequential"], strict=True):
        torch.testing.assert_close(ours, wanted, rtol=1e-8, atol=1e-8)


@each_cell
def test_opcheck(name: str) -> None:
    tensors, reset = problem(name, 6, 2, 1, 4, 0, True)
    leaves = [each.double().requires_grad_() for each in tensors]
    torch.library.opcheck(torch.ops.ssrnn.parallel_recurrence.default, (name, *leaves, reset, 1e-6, 20))


def test_where_sweeps_do_not_converge_it_goes_step_by_step(caplog: pytest.LogCaptureFixture) -> None:
    """Weights so large that the diagonal says little of the Jacobian, and too few sweeps for all steps."""
    tensors, _ = problem("elman", 60, 2, 1, 16, 0, False)
    tensors[1] *= 8
    with caplog.at_level(logging.WARNING):
        states, saved, sweeps = parallel_recurrence("elman", *tensors, most_sweeps=20)
    wanted, wanted_saved = fused_recurrence("elman", *tensors)
    assert sweeps == 0
    assert torch.equal(states, wanted)
    assert torch.equal(saved, wanted_saved)
    assert "parallel sweeps left a residual of" in caplog.text
    assert "step by step instead" in caplog.text


def test_what_is_not_a_number_stays_where_it_is() -> None:
    tensors, _ = problem("gru", 8, 2, 1, 4, 0, False)
    tensors[0][3, 1] = torch.nan
    states, _, sweeps = parallel_recurrence("gru", *tensors)
    assert sweeps == 0
    assert states[:, 0].isfinite().all()
    assert states[:4, 1].isfinite().all()


@pytest.mark.parametrize("tolerance", [0.0, -1.0, float("nan")])
def test_a_tolerance_that_cannot_be_is_named(tolerance: float) -> None:
    tensors, _ = problem("gru", 3, 1, 1, 2, 0, False)
    with pytest.raises(ValueError, match="tolerance: .*; allowed: more than 0"):
        parallel_recurrence("gru", *tensors, tolerance=tolerance)


def test_wrong_tensors_are_named() -> None:
    tensors, _ = problem("gru", 3, 1, 1, 2, 0, False)
    with pytest.raises(ValueError, match=r"bias_hh: shape \(5,\)"):
        parallel_recurrence("gru", tensors[0], tensors[1], torch.zeros(5), tensors[3])
