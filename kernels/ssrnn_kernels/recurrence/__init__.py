"""The forward recurrence of any cell over a window: reference.py defines it, torch_loop.py is fast on a CPU."""

from ssrnn_kernels.recurrence.reference import recurrence_reference
from ssrnn_kernels.recurrence.torch_loop import Trajectory, recur

__all__ = ["Trajectory", "recur", "recurrence_reference"]
