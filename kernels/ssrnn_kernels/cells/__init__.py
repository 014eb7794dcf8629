"""The recurrent cells, one file each: the name of the file is the name of the cell (docs/adding-a-cell.md)."""

import functools
import pkgutil
from importlib import import_module

from ssrnn_kernels.cell import Cell
from ssrnn_kernels.check_cell import check_cell

CELLS: dict[str, Cell] = {
    module.name: import_module(f"{__name__}.{module.name}") for module in pkgutil.iter_modules(__path__)
}


@functools.cache
def get_cell(name: str) -> Cell:
    """The cell of this name; ValueError says which there are, or in what its file breaks the contract."""
    if name not in CELLS:
        raise ValueError(f"cell: {name!r}; allowed: {', '.join(CELLS)}")
    check_cell(CELLS[name])
    return CELLS[name]


__all__ = ["CELLS", "Cell", "get_cell"]
