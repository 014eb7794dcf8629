"""The feedback scan as a plain loop over time: the definition that every other backend is checked against.

Imports torch. B batch, T time, D state, S coupled states a unit."""

from torch import Tensor

from ssrnn_kernels.feedback_scan.shapes import ScanInputs, accumulation_dtype


def scan_reference_into(inputs: ScanInputs, delta_BTSD: Tensor) -> None:
    """Fill δ: δ_t[j] = e_t[j] + Σ_i decay_{t+1}[i, j] δ_{t+1}[i], in the accumulation type.

    The sum is cut where step t+1 starts a document; delta_next stands in its place at the last step.
    Source: Caillon et al., arXiv 2503.23104 (a constant decay); docs/method.md for the others."""
    dtype = accumulation_dtype(inputs.error_BTSD)
    error, decay = inputs.error_BTSD.to(dtype), inputs.decay.to(dtype)
    flow_BSD = None if inputs.delta_next_BSD is None else inputs.delta_next_BSD.to(dtype)
    for t in reversed(range(error.shape[1])):
        delta_BSD = error[:, t] if flow_BSD is None else error[:, t] + flow_BSD
        delta_BTSD[:, t] = delta_BSD
        factor = decay[:, t] if inputs.varies else decay
        flow_BSD = (factor * delta_BSD.unsqueeze(-2)).sum(dim=-3)
        if inputs.reset_BT is not None:
            flow_BSD = flow_BSD.masked_fill(inputs.reset_BT[:, t, None, None], 0)
