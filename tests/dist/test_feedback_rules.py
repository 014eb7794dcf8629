"""Every rule's gradient for every cell against autograd's BPTT of the definition and dense Jacobians, in float64.

A cell takes part by standing in ssrnn_kernels/cells: nothing here names one but where it speaks of torch.nn's."""

import warnings
from collections.abc import Callable
from dataclasses import dataclass, replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from ssrnn_dist.feedback import LayerFeedback, recurrence
from ssrnn_dist.feedback.fidelity import BY_BPTT, fidelity
from ssrnn_dist.model import FeedbackConfig
from ssrnn_kernels.cells import CELLS
from ssrnn_kernels.fused_recurrence import recurrence_reference


@dataclass(frozen=True)
class Problem:
    """A window of a cell: leaves are inputs, weight, bias and state; the loss is the states' product with weighing."""

    cell: str
    leaves: list[Tensor]
    reset: Tensor | None
    weighing: Tensor
    n_heads: int = 1

    @property
    def n_states(self) -> int:
        return CELLS[self.cell].N_STATES

    def feedback(self, config: FeedbackConfig) -> LayerFeedback:
        return LayerFeedback(config, self.leaves[1].shape[1] * self.n_heads, self.n_states)

    def gradients(self, rule: FeedbackConfig | LayerFeedback) -> list[Tensor]:
        feedback = self.feedback(rule) if isinstance(rule, FeedbackConfig) else rule
        states = recurrence(CELLS[self.cell], feedback, *self.leaves, self.reset)
        return list(torch.autograd.grad((states * self.weighing).sum(), self.leaves))

    def bptt(self) -> list[Tensor]:
        states = recurrence_reference(CELLS[self.cell], *self.leaves, self.reset)
        return list(torch.autograd.grad((states * self.weighing).sum(), self.leaves))


def problem(
    cell: str = "gru",
    n_batch: int = 3,
    n_steps: int = 7,
    head_size: int = 4,
    n_heads: int = 1,
    seed: int = 0,
    resets: bool = True,
) -> Problem:
    generator = torch.Generator().manual_seed(seed)

    def draw(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator, dtype=torch.float64)

    d, n_rows = head_size * n_heads, len(CELLS[cell].GATES) * head_size * n_heads
    d_state = CELLS[cell].N_STATES * d
    weight = (torch.rand(n_rows, head_size, generator=generator, dtype=torch.float64) * 2 - 1) / head_size**0.5
    leaves = [draw(n_steps, n_batch, n_rows), weight, draw(n_rows) * 0.3, draw(n_batch, d_state)]
    reset = torch.rand(n_steps, n_batch, generator=generator) < 0.25 if resets else None
    return Problem(cell, [leaf.requires_grad_() for leaf in leaves], reset, draw(n_steps, n_batch, d_state), n_heads)


each_cell = pytest.mark.parametrize("cell", CELLS)
shapes = st.fixed_dictionaries(
    {
        "n_batch": st.integers(1, 3),
        "n_steps": st.integers(1, 9),
        "head_size": st.integers(1, 4),
        "n_heads": st.integers(1, 3),
        "seed": st.integers(0, 10_000),
        "resets": st.booleans(),
    }
)


def relative_error(ours: list[Tensor], theirs: list[Tensor]) -> float:
    ours_flat, theirs_flat = (torch.cat([each.flatten() for each in many]) for many in (ours, theirs))
    return float((ours_flat - theirs_flat).norm() / theirs_flat.norm().clamp_min(1e-30))


@each_cell
@given(shapes)
@settings(max_examples=20, deadline=None)
def test_the_forward_is_the_definition(cell: str, shape: dict) -> None:
    case = problem(cell, **shape)
    with torch.no_grad():
        ours = recurrence(CELLS[case.cell], case.feedback(FeedbackConfig()), *case.leaves, case.reset)
        assert torch.allclose(ours, recurrence_reference(CELLS[case.cell], *case.leaves, case.reset), atol=1e-12)


