"""The loop's small decisions as pure functions: learning rate, micro-batches, the next token, what may change."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from ssrnn_data.lanes import deal_lanes
from ssrnn_dist.config import check_config
from ssrnn_dist.config.model import FeedbackConfig
from ssrnn_dist.config.sections import TrainSection
from ssrnn_dist.engine import cut_lanes
from ssrnn_dist.feedback import LayerFeedback, Steering
from ssrnn_dist.feedback.fidelity import BY_BPTT, MOST_SWEEPS, Fidelity, fidelity, next_sweeps, worst
from ssrnn_dist.generate import choose
from ssrnn_dist.model import LanguageModel, ModelConfig
from ssrnn_dist.model.language_model import count_parameters
from ssrnn_dist.problems import UserError
from ssrnn_dist.runs import changed_keys, prepare_run, run_state
from ssrnn_dist.schedule import learning_rate
from ssrnn_dist.session import _check_fits


def test_warm_up_and_cosine() -> None:
    train = TrainSection(steps=100, learning_rate=1.0, warmup_fraction=0.1, final_learning_rate_fraction=0.1)
    rates = [learning_rate(step, train) for step in range(100)]
    assert rates[0] == pytest.approx(0.1)
    assert rates[9] == rates[10] == pytest.approx(1.0)
    assert rates[10:] == sorted(rates[10:], reverse=True)
    assert 0.1 < rates[-1] < 0.105
    constant = train.model_copy(update={"schedule": "constant", "warmup_fraction": 0.0})
    assert {learning_rate(step, constant) for step in range(100)} == {1.0}


@given(st.integers(1, 40), st.integers(1, 40), st.none() | st.integers(1, 40))
def test_every_lane_is_in_one_micro_batch_and_all_ranks_run_as_many(lanes: int, world: int, each: int | None) -> None:
    if world > lanes:
        return
    counts = set()
    for rank in range(world):
        here = len(deal_lanes(lanes, world, rank))
        micro = cut_lanes(lanes, here, world, each)
        rows = [row for span in micro.spans() for row in range(here)[span]]
        assert rows == list(range(here))
        counts.add(micro.count)
        assert all(span.stop - span.start <= (each or lanes) for span in micro.spans())
    assert len(counts) == 1


def test_choices_obey_their_dials() -> None:
    generator = torch.Generator().manual_seed(0)
    logits = torch.tensor([2.0, 1.0, 0.0, -1.0])
    assert choose(logits, 0, None, None, generator) == 0
    assert {choose(logits, 1.0, 1, None, generator) for _ in range(50)} == {0}
    assert {choose(logits, 1.0, 2, None, generator) for _ in range(200)} == {0, 1}
    assert {choose(logits, 1.0, None, 0.5, generator) for _ in range(50)} == {0}
    assert {choose(logits, 1.0, None, 0.7, generator) for _ in range(200)} == {0, 1}
    drawn = torch.tensor([choose(logits, 1.0, None, None, generator) for _ in range(4000)])
    frequencies = torch.bincount(drawn, minlength=4) / 4000
    assert torch.allclose(frequencies, logits.softmax(0), atol=0.03)


def test_fidelity_is_none_where_nothing_is_known() -> None:
    assert fidelity(torch.zeros(4)).residual is None
    growing = fidelity(torch.tensor([4.0, 1.0, 9.0, 2.0]))
    assert growing.diverged == 2
    assert growing.residual == pytest.approx(2 / 3)
    assert growing.error_estimate is None
    shrinking = fidelity(torch.tensor([1.0, 4.0, 9.0, 0.0]))
    assert shrinking.error_estimate == pytest.approx(1 / 3)
    assert fidelity(torch.tensor([0.0, 0.0, 9.0, 0.0])) == Fidelity(0.0, 0.0)
    assert worst((0.1, 0.3)) == 0.3
    assert worst((0.1, None)) is None
    assert worst(()) is None


@pytest.mark.parametrize(
    ("swept", "told", "then"),
    [
        (1, Fidelity(0.2, 0.05), 2),  # too much may be left
        (1, Fidelity(0.2, None), 2),  # and here nobody knows
        (2, Fidelity(0.03, 0.01), 2),  # enough, and one sweep less would not be
        (2, Fidelity(0.015, 0.001), 2),  # one less might do: not surely
        (2, Fidelity(0.009, 0.001), 1),
        (1, Fidelity(0.009, None), 0),
        (MOST_SWEEPS, Fidelity(0.5, 0.4), BY_BPTT),  # cheaper than more
        (MOST_SWEEPS, Fidelity(0.03, 0.01), MOST_SWEEPS),  # BPTT's look: sweeps will do again
        (MOST_SWEEPS, Fidelity(0.001, None), MOST_SWEEPS - 1),
        (3, Fidelity(0.5, 0.4, diverged=1), BY_BPTT),
        (BY_BPTT, Fidelity(None, None), BY_BPTT),
        (1, Fidelity(None, None), 1),
    ],
)
def test_auto_makes_as_few_sweeps_as_keep_the_tolerance(swept: int, told: Fidelity, then: int) -> None:
    assert next_sweeps(swept, told, tolerance=0.02) == then


def test_a_layer_by_bptt_sweeps_now_and_then_to_see_whether_it_may_again() -> None:
    layer = LayerFeedback(FeedbackConfig(refinements="auto", probe_every=10), d_units=4)
    steering = Steering([layer], sum_over_ranks=lambda sums: sums)
    layer.saw_sweeps_grow(all_in_all=True)
    steering.after_step()
    assert layer.goes_by_bptt
    steering.before_step(9)
    assert layer.goes_by_bptt
    steering.after_step()  # BPTT tells nothing
    steering.before_step(10)
    assert layer.sweeps == MOST_SWEEPS
    assert not layer.goes_by_bptt
    layer.saw_increments(*torch.tensor([0.001, 0.002, 1.0]))
    steering.after_step()
    steering.before_step(11)
    assert layer.sweeps == MOST_SWEEPS - 1


def config(tmp_path, **changes):
    values = {"name": "a", "run_root": str(tmp_path / "runs"), "data": {"index": "corpus"}, **changes}
    return check_config(values)


def test_a_resumed_run_keeps_its_mathematics(tmp_path) -> None:
    was = config(tmp_path)
    assert (
        changed_keys(was, config(tmp_path, scale={"workers": 3, "zero_stage": 2}, cost={"usd_per_worker_hour": 1}))
        == []
    )
    changed = changed_keys(was, config(tmp_path, train={"learning_rate": 0.5}, model={"d_model": 8}))
    assert [key for key, _, _ in changed] == ["model.d_model", "train.learning_rate"]
    prepare_run(was)
    prepare_run(config(tmp_path, train={"learning_rate": 0.4}))  # nothing is trained yet: a config can be mended
    prepare_run(was)
    (was.folder / "metrics.jsonl").write_text("")
    with pytest.raises(UserError, match="train.learning_rate.*--fresh"):
        prepare_run(config(tmp_path, train={"learning_rate": 0.5}))
    fresh = prepare_run(config(tmp_path, train={"learning_rate": 0.5}), fresh=True)
    assert fresh.name == "a-2"
    assert run_state(fresh).state == "new"
    assert prepare_run(was, fresh=True).name == "a-3"


def test_a_folder_of_something_else_is_left_alone(tmp_path) -> None:
    folder = tmp_path / "runs" / "a"
    folder.mkdir(parents=True)
    (folder / "thesis.txt").write_text("years of work")
    with pytest.raises(UserError, match="holds no run"):
        prepare_run(config(tmp_path))
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="cannot be written"):
        prepare_run(config(tmp_path, run_root=str(tmp_path / "file")))


def test_evaluation_numbers() -> None:
    from ssrnn_dist.evaluate import Evaluation

    even = Evaluation(nats=math.log(2) * 8, tokens=4, text_bytes=8)
    assert even.bits_per_byte == pytest.approx(1.0)
    assert even.perplexity == pytest.approx(4.0)
    assert Evaluation(1e6, 1, 1).perplexity == math.inf


def test_parameters_are_counted_without_a_model_and_one_that_cannot_fit_is_refused() -> None:
    for tie in (True, False):
        small = ModelConfig(vocab_size=11, d_model=6, n_layers=3, tie_embeddings=tie)
        assert count_parameters(small) == sum(each.numel() for each in LanguageModel(small).parameters())
    huge = ModelConfig(vocab_size=2**31, d_model=2**20, n_layers=10_000)
    with pytest.raises(UserError, match=r"model: [\d,]+ parameters, [\d,]+ GB in float32; a smaller d_model"):
        _check_fits(huge, memory_bytes=2**40)
    _check_fits(small, memory_bytes=2**20)
