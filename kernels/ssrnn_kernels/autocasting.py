"""torch's autocast as the ops have it: their arguments are cast before they run, and nothing while they do.

Imports torch only."""

from collections.abc import Callable
from contextlib import nullcontext
from functools import wraps
from typing import ParamSpec, TypeVar

import torch
from torch import Tensor

P = ParamSpec("P")
R = TypeVar("R")


def autocast(*tensors: Tensor) -> tuple[Tensor, ...]:
    """The tensors in autocast's type where it is on, all but float64, as torch.nn's recurrent layers take theirs."""
    device = tensors[0].device.type
    if not torch.amp.is_autocast_available(device) or not torch.is_autocast_enabled(device):
        return tensors
    dtype = torch.get_autocast_dtype(device)
    return tuple(
        each if each.dtype == torch.float64 or not each.is_floating_point() else each.to(dtype) for each in tensors
    )


def in_the_types_given(run: Callable[P, R]) -> Callable[P, R]:
    """A function of tensors whose products autocast leaves alone: kernels know nothing of it, nor do torch's loops."""

    @wraps(run)
    def without(*args: P.args, **kwargs: P.kwargs) -> R:
        device = next(each.device.type for each in args if isinstance(each, Tensor))
        knows = torch.amp.is_autocast_available(device)  # "meta" does not
        with torch.autocast(device, enabled=False) if knows else nullcontext():
            return run(*args, **kwargs)

    return without
