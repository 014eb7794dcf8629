"""Where documents start in a window, as the loops over time ask for it.

Imports torch only."""

from torch import Tensor


def steps_with_a_reset(reset_TB: Tensor | None, n_steps: int) -> list[bool]:
    """Per step: does any sequence restart there?  One transfer for the window instead of one a step."""
    return [False] * n_steps if reset_TB is None else reset_TB.any(dim=1).tolist()
