"""A cell's functions of one unit as Triton device functions, written from the cell's own, for the ops' kernels."""
