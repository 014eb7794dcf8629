"""`ssrnn bench train`'s inside: it times what is right, refuses what is wrong."""

import pytest
import torch

from ssrnn_dist.bench.layer import BASELINE, PAPER, RULES, Case, as_row, measure
from ssrnn_dist.feedback import solve
from ssrnn_dist.problems import RunFailed
from ssrnn_kernels.fused_bptt import exact_feedback
from ssrnn_kernels.window import Solved, Window


@pytest.mark.parametrize("cell", ["elman", "gru", "lstm"])
def test_every_rule_is_timed_beside_torchs_own(cell: str) -> None:
    timings = measure(Case(cell, 2, 5, 12), repeats=2)
    assert [timing.rule for timing in timings] == [BASELINE, PAPER, *RULES]
    assert timings[0].ratio == 1.0
    for timing in timings:
        assert timing.ratio == pytest.approx(timings[0].seconds / timing.seconds)
        assert (timing.floor_ratio is None) == (timing.rule in (BASELINE, PAPER, "exact"))
    assert as_row(Case(cell, 2, 5, 12), timings[2])["d"] == 12


@pytest.mark.parametrize("dtypes", [(torch.float32,), (torch.float32, torch.float64)])
def test_a_wrong_gradient_is_not_timed(dtypes: tuple, monkeypatch: pytest.MonkeyPatch) -> None:
    """Wrong in float32 alone, or in both and beside torch.nn's BPTT."""

    def wrong(window: Window, error_TBS: torch.Tensor) -> Solved:
        solved = exact_feedback(window, error_TBS)
        grown = 1.001 if error_TBS.dtype in dtypes else 1.0
        return Solved(solved.delta_TBS, solved.gates_TBR * grown, solved.inputs_TBR)

    monkeypatch.setattr(solve, "exact_feedback", wrong)
    with pytest.raises(RunFailed, match="gru, exact: its gradient is off by .*: nothing is timed"):
        measure(Case("gru", 2, 5, 12), repeats=1)
