"""Waves on a GPU, by streams and by graphs: the bits of chunks in order. Without one, streams that know who waits."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from ssrnn_dist.config.model import FeedbackConfig
from ssrnn_dist.model import waves
from ssrnn_dist.model.graphed_wavefront import GraphedWavefront
from ssrnn_dist.model.language_model import LanguageModel
from ssrnn_dist.model.wavefront import Run, edges, wavefront
from tests.helpers.wavefronts import Given, drawn, everything, model_of

on_a_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")
RULES = {
    "exact": FeedbackConfig(kind="exact"),
    "selective": FeedbackConfig(refinements=0),
    "selective + 2": FeedbackConfig(refinements=2),
    "stationary + 1": FeedbackConfig(kind="stationary", decay=0.9, refinements=1),
}
Clock = dict[int, int]  # by stream: how many of its tasks are known to have ended


class KnowingStream:
    """Stands in for a CUDA stream: what is done on it is done at once, and it knows what it may rely on."""

    device = torch.device("cpu")

    def __init__(self, number: int) -> None:
        self.number, self.clock = number, Clock()

    def record_event(self) -> Clock:
        return dict(self.clock)

    def wait_event(self, event: Clock) -> None:
        self.clock = {each: max(self.clock.get(each, 0), event.get(each, 0)) for each in {*self.clock, *event}}

    def wait_stream(self, other: "KnowingStream") -> None:
        self.wait_event(other.clock)

    def did_a_task(self) -> None:
        self.clock[self.number] = self.clock.get(self.number, 0) + 1


@pytest.fixture
def here(monkeypatch: pytest.MonkeyPatch) -> KnowingStream:
    """The current stream, in the place of a GPU's."""
    current = KnowingStream(-1)

    @contextmanager
    def stream(_: KnowingStream) -> Iterator[None]:
        yield

    monkeypatch.setattr(torch.cuda, "current_stream", lambda _: current)
    monkeypatch.setattr(torch.cuda, "stream", stream)
    return current


@pytest.mark.parametrize(("n_blocks", "n_chunks"), [(1, 1), (1, 5), (4, 1), (3, 5), (5, 3)])
def test_a_task_relies_on_the_two_before_it_and_the_caller_on_all(
    n_blocks: int, n_chunks: int, here: KnowingStream
) -> None:
    streams = [KnowingStream(block) for block in range(n_blocks)]
    here.clock = {-1: 7}  # what the caller did before

    def one(block: int, chunk: int) -> None:
        knows = streams[block].clock
        assert knows[-1] == 7
        assert knows.get(block, 0) == chunk
        assert block == 0 or knows[block - 1] >= chunk + 1
        streams[block].did_a_task()

    waves.on_streams(n_blocks, n_chunks, one, streams)  # type: ignore[arg-type]
    assert here.clock == {-1: 7, **dict.fromkeys(range(n_blocks), n_chunks)}


@given(st.integers(1, 6), st.integers(1, 6))
def test_waves_hold_every_task_once_and_none_early(n_blocks: int, n_chunks: int) -> None:
    order = list(waves.diagonals(n_blocks, n_chunks))
    assert sorted(order) == [(block, chunk) for block in range(n_blocks) for chunk in range(n_chunks)]
    assert [sum(each) for each in order] == sorted(sum(each) for each in order)


def told(model: LanguageModel) -> list[Tensor]:
    """What the layers have been told of increments since the last call."""
    return [layer.feedback.take_increments() for layer in model.recurrent_layers]


def by_run(model: LanguageModel, given_: Given, run: Run) -> list[Tensor]:
    x, states, _ = given_
    with waves.one_core_each():
        y, after = run.forward(x, states)
        to_x, to_states, to_parameters = run.backward(torch.cos(y), [torch.sin(each) for each in after])
    assert run.pieces == {}
    return [each for each in (y, *after, to_x, *to_states, *to_parameters) if each is not None]


def runs_of(model: LanguageModel, reset: Tensor, n_steps: int, streams: Sequence[object]) -> tuple[Run, Run]:
    """In order, and on streams."""
    cut = edges(n_steps, 5)
    blocks = model.blocks_in_order
    return Run(blocks, cut, reset, True), Run(blocks, cut, reset, True, streams=streams)  # type: ignore[arg-type]


@pytest.mark.parametrize("name", RULES)
def test_streams_give_the_bits_of_chunks_in_order(name: str, here: KnowingStream) -> None:
    model = model_of(RULES[name], d=16)
    given_ = drawn(model, 40, 3, 1)
    results = []
    for run in runs_of(model, given_[2], 40, [KnowingStream(block) for block in range(3)]):
        results.append([*by_run(model, given_, run), *told(model)])
    for ours, wanted in zip(*results, strict=True):
        torch.testing.assert_close(ours, wanted, rtol=1e-12 if ours.dtype == torch.float64 else 0, atol=0)


def test_sweeps_that_grow_are_judged_again_chunk_by_chunk(here: KnowingStream) -> None:
    """They are known by one look at the end of the window, and then the gradients are those of chunks in order."""
    model = model_of(FeedbackConfig(refinements=8), d=16)
    with torch.no_grad():
        model.recurrent_layers[1].weight_hh.mul_(12)
    given_, results = drawn(model, 40, 3, 1), []
    for run in runs_of(model, given_[2], 40, [KnowingStream(block) for block in range(3)]):
        with pytest.warns(UserWarning, match="refinement grows"):
            results.append([*by_run(model, given_, run), *told(model)])
        assert all(layer.feedback.unjudged is None for layer in model.recurrent_layers)
    for ours, wanted in zip(*results, strict=True):
        assert torch.equal(ours, wanted)
        assert ours.isfinite().all()


