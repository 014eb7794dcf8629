"""Compiles a Triton kernel for a GPU that is not here, and reads what it takes of one.

Imports triton. Architectures: sm_80, sm_90, sm_100 of NVIDIA; gfx942 of AMD."""

import re
import subprocess
import tempfile
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource

TARGETS = {
    "sm_80": GPUTarget("cuda", 80, 32),
    "sm_90": GPUTarget("cuda", 90, 32),
    "sm_100": GPUTarget("cuda", 100, 32),
    "gfx942": GPUTarget("hip", "gfx942", 64),
}
SHARED_BYTES = {"sm_80": 163 * 1024, "sm_90": 227 * 1024, "sm_100": 227 * 1024, "gfx942": 64 * 1024}  # of a program
CUOBJDUMP = Path(triton.__file__).parent / "backends/nvidia/bin/cuobjdump"


@dataclass(frozen=True)
class Build:
    """A kernel as an op launches it on widths that 16 divides.

    types: of every argument; constants take their place.  any_number: the arguments that 16 need not divide.
    options: the compiler's."""

    op: str
    what: str  # cell or states, and which of the op's variants
    dtype: str
    kernel: Any
    types: Mapping[str, str]
    constants: Mapping[str, Any]
    any_number: Collection[str]
    options: Mapping[str, int]
    head_size: int | None = None  # of a kernel that keeps a head's weights on one multiprocessor
    archs: Collection[str] = tuple(TARGETS)  # for which it is

    @property
    def name(self) -> str:
        return f"{self.op}, {self.what}, {self.dtype}"

    def compiled(self, arch: str) -> Any:
        """Triton's compiled kernel, its assembly in `.asm`."""
        types = {**self.types, **dict.fromkeys(self.constants, "constexpr")}
        places = {name: (place,) for place, name in enumerate(self.kernel.arg_names)}
        aligned = [name for name in types if name not in {*self.any_number, *self.constants}]
        constants = {places[name]: value for name, value in self.constants.items()}
        source = ASTSource(self.kernel, types, constants, {places[name]: [["tt.divisibility", 16]] for name in aligned})
        return triton.compile(source, target=TARGETS[arch], options=dict(self.options))


@dataclass(frozen=True)
class Usage:
    """What a compiled kernel takes of a GPU."""

    registers: int  # a thread
    shared_bytes: int  # a program
    spilled_bytes: int  # a thread, in local memory


def usage_of(compiled: Any) -> Usage:
    """As cuobjdump reads it from the binary, or AMD's assembly says it."""
    shared = int(compiled.metadata.shared)
    if "amdgcn" in compiled.asm:
        registers, spilled = (_amd(compiled.asm["amdgcn"], key) for key in ("vgpr_count", "private_segment_fixed_size"))
        return Usage(registers, shared, spilled)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "kernel.cubin")
        path.write_bytes(compiled.asm["cubin"])
        command = [str(CUOBJDUMP), "--dump-resource-usage", str(path)]
        text = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    fields = (part.rpartition(":") for part in text[text.index("REG:") :].split())
    numbers = {name: int(value) for name, _, value in fields}
    return Usage(numbers["REG"], shared, numbers["STACK"] + numbers["LOCAL"])


def _amd(assembly: str, key: str) -> int:
    found = re.search(rf"\.{key}: *(\d+)", assembly)
    assert found is not None, key
    return int(found[1])
