"""The recurrent layer and the language model: torch.nn's mathematics, heads, state, resets, errors, loss in chunks."""

import copy
import io

import pytest
import torch

from ssrnn_dist.feedback import LayerFeedback
from ssrnn_dist.model import FeedbackConfig, LanguageModel, ModelConfig, RecurrentLayer
from ssrnn_dist.model.language_model import count_parameters
from ssrnn_kernels.cells import CELLS


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
@pytest.mark.parametrize("cell", RecurrentLayer.TORCH_CLASSES)
def test_the_layer_is_torchs(cell: str, dtype: torch.dtype) -> None:
    torch.manual_seed(1)
    module = RecurrentLayer.TORCH_CLASSES[cell](5, 6, batch_first=True).to(dtype)
    layer = RecurrentLayer.from_torch(module, FeedbackConfig(kind="exact"))
    x, state = torch.randn(3, 11, 5, dtype=dtype), torch.randn(3, layer.state_size, dtype=dtype)
    their_start = tuple(part[None].contiguous() for part in state.chunk(layer.cell.N_STATES, dim=-1))
    theirs, their_state = module(x, their_start if cell == "lstm" else their_start[0])
    their_state = torch.cat(their_state, dim=-1) if cell == "lstm" else their_state
    ours, our_state = layer(x, state)
    tolerance = {torch.float64: 1e-12, torch.float32: 1e-5, torch.bfloat16: 0.03}[dtype]
    assert torch.allclose(ours, theirs, atol=tolerance, rtol=0)
    assert torch.allclose(our_state, their_state[0], atol=tolerance, rtol=0)
    (ours.pow(2).sum() + our_state.sum()).backward()
    (theirs.pow(2).sum() + their_state.sum()).backward()
    for name in ("weight_ih", "weight_hh", "bias_ih", "bias_hh"):
        got, wanted = getattr(layer, name).grad, getattr(module, f"{name}_l0").grad
        assert (got - wanted).norm() <= max(tolerance, 1e-12) * 3 * wanted.norm()
    again = layer.to_torch()
    assert type(again) is type(module)
    assert all(torch.equal(a, b) for a, b in zip(again.parameters(), module.parameters(), strict=True))


def test_heads_are_layers_beside_each_other() -> None:
    """A layer of two heads is two layers of half the width, each with its own rows of the weights."""
    torch.manual_seed(4)
    for cell in CELLS:
        both = RecurrentLayer(5, 6, cell, n_heads=2, feedback=FeedbackConfig(refinements=2)).double()
        x = torch.randn(2, 9, 5, dtype=torch.float64, requires_grad=True)
        ys = []
        for head in range(2):
            one = RecurrentLayer(5, 3, cell, feedback=FeedbackConfig(refinements=2)).double()
            for name, parameter in one.named_parameters():
                parameter.data.copy_(getattr(both, name).data.chunk(2)[head])
            ys.append(one(x)[0])
        wanted = torch.cat(ys, dim=-1)
        got, _ = both(x)
        assert torch.allclose(got, wanted, atol=1e-12)
        weigh = torch.randn_like(got)
        gradients = [torch.autograd.grad((y * weigh).sum(), x)[0] for y in (got, wanted)]
        assert torch.allclose(*gradients, atol=1e-12), cell


def test_the_whole_state_can_be_the_output() -> None:
    layer = RecurrentLayer(3, 4, "lstm", output="hc")
    y, state = layer(torch.randn(2, 5, 3))
    assert y.shape == (2, 5, 8)
    assert torch.equal(y[:, -1], state)
    model = small_model(cell="lstm", output="hc")
    model.loss(torch.zeros(1, 3, dtype=torch.int64), torch.zeros(1, 3, dtype=torch.int64))[0].backward()


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


@pytest.mark.parametrize("cell", CELLS)
def test_the_state_is_in_memory_of_its_own(cell: str) -> None:
    """It outlives the window, which it must not hold, and what is done to it is not done to y."""
    layer, x = RecurrentLayer(3, 4, cell), torch.randn(2, 9, 3)
    y, state = layer(x)
    loss, kept = y.sum(), state.detach()
    assert kept.untyped_storage().nbytes() == kept.nbytes
    kept.zero_()
    loss.backward()
    with torch.no_grad():
        y, state = layer(x)
        before = state.clone()
        y.zero_()
    assert torch.equal(state, before)


def test_layers_and_models_can_be_copied_and_pickled() -> None:
    layer, x = RecurrentLayer(3, 4, "lstm", feedback=FeedbackConfig(kind="stationary")), torch.randn(2, 5, 3)
    file = io.BytesIO()
    torch.save(layer, file)
    file.seek(0)
    for other in (copy.deepcopy(layer), torch.load(file, weights_only=False)):
        assert torch.equal(other(x)[0], layer(x)[0])
    copy.deepcopy(small_model())


