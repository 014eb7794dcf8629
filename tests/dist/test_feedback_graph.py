"""The gradient inside torch's graph: autocast, activation checkpointing, compile, frozen parameters, torch.func."""

import pytest
import torch
from torch.autograd import forward_ad
from torch.utils.checkpoint import checkpoint

from ssrnn_dist.feedback import recurrence
from ssrnn_dist.model import FeedbackConfig, LanguageModel, ModelConfig, RecurrentLayer
from ssrnn_kernels.cells import CELLS

RULES = [
    FeedbackConfig(kind="exact"),
    FeedbackConfig(kind="truncated"),
    FeedbackConfig(kind="stationary"),
    FeedbackConfig(refinements=2),
]
every_cell = pytest.mark.parametrize("cell", CELLS)
every_rule = pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.kind)


def layer_and_input(cell: str, rule: FeedbackConfig, dtype: torch.dtype = torch.float32):
    torch.manual_seed(0)
    layer = RecurrentLayer(6, 8, cell, n_heads=2, feedback=rule).to(dtype)
    return layer, torch.randn(3, 11, 6, dtype=dtype, requires_grad=True)


def gradients(layer: RecurrentLayer, y: torch.Tensor, x: torch.Tensor) -> list[torch.Tensor]:
    weigh = torch.linspace(-1, 1, y.numel(), dtype=y.dtype).view_as(y)
    return list(torch.autograd.grad((y * weigh).sum(), [x, *layer.parameters()]))


@every_cell
@every_rule
def test_autocast_in_bf16_stays_near_float32(cell: str, rule: FeedbackConfig) -> None:
    """Forward and backward inside autocast, as a training loop may have it; parameters and gradients stay float32."""
    layer, x = layer_and_input(cell, rule)
    plain = gradients(layer, layer(x)[0], x)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        y, state = layer(x)
        cast = gradients(layer, y, x)
    assert y.dtype == state.dtype == torch.bfloat16
    for ours, theirs in zip(cast, plain, strict=True):
        assert ours.dtype == torch.float32
        assert (ours - theirs).norm() < 0.05 * theirs.norm()


@every_cell
@every_rule
@pytest.mark.parametrize("reentrant", [False, True])
def test_activation_checkpointing_changes_nothing(cell: str, rule: FeedbackConfig, reentrant: bool) -> None:
    """Not the gradients, and not what the rule counts: a recomputed forward is not a second backward."""
    layer, x = layer_and_input(cell, rule)
    layer(x)[0].sum().backward()
    plain, counted = [x.grad, *(p.grad for p in layer.parameters())], layer.feedback.take_increments()
    x.grad = None
    layer.zero_grad()
    checkpoint(lambda each: layer(each)[0], x, use_reentrant=reentrant).sum().backward()
    for ours, theirs in zip([x.grad, *(p.grad for p in layer.parameters())], plain, strict=True):
        assert torch.equal(ours, theirs)
    assert torch.equal(layer.feedback.take_increments(), counted)


@every_cell
def test_compile_gives_the_same_model(cell: str) -> None:
    """What stands around the recurrence is compiled; eager code generation, so that no compiler is needed here."""
    model = LanguageModel(ModelConfig(vocab_size=23, d_model=8, n_layers=2, cell=cell))
    tokens = torch.randint(23, (2, 7))
    wanted = model.loss(tokens, tokens)[0]
    wanted.backward()
    plain = [parameter.grad.clone() for parameter in model.parameters()]
    model.zero_grad()
    got = torch.compile(lambda each: model.loss(each, each)[0], backend="aot_eager")(tokens)
    got.backward()
    assert torch.allclose(got, wanted, rtol=1e-6)
    for ours, theirs in zip((parameter.grad for parameter in model.parameters()), plain, strict=True):
        assert torch.allclose(ours, theirs, rtol=1e-5, atol=1e-6)


