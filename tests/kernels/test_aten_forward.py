"""The forward by torch's own fused layer against the definition: documents packed, gates and the LSTM's c rebuilt."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from windows import problem, shapes

from ssrnn_kernels import fused_recurrence
from ssrnn_kernels.cells import CELLS
from ssrnn_kernels.fused_recurrence import recur
from ssrnn_kernels.fused_recurrence.aten import LAYERS, packed


@pytest.mark.parametrize("name", LAYERS)
@given(shapes, st.sampled_from([0.0, 0.3, 1.0]))
@settings(max_examples=25, deadline=None)
def test_it_is_the_definition(name: str, shape: dict, reset_rate: float) -> None:
    tensors, _ = problem(name, **{**shape, "n_heads": 1, "resets": False})
    tensors = [each.double() for each in tensors]
    size, generator = (shape["n_steps"], shape["n_batch"]), torch.Generator().manual_seed(shape["seed"])
    reset = torch.rand(size, generator=generator) < reset_rate if reset_rate else None
    for save in (True, False):
        ours = recur(CELLS[name], *tensors, reset, save=save, backend="aten")
        wanted = recur(CELLS[name], *tensors, reset, save=save, backend="torch")
        torch.testing.assert_close(ours.states_TBS, wanted.states_TBS, rtol=1e-11, atol=1e-11)
        if save:
            torch.testing.assert_close(ours.saved_TBQD, wanted.saved_TBQD, rtol=1e-11, atol=1e-11)


def test_documents_become_sequences_the_longest_first() -> None:
    """Lane 0: five steps that go on; lane 1: two, then a document of three; lane 2: a document from the start."""
    reset = torch.zeros(5, 3, dtype=torch.bool)
    reset[2, 1] = reset[0, 2] = True
    found = packed(reset)
    assert found.batch_sizes.tolist() == [4, 4, 3, 2, 2]
    assert found.lanes_M.tolist() == [0, 2, 1, 1]
    assert found.goes_on_M.tolist() == [True, False, False, True]
    steps_and_lanes = [divmod(place, 3) for place in found.order_N.tolist()]
    assert steps_and_lanes[:4] == [(0, 0), (0, 2), (2, 1), (0, 1)]
    assert sorted(steps_and_lanes) == [(t, b) for t in range(5) for b in range(3)]


def test_where_torch_has_no_such_layer_it_says_so() -> None:
    for name, heads in (("ugrnn", 1), ("gru", 2)):
        tensors, _ = problem(name, 3, 2, heads, 4, 0, False)
        with pytest.raises(ValueError, match="backend: 'aten', but torch has no fused layer for this"):
            fused_recurrence(name, *tensors, backend="aten")


@pytest.mark.parametrize("name", LAYERS)
def test_opcheck(name: str) -> None:
    tensors, reset = problem(name, 5, 3, 1, 4, 0, True)
    leaves = [each.double().requires_grad_() for each in tensors]
    torch.library.opcheck(torch.ops.ssrnn.fused_recurrence.default, (name, *leaves, reset, True, "aten"))
