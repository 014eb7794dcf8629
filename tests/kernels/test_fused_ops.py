"""The fused ops as torch.library has them: its checks, gradients, compilation, who is chosen, clear errors."""

import importlib.util
import logging
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor
from torch._subclasses import FakeTensorMode
from windows import each_cell, problem

from ssrnn_kernels import backends, fused_bptt, fused_feedback, fused_recurrence
from ssrnn_kernels.backends import backend_for
from ssrnn_kernels.cell import Shape
from ssrnn_kernels.cells import CELLS
from ssrnn_kernels.cpu.build import library_for
from ssrnn_kernels.fused_recurrence import recurrence_reference

SHAPE = {"n_steps": 5, "n_batch": 3, "n_heads": 2, "head_size": 3, "seed": 0}
BACKENDS = ["torch", *(["compiled"] if library_for(CELLS["gru"], torch.zeros(1)) else [])]


def leaves(name: str, dtype: torch.dtype = torch.float64) -> tuple[list[Tensor], Tensor]:
    """Inputs, weight, bias and state that want gradients, and resets."""
    tensors, reset = problem(name, **SHAPE, resets=True)
    assert reset is not None
    return [each.to(dtype).requires_grad_() for each in tensors], reset


def window(name: str, dtype: torch.dtype = torch.float32) -> tuple[tuple[Any, ...], Tensor]:
    """What the ops that go back in time begin with, and resets."""
    tensors, reset = leaves(name, dtype)
    states, saved = (each.detach() for each in fused_recurrence(name, *tensors, reset))
    return (name, states, saved, tensors[1].detach(), torch.randn_like(states[1:])), reset


@each_cell
def test_the_recurrence_is_differentiated_as_autograd_does_the_definition(name: str) -> None:
    tensors, reset = leaves(name)
    states, saved = fused_recurrence(name, *tensors, reset)
    wanted = recurrence_reference(CELLS[name], *tensors, reset)
    weigh = torch.randn_like(wanted)
    assert torch.allclose(states[1:], wanted, rtol=0, atol=1e-12)
    assert not saved.requires_grad
    ours = torch.autograd.grad((states[1:] * weigh).sum() + states[0].square().sum(), tensors)
    theirs = torch.autograd.grad((wanted * weigh).sum() + tensors[3].square().sum(), tensors)
    for got, expected in zip(ours, theirs, strict=True):
        torch.testing.assert_close(got, expected)


@each_cell
@pytest.mark.parametrize("backend", BACKENDS)
def test_opcheck(name: str, backend: str) -> None:
    dtype = torch.float32 if backend == "compiled" else torch.float64
    tensors, reset = leaves(name, dtype)
    torch.library.opcheck(torch.ops.ssrnn.fused_recurrence.default, (name, *tensors, reset, True, backend))
    torch.library.opcheck(
        torch.ops.ssrnn.fused_recurrence.default, (name, *(each.detach() for each in tensors), None, False, backend)
    )
    (*begin, error), reset = window(name, dtype)
    torch.library.opcheck(torch.ops.ssrnn.fused_bptt.default, (*begin, error, reset, backend))
    n, d = CELLS[name].N_STATES, SHAPE["n_heads"] * SHAPE["head_size"]
    for decay, refinements in ((None, 2), (torch.rand(n, n, d, dtype=dtype), 1), (torch.rand(n, n, d, dtype=dtype), 0)):
        beyond = None if refinements == 0 else torch.rand(refinements + 1, *error.shape[1:], dtype=dtype)
        given = (*begin, error, reset, decay, beyond, refinements, backend)
        torch.library.opcheck(torch.ops.ssrnn.fused_feedback.default, given)


@each_cell
def test_enough_sweeps_are_bptt_and_two_runs_are_the_same(name: str) -> None:
    begin, reset = window(name)
    exact = fused_bptt(*begin, reset)
    delta, gates, inputs, increments, total, onward = fused_feedback(*begin, reset, refinements=SHAPE["n_steps"] - 1)
    for ours, wanted in zip((delta, gates, inputs), exact, strict=True):
        torch.testing.assert_close(ours, wanted, rtol=1e-4, atol=1e-5)
    assert increments.shape == (SHAPE["n_steps"], SHAPE["n_batch"])
    torch.testing.assert_close(total, torch.linalg.vector_norm(delta, dim=(0, 2), dtype=torch.float64))
    again = fused_feedback(*begin, reset, refinements=SHAPE["n_steps"] - 1)
    assert all(
        torch.equal(*pair) for pair in zip(again, (delta, gates, inputs, increments, total, onward), strict=True)
    )


@pytest.mark.parametrize("compiler", ["aot_eager", "inductor"])
def test_compiles_into_one_graph_forward_and_backward(compiler: str) -> None:
    tensors, reset = leaves("gru", torch.float32)

    def loss(inputs: Tensor, weight: Tensor, bias: Tensor, state: Tensor) -> Tensor:
        states, saved = fused_recurrence("gru", inputs * 2, weight, bias, state, reset)
        with torch.no_grad():
            delta, *_ = fused_feedback("gru", states, saved, weight, torch.ones_like(states[1:]), reset, refinements=1)
        return states[1:].square().sum() + delta.sum() * bias.sum()

    eager = torch.autograd.grad(loss(*tensors), tensors)
    compiled = torch.autograd.grad(torch.compile(loss, fullgraph=True, backend=compiler)(*tensors), tensors)
    for one, other in zip(compiled, eager, strict=True):
        torch.testing.assert_close(one, other)


