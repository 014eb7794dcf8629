"""Compiles a cell's C source once and loads it; a machine without a compiler has no such library, and torch goes on.

Imports torch for its OpenMP library, so that torch's threads are ours. The cache is the user's: ~/.cache/ssrnn."""

import ctypes
import functools
import hashlib
import logging
import os
import platform
import shlex
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ssrnn_kernels.cell import Cell, cell_name
from ssrnn_kernels.cpu.source import c_source
from ssrnn_kernels.unit_programs import trace_back

SWITCH = "SSRNN_CPU_KERNELS"
WIDE = ("-mprefer-vector-width=256",) if platform.machine() == "x86_64" else ()
FAST = ("-fno-math-errno", "-fno-trapping-math", "-ffp-contract=fast")
FLAGS = ("-O3", "-march=native", *WIDE, *FAST, "-fopenmp", "-fPIC", "-std=c11")
COMPILE_SECONDS = 120


@dataclass(frozen=True)
class Library:
    """A cell's compiled functions (kernels.c)."""

    forward: Callable[..., None]
    pass_back: Callable[..., None]
    bptt: Callable[..., None]
    lanes: int  # units in a block of weights
    inputs_differ: bool  # has dL/dx other values than dL/du?


def library_for(cell: Cell, values: Tensor) -> Library | None:
    """The kernels of a cell for tensors like this one; None where there are none, and torch must do."""
    if values.device.type != "cpu" or values.dtype != torch.float32 or switched_off():
        return None
    return _library(cell)  # type: ignore[arg-type]  # a module is hashable


def library_of(cell: Cell) -> Library:
    """The kernels of a cell that has them."""
    library = _library(cell)  # type: ignore[arg-type]  # a module is hashable
    assert library is not None
    return library


@functools.cache
def _library(cell: Any) -> Library | None:
    loaded = compiled_library(cell_name(cell), c_source(cell))
    if loaded is None:
        return None
    loaded.lanes.restype = ctypes.c_int64
    loaded.pass_back.argtypes = [ctypes.c_void_p, *(ctypes.c_int64,) * 3]
    for function in (loaded.forward, loaded.bptt):
        function.argtypes = [ctypes.c_void_p]
    for function in (loaded.forward, loaded.pass_back, loaded.bptt):
        function.restype = None
    differ = trace_back(cell).inputs_differ
    return Library(loaded.forward, loaded.pass_back, loaded.bptt, loaded.lanes(), differ)


def switched_off() -> bool:
    """Does the environment leave all to torch?"""
    return os.environ.get(SWITCH) == "0"


def compiled_library(name: str, source: str) -> ctypes.CDLL | None:
    """A C source's library, compiled where it is not yet; None where it cannot be, which is logged."""
    try:
        return ctypes.CDLL(str(_compiled(name, source)))
    except (OSError, subprocess.SubprocessError) as error:
        logging.getLogger(__name__).info("no compiled kernels for %s, torch does their work: %s", name, error)
        return None


def kernel_arguments(numbers: Iterable[int], tensors: Iterable[Tensor | None]) -> ctypes.Array[ctypes.c_int64]:
    """A kernel's struct: its numbers, then the addresses of its tensors (null for None), eight bytes each.

    It keeps the tensors alive for as long as it lives."""
    kept = tuple(tensors)
    words = [*numbers, *(0 if each is None else each.data_ptr() for each in kept)]
    packed = (ctypes.c_int64 * len(words))(*words)
    packed.kept = kept  # type: ignore[attr-defined]
    return packed


def _compiled(name: str, source: str) -> Path:
    """The path of the library, which other processes may be making, too: it appears whole or not at all."""
    compiler = shlex.split(os.environ.get("CC") or shutil.which("cc") or shutil.which("gcc") or "")
    if not compiler:
        raise FileNotFoundError("no C compiler (cc, gcc or $CC)")
    what = "\0".join((source, *compiler, *FLAGS, torch.__version__, _processor()))
    target = _cache() / f"{name}-{hashlib.sha256(what.encode()).hexdigest()[:16]}.so"
    if target.exists():
        return target
    with tempfile.TemporaryDirectory(dir=target.parent) as folder:
        c_file, o_file, so_file = (Path(folder, f"kernels.{suffix}") for suffix in ("c", "o", "so"))
        c_file.write_text(source, encoding="utf-8")
        _run(*compiler, *FLAGS, "-c", str(c_file), "-o", str(o_file))
        _run(*compiler, "-shared", str(o_file), "-o", str(so_file), *_openmp())
        so_file.replace(target)
    return target


def _run(*command: str) -> None:
    done = subprocess.run(command, capture_output=True, text=True, timeout=COMPILE_SECONDS, check=False)
    if done.returncode:
        raise OSError(f"{' '.join(command[:1])} failed: {done.stderr.strip()[-300:]}")


def _openmp() -> list[str]:
    """torch's own OpenMP library where it brings one: two of them would fight for the cores."""
    bundled = sorted(Path(torch.__file__).parent.joinpath("lib").glob("libgomp*.so*"))
    return [str(bundled[0])] if bundled else ["-fopenmp"]


def _cache() -> Path:
    """A folder that only this user writes to; a fresh one where there is no home to keep it in."""
    home = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "ssrnn"
    try:
        home.mkdir(parents=True, exist_ok=True, mode=0o700)
        if os.access(home, os.W_OK):
            return home
    except OSError:
        pass
    return Path(tempfile.mkdtemp(prefix="ssrnn-"))


def _processor() -> str:
    """What -march=native depends on: a home may be shared by different machines."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    return "\n".join(sorted({line for line in lines if line.startswith(("model name", "flags", "Features"))}))
