"""The recurrences and their feedback: one folder an op. Imports torch; triton only when a kernel is asked for.

Eager on purpose: an op and its folder share their name, and the op must be the one bound here, whatever was imported
first. Of a folder, import names (`from ssrnn_kernels.feedback_scan.reference import …`)."""

from ssrnn_kernels.feedback_scan import feedback_scan
from ssrnn_kernels.fused_bptt import fused_bptt
from ssrnn_kernels.fused_feedback import fused_feedback
from ssrnn_kernels.fused_recurrence import fused_recurrence
from ssrnn_kernels.parallel_recurrence import parallel_recurrence

__all__ = ["feedback_scan", "fused_bptt", "fused_feedback", "fused_recurrence", "parallel_recurrence"]
