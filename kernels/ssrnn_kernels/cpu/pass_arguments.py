"""What a walk back in time of kernels.c takes: a pass of feedback, or BPTT.

Imports torch. T time, B batch, R rows of the weights, D units, N states a unit, S = N·D, G gates."""

from typing import Any

import torch
from torch import Tensor

from ssrnn_kernels.cpu.build import kernel_arguments
from ssrnn_kernels.window import Window


def pass_arguments(
    window: Window,
    own_weights: Tensor,  # (G, D), or (G, H, K)
    decay_NND: Tensor | None,
    error_TBS: Tensor,
    flow_TBD: Tensor | None,
    rest_before_TBS: Tensor | None,
    delta_TBS: Tensor,
    gates_TBR: Tensor,
    inputs_TBR: Tensor | None,
    rest_TBS: Tensor | None,
    squares_B2: Tensor | None,
    carry_BS: Tensor,
    weights: Tensor | None = None,
) -> Any:
    """The struct Pass of cpu/kernels.c, which says what each is."""
    n_steps, n_batch, d_state = error_TBS.shape
    shape, zeros_S = window.shape, error_TBS.new_zeros(d_state)
    numbers = (n_steps, n_batch, shape.n_heads, shape.head_size, torch.get_num_threads())
    tensors = (
        window.states_TBS, window.saved_TBQD, own_weights,
        error_TBS.new_zeros(shape.n_states, d_state) if decay_NND is None else decay_NND.contiguous(),
        None if window.reset_TB is None else window.reset_TB.contiguous(),
        error_TBS, None if flow_TBD is None else flow_TBD.contiguous(), rest_before_TBS, zeros_S,
        delta_TBS, gates_TBR, inputs_TBR, rest_TBS, carry_BS, squares_B2, weights,
    )  # fmt: skip
    return kernel_arguments(numbers, tensors)
