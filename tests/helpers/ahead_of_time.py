"""Compiles a Triton kernel for a GPU that is not here, and reads what it takes of one."""

import subprocess
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource

CUOBJDUMP = Path(triton.__file__).parent / "backends/nvidia/bin/cuobjdump"


def compile_ahead(
    kernel: Any,
    arch: int,
    types: Mapping[str, str],
    constants: Mapping[str, Any],
    any_number: Collection[str],
    **options: int,
) -> Any:
    """types: of every argument; constants take their place.  any_number: the arguments that 16 need not divide.
    options: the compiler's, num_warps among them."""
    types = {**types, **dict.fromkeys(constants, "constexpr")}
    places = {name: (place,) for place, name in enumerate(kernel.arg_names)}
    multiples = {
        places[name]: [["tt.divisibility", 16]] for name in types if name not in {*any_number, *constants}
    }  # fmt: skip
    source = ASTSource(kernel, types, {places[name]: value for name, value in constants.items()}, multiples)
    return triton.compile(source, target=GPUTarget("cuda", arch, 32), options=options)


def resource_usage(compiled: Any, folder: Path) -> dict[str, int]:
    """REG, STACK, LOCAL and so on, as cuobjdump reads them from the compiled kernel; spills would need a stack."""
    path = folder / "kernel.cubin"
    path.write_bytes(compiled.asm["cubin"])
    command = [str(CUOBJDUMP), "--dump-resource-usage", str(path)]
    text = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    fields = [field.rpartition(":") for field in text[text.index("REG:") :].split()]
    return {name: int(value) for name, _, value in fields}
