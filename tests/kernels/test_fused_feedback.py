"""A pass of feedback by every implementation against torch's, which defines it; Triton's forward and BPTT, too.

Triton takes part where it can: on a GPU, or under TRITON_INTERPRET=1 (test_in_the_interpreter.py starts that)."""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from windows import each_cell, problem, shapes, shapes_up_to

from ssrnn_kernels import fused_feedback, fused_recurrence
from ssrnn_kernels.backends import MOST_HEAD_SIZE
from ssrnn_kernels.cell import Shape
from ssrnn_kernels.cells import CELLS
from ssrnn_kernels.cpu.build import library_for
from ssrnn_kernels.feedback_scan.shapes import accumulation_dtype
from ssrnn_kernels.fused_bptt import exact_feedback
from ssrnn_kernels.fused_feedback import Pass
from ssrnn_kernels.fused_feedback.compiled import compiled_pass
from ssrnn_kernels.fused_feedback.reference import pass_reference
from ssrnn_kernels.fused_recurrence import recur
from ssrnn_kernels.window import Window

INTERPRETED = os.environ.get("TRITON_INTERPRET") == "1"
DEVICE = "cuda" if torch.cuda.is_available() and not INTERPRETED else "cpu"
WITH_TRITON = INTERPRETED or DEVICE == "cuda"
HAS_A_COMPILER = library_for(CELLS["gru"], torch.zeros(1)) is not None
implementations = pytest.mark.parametrize(
    "implementation", [*(["compiled"] if HAS_A_COMPILER else []), *(["triton"] if WITH_TRITON else [])]
)
EXAMPLES, SHAPES = (5, shapes_up_to(4, 2, 2)) if INTERPRETED else (30, shapes)


def pass_of(implementation: str) -> Callable[..., Pass]:
    if implementation == "triton":
        from ssrnn_kernels.fused_feedback.triton import triton_pass

        return triton_pass
    return compiled_pass


def window_of(name: str, shape: dict, dtype: torch.dtype = torch.float32, device: str = DEVICE) -> Window:
    """A window as the forward leaves it; on the device where Triton runs if it does."""
    tensors, reset = problem(name, **shape)
    trajectory = recur(CELLS[name], *tensors, reset, save=True)
    saved = (each.to(device, dtype) for each in (trajectory.states_TBS, trajectory.saved_TBQD, tensors[1]))
    return Window(CELLS[name], *saved, None if reset is None else reset.to(device))


def draw(shape: tuple[int, ...], seed: int, dtype: torch.dtype, device: str = DEVICE) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed)).to(device, dtype)


def assert_passes_agree(window: Window, decay: Tensor | None, error: Tensor, ours: Callable, sweeps: int, far: float):
    """Every output of every pass, each implementation going on from its own."""
    weight = window.weights_beside_the_diagonal() if decay is None else window.weight_hh_RK
    mine: Pass | None = None
    theirs: Pass | None = None
    for sweep in range(sweeps + 1):
        flows = [None if each is None else window.through(each.gates_TBR, weight) for each in (mine, theirs)]
        last, carry = sweep == sweeps, torch.full_like(error[0], 0.1 * sweep)
        mine = ours(window, decay, error, flows[0], mine, carry, last=last)
        theirs = pass_reference(window, decay, error, flows[1], theirs, carry, last=last)
        for output in ("delta_TBS", "gates_TBR", "inputs_TBR", "rest_TBS", "increment_B", "total_B", "carry_BS"):
            got, wanted = getattr(mine, output), getattr(theirs, output)
            assert (got is None) == (wanted is None), output
            if got is not None:
                assert torch.allclose(got.double(), wanted.double(), rtol=far, atol=far), output


@implementations
@each_cell
@given(SHAPES, st.sampled_from(["selective", "constant"]), st.integers(0, 2))
@settings(max_examples=EXAMPLES, deadline=None)
def test_a_pass_is_torchs_pass(implementation: str, name: str, shape: dict, rule: str, sweeps: int) -> None:
    device = DEVICE if implementation == "triton" else "cpu"
    window = window_of(name, shape, device=device)
    error = draw(window.states_TBS[1:].shape, shape["seed"] + 1, torch.float32, device)
    n_states = CELLS[name].N_STATES
    block = n_states, n_states, window.shape.n_units
    decay = None if rule == "selective" else draw(block, 3, torch.float32, device) / 3
    assert_passes_agree(window, decay, error, pass_of(implementation), sweeps, far=2e-5)


with_triton = pytest.mark.skipif(not WITH_TRITON, reason="Triton runs on a GPU and in its interpreter")


@with_triton
@each_cell
@given(SHAPES)
@settings(max_examples=EXAMPLES, deadline=None)
def test_tritons_forward_is_the_definition(name: str, shape: dict) -> None:
    from ssrnn_kernels.fused_recurrence.triton import head_forward

    tensors, reset = problem(name, **shape)
    inputs, weight, bias, state = (each.to(DEVICE) for each in tensors)
    reset = None if reset is None else reset.to(DEVICE)
    cell, given = CELLS[name], (inputs, weight, bias, state, reset)
    wanted = recur(cell, *given, save=True, backend="torch")
    assert wanted.saved_TBQD is not None
    states, saved = (torch.full_like(each, torch.nan) for each in (wanted.states_TBS, wanted.saved_TBQD))
    states[0] = state
    head_forward(cell, Shape.of(cell, weight), inputs, weight, bias, reset, states, saved)
    assert torch.allclose(states, wanted.states_TBS, rtol=0, atol=3e-6)
    assert torch.allclose(saved, wanted.saved_TBQD, rtol=2e-5, atol=3e-6)


