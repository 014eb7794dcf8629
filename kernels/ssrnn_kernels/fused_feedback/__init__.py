"""Feedback through a window of any cell, in passes back in time: local derivatives, scan and gates' gradients in one.

window.py has the window's mathematics; torch_pass.py defines a pass, compiled_pass.py is fast on a CPU;
exact.py is BPTT."""

from ssrnn_kernels.fused_feedback.choose import feedback_pass_for
from ssrnn_kernels.fused_feedback.exact import exact_feedback
from ssrnn_kernels.fused_feedback.torch_pass import Pass
from ssrnn_kernels.fused_feedback.window import Solved, Window

__all__ = ["Pass", "Solved", "Window", "exact_feedback", "feedback_pass_for"]