@each_cell
@given(shapes)
@settings(max_examples=20, deadline=None)
def test_exact_is_autograds_bptt(cell: str, shape: dict) -> None:
    case = problem(cell, **shape)
    assert relative_error(case.gradients(FeedbackConfig(kind="exact")), case.bptt()) < 1e-12


@each_cell
@given(shapes, st.sampled_from(["selective", "calibrated", "number"]))
@settings(max_examples=20, deadline=None)
def test_as_many_sweeps_as_steps_are_bptt(cell: str, shape: dict, rule: str) -> None:
    """The fixed point does not depend on the diagonal of the scan, the Jacobian's, one for all t, or any number."""
    case = problem(cell, **shape)
    sweeps = len(case.weighing)
    if rule == "selective":
        feedback = case.feedback(FeedbackConfig(refinements=sweeps))
    else:
        decay = "calibrated" if rule == "calibrated" else 0.5
        feedback = case.feedback(FeedbackConfig(kind="stationary", decay=decay, refinements=sweeps))
        feedback.decay = observed_decay(case) if rule == "calibrated" else feedback.decay.double()
    assert relative_error(case.gradients(feedback), case.bptt()) < 1e-10


def observed_decay(case: Problem) -> Tensor:
    """The mean block of the window, as a calibrated layer finds it in its first forward."""
    feedback = case.feedback(FeedbackConfig(kind="stationary", decay="calibrated"))
    feedback.observing = True
    with torch.no_grad():
        recurrence(CELLS[case.cell], feedback, *case.leaves, case.reset)
    sums = feedback.take_diagonal()
    return (sums[:-1] / sums[-1].clamp_min(1)).view_as(feedback.diagonal_sum)