@every_cell
@pytest.mark.parametrize("frozen", ["weight_ih", "weight_hh", "bias_ih", "bias_hh", "all"])
def test_frozen_parameters_get_no_gradient_and_change_no_other(cell: str, frozen: str) -> None:
    layer, x = layer_and_input(cell, FeedbackConfig())
    plain = gradients(layer, layer(x)[0], x)
    names = [name for name, _ in layer.named_parameters()]
    for name, parameter in layer.named_parameters():
        parameter.requires_grad_(frozen not in (name, "all"))
    y, _ = layer(x)
    (y * torch.linspace(-1, 1, y.numel()).view_as(y)).sum().backward()
    assert torch.allclose(x.grad, plain[0], rtol=1e-5, atol=1e-6)
    for name, theirs in zip(names, plain[1:], strict=True):
        grad = getattr(layer, name).grad
        assert grad is None if frozen in (name, "all") else torch.allclose(grad, theirs, rtol=1e-5, atol=1e-6)


@every_cell
def test_no_grad_saves_nothing_and_gives_the_same(cell: str) -> None:
    layer, x = layer_and_input(cell, FeedbackConfig())
    wanted = layer(x)[0]
    for quiet in (torch.no_grad, torch.inference_mode):
        with quiet():
            y, state = layer(x)
        assert y.grad_fn is None
        assert state.grad_fn is None
        assert torch.equal(y, wanted)


@every_cell
def test_a_graph_can_be_walked_twice(cell: str) -> None:
    """retain_graph: the backward changes nothing that it was given."""
    layer, x = layer_and_input(cell, FeedbackConfig())
    y, _ = layer(x)
    first = torch.autograd.grad(y.sum(), x, retain_graph=True)[0]
    assert torch.equal(torch.autograd.grad(y.sum(), x)[0], first)


def test_function_transforms_are_refused() -> None:
    layer, x = layer_and_input("gru", FeedbackConfig())
    message = r"torch.func transforms \(.*recurrence_reference"
    with pytest.raises(RuntimeError, match=message):
        torch.func.grad(lambda each: layer(each)[0].sum())(x.detach())
    with pytest.raises(RuntimeError, match=message):
        torch.func.vmap(lambda each: layer(each)[0])(x.detach()[None])


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_batched_gradients_are_refused(dtype: torch.dtype) -> None:
    layer, x = layer_and_input("gru", FeedbackConfig(), dtype)
    y, _ = layer(x)
    with pytest.raises(RuntimeError, match=r"batched gradients .*recurrence_reference"):
        torch.autograd.grad(y, x, torch.ones(2, *y.shape, dtype=dtype), is_grads_batched=True)


@pytest.mark.parametrize("mode", [torch.no_grad, torch.enable_grad])
def test_forward_mode_is_refused_where_tangents_would_be_lost(mode) -> None:
    layer, x = layer_and_input("gru", FeedbackConfig())
    x = x.detach()
    with mode(), forward_ad.dual_level():
        layer(x)  # no tangent, nothing to lose
        with pytest.raises(RuntimeError, match=r"forward-mode derivatives .*recurrence_reference"):
            layer(forward_ad.make_dual(x, x))


def test_tracing_and_exporting_are_refused() -> None:
    layer, x = layer_and_input("gru", FeedbackConfig())
    message = r"torch.jit.trace and torch.export cannot .*recurrence_reference"
    with pytest.raises(RuntimeError, match=message), torch.no_grad():
        torch.jit.trace(layer, (x,))
    with pytest.raises(RuntimeError, match=message):
        torch.export.export(layer, (x,))


@every_rule
def test_the_saved_tensors_are_those_of_the_method_page(rule: FeedbackConfig) -> None:
    """docs/method.md counts them: a GRU's states and r, z, n, u_n; an LSTM's two states and four gates; Elman's h."""
    for cell, per_token in (("gru", 1 + 4), ("lstm", 2 + 4), ("elman", 1), ("ugrnn", 1 + 2)):
        layer, _ = layer_and_input(cell, rule)
        sizes: list[int] = []

        def pack(tensor: torch.Tensor, sizes: list[int] = sizes) -> torch.Tensor:
            sizes.append(tensor.numel())
            return tensor

        inputs = torch.randn(11, 3, len(layer.cell.GATES) * 8, requires_grad=True)
        with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
            recurrence(
                layer.cell, layer.feedback, inputs, layer.weight_hh, layer.bias_hh, torch.zeros(3, layer.state_size)
            )
        tokens, weights, first_state = 11 * 3, layer.weight_hh.numel(), 3 * layer.state_size
        assert sum(sizes) == per_token * 8 * tokens + first_state + weights