@with_triton
@each_cell
@given(SHAPES)
@settings(max_examples=EXAMPLES, deadline=None)
def test_tritons_bptt_is_bptt(name: str, shape: dict) -> None:
    from ssrnn_kernels.fused_bptt.triton import head_bptt

    window = window_of(name, shape)
    error = draw(window.states_TBS[1:].shape, shape["seed"] + 1, torch.float32)
    ours, wanted = head_bptt(window, error), exact_feedback(window, error, "torch")
    for output, value in vars(wanted).items():
        assert torch.allclose(getattr(ours, output), value, rtol=2e-5, atol=2e-5), output


@with_triton
@each_cell
@pytest.mark.parametrize(("dtype", "far"), [(torch.float64, 1e-12), (torch.float16, 0.02), (torch.bfloat16, 0.15)])
def test_triton_computes_in_other_types(name: str, dtype: torch.dtype, far: float) -> None:
    shape = {"n_steps": 6, "n_batch": 2, "n_heads": 2, "head_size": 35, "seed": 1, "resets": True}
    window = window_of(name, shape, dtype)
    error = draw(window.states_TBS[1:].shape, 2, dtype)
    assert_passes_agree(window, None, error, pass_of("triton"), 1, far)


@contextmanager
def uninitialised_memory_is_nan() -> Iterator[None]:
    """What a kernel forgets to write shows."""
    torch.use_deterministic_algorithms(True)
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(False)


def everything(name: str, tensors: list[Tensor], reset: Tensor | None, backend: str) -> dict[str, Tensor]:
    """What the ops give by a backend: states, every gradient by BPTT, and feedback's outputs by both kinds of decay."""
    leaves = [each.detach().requires_grad_() for each in tensors]
    with uninitialised_memory_is_nan():
        states, saved = fused_recurrence(name, *leaves, reset, backend=backend)
        given = dict(zip(("inputs", "weight", "bias", "state"), torch.autograd.grad(states.sum(), leaves), strict=True))
        states, ones = states.detach(), torch.ones_like(states[1:])
        n, d = CELLS[name].N_STATES, states.shape[-1] // CELLS[name].N_STATES
        constant = (0.9 * torch.eye(n, dtype=torch.float64).unsqueeze(-1).expand(n, n, d)).to(accumulation_dtype(ones))
        for kind, decay in (("selective", None), ("constant", constant.to(ones.device))):
            names = ("delta", "gates", "inputs", "increments", "total", "onward")
            outputs = fused_feedback(
                name, states, saved, tensors[1], ones, reset, decay, refinements=1, backend=backend
            )
            given |= {f"{kind} {which}": each for which, each in zip(names, outputs, strict=True)}
    return {"states": states, "saved": saved, **given}


ODD = [(1, 1, 1, 1), (63, 1, 1, 3), (2, 65, 1, 5), (3, 2, 3, 21), (2, 1, 127, 1), (1, 2, 1, 65), (127, 1, 1, 2)]
MANY = (9, 8, 1, 16)  # enough numbers that no one's luck counts
CASES = [
    pytest.param(name, dtype, sizes, marks=[] if soon else pytest.mark.long, id=f"{name}-{dtype}-{sizes}")
    for name in CELLS
    for dtype in (torch.float32, torch.float16)
    for sizes in (*ODD, MANY)
    for soon in [(dtype == torch.float32 and (sizes == MANY or name == "lstm")) or (name, sizes) == ("gru", MANY)]
]


@with_triton
@pytest.mark.parametrize(("name", "dtype", "sizes"), CASES)
def test_tritons_error_is_at_most_twice_torchs(name: str, dtype: torch.dtype, sizes: tuple[int, ...]) -> None:
    """Both beside float64 on the same numbers, T × B × heads × units a head. Of a few numbers, which torch may have hit
    exactly, a few roundings are forgiven."""
    shape = dict(zip(("n_steps", "n_batch", "n_heads", "head_size"), sizes, strict=True))
    if DEVICE == "cuda" and dtype == torch.float32 and sizes[3] > MOST_HEAD_SIZE[dtype]:
        pytest.skip("a GPU's multiprocessor has no room for such a head")
    tensors, reset = problem(name, **shape, seed=3, resets=True)
    tensors, reset = [each.to(DEVICE, dtype) for each in tensors], reset.to(DEVICE)
    ours, torchs = (everything(name, tensors, reset, backend) for backend in ("triton", "torch"))
    exact = everything(name, [each.double() for each in tensors], reset, "torch")
    forgiven = 0.0 if sizes == MANY else 4 * torch.finfo(dtype).eps
    for output, wanted in exact.items():
        far, torch_far = ((each[output].double() - wanted).norm() for each in (ours, torchs))
        assert far <= 2 * torch_far + forgiven * wanted.norm(), output


@with_triton
@pytest.mark.parametrize("name", ["gru", "lstm"])
def test_a_reset_at_any_step_cuts_what_triton_carries(name: str) -> None:
    """A window of two documents is each document by itself."""
    tensors, _ = problem(name, 4, 2, 2, 3, 5, False)
    tensors = [each.to(DEVICE) for each in tensors]
    for place in range(4):
        reset = torch.zeros(4, 2, dtype=torch.bool, device=DEVICE)
        reset[place] = True
        whole = everything(name, tensors, reset, "triton")
        first = torch.zeros_like(reset[place:])
        first[0] = True
        after = everything(name, [tensors[0][place:], *tensors[1:]], first, "triton")
        assert torch.allclose(whole["states"][place + 1 :], after["states"][1:], atol=1e-6)
        for output in ("inputs", "selective inputs", "constant inputs"):
            assert torch.allclose(whole[output][place:], after[output], atol=1e-5), (place, output)
        assert torch.equal(after["state"], torch.ones_like(after["state"]))  # of the states handed back alone
