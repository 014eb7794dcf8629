"""feedback_scan's mathematics: the reference against BPTT and linear algebra, every backend against the reference.

Triton takes part where it can run: on a GPU, or under TRITON_INTERPRET=1 (test_in_the_interpreter.py starts that).
Shapes: B batch, T time, D state; coupled: two states a unit."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from itertools import pairwise

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import Tensor

from ssrnn_kernels import feedback_scan
from ssrnn_kernels.feedback_scan.compiled import scan_kernel_for

INTERPRETED = os.environ.get("TRITON_INTERPRET") == "1"
DEVICE = "cuda" if torch.cuda.is_available() and not INTERPRETED else "cpu"
FAST_BACKENDS = ["torch", "triton"] if INTERPRETED or DEVICE == "cuda" else ["torch"]
VARIANTS = [(coupled, varies) for coupled in (False, True) for varies in (False, True)]
variants = pytest.mark.parametrize(("coupled", "varies"), VARIANTS)
fast_backends = pytest.mark.parametrize("backend", FAST_BACKENDS)


@pytest.fixture(autouse=True, scope="module")
def _torch_empty_is_nan() -> Iterator[None]:
    """Fresh memory holds NaN, so an element that is never written shows."""
    torch.use_deterministic_algorithms(True)
    yield
    torch.use_deterministic_algorithms(False)


@dataclass(frozen=True)
class Case:
    error: Tensor
    decay: Tensor
    reset: Tensor | None
    delta_next: Tensor | None

    def scan(self, backend: str) -> Tensor:
        return feedback_scan(self.error, self.decay, self.reset, self.delta_next, backend=backend)

    def to(self, dtype: torch.dtype, decay_dtype: torch.dtype | None = None) -> "Case":
        delta_next = None if self.delta_next is None else self.delta_next.to(dtype)
        return Case(self.error.to(dtype), self.decay.to(decay_dtype or dtype), self.reset, delta_next)


def make_case(shape_BTD: tuple[int, int, int], coupled: bool, varies: bool, *, seed: int = 0) -> Case:
    """float64, time-major, contracting; resets at the first and the last step of some sequence and here and there."""
    b, t, d = shape_BTD
    generator = torch.Generator().manual_seed(seed)
    states = (2,) if coupled else ()

    def normal(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator, dtype=torch.float64)

    error = normal(t, b, *states, d).transpose(0, 1)
    decay = normal(t, b, *states, *states, d).transpose(0, 1) if varies else normal(*states, *states, d)
    decay = decay.tanh() * (0.49 if coupled else 0.99)
    reset = torch.rand(b, t, generator=generator) < 0.05
    reset[0, 0] = reset[-1, -1] = True
    delta_next = normal(b, *states, d)
    return Case(error.to(DEVICE), decay.to(DEVICE), reset.to(DEVICE), delta_next.to(DEVICE))


def test_fresh_memory_is_nan() -> None:
    assert torch.empty_like(torch.zeros(3)).isnan().all()


@variants
def test_reference_is_bptt_of_a_linear_recurrence(coupled: bool, varies: bool) -> None:
    """h_t = A_t h_{t-1} + x_t with A_t diagonal (2×2 blocks): autograd's dL/dx_t is δ_t for L = Σ ⟨e_t, h_t⟩."""
    case = make_case((2, 9, 3), coupled, varies)
    x = torch.zeros_like(case.error, requires_grad=True)
    h = torch.zeros_like(case.error[:, 0])
    loss = torch.zeros((), dtype=torch.float64, device=DEVICE)
    for t in range(9):
        factor = case.decay[:, t] if varies else case.decay
        h = h.masked_fill(case.reset[:, t].reshape(2, *(1,) * (h.dim() - 1)), 0)
        h = (torch.einsum("...ijd,...jd->...id", factor, h) if coupled else factor * h) + x[:, t]
        loss = loss + (case.error[:, t] * h).sum()
    (loss + (case.delta_next * h).sum()).backward()
    torch.testing.assert_close(case.scan("reference"), x.grad, rtol=1e-12, atol=1e-12)


