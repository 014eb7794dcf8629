"""Parameters in the places of modules' own, of the same memory, while something is recorded of them.

Imports torch. Autograd ties a parameter to where its gradient was first asked for: on a GPU to a stream, which a graph
that is captured elsewhere may not wait for. A stand-in is tied to what is recorded of it, and to nothing else."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Protocol

import torch
from torch.nn import Module, Parameter


class HasModules(Protocol):
    """What keeps parameters as torch.nn.Module does."""

    def modules(self) -> Iterator[Module]: ...

    def parameters(self) -> Iterator[Parameter]: ...


@contextmanager
def standing_in(owners: Sequence[HasModules]) -> Iterator[None]:
    """Within it the owners have stand-ins for their parameters, one for each; gradients are asked for of those."""
    parts = dict.fromkeys(module for owner in owners for module in owner.modules())
    own = [(part, name, each) for part in parts for name, each in part._parameters.items() if each is not None]
    stand_ins = {each: Parameter(each.detach(), each.requires_grad) for *_, each in own}
    try:
        for part, name, each in own:
            part._parameters[name] = stand_ins[each]
        yield
    finally:
        for part, name, each in own:
            part._parameters[name] = each
        torch.clear_autocast_cache()  # which would keep what it made of the stand-ins for as long as autocast is on


def trained(owner: HasModules) -> list[Parameter]:
    return [parameter for parameter in owner.parameters() if parameter.requires_grad]
