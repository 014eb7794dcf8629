"""`ssrnn bench kernels`: every op and backend is checked, costed and timed; what is wrong is not timed."""

from pathlib import Path

import pytest
import torch

from ssrnn_dist.bench import kernels
from ssrnn_dist.bench.kernels import Case, Ceilings, check, measure
from ssrnn_dist.bench.roofline import draw_roofline
from ssrnn_dist.problems import RunFailed
from ssrnn_kernels import fused_bptt

SMALL = Case("lstm", n_batch=2, n_steps=30, d=8, n_heads=2, dtype="float32", device="cpu")
OPS = {
    "feedback_scan, constant",
    "feedback_scan, varying",
    "fused_recurrence",
    "fused_feedback, selective",
    "fused_feedback, 1 sweep",
    "fused_bptt",
}


def test_every_op_is_timed_by_every_backend(tmp_path: Path) -> None:
    timings = list(measure(SMALL, repeats=1))
    ops = [each for each in timings if not each.op.startswith("layer")]
    assert {each.op for each in ops} == OPS
    assert {each.backend for each in ops} <= {"torch", "compiled"}
    for each in ops:
        assert each.seconds > 0
        assert each.error is not None
        assert each.error < 1e-4
        assert each.ratio == 1 or each.backend != "torch"
    rows = [vars(each) for each in timings]
    draw_roofline(rows, Ceilings(1e10, 1e11), tmp_path / "roofline.svg")
    assert "fused_bptt" in (tmp_path / "roofline.svg").read_text()


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_other_types_are_right_beside_float64(dtype: str) -> None:
    assert set(check(Case("gru", 2, 30, 8, 1, dtype, "cpu"))) == {
        *((op, "torch") for op in OPS),
        ("fused_recurrence", "aten"),
    }


def test_torch_nn_stands_beside_a_layer_that_it_has() -> None:
    timings = {(each.op, each.backend): each for each in measure(Case("gru", 2, 9, 8, 1, "float32", "cpu"), 1)}
    assert timings["layer, BPTT", "torch.nn"].ratio == 1
    assert ("layer, forward alone", "torch.nn") in timings


def test_what_is_wrong_is_not_timed(monkeypatch: pytest.MonkeyPatch) -> None:
    def wrong(*arguments, backend: str) -> tuple[torch.Tensor, ...]:
        delta, gates, inputs = fused_bptt(*arguments, backend=backend)
        return delta, gates * (1.01 if delta.dtype == torch.float32 else 1.0), inputs

    monkeypatch.setattr(kernels, "fused_bptt", wrong)
    with pytest.raises(RunFailed, match="lstm, fused_bptt by torch: off by .*: nothing is timed"):
        list(measure(SMALL, repeats=1))
