"""The scan's Triton kernel without a GPU, in Triton's interpreter: test_feedback_scan.py's tests with "triton"."""

from pathlib import Path

import pytest
import torch
from interpreted import assert_passed, interpreted_tests

from ssrnn_kernels import feedback_scan
from ssrnn_kernels.gpu.triton import INTERPRETED

pytestmark = pytest.mark.skipif(INTERPRETED, reason="TRITON_INTERPRET=1 already")


def test_cpu_tensors_outside_the_interpreter_are_refused() -> None:
    with pytest.raises(
        ValueError, match=r"backend: 'triton' for tensors on the CPU; allowed there: auto, .* TRITON_INT"
    ):
        feedback_scan(torch.zeros(1, 2, 3), torch.zeros(3), backend="triton")


def test_the_interpreter_agrees_with_the_reference() -> None:
    with interpreted_tests(Path(__file__).with_name("test_feedback_scan.py")) as process:
        assert_passed(process)
