"""Kernels for float32 on a CPU, written in C from a cell's own functions and compiled when they are first used.

Optional: without a C compiler, or with SSRNN_CPU_KERNELS=0, torch does the same, slower."""

from ssrnn_kernels.cpu.build import library_for

__all__ = ["library_for"]
