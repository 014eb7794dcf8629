"""The performance model beside what the Triton kernels really load and store, counted in the interpreter."""

import os
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
import torch
from windows import each_cell, problem

from ssrnn_kernels import feedback_scan
from ssrnn_kernels.cell import Cell, Shape
from ssrnn_kernels.cells import CELLS
from ssrnn_kernels.costs import (
    Cost,
    Sizes,
    bptt_cost,
    chunked_scan_cost,
    feedback_cost,
    pass_cost,
    recurrence_cost,
    scan_cost,
)
from ssrnn_kernels.fused_recurrence import recur
from ssrnn_kernels.window import Window

INTERPRETED = os.environ.get("TRITON_INTERPRET") == "1"
interpreted = pytest.mark.skipif(not INTERPRETED, reason="counted in Triton's interpreter")
SHAPE = {"n_steps": 5, "n_batch": 2, "n_heads": 2, "head_size": 35, "seed": 0, "resets": False}
SIZES = Sizes(n_batch=2, n_steps=5, n_units=70, head_size=35, bytes_a_number=4)


@contextmanager
def counted() -> Iterator[Counter]:
    """Bytes read and written by the kernels that run meanwhile; masked elements are not."""
    from triton.runtime.interpreter import interpreter_builder

    seen: Counter = Counter()
    load, store = interpreter_builder.create_masked_load, interpreter_builder.create_masked_store

    def count(kind: str, pointers, mask) -> None:
        seen[kind] += int(mask.data.sum()) * max(1, pointers.get_element_ty().primitive_bitwidth // 8)

    def masked_load(pointers, mask, *more):
        count("read", pointers, mask)
        return load(pointers, mask, *more)

    def masked_store(pointers, value, mask, *more):
        count("written", pointers, mask)
        return store(pointers, value, mask, *more)

    interpreter_builder.create_masked_load, interpreter_builder.create_masked_store = masked_load, masked_store
    try:
        yield seen
    finally:
        interpreter_builder.create_masked_load, interpreter_builder.create_masked_store = load, store


def assert_costs(seen: Counter, cost: Cost) -> None:
    assert (seen["read"], seen["written"]) == (cost.read_bytes, cost.written_bytes)


@interpreted
@pytest.mark.parametrize("varies", [False, True])
@pytest.mark.parametrize("n_states", [1, 2])
@pytest.mark.parametrize("resets", [False, True])
def test_triton_scans_at_that_cost(varies: bool, n_states: int, resets: bool) -> None:
    states = () if n_states == 1 else (2,)
    error = torch.ones(2, 5, *states, 70)
    decay = torch.ones(*((2, 5) if varies else ()), *states * 2, 70)
    with counted() as seen:
        feedback_scan(error, decay, torch.zeros(2, 5, dtype=torch.bool) if resets else None, backend="triton")
    assert_costs(seen, scan_cost(SIZES, n_states, varies=varies, resets=resets))


@interpreted
@pytest.mark.parametrize("varies", [False, True])
@pytest.mark.parametrize("n_states", [1, 2])
def test_triton_scans_chunks_at_that_cost(varies: bool, n_states: int, monkeypatch: pytest.MonkeyPatch) -> None:
    from ssrnn_kernels.feedback_scan import triton

    monkeypatch.setattr(triton, "steps_of_a_chunk", lambda _, n_steps: 2 if n_steps == 5 else n_steps)
    states = () if n_states == 1 else (2,)
    with counted() as seen:
        decay = torch.ones(*((2, 5) if varies else ()), *states * 2, 70)
        feedback_scan(torch.ones(2, 5, *states, 70), decay, backend="triton")
    assert_costs(seen, chunked_scan_cost(SIZES, 2, n_states, varies=varies))


def window_of(cell: Cell) -> Window:
    tensors, _ = problem(cell.__name__.rpartition(".")[2], **SHAPE)
    trajectory = recur(cell, *tensors, None, save=True)
    assert trajectory.saved_TBQD is not None
    return Window(cell, trajectory.states_TBS, trajectory.saved_TBQD, tensors[1], None)


@interpreted
@each_cell
@pytest.mark.parametrize("selective", [False, True])
def test_triton_passes_at_that_cost(name: str, selective: bool) -> None:
    from ssrnn_kernels.fused_feedback.triton import triton_pass

    cell = CELLS[name]
    window, n = window_of(cell), CELLS[name].N_STATES
    error = torch.ones_like(window.states_TBS[1:])
    decay = None if selective else torch.zeros(n, n, 70)
    done = None
    for first, last in ((True, False), (False, False), (False, True)):
        flow = None if done is None else window.through(done.gates_TBR, window.weight_hh_RK)
        with counted() as seen:
            done = triton_pass(window, decay, error, flow, done, last=last)
        assert_costs(seen, pass_cost(cell, SIZES, selective=selective, first=first, last=last))
    with counted() as seen:
        triton_pass(window, decay, error, last=True)
    assert_costs(seen, pass_cost(cell, SIZES, selective=selective, first=True, last=True))


@interpreted
@each_cell
def test_triton_recurs_at_that_cost(name: str) -> None:
    from ssrnn_kernels.fused_bptt.triton import triton_bptt
    from ssrnn_kernels.fused_recurrence.triton import triton_forward

    cell, (tensors, _) = CELLS[name], problem(name, **SHAPE)
    window = window_of(cell)
    reset = torch.zeros(5, 2, dtype=torch.bool)
    arguments = (cell, Shape.of(cell, tensors[1]), *tensors[:3], reset, window.states_TBS, window.saved_TBQD)
    with counted() as seen:
        triton_forward(*arguments)
    assert_costs(seen, recurrence_cost(cell, SIZES, resets=True))
    with counted() as seen:
        triton_bptt(window, torch.ones_like(window.states_TBS[1:]))
    assert_costs(seen, bptt_cost(cell, SIZES))


@each_cell
def test_a_sweep_is_a_product_and_a_walk(name: str) -> None:
    """K sweeps make K times BPTT's product, and half the type moves half the bytes."""
    cell = CELLS[name]
    for refinements in (0, 1, 3):
        cost = feedback_cost(cell, SIZES, refinements)
        assert cost.product_flops == refinements * bptt_cost(cell, SIZES).product_flops
    half = Sizes(2, 5, 70, 35, 2)
    assert 2 * bptt_cost(cell, half).bytes == bptt_cost(cell, SIZES).bytes
