"""Feedback through a window of any cell, in passes back in time: local derivatives, scan and gates' gradients in one.

reference.py defines a pass, op.py chooses who makes them. Imports the op; triton.py is imported when first needed."""

from ssrnn_kernels.fused_feedback.op import Refined, fused_feedback, refine
from ssrnn_kernels.fused_feedback.reference import Pass

__all__ = ["Pass", "Refined", "fused_feedback", "refine"]
