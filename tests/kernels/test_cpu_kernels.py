"""The compiled kernels against torch on the same cell: steps, passes, norms; and life without a compiler."""

import logging
import os
import shutil
import subprocess
import sys

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from windows import each_cell, problem, shapes

from ssrnn_kernels.cells import CELLS
from ssrnn_kernels.cpu import build
from ssrnn_kernels.cpu.build import library_for
from ssrnn_kernels.fused_bptt import exact_feedback
from ssrnn_kernels.fused_recurrence import recur, recurrence_reference
from ssrnn_kernels.window import Window

needs_a_compiler = pytest.mark.skipif(
    shutil.which("cc") is None and shutil.which("gcc") is None, reason="no C compiler here"
)


@needs_a_compiler
@each_cell
@given(shapes)
@settings(max_examples=20, deadline=None)
def test_the_forward_is_the_definition(name: str, shape: dict) -> None:
    tensors, reset = problem(name, **shape)
    cell = CELLS[name]
    assert library_for(cell, tensors[0]) is not None
    for save in (True, False):
        ours = recur(cell, *tensors, reset, save=save).after_TBS
        exact = recurrence_reference(cell, *(each.double() for each in tensors), reset)
        assert torch.allclose(ours.double(), exact, atol=3e-6)


@needs_a_compiler
@each_cell
@given(shapes, st.sampled_from([None, 0.25, 1.0]))
@settings(max_examples=20, deadline=None)
def test_bptt_is_torchs_bptt(name: str, shape: dict, reset_rate: float | None) -> None:
    """δ, dL/du and dL/dx, beside the definition in float64; the errors that came are left as they were."""
    tensors, _ = problem(name, **{**shape, "resets": False})
    generator = torch.Generator().manual_seed(shape["seed"] + 1)
    size = shape["n_steps"], shape["n_batch"]
    reset = None if reset_rate is None else torch.rand(size, generator=generator) < reset_rate
    cell = CELLS[name]
    trajectory = recur(cell, *tensors, reset, save=True)
    window = Window(cell, trajectory.states_TBS, trajectory.saved_TBQD, tensors[1], reset)
    error = torch.randn(trajectory.after_TBS.shape, generator=generator)
    came = error.clone()
    ours = exact_feedback(window, error)
    exact = Window(cell, window.states_TBS.double(), window.saved_TBQD.double(), tensors[1].double(), reset)
    theirs = exact_feedback(exact, error.double())
    for output, wanted in vars(theirs).items():
        assert torch.allclose(getattr(ours, output).double(), wanted, rtol=2e-5, atol=2e-5), output
    assert torch.equal(error, came)


@needs_a_compiler
@pytest.mark.parametrize("cell", CELLS)
def test_two_threads_share_the_blocks_of_a_step(cell: str) -> None:
    """Large enough that both are woken, with 34 blocks of 16 units: the same states and gradients."""
    threads = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        tensors, reset = problem(cell, 3, 4, 1, 544, 0, True)
        exact = recurrence_reference(CELLS[cell], *(each.double() for each in tensors), reset)
        trajectory = recur(CELLS[cell], *tensors, reset, save=True)
        assert torch.allclose(trajectory.after_TBS.double(), exact, atol=3e-6)
        saved = trajectory.states_TBS, trajectory.saved_TBQD, tensors[1]
        backward, double = (
            exact_feedback(Window(CELLS[cell], *map(cast, saved), reset), cast(torch.ones_like(trajectory.after_TBS)))
            for cast in (torch.Tensor.float, torch.Tensor.double)
        )
        assert torch.allclose(backward.delta_TBS.double(), double.delta_TBS, rtol=2e-5, atol=2e-5)
    finally:
        torch.set_num_threads(threads)


@needs_a_compiler
@pytest.mark.parametrize("cell", CELLS)
def test_nothing_is_hidden_that_is_not_a_number(cell: str) -> None:
    tensors, _ = problem(cell, 4, 2, 1, 9, 0, False)
    tensors[0][1, 1] = float("nan")
    after = recur(CELLS[cell], *tensors, None, save=True).after_TBS
    assert after[0].isfinite().all()
    assert after[:, 0].isfinite().all()
    assert after[1:, 1].isnan().all()
    tensors[0][1, 1] = 1e30  # saturated, not overflowed
    assert recur(CELLS[cell], *tensors, None, save=True).after_TBS.isfinite().all()


