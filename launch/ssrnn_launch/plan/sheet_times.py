"""How long a step computes by a GPU's data sheet: a roofline, and a floor for what goes step by step. Pure.

Imports the kernels' costs. Rough: nothing of it was measured on the run's own model."""

from ssrnn_dist.config import FeedbackConfig, RunConfig
from ssrnn_kernels.cells import get_cell
from ssrnn_kernels.costs import Sizes, bptt_cost, feedback_cost, recurrence_cost
from ssrnn_launch.plan.devices import Gpu
from ssrnn_launch.plan.workload import Workload

# Of a data sheet's peaks, what products and a copy reached on an H200 (kernels/README.md, 2026-11-26): 780 of 989
# TFLOP/s, 3,989 of 4,800 GB/s.
OF_PEAK_PRODUCTS, OF_PEAK_MEMORY = 0.79, 0.83
# A step of time of a GRU there, bf16: a head on one multiprocessor, and a dense layer of 768 spread over many.
STEP_SECONDS_OF_A_HEAD, STEP_SECONDS_SPREAD, BPTT_STEP_SECONDS_SPREAD = 1.2e-6, 2.9e-6, 3.8e-6
UNITS_OF_A_HEAD = 128
AUTO_SWEEPS = 1  # of `refinements: auto`, which chooses as it goes; its own first choice
OPTIMIZER_BYTES = 40  # a parameter: gradient, master weight and moments read and written, and the norm


def micro_batch_seconds(work: Workload, config: RunConfig, gpu: Gpu, lanes: int) -> float:
    """Forward and backward of a micro-batch."""
    flops, memory = _rates(work, gpu)
    tokens = lanes * work.train.sequence_length
    products = 6.0 * (work.product_parameters - work.recurrent_parameters) * tokens / flops
    kept = work.n_layers * (work.layer.kept_activations + work.layer.kept_state)
    moved = 3.0 * kept * work.number_bytes * tokens / memory  # written, read, and its gradient
    return products + moved + work.n_layers * _recurrence_seconds(work, config, gpu, lanes)


def update_seconds(work: Workload, gpu: Gpu) -> float:
    """The optimizer's, of all parameters by one worker."""
    return OPTIMIZER_BYTES * work.parameters / _rates(work, gpu)[1]


def _rates(work: Workload, gpu: Gpu) -> tuple[float, float]:
    """Operations and bytes a second."""
    peak = gpu.bf16_tflops if work.number_bytes == 2 else gpu.fp32_tflops
    return OF_PEAK_PRODUCTS * peak * 1e12, OF_PEAK_MEMORY * gpu.memory_gb_per_second * 1e9


def _recurrence_seconds(work: Workload, config: RunConfig, gpu: Gpu, lanes: int) -> float:
    """A layer's, forward and backward: the forward, BPTT, step by step; a rule's feedback all steps at once."""
    flops, memory = _rates(work, gpu)
    layer, cell = work.layer, get_cell(config.model.cell)
    sizes = Sizes(lanes, work.train.sequence_length, layer.d_model, layer.units_a_head, work.number_bytes)
    weights_read = layer.gates * layer.units_a_head * work.number_bytes / memory
    of_a_head = layer.units_a_head <= UNITS_OF_A_HEAD

    def in_steps(product_flops: int, n_bytes: int, floor: float) -> float:
        step = STEP_SECONDS_OF_A_HEAD if of_a_head else max(floor, weights_read)
        return max(sizes.n_steps * step, product_flops / flops, n_bytes / memory)

    forward = recurrence_cost(cell, sizes)
    found = in_steps(forward.product_flops, forward.bytes, STEP_SECONDS_SPREAD) + forward.product_flops / flops
    if config.feedback.kind == "exact":
        back = bptt_cost(cell, sizes)
        return found + in_steps(back.product_flops, back.bytes, BPTT_STEP_SECONDS_SPREAD)
    back = feedback_cost(cell, sizes, sweeps_of(config.feedback), selective=config.feedback.kind == "selective")
    return found + back.bytes / memory + back.product_flops / flops


def sweeps_of(feedback: FeedbackConfig) -> int:
    return AUTO_SWEEPS if feedback.refinements == "auto" else feedback.refinements
