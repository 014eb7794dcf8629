"""Every rule's gradient against autograd's BPTT of the definition, and against dense Jacobians, in float64."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from ssrnn_dist.feedback import LayerFeedback, recurrence
from ssrnn_dist.feedback.fidelity import fidelity
from ssrnn_dist.model import FeedbackConfig, LanguageModel, ModelConfig, RecurrentLayer
from ssrnn_kernels.cells import CELLS
from ssrnn_kernels.recurrence import recurrence_reference

shapes = st.tuples(st.integers(1, 3), st.integers(1, 9), st.integers(1, 5), st.integers(0, 10_000))


def problem(n_batch: int, n_steps: int, d: int, seed: int, scale: float = 1.0) -> tuple[list[Tensor], Tensor, Tensor]:
    """Inputs, weight, bias, state (leaves), resets, and what the loss weighs each state with."""
    generator = torch.Generator().manual_seed(seed)

    def draw(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator, dtype=torch.float64)

    weight = scale * (torch.rand(3 * d, d, generator=generator, dtype=torch.float64) * 2 - 1) / d**0.5
    tensors = [draw(n_steps, n_batch, 3 * d), weight, draw(3 * d) * 0.3, draw(n_batch, d)]
    reset = torch.rand(n_steps, n_batch, generator=generator) < 0.25
    return [tensor.requires_grad_() for tensor in tensors], reset, draw(n_steps, n_batch, d)


def gradients(config: FeedbackConfig, leaves: list[Tensor], reset: Tensor | None, weighing: Tensor) -> list[Tensor]:
    feedback = LayerFeedback(config, leaves[1].shape[1])
    if config.decay == "linspace":
        assert feedback.decay_D is not None
        feedback.decay_D = feedback.decay_D.double()
    states = recurrence(CELLS["gru"], feedback, *leaves, reset)
    return list(torch.autograd.grad((states * weighing).sum(), leaves))


def bptt(leaves: list[Tensor], reset: Tensor | None, weighing: Tensor) -> list[Tensor]:
    states = recurrence_reference(CELLS["gru"], *leaves, reset)
    return list(torch.autograd.grad((states * weighing).sum(), leaves))


def relative_error(ours: list[Tensor], theirs: list[Tensor]) -> float:
    ours_flat, theirs_flat = (torch.cat([each.flatten() for each in many]) for many in (ours, theirs))
    return float((ours_flat - theirs_flat).norm() / theirs_flat.norm().clamp_min(1e-30))


@given(shapes)
@settings(max_examples=40, deadline=None)
def test_exact_is_autograds_bptt(shape: tuple[int, int, int, int]) -> None:
    leaves, reset, weighing = problem(*shape)
    assert (
        relative_error(gradients(FeedbackConfig(kind="exact"), leaves, reset, weighing), bptt(leaves, reset, weighing))
        < 1e-12
    )


@given(shapes)
@settings(max_examples=40, deadline=None)
def test_as_many_sweeps_as_steps_are_bptt(shape: tuple[int, int, int, int]) -> None:
    leaves, reset, weighing = problem(*shape)
    config = FeedbackConfig(kind="selective", refinements=shape[1])
    assert relative_error(gradients(config, leaves, reset, weighing), bptt(leaves, reset, weighing)) < 1e-10


@given(shapes)
@settings(max_examples=40, deadline=None)
def test_every_rule_is_its_dense_definition(shape: tuple[int, int, int, int]) -> None:
    """δ_t = e_t + M_{t+1}ᵀ δ_{t+1} with M from autograd's own Jacobian, and gradients local in t."""
    leaves, reset, weighing = problem(*shape)
    d = leaves[1].shape[1]
    rules = {
        "truncated": lambda jacobian: torch.zeros_like(jacobian),
        "selective": lambda jacobian: jacobian.diagonal().diag(),
        "stationary": lambda jacobian: torch.linspace(0, 1, d, dtype=torch.float64).diag(),
    }
    for kind, structured in rules.items():
        config = FeedbackConfig(kind=kind, refinements=0)
        expected = dense_definition(leaves, reset, weighing, structured)
        # λ of linspace is float32's, so its float64 value differs in the eighth digit
        assert relative_error(gradients(config, leaves, reset, weighing), expected) < (
            1e-6 if kind == "stationary" else 1e-12
        )