@on_a_gpu
@pytest.mark.parametrize(("d", "n_heads"), [(256, 1), (256, 4), (1024, 1)])  # spread; not; two don't fit beside another
@pytest.mark.parametrize("name", RULES)
def test_real_streams_and_a_graph_give_the_bits_of_chunks_in_order(name: str, d: int, n_heads: int) -> None:
    model = model_of(RULES[name], n_layers=4, d=d, n_heads=n_heads).to("cuda", torch.bfloat16)
    blocks = model.blocks_in_order
    first = drawn(model, 96, 8, 1)
    graphed = GraphedWavefront(blocks, *first, 6)
    for seed in (1, 2, 3):
        given_ = drawn(model, 96, 8, seed)
        in_order = everything(model, given_, lambda *given: wavefront(blocks, *given, 6, 1))
        for how in (lambda *given: wavefront(blocks, *given, 6, 2), graphed):
            for ours, wanted in zip(everything(model, given_, how), in_order, strict=True):
                assert torch.equal(ours, wanted)
        with torch.no_grad():  # as an optimizer does, in place
            for parameter in model.blocks.parameters():
                parameter.mul_(0.99)


@on_a_gpu
def test_a_graph_under_autocast_and_one_whose_sweeps_grow() -> None:
    model = model_of(FeedbackConfig(refinements=4), n_layers=2, d=128).to("cuda")
    with torch.no_grad():
        model.recurrent_layers[1].weight_hh.mul_(12)
    blocks, given_ = model.blocks_in_order, drawn(model, 48, 4, 1)
    with torch.autocast("cuda", dtype=torch.bfloat16):
        graphed = GraphedWavefront(blocks, *given_, 3)
        with pytest.warns(UserWarning, match="refinement grows"):
            in_order = everything(model, given_, lambda *given: wavefront(blocks, *given, 3, 1))
    with pytest.warns(UserWarning, match="refinement grows"):
        ours = everything(model, given_, graphed)
    assert all(torch.equal(*pair) for pair in zip(ours, in_order, strict=True))


@on_a_gpu
def test_what_a_graph_refuses() -> None:
    model = model_of(RULES["selective"], d=64).to("cuda", torch.bfloat16)
    x, states, reset = drawn(model, 40, 3, 1)
    graphed = GraphedWavefront(model.blocks_in_order, x, states, reset, 4)
    with pytest.raises(ValueError, match=r"x_TBD: torch.bfloat16, shape \(39, 3, 64\)"):
        graphed(x[1:], states, reset)
    with pytest.raises(ValueError, match="reset_BT: None; allowed in this graph: torch.bool, shape"):
        graphed(x, states)
    y, _ = graphed(x.requires_grad_(), states, reset)
    graphed(x, states, reset)
    with pytest.raises(RuntimeError, match="another window went through this graph"):
        y.sum().backward()
    moved = model.recurrent_layers[0].weight_hh
    moved.data, elsewhere = moved.data.clone(), moved.data
    assert elsewhere.data_ptr() != moved.data_ptr()
    with pytest.raises(ValueError, match="capture another graph"):
        graphed(x, states, reset)


@on_a_gpu
def test_states_go_from_window_to_window_under_autocast() -> None:
    model = model_of(RULES["selective"], n_layers=2, d=128).to("cuda")
    x, states, reset = drawn(model, 48, 4, 1)
    with torch.autocast("cuda", dtype=torch.bfloat16):
        graphed = GraphedWavefront(model.blocks_in_order, x, states, reset, 3)
        wanted = wavefront(model.blocks_in_order, x, states, reset, 3, 2)[1]
        wanted, _ = wavefront(model.blocks_in_order, x, wanted, reset, 3, 2)
    ours = graphed(x, graphed(x, states, reset)[1], reset)[0]
    assert torch.equal(ours, wanted)


@on_a_gpu
def test_a_loss_that_waits_for_its_backward_is_in_nobodys_way() -> None:
    """What has tied the parameters to the current stream before the capture."""
    model = model_of(RULES["selective"], n_layers=2, d=128).to("cuda", torch.bfloat16)
    x, states, reset = drawn(model, 48, 4, 1)
    waits = wavefront(model.blocks_in_order, x, states, reset, 3, 2)[0]
    graphed = GraphedWavefront(model.blocks_in_order, x, states, reset, 3)
    assert torch.equal(graphed(x, states, reset)[0], waits)
    waits.sum().backward()
    assert all(each.grad is not None for each in model.blocks.parameters())


@on_a_gpu
@pytest.mark.parametrize("with_resets", [False, True])
def test_blocks_that_wait_for_the_host_are_refused_before_they_are_captured(with_resets: bool) -> None:
    """Many heads of float32 are torch's steps, of which resets ask the host."""
    model = model_of(RULES["selective"], d=256, n_heads=2).to("cuda")
    x, states, reset = drawn(model, 40, 3, 1)
    if with_resets:
        with pytest.raises(ValueError, match="the host waits for the GPU in the middle of a window"):
            GraphedWavefront(model.blocks_in_order, x, states, reset, 4)
    else:
        assert GraphedWavefront(model.blocks_in_order, x, states, None, 4)(x, states)[0].isfinite().all()
    GraphedWavefront(model.to(torch.bfloat16).blocks_in_order, x.bfloat16(), states, reset, 4)


def test_a_graph_wants_a_gpu() -> None:
    model = model_of(RULES["selective"], d=16)
    with pytest.raises(ValueError, match="x_TBD: on cpu; allowed for a CUDA graph: cuda"):
        GraphedWavefront(model.blocks_in_order, *drawn(model, 40, 3, 1), 4)
