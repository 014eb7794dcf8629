"""Feedback through chunks of time, each given what flows out of the one that follows, is the whole window's."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from windows import each_cell, problem, shapes

from ssrnn_kernels.cells import CELLS
from ssrnn_kernels.cpu.build import library_for
from ssrnn_kernels.fused_feedback import Refined, refine
from ssrnn_kernels.fused_recurrence import recur
from ssrnn_kernels.window import Window

BACKENDS = ["torch", *(["compiled"] if library_for(CELLS["gru"], torch.zeros(1)) else [])]


def steps_of(window: Window, start: int, stop: int) -> Window:
    reset = None if window.reset_TB is None else window.reset_TB[start:stop]
    return Window(
        window.cell, window.states_TBS[start : stop + 1], window.saved_TBQD[start:stop], window.weight_hh_RK, reset
    )


def by_chunks(
    window: Window, error: Tensor, decay: Tensor | None, sweeps: int, backend: str, size: int
) -> list[Refined]:
    """The last chunk first."""
    done, beyond = [], None
    for start in reversed(range(0, window.n_steps, size)):
        chunk = steps_of(window, start, min(start + size, window.n_steps))
        errors = error[start : start + size]
        done.append(refine(chunk, errors, decay, sweeps, backend, beyond, onward=True))
        beyond = done[-1].onward_KBS
    return done[::-1]


@pytest.mark.parametrize("backend", BACKENDS)
@each_cell
@given(shapes, st.integers(1, 5), st.integers(0, 3), st.booleans())
@settings(max_examples=25, deadline=None)
def test_chunks_of_time_are_the_whole(
    backend: str, name: str, shape: dict, size: int, sweeps: int, selective: bool
) -> None:
    tensors, reset = problem(name, **shape)
    dtype = torch.float64 if backend == "torch" else torch.float32
    trajectory = recur(CELLS[name], *tensors, reset, save=True)
    assert trajectory.saved_TBQD is not None
    states, saved, weight = (each.to(dtype) for each in (trajectory.states_TBS, trajectory.saved_TBQD, tensors[1]))
    window = Window(CELLS[name], states, saved, weight, reset)
    error = torch.randn(states[1:].shape, generator=torch.Generator().manual_seed(shape["seed"])).to(dtype)
    n = CELLS[name].N_STATES
    decay = None if selective else torch.linspace(-0.9, 0.9, n * n * window.shape.n_units).view(n, n, -1).to(dtype)
    whole = refine(window, error, decay, sweeps, backend, onward=True)
    chunks = by_chunks(window, error, decay, sweeps, backend, size)
    far = 1e-11 if backend == "torch" else 2e-5
    for output in ("delta_TBS", "gates_TBR", "inputs_TBR"):
        ours = torch.cat([getattr(each.solved, output) for each in chunks])
        torch.testing.assert_close(ours, getattr(whole.solved, output), rtol=far, atol=far)
    assert chunks[0].onward_KBS is not None
    torch.testing.assert_close(chunks[0].onward_KBS, whole.onward_KBS, rtol=far, atol=far)
    norms = torch.stack([each.norms_KB for each in chunks]).norm(dim=0)
    torch.testing.assert_close(norms, whole.norms_KB, rtol=far, atol=far)


@each_cell
def test_what_flows_on_is_the_gradient_of_the_initial_state(name: str) -> None:
    """With as many sweeps as steps the scan and the sweeps together send what BPTT does."""
    tensors, reset = problem(name, 5, 3, 2, 4, 1, True)
    trajectory = recur(CELLS[name], *(each.double() for each in tensors), reset, save=True)
    assert trajectory.saved_TBQD is not None
    window = Window(CELLS[name], trajectory.states_TBS, trajectory.saved_TBQD, tensors[1].double(), reset)
    done = refine(window, torch.ones_like(trajectory.after_TBS), None, 6, onward=True)
    wanted = window.first_steps(1).full_flow(done.solved.delta_TBS[:1])[0]
    assert done.onward_KBS is not None
    torch.testing.assert_close(done.onward_KBS.sum(dim=0), wanted)