def dense_definition(leaves: list[Tensor], reset: Tensor, weighing: Tensor, structured) -> list[Tensor]:
    inputs, weight, bias, state = leaves
    cell = CELLS["gru"]
    with torch.no_grad():
        after = recurrence_reference(cell, inputs, weight, bias, state, reset)
    before = torch.cat([state.detach()[None], after[:-1]]).masked_fill(reset.unsqueeze(-1), 0)
    n_steps, n_batch, _ = after.shape
    delta = weighing.clone()
    for t in reversed(range(n_steps - 1)):
        for b in range(n_batch):
            if reset[t + 1, b]:
                continue

            def one_step(h: Tensor, t: int = t, b: int = b) -> Tensor:
                return cell.step(inputs[t + 1, b : b + 1], h[None] @ weight.t() + bias, h[None])[0]

            jacobian = torch.autograd.functional.jacobian(one_step, before[t + 1, b])
            delta[t, b] += structured(jacobian).t() @ delta[t + 1, b]
    leaves_again = [each.detach().requires_grad_() for each in (inputs, weight, bias)]
    first = state.detach().requires_grad_()
    starts = torch.cat([first[None], before[1:]]).masked_fill(reset.unsqueeze(-1), 0)
    hidden = starts @ leaves_again[1].t() + leaves_again[2]
    steps = torch.stack([cell.step(leaves_again[0][t], hidden[t], starts[t]) for t in range(n_steps)])
    return list(torch.autograd.grad((steps * delta).sum(), [*leaves_again, first]))


def test_linspace_is_the_papers_recursion() -> None:
    assert torch.equal(LayerFeedback(FeedbackConfig(kind="stationary"), 5).decay_D, torch.linspace(0, 1, 5))


def test_sweeps_approach_bptt_as_measured_in_the_method() -> None:
    """docs/method.md: 0.202, 0.040, 8.0e-3, 3.3e-4 for 0, 1, 2, 4 sweeps at initialisation."""
    torch.manual_seed(0)
    leaves, _, weighing = problem(8, 40, 32, 0)
    exact = bptt(leaves, None, weighing)
    errors = [
        relative_error(gradients(FeedbackConfig(refinements=k), leaves, None, weighing), exact) for k in (0, 1, 2, 4)
    ]
    assert errors == sorted(errors, reverse=True)
    assert errors[1] < 0.1
    assert errors[3] < 2e-3


def test_the_error_estimate_is_near_the_true_error() -> None:
    leaves, reset, weighing = problem(4, 30, 24, 1)
    inputs = leaves[0]
    exact = torch.autograd.grad((recurrence_reference(CELLS["gru"], *leaves, reset) * weighing).sum(), inputs)[0]
    feedback = LayerFeedback(FeedbackConfig(refinements=1), 24)
    ours = torch.autograd.grad((recurrence(CELLS["gru"], feedback, *leaves, reset) * weighing).sum(), inputs)[0]
    told = fidelity(feedback.take_increments())
    true_error = float((ours - exact).norm() / exact.norm())
    assert told.residual is not None
    assert told.error_estimate is not None
    assert true_error / 3 < told.error_estimate < true_error * 5
    assert told.residual > true_error
    assert torch.equal(feedback.take_increments(), torch.zeros(3, dtype=torch.float64))


def test_calibrated_decay_follows_the_mean_diagonal() -> None:
    leaves, reset, _weighing = problem(3, 7, 4, 5)
    feedback = LayerFeedback(FeedbackConfig(kind="stationary", decay="calibrated", refinements=1), 4)
    with pytest.raises(RuntimeError, match="calibrate"):
        recurrence(CELLS["gru"], feedback, *leaves, reset).sum().backward()
    feedback.decay_D = torch.full((4,), 0.5)
    recurrence(CELLS["gru"], feedback, *leaves, reset).sum().backward()
    sums = feedback.take_diagonal()
    assert sums[-1] == (~reset[1:]).sum()
    before = feedback.decay_D.clone()
    feedback.recalibrate(sums)
    expected = 0.9 * before + 0.1 * (sums[:-1] / sums[-1]).float()
    assert torch.allclose(feedback.decay_D, expected)
    feedback.recalibrate(torch.zeros(5, dtype=torch.float64))  # nothing seen: nothing moves
    assert torch.allclose(feedback.decay_D, expected)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
def test_the_layer_is_torchs_gru(dtype: torch.dtype) -> None:
    torch.manual_seed(1)
    module = torch.nn.GRU(5, 6, batch_first=True).to(dtype)
    layer = RecurrentLayer.from_torch(module, FeedbackConfig(kind="exact"))
    x, state = torch.randn(3, 11, 5, dtype=dtype), torch.randn(3, 6, dtype=dtype)
    theirs, their_state = module(x, state[None])
    ours, our_state = layer(x, state)
    tolerance = {torch.float64: 1e-12, torch.float32: 1e-5, torch.bfloat16: 0.03}[dtype]
    assert torch.allclose(ours, theirs, atol=tolerance, rtol=0)
    assert torch.allclose(our_state, their_state[0], atol=tolerance, rtol=0)
    ours.pow(2).sum().backward()
    theirs.pow(2).sum().backward()
    for name in ("weight_ih", "weight_hh", "bias_ih", "bias_hh"):
        got, wanted = getattr(layer, name).grad, getattr(module, f"{name}_l0").grad
        assert (got - wanted).norm() <= max(tolerance, 1e-12) * 3 * wanted.norm()
    again = layer.to_torch()
    assert all(torch.equal(a, b) for a, b in zip(again.parameters(), module.parameters(), strict=True))


