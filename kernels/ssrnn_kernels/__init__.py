"""The recurrences and their feedback: one folder an op. Imports torch; triton only when a kernel is asked for.

Eager on purpose: the op and its folder share the name `feedback_scan`, and the op must be the one bound here,
whatever was imported first. Of the folder, import names (`from ssrnn_kernels.feedback_scan.reference import …`)."""

from ssrnn_kernels.feedback_scan import feedback_scan

__all__ = ["feedback_scan"]