def test_what_cannot_be_differentiated_says_so() -> None:
    tensors, reset = leaves("gru")
    states, saved = fused_recurrence("gru", *tensors, reset, save=False)
    assert saved.numel() == 0
    with pytest.raises(RuntimeError, match="save=True is wanted"):
        states.sum().backward()
    begin, reset = window("gru")
    error = begin[-1].clone().requires_grad_()
    for op in (fused_bptt, fused_feedback):
        with pytest.raises(RuntimeError, match="no autograd formula"):
            op(*begin[:-1], error, reset)[0].sum().backward()


@pytest.mark.usefixtures("said_nothing_yet")
def test_who_is_chosen(caplog: pytest.LogCaptureFixture) -> None:
    cell = CELLS["gru"]
    single, double = torch.zeros(1), torch.zeros(1, dtype=torch.float64)
    assert backend_for("torch", cell, single) == "torch"
    assert backend_for("auto", cell, single) == BACKENDS[-1]
    with caplog.at_level(logging.INFO, logger=backends.__name__):
        assert [backend_for("auto", cell, double) for _ in range(2)] == ["torch", "torch"]
    assert [record.message for record in caplog.records] == [
        "torch runs the recurrence: the CPU's kernels take float32 on a CPU, not torch.float64 on cpu"
    ]


A100 = SimpleNamespace(multi_processor_count=108, shared_memory_per_block_optin=163 * 1024)


def one_head(size: int) -> Shape:
    """Of a GRU."""
    return Shape(3, 1, 1, size)


@pytest.mark.usefixtures("said_nothing_yet")
@pytest.mark.skipif(importlib.util.find_spec("triton") is None, reason="triton is not installed")
def test_who_is_chosen_on_a_gpu(caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of tensors that are only said to be there."""
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda device: A100)
    cell = CELLS["gru"]
    with FakeTensorMode():
        half = torch.empty(5, 16, 64, device="cuda", dtype=torch.bfloat16)
        single, many = half.float(), half.new_empty(5, 4096, 64)
        assert backend_for("auto", cell, half) == "triton"  # a pass of feedback takes any width
        assert [backend_for("auto", cell, half, one_head(size)) for size in (64, 65, 4096)] == [
            "triton",
            "triton",
            "torch",
        ]
        assert [backend_for("auto", cell, single, one_head(size)) for size in (32, 33)] == ["triton", "torch"]
        assert [backend_for("auto", cell, many, one_head(size)) for size in (64, 65)] == ["triton", "torch"]
        assert [backend_for("auto", cell, many, one_head(size), has_aten=True) for size in (64, 65)] == [
            "triton",
            "aten",
        ]
        with pytest.raises(
            ValueError,
            match="a head of 4096 units of torch.bfloat16 fits neither on a multiprocessor nor spread over all",
        ):
            backend_for("triton", cell, half, one_head(4096))
        monkeypatch.setenv(backends.SWITCH, "0")
        assert [backend_for("auto", cell, half, one_head(64), has_aten=has) for has in (False, True)] == [
            "torch",
            "aten",
        ]
    assert "torch runs the recurrence: a head of 4096 units of torch.bfloat16 fits neither" in caplog.text


@pytest.mark.parametrize(
    ("backend", "dtype", "words"),
    [
        ("cuda", torch.float32, "backend: 'cuda'; allowed: auto, torch, aten, compiled, triton"),
        ("compiled", torch.float64, r"'compiled', but the CPU's kernels take float32.*allowed here: auto, torch"),
        ("triton", torch.float32, "'triton', but .*TRITON_INTERPRET=1 set before the start"),
    ],
)
def test_a_backend_that_cannot_serve_says_why(backend: str, dtype: torch.dtype, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        backend_for(backend, CELLS["gru"], torch.zeros(1, dtype=dtype))


@pytest.mark.parametrize(
    ("place", "value", "words"),
    [
        (0, "gruu", "cell: 'gruu'; allowed: "),
        (1, torch.zeros(5, 3, 6), r"states: shape \(5, 3, 6\).*allowed: \(6, 3, 6\)"),
        (2, torch.zeros(5, 3, 3, 6), r"saved: shape \(5, 3, 3, 6\).*allowed: \(5, 3, 4, 6\)"),
        (3, torch.zeros(18, 4), r"weight_hh: shape \(18, 4\).*allowed: \(18, units a head\)"),
        (4, torch.zeros(5, 3), r"error: shape \(5, 3\).*allowed: \(T, B, S\)"),
        (5, torch.zeros(5, 3), r"reset: .*float32; allowed: \(5, 3\), torch.bool"),
    ],
)
def test_wrong_arguments_are_named(place: int, value: Any, words: str) -> None:
    begin, reset = window("gru")
    given = [*begin, reset]
    given[place] = value
    for op in (fused_bptt, fused_feedback):
        with pytest.raises(ValueError, match=words):
            op(*given)


def test_wrong_decays_and_sweeps_are_named() -> None:
    begin, reset = window("lstm")
    with pytest.raises(ValueError, match=r"decay: shape \(6,\); allowed: \(2, 2, 6\)"):
        fused_feedback(*begin, reset, torch.zeros(6))
    with pytest.raises(ValueError, match=r"beyond: shape \(1, 3, 12\); allowed: \(2, 3, 12\)"):
        fused_feedback(*begin, reset, None, torch.zeros(1, 3, 12), refinements=1)
    with pytest.raises(ValueError, match="refinements: -1; allowed: 0 or more"):
        fused_feedback(*begin, reset, refinements=-1)