def test_windows_carry_the_state_and_resets_cut_it() -> None:
    torch.manual_seed(2)
    layer = RecurrentLayer(4, 4).double()
    x = torch.randn(2, 10, 4, dtype=torch.float64)
    whole, last = layer(x)
    first, state = layer(x[:, :6])
    second, end = layer(x[:, 6:], state)
    assert torch.equal(torch.cat([first, second], dim=1), whole)
    assert torch.equal(end, last)
    reset = torch.zeros(2, 10, dtype=torch.bool)
    reset[:, 6] = True
    cut, _ = layer(x, None, reset)
    fresh, _ = layer(x[:, 6:])
    assert torch.equal(cut[:, 6:], fresh)


def test_shapes_that_hold_nothing() -> None:
    layer = RecurrentLayer(4, 4)
    y, state = layer(torch.randn(2, 0, 4))
    assert y.shape == (2, 0, 4)
    assert state.shape == (2, 4)
    y, state = layer(torch.randn(0, 3, 4), None, torch.zeros(0, 3, dtype=torch.bool))
    y.sum().backward()
    assert float(layer.weight_hh.grad.abs().sum()) == 0


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        (lambda: RecurrentLayer(0, 4), "d_input: 0; allowed"),
        (lambda: RecurrentLayer(4, 4, cell="gruu"), "cell: 'gruu'; allowed: gru"),
        (lambda: RecurrentLayer(4, 4)(torch.randn(2, 3, 5)), "x_BTD: shape"),
        (lambda: RecurrentLayer(4, 4)(torch.randn(2, 3, 4), torch.randn(2, 5)), "state: shape"),
        (lambda: RecurrentLayer(4, 4)(torch.randn(2, 3, 4), None, torch.zeros(2, 3)), "reset_BT: shape"),
        (lambda: RecurrentLayer.from_torch(torch.nn.GRU(2, 2, num_layers=2)), "module: more than one"),
        (lambda: FeedbackConfig(kind="exact", refinements=1), "exact needs none"),
        (lambda: FeedbackConfig(kind="stationary", refinements=1), "diverge"),
        (lambda: FeedbackConfig(kind="selective", decay="linspace"), "decay is only for kind: stationary"),
    ],
)
def test_errors_say_what_came_and_what_is_allowed(wrong, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        wrong()


def test_double_backward_is_refused() -> None:
    layer = RecurrentLayer(3, 3).double()
    x = torch.randn(1, 4, 3, dtype=torch.float64, requires_grad=True)
    with pytest.raises(RuntimeError, match="second derivatives"):
        torch.autograd.grad(layer(x)[0].sum(), x, create_graph=True)
    model = small_model()
    nats, _ = model.loss(torch.zeros(1, 3, dtype=torch.int64), torch.zeros(1, 3, dtype=torch.int64))
    with pytest.raises(RuntimeError, match="second derivatives"):
        torch.autograd.grad(nats, list(model.parameters()), create_graph=True)


def small_model(**changes) -> LanguageModel:
    return LanguageModel(ModelConfig(vocab_size=37, d_model=8, n_layers=2, **changes))


def test_loss_in_chunks_is_the_loss_of_the_logits(monkeypatch) -> None:
    from ssrnn_dist.model import chunked_loss

    monkeypatch.setattr(chunked_loss, "LOGITS_PER_CHUNK", 37 * 5)
    for tie in (True, False):
        model = small_model(tie_embeddings=tie).double()
        tokens = torch.randint(37, (3, 9))
        targets = torch.randint(37, (3, 9))
        targets[0, 3:5] = -100
        nats, state = model.loss(tokens, targets)
        nats.backward()
        got = {name: parameter.grad.clone() for name, parameter in model.named_parameters()}
        model.zero_grad()
        logits, state_again = model(tokens)
        wanted = torch.nn.functional.cross_entropy(logits.flatten(0, 1), targets.flatten(), reduction="sum")
        wanted.backward()
        assert torch.allclose(nats, wanted, rtol=1e-12)
        assert all(torch.equal(a, b) for a, b in zip(state, state_again, strict=True))
        for name, parameter in model.named_parameters():
            assert torch.allclose(got[name], parameter.grad, rtol=1e-9, atol=1e-12), name
        with torch.no_grad():
            assert torch.allclose(model.loss(tokens, targets)[0], wanted, rtol=1e-12)


def test_the_same_seed_gives_the_same_model_whatever_came_before() -> None:
    torch.manual_seed(5)
    first = small_model()
    torch.randn(100)
    second = small_model()
    other = small_model(init_seed=1)
    assert all(torch.equal(a, b) for a, b in zip(first.parameters(), second.parameters(), strict=True))
    assert not torch.equal(first.embedding.weight, other.embedding.weight)
