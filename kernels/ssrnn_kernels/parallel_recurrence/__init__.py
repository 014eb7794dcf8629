"""The forward over a window solved for all steps at once, by sweeps of a linear scan: quasi-Newton with diag(J).

solve.py has the sweeps, op.py the op. The sequential forward (fused_recurrence) defines what they must come to."""

from ssrnn_kernels.parallel_recurrence.op import parallel_recurrence
from ssrnn_kernels.parallel_recurrence.solve import Sweeps, solve_forward

__all__ = ["Sweeps", "parallel_recurrence", "solve_forward"]
