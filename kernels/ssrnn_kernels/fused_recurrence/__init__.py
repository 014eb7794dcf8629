"""The forward of any cell over a window: reference.py defines it, op.py chooses who runs it.

Imports the op; triton.py is imported by the op when it is first needed."""

from ssrnn_kernels.fused_recurrence.op import Trajectory, fused_recurrence, recur
from ssrnn_kernels.fused_recurrence.reference import recurrence_reference

__all__ = ["Trajectory", "fused_recurrence", "recur", "recurrence_reference"]
