"""The fused ops on what is odd but allowed (nothing at all, other types, strides, autocast), and what is refused."""

import importlib.util
import logging
from typing import Any

import pytest
import torch
from torch import Tensor
from windows import each_cell, problem

from ssrnn_kernels import backends, feedback_scan, fused_bptt, fused_feedback, fused_recurrence, parallel_recurrence
from ssrnn_kernels.cell import Shape
from ssrnn_kernels.cells import CELLS
from ssrnn_kernels.cpu.build import library_for

SHAPE = {"n_steps": 5, "n_batch": 3, "n_heads": 2, "head_size": 3}
BACKENDS = ["torch", *(["compiled"] if library_for(CELLS["gru"], torch.zeros(1)) else [])]


def given(name: str, dtype: torch.dtype = torch.float32, **shape: int) -> list[Tensor]:
    """Inputs, weight, bias and state."""
    tensors, _ = problem(name, **SHAPE | shape, seed=0, resets=False)
    return [each.to(dtype) for each in tensors]


def way_back(name: str, dtype: torch.dtype = torch.float32, **shape: int) -> tuple[str, Tensor, Tensor, Tensor, Tensor]:
    """What the ops that go back in time begin with."""
    tensors = given(name, dtype, **shape)
    states, saved = fused_recurrence(name, *tensors)
    return name, states, saved, tensors[1], torch.randn_like(states[1:])


@each_cell
@pytest.mark.parametrize("backend", ["auto", "torch"])
@pytest.mark.parametrize("nothing", [{"n_steps": 0}, {"n_batch": 0}, {"n_steps": 0, "n_batch": 0}])
def test_a_window_of_nothing_gives_nothing(name: str, backend: str, nothing: dict[str, int]) -> None:
    begin = way_back(name, **nothing)
    error = begin[-1]
    delta, gates, inputs = fused_bptt(*begin, backend=backend)
    assert delta.shape == error.shape
    assert gates.shape == inputs.shape == given(name, **nothing)[0].shape
    beyond = torch.randn(3, *error.shape[1:])
    done = fused_feedback(*begin, beyond_KBS=beyond, refinements=2, backend=backend)
    assert done.delta_TBS.shape == error.shape
    assert torch.equal(done.onward_KBS, beyond)
    assert done.increments_KB.shape == (3, error.shape[1])
    assert not done.total_B.any()
    tensors = [each.requires_grad_() for each in given(name, **nothing)]
    states, _ = fused_recurrence(name, *tensors, backend=backend)
    *_, to_state = torch.autograd.grad(states.sum(), tensors)
    assert torch.equal(to_state, torch.ones_like(tensors[-1]))  # the initial state is the last one, too


@pytest.mark.parametrize("with_resets", [False, True])
@pytest.mark.parametrize("nothing", [{"n_steps": 0}, {"n_batch": 0}])
def test_torchs_own_layer_is_not_asked_for_nothing(nothing: dict[str, int], with_resets: bool) -> None:
    tensors = given("gru", n_heads=1, **nothing)
    reset = torch.zeros(tensors[0].shape[:2], dtype=torch.bool) if with_resets else None
    states, _ = fused_recurrence("gru", *tensors, reset, backend="aten")
    assert torch.equal(states[0], tensors[-1])


def test_what_has_no_memory_goes_through() -> None:
    """Tensors of torch's "meta", which has no autocast."""
    tensors = [each.to("meta") for each in given("gru")]
    assert fused_recurrence("gru", *tensors)[0].shape == (6, 3, 6)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16, torch.float16])
def test_decays_and_what_flows_in_may_be_of_another_type(backend: str, dtype: torch.dtype) -> None:
    begin = way_back("lstm")
    decay, beyond = (torch.rand(2, 2, 6) / 2).to(dtype), torch.randn(2, *begin[-1].shape[1:]).to(dtype)
    ours = fused_feedback(*begin, None, decay, beyond, refinements=1, backend=backend)
    wanted = fused_feedback(*begin, None, decay.float(), beyond.float(), refinements=1, backend=backend)
    assert all(torch.equal(*pair) for pair in zip(ours, wanted, strict=True))


@pytest.mark.parametrize(
    ("decay", "beyond", "words"),
    [
        (torch.ones(1, 1, 6, dtype=torch.int64), None, "decay: torch.int64 on cpu; allowed: floating-point on cpu"),
        (torch.ones(1, 1, 6, device="meta"), None, "decay: torch.float32 on meta; allowed: floating-point on cpu"),
        (None, torch.ones(1, 3, 6, dtype=torch.bool), "beyond: torch.bool on cpu; allowed: floating-point on cpu"),
    ],
)
def test_decays_that_are_no_numbers_or_elsewhere_are_named(
    decay: Tensor | None, beyond: Tensor | None, words: str
) -> None:
    with pytest.raises(ValueError, match=words):
        fused_feedback(*way_back("gru"), None, decay, beyond)


