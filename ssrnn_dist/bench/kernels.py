"""`ssrnn bench kernels`: every op by every backend that this machine has, beside its memory and its matrix unit.

Imports torch and the kernels. Refuses to time an op that is wrong. B batch, T time, D units, S states·units, R rows."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial

import torch
from torch import Tensor

from ssrnn_dist.bench.on_a_gpu import captured, clock_of
from ssrnn_dist.bench.paper_loop import PaperLoop
from ssrnn_dist.bench.published import FlashRNN
from ssrnn_dist.bench.timing import in_turn
from ssrnn_dist.model import FeedbackConfig, RecurrentLayer
from ssrnn_dist.problems import RunFailed
from ssrnn_kernels import feedback_scan, fused_bptt, fused_feedback, fused_recurrence
from ssrnn_kernels.backends import backend_for
from ssrnn_kernels.cell import Shape
from ssrnn_kernels.cells import get_cell
from ssrnn_kernels.costs import Cost, Sizes, bptt_cost, feedback_cost, recurrence_cost, scan_cost
from ssrnn_kernels.fused_recurrence.aten import has_layer

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
CHECKED_STEPS = 24
ROUNDINGS = 8  # of its type that an op may be off by; all are within two
COPIED_NUMBERS = 2**26  # of the copy that measures the memory: no cache holds it
PEER = ("BPTT", "torch.nn")
LAYERS = {"selective + 1": FeedbackConfig(refinements=1), "exact": FeedbackConfig(kind="exact")}


@dataclass(frozen=True)
class Case:
    """One layer's window."""

    cell: str
    n_batch: int
    n_steps: int
    d: int
    n_heads: int
    dtype: str
    device: str

    @property
    def sizes(self) -> Sizes:
        return Sizes(self.n_batch, self.n_steps, self.d, self.d // self.n_heads, DTYPES[self.dtype].itemsize)


@dataclass(frozen=True)
class Ceilings:
    """What the machine can do, measured in the same run."""

    copy_bytes_per_second: float  # read and written, of a copy too large for any cache
    matrix_flops_per_second: float


@dataclass(frozen=True)
class Timing:
    """An op by a backend, or a whole layer: the median over the rounds."""

    op: str
    backend: str
    seconds: float
    ratio: float  # torch's own backend's seconds (a layer: torch.nn's) over these
    bytes_per_second: float | None  # by the op's model of cost (ssrnn_kernels.costs)
    flops_per_second: float | None
    flops_per_byte: float | None
    error: float | None  # relative, of the first steps, beside float64


@dataclass(frozen=True)
class Problem:
    """The ops' arguments for a case."""

    case: Case
    inputs_TBR: Tensor
    weight_hh_RK: Tensor
    bias_hh_R: Tensor
    state_BS: Tensor
    states_TBS: Tensor  # as the forward leaves them
    saved_TBQD: Tensor
    error_TBS: Tensor
    factors_D: Tensor  # float32, as the decays of a scan are
    factors_BTD: Tensor

    @classmethod
    def drawn(cls, case: Case) -> "Problem":
        """The same numbers for the same case, everywhere."""
        cell, sizes, generator = get_cell(case.cell), case.sizes, torch.Generator().manual_seed(0)
        rows, d_state = len(cell.GATES) * case.d, cell.N_STATES * case.d

        def draw(*shape: int) -> Tensor:
            return torch.randn(*shape, generator=generator).to(case.device, DTYPES[case.dtype])

        weight = draw(rows, sizes.head_size) / sizes.head_size**0.5
        given = (draw(case.n_steps, case.n_batch, rows), weight, draw(rows), draw(case.n_batch, d_state))
        states, saved = fused_recurrence(case.cell, *given)
        error = draw(case.n_steps, case.n_batch, d_state)
        factors = torch.sigmoid(error[..., : case.d].float()).transpose(0, 1)
        return cls(case, *given, states, saved, error, factors[0, 0].clone(), factors)

    def double(self) -> "Problem":
        """The same numbers in float64."""
        cast = {name: each.double() for name, each in vars(self).items() if name != "case"}
        return Problem(self.case, **cast)

    def runs(self) -> dict[str, Callable[[str], tuple[Tensor, ...]]]:
        """Every op, by the name of a backend."""
        back = (self.case.cell, self.states_TBS, self.saved_TBQD, self.weight_hh_RK, self.error_TBS)
        ahead = (self.case.cell, self.inputs_TBR, self.weight_hh_RK, self.bias_hh_R, self.state_BS)
        error_BTD = self.error_TBS[..., : self.case.d].transpose(0, 1)
        return {
            "feedback_scan, constant": lambda by: (feedback_scan(error_BTD, self.factors_D, backend=by),),
            "feedback_scan, varying": lambda by: (feedback_scan(error_BTD, self.factors_BTD, backend=by),),
            "fused_recurrence": lambda by: fused_recurrence(*ahead, backend=by),
            "fused_feedback, selective": lambda by: fused_feedback(*back, backend=by)[:3],
            "fused_feedback, 1 sweep": lambda by: fused_feedback(*back, refinements=1, backend=by)[:3],
            "fused_bptt": lambda by: fused_bptt(*back, backend=by),
        }

    def costs(self) -> dict[str, Cost]:
        cell, sizes = get_cell(self.case.cell), self.case.sizes
        return {
            "feedback_scan, constant": scan_cost(sizes, varies=False),
            "feedback_scan, varying": scan_cost(sizes, varies=True),
            "fused_recurrence": recurrence_cost(cell, sizes),
            "fused_feedback, selective": feedback_cost(cell, sizes, 0),
            "fused_feedback, 1 sweep": feedback_cost(cell, sizes, 1),
            "fused_bptt": bptt_cost(cell, sizes),
        }


def backends_here(problem: Problem, op: str) -> list[str]:
    """torch first, then what else serves this op here."""
    cell, values = get_cell(problem.case.cell), problem.error_TBS
    shape = Shape.of(cell, problem.weight_hh_RK) if op in ("fused_recurrence", "fused_bptt") else None
    has_aten = op == "fused_recurrence" and shape is not None and has_layer(cell, shape)
    found = ["torch"]
    for backend in ("aten", "compiled", "triton"):
        try:
            found.append(backend_for(backend, cell, values, shape, has_aten=has_aten))
        except ValueError:
            continue
    return found


def ceilings(device: str, dtype: str) -> Ceilings:
    """Of this machine, now."""
    source = torch.ones(COPIED_NUMBERS, device=device)
    target = torch.empty_like(source)
    n = 8192 if device == "cuda" else 1536
    square = torch.randn(n, n, device=device).to(DTYPES[dtype])
    runs = {"copy": lambda: target.copy_(source), "product": lambda: square @ square}
    seconds = in_turn(runs, 5, clock_of(device))
    return Ceilings(2 * source.numel() * 4 / seconds["copy"], 2 * n**3 / seconds["product"])


def measure(case: Case, repeats: int, flashrnn: Sequence[str] = ()) -> Iterator[Timing]:
    """Every op by every backend, then whole layers; RunFailed where one is wrong.

    On a GPU by its own events, Triton's kernels as replays of a CUDA graph; float32 is float32 there, in cuDNN too.
    flashrnn: backends of that package."""
    torch.backends.cudnn.allow_tf32 = False
    errors = check(case)
    problem = Problem.drawn(case)
    costs = problem.costs()
    for op, run in problem.runs().items():
        backends = backends_here(problem, op)
        timed: dict[str, Callable[[], object]] = {backend: partial(run, backend) for backend in backends}
        if case.device == "cuda" and "triton" in timed:
            timed["triton"] = captured(timed["triton"])
        seconds, cost = in_turn(timed, repeats, clock_of(case.device)), costs[op]
        flops = cost.flops + cost.product_flops
        for backend in backends:
            yield Timing(
                op, backend, seconds[backend], seconds["torch"] / seconds[backend], cost.bytes / seconds[backend],
                flops / seconds[backend], flops / cost.bytes, errors[op, backend],
            )  # fmt: skip
    yield from _layers(case, repeats, flashrnn)


def check(case: Case) -> dict[tuple[str, str], float]:
    """The error of every op and backend on the first steps beside float64; RunFailed where it is no rounding."""
    case = replace(case, n_steps=min(CHECKED_STEPS, case.n_steps))
    ours = Problem.drawn(case)
    exact, errors = ours.double().runs(), {}
    for op, run in ours.runs().items():
        wanted = exact[op]("torch")
        rounding = torch.finfo(DTYPES[case.dtype]).eps
        for backend in backends_here(ours, op):
            error = errors[op, backend] = _off(run(backend), wanted)
            if not error <= ROUNDINGS * rounding:
                raise RunFailed(f"{case.cell}, {op} by {backend}: off by {error:.1e}: nothing is timed")
    return errors


def _off(got: tuple[Tensor, ...], wanted: tuple[Tensor, ...]) -> float:
    return max(float((a.double() - b).norm() / b.norm()) for a, b in zip(got, wanted, strict=True) if b.numel())


def _layers(case: Case, repeats: int, flashrnn: Sequence[str]) -> Iterator[Timing]:
    """Forward and backward of a layer by the product's own choice, beside FlashRNN's and where torch.nn has this layer
    torch's and the paper's loop."""
    torch.manual_seed(0)
    dtype, device = DTYPES[case.dtype], case.device
    x = torch.randn(case.n_steps, case.n_batch, case.d).to(device, dtype).transpose(0, 1).requires_grad_()
    weigh = torch.randn_like(x)
    runs: dict[tuple[str, str], Callable[[], object]] = {}
    if case.n_heads == 1 and case.cell in RecurrentLayer.TORCH_CLASSES:
        peer = RecurrentLayer.TORCH_CLASSES[case.cell](case.d, case.d, batch_first=True).to(device, dtype)
        peer.flatten_parameters()
        runs[PEER] = partial(_train, peer, x, weigh)
        runs["forward alone", "torch.nn"] = partial(_forward, peer, x)
        runs["the paper's rule", "its loop"] = partial(_train, PaperLoop(peer).to(device, dtype), x, weigh)
    for backend in flashrnn:
        published = FlashRNN(case.d, case.cell, case.n_heads, backend).to(device, dtype)
        runs["BPTT", f"FlashRNN {backend}"] = partial(_train, published, x, weigh)
    for name, rule in LAYERS.items():
        layer = RecurrentLayer(case.d, case.d, case.cell, case.n_heads, rule).to(device, dtype)
        runs[name, "ours"] = partial(_train, layer, x, weigh)
        runs["forward alone", "ours"] = partial(_forward, layer, x)
    seconds = in_turn(runs, repeats, clock_of(device))
    base = seconds.get(PEER, seconds["exact", "ours"])
    for (name, by), each in seconds.items():
        yield Timing(f"layer, {name}", by, each, base / each, None, None, None, None)


def _train(model: torch.nn.Module, x: Tensor, weigh: Tensor) -> None:
    model.zero_grad()
    x.grad = None
    model(x)[0].backward(weigh)


@torch.no_grad()
def _forward(model: torch.nn.Module, x: Tensor) -> None:
    model(x)
