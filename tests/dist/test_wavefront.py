"""Blocks over chunks of time in waves: the same gradients as over the whole window, and the same bits as in order."""

from collections.abc import Sequence

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from ssrnn_dist.config.model import FeedbackConfig
from ssrnn_dist.model.language_model import LanguageModel
from ssrnn_dist.model.wavefront import edges, wavefront
from tests.helpers import wavefronts
from tests.helpers.wavefronts import drawn, model_of

RULES = {
    "exact": FeedbackConfig(kind="exact"),
    "truncated": FeedbackConfig(kind="truncated"),
    "stationary": FeedbackConfig(kind="stationary", decay=0.9),
    "selective": FeedbackConfig(refinements=0),
    "selective + 2": FeedbackConfig(refinements=2),
}


def everything(
    model: LanguageModel, x: Tensor, states: list[Tensor], reset: Tensor, how: tuple[int, int] | None
) -> list[Tensor]:
    """Outputs and every gradient: block by block (None), or by so many chunks and threads."""

    def forward(x: Tensor, states: list[Tensor], reset: Tensor) -> tuple[Tensor, Sequence[Tensor]]:
        if how is not None:
            return wavefront(list(model.blocks), x, states, reset, *how)
        after = []
        for block, state in zip(model.blocks, states, strict=True):
            x, new_state = block(x, state, reset)
            after.append(new_state)
        return x, after

    return wavefronts.everything(model, (x, states, reset), forward)


@pytest.mark.parametrize("name", RULES)
@given(
    st.integers(1, 14),
    st.integers(1, 4),
    st.integers(1, 6),
    st.integers(1, 3),
    st.sampled_from(["gru", "lstm"]),
    st.integers(0, 99),
)
@settings(max_examples=12, deadline=None)
def test_waves_are_the_blocks_over_the_whole_window(
    name: str, n_steps: int, n_batch: int, n_chunks: int, n_layers: int, cell: str, seed: int
) -> None:
    model = model_of(RULES[name], cell, n_layers).double()
    given_ = drawn(model, n_steps, n_batch, seed)
    whole, waves = (everything(model, *given_, how) for how in (None, (n_chunks, 2)))
    for ours, wanted in zip(waves, whole, strict=True):
        torch.testing.assert_close(ours, wanted, rtol=1e-9, atol=1e-11)


@pytest.mark.parametrize("name", RULES)
def test_two_threads_give_the_bits_of_one(name: str) -> None:
    model = model_of(RULES[name], d=64)
    given_ = drawn(model, 40, 3, 1)
    in_order = everything(model, *given_, (5, 1))
    for _ in range(3):
        assert all(torch.equal(*pair) for pair in zip(everything(model, *given_, (5, 2)), in_order, strict=True))
    assert torch.get_num_threads() > 0


def test_autocast_holds_on_every_thread() -> None:
    model = model_of(RULES["selective"], d=32)
    given_ = drawn(model, 12, 2, 1)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        waves, in_order = (everything(model, *given_, (3, n_threads)) for n_threads in (2, 1))
        single = everything(model, *given_, None)
    assert all(torch.equal(*pair) for pair in zip(waves, in_order, strict=True))
    assert (waves[0] - single[0]).norm() <= 1e-2 * single[0].norm()


def test_sweeps_that_grow_in_a_chunk_are_left_out_there() -> None:
    """The gradient stays finite, and the layer's own bits on one thread and on two."""
    model = model_of(FeedbackConfig(refinements=8), n_layers=1, d=16)
    with torch.no_grad():
        model.recurrent_layers[0].weight_hh.mul_(12)
    given_ = drawn(model, 60, 3, 1)
    with pytest.warns(UserWarning, match="refinement grows"):
        waves, in_order = (everything(model, *given_, (3, n_threads)) for n_threads in (2, 1))
    assert all(each.isfinite().all() for each in waves)
    assert all(torch.equal(*pair) for pair in zip(waves, in_order, strict=True))


def test_auto_is_refused_and_the_first_error_ends_it() -> None:
    model = model_of(FeedbackConfig(refinements="auto"))
    given_ = drawn(model, 12, 2, 1)
    with pytest.raises(ValueError, match="refinements: auto does not go by chunks of time; allowed: exact, truncated"):
        everything(model, *given_, (3, 2))

    class Broken(nn.Module):
        def chunk(self, x_TBD: Tensor, *_: object) -> tuple[Tensor, ...]:
            raise RuntimeError("a block that cannot")

    with pytest.raises(RuntimeError, match="a block that cannot"):
        wavefront([*model.blocks, Broken()], given_[0], [*given_[1], given_[1][0]], None, 3, 2)


def test_it_goes_back_once() -> None:
    model = model_of(RULES["exact"])
    x, states, _ = drawn(model, 6, 2, 1)
    y, _ = wavefront(list(model.blocks), x.requires_grad_(), states, None, 2, 2)
    y.sum().backward(retain_graph=True)
    with pytest.raises(RuntimeError, match="a wavefront's backward runs once"):
        y.sum().backward()


def test_chunks_are_of_equal_length() -> None:
    assert edges(10, 4) == [(0, 3), (3, 6), (6, 9), (9, 10)]
    assert edges(3, 8) == [(0, 1), (1, 2), (2, 3)]
    for n_steps, n_chunks in ((0, 2), (4, 0)):
        with pytest.raises(ValueError, match="allowed: 1 or more of each"):
            edges(n_steps, n_chunks)


@torch.no_grad()
def test_without_gradients_nothing_is_kept() -> None:
    model = model_of(RULES["selective"])
    x, states, reset = drawn(model, 12, 2, 1)
    y, after = wavefront(list(model.blocks), x, states, reset, 3, 2)
    assert not any(each.requires_grad for each in (y, *after))
    wanted = x
    for block, state in zip(model.blocks, states, strict=True):
        wanted, _ = block(wanted, state, reset)
    torch.testing.assert_close(y, wanted)
