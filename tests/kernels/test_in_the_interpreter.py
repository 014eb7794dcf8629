"""The Triton kernels without a GPU: the tests with "triton" in their names, in Triton's interpreter, side by side."""

from contextlib import ExitStack
from pathlib import Path

import pytest
import torch
from interpreted import assert_passed, interpreted_tests

from ssrnn_kernels import feedback_scan
from ssrnn_kernels.gpu.triton import INTERPRETED

HERE = Path(__file__).parent
PARTS = [  # a process each, of like length
    ("test_fused_feedback.py", "triton and twice"),
    ("test_fused_feedback.py", "triton and not twice"),
    ("test_feedback_scan.py", "triton"),
    ("test_costs.py", "triton"),
    ("test_spread.py", "triton"),
]
pytestmark = pytest.mark.skipif(INTERPRETED, reason="TRITON_INTERPRET=1 already")


@pytest.mark.timeout(660)
def test_the_kernels_are_right() -> None:
    with ExitStack() as started:
        processes = [started.enter_context(interpreted_tests(HERE / name, which)) for name, which in PARTS]
        for process in processes:
            assert_passed(process)


@pytest.mark.long
def test_the_kernels_are_right_in_the_long_tests() -> None:
    with interpreted_tests(HERE / "test_fused_feedback.py", "triton", "-m", "long") as process:
        assert_passed(process, seconds=1000)


def test_cpu_tensors_outside_the_interpreter_are_refused() -> None:
    with pytest.raises(
        ValueError, match=r"backend: 'triton' for tensors on the CPU; allowed there: auto, .* TRITON_INT"
    ):
        feedback_scan(torch.zeros(1, 2, 3), torch.zeros(3), backend="triton")