@needs_a_compiler
@each_cell
def test_small_values_keep_their_digits(name: str) -> None:
    """Near zero tanh is its argument, not what is left of 1 − 1."""
    tensors, _ = problem(name, 4, 2, 1, 9, 0, False)
    small = [tensors[0] * 1e-6, tensors[1], tensors[2] * 0, tensors[3] * 1e-6]
    ours = recur(CELLS[name], *small, None, save=False).after_TBS
    exact = recurrence_reference(CELLS[name], *(each.double() for each in small))
    for got, wanted in zip(ours.unflatten(-1, (-1, 9)).unbind(2), exact.unflatten(-1, (-1, 9)).unbind(2), strict=True):
        assert (got.double() - wanted).norm() < 1e-6 * wanted.norm()


@pytest.mark.parametrize(
    ("changed", "value", "words"),
    [
        (1, torch.zeros(9, 3, dtype=torch.float64), "weight_hh: .*float64; allowed: .*float32"),
        (2, torch.zeros(8), r"bias_hh: shape \(8,\).*allowed: \(9,\)"),
        (3, torch.zeros(2, 4), r"state: shape \(2, 4\)"),
        (4, torch.zeros(4, 2, dtype=torch.int64), "reset: .*int64; allowed: .*bool"),
    ],
)
def test_wrong_tensors_are_refused_before_a_kernel_reads_them(changed: int, value: torch.Tensor, words: str) -> None:
    tensors, reset = problem("gru", 4, 2, 1, 3, 0, True)
    arguments = [*tensors, reset]
    arguments[changed] = value
    with pytest.raises(ValueError, match=words):
        recur(CELLS["gru"], *arguments, save=True)


def test_other_types_and_the_switch_leave_it_to_torch(monkeypatch: pytest.MonkeyPatch) -> None:
    cell = CELLS["gru"]
    assert library_for(cell, torch.zeros(1, dtype=torch.float64)) is None
    assert library_for(cell, torch.zeros(1, dtype=torch.bfloat16)) is None
    monkeypatch.setenv(build.SWITCH, "0")
    assert library_for(cell, torch.zeros(1)) is None


def test_a_machine_without_a_compiler_goes_on(tmp_path, caplog: pytest.LogCaptureFixture, monkeypatch) -> None:
    """Said once, in the log; the compiler that is missing, or the one that fails."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    for compiler, words in (("/no/such/compiler", "no/such/compiler"), (shutil.which("false") or "", "failed")):
        monkeypatch.setenv("CC", compiler)
        build._library.cache_clear()
        with caplog.at_level(logging.INFO, logger=build.__name__):
            assert library_for(CELLS["elman"], torch.zeros(1)) is None
            assert library_for(CELLS["elman"], torch.zeros(1)) is None
        assert len(caplog.records) == 1
        assert words in caplog.text
        caplog.clear()
    build._library.cache_clear()


@needs_a_compiler
def test_a_compiler_may_come_with_arguments(tmp_path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setenv("CC", f"{shutil.which('cc') or shutil.which('gcc')} -DARGUMENT")
    build._library.cache_clear()
    assert library_for(CELLS["elman"], torch.zeros(1)) is not None
    build._library.cache_clear()


@needs_a_compiler
def test_processes_that_compile_at_once_share_one_library(tmp_path) -> None:
    script = "import torch; from ssrnn_kernels.cells import CELLS; from ssrnn_kernels.cpu.build import library_for;"
    script += "assert library_for(CELLS['gru'], torch.zeros(1))"
    paths = os.pathsep.join(path for path in sys.path if path)
    environment = {**os.environ, "XDG_CACHE_HOME": str(tmp_path), "PYTHONPATH": paths}
    started = [subprocess.Popen([sys.executable, "-c", script], env=environment) for _ in range(3)]
    try:
        assert [process.wait(timeout=120) for process in started] == [0, 0, 0]
    finally:
        for process in started:
            process.kill()
    assert [path.suffix for path in (tmp_path / "ssrnn").iterdir()] == [".so"]
