"""The forward recurrence of any cell over a window: reference.py defines it, loop.py is fast on a CPU."""

from ssrnn_kernels.recurrence.loop import Trajectory, recur
from ssrnn_kernels.recurrence.reference import recurrence_reference

__all__ = ["Trajectory", "recur", "recurrence_reference"]