def test_what_is_frozen_in_torchs_module_is_frozen_in_the_layer() -> None:
    module = torch.nn.GRU(3, 4, batch_first=True).eval()
    module.weight_hh_l0.requires_grad_(False)
    layer = RecurrentLayer.from_torch(module)
    for each in (layer.weight_hh, layer.to_torch().weight_hh_l0):
        assert not each.requires_grad
    assert layer.weight_ih.requires_grad
    assert not layer.training
    assert not layer.to_torch().training


def test_shapes_that_hold_nothing() -> None:
    layer = RecurrentLayer(4, 4)
    y, state = layer(torch.randn(2, 0, 4))
    assert y.shape == (2, 0, 4)
    assert state.shape == (2, 4)
    y.sum().backward()
    y, state = layer(torch.randn(0, 3, 4), None, torch.zeros(0, 3, dtype=torch.bool))
    y.sum().backward()
    assert float(layer.weight_hh.grad.abs().sum()) == 0


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        (lambda: RecurrentLayer(0, 4), "d_input: 0; allowed"),
        (lambda: RecurrentLayer(4, 4, cell="gruu"), f"cell: 'gruu'; allowed: {', '.join(CELLS)}$"),
        (lambda: RecurrentLayer(4, 4)(torch.randn(2, 3, 5)), "x_BTD: shape"),
        (lambda: RecurrentLayer(4, 4)(torch.randn(2, 3, 4), torch.randn(2, 5)), "state: shape"),
        (lambda: RecurrentLayer(4, 4, "lstm")(torch.randn(2, 3, 4), (1, 2)), "state: a tuple; allowed: a tensor"),
        (lambda: RecurrentLayer(4, 4)(torch.randn(2, 3, 4), None, torch.zeros(2, 3)), "reset_BT: shape"),
        (lambda: RecurrentLayer.from_torch(torch.nn.GRU(2, 2, num_layers=2)), "module: more than one"),
        (lambda: RecurrentLayer.from_torch(torch.nn.RNN(2, 2, nonlinearity="relu")), "allowed: torch.nn.RNN with tanh"),
        (lambda: RecurrentLayer.from_torch(torch.nn.LSTM(2, 3, proj_size=2)), "without projection"),
        (lambda: RecurrentLayer(4, 6, n_heads=4), "n_heads: 4; allowed: what divides d_state 6"),
        (lambda: RecurrentLayer(4, 6, n_heads=2).to_torch(), "n_heads 2; allowed for torch.nn"),
        (lambda: RecurrentLayer(4, 6, output="c"), "output: 'c'; allowed: h, hc"),
        (lambda: ModelConfig(vocab_size=9, d_model=9, n_heads=2), "n_heads must divide"),
        (lambda: ModelConfig(vocab_size=9, cell="gruu"), f"'gruu' is no cell; allowed: {', '.join(CELLS)}"),
        (
            lambda: LayerFeedback(FeedbackConfig(kind="stationary", decay=[0.1, 0.2]), 4, 2),
            "2 numbers; allowed: one, or",
        ),
        (lambda: FeedbackConfig(kind="stationary", decay=1.5), "less than or equal to 1"),
        (lambda: FeedbackConfig(kind="stationary", decay="gaussian", refinements=1), "for comparison only"),
        (lambda: FeedbackConfig(kind="exact", refinements="auto"), "exact needs none"),
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


def test_embeddings_are_scaled_as_input_only() -> None:
    plain, scaled = small_model(), small_model(scale_embeddings=True)
    tokens = torch.randint(37, (3, 9))
    assert not torch.allclose(plain(tokens)[0], scaled(tokens)[0])
    plain.embedding = torch.nn.Embedding.from_pretrained(scaled.embedding.weight.detach() * 8**0.5)
    torch.testing.assert_close(plain(tokens)[0], scaled(tokens)[0])


def test_the_same_seed_gives_the_same_model_whatever_came_before() -> None:
    torch.manual_seed(5)
    first = small_model()
    torch.randn(100)
    second = small_model()
    other = small_model(init_seed=1)
    assert all(torch.equal(a, b) for a, b in zip(first.parameters(), second.parameters(), strict=True))
    assert not torch.equal(first.embedding.weight, other.embedding.weight)


@pytest.mark.parametrize("decay", ["gaussian", "orthogonal"])
def test_dense_feedback_is_drawn_for_every_layer_and_the_same_again(decay: str) -> None:
    first, second = (small_model(feedback=FeedbackConfig(kind="stationary", decay=decay)) for _ in range(2))
    drawn, again = ([layer.feedback.decay for layer in model.recurrent_layers] for model in (first, second))
    assert not torch.equal(*drawn)
    assert all(map(torch.equal, drawn, again))
    assert count_parameters(first.config) == sum(each.numel() for each in first.parameters())


def test_a_layer_without_memory_has_its_shapes() -> None:
    """On torch's "meta", which knows no autocast."""
    layer = RecurrentLayer(4, 6).to("meta")
    y, state = layer(torch.zeros(3, 5, 4, device="meta"))
    assert (y.shape, state.shape) == ((3, 5, 6), (3, 6))
