"""A layer on a GPU, where there is one: gradients by every rule beside float64, compiled, under autocast."""

import copy

import pytest
import torch
from torch import Tensor

from ssrnn_dist.model import FeedbackConfig, RecurrentLayer
from ssrnn_kernels import feedback_scan, fused_bptt, fused_feedback, fused_recurrence
from ssrnn_kernels.cells import CELLS

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")
RULES = {
    "exact": FeedbackConfig(kind="exact"),
    "selective": FeedbackConfig(refinements=0),
    "selective + 2": FeedbackConfig(refinements=2),
    "stationary": FeedbackConfig(kind="stationary"),
    "truncated": FeedbackConfig(kind="truncated"),
    "auto": FeedbackConfig(refinements="auto"),
}
SHAPES = [(5, 70, 96, 1), (3, 40, 96, 3), (4, 33, 300, 1)]  # B, T, D, heads


def gradients(layer: RecurrentLayer, x: Tensor, weigh: Tensor, reset: Tensor) -> list[Tensor]:
    """Output, then the gradients of input and parameters."""
    x = x.detach().requires_grad_()
    y, _ = layer(x, reset_BT=reset)
    return [y.detach(), *torch.autograd.grad((y * weigh).sum(), [x, *layer.parameters()])]


@pytest.mark.parametrize("cell", CELLS)
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize(("dtype", "far"), [(torch.float32, 1e-4), (torch.bfloat16, 4e-2)])
def test_every_rule_beside_float64(
    cell: str, shape: tuple[int, ...], dtype: torch.dtype, far: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    n_batch, n_steps, d, n_heads = shape
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", False)  # which torch.nn's layers would use, too
    torch.manual_seed(0)
    for name, rule in RULES.items():
        layer = RecurrentLayer(d, d, cell, n_heads, rule).to("cuda", dtype)
        x, weigh = (torch.randn(n_batch, n_steps, d, device="cuda", dtype=dtype) for _ in range(2))
        reset = torch.rand(n_batch, n_steps, device="cuda") < 0.1
        exact = copy.deepcopy(layer).double()
        wanted = gradients(exact, x.double(), weigh.double(), reset)
        for got, each in zip(gradients(layer, x, weigh, reset), wanted, strict=True):
            assert (got.double() - each).norm() <= far * each.norm(), name


@pytest.mark.parametrize("n_heads", [1, 3])
def test_autocast_and_compile_give_what_eager_bf16_does(n_heads: int) -> None:
    torch.manual_seed(0)
    layer = RecurrentLayer(96, 96, "gru", n_heads).to("cuda")
    x, weigh = (torch.randn(4, 50, 96, device="cuda") for _ in range(2))
    reset = torch.rand(4, 50, device="cuda") < 0.1
    with torch.autocast("cuda", dtype=torch.bfloat16):
        eager = gradients(layer, x, weigh, reset)
        compiled = gradients(torch.compile(layer), x, weigh, reset)  # type: ignore[arg-type]
    assert eager[0].dtype == torch.bfloat16
    assert all(each.dtype == torch.float32 for each in eager[1:])
    for one, other in zip(compiled, eager, strict=True):
        assert (one - other).norm() <= 1e-2 * other.norm()


@pytest.mark.parametrize("n_heads", [1, 4])
def test_the_ops_replay_in_a_cuda_graph(n_heads: int) -> None:
    """New numbers in the same memory give what the ops give eagerly, to the bit."""
    d, n_batch, n_steps = 256, 6, 40

    def draw(seed: int) -> list[Tensor]:
        generator = torch.Generator("cuda").manual_seed(seed)
        shapes = [(n_steps, n_batch, 3 * d), (3 * d, d // n_heads), (3 * d,), (n_batch, d), (n_steps, n_batch, d)]
        scales = [1.0, (d // n_heads) ** -0.5, 1.0, 1.0, 1.0]
        made = (torch.randn(*shape, device="cuda", generator=generator) for shape in shapes)
        return [(scale * each).bfloat16() for scale, each in zip(scales, made, strict=True)]

    reset = torch.zeros(n_steps, n_batch, dtype=torch.bool, device="cuda")
    reset[7, 3] = True

    def run(inputs: Tensor, weight: Tensor, bias: Tensor, state: Tensor, error: Tensor) -> list[Tensor]:
        states, saved = fused_recurrence("gru", inputs, weight, bias, state, reset)
        back = ("gru", states, saved, weight, error, reset)
        scanned = feedback_scan(error.transpose(0, 1), state[0].float())
        return [states, saved, *fused_feedback(*back, refinements=1), *fused_bptt(*back), scanned]

    given, other = draw(1), draw(2)
    run(*given)  # compiles
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        outputs = run(*given)
    for held, new in zip(given, other, strict=True):
        held.copy_(new)
    graph.replay()
    for got, wanted in zip(outputs, run(*other), strict=True):
        assert torch.equal(got, wanted)


def test_the_longest_scan() -> None:
    """A million steps of one sequence: in chunks, as the plain recurrence has it at every hundred-thousandth."""
    n_steps = 1_048_576
    error = torch.randn(1, n_steps, 4, device="cuda")
    decay = torch.tensor([0.0, 0.5, 0.99, 1.0], device="cuda")
    delta = feedback_scan(error, decay)
    wanted = feedback_scan(error.double().cpu(), decay.double().cpu(), backend="torch")
    assert (delta.cpu().double() - wanted).norm() <= 1e-5 * wanted.norm()
