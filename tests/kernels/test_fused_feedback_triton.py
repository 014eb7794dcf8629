"""The cells' Triton kernels without a GPU, in Triton's interpreter: test_fused_feedback.py's tests with "triton"."""

from pathlib import Path

import pytest
from interpreted import assert_passed, interpreted_tests

from ssrnn_kernels.gpu.triton import INTERPRETED

TESTS = Path(__file__).with_name("test_fused_feedback.py")
pytestmark = pytest.mark.skipif(INTERPRETED, reason="TRITON_INTERPRET=1 already")


def test_the_interpreter_agrees_with_torch() -> None:
    with interpreted_tests(TESTS) as process:
        assert_passed(process)


@pytest.mark.long
def test_the_interpreter_agrees_with_torch_in_the_long_tests() -> None:
    with interpreted_tests(TESTS, "-m", "long") as process:
        assert_passed(process, seconds=1000)
