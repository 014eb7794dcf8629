"""Side-by-side measurements: every ratio is of times taken in turn, in one run, after the results were compared."""