@variants
def test_reference_solves_the_dense_system(coupled: bool, varies: bool) -> None:
    """(I − N) δ = e with N's blocks decay_{t+1}ᵀ above the diagonal, one unit at a time."""
    t_max, s = 6, 2 if coupled else 1
    case = make_case((1, t_max, 2), coupled, varies, seed=3)
    error = case.error.reshape(t_max, s, 2).clone()
    error[-1] += case.delta_next.reshape(s, 2)
    decay = case.decay.reshape(-1, s, s, 2).expand(t_max, s, s, 2)
    delta = case.scan("reference").reshape(t_max, s, 2)
    for unit in range(2):
        system = torch.eye(t_max * s, dtype=torch.float64, device=DEVICE)
        for t in range(t_max - 1):
            if not case.reset[0, t + 1]:
                rows, columns = slice(t * s, (t + 1) * s), slice((t + 1) * s, (t + 2) * s)
                system[rows, columns] -= decay[t + 1, :, :, unit].T
        expected = torch.linalg.solve(system, error[..., unit].reshape(-1))
        torch.testing.assert_close(delta[..., unit].reshape(-1), expected, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("backend", ["reference", *FAST_BACKENDS])
def test_the_factor_between_two_steps_is_that_of_the_later_one(backend: str) -> None:
    error = torch.tensor([[[1.0], [10.0], [100.0]]], device=DEVICE)
    decay = torch.tensor([[[float("nan")], [0.5], [0.25]]], device=DEVICE)
    delta = feedback_scan(error, decay, backend=backend)
    assert delta.flatten().tolist() == [1 + 0.5 * 35, 10 + 0.25 * 100, 100]


@fast_backends
@variants
@pytest.mark.parametrize("shape_BTD", [(1, 1, 1), (1, 63, 3), (2, 7, 65), (1, 127, 1), (1, 65, 5)])
def test_backend_matches_reference(backend: str, coupled: bool, varies: bool, shape_BTD: tuple[int, int, int]) -> None:
    case = make_case(shape_BTD, coupled, varies)
    torch.testing.assert_close(case.scan(backend), case.scan("reference"), rtol=1e-11, atol=1e-11)


@fast_backends
@variants
def test_without_resets_and_without_a_future(backend: str, coupled: bool, varies: bool) -> None:
    case = replace(make_case((2, 11, 3), coupled, varies), reset=None, delta_next=None)
    torch.testing.assert_close(case.scan(backend), case.scan("reference"), rtol=1e-12, atol=1e-12)


with_triton = pytest.mark.skipif("triton" not in FAST_BACKENDS, reason="Triton runs on a GPU and in its interpreter")


@with_triton
@variants
@pytest.mark.parametrize(("shape_BTD", "least"), [((1, 1, 1), 1), ((2, 13, 3), 2), ((1, 29, 65), 3), ((2, 8, 1), 4)])
def test_triton_cuts_time_into_chunks(
    coupled: bool, varies: bool, shape_BTD: tuple[int, int, int], least: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Chunks of chunks, too: the first step's factor not a number, a future, resets anywhere and what they keep out."""
    from ssrnn_kernels.feedback_scan import triton

    monkeypatch.setattr(triton, "LEAST_CHUNK_STEPS", least)
    for seed in range(3):
        case = make_case(shape_BTD, coupled, varies, seed=seed)
        if varies:
            case.decay[:, 0] = torch.nan
        for each in (case, replace(case, reset=None, delta_next=None)):
            torch.testing.assert_close(each.scan("triton"), each.scan("reference"), rtol=1e-11, atol=1e-11)
        case.error[:, -1] = torch.inf
        kept_out = case.scan("reference").isfinite()
        ours, wanted = (case.scan(backend)[kept_out] for backend in ("triton", "reference"))
        torch.testing.assert_close(ours, wanted, rtol=1e-11, atol=1e-11)


@with_triton
def test_how_triton_cuts_time() -> None:
    from ssrnn_kernels.feedback_scan.triton import steps_of_a_chunk

    assert steps_of_a_chunk(n_programs=2048, n_steps=1_048_576) == 1_048_576  # enough of them
    assert steps_of_a_chunk(n_programs=1, n_steps=127) == 127  # no two chunks worth their while
    assert steps_of_a_chunk(n_programs=1, n_steps=1_048_576) == 512
    assert steps_of_a_chunk(n_programs=16, n_steps=1024) == 64
    assert steps_of_a_chunk(n_programs=300, n_steps=4096) == 1024
    assert steps_of_a_chunk(n_programs=512, n_steps=4096) == 4096


@pytest.mark.parametrize("backend", ["reference", *FAST_BACKENDS])
@variants
def test_a_reset_cuts_whatever_would_flow(backend: str, coupled: bool, varies: bool) -> None:
    """Everything behind the cut is NaN or infinite; nothing of it may pass, and the last step takes delta_next."""
    case = make_case((2, 6, 3), coupled, varies)
    assert case.reset is not None
    assert case.delta_next is not None
    everywhere = replace(case, reset=torch.ones_like(case.reset))
    expected = case.error.clone()
    expected[:, -1] += case.delta_next
    torch.testing.assert_close(everywhere.scan(backend), expected, rtol=0, atol=0)

    reset = torch.zeros_like(case.reset)
    reset[:, 3] = True
    error = case.error.clone()
    error[0, 3:], error[1, 3:] = float("nan"), float("inf")
    delta = replace(case, error=error, reset=reset).scan(backend)
    alone = Case(error[:, :3], case.decay[:, :3] if varies else case.decay, None, None).scan("reference")
    torch.testing.assert_close(delta[:, :3], alone, rtol=1e-12, atol=1e-12)
    assert not delta[:, 3:].isfinite().any()


@pytest.mark.parametrize("backend", ["reference", *FAST_BACKENDS])
@settings(max_examples=6 if INTERPRETED else 40, deadline=None, suppress_health_check=[HealthCheck.differing_executors])
@given(data=st.data())
def test_chunks_give_what_the_whole_gives(backend: str, data: st.DataObject) -> None:
    coupled, varies = data.draw(st.sampled_from(VARIANTS))
    t_max = data.draw(st.integers(1, 8 if INTERPRETED else 70))
    shape_BTD = (data.draw(st.integers(1, 3)), t_max, data.draw(st.integers(1, 5)))
    case = make_case(shape_BTD, coupled, varies, seed=data.draw(st.integers(0, 1000)))
    edges = sorted({0, t_max, *data.draw(st.lists(st.integers(0, t_max), max_size=4))})
    assert case.reset is not None
    pieces, arriving = [], case.delta_next
    for start, stop in reversed(list(pairwise(edges))):
        decay = case.decay[:, start:stop] if varies else case.decay
        piece = feedback_scan(case.error[:, start:stop], decay, case.reset[:, start:stop], arriving, backend=backend)
        first, factor = piece[:, 0], decay[:, 0] if varies else decay
        arriving = torch.einsum("...ijd,...id->...jd", factor, first) if coupled else factor * first
        arriving = arriving.masked_fill(case.reset[:, start].reshape(-1, *(1,) * (arriving.dim() - 1)), 0)
        pieces.insert(0, piece)
    torch.testing.assert_close(torch.cat(pieces, dim=1), case.scan(backend), rtol=1e-11, atol=1e-11)


@fast_backends
@variants
@pytest.mark.parametrize(
    ("dtype", "decay_dtype"),
    [
        (torch.bfloat16, torch.float32),
        (torch.bfloat16, torch.bfloat16),
        (torch.float16, torch.float32),
        (torch.float16, torch.float16),
        (torch.float32, torch.float32),
        (torch.float32, torch.bfloat16),
    ],
)
def test_error_is_at_most_twice_the_roundings_own(
    backend: str, coupled: bool, varies: bool, dtype: torch.dtype, decay_dtype: torch.dtype
) -> None:
    """Against float64 on the same rounded inputs: twice the type's rounding of each element, and twice what plain
    torch loses by computing in float32. (Triton's interpreter truncates to bf16, which is just within twice.)"""
    shape_BTD = (1, 21, 3) if backend == "triton" and INTERPRETED else (3, 127, 65)
    case = make_case(shape_BTD, coupled, varies).to(dtype, decay_dtype)
    exact = case.to(torch.float64).scan("reference")
    lost_in_float32 = (case.to(torch.float32).scan("reference").double() - exact).abs().max()
    delta = case.scan(backend)
    assert delta.dtype == dtype
    allowed = torch.finfo(dtype).eps * exact.abs() + 2 * lost_in_float32
    assert ((delta.double() - exact).abs() <= allowed).all()


@fast_backends
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_small_errors_survive_a_long_sum(backend: str, dtype: torch.dtype) -> None:
    """512 ones with decay 1: a carry in bf16 would stop at 256."""
    n_steps = 64 if INTERPRETED else 512
    error = torch.full((1, n_steps, 1), 512 / n_steps, dtype=dtype, device=DEVICE)
    assert feedback_scan(error, torch.ones(1, device=DEVICE), backend=backend)[0, 0, 0] == 512


@fast_backends
@variants
def test_any_memory_layout(backend: str, coupled: bool, varies: bool) -> None:
    case = make_case((2, 5, 4), coupled, varies)
    expected = case.scan("reference")
    axes = range(case.error.dim())
    layouts = {
        "time-major": case.error,
        "batch-major": case.error.contiguous(),
        "units outermost": case.error.permute(*reversed(axes)).contiguous().permute(*reversed(axes)),
    }
    for name, error in layouts.items():
        delta = replace(case, error=error).scan(backend)
        assert delta.stride() == error.stride(), name
        torch.testing.assert_close(delta, expected, rtol=1e-12, atol=1e-12)
    spread = torch.stack([case.error, case.error], dim=-1)[..., 0]  # every second element of its memory
    decay = torch.stack([case.decay, case.decay], dim=-1)[..., 1]
    torch.testing.assert_close(replace(case, error=spread, decay=decay).scan(backend), expected)
    same = replace(case, error=case.error[:1, :1].expand_as(case.error))  # all steps share their memory
    torch.testing.assert_close(same.scan(backend), same.scan("reference"))


@pytest.mark.parametrize("backend", ["reference", *FAST_BACKENDS])
@pytest.mark.parametrize("shape_BTD", [(0, 4, 3), (2, 0, 3), (2, 4, 0)])
@variants
def test_nothing_in_nothing_out(backend: str, shape_BTD: tuple[int, int, int], coupled: bool, varies: bool) -> None:
    b, t, d = shape_BTD
    states = (2,) if coupled else ()
    error = torch.zeros(b, t, *states, d, device=DEVICE)
    decay = torch.zeros(*((b, t) if varies else ()), *states, *states, d, device=DEVICE)
    reset = torch.ones(b, t, dtype=torch.bool, device=DEVICE)
    delta_next = torch.ones(b, *states, d, device=DEVICE, requires_grad=True)
    delta = feedback_scan(error, decay, reset, delta_next, backend=backend)
    assert delta.shape == error.shape
    delta.sum().backward()
    assert delta_next.grad is not None
    assert delta_next.grad.count_nonzero() == 0


@fast_backends
@variants
def test_gradients_are_those_of_the_reference_followed_by_autograd(backend: str, coupled: bool, varies: bool) -> None:
    """Autograd through a loop of plain operations, against the op's adjoint, for all three inputs."""
    case = make_case((2, 5, 2), coupled, varies, seed=5)
    leaves = [tensor.detach().requires_grad_() for tensor in (case.error, case.decay, case.delta_next)]
    error, decay, flow = leaves
    assert case.reset is not None
    weight = torch.randn(error.shape, dtype=torch.float64, device=DEVICE)
    loss = torch.zeros((), dtype=torch.float64, device=DEVICE)
    for t in reversed(range(5)):
        delta = error[:, t] + flow
        loss = loss + (weight[:, t] * delta.square()).sum()
        factor = decay[:, t] if varies else decay
        flow = torch.einsum("...ijd,...id->...jd", factor, delta) if coupled else factor * delta
        flow = flow.masked_fill(case.reset[:, t].reshape(2, *(1,) * (flow.dim() - 1)), 0)
    expected = torch.autograd.grad(loss, leaves)
    delta = feedback_scan(error, decay, case.reset, leaves[2], backend=backend)
    got = torch.autograd.grad((weight * delta.square()).sum(), leaves)
    for one, other in zip(got, expected, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-11, atol=1e-11)


@fast_backends
def test_two_runs_are_equal_bit_for_bit(backend: str) -> None:
    case = make_case((2, 9, 5), True, True).to(torch.float32)
    assert torch.equal(case.scan(backend), case.scan(backend))


@pytest.mark.skipif(
    scan_kernel_for(torch.zeros(1)) is None or DEVICE == "cuda", reason="no C compiler, or a GPU's turn"
)
@variants
@given(st.data())
@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_the_compiled_scan_is_the_reference(coupled: bool, varies: bool, data: st.DataObject) -> None:
    """In float32, of any shape and layout, with and without resets and a future; the first factor is never read."""
    shape = data.draw(st.tuples(st.integers(1, 3), st.integers(1, 20), st.sampled_from([1, 3, 255, 256, 257, 600])))
    case = make_case(shape, coupled, varies, seed=data.draw(st.integers(0, 99))).to(torch.float32)
    if varies:
        case.decay[:, 0] = torch.nan
    if data.draw(st.booleans()):
        case = replace(case, reset=None)
    if data.draw(st.booleans()):
        case = replace(case, delta_next=None)
    if data.draw(st.booleans()):
        case = replace(case, error=case.error.contiguous())
    if data.draw(st.booleans()):  # every second element of its memory
        case = replace(case, error=torch.stack([case.error, case.error], dim=-1)[..., 0])
    exact = case.to(torch.float64).scan("reference")
    for threads in (1, 2):
        with torch_threads(threads):
            ours = case.scan("compiled")
        assert ours.stride() == torch.empty_like(case.error).stride()
        assert (ours.double() - exact).abs().max() <= 1e-5 * exact.abs().max()


@contextmanager
def torch_threads(count: int) -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)