@each_cell
@given(shapes)
@settings(max_examples=20, deadline=None)
def test_every_rule_is_its_dense_definition(cell: str, shape: dict) -> None:
    """δ_t = e_t + M_{t+1}ᵀ δ_{t+1} with M from autograd's own Jacobian, and gradients local in t."""
    case = problem(cell, **shape)
    d_state = case.weighing.shape[-1]
    block = torch.eye(d_state // case.n_states, dtype=torch.float64).repeat(case.n_states, case.n_states)
    linspace = torch.linspace(0, 1, d_state, dtype=torch.float64)
    rules: list[tuple[FeedbackConfig, Callable[[Tensor], Tensor]]] = [
        (FeedbackConfig(kind="truncated"), torch.zeros_like),
        (FeedbackConfig(kind="selective", refinements=0), lambda jacobian: jacobian * block),
        (FeedbackConfig(kind="stationary"), lambda jacobian: linspace.diag()),
        (FeedbackConfig(kind="stationary", decay=0.25), lambda jacobian: linspace.new_full((d_state,), 0.25).diag()),
    ]
    for config, structured in rules:
        # λ of linspace is float32's, so its float64 value differs in the eighth digit
        tolerance = 1e-6 if config.decay == "linspace" else 1e-12
        assert relative_error(case.gradients(config), dense_definition(case, structured)) < tolerance, config


def test_the_dense_ablations_are_the_papers() -> None:
    """gt = e + gt @ A, over the whole state (p0lcAi/DSF, dsf.py)."""
    for cell in ("gru", "lstm"):
        case = problem(cell, resets=True)
        for decay in ("gaussian", "orthogonal"):
            feedback = case.feedback(FeedbackConfig(kind="stationary", decay=decay))
            matrix = feedback.decay = feedback.decay.double()
            identity = torch.eye(len(matrix), dtype=torch.float64)
            assert torch.allclose(matrix @ matrix.t(), identity, atol=1e-6) == (decay == "orthogonal")
            wanted = dense_definition(case, lambda jacobian, matrix=matrix: matrix)
            assert relative_error(case.gradients(feedback), wanted) < 1e-12


def dense_definition(case: Problem, structured: Callable[[Tensor], Tensor]) -> list[Tensor]:
    """Gradients with M_t = structured(∂s_t/∂s_{t−1}), by torch.autograd.functional.jacobian of the definition."""
    cell, (inputs, weight, bias, state) = CELLS[case.cell], case.leaves
    with torch.no_grad():
        after = recurrence_reference(cell, *case.leaves, case.reset)
    n_steps, n_batch, _ = after.shape
    reset = case.reset if case.reset is not None else torch.zeros(n_steps, n_batch, dtype=torch.bool)
    before = torch.cat([state.detach()[None], after[:-1]]).masked_fill(reset.unsqueeze(-1), 0)
    delta = case.weighing.clone()
    jacobians = {}
    for t in reversed(range(n_steps)):
        for b in range(n_batch):

            def one_step(s: Tensor, t: int = t, b: int = b) -> Tensor:
                return recurrence_reference(cell, inputs[t : t + 1, b : b + 1], weight, bias, s[None])[0, 0]

            jacobians[t, b] = torch.autograd.functional.jacobian(one_step, before[t, b])
            if t + 1 < n_steps and not reset[t + 1, b]:
                delta[t, b] += structured(jacobians[t + 1, b]).t() @ delta[t + 1, b]
    leaves = [each.detach().requires_grad_() for each in (inputs, weight, bias)]
    steps = [recurrence_reference(cell, leaves[0][t : t + 1], *leaves[1:], before[t])[0] for t in range(n_steps)]
    local = list(torch.autograd.grad((torch.stack(steps) * delta).sum(), leaves))
    first = torch.stack([jacobians[0, b].t() @ delta[0, b] for b in range(n_batch)])
    return [*local, first.masked_fill(reset[0].unsqueeze(-1), 0)]


def test_linspace_is_the_papers_recursion() -> None:
    """Over the whole state: of an LSTM, h and c."""
    config = FeedbackConfig(kind="stationary")
    assert torch.equal(LayerFeedback(config, 5).decay, torch.linspace(0, 1, 5)[None, None])
    whole = torch.linspace(0, 1, 10)
    block = torch.stack([whole[:5], torch.zeros(5), torch.zeros(5), whole[5:]]).view(2, 2, 5)
    assert torch.equal(LayerFeedback(config, 5, n_states=2).decay, block)


def test_sweeps_approach_bptt_as_measured_in_the_method() -> None:
    """docs/method.md: 0.202, 0.040, 8.0e-3, 3.3e-4 for 0, 1, 2, 4 sweeps at initialisation."""
    case = problem(n_batch=8, n_steps=40, head_size=32, resets=False)
    exact = case.bptt()
    errors = [relative_error(case.gradients(FeedbackConfig(refinements=k)), exact) for k in (0, 1, 2, 4)]
    assert errors == sorted(errors, reverse=True)
    assert errors[1] < 0.1
    assert errors[3] < 2e-3


@pytest.mark.parametrize("cell", CELLS)
def test_the_error_estimate_is_near_the_true_error(cell: str) -> None:
    case = problem(cell, n_batch=4, n_steps=30, head_size=24, seed=1)
    feedback = case.feedback(FeedbackConfig(refinements=1))
    ours, exact = case.gradients(feedback)[0], case.bptt()[0]
    told = fidelity(feedback.take_increments())
    true_error = float((ours - exact).norm() / exact.norm())
    assert told.residual is not None
    assert told.error_estimate is not None
    assert true_error / 3 < told.error_estimate < true_error * 5
    assert told.residual > true_error
    assert torch.equal(feedback.take_increments(), torch.zeros(4, dtype=torch.float64))


@pytest.mark.parametrize("cell", CELLS)
def test_calibrated_decay_follows_the_mean_diagonal(cell: str) -> None:
    case = problem(cell, seed=5)
    feedback = case.feedback(FeedbackConfig(kind="stationary", decay="calibrated", refinements=1))
    with pytest.raises(RuntimeError, match="calibrate"):
        case.gradients(feedback)
    feedback.take_diagonal()
    feedback.decay = torch.full_like(feedback.diagonal_sum, 0.25)
    case.gradients(feedback)
    sums = feedback.take_diagonal()
    assert sums[-1] == (~case.reset[1:]).sum()
    before = feedback.decay.clone()
    feedback.recalibrate(sums)
    expected = 0.9 * before + 0.1 * (sums[:-1] / sums[-1]).view_as(before)
    assert torch.allclose(feedback.decay, expected)
    assert torch.allclose(sums[:-1] / sums[-1], observed_decay(case).flatten())
    feedback.recalibrate(torch.zeros_like(sums))  # nothing seen: nothing moves
    assert torch.allclose(feedback.decay, expected)


def test_sweeps_that_diverge_are_left_out_and_counted() -> None:
    """What the weights see is then the scan alone; sweeps up to T are exact, however large their terms, and all run."""
    case = problem("elman", n_steps=12, seed=3, resets=False)
    case.leaves[0].data *= 0.1  # tanh stays steep
    case.leaves[1].data *= 4
    rule = {"kind": "stationary", "decay": -1.0}
    feedback = case.feedback(FeedbackConfig(**rule, refinements=2))
    assert relative_error(case.gradients(feedback), case.gradients(FeedbackConfig(**rule))) == 0
    assert feedback.take_increments()[3] == 1
    auto = case.feedback(FeedbackConfig(**rule, refinements="auto"))
    assert relative_error(case.gradients(auto), case.bptt()) < 1e-6  # which promises a tolerance
    assert auto.take_increments()[3] == 1
    auto.refinements = BY_BPTT  # what Steering makes of it
    assert relative_error(case.gradients(auto), case.bptt()) < 1e-6
    assert not auto.take_increments().any()
    auto.looking = True  # at 16 sweeps: more than there are steps
    assert relative_error(case.gradients(auto), case.bptt()) < 1e-6
    assert auto.take_increments()[2] > 0
    whole = case.feedback(FeedbackConfig(**rule, refinements=12))
    assert relative_error(case.gradients(whole), case.bptt()) < 1e-6
    assert whole.take_increments()[3] == 0


@pytest.mark.parametrize("refinements", [1, 2, "auto"])
def test_a_sequences_gradient_does_not_depend_on_those_beside_it(refinements: int | str) -> None:
    """Where some sequences' sweeps grow and others' do not: the batch's gradient is the sum of the sequences'."""
    case = problem("elman", n_batch=8, n_steps=12, head_size=32, seed=2, resets=False)
    case.leaves[1].data *= 3
    whole = case.feedback(FeedbackConfig(refinements=refinements))
    with pytest.warns(UserWarning, match="refinement grows"):
        together = case.gradients(whole)
    apart = [torch.zeros_like(each) for each in together]
    growing = 0
    for b in range(8):
        alone = case.feedback(whole.config)
        one = replace(case, leaves=[case.leaves[0][:, b : b + 1], *case.leaves[1:3], case.leaves[3][b : b + 1]])
        inputs, weight, bias, state = replace(one, weighing=case.weighing[:, b : b + 1]).gradients(alone)
        apart[0][:, b], apart[3][b] = inputs[:, 0], state[0]
        apart[1] += weight
        apart[2] += bias
        growing += int(alone.take_increments()[3])
    assert 0 < growing < 8
    assert whole.take_increments()[3] == 0  # all in all they shrink: `auto` does not change its ways for a few
    assert relative_error(together, apart) < 1e-12


@pytest.mark.parametrize("refinements", [0, 1, 2, "auto"])
def test_an_error_that_is_not_a_number_stays_with_its_sequence(refinements: int | str) -> None:
    """So that the loop sees a gradient that is not finite, and skips the step, instead of an exception here."""
    case = problem("gru", n_batch=3, n_steps=12, head_size=8, seed=2, resets=False)
    wanted = case.gradients(case.feedback(FeedbackConfig(refinements=refinements)))[0]
    weighing = case.weighing.clone()
    weighing[5, 1] = torch.nan
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        inputs, weight, *_ = replace(case, weighing=weighing).gradients(
            case.feedback(FeedbackConfig(refinements=refinements))
        )
    assert inputs[:6, 1].isnan().any()
    assert weight.isnan().any()
    torch.testing.assert_close(inputs[:, [0, 2]], wanted[:, [0, 2]])
