"""The reverse linear scan that carries feedback through time: reference.py defines it, op.py chooses who runs it.

Imports the op; triton.py is imported by the op when it is first needed."""

from ssrnn_kernels.feedback_scan.op import feedback_scan, forward_scan

__all__ = ["feedback_scan", "forward_scan"]
