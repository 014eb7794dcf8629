"""BPTT back through a window of any cell: reference.py defines it, op.py chooses who runs it.

Imports the op; triton.py is imported by the op when it is first needed."""

from ssrnn_kernels.fused_bptt.op import exact_feedback, fused_bptt

__all__ = ["exact_feedback", "fused_bptt"]
