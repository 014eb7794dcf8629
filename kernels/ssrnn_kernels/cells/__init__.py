"""The recurrent cells: one module each, all with base.Cell's functions."""

from ssrnn_kernels.cells import gru
from ssrnn_kernels.cells.base import Cell

CELLS: dict[str, Cell] = {gru.NAME: gru}


def get_cell(name: str) -> Cell:
    """The cell of this name; ValueError says which there are."""
    if name not in CELLS:
        raise ValueError(f"cell: {name!r}; allowed: {', '.join(CELLS)}")
    return CELLS[name]


__all__ = ["CELLS", "Cell", "get_cell"]