@pytest.mark.parametrize("backend", [*BACKENDS, "auto"])
@pytest.mark.parametrize("op", [fused_bptt, fused_feedback])
def test_errors_of_any_strides_give_dense_results(op: Any, backend: str) -> None:
    begin = way_back("gru")
    error = begin[-1].permute(2, 1, 0).contiguous().permute(2, 1, 0)
    assert not error.is_contiguous()
    for ours, wanted in zip(op(*begin[:-1], error, backend=backend), op(*begin, backend=backend), strict=True):
        assert ours.is_contiguous()
        assert torch.equal(ours, wanted)
    rest = (None, backend) if op is fused_bptt else (None, None, None, 1, backend)
    torch.library.opcheck(getattr(torch.ops.ssrnn, op.__name__).default, (*begin[:-1], error, *rest))


@pytest.mark.parametrize("backend", BACKENDS)
def test_autocast_casts_what_goes_forward_and_leaves_what_goes_back(backend: str) -> None:
    tensors, begin = given("gru"), way_back("gru")
    exact = fused_bptt(*begin, backend=backend), fused_feedback(*begin, refinements=1, backend=backend)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        from_linear = fused_recurrence("gru", tensors[0].bfloat16(), *tensors[1:])
        double = fused_recurrence("gru", *given("gru", torch.float64))
        swept, _, _ = parallel_recurrence("gru", *tensors, tolerance=1e-2)
        within = fused_bptt(*begin, backend=backend), fused_feedback(*begin, refinements=1, backend=backend)
    wanted = fused_recurrence("gru", *(each.bfloat16() for each in tensors))
    assert all(torch.equal(*pair) for pair in zip(from_linear, wanted, strict=True))
    assert double[0].dtype == torch.float64
    assert swept.dtype == torch.bfloat16
    for ours, theirs in zip(within, exact, strict=True):
        assert all(torch.equal(*pair) for pair in zip(ours, theirs, strict=True))
    leaves = [each.requires_grad_() for each in tensors]
    states, _ = fused_recurrence("gru", *leaves, backend=backend)
    gradients = torch.autograd.grad(states.sum(), leaves, retain_graph=True)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        again = torch.autograd.grad(states.sum(), leaves)
    assert all(torch.equal(*pair) for pair in zip(again, gradients, strict=True))


def test_it_compiles_into_one_graph_under_autocast() -> None:
    tensors = given("gru")

    def states(*tensors: Tensor) -> Tensor:
        with torch.autocast("cpu", dtype=torch.bfloat16):
            return fused_recurrence("gru", *tensors)[0]

    assert torch.equal(torch.compile(states, fullgraph=True, backend="aot_eager")(*tensors), states(*tensors))


@pytest.mark.parametrize(
    ("place", "value", "words"),
    [
        (0, torch.zeros(5, 18), r"inputs: shape \(5, 18\), torch.float32; allowed: \(T, B, R\), floating-point"),
        (0, torch.zeros(5, 3, 18, dtype=torch.int64), "inputs: .*torch.int64; allowed: .*floating-point"),
        (1, torch.zeros(18), r"weight_hh: shape \(18,\).*allowed: \(18, units a head\), torch.float32"),
        (1, torch.zeros(18, 0), r"weight_hh: shape \(18, 0\)"),
        (1, torch.zeros(18, 4), r"weight_hh: shape \(18, 4\)"),
        (1, torch.zeros(18, 3, device="meta"), "weight_hh: on meta; allowed: cpu, where the others are"),
        (2, torch.zeros(17), r"bias_hh: shape \(17,\).*allowed: \(18,\)"),
        (3, torch.zeros(3, 7), r"state: shape \(3, 7\).*allowed: \(3, 6\)"),
    ],
)
def test_wrong_arguments_of_the_forward_are_named(place: int, value: Tensor, words: str) -> None:
    tensors = given("gru")
    tensors[place] = value
    for op in (fused_recurrence, parallel_recurrence):
        with pytest.raises(ValueError, match=words):
            op("gru", *tensors)


def test_no_sweeps_at_all_are_refused() -> None:
    with pytest.raises(ValueError, match="most_sweeps: 0; allowed: 1 or more"):
        parallel_recurrence("gru", *given("gru"), most_sweeps=0)


@pytest.mark.usefixtures("said_nothing_yet")
def test_the_scan_says_once_that_torch_runs_it(caplog: pytest.LogCaptureFixture) -> None:
    error = torch.randn(2, 4, 3, dtype=torch.float64)
    with caplog.at_level(logging.INFO, logger=backends.__name__):
        for _ in range(2):
            feedback_scan(error, torch.full((3,), 0.5))
    assert [record.message for record in caplog.records] == [
        "torch runs the scan: the CPU's kernel takes float32 on a CPU with a C compiler"
    ]


@pytest.mark.skipif(importlib.util.find_spec("triton") is None, reason="triton is not installed")
def test_the_interpreters_products_of_bf16_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    from ssrnn_kernels.gpu import triton

    monkeypatch.setattr(triton, "INTERPRETED", True)
    values, head = torch.zeros(1, dtype=torch.bfloat16), Shape(3, 1, 1, 16)
    with pytest.raises(ValueError, match="interpreter multiplies bfloat16's bits, not its numbers"):
        backends.backend_for("triton", CELLS["gru"], values, head)
    assert backends.backend_for("triton", CELLS["gru"], values.half(), head) == "triton"
    assert backends.backend_for("triton", CELLS["gru"], values) == "triton"  # a walk has no products
