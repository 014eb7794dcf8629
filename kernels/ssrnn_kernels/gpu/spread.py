"""A head's weights spread over many multiprocessors: which programs own what, and how they meet after each step.

Imports triton. Programs come in groups, one a head and a block of sequences, that wait for one another and no one else;
all are on the GPU at once, which a cooperative launch sees to."""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

from ssrnn_kernels.backends import fits_one_multiprocessor, shared_bytes
from ssrnn_kernels.cell import Shape
from ssrnn_kernels.gpu.triton import INTERPRETED

TERMS = 256  # of a product in one step of it, over all warps of a program
SHARED_BYTES_BESIDE = 27 * 1024  # a program's, beside its weights and the values of others that it multiplies
MOST_REGISTERS_OF_VALUES = 144  # a thread's, of those values
COUNTERS_APART = 32  # groups do not share a line of the cache
COMPILED = tl.constexpr(not INTERPRETED)


@dataclass(frozen=True)
class Tile:
    """What a program owns, and by how many warps: each multiplies its part of a product's terms."""

    units: int
    sequences: int
    warps: int


FORWARD = (Tile(8, 16, 2), Tile(16, 16, 4), Tile(8, 32, 4), Tile(16, 32, 8))  # the first that fits, in both
BACKWARD = (Tile(16, 16, 4), Tile(16, 16, 8), Tile(16, 32, 8))


@dataclass(frozen=True)
class Chip:
    """What of a GPU decides."""

    n_multiprocessors: int
    shared_bytes: int  # a program may have


@dataclass(frozen=True)
class Spread:
    """How a recurrence lies on a GPU."""

    tile: Tile
    n_blocks: int  # programs a head and block of sequences
    n_heads: int
    n_sequence_blocks: int
    gates_at_once: int  # whose values of other programs a program of BPTT holds beside the weights

    @property
    def grid(self) -> tuple[int, int, int]:
        return self.n_blocks, self.n_heads, self.n_sequence_blocks

    def counters(self, device: torch.device) -> Tensor:
        """Of the programs that have arrived, one a group."""
        return torch.zeros(COUNTERS_APART * self.n_heads * self.n_sequence_blocks, dtype=torch.int32, device=device)

    def constants(self, shape: Shape) -> dict[str, Any]:
        """The kernels' settings and the launch's."""
        tile = self.tile
        sizes = {"BLOCK_B": tile.sequences, "BLOCK_U": tile.units, "PARTS": tile.warps, "BLOCK_K": TERMS // tile.warps}
        launch = {} if INTERPRETED else {"launch_cooperative_grid": True}
        sizes |= {"CHUNKS": chunks_of(shape.head_size), "APART": COUNTERS_APART}
        return sizes | {"num_warps": tile.warps, "num_stages": 1} | launch


def spread_of(values_TB: Tensor, shape: Shape, tiles: tuple[Tile, ...]) -> Spread | None:
    """Of an op on such values on an NVIDIA GPU; None where they do not spread: they are not of 16 bits, or too many."""
    if values_TB.dtype.itemsize != 2 or torch.version.hip:
        return None
    n_multiprocessors = torch.cuda.get_device_properties(values_TB.device).multi_processor_count
    return spread_over(Chip(n_multiprocessors, shared_bytes(values_TB.device)), shape, values_TB.shape[1], tiles)


def spread_if_needed(values_TB: Tensor, shape: Shape, tiles: tuple[Tile, ...]) -> Spread | None:
    """None where a head fits on one multiprocessor, as all do in the interpreter; what does neither does not come."""
    if INTERPRETED or fits_one_multiprocessor(values_TB, shape.head_size):
        return None
    return spread_of(values_TB, shape, tiles)


@cache
def spread_over(chip: Chip, shape: Shape, n_batch: int, tiles: tuple[Tile, ...]) -> Spread | None:
    """By the first tile that leaves a multiprocessor to each program, and room there; None where none does.

    Weights of 16 bits."""
    for tile in tiles:
        n_blocks, n_sequence_blocks = triton.cdiv(shape.head_size, tile.units), triton.cdiv(n_batch, tile.sequences)
        at_once = gates_at_once(chip, shape, tile, backward=tiles is BACKWARD)
        if at_once and n_blocks * shape.n_heads * n_sequence_blocks <= chip.n_multiprocessors:
            return Spread(tile, n_blocks, shape.n_heads, n_sequence_blocks, at_once)
    return None


def gates_at_once(chip: Chip, shape: Shape, tile: Tile, *, backward: bool) -> int:
    """Of how many gates other programs' values find room, in shared memory beside the weights and in registers; or 0.

    The forward multiplies a head's state, which is as much as one gate."""
    row = chunks_of(shape.head_size) * TERMS  # values of a gate and sequence, or of a unit's weights in it
    room = (chip.shared_bytes - SHARED_BYTES_BESIDE) // 2 - shape.n_gates * tile.units * row
    most = min(room, 2 * MOST_REGISTERS_OF_VALUES * 32 * tile.warps) // (tile.sequences * row)
    if not backward:
        return max(0, min(most, 1))
    all_or_half = shape.n_gates, *([shape.n_gates // 2] if shape.n_gates % 2 == 0 else []), *([1] * (tile.warps > 4))
    return next((count for count in all_or_half if count <= most), 0)


def chunks_of(head_size: int) -> int:
    """Steps of a product over a head's units."""
    return triton.cdiv(head_size, TERMS)


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
