"""`ssrnn bench train`: forward and backward of one layer by each rule beside torch.nn's BPTT, time and memory.

Imports torch and the layer. Refuses to time a rule whose gradient is wrong. B batch, T time, D units."""

import ctypes
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

import torch
from torch import Tensor, nn

from ssrnn_dist.bench.paper_loop import PaperLoop
from ssrnn_dist.bench.timing import in_turn
from ssrnn_dist.model import FeedbackConfig, RecurrentLayer
from ssrnn_dist.problems import RunFailed
from ssrnn_kernels.cells import get_cell

BASELINE = "torch.nn"
PAPER = "paper's loop"
FORWARD = "torch.nn, forward alone"
RULES = {
    "exact": FeedbackConfig(kind="exact"),
    "stationary": FeedbackConfig(kind="stationary"),
    "selective": FeedbackConfig(refinements=0),
    "selective + 1": FeedbackConfig(refinements=1),
}
CHECKED_STEPS = 24
MOST_ERROR = 1e-4  # relative, of all gradients together: float32 beside float64


@dataclass(frozen=True)
class Case:
    """One layer on one shape."""

    cell: str
    n_batch: int
    n_steps: int
    d: int

    @property
    def product_flops(self) -> float:
        """Of one product of the whole window with a layer's weights."""
        return 2.0 * self.n_batch * self.n_steps * len(get_cell(self.cell).GATES) * self.d * self.d


@dataclass(frozen=True)
class Timing:
    """Of one rule: the median over the repeats, beside torch.nn's in the same run."""

    rule: str
    seconds: float
    ratio: float  # torch.nn's seconds over these
    floor_ratio: float | None  # with torch.nn's forward and the remaining products at the machine's matrix rate
    peak_megabytes: float | None  # what forward and backward held at most, beyond what stood before


def measure(case: Case, repeats: int) -> list[Timing]:
    """Every rule on this case; RunFailed where a gradient is wrong."""
    torch.manual_seed(0)
    module = RecurrentLayer.TORCH_CLASSES[case.cell](case.d, case.d, batch_first=True)
    layers = {name: RecurrentLayer.from_torch(module, rule) for name, rule in RULES.items()}
    for name, layer in layers.items():
        _check(name, layer, case)
    x, weigh = (torch.randn(case.n_steps, case.n_batch, case.d).transpose(0, 1) for _ in range(2))
    x.requires_grad_()
    models = {BASELINE: module, PAPER: PaperLoop(module), **layers}
    runs = {name: _training(model, x, weigh) for name, model in models.items()}
    seconds = in_turn({**runs, FORWARD: lambda: _forward(module, x)}, repeats)
    rate = _matrix_rate(case)
    return [
        Timing(
            name,
            seconds[name],
            seconds[BASELINE] / seconds[name],
            _floor(name, case, seconds, rate),
            _peak_megabytes(run),
        )
        for name, run in runs.items()
    ]


def _training(model: nn.Module, x: Tensor, weigh: Tensor) -> Callable[[], None]:
    def run() -> None:
        model.zero_grad()
        x.grad = None
        model(x)[0].backward(weigh)

    return run


@torch.no_grad()
def _forward(model: nn.Module, x: Tensor) -> None:
    model(x)


def _floor(rule: str, case: Case, seconds: dict[str, float], flops_per_second: float) -> float | None:
    """torch.nn's time over its forward and the products that the rule has left: three gradients and its sweeps."""
    if rule not in RULES or rule == "exact":
        return None
    sweeps = RULES[rule].refinements
    assert isinstance(sweeps, int)
    return seconds[BASELINE] / (seconds[FORWARD] + (3 + sweeps) * case.product_flops / flops_per_second)


def _matrix_rate(case: Case) -> float:
    """Operations a second of the product of a window's gates with the weights, the best of five."""
    rows = case.n_batch * case.n_steps
    left, right = torch.randn(rows, 3 * case.d), torch.randn(3 * case.d, case.d)
    times = []
    for _ in range(6):
        began = time.perf_counter()
        left @ right
        times.append(time.perf_counter() - began)
    return 2.0 * rows * 3 * case.d * case.d / min(times[1:])


def _check(name: str, layer: RecurrentLayer, case: Case) -> None:
    """The layer's float32 gradient beside its rule in float64, and for exact beside torch.nn's own."""
    n_steps = min(CHECKED_STEPS, case.n_steps)
    x = torch.randn(case.n_batch, n_steps, case.d)
    weigh = torch.randn(case.n_batch, n_steps, case.d)
    ours = _gradients(layer, x, weigh)
    twin = RecurrentLayer.from_torch(layer.to_torch(), layer.feedback.config).double()
    theirs = [_gradients(twin, x.double(), weigh.double())]
    if name == "exact":
        theirs.append(_gradients(layer.to_torch().double(), x.double(), weigh.double()))
    for wanted in theirs:
        error = float((ours.double() - wanted).norm() / wanted.norm())
        if not error < MOST_ERROR:
            raise RunFailed(
                f"{case.cell}, {name}: its gradient is off by {error:.1e}, more than {MOST_ERROR:.0e}: nothing is timed"
            )


def _gradients(model: nn.Module, x: Tensor, weigh: Tensor) -> Tensor:
    x = x.clone().requires_grad_()
    gradients = torch.autograd.grad((model(x)[0] * weigh).sum(), [x, *model.parameters()])
    return torch.cat([each.flatten() for each in gradients])


def _peak_megabytes(run: Callable[[], None]) -> float | None:
    """The most memory that a run held beyond what stood before, the median of three; None where Linux does not tell."""
    try:
        return median(_peak_of_one(run) for _ in range(3))
    except (OSError, AttributeError):
        return None


def _peak_of_one(run: Callable[[], None]) -> float:
    ctypes.CDLL(None).malloc_trim(0)
    Path("/proc/self/clear_refs").write_text("5")  # sets the high-water mark back
    before = _status_kilobytes("VmRSS")
    run()
    return (_status_kilobytes("VmHWM") - before) / 1024


def _status_kilobytes(key: str) -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(key))


def cases(cells: list[str], shapes: list[tuple[int, int, int]]) -> Iterator[Case]:
    for cell in cells:
        for n_batch, n_steps, d in shapes:
            yield Case(cell, n_batch, n_steps, d)


def as_row(case: Case, timing: Timing) -> dict[str, Any]:
    """A line of the results file."""
    return {**vars(case), **vars(timing)}
