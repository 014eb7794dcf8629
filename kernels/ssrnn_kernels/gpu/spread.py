"""A head's weights spread over many multiprocessors: which programs own what, and how they meet after each step.

Imports triton. Programs come in groups, one a head and a block of sequences, that wait for one another and no one else;
all are on the GPU at once, which a cooperative launch sees to."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

from ssrnn_kernels.cell import Shape
from ssrnn_kernels.gpu.triton import INTERPRETED

BLOCK_U = 16  # units a program
PARTS = 4  # warps, each with its part of a product's terms
BLOCK_K = 64  # terms of a part in one step of a product
TERMS = PARTS * BLOCK_K  # of all parts
LEAST_SEQUENCES, MOST_SEQUENCES = 16, 32  # a program
SHARED_BYTES_BESIDE = 27 * 1024  # a program's, beside its weights and the values of others that it multiplies
COMPILED = tl.constexpr(not INTERPRETED)
COUNTERS_APART = 32  # groups do not share a line of the cache


@dataclass(frozen=True)
class Chip:
    """What of a GPU decides."""

    n_multiprocessors: int
    shared_bytes: int  # a program may have


@dataclass(frozen=True)
class Spread:
    """How a recurrence lies on a GPU."""

    block_b: int  # sequences a program
    n_blocks: int  # programs a head and block of sequences
    n_heads: int
    n_sequence_blocks: int
    gates_at_once: int  # whose values a program of BPTT holds beside the weights

    @property
    def n_groups(self) -> int:
        return self.n_heads * self.n_sequence_blocks

    @property
    def grid(self) -> tuple[int, int, int]:
        return self.n_blocks, self.n_heads, self.n_sequence_blocks

    def counters(self, device: torch.device) -> Tensor:
        """Of the programs that have arrived, one a group."""
        return torch.zeros(COUNTERS_APART * self.n_groups, dtype=torch.int32, device=device)


def spread_of(values_TB: Tensor, shape: Shape) -> Spread | None:
    """Of an op on such values on an NVIDIA GPU; None where they do not spread: they are not of 16 bits, or too many."""
    if values_TB.dtype.itemsize != 2 or torch.version.hip:
        return None
    device = torch.cuda.get_device_properties(values_TB.device)
    chip = Chip(device.multi_processor_count, device.shared_memory_per_block_optin)
    return spread_over(chip, shape, values_TB.shape[1])


def spread_over(chip: Chip, shape: Shape, n_batch: int) -> Spread | None:
    """The fewest sequences a program that leave a multiprocessor to each; None where there is no way.

    Weights of 16 bits."""
    n_blocks, block_b = triton.cdiv(shape.head_size, BLOCK_U), LEAST_SEQUENCES
    while block_b <= MOST_SEQUENCES:
        n_sequence_blocks = triton.cdiv(n_batch, block_b)
        if n_blocks * shape.n_heads * n_sequence_blocks <= chip.n_multiprocessors:
            at_once = gates_at_once(chip, shape, block_b)
            return Spread(block_b, n_blocks, shape.n_heads, n_sequence_blocks, at_once) if at_once else None
        block_b *= 2
    return None


def gates_at_once(chip: Chip, shape: Shape, block_b: int) -> int:
    """Of how many gates other programs' values find room beside the weights: all, 1 or 0."""
    rows = (chip.shared_bytes - SHARED_BYTES_BESIDE) // (chunks_of(shape.head_size) * TERMS * 2)
    rows -= shape.n_gates * BLOCK_U
    return shape.n_gates if rows >= shape.n_gates * block_b else int(rows >= block_b)


def chunks_of(head_size: int) -> int:
    """Steps of a product over a head's units, all parts at once."""
    return triton.cdiv(head_size, TERMS)


def constants(spread: Spread, shape: Shape) -> dict[str, Any]:
    """The kernels' settings and the launch's."""
    sizes = {"BLOCK_B": spread.block_b, "BLOCK_U": BLOCK_U, "PARTS": PARTS, "BLOCK_K": BLOCK_K}
    launch = {} if INTERPRETED else {"launch_cooperative_grid": True}
    return sizes | {"CHUNKS": chunks_of(shape.head_size), "num_warps": PARTS, "num_stages": 1} | launch


def launches(n_steps: int) -> Iterator[tuple[int, int]]:
    """(first, end) of the steps a launch: all; the interpreter, in which programs run one by one, meets by launches."""
    return iter(zip(range(n_steps), range(1, n_steps + 1), strict=True) if INTERPRETED else [(0, n_steps)])


@triton.jit
def arrive(arrived):
    """All that this program wrote is there for those who see it arrive."""
    tl.debug_barrier()
    tl.atomic_add(arrived, 1, sem="release")


@triton.jit
def wait(arrived, count):
    """Until so many have arrived."""
    while tl.atomic_add(arrived, 0, sem="acquire") < count:
        pass


@triton.jit
def load_tiles(
    pointers, matrix_step, chunk_step, terms, n_terms, there,
    COUNT: tl.constexpr, CHUNKS: tl.constexpr, TERMS: tl.constexpr, FRESH: tl.constexpr,
):  # fmt: skip
    """COUNT matrices, each as CHUNKS tiles of TERMS of a product's terms; zeros beyond them and not `there`.

    FRESH: past the nearest cache, which does not see what others write."""
    loaded, tiles = (), ()
    for index in tl.static_range(COUNT):
        for chunk in tl.static_range(CHUNKS):
            inside = there & (terms + chunk * TERMS < n_terms)
            at = pointers + index * matrix_step + chunk * chunk_step
            loaded = loaded + (tl.load(at, mask=inside, other=0, cache_modifier=".cg" if FRESH else ""),)
    for tile in tl.static_range(COUNT * CHUNKS):
        tiles = tiles + (_as_it_is(loaded[tile]),)
    return tiles


@triton.jit
def _as_it_is(tile):
    """The tile, by a move that the assembler leaves out: what Triton sees to be loaded it puts into shared memory, for
    the product, before it asks for the next tile, and so waits for each."""
    if COMPILED:
        return tl.inline_asm_elementwise("mov.b32 $0, $1;", "=r,r", [tile], dtype=tile.dtype, is_pure=False, pack=2)
    return tile
